//! What every integration test stands on: servers, clusters, a client, a faulty wire.
//!
//! Include it with `#[path = "../harness/mod.rs"] mod harness;` (or `mod harness;` from `tests/*.rs`).
//! Everything here is synchronous: std sockets and threads. Nothing waits by sleeping for a guessed
//! time; [`until`] polls a condition and fails with a sentence when its deadline passes. Every process
//! started is ended by its own pid when its [`Server`] is dropped, also when the test panics.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test crate uses its own part of the harness"
)]
#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod client;
mod clock;
mod cluster;
mod place;
mod proxy;
mod random;
mod server;
mod value;

pub use client::{Client, encode};
pub use clock::Clock;
pub use cluster::{Cluster, Options, Pair, Partners, differing_keys, settle_servers};
pub use place::{Port, TempDir};
pub use proxy::{BOTH, Connection, Direction, Proxy};
pub use random::Random;
pub use server::{Program, Server};
pub use value::{Value, frame_len, show_bytes};

use std::io::Write;
use std::time::{Duration, Instant};

/// How long a wait may take before it is a failure. Generous: the machine is shared and slow.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `condition` until it holds.
///
/// # Panics
/// With `what` when [`PATIENCE`] runs out.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, PATIENCE, || condition().then_some(()));
}

/// Polls `probe` until it answers `Some`, and returns the answer.
///
/// # Panics
/// With `what` when `patience` runs out.
#[track_caller]
pub fn until_some<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Prints one line when it goes: name, count, seconds. Straight to the terminal, past cargo's capture.
pub struct Suite {
    name: String,
    count: u64,
    note: String,
    start: Instant,
}

impl Suite {
    pub fn new(name: &str) -> Suite {
        Suite { name: name.to_owned(), count: 0, note: String::new(), start: Instant::now() }
    }

    /// Adds to the number of cases in the closing line.
    pub fn add(&mut self, cases: u64) {
        self.count += cases;
    }

    /// Says more in the closing line.
    pub fn note(&mut self, note: &str) {
        self.note = format!(" ({note})");
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let word = if std::thread::panicking() { "FAILED" } else { "ok" };
        let Suite { name, count, note, start } = self;
        let seconds = start.elapsed().as_secs_f64();
        let _ = std::io::stderr()
            .write_all(format!("{name}: {word}, {count} cases, {seconds:.1} s{note}\n").as_bytes());
    }
}
