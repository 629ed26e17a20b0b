//! All effects of a round in stamp order, and what of them cannot be judged.
//!
//! A node that is killed takes with it what it had told nobody: as if it had never been. But where somebody had just begun
//! to pull ranges from it, parts of that may have got around all the same. And of an amount that it had added around a
//! SET it never saw nobody can tell any more what came before and what after: it counts whole (README, exceptions).
//! Keys that one of the two is about are *doubtful*: the nodes must agree on them, but Redis is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Instant;

use meldis::clock::{NTP64, NodeId, Origin, Stamp};
use meldis::link::vector::{Progress, Vector};

use crate::feed::{BatchId, Batches, Effect, Life};
use crate::load::Unsure;

/// See the module's head.
pub(crate) struct History {
    /// In stamp order.
    pub(crate) effects: Vec<(BatchId, Effect)>,
    /// What was lost with its node.
    pub(crate) lost: Vec<(BatchId, Effect)>,
    /// Keys, whatever their database.
    pub(crate) doubtful: BTreeSet<Vec<u8>>,
    /// Everything is in doubt.
    pub(crate) all_doubtful: bool,
}

/// One number of one origin: keyspace, key, field or member.
type Register<'a> = (Origin, u32, &'a [u8], Option<&'a [u8]>);

impl History {
    /// Of what `vector` has. `ended`: the lives of nodes that ended.
    pub(crate) fn of(
        batches: Batches,
        vector: &Vector,
        ended: &BTreeMap<u64, Life>,
        unsure: &[Unsure],
    ) -> History {
        let mut history =
            History { effects: Vec::new(), lost: Vec::new(), doubtful: BTreeSet::new(), all_doubtful: false };
        for (id, effects) in batches {
            if id.1 <= vector.of(id.0).sequence {
                history.effects.extend(effects.into_iter().map(|effect| (id, effect)));
                continue;
            }
            // One that lives has written it since: what an expiry killed is cleared at leisure.
            let Some(life) = ended.values().find(|life| life.origin == id.0) else { continue };
            if life.was_pulled {
                effects.iter().for_each(|effect| history.doubt(effect.key()));
            }
            history.lost.extend(effects.into_iter().map(|effect| (id, effect)));
        }
        // Of one stamp, in the order they were written.
        history.effects.sort_by_key(|(_, effect)| effect.stamp);
        for unsure in unsure {
            let lost = |life: &Life| life.was_pulled && unsure.at >= life.collected_at;
            if ended.get(&unsure.life).is_some_and(lost) {
                let keys = unsure.keys.iter().map(|key| Some(&key[..]).filter(|key| !key.is_empty()));
                keys.for_each(|key| history.doubt(key));
            }
        }
        let unsplit: Vec<_> = ended.values().flat_map(|life| history.unsplit(life, vector)).collect();
        history.doubtful.extend(unsplit);
        history
    }

    fn doubt(&mut self, key: Option<&[u8]>) {
        match key {
            Some(key) => drop(self.doubtful.insert(key.to_vec())),
            None => self.all_doubtful = true,
        }
    }

    /// Keys that a life which ended had added to around another's write it had not seen.
    fn unsplit(&self, life: &Life, vector: &Vector) -> BTreeSet<Vec<u8>> {
        let told = vector.of(life.origin).sequence;
        let heard = life.tokens.iter().rev().find(|token| token.of(life.origin).sequence <= told);
        let mut sums: BTreeMap<Register<'_>, (Stamp, Stamp)> = BTreeMap::new();
        for (_, effect) in self.effects.iter().filter(|(id, _)| id.0 == life.origin) {
            if let (Some(element), Some(key)) = (effect.added_to(), effect.key()) {
                let register = (life.origin, effect.keyspace, key, element);
                sums.entry(register).or_insert((effect.stamp, effect.stamp)).1 = effect.stamp;
            }
        }
        let unseen = self.effects.iter().filter(|(id, effect)| {
            let seen = heard.is_some_and(|token| token.of(id.0).sequence >= id.1);
            id.0 != life.origin && !seen && effect.added_to().is_none()
        });
        let unseen: Vec<&Effect> = unseen.map(|(_, effect)| effect).collect();
        let split = |((_, keyspace, key, _), (first, last)): &(&Register<'_>, &(Stamp, Stamp))| {
            unseen.iter().any(|effect| {
                let here = effect.keyspace == *keyspace && effect.key().is_none_or(|at| at == *key);
                here && effect.stamp > *first && effect.stamp < *last
            })
        };
        sums.iter().filter(split).map(|((_, _, key, _), _)| key.to_vec()).collect()
    }

    /// All effects on keys of a name, and on whole databases, for reports.
    pub(crate) fn about(&self, key: &[u8]) -> String {
        let about = self.effects.iter().filter(|(_, effect)| effect.key().is_none_or(|at| at == key));
        about.fold(String::new(), |mut text, ((origin, batch), effect)| {
            let _ = writeln!(text, "  {origin}:{batch}  {}", effect.show());
            text
        })
    }

    /// All effects as text.
    pub(crate) fn log(&self) -> String {
        self.effects.iter().fold(String::new(), |mut text, ((origin, batch), effect)| {
            let _ = writeln!(text, "{origin}:{batch}  {}", effect.show());
            text
        })
    }
}

#[test]
fn lost_is_what_a_life_that_ended_had_told_nobody() {
    let (ended, lives) = (Origin::new(NodeId::new(1 << 24), 1), Origin::new(NodeId::new(2 << 24), 1));
    let effect = |origin| Effect {
        stamp: Stamp::new(NTP64(7), origin),
        keyspace: 0,
        words: ["SET", "k", "v"].map(|word| word.as_bytes().to_vec()).to_vec(),
        item: None,
        kind: None,
    };
    let batches: Batches = [ended, lives]
        .into_iter()
        .flat_map(|origin| [1, 2].map(|number| ((origin, number), vec![effect(origin)])))
        .collect();
    let mut vector = Vector::default();
    for origin in [ended, lives] {
        vector.set(origin, Progress { sequence: 1, ..Progress::NONE });
    }
    let life = Life {
        origin: ended,
        tokens: Vec::new(),
        read: Vector::default(),
        collected_at: Instant::now(),
        was_pulled: false,
    };
    let history = History::of(batches, &vector, &BTreeMap::from([(1, life)]), &[]);
    let ids = |effects: &[(BatchId, Effect)]| effects.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(ids(&history.effects), [(ended, 1), (lives, 1)]);
    assert_eq!(ids(&history.lost), [(ended, 2)]);
}
