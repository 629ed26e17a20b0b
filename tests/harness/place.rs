//! Where a server lives: a port nobody else takes and a directory that goes with it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A TCP port of the loopback interface, ours until dropped, though nothing may listen on it.
///
/// Held by a locked file, so that test processes running side by side do not hand out the same one between a
/// server's end and its restart. Below the ephemeral range, so that no outgoing connection sits on it.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: File,
}

const PORT_FIRST: u32 = 11_000;
const PORT_COUNT: u32 = 20_000;

impl Port {
    pub fn free() -> Port {
        let folder = std::env::temp_dir().join("meldis-ports");
        fs::create_dir_all(&folder).expect("the folder of port locks");
        for _ in 0..PORT_COUNT {
            let step = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let number = (PORT_FIRST + step % PORT_COUNT) as u16;
            let lock = File::create(folder.join(number.to_string())).expect("a port lock file");
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Port { number, _lock: lock };
            }
        }
        panic!("no free port between {PORT_FIRST} and {}", PORT_FIRST + PORT_COUNT);
    }
}

/// A directory below the system's temporary one, removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("meldis-test-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
