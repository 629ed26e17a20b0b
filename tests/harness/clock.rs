//! Wrong wall clocks, by libfaketime (Debian package `faketime`); the monotonic one stays right.

use std::fs;
use std::path::PathBuf;

use super::place::TempDir;
use super::server::Server;

/// The wall clock of a process, so many seconds off the machine's.
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    pub fn at(seconds: i64) -> Clock {
        let clock = Clock { folder: TempDir::new() };
        clock.set(seconds);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Steps it, also while the process runs: seen within a second.
    pub fn set(&self, seconds: i64) {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    /// Has the next start of a node live by this clock.
    pub fn give_to(&self, server: &mut Server) {
        let file = self.file();
        server.set_envs(&[
            ("LD_PRELOAD", &library()),
            ("FAKETIME_TIMESTAMP_FILE", &file.to_string_lossy()),
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
    }
}

fn library() -> String {
    let found = fs::read_dir("/usr/lib").unwrap().flatten().find_map(|folder| {
        let file = folder.path().join("faketime/libfaketimeMT.so.1");
        file.exists().then(|| file.to_string_lossy().into_owned())
    });
    found.expect("libfaketimeMT.so.1 below /usr/lib: install the Debian package faketime")
}
