//! Partners: linking, and what the links are doing.

use crate::engine::call::{Call, Outcome};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::link::frame::VERSION;
use crate::resp::number;

/// MELD LINK.
pub const LINK: Command = Command {
    name: "link",
    arity: 3,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_MULTI).union(Flags::LOADING).union(Flags::STALE),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "0.1.0",
    summary: "Makes this connection a peer's link. Sent by nodes, not by clients.",
    complexity: "O(1)",
    run: link,
    subcommands: &[],
};

fn link(c: &mut Call<'_, '_>) -> Result<(), Error> {
    match number::parse_i64(&c.args[2]) {
        Some(version) if version == i64::from(VERSION) => {}
        _ => return Err(format!("ERR this node speaks version {VERSION} of the link protocol").into()),
    }
    c.reply.ok();
    c.outcome = Outcome::Link;
    Ok(())
}
