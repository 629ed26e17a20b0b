//! MELD ALLOWLIST: who may connect, on every node of the cluster; see [`crate::engine::allowlist`].
//!
//! ```text
//! MELD ALLOWLIST LIST                             the blocks
//! MELD ALLOWLIST ADD block [block ...] [FORCE]    how many were new
//! MELD ALLOWLIST REMOVE block [block ...] [FORCE] how many were there
//! MELD ALLOWLIST SET [block ...] [FORCE]          OK; no block lets everyone in
//! ```
//! A change that would shut out the client that asks for it is refused without FORCE. With it, the reply is the
//! last thing that client gets. CONFIG SET allowlist is [`replace`].

use ipnet::IpNet;

use super::parse::is;
use crate::config::{block, block_text};
use crate::engine::allowlist::{self, Admission, BLOCKS_MAX};
use crate::engine::call::{Call, Outcome};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::link::batch::{Record, Register};

/// The subcommand of MELD.
pub const ALLOWLIST: Command = Command {
    name: "allowlist",
    arity: -3,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_MULTI).union(Flags::STALE),
    keys: &[],
    categories: &[],
    tips: &["nondeterministic_output"],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Lists or changes the addresses clients may come from LIST|ADD|REMOVE|SET [<block> ...] [FORCE].",
    complexity: "O(N*M)",
    run: allowlist,
    subcommands: &[],
};

/// Whether a change may shut out the client that makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Safety {
    /// It is refused then.
    KeepCaller,
    /// FORCE.
    Force,
}

fn allowlist(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let verb = &args[2];
    if is(verb, "list") && args.len() == 3 {
        return list(c);
    }
    let mut named = args.slice(3..);
    let mut safety = Safety::KeepCaller;
    if let Some(last) = named.iter().next_back()
        && is(last, "force")
    {
        named = named.slice(..named.len() - 1);
        safety = Safety::Force;
    }
    let named = named.iter().map(block_arg).collect::<Result<Vec<_>, _>>()?;
    if is(verb, "set") {
        replace(c, &named, safety)?;
        c.reply.ok();
        return Ok(());
    }
    if named.is_empty() || !(is(verb, "add") || is(verb, "remove")) {
        return Err(Error::SYNTAX);
    }
    let is_add = is(verb, "add");
    let changed = change(c, safety, |blocks| {
        let before = blocks.len();
        if is_add {
            add_new(blocks, &named);
        } else {
            blocks.retain(|block| !named.contains(block));
        }
        blocks.len().abs_diff(before)
    })?;
    c.reply.int(changed as i64);
    Ok(())
}

fn list(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let allowlist = c.engine.allowlist.read();
    c.reply.array(allowlist.blocks().len());
    allowlist.blocks().iter().for_each(|block| c.reply.bulk(block_text(block).as_bytes()));
    Ok(())
}

fn block_arg(arg: &[u8]) -> Result<IpNet, Error> {
    let text = String::from_utf8_lossy(arg);
    block(&text).ok_or_else(|| format!("ERR '{text}' is not an IP address or a CIDR block").into())
}

fn add_new(blocks: &mut Vec<IpNet>, more: &[IpNet]) {
    for block in more {
        if !blocks.contains(block) {
            blocks.push(*block);
        }
    }
}

/// Makes these blocks the whole list.
///
/// # Errors
/// If that shuts out the caller and is not forced, or the list is too long; nothing has changed then.
pub fn replace(c: &mut Call<'_, '_>, named: &[IpNet], safety: Safety) -> Result<(), Error> {
    change(c, safety, |blocks| {
        blocks.clear();
        add_new(blocks, named);
        1
    })?;
    Ok(())
}

/// Changes the list here and, with the batch, on every node. `edit` says how many blocks it changed; none writes nothing.
fn change(
    c: &mut Call<'_, '_>,
    safety: Safety,
    edit: impl FnOnce(&mut Vec<IpNet>) -> usize,
) -> Result<usize, Error> {
    // The stamp comes first: taking it waits for this thread's slot, and the list is locked after slots.
    let mut stamp = c.keys.stamp();
    let mut held = c.engine.allowlist.write();
    let mut blocks = held.blocks().to_vec();
    let changed = edit(&mut blocks);
    if changed == 0 {
        return Ok(0);
    }
    if blocks.len() > BLOCKS_MAX {
        return Err(format!("ERR an allowlist holds at most {BLOCKS_MAX} blocks").into());
    }
    let caller = c.session.client.ip();
    let keeps_caller = c.engine.admission_under(&blocks, caller) == Admission::Full;
    if let (Safety::KeepCaller, false, Some(ip)) = (safety, keeps_caller, caller) {
        return Err(format!("ERR this would shut you out: {ip} is not on that list. Add FORCE if you mean it").into());
    }
    while held.stamp() >= stamp {
        // Another thread took a later stamp and was here first.
        c.keys.next_command();
        stamp = c.keys.stamp();
    }
    let bytes = allowlist::to_bytes(&blocks);
    held.merge(stamp, &bytes).expect("blocks written as text are blocks");
    drop(held);
    c.keys.record(&Record::Register(Register::Allowlist, &bytes));
    c.engine.enforce_allowlist();
    if !keeps_caller {
        c.outcome = Outcome::Close;
    }
    Ok(changed)
}
