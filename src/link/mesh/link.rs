//! One link: what its peer has said, what was sent, and what is to be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::offset::Offset;
use super::{Address, Fault, Want};
use crate::clock::{NTP64, NodeId, Origin, unix_ms_from_ntp};
use crate::link::frame::{Cursor, Frame, Heartbeat, Member};
use crate::link::vector::Vector;

/// Most frames that wait to be sent on a link, batches and pieces aside. An honest peer reads the answers to its questions.
pub(super) const CONTROL_FRAMES_MAX: usize = 256;

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
    /// What it had when the link began, or when it had given the last range.
    pub(super) had: Vector,
    /// Ranges were pulled from it, which hold more than the vector told: its next heartbeat says what.
    pub(super) has_given: bool,
    /// Nodes the peer is linked with.
    pub(super) linked: BTreeSet<NodeId>,
    /// The peer is pulling ranges from somebody.
    pub syncing: bool,
    /// The peer said it is about to stop.
    pub leaving: bool,
    /// Last batch sent per origin.
    pub(super) sent: BTreeMap<Origin, u64>,
    /// What goes to the peer as ranges, or has gone, and is not sent as batches besides.
    pub(super) passed_over: Vector,
    pub(super) control: VecDeque<Frame>,
    /// A heartbeat of the peer's is wanted at once.
    pub(super) asks: bool,
    /// Pieces of ranges the peer has asked for.
    pub(super) requests: VecDeque<(u16, Cursor, bool)>,
    /// The peer pulls from this node: what the backlog lacks is on its way otherwise.
    pub(super) giving: bool,
    /// How many ranges it has begun to pull, and of how many.
    pub(super) given: (usize, usize),
    /// The digests of ranges that were equal when this node last said what differs, and held something collectable.
    pub(super) equal: BTreeMap<u16, u64>,
    /// Pulls begun here that the peer has not answered: only the answer to the last one counts, because what the peer sends
    /// goes on from there.
    pub(super) answers_due: usize,
    pub(super) gap_told_ms: Option<u64>,
    /// When the peer was last told again of members it does not take into account.
    pub(super) retold_ms: u64,
    /// When the last byte came.
    pub heard_at_ms: u64,
    pub(super) heartbeat_at_ms: u64,
    /// The newest time the peer has taken from others, as its last heartbeat on this link said.
    pub(super) taken: Option<NTP64>,
    pub(super) compared_at_ms: u64,
    /// Ranges are to be compared as soon as everything is sent.
    pub(super) compares: bool,
    /// The ranges a comparison under way is about.
    pub(super) asked: Option<Vec<u16>>,
    pub(super) wants_pull: Option<Want>,
    pub(super) offset: Offset,
    /// The next frame's stamps are ahead: nothing is taken until they are not.
    pub held: bool,
    /// Why it is to be closed.
    pub fault: Option<Fault>,
}

impl Link {
    /// A link over which nothing has come, with the Hello to be sent.
    pub(super) fn new(
        dialed: Option<Address>,
        seen_host: String,
        hello: Frame,
        fault: Option<Fault>,
        now_ms: u64,
    ) -> Self {
        Link {
            dialed,
            seen_host,
            peer: None,
            vector: Vector::default(),
            had: Vector::default(),
            has_given: false,
            linked: BTreeSet::new(),
            syncing: false,
            leaving: false,
            sent: BTreeMap::new(),
            passed_over: Vector::default(),
            control: VecDeque::from([hello]),
            asks: false,
            requests: VecDeque::new(),
            giving: false,
            given: (0, 0),
            equal: BTreeMap::new(),
            answers_due: 0,
            gap_told_ms: None,
            retold_ms: 0,
            heard_at_ms: now_ms,
            heartbeat_at_ms: now_ms,
            taken: None,
            compared_at_ms: now_ms,
            compares: false,
            asked: None,
            wants_pull: None,
            offset: Offset::default(),
            held: false,
            fault,
        }
    }

    /// Has a frame sent in its turn. A peer that asks without reading the answers is given up.
    pub(super) fn say(&mut self, frame: Frame) {
        if self.control.len() < CONTROL_FRAMES_MAX {
            self.control.push_back(frame);
        } else {
            self.fault.get_or_insert(Fault::Unexpected("questions whose answers are not read"));
        }
    }

    /// By how much the peer's stamps are ahead of this node's clock, if that was measured: its promise of its own clock, when
    /// it sent the heartbeat, and its clock of this one. However long the heartbeat has waited.
    pub(super) fn stamps_ahead_ms(&self, heartbeat: &Heartbeat) -> Option<u64> {
        let promised = self.peer.as_ref().map(|peer| heartbeat.vector.of(peer.origin).watermark)?;
        let promise_ahead_ms = unix_ms_from_ntp(promised).saturating_sub(heartbeat.sent_us / 1000);
        Some(promise_ahead_ms.saturating_add_signed(self.offset.ahead_us()? / 1000))
    }

    /// The last batch of an origin that the peer has, or that is on its way to it.
    pub(super) fn will_have(&self, origin: Origin) -> u64 {
        let sent = self.sent.get(&origin).copied().unwrap_or(0);
        sent.max(self.passed_over.of(origin).sequence).max(self.vector.of(origin).sequence)
    }

    /// The node at the other end, once it said Hello.
    pub fn node(&self) -> Option<NodeId> {
        self.peer.as_ref().map(|peer| peer.origin.node())
    }
}
