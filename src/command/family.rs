//! What commands with subcommands share.

use crate::engine::call::Call;
use crate::engine::error::Error;

/// The function of a command that only has subcommands: its arity keeps it from being reached.
///
/// # Errors
/// Always.
pub fn container(_: &mut Call<'_, '_>) -> Result<(), Error> {
    Err(Error::SYNTAX)
}

/// Answers HELP: usage lines, each with its explanation.
pub fn help(c: &mut Call<'_, '_>, subcommands: &[(&str, &str)]) {
    let name = String::from_utf8_lossy(&c.args[0]).to_uppercase();
    c.reply.array(3 + 2 * subcommands.len());
    c.reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (usage, explanation) in subcommands {
        c.reply.simple(usage);
        c.reply.simple(&format!("    {explanation}"));
    }
    c.reply.simple("HELP");
    c.reply.simple("    Prints this help.");
}
