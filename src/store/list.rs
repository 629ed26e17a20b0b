//! Lists: items in the order of their positions.
//!
//! A double-ended queue sorted by [`Pos`]: a push lands at an end in constant time, an index is an array access, an item
//! is found by binary search, an insertion in the middle moves what stands behind it.

use std::collections::VecDeque;

use super::delta::Pos;
use super::digest;
use crate::clock::Stamp;

/// One item.
#[derive(Clone, Debug)]
pub struct Item {
    pos: Pos,
    value: Box<[u8]>,
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
        &self.value
    }

    /// When its value was set.
    pub fn stamp(&self) -> Stamp {
        self.replaced.as_ref().map_or(self.pos.stamp(), |stamp| **stamp)
    }

    fn term(&self) -> u64 {
        digest::term(digest::pos_hash(&self.pos), self.stamp())
    }
}

/// The items of a list. Removed ones are not here but in the object's tombstones.
#[derive(Clone, Debug, Default)]
pub struct List {
    items: VecDeque<Item>,
    digest: u64,
}

impl List {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item at an index from the head.
    pub fn get(&self, index: usize) -> Option<&Item> {
        self.items.get(index)
    }

    /// The items from the head.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Item> + ExactSizeIterator + Clone {
        self.items.iter()
    }

    /// Whether an item is in the list.
    pub fn has(&self, pos: &Pos) -> bool {
        self.find(pos).is_ok()
    }

    /// The items of a range of indices.
    ///
    /// # Panics
    /// If the range ends behind the last item.
    pub fn range(&self, range: std::ops::Range<usize>) -> impl DoubleEndedIterator<Item = &Item> {
        self.items.range(range)
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Places an item whose value was set at `stamp`.
    pub(super) fn merge(&mut self, pos: &Pos, value: &[u8], stamp: Stamp) -> bool {
        match self.find(pos) {
            Ok(at) => self.replace(at, value, stamp),
            Err(at) => {
                let replaced = (stamp != pos.stamp()).then(|| Box::new(stamp));
                let item = Item { pos: pos.clone(), value: value.into(), replaced };
                self.digest = self.digest.wrapping_add(item.term());
                self.items.insert(at, item);
                true
            }
        }
    }

    pub(super) fn remove(&mut self, pos: &Pos) -> bool {
        let Ok(at) = self.find(pos) else { return false };
        if let Some(item) = self.items.remove(at) {
            self.digest = self.digest.wrapping_sub(item.term());
        }
        true
    }

    pub(super) fn clear(&mut self, clear: Stamp) {
        let digest = &mut self.digest;
        self.items.retain(|item| {
            let keep = item.pos.stamp() >= clear;
            if !keep {
                *digest = digest.wrapping_sub(item.term());
            }
            keep
        });
    }

    fn replace(&mut self, at: usize, value: &[u8], stamp: Stamp) -> bool {
        let item = &mut self.items[at];
        if item.stamp() >= stamp {
            return false;
        }
        let before = item.term();
        item.value = value.into();
        item.replaced = Some(Box::new(stamp));
        self.digest = self.digest.wrapping_sub(before).wrapping_add(item.term());
        true
    }

    /// Ends first: nearly all changes are pushes and pops.
    fn find(&self, pos: &Pos) -> Result<usize, usize> {
        match (self.items.front(), self.items.back()) {
            (None, _) | (_, None) => Err(0),
            (Some(first), _) if *pos < first.pos => Err(0),
            (Some(first), _) if *pos == first.pos => Ok(0),
            (_, Some(last)) if *pos > last.pos => Err(self.items.len()),
            (_, Some(last)) if *pos == last.pos => Ok(self.items.len() - 1),
            _ => self.items.binary_search_by(|item| item.pos.cmp(pos)),
        }
    }
}
