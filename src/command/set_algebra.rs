//! Unions, intersections and differences of sets.
//!
//! Replies are written straight from the sets. What is stored is copied into one buffer first, because the
//! destination may be one of the sets.

use ahash::RandomState;
use hashbrown::HashSet;
use smallvec::SmallVec;

use super::parse::is;
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::keyspace::Keyspace;
use crate::engine::notify::EventClass;
use crate::number;
use crate::resp::args::{Args, OwnedArgs};
use crate::store::delta::Change;
use crate::store::set::Set;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "sdiff",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::to_end(1, 1, &["RO", "access"])],
        categories: &["set"],
        tips: &["nondeterministic_output_order"],
        group: Group::Set,
        since: "1.0.0",
        summary: "Returns the members of a set that the other sets lack.",
        complexity: "O(N)",
        run: sdiff,
        subcommands: &[],
    },
    Command {
        name: "sdiffstore",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::OVERWRITE_1, KeySpec::to_end(2, 1, &["RO", "access"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "1.0.0",
        summary: "Stores the members of a set that the other sets lack.",
        complexity: "O(N)",
        run: sdiffstore,
        subcommands: &[],
    },
    Command {
        name: "sinter",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::to_end(1, 1, &["RO", "access"])],
        categories: &["set"],
        tips: &["nondeterministic_output_order"],
        group: Group::Set,
        since: "1.0.0",
        summary: "Returns the members that all sets have.",
        complexity: "O(N*M)",
        run: sinter,
        subcommands: &[],
    },
    Command {
        name: "sintercard",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "7.0.0",
        summary: "Counts the members that all sets have, up to a limit.",
        complexity: "O(N*M)",
        run: sintercard,
        subcommands: &[],
    },
    Command {
        name: "sinterstore",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["RW", "update"]), KeySpec::to_end(2, 1, &["RO", "access"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "1.0.0",
        summary: "Stores the members that all sets have.",
        complexity: "O(N*M)",
        run: sinterstore,
        subcommands: &[],
    },
    Command {
        name: "sunion",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::to_end(1, 1, &["RO", "access"])],
        categories: &["set"],
        tips: &["nondeterministic_output_order"],
        group: Group::Set,
        since: "1.0.0",
        summary: "Returns the members that any of the sets has.",
        complexity: "O(N)",
        run: sunion,
        subcommands: &[],
    },
    Command {
        name: "sunionstore",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::OVERWRITE_1, KeySpec::to_end(2, 1, &["RO", "access"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "1.0.0",
        summary: "Stores the members that any of the sets has.",
        complexity: "O(N)",
        run: sunionstore,
        subcommands: &[],
    },
];

fn sdiff(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Operation::Difference)
}

fn sdiffstore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    store(c, Operation::Difference, "sdiffstore")
}

fn sinter(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Operation::Intersection)
}

fn sinterstore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    store(c, Operation::Intersection, "sinterstore")
}

fn sunion(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Operation::Union)
}

fn sunionstore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    store(c, Operation::Union, "sunionstore")
}

fn sintercard(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let count = number::parse_i64(&c.args[1]).filter(|count| *count > 0);
    let count = count.ok_or(Error::new("ERR numkeys should be greater than 0"))?;
    let count = usize::try_from(count).ok().filter(|count| *count <= c.args.len() - 2);
    let count = count.ok_or(Error::new("ERR Number of keys can't be greater than number of args"))?;
    let mut limit = usize::MAX;
    let mut rest = c.args.slice(2 + count..).iter();
    while let Some(word) = rest.next() {
        let value = rest.next().filter(|_| is(word, "limit")).ok_or(Error::SYNTAX)?;
        let value = number::parse_i64(value).and_then(|value| usize::try_from(value).ok());
        limit = match value.ok_or(Error::new("ERR LIMIT can't be negative"))? {
            0 => usize::MAX,
            limit => limit,
        };
    }
    let sets = sets(c.keys, c.args.slice(2..2 + count))?;
    let common = intersection(&sets).take(limit).count();
    c.reply.int(common as i64);
    Ok(())
}

#[derive(Clone, Copy)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

fn reply(c: &mut Call<'_, '_>, operation: Operation) -> Result<(), Error> {
    let hasher = c.engine.shard_context().hasher;
    let sets = sets(c.keys, c.args.slice(1..))?;
    let mark = c.reply.mark();
    let mut count = 0;
    operation.each(&sets, hasher, |member| {
        c.reply.bulk(member);
        count += 1;
    });
    c.reply.set_at(mark, count);
    Ok(())
}

fn store(c: &mut Call<'_, '_>, operation: Operation, event: &'static str) -> Result<(), Error> {
    let to = &c.args[1];
    let hasher = c.engine.shard_context().hasher;
    let members: OwnedArgs = {
        let sets = sets(c.keys, c.args.slice(2..))?;
        let mut members = Vec::new();
        operation.each(&sets, hasher, |member| members.push(member));
        members.into_iter().collect()
    };
    let members = members.args();
    if !members.is_empty() {
        c.keys.replace(to, |keys| {
            for member in members {
                keys.apply(to, &Change::Member(member));
            }
        });
        c.keys.notify(EventClass::SET, event, to);
    } else if c.keys.delete(to) {
        c.keys.notify(EventClass::GENERIC, "del", to);
    }
    c.reply.int(members.len() as i64);
    Ok(())
}

/// The sets at these keys, in their order; `None` where there is none.
fn sets<'k>(keys: &'k mut Keyspace<'_>, names: Args<'_>) -> Result<SmallVec<[Option<&'k Set>; 8]>, Error> {
    for name in names {
        keys.set(name)?;
    }
    let keys = &*keys;
    names.iter().map(|name| keys.peek_set(name)).collect()
}

impl Operation {
    /// Calls back with each member of the result, once.
    fn each<'k>(self, sets: &[Option<&'k Set>], hasher: &RandomState, mut each: impl FnMut(&'k [u8])) {
        match self {
            Operation::Union => union(sets, hasher, each),
            Operation::Intersection => intersection(sets).for_each(each),
            Operation::Difference => {
                let Some((Some(first), others)) = sets.split_first() else { return };
                let is_elsewhere = |member: &[u8]| others.iter().flatten().any(|set| set.contains(member));
                first.iter().filter(|member| !is_elsewhere(member)).for_each(&mut each);
            }
        }
    }
}

fn union<'k>(sets: &[Option<&'k Set>], hasher: &RandomState, mut each: impl FnMut(&'k [u8])) {
    if let [Some(only)] = sets {
        return only.iter().for_each(each);
    }
    let mut seen = HashSet::with_hasher(hasher.clone());
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        if seen.insert(member) {
            each(member);
        }
    }
}

/// The members that all sets have: those of the smallest that the others have too.
fn intersection<'s, 'k>(sets: &'s [Option<&'k Set>]) -> impl Iterator<Item = &'k [u8]> + 's {
    let complete = sets.iter().all(Option::is_some);
    let smallest = sets.iter().flatten().min_by_key(|set| set.len()).filter(|_| complete);
    let everywhere = |member: &&[u8]| sets.iter().flatten().all(|set| set.contains(member));
    smallest.into_iter().flat_map(|set| set.iter()).filter(everywhere)
}
