//! Meldis: a Redis/KeyDB-compatible, multi-master replicated in-memory key-value server.

pub mod config;
pub mod resp;
