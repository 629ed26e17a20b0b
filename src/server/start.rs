//! From a configuration to running threads, and back.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::identity::{Identity, IdentityError};
use super::journal::{Journal, JournalError};
use super::listener::{self, Incoming, Listener, Listening, NotListening};
use super::members::Members;
use super::shell::{LINGER, Shell, ShellHost};
use super::{connection, log, peer, process, ticker, time};
use crate::clock::NodeId;
use crate::command::TABLES;
use crate::config::Config;
use crate::engine::{Engine, Seeds};
use crate::link::frame::Member;
use crate::link::mesh::MemberState;

/// What a goodbye to partners takes to be sent.
const LEAVE: Duration = Duration::from_millis(10);
/// How long a stopping node waits for a partner to be linked anew.
const RELINK: Duration = Duration::from_secs(1);

/// The operator's error: the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See [`IdentityError`].
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// See [`JournalError`].
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be written.
    #[error("Can't open the log file {0}: {1}")]
    Log(PathBuf, io::Error),
    /// `dir` is no directory to work in.
    #[error("Can't chdir to '{0}': {1}")]
    Dir(PathBuf, io::Error),
    /// See [`NotListening`].
    #[error(transparent)]
    Listen(#[from] NotListening),
    /// Neither a port nor a Unix socket.
    #[error("Configured to not listen anywhere, exiting.")]
    Nowhere,
    /// A Unix socket, a thread, random bits.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs a server until it is told to stop.
///
/// # Errors
/// If it cannot start, or cannot write its identity when it stops.
pub fn run(config: Config, config_file: Option<PathBuf>) -> Result<(), StartError> {
    std::env::set_current_dir(&config.dir).map_err(|error| StartError::Dir(config.dir.clone(), error))?;
    let severity = log::start(config.logfile.clone(), config.loglevel)
        .map_err(|error| StartError::Log(config.logfile.clone().unwrap_or_default(), error))?;
    announce(&config, config_file.as_deref());
    let result = serve(config, config_file, severity);
    if let Err(error) = &result
        && !matches!(error, StartError::Listen(_))
    {
        tracing::warn!("{error}");
    }
    result
}

fn announce(config: &Config, config_file: Option<&Path>) {
    tracing::warn!(
        "Meldis {} is starting, bits={}, PID: {}",
        env!("CARGO_PKG_VERSION"),
        usize::BITS,
        std::process::id()
    );
    match config_file {
        Some(_) => tracing::warn!("Configuration loaded"),
        None => tracing::warn!(
            "Warning: no config file specified, using the default config and the command line."
        ),
    }
    for notice in config.notices() {
        tracing::warn!("{notice}");
    }
}

/// Where connections are taken from.
struct Doors {
    listening: Listening,
    /// Sockets that replace those there are.
    changes: UnboundedReceiver<Vec<Listener>>,
    unix: Option<Listener>,
}

impl Doors {
    fn open(config: &Config) -> Result<Doors, StartError> {
        let (listeners, changes) = unbounded_channel();
        let listening = Listening::open(config, listeners)?;
        let unix = match &config.unixsocket {
            Some(path) => Some(listener::open_unix(path, config.unixsocketperm).inspect_err(|error| {
                tracing::warn!("Failed opening Unix socket: bind: {error}");
            })?),
            None => None,
        };
        if listening.is_empty() && unix.is_none() {
            return Err(StartError::Nowhere);
        }
        Ok(Doors { listening, changes, unix })
    }
}

fn serve(config: Config, config_file: Option<PathBuf>, severity: log::Severity) -> Result<(), StartError> {
    let started = Instant::now();
    // `dir` is the working directory by now; CONFIG SET dir does not move what is there.
    let dir = std::env::current_dir()?;
    let identity = Identity::open(&dir, random::<1>()?[0], time::now().ntp)?;
    let members = Members::open(&dir)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let doors = Doors::open(&config)?;
    let (port, pidfile, unixsocket) = (config.port, config.pidfile.clone(), config.unixsocket.clone());
    let threads = config.server_threads.max(1);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| unbounded_channel()).unzip();
    let shell = revive(config, config_file.as_deref(), &dir, identity, members, senders)?;
    let host = ShellHost {
        severity,
        started,
        config_file,
        listening: Mutex::new(doors.listening),
        shell: Arc::downgrade(&shell),
    };
    let _ = shell.engine.host.set(Box::new(host));
    if let Some(path) = &pidfile
        && let Err(error) = std::fs::write(path, format!("{}\n", std::process::id()))
    {
        tracing::warn!("Failed to write PID file {}: {error}", path.display());
    }
    tracing::info!("Running mode={}, port={port}.", shell.engine.mode());
    tracing::warn!("Server initialized");
    let syncing = {
        let shell = shell.clone();
        let work = move || shell.journal.sync_on(&shell.engine);
        std::thread::Builder::new().name("journal-sync".to_owned()).spawn(work)?
    };
    let mut receivers = receivers.into_iter();
    let first = receivers.next().expect("there is at least one thread");
    let running = (1..).zip(receivers).map(|(thread, receiver)| spawn(&shell, thread, receiver));
    let running = running.collect::<io::Result<Vec<_>>>()?;
    runtime.block_on(async {
        tokio::spawn(peer::supervise(shell.clone(), 0));
        tokio::spawn(ticker::run(shell.clone()));
        tokio::spawn(watch_signals(shell.clone()));
        tokio::spawn(keep_listening(shell.clone(), doors.changes, doors.unix));
        (0..threads).for_each(|thread| tracing::info!("Thread {thread} alive."));
        tracing::info!("Ready to accept connections");
        take_connections(shell.clone(), first, 0).await;
        take_leave(&shell).await;
    });
    finish(&runtime, &shell);
    runtime.block_on(hand_over(&shell));
    shell.handed_over.send_replace(true);
    for thread in running {
        thread.join().map_err(|_| io::Error::other("a server thread panicked"))??;
    }
    shell.journal.close(&shell.engine);
    syncing.join().map_err(|_| io::Error::other("the thread that syncs the journal panicked"))?;
    shell.identity.close(&shell.engine.clock)?;
    // Both may be gone already.
    let _ = pidfile.map(std::fs::remove_file);
    let _ = unixsocket.map(std::fs::remove_file);
    tracing::warn!("Meldis is now ready to exit, bye bye...");
    Ok(())
}

/// The node as its data directory has it.
fn revive(
    config: Config,
    config_file: Option<&Path>,
    dir: &Path,
    identity: Identity,
    members: Members,
    senders: Vec<UnboundedSender<Incoming>>,
) -> Result<Arc<Shell>, StartError> {
    let now = time::now();
    let [a, b, c, d, run_id @ ..] = random::<7>()?;
    let clients = u64::from(config.maxclients);
    if let Err(error) = process::purge_in_background(config.jemalloc_bg_thread) {
        tracing::warn!("Memory that was freed goes back to the system late: {error}");
    }
    let (seeds, threads) = (Seeds([a, b, c, d]), senders.len());
    let engine = Arc::new(Engine::new(identity.origin(), identity.floor(), threads, seeds, config, TABLES));
    let (journal, read) = Journal::open(dir, &engine)?;
    if read.is_some_and(|read| engine.is_follower() && read.follows != engine.primary()) {
        engine.follow_anew(identity.reserve_life()?);
    }
    let run_id: String = run_id.iter().map(|word| format!("{word:016x}")).collect();
    *engine.facts.write() = process::at_start(config_file, run_id[..40].to_owned(), now.unix_ms);
    let roster = members.roster();
    for known in &roster.members {
        let Member { origin, host, port, .. } = &known.member;
        tracing::info!("Node {} at {host}:{port} is known from before", origin.node());
    }
    engine.restore(roster, now);
    let shell = Arc::new(Shell::new(engine, identity, members, journal, senders));
    let allowed = process::allow_clients(clients);
    if allowed < clients {
        tracing::warn!(
            "The system allows {allowed} clients at once, not the {clients} of maxclients: see ulimit -n."
        );
        shell.clients_max.store(allowed, SeqCst);
    }
    Ok(shell)
}

/// Serves connections on a thread of its own until the server stops.
fn spawn(
    shell: &Arc<Shell>,
    thread: usize,
    receiver: UnboundedReceiver<Incoming>,
) -> io::Result<std::thread::JoinHandle<io::Result<()>>> {
    let shell = shell.clone();
    let work = move || -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(take_connections(shell.clone(), receiver, thread));
        finish(&runtime, &shell);
        // Its links go on until then: without their tasks the partners' acknowledgements would be read by nobody.
        let _ = runtime.block_on(shell.handed_over.subscribe().wait_for(|done| *done));
        Ok(())
    };
    std::thread::Builder::new().name(format!("server-{thread}")).spawn(work)
}

/// Bits nobody can guess.
fn random<const WORDS: usize>() -> io::Result<[u64; WORDS]> {
    let mut source = std::fs::File::open("/dev/urandom")?;
    let mut words = [0; WORDS];
    for word in &mut words {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes)?;
        *word = u64::from_le_bytes(bytes);
    }
    Ok(words)
}

/// Serves the connections dealt to a thread until the server stops.
async fn take_connections(shell: Arc<Shell>, mut incoming: UnboundedReceiver<Incoming>, thread: usize) {
    let mut stopping = shell.stopping.subscribe();
    loop {
        tokio::select! {
            taken = incoming.recv() => match taken {
                Some(taken) => {
                    tokio::spawn(connection::serve(shell.clone(), taken, thread));
                }
                None => return,
            },
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// Accepts from the sockets there are at any time. Ends when the server stops.
async fn keep_listening(
    shell: Arc<Shell>,
    mut changes: UnboundedReceiver<Vec<Listener>>,
    unix: Option<Listener>,
) {
    let mut stopping = shell.stopping.subscribe();
    let unix = unix.map(|unix| tokio::spawn(listener::accept(shell.clone(), unix)));
    let mut accepting: Vec<JoinHandle<()>> = Vec::new();
    loop {
        tokio::select! {
            listeners = changes.recv() => {
                let Some(listeners) = listeners else { return };
                accepting.drain(..).for_each(|task| task.abort());
                let accept = |listener| tokio::spawn(listener::accept(shell.clone(), listener));
                accepting.extend(listeners.into_iter().map(accept));
            }
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    accepting.into_iter().chain(unix).for_each(|task| task.abort());
}

/// SIGTERM and SIGINT stop the server, the second one at once; SIGHUP is ignored.
async fn watch_signals(shell: Arc<Shell>) {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = kinds.map(signal) else {
        return tracing::warn!("Signals cannot be watched");
    };
    loop {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hangup.recv() => continue,
        };
        if shell.is_stopping() {
            tracing::warn!("You insist... exiting now.");
            shell.journal.close(&shell.engine);
            let _ = shell.identity.close(&shell.engine.clock);
            std::process::exit(1);
        }
        tracing::warn!("Received {name} scheduling shutdown...");
        shell.stop();
    }
}

/// The end of a thread: its connections answer what they have read, and close.
fn finish(runtime: &Runtime, shell: &Shell) {
    runtime.block_on(async {
        let gone = async {
            while shell.clients() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if shell.engine.config.read().soft_shutdown {
            tracing::info!("Waiting for the clients to go (soft-shutdown)");
            gone.await;
            return;
        }
        shell.close_clients();
        if tokio::time::timeout(LINGER, gone).await.is_err() {
            shell.engine.clients.iter().for_each(|client| client.kill());
            // Their tasks end with the runtime; this only lets them see it.
            tokio::task::yield_now().await;
        }
    });
}

/// Partners hear that this node goes, before its clients do.
async fn take_leave(shell: &Shell) {
    shell.engine.hand_over(time::now(), 0);
    tokio::time::sleep(LEAVE).await;
}

/// What clients were told is done reaches the partners that are linked, as far as `shutdown-timeout` allows.
async fn hand_over(shell: &Shell) {
    let timeout_s = shell.engine.config.read().shutdown_timeout_s;
    let sequence = shell.engine.sequence_now();
    let own = shell.engine.clock.origin();
    // One link may just be giving way to another: whoever was heard a moment ago counts.
    let now_ms = time::now().unix_ms;
    let is_here = |state: &&MemberState| now_ms.saturating_sub(state.seen_at_ms) < RELINK.as_millis() as u64;
    let nodes: Vec<NodeId> = {
        let mesh = shell.engine.mesh.lock();
        mesh.members().filter(is_here).map(|state| state.member.origin.node()).collect()
    };
    let mut lacking: Vec<(NodeId, Instant)> = nodes.into_iter().map(|node| (node, Instant::now())).collect();
    let handed = async {
        loop {
            {
                let mesh = shell.engine.mesh.lock();
                lacking.retain_mut(|(node, linked_at)| match mesh.link_to(*node) {
                    Some((_, link)) => {
                        *linked_at = Instant::now();
                        link.vector.of(own).sequence < sequence
                    }
                    None => linked_at.elapsed() < RELINK,
                });
            }
            if lacking.is_empty() {
                return;
            }
            shell.engine.wake_all_links();
            tokio::time::sleep(LEAVE).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(timeout_s), handed).await.is_err() {
        tracing::warn!(
            "A partner does not have all writes of this node after {timeout_s} s (shutdown-timeout)"
        );
    }
}
