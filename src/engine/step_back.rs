//! A clock that was ahead is set right: giving back stamps that nobody has taken.
//!
//! Problem: while this node's clock was ahead, it stamped writes in the future; the partners hold them. When the
//! clock is set right the hybrid clock would stay ahead, because stamps never step back, and everything written here
//! would be held until the real time catches up, which may be an hour.
//!
//! The stamps that are too far ahead can be given back as long as nobody has merged one: the partners are asked
//! (`link/mesh/recall.rs`). Then all writing is stopped for a moment, those stamps are replaced in the same
//! order by the next free ones just above the limit, which is above anything anybody could have taken, and the links
//! begin anew: partners pull the ranges that differ.
//!
//! Cost: a walk over the whole keyspace, once, with everything locked.

use std::collections::BTreeSet;

use super::keyspace::Locks;
use super::{Engine, Now};
use crate::clock::{NTP64, Origin, Stamp};
use crate::link::mesh::Mesh;

/// Which stamps are given back, and what they become.
struct Exchange {
    own: Origin,
    limit: NTP64,
    /// The times given back, in order.
    times: Vec<NTP64>,
}

impl Exchange {
    fn is_ahead(&self, stamp: Stamp) -> bool {
        stamp.origin == self.own && stamp.time > self.limit
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
        // What waits to be sequenced is in the ranges, which the partners will pull.
        slots.iter_mut().for_each(|slot| slot.bytes.clear());
        let last = NTP64(limit.0 + 1 + exchange.times.len() as u64);
        self.clock.set_back(last);
        mesh.restate_own(last);
        true
    }
}
