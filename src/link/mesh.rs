//! The node among its peers: membership, links, version vectors, and what to send to whom.
//!
//! A state machine without sockets and without data: it is told what happened (`open`, `hello`, `heartbeat`,
//! `closed`, `tick`) and answers what to send and what to dial. Data frames pass through the engine's
//! `replication`, which merges and reads ranges and reports progress here.
//!
//! # Who sends what to whom
//! A link carries both directions. Each side sends its own batches as they are sequenced, from what the
//! other's vector lacks. Batches of a third node are passed on to a peer that is not linked with that node itself. What the
//! backlog no longer holds, the peer must pull as ranges: it is told so by `Gap`.
//!
//! # One link per pair
//! Both nodes may dial at once. The link dialed by the node with the larger id stays; of two dialed by the
//! same node, the newer. Both ends decide alike without talking.
//!
//! # Floors and the stable time
//! A node's *floor* is the time up to which it has merged every write of every member. The *stable time* is the least floor
//! of all members: nothing stamped at or below it is still under way to anyone, so tombstones up to it may go.
//! A member not heard of for `absence_ms` is left out, and so is what it wrote but told nobody; until then a configured
//! partner that was never met holds everything back. A floor counts only if it takes all members into account that this
//! node knows of. Heard through others it counts only once this node has merged that member's own stream up to the moment it said so:
//! otherwise a write stamped above a tombstone, but made before its author knew of the removal, could arrive behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::backlog::{Backlog, Segment};
use super::batch::Register;
use super::frame::{self, Cursor, Floor, Frame, Heartbeat, Hello, Member, VERSION};
use super::vector::{Progress, Vector};
use crate::clock::{NTP64, NodeId, Origin, Stamp};
use crate::faults::Faults;

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

/// First and last pause between two attempts to dial an address.
const BACKOFF_MS: (u64, u64) = (50, 1000);
/// Two ticks further apart than this: the wall clock was set, or the process stood still.
const STEP_MS_MIN: u64 = 1000;
/// How often a peer is told again that it must pull.
const GAP_REPEAT_MS: u64 = 500;
/// Most bytes put on a link before the other links and the pulls get their turn.
const BURST_BYTES: usize = 256 * 1024;
/// A quiet peer's ranges are compared with those here so often.
const COMPARE_MS: u64 = 10_000;
/// Pieces of ranges asked for ahead.
const PULL_WINDOW: usize = 8;

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
    /// A node said it is about to stop.
    Leaving(NodeId),
    /// A pull has begun, with so many ranges.
    PullStarted(NodeId, usize),
    /// So many ranges of so many are here.
    PullProgress(NodeId, usize, usize),
    /// A pull is complete.
    PullDone(NodeId),
    /// A node's stamps are ahead of this node's clock by so many milliseconds: its changes are held.
    Skewed(NodeId, u64),
    /// A node's changes are no longer held.
    Unskewed(NodeId),
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
}

/// One link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Dialed by this node, under this address.
    pub dialed: Option<Address>,
    /// The host the peer is seen under.
    pub seen_host: String,
    /// Who is at the other end, once it said Hello.
    pub peer: Option<Member>,
    /// What the peer said it has.
    pub vector: Vector,
    /// Nodes the peer is linked with.
    linked: BTreeSet<NodeId>,
    /// The peer is pulling ranges from somebody.
    pub syncing: bool,
    /// The peer said it is about to stop.
    pub leaving: bool,
    /// Last batch sent per origin.
    sent: BTreeMap<Origin, u64>,
    control: VecDeque<Frame>,
    /// Pieces of ranges the peer has asked for.
    requests: VecDeque<(u16, Cursor, bool)>,
    /// The peer pulls from this node: what the backlog lacks is on its way otherwise.
    giving: bool,
    /// Pulls begun here that the peer has not answered: only the answer to the last one counts, because what the peer sends
    /// goes on from there.
    answers_due: usize,
    gap_told_ms: Option<u64>,
    /// When the last byte came.
    pub heard_at_ms: u64,
    heartbeat_at_ms: u64,
    /// When the peer's ranges were last found equal to those here, in Unix milliseconds; zero for never.
    pub verified_at_ms: u64,
    /// How many ranges differed when they were last compared.
    pub differing_ranges: usize,
    compared_at_ms: u64,
    wants_pull: bool,
    /// The peer's stamps are ahead: nothing is read until they are not.
    pub skewed: bool,
    /// Why it is to be closed.
    pub fault: Option<Fault>,
}

/// What a pull is about to do.
#[derive(Clone, Debug)]
pub struct Pull {
    /// From whom.
    pub link: LinkId,
    /// What the giver had before it read the first range; `None` until it answered.
    pub vector: Option<Vector>,
    /// That, and what has been merged behind it since: adopted at the end.
    shadow: Vector,
    /// Links whose batches were taken though this node's own vector does not tell: they were in the shadow or went only
    /// there. Should the pull come to nothing, their peers must send them again.
    owed: BTreeSet<LinkId>,
    todo: VecDeque<(u16, Cursor, bool)>,
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
}

/// What to do with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All of it is here.
    Repeat,
    /// Merge it but for the first batches.
    Merge {
        /// How many batches are here already.
        skip: u64,
    },
}

#[derive(Clone, Debug)]
struct Dial {
    node: Option<NodeId>,
    /// An attempt or a link of it is under way.
    busy: bool,
    next_at_ms: u64,
    pause_ms: u64,
    /// It turned out to be this node.
    own: bool,
    configured: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Mesh {
    own: Member,
    timing: Timing,
    vector: Vector,
    backlog: Backlog,
    members: BTreeMap<NodeId, MemberState>,
    links: BTreeMap<LinkId, Link>,
    dials: BTreeMap<Address, Dial>,
    pull: Option<Pull>,
    events: Vec<Event>,
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
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            pull: None,
            events: Vec::new(),
            began_at_ms: None,
            faults: Faults::empty(),
            ticked_at_ms: 0,
            linked_at_ms: 0,
            pulls_given: 0,
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

    /// The batches kept for peers.
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

    // Dialing.

    /// Adds an address to be dialed for as long as it is configured.
    pub fn add_address(&mut self, address: Address) {
        self.dial(address).configured = true;
    }

    /// Takes these addresses for the configured ones, and drops the links to others.
    pub fn set_addresses(&mut self, addresses: Vec<Address>) {
        let held: Vec<Address> = self.addresses().map(|(address, _)| address.clone()).collect();
        for address in held.iter().filter(|address| !addresses.contains(address)) {
            self.remove_address(address);
        }
        if addresses.is_empty() {
            // Alone: members met through others go too.
            self.members.clear();
            self.dials.clear();
            self.links.values_mut().for_each(|link| {
                link.fault.get_or_insert(Fault::Closed);
            });
        }
        addresses.into_iter().for_each(|address| self.add_address(address));
    }

    /// Forgets what was merged from others: a follower begins anew.
    pub fn reset_vector(&mut self) {
        let own = self.own.origin;
        let progress = self.vector.of(own);
        self.vector = Vector::default();
        self.vector.advance(own, progress);
        self.pull = None;
    }

    /// Forgets a configured address; the link to it ends. Returns whether it was configured.
    pub fn remove_address(&mut self, address: &Address) -> bool {
        let Some(dial) = self.dials.get_mut(address).filter(|dial| dial.configured) else { return false };
        dial.configured = false;
        let node = dial.node;
        self.dials.remove(address);
        if let Some(node) = node {
            self.members.remove(&node);
            self.dials.retain(|_, dial| dial.configured || dial.node != Some(node));
        }
        for link in self.links.values_mut() {
            if link.dialed.as_ref() == Some(address) || (node.is_some() && link.node() == node) {
                link.fault.get_or_insert(Fault::Closed);
            }
        }
        true
    }

    /// The configured addresses, with the node found there.
    pub fn addresses(&self) -> impl Iterator<Item = (&Address, Option<NodeId>)> {
        self.dials.iter().filter(|(_, dial)| dial.configured).map(|(address, dial)| (address, dial.node))
    }

    /// Addresses whose turn it is. Each is to be answered by [`Self::open`] or [`Self::dial_failed`].
    pub fn dials_due(&mut self, now_ms: u64) -> Vec<Address> {
        let linked: BTreeSet<NodeId> = self.linked().collect();
        let mut due = Vec::new();
        for (address, dial) in &mut self.dials {
            let wanted = !dial.own && !dial.busy && dial.node.is_none_or(|node| !linked.contains(&node));
            if wanted && dial.next_at_ms <= now_ms {
                dial.busy = true;
                due.push(address.clone());
            }
        }
        due
    }

    /// An attempt failed: the next one comes after a longer pause.
    pub fn dial_failed(&mut self, address: &Address, now_ms: u64) {
        if let Some(dial) = self.dials.get_mut(address) {
            dial.busy = false;
            dial.next_at_ms = now_ms + dial.pause_ms;
            dial.pause_ms = (dial.pause_ms * 2).min(BACKOFF_MS.1);
        }
    }

    fn dial(&mut self, address: Address) -> &mut Dial {
        self.dials.entry(address).or_insert(Dial {
            node: None,
            busy: false,
            next_at_ms: 0,
            pause_ms: BACKOFF_MS.0,
            own: false,
            configured: false,
        })
    }

    // Links.

    /// A connection is there and authenticated. The first frame to send is the Hello.
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
            members: self.members.values().map(|state| state.member.clone()).collect(),
            registers,
        });
        self.links.insert(
            id,
            Link {
                dialed,
                seen_host,
                peer: None,
                vector: Vector::default(),
                linked: BTreeSet::new(),
                syncing: false,
                leaving: false,
                sent: BTreeMap::new(),
                control: VecDeque::from([hello]),
                requests: VecDeque::new(),
                giving: false,
                answers_due: 0,
                gap_told_ms: None,
                heard_at_ms: now_ms,
                heartbeat_at_ms: now_ms,
                verified_at_ms: 0,
                differing_ranges: 0,
                compared_at_ms: now_ms,
                wants_pull: false,
                skewed: false,
                fault: None,
            },
        );
    }

    /// Bytes came over a link, whether they make a frame or not.
    pub fn heard(&mut self, id: LinkId, now_ms: u64) {
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
                    (dial.busy, dial.pause_ms, dial.next_at_ms) = (false, BACKOFF_MS.0, now_ms);
                }
                (_, false) => self.dial_failed(address, now_ms),
            }
            if !self.dials.get(address).is_some_and(|dial| dial.configured || dial.node.is_some() || dial.own)
            {
                self.dials.remove(address);
            }
        }
        if self.pull.as_ref().is_some_and(|pull| pull.link == id) {
            self.abandon_pull();
        }
        if let Some(node) = link.node()
            && self.link_to(node).is_none()
        {
            self.events.push(Event::Down(node, fault));
        }
    }

    /// The peer's first frame.
    pub fn hello(&mut self, id: LinkId, hello: Hello, now_ms: u64) -> Result<(), Fault> {
        if hello.version != VERSION {
            return Err(Fault::Version(hello.version));
        }
        let mut peer = hello.sender;
        let node = peer.origin.node();
        if peer.origin == self.own.origin {
            return Err(Fault::Itself);
        }
        if node == self.own.origin.node() {
            return Err(Fault::SameId(node));
        }
        let Some(link) = self.links.get(&id) else { return Err(Fault::Closed) };
        if link.peer.is_some() {
            return Err(Fault::Unexpected("a second Hello"));
        }
        if peer.host.is_empty() {
            peer.host = match &link.dialed {
                Some((host, _)) => host.clone(),
                None => link.seen_host.clone(),
            };
        }
        let dialer = |link: &Link| if link.dialed.is_some() { self.own.origin.node() } else { node };
        if let Some((other_id, other)) = self.link_to(node) {
            let restarted = other.peer.as_ref().is_some_and(|held| held.origin != peer.origin);
            let stays = !restarted && dialer(other) > dialer(link);
            if stays {
                if let Some(address) = link.dialed.clone() {
                    self.dial(address).node = Some(node);
                }
                return Err(Fault::Duplicate);
            }
            if let Some(other) = self.links.get_mut(&other_id) {
                other.fault = Some(Fault::Duplicate);
            }
            if self.pull.as_ref().is_some_and(|pull| pull.link == other_id) {
                self.abandon_pull();
            }
        }
        let Some(link) = self.links.get_mut(&id) else { return Err(Fault::Closed) };
        link.peer = Some(peer.clone());
        link.vector = hello.vector;
        link.heard_at_ms = now_ms;
        if let Some(address) = link.dialed.clone() {
            let dial = self.dial(address);
            (dial.node, dial.pause_ms) = (Some(node), BACKOFF_MS.0);
        }
        // Another node at its address is gone: its disk was wiped, or it moved.
        let gone = |state: &MemberState| {
            state.member.address() == peer.address() && state.member.origin.node() != node
        };
        self.members.retain(|_, state| !gone(state));
        self.met(peer, now_ms);
        hello.members.into_iter().for_each(|member| self.met(member, now_ms));
        // Of its partners one may have forgotten a deletion already that another still holds against what it brings:
        // only comparing with each of them ends alike everywhere.
        if let Some(state) = self.members.get_mut(&node)
            && std::mem::take(&mut state.estranged)
            && let Some(link) = self.links.get_mut(&id)
        {
            link.wants_pull = true;
        }
        self.tell_members();
        self.events.push(Event::Up(node));
        Ok(())
    }

    /// Members a peer knows of.
    pub fn told_of(&mut self, members: Vec<Member>, now_ms: u64) {
        let before = self.members.len();
        members.into_iter().for_each(|member| self.met(member, now_ms));
        if self.members.len() != before {
            self.tell_members();
        }
    }

    fn met(&mut self, member: Member, now_ms: u64) {
        let node = member.origin.node();
        if node == self.own.origin.node() || self.is_gone(&member) {
            return;
        }
        let unknown = Floor { origin: member.origin, floor: NTP64(0), at: NTP64(0), of: Vec::new() };
        if self.members.get(&node).is_none_or(|state| member.origin > state.member.origin) {
            // Floors told so far leave out what it has written.
            self.members.values_mut().for_each(|state| state.floor = NTP64(0));
        }
        let state = self.members.entry(node).or_insert_with(|| MemberState {
            member: member.clone(),
            seen_at_ms: now_ms,
            floor: NTP64(0),
            reported: unknown.clone(),
            estranged: false,
        });
        if member.origin > state.member.origin {
            // A new life has merged nothing yet.
            (state.floor, state.reported) = (NTP64(0), unknown);
        }
        if member.origin >= state.member.origin {
            state.member = member.clone();
        }
        if !self.own.follower && !member.follower && member.port != 0 && !member.host.is_empty() {
            let dial = self.dial((member.host, member.port));
            dial.node.get_or_insert(node);
        }
    }

    /// Whether another node lives where this member is said to: its disk was wiped, and word of it comes late.
    fn is_gone(&self, member: &Member) -> bool {
        let node = member.origin.node();
        self.dials.get(&member.address()).is_some_and(|dial| dial.own)
            || self.links.values().filter(|link| link.fault.is_none()).any(|link| {
                link.peer
                    .as_ref()
                    .is_some_and(|peer| peer.origin.node() != node && peer.address() == member.address())
            })
    }

    fn tell_members(&mut self) {
        let members: Vec<Member> = self.members.values().map(|state| state.member.clone()).collect();
        if members.len() > 1 {
            for link in self.links.values_mut().filter(|link| link.peer.is_some()) {
                link.control.push_back(Frame::Members(members.clone()));
            }
        }
    }

    /// A peer's sign of life. A promise beyond `limit` is not taken: its author's clock is ahead, and may yet be set
    /// right.
    pub fn heartbeat(&mut self, id: LinkId, heartbeat: Heartbeat, limit: NTP64) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&id) else { return Err(Fault::Closed) };
        let Some(node) = link.node() else { return Err(Fault::Unexpected("a Heartbeat before Hello")) };
        // What it says less of than before it said out of order; what it cannot have is nonsense we survive.
        link.vector.join(&heartbeat.vector);
        let lost: Vec<NodeId> =
            link.linked.difference(&heartbeat.linked.iter().copied().collect()).copied().collect();
        link.linked = heartbeat.linked.into_iter().collect();
        link.syncing = heartbeat.syncing;
        for origin in link.sent.keys().copied().collect::<Vec<_>>() {
            if lost.contains(&origin.node()) {
                link.sent.remove(&origin);
            }
        }
        for (origin, progress) in heartbeat.vector.iter().filter(|(_, progress)| progress.watermark <= limit)
        {
            self.vector.promise(origin, progress);
        }
        for floor in heartbeat.floors {
            // What an earlier life had merged is gone with it.
            if let Some(state) = self.members.get_mut(&floor.origin.node())
                && floor.origin == state.member.origin
                && (floor.at, floor.floor) > (state.reported.at, state.reported.floor)
            {
                if floor.origin.node() != node {
                    state.seen_at_ms = state.seen_at_ms.max(link.heard_at_ms);
                }
                state.reported = floor;
            }
        }
        Ok(())
    }

    /// The peer wants a heartbeat at once.
    pub fn asked(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.heartbeat_at_ms = 0;
        }
    }

    /// Asks every peer for a heartbeat at once, to learn what it has.
    pub fn ask_all(&mut self) {
        for link in self.links.values_mut().filter(|link| link.peer.is_some()) {
            link.control.push_back(Frame::Ask);
        }
    }

    /// Tells every peer that this node is about to stop.
    pub fn say_bye(&mut self) {
        for link in self.links.values_mut().filter(|link| link.peer.is_some()) {
            link.control.push_back(Frame::Bye);
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

    /// Holds a link whose peer's stamps are ahead by so much, or goes on.
    pub fn set_skewed(&mut self, id: LinkId, ahead_ms: Option<u64>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(node) = link.node() else { return };
        if link.skewed != ahead_ms.is_some() {
            self.events.push(match ahead_ms {
                Some(ms) => Event::Skewed(node, ms),
                None => Event::Unskewed(node),
            });
        }
        link.skewed = ahead_ms.is_some();
    }

    /// Closes silent links. To be called at least every heartbeat.
    pub fn tick(&mut self, now_ms: u64) {
        self.follow_clock(now_ms);
        self.began_at_ms.get_or_insert(now_ms);
        let timeout_ms = self.timing.timeout_ms;
        for link in self.links.values_mut() {
            let silent_ms = now_ms.saturating_sub(link.heard_at_ms);
            if silent_ms > timeout_ms && !link.skewed && link.fault.is_none() {
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
    }

    /// Times here are those of the wall clock, which may be set while the node runs. Then they move with it: else
    /// a clock set back stops heartbeats and dialing, and one set forward makes every link look silent.
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
            } else if now_ms > before_ms && *at_ms <= before_ms {
                *at_ms += now_ms - before_ms;
            }
        };
        for link in self.links.values_mut() {
            moved(&mut link.heard_at_ms);
            moved(&mut link.heartbeat_at_ms);
            moved(&mut link.compared_at_ms);
            link.gap_told_ms.as_mut().map(moved);
        }
        self.began_at_ms.as_mut().map(moved);
        moved(&mut self.linked_at_ms);
        self.members.values_mut().for_each(|state| moved(&mut state.seen_at_ms));
        self.dials.values_mut().for_each(|dial| moved(&mut dial.next_at_ms));
    }

    // Sequence and vectors.

    /// Puts batches of this node into sequence, behind them its promise.
    pub fn sequence(&mut self, count: u64, batches: Vec<u8>, watermark: NTP64) {
        let own = self.own.origin;
        let have = self.vector.of(own);
        let progress = Progress { sequence: have.sequence + count, watermark: watermark.max(have.watermark) };
        self.vector.advance(own, progress);
        if count > 0 {
            let batches = batches.into();
            let segment = Segment { first: have.sequence + 1, count, watermark: progress.watermark, batches };
            self.backlog.push(own, segment);
        }
    }

    /// Counts what this node holds though it was never a batch: peers have to pull it.
    pub fn count_untold(&mut self, watermark: NTP64) {
        let have = self.vector.of(self.own.origin);
        self.vector.advance(self.own.origin, Progress { sequence: have.sequence + 1, watermark });
    }

    /// Whether every member is linked, and none has taken anything that a life of this node stamped beyond `limit`,
    /// nor this node anything of theirs.
    pub fn all_linked_below(&self, limit: NTP64) -> bool {
        let node = self.own.origin.node();
        let of_own = |vector: &Vector| {
            vector.iter().any(|(origin, progress)| origin.node() == node && progress.watermark > limit)
        };
        let of_others =
            self.vector.iter().any(|(origin, progress)| origin.node() != node && progress.watermark > limit);
        !of_others
            && self
                .members
                .keys()
                .all(|member| self.link_to(*member).is_some_and(|(_, link)| !of_own(&link.vector)))
    }

    /// This node's batches so far are void: what it holds is to be pulled. Its promise falls to `watermark`; the links end.
    pub fn restate_own(&mut self, watermark: NTP64) {
        let own = self.own.origin;
        let sequence = self.vector.of(own).sequence + 1;
        self.vector.set(own, Progress { sequence, watermark });
        self.backlog.drop_origin(own);
        self.links.values_mut().for_each(|link| {
            link.fault.get_or_insert(Fault::ClockSetRight);
        });
    }

    /// What to do with a segment that came.
    pub fn judge(&self, origin: Origin, first: u64, count: u64) -> Result<Verdict, Fault> {
        if origin == self.own.origin {
            return Ok(Verdict::Repeat);
        }
        if self.faults.contains(Faults::REPEATS) {
            return Ok(Verdict::Merge { skip: 0 });
        }
        let mut have = self.vector.of(origin).sequence;
        if let Some(pull) = &self.pull
            && pull.vector.is_some()
        {
            have = have.max(pull.shadow.of(origin).sequence);
        }
        match first.checked_add(count).ok_or(Fault::Unexpected("a sequence number"))? {
            next if next <= have + 1 => Ok(Verdict::Repeat),
            _ if first <= have + 1 => Ok(Verdict::Merge { skip: have + 1 - first }),
            _ => Err(Fault::Missing { origin, have, first }),
        }
    }

    /// A segment is merged, from the first of its batches that was not known already up to its end.
    pub fn merged(&mut self, origin: Origin, segment: Segment) {
        if origin == self.own.origin {
            return;
        }
        let progress = Progress { sequence: segment.last(), watermark: segment.watermark };
        if let Some(pull) = &mut self.pull
            && pull.vector.is_some()
            && segment.first <= pull.shadow.of(origin).sequence + 1
        {
            pull.shadow.advance(origin, progress);
        }
        let have = self.vector.of(origin);
        if segment.first <= have.sequence + 1 {
            self.vector.advance(origin, progress);
            // Kept to be passed on, where there is a third node it may be passed on to.
            if self.members.len() > 1 && segment.last() > have.sequence {
                self.backlog.push(origin, segment);
            }
        }
    }

    /// How many other members have everything this node has written so far.
    pub fn acknowledged(&self, sequence: u64) -> usize {
        self.links
            .values()
            .filter(|link| link.peer.is_some() && link.vector.of(self.own.origin).sequence >= sequence)
            .count()
    }

    /// The time up to which this node has merged every write of every member.
    pub fn floor(&self, now_ms: u64) -> NTP64 {
        let unmet = self.dials.values().any(|dial| dial.configured && !dial.own && dial.node.is_none());
        let began_at_ms = self.began_at_ms.unwrap_or(now_ms);
        if unmet && now_ms.saturating_sub(began_at_ms) <= self.timing.absence_ms {
            // Whoever is there may hold writes older than anything here. Told to others, it holds them back as well.
            return NTP64(0);
        }
        let mut floor = self.vector.of(self.own.origin).watermark;
        for state in self.members.values() {
            if !state.member.follower && !self.is_absent(state, now_ms) {
                floor = floor.min(self.vector.of(state.member.origin).watermark);
            }
        }
        // An earlier life of a node writes nothing any more, but others may still pass on what it wrote.
        for link in self.links.values().filter(|link| link.peer.is_some()) {
            for (origin, there) in link.vector.iter() {
                let lives =
                    self.members.get(&origin.node()).is_some_and(|state| state.member.origin == origin);
                let here = self.vector.of(origin);
                if !lives && origin != self.own.origin && there.sequence > here.sequence {
                    floor = floor.min(here.watermark);
                }
            }
        }
        floor
    }

    /// The least floor of all members; see the module's head.
    pub fn stable(&mut self, now_ms: u64) -> NTP64 {
        let mut stable = self.floor(now_ms);
        for node in self.members.keys().copied().collect::<Vec<_>>() {
            let Some(state) = self.members.get(&node) else { continue };
            let said_here = self.vector.of(state.member.origin).watermark >= state.reported.at;
            let counts = said_here && self.knows_all(&state.reported, now_ms);
            let floor = if counts { state.floor.max(state.reported.floor) } else { state.floor };
            let absent = self.is_absent(state, now_ms);
            if let Some(state) = self.members.get_mut(&node) {
                state.floor = floor;
            }
            if !absent {
                stable = stable.min(floor);
            }
        }
        stable
    }

    /// Whether a member's floor takes every other member into account that this node knows of: one it has not heard of may
    /// have written what this node has merged and the member has not.
    fn knows_all(&self, reported: &Floor, now_ms: u64) -> bool {
        let others =
            self.members.values().filter(|state| !state.member.follower && !self.is_absent(state, now_ms));
        std::iter::once(self.own.origin)
            .chain(others.map(|state| state.member.origin))
            .all(|origin| origin == reported.origin || reported.of.contains(&origin))
    }

    fn is_absent(&self, state: &MemberState, now_ms: u64) -> bool {
        now_ms.saturating_sub(state.seen_at_ms) > self.timing.absence_ms
    }

    /// Nodes with a ready link.
    pub fn linked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links.values().filter(|link| link.fault.is_none()).filter_map(Link::node)
    }

    // Sending.

    /// Appends what a link has to say next: control frames, a heartbeat when due, and up to about [`BURST_BYTES`] of
    /// batches. Nothing means: wait to be woken.
    pub fn poll(&mut self, id: LinkId, now_ms: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let Some(link) = self.links.get_mut(&id) else { return };
        while let Some(frame) = link.control.pop_front() {
            frame::write(&frame, &[], out);
        }
        let Some(peer) = link.peer.clone() else { return };
        if link.heartbeat_at_ms + self.timing.heartbeat_ms <= now_ms {
            link.heartbeat_at_ms = now_ms;
            let heartbeat = self.own_heartbeat(now_ms);
            frame::write(&Frame::Heartbeat(heartbeat), &[], out);
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
            let after = link.vector.of(origin).sequence.max(link.sent.get(&origin).copied().unwrap_or(0));
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
        if gap && link.gap_told_ms.is_none_or(|told| told + GAP_REPEAT_MS <= now_ms) {
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
            || !link.requests.is_empty()
            || self.vector.iter().any(|(origin, progress)| {
                let after = link.vector.of(origin).sequence.max(link.sent.get(&origin).copied().unwrap_or(0));
                after < progress.sequence
                    && origin != peer.origin
                    && !self.arrives_by_itself(link, origin)
                    && self.backlog.has(origin, after + 1)
            })
    }

    fn own_heartbeat(&self, now_ms: u64) -> Heartbeat {
        let own = Floor {
            origin: self.own.origin,
            floor: self.floor(now_ms),
            at: self.vector.of(self.own.origin).watermark,
            of: self.members.values().map(|state| state.member.origin).collect(),
        };
        let others = self.members.values().map(|state| state.reported.clone());
        Heartbeat {
            vector: self.vector.clone(),
            floors: std::iter::once(own).chain(others).collect(),
            linked: self.linked().collect(),
            syncing: self.is_syncing(),
        }
    }

    /// Whether a peer gets an origin's batches from the origin itself.
    fn arrives_by_itself(&self, link: &Link, origin: Origin) -> bool {
        origin != self.own.origin
            && link.linked.contains(&origin.node())
            && self.members.get(&origin.node()).is_some_and(|state| state.member.origin == origin)
    }

    // Pulling.

    /// Whether this node is taking over ranges that differ, and may answer with old data.
    pub fn is_syncing(&self) -> bool {
        self.pull.as_ref().is_some_and(|pull| pull.total > 0)
    }

    /// Has every peer's ranges compared with those here, one peer after the other. Returns how many.
    pub fn ask_to_pull_from_all(&mut self) -> usize {
        let ready = self.links.values_mut().filter(|link| link.peer.is_some() && link.fault.is_none());
        ready.map(|link| link.wants_pull = true).count()
    }

    /// The link to pull from next, by [`Self::begin_pull`]: one that was asked for, or a quiet one whose last
    /// comparison is long ago.
    pub fn pull_due(&mut self, now_ms: u64) -> Option<LinkId> {
        if self.pull.is_some() {
            return None;
        }
        let vector = &self.vector;
        let due = self.links.iter_mut().find(|(_, link)| {
            let quiet = link.compared_at_ms + COMPARE_MS <= now_ms && link.holds_all_of(vector);
            link.peer.is_some() && link.fault.is_none() && !link.skewed && (link.wants_pull || quiet)
        });
        due.map(|(id, link)| {
            link.wants_pull = false;
            link.compared_at_ms = now_ms;
            *id
        })
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
    fn abandon_pull(&mut self) {
        for id in self.pull.take().into_iter().flat_map(|pull| pull.owed) {
            if let Some(link) = self.links.get_mut(&id) {
                link.fault.get_or_insert(Fault::PullLost);
            }
        }
    }

    /// Notes that a segment was taken which this node's vector may not tell of.
    pub fn taken(&mut self, id: LinkId, origin: Origin, last: u64) {
        if origin != self.own.origin
            && self.vector.of(origin).sequence < last
            && let Some(pull) = &mut self.pull
        {
            pull.owed.insert(id);
        }
    }

    /// Begins to pull from a peer, telling it the digests of what is here.
    pub fn begin_pull(&mut self, id: LinkId, digests: Vec<(u16, u64)>, now_ms: u64) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.peer.is_some()) else { return };
        link.control.push_back(Frame::PullBegin(digests));
        link.answers_due += 1;
        self.pull = Some(Pull {
            link: id,
            vector: None,
            shadow: Vector::default(),
            owed: BTreeSet::new(),
            todo: VecDeque::new(),
            asked: 0,
            total: 0,
            done: 0,
            started_at_ms: now_ms,
            bytes: 0,
            shown_percent: 0,
        });
    }

    /// A peer begins to pull from this node: it is told what differs, and gets what is new from here on.
    pub fn give(&mut self, id: LinkId, ranges: Vec<u16>, graves: Vec<u16>, globals: frame::Globals) {
        let vector = self.vector.clone();
        let Some(link) = self.links.get_mut(&id) else { return };
        self.pulls_given += u64::from(!ranges.is_empty());
        link.requests.clear();
        link.giving = true;
        for (origin, progress) in vector.iter() {
            let sent = link.sent.entry(origin).or_default();
            *sent = (*sent).max(progress.sequence);
        }
        link.control.push_back(Frame::Differs { vector, ranges, graves, globals });
    }

    /// The giver's answer. Returns whether it belongs to the pull under way.
    pub fn differs(&mut self, id: LinkId, vector: Vector, ranges: &[u16], graves: &[u16]) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        link.answers_due = link.answers_due.saturating_sub(1);
        let is_last = link.answers_due == 0;
        let awaits = |pull: &&mut Pull| pull.link == id && pull.vector.is_none() && is_last;
        let Some(pull) = self.pull.as_mut().filter(awaits) else { return false };
        pull.shadow = vector.clone();
        pull.vector = Some(vector);
        pull.todo = ranges.iter().map(|range| (*range, Cursor::default(), false)).collect();
        pull.todo.extend(graves.iter().map(|range| (*range, Cursor::default(), true)));
        pull.total = pull.todo.len();
        let started_at_ms = pull.started_at_ms;
        if let Some(link) = self.links.get_mut(&id) {
            link.differing_ranges = ranges.len();
            link.compared_at_ms = started_at_ms;
            if ranges.is_empty() {
                link.verified_at_ms = started_at_ms;
            }
        }
        if ranges.is_empty() {
            // Only a comparison: nothing to tell.
        } else if let Some(node) = self.links.get(&id).and_then(Link::node) {
            self.events.push(Event::PullStarted(node, ranges.len()));
        }
        self.ask_for_more();
        true
    }

    /// A piece of a range was merged. Adopts the giver's vector with the last one.
    pub fn pulled(&mut self, id: LinkId, range: u16, to: Option<Cursor>, graves: bool, bytes: usize) {
        let Some(pull) = self.pull.as_mut().filter(|pull| pull.link == id) else { return };
        pull.asked = pull.asked.saturating_sub(1);
        pull.bytes += bytes as u64;
        if self.faults.contains(Faults::EARLY_VECTOR) {
            self.vector.join(&pull.shadow);
        }
        match to {
            Some(cursor) => pull.todo.push_front((range, cursor, graves)),
            None => pull.done += 1,
        }
        let percent = pull.done * 100 / pull.total.max(1);
        if percent >= pull.shown_percent + 10 {
            pull.shown_percent = percent;
            if let Some(node) = self.links.get(&id).and_then(Link::node) {
                self.events.push(Event::PullProgress(node, pull.done, pull.total));
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
            link.control.push_back(Frame::Pull { range, from, graves });
        }
        if pull.asked == 0 {
            let node = link.node();
            // The peer may now be told at once what is here.
            link.heartbeat_at_ms = 0;
            if let Some(pull) = self.pull.take() {
                self.vector.join(&pull.shadow);
                let told = node.filter(|_| pull.bytes > 0);
                self.events.extend(told.map(Event::PullDone));
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
        link.requests.push_back((range, from, graves));
        Ok(())
    }

    /// The next piece a peer waits for.
    pub fn next_request(&mut self, id: LinkId) -> Option<(u16, Cursor, bool)> {
        self.links.get_mut(&id)?.requests.pop_front()
    }
}

impl Link {
    /// Whether the peer has exactly what this node has, as far as it said.
    fn holds_all_of(&self, vector: &Vector) -> bool {
        let sequences = |vector: &Vector| -> Vec<(Origin, u64)> {
            vector
                .iter()
                .map(|(origin, progress)| (origin, progress.sequence))
                .filter(|(_, n)| *n > 0)
                .collect()
        };
        sequences(&self.vector) == sequences(vector)
    }

    /// The node at the other end, once it said Hello.
    pub fn node(&self) -> Option<NodeId> {
        self.peer.as_ref().map(|peer| peer.origin.node())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing =
        Timing { heartbeat_ms: 100, timeout_ms: 2000, absence_ms: 60_000, backlog_ms: Some(5000) };

    fn member(node: u64) -> Member {
        let origin = Origin::new(NodeId::new(node << 24), 1);
        Member { origin, host: format!("n{node}"), port: 7000, follower: false }
    }

    fn hello(node: u64) -> Hello {
        let (vector, members, registers) = (Vector::default(), Vec::new(), Vec::new());
        Hello { version: VERSION, sender: member(node), vector, members, registers }
    }

    fn vector(progress: &[(u64, u64, u64)]) -> Vector {
        let mut vector = Vector::default();
        for (node, sequence, watermark) in progress {
            let progress = Progress { sequence: *sequence, watermark: NTP64(*watermark) };
            vector.advance(member(*node).origin, progress);
        }
        vector
    }

    fn segment(first: u64, count: u64) -> Segment {
        Segment { first, count, watermark: NTP64(first + count - 1), batches: vec![0; 8].into() }
    }

    /// Node 1, linked with nodes 2 and 3 by links of their numbers.
    fn linked() -> Mesh {
        let mut mesh = Mesh::new(member(1), TIMING, 1 << 20);
        for node in [2, 3] {
            mesh.open(node, None, format!("n{node}"), Vec::new(), 0);
            mesh.hello(node, hello(node), 0).unwrap();
        }
        mesh
    }

    /// Takes a segment as the engine does.
    fn take(mesh: &mut Mesh, id: LinkId, origin: Origin, first: u64, count: u64) {
        if let Verdict::Merge { skip } = mesh.judge(origin, first, count).unwrap() {
            mesh.merged(origin, segment(first + skip, count - skip));
        }
        mesh.taken(id, origin, first + count - 1);
    }

    #[test]
    fn the_backlog_outlives_the_last_link_by_its_time_only() {
        let mut mesh = linked();
        let own = mesh.own.origin;
        mesh.tick(1000);
        mesh.sequence(1, vec![0; 8], NTP64(1));
        mesh.tick(10_000);
        assert!(mesh.backlog().has(own, 1), "a link is there");
        let links: Vec<LinkId> = mesh.links().map(|(id, _)| id).collect();
        links.into_iter().for_each(|id| mesh.closed(id, Fault::Closed, 10_000));
        for now_ms in (10_000..=15_000).step_by(100) {
            mesh.tick(now_ms);
        }
        assert!(mesh.backlog().has(own, 1));
        mesh.tick(15_001);
        assert_eq!((mesh.backlog().has(own, 1), mesh.backlog().bytes()), (false, 0));
    }

    #[test]
    fn nothing_is_stable_before_a_configured_partner_was_met_or_given_up() {
        let mut mesh = Mesh::new(member(1), TIMING, 1 << 20);
        mesh.add_address(("n2".into(), 7000));
        mesh.sequence(1, vec![0; 8], NTP64(50));
        mesh.tick(1000);
        assert_eq!(mesh.stable(1000), NTP64(0));
        assert_eq!(mesh.stable(1000 + TIMING.absence_ms + 1), NTP64(50));
    }

    #[test]
    fn batches_passed_over_for_a_pull_are_asked_for_again_when_it_breaks_off() {
        let mut mesh = linked();
        let third = member(3).origin;
        take(&mut mesh, 3, third, 1, 2);
        mesh.begin_pull(2, Vec::new(), 0);
        assert!(mesh.differs(2, vector(&[(3, 5, 5)]), &[7], &[]));
        take(&mut mesh, 3, third, 3, 4);
        assert_eq!(
            mesh.vector().of(third).sequence,
            2,
            "batches 3 to 5 were not merged: the pull was to bring them"
        );
        mesh.closed(2, Fault::Closed, 0);
        assert_eq!(mesh.link(3).unwrap().fault, Some(Fault::PullLost));
    }

    #[test]
    fn a_pull_begun_anew_goes_by_the_last_answer() {
        let mut mesh = linked();
        mesh.begin_pull(2, Vec::new(), 0);
        assert!(mesh.told_of_gap(2));
        mesh.begin_pull(2, Vec::new(), 0);
        assert!(!mesh.differs(2, vector(&[(2, 4, 4)]), &[7], &[]));
        assert!(mesh.differs(2, vector(&[(2, 9, 9)]), &[7], &[]));
        mesh.pulled(2, 7, None, false, 0);
        assert_eq!(mesh.vector().of(member(2).origin).sequence, 9);
    }

    #[test]
    fn what_a_peer_has_of_a_life_that_ended_holds_the_floor_back() {
        let mut mesh = linked();
        mesh.sequence(1, vec![0; 8], NTP64(50));
        take(&mut mesh, 2, member(2).origin, 1, 40);
        take(&mut mesh, 3, member(3).origin, 1, 40);
        assert_eq!(mesh.floor(0), NTP64(40));
        let floors = Vec::new();
        let heartbeat =
            Heartbeat { vector: vector(&[(4, 1, 1)]), floors, linked: Vec::new(), syncing: false };
        mesh.heartbeat(2, heartbeat, NTP64(u64::MAX)).unwrap();
        assert_eq!(mesh.floor(0), NTP64(0), "node 4 is no member, but what it wrote is still to come");
    }

    #[test]
    fn progress_of_an_earlier_life_does_not_count_for_the_next() {
        let mut mesh = linked();
        let report = |origin| Heartbeat {
            vector: Vector::default(),
            floors: vec![Floor { origin, floor: NTP64(30), at: NTP64(0), of: Vec::new() }],
            linked: Vec::new(),
            syncing: false,
        };
        let second = Origin::new(member(2).origin.node(), 2);
        mesh.told_of(vec![Member { origin: second, ..member(2) }], 0);
        mesh.heartbeat(3, report(member(2).origin), NTP64(u64::MAX)).unwrap();
        assert_eq!(
            mesh.members().find(|state| state.member.origin == second).unwrap().reported.floor,
            NTP64(0)
        );
        mesh.heartbeat(3, report(second), NTP64(u64::MAX)).unwrap();
        assert_eq!(
            mesh.members().find(|state| state.member.origin == second).unwrap().reported.floor,
            NTP64(30)
        );
    }

    #[test]
    fn a_floor_that_leaves_out_a_member_does_not_count() {
        let mut mesh = linked();
        mesh.sequence(1, vec![0; 8], NTP64(50));
        take(&mut mesh, 2, member(2).origin, 1, 40);
        take(&mut mesh, 3, member(3).origin, 1, 40);
        let mut report = |node: u64, at: u64, of: &[u64]| {
            let of = of.iter().map(|node| member(*node).origin).collect();
            let floors = vec![Floor { origin: member(node).origin, floor: NTP64(30), at: NTP64(at), of }];
            let heartbeat =
                Heartbeat { vector: Vector::default(), floors, linked: Vec::new(), syncing: false };
            mesh.heartbeat(node, heartbeat, NTP64(u64::MAX)).unwrap();
            mesh.stable(0)
        };
        report(2, 20, &[1, 3]);
        assert_eq!(report(3, 20, &[2]), NTP64(0), "node 3 has not heard of this node");
        assert_eq!(report(3, 21, &[1, 2]), NTP64(30));
    }

    #[test]
    fn what_a_pull_brought_without_its_batches_is_a_gap_for_others() {
        let mut mesh = linked();
        let third = member(3).origin;
        take(&mut mesh, 3, third, 1, 2);
        mesh.begin_pull(2, Vec::new(), 0);
        assert!(mesh.differs(2, vector(&[(3, 5, 5)]), &[], &[]));
        // Node 2 lost the link to node 3, and lacks what the backlog does not hold.
        let heartbeat = Heartbeat {
            vector: vector(&[(3, 2, 2)]),
            floors: Vec::new(),
            linked: Vec::new(),
            syncing: false,
        };
        mesh.heartbeat(2, heartbeat, NTP64(u64::MAX)).unwrap();
        let mut out = Vec::new();
        mesh.poll(2, 0, &mut out);
        let mut frames = Vec::new();
        while let Some(length) = frame::length(&out, frame::FRAME_BYTES_MAX).unwrap() {
            frames.push(frame::read(&out[..length]).unwrap().0);
            out.drain(..length);
        }
        assert!(frames.contains(&Frame::Gap), "{frames:?}");
        assert!(!mesh.wants_to_send(2));
    }
}
