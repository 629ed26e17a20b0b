//! CLUSTER, as cluster clients and tools ask it; see [`crate::engine::cluster`].
//!
//! Nothing here moves slots: the nodes agree on the owner among themselves. What would change the cluster is
//! refused, in Redis's words where Redis would refuse it too; only FAILOVER does what it says. Unlike in Redis,
//! COUNTKEYSINSLOT and GETKEYSINSLOT look at every key, because keys are not kept by slot.

use std::ops::ControlFlow;

use super::family;
use super::parse::{integer, is};
use crate::engine::call::Call;
use crate::engine::cluster::{Face, Role, SLOTS, slot_of};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::link::batch::{Record, Register};
use crate::number;

/// The table.
pub const COMMANDS: &[Command] = &[Command {
    name: "cluster",
    arity: -2,
    flags: Flags::empty(),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Cluster,
    since: "3.0.0",
    summary: "Tells cluster clients which node serves which slots.",
    complexity: "Depends on subcommand",
    run: family::container,
    subcommands: &[
        Command {
            name: "addslots",
            arity: -3,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused: slots are assigned by cluster-owner.",
            complexity: "O(N)",
            run: assign_slots,
            subcommands: &[],
        },
        Command {
            name: "addslotsrange",
            arity: -4,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "7.0.0",
            summary: "Refused, as ADDSLOTS.",
            complexity: "O(N)",
            run: assign_ranges,
            subcommands: &[],
        },
        Command {
            name: "bumpepoch",
            arity: 2,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Answers the configuration epoch.",
            complexity: "O(1)",
            run: bumpepoch,
            subcommands: &[],
        },
        Command {
            name: "count-failure-reports",
            arity: 3,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Counts failure reports about a node: always 0.",
            complexity: "O(N)",
            run: count_failure_reports,
            subcommands: &[],
        },
        Command {
            name: "countkeysinslot",
            arity: 3,
            flags: Flags::STALE.union(Flags::WALKS_KEYSPACE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Counts the keys of database 0 in a slot; looks at all keys.",
            complexity: "O(1)",
            run: countkeysinslot,
            subcommands: &[],
        },
        Command {
            name: "delslots",
            arity: -3,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused, as ADDSLOTS.",
            complexity: "O(N)",
            run: withdraw_slots,
            subcommands: &[],
        },
        Command {
            name: "delslotsrange",
            arity: -4,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "7.0.0",
            summary: "Refused, as ADDSLOTS.",
            complexity: "O(N)",
            run: withdraw_ranges,
            subcommands: &[],
        },
        Command {
            name: "failover",
            arity: -2,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Makes this node the owner of all slots.",
            complexity: "O(1)",
            run: failover,
            subcommands: &[],
        },
        Command {
            name: "flushslots",
            arity: 2,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused, as ADDSLOTS.",
            complexity: "O(1)",
            run: flushslots,
            subcommands: &[],
        },
        Command {
            name: "forget",
            arity: 3,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused: members are removed with MELD.",
            complexity: "O(1)",
            run: forget,
            subcommands: &[],
        },
        Command {
            name: "getkeysinslot",
            arity: 4,
            flags: Flags::STALE.union(Flags::WALKS_KEYSPACE),
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Lists keys of database 0 in a slot; looks at all keys.",
            complexity: "O(log(N))",
            run: getkeysinslot,
            subcommands: &[],
        },
        Command {
            name: "help",
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "5.0.0",
            summary: "Prints this help.",
            complexity: "O(1)",
            run: cluster_help,
            subcommands: &[],
        },
        Command {
            name: "info",
            arity: 2,
            flags: Flags::STALE,
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Tells the state of the cluster.",
            complexity: "O(1)",
            run: info,
            subcommands: &[],
        },
        Command {
            name: "keyslot",
            arity: 3,
            flags: Flags::STALE,
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Computes the slot of a key.",
            complexity: "O(N)",
            run: keyslot,
            subcommands: &[],
        },
        Command {
            name: "links",
            arity: 2,
            flags: Flags::STALE,
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "7.0.0",
            summary: "Lists links of the cluster bus: there is none.",
            complexity: "O(N)",
            run: links,
            subcommands: &[],
        },
        Command {
            name: "meet",
            arity: -4,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused: partners are named by the peer directive.",
            complexity: "O(1)",
            run: meet,
            subcommands: &[],
        },
        Command {
            name: "myid",
            arity: 2,
            flags: Flags::STALE,
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Tells the id of this node.",
            complexity: "O(1)",
            run: myid,
            subcommands: &[],
        },
        Command {
            name: "myshardid",
            arity: 2,
            flags: Flags::STALE,
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "7.2.0",
            summary: "Tells the id of this node's shard.",
            complexity: "O(1)",
            run: myshardid,
            subcommands: &[],
        },
        Command {
            name: "nodes",
            arity: 2,
            flags: Flags::STALE,
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Lists the nodes as lines.",
            complexity: "O(N)",
            run: nodes,
            subcommands: &[],
        },
        Command {
            name: "replicas",
            arity: 3,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "5.0.0",
            summary: "Lists the replicas of a node as lines.",
            complexity: "O(1)",
            run: replicas,
            subcommands: &[],
        },
        Command {
            name: "replicate",
            arity: 3,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused: the owner is agreed among the nodes.",
            complexity: "O(1)",
            run: replicate,
            subcommands: &[],
        },
        Command {
            name: "reset",
            arity: -2,
            flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused.",
            complexity: "O(N)",
            run: reset,
            subcommands: &[],
        },
        Command {
            name: "saveconfig",
            arity: 2,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Does nothing: there is no cluster configuration file.",
            complexity: "O(1)",
            run: saveconfig,
            subcommands: &[],
        },
        Command {
            name: "set-config-epoch",
            arity: 3,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused.",
            complexity: "O(1)",
            run: set_config_epoch,
            subcommands: &[],
        },
        Command {
            name: "setslot",
            arity: -4,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &[],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Refused, as ADDSLOTS.",
            complexity: "O(1)",
            run: setslot,
            subcommands: &[],
        },
        Command {
            name: "shards",
            arity: 2,
            flags: Flags::STALE,
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "7.0.0",
            summary: "Lists runs of slots and the nodes that serve them, with state.",
            complexity: "O(N)",
            run: shards,
            subcommands: &[],
        },
        Command {
            name: "slaves",
            arity: 3,
            flags: Flags::ADMIN.union(Flags::STALE),
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "The former name of REPLICAS.",
            complexity: "O(1)",
            run: replicas,
            subcommands: &[],
        },
        Command {
            name: "slots",
            arity: 2,
            flags: Flags::STALE,
            keys: &[],
            categories: &[],
            tips: &["nondeterministic_output"],
            group: Group::Cluster,
            since: "3.0.0",
            summary: "Lists runs of slots and the nodes that serve them.",
            complexity: "O(N)",
            run: slots,
            subcommands: &[],
        },
    ],
}];

const DISABLED: Error = Error::new("ERR This instance has cluster support disabled");
const BAD_SLOT: Error = Error::new("ERR Invalid or out of range slot");
const ASSIGNED: Error = Error::new("ERR Slots are assigned by the directive cluster-owner");

/// The cluster as this client is to see it.
fn face(c: &Call<'_, '_>) -> Result<Face, Error> {
    let config = c.engine.config.read();
    let topology = c.engine.topology.read();
    if !topology.emulates(&config) {
        return Err(DISABLED);
    }
    Ok(topology.face(&config, &c.session.client.local_addr))
}

fn slots(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?.write_slots(&mut c.reply);
    Ok(())
}

fn shards(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?.write_shards(&mut c.reply);
    Ok(())
}

fn nodes(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let lines = face(c)?.lines(c.keys.now_ms());
    c.reply.verbatim(*b"txt", lines.as_bytes());
    Ok(())
}

fn info(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let info = face(c)?.info();
    c.reply.verbatim(*b"txt", info.as_bytes());
    Ok(())
}

fn myid(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.bulk(face(c)?.own().id.as_bytes());
    Ok(())
}

fn myshardid(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.bulk(face(c)?.shard_id().as_bytes());
    Ok(())
}

fn links(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    c.reply.array(0);
    Ok(())
}

fn keyslot(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    c.reply.int(slot_of(&c.args[2]).into());
    Ok(())
}

fn countkeysinslot(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    let slot = slot_arg(integer(&c.args[2])?).ok_or(Error::new("ERR Invalid slot"))?;
    let mut count = 0;
    each_key_in_slot(c, slot, |_| {
        count += 1;
        true
    });
    c.reply.int(count);
    Ok(())
}

fn getkeysinslot(c: &mut Call<'_, '_>) -> Result<(), Error> {
    const BAD: Error = Error::new("ERR Invalid slot or number of keys");
    face(c)?;
    let (slot, most) = (integer(&c.args[2])?, integer(&c.args[3])?);
    let slot = slot_arg(slot).ok_or(BAD)?;
    let most = usize::try_from(most).map_err(|_| BAD)?;
    let mut keys = Vec::new();
    each_key_in_slot(c, slot, |key| {
        let wanted = keys.len() < most;
        if wanted {
            keys.push(key.to_vec());
        }
        wanted
    });
    c.reply.array(keys.len());
    keys.iter().for_each(|key| c.reply.bulk(key));
    Ok(())
}

/// Visits the keys of database 0 in a slot until told to stop.
fn each_key_in_slot(c: &mut Call<'_, '_>, slot: u16, mut visit: impl FnMut(&[u8]) -> bool) {
    let (space, now_ms) = (c.engine.space_of(0), c.keys.now_ms());
    c.keys.walk(0, |_, cell| {
        for entry in cell.shard.entries(space) {
            let is_there = || entry.value_at(now_ms).is_some();
            if slot_of(entry.key()) == slot && is_there() && !visit(entry.key()) {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
}

fn slot_arg(slot: i64) -> Option<u16> {
    u16::try_from(slot).ok().filter(|slot| *slot < SLOTS)
}

fn slot_named(arg: &[u8]) -> Result<u16, Error> {
    number::parse_i64(arg).and_then(slot_arg).ok_or(BAD_SLOT)
}

/// The node of an id.
fn known(face: &Face, id: &[u8]) -> Result<usize, Error> {
    face.find(id).ok_or_else(|| format!("ERR Unknown node {}", String::from_utf8_lossy(id)).into())
}

fn replicas(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let face = face(c)?;
    let master = known(&face, &c.args[2])?;
    if matches!(face.nodes[master].role, Role::Replica(_)) {
        return Err(Error::new("ERR The specified node is not a master"));
    }
    let replicas = face.replicas(master);
    c.reply.array(replicas.clone().count());
    replicas.for_each(|at| c.reply.bulk(face.line(at, c.keys.now_ms()).as_bytes()));
    Ok(())
}

fn count_failure_reports(c: &mut Call<'_, '_>) -> Result<(), Error> {
    known(&face(c)?, &c.args[2])?;
    c.reply.int(0);
    Ok(())
}

fn bumpepoch(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let epoch = face(c)?.epoch;
    c.reply.simple(&format!("STILL {epoch}"));
    Ok(())
}

fn saveconfig(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    c.reply.ok();
    Ok(())
}

/// Hands the slots to this node: the partners learn it with the batch.
fn failover(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let face = face(c)?;
    match c.args.get(2) {
        Some(how) if c.args.len() > 3 || !(is(how, "force") || is(how, "takeover")) => {
            return Err(Error::SYNTAX);
        }
        _ => {}
    }
    if matches!(face.own().role, Role::Master(_)) {
        return Err(Error::new("ERR You should send CLUSTER FAILOVER to a replica"));
    }
    if face.own().syncing {
        return Err(Error::new("ERR This node still takes over data from its partners"));
    }
    let own = face.own().node.to_string();
    let stamp = c.keys.stamp();
    c.engine.merge_register(Register::Owner, stamp, own.as_bytes());
    c.keys.record(&Record::Register(Register::Owner, own.as_bytes()));
    c.reply.ok();
    Ok(())
}

fn assign_slots(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    let slots = c.args.iter().skip(2).map(slot_named).collect::<Result<Vec<_>, _>>()?;
    Err(busy(slots[0]))
}

fn withdraw_slots(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    for arg in c.args.iter().skip(2) {
        slot_named(arg)?;
    }
    Err(ASSIGNED)
}

fn assign_ranges(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    Err(busy(first_of_ranges(c, "addslotsrange")?))
}

fn withdraw_ranges(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    first_of_ranges(c, "delslotsrange")?;
    Err(ASSIGNED)
}

fn first_of_ranges(c: &Call<'_, '_>, sub: &str) -> Result<u16, Error> {
    if c.args.len() % 2 == 1 {
        return Err(Error::wrong_arity(&format!("cluster|{sub}")));
    }
    for at in (2..c.args.len()).step_by(2) {
        let (start, end) = (slot_named(&c.args[at])?, slot_named(&c.args[at + 1])?);
        if start > end {
            let text = format!("ERR start slot number {start} is greater than end slot number {end}");
            return Err(text.into());
        }
    }
    slot_named(&c.args[2])
}

/// All slots have an owner.
fn busy(slot: u16) -> Error {
    format!("ERR Slot {slot} is already busy").into()
}

fn flushslots(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    Err(ASSIGNED)
}

fn setslot(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let face = face(c)?;
    slot_named(&c.args[2])?;
    let args = c.args;
    match (&args[3], args.get(4), args.len()) {
        (how, Some(id), 5) if is(how, "migrating") || is(how, "importing") => {
            let unknown = || format!("ERR I don't know about node {}", String::from_utf8_lossy(id));
            face.find(id).ok_or_else(unknown)?;
        }
        (how, None, 4) if is(how, "stable") => {}
        (how, Some(id), 5) if is(how, "node") => {
            known(&face, id)?;
        }
        _ => {
            let text = "ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP";
            return Err(Error::new(text));
        }
    }
    Err(ASSIGNED)
}

fn forget(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let face = face(c)?;
    if face.nodes[known(&face, &c.args[2])?].is_self {
        return Err(Error::new("ERR I tried hard but I can't forget myself..."));
    }
    Err(Error::new("ERR Members are removed with MELD, not with CLUSTER"))
}

fn replicate(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let face = face(c)?;
    if face.nodes[known(&face, &c.args[2])?].is_self {
        return Err(Error::new("ERR Can't replicate myself"));
    }
    Err(Error::new(
        "ERR The owner is agreed among the nodes: send CLUSTER FAILOVER to the one that shall own",
    ))
}

fn meet(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    Err(Error::new("ERR Partners are named by the directive peer"))
}

fn reset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    match c.args.get(2) {
        Some(how) if c.args.len() > 3 || !(is(how, "hard") || is(how, "soft")) => Err(Error::SYNTAX),
        _ => Err(Error::new("ERR CLUSTER RESET can't be called with master nodes containing keys")),
    }
}

fn set_config_epoch(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    integer(&c.args[2])?;
    Err(Error::new("ERR The user can assign a config epoch only when the node does not know any other node."))
}

fn cluster_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    face(c)?;
    family::help(
        c,
        &[
            ("COUNTKEYSINSLOT <slot>", "Counts the keys of database 0 in a slot; looks at all keys."),
            ("FAILOVER [FORCE|TAKEOVER]", "Makes this node the owner of all slots."),
            ("GETKEYSINSLOT <slot> <count>", "Lists keys of database 0 in a slot; looks at all keys."),
            ("INFO", "Tells the state of the cluster."),
            ("KEYSLOT <key>", "Computes the slot of a key."),
            ("MYID", "Tells the id of this node."),
            ("MYSHARDID", "Tells the id of this node's shard."),
            ("NODES", "Lists the nodes as lines."),
            ("REPLICAS <node-id>", "Lists the replicas of a node as lines."),
            ("SHARDS", "Lists runs of slots and the nodes that serve them, with state."),
            ("SLOTS", "Lists runs of slots and the nodes that serve them."),
        ],
    );
    Ok(())
}
