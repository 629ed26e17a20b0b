//! The node among its peers: membership, links, version vectors, and what to send to whom.
//!
//! A state machine without sockets and without data: it is told what happened (`open`, `hello`, `heartbeat`,
//! `closed`, `tick`) and answers what to send and what to dial. Data frames pass through the engine's
//! `replication`, which merges and reads ranges and reports progress here.
//!
//! Submodules: one link (`link`), whom to dial (`dialing`), the first frame and who tells of whom (`meeting`), vectors and floors
//! (`progress`), ranges (`pulling`), whether they are equal (`comparing`), how far peers' clocks are off (`offset`), whether
//! stamps may be given back (`recall`), who is not to come back (`forgetting`), who is waited for over a restart (`roster`),
//! and all that as operators see it (`view`).
//!
//! # Who sends what to whom
//! A link carries both directions. Each side sends its own batches as they are sequenced, from what the
//! other's vector lacks. Batches of a third node are passed on to a peer that is not linked with that node itself. What the
//! backlog no longer holds, the peer must pull as ranges: it is told so by `Gap`.

mod comparing;
mod dialing;
mod forgetting;
mod link;
mod meeting;
mod offset;
mod progress;
mod pulling;
mod recall;
mod roster;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use super::backlog::Backlog;
use super::batch::Register;
use super::frame::{self, Echo, Floor, Frame, Heartbeat, Hello, Member, VERSION};
use super::vector::{Progress, Vector};
use crate::clock::{NTP64, NodeId, Origin, Stamp, unix_ms_from_ntp};
use crate::faults::Faults;
use comparing::Proof;
use dialing::Dial;
use recall::Recall;

pub use comparing::GLOBALS;
pub use link::Link;
pub use progress::Verdict;
pub use pulling::{Brought, Moved, Pull, Want};
pub use roster::{Known, Roster};
pub use view::{PartnerView, State};

/// Number of a link on this node; never used twice.
pub type LinkId = u64;

/// An address to dial.
pub type Address = (String, u16);

/// Time limits, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Between signs of life.
    pub heartbeat_ms: u64,
    /// A link without a byte for so long is closed.
    pub timeout_ms: u64,
    /// A member not heard of for so long does not hold collection back.
    pub absence_ms: u64,
    /// Without a link for so long, the backlog is given up.
    pub backlog_ms: Option<u64>,
}

/// Two ticks further apart than this: the wall clock was set, or the process stood still.
const STEP_MS_MIN: u64 = 1000;
/// How often a peer is told again that it must pull.
const GAP_REPEAT_MS: u64 = 500;
/// A skew is over when the peer's stamps are ahead by a part of so many less than what is held: a clock that is off by just that
/// is not told of again and again.
const SKEW_MARGIN: u64 = 10;
/// How often a peer is told again of members that it does not take into account.
const RETELL_MS: u64 = 1000;
/// Most bytes put on a link before the other links and the pulls get their turn.
const BURST_BYTES: usize = 256 * 1024;

/// Why a link ends.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Another version of the protocol.
    #[error("the peer speaks version {0} of the link protocol, this node {VERSION}")]
    Version(u16),
    /// Dialed itself.
    #[error("this address is the node's own")]
    Itself,
    /// Two nodes share an identity.
    #[error("the peer has this node's id {0}: its data directory was copied; remove its meldis.node file")]
    SameId(NodeId),
    /// There is a better link to the same node.
    #[error("another link to the same node stays")]
    Duplicate,
    /// Nothing came for too long.
    #[error("nothing heard for {0} ms")]
    Silent(u64),
    /// A frame out of place.
    #[error("unexpected frame: {0}")]
    Unexpected(&'static str),
    /// Batches are missing in between.
    #[error("batches of {origin} from {have} to {first} are missing")]
    Missing {
        /// Whose.
        origin: Origin,
        /// What is here.
        have: u64,
        /// What came.
        first: u64,
    },
    /// Batches were passed over for a pull that has broken off: they are to be sent again.
    #[error("a pull from another peer broke off, which made batches of this link superfluous")]
    PullLost,
    /// A damaged frame.
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
    /// Stamps were given back: the link begins anew.
    #[error("this node's clock was set right")]
    ClockSetRight,
    /// While it was dialed, this node was told to do without the peer.
    #[error("this address is not to be dialed any more")]
    Unwanted,
    /// This node is about to follow a primary, and holds what nobody is to get.
    #[error("this node begins anew as a replica")]
    Anew,
    /// The cluster was told to forget the node for good.
    #[error("node {0} was forgotten (MELD FORGET): remove its meldis.node file, and it joins as a new node")]
    Forgotten(NodeId),
    /// The peer or the network closed it.
    #[error("closed by the peer")]
    Closed,
}

/// Something to be logged or shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A link to a node is ready.
    Up(NodeId),
    /// A ready link has ended.
    Down(NodeId, Fault),
    /// There is no link to an address, and somebody has to see to it. Not told of the next attempts, unless the reason changes.
    Refused(Address, String),
    /// A peer under this host dialed and got no link, likewise.
    CallerRefused(String, Fault),
    /// A node said it is about to stop.
    Leaving(NodeId),
    /// A pull has begun, with so many ranges.
    PullStarted(NodeId, usize),
    /// How far a pull is.
    PullProgress(NodeId, Moved),
    /// A pull is complete.
    PullDone(NodeId, Moved),
    /// A node's stamps are ahead of this node's clock by so many milliseconds: its changes are held.
    Skewed(NodeId, u64),
    /// A node's stamps are right again: its changes are no longer held.
    Unskewed(NodeId),
    /// Ranges of a node differ from those here though neither lacks anything: they are pulled.
    Diverged(NodeId, Vec<u16>),
    /// Such ranges have been pulled, which changed so many keys here.
    Repaired(NodeId, u64),
    /// A node's clock is off by so many milliseconds.
    ClockOff(NodeId, i64),
    /// A node's clock is right again.
    ClockRight(NodeId),
}

/// A member as this node knows it.
#[derive(Clone, Debug)]
pub struct MemberState {
    /// Who and where.
    pub member: Member,
    /// When it was last known to be linked with anyone, in Unix milliseconds.
    pub seen_at_ms: u64,
    /// The floor it reported, once it counts.
    pub floor: NTP64,
    /// The newest report, which may not count yet.
    reported: Floor,
    /// It was away for so long that tombstones may have gone which it has not seen.
    estranged: bool,
    /// What it has, as it last said.
    told: Vector,
    /// Whether its ranges are equal to those here.
    proof: Proof,
    /// Its stamps were ahead of this node's clock, and are not known to be right yet: what operators are told, whereas
    /// [`Link::held`] comes and goes with each batch.
    skewed: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Mesh {
    own: Member,
    timing: Timing,
    vector: Vector,
    backlog: Backlog,
    members: BTreeMap<NodeId, MemberState>,
    /// The members that the peers were told of last.
    told: Vec<Origin>,
    links: BTreeMap<LinkId, Link>,
    dials: BTreeMap<Address, Dial>,
    /// Hosts of peers that dialed and were refused, and why, as was told.
    callers_refused: BTreeSet<(String, String)>,
    pull: Option<Pull>,
    events: Vec<Event>,
    /// The newest time that came from others, in data or in a promise.
    taken: NTP64,
    /// The newest promise of this life that may have been told to who is no member any more, and so is not asked.
    told_away: NTP64,
    /// The last batch of each origin whose messages were delivered: one may come again that a pull's vector had counted.
    delivered: BTreeMap<Origin, u64>,
    recall: Recall,
    /// When the node started, as far as the mesh knows.
    began_at_ms: Option<u64>,
    /// Bugs planted by tests.
    #[doc(hidden)]
    pub faults: Faults,
    /// The time of the last [`Self::tick`].
    ticked_at_ms: u64,
    /// When a link was last there, as far as [`Self::tick`] has seen.
    linked_at_ms: u64,
    /// Pulls by peers in which something differed.
    pulls_given: u64,
    /// Nodes that are not to come back.
    forgotten: BTreeSet<NodeId>,
    /// Nodes a pull from which broke off or has just ended, and when: this node may hold what its vector does not tell.
    torn: BTreeMap<NodeId, u64>,
    /// Nothing this node wrote is stamped later, but for what is not sequenced.
    written: NTP64,
}

impl Mesh {
    /// A node alone.
    pub fn new(own: Member, timing: Timing, backlog_bytes_max: usize) -> Self {
        Mesh {
            own,
            timing,
            vector: Vector::default(),
            backlog: Backlog::new(backlog_bytes_max),
            members: BTreeMap::new(),
            told: Vec::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            callers_refused: BTreeSet::new(),
            pull: None,
            events: Vec::new(),
            taken: NTP64(0),
            told_away: NTP64(0),
            delivered: BTreeMap::new(),
            recall: Recall::Idle { not_before_ms: 0 },
            began_at_ms: None,
            faults: Faults::empty(),
            ticked_at_ms: 0,
            linked_at_ms: 0,
            pulls_given: 0,
            forgotten: BTreeSet::new(),
            torn: BTreeMap::new(),
            written: NTP64(0),
        }
    }

    /// This node as others see it.
    pub fn own(&self) -> &Member {
        &self.own
    }

    /// Changes what this node announces.
    pub fn announce(&mut self, host: String, port: u16, follower: bool) {
        (self.own.host, self.own.port, self.own.follower) = (host, port, follower);
    }

    /// Changes time limits and the size of the backlog.
    pub fn configure(&mut self, timing: Timing, backlog_bytes_max: usize) {
        self.timing = timing;
        self.backlog.set_bytes_max(backlog_bytes_max);
    }

    /// How many pulls by peers found something that differed.
    pub fn pulls_given(&self) -> u64 {
        self.pulls_given
    }

    /// What this node has.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// The batches kept for peers, and for readers of effects.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// The other members.
    pub fn members(&self) -> impl Iterator<Item = &MemberState> {
        self.members.values()
    }

    /// The links, those without Hello included.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    /// One link.
    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    /// Who is at the other end of a link; nobody before its Hello.
    pub fn peer_of(&self, id: LinkId) -> Origin {
        self.link(id).and_then(|link| link.peer.as_ref()).map_or(Origin::NONE, |peer| peer.origin)
    }

    /// The ready link to a node.
    pub fn link_to(&self, node: NodeId) -> Option<(LinkId, &Link)> {
        self.links().find(|(_, link)| link.fault.is_none() && link.node() == Some(node))
    }

    /// The pull under way.
    pub fn pull(&self) -> Option<&Pull> {
        self.pull.as_ref()
    }

    /// What happened since this was last asked.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Nodes with a ready link.
    pub fn linked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links.values().filter(|link| link.fault.is_none()).filter_map(Link::node)
    }

    /// Those of them that take writes.
    pub fn linked_equals(&self) -> impl Iterator<Item = NodeId> + '_ {
        let peers =
            self.links.values().filter(|link| link.fault.is_none()).filter_map(|link| link.peer.as_ref());
        peers.filter(|peer| !peer.follower).map(|peer| peer.origin.node())
    }

    // Links.

    /// A connection is there and authenticated. The first frame to send is the Hello. One to an address that was taken out
    /// while it was dialed is to be closed.
    pub fn open(
        &mut self,
        id: LinkId,
        dialed: Option<Address>,
        seen_host: String,
        registers: Vec<(Register, Stamp, Vec<u8>)>,
        now_ms: u64,
    ) {
        let hello = Frame::Hello(Hello {
            version: VERSION,
            sender: self.own.clone(),
            vector: self.vector.clone(),
            members: self.told_members(),
            registers,
        });
        let is_wanted = dialed.as_ref().is_none_or(|address| self.dials.contains_key(address));
        let fault = (!is_wanted).then_some(Fault::Unwanted);
        self.links.insert(id, Link::new(dialed, seen_host, hello, fault, now_ms));
    }

    /// Bytes came over a link, whether they make a frame or not.
    pub fn heard(&mut self, id: LinkId, now_ms: u64) {
        // A thread may read the clock just before it is set, and come here after another has ticked: then the tick's counts.
        let is_of_tick = self.ticked_at_ms == 0 || now_ms.abs_diff(self.ticked_at_ms) <= STEP_MS_MIN;
        let now_ms = if is_of_tick { now_ms } else { self.ticked_at_ms };
        if let Some(link) = self.links.get_mut(&id) {
            link.heard_at_ms = now_ms;
            if let Some(node) = link.node()
                && let Some(state) = self.members.get_mut(&node)
            {
                state.seen_at_ms = now_ms;
            }
        }
    }

    /// A link is gone.
    pub fn closed(&mut self, id: LinkId, fault: Fault, now_ms: u64) {
        let Some(link) = self.links.remove(&id) else { return };
        if let Some(address) = &link.dialed {
            match (&fault, link.peer.is_some()) {
                (Fault::Itself, _) => {
                    self.dial(address.clone()).own = true;
                    // Who was said to live there was this node, before its disk was wiped.
                    self.members.retain(|_, state| state.member.address() != *address);
                }
                (_, true) => {
                    let dial = self.dial(address.clone());
                    (dial.busy, dial.pause_ms, dial.next_at_ms) = (false, dialing::BACKOFF_MS.0, now_ms);
                }
                (_, false) => self.dial_failed(address, dialing::refusal(&fault), now_ms),
            }
            if !self.dials.get(address).is_some_and(|dial| dial.configured || dial.node.is_some() || dial.own)
            {
                self.dials.remove(address);
            }
        } else if link.peer.is_none() {
            self.caller_refused(link.seen_host.clone(), &fault);
        }
        if self.pull.as_ref().is_some_and(|pull| pull.link == id) {
            self.abandon_pull();
        }
        if let Some(node) = link.node()
            && self.link_to(node).is_none()
        {
            self.events.push(Event::Down(node, fault));
            let address = self.members.get(&node).map(|state| state.member.address());
            let at_it = self.members.values().filter(|state| Some(state.member.address()) == address);
            if at_it.count() > 1 {
                self.members.remove(&node);
            }
        }
    }

    /// Has every link closed.
    pub fn end_links(&mut self, fault: &Fault) {
        self.links.values_mut().for_each(|link| {
            link.fault.get_or_insert_with(|| fault.clone());
        });
    }

    /// A heartbeat has come, which is taken in its turn: its clock is read at once. See `offset`.
    pub fn timed(&mut self, id: LinkId, heartbeat: &Heartbeat, now_us: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(node) = link.node() else { return };
        let turn = link.offset.heard(heartbeat.sent_us, heartbeat.echo, now_us);
        self.events.extend(turn.map(|turn| turn.event(node)));
    }

    /// A peer's sign of life, taken at `now_us`. A promise beyond `limit` is not taken: its author's clock is ahead,
    /// and may yet be set right.
    pub fn heartbeat(
        &mut self,
        id: LinkId,
        heartbeat: Heartbeat,
        limit: NTP64,
        now_us: u64,
    ) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&id) else { return Err(Fault::Closed) };
        let Some(node) = link.node() else { return Err(Fault::Unexpected("a Heartbeat before Hello")) };
        // What it says less of than before it said out of order; what it cannot have is nonsense we survive.
        link.vector.join(&heartbeat.vector);
        let own = self.own.origin;
        if let Some(state) = self.members.get_mut(&node) {
            let limit_ms = unix_ms_from_ntp(limit).saturating_sub(now_us / 1000);
            let is_right =
                link.stamps_ahead_ms(&heartbeat).is_some_and(|ms| ms <= limit_ms - limit_ms / SKEW_MARGIN);
            if state.skewed && is_right {
                state.skewed = false;
                self.events.push(Event::Unskewed(node));
            }
            state.told.clone_from(&link.vector);
            let had = self.members.values().map(|state| state.told.of(own).sequence).min();
            self.backlog.peers_have(own, had.unwrap_or(0));
        }
        let lost: Vec<NodeId> =
            link.linked.difference(&heartbeat.linked.iter().copied().collect()).copied().collect();
        link.linked = heartbeat.linked.into_iter().collect();
        link.syncing = heartbeat.syncing;
        // While it pulls itself, its ranges hold more than it says.
        if link.has_given && !heartbeat.pulls {
            link.has_given = false;
            link.had.join(&heartbeat.vector);
        }
        link.taken = Some(heartbeat.taken);
        // Some of it may have come there behind a gap, which the lost node was to fill.
        link.sent.retain(|origin, _| !lost.contains(&origin.node()));
        // Nobody knows more of this node's own batches than it does.
        let told = heartbeat.vector.iter().filter(|(origin, _)| *origin != own);
        for (origin, progress) in told.filter(|(_, progress)| progress.watermark <= limit) {
            if origin.node() != self.own.origin.node() {
                self.taken = self.taken.max(progress.watermark);
            }
            let sequence = if self.faults.contains(Faults::HEARSAY) { 0 } else { progress.sequence };
            self.vector.promise(origin, Progress { sequence, ..progress });
        }
        let heard_at_ms = link.heard_at_ms;
        self.tell_unknown_members(id, &heartbeat.floors, now_us / 1000);
        // Stamps that are given back would leave a report behind that no later one outdoes.
        for floor in heartbeat.floors.into_iter().filter(|floor| floor.at <= limit) {
            // What an earlier life had merged is gone with it.
            if let Some(state) = self.members.get_mut(&floor.origin.node())
                && floor.origin == state.member.origin
                && (floor.at, floor.floor) > (state.reported.at, state.reported.floor)
            {
                if floor.origin.node() != node {
                    state.seen_at_ms = state.seen_at_ms.max(heard_at_ms);
                }
                state.reported = floor;
            }
        }
        Ok(())
    }

    /// A peer that was told to do without a member does not wait for it, and its floor never counts here: it is told of the
    /// member again, as by any other link.
    fn tell_unknown_members(&mut self, id: LinkId, floors: &[Floor], now_ms: u64) {
        let members = self.told_members();
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(peer) = link.peer.as_ref().map(|peer| peer.origin) else { return };
        let lacks = |floor: &Floor| {
            let mut others = members.iter().filter(|member| member.origin.node() != peer.node());
            floor.origin == peer && others.any(|member| !floor.of.contains(&member.origin))
        };
        if floors.iter().any(lacks) && now_ms.abs_diff(link.retold_ms) >= RETELL_MS {
            link.retold_ms = now_ms;
            link.say(Frame::Members(members));
        }
    }

    /// The peer wants a heartbeat at once.
    pub fn asked(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.heartbeat_at_ms = 0;
        }
    }

    /// Asks every peer for a heartbeat at once, to learn what it has.
    pub fn ask_all(&mut self) {
        self.links.values_mut().for_each(|link| link.asks |= link.peer.is_some());
    }

    /// Tells every peer that this node is about to stop.
    pub fn say_bye(&mut self) {
        for link in self.links.values_mut().filter(|link| link.peer.is_some()) {
            link.say(Frame::Bye);
        }
    }

    /// A peer is about to stop.
    pub fn leaving(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.leaving = true;
        if let Some(node) = link.node() {
            self.events.push(Event::Leaving(node));
        }
    }

    /// Holds a link whose next frame's stamps are ahead by so much, or goes on. Operators are told that it begins; that it is
    /// over, when a heartbeat is taken of a peer whose stamps are known to be right. That a frame was taken does not show it:
    /// while a clock is off, each batch is taken when its time has come, and the next one is held again.
    pub fn hold(&mut self, id: LinkId, ahead_ms: Option<u64>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(node) = link.node() else { return };
        link.held = ahead_ms.is_some();
        if let (Some(ms), Some(state)) = (ahead_ms, self.members.get_mut(&node))
            && !std::mem::replace(&mut state.skewed, true)
        {
            self.events.push(Event::Skewed(node, ms));
        }
    }

    /// Closes silent links. To be called at least every heartbeat.
    pub fn tick(&mut self, now_ms: u64) {
        self.follow_clock(now_ms);
        self.began_at_ms.get_or_insert(now_ms);
        let timeout_ms = self.timing.timeout_ms;
        for link in self.links.values_mut() {
            let silent_ms = now_ms.saturating_sub(link.heard_at_ms);
            if silent_ms > timeout_ms && !link.held && link.fault.is_none() {
                link.fault = Some(Fault::Silent(silent_ms));
            }
        }
        if !self.links.is_empty() || self.linked_at_ms == 0 {
            self.linked_at_ms = now_ms;
        } else if self.timing.backlog_ms.is_some_and(|ms| now_ms.saturating_sub(self.linked_at_ms) > ms) {
            self.backlog.clear();
        }
        let absence_ms = self.timing.absence_ms;
        for state in self.members.values_mut() {
            state.estranged |= now_ms.saturating_sub(state.seen_at_ms) > absence_ms;
        }
        self.schedule_comparisons(now_ms);
        self.tell_members();
    }

    /// Times here are those of the wall clock, which may be set while the node runs. Then they move with it: else
    /// a clock set back stops heartbeats and dialing, and one set forward makes every link look silent. Another thread may
    /// still note a time it read before: so what recurs is due as far from its last time in either direction.
    fn follow_clock(&mut self, now_ms: u64) {
        let before_ms = std::mem::replace(&mut self.ticked_at_ms, now_ms);
        let is_set = now_ms < before_ms || now_ms > before_ms + STEP_MS_MIN;
        if before_ms == 0 || !is_set {
            return;
        }
        let moved = |at_ms: &mut u64| {
            // Those noted since the step are right already.
            if now_ms < before_ms && *at_ms > now_ms {
                *at_ms = at_ms.saturating_sub(before_ms - now_ms);
            } else if now_ms > before_ms && *at_ms <= before_ms + STEP_MS_MIN {
                // Between the last tick and the step some may have been noted, too.
                *at_ms = (*at_ms + (now_ms - before_ms)).min(now_ms);
            }
        };
        for link in self.links.values_mut() {
            link.offset.reset();
            moved(&mut link.heard_at_ms);
            moved(&mut link.heartbeat_at_ms);
            moved(&mut link.compared_at_ms);
            link.gap_told_ms.as_mut().map(moved);
            moved(&mut link.retold_ms);
        }
        self.began_at_ms.as_mut().map(moved);
        moved(&mut self.linked_at_ms);
        self.members.values_mut().for_each(|state| moved(&mut state.seen_at_ms));
        self.dials.values_mut().for_each(|dial| moved(&mut dial.next_at_ms));
        self.torn.values_mut().for_each(moved);
    }

    // Sending.

    /// Appends what a link has to say next: control frames, a heartbeat when due, and up to about `BURST_BYTES` of
    /// batches. Nothing means: wait to be woken.
    pub fn poll(&mut self, id: LinkId, now_us: u64, out: &mut Vec<u8>) {
        let (start, now_ms) = (out.len(), now_us / 1000);
        let Some(link) = self.links.get_mut(&id) else { return };
        while let Some(frame) = link.control.pop_front() {
            frame::write(&frame, &[], out);
        }
        if std::mem::take(&mut link.asks) {
            frame::write(&Frame::Ask, &[], out);
        }
        let Some(peer) = link.peer.clone() else { return };
        if now_ms.abs_diff(link.heartbeat_at_ms) >= self.timing.heartbeat_ms {
            link.heartbeat_at_ms = now_ms;
            let echo = link.offset.echo();
            let heartbeat = self.own_heartbeat(now_us, echo);
            frame::write(&Frame::Heartbeat(heartbeat), &[], out);
        }
        if self.is_recalling() {
            return;
        }
        let origins: Vec<(Origin, u64)> = std::iter::once(self.own.origin)
            .chain(self.vector.iter().map(|(origin, _)| origin).filter(|origin| *origin != self.own.origin))
            .map(|origin| (origin, self.vector.of(origin).sequence))
            .collect();
        let mut gap = false;
        for (origin, have) in origins {
            if out.len() - start >= BURST_BYTES {
                return;
            }
            let Some(link) = self.links.get(&id) else { return };
            let after = link.will_have(origin);
            if after >= have || origin == peer.origin || self.arrives_by_itself(link, origin) {
                continue;
            }
            if !self.backlog.has(origin, after + 1) {
                gap = true;
                continue;
            }
            let mut last = after;
            for segment in self.backlog.after(origin, after) {
                let frame = Frame::Segment {
                    origin,
                    first: segment.first,
                    count: segment.count,
                    watermark: segment.watermark,
                    seen: segment.seen.clone(),
                };
                frame::write(&frame, &segment.batches, out);
                last = segment.last();
                if out.len() - start >= BURST_BYTES {
                    break;
                }
            }
            if let Some(link) = self.links.get_mut(&id) {
                link.sent.insert(origin, last);
            }
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        if gap && link.gap_told_ms.is_none_or(|told| now_ms.abs_diff(told) >= GAP_REPEAT_MS) {
            link.gap_told_ms = Some(now_ms);
            link.giving = false;
            frame::write(&Frame::Gap, &[], out);
        }
    }

    /// Whether [`Self::poll`] has left something to be sent.
    pub fn wants_to_send(&self, id: LinkId) -> bool {
        let Some(link) = self.links.get(&id) else { return false };
        let Some(peer) = &link.peer else { return !link.control.is_empty() };
        !link.control.is_empty()
            || link.asks
            || !link.requests.is_empty()
            || !self.is_recalling()
                && self.vector.iter().any(|(origin, progress)| {
                    let after = link.will_have(origin);
                    after < progress.sequence
                        && origin != peer.origin
                        && !self.arrives_by_itself(link, origin)
                        && self.backlog.has(origin, after + 1)
                })
    }

    fn own_heartbeat(&self, now_us: u64, echo: Option<Echo>) -> Heartbeat {
        let own = Floor {
            origin: self.own.origin,
            floor: self.floor(now_us / 1000),
            at: self.vector.of(self.own.origin).watermark,
            of: self.members.values().map(|state| state.member.origin).collect(),
        };
        let others = self.members.values().map(|state| state.reported.clone());
        Heartbeat {
            vector: self.vector.clone(),
            floors: std::iter::once(own).chain(others).collect(),
            linked: self.linked().collect(),
            syncing: self.is_syncing(),
            pulls: self.pull.as_ref().is_some_and(|pull| pull.total > 0),
            taken: self.taken,
            sent_us: now_us,
            echo,
        }
    }

    /// Whether a peer gets an origin's batches from the origin itself. Not so if it has begun another life: as a replica, of
    /// which none but its primary is told, it may have done so unnoticed but for what came of it.
    fn arrives_by_itself(&self, link: &Link, origin: Origin) -> bool {
        let is_later = |(other, _): (Origin, _)| other.node() == origin.node() && other > origin;
        origin != self.own.origin
            && link.linked.contains(&origin.node())
            && self.members.get(&origin.node()).is_some_and(|state| state.member.origin == origin)
            && !self.vector.iter().any(is_later)
    }
}

#[cfg(test)]
mod tests;
