//! Plays a schedule: actions, checks after each, and at every calm healing and comparison.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use meldis::faults::Faults;

use crate::schedule::{Action, Schedule};
use crate::world::World;
use crate::{check, clients, conflicts, finale};

/// Time passes in such steps while nothing happens.
const PAUSE_US: u64 = 20_000;
/// What a crash or an absence leaves behind, and what a node wrote before others knew of it under a stamp whose tombstones
/// some have collected and some have not, is repaired by comparison in the background, every ten seconds per link.
const COMPARED_US: u64 = 25_000_000;

/// What came of playing.
#[derive(Default)]
pub struct Outcome {
    /// By seed: the reports of those that failed.
    pub failed: Vec<(u64, String)>,
    /// Virtual time, in microseconds.
    pub virtual_us: u64,
    pub pulls_cut: u64,
}

/// Plays the schedules of seeds on all cores until so many have failed.
pub fn play_all(seeds: &[u64], faults: Faults, failures_max: usize) -> Outcome {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (virtual_us, pulls_cut) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get());
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed.lock().unwrap().len() >= failures_max {
                        return;
                    }
                    let schedule = Schedule::draw(*seed);
                    match play(&schedule, faults) {
                        Ok(played) => {
                            virtual_us.fetch_add(played.virtual_us, Ordering::Relaxed);
                            pulls_cut.fetch_add(played.pulls_cut, Ordering::Relaxed);
                        }
                        Err(report) => failed.lock().unwrap().push((*seed, report)),
                    }
                }
            });
        }
    });
    drop(std::panic::take_hook());
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    Outcome { failed, virtual_us: virtual_us.into_inner(), pulls_cut: pulls_cut.into_inner() }
}

/// Plays one schedule; what went wrong, if something did.
pub fn play(schedule: &Schedule, faults: Faults) -> Result<Outcome, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(schedule, faults)));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("seed {} panicked: {}", schedule.seed, text.unwrap_or_default()))
    })
}

fn run(schedule: &Schedule, faults: Faults) -> Result<Outcome, String> {
    let mut world = World::new(schedule.seed, schedule.plan.clone(), faults);
    for (at, action) in schedule.actions.iter().enumerate() {
        let described = |text: String| {
            format!("seed {} action {at} ({action}): {}\n{text}", schedule.seed, schedule.plan)
        };
        match action {
            Action::Calm => calm(&mut world, schedule),
            action => {
                act(&mut world, action);
                match action {
                    Action::Step { .. } => world.check(),
                    _ => world.watch.take_breach().map_or(Ok(()), Err),
                }
            }
        }
        .map_err(described)?;
    }
    Ok(Outcome { failed: Vec::new(), virtual_us: world.now_us, pulls_cut: world.net.cut })
}

fn act(world: &mut World, action: &Action) {
    let now_us = world.now_us;
    if world.trace && !matches!(action, Action::Run { .. } | Action::Step { .. }) {
        println!("{now_us:>9} {action}");
    }
    match *action {
        Action::Run { node, session, ref lines } => clients::run(world, node, session, lines),
        Action::Step { us } => world.step(us),
        Action::Cut { a, b, us } => {
            world.net.path(a, b).cut_until_us = now_us + us;
            world.net.path(b, a).cut_until_us = now_us + us;
        }
        Action::Stall { from, to, us } => world.net.path(from, to).stalled_until_us = now_us + us,
        Action::Drop { a, b } => world.net.drop_connections(a, b, now_us),
        Action::Crash { node, us, wiped, silent } => world.crash(node, us, wiped, silent),
        Action::Skew { node, ms } => world.nodes[node].skew_us = ms * 1000,
        Action::Join { node, knows } => world.join(node, knows),
        Action::Follow { node, primary } => world.follow(node, primary),
        Action::Promote { node } => world.promote(node),
        Action::Partner { node, partner } => world.partner(node, partner),
        Action::Part { node, partner } => world.part(node, partner),
        Action::Leave { node } => world.leave(node),
        Action::Calm => {}
    }
}

/// Ends all faults, and compares everything.
fn calm(world: &mut World, schedule: &Schedule) -> Result<(), String> {
    let has_lives = schedule.has_lives() && !(schedule.only_restarts() && world.keeps_all());
    heal(world)?;
    if let Err(text) = nodes_equal(world) {
        if !has_lives && world.plan.absence_s >= 60 {
            return Err(text);
        }
        world.net.end_cuts();
        pass(world, COMPARED_US)?;
        heal(world)?;
        nodes_equal(world).map_err(|later| format!("{text}and later {later}"))?;
    }
    if !has_lives && world.plan.absence_s >= 60 && !world.diverged.is_empty() {
        return Err(format!("ranges differed though nothing was under way: {}", world.diverged.join("")));
    }
    for cluster in world.clusters() {
        // What was away too long may bring back what was deleted meanwhile; all that is promised is that it is so everywhere.
        if world.plan.absence_s >= 60 {
            check::equals_model(world, &cluster)?;
        }
        finale::counters_are_exact(world, schedule, &cluster)?;
    }
    conflicts::are_concurrent(world)?;
    world.check_graves()?;
    // A member that is gone for good, or to another cluster, holds tombstones until it counts as absent.
    let is_awaited = schedule.has_leavers() || schedule.has_turns() && world.is_anyone_awaited();
    if !is_awaited || world.plan.absence_s < 60 {
        finale::tombstones_go(world)?;
    }
    Ok(())
}

fn nodes_equal(world: &World) -> Result<(), String> {
    world.clusters().iter().try_for_each(|cluster| check::nodes_equal(world, cluster))
}

fn pass(world: &mut World, us: u64) -> Result<(), String> {
    let until_us = world.now_us + us;
    while world.now_us < until_us {
        world.step(PAUSE_US);
        world.check()?;
    }
    Ok(())
}

/// Ends all faults and waits until nothing moves any more.
fn heal(world: &mut World) -> Result<(), String> {
    world.net.heal();
    for node in &mut world.nodes {
        node.skew_us = 0;
        node.back_at_us = node.back_at_us.map(|_| 0);
    }
    let bound = finale::Bound::from_now(world);
    let mut quiet = 0;
    while quiet < 3 {
        if bound.is_over(world) {
            return Err(format!("no rest after {bound}:\n{}", world.unrest()));
        }
        world.step(PAUSE_US);
        // Upkeep may write: what an expiry has killed is cleared in the end.
        for node in world.up() {
            let now = world.now(node);
            while world.engine(node).tick(now, 0) {}
        }
        world.check()?;
        quiet = if world.is_quiet() { quiet + 1 } else { 0 };
    }
    Ok(())
}
