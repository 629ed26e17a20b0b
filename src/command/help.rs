//! HELP of commands that have subcommands, from their table.

use crate::engine::call::Call;
use crate::engine::error::Error;

/// Answers HELP in Redis's form: a heading, then each subcommand and what it does.
pub fn help(c: &mut Call<'_, '_>, command: &str) -> Result<(), Error> {
    let command = c.engine.find(command.as_bytes()).expect("a command's own name");
    let name = command.name.to_uppercase();
    c.reply.array(1 + 2 * command.subcommands.len());
    c.reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for sub in command.subcommands {
        c.reply.simple(&sub.name.to_uppercase());
        c.reply.simple(&format!("    {}", sub.summary));
    }
    Ok(())
}

/// Runs in place of a command that only has subcommands: its arity asks for one, so this is never reached.
pub fn container(_: &mut Call<'_, '_>) -> Result<(), Error> {
    Err(Error::SYNTAX)
}
