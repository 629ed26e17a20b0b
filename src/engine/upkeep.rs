//! What the server does without being asked: keys past their expiry are buried, and what nothing can contest any more
//! is forgotten.
//!
//! [`Engine::tick`] does a bounded amount of it, going round the ranges under one lock at a time, and says whether
//! there is more. A range without anything due costs a lock and two comparisons.

use std::sync::atomic::Ordering;

use super::cell::Cell;
use super::keyspace::{Keyspace, Locks};
use super::notify::{Event, EventClass};
use super::stats::Stats;
use super::{Engine, Now};
use crate::clock::{NodeId, Origin};
use crate::store::shard::RANGES;

/// Most keys buried in one tick, and most graves visited: about a millisecond each.
const TICK_BUDGET: usize = 2000;

impl Engine {
    /// Does the next piece of upkeep. Returns whether more is due now.
    pub fn tick(&self, now: Now, thread: usize) -> bool {
        self.databases.settle(self.stable());
        let stable = self.collectable();
        let expires = self.active_expire.load(Ordering::Relaxed) && self.pause.at(now.unix_ms).is_none();
        if self.upkeep_ms.swap(now.unix_ms, Ordering::Relaxed) > now.unix_ms {
            (0..RANGES).for_each(|range| self.cell(range).lock().shard.exhume(now.unix_ms, &self.hasher));
        }
        let equals: Vec<NodeId> = self.mesh.lock().linked_equals().collect();
        let (mut burials, mut visits) = (TICK_BUDGET, TICK_BUDGET);
        let first = self.upkeep_range.load(Ordering::Relaxed);
        for range in (first..first + RANGES).map(|number| number % RANGES) {
            let mut cell = self.cell(range).lock();
            if !cell.shard.is_upkeep_due(stable, now.unix_ms) {
                continue;
            }
            let mut events = Vec::new();
            let mut more = false;
            if expires {
                let buried = self.bury_due(&mut cell, now, burials, thread, &mut events);
                burials -= buried;
                more = burials == 0;
            }
            let graves = cell.shard.graves();
            let mut died: Vec<(u32, Vec<u8>)> = Vec::new();
            cell.shard.collect(stable, now.unix_ms, visits, |space, key, expiry| {
                if self.clears(expiry.stamp.origin, &equals) {
                    died.push((space, key.to_vec()));
                }
            });
            visits = visits.saturating_sub(graves - cell.shard.graves().min(graves));
            drop(cell);
            died.iter().for_each(|(space, key)| self.clear_dead(*space, key, now, thread));
            self.publish_events(&events);
            if more || visits == 0 {
                self.upkeep_range.store(range, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Whether this node clears keys killed by an expiry of that origin: its own, and those of nodes that cannot do it
    /// themselves. One node is enough, but several may; a replica leaves it to others, also what it set before it followed.
    fn clears(&self, origin: Origin, equals: &[NodeId]) -> bool {
        let is_of_this = origin.node() == self.clock.origin().node();
        !self.is_follower() && (is_of_this || !equals.contains(&origin.node()))
    }

    /// Clears a key that is dead for good, on all nodes.
    fn clear_dead(&self, space: u32, key: &[u8], now: Now, thread: usize) {
        let range = self.hash(key).range();
        let mut keys = Keyspace::new(self, Locks::One(range, self.cell(range).lock()), 0, now, thread);
        keys.clear_dead(space, key);
        self.conclude(keys, thread);
    }

    /// Has keys expire in the background, or only when they are asked for.
    pub fn set_active_expire(&self, active: bool) {
        self.active_expire.store(active, Ordering::Relaxed);
    }

    /// Buries at most `budget` keys of a range that are past their expiry. Returns how many; the events are to be published
    /// once the range is unlocked.
    pub(super) fn bury_due(
        &self,
        cell: &mut Cell,
        now: Now,
        budget: usize,
        thread: usize,
        events: &mut Vec<Event>,
    ) -> usize {
        let mut buried = 0;
        let notifies = self.notifies(EventClass::EXPIRED);
        cell.shard.bury_due(now.unix_ms, budget, |space, key| {
            buried += 1;
            if notifies && let Some(db) = self.databases.db_of(space) {
                events.push(Event { class: EventClass::EXPIRED, event: "expired", db, key: key.to_vec() });
            }
        });
        if buried > 0 {
            Stats::add(&self.stats(thread).expired_keys, buried as u64);
        }
        buried
    }
}
