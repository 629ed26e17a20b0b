//! Real nodes, and all that happens to the wire, the processes and the clocks between them.
//!
//! Problem: merge may be right in a simulator and the node still lose data to a socket, a timer or a restart. So here
//! two or three processes stand behind proxies that cut, stall, slow down and damage what passes, are killed, wiped and
//! given wrong clocks, mostly under a [`load`] of mixed writes on every side.
//!
//! Faults are shorter and fewer than the scenarios say, so that all of this takes two minutes; `MELDIS_FAULTS=full` has them
//! in full.
//!
//! Invariant: whatever happened, once the links are healed the nodes show links up, equal digests of data
//! and of registers ([`harness::Cluster::settle`]), and every number is the sum of all that was added.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../harness/mod.rs"]
mod harness;

mod load;
mod seen;

mod merging;
mod cuts;
mod meeting;
mod relaying;
mod resync;
mod partitions;
mod restarts;
mod acknowledged;
mod absence;
mod clocks;
mod visibility;
mod convergence;
mod conflicts;
mod replica;
mod standing;
