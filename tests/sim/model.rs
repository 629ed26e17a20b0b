//! A single server, as simple as can be: what executing effects one after the other leaves behind.
//!
//! The only thing it shares with the store is the identity of list items. A list keeps removed items as ghosts, because
//! an insertion next to an item stays when that item was removed by somebody else.

use std::collections::{BTreeMap, BTreeSet};

use meldis::clock::Stamp;
use meldis::number;
use meldis::number::long_double::LongDouble;
use meldis::store::delta::{Amount, Change, Kind, Pos, Side};
use meldis::store::entry::{Entry, Value};

/// One effect.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// A change of a key, sums excepted.
    Change(u32, &'a [u8], Change<'a>),
    /// An amount added to the number that a sum is about.
    Add(u32, &'a [u8], Change<'a>, Amount),
    /// A keyspace is emptied.
    Flush(u32),
}

/// A value as a client sees it.
#[derive(Clone, PartialEq, Debug)]
pub enum Seen {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Zset(BTreeMap<Vec<u8>, String>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// A key as a client sees it: value and expiry.
pub type SeenKey = (Seen, Option<u64>);

impl Seen {
    /// The value of an entry.
    pub fn of(entry: &Entry, now_ms: u64) -> Option<SeenKey> {
        let seen = match entry.value_at(now_ms)? {
            Value::String(text) => Seen::String(text.to_vec()),
            Value::List(list) => Seen::List(list.iter().map(|item| item.value().to_vec()).collect()),
            Value::Set(set) => Seen::Set(set.iter().map(<[u8]>::to_vec).collect()),
            Value::Zset(zset) => {
                let ranked: Vec<_> = zset.order().from(0).map(|entry| entry.member.to_vec()).collect();
                assert_eq!(ranked.len(), zset.len(), "every member is ranked");
                Seen::Zset(zset.iter().map(|(member, score)| (member.to_vec(), format!("{score}"))).collect())
            }
            Value::Hash(hash) => Seen::Hash(hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect()),
        };
        Some((seen, entry.expires_at_ms()))
    }
}

#[derive(Clone, Debug)]
enum Data {
    None,
    String(Vec<u8>),
    List(Vec<(Pos, Vec<u8>, bool)>),
    Set(BTreeSet<Vec<u8>>),
    Zset(BTreeMap<Vec<u8>, f64>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

#[derive(Clone, Debug)]
struct Slot {
    data: Data,
    /// When the standing type was last written.
    written: Stamp,
    expiry: Option<(Stamp, Option<u64>, Kind)>,
}

impl Slot {
    fn new() -> Slot {
        Slot { data: Data::None, written: Stamp::NEVER, expiry: None }
    }

    fn kind(&self) -> Option<Kind> {
        match self.data {
            Data::None => None,
            Data::String(_) => Some(Kind::String),
            Data::List(_) => Some(Kind::List),
            Data::Set(_) => Some(Kind::Set),
            Data::Zset(_) => Some(Kind::Zset),
            Data::Hash(_) => Some(Kind::Hash),
        }
    }

    /// A write of a type: it replaces a value of another.
    fn claim(&mut self, kind: Kind, stamp: Stamp) {
        if self.kind() != Some(kind) {
            if self.kind().is_some() && self.expiry.is_some_and(|(set, ..)| set <= self.written) {
                self.expiry = None;
            }
            self.data = match kind {
                Kind::String => Data::String(Vec::new()),
                Kind::List => Data::List(Vec::new()),
                Kind::Set => Data::Set(BTreeSet::new()),
                Kind::Zset => Data::Zset(BTreeMap::new()),
                Kind::Hash => Data::Hash(BTreeMap::new()),
            };
        }
        self.written = stamp;
    }

    fn live_expiry(&self) -> Option<u64> {
        let (stamp, at_ms, kind) = self.expiry?;
        let counts = Some(kind) == self.kind() || stamp > self.written;
        // One that fired before somebody wrote who had not seen it is void.
        at_ms.filter(|at_ms| counts && self.written < Stamp::instant(*at_ms).max(stamp.next()))
    }

    fn seen(&self, now_ms: u64) -> Option<SeenKey> {
        let expiry = self.live_expiry();
        if expiry.is_some_and(|at_ms| at_ms <= now_ms) {
            return None;
        }
        let seen = match &self.data {
            Data::None => return None,
            Data::String(text) => Seen::String(text.clone()),
            Data::List(items) => {
                let items: Vec<_> = items.iter().filter(|item| item.2).map(|item| item.1.clone()).collect();
                if items.is_empty() {
                    return None;
                }
                Seen::List(items)
            }
            Data::Set(members) if members.is_empty() => return None,
            Data::Set(members) => Seen::Set(members.clone()),
            Data::Zset(scores) if scores.is_empty() => return None,
            Data::Zset(scores) => {
                Seen::Zset(scores.iter().map(|(m, score)| (m.clone(), format!("{score}"))).collect())
            }
            Data::Hash(fields) if fields.is_empty() => return None,
            Data::Hash(fields) => Seen::Hash(fields.clone()),
        };
        Some((seen, expiry))
    }

    fn change(&mut self, stamp: Stamp, change: &Change<'_>) {
        match change {
            Change::Clear => *self = Slot::new(),
            Change::Assign(value) => {
                *self = Slot::new();
                self.claim(Kind::String, stamp);
                self.data = Data::String(value.to_vec());
            }
            Change::Value(value) => {
                self.claim(Kind::String, stamp);
                self.data = Data::String(value.to_vec());
            }
            Change::Expire(at_ms, kind) => self.expiry = Some((stamp, *at_ms, *kind)),
            Change::Kind(_) | Change::Sum(_) | Change::FieldSum(..) | Change::ScoreSum(..) => {}
            Change::Field(name, value) => {
                self.claim(Kind::Hash, stamp);
                if let Data::Hash(fields) = &mut self.data {
                    fields.insert(name.to_vec(), value.to_vec());
                }
            }
            Change::FieldRemove(name) => {
                if let Data::Hash(fields) = &mut self.data {
                    fields.remove(*name);
                }
            }
            Change::Member(member) => {
                self.claim(Kind::Set, stamp);
                if let Data::Set(members) = &mut self.data {
                    members.insert(member.to_vec());
                }
            }
            Change::MemberRemove(member) => {
                if let Data::Set(members) = &mut self.data {
                    members.remove(*member);
                }
            }
            Change::Score(member, score) => {
                self.claim(Kind::Zset, stamp);
                if let Data::Zset(scores) = &mut self.data {
                    scores.insert(member.to_vec(), *score);
                }
            }
            Change::ScoreRemove(member) => {
                if let Data::Zset(scores) = &mut self.data {
                    scores.remove(*member);
                }
            }
            Change::Item(pos, value) => {
                self.claim(Kind::List, stamp);
                if let Data::List(items) = &mut self.data {
                    place(items, pos, value);
                }
            }
            Change::ItemValue(pos, value) => {
                if let Data::List(items) = &mut self.data
                    && let Some(item) = items.iter_mut().find(|item| item.0 == *pos)
                {
                    item.1 = value.to_vec();
                }
            }
            Change::ItemRemove(pos) => {
                if let Data::List(items) = &mut self.data
                    && let Some(item) = items.iter_mut().find(|item| item.0 == *pos)
                {
                    item.2 = false;
                }
            }
        }
    }

    fn add(&mut self, stamp: Stamp, change: &Change<'_>, amount: Amount) {
        match change {
            Change::Sum(_) => {
                let fresh = self.kind() != Some(Kind::String);
                self.claim(Kind::String, stamp);
                if let Data::String(text) = &mut self.data {
                    let held = if fresh { b"0" } else { text.as_slice() };
                    *text = sum(held, amount);
                }
            }
            Change::FieldSum(name, _) => {
                self.claim(Kind::Hash, stamp);
                if let Data::Hash(fields) = &mut self.data {
                    let held = fields.entry(name.to_vec()).or_insert(b"0".to_vec());
                    *held = sum(held, amount);
                }
            }
            Change::ScoreSum(member, _) => {
                self.claim(Kind::Zset, stamp);
                if let (Data::Zset(scores), Amount::Score(amount)) = (&mut self.data, amount) {
                    *scores.entry(member.to_vec()).or_default() += amount;
                }
            }
            _ => panic!("{change:?} adds nothing"),
        }
    }
}

/// What INCRBY and INCRBYFLOAT leave; what cannot be added to stays.
fn sum(held: &[u8], amount: Amount) -> Vec<u8> {
    let x = match (amount, number::parse_i64(held)) {
        (Amount::Int(n), Some(held)) => return (i128::from(held) + n).to_string().into_bytes(),
        (Amount::Int(n), None) => LongDouble::from_i64(n.try_into().expect("drawn small")),
        (Amount::Float(x), _) => x,
        (Amount::Score(_), _) => panic!("a score is no text"),
    };
    let Some(held) = LongDouble::parse(held) else { return held.to_vec() };
    let mut text = Vec::new();
    (held + x).write(&mut text);
    text
}

/// Puts an item where the one server would: at an end, or next to its parent.
fn place(items: &mut Vec<(Pos, Vec<u8>, bool)>, pos: &Pos, value: &[u8]) {
    if items.iter().any(|item| item.0 == *pos) {
        return;
    }
    let item = (pos.clone(), value.to_vec(), true);
    let at = match (pos.parent(), pos.last().side) {
        (None, Side::After) => 0,
        (None, Side::Before) => items.len(),
        (Some(parent), side) => match items.iter().position(|item| item.0 == parent) {
            Some(at) => at + usize::from(side == Side::After),
            // The parent was cleared away: only its place is known.
            None => items.partition_point(|item| item.0 < *pos),
        },
    };
    items.insert(at, item);
}

/// See the module's head.
#[derive(Clone, Default, Debug)]
pub struct Model(BTreeMap<(u32, Vec<u8>), Slot>);

impl Model {
    /// Executes one effect.
    pub fn apply(&mut self, stamp: Stamp, step: &Step<'_>) {
        match step {
            Step::Flush(flushed) => self.0.retain(|(space, _), _| space != flushed),
            Step::Change(space, key, change) => self.slot(*space, key).change(stamp, change),
            Step::Add(space, key, change, amount) => self.slot(*space, key).add(stamp, change, *amount),
        }
    }

    fn slot(&mut self, space: u32, key: &[u8]) -> &mut Slot {
        self.0.entry((space, key.to_vec())).or_insert_with(Slot::new)
    }

    /// All existing keys.
    pub fn seen(&self, now_ms: u64) -> BTreeMap<(u32, Vec<u8>), SeenKey> {
        self.0.iter().filter_map(|(key, slot)| Some((key.clone(), slot.seen(now_ms)?))).collect()
    }
}
