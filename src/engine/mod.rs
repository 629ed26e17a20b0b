//! The server without sockets: commands in, replies out, deltas in and out.
//!
//! [`Engine::execute`] runs one request of one session to its end, on the caller's thread, as [`execution`] says;
//! [`Engine::merge_batch`] does the same for a batch of a peer. Nothing here reads a clock, draws random bits, waits,
//! or touches network or disk: time and thread come in with each call. This module wires the parts together; each
//! part's functions of [`Engine`] stand in its own module.
//!
//! # Locks
//! A thread holds at most: ranges in rising order, and its own slot of the outbox from its first write to the end of
//! the batch. Whoever sequences holds the mesh, then slots, never ranges; nobody asks for the mesh under a range.
//! Where a waiter stands is locked inside ranges. Registries (clients, channels) are leaves.
//!
//! # Cost of a command
//! Lookup by name, one or two hashes of the key, one uncontended lock per range, the command's own work.

pub mod allowlist;
pub mod blocking;
pub mod call;
pub mod cell;
pub mod client;
pub mod cluster;
pub mod command;
pub mod databases;
pub mod effects;
pub mod error;
pub mod execution;
pub mod registry;
pub mod keyspace;
pub mod merging;
pub mod conflicts;
pub mod notify;
mod ownership;
pub mod persistence;
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
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};

use crate::clock::{Clock, NTP64, Origin};
use crate::config::{Caller, Config};
use crate::faults::Faults;
use crate::link::mesh::Mesh;
use crate::link::outbox::Outbox;
use crate::store::shard::{KeyHash, RANGES, ShardContext};
use allowlist::Allowlist;
use cell::{Cell, PaddedCell};
use client::{Client, ClientFlags};
use cluster::Topology;
use command::Command;
use command_stats::CommandStats;
use conflicts::ConflictLog;
use databases::Databases;
use error::Error;
use facts::{DiskFacts, ProcessFacts};
use host::Host;
use latency::Latency;
use limits::Limits;
use monitor::Monitors;
use pause::Pause;
use pubsub::Scope;
use registry::Registry;
use session::{Session, Watch};
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
    /// Error replies by their code; at most [`execution::ERROR_CODES_MAX`] codes.
    pub error_stats: Mutex<BTreeMap<String, u64>>,
    /// Who watches.
    pub monitors: Monitors,
    /// Slow commands.
    pub slowlog: Mutex<SlowLog>,
    /// Concurrent writes that have lost.
    pub conflicts: ConflictLog,
    /// Latency spikes.
    pub latency: Mutex<Latency>,
    /// The shell, once there is one.
    pub host: OnceLock<Box<dyn Host>>,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// The process, as the shell sees it.
    pub facts: RwLock<ProcessFacts>,
    /// Data on disk, as the shell sees it.
    pub disk: RwLock<DiskFacts>,
    /// This node among its partners, as of a moment ago: see [`Engine::refresh_standing`].
    pub standing: RwLock<Standing>,
    /// How many waits for keys have begun: the order in which waiters are served.
    waits_begun: AtomicU64,
    /// Subscriptions.
    pub pubsub: pubsub::Registry,
    /// The members, and who owns the slots in the eyes of cluster clients. Locked after the configuration where both are.
    pub topology: RwLock<Topology>,
    /// Addresses clients may come from. Locked after slots, before nothing but the topology and the configuration.
    pub allowlist: RwLock<Allowlist>,
    /// The node among its peers.
    pub mesh: Mutex<Mesh>,
    /// Tasks of links to be woken when the outbox fills.
    link_wakers: replication::Wakers,
    /// Cluster-wide registers.
    pub registers: registers::Registers,
    /// Draws for RANDOMKEY, SPOP and the like: a counter mixed with the seed.
    draws: AtomicU64,
    /// What goes to disk.
    notes: persistence::Notes,
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
        // For partners, and for the journal.
        let notes = persistence::Notes::of(replication::primary(&config));
        let writes_batches = replication::is_wanted(&config) || config.appendonly;
        Engine {
            cells: (0..RANGES).map(|_| PaddedCell::default()).collect(),
            hasher,
            clock: Clock::new(origin, floor),
            databases: Databases::new(config.databases),
            stable: AtomicU64::new(if writes_batches { 0 } else { u64::MAX }),
            replicating: AtomicBool::new(writes_batches),
            active: AtomicBool::new(writes_batches),
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
            conflicts: ConflictLog::new(config.conflict_log_max_len),
            latency: Mutex::default(),
            host: OnceLock::new(),
            registry,
            pause: Pause::default(),
            facts: RwLock::default(),
            disk: RwLock::default(),
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
            notes,
            faults: Faults::empty(),
            active_expire: AtomicBool::new(true),
            upkeep_range: AtomicUsize::new(0),
            upkeep_ms: AtomicU64::new(0),
        }
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
        let mut session = Session::new(client);
        session.authenticated = !self.requires_password();
        session
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
            mesh.count_untold(self.clock.last());
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
        if changed.contains(&"conflict-log-max-len") {
            self.conflicts.set_len_max(config.conflict_log_max_len);
        }
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

    /// Hands a message to this node's subscribers of a channel or shard channel. Returns how many there were.
    pub fn deliver(&self, scope: Scope, channel: &[u8], message: &[u8]) -> usize {
        match scope {
            Scope::Channel | Scope::Pattern => self.pubsub.publish(channel, message),
            Scope::Shard => self.pubsub.publish_to_shard(channel, message),
        }
    }
}
