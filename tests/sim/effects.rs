//! What all nodes wrote: the batches as they were put into sequence, and from them the effects in stamp order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meldis::clock::{NTP64, Origin, Stamp};
use meldis::link::batch::{Batch, Record};
use meldis::link::vector::Vector;
use meldis::store::delta::{Added, Amount, Change};

use crate::model::{Model, Step};

/// One number of one origin: keyspace, key, field or member.
type Register = (Origin, u32, Vec<u8>, Option<Vec<u8>>);

/// Who added to what: the key, and its field or member.
type Counted = (Origin, Vec<u8>, Option<Vec<u8>>);

/// See the module's head.
#[derive(Default)]
pub struct History {
    batches: BTreeMap<Origin, BTreeMap<u64, Vec<u8>>>,
    /// A node gave stamps back: what was captured is not what stands.
    pub restated: bool,
    /// Some of what these wrote is nowhere.
    pub dropped: BTreeMap<Origin, Dropped>,
    /// Of lives that ended in a crash: what their nodes had of all origins when they were read back from disk.
    pub read_back: BTreeMap<Origin, Vector>,
    /// What clients added, in order, whatever the keyspace. Sums say totals only.
    amounts: BTreeMap<Counted, VecDeque<Amount>>,
}

/// What a life wrote later than that is nowhere: its node was alone, and then began anew as a replica.
#[derive(Clone, Copy)]
pub struct Dropped {
    pub since: NTP64,
    /// The life that ended with it; the other may be one before.
    pub last: Origin,
}

/// Effects in stamp order, and what cannot be judged.
pub struct Replay {
    pub model: Model,
    /// Keys that a batch wrote which was lost in a crash, though parts of it may have got around.
    pub doubtful: BTreeSet<(u32, Vec<u8>)>,
    /// A whole keyspace is in doubt.
    pub all_doubtful: bool,
    /// Number of effects.
    pub effects: usize,
}

impl History {
    pub fn add(&mut self, origin: Origin, number: u64, batch: &[u8]) {
        self.batches.entry(origin).or_default().insert(number, batch.to_vec());
    }

    /// Whether what an origin wrote then is nowhere any more.
    pub fn is_dropped(&self, origin: Origin, time: NTP64) -> bool {
        self.dropped.get(&origin).is_some_and(|dropped| time > dropped.since)
    }

    /// The number of the first batch that an origin wrote later.
    pub fn first_after(&self, origin: Origin, time: NTP64) -> Option<u64> {
        let is_later = |bytes: &Vec<u8>| {
            let (batch, _) = Batch::split(bytes).expect("captured whole").expect("captured whole");
            batch.time > time
        };
        let mut batches = self.batches.get(&origin)?.iter();
        batches.find(|(_, bytes)| is_later(bytes)).map(|(number, _)| *number)
    }

    /// All that was written to a key, for reports.
    pub fn of(&self, (space, key): &(u32, Vec<u8>)) -> String {
        let mut lines: Vec<(Stamp, String)> = Vec::new();
        for (origin, number, bytes) in self.batches.iter().flat_map(|(origin, batches)| {
            batches.iter().map(move |(number, bytes)| (*origin, *number, bytes))
        }) {
            let (batch, _) = Batch::split(bytes).expect("captured whole").expect("captured whole");
            let (mut at, mut stamp) = ((0, &[][..]), Stamp::NEVER);
            batch
                .each(|record| match record {
                    Record::Time(time) => stamp = Stamp::new(time, origin),
                    Record::Stamp(other) => stamp = other,
                    Record::Key(space, key) => at = (space, key),
                    Record::Change(change) if at == (*space, key.as_slice()) => {
                        lines.push((stamp, format!("{origin} {number}: {change:?}")));
                    }
                    Record::Flush(_) => lines.push((stamp, format!("{origin} {number}: flush"))),
                    _ => {}
                })
                .expect("captured whole");
        }
        lines.sort();
        lines.iter().map(|(stamp, line)| format!("    {stamp} by {line}\n")).collect()
    }

    /// Whether there is such a change.
    pub fn any(&self, is_such: impl Fn(&(u32, Vec<u8>), Stamp, &Change<'_>) -> bool) -> bool {
        let mut found = false;
        for (origin, bytes) in self
            .batches
            .iter()
            .flat_map(|(origin, batches)| batches.values().map(move |bytes| (*origin, bytes)))
        {
            let (batch, _) = Batch::split(bytes).expect("captured whole").expect("captured whole");
            let (mut at, mut stamp) = ((0, Vec::new()), Stamp::NEVER);
            batch
                .each(|record| match record {
                    Record::Time(time) => stamp = Stamp::new(time, origin),
                    Record::Stamp(other) => stamp = other,
                    Record::Key(space, key) => at = (space, key.to_vec()),
                    Record::Change(change) => found = found || is_such(&at, change.stamp(stamp), &change),
                    _ => {}
                })
                .expect("captured whole");
        }
        found
    }

    /// A client has added to a number.
    pub fn added(&mut self, origin: Origin, key: &[u8], element: Option<&[u8]>, amount: Amount) {
        let register = (origin, key.to_vec(), element.map(<[u8]>::to_vec));
        self.amounts.entry(register).or_default().push_back(amount);
    }

    /// What clients of each origin have added to the counters that nobody writes otherwise.
    pub fn counters(&self) -> BTreeMap<Vec<u8>, BTreeMap<Origin, i128>> {
        let mut counters: BTreeMap<Vec<u8>, BTreeMap<Origin, i128>> = BTreeMap::new();
        for ((origin, key, element), amounts) in &self.amounts {
            if key.starts_with(b"t") && element.is_none() {
                let ints = amounts.iter().map(|amount| match amount {
                    Amount::Int(n) => *n,
                    _ => panic!("only integers are added to {key:?}"),
                });
                counters.entry(key.clone()).or_default().insert(*origin, ints.sum());
            }
        }
        counters
    }

    /// Replays what `vector` has on a single server. Origins that are not `alive` will write nothing more.
    ///
    /// Of a write that `may_be_back` names nobody can say whether its key shows it.
    pub fn replay(
        &self,
        vector: &Vector,
        alive: &BTreeSet<Origin>,
        may_be_back: impl Fn(&(u32, Vec<u8>), Stamp, &Change<'_>) -> bool,
    ) -> Replay {
        let mut amounts = self.amounts.clone();
        let mut last: BTreeMap<Register, Added> = BTreeMap::new();
        let mut effects: Vec<(Stamp, Step<'_>, (Origin, u64))> = Vec::new();
        let mut replay =
            Replay { model: Model::default(), doubtful: BTreeSet::new(), all_doubtful: false, effects: 0 };
        for (origin, batches) in &self.batches {
            for (number, bytes) in batches {
                let (batch, _) = Batch::split(bytes).expect("captured whole").expect("captured whole");
                if self.is_dropped(*origin, batch.time) {
                    continue;
                }
                let written = (*origin, *number);
                let lost = *number > vector.of(*origin).sequence;
                let (mut at, mut stamp) = ((0, &[][..]), Stamp::NEVER);
                batch
                    .each(|record| match record {
                        Record::Time(time) => stamp = Stamp::new(time, *origin),
                        Record::Stamp(other) => stamp = other,
                        Record::Key(space, key) => at = (space, key),
                        Record::Change(_) if lost => {
                            replay.doubtful.insert((at.0, at.1.to_vec()));
                        }
                        Record::Change(change) => {
                            let place = (at.0, at.1.to_vec());
                            if may_be_back(&place, change.sum().map_or(stamp, Added::stamp), &change) {
                                replay.doubtful.insert(place);
                            }
                            let summed = match &change {
                                Change::Sum(added) => Some((None, *added)),
                                Change::FieldSum(name, added) | Change::ScoreSum(name, added) => {
                                    Some((Some(name.to_vec()), *added))
                                }
                                _ => None,
                            };
                            let Some((element, added)) = summed else {
                                effects.push((stamp, Step::Change(at.0, at.1, change), written));
                                return;
                            };
                            let register = (*origin, at.0, at.1.to_vec(), element);
                            let held = last.insert(register.clone(), added);
                            if held.is_some_and(|held| held.last >= added.last) {
                                return; // asserted anew
                            }
                            let number = (*origin, at.1.to_vec(), register.3.clone());
                            let amount = amounts.get_mut(&number).and_then(VecDeque::pop_front);
                            let amount = amount.unwrap_or_else(|| panic!("nobody added to {register:?}"));
                            let step = Step::Add(at.0, at.1, change, amount);
                            effects.push((added.stamp(), step, written));
                        }
                        Record::Flush(_) | Record::Swap(..) if lost => replay.all_doubtful = true,
                        Record::Flush(space) => effects.push((stamp, Step::Flush(space), written)),
                        Record::Swap(..) | Record::Register(..) => {}
                        Record::Publish(..) | Record::ShardPublish(..) | Record::Amount(_) => {}
                    })
                    .expect("captured whole");
            }
        }
        effects.sort_by_key(|(stamp, ..)| *stamp);
        // A sum that its origin did not live to split counts whole, whatever came in between; but what has come to its disk has
        // split it there.
        let has_split = |life: &Origin, (origin, number): &(Origin, u64)| {
            self.read_back.get(life).is_some_and(|vector| vector.of(*origin).sequence >= *number)
        };
        for ((life, space, key, _), added) in last.iter().filter(|((origin, ..), _)| !alive.contains(origin))
        {
            let splits = |(stamp, step, batch): &(Stamp, Step<'_>, (Origin, u64))| {
                let here = match step {
                    Step::Change(at, name, _) => at == space && *name == key.as_slice(),
                    Step::Flush(at) => at == space,
                    Step::Add(..) => false,
                };
                here && *stamp > added.since && *stamp < added.stamp() && !has_split(life, batch)
            };
            if effects.iter().any(splits) {
                replay.doubtful.insert((*space, key.clone()));
            }
        }
        replay.effects = effects.len();
        for (stamp, step, _) in effects {
            replay.model.apply(stamp, &step);
        }
        replay
    }
}
