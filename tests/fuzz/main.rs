//! Fuzzing: whatever comes over a socket, the node neither panics nor hangs, and what it holds stays in order.
//!
//! Random bytes would die at the first checksum or the first `*`. So an input is a string of choices ([`choices`]): most
//! make something well-formed, then damage it, and give it the checksum it then needs.
//!
//! | target | what is fed to what |
//! |---|---|
//! | `requests` | bytes, cut anywhere, to the request parser |
//! | `frames` | frames and batches, whole and damaged, to their decoders |
//! | `links` | frames of a peer that tells anything, to a node, which then meets an honest one |
//! | `chunks` | damaged pieces of ranges to a node that pulls them |
//!
//! `cargo test --test fuzz` runs the inputs kept under `__fuzz__/TARGET/corpus`, then random ones for a few seconds;
//! `BOLERO_RANDOM_TEST_TIME_MS` sets how long. A failure prints `BOLERO_RANDOM_SEED`, which replays it. A long run is
//! `cargo bolero test links`.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod choices;
mod chunks;
mod frames;
mod links;
mod made;
mod memory;
mod node;
mod requests;

use std::time::Duration;

/// How long random inputs are tried, for each target.
const TIME: Duration = Duration::from_secs(6);

#[test]
fn requests() {
    bolero::check!().with_test_time(TIME).for_each(requests::check);
}

#[test]
fn frames() {
    bolero::check!().with_test_time(TIME).for_each(frames::check);
}

#[test]
fn links() {
    bolero::check!().with_test_time(TIME).for_each(links::check);
}

#[test]
fn chunks() {
    bolero::check!().with_test_time(TIME).for_each(chunks::check);
}
