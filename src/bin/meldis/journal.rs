//! `meldis journal`: what is written, by all nodes, as it happens or since a token.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use meldis::server::log::date;

use crate::client::{Answer, Client, Login, bytes, field, int, items, quoted, text};

/// Between two questions while nothing is written.
const PAUSE: Duration = Duration::from_millis(100);

/// Which node, and from where on.
#[derive(Args)]
pub(crate) struct Journal {
    /// The node: HOST:PORT. It tells what all nodes write, as far as it has merged it.
    node: String,
    /// Shows what was written since this token and ends. Without it: what is written from now on, until Ctrl-C.
    #[arg(long)]
    since: Option<String>,
    /// Goes on with what is written from now on.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    login: Login,
}

/// Prints a line for each effect, and at the end the token to go on from.
///
/// # Errors
/// If the node cannot be asked, or no longer has what was written since the token.
pub(crate) fn run(journal: &Journal) -> io::Result<()> {
    let mut client = Client::connect(&journal.node, &journal.login)?;
    let follows = journal.follow || journal.since.is_none();
    let mut since = match &journal.since {
        Some(token) => token.clone(),
        None => text(&items(&client.ask(&["MELD", "EFFECTS"])?)?[0])?,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        let page = client.ask(&["MELD", "EFFECTS", "SINCE", &since])?;
        let [next, effects] = items(&page)? else { return Err(crate::client::unexpected()) };
        let next = text(next)?;
        let printed = items(effects)?.iter().try_for_each(|effect| writeln!(out, "{}", line(effect)?));
        match printed.and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
        if next == since {
            if !follows {
                eprintln!("up to token {since}");
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        since = next;
    }
}

/// Time, stamp, origin and batch, database, command, and the name of the list item.
fn line(effect: &Answer) -> io::Result<String> {
    let at_ms = u64::try_from(int(field(effect, "time")?)?).unwrap_or(0);
    let words = items(field(effect, "command")?)?.iter().filter_map(bytes);
    let mut words: Vec<String> = words.map(quoted).collect();
    // The name of a command needs no quotes.
    if let Some(name) = words.first_mut() {
        *name = name.trim_matches('"').to_owned();
    }
    let item = bytes(field(effect, "item")?).map(|item| format!("  item {}", String::from_utf8_lossy(item)));
    Ok(format!(
        "{}  {}  {}:{}  db{}  {}{}",
        date(at_ms),
        text(field(effect, "stamp")?)?,
        text(field(effect, "origin")?)?,
        int(field(effect, "batch")?)?,
        int(field(effect, "db")?)?,
        words.join(" "),
        item.unwrap_or_default()
    ))
}
