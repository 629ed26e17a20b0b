//! Links: how deltas travel between nodes. Plain state machines; bytes are moved by the shell.
//!
//! | module | what it owns |
//! |---|---|
//! | [`mesh`] | members, links, who gets what, pulls |
//! | [`backlog`] | batches kept for peers |
//! | [`vector`] | what a node has of every origin |
//! | [`outbox`] | batches of this node on their way into sequence |
//! | [`batch`] | the writes of one command as bytes |
//! | [`frame`] | what peers say to each other as bytes |
//! | [`codec`] | bincode |

pub mod mesh;
pub mod backlog;
pub mod vector;
pub mod outbox;
pub mod batch;
pub mod frame;
pub mod codec;
