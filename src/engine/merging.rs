//! A peer's batch becomes part of this node's data: in one step for who reads here, and heard by who watches, waits or
//! subscribes.
//!
//! What a batch holds beside keys concerns all of a keyspace or of the cluster: flushes, swaps, registers, messages.
//! The first two need every range; the last two are acted on once nothing is locked. A pulling peer gets the same as
//! [`Globals`].

use smallvec::SmallVec;

use super::keyspace::{Keyspace, Locks};
use super::notify::PeerEvents;
use super::pubsub::Scope;
use super::stats::Stats;
use super::{Engine, Now, allowlist};
use crate::clock::{NodeId, Origin, Stamp};
use crate::faults::Faults;
use crate::link::batch::{Record, Records, Register};
use crate::link::codec::{self, Malformed};
use crate::link::frame::Globals;
use crate::link::vector::Vector;
use crate::store::delta::{Added, Change};
use crate::store::shard::KeyHash;

impl Engine {
    /// Applies one batch of a peer: visible on this node in one step. `own` is what this node had before.
    ///
    /// # Errors
    /// If it is malformed; nothing is merged then.
    pub fn merge_batch(
        &self,
        origin: Origin,
        batch: Records<'_>,
        own: &Vector,
        now: Now,
        thread: usize,
    ) -> Result<(), Malformed> {
        let mut ranges: SmallVec<[usize; 8]> = SmallVec::new();
        let (mut whole, mut foreign, mut unreadable) = (false, false, false);
        for record in &batch.list {
            match record {
                Record::Key(space, key) => {
                    foreign |= *space >= self.databases();
                    ranges.push(KeyHash::range_of(key));
                }
                Record::Flush(space) => {
                    foreign |= *space >= self.databases();
                    whole = true;
                }
                Record::Swap(a, b) => {
                    foreign |= *a.max(b) >= self.databases();
                    whole = true;
                }
                Record::Register(register, value) => unreadable |= !is_readable(*register, value),
                Record::Time(_) | Record::Stamp(_) | Record::Change(_) | Record::Amount(_) => {}
                Record::Publish(..) | Record::ShardPublish(..) => {}
            }
        }
        if foreign {
            return Err(codec::malformed("a database this node does not have: raise `databases`"));
        }
        if unreadable {
            return Err(codec::malformed("a register's value is none"));
        }
        let locks = if whole { Locks::all(self) } else { Locks::of(self, &mut ranges) };
        // Before anyone can see the data: what is written after seeing it is stamped later.
        self.clock.observe(batch.newest);
        let mut keys = Keyspace::new(self, locks, 0, now, thread);
        let (mut stamp, mut at) = (Stamp::new(batch.time, origin), (0, &[][..]));
        let mut garbage = Vec::new();
        let mut afterwards: SmallVec<[(Stamp, Record<'_>); 2]> = SmallVec::new();
        let mut events = self.notifies_anything().then(PeerEvents::default);
        for record in batch.list {
            match record {
                Record::Time(time) => stamp = Stamp::new(time, origin),
                Record::Stamp(other) => stamp = other,
                Record::Key(space, key) => at = (space, key),
                Record::Change(change) => {
                    // The author of an LSET may not have seen that the item was removed, which its tombstone told, if it is
                    // not collected yet. An item that was here and is not is not placed again.
                    if let Change::ItemValue(pos, _) = &change
                        && own.covers(pos.stamp())
                        && !keys.holds(at.0, at.1, &change)
                    {
                        continue;
                    }
                    let stamp = change.sum().map_or(stamp, Added::stamp);
                    let existed = events.is_some() && keys.is_there(at.0, at.1);
                    if !keys.merge_remote(at.0, at.1, stamp, &change) {
                        continue;
                    }
                    Stats::add(&self.stats(thread).merged, 1);
                    if let (Some(events), Some(db)) = (&mut events, self.db_of(at.0)) {
                        events.changed(db, at.1, &change, existed, keys.is_there(at.0, at.1));
                    }
                }
                Record::Flush(space) if self.is_planted(Faults::FORGOTTEN_FLUSH) => {
                    self.clear_held(&mut keys, space, stamp);
                }
                Record::Flush(space) => garbage.extend(keys.flush_remote(space, stamp)),
                Record::Swap(a, b) => keys.merge_swap(stamp, a, b),
                Record::Amount(_) => {}
                Record::Register(..) | Record::Publish(..) | Record::ShardPublish(..) => {
                    afterwards.push((stamp, record));
                }
            }
        }
        self.conclude(keys, thread);
        drop(garbage);
        self.publish_events(&events.map(PeerEvents::finish).unwrap_or_default());
        for (stamp, record) in afterwards {
            match record {
                Record::Register(register, value) => self.merge_register(register, stamp, value),
                Record::Publish(channel, message) => {
                    self.deliver(Scope::Channel, channel, message);
                }
                Record::ShardPublish(channel, message) => {
                    self.deliver(Scope::Shard, channel, message);
                }
                _ => unreachable!("only these were put aside"),
            }
        }
        Ok(())
    }

    /// Takes over a register's value and acts on it, if it is the latest and can be read. Nothing may be locked but
    /// this thread's slot.
    pub(crate) fn merge_register(&self, register: Register, stamp: Stamp, value: &[u8]) {
        match register {
            Register::Allowlist => {
                if self.allowlist.write().merge(stamp, value) == Ok(true) {
                    self.registers.merge(register, stamp, value);
                    self.enforce_allowlist();
                }
            }
            Register::Forgotten(_) => {
                self.registers.merge(register, stamp, value);
            }
            Register::Owner => {
                if let Some(owner) = owner_of(value)
                    && self.registers.merge(register, stamp, value)
                {
                    self.topology.write().set_owner(owner);
                }
            }
        }
    }

    /// What a pulling peer needs besides ranges.
    pub(super) fn globals(&self) -> Globals {
        let cell = self.cell(0).lock();
        let flushes = (0..cell.shard.spaces())
            .map(|space| (space, cell.shard.flushed_at(space)))
            .filter(|(_, stamp)| *stamp != Stamp::NEVER)
            .collect();
        drop(cell);
        Globals { flushes, swaps: self.databases.swaps(), registers: self.registers.all() }
    }

    pub(super) fn merge_globals(&self, globals: &Globals, now: Now, thread: usize) {
        for (register, stamp, value) in &globals.registers {
            self.clock.observe(stamp.time);
            self.merge_register(*register, *stamp, value);
        }
        if let Some(newest) = globals.swaps.stamps().max() {
            self.clock.observe(newest.time);
            let mut keys = Keyspace::new(self, Locks::all(self), 0, now, thread);
            keys.merge_swaps(&globals.swaps);
            self.conclude(keys, thread);
        }
        let flushes = globals.flushes.iter().filter(|(space, _)| *space < self.databases());
        for (space, stamp) in flushes {
            self.clock.observe(stamp.time);
            let mut keys = Keyspace::new(self, Locks::all(self), 0, now, thread);
            let garbage = keys.flush_remote(*space, *stamp);
            self.conclude(keys, thread);
            drop(garbage);
        }
    }
}

/// Whether a register's value makes sense.
fn is_readable(register: Register, value: &[u8]) -> bool {
    match register {
        Register::Allowlist => allowlist::of_bytes(value).is_some(),
        Register::Owner => owner_of(value).is_some(),
        Register::Forgotten(_) => true,
    }
}

/// The node a value of [`Register::Owner`] names: its id as text.
fn owner_of(value: &[u8]) -> Option<NodeId> {
    NodeId::parse(std::str::from_utf8(value).ok()?)
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    /// STR-4, and what is like it for the other types.
    #[test]
    fn of_two_writes_at_the_same_time_the_node_decides_alike_on_both() {
        let (mut a, mut b) = (Fixture::replicating(), Fixture::numbered(2));
        b.engine.start_replicating();
        a.run("HSET h g 0 i 0");
        a.run("RPUSH l x");
        b.merge(&a, &a.written());
        for (on_a, on_b) in [
            ("SET k a", "SET k b"),
            ("HSET h f a", "HSET h f b"),
            ("ZADD z 1 m", "ZADD z 2 m"),
            ("HDEL h g", "HSET h g b"),
            ("HSET h i a", "HDEL h i"),
            ("LSET l 0 a", "LSET l 0 b"),
            ("RPUSH l a", "RPUSH l b"),
            ("INCR n", "INCR n"),
            ("SET type a", "HSET type f b"),
            ("SET gone a", "SET gone b"),
            ("DEL gone", "DEL gone"),
            ("PEXPIRE k 5000", "PEXPIRE k 9000"),
        ] {
            a.run(on_a);
            b.run(on_b);
            assert_eq!(a.engine.clock.last(), b.engine.clock.last(), "{on_a} and {on_b} are stamped alike");
        }
        let (of_a, of_b) = (a.written(), b.written());
        a.merge(&b, &of_b);
        b.merge(&a, &of_a);
        for node in [&mut a, &mut b] {
            node.check("GET k", "$1 b");
            node.check("PTTL k", ":9000");
            node.check("HMGET h f g i", "*3 $1 b $1 b $-1");
            node.check("ZSCORE z m", "$1 2");
            node.check("LRANGE l 0 -1", "*3 $1 b $1 a $1 b");
            node.check("GET n", "$1 2");
            node.check("TYPE type", "+hash");
            node.check("EXISTS gone", ":0");
        }
        assert_eq!(a.run("MELD DIGEST"), b.run("MELD DIGEST"));
    }
}
