//! Snapshots, made by a thread of their own, one at a time: when the journals have grown as `auto-aof-rewrite-percentage`
//! says, when BGREWRITEAOF asks, and when the files do not tell of the node as it is: its data has changed otherwise than by
//! notes, or a sync has failed. The thread rests as long as it works.
//!
//! A snapshot gets its name when all that its pieces hold is safe in the journal that goes on from it, and it is itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Journal, PROGRESS, State};
use crate::engine::Engine;
use crate::engine::persistence::Snapshot;
use crate::journal::{self, Files};

/// Pieces of a snapshot are written so many bytes at a time.
const SNAPSHOT_BYTES: usize = 1 << 20;
/// A snapshot's thread works so long at a stretch, then rests as long.
const STRETCH: Duration = Duration::from_millis(2);
/// After a snapshot that failed the next is begun so much later, each time twice as much up to `RETRY_MAX`.
const RETRY: Duration = Duration::from_secs(1);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(60);
/// Likewise while nothing is acknowledged before there is one.
const RETRY_MAX_IN_NEED: Duration = Duration::from_secs(5);

/// The one that is being made, and those before.
#[derive(Default)]
pub(super) struct Snapshots {
    pub(super) running: bool,
    pub(super) started: Option<Instant>,
    pub(super) percent: usize,
    pub(super) wanted: bool,
    pub(super) failed: Option<Instant>,
    pub(super) made: u64,
    pub(super) failures_in_a_row: u64,
    pub(super) took: Option<Duration>,
}

impl Snapshots {
    /// Whether it is not too early for another try, with so much between two of them in the end.
    pub(super) fn is_time(&self, retry_max: Duration) -> bool {
        let doubled = self.failures_in_a_row.saturating_sub(1).min(6) as u32;
        let retry = (RETRY * 2u32.pow(doubled)).min(retry_max);
        !self.running && self.failed.is_none_or(|at| at.elapsed() >= retry)
    }
}

impl Journal {
    /// Has a snapshot made. False if one is being made.
    pub fn ask_for_snapshot(&self) -> bool {
        let mut snapshots = self.snapshot.lock();
        if !snapshots.running {
            (snapshots.wanted, snapshots.failed) = (true, None);
        }
        !snapshots.running
    }

    pub(super) fn is_snapshot_due(&self, engine: &Engine) -> bool {
        let snapshots = self.snapshot.lock();
        let (percentage, size_min) = {
            let config = engine.config.read();
            (u64::from(config.auto_aof_rewrite_percentage), config.auto_aof_rewrite_min_size)
        };
        let state = self.state.lock();
        let Some(open) = &state.open else { return false };
        let is_in_need = open.broken || open.lacks;
        if !snapshots.is_time(if is_in_need { RETRY_MAX_IN_NEED } else { RETRY_MAX }) {
            return false;
        }
        let has_grown = percentage > 0
            && state.journal_bytes > size_min
            && state.journal_bytes.saturating_mul(100) >= state.snapshot_bytes.saturating_mul(percentage);
        snapshots.wanted || has_grown || is_in_need || open.epoch != Some(engine.epoch())
    }

    pub(super) fn begin_snapshot(self: &Arc<Self>, engine: &Arc<Engine>) {
        {
            let mut snapshots = self.snapshot.lock();
            (snapshots.running, snapshots.wanted, snapshots.percent) = (true, false, 0);
            snapshots.started = Some(Instant::now());
        }
        let (journal, engine) = (self.clone(), engine.clone());
        let work = move || {
            let made = journal.make_snapshot(&engine);
            let mut snapshots = journal.snapshot.lock();
            snapshots.running = false;
            let took = snapshots.started.take().map_or(Duration::ZERO, |at| at.elapsed());
            match made {
                Ok(Some(bytes)) => {
                    (snapshots.failed, snapshots.failures_in_a_row) = (None, 0);
                    snapshots.made += 1;
                    snapshots.took = Some(took);
                    let mb = bytes as f64 / 1e6;
                    tracing::info!(
                        "Snapshot is complete: {mb:.1} MB in {:.1} s, {:.1} MB/s",
                        took.as_secs_f64(),
                        mb / took.as_secs_f64().max(1e-3)
                    );
                }
                // Not now: ranges are pulled, or the data has changed otherwise than by notes meanwhile.
                Ok(None) => snapshots.wanted = true,
                Err(error) => {
                    snapshots.failed = Some(Instant::now());
                    snapshots.failures_in_a_row += 1;
                    tracing::warn!("A snapshot failed: {error}");
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("snapshot".to_owned()).spawn(work) {
            tracing::warn!("No snapshot can be made: {error}");
            self.snapshot.lock().running = false;
        }
    }

    /// Makes a snapshot and removes what it makes superfluous. Its size; `None` if it came to nothing.
    pub(super) fn make_snapshot(&self, engine: &Engine) -> io::Result<Option<u64>> {
        let number = match &self.state.lock().open {
            Some(open) => open.number + 1,
            None => return Ok(None),
        };
        let unfinished = self.dir.join(journal::unfinished_name(number));
        let made = self.write_snapshot(engine, number, &unfinished);
        if !matches!(made, Ok(Some(_))) {
            let _ = fs::remove_file(&unfinished);
        }
        made
    }

    fn write_snapshot(&self, engine: &Engine, number: u64, unfinished: &Path) -> io::Result<Option<u64>> {
        let mut file = File::create(unfinished)?;
        let mut bytes = Vec::new();
        let Some(mut snapshot) = self.roll(engine, number, &mut bytes)? else { return Ok(None) };
        if !self.write_pieces(engine, &mut snapshot, &mut file, &mut bytes)? {
            return Ok(None);
        }
        // All that the pieces may hold has to be safely in the journal before they count.
        if self.write(engine).is_err() && self.is_stuck() {
            return Err(io::Error::other("the journal cannot be written"));
        }
        let position = self.sync_now(engine)?;
        if !engine.end_snapshot(&snapshot, &mut bytes) {
            return Ok(None);
        }
        file.write_all(&bytes)?;
        file.sync_all()?;
        let length = file.metadata()?.len();
        fs::rename(unfinished, self.dir.join(journal::snapshot_name(number)))?;
        self.sync_dir()?;
        {
            let mut state = self.state.lock();
            state.snapshot_bytes = length;
            if let Some(open) = &mut state.open {
                open.epoch = Some(snapshot.epoch());
                // Unless another sync has failed by now.
                open.lacks = open.broken;
                state.journal_bytes = open.length;
            }
            self.is_safe(position);
        }
        // Writes are taken again if they can be.
        let _ = self.write(engine);
        if let Ok(Ok(files)) = self.names().map(Files::among) {
            files.superfluous.iter().for_each(|name| self.remove(name));
        }
        Ok(Some(length))
    }

    /// Writes all ranges, but for what is left in `bytes`. False if nobody wants them any more.
    fn write_pieces(
        &self,
        engine: &Engine,
        snapshot: &mut Snapshot,
        file: &mut File,
        bytes: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let (mut length, mut told, mut began) = (0, Instant::now(), Instant::now());
        while engine.continue_snapshot(snapshot, bytes) {
            if bytes.len() >= SNAPSHOT_BYTES {
                file.write_all(bytes)?;
                length += bytes.len();
                bytes.clear();
            }
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                let (percent, mb) = (snapshot.percent(), length as f64 / 1e6);
                self.snapshot.lock().percent = percent;
                tracing::info!("Snapshot: {percent}%, {mb:.1} MB");
            }
            if began.elapsed() > STRETCH {
                if self.sync.rest(began.elapsed()) || !engine.config.read().appendonly {
                    return Ok(false);
                }
                began = Instant::now();
            }
        }
        Ok(true)
    }

    /// Goes on in a new journal, from the moment of a snapshot's vector. The one before is safe by then: a crash finds only
    /// the last journal torn.
    pub(super) fn roll(
        &self,
        engine: &Engine,
        number: u64,
        bytes: &mut Vec<u8>,
    ) -> io::Result<Option<Snapshot>> {
        // Most of what is left to be synced is synced before everybody has to wait for it.
        let _ = self.sync_now(engine);
        let _syncing = self.syncing.lock();
        let mut state = self.state.lock();
        let State { open: Some(open), journal_bytes, .. } = &mut *state else { return Ok(None) };
        let Some(snapshot) = engine.begin_snapshot(number, &mut open.pending, bytes) else { return Ok(None) };
        if open.broken {
            open.pending.clear();
            // What it still holds is whole, then: a torn end is expected in the last journal only.
            let _ = open.file.set_len(open.length);
        } else {
            open.append()?;
            *journal_bytes += open.appended();
            if let Err(error) = open.file.sync_data() {
                (open.broken, open.lacks) = (true, true);
                self.fail(engine, &error);
                return Err(error);
            }
            if !open.lacks {
                self.is_safe(open.position);
            }
        }
        let (file, length) = self.create(engine, number)?;
        *journal_bytes += length;
        (open.number, open.file, open.length, open.broken) = (number, Arc::new(file), length, false);
        Ok(Some(snapshot))
    }

    /// Whether something is in no file.
    fn is_stuck(&self) -> bool {
        self.state.lock().open.as_ref().is_none_or(|open| open.broken || !open.pending.is_empty())
    }
}
