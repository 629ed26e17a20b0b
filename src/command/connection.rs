//! Connections: authentication, protocol, database, and what CLIENT tells and does.

use super::parse::is;
use crate::engine::call::{Call, Outcome};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "ping",
        arity: -1,
        flags: Flags::FAST.union(Flags::SUBSCRIBED),
        keys: &[],
        categories: &["connection"],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        group: Group::Connection,
        since: "1.0.0",
        summary: "Answers PONG, or the message given.",
        complexity: "O(1)",
        run: ping,
        subcommands: &[],
    },
    Command {
        name: "quit",
        arity: -1,
        flags: Flags::FAST.union(Flags::LOADING).union(Flags::STALE).union(Flags::NO_AUTH).union(Flags::SUBSCRIBED),
        keys: &[],
        categories: &["connection"],
        tips: &[],
        group: Group::Connection,
        since: "1.0.0",
        summary: "Closes the connection.",
        complexity: "O(1)",
        run: quit,
        subcommands: &[],
    },
];

fn ping(c: &mut Call<'_, '_>) -> Result<(), Error> {
    match c.args.len() {
        1 => c.reply.simple("PONG"),
        2 => c.reply.bulk(&c.args[1]),
        _ => return Err(Error::wrong_arity("ping")),
    }
    let _ = is;
    Ok(())
}

fn quit(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.ok();
    c.outcome = Outcome::Close;
    Ok(())
}
