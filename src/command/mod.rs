//! The commands: one file per family, each opening with its table.
//!
//! A command is an entry in a table and a function in the rhythm: read arguments, look at the key, decide,
//! apply, notify, reply. Functions that several families share stand in [`parse`], [`scan`] and
//! [`pick`].

pub mod parse;
pub mod family;
pub mod scan;
pub mod pick;
pub mod string;
pub mod list;
pub mod list_blocking;
pub mod hash;
pub mod set;
pub mod set_algebra;
pub mod zset;
pub mod zset_range;
pub mod zset_algebra;
pub mod zset_pop;
pub mod counter;
pub mod lcs;
pub mod bitmap;
pub mod bitfield;
pub mod connection;
pub mod pubsub;
pub mod cluster;
pub mod meld_allowlist;
pub mod replication;

use crate::engine::command::Command;

/// All tables.
pub const TABLES: &[&[Command]] = &[
    string::COMMANDS,
    list::COMMANDS,
    list_blocking::COMMANDS,
    hash::COMMANDS,
    set::COMMANDS,
    set_algebra::COMMANDS,
    zset::COMMANDS,
    zset_range::COMMANDS,
    zset_algebra::COMMANDS,
    zset_pop::COMMANDS,
    counter::COMMANDS,
    lcs::COMMANDS,
    bitmap::COMMANDS,
    bitfield::COMMANDS,
    connection::COMMANDS,
    pubsub::COMMANDS,
    cluster::COMMANDS,
    replication::COMMANDS,
    MELD,
];

const MELD: &[Command] = &[Command {
    name: "meld",
    arity: -2,
    flags: crate::engine::command::Flags::empty(),
    keys: &[],
    categories: &[],
    tips: &[],
    group: crate::engine::command::Group::Meldis,
    since: "0.1.0",
    summary: "",
    complexity: "",
    run: |_| Ok(()),
    subcommands: &[replication::LINK, replication::PEERS, replication::RESYNC, meld_allowlist::ALLOWLIST],
}];
