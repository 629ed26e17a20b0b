//! Counters of what the server did, one set per thread, added up when read.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one thread. Padded: no two threads write to one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Stats {
    /// Commands run.
    pub commands: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections refused.
    pub rejected_connections: AtomicU64,
    /// Reads that found their key.
    pub hits: AtomicU64,
    /// Reads that did not.
    pub misses: AtomicU64,
    /// Keys that expired.
    pub expired_keys: AtomicU64,
    /// Bytes received from clients.
    pub input_bytes: AtomicU64,
    /// Bytes sent to clients.
    pub output_bytes: AtomicU64,
    /// Error replies.
    pub errors: AtomicU64,
    /// Changes made by clients.
    pub changes: AtomicU64,
    /// Changes merged from peers.
    pub merged: AtomicU64,
    /// Reads from client sockets.
    pub reads: AtomicU64,
    /// Writes to client sockets.
    pub writes: AtomicU64,
}

impl Stats {
    /// Adds to a counter of this thread. Only its thread writes: a load and a store, no locked instruction.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// All of them.
    pub fn all(&self) -> [&AtomicU64; 13] {
        [
            &self.commands,
            &self.connections,
            &self.rejected_connections,
            &self.hits,
            &self.misses,
            &self.expired_keys,
            &self.input_bytes,
            &self.output_bytes,
            &self.errors,
            &self.changes,
            &self.merged,
            &self.reads,
            &self.writes,
        ]
    }

    /// Counts one read.
    pub fn count_lookup(&self, found: bool) {
        Self::add(if found { &self.hits } else { &self.misses }, 1);
    }
}
