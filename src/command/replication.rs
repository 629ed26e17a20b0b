//! Partners: who they are, what the links are doing.
//!
//! REPLICAOF takes KeyDB's forms: an active node has several partners, a node that is not active follows one
//! primary. MELD LINK is what nodes send each other on the client port.

use super::parse::is;
use crate::clock::NodeId;
use crate::config::HostPort;
use crate::engine::call::{Call, Outcome};
use crate::engine::client::ClientFlags;
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::link::batch::{Record, Register};
use crate::link::frame::VERSION;
use crate::link::mesh::{PartnerView, State};
use crate::number;

const REPLICAOF_FLAGS: Flags = Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::STALE).union(Flags::NO_MULTI);

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "replicaof",
        arity: -3,
        flags: REPLICAOF_FLAGS,
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Server,
        since: "5.0.0",
        summary: "Adds a partner to an active node, or has a node follow a primary; NO ONE ends it.",
        complexity: "O(1)",
        run: replicaof,
        subcommands: &[],
    },
    Command {
        name: "slaveof",
        arity: -3,
        flags: REPLICAOF_FLAGS,
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Server,
        since: "1.0.0",
        summary: "The older name of REPLICAOF.",
        complexity: "O(1)",
        run: replicaof,
        subcommands: &[],
    },
];

/// Not inside MULTI: the mesh is locked before ranges are, never after.
const OPERATOR: Flags =
    Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE).union(Flags::NO_MULTI);

/// MELD LINK.
pub const LINK: Command = Command {
    name: "link",
    arity: 3,
    flags: OPERATOR.union(Flags::LINKING),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Makes this connection a peer's link. Sent by nodes, not by clients.",
    complexity: "O(1)",
    run: link,
    subcommands: &[],
};

/// MELD FORGET.
pub const FORGET: Command = Command {
    name: "forget",
    arity: 3,
    flags: OPERATOR,
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Has all nodes refuse a node for good, until it joins under another identity.",
    complexity: "O(1)",
    run: forget,
    subcommands: &[],
};

/// MELD PEERS.
pub const PEERS: Command = Command {
    name: "peers",
    arity: 2,
    flags: OPERATOR,
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Tells of every member: identity, address, link, lag and progress of collection.",
    complexity: "O(N) with N the number of members",
    run: peers,
    subcommands: &[],
};

/// MELD RESYNC.
pub const RESYNC: Command = Command {
    name: "resync",
    arity: 2,
    flags: OPERATOR,
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Compares all ranges with every linked peer and pulls those that differ. Answers with how many peers.",
    complexity: "O(N) with N the number of ranges, plus what differs",
    run: resync,
    subcommands: &[],
};

fn link(c: &mut Call<'_, '_>) -> Result<(), Error> {
    match number::parse_i64(&c.args[2]) {
        Some(version) if version == i64::from(VERSION) => {}
        _ => return Err(format!("ERR this node speaks version {VERSION} of the link protocol").into()),
    }
    c.reply.ok();
    c.session.client.set(ClientFlags::LINK);
    c.outcome = Outcome::Link;
    Ok(())
}

fn replicaof(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (partner, removes) = match c.args.len() {
        3 if is(&c.args[1], "no") && is(&c.args[2], "one") => {
            return replace_partners(c, Vec::new());
        }
        3 => (address(&c.args[1], &c.args[2])?, false),
        4 if is(&c.args[1], "remove") => (address(&c.args[2], &c.args[3])?, true),
        _ => return Err(Error::wrong_arity(c.engine.registry.name(c.session.command_id))),
    };
    let (mut partners, several) = {
        let config = c.engine.config.read();
        (config.replicaof.clone(), config.active_replica && config.multi_master)
    };
    let known = partners.contains(&partner);
    match (removes, known) {
        (true, false) => return Err(Error::new("ERR Master not found")),
        (true, true) => partners.retain(|held| *held != partner),
        (false, true) => {
            c.reply.simple("OK Already connected to specified master");
            return Ok(());
        }
        (false, false) if several => partners.push(partner),
        (false, false) => partners = vec![partner],
    }
    replace_partners(c, partners)
}

fn replace_partners(c: &mut Call<'_, '_>, partners: Vec<HostPort>) -> Result<(), Error> {
    c.engine.replace_partners(partners)?;
    // What `replica-serve-stale-data` forbids is forbidden from the reply on.
    c.engine.refresh_standing(c.keys.now());
    c.reply.ok();
    Ok(())
}

fn address(host: &[u8], port: &[u8]) -> Result<HostPort, Error> {
    let invalid = || Error::new("ERR Invalid master port");
    let port = number::parse_i64(port).and_then(|port| u16::try_from(port).ok()).ok_or_else(invalid)?;
    Ok(HostPort { host: String::from_utf8_lossy(host).into_owned(), port })
}

/// `MELD FORGET node`
fn forget(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let node = std::str::from_utf8(&c.args[2]).ok().and_then(NodeId::parse);
    let node = node.ok_or(Error::new("ERR invalid node id: MELD PEERS tells those of the members"))?;
    if node == c.engine.clock.origin().node() {
        return Err(Error::new("ERR I tried hard but I can't forget myself..."));
    }
    let forgotten = c.engine.registers.forgotten();
    let is_member = c.engine.mesh.lock().members().any(|state| state.member.origin.node() == node);
    if !is_member && !forgotten.contains_key(&node) {
        return Err(format!("ERR Unknown node {node}").into());
    }
    if !forgotten.contains_key(&node) {
        let register = Register::Forgotten(node);
        let stamp = c.keys.stamp();
        c.keys.record(&Record::Register(register, b""));
        c.engine.registers.merge(register, stamp, b"");
    }
    c.reply.ok();
    Ok(())
}

fn resync(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let peers = c.engine.mesh.lock().ask_to_pull_from_all();
    c.reply.int(peers as i64);
    Ok(())
}

fn peers(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let now_ms = c.keys.now_ms();
    let mesh = c.engine.mesh.lock();
    let own = mesh.own().origin;
    let sequence = mesh.vector().of(own).sequence;
    let views = mesh.partners(now_ms);
    let met = |view: &PartnerView| {
        let node = view.origin?.node();
        mesh.members().find(|state| state.member.origin.node() == node)
    };
    c.reply.array(views.iter().filter(|view| met(view).is_some()).count());
    for view in &views {
        let Some(state) = met(view) else { continue };
        let member = &state.member;
        let link = mesh.link_to(member.origin.node()).map(|(_, link)| link);
        let link_name = match (&view.state, link) {
            (_, None) => "down",
            (State::ClockSkew, _) => "clock_skew",
            (State::Resync(_), Some(link)) if !link.syncing => "syncing",
            (_, Some(_)) => "up",
        };
        let lag = link.map_or(0, |link| sequence.saturating_sub(link.vector.of(own).sequence));
        let texts = [
            ("node", member.origin.node().to_string()),
            ("incarnation", member.origin.incarnation().to_string()),
            ("address", format!("{}:{}", member.host, member.port)),
            ("role", if member.follower { "replica" } else { "active" }.to_owned()),
            ("link", link_name.to_owned()),
            ("state", view.state.name().to_owned()),
        ];
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let numbers = [
            ("lag_batches", number(lag)),
            ("lag_ms", number(view.lag_ms)),
            ("backlog_bytes", number(view.backlog_bytes)),
            ("merged_batches", number(mesh.vector().of(member.origin).sequence)),
            ("silent_ms", number(now_ms.saturating_sub(state.seen_at_ms))),
            ("sync_percent", if let State::Resync(percent) = view.state { percent as i64 } else { 100 }),
            ("verified_at_ms", number(view.verified_at_ms)),
            ("differing_ranges", view.differing_ranges as i64),
            ("repaired_keys", number(view.repaired_keys)),
            ("clock_offset_ms", view.clock_offset_ms.unwrap_or(0)),
        ];
        c.reply.map(texts.len() + numbers.len());
        for (name, value) in texts {
            c.reply.bulk(name.as_bytes());
            c.reply.bulk(value.as_bytes());
        }
        for (name, value) in numbers {
            c.reply.bulk(name.as_bytes());
            c.reply.int(value);
        }
    }
    Ok(())
}
