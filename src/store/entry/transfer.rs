//! An entry as deltas: what peers are told of it, and what resync asks it and takes from it.
//!
//! Between nodes a key is nothing but its registers. [`Entry::registers`] tells them all, [`Entry::holds`] whether one
//! is here, and [`Entry::forget`] drops one that the giver of a range no longer has.

use super::object::{Body, Object};
use super::{Entry, MergeContext, Rare, State};
use crate::clock::{NTP64, Origin, Stamp};
use crate::store::delta::{Change, Element};
use crate::store::hash::FieldRegisters;

impl Entry {
    /// Calls back with every register as a delta. Merging them all into a blank entry makes an equal one.
    pub fn registers(&self, mut each: impl FnMut(Stamp, Change<'_>)) {
        match &self.state {
            State::Rare(Rare::Cleared(stamp)) => {
                if *stamp != Stamp::NEVER {
                    each(*stamp, Change::Clear);
                }
            }
            State::Plain(stamp, value) => each(*stamp, Change::Assign(value.bytes())),
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

    /// Whether the register that `change` writes is held as of `stamp` or later: an element, a base, an expiry; an item or
    /// an origin's sum in whatever version. True for what has no presence (clears and removals).
    pub fn holds(&self, stamp: Stamp, change: &Change<'_>) -> bool {
        match change {
            Change::Clear | Change::Kind(_) | Change::Expire(None, _) => true,
            Change::FieldRemove(_)
            | Change::MemberRemove(_)
            | Change::ScoreRemove(_)
            | Change::ItemRemove(_) => true,
            Change::Assign(_)
            | Change::Value(_)
            | Change::Field(..)
            | Change::Member(_)
            | Change::Score(..) => self.base(change).is_some_and(|(held, _)| held >= stamp),
            Change::Expire(Some(_), _) => {
                self.expiry().is_some_and(|expiry| expiry.at_ms.is_some() && expiry.stamp >= stamp)
            }
            Change::Sum(_)
            | Change::FieldSum(..)
            | Change::ScoreSum(..)
            | Change::Item(..)
            | Change::ItemValue(..) => {
                matches!(&self.state, State::Rare(Rare::Object(object)) if object.body.holds(change))
            }
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
}

impl Body {
    /// Whether it has an origin's sum, or an item.
    fn holds(&self, change: &Change<'_>) -> bool {
        match (self, change) {
            (Body::String(text), Change::Sum(added)) => text.sums().has(added.origin),
            (Body::Hash(hash), Change::FieldSum(name, added)) => hash.own_sum(name, added.origin).is_some(),
            (Body::Zset(zset), Change::ScoreSum(member, added)) => {
                zset.own_sum(member, added.origin).is_some()
            }
            (Body::List(list), Change::Item(pos, _) | Change::ItemValue(pos, _)) => list.has(pos),
            _ => false,
        }
    }
}

impl Object {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NodeId;
    use crate::store::delta::Kind;

    #[test]
    fn a_register_is_held_as_of_its_version_and_before() {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let at = |time: u64| Stamp::new(NTP64(time), Origin::new(NodeId::new(1 << 24), 1));
        let cx =
            MergeContext { own: at(0).origin, flush: Stamp::NEVER, keep_tombstones: true, hasher: &hasher };
        let changes = [
            Change::Assign(b"v"),
            Change::Field(b"f", b"v"),
            Change::Member(b"m"),
            Change::Score(b"m", 1.0),
            Change::Expire(Some(9000), Kind::Hash),
        ];
        for change in changes {
            let mut entry = Entry::blank(b"k");
            entry.merge(at(4), &Change::Field(b"other", b"v"), cx);
            entry.merge(at(5), &change, cx);
            assert_eq!(
                [4, 5, 6].map(|time| entry.holds(at(time), &change)),
                [true, true, false],
                "{change:?}"
            );
        }
    }
}
