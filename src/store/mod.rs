//! The keyspace: what is stored, and how deltas change it.
//!
//! Owns the registers of every key and the rule that merges them. Knows neither clients nor the protocol they
//! speak, neither sockets nor files; time and origin come in with each call.
//!
//! | module | what it owns |
//! |---|---|
//! | [`delta`] | deltas as data, list positions |
//! | [`entry`], [`key`], [`text`] | one key: its registers, their `merge`, and the same as deltas |
//! | [`counter`] | numbers that are added to: base and sums |
//! | [`hash`], [`list`], [`set`], [`zset`] (with [`ranked`]) | elements by type |
//! | [`shard`] | a range of the keyspace: table, expiry, collection, scan |
//! | [`digest`] | hashes that tell whether two nodes hold the same |

pub mod counter;
pub mod delta;
pub mod digest;
pub mod entry;
pub mod hash;
pub mod key;
pub mod list;
pub mod ranked;
pub mod set;
pub mod shard;
pub mod text;
pub mod zset;
