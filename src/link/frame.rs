//! Frames: what peers say to each other, as bytes.
//!
//! ```text
//! offset  size  meaning
//! 0       4     length of the body, little-endian
//! 4       4     CRC-32 of these four bytes
//! 8       4     CRC-32 of the body
//! 12      len   body: a [`Frame`] in the codec's form; behind a Segment or Chunk, its batches or records as they are
//! ```
//! The length has a checksum of its own: a damaged one would have the receiver wait for megabytes that never come,
//! while heartbeats trickle in and keep the link from looking silent.
//!
//! The first frame each side sends is a [`Hello`] of [`VERSION`]. A frame that is too long, has another checksum
//! or does not decode ends the link; the next one starts from the vectors, so nothing is lost.

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::batch::{BATCH_BYTES_MAX, Register};
use super::codec::{self, Malformed};
use super::vector::Vector;
use crate::clock::{NTP64, NodeId, Origin, Stamp};

/// Version of the protocol. Peers of another version are refused.
pub const VERSION: u16 = 3;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 12;
/// Most bytes of a body.
pub const FRAME_BYTES_MAX: usize = BATCH_BYTES_MAX + (1 << 20);
/// Most bytes of a body before the peer's Hello was taken.
pub const HELLO_BYTES_MAX: usize = 1 << 20;

/// First byte of the body of a heartbeat.
const HEARTBEAT_TAG: u8 = 2;

/// Copied from the input where it lies: for a string of its own the codec would take memory by the length announced.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    <&str>::deserialize(from).map(str::to_owned)
}

/// A member of the cluster as nodes tell each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its latest life.
    pub origin: Origin,
    /// Where it can be reached.
    #[serde(deserialize_with = "text")]
    pub host: String,
    /// And on which port.
    pub port: u16,
    /// It only follows, as a replica.
    pub follower: bool,
}

impl Member {
    /// Where to dial it.
    pub fn address(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }
}

/// Who a peer is and what it has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u16,
    /// The sender. Its host is empty if it announces none: then it is the address it is seen under.
    pub sender: Member,
    /// What it has.
    pub vector: Vector,
    /// Other members it knows.
    pub members: Vec<Member>,
    /// Cluster-wide registers.
    pub registers: Vec<(Register, Stamp, Vec<u8>)>,
}

/// What a node knows of all members' progress, passed on to those not linked with them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Floor {
    /// Whose progress.
    pub origin: Origin,
    /// It has merged every write stamped at or below.
    pub floor: NTP64,
    /// It said so in its own stream at this watermark.
    pub at: NTP64,
    /// The members whose writes that takes into account, besides its own.
    pub of: Vec<Origin>,
}

/// A sign of life with progress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the sender has.
    pub vector: Vector,
    /// Progress of all members it knows of, itself included.
    pub floors: Vec<Floor>,
    /// The nodes it is linked with.
    pub linked: Vec<NodeId>,
    /// It is pulling ranges and may answer with old data.
    pub syncing: bool,
    /// It is pulling ranges, be it for a repair: they hold more than it says it has.
    pub pulls: bool,
    /// The newest time it has taken from others, in data or in a promise.
    pub taken: NTP64,
    /// The sender's wall clock, in Unix microseconds.
    pub sent_us: u64,
    /// The receiver's heartbeat that came last.
    pub echo: Option<Echo>,
}

/// When a heartbeat went out and came in, each by the clock of the node where it did, in Unix microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// When it was sent.
    pub sent_us: u64,
    /// When it came.
    pub received_us: u64,
}

/// The swaps of databases a node knows of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Swaps {
    /// The newest swap that `base` stands for.
    pub until: Option<Stamp>,
    /// The keyspace behind each database as of then; behind those it does not name, the keyspace of their number.
    pub base: Vec<u32>,
    /// The swaps since: databases that changed places.
    pub since: Vec<(Stamp, u32, u32)>,
}

impl Swaps {
    /// When databases changed places, as far as it says.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.until.into_iter().chain(self.since.iter().map(|(stamp, _, _)| *stamp))
    }

    /// How many databases a node must have to show them all.
    pub fn databases(&self) -> u32 {
        let moved =
            (0..).zip(&self.base).filter(|(db, space)| db != *space).map(|(db, space)| db.max(*space));
        let since = self.since.iter().map(|(_, a, b)| *a.max(b));
        moved.chain(since).max().map_or(0, |db| db.saturating_add(1))
    }
}

/// What is not in ranges, sent at the start of a resync.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Globals {
    /// When each keyspace was flushed.
    pub flushes: Vec<(u32, Stamp)>,
    /// Databases that changed places.
    pub swaps: Swaps,
    /// Cluster-wide registers.
    pub registers: Vec<(Register, Stamp, Vec<u8>)>,
}

/// Of each origin, the time up to which a node had merged it.
pub type Seen = Vec<(Origin, NTP64)>;

/// One frame.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Frame {
    /// First on both sides.
    Hello(Hello),
    /// Batches of an origin, from number `first` on; they follow the frame. `watermark` holds behind the last.
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
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// The receiver is asked for a heartbeat at once.
    Ask,
    /// All members that the sender knows, but for replicas.
    Members(Vec<Member>),
    /// The sender no longer has what the receiver lacks: the receiver should pull.
    Gap,
    /// The sender pulls: the digest of each range it holds something in.
    PullBegin {
        /// Range and digest.
        digests: Vec<(u16, u64)>,
        /// The ranges it asks for; `None` for all.
        only: Option<Vec<u16>>,
    },
    /// Answer: what differs.
    Differs {
        /// What the giver had before it read the first range.
        vector: Vector,
        /// Ranges to be pulled whole.
        ranges: Vec<u16>,
        /// Ranges that are equal, of which what is collectable is to be pulled.
        graves: Vec<u16>,
        /// What is not in ranges.
        globals: Globals,
    },
    /// Asks for a piece of a range.
    Pull {
        /// Which range.
        range: u16,
        /// From which place on.
        from: Cursor,
        /// Only keys that carry something collectable, unless the range has changed since it was found equal.
        graves: bool,
    },
    /// A piece of a range: all keys from a place up to another. Records follow the frame.
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
    /// The sender is about to stop.
    Bye,
    /// Are these ranges the same there? Sent behind everything the vector covers.
    Compare {
        /// What the sender had when it took the digests.
        vector: Vector,
        /// Range and digest.
        digests: Vec<(u16, u64)>,
    },
    /// The answer.
    Compared {
        /// Ranges that differ though nothing is under way.
        differ: Vec<u16>,
        /// Ranges that cannot be judged now.
        unsure: Vec<u16>,
    },
}

/// A place in a range: keyspace, then unkeyed hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The keyspace.
    pub space: u32,
    /// The hash.
    pub hash: u64,
}

/// Bytes that are no frame: the peer's fault, ends the link.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than allowed.
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// Damaged on the way.
    #[error("a frame has a wrong checksum")]
    Checksum,
    /// Nonsense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Appends a frame, or an entry of a file, with what follows it.
pub fn write(frame: &impl Serialize, tail: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    codec::encode(frame, out);
    out.extend_from_slice(tail);
    let body = start + HEADER_BYTES;
    let (length, checksum) = (((out.len() - body) as u32).to_le_bytes(), crc32fast::hash(&out[body..]));
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
    out[start + 8..body].copy_from_slice(&checksum.to_le_bytes());
}

/// Length of the first frame in a buffer, header included; `None` while the header is incomplete.
///
/// # Errors
/// If the length is damaged, or the body would be longer than `body_bytes_max`.
pub fn length(bytes: &[u8], body_bytes_max: usize) -> Result<Option<usize>, FrameError> {
    let (Some(length), Some(checksum)) = (bytes.get(..4), bytes.get(4..8)) else { return Ok(None) };
    if crc32fast::hash(length).to_le_bytes() != checksum {
        return Err(FrameError::Checksum);
    }
    let body = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
    if body > body_bytes_max {
        return Err(FrameError::TooLong(body));
    }
    Ok(Some(HEADER_BYTES + body))
}

/// Reads one whole frame, and what follows it in its body.
///
/// # Errors
/// If it is damaged or no frame.
pub fn read(bytes: &[u8]) -> Result<(Frame, &[u8]), FrameError> {
    open(bytes)
}

/// Reads what [`write()`] wrote of any kind.
///
/// # Errors
/// If it is damaged or of another kind.
pub fn open<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), FrameError> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(FrameError::Checksum)?;
    if crc32fast::hash(body) != u32::from_le_bytes(header[8..].try_into().expect("four bytes")) {
        return Err(FrameError::Checksum);
    }
    let (frame, length) = codec::decode(body)?;
    Ok((frame, &body[length..]))
}

/// The heartbeat that a whole frame is. Others are told by their first byte; a damaged one is for [`read`] to find.
pub fn heartbeat(bytes: &[u8]) -> Option<Heartbeat> {
    if bytes.get(HEADER_BYTES) != Some(&HEARTBEAT_TAG) {
        return None;
    }
    match read(bytes) {
        Ok((Frame::Heartbeat(heartbeat), _)) => Some(heartbeat),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::vector::Progress;

    fn segment() -> Frame {
        Frame::Segment {
            origin: Origin::new(NodeId::new(1 << 24), 2),
            first: 7,
            count: 1,
            watermark: NTP64(9),
            seen: vec![(Origin::new(NodeId::new(2 << 24), 1), NTP64(8))],
        }
    }

    #[test]
    fn a_frame_reads_as_written_and_every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        write(&segment(), b"batches", &mut bytes);
        assert_eq!(length(&bytes, FRAME_BYTES_MAX), Ok(Some(bytes.len())));
        assert_eq!(read(&bytes), Ok((segment(), &b"batches"[..])));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let seen = length(&damaged, FRAME_BYTES_MAX).and_then(|_| read(&damaged).map(|_| ()));
            assert_eq!(seen, Err(FrameError::Checksum), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_incomplete_or_an_error() {
        let mut bytes = Vec::new();
        write(&segment(), b"batches", &mut bytes);
        for end in 0..bytes.len() {
            match length(&bytes[..end], FRAME_BYTES_MAX) {
                Ok(None) => assert!(end < 8),
                Ok(Some(length)) => assert!(length > end),
                Err(error) => panic!("{error}"),
            }
            assert!(read(&bytes[..end]).is_err());
        }
        let most = u32::MAX.to_le_bytes();
        let header = [most, crc32fast::hash(&most).to_le_bytes()].concat();
        assert_eq!(length(&header, HELLO_BYTES_MAX), Err(FrameError::TooLong(u32::MAX as usize)));
    }

    #[test]
    fn another_form_of_a_frame_is_another_version() {
        let origin = Origin::new(NodeId::new(1 << 24), 2);
        let (stamp, mut vector) = (Stamp::new(NTP64(300), origin), Vector::default());
        vector.set(origin, Progress { sequence: 301, watermark: NTP64(302) });
        let member = Member { origin, host: "h".to_owned(), port: 1000, follower: true };
        let registers = vec![(Register::Owner, stamp, b"r".to_vec())];
        let swaps = Swaps { until: Some(stamp), base: vec![1, 0], since: vec![(stamp, 2, 3)] };
        let globals = Globals { flushes: vec![(4, stamp)], swaps, registers: registers.clone() };
        let (from, digests) = (Cursor { space: 5, hash: 400 }, vec![(6, 500)]);
        let frames = [
            Frame::Hello(Hello {
                version: VERSION,
                sender: member.clone(),
                vector: vector.clone(),
                members: vec![member.clone()],
                registers,
            }),
            segment(),
            Frame::Heartbeat(Heartbeat {
                vector: vector.clone(),
                floors: vec![Floor { origin, floor: NTP64(303), at: NTP64(304), of: vec![origin] }],
                linked: vec![origin.node()],
                syncing: true,
                pulls: false,
                taken: NTP64(305),
                sent_us: 306,
                echo: Some(Echo { sent_us: 307, received_us: 308 }),
            }),
            Frame::Ask,
            Frame::Members(vec![member]),
            Frame::Gap,
            Frame::PullBegin { digests: digests.clone(), only: Some(vec![7]) },
            Frame::Differs { vector: vector.clone(), ranges: vec![8], graves: vec![9], globals },
            Frame::Pull { range: 10, from, graves: true },
            Frame::Chunk { range: 11, from, to: Some(from), graves: false },
            Frame::Bye,
            Frame::Compare { vector, digests },
            Frame::Compared { differ: vec![12], unsure: vec![13] },
        ];
        for frame in &frames {
            let mut bytes = Vec::new();
            write(frame, &[], &mut bytes);
            assert_eq!(heartbeat(&bytes).is_some(), matches!(frame, Frame::Heartbeat(_)));
        }
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| codec::encode(frame, &mut bytes));
        assert_eq!(
            (VERSION, crc32fast::hash(&bytes)),
            (3, 1_812_102_717),
            "a peer of this version would misread it"
        );
    }

    #[test]
    fn the_bytes_of_a_frame_are_those_drawn() {
        let mut bytes = Vec::new();
        write(&Frame::Gap, b"", &mut bytes);
        assert_eq!(bytes, [1, 0, 0, 0, 0x79, 0xb8, 0xf8, 0x99, 0x02, 0x1b, 0x68, 0xa2, 5]);
    }
}
