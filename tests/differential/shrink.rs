//! Makes a failing episode small: leaves out ever smaller runs of units while the same command still differs.
//!
//! Reading: Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.

use std::time::{Duration, Instant};

use crate::run::{Difference, Duo, Episode, Minimal, Tally};

/// Whatever is reached by then is shown.
const BUDGET: Duration = Duration::from_secs(6);

pub(crate) fn shrink(duo: &mut Duo, episode: &Episode, difference: &Difference) -> Minimal {
    let mut smallest = Minimal {
        protocol: episode.protocol,
        units: episode.units[..difference.units].to_vec(),
        difference: difference.clone(),
    };
    let deadline = Instant::now() + BUDGET;
    let mut run = smallest.units.len().div_ceil(2);
    while Instant::now() < deadline {
        let mut progress = false;
        let mut at = 0;
        while at < smallest.units.len() && Instant::now() < deadline {
            let mut units = smallest.units.clone();
            units.drain(at..(at + run).min(units.len()));
            let shorter = Episode { protocol: smallest.protocol, units };
            match duo.play(&shorter, &mut Tally::default()) {
                Err(found) if found.name() == difference.name() => {
                    let units = shorter.units[..found.units].to_vec();
                    smallest = Minimal { units, difference: found, ..smallest };
                    progress = true;
                }
                _ => at += run,
            }
        }
        if run == 1 && !progress {
            break;
        }
        run = (run / 2).max(1);
    }
    smallest
}
