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
    summary: "Lists or changes the addresses clients may come from, on every node.",
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

/// CONFIG SET allowlist: what [`replace`] would refuse, before anything else of that command is done. Call
/// [`replace`] with the blocks afterwards.
///
/// # Errors
/// If the text is no list, or the list shuts out the caller.
pub fn blocks_for(c: &Call<'_, '_>, text: &str) -> Result<Vec<IpNet>, Error> {
    let words = text.split(' ').filter(|word| !word.is_empty());
    let blocks = words.map(|word| block_arg(word.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    refuse_shutting_out(c, &blocks)?;
    Ok(blocks)
}

fn refuse_shutting_out(c: &Call<'_, '_>, blocks: &[IpNet]) -> Result<(), Error> {
    match c.session.client.ip() {
        Some(ip) if c.engine.admission_under(blocks, Some(ip)) != Admission::Full => {
            Err(format!("ERR this would shut you out: {ip} is not on that list. Add FORCE if you mean it")
                .into())
        }
        _ => Ok(()),
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
    if safety == Safety::KeepCaller {
        refuse_shutting_out(c, &blocks)?;
    }
    while held.stamp() >= stamp {
        // Another thread took a later stamp and was here first.
        c.keys.next_command();
        stamp = c.keys.stamp();
    }
    let bytes = allowlist::to_bytes(&blocks);
    held.merge(stamp, &bytes).expect("blocks written as text are blocks");
    c.engine.registers.merge(Register::Allowlist, stamp, &bytes);
    drop(held);
    c.keys.record(&Record::Register(Register::Allowlist, &bytes));
    c.engine.enforce_allowlist();
    if c.engine.admission(c.session.client.ip()) != Admission::Full {
        c.outcome = Outcome::Close;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Now;
    use crate::engine::client::ClientFlags;
    use crate::engine::session::Session;
    use crate::engine::testing::Fixture;

    fn connect(f: &Fixture, addr: &str) -> Session {
        f.engine.connect(addr.into(), "10.0.0.1:6379".into(), Now::from_unix_ns(0), 0)
    }

    fn is_open(session: &Session) -> bool {
        !session.client.flags().contains(ClientFlags::KILLED)
    }

    /// A server without protected mode; the fixture's client comes from 10.0.0.5.
    fn fixture() -> Fixture {
        let mut f = Fixture::new();
        f.engine.config.write().set(&[("protected-mode", "no")], crate::config::Caller::Local).unwrap();
        f.session = connect(&f, "10.0.0.5:50000");
        f
    }

    #[test]
    fn lists_are_changed_and_those_who_fall_off_are_closed() {
        let mut f = fixture();
        let (near, far) = (connect(&f, "[::ffff:10.9.9.9]:1"), connect(&f, "[fd00::1]:1"));
        f.check("MELD ALLOWLIST LIST", "*0");
        f.check("MELD ALLOWLIST ADD 10.1.2.3/8 10.0.0.0/8 ::1", ":2");
        f.check("MELD ALLOWLIST ADD 10.0.0.0/8", ":0");
        f.check("MELD ALLOWLIST LIST", "*2 $10 10.0.0.0/8 $3 ::1");
        assert!(is_open(&near) && !is_open(&far));
        f.check("MELD ALLOWLIST REMOVE ::1 9.9.9.9", ":1");
        f.check("MELD ALLOWLIST SET 10.0.0.5", "+OK");
        assert!(!is_open(&near) && is_open(&f.session));
        assert_eq!(f.engine.config.read().allowlist.len(), 1);
        f.check("MELD ALLOWLIST SET", "+OK");
        f.check("MELD ALLOWLIST LIST", "*0");
    }

    #[test]
    fn nobody_shuts_himself_out_but_by_force() {
        let mut f = fixture();
        let refused = "-ERR this would shut you out: 10.0.0.5 is not on that list. Add FORCE if you mean it";
        f.check("MELD ALLOWLIST ADD 192.168.0.0/16", refused);
        f.check("MELD ALLOWLIST SET 192.168.0.0/16 ::/0", refused);
        f.check("MELD ALLOWLIST LIST", "*0");
        f.check("MELD ALLOWLIST ADD 10.0.0.0/8", ":1");
        f.check("MELD ALLOWLIST REMOVE 10.0.0.0/8", ":1");
        f.check("MELD ALLOWLIST SET 192.168.0.0/16 FORCE", "+OK");
        assert!(!is_open(&f.session));
    }

    #[test]
    fn an_empty_list_falls_back_to_protected_mode() {
        let mut f = fixture();
        f.check("MELD ALLOWLIST SET 10.0.0.0/8", "+OK");
        f.engine.config.write().set(&[("protected-mode", "yes")], crate::config::Caller::Local).unwrap();
        assert!(f.run("MELD ALLOWLIST REMOVE 10.0.0.0/8").starts_with("-ERR this would shut you out"));
        let admission = |ip: &str| f.engine.admission(Some(ip.parse().unwrap()));
        assert_eq!(admission("10.0.0.9"), Admission::Full);
        assert_eq!(admission("127.0.0.1"), Admission::Refused);
        f.check("MELD ALLOWLIST SET FORCE", "+OK");
        let admission = |ip: &str| f.engine.admission(Some(ip.parse().unwrap()));
        assert_eq!(admission("10.0.0.9"), Admission::Protected);
        assert_eq!(admission("::ffff:127.0.0.1"), Admission::Full);
        f.engine.password.write().extend_from_slice(b"secret");
        assert_eq!(f.engine.admission(Some("10.0.0.9".parse().unwrap())), Admission::Full);
    }

    #[test]
    fn a_member_off_the_list_may_only_become_a_link() {
        let mut f = fixture();
        let member = crate::clock::NodeId::new(7 << 24);
        f.engine.topology.write().member_seen(member, "192.168.0.7", 6379);
        f.check("MELD ALLOWLIST SET 10.0.0.0/8", "+OK");
        let from_member = connect(&f, "192.168.0.7:999");
        let local = std::mem::replace(&mut f.session, from_member);
        assert!(f.engine.admit_client(&f.session.client));
        f.check(
            "GET a",
            "-NOPERM this address is not on the allowlist: a member may only use it for its link",
        );
        assert!(f.run("MELD LINK 999").starts_with("-ERR this node speaks"));
        assert!(!f.engine.admit_client(&connect(&f, "192.168.0.8:999").client));
        // Put on the list, it may do everything at once.
        let member = std::mem::replace(&mut f.session, local);
        f.check("MELD ALLOWLIST ADD 192.168.0.0/16", ":1");
        f.session = member;
        f.check("GET a", "$-1");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut f = fixture();
        f.check("MELD ALLOWLIST", "-ERR wrong number of arguments for 'meld|allowlist' command");
        f.check("MELD ALLOWLIST ADD", "-ERR syntax error");
        f.check("MELD ALLOWLIST ADD FORCE", "-ERR syntax error");
        f.check("MELD ALLOWLIST DROP ::1", "-ERR syntax error");
        f.check("MELD ALLOWLIST LIST ::1", "-ERR syntax error");
        f.check("MELD ALLOWLIST ADD 10.0.0.0/33", "-ERR '10.0.0.0/33' is not an IP address or a CIDR block");
    }
}
