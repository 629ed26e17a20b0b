//! MELD: what Redis has no command for: where a value comes from, and whether nodes agree.
//!
//! # Digests
//! `MELD DIGEST` is equal on two nodes exactly if they hold the same keys, elements, values and expiries under the same
//! stamps in the same databases; or by a chance of 2^-64, and of 2^-31 where they hold two values under one stamp, which
//! only a fault can bring about. Keys past their expiry count until they are cleared, which a delta does.
//! Ranges are taken one by one, so it is stable only while nobody writes.

use std::ops::ControlFlow;

use super::family;
use super::parse::is;
use super::{meld_allowlist, meld_check, meld_conflicts, meld_feed, replication};
use crate::clock::Stamp;
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::number;
use crate::store::delta::{Change, Kind};
use crate::store::entry::{Entry, Value};

/// The table.
pub const COMMANDS: &[Command] = &[Command {
    name: "meld",
    arity: -2,
    flags: Flags::empty(),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "What Redis has no command for.",
    complexity: "Depends on subcommand",
    run: family::container,
    subcommands: SUBCOMMANDS,
}];

const SUBCOMMANDS: &[Command] = &[
    meld_allowlist::ALLOWLIST,
    meld_check::CHECK,
    meld_conflicts::CONFLICTS,
    meld_feed::AFTER,
    meld_feed::EFFECTS,
    meld_feed::TOKEN,
    replication::FORGET,
    replication::LINK,
    replication::PEERS,
    replication::RESYNC,
    Command {
        name: "digest",
        arity: -2,
        flags: Flags::READONLY.union(Flags::WALKS_KEYSPACE).union(Flags::STALE),
        keys: &[],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Meldis,
        since: "1.0.0",
        summary: "Returns a hash of all that this node holds, or of each range of it.",
        complexity: "O(1)",
        run: digest,
        subcommands: &[],
    },
    Command {
        name: "help",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE),
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Meldis,
        since: "1.0.0",
        summary: "Lists the subcommands.",
        complexity: "O(1)",
        run: help,
        subcommands: &[],
    },
    Command {
        name: "stamp",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(2, &["RO"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Meldis,
        since: "1.0.0",
        summary: "Tells which write made a key or an element what it is.",
        complexity: "O(N)",
        run: stamp,
        subcommands: &[],
    },
];

fn help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    family::help(
        c,
        &[
            ("AFTER <token> <ms>", "Waits until this node has all that a token tells of; 0 waits for ever."),
            ("ALLOWLIST <subcommand>", "The addresses clients of all nodes may come from."),
            (
                "CHECK RANGES|KEYS|KEY ...",
                "Digests for comparing nodes from outside, as `meldis check` does.",
            ),
            (
                "CONFLICTS [<count>|LEN|RESET]",
                "The latest concurrent writes that have lost (default 10, -1 all).",
            ),
            ("DIGEST [RANGES]", "A hash of all that this node holds, or of each range that holds something."),
            (
                "EFFECTS [SINCE <token>] [COUNT <batches>]",
                "What was written since, as Redis commands with stamps.",
            ),
            ("FORGET <node>", "Has all nodes refuse a node for good, until it joins under another identity."),
            ("PEERS", "The members, their links and how far they are."),
            ("RESYNC", "Compares all ranges with every peer and takes over what differs."),
            ("STAMP <key> [<element>]", "Which write made the key, field, member or list index what it is."),
            ("TOKEN", "What this node has written and merged, for AFTER and EFFECTS."),
        ],
    );
    Ok(())
}

fn digest(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let by_range = match c.args.len() {
        2 => false,
        3 if is(&c.args[2], "ranges") => true,
        _ => return Err(Error::SYNTAX),
    };
    let mut total = c.engine.databases.digest();
    let (mark, mut listed) = (c.reply.mark(), 0);
    let reply = &mut c.reply;
    c.keys.bury_due();
    c.keys.walk(0, |range, cell| {
        let digest = cell.shard.digest_of_all();
        total = total.wrapping_add(digest);
        if by_range && digest != 0 {
            reply.array(2);
            reply.int(range as i64);
            reply.bulk(format!("{digest:016x}").as_bytes());
            listed += 1;
        }
        ControlFlow::Continue(())
    });
    if by_range {
        c.reply.array_at(mark, listed);
    } else {
        c.reply.bulk(format!("{total:016x}").as_bytes());
    }
    Ok(())
}

/// How a register came to stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// It was set.
    Value,
    /// It was set or absent, and added to since.
    Sum,
    /// It was removed, or the key was.
    Cleared,
    /// The key is past its expiry.
    Expired,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            How::Value => "value",
            How::Sum => "sum",
            How::Cleared => "cleared",
            How::Expired => "expired",
        }
    }
}

fn stamp(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let element = match args.len() {
        3 => None,
        4 => Some(&args[3]),
        _ => return Err(Error::wrong_arity("meld|stamp")),
    };
    let now_ms = c.keys.now_ms();
    let entry = c.keys.peek_registers(&args[2]);
    let Some((entry, (stamp, how))) = entry.and_then(|entry| Some((entry, winner(entry, element, now_ms)?)))
    else {
        c.reply.null();
        return Ok(());
    };
    let kind = entry.value().map(|value| value.kind());
    // The items of a list are asked for by their index, which is not what the log names them by.
    let name = element.filter(|_| kind != Some(Kind::List));
    c.reply.map(7);
    meld_conflicts::write_stamp(c, stamp);
    c.reply.bulk(b"kind");
    c.reply.bulk_opt(kind.map(|kind| kind.name().as_bytes()));
    c.reply.bulk(b"how");
    c.reply.bulk(how.name().as_bytes());
    c.reply.bulk(b"won_over");
    meld_conflicts::write_won_over(c, &args[2], name, stamp);
    Ok(())
}

/// The write that decides over a key or one of its elements.
fn winner(entry: &Entry, element: Option<&[u8]>, now_ms: u64) -> Option<(Stamp, How)> {
    if let Some(expiry) = entry.expiry()
        && entry.expires_at_ms().is_some_and(|at_ms| at_ms <= now_ms)
    {
        return Some((expiry.stamp, How::Expired));
    }
    if let (Some(Value::List(list)), Some(index)) = (entry.value(), element) {
        let index = number::parse_i64(index).and_then(|index| usize::try_from(index).ok())?;
        return list.get(index).map(|item| (item.stamp(), How::Value));
    }
    let (mut written, mut removed): (Option<(Stamp, How)>, Option<Stamp>) = (None, None);
    entry.registers(|stamp, change| {
        let is_asked = element.is_none_or(|asked| change.element().is_none_or(|name| name == asked));
        match how(&change) {
            Some(How::Cleared) if is_asked => removed = removed.max(Some(stamp)),
            Some(how) if is_asked && element.is_none_or(|_| change.element().is_some()) => {
                written = written.filter(|(held, _)| *held > stamp).or(Some((stamp, how)));
            }
            _ => {}
        }
    });
    written.or(removed.map(|stamp| (stamp, How::Cleared)))
}

/// What a register says of its key or element.
fn how(change: &Change<'_>) -> Option<How> {
    match change {
        Change::Assign(_)
        | Change::Value(_)
        | Change::Field(..)
        | Change::Member(_)
        | Change::Score(..)
        | Change::Item(..)
        | Change::ItemValue(..) => Some(How::Value),
        Change::Sum(_) | Change::FieldSum(..) | Change::ScoreSum(..) => Some(How::Sum),
        Change::Clear
        | Change::FieldRemove(_)
        | Change::MemberRemove(_)
        | Change::ScoreRemove(_)
        | Change::ItemRemove(_) => Some(How::Cleared),
        Change::Kind(_) | Change::Expire(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    /// Checks the type and how it won, of the key or element, and whether the newest stamp of all did.
    fn check(node: &mut Fixture, asked: &str, kind: &str, how: &str) -> u64 {
        let reply = node.run(&format!("MELD STAMP {asked}"));
        let words: Vec<&str> = reply.split(' ').collect();
        let at = |name| words.iter().position(|word| *word == name).unwrap();
        let kind_shown = if words[at("kind") + 1] == "$-1" { "none" } else { words[at("kind") + 2] };
        assert_eq!((kind_shown, words[at("how") + 2]), (kind, how), "{asked}: {reply}");
        words[at("stamp") + 2].split('/').next().unwrap().parse().unwrap()
    }

    #[test]
    fn stamps_tell_which_write_decided() {
        let mut node = Fixture::replicating();
        node.check("MELD STAMP k", "$-1");
        node.run("SET k 5");
        let set = check(&mut node, "k", "string", "value");
        node.run("INCR k");
        let added = check(&mut node, "k", "string", "sum");
        node.run("DEL k");
        let deleted = check(&mut node, "k", "none", "cleared");
        assert!(set < added && added < deleted);
        node.run("HSET h a 1 b 2");
        let first = check(&mut node, "h a", "hash", "value");
        node.run("HINCRBY h b 1");
        let second = check(&mut node, "h b", "hash", "sum");
        assert!(first < second);
        assert_eq!(check(&mut node, "h", "hash", "sum"), second);
        node.run("HDEL h b");
        assert!(check(&mut node, "h b", "hash", "cleared") > second);
        node.check("MELD STAMP h nofield", "$-1");
        node.run("PEXPIRE h 10");
        node.now_ms += 10;
        check(&mut node, "h", "hash", "expired");
    }

    #[test]
    fn digests_are_equal_for_equal_histories_and_change_with_every_write() {
        let (mut one, mut other) = (Fixture::new(), Fixture::new());
        let mut seen = std::collections::BTreeSet::new();
        for command in
            ["SET a 1", "SET a 2", "EXPIRE a 100", "SWAPDB 0 1", "SADD t x", "SET short 1 PX 10", "DEL t"]
        {
            assert!(seen.insert(one.run("MELD DIGEST")), "before {command}");
            one.run(command);
            other.run(command);
            one.tick();
            assert_eq!(one.run("MELD DIGEST"), other.run("MELD DIGEST"), "{command}");
        }
        (one.now_ms, other.now_ms) = (one.now_ms + 10, other.now_ms + 10);
        one.tick();
        other.tick();
        assert_eq!(one.run("MELD DIGEST"), other.run("MELD DIGEST"));
        one.run("FLUSHALL");
        one.check("MELD DIGEST RANGES", "*0");
        one.run("SET a 1");
        let ranges = one.run("MELD DIGEST RANGES");
        assert!(ranges.starts_with("*1 *2 :"), "{ranges}");
    }
}
