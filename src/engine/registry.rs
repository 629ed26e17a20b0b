//! The commands by name, and a small number for each that counters and clients refer to.
//!
//! Built once from the tables and `rename-command`. A container's subcommands are numbered right after it.

use hashbrown::HashMap;

use super::command::Command;
use crate::config::RenamedCommand;

/// Longest name found without an allocation: renamed commands tend to be digests.
const STACK_NAME_BYTES: usize = 64;

/// A command and its number.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The table's entry.
    pub command: &'static Command,
    /// Its place in [`Registry::name`].
    pub id: u16,
}

/// All commands this server has.
#[derive(Debug)]
pub struct Registry {
    by_name: HashMap<Box<[u8]>, Known, ahash::RandomState>,
    /// Full names, as `get` and `config|get`, and entries, by number.
    by_id: Vec<(String, &'static Command)>,
}

impl Registry {
    /// The commands of the tables under the names the configuration gives them.
    pub fn new(
        tables: &[&'static [Command]],
        renames: &[RenamedCommand],
        hasher: ahash::RandomState,
    ) -> Self {
        let mut registry = Registry { by_name: HashMap::with_hasher(hasher), by_id: Vec::new() };
        for command in tables.iter().flat_map(|table| table.iter()) {
            let id = u16::try_from(registry.by_id.len()).expect("a few hundred commands");
            registry.by_id.push((command.name.to_owned(), command));
            let full_name = |sub: &'static Command| (format!("{}|{}", command.name, sub.name), sub);
            registry.by_id.extend(command.subcommands.iter().map(full_name));
            registry.by_name.insert(command.name.as_bytes().into(), Known { command, id });
        }
        for rename in renames {
            let known = registry.by_name.remove(rename.from.to_ascii_lowercase().as_bytes());
            if let (Some(known), Some(to)) = (known, &rename.to) {
                registry.by_name.insert(to.to_ascii_lowercase().into_bytes().into(), known);
            }
        }
        registry
    }

    /// The command of a name, in any case of letters.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<Known> {
        let mut lower = [0u8; STACK_NAME_BYTES];
        match lower.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                self.by_name.get(&*lower).copied()
            }
            None => self.by_name.get(&*name.to_ascii_lowercase()).copied(),
        }
    }

    /// A subcommand of a container.
    pub fn find_sub(&self, parent: Known, name: &[u8]) -> Option<Known> {
        let at = parent
            .command
            .subcommands
            .iter()
            .position(|sub| sub.name.as_bytes().eq_ignore_ascii_case(name))?;
        Some(Known { command: &parent.command.subcommands[at], id: parent.id + 1 + at as u16 })
    }

    /// The full name behind a number, as `get` or `config|get`.
    pub fn name(&self, id: u16) -> &str {
        self.by_id.get(usize::from(id)).map_or("NULL", |(name, _)| name)
    }

    /// The entry behind a number.
    pub fn command(&self, id: u16) -> Option<&'static Command> {
        Some(self.by_id.get(usize::from(id))?.1)
    }

    /// How many numbers there are: commands and subcommands.
    pub fn ids(&self) -> usize {
        self.by_id.len()
    }

    /// The commands without their subcommands, in no order.
    pub fn commands(&self) -> impl Iterator<Item = Known> + '_ {
        self.by_name.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TABLES;

    #[test]
    fn commands_are_found_by_the_names_they_were_given() {
        let long = "b840fc02d524045429941cc15f59e41cb7be6c52b840fc02d524045429941cc15f59e41cb7be6c52";
        let renames = [("GET", Some("fetch")), ("config", Some(long)), ("set", None)];
        let renames: Vec<RenamedCommand> = renames
            .iter()
            .map(|(from, to)| RenamedCommand { from: (*from).into(), to: to.map(Into::into) })
            .collect();
        let registry = Registry::new(TABLES, &renames, ahash::RandomState::with_seeds(1, 2, 3, 4));
        assert!(registry.find(b"get").is_none() && registry.find(b"SET").is_none());
        let get = registry.find(b"Fetch").unwrap();
        assert_eq!((get.command.name, registry.name(get.id)), ("get", "get"));
        let config = registry.find(long.as_bytes()).unwrap();
        let set = registry.find_sub(config, b"SET").unwrap();
        assert_eq!((registry.name(set.id), registry.command(set.id).unwrap().arity), ("config|set", -4));
        assert!(registry.find(b"\xff\xfe").is_none() && registry.find(b"").is_none());
        assert_eq!(registry.name(u16::MAX), "NULL");
    }
}
