//! The registers of a key that is not plain: of one type, with tombstones and an expiry.
//!
//! # Types in stamp order
//! One server would let a write of another type replace the key. So the type written last stands, and what the
//! other type wrote before it is gone. Two stamps decide that for any order of delivery: `written`, the latest
//! write of the standing type, and `clear`. A write of another type stamped after `written` takes the key over
//! and raises `clear` to just above `written`; one stamped before it only raises `clear` to just above itself.
//! Removals do not claim a type: their tombstones are kept beside the body, whatever its type.

use hashbrown::HashMap;

use super::{Expiry, MergeContext, Merged, Weight};
use crate::clock::{NTP64, Stamp};
use crate::store::counter::TextCounter;
use crate::store::delta::{Added, Amount, Change, Element, ElementRef, Kind};
use crate::store::digest;
use crate::store::hash::Hash;
use crate::store::list::List;
use crate::store::set::Set;
use crate::store::zset::Zset;

/// The value of a key that is not plain.
#[derive(Clone, Debug)]
pub(super) enum Body {
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

    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Body::None => None,
            Body::String(_) => Some(Kind::String),
            Body::List(_) => Some(Kind::List),
            Body::Set(_) => Some(Kind::Set),
            Body::Zset(_) => Some(Kind::Zset),
            Body::Hash(_) => Some(Kind::Hash),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
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
pub(super) struct Object {
    pub(super) clear: Stamp,
    pub(super) written: Stamp,
    pub(super) expiry: Option<Expiry>,
    pub(super) body: Body,
    /// When elements were removed. Boxed: rare at rest.
    pub(super) tombstones: Option<Box<HashMap<Element, Stamp, ahash::RandomState>>>,
    /// The key is past its expiry and no longer counted; see [`Entry::bury`](super::Entry::bury).
    pub(super) buried: bool,
}

impl Object {
    pub(super) fn cleared(clear: Stamp) -> Self {
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
    pub(super) fn live_expiry(&self) -> Option<&Expiry> {
        let kind = self.body.kind()?;
        self.expiry.as_ref().filter(|expiry| {
            let of_value = expiry.kind == kind || expiry.stamp > self.written;
            of_value && expiry.dead_as_of().is_none_or(|death| self.written < death)
        })
    }

    pub(super) fn is_buried(&self) -> bool {
        self.buried && self.live_expiry().is_some_and(|expiry| expiry.at_ms.is_some())
    }

    /// Buried or not, the digest is the same: it tells what is held, whatever this node's clock says.
    pub(super) fn weight(&self, hash: u64) -> Weight {
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
            let value = digest::mix(at_ms, expiry.kind as u64);
            digest = digest.wrapping_add(digest::mix(hash, digest::term(1, expiry.stamp, value)));
        }
        Weight { live, volatile, digest }
    }

    pub(super) fn merge(&mut self, stamp: Stamp, change: &Change<'_>, cx: MergeContext<'_>) -> Merged {
        match change {
            Change::Clear => self.raise_clear(stamp, cx),
            Change::Assign(value) => {
                let cleared = self.raise_clear(stamp, cx);
                cleared.and(self.merge(stamp, &Change::Value(value), cx))
            }
            Change::Expire(at_ms, kind) => self.set_expiry(Expiry { stamp, at_ms: *at_ms, kind: *kind }),
            Change::Kind(kind) => self.claim(*kind, stamp, cx).1,
            Change::Value(value) => self.write(Kind::String, stamp, None, cx, |body, _| match body {
                Body::String(text) => text.merge_base(value, stamp, cx.own),
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
                    Body::Hash(hash) => hash.merge(name, value, stamp, cx.own),
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
                    Body::Zset(zset) => zset.merge(member, *score, stamp, cx.own),
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
                    Body::List(list) if pos.stamp() >= clear => list.merge(pos, value, stamp),
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

    fn set_expiry(&mut self, expiry: Expiry) -> Merged {
        let rank = |expiry: Expiry| (expiry.stamp, expiry.at_ms, expiry.kind);
        if expiry.stamp < self.clear || self.expiry.is_some_and(|held| rank(held) >= rank(expiry)) {
            return Merged::NOTHING;
        }
        let tied = self.expiry.is_some_and(|held| held.stamp == expiry.stamp);
        self.expiry = Some(expiry);
        self.buried = false;
        Merged { tied, ..Merged::CHANGED }
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

    pub(super) fn added(
        &self,
        element: Option<&[u8]>,
        kind: Kind,
        amount: Amount,
        stamp: Stamp,
    ) -> Option<Added> {
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

    pub(super) fn collect(&mut self, stable: NTP64) {
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
                    Some((stamp, _)) if stamp.time <= stable && self.expiry.is_none() => {
                        self.written = stamp;
                        stamp
                    }
                    _ => Stamp::NEVER,
                },
                _ => Stamp::NEVER,
            };
        }
    }

    pub(super) fn stamp_max(&self) -> Stamp {
        self.expiry.map_or(Stamp::NEVER, |expiry| expiry.stamp).max(self.written).max(self.clear)
    }

    pub(super) fn has_collectable(&self) -> bool {
        self.clear != Stamp::NEVER
            || self.tombstones.is_some()
            || !self.body.is_alive()
            || self.expiry.is_some_and(|expiry| expiry.at_ms.is_none())
            || self.expiry.is_some() && self.live_expiry().is_none()
            || self.is_buried()
            || matches!(&self.body, Body::String(text) if text.sums().is_empty() && self.expiry.is_none())
    }
}
