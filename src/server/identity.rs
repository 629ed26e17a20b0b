//! Who this node is: the file `meldis.node` in its data directory.
//!
//! ```text
//! id 0123456789            the node, 40 random bits
//! incarnation 3            which life of it: one more at every start, and where a primary is to be followed
//! clock 7561234567890123456    no stamp above this NTP time has been issued
//! ```
//!
//! The clock line is a *ceiling*: it is written ahead of use, so that stamps go on rising after a crash even if
//! the wall clock was set back meanwhile. Invariant: no stamp issued for a client is above the ceiling on disk. Connections
//! ask for that before they run a read buffer ([`Identity::cover`]), which costs two loads unless the clock
//! comes close, and if it cannot be had (a full disk) refuse writes; the ticker renews a busy node's ceiling beforehand, so
//! that only the first command after a quiet spell waits for the disk. A clean stop writes the exact time.
//!
//! The file is replaced by rename after an fsync: a crash leaves the old or the new one. `meldis.lock` beside it is
//! locked for as long as the process lives, so no two servers share a directory.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::disk::replace;
use crate::clock::{Clock, NTP64, NodeId, Origin, ntp_span_ms};

/// How far ahead of the present the ceiling is written.
const AHEAD_MS: u64 = 2000;
/// A ceiling so near to the present is renewed before anything runs: a read buffer takes far less.
const MARGIN_MS: u64 = 200;
/// The ticker renews what is nearer than this.
const RENEW_MS: u64 = 1200;
/// How far ahead of the last stamp the ceiling is written where that is later. A clock ahead of the present, as after a
/// crash, moves by less than a nanosecond per stamp: with more than this, a few crashes in a row would take a node so
/// far ahead that its partners hold its changes.
const AHEAD_OF_LAST_MS: u64 = 100;
/// A ceiling so near to the last stamp is renewed before anything runs.
const MARGIN_OF_LAST_MS: u64 = 50;

const FILE: &str = "meldis.node";
const LOCK: &str = "meldis.lock";

/// The operator's error: the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Two servers in one directory would be one node twice.
    #[error("another server runs in the data directory {0}")]
    Shared(PathBuf),
    /// Without an identity on disk a restart would be taken for another node.
    #[error("cannot write to the data directory {dir}: {error}")]
    Unwritable {
        /// Which directory.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file that cannot be understood is not overwritten.
    #[error("{0} is damaged; remove it to start as a new node")]
    Damaged(PathBuf),
    /// Nor is that of [`Members`](super::members::Members).
    #[error("{0} is damaged; remove it to start with no other members than the configured ones")]
    DamagedMembers(PathBuf),
}

/// See the module's head.
#[derive(Debug)]
pub struct Identity {
    /// This life of this node when it started.
    origin: Origin,
    floor: NTP64,
    file: PathBuf,
    /// The latest life on disk.
    incarnation: AtomicU32,
    /// The ceiling on disk, raised only after it is there.
    ceiling: AtomicU64,
    writing: Mutex<()>,
    _lock: File,
}

impl Identity {
    /// Takes the directory, reads or draws the identity, and begins a new life of it.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(dir: &Path, random: u64, now: NTP64) -> Result<Self, IdentityError> {
        let unwritable = |error| IdentityError::Unwritable { dir: dir.to_owned(), error };
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK))
            .map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IdentityError::Shared(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        let file = dir.join(FILE);
        let held = match std::fs::read_to_string(&file) {
            Ok(text) => Record::parse(&text).ok_or_else(|| IdentityError::Damaged(file.clone()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Record { node: NodeId::new(random), incarnation: 0, clock: 0 }
            }
            Err(error) => return Err(unwritable(error)),
        };
        let identity = Identity {
            origin: Origin::new(held.node, held.incarnation.saturating_add(1)),
            floor: NTP64(held.clock),
            file,
            incarnation: AtomicU32::new(held.incarnation.saturating_add(1)),
            ceiling: AtomicU64::new(0),
            writing: Mutex::default(),
            _lock: lock,
        };
        identity.raise(NTP64(held.clock), now).map_err(unwritable)?;
        Ok(identity)
    }

    /// This life of this node when it started.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// No stamp may be at or below this time: former lives may have issued it.
    pub fn floor(&self) -> NTP64 {
        self.floor
    }

    /// To be called before stamps are issued at about `now`. An error means that they must not be.
    ///
    /// # Errors
    /// If the ceiling cannot be written.
    #[inline]
    pub fn cover(&self, clock: &Clock, now: NTP64) -> io::Result<()> {
        if self.is_near(clock, now, MARGIN_MS) { self.raise(clock.last(), now) } else { Ok(()) }
    }

    /// Renews the ceiling of a busy node ahead of time.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn renew(&self, clock: &Clock, now: NTP64) -> io::Result<()> {
        let busy = now.0.saturating_sub(clock.last().0) < ntp_span_ms(10 * AHEAD_MS);
        if busy && self.is_near(clock, now, RENEW_MS) { self.raise(clock.last(), now) } else { Ok(()) }
    }

    /// Writes the exact time of a clock that will issue no more stamps.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn close(&self, clock: &Clock) -> io::Result<()> {
        let _writing = self.writing.lock();
        self.write(clock.last())
    }

    /// Sets aside the next life of this node, for a process that forgets all it holds and goes on.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn reserve_life(&self) -> io::Result<Origin> {
        let _writing = self.writing.lock();
        let incarnation = self.incarnation.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.write(NTP64(self.ceiling.load(Ordering::Acquire)))?;
        Ok(Origin::new(self.origin.node(), incarnation))
    }

    fn is_near(&self, clock: &Clock, now: NTP64, ms: u64) -> bool {
        reach(clock.last(), MARGIN_OF_LAST_MS, now, ms) >= self.ceiling.load(Ordering::Acquire)
    }

    fn raise(&self, last: NTP64, now: NTP64) -> io::Result<()> {
        let _writing = self.writing.lock();
        let ceiling = reach(last, AHEAD_OF_LAST_MS, now, AHEAD_MS);
        if ceiling > self.ceiling.load(Ordering::Acquire) {
            self.write(NTP64(ceiling))?;
            self.ceiling.store(ceiling, Ordering::Release);
        }
        Ok(())
    }

    fn write(&self, clock: NTP64) -> io::Result<()> {
        let incarnation = self.incarnation.load(Ordering::Relaxed);
        let record = Record { node: self.origin.node(), incarnation, clock: clock.0 };
        replace(&self.file, record.text().as_bytes())
    }
}

/// The later of two times, each so many milliseconds on.
fn reach(last: NTP64, last_ms: u64, now: NTP64, now_ms: u64) -> u64 {
    last.0.saturating_add(ntp_span_ms(last_ms)).max(now.0.saturating_add(ntp_span_ms(now_ms)))
}

/// The file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    node: NodeId,
    incarnation: u32,
    clock: u64,
}

impl Record {
    fn text(self) -> String {
        format!("id {}\nincarnation {}\nclock {}\n", self.node, self.incarnation, self.clock)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let record = Record {
            node: NodeId::parse(field("id")?)?,
            incarnation: field("incarnation")?.parse().ok()?,
            clock: field("clock")?.parse().ok()?,
        };
        text.ends_with('\n').then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ntp_from_unix_ms;
    use crate::server::testing::in_dir;

    fn open(dir: &Path, now_ms: u64) -> Identity {
        Identity::open(dir, 0x1234_5678_9abc_def0, ntp_from_unix_ms(now_ms)).unwrap()
    }

    #[test]
    fn a_restart_is_the_next_life_of_the_same_node() {
        in_dir("identity-lives", |dir| {
            let first = open(dir, 1000).origin();
            let second = open(dir, 2000).origin();
            assert_eq!((first.node(), first.incarnation()), (second.node(), 1));
            assert_eq!(second.incarnation(), 2);
        });
    }

    #[test]
    fn a_life_set_aside_is_not_taken_by_a_restart() {
        in_dir("identity-reserved", |dir| {
            let identity = open(dir, 1000);
            let aside = identity.reserve_life().unwrap();
            assert!(aside > identity.origin() && aside.node() == identity.origin().node());
            let clock = Clock::new(identity.origin(), identity.floor());
            identity.cover(&clock, ntp_from_unix_ms(90_000)).unwrap();
            let ceiling = identity.ceiling.load(Ordering::Relaxed);
            drop(identity);
            let again = open(dir, 1000);
            assert!(again.origin() > aside);
            assert_eq!(again.floor(), NTP64(ceiling));
        });
    }

    #[test]
    fn stamps_rise_over_a_crash_and_a_clock_set_back() {
        in_dir("identity-crash", |dir| {
            let identity = open(dir, 100_000);
            let clock = Clock::new(identity.origin(), identity.floor());
            let mut last = clock.tick(ntp_from_unix_ms(100_000));
            for ms in (100_000..110_000).step_by(50) {
                identity.cover(&clock, ntp_from_unix_ms(ms)).unwrap();
                last = clock.tick(ntp_from_unix_ms(ms));
            }
            drop(identity);
            let again = open(dir, 50_000);
            assert!(again.floor() > last.time);
            assert!(again.floor().0 - last.time.0 <= ntp_span_ms(AHEAD_MS));
            let clock = Clock::new(again.origin(), again.floor());
            again.cover(&clock, ntp_from_unix_ms(50_000)).unwrap();
            assert!(clock.tick(ntp_from_unix_ms(50_000)) > last);
        });
    }

    #[test]
    fn crashes_in_a_row_do_not_take_the_clock_far_ahead() {
        in_dir("identity-row", |dir| {
            for ms in (100_000..102_000).step_by(100) {
                let identity = open(dir, ms);
                let clock = Clock::new(identity.origin(), identity.floor());
                for _ in 0..1000 {
                    identity.cover(&clock, ntp_from_unix_ms(ms)).unwrap();
                    let stamp = clock.tick(ntp_from_unix_ms(ms));
                    assert!(stamp.time.0 <= identity.ceiling.load(Ordering::Relaxed));
                }
                let ahead = clock.last().0 - ntp_from_unix_ms(ms).0;
                assert!(ahead <= ntp_span_ms(AHEAD_MS + AHEAD_OF_LAST_MS), "{ahead} at {ms}");
            }
        });
    }

    #[test]
    fn a_clean_stop_leaves_the_exact_time() {
        in_dir("identity-stop", |dir| {
            let identity = open(dir, 1000);
            let clock = Clock::new(identity.origin(), identity.floor());
            let last = clock.tick(ntp_from_unix_ms(1500)).time;
            identity.close(&clock).unwrap();
            drop(identity);
            assert_eq!(open(dir, 1).floor(), last);
        });
    }

    #[test]
    fn a_quiet_node_is_not_renewed_but_covered() {
        in_dir("identity-quiet", |dir| {
            let identity = open(dir, 1000);
            let clock = Clock::new(identity.origin(), identity.floor());
            let before = identity.ceiling.load(Ordering::Relaxed);
            identity.renew(&clock, ntp_from_unix_ms(100_000)).unwrap();
            assert_eq!(identity.ceiling.load(Ordering::Relaxed), before);
            identity.cover(&clock, ntp_from_unix_ms(100_000)).unwrap();
            assert!(identity.ceiling.load(Ordering::Relaxed) > ntp_from_unix_ms(100_000).0);
        });
    }

    #[test]
    fn two_servers_do_not_share_a_directory() {
        in_dir("identity-shared", |dir| {
            let held = open(dir, 1);
            let second = Identity::open(dir, 1, NTP64(0));
            assert!(matches!(second, Err(IdentityError::Shared(_))));
            drop(held);
        });
        let nowhere = Identity::open(Path::new("/nonexistent"), 1, NTP64(0)).unwrap_err();
        assert!(nowhere.to_string().starts_with("cannot write to the data directory /nonexistent: "));
    }

    #[test]
    fn a_damaged_file_is_refused_at_every_truncation() {
        in_dir("identity-damaged", |dir| {
            drop(open(dir, 1));
            let text = std::fs::read_to_string(dir.join(FILE)).unwrap();
            assert_eq!(Record::parse(&text).unwrap().text(), text);
            for len in 0..text.len() {
                std::fs::write(dir.join(FILE), &text[..len]).unwrap();
                assert!(matches!(Identity::open(dir, 1, NTP64(0)), Err(IdentityError::Damaged(_))), "{len}");
            }
        });
    }
}
