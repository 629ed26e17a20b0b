//! Which registers of an entry a peer's change conflicts with. What a conflict is, and why, is told in
//! `engine::conflicts`; here is where to look.
//!
//! Cost: a look at the registers the change is about; for what clears a key or changes its type a walk over its elements,
//! but only if one of them can be unseen.

use super::object::Body;
use super::{Entry, Rare, State};
use crate::clock::{NTP64, Origin, Stamp};
use crate::store::delta::{Added, Change, ElementRef, Kind};

/// What the author of a change had not seen: the writes of this node after a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unseen {
    /// This node.
    pub own: Origin,
    /// Up to when the author had merged it.
    pub seen: NTP64,
}

impl Unseen {
    /// Whether a write is one of them.
    pub fn has(&self, stamp: Stamp) -> bool {
        stamp.origin == self.own && stamp.time > self.seen
    }
}

/// What about two writes conflicts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConflictKind {
    /// Two values of a string.
    Value,
    /// Two values of a field, score or list item.
    Element,
    /// Amounts that were added, and a value set later.
    Counter,
    /// An expiry, and another or what clears it.
    Expiry,
    /// A write, and one of another type.
    Type,
    /// A write, and a removal of its key or element.
    Removal,
    /// A write, and a flush of its database.
    Flush,
}

impl ConflictKind {
    /// All, in the order of their numbers.
    pub const ALL: [ConflictKind; 7] = [
        ConflictKind::Value,
        ConflictKind::Element,
        ConflictKind::Counter,
        ConflictKind::Expiry,
        ConflictKind::Type,
        ConflictKind::Removal,
        ConflictKind::Flush,
    ];

    /// As clients see it.
    pub fn name(self) -> &'static str {
        match self {
            ConflictKind::Value => "value",
            ConflictKind::Element => "element",
            ConflictKind::Counter => "counter",
            ConflictKind::Expiry => "expiry",
            ConflictKind::Type => "type",
            ConflictKind::Removal => "removal",
            ConflictKind::Flush => "flush",
        }
    }
}

/// Two writes of which one has lost: one held here, and the one that came.
#[derive(Clone, Copy, Debug)]
pub struct Conflict<'a> {
    /// What about.
    pub kind: ConflictKind,
    /// This node's write.
    pub held: Stamp,
    /// Whether it has won.
    pub held_wins: bool,
    /// The write that has lost.
    pub lost: &'a Change<'a>,
}

impl Change<'_> {
    /// Whether it brings something that a clear can take away.
    pub fn is_write(&self) -> bool {
        match self {
            Change::Assign(_)
            | Change::Value(_)
            | Change::Sum(_)
            | Change::Expire(..)
            | Change::Field(..)
            | Change::FieldSum(..)
            | Change::Member(_)
            | Change::Score(..)
            | Change::ScoreSum(..)
            | Change::Item(..)
            | Change::ItemValue(..) => true,
            Change::Clear
            | Change::Kind(_)
            | Change::FieldRemove(_)
            | Change::MemberRemove(_)
            | Change::ScoreRemove(_)
            | Change::ItemRemove(_) => false,
        }
    }

    /// The stamp that decides whether a clear takes it away: of a list item that of its placement.
    pub fn placed(&self, stamp: Stamp) -> Stamp {
        match self {
            Change::Item(pos, _) | Change::ItemValue(pos, _) | Change::ItemRemove(pos) => pos.stamp(),
            Change::Clear | Change::Assign(_) | Change::Value(_) | Change::Kind(_) | Change::Expire(..) => {
                stamp
            }
            Change::Field(..) | Change::Member(_) | Change::Score(..) => stamp,
            Change::FieldRemove(_) | Change::MemberRemove(_) | Change::ScoreRemove(_) => stamp,
            Change::Sum(_) | Change::FieldSum(..) | Change::ScoreSum(..) => stamp,
        }
    }

    /// Whether both write the same value.
    pub fn is_alike(&self, other: &Change<'_>) -> bool {
        match (self, other) {
            (Change::Assign(a) | Change::Value(a), Change::Assign(b) | Change::Value(b)) => a == b,
            (Change::Field(_, a), Change::Field(_, b)) => a == b,
            (Change::Score(_, a), Change::Score(_, b)) => a == b,
            (Change::ItemValue(_, a), Change::ItemValue(_, b)) => a == b,
            (Change::Expire(a, _), Change::Expire(b, _)) => a == b,
            (Change::Member(_), Change::Member(_)) => true,
            _ => false,
        }
    }

    /// The type a write claims its key for.
    fn claims(&self) -> Option<Kind> {
        match self {
            Change::Assign(_) | Change::Value(_) | Change::Sum(_) => Some(Kind::String),
            Change::Field(..) | Change::FieldSum(..) => Some(Kind::Hash),
            Change::Member(_) => Some(Kind::Set),
            Change::Score(..) | Change::ScoreSum(..) => Some(Kind::Zset),
            Change::Item(..) | Change::ItemValue(..) => Some(Kind::List),
            Change::Kind(kind) => Some(*kind),
            Change::Clear
            | Change::Expire(..)
            | Change::FieldRemove(_)
            | Change::MemberRemove(_)
            | Change::ScoreRemove(_)
            | Change::ItemRemove(_) => None,
        }
    }
}

impl Entry {
    /// Calls back with every unseen write of this node that a peer's change, not merged yet, conflicts with.
    pub fn conflicts(
        &self,
        stamp: Stamp,
        change: &Change<'_>,
        unseen: Unseen,
        mut each: impl FnMut(Conflict<'_>),
    ) {
        match change {
            Change::Kind(_) => {}
            Change::Clear => self.killed(stamp, unseen, ConflictKind::Removal, each),
            Change::Expire(..) => self.meets_expiry(stamp, change, unseen, each),
            Change::FieldRemove(_)
            | Change::MemberRemove(_)
            | Change::ScoreRemove(_)
            | Change::ItemRemove(_) => self.meets_removal(stamp, change, unseen, each),
            write => self.meets_write(stamp, write, unseen, &mut each),
        }
    }

    /// Calls back with every unseen write of this node that a clear or flush at `below` takes away. An expiry of the same
    /// SET is not told beside its value.
    pub fn killed(
        &self,
        below: Stamp,
        unseen: Unseen,
        kind: ConflictKind,
        mut each: impl FnMut(Conflict<'_>),
    ) {
        if self.newest().time <= unseen.seen {
            return;
        }
        let mut whole = None;
        self.registers(|held, change| {
            if !unseen.has(held) || !change.is_write() || change.placed(held) >= below {
                return;
            }
            let is_expiry = matches!(change, Change::Expire(..));
            if is_expiry && whole == Some(held) {
                return;
            }
            if matches!(change, Change::Assign(_) | Change::Value(_)) {
                whole = Some(held);
            }
            let kind = if is_expiry && kind != ConflictKind::Flush { ConflictKind::Expiry } else { kind };
            each(Conflict { kind, held, held_wins: false, lost: &change });
        });
    }

    fn meets_expiry(
        &self,
        stamp: Stamp,
        change: &Change<'_>,
        unseen: Unseen,
        mut each: impl FnMut(Conflict<'_>),
    ) {
        let kind = ConflictKind::Expiry;
        if unseen.has(self.clear()) && stamp < self.clear() {
            each(Conflict { kind, held: self.clear(), held_wins: true, lost: change });
        } else if let Some(expiry) = self.expiry().filter(|expiry| unseen.has(expiry.stamp)) {
            let held = Change::Expire(expiry.at_ms, expiry.kind);
            if !held.is_alike(change) {
                let held_wins = expiry.stamp > stamp;
                each(Conflict {
                    kind,
                    held: expiry.stamp,
                    held_wins,
                    lost: if held_wins { change } else { &held },
                });
            }
        }
    }

    fn meets_removal(
        &self,
        stamp: Stamp,
        change: &Change<'_>,
        unseen: Unseen,
        mut each: impl FnMut(Conflict<'_>),
    ) {
        let kind = ConflictKind::Removal;
        if let Some((held, value)) = self.base(change).filter(|(held, _)| unseen.has(*held)) {
            // A removed list item stays removed, also for an LSET stamped later.
            let held_wins = held > stamp && !matches!(change, Change::ItemRemove(_));
            each(Conflict { kind, held, held_wins, lost: if held_wins { change } else { &value } });
        }
        if let Some((held, sum)) = self.own_sum(change, unseen).filter(|(held, _)| *held < stamp) {
            each(Conflict { kind, held, held_wins: false, lost: &sum });
        }
    }

    fn meets_write(
        &self,
        stamp: Stamp,
        change: &Change<'_>,
        unseen: Unseen,
        each: &mut impl FnMut(Conflict<'_>),
    ) {
        let base = self.base(change).filter(|(held, _)| unseen.has(*held));
        let clear = self.clear();
        // A SET clears and sets at once: that is one write, and its value is what another value meets.
        let is_own_set = base.as_ref().is_some_and(|(held, _)| *held == clear) && self.is_string();
        if change.placed(stamp) < clear && !is_own_set {
            // What an expiry or another node has cleared did not lose to this node's writes.
            if unseen.has(clear) && !base.is_some_and(|(_, value)| value.is_alike(change)) {
                let kind = if self.is_set_at(clear) { ConflictKind::Type } else { ConflictKind::Removal };
                each(Conflict { kind, held: clear, held_wins: true, lost: change });
            }
            return;
        }
        match base {
            Some((held, value)) => meets_value(stamp, change, held, &value, each),
            None => self.meets_tombstone(stamp, change, unseen, each),
        }
        if change.sum().is_none()
            && let Some((held, sum)) = self.own_sum(change, unseen).filter(|(held, _)| *held < stamp)
        {
            each(Conflict { kind: ConflictKind::Counter, held, held_wins: false, lost: &sum });
        }
        self.meets_other_type(stamp, change, unseen, each);
        if matches!(change, Change::Assign(_))
            && let Some(expiry) = self.expiry().filter(|held| unseen.has(held.stamp) && held.stamp < stamp)
        {
            let lost = &Change::Expire(expiry.at_ms, expiry.kind);
            each(Conflict { kind: ConflictKind::Expiry, held: expiry.stamp, held_wins: false, lost });
        }
    }

    fn meets_tombstone(
        &self,
        stamp: Stamp,
        change: &Change<'_>,
        unseen: Unseen,
        each: &mut impl FnMut(Conflict<'_>),
    ) {
        let Some((held, removal)) = self.removal(change).filter(|(held, _)| unseen.has(*held)) else {
            return;
        };
        let kind = ConflictKind::Removal;
        if held > stamp || matches!(change, Change::ItemValue(..)) {
            each(Conflict { kind, held, held_wins: true, lost: change });
        } else if change.sum().is_none() {
            each(Conflict { kind, held, held_wins: false, lost: &removal });
        }
    }

    fn meets_other_type(
        &self,
        stamp: Stamp,
        change: &Change<'_>,
        unseen: Unseen,
        each: &mut impl FnMut(Conflict<'_>),
    ) {
        let (Some(claimed), Some((standing, written))) = (change.claims(), self.standing()) else { return };
        if standing == claimed {
            return;
        }
        let placed = change.placed(stamp);
        self.killed(placed, unseen, ConflictKind::Type, |conflict| {
            if conflict.kind == ConflictKind::Type {
                each(conflict);
            }
        });
        if unseen.has(written) && written > placed {
            let kind = ConflictKind::Type;
            each(Conflict { kind, held: written, held_wins: true, lost: change });
        }
    }

    fn is_string(&self) -> bool {
        self.standing().is_some_and(|(kind, _)| kind == Kind::String)
    }

    /// Whether a SET has cleared the key.
    fn is_set_at(&self, clear: Stamp) -> bool {
        self.base(&Change::Value(b"")).is_some_and(|(held, _)| held == clear)
    }

    /// The type of the value, and its latest write.
    fn standing(&self) -> Option<(Kind, Stamp)> {
        match &self.state {
            State::Plain(stamp, _) => Some((Kind::String, *stamp)),
            State::Rare(Rare::Cleared(_)) => None,
            State::Rare(Rare::Object(object)) => Some((object.body.kind()?, object.written)),
        }
    }

    /// The value held of what a change is about, and when it was set; of a list item only if LSET did.
    pub(super) fn base<'a>(&'a self, change: &Change<'a>) -> Option<(Stamp, Change<'a>)> {
        let object = match (&self.state, change) {
            (State::Plain(stamp, value), Change::Assign(_) | Change::Value(_) | Change::Sum(_)) => {
                return Some((*stamp, Change::Value(value.bytes())));
            }
            (State::Plain(..) | State::Rare(Rare::Cleared(_)), _) => return None,
            (State::Rare(Rare::Object(object)), _) => object,
        };
        match (&object.body, change) {
            (Body::String(text), Change::Assign(_) | Change::Value(_) | Change::Sum(_)) => {
                text.base().map(|(stamp, value)| (stamp, Change::Value(value)))
            }
            (
                Body::Hash(hash),
                Change::Field(name, _) | Change::FieldSum(name, _) | Change::FieldRemove(name),
            ) => hash.base(name).map(|(stamp, value)| (stamp, Change::Field(name, value))),
            (Body::Set(set), Change::Member(member) | Change::MemberRemove(member)) => {
                set.stamp(member).map(|stamp| (stamp, Change::Member(member)))
            }
            (
                Body::Zset(zset),
                Change::Score(name, _) | Change::ScoreSum(name, _) | Change::ScoreRemove(name),
            ) => zset.base(name).map(|(stamp, score)| (stamp, Change::Score(name, score))),
            (Body::List(list), Change::ItemValue(pos, _) | Change::ItemRemove(pos)) => {
                let item = list.item(pos).filter(|item| item.stamp() != pos.stamp())?;
                Some((item.stamp(), Change::ItemValue(pos.clone(), item.value())))
            }
            _ => None,
        }
    }

    /// What this node has added to what a change is about, if that is unseen.
    fn own_sum<'a>(&'a self, change: &Change<'a>, unseen: Unseen) -> Option<(Stamp, Change<'a>)> {
        let State::Rare(Rare::Object(object)) = &self.state else { return None };
        let own = unseen.own;
        let sum = match (&object.body, change) {
            (Body::String(text), Change::Assign(_) | Change::Value(_)) => {
                Change::Sum(*text.sums().iter().find(|added| added.origin == own)?)
            }
            (Body::Hash(hash), Change::Field(name, _) | Change::FieldRemove(name)) => {
                Change::FieldSum(name, hash.own_sum(name, own)?)
            }
            (Body::Zset(zset), Change::Score(name, _) | Change::ScoreRemove(name)) => {
                Change::ScoreSum(name, zset.own_sum(name, own)?)
            }
            _ => return None,
        };
        let stamp = sum.sum().map(Added::stamp)?;
        unseen.has(stamp).then_some((stamp, sum))
    }

    /// The removal held of the element a change writes.
    fn removal<'a>(&self, change: &Change<'a>) -> Option<(Stamp, Change<'a>)> {
        let State::Rare(Rare::Object(object)) = &self.state else { return None };
        let (element, removal) = match change {
            Change::Field(name, _) | Change::FieldSum(name, _) => {
                (ElementRef::Field(name), Change::FieldRemove(name))
            }
            Change::Member(name) => (ElementRef::Member(name), Change::MemberRemove(name)),
            Change::Score(name, _) | Change::ScoreSum(name, _) => {
                (ElementRef::Score(name), Change::ScoreRemove(name))
            }
            Change::ItemValue(pos, _) => (ElementRef::Item(pos), Change::ItemRemove(pos.clone())),
            _ => return None,
        };
        let stamp = object.tombstones.as_ref()?.get(&element).copied()?;
        Some((stamp, removal))
    }
}

/// A write and another value of the same register, set by this node.
fn meets_value(
    stamp: Stamp,
    change: &Change<'_>,
    held: Stamp,
    value: &Change<'_>,
    each: &mut impl FnMut(Conflict<'_>),
) {
    let held_wins = held > stamp;
    if change.sum().is_some() {
        if held_wins {
            each(Conflict { kind: ConflictKind::Counter, held, held_wins, lost: change });
        }
        return;
    }
    if !value.is_alike(change) {
        let is_whole = matches!(value, Change::Value(_));
        let kind = if is_whole { ConflictKind::Value } else { ConflictKind::Element };
        each(Conflict { kind, held, held_wins, lost: if held_wins { change } else { value } });
    }
}
