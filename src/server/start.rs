//! From a configuration to running threads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{listener, time};
use crate::clock::{NTP64, NodeId, Origin};
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
    let seeds = Seeds(std::array::from_fn(|n| now.ntp.0.rotate_left(17 * n as u32) ^ u64::from(std::process::id())));
    let origin = Origin::new(NodeId::new(seeds.0[1]), 1);
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), config.port);
    let backlog = config.tcp_backlog;
    let engine = Arc::new(Engine::new(origin, NTP64(0), threads, seeds, config, TABLES));
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

/// How often the server looks for keys past their expiry.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(100);

/// Calls [`Engine::tick`] for ever; while there is more to do, as often as connections leave time for it.
async fn upkeep(engine: Arc<Engine>, thread: usize) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        while engine.tick(time::now(), thread) {
            tokio::task::yield_now().await;
        }
    }
}

fn serve(engine: Arc<Engine>, listener: std::net::TcpListener, thread: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        if thread == 0 {
            tokio::spawn(upkeep(engine.clone(), thread));
            tokio::spawn(super::peer::supervise(engine.clone(), thread));
        }
        listener::accept(engine, listener, thread).await;
        Ok(())
    })
}
