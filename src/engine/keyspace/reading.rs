//! Reading keys: what counts as a hit or a miss, what notes the access, and what notices that a key is past its expiry.
//!
//! | function | hit or miss | `keymiss` | access | expiry noticed |
//! |---|---|---|---|---|
//! | `value`, and the typed ones | yes | yes | yes | yes |
//! | `look` | yes | yes | no | yes |
//! | `inspect` | yes | no | no | yes |
//! | `find`, and the typed ones `…_to_change` | no | no | no | yes |
//! | `peek…` | no | no | no | no |

use super::Keyspace;
use crate::engine::error::Error;
use crate::engine::notify::{Event, EventClass};
use crate::engine::stats::Stats;
use crate::store::entry::{Entry, Value};
use crate::store::hash::Hash;
use crate::store::list::List;
use crate::store::set::Set;
use crate::store::zset::Zset;

impl Keyspace<'_> {
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
        let (found, expired) = match self.engine.pause.at(now_ms) {
            None => cell.shard.read(self.space, key, hash, now_ms, used_at),
            // As in Redis, keys past their expiry are not there during a pause, but go, and are told of, after it.
            Some(_) => {
                let entry = cell.shard.get(self.space, key, hash);
                (entry.and_then(|entry| entry.value_at(now_ms)), false)
            }
        };
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

    pub(super) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let hash = self.engine.hash(key);
        self.locks.cell(hash.range()).shard.get(self.space, key, hash)
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
        typed(self.value(key), Value::as_string)
    }

    /// The list at a key.
    pub fn list(&mut self, key: &[u8]) -> Result<Option<&List>, Error> {
        typed(self.value(key), Value::as_list)
    }

    /// The set at a key.
    pub fn set(&mut self, key: &[u8]) -> Result<Option<&Set>, Error> {
        typed(self.value(key), Value::as_set)
    }

    /// The sorted set at a key.
    pub fn zset(&mut self, key: &[u8]) -> Result<Option<&Zset>, Error> {
        typed(self.value(key), Value::as_zset)
    }

    /// The hash at a key.
    pub fn hash(&mut self, key: &[u8]) -> Result<Option<&Hash>, Error> {
        typed(self.value(key), Value::as_hash)
    }

    /// The string at a key that is about to be written: no hit or miss, no access, but what is past its expiry is
    /// noticed.
    ///
    /// # Errors
    /// If it holds another type; likewise below.
    pub fn string_to_change(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        typed(self.find(key), Value::as_string)
    }

    /// The list at a key that is about to be written.
    pub fn list_to_change(&mut self, key: &[u8]) -> Result<Option<&List>, Error> {
        typed(self.find(key), Value::as_list)
    }

    /// The set at a key that is about to be written.
    pub fn set_to_change(&mut self, key: &[u8]) -> Result<Option<&Set>, Error> {
        typed(self.find(key), Value::as_set)
    }

    /// The sorted set at a key that is about to be written.
    pub fn zset_to_change(&mut self, key: &[u8]) -> Result<Option<&Zset>, Error> {
        typed(self.find(key), Value::as_zset)
    }

    /// The hash at a key that is about to be written.
    pub fn hash_to_change(&mut self, key: &[u8]) -> Result<Option<&Hash>, Error> {
        typed(self.find(key), Value::as_hash)
    }

    /// The set at a key that was looked up before.
    ///
    /// # Errors
    /// If it holds another type.
    pub fn peek_set(&self, key: &[u8]) -> Result<Option<&Set>, Error> {
        typed(self.peek(key), Value::as_set)
    }

    /// When an existing key expires, in Unix milliseconds.
    pub fn expires_at_ms(&self, key: &[u8]) -> Option<u64> {
        self.peek_entry(key)?.expires_at_ms()
    }
}

fn typed<'v, T: ?Sized>(
    value: Option<Value<'v>>,
    of: impl FnOnce(Value<'v>) -> Option<&'v T>,
) -> Result<Option<&'v T>, Error> {
    match value {
        None => Ok(None),
        Some(value) => of(value).map(Some).ok_or(Error::WRONG_TYPE),
    }
}
