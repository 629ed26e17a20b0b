//! Stamps and the hybrid logical clock that issues them.
//!
//! Owns the order of all writes: a [`Stamp`] is a physical time with a logical counter in its low bits, then
//! the [`Origin`] that wrote. Does not own a time source: the current time is an argument, so the same clock
//! runs in the simulator.
//!
//! Invariants: stamps of one clock strictly rise; a stamp issued after [`Clock::observe`]`(s)` is larger than `s`.
//!
//! The type of time is that of `uhlc`; its `HLC` is not used because it reads a global clock, forgets everything on
//! restart and refuses 500 ms of drift. Its ids take 16 bytes: a node and its life fit in 8. Reference: Kulkarni et al., "Logical Physical
//! Clocks" (2014).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
pub use uhlc::NTP64;

/// Low bits of a time that physical time never fills: room for 16 events per 3.7 ns.
const COUNTER_MASK: u64 = 0xF;

/// A node, for as long as its data directory exists. 40 random bits, never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(u64);

impl NodeId {
    /// A node id from random bits.
    pub fn new(random: u64) -> Self {
        NodeId((random >> 24).max(1))
    }

    /// The id as a plain number below 2^40.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let id = u64::from_str_radix(text, 16).ok()?;
        (id != 0 && id < 1 << 40).then_some(NodeId(id))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One life of a node: its id and its incarnation, which rises with every start that forgot something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin(u64);

impl Origin {
    /// The origin of no node, smaller than all others; marks instants that no node wrote.
    pub const NONE: Origin = Origin(0);
    /// Largest incarnation number.
    pub const INCARNATION_MAX: u32 = (1 << 24) - 1;

    /// The given life of a node; incarnations saturate at [`Self::INCARNATION_MAX`].
    pub fn new(node: NodeId, incarnation: u32) -> Self {
        Origin(node.0 << 24 | u64::from(incarnation.min(Self::INCARNATION_MAX)))
    }

    /// The node; of [`Self::NONE`] one whose id is zero, which no node has.
    pub fn node(self) -> NodeId {
        NodeId(self.0 >> 24)
    }

    /// Which life of the node.
    pub fn incarnation(self) -> u32 {
        (self.0 & u64::from(Self::INCARNATION_MAX)) as u32
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, incarnation) = text.split_once('.')?;
        let incarnation = incarnation.parse().ok().filter(|number| *number <= Self::INCARNATION_MAX)?;
        Some(Origin::new(NodeId::parse(node)?, incarnation))
    }

    /// All 64 bits.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.incarnation())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When and by whom something was written. Ordered by time, then origin; unique per command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Physical time with a logical counter in the low bits.
    pub time: NTP64,
    /// Who wrote.
    pub origin: Origin,
}

impl Stamp {
    /// Before every write.
    pub const NEVER: Stamp = Stamp { time: NTP64(0), origin: Origin::NONE };

    /// A stamp of the given parts.
    pub fn new(time: NTP64, origin: Origin) -> Self {
        Stamp { time, origin }
    }

    /// The instant of a wall-clock time: smaller than what any node writes at that very time.
    pub fn instant(unix_ms: u64) -> Self {
        Stamp { time: NTP64(ntp_from_unix_ms(unix_ms).0 & !COUNTER_MASK), origin: Origin::NONE }
    }

    /// The smallest value above this stamp.
    pub fn next(self) -> Self {
        match self.origin.0.checked_add(1) {
            Some(origin) => Stamp { time: self.time, origin: Origin(origin) },
            None => Stamp { time: NTP64(self.time.0 + 1), origin: Origin::NONE },
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.time.0, self.origin)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// NTP-style time of milliseconds since the Unix epoch; saturates in the year 2106.
pub fn ntp_from_unix_ms(ms: u64) -> NTP64 {
    let seconds = ms / 1000;
    if seconds > u64::from(u32::MAX) {
        return NTP64(!COUNTER_MASK);
    }
    NTP64((seconds << 32) | (((ms % 1000) << 32) / 1000))
}

/// Milliseconds since the Unix epoch of an NTP-style time, rounded down.
pub fn unix_ms_from_ntp(time: NTP64) -> u64 {
    (time.0 >> 32) * 1000 + (((time.0 & 0xFFFF_FFFF) * 1000) >> 32)
}

/// NTP-style time of nanoseconds since the Unix epoch.
pub fn ntp_from_unix_ns(ns: u128) -> NTP64 {
    let ns = narrowed(ns);
    let fraction = ((ns % 1_000_000_000) << 32) / 1_000_000_000;
    NTP64((ns / 1_000_000_000) << 32 | fraction)
}

/// Nanoseconds since the Unix epoch as one word, which lasts until 2554: dividing two would cost as much as reading the
/// clock.
pub fn narrowed(ns: u128) -> u64 {
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// The length of `ms` milliseconds in NTP units.
pub fn ntp_span_ms(ms: u64) -> u64 {
    ((u128::from(ms) << 32) / 1000).min(u128::from(u64::MAX)) as u64
}

/// A hybrid logical clock, shared by the threads of one node. One compare-and-swap per stamp.
#[derive(Debug)]
pub struct Clock {
    /// An [`Origin`]: read with every stamp, changed once in a life.
    origin: AtomicU64,
    /// The largest time issued or observed.
    last: AtomicU64,
}

impl Clock {
    /// A clock for one life of a node that never issues a time at or below `floor`.
    pub fn new(origin: Origin, floor: NTP64) -> Self {
        Clock { origin: AtomicU64::new(origin.0), last: AtomicU64::new(floor.0) }
    }

    /// Whose stamps this clock issues.
    pub fn origin(&self) -> Origin {
        Origin(self.origin.load(Ordering::Relaxed))
    }

    /// Issues the stamps of another life of the node from here on. Nothing may tick meanwhile.
    pub fn begin_life(&self, origin: Origin) {
        self.origin.store(origin.0, Ordering::SeqCst);
    }

    /// Issues the next stamp: the physical time `now`, or one above the last where that is not larger.
    pub fn tick(&self, now: NTP64) -> Stamp {
        self.tick_run(now, 1)
    }

    /// Issues as many stamps at once, at least one, that follow each other without gap. Returns the first.
    pub fn tick_run(&self, now: NTP64, count: u64) -> Stamp {
        let now = now.0 & !COUNTER_MASK;
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = now.max(last + 1);
            let end = next + (count.max(1) - 1);
            match self.last.compare_exchange_weak(last, end, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Stamp::new(NTP64(next), self.origin()),
                Err(seen) => last = seen,
            }
        }
    }

    /// Makes every later stamp larger than `time`.
    pub fn observe(&self, time: NTP64) {
        if time.0 > self.last.load(Ordering::Relaxed) {
            self.last.fetch_max(time.0, Ordering::SeqCst);
        }
    }

    /// Takes back every time above `last`, none of which anybody may have seen. Nothing may tick meanwhile.
    pub fn set_back(&self, last: NTP64) {
        self.last.store(last.0, Ordering::SeqCst);
    }

    /// The largest time issued or observed so far.
    pub fn last(&self) -> NTP64 {
        NTP64(self.last.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(n: u64) -> Origin {
        Origin::new(NodeId::new(n << 24), 1)
    }

    #[test]
    fn stamps_rise_when_time_stands_still_or_steps_back() {
        let clock = Clock::new(origin(1), NTP64(0));
        let mut last = clock.tick(ntp_from_unix_ms(5000));
        for ms in [5000, 5000, 4000, 1, 5001] {
            let stamp = clock.tick(ntp_from_unix_ms(ms));
            assert!(stamp > last, "{stamp} after {last}");
            last = stamp;
        }
    }

    #[test]
    fn a_stamp_after_observing_is_larger() {
        let clock = Clock::new(origin(1), NTP64(0));
        let seen = ntp_from_unix_ms(9000);
        clock.observe(seen);
        assert!(clock.tick(ntp_from_unix_ms(10)).time > seen);
    }

    #[test]
    fn what_follows_a_run_of_stamps_is_larger_than_all_of_them() {
        let clock = Clock::new(origin(1), NTP64(0));
        let now = ntp_from_unix_ms(5000);
        let first = clock.tick_run(now, 20);
        assert_eq!(first.time, now);
        assert_eq!(clock.tick(now).time, NTP64(now.0 + 20));
        assert_eq!(clock.tick_run(now, 0).time, NTP64(now.0 + 21));
    }

    #[test]
    fn ties_are_broken_by_origin() {
        let time = ntp_from_unix_ms(1);
        assert!(Stamp::new(time, origin(1)) < Stamp::new(time, origin(2)));
        assert!(Stamp::new(time, origin(1)).next() > Stamp::new(time, origin(1)));
        for ms in 0..1000 {
            let written = Clock::new(origin(1), NTP64(0)).tick(ntp_from_unix_ms(ms));
            assert!(Stamp::instant(ms) < written, "{ms}");
        }
    }

    #[test]
    fn milliseconds_survive_the_round_trip() {
        for ms in [0, 1, 999, 1000, 1_700_000_000_123, 4_000_000_000_999] {
            let there = unix_ms_from_ntp(ntp_from_unix_ms(ms));
            assert!(ms - there <= 1, "{ms} became {there}");
        }
    }

    #[test]
    fn identities_read_what_they_print() {
        let node = NodeId::new(0x1234_5678_9abc_def0);
        assert_eq!(NodeId::parse(&node.to_string()), Some(node));
        assert_eq!(Origin::new(node, 7).node(), node);
        assert_eq!(Origin::new(node, 7).incarnation(), 7);
        assert_eq!(NodeId::parse("0"), None);
        let origin = Origin::new(node, 7);
        assert_eq!(Origin::parse(&origin.to_string()), Some(origin));
        assert_eq!(Origin::parse("12.99999999"), None);
    }
}
