//! What happens by itself. Ten times a second: the clock's ceiling is renewed, the node's standing is taken down, the journal
//! is looked after, and the engine's upkeep is done. Once a second: numbers for INFO, idle and slow clients.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::process;
use super::shell::Shell;
use super::time::now;
use crate::engine::client::{Client, ClientFlags};
use crate::engine::{Engine, Now};

const PERIOD: Duration = Duration::from_millis(100);
/// The thread this runs on.
const THREAD: usize = 0;
const PERIODS_PER_SECOND: u64 = 10;

/// What was counted a second ago.
#[derive(Clone, Copy, Default)]
struct Counted {
    commands: u64,
    input_bytes: u64,
    output_bytes: u64,
    link_input_bytes: u64,
    link_output_bytes: u64,
}

impl Counted {
    fn now(engine: &Engine) -> Self {
        Counted {
            commands: engine.total(|stats| &stats.commands),
            input_bytes: engine.total(|stats| &stats.input_bytes),
            output_bytes: engine.total(|stats| &stats.output_bytes),
            link_input_bytes: engine.link_input_bytes.load(Relaxed),
            link_output_bytes: engine.link_output_bytes.load(Relaxed),
        }
    }
}

/// Runs for as long as the server does.
pub async fn run(shell: Arc<Shell>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counted = Counted::now(&shell.engine);
    for count in 1.. {
        tick.tick().await;
        let now = now();
        if let Err(error) = shell.identity.renew(&shell.engine.clock, now.ntp) {
            tracing::warn!("The node's clock cannot be written: {error}");
        }
        shell.engine.refresh_standing(now);
        shell.journal.tick(&shell.engine);
        // Keys past their expiry, and what may be forgotten; more at once as connections leave time for it.
        while shell.engine.tick(now, THREAD) {
            tokio::task::yield_now().await;
        }
        if count % PERIODS_PER_SECOND == 0 {
            counted = refresh_facts(&shell.engine, counted);
            for client in &shell.engine.clients {
                close_idle(&shell.engine, &client, now);
                close_slow(&shell.engine, &client, now);
            }
        }
    }
}

fn refresh_facts(engine: &Engine, before: Counted) -> Counted {
    let counted = Counted::now(engine);
    // The files of /proc are read outside the lock.
    let mut facts = engine.facts.read().clone();
    process::refresh(&mut facts);
    facts.commands_per_second = counted.commands.saturating_sub(before.commands);
    facts.input_bytes_per_second = counted.input_bytes.saturating_sub(before.input_bytes);
    facts.output_bytes_per_second = counted.output_bytes.saturating_sub(before.output_bytes);
    facts.link_input_bytes_per_second = counted.link_input_bytes.saturating_sub(before.link_input_bytes);
    facts.link_output_bytes_per_second = counted.link_output_bytes.saturating_sub(before.link_output_bytes);
    *engine.facts.write() = facts;
    counted
}

/// `timeout`: closes who has sent nothing for so long. Who waits, listens or watches is not idle.
fn close_idle(engine: &Engine, client: &Client, now: Now) {
    const BUSY: ClientFlags =
        ClientFlags::BLOCKED.union(ClientFlags::PUBSUB).union(ClientFlags::MONITOR).union(ClientFlags::LINK);
    let limit_s = engine.limits.idle_s.load(Relaxed);
    let idle_ms = now.unix_ms.saturating_sub(client.active_at_ms.load(Relaxed));
    if limit_s != 0 && idle_ms > limit_s.saturating_mul(1000) && !client.flags().intersects(BUSY) {
        tracing::debug!("Closing idle client id={} addr={}", client.id, client.addr);
        client.kill();
    }
}

/// `client-output-buffer-limit`: closes who has left too much unread for too long.
fn close_slow(engine: &Engine, client: &Client, now: Now) {
    let limit = engine.limits.output(client.flags());
    let unread = client.unread_bytes();
    let since = &client.over_soft_since_ms;
    if limit.soft == 0 || unread <= limit.soft {
        since.store(0, Relaxed);
    } else if since.load(Relaxed) == 0 {
        since.store(now.unix_ms, Relaxed);
    } else if now.unix_ms.saturating_sub(since.load(Relaxed)) > limit.soft_seconds.saturating_mul(1000) {
        client.set(ClientFlags::OVER_LIMIT);
        client.kill();
    }
    if limit.hard != 0 && unread > limit.hard {
        client.set(ClientFlags::OVER_LIMIT);
        client.kill();
    }
}

/// Counts a connection that is gone, and says why if it was the server's doing.
pub fn farewell(shell: &Shell, client: &Client) {
    if client.flags().contains(ClientFlags::OVER_LIMIT) {
        tracing::warn!(
            "Client id={} addr={} closed for overcoming of output buffer limits: {} bytes unread.",
            client.id,
            client.addr,
            client.unread_bytes()
        );
    }
    shell.connected.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
}
