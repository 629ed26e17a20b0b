//! The directory of a node, looked at and tampered with from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Server;

pub(crate) const ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];
pub(crate) const EVERYSEC: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec"];

/// The names of a node's data files, in order: snapshots, then journals, each by number.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("meldis.snapshot.") || name.starts_with("meldis.journal."))
        .collect();
    names.sort_by_key(|name| (name.starts_with("meldis.journal."), number(name)));
    names
}

fn number(name: &str) -> u64 {
    name.trim_end_matches(".new").rsplit('.').next().unwrap().parse().unwrap()
}

/// The names of the journals.
pub(crate) fn journals(dir: &Path) -> Vec<String> {
    names(dir).into_iter().filter(|name| name.starts_with("meldis.journal.")).collect()
}

/// The journal that is written, or was last.
pub(crate) fn last_journal(server: &Server) -> PathBuf {
    server.data_dir().join(journals(&server.data_dir()).last().expect("a journal"))
}

/// Copies the data as `cp` would: the snapshot, then the journals, oldest first. A prefix of what was written, as after a
/// power loss. False if a snapshot took the place of something meanwhile.
pub(crate) fn copy(from: &Path, to: &Path) -> bool {
    fs::create_dir_all(to).unwrap();
    let names = names(from).into_iter().filter(|name| !name.ends_with(".new"));
    names.into_iter().all(|name| match fs::copy(from.join(&name), to.join(&name)) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{name}: {error}");
            false
        }
    })
}

/// A small disk at a directory, for as long as this lives.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Declare it after the server: it goes first.
    #[track_caller]
    pub(crate) fn at(dir: &Path, size: &str) -> SmallDisk {
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).output().unwrap();
        let why = String::from_utf8_lossy(&mounted.stderr);
        assert!(mounted.status.success(), "these tests need to be root, to mount a small tmpfs: {why}");
        SmallDisk(dir.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the space there is.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        while file.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What a node says of its data when nobody writes.
#[track_caller]
pub(crate) fn digests(server: &Server) -> [String; 3] {
    let mut client = server.client();
    ["MELD DIGEST", "DEBUG DIGEST", "INFO keyspace"].map(|question| client.run(question).text())
}
