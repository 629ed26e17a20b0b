//! Unions, intersections and differences of sorted sets. Plain sets take part with scores of 1.
//!
//! Sums of floats depend on their order: as in Redis, sets are combined from the smallest to the biggest, those of equal
//! size as they were named.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::parse::{integer, is};
use super::zset::{Parts, store};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::keyspace::Keyspace;
use crate::number;
use crate::resp::args::Args;
use crate::store::entry::Value;
use crate::store::ranked::{Ranked, cmp_ranks};
use crate::store::set::Set;
use crate::store::zset::Zset;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "zdiff",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Returns the members of a sorted set that the other sets lack.",
        complexity: "O(L + (N-K)log(N))",
        run: zdiff,
        subcommands: &[],
    },
    Command {
        name: "zdiffstore",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::OVERWRITE_1, KeySpec::counted(2, &["RO", "access"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Stores the members of a sorted set that the other sets lack.",
        complexity: "O(L + (N-K)log(N))",
        run: zdiffstore,
        subcommands: &[],
    },
    Command {
        name: "zinter",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Returns the members that all sorted sets have.",
        complexity: "O(N*K) + O(M*log(M))",
        run: zinter,
        subcommands: &[],
    },
    Command {
        name: "zintercard",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "7.0.0",
        summary: "Counts the members that all sorted sets have, up to a limit.",
        complexity: "O(N*K)",
        run: zintercard,
        subcommands: &[],
    },
    Command {
        name: "zinterstore",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::OVERWRITE_1, KeySpec::counted(2, &["RO", "access"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Stores the members that all sorted sets have.",
        complexity: "O(N*K) + O(M*log(M))",
        run: zinterstore,
        subcommands: &[],
    },
    Command {
        name: "zunion",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Returns the members that any of the sorted sets has.",
        complexity: "O(N) + O(M*log(M))",
        run: zunion,
        subcommands: &[],
    },
    Command {
        name: "zunionstore",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::OVERWRITE_1, KeySpec::counted(2, &["RO", "access"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Stores the members that any of the sorted sets has.",
        complexity: "O(N) + O(M log(M))",
        run: zunionstore,
        subcommands: &[],
    },
];

fn zdiff(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Operation::Difference)
}

fn zdiffstore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    store_result(c, Operation::Difference, "zdiffstore")
}

fn zinter(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Operation::Intersection)
}

fn zinterstore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    store_result(c, Operation::Intersection, "zinterstore")
}

fn zunion(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Operation::Union)
}

fn zunionstore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    store_result(c, Operation::Union, "zunionstore")
}

fn reply(c: &mut Call<'_, '_>, operation: Operation) -> Result<(), Error> {
    let (names, options) = numbered_keys(c.args.slice(1..), operation.name())?;
    let sources = sources(c.keys, names)?;
    let options = Options::parse(options, names.len(), operation, Destination::Reply)?;
    let mut members = operation.run(&sources, &options, c.engine.shard_context().hasher);
    members.sort_unstable_by(|one, other| cmp_ranks(*one, *other));
    options.parts.head(&mut c.reply, members.len());
    for (member, score) in members {
        options.parts.write(&mut c.reply, member, score);
    }
    Ok(())
}

fn store_result(c: &mut Call<'_, '_>, operation: Operation, command: &'static str) -> Result<(), Error> {
    let args = c.args;
    let (names, options) = numbered_keys(args.slice(2..), command)?;
    let members: Vec<Ranked> = {
        let sources = sources(c.keys, names)?;
        let options = Options::parse(options, names.len(), operation, Destination::Key)?;
        let members = operation.run(&sources, &options, c.engine.shard_context().hasher);
        members.into_iter().map(|(member, score)| Ranked { score, member: member.into() }).collect()
    };
    store(c, &args[1], &members, command);
    Ok(())
}

fn zintercard(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (names, rest) = numbered_keys(c.args.slice(1..), "zintercard")?;
    let sources = sources(c.keys, names)?;
    let mut limit = usize::MAX;
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let value = rest.next().filter(|_| is(word, "limit")).ok_or(Error::SYNTAX)?;
        let value = number::parse_i64(value).and_then(|value| usize::try_from(value).ok());
        limit = match value.ok_or(Error::new("ERR LIMIT can't be negative"))? {
            0 => usize::MAX,
            limit => limit,
        };
    }
    let options = Options::new(names.len());
    let count = intersection(&options.weigh(&sources), options.aggregate).take(limit).count();
    c.reply.int(count as i64);
    Ok(())
}

/// Splits arguments that begin with a number of keys and the keys into these and what follows.
fn numbered_keys<'a>(args: Args<'a>, command: &str) -> Result<(Args<'a>, Args<'a>), Error> {
    let count = integer(&args[0])?;
    if count < 1 {
        return Err(format!("ERR at least 1 input key is needed for '{command}' command").into());
    }
    let count = usize::try_from(count).ok().filter(|count| *count < args.len()).ok_or(Error::SYNTAX)?;
    Ok((args.slice(1..=count), args.slice(count + 1..)))
}

/// A set that takes part.
#[derive(Clone, Copy)]
enum Source<'k> {
    Missing,
    Set(&'k Set),
    Zset(&'k Zset),
}

impl<'k> Source<'k> {
    fn len(self) -> usize {
        match self {
            Source::Missing => 0,
            Source::Set(set) => set.len(),
            Source::Zset(zset) => zset.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Missing => None,
            Source::Set(set) => set.contains(member).then_some(1.0),
            Source::Zset(zset) => zset.score(member),
        }
    }

    fn has(self, member: &[u8]) -> bool {
        self.score(member).is_some()
    }

    fn iter(self) -> impl Iterator<Item = (&'k [u8], f64)> {
        let (set, zset) = match self {
            Source::Missing => (None, None),
            Source::Set(set) => (Some(set), None),
            Source::Zset(zset) => (None, Some(zset)),
        };
        let unscored = set.into_iter().flat_map(|set| set.iter().map(|member| (member, 1.0)));
        unscored.chain(zset.into_iter().flat_map(|zset| zset.iter()))
    }
}

/// The sets at these keys, in their order.
fn sources<'k>(keys: &'k mut Keyspace<'_>, names: Args<'_>) -> Result<SmallVec<[Source<'k>; 4]>, Error> {
    for name in names {
        keys.value(name);
    }
    let keys = &*keys;
    let source = |name| match keys.peek(name) {
        None => Ok(Source::Missing),
        Some(Value::Set(set)) => Ok(Source::Set(set)),
        Some(Value::Zset(zset)) => Ok(Source::Zset(zset)),
        Some(Value::String(_) | Value::List(_) | Value::Hash(_)) => Err(Error::WRONG_TYPE),
    };
    names.iter().map(source).collect()
}

/// Where a result goes, and hence which options there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Destination {
    /// To the client, who may ask for scores.
    Reply,
    /// To a key.
    Key,
}

/// The words behind the keys.
struct Options {
    /// As many as there are keys.
    weights: SmallVec<[f64; 4]>,
    aggregate: Aggregate,
    parts: Parts,
}

impl Options {
    /// Those of a command without any.
    fn new(keys: usize) -> Self {
        Options { weights: SmallVec::from_elem(1.0, keys), aggregate: Aggregate::Sum, parts: Parts::Member }
    }

    fn parse(
        args: Args<'_>,
        keys: usize,
        operation: Operation,
        destination: Destination,
    ) -> Result<Self, Error> {
        let mut options = Options::new(keys);
        let combines = operation != Operation::Difference;
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            if is(word, "weights") && combines && rest.len() >= keys {
                for (weight, arg) in options.weights.iter_mut().zip(&mut rest) {
                    *weight = number::parse_f64(arg).ok_or(Error::new("ERR weight value is not a float"))?;
                }
            } else if is(word, "aggregate")
                && combines
                && let Some(name) = rest.next()
            {
                options.aggregate = Aggregate::parse(name).ok_or(Error::SYNTAX)?;
            } else if is(word, "withscores") && destination == Destination::Reply {
                options.parts = Parts::MemberAndScore;
            } else {
                return Err(Error::SYNTAX);
            }
        }
        Ok(options)
    }

    /// The sets with their weights, in the order of combining.
    fn weigh<'k>(&self, sources: &[Source<'k>]) -> SmallVec<[Weighted<'k>; 4]> {
        let mut weighted: SmallVec<[Weighted<'k>; 4]> =
            sources.iter().copied().zip(self.weights.iter().copied()).collect();
        weighted.sort_by_key(|(source, _)| source.len());
        weighted
    }
}

/// A set and the factor for its scores.
type Weighted<'k> = (Source<'k>, f64);

/// How the scores of a member in several sets become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn parse(name: &[u8]) -> Option<Self> {
        match name {
            name if is(name, "sum") => Some(Aggregate::Sum),
            name if is(name, "min") => Some(Aggregate::Min),
            name if is(name, "max") => Some(Aggregate::Max),
            _ => None,
        }
    }

    fn combine(self, held: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum => not_nan(held + other),
            Aggregate::Min => {
                if other < held {
                    other
                } else {
                    held
                }
            }
            Aggregate::Max => {
                if other > held {
                    other
                } else {
                    held
                }
            }
        }
    }
}

/// What infinities make of weights and sums counts as 0.
fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Difference,
    Intersection,
    Union,
}

impl Operation {
    /// The command that replies the result.
    fn name(self) -> &'static str {
        match self {
            Operation::Difference => "zdiff",
            Operation::Intersection => "zinter",
            Operation::Union => "zunion",
        }
    }

    /// The members of the result, in no order.
    fn run<'k>(
        self,
        sources: &[Source<'k>],
        options: &Options,
        hasher: &ahash::RandomState,
    ) -> Vec<(&'k [u8], f64)> {
        match self {
            Operation::Difference => difference(sources),
            Operation::Intersection => intersection(&options.weigh(sources), options.aggregate).collect(),
            Operation::Union => union(&options.weigh(sources), options.aggregate, hasher),
        }
    }
}

fn difference<'k>(sources: &[Source<'k>]) -> Vec<(&'k [u8], f64)> {
    let Some((first, others)) = sources.split_first() else { return Vec::new() };
    first.iter().filter(|(member, _)| !others.iter().any(|other| other.has(member))).collect()
}

/// The members that all sets have: those of the smallest that the others have too.
fn intersection<'k>(sources: &[Weighted<'k>], aggregate: Aggregate) -> impl Iterator<Item = (&'k [u8], f64)> {
    let (smallest, others) = sources.split_first().expect("at least one key is named");
    let (smallest, weight) = *smallest;
    smallest.iter().filter_map(move |(member, score)| {
        let mut total = not_nan(weight * score);
        for (other, weight) in others {
            total = aggregate.combine(total, weight * other.score(member)?);
        }
        Some((member, total))
    })
}

fn union<'k>(
    sources: &[Weighted<'k>],
    aggregate: Aggregate,
    hasher: &ahash::RandomState,
) -> Vec<(&'k [u8], f64)> {
    let mut scores: HashMap<&[u8], f64, ahash::RandomState> = HashMap::with_hasher(hasher.clone());
    for (source, weight) in sources {
        for (member, score) in source.iter() {
            let score = not_nan(weight * score);
            scores.entry(member).and_modify(|held| *held = aggregate.combine(*held, score)).or_insert(score);
        }
    }
    scores.into_iter().collect()
}
