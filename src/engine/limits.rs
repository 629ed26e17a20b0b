//! The limits of clients, in a form that connections can read at every read buffer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::client::ClientFlags;
use crate::config::{Config, OutputLimit};

/// Bytes of unread replies: see [`OutputLimit`].
#[derive(Debug, Default)]
struct Output {
    hard: AtomicU64,
    soft: AtomicU64,
    soft_seconds: AtomicU64,
}

impl Output {
    fn set(&self, limit: OutputLimit) {
        self.hard.store(limit.hard, Relaxed);
        self.soft.store(limit.soft, Relaxed);
        self.soft_seconds.store(limit.soft_seconds, Relaxed);
    }

    fn get(&self) -> OutputLimit {
        OutputLimit {
            hard: self.hard.load(Relaxed),
            soft: self.soft.load(Relaxed),
            soft_seconds: self.soft_seconds.load(Relaxed),
        }
    }
}

/// See the module's head. Each is the directive of its name.
#[derive(Debug, Default)]
pub struct Limits {
    normal: Output,
    replica: Output,
    pubsub: Output,
    /// `client-query-buffer-limit`, in bytes.
    pub query_buffer: AtomicU64,
    /// `proto-max-bulk-len`, in bytes.
    pub bulk_len: AtomicU64,
    /// `maxclients`.
    pub clients: AtomicU64,
    /// `timeout`, in seconds; 0 is none.
    pub idle_s: AtomicU64,
    /// The smaller of `slowlog-log-slower-than` and `latency-monitor-threshold`, in microseconds; `u64::MAX` is
    /// never.
    pub noted_us: AtomicU64,
}

impl Limits {
    /// The limits a configuration sets.
    pub fn of(config: &Config) -> Self {
        let limits = Limits::default();
        limits.adopt(config);
        limits
    }

    /// Takes over a changed configuration.
    pub fn adopt(&self, config: &Config) {
        self.normal.set(config.client_output_buffer_limit.normal);
        self.replica.set(config.client_output_buffer_limit.replica);
        self.pubsub.set(config.client_output_buffer_limit.pubsub);
        self.query_buffer.store(config.client_query_buffer_limit, Relaxed);
        self.bulk_len.store(config.proto_max_bulk_len, Relaxed);
        self.clients.store(config.maxclients.into(), Relaxed);
        self.idle_s.store(config.timeout_s, Relaxed);
        let slow_us = config.slowlog_log_slower_than_us.unwrap_or(u64::MAX);
        let spike_ms = Some(config.latency_monitor_threshold_ms).filter(|ms| *ms != 0);
        self.noted_us.store(spike_ms.map_or(u64::MAX, |ms| ms.saturating_mul(1000)).min(slow_us), Relaxed);
    }

    /// How much a client of these flags may leave unread.
    pub fn output(&self, flags: ClientFlags) -> OutputLimit {
        if flags.contains(ClientFlags::LINK) {
            self.replica.get()
        } else if flags.contains(ClientFlags::PUBSUB) {
            self.pubsub.get()
        } else {
            self.normal.get()
        }
    }
}
