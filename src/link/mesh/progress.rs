//! Sequence numbers, vectors and floors: what is merged here, and what everybody has merged.
//!
//! # Floors and the stable time
//! A node's *floor* is the time up to which it and its replicas have merged every write of every member. The *stable
//! time* is the least floor of all members: nothing stamped at or below it is still under way to anyone, so tombstones up
//! to it may go.
//! A member not heard of for `absence_ms` is left out, and so is what it wrote but told nobody; until then a configured
//! partner that was never met holds everything back. A floor counts only if it takes all members into account that this
//! node knows of. Heard through others it counts only once this node has merged that member's own stream up to the
//! moment it said so: otherwise a write stamped above a tombstone, but made before its author knew of the removal, could
//! arrive behind it.

use super::{Fault, Link, MemberState, Mesh, Recall};
use crate::clock::{NTP64, Origin};
use crate::faults::Faults;
use crate::link::backlog::Segment;
use crate::link::frame::{Floor, Seen};
use crate::link::vector::{Progress, Vector};

/// What to do with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All of it is here.
    Repeat,
    /// Merge it but for the first batches.
    Merge {
        /// How many batches are here already.
        skip: u64,
    },
}

impl Mesh {
    /// Puts batches of this node into sequence, behind them its promise.
    pub fn sequence(&mut self, count: u64, batches: Vec<u8>, watermark: NTP64) {
        let own = self.own.origin;
        let have = self.vector.of(own);
        let progress = Progress { sequence: have.sequence + count, watermark: watermark.max(have.watermark) };
        self.vector.advance(own, progress);
        if count > 0 {
            self.written = progress.watermark;
            let segment = Segment {
                first: have.sequence + 1,
                count,
                watermark: progress.watermark,
                seen: self.seen(),
                batches: batches.into(),
            };
            self.backlog.push(own, segment);
        }
    }

    /// Up to when this node has merged each other node's writes: those of its latest life, be it a member here or not. What a
    /// pull has begun to bring counts: clients may have read it.
    fn seen(&self) -> Seen {
        let Some(pull) = self.pull.as_ref().filter(|pull| pull.vector.is_some()) else {
            return self.latest_lives(&self.vector);
        };
        let mut vector = self.vector.clone();
        vector.join(&pull.shadow);
        self.latest_lives(&vector)
    }

    fn latest_lives(&self, vector: &Vector) -> Seen {
        let mut seen = Seen::new();
        for (origin, progress) in vector.iter().filter(|(origin, _)| *origin != self.own.origin) {
            // The lives of a node follow each other.
            if seen.last().is_some_and(|(before, _): &(Origin, NTP64)| before.node() == origin.node()) {
                seen.pop();
            }
            seen.push((origin, progress.watermark));
        }
        seen
    }

    /// No write of this node that is in its sequence, or untold, is stamped later.
    pub fn written(&self) -> NTP64 {
        self.written
    }

    /// Counts what this node holds though it was never a batch, stamped up to `written`: peers have to pull it.
    pub fn count_untold(&mut self, written: NTP64) {
        let have = self.vector.of(self.own.origin);
        let untold = Progress { sequence: have.sequence + 1, watermark: NTP64(0) };
        self.vector.advance(self.own.origin, untold);
        self.written = written;
    }

    /// This node's batches so far are void: what it holds is to be pulled. Its promise falls to `watermark`, as do those of its
    /// former lives that were beyond `limit`: nobody has their last batches. The links end.
    pub fn restate_own(&mut self, watermark: NTP64, limit: NTP64) {
        let own = self.own.origin;
        let is_former = |(origin, progress): &(Origin, Progress)| {
            origin.node() == own.node() && *origin != own && progress.watermark > limit
        };
        for (life, Progress { sequence, .. }) in self.vector.iter().filter(is_former).collect::<Vec<_>>() {
            self.vector.set(life, Progress { sequence, watermark });
            self.backlog.drop_origin(life);
        }
        let sequence = self.vector.of(own).sequence + 1;
        self.vector.set(own, Progress { sequence, watermark });
        self.backlog.drop_origin(own);
        self.written = watermark;
        self.recall = Recall::Idle { not_before_ms: 0 };
        self.end_links(&Fault::ClockSetRight);
    }

    /// What to do with a segment that came.
    pub fn judge(&self, origin: Origin, first: u64, count: u64) -> Result<Verdict, Fault> {
        if origin == self.own.origin {
            return Ok(Verdict::Repeat);
        }
        if self.faults.contains(Faults::REPEATS) {
            return Ok(Verdict::Merge { skip: 0 });
        }
        let mut have = self.vector.of(origin).sequence;
        if self.faults.contains(Faults::LIVES_AS_ONE) {
            let lives = self.vector.iter().filter(|(other, _)| other.node() == origin.node());
            have = lives.map(|(_, progress)| progress.sequence).max().unwrap_or(have);
        }
        if let Some(pull) = &self.pull
            && pull.vector.is_some()
        {
            have = have.max(pull.shadow.of(origin).sequence);
        }
        match first.checked_add(count).ok_or(Fault::Unexpected("a sequence number"))? {
            next if next <= have + 1 => Ok(Verdict::Repeat),
            _ if first <= have + 1 => Ok(Verdict::Merge { skip: have + 1 - first }),
            _ => Err(Fault::Missing { origin, have, first }),
        }
    }

    /// Whether the messages of a batch were not delivered yet. Notes that they are.
    pub fn delivers(&mut self, origin: Origin, number: u64) -> bool {
        let last = self.delivered.entry(origin).or_default();
        let is_new = *last < number;
        *last = number.max(*last);
        is_new
    }

    /// A segment is merged, from the first of its batches that was not known already up to its end.
    pub fn merged(&mut self, origin: Origin, segment: Segment) {
        if origin == self.own.origin {
            return;
        }
        let progress = Progress { sequence: segment.last(), watermark: segment.watermark };
        if origin.node() != self.own.origin.node() {
            self.took(segment.watermark);
        }
        if let Some(pull) = &mut self.pull
            && pull.vector.is_some()
            && segment.first <= pull.shadow.of(origin).sequence + 1
        {
            pull.shadow.advance(origin, progress);
        }
        let have = self.vector.of(origin);
        if segment.first <= have.sequence + 1 {
            self.vector.advance(origin, progress);
            match self.members.len() {
                _ if segment.last() <= have.sequence => {}
                // Of a pair nobody is passed on to.
                0 | 1 => self.backlog.push_spare(origin, segment),
                _ => self.backlog.push(origin, segment),
            }
        }
    }

    /// Whether this node lacks something that a peer had when their link began, or had given the last range.
    pub fn is_behind(&self, link: &Link) -> bool {
        let lacks = |(origin, had): (Origin, Progress)| had.sequence > self.vector.of(origin).sequence;
        link.had.iter().filter(|(origin, _)| *origin != self.own.origin).any(lacks)
    }

    /// How many other members have everything this node has written so far.
    pub fn acknowledged(&self, sequence: u64) -> usize {
        self.links
            .values()
            .filter(|link| {
                link.peer.is_some()
                    && link.fault.is_none()
                    && link.vector.of(self.own.origin).sequence >= sequence
            })
            .count()
    }

    /// The time up to which this node, and each of its replicas, has merged every write of every member.
    pub fn floor(&self, now_ms: u64) -> NTP64 {
        if self.is_partner_unmet(now_ms) {
            // Whoever is there may hold writes older than anything here. Told to others, it holds them back as well.
            return NTP64(0);
        }
        let mut floor = self.vector.of(self.own.origin).watermark;
        for state in self.members.values().filter(|state| !self.is_absent(state, now_ms)) {
            // Nobody else waits for this node's replicas.
            floor = floor.min(match state.member.follower {
                true => state.floor,
                false => self.vector.of(state.member.origin).watermark,
            });
        }
        // An earlier life of a node writes nothing any more, but others may still pass on what it wrote, be it by a link that
        // is yet to come.
        for state in self.members.values().filter(|state| !self.is_absent(state, now_ms)) {
            for (origin, there) in state.told.iter() {
                let lives =
                    self.members.get(&origin.node()).is_some_and(|state| state.member.origin == origin);
                let here = self.vector.of(origin);
                if !lives && origin != self.own.origin && there.sequence > here.sequence {
                    floor = floor.min(here.watermark);
                }
            }
        }
        floor
    }

    /// The least floor of all members; see the module's head.
    pub fn stable(&mut self, now_ms: u64) -> NTP64 {
        let mut stable = self.floor(now_ms);
        for node in self.members.keys().copied().collect::<Vec<_>>() {
            let Some(state) = self.members.get(&node) else { continue };
            let said_here = self.vector.of(state.member.origin).watermark >= state.reported.at;
            let counts = said_here && self.knows_all(&state.reported, now_ms);
            let floor = if counts { state.floor.max(state.reported.floor) } else { state.floor };
            let absent = self.is_absent(state, now_ms);
            if let Some(state) = self.members.get_mut(&node) {
                state.floor = floor;
            }
            if !absent {
                stable = stable.min(floor);
            }
        }
        stable
    }

    /// Whether a member's floor takes every other member into account that this node knows of: one it has not heard of may
    /// have written what this node has merged and the member has not.
    fn knows_all(&self, reported: &Floor, now_ms: u64) -> bool {
        let others =
            self.members.values().filter(|state| !state.member.follower && !self.is_absent(state, now_ms));
        // A replica writes nothing.
        let own = Some(self.own.origin).filter(|_| !self.own.follower);
        own.into_iter()
            .chain(others.map(|state| state.member.origin))
            .all(|origin| origin == reported.origin || reported.of.contains(&origin))
    }

    /// Whether a configured partner was not met yet, nor given up.
    pub(super) fn is_partner_unmet(&self, now_ms: u64) -> bool {
        let began_at_ms = self.began_at_ms.unwrap_or(now_ms);
        now_ms.saturating_sub(began_at_ms) <= self.timing.absence_ms
            && self.dials.values().any(|dial| dial.configured && !dial.own && dial.node.is_none())
    }

    pub(super) fn is_absent(&self, state: &MemberState, now_ms: u64) -> bool {
        let is_away = now_ms.saturating_sub(state.seen_at_ms) > self.timing.absence_ms;
        is_away && !self.faults.contains(Faults::PINNED)
    }

    /// Begins another life of this node, which holds nothing. The links begin anew.
    pub fn begin_life(&mut self, origin: Origin) {
        // Whoever subscribes here got what the last life published as it did.
        self.delivered.insert(self.own.origin, u64::MAX);
        self.own.origin = origin;
        self.vector = Vector::default();
        self.backlog.clear();
        self.written = NTP64(0);
        self.told_away = NTP64(0);
        self.pull = None;
        // Floors told so far leave out what this life will write.
        self.members.values_mut().for_each(|state| state.floor = NTP64(0));
        self.end_links(&Fault::Anew);
    }
}
