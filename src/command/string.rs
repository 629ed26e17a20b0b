//! Strings and counters.

use super::parse::integer;
use crate::engine::call::Call;
use crate::engine::command::{Begin, Command, Find, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::resp::number;
use crate::store::delta::{Amount, Change, Kind};

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "get",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec { notes: "", flags: &["RO", "access"], begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 } }],
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
        name: "incr",
        arity: 2,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec { notes: "", flags: &["RW", "access", "update"], begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 } }],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Adds one to the integer at a key.",
        complexity: "O(1)",
        run: incr,
        subcommands: &[],
    },
    Command {
        name: "incrby",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec { notes: "", flags: &["RW", "access", "update"], begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 } }],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Adds an integer to the integer at a key.",
        complexity: "O(1)",
        run: incrby,
        subcommands: &[],
    },
    Command {
        name: "set",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec { notes: "", flags: &["OW", "update"], begin: Begin::Index(1), find: Find::Range { last: 0, step: 1, limit: 0 } }],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Sets a key to a string, whatever it held.",
        complexity: "O(1)",
        run: set,
        subcommands: &[],
    },
];

fn get(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let value = c.keys.string(&c.args[1])?;
    c.reply.bulk_opt(value);
    Ok(())
}

fn set(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let key = &c.args[1];
    c.keys.apply(key, &Change::Assign(&c.args[2]));
    c.keys.notify(EventClass::STRING, "set", key);
    c.reply.ok();
    Ok(())
}

fn incr(c: &mut Call<'_, '_>) -> Result<(), Error> {
    add(c, 1)
}

fn incrby(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let amount = integer(&c.args[2])?;
    add(c, amount)
}

fn add(c: &mut Call<'_, '_>, amount: i64) -> Result<(), Error> {
    let key = &c.args[1];
    let held = match c.keys.string(key)? {
        Some(text) => number::parse_i64(text).ok_or(Error::NOT_INTEGER)?,
        None => 0,
    };
    let total = held.checked_add(amount).ok_or(Error::new("ERR increment or decrement would overflow"))?;
    if c.keys.counts_per_origin() {
        c.keys.add(key, None, Kind::String, Amount::Int(amount.into()));
    } else {
        c.keys.apply(key, &Change::Value(itoa::Buffer::new().format(total).as_bytes()));
    }
    c.keys.notify(EventClass::STRING, "incrby", key);
    c.reply.int(total);
    Ok(())
}
