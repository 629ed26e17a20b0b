//! CLIENT PAUSE: commands that are held back until an instant.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is held back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paused {
    /// Commands that may write.
    Writes,
    /// All.
    All,
}

/// One word, so that a running server reads it for nothing: twice the deadline in Unix milliseconds, plus one
/// for [`Paused::All`]. Zero: no pause.
#[derive(Debug, Default)]
pub struct Pause(AtomicU64);

impl Pause {
    /// Holds commands back until `until_ms`. A pause under way is not made shorter nor laxer.
    pub fn begin(&self, what: Paused, until_ms: u64, now_ms: u64) {
        let held = self.at(now_ms);
        let until = held.map_or(until_ms, |(_, until)| until.max(until_ms)).min(u64::MAX / 2);
        let all = what == Paused::All || held.is_some_and(|(held, _)| held == Paused::All);
        self.0.store(until << 1 | u64::from(all), Relaxed);
    }

    /// Lets all commands go on.
    pub fn end(&self) {
        self.0.store(0, Relaxed);
    }

    /// What is held back at this time, and until when.
    #[inline]
    pub fn at(&self, now_ms: u64) -> Option<(Paused, u64)> {
        if self.0.load(Relaxed) == 0 {
            return None;
        }
        Some(self.parts()).filter(|(_, until)| *until > now_ms)
    }

    fn parts(&self) -> (Paused, u64) {
        let word = self.0.load(Relaxed);
        (if word & 1 == 1 { Paused::All } else { Paused::Writes }, word >> 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_pause_only_extends_the_first() {
        let pause = Pause::default();
        assert_eq!(pause.at(0), None);
        pause.begin(Paused::All, 100, 0);
        pause.begin(Paused::Writes, 50, 0);
        assert_eq!(pause.at(99), Some((Paused::All, 100)));
        assert_eq!(pause.at(100), None);
        pause.begin(Paused::Writes, u64::MAX, 100);
        assert!(matches!(pause.at(u64::MAX / 4), Some((Paused::Writes, _))));
    }
}
