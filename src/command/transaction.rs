//! MULTI and EXEC: commands run as one, under all their locks and in one batch, unless a watched key has changed.
//!
//! Between MULTI and EXEC the engine checks and queues what comes; see [`Engine::execute`](crate::engine::Engine::execute). EXEC
//! runs with the ranges of all queued commands and of all watched keys locked, so nobody sees half of it, and a watched
//! key cannot change between the check and the commands.

use crate::engine::call::{Blocking, Call, Outcome};
use crate::engine::client::ClientFlags;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::session::{Queued, Transaction, Watch};

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "discard",
        arity: 1,
        flags: Flags::NOSCRIPT
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::FAST)
            .union(Flags::ALLOW_BUSY),
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
        flags: Flags::NOSCRIPT
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::FAST)
            .union(Flags::ALLOW_BUSY),
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
        flags: Flags::NOSCRIPT
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::FAST)
            .union(Flags::ALLOW_BUSY),
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
        flags: Flags::NOSCRIPT
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::FAST)
            .union(Flags::ALLOW_BUSY),
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
    let result = run_transaction(c);
    // Behind what it has run, before anything else of the same keys.
    if let (true, Some(exec)) = (c.engine.monitors.any(), c.engine.registry.command(c.session.command_id)) {
        c.engine.monitors.tell(c.session, exec, c.args, c.keys.now_us());
    }
    result
}

fn run_transaction(c: &mut Call<'_, '_>) -> Result<(), Error> {
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
    let exec_id = c.session.command_id;
    let mut started_us = c.engine.stopwatch_us();
    c.keys.reserve(transaction.queue.len());
    for Queued { command, id, args } in &transaction.queue {
        c.session.command_id = *id;
        c.keys.next_command();
        c.keys.select(c.session.db);
        if c.engine.monitors.any() {
            c.engine.monitors.tell(c.session, command, args.args(), c.keys.now_us());
        }
        let (outcome, garbage) =
            c.engine.call(c.session, command, args.args(), c.keys, &mut replies, Blocking::Denied);
        c.garbage.extend(garbage);
        let ended_us = c.engine.stopwatch_us();
        let mut us = ended_us.saturating_sub(started_us);
        started_us = ended_us;
        match outcome {
            Outcome::Done | Outcome::Block(_) | Outcome::Await { .. } => {}
            Outcome::Sleep(ms) => {
                slept_ms += ms;
                us = us.saturating_add(ms.saturating_mul(1000));
                c.outcome = Outcome::Sleep(slept_ms);
            }
            last @ (Outcome::Close | Outcome::Link | Outcome::Shutdown) => c.outcome = last,
        }
        c.engine.ran(c.session, args.args(), us, c.keys.now(), c.keys.thread());
    }
    c.session.command_id = exec_id;
    c.reply.array(transaction.queue.len());
    c.reply.raw(&replies);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::clock::NTP64;
    use crate::engine::Now;
    use crate::engine::testing::Fixture;
    use crate::link::batch::{Batch, Record};
    use crate::resp::args::OwnedArgs;

    #[test]
    fn nothing_comes_between_the_stamps_of_a_transaction() {
        let node = Fixture::replicating();
        let (clock, mut session) = (&node.engine.clock, node.connect());
        let mut run = |command: &str| {
            let args: OwnedArgs = command.split(' ').collect();
            node.engine.execute(&mut session, args.args(), &mut Vec::new(), Now::from_unix_ns(0), 0);
        };
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    clock.observe(NTP64(clock.last().0 + 100));
                }
            });
            let mut gaps = 0;
            for _ in 0..1000 {
                run("MULTI");
                (0..20).for_each(|n| run(&format!("SET k{n} v")));
                run("EXEC");
                let written = node.written();
                let (batch, _) = Batch::split(&written).unwrap().unwrap();
                let mut times = Vec::new();
                let time = |record| {
                    if let Record::Time(time) = record {
                        times.push(time.0)
                    }
                };
                batch.each(time).unwrap();
                assert_eq!(times.len(), 20);
                gaps += times.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
            }
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(gaps, 0);
        });
    }

    /// Watches a key, lets others do something, and checks whether a transaction then runs.
    fn check_watch(before: &[&str], watched: &str, meanwhile: &[&str], runs: bool) {
        let mut node = Fixture::new();
        let mut other = node.connect();
        before.iter().for_each(|command| {
            node.run(command);
        });
        node.check(&format!("WATCH {watched}"), "+OK");
        for command in meanwhile {
            match command.strip_prefix("wait ") {
                Some(ms) => node.now_ms += ms.parse::<u64>().unwrap(),
                None => drop(node.run_on(&mut other, command)),
            }
        }
        node.tick();
        node.check("MULTI", "+OK");
        node.check("PING", "+QUEUED");
        node.check("EXEC", if runs { "*1 +PONG" } else { "*-1" });
        // Neither the watch nor its outcome lasts.
        node.run_on(&mut other, &format!("SET {watched} again"));
        node.run("MULTI");
        node.check("EXEC", "*0");
    }

    #[test]
    fn a_transaction_runs_only_if_no_watched_key_changed() {
        check_watch(&[], "k", &["SET k 1"], false);
        check_watch(&["SET k 1"], "k", &["GET k"], true);
        check_watch(&["SET k 1"], "k", &["DEL k"], false);
        check_watch(&[], "k", &["DEL k", "SET other 1"], true);
        check_watch(&["SADD k a"], "k", &["SADD k a"], true);
        check_watch(&["SADD k a"], "k", &["SADD k b"], false);
        check_watch(&["SET k 1"], "k", &["EXPIRE k 10"], false);
        check_watch(&["SET k 1"], "k", &["RENAME k other"], false);
        check_watch(&["SET other 1"], "k", &["COPY other k"], false);
    }

    #[test]
    fn a_watched_key_that_expires_stops_the_transaction_but_one_expired_before_does_not() {
        check_watch(&["SET k 1 PX 100"], "k", &["wait 99"], true);
        check_watch(&["SET k 1 PX 100"], "k", &["wait 100"], false);
        check_watch(&["SET k 1 PX 100"], "k", &["wait 100", "SET k 2"], false);
        let mut node = Fixture::new();
        node.run("SET k 1 PX 100");
        node.now_ms += 100;
        node.check("WATCH k", "+OK");
        node.tick();
        node.check("MULTI", "+OK");
        node.check("EXEC", "*0");
    }

    #[test]
    fn flushes_and_swaps_stop_a_transaction_if_the_key_is_in_one_of_the_databases() {
        check_watch(&["SET k 1"], "k", &["FLUSHDB"], false);
        check_watch(&["SET k 1"], "k", &["FLUSHALL"], false);
        check_watch(&[], "k", &["FLUSHALL"], true);
        check_watch(&["SET k 1"], "k", &["SWAPDB 0 1"], false);
        check_watch(&["SET k 1", "MOVE k 1"], "k", &["SWAPDB 0 1"], false);
        check_watch(&[], "k", &["SWAPDB 0 1"], true);
        check_watch(&["SET k 1"], "k", &["SWAPDB 1 2"], true);
        // The watch follows the database, not the keyspace.
        check_watch(&[], "k", &["SWAPDB 0 1", "SET k 1"], false);
        check_watch(&[], "k", &["SWAPDB 0 1", "SET k 1", "SWAPDB 2 3"], false);
    }

    #[test]
    fn a_refused_command_aborts_and_a_failing_one_does_not() {
        let mut node = Fixture::new();
        node.check("EXEC", "-ERR EXEC without MULTI");
        node.check("DISCARD", "-ERR DISCARD without MULTI");
        node.check("MULTI", "+OK");
        node.check("MULTI", "-ERR MULTI calls can not be nested");
        node.check("WATCH k", "-ERR WATCH inside MULTI is not allowed");
        node.check("SET k text", "+QUEUED");
        node.check("INCR k", "+QUEUED");
        node.check("UNWATCH", "+QUEUED");
        node.check("EXEC", "*3 +OK -ERR value is not an integer or out of range +OK");
        node.check("MULTI", "+OK");
        node.check("SET k gone", "+QUEUED");
        node.check("GET", "-ERR wrong number of arguments for 'get' command");
        node.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
        node.check("MULTI", "+OK");
        let reason = "wrong number of arguments for 'exec' command";
        node.check("EXEC now", &format!("-EXECABORT Transaction discarded because of: {reason}"));
        node.check("GET k", "$4 text");
    }

    #[test]
    fn commands_that_walk_the_keyspace_run_inside_transactions() {
        let mut node = Fixture::new();
        node.run("WATCH a b");
        node.run("MULTI");
        for command in
            ["SET a 1", "KEYS *", "DBSIZE", "SCAN 0", "RANDOMKEY", "MELD DIGEST", "FLUSHDB", "DBSIZE"]
        {
            node.check(command, "+QUEUED");
        }
        let reply = node.run("EXEC");
        assert!(reply.starts_with("*8 +OK *1 $1 a :1 *2 $1 0 *1 $1 a $1 a $16 "), "{reply}");
        assert!(reply.ends_with("+OK :0"), "{reply}");
    }

    #[test]
    fn a_client_that_queues_more_than_it_may_have_buffered_is_closed() {
        let mut node = Fixture::new();
        node.engine.config.write().client_query_buffer_limit = 1000;
        node.run("MULTI");
        node.check(&format!("SET k {}", "x".repeat(500)), "+QUEUED");
        node.check(&format!("SET k {}", "x".repeat(500)), "");
    }

    #[test]
    fn a_transaction_is_one_batch_of_several_stamps() {
        let mut node = Fixture::replicating();
        for command in ["MULTI", "SET a 1", "SET b 2", "GET a", "EXEC"] {
            node.run(command);
        }
        let written = node.written();
        let (batch, rest) = crate::link::batch::Batch::split(&written).unwrap().unwrap();
        assert!(rest.is_empty());
        let mut stamps = 0;
        batch
            .each(|record| stamps += usize::from(matches!(record, crate::link::batch::Record::Time(_))))
            .unwrap();
        assert_eq!(stamps, 2);
    }
}
