//! A running command: its arguments, its keyspace, its client and its reply.

use super::Engine;
use super::blocking::{Block, TimeoutReply};
use super::keyspace::Keyspace;
use super::session::Session;
use crate::resp::args::Args;
use crate::resp::reply::Reply;

/// What happens after a command.
#[derive(Debug, Default)]
pub enum Outcome {
    /// The reply is written.
    #[default]
    Done,
    /// The reply is written; the connection closes behind it.
    Close,
    /// Nothing is written: the client waits for keys.
    Block(Block),
    /// Nothing is written: the client waits until `replicas` partners hold what this node has written.
    WaitReplicas {
        /// How many.
        replicas: usize,
        /// Until when, in Unix milliseconds; `None` for ever.
        deadline_ms: Option<u64>,
    },
    /// The reply is written; it is sent after so many milliseconds.
    Sleep(u64),
    /// The connection becomes a peer's link; what was sent behind the command belongs to it.
    Link,
    /// The server stops; see SHUTDOWN.
    Shutdown,
}

/// See the module's head.
pub struct Call<'a, 'e> {
    /// The server.
    pub engine: &'e Engine,
    /// The connection.
    pub session: &'a mut Session,
    /// The command's name and arguments.
    pub args: Args<'a>,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// The data.
    pub keys: &'a mut Keyspace<'e>,
    /// What happens afterwards.
    pub outcome: Outcome,
    /// Whether the command must not wait: inside MULTI.
    pub deny_blocking: bool,
    /// Values to be dropped once nothing is locked.
    pub garbage: Vec<crate::store::shard::Flushed>,
}

impl Call<'_, '_> {
    /// Has the client wait for keys, or answers as if its time were up where it must not wait.
    pub fn block(&mut self, keys: Vec<Vec<u8>>, deadline_ms: Option<u64>, timeout_reply: TimeoutReply) {
        if self.deny_blocking {
            match timeout_reply {
                TimeoutReply::Null => self.reply.null(),
                TimeoutReply::NullArray => self.reply.null_array(),
            }
            return;
        }
        self.outcome = Outcome::Block(Block { keys, deadline_ms, timeout_reply });
    }
}
