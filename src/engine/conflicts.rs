//! Concurrent writes of which one has lost: noticed when a peer's changes are merged, logged and counted.
//!
//! # What a conflict is
//! Two writes by two nodes to the same register (a string's value, a field, a member, a score, a list item's value, an
//! expiry), or a write and a clear, flush or change of type that takes it away, when neither author had seen the other. The
//! later stamp has won; an LSET loses to the removal of its item whatever their stamps. Nothing is lost, so
//! there is no conflict, between two removals, two writes of the same value, amounts added on both sides, a clear and
//! what is written after it. A key cleared because its expiry has fired conflicts with nothing.
//!
//! | kind | the two |
//! |---|---|
//! | `value` | two values of a string |
//! | `element` | two values of a field, score or list item |
//! | `counter` | amounts added, and a value set after the last of them |
//! | `expiry` | an expiry, and another one or what clears it |
//! | `type` | a write, and one of another type |
//! | `removal` | a write, and a DEL of its key or a removal of its element |
//! | `flush` | a write, and a FLUSHDB or FLUSHALL |
//!
//! # Where it is noticed
//! A segment says up to when its author had merged each origin ([`Seen`](crate::link::frame::Seen)). What of
//! this node's own writes is stamped later, the author had not seen; and this node had not seen the author's change, which
//! comes only now. So each node notices the conflicts of its own writes: each is in the logs of its two authors, but for
//! what is said below, and nowhere else. Noticed is what a change meets where it arrives: of several writes of one node
//! to a register only the one that stands. Further writes of the same peer that meet the same own write are the same
//! conflict, told anew. A sum that was split, told anew under its old stamp, is no write.
//!
//! So both authors log the same, and count alike, what both wrote before anything of it reached the other, as during a
//! cut. While both go on writing to a register meanwhile, the logs and the counters differ:
//! - a node that has replaced its write before the other's came meets that with the later one, the other node has met
//!   both: two conflicts there, one here;
//! - what a node writes while it merges a segment counts as having seen the segment: only that node may know of the
//!   conflict;
//! - told anew is what is still in the log: a further write is counted as a conflict of its own once the first has been
//!   pushed out, or if it is one that a clear only counts.
//!
//! A piece of a range comes without its authors' knowledge. Logged is what is certain: neither vector covers the other's
//! write, and either the giver wrote it itself before its vector was taken, or it is stamped earlier: nobody has seen
//! a later write than its own. Where both pull, the first knows of all; the vector the second is given may cover its
//! writes already.
//!
//! Not noticed: a write that an equal one or a third node's has replaced here before the other came.
//!
//! # Cost
//! While the author has seen all this node has written, a comparison per batch; with the log off, one relaxed load. Else a
//! look at the entry before it is merged, under the same lock. Nothing is allocated until a conflict is found. A clear
//! logs at most [`CLEARED_MAX`] of what it takes away and counts the rest.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};

use super::effects::{element, value};
use super::slowlog::shortened_bytes;
use crate::clock::{Origin, Stamp};
use crate::link::vector::Vector;
use crate::store::delta::Change;
use crate::store::digest;
use crate::store::entry::{Conflict, ConflictKind, Unseen};

/// Most conflicts logged of one clear, change of type or flush.
pub const CLEARED_MAX: usize = 16;

/// A conflict in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Rising; not reset with the log.
    pub id: u64,
    /// When it was noticed, in Unix milliseconds.
    pub at_ms: u64,
    /// What about.
    pub kind: ConflictKind,
    /// The keyspace.
    pub space: u32,
    /// The key, shortened.
    pub key: Vec<u8>,
    /// The field or member, shortened, or the identity of the list item; `None` if it is about the whole key.
    pub element: Option<Vec<u8>>,
    /// The write that has won.
    pub winner: Stamp,
    /// The write that has lost.
    pub loser: Stamp,
    /// What it wrote, shortened: a value, an amount, an expiry in Unix milliseconds. `None` of a removal or a member.
    pub lost: Option<Vec<u8>>,
}

impl Entry {
    /// Whether it is about a key of a keyspace, and about one element if that has a `name`.
    pub fn is_about(&self, space: u32, key: &[u8], name: Option<&[u8]>) -> bool {
        let is_element = |name| self.element.as_ref().is_none_or(|held| *held == shortened_bytes(name));
        self.space == space && self.key == shortened_bytes(key) && name.is_none_or(is_element)
    }
}

#[derive(Debug, Default)]
struct Ring {
    /// The latest first. Their ids have no gaps.
    entries: VecDeque<(u64, Entry)>,
    next_id: u64,
    /// The id of the entry of each pair that can conflict anew; see [`Met::pair`].
    pairs: HashMap<u64, u64>,
}

/// The log and its counters. The lock is a leaf.
#[derive(Debug)]
pub struct ConflictLog {
    len_max: AtomicUsize,
    ring: Mutex<Ring>,
    /// By the kinds' numbers.
    counts: [AtomicU64; ConflictKind::ALL.len()],
}

/// A look at the log.
pub struct Entries<'a>(MutexGuard<'a, Ring>);

impl Entries<'_> {
    /// The latest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.0.entries.iter().map(|(_, entry)| entry)
    }
}

impl ConflictLog {
    /// An empty log of at most `len_max` entries; zero is off.
    pub fn new(len_max: u64) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        let log = ConflictLog { len_max: AtomicUsize::new(0), ring: Mutex::default(), counts };
        log.set_len_max(len_max);
        log
    }

    /// Keeps at most so many entries from now on.
    pub fn set_len_max(&self, len_max: u64) {
        let len_max = usize::try_from(len_max).unwrap_or(usize::MAX);
        self.len_max.store(len_max, Relaxed);
        self.ring.lock().shorten(len_max);
    }

    /// Whether conflicts are looked for.
    pub fn is_on(&self) -> bool {
        self.len_max.load(Relaxed) > 0
    }

    /// What is logged. Nothing else may be locked while it is held.
    pub fn entries(&self) -> Entries<'_> {
        Entries(self.ring.lock())
    }

    /// Forgets all entries; the counters stay.
    pub fn clear(&self) {
        self.ring.lock().shorten(0);
    }

    /// How many conflicts of a kind were noticed.
    pub fn count(&self, kind: ConflictKind) -> u64 {
        self.counts[kind as usize].load(Relaxed)
    }

    /// Sets the counters to zero.
    pub fn reset_counts(&self) {
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
    }

    fn add(&self, met: &Met<'_>, now_ms: u64) {
        let mut ring = self.ring.lock();
        if met.is_told(&ring) {
            return;
        }
        let entry = met.entry(now_ms);
        self.counts[entry.kind as usize].fetch_add(1, Relaxed);
        if let Some(held) = ring.pairs.get(&met.pair()).copied().and_then(|id| ring.entry_mut(id)) {
            let before = &self.counts[held.kind as usize];
            before.store(before.load(Relaxed).saturating_sub(1), Relaxed);
            *held = Entry { id: held.id, ..entry };
            return;
        }
        let id = ring.next_id;
        ring.next_id += 1;
        ring.pairs.insert(met.pair(), id);
        ring.entries.push_front((met.pair(), Entry { id, ..entry }));
        ring.shorten(self.len_max.load(Relaxed));
    }
}

impl Ring {
    fn shorten(&mut self, len_max: usize) {
        while self.entries.len() > len_max {
            if let Some((pair, entry)) = self.entries.pop_back()
                && self.pairs.get(&pair) == Some(&entry.id)
            {
                self.pairs.remove(&pair);
            }
        }
    }

    fn entry_mut(&mut self, id: u64) -> Option<&mut Entry> {
        let newest = self.entries.front()?.1.id;
        self.entries.get_mut(usize::try_from(newest.checked_sub(id)?).ok()?).map(|(_, entry)| entry)
    }

    fn entry(&self, id: u64) -> Option<&Entry> {
        let newest = self.entries.front()?.1.id;
        self.entries.get(usize::try_from(newest.checked_sub(id)?).ok()?).map(|(_, entry)| entry)
    }
}

/// A conflict as it is found, nothing of it copied yet.
struct Met<'a> {
    space: u32,
    key: &'a [u8],
    /// The peer's write.
    came: Stamp,
    conflict: Conflict<'a>,
}

impl Met<'_> {
    fn stamps(&self) -> (Stamp, Stamp) {
        match self.conflict.held_wins {
            true => (self.conflict.held, self.came),
            false => (self.came, self.conflict.held),
        }
    }

    /// This node's write, the register and the peer: what further writes of that peer meet again.
    fn pair(&self) -> u64 {
        self.pair_about(matches!(self.conflict.lost, Change::Expire(..)))
    }

    fn pair_about(&self, is_expiry: bool) -> u64 {
        let element = element(self.conflict.lost);
        let name = element.as_deref().map_or(0, |name| digest::hash(name) | 1);
        let register = digest::mix(digest::hash(self.key), name ^ u64::from(is_expiry) << 1);
        let held = digest::term(register, self.conflict.held, 0);
        digest::mix(held, self.came.origin.as_u64() ^ u64::from(self.space).rotate_left(32))
    }

    /// Whether these very writes are in the log, be it about a value that was set with its expiry.
    fn is_told(&self, ring: &Ring) -> bool {
        let stamps = self.stamps();
        [false, true].into_iter().any(|is_expiry| {
            let told = ring.pairs.get(&self.pair_about(is_expiry)).and_then(|id| ring.entry(*id));
            told.is_some_and(|told| (told.winner, told.loser) == stamps)
        })
    }

    fn entry(&self, at_ms: u64) -> Entry {
        let (winner, loser) = self.stamps();
        Entry {
            id: 0,
            at_ms,
            kind: self.conflict.kind,
            space: self.space,
            key: shortened_bytes(self.key),
            element: element(self.conflict.lost).as_deref().map(shortened_bytes),
            winner,
            loser,
            lost: value(self.conflict.lost).as_deref().map(shortened_bytes),
        }
    }
}

/// What is known of who wrote the changes that come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Author<'a> {
    /// All are this node's, which had not seen what is [`Unseen`].
    Is(Origin),
    /// They are a range's, of many authors. The giver, and what it had when that was said of it.
    Gives(Origin, &'a Vector),
}

/// Looks for conflicts while changes of a peer are merged.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) log: &'a ConflictLog,
    pub(super) unseen: Unseen,
    pub(super) author: Author<'a>,
    pub(super) now_ms: u64,
}

impl Watch<'_> {
    /// Whether anything can be said about a write.
    pub(super) fn concerns(&self, came: Stamp) -> bool {
        match self.author {
            Author::Is(author) => came.origin == author,
            Author::Gives(..) => came.origin != self.unseen.own && came.origin != Origin::NONE,
        }
    }

    /// Logs a conflict if it is certain that the author had not seen this node's write. Of those that one change has with
    /// many writes, `number` counts up from one; from [`CLEARED_MAX`] on they are only counted.
    pub(super) fn tell(&self, number: usize, space: u32, key: &[u8], came: Stamp, conflict: Conflict<'_>) {
        if !self.is_certain(came, conflict.held_wins) {
            return;
        }
        if number <= CLEARED_MAX {
            self.log.add(&Met { space, key, came, conflict }, self.now_ms);
        } else {
            self.log.counts[conflict.kind as usize].fetch_add(1, Relaxed);
        }
    }

    fn is_certain(&self, came: Stamp, held_wins: bool) -> bool {
        match self.author {
            Author::Is(_) => true,
            Author::Gives(giver, vector) => held_wins || came.origin == giver && vector.covers(came),
        }
    }
}

/// What a clear and the writes behind it put in place of what was there: nothing is lost of what stays the same.
#[derive(Default)]
pub(super) struct Rewritten(HashSet<u64>);

impl Rewritten {
    pub(super) fn by<'a>(changes: impl Iterator<Item = &'a Change<'a>>) -> Self {
        Rewritten(changes.map(Self::term).collect())
    }

    pub(super) fn has(&self, change: &Change<'_>) -> bool {
        self.0.contains(&Self::term(change))
    }

    fn term(change: &Change<'_>) -> u64 {
        let of = |bytes: Option<Cow<'_, [u8]>>| bytes.map_or(0, |bytes| digest::hash(&bytes));
        digest::mix(of(element(change)), of(value(change)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NTP64;
    use crate::engine::testing::Fixture;

    /// Two nodes that hold the same and have seen all of each other.
    struct Two {
        a: Fixture,
        b: Fixture,
        /// Up to when A has seen B, and B has seen A.
        seen: [NTP64; 2],
    }

    impl Two {
        fn holding(commands: &[&str]) -> Two {
            let (mut a, b) = (Fixture::replicating(), Fixture::numbered(2));
            b.engine.start_replicating();
            commands.iter().for_each(|command| drop(a.run(command)));
            b.merge(&a, &a.written());
            let seen = [b.engine.clock.last(), a.engine.clock.last()];
            Two { a, b, seen }
        }

        /// Runs commands on both sides, each a millisecond after the one before; `A:` and `B:` say where.
        fn write(&mut self, commands: &[&str]) {
            for command in commands {
                let now_ms = self.a.now_ms.max(self.b.now_ms) + 1;
                (self.a.now_ms, self.b.now_ms) = (now_ms, now_ms);
                let (side, command) = command.split_once(": ").unwrap();
                let reply = if side == "A" { self.a.run(command) } else { self.b.run(command) };
                assert!(!reply.starts_with('-'), "{command}: {reply}");
            }
        }

        /// Each gets what the other has written without having seen what was written here.
        fn exchange(&mut self) {
            let (of_a, of_b) = (self.a.written(), self.b.written());
            self.a.merge_unseen(&self.b, &of_b, self.seen[1]);
            self.b.merge_unseen(&self.a, &of_a, self.seen[0]);
            // Sums that were split are asserted anew.
            let (of_a, of_b) = (self.a.written(), self.b.written());
            self.a.merge(&self.b, &of_b);
            self.b.merge(&self.a, &of_a);
            assert_eq!(self.a.run("MELD DIGEST"), self.b.run("MELD DIGEST"));
        }

        /// One gets what the other has written, having seen all that was written here.
        fn tell(from: &Fixture, to: &Fixture, seen: NTP64) {
            to.merge_unseen(from, &from.written(), seen);
        }

        fn logs(&self) -> [Vec<String>; 2] {
            [&self.a, &self.b].map(|node| {
                let log = node.engine.conflicts.entries();
                let mut shown: Vec<String> = log.iter().map(show).collect();
                let total: u64 = ConflictKind::ALL.map(|kind| node.engine.conflicts.count(kind)).iter().sum();
                assert_eq!(total, shown.len() as u64, "what is counted is what is logged: {shown:?}");
                shown.sort();
                shown
            })
        }
    }

    /// `kind key element: winner over loser, value`
    fn show(entry: &Entry) -> String {
        let side = |stamp: Stamp| if stamp.origin.node().as_u64() == 1 { "A" } else { "B" };
        let text = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or("-".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let element = text(&entry.element);
        let element = if element.contains('#') { "item" } else { &element };
        assert!(entry.winner.origin != entry.loser.origin);
        format!(
            "{} {} {element}: {} over {}, {}",
            entry.kind.name(),
            String::from_utf8_lossy(&entry.key),
            side(entry.winner),
            side(entry.loser),
            text(&entry.lost)
        )
    }

    /// Writes on two nodes that have seen the same before are in both logs, as expected.
    #[track_caller]
    fn check(before: &[&str], written: &[&str], expected: &[&str]) {
        let mut two = Two::holding(before);
        two.write(written);
        two.exchange();
        let [of_a, of_b] = two.logs();
        assert_eq!(of_a, expected, "on A: {written:?}");
        assert_eq!(of_b, expected, "on B: {written:?}");
    }

    #[test]
    fn values_set_on_both_sides_conflict_once_in_each_log() {
        check(&[], &["A: SET k a", "B: SET k b"], &["value k -: B over A, a"]);
        check(&[], &["B: SET k b", "A: SET k a"], &["value k -: A over B, b"]);
        check(&["SET k x"], &["A: APPEND k a", "B: APPEND k b"], &["value k -: B over A, xa"]);
        check(&[], &["A: SET k a EX 9", "B: SET k b EX 99"], &["value k -: B over A, a"]);
        check(&[], &["A: SET k a", "A: SET other a", "B: SET third b"], &[]);
        check(&["RPUSH l x"], &["A: LSET l 0 a", "B: LSET l 0 b"], &["element l item: B over A, a"]);
        check(&[], &["A: HSET h f a g a", "B: HSET h f b i b"], &["element h f: B over A, a"]);
        check(&[], &["A: ZADD z 1.5 m", "B: ZADD z 2 m"], &["element z m: B over A, 1.5"]);
    }

    #[test]
    fn writes_of_which_nothing_is_lost_do_not_conflict() {
        check(&[], &["A: SET k v", "B: SET k v"], &[]);
        check(&[], &["A: HSET h f v", "B: HSET h f v"], &[]);
        check(&[], &["A: SADD s m", "B: SADD s m"], &[]);
        check(&[], &["A: INCR n", "B: INCR n", "A: INCR n"], &[]);
        check(&["HSET h f v"], &["A: HDEL h f", "B: HDEL h f"], &[]);
        check(&["SET k v"], &["A: DEL k", "B: DEL k"], &[]);
        check(&["RPUSH l a"], &["A: LPOP l", "B: LPOP l"], &[]);
        check(&[], &["A: RPUSH l a", "B: RPUSH l b"], &[]);
        check(&["SET k v"], &["A: DEL k", "B: SET k b"], &[]);
        check(&["SET k v"], &["A: SET k a", "B: EXPIRE k 9"], &[]);
        check(&["SADD x 1 2"], &["A: SUNIONSTORE d x", "B: SUNIONSTORE d x"], &[]);
    }

    #[test]
    fn of_many_writes_of_a_node_the_one_that_stands_conflicts() {
        check(&[], &["A: SET k 1", "B: SET k b", "A: SET k 2"], &["value k -: A over B, b"]);
        check(&[], &["A: SET k 1", "A: SET k 2", "B: SET k b"], &["value k -: B over A, 2"]);
        check(&[], &["A: INCR n", "A: INCR n", "B: SET n 9"], &["counter n -: B over A, 2"]);
        check(&[], &["A: SET k 1", "B: SET k b", "A: DEL k"], &["removal k -: A over B, b"]);
    }

    /// A merges B's first write between its two; B has written both of its own before it hears of A.
    #[test]
    fn whose_write_was_replaced_before_the_others_came_knows_of_fewer_conflicts() {
        let mut two = Two::holding(&[]);
        let [seen_by_a, seen_by_b] = two.seen;
        two.write(&["B: SET k b1", "A: SET k a1"]);
        let (first_of_a, first_of_b) = (two.a.written(), two.b.written());
        two.a.merge_unseen(&two.b, &first_of_b, seen_by_b);
        let seen_between = two.b.engine.clock.last();
        two.write(&["A: SET k a2", "B: SET k b2"]);
        let (next_of_a, next_of_b) = (two.a.written(), two.b.written());
        two.b.merge_unseen(&two.a, &first_of_a, seen_by_a);
        two.b.merge_unseen(&two.a, &next_of_a, seen_between);
        two.a.merge_unseen(&two.b, &next_of_b, seen_by_b);
        let [of_a, of_b] = two.logs();
        assert_eq!(of_a, ["value k -: A over B, b1", "value k -: B over A, a2"]);
        assert_eq!(of_b, ["value k -: B over A, a2"]);
    }

    /// Of what is not in the log it is not known that it was told before.
    #[test]
    fn what_was_pushed_out_of_the_log_counts_anew() {
        for (len_max, counted) in [(2, 2), (1, 3)] {
            let mut two = Two::holding(&[]);
            let seen = two.seen[1];
            two.a.engine.conflicts.set_len_max(len_max);
            two.write(&["B: SET k b1", "B: SET other b", "A: SET k a", "A: SET other a", "B: SET k b2"]);
            let written = two.b.written();
            two.a.merge_unseen(&two.b, &written, seen);
            assert_eq!(two.a.engine.conflicts.count(ConflictKind::Value), counted);
        }
    }

    #[test]
    fn amounts_conflict_with_what_kills_them() {
        check(&["SET n 1"], &["A: INCRBY n 5", "B: SET n 9"], &["counter n -: B over A, 5"]);
        check(&["SET n 1"], &["B: SET n 9", "A: INCRBY n 5"], &[]);
        check(&["SET n 1"], &["A: INCRBY n 5", "B: DEL n"], &["removal n -: B over A, 5"]);
        check(&[], &["A: HINCRBY h f 5", "B: HSET h f 9"], &["counter h f: B over A, 5"]);
        check(&["HSET h f 1"], &["A: HINCRBY h f 5", "B: HDEL h f"], &["removal h f: B over A, 5"]);
        check(&[], &["A: ZINCRBY z 5 m", "B: ZADD z 9 m"], &["counter z m: B over A, 5"]);
    }

    #[test]
    fn removals_conflict_with_writes_of_the_element() {
        check(&["HSET h f v"], &["A: HDEL h f", "B: HSET h f b"], &["removal h f: B over A, -"]);
        check(&["HSET h f v"], &["B: HSET h f b", "A: HDEL h f"], &["removal h f: A over B, b"]);
        check(&["SADD s m"], &["A: SREM s m", "B: SADD s m"], &[]);
        check(&["ZADD z 1 m"], &["B: ZADD z 2 m", "A: ZREM z m"], &["removal z m: A over B, 2"]);
        check(&["RPUSH l x y"], &["A: LPOP l", "B: LSET l 0 b"], &["removal l item: A over B, b"]);
        check(&["RPUSH l x y"], &["B: LSET l 0 b", "A: LPOP l"], &["removal l item: A over B, b"]);
    }

    #[test]
    fn clears_conflict_with_what_they_take_away() {
        check(&["SET k v"], &["A: SET k a", "B: DEL k"], &["removal k -: B over A, a"]);
        check(
            &["HSET h old v"],
            &["A: HSET h f a", "A: EXPIRE h 9", "B: DEL h"],
            &["expiry h -: B over A, 1700000009002", "removal h f: B over A, a"],
        );
        check(
            &[],
            &["A: RPUSH l a b", "A: RPUSH l c", "B: RPUSH l x", "B: DEL l"],
            &["removal l item: B over A, a", "removal l item: B over A, b", "removal l item: B over A, c"],
        );
        check(&["SADD x 1"], &["A: SADD d 1 2", "B: SUNIONSTORE d x"], &["removal d 2: B over A, -"]);
        check(&["SET x v"], &["A: SET d a", "B: COPY x d"], &["value d -: B over A, a"]);
        check(&["SET x v"], &["B: COPY x d", "A: SET d a"], &["value d -: A over B, v"]);
        check(
            &[],
            &["A: SET k a EX 9", "A: HSET h f a", "A: DEL none", "B: FLUSHALL"],
            &["flush h f: B over A, a", "flush k -: B over A, a"],
        );
    }

    #[test]
    fn writes_of_different_types_conflict() {
        check(&[], &["A: HSET k f a", "B: SET k b"], &["type k f: B over A, a"]);
        check(&[], &["A: SET k a", "B: HSET k f b"], &["type k -: B over A, a"]);
        check(&[], &["A: HSET k f a", "B: SADD k m"], &["type k f: B over A, a"]);
        check(
            &[],
            &["A: HSET k f 1", "B: SET k b", "A: HSET k g 2"],
            &["type k -: A over B, b", "type k f: B over A, 1"],
        );
    }

    #[test]
    fn expiries_conflict_with_each_other_and_with_what_clears_them() {
        check(&["SET k v"], &["A: EXPIRE k 9", "B: EXPIRE k 99"], &["expiry k -: B over A, 1700000009001"]);
        check(&["SET k v"], &["A: EXPIRE k 9", "B: PERSIST k"], &[]);
        check(
            &["SET k v EX 5"],
            &["A: EXPIRE k 9", "B: PERSIST k"],
            &["expiry k -: B over A, 1700000009001"],
        );
        check(&["SET k v"], &["A: EXPIRE k 9", "B: SET k b"], &["expiry k -: B over A, 1700000009001"]);
    }

    #[test]
    fn a_key_cleared_by_its_expiry_conflicts_with_nothing() {
        let mut two = Two::holding(&["SET k v PX 5"]);
        two.write(&["A: APPEND k a"]);
        two.a.now_ms += 10;
        two.b.now_ms += 10;
        two.write(&["B: HSET k f b"]);
        two.exchange();
        assert_eq!(two.logs(), [Vec::<String>::new(), Vec::new()]);
    }

    #[test]
    fn writes_one_after_the_other_never_conflict() {
        let mut two = Two::holding(&["SET k v"]);
        let types = [
            "SET k", "APPEND k", "INCR n", "DEL", "HSET k f", "HDEL k", "SADD k", "RPUSH k", "FLUSHALL",
            "ZADD k 1",
        ];
        for round in 0..60 {
            let command = types[round % types.len()];
            let command = match command {
                "INCR n" | "FLUSHALL" => command.to_owned(),
                command => {
                    let word = if command == "DEL" { "k".to_owned() } else { format!("v{round}") };
                    format!("{command} {word}")
                }
            };
            let (from, to) = if round % 2 == 0 { (&mut two.a, &two.b) } else { (&mut two.b, &two.a) };
            from.run(&command);
            // It has merged all that was there: the clock is beyond it.
            Two::tell(from, to, to.engine.clock.last());
        }
        assert_eq!(two.logs(), [Vec::<String>::new(), Vec::new()]);
    }

    #[test]
    fn a_clear_logs_so_many_and_counts_all() {
        let mut two = Two::holding(&[]);
        let fields: Vec<String> = (0..40).map(|n| format!("f{n} v")).collect();
        two.write(&[&format!("A: HSET h {}", fields.join(" ")), "B: FLUSHALL"]);
        two.exchange();
        for (node, logged) in [(&two.a, CLEARED_MAX), (&two.b, 40)] {
            assert_eq!(node.engine.conflicts.entries().iter().len(), logged);
            assert_eq!(node.engine.conflicts.count(ConflictKind::Flush), 40);
        }
    }

    #[test]
    fn the_log_is_bounded_shortened_and_off_at_zero() {
        let mut two = Two::holding(&[]);
        two.a.run("CONFIG SET conflict-log-max-len 3");
        two.b.run("CONFIG SET conflict-log-max-len 0");
        let long = "x".repeat(130);
        for n in 0..5 {
            two.write(&[&format!("A: SET k{n} {long}"), &format!("B: SET k{n} b")]);
        }
        two.exchange();
        let shown: [Vec<String>; 2] =
            [&two.a, &two.b].map(|node| node.engine.conflicts.entries().iter().map(show).collect());
        let line = |n| format!("value k{n} -: B over A, {}... (2 more bytes)", "x".repeat(128));
        assert_eq!(shown, [vec![line(4), line(3), line(2)], Vec::new()]);
        assert_eq!(two.a.engine.conflicts.count(ConflictKind::Value), 5);
        assert_eq!(two.b.engine.conflicts.count(ConflictKind::Value), 0);
        two.a.check("MELD CONFLICTS LEN", ":3");
        two.a.check("CONFIG SET conflict-log-max-len 1", "+OK");
        two.a.check("MELD CONFLICTS LEN", ":1");
        two.a.check("MELD CONFLICTS RESET", "+OK");
        two.a.check("MELD CONFLICTS -1", "*0");
        assert!(two.a.run("INFO convergence").contains("conflicts_value:5 "), "counters outlive the log");
        two.a.run("CONFIG RESETSTAT");
        assert!(two.a.run("INFO convergence").contains("conflicts_total:0"));
    }

    #[test]
    fn a_winner_tells_what_it_has_won_over() {
        let mut two = Two::holding(&[]);
        two.write(&["A: HSET h f a g a", "B: HSET h f b", "A: SET k a", "B: SET k b"]);
        two.exchange();
        for node in [&mut two.a, &mut two.b] {
            let stamp = node.run("MELD STAMP h f");
            assert!(stamp.contains("won_over *1 *12 $7 element $1 f $5 stamp"), "{stamp}");
            assert!(stamp.ends_with("$4 lost $1 a"), "{stamp}");
            assert!(node.run("MELD STAMP h g").ends_with("$8 won_over *0"));
            assert!(node.run("MELD STAMP k").ends_with("$4 lost $1 a"));
            let log = node.run("MELD CONFLICTS 1");
            assert!(log.starts_with("*1 *18 $2 id :"), "{log}");
            assert!(
                log.contains("$4 kind $5 value $2 db :0 $3 key $1 k $7 element $-1 $6 winner *8"),
                "{log}"
            );
        }
        two.a.check("MELD CONFLICTS -2", "-ERR count should be greater than or equal to -1");
        two.a.check("MELD CONFLICTS all", "-ERR syntax error");
    }
}
