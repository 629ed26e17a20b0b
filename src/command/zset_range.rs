//! Ranges of sorted sets: by rank, by score, and by name among members of equal score.
//!
//! Whatever a range is given by, it comes down to two ranks counted from the lowest score. LIMIT cuts them, and the
//! direction says from which end they are walked.

use std::ops::{Bound, Range};

use super::parse::{integer, is};
use super::zset::{Direction, Parts, remove, store};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::number;
use crate::resp::args::Args;
use crate::store::ranked::Ranked;
use crate::store::zset::Zset;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "zcount",
        arity: 4,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Counts the members with scores in a range.",
        complexity: "O(log(N))",
        run: zcount,
        subcommands: &[],
    },
    Command {
        name: "zlexcount",
        arity: 4,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.8.9",
        summary: "Counts the members in a range of names.",
        complexity: "O(log(N))",
        run: zlexcount,
        subcommands: &[],
    },
    Command {
        name: "zrange",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Returns the members in a range of ranks, scores or names.",
        complexity: "O(log(N)+M)",
        run: zrange,
        subcommands: &[],
    },
    Command {
        name: "zrangebylex",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.8.9",
        summary: "Returns the members in a range of names.",
        complexity: "O(log(N)+M)",
        run: zrangebylex,
        subcommands: &[],
    },
    Command {
        name: "zrangebyscore",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.0.5",
        summary: "Returns the members with scores in a range.",
        complexity: "O(log(N)+M)",
        run: zrangebyscore,
        subcommands: &[],
    },
    Command {
        name: "zrangestore",
        arity: -5,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::OVERWRITE_1, KeySpec::at(2, &["RO", "access"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Stores the members in a range of ranks, scores or names.",
        complexity: "O(log(N)+M)",
        run: zrangestore,
        subcommands: &[],
    },
    Command {
        name: "zremrangebylex",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.8.9",
        summary: "Removes the members in a range of names.",
        complexity: "O(log(N)+M)",
        run: zremrangebylex,
        subcommands: &[],
    },
    Command {
        name: "zremrangebyrank",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Removes the members in a range of ranks.",
        complexity: "O(log(N)+M)",
        run: zremrangebyrank,
        subcommands: &[],
    },
    Command {
        name: "zremrangebyscore",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Removes the members with scores in a range.",
        complexity: "O(log(N)+M)",
        run: zremrangebyscore,
        subcommands: &[],
    },
    Command {
        name: "zrevrange",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Returns the members in a range of ranks, from the highest score.",
        complexity: "O(log(N)+M)",
        run: zrevrange,
        subcommands: &[],
    },
    Command {
        name: "zrevrangebylex",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.8.9",
        summary: "Returns the members in a range of names, in reverse order.",
        complexity: "O(log(N)+M)",
        run: zrevrangebylex,
        subcommands: &[],
    },
    Command {
        name: "zrevrangebyscore",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.2.0",
        summary: "Returns the members with scores in a range, from the highest.",
        complexity: "O(log(N)+M)",
        run: zrevrangebyscore,
        subcommands: &[],
    },
];

/// What a range is given by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Rank,
    Score,
    Name,
}

/// A range, its bounds in rising order.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Bounds<'a> {
    /// First and last rank, from the end the command begins at; negative ones from the other.
    Ranks(i64, i64),
    Scores(Bound<f64>, Bound<f64>),
    Names(NameBound<'a>, NameBound<'a>),
}

/// Where a range of names begins or ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NameBound<'a> {
    /// `-`: before all names.
    Lowest,
    /// `+`: behind all names.
    Highest,
    /// `[name`.
    Included(&'a [u8]),
    /// `(name`.
    Excluded(&'a [u8]),
}

impl<'a> Bounds<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Self, Error> {
        match by {
            By::Rank => Ok(Bounds::Ranks(integer(min)?, integer(max)?)),
            By::Score => match (score_bound(min), score_bound(max)) {
                (Some(min), Some(max)) => Ok(Bounds::Scores(min, max)),
                _ => Err(Error::new("ERR min or max is not a float")),
            },
            By::Name => match (NameBound::parse(min), NameBound::parse(max)) {
                (Some(min), Some(max)) => Ok(Bounds::Names(min, max)),
                _ => Err(Error::new("ERR min or max not valid string range item")),
            },
        }
    }

    /// The ranks of the members in the range, counted from the lowest score.
    fn ranks(&self, zset: &Zset, direction: Direction) -> Range<usize> {
        let order = zset.order();
        let (start, end) = match *self {
            Bounds::Ranks(first, last) => return absolute_ranks(first, last, zset.len(), direction),
            Bounds::Scores(min, max) => (
                order.partition(|ranked| match min {
                    Bound::Included(min) => ranked.score < min,
                    Bound::Excluded(min) => ranked.score <= min,
                    Bound::Unbounded => false,
                }),
                order.partition(|ranked| match max {
                    Bound::Included(max) => ranked.score <= max,
                    Bound::Excluded(max) => ranked.score < max,
                    Bound::Unbounded => true,
                }),
            ),
            Bounds::Names(min, max) => (
                order.partition(|ranked| !min.begins_before(&ranked.member)),
                order.partition(|ranked| max.ends_behind(&ranked.member)),
            ),
        };
        start..end.max(start)
    }
}

fn absolute_ranks(first: i64, last: i64, len: usize, direction: Direction) -> Range<usize> {
    let count = len as i64;
    let absolute = |rank: i64| if rank < 0 { rank + count } else { rank };
    let (first, last) = (absolute(first).max(0), absolute(last).min(count - 1));
    if first > last {
        return 0..0;
    }
    let (first, last) = (first as usize, last as usize);
    match direction {
        Direction::Rising => first..last + 1,
        Direction::Falling => len - 1 - last..len - first,
    }
}

/// `5` or `(5`.
fn score_bound(text: &[u8]) -> Option<Bound<f64>> {
    match text {
        [b'(', text @ ..] => lenient_float(text).map(Bound::Excluded),
        text => lenient_float(text).map(Bound::Included),
    }
}

/// A float as `strtod` takes it, by which Redis reads bounds: spaces may lead, a NUL ends the text, nothing at all is 0,
/// and what is too big is infinite.
fn lenient_float(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let text = &text[spaces..];
    let extreme = || std::str::from_utf8(text).ok()?.parse::<f64>().ok().filter(|value| !value.is_nan());
    number::parse_f64(text).or_else(extreme)
}

impl<'a> NameBound<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        match text {
            b"-" => Some(NameBound::Lowest),
            b"+" => Some(NameBound::Highest),
            [b'[', name @ ..] => Some(NameBound::Included(name)),
            [b'(', name @ ..] => Some(NameBound::Excluded(name)),
            _ => None,
        }
    }

    fn begins_before(&self, name: &[u8]) -> bool {
        match *self {
            NameBound::Lowest => true,
            NameBound::Highest => false,
            NameBound::Included(min) => min <= name,
            NameBound::Excluded(min) => min < name,
        }
    }

    fn ends_behind(&self, name: &[u8]) -> bool {
        match *self {
            NameBound::Lowest => false,
            NameBound::Highest => true,
            NameBound::Included(max) => name <= max,
            NameBound::Excluded(max) => name < max,
        }
    }
}

/// LIMIT: how many members to skip, none if that is negative; and how many to take, all if that is negative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Limit {
    offset: i64,
    count: i64,
}

impl Limit {
    const NONE: Limit = Limit { offset: 0, count: -1 };

    fn cut(self, ranks: Range<usize>, direction: Direction) -> Range<usize> {
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX).min(ranks.len());
        let take = usize::try_from(self.count).unwrap_or(usize::MAX).min(ranks.len() - skip);
        match direction {
            Direction::Rising => ranks.start + skip..ranks.start + skip + take,
            Direction::Falling => ranks.end - skip - take..ranks.end - skip,
        }
    }
}

/// Where a range goes, and hence which options there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Destination {
    /// To the client, who may ask for scores.
    Reply,
    /// To a key.
    Key,
}

/// The arguments of a command that reads a range.
struct Query<'a> {
    bounds: Bounds<'a>,
    direction: Direction,
    limit: Limit,
    parts: Parts,
}

/// What a command's name has settled of its query.
#[derive(Clone, Copy, Default)]
struct Settled {
    by: Option<By>,
    direction: Option<Direction>,
}

impl Settled {
    fn new(by: By, direction: Direction) -> Self {
        Settled { by: Some(by), direction: Some(direction) }
    }

    /// Reads both bounds and the options behind them.
    fn parse(mut self, args: Args<'_>, destination: Destination) -> Result<Query<'_>, Error> {
        let (mut limit, mut parts) = (Limit::NONE, Parts::Member);
        let mut rest = args.iter();
        let (Some(first), Some(second)) = (rest.next(), rest.next()) else { return Err(Error::SYNTAX) };
        while let Some(word) = rest.next() {
            if is(word, "withscores") && destination == Destination::Reply {
                parts = Parts::MemberAndScore;
            } else if is(word, "limit")
                && rest.len() >= 2
                && let (Some(offset), Some(count)) = (rest.next(), rest.next())
            {
                limit = Limit { offset: integer(offset)?, count: integer(count)? };
            } else if is(word, "rev") && self.direction.is_none() {
                self.direction = Some(Direction::Falling);
            } else if is(word, "bylex") && self.by.is_none() {
                self.by = Some(By::Name);
            } else if is(word, "byscore") && self.by.is_none() {
                self.by = Some(By::Score);
            } else {
                return Err(Error::SYNTAX);
            }
        }
        let (by, direction) = (self.by.unwrap_or(By::Rank), self.direction.unwrap_or(Direction::Rising));
        // A count of -1 passes for no LIMIT at all.
        if by == By::Rank && limit.count != -1 {
            return Err(Error::new(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if by == By::Name && parts == Parts::MemberAndScore {
            return Err(Error::new("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (min, max) = match direction {
            Direction::Falling if by != By::Rank => (second, first),
            Direction::Rising | Direction::Falling => (first, second),
        };
        let limit = if by == By::Rank { Limit::NONE } else { limit };
        Ok(Query { bounds: Bounds::parse(by, min, max)?, direction, limit, parts })
    }
}

impl Query<'_> {
    /// The ranks of the members meant, counted from the lowest score.
    fn ranks(&self, zset: &Zset) -> Range<usize> {
        self.limit.cut(self.bounds.ranks(zset, self.direction), self.direction)
    }

    /// Calls back with the members at these ranks, in the direction asked for.
    fn each<'k>(&self, zset: &'k Zset, ranks: Range<usize>, each: impl FnMut(&'k Ranked)) {
        let members = zset.order().range(ranks);
        match self.direction {
            Direction::Rising => members.for_each(each),
            Direction::Falling => members.rev().for_each(each),
        }
    }
}

fn zrange(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Settled::default())
}

fn zrangebylex(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Settled::new(By::Name, Direction::Rising))
}

fn zrangebyscore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Settled::new(By::Score, Direction::Rising))
}

fn zrevrange(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Settled::new(By::Rank, Direction::Falling))
}

fn zrevrangebylex(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Settled::new(By::Name, Direction::Falling))
}

fn zrevrangebyscore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    reply(c, Settled::new(By::Score, Direction::Falling))
}

fn reply(c: &mut Call<'_, '_>, settled: Settled) -> Result<(), Error> {
    let query = settled.parse(c.args.slice(2..), Destination::Reply)?;
    let Some(zset) = c.keys.zset(&c.args[1])? else {
        c.reply.array(0);
        return Ok(());
    };
    let ranks = query.ranks(zset);
    query.parts.head(&mut c.reply, ranks.len());
    query.each(zset, ranks, |ranked| query.parts.write(&mut c.reply, &ranked.member, ranked.score));
    Ok(())
}

fn zrangestore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let query = Settled::default().parse(args.slice(3..), Destination::Key)?;
    let mut members = Vec::new();
    if let Some(zset) = c.keys.zset(&args[2])? {
        query.each(zset, query.ranks(zset), |ranked| members.push(ranked.clone()));
    }
    store(c, &args[1], &members, "zrangestore");
    Ok(())
}

fn zcount(c: &mut Call<'_, '_>) -> Result<(), Error> {
    count(c, By::Score)
}

fn zlexcount(c: &mut Call<'_, '_>) -> Result<(), Error> {
    count(c, By::Name)
}

fn count(c: &mut Call<'_, '_>, by: By) -> Result<(), Error> {
    let bounds = Bounds::parse(by, &c.args[2], &c.args[3])?;
    let zset = c.keys.zset(&c.args[1])?;
    let count = zset.map_or(0, |zset| bounds.ranks(zset, Direction::Rising).len());
    c.reply.int(count as i64);
    Ok(())
}

fn zremrangebylex(c: &mut Call<'_, '_>) -> Result<(), Error> {
    remove_range(c, By::Name, "zremrangebylex")
}

fn zremrangebyrank(c: &mut Call<'_, '_>) -> Result<(), Error> {
    remove_range(c, By::Rank, "zremrangebyrank")
}

fn zremrangebyscore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    remove_range(c, By::Score, "zremrangebyscore")
}

fn remove_range(c: &mut Call<'_, '_>, by: By, event: &'static str) -> Result<(), Error> {
    let args = c.args;
    let bounds = Bounds::parse(by, &args[2], &args[3])?;
    let members: Vec<Ranked> = c.keys.zset_to_change(&args[1])?.map_or_else(Vec::new, |zset| {
        zset.order().range(bounds.ranks(zset, Direction::Rising)).cloned().collect()
    });
    remove(c, &args[1], &members, event);
    c.reply.int(members.len() as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Fixture;

    #[test]
    fn score_bounds_are_read_like_strtod_does() {
        let check = |text: &str, expected| assert_eq!(score_bound(text.as_bytes()), expected, "{text:?}");
        use Bound::{Excluded, Included};
        check("1.5", Some(Included(1.5)));
        check("(1.5", Some(Excluded(1.5)));
        check("", Some(Included(0.0)));
        check("(", Some(Excluded(0.0)));
        check(" \t\n\x0b\x0c\r5", Some(Included(5.0)));
        check("( 5", Some(Excluded(5.0)));
        check("5\0x", Some(Included(5.0)));
        check("-inf", Some(Included(f64::NEG_INFINITY)));
        check("+Infinity", Some(Included(f64::INFINITY)));
        check("1e400", Some(Included(f64::INFINITY)));
        check("-1e400", Some(Included(f64::NEG_INFINITY)));
        check("1e-400", Some(Included(0.0)));
        check("0x1p3", Some(Included(8.0)));
        for invalid in [" ", "5 ", "((5", "[5", "nan", "-nan", "x", "1e", "(nan", "0x"] {
            check(invalid, None);
        }
    }

    #[test]
    fn ranks_from_either_end() {
        let check = |first, last, rising: Range<usize>, falling: Range<usize>| {
            assert_eq!(absolute_ranks(first, last, 5, Direction::Rising), rising, "{first} {last}");
            assert_eq!(absolute_ranks(first, last, 5, Direction::Falling), falling, "{first} {last}");
        };
        check(0, -1, 0..5, 0..5);
        check(1, 2, 1..3, 2..4);
        check(-2, 100, 3..5, 0..2);
        check(-100, 0, 0..1, 4..5);
        check(-100, -6, 0..0, 0..0);
        check(3, 2, 0..0, 0..0);
        check(5, 9, 0..0, 0..0);
        check(i64::MIN, i64::MAX, 0..5, 0..5);
        check(i64::MAX, i64::MIN, 0..0, 0..0);
        assert_eq!(absolute_ranks(0, -1, 0, Direction::Falling), 0..0);
    }

    #[test]
    fn limits_cut_from_where_the_range_begins() {
        let check = |offset, count, rising: Range<usize>, falling: Range<usize>| {
            let limit = Limit { offset, count };
            assert_eq!(limit.cut(10..15, Direction::Rising), rising, "{limit:?}");
            assert_eq!(limit.cut(10..15, Direction::Falling), falling, "{limit:?}");
        };
        check(0, -1, 10..15, 10..15);
        check(1, 2, 11..13, 12..14);
        check(4, 9, 14..15, 10..11);
        check(5, 9, 15..15, 10..10);
        check(0, 0, 10..10, 15..15);
        check(-1, 2, 15..15, 10..10);
        check(i64::MAX, i64::MAX, 15..15, 10..10);
        check(0, i64::MIN, 10..15, 10..15);
    }

    #[test]
    fn names_among_different_scores_make_no_order_but_no_harm() {
        let mut server = Fixture::new();
        (0..3000).for_each(|n| {
            server.run(&format!("ZADD z {n} {}", n * 7919 % 3000));
        });
        for (min, max) in [("[5", "[2"), ("-", "+"), ("+", "-"), ("(1", "(29"), ("[", "[")] {
            assert!(server.run(&format!("ZRANGEBYLEX z {min} {max}")).starts_with('*'));
            assert!(server.run(&format!("ZREVRANGEBYLEX z {max} {min} LIMIT 1 2")).starts_with('*'));
            assert!(server.run(&format!("ZLEXCOUNT z {min} {max}")).starts_with(':'));
        }
    }
}
