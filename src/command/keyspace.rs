//! The keyspace as a whole: what keys there are, and none any more.
//!
//! KEYS, SCAN, RANDOMKEY and DBSIZE go through the ranges one by one and lock one at a time: writes go on meanwhile, and
//! what they see is not one instant, unless they run inside a transaction.
//!
//! # Cursors
//! Ranges are runs of the keys' unkeyed hashes and a range is scanned in the order of these hashes. So the cursor is the hash
//! to go on from: growth never moves a key across it, and a scan returns each key that was there all along exactly once.

use std::ops::ControlFlow;

use super::parse::{integer, is};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::number;
use crate::resp::glob;
use crate::store::entry::Entry;
use crate::store::shard::{range_of, range_start};

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "dbsize",
        arity: 1,
        flags: Flags::READONLY.union(Flags::WALKS_KEYSPACE).union(Flags::FAST),
        keys: &[],
        categories: &["keyspace"],
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        group: Group::Server,
        since: "1.0.0",
        summary: "Counts the keys of the database.",
        complexity: "O(1)",
        run: dbsize,
        subcommands: &[],
    },
    Command {
        name: "flushall",
        arity: -1,
        flags: Flags::WRITE.union(Flags::WHOLE_KEYSPACE),
        keys: &[],
        categories: &["dangerous", "keyspace"],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        group: Group::Server,
        since: "1.0.0",
        summary: "Deletes all keys of all databases.",
        complexity: "O(N)",
        run: flushall,
        subcommands: &[],
    },
    Command {
        name: "flushdb",
        arity: -1,
        flags: Flags::WRITE.union(Flags::WHOLE_KEYSPACE),
        keys: &[],
        categories: &["dangerous", "keyspace"],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        group: Group::Server,
        since: "1.0.0",
        summary: "Deletes all keys of the database.",
        complexity: "O(N)",
        run: flushdb,
        subcommands: &[],
    },
    Command {
        name: "keys",
        arity: 2,
        flags: Flags::READONLY.union(Flags::WALKS_KEYSPACE),
        keys: &[],
        categories: &["dangerous", "keyspace"],
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Returns the names of all keys that match a pattern.",
        complexity: "O(N)",
        run: keys,
        subcommands: &[],
    },
    Command {
        name: "randomkey",
        arity: 1,
        flags: Flags::READONLY.union(Flags::WALKS_KEYSPACE),
        keys: &[],
        categories: &["keyspace"],
        tips: &["request_policy:all_shards", "nondeterministic_output"],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Returns the name of a random key.",
        complexity: "O(1)",
        run: randomkey,
        subcommands: &[],
    },
    Command {
        name: "scan",
        arity: -2,
        flags: Flags::READONLY.union(Flags::WALKS_KEYSPACE),
        keys: &[],
        categories: &["keyspace"],
        tips: &["nondeterministic_output", "request_policy:special"],
        group: Group::Generic,
        since: "2.8.0",
        summary: "Returns names of keys, a few at a time.",
        complexity: "O(N/1024) for every call",
        run: scan,
        subcommands: &[],
    },
    Command {
        name: "swapdb",
        arity: 3,
        flags: Flags::WRITE.union(Flags::WHOLE_KEYSPACE).union(Flags::FAST),
        keys: &[],
        categories: &["dangerous", "keyspace"],
        tips: &[],
        group: Group::Server,
        since: "4.0.0",
        summary: "Exchanges two databases.",
        complexity: "O(N) in the clients watching or blocked",
        run: swapdb,
        subcommands: &[],
    },
];

/// Keys SCAN looks at unless told otherwise.
const SCAN_COUNT: i64 = 10;
/// Draws of RANDOMKEY that may hit a key just past its expiry.
const RANDOM_TRIES: usize = 100;

fn keys(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (pattern, space, now_ms) = (&c.args[1], c.keys.space(), c.keys.now_ms());
    let (mark, mut found) = (c.reply.mark(), 0);
    let reply = &mut c.reply;
    c.keys.walk(0, |_, cell| {
        for entry in cell.shard.entries(space) {
            if entry.value_at(now_ms).is_some() && matches(pattern, entry.key()) {
                reply.bulk(entry.key());
                found += 1;
            }
        }
        ControlFlow::Continue(())
    });
    c.reply.array_at(mark, found);
    Ok(())
}

/// A lone star also matches the empty name.
fn matches(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, key)
}

fn dbsize(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let size = live(c);
    c.reply.int(size as i64);
    Ok(())
}

fn live(c: &mut Call<'_, '_>) -> usize {
    let (space, mut live) = (c.keys.space(), 0);
    c.keys.walk(0, |_, cell| {
        live += cell.shard.live(space);
        ControlFlow::Continue(())
    });
    live
}

fn randomkey(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (space, now_ms) = (c.keys.space(), c.keys.now_ms());
    for _ in 0..RANDOM_TRIES {
        let live = live(c);
        if live == 0 {
            break;
        }
        let mut skip = (c.engine.draw() % live as u64) as usize;
        let (reply, mut found) = (&mut c.reply, false);
        c.keys.walk(0, |_, cell| {
            let here = cell.shard.live(space);
            if skip >= here {
                skip -= here;
                return ControlFlow::Continue(());
            }
            let drawn = cell.shard.entries(space).filter(|entry| is_counted(entry)).nth(skip);
            if let Some(entry) = drawn.filter(|entry| entry.value_at(now_ms).is_some()) {
                reply.bulk(entry.key());
                found = true;
            }
            ControlFlow::Break(())
        });
        if found {
            return Ok(());
        }
    }
    c.reply.null();
    Ok(())
}

/// Whether [`Shard::live`](crate::store::shard::Shard::live) counts the entry.
fn is_counted(entry: &Entry) -> bool {
    entry.value().is_some() && !entry.is_buried()
}

fn scan(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let cursor = cursor(&args[1])?;
    let (mut pattern, mut kind, mut left) = (None, None, SCAN_COUNT);
    let mut options = args.iter().skip(2);
    while let Some(option) = options.next() {
        let value = options.next().ok_or(Error::SYNTAX)?;
        match option {
            _ if is(option, "match") => pattern = Some(value),
            _ if is(option, "type") => kind = Some(value),
            _ if is(option, "count") => left = integer(value)?,
            _ => return Err(Error::SYNTAX),
        }
        if left < 1 {
            return Err(Error::SYNTAX);
        }
    }
    let (space, now_ms) = (c.keys.space(), c.keys.now_ms());
    let mut left = usize::try_from(left).unwrap_or(usize::MAX);
    let (mut names, mut next): (Vec<Box<[u8]>>, _) = (Vec::new(), None);
    c.keys.walk(range_of(cursor), |range, cell| {
        let (entries, rest) = cell.shard.scan(space, cursor, left, |entry| entry.value_at(now_ms).is_some());
        left = left.saturating_sub(entries.len());
        let wanted = entries.iter().filter(|entry| {
            let value = entry.value_at(now_ms);
            kind.is_none_or(|kind| value.is_some_and(|value| is(kind, value.kind().name())))
                && pattern.is_none_or(|pattern| matches(pattern, entry.key()))
        });
        names.extend(wanted.map(|entry| entry.key().into()));
        next = rest.or_else(|| range_start(range + 1));
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    c.reply.array(2);
    c.reply.bulk(itoa::Buffer::new().format(next.unwrap_or(0)).as_bytes());
    c.reply.array(names.len());
    names.iter().for_each(|name| c.reply.bulk(name));
    Ok(())
}

/// A cursor, read as C's strtoul does: a sign is taken, nothing at all is zero.
fn cursor(arg: &[u8]) -> Result<u64, Error> {
    const INVALID: Error = Error::new("ERR invalid cursor");
    let text = arg.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| INVALID)?;
    let cursor: u64 = digits.parse().map_err(|_| INVALID)?;
    Ok(if negative { cursor.wrapping_neg() } else { cursor })
}

fn flushdb(c: &mut Call<'_, '_>) -> Result<(), Error> {
    check_flush_mode(c)?;
    let space = c.keys.space();
    c.garbage.extend(c.keys.flush(space));
    c.reply.ok();
    Ok(())
}

fn flushall(c: &mut Call<'_, '_>) -> Result<(), Error> {
    check_flush_mode(c)?;
    // A partner may have more databases than this node.
    let held = c.keys.cells().iter().map(|cell| cell.shard.spaces()).max().unwrap_or(0);
    for space in 0..held.max(c.engine.databases()) {
        c.garbage.extend(c.keys.flush(space));
    }
    c.reply.ok();
    Ok(())
}

/// SYNC and ASYNC are the same here: memory is always given back after unlocking, by the thread that flushed.
fn check_flush_mode(c: &Call<'_, '_>) -> Result<(), Error> {
    match c.args.len() {
        1 => Ok(()),
        2 if is(&c.args[1], "sync") || is(&c.args[1], "async") => Ok(()),
        _ => Err(Error::SYNTAX),
    }
}

fn swapdb(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let number =
        |arg, error| number::parse_i64(arg).and_then(|number| i32::try_from(number).ok()).ok_or(error);
    let a = number(&c.args[1], Error::new("ERR invalid first DB index"))?;
    let b = number(&c.args[2], Error::new("ERR invalid second DB index"))?;
    let in_range = |db| u32::try_from(db).ok().filter(|db| *db < c.engine.databases());
    let (Some(a), Some(b)) = (in_range(a), in_range(b)) else { return Err(Error::DB_OUT_OF_RANGE) };
    if a != b {
        c.keys.swap(a, b);
    }
    c.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::testing::Fixture;

    /// Scans to the end, with more keys coming in between; how often each name came.
    fn scan_all(node: &mut Fixture, options: &str) -> BTreeMap<String, usize> {
        let (mut found, mut cursor) = (BTreeMap::new(), "0".to_owned());
        for round in 0.. {
            let reply = node.run(&format!("SCAN {cursor}{options}"));
            let words: Vec<&str> = reply.split(' ').collect();
            for name in words[4..].iter().skip(1).step_by(2) {
                *found.entry((*name).to_owned()).or_default() += 1;
            }
            cursor = words[2].to_owned();
            if cursor == "0" {
                return found;
            }
            node.run(&format!("SET new{round} 1"));
        }
        unreachable!("a scan ends")
    }

    #[test]
    fn a_scan_returns_each_key_that_was_there_all_along_once() {
        let mut node = Fixture::new();
        for n in 0..3000 {
            node.run(&format!("SET k{n} 1"));
        }
        for (options, rounds) in [("", 3000), (" COUNT 1", 3000), (" COUNT 5000", 3000)] {
            let found = scan_all(&mut node, options);
            assert!(found.values().all(|times| *times == 1), "{options}");
            assert_eq!(found.keys().filter(|name| name.starts_with('k')).count(), rounds, "{options}");
        }
        let found = scan_all(&mut node, " MATCH k1?7 TYPE string COUNT 100");
        assert_eq!(found.len(), 10);
        assert!(scan_all(&mut node, " TYPE hash").is_empty());
    }

    #[test]
    fn cursors_are_read_as_strtoul_does() {
        let check = |text: &str, expected| assert_eq!(cursor(text.as_bytes()).ok(), expected, "{text}");
        check("", Some(0));
        check("0", Some(0));
        check("+7", Some(7));
        check("-1", Some(u64::MAX));
        check("18446744073709551615", Some(u64::MAX));
        check("7\0x", Some(7));
        for text in ["18446744073709551616", "x", "1x", "+", "-", " 1", "1 ", "+-1"] {
            check(text, None);
        }
    }

    #[test]
    fn random_keys_are_drawn_from_all() {
        let mut node = Fixture::new();
        node.check("RANDOMKEY", "$-1");
        (0..8).for_each(|n| drop(node.run(&format!("SET k{n} 1"))));
        let drawn: std::collections::BTreeSet<String> = (0..500).map(|_| node.run("RANDOMKEY")).collect();
        assert_eq!(drawn.len(), 8);
    }

    #[test]
    fn many_short_lived_keys_leave_nothing_behind() {
        let mut node = Fixture::new();
        for n in 0..20_000 {
            node.run(&format!("SET k{n} 1 PX {}", 1 + n % 100));
        }
        node.run("SET stays 1");
        node.check("DBSIZE", ":20001");
        node.now_ms += 50;
        node.tick();
        node.check("DBSIZE", ":10001");
        node.now_ms += 50;
        node.tick();
        node.check("DBSIZE", ":1");
        assert_eq!(node.engine.total(|stats| &stats.expired_keys), 20_000);
        for range in 0..crate::store::shard::RANGES {
            let cell = node.engine.cell(range).lock();
            assert_eq!((cell.shard.volatile(0), cell.shard.graves()), (0, 0));
            assert!(cell.shard.entries(0).all(|entry| entry.key() == b"stays"));
        }
    }

    #[test]
    fn an_expired_key_counts_until_it_is_noticed() {
        let mut node = Fixture::new();
        node.engine.set_active_expire(false);
        node.run("MSET a 1 b 2");
        node.run("PEXPIRE a 10");
        node.now_ms += 10;
        node.tick();
        node.check("DBSIZE", ":2");
        node.check("KEYS *", "*1 $1 b");
        node.check("EXISTS a", ":0");
        node.check("DBSIZE", ":1");
        assert_eq!(node.engine.total(|stats| &stats.expired_keys), 1);
        node.engine.set_active_expire(true);
        node.tick();
        node.check("DBSIZE", ":1");
        assert_eq!(node.engine.total(|stats| &stats.expired_keys), 1);
    }

    #[test]
    fn flushed_and_swapped_databases_answer_for_what_stands_there_now() {
        let mut node = Fixture::new();
        node.run("SET k 1");
        node.check("SWAPDB 0 1", "+OK");
        node.check("DBSIZE", ":0");
        node.run("SET own 1");
        node.check("SWAPDB 1 0", "+OK");
        node.check("KEYS *", "*1 $1 k");
        node.check("FLUSHDB ASYNC", "+OK");
        node.check("DBSIZE", ":0");
        node.check("SWAPDB 0 1", "+OK");
        node.check("KEYS *", "*1 $3 own");
        node.check("FLUSHALL", "+OK");
        node.check("DBSIZE", ":0");
    }

    #[test]
    fn concurrent_swaps_end_alike_on_both_nodes() {
        let (mut one, mut other) = (Fixture::numbered(1), Fixture::numbered(2));
        one.engine.start_replicating();
        other.engine.start_replicating();
        for (db, key) in ["zero", "one", "two"].iter().enumerate() {
            one.run(&format!("SELECT {db}"));
            one.run(&format!("SET {key} 1"));
        }
        other.merge(&one, &one.written());
        one.run("SWAPDB 0 1");
        other.run("SWAPDB 1 2");
        one.run("SWAPDB 0 2");
        let (ones, others) = (one.written(), other.written());
        one.merge(&other, &others);
        other.merge(&one, &ones);
        other.merge(&one, &ones);
        for db in 0..3 {
            one.run(&format!("SELECT {db}"));
            other.run(&format!("SELECT {db}"));
            assert_eq!(one.run("KEYS *"), other.run("KEYS *"), "database {db}");
        }
        assert_eq!(one.run("MELD DIGEST"), other.run("MELD DIGEST"));
        one.run("SELECT 0");
        one.check("KEYS *", "*1 $4 zero");
    }
}
