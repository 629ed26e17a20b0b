//! MELD CHECK: what `meldis check` compares nodes by, from outside.
//!
//! Digests first: those of ranges, then those of the keys in ranges that differ, then the registers of keys that differ.
//! Each is told together with what it was read from, so that whoever asks can tell a difference from a change
//! under way: a key that is the same as before on every node, after every node has merged what the others had
//! when it was first read ([`meld_feed`](super::meld_feed)), and is not the same on two of them, differs.

use std::borrow::Cow;

use super::parse::{database, integer, is, positive};
use crate::clock::Stamp;
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group};
use crate::engine::effects;
use crate::engine::error::Error;
use crate::engine::slowlog::shortened_bytes;
use crate::link::frame::Cursor;
use crate::link::mesh::GLOBALS;
use crate::resp::reply::Reply;
use crate::store::delta::Change;
use crate::store::digest;
use crate::store::entry::Entry;
use crate::store::shard::RANGES;

/// MELD CHECK. Not inside MULTI: ranges are locked one by one.
pub const CHECK: Command = Command {
    name: "check",
    arity: -3,
    flags: Flags::READONLY.union(Flags::ADMIN).union(Flags::NOSCRIPT).union(Flags::NO_MULTI),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Tells digests of ranges and keys, and the registers of a key, for comparing nodes from outside.",
    complexity: "O(1) for RANGES, O(N) with N the number of keys in the range, or of registers of the key",
    run: check,
    subcommands: &[],
};

/// Keys of a page, unless asked otherwise.
const PAGE_KEYS: usize = 1000;
/// Most keys of a page.
const PAGE_KEYS_MAX: u64 = 100_000;
/// Most registers told of a key.
const REGISTERS_MAX: usize = 10_000;

/// `MELD CHECK RANGES | KEYS range cursor [COUNT keys] | KEY db key`
fn check(c: &mut Call<'_, '_>) -> Result<(), Error> {
    match c.args.len() {
        3 if is(&c.args[2], "ranges") => ranges(c),
        5 | 7 if is(&c.args[2], "keys") => keys(c)?,
        5 if is(&c.args[2], "key") => key(c)?,
        _ => return Err(Error::SYNTAX),
    }
    Ok(())
}

/// The digest of every range and of what is in none, between two tokens.
fn ranges(c: &mut Call<'_, '_>) {
    c.reply.map(3);
    c.reply.bulk(b"before");
    c.reply.bulk(c.engine.progress().to_string().as_bytes());
    c.reply.bulk(b"digests");
    c.reply.array(usize::from(GLOBALS) + 1);
    (0..=GLOBALS).for_each(|range| c.reply.int(c.engine.compared_digest(range) as i64));
    c.reply.bulk(b"after");
    c.reply.bulk(c.engine.progress().to_string().as_bytes());
}

/// Where the next page begins, then database, key and digest of each key of this one.
fn keys(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let range = usize::try_from(integer(&c.args[3])?).ok().filter(|range| *range < RANGES);
    let range = range.ok_or(Error::new("ERR no such range"))?;
    let mut at = cursor(&c.args[4]).ok_or(Error::new("ERR invalid cursor"))?;
    let count = match c.args.len() {
        7 if is(&c.args[5], "count") => positive(&c.args[6])?.min(PAGE_KEYS_MAX) as usize,
        5 => PAGE_KEYS,
        _ => return Err(Error::SYNTAX),
    };
    let mut found: Vec<(u32, Vec<u8>, u64)> = Vec::new();
    let cell = c.engine.cell(range).lock();
    while found.len() < count && at.space < cell.shard.spaces() {
        let include = |entry: &Entry| digest_of(entry) != 0;
        let (entries, next) = cell.shard.scan(at.space, at.hash, count - found.len(), include);
        let db = c.engine.db_of(at.space).unwrap_or(at.space);
        found.extend(entries.iter().map(|entry| (db, entry.key().to_vec(), digest_of(entry))));
        at = match next {
            Some(hash) => Cursor { hash, ..at },
            None => Cursor { space: at.space + 1, hash: 0 },
        };
    }
    let is_end = at.space >= cell.shard.spaces();
    drop(cell);
    c.reply.array(2);
    c.reply.bulk(if is_end { "0".to_owned() } else { format!("{}:{}", at.space, at.hash) }.as_bytes());
    c.reply.array(found.len() * 3);
    for (db, key, digest) in found {
        c.reply.int(db.into());
        c.reply.bulk(&key);
        c.reply.int(digest as i64);
    }
    Ok(())
}

fn digest_of(entry: &Entry) -> u64 {
    entry.weight(digest::hash(entry.key())).digest
}

fn cursor(text: &[u8]) -> Option<Cursor> {
    if text == b"0" {
        return Some(Cursor::default());
    }
    let text = std::str::from_utf8(text).ok()?;
    let (space, hash) = text.split_once(':')?;
    Some(Cursor { space: space.parse().ok()?, hash: hash.parse().ok()? })
}

/// The digest, type, expiry and registers of a key; of each register element, kind, stamp and value, shortened.
fn key(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let space = c.engine.space_of(database(c.engine, &c.args[3])?);
    let key = &c.args[4];
    let hash = c.engine.hash(key);
    let cell = c.engine.cell(hash.range()).lock();
    let Some(entry) = cell.shard.get(space, key, hash) else {
        c.reply.null();
        return Ok(());
    };
    let reply = &mut c.reply;
    reply.map(4);
    reply.bulk(b"digest");
    reply.int(digest_of(entry) as i64);
    reply.bulk(b"type");
    reply.bulk_opt(entry.value().map(|value| value.kind().name().as_bytes()));
    reply.bulk(b"expires_at");
    reply.int(entry.expires_at_ms().map_or(-1, |at_ms| i64::try_from(at_ms).unwrap_or(i64::MAX)));
    reply.bulk(b"registers");
    let (mark, mut told) = (reply.mark(), 0);
    entry.registers(|stamp, change| {
        if told < REGISTERS_MAX {
            told += 1;
            register(reply, stamp, &change);
        }
    });
    reply.array_at(mark, told);
    Ok(())
}

fn register(reply: &mut Reply<'_>, stamp: Stamp, change: &Change<'_>) {
    let kind = match change {
        Change::Clear => "cleared",
        Change::Assign(_) | Change::Value(_) => "value",
        Change::Sum(_) | Change::FieldSum(..) | Change::ScoreSum(..) => "sum",
        Change::Kind(_) => "type",
        Change::Expire(..) => "expiry",
        Change::Field(..) => "field",
        Change::Member(_) => "member",
        Change::Score(..) => "score",
        Change::Item(..) | Change::ItemValue(..) => "item",
        Change::FieldRemove(_) | Change::MemberRemove(_) | Change::ScoreRemove(_) | Change::ItemRemove(_) => {
            "removed"
        }
    };
    let value = match change {
        Change::Kind(kind) => Some(Cow::Borrowed(kind.name().as_bytes())),
        other => effects::value(other),
    };
    reply.array(4);
    reply.bulk_opt(effects::element(change).as_deref().map(shortened_bytes).as_deref());
    reply.bulk(kind.as_bytes());
    reply.bulk(stamp.to_string().as_bytes());
    reply.bulk_opt(value.as_deref().map(shortened_bytes).as_deref());
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;
    use crate::store::shard::KeyHash;

    #[test]
    fn ranges_keys_and_registers_are_told() {
        let mut node = Fixture::replicating();
        node.run("SET a 1");
        node.run("HSET h f v n 5");
        node.run("HINCRBY h n 2");
        node.run("DEL gone");
        let ranges = node.run("MELD CHECK RANGES");
        assert!(ranges.contains(&format!("$7 digests *{}", 1025)), "{ranges}");
        let range = KeyHash::range_of(b"h");
        let keys = node.run(&format!("MELD CHECK KEYS {range} 0"));
        assert!(keys.starts_with("*2 $1 0 *3 :0 $1 h :"), "{keys}");
        let key = node.run("MELD CHECK KEY 0 h");
        assert!(key.contains("$4 hash") && key.contains("$1 f $5 field"), "{key}");
        assert!(key.contains("$1 n $3 sum") && key.contains("$1 2"), "{key}");
        node.check("MELD CHECK KEY 0 nosuch", "$-1");
        node.check("MELD CHECK KEYS 1024 0", "-ERR no such range");
        node.check("MELD CHECK KEYS 1 x", "-ERR invalid cursor");
        node.check("MELD CHECK KEY 16 a", "-ERR DB index is out of range");
        node.check("MELD CHECK KEYS", "-ERR syntax error");
    }

    #[test]
    fn a_range_is_told_page_by_page() {
        let mut node = Fixture::new();
        let of_range = |n: &usize| KeyHash::range_of(format!("k{n}").as_bytes()) == 7;
        let keys: Vec<usize> = (0..).filter(of_range).take(5).collect();
        keys.iter().for_each(|n| drop(node.run(&format!("SET k{n} v"))));
        let (mut cursor, mut seen) = ("0".to_owned(), 0);
        for _ in 0..3 {
            let page = node.run(&format!("MELD CHECK KEYS 7 {cursor} COUNT 2"));
            seen += page.matches(":0 $").count();
            cursor = page.split(' ').nth(2).unwrap().to_owned();
        }
        assert_eq!((seen, cursor.as_str()), (5, "0"));
    }
}
