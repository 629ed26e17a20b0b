//! The commands: one file per family, each opening with its table.
//!
//! A command is an entry in a table and a function in the rhythm: read arguments, look at the key, decide,
//! apply, notify, reply. Functions that several families share stand in [`parse`].

pub mod parse;
pub mod help;
pub mod key;
pub mod expire;
pub mod keyspace;
pub mod object;
pub mod sort;
pub mod string;
pub mod transaction;
pub mod connection;
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
    transaction::COMMANDS,
    connection::COMMANDS,
    debug::COMMANDS,
    meld::COMMANDS,
];
