//! What a file holds, entry by entry.

use serde::{Deserialize, Serialize};

use crate::clock::{NTP64, NodeId, Origin};
use crate::link::backlog::Segment;
use crate::link::frame::{Cursor, Globals, Seen};
use crate::link::vector::Vector;

/// Version of the files. Those of another version are refused.
pub const VERSION: u16 = 1;

/// Where a file comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub version: u16,
    /// The file's number.
    pub number: u64,
    /// The life of the node that wrote it.
    pub origin: Origin,
    /// The primary whose data this is; `None` for data of the node's own.
    pub follows: Option<(String, u16)>,
}

/// One entry; in a frame, as `link/frame.rs` draws it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Entry {
    /// First in a journal.
    Journal(Head),
    /// First in a snapshot.
    Snapshot {
        /// Where it comes from.
        head: Head,
        /// What the node had before the first range was read.
        vector: Vector,
        /// Nodes a pull from which has broken off: the ranges may hold what the vector does not tell.
        torn: Vec<NodeId>,
        /// What is not in ranges.
        globals: Globals,
    },
    /// Batches became part of the data: of an origin, from number `first` on. They follow the entry.
    Segment {
        /// Whose.
        origin: Origin,
        /// The number of the first batch.
        first: u64,
        /// How many.
        count: u64,
        /// The origin's promise behind them.
        watermark: NTP64,
        /// What the origin had merged of others when it wrote them.
        seen: Seen,
    },
    /// Ranges are about to be pulled.
    Given {
        /// From whom.
        giver: Origin,
        /// What the giver had before it read the first.
        vector: Vector,
        /// What is not in ranges.
        globals: Globals,
    },
    /// A piece of a range; its records follow the entry. In a journal it was pulled.
    Chunk {
        /// Which range.
        range: u16,
        /// From which place on.
        from: Cursor,
        /// Up to which place; `None`: the end of the range.
        to: Option<Cursor>,
        /// It holds only keys that carry something collectable.
        graves: bool,
    },
    /// All ranges are pulled: what the node has now.
    Pulled {
        /// What that is.
        vector: Vector,
    },
    /// Last in a snapshot.
    End,
    /// All that was read so far was dropped.
    Dropped {
        /// For this primary, whose data follows.
        follows: Option<(String, u16)>,
    },
    /// From here on the data is the node's own, whosever it was.
    Alone,
}

impl Entry {
    /// The entry for batches; they are to follow it.
    pub fn segment(origin: Origin, segment: &Segment) -> Entry {
        Entry::Segment {
            origin,
            first: segment.first,
            count: segment.count,
            watermark: segment.watermark,
            seen: segment.seen.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::link::batch::Register;
    use crate::link::frame::{self, Swaps};
    use crate::link::vector::Progress;

    /// `End` and the head of a first journal, drawn: length, its checksum, the body's checksum, body.
    #[test]
    fn the_bytes_of_an_entry_are_those_drawn() {
        let mut bytes = Vec::new();
        frame::write(&Entry::End, b"", &mut bytes);
        let (length, body) = (1u32.to_le_bytes(), [6]);
        let crc = |bytes: &[u8]| crc32fast::hash(bytes).to_le_bytes();
        assert_eq!(bytes, [&length[..], &crc(&length), &crc(&body), &body].concat());
    }

    #[test]
    fn another_form_of_an_entry_is_another_version() {
        let origin = Origin::new(NodeId::new(1 << 24), 2);
        let mut vector = Vector::default();
        vector.advance(origin, Progress { sequence: 300, watermark: NTP64(301) });
        let stamp = Stamp::new(NTP64(302), origin);
        let globals = Globals {
            flushes: vec![(1, stamp)],
            swaps: Swaps { until: Some(stamp), base: vec![1, 0], since: vec![(stamp, 2, 3)] },
            registers: vec![(Register::Owner, stamp, b"r".to_vec())],
        };
        let head = Head { version: VERSION, number: 4, origin, follows: Some(("primary".into(), 6379)) };
        let (from, to) = (Cursor { space: 1, hash: 303 }, Some(Cursor { space: 2, hash: 304 }));
        let entries = [
            Entry::Journal(Head { follows: None, ..head.clone() }),
            Entry::Snapshot {
                head,
                vector: vector.clone(),
                torn: vec![origin.node()],
                globals: globals.clone(),
            },
            Entry::Segment {
                origin,
                first: 5,
                count: 6,
                watermark: NTP64(305),
                seen: vec![(origin, NTP64(306))],
            },
            Entry::Given { giver: origin, vector: vector.clone(), globals },
            Entry::Chunk { range: 7, from, to, graves: true },
            Entry::Pulled { vector },
            Entry::End,
            Entry::Dropped { follows: Some(("primary".into(), 6379)) },
            Entry::Alone,
        ];
        let mut bytes = Vec::new();
        for entry in &entries {
            let start = bytes.len();
            frame::write(entry, b"tail", &mut bytes);
            let (read, tail) = frame::open::<Entry>(&bytes[start..]).unwrap();
            assert_eq!((&read, tail), (entry, &b"tail"[..]));
        }
        assert_eq!(
            (VERSION, crc32fast::hash(&bytes)),
            (1, 663_542_146),
            "a file of this version would be misread"
        );
    }
}
