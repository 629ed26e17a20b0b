//! What the tasks of the shell share: the engine, the identity, the way in, and the way out.
//!
//! A stop has two steps. [`Shell::stop`] ends accepting and has every connection run what it has read, answer it and
//! close; what is still there after [`LINGER`] is cut. Then the partners get what they lack: every thread stays until
//! that is done, because links live on any of them. Then the identity's clock is written exactly.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::disk::replace;
use super::identity::Identity;
use super::journal::{Journal, Unkept, reason};
use super::listener::{Incoming, Listening};
use super::log::Severity;
use super::members::Members;
use super::peer::LinkSockets;
use super::process;
use super::time::now;
use crate::clock::{NTP64, Origin};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::client::ClientFlags;
use crate::engine::facts::ProcessFacts;
use crate::engine::host::Host;

/// How long a stop waits for connections that do not read their answers.
pub const LINGER: Duration = Duration::from_secs(2);

/// See the module's head.
pub struct Shell {
    /// The server proper.
    pub engine: Arc<Engine>,
    /// Who this node is.
    pub identity: Identity,
    /// Who the others are.
    pub members: Members,
    /// What is on disk.
    pub journal: Arc<Journal>,
    /// Connections there are, accepted ones on their way to their thread included.
    pub connected: AtomicUsize,
    /// How many of them have become links.
    pub links: AtomicUsize,
    /// Where what was written goes out to the peers.
    pub link_sockets: LinkSockets,
    /// When each thread last had what was written on it leave.
    pub departures: Departures,
    /// `maxclients`, or what the system allows of it.
    pub clients_max: AtomicU64,
    /// Where each thread takes its connections from.
    pub threads: Vec<UnboundedSender<Incoming>>,
    /// Told that the server stops.
    pub stopping: watch::Sender<bool>,
    /// Told that the partners have what they are going to get.
    pub handed_over: watch::Sender<bool>,
    /// Some connection was told to close already.
    closing: AtomicBool,
    /// The clock's ceiling could not be written when it was last tried.
    clock_fails: AtomicBool,
}

impl Shell {
    /// Puts the parts together; nothing runs yet.
    pub fn new(
        engine: Arc<Engine>,
        identity: Identity,
        members: Members,
        journal: Arc<Journal>,
        threads: Vec<UnboundedSender<Incoming>>,
    ) -> Self {
        let clients_max = AtomicU64::new(engine.limits.clients.load(Ordering::Relaxed));
        Shell {
            engine,
            identity,
            members,
            journal,
            connected: AtomicUsize::new(0),
            links: AtomicUsize::new(0),
            link_sockets: LinkSockets::default(),
            departures: Departures(threads.iter().map(|_| Mutex::default()).collect()),
            clients_max,
            threads,
            stopping: watch::Sender::new(false),
            handed_over: watch::Sender::new(false),
            closing: AtomicBool::new(false),
            clock_fails: AtomicBool::new(false),
        }
    }

    /// Connections that are no links.
    pub fn clients(&self) -> usize {
        self.connected.load(Ordering::SeqCst).saturating_sub(self.links.load(Ordering::SeqCst))
    }

    /// Takes down how the clock's ceiling was written: while it cannot be, clients may read, but not write.
    #[inline]
    pub fn note_clock(&self, covered: io::Result<()>) {
        if covered.is_err() || self.clock_fails.load(Ordering::Relaxed) {
            self.change_clock_failure(covered.err());
        }
    }

    /// Renews the clock's ceiling ahead of time, and tries again what has failed.
    pub fn renew_clock(&self, now: NTP64) {
        let clock = &self.engine.clock;
        let renewed = self.identity.renew(clock, now);
        if renewed.is_err() || self.clock_fails.load(Ordering::Relaxed) {
            self.note_clock(self.identity.cover(clock, now));
        }
    }

    fn change_clock_failure(&self, failure: Option<io::Error>) {
        let failed = self.clock_fails.swap(failure.is_some(), Ordering::SeqCst);
        match &failure {
            Some(error) if !failed => {
                tracing::warn!(
                    "The node's clock cannot be written: {error}. Writes are refused until it can"
                );
            }
            None if failed => tracing::warn!("The node's clock can be written again"),
            _ => {}
        }
        self.engine.set_clock_failure(failure.as_ref().map(reason));
    }

    /// Writes down whom this node is linked with, if that has changed.
    pub fn keep_members(&self) {
        let now = now();
        if let Err(error) = self.members.keep(self.engine.roster(now), now.unix_ms) {
            tracing::warn!("The members cannot be written to the data directory: {error}");
        }
    }

    /// Has the server stop.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether it was told to.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Whether connections are to close once they have answered what they have read.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Has every connection answer what it has read, and close.
    pub fn close_clients(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for client in &self.engine.clients {
            if !client.flags().contains(ClientFlags::LINK) {
                client.set(ClientFlags::CLOSE_AFTER_REPLY);
                client.wake();
            }
        }
    }
}

/// When each thread last had what was written on it leave.
pub struct Departures(Vec<Mutex<Departure>>);

/// All that was executed on a thread went to the partners and to disk.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// Counts them.
    pub number: u64,
    /// Up to where the journal then reached.
    pub kept: Result<u64, Unkept>,
}

impl Default for Departure {
    fn default() -> Self {
        Departure { number: 0, kept: Ok(0) }
    }
}

impl Departures {
    /// The last one of a thread.
    pub fn of(&self, thread: usize) -> Departure {
        *self.0[thread].lock()
    }

    /// There was another one.
    pub fn note(&self, thread: usize, kept: Result<u64, Unkept>) {
        let mut last = self.0[thread].lock();
        *last = Departure { number: last.number + 1, kept };
    }
}

/// The shell as the engine knows it.
pub struct ShellHost {
    /// Changes the log level.
    pub severity: Severity,
    /// When the server started.
    pub started: Instant,
    /// The file CONFIG REWRITE writes.
    pub config_file: Option<PathBuf>,
    /// The listening sockets, to be replaced when `bind` or `port` change.
    pub listening: Mutex<Listening>,
    /// `maxclients` as it was last raised.
    pub shell: std::sync::Weak<Shell>,
}

impl Host for ShellHost {
    fn stopwatch_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn measure(&self, facts: &mut ProcessFacts) {
        process::refresh(facts);
    }

    fn reconfigure(&self, changed: &[&'static str], config: &Config) -> Result<(), String> {
        let changes = |name: &str| changed.contains(&name);
        if changes("bind") || changes("port") {
            let reason = if changes("port") {
                "Unable to listen on this port. Check server logs."
            } else {
                "Failed to bind to specified addresses."
            };
            self.listening.lock().replace(config).map_err(|_| reason.to_owned())?;
        }
        if changes("maxclients") {
            let wanted = u64::from(config.maxclients);
            let allowed = process::allow_clients(wanted);
            if allowed < wanted {
                return Err(format!(
                    "The operating system is not able to handle the specified number of clients, try with {allowed}"
                ));
            }
            if let Some(shell) = self.shell.upgrade() {
                shell.clients_max.store(wanted, Ordering::Relaxed);
            }
        }
        if changes("dir") {
            std::env::set_current_dir(&config.dir).map_err(|error| error.to_string())?;
        }
        if changes("appendfsync")
            && let Some(shell) = self.shell.upgrade()
        {
            shell.journal.set_policy(config.appendfsync);
        }
        if changes("jemalloc-bg-thread") {
            process::purge_in_background(config.jemalloc_bg_thread).map_err(|error| error.to_string())?;
        }
        if changes("loglevel") {
            self.severity.set(config.loglevel);
        }
        Ok(())
    }

    fn rewrite_config(&self, config: &Config) -> Result<(), String> {
        let Some(path) = &self.config_file else {
            return Err("ERR The server is running without a config file".to_owned());
        };
        rewrite(path, config).map_err(|error| {
            tracing::warn!("CONFIG REWRITE failed: {error}");
            format!("ERR Rewriting config file: {error}")
        })?;
        tracing::info!("CONFIG REWRITE executed with success.");
        Ok(())
    }

    fn rewrite_journal(&self) -> bool {
        self.shell.upgrade().is_some_and(|shell| shell.journal.ask_for_snapshot())
    }

    fn keep_members(&self) {
        if let Some(shell) = self.shell.upgrade() {
            shell.keep_members();
        }
    }

    fn reserve_life(&self) -> Result<Origin, String> {
        let shell = self.shell.upgrade().ok_or("the server stops")?;
        shell.identity.reserve_life().map_err(|error| error.to_string())
    }
}

fn rewrite(path: &Path, config: &Config) -> io::Result<()> {
    let original = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    replace(path, config.rewrite(&original).as_bytes())
}
