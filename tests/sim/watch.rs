//! What must hold at every moment of a storm, however bad it is.
//!
//! | claim | how it is seen |
//! |---|---|
//! | FIFO | what a node has of an origin never steps back in a life, nor gets ahead of the origin |
//! | a promise is kept | no batch is stamped at or below a watermark that its origin, or anyone, stated before it had it |
//! | stamps rise | of a node over all its lives |
//! | no phantom | each register a node holds was written by somebody |
//! | no resurrection | none is visible below a removal that the node has merged |
//! | apart is apart | a promoted node that nobody names has no link |
//! | dropped is gone | nothing is held that a master alone wrote before it began anew as a replica |
//! | nobody clears unasked | an expiry clears as of its instant, never as of now |
//! | whole batches | two keys that are only written together are seen together |
//! | messages | come once, and in the order of their origin |
//! | bounds | of the backlog's bytes and of the queue of tombstones |
//!
//! Registers are looked at in turn, a few per step. What cannot be judged: once stamps were given back, what was captured is
//! not what stands; after an absence beyond `peer-max-absence` removals may be forgotten, as are those that were collected
//! before a node was known to be there. One that joined is not known again to a node whose disk was wiped since: it is in
//! nobody's configuration. Once no disk knows such a node any more, or a replica's primary does not know it, whatever they
//! hold may come back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meldis::clock::{NTP64, NodeId, Origin, Stamp};
use meldis::engine::Engine;
use meldis::link::batch::{Batch, Record};
use meldis::link::vector::{Progress, Vector};
use meldis::store::delta::Change;
use meldis::store::entry::Value;

use crate::conflicts::Insight;
use crate::effects::History;
use crate::ledger::{Ledger, Place};
use crate::world::World;

/// Keys looked at on each node in each step.
const SAMPLE: usize = 3;

/// Whose life begins.
#[derive(Clone, Copy)]
pub enum Life {
    /// A node's that is there from the beginning.
    First,
    /// A node's that is known: it has lost its data, but not its identity.
    Next,
    /// Likewise, but what it had on disk is there, or may be read back.
    Kept,
    /// A new node's, at an address that the others have configured or not.
    New { is_configured: bool },
}

/// What was last seen of a node.
#[derive(Default)]
struct Seen {
    vector: Vector,
    /// A pull is under way.
    pulls: bool,
    /// How many began.
    pull_count: usize,
    /// How far what pulls have brought may reach beyond the vector, and not be whole.
    torn: BTreeMap<Origin, u64>,
    /// The newest message of each origin.
    messages: HashMap<Vec<u8>, u64>,
}

/// See the module's head.
pub struct Watch {
    pub ledger: Ledger,
    pub insight: Insight,
    nodes: Vec<Seen>,
    ids: BTreeSet<NodeId>,
    promises: BTreeMap<Origin, NTP64>,
    newest: BTreeMap<NodeId, NTP64>,
    /// What a node wrote in a life up to this time, others may have no tombstones left for: they did not know of it.
    introduced: BTreeMap<Origin, NTP64>,
    /// Nodes that no configuration names.
    joined: BTreeSet<NodeId>,
    /// The latest stable time of any node: tombstones up to it may be gone.
    settled: NTP64,
    next: usize,
    /// How often stamps were given back.
    restated: usize,
    breach: Option<String>,
}

impl Watch {
    pub fn new(nodes: usize) -> Watch {
        Watch {
            ledger: Ledger::default(),
            insight: Insight::default(),
            nodes: (0..nodes).map(|_| Seen::default()).collect(),
            ids: BTreeSet::new(),
            promises: BTreeMap::new(),
            newest: BTreeMap::new(),
            introduced: BTreeMap::new(),
            joined: BTreeSet::new(),
            settled: NTP64(0),
            next: 0,
            restated: 0,
            breach: None,
        }
    }

    /// Something does not hold. Only the first breach is told.
    pub fn breach(&mut self, text: String) {
        self.breach.get_or_insert(text);
    }

    /// What does not hold, if something did not.
    pub fn take_breach(&mut self) -> Option<String> {
        self.breach.take()
    }

    /// A node begins a life.
    pub fn began(&mut self, node: usize, origin: Origin, life: Life) {
        self.ids.insert(origin.node());
        let known = match life {
            // Those there from the beginning await each other.
            Life::First => NTP64(0),
            Life::Next | Life::Kept => self.introduced_until(origin.node()),
            Life::New { is_configured } => {
                // This one knows of no other that joined.
                let joined =
                    self.introduced.iter_mut().filter(|(other, _)| self.joined.contains(&other.node()));
                joined.for_each(|(_, until)| *until = NTP64(u64::MAX));
                if !is_configured {
                    self.joined.insert(origin.node());
                }
                NTP64(u64::MAX)
            }
        };
        self.introduced.insert(origin, known);
        let before = std::mem::take(&mut self.nodes[node]);
        if matches!(life, Life::Kept) {
            // What pulls have brought is there again.
            self.nodes[node].torn = before.torn;
        }
    }

    /// A node that nobody waits for may hold any write.
    pub fn has_lost_someone(&mut self) {
        self.introduced.values_mut().for_each(|until| *until = NTP64(u64::MAX));
    }

    /// Up to when tombstones may not have waited for what a node writes.
    fn introduced_until(&self, node: NodeId) -> NTP64 {
        let lives = self.introduced.iter().filter(|(origin, _)| origin.node() == node);
        lives.map(|(_, until)| *until).max().unwrap_or(NTP64(0))
    }

    /// A node has given stamps back.
    pub fn restated(&mut self, origin: Origin) {
        self.restated += 1;
        self.promises.remove(&origin);
        self.newest.remove(&origin.node());
    }

    /// An origin has put a batch into sequence.
    pub fn wrote(&mut self, origin: Origin, number: u64, batch: Batch<'_>, run_bytes: usize) {
        self.ledger.run_bytes_max = self.ledger.run_bytes_max.max(run_bytes);
        let promise = self.promises.get(&origin).copied().unwrap_or(NTP64(0));
        if batch.time <= promise {
            self.breach(format!("{origin} promised {}, then came {number} at {}", promise.0, batch.time.0));
        }
        let newest = self.newest.insert(origin.node(), batch.time);
        if let Some(newest) = newest.filter(|newest| *newest >= batch.time) {
            self.breach(format!("{origin} stamped {}, then {number} with {}", newest.0, batch.time.0));
        }
        if let Some(key) = cleared_unasked(origin, batch) {
            self.breach(format!("{origin} {number} clears {}", String::from_utf8_lossy(&key)));
        }
        self.ledger.enter(origin, number, batch);
    }

    /// How far an origin says it is.
    pub fn promised(&mut self, origin: Origin, progress: Progress) {
        self.promises.insert(origin, progress.watermark);
        self.ledger.sequenced.insert(origin, progress.sequence);
    }

    /// Whether a write may be back after its removal: its author was not known where the tombstone was collected. So it is
    /// with an expiry after a PERSIST; and it may be lost where a string written later has settled, as if by SET.
    pub fn may_be_back(&self, place: &Place, stamp: Stamp, change: &Change<'_>) -> bool {
        let introduced = self.introduced.get(&stamp.origin).copied().unwrap_or(NTP64(0));
        stamp.time <= introduced
            && match change {
                Change::Expire(..) => self.ledger.newest(place) > stamp,
                _ => self.ledger.killer(place, stamp, change, |_, _| true).is_some(),
            }
    }

    /// A subscriber of a node got messages, as RESP.
    pub fn heard(&mut self, node: usize, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for message in text.split("\r\n").filter(|line| line.contains('.')) {
            let Some((origin, number)) = message.split_once(':') else { continue };
            let number = number.parse().expect("messages are numbered");
            let before = self.nodes[node].messages.insert(origin.into(), number);
            if let Some(before) = before.filter(|before| *before >= number) {
                self.breach(format!(
                    "a subscriber of n{node} got {origin}'s message {before}, then {number}"
                ));
            }
        }
    }

    fn pulls(&mut self, node: usize, pulls: bool) {
        let seen = &mut self.nodes[node];
        let before = std::mem::replace(&mut seen.pulls, pulls);
        seen.pull_count += usize::from(pulls && !before);
        if before || pulls {
            seen.torn.clone_from(&self.ledger.sequenced);
        }
    }

    fn check(
        &mut self,
        node: usize,
        engine: &Engine,
        backlog_bytes: u64,
        history: &History,
        forgets: bool,
    ) -> Result<(), String> {
        let own = engine.clock.origin();
        let (vector, backlog) = {
            let mesh = engine.mesh.lock();
            (mesh.vector().clone(), mesh.backlog().bytes())
        };
        if backlog > (backlog_bytes as usize).max(self.ledger.run_bytes_max) {
            return Err(format!("n{node} keeps a backlog of {backlog} bytes"));
        }
        self.check_vector(node, own, &vector)?;
        self.nodes[node].vector = vector;
        if self.restated > 0 {
            return Ok(());
        }
        self.check_pairs(node, engine)?;
        if self.ledger.places.is_empty() {
            return Ok(());
        }
        for _ in 0..SAMPLE {
            self.next = (self.next + 1) % self.ledger.places.len();
            self.check_registers(node, engine, &self.ledger.places[self.next], history, forgets)?;
        }
        Ok(())
    }

    fn check_vector(&self, node: usize, own: Origin, vector: &Vector) -> Result<(), String> {
        for (origin, before) in self.nodes[node].vector.iter() {
            let now = vector.of(origin);
            let is_back = now.sequence < before.sequence || now.watermark < before.watermark;
            // Those of its former lives may be read back from disk, and are given back with its own.
            if is_back && !(origin.node() == own.node() && self.restated > 0) {
                return Err(format!("n{node} had {before:?} of {origin}, and has {now:?}"));
            }
        }
        for (origin, progress) in vector.iter().filter(|(origin, _)| *origin != own) {
            let sequenced = self.ledger.sequenced.get(&origin).copied().unwrap_or(0);
            if progress.sequence > sequenced {
                return Err(format!("n{node} has {progress:?} of {origin}, who wrote {sequenced} batches"));
            }
            let covered = |(_, time): &(u64, NTP64)| *time <= progress.watermark && self.restated == 0;
            if let Some((number, _)) = self.ledger.next(origin, progress.sequence).filter(covered) {
                return Err(format!("n{node} has {progress:?} of {origin}, which covers batch {number}"));
            }
        }
        Ok(())
    }

    /// Two keys that are only written together are equal, unless a pull has brought one of them only.
    fn check_pairs(&self, node: usize, engine: &Engine) -> Result<(), String> {
        let shared = [(0, "pair:a".to_owned(), "pair:b".to_owned()), (1, "pair:a".into(), "pair:b".into())];
        let single = self.ids.iter().map(|id| (0, format!("a:{id}"), format!("b:{id}")));
        for (space, a, b) in shared.into_iter().chain(single) {
            let [(stamp, value), (other, twin)] = [&a, &b].map(|key| string(engine, space, key.as_bytes()));
            if value == twin {
                continue;
            }
            let newer = stamp.max(other);
            let origin = newer.origin;
            let number = self.ledger.number_of(newer).unwrap_or(u64::MAX);
            let Seen { vector, torn, .. } = &self.nodes[node];
            // What has removed one of them is not known here.
            let is_removal = value.is_none() || twin.is_none();
            let has_all = !is_removal && vector.of(origin).sequence >= number;
            let may_be_torn = match is_removal {
                true => torn.iter().any(|(origin, torn)| *torn > vector.of(*origin).sequence),
                false => torn.get(&origin).is_some_and(|torn| *torn >= number),
            };
            // What has killed both there before a pull got to one of them is still on its way here.
            let late = if stamp == newer { &b } else { &a };
            let unmerged = |origin: Origin, number: u64| vector.of(origin).sequence < number;
            let place = (space, late.as_bytes().to_vec());
            let is_killed = self.ledger.killer(&place, newer, &Change::Assign(b""), unmerged).is_some();
            if (has_all && !is_killed) || !may_be_torn {
                return Err(format!(
                    "n{node} shows half of {origin} {number}: {a} {value:?} at {stamp}, {b} {twin:?} at {other}"
                ));
            }
        }
        Ok(())
    }

    fn check_registers(
        &self,
        node: usize,
        engine: &Engine,
        place: &Place,
        history: &History,
        forgets: bool,
    ) -> Result<(), String> {
        let own = engine.clock.origin();
        let hash = engine.hash(&place.1);
        let cell = engine.cell(hash.range()).lock();
        let Some(entry) = cell.shard.get(place.0, &place.1, hash) else { return Ok(()) };
        let vector = &self.nodes[node].vector;
        let mut breach = None;
        entry.registers(|stamp, change| {
            // What this node wrote itself may not be in sequence yet.
            let written = change.sum().map_or(stamp, |added| added.stamp());
            if written.origin != own && !is_of(&change, own) && !self.ledger.has(place, stamp, &change) {
                breach = Some(format!("nobody wrote {stamp} {change:?}"));
            }
            if history.is_dropped(written.origin, written.time) {
                breach = Some(format!("{stamp} {change:?} was dropped"));
            }
            let introduced = self.introduced.get(&written.origin).copied().unwrap_or(NTP64(0));
            if forgets || written.time <= introduced {
                return;
            }
            let is_merged = |origin: Origin, number: u64| vector.of(origin).sequence >= number;
            if let Some(removal) = self.ledger.killer(place, stamp, &change, is_merged) {
                breach = Some(format!("{stamp} {change:?} is back from before {removal:?}"));
            }
        });
        let key = String::from_utf8_lossy(&place.1);
        breach.map_or(Ok(()), |text| Err(format!("n{node} {}:{key}: {text}", place.0)))
    }
}

/// An item whose value this node has set.
fn is_of(change: &Change<'_>, own: Origin) -> bool {
    matches!(change, Change::Item(pos, _) if pos.stamp().origin == own)
}

/// A string and when it was written.
fn string(engine: &Engine, space: u32, key: &[u8]) -> (Stamp, Option<Vec<u8>>) {
    let hash = engine.hash(key);
    let cell = engine.cell(hash.range()).lock();
    match cell.shard.get(space, key, hash) {
        Some(entry) => (entry.stamp(), entry.value().and_then(Value::as_string).map(<[u8]>::to_vec)),
        None => (Stamp::NEVER, None),
    }
}

/// A key that only its expiry may delete, but that a batch clears as of its own time.
fn cleared_unasked(origin: Origin, batch: Batch<'_>) -> Option<Vec<u8>> {
    let (mut key, mut stamp, mut cleared) = (Vec::new(), Stamp::NEVER, None);
    batch
        .each(|record| match record {
            Record::Time(time) => stamp = Stamp::new(time, origin),
            Record::Stamp(other) => stamp = other,
            Record::Key(_, name) => key = name.to_vec(),
            // As of its instant: by nobody, or right behind the stamp of the expiry.
            Record::Change(Change::Clear) if stamp.origin == origin && stamp.time >= batch.time => {
                cleared = cleared.take().or(key.starts_with(b"k").then(|| key.clone()));
            }
            _ => {}
        })
        .expect("captured whole");
    cleared
}

impl World {
    /// To be called after each frame that a node has taken.
    pub fn watch_pull(&mut self, node: usize) {
        let pulls = self.engine(node).mesh.lock().pull().is_some();
        self.watch.pulls(node, pulls);
    }

    /// Checks all that can be checked now.
    pub fn check(&mut self) -> Result<(), String> {
        let forgets = self.plan.absence_s < 60;
        self.check_apart();
        for node in self.up() {
            let Some(engine) = &self.nodes[node].engine else { continue };
            self.watch.settled = self.watch.settled.max(engine.stable());
            self.watch.check(node, engine, self.plan.backlog_bytes, &self.history, forgets)?;
        }
        self.introduce();
        self.watch.take_breach().map_or(Ok(()), Err)
    }

    /// Notes lives of nodes that all others know of by now, those that are down included. One whose clock is behind may go
    /// on stamping below what is settled.
    fn introduce(&mut self) {
        if self.is_anyone_lost(None) {
            return;
        }
        // A master alone concerns nobody, until it is named as a partner.
        let is_in = |node: &usize| self.nodes[*node].is_member && self.nodes[*node].apart_since.is_none();
        let members: Vec<usize> = (0..self.nodes.len()).filter(is_in).collect();
        for node in self.up() {
            let clock = &self.engine(node).clock;
            let (origin, last) = (clock.origin(), clock.last());
            if self.watch.introduced.get(&origin) != Some(&NTP64(u64::MAX)) {
                continue;
            }
            if members.iter().all(|other| *other == node || self.knows(*other, origin.node())) {
                self.watch.introduced.insert(origin, last.max(self.watch.settled));
            }
        }
    }

    /// The queue of tombstones is no longer than what was touched; a flush, a pull that finds keys gone, and stamps given
    /// back leave graves behind until they come up.
    pub fn check_graves(&self) -> Result<(), String> {
        let ledger = &self.watch.ledger;
        for node in self.up() {
            let graves = self.graves(node);
            let left_behind = ledger.flush_count + self.watch.nodes[node].pull_count + self.watch.restated;
            let most = ledger.places.len() * (1 + left_behind);
            if graves > most {
                return Err(format!("n{node} has {graves} graves for {} keys", ledger.places.len()));
            }
        }
        Ok(())
    }
}
