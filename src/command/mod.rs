//! The commands: one file per family, each opening with its table.
//!
//! A command is an entry in a table and a function in the rhythm: read arguments, look at the key, decide,
//! apply, notify, reply. Functions that several families share stand in [`parse`], [`family`], [`scan`] and [`pick`].

pub mod parse;
pub mod family;
pub mod scan;
pub mod pick;
pub mod key;
pub mod expire;
pub mod keyspace;
pub mod object;
pub mod sort;
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
pub mod transaction;
pub mod connection;
pub mod client;
pub mod config;
pub mod info;
pub mod server;
pub mod catalogue;
pub mod diagnosis;
pub mod pubsub;
pub mod cluster;
pub mod meld_allowlist;
pub mod meld_check;
pub mod meld_feed;
pub mod replication;
pub mod debug;
pub mod meld;

use crate::engine::command::Command;

/// All tables.
pub const TABLES: &[&[Command]] = &[
    key::COMMANDS,
    expire::COMMANDS,
    keyspace::COMMANDS,
    object::COMMANDS,
    sort::COMMANDS,
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
    transaction::COMMANDS,
    connection::COMMANDS,
    client::COMMANDS,
    config::COMMANDS,
    info::COMMANDS,
    server::COMMANDS,
    catalogue::COMMANDS,
    diagnosis::COMMANDS,
    pubsub::COMMANDS,
    cluster::COMMANDS,
    replication::COMMANDS,
    debug::COMMANDS,
    meld::COMMANDS,
];
