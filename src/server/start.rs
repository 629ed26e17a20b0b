//! From a configuration to running threads.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{listener, time};
use super::identity::Identity;
use crate::command::TABLES;
use crate::config::Config;
use crate::engine::{Engine, Seeds};

/// Runs a server until it is told to stop.
///
/// # Errors
/// If a listening socket or a thread cannot be had.
pub fn run(config: Config) -> io::Result<()> {
    let now = time::now();
    let threads = config.server_threads.max(1);
    let random = random()?;
    let [seeds @ .., node] = random;
    let identity = Identity::open(&config.dir, node, now.ntp).map_err(io::Error::other)?;
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), config.port);
    let backlog = config.tcp_backlog;
    let engine = Arc::new(Engine::new(identity.origin(), identity.floor(), threads, Seeds(seeds), config, TABLES));
    let mut running = Vec::new();
    for thread in 0..threads {
        let listener = listener::bind(address, backlog)?;
        let engine = engine.clone();
        running.push(std::thread::Builder::new().name(format!("server-{thread}")).spawn(move || serve(engine, listener, thread))?);
    }
    for thread in running {
        thread.join().map_err(|_| io::Error::other("a server thread panicked"))??;
    }
    Ok(())
}

/// Bits nobody can guess.
fn random() -> io::Result<[u64; 5]> {
    let mut bytes = [0; 40];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(std::array::from_fn(|n| u64::from_le_bytes(std::array::from_fn(|m| bytes[8 * n + m]))))
}

fn serve(engine: Arc<Engine>, listener: std::net::TcpListener, thread: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        listener::accept(engine, listener, thread).await;
        Ok(())
    })
}
