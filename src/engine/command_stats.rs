//! How often each command ran and how long it took: one row per command and thread, added up when read.
//!
//! Times are kept in a histogram with a bucket per power of two of microseconds, which is what LATENCY
//! HISTOGRAM shows; percentiles are its buckets' upper ends, so at most twice the true value.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::stats::Stats;

/// Buckets: up to 1 us, 2 us, 4 us... The last holds all above half an hour.
pub const BUCKETS: usize = 32;

/// One command on one thread.
#[derive(Debug, Default)]
struct Row {
    calls: AtomicU64,
    us: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    buckets: [AtomicU32; BUCKETS],
}

/// One command on all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Times it ran.
    pub calls: u64,
    /// Microseconds in all.
    pub us: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it answered an error.
    pub failed: u64,
    /// Runs by duration.
    pub buckets: [u64; BUCKETS],
}

impl Total {
    /// An upper bound of the given percentile, in microseconds.
    pub fn percentile_us(&self, percentile: f64) -> u64 {
        let all: u64 = self.buckets.iter().sum();
        let wanted = (all as f64 * percentile / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return 1 << at;
            }
        }
        0
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct CommandStats(Box<[Box<[Row]>]>);

impl CommandStats {
    /// Zeros for so many threads and commands.
    pub fn new(threads: usize, commands: usize) -> Self {
        CommandStats((0..threads).map(|_| (0..commands).map(|_| Row::default()).collect()).collect())
    }

    fn row(&self, thread: usize, id: u16) -> Option<&Row> {
        self.0[thread % self.0.len()].get(usize::from(id))
    }

    /// A command ran.
    #[inline]
    pub fn ran(&self, thread: usize, id: u16, us: u64) {
        let Some(row) = self.row(thread, id) else { return };
        Stats::add(&row.calls, 1);
        Stats::add(&row.us, us);
        let bucket =
            &row.buckets[(u64::BITS - us.saturating_sub(1).leading_zeros()).min(BUCKETS as u32 - 1) as usize];
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// A command was refused.
    pub fn rejected(&self, thread: usize, id: u16) {
        if let Some(row) = self.row(thread, id) {
            Stats::add(&row.rejected, 1);
        }
    }

    /// A command answered an error.
    pub fn failed(&self, thread: usize, id: u16) {
        if let Some(row) = self.row(thread, id) {
            Stats::add(&row.failed, 1);
        }
    }

    /// A command on all threads.
    pub fn total(&self, id: u16) -> Total {
        let mut total = Total::default();
        for row in (0..self.0.len()).filter_map(|thread| self.row(thread, id)) {
            total.calls += row.calls.load(Relaxed);
            total.us += row.us.load(Relaxed);
            total.rejected += row.rejected.load(Relaxed);
            total.failed += row.failed.load(Relaxed);
            for (sum, bucket) in total.buckets.iter_mut().zip(&row.buckets) {
                *sum += u64::from(bucket.load(Relaxed));
            }
        }
        total
    }

    /// Sets all to zero.
    pub fn reset(&self) {
        for row in self.0.iter().flat_map(|rows| rows.iter()) {
            [&row.calls, &row.us, &row.rejected, &row.failed]
                .iter()
                .for_each(|counter| counter.store(0, Relaxed));
            row.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_that_bounds_them() {
        let stats = CommandStats::new(2, 1);
        for us in [0, 1, 2, 3, 4, 5, 1000, u64::MAX / 4] {
            stats.ran(us as usize, 0, us);
        }
        stats.ran(0, 9, 1);
        let total = stats.total(0);
        assert_eq!(total.calls, 8);
        assert_eq!(total.buckets[..4], [2, 1, 2, 1]);
        assert_eq!((total.buckets[10], total.buckets[BUCKETS - 1]), (1, 1));
        assert_eq!((total.percentile_us(50.0), total.percentile_us(10.0)), (4, 1));
        stats.reset();
        assert_eq!(stats.total(0), Total::default());
    }
}
