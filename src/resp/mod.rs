//! The Redis serialization protocol as bytes: requests in, replies out, and the rules by which Redis reads
//! patterns inside them.
//!
//! Stands alone: nothing here knows a command, a key or a socket, and of the crate only `number` is used.
//! Input comes from clients, so no byte sequence panics, recurses, or makes a parser allocate by a number
//! that was only announced.
//!
//! Cost of a command in steady state: its arguments are spans of the read buffer (no copy, no allocation),
//! its reply is appended to the write buffer in place.
pub mod request;
pub mod args;
pub mod inline;
pub mod reply;
pub mod glob;
