//! CONFIG.

use std::sync::atomic::Ordering::Relaxed;

use super::family::{container, help};
use super::meld_allowlist::{self, Safety};
use crate::config::Caller;
use crate::engine::call::Call;
use crate::engine::client::{Client, ClientFlags};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::resp::glob;

const BASE: Command = Command {
    name: "config",
    arity: -2,
    flags: Flags::empty(),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Server,
    since: "2.0.0",
    summary: "Reads and changes the configuration.",
    complexity: "Depends on the subcommand",
    run: container,
    subcommands: &[],
};

const SUB: Command = Command {
    arity: 2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    complexity: "O(1)",
    ..BASE
};

/// The table.
pub const COMMANDS: &[Command] = &[Command { subcommands: SUBCOMMANDS, ..BASE }];

const SUBCOMMANDS: &[Command] = &[
    Command {
        name: "get",
        arity: -3,
        summary: "Directives and their values, by name or pattern.",
        complexity: "O(N) with the number of directives",
        run: get,
        ..SUB
    },
    Command {
        name: "help",
        flags: Flags::LOADING.union(Flags::STALE),
        since: "5.0.0",
        summary: "Lists the subcommands.",
        run: config_help,
        ..SUB
    },
    Command { name: "resetstat", summary: "Sets the counters of INFO to zero.", run: resetstat, ..SUB },
    Command {
        name: "rewrite",
        since: "2.8.0",
        summary: "Writes the configuration to its file.",
        run: rewrite,
        ..SUB
    },
    Command {
        name: "set",
        arity: -4,
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        summary: "Changes directives, all or none.",
        complexity: "O(N) with the number of directives",
        run: set,
        ..SUB
    },
];

/// `CONFIG GET pattern...`
fn get(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let patterns: Vec<String> =
        c.args.slice(2..).iter().map(|arg| String::from_utf8_lossy(arg).into()).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let rows =
        c.engine.config.read().get(&patterns, |p, name| glob::matches_nocase(p.as_bytes(), name.as_bytes()));
    c.reply.map(rows.len());
    for (name, value) in rows {
        c.reply.bulk(name.as_bytes());
        c.reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// `CONFIG SET directive value [directive value...]`
fn set(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args.slice(2..);
    if !args.len().is_multiple_of(2) {
        return Err(Error::SYNTAX);
    }
    let texts: Option<Vec<&str>> = args.iter().map(|arg| std::str::from_utf8(arg).ok()).collect();
    let texts = texts.ok_or(Error::new("ERR CONFIG SET failed - names and values must be UTF-8"))?;
    let pairs: Vec<(&str, &str)> = texts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let allowlist = pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case("allowlist"));
    let allowlist = allowlist.map(|(_, text)| meld_allowlist::blocks_for(c, text)).transpose()?;
    c.engine.configure(&pairs, caller(&c.session.client))?;
    if let Some(blocks) = allowlist {
        // The list is every node's.
        meld_allowlist::replace(c, &blocks, Safety::KeepCaller)?;
    }
    c.reply.ok();
    Ok(())
}

/// Whether a client is on this machine.
pub fn caller(client: &Client) -> Caller {
    let loopback =
        client.addr.parse::<std::net::SocketAddr>().is_ok_and(|addr| addr.ip().to_canonical().is_loopback());
    let local = loopback || client.flags().contains(ClientFlags::UNIX_SOCKET);
    if local { Caller::Local } else { Caller::Remote }
}

fn rewrite(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let config = c.engine.config.read();
    match c.engine.host.get() {
        Some(host) => host.rewrite_config(&config)?,
        None => return Err(Error::new("ERR The server is running without a config file")),
    }
    c.reply.ok();
    Ok(())
}

fn resetstat(c: &mut Call<'_, '_>) -> Result<(), Error> {
    // A thread that counts at this very moment may undo its own reset; the number is off by what it held.
    for thread in 0..c.engine.threads() {
        c.engine.stats(thread).all().iter().for_each(|counter| counter.store(0, Relaxed));
    }
    c.engine.link_input_bytes.store(0, Relaxed);
    c.engine.link_output_bytes.store(0, Relaxed);
    c.engine.conflicts.reset_counts();
    c.engine.command_stats.reset();
    c.engine.error_stats.lock().clear();
    c.reply.ok();
    Ok(())
}

fn config_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    help(
        c,
        &[
            ("GET <pattern> [<pattern> ...]", "Directives that match, and their values."),
            ("RESETSTAT", "Sets the counters of INFO to zero."),
            ("REWRITE", "Writes the configuration to the file it came from."),
            ("SET <directive> <value> [<directive> <value> ...]", "Changes directives, all or none."),
        ],
    );
    Ok(())
}
