//! Batches: what one command, transaction or script wrote, as bytes. Atomic wherever they are applied.
//!
//! ```text
//! offset  size  meaning
//! 0       4     length of what follows the header, little-endian
//! 4       8     time of the batch's first stamp: batches of an origin are sequenced in this order
//! 12      len   records, one behind the other, each a [`Record`] in the codec's form
//! ```
//! Sequence numbers are not in the bytes: a segment says the number of its first batch, and batches count up.
//!
//! `SET k v` in keyspace 0 at time 9:
//!
//! ```text
//! 0a 00 00 00              ten bytes of records
//! 09 00 00 00 00 00 00 00  time 9
//! 00  09                   Time: 9
//! 02  00  01 6b            Key: keyspace 0, one byte "k"
//! 03  01  01 76            Change: Assign, one byte "v"
//! ```

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::codec::{self, Malformed};
use crate::clock::{NTP64, NodeId, Origin, Stamp};
use crate::store::delta::{Amount, Change, raw_bytes};
use crate::store::shard::KeyHash;

/// Bytes before the records.
pub const HEADER_BYTES: usize = 12;
/// Most bytes of one batch.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// One step of a batch. A stamp and a key hold for the changes behind them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Record<'a> {
    /// The time of the following changes, by the batch's origin.
    Time(NTP64),
    /// The stamp of the following changes, of another origin or an instant.
    Stamp(Stamp),
    /// The keyspace and key of the following changes.
    Key(u32, #[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// What happens to the key.
    #[serde(borrow)]
    Change(Change<'a>),
    /// A keyspace is cleared.
    Flush(u32),
    /// Two databases change places.
    Swap(u32, u32),
    /// A cluster-wide register takes a value.
    Register(Register, #[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// A message for the subscribers of a channel.
    Publish(#[serde(borrow, with = "raw_bytes")] &'a [u8], #[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// A message for the subscribers of a shard channel.
    ShardPublish(
        #[serde(borrow, with = "raw_bytes")] &'a [u8],
        #[serde(borrow, with = "raw_bytes")] &'a [u8],
    ),
    /// By what the sum before has grown: for whoever reads what was written, not for merging.
    Amount(Amount),
}

/// The cluster-wide registers: one value for all nodes, the latest stamp wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Register {
    /// The IP allowlist, one block per line.
    Allowlist,
    /// The node that owns the slots in the eyes of cluster clients.
    Owner,
    /// A node that is not to come back under its identity.
    Forgotten(NodeId),
}

/// Writes one batch at the end of a buffer.
#[derive(Debug)]
pub struct BatchWriter {
    start: usize,
    origin: Origin,
    stamp: Option<Stamp>,
    key: Option<(u32, SmallVec<[u8; 32]>)>,
}

impl BatchWriter {
    /// Begins a batch of an origin.
    pub fn begin(origin: Origin, out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        BatchWriter { start, origin, stamp: None, key: None }
    }

    /// Adds a change of a key.
    pub fn change(&mut self, space: u32, key: &[u8], stamp: Stamp, change: &Change<'_>, out: &mut Vec<u8>) {
        self.stamp(stamp, out);
        match &mut self.key {
            Some((held_space, held)) if *held_space == space && held.as_slice() == key => {}
            Some((held_space, held)) => {
                *held_space = space;
                held.clear();
                held.extend_from_slice(key);
                codec::encode(&Record::Key(space, key), out);
            }
            None => {
                self.key = Some((space, SmallVec::from_slice(key)));
                codec::encode(&Record::Key(space, key), out);
            }
        }
        codec::encode(&ChangeRecord::Change(change), out);
    }

    /// Adds a record that is not about a key.
    pub fn record(&mut self, stamp: Stamp, record: &Record<'_>, out: &mut Vec<u8>) {
        self.stamp(stamp, out);
        codec::encode(record, out);
    }

    /// Ends the batch whose first stamp is `time`; an empty one leaves nothing behind. Returns whether it is there.
    pub fn finish(self, time: NTP64, out: &mut Vec<u8>) -> bool {
        let length = out.len() - self.start - HEADER_BYTES;
        if length == 0 {
            out.truncate(self.start);
            return false;
        }
        out[self.start..self.start + 4].copy_from_slice(&(length as u32).to_le_bytes());
        out[self.start + 4..self.start + HEADER_BYTES].copy_from_slice(&time.0.to_le_bytes());
        true
    }

    fn stamp(&mut self, stamp: Stamp, out: &mut Vec<u8>) {
        if self.stamp == Some(stamp) {
            return;
        }
        self.stamp = Some(stamp);
        if stamp.origin == self.origin {
            codec::encode(&Record::Time(stamp.time), out);
        } else {
            codec::encode(&Record::Stamp(stamp), out);
        }
    }
}

/// [`Record::Change`] by reference.
#[derive(Serialize)]
#[expect(dead_code, reason = "the variants before it only hold its number in the codec's form")]
enum ChangeRecord<'a> {
    Time,
    Stamp,
    Key,
    Change(&'a Change<'a>),
}

impl Record<'_> {
    /// Whether it is for subscribers.
    pub fn is_message(&self) -> bool {
        matches!(self, Record::Publish(..) | Record::ShardPublish(..))
    }

    /// The newest time it holds, those inside sums and positions included; zero if none.
    fn time(&self) -> NTP64 {
        match self {
            Record::Time(time) => *time,
            Record::Stamp(stamp) => stamp.time,
            Record::Change(change) => {
                let mut newest = NTP64(0);
                change.each_stamp(&mut |stamp| newest = newest.max(stamp.time));
                newest
            }
            Record::Key(..) | Record::Flush(_) | Record::Swap(..) | Record::Register(..) => NTP64(0),
            Record::Publish(..) | Record::ShardPublish(..) | Record::Amount(_) => NTP64(0),
        }
    }
}

/// The records of a batch, most of which are a time, a key and a change.
#[derive(Clone, PartialEq, Debug)]
pub struct Records<'a> {
    /// The time of the batch's first stamp.
    pub time: NTP64,
    /// The newest time in it.
    pub newest: NTP64,
    /// In order.
    pub list: SmallVec<[Record<'a>; 4]>,
}

impl Records<'_> {
    /// The ranges its keys lie in.
    pub fn ranges(&self) -> impl Iterator<Item = u16> + '_ {
        self.list.iter().filter_map(|record| match record {
            Record::Key(_, key) => Some(KeyHash::range_of(key) as u16),
            _ => None,
        })
    }
}

/// One batch of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch<'a> {
    /// The time of its first stamp.
    pub time: NTP64,
    records: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Splits the first batch off; `None` at the end.
    ///
    /// # Errors
    /// If the bytes end inside a batch.
    pub fn split(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Malformed> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let cut = || codec::malformed("a batch is cut off");
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(cut)?;
        let length = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
        let time = NTP64(u64::from_le_bytes(header[4..].try_into().expect("eight bytes")));
        let (records, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        Ok(Some((Batch { time, records }, rest)))
    }

    /// Reads the records one by one.
    ///
    /// # Errors
    /// If they are malformed.
    pub fn each(&self, mut each: impl FnMut(Record<'a>)) -> Result<(), Malformed> {
        let mut rest = self.records;
        while !rest.is_empty() {
            let (record, length) = codec::decode(rest)?;
            each(record);
            rest = &rest[length..];
        }
        Ok(())
    }

    /// Reads all records at once.
    ///
    /// # Errors
    /// If they are malformed.
    pub fn read(&self) -> Result<Records<'a>, Malformed> {
        let mut list = SmallVec::new();
        let mut newest = self.time;
        self.each(|record| {
            newest = newest.max(record.time());
            list.push(record);
        })?;
        Ok(Records { time: self.time, newest, list })
    }

    /// The newest time of a stamp in it, its own sums included.
    ///
    /// # Errors
    /// If the records are malformed.
    pub fn newest(&self) -> Result<NTP64, Malformed> {
        let mut newest = self.time;
        self.each(|record| newest = newest.max(record.time()))?;
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::frame::VERSION;
    use crate::number::long_double::LongDouble;
    use crate::store::delta::{Added, Kind, Pos, Side};
    use crate::store::list::DEPTH_MAX;

    fn bytes_of(place: &Pos) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode(place, &mut bytes);
        bytes
    }

    #[test]
    fn the_bytes_of_a_batch_are_those_drawn() {
        let (origin, mut bytes) = (Origin::new(NodeId::new(1 << 24), 1), Vec::new());
        let mut writer = BatchWriter::begin(origin, &mut bytes);
        writer.change(0, b"k", Stamp::new(NTP64(9), origin), &Change::Assign(b"v"), &mut bytes);
        assert!(writer.finish(NTP64(9), &mut bytes));
        let header = [10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(bytes[..HEADER_BYTES], header);
        assert_eq!(bytes[HEADER_BYTES..], [0, 9, 2, 0, 1, b'k', 3, 1, 1, b'v']);
    }

    #[test]
    fn another_form_of_a_record_is_another_version() {
        let origin = Origin::new(NodeId::new(1 << 24), 2);
        let stamp = Stamp::new(NTP64(300), origin);
        let pos = || Pos::pushed(Side::Before, stamp, 1).beside(Side::After, stamp);
        let added = |amount| Added { origin, last: NTP64(301), since: stamp, amount };
        let records = [
            Record::Time(NTP64(302)),
            Record::Stamp(stamp),
            Record::Key(1, b"k"),
            Record::Change(Change::Clear),
            Record::Change(Change::Assign(b"v")),
            Record::Change(Change::Value(b"v")),
            Record::Change(Change::Sum(added(Amount::Int(-1)))),
            Record::Change(Change::Kind(Kind::Hash)),
            Record::Change(Change::Expire(Some(303), Kind::Zset)),
            Record::Change(Change::Field(b"f", b"v")),
            Record::Change(Change::FieldSum(b"f", added(Amount::Float(LongDouble::from_i64(2))))),
            Record::Change(Change::FieldRemove(b"f")),
            Record::Change(Change::Member(b"m")),
            Record::Change(Change::MemberRemove(b"m")),
            Record::Change(Change::Score(b"m", 1.5)),
            Record::Change(Change::ScoreSum(b"m", added(Amount::Score(2.5)))),
            Record::Change(Change::ScoreRemove(b"m")),
            Record::Change(Change::Item(pos(), b"i")),
            Record::Change(Change::ItemValue(pos(), b"i")),
            Record::Change(Change::ItemRemove(pos())),
            Record::Flush(2),
            Record::Swap(3, 4),
            Record::Register(Register::Allowlist, b"r"),
            Record::Register(Register::Owner, b"r"),
            Record::Register(Register::Forgotten(origin.node()), b""),
            Record::Publish(b"c", b"p"),
            Record::ShardPublish(b"c", b"p"),
            Record::Amount(Amount::Int(5)),
        ];
        let mut bytes = Vec::new();
        records.iter().for_each(|record| codec::encode(record, &mut bytes));
        assert_eq!(
            (VERSION, crc32fast::hash(&bytes)),
            (3, 4_066_249_453),
            "a peer of this version would misread it"
        );
    }

    #[test]
    fn a_sum_of_no_node_is_refused() {
        let origin = Origin::new(NodeId::new(1 << 24), 1);
        for (origin, reads) in [(origin, true), (Origin::NONE, false)] {
            let (last, since, amount) = (NTP64(1), Stamp::NEVER, Amount::Int(1));
            let mut bytes = Vec::new();
            codec::encode(&Change::Sum(Added { origin, last, since, amount }), &mut bytes);
            assert_eq!(codec::decode::<Change<'_>>(&bytes).is_ok(), reads, "{origin}");
        }
    }

    #[test]
    fn places_that_no_node_makes_are_refused() {
        let stamp = Stamp::new(NTP64(1), Origin::NONE);
        let mut place = Pos::pushed(Side::After, stamp, 0);
        let mut pathless = bytes_of(&place);
        assert_eq!(pathless.pop(), Some(0), "an option comes last");
        pathless.extend([1, 0]);
        assert!(codec::decode::<Pos>(&pathless).is_err(), "its parent would be behind nothing");
        for _ in 0..DEPTH_MAX {
            assert!(codec::decode::<Pos>(&bytes_of(&place)).is_ok(), "{} steps", place.depth());
            place = place.beside(Side::After, stamp);
        }
        assert!(codec::decode::<Pos>(&bytes_of(&place)).is_err(), "{} steps", place.depth());
    }
}
