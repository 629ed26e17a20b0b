//! What nodes have put into sequence, kept so that a single register can be looked up while a storm goes on.
//!
//! `effects` keeps the batches for the model at the end; here are indices: who wrote which register, what was removed
//! when, and where an origin's numbers and times are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use meldis::clock::{NTP64, Origin, Stamp};
use meldis::link::batch::{Batch, Record};
use meldis::store::delta::{Added, Amount, Change, Element};

/// A keyspace and a key.
pub type Place = (u32, Vec<u8>);

/// What a removal takes away.
#[derive(PartialEq, Debug)]
pub enum Removed {
    /// Everything stamped before it.
    All,
    Element(Element),
}

#[derive(Debug)]
pub struct Removal {
    pub stamp: Stamp,
    pub removed: Removed,
    /// The batch that tells of it.
    pub origin: Origin,
    pub number: u64,
}

/// A total, and the number of the batch that told it.
type Told = (u64, i128);

/// See the module's head.
#[derive(Default)]
pub struct Ledger {
    /// The last number of each origin.
    pub sequenced: BTreeMap<Origin, u64>,
    /// The first time of each batch.
    times: BTreeMap<Origin, BTreeMap<u64, NTP64>>,
    marks: HashSet<u64>,
    removals: HashMap<Place, Vec<Removal>>,
    /// Elements written to.
    elements: HashMap<Place, Vec<Removal>>,
    newest: HashMap<Place, Stamp>,
    flushes: HashMap<u32, Vec<Removal>>,
    /// What was ever written to, in that order.
    pub places: Vec<Place>,
    known: HashSet<Place>,
    /// The totals of a string's key that an origin has told.
    totals: BTreeMap<(Vec<u8>, Origin), Vec<Told>>,
    pub flush_count: usize,
    /// The longest run of batches sequenced at once.
    pub run_bytes_max: usize,
}

impl Ledger {
    /// Enters a batch.
    pub fn enter(&mut self, origin: Origin, number: u64, batch: Batch<'_>) {
        self.times.entry(origin).or_default().insert(number, batch.time);
        let (mut at, mut stamp) = ((0, Vec::new()), Stamp::NEVER);
        batch
            .each(|record| match record {
                Record::Time(time) => stamp = Stamp::new(time, origin),
                Record::Stamp(other) => stamp = other,
                Record::Key(space, key) => at = (space, key.to_vec()),
                Record::Change(change) => self.enter_change(&at, stamp, &change, origin, number),
                Record::Flush(space) => {
                    self.flush_count += 1;
                    let removal = Removal { stamp, removed: Removed::All, origin, number };
                    self.flushes.entry(space).or_default().push(removal);
                }
                Record::Swap(..) | Record::Register(..) => {}
                Record::Publish(..) | Record::ShardPublish(..) | Record::Amount(_) => {}
            })
            .expect("captured whole");
    }

    fn enter_change(
        &mut self,
        place: &Place,
        stamp: Stamp,
        change: &Change<'_>,
        origin: Origin,
        number: u64,
    ) {
        if self.known.insert(place.clone()) {
            self.places.push(place.clone());
        }
        self.marks.extend(mark(place, stamp, change));
        let newest = self.newest.entry(place.clone()).or_insert(Stamp::NEVER);
        *newest = stamp.max(*newest);
        if let Some((stamp, Some(element))) = written(stamp, change) {
            let written = Removal { stamp, removed: Removed::Element(element), origin, number };
            self.elements.entry(place.clone()).or_default().push(written);
        }
        if let Change::Sum(Added { amount: Amount::Int(total), origin: of, .. }) = change {
            self.totals.entry((place.1.clone(), *of)).or_default().push((number, *total));
        }
        let removed = match change {
            Change::Clear | Change::Assign(_) => Removed::All,
            Change::FieldRemove(name) => Removed::Element(Element::Field((*name).into())),
            Change::MemberRemove(member) => Removed::Element(Element::Member((*member).into())),
            Change::ScoreRemove(member) => Removed::Element(Element::Score((*member).into())),
            Change::ItemRemove(pos) => Removed::Element(Element::Item(pos.clone())),
            _ => return,
        };
        self.removals.entry(place.clone()).or_default().push(Removal { stamp, removed, origin, number });
    }

    /// Whether somebody wrote this register.
    pub fn has(&self, place: &Place, stamp: Stamp, change: &Change<'_>) -> bool {
        mark(place, stamp, change).is_none_or(|mark| self.marks.contains(&mark))
    }

    /// The newest stamp of a key's changes.
    pub fn newest(&self, place: &Place) -> Stamp {
        self.newest.get(place).copied().unwrap_or(Stamp::NEVER)
    }

    /// A removal that `is_merged` says was merged and that kills a register.
    ///
    /// Not one that has been outdone by what is yet to come here: where a pull's giver has that already, the ranges it gives
    /// no longer tell of the removal, nor what has taken its place if the ranges were equal but for tombstones.
    pub fn killer(
        &self,
        place: &Place,
        stamp: Stamp,
        change: &Change<'_>,
        is_merged: impl Fn(Origin, u64) -> bool,
    ) -> Option<&Removal> {
        let (stamp, element) = written(stamp, change)?;
        let concerns = |removal: &&Removal| match &removal.removed {
            Removed::All => true,
            Removed::Element(removed) => element.as_ref() == Some(removed),
        };
        let removals = || {
            let flushes = self.flushes.get(&place.0).into_iter().flatten();
            self.removals.get(place).into_iter().flatten().chain(flushes).filter(concerns)
        };
        let later = |removal: &&Removal| removal.stamp > stamp && is_merged(removal.origin, removal.number);
        let found = removals().filter(later).max_by_key(|removal| removal.stamp)?;
        let rewrites = self.elements.get(place).into_iter().flatten().filter(concerns);
        let rewrites = rewrites.filter(|_| matches!(found.removed, Removed::Element(_)));
        let outdoes = |other: &Removal| other.stamp > found.stamp && !is_merged(other.origin, other.number);
        let is_outdone = removals().chain(rewrites).any(outdoes);
        Some(found).filter(|_| !is_outdone)
    }

    /// The first batch of an origin behind a number, and its time.
    pub fn next(&self, origin: Origin, after: u64) -> Option<(u64, NTP64)> {
        let (number, time) = self.times.get(&origin)?.range(after + 1..).next()?;
        Some((*number, *time))
    }

    /// The number of the batch in which an origin stamped something so.
    pub fn number_of(&self, stamp: Stamp) -> Option<u64> {
        let times = self.times.get(&stamp.origin)?;
        times.iter().rev().find(|(_, time)| **time <= stamp.time).map(|(number, _)| *number)
    }

    /// Totals of a key that an origin has told, with the numbers of their batches.
    pub fn totals(&self, key: &[u8], origin: Origin) -> &[Told] {
        self.totals.get(&(key.to_vec(), origin)).map_or(&[], Vec::as_slice)
    }
}

/// When a register was written, and its element if it is one; `None` for what no removal kills.
fn written(stamp: Stamp, change: &Change<'_>) -> Option<(Stamp, Option<Element>)> {
    Some(match change {
        Change::Value(_) | Change::Assign(_) => (stamp, None),
        Change::Sum(added) => (added.stamp(), None),
        Change::Field(name, _) => (stamp, Some(Element::Field((*name).into()))),
        Change::FieldSum(name, added) => (added.stamp(), Some(Element::Field((*name).into()))),
        Change::Member(member) => (stamp, Some(Element::Member((*member).into()))),
        Change::Score(member, _) => (stamp, Some(Element::Score((*member).into()))),
        Change::ScoreSum(member, added) => (added.stamp(), Some(Element::Score((*member).into()))),
        Change::Item(pos, _) => (pos.stamp(), Some(Element::Item(pos.clone()))),
        _ => return None,
    })
}

/// A register in one word; `None` for what a node may make up by itself, as the clear that a change of type implies.
fn mark(place: &Place, stamp: Stamp, change: &Change<'_>) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    match change {
        Change::Assign(value) | Change::Value(value) => (0, stamp, value).hash(&mut hasher),
        Change::Sum(added) => (1, total(added)).hash(&mut hasher),
        Change::Field(name, value) => (2, stamp, name, value).hash(&mut hasher),
        Change::FieldSum(name, added) => (3, name, total(added)).hash(&mut hasher),
        Change::Member(member) => (4, stamp, member).hash(&mut hasher),
        Change::Score(member, score) => (5, stamp, member, score.to_bits()).hash(&mut hasher),
        Change::ScoreSum(member, added) => (6, member, total(added)).hash(&mut hasher),
        Change::Item(pos, value) | Change::ItemValue(pos, value) => (7, pos, value).hash(&mut hasher),
        Change::Expire(at_ms, kind) => (8, stamp, at_ms, kind).hash(&mut hasher),
        Change::Clear | Change::Kind(_) => return None,
        Change::FieldRemove(_) | Change::MemberRemove(_) => return None,
        Change::ScoreRemove(_) | Change::ItemRemove(_) => return None,
    }
    Some(hasher.finish())
}

fn total(added: &Added) -> (Origin, NTP64, Stamp, u64) {
    let amount = match added.amount {
        Amount::Int(n) => n as u64,
        Amount::Float(x) => {
            let mut hasher = DefaultHasher::new();
            x.to_bytes().hash(&mut hasher);
            hasher.finish()
        }
        Amount::Score(x) => x.to_bits(),
    };
    (added.origin, added.last, added.since, amount)
}
