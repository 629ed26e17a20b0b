//! Listening sockets, and what is decided about a connection before a byte of it is read.
//!
//! Connections are accepted on thread 0 and dealt to the threads in turn, so a few busy ones do not end up on the same
//! thread. Sockets do not share their ports: a second server on the same port is an error.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::sync::mpsc::UnboundedSender;

use super::shell::Shell;
use crate::config::Config;
use crate::engine::allowlist::{Admission, PROTECTED};
use crate::engine::stats::Stats;

/// An accepted connection on its way to its thread, not blocking.
#[derive(Debug)]
pub enum Incoming {
    /// Over the network.
    Tcp(TcpStream),
    /// On this machine.
    Unix(UnixStream),
}

/// A socket to accept from. Shared, because whoever changes `port` closes it from another thread.
#[derive(Clone, Debug)]
pub enum Listener {
    /// Over the network.
    Tcp(Arc<TcpListener>),
    /// On this machine.
    Unix(Arc<UnixListener>),
}

/// A port is taken, or an address is not this machine's: the log says which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not listening")]
pub struct NotListening;

/// The sockets that follow `bind` and `port`.
pub struct Listening {
    open: Vec<Arc<TcpListener>>,
    backlog: u32,
    /// Tells thread 0 to accept from these and no others.
    changes: UnboundedSender<Vec<Listener>>,
}

impl Listening {
    /// Opens what the configuration says.
    ///
    /// # Errors
    /// If one of them cannot be; the reason is in the log.
    pub fn open(config: &Config, changes: UnboundedSender<Vec<Listener>>) -> Result<Self, NotListening> {
        let open = open(config)?;
        let listening = Listening { open, backlog: config.tcp_backlog, changes };
        listening.announce();
        Ok(listening)
    }

    /// Whether there is none: `port 0` or an empty `bind`.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens others instead. If they cannot be opened, the old addresses stay.
    ///
    /// # Errors
    /// The reason is in the log.
    pub fn replace(&mut self, config: &Config) -> Result<(), NotListening> {
        // Old and new addresses may overlap: the old sockets stop listening first, which frees their ports at once.
        for listener in &self.open {
            let _ = SockRef::from(listener.as_ref()).shutdown(std::net::Shutdown::Both);
        }
        match open(config) {
            Ok(opened) => {
                self.open = opened;
                self.announce();
                Ok(())
            }
            Err(NotListening) => {
                // In place of each a new one: the runtime takes a socket that was shut down for readable ever after, and
                // accepting from it would spin.
                let again = |old: &Arc<TcpListener>| {
                    let opened = old.local_addr().and_then(|address| listen(address, self.backlog));
                    opened.inspect_err(|error| tracing::warn!("Listening again failed: {error}")).ok()
                };
                self.open = self.open.iter().filter_map(again).map(Arc::new).collect();
                self.announce();
                Err(NotListening)
            }
        }
    }

    fn announce(&self) {
        // The receiver lives as long as thread 0.
        let _ = self.changes.send(self.open.iter().cloned().map(Listener::Tcp).collect());
    }
}

fn open(config: &Config) -> Result<Vec<Arc<TcpListener>>, NotListening> {
    if config.port == 0 {
        return Ok(Vec::new());
    }
    let mut open = Vec::new();
    for bind in &config.bind {
        let result = addresses(&bind.host, config.port).and_then(|all| {
            all.iter().map(|address| listen(*address, config.tcp_backlog)).collect::<io::Result<Vec<_>>>()
        });
        match result {
            Ok(listeners) => open.extend(listeners.into_iter().map(Arc::new)),
            Err(error) if bind.optional && is_absent(&error) => {}
            Err(error) => {
                tracing::warn!(
                    "Warning: Could not create server TCP listening socket {}:{}: bind: {}",
                    bind.host,
                    config.port,
                    reason(&error)
                );
                tracing::warn!("Failed listening on port {} (TCP), aborting.", config.port);
                return Err(NotListening);
            }
        }
    }
    Ok(open)
}

/// The system's words without Rust's number behind them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Whether an address is none of this machine's, or of a family it does not have.
fn is_absent(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97)
}

fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(match host {
        "*" => vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)],
        "::*" => vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)],
        _ => (host, port).to_socket_addrs()?.collect(),
    })
}

fn backlog(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

fn listen(address: SocketAddr, length: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a server that stopped a moment ago do not keep its port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(length))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Opens the Unix socket, in place of what an earlier server left there.
///
/// # Errors
/// If it cannot be created.
pub fn open_unix(path: &Path, permissions: u32) -> io::Result<Listener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    if std::fs::symlink_metadata(path).is_ok_and(|held| held.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    if permissions != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(permissions))?;
    }
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(Arc::new(listener)))
}

/// Accepts for ever from one socket.
pub async fn accept(shell: Arc<Shell>, listener: Listener) {
    let result = match listener {
        Listener::Tcp(listener) => accept_tcp(&shell, &listener).await,
        Listener::Unix(listener) => accept_unix(&shell, &listener).await,
    };
    if let Err(error) = result {
        tracing::warn!("A listening socket cannot be watched: {error}");
    }
}

async fn accept_tcp(shell: &Shell, listener: &TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
    let mut next_thread = 0;
    loop {
        let accepted = listener.accept().await;
        let accepted =
            accepted.and_then(|(stream, from)| Ok((Incoming::Tcp(stream.into_std()?), Some(from.ip()))));
        take(shell, accepted, &mut next_thread).await;
    }
}

async fn accept_unix(shell: &Shell, listener: &UnixListener) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
    let mut next_thread = 0;
    loop {
        let accepted = listener.accept().await;
        let accepted = accepted.and_then(|(stream, _)| Ok((Incoming::Unix(stream.into_std()?), None)));
        take(shell, accepted, &mut next_thread).await;
    }
}

async fn take(shell: &Shell, accepted: io::Result<(Incoming, Option<IpAddr>)>, next_thread: &mut usize) {
    match accepted {
        Ok((incoming, from)) => {
            if let Err(error) = admit(shell, incoming, from, next_thread) {
                tracing::debug!("A connection was lost before it began: {error}");
            }
        }
        // Closed by a change of `port`: thread 0 is about to end this task.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => tokio::time::sleep(RETRY).await,
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
        // Out of descriptors, most likely: it passes when clients go.
        Err(error) => {
            tracing::warn!("Accepting client connection: {error}");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Between attempts to accept when it fails.
const RETRY: Duration = Duration::from_millis(50);

/// Decides whether a connection may be, and deals it to a thread.
fn admit(shell: &Shell, incoming: Incoming, from: Option<IpAddr>, next_thread: &mut usize) -> io::Result<()> {
    let engine = &shell.engine;
    let admission = engine.admission(from);
    let config = engine.config.read();
    let local = from.is_none_or(|ip| ip.to_canonical().is_loopback());
    let connected = shell.connected.load(SeqCst) as u64;
    let clients_max = shell.clients_max.load(Relaxed);
    let reserved = if local { 0 } else { u64::from(config.maxclients_reserved).min(clients_max) };
    let refusal = match admission {
        Admission::Refused => Some(""),
        Admission::Full | Admission::LinkOnly | Admission::Protected
            if connected >= clients_max - reserved =>
        {
            Some("-ERR max number of clients reached\r\n")
        }
        Admission::Protected => Some(PROTECTED),
        Admission::Full | Admission::LinkOnly => None,
    };
    if let Some(why) = refusal {
        Stats::add(&engine.stats(0).rejected_connections, 1);
        return refuse(incoming, why);
    }
    match &incoming {
        Incoming::Tcp(stream) => {
            stream.set_nodelay(true)?;
            keep_alive(stream, config.tcp_keepalive_s)?;
        }
        Incoming::Unix(_) => {}
    }
    drop(config);
    let thread = *next_thread % shell.threads.len();
    *next_thread = next_thread.wrapping_add(1);
    shell.connected.fetch_add(1, SeqCst);
    if shell.threads[thread].send(incoming).is_err() {
        shell.connected.fetch_sub(1, SeqCst);
    }
    Ok(())
}

/// Says why and closes. The socket is fresh, so its buffer takes the line; if not, the client learns nothing.
fn refuse(incoming: Incoming, why: &str) -> io::Result<()> {
    match incoming {
        Incoming::Tcp(mut stream) => stream.write_all(why.as_bytes()),
        Incoming::Unix(mut stream) => stream.write_all(why.as_bytes()),
    }
}

fn keep_alive(stream: &TcpStream, seconds: u64) -> io::Result<()> {
    if seconds == 0 {
        return Ok(());
    }
    let probe = TcpKeepalive::new()
        .with_time(Duration::from_secs(seconds))
        .with_interval(Duration::from_secs((seconds / 3).max(1)))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&probe)
}
