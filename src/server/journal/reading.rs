//! A node is read back from its files when it starts.

use std::fs::{self, File};
use std::io;
use std::time::Instant;

use super::{Journal, JournalError, PROGRESS};
use crate::engine::Engine;
use crate::engine::persistence::Read;
use crate::journal::{self, Files, Next, Reader};
use crate::server::time::now;

impl Journal {
    pub(super) fn read_back(&self, engine: &Engine, files: &Files, cuts: bool) -> Result<Read, JournalError> {
        let snapshot = files.snapshot.map(journal::snapshot_name);
        let names = snapshot.into_iter().chain(files.journals.iter().copied().map(journal::journal_name));
        let names: Vec<String> = names.collect();
        let size = |name: &String| fs::metadata(self.dir.join(name)).map_or(0, |held| held.len());
        let mut loading = Loading {
            total: names.iter().map(size).sum(),
            done: 0,
            began: Instant::now(),
            told: Instant::now(),
        };
        let mut recovery = engine.recover();
        for name in &names {
            let path = self.dir.join(name);
            let failed = |error| JournalError::Io { file: path.clone(), error };
            let file = File::open(&path).map_err(failed)?;
            let mut reader = Reader::new(&file);
            loop {
                let offset = reader.offset();
                let (held, reason) = match reader.read().map_err(failed)? {
                    Next::Entry(entry, tail) => match recovery.take(entry, tail, now()) {
                        Ok(()) => {
                            loading.tell(offset);
                            continue;
                        }
                        Err(error) => (name.clone(), error.to_string()),
                    },
                    Next::End => break,
                    Next::Torn(offset) if Some(name) != names.last() => {
                        (name.clone(), format!("it ends at {offset} in the middle of an entry"))
                    }
                    Next::Torn(offset) if !cuts => {
                        return Err(JournalError::Torn { file: name.clone(), offset });
                    }
                    Next::Torn(offset) => {
                        self.cut(name, offset).map_err(failed)?;
                        break;
                    }
                    Next::Damaged(_, error) => (name.clone(), error.to_string()),
                };
                return Err(JournalError::Damaged { file: held, offset, reason });
            }
            loading.done += reader.offset();
            // A process that was killed may have left it to the system: behind the next journal it may no longer be torn.
            file.sync_all().map_err(failed)?;
        }
        let read = recovery.finish(now());
        if !names.is_empty() {
            loading.conclude(&read);
        }
        Ok(read)
    }

    /// Cuts off what a crash has left unfinished.
    fn cut(&self, name: &str, offset: u64) -> io::Result<()> {
        let file = File::options().write(true).open(self.dir.join(name))?;
        let torn = file.metadata()?.len() - offset;
        tracing::warn!(
            "{name} ends in the middle of an entry, as after a crash: its last {torn} bytes are cut off"
        );
        file.set_len(offset)?;
        file.sync_all()
    }
}

/// How far reading back is.
struct Loading {
    total: u64,
    done: u64,
    began: Instant,
    told: Instant,
}

impl Loading {
    fn tell(&mut self, offset: u64) {
        if self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            let done = self.done + offset;
            tracing::info!("Loading: {}%, {}", done * 100 / self.total.max(1), self.rate(done));
        }
    }

    fn conclude(&self, read: &Read) {
        let rate = self.rate(self.done);
        tracing::info!("DB loaded from disk: {rate}; {} batches, {} pieces", read.batches, read.pieces);
    }

    fn rate(&self, bytes: u64) -> String {
        let (mb, seconds) = (bytes as f64 / 1e6, self.began.elapsed().as_secs_f64().max(1e-3));
        format!("{mb:.1} MB in {seconds:.1} s, {:.1} MB/s", mb / seconds)
    }
}
