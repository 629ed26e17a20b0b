//! `meldis journal`: what is written, by all nodes, as it happens or since a token; of a running node, or of a directory
//! of data.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use meldis::server::log::date;

use crate::client::{Answer, Client, Login, bytes, field, int, items, quoted, text, unexpected};
use crate::directory;

/// Between two questions while nothing is written.
const PAUSE: Duration = Duration::from_millis(100);

/// Which node or directory, and from where on.
#[derive(Args)]
pub(crate) struct Journal {
    /// A running node, HOST:PORT: it tells what all nodes write, as far as it has merged it. Or the directory of a node's
    /// data, whether the node runs or not.
    #[arg(value_name = "NODE|DIR")]
    source: String,
    /// Shows what was written since this token and ends. Without it: of a node what is written from now on, until Ctrl-C;
    /// of a directory all that is in its journals.
    #[arg(long)]
    since: Option<String>,
    /// Goes on with what is written from now on. Not for a directory.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    login: Login,
}

/// An effect as it is printed: time, stamp, origin and batch, database, command, and the name of the list item.
pub(crate) struct Line<'a> {
    pub(crate) at_ms: u64,
    pub(crate) stamp: String,
    pub(crate) origin: String,
    pub(crate) batch: u64,
    pub(crate) db: u64,
    pub(crate) words: Vec<&'a [u8]>,
    pub(crate) item: Option<String>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { at_ms, stamp, origin, batch, db, words, item } = self;
        write!(f, "{}  {stamp}  {origin}:{batch}  db{db}  ", date(*at_ms))?;
        for (at, word) in words.iter().enumerate() {
            // The name of a command needs no quotes.
            match at {
                0 => f.write_str(&String::from_utf8_lossy(word))?,
                _ => write!(f, " {}", quoted(word))?,
            }
        }
        item.as_ref().map_or(Ok(()), |item| write!(f, "  item {item}"))
    }
}

/// Prints a line for each effect, and at the end the token to go on from.
///
/// # Errors
/// If the node cannot be asked or the directory cannot be read, or if what was written since the token is not there.
pub(crate) fn run(journal: &Journal) -> io::Result<()> {
    let dir = Path::new(&journal.source);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = match dir.is_dir() {
        true if journal.follow => {
            let problem = "a directory is read to its end. To go on with what is written, name the running node, as \
                           HOST:PORT, for --follow";
            Err(io::Error::other(format!("{}: {problem}", journal.source)))
        }
        true => directory::print(dir, journal.since.as_deref(), &mut out),
        false => ask(journal, &mut out),
    };
    // What came before a failure is shown, too.
    match printed.and(out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints what a running node tells.
fn ask(journal: &Journal, out: &mut impl Write) -> io::Result<()> {
    let mut client = Client::connect(&journal.source, &journal.login)?;
    let follows = journal.follow || journal.since.is_none();
    let mut since = match &journal.since {
        Some(token) => token.clone(),
        None => text(&items(&client.ask(&["MELD", "EFFECTS"])?)?[0])?,
    };
    loop {
        let page = client.ask(&["MELD", "EFFECTS", "SINCE", &since])?;
        let [next, effects] = items(&page)? else { return Err(unexpected()) };
        let next = text(next)?;
        items(effects)?.iter().try_for_each(|effect| writeln!(out, "{}", line(effect)?))?;
        out.flush()?;
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

fn line(effect: &Answer) -> io::Result<Line<'_>> {
    let number = |name| u64::try_from(int(field(effect, name)?)?).map_err(|_| unexpected());
    Ok(Line {
        at_ms: number("time")?,
        stamp: text(field(effect, "stamp")?)?,
        origin: text(field(effect, "origin")?)?,
        batch: number("batch")?,
        db: number("db")?,
        words: items(field(effect, "command")?)?.iter().filter_map(bytes).collect(),
        item: bytes(field(effect, "item")?).map(|item| String::from_utf8_lossy(item).into_owned()),
    })
}
