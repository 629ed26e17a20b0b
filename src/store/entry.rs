//! One key: its registers, and the one function that changes them.
//!
//! Most keys are [`State::Plain`]: a value and the stamp of the SET that wrote it. Everything else is an
//! [`Object`]. A key that was deleted is a stamp until its tombstone is collected.
//!
//! # Types in stamp order
//! One server would let a write of another type replace the key. So the type written last stands, and what the
//! other type wrote before it is gone. Two stamps decide that for any order of delivery: `written`, the latest
//! write of the standing type, and `clear`. A write of another type stamped after `written` takes the key over
//! and raises `clear` to just above `written`; one stamped before it only raises `clear` to just above itself.
//! Removals do not claim a type: their tombstones are kept beside the body, whatever its type.
//!
//! # Invariants (see [`Entry::check_invariants`])
//! Nothing in the body is stamped before `clear`; no element is stamped before its tombstone.

use hashbrown::HashMap;

use super::counter::TextCounter;
use super::delta::{Added, Amount, Change, Element, ElementRef, Kind};
use super::digest;
use super::hash::{FieldRegisters, Hash};
use super::key::Key;
use super::list::List;
use super::set::Set;
use super::zset::Zset;
use crate::clock::{NTP64, Origin, Stamp};

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
    /// When the value that was there was to expire, in Unix milliseconds, unless it was out of the count already.
    pub expiry_before_ms: Option<u64>,
}

impl Merged {
    const NOTHING: Merged = Merged { changed: false, reassert: false, expiry_before_ms: None };
    const CHANGED: Merged = Merged { changed: true, ..Merged::NOTHING };

    fn changed_if(changed: bool) -> Self {
        Merged { changed, ..Merged::NOTHING }
    }

    fn and(self, other: Merged) -> Self {
        Merged { changed: self.changed | other.changed, reassert: self.reassert | other.reassert, ..self }
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

/// The value of a key that is not plain.
#[derive(Clone, Debug)]
pub enum Body {
    /// No value.
    None,
    /// A string with registers of its own.
    String(TextCounter),
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A sorted set.
    Zset(Zset),
    /// A hash.
    Hash(Hash),
}

impl Body {
    fn new(kind: Kind, hasher: &ahash::RandomState) -> Self {
        match kind {
            Kind::String => Body::String(TextCounter::default()),
            Kind::List => Body::List(List::default()),
            Kind::Set => Body::Set(Set::new(hasher)),
            Kind::Zset => Body::Zset(Zset::new(hasher)),
            Kind::Hash => Body::Hash(Hash::new(hasher)),
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self {
            Body::None => None,
            Body::String(_) => Some(Kind::String),
            Body::List(_) => Some(Kind::List),
            Body::Set(_) => Some(Kind::Set),
            Body::Zset(_) => Some(Kind::Zset),
            Body::Hash(_) => Some(Kind::Hash),
        }
    }

    fn is_alive(&self) -> bool {
        match self {
            Body::None => false,
            Body::String(text) => text.is_alive(),
            Body::List(list) => !list.is_empty(),
            Body::Set(set) => !set.is_empty(),
            Body::Zset(zset) => !zset.is_empty(),
            Body::Hash(hash) => !hash.is_empty(),
        }
    }

    fn digest(&self) -> u64 {
        match self {
            Body::None => 0,
            Body::String(text) => text.term(0),
            Body::List(list) => list.digest(),
            Body::Set(set) => set.digest(),
            Body::Zset(zset) => zset.digest(),
            Body::Hash(hash) => hash.digest(),
        }
    }
}

/// The registers of a key that is not plain.
#[derive(Clone, Debug)]
pub struct Object {
    clear: Stamp,
    written: Stamp,
    expiry: Option<Expiry>,
    body: Body,
    /// When elements were removed. Boxed: rare at rest.
    tombstones: Option<Box<HashMap<Element, Stamp, ahash::RandomState>>>,
    /// The key is past its expiry and no longer counted; see [`Entry::bury`].
    buried: bool,
}

/// What is stored of a key.
#[derive(Clone, Debug)]
pub enum State {
    /// Written by SET, without expiry; cleared and set at the same stamp.
    Plain(Stamp, Box<[u8]>),
    /// Anything else. An enum of its own: with three cases in one the tag would cost a word in every entry.
    Rare(Rare),
}

/// What is stored of a key that is not plain.
#[derive(Clone, Debug)]
pub enum Rare {
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
    /// A grave of the key is queued for collection.
    pub(super) in_grave: bool,
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

impl Value<'_> {
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
}

impl Entry {
    /// A key of which nothing was ever stored.
    pub fn blank(key: &[u8]) -> Self {
        Entry {
            key: Key::new(key),
            used_at: 0,
            in_grave: false,
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
            State::Plain(_, value) => Some(Value::String(value)),
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
                let digest = digest::mix(hash, digest::term(0, *stamp));
                Weight { live: true, volatile: false, digest }
            }
            State::Rare(Rare::Object(object)) => object.weight(hash),
        }
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
                State::Plain(held, _) if *held >= stamp => return Merged::NOTHING,
                State::Plain(held, text) => {
                    *held = stamp;
                    if text.len() == value.len() {
                        text.copy_from_slice(value);
                    } else {
                        *text = value.into();
                    }
                    return Merged::CHANGED;
                }
                State::Rare(Rare::Cleared(held)) if *held > stamp => return Merged::NOTHING,
                State::Rare(Rare::Cleared(_)) => {
                    self.state = State::Plain(stamp, value.into());
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

    /// Calls back with every own sum, to be asserted anew after a split.
    pub fn own_sums(&self, own: Origin, mut each: impl FnMut(Change<'_>)) {
        let State::Rare(Rare::Object(object)) = &self.state else { return };
        match &object.body {
            Body::String(text) => {
                text.sums()
                    .iter()
                    .filter(|added| added.origin == own)
                    .for_each(|added| each(Change::Sum(*added)));
            }
            Body::Hash(hash) => hash.iter().for_each(|(name, _)| {
                if let Some(added) = hash.own_sum(name, own) {
                    each(Change::FieldSum(name, added));
                }
            }),
            Body::Zset(zset) => zset.iter().for_each(|(member, _)| {
                if let Some(added) = zset.own_sum(member, own) {
                    each(Change::ScoreSum(member, added));
                }
            }),
            Body::None | Body::List(_) | Body::Set(_) => {}
        }
    }

    /// Calls back with every register as a delta. Merging them all into a blank entry makes an equal one.
    pub fn registers(&self, mut each: impl FnMut(Stamp, Change<'_>)) {
        match &self.state {
            State::Rare(Rare::Cleared(stamp)) => {
                if *stamp != Stamp::NEVER {
                    each(*stamp, Change::Clear);
                }
            }
            State::Plain(stamp, value) => each(*stamp, Change::Assign(value)),
            State::Rare(Rare::Object(object)) => object.registers(each),
        }
    }

    /// Calls back with every stamp in it, those inside positions and sums included.
    pub fn each_stamp(&self, each: &mut impl FnMut(Stamp)) {
        self.registers(|stamp, change| {
            each(stamp);
            change.each_stamp(each);
        });
    }

    /// The same with other stamps, in the same order.
    pub fn restamped(&self, exchange: &impl Fn(Stamp) -> Stamp, cx: MergeContext<'_>) -> Entry {
        let mut entry = Entry::blank(self.key());
        entry.used_at = self.used_at;
        self.registers(|stamp, change| {
            entry.merge(exchange(stamp), &change.restamped(exchange), cx);
        });
        entry
    }

    /// Whether the register that `change` writes is held, in whatever version: an element, a base, an origin's
    /// sum, an expiry. True for what has no presence (clears and removals).
    pub fn holds(&self, change: &Change<'_>) -> bool {
        match (&self.state, change) {
            (_, Change::Clear | Change::Kind(_) | Change::Expire(None, _)) => true,
            (
                _,
                Change::FieldRemove(_)
                | Change::MemberRemove(_)
                | Change::ScoreRemove(_)
                | Change::ItemRemove(_),
            ) => true,
            (State::Rare(Rare::Cleared(_)), _) => false,
            (State::Plain(..), change) => matches!(change, Change::Assign(_) | Change::Value(_)),
            (State::Rare(Rare::Object(object)), Change::Expire(Some(_), _)) => {
                object.expiry.is_some_and(|expiry| expiry.at_ms.is_some())
            }
            (State::Rare(Rare::Object(object)), change) => match (&object.body, change) {
                (Body::String(text), Change::Assign(_) | Change::Value(_)) => text.base().is_some(),
                (Body::String(text), Change::Sum(added)) => text.sums().has(added.origin),
                (Body::Hash(hash), Change::Field(name, _)) => hash.has_base(name),
                (Body::Hash(hash), Change::FieldSum(name, added)) => {
                    hash.own_sum(name, added.origin).is_some()
                }
                (Body::Set(set), Change::Member(member)) => set.contains(member),
                (Body::Zset(zset), Change::Score(member, _)) => zset.has_base(member),
                (Body::Zset(zset), Change::ScoreSum(member, added)) => {
                    zset.own_sum(member, added.origin).is_some()
                }
                (Body::List(list), Change::Item(pos, _) | Change::ItemValue(pos, _)) => list.has(pos),
                _ => false,
            },
        }
    }

    /// Drops the register that `change` writes, leaving no tombstone: for resync, where absence on the other side is
    /// the deletion.
    pub fn forget(&mut self, change: &Change<'_>) {
        match (&mut self.state, change) {
            (State::Plain(..), Change::Assign(_) | Change::Value(_)) => {
                self.state = State::Rare(Rare::Cleared(Stamp::NEVER))
            }
            (State::Rare(Rare::Cleared(_)) | State::Plain(..), _) => {}
            (State::Rare(Rare::Object(object)), Change::Expire(Some(_), _)) => {
                object.expiry = None;
                object.buried = false;
            }
            (State::Rare(Rare::Object(object)), change) => match (&mut object.body, change) {
                (Body::String(text), Change::Assign(_) | Change::Value(_)) => text.forget(None),
                (Body::String(text), Change::Sum(added)) => text.forget(Some(added.origin)),
                (Body::Hash(hash), Change::Field(name, _)) => hash.forget(name, None),
                (Body::Hash(hash), Change::FieldSum(name, added)) => hash.forget(name, Some(added.origin)),
                (Body::Set(set), Change::Member(member)) => {
                    set.remove(member, Stamp::new(NTP64(u64::MAX), Origin::NONE));
                }
                (Body::Zset(zset), Change::Score(member, _)) => zset.forget(member, None),
                (Body::Zset(zset), Change::ScoreSum(member, added)) => {
                    zset.forget(member, Some(added.origin))
                }
                (Body::List(list), Change::Item(pos, _) | Change::ItemValue(pos, _)) => {
                    list.remove(pos);
                }
                _ => {}
            },
        }
        self.simplify(true);
    }

    /// Panics if an invariant of the module's head does not hold. Walks the whole value.
    pub fn check_invariants(&self, hasher: &ahash::RandomState) {
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
                let settled = !keep_tombstones || text.base().is_some_and(|(stamp, _)| stamp == object.clear);
                if settled && let Some((stamp, value)) = std::mem::take(text).into_base() {
                    self.state = State::Plain(stamp, value);
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

impl Object {
    fn cleared(clear: Stamp) -> Self {
        Object {
            clear,
            written: Stamp::NEVER,
            expiry: None,
            body: Body::None,
            tombstones: None,
            buried: false,
        }
    }

    /// The expiry, if it is that of the value: one set on a value of another type is not, and one that fired unheeded is
    /// void: somebody who had not seen it wrote to the key after that instant.
    fn live_expiry(&self) -> Option<&Expiry> {
        let kind = self.body.kind()?;
        self.expiry.as_ref().filter(|expiry| {
            let of_value = expiry.kind == kind || expiry.stamp > self.written;
            of_value && expiry.dead_as_of().is_none_or(|death| self.written < death)
        })
    }

    fn is_buried(&self) -> bool {
        self.buried && self.live_expiry().is_some_and(|expiry| expiry.at_ms.is_some())
    }

    /// Buried or not, the digest is the same: it tells what is held, whatever this node's clock says.
    fn weight(&self, hash: u64) -> Weight {
        if !self.body.is_alive() {
            return Weight::default();
        }
        let kind = self.body.kind().map_or(0, |kind| if kind == Kind::String { 0 } else { kind as u64 + 1 });
        let mut digest = digest::mix(hash, self.body.digest().wrapping_add(kind));
        let live = !self.is_buried();
        let mut volatile = false;
        if let Some(expiry) = self.live_expiry()
            && let Some(at_ms) = expiry.at_ms
        {
            volatile = live;
            digest = digest.wrapping_add(digest::mix(hash ^ at_ms, digest::term(1, expiry.stamp)));
        }
        Weight { live, volatile, digest }
    }

    fn merge(&mut self, stamp: Stamp, change: &Change<'_>, cx: MergeContext<'_>) -> Merged {
        match change {
            Change::Clear => self.raise_clear(stamp, cx),
            Change::Assign(value) => {
                let cleared = self.raise_clear(stamp, cx);
                cleared.and(self.merge(stamp, &Change::Value(value), cx))
            }
            Change::Expire(at_ms, kind) => {
                let newer = stamp >= self.clear && self.expiry.is_none_or(|held| held.stamp < stamp);
                if newer {
                    self.expiry = Some(Expiry { stamp, at_ms: *at_ms, kind: *kind });
                    self.buried = false;
                }
                Merged::changed_if(newer)
            }
            Change::Kind(kind) => self.claim(*kind, stamp, cx).1,
            Change::Value(value) => self.write(Kind::String, stamp, None, cx, |body, _| match body {
                Body::String(text) => text.merge_base(value, stamp, cx.own).into(),
                _ => Merged::NOTHING,
            }),
            Change::Sum(added) => {
                self.write(Kind::String, added.stamp(), None, cx, |body, clear| match body {
                    Body::String(text) => Merged::changed_if(text.merge_sum(*added, clear)),
                    _ => Merged::NOTHING,
                })
            }
            Change::Field(name, value) => {
                self.write(Kind::Hash, stamp, Some(ElementRef::Field(name)), cx, |body, _| match body {
                    Body::Hash(hash) => hash.merge(name, value, stamp, cx.own).into(),
                    _ => Merged::NOTHING,
                })
            }
            Change::FieldSum(name, added) => {
                let element = Some(ElementRef::Field(name));
                self.write(Kind::Hash, added.stamp(), element, cx, |body, clear| match body {
                    Body::Hash(hash) => Merged::changed_if(hash.merge_sum(name, *added, clear)),
                    _ => Merged::NOTHING,
                })
            }
            Change::Member(member) => {
                self.write(Kind::Set, stamp, Some(ElementRef::Member(member)), cx, |body, _| match body {
                    Body::Set(set) => Merged::changed_if(set.merge(member, stamp)),
                    _ => Merged::NOTHING,
                })
            }
            Change::Score(member, score) => {
                self.write(Kind::Zset, stamp, Some(ElementRef::Score(member)), cx, |body, _| match body {
                    Body::Zset(zset) => zset.merge(member, *score, stamp, cx.own).into(),
                    _ => Merged::NOTHING,
                })
            }
            Change::ScoreSum(member, added) => {
                let element = Some(ElementRef::Score(member));
                self.write(Kind::Zset, added.stamp(), element, cx, |body, clear| match body {
                    Body::Zset(zset) => Merged::changed_if(zset.merge_sum(member, *added, clear)),
                    _ => Merged::NOTHING,
                })
            }
            Change::Item(pos, value) | Change::ItemValue(pos, value) => {
                let placed = matches!(change, Change::Item(..));
                // A removed item stays removed, also for an LSET stamped later.
                if self.tombstone(ElementRef::Item(pos)).is_some() || pos.stamp() < self.clear.max(cx.flush) {
                    return if placed { self.claim(Kind::List, stamp, cx).1 } else { Merged::NOTHING };
                }
                // An LSET claims the key as of its item's placement: where a clear has killed the item it claims nothing,
                // and so it must not where it comes before the clear.
                self.write(Kind::List, pos.stamp(), None, cx, |body, clear| match body {
                    Body::List(list) if pos.stamp() >= clear => {
                        Merged::changed_if(list.merge(pos, value, stamp))
                    }
                    _ => Merged::NOTHING,
                })
            }
            Change::FieldRemove(name) => self.remove(ElementRef::Field(name), stamp, cx, |body| match body {
                Body::Hash(hash) => hash.remove(name, stamp, cx.own),
                _ => (false, false),
            }),
            Change::MemberRemove(member) => {
                self.remove(ElementRef::Member(member), stamp, cx, |body| match body {
                    Body::Set(set) => (set.remove(member, stamp), false),
                    _ => (false, false),
                })
            }
            Change::ScoreRemove(member) => {
                self.remove(ElementRef::Score(member), stamp, cx, |body| match body {
                    Body::Zset(zset) => zset.remove(member, stamp, cx.own),
                    _ => (false, false),
                })
            }
            Change::ItemRemove(pos) => self.remove(ElementRef::Item(pos), stamp, cx, |body| match body {
                Body::List(list) => (list.remove(pos), false),
                _ => (false, false),
            }),
        }
    }

    fn tombstone(&self, element: ElementRef<'_>) -> Option<Stamp> {
        self.tombstones.as_ref()?.get(&element).copied()
    }

    /// A write that claims the key for its type, of one element where there are several.
    fn write(
        &mut self,
        kind: Kind,
        stamp: Stamp,
        element: Option<ElementRef<'_>>,
        cx: MergeContext<'_>,
        apply: impl FnOnce(&mut Body, Stamp) -> Merged,
    ) -> Merged {
        let (stands, claimed) = self.claim(kind, stamp, cx);
        if !stands {
            return claimed;
        }
        let removed = element.and_then(|element| self.tombstone(element)).unwrap_or(Stamp::NEVER);
        if stamp < removed {
            return claimed;
        }
        let applied = apply(&mut self.body, self.clear.max(removed).max(cx.flush));
        claimed.and(applied)
    }

    /// Settles which type stands after a write of `kind` at `stamp`. Returns whether `kind` does.
    fn claim(&mut self, kind: Kind, stamp: Stamp, cx: MergeContext<'_>) -> (bool, Merged) {
        if stamp < self.clear {
            return (false, Merged::NOTHING);
        }
        match self.body.kind() {
            Some(standing) if standing == kind => {
                self.written = self.written.max(stamp);
                (true, Merged::NOTHING)
            }
            None => {
                self.body = Body::new(kind, cx.hasher);
                self.written = stamp;
                (true, Merged::NOTHING)
            }
            Some(_) if stamp > self.written => {
                let cleared = self.raise_clear(self.written.next(), cx);
                self.body = Body::new(kind, cx.hasher);
                self.written = stamp;
                (true, cleared.and(Merged::CHANGED))
            }
            Some(_) => (false, self.raise_clear(stamp.next(), cx)),
        }
    }

    fn raise_clear(&mut self, stamp: Stamp, cx: MergeContext<'_>) -> Merged {
        if stamp <= self.clear {
            return Merged::NOTHING;
        }
        let alive = self.body.is_alive();
        self.clear = stamp;
        if self.expiry.is_some_and(|expiry| expiry.stamp < stamp) {
            self.expiry = None;
            self.buried = false;
        }
        if let Some(tombstones) = &mut self.tombstones {
            tombstones.retain(|element, removed| {
                // An item's tombstone also stops an LSET; its identity says whether the clear already does.
                let dead_anyway = match element {
                    Element::Item(pos) => pos.stamp() < stamp,
                    Element::Field(_) | Element::Member(_) | Element::Score(_) => *removed < stamp,
                };
                !dead_anyway
            });
            if tombstones.is_empty() {
                self.tombstones = None;
            }
        }
        if self.written < stamp {
            self.body = Body::None;
            self.written = Stamp::NEVER;
            return Merged::changed_if(alive);
        }
        let reassert = match &mut self.body {
            Body::None => false,
            Body::String(text) => text.clear(stamp, cx.own),
            Body::List(list) => {
                list.clear(stamp);
                false
            }
            Body::Set(set) => {
                set.clear(stamp);
                false
            }
            Body::Zset(zset) => !zset.clear(stamp, cx.own).is_empty(),
            Body::Hash(hash) => !hash.clear(stamp, cx.own).is_empty(),
        };
        Merged { changed: alive, reassert, ..Merged::NOTHING }
    }

    fn remove(
        &mut self,
        element: ElementRef<'_>,
        stamp: Stamp,
        cx: MergeContext<'_>,
        apply: impl FnOnce(&mut Body) -> (bool, bool),
    ) -> Merged {
        let dead_anyway = match element {
            ElementRef::Item(pos) => pos.stamp() < self.clear,
            ElementRef::Field(_) | ElementRef::Member(_) | ElementRef::Score(_) => stamp < self.clear,
        };
        if dead_anyway || self.tombstone(element).is_some_and(|held| held >= stamp) {
            return Merged::NOTHING;
        }
        let applied = Merged::from(apply(&mut self.body));
        if cx.keep_tombstones {
            self.tombstones
                .get_or_insert_with(|| Box::new(HashMap::with_hasher(cx.hasher.clone())))
                .insert(element.to_owned(), stamp);
        }
        applied
    }

    fn added(&self, element: Option<&[u8]>, kind: Kind, amount: Amount, stamp: Stamp) -> Option<Added> {
        let base = match element {
            None => self.clear,
            Some(name) => {
                let tombstone = match kind {
                    Kind::Hash => self.tombstone(ElementRef::Field(name)),
                    Kind::Zset => self.tombstone(ElementRef::Score(name)),
                    Kind::String | Kind::List | Kind::Set => None,
                };
                self.clear.max(tombstone.unwrap_or(Stamp::NEVER))
            }
        };
        match (&self.body, element) {
            (Body::String(text), None) => text.after_adding(amount, stamp, base),
            (Body::Hash(hash), Some(field)) => hash.after_adding(field, amount, stamp, base),
            (Body::Zset(zset), Some(member)) => zset.after_adding(member, amount, stamp, base),
            _ => TextCounter::default().after_adding(amount, stamp, base),
        }
    }

    fn collect(&mut self, stable: NTP64) {
        if let Some(tombstones) = &mut self.tombstones {
            tombstones.retain(|_, removed| removed.time > stable);
            if tombstones.is_empty() {
                self.tombstones = None;
            }
        }
        if let Some(expiry) = self.expiry {
            let is_over = match expiry.dead_as_of() {
                None => true,
                Some(_) if self.body.is_alive() => self.live_expiry().is_none(),
                // Should the emptied key come back before that instant, it counts again.
                Some(death) => death.time <= stable,
            };
            if is_over && expiry.stamp.time <= stable {
                self.expiry = None;
            }
        }
        if !self.body.is_alive() && self.written.time <= stable {
            // The type's claim outlives its elements only while an older write of another type can arrive. The next write
            // of another type would take with it the expiry set before.
            let kind = self.body.kind();
            self.expiry =
                self.expiry.filter(|expiry| expiry.stamp > self.written || Some(expiry.kind) == kind);
            self.clear = self.clear.max(self.written);
            self.body = Body::None;
            self.written = Stamp::NEVER;
        }
        // A write that found the key dead clears it as of the expiry's instant, which may be stable already: others have merged
        // that clear once they have merged the write.
        if self.clear.time <= stable && self.written.time <= stable {
            // Nothing can come that it would kill. A string whose value is settled too may become plain.
            self.clear = match &self.body {
                Body::String(text) if text.sums().is_empty() => match text.base() {
                    Some((stamp, _)) if stamp.time <= stable && self.expiry.is_none() => stamp,
                    _ => Stamp::NEVER,
                },
                _ => Stamp::NEVER,
            };
        }
    }

    fn stamp_max(&self) -> Stamp {
        self.expiry.map_or(Stamp::NEVER, |expiry| expiry.stamp).max(self.written).max(self.clear)
    }

    fn has_collectable(&self) -> bool {
        self.clear != Stamp::NEVER
            || self.tombstones.is_some()
            || !self.body.is_alive()
            || self.expiry.is_some_and(|expiry| expiry.at_ms.is_none())
            || self.is_buried()
            || matches!(&self.body, Body::String(text) if text.sums().is_empty() && self.expiry.is_none())
    }

    fn registers(&self, mut each: impl FnMut(Stamp, Change<'_>)) {
        if self.clear != Stamp::NEVER {
            each(self.clear, Change::Clear);
        }
        if let Some(kind) = self.body.kind()
            && self.written != Stamp::NEVER
        {
            each(self.written, Change::Kind(kind));
        }
        match &self.body {
            Body::None => {}
            Body::String(text) => {
                if let Some((stamp, value)) = text.base() {
                    each(stamp, Change::Value(value));
                }
                text.sums().iter().for_each(|added| each(added.stamp(), Change::Sum(*added)));
            }
            Body::List(list) => list.iter().for_each(|item| {
                let placed = item.stamp() == item.pos().stamp();
                let change = if placed { Change::Item } else { Change::ItemValue };
                each(item.stamp(), change(item.pos().clone(), item.value()));
            }),
            Body::Set(set) => set.registers().for_each(|(member, stamp)| each(stamp, Change::Member(member))),
            Body::Zset(zset) => zset.registers().for_each(|(member, score)| {
                if let Some((stamp, base)) = score.base() {
                    each(stamp, Change::Score(member, base));
                }
                score.sums().for_each(|added| each(added.stamp(), Change::ScoreSum(member, *added)));
            }),
            Body::Hash(hash) => hash.registers().for_each(|(name, registers)| match registers {
                FieldRegisters::Plain(stamp, value) => each(stamp, Change::Field(name, value)),
                FieldRegisters::Counter(counter) => {
                    if let Some((stamp, value)) = counter.base() {
                        each(stamp, Change::Field(name, value));
                    }
                    counter
                        .sums()
                        .iter()
                        .for_each(|added| each(added.stamp(), Change::FieldSum(name, *added)));
                }
            }),
        }
        for (element, stamp) in self.tombstones.iter().flat_map(|tombstones| tombstones.iter()) {
            let change = match element {
                Element::Field(name) => Change::FieldRemove(name),
                Element::Member(member) => Change::MemberRemove(member),
                Element::Score(member) => Change::ScoreRemove(member),
                Element::Item(pos) => Change::ItemRemove(pos.clone()),
            };
            each(*stamp, change);
        }
        if let Some(expiry) = self.expiry {
            each(expiry.stamp, Change::Expire(expiry.at_ms, expiry.kind));
        }
    }
}
