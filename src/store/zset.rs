//! Sorted sets: members, each with a score register or, once counted with, a base and sums; and their order.

use std::sync::Arc;

use indexmap::IndexMap;

use super::counter::Score;
use super::delta::{Added, Amount};
use super::digest;
use super::entry::Merged;
use super::ranked::RankedList;
use crate::clock::{NTP64, Origin, Stamp};

/// The members of a sorted set. Dead ones are not here but in the object's tombstones.
#[derive(Clone, Debug)]
pub struct Zset {
    members: IndexMap<Arc<[u8]>, Score, ahash::RandomState>,
    /// Every member under its current total.
    order: RankedList,
    digest: u64,
    /// The most members it ever had on this node, and the bytes of the longest.
    peak: (usize, usize),
}

impl Zset {
    pub(super) fn new(hasher: &ahash::RandomState) -> Self {
        Zset {
            members: IndexMap::with_hasher(hasher.clone()),
            order: RankedList::default(),
            digest: 0,
            peak: (0, 0),
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.members.get(member).map(Score::total)
    }

    /// Whether it never had more than `members_max` members here, nor one longer than `bytes_max`: what Redis keeps in
    /// one block.
    pub fn fits(&self, members_max: usize, bytes_max: usize) -> bool {
        self.peak.0 <= members_max && self.peak.1 <= bytes_max
    }

    /// The newest stamp of a member.
    pub fn stamp(&self, member: &[u8]) -> Option<Stamp> {
        self.members.get(member).map(Score::stamp)
    }

    /// The rank of a member, from the lowest score.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        self.order.rank(self.score(member)?, member)
    }

    /// The members in order of score.
    pub fn order(&self) -> &RankedList {
        &self.order
    }

    /// Members and scores in table order, which removals change.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], f64)> + ExactSizeIterator + Clone {
        self.members.iter().map(|(member, score)| (&**member, score.total()))
    }

    /// The member at a place in the table, for random picks and scans.
    pub fn at(&self, index: usize) -> Option<(&[u8], f64)> {
        self.members.get_index(index).map(|(member, score)| (&**member, score.total()))
    }

    /// The members with their registers.
    pub fn registers(&self) -> impl Iterator<Item = (&[u8], &Score)> {
        self.members.iter().map(|(member, score)| (&**member, score))
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// See [`Hash::merge`](super::hash::Hash::merge).
    pub(super) fn merge(&mut self, member: &[u8], score: f64, stamp: Stamp, own: Origin) -> Merged {
        self.change(member, |held| held.merge_base(score, stamp, own))
    }

    /// See [`Hash::merge_sum`](super::hash::Hash::merge_sum).
    pub(super) fn merge_sum(&mut self, member: &[u8], added: Added, clear: Stamp) -> bool {
        added.stamp() > clear && self.change(member, |held| held.merge_sum(added, clear))
    }

    /// See [`Sums::after_adding`](super::counter::Sums::after_adding).
    pub(super) fn after_adding(
        &self,
        member: &[u8],
        amount: Amount,
        stamp: Stamp,
        clear: Stamp,
    ) -> Option<Added> {
        match self.members.get(member) {
            Some(score) => score.after_adding(amount, stamp, clear),
            None => Score::dead().after_adding(amount, stamp, clear),
        }
    }

    pub(super) fn remember(
        &mut self,
        member: &[u8],
        own: Origin,
        time: NTP64,
        amount: Amount,
        stable: NTP64,
    ) {
        if let Some(score) = self.members.get_mut(member) {
            score.remember(own, time, amount, stable);
        }
    }

    /// What a member's score was set to, without what was added since, and when.
    pub(super) fn base(&self, member: &[u8]) -> Option<(Stamp, f64)> {
        self.members.get(member)?.base()
    }

    /// Drops an origin's register of a member, or its base.
    pub(super) fn forget(&mut self, member: &[u8], origin: Option<Origin>) {
        if self.members.contains_key(member) {
            self.change(member, |held| held.forget(origin));
        }
    }

    /// An origin's sum of a member.
    pub(super) fn own_sum(&self, member: &[u8], own: Origin) -> Option<Added> {
        self.members.get(member)?.sums().find(|added| added.origin == own).copied()
    }

    /// See [`Hash::remove`](super::hash::Hash::remove).
    pub(super) fn remove(&mut self, member: &[u8], stamp: Stamp, own: Origin) -> (bool, bool) {
        if !self.members.contains_key(member) {
            return (false, false);
        }
        let split = self.change(member, |held| held.clear(stamp, own));
        (!self.members.contains_key(member), split)
    }

    /// See [`Hash::clear`](super::hash::Hash::clear).
    pub(super) fn clear(&mut self, clear: Stamp, own: Origin) -> Vec<Box<[u8]>> {
        let members: Vec<Arc<[u8]>> = self.members.keys().cloned().collect();
        members
            .iter()
            .filter(|member| self.remove(member, clear, own).1)
            .map(|member| (&**member).into())
            .collect()
    }

    /// Changes one member's registers and keeps table, order and digest in step.
    fn change<R>(&mut self, member: &[u8], change: impl FnOnce(&mut Score) -> R) -> R {
        let element = digest::hash(member);
        let Some((at, name, held)) = self.members.get_full_mut(member) else {
            let mut score = Score::dead();
            let outcome = change(&mut score);
            if score.is_alive() {
                let name: Arc<[u8]> = member.into();
                self.digest = self.digest.wrapping_add(score.term(element));
                self.order.insert(score.total(), name.clone());
                self.members.insert(name, score);
                self.peak = (self.peak.0.max(self.members.len()), self.peak.1.max(member.len()));
            }
            return outcome;
        };
        let (before, term) = (held.total(), held.term(element));
        let outcome = change(held);
        let (after, alive) = (held.total(), held.is_alive());
        // By their bits: 0 and -0 stand at the same place but read differently.
        let moves = before.to_bits() != after.to_bits();
        let name = name.clone();
        self.digest = self.digest.wrapping_sub(term);
        if alive {
            self.digest = self.digest.wrapping_add(held.term(element));
        }
        if !alive || moves {
            self.order.remove(before, &name);
        }
        if !alive {
            self.members.swap_remove_index(at);
        } else if moves {
            self.order.insert(after, name);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NodeId;

    const OWN: Origin = Origin::NONE;

    fn stamp(time: u64) -> Stamp {
        Stamp::new(NTP64(time), Origin::new(NodeId::new(1 << 24), 1))
    }

    fn zset() -> Zset {
        Zset::new(&ahash::RandomState::with_seeds(1, 2, 3, 4))
    }

    /// Members in order, with the scores that the order and the table say.
    fn listed(zset: &Zset) -> Vec<(String, f64)> {
        let order: Vec<_> = zset.order().range(0..zset.len()).collect();
        for (rank, ranked) in order.iter().enumerate() {
            let score = zset.score(&ranked.member).map(f64::to_bits);
            assert_eq!(score, Some(ranked.score.to_bits()), "table and order agree");
            assert_eq!(zset.rank(&ranked.member), Some(rank));
        }
        order
            .iter()
            .map(|ranked| (String::from_utf8(ranked.member.to_vec()).unwrap(), ranked.score))
            .collect()
    }

    #[test]
    fn the_order_follows_every_change_of_a_score() {
        let mut zset = zset();
        let sum = |amount, last| Added {
            origin: stamp(0).origin,
            last: NTP64(last),
            since: Stamp::NEVER,
            amount: Amount::Score(amount),
        };
        zset.merge(b"a", 1.0, stamp(1), OWN);
        zset.merge(b"b", 2.0, stamp(1), OWN);
        zset.merge(b"a", 3.0, stamp(2), OWN);
        assert_eq!(listed(&zset), [("b".into(), 2.0), ("a".into(), 3.0)]);
        zset.merge(b"a", 0.0, stamp(1), OWN);
        assert_eq!(zset.score(b"a"), Some(3.0), "an older score changes nothing");
        zset.merge_sum(b"b", sum(5.0, 4), Stamp::NEVER);
        assert_eq!(listed(&zset), [("a".into(), 3.0), ("b".into(), 7.0)]);
        zset.remove(b"b", stamp(3), OWN);
        assert_eq!(
            listed(&zset),
            [("a".into(), 3.0), ("b".into(), 5.0)],
            "the amount came after the removal"
        );
        zset.remove(b"b", stamp(5), OWN);
        zset.remove(b"a", stamp(5), OWN);
        assert!(zset.is_empty() && zset.order().is_empty());
        assert_eq!(zset.digest(), 0);
    }

    #[test]
    fn a_zero_may_change_its_sign() {
        let mut zset = zset();
        zset.merge(b"a", -0.0, stamp(1), OWN);
        zset.merge(b"b", 0.0, stamp(1), OWN);
        listed(&zset);
        zset.merge(b"a", 0.0, stamp(2), OWN);
        zset.merge(b"b", -0.0, stamp(2), OWN);
        let signs: Vec<bool> = listed(&zset).iter().map(|(_, score)| score.is_sign_negative()).collect();
        assert_eq!(signs, [false, true]);
    }

    #[test]
    fn a_set_that_was_big_stays_big() {
        let mut zset = zset();
        zset.merge(b"a", 1.0, stamp(1), OWN);
        zset.merge(b"longer", 1.0, stamp(1), OWN);
        assert!(zset.fits(2, 6) && !zset.fits(1, 6) && !zset.fits(2, 5));
        zset.remove(b"longer", stamp(2), OWN);
        assert!(zset.fits(2, 6) && !zset.fits(1, 6) && !zset.fits(2, 5));
    }
}
