//! The backlog: batches kept for peers and for readers of effects that may ask for them, up to a number of bytes.
//!
//! Batches lie in segments as they were sequenced or received, per origin without gap. When the limit is
//! reached the oldest segment of all goes; a peer that needs it pulls ranges instead. In a pair only readers ask for what
//! the partner wrote: that is *spare*, and goes before a batch that the partner lacks. So what is kept for readers makes
//! nobody pull.
//!
//! The limit is one of memory: where clients wait for every reply a segment holds one small batch, and what it takes besides
//! is most of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::batch::Batch;
use super::frame::Seen;
use crate::clock::{NTP64, Origin};

/// What a segment takes in memory besides its batches, about: itself, its place in the order, and two allocations.
const SEGMENT_BYTES: usize = 256;
/// So much segments may take besides their batches, whatever the limit.
const SEGMENTS_BYTES_MIN: usize = 1 << 20;

/// Consecutive batches of one origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The number of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The origin's promise behind the last.
    pub watermark: NTP64,
    /// What the origin had merged of others when it wrote them.
    pub seen: Seen,
    /// The batches.
    pub batches: Bytes,
}

impl Segment {
    /// The number of the last batch.
    pub fn last(&self) -> u64 {
        self.first + self.count - 1
    }
}

/// What is held of one origin.
#[derive(Debug, Default)]
struct Held {
    /// Each with the bytes of all that were pushed before it.
    segments: VecDeque<(u64, Segment)>,
    /// The last batch that went because of the limit.
    evicted: u64,
}

impl Held {
    fn bytes_pushed(&self) -> u64 {
        self.segments.back().map_or(0, |(before, last)| before + last.batches.len() as u64)
    }

    fn first(&self) -> Option<&Segment> {
        self.segments.front().map(|(_, segment)| segment)
    }

    fn last(&self) -> Option<&Segment> {
        self.segments.back().map(|(_, segment)| segment)
    }

    /// Where the segments begin that hold batches behind number `after`.
    fn from(&self, after: u64) -> usize {
        self.segments.partition_point(|(_, segment)| segment.last() <= after)
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Backlog {
    segments: BTreeMap<Origin, Held>,
    /// Whose segment was added when, oldest first: those that peers may ask for, and those that only readers may.
    order: VecDeque<(u64, Origin)>,
    spare: VecDeque<(u64, Origin)>,
    /// Segments added so far.
    pushed: u64,
    /// Up to which batch of this node every peer has all.
    had: Option<(Origin, u64)>,
    bytes: usize,
    bytes_max: usize,
}

impl Backlog {
    /// A backlog that takes about so many bytes, at least one mebibyte of them for what segments take besides their batches;
    /// the last segment is kept whatever its size.
    pub fn new(bytes_max: usize) -> Self {
        Backlog {
            segments: BTreeMap::new(),
            order: VecDeque::new(),
            spare: VecDeque::new(),
            pushed: 0,
            had: None,
            bytes: 0,
            bytes_max,
        }
    }

    /// Changes the limit.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.evict();
    }

    /// Bytes of batches held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a segment behind the others of its origin. One that leaves a gap replaces what was there.
    pub fn push(&mut self, origin: Origin, segment: Segment) {
        self.order.push_back((self.pushed, origin));
        self.add(origin, segment);
    }

    /// Likewise, one that no peer will ask for.
    pub fn push_spare(&mut self, origin: Origin, segment: Segment) {
        self.spare.push_back((self.pushed, origin));
        self.add(origin, segment);
    }

    /// Every peer has this node's batches up to this one.
    pub fn peers_have(&mut self, own: Origin, number: u64) {
        self.had = Some((own, number));
    }

    fn add(&mut self, origin: Origin, segment: Segment) {
        let held = self.segments.entry(origin).or_default();
        if held.last().is_some_and(|last| last.last() + 1 != segment.first) {
            let added = self.pushed;
            self.drop_segments(origin, |at| at != added);
        }
        self.pushed += 1;
        let held = self.segments.entry(origin).or_default();
        self.bytes += segment.batches.len();
        held.segments.push_back((held.bytes_pushed(), segment));
        self.evict();
    }

    /// Drops what is held of an origin.
    pub fn drop_origin(&mut self, origin: Origin) {
        self.drop_segments(origin, |_| true);
    }

    fn drop_segments(&mut self, origin: Origin, is_dropped: impl Fn(u64) -> bool) {
        let dropped = self.segments.remove(&origin).unwrap_or_default();
        self.bytes -= dropped.segments.iter().map(|(_, segment)| segment.batches.len()).sum::<usize>();
        for queue in [&mut self.order, &mut self.spare] {
            queue.retain(|(at, of)| *of != origin || !is_dropped(*at));
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// The number of the oldest batch held of an origin.
    pub fn first(&self, origin: Origin) -> Option<u64> {
        self.segments.get(&origin)?.first().map(|segment| segment.first)
    }

    /// Whether a batch of an origin is held. One that is known may be missing at either end: a pull brings data
    /// without its batches.
    pub fn has(&self, origin: Origin, number: u64) -> bool {
        let Some(held) = self.segments.get(&origin) else { return false };
        let (first, last) = (held.first().map(|segment| segment.first), held.last().map(Segment::last));
        first.is_some_and(|first| first <= number) && last.is_some_and(|last| last >= number)
    }

    /// Whether a batch of an origin was held until the limit was reached.
    pub fn has_evicted(&self, origin: Origin, number: u64) -> bool {
        self.segments.get(&origin).is_some_and(|held| number <= held.evicted)
    }

    /// The segments of an origin that hold batches behind number `after`, oldest first.
    pub fn after(&self, origin: Origin, after: u64) -> impl Iterator<Item = &Segment> {
        let held = self.segments.get(&origin).into_iter();
        held.flat_map(move |held| held.segments.range(held.from(after)..)).map(|(_, segment)| segment)
    }

    /// The newest segment of an origin.
    pub fn last(&self, origin: Origin) -> Option<&Segment> {
        self.segments.get(&origin)?.last()
    }

    /// Bytes of the segments that [`Self::after`] tells of.
    pub fn bytes_after(&self, origin: Origin, after: u64) -> u64 {
        let Some(held) = self.segments.get(&origin) else { return 0 };
        held.segments.get(held.from(after)).map_or(0, |(before, _)| held.bytes_pushed() - before)
    }

    /// The batches of an origin behind number `after` with their numbers, oldest first.
    pub fn batches_after(&self, origin: Origin, after: u64) -> impl Iterator<Item = (u64, Batch<'_>)> {
        let batches = self.after(origin, after).flat_map(|segment| {
            let mut rest = &segment.batches[..];
            let numbers = segment.first..;
            numbers.map_while(move |number| {
                // They were read before they were kept.
                let (batch, behind) = Batch::split(rest).ok()??;
                rest = behind;
                Some((number, batch))
            })
        });
        batches.filter(move |(number, _)| *number > after)
    }

    fn evict(&mut self) {
        while self.is_over() {
            let queue = if self.spare_goes_first() { &mut self.spare } else { &mut self.order };
            let Some((_, origin)) = queue.pop_front() else { return };
            let Some(held) = self.segments.get_mut(&origin) else { continue };
            if let Some((_, segment)) = held.segments.pop_front() {
                self.bytes -= segment.batches.len();
                held.evicted = segment.last();
            }
        }
    }

    fn is_over(&self) -> bool {
        let segments = self.order.len() + self.spare.len();
        let held = self.bytes + segments * SEGMENT_BYTES;
        segments > 1 && (self.bytes > self.bytes_max || held > self.bytes_max.max(SEGMENTS_BYTES_MIN))
    }

    fn spare_goes_first(&self) -> bool {
        match (self.order.front(), self.spare.front()) {
            (Some((at, origin)), Some((spare_at, _))) => spare_at < at || self.is_oldest_lacked(*origin),
            (oldest, _) => oldest.is_none(),
        }
    }

    /// Whether a peer may lack something of the oldest segment of an origin.
    fn is_oldest_lacked(&self, origin: Origin) -> bool {
        let Some((own, number)) = self.had.filter(|(own, _)| *own == origin) else { return true };
        let oldest = self.segments.get(&own).and_then(Held::first);
        oldest.is_some_and(|segment| segment.last() > number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NodeId;

    fn segment(first: u64, count: u64, bytes: usize) -> Segment {
        Segment {
            first,
            count,
            watermark: NTP64(first),
            seen: Seen::new(),
            batches: Bytes::from(vec![0; bytes]),
        }
    }

    #[test]
    fn the_oldest_goes_when_it_is_full_and_a_gap_starts_anew() {
        let origin = Origin::new(NodeId::new(1 << 24), 1);
        let mut backlog = Backlog::new(100);
        for n in 0..10 {
            backlog.push(origin, segment(1 + 2 * n, 2, 40));
        }
        assert_eq!(backlog.first(origin), Some(17));
        assert_eq!([16, 17, 20, 21].map(|number| backlog.has(origin, number)), [false, true, true, false]);
        assert_eq!(backlog.bytes(), 80);
        assert_eq!([0, 17, 18, 20].map(|after| backlog.bytes_after(origin, after)), [80, 80, 40, 0]);
        assert_eq!(backlog.after(origin, 17).map(|segment| segment.first).collect::<Vec<_>>(), [17, 19]);
        assert_eq!(backlog.after(origin, 18).map(|segment| segment.first).collect::<Vec<_>>(), [19]);
        assert_eq!([16, 17].map(|number| backlog.has_evicted(origin, number)), [true, false]);
        backlog.push(origin, segment(50, 1, 500));
        assert_eq!((backlog.first(origin), backlog.bytes()), (Some(50), 500));
        assert!(!backlog.has_evicted(origin, 49), "what was never there did not go because of the limit");
    }

    #[test]
    fn segments_of_small_batches_count_with_what_they_take_in_memory() {
        let origin = Origin::new(NodeId::new(1 << 24), 1);
        for (bytes_max, held) in [(4 << 20, (4 << 20) / (SEGMENT_BYTES + 64)), (100_000, 100_000 / 64)] {
            let mut backlog = Backlog::new(bytes_max);
            (1..=50_000).for_each(|number| backlog.push(origin, segment(number, 1, 64)));
            assert_eq!(backlog.first(origin), Some(50_001 - held as u64));
        }
    }

    #[test]
    fn what_only_readers_want_goes_before_what_a_peer_lacks_and_else_in_its_turn() {
        let [own, partner] = [1, 2].map(|node| Origin::new(NodeId::new(node << 24), 1));
        let mut backlog = Backlog::new(100);
        backlog.push(own, segment(1, 1, 30));
        backlog.push_spare(partner, segment(1, 1, 30));
        backlog.push(own, segment(2, 1, 30));
        backlog.push_spare(partner, segment(2, 1, 30));
        assert_eq!(
            (backlog.first(own), backlog.first(partner)),
            (Some(1), Some(2)),
            "nothing is known of peers"
        );
        backlog.peers_have(own, 1);
        backlog.push_spare(partner, segment(3, 1, 30));
        assert_eq!((backlog.first(own), backlog.first(partner)), (Some(2), Some(2)), "the oldest of all");
        (3..=5).for_each(|number| backlog.push(own, segment(number, 1, 30)));
        assert_eq!((backlog.first(own), backlog.first(partner)), (Some(3), None), "no spare is left");
        backlog.push_spare(partner, segment(4, 1, 30));
        assert_eq!((backlog.first(own), backlog.first(partner), backlog.bytes()), (Some(3), None, 90));
        assert!(backlog.has_evicted(partner, 4));
        backlog.peers_have(own, 5);
        backlog.push_spare(partner, segment(6, 1, 30));
        assert_eq!((backlog.first(own), backlog.first(partner), backlog.bytes()), (Some(4), Some(6), 90));
        backlog.drop_origin(own);
        backlog.push(own, segment(9, 1, 80));
        assert_eq!((backlog.first(own), backlog.first(partner), backlog.bytes()), (Some(9), None, 80));
    }
}
