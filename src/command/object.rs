//! OBJECT: how Redis would store a value, and when it was used.
//!
//! # Encodings
//! Values are stored in one way here, so the encoding is told from the contents: it is what Redis 7.0 takes for such a
//! value when it is written in one go. Redis's choice also depends on history, which contents do not show: it
//! answers `raw` for a short string that was appended to or had bits set, and `hashtable`, `skiplist` for a
//! collection that was once larger.

use super::family;
use crate::config::Config;
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::number;
use crate::store::entry::Value;

/// The table.
pub const COMMANDS: &[Command] = &[Command {
    name: "object",
    arity: -2,
    flags: Flags::empty(),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Generic,
    since: "2.2.3",
    summary: "Looks into how a value is stored.",
    complexity: "Depends on subcommand",
    run: family::container,
    subcommands: &[
        Command {
            name: "encoding",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::at(2, &["RO"])],
            categories: &["keyspace"],
            tips: &["nondeterministic_output"],
            group: Group::Generic,
            since: "2.2.3",
            summary: "Returns how Redis would store the value at a key.",
            complexity: "O(1)",
            run: encoding,
            subcommands: &[],
        },
        Command {
            name: "freq",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::at(2, &["RO"])],
            categories: &["keyspace"],
            tips: &["nondeterministic_output"],
            group: Group::Generic,
            since: "4.0.0",
            summary: "Returns how often a key is used, under an LFU policy.",
            complexity: "O(1)",
            run: freq,
            subcommands: &[],
        },
        Command {
            name: "help",
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            keys: &[],
            categories: &["keyspace"],
            tips: &[],
            group: Group::Generic,
            since: "6.2.0",
            summary: "Lists the subcommands.",
            complexity: "O(1)",
            run: help,
            subcommands: &[],
        },
        Command {
            name: "idletime",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::at(2, &["RO"])],
            categories: &["keyspace"],
            tips: &["nondeterministic_output"],
            group: Group::Generic,
            since: "2.2.3",
            summary: "Returns the seconds since a key was used.",
            complexity: "O(1)",
            run: idletime,
            subcommands: &[],
        },
        Command {
            name: "lastmodified",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::at(2, &["RO"])],
            categories: &["keyspace"],
            tips: &["nondeterministic_output"],
            group: Group::Generic,
            since: "6.2.0",
            summary: "Returns the seconds since a key was used. KeyDB's.",
            complexity: "O(1)",
            run: idletime,
            subcommands: &[],
        },
        Command {
            name: "refcount",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::at(2, &["RO"])],
            categories: &["keyspace"],
            tips: &["nondeterministic_output"],
            group: Group::Generic,
            since: "2.2.3",
            summary: "Returns how often the value at a key is referred to.",
            complexity: "O(1)",
            run: refcount,
            subcommands: &[],
        },
    ],
}];

/// Longest string Redis allocates together with its header.
const EMBEDDED_BYTES_MAX: usize = 44;
/// Integers below are shared by all values that hold them.
const SHARED_INTEGERS: i64 = 10_000;
/// The reference count of what is shared.
const SHARED: i64 = i32::MAX as i64;

fn help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    family::help(
        c,
        &[
            ("ENCODING <key>", "How Redis would store the value at the key."),
            ("FREQ <key>", "How often the key is used; known under an LFU policy only."),
            ("IDLETIME <key>", "Seconds since the key was last used."),
            ("LASTMODIFIED <key>", "The same, as in KeyDB."),
            ("REFCOUNT <key>", "How often the value at the key is referred to."),
        ],
    );
    Ok(())
}

fn encoding(c: &mut Call<'_, '_>) -> Result<(), Error> {
    match c.keys.inspect(&c.args[2]) {
        Some(value) => c.reply.bulk(encoding_of(value, &c.engine.config.read()).as_bytes()),
        None => c.reply.null(),
    }
    Ok(())
}

/// Redis's name of the encoding that a value would have. See the module's head.
pub fn encoding_of(value: Value<'_>, config: &Config) -> &'static str {
    let is_small = |len: usize, max: u64| len as u64 <= max;
    match value {
        Value::String(text) if number::parse_i64(text).is_some() => "int",
        Value::String(text) if text.len() <= EMBEDDED_BYTES_MAX => "embstr",
        Value::String(_) => "raw",
        Value::List(_) => "quicklist",
        Value::Set(set) => {
            let is_intset = is_small(set.len(), config.set_max_intset_entries)
                && set.iter().all(|member| number::parse_i64(member).is_some());
            if is_intset { "intset" } else { "hashtable" }
        }
        Value::Hash(hash) => {
            let fits = |text: &[u8]| is_small(text.len(), config.hash_max_listpack_value);
            let is_listpack = is_small(hash.len(), config.hash_max_listpack_entries)
                && hash.iter().all(|(field, value)| fits(field) && fits(value));
            if is_listpack { "listpack" } else { "hashtable" }
        }
        Value::Zset(zset) => {
            let (members_max, bytes_max) = (config.zset_max_listpack_entries, config.zset_max_listpack_value);
            let is_listpack = zset.fits(members_max as usize, bytes_max as usize);
            if is_listpack { "listpack" } else { "skiplist" }
        }
    }
}

fn freq(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.keys.inspect(&c.args[2]).is_none() {
        c.reply.null();
        return Ok(());
    }
    Err(Error::new(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
         between policies at runtime LRU and LFU data will take some time to adjust.",
    ))
}

fn idletime(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let now_s = c.keys.now_ms() / 1000;
    c.keys.inspect(&c.args[2]);
    match c.keys.peek_entry(&c.args[2]) {
        Some(entry) => c.reply.int(now_s.saturating_sub(entry.used_at.into()) as i64),
        None => c.reply.null(),
    }
    Ok(())
}

fn refcount(c: &mut Call<'_, '_>) -> Result<(), Error> {
    match c.keys.inspect(&c.args[2]) {
        Some(value) => c.reply.int(refcount_of(value)),
        None => c.reply.null(),
    }
    Ok(())
}

/// How often Redis would refer to the value.
pub fn refcount_of(value: Value<'_>) -> i64 {
    let integer = match value {
        Value::String(text) => number::parse_i64(text),
        Value::List(_) | Value::Set(_) | Value::Zset(_) | Value::Hash(_) => None,
    };
    if integer.is_some_and(|n| (0..SHARED_INTEGERS).contains(&n)) { SHARED } else { 1 }
}
