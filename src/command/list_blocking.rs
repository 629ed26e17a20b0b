//! Lists: the commands that wait until there is something to pop.
//!
//! Each does what its sibling without the `B` does where it finds something, and else leaves a waiter; when one of its
//! keys gets something the command runs again, for that key. See [`crate::engine::blocking`].

use super::list::{End, INSERTED, Multipop, TAKEN, move_item, take};
use super::parse::deadline_ms;
use crate::engine::call::{Blocking, Call};
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "blmove",
        arity: 6,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::NOSCRIPT).union(Flags::BLOCKING),
        keys: &[KeySpec::at(1, TAKEN), KeySpec::at(2, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "6.2.0",
        summary: "Moves an item between lists, waiting for one if there is none.",
        complexity: "O(1)",
        run: blmove,
        subcommands: &[],
    },
    Command {
        name: "blmpop",
        arity: -5,
        flags: Flags::WRITE.union(Flags::BLOCKING).union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(2, TAKEN)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "7.0.0",
        summary: "Pops items from the first list that has any, waiting for one if none has.",
        complexity: "O(N+M)",
        run: blmpop,
        subcommands: &[],
    },
    Command {
        name: "blpop",
        arity: -3,
        flags: Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::BLOCKING),
        keys: &[KeySpec::all_but_last_from(1, TAKEN)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "2.0.0",
        summary: "Pops the head of the first list that has one, waiting for one if none has.",
        complexity: "O(N)",
        run: blpop,
        subcommands: &[],
    },
    Command {
        name: "brpop",
        arity: -3,
        flags: Flags::WRITE.union(Flags::NOSCRIPT).union(Flags::BLOCKING),
        keys: &[KeySpec::all_but_last_from(1, TAKEN)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "2.0.0",
        summary: "Pops the tail of the first list that has one, waiting for one if none has.",
        complexity: "O(N)",
        run: brpop,
        subcommands: &[],
    },
    Command {
        name: "brpoplpush",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::NOSCRIPT).union(Flags::BLOCKING),
        keys: &[KeySpec::at(1, TAKEN), KeySpec::at(2, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "2.2.0",
        summary: "Moves the tail of a list to the head of another, waiting for an item if there is none.",
        complexity: "O(1)",
        run: brpoplpush,
        subcommands: &[],
    },
];

fn blpop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    pop(c, End::Left)
}

fn brpop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    pop(c, End::Right)
}

fn pop(c: &mut Call<'_, '_>, end: End) -> Result<(), Error> {
    let args = c.args;
    let last = args.len() - 1;
    let deadline = deadline_ms(&args[last], c.keys.now_ms())?;
    let keys = args.slice(1..last);
    for key in c.blocking.keys(keys) {
        if c.keys.list_to_change(key)?.is_some() {
            c.reply.array(2);
            c.reply.bulk(key);
            take(c, key, end, 1);
            return Ok(());
        }
    }
    c.block(keys, deadline);
    Ok(())
}

fn blmpop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let multipop = Multipop::parse(args.slice(2..))?;
    let deadline = deadline_ms(&args[1], c.keys.now_ms())?;
    if !multipop.pop(c)? {
        c.block(multipop.keys, deadline);
    }
    Ok(())
}

fn blmove(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (from, to) = (End::parse(&args[3])?, End::parse(&args[4])?);
    move_or_wait(c, from, to, &args[5])
}

fn brpoplpush(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    move_or_wait(c, End::Right, End::Left, &args[3])
}

fn move_or_wait(c: &mut Call<'_, '_>, from: End, to: End, timeout: &[u8]) -> Result<(), Error> {
    let deadline = deadline_ms(timeout, c.keys.now_ms())?;
    if !move_item(c, from, to)? {
        // In a transaction it answers what LMOVE does; only a wait that ends in vain answers a null array.
        match c.blocking {
            Blocking::Denied => c.reply.null(),
            Blocking::Allowed | Blocking::Resumed(_) => c.block(c.args.slice(1..2), deadline),
        }
    }
    Ok(())
}
