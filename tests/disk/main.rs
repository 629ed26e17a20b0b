//! Data on disk, with real nodes: killed, cut off, wiped, out of space, and what is there afterwards.
//!
//! Problem: a codec that reads what it wrote says nothing of a reply that overtook its write, of a file that a crash left
//! between two names, or of a disk that fills up in the middle of a snapshot. So here processes are killed at any moment
//! under load, and every client keeps a record of what was acknowledged to it ([`record`]).
//!
//! Power loss itself cannot be had; what it leaves can: prefixes of files, copied from a running node or cut at every byte
//! ([`power`]). A failing sync is had in the unit tests of `src/server/journal`.
//!
//! A full disk is a small tmpfs that the test mounts, for which it has to be root. All of this takes a minute;
//! `MELDIS_FAULTS=full` has more kills.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../pair/load.rs"]
#[allow(dead_code, reason = "its own suite uses more of it")]
mod load;
#[path = "../pair/seen.rs"]
#[allow(dead_code, reason = "its own suite uses more of it")]
mod seen;

mod place;
mod record;

mod lone;
mod pairs;
mod power;
mod full;
mod rewrite;
mod runtime;
mod replica;
mod lives;
