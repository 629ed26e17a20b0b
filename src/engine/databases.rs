//! Which keyspace stands behind each database: SWAPDB, on all nodes alike.
//!
//! A swap moves no key. It exchanges the keyspaces that two databases show, so it costs the same for any size.
//! Two nodes may swap at once, and swaps do not commute. Hence a log of swaps in stamp order, and the mapping
//! is what replaying it gives: the same on every node that has the same swaps, whatever order they came in.
//!
//! The log is kept short by [`Databases::settle`]: swaps at or below the stable time, before which nothing can arrive
//! any more, are replayed into a base once and forgotten. A log merges with another by taking the base that
//! reaches further and both logs' later swaps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::clock::{NTP64, Stamp};
use crate::link::frame::Swaps;
use crate::store::digest;

/// Databases a swap may name. A peer's swap beyond is ignored: no node has that many.
pub const DATABASES_MAX: u32 = 1 << 16;

/// The swaps there were.
#[derive(Debug, Default)]
struct Log {
    /// The newest swap in the base.
    until: Option<Stamp>,
    /// The keyspace behind each database as of `until`; databases beyond its end show the keyspace of their number.
    base: Vec<u32>,
    /// The swaps since.
    since: BTreeMap<Stamp, (u32, u32)>,
}

impl Log {
    fn mapping(&self) -> Vec<u32> {
        let mut spaces = self.base.clone();
        for &(a, b) in self.since.values() {
            swap(&mut spaces, a, b);
        }
        spaces
    }

    fn insert(&mut self, stamp: Stamp, a: u32, b: u32) {
        if a.max(b) < DATABASES_MAX && self.until.is_none_or(|until| stamp > until) {
            self.since.insert(stamp, (a, b));
        }
    }
}

fn swap(spaces: &mut Vec<u32>, a: u32, b: u32) {
    while spaces.len() <= a.max(b) as usize {
        spaces.push(spaces.len() as u32);
    }
    spaces.swap(a as usize, b as usize);
}

/// Whether the numbers are the first ones in some order, as a base's must be.
fn is_permutation(spaces: &[u32]) -> bool {
    let mut sorted = spaces.to_vec();
    sorted.sort_unstable();
    sorted.iter().zip(0..DATABASES_MAX).all(|(space, db)| *space == db)
        && spaces.len() <= DATABASES_MAX as usize
}

/// A database shows another keyspace than before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Which database.
    pub db: u32,
    /// Which keyspace it showed.
    pub from: u32,
    /// Which it shows now.
    pub to: u32,
}

/// See the module's head.
#[derive(Debug)]
pub struct Databases {
    /// The mapping of this node's databases: what commands read.
    spaces: Box<[AtomicU32]>,
    swaps: Mutex<Log>,
}

impl Databases {
    /// So many databases, each showing the keyspace of its number.
    pub fn new(count: usize) -> Self {
        Databases { spaces: (0..count.max(1) as u32).map(AtomicU32::new).collect(), swaps: Mutex::default() }
    }

    /// Number of databases.
    pub fn count(&self) -> u32 {
        self.spaces.len() as u32
    }

    /// The keyspace behind a database. It stays so while a range is locked.
    ///
    /// # Panics
    /// If there is no such database.
    pub fn space_of(&self, db: u32) -> u32 {
        self.spaces[db as usize].load(Ordering::Acquire)
    }

    /// The database that shows a keyspace, if one does.
    pub fn db_of(&self, space: u32) -> Option<u32> {
        (0..self.count()).find(|db| self.space_of(*db) == space)
    }

    /// Merges one swap; the whole keyspace must be locked. Returns what changed for this node's databases: nothing
    /// for a swap known already.
    pub fn merge_swap(&self, stamp: Stamp, a: u32, b: u32) -> Vec<Moved> {
        let mut log = self.swaps.lock();
        log.insert(stamp, a, b);
        self.adopt(&log.mapping())
    }

    /// Merges all swaps another node has; the whole keyspace must be locked.
    pub fn merge(&self, theirs: &Swaps) -> Vec<Moved> {
        let mut log = self.swaps.lock();
        // Of two bases that end alike, one holds a swap that came too late for the other: both nodes take the same one.
        if (theirs.until, &theirs.base) > (log.until, &log.base) && is_permutation(&theirs.base) {
            log.until = theirs.until;
            log.base.clone_from(&theirs.base);
            log.since.retain(|stamp, _| Some(*stamp) > theirs.until);
        }
        theirs.since.iter().for_each(|(stamp, a, b)| log.insert(*stamp, *a, *b));
        self.adopt(&log.mapping())
    }

    /// All swaps there were, for another node.
    pub fn swaps(&self) -> Swaps {
        let log = self.swaps.lock();
        Swaps {
            until: log.until,
            base: log.base.clone(),
            since: log.since.iter().map(|(stamp, (a, b))| (*stamp, *a, *b)).collect(),
        }
    }

    /// Forgets every swap; the whole keyspace must be locked.
    pub(super) fn forget(&self) {
        let mut log = self.swaps.lock();
        *log = Log::default();
        self.adopt(&[]);
    }

    /// Gives swaps other stamps in the same order; see [`super::step_back`].
    pub(super) fn restamp(&self, exchange: impl Fn(Stamp) -> Stamp) {
        let mut log = self.swaps.lock();
        log.until = log.until.map(&exchange);
        log.since =
            std::mem::take(&mut log.since).into_iter().map(|(stamp, swap)| (exchange(stamp), swap)).collect();
    }

    /// Replays what nothing can come before any more into the base.
    pub fn settle(&self, stable: NTP64) {
        let mut log = self.swaps.lock();
        while let Some(entry) = log.since.first_entry()
            && entry.key().time <= stable
        {
            let (stamp, (a, b)) = entry.remove_entry();
            swap(&mut log.base, a, b);
            log.until = Some(stamp);
        }
    }

    /// A term for digests: zero while every database shows the keyspace of its number.
    pub fn digest(&self) -> u64 {
        let spaces = self.swaps.lock().mapping();
        let moved = spaces.iter().zip(0u32..).filter(|(space, db)| *space != db);
        moved.fold(0, |sum: u64, (space, db)| sum.wrapping_add(digest::mix(u64::from(db), u64::from(*space))))
    }

    fn adopt(&self, mapping: &[u32]) -> Vec<Moved> {
        let mut moved = Vec::new();
        for (db, held) in (0..).zip(&self.spaces) {
            let to = mapping.get(db as usize).copied().unwrap_or(db);
            let from = held.swap(to, Ordering::AcqRel);
            if from != to {
                moved.push(Moved { db, from, to });
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{NodeId, Origin};

    const SWAPS: [(u32, u32); 5] = [(0, 1), (1, 2), (0, 3), (2, 3), (0, 1)];

    fn stamp(time: u64) -> Stamp {
        Stamp::new(NTP64(time), Origin::new(NodeId::new(1 << 24), 1))
    }

    fn mapping(databases: &Databases) -> Vec<u32> {
        (0..databases.count()).map(|db| databases.space_of(db)).collect()
    }

    fn merged(order: &[usize]) -> Databases {
        let databases = Databases::new(4);
        for &n in order {
            databases.merge_swap(stamp(n as u64 + 1), SWAPS[n].0, SWAPS[n].1);
        }
        databases
    }

    /// All orders of `items`.
    fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
        if items.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (at, &first) in items.iter().enumerate() {
            let rest = [&items[..at], &items[at + 1..]].concat();
            all.extend(permutations(&rest).into_iter().map(|tail| [vec![first], tail].concat()));
        }
        all
    }

    #[test]
    fn swaps_in_any_order_and_repeated_give_one_mapping() {
        let expected = merged(&[0, 1, 2, 3, 4]);
        for order in permutations(&[0, 1, 2, 3, 4]) {
            let twice = [order.clone(), order.clone()].concat();
            assert_eq!(mapping(&merged(&twice)), mapping(&expected), "{order:?}");
            assert_eq!(merged(&twice).digest(), expected.digest(), "{order:?}");
        }
    }

    #[test]
    fn bases_that_end_alike_but_differ_become_one() {
        let (a, b) = (merged(&[0, 2]), merged(&[0, 1, 2]));
        a.settle(NTP64(9));
        b.settle(NTP64(9));
        let (of_a, of_b) = (a.swaps(), b.swaps());
        a.merge(&of_b);
        b.merge(&of_a);
        assert_eq!(mapping(&a), mapping(&b));
    }

    #[test]
    fn settled_swaps_leave_the_mapping_and_stay_settled_when_they_come_again() {
        for settled in 0..=SWAPS.len() as u64 {
            let databases = merged(&[0, 1, 2, 3, 4]);
            databases.settle(NTP64(settled));
            assert_eq!(databases.swaps().since.len(), SWAPS.len() - settled as usize);
            for (time, (a, b)) in (1..).zip(SWAPS) {
                assert!(databases.merge_swap(stamp(time), a, b).is_empty());
            }
            assert_eq!(mapping(&databases), mapping(&merged(&[0, 1, 2, 3, 4])), "settled {settled}");
        }
    }

    #[test]
    fn logs_merge_wherever_each_was_settled() {
        for (ours, theirs) in [(0, 3), (3, 0), (2, 5), (5, 2), (4, 4)] {
            let (one, other) = (merged(&[0, 1, 2, 3, 4]), merged(&[0, 1, 2, 3, 4]));
            let newcomer = Databases::new(4);
            one.settle(NTP64(ours));
            other.settle(NTP64(theirs));
            newcomer.merge(&one.swaps());
            newcomer.merge(&other.swaps());
            one.merge(&other.swaps());
            assert_eq!(mapping(&one), mapping(&other), "settled {ours} and {theirs}");
            assert_eq!(mapping(&newcomer), mapping(&other), "settled {ours} and {theirs}");
        }
    }

    #[test]
    fn databases_only_other_nodes_have_take_part_unseen() {
        let few = Databases::new(2);
        few.merge_swap(stamp(1), 0, 7);
        few.merge_swap(stamp(2), 7, 1);
        few.merge_swap(stamp(3), 0, DATABASES_MAX);
        assert_eq!(mapping(&few), [7, 0]);
        assert_eq!(few.db_of(7), Some(0));
        assert_eq!(few.db_of(1), None);
    }
}
