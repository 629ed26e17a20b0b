//! Clients waiting for a key to get something: BLPOP and its kin.
//!
//! A blocked client leaves a [`Waiter`] with each of its keys, under the lock that showed there was nothing.
//! Whoever adds something to such a key serves the waiters before its batch is closed, by running the waiting
//! command on the client's behalf: so on its own node a push and the pop it serves travel as one batch, and a
//! partner's waiter does not see the item. What a partner adds serves this node's waiters the same way.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::client::Client;
use super::command::Command;
use crate::resp::args::OwnedArgs;
use crate::resp::reply::Protocol;
use crate::store::delta::Change;

/// Where a waiter stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaiterState {
    /// In the queues of its keys.
    Waiting,
    /// Its reply is in the client's mailbox.
    Served,
    /// Timed out, unblocked or disconnected.
    Gone,
}

/// What a client waits for when its time is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeoutReply {
    /// A null.
    Null,
    /// A null array.
    NullArray,
}

/// A client blocked in a command.
#[derive(Debug)]
pub struct Waiter {
    /// Who waits.
    pub client: Arc<Client>,
    /// In which command.
    pub command: &'static Command,
    /// With which arguments.
    pub args: OwnedArgs,
    /// In which database.
    pub db: u32,
    /// How to answer.
    pub protocol: Protocol,
    /// For which keys of that database.
    pub keys: Vec<Vec<u8>>,
    /// What to answer when time is up.
    pub timeout_reply: TimeoutReply,
    /// Held while it is being served.
    pub state: Mutex<WaiterState>,
}

/// A command that found nothing and may wait.
#[derive(Debug)]
pub struct Block {
    /// For which keys of the selected database.
    pub keys: Vec<Vec<u8>>,
    /// Until when, in Unix milliseconds; `None` for ever.
    pub deadline_ms: Option<u64>,
    /// What to answer then.
    pub timeout_reply: TimeoutReply,
}

/// The waiters of one range, in order of arrival per key.
#[derive(Debug, Default)]
pub struct Waiting(HashMap<(u32, Vec<u8>), VecDeque<Arc<Waiter>>>);

impl Waiting {
    /// Whether nobody waits: the common case, checked at every write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Queues a waiter behind others of the key.
    pub fn add(&mut self, space: u32, key: &[u8], waiter: Arc<Waiter>) {
        self.0.entry((space, key.to_vec())).or_default().push_back(waiter);
    }

    /// Whether somebody waits for the key.
    pub fn awaits(&self, space: u32, key: &[u8]) -> bool {
        !self.0.is_empty() && self.0.contains_key(&(space, key.to_vec()))
    }

    /// The waiter at a place in the key's queue.
    pub fn nth(&self, space: u32, key: &[u8], at: usize) -> Option<Arc<Waiter>> {
        self.0.get(&(space, key.to_vec()))?.get(at).cloned()
    }

    /// Has everyone wait for the same key of another keyspace; `target` says which and is one to one.
    pub fn follow(&mut self, target: impl Fn(u32) -> u32) {
        if !self.is_empty() {
            let queues = std::mem::take(&mut self.0);
            self.0 = queues.into_iter().map(|((space, key), queue)| ((target(space), key), queue)).collect();
        }
    }

    /// The keys of a keyspace somebody waits for.
    pub fn keys(&self, space: u32) -> impl Iterator<Item = &[u8]> {
        self.0.keys().filter(move |(held, _)| *held == space).map(|(_, key)| key.as_slice())
    }

    /// Takes a waiter out of the key's queue.
    pub fn remove(&mut self, space: u32, key: &[u8], waiter: &Arc<Waiter>) {
        let name = (space, key.to_vec());
        if let Some(queue) = self.0.get_mut(&name) {
            queue.retain(|held| !Arc::ptr_eq(held, waiter));
            if queue.is_empty() {
                self.0.remove(&name);
            }
        }
    }
}

/// Whether a change may be what a blocked client waits for.
pub fn adds_something(change: &Change<'_>) -> bool {
    matches!(change, Change::Item(..) | Change::Score(..) | Change::ScoreSum(..))
}
