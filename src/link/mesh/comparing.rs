//! Comparing ranges with a peer while writes go on, to prove that both hold the same.
//!
//! Digests of two nodes are equal only where both have merged the same. So the asking node takes its digests when it has
//! sent everything it has, and tells with which vector. A link keeps order: when the question arrives, the peer has all
//! that too, or lacks something of a third node and says so. What the peer has beyond that vector is in its
//! backlog; the ranges it touches are left for the next time, as are those that the asking node wrote to while it took the
//! digests. Every other range must be equal. One that is not has diverged though nothing is under way: what a
//! crash in the middle of a pull has left behind, or a bug. Both sides pull it, and tell the operator.
//! Besides the ranges of keys there is one more, [`GLOBALS`], for what concerns all of them; registers are told ahead of
//! vectors, so that one may differ for a moment and is just taken over.
//!
//! A *round* is through when every range was found equal once; the next begins [`ROUND_MS`] later. Under a load that
//! touches every range all the time it takes several questions, each about the ranges that are left.
//!
//! Cost: the digests of 1024 ranges, one uncontended lock each, on both sides; about 10 KB on the wire a round.

use std::collections::BTreeSet;

use super::{Event, LinkId, Mesh, Want};
use crate::clock::NodeId;
use crate::link::batch::Record;
use crate::link::frame::Frame;
use crate::link::vector::Vector;
use crate::store::shard::{KeyHash, RANGES};

/// A pull that broke off is expected to be made good by its giver for so long.
const TORN_MS: u64 = 10_000;
/// From one round to the next.
const ROUND_MS: u64 = 10_000;
/// The number of what is in no range: swapped databases and cluster-wide registers.
pub const GLOBALS: u16 = RANGES as u16;
/// From one question to the next while a round is not through.
const QUESTION_MS: u64 = 500;
/// Most bytes of batches looked through to answer a question. Whoever lacks more is too far behind to be judged.
const LOOKED_BYTES_MAX: u64 = 1 << 20;

/// What is known of a member's ranges.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    /// When the last round began that went through, in Unix milliseconds; zero for never.
    pub(super) verified_at_ms: u64,
    /// Ranges last seen to differ.
    pub(super) differing: BTreeSet<u16>,
    /// Keys changed here by repairs.
    pub(super) repaired_keys: u64,
    round_began_at_ms: u64,
    /// Ranges that the round under way has not found equal yet.
    left: BTreeSet<u16>,
}

impl Proof {
    /// Begins a round with the next question.
    pub(super) fn begin(&mut self) {
        self.left = (0..=GLOBALS).collect();
        self.round_began_at_ms = 0;
    }

    fn pause_ms(&self) -> u64 {
        if self.left.is_empty() { ROUND_MS } else { QUESTION_MS }
    }
}

impl Mesh {
    /// Notes on which links it is time to compare.
    pub(super) fn schedule_comparisons(&mut self, now_ms: u64) {
        self.mend(now_ms);
        if !self.is_whole() {
            return;
        }
        for link in self.links.values_mut() {
            let Some(state) = link.node().and_then(|node| self.members.get_mut(&node)) else { continue };
            let due = now_ms.abs_diff(link.compared_at_ms) >= state.proof.pause_ms();
            if due && link.asked.is_none() && link.fault.is_none() && !link.held {
                link.compared_at_ms = now_ms;
                link.compares = true;
            }
        }
    }

    /// Whether this node holds just what its vector tells: no pull is under way, none has broken off unmended, and what the
    /// last one brought ahead of its batches is covered by now.
    fn is_whole(&self) -> bool {
        self.pull.is_none() && self.torn.is_empty()
    }

    /// Takes off the list whose pull is made good, because this node has all that the giver had when it came back or had given
    /// the last range, or will not be, because the giver stays away.
    fn mend(&mut self, now_ms: u64) {
        let mut torn = std::mem::take(&mut self.torn);
        torn.retain(|giver, since_ms| match self.link_to(*giver) {
            Some((_, link)) => self.pull.is_some() || link.has_given || self.is_behind(link),
            None => now_ms.abs_diff(*since_ms) < TORN_MS,
        });
        self.torn = torn;
    }

    /// The ranges to ask a peer about now, if it is time: everything has been sent to it.
    pub fn comparison_due(&mut self, id: LinkId, now_ms: u64) -> Option<Vec<u16>> {
        if !self.is_whole() || self.wants_to_send(id) {
            return None;
        }
        let link = self.links.get_mut(&id).filter(|link| link.compares)?;
        let proof = &mut self.members.get_mut(&link.node()?)?.proof;
        link.compares = false;
        if proof.left.is_empty() {
            proof.begin();
        }
        if proof.round_began_at_ms == 0 {
            proof.round_began_at_ms = now_ms;
        }
        Some(proof.left.iter().copied().collect())
    }

    /// A peer is asked about these ranges.
    pub fn asks(&mut self, id: LinkId, ranges: Vec<u16>) {
        if let Some(link) = self.links.get_mut(&id) {
            link.asked = Some(ranges);
        }
    }

    /// Whether a peer's question can be answered: this node has all that the vector covers, and no state is half here.
    pub fn can_compare(&self, vector: &Vector) -> bool {
        let has = |(origin, there)| self.vector.of(origin).sequence >= there;
        self.is_whole() && vector.iter().map(|(origin, progress)| (origin, progress.sequence)).all(has)
    }

    /// The ranges touched by what this node has beyond a vector; `None` if it cannot tell.
    pub fn touched_since(&self, vector: &Vector) -> Option<BTreeSet<u16>> {
        let mut touched = BTreeSet::new();
        let mut bytes = 0;
        for (origin, here) in self.vector.iter() {
            let there = vector.of(origin).sequence;
            if here.sequence <= there {
                continue;
            }
            bytes += self.backlog.bytes_after(origin, there);
            if !self.backlog.has(origin, there + 1) || bytes > LOOKED_BYTES_MAX {
                return None;
            }
            for (_, batch) in self.backlog.batches_after(origin, there) {
                let mut everything = false;
                let read = batch.each(|record| match record {
                    Record::Key(_, key) => drop(touched.insert(KeyHash::range_of(key) as u16)),
                    Record::Flush(_) | Record::Swap(..) => everything = true,
                    Record::Register(..) => drop(touched.insert(GLOBALS)),
                    Record::Time(_) | Record::Stamp(_) | Record::Change(_) | Record::Amount(_) => {}
                    Record::Publish(..) | Record::ShardPublish(..) => {}
                });
                if read.is_err() || everything {
                    return None;
                }
            }
        }
        Some(touched)
    }

    /// Answers a peer's question. What differs is pulled by both.
    pub fn answer_comparison(&mut self, id: LinkId, differ: Vec<u16>, unsure: Vec<u16>) {
        self.note_divergence(id, &differ);
        if let Some(link) = self.links.get_mut(&id) {
            link.say(Frame::Compared { differ, unsure });
        }
    }

    /// The peer's answer.
    pub fn compared(&mut self, id: LinkId, differ: &[u16], unsure: &[u16]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(asked) = link.asked.take() else { return };
        let Some(state) = link.node().and_then(|node| self.members.get_mut(&node)) else { return };
        let proof = &mut state.proof;
        for range in asked.iter().filter(|range| !differ.contains(range) && !unsure.contains(range)) {
            proof.left.remove(range);
            proof.differing.remove(range);
        }
        if proof.left.is_empty() {
            proof.verified_at_ms = proof.round_began_at_ms;
        }
        self.note_divergence(id, differ);
    }

    fn note_divergence(&mut self, id: LinkId, differ: &[u16]) {
        let Some(link) = self.links.get_mut(&id).filter(|_| !differ.is_empty()) else { return };
        let Some(node) = link.node() else { return };
        link.wants_pull.get_or_insert_with(|| Want::Repair(differ.to_vec()));
        if let Some(state) = self.members.get_mut(&node) {
            state.proof.differing.extend(differ);
            state.proof.left.extend(differ);
        }
        let ranges: Vec<u16> = differ.iter().copied().filter(|range| *range != GLOBALS).collect();
        if !ranges.is_empty() {
            self.events.push(Event::Diverged(node, ranges));
        }
    }

    /// Ranges that differed have been pulled.
    pub(super) fn repaired(&mut self, node: Option<NodeId>, changed_keys: u64) {
        let Some(node) = node.filter(|_| changed_keys > 0) else { return };
        if let Some(state) = self.members.get_mut(&node) {
            state.proof.repaired_keys += changed_keys;
        }
        self.events.push(Event::Repaired(node, changed_keys));
    }
}
