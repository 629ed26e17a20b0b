//! Meldis: a Redis/KeyDB-compatible, multi-master replicated in-memory key-value server.

pub mod server;
pub mod command;
pub mod engine;
pub mod link;
pub mod store;
pub mod clock;
#[doc(hidden)]
pub mod faults;
pub mod config;
pub mod resp;
