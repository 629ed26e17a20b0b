//! The keyspace as one command sees it: the ranges it has locked, its stamp, and the batch it writes.
//!
//! Every change goes through [`Keyspace::apply`]: merged into the store, then appended to the batch, under the
//! lock of its range. Cost of a write: one lookup, one merge, and while peers are known a copy of the delta
//! into this thread's slot of the outbox.
//!
//! What a local write adds to its delta, so that the effect says all that happened here:
//! - a key found dead by expiry is cleared *as of the expiry instant* before something is written to it;
//! - a key that is created, or emptied by a removal, loses an expiry that stood there.

use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::cell::Cell;
use super::client::Client;
use super::databases::Moved;
use super::error::Error;
use super::notify::{Event, EventClass};
use super::pubsub::Scope;
use super::session::Watch;
use super::stats::Stats;
use super::{Engine, Now};
use crate::clock::{NTP64, Stamp};
use crate::link::batch::{BatchWriter, Record};
use crate::link::frame::{Cursor, Swaps};
use crate::link::outbox::Slot;
use crate::store::delta::{Amount, Change, Kind};
use crate::store::digest;
use crate::store::entry::{Entry, Value};
use crate::store::hash::Hash;
use crate::store::list::List;
use crate::store::set::Set;
use crate::store::shard::{KeyHash, RANGES, Shard};
use crate::store::zset::Zset;

/// The ranges a command holds, in rising order.
pub enum Locks<'e> {
    /// None: the command has no keys.
    None,
    /// One.
    One(usize, MutexGuard<'e, Cell>),
    /// Several.
    Many(SmallVec<[(usize, MutexGuard<'e, Cell>); 4]>),
    /// All.
    All(Vec<MutexGuard<'e, Cell>>),
}

impl<'e> Locks<'e> {
    /// Locks the ranges given, in rising order whatever their order here.
    pub fn of(engine: &'e Engine, ranges: &mut SmallVec<[usize; 8]>) -> Self {
        match ranges.as_slice() {
            [] => Locks::None,
            [range] => Locks::One(*range, engine.cell(*range).lock()),
            _ => {
                ranges.sort_unstable();
                ranges.dedup();
                if ranges.len() == RANGES {
                    return Self::all(engine);
                }
                Locks::Many(ranges.iter().map(|range| (*range, engine.cell(*range).lock())).collect())
            }
        }
    }

    /// Locks the whole keyspace.
    pub fn all(engine: &'e Engine) -> Self {
        Locks::All((0..RANGES).map(|range| engine.cell(range).lock()).collect())
    }

    /// Whether a range held is one that [`Waiting::is_served`].
    ///
    /// [`Waiting::is_served`]: super::blocking::Waiting::is_served
    pub fn any_is_served(&self) -> bool {
        match self {
            Locks::None => false,
            Locks::One(_, cell) => cell.waiting.is_served(),
            Locks::Many(cells) => cells.iter().any(|(_, cell)| cell.waiting.is_served()),
            Locks::All(cells) => cells.iter().any(|cell| cell.waiting.is_served()),
        }
    }

    fn cell(&self, range: usize) -> &Cell {
        match self {
            Locks::One(held, cell) if *held == range => cell,
            Locks::Many(cells) => match cells.binary_search_by_key(&range, |(held, _)| *held) {
                Ok(at) => &cells[at].1,
                Err(_) => not_locked(range),
            },
            Locks::All(cells) => &cells[range],
            Locks::None | Locks::One(..) => not_locked(range),
        }
    }

    fn cell_mut(&mut self, range: usize) -> &mut Cell {
        match self {
            Locks::One(held, cell) if *held == range => cell,
            Locks::Many(cells) => match cells.binary_search_by_key(&range, |(held, _)| *held) {
                Ok(at) => &mut cells[at].1,
                Err(_) => not_locked(range),
            },
            Locks::All(cells) => &mut cells[range],
            Locks::None | Locks::One(..) => not_locked(range),
        }
    }
}

/// Whether a key exists in a range that is locked.
fn exists(engine: &Engine, shard: &Shard, space: u32, key: &[u8], now_ms: u64) -> bool {
    shard.get(space, key, engine.hash(key)).is_some_and(|entry| entry.value_at(now_ms).is_some())
}

fn not_locked(range: usize) -> ! {
    panic!("range {range} is not locked: the command's table entry does not name all its keys")
}

/// See the module's head.
pub struct Keyspace<'e> {
    engine: &'e Engine,
    locks: Locks<'e>,
    thread: usize,
    now: Now,
    db: u32,
    space: u32,
    stamp: Option<Stamp>,
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
    }

    /// Begins another command in the same batch: it takes its own stamp.
    pub fn next_command(&mut self) {
        self.stamp = None;
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
        let stamp = self.engine.clock.tick(self.now.ntp);
        self.stamp = Some(stamp);
        if let Some((_, _, first)) = &mut self.batch
            && first.0 == 0
        {
            *first = stamp.time;
        }
        stamp
    }

    fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let hash = self.engine.hash(key);
        self.locks.cell(hash.range()).shard.get(self.space, key, hash)
    }

    /// The value of a key, without counting a hit or miss and without noting the access.
    pub fn peek(&self, key: &[u8]) -> Option<Value<'_>> {
        self.entry(key)?.value_at(self.now.unix_ms)
    }

    /// The whole entry behind an existing key.
    pub fn peek_entry(&self, key: &[u8]) -> Option<&Entry> {
        self.entry(key).filter(|entry| entry.value_at(self.now.unix_ms).is_some())
    }

    /// The whole entry behind a key, existing or not: for MELD STAMP.
    pub fn peek_registers(&self, key: &[u8]) -> Option<&Entry> {
        self.entry(key)
    }

    /// Reads a key for a client: counts a hit or miss and notes the access.
    pub fn value(&mut self, key: &[u8]) -> Option<Value<'_>> {
        let touch = !self.no_touch;
        self.read::<true, true>(key, touch)
    }

    /// Likewise, but leaves the access time alone, as EXISTS, TTL and TYPE do.
    pub fn look(&mut self, key: &[u8]) -> Option<Value<'_>> {
        self.read::<true, true>(key, false)
    }

    /// The value of a key that is about to be written: no hit or miss, no access. Unlike [`Self::peek`] it notices that
    /// the key is past its expiry.
    pub fn find(&mut self, key: &[u8]) -> Option<Value<'_>> {
        self.read::<false, false>(key, false)
    }

    /// The value of a key whose housekeeping is asked for, by OBJECT: a hit or miss, but no event and no access.
    pub fn inspect(&mut self, key: &[u8]) -> Option<Value<'_>> {
        self.read::<true, false>(key, false)
    }

    fn read<const COUNTED: bool, const TOLD: bool>(&mut self, key: &[u8], touch: bool) -> Option<Value<'_>> {
        let hash = self.engine.hash(key);
        let now_ms = self.now.unix_ms;
        let used_at = touch.then_some((now_ms / 1000) as u32);
        let stats = self.engine.stats(self.thread);
        let cell = self.locks.cell_mut(hash.range());
        let (found, expired) = cell.shard.read(self.space, key, hash, now_ms, used_at);
        let mut tell = |class, event| {
            if self.engine.notifies(class) {
                self.events.push(Event { class, event, db: self.db, key: key.to_vec() });
            }
        };
        if expired {
            Stats::add(&stats.expired_keys, 1);
            tell(EventClass::EXPIRED, "expired");
        }
        if COUNTED {
            stats.count_lookup(found.is_some());
        }
        if TOLD && found.is_none() {
            tell(EventClass::KEY_MISS, "keymiss");
        }
        found
    }

    /// Whether a key exists.
    pub fn exists(&self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// The string at a key.
    ///
    /// # Errors
    /// If it holds another type; likewise below.
    pub fn string(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The list at a key.
    pub fn list(&mut self, key: &[u8]) -> Result<Option<&List>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The set at a key.
    pub fn set(&mut self, key: &[u8]) -> Result<Option<&Set>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Set(set)) => Ok(Some(set)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The sorted set at a key.
    pub fn zset(&mut self, key: &[u8]) -> Result<Option<&Zset>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Zset(zset)) => Ok(Some(zset)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The hash at a key.
    pub fn hash(&mut self, key: &[u8]) -> Result<Option<&Hash>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The string at a key that is about to be written: no hit or miss, no access, but what is past its expiry is
    /// noticed.
    ///
    /// # Errors
    /// If it holds another type; likewise below.
    pub fn string_to_change(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The list at a key that is about to be written.
    pub fn list_to_change(&mut self, key: &[u8]) -> Result<Option<&List>, Error> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The set at a key that is about to be written.
    pub fn set_to_change(&mut self, key: &[u8]) -> Result<Option<&Set>, Error> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Set(set)) => Ok(Some(set)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The sorted set at a key that is about to be written.
    pub fn zset_to_change(&mut self, key: &[u8]) -> Result<Option<&Zset>, Error> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Zset(zset)) => Ok(Some(zset)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The hash at a key that is about to be written.
    pub fn hash_to_change(&mut self, key: &[u8]) -> Result<Option<&Hash>, Error> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// The set at a key that was looked up before.
    ///
    /// # Errors
    /// If it holds another type.
    pub fn peek_set(&self, key: &[u8]) -> Result<Option<&Set>, Error> {
        match self.peek(key) {
            None => Ok(None),
            Some(Value::Set(set)) => Ok(Some(set)),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// When an existing key expires, in Unix milliseconds.
    pub fn expires_at_ms(&self, key: &[u8]) -> Option<u64> {
        self.peek_entry(key)?.expires_at_ms()
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
            // The register was written by this very command, as by HSET with a field twice: take the next stamp.
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
        self.find(key).is_some() && self.apply(key, &Change::Clear)
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
                    let pos = crate::store::delta::Pos::pushed(
                        crate::store::delta::Side::Before,
                        stamp,
                        index as u32,
                    );
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

    /// Adds a record that is not about a key to the batch.
    pub fn record(&mut self, record: &Record<'_>) {
        let stamp = self.stamp();
        if let Some((slot, batch, _)) = &mut self.batch {
            batch.record(stamp, record, &mut slot.bytes);
        }
    }

    /// Flushes a keyspace; the whole keyspace must be locked. Returns what to drop after unlocking.
    pub fn flush(&mut self, space: u32) -> Vec<crate::store::shard::Flushed> {
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

    /// Exchanges what two databases show; the whole keyspace must be locked.
    pub fn swap(&mut self, a: u32, b: u32) {
        let stamp = self.stamp();
        self.merge_swap(stamp, a, b);
        self.record(&Record::Swap(a, b));
        self.dirty += 1;
    }

    /// Merges a swap; the whole keyspace must be locked.
    pub(super) fn merge_swap(&mut self, stamp: Stamp, a: u32, b: u32) {
        let moved = self.engine.databases.merge_swap(stamp, a, b);
        self.follow(&moved);
    }

    /// Merges all swaps a peer has; the whole keyspace must be locked.
    pub(super) fn merge_swaps(&mut self, swaps: &Swaps) {
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

    /// All cells, when the whole keyspace is locked.
    pub fn cells(&self) -> &[MutexGuard<'e, Cell>] {
        match &self.locks {
            Locks::All(cells) => cells,
            Locks::None | Locks::One(..) | Locks::Many(_) => &[],
        }
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

    /// Whether a key of a keyspace exists, for what a peer's change is called.
    pub(super) fn is_there(&self, space: u32, key: &[u8]) -> bool {
        let hash = self.engine.hash(key);
        let entry = self.locks.cell(hash.range()).shard.get(space, key, hash);
        entry.is_some_and(|entry| entry.value_at(self.now.unix_ms).is_some())
    }

    /// Merges one delta of a peer, whose effects on local clients are those of a local write.
    pub(super) fn merge_remote(&mut self, space: u32, key: &[u8], stamp: Stamp, change: &Change<'_>) -> bool {
        let hash = self.engine.hash(key);
        let cx = self.engine.shard_context();
        let used_at = (self.now.unix_ms / 1000) as u32;
        let cell = self.locks.cell_mut(hash.range());
        let merged = match self.engine.twisted(&cell.shard, space, key, stamp, change, self.now) {
            None => cell.shard.merge(space, key, hash, stamp, change, used_at, cx),
            Some((stamp, change)) => cell.shard.merge(space, key, hash, stamp, &change, used_at, cx),
        };
        if merged.changed {
            cell.touch_key(space, key);
            if !cell.waiting.is_empty()
                && let Some(db) = self.engine.db_of(space)
                && cell.is_awaited(db, key, change)
            {
                self.ready(db, key);
            }
        }
        if merged.reassert {
            self.assert_own_sums(space, key);
        }
        merged.changed
    }

    /// Tells the peers this node's sums of a key anew, after one was split.
    fn assert_own_sums(&mut self, space: u32, key: &[u8]) {
        let own = self.stamp().origin;
        let hash = self.engine.hash(key);
        let Some((slot, batch, _)) = &mut self.batch else { return };
        if let Some(entry) = self.locks.cell(hash.range()).shard.get(space, key, hash) {
            entry.own_sums(own, |change| {
                let stamp = match &change {
                    Change::Sum(added) | Change::FieldSum(_, added) | Change::ScoreSum(_, added) => {
                        added.stamp()
                    }
                    _ => return,
                };
                batch.change(space, key, stamp, &change, &mut slot.bytes);
            });
        }
    }

    /// Flushes a keyspace as of a peer's stamp; the whole keyspace must be locked.
    pub(super) fn flush_remote(&mut self, space: u32, stamp: Stamp) -> Vec<crate::store::shard::Flushed> {
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

    fn open_batch(&mut self) {
        if self.batch.is_none() && self.engine.is_replicating() {
            let mut slot = self.engine.outbox.slot(self.thread);
            let writer = BatchWriter::begin(self.engine.clock.origin(), &mut slot.bytes);
            self.batch = Some((slot, writer, NTP64(0)));
        }
    }

    /// Merges a delta and appends it to the batch if it changed something.
    fn merge(&mut self, key: &[u8], hash: KeyHash, at: Option<Stamp>, change: &Change<'_>) -> bool {
        let own = self.stamp();
        let stamp = match change {
            Change::Sum(added) | Change::FieldSum(_, added) | Change::ScoreSum(_, added) => added.stamp(),
            _ => at.unwrap_or(own),
        };
        let (space, used_at) = (self.space, (self.now.unix_ms / 1000) as u32);
        let cx = self.engine.shard_context();
        let is_new = || !self.replacing && !self.exists(key);
        let tells_new = self.engine.notifies(EventClass::NEW) && is_new();
        // Who waits is served by the command that creates the key, not by one that adds to it.
        let is_awaited = self.locks.cell(hash.range()).is_awaited(self.db, key, change) && is_new();
        let cell = self.locks.cell_mut(hash.range());
        let merged = cell.shard.merge(space, key, hash, stamp, change, used_at, cx);
        if !merged.changed {
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
        let exists = entry.value().is_some();
        match (entry.expires_at_ms(), expiry.dead_as_of()) {
            (Some(at_ms), dead_as_of) if at_ms <= self.now.unix_ms && exists => {
                self.merge(key, hash, dead_as_of, &Change::Clear);
            }
            // The stamp has run ahead of the clock: without this the write would make the expiry void.
            (Some(at_ms), Some(dead_as_of)) if exists && dead_as_of <= self.stamp() => {
                self.merge(key, hash, None, &Change::Expire(Some(at_ms), expiry.kind));
            }
            _ if !exists && expiry.at_ms.is_some() && !is_removal(change) => {
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
        self.stamp();
        let cell = self.locks.cell_mut(hash.range());
        cell.shard.merge(space, key, hash, dead_as_of, &Change::Clear, used_at, cx);
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

fn is_removal(change: &Change<'_>) -> bool {
    matches!(
        change,
        Change::FieldRemove(_) | Change::MemberRemove(_) | Change::ScoreRemove(_) | Change::ItemRemove(_)
    )
}

/// What resync does under a range's lock.
impl Keyspace<'_> {
    /// Whether a register is held; see [`Entry::holds`].
    pub(super) fn holds(&self, space: u32, key: &[u8], change: &Change<'_>) -> bool {
        let hash = self.engine.hash(key);
        match self.locks.cell(hash.range()).shard.get(space, key, hash) {
            Some(entry) => entry.holds(change),
            None => Entry::blank(key).holds(change),
        }
    }

    /// Drops the registers of keys between two places that `is_gone` names.
    pub(super) fn forget_absent(
        &mut self,
        range: usize,
        from: Cursor,
        to: Cursor,
        is_gone: impl Fn(u32, &[u8], Stamp, &Change<'_>) -> bool,
    ) {
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
        for (space, key) in gone {
            let hash = self.engine.hash(&key);
            let cell = self.locks.cell_mut(range);
            cell.touch_key(space, &key);
            cell.shard.update(space, &key, hash, |entry| {
                let before = entry.clone();
                before.registers(|stamp, change| {
                    if is_gone(space, &key, stamp, &change) {
                        entry.forget(&change);
                    }
                });
            });
        }
    }
}
