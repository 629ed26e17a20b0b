//! Shortens a schedule that fails: actions are left out as long as what is left fails too.
//!
//! Reading: Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.

use meldis::faults::Faults;

use crate::play;
use crate::schedule::Schedule;

/// Most schedules played for it.
const ATTEMPTS_MAX: usize = 4000;

/// The shortest failing schedule found. The end stays: without it nothing is compared.
pub fn shrink(mut schedule: Schedule, faults: Faults) -> Schedule {
    let mut attempts = 0;
    let mut length = schedule.actions.len() / 2;
    while length > 0 && attempts < ATTEMPTS_MAX {
        let (mut at, before) = (0, schedule.actions.len());
        while at + 1 < schedule.actions.len() && attempts < ATTEMPTS_MAX {
            let mut shorter = schedule.clone();
            let end = (at + length).min(schedule.actions.len() - 1);
            shorter.actions.drain(at..end);
            attempts += 1;
            match play::play(&shorter, faults) {
                Err(_) => schedule = shorter,
                Ok(_) => at = end,
            }
        }
        if length > 1 || schedule.actions.len() == before {
            length /= 2;
        }
    }
    schedule
}
