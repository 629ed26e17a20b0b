//! How far a peer's clock is off, from heartbeats that say when they were sent and when the last one came.
//!
//! Of a heartbeat there and one back, four times are known, two of each clock. If both took as long, the peer's clock is
//! ahead by half the difference of the two distances; the error is at most half of what they took together. So the
//! exchange that took least, of the last few, tells best. Reference: RFC 5905, section 8.
//!
//! A heartbeat is timed when its bytes come ([`super::Mesh::timed`]), not when it is taken: before a clock that is off, frames
//! are held for seconds, in one direction only. What may have waited unread is not timed at all; the last figures stay.

use std::collections::VecDeque;

use super::Event;
use crate::clock::NodeId;
use crate::link::frame::Echo;

/// Exchanges kept.
const SAMPLES: usize = 16;
/// An offset the operator is warned of, in milliseconds.
const WARN_MS: u64 = 100;
/// One that is right again.
const RIGHT_MS: u64 = 50;
/// An exchange that took longer has waited somewhere, and tells nothing: what RFC 5905 allows twice (MAXDIST).
const TOOK_US_MAX: u64 = 2_000_000;
/// More than the rates of two clocks make of the time between heartbeats, in microseconds.
const RATES_US: u64 = 1000;

/// What is known of the clock at the other end of a link.
#[derive(Clone, Debug, Default)]
pub(super) struct Offset {
    /// What an exchange took, and by how much the peer is ahead by it, in microseconds.
    samples: VecDeque<(u64, i64)>,
    heard: Option<Echo>,
    warned: bool,
}

/// A clock begins to be off, or to be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    Off(i64),
    Right,
}

impl Turn {
    pub(super) fn event(self, node: NodeId) -> Event {
        match self {
            Turn::Off(ms) => Event::ClockOff(node, ms),
            Turn::Right => Event::ClockRight(node),
        }
    }
}

impl Offset {
    /// A heartbeat came. Says if that turns what is to be told.
    pub(super) fn heard(&mut self, sent_us: u64, echo: Option<Echo>, now_us: u64) -> Option<Turn> {
        self.heard = Some(Echo { sent_us, received_us: now_us });
        if let Some(Echo { sent_us: there_us, received_us }) = echo {
            let away_us = now_us.saturating_sub(there_us);
            let kept_us = sent_us.saturating_sub(received_us);
            if kept_us > away_us + RATES_US {
                // The peer's clock was set forward meanwhile: the four times do not belong together.
                return None;
            }
            let took_us = away_us.saturating_sub(kept_us);
            if took_us > TOOK_US_MAX {
                return None;
            }
            let ahead = |there: u64, here: u64| i128::from(there) - i128::from(here);
            let ahead_us = (ahead(received_us, there_us) + ahead(sent_us, now_us)) / 2;
            if self.samples.len() == SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back((took_us, i64::try_from(ahead_us).unwrap_or(i64::MAX)));
        }
        let ahead_ms = self.ahead_us()? / 1000;
        let is_off = ahead_ms.unsigned_abs() >= if self.warned { RIGHT_MS } else { WARN_MS };
        if is_off == self.warned {
            return None;
        }
        self.warned = is_off;
        Some(if is_off { Turn::Off(ahead_ms) } else { Turn::Right })
    }

    /// What goes into the next heartbeat.
    pub(super) fn echo(&self) -> Option<Echo> {
        self.heard
    }

    /// By how much the peer's clock is ahead, in microseconds.
    pub(super) fn ahead_us(&self) -> Option<i64> {
        self.samples.iter().min().map(|(_, ahead_us)| *ahead_us)
    }

    /// This node's clock was set: what is known is of no use.
    pub(super) fn reset(&mut self) {
        self.samples.clear();
        self.heard = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_exchange_tells_the_offset_and_large_ones_are_told_once() {
        let mut offset = Offset::default();
        // The peer is 5 s ahead; heartbeats take 1 ms there and 3 ms back, one is held up for a second.
        let mut turns = Vec::new();
        for (sent, back_us) in [(1_000_000, 3000), (2_000_000, 1_000_000), (4_000_000, 3000)] {
            let received_us = sent + 1000 + 5_000_000;
            let answered_us = received_us + 40_000;
            let now_us = answered_us - 5_000_000 + back_us;
            turns.extend(offset.heard(answered_us, Some(Echo { sent_us: sent, received_us }), now_us));
        }
        assert_eq!(offset.ahead_us(), Some(4_999_000));
        assert_eq!(turns, [Turn::Off(4999)]);
        offset.reset();
        let now_us = 9_000_000;
        let echo = Echo { sent_us: now_us - 2000, received_us: now_us - 1000 };
        assert_eq!(offset.heard(now_us - 1000, Some(echo), now_us), Some(Turn::Right));
        assert_eq!(offset.ahead_us(), Some(0));
    }

    #[test]
    fn an_exchange_that_waited_for_seconds_leaves_the_figure_as_it_was() {
        let mut offset = Offset::default();
        let ahead_us = 10_000_000;
        let echo = |sent_us, waited_us| Echo { sent_us, received_us: sent_us + waited_us + ahead_us };
        assert_eq!(offset.heard(ahead_us + 2000, Some(echo(1000, 500)), 2500), Some(Turn::Off(10_000)));
        for n in 1..=2 * SAMPLES as u64 {
            // The peer took it five seconds late.
            let sent_us = n * 100_000;
            let answered_us = sent_us + 5_000_000;
            let came =
                offset.heard(ahead_us + answered_us, Some(echo(sent_us, 5_000_000)), answered_us + 500);
            assert_eq!((came, offset.ahead_us()), (None, Some(10_000_000)));
        }
    }

    #[test]
    fn an_exchange_during_which_the_peers_clock_was_set_tells_nothing() {
        let mut offset = Offset::default();
        let hour_us = 3_600_000_000;
        // It came by the old clock and is answered by the new one; the next is all by the new one.
        let set = offset.heard(
            hour_us + 1_101_000,
            Some(Echo { sent_us: 1_000_000, received_us: 1_001_000 }),
            1_102_000,
        );
        assert_eq!((set, offset.ahead_us()), (None, None));
        let echo = Echo { sent_us: 2_000_000, received_us: hour_us + 2_001_000 };
        assert_eq!(offset.heard(hour_us + 2_101_000, Some(echo), 2_102_000), Some(Turn::Off(3_600_000)));
    }
}
