//! Meldis: a Redis/KeyDB-compatible, multi-master replicated in-memory key-value server.

pub mod clock;
pub mod resp;
pub mod store;
pub mod link;
pub mod engine;
pub mod config;
