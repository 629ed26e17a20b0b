//! Keys of any type: do they exist, what are they, and where: deletion, names, copies.

use super::parse::{database, is};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "copy",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["RO", "access"]), KeySpec::at(2, &["OW", "update"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "6.2.0",
        summary: "Copies a value to another key.",
        complexity: "O(N) for collections, O(1) for strings",
        run: copy,
        subcommands: &[],
    },
    Command {
        name: "del",
        arity: -2,
        flags: Flags::WRITE,
        keys: &[KeySpec::to_end(1, 1, &["RM", "delete"])],
        categories: &["keyspace"],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Deletes keys.",
        complexity: "O(N)",
        run: del,
        subcommands: &[],
    },
    Command {
        name: "exists",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::to_end(1, 1, &["RO"])],
        categories: &["keyspace"],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Counts how many of the keys exist; one named twice counts twice.",
        complexity: "O(N)",
        run: exists,
        subcommands: &[],
    },
    Command {
        name: "expdel",
        arity: -2,
        flags: Flags::WRITE,
        keys: &[KeySpec::to_end(1, 1, &["RM", "delete"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "6.2.0",
        summary: "Deletes keys. KeyDB's; the same as DEL.",
        complexity: "O(N)",
        run: del,
        subcommands: &[],
    },
    Command {
        name: "keydb.mexists",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::to_end(1, 1, &["RO"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "6.2.0",
        summary: "Tells of each key whether it exists. KeyDB's.",
        complexity: "O(N)",
        run: mexists,
        subcommands: &[],
    },
    Command {
        name: "move",
        arity: 3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "update"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Moves a key to another database unless it exists there.",
        complexity: "O(1)",
        run: move_key,
        subcommands: &[],
    },
    Command {
        name: "rename",
        arity: 3,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "access", "delete"]), KeySpec::at(2, &["OW", "update"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Gives a key another name, over whatever stood there.",
        complexity: "O(N) for collections, O(1) for strings",
        run: rename,
        subcommands: &[],
    },
    Command {
        name: "renamenx",
        arity: 3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"]), KeySpec::at(2, &["OW", "insert"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Gives a key another name unless that is taken.",
        complexity: "O(N) for collections, O(1) for strings",
        run: renamenx,
        subcommands: &[],
    },
    Command {
        name: "touch",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::to_end(1, 1, &["RO"])],
        categories: &["keyspace"],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        group: Group::Generic,
        since: "3.2.1",
        summary: "Counts how many of the keys exist, and notes that they were used.",
        complexity: "O(N)",
        run: touch,
        subcommands: &[],
    },
    Command {
        name: "type",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Returns the type of the value at a key.",
        complexity: "O(1)",
        run: type_of,
        subcommands: &[],
    },
    Command {
        name: "unlink",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::to_end(1, 1, &["RM", "delete"])],
        categories: &["keyspace"],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        group: Group::Generic,
        since: "4.0.0",
        summary: "Deletes keys.",
        complexity: "O(N)",
        run: del,
        subcommands: &[],
    },
];

fn del(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let mut deleted = 0;
    for key in args.iter().skip(1) {
        if c.keys.delete(key) {
            c.keys.notify(EventClass::GENERIC, "del", key);
            deleted += 1;
        }
    }
    c.reply.int(deleted);
    Ok(())
}

fn exists(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let found = args.iter().skip(1).filter(|key| c.keys.look(key).is_some()).count();
    c.reply.int(found as i64);
    Ok(())
}

fn mexists(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    c.reply.array(args.len() - 1);
    for key in args.iter().skip(1) {
        c.reply.bool(c.keys.look(key).is_some());
    }
    Ok(())
}

fn touch(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let found = args.iter().skip(1).filter(|key| c.keys.value(key).is_some()).count();
    c.reply.int(found as i64);
    Ok(())
}

fn type_of(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.simple(c.keys.look(&c.args[1]).map_or("none", |value| value.kind().name()));
    Ok(())
}

fn rename(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (from, to) = (&c.args[1], &c.args[2]);
    if c.keys.find(from).is_none() {
        return Err(Error::NO_SUCH_KEY);
    }
    if from != to {
        change_name(c);
    }
    c.reply.ok();
    Ok(())
}

fn renamenx(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (from, to) = (&c.args[1], &c.args[2]);
    if c.keys.find(from).is_none() {
        return Err(Error::NO_SUCH_KEY);
    }
    let free = from != to && c.keys.find(to).is_none();
    if free {
        change_name(c);
    }
    c.reply.int(free.into());
    Ok(())
}

fn change_name(c: &mut Call<'_, '_>) {
    let (from, to) = (&c.args[1], &c.args[2]);
    c.keys.copy(from, c.keys.db(), to);
    c.keys.delete(from);
    c.keys.notify(EventClass::GENERIC, "rename_from", from);
    c.keys.notify(EventClass::GENERIC, "rename_to", to);
}

fn copy(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (from, to, from_db) = (&args[1], &args[2], c.keys.db());
    let (mut to_db, mut replace) = (from_db, false);
    let mut options = args.iter().skip(3);
    while let Some(option) = options.next() {
        if is(option, "replace") {
            replace = true;
        } else if is(option, "db") {
            to_db = database(c.engine, options.next().ok_or(Error::SYNTAX)?)?;
        } else {
            return Err(Error::SYNTAX);
        }
    }
    if (from_db, from) == (to_db, to) {
        return Err(Error::SAME_OBJECT);
    }
    let found = c.keys.value(from).is_some();
    c.keys.select(to_db);
    let copied = found && (replace || c.keys.find(to).is_none());
    c.keys.select(from_db);
    if copied {
        c.keys.copy(from, to_db, to);
        c.keys.select(to_db);
        c.keys.notify(EventClass::GENERIC, "copy_to", to);
        c.keys.select(from_db);
    }
    c.reply.int(copied.into());
    Ok(())
}

fn move_key(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (key, from_db) = (&c.args[1], c.keys.db());
    let to_db = database(c.engine, &c.args[2])?;
    if from_db == to_db {
        return Err(Error::SAME_OBJECT);
    }
    let found = c.keys.find(key).is_some();
    c.keys.select(to_db);
    let moved = found && c.keys.find(key).is_none();
    c.keys.select(from_db);
    if moved {
        c.keys.copy(key, to_db, key);
        c.keys.delete(key);
        c.keys.notify(EventClass::GENERIC, "move_from", key);
        c.keys.select(to_db);
        c.keys.notify(EventClass::GENERIC, "move_to", key);
        c.keys.select(from_db);
    }
    c.reply.int(moved.into());
    Ok(())
}
