//! The commands: one file per family, each opening with its table.
//!
//! A command is an entry in a table and a function in the rhythm: read arguments, look at the key, decide,
//! apply, notify, reply. Functions that several families share stand in [`parse`].

pub mod parse;
pub mod string;
pub mod list;
pub mod list_blocking;
pub mod connection;

use crate::engine::command::Command;

/// All tables.
pub const TABLES: &[&[Command]] = &[string::COMMANDS, list::COMMANDS, list_blocking::COMMANDS, connection::COMMANDS];
