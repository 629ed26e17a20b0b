//! The server without sockets: commands in, replies out, deltas in and out.
//!
//! [`Engine::execute`] runs one request of one session to its end, on the caller's thread: look the command up,
//! check what the session may do, lock the ranges of its keys, run it, serve clients that waited for what it added,
//! close its batch. [`Engine::merge_batch`] does the same for a batch of a peer. Nothing here reads a clock,
//! draws random bits, waits, or touches network or disk: time and thread come in with each call.
//!
//! # Locks
//! A thread holds at most: ranges in rising order, and its own slot of the outbox from its first write to the end of
//! the batch. Whoever sequences holds the mesh, then slots, never ranges; nobody asks for the mesh under a range. Where a waiter stands is locked inside ranges. Registries (clients, channels) are leaves.
//!
//! # Cost of a command
//! Lookup by name, one or two hashes of the key, one uncontended lock per range, the command's own work.

pub mod allowlist;
pub mod blocking;
pub mod call;
pub mod client;
pub mod cluster;
pub mod command;
pub mod databases;
pub mod error;
pub mod registry;
pub mod keyspace;
pub mod notify;
mod ownership;
pub mod pubsub;
mod planted;
pub mod ranges;
pub mod registers;
pub mod replication;
pub mod session;
pub mod stats;
pub mod command_stats;
pub mod monitor;
pub mod slowlog;
pub mod latency;
pub mod limits;
pub mod pause;
pub mod facts;
pub mod standing;
pub mod host;
mod step_back;
mod upkeep;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::clock::{Clock, NTP64, Origin};
use crate::config::{Access, Caller, Config};
use crate::faults::Faults;
use crate::link::mesh::Mesh;
use crate::link::outbox::Outbox;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::reply::{Protocol, Reply};
use crate::store::delta::Change;
use crate::store::shard::{KeyHash, RANGES, Shard, ShardContext};
use allowlist::{Admission, Allowlist};
use blocking::{Waiter, Waiting};
use call::{Blocking, Call, Outcome};
use client::{Client, ClientFlags};
use cluster::Topology;
use command::{Command, Flags, Group};
use command_stats::CommandStats;
use databases::{Databases, Moved};
use error::Error;
use facts::ProcessFacts;
use host::Host;
use keyspace::{Keyspace, Locks};
use latency::Latency;
use limits::Limits;
use monitor::Monitors;
use notify::{Event, EventClass};
use pause::{Pause, Paused};
use pubsub::Scope;
use registry::{Known, Registry};
use session::{Queued, ReplyMode, Session, Watch};
use slowlog::SlowLog;
use standing::Standing;
use stats::Stats;

/// The current time, read once per read buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The same instant for stamps.
    pub ntp: NTP64,
}

impl Now {
    /// A point in time.
    pub fn from_unix_ns(ns: u128) -> Self {
        Now { unix_ms: crate::clock::narrowed(ns) / 1_000_000, ntp: crate::clock::ntp_from_unix_ns(ns) }
    }

    /// Microseconds since the Unix epoch.
    pub fn unix_us(self) -> u64 {
        let (seconds, fraction) = (self.ntp.0 >> 32, self.ntp.0 & 0xFFFF_FFFF);
        seconds * 1_000_000 + ((fraction * 1_000_000) >> 32)
    }
}

/// Bits for hashing and identities, drawn by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Seeds(pub [u64; 4]);

/// Codes beyond so many are not counted apart: scripts may make up any.
pub const ERROR_CODES_MAX: usize = 128;

/// One range with all that is kept under its lock.
#[derive(Debug, Default)]
pub struct Cell {
    /// The data.
    pub shard: Shard,
    /// Who waits for a key.
    pub waiting: Waiting,
    /// Who watches a key.
    watched: std::collections::HashMap<(u32, Vec<u8>), Vec<Arc<Client>>>,
}

impl Cell {
    /// Lets EXEC of the client fail once the key changes.
    pub fn watch(&mut self, space: u32, key: &[u8], client: &Arc<Client>) {
        self.watched.entry((space, key.to_vec())).or_default().push(client.clone());
    }

    /// Ends [`Self::watch`].
    pub fn unwatch(&mut self, space: u32, key: &[u8], client: &Arc<Client>) {
        let name = (space, key.to_vec());
        if let Some(clients) = self.watched.get_mut(&name) {
            clients.retain(|held| !Arc::ptr_eq(held, client));
            if clients.is_empty() {
                self.watched.remove(&name);
            }
        }
    }

    fn touch_key(&self, space: u32, key: &[u8]) {
        if self.watched.is_empty() {
            return;
        }
        for client in self.watched.get(&(space, key.to_vec())).into_iter().flatten() {
            client.set(ClientFlags::DIRTY);
        }
    }

    /// Has every EXEC fail that watches one of these keys.
    fn touch_keys(&self, is_touched: impl Fn(u32, &[u8]) -> bool) {
        for ((space, key), clients) in &self.watched {
            if is_touched(*space, key) {
                clients.iter().for_each(|client| client.set(ClientFlags::DIRTY));
            }
        }
    }

    /// Has clients watch the same keys of the same databases, which now show other keyspaces.
    fn follow(&mut self, moved: &[Moved]) {
        let target = |space| moved.iter().find(|moved| moved.from == space).map_or(space, |moved| moved.to);
        if !self.watched.is_empty() {
            let watched = std::mem::take(&mut self.watched);
            self.watched =
                watched.into_iter().map(|((space, key), clients)| ((target(space), key), clients)).collect();
        }
    }

    fn is_awaited(&self, db: u32, key: &[u8], change: &Change<'_>) -> bool {
        !self.waiting.is_empty() && blocking::adds_something(change) && self.waiting.awaits(db, key)
    }
}

#[derive(Default)]
#[repr(align(128))]
struct PaddedCell(Mutex<Cell>);

/// What a queued argument takes beyond its bytes.
const QUEUED_ARG_BYTES: usize = 8;

/// What a connection does after a request.
#[derive(Debug)]
pub enum Flow {
    /// Go on with the next request.
    Continue,
    /// Close once the reply is sent.
    Close,
    /// Wait for the waiter to be served, at most until the deadline in Unix milliseconds; then [`Engine::end_wait`].
    Blocked(Arc<Waiter>, Option<u64>),
    /// Wait for partners; see [`Outcome::WaitReplicas`]. Then [`Engine::end_wait`].
    WaitReplicas {
        /// Tells when the wait is ended by others.
        waiter: Arc<Waiter>,
        /// How many.
        replicas: usize,
        /// Until when, in Unix milliseconds.
        deadline_ms: Option<u64>,
    },
    /// Wait so many milliseconds, then send the reply.
    Sleep(u64),
    /// Nothing was done: give the same request again once CLIENT PAUSE is over.
    Paused,
    /// Hand the connection to the link layer.
    Link,
    /// Stop the server.
    Shutdown,
}

/// The server's state. Shared by all threads.
pub struct Engine {
    cells: Box<[PaddedCell]>,
    hasher: ahash::RandomState,
    /// Issues the stamps of this node.
    pub clock: Clock,
    /// Which keyspace stands behind each database.
    pub databases: Databases,
    /// Nothing stamped at or below this time can arrive any more.
    stable: AtomicU64,
    /// Peers are known: writes go to the outbox, removals leave tombstones.
    replicating: AtomicBool,
    /// Peers are configured or were met: amounts are kept per origin.
    active: AtomicBool,
    /// Follows a primary: no client may write.
    follower: AtomicBool,
    /// When the links were first looked after, in Unix milliseconds.
    first_tick_ms: AtomicU64,
    /// The life this node begins once the primary it is to follow has accepted it: what it holds goes then. A leaf among
    /// the locks.
    next_life: Mutex<Option<Origin>>,
    /// Too few partners and replicas are linked to take writes: `min-replicas-to-write`.
    lacks_replicas: AtomicBool,
    /// The link is down, and nothing is to be answered meanwhile: `replica-serve-stale-data no`.
    is_stale: AtomicBool,
    /// Bytes that came over links since the start or CONFIG RESETSTAT.
    pub link_input_bytes: AtomicU64,
    /// Bytes sent over links, likewise.
    pub link_output_bytes: AtomicU64,
    /// Batches on their way into sequence.
    pub outbox: Outbox,
    stats: Box<[Stats]>,
    /// Commands by name.
    pub registry: Registry,
    /// The configuration.
    pub config: RwLock<Config>,
    /// The password; empty if none is needed.
    pub password: RwLock<Vec<u8>>,
    notify: AtomicU32,
    /// Open connections.
    pub clients: DashMap<u64, Arc<Client>>,
    next_client_id: AtomicU64,
    /// What of the configuration every connection needs.
    pub limits: Arc<Limits>,
    /// What commands cost.
    pub command_stats: CommandStats,
    /// Error replies by their code; at most [`ERROR_CODES_MAX`] codes.
    pub error_stats: Mutex<BTreeMap<String, u64>>,
    /// Who watches.
    pub monitors: Monitors,
    /// Slow commands.
    pub slowlog: Mutex<SlowLog>,
    /// Latency spikes.
    pub latency: Mutex<Latency>,
    /// The shell, once there is one.
    pub host: OnceLock<Box<dyn Host>>,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// The process, as the shell sees it.
    pub facts: RwLock<ProcessFacts>,
    /// This node among its partners, as of a moment ago: see [`Engine::refresh_standing`].
    pub standing: RwLock<Standing>,
    /// How many waits for keys have begun: the order in which waiters are served.
    waits_begun: AtomicU64,
    /// Subscriptions.
    pub pubsub: pubsub::Registry,
    /// The members, and who owns the slots in the eyes of cluster clients.
    pub topology: RwLock<Topology>,
    /// Addresses clients may come from. Locked after slots, before nothing but the configuration.
    pub allowlist: RwLock<Allowlist>,
    /// The node among its peers.
    pub mesh: Mutex<Mesh>,
    /// Tasks of links to be woken when the outbox fills.
    link_wakers: replication::Wakers,
    /// Cluster-wide registers.
    pub registers: registers::Registers,
    /// Draws for RANDOMKEY, SPOP and the like: a counter mixed with the seed.
    draws: AtomicU64,
    /// Bugs planted by tests.
    faults: Faults,
    /// Keys past their expiry are removed without being asked for; DEBUG SET-ACTIVE-EXPIRE.
    active_expire: AtomicBool,
    /// The range [`Self::tick`] goes on from.
    upkeep_range: AtomicUsize,
    /// When it last ran, in Unix milliseconds.
    upkeep_ms: AtomicU64,
}

impl Engine {
    /// An empty server. `floor` is the time no stamp may fall to; `threads` how many will call [`Self::execute`].
    pub fn new(
        origin: Origin,
        floor: NTP64,
        threads: usize,
        seeds: Seeds,
        config: Config,
        tables: &[&'static [Command]],
    ) -> Self {
        let [a, b, c, d] = seeds.0;
        let hasher = ahash::RandomState::with_seeds(a, b, c, d);
        let registry = Registry::new(tables, &config.rename_command, hasher.clone());
        let mesh = replication::mesh_for(origin, &config);
        Engine {
            cells: (0..RANGES).map(|_| PaddedCell::default()).collect(),
            hasher,
            clock: Clock::new(origin, floor),
            databases: Databases::new(config.databases),
            stable: AtomicU64::new(if replication::is_wanted(&config) { 0 } else { u64::MAX }),
            replicating: AtomicBool::new(replication::is_wanted(&config)),
            active: AtomicBool::new(replication::is_wanted(&config)),
            follower: AtomicBool::new(replication::is_follower(&config)),
            next_life: Mutex::default(),
            lacks_replicas: AtomicBool::new(config.wants_replicas()),
            is_stale: AtomicBool::new(replication::is_wanted(&config) && !config.replica_serve_stale_data),
            link_input_bytes: AtomicU64::new(0),
            link_output_bytes: AtomicU64::new(0),
            first_tick_ms: AtomicU64::new(0),
            outbox: Outbox::new(threads),
            stats: (0..threads.max(1)).map(|_| Stats::default()).collect(),
            password: RwLock::new(config.requirepass.clone().unwrap_or_default().into_bytes()),
            notify: AtomicU32::new(config.notify_keyspace_events.bits().into()),
            limits: Arc::new(Limits::of(&config)),
            command_stats: CommandStats::new(threads.max(1), registry.ids()),
            error_stats: Mutex::default(),
            monitors: Monitors::default(),
            slowlog: Mutex::default(),
            latency: Mutex::default(),
            host: OnceLock::new(),
            registry,
            pause: Pause::default(),
            facts: RwLock::default(),
            standing: RwLock::default(),
            clients: DashMap::new(),
            next_client_id: AtomicU64::new(1),
            waits_begun: AtomicU64::new(0),
            pubsub: pubsub::Registry::default(),
            topology: RwLock::new(Topology::new(origin.node())),
            allowlist: RwLock::new(Allowlist::configured(config.allowlist.clone())),
            mesh: Mutex::new(mesh),
            link_wakers: replication::Wakers::default(),
            registers: registers::Registers::default(),
            config: RwLock::new(config),
            draws: AtomicU64::new(a ^ d.rotate_left(17)),
            faults: Faults::empty(),
            active_expire: AtomicBool::new(true),
            upkeep_range: AtomicUsize::new(0),
            upkeep_ms: AtomicU64::new(0),
        }
    }

    /// Runs one request.
    pub fn execute(
        &self,
        session: &mut Session,
        args: Args<'_>,
        out: &mut Vec<u8>,
        now: Now,
        thread: usize,
    ) -> Flow {
        let Some(name) = args.get(0) else { return Flow::Continue };
        session.has_run = false;
        if session.is_subscriber() {
            // What was published before this command comes before its reply.
            session.client.take_mailbox(out);
        }
        let start = out.len();
        let flow = match self.admit(session, name, args) {
            Ok(command) if self.is_paused(session, command, now) => return Flow::Paused,
            Ok(command) => self.run(session, command, args, out, now, thread),
            Err(_) if is_http(name) => {
                tracing::warn!("{} speaks HTTP: closed", session.client.addr);
                return Flow::Close;
            }
            Err(error) => {
                let error = self.refuse(session, name, error);
                self.command_stats.rejected(thread, session.command_id);
                self.reply_error(session.protocol, out, thread, &error);
                Flow::Continue
            }
        };
        match session.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off => out.truncate(start),
            ReplyMode::SkipNext => {
                if !is_reply_skip(args) {
                    out.truncate(start);
                    session.reply_mode = ReplyMode::On;
                }
            }
        }
        flow
    }

    /// What a refused command does to a transaction: EXEC itself ends it, any other has EXEC abort it.
    fn refuse(&self, session: &mut Session, name: &[u8], error: Error) -> Error {
        if name.eq_ignore_ascii_case(b"exec") {
            self.discard(session);
            let error = error.to_string();
            let reason = error.strip_prefix("ERR ").unwrap_or(&error);
            return format!("EXECABORT Transaction discarded because of: {reason}").into();
        }
        if let Some(transaction) = &mut session.transaction {
            transaction.aborted = true;
        }
        error
    }

    fn reply_error(&self, protocol: Protocol, out: &mut Vec<u8>, thread: usize, error: &Error) {
        Stats::add(&self.stats(thread).errors, 1);
        self.count_error(&error.code());
        Reply::new(out, protocol).error_bytes(error.as_bytes());
    }

    fn count_error(&self, code: &str) {
        let mut counts = self.error_stats.lock();
        if let Some(count) = counts.get_mut(code) {
            *count += 1;
        } else if counts.len() < ERROR_CODES_MAX {
            counts.insert(code.to_owned(), 1);
        }
    }

    /// Finds the command and checks that this session may run it now.
    fn admit(&self, session: &mut Session, name: &[u8], args: Args<'_>) -> Result<&'static Command, Error> {
        session.command_id = u16::MAX;
        let mut known = self.registry.find(name).ok_or_else(|| unknown_command(args))?;
        if !known.command.subcommands.is_empty()
            && let Some(sub) = args.get(1)
        {
            known =
                self.registry.find_sub(known, sub).ok_or_else(|| unknown_subcommand(known.command, sub))?;
        }
        let Known { command, id } = known;
        session.command_id = id;
        if !command.takes(args.len()) {
            return Err(Error::wrong_arity(self.registry.name(id)));
        }
        if command.flags.contains(Flags::PROTECTED) {
            self.admit_protected(session)?;
        }
        if !session.authenticated && !command.flags.contains(Flags::NO_AUTH) && self.requires_password() {
            return Err(Error::new("NOAUTH Authentication required."));
        }
        if session.client.flags().contains(ClientFlags::LINK_ONLY)
            && !command.flags.intersects(LINK_ONLY_FLAGS)
        {
            return Err(allowlist::LINK_ONLY);
        }
        self.admit_state(session, command)?;
        Ok(command)
    }

    /// DEBUG, as `enable-debug-command` says.
    fn admit_protected(&self, session: &Session) -> Result<(), Error> {
        let allowed = match self.config.read().enable_debug_command {
            Access::Yes => true,
            Access::Local => session.client.is_local(),
            Access::No => false,
        };
        if allowed { Ok(()) } else { Err(Error::DEBUG_NOT_ALLOWED) }
    }

    /// Whether clients have to authenticate.
    pub fn requires_password(&self) -> bool {
        !self.password.read().is_empty()
    }

    /// Whether CLIENT PAUSE holds a command back.
    #[inline]
    fn is_paused(&self, session: &Session, command: &Command, now: Now) -> bool {
        let Some((paused, _)) = self.pause.at(now.unix_ms) else { return false };
        let is_write = |command: &Command| command.flags.intersects(Flags::WRITE | Flags::MAY_REPLICATE);
        paused == Paused::All || runs_any(session, command, is_write)
    }

    /// What depends on the state of the session and the server.
    fn admit_state(&self, session: &Session, command: &'static Command) -> Result<(), Error> {
        if session.transaction.is_some() && command.flags.contains(Flags::NO_MULTI) {
            return Err(Error::new("ERR Command not allowed inside a transaction"));
        }
        if self.lacks_replicas.load(Ordering::Relaxed) && runs_any(session, command, Command::is_write) {
            return Err(Error::new("NOREPLICAS Not enough good replicas to write."));
        }
        if self.is_follower()
            && runs_any(session, command, Command::is_write)
            && self.config.read().replica_read_only
        {
            return Err(Error::new("READONLY You can't write against a read only replica."));
        }
        if session.is_subscriber()
            && session.protocol == Protocol::Resp2
            && !command.flags.contains(Flags::SUBSCRIBED)
        {
            return Err(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                self.registry.name(session.command_id)
            )
            .into());
        }
        let needs_data = |command: &Command| !command.flags.contains(Flags::STALE);
        if self.is_stale.load(Ordering::Relaxed) && runs_any(session, command, needs_data) {
            return Err(Error::new(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            ));
        }
        // To Redis who watches is a replica.
        let uses_keys = |command: &Command| {
            command.flags.intersects(Flags::READONLY | Flags::WRITE | Flags::MAY_REPLICATE)
        };
        if session.client.flags().contains(ClientFlags::MONITOR) && runs_any(session, command, uses_keys) {
            return Err(Error::new("ERR Replica can't interact with the keyspace"));
        }
        Ok(())
    }

    fn run(
        &self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        out: &mut Vec<u8>,
        now: Now,
        thread: usize,
    ) -> Flow {
        if session.transaction.is_some() && !runs_in_multi(command) {
            return self.queue(session, command, args, out);
        }
        session.has_run = true;
        let locks = self.lock_in_turn(session, command, args);
        let mut keys = Keyspace::new(self, locks, session.db, now, thread);
        keys.no_touch = session.client.flags().contains(ClientFlags::NO_TOUCH);
        let (outcome, garbage) = self.call(session, command, args, &mut keys, out, Blocking::Allowed);
        let flow = match outcome {
            Outcome::Done => Flow::Continue,
            Outcome::Close => Flow::Close,
            Outcome::Sleep(ms) => Flow::Sleep(ms),
            Outcome::Link => Flow::Link,
            Outcome::Shutdown => Flow::Shutdown,
            Outcome::WaitReplicas { replicas, deadline_ms } => {
                let waiter = self.begin_wait(session, command, args, &mut keys, Vec::new());
                Flow::WaitReplicas { waiter, replicas, deadline_ms }
            }
            Outcome::Block(block) => {
                let waiter = self.begin_wait(session, command, args, &mut keys, block.keys);
                Flow::Blocked(waiter, block.deadline_ms)
            }
        };
        self.conclude(keys, thread);
        drop(garbage);
        // With the database it has come to. EXEC tells of itself, behind the commands it runs.
        if self.monitors.any() && command.name != "exec" {
            self.monitors.tell(session, command, args, now.unix_us());
        }
        flow
    }

    /// Keeps a command for EXEC. A client that queues more than it may have buffered is disconnected.
    fn queue(
        &self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> Flow {
        let Some(transaction) = &mut session.transaction else { return Flow::Continue };
        transaction.bytes += args.iter().map(|arg| arg.len() + QUEUED_ARG_BYTES).sum::<usize>();
        if transaction.bytes as u64 > self.config.read().client_query_buffer_limit {
            return Flow::Close;
        }
        let id = session.command_id;
        transaction.queue.push(Queued { command, id, args: OwnedArgs::from_args(args) });
        session.client.queued.store(transaction.queue.len() as u32, Ordering::Relaxed);
        Reply::new(out, session.protocol).simple("QUEUED");
        Flow::Continue
    }

    /// Ends MULTI and WATCH without running anything. No range may be locked by the caller.
    pub fn discard(&self, session: &mut Session) {
        session.end_transaction();
        self.unwatch_all(session);
    }

    /// Accounts for the session's last command, which took so long.
    #[inline]
    pub fn ran(&self, session: &Session, args: Args<'_>, us: u64, now: Now, thread: usize) {
        if !session.has_run {
            return;
        }
        self.command_stats.ran(thread, session.command_id, us);
        if us >= self.limits.noted_us.load(Ordering::Relaxed) {
            self.note_slow(session, args, us, now);
        }
    }

    #[cold]
    fn note_slow(&self, session: &Session, args: Args<'_>, us: u64, now: Now) {
        let Some(command) = self.registry.command(session.command_id) else { return };
        let config = self.config.read();
        let ms = us / 1000;
        let at_s = now.unix_ms.saturating_add(ms) / 1000;
        if config.slowlog_log_slower_than_us.is_some_and(|limit| us >= limit)
            && !command.flags.contains(Flags::SKIP_SLOWLOG)
        {
            self.slowlog.lock().add(session, command, args, us, at_s, config.slowlog_max_len);
        }
        if config.latency_monitor_threshold_ms != 0 && ms >= config.latency_monitor_threshold_ms {
            let fast = command.flags.contains(Flags::FAST);
            self.latency.lock().add(if fast { "fast-command" } else { "command" }, at_s, ms);
        }
    }

    /// Runs a command's function; an error becomes its reply.
    pub fn call<'e>(
        &'e self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        keys: &mut Keyspace<'e>,
        out: &mut Vec<u8>,
        blocking: Blocking<'_>,
    ) -> (Outcome, Vec<crate::store::shard::Flushed>) {
        let start = out.len();
        let protocol = session.protocol;
        // Who is served ran when it began to wait.
        if !matches!(blocking, Blocking::Resumed(_)) {
            Stats::add(&self.stats(keys.thread()).commands, 1);
        }
        let mut call = Call {
            engine: self,
            args,
            reply: Reply::new(out, protocol),
            keys,
            outcome: Outcome::Done,
            blocking,
            garbage: Vec::new(),
            session,
        };
        let result = (command.run)(&mut call);
        let (outcome, garbage, thread) = (call.outcome, call.garbage, call.keys.thread());
        if let Err(error) = result {
            out.truncate(start);
            self.command_stats.failed(thread, session.command_id);
            self.reply_error(session.protocol, out, thread, &error);
            return (Outcome::Done, garbage);
        }
        (outcome, garbage)
    }

    /// Serves waiting clients, closes the batch and publishes events.
    pub(crate) fn conclude<'e>(&'e self, mut keys: Keyspace<'e>, thread: usize) {
        keys.unlock();
        while !keys.ready.is_empty() {
            let (db, key) = keys.ready.remove(0);
            self.serve(&mut keys, db, &key);
        }
        if keys.dirty > 0 {
            Stats::add(&self.stats(thread).changes, keys.dirty);
        }
        keys.finish();
        if !keys.events.is_empty() {
            self.publish_events(&keys.events);
        }
        for (scope, channel, message) in &keys.messages {
            self.deliver(*scope, channel, message);
        }
    }

    /// Locks the ranges a command touches: all of them if its keys cannot be told from its arguments.
    pub fn lock_for(&self, session: &Session, command: &Command, args: Args<'_>) -> Locks<'_> {
        let mut ranges: SmallVec<[usize; 8]> = SmallVec::new();
        if command.name == "exec" {
            let Some(transaction) = &session.transaction else { return Locks::None };
            for Queued { command: queued, args, .. } in &transaction.queue {
                if queued.flags.contains(Flags::WALKS_KEYSPACE)
                    || !self.ranges_of(queued, args.args(), &mut ranges)
                {
                    return Locks::all(self);
                }
            }
            ranges.extend(session.watched.iter().map(|watch| KeyHash::range_of(&watch.key)));
        } else if !self.ranges_of(command, args, &mut ranges) {
            return Locks::all(self);
        }
        Locks::of(self, &mut ranges)
    }

    fn ranges_of(&self, command: &Command, args: Args<'_>, ranges: &mut SmallVec<[usize; 8]>) -> bool {
        if command.flags.contains(Flags::WHOLE_KEYSPACE) {
            return false;
        }
        command.each_key(args, |index, spec| {
            if spec.is_key() {
                ranges.push(KeyHash::range_of(&args[index]));
            }
        })
    }

    /// Microseconds since some instant; zero without a shell.
    pub fn stopwatch_us(&self) -> u64 {
        self.host.get().map_or(0, |host| host.stopwatch_us())
    }

    /// A new connection.
    pub fn connect(&self, addr: String, local_addr: String, now: Now, thread: usize) -> Session {
        let id = self.next_id();
        let client = Arc::new(Client::new(id, addr, local_addr, now.unix_ms, self.limits.clone()));
        self.clients.insert(id, client.clone());
        Stats::add(&self.stats(thread).connections, 1);
        Session::new(client, !self.requires_password())
    }

    /// A number for a client or a link, never used twice.
    pub fn next_id(&self) -> u64 {
        self.next_client_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection is gone: its subscriptions, watches and queues go with it.
    pub fn disconnect(&self, session: &mut Session) {
        self.unwatch_all(session);
        self.pubsub.remove_client(session);
        self.monitors.remove(&session.client);
        self.clients.remove(&session.client.id);
    }

    /// RESET: the session as if it had just connected, but for its protocol.
    pub fn reset(&self, session: &mut Session) {
        self.discard(session);
        self.pubsub.remove_client(session);
        self.monitors.remove(&session.client);
        session.db = 0;
        session.authenticated = !self.requires_password();
        let client = &session.client;
        client.db.store(0, Ordering::Relaxed);
        client.queued.store(u32::MAX, Ordering::Relaxed);
        client.subscriptions.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        client.name.lock().clear();
        client.unset(
            ClientFlags::MULTI
                | ClientFlags::PUBSUB
                | ClientFlags::NO_EVICT
                | ClientFlags::NO_TOUCH
                | ClientFlags::READONLY,
        );
    }

    /// Ends WATCH. No range may be locked by the caller.
    pub fn unwatch_all(&self, session: &mut Session) {
        for Watch { db, key, .. } in session.watched.drain(..) {
            let mut cell = self.cell(KeyHash::range_of(&key)).lock();
            let space = self.space_of(db);
            cell.unwatch(space, &key, &session.client);
        }
        session.client.unset(ClientFlags::DIRTY);
    }

    /// The command of a name, in any case of letters.
    pub fn find(&self, name: &[u8]) -> Option<&'static Command> {
        Some(self.registry.find(name)?.command)
    }

    /// A range.
    pub fn cell(&self, range: usize) -> &Mutex<Cell> {
        &self.cells[range].0
    }

    /// Both hashes of a key.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash::new(key, &self.hasher)
    }

    /// Number of databases.
    pub fn databases(&self) -> u32 {
        self.databases.count()
    }

    /// The keyspace behind a database.
    pub fn space_of(&self, db: u32) -> u32 {
        self.databases.space_of(db)
    }

    /// The database a keyspace stands behind, if any does.
    pub fn db_of(&self, space: u32) -> Option<u32> {
        self.databases.db_of(space)
    }

    /// Nothing stamped at or below this time can arrive any more.
    pub fn stable(&self) -> NTP64 {
        NTP64(self.stable.load(Ordering::Acquire))
    }

    /// Moves the stable time.
    pub fn set_stable(&self, stable: NTP64) {
        self.stable.store(stable.0, Ordering::Release);
    }

    /// Whether writes go to the outbox.
    pub fn is_replicating(&self) -> bool {
        self.replicating.load(Ordering::SeqCst)
    }

    /// From the first peer on: writes go to the outbox and removals leave tombstones. What was written before was
    /// told to nobody, so peers must pull it.
    pub fn start_replicating(&self) {
        let mut mesh = self.mesh.lock();
        self.active.store(true, Ordering::SeqCst);
        if self.replicating.load(Ordering::SeqCst) {
            return;
        }
        // Before the first tombstone is written: it stays until the links say that it may go.
        self.set_stable(NTP64(0));
        self.replicating.store(true, Ordering::SeqCst);
        // A command under way may have begun before and tells nobody: it is done once its ranges are free. Only then
        // is what it wrote covered by what peers are told to pull.
        for range in 0..RANGES {
            drop(self.cell(range).lock());
        }
        if self.clock.last().0 > 0 {
            mesh.count_untold(NTP64(0));
        }
    }

    /// Whether partners are configured or were met.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// What shards need to know.
    pub fn shard_context(&self) -> ShardContext<'_> {
        ShardContext {
            own: self.clock.origin(),
            keep_tombstones: self.replicating.load(Ordering::Relaxed),
            hasher: &self.hasher,
        }
    }

    /// CONFIG SET: all pairs or none.
    ///
    /// # Errors
    /// The reply's text.
    pub fn configure(&self, pairs: &[(&str, &str)], caller: Caller) -> Result<(), Error> {
        let mut held = self.config.write();
        let mut config = held.clone();
        let changed = config.set(pairs, caller).map_err(|error| Error::from(error.to_string()))?;
        if let Some(host) = self.host.get()
            && let Err(reason) = host.reconfigure(&changed, &config)
        {
            let name = changed.first().copied().unwrap_or_default();
            return Err(
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}").into()
            );
        }
        self.limits.adopt(&config);
        if changed.contains(&"requirepass") {
            *self.password.write() = config.requirepass.clone().unwrap_or_default().into_bytes();
        }
        self.set_notify(config.notify_keyspace_events);
        *held = config;
        drop(held);
        self.judge_standing();
        Ok(())
    }

    /// Whether cluster clients are served: `cluster-emulation`.
    pub fn emulates_cluster(&self) -> bool {
        let config = self.config.read();
        self.topology.read().emulates(&config)
    }

    /// The mode INFO and HELLO tell clients: theirs to choose how they talk to it.
    pub fn mode(&self) -> &'static str {
        if self.emulates_cluster() { "cluster" } else { "standalone" }
    }

    /// How many threads run commands.
    pub fn threads(&self) -> usize {
        self.stats.len()
    }

    /// The counters of a thread.
    pub fn stats(&self, thread: usize) -> &Stats {
        &self.stats[thread % self.stats.len()]
    }

    /// A counter of all threads together.
    pub fn total(&self, counter: impl Fn(&Stats) -> &AtomicU64) -> u64 {
        self.stats.iter().map(|stats| counter(stats).load(Ordering::Relaxed)).sum()
    }

    /// The next pseudo-random number.
    pub fn draw(&self) -> u64 {
        let n = self.draws.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        crate::store::digest::mix(n, n.rotate_left(32))
    }

    /// Whether events of a class are published.
    pub fn notifies(&self, class: EventClass) -> bool {
        let set = EventClass::from_bits_truncate(self.notify.load(Ordering::Relaxed) as u16);
        set.intersects(EventClass::KEYSPACE | EventClass::KEYEVENT) && set.contains(class)
    }

    /// Changes which events are published.
    pub fn set_notify(&self, classes: EventClass) {
        self.notify.store(classes.bits().into(), Ordering::Relaxed);
    }

    /// Publishes keyspace events to the channels that `notify-keyspace-events` asks for. Nothing may be locked.
    pub fn publish_events(&self, events: &[Event]) {
        let set = EventClass::from_bits_truncate(self.notify.load(Ordering::Relaxed) as u16);
        for Event { event, db, key, .. } in events.iter().filter(|event| set.contains(event.class)) {
            if set.contains(EventClass::KEYSPACE) {
                let mut channel = format!("__keyspace@{db}__:").into_bytes();
                channel.extend_from_slice(key);
                self.pubsub.publish(&channel, event.as_bytes());
            }
            if set.contains(EventClass::KEYEVENT) {
                self.pubsub.publish(format!("__keyevent@{db}__:{event}").as_bytes(), key);
            }
        }
    }

    /// Whether any event is published: else a peer's batch needs no [`notify::PeerEvents`].
    pub fn notifies_anything(&self) -> bool {
        let set = EventClass::from_bits_truncate(self.notify.load(Ordering::Relaxed) as u16);
        set.intersects(EventClass::KEYSPACE | EventClass::KEYEVENT)
    }

    /// Hands a message to this node's subscribers of a channel or shard channel. Returns how many there were.
    pub fn deliver(&self, scope: Scope, channel: &[u8], message: &[u8]) -> usize {
        match scope {
            Scope::Channel | Scope::Pattern => self.pubsub.publish(channel, message),
            Scope::Shard => self.pubsub.publish_to_shard(channel, message),
        }
    }

    /// What a connection from an address may do; `None` is a Unix socket.
    pub fn admission(&self, ip: Option<IpAddr>) -> Admission {
        self.admission_under(self.allowlist.read().blocks(), ip)
    }

    /// What it could do if these blocks were the allowlist.
    pub(crate) fn admission_under(&self, blocks: &[IpNet], ip: Option<IpAddr>) -> Admission {
        let Some(ip) = ip.map(|ip| ip.to_canonical()) else { return Admission::Full };
        if blocks.is_empty() {
            let has_password = !self.password.read().is_empty();
            let is_open = ip.is_loopback() || has_password || !self.config.read().protected_mode;
            return if is_open { Admission::Full } else { Admission::Protected };
        }
        if allowlist::covers(blocks, ip) {
            Admission::Full
        } else if self.topology.read().is_member_address(ip) || self.is_configured_partner(ip) {
            Admission::LinkOnly
        } else {
            Admission::Refused
        }
    }

    /// Whether a partner is configured by this address. Names are the link layer's to look up.
    fn is_configured_partner(&self, ip: IpAddr) -> bool {
        let is_it = |host: &str| host.parse::<IpAddr>().is_ok_and(|partner| partner.to_canonical() == ip);
        self.config.read().equals().any(|partner| is_it(&partner.host))
    }

    /// Decides about a new connection, once it is among [`Self::clients`]: a change of the list before that has not
    /// seen it, a change after that closes it. Returns whether it may stay.
    pub fn admit_client(&self, client: &Client) -> bool {
        match self.admission(client.ip()) {
            Admission::Full => true,
            Admission::LinkOnly => {
                client.set(ClientFlags::LINK_ONLY);
                true
            }
            Admission::Protected | Admission::Refused => false,
        }
    }

    /// Has CONFIG GET show the list, and closes what fell off it.
    pub(crate) fn enforce_allowlist(&self) {
        {
            let allowlist = self.allowlist.read();
            self.config.write().set_allowlist(allowlist.blocks().to_vec());
        }
        for client in &self.clients {
            let is_link = client.flags().contains(ClientFlags::LINK);
            match self.admission(client.ip()) {
                Admission::Full => client.unset(ClientFlags::LINK_ONLY),
                Admission::LinkOnly if client.flags().contains(ClientFlags::LINK_ONLY) => {}
                Admission::LinkOnly | Admission::Protected | Admission::Refused if is_link => {}
                Admission::LinkOnly | Admission::Protected | Admission::Refused => client.kill(),
            }
        }
    }
}

/// What a connection may run that may only become a link.
const LINK_ONLY_FLAGS: Flags = Flags::NO_AUTH.union(Flags::LINKING);

/// Whether a command is never queued by MULTI. The group tells RESET from SLOWLOG RESET.
fn runs_in_multi(command: &Command) -> bool {
    let is_ending = command.group == Group::Connection && matches!(command.name, "quit" | "reset");
    is_ending || (command.group == Group::Transactions && command.name != "unwatch")
}

/// Whether a command, or one that EXEC runs, is of some kind.
#[inline]
fn runs_any(session: &Session, command: &Command, is_it: impl Fn(&Command) -> bool) -> bool {
    let queued = session.transaction.iter().filter(|_| command.name == "exec");
    is_it(command) || queued.flat_map(|transaction| &transaction.queue).any(|queued| is_it(queued.command))
}

/// Whether a request is a line of HTTP: a browser was made to send it to this port, and what follows it was made up by
/// somebody else.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

fn is_reply_skip(args: Args<'_>) -> bool {
    args.len() == 3
        && args[0].eq_ignore_ascii_case(b"client")
        && args[1].eq_ignore_ascii_case(b"reply")
        && args[2].eq_ignore_ascii_case(b"skip")
}

/// Bytes of a client's words that an error repeats.
pub const QUOTED_BYTES_MAX: usize = 128;

/// The text for a name that is no command, with the beginning of its arguments.
fn unknown_command(args: Args<'_>) -> Error {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(Error::quotable(&args[0], QUOTED_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.iter().skip(1) {
        let Some(left) = QUOTED_BYTES_MAX.checked_sub(text.len() - start).filter(|left| *left > 0) else {
            break;
        };
        text.push(b'\'');
        text.extend_from_slice(Error::quotable(arg, left));
        text.extend_from_slice(b"' ");
    }
    text.into()
}

fn unknown_subcommand(command: &Command, sub: &[u8]) -> Error {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(Error::quotable(sub, QUOTED_BYTES_MAX));
    text.extend_from_slice(format!("'. Try {} HELP.", command.name.to_uppercase()).as_bytes());
    text.into()
}
