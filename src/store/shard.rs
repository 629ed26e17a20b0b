//! A range of the keyspace: the unit of locking, of digests and of resync.
//!
//! The unkeyed hash of a key says which of [`RANGES`] ranges it lies in, alike on every node. Inside, each
//! keyspace (what SELECT chooses among) has a table, found by a keyed hash so that crafted keys cannot collide. All
//! counts and the digest are kept in step by comparing an entry's [`Weight`] before and after each change.
//!
//! # Expiry
//! A heap holds (time, key hash) of each expiry ever set; entries whose expiry has since changed are skipped
//! when they come up, and the heap is rebuilt when most of it is stale. A key found due is *buried*: no longer counted, its
//! registers and their part of the digest kept until no earlier-stamped PERSIST can arrive.
//!
//! # Collection
//! Whatever leaves something collectable behind (a tombstone, a buried key) queues a grave, one per key. When the
//! stable time has passed the grave, the key is visited, and queued again if it still has something.
//!
//! # Scan
//! Keys are returned in the order of their unkeyed hashes, so growth never moves a key across the cursor. A
//! step looks at the whole range (about 1/1024 of the keys) and keeps the next few: O(range + count log count).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque, btree_map};

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::delta::Change;
use super::digest;
use super::entry::{Entry, Expiry, MergeContext, Merged, Value, Weight};
use crate::clock::{NTP64, Origin, Stamp, ntp_span_ms};

/// Number of ranges the keyspace is cut into. A part of the link protocol.
pub const RANGES: usize = 1 << RANGE_BITS;
const RANGE_BITS: u32 = 10;
/// A key with something left to collect is visited again when the stable time is so much further.
const REVISIT_MS: u64 = 200;

/// Both hashes of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyHash {
    /// Unkeyed, the same on every node: range, scan order, digest.
    pub order: u64,
    /// Keyed, for the tables of this node.
    pub slot: u64,
}

impl KeyHash {
    /// Hashes a key.
    pub fn new(key: &[u8], hasher: &ahash::RandomState) -> Self {
        KeyHash { order: digest::hash(key), slot: hasher.hash_one(key) }
    }

    /// The range the key lies in.
    pub fn range(&self) -> usize {
        range_of(self.order)
    }

    /// The range a key lies in, by one hash.
    pub fn range_of(key: &[u8]) -> usize {
        range_of(digest::hash(key))
    }
}

/// The range of an unkeyed hash.
pub fn range_of(order: u64) -> usize {
    (order >> (64 - RANGE_BITS)) as usize
}

/// The smallest unkeyed hash in a range; `None` behind the last one.
pub fn range_start(range: usize) -> Option<u64> {
    (range < RANGES).then_some((range as u64) << (64 - RANGE_BITS))
}

/// What a change of a shard needs to know besides the delta.
#[derive(Clone, Copy, Debug)]
pub struct ShardContext<'a> {
    /// This node's own origin.
    pub own: Origin,
    /// Whether another node could still send something older.
    pub keep_tombstones: bool,
    /// Hashing of keys and elements.
    pub hasher: &'a ahash::RandomState,
}

#[derive(Debug)]
struct Space {
    table: HashTable<Box<Entry>>,
    live: usize,
    volatile: usize,
    digest: u64,
    /// Everything stamped before is gone.
    flush: Stamp,
}

impl Space {
    fn new() -> Self {
        Space { table: HashTable::new(), live: 0, volatile: 0, digest: 0, flush: Stamp::NEVER }
    }

    fn reweigh(&mut self, before: Weight, after: Weight) {
        self.live = self.live + usize::from(after.live) - usize::from(before.live);
        self.volatile = self.volatile + usize::from(after.volatile) - usize::from(before.volatile);
        self.digest = self.digest.wrapping_sub(before.digest).wrapping_add(after.digest);
    }
}

#[derive(Debug)]
struct Grave {
    time: NTP64,
    space: u32,
    hash: KeyHash,
}

/// One range of all keyspaces.
#[derive(Debug, Default)]
pub struct Shard {
    /// The first one inline: nearly all data is there, and each command looks at it.
    spaces: SmallVec<[Space; 1]>,
    expiring: BinaryHeap<Reverse<(u64, u32, u64)>>,
    graves: VecDeque<Grave>,
    /// Until which stable time the tombstones of a key, by its keyspace and unkeyed hash, are kept: see [`Self::hold`].
    held: BTreeMap<(u32, u64), NTP64>,
}

/// Values a flush has taken out, to be dropped where no lock is held.
#[derive(Debug, Default)]
#[must_use = "dropping it may take long: do so after unlocking"]
pub struct Flushed(Vec<HashTable<Box<Entry>>>);

impl Flushed {
    /// Number of entries to be dropped.
    pub fn len(&self) -> usize {
        self.0.iter().map(HashTable::len).sum()
    }

    /// Whether there is nothing to drop.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    /// Number of existing keys in a keyspace, those past their expiry but not yet noticed included.
    pub fn live(&self, space: u32) -> usize {
        self.spaces.get(space as usize).map_or(0, |space| space.live)
    }

    /// How many of them have an expiry.
    pub fn volatile(&self, space: u32) -> usize {
        self.spaces.get(space as usize).map_or(0, |space| space.volatile)
    }

    /// The digest of a keyspace in this range.
    pub fn digest(&self, space: u32) -> u64 {
        self.spaces.get(space as usize).map_or(0, |space| space.digest)
    }

    /// The digest of the range over all keyspaces; zero if it holds nothing. An empty keyspace counts for nothing,
    /// whether the node has it or not.
    pub fn digest_of_all(&self) -> u64 {
        (0..).zip(&self.spaces).fold(0, |sum: u64, (index, space): (u64, &Space)| match space.digest {
            0 => sum,
            held => sum.wrapping_add(digest::mix(held, index + 1)),
        })
    }

    /// Number of keyspaces that hold or held something.
    pub fn spaces(&self) -> u32 {
        self.spaces.len() as u32
    }

    /// When a keyspace was last flushed.
    pub fn flushed_at(&self, space: u32) -> Stamp {
        self.spaces.get(space as usize).map_or(Stamp::NEVER, |space| space.flush)
    }

    /// The entry of a key, which may be a tombstone or dead by expiry.
    pub fn get(&self, space: u32, key: &[u8], hash: KeyHash) -> Option<&Entry> {
        let space = self.spaces.get(space as usize)?;
        space.table.find(hash.slot, |entry| entry.key() == key).map(|entry| &**entry)
    }

    /// The entry of a key, to note its use. Registers are changed by [`Self::merge`] only.
    pub fn get_mut(&mut self, space: u32, key: &[u8], hash: KeyHash) -> Option<&mut Entry> {
        let space = self.spaces.get_mut(space as usize)?;
        space.table.find_mut(hash.slot, |entry| entry.key() == key).map(|entry| &mut **entry)
    }

    /// Reads a key: the value unless it is dead by expiry, and whether it was found dead just now, which buries it.
    /// `used_at`, if given, notes the access.
    pub fn read(
        &mut self,
        index: u32,
        key: &[u8],
        hash: KeyHash,
        now_ms: u64,
        used_at: Option<u32>,
    ) -> (Option<Value<'_>>, bool) {
        let Some(Space { table, live, volatile, .. }) = self.spaces.get_mut(index as usize) else {
            return (None, false);
        };
        let Some(entry) = table.find_mut(hash.slot, |entry| entry.key() == key) else { return (None, false) };
        if let Some(at_ms) = entry.expires_at_ms()
            && at_ms <= now_ms
        {
            let before = entry.weight(hash.order);
            if before.live {
                entry.bury();
                *live -= 1;
                *volatile -= usize::from(before.volatile);
                if !entry.in_grave() {
                    entry.set_in_grave(true);
                    self.graves.push_back(Grave { time: Stamp::instant(at_ms).time, space: index, hash });
                }
            }
            return (None, before.live);
        }
        if let Some(used_at) = used_at {
            entry.used_at = used_at;
        }
        (entry.value(), false)
    }

    /// Applies one delta to a key. `used_at` as in [`Entry`].
    #[expect(clippy::too_many_arguments, reason = "one call per delta: a struct would only rename them")]
    pub fn merge(
        &mut self,
        space: u32,
        key: &[u8],
        hash: KeyHash,
        stamp: Stamp,
        change: &Change<'_>,
        used_at: u32,
        cx: ShardContext<'_>,
    ) -> Merged {
        let index = space;
        let space = space_mut(&mut self.spaces, index);
        let merge = MergeContext {
            own: cx.own,
            flush: space.flush,
            keep_tombstones: cx.keep_tombstones,
            hasher: cx.hasher,
        };
        let slot =
            space.table.entry(hash.slot, |entry| entry.key() == key, |entry| cx.hasher.hash_one(entry.key()));
        let (before, merged, mut occupied) = match slot {
            hashbrown::hash_table::Entry::Occupied(mut occupied) => {
                let entry = occupied.get_mut();
                let before = (entry.weight(hash.order), entry.expires_at_ms(), entry.is_buried());
                let merged = entry.merge(stamp, change, merge);
                (before, merged, occupied)
            }
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let mut entry = Box::new(Entry::blank(key));
                let merged = entry.merge(stamp, change, merge);
                if entry.is_blank() {
                    return merged;
                }
                ((Weight::default(), None, false), merged, vacant.insert(entry))
            }
        };
        let entry = occupied.get_mut();
        entry.used_at = used_at;
        let after = (entry.weight(hash.order), entry.expires_at_ms(), entry.is_buried());
        let collectable = cx.keep_tombstones && !entry.in_grave() && entry.has_collectable();
        if collectable {
            entry.set_in_grave(true);
        }
        if entry.is_blank() {
            drop(occupied.remove());
        }
        space.reweigh(before.0, after.0);
        // A buried key that comes back has no heap entry left, even if it expires when it did.
        if (before.1, before.2) != (after.1, after.2)
            && let Some(at_ms) = after.1
        {
            self.expiring.push(Reverse((at_ms, index, hash.slot)));
            self.rebuild_expiring_if_stale();
        }
        if collectable {
            self.graves.push_back(Grave { time: stamp.time, space: index, hash });
        }
        Merged { expiry_before_ms: before.1.filter(|_| !before.2), ..merged }
    }

    /// Keeps a key's tombstones until this time is stable. One stamped as of an instant in the past may be stable before
    /// others have heard of it.
    pub fn hold(&mut self, space: u32, key: &[u8], hash: KeyHash, until: NTP64) {
        if self.get(space, key, hash).is_some_and(Entry::in_grave) {
            let held = self.held.entry((space, hash.order)).or_insert(until);
            *held = until.max(*held);
        }
    }

    /// Changes an entry by a function other than merge, keeping counts in step; for resync.
    pub fn update(&mut self, index: u32, key: &[u8], hash: KeyHash, change: impl FnOnce(&mut Entry)) {
        let Some(space) = self.spaces.get_mut(index as usize) else { return };
        let Ok(mut occupied) = space.table.find_entry(hash.slot, |entry| entry.key() == key) else { return };
        let entry = occupied.get_mut();
        let before = entry.weight(hash.order);
        change(entry);
        let after = entry.weight(hash.order);
        let grave = Grave { time: entry.stamp().time, space: index, hash };
        let collectable = !entry.in_grave() && entry.has_collectable();
        if collectable {
            entry.set_in_grave(true);
        }
        if entry.is_blank() {
            drop(occupied.remove());
        }
        space.reweigh(before, after);
        if collectable {
            self.graves.push_back(grave);
        }
    }

    /// Flushes a keyspace as of `stamp`: kills what is stamped before. Calls back with keys whose own sums were
    /// split and must be asserted anew.
    pub fn flush(
        &mut self,
        index: u32,
        stamp: Stamp,
        cx: ShardContext<'_>,
        mut reassert: impl FnMut(&Entry),
    ) -> Flushed {
        let space = space_mut(&mut self.spaces, index);
        if stamp <= space.flush {
            return Flushed::default();
        }
        space.flush = stamp;
        if space.table.is_empty() {
            return Flushed::default();
        }
        let merge = MergeContext {
            own: cx.own,
            flush: Stamp::NEVER,
            keep_tombstones: cx.keep_tombstones,
            hasher: cx.hasher,
        };
        // Entries that outlive the flush were written by nodes that had not seen it: few, if any.
        let mut kept: HashTable<Box<Entry>> = HashTable::new();
        let survivors: Vec<Box<Entry>> = space.table.extract_if(|entry| entry.newest() >= stamp).collect();
        let dropped = std::mem::take(&mut space.table);
        (space.live, space.volatile, space.digest) = (0, 0, 0);
        for mut entry in survivors {
            let split = entry.merge(stamp, &Change::Clear, merge).reassert;
            if split {
                reassert(&entry);
            }
            let hash = KeyHash::new(entry.key(), cx.hasher);
            space.reweigh(Weight::default(), entry.weight(hash.order));
            entry.set_in_grave(entry.has_collectable());
            if entry.in_grave() {
                self.graves.push_back(Grave { time: stamp.time, space: index, hash });
            }
            kept.insert_unique(hash.slot, entry, |entry| cx.hasher.hash_one(entry.key()));
        }
        space.table = kept;
        Flushed(vec![dropped])
    }

    /// Whether a key is past its expiry, or a grave may be collected.
    pub fn is_upkeep_due(&self, stable: NTP64, now_ms: u64) -> bool {
        let expires = self.expiring.peek().is_some_and(|Reverse((at_ms, ..))| *at_ms <= now_ms);
        expires || self.graves.front().is_some_and(|grave| grave.time <= stable)
    }

    /// Buries keys past their expiry, at most `budget`, calling back with each. Returns whether more are due.
    pub fn bury_due(&mut self, now_ms: u64, budget: usize, mut buried: impl FnMut(u32, &[u8])) -> bool {
        for _ in 0..budget {
            match self.expiring.peek() {
                Some(Reverse((at_ms, _, _))) if *at_ms <= now_ms => {}
                _ => return false,
            }
            let Some(Reverse((at_ms, index, slot))) = self.expiring.pop() else { return false };
            let Some(space) = self.spaces.get_mut(index as usize) else { continue };
            let mut change = (Weight::default(), Weight::default());
            for entry in space.table.iter_hash_mut(slot) {
                if entry.expires_at_ms() == Some(at_ms) && !entry.is_buried() {
                    let order = digest::hash(entry.key());
                    let before = entry.weight(order);
                    entry.bury();
                    change = (before, entry.weight(order));
                    buried(index, entry.key());
                    if !entry.in_grave() {
                        entry.set_in_grave(true);
                        let time = Stamp::instant(at_ms).time;
                        self.graves.push_back(Grave { time, space: index, hash: KeyHash { order, slot } });
                    }
                    break;
                }
            }
            space.reweigh(change.0, change.1);
        }
        true
    }

    /// Takes buried keys that are not past their expiry back into the count, after the clock was set back. Walks everything.
    pub fn exhume(&mut self, now_ms: u64, hasher: &ahash::RandomState) {
        for (index, space) in (0..).zip(&mut self.spaces) {
            let mut weights = Vec::new();
            for entry in space.table.iter_mut().filter(|entry| entry.is_buried()) {
                if let Some(at_ms) = entry.expires_at_ms().filter(|at_ms| *at_ms > now_ms) {
                    let hash = KeyHash::new(entry.key(), hasher);
                    let before = entry.weight(hash.order);
                    entry.exhume();
                    weights.push((before, entry.weight(hash.order)));
                    self.expiring.push(Reverse((at_ms, index, hash.slot)));
                }
            }
            weights.into_iter().for_each(|(before, after)| space.reweigh(before, after));
        }
    }

    /// Forgets what no outstanding write can contest any more; visits at most `budget` graves. Calls back with keys whose
    /// expiry has killed them for good: see [`Entry::settled_death`].
    pub fn collect(
        &mut self,
        stable: NTP64,
        now_ms: u64,
        budget: usize,
        mut died: impl FnMut(u32, &[u8], Expiry),
    ) {
        for _ in 0..budget {
            match self.graves.front() {
                Some(grave) if grave.time <= stable => {}
                _ => return,
            }
            let Some(grave) = self.graves.pop_front() else { return };
            if let btree_map::Entry::Occupied(held) = self.held.entry((grave.space, grave.hash.order)) {
                if *held.get() > stable {
                    self.graves.push_back(Grave { time: *held.get(), ..grave });
                    continue;
                }
                held.remove();
            }
            let Some(space) = self.spaces.get_mut(grave.space as usize) else { continue };
            let mut change = (Weight::default(), Weight::default());
            let mut again = false;
            let found = space
                .table
                .find_entry(grave.hash.slot, |entry| digest::hash(entry.key()) == grave.hash.order);
            if let Ok(mut occupied) = found {
                let entry = occupied.get_mut();
                let before = entry.weight(grave.hash.order);
                again = entry.collect(stable);
                // One that nobody has noticed to be dead is told of first.
                if entry.is_buried()
                    && let Some(expiry) = entry.settled_death(stable, now_ms)
                {
                    died(grave.space, entry.key(), expiry);
                }
                entry.set_in_grave(again);
                change = (before, entry.weight(grave.hash.order));
                if entry.is_blank() {
                    drop(occupied.remove());
                }
            }
            space.reweigh(change.0, change.1);
            if again {
                let time = NTP64(stable.0.saturating_add(ntp_span_ms(REVISIT_MS)));
                self.graves.push_back(Grave { time, ..grave });
            }
        }
    }

    /// Number of graves waiting for collection.
    pub fn graves(&self) -> usize {
        self.graves.len()
    }

    /// All entries of a keyspace, tombstones included, in no order.
    pub fn entries(&self, space: u32) -> impl Iterator<Item = &Entry> {
        self.spaces.get(space as usize).into_iter().flat_map(|space| space.table.iter().map(|entry| &**entry))
    }

    /// The next `count` or more entries whose unkeyed hash is at least `from`, in that order, of those that
    /// `include` takes; and the hash to go on from, `None` at the end of the range.
    pub fn scan(
        &self,
        space: u32,
        from: u64,
        count: usize,
        include: impl Fn(&Entry) -> bool,
    ) -> (Vec<&Entry>, Option<u64>) {
        let mut found: Vec<(u64, &Entry)> = self
            .entries(space)
            .map(|entry| (digest::hash(entry.key()), entry))
            .filter(|(order, entry)| *order >= from && include(entry))
            .collect();
        let count = count.max(1);
        if found.len() > count {
            found.select_nth_unstable_by_key(count - 1, |(order, _)| *order);
            let last = found[count - 1].0;
            found.retain(|(order, _)| *order <= last);
            found.sort_unstable_by_key(|(order, _)| *order);
            let next = last.checked_add(1).filter(|next| range_of(*next) == range_of(last));
            return (found.into_iter().map(|(_, entry)| entry).collect(), next);
        }
        found.sort_unstable_by_key(|(order, _)| *order);
        (found.into_iter().map(|(_, entry)| entry).collect(), None)
    }

    /// Calls back with every stamp held.
    pub fn each_stamp(&self, each: &mut impl FnMut(Stamp)) {
        for space in &self.spaces {
            each(space.flush);
            space.table.iter().for_each(|entry| entry.each_stamp(each));
        }
    }

    /// Exchanges stamps by a function that keeps their order.
    pub fn restamp(&mut self, exchange: &impl Fn(Stamp) -> Stamp, cx: ShardContext<'_>) {
        for (index, space) in self.spaces.iter_mut().enumerate() {
            space.flush = exchange(space.flush);
            let merge = MergeContext {
                own: cx.own,
                flush: Stamp::NEVER,
                keep_tombstones: cx.keep_tombstones,
                hasher: cx.hasher,
            };
            let (mut change, mut graves) = (Vec::new(), Vec::new());
            for entry in &mut space.table {
                let mut differs = false;
                entry.each_stamp(&mut |stamp| differs |= exchange(stamp) != stamp);
                if differs {
                    let hash = KeyHash::new(entry.key(), cx.hasher);
                    let before = entry.weight(hash.order);
                    **entry = entry.restamped(exchange, merge);
                    entry.set_in_grave(true);
                    change.push((before, entry.weight(hash.order)));
                    graves.push(Grave { time: exchange(entry.stamp()).time, space: index as u32, hash });
                    // A buried key is none any more, and is to be buried again.
                    if let Some(at_ms) = entry.expires_at_ms() {
                        self.expiring.push(Reverse((at_ms, index as u32, hash.slot)));
                    }
                }
            }
            change.into_iter().for_each(|(before, after)| space.reweigh(before, after));
            self.graves.extend(graves);
        }
        // One left under a time from the future would hold back all behind it.
        for grave in &mut self.graves {
            grave.time = exchange(Stamp::new(grave.time, cx.own)).time;
        }
    }

    /// Panics if counts or digests are out of step. Walks everything.
    pub fn check_invariants(&self, hasher: &ahash::RandomState) {
        for space in &self.spaces {
            let mut sum = Weight::default();
            let (mut live, mut volatile) = (0, 0);
            for entry in &space.table {
                entry.check_invariants(hasher);
                assert!(entry.in_grave() || !entry.has_collectable(), "a grave is queued: {entry:?}");
                let weight = entry.weight(digest::hash(entry.key()));
                live += usize::from(weight.live);
                volatile += usize::from(weight.volatile);
                sum.digest = sum.digest.wrapping_add(weight.digest);
            }
            assert_eq!((live, volatile, sum.digest), (space.live, space.volatile, space.digest));
        }
    }

    fn rebuild_expiring_if_stale(&mut self) {
        let volatile: usize = self.spaces.iter().map(|space| space.volatile).sum();
        if self.expiring.len() <= 2 * volatile + 64 {
            return;
        }
        let spaces = &self.spaces;
        self.expiring.retain(|Reverse((at_ms, index, slot))| {
            spaces.get(*index as usize).is_some_and(|space| {
                space
                    .table
                    .iter_hash(*slot)
                    .any(|entry| entry.expires_at_ms() == Some(*at_ms) && !entry.is_buried())
            })
        });
    }
}

fn space_mut(spaces: &mut SmallVec<[Space; 1]>, index: u32) -> &mut Space {
    let index = index as usize;
    while spaces.len() <= index {
        spaces.push(Space::new());
    }
    &mut spaces[index]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NodeId;
    use crate::store::delta::Kind;

    fn stamp(time: u64, node: u64) -> Stamp {
        Stamp::new(NTP64(time), Origin::new(NodeId::new(node << 24), 1))
    }

    #[test]
    fn a_key_buried_by_a_clock_ahead_is_back_when_the_clock_is_set_right() {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let cx = ShardContext { own: stamp(0, 9).origin, keep_tombstones: true, hasher: &hasher };
        let mut shard = Shard::default();
        let hash = KeyHash::new(b"k", &hasher);
        shard.merge(0, b"k", hash, stamp(1, 1), &Change::Assign(b"v"), 0, cx);
        shard.merge(0, b"k", hash, stamp(2, 1), &Change::Expire(Some(5000), Kind::String), 0, cx);
        let digest = shard.digest(0);
        assert!(!shard.bury_due(9000, 10, |_, _| {}));
        assert_eq!((shard.live(0), shard.volatile(0), shard.digest(0)), (0, 0, digest));
        shard.exhume(4000, &hasher);
        assert_eq!((shard.live(0), shard.volatile(0), shard.digest(0)), (1, 1, digest));
        shard.check_invariants(&hasher);
        shard.bury_due(9000, 10, |_, _| {});
        assert_eq!(shard.live(0), 0);
    }

    #[test]
    fn a_flush_spares_the_tombstone_of_a_later_removal() {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let cx = ShardContext { own: stamp(0, 9).origin, keep_tombstones: true, hasher: &hasher };
        let mut shard = Shard::default();
        let hash = KeyHash::new(b"h", &hasher);
        shard.merge(0, b"h", hash, stamp(1, 1), &Change::Field(b"f", b"old"), 0, cx);
        shard.merge(0, b"h", hash, stamp(5, 2), &Change::FieldRemove(b"f"), 0, cx);
        drop(shard.flush(0, stamp(3, 1), cx, |_| {}));
        // Written before the removal by a node that had seen the flush.
        shard.merge(0, b"h", hash, stamp(4, 3), &Change::Field(b"f", b"new"), 0, cx);
        assert_eq!(shard.live(0), 0);
        shard.check_invariants(&hasher);
    }

    #[test]
    fn an_expiry_whose_value_a_resync_takes_away_is_collectable() {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let cx = ShardContext { own: stamp(0, 9).origin, keep_tombstones: true, hasher: &hasher };
        let mut shard = Shard::default();
        let hash = KeyHash::new(b"k", &hasher);
        shard.merge(0, b"k", hash, stamp(1, 1), &Change::Member(b"m"), 0, cx);
        shard.merge(0, b"k", hash, stamp(2, 1), &Change::Expire(Some(5000), Kind::Set), 0, cx);
        assert_eq!(shard.graves(), 0);
        shard.update(0, b"k", hash, |entry| entry.forget(&Change::Member(b"m")));
        assert_eq!((shard.graves(), shard.live(0)), (1, 0));
        shard.check_invariants(&hasher);
    }

    #[test]
    fn a_tombstone_as_of_the_past_is_kept_as_long_as_it_is_held() {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let cx = ShardContext { own: stamp(0, 9).origin, keep_tombstones: true, hasher: &hasher };
        let mut shard = Shard::default();
        let hash = KeyHash::new(b"k", &hasher);
        shard.hold(0, b"k", hash, NTP64(9));
        shard.merge(0, b"k", hash, stamp(2, 1), &Change::Clear, 0, cx);
        shard.hold(0, b"k", hash, NTP64(9));
        shard.hold(0, b"k", hash, NTP64(7));
        shard.collect(NTP64(8), 0, 10, |_, _, _| {});
        assert_eq!((shard.graves(), shard.held.len()), (1, 1));
        assert!(shard.get(0, b"k", hash).is_some());
        shard.collect(NTP64(9), 0, 10, |_, _, _| {});
        assert_eq!((shard.graves(), shard.held.len()), (0, 0));
        assert!(shard.get(0, b"k", hash).is_none());
        // Nothing is there to be held.
        shard.hold(0, b"k", hash, NTP64(9));
        assert!(shard.held.is_empty());
    }
}
