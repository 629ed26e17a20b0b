//! Bugs that tests plant; see [`crate::faults`]. Without any, each of these is one comparison.

use super::{Engine, Now};
use crate::clock::{NTP64, Origin, Stamp, unix_ms_from_ntp};
use crate::faults::Faults;
use crate::store::delta::{Added, Amount, Change};
use crate::store::shard::Shard;

impl Engine {
    /// Plants bugs.
    #[doc(hidden)]
    pub fn plant(&mut self, faults: Faults) {
        self.faults = faults;
        self.mesh.lock().faults = faults;
    }

    /// The time up to which tombstones go.
    pub(super) fn collectable(&self) -> NTP64 {
        if self.faults.contains(Faults::EARLY_COLLECTION) { NTP64(u64::MAX) } else { self.stable() }
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
