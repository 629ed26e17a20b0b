//! Deltas: what a write does to one key, as data. The only way into a stored value.
//!
//! A delta is a [`Stamp`] and a [`Change`]. Commands make them, peers send them, a range's
//! state is a list of them. They borrow the bytes they carry, so that decoding a frame copies nothing.

use std::cmp::Ordering;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::list::DEPTH_MAX;
use crate::clock::{NTP64, Origin, Stamp};
use crate::number;
use crate::number::long_double::LongDouble;

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// A string, a number or a bitmap.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    Zset,
    /// A hash.
    Hash,
}

impl Kind {
    /// Redis's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Zset => "zset",
            Kind::Hash => "hash",
        }
    }
}

/// What one origin has added to a number.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum Amount {
    /// INCRBY, HINCRBY.
    Int(i128),
    /// INCRBYFLOAT, HINCRBYFLOAT.
    #[serde(with = "long_double_bytes")]
    Float(LongDouble),
    /// ZINCRBY.
    Score(f64),
}

impl Amount {
    /// As Redis writes it.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        match self {
            Amount::Int(n) => text.extend_from_slice(n.to_string().as_bytes()),
            Amount::Float(x) => x.write(&mut text),
            Amount::Score(x) => number::write_f64(&mut text, *x),
        }
        text
    }

    /// The order that settles a tie of versions: by type, then by value to the last bit.
    #[cold]
    pub fn cmp_bits(&self, other: &Amount) -> Ordering {
        match (self, other) {
            (Amount::Int(a), Amount::Int(b)) => a.cmp(b),
            (Amount::Float(a), Amount::Float(b)) => a.to_bytes().cmp(&b.to_bytes()),
            (Amount::Score(a), Amount::Score(b)) => a.total_cmp(b),
            (Amount::Int(_), _) | (_, Amount::Score(_)) => Ordering::Less,
            (Amount::Score(_), _) | (_, Amount::Int(_)) => Ordering::Greater,
        }
    }
}

/// Bytes as one run; serde would take a slice for a sequence of numbers.
pub mod raw_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a length and the bytes.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    /// Borrows the bytes from the input.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'de [u8], D::Error> {
        <&'de [u8]>::deserialize(from)
    }
}

mod long_double_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::LongDouble;

    pub(super) fn serialize<S: Serializer>(value: &LongDouble, to: S) -> Result<S::Ok, S::Error> {
        value.to_bytes().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LongDouble, D::Error> {
        <[u8; 10]>::deserialize(from).map(LongDouble::from_bytes)
    }
}

/// One origin's register of a number: the sum of all it added since a base.
///
/// Only its origin writes it, so the version `(last, since)` orders all versions there are. Should two differ in the
/// amount alone, by a fault, the larger one counts on every node.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Added {
    /// Whose sum this is: a node's.
    #[serde(deserialize_with = "origin_of_a_node")]
    pub origin: Origin,
    /// When the last amount was added.
    pub last: NTP64,
    /// Amounts stamped at or before this base are not in the sum.
    pub since: Stamp,
    /// The sum.
    pub amount: Amount,
}

/// What no node wrote is an instant, and no instant adds anything.
fn origin_of_a_node<'de, D: Deserializer<'de>>(from: D) -> Result<Origin, D::Error> {
    let origin = Origin::deserialize(from)?;
    if origin == Origin::NONE {
        return Err(D::Error::custom("a sum of no node"));
    }
    Ok(origin)
}

impl Added {
    /// The stamp of the last amount.
    pub fn stamp(&self) -> Stamp {
        Stamp::new(self.last, self.origin)
    }

    /// Whether this version counts instead of another of the same origin's register.
    pub fn replaces(&self, held: &Added) -> bool {
        let version = (self.last, self.since).cmp(&(held.last, held.since));
        version.then_with(|| self.amount.cmp_bits(&held.amount)).is_gt()
    }
}

/// Which neighbour a list item was placed next to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Side {
    /// Right behind its parent (LPUSH: behind the head): the newest stands closest to the parent.
    After,
    /// Right before its parent (RPUSH: before the tail): the newest stands closest to the parent.
    Before,
}

/// One step of a position: the item placed by this stamp next to the parent that the steps before lead to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Step {
    /// When the item was placed.
    pub stamp: Stamp,
    /// Which of the items that one command placed.
    pub index: u32,
    /// On which side of the parent.
    pub side: Side,
}

impl Step {
    /// The order of two items placed next to the same parent.
    fn cmp_siblings(&self, other: &Step) -> Ordering {
        let age = (self.stamp, self.index).cmp(&(other.stamp, other.index));
        match (self.side, other.side) {
            (Side::After, Side::After) => age.reverse(),
            (Side::Before, Side::Before) => age,
            (Side::After, Side::Before) => Ordering::Greater,
            (Side::Before, Side::After) => Ordering::Less,
        }
    }
}

/// The identity and the place of a list item: a path in the tree of "placed next to".
///
/// The order is that of a walk that visits, for each item, what was placed before it, itself, then what was
/// placed after it. It equals what one server would hold that executed all placements in stamp order: a
/// placement always lands directly next to its parent, and so inside everything placed there earlier.
/// Self-contained: a position stays comparable when its parent is removed and forgotten.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Pos {
    root: Step,
    /// Further steps of an item that LINSERT placed, one at least. Boxed: nearly all items have none.
    #[serde(deserialize_with = "further_steps")]
    #[expect(clippy::box_collection, reason = "one word in every item instead of three")]
    path: Option<Box<Vec<Step>>>,
}

type Steps = Option<Box<Vec<Step>>>;

/// Steps as nodes make them: no more than [`DEPTH_MAX`] with the first, and none told as an empty list.
fn further_steps<'de, D: Deserializer<'de>>(from: D) -> Result<Steps, D::Error> {
    let path = Steps::deserialize(from)?;
    if path.as_ref().is_some_and(|path| path.is_empty() || path.len() >= DEPTH_MAX) {
        return Err(D::Error::custom("a place's steps"));
    }
    Ok(path)
}

impl Pos {
    /// The place of a pushed item: `After` the head (LPUSH) or `Before` the tail (RPUSH).
    pub fn pushed(side: Side, stamp: Stamp, index: u32) -> Self {
        Pos { root: Step { stamp, index, side }, path: None }
    }

    /// The place next to this item.
    pub fn beside(&self, side: Side, stamp: Stamp) -> Self {
        let mut path = self.path.as_deref().cloned().unwrap_or_default();
        path.push(Step { stamp, index: 0, side });
        Pos { root: self.root, path: Some(Box::new(path)) }
    }

    /// The item this one was placed next to; `None` if it was pushed.
    pub fn parent(&self) -> Option<Pos> {
        let path = self.path.as_deref()?;
        let above = &path[..path.len() - 1];
        Some(Pos { root: self.root, path: (!above.is_empty()).then(|| Box::new(above.to_vec())) })
    }

    /// Number of steps.
    pub fn depth(&self) -> usize {
        1 + self.path.as_ref().map_or(0, |path| path.len())
    }

    /// The step that placed this item.
    pub fn last(&self) -> &Step {
        self.path.as_ref().and_then(|path| path.last()).unwrap_or(&self.root)
    }

    /// When the item was placed.
    pub fn stamp(&self) -> Stamp {
        self.last().stamp
    }

    /// The steps to it, from that of a pushed item.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        std::iter::once(&self.root).chain(self.path.iter().flat_map(|path| path.iter()))
    }
}

impl Ord for Pos {
    fn cmp(&self, other: &Self) -> Ordering {
        // What follows the head stands before what precedes the tail; below the root it is the other way.
        let root = match (self.root.side, other.root.side) {
            (Side::After, Side::Before) => Ordering::Less,
            (Side::Before, Side::After) => Ordering::Greater,
            _ => self.root.cmp_siblings(&other.root),
        };
        if root != Ordering::Equal || (self.path.is_none() && other.path.is_none()) {
            return root;
        }
        let (mut ours, mut theirs) = (self.steps().skip(1), other.steps().skip(1));
        loop {
            return match (ours.next(), theirs.next()) {
                (None, None) => Ordering::Equal,
                (Some(step), None) => match step.side {
                    Side::After => Ordering::Greater,
                    Side::Before => Ordering::Less,
                },
                (None, Some(step)) => match step.side {
                    Side::After => Ordering::Less,
                    Side::Before => Ordering::Greater,
                },
                (Some(a), Some(b)) => match a.cmp_siblings(b) {
                    Ordering::Equal => continue,
                    unequal => unequal,
                },
            };
        }
    }
}

impl PartialOrd for Pos {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a write does to one key. Applied by [`Entry::merge`](super::entry::Entry::merge) with the write's stamp.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Change<'a> {
    /// DEL: everything stamped before is gone.
    Clear,
    /// SET: clear, then a whole value.
    Assign(#[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// A whole string value that leaves the key's expiry alone (APPEND, SETRANGE, SETBIT...).
    Value(#[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// An origin's sum on a string.
    Sum(Added),
    /// The key is of this type as of the stamp, whatever elements it has: part of a key's state.
    Kind(Kind),
    /// Expiry of the key in Unix milliseconds, set on a value of the given type; `None` persists it.
    Expire(Option<u64>, Kind),
    /// HSET: field, value.
    Field(#[serde(borrow, with = "raw_bytes")] &'a [u8], #[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// An origin's sum on a field.
    FieldSum(#[serde(borrow, with = "raw_bytes")] &'a [u8], Added),
    /// HDEL.
    FieldRemove(#[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// SADD.
    Member(#[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// SREM.
    MemberRemove(#[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// ZADD.
    Score(#[serde(borrow, with = "raw_bytes")] &'a [u8], f64),
    /// An origin's sum on a score.
    ScoreSum(#[serde(borrow, with = "raw_bytes")] &'a [u8], Added),
    /// ZREM.
    ScoreRemove(#[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// An item of a list, at its place.
    Item(Pos, #[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// LSET: another value for the item placed there.
    ItemValue(Pos, #[serde(borrow, with = "raw_bytes")] &'a [u8]),
    /// The item placed there is removed, for good.
    ItemRemove(Pos),
}

impl<'a> Change<'a> {
    /// What an origin has added, if this is it. Its stamp is that of its last amount, whoever tells it.
    #[inline]
    pub fn sum(&self) -> Option<&Added> {
        match self {
            Change::Sum(added) | Change::FieldSum(_, added) | Change::ScoreSum(_, added) => Some(added),
            _ => None,
        }
    }

    /// The stamp it counts under, of a record of this stamp: a sum brings its own, and no item changes before it is
    /// placed.
    #[inline]
    pub fn stamp(&self, record: Stamp) -> Stamp {
        match self {
            Change::Sum(added) | Change::FieldSum(_, added) | Change::ScoreSum(_, added) => added.stamp(),
            Change::Item(pos, _) | Change::ItemValue(pos, _) | Change::ItemRemove(pos) => {
                record.max(pos.stamp())
            }
            Change::Clear | Change::Assign(_) | Change::Value(_) | Change::Kind(_) | Change::Expire(..) => {
                record
            }
            Change::Field(..) | Change::Member(_) | Change::Score(..) => record,
            Change::FieldRemove(_) | Change::MemberRemove(_) | Change::ScoreRemove(_) => record,
        }
    }

    /// The field or member it is about.
    pub fn element(&self) -> Option<&'a [u8]> {
        match self {
            Change::Field(name, _) | Change::FieldSum(name, _) | Change::FieldRemove(name) => Some(name),
            Change::Member(name) | Change::MemberRemove(name) => Some(name),
            Change::Score(name, _) | Change::ScoreSum(name, _) | Change::ScoreRemove(name) => Some(name),
            Change::Clear
            | Change::Assign(_)
            | Change::Value(_)
            | Change::Sum(_)
            | Change::Kind(_)
            | Change::Expire(..)
            | Change::Item(..)
            | Change::ItemValue(..)
            | Change::ItemRemove(_) => None,
        }
    }

    /// Calls back with the stamps inside: of positions and sums.
    pub fn each_stamp(&self, each: &mut impl FnMut(Stamp)) {
        match self {
            Change::Sum(added) | Change::FieldSum(_, added) | Change::ScoreSum(_, added) => {
                each(added.stamp());
                each(added.since);
            }
            Change::Item(pos, _) | Change::ItemValue(pos, _) | Change::ItemRemove(pos) => {
                pos.steps().for_each(|step| each(step.stamp));
            }
            Change::Clear | Change::Assign(_) | Change::Value(_) | Change::Kind(_) | Change::Expire(..) => {}
            Change::Field(..) | Change::Member(_) | Change::Score(..) => {}
            Change::FieldRemove(_) | Change::MemberRemove(_) | Change::ScoreRemove(_) => {}
        }
    }

    /// The same with other stamps inside.
    pub fn restamped(&self, exchange: &impl Fn(Stamp) -> Stamp) -> Change<'a> {
        let sum = |added: &Added| Added {
            last: exchange(added.stamp()).time,
            since: exchange(added.since),
            ..*added
        };
        let place = |pos: &Pos| {
            let step = |step: &Step| Step { stamp: exchange(step.stamp), ..*step };
            let path = pos.path.as_ref().map(|path| Box::new(path.iter().map(step).collect()));
            Pos { root: step(&pos.root), path }
        };
        match self {
            Change::Sum(added) => Change::Sum(sum(added)),
            Change::FieldSum(name, added) => Change::FieldSum(name, sum(added)),
            Change::ScoreSum(member, added) => Change::ScoreSum(member, sum(added)),
            Change::Item(pos, value) => Change::Item(place(pos), value),
            Change::ItemValue(pos, value) => Change::ItemValue(place(pos), value),
            Change::ItemRemove(pos) => Change::ItemRemove(place(pos)),
            other => other.clone(),
        }
    }
}

/// An element of a collection, as the key of its tombstone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Element {
    /// A field of a hash.
    Field(Box<[u8]>),
    /// A member of a set.
    Member(Box<[u8]>),
    /// A member of a sorted set.
    Score(Box<[u8]>),
    /// An item of a list.
    Item(Pos),
}

/// A borrowed [`Element`]; hashes alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ElementRef<'a> {
    /// A field of a hash.
    Field(&'a [u8]),
    /// A member of a set.
    Member(&'a [u8]),
    /// A member of a sorted set.
    Score(&'a [u8]),
    /// An item of a list.
    Item(&'a Pos),
}

impl ElementRef<'_> {
    /// An owned copy.
    pub fn to_owned(self) -> Element {
        match self {
            ElementRef::Field(name) => Element::Field(name.into()),
            ElementRef::Member(member) => Element::Member(member.into()),
            ElementRef::Score(member) => Element::Score(member.into()),
            ElementRef::Item(pos) => Element::Item(pos.clone()),
        }
    }
}

impl hashbrown::Equivalent<Element> for ElementRef<'_> {
    fn equivalent(&self, other: &Element) -> bool {
        match (self, other) {
            (ElementRef::Field(a), Element::Field(b))
            | (ElementRef::Member(a), Element::Member(b))
            | (ElementRef::Score(a), Element::Score(b)) => **a == **b,
            (ElementRef::Item(a), Element::Item(b)) => *a == b,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NodeId;

    fn stamp(time: u64) -> Stamp {
        Stamp::new(NTP64(time), Origin::new(NodeId::new(1 << 24), 1))
    }

    /// Items in list order from placements `(name, parent, side)`, stamped in the order given.
    fn order(placements: &[(&'static str, &str, Side)]) -> String {
        let mut placed: Vec<(Pos, &str)> = Vec::new();
        for (time, &(name, parent, side)) in placements.iter().enumerate() {
            let stamp = stamp(time as u64 + 1);
            let pos = match placed.iter().find(|(_, other)| *other == parent) {
                Some((pos, _)) => pos.beside(side, stamp),
                None => Pos::pushed(side, stamp, 0),
            };
            placed.push((pos, name));
        }
        placed.sort();
        placed.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn placement_order_is_that_of_one_server() {
        use Side::{After, Before};
        let check = |placements: &[(&'static str, &str, Side)], expected: &str| {
            assert_eq!(order(placements), expected, "{placements:?}");
        };
        check(&[("x", "", After), ("y", "", After), ("z", "", Before)], "y x z");
        check(&[("x", "", After), ("y1", "x", After), ("y2", "x", After)], "x y2 y1");
        check(&[("x", "", After), ("y1", "x", Before), ("y2", "x", Before)], "y1 y2 x");
        check(&[("x", "", Before), ("z", "", Before), ("a", "x", After), ("b", "z", Before)], "x a b z");
        check(&[("x", "", Before), ("z", "", Before), ("b", "z", Before), ("a", "x", After)], "x a b z");
        check(&[("x", "", Before), ("a", "x", After), ("b", "a", Before), ("c", "x", After)], "x c b a");
    }

    #[test]
    fn random_placements_equal_inserting_next_to_the_parent() {
        let mut seed = 7u64;
        let mut random = move |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        for _ in 0..200 {
            let mut model: Vec<Pos> = Vec::new();
            for time in 1..40 {
                let side = if random(2) == 0 { Side::After } else { Side::Before };
                if model.is_empty() || random(4) == 0 {
                    let pos = Pos::pushed(side, stamp(time), 0);
                    let at = if side == Side::After { 0 } else { model.len() };
                    model.insert(at, pos);
                } else {
                    let parent = random(model.len());
                    let pos = model[parent].beside(side, stamp(time));
                    model.insert(parent + usize::from(side == Side::After), pos);
                }
            }
            assert!(model.is_sorted(), "{model:?}");
        }
    }
}
