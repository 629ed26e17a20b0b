//! What of a node is on disk besides its identity: a *snapshot*, and *journals* that go on from it.
//!
//! A journal says, in the order in which it came about, all that has changed the node's data: batches of any origin, and the
//! pieces of ranges that were pulled. A snapshot is the state of all ranges, read piece by piece while writes go on, and the
//! vector from before the first piece. Reading the snapshot and then the journals from the one of its number on gives the
//! node as it was: a piece may hold more than the vector tells, but that is in the journals, and merging it again changes
//! nothing.
//!
//! ```text
//! meldis.snapshot.7    Snapshot, Chunk ..., End        whole, or it is not there: it gets its name when it is
//! meldis.journal.7     Journal, Segment ...            begun at the moment of the snapshot's vector
//! meldis.journal.8     Journal, Segment ...            after a restart
//! ```
//! Where there is no snapshot the journals begin with number 1, and with nothing. A snapshot makes what has a smaller number
//! superfluous.
//!
//! Both kinds of file are [`Entry`]s in the form of the link's frames (`link/frame.rs`), each with its length and checksums.
//! What a crash leaves at the end of the last journal is cut off ([`Next::Torn`]); damage with whole entries behind it is
//! refused ([`Next::Damaged`]).
//!
//! Here are the names, the entries and their reader. What is written when is `engine::persistence`; files are
//! `server::journal`.

mod entry;
mod reader;

pub use entry::{Entry, Head, VERSION};
pub use reader::{Next, Reader};

/// The files of a data directory that make up the node's data.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Files {
    /// The snapshot to begin with.
    pub snapshot: Option<u64>,
    /// The journals that go on from it, in order.
    pub journals: Vec<u64>,
    /// Files that a snapshot has made superfluous, or that are the beginning of one.
    pub superfluous: Vec<String>,
}

/// A journal is not there that others go on from. Its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} is missing", journal_name(*.0))]
pub struct Missing(pub u64);

/// The name of a snapshot.
pub fn snapshot_name(number: u64) -> String {
    format!("meldis.snapshot.{number}")
}

/// The name of a snapshot that is being written.
pub fn unfinished_name(number: u64) -> String {
    format!("meldis.snapshot.{number}.new")
}

/// The name of a journal.
pub fn journal_name(number: u64) -> String {
    format!("meldis.journal.{number}")
}

impl Files {
    /// Picks them out of the names in a directory.
    ///
    /// # Errors
    /// If a journal is missing in between.
    pub fn among(names: impl IntoIterator<Item = String>) -> Result<Files, Missing> {
        let (mut snapshots, mut journals, mut files) = (Vec::new(), Vec::new(), Files::default());
        for name in names {
            let number = |prefix: &str| name.strip_prefix(prefix)?.parse().ok().filter(|number| *number > 0);
            if let Some(number) = number("meldis.snapshot.") {
                snapshots.push(number);
            } else if let Some(number) = number("meldis.journal.") {
                journals.push(number);
            } else if name.starts_with("meldis.snapshot.") && name.ends_with(".new") {
                files.superfluous.push(name);
            }
        }
        files.snapshot = snapshots.iter().copied().max();
        let first = files.snapshot.unwrap_or(1);
        let old = |number: &u64| *number < first;
        files.superfluous.extend(snapshots.iter().copied().filter(old).map(snapshot_name));
        files.superfluous.extend(journals.iter().copied().filter(old).map(journal_name));
        journals.retain(|number| !old(number));
        journals.sort_unstable();
        match (first..).zip(&journals).find(|(expected, number)| expected != *number) {
            Some((missing, _)) => return Err(Missing(missing)),
            None if journals.is_empty() && files.snapshot.is_some() => return Err(Missing(first)),
            None => {}
        }
        files.journals = journals;
        Ok(files)
    }

    /// The number of the next journal.
    pub fn next(&self) -> u64 {
        self.journals.last().map_or(1, |last| last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected<'a> = (Option<u64>, &'a [u64], &'a [&'a str]);

    fn check(names: &[&str], expected: Result<Expected<'_>, u64>) {
        let found = Files::among(names.iter().map(|name| (*name).to_owned()));
        let expected = expected.map_err(Missing).map(|(snapshot, journals, superfluous)| Files {
            snapshot,
            journals: journals.to_vec(),
            superfluous: superfluous.iter().map(|name| (*name).to_owned()).collect(),
        });
        assert_eq!(found, expected, "{names:?}");
    }

    #[test]
    fn the_newest_snapshot_and_the_journals_from_it_on_make_up_the_data() {
        check(&["meldis.node", "dump.rdb"], Ok((None, &[], &[])));
        check(&["meldis.journal.2", "meldis.journal.1"], Ok((None, &[1, 2], &[])));
        check(&["meldis.journal.2"], Err(1));
        check(&["meldis.journal.1", "meldis.journal.3"], Err(2));
        let (old, new) =
            (["meldis.snapshot.3", "meldis.journal.3"], ["meldis.snapshot.5", "meldis.journal.5"]);
        check(&new, Ok((Some(5), &[5], &[])));
        check(&[old[0], new[0], old[1], new[1], "meldis.journal.6"], Ok((Some(5), &[5, 6], &old)));
        check(&[new[0], "meldis.journal.6"], Err(5));
        check(&[new[0]], Err(5));
        check(&["meldis.journal.1", "meldis.snapshot.2.new"], Ok((None, &[1], &["meldis.snapshot.2.new"])));
        check(&["meldis.journal.0", "meldis.journal.x"], Ok((None, &[], &[])));
    }
}
