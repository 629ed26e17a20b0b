//! The members as operators see them: what each lacks, since when, and in what state its link is.

use super::{Address, Link, MemberState, Mesh};
use crate::clock::{NodeId, Origin, unix_ms_from_ntp};
use crate::link::vector::{Progress, Vector};

/// A member that lacks something for longer than this is not just in step.
const STREAMING_MS_MAX: u64 = 1000;

/// What a member is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// It gets what is written as it is written.
    Streaming,
    /// It is linked, and gets what it missed.
    CatchingUp,
    /// Ranges are under way, so many percent of them are through.
    Resync(usize),
    /// Its stamps are ahead of this node's clock: its changes are held.
    ClockSkew,
    /// There is no link to it.
    Absent,
    /// There is no link to it, for this reason, which somebody has to see to.
    Refused(String),
}

impl State {
    /// Its name in INFO.
    pub fn name(&self) -> &'static str {
        match self {
            State::Streaming => "streaming",
            State::CatchingUp => "catching_up",
            State::Resync(_) => "resync",
            State::ClockSkew => "clock_skew",
            State::Absent => "absent",
            State::Refused(_) => "refused",
        }
    }
}

/// A member, or an address that is configured and has never answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartnerView {
    /// Its latest life; `None` if it was never met.
    pub origin: Option<Origin>,
    /// Where it is.
    pub address: Address,
    /// What it is doing.
    pub state: State,
    /// When all ranges were last found equal, in Unix milliseconds; zero for never.
    pub verified_at_ms: u64,
    /// Ranges known to differ; during a resync those that are pulled.
    pub differing_ranges: usize,
    /// Keys that repairs have changed here.
    pub repaired_keys: u64,
    /// Age of the oldest change that it lacks.
    pub lag_ms: u64,
    /// Bytes of the backlog that it lacks.
    pub backlog_bytes: u64,
    /// By how much its clock is ahead of this node's; `None` if it was not measured.
    pub clock_offset_ms: Option<i64>,
}

impl Mesh {
    /// All members, and the configured addresses where none was found.
    pub fn partners(&self, now_ms: u64) -> Vec<PartnerView> {
        let met = self.members.values().map(|state| self.view(state, now_ms));
        let unmet = self.dials.iter().filter(|(address, dial)| {
            let is_members = self.members.values().any(|state| state.member.address() == **address);
            let is_met = dial.node.is_some_and(|node| self.members.contains_key(&node));
            dial.configured && !dial.own && !is_members && !is_met
        });
        let unmet = unmet.map(|(address, dial)| PartnerView {
            origin: None,
            address: address.clone(),
            state: dial.refusal.clone().map_or(State::Absent, State::Refused),
            verified_at_ms: 0,
            differing_ranges: 0,
            repaired_keys: 0,
            lag_ms: self.lag_ms(None, &Vector::default(), now_ms),
            backlog_bytes: self.lacked_bytes(None, &Vector::default()),
            clock_offset_ms: None,
        });
        met.chain(unmet).collect()
    }

    fn view(&self, state: &MemberState, now_ms: u64) -> PartnerView {
        let node = state.member.origin.node();
        let link = self.link_to(node);
        let lag_ms = self.lag_ms(Some(node), &state.told, now_ms);
        let pull = self.pull.as_ref().filter(|pull| link.is_some_and(|(id, _)| id == pull.link));
        PartnerView {
            origin: Some(state.member.origin),
            address: state.member.address(),
            state: match link {
                None => self.absence(state),
                Some(_) if state.skewed => State::ClockSkew,
                Some((_, link)) => match (pull.filter(|_| self.is_syncing()), link.giving && link.syncing) {
                    (Some(pull), _) => State::Resync(pull.done * 100 / pull.total.max(1)),
                    (None, true) => State::Resync(link.given.0.saturating_sub(1) * 100 / link.given.1.max(1)),
                    (None, false) if self.is_behind(link) || lag_ms > STREAMING_MS_MAX => State::CatchingUp,
                    (None, false) => State::Streaming,
                },
            },
            verified_at_ms: state.proof.verified_at_ms,
            differing_ranges: match pull {
                Some(pull) => pull.total - pull.done,
                None => state.proof.differing.len(),
            },
            repaired_keys: state.proof.repaired_keys,
            lag_ms,
            backlog_bytes: self.lacked_bytes(Some(node), &state.told),
            clock_offset_ms: link.and_then(|(_, link)| clock_offset_ms(link)),
        }
    }

    fn absence(&self, state: &MemberState) -> State {
        let refusal = |address: &Address| self.dials.get(address)?.refusal.clone();
        refusal(&state.member.address()).map_or(State::Absent, State::Refused)
    }

    /// What a member lacks that told this vector: whose batches, and up to where it has them. It has its own.
    fn lacked(&self, by: Option<NodeId>, told: &Vector) -> impl Iterator<Item = (Origin, Progress)> {
        let others = self.vector.iter().filter(move |(origin, _)| Some(origin.node()) != by);
        others.filter_map(move |(origin, here)| {
            let there = told.of(origin);
            (here.sequence > there.sequence).then_some((origin, there))
        })
    }

    /// Age of the oldest change that it lacks.
    fn lag_ms(&self, by: Option<NodeId>, told: &Vector, now_ms: u64) -> u64 {
        let times = self.lacked(by, told).map(|(origin, there)| {
            match self.backlog.batches_after(origin, there.sequence).next() {
                Some((number, batch)) if number == there.sequence + 1 => batch.time,
                _ => there.watermark,
            }
        });
        let began_at_ms = self.began_at_ms.unwrap_or(now_ms);
        times.min().map_or(0, |time| now_ms.saturating_sub(unix_ms_from_ntp(time).max(began_at_ms)))
    }

    fn lacked_bytes(&self, by: Option<NodeId>, told: &Vector) -> u64 {
        self.lacked(by, told).map(|(origin, there)| self.backlog.bytes_after(origin, there.sequence)).sum()
    }
}

fn clock_offset_ms(link: &Link) -> Option<i64> {
    link.offset.ahead_us().map(|us| us / 1000)
}
