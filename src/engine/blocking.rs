//! Clients waiting for a key to get something: BLPOP and its kin.
//!
//! A blocked client leaves a [`Waiter`] with each of its keys, under the lock that showed there was nothing.
//! Whoever adds something to such a key serves the waiters before its batch is closed, by running the waiting
//! command on the client's behalf: so on its own node a push and the pop it serves travel as one batch, and a
//! partner's waiter does not see the item. What a partner adds serves this node's waiters the same way.
//!
//! Waiters of a key are served in the order in which they began to wait, each from the key that got something
//! though it may wait for others too, until the key is empty. What one is served may serve the next, as in a
//! chain of BLMOVE. A client that begins to pop between a push and the serving that follows may come first.
//!
//! # Who ends a wait
//! A waiter's [`Standing`] is locked inside the ranges of its keys, never around them: whoever serves a waiter
//! has its ranges and holds the standing until the answer is in it; CLIENT UNBLOCK only needs the standing, and so
//! may run inside a transaction. The client's own task takes the answer out, with [`Engine::end_wait`]; that ends the
//! wait in every case, also when the connection broke or the time is up. So an item is never taken for a client
//! whose wait has ended, and each wait ends in one of these ways exactly.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use smallvec::smallvec;

use super::call::{Blocking, Outcome};
use super::client::{Client, ClientFlags};
use super::command::{Command, Group};
use super::keyspace::{Keyspace, Locks};
use super::session::{ReplyMode, Session};
use super::{Engine, Flow};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::reply::{Protocol, Reply};
use crate::store::delta::{Change, Kind};

/// Where a waiter stands.
#[derive(PartialEq, Eq, Debug)]
enum Standing {
    /// In the queues of its keys.
    Waiting,
    /// Served: this is the reply.
    Served(Vec<u8>),
    /// Ended by CLIENT UNBLOCK.
    Unblocked(Unblock),
    /// The client's task has what it needs.
    Over,
}

/// How CLIENT UNBLOCK ends a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unblock {
    /// As if its time were up.
    Timeout,
    /// With an error.
    Error,
}

/// A client blocked in a command.
#[derive(Debug)]
pub struct Waiter {
    client: Arc<Client>,
    command: &'static Command,
    args: OwnedArgs,
    db: u32,
    protocol: Protocol,
    keys: Vec<Vec<u8>>,
    /// CLIENT REPLY: the client does not want to know.
    silent: bool,
    /// Unique, rising in the order in which clients began to wait for the same key.
    ticket: u64,
    standing: Mutex<Standing>,
}

impl Waiter {
    /// Whether there is nothing to tell the client yet.
    pub fn is_waiting(&self) -> bool {
        *self.standing.lock() == Standing::Waiting
    }
}

/// A command that found nothing and may wait.
#[derive(Debug)]
pub struct Block {
    /// For which keys of the selected database.
    pub keys: Vec<Vec<u8>>,
    /// Until when, in Unix milliseconds; `None` for ever.
    pub deadline_ms: Option<u64>,
}

/// The waiters for keys of one range.
#[derive(Debug, Default)]
pub struct Waiting(HashMap<Box<[u8]>, BTreeMap<(u32, u64), Arc<Waiter>>>);

impl Waiting {
    /// Whether nobody waits: the common case, checked at every write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody waits for the key.
    pub fn awaits(&self, db: u32, key: &[u8]) -> bool {
        self.0.get(key).is_some_and(|queue| queue.range((db, 0)..=(db, u64::MAX)).next().is_some())
    }

    /// The keys of a database somebody waits for, in no order.
    pub fn keys_of(&self, db: u32) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.0.keys().filter(move |key| self.awaits(db, key)).map(|key| key.to_vec())
    }

    /// The first behind a ticket that waits for a value of the type.
    fn next(&self, db: u32, key: &[u8], after: u64, kind: Kind) -> Option<Arc<Waiter>> {
        let mut queue = self.0.get(key)?.range((db, after + 1)..=(db, u64::MAX)).map(|(_, waiter)| waiter);
        queue.find(|waiter| awaited_kind(waiter.command) == Some(kind)).cloned()
    }

    fn add(&mut self, key: &[u8], waiter: &Arc<Waiter>) {
        self.0.entry(key.into()).or_default().insert((waiter.db, waiter.ticket), waiter.clone());
    }

    fn remove(&mut self, key: &[u8], waiter: &Waiter) {
        if let Some(queue) = self.0.get_mut(key) {
            queue.remove(&(waiter.db, waiter.ticket));
            if queue.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

fn awaited_kind(command: &Command) -> Option<Kind> {
    match command.group {
        Group::List => Some(Kind::List),
        Group::SortedSet => Some(Kind::Zset),
        _ => None,
    }
}

/// Whether a change may bring a key into being that a blocked client waits for. A change of the expiry may: a
/// partner's PERSIST may arrive when the key is dead already.
pub fn adds_something(change: &Change<'_>) -> bool {
    matches!(
        change,
        Change::Item(..)
            | Change::ItemValue(..)
            | Change::Score(..)
            | Change::ScoreSum(..)
            | Change::Expire(..)
    )
}

impl Engine {
    /// Has a client wait, under the locks that showed there is nothing for it.
    pub(super) fn begin_wait(
        &self,
        session: &Session,
        command: &'static Command,
        args: Args<'_>,
        keys: &mut Keyspace<'_>,
        block: Block,
    ) -> Flow {
        let waiter = Arc::new(Waiter {
            client: session.client.clone(),
            command,
            args: OwnedArgs::from_args(args),
            db: session.db,
            protocol: session.protocol,
            keys: block.keys,
            silent: session.reply_mode != ReplyMode::On,
            ticket: self.waits_begun.fetch_add(1, Ordering::Relaxed) + 1,
            standing: Mutex::new(Standing::Waiting),
        });
        for key in &waiter.keys {
            keys.cell_of(key).waiting.add(key, &waiter);
        }
        session.client.set(ClientFlags::BLOCKED);
        *session.client.waiter.lock() = Some(waiter.clone());
        Flow::Blocked(waiter, block.deadline_ms)
    }

    /// Runs the commands of clients waiting for a key that got something, until there is nothing left.
    pub(super) fn serve<'e>(&'e self, keys: &mut Keyspace<'e>, db: u32, key: &[u8]) {
        let mut after = 0;
        loop {
            keys.relock(|| Locks::of(self, &mut smallvec![self.hash(key).range()]));
            keys.select(db);
            let Some(kind) = keys.peek(key).map(|value| value.kind()) else { break };
            let Some(waiter) = keys.cell_of(key).waiting.next(db, key, after, kind) else { break };
            after = waiter.ticket;
            self.serve_one(keys, &waiter, key);
        }
        keys.unlock();
    }

    fn serve_one<'e>(&'e self, keys: &mut Keyspace<'e>, waiter: &Waiter, key: &[u8]) {
        let mut session = Session::new(waiter.client.clone(), true);
        (session.db, session.protocol) = (waiter.db, waiter.protocol);
        let args = waiter.args.args();
        keys.relock(|| self.lock_for(&session, waiter.command, args));
        let mut standing = waiter.standing.lock();
        if *standing != Standing::Waiting {
            return;
        }
        let mut out = Vec::new();
        let blocking = Blocking::Resumed(key);
        let (outcome, _) = self.call(&mut session, waiter.command, args, keys, &mut out, blocking);
        if matches!(outcome, Outcome::Block(_)) {
            return;
        }
        *standing = Standing::Served(out);
        drop(standing);
        for key in &waiter.keys {
            keys.cell_of(key).waiting.remove(key, waiter);
        }
        waiter.client.wake();
    }

    /// Ends the wait of a client, if it waits for keys: its task will answer it. Returns whether it did. Locks no
    /// range.
    pub fn unblock(&self, client: &Client, how: Unblock) -> bool {
        let Some(waiter) = client.waiter.lock().clone() else { return false };
        let mut standing = waiter.standing.lock();
        if *standing != Standing::Waiting {
            return false;
        }
        *standing = Standing::Unblocked(how);
        drop(standing);
        client.wake();
        true
    }

    /// Ends a wait and writes what the client is answered: what it was served, an error if it was unblocked so, or
    /// that its time is up. Called by the client's task, with nothing locked; again does nothing.
    pub fn end_wait(&self, waiter: &Waiter, out: &mut Vec<u8>) {
        let standing = std::mem::replace(&mut *waiter.standing.lock(), Standing::Over);
        if standing == Standing::Over {
            return;
        }
        if !matches!(standing, Standing::Served(_)) {
            for key in &waiter.keys {
                self.cell(self.hash(key).range()).lock().waiting.remove(key, waiter);
            }
        }
        *waiter.client.waiter.lock() = None;
        waiter.client.unset(ClientFlags::BLOCKED);
        if waiter.silent {
            return;
        }
        let mut reply = Reply::new(out, waiter.protocol);
        match standing {
            Standing::Served(answer) => reply.raw(&answer),
            Standing::Unblocked(Unblock::Error) => {
                reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK");
            }
            Standing::Waiting | Standing::Unblocked(Unblock::Timeout) | Standing::Over => reply.null_array(),
        }
    }
}
