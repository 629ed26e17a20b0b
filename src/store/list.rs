//! Lists: items in the order of their positions.
//!
//! A sequence of chunks of at most [`CHUNK_ITEMS_MAX`] items, sorted by [`Pos`] within and across chunks. One
//! flat array would make every insertion and removal in the middle move half the list; two nodes that pushed a
//! hundred thousand items each while cut off would then need hours to merge them.
//!
//! | operation | cost for n items |
//! |---|---|
//! | push, pop, either end | constant |
//! | find an item, place or remove one anywhere | log n, and one chunk's bytes moved |
//! | the item at an index | one step per chunk between it and the nearer end |
//!
//! Invariants: no chunk is empty or larger than the maximum; `len` and `digest` are in step with the items.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::delta::{Pos, Side};
use super::digest;
use super::entry::Merged;
use super::text::Text;
use crate::clock::Stamp;

/// Most items of a chunk.
pub const CHUNK_ITEMS_MAX: usize = 256;
/// A chunk with so few items is joined with a neighbour if both together fill at most half a chunk.
const CHUNK_ITEMS_FEW: usize = CHUNK_ITEMS_MAX / 4;
/// Most steps of a place that [`List::place_beside`] gives: bounds what an item's place takes in memory.
pub const DEPTH_MAX: usize = 32;

/// One item.
#[derive(Clone, Debug)]
pub struct Item {
    pos: Pos,
    value: Text,
    /// When LSET last replaced the value.
    replaced: Option<Box<Stamp>>,
}

impl Item {
    /// Its identity.
    pub fn pos(&self) -> &Pos {
        &self.pos
    }

    /// Its value.
    pub fn value(&self) -> &[u8] {
        self.value.bytes()
    }

    /// When its value was set.
    pub fn stamp(&self) -> Stamp {
        self.replaced.as_ref().map_or(self.pos.stamp(), |stamp| **stamp)
    }

    fn term(&self) -> u64 {
        digest::term(digest::pos_hash(&self.pos), self.stamp(), self.value.hash().into())
    }
}

/// Where an item stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    chunk: usize,
    at: usize,
}

/// The items of a list. Removed ones are not here but in the object's tombstones.
#[derive(Clone, Debug, Default)]
pub struct List {
    chunks: VecDeque<VecDeque<Item>>,
    len: usize,
    digest: u64,
}

impl List {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item at an index from the head.
    pub fn get(&self, index: usize) -> Option<&Item> {
        if index >= self.len {
            return None;
        }
        let place = self.place_of(index);
        Some(&self.chunks[place.chunk][place.at])
    }

    /// The items from the head.
    pub fn iter(&self) -> Items<'_> {
        self.range(0..self.len)
    }

    /// The item of an identity.
    pub fn item(&self, pos: &Pos) -> Option<&Item> {
        let Place { chunk, at } = self.find(pos).ok()?;
        Some(&self.chunks[chunk][at])
    }

    /// Whether an item is in the list.
    pub fn has(&self, pos: &Pos) -> bool {
        self.find(pos).is_ok()
    }

    /// The items of a range of indices.
    ///
    /// # Panics
    /// If the range ends behind the last item or before it begins.
    pub fn range(&self, range: std::ops::Range<usize>) -> Items<'_> {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} items", self.len);
        let (front, back) = (self.place_of(range.start), self.place_of(range.end));
        Items { chunks: &self.chunks, front, back, left: range.len() }
    }

    /// A place for a new item on one side of the item at `index`, directly next to it.
    ///
    /// Where that item's own place is [`DEPTH_MAX`] steps deep, the new one is placed from the other side of the
    /// gap: the same order here, though an item that another node places there meanwhile may come to stand on the
    /// other side of it. `None` if both sides are that deep: then the list must be placed anew.
    pub fn place_beside(&self, index: usize, side: Side, stamp: Stamp) -> Option<Pos> {
        let item = self.get(index)?;
        if item.pos.depth() < DEPTH_MAX {
            return Some(item.pos.beside(side, stamp));
        }
        let (neighbour, side) = match side {
            Side::After => (self.get(index + 1), Side::Before),
            Side::Before => (index.checked_sub(1).and_then(|before| self.get(before)), Side::After),
        };
        match neighbour {
            None => Some(Pos::pushed(side, stamp, 0)),
            Some(item) => (item.pos.depth() < DEPTH_MAX).then(|| item.pos.beside(side, stamp)),
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Places an item whose value was set at `stamp`.
    pub(super) fn merge(&mut self, pos: &Pos, value: &[u8], stamp: Stamp) -> Merged {
        match self.find(pos) {
            Ok(place) => self.replace(place, value, stamp),
            Err(place) => {
                let replaced = (stamp != pos.stamp()).then(|| Box::new(stamp));
                let item = Item { pos: pos.clone(), value: Text::new(value), replaced };
                self.digest = self.digest.wrapping_add(item.term());
                self.insert(place, item);
                Merged::CHANGED
            }
        }
    }

    pub(super) fn remove(&mut self, pos: &Pos) -> bool {
        let Ok(Place { chunk, at }) = self.find(pos) else { return false };
        if let Some(item) = self.chunks[chunk].remove(at) {
            self.digest = self.digest.wrapping_sub(item.term());
            self.len -= 1;
        }
        self.tidy(chunk);
        true
    }

    pub(super) fn clear(&mut self, clear: Stamp) {
        let (digest, len) = (&mut self.digest, &mut self.len);
        for chunk in &mut self.chunks {
            chunk.retain(|item| {
                let keep = item.pos.stamp() >= clear;
                if !keep {
                    *digest = digest.wrapping_sub(item.term());
                    *len -= 1;
                }
                keep
            });
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
    }

    fn replace(&mut self, place: Place, value: &[u8], stamp: Stamp) -> Merged {
        let item = &mut self.chunks[place.chunk][place.at];
        let before = item.term();
        let merged = match stamp.cmp(&item.stamp()) {
            Ordering::Less => return Merged::NOTHING,
            Ordering::Equal => Merged::tied(item.value.raise(value)),
            Ordering::Greater => {
                item.value.set(value);
                item.replaced = Some(Box::new(stamp));
                Merged::CHANGED
            }
        };
        self.digest = self.digest.wrapping_sub(before).wrapping_add(item.term());
        merged
    }

    fn insert(&mut self, place: Place, item: Item) {
        self.len += 1;
        let Place { mut chunk, mut at } = place;
        if self.chunks.is_empty() {
            self.chunks.reserve_exact(1);
            self.chunks.push_back(VecDeque::with_capacity(1));
        }
        if self.chunks[chunk].len() == CHUNK_ITEMS_MAX {
            if at == CHUNK_ITEMS_MAX {
                self.chunks.insert(chunk + 1, VecDeque::new());
                (chunk, at) = (chunk + 1, 0);
            } else if at == 0 {
                self.chunks.insert(chunk, VecDeque::new());
            } else {
                let half = CHUNK_ITEMS_MAX / 2;
                let tail = self.chunks[chunk].split_off(half);
                self.chunks.insert(chunk + 1, tail);
                if at > half {
                    (chunk, at) = (chunk + 1, at - half);
                }
            }
        }
        self.chunks[chunk].insert(at, item);
    }

    /// After a removal: drops an empty chunk, joins small ones, returns memory that is mostly unused.
    fn tidy(&mut self, chunk: usize) {
        let items = &mut self.chunks[chunk];
        if items.is_empty() {
            self.chunks.remove(chunk);
            return;
        }
        if items.len() > CHUNK_ITEMS_FEW {
            return;
        }
        if items.capacity() > 8 * items.len().max(4) {
            items.shrink_to(2 * items.len());
        }
        let few = items.len();
        let joins =
            |other: Option<&VecDeque<Item>>| other.is_some_and(|it| it.len() + few <= CHUNK_ITEMS_MAX / 2);
        let left = if joins(self.chunks.get(chunk + 1)) {
            chunk
        } else if chunk > 0 && joins(self.chunks.get(chunk - 1)) {
            chunk - 1
        } else {
            return;
        };
        if let Some(mut right) = self.chunks.remove(left + 1) {
            self.chunks[left].append(&mut right);
        }
    }

    /// Where the item at an index stands; the end is behind the last chunk.
    fn place_of(&self, index: usize) -> Place {
        if index == self.len {
            return Place { chunk: self.chunks.len(), at: 0 };
        }
        if index <= self.len / 2 {
            let mut at = index;
            for (chunk, items) in self.chunks.iter().enumerate() {
                match at.checked_sub(items.len()) {
                    None => return Place { chunk, at },
                    Some(rest) => at = rest,
                }
            }
        } else {
            let mut from_end = self.len - index;
            for (chunk, items) in self.chunks.iter().enumerate().rev() {
                match from_end.checked_sub(items.len()) {
                    None | Some(0) => return Place { chunk, at: items.len() - from_end },
                    Some(rest) => from_end = rest,
                }
            }
        }
        unreachable!("the chunks have `len` items")
    }

    /// Where the item stands, or would. Ends first: nearly all changes are pushes and pops.
    fn find(&self, pos: &Pos) -> Result<Place, Place> {
        let (Some(head), Some(tail)) = (self.chunks.front(), self.chunks.back()) else {
            return Err(Place { chunk: 0, at: 0 });
        };
        match (head.front(), tail.back()) {
            (Some(first), _) if *pos < first.pos => return Err(Place { chunk: 0, at: 0 }),
            (Some(first), _) if *pos == first.pos => return Ok(Place { chunk: 0, at: 0 }),
            (_, Some(last)) if *pos > last.pos => {
                return Err(Place { chunk: self.chunks.len() - 1, at: tail.len() });
            }
            _ => {}
        }
        let chunk = self.chunks.partition_point(|items| items.back().is_some_and(|last| last.pos < *pos));
        match self.chunks[chunk].binary_search_by(|item| item.pos.cmp(pos)) {
            Ok(at) => Ok(Place { chunk, at }),
            Err(at) => Err(Place { chunk, at }),
        }
    }
}

/// Items of a list in order, from either end.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    chunks: &'a VecDeque<VecDeque<Item>>,
    front: Place,
    /// Behind the last one.
    back: Place,
    left: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a Item;

    fn next(&mut self) -> Option<&'a Item> {
        self.left = self.left.checked_sub(1)?;
        let items = &self.chunks[self.front.chunk];
        let item = &items[self.front.at];
        self.front.at += 1;
        if self.front.at == items.len() {
            self.front = Place { chunk: self.front.chunk + 1, at: 0 };
        }
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl DoubleEndedIterator for Items<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.back.at == 0 {
            let chunk = self.back.chunk - 1;
            self.back = Place { chunk, at: self.chunks[chunk].len() };
        }
        self.back.at -= 1;
        Some(&self.chunks[self.back.chunk][self.back.at])
    }
}

impl ExactSizeIterator for Items<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{NTP64, NodeId, Origin};
    use crate::store::delta::Change;
    use crate::store::entry::{Entry, MergeContext, Value};

    fn stamp(time: u64) -> Stamp {
        Stamp::new(NTP64(time), Origin::new(NodeId::new(1 << 24), 1))
    }

    fn check(list: &List, model: &[(Pos, u64)]) {
        let held: Vec<_> = list.iter().map(|item| item.pos.clone()).collect();
        let expected: Vec<_> = model.iter().map(|(pos, _)| pos.clone()).collect();
        assert_eq!(held, expected);
        assert_eq!(list.len(), model.len());
        assert!(list.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_ITEMS_MAX));
        let backwards: Vec<_> = list.iter().rev().map(|item| &item.pos).collect();
        assert!(backwards.into_iter().rev().eq(expected.iter()));
        let digest = list.iter().fold(0u64, |sum, item| sum.wrapping_add(item.term()));
        assert_eq!(list.digest(), digest);
    }

    #[test]
    fn chunks_hold_what_one_array_would() {
        let mut seed = 11u64;
        let mut random = move |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        let mut list = List::default();
        let mut model: Vec<(Pos, u64)> = Vec::new();
        for time in 1..20_000u64 {
            let growing = (time / 4000) % 2 == 0;
            match random(10) {
                choice @ 0..8 if model.is_empty() || (choice < 7) == growing => {
                    let side = if random(2) == 0 { Side::After } else { Side::Before };
                    let pos = match random(3) {
                        0 => Pos::pushed(side, stamp(time), 0),
                        _ if model.is_empty() => Pos::pushed(side, stamp(time), 0),
                        _ => {
                            let parent = random(model.len());
                            match list.place_beside(parent, side, stamp(time)) {
                                Some(pos) => pos,
                                None => continue,
                            }
                        }
                    };
                    let at = model.partition_point(|(held, _)| *held < pos);
                    model.insert(at, (pos.clone(), time));
                    assert!(list.merge(&pos, &time.to_le_bytes(), stamp(time)).changed);
                }
                _ if model.is_empty() => {}
                choice => {
                    let at = match choice {
                        0 | 1 => 0,
                        2 | 3 => model.len() - 1,
                        _ => random(model.len()),
                    };
                    let (pos, time) = model.remove(at);
                    assert_eq!(list.get(at).map(|item| item.value()), Some(&time.to_le_bytes()[..]));
                    assert!(list.remove(&pos));
                    assert!(!list.remove(&pos));
                }
            }
            if time % 500 == 0 {
                check(&list, &model);
                for _ in 0..20 {
                    let end = random(model.len() + 1);
                    let start = random(end + 1);
                    let held = list.range(start..end).map(|item| &item.pos);
                    assert!(held.eq(model[start..end].iter().map(|(pos, _)| pos)));
                }
            }
        }
        let clear = stamp(15_000);
        list.clear(clear);
        model.retain(|(pos, _)| pos.stamp() >= clear);
        check(&list, &model);
    }

    #[test]
    fn a_place_beside_is_directly_beside_and_of_bounded_depth() {
        let mut list = List::default();
        let mut time = 0;
        let mut add = |list: &mut List, at: Option<(usize, Side)>| {
            time += 1;
            let pos = match at {
                None => Some(Pos::pushed(Side::Before, stamp(time), 0)),
                Some((index, side)) => list.place_beside(index, side, stamp(time)),
            };
            let placed = pos.is_some_and(|pos| {
                assert!(pos.depth() <= DEPTH_MAX);
                list.merge(&pos, b"", stamp(time)).changed
            });
            placed.then(|| list.iter().position(|item| item.stamp() == stamp(time)).unwrap())
        };
        add(&mut list, None);
        add(&mut list, None);
        for n in 1..500 {
            assert_eq!(add(&mut list, Some((n - 1, Side::After))), Some(n), "each behind the one before");
        }
        for _ in 1..500 {
            assert_eq!(add(&mut list, Some((7, Side::Before))), Some(7), "each before the one before");
        }
        let mut at = 3;
        let gave_up = (0..200).any(|n| {
            let side = if n % 2 == 0 { Side::After } else { Side::Before };
            match add(&mut list, Some((at, side))) {
                Some(index) => at = index,
                None => return true,
            }
            false
        });
        assert!(gave_up, "between the two newest, again and again, must end");
    }

    /// Two nodes with one list, and what each has not told the other.
    struct Pair {
        lists: [Entry; 2],
        untold: [Vec<(Stamp, Change<'static>)>; 2],
        hasher: ahash::RandomState,
        time: u64,
    }

    const A: usize = 0;
    const B: usize = 1;

    impl Pair {
        fn new() -> Self {
            let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
            Pair {
                lists: [Entry::blank(b"l"), Entry::blank(b"l")],
                untold: Default::default(),
                hasher,
                time: 0,
            }
        }

        fn stamp(&mut self, node: usize) -> Stamp {
            self.time += 1;
            Stamp::new(NTP64(self.time), Origin::new(NodeId::new((node as u64 + 1) << 24), 1))
        }

        fn merge(&mut self, node: usize, stamp: Stamp, change: &Change<'static>) {
            let own = Origin::new(NodeId::new((node as u64 + 1) << 24), 1);
            let cx = MergeContext { own, flush: Stamp::NEVER, keep_tombstones: true, hasher: &self.hasher };
            self.lists[node].merge(stamp, change, cx);
        }

        fn apply(&mut self, node: usize, stamp: Stamp, change: Change<'static>) -> &mut Self {
            self.merge(node, stamp, &change);
            self.untold[node].push((stamp, change));
            self
        }

        fn items(&self, node: usize) -> Vec<&Item> {
            match self.lists[node].value() {
                Some(Value::List(list)) => list.iter().collect(),
                _ => Vec::new(),
            }
        }

        fn pos_of(&self, node: usize, value: &str) -> Pos {
            let item = self.items(node).into_iter().find(|item| item.value() == value.as_bytes());
            item.unwrap_or_else(|| panic!("{value} is in the list")).pos().clone()
        }

        fn lpush(&mut self, node: usize, value: &'static str) -> &mut Self {
            let stamp = self.stamp(node);
            self.apply(node, stamp, Change::Item(Pos::pushed(Side::After, stamp, 0), value.as_bytes()))
        }

        fn rpush(&mut self, node: usize, value: &'static str) -> &mut Self {
            let stamp = self.stamp(node);
            self.apply(node, stamp, Change::Item(Pos::pushed(Side::Before, stamp, 0), value.as_bytes()))
        }

        fn linsert(&mut self, node: usize, side: Side, pivot: &str, value: &'static str) -> &mut Self {
            let stamp = self.stamp(node);
            let pos = self.pos_of(node, pivot).beside(side, stamp);
            self.apply(node, stamp, Change::Item(pos, value.as_bytes()))
        }

        fn lset(&mut self, node: usize, old: &str, new: &'static str) -> &mut Self {
            let stamp = self.stamp(node);
            let pos = self.pos_of(node, old);
            self.apply(node, stamp, Change::ItemValue(pos, new.as_bytes()))
        }

        fn remove(&mut self, node: usize, value: &str) -> &mut Self {
            let stamp = self.stamp(node);
            let pos = self.pos_of(node, value);
            self.apply(node, stamp, Change::ItemRemove(pos))
        }

        /// Each gets what the other did, backwards and doubled.
        fn heal(&mut self) -> &mut Self {
            for (from, to) in [(A, B), (B, A)] {
                let untold = std::mem::take(&mut self.untold[from]);
                for (stamp, change) in untold.iter().rev().chain(&untold) {
                    self.merge(to, *stamp, change);
                }
            }
            self
        }

        #[track_caller]
        fn check(&mut self, expected: &str) {
            self.heal();
            for node in [A, B] {
                let held: Vec<_> =
                    self.items(node).iter().map(|item| item.value().escape_ascii().to_string()).collect();
                assert_eq!(held.join(" "), expected);
                self.lists[node].check_invariants(&self.hasher);
            }
            assert_eq!(self.lists[A].weight(1), self.lists[B].weight(1));
        }
    }

    #[test]
    fn pushes_of_both_sides_stay() {
        Pair::new().lpush(A, "hello").heal().lpush(B, "world").check("world hello");
        Pair::new().rpush(A, "a1").rpush(B, "b1").rpush(A, "a2").check("a1 b1 a2");
        Pair::new().lpush(A, "a1").lpush(B, "b1").lpush(A, "a2").rpush(B, "b2").check("a2 b1 a1 b2");
    }

    #[test]
    fn insertions_at_one_place_stand_as_on_one_server() {
        let check = |side, expected| {
            Pair::new()
                .lpush(A, "x")
                .heal()
                .linsert(A, side, "x", "y1")
                .linsert(B, side, "x", "y2")
                .check(expected);
        };
        check(Side::After, "x y2 y1");
        check(Side::Before, "y1 y2 x");
        let mut pair = Pair::new();
        pair.rpush(A, "x").heal().remove(A, "x").linsert(B, Side::After, "x", "y").rpush(A, "z");
        pair.check("y z");
    }

    #[test]
    fn an_item_popped_on_both_sides_is_removed_once() {
        let mut pair = Pair::new();
        pair.lpush(A, "x").lpush(A, "y").lpush(A, "z").heal();
        pair.remove(A, "x").remove(B, "x").check("z y");
    }

    #[test]
    fn the_later_lset_stands_and_none_brings_a_removed_item_back() {
        let pair = || {
            let mut pair = Pair::new();
            pair.rpush(A, "x").rpush(B, "y").heal();
            pair
        };
        pair().lset(A, "x", "a").lset(B, "x", "b").check("b y");
        pair().lset(B, "x", "b").lset(A, "x", "a").check("a y");
        pair().remove(A, "x").lset(B, "x", "b").check("y");
        pair().lset(B, "x", "b").remove(A, "x").check("y");
    }

    #[test]
    fn an_lset_claims_the_key_no_later_than_its_item_did() {
        let mut orders: Vec<Vec<usize>> = vec![vec![]];
        for n in 0..4 {
            orders = orders
                .iter()
                .flat_map(|order| (0..=n).map(move |at| [&order[..at], &[n], &order[at..]].concat()))
                .collect();
        }
        let mut pair = Pair::new();
        let placed = pair.stamp(A);
        let (cleared, added, replaced) = (pair.stamp(B), pair.stamp(B), pair.stamp(A));
        let pos = Pos::pushed(Side::Before, placed, 0);
        for middle in [Change::Clear, Change::ItemRemove(pos.clone())] {
            let changes = [
                (placed, Change::Item(pos.clone(), b"x")),
                (cleared, middle),
                (added, Change::Member(b"m")),
                (replaced, Change::ItemValue(pos.clone(), b"y")),
            ];
            for order in &orders {
                let mut pair = Pair::new();
                order.iter().for_each(|n| pair.merge(A, changes[*n].0, &changes[*n].1));
                assert!(matches!(pair.lists[A].value(), Some(Value::Set(_))), "{order:?} of {changes:?}");
            }
        }
    }
}
