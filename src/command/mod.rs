//! The commands: one file per family, each opening with its table.
//!
//! A command is an entry in a table and a function in the rhythm: read arguments, look at the key, decide,
//! apply, notify, reply. Functions that several families share stand in [`parse`].

pub mod parse;
pub mod string;
pub mod counter;
pub mod lcs;
pub mod bitmap;
pub mod bitfield;
pub mod connection;

use crate::engine::command::Command;

/// All tables.
pub const TABLES: &[&[Command]] = &[
    string::COMMANDS,
    counter::COMMANDS,
    lcs::COMMANDS,
    bitmap::COMMANDS,
    bitfield::COMMANDS,
    connection::COMMANDS,
];
