//! The shell: sockets, threads, timers and signals. The only module that knows tokio.
//!
//! One current-thread runtime per `server-threads`, each with a listener of its own on the same port
//! (`SO_REUSEPORT`), so a connection lives and dies on one thread. A connection's task does one read, runs every
//! complete request in the buffer, and does one write.

pub mod connection;
pub mod listener;
pub mod peer;
pub mod start;
pub mod time;
