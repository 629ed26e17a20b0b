//! What was written, as Redis commands: a feed of changes that others can build on.
//!
//! The effects are those of the batches in the backlog, of all origins; [`of_batch`] tells those of batches that lie elsewhere.
//! Of an origin they come in the order it wrote them; origins are put together by the time of their batches. An effect is
//! unconditional: it says what became of a key, not what a client asked for. Executed in the order of their stamps on one
//! empty Redis, all effects there ever were leave what the nodes hold (`tests/oracle` does just that), with this in mind:
//! - List items, which Redis names by index or value, are named by identity here: two nodes may have inserted at the
//!   same index.
//! - A write of another type replaces the key, and a removal from a value of another type does nothing.
//! - An effect is about a keyspace. SWAPDB exchanges the keyspaces that two databases show; who executes it has to
//!   keep track of which database shows which.
//!
//! How a change is told as text, here, in the log of conflicts and by MELD CHECK, stands here too: [`element`], [`value`].
//!
//! Who has read up to a vector goes on from there, on any node. The backlog is bounded: a reader that is too slow for it has
//! to begin anew, from the data. So has one whose node got what others wrote without their batches, by comparing ranges. A
//! node without partners and without a journal has no batches.

use std::borrow::Cow;

use super::Engine;
use crate::clock::{Origin, Stamp};
use crate::link::batch::{Batch, Record};
use crate::link::codec::Malformed;
use crate::link::vector::{Progress, Vector};
use crate::store::delta::{Added, Amount, Change, Kind, Pos, Side};

/// One command's worth of change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    /// When, and by whom; an instant without author for what an expiry has cleared.
    pub stamp: Stamp,
    /// Who wrote the batch.
    pub origin: Origin,
    /// Its number among the origin's. Effects of one batch became visible at once.
    pub batch: u64,
    /// The keyspace: the number of the database that showed it before any SWAPDB.
    pub keyspace: u32,
    /// The database that shows it now; the keyspace's number if none here does.
    pub db: u32,
    /// The command.
    pub words: Vec<Vec<u8>>,
    /// The identity of the list item it is about.
    pub item: Option<String>,
    /// Of an expiry the type of the value it was set on: it does not pass on to one of another type.
    pub kind: Option<Kind>,
}

/// Why effects cannot be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Untold {
    /// There is nobody to tell: nothing is kept.
    Alone,
    /// The backlog kept the batches as long as its limit let it.
    Evicted,
    /// The backlog never had the batches, or was given up: their data is here without them.
    Unheld,
}

/// A piece of the feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Where the next one begins.
    pub next: Vector,
    /// In the order of their batches' times.
    pub effects: Vec<Effect>,
}

impl Engine {
    /// What this node has written and merged, the present included.
    pub fn progress(&self) -> Vector {
        let mut mesh = self.mesh.lock();
        self.sequence(&mut mesh);
        let mut vector = mesh.vector().clone();
        if !self.is_replicating() && self.clock.last().0 > 0 {
            // What was written while there is nobody to tell gets its number with the first peer.
            vector.advance(self.clock.origin(), Progress { sequence: 1, ..Progress::NONE });
        }
        vector
    }

    /// Whether this node has all that a vector tells of.
    pub fn has_reached(&self, vector: &Vector) -> bool {
        let mesh = self.mesh.lock();
        let own = self.clock.origin();
        let has = |(origin, there): (Origin, Progress)| {
            origin == own || mesh.vector().of(origin).sequence >= there.sequence
        };
        vector.iter().all(has)
    }

    /// The effects behind a vector, of about `count` batches. Without a vector it begins with what is written next.
    ///
    /// # Errors
    /// If the backlog does not reach back to the vector.
    pub fn effects(&self, since: Option<&Vector>, count: usize) -> Result<Page, Untold> {
        if !self.is_replicating() {
            return Err(Untold::Alone);
        }
        let mut mesh = self.mesh.lock();
        self.sequence(&mut mesh);
        let Some(since) = since else {
            return Ok(Page { next: mesh.vector().clone(), effects: Vec::new() });
        };
        let mut batches: Vec<(Origin, u64, Batch<'_>)> = Vec::new();
        for (origin, here) in mesh.vector().iter() {
            let after = since.of(origin).sequence;
            if here.sequence <= after {
                continue;
            }
            if !mesh.backlog().has(origin, after + 1) {
                let was_held = mesh.backlog().has_evicted(origin, after + 1);
                return Err(if was_held { Untold::Evicted } else { Untold::Unheld });
            }
            let held = mesh.backlog().batches_after(origin, after).take(count.max(1));
            batches.extend(held.map(|(number, batch)| (origin, number, batch)));
        }
        batches.sort_by_key(|(origin, number, batch)| (batch.time, *origin, *number));
        batches.truncate(count.max(1));
        let mut page = Page { next: since.clone(), effects: Vec::new() };
        for (origin, number, batch) in batches {
            page.next.advance(origin, Progress { sequence: number, ..Progress::NONE });
            let db_of = |space| self.db_of(space);
            let read = of_batch(origin, number, &batch, db_of, |effect| page.effects.push(effect));
            debug_assert!(read.is_ok(), "what is in the backlog was read before");
        }
        Ok(page)
    }
}

/// The effects of one batch, in its order. `db_of` says which database shows a keyspace.
///
/// # Errors
/// If the batch is malformed, behind the effects that can be read.
pub fn of_batch(
    origin: Origin,
    number: u64,
    batch: &Batch<'_>,
    db_of: impl Fn(u32) -> Option<u32>,
    mut each: impl FnMut(Effect),
) -> Result<(), Malformed> {
    let (mut at, mut stamp): ((u32, Vec<u8>), _) = ((0, Vec::new()), Stamp::new(batch.time, origin));
    // The sum that an amount behind it belongs to.
    let mut sum: Option<(Option<Vec<u8>>, Added)> = None;
    let mut push = |stamp: Stamp, keyspace: u32, Told { words, item, kind }: Told| {
        let db = db_of(keyspace).unwrap_or(keyspace);
        each(Effect { stamp, origin, batch: number, keyspace, db, words, item, kind });
    };
    batch.each(|record| match record {
        Record::Time(time) => stamp = Stamp::new(time, origin),
        Record::Stamp(other) => stamp = other,
        Record::Key(space, key) => at = (space, key.to_vec()),
        Record::Change(Change::Sum(added)) => sum = Some((None, added)),
        Record::Change(Change::FieldSum(name, added) | Change::ScoreSum(name, added)) => {
            sum = Some((Some(name.to_vec()), added));
        }
        Record::Amount(amount) => {
            if let Some((element, added)) = sum.take() {
                push(added.stamp(), at.0, addition(&at.1, element.as_deref(), amount).into());
            }
        }
        Record::Change(change) => {
            if let Some(told) = command(&at.1, &change) {
                push(stamp, at.0, told);
            }
        }
        Record::Flush(space) => push(stamp, space, words(&[b"FLUSHDB"]).into()),
        Record::Swap(a, b) => {
            push(stamp, a, words(&[b"SWAPDB", a.to_string().as_bytes(), b.to_string().as_bytes()]).into());
        }
        Record::Publish(channel, message) => {
            push(stamp, 0, words(&[b"PUBLISH", channel, message]).into());
        }
        Record::ShardPublish(channel, message) => {
            push(stamp, 0, words(&[b"SPUBLISH", channel, message]).into());
        }
        Record::Register(..) => {}
    })
}

/// What an effect is, wherever it happens.
struct Told {
    words: Vec<Vec<u8>>,
    item: Option<String>,
    kind: Option<Kind>,
}

impl From<Vec<Vec<u8>>> for Told {
    fn from(words: Vec<Vec<u8>>) -> Told {
        Told { words, item: None, kind: None }
    }
}

fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

/// The command that adds an amount to a string, field or member.
fn addition(key: &[u8], element: Option<&[u8]>, amount: Amount) -> Vec<Vec<u8>> {
    let text = amount.text();
    match (amount, element) {
        (Amount::Score(_), element) => words(&[b"ZINCRBY", key, &text, element.unwrap_or_default()]),
        (Amount::Int(_), Some(field)) => words(&[b"HINCRBY", key, field, &text]),
        (Amount::Int(_), None) => words(&[b"INCRBY", key, &text]),
        (Amount::Float(_), Some(field)) => words(&[b"HINCRBYFLOAT", key, field, &text]),
        (Amount::Float(_), None) => words(&[b"INCRBYFLOAT", key, &text]),
    }
}

/// The command with the same effect; `None` for what only states carry.
fn command(key: &[u8], change: &Change<'_>) -> Option<Told> {
    let of_item =
        |words: Vec<Vec<u8>>, pos: &Pos| Some(Told { words, item: Some(identity(pos)), kind: None });
    let of_kind = |words: Vec<Vec<u8>>, kind: &Kind| Some(Told { words, item: None, kind: Some(*kind) });
    let list = match change {
        Change::Clear => words(&[b"DEL", key]),
        Change::Assign(value) => words(&[b"SET", key, value]),
        Change::Value(value) => words(&[b"SET", key, value, b"KEEPTTL"]),
        Change::Expire(Some(at_ms), kind) => {
            return of_kind(words(&[b"PEXPIREAT", key, at_ms.to_string().as_bytes()]), kind);
        }
        Change::Expire(None, kind) => return of_kind(words(&[b"PERSIST", key]), kind),
        Change::Field(name, value) => words(&[b"HSET", key, name, value]),
        Change::FieldRemove(name) => words(&[b"HDEL", key, name]),
        Change::Member(member) => words(&[b"SADD", key, member]),
        Change::MemberRemove(member) => words(&[b"SREM", key, member]),
        Change::Score(member, score) => words(&[b"ZADD", key, &Amount::Score(*score).text(), member]),
        Change::ScoreRemove(member) => words(&[b"ZREM", key, member]),
        Change::Item(pos, value) => {
            let placed = match (pos.parent(), pos.last().side) {
                (None, Side::After) => words(&[b"LPUSH", key, value]),
                (None, Side::Before) => words(&[b"RPUSH", key, value]),
                (Some(parent), side) => {
                    let side: &[u8] = if side == Side::After { b"AFTER" } else { b"BEFORE" };
                    words(&[b"LINSERT", key, side, identity(&parent).as_bytes(), value])
                }
            };
            return of_item(placed, pos);
        }
        Change::ItemValue(pos, value) => {
            return of_item(words(&[b"LSET", key, identity(pos).as_bytes(), value]), pos);
        }
        Change::ItemRemove(pos) => {
            return of_item(words(&[b"LREM", key, b"1", identity(pos).as_bytes()]), pos);
        }
        Change::Sum(_) | Change::FieldSum(..) | Change::ScoreSum(..) | Change::Kind(_) => return None,
    };
    Some(list.into())
}

/// A list item's name: the stamp that placed it and its number among those that one command placed.
pub(super) fn identity(pos: &Pos) -> String {
    let last = pos.last();
    format!("{}#{}", last.stamp, last.index)
}

/// The field or member a change is about, or the identity of the list item.
pub fn element<'a>(change: &Change<'a>) -> Option<Cow<'a, [u8]>> {
    match change {
        Change::Item(pos, _) | Change::ItemValue(pos, _) | Change::ItemRemove(pos) => {
            Some(Cow::Owned(identity(pos).into_bytes()))
        }
        other => other.element().map(Cow::Borrowed),
    }
}

/// What a change writes, as text.
pub fn value<'a>(change: &Change<'a>) -> Option<Cow<'a, [u8]>> {
    match change {
        Change::Assign(value)
        | Change::Value(value)
        | Change::Field(_, value)
        | Change::Item(_, value)
        | Change::ItemValue(_, value) => Some(Cow::Borrowed(value)),
        Change::Sum(added) | Change::FieldSum(_, added) | Change::ScoreSum(_, added) => {
            Some(Cow::Owned(added.amount.text()))
        }
        Change::Score(_, score) => Some(Cow::Owned(Amount::Score(*score).text())),
        Change::Expire(at_ms, _) => at_ms.map(|at_ms| Cow::Owned(at_ms.to_string().into_bytes())),
        Change::Member(_)
        | Change::Clear
        | Change::Kind(_)
        | Change::FieldRemove(_)
        | Change::MemberRemove(_)
        | Change::ScoreRemove(_)
        | Change::ItemRemove(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Fixture;

    /// The commands of all effects since a vector, and the vector behind them.
    fn read(node: &Fixture, since: &Vector) -> (Vec<String>, Vector) {
        let page = node.engine.effects(Some(since), 100).expect("the backlog reaches back");
        let text = |effect: &Effect| {
            let words = effect.words.iter().map(|word| String::from_utf8_lossy(word));
            words.collect::<Vec<_>>().join(" ")
        };
        (page.effects.iter().map(text).collect(), page.next)
    }

    #[test]
    fn effects_are_commands_and_go_on_where_the_last_page_ended() {
        let mut node = Fixture::replicating();
        node.run("SET before 1");
        let begin = node.engine.effects(None, 1).unwrap().next;
        let written = [
            "SET k 5",
            "INCRBY k 3",
            "INCRBYFLOAT k 0.5",
            "APPEND k x",
            "PEXPIREAT k 1800000000000",
            "PERSIST k",
            "HSET h f v",
            "HINCRBY h n -2",
            "HDEL h f",
            "SADD s m",
            "SREM s m",
            "ZADD z 1.5 m",
            "ZINCRBY z 2 m",
            "ZREM z m",
            "DEL k",
        ];
        written.iter().for_each(|command| drop(node.run(command)));
        let (commands, next) = read(&node, &begin);
        let expected = written.map(|command| match command {
            "APPEND k x" => "SET k 8.5x KEEPTTL",
            as_it_is => as_it_is,
        });
        assert_eq!(commands, expected);
        node.run("GETSET g v");
        node.run("FLUSHALL");
        let (commands, _) = read(&node, &next);
        assert_eq!(commands[0], "SET g v");
        assert!(commands[1..].iter().all(|command| command == "FLUSHDB"), "{commands:?}");
    }

    #[test]
    fn list_items_have_names() {
        let mut node = Fixture::replicating();
        let begin = node.engine.effects(None, 1).unwrap().next;
        node.run("RPUSH l a");
        node.run("LINSERT l AFTER a b");
        node.run("LSET l 1 c");
        node.run("LPOP l");
        let page = node.engine.effects(Some(&begin), 100).unwrap();
        let name = |at: usize| page.effects[at].item.clone().unwrap();
        let word = |at: usize, n: usize| String::from_utf8(page.effects[at].words[n].clone()).unwrap();
        assert_eq!(
            (word(0, 0), word(1, 0), word(2, 0), word(3, 0)),
            ("RPUSH".into(), "LINSERT".into(), "LSET".into(), "LREM".into())
        );
        assert_eq!((word(1, 3), word(2, 2), word(3, 3)), (name(0), name(1), name(0)));
        assert_eq!(name(2), name(1));
    }

    #[test]
    fn effects_tell_the_keyspace_and_the_type_an_expiry_was_set_on() {
        let mut node = Fixture::replicating();
        let begin = node.engine.effects(None, 1).unwrap().next;
        node.run("SADD s m");
        node.run("SWAPDB 0 1");
        node.run("SELECT 1");
        node.run("PEXPIREAT s 1800000000000");
        let page = node.engine.effects(Some(&begin), 100).unwrap();
        let seen: Vec<_> =
            page.effects.iter().map(|effect| (effect.keyspace, effect.db, effect.kind)).collect();
        assert_eq!((seen[0], seen[2]), ((0, 1, None), (0, 1, Some(Kind::Set))));
    }

    #[test]
    fn whoever_is_too_slow_for_the_backlog_is_told() {
        let mut node = Fixture::replicating();
        let begin = node.engine.effects(None, 1).unwrap().next;
        node.engine.mesh.lock().configure(
            crate::link::mesh::Timing { heartbeat_ms: 1, timeout_ms: 1, absence_ms: 1, backlog_ms: None },
            100,
        );
        for _ in 0..5 {
            node.run(&format!("SET k {}", "x".repeat(80)));
            node.engine.progress();
        }
        assert_eq!(node.engine.effects(Some(&begin), 10), Err(Untold::Evicted));
    }

    #[test]
    fn what_was_written_before_there_was_anybody_to_tell_is_no_batch() {
        let mut node = Fixture::new();
        node.run("SET k v");
        assert_eq!(node.engine.effects(None, 10), Err(Untold::Alone));
        node.engine.start_replicating();
        assert_eq!(node.engine.effects(Some(&Vector::default()), 10), Err(Untold::Unheld));
        let begin = node.engine.effects(None, 10).unwrap().next;
        node.run("SET k w");
        assert_eq!(node.engine.effects(Some(&begin), 10).unwrap().effects.len(), 1);
    }
}
