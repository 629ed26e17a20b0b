//! Bugs that tests plant; see [`crate::faults`]. Without any, each of these is one comparison.

use super::keyspace::Keyspace;
use super::{Engine, Now};
use crate::clock::{NTP64, Origin, Stamp, unix_ms_from_ntp};
use crate::faults::Faults;
use crate::store::delta::{Added, Amount, Change};
use crate::store::digest;
use crate::store::shard::{KeyHash, Shard};

impl Engine {
    /// Plants bugs.
    #[doc(hidden)]
    pub fn plant(&mut self, faults: Faults) {
        self.faults = faults;
        self.mesh.lock().faults = faults;
    }

    /// The time up to which tombstones go.
    pub(super) fn collectable(&self) -> NTP64 {
        if self.faults.contains(Faults::EARLY_COLLECTION) {
            return NTP64(u64::MAX);
        }
        if self.is_planted(Faults::LOOSE_SNAPSHOT) { self.stable() } else { self.stable().min(self.held()) }
    }

    /// Whether a bug is planted.
    pub(super) fn is_planted(&self, fault: Faults) -> bool {
        self.faults.contains(fault)
    }

    /// How far the reading of the clock promises.
    pub(super) fn promise(&self, watermark: NTP64) -> NTP64 {
        if self.is_planted(Faults::BOLD_PROMISE) { NTP64(watermark.0 + (1 << 22)) } else { watermark }
    }

    /// As of when a key found dead by expiry is cleared; `None` for now.
    pub(super) fn death(&self, dead_as_of: Option<Stamp>) -> Option<Stamp> {
        dead_as_of.filter(|_| !self.is_planted(Faults::EXPIRY_AS_DELETION))
    }

    /// Keeps what tells of an expiry until this time is stable.
    pub(super) fn hold(&self, shard: &mut Shard, space: u32, key: &[u8], hash: KeyHash, until: NTP64) {
        if !self.is_planted(Faults::EARLY_RELEASE) {
            shard.hold(space, key, hash, until);
        }
    }

    /// The stamp of an amount, whose origin says in which register it counts.
    pub(super) fn counted(&self, stamp: Stamp) -> Stamp {
        if !self.is_planted(Faults::FORGOTTEN_SUMS) {
            return stamp;
        }
        Stamp::new(stamp.time, Origin::new(stamp.origin.node(), 1))
    }

    /// Whether a batch that has come now is torn.
    pub(super) fn tears(&self, now: Now) -> bool {
        self.is_planted(Faults::TORN_BATCH) && now.unix_ms.is_multiple_of(8)
    }

    /// The digest of a range, but for when its keys expire.
    pub(super) fn blind_digest(&self, shard: &Shard) -> u64 {
        let spaces =
            (0..shard.spaces()).flat_map(|space| shard.entries(space).map(move |entry| (space, entry)));
        spaces.fold(0, |sum: u64, (space, entry)| {
            let mut entry = entry.clone();
            if let Some(expiry) = entry.expiry() {
                entry.forget(&Change::Expire(expiry.at_ms, expiry.kind));
            }
            match entry.weight(digest::hash(entry.key())).digest {
                0 => sum,
                held => sum.wrapping_add(digest::mix(held, space.into())),
            }
        })
    }

    /// Clears every key of a keyspace; the whole keyspace must be locked.
    pub(super) fn clear_held(&self, keys: &mut Keyspace<'_>, space: u32, stamp: Stamp) {
        let shards = keys.cells().iter().map(|cell| &cell.shard);
        let held: Vec<Vec<u8>> =
            shards.flat_map(|shard| shard.entries(space)).map(|entry| entry.key().to_vec()).collect();
        for key in held {
            keys.merge_remote(space, &key, stamp, &Change::Clear);
        }
    }

    /// What a planted bug makes of a delta of a peer.
    pub(super) fn twisted<'a>(
        &self,
        shard: &Shard,
        space: u32,
        key: &[u8],
        stamp: Stamp,
        change: &Change<'a>,
        now: Now,
    ) -> Option<(Stamp, Change<'a>)> {
        if self.faults.is_empty() {
            return None;
        }
        match change {
            _ if self.is_planted(Faults::RECEIVER_STAMPS) => {
                Some((Stamp::new(now.ntp, stamp.origin), change.clone()))
            }
            Change::Expire(Some(at_ms), kind) if self.faults.contains(Faults::RELATIVE_EXPIRY) => {
                let left_ms = at_ms.saturating_sub(unix_ms_from_ntp(stamp.time));
                Some((stamp, Change::Expire(Some(now.unix_ms + left_ms), *kind)))
            }
            Change::Sum(added) if self.faults.contains(Faults::REPEATS) => {
                let mut held = None;
                shard.get(space, key, self.hash(key))?.own_sums(added.origin, |change| {
                    if let Change::Sum(added) = change {
                        held = Some(added);
                    }
                });
                let held: Added = held.filter(|held| held.last >= added.last)?;
                let (Amount::Int(a), Amount::Int(b)) = (held.amount, added.amount) else { return None };
                let again = Added { last: NTP64(held.last.0 + 1), amount: Amount::Int(a + b), ..held };
                Some((again.stamp(), Change::Sum(again)))
            }
            _ if self.faults.contains(Faults::TIES) => {
                let held = shard.get(space, key, self.hash(key))?.stamp();
                let loses_tie = held.time == stamp.time && held.origin > stamp.origin;
                let above =
                    Stamp::new(stamp.time, Origin::new(held.origin.node(), held.origin.incarnation() + 1));
                loses_tie.then(|| (above, change.clone()))
            }
            _ => None,
        }
    }
}
