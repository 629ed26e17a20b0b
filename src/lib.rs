//! Meldis: a Redis/KeyDB-compatible, in-memory key-value server in which every node takes writes.
//!
//! # Bird's eye
//! *Everything that changes data is a delta; one `merge` applies it.* A command computes deltas and merges them;
//! a peer's batch is deltas; a range's state is deltas; so are journal and snapshot. Merge is commutative, associative and idempotent, so
//! delivery may be late, doubled, out of order across origins, cut and resumed, and the nodes end in the same
//! state: the one that a single Redis would reach by executing all writes in the order of their stamps.
//!
//! ```text
//!   client bytes ─► server::connection ─► resp ─► engine::Engine::execute ─► command::… ─► Keyspace::apply
//!                                                                                            │       │
//!                                                         store::Shard::merge ◄──────────────┘       │ delta
//!                                                                 ▲                                  ▼
//!   peer bytes ──► server::peer ──► Engine::link_receive ──► merging, ranges    link::outbox ─► link::mesh ─► peers
//!                                                                                                 │
//!                                        server::journal ◄── engine::persistence (notes) ◄────────┘
//! ```
//! Where the backlog of one node no longer holds what another lacks, ranges of the keyspace travel as state:
//! `link::mesh` says which, `engine::ranges` reads and merges them. What becomes part of the data is noted for the journal in
//! the order in which it does; a node is read back from disk by merging the same again.
//!
//! # Code map
//! Arrows point one way: server → command → engine → journal → link → store → clock; `number`, `config` and `faults` stand alone, and `resp`
//! but for `number`.
//!
//! | module | what it owns | what it does not know |
//! |---|---|---|
//! | [`clock`] | stamps, the hybrid logical clock | a source of time |
//! | [`store`] | registers of every key, merge, ranges, expiry, collection, digests | clients, RESP, peers |
//! | [`link`] | members, version vectors, backlog, frames: who gets what | sockets, data |
//! | [`journal`] | the files of a data directory as entries, torn and damaged ones told apart | files, data |
//! | [`engine`] | sessions, locks, batches, blocking, pub/sub, replication; what a command is | sockets, clocks, files |
//! | [`command`] | one table entry and one function per command | how it is called |
//! | [`server`] | sockets, threads, timers, signals, files; the only tokio | what commands do |
//! | [`resp`] | requests, replies and patterns as text | anything else but numbers |
//! | [`number`] | numbers as text, by Redis's rules | anything else |
//! | [`config`] | directives in redis.conf's grammar | anything else |
//! | [`faults`] | bugs that tests plant, to see them found | anything else |
//!
//! # Invariants
//! - `merge` is the only mutation of a stored value; a write of this node takes the same path as a peer's.
//! - Nothing below `server` reads a clock, draws random bits, waits or does input or output; so whole nodes run
//!   inside the deterministic simulator of `tests/sim`.
//! - No await, system call or callback while a range is locked. Several ranges are locked in rising order.
//! - A stamp is taken under the lock of the range it is written in and of the thread's slot of the outbox, so what leaves
//!   the outbox is in stamp order and a watermark never claims what is not there.
//! - A vector is adopted when all it covers is merged, not before.
//! - What is acknowledged is in the journal, if there is one, and left for the partners.
//! - Absent on purpose: commands on the wire between nodes, forks, a global lock, `unsafe`.
//!
//! # Cost of a command
//! One read and one write of the socket per buffer. Per command: a table lookup by name, two hashes of the key, one
//! uncontended lock, one table lookup; no allocation but for the stored value. Per write with peers: one more copy
//! of the delta, encoded once for all of them; with a journal another copy and a checksum, and a share of a write to the file.

pub mod server;
pub mod command;
pub mod engine;
pub mod journal;
pub mod link;
pub mod store;
pub mod clock;
#[doc(hidden)]
pub mod faults;
pub mod config;
pub mod resp;
pub mod number;
