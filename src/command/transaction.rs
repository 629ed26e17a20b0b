//! MULTI and EXEC: commands run as one, under all their locks and in one batch, unless a watched key has changed.
//!
//! Between MULTI and EXEC the engine checks and queues what comes; see [`Engine::execute`](crate::engine::Engine::execute). EXEC
//! runs with the ranges of all queued commands and of all watched keys locked, so nobody sees half of it, and a watched
//! key cannot change between the check and the commands.

use crate::engine::call::{Call, Outcome};
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::client::ClientFlags;
use crate::engine::error::Error;
use crate::engine::session::{Transaction, Watch};

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "discard",
        arity: 1,
        flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::FAST).union(Flags::ALLOW_BUSY),
        keys: &[],
        categories: &["transaction"],
        tips: &[],
        group: Group::Transactions,
        since: "2.0.0",
        summary: "Gives up a transaction.",
        complexity: "O(N) in the commands queued",
        run: discard,
        subcommands: &[],
    },
    Command {
        name: "exec",
        arity: 1,
        flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::SKIP_SLOWLOG),
        keys: &[],
        categories: &["transaction"],
        tips: &[],
        group: Group::Transactions,
        since: "1.2.0",
        summary: "Runs the commands of a transaction as one.",
        complexity: "Depends on the commands",
        run: exec,
        subcommands: &[],
    },
    Command {
        name: "multi",
        arity: 1,
        flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::FAST).union(Flags::ALLOW_BUSY),
        keys: &[],
        categories: &["transaction"],
        tips: &[],
        group: Group::Transactions,
        since: "1.2.0",
        summary: "Begins a transaction.",
        complexity: "O(1)",
        run: multi,
        subcommands: &[],
    },
    Command {
        name: "unwatch",
        arity: 1,
        flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::FAST).union(Flags::ALLOW_BUSY),
        keys: &[],
        categories: &["transaction"],
        tips: &[],
        group: Group::Transactions,
        since: "2.2.0",
        summary: "Forgets all watched keys.",
        complexity: "O(N)",
        run: unwatch,
        subcommands: &[],
    },
    Command {
        name: "watch",
        arity: -2,
        flags: Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE).union(Flags::FAST).union(Flags::ALLOW_BUSY),
        keys: &[KeySpec::to_end(1, 1, &["RO"])],
        categories: &["transaction"],
        tips: &[],
        group: Group::Transactions,
        since: "2.2.0",
        summary: "Has EXEC do nothing if one of the keys changes before.",
        complexity: "O(1) for every key",
        run: watch,
        subcommands: &[],
    },
];

fn multi(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.session.transaction.is_some() {
        return Err(Error::new("ERR MULTI calls can not be nested"));
    }
    c.session.begin_transaction();
    c.reply.ok();
    Ok(())
}

fn discard(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.session.transaction.is_none() {
        return Err(Error::new("ERR DISCARD without MULTI"));
    }
    c.engine.discard(c.session);
    c.reply.ok();
    Ok(())
}

fn watch(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.session.transaction.is_some() {
        return Err(Error::new("ERR WATCH inside MULTI is not allowed"));
    }
    let (args, db) = (c.args, c.keys.db());
    for key in args.iter().skip(1) {
        if !c.session.watched.iter().any(|watch| watch.db == db && watch.key == key) {
            let existed = c.keys.watch(key, &c.session.client);
            c.session.watched.push(Watch { db, key: key.to_vec(), existed });
        }
    }
    c.reply.ok();
    Ok(())
}

fn unwatch(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.engine.unwatch_all(c.session);
    c.reply.ok();
    Ok(())
}

fn exec(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let Some(transaction) = c.session.end_transaction() else {
        return Err(Error::new("ERR EXEC without MULTI"));
    };
    let changed = end_watch(c);
    if transaction.aborted {
        return Err(Error::new("EXECABORT Transaction discarded because of previous errors."));
    }
    if changed {
        c.reply.null_array();
        return Ok(());
    }
    run(c, &transaction);
    Ok(())
}

/// Forgets the watched keys, whose ranges are locked, and tells whether one has changed or expired.
fn end_watch(c: &mut Call<'_, '_>) -> bool {
    let mut changed = c.session.client.flags().contains(ClientFlags::DIRTY);
    for watch in std::mem::take(&mut c.session.watched) {
        c.keys.unwatch(&watch, &c.session.client);
        c.keys.select(watch.db);
        changed |= watch.existed && !c.keys.exists(&watch.key);
    }
    c.session.client.unset(ClientFlags::DIRTY);
    changed
}

fn run(c: &mut Call<'_, '_>, transaction: &Transaction) {
    let mut replies = Vec::new();
    let mut slept_ms = 0;
    for (command, args) in &transaction.queue {
        c.keys.next_command();
        c.keys.select(c.session.db);
        let (outcome, garbage) = c.engine.call(c.session, command, args.args(), c.keys, &mut replies, true);
        c.garbage.extend(garbage);
        match outcome {
            Outcome::Done | Outcome::Block(_) | Outcome::WaitReplicas { .. } => {}
            Outcome::Sleep(ms) => {
                slept_ms += ms;
                c.outcome = Outcome::Sleep(slept_ms);
            }
            last @ (Outcome::Close | Outcome::Link | Outcome::Shutdown) => c.outcome = last,
        }
    }
    c.reply.array(transaction.queue.len());
    c.reply.raw(&replies);
}
