//! A peer's batch becomes part of this node's data: in one step for who reads here, and heard by who watches, waits or
//! subscribes.
//!
//! What a batch holds beside keys concerns all of a keyspace or of the cluster: flushes, swaps, registers, messages.
//! The first two need every range; the last two are acted on once nothing is locked. A pulling peer gets the same as
//! [`Globals`].

use smallvec::SmallVec;

use super::conflicts::{Author, Watch};
use super::keyspace::{Keyspace, Locks};
use super::notify::PeerEvents;
use super::pubsub::Scope;
use super::stats::Stats;
use super::{Engine, Now, allowlist};
use crate::clock::{NTP64, NodeId, Origin, Stamp};
use crate::faults::Faults;
use crate::link::batch::{Record, Records, Register};
use crate::link::codec::{self, Malformed};
use crate::link::frame::Globals;
use crate::link::vector::Vector;
use crate::store::delta::Change;
use crate::store::entry::Unseen;
use crate::store::shard::KeyHash;

/// Why a peer's data cannot be taken: it may have more databases than this node.
pub(super) const FOREIGN_DATABASE: &str = "a database this node does not have: raise `databases`";

/// What either side knew when a batch came.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What this node had.
    pub own: &'a Vector,
    /// Up to when the author had merged what this node wrote.
    pub seen: NTP64,
    /// Up to when this node had written, but for what is in the outbox.
    pub written: NTP64,
}

/// What a batch has to have locked.
enum Touched {
    /// All there is: a keyspace is flushed, or moves.
    Whole,
    /// The ranges of its keys, in the batch's order.
    Ranges(SmallVec<[usize; 8]>),
}

/// What of a batch is acted on once nothing is locked.
enum Afterwards<'b> {
    Register(Register, Stamp, &'b [u8]),
    Message(Scope, &'b [u8], &'b [u8]),
}

impl Engine {
    /// Applies one batch of a peer: visible on this node in one step.
    ///
    /// # Errors
    /// If it is malformed; nothing is merged then.
    pub fn merge_batch(
        &self,
        origin: Origin,
        batch: Records<'_>,
        known: Known<'_>,
        now: Now,
        thread: usize,
    ) -> Result<(), Malformed> {
        let locks = match self.touched(&batch)? {
            Touched::Whole => Locks::all(self),
            Touched::Ranges(mut ranges) => Locks::of(self, &mut ranges),
        };
        // Before anyone can see the data: what is written after seeing it is stamped later.
        self.clock.observe(batch.newest);
        let mut keys = Keyspace::new(self, locks, 0, now, thread);
        let watch = self.watch(Author::Is(origin), known, now);
        let (mut stamp, mut at) = (Stamp::new(batch.time, origin), (0, &[][..]));
        let mut garbage = Vec::new();
        let mut afterwards: SmallVec<[Afterwards<'_>; 2]> = SmallVec::new();
        let mut events = self.notifies_anything().then(PeerEvents::default);
        for (number, record) in batch.list.iter().enumerate() {
            match record {
                Record::Time(time) => stamp = Stamp::new(*time, origin),
                Record::Stamp(other) => stamp = *other,
                Record::Key(space, key) => at = (*space, key),
                Record::Change(change) => {
                    let stamp = change.stamp(stamp);
                    // A sum that was split is told anew, under the stamp it had.
                    if let Some(watch) = watch.as_ref().filter(|_| !known.own.covers(stamp)) {
                        keys.notice(at, stamp, change, same_write(&batch.list[number + 1..]), watch);
                    }
                    // The author of an LSET may not have seen that the item was removed, which its tombstone told, if it is
                    // not collected yet. An item that was here and is not is not placed again.
                    if let Change::ItemValue(pos, _) = change
                        && known.own.covers(pos.stamp())
                        && !keys.holds(at.0, at.1, stamp, change)
                    {
                        continue;
                    }
                    let existed = events.is_some() && keys.is_there(at.0, at.1);
                    if !keys.merge_remote(at.0, at.1, stamp, change) {
                        continue;
                    }
                    Stats::add(&self.stats(thread).merged, 1);
                    if let (Some(events), Some(db)) = (&mut events, self.db_of(at.0)) {
                        events.changed(db, at.1, change, existed, keys.is_there(at.0, at.1));
                    }
                }
                Record::Flush(space) if self.is_planted(Faults::FORGOTTEN_FLUSH) => {
                    self.clear_held(&mut keys, *space, stamp);
                }
                Record::Flush(space) => garbage.extend(keys.flush_remote(*space, stamp, watch.as_ref())),
                Record::Swap(a, b) => keys.merge_swap(stamp, *a, *b),
                Record::Amount(_) => {}
                Record::Register(register, value) => {
                    afterwards.push(Afterwards::Register(*register, stamp, value));
                }
                Record::Publish(channel, message) => {
                    afterwards.push(Afterwards::Message(Scope::Channel, channel, message));
                }
                Record::ShardPublish(channel, message) => {
                    afterwards.push(Afterwards::Message(Scope::Shard, channel, message));
                }
            }
        }
        self.conclude(keys, thread);
        drop(garbage);
        self.publish_events(&events.map(PeerEvents::finish).unwrap_or_default());
        for act in afterwards {
            match act {
                Afterwards::Register(register, stamp, value) => self.merge_register(register, stamp, value),
                Afterwards::Message(scope, channel, message) => {
                    self.deliver(scope, channel, message);
                }
            }
        }
        Ok(())
    }

    /// What a batch touches, if all of it can be taken.
    fn touched(&self, batch: &Records<'_>) -> Result<Touched, Malformed> {
        let (mut ranges, mut whole) = (SmallVec::new(), false);
        let (mut foreign, mut unreadable, mut keyless) = (false, false, false);
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
                Record::Change(_) => keyless |= ranges.is_empty(),
                Record::Time(_) | Record::Stamp(_) | Record::Amount(_) => {}
                Record::Publish(..) | Record::ShardPublish(..) => {}
            }
        }
        let reason = match (foreign, unreadable, keyless) {
            (true, ..) => FOREIGN_DATABASE,
            (_, true, _) => "a register's value is none",
            (.., true) => "a change of no key",
            (false, false, false) if whole => return Ok(Touched::Whole),
            (false, false, false) => return Ok(Touched::Ranges(ranges)),
        };
        Err(codec::malformed(reason))
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

    /// Where to log conflicts with changes that come, if there can be any. The ranges they are in must be locked.
    pub(super) fn watch<'a>(&'a self, author: Author<'a>, known: Known<'_>, now: Now) -> Option<Watch<'a>> {
        let is_all_seen = || known.written <= known.seen && !self.outbox.is_filled();
        if !self.conflicts.is_on() || is_all_seen() {
            return None;
        }
        let unseen = Unseen { own: self.clock.origin(), seen: known.seen };
        Some(Watch { log: &self.conflicts, unseen, author, now_ms: now.unix_ms })
    }

    /// Takes over what a giver of ranges has besides them.
    pub(super) fn merge_globals(
        &self,
        globals: &Globals,
        author: Author<'_>,
        known: Known<'_>,
        now: Now,
        thread: usize,
    ) {
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
            let watch = self.watch(author, known, now).filter(|_| !known.own.covers(*stamp));
            let garbage = keys.flush_remote(*space, *stamp, watch.as_ref());
            self.conclude(keys, thread);
            drop(garbage);
        }
    }
}

/// What the write that a change belongs to does behind it to the same key.
fn same_write<'a>(behind: &'a [Record<'a>]) -> impl Iterator<Item = &'a Change<'a>> + Clone {
    let of_write = behind.iter().take_while(|record| matches!(record, Record::Change(_) | Record::Amount(_)));
    of_write.filter_map(|record| match record {
        Record::Change(change) => Some(change),
        _ => None,
    })
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
    use super::*;
    use crate::clock::NTP64;
    use crate::engine::testing::Fixture;
    use crate::link::batch::{Batch, BatchWriter};
    use crate::store::delta::{Pos, Side};

    #[test]
    fn a_change_of_no_key_is_refused() {
        let here = Fixture::replicating();
        let mut bytes = Vec::new();
        codec::encode(&Record::Change(Change::Clear), &mut bytes);
        let header = [&(bytes.len() as u32).to_le_bytes()[..], &[1; 8]].concat();
        let batch = [header, bytes].concat();
        let (batch, _) = Batch::split(&batch).unwrap().unwrap();
        let now = Now { unix_ms: here.now_ms, ntp: NTP64(0) };
        let (records, own) = (batch.read().unwrap(), Vector::default());
        let known = Known { own: &own, seen: NTP64(0), written: NTP64(0) };
        assert!(here.engine.merge_batch(Origin::NONE, records, known, now, 0).is_err());
    }

    /// No honest node writes it, but what it would leave behind is out of step: an item older than the key's clear.
    #[test]
    fn an_item_is_not_changed_before_it_was_placed() {
        let here = Fixture::replicating();
        let peer = Origin::new(NodeId::new(7 << 24), 1);
        let stamp = |time: u64| Stamp::new(NTP64(time), peer);
        let place = |index: u32| Pos::pushed(Side::Before, stamp(3), index);
        let mut bytes = Vec::new();
        let mut writer = BatchWriter::begin(peer, &mut bytes);
        for (time, change) in
            [(1, Change::Item(place(0), b"x")), (1, Change::ItemRemove(place(1))), (2, Change::Clear)]
        {
            writer.change(0, b"l", stamp(time), &change, &mut bytes);
        }
        writer.finish(NTP64(1), &mut bytes);
        let (batch, _) = Batch::split(&bytes).unwrap().unwrap();
        let now = Now { unix_ms: here.now_ms, ntp: NTP64(0) };
        let records = batch.read().unwrap();
        assert_eq!(records.newest, NTP64(3), "a place's stamps are not to lie ahead of the clock either");
        let own = Vector::default();
        let known = Known { own: &own, seen: NTP64(0), written: NTP64(0) };
        here.engine.merge_batch(peer, records, known, now, 0).unwrap();
        here.engine.check_invariants();
    }

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
