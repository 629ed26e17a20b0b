//! What must hold once all faults have ended: links stream within a stated time, tombstones go, counters are exact.

use std::collections::BTreeMap;
use std::fmt;

use meldis::clock::{Origin, unix_ms_from_ntp};
use meldis::number;
use meldis::store::delta::{Amount, Change};

use crate::check;
use crate::schedule::{Action, Schedule};
use crate::world::World;

/// All links stream so long after the last fault.
const STREAMS_MS: u64 = 10_000;
/// Each pull that is cut costs a new connection, and its digests again.
const CUT_MS: u64 = 1000;
/// `max-clock-drift`: stamps that are further ahead hold their links until real time has caught up.
const DRIFT_MS: u64 = 5000;

/// Until when a world must have come to rest.
pub struct Bound {
    from_us: u64,
    /// How far the newest stamp, also of a node that is gone, is ahead of what links take.
    ahead_ms: u64,
    cut: u64,
}

impl Bound {
    pub fn from_now(world: &World) -> Bound {
        let last = world.up().into_iter().map(|node| world.engine(node).clock.last()).max();
        let newest_ms = unix_ms_from_ntp(world.newest.max(last.unwrap_or(world.newest)));
        // Also of those that are yet to start.
        let slowest_ms = (0..world.nodes.len()).map(|node| world.now(node).unix_ms).min().unwrap_or(0);
        let ahead_ms = newest_ms.saturating_sub(slowest_ms + DRIFT_MS);
        Bound { from_us: world.now_us, ahead_ms, cut: world.net.cut }
    }

    pub fn is_over(&self, world: &World) -> bool {
        let ms = STREAMS_MS + self.ahead_ms + (world.net.cut - self.cut) * CUT_MS;
        world.now_us > self.from_us + ms * 1000
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STREAMS_MS} ms, {} ms for clocks ahead, {CUT_MS} ms per cut", self.ahead_ms)
    }
}

/// In the quiet all tombstones go within the bound for streaming: nothing is left that could contest them. The expiry of
/// a key that was emptied stays until its time.
pub fn tombstones_go(world: &mut World) -> Result<(), String> {
    let bound = Bound::from_now(world);
    while world.up().into_iter().any(|node| !check::collectable(world, node).is_empty()) {
        if bound.is_over(world) {
            let left: String = world.up().iter().map(|node| check::show_collectable(world, *node)).collect();
            return Err(format!("tombstones are left after {bound}:\n{}{left}", world.unrest()));
        }
        world.step(20_000);
        world.check()?;
    }
    Ok(())
}

/// Counters that are only added to hold every amount of who still lives in a cluster, and of the dead, and of whom is in
/// another one, all that got around.
pub fn counters_are_exact(world: &World, schedule: &Schedule, cluster: &[usize]) -> Result<(), String> {
    let flushes = |line: &Vec<Vec<u8>>| line[0].starts_with(b"FLUSH") || line[0] == b"SWAPDB";
    let is_flushed = schedule
        .actions
        .iter()
        .any(|action| matches!(action, Action::Run { lines, .. } if lines.iter().any(flushes)));
    if is_flushed {
        return Ok(());
    }
    let node = cluster[0];
    let alive: Vec<Origin> = cluster.iter().map(|node| world.engine(*node).clock.origin()).collect();
    for (key, acknowledged) in world.history.counters() {
        let held = sums(world, node, &key);
        let name = String::from_utf8_lossy(&key);
        let total: i128 = held.values().sum();
        if text(world, node, &key) != total {
            return Err(format!("{name} is {}, its sums are {held:?}", text(world, node, &key)));
        }
        for (origin, all) in &acknowledged {
            let sum = held.get(origin).copied().unwrap_or(0);
            let is_exact = if alive.contains(origin) {
                sum == *all
            } else {
                world.history.restated || may_be_left(world, node, &key, *origin, sum)
            };
            if !is_exact {
                return Err(format!("{name} has {sum} of {origin}, who added {all}"));
            }
        }
        if let Some(origin) = held.keys().find(|origin| !acknowledged.contains_key(origin)) {
            return Err(format!("{name} has a sum of {origin}, who never added"));
        }
    }
    Ok(())
}

/// A dead origin's sum is what its batches up to those this node has made it, or a later one: a pull may have brought it.
fn may_be_left(world: &World, node: usize, key: &[u8], origin: Origin, sum: i128) -> bool {
    let sequence = world.engine(node).mesh.lock().vector().of(origin).sequence;
    let totals = world.watch.ledger.totals(key, origin);
    let merged = totals.partition_point(|(number, _)| *number <= sequence);
    let left = totals[merged..].iter().map(|(_, total)| *total);
    let last = totals[..merged].last().map_or(0, |(_, total)| *total);
    sum == last || left.into_iter().any(|total| total == sum)
}

fn sums(world: &World, node: usize, key: &[u8]) -> BTreeMap<Origin, i128> {
    let engine = world.engine(node);
    let hash = engine.hash(key);
    let cell = engine.cell(hash.range()).lock();
    let mut sums = BTreeMap::new();
    if let Some(entry) = cell.shard.get(0, key, hash) {
        entry.registers(|_, change| {
            if let Change::Sum(added) = change
                && let Amount::Int(n) = added.amount
            {
                sums.insert(added.origin, n);
            }
        });
    }
    sums
}

fn text(world: &World, node: usize, key: &[u8]) -> i128 {
    let engine = world.engine(node);
    let hash = engine.hash(key);
    let cell = engine.cell(hash.range()).lock();
    let entry = cell.shard.get(0, key, hash);
    let text = entry.and_then(|entry| entry.value()).and_then(|value| value.as_string());
    text.map_or(0, |text| number::parse_i64(text).expect("a number").into())
}
