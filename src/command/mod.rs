//! The commands: one file per family, each opening with its table.
//!
//! A command is an entry in a table and a function in the rhythm: read arguments, look at the key, decide,
//! apply, notify, reply. Functions that several families share stand in [`parse`].

pub mod parse;
pub mod family;
pub mod string;
pub mod connection;
pub mod client;
pub mod config;
pub mod info;
pub mod server;
pub mod catalogue;
pub mod diagnosis;

use crate::engine::command::Command;

/// All tables.
pub const TABLES: &[&[Command]] = &[string::COMMANDS, connection::COMMANDS, client::COMMANDS, config::COMMANDS, info::COMMANDS, server::COMMANDS, catalogue::COMMANDS, diagnosis::COMMANDS];
