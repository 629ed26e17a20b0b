//! Hashes: fields, each a register or, once counted with, a base and sums.

use std::cmp::Ordering;

use indexmap::IndexMap;

use super::counter::TextCounter;
use super::delta::{Added, Amount};
use super::digest;
use super::entry::Merged;
use super::text::Text;
use crate::clock::{NTP64, Origin, Stamp};

/// The value of a field.
#[derive(Clone, Debug)]
enum Field {
    /// Only ever set.
    Plain(Stamp, Text),
    /// Counted with.
    Counter(Box<TextCounter>),
}

impl Field {
    fn text(&self) -> &[u8] {
        match self {
            Field::Plain(_, value) => value.bytes(),
            Field::Counter(counter) => counter.text(),
        }
    }

    /// Its term in the digest; `element` is the hash of its name.
    fn term(&self, element: u64) -> u64 {
        match self {
            Field::Plain(stamp, value) => digest::term(element, *stamp, value.hash().into()),
            Field::Counter(counter) => counter.term(element),
        }
    }

    fn counter(&mut self) -> &mut TextCounter {
        if let Field::Plain(stamp, value) = self {
            *self = Field::Counter(Box::new(TextCounter::set(*stamp, std::mem::take(value))));
        }
        match self {
            Field::Counter(counter) => counter,
            Field::Plain(..) => unreachable!("made a counter above"),
        }
    }
}

/// The registers behind one field.
#[derive(Clone, Copy, Debug)]
pub enum FieldRegisters<'a> {
    /// A value and when it was set.
    Plain(Stamp, &'a [u8]),
    /// A base and sums.
    Counter(&'a TextCounter),
}

/// The fields of a hash. Dead ones are not here but in the object's tombstones.
#[derive(Clone, Debug)]
pub struct Hash {
    fields: IndexMap<Box<[u8]>, Field, ahash::RandomState>,
    digest: u64,
}

impl Hash {
    pub(super) fn new(hasher: &ahash::RandomState) -> Self {
        Hash { fields: IndexMap::with_hasher(hasher.clone()), digest: 0 }
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.fields.get(field).map(Field::text)
    }

    /// Whether the hash has this field.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.fields.contains_key(field)
    }

    /// Whether it has at most `fields_max` fields, and no field or value longer than `bytes_max`: what Redis keeps in
    /// one block.
    pub fn fits(&self, fields_max: usize, bytes_max: usize) -> bool {
        let short = |(field, value): (&[u8], &[u8])| field.len() <= bytes_max && value.len() <= bytes_max;
        self.len() <= fields_max && self.iter().all(short)
    }

    /// The newest stamp of a field.
    pub fn stamp(&self, field: &[u8]) -> Option<Stamp> {
        self.fields.get(field).map(|field| match field {
            Field::Plain(stamp, _) => *stamp,
            Field::Counter(counter) => counter.stamp(),
        })
    }

    /// Fields and values in table order, which removals change.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + ExactSizeIterator + Clone {
        self.fields.iter().map(|(name, field)| (&**name, field.text()))
    }

    /// The field at a place in the table, for random picks and scans.
    pub fn at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        self.fields.get_index(index).map(|(name, field)| (&**name, field.text()))
    }

    /// The fields with their registers.
    pub fn registers(&self) -> impl Iterator<Item = (&[u8], FieldRegisters<'_>)> {
        self.fields.iter().map(|(name, field)| {
            let registers = match field {
                Field::Plain(stamp, value) => FieldRegisters::Plain(*stamp, value.bytes()),
                Field::Counter(counter) => FieldRegisters::Counter(counter),
            };
            (&**name, registers)
        })
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Sets a field.
    pub(super) fn merge(&mut self, name: &[u8], value: &[u8], stamp: Stamp, own: Origin) -> Merged {
        let element = digest::hash(name);
        let Some(field) = self.fields.get_mut(name) else {
            let field = Field::Plain(stamp, Text::new(value));
            self.digest = self.digest.wrapping_add(field.term(element));
            self.fields.insert(name.into(), field);
            return Merged::CHANGED;
        };
        let before = field.term(element);
        let merged = match field {
            Field::Plain(held, text) => match stamp.cmp(held) {
                Ordering::Less => return Merged::NOTHING,
                Ordering::Equal => Merged::tied(text.raise(value)),
                Ordering::Greater => {
                    *held = stamp;
                    text.set(value);
                    Merged::CHANGED
                }
            },
            Field::Counter(counter) => counter.merge_base(value, stamp, own),
        };
        self.digest = self.digest.wrapping_sub(before).wrapping_add(field.term(element));
        merged
    }

    /// Adopts an origin's sum unless `clear` or the base kills it.
    pub(super) fn merge_sum(&mut self, name: &[u8], added: Added, clear: Stamp) -> bool {
        if added.stamp() <= clear {
            return false;
        }
        let element = digest::hash(name);
        let (before, field) = match self.fields.get_mut(name) {
            Some(field) => (field.term(element), field),
            None => (0, self.fields.entry(name.into()).or_insert(Field::Counter(Box::default()))),
        };
        let changed = field.counter().merge_sum(added, clear);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(field.term(element));
        changed
    }

    /// See [`Sums::after_adding`](super::counter::Sums::after_adding).
    pub(super) fn after_adding(
        &self,
        name: &[u8],
        amount: Amount,
        stamp: Stamp,
        clear: Stamp,
    ) -> Option<Added> {
        match self.fields.get(name) {
            Some(Field::Counter(counter)) => counter.after_adding(amount, stamp, clear),
            Some(Field::Plain(base, _)) => {
                TextCounter::default().after_adding(amount, stamp, clear.max(*base))
            }
            None => TextCounter::default().after_adding(amount, stamp, clear),
        }
    }

    pub(super) fn remember(&mut self, name: &[u8], own: Origin, time: NTP64, amount: Amount, stable: NTP64) {
        if let Some(Field::Counter(counter)) = self.fields.get_mut(name) {
            counter.remember(own, time, amount, stable);
        }
    }

    /// What a field was set to, without what was added since, and when.
    pub(super) fn base(&self, name: &[u8]) -> Option<(Stamp, &[u8])> {
        match self.fields.get(name)? {
            Field::Plain(stamp, value) => Some((*stamp, value.bytes())),
            Field::Counter(counter) => counter.base(),
        }
    }

    /// Drops an origin's register of a field, or its base.
    pub(super) fn forget(&mut self, name: &[u8], origin: Option<Origin>) {
        let element = digest::hash(name);
        let Some(field) = self.fields.get_mut(name) else { return };
        self.digest = self.digest.wrapping_sub(field.term(element));
        let alive = match field {
            Field::Plain(..) => origin.is_some(),
            Field::Counter(counter) => {
                counter.forget(origin);
                counter.is_alive()
            }
        };
        if alive {
            self.digest = self.digest.wrapping_add(field.term(element));
        } else {
            self.fields.swap_remove(name);
        }
    }

    /// An origin's sum of a field.
    pub(super) fn own_sum(&self, name: &[u8], own: Origin) -> Option<Added> {
        match self.fields.get(name) {
            Some(Field::Counter(counter)) => counter.sums().iter().find(|added| added.origin == own).copied(),
            _ => None,
        }
    }

    /// Kills what of a field is stamped before `stamp`. Returns whether the field is gone, and whether its own
    /// sum must be asserted anew.
    pub(super) fn remove(&mut self, name: &[u8], stamp: Stamp, own: Origin) -> (bool, bool) {
        let Some(field) = self.fields.get_mut(name) else { return (false, false) };
        let element = digest::hash(name);
        let before = field.term(element);
        let (alive, split) = match field {
            Field::Plain(held, _) => (*held >= stamp, false),
            Field::Counter(counter) => {
                let split = counter.clear(stamp, own);
                (counter.is_alive(), split)
            }
        };
        let after = if alive { field.term(element) } else { 0 };
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        if !alive {
            self.fields.swap_remove(name);
        }
        (!alive, split)
    }

    /// Kills what is stamped before `clear`; names the fields whose own sum must be asserted anew.
    pub(super) fn clear(&mut self, clear: Stamp, own: Origin) -> Vec<Box<[u8]>> {
        let names: Vec<Box<[u8]>> = self.fields.keys().cloned().collect();
        names.into_iter().filter(|name| self.remove(name, clear, own).1).collect()
    }
}
