//! One key: its registers, and the one function that changes them.
//!
//! Most keys are *plain*: a value and the stamp of the SET that wrote it. A key that was deleted is a stamp until
//! its tombstone is collected. Everything else is an object (`object`), and becomes plain again once nothing is left
//! of it that a stamp and a value do not say. Submodule `transfer` tells an entry as deltas, for peers; `conflict` finds
//! the registers that a peer wrote without having seen this node's.
//!
//! # Invariants (see [`Entry::check_invariants`])
//! Nothing in the body is stamped before `clear`; no element is stamped before its tombstone.
//!
//! # Ties
//! No two writes share a stamp, so two values under one are a fault's doing. The larger one stays: by its bytes, a score
//! by [`f64::total_cmp`], an expiry by its time (none is the smallest), a sum by its amount. Nodes that compare
//! what they hold so end alike instead of differing for ever.

mod mark;
mod object;
mod transfer;
mod conflict;

use std::cmp::Ordering;

use super::counter::TextCounter;
use super::delta::{Added, Amount, Change, Kind};
use super::digest;
use super::hash::Hash;
use super::key::Key;
use super::list::List;
use super::set::Set;
use super::text::Text;
use super::zset::Zset;
use crate::clock::{NTP64, Origin, Stamp};
use mark::Mark;
use object::{Body, Object};

pub use conflict::{Conflict, ConflictKind, Unseen};

/// What a merge needs to know besides the delta.
#[derive(Clone, Copy, Debug)]
pub struct MergeContext<'a> {
    /// This node's own origin: whose sums it may split.
    pub own: Origin,
    /// When the key's database was last flushed.
    pub flush: Stamp,
    /// Whether another node could still send something older: then removals leave tombstones.
    pub keep_tombstones: bool,
    /// Hashing of elements.
    pub hasher: &'a ahash::RandomState,
}

/// What a merge did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Merged {
    /// Something a reader or another node could notice has changed.
    pub changed: bool,
    /// Own sums were split and must be asserted anew: [`Entry::own_sums`].
    pub reassert: bool,
    /// It has changed under the stamp it already had: of two values under one stamp the larger stays. A local write that
    /// meets its own command's stamp so is to be made again with the next one.
    pub tied: bool,
    /// When the value that was there was to expire, in Unix milliseconds, unless it was out of the count already.
    pub expiry_before_ms: Option<u64>,
}

impl Merged {
    pub(super) const NOTHING: Merged =
        Merged { changed: false, reassert: false, tied: false, expiry_before_ms: None };
    pub(super) const CHANGED: Merged = Merged { changed: true, ..Merged::NOTHING };

    fn changed_if(changed: bool) -> Self {
        Merged { changed, ..Merged::NOTHING }
    }

    /// Of a value that met another under its own stamp.
    pub(super) fn tied(changed: bool) -> Self {
        Merged { changed, tied: changed, ..Merged::NOTHING }
    }

    fn and(self, other: Merged) -> Self {
        Merged {
            changed: self.changed | other.changed,
            reassert: self.reassert | other.reassert,
            tied: self.tied | other.tied,
            ..self
        }
    }
}

impl From<(bool, bool)> for Merged {
    fn from((changed, reassert): (bool, bool)) -> Self {
        Merged { changed: changed | reassert, reassert, ..Merged::NOTHING }
    }
}

/// The expiry register of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// When it was set.
    pub stamp: Stamp,
    /// When the key expires, in Unix milliseconds; `None` was persisted.
    pub at_ms: Option<u64>,
    /// The type the key had where the expiry was set.
    pub kind: Kind,
}

impl Expiry {
    /// As of when the key is dead once it has expired: a clear then kills it, expiry included.
    pub fn dead_as_of(&self) -> Option<Stamp> {
        self.at_ms.map(|at_ms| Stamp::instant(at_ms).max(self.stamp.next()))
    }
}

/// What is stored of a key.
#[derive(Clone, Debug)]
enum State {
    /// Written by SET, without expiry; cleared and set at the same stamp.
    Plain(Stamp, Text),
    /// Anything else. An enum of its own: with three cases in one the tag would cost a word in every entry.
    Rare(Rare),
}

/// What is stored of a key that is not plain.
#[derive(Clone, Debug)]
enum Rare {
    /// Cleared at a stamp; [`Stamp::NEVER`] if nothing was ever stored.
    Cleared(Stamp),
    /// Registers of any kind.
    Object(Box<Object>),
}

/// A key and what is stored of it. Fills one cache line; a test holds it to that.
#[derive(Clone, Debug)]
pub struct Entry {
    key: Key,
    /// Seconds, of whatever clock the caller uses, when a client last used the key.
    pub used_at: u32,
    /// The hash of a plain value is kept in step with it.
    mark: Mark,
    state: State,
}

/// How an entry counts in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weight {
    /// The key exists.
    pub live: bool,
    /// It exists and has an expiry.
    pub volatile: bool,
    /// Its part of the range's digest.
    pub digest: u64,
}

/// A borrowed view of a value.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A string.
    String(&'a [u8]),
    /// A list.
    List(&'a List),
    /// A set.
    Set(&'a Set),
    /// A sorted set.
    Zset(&'a Zset),
    /// A hash.
    Hash(&'a Hash),
}

impl<'a> Value<'a> {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Value::String(_) => Kind::String,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::Zset(_) => Kind::Zset,
            Value::Hash(_) => Kind::Hash,
        }
    }

    /// The text, if it is a string.
    #[inline]
    pub fn as_string(self) -> Option<&'a [u8]> {
        let Value::String(string) = self else { return None };
        Some(string)
    }

    /// The list, if it is one.
    #[inline]
    pub fn as_list(self) -> Option<&'a List> {
        let Value::List(list) = self else { return None };
        Some(list)
    }

    /// The set, if it is one.
    #[inline]
    pub fn as_set(self) -> Option<&'a Set> {
        let Value::Set(set) = self else { return None };
        Some(set)
    }

    /// The sorted set, if it is one.
    #[inline]
    pub fn as_zset(self) -> Option<&'a Zset> {
        let Value::Zset(zset) = self else { return None };
        Some(zset)
    }

    /// The hash, if it is one.
    #[inline]
    pub fn as_hash(self) -> Option<&'a Hash> {
        let Value::Hash(hash) = self else { return None };
        Some(hash)
    }
}

impl Entry {
    /// A key of which nothing was ever stored.
    pub fn blank(key: &[u8]) -> Self {
        Entry {
            key: Key::new(key),
            used_at: 0,
            mark: Mark::default(),
            state: State::Rare(Rare::Cleared(Stamp::NEVER)),
        }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.key.bytes()
    }

    /// Whether nothing is stored: the entry may be dropped.
    pub fn is_blank(&self) -> bool {
        matches!(self.state, State::Rare(Rare::Cleared(Stamp::NEVER)))
    }

    /// The value, dead by expiry or not.
    pub fn value(&self) -> Option<Value<'_>> {
        match &self.state {
            State::Rare(Rare::Cleared(_)) => None,
            State::Plain(_, value) => Some(Value::String(value.bytes())),
            State::Rare(Rare::Object(object)) => match &object.body {
                Body::String(text) if text.is_alive() => Some(Value::String(text.text())),
                Body::List(list) if !list.is_empty() => Some(Value::List(list)),
                Body::Set(set) if !set.is_empty() => Some(Value::Set(set)),
                Body::Zset(zset) if !zset.is_empty() => Some(Value::Zset(zset)),
                Body::Hash(hash) if !hash.is_empty() => Some(Value::Hash(hash)),
                Body::None
                | Body::String(_)
                | Body::List(_)
                | Body::Set(_)
                | Body::Zset(_)
                | Body::Hash(_) => None,
            },
        }
    }

    /// The value unless it is dead by expiry at `now_ms`.
    pub fn value_at(&self, now_ms: u64) -> Option<Value<'_>> {
        if self.expires_at_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            return None;
        }
        self.value()
    }

    /// The expiry of an existing value, in Unix milliseconds.
    pub fn expires_at_ms(&self) -> Option<u64> {
        match &self.state {
            State::Rare(Rare::Object(object)) => object.live_expiry().and_then(|expiry| expiry.at_ms),
            State::Rare(Rare::Cleared(_)) | State::Plain(..) => None,
        }
    }

    /// The register behind [`Self::expires_at_ms`], also of a persisted key.
    pub fn expiry(&self) -> Option<Expiry> {
        match &self.state {
            State::Rare(Rare::Object(object)) => object.expiry,
            State::Rare(Rare::Cleared(_)) | State::Plain(..) => None,
        }
    }

    /// When the key was last cleared.
    pub fn clear(&self) -> Stamp {
        match &self.state {
            State::Rare(Rare::Cleared(stamp)) | State::Plain(stamp, _) => *stamp,
            State::Rare(Rare::Object(object)) => object.clear,
        }
    }

    /// The newest stamp that made the key what it is: of the value, its expiry or its removal.
    pub fn stamp(&self) -> Stamp {
        match &self.state {
            State::Rare(Rare::Cleared(stamp)) | State::Plain(stamp, _) => *stamp,
            State::Rare(Rare::Object(object)) => object.written.max(object.clear),
        }
    }

    /// The newest stamp it holds anywhere, but for elements, which are never newer than the value.
    pub fn newest(&self) -> Stamp {
        match &self.state {
            State::Rare(Rare::Cleared(stamp)) | State::Plain(stamp, _) => *stamp,
            State::Rare(Rare::Object(object)) => {
                let removed = object.tombstones.iter().flat_map(|tombstones| tombstones.values());
                removed.copied().max().unwrap_or(Stamp::NEVER).max(object.stamp_max())
            }
        }
    }

    /// How the entry counts. `hash` is the unkeyed hash of its key.
    pub fn weight(&self, hash: u64) -> Weight {
        match &self.state {
            State::Rare(Rare::Cleared(_)) => Weight::default(),
            State::Plain(stamp, _) => {
                let value = self.mark.value_hash().into();
                let digest = digest::mix(hash, digest::term(0, *stamp, value));
                Weight { live: true, volatile: false, digest }
            }
            State::Rare(Rare::Object(object)) => object.weight(hash),
        }
    }

    /// Whether a grave of the key is queued for collection.
    pub(super) fn in_grave(&self) -> bool {
        self.mark.in_grave()
    }

    /// Notes that one is queued, or is no more.
    pub(super) fn set_in_grave(&mut self, in_grave: bool) {
        self.mark.set_in_grave(in_grave);
    }

    /// Takes a key past its expiry out of the count. Its registers stay, because an earlier-stamped PERSIST may
    /// still arrive; a change of the expiry takes it back in.
    pub fn bury(&mut self) {
        if let State::Rare(Rare::Object(object)) = &mut self.state {
            object.buried = true;
        }
    }

    /// Takes it back into the count: the clock was set back to before its expiry.
    pub fn exhume(&mut self) {
        if let State::Rare(Rare::Object(object)) = &mut self.state {
            object.buried = false;
        }
    }

    /// Whether it is out of the count.
    pub fn is_buried(&self) -> bool {
        matches!(&self.state, State::Rare(Rare::Object(object)) if object.is_buried())
    }

    /// Applies one delta. Commutative, associative and idempotent over all deltas there can be.
    pub fn merge(&mut self, stamp: Stamp, change: &Change<'_>, cx: MergeContext<'_>) -> Merged {
        if stamp < cx.flush {
            return Merged::NOTHING;
        }
        if let Some(value) = plain_value(change, cx) {
            match &mut self.state {
                State::Plain(held, text) => match stamp.cmp(held) {
                    Ordering::Less => return Merged::NOTHING,
                    Ordering::Equal => {
                        let merged = Merged::tied(text.raise(value));
                        self.mark.set_value_hash(text.hash());
                        return merged;
                    }
                    Ordering::Greater => {
                        *held = stamp;
                        text.set(value);
                        self.mark.set_value_hash(text.hash());
                        return Merged::CHANGED;
                    }
                },
                State::Rare(Rare::Cleared(held)) if *held > stamp => return Merged::NOTHING,
                State::Rare(Rare::Cleared(_)) => {
                    self.make_plain(stamp, Text::new(value));
                    return Merged::CHANGED;
                }
                State::Rare(Rare::Object(_)) => {}
            }
        }
        let object = self.object();
        let merged = object.merge(stamp, change, cx);
        self.simplify(cx.keep_tombstones);
        merged
    }

    /// The expiry that killed the key, once no other can come in its place. What it killed is to be cleared by a delta: a
    /// node that just forgot it could write to the key anew, and others would count its write to the old value.
    pub fn settled_death(&self, stable: NTP64, now_ms: u64) -> Option<Expiry> {
        let State::Rare(Rare::Object(object)) = &self.state else { return None };
        let expiry = *object.live_expiry().filter(|_| object.body.is_alive())?;
        let settled = expiry.dead_as_of()?.time <= stable && object.stamp_max().time <= stable;
        (settled && expiry.at_ms? <= now_ms).then_some(expiry)
    }

    /// Forgets what no outstanding write can contest: tombstones stamped at or below `stable`, and registers without
    /// effect. Returns whether anything collectable is left.
    pub fn collect(&mut self, stable: NTP64) -> bool {
        match &mut self.state {
            State::Rare(Rare::Cleared(stamp)) => {
                if stamp.time <= stable {
                    *stamp = Stamp::NEVER;
                }
                return !self.is_blank();
            }
            State::Plain(..) => return false,
            State::Rare(Rare::Object(object)) => object.collect(stable),
        }
        self.simplify(true);
        match &mut self.state {
            State::Rare(Rare::Cleared(stamp)) if stamp.time <= stable => {
                *stamp = Stamp::NEVER;
                false
            }
            State::Rare(Rare::Cleared(_)) => true,
            State::Plain(..) => false,
            State::Rare(Rare::Object(object)) => object.has_collectable(),
        }
    }

    /// Whether [`Self::collect`] could forget something once the stable time has passed it.
    pub fn has_collectable(&self) -> bool {
        match &self.state {
            State::Rare(Rare::Cleared(stamp)) => *stamp != Stamp::NEVER,
            State::Plain(..) => false,
            State::Rare(Rare::Object(object)) => object.has_collectable(),
        }
    }

    /// The register of an amount this node adds at `stamp`: a [`Change`] to merge. `element` is a field or member.
    pub fn added(&self, element: Option<&[u8]>, kind: Kind, amount: Amount, stamp: Stamp) -> Option<Added> {
        let fresh = |base| TextCounter::default().after_adding(amount, stamp, base);
        match &self.state {
            State::Rare(Rare::Cleared(base)) => fresh(*base),
            State::Plain(base, _) => fresh(*base),
            State::Rare(Rare::Object(object)) => object.added(element, kind, amount, stamp),
        }
    }

    /// Remembers a single amount after its register was merged; see [`super::counter`].
    pub fn remember(
        &mut self,
        element: Option<&[u8]>,
        own: Origin,
        time: NTP64,
        amount: Amount,
        stable: NTP64,
    ) {
        if let State::Rare(Rare::Object(object)) = &mut self.state {
            match (&mut object.body, element) {
                (Body::String(text), None) => text.remember(own, time, amount, stable),
                (Body::Hash(hash), Some(field)) => hash.remember(field, own, time, amount, stable),
                (Body::Zset(zset), Some(member)) => zset.remember(member, own, time, amount, stable),
                _ => {}
            }
        }
    }

    /// Panics if an invariant of the module's head does not hold. Walks the whole value.
    pub fn check_invariants(&self, hasher: &ahash::RandomState) {
        if let State::Plain(_, value) = &self.state {
            assert_eq!(
                self.mark.value_hash(),
                digest::value_hash(value.bytes()),
                "hash kept in step: {self:?}"
            );
        }
        let State::Rare(Rare::Object(object)) = &self.state else { return };
        let mut copy = Entry::blank(self.key());
        let own = Origin::NONE;
        let cx = MergeContext { own, flush: Stamp::NEVER, keep_tombstones: true, hasher };
        self.registers(|stamp, change| {
            assert!(stamp >= object.clear, "{stamp} is below the clear {} in {self:?}", object.clear);
            copy.merge(stamp, &change, cx);
        });
        assert_eq!(copy.weight(1).digest, object.weight(1).digest, "digest kept in step: {self:?}");
    }

    fn object(&mut self) -> &mut Object {
        let object = match &mut self.state {
            State::Rare(Rare::Object(_)) => None,
            State::Rare(Rare::Cleared(stamp)) => Some(Object::cleared(*stamp)),
            State::Plain(stamp, value) => Some(Object {
                written: *stamp,
                body: Body::String(TextCounter::set(*stamp, std::mem::take(value))),
                ..Object::cleared(*stamp)
            }),
        };
        if let Some(object) = object {
            self.state = State::Rare(Rare::Object(Box::new(object)));
        }
        match &mut self.state {
            State::Rare(Rare::Object(object)) => object,
            State::Rare(Rare::Cleared(_)) | State::Plain(..) => unreachable!("made an object above"),
        }
    }

    fn make_plain(&mut self, stamp: Stamp, value: Text) {
        self.mark.set_value_hash(value.hash());
        self.state = State::Plain(stamp, value);
    }

    /// Takes the smallest form that says the same.
    fn simplify(&mut self, keep_tombstones: bool) {
        let State::Rare(Rare::Object(object)) = &mut self.state else { return };
        if !keep_tombstones {
            object.tombstones = None;
            object.clear = Stamp::NEVER;
            object.expiry = object.expiry.filter(|expiry| expiry.at_ms.is_some());
            if !object.body.is_alive() {
                self.state = State::Rare(Rare::Cleared(Stamp::NEVER));
                return;
            }
        }
        if object.expiry.is_some() || object.tombstones.is_some() {
            return;
        }
        match &mut object.body {
            Body::None => self.state = State::Rare(Rare::Cleared(object.clear)),
            Body::String(text) if text.sums().is_empty() => {
                // A claim of the type beyond the value still decides which expiry is that of the value.
                let is_all = |stamp: Stamp| stamp == object.clear && stamp >= object.written;
                let settled = !keep_tombstones || text.base().is_some_and(|(stamp, _)| is_all(stamp));
                if settled && let Some((stamp, value)) = std::mem::take(text).into_base() {
                    self.make_plain(stamp, value);
                }
            }
            Body::String(_) | Body::List(_) | Body::Set(_) | Body::Zset(_) | Body::Hash(_) => {}
        }
    }
}

/// The value of a change that leaves a key without expiry plain. While no other node can send anything older, a value
/// that clears nothing is as good as one that does: INCR then takes 1.1 times as long as SET
/// instead of 2.5 times, APPEND 2.0 instead of 3.2.
fn plain_value<'a>(change: &Change<'a>, cx: MergeContext<'_>) -> Option<&'a [u8]> {
    match *change {
        Change::Assign(value) => Some(value),
        Change::Value(value) if !cx.keep_tombstones => Some(value),
        _ => None,
    }
}
