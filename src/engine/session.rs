//! What a connection is in the middle of: database, protocol, transaction, watched keys, subscriptions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use indexmap::IndexSet;

use super::client::{Client, ClientFlags};
use super::command::Command;
use super::pubsub::Scope;
use crate::resp::args::OwnedArgs;
use crate::resp::reply::Protocol;

/// A command that waits for EXEC.
#[derive(Debug)]
pub struct Queued {
    /// What it is.
    pub command: &'static Command,
    /// Its number; see [`Session::command_id`].
    pub id: u16,
    /// Its name and arguments.
    pub args: OwnedArgs,
}

/// Commands queued by MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    /// In order.
    pub queue: Vec<Queued>,
    /// A command was refused while queueing: EXEC will abort.
    pub aborted: bool,
    /// What the queue takes.
    pub bytes: usize,
}

/// A key under WATCH.
#[derive(Debug)]
pub struct Watch {
    /// Of which database.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
    /// Whether it existed then: if it does not at EXEC, it has expired.
    pub existed: bool,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    /// Every command is answered.
    #[default]
    On,
    /// None is.
    Off,
    /// The next one is not.
    SkipNext,
}

/// A connection's state. Owned by its task.
#[derive(Debug)]
pub struct Session {
    /// The part others see.
    pub client: Arc<Client>,
    /// The selected database.
    pub db: u32,
    /// The protocol spoken.
    pub protocol: Protocol,
    /// Whether the password was given, or none is needed.
    pub authenticated: bool,
    /// MULTI.
    pub transaction: Option<Transaction>,
    /// WATCH.
    pub watched: Vec<Watch>,
    /// Subscriptions per [`Scope`]. Changed by [`super::pubsub::Registry`] only.
    subscriptions: [IndexSet<Arc<[u8]>>; 3],
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// The number of the last command; see [`Registry`](super::registry::Registry).
    pub command_id: u16,
    /// Whether that command ran: it was neither refused nor queued.
    pub has_run: bool,
}

impl Session {
    /// A fresh connection, which has not authenticated.
    pub fn new(client: Arc<Client>) -> Self {
        Session {
            client,
            db: 0,
            protocol: Protocol::Resp2,
            authenticated: false,
            transaction: None,
            watched: Vec::new(),
            subscriptions: Default::default(),
            reply_mode: ReplyMode::On,
            command_id: u16::MAX,
            has_run: false,
        }
    }

    /// Begins MULTI.
    pub fn begin_transaction(&mut self) {
        self.transaction = Some(Transaction::default());
        self.client.set(ClientFlags::MULTI);
        self.client.queued.store(0, Ordering::Relaxed);
    }

    /// Ends MULTI, and gives up what it queued.
    pub fn end_transaction(&mut self) -> Option<Transaction> {
        self.client.unset(ClientFlags::MULTI);
        self.client.queued.store(u32::MAX, Ordering::Relaxed);
        self.transaction.take()
    }

    /// Whether a RESP2 connection may only change its subscriptions now.
    pub fn is_subscriber(&self) -> bool {
        self.subscriptions.iter().any(|names| !names.is_empty())
    }

    /// What it subscribed to: in order, until one is given up.
    pub fn subscriptions(&self, scope: Scope) -> &IndexSet<Arc<[u8]>> {
        &self.subscriptions[scope as usize]
    }

    pub(super) fn subscriptions_mut(&mut self, scope: Scope) -> &mut IndexSet<Arc<[u8]>> {
        &mut self.subscriptions[scope as usize]
    }
}
