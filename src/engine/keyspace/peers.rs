//! What peers do to keys: their deltas are merged, and resync asks what is held and drops what is gone.
//!
//! A peer's delta touches who watches or waits as a local write does. It is not written to the batch: this node's
//! batches hold what this node did, and among that the sums that a peer's write has split.

use super::Keyspace;
use crate::clock::{Origin, Stamp};
use crate::engine::conflicts::{Rewritten, Watch};
use crate::faults::Faults;
use crate::link::frame::Cursor;
use crate::store::delta::Change;
use crate::store::digest;
use crate::store::entry::{Conflict, ConflictKind, Entry, Merged};

impl Keyspace<'_> {
    /// Logs what a change of a peer, not merged yet, conflicts with. `rest` is what the same write does behind it to the
    /// key.
    pub(in crate::engine) fn notice<'c>(
        &self,
        (space, key): (u32, &[u8]),
        stamp: Stamp,
        change: &Change<'_>,
        rest: impl Iterator<Item = &'c Change<'c>> + Clone,
        watch: &Watch<'_>,
    ) {
        if !watch.concerns(stamp) {
            return;
        }
        let hash = self.engine.hash(key);
        let shard = &self.locks.cell(hash.range()).shard;
        let flush = shard.flushed_at(space);
        if watch.unseen.has(flush) && change.is_write() && change.placed(stamp) < flush {
            let kind = ConflictKind::Flush;
            watch.tell(1, space, key, stamp, Conflict { kind, held: flush, held_wins: true, lost: change });
            return;
        }
        let Some(entry) = shard.get(space, key, hash) else { return };
        let is_clear = matches!(change, Change::Clear);
        // A clear with a string behind it is a SET.
        let set = || {
            rest.clone().find_map(|change| match change {
                Change::Assign(value) | Change::Value(value) => Some(Change::Assign(value)),
                _ => None,
            })
        };
        let set = if is_clear { set() } else { None };
        let mut rewritten: Option<Rewritten> = None;
        let mut met = 0;
        entry.conflicts(stamp, set.as_ref().unwrap_or(change), watch.unseen, |conflict| {
            if is_clear {
                let rewritten = rewritten.get_or_insert_with(|| Rewritten::by(rest.clone()));
                if rewritten.has(conflict.lost) {
                    return;
                }
            }
            met += 1;
            watch.tell(met, space, key, stamp, conflict);
        });
    }

    /// Logs what a flush of a peer, not merged yet, takes of this node's. The whole keyspace must be locked.
    pub(super) fn notice_flush(&self, space: u32, stamp: Stamp, watch: &Watch<'_>) {
        if !watch.concerns(stamp) {
            return;
        }
        let mut met = 0;
        for cell in self.cells().iter().filter(|cell| cell.shard.flushed_at(space) < stamp) {
            for entry in cell.shard.entries(space) {
                entry.killed(stamp, watch.unseen, ConflictKind::Flush, |conflict| {
                    met += 1;
                    watch.tell(met, space, entry.key(), stamp, conflict);
                });
            }
        }
    }

    /// Merges one delta of a peer, whose effects on local clients are those of a local write. Returns whether it changed
    /// anything.
    pub(crate) fn merge_remote(&mut self, space: u32, key: &[u8], stamp: Stamp, change: &Change<'_>) -> bool {
        let merged = self.merge_untold(space, key, stamp, change);
        if merged.reassert {
            self.assert_own_sums(space, key);
        }
        merged.changed
    }

    /// Likewise, but if it has split a sum of this node's, the caller is to tell it anew: [`Self::assert_own_sums`].
    pub(crate) fn merge_untold(
        &mut self,
        space: u32,
        key: &[u8],
        stamp: Stamp,
        change: &Change<'_>,
    ) -> Merged {
        let hash = self.engine.hash(key);
        let cx = self.engine.shard_context();
        let used_at = (self.now.unix_ms / 1000) as u32;
        let cell = self.locks.cell_mut(hash.range());
        let merged = match self.engine.twisted(&cell.shard, space, key, stamp, change, self.now) {
            None => cell.shard.merge(space, key, hash, stamp, change, used_at, cx),
            Some((stamp, change)) => cell.shard.merge(space, key, hash, stamp, &change, used_at, cx),
        };
        if *change == Change::Clear && stamp.origin == Origin::NONE {
            self.engine.hold(&mut cell.shard, space, key, hash, self.engine.clock.last());
        }
        if merged.changed {
            cell.touch_key(space, key);
            if !cell.waiting.is_empty()
                && let Some(db) = self.engine.db_of(space)
                && cell.is_awaited(db, key, change)
            {
                self.ready(db, key);
            }
        }
        let is_silent = self.engine.is_planted(Faults::SILENT_SPLIT);
        Merged { reassert: merged.reassert && !is_silent, ..merged }
    }

    /// Whether a key of a keyspace exists, for what a peer's change is called.
    pub(crate) fn is_there(&self, space: u32, key: &[u8]) -> bool {
        let hash = self.engine.hash(key);
        let entry = self.locks.cell(hash.range()).shard.get(space, key, hash);
        entry.is_some_and(|entry| entry.value_at(self.now.unix_ms).is_some())
    }

    /// Tells the peers this node's sums of a key anew, after one was split.
    pub(in crate::engine) fn assert_own_sums(&mut self, space: u32, key: &[u8]) {
        let own = self.stamp().origin;
        let hash = self.engine.hash(key);
        let Some((slot, batch, _)) = &mut self.batch else { return };
        if let Some(entry) = self.locks.cell(hash.range()).shard.get(space, key, hash) {
            entry.own_sums(own, |change| {
                if let Some(sum) = change.sum() {
                    batch.change(space, key, sum.stamp(), &change, &mut slot.bytes);
                }
            });
        }
    }

    /// Whether a register is held; see [`Entry::holds`].
    pub(crate) fn holds(&self, space: u32, key: &[u8], stamp: Stamp, change: &Change<'_>) -> bool {
        let hash = self.engine.hash(key);
        match self.locks.cell(hash.range()).shard.get(space, key, hash) {
            Some(entry) => entry.holds(stamp, change),
            None => Entry::blank(key).holds(stamp, change),
        }
    }

    /// Drops the registers of keys between two places that `is_gone` names. Returns of how many keys.
    pub(crate) fn forget_absent(
        &mut self,
        range: usize,
        from: Cursor,
        to: Cursor,
        is_gone: impl Fn(u32, &[u8], Stamp, &Change<'_>) -> bool,
    ) -> usize {
        let shard = &self.locks.cell(range).shard;
        let mut gone: Vec<(u32, Vec<u8>)> = Vec::new();
        for space in from.space..shard.spaces().min(to.space.saturating_add(1)) {
            for entry in shard.entries(space) {
                let at = Cursor { space, hash: digest::hash(entry.key()) };
                let mut any = false;
                if at >= from && at < to {
                    entry.registers(|stamp, change| any |= is_gone(space, entry.key(), stamp, &change));
                }
                if any {
                    gone.push((space, entry.key().to_vec()));
                }
            }
        }
        for (space, key) in &gone {
            let hash = self.engine.hash(key);
            let cell = self.locks.cell_mut(range);
            cell.touch_key(*space, key);
            cell.shard.update(*space, key, hash, |entry| {
                let before = entry.clone();
                before.registers(|stamp, change| {
                    if is_gone(*space, key, stamp, &change) {
                        entry.forget(&change);
                    }
                });
            });
        }
        gone.len()
    }
}
