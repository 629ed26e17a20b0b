//! Latency spikes: events that took at least `latency-monitor-threshold`, one sample a second and event.

use std::collections::{BTreeMap, VecDeque};

/// Samples kept of an event.
const SAMPLES_MAX: usize = 160;

/// The worst of an event within one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When, in Unix seconds.
    pub at_s: u64,
    /// How long, in milliseconds.
    pub ms: u64,
}

/// The spikes of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// The oldest first.
    pub samples: VecDeque<Sample>,
    /// The worst ever, in milliseconds.
    pub max_ms: u64,
}

/// By event: `command` and `fast-command`.
#[derive(Debug, Default)]
pub struct Latency(BTreeMap<&'static str, Series>);

impl Latency {
    /// An event took so long.
    pub fn add(&mut self, event: &'static str, at_s: u64, ms: u64) {
        let series = self.0.entry(event).or_default();
        series.max_ms = series.max_ms.max(ms);
        match series.samples.back_mut() {
            Some(last) if last.at_s == at_s => last.ms = last.ms.max(ms),
            _ => series.samples.push_back(Sample { at_s, ms }),
        }
        if series.samples.len() > SAMPLES_MAX {
            series.samples.pop_front();
        }
    }

    /// All events.
    pub fn events(&self) -> impl ExactSizeIterator<Item = (&'static str, &Series)> {
        self.0.iter().map(|(event, series)| (*event, series))
    }

    /// One event.
    pub fn event(&self, name: &[u8]) -> Option<&Series> {
        self.0.get(std::str::from_utf8(name).ok()?)
    }

    /// Forgets an event. Returns whether there was one.
    pub fn forget(&mut self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| self.0.remove(name).is_some())
    }

    /// Forgets all. Returns how many events there were.
    pub fn clear(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_keeps_its_worst_and_a_series_its_last() {
        let mut latency = Latency::default();
        for (at_s, ms) in [(1, 5), (1, 9), (1, 7), (2, 3)] {
            latency.add("command", at_s, ms);
        }
        let series = latency.event(b"command").unwrap();
        assert_eq!((series.samples.len(), series.samples[0].ms, series.max_ms), (2, 9, 9));
        (3..300).for_each(|at_s| latency.add("command", at_s, 1));
        let series = latency.event(b"command").unwrap();
        assert_eq!((series.samples.len(), series.samples[0].at_s), (SAMPLES_MAX, 140));
        assert!(latency.forget(b"command") && !latency.forget(b"command"));
    }
}
