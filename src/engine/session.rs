//! What a connection is in the middle of: database, protocol, transaction, watched keys, subscriptions.

use std::sync::Arc;

use indexmap::IndexSet;

use super::client::Client;
use super::command::Command;
use super::pubsub::Scope;
use crate::resp::args::OwnedArgs;
use crate::resp::reply::Protocol;

/// Commands queued by MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    /// In order.
    pub queue: Vec<(&'static Command, OwnedArgs)>,
    /// A command was refused while queueing: EXEC will abort.
    pub aborted: bool,
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
    /// WATCH: keyspace and key.
    pub watched: Vec<(u32, Vec<u8>)>,
    /// Subscriptions per [`Scope`]. Changed by [`super::pubsub::Registry`] only.
    subscriptions: [IndexSet<Arc<[u8]>>; 3],
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
}

impl Session {
    /// A fresh connection.
    pub fn new(client: Arc<Client>, authenticated: bool) -> Self {
        Session {
            client,
            db: 0,
            protocol: Protocol::Resp2,
            authenticated,
            transaction: None,
            watched: Vec::new(),
            subscriptions: Default::default(),
            reply_mode: ReplyMode::On,
        }
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
