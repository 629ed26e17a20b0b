//! Members of a sorted set in order of score, then bytes, addressable by rank.
//!
//! A list of sorted chunks: a position is found by binary search over the chunks and inside one; ranks add up
//! chunk lengths. With n members there are about n/256 chunks, so all operations cost a few cache misses up to
//! millions of members; there are no pointers to keep right.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Most entries in a chunk; a full one splits in two.
const CHUNK_MAX: usize = 512;

/// A score with its member.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Never NaN.
    pub score: f64,
    /// Shared with the set's table.
    pub member: Arc<[u8]>,
}

/// The order: by score, in which both zeros are equal, then by bytes.
pub fn cmp_ranks(one: (&[u8], f64), other: (&[u8], f64)) -> Ordering {
    one.1.partial_cmp(&other.1).unwrap_or(Ordering::Equal).then_with(|| one.0.cmp(other.0))
}

impl Ranked {
    fn cmp_to(&self, score: f64, member: &[u8]) -> Ordering {
        cmp_ranks((&self.member, self.score), (member, score))
    }
}

/// The order. Each member stands in it once.
#[derive(Clone, Debug, Default)]
pub struct RankedList {
    chunks: Vec<Vec<Ranked>>,
    len: usize,
}

impl RankedList {
    /// Number of members.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a member that is not in it.
    pub fn insert(&mut self, score: f64, member: Arc<[u8]>) {
        let at = self.chunks.partition_point(|chunk| {
            chunk.last().is_some_and(|last| last.cmp_to(score, &member) == Ordering::Less)
        });
        self.len += 1;
        if self.chunks.is_empty() {
            self.chunks.push(vec![Ranked { score, member }]);
            return;
        }
        let at = at.min(self.chunks.len() - 1);
        let chunk = &mut self.chunks[at];
        let place = chunk.partition_point(|held| held.cmp_to(score, &member) == Ordering::Less);
        chunk.insert(place, Ranked { score, member });
        if chunk.len() >= CHUNK_MAX {
            let tail = chunk.split_off(CHUNK_MAX / 2);
            self.chunks.insert(at + 1, tail);
        }
    }

    /// Removes a member with the score it stands under.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        let Some((at, place)) = self.locate(score, member) else { return false };
        self.chunks[at].remove(place);
        self.len -= 1;
        if self.chunks[at].is_empty() {
            self.chunks.remove(at);
        }
        true
    }

    /// The rank of a member with the score it stands under.
    pub fn rank(&self, score: f64, member: &[u8]) -> Option<usize> {
        let (at, place) = self.locate(score, member)?;
        Some(self.before(at) + place)
    }

    /// How many entries come before the first for which `below` is false. `below` must hold for a prefix.
    pub fn partition(&self, below: impl Fn(&Ranked) -> bool) -> usize {
        let at = self.chunks.partition_point(|chunk| chunk.last().is_some_and(&below));
        match self.chunks.get(at) {
            Some(chunk) => self.before(at) + chunk.partition_point(&below),
            None => self.len,
        }
    }

    /// The entry at a rank.
    pub fn get(&self, rank: usize) -> Option<&Ranked> {
        let (at, place) = self.seek(rank)?;
        self.chunks[at].get(place)
    }

    /// The entries at these ranks, cut to those there are.
    pub fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = &Ranked> {
        let end = ranks.end.min(self.len);
        let (head, middle, tail) = match (self.seek(ranks.start), end.checked_sub(1).and_then(|last| self.seek(last))) {
            (Some((from, start)), Some((to, last))) if ranks.start < end => {
                if from == to {
                    (&self.chunks[from][start..=last], &[][..], &[][..])
                } else {
                    (&self.chunks[from][start..], &self.chunks[from + 1..to], &self.chunks[to][..=last])
                }
            }
            _ => (&[][..], &[][..], &[][..]),
        };
        head.iter().chain(middle.iter().flatten()).chain(tail)
    }

    fn before(&self, at: usize) -> usize {
        self.chunks[..at].iter().map(Vec::len).sum()
    }

    fn seek(&self, rank: usize) -> Option<(usize, usize)> {
        let mut left = rank;
        for (at, chunk) in self.chunks.iter().enumerate() {
            if left < chunk.len() {
                return Some((at, left));
            }
            left -= chunk.len();
        }
        None
    }

    fn locate(&self, score: f64, member: &[u8]) -> Option<(usize, usize)> {
        let at = self.chunks.partition_point(|chunk| {
            chunk.last().is_some_and(|last| last.cmp_to(score, member) == Ordering::Less)
        });
        let place = self.chunks.get(at)?.binary_search_by(|held| held.cmp_to(score, member)).ok()?;
        Some((at, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_a_sorted_vector() {
        let mut list = RankedList::default();
        let mut model: Vec<(i64, String)> = Vec::new();
        let mut seed = 1u64;
        for _ in 0..5000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (score, member) = (((seed >> 40) % 50) as i64, format!("m{}", (seed >> 20) % 2000));
            match model.iter().position(|(_, held)| *held == member) {
                Some(at) => {
                    let (old, _) = model.remove(at);
                    assert!(list.remove(old as f64, member.as_bytes()));
                }
                None => {
                    list.insert(score as f64, member.as_bytes().into());
                    model.push((score, member));
                }
            }
        }
        model.sort();
        let held: Vec<_> = list.range(0..usize::MAX).map(|entry| entry.member.to_vec()).collect();
        let expected: Vec<_> = model.iter().map(|(_, member)| member.as_bytes().to_vec()).collect();
        assert_eq!(held, expected);
        for (rank, (score, member)) in model.iter().enumerate() {
            assert_eq!(list.rank(*score as f64, member.as_bytes()), Some(rank));
            assert_eq!(list.get(rank).map(|entry| &*entry.member), Some(member.as_bytes()));
        }
        let down: Vec<_> = list.range(0..list.len()).rev().map(|entry| entry.member.to_vec()).collect();
        assert_eq!(down, expected.into_iter().rev().collect::<Vec<_>>());
        assert_eq!(list.partition(|entry| entry.score < 25.0), model.partition_point(|(score, _)| *score < 25));
    }
}
