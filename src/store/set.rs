//! Sets: members, each with the stamp of its latest SADD.

use indexmap::IndexMap;

use super::digest;
use crate::clock::Stamp;
use crate::number;

/// The members of a set. Dead ones are not here but in the object's tombstones.
#[derive(Clone, Debug)]
pub struct Set {
    members: IndexMap<Box<[u8]>, Stamp, ahash::RandomState>,
    digest: u64,
}

impl Set {
    pub(super) fn new(hasher: &ahash::RandomState) -> Self {
        Set { members: IndexMap::with_hasher(hasher.clone()), digest: 0 }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether it has this member.
    pub fn contains(&self, member: &[u8]) -> bool {
        self.members.contains_key(member)
    }

    /// Whether every member is an integer: what Redis keeps in one block, if there are not too many.
    pub fn holds_integers(&self) -> bool {
        self.iter().all(|member| number::parse_i64(member).is_some())
    }

    /// The stamp of the member's latest SADD.
    pub fn stamp(&self, member: &[u8]) -> Option<Stamp> {
        self.members.get(member).copied()
    }

    /// The members in table order, which removals change.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator + Clone {
        self.members.keys().map(|member| &**member)
    }

    /// The members with their stamps.
    pub fn registers(&self) -> impl Iterator<Item = (&[u8], Stamp)> {
        self.members.iter().map(|(member, stamp)| (&**member, *stamp))
    }

    /// The member at a place in the table, for random picks and scans.
    pub fn at(&self, index: usize) -> Option<&[u8]> {
        self.members.get_index(index).map(|(member, _)| &**member)
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn merge(&mut self, member: &[u8], stamp: Stamp) -> bool {
        let term = |stamp| term(member, stamp);
        if let Some(held) = self.members.get_mut(member) {
            if *held >= stamp {
                return false;
            }
            self.digest = self.digest.wrapping_sub(term(*held)).wrapping_add(term(stamp));
            *held = stamp;
            return true;
        }
        self.members.insert(member.into(), stamp);
        self.digest = self.digest.wrapping_add(term(stamp));
        true
    }

    pub(super) fn remove(&mut self, member: &[u8], stamp: Stamp) -> bool {
        match self.members.get(member) {
            Some(held) if *held < stamp => {
                self.digest = self.digest.wrapping_sub(term(member, *held));
                self.members.swap_remove(member);
                true
            }
            _ => false,
        }
    }

    pub(super) fn clear(&mut self, clear: Stamp) {
        let digest = &mut self.digest;
        self.members.retain(|member, stamp| {
            let keep = *stamp >= clear;
            if !keep {
                *digest = digest.wrapping_sub(term(member, *stamp));
            }
            keep
        });
    }
}

fn term(member: &[u8], stamp: Stamp) -> u64 {
    digest::term(digest::hash(member), stamp, 0)
}
