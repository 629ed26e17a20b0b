//! Effects in stamp order, executed by a real redis-server.
//!
//! Redis holds the values and does what it does. The replayer adds what the commands of the feed leave to it:
//! - **Types.** A write of another type replaces the key: DEL goes before it. Removals from another type fail by themselves.
//! - **List items** have identities. Per list the order of all identities is kept, removed ones as *ghosts*, because an
//!   insertion next to an item stays when somebody else removed that item. From it comes the index to tell Redis.
//! - **Amounts.** An integer added to a float becomes INCRBYFLOAT; one added to what is no number has no effect.
//! - **SWAPDB.** Effects name keyspaces; which database shows which follows from the swaps so far.
//!
//! - **Expiries** are moved by [`LATER_MS`], so that none fires while effects are executed that came before it; what has fired
//!   is left out at the end.
//!
//! There are exceptions to C2 among expiries that Redis cannot express. All stem from an author who had not seen what is
//! stamped before. One that is set on a key that is gone, or that others emptied, holds for what is next added
//! to the key; one set on a value of another type holds only until that value is written; one that fired before a write that
//! had not seen it is void. For these the replayer keeps the expiry register and corrects Redis, and counts how often
//! ([`Replayer::exceptions`]). Any other difference in expiries is a failure.

use std::collections::{BTreeMap, HashMap, HashSet};

use meldis::clock::Stamp;
use meldis::store::delta::{Pos, Side};

use crate::feed::{self, Effect};
use crate::harness::{Client, Value};

/// Databases of a server, and keyspaces.
const DATABASES: u32 = 16;
/// Commands sent at once, at most.
const PIPELINE: usize = 200;
/// By how much expiries in Redis are later: a thousand years.
pub(crate) const LATER_MS: i64 = 1000 * 366 * 86_400_000;
/// Stands in for a list item that Redis is to find by value.
const MARKER: &[u8] = b"\0the item meant";

type Words = Vec<Vec<u8>>;
type Place = (u32, Vec<u8>);
/// The identity of a list item.
type Id = (Stamp, u32);

struct Expiry {
    stamp: Stamp,
    at_ms: Option<i64>,
    kind: String,
    /// Redis does not know of it, and why.
    stray: Option<&'static str>,
}

struct Item {
    id: Id,
    pos: Pos,
    alive: bool,
}

/// What has to be known of a key besides what Redis knows.
struct Key {
    kind: Option<&'static str>,
    /// When the standing type was last written.
    written: Stamp,
    expiry: Option<Expiry>,
    /// The list, ghosts included.
    items: Vec<Item>,
    /// The places of all items there ever were.
    places: HashMap<Id, Pos>,
}

impl Expiry {
    /// It has fired before somebody wrote who had not seen it.
    fn is_void(&self, written: Stamp) -> bool {
        let instant = self.at_ms.map(|at_ms| Stamp::instant((at_ms - LATER_MS) as u64));
        instant.is_some_and(|instant| written >= instant.max(self.stamp.next()))
    }
}

impl Key {
    fn new() -> Key {
        Key { kind: None, written: Stamp::NEVER, expiry: None, items: Vec::new(), places: HashMap::new() }
    }

    fn clear(&mut self) {
        let places = std::mem::take(&mut self.places);
        *self = Key { places, ..Key::new() };
    }

    /// The expiry that holds by the rule.
    fn expires_at(&self) -> Option<i64> {
        let expiry = self.expiry.as_ref()?;
        let of_value = self.kind.is_some_and(|kind| kind == expiry.kind) || expiry.stamp > self.written;
        expiry.at_ms.filter(|_| of_value && !expiry.is_void(self.written))
    }

    /// Where Redis has an item; nothing if it is a ghost or gone.
    fn index(&self, id: Id) -> Option<usize> {
        let at = self.items.iter().position(|item| item.id == id && item.alive)?;
        Some(self.alive_before(at))
    }

    fn alive_before(&self, at: usize) -> usize {
        self.items[..at].iter().filter(|item| item.alive).count()
    }
}

/// What is done with a reply.
enum Then {
    /// It is no error, unless the value is of another type.
    Done,
    /// If it is an error: this instead, and if that is one too, nothing.
    Instead(Words),
    /// It is the expiry that the rule says.
    Expiry(Place, Option<i64>, String),
}

/// See the module's head.
pub(crate) struct Replayer {
    redis: Client,
    /// The keyspace behind each database.
    spaces: Vec<u32>,
    selected: u32,
    keys: HashMap<Place, Key>,
    queue: Vec<(u32, Words, Then)>,
    /// Keys whose replies in the queue may call for more.
    pending: HashSet<Place>,
    /// How often what Redis cannot express was put right.
    pub(crate) exceptions: BTreeMap<&'static str, usize>,
}

/// The type that a command's write is of.
fn written_type(name: &str) -> Option<&'static str> {
    match name {
        "SET" | "INCRBY" | "INCRBYFLOAT" => Some("string"),
        "HSET" | "HINCRBY" | "HINCRBYFLOAT" => Some("hash"),
        "SADD" => Some("set"),
        "ZADD" | "ZINCRBY" => Some("zset"),
        "LPUSH" | "RPUSH" | "LINSERT" => Some("list"),
        "DEL" | "HDEL" | "SREM" | "ZREM" | "LREM" | "LSET" | "PEXPIREAT" | "PERSIST" => None,
        other => panic!("a command the replayer does not know: {other}"),
    }
}

fn words(words: &[&[u8]]) -> Words {
    words.iter().map(|word| word.to_vec()).collect()
}

fn id(text: &str) -> Id {
    let (stamp, index) = text.split_once('#').expect("an identity has two parts");
    (feed::stamp(stamp), index.parse().expect("an index"))
}

impl Replayer {
    /// Into an empty server.
    pub(crate) fn into(redis: Client) -> Replayer {
        Replayer {
            redis,
            spaces: (0..DATABASES).collect(),
            selected: 0,
            keys: HashMap::new(),
            queue: Vec::new(),
            pending: HashSet::new(),
            exceptions: BTreeMap::new(),
        }
    }

    /// Executes effects in the order given.
    pub(crate) fn run<'a>(&mut self, effects: impl IntoIterator<Item = &'a Effect>) {
        effects.into_iter().for_each(|effect| self.apply(effect));
        self.flush();
    }

    fn apply(&mut self, effect: &Effect) {
        match effect.name() {
            "PUBLISH" | "SPUBLISH" => {}
            "SWAPDB" => {
                let db = |at: usize| String::from_utf8_lossy(&effect.words[at]).parse().expect("a database");
                self.flush();
                self.spaces.swap(db(1), db(2));
                self.send(effect.keyspace, effect.words.clone(), Then::Done);
            }
            "FLUSHDB" => {
                self.flush();
                self.send(effect.keyspace, effect.words.clone(), Then::Done);
                let flushed = self.keys.iter_mut().filter(|((space, _), _)| *space == effect.keyspace);
                flushed.for_each(|(_, key)| key.clear());
            }
            _ => self.apply_to_key(effect),
        }
        if self.queue.len() >= PIPELINE {
            self.flush();
        }
    }

    fn apply_to_key(&mut self, effect: &Effect) {
        let place = (effect.keyspace, effect.key().expect("it is about a key").to_vec());
        if self.pending.contains(&place) {
            self.flush();
        }
        let mut key = self.keys.remove(&place).unwrap_or_else(Key::new);
        let expired = key.expires_at().is_some();
        let name = effect.name();
        let whole = name == "DEL" || (name == "SET" && effect.words.len() == 3);
        if whole {
            key.clear();
        }
        if let Some(kind) = written_type(name) {
            self.claim(&place, &mut key, kind);
            key.written = effect.stamp;
        }
        match name {
            "INCRBY" | "HINCRBY" => {
                let mut instead = effect.words.clone();
                instead[0].extend_from_slice(b"FLOAT");
                self.send(place.0, effect.words.clone(), Then::Instead(instead));
                self.pending.insert(place.clone());
            }
            "INCRBYFLOAT" | "HINCRBYFLOAT" => {
                self.send(place.0, effect.words.clone(), Then::Instead(words(&[b"PING"])));
            }
            "LPUSH" | "RPUSH" | "LINSERT" => self.place(&place, &mut key, effect),
            "LSET" | "LREM" => self.change_item(&place, &mut key, effect),
            "PEXPIREAT" | "PERSIST" => self.expire(&place, &mut key, effect),
            _ => self.send(place.0, effect.words.clone(), Then::Done),
        }
        let rule = key.expires_at();
        if !whole && (expired || rule.is_some() || name == "PERSIST") {
            let ask = words(&[b"PEXPIRETIME", &place.1]);
            self.send(place.0, ask, Then::Expiry(place.clone(), rule, effect.show()));
            self.pending.insert(place.clone());
        }
        self.keys.insert(place, key);
    }

    fn expire(&mut self, place: &Place, key: &mut Key, effect: &Effect) {
        let kind = effect.kind.clone().expect("an expiry was set on a type");
        let at_ms = effect.words.get(2).map(|at| {
            let at_ms: i64 = String::from_utf8_lossy(at).parse().expect("a time");
            at_ms + LATER_MS
        });
        let stray = key.kind.is_some_and(|held| held != kind).then_some("set on a value of another type");
        key.expiry = Some(Expiry { stamp: effect.stamp, at_ms, kind, stray });
        let command = match at_ms {
            Some(at_ms) => words(&[b"PEXPIREAT", &place.1, at_ms.to_string().as_bytes()]),
            None => effect.words.clone(),
        };
        self.send(place.0, command, Then::Done);
    }

    /// A write of a type: it replaces a value of another.
    fn claim(&mut self, place: &Place, key: &mut Key, kind: &'static str) {
        if key.kind.is_some_and(|held| held != kind) {
            self.send(place.0, words(&[b"DEL", &place.1]), Then::Done);
            key.items.clear();
            if key.expiry.as_ref().is_some_and(|expiry| expiry.stamp <= key.written) {
                key.expiry = None;
            }
        }
        key.kind = Some(kind);
    }

    /// Puts an item at an end, or next to another.
    fn place(&mut self, place: &Place, key: &mut Key, effect: &Effect) {
        let id_of = |text: &[u8]| id(std::str::from_utf8(text).expect("an identity"));
        let this = id(effect.item.as_ref().expect("an item has an identity"));
        let (value, at, pos) = match effect.name() {
            "LPUSH" => (&effect.words[2], 0, Pos::pushed(Side::After, this.0, this.1)),
            "RPUSH" => (&effect.words[2], key.items.len(), Pos::pushed(Side::Before, this.0, this.1)),
            _ => {
                let side = if effect.words[2] == b"AFTER" { Side::After } else { Side::Before };
                let parent = id_of(&effect.words[3]);
                let Some(above) = key.places.get(&parent) else {
                    // Placed by a batch that is lost, and the key with it in doubt.
                    return;
                };
                let pos = above.beside(side, this.0);
                let at = match key.items.iter().position(|item| item.id == parent) {
                    Some(at) => at + usize::from(side == Side::After),
                    // The other item was cleared away: only its place is known.
                    None => key.items.partition_point(|item| item.pos < pos),
                };
                (&effect.words[4], at, pos)
            }
        };
        let (index, alive) = (key.alive_before(at), key.alive_before(key.items.len()));
        let list = &place.1;
        if index == 0 {
            self.send(place.0, words(&[b"LPUSH", list, value]), Then::Done);
        } else if index == alive {
            self.send(place.0, words(&[b"RPUSH", list, value]), Then::Done);
        } else {
            let number = index.to_string();
            let held = self.ask(place.0, words(&[b"LINDEX", list, number.as_bytes()]));
            let Value::Bulk(held) = held else { panic!("the list ends before {number}: {held}") };
            let behind = (index + 1).to_string();
            self.send(place.0, words(&[b"LSET", list, number.as_bytes(), MARKER]), Then::Done);
            self.send(place.0, words(&[b"LINSERT", list, b"BEFORE", MARKER, value]), Then::Done);
            self.send(place.0, words(&[b"LSET", list, behind.as_bytes(), &held]), Then::Done);
        }
        key.places.insert(this, pos.clone());
        key.items.insert(at, Item { id: this, pos, alive: true });
    }

    fn change_item(&mut self, place: &Place, key: &mut Key, effect: &Effect) {
        let this = id(effect.item.as_ref().expect("an item has an identity"));
        let Some(index) = key.index(this) else { return };
        let (list, number) = (&place.1, index.to_string());
        if effect.name() == "LSET" {
            let value = &effect.words[3];
            self.send(place.0, words(&[b"LSET", list, number.as_bytes(), value]), Then::Done);
            return;
        }
        self.send(place.0, words(&[b"LSET", list, number.as_bytes(), MARKER]), Then::Done);
        self.send(place.0, words(&[b"LREM", list, b"1", MARKER]), Then::Done);
        key.items.iter_mut().filter(|item| item.id == this).for_each(|item| item.alive = false);
    }

    fn send(&mut self, space: u32, command: Words, then: Then) {
        self.queue.push((space, command, then));
    }

    /// A reply that is needed at once.
    fn ask(&mut self, space: u32, command: Words) -> Value {
        self.flush();
        self.select(space);
        self.redis.cmd(&command)
    }

    fn db_of(&self, space: u32) -> u32 {
        self.spaces.iter().position(|held| *held == space).expect("a keyspace is shown") as u32
    }

    fn select(&mut self, space: u32) {
        let db = self.db_of(space);
        if db != self.selected {
            self.redis.ok(&["SELECT", &db.to_string()]);
            self.selected = db;
        }
    }

    /// Executes what was sent so far.
    fn flush(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        self.pending.clear();
        let mut commands: Vec<Words> = Vec::with_capacity(queue.len());
        let mut answers: Vec<usize> = Vec::with_capacity(queue.len());
        for (space, command, _) in &queue {
            let db = self.db_of(*space);
            if db != self.selected && command[0] != b"SWAPDB" {
                commands.push(words(&[b"SELECT", db.to_string().as_bytes()]));
                self.selected = db;
            }
            answers.push(commands.len());
            commands.push(command.clone());
        }
        if commands.is_empty() {
            return;
        }
        let replies = self.redis.pipeline(&commands);
        for ((space, command, then), at) in queue.into_iter().zip(answers) {
            self.conclude(space, &command, then, &replies[at]);
        }
    }

    fn conclude(&mut self, space: u32, command: &Words, then: Then, reply: &Value) {
        match (then, reply) {
            (Then::Done, Value::Error(text)) => {
                assert!(text.starts_with("WRONGTYPE"), "{:?}: {text}", String::from_utf8_lossy(&command[0]));
            }
            (Then::Instead(instead), Value::Error(_)) => {
                self.select(space);
                self.redis.cmd(&instead);
            }
            (Then::Expiry(place, rule, after), reply) => self.check_expiry(&place, rule, &after, reply.int()),
            _ => {}
        }
    }

    /// Puts Redis's expiry right where it may differ; see the module's head.
    fn check_expiry(&mut self, place: &Place, rule: Option<i64>, after: &str, held: i64) {
        let key = self.keys.get_mut(place).expect("an effect was about it");
        if held == -2 {
            // Nothing there: the next value inherits it.
            if let Some(expiry) = &mut key.expiry {
                let set = after.contains("PEXPIREAT");
                expiry.stray =
                    Some(if set { "set on a key that was gone" } else { "left by a key that was emptied" });
            }
            return;
        }
        if rule == (held >= 0).then_some(held) {
            return;
        }
        let overtaken = key.expiry.as_ref().is_some_and(|expiry| expiry.is_void(key.written));
        let stray = key.expiry.as_ref().and_then(|expiry| expiry.stray);
        let stray = stray.or(overtaken.then_some("overtaken by a write"));
        let Some(stray) = stray else {
            panic!(
                "keyspace {} key {}: Redis's expiry is {held}, by the rule it is {rule:?}, after {after}",
                place.0,
                String::from_utf8_lossy(&place.1)
            );
        };
        *self.exceptions.entry(stray).or_default() += 1;
        self.select(place.0);
        match rule {
            Some(at_ms) => {
                self.redis.ok(&words(&[b"PEXPIREAT", &place.1, at_ms.to_string().as_bytes()]));
            }
            None => {
                self.redis.ok(&words(&[b"PERSIST", &place.1]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare;
    use crate::harness::Server;

    fn effect(time: u64, node: u64, keyspace: u32, line: &str) -> Effect {
        let stamp = feed::stamp(&format!("{time}/{node:010x}.1"));
        let words: Words = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let at_end = words[0].ends_with(b"PUSH") || words[0] == b"LINSERT";
        let item = match at_end {
            true => Some(format!("{stamp}#0")),
            false => words.get(2).map(|word| String::from_utf8_lossy(word).into_owned()),
        };
        let kind = Some("set".to_owned());
        Effect { stamp, keyspace, words, item, kind }
    }

    /// What Redis holds after effects in stamp order.
    fn left(mut effects: Vec<Effect>) -> (String, BTreeMap<&'static str, usize>) {
        let server = Server::redis(&["--save", ""]);
        let mut replayer = Replayer::into(server.client());
        effects.sort_by_key(|effect| effect.stamp);
        replayer.run(&effects);
        let mut held = compare::listing(&mut server.client());
        compare::expire(&mut held, LATER_MS, 0);
        let lines: Vec<String> = held.iter().map(|(key, value)| compare::show(key, Some(value))).collect();
        (lines.join("; "), replayer.exceptions)
    }

    #[test]
    fn items_stand_where_they_were_placed_whatever_was_removed_since() {
        let item = |time: u64| format!("{time}/0000000001.1#0");
        let (held, _) = left(
            vec![
                effect(1, 1, 0, "RPUSH l a"),
                effect(2, 1, 0, "RPUSH l b"),
                effect(3, 1, 0, "RPUSH l c"),
                effect(4, 1, 0, &format!("LREM l 1 {}", item(2))),
                effect(5, 2, 0, &format!("LINSERT l AFTER {} d", item(2))),
                effect(6, 2, 0, &format!("LSET l {} e", item(2))),
                effect(7, 1, 0, &format!("LSET l {} f", item(3))),
            ]
            .into_iter()
            .map(|mut effect| {
                if effect.name() == "LREM" {
                    effect.item = Some(item(2));
                }
                effect
            })
            .collect(),
        );
        assert_eq!(held, "db 0 l = list [a d f]");
    }

    #[test]
    fn types_amounts_and_swaps_follow_the_stamps() {
        let (held, _) = left(vec![
            effect(1, 1, 0, "SADD x m"),
            effect(2, 2, 0, "SET x 1 KEEPTTL"),
            effect(3, 1, 0, "SREM x m"),
            effect(4, 1, 0, "INCRBYFLOAT x 1.5"),
            effect(5, 2, 0, "INCRBY x 2"),
            effect(6, 1, 0, "SET text a"),
            effect(7, 2, 0, "INCRBY text 2"),
            effect(8, 1, 0, "SWAPDB 0 1"),
            effect(9, 2, 0, "SET late 1"),
            effect(10, 1, 1, "SET other 1"),
        ]);
        assert_eq!(
            held,
            "db 0 other = string [1]; db 1 late = string [1]; db 1 text = string [a]; db 1 x = string [4.5]"
        );
    }

    #[test]
    fn an_expiry_on_a_key_that_is_gone_waits_for_the_next_value() {
        let (held, exceptions) = left(vec![
            effect(1, 1, 0, "SADD s m"),
            effect(2, 2, 0, "DEL s"),
            effect(3, 1, 0, "PEXPIREAT s 4000000000000"),
            effect(4, 2, 0, "SADD s n"),
        ]);
        assert_eq!(held, "db 0 s = set [n] expires at 4000000000000");
        assert_eq!(exceptions.values().sum::<usize>(), 1);
    }
}
