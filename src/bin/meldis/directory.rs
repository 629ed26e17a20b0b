//! `meldis journal DIR`: the effects in the files of a data directory, in the order of the journals.
//!
//! The node may run. Nothing is locked or written; all files are opened before the first is read, so that none vanishes in
//! between when a snapshot makes it superfluous. What is state and not effects (a snapshot, ranges that were pulled) is one
//! line on standard error.
//!
//! A batch is told once: one that came during a pull that broke off may stand in a journal twice.
//!
//! Memory: one entry of a file, and every SWAPDB in the journals: no file says which of them nothing can come before.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use meldis::clock::{Origin, Stamp, unix_ms_from_ntp};
use meldis::engine::databases::{DATABASES_MAX, Databases};
use meldis::engine::effects::{self, Effect};
use meldis::journal::{self, Entry, Files, Head, Next, Reader, VERSION};
use meldis::link::batch::{Batch, Record};
use meldis::link::codec::{self, Malformed};
use meldis::link::frame::FrameError;
use meldis::link::vector::{Progress, Vector};
use meldis::store::delta::Change;

use crate::journal::Line;

/// How often the directory is listed when files that were listed are not there: a snapshot has made them superfluous.
const LISTINGS: usize = 5;

/// Prints a line for each effect behind the token, and on standard error the token to go on from.
///
/// # Errors
/// If a file is missing, damaged or of another version, or if what was written since the token is not there as effects.
pub(crate) fn print(dir: &Path, since: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    let parse = |token: &str| {
        let invalid =
            || io::Error::other("invalid token: it is what MELD TOKEN answers, or what this tool ends with");
        Vector::parse(token).ok_or_else(invalid)
    };
    let since = since.map(parse).transpose()?;
    let sources = open(dir)?;
    let mut telling = Telling {
        out,
        since,
        reached: Reached::default(),
        databases: Databases::new(DATABASES_MAX as usize),
        snapshot: None,
        pull: None,
    };
    let count = sources.len();
    for (at, source) in sources.into_iter().enumerate() {
        telling.read(dir, &source, at + 1 == count)?;
    }
    telling.finish()
}

/// A file to read.
struct Source {
    name: String,
    is_snapshot: bool,
    file: File,
}

impl Source {
    /// Whether a file of this name may begin so.
    fn begins(&self, entry: &Entry) -> bool {
        match self.is_snapshot {
            true => matches!(entry, Entry::Snapshot { .. }),
            false => matches!(entry, Entry::Journal(_)),
        }
    }
}

/// The files that make up the data, in order.
fn open(dir: &Path) -> io::Result<Vec<Source>> {
    let mut opened = open_listed(dir);
    for _ in 1..LISTINGS {
        match &opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => opened = open_listed(dir),
            _ => break,
        }
    }
    opened
}

fn open_listed(dir: &Path) -> io::Result<Vec<Source>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| named(dir, &error))? {
        // A name that is no text is none of ours.
        names.extend(entry.map_err(|error| named(dir, &error))?.file_name().into_string());
    }
    let files = Files::among(names).map_err(|missing| {
        let problem = format!(
            "{}: {missing}, and what follows it cannot be told without it: see whether it was moved away",
            dir.display()
        );
        io::Error::new(io::ErrorKind::NotFound, problem)
    })?;
    if files.journals.is_empty() {
        return Err(io::Error::other(format!("no journal in {}: is appendonly on?", dir.display())));
    }
    let snapshot = files.snapshot.map(|number| (journal::snapshot_name(number), true));
    let journals = files.journals.iter().map(|number| (journal::journal_name(*number), false));
    let open = |(name, is_snapshot): (String, bool)| {
        let path = dir.join(&name);
        let file = File::open(&path).map_err(|error| named(&path, &error))?;
        Ok(Source { name, is_snapshot, file })
    };
    snapshot.into_iter().chain(journals).map(open).collect()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => ": read it as the user that the node runs as",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{}: {error}{hint}", path.display()))
}

/// Why it does not go on.
enum Stop {
    /// Nobody reads what is printed.
    Output(io::Error),
    /// The file holds what makes no sense.
    Nonsense(Malformed),
    /// It was written by another version.
    Version(u16),
    /// What was written since the token is state here.
    Untold(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

impl From<Malformed> for Stop {
    fn from(error: Malformed) -> Stop {
        Stop::Nonsense(error)
    }
}

/// A directory that is being read.
struct Telling<'a, W> {
    out: &'a mut W,
    since: Option<Vector>,
    reached: Reached,
    /// More than any node whose databases were swapped: the tool cannot know how many there are.
    databases: Databases,
    /// The vector of the snapshot that is being read, and its keys so far.
    snapshot: Option<(Vector, u64)>,
    /// The giver of the ranges that are being pulled, and their keys so far.
    pull: Option<(Origin, u64)>,
}

impl<W: Write> Telling<'_, W> {
    fn read(&mut self, dir: &Path, source: &Source, is_last: bool) -> io::Result<()> {
        let path = dir.join(&source.name);
        let damaged = |at, error: &dyn fmt::Display| damaged(&path, at, error);
        let mut reader = Reader::new(&source.file);
        loop {
            let at = reader.offset();
            match reader.read().map_err(|error| named(&path, &error))? {
                Next::Entry(entry, _) if at == 0 && !source.begins(&entry) => {
                    return Err(damaged(0, &"it begins as no file of this name"));
                }
                Next::Entry(entry, tail) => {
                    self.take(source, entry, tail).map_err(|stop| match stop {
                        Stop::Output(error) => error,
                        Stop::Nonsense(error) => damaged(at, &error),
                        Stop::Version(version) => foreign(&path, version),
                        Stop::Untold(problem) => io::Error::other(format!("{}: {problem}", dir.display())),
                    })?;
                }
                // It gets its name when it is whole.
                Next::End | Next::Torn(_) if source.is_snapshot && (at == 0 || self.snapshot.is_some()) => {
                    return Err(damaged(at, &"the snapshot's end is missing"));
                }
                Next::End => return Ok(()),
                Next::Torn(at) if is_last => {
                    let why = "the node was writing, or stopped, in the middle of what follows";
                    return self.remark(&format!("{} ends at byte {at}: {why}", source.name));
                }
                Next::Torn(at) => return Err(damaged(at, &"it is cut off, and others go on behind it")),
                Next::Damaged(0, error @ FrameError::Malformed(_)) => {
                    return Err(damaged(0, &format!("{error}, or another version of Meldis wrote it")));
                }
                Next::Damaged(at, error) => return Err(damaged(at, &error)),
            }
        }
    }

    fn take(&mut self, source: &Source, entry: Entry, tail: &[u8]) -> Result<(), Stop> {
        match entry {
            Entry::Journal(head) => check_version(&head),
            Entry::Snapshot { head, vector, torn: _, globals } => {
                check_version(&head)?;
                if !self.reaches(&vector) {
                    return Err(Stop::Untold(format!(
                        "the journals no longer reach back to this token: some of what was written since is in {} as \
                         data, not as effects. Ask another node, or begin anew without --since",
                        source.name
                    )));
                }
                self.databases.merge(&globals.swaps);
                self.snapshot = Some((vector, 0));
                Ok(())
            }
            Entry::Segment { origin, first, count, watermark: _, seen: _ } => {
                self.tell_segment(origin, first, count, tail)
            }
            Entry::Given { giver, vector: _, globals } => {
                self.break_off()?;
                self.databases.merge(&globals.swaps);
                self.pull = Some((giver, 0));
                Ok(())
            }
            Entry::Chunk { .. } => {
                let keys = match (&mut self.snapshot, &mut self.pull) {
                    (Some((_, keys)), _) | (None, Some((_, keys))) => keys,
                    (None, None) => {
                        return Err(codec::malformed("a piece of a range that nobody gave").into());
                    }
                };
                *keys += count_keys(tail)?;
                Ok(())
            }
            Entry::Pulled { vector } => self.end_pull(&vector),
            Entry::Dropped { follows } => {
                self.break_off()?;
                let whom = follows.map_or("a primary".to_owned(), |(host, port)| format!("{host}:{port}"));
                Ok(self.remark(&format!("here the node dropped what it held, to follow {whom}"))?)
            }
            Entry::Alone => Ok(self.remark("here the node ceased to follow a primary")?),
            Entry::End => {
                let (vector, keys) =
                    self.snapshot.take().ok_or(codec::malformed("the end of no snapshot"))?;
                let name = &source.name;
                self.remark(&format!(
                    "{name} holds what was written before: {keys} keys, up to token {vector}"
                ))?;
                self.reached.adopt(&vector);
                Ok(())
            }
        }
    }

    fn tell_segment(&mut self, origin: Origin, first: u64, count: u64, batches: &[u8]) -> Result<(), Stop> {
        let (mut rest, mut number) = (batches, first);
        let after = self.since.as_ref().map_or(0, |since| since.of(origin).sequence);
        while let Some((batch, behind)) = Batch::split(rest)? {
            if self.reached.is_news(origin, number) {
                merge_swaps(&self.databases, origin, &batch)?;
                if number > after {
                    self.tell(origin, number, &batch)?;
                }
            }
            (rest, number) = (behind, number.saturating_add(1));
        }
        if count == 0 || first.checked_add(count) != Some(number) {
            return Err(codec::malformed("a segment of another length than it says").into());
        }
        self.reached.read(origin, Run { first, last: number - 1 });
        Ok(())
    }

    fn tell(&mut self, origin: Origin, number: u64, batch: &Batch<'_>) -> Result<(), Stop> {
        let (databases, out) = (&self.databases, &mut *self.out);
        let mut written = Ok(());
        effects::of_batch(
            origin,
            number,
            batch,
            |space| databases.db_of(space),
            |effect| {
                if written.is_ok() {
                    written = writeln!(out, "{}", line(&effect));
                }
            },
        )?;
        Ok(written?)
    }

    /// The ranges are there, and with them all that the vector tells of.
    fn end_pull(&mut self, vector: &Vector) -> Result<(), Stop> {
        let (giver, keys) = self.pull.take().ok_or(codec::malformed("the end of no pull"))?;
        if !self.reaches(vector) {
            return Err(Stop::Untold(format!(
                "some of what was written since this token came to this node as data, not as effects: in ranges of node \
                 {}. Ask another node, or begin anew without --since",
                giver.node()
            )));
        }
        self.remark(&format!("ranges pulled from node {}: {keys} keys, up to token {vector}", giver.node()))?;
        self.reached.adopt(vector);
        Ok(())
    }

    /// If a pull has not come to its end, says so.
    fn break_off(&mut self) -> io::Result<()> {
        match self.pull.take() {
            Some((giver, keys)) => {
                let node = giver.node();
                self.remark(&format!("ranges pulled from node {node}: {keys} keys, then the pull broke off"))
            }
            None => Ok(()),
        }
    }

    /// Whether all that is behind the token and in this vector was told.
    fn reaches(&self, vector: &Vector) -> bool {
        let Some(since) = &self.since else { return true };
        vector
            .iter()
            .all(|(origin, there)| there.sequence <= self.reached.from(origin, since.of(origin).sequence))
    }

    fn finish(mut self) -> io::Result<()> {
        self.break_off()?;
        let mut token = self.since.take().unwrap_or_default();
        token.join(&self.reached.vector);
        self.remark(&format!("up to token {token}"))
    }

    /// Says something on standard error, behind what was printed before.
    fn remark(&mut self, text: &str) -> io::Result<()> {
        self.out.flush()?;
        // Whoever has closed it does not want to hear it.
        let _ = writeln!(io::stderr(), "{text}");
        Ok(())
    }
}

/// Consecutive batches.
#[derive(Clone, Copy)]
struct Run {
    first: u64,
    last: u64,
}

/// How far the batches were read.
#[derive(Default)]
struct Reached {
    /// What the node had by then.
    vector: Vector,
    /// Of each origin the batches read last. While ranges are pulled they may lie beyond the vector.
    runs: BTreeMap<Origin, Run>,
}

impl Reached {
    /// Whether a batch was not read before, as effects or in ranges.
    fn is_news(&self, origin: Origin, number: u64) -> bool {
        let again = self.runs.get(&origin).is_some_and(|run| (run.first..=run.last).contains(&number));
        number > self.vector.of(origin).sequence && !again
    }

    fn read(&mut self, origin: Origin, read: Run) {
        let run = self.runs.entry(origin).or_insert(read);
        let touches = read.first >= run.first && read.first <= run.last.saturating_add(1);
        *run = if touches { Run { first: run.first, last: run.last.max(read.last) } } else { read };
        if read.first <= self.vector.of(origin).sequence.saturating_add(1) {
            self.vector.advance(origin, Progress { sequence: read.last, ..Progress::NONE });
        }
    }

    fn adopt(&mut self, vector: &Vector) {
        self.vector.join(vector);
    }

    /// How far who had an origin's batches up to `sequence` has them with those read.
    fn from(&self, origin: Origin, sequence: u64) -> u64 {
        let had = sequence.max(self.vector.of(origin).sequence);
        let run = self.runs.get(&origin).filter(|run| run.first <= had.saturating_add(1));
        run.map_or(had, |run| had.max(run.last))
    }
}

fn check_version(head: &Head) -> Result<(), Stop> {
    if head.version == VERSION { Ok(()) } else { Err(Stop::Version(head.version)) }
}

fn foreign(path: &Path, version: u16) -> io::Error {
    io::Error::other(format!(
        "{}: it was written by another version of Meldis: its form is {version}, this tool reads {VERSION}. Take the tool \
         of that version",
        path.display()
    ))
}

fn damaged(path: &Path, at: u64, error: &dyn fmt::Display) -> io::Error {
    io::Error::other(format!(
        "{}: damaged at byte {at}: {error}. What follows may be had from another node, or from its directory",
        path.display()
    ))
}

/// Databases that changed places in a batch.
fn merge_swaps(databases: &Databases, origin: Origin, batch: &Batch<'_>) -> Result<(), Malformed> {
    let mut stamp = Stamp::new(batch.time, origin);
    batch.each(|record| match record {
        Record::Time(time) => stamp = Stamp::new(time, origin),
        Record::Stamp(other) => stamp = other,
        Record::Swap(a, b) => drop(databases.merge_swap(stamp, a, b)),
        Record::Key(..) | Record::Change(_) | Record::Amount(_) | Record::Flush(_) => {}
        Record::Register(..) | Record::Publish(..) | Record::ShardPublish(..) => {}
    })
}

/// The keys in a piece of a range, but for those that are deleted. They come one behind the other.
fn count_keys(records: &[u8]) -> Result<u64, Malformed> {
    let Some((batch, _)) = Batch::split(records)? else { return Ok(0) };
    let (mut keys, mut is_counted) = (0, true);
    batch.each(|record| match record {
        Record::Key(..) => is_counted = false,
        Record::Change(change) if !is_counted && is_value(&change) => {
            is_counted = true;
            keys += 1;
        }
        Record::Change(_) | Record::Time(_) | Record::Stamp(_) | Record::Amount(_) => {}
        Record::Flush(_) | Record::Swap(..) | Record::Register(..) => {}
        Record::Publish(..) | Record::ShardPublish(..) => {}
    })?;
    Ok(keys)
}

/// Whether a key with this in its state has a value.
fn is_value(change: &Change<'_>) -> bool {
    match change {
        Change::Assign(_) | Change::Value(_) | Change::Sum(_) | Change::Field(..) | Change::FieldSum(..) => {
            true
        }
        Change::Member(_) | Change::Score(..) | Change::ScoreSum(..) => true,
        Change::Item(..) | Change::ItemValue(..) => true,
        Change::Clear | Change::Kind(_) | Change::Expire(..) => false,
        Change::FieldRemove(_) | Change::MemberRemove(_) => false,
        Change::ScoreRemove(_) | Change::ItemRemove(_) => false,
    }
}

fn line(effect: &Effect) -> Line<'_> {
    Line {
        at_ms: unix_ms_from_ntp(effect.stamp.time),
        stamp: effect.stamp.to_string(),
        origin: effect.origin.to_string(),
        batch: effect.batch,
        db: effect.db.into(),
        words: effect.words.iter().map(Vec::as_slice).collect(),
        item: effect.item.clone(),
    }
}
