//! Taking over ranges from a peer, and giving them.
//!
//! The taker sends its digests (`PullBegin`); the giver answers with its vector and what differs (`Differs`), and from
//! then on sends what is new to it besides. The taker asks for piece after piece (`Pull`, `Chunk`), a few ahead, and
//! adopts the giver's vector with the last. One pull at a time; a quiet link is compared in the same way, and mostly
//! nothing differs.
//!
//! Between the digests and the answer others may send the taker what the giver has long had, and has lost again: ranges
//! that were equal differ then. So the taker asks for whatever has changed meanwhile as well.
//!
//! Of a range that is equal only keys that carry something collectable are given: digests do not tell of those. That is
//! enough as long as the range stays as it was; the giver remembers its digest, and gives it whole once it has changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Event, Fault, Link, LinkId, Mesh};
use crate::clock::{NodeId, Origin};
use crate::faults::Faults;
use crate::link::frame::{self, Cursor, Frame};
use crate::link::vector::Vector;

/// Pieces of ranges asked for ahead.
const PULL_WINDOW: usize = 8;

/// Which ranges are to be pulled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Want {
    /// All that differ.
    All,
    /// These, which differ though nothing is under way.
    Repair(Vec<u16>),
}

/// What a pull is about to do.
#[derive(Clone, Debug)]
pub struct Pull {
    /// From whom.
    pub link: LinkId,
    giver: NodeId,
    /// What the giver had before it read the first range; `None` until it answered.
    pub vector: Option<Vector>,
    /// That, and what has been merged behind it since: adopted at the end.
    pub(super) shadow: Vector,
    /// Links whose batches were taken though this node's own vector does not tell: they were in the shadow or went only
    /// there. Should the pull come to nothing, their peers must send them again.
    owed: BTreeMap<LinkId, NodeId>,
    todo: VecDeque<(u16, Cursor, bool)>,
    /// Ranges that others' batches have changed before the giver answered.
    changed: BTreeSet<u16>,
    asked: usize,
    /// Ranges to be pulled.
    pub total: usize,
    /// Ranges pulled.
    pub done: usize,
    /// When it began.
    pub started_at_ms: u64,
    /// Bytes received.
    pub bytes: u64,
    shown_percent: usize,
    /// Repairs ranges that differ though neither side lacks anything.
    is_repair: bool,
    /// Keys that it has changed here.
    changed_keys: u64,
}

/// What a piece of a range has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Brought {
    /// Its size.
    pub bytes: usize,
    /// Keys that it has changed here.
    pub changed_keys: usize,
}

/// How much a pull has brought so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Ranges that are here.
    pub done: usize,
    /// Ranges to be pulled.
    pub total: usize,
    /// Bytes received.
    pub bytes: u64,
    /// When it began.
    pub started_at_ms: u64,
}

impl Pull {
    fn moved(&self) -> Moved {
        Moved { done: self.done, total: self.total, bytes: self.bytes, started_at_ms: self.started_at_ms }
    }
}

impl Mesh {
    /// Whether this node is taking over ranges that differ, and may answer with old data.
    pub fn is_syncing(&self) -> bool {
        self.pull.as_ref().is_some_and(|pull| pull.total > 0 && !pull.is_repair)
    }

    /// Whether ranges are under way on a link, in either direction.
    pub fn moves_ranges(&self, id: LinkId) -> bool {
        let gives = self.links.get(&id).is_some_and(|link| !link.requests.is_empty());
        gives || self.pull.as_ref().is_some_and(|pull| pull.link == id)
    }

    /// Has every peer's ranges compared with those here, one peer after the other. Returns how many.
    pub fn ask_to_pull_from_all(&mut self) -> usize {
        let ready = self.links.values_mut().filter(|link| link.peer.is_some() && link.fault.is_none());
        ready.map(|link| link.wants_pull = Some(Want::All)).count()
    }

    /// The link to pull from next, by [`Self::begin_pull`], and what.
    pub fn pull_due(&mut self) -> Option<(LinkId, Want)> {
        if self.pull.is_some() {
            return None;
        }
        let ready = |link: &Link| link.peer.is_some() && link.fault.is_none() && !link.held;
        let mut links = self.links.iter_mut().filter(|(_, link)| ready(link));
        links.find_map(|(id, link)| Some((*id, link.wants_pull.take()?)))
    }

    /// A peer says this node must pull. Returns whether it should begin now, by [`Self::begin_pull`].
    pub fn told_of_gap(&mut self, id: LinkId) -> bool {
        match &self.pull {
            None => true,
            Some(pull) if pull.link == id => {
                self.abandon_pull();
                true
            }
            Some(_) => false,
        }
    }

    /// Ends a pull before its end. What it has brought stays; the vector does not know of it.
    pub(super) fn abandon_pull(&mut self) {
        let Some(pull) = self.pull.take() else { return };
        if pull.vector.is_some() {
            // Batches that came behind the answer are here, whatever of the ranges is.
            self.torn.insert(pull.giver, self.ticked_at_ms);
        }
        for (id, node) in pull.owed {
            // The link may have ended before the pull.
            if let Some(link) = self.links.get_mut(&id) {
                link.fault.get_or_insert(Fault::PullLost);
            }
            self.torn.insert(node, self.ticked_at_ms);
        }
    }

    /// Nodes a pull from which has broken off, or has brought what the vector does not tell yet.
    pub fn torn(&self) -> Vec<NodeId> {
        self.torn.keys().copied().collect()
    }

    /// A node that was read back from disk may hold what its vector does not tell, because a pull had broken off.
    pub fn tear(&mut self, giver: NodeId, now_ms: u64) {
        self.torn.insert(giver, now_ms);
    }

    /// What this vector tells was here before a restart, and is here again.
    pub fn adopt(&mut self, vector: &Vector) {
        self.vector.join(vector);
        let others = vector.iter().filter(|(origin, _)| origin.node() != self.own.origin.node());
        if let Some(newest) = others.map(|(_, progress)| progress.watermark).max() {
            self.took(newest);
        }
    }

    /// Notes that a segment was taken which this node's vector may not tell of.
    pub fn taken(&mut self, id: LinkId, origin: Origin, last: u64) {
        if origin != self.own.origin
            && self.vector.of(origin).sequence < last
            && let Some(pull) = &mut self.pull
            && let Some(node) = self.links.get(&id).and_then(Link::node)
        {
            pull.owed.insert(id, node);
        }
    }

    /// A batch of a peer is about to change these ranges.
    pub fn changes(&mut self, ranges: impl Iterator<Item = u16>) {
        if let Some(pull) = self.pull.as_mut().filter(|pull| pull.vector.is_none()) {
            pull.changed.extend(ranges);
        }
    }

    /// Begins to pull from a peer, telling it the digests of what is here.
    pub fn begin_pull(&mut self, id: LinkId, want: Want, digests: Vec<(u16, u64)>, now_ms: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(giver) = link.node() else { return };
        let (is_repair, only) = match want {
            Want::All => (false, None),
            Want::Repair(ranges) => (true, Some(ranges)),
        };
        link.say(Frame::PullBegin { digests, only });
        link.answers_due += 1;
        self.pull = Some(Pull {
            link: id,
            giver,
            vector: None,
            shadow: Vector::default(),
            owed: BTreeMap::new(),
            todo: VecDeque::new(),
            changed: BTreeSet::new(),
            asked: 0,
            total: 0,
            done: 0,
            started_at_ms: now_ms,
            bytes: 0,
            shown_percent: 0,
            is_repair,
            changed_keys: 0,
        });
    }

    /// A peer begins to pull from this node: it is told what differs, and gets what is new from here on.
    pub fn give(
        &mut self,
        id: LinkId,
        ranges: Vec<u16>,
        graves: BTreeMap<u16, u64>,
        globals: frame::Globals,
    ) {
        let vector = self.vector.clone();
        let Some(link) = self.links.get_mut(&id) else { return };
        self.pulls_given += u64::from(!ranges.is_empty());
        link.requests.clear();
        link.giving = true;
        link.given = (0, ranges.len() + graves.len());
        let named = graves.keys().copied().collect();
        link.equal = graves;
        link.say(Frame::Differs { vector, ranges, graves: named, globals });
    }

    /// All that this node has goes to a peer as ranges: none of it need be sent as batches besides. Not so where the peer asks
    /// for a few ranges only.
    pub fn pass_over(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.passed_over.clone_from(&self.vector);
    }

    /// The giver's answer. Returns whether it belongs to the pull under way.
    pub fn differs(&mut self, id: LinkId, vector: Vector, ranges: &[u16], graves: &[u16]) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        link.answers_due = link.answers_due.saturating_sub(1);
        let is_last = link.answers_due == 0;
        let awaits = |pull: &&mut Pull| pull.link == id && pull.vector.is_none() && is_last;
        let Some(pull) = self.pull.as_mut().filter(awaits) else { return false };
        // Few ranges say nothing of the rest of what the giver has.
        if !pull.is_repair {
            pull.shadow = vector.clone();
            // Nobody knows more of this node's own batches than it does.
            pull.shadow.set(self.own.origin, self.vector.of(self.own.origin));
        }
        pull.vector = Some(vector);
        pull.changed.extend(ranges);
        pull.todo = pull.changed.iter().map(|range| (*range, Cursor::default(), false)).collect();
        let graves = graves.iter().filter(|range| !pull.changed.contains(range));
        pull.todo.extend(graves.map(|range| (*range, Cursor::default(), true)));
        pull.total = pull.todo.len();
        let node = self.links.get(&id).and_then(Link::node);
        let told = node.filter(|_| !ranges.is_empty() && !pull.is_repair);
        self.events.extend(told.map(|node| Event::PullStarted(node, ranges.len())));
        self.ask_for_more();
        true
    }

    /// What the giver of the pull under way on this link had before it read the first range.
    pub fn given(&self, id: LinkId) -> Option<Vector> {
        let pull = self.pull.as_ref().filter(|pull| pull.link == id && pull.vector.is_some())?;
        if self.faults.contains(Faults::LATE_VECTOR) {
            return Some(pull.shadow.clone());
        }
        pull.vector.clone()
    }

    /// A piece of a range was merged. Adopts the giver's vector with the last one.
    pub fn pulled(&mut self, id: LinkId, range: u16, to: Option<Cursor>, graves: bool, brought: Brought) {
        let Some(pull) = self.pull.as_mut().filter(|pull| pull.link == id) else { return };
        pull.asked = pull.asked.saturating_sub(1);
        pull.bytes += brought.bytes as u64;
        pull.changed_keys += brought.changed_keys as u64;
        if self.faults.contains(Faults::EARLY_VECTOR) {
            self.vector.join(&pull.shadow);
        }
        match to {
            Some(cursor) => pull.todo.push_front((range, cursor, graves)),
            None => pull.done += 1,
        }
        let percent = pull.done * 100 / pull.total.max(1);
        if percent >= pull.shown_percent + 10 && !pull.is_repair {
            pull.shown_percent = percent;
            if let Some(node) = self.links.get(&id).and_then(Link::node) {
                self.events.push(Event::PullProgress(node, pull.moved()));
            }
        }
        self.ask_for_more();
    }

    fn ask_for_more(&mut self) {
        let Some(pull) = &mut self.pull else { return };
        let Some(link) = self.links.get_mut(&pull.link) else { return };
        while pull.asked < PULL_WINDOW
            && let Some((range, from, graves)) = pull.todo.pop_front()
        {
            pull.asked += 1;
            link.say(Frame::Pull { range, from, graves });
        }
        if pull.asked == 0 {
            let node = link.node();
            // The peer may now be told at once what is here.
            link.heartbeat_at_ms = 0;
            if let Some(pull) = self.pull.take() {
                self.vector.join(&pull.shadow);
                if pull.total > 0 {
                    // A range was read when the giver had more than its answer told: that is here ahead of the batches.
                    link.has_given = true;
                    self.torn.insert(pull.giver, self.ticked_at_ms);
                }
                if pull.is_repair {
                    self.repaired(node, pull.changed_keys);
                } else {
                    let told = node.filter(|_| pull.bytes > 0);
                    self.events.extend(told.map(|node| Event::PullDone(node, pull.moved())));
                }
            }
        }
    }

    /// A peer asks for a piece of a range.
    pub fn requested(&mut self, id: LinkId, range: u16, from: Cursor, graves: bool) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&id) else { return Err(Fault::Closed) };
        if !link.giving || link.requests.len() >= 2 * PULL_WINDOW {
            // Left over from a pull that was begun anew, or a peer that does not keep to the window.
            return if link.giving { Err(Fault::Unexpected("too many Pulls")) } else { Ok(()) };
        }
        link.given.0 += usize::from(from == Cursor::default());
        link.requests.push_back((range, from, graves));
        Ok(())
    }

    /// The next piece a peer waits for; of a range where only what is collectable is asked for, with the digest that the
    /// range had on both nodes.
    pub fn next_request(&mut self, id: LinkId) -> Option<(u16, Cursor, Option<u64>)> {
        let link = self.links.get_mut(&id)?;
        let (range, from, graves) = link.requests.pop_front()?;
        Some((range, from, link.equal.get(&range).copied().filter(|_| graves)))
    }
}
