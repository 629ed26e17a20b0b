//! Version vectors: what a node has of every origin.
//!
//! A node has an origin's batches without gap up to a sequence number, and with them the origin's *watermark*: its
//! promise that no later batch carries a stamp at or below it. A write is *covered* by a vector when its stamp
//! is at or below its origin's watermark there: whoever has that vector has merged the write.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::clock::{NTP64, NodeId, Origin, Stamp};

/// The number no batch of any node ever reaches.
pub const SEQUENCE_MAX: u64 = 1 << 62;
/// A vector of nothing, as text.
const NOTHING: &str = "-";

/// How much there is of one origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The last batch, counted from one; zero for none. Below [`SEQUENCE_MAX`].
    #[serde(deserialize_with = "sequence")]
    pub sequence: u64,
    /// No later batch carries a stamp at or below it.
    pub watermark: NTP64,
}

/// A larger number would overflow once it is counted on from.
fn sequence<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let sequence = u64::deserialize(from)?;
    if sequence >= SEQUENCE_MAX {
        return Err(D::Error::custom("a sequence number"));
    }
    Ok(sequence)
}

impl Progress {
    /// Nothing.
    pub const NONE: Progress = Progress { sequence: 0, watermark: NTP64(0) };
}

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Vector(BTreeMap<Origin, Progress>);

impl Vector {
    /// How much there is of an origin.
    pub fn of(&self, origin: Origin) -> Progress {
        self.0.get(&origin).copied().unwrap_or(Progress::NONE)
    }

    /// All origins known.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, Progress)> + '_ {
        self.0.iter().map(|(origin, progress)| (*origin, *progress))
    }

    /// Whether whoever has this vector has merged the write.
    pub fn covers(&self, stamp: Stamp) -> bool {
        self.of(stamp.origin).watermark >= stamp.time
    }

    /// Takes over what is further.
    pub fn advance(&mut self, origin: Origin, progress: Progress) {
        let held = self.0.entry(origin).or_insert(Progress::NONE);
        held.sequence = held.sequence.max(progress.sequence);
        held.watermark = held.watermark.max(progress.watermark);
    }

    /// Puts an origin's progress where it is said to be, back too.
    pub fn set(&mut self, origin: Origin, progress: Progress) {
        self.0.insert(origin, progress);
    }

    /// Takes over a watermark promised by a node that has `progress`, if all it covers is here.
    pub fn promise(&mut self, origin: Origin, progress: Progress) {
        let held = self.of(origin);
        if held.sequence >= progress.sequence && progress.watermark > held.watermark {
            self.advance(origin, Progress { sequence: held.sequence, ..progress });
        }
    }

    /// Takes over what is further of every origin.
    pub fn join(&mut self, other: &Vector) {
        other.iter().for_each(|(origin, progress)| self.advance(origin, progress));
    }

    /// Reads what [`fmt::Display`] wrote: sequences without watermarks.
    pub fn parse(text: &str) -> Option<Vector> {
        let mut vector = Vector::default();
        for part in text.split(',').filter(|_| text != NOTHING) {
            let (origin, sequence) = part.split_once(':')?;
            let progress = Progress { sequence: sequence.parse().ok()?, ..Progress::NONE };
            vector.advance(Origin::parse(origin)?, progress);
        }
        Some(vector)
    }

    /// The latest incarnation known of a node.
    pub fn latest(&self, node: NodeId) -> Option<Origin> {
        self.0.keys().copied().filter(|origin| origin.node() == node).max()
    }
}

/// How far it is in each origin: the last batches, without watermarks.
impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.iter().filter(|(_, progress)| progress.sequence > 0);
        let parts: Vec<String> =
            parts.map(|(origin, progress)| format!("{origin}:{}", progress.sequence)).collect();
        f.write_str(if parts.is_empty() { NOTHING } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::codec;

    #[test]
    fn a_number_that_could_not_be_counted_on_from_is_none() {
        for (sequence, reads) in [(SEQUENCE_MAX - 1, true), (SEQUENCE_MAX, false), (u64::MAX, false)] {
            let mut vector = Vector::default();
            vector.set(Origin::NONE, Progress { sequence, watermark: NTP64(0) });
            let mut bytes = Vec::new();
            codec::encode(&vector, &mut bytes);
            assert_eq!(codec::decode::<Vector>(&bytes).is_ok(), reads, "{sequence}");
        }
    }

    #[test]
    fn a_promise_holds_only_for_whoever_has_all_it_covers() {
        let origin = Origin::new(NodeId::new(1 << 24), 1);
        let mut vector = Vector::default();
        vector.advance(origin, Progress { sequence: 3, watermark: NTP64(30) });
        vector.promise(origin, Progress { sequence: 4, watermark: NTP64(50) });
        assert_eq!(vector.of(origin).watermark, NTP64(30));
        vector.promise(origin, Progress { sequence: 2, watermark: NTP64(50) });
        assert_eq!(vector.of(origin), Progress { sequence: 3, watermark: NTP64(50) });
        assert!(vector.covers(Stamp::new(NTP64(50), origin)));
        assert!(!vector.covers(Stamp::new(NTP64(51), origin)));
    }

    #[test]
    fn a_vector_reads_what_it_prints() {
        let origin = |node: u64| Origin::new(NodeId::new(node << 24), 2);
        let mut vector = Vector::default();
        assert_eq!((vector.to_string().as_str(), Vector::parse("-")), ("-", Some(Vector::default())));
        for node in [1, 7] {
            vector.advance(origin(node), Progress { sequence: node * 10, watermark: NTP64(0) });
        }
        assert_eq!(vector.to_string(), "0000000001.2:10,0000000007.2:70");
        assert_eq!(Vector::parse(&vector.to_string()), Some(vector));
        for text in ["", ",", "1.2", "1.2:", "1:3", "1.2:3,", "0.1:3", "1.2:-3"] {
            assert_eq!(Vector::parse(text), None, "{text}");
        }
    }
}
