//! The replies to HELP subcommands: Redis's layout, our words.

use crate::engine::call::Call;
use crate::resp::reply::Reply;

/// Answers with one line per element: usage, then each subcommand with what it does, last HELP itself.
pub fn reply_help(c: &mut Call<'_, '_>, subcommands: &[(&str, &str)]) {
    let command = String::from_utf8_lossy(&c.args[0]).to_uppercase();
    let reply: &mut Reply<'_> = &mut c.reply;
    reply.array(2 * subcommands.len() + 3);
    reply.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (usage, meaning) in subcommands {
        reply.simple(usage);
        reply.simple(&format!("    {meaning}"));
    }
    reply.simple("HELP");
    reply.simple("    Prints this help.");
}
