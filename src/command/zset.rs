//! Sorted sets: members, their scores and ranks. Ranges are in [`zset_range`](super::zset_range), pops in
//! [`zset_pop`](super::zset_pop), and what combines several sets in [`zset_algebra`](super::zset_algebra).
//!
//! A small set (`Limits`) makes -0 a 0 when it takes it, as Redis's do, and ZSCAN shows its whole numbers in full.

use smallvec::SmallVec;

use super::parse::{float, is};
use super::pick;
use super::scan::{self, Page, Scope};
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::number;
use crate::resp::args::Args;
use crate::resp::reply::{Protocol, Reply};
use crate::store::delta::{Amount, Change, Kind};
use crate::store::ranked::Ranked;
use crate::store::zset::Zset;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "zadd",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Adds members to a sorted set, or changes their scores.",
        complexity: "O(log(N))",
        run: zadd,
        subcommands: &[],
    },
    Command {
        name: "zcard",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Returns the number of members of a sorted set.",
        complexity: "O(1)",
        run: zcard,
        subcommands: &[],
    },
    Command {
        name: "zincrby",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Adds to the score of a member.",
        complexity: "O(log(N))",
        run: zincrby,
        subcommands: &[],
    },
    Command {
        name: "zmscore",
        arity: -3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Returns the scores of several members.",
        complexity: "O(N)",
        run: zmscore,
        subcommands: &[],
    },
    Command {
        name: "zrandmember",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &["nondeterministic_output"],
        group: Group::SortedSet,
        since: "6.2.0",
        summary: "Returns random members of a sorted set.",
        complexity: "O(N)",
        run: zrandmember,
        subcommands: &[],
    },
    Command {
        name: "zrank",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Returns the rank of a member, from the lowest score.",
        complexity: "O(log(N))",
        run: zrank,
        subcommands: &[],
    },
    Command {
        name: "zrem",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Removes members of a sorted set.",
        complexity: "O(M*log(N))",
        run: zrem,
        subcommands: &[],
    },
    Command {
        name: "zrevrank",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "2.0.0",
        summary: "Returns the rank of a member, from the highest score.",
        complexity: "O(log(N))",
        run: zrevrank,
        subcommands: &[],
    },
    Command {
        name: "zscan",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &["nondeterministic_output"],
        group: Group::SortedSet,
        since: "2.8.0",
        summary: "Iterates over the members of a sorted set.",
        complexity: "O(1)",
        run: zscan,
        subcommands: &[],
    },
    Command {
        name: "zscore",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["sortedset"],
        tips: &[],
        group: Group::SortedSet,
        since: "1.2.0",
        summary: "Returns the score of a member.",
        complexity: "O(1)",
        run: zscore,
        subcommands: &[],
    },
];

/// What of each member a reply holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parts {
    /// The member.
    Member,
    /// The member and its score.
    MemberAndScore,
}

impl Parts {
    /// Begins an array of `count` members. With scores it has twice as many elements in RESP2, and pairs in RESP3.
    pub(super) fn head(self, reply: &mut Reply<'_>, count: usize) {
        let is_flat = self == Parts::MemberAndScore && reply.protocol() == Protocol::Resp2;
        reply.array(if is_flat { count.saturating_mul(2) } else { count });
    }

    /// Writes one of them.
    pub(super) fn write(self, reply: &mut Reply<'_>, member: &[u8], score: f64) {
        match self {
            Parts::Member => reply.bulk(member),
            Parts::MemberAndScore => {
                if reply.protocol() == Protocol::Resp3 {
                    reply.array(2);
                }
                reply.bulk(member);
                reply.double(score);
            }
        }
    }
}

/// The way through the order of scores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the lowest score.
    Rising,
    /// From the highest.
    Falling,
}

/// Removes members the key is known to have, and tells of it.
pub(super) fn remove(c: &mut Call<'_, '_>, key: &[u8], members: &[Ranked], event: &'static str) {
    if members.is_empty() {
        return;
    }
    c.keys.apply_each(key, members.iter().map(|ranked| Change::ScoreRemove(&ranked.member)));
    notify_removed(c, event, key);
}

/// Puts members in place of what the key holds, or deletes it if there are none; tells of it and replies their number.
pub(super) fn store(c: &mut Call<'_, '_>, to: &[u8], members: &[Ranked], event: &'static str) {
    if !members.is_empty() {
        let limits = Limits::of(c.engine);
        let longest = members.iter().map(|ranked| ranked.member.len()).max().unwrap_or(0);
        let is_small = limits.allow(members.len(), longest);
        c.keys.replace(to, |keys| {
            let score = |ranked: &Ranked| kept(ranked.score, is_small);
            keys.apply_each(to, members.iter().map(|ranked| Change::Score(&ranked.member, score(ranked))));
        });
        c.keys.notify(EventClass::ZSET, event, to);
    } else if c.keys.delete(to) {
        c.keys.notify(EventClass::GENERIC, "del", to);
    }
    c.reply.int(members.len() as i64);
}

fn notify_removed(c: &mut Call<'_, '_>, event: &'static str, key: &[u8]) {
    c.keys.notify(EventClass::ZSET, event, key);
    if !c.keys.exists(key) {
        c.keys.notify(EventClass::GENERIC, "del", key);
    }
}

fn zadd(c: &mut Call<'_, '_>) -> Result<(), Error> {
    add(c, AddOptions::default())
}

fn zincrby(c: &mut Call<'_, '_>) -> Result<(), Error> {
    add(c, AddOptions { increment: true, ..AddOptions::default() })
}

fn add(c: &mut Call<'_, '_>, options: AddOptions) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let (options, pairs) = options.parse(args.slice(2..))?;
    let scores = pairs.iter().step_by(2).map(float).collect::<Result<SmallVec<[f64; 4]>, Error>>()?;
    let (mut added, mut updated, mut outcome) = (0, 0, None);
    for (given, member) in scores.into_iter().zip(pairs.iter().skip(1).step_by(2)) {
        let held = c.keys.zset_to_change(key)?.and_then(|zset| zset.score(member));
        let Some(score) = options.decide(held, given)? else { continue };
        outcome = Some(score);
        match held {
            None => added += 1,
            Some(held) if held != score => updated += 1,
            Some(_) => continue,
        }
        if options.increment && c.keys.counts_per_origin() {
            c.keys.add(key, Some(member), Kind::Zset, Amount::Score(given));
            // Sums of several origins may round otherwise than `score`: the reply is what ZSCORE would say.
            outcome = c.keys.zset_to_change(key)?.and_then(|zset| zset.score(member));
        } else {
            let is_small = score == 0.0 && stays_small(c, key, member)?;
            c.keys.apply(key, &Change::Score(member, kept(score, is_small)));
        }
    }
    if added + updated > 0 {
        c.keys.notify(EventClass::ZSET, if options.increment { "zincr" } else { "zadd" }, key);
    }
    match outcome {
        Some(score) if options.increment => c.reply.double(score),
        None if options.increment => c.reply.null(),
        Some(_) | None => c.reply.int(if options.count_updated { added + updated } else { added }),
    }
    Ok(())
}

/// What a small set holds at most: it is kept in one block by Redis.
struct Limits {
    members_max: usize,
    bytes_max: usize,
}

impl Limits {
    fn of(engine: &Engine) -> Self {
        let config = engine.config.read();
        Limits {
            members_max: config.zset_max_listpack_entries as usize,
            bytes_max: config.zset_max_listpack_value as usize,
        }
    }

    /// Whether so many members are few enough, and the longest of so many bytes is short enough.
    fn allow(&self, members: usize, bytes: usize) -> bool {
        members <= self.members_max && bytes <= self.bytes_max
    }
}

/// Whether a set is small with this member in it.
fn stays_small(c: &mut Call<'_, '_>, key: &[u8], member: &[u8]) -> Result<bool, Error> {
    let limits = Limits::of(c.engine);
    let Some(zset) = c.keys.zset_to_change(key)? else { return Ok(limits.allow(1, member.len())) };
    let grown = zset.len() + usize::from(zset.score(member).is_none());
    Ok(limits.allow(grown, member.len()) && zset.fits(limits.members_max, limits.bytes_max))
}

/// The score as it is kept: adding 0 turns -0 into 0.
fn kept(score: f64, is_small: bool) -> f64 {
    if is_small { score + 0.0 } else { score }
}

/// The words before the first score of ZADD.
#[derive(Clone, Copy, Default)]
struct AddOptions {
    /// NX.
    only_new: bool,
    /// XX.
    only_held: bool,
    /// GT.
    only_greater: bool,
    /// LT.
    only_less: bool,
    /// CH.
    count_updated: bool,
    /// INCR.
    increment: bool,
}

impl AddOptions {
    /// Reads the words. Returns also what follows: scores and members in turn.
    fn parse(mut self, args: Args<'_>) -> Result<(Self, Args<'_>), Error> {
        let is_option = |word: &[u8]| {
            let option = match word {
                word if is(word, "nx") => &mut self.only_new,
                word if is(word, "xx") => &mut self.only_held,
                word if is(word, "gt") => &mut self.only_greater,
                word if is(word, "lt") => &mut self.only_less,
                word if is(word, "ch") => &mut self.count_updated,
                word if is(word, "incr") => &mut self.increment,
                _ => return false,
            };
            *option = true;
            true
        };
        let options = args.iter().map(is_option).take_while(|is_option| *is_option).count();
        let pairs = args.slice(options..);
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return Err(Error::SYNTAX);
        }
        if self.only_new && self.only_held {
            return Err(Error::new("ERR XX and NX options at the same time are not compatible"));
        }
        if u8::from(self.only_new) + u8::from(self.only_greater) + u8::from(self.only_less) > 1 {
            return Err(Error::new("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increment && pairs.len() > 2 {
            return Err(Error::new("ERR INCR option supports a single increment-element pair"));
        }
        Ok((self, pairs))
    }

    /// The score a member gets, which may be the one it has; `None` leaves it alone.
    fn decide(&self, held: Option<f64>, given: f64) -> Result<Option<f64>, Error> {
        let Some(held) = held else { return Ok((!self.only_held).then_some(given)) };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.increment { held + given } else { given };
        if score.is_nan() {
            return Err(Error::new("ERR resulting score is not a number (NaN)"));
        }
        let refused = self.only_greater && score <= held || self.only_less && score >= held;
        Ok((!refused).then_some(score))
    }
}

fn zcard(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let len = c.keys.zset(&c.args[1])?.map_or(0, Zset::len);
    c.reply.int(len as i64);
    Ok(())
}

fn zmscore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let members = c.args.slice(2..);
    let zset = c.keys.zset(&c.args[1])?;
    c.reply.array(members.len());
    for member in members {
        write_score(&mut c.reply, zset.and_then(|zset| zset.score(member)));
    }
    Ok(())
}

fn zscore(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let score = c.keys.zset(&c.args[1])?.and_then(|zset| zset.score(&c.args[2]));
    write_score(&mut c.reply, score);
    Ok(())
}

fn write_score(reply: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zrank(c: &mut Call<'_, '_>) -> Result<(), Error> {
    rank(c, Direction::Rising)
}

fn zrevrank(c: &mut Call<'_, '_>) -> Result<(), Error> {
    rank(c, Direction::Falling)
}

fn rank(c: &mut Call<'_, '_>, direction: Direction) -> Result<(), Error> {
    let rank = c.keys.zset(&c.args[1])?.and_then(|zset| {
        let rank = zset.rank(&c.args[2])?;
        Some(match direction {
            Direction::Rising => rank,
            Direction::Falling => zset.len() - 1 - rank,
        })
    });
    match rank {
        Some(rank) => c.reply.int(rank as i64),
        None => c.reply.null(),
    }
    Ok(())
}

fn zrandmember(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let Some(count) = c.args.get(2) else { return zrandmember_single(c) };
    let count = pick::count(count)?;
    let parts = match c.args.get(3) {
        None => Parts::Member,
        Some(word) if c.args.len() == 4 && is(word, "withscores") => Parts::MemberAndScore,
        Some(_) => return Err(Error::SYNTAX),
    };
    if parts == Parts::MemberAndScore && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::new("ERR value is out of range"));
    }
    let engine = c.engine;
    let Some(zset) = c.keys.zset(&c.args[1])? else {
        c.reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        parts.head(&mut c.reply, wanted);
        for _ in 0..wanted {
            let (member, score) = zset.at(pick::place(engine.draw(), zset.len())).expect("below its length");
            parts.write(&mut c.reply, member, score);
            pick::check_size(&c.reply)?;
        }
    } else {
        let places = pick::places(zset.len(), wanted, || engine.draw());
        parts.head(&mut c.reply, places.len());
        for place in places {
            let (member, score) = zset.at(place).expect("below its length");
            parts.write(&mut c.reply, member, score);
        }
    }
    Ok(())
}

fn zrandmember_single(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let engine = c.engine;
    let picked = c.keys.zset(&c.args[1])?.and_then(|zset| zset.at(pick::place(engine.draw(), zset.len())));
    c.reply.bulk_opt(picked.map(|(member, _)| member));
    Ok(())
}

fn zrem(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let mut removed = 0;
    for member in args.slice(2..) {
        let has = c.keys.zset_to_change(key)?.is_some_and(|zset| zset.score(member).is_some());
        removed += i64::from(has && c.keys.apply(key, &Change::ScoreRemove(member)));
    }
    if removed > 0 {
        notify_removed(c, "zrem", key);
    }
    c.reply.int(removed);
    Ok(())
}

fn zscan(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let cursor = scan::cursor(&c.args[2])?;
    let engine = c.engine;
    let Some(zset) = c.keys.zset(&c.args[1])? else {
        scan::write_empty(&mut c.reply);
        return Ok(());
    };
    let options = scan::Options::parse(c.args.slice(3..), Scope::Elements)?;
    let limits = Limits::of(engine);
    let is_small = zset.fits(limits.members_max, limits.bytes_max);
    let len = zset.len();
    let page = if is_small { Page::whole(len) } else { Page::at(cursor, options.count, len) };
    // Small sets are listed in order of score. Pages go downwards.
    let in_order = |place| zset.order().get(len - 1 - place).map(|ranked| (&*ranked.member, ranked.score));
    let mut text = Vec::new();
    page.write(&mut c.reply, |reply, place| {
        let found = if is_small { in_order(place) } else { zset.at(place) };
        let Some((member, score)) = found.filter(|(member, _)| options.matches(member)) else { return 0 };
        text.clear();
        write_scanned(&mut text, score, is_small);
        reply.bulk(member);
        reply.bulk(&text);
        2
    });
    Ok(())
}

/// A score as ZSCAN shows it, in either protocol. Small sets hold whole numbers as integers, and it shows.
fn write_scanned(out: &mut Vec<u8>, score: f64, is_small: bool) {
    const WHOLE_MAX: f64 = (1_u64 << 62) as f64;
    if is_small && score.abs() <= WHOLE_MAX && score.fract() == 0.0 {
        out.extend_from_slice(itoa::Buffer::new().format(score as i64).as_bytes());
    } else {
        number::write_f64(out, score);
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;
    use crate::resp::reply::Protocol;

    #[test]
    fn what_changes_nothing_has_no_effect() {
        let mut server = Fixture::replicating();
        server.run("ZADD z 1 a 2 b");
        let before = server.changes();
        server.check("ZADD z 1 a 2 b", ":0");
        server.check("ZADD z CH NX 5 a", ":0");
        server.check("ZADD z CH XX 5 c", ":0");
        server.check("ZADD z CH GT 1 a 0 b", ":0");
        server.check("ZADD z CH LT 1 a 5 b", ":0");
        server.check("ZADD z GT INCR -1 a", "$-1");
        server.check("ZINCRBY z 0 a", "$1 1");
        server.check("ZREM z x y", ":0");
        server.check("ZPOPMIN z 0", "*0");
        server.check("ZREMRANGEBYSCORE z 7 8", ":0");
        server.check("ZINTERSTORE nokey 2 z nokey", ":0");
        server.check("ZRANGESTORE nokey z 5 6", ":0");
        assert_eq!(server.changes(), before);
        server.check("ZADD z 3 c 4 c", ":1");
        server.check("ZSCORE z c", "$1 4");
        server.check("ZREM z c c", ":1");
        assert_eq!(server.changes(), before + 3);
    }

    #[test]
    fn counting_per_origin_replies_like_counting_alone() {
        for mut server in [Fixture::new(), Fixture::replicating()] {
            server.check("ZINCRBY z 1.5 a", "$3 1.5");
            server.check("ZADD z INCR 2 a", "$3 3.5");
            server.check("ZADD z 10 a 1 b", ":1");
            server.check("ZADD z LT INCR -0.25 a", "$4 9.75");
            server.check("ZADD z XX INCR 1 c", "$-1");
            server.check("ZINCRBY z inf b", "$3 inf");
            server.check("ZINCRBY z -inf b", "-ERR resulting score is not a number (NaN)");
            server.check("ZREM z a", ":1");
            server.check("ZINCRBY z 1 a", "$1 1");
            server.check("ZRANGE z 0 -1 WITHSCORES", "*4 $1 a $1 1 $1 b $3 inf");
        }
    }

    #[test]
    fn resp3_has_doubles_and_pairs() {
        let mut server = Fixture::new().speak(Protocol::Resp3);
        server.run("ZADD z 1 a 2.5 b 3 c 4 d 5 e 6 f");
        server.check("ZSCORE z b", ",2.5");
        server.check("ZMSCORE z a x", "*2 ,1 _");
        server.check("ZADD z XX INCR 1 x", "_");
        server.check("ZINCRBY z 1 f", ",7");
        server.check("ZRANK z x", "_");
        server.check("ZRANGE z 0 1", "*2 $1 a $1 b");
        server.check("ZRANGE z 0 1 WITHSCORES", "*2 *2 $1 a ,1 *2 $1 b ,2.5");
        server.check("ZDIFF 1 nokey WITHSCORES", "*0");
        server.check("ZUNION 1 z WEIGHTS 2 AGGREGATE MAX WITHSCORES LIMIT", "-ERR syntax error");
        server.check(
            "ZINTER 2 z z WEIGHTS 0 0.5 WITHSCORES",
            "*6 *2 $1 a ,0.5 *2 $1 b ,1.25 *2 $1 c ,1.5 *2 $1 d ,2 *2 $1 e ,2.5 *2 $1 f ,3.5",
        );
        server.check("ZRANDMEMBER z 0 WITHSCORES", "*0");
        server.check("ZSCAN z 0 MATCH b", "*2 $1 0 *2 $1 b $3 2.5");
        server.check("ZPOPMIN z", "*2 $1 a ,1");
        server.check("ZPOPMIN z 1", "*1 *2 $1 b ,2.5");
        server.check("ZPOPMIN nokey", "*0");
        server.check("ZMPOP 2 nokey z MAX COUNT 2", "*2 $1 z *2 *2 $1 f ,7 *2 $1 e ,5");
        server.check("ZMPOP 1 nokey MIN", "_");
        server.check("BZPOPMAX nokey z 0", "*3 $1 z $1 d ,4");
        server.check("BZMPOP 0 1 z MIN", "*2 $1 z *1 *2 $1 c ,3");
    }

    #[test]
    fn small_sets_have_no_negative_zero() {
        let mut server = Fixture::new();
        server.check("ZADD z INCR -0 a", "$2 -0");
        server.check("ZSCORE z a", "$1 0");
        server.check("ZADD z -0 a", ":0");
        let long = "m".repeat(65);
        server.run(&format!("ZADD z 1 {long}"));
        server.check("ZADD z CH -0 a -0 b", ":1");
        server.check("ZMSCORE z a b", "*2 $1 0 $2 -0");
        server.check("ZRANGESTORE y z 0 1", ":2");
        server.check("ZSCORE y b", "$1 0");
        server.check("ZUNIONSTORE y 1 z", ":3");
        server.check("ZSCORE y b", "$2 -0");
        server
            .check("ZUNION 1 y WEIGHTS -1 WITHSCORES", &format!("*6 $65 {long} $2 -1 $1 a $2 -0 $1 b $1 0"));
    }

    #[test]
    fn scans_of_small_sets_show_whole_numbers_in_full() {
        let mut server = Fixture::new();
        server.run("ZADD z 1e17 a 1e19 b 0.1 c -4611686018427387904 d");
        let d = "$1 d $20 -4611686018427387904";
        let expected =
            format!("*2 $1 0 *8 {d} $1 c $19 0.10000000000000001 $1 a $18 100000000000000000 $1 b $5 1e+19");
        server.check("ZSCAN z 7 COUNT 1", &expected);
        server.run(&format!("ZADD z -1 {}", "m".repeat(65)));
        server.check("ZSCAN z 1", "*2 $1 0 *2 $1 a $5 1e+17");
    }

    #[test]
    fn random_members_are_members() {
        let mut server = Fixture::new();
        server.run("ZADD z 1 a 2 b 3 c");
        for _ in 0..20 {
            assert!(["$1 a", "$1 b", "$1 c"].contains(&server.run("ZRANDMEMBER z").as_str()));
            let mut pair: Vec<_> = server.run("ZRANDMEMBER z 2").split(' ').map(str::to_owned).collect();
            pair.sort();
            pair.dedup();
            assert_eq!(pair.len(), 4, "two different members: {pair:?}");
        }
        assert!(server.run("ZRANDMEMBER z -7 WITHSCORES").starts_with("*14 "));
        assert!(server.run("ZRANDMEMBER z -4611686018427387903 WITHSCORES").starts_with("-ERR"));
    }
}
