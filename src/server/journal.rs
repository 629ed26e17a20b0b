//! The journal and its snapshots as files. What is in them and when they count is told in [`crate::journal`].
//!
//! *Before a reply* what it acknowledges is written to the journal ([`Journal::write`]), and with `appendfsync always` synced.
//! Syncing is done by a thread of its own: what comes while it waits for the disk goes with its next round, so many
//! clients share one. With `everysec` it syncs once a second.
//!
//! *When the disk fails* clients are refused their writes, and whoever waits for an acknowledgement gets an error and is
//! disconnected: what it wrote is not acknowledged. What could not be written is kept, up to `PENDING_BYTES_MAX`, and written
//! once there is space. After a failed sync nobody knows what of the file is on disk, so it is never synced again: a
//! snapshot in new files has to take its place, and until that is whole nothing is acknowledged.
//!
//! Submodules: how a node is read back (`reading`), and when and how snapshots are made (`snapshots`).
//!
//! *Locks* are taken in the order `syncing`, `snapshot`, `state`, the mesh's; `synced` is a leaf. Whoever writes holds `state`
//! for as long as the system takes to copy the bytes; nobody waits with it for the disk but [`Journal::roll`].

mod reading;
mod snapshots;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::config::Fsync;
use crate::engine::Engine;
use crate::engine::facts::DiskFacts;
use crate::engine::persistence::Read;
use crate::journal::{self, Entry, Files, Missing};
use crate::link::frame;
use snapshots::{RETRY_MAX, Snapshots};

/// What could not be written is kept up to so many bytes.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// A buffer that has grown beyond this is given back.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// Between two lines of the log on something that takes long.
const PROGRESS: Duration = Duration::from_secs(2);
/// Between two syncs with `everysec`.
const SYNC_PERIOD: Duration = Duration::from_secs(1);

/// The operator's error: the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file cannot be read or written.
    #[error("{file}: {error}")]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// See [`Missing`].
    #[error(
        "{0} in the data directory: put it back, or put all meldis.journal and meldis.snapshot files aside; \
         partners give this node its data back"
    )]
    Missing(#[from] Missing),
    /// What is behind a damaged place is not to be lost unnoticed.
    #[error(
        "{file} is damaged at offset {offset}: {reason}. Put the meldis.journal and meldis.snapshot files aside, and \
         partners give this node its data back; or cut a journal there (truncate -s {offset} {file}), which loses what it \
         tells from there on"
    )]
    Damaged {
        /// Which file.
        file: String,
        /// Where.
        offset: u64,
        /// How.
        reason: String,
    },
    /// `aof-load-truncated no`.
    #[error(
        "{file} ends in the middle of an entry at offset {offset}, as after a crash, and aof-load-truncated is no: with yes it \
         is cut there"
    )]
    Torn {
        /// Which file.
        file: String,
        /// Where.
        offset: u64,
    },
}

/// Nothing can be written: what was to be acknowledged is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unkept;

/// See the module's head.
pub struct Journal {
    dir: PathBuf,
    on: AtomicBool,
    always: AtomicBool,
    state: Mutex<State>,
    synced: watch::Sender<Synced>,
    sync: Sync,
    /// Held while a file is synced: the system tells of a failure once, and not whoever comes second.
    syncing: Mutex<()>,
    /// A snapshot is being made, or asked for.
    snapshot: Mutex<Snapshots>,
}

/// How far the journal is safely on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Synced {
    /// In bytes since the process began.
    position: u64,
    fails: bool,
}

/// Wakes the thread that syncs, and ends it and the one that makes a snapshot.
#[derive(Default)]
struct Sync {
    wanted: Mutex<bool>,
    wake: Condvar,
    ended: Mutex<bool>,
    end: Condvar,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// Bytes of the snapshot, and of the journals behind it.
    snapshot_bytes: u64,
    journal_bytes: u64,
}

/// The journal that is written.
struct Open {
    number: u64,
    file: Arc<File>,
    /// Bytes of whole entries in the file: what is behind them will be overwritten.
    length: u64,
    /// Taken from the engine, and not written.
    pending: Vec<u8>,
    /// What was written since the process began.
    position: u64,
    /// A sync has failed, or something could not be kept: nothing more is written to this file.
    broken: bool,
    /// What was lost so is in no journal: until a snapshot is whole nothing is acknowledged.
    lacks: bool,
    /// The epoch its entries tell of, together with a snapshot; `None`: there is none.
    epoch: Option<u64>,
}

impl Journal {
    /// The journal of a directory, if the configuration asks for one: the node is read back from it. How much that was.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(dir: &Path, engine: &Engine) -> Result<(Arc<Journal>, Option<Read>), JournalError> {
        let (appendonly, appendfsync, cuts) = {
            let config = engine.config.read();
            (config.appendonly, config.appendfsync, config.aof_load_truncated)
        };
        let dir = dir.canonicalize().map_err(|error| JournalError::Io { file: dir.to_owned(), error })?;
        let journal = Arc::new(Journal {
            dir,
            on: AtomicBool::new(false),
            always: AtomicBool::new(appendfsync == Fsync::Always),
            state: Mutex::default(),
            synced: watch::Sender::default(),
            sync: Sync::default(),
            syncing: Mutex::default(),
            snapshot: Mutex::default(),
        });
        let files = Files::among(journal.names()?);
        if !appendonly {
            if files != Ok(Files::default()) {
                tracing::warn!("The data in {} is not read: appendonly is no", journal.dir.display());
            }
            return Ok((journal, None));
        }
        let files = files?;
        engine.start_journal();
        let read = journal.read_back(engine, &files, cuts)?;
        files.superfluous.iter().for_each(|name| journal.remove(name));
        journal.begin(engine, &files, Some(engine.epoch()))?;
        Ok((journal, Some(read).filter(|read| *read != Read::default())))
    }

    /// Whether there is one.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn names(&self) -> Result<Vec<String>, JournalError> {
        let list = || -> io::Result<Vec<String>> {
            fs::read_dir(&self.dir)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        list().map_err(|error| JournalError::Io { file: self.dir.clone(), error })
    }

    /// Begins the next journal.
    fn begin(&self, engine: &Engine, files: &Files, epoch: Option<u64>) -> Result<(), JournalError> {
        let number = files.next();
        let name = journal::journal_name(number);
        let failed = |error| JournalError::Io { file: self.dir.join(&name), error };
        let (file, length) = self.create(engine, number).map_err(failed)?;
        let mut state = self.state.lock();
        let size = |name: String| fs::metadata(self.dir.join(name)).map_or(0, |held| held.len());
        state.snapshot_bytes = files.snapshot.map_or(0, |number| size(journal::snapshot_name(number)));
        state.journal_bytes =
            length + files.journals.iter().map(|number| size(journal::journal_name(*number))).sum::<u64>();
        // There may have been another one, before CONFIG SET appendonly no.
        let position = self.synced.borrow().position;
        let (file, pending) = (Arc::new(file), Vec::new());
        state.open =
            Some(Open { number, file, length, pending, position, broken: false, lacks: false, epoch });
        self.on.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// A new journal that holds its head, safely on disk, and how long that is. If that fails there is none: the one before
    /// goes on, and its end is where a crash may tear.
    fn create(&self, engine: &Engine, number: u64) -> io::Result<(File, u64)> {
        let path = self.dir.join(journal::journal_name(number));
        let mut head = Vec::new();
        frame::write(&Entry::Journal(engine.head(number)), &[], &mut head);
        let create = || {
            let file = File::create(&path)?;
            file.write_all_at(&head, 0)?;
            file.sync_all()?;
            self.sync_dir()?;
            Ok((file, head.len() as u64))
        };
        create().inspect_err(|_: &io::Error| drop(fs::remove_file(&path)))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.dir.join(name)) {
            tracing::warn!("{name}, which is superfluous, cannot be removed: {error}");
        }
    }

    // Writing.

    /// Writes what was executed before the call. Returns up to where the journal then reaches.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, engine: &Engine) -> Result<u64, Unkept> {
        let mut state = self.state.lock();
        let State { open: Some(open), journal_bytes, .. } = &mut *state else { return Ok(0) };
        engine.take_notes(&mut open.pending);
        if open.broken {
            open.pending.clear();
            return Err(Unkept);
        }
        if !open.pending.is_empty() {
            if let Err(error) = open.append() {
                let is_too_much = open.pending.len() > PENDING_BYTES_MAX;
                (open.broken, open.lacks) = (is_too_much, open.lacks || is_too_much);
                self.fail(engine, &error);
                return Err(Unkept);
            }
            *journal_bytes += open.appended();
            if self.always.load(Ordering::Relaxed) {
                self.sync.ask();
            }
        }
        if open.lacks {
            return Err(Unkept);
        }
        if self.synced.borrow().fails {
            self.recover(engine);
        }
        Ok(open.position)
    }

    /// Waits until the journal is safe up to a position, as far as `appendfsync` demands it before an acknowledgement.
    ///
    /// # Errors
    /// If it cannot be made so.
    pub async fn safe(&self, position: u64) -> Result<(), Unkept> {
        if !self.always.load(Ordering::Relaxed) || self.synced.borrow().position >= position {
            return Ok(());
        }
        let mut synced = self.synced.subscribe();
        match synced.wait_for(|synced| synced.fails || synced.position >= position).await {
            Ok(synced) if synced.position >= position => Ok(()),
            Ok(_) | Err(_) => Err(Unkept),
        }
    }

    /// To be called with the state locked, as [`Self::recover`]: neither is to undo what the other has just found out.
    fn fail(&self, engine: &Engine, error: &io::Error) {
        if !self.synced.borrow().fails {
            tracing::warn!("The journal cannot be written: {error}. Writes are refused until it can");
        }
        engine.set_disk_failure(Some(reason(error)));
        self.synced.send_modify(|synced| synced.fails = true);
    }

    fn recover(&self, engine: &Engine) {
        tracing::warn!("The journal can be written again: writes are taken");
        engine.set_disk_failure(None);
        self.synced.send_modify(|synced| synced.fails = false);
    }

    /// Follows `appendfsync`.
    pub fn set_policy(&self, policy: Fsync) {
        self.always.store(policy == Fsync::Always, Ordering::Relaxed);
    }

    /// Syncs for as long as the server runs. To be called on a thread of its own.
    pub fn sync_on(&self, engine: &Engine) {
        while !*self.sync.ended.lock() {
            let is_asked = self.sync.wait();
            // Who has asked waits for it, whatever was configured since.
            if is_asked || engine.config.read().appendfsync != Fsync::No {
                let _ = self.sync_now(engine);
            }
        }
    }

    /// Syncs what is written. Returns up to where.
    fn sync_now(&self, engine: &Engine) -> io::Result<u64> {
        let _syncing = self.syncing.lock();
        let (file, position, lacks) = match &self.state.lock().open {
            Some(open) if open.broken => return Err(io::Error::other("what was written before is lost")),
            Some(open) => (open.file.clone(), open.position, open.lacks),
            None => return Ok(0),
        };
        if self.synced.borrow().position >= position {
            return Ok(position);
        }
        if let Err(error) = file.sync_data() {
            let mut state = self.state.lock();
            if let Some(open) = &mut state.open {
                (open.broken, open.lacks) = (true, true);
                self.fail(engine, &error);
            }
            return Err(error);
        }
        // What this file goes on from is not all there before a snapshot says so.
        if !lacks {
            self.is_safe(position);
        }
        Ok(position)
    }

    fn is_safe(&self, position: u64) {
        self.synced.send_modify(|synced| synced.position = synced.position.max(position));
    }

    /// The last word: all that was executed is written and synced.
    pub fn close(&self, engine: &Engine) {
        self.sync.end();
        if self.is_on() && (self.write(engine).is_err() || self.sync_now(engine).is_err()) {
            tracing::warn!("The journal could not be written to its end");
        }
    }

    // From time to time.

    /// What is to be done from time to time: follows the configuration, writes what waits, begins a snapshot that is due.
    pub fn tick(self: &Arc<Self>, engine: &Arc<Engine>) {
        let wanted = engine.config.read().appendonly;
        if wanted != self.is_on() && self.snapshot.lock().is_time(RETRY_MAX) {
            self.turn(engine, wanted);
        }
        if self.is_on() {
            let _ = self.write(engine);
            if self.is_snapshot_due(engine) {
                self.begin_snapshot(engine);
            }
        }
        *engine.disk.write() = self.facts(engine);
    }

    /// CONFIG SET appendonly. Not while a snapshot is made, which would be one of a journal that has ended.
    fn turn(&self, engine: &Engine, on: bool) {
        if !on {
            self.on.store(false, Ordering::SeqCst);
            let _ = self.sync_now(engine);
            engine.stop_journal();
            self.snapshot.lock().wanted = false;
            let mut state = self.state.lock();
            // Nobody is kept waiting for what is not going to be done.
            if let Some(open) = state.open.take() {
                self.is_safe(open.position);
            }
            if self.synced.borrow().fails {
                self.recover(engine);
            }
            return tracing::warn!("What is written no longer goes to disk: appendonly is no");
        }
        engine.start_journal();
        let files = self.names().and_then(|names| Ok(Files::among(names)?));
        let begun = files.and_then(|files| self.begin(engine, &files, None));
        let mut snapshots = self.snapshot.lock();
        match begun {
            Ok(()) => {
                snapshots.failed = None;
                tracing::info!("What is written goes to disk once the first snapshot is whole");
            }
            Err(error) => {
                engine.stop_journal();
                snapshots.failed = Some(Instant::now());
                snapshots.failures_in_a_row += 1;
                tracing::warn!("No journal can be begun: {error}");
            }
        }
    }

    fn facts(&self, engine: &Engine) -> DiskFacts {
        let (snapshots, state) = (self.snapshot.lock(), self.state.lock());
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        DiskFacts {
            enabled: state.open.is_some(),
            fails: engine.disk_failure().is_some(),
            snapshot_running: snapshots.running,
            snapshot_wanted: snapshots.wanted,
            snapshot_percent: snapshots.percent as u64,
            snapshot_s: seconds(snapshots.started.map(|at| at.elapsed())),
            last_snapshot_s: seconds(snapshots.took),
            snapshots: snapshots.made,
            failures_in_a_row: snapshots.failures_in_a_row,
            snapshot_bytes: state.snapshot_bytes,
            journal_bytes: state.journal_bytes,
            pending_bytes: state.open.as_ref().map_or(0, |open| open.pending.len() as u64),
            unsynced_bytes: state
                .open
                .as_ref()
                .map_or(0, |open| open.position.saturating_sub(self.synced.borrow().position)),
        }
    }
}

impl Open {
    /// Writes what is pending.
    fn append(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.pending, self.length)
    }

    /// It is written: how much it was.
    fn appended(&mut self) -> u64 {
        let bytes = self.pending.len() as u64;
        self.length += bytes;
        self.position += bytes;
        self.pending.clear();
        self.pending.shrink_to(BUFFER_BYTES_KEPT);
        bytes
    }
}

/// Why something failed, as Redis's clients read it.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

impl Sync {
    fn ask(&self) {
        *self.wanted.lock() = true;
        self.wake.notify_one();
    }

    fn end(&self) {
        *self.ended.lock() = true;
        self.end.notify_all();
        self.ask();
    }

    /// Lets so much time pass. True if the server stops.
    fn rest(&self, time: Duration) -> bool {
        let mut ended = self.ended.lock();
        if !*ended {
            self.end.wait_for(&mut ended, time);
        }
        *ended
    }

    /// Until somebody asks, or for a second. Whether somebody has.
    fn wait(&self) -> bool {
        let mut wanted = self.wanted.lock();
        if !*wanted {
            self.wake.wait_for(&mut wanted, SYNC_PERIOD);
        }
        std::mem::take(&mut *wanted)
    }
}

#[cfg(test)]
mod tests;
