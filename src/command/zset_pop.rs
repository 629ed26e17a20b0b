//! Pops from sorted sets, at once or as soon as there is something to pop.

use smallvec::SmallVec;

use super::parse::{deadline_ms, is, positive};
use super::zset::{Parts, remove};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::number;
use crate::resp::args::Args;
use crate::store::ranked::Ranked;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "bzmpop",
        arity: -5,
        flags: Flags::WRITE.union(Flags::BLOCKING).union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(2, &["RW", "access", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "7.0.0",
        summary: "Pops members from the first non-empty of several sorted sets, waiting for one.",
        complexity: "O(K) + O(M*log(N))",
        run: bzmpop,
        subcommands: &[],
    },
    Command {
        name: "bzpopmax",
        arity: -3,
        flags: Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::BLOCKING).union(Flags::FAST),
        keys: &[KeySpec::all_but_last_from(1, &["RW", "access", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "5.0.0",
        summary: "Pops the member with the highest score from the first non-empty of several sorted sets, waiting for one.",
        complexity: "O(log(N))",
        run: bzpopmax,
        subcommands: &[],
    },
    Command {
        name: "bzpopmin",
        arity: -3,
        flags: Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::BLOCKING).union(Flags::FAST),
        keys: &[KeySpec::all_but_last_from(1, &["RW", "access", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "5.0.0",
        summary: "Pops the member with the lowest score from the first non-empty of several sorted sets, waiting for one.",
        complexity: "O(log(N))",
        run: bzpopmin,
        subcommands: &[],
    },
    Command {
        name: "zmpop",
        arity: -4,
        flags: Flags::WRITE.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RW", "access", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "7.0.0",
        summary: "Pops members from the first non-empty of several sorted sets.",
        complexity: "O(K) + O(M*log(N))",
        run: zmpop,
        subcommands: &[],
    },
    Command {
        name: "zpopmax",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "5.0.0",
        summary: "Removes and returns the members with the highest scores.",
        complexity: "O(log(N)*M)",
        run: zpopmax,
        subcommands: &[],
    },
    Command {
        name: "zpopmin",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "5.0.0",
        summary: "Removes and returns the members with the lowest scores.",
        complexity: "O(log(N)*M)",
        run: zpopmin,
        subcommands: &[],
    },
];

/// From which end of the scores to pop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Lowest,
    Highest,
}

impl End {
    fn event(self) -> &'static str {
        match self {
            End::Lowest => "zpopmin",
            End::Highest => "zpopmax",
        }
    }
}

/// Members taken out of a sorted set, in the order of taking.
type Popped = SmallVec<[Ranked; 1]>;

/// Takes up to `count` members out of a sorted set, if there is one.
fn pop(c: &mut Call<'_, '_>, key: &[u8], end: End, count: u64) -> Result<Popped, Error> {
    let Some(zset) = c.keys.zset_to_change(key)? else { return Ok(Popped::new()) };
    let len = zset.len();
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(len);
    let popped: Popped = match end {
        End::Lowest => zset.order().range(0..count).cloned().collect(),
        End::Highest => zset.order().range(len - count..len).rev().cloned().collect(),
    };
    remove(c, key, &popped, end.event());
    Ok(popped)
}

fn zpopmax(c: &mut Call<'_, '_>) -> Result<(), Error> {
    pop_from_one(c, End::Highest)
}

fn zpopmin(c: &mut Call<'_, '_>) -> Result<(), Error> {
    pop_from_one(c, End::Lowest)
}

fn pop_from_one(c: &mut Call<'_, '_>, end: End) -> Result<(), Error> {
    let args = c.args;
    if args.len() > 3 {
        return Err(Error::SYNTAX);
    }
    let count = args.get(2).map(positive).transpose()?;
    let popped = pop(c, &args[1], end, count.unwrap_or(1))?;
    match count {
        Some(_) => write_pairs(c, &popped),
        None => {
            c.reply.array(2 * popped.len());
            for ranked in popped {
                c.reply.bulk(&ranked.member);
                c.reply.double(ranked.score);
            }
        }
    }
    Ok(())
}

fn write_pairs(c: &mut Call<'_, '_>, popped: &[Ranked]) {
    let parts = Parts::MemberAndScore;
    parts.head(&mut c.reply, popped.len());
    for ranked in popped {
        parts.write(&mut c.reply, &ranked.member, ranked.score);
    }
}

fn bzpopmax(c: &mut Call<'_, '_>) -> Result<(), Error> {
    pop_or_block(c, End::Highest)
}

fn bzpopmin(c: &mut Call<'_, '_>) -> Result<(), Error> {
    pop_or_block(c, End::Lowest)
}

fn pop_or_block(c: &mut Call<'_, '_>, end: End) -> Result<(), Error> {
    let last = c.args.len() - 1;
    let (keys, deadline) = (c.args.slice(1..last), deadline_ms(&c.args[last], c.keys.now_ms())?);
    for key in c.blocking.keys(keys) {
        if let Some(ranked) = pop(c, key, end, 1)?.into_iter().next() {
            c.reply.array(3);
            c.reply.bulk(key);
            c.reply.bulk(&ranked.member);
            c.reply.double(ranked.score);
            return Ok(());
        }
    }
    c.block(keys, deadline);
    Ok(())
}

/// The arguments ZMPOP and BZMPOP share.
struct Request<'a> {
    keys: Args<'a>,
    end: End,
    count: u64,
}

impl<'a> Request<'a> {
    fn parse(args: Args<'a>) -> Result<Self, Error> {
        let keys = above_zero(&args[0]).ok_or(Error::new("ERR numkeys should be greater than 0"))?;
        let keys = usize::try_from(keys).ok().filter(|keys| *keys < args.len() - 1).ok_or(Error::SYNTAX)?;
        let end = match &args[keys + 1] {
            word if is(word, "min") => End::Lowest,
            word if is(word, "max") => End::Highest,
            _ => return Err(Error::SYNTAX),
        };
        let options = args.slice(keys + 2..);
        let count = match (options.get(0), options.get(1)) {
            (None, _) => 1,
            (Some(word), Some(count)) if is(word, "count") => {
                above_zero(count).ok_or(Error::new("ERR count should be greater than 0"))?
            }
            (Some(_), _) => return Err(Error::SYNTAX),
        };
        if options.len() > 2 {
            return Err(Error::SYNTAX);
        }
        Ok(Request { keys: args.slice(1..=keys), end, count })
    }

    /// Pops from the first key that has something, and replies. Returns whether there is one.
    fn pop(&self, c: &mut Call<'_, '_>) -> Result<bool, Error> {
        for key in c.blocking.keys(self.keys) {
            let popped = pop(c, key, self.end, self.count)?;
            if !popped.is_empty() {
                c.reply.array(2);
                c.reply.bulk(key);
                c.reply.array(popped.len());
                for ranked in popped {
                    c.reply.array(2);
                    c.reply.bulk(&ranked.member);
                    c.reply.double(ranked.score);
                }
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn above_zero(arg: &[u8]) -> Option<u64> {
    number::parse_i64(arg).and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

fn zmpop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let request = Request::parse(c.args.slice(1..))?;
    if !request.pop(c)? {
        c.reply.null_array();
    }
    Ok(())
}

fn bzmpop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let request = Request::parse(c.args.slice(2..))?;
    let deadline = deadline_ms(&c.args[1], c.keys.now_ms())?;
    if !request.pop(c)? {
        c.block(request.keys, deadline);
    }
    Ok(())
}
