//! A running command: its arguments, its keyspace, its client and its reply.

use super::Engine;
use super::blocking::Block;
use super::facts::ProcessFacts;
use super::keyspace::Keyspace;
use super::session::Session;
use crate::link::vector::Vector;
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
    /// Nothing is written: the client waits for the links.
    Await {
        /// For what.
        awaited: Awaited,
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

/// What a client waits for that is not a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// So many partners hold what this node has written. Answers how many do.
    Replicas(usize),
    /// This node has all that the vector tells of. Answers 1, or 0 if it has not.
    Vector(Vector),
}

/// Whether a command may have its client wait for keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocking<'a> {
    /// It may.
    Allowed,
    /// Not inside MULTI or a script: there it answers at once.
    Denied,
    /// It has waited, and runs again because this key got something. It looks at no other.
    Resumed(&'a [u8]),
}

impl<'a> Blocking<'a> {
    /// The keys a command looks at, of those it may wait for: all, unless it has waited already.
    pub fn keys(self, keys: Args<'a>) -> impl Iterator<Item = &'a [u8]> {
        keys.iter().filter(move |key| match self {
            Blocking::Allowed | Blocking::Denied => true,
            Blocking::Resumed(ready) => ready == *key,
        })
    }
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
    /// Whether the client may wait.
    pub blocking: Blocking<'a>,
    /// Values to be dropped once nothing is locked.
    pub garbage: Vec<crate::store::shard::Flushed>,
}

impl Call<'_, '_> {
    /// Has `Engine::standing` tell of the partners as of now; not inside a transaction, where the mesh must not be locked.
    pub fn refresh_standing(&self) {
        if self.blocking == Blocking::Allowed {
            // What is written counts, though it may not have left yet.
            if self.engine.outbox.is_filled() {
                self.engine.sequence_now();
            }
            self.engine.refresh_standing(self.keys.now());
        }
    }

    /// The process as of now; inside a transaction, where ranges are locked and the system is not asked, as of the last
    /// second.
    pub fn facts(&self) -> ProcessFacts {
        let mut facts = self.engine.facts.read().clone();
        if let (Blocking::Allowed, Some(host)) = (self.blocking, self.engine.host.get()) {
            host.measure(&mut facts);
            let mut held = self.engine.facts.write();
            held.peak = held.peak.max(facts.peak);
        }
        facts
    }

    /// Has the client wait for keys, or answers a null array where it must not. The same answers one whose time is up.
    pub fn block(&mut self, keys: Args<'_>, deadline_ms: Option<u64>) {
        match self.blocking {
            Blocking::Denied => self.reply.null_array(),
            Blocking::Allowed | Blocking::Resumed(_) => {
                let keys = keys.iter().map(<[u8]>::to_vec).collect();
                self.outcome = Outcome::Block(Block { keys, deadline_ms });
            }
        }
    }
}
