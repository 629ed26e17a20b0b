//! A deterministic simulator: two or three nodes of the real engine and link code, virtual time, a virtual network, random
//! commands and faults. After each storm the nodes must be equal to each other and to a model.
//!
//! A failing seed prints the line that replays it. `MELDIS_SEED` runs one seed, `MELDIS_SEEDS` that many from the first on,
//! `MELDIS_TRACE=1` prints what happens.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod check;
mod effects;
mod load;
mod model;
#[path = "../harness/random.rs"]
#[allow(dead_code)]
mod random;
mod storm;
mod world;

use meldis::faults::Faults;

/// Seeds of one ordinary run.
const SEEDS: u64 = 200;

#[test]
fn nodes_are_equal_after_every_storm() {
    let only =
        std::env::var("MELDIS_SEED").ok().map(|seed| seed.parse::<u64>().expect("MELDIS_SEED is a number"));
    let count =
        std::env::var("MELDIS_SEEDS").map_or(SEEDS, |count| count.parse().expect("MELDIS_SEEDS is a number"));
    let seeds: Vec<u64> = only.map_or_else(|| (1..=count).collect(), |seed| vec![seed]);
    let failed = storm::weather_all(&seeds, Faults::empty(), usize::MAX);
    for (seed, report) in &failed {
        let lines = if failed.len() == 1 { usize::MAX } else { 6 };
        report.lines().take(lines).for_each(|line| println!("{line}"));
        println!("replay: MELDIS_SEED={seed} cargo test --test sim nodes_are_equal -- --nocapture\n");
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "{} seeds failed: {seeds:?}", failed.len());
}
