//! The keyspace as one command sees it: the ranges it has locked, its stamp, and the batch it writes.
//!
//! Every change goes through [`Keyspace::apply`]: merged into the store, then appended to the batch, under the
//! lock of its range. Cost of a write: one lookup, one merge, and while peers are known a copy of the delta
//! into this thread's slot of the outbox.
//!
//! What a local write adds to its delta, so that the effect says all that happened here:
//! - a key found dead by expiry is cleared *as of the expiry instant* before something is written to it;
//! - a key that is created, or emptied by a removal, loses an expiry that stood there.
//!
//! Submodules: the ranges held (`locks`), reading (`reading`), whole databases (`whole`), and what peers do to keys
//! (`peers`).

mod locks;
mod peers;
mod reading;
mod whole;

use std::ops::Range;
use std::sync::Arc;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::cell::Cell;
use super::client::Client;
use super::notify::{Event, EventClass};
use super::pubsub::Scope;
use super::session::Watch;
use super::stats::Stats;
use super::{Engine, Now};
use crate::clock::{NTP64, Stamp};
use crate::faults::Faults;
use crate::link::batch::{BatchWriter, Record};
use crate::link::outbox::Slot;
use crate::store::delta::{Added, Amount, Change, Kind, Pos, Side};
use crate::store::entry::{Entry, Value};
use crate::store::shard::KeyHash;

pub use locks::Locks;

/// See the module's head.
pub struct Keyspace<'e> {
    engine: &'e Engine,
    locks: Locks<'e>,
    thread: usize,
    now: Now,
    db: u32,
    space: u32,
    stamp: Option<Stamp>,
    /// Stamps taken ahead for the commands to come, and how many are to be.
    reserved: Range<u64>,
    to_reserve: u64,
    /// The batch being written and the slot it is written to; opened by the first change.
    batch: Option<(MutexGuard<'e, Slot>, BatchWriter, NTP64)>,
    /// Databases and keys that got something a blocked client may be waiting for.
    pub(super) ready: SmallVec<[(u32, Vec<u8>); 2]>,
    pub(super) events: Vec<Event>,
    /// Messages for subscribers, sent with the events.
    pub(super) messages: Vec<(Scope, Vec<u8>, Vec<u8>)>,
    /// A key that exists is being written anew: to nobody it is new.
    replacing: bool,
    /// Number of changes made.
    pub dirty: u64,
    /// Whether reads leave the key's access time alone.
    pub no_touch: bool,
}

impl<'e> Keyspace<'e> {
    pub(super) fn new(engine: &'e Engine, locks: Locks<'e>, db: u32, now: Now, thread: usize) -> Self {
        Keyspace {
            engine,
            locks,
            thread,
            now,
            db,
            space: engine.space_of(db),
            stamp: None,
            reserved: 0..0,
            to_reserve: 0,
            batch: None,
            ready: SmallVec::new(),
            events: Vec::new(),
            messages: Vec::new(),
            replacing: false,
            dirty: 0,
            no_touch: false,
        }
    }

    /// Replaces the locks held, as for a blocked client's command run in the same batch.
    pub(super) fn relock(&mut self, locks: impl FnOnce() -> Locks<'e>) {
        self.locks = Locks::None;
        self.locks = locks();
        self.stamp = None;
        // What is there now may have been merged since they were taken.
        (self.reserved, self.to_reserve) = (0..0, 0);
    }

    /// Begins another command in the same batch: it takes its own stamp.
    pub fn next_command(&mut self) {
        self.stamp = None;
    }

    /// Has this and the next commands, so many in all, take stamps that follow each other, whatever other threads write and
    /// merge meanwhile elsewhere. So of two transactions with the same keys one is the later in all of them. Those ranges
    /// are to be locked from here on.
    pub fn reserve(&mut self, commands: usize) {
        (self.reserved, self.to_reserve) = (0..0, commands as u64);
    }

    /// The time of this command.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The wall-clock time of this command in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now.unix_ms
    }

    /// The same in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now.unix_us()
    }

    /// The selected database.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// Looks at another database from now on (SELECT inside MULTI, COPY DB, MOVE).
    pub fn select(&mut self, db: u32) {
        self.db = db;
        self.space = self.engine.space_of(db);
    }

    /// The stamp of this command; taken when first asked for.
    pub fn stamp(&mut self) -> Stamp {
        if let Some(stamp) = self.stamp {
            return stamp;
        }
        self.open_batch();
        let stamp = self.next_stamp();
        self.stamp = Some(stamp);
        if let Some((_, _, first)) = &mut self.batch
            && first.0 == 0
        {
            *first = stamp.time;
        }
        stamp
    }

    fn next_stamp(&mut self) -> Stamp {
        let clock = &self.engine.clock;
        if let Some(time) = self.reserved.next() {
            return Stamp::new(NTP64(time), clock.origin());
        }
        let count = std::mem::take(&mut self.to_reserve).max(1);
        let first = clock.tick_run(self.now.ntp, count);
        self.reserved = first.time.0 + 1..first.time.0 + count;
        first
    }

    /// Makes one change to a key of the selected database. Returns whether it changed anything.
    ///
    /// Callers decide beforehand whether there is something to do: a removal of what is absent is not to be
    /// applied.
    pub fn apply(&mut self, key: &[u8], change: &Change<'_>) -> bool {
        let hash = self.engine.hash(key);
        if !matches!(change, Change::Assign(_) | Change::Clear) {
            self.settle_expiry(key, hash, change);
        }
        let changed = self.apply_settled(key, hash, change);
        if changed && is_removal(change) {
            self.settle_emptied(key, hash);
        }
        changed
    }

    /// Applies changes of elements of one key like [`Self::apply`], but hashes the key once. All are removals,
    /// or none is.
    pub fn apply_each<'c>(&mut self, key: &[u8], changes: impl IntoIterator<Item = Change<'c>>) {
        let mut changes = changes.into_iter();
        let Some(first) = changes.next() else { return };
        let hash = self.engine.hash(key);
        self.settle_expiry(key, hash, &first);
        self.apply_settled(key, hash, &first);
        for change in changes {
            self.apply_settled(key, hash, &change);
        }
        if is_removal(&first) {
            self.settle_emptied(key, hash);
        }
    }

    fn apply_settled(&mut self, key: &[u8], hash: KeyHash, change: &Change<'_>) -> bool {
        let mut changed = self.merge(key, hash, None, change);
        if !changed && !matches!(change, Change::Clear) {
            // This very command has written the register, as HSET does with a field twice: the later value is to stand,
            // whichever is larger, so it takes the next stamp.
            self.stamp = None;
            if !is_removal(change) {
                self.settle_expiry(key, hash, change);
            }
            changed = self.merge(key, hash, None, change);
        }
        self.dirty += u64::from(changed);
        changed
    }

    /// Adds to a number: the string at the key, or one of its fields or members.
    pub fn add(&mut self, key: &[u8], element: Option<&[u8]>, kind: Kind, amount: Amount) {
        let hash = self.engine.hash(key);
        let stamp = self.stamp();
        let stamp = self.engine.counted(stamp);
        let probe = match (kind, element) {
            (Kind::Hash, Some(field)) => Change::Field(field, b""),
            (Kind::Zset, Some(member)) => Change::Score(member, 0.0),
            _ => Change::Value(b""),
        };
        self.settle_expiry(key, hash, &probe);
        let shard = &self.locks.cell(hash.range()).shard;
        let blank = Entry::blank(key);
        let entry = shard.get(self.space, key, hash).unwrap_or(&blank);
        let Some(added) = entry.added(element, kind, amount, stamp) else { return };
        let change = match (kind, element) {
            (Kind::Hash, Some(field)) => Change::FieldSum(field, added),
            (Kind::Zset, Some(member)) => Change::ScoreSum(member, added),
            _ => Change::Sum(added),
        };
        self.merge(key, hash, None, &change);
        let (own, stable) = (stamp.origin, self.engine.stable());
        let space = self.space;
        if let Some((slot, batch, _)) = &mut self.batch {
            batch.record(stamp, &Record::Amount(amount), &mut slot.bytes);
        }
        if let Some(entry) = self.locks.cell_mut(hash.range()).shard.get_mut(space, key, hash) {
            entry.remember(element, own, stamp.time, amount, stable);
        }
        self.dirty += 1;
    }

    /// Whether amounts are to be kept per origin. A node that neither has nor awaits partners sets whole values
    /// instead, which takes less memory and rounds floats exactly as Redis does.
    pub fn counts_per_origin(&self) -> bool {
        self.engine.is_active()
    }

    /// Deletes a key. Returns whether it existed.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let exists = self.find(key).is_some();
        (exists || self.engine.is_planted(Faults::ABSENT_REMOVAL)) && self.apply(key, &Change::Clear)
    }

    /// Sets or removes the expiry of an existing key.
    pub fn expire(&mut self, key: &[u8], at_ms: Option<u64>) {
        if let Some(kind) = self.peek(key).map(|value| value.kind()) {
            self.apply(key, &Change::Expire(at_ms, kind));
        }
    }

    /// Replaces a key by what `fill` applies to it: as DEL and writes at one stamp. One that existed, of whatever type,
    /// is not new to anyone: neither told to be, nor served to who waits for it.
    pub fn replace(&mut self, key: &[u8], fill: impl FnOnce(&mut Self)) {
        self.replacing = self.exists(key);
        self.rewrite(key, fill);
        self.replacing = false;
    }

    fn rewrite(&mut self, key: &[u8], fill: impl FnOnce(&mut Self)) {
        let hash = self.engine.hash(key);
        if self.entry(key).is_some() {
            self.dirty += 1;
        }
        if !self.merge(key, hash, None, &Change::Clear) {
            // Nothing is cleared here, but a partner may have written to the key what this node has not seen.
            let stamp = self.stamp();
            if let Some((slot, batch, _)) = &mut self.batch {
                batch.change(self.space, key, stamp, &Change::Clear, &mut slot.bytes);
            }
        }
        fill(self);
    }

    /// Copies an existing key, expiry included, over another of database `to_db`: clear and new elements at one stamp.
    pub fn copy(&mut self, from: &[u8], to_db: u32, to: &[u8]) {
        let Some(source) = self.peek_entry(from) else { return };
        let mut copy = source.clone();
        copy.used_at = (self.now.unix_ms / 1000) as u32;
        let expires_at_ms = copy.expires_at_ms();
        let from_db = self.db;
        self.select(to_db);
        self.rewrite(to, |keys| {
            let Some(value) = copy.value() else { return };
            keys.write_whole(to, value);
            keys.expire_written(to, value.kind(), expires_at_ms);
        });
        self.select(from_db);
    }

    fn expire_written(&mut self, key: &[u8], kind: Kind, at_ms: Option<u64>) {
        if at_ms.is_some() {
            self.apply(key, &Change::Expire(at_ms, kind));
        }
    }

    fn write_whole(&mut self, key: &[u8], value: Value<'_>) {
        match value {
            Value::String(text) => {
                self.apply(key, &Change::Assign(text));
            }
            Value::List(list) => {
                let stamp = self.stamp();
                for (index, item) in list.iter().enumerate() {
                    let pos = Pos::pushed(Side::Before, stamp, index as u32);
                    self.apply(key, &Change::Item(pos, item.value()));
                }
            }
            Value::Set(set) => set.iter().for_each(|member| {
                self.apply(key, &Change::Member(member));
            }),
            Value::Zset(zset) => zset.iter().for_each(|(member, score)| {
                self.apply(key, &Change::Score(member, score));
            }),
            Value::Hash(hash) => hash.iter().for_each(|(field, value)| {
                self.apply(key, &Change::Field(field, value));
            }),
        }
    }

    /// Adds a record that is not about a key to the batch.
    pub fn record(&mut self, record: &Record<'_>) {
        let stamp = self.stamp();
        if let Some((slot, batch, _)) = &mut self.batch {
            batch.record(stamp, record, &mut slot.bytes);
        }
    }

    /// WATCH: has EXEC of the client fail once the key changes. Returns whether it exists.
    pub fn watch(&mut self, key: &[u8], client: &Arc<Client>) -> bool {
        let space = self.space;
        self.cell_of(key).watch(space, key, client);
        self.exists(key)
    }

    /// Ends [`Self::watch`]; the key's range must be locked.
    pub fn unwatch(&mut self, watch: &Watch, client: &Arc<Client>) {
        let space = self.engine.space_of(watch.db);
        self.cell_of(&watch.key).unwatch(space, &watch.key, client);
    }

    /// Queues a keyspace notification, to be published once the locks are released.
    pub fn notify(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        if self.engine.notifies(class) {
            self.events.push(Event { class, event, db: self.db, key: key.to_vec() });
        }
    }

    /// Queues a message for the subscribers of a channel, to be sent once the locks are released.
    pub fn publish(&mut self, scope: Scope, channel: &[u8], message: &[u8]) {
        self.messages.push((scope, channel.to_vec(), message.to_vec()));
    }

    /// The keyspace the selected database stands for.
    pub fn space(&self) -> u32 {
        self.space
    }

    /// The server.
    pub fn engine(&self) -> &'e Engine {
        self.engine
    }

    /// The thread this runs on.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// A locked cell, for waiters and watchers of a key.
    pub(super) fn cell_of(&mut self, key: &[u8]) -> &mut Cell {
        let range = KeyHash::range_of(key);
        self.locks.cell_mut(range)
    }

    /// Unlocks the ranges; the batch stays open.
    pub(super) fn unlock(&mut self) {
        self.locks = Locks::None;
    }

    /// See [`crate::link::outbox::Outbox::hold_reply`].
    pub fn hold_reply(&self) {
        self.engine.outbox.hold_reply(self.thread);
    }

    /// Ends the batch. Returns whether it holds something to be sent.
    pub(super) fn finish(&mut self) -> bool {
        self.locks = Locks::None;
        match self.batch.take() {
            Some((mut slot, batch, first)) => {
                let filled = batch.finish(first, &mut slot.bytes);
                if filled {
                    self.engine.outbox.fill(self.thread);
                }
                filled
            }
            None => false,
        }
    }

    /// Remembers that a key, whose range is locked, may be what a blocked client waits for.
    fn ready(&mut self, db: u32, key: &[u8]) {
        if !self.ready.iter().any(|(of, held)| *of == db && held == key) {
            self.ready.push((db, key.to_vec()));
            self.cell_of(key).waiting.begin_serving();
        }
    }

    fn open_batch(&mut self) {
        if self.batch.is_none() && self.engine.is_replicating() {
            let mut slot = self.engine.outbox.slot(self.thread);
            self.engine.outbox.begin();
            let writer = BatchWriter::begin(self.engine.clock.origin(), &mut slot.bytes);
            self.batch = Some((slot, writer, NTP64(0)));
        }
    }

    /// Merges a delta and appends it to the batch if it changed something. Having tied with what this command wrote
    /// before is no change: [`Self::apply_settled`] writes it again under the next stamp.
    fn merge(&mut self, key: &[u8], hash: KeyHash, at: Option<Stamp>, change: &Change<'_>) -> bool {
        let own = self.stamp();
        let stamp = change.sum().map_or(at.unwrap_or(own), Added::stamp);
        let (space, used_at) = (self.space, (self.now.unix_ms / 1000) as u32);
        let cx = self.engine.shard_context();
        let is_new = || !self.replacing && !self.exists(key);
        let tells_new = self.engine.notifies(EventClass::NEW) && is_new();
        // Who waits is served by the command that creates the key, not by one that adds to it.
        let is_awaited = self.locks.cell(hash.range()).is_awaited(self.db, key, change) && is_new();
        let cell = self.locks.cell_mut(hash.range());
        let merged = cell.shard.merge(space, key, hash, stamp, change, used_at, cx);
        if !merged.changed || merged.tied {
            return false;
        }
        cell.touch_key(space, key);
        if is_awaited {
            self.ready(self.db, key);
        }
        if let Some((slot, batch, _)) = &mut self.batch {
            batch.change(space, key, stamp, change, &mut slot.bytes);
        }
        let is_overwritten = matches!(change, Change::Assign(_) | Change::Clear);
        if is_overwritten && merged.expiry_before_ms.is_some_and(|at_ms| at_ms <= self.now.unix_ms) {
            Stats::add(&self.engine.stats(self.thread).expired_keys, 1);
            self.notify(EventClass::EXPIRED, "expired", key);
        }
        if tells_new && self.exists(key) {
            self.notify(EventClass::NEW, "new", key);
        }
        true
    }

    /// Clears a key found dead as of its expiry instant; takes a stale expiry off a key about to be created.
    fn settle_expiry(&mut self, key: &[u8], hash: KeyHash, change: &Change<'_>) {
        let shard = &self.locks.cell(hash.range()).shard;
        let Some(entry) = shard.get(self.space, key, hash) else { return };
        let Some(expiry) = entry.expiry() else { return };
        let kind = entry.value().map(|value| value.kind());
        match (kind, entry.expires_at_ms(), expiry.dead_as_of()) {
            (Some(_), Some(at_ms), dead_as_of) if at_ms <= self.now.unix_ms => {
                self.merge(key, hash, self.engine.death(dead_as_of), &Change::Clear);
            }
            // The stamp has run ahead of the clock: without this the write would make the expiry void.
            (Some(_), Some(at_ms), Some(dead_as_of)) if dead_as_of <= self.stamp() => {
                self.merge(key, hash, None, &Change::Expire(Some(at_ms), expiry.kind));
            }
            // So it would one that was set by a node which had not seen the change of type.
            (Some(kind), Some(at_ms), _) if kind != expiry.kind && claims(change) => {
                self.merge(key, hash, None, &Change::Expire(Some(at_ms), kind));
            }
            (None, ..) if expiry.at_ms.is_some() && !is_removal(change) => {
                self.merge(key, hash, None, &Change::Expire(None, expiry.kind));
            }
            _ => {}
        }
    }

    /// Clears a key of a keyspace that its expiry has killed for good.
    pub(super) fn clear_dead(&mut self, space: u32, key: &[u8]) {
        let hash = self.engine.hash(key);
        let cx = self.engine.shard_context();
        let (stable, now_ms) = (self.engine.stable(), self.now.unix_ms);
        let entry = self.locks.cell(hash.range()).shard.get(space, key, hash);
        let died =
            entry.and_then(|entry| Some((entry.settled_death(stable, now_ms)?.dead_as_of()?, entry.used_at)));
        let Some((dead_as_of, used_at)) = died else { return };
        let now = self.stamp().time;
        let cell = self.locks.cell_mut(hash.range());
        cell.shard.merge(space, key, hash, dead_as_of, &Change::Clear, used_at, cx);
        self.engine.hold(&mut cell.shard, space, key, hash, now);
        if let Some((slot, batch, _)) = &mut self.batch {
            batch.change(space, key, dead_as_of, &Change::Clear, &mut slot.bytes);
        }
    }

    fn settle_emptied(&mut self, key: &[u8], hash: KeyHash) {
        let shard = &self.locks.cell(hash.range()).shard;
        let Some(entry) = shard.get(self.space, key, hash) else { return };
        if entry.value().is_none()
            && let Some(expiry) = entry.expiry()
            && expiry.at_ms.is_some()
        {
            self.merge(key, hash, None, &Change::Expire(None, expiry.kind));
        }
    }
}

/// Whether a change writes a value, and so claims the key for its type.
fn claims(change: &Change<'_>) -> bool {
    !is_removal(change) && !matches!(change, Change::Expire(..))
}

fn is_removal(change: &Change<'_>) -> bool {
    matches!(
        change,
        Change::FieldRemove(_) | Change::MemberRemove(_) | Change::ScoreRemove(_) | Change::ItemRemove(_)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::engine::testing::Fixture;
    use crate::link::batch::{Batch, Record};
    use crate::store::delta::Change;

    /// Fails if a batch sets a register twice under one stamp.
    fn check_stamps(mut written: &[u8], command: &str) {
        while let Some((batch, rest)) = Batch::split(written).expect("whole batches") {
            let (mut at, mut key, mut seen) = (None, Vec::new(), HashSet::new());
            batch
                .each(|record| match record {
                    Record::Time(time) => at = Some(time),
                    Record::Key(_, of) => key = of.to_vec(),
                    Record::Change(change) => {
                        let register = match change {
                            Change::Assign(_) | Change::Value(_) => "value".into(),
                            Change::Field(name, _) | Change::Score(name, _) => format!("element {name:?}"),
                            Change::Item(pos, _) | Change::ItemValue(pos, _) => format!("item {pos:?}"),
                            Change::Expire(..) => "expiry".into(),
                            other => format!("{other:?}"),
                        };
                        let is_first = seen.insert((key.clone(), at, register));
                        assert!(is_first, "{command} sets something twice under one stamp");
                    }
                    _ => {}
                })
                .expect("well-formed records");
            written = rest;
        }
    }

    #[test]
    fn an_expiry_set_before_the_change_of_type_was_seen_outlasts_the_next_write() {
        let (mut a, mut b) = (Fixture::replicating(), Fixture::numbered(2));
        b.engine.start_replicating();
        a.run("SADD k m");
        b.merge(&a, &a.written());
        a.run("SET k v");
        b.now_ms += 10;
        b.check("PEXPIRE k 9000", ":1");
        let (of_a, of_b) = (a.written(), b.written());
        a.merge(&b, &of_b);
        b.merge(&a, &of_a);
        b.check("APPEND k w", ":2");
        a.merge(&b, &b.written());
        for node in [&mut a, &mut b] {
            node.check("GET k", "$2 vw");
            assert!(node.run("PTTL k").starts_with(":90"), "as on one server");
        }
        assert_eq!(a.run("MELD DIGEST"), b.run("MELD DIGEST"));
    }

    #[test]
    fn of_two_values_of_one_command_the_later_stands_be_it_larger_or_smaller() {
        let cases: [(&[&str], &str, &str); 14] = [
            (&["HSET h f a f b"], "HGET h f", "$1 b"),
            (&["HSET h f b f a"], "HGET h f", "$1 a"),
            (&["HSET h f b f a f b f b"], "HGET h f", "$1 b"),
            (&["HINCRBY h f 1", "HSET h f 10 f 9"], "HGET h f", "$1 9"),
            (&["HINCRBY h f 1", "HSET h f 9 f 10"], "HGET h f", "$2 10"),
            (&["MSET k a k b"], "GET k", "$1 b"),
            (&["MSET k b k a"], "GET k", "$1 a"),
            (&["SET k 5", "PEXPIRE k 9000", "MSET k b k a"], "GET k", "$1 a"),
            (&["INCR k", "BITFIELD k SET u8 0 50 SET u8 0 49"], "GET k", "$1 1"),
            (&["BITFIELD k SET u8 0 49 INCRBY u8 0 1"], "GET k", "$1 2"),
            (&["ZADD z 1 m 2 m"], "ZSCORE z m", "$1 2"),
            (&["ZADD z 2 m 1 m"], "ZSCORE z m", "$1 1"),
            (&["ZINCRBY z 5 m", "ZADD z 2 m -1 m"], "ZSCORE z m", "$2 -1"),
            (
                &["RPUSH l x", "MULTI", "LSET l 0 b", "LSET l 0 a", "PEXPIRE l 900", "PEXPIRE l 800", "EXEC"],
                "SORT l ALPHA",
                "*1 $1 a",
            ),
        ];
        for (commands, question, expected) in cases {
            let (mut one, mut other, mut alone) =
                (Fixture::replicating(), Fixture::numbered(2), Fixture::new());
            other.engine.start_replicating();
            let mut written = Vec::new();
            for command in commands {
                one.run(command);
                alone.run(command);
                let batch = one.written();
                check_stamps(&batch, command);
                written.push(batch);
            }
            written.iter().for_each(|batch| other.merge(&one, batch));
            for node in [&mut one, &mut other, &mut alone] {
                node.check(question, expected);
            }
            assert_eq!(one.run("MELD DIGEST"), other.run("MELD DIGEST"), "{commands:?}");
        }
    }
}
