//! A clock that was ahead is set right: giving back stamps that nobody has taken.
//!
//! Problem: while this node's clock was ahead, it stamped writes in the future; the partners hold them. When the
//! clock is set right the hybrid clock would stay ahead, because stamps never step back, and everything written here
//! would be held until the real time catches up, which may be an hour.
//!
//! The stamps that are too far ahead can be given back as long as nobody has merged one: the partners are asked
//! (`link/mesh/recall.rs`). Then all writing is stopped for a moment, those stamps are replaced in the same
//! order by the next free ones just above the limit, which is above anything anybody could have taken, and the links
//! begin anew: partners pull the ranges that differ. On disk they stand as they were written until the next snapshot is
//! whole: who is read back from there gives them back again.
//!
//! Cost: a walk over the whole keyspace, once, with everything locked.

use std::collections::BTreeSet;

use super::keyspace::Locks;
use super::{Engine, Now};
use crate::clock::{NTP64, Origin, Stamp};
use crate::link::mesh::Mesh;
use crate::link::outbox::Drained;

/// Which stamps are given back, and what they become.
struct Exchange {
    own: Origin,
    limit: NTP64,
    /// The times given back, in order.
    times: Vec<NTP64>,
}

impl Exchange {
    /// This node's stamps, those of former lives that were read back from disk included, what stands just above one to
    /// clear it, and the instants of expiries that only its clock had reached.
    fn is_ahead(&self, stamp: Stamp) -> bool {
        let above = Stamp::new(stamp.time, self.own).next().origin;
        let is_own = stamp.origin.node() == self.own.node() || stamp.origin == above;
        stamp.time > self.limit && (is_own || stamp.origin == Origin::NONE)
    }

    fn time(&self, time: NTP64) -> NTP64 {
        NTP64(self.limit.0 + 1 + self.times.partition_point(|held| *held < time) as u64)
    }

    fn stamp(&self, stamp: Stamp) -> Stamp {
        if self.is_ahead(stamp) { Stamp::new(self.time(stamp.time), stamp.origin) } else { stamp }
    }
}

impl Engine {
    /// Gives back stamps beyond the limit if this node's clock was set back and nobody has taken one. Returns
    /// whether it did; the links are to be closed then.
    pub(super) fn step_back(&self, mesh: &mut Mesh, now: Now) -> bool {
        let limit = self.time_limit(now);
        if self.clock.last() <= limit {
            mesh.end_recall(now.unix_ms);
            return false;
        }
        if !mesh.recall(limit, now.unix_ms) {
            return false;
        }
        // Ranges first, as commands do. A thread may hold its slot and wait for a range: then this is not the moment.
        let Locks::All(mut cells) = Locks::all(self) else { return false };
        let Some(mut slots) = self.outbox.try_lock_all() else { return false };
        // What waits to be sequenced goes to the journal as it was written: it may be acknowledged any moment.
        let mut waiting = Drained::default();
        waiting.merge(slots.iter_mut().map(|slot| std::mem::take(&mut slot.bytes)).collect());
        self.put_in_sequence(mesh, waiting, self.clock.last());
        let own = self.clock.origin();
        let mut exchange = Exchange { own, limit, times: Vec::new() };
        let mut times: BTreeSet<NTP64> = BTreeSet::new();
        let mut note = |stamp: Stamp| {
            if exchange.is_ahead(stamp) {
                times.insert(stamp.time);
            }
        };
        cells.iter().for_each(|cell| cell.shard.each_stamp(&mut note));
        self.registers.all().iter().for_each(|(_, stamp, _)| note(*stamp));
        self.databases.swaps().stamps().for_each(&mut note);
        exchange.times = times.into_iter().collect();
        for cell in &mut cells {
            cell.shard.restamp(&|stamp| exchange.stamp(stamp), self.shard_context());
        }
        self.registers.restamp(|stamp| exchange.stamp(stamp));
        self.databases.restamp(|stamp| exchange.stamp(stamp));
        let last = NTP64(limit.0 + 1 + exchange.times.len() as u64);
        self.clock.set_back(last);
        mesh.restate_own(last, limit);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ntp_from_unix_ms;
    use crate::engine::testing::Fixture;
    use crate::store::shard::RANGES;

    /// What is written by a clock an hour ahead reads the same once it is set right, and has no stamp of that hour.
    fn check(commands: &[&str], read: &str, expected: &str) {
        let mut here = Fixture::replicating();
        here.run("SET expiring v PX 60000");
        here.now_ms += 3_600_000;
        commands.iter().for_each(|command| drop(here.run(command)));
        here.now_ms -= 3_600_000;
        // The first tick begins to ask, the next finds that there is nobody to be asked.
        for _ in 0..2 {
            here.now_ms += 2000;
            here.engine.link_tick(Now::from_unix_ns(u128::from(here.now_ms) * 1_000_000));
        }
        here.check(read, expected);
        let mut newest = NTP64(0);
        for range in 0..RANGES {
            let cell = here.engine.cell(range).lock();
            cell.shard.each_stamp(&mut |stamp| newest = newest.max(stamp.time));
        }
        assert!(newest < ntp_from_unix_ms(here.now_ms + 30_000), "{commands:?}");
    }

    #[test]
    fn a_key_that_expired_under_a_stamp_from_the_future_stays_dead() {
        let mut here = Fixture::replicating();
        here.now_ms += 3_600_000;
        here.run("SET k v");
        here.now_ms -= 3_600_000;
        here.run("SET brief v PX 1000");
        here.now_ms += 2000;
        here.tick();
        here.check("DBSIZE", ":1");
        for _ in 0..2 {
            here.now_ms += 2000;
            here.engine.link_tick(Now::from_unix_ns(u128::from(here.now_ms) * 1_000_000));
        }
        here.tick();
        here.check("DBSIZE", ":1");
    }

    #[test]
    fn tombstones_from_the_future_go_like_others() {
        let mut here = Fixture::replicating();
        here.now_ms += 3_600_000;
        here.run("SET k v");
        here.run("DEL k");
        here.now_ms -= 3_600_000;
        for _ in 0..3 {
            here.now_ms += 2000;
            here.engine.link_tick(Now::from_unix_ns(u128::from(here.now_ms) * 1_000_000));
        }
        here.tick();
        let graves = |range: usize| here.engine.cell(range).lock().shard.graves();
        assert_eq!((0..RANGES).map(graves).sum::<usize>(), 0);
    }

    #[test]
    fn all_stamps_from_the_future_are_given_back() {
        check(&["SET k v", "RPUSH l a", "LPUSH l b"], "LRANGE l 0 -1", "*2 $1 b $1 a");
        check(&["INCR n", "SET n 5", "INCR n"], "GET n", "$1 6");
        check(&["SADD k m", "SREM k m", "HSET k f v"], "HGET k f", "$1 v");
        check(&["SADD k m", "SREM k m", "INCR k"], "GET k", "$1 1");
        check(&["APPEND expiring w"], "GET expiring", "$1 w");
    }
}
