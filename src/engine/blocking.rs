//! Clients waiting for a key to get something: BLPOP and its kin.
//!
//! A blocked client leaves a [`Waiter`] with each of its keys, under the lock that showed there was nothing.
//! Whoever adds something to such a key serves the waiters before its batch is closed, by running the waiting
//! command on the client's behalf: so on its own node a push and the pop it serves travel as one batch, and a
//! partner's waiter does not see the item. What a partner adds serves this node's waiters the same way.
//!
//! Waiters of a key are served in the order in which they began to wait, each from the key that got something
//! though it may wait for others too, until the key is empty. What one is served may serve the next, as in a
//! chain of BLMOVE. Serving may need other ranges than the push, so it locks anew; a command of another thread that
//! comes in between lets go of its ranges again until the waiters have been served (`Engine::lock_in_turn`).
//!
//! # Who ends a wait
//! A waiter's `Standing` is locked inside the ranges of its keys, never around them: whoever serves a waiter
//! has its ranges and holds the standing until the answer is in it; CLIENT UNBLOCK only needs the standing, and so
//! may run inside a transaction. The client's own task takes the answer out, with [`Engine::end_wait`]; that ends the
//! wait in every case, also when the connection broke or the time is up. So an item is never taken for a client
//! whose wait has ended, and each wait ends in one of these ways exactly.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use smallvec::smallvec;

use super::Engine;
use super::call::{Blocking, Outcome};
use super::client::{Client, ClientFlags};
use super::command::{Command, Group};
use super::error::Error;
use super::keyspace::{Keyspace, Locks};
use super::session::{ReplyMode, Session};
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::reply::{Protocol, Reply};
use crate::store::delta::{Change, Kind};

/// How often a command lets waiters come first: far beyond what serving takes. After that it runs out of turn.
const TURNS_MAX: usize = 100_000;

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
    /// Because this node follows a primary now, and takes no writes.
    Follows,
}

/// A client blocked in a command.
#[derive(Debug)]
pub struct Waiter {
    client: Arc<Client>,
    command: &'static Command,
    command_id: u16,
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
pub struct Waiting {
    queues: HashMap<Box<[u8]>, Queue>,
    /// How many keys have got something, whose waiters are yet to be served.
    serving: usize,
}

/// The waiters for a key, by database and ticket.
type Queue = BTreeMap<(u32, u64), Arc<Waiter>>;

impl Waiting {
    /// Whether nobody waits: the common case, checked at every write.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether a key has got something and its waiters are still being served: they come before any other command.
    pub fn is_served(&self) -> bool {
        self.serving > 0
    }

    /// A key has got something: [`Engine::serve`] follows.
    pub(super) fn begin_serving(&mut self) {
        self.serving += 1;
    }

    /// Whether somebody waits for the key.
    pub fn awaits(&self, db: u32, key: &[u8]) -> bool {
        self.queues.get(key).is_some_and(|queue| queue.range((db, 0)..=(db, u64::MAX)).next().is_some())
    }

    /// The keys of a database somebody waits for, in no order.
    pub fn keys_of(&self, db: u32) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.queues.keys().filter(move |key| self.awaits(db, key)).map(|key| key.to_vec())
    }

    /// The first behind a ticket that waits for a value of the type.
    fn next(&self, db: u32, key: &[u8], after: u64, kind: Kind) -> Option<Arc<Waiter>> {
        let mut queue =
            self.queues.get(key)?.range((db, after + 1)..=(db, u64::MAX)).map(|(_, waiter)| waiter);
        queue.find(|waiter| awaited_kind(waiter.command) == Some(kind)).cloned()
    }

    fn add(&mut self, key: &[u8], waiter: &Arc<Waiter>) {
        self.queues.entry(key.into()).or_default().insert((waiter.db, waiter.ticket), waiter.clone());
    }

    fn remove(&mut self, key: &[u8], waiter: &Waiter) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.remove(&(waiter.db, waiter.ticket));
            if queue.is_empty() {
                self.queues.remove(key);
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
    /// Has a client wait for keys, under the locks that showed there is nothing for it; WAIT waits for none.
    pub(super) fn begin_wait(
        &self,
        session: &Session,
        command: &'static Command,
        args: Args<'_>,
        keys: &mut Keyspace<'_>,
        awaited: Vec<Vec<u8>>,
    ) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            client: session.client.clone(),
            command,
            command_id: session.command_id,
            args: OwnedArgs::from_args(args),
            db: session.db,
            protocol: session.protocol,
            keys: awaited,
            silent: session.reply_mode != ReplyMode::On,
            ticket: self.waits_begun.fetch_add(1, Ordering::Relaxed) + 1,
            standing: Mutex::new(Standing::Waiting),
        });
        for key in &waiter.keys {
            keys.cell_of(key).waiting.add(key, &waiter);
        }
        session.client.set(ClientFlags::BLOCKED);
        *session.client.waiter.lock() = Some(waiter.clone());
        waiter
    }

    /// Locks like [`Engine::lock_for`], but behind clients that waited for what a key of these ranges has just got.
    pub(super) fn lock_in_turn(&self, session: &Session, command: &Command, args: Args<'_>) -> Locks<'_> {
        for _ in 0..TURNS_MAX {
            let locks = self.lock_for(session, command, args);
            if !locks.any_is_served() {
                return locks;
            }
            drop(locks);
            std::thread::yield_now();
        }
        self.lock_for(session, command, args)
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
        keys.cell_of(key).waiting.serving -= 1;
        keys.unlock();
    }

    fn serve_one<'e>(&'e self, keys: &mut Keyspace<'e>, waiter: &Waiter, key: &[u8]) {
        let mut session = Session::new(waiter.client.clone());
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

    /// Ends the wait of a client, if it waits: its task will answer it. Returns whether it did. Locks no
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
    /// `in_vain` if its time is up. Called by the client's task, with nothing locked; again does nothing. Returns whether
    /// it was served: what that wrote is then on its way to the outbox, of whatever thread.
    pub fn end_wait(
        &self,
        waiter: &Waiter,
        out: &mut Vec<u8>,
        thread: usize,
        in_vain: impl FnOnce(&mut Reply<'_>),
    ) -> bool {
        let standing = std::mem::replace(&mut *waiter.standing.lock(), Standing::Over);
        if standing == Standing::Over {
            return false;
        }
        let served = matches!(standing, Standing::Served(_));
        if !served {
            for key in &waiter.keys {
                self.cell(self.hash(key).range()).lock().waiting.remove(key, waiter);
            }
        }
        *waiter.client.waiter.lock() = None;
        waiter.client.unset(ClientFlags::BLOCKED);
        if waiter.silent {
            return served;
        }
        // Whoever is unblocked by others has failed, as Redis counts, though the answer be that of a timeout.
        if matches!(standing, Standing::Unblocked(_)) {
            self.command_stats.failed(thread, waiter.command_id);
        }
        let mut reply = Reply::new(out, waiter.protocol);
        let error = match standing {
            Standing::Served(answer) => {
                reply.raw(&answer);
                return served;
            }
            Standing::Waiting | Standing::Unblocked(Unblock::Timeout) | Standing::Over => {
                in_vain(&mut reply);
                return served;
            }
            Standing::Unblocked(Unblock::Error) => "UNBLOCKED client unblocked via CLIENT UNBLOCK",
            Standing::Unblocked(Unblock::Follows) => {
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
            }
        };
        self.reply_error(waiter.protocol, out, thread, &Error::new(error));
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{NTP64, NodeId, Origin};
    use crate::command::TABLES;
    use crate::config::Config;
    use crate::engine::execution::Flow;
    use crate::engine::testing::merge_batches;
    use crate::engine::{Now, Seeds};
    use crate::link::outbox::Drained;

    /// A server with as many clients as are named.
    struct Server {
        engine: Engine,
        clients: Vec<(&'static str, Session, Option<Arc<Waiter>>)>,
    }

    const NOW: Now = Now { unix_ms: 1_700_000_000_000, ntp: NTP64(1_700_000_000 << 32) };

    impl Server {
        fn new(node: u64) -> Self {
            let origin = Origin::new(NodeId::new(node << 24), 1);
            let engine = Engine::new(origin, NTP64(0), 1, Seeds([1, 2, 3, 4]), Config::default(), TABLES);
            Server { engine, clients: Vec::new() }
        }

        fn replicating(node: u64) -> Self {
            let server = Self::new(node);
            server.engine.start_replicating();
            server
        }

        fn client(&mut self, name: &'static str) -> usize {
            self.clients.iter().position(|(held, ..)| *held == name).unwrap_or_else(|| {
                let session = self.engine.connect(name.into(), "server".into(), NOW, 0);
                self.clients.push((name, session, None));
                self.clients.len() - 1
            })
        }

        /// What a client is answered, or `waits`.
        fn ask(&mut self, name: &'static str, command: &str) -> String {
            let index = self.client(name);
            let (_, session, waiter) = &mut self.clients[index];
            let args: OwnedArgs = command.split(' ').collect();
            let mut out = Vec::new();
            match self.engine.execute(session, args.args(), &mut out, NOW, 0) {
                Flow::Blocked(blocked, _) => *waiter = Some(blocked),
                flow => assert!(matches!(flow, Flow::Continue), "{flow:?}"),
            }
            if waiter.is_some() { self.answer(name) } else { text(&out) }
        }

        /// What a client that waited is answered.
        fn answer(&mut self, name: &'static str) -> String {
            let index = self.client(name);
            match &self.clients[index].2 {
                Some(waiter) if waiter.is_waiting() => "waits".into(),
                _ => self.end(name),
            }
        }

        /// Has the client's task end its wait.
        fn end(&mut self, name: &'static str) -> String {
            let index = self.client(name);
            let waiter = self.clients[index].2.take().expect("the client has waited");
            let mut out = Vec::new();
            self.engine.end_wait(&waiter, &mut out, 0, |reply| reply.null_array());
            let answer = text(&out);
            out.clear();
            self.engine.end_wait(&waiter, &mut out, 0, |reply| reply.null_array());
            assert!(out.is_empty(), "a wait ends once");
            assert!(!waiter.client.flags().contains(ClientFlags::BLOCKED));
            answer
        }

        fn unblock(&mut self, name: &'static str, how: Unblock) -> bool {
            let index = self.client(name);
            self.engine.unblock(&self.clients[index].1.client, how)
        }

        #[track_caller]
        fn check(&mut self, name: &'static str, command: &str, expected: &str) {
            assert_eq!(self.ask(name, command), expected, "{name}: {command}");
        }

        #[track_caller]
        fn check_answers(&mut self, expected: &[(&'static str, &str)]) {
            for (name, answer) in expected {
                assert_eq!(self.answer(name), *answer, "{name}");
            }
        }

        fn tell(&self, peer: &Server) -> u64 {
            let mut drained = Drained::default();
            self.engine.outbox.drain(&self.engine.clock, &mut drained);
            merge_batches(&peer.engine, self.engine.clock.origin(), &drained.bytes, NOW);
            drained.count
        }

        fn is_quiet(&self) -> bool {
            (0..crate::store::shard::RANGES).all(|range| self.engine.cell(range).lock().waiting.is_empty())
        }
    }

    fn text(out: &[u8]) -> String {
        String::from_utf8_lossy(out).trim_end().replace("\r\n", " ")
    }

    #[test]
    fn waiters_are_served_in_the_order_in_which_they_came() {
        let mut server = Server::new(1);
        server.check("first", "BLPOP l 0", "waits");
        server.check("second", "BRPOP l k 0", "waits");
        server.check("third", "BLMPOP 0 2 k l LEFT COUNT 2", "waits");
        server.check("fourth", "BLPOP l 0", "waits");
        server.check("pusher", "RPUSH l 1 2 3 4", ":4");
        server.check_answers(&[
            ("first", "*2 $1 l $1 1"),
            ("second", "*2 $1 l $1 4"),
            ("third", "*2 $1 l *2 $1 2 $1 3"),
            ("fourth", "waits"),
        ]);
        server.check("pusher", "LLEN l", ":0");
        assert_eq!(server.end("fourth"), "*-1");
        assert!(server.is_quiet());
    }

    #[test]
    fn what_one_is_served_may_serve_the_next() {
        let mut server = Server::new(1);
        server.check("last", "BLPOP c 0", "waits");
        server.check("second", "BLMOVE b c LEFT RIGHT 0", "waits");
        server.check("first", "BRPOPLPUSH a b 0", "waits");
        server.check("pusher", "LPUSH a v", ":1");
        server.check_answers(&[("first", "$1 v"), ("second", "$1 v"), ("last", "*2 $1 c $1 v")]);
        server.check("first", "BLMOVE a b LEFT LEFT 0", "waits");
        server.check("second", "BLMOVE b a LEFT LEFT 0", "waits");
        server.check("pusher", "LPUSH a v", ":1");
        server.check_answers(&[("first", "$1 v"), ("second", "$1 v")]);
        server.check("pusher", "LRANGE a 0 -1", "*1 $1 v");
        assert!(server.is_quiet());
    }

    #[test]
    fn a_wait_for_several_keys_is_served_from_the_one_that_got_something() {
        let mut server = Server::new(1);
        server.check("waiting", "BLPOP a b 0", "waits");
        server.check("pusher", "SET a text", "+OK");
        server.check("pusher", "SADD b member", ":1");
        server.check_answers(&[("waiting", "waits")]);
        server.check("pusher", "SREM b member", ":1");
        server.check("pusher", "RPUSH b v", ":1");
        server.check_answers(&[("waiting", "*2 $1 b $1 v")]);
        assert!(server.is_quiet());
    }

    #[test]
    fn waiters_for_another_type_are_passed_over() {
        let mut server = Server::new(1);
        server.check("list", "BLPOP k 0", "waits");
        server.check("zset", "BZPOPMIN k 0", "waits");
        server.check("pusher", "ZADD k 1 m", ":1");
        server.check_answers(&[("list", "waits"), ("zset", "*3 $1 k $1 m $1 1")]);
        server.check("pusher", "RPUSH k v", ":1");
        server.check_answers(&[("list", "*2 $1 k $1 v")]);
    }

    #[test]
    fn a_target_of_the_wrong_type_is_told_to_the_waiter_and_the_next_is_served() {
        let mut server = Server::new(1);
        server.check("moves", "BLMOVE l text LEFT LEFT 0", "waits");
        server.check("pops", "BLPOP l 0", "waits");
        server.check("pusher", "SET text v", "+OK");
        server.check("pusher", "RPUSH l v", ":1");
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        server.check_answers(&[("moves", wrong), ("pops", "*2 $1 l $1 v")]);
    }

    #[test]
    fn nothing_is_taken_for_a_client_whose_wait_has_ended() {
        let mut server = Server::new(1);
        server.check("gone", "BLPOP l m 0", "waits");
        assert_eq!(server.end("gone"), "*-1");
        for (how, answer) in
            [(Unblock::Timeout, "*-1"), (Unblock::Error, "-UNBLOCKED client unblocked via CLIENT UNBLOCK")]
        {
            server.check("waiting", "BLPOP l 0", "waits");
            assert!(server.unblock("waiting", how));
            assert!(!server.unblock("waiting", how), "it is unblocked already");
            server.check("pusher", "RPUSH l v", ":1");
            server.check("pusher", "LPOP l", "$1 v");
            server.check_answers(&[("waiting", answer)]);
        }
        server.check("served", "BLPOP l 0", "waits");
        server.check("pusher", "RPUSH l v", ":1");
        assert!(!server.unblock("served", Unblock::Error), "it is served already");
        server.check_answers(&[("served", "*2 $1 l $1 v")]);
        assert!(!server.unblock("served", Unblock::Error), "it does not wait");
        assert!(server.is_quiet());
    }

    #[test]
    fn a_push_travels_with_the_pop_it_serves() {
        let (mut a, mut b) = (Server::replicating(1), Server::replicating(2));
        a.check("waiting", "BLPOP l 0", "waits");
        b.check("waiting", "BLPOP l 0", "waits");
        a.check("pusher", "RPUSH l job", ":1");
        assert_eq!(a.tell(&b), 1, "one batch");
        a.check_answers(&[("waiting", "*2 $1 l $3 job")]);
        b.check_answers(&[("waiting", "waits")]);
        a.check("pusher", "RPUSH l more", ":1");
        a.tell(&b);
        b.check_answers(&[("waiting", "*2 $1 l $4 more")]);
        a.check("pusher", "LLEN l", ":1");
        b.tell(&a);
        a.check("pusher", "LLEN l", ":0");
    }

    /// Runs commands as EXEC does: under one set of locks, as one batch.
    fn execute_all(server: &mut Server, commands: &[&str]) -> String {
        let (engine, client) = (&server.engine, server.clients[0].1.client.clone());
        let mut keys = Keyspace::new(engine, Locks::all(engine), 0, NOW, 0);
        let (mut session, mut out) = (Session::new(client), Vec::new());
        for command in commands {
            let args: OwnedArgs = command.split(' ').collect();
            let found = engine.find(&args.args()[0]).expect("the command exists");
            keys.next_command();
            let (outcome, _) =
                engine.call(&mut session, found, args.args(), &mut keys, &mut out, Blocking::Denied);
            assert!(matches!(outcome, Outcome::Done));
        }
        engine.conclude(keys, 0);
        text(&out)
    }

    #[test]
    fn a_transaction_serves_when_it_ends_the_first_key_first() {
        let mut server = Server::new(1);
        server.check("waiting", "BLPOP a b 0", "waits");
        assert_eq!(
            execute_all(&mut server, &["LPUSH b 1", "LPUSH b 2", "LPOP b", "LPUSH a 3"]),
            ":1 :2 $1 2 :1"
        );
        server.check_answers(&[("waiting", "*2 $1 b $1 1")]);
        server.check("pusher", "LPOP a", "$1 3");
        server.check("waiting", "BLPOP a 0", "waits");
        assert_eq!(execute_all(&mut server, &["LPUSH a 1", "LTRIM a 1 0"]), ":1 +OK");
        server.check_answers(&[("waiting", "waits")]);
    }

    #[test]
    fn a_transaction_does_not_wait() {
        let mut server = Server::new(1);
        server.check("client", "LLEN a", ":0");
        let commands =
            ["BLPOP a 0", "BLMPOP 0 1 a LEFT", "BLMOVE a b LEFT LEFT 0", "BRPOPLPUSH a b 0", "BZPOPMIN a 0"];
        assert_eq!(execute_all(&mut server, &commands), "*-1 *-1 $-1 $-1 *-1");
        assert!(server.is_quiet());
    }

    #[test]
    fn no_other_thread_pops_between_a_push_and_those_who_waited_for_it() {
        let mut server = Server::new(1);
        for pop in ["LPOP l", "BLPOP l 0", "LMOVE l other LEFT LEFT"] {
            server.check("first", "BLMOVE l taken LEFT LEFT 0", "waits");
            let engine = &server.engine;
            let mut keys = Keyspace::new(engine, Locks::all(engine), 0, NOW, 0);
            let (mut session, mut out) = (Session::new(server.clients[0].1.client.clone()), Vec::new());
            let args: OwnedArgs = "RPUSH l v".split(' ').collect();
            let push = engine.find(b"rpush").expect("the command exists");
            engine.call(&mut session, push, args.args(), &mut keys, &mut out, Blocking::Denied);
            keys.unlock();
            let mut other = engine.connect("thief".into(), "server".into(), NOW, 0);
            let begun = std::sync::Barrier::new(2);
            let stolen = std::thread::scope(|scope| {
                let thief = scope.spawn(|| {
                    let (args, mut out): (OwnedArgs, _) = (pop.split(' ').collect(), Vec::new());
                    begun.wait();
                    let flow = engine.execute(&mut other, args.args(), &mut out, NOW, 0);
                    if let Flow::Blocked(waiter, _) = &flow {
                        engine.end_wait(waiter, &mut out, 0, |reply| reply.null_array());
                    }
                    text(&out)
                });
                begun.wait();
                // It has a chance to be first. Not a long one: on a busy machine it may come to what it gives up after.
                for _ in 0..TURNS_MAX / 10_000 {
                    std::thread::yield_now();
                }
                engine.conclude(keys, 0);
                thief.join().expect("the other thread's command ends")
            });
            assert!(stolen.ends_with("-1"), "{pop}: {stolen}");
            server.check_answers(&[("first", "$1 v")]);
        }
        server.check("first", "LLEN taken", ":3");
        assert!(server.is_quiet());
        assert!((0..crate::store::shard::RANGES).all(|r| !server.engine.cell(r).lock().waiting.is_served()));
    }

    #[test]
    fn a_copied_list_serves_like_a_pushed_one() {
        let mut server = Server::new(1);
        server.check("pusher", "RPUSH source 1 2", ":2");
        server.check("waiting", "BLPOP l 0", "waits");
        let mut keys = Keyspace::new(&server.engine, Locks::all(&server.engine), 0, NOW, 0);
        keys.copy(b"source", 0, b"l");
        server.engine.conclude(keys, 0);
        server.check_answers(&[("waiting", "*2 $1 l $1 1")]);
        server.check("pusher", "LRANGE l 0 -1", "*1 $1 2");
    }

    #[test]
    fn a_database_that_takes_anothers_place_serves_who_waits_there() {
        let mut server = Server::new(1);
        server.check("waiting", "BLPOP l 0", "waits");
        let pusher = server.client("pusher");
        server.clients[pusher].1.db = 1;
        server.check("pusher", "RPUSH l v", ":1");
        server.check_answers(&[("waiting", "waits")]);
        server.check("swapping", "SWAPDB 0 1", "+OK");
        server.check_answers(&[("waiting", "*2 $1 l $1 v")]);
    }
}
