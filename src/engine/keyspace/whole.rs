//! What concerns whole databases: walking, flushing, and swapping them.
//!
//! A flush or a swap holds every range, so its commands see it happen at once. A walk takes the ranges one at a time
//! where it is enough that each is seen as of some moment.

use std::ops::ControlFlow;

use parking_lot::MutexGuard;

use super::{Keyspace, Locks};
use crate::clock::Stamp;
use crate::engine::Engine;
use crate::engine::cell::Cell;
use crate::engine::conflicts::Watch;
use crate::engine::databases::Moved;
use crate::link::batch::Record;
use crate::link::frame::Swaps;
use crate::store::shard::{Flushed, RANGES, Shard};

impl<'e> Keyspace<'e> {
    /// Calls back with every range from `first` on, until told to stop: with all of them locked if they are, else
    /// with one locked at a time.
    pub fn walk(&mut self, first: usize, mut each: impl FnMut(usize, &mut Cell) -> ControlFlow<()>) {
        for range in first..RANGES {
            let flow = match &mut self.locks {
                Locks::All(cells) => each(range, &mut cells[range]),
                Locks::None => each(range, &mut self.engine.cell(range).lock()),
                Locks::One(..) | Locks::Many(_) => {
                    panic!("the command's table entry does not say that it walks")
                }
            };
            if flow.is_break() {
                return;
            }
        }
    }

    /// All cells, when the whole keyspace is locked.
    pub fn cells(&self) -> &[MutexGuard<'e, Cell>] {
        match &self.locks {
            Locks::All(cells) => cells,
            Locks::None | Locks::One(..) | Locks::Many(_) => &[],
        }
    }

    /// Keys, and keys that expire, per database. Walks the keyspace.
    pub fn sizes(&mut self) -> Vec<(usize, usize)> {
        let spaces: Vec<u32> = (0..self.engine.databases()).map(|db| self.engine.space_of(db)).collect();
        let mut sizes = vec![(0, 0); spaces.len()];
        self.walk(0, |_, cell| {
            for (space, (keys, expires)) in spaces.iter().zip(&mut sizes) {
                *keys += cell.shard.live(*space);
                *expires += cell.shard.volatile(*space);
            }
            ControlFlow::Continue(())
        });
        sizes
    }

    /// Buries every key past its expiry, in the ranges [`Self::walk`] visits: all.
    pub fn bury_due(&mut self) {
        let (engine, now, thread) = (self.engine, self.now, self.thread);
        let mut events = Vec::new();
        self.walk(0, |_, cell| {
            engine.bury_due(cell, now, usize::MAX, thread, &mut events);
            ControlFlow::Continue(())
        });
        self.events.extend(events);
    }

    /// Flushes a keyspace; the whole keyspace must be locked. Returns what to drop after unlocking.
    pub fn flush(&mut self, space: u32) -> Vec<Flushed> {
        let stamp = self.stamp();
        let cx = self.engine.shard_context();
        let Locks::All(cells) = &mut self.locks else { panic!("a flush holds every range") };
        let (engine, now_ms) = (self.engine, self.now.unix_ms);
        let mut flushed = Vec::new();
        for cell in cells.iter_mut() {
            cell.touch_keys(|held, key| held == space && exists(engine, &cell.shard, space, key, now_ms));
            flushed.push(cell.shard.flush(space, stamp, cx, |_| {}));
        }
        self.dirty += flushed.iter().map(|flushed| flushed.len() as u64).sum::<u64>();
        self.record(&Record::Flush(space));
        flushed
    }

    /// Flushes a keyspace as of a peer's stamp; the whole keyspace must be locked.
    pub(in crate::engine) fn flush_remote(
        &mut self,
        space: u32,
        stamp: Stamp,
        watch: Option<&Watch<'_>>,
    ) -> Vec<Flushed> {
        if let Some(watch) = watch {
            self.notice_flush(space, stamp, watch);
        }
        let cx = self.engine.shard_context();
        let Locks::All(cells) = &mut self.locks else { panic!("a flush holds every range") };
        let mut flushed = Vec::new();
        let mut split: Vec<Vec<u8>> = Vec::new();
        let (engine, now_ms) = (self.engine, self.now.unix_ms);
        for cell in cells.iter_mut() {
            cell.touch_keys(|held, key| held == space && exists(engine, &cell.shard, space, key, now_ms));
            flushed.push(cell.shard.flush(space, stamp, cx, |entry| split.push(entry.key().to_vec())));
        }
        for key in split {
            self.assert_own_sums(space, &key);
        }
        flushed
    }

    /// Exchanges what two databases show; the whole keyspace must be locked.
    pub fn swap(&mut self, a: u32, b: u32) {
        let stamp = self.stamp();
        self.merge_swap(stamp, a, b);
        self.record(&Record::Swap(a, b));
        self.dirty += 1;
    }

    /// Merges a swap; the whole keyspace must be locked.
    pub(crate) fn merge_swap(&mut self, stamp: Stamp, a: u32, b: u32) {
        let moved = self.engine.databases.merge_swap(stamp, a, b);
        self.follow(&moved);
    }

    /// Merges all swaps a peer has; the whole keyspace must be locked.
    pub(crate) fn merge_swaps(&mut self, swaps: &Swaps) {
        let moved = self.engine.databases.merge(swaps);
        self.follow(&moved);
    }

    /// Has clients follow databases that show other keyspaces now. Keys they wait for are served from there.
    fn follow(&mut self, moved: &[Moved]) {
        let (engine, now_ms) = (self.engine, self.now.unix_ms);
        let Locks::All(cells) = &mut self.locks else { panic!("a swap holds every range") };
        for cell in cells.iter_mut().filter(|_| !moved.is_empty()) {
            cell.touch_keys(|space, key| {
                moved.iter().filter(|moved| moved.from == space).any(|Moved { from, to, .. }| {
                    [from, to].iter().any(|space| exists(engine, &cell.shard, **space, key, now_ms))
                })
            });
            cell.follow(moved);
        }
        moved.iter().for_each(|moved| self.serve_database(moved.db));
        self.select(self.db);
    }

    /// Has clients served that wait for any key of a database: another keyspace stands behind it now. The whole
    /// keyspace must be locked.
    pub fn serve_database(&mut self, db: u32) {
        let mut keys: Vec<Vec<u8>> = self.cells().iter().flat_map(|cell| cell.waiting.keys_of(db)).collect();
        keys.sort_unstable();
        let selected = self.db;
        self.select(db);
        keys.iter().for_each(|key| self.ready(db, key));
        self.select(selected);
    }
}

/// Whether a key exists in a range that is locked.
fn exists(engine: &Engine, shard: &Shard, space: u32, key: &[u8], now_ms: u64) -> bool {
    shard.get(space, key, engine.hash(key)).is_some_and(|entry| entry.value_at(now_ms).is_some())
}
