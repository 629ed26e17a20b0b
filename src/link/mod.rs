//! Links: how deltas travel between nodes.
//!
//! | module | what it owns |
//! |---|---|
//! | [`codec`] | bincode |
//! | [`batch`] | the writes of one command as bytes |
//! | [`outbox`] | batches of this node on their way into sequence |

pub mod codec;
pub mod batch;
pub mod outbox;
