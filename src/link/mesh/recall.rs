//! A clock that was ahead is set right: has anybody taken a stamp from the future?
//!
//! A node that wants its stamps beyond `limit` back must know that no member holds one, and that none is still under way.
//! It ends all its links, and on the new ones tells nothing of its own data. Peers refuse what is left of an
//! old link from the new Hello on, so the first heartbeat of a new link is the whole truth: its `taken` is the newest time
//! the peer ever merged from others or was promised by them. If all members are linked and none has taken anything
//! beyond the limit, nor may anybody who was a member before, the stamps may be given back; else the node goes on as
//! before, and asks again later.

use super::{Fault, Mesh};
use crate::clock::NTP64;

/// A member that has not answered by then is not waited for.
const ANSWER_MS: u64 = 3000;
/// Between two attempts.
const PAUSE_MS: u64 = 1000;

/// How far the question is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recall {
    /// Not asked, and not to be before this time.
    Idle { not_before_ms: u64 },
    /// Asked: members may answer until this time.
    Asking { until_ms: u64 },
}

impl Mesh {
    /// Notes that stamps up to this time came from others.
    pub fn took(&mut self, newest: NTP64) {
        self.taken = self.taken.max(newest);
    }

    /// Whether this node may give back its stamps beyond `limit`, because nobody has taken one and, until
    /// [`Self::end_recall`], nobody can. To be called again and again: finding out takes a few heartbeats.
    pub fn recall(&mut self, limit: NTP64, now_ms: u64) -> bool {
        let all_linked = self.members.keys().all(|member| self.link_to(*member).is_some());
        let mut links = self.links.values().filter(|link| link.fault.is_none() && link.peer.is_some());
        let nobody = all_linked
            && !self.is_partner_unmet(now_ms)
            && self.taken.max(self.told_away) <= limit
            && links.all(|link| link.taken.is_some_and(|there| there <= limit));
        match self.recall {
            Recall::Idle { not_before_ms } => {
                if nobody && not_before_ms <= now_ms {
                    self.recall = Recall::Asking { until_ms: now_ms + ANSWER_MS };
                    self.end_links(&Fault::ClockSetRight);
                }
                false
            }
            Recall::Asking { until_ms } => {
                let taken = self.taken > limit
                    || self.links.values().any(|link| link.taken.is_some_and(|there| there > limit));
                if taken || until_ms < now_ms {
                    self.end_recall(now_ms);
                }
                nobody
            }
        }
    }

    /// Members are about to be dropped: what they were promised stands, for nobody will ask them.
    pub(super) fn drops_members(&mut self) {
        self.told_away = self.told_away.max(self.vector.of(self.own.origin).watermark);
    }

    /// Own data flows again.
    pub fn end_recall(&mut self, now_ms: u64) {
        if self.is_recalling() {
            self.recall = Recall::Idle { not_before_ms: now_ms + PAUSE_MS };
        }
    }

    /// Whether own data is held back while members are asked.
    pub fn is_recalling(&self) -> bool {
        matches!(self.recall, Recall::Asking { .. })
    }
}
