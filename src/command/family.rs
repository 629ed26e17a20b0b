//! What commands with subcommands share.

use crate::engine::call::Call;
use crate::engine::error::{Error, QUOTED_BYTES_MAX};
use crate::resp::args::Args;

/// The function of a command that only has subcommands: its arity keeps it from being reached.
///
/// # Errors
/// Always.
pub fn container(_: &mut Call<'_, '_>) -> Result<(), Error> {
    Err(Error::SYNTAX)
}

/// The error of a subcommand that itself finds its arguments too many.
pub fn wrong_number(args: Args<'_>) -> Error {
    let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
    text.extend_from_slice(Error::quotable(&args[1], QUOTED_BYTES_MAX));
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(&args[0].to_ascii_uppercase());
    text.extend_from_slice(b" HELP.");
    text.into()
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
