//! Three nodes under a mixed load of all types while faults come one after the other: once all are healed the nodes are
//! equal, and no counter has lost what it had to keep.
//!
//! By default for 20 seconds. Ten minutes: `MELDIS_SOAK_S=600 cargo test --test soak -- --nocapture`. `MELDIS_SEED`, which is
//! printed at the start, chooses the same faults again; when they meet which write is up to the machine. An even one gives the
//! nodes disks.
//!
//! | module | what it owns |
//! |---|---|
//! | `load` | clients that reconnect, and what was acknowledged to them |
//! | `faults` | what happens, when, and what may be lost by it |

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../pair/load.rs"]
#[allow(dead_code, reason = "only its commands are needed")]
mod writes;

mod faults;
mod load;

use std::time::{Duration, Instant};

use faults::Storm;
use harness::{Clock, Cluster, Options, Random, Suite};
use load::Load;

/// How long without `MELDIS_SOAK_S`.
const SECONDS: u64 = 20;
/// From one fault to the next.
const FAULT_EVERY: Duration = Duration::from_secs(5);
/// Between lines that tell how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// How long the nodes may take to be equal at the end.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a node may take of memory: its data is a few megabytes, its backlog one.
const RESIDENT_KB_MAX: u64 = 200_000;

#[test]
fn nodes_survive_whatever_happens() {
    let mut suite = Suite::new("soak");
    let seconds = std::env::var("MELDIS_SOAK_S").map_or(SECONDS, |text| text.parse().unwrap());
    let seed = Random::seed(u64::from(std::process::id()));
    let disks = seed.is_multiple_of(2);
    println!("soak: {seconds} s, MELDIS_SEED={seed}, disks {disks}");
    let appendonly = if disks { "yes" } else { "no" };
    let args = ["--repl-timeout", "2", "--repl-backlog-size", "1mb", "--appendonly", appendonly];
    let mut cluster = Cluster::prepare(Options::new(3).proxied().args(&args));
    let clocks = [0, 1, 2].map(|_| Clock::at(0));
    for (node, clock) in clocks.iter().enumerate() {
        clock.give_to(cluster.node_mut(node));
        cluster.launch(node);
    }
    let load = Load::start(&cluster);
    let mut storm = Storm::new(cluster, disks, clocks, &load, seed);
    storm.make_whole();
    let start = Instant::now();
    let (mut fault_due, mut progress_due) = (FAULT_EVERY, PROGRESS_EVERY);
    while start.elapsed() < Duration::from_secs(seconds) {
        if start.elapsed() >= progress_due {
            progress_due += PROGRESS_EVERY;
            println!("{}", storm.progress(RESIDENT_KB_MAX));
        }
        if start.elapsed() >= fault_due {
            fault_due = (fault_due + FAULT_EVERY).max(start.elapsed());
            storm.strike();
        }
        storm.check_alive();
        std::thread::sleep(Duration::from_millis(20));
    }
    storm.heal();
    load.stop();
    println!("{}", storm.progress(RESIDENT_KB_MAX));
    let healed = Instant::now();
    let cluster = storm.cluster();
    cluster.settle_within(PATIENCE);
    println!("soak: equal {:.1} s after the end", healed.elapsed().as_secs_f64());
    let counters = load.check(&mut cluster.clients::<3>());
    suite.add(load.commands());
    suite.note(&format!("{} faults, {counters}", storm.faults()));
}
