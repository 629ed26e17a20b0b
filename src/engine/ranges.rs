//! Ranges as state: what resync reads on one node and merges on the other.
//!
//! A range is read piece by piece while writes go on; a piece as a rule takes one look through the range, under its
//! lock. It is a batch of registers with their stamps, for all keys from one place in hash order up to another.
//!
//! Merging a piece needs no tombstones, because both sides know what the other has seen:
//! - a register that came, is covered by this node's vector and is not held here was deleted here: ignored;
//! - a register held here that did not come and is covered by the giver's vector was deleted there: dropped.
//!
//! An older version is as good as none: whoever has seen the later one and has lost it, has seen it deleted.
//!
//! Tombstones that still exist travel all the same: they stop writes that neither side has seen.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::conflicts::Author;
use super::keyspace::{Keyspace, Locks};
use super::merging::Known;
use super::{Engine, Now};
use crate::clock::{NTP64, Origin, Stamp};
use crate::faults::Faults;
use crate::link::batch::{Batch, BatchWriter, Record};
use crate::link::codec::Malformed;
use crate::link::frame::Cursor;
use crate::link::mesh::GLOBALS;
use crate::link::vector::Vector;
use crate::store::delta::Change;
use crate::store::digest;
use crate::store::entry::{Entry, MergeContext};
use crate::store::shard::{RANGES, Shard};

/// Keys looked up at once in a range that is being read: each time costs a look at the whole range.
const SCAN_COUNT: usize = 4096;
/// A piece ends when it has so many bytes.
const PIECE_BYTES: usize = 128 * 1024;

/// A piece of a range.
#[derive(Debug, Default)]
pub struct Piece {
    /// A batch, or nothing if there are no keys in it.
    pub records: Vec<u8>,
    /// Where the next piece begins; `None` at the end of the range.
    pub to: Option<Cursor>,
    /// It holds only keys that carry something collectable.
    pub graves: bool,
}

/// A piece of a range as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Of which range.
    pub range: usize,
    /// Where it begins.
    pub from: Cursor,
    /// Where the next piece begins; `None` at the end of the range.
    pub to: Option<Cursor>,
    /// It holds only keys that carry something collectable.
    pub graves: bool,
    /// See [`Piece::records`].
    pub records: &'a [u8],
}

/// What both sides have seen.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    /// This node, and the giver of it.
    pub known: Known<'a>,
    /// The giver, before it read the first range.
    pub theirs: &'a Vector,
    /// Who that is.
    pub giver: Origin,
}

impl Engine {
    /// The digest of every range that holds something.
    pub fn range_digests(&self) -> Vec<(u16, u64)> {
        let digests = (0..RANGES).map(|range| (range as u16, self.range_digest(range)));
        digests.filter(|(_, digest)| *digest != 0).collect()
    }

    /// The digest of a range over all keyspaces; zero if it holds nothing.
    pub fn range_digest(&self, range: usize) -> u64 {
        self.shard_digest(&self.cell(range).lock().shard)
    }

    fn shard_digest(&self, shard: &Shard) -> u64 {
        if self.is_planted(Faults::BLIND_DIGEST) {
            return self.blind_digest(shard);
        }
        shard.digest_of_all()
    }

    /// The digest of what two nodes compare by this number: a range's, or that of [`GLOBALS`].
    pub fn compared_digest(&self, range: u16) -> u64 {
        match range {
            GLOBALS => self.databases.digest() ^ self.registers.digest(),
            range => self.range_digest(usize::from(range) % RANGES),
        }
    }

    /// Panics if a range's counts, digest or entries are out of step. Walks everything.
    pub fn check_invariants(&self) {
        (0..RANGES).for_each(|range| self.cell(range).lock().shard.check_invariants(&self.hasher));
    }

    /// Ranges that differ from a peer's digests, and of the others those with tombstones and their digests; of all ranges,
    /// or only of some.
    pub fn compare_ranges(
        &self,
        theirs: &[(u16, u64)],
        only: Option<&[u16]>,
    ) -> (Vec<u16>, BTreeMap<u16, u64>) {
        let theirs: HashMap<u16, u64> = theirs.iter().copied().collect();
        let (mut differ, mut graves) = (Vec::new(), BTreeMap::new());
        let is_asked = |range: &usize| only.is_none_or(|only| only.contains(&(*range as u16)));
        for range in (0..RANGES).filter(is_asked) {
            let ours = self.range_digest(range);
            if ours != theirs.get(&(range as u16)).copied().unwrap_or(0) {
                differ.push(range as u16);
            } else if self.cell(range).lock().shard.graves() > 0 {
                graves.insert(range as u16, ours);
            }
        }
        (differ, graves)
    }

    /// Reads a piece of a range. While the range has the digest `equal`, which was the peer's, too, only keys that carry
    /// something collectable. Once it has changed, what was collectable may have become a value, and what became of it
    /// holds registers that the peer lacks and that no batch will bring.
    pub fn read_range(&self, range: usize, from: Cursor, equal: Option<u64>) -> Piece {
        let mut piece = Piece::default();
        let mut writer = BatchWriter::begin(Origin::NONE, &mut piece.records);
        let mut at = from;
        let cell = self.cell(range).lock();
        let graves = equal.is_some_and(|equal| equal == self.shard_digest(&cell.shard));
        piece.graves = graves;
        piece.to = 'piece: loop {
            if at.space >= cell.shard.spaces() {
                break None;
            }
            let include = |entry: &Entry| !graves || entry.has_collectable();
            let (entries, next) = cell.shard.scan(at.space, at.hash, SCAN_COUNT, include);
            for entry in entries {
                let hash = digest::hash(entry.key());
                // Keys of equal hash stay together: a piece ends between hashes.
                if piece.records.len() >= PIECE_BYTES && hash > at.hash {
                    break 'piece Some(Cursor { hash, ..at });
                }
                at.hash = hash;
                entry.registers(|stamp, change| {
                    writer.change(at.space, entry.key(), stamp, &change, &mut piece.records);
                });
            }
            at = match next {
                Some(hash) => Cursor { hash, ..at },
                None => Cursor { space: at.space + 1, hash: 0 },
            };
        };
        drop(cell);
        writer.finish(NTP64(0), &mut piece.records);
        piece
    }

    /// Merges a piece of a range; see the module's head. Returns how many keys it has changed.
    ///
    /// # Errors
    /// If the records are malformed; nothing is merged then.
    pub fn merge_range(
        &self,
        chunk: &Chunk<'_>,
        vectors: Vectors<'_>,
        now: Now,
        thread: usize,
    ) -> Result<usize, Malformed> {
        let Chunk { range, from, to, graves, records } = *chunk;
        let Vectors { known, theirs, giver } = vectors;
        let mut changes: Vec<(u32, &[u8], Stamp, Change<'_>)> = Vec::new();
        if let Some((batch, _)) = Batch::split(records)? {
            let (mut at, mut stamp) = ((0, &[][..]), Stamp::NEVER);
            batch.each(|record| match record {
                Record::Key(space, key) => at = (space, key),
                Record::Stamp(next) => stamp = next,
                Record::Time(time) => stamp = Stamp::new(time, Origin::NONE),
                Record::Change(change) => {
                    changes.push((at.0, at.1, change.stamp(stamp), change));
                }
                Record::Flush(_) | Record::Swap(..) | Record::Register(..) => {}
                Record::Publish(..) | Record::ShardPublish(..) | Record::Amount(_) => {}
            })?;
        }
        let outside = |key: &[u8]| self.hash(key).range() != range;
        if changes.iter().any(|(space, key, _, _)| outside(key) || *space >= self.databases()) {
            return Err(crate::link::codec::malformed("a key outside the range asked for"));
        }
        let mut given: HashMap<(u32, &[u8]), Entry> = HashMap::new();
        let cx = self.shard_context();
        let merge =
            MergeContext { own: cx.own, flush: Stamp::NEVER, keep_tombstones: true, hasher: cx.hasher };
        for (space, key, stamp, change) in &changes {
            let entry = given.entry((*space, key)).or_insert_with(|| Entry::blank(key));
            entry.merge(*stamp, change, merge);
            self.clock.observe(stamp.time);
        }
        let mut changed: HashSet<(u32, &[u8])> = HashSet::new();
        let mut split: HashSet<(u32, &[u8])> = HashSet::new();
        let mut keys = Keyspace::new(self, Locks::One(range, self.cell(range).lock()), 0, now, thread);
        let watch = self.watch(Author::Gives(giver, theirs), known, now);
        for (number, (space, key, stamp, change)) in changes.iter().enumerate() {
            if let Some(watch) = watch.as_ref().filter(|_| !known.own.covers(*stamp)) {
                let behind = changes[number + 1..].iter();
                let same = behind.take_while(|(at, of, when, _)| (at, of, when) == (space, key, stamp));
                keys.notice((*space, key), *stamp, change, same.map(|(_, _, _, change)| change), watch);
            }
            if known.own.covers(identity_stamp(*stamp, change)) && !keys.holds(*space, key, *stamp, change) {
                continue;
            }
            let merged = keys.merge_untold(*space, key, *stamp, change);
            if merged.changed {
                changed.insert((*space, *key));
            }
            if merged.reassert {
                split.insert((*space, *key));
            }
        }
        let mut changed_keys = changed.len();
        if !graves {
            let end = to.unwrap_or(Cursor { space: u32::MAX, hash: 0 });
            changed_keys += keys.forget_absent(range, from, end, |space, key, stamp, change| {
                let here = given.get(&(space, key)).is_some_and(|entry| entry.holds(stamp, change));
                !here && theirs.covers(identity_stamp(stamp, change))
            });
        }
        // Those of fields that were deleted elsewhere are gone by now: told anew, they would come back.
        split.into_iter().for_each(|(space, key)| keys.assert_own_sums(space, key));
        self.conclude(keys, thread);
        Ok(changed_keys)
    }
}

/// The stamp that says whether a register was ever seen: of a list item, that of its placement.
fn identity_stamp(stamp: Stamp, change: &Change<'_>) -> Stamp {
    match change {
        Change::Item(pos, _) | Change::ItemValue(pos, _) => pos.stamp(),
        _ => stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Fixture;
    use crate::link::vector::Progress;

    /// A late HSET splits the sum of one field, for which all sums of the key are told anew; another one's is to be forgotten.
    #[test]
    fn a_sum_that_was_deleted_elsewhere_is_not_told_anew_for_the_sake_of_another() {
        let (mut taker, mut giver) = (Fixture::replicating(), Fixture::numbered(2));
        giver.engine.start_replicating();
        let told = |from: &Fixture, to: &Fixture| to.merge(from, &from.written());
        taker.check("HINCRBY h f 5", ":5");
        taker.check("HINCRBY h deleted 1", ":1");
        told(&taker, &giver);
        giver.now_ms += 10;
        giver.check("HSET h f 10", ":0");
        taker.now_ms += 20;
        taker.check("HINCRBY h f 1", ":6");
        told(&taker, &giver);
        giver.check("HDEL h deleted", ":1");
        giver.engine.set_stable(giver.engine.clock.last());
        giver.tick();
        let (range, from) = (giver.engine.hash(b"h").range(), Cursor::default());
        let piece = giver.engine.read_range(range, from, None);
        let (mut own, mut theirs) = (Vector::default(), Vector::default());
        let all = Progress { sequence: 3, watermark: taker.engine.clock.last() };
        own.advance(taker.engine.clock.origin(), all);
        theirs.advance(taker.engine.clock.origin(), all);
        let known = Known { own: &own, seen: NTP64(u64::MAX), written: NTP64(0) };
        let vectors = Vectors { known, theirs: &theirs, giver: giver.engine.clock.origin() };
        let chunk = Chunk { range, from, to: piece.to, graves: false, records: &piece.records };
        taker.engine.merge_range(&chunk, vectors, Now::from_unix_ns(0), 0).unwrap();
        told(&taker, &giver);
        for node in [&mut taker, &mut giver] {
            node.check("HGETALL h", "*2 $1 f $2 11");
        }
    }

    /// The emptied key of an equal range becomes a value between the answer and the piece: the batch that makes it one comes
    /// to the taker, too, but the expiry set before is behind the giver's vector.
    #[test]
    fn what_was_collectable_is_given_as_what_became_of_it() {
        let (mut giver, mut writer, mut taker) =
            (Fixture::replicating(), Fixture::numbered(2), Fixture::numbered(3));
        writer.engine.start_replicating();
        taker.engine.start_replicating();
        writer.check("SET k v", "+OK");
        giver.merge(&writer, &writer.written());
        giver.check("FLUSHALL", "+OK");
        writer.now_ms += 10;
        writer.check("PEXPIRE k 9000", ":1");
        giver.merge(&writer, &writer.written());
        let range = giver.engine.hash(b"k").range();
        let (differ, equal) = giver.engine.compare_ranges(&giver.engine.range_digests(), None);
        assert_eq!((differ, equal.keys().copied().collect()), (vec![], vec![range as u16]));
        let digest = equal.values().next().copied();
        assert!(giver.engine.read_range(range, Cursor::default(), digest).graves);

        writer.check("APPEND k w", ":2");
        let batch = writer.written();
        giver.merge(&writer, &batch);
        taker.merge(&writer, &batch);
        let piece = giver.engine.read_range(range, Cursor::default(), digest);
        let chunk = Chunk {
            range,
            from: Cursor::default(),
            to: piece.to,
            graves: piece.graves,
            records: &piece.records,
        };
        let vector = Vector::default();
        let known = Known { own: &vector, seen: NTP64(u64::MAX), written: NTP64(0) };
        let vectors = Vectors { known, theirs: &vector, giver: giver.engine.clock.origin() };
        let now = Now::from_unix_ns(u128::from(taker.now_ms) * 1_000_000);
        taker.engine.merge_range(&chunk, vectors, now, 0).unwrap();
        taker.check("GET k", "$2 vw");
        taker.check("PTTL k", ":9010");
        assert_eq!(taker.engine.range_digest(range), giver.engine.range_digest(range));
    }
}
