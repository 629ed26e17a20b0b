//! Strings as a whole and by parts. Counters are in [`counter`](super::counter), LCS in [`lcs`](super::lcs).
//!
//! SET and GET are the hot path: GET copies from the store into the reply, SET from the request into the store.
//! APPEND and SETRANGE travel as the whole new value, so they build it once.

use super::parse::{Expiry, clip, integer, is, is_len_allowed};
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::resp::args::Args;
use crate::store::delta::{Change, Kind};
use crate::store::entry::Value;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "append",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "2.0.0",
        summary: "Appends to the string at a key, which is created if missing.",
        complexity: "O(N)",
        run: append,
        subcommands: &[],
    },
    Command {
        name: "get",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Returns the string at a key.",
        complexity: "O(1)",
        run: get,
        subcommands: &[],
    },
    Command {
        name: "getdel",
        arity: 2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "6.2.0",
        summary: "Returns the string at a key and deletes the key.",
        complexity: "O(1)",
        run: getdel,
        subcommands: &[],
    },
    Command {
        name: "getex",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec { notes: "changes only the expiry", ..KeySpec::UPDATE_1 }],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "6.2.0",
        summary: "Returns the string at a key and sets or removes its expiry.",
        complexity: "O(1)",
        run: getex,
        subcommands: &[],
    },
    Command {
        name: "getrange",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "2.4.0",
        summary: "Returns a part of the string at a key.",
        complexity: "O(N)",
        run: getrange,
        subcommands: &[],
    },
    Command {
        name: "getset",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Sets a key to a string and returns the one before.",
        complexity: "O(1)",
        run: getset,
        subcommands: &[],
    },
    Command {
        name: "mget",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::to_end(1, 1, &["RO", "access"])],
        categories: &["string"],
        tips: &["request_policy:multi_shard"],
        group: Group::String,
        since: "1.0.0",
        summary: "Returns the strings at several keys.",
        complexity: "O(N)",
        run: mget,
        subcommands: &[],
    },
    Command {
        name: "mset",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::to_end(1, 2, &["OW", "update"])],
        categories: &["string"],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        group: Group::String,
        since: "1.0.1",
        summary: "Sets several keys to strings, in one step.",
        complexity: "O(N)",
        run: mset,
        subcommands: &[],
    },
    Command {
        name: "msetnx",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::to_end(1, 2, &["OW", "insert"])],
        categories: &["string"],
        tips: &["request_policy:multi_shard", "response_policy:agg_min"],
        group: Group::String,
        since: "1.0.1",
        summary: "Sets several keys to strings if none of them exists.",
        complexity: "O(N)",
        run: msetnx,
        subcommands: &[],
    },
    Command {
        name: "psetex",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::OVERWRITE_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "2.6.0",
        summary: "Sets a key to a string that expires in milliseconds.",
        complexity: "O(1)",
        run: psetex,
        subcommands: &[],
    },
    Command {
        name: "set",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec {
            notes: "reads only with GET",
            ..KeySpec::at(1, &["RW", "access", "update", "variable_flags"])
        }],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Sets a key to a string, whatever it held.",
        complexity: "O(1)",
        run: set,
        subcommands: &[],
    },
    Command {
        name: "setex",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::OVERWRITE_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "2.0.0",
        summary: "Sets a key to a string that expires in seconds.",
        complexity: "O(1)",
        run: setex,
        subcommands: &[],
    },
    Command {
        name: "setnx",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["OW", "insert"])],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Sets a key to a string if it does not exist.",
        complexity: "O(1)",
        run: setnx,
        subcommands: &[],
    },
    Command {
        name: "setrange",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "2.2.0",
        summary: "Overwrites a part of the string at a key, which grows to hold it.",
        complexity: "O(N)",
        run: setrange,
        subcommands: &[],
    },
    Command {
        name: "strlen",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "2.2.0",
        summary: "Returns the length of the string at a key.",
        complexity: "O(1)",
        run: strlen,
        subcommands: &[],
    },
    Command {
        name: "substr",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Returns a part of the string at a key; the old name of GETRANGE.",
        complexity: "O(N)",
        run: getrange,
        subcommands: &[],
    },
];

fn get(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let value = c.keys.string(&c.args[1])?;
    c.reply.bulk_opt(value);
    Ok(())
}

fn mget(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let keys = c.args.slice(1..);
    c.reply.array(keys.len());
    for key in keys {
        match c.keys.value(key) {
            Some(Value::String(text)) => c.reply.bulk(text),
            _ => c.reply.null(),
        }
    }
    Ok(())
}

fn strlen(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let len = c.keys.string(&c.args[1])?.map_or(0, <[u8]>::len);
    c.reply.int(len as i64);
    Ok(())
}

fn getrange(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (first, last) = (integer(&c.args[2])?, integer(&c.args[3])?);
    let text = c.keys.string(&c.args[1])?.unwrap_or_default();
    let is_reversed = first < 0 && last < 0 && first > last;
    c.reply.bulk(if is_reversed { b"" } else { &text[clip(first, last, text.len())] });
    Ok(())
}

fn set(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.args.len() > 3 {
        return set_with_options(c);
    }
    let key = &c.args[1];
    c.keys.apply(key, &Change::Assign(&c.args[2]));
    c.keys.notify(EventClass::STRING, "set", key);
    c.reply.ok();
    Ok(())
}

fn set_with_options(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (key, value) = (&args[1], &args[2]);
    let options = SetOptions::parse(args)?;
    let at_ms = match options.expiry {
        Some(expiry) => expiry.at_ms(c.keys.now_ms(), "set")?,
        None => None,
    };
    if options.get {
        let held = c.keys.string(key)?;
        c.reply.bulk_opt(held);
    }
    if options.if_exists.is_some_and(|wanted| wanted != c.keys.find(key).is_some()) {
        if !options.get {
            c.reply.null();
        }
        return Ok(());
    }
    if options.expiry == Some(Expiry::Keep) {
        assign_keeping_expiry(c, key, value);
    } else {
        assign(c, key, value, at_ms);
    }
    if !options.get {
        c.reply.ok();
    }
    Ok(())
}

#[derive(Default)]
struct SetOptions<'a> {
    /// XX: true, NX: false.
    if_exists: Option<bool>,
    get: bool,
    expiry: Option<Expiry<'a>>,
}

impl<'a> SetOptions<'a> {
    fn parse(args: Args<'a>) -> Result<Self, Error> {
        let mut options = SetOptions::default();
        let mut rest = args.slice(3..).iter();
        while let Some(word) = rest.next() {
            if is(word, "nx") && options.if_exists != Some(true) {
                options.if_exists = Some(false);
            } else if is(word, "xx") && options.if_exists != Some(false) {
                options.if_exists = Some(true);
            } else if is(word, "get") {
                options.get = true;
            } else {
                let expiry = Expiry::parse(word, &mut rest, options.expiry);
                options.expiry = Some(expiry.filter(|e| *e != Expiry::Persist).ok_or(Error::SYNTAX)?);
            }
        }
        Ok(options)
    }
}

/// Sets a key to a string that expires at `at_ms`, even if that is past: then it is dead everywhere at once.
fn assign(c: &mut Call<'_, '_>, key: &[u8], value: &[u8], at_ms: Option<u64>) {
    c.keys.apply(key, &Change::Assign(value));
    c.keys.notify(EventClass::STRING, "set", key);
    if at_ms.is_some() {
        c.keys.apply(key, &Change::Expire(at_ms, Kind::String));
        c.keys.notify(EventClass::GENERIC, "expire", key);
    }
}

/// A string keeps its expiry by itself; one that replaces another type takes its expiry over.
fn assign_keeping_expiry(c: &mut Call<'_, '_>, key: &[u8], value: &[u8]) {
    if c.keys.peek(key).is_none_or(|held| held.kind() == Kind::String) {
        c.keys.apply(key, &Change::Value(value));
    } else {
        let at_ms = c.keys.expires_at_ms(key);
        c.keys.apply(key, &Change::Assign(value));
        if at_ms.is_some() {
            c.keys.apply(key, &Change::Expire(at_ms, Kind::String));
        }
    }
    c.keys.notify(EventClass::STRING, "set", key);
}

fn setex(c: &mut Call<'_, '_>) -> Result<(), Error> {
    set_expiring(c, Expiry::InSeconds(c.args.get(2).expect("arity 4")), "setex")
}

fn psetex(c: &mut Call<'_, '_>) -> Result<(), Error> {
    set_expiring(c, Expiry::InMillis(c.args.get(2).expect("arity 4")), "psetex")
}

fn set_expiring(c: &mut Call<'_, '_>, expiry: Expiry<'_>, command: &str) -> Result<(), Error> {
    let args = c.args;
    let at_ms = expiry.at_ms(c.keys.now_ms(), command)?;
    assign(c, &args[1], &args[3], at_ms);
    c.reply.ok();
    Ok(())
}

fn setnx(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let is_new = c.keys.find(&args[1]).is_none();
    if is_new {
        assign(c, &args[1], &args[2], None);
    }
    c.reply.int(is_new.into());
    Ok(())
}

fn mset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.args.len().is_multiple_of(2) {
        return Err(Error::wrong_arity("mset"));
    }
    assign_pairs(c);
    c.reply.ok();
    Ok(())
}

fn msetnx(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.args.len().is_multiple_of(2) {
        return Err(Error::wrong_arity("msetnx"));
    }
    let are_new = !c.args.iter().skip(1).step_by(2).any(|key| c.keys.find(key).is_some());
    if are_new {
        assign_pairs(c);
    }
    c.reply.int(are_new.into());
    Ok(())
}

fn assign_pairs(c: &mut Call<'_, '_>) {
    let mut rest = c.args.slice(1..).iter();
    while let (Some(key), Some(value)) = (rest.next(), rest.next()) {
        assign(c, key, value, None);
    }
}

fn getset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let held = c.keys.string(&args[1])?;
    c.reply.bulk_opt(held);
    assign(c, &args[1], &args[2], None);
    Ok(())
}

fn getdel(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let held = c.keys.string(&args[1])?;
    c.reply.bulk_opt(held);
    delete(c, &args[1]);
    Ok(())
}

fn delete(c: &mut Call<'_, '_>, key: &[u8]) {
    if c.keys.delete(key) {
        c.keys.notify(EventClass::GENERIC, "del", key);
    }
}

fn getex(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (key, now_ms) = (&args[1], c.keys.now_ms());
    let expiry = getex_option(args)?;
    let Some(text) = c.keys.string(key)? else {
        c.reply.null();
        return Ok(());
    };
    c.reply.bulk(text);
    let Some(expiry) = expiry else { return Ok(()) };
    match expiry.at_ms(now_ms, "getex")? {
        Some(at_ms) if at_ms <= now_ms => delete(c, key),
        Some(at_ms) => {
            c.keys.expire(key, Some(at_ms));
            c.keys.notify(EventClass::GENERIC, "expire", key);
        }
        None if c.keys.expires_at_ms(key).is_some() => {
            c.keys.expire(key, None);
            c.keys.notify(EventClass::GENERIC, "persist", key);
        }
        None => {}
    }
    Ok(())
}

fn getex_option(args: Args<'_>) -> Result<Option<Expiry<'_>>, Error> {
    let mut option = None;
    let mut rest = args.slice(2..).iter();
    while let Some(word) = rest.next() {
        let expiry = Expiry::parse(word, &mut rest, option);
        option = Some(expiry.filter(|e| *e != Expiry::Keep).ok_or(Error::SYNTAX)?);
    }
    Ok(option)
}

fn append(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (key, tail) = (&c.args[1], &c.args[2]);
    let held = c.keys.string_to_change(key)?.unwrap_or_default();
    check_len(c.engine, held.len(), tail.len())?;
    let text = [held, tail].concat();
    c.keys.apply(key, &Change::Value(&text));
    c.keys.notify(EventClass::STRING, "append", key);
    c.reply.int(text.len() as i64);
    Ok(())
}

fn setrange(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (key, part) = (&c.args[1], &c.args[3]);
    let first = integer(&c.args[2])?;
    let first = usize::try_from(first).map_err(|_| Error::new("ERR offset is out of range"))?;
    let held = c.keys.string_to_change(key)?.unwrap_or_default();
    if part.is_empty() {
        c.reply.int(held.len() as i64);
        return Ok(());
    }
    check_len(c.engine, first, part.len())?;
    let end = first + part.len();
    let mut text = padded(held, end);
    text[first..end].copy_from_slice(part);
    c.keys.apply(key, &Change::Value(&text));
    c.keys.notify(EventClass::STRING, "setrange", key);
    c.reply.int(text.len() as i64);
    Ok(())
}

fn check_len(engine: &Engine, len: usize, more: usize) -> Result<(), Error> {
    if is_len_allowed(engine, (len as u64).saturating_add(more as u64)) {
        Ok(())
    } else {
        Err(Error::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)"))
    }
}

/// A copy of a string, filled up with zeros to at least `len_min`.
pub(super) fn padded(text: &[u8], len_min: usize) -> Vec<u8> {
    let len = text.len().max(len_min);
    let mut copy = Vec::with_capacity(len);
    copy.extend_from_slice(text);
    copy.resize(len, 0);
    copy
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn other_types_are_refused_or_replaced() {
        let mut f = Fixture::new();
        f.check("SADD s a", ":1");
        for command in [
            "GET s",
            "GETDEL s",
            "GETEX s EX 0",
            "GETSET s v",
            "SET s v GET",
            "SET s v NX GET",
            "APPEND s v",
            "STRLEN s",
            "GETRANGE s 0 1",
            "SETRANGE s 0 v",
            "INCR s",
            "INCRBYFLOAT s x",
            "SETBIT s 0 1",
            "GETBIT s 0",
            "BITCOUNT s a",
            "BITPOS s 1 a",
            "BITOP AND d x s",
            "BITFIELD s SET u8 0 1",
            "BITFIELD_RO s GET u8 0",
        ] {
            f.check(command, WRONG_TYPE);
        }
        f.check("LCS s x FOO", "-ERR The specified keys must contain string values");
        f.check("MGET s x", "*2 $-1 $-1");
        f.check("SETNX s v", ":0");
        f.check("SCARD s", ":1");
        f.check("SET s v", "+OK");
        f.check("GET s", "$1 v");
    }

    #[test]
    fn expiries_are_set_kept_and_cleared() {
        let check = |commands: &[&str], lives_ms: Option<u64>| {
            let mut f = Fixture::new();
            f.run("SET k 1 PX 100");
            commands.iter().for_each(|command| assert_ne!(f.run(command).as_bytes()[0], b'-', "{command}"));
            for ms in [50, 99, 100, 149, 150, 1000] {
                f.now_ms = 1_700_000_000_000 + ms;
                let lives = lives_ms.is_none_or(|lives_ms| ms < lives_ms);
                assert_eq!(f.run("STRLEN k") != ":0", lives, "{commands:?} after {ms} ms");
            }
        };
        check(&[], Some(100));
        for keeping in
            ["APPEND k 1", "SETRANGE k 1 1", "INCR k", "INCRBYFLOAT k 1", "SETBIT k 9 1", "SET k v KEEPTTL"]
        {
            check(&[keeping], Some(100));
        }
        for clearing in ["SET k v", "GETSET k v", "MSET k v", "GETEX k PERSIST", "BITOP NOT k k"] {
            check(&[clearing], None);
        }
        check(&["SET k v PX 150"], Some(150));
        check(&["GETEX k PXAT 1700000000150"], Some(150));
        check(&["PSETEX k 150 v"], Some(150));
        check(&["SET k v EXAT 1700000001"], Some(1000));
        // Born dead, or killed.
        check(&["SET k v EXAT 1"], Some(0));
        check(&["GETEX k PXAT 1700000000000"], Some(0));
    }

    #[test]
    fn a_string_takes_over_the_expiry_of_another_type() {
        let mut f = Fixture::new();
        f.check("SET k v PX 100", "+OK");
        f.check("SET other v", "+OK");
        f.check("SADD set a", ":1");
        f.check("SET set v KEEPTTL", "+OK");
        f.now_ms += 100;
        f.check("GET set", "$1 v");
    }

    #[test]
    fn what_changes_nothing_is_no_change() {
        let mut f = Fixture::new();
        f.run("SET k abc");
        let before = f.changes();
        for command in [
            "SET k v NX",
            "SET x v XX GET",
            "SETNX k v",
            "MSETNX x v k v",
            "GETEX k",
            "GETEX k PERSIST",
            "GETDEL x",
            "SETRANGE k 10 ",
            "SETBIT k 0 0",
            "BITFIELD k SET u8 0 97",
            "BITFIELD k OVERFLOW FAIL INCRBY u8 0 255",
            "BITOP AND x y z",
            "INCR k",
        ] {
            f.run(command);
            assert_eq!(f.changes(), before, "{command}");
        }
        f.run("APPEND k ");
        assert_eq!(f.changes(), before + 1, "Redis counts an empty APPEND");
    }

    #[test]
    fn strings_beyond_the_limit_are_refused_before_they_are_made() {
        let mut f = Fixture::new();
        let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        f.check("SETRANGE k 536870912 v", too_long);
        f.check("SETRANGE k 9223372036854775807 v", too_long);
        f.check("SETBIT k 4294967296 1", "-ERR bit offset is not an integer or out of range");
        f.check("SET k v", "+OK");
        f.check("BITOP LSHIFT d k 9223372036854775807", too_long);
        f.check("STRLEN d", ":0");
    }
}
