//! The backlog: batches kept for peers that may ask for them, up to a number of bytes.
//!
//! Batches lie in segments as they were sequenced or received, per origin without gap. When the limit is
//! reached the oldest segment of all goes; a peer that needs it pulls ranges instead.
//!
//! What is counted are the bytes of batches. A segment takes about 200 bytes besides: where each holds one small batch,
//! because clients wait for every reply, the memory taken is about four times the limit.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::batch::Batch;
use super::frame::Seen;
use crate::clock::{NTP64, Origin};

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
    /// Whose segment was added when, oldest first: the order of eviction.
    order: VecDeque<Origin>,
    bytes: usize,
    bytes_max: usize,
}

impl Backlog {
    /// A backlog of at most so many bytes of batches; the newest segment is kept whatever its size.
    pub fn new(bytes_max: usize) -> Self {
        Backlog { segments: BTreeMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
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
        let held = self.segments.entry(origin).or_default();
        if held.last().is_some_and(|last| last.last() + 1 != segment.first) {
            self.drop_origin(origin);
        }
        let held = self.segments.entry(origin).or_default();
        self.bytes += segment.batches.len();
        self.order.push_back(origin);
        held.segments.push_back((held.bytes_pushed(), segment));
        self.evict();
    }

    /// Drops what is held of an origin.
    pub fn drop_origin(&mut self, origin: Origin) {
        let dropped = self.segments.remove(&origin).unwrap_or_default();
        self.bytes -= dropped.segments.iter().map(|(_, segment)| segment.batches.len()).sum::<usize>();
        self.order.retain(|of| *of != origin);
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

    /// The segments of an origin that hold batches behind number `after`, oldest first.
    pub fn after(&self, origin: Origin, after: u64) -> impl Iterator<Item = &Segment> {
        let held = self.segments.get(&origin).into_iter();
        held.flat_map(move |held| held.segments.range(held.from(after)..)).map(|(_, segment)| segment)
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
        while self.bytes > self.bytes_max && self.order.len() > 1 {
            let Some(origin) = self.order.pop_front() else { return };
            let held = self.segments.get_mut(&origin);
            if let Some((_, segment)) = held.and_then(|held| held.segments.pop_front()) {
                self.bytes -= segment.batches.len();
            }
        }
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
        backlog.push(origin, segment(50, 1, 500));
        assert_eq!((backlog.first(origin), backlog.bytes()), (Some(50), 500));
    }
}
