//! A deterministic simulator: two or three nodes of the real engine and link code, virtual time, a virtual network, random
//! commands and faults. After each storm the nodes must be equal to each other and to a model.
//!
//! A failing seed prints the line that replays it. `MELDIS_SEED` runs one seed, `MELDIS_SEEDS` that many from `MELDIS_FROM`
//! (1) on, `MELDIS_TRACE=1` prints what happens.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod check;
mod effects;
mod load;
mod model;
mod proof;
#[path = "../harness/random.rs"]
#[expect(dead_code, reason = "the harness uses more of it")]
mod random;
mod storm;
mod world;

use meldis::faults::Faults;

/// Seeds of one ordinary run.
const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[test]
fn every_planted_bug_is_found() {
    let seeds: Vec<u64> = (1..=SEEDS).collect();
    for (name, bug) in Faults::all().iter_names() {
        let failed = storm::weather_all(&seeds, bug, 1);
        let (seed, _) = failed.first().unwrap_or_else(|| panic!("{name} was not found by {SEEDS} seeds"));
        println!("planted bug {name}: found by seed {seed}");
    }
}

#[test]
fn nodes_are_equal_after_every_storm() {
    let only = number("MELDIS_SEED");
    let (first, count) = (number("MELDIS_FROM").unwrap_or(1), number("MELDIS_SEEDS").unwrap_or(SEEDS));
    let seeds: Vec<u64> = only.map_or_else(|| (first..first + count).collect(), |seed| vec![seed]);
    let failed = storm::weather_all(&seeds, Faults::empty(), usize::MAX);
    for (seed, report) in &failed {
        let lines = if failed.len() == 1 { usize::MAX } else { 6 };
        report.lines().take(lines).for_each(|line| println!("{line}"));
        println!("replay: MELDIS_SEED={seed} cargo test --test sim nodes_are_equal -- --nocapture\n");
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "{} seeds failed: {seeds:?}", failed.len());
}
