//! The shell: sockets, threads, timers and signals. The only module that knows tokio.
//!
//! One current-thread runtime per `server-threads`. Thread 0 also accepts connections and deals them to the threads in
//! turn; a connection lives and dies on its thread. A connection's task does one read, runs every complete request in
//! the buffer, and does one write.

pub mod start;
pub mod shell;
pub mod disk;
pub mod identity;
pub mod journal;
pub mod members;
pub mod listener;
pub mod stream;
pub mod connection;
pub mod peer;
pub mod ticker;
pub mod process;
pub mod log;
pub mod time;

#[cfg(test)]
mod testing;
