//! What the logs of conflicts say: of each pair neither author had seen the other's write.

use std::collections::BTreeMap;

use meldis::clock::{NTP64, Origin, Stamp};
use meldis::link::vector::Vector;

use crate::ledger::Ledger;
use crate::world::World;

/// What the authors of writes had merged when they wrote.
#[derive(Default)]
pub struct Insight {
    of: BTreeMap<Origin, Knowledge>,
}

#[derive(Default)]
struct Knowledge {
    /// What was stamped up to a time, and after the one before, was written by who had merged so much.
    had: Vec<(NTP64, Vector)>,
    /// What is merged now.
    has: Vector,
}

impl Insight {
    /// An origin has stamped up to a time since this was last said; from here on it has merged so much.
    pub fn note(&mut self, origin: Origin, last: NTP64, vector: &Vector) {
        let Knowledge { had, has } = self.of.entry(origin).or_default();
        if had.last().is_none_or(|(until, _)| *until < last) {
            had.push((last, has.clone()));
        }
        has.clone_from(vector);
    }

    /// Whether the author of a write had certainly seen another.
    fn had_seen(&self, ledger: &Ledger, author: Stamp, other: Stamp) -> bool {
        let Some(Knowledge { had, .. }) = self.of.get(&author.origin) else { return false };
        let at = had.partition_point(|(until, _)| *until < author.time);
        let merged = had.get(at).map_or(0, |(_, vector)| vector.of(other.origin).sequence);
        ledger.number_of(other).is_some_and(|number| number <= merged)
    }
}

/// # Errors
/// A pair in a log of which one had seen the other.
pub fn are_concurrent(world: &World) -> Result<(), String> {
    if world.history.restated {
        return Ok(());
    }
    let (insight, ledger) = (&world.watch.insight, &world.watch.ledger);
    for node in world.up() {
        for entry in world.engine(node).conflicts.entries().iter() {
            let pairs = [(entry.winner, entry.loser), (entry.loser, entry.winner)];
            if let Some((author, other)) =
                pairs.into_iter().find(|(author, other)| insight.had_seen(ledger, *author, *other))
            {
                return Err(format!(
                    "n{node} logs {entry:?}, but {author} was written by who had seen {other}"
                ));
            }
        }
    }
    Ok(())
}
