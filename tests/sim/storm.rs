//! One seed: a plan, a load, faults, healing, comparison; several times over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use meldis::faults::Faults;

use crate::check;
use crate::load::Load;
use crate::random::Random;
use crate::world::{Plan, World};

/// How bad it gets.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Percent of steps with a fault.
    faults: usize,
    crashes: bool,
    /// Clocks differ by up to so many milliseconds.
    skew_ms: i64,
    expiries: bool,
    flushes: bool,
    steps: usize,
    rounds: usize,
    keys: usize,
}

fn forecast(random: &mut Random) -> (Plan, Weather) {
    let nodes = 2 + random.below(2);
    let plan = Plan {
        nodes,
        backlog_bytes: *random.pick(&[200, 2000, 1 << 20]),
        absence_s: *random.pick(&[86_400, 86_400, 86_400, 1]),
        full_mesh: random.chance(70),
        delay_us: *random.pick(&[200, 5000, 50_000]),
        piece_bytes: *random.pick(&[7, 300, 65_536]),
    };
    let weather = Weather {
        faults: *random.pick(&[0, 2, 10]),
        crashes: random.chance(50),
        skew_ms: *random.pick(&[0, 5, 300, 3000, 20_000]),
        expiries: random.chance(60),
        flushes: random.chance(20),
        steps: *random.pick(&[60, 200, 400]),
        rounds: 2,
        keys: 1 + random.below(3),
    };
    (plan, weather)
}

/// Runs seeds on all cores; the reports of those that failed.
pub fn weather_all(seeds: &[u64], faults: Faults, failures_max: usize) -> Vec<(u64, String)> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get());
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed.lock().unwrap().len() >= failures_max {
                        return;
                    }
                    if let Err(report) = weather(*seed, faults) {
                        failed.lock().unwrap().push((*seed, report));
                    }
                }
            });
        }
    });
    drop(std::panic::take_hook());
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    failed
}

/// One seed; what went wrong, if something did.
pub fn weather(seed: u64, faults: Faults) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, faults)));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("seed {seed} panicked: {}", text.unwrap_or_default()))
    })
}

fn run(seed: u64, faults: Faults) -> Result<(), String> {
    let mut random = Random::new(seed);
    let (plan, weather) = forecast(&mut random);
    let mut world = World::new(random.next(), plan.clone(), faults);
    if world.trace {
        println!("{plan:?}\n{weather:?}");
    }
    let load = Load::new(world.engine(0), weather.keys, weather.expiries, weather.flushes, 10);
    for round in 0..weather.rounds {
        let described = |text: String| format!("seed {seed} round {round}: {plan:?} {weather:?}\n{text}");
        storm(&mut world, &load, weather);
        heal(&mut world).map_err(described)?;
        let everything = match check::nodes_equal(&world) {
            Ok(everything) => everything,
            // What a crash or an absence leaves behind is repaired by comparison in the background.
            Err(text) if weather.crashes || plan.absence_s < 60 => {
                pass(&mut world, 25_000_000);
                heal(&mut world).map_err(described)?;
                check::nodes_equal(&world).map_err(|later| described(format!("{text}and later {later}")))?
            }
            Err(text) => return Err(described(text)),
        };
        if !weather.crashes && plan.absence_s >= 60 && !world.diverged.is_empty() {
            return Err(described(format!(
                "ranges differed though nothing was under way: {:?}",
                world.diverged
            )));
        }
        // What was away too long may bring back what was deleted meanwhile; all that is promised is that it is so everywhere.
        if plan.absence_s >= 60 {
            check::equals_model(&world, &everything).map_err(described)?;
        }
    }
    Ok(())
}

fn storm(world: &mut World, load: &Load, weather: Weather) {
    for _ in 0..weather.steps {
        if world.random.chance(weather.faults) {
            strike(world, weather);
        }
        for node in world.up() {
            for _ in 0..world.random.below(3) {
                load.run(world, node);
            }
        }
        let us = *world.random.pick(&[0, 100, 1000, 10_000, 30_000]);
        world.step(us);
    }
}

fn strike(world: &mut World, weather: Weather) {
    let count = world.nodes.len();
    let a = world.random.below(count);
    let b = (a + 1 + world.random.below(count - 1)) % count;
    let until_us = world.now_us + *world.random.pick(&[1000, 50_000, 500_000, 3_000_000]);
    match world.random.below(6) {
        0 => {
            world.paths[a][b].cut_until_us = until_us;
            world.paths[b][a].cut_until_us = until_us;
        }
        1 => {
            world.paths[a][b].stalled_until_us = until_us;
            world.paths[b][a].stalled_until_us = until_us;
        }
        2 => world.paths[a][b].stalled_until_us = until_us,
        3 => world.drop_connections(a, b),
        4 if weather.crashes => {
            let (wiped, silent) = (world.random.chance(30), world.random.chance(50));
            world.crash(a, until_us - world.now_us, wiped, silent);
        }
        _ => {
            if weather.skew_ms > 0 {
                world.nodes[a].skew_us = world.random.range(-weather.skew_ms, weather.skew_ms) * 1000;
            }
        }
    }
}

fn pass(world: &mut World, us: u64) {
    let until_us = world.now_us + us;
    while world.now_us < until_us {
        world.step(20_000);
    }
}

/// Ends all faults and waits until nothing moves any more.
fn heal(world: &mut World) -> Result<(), String> {
    for path in world.paths.iter_mut().flatten() {
        *path = Default::default();
    }
    for node in &mut world.nodes {
        node.skew_us = 0;
        node.back_at_us = node.back_at_us.map(|_| 0);
    }
    let until_us = world.now_us + 60_000_000;
    let mut quiet = 0;
    while quiet < 3 {
        if world.now_us > until_us {
            return Err(format!("no rest after 60 s:\n{}", world.unrest()));
        }
        world.step(20_000);
        // Upkeep may write: what an expiry has killed is cleared in the end.
        for node in 0..world.nodes.len() {
            let now = world.now(node);
            while world.engine(node).tick(now, 0) {}
        }
        quiet = if world.is_quiet() { quiet + 1 } else { 0 };
    }
    Ok(())
}
