//! What goes to disk, and how a node is read back: the engine's side of [`crate::journal`].
//!
//! Whatever becomes part of the data under the mesh's lock is noted there, in that order: own batches as they are sequenced,
//! peers' as they are merged, pulled ranges piece by piece ([`Notes`]). Who writes the file takes the notes from time to time,
//! and before anything is acknowledged ([`Engine::take_notes`]).
//!
//! *Order.* What a peer's write makes this node say (a sum that a late SET has split is told anew) is noted before that write:
//! a journal that ends between them would have lost an addition.
//!
//! *Snapshots.* [`Engine::begin_snapshot`] fixes the vector and the place in the journal, at one moment. Then ranges are read
//! while writes go on; at the end all that the pieces may hold has to be in the journal, before the snapshot is said to be
//! whole. A piece may be read after a batch of the journal was merged: what a tombstone has kept from coming back then is kept
//! from it again only if the piece has that tombstone. So none is collected meanwhile that was not to go at the beginning.
//! What is changed otherwise than by notes (stamps that are given back) begins a new *epoch*: only a snapshot begun in it
//! tells of the node.
//!
//! *Replicas.* That data is dropped for a primary is noted, and whether what there is from there on is a primary's. A node
//! that is to follow another than its data is of drops it once that one has accepted it ([`Engine::follow_anew`]).
//!
//! *Reading back* replays the notes: a segment or a piece of a range is merged as it was then, against the vector as it was
//! then. So what was ignored then, because it had been deleted, is ignored again. The node begins a new life in any case:
//! its old one is one more origin, of which peers may hold more, or less, than its disk does.
//!
//! Cost per batch: one more copy, one checksum.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::conflicts::Author;
use super::error::Error;
use super::merging::Known;
use super::ranges::{Chunk, Vectors};
use super::{Engine, Now};
use crate::clock::{NTP64, NodeId, Origin};
use crate::faults::Faults;
use crate::journal::{Entry, Head, VERSION};
use crate::link::backlog::Segment;
use crate::link::batch::Batch;
use crate::link::codec::{self, Malformed};
use crate::link::frame::{self, Cursor, Globals};
use crate::link::mesh::{Address, Mesh};
use crate::link::vector::{Progress, Vector};
use crate::store::shard::RANGES;

/// What is to be written to the journal. A leaf among the locks.
#[derive(Debug, Default)]
pub struct Notes {
    /// There is a journal.
    on: AtomicBool,
    bytes: Mutex<Vec<u8>>,
    epoch: AtomicU64,
    /// A snapshot is being read: no tombstones go but those that were to go when it began.
    held: Arc<Held>,
    /// The primary whose data this is.
    follows: Mutex<Option<Address>>,
    /// Why nothing can be written to disk, if so: clients may not write then.
    failures: Mutex<Failures>,
    fails: AtomicBool,
}

/// What cannot be written, and why.
#[derive(Debug, Default)]
struct Failures {
    journal: Option<String>,
    /// The ceiling of the node's stamps.
    clock: Option<String>,
}

/// Up to when tombstones may go as far as snapshots are concerned.
#[derive(Debug)]
struct Held(AtomicU64);

impl Default for Held {
    fn default() -> Self {
        Held(AtomicU64::new(u64::MAX))
    }
}

/// A snapshot that is being read. At most one at a time.
#[derive(Debug)]
pub struct Snapshot {
    epoch: u64,
    range: usize,
    from: Cursor,
    held: Arc<Held>,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.held.0.store(u64::MAX, Ordering::SeqCst);
    }
}

impl Snapshot {
    /// The epoch it tells of.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How much of it is read, in percent.
    pub fn percent(&self) -> usize {
        self.range * 100 / RANGES
    }
}

impl Engine {
    /// Whether what is written goes to a journal.
    pub fn keeps_journal(&self) -> bool {
        self.notes.on.load(Ordering::Relaxed)
    }

    /// From now on what is written goes to a journal. A node that holds something already needs a snapshot.
    pub fn start_journal(&self) {
        self.start_replicating();
        let _mesh = self.mesh.lock();
        self.notes.on.store(true, Ordering::SeqCst);
    }

    /// Nothing more goes to a journal.
    pub fn stop_journal(&self) {
        let _mesh = self.mesh.lock();
        self.notes.on.store(false, Ordering::SeqCst);
        self.notes.bytes.lock().clear();
    }

    /// How much is to be written to the journal.
    pub fn notes_bytes(&self) -> usize {
        if self.keeps_journal() { self.notes.bytes.lock().len() } else { 0 }
    }

    /// Appends what is to be written to the journal, up to all that was executed before the call.
    pub fn take_notes(&self, out: &mut Vec<u8>) {
        // Another thread may have taken the batches from the outbox, and be about to note them: it holds the mesh.
        let mut mesh = self.mesh.lock();
        self.sequence(&mut mesh);
        let mut bytes = self.notes.bytes.lock();
        if out.is_empty() {
            std::mem::swap(out, &mut bytes);
        } else {
            out.append(&mut bytes);
        }
    }

    /// Changes whenever the data changes otherwise than the journal tells.
    pub fn epoch(&self) -> u64 {
        self.notes.epoch.load(Ordering::SeqCst)
    }

    pub(super) fn begin_epoch(&self) {
        self.notes.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Up to when tombstones may go, as far as the snapshot is concerned that is being read.
    pub(super) fn held(&self) -> NTP64 {
        NTP64(self.notes.held.0.load(Ordering::SeqCst))
    }

    /// What there is was dropped; what comes is that of a primary. The outbox is empty, and whoever could fill it waits.
    pub(super) fn note_dropped(&self, primary: Option<Address>) {
        if self.keeps_journal() && !self.is_planted(Faults::FORGOTTEN_DROP) {
            self.notes.push(&Entry::Dropped { follows: primary.clone() }, &[]);
        }
        *self.notes.follows.lock() = primary;
    }

    /// From here on the data is the node's own, whosever it was.
    pub(super) fn note_alone(&self, mesh: &mut Mesh) {
        self.note(mesh, &Entry::Alone, &[]);
        *self.notes.follows.lock() = None;
    }

    /// What a file says of where it comes from.
    pub fn head(&self, number: u64) -> Head {
        let follows = self.notes.follows.lock().clone();
        Head { version: VERSION, number, origin: self.clock.origin(), follows }
    }

    /// Has clients be told that nothing can be written to disk, or that it can again.
    pub fn set_disk_failure(&self, failure: Option<String>) {
        self.change_failures(|failures| failures.journal = failure);
    }

    /// Likewise for the clock, without which nothing may be stamped.
    pub fn set_clock_failure(&self, failure: Option<String>) {
        self.change_failures(|failures| failures.clock = failure);
    }

    fn change_failures(&self, change: impl FnOnce(&mut Failures)) {
        let mut failures = self.notes.failures.lock();
        change(&mut failures);
        self.notes.fails.store(failures.journal.is_some() || failures.clock.is_some(), Ordering::SeqCst);
    }

    /// What a client gets that may not write because nothing can be written to disk, if so.
    #[inline]
    pub fn disk_failure(&self) -> Option<Error> {
        if !self.notes.fails.load(Ordering::Relaxed) {
            return None;
        }
        let failures = self.notes.failures.lock();
        let reason = failures.journal.as_ref().or(failures.clock.as_ref())?;
        let file = if self.keeps_journal() { "the AOF file" } else { "the data directory" };
        Some(format!("MISCONF Errors writing to {file}: {reason}").into())
    }

    /// Notes an own segment that was just sequenced.
    pub(super) fn note_own(&self, mesh: &Mesh) {
        let own = self.clock.origin();
        if self.keeps_journal()
            && let Some(segment) = mesh.backlog().last(own)
        {
            self.notes.push(&Entry::segment(own, segment), &segment.batches);
        }
    }

    /// A segment of a peer was merged.
    pub(super) fn merged(&self, mesh: &mut Mesh, origin: Origin, segment: Segment) {
        let is_left_out = self.is_planted(Faults::SHORT_JOURNAL) && mesh.pull().is_some();
        let noted = (self.keeps_journal() && !is_left_out).then(|| segment.clone());
        mesh.merged(origin, segment);
        if let Some(segment) = noted {
            self.note(mesh, &Entry::segment(origin, &segment), &segment.batches);
        }
    }

    /// A giver has answered a pull.
    pub(super) fn note_given(&self, mesh: &mut Mesh, giver: Origin, vector: Vector, globals: Globals) {
        self.note(mesh, &Entry::Given { giver, vector, globals }, &[]);
        self.note_pulled(mesh);
    }

    /// A piece of a range was pulled.
    pub(super) fn note_chunk(&self, mesh: &mut Mesh, chunk: &Chunk<'_>) {
        let Chunk { range, from, to, graves, records } = *chunk;
        self.note(mesh, &Entry::Chunk { range: range as u16, from, to, graves }, records);
    }

    /// If the pull is over, its vector is adopted.
    pub(super) fn note_pulled(&self, mesh: &mut Mesh) {
        if self.keeps_journal() && mesh.pull().is_none() {
            self.note(mesh, &Entry::Pulled { vector: mesh.vector().clone() }, &[]);
        }
    }

    fn note(&self, mesh: &mut Mesh, entry: &Entry, tail: &[u8]) {
        if !self.keeps_journal() {
            return;
        }
        if self.outbox.is_filled() && !self.is_planted(Faults::LATE_RETELLING) {
            self.sequence(mesh);
        }
        self.notes.push(entry, tail);
    }

    /// Begins a snapshot of this number: appends what still belongs to the journal before it, and the snapshot's first
    /// bytes. Not while ranges are pulled.
    pub fn begin_snapshot(&self, number: u64, journal: &mut Vec<u8>, out: &mut Vec<u8>) -> Option<Snapshot> {
        let mut mesh = self.mesh.lock();
        if mesh.pull().is_some() {
            return None;
        }
        self.sequence(&mut mesh);
        journal.append(&mut self.notes.bytes.lock());
        let (head, torn, vector) = (self.head(number), mesh.torn(), mesh.vector().clone());
        frame::write(&Entry::Snapshot { head, vector, torn, globals: self.globals() }, &[], out);
        let held = self.notes.held.clone();
        held.0.store(self.stable().0, Ordering::SeqCst);
        Some(Snapshot { epoch: self.epoch(), range: 0, from: Cursor::default(), held })
    }

    /// Appends the next piece. False behind the last one.
    pub fn continue_snapshot(&self, snapshot: &mut Snapshot, out: &mut Vec<u8>) -> bool {
        if snapshot.range == RANGES {
            return false;
        }
        let (range, from) = (snapshot.range as u16, snapshot.from);
        let piece = self.read_range(snapshot.range, from, None);
        if !piece.records.is_empty() {
            frame::write(&Entry::Chunk { range, from, to: piece.to, graves: false }, &piece.records, out);
        }
        match piece.to {
            Some(to) => snapshot.from = to,
            None => (snapshot.range, snapshot.from) = (snapshot.range + 1, Cursor::default()),
        }
        true
    }

    /// Appends the last bytes, unless the node has begun another epoch. To be called once all that the pieces may hold is
    /// safely in the journal.
    pub fn end_snapshot(&self, snapshot: &Snapshot, out: &mut Vec<u8>) -> bool {
        let is_whole = snapshot.epoch == self.epoch();
        if is_whole {
            frame::write(&Entry::End, &[], out);
        }
        is_whole
    }

    /// Begins to read this node's data back. To be called before anything else is done, behind [`Self::start_journal`].
    pub fn recover(&self) -> Recovery<'_> {
        self.notes.on.store(false, Ordering::SeqCst);
        Recovery { engine: self, snapshot: None, pull: None, torn: BTreeSet::new(), read: Read::default() }
    }

    /// What was read back is not the data of the primary that this node is to follow: it goes, and this life begins, once the
    /// primary has accepted the node. Behind [`Recovery::finish`].
    pub fn follow_anew(&self, life: Origin) {
        let _mesh = self.mesh.lock();
        *self.next_life.lock() = Some(life);
    }
}

impl Notes {
    /// Nothing, of a node that follows this primary.
    pub(super) fn of(primary: Option<Address>) -> Self {
        Notes { follows: Mutex::new(primary), ..Notes::default() }
    }

    fn push(&self, entry: &Entry, tail: &[u8]) {
        frame::write(entry, tail, &mut self.bytes.lock());
    }
}

/// How much was read back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Read {
    /// Batches of the journals.
    pub batches: u64,
    /// Pieces of ranges.
    pub pieces: u64,
    /// The primary whose data it is. Should the node be to follow another, see [`Engine::follow_anew`].
    pub follows: Option<Address>,
}

/// A node that is being read back.
pub struct Recovery<'e> {
    engine: &'e Engine,
    /// What the snapshot told, while its pieces are read.
    snapshot: Option<Vector>,
    /// The giver of the pull whose pieces are read, and what it had.
    pull: Option<(Origin, Vector)>,
    torn: BTreeSet<NodeId>,
    read: Read,
}

impl Recovery<'_> {
    /// Takes the next entry.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn take(&mut self, entry: Entry, tail: &[u8], now: Now) -> Result<(), Malformed> {
        match entry {
            Entry::Journal(_) if self.snapshot.is_some() => {
                Err(codec::malformed("the snapshot before it has no end"))
            }
            Entry::Journal(head) => self.begin(&head),
            Entry::Snapshot { head, vector, torn, globals } => {
                self.begin(&head)?;
                self.merge_globals(&globals, now)?;
                self.torn.extend(torn);
                self.snapshot = Some(vector);
                Ok(())
            }
            Entry::Segment { origin, first, count, watermark, seen } => {
                let batches = bytes::Bytes::copy_from_slice(tail);
                self.merge_segment(origin, Segment { first, count, watermark, seen, batches }, now)
            }
            Entry::Given { giver, vector, globals } => {
                self.merge_globals(&globals, now)?;
                // Also once the pull is over, what it has brought may be ahead of the vector.
                self.torn.insert(giver.node());
                self.pull = Some((giver, vector));
                Ok(())
            }
            Entry::Chunk { range, from, to, graves } => {
                let range = usize::from(range);
                if range >= RANGES {
                    return Err(codec::malformed("a range that is none"));
                }
                self.merge_chunk(&Chunk { range, from, to, graves, records: tail }, now)
            }
            Entry::Pulled { vector } => {
                self.pull = None;
                self.engine.mesh.lock().adopt(&vector);
                Ok(())
            }
            Entry::Dropped { follows } => {
                self.engine.drop_data();
                (self.snapshot, self.pull, self.read.follows) = (None, None, follows);
                self.torn.clear();
                Ok(())
            }
            Entry::Alone => {
                self.read.follows = None;
                Ok(())
            }
            Entry::End => {
                let vector = self.snapshot.take().ok_or(codec::malformed("the end of no snapshot"))?;
                self.engine.mesh.lock().adopt(&vector);
                Ok(())
            }
        }
    }

    /// All is read. The node may hold what its vector does not tell, where the last pull had not come to its end.
    pub fn finish(mut self, now: Now) -> Read {
        let mut mesh = self.engine.mesh.lock();
        self.torn.iter().for_each(|node| mesh.tear(*node, now.unix_ms));
        let primary = self.engine.primary();
        let is_blank = mesh.vector().iter().next().is_none();
        if primary.is_none() || is_blank {
            // It is a master now, or has nothing yet that was another's.
            self.read.follows = primary;
        }
        self.engine.notes.follows.lock().clone_from(&self.read.follows);
        self.engine.notes.on.store(true, Ordering::SeqCst);
        self.read
    }

    fn begin(&mut self, head: &Head) -> Result<(), Malformed> {
        if head.version != VERSION {
            return Err(codec::malformed("it was written by another version of Meldis"));
        }
        self.read.follows.clone_from(&head.follows);
        Ok(())
    }

    fn merge_globals(&self, globals: &Globals, now: Now) -> Result<(), Malformed> {
        if globals.swaps.databases() > self.engine.databases() {
            return Err(codec::malformed(super::merging::FOREIGN_DATABASE));
        }
        let vector = Vector::default();
        self.engine.merge_globals(globals, Author::Is(Origin::NONE), quiet(&vector), now, 0);
        Ok(())
    }

    fn merge_segment(&mut self, origin: Origin, segment: Segment, now: Now) -> Result<(), Malformed> {
        let mut mesh = self.engine.mesh.lock();
        let have = mesh.vector().of(origin).sequence;
        let mut rest = &segment.batches[..];
        let mut number = segment.first;
        while let Some((batch, behind)) = Batch::split(rest)? {
            if number > have {
                let mut records = batch.read()?;
                records.list.retain(|record| !record.is_message());
                if origin.node() != self.engine.clock.origin().node() {
                    mesh.took(records.newest);
                }
                self.engine.merge_batch(origin, records, quiet(mesh.vector()), now, 0)?;
                self.read.batches += 1;
            }
            (rest, number) = (behind, number + 1);
        }
        if segment.count == 0 || number != segment.first + segment.count {
            return Err(codec::malformed("a segment of another length than it says"));
        }
        if segment.last() > have {
            if self.engine.is_planted(Faults::REUSED_LIFE) && origin == mesh.own().origin {
                let mut own = Vector::default();
                own.advance(origin, Progress { sequence: segment.last(), watermark: segment.watermark });
                mesh.adopt(&own);
            }
            mesh.merged(origin, segment);
        }
        Ok(())
    }

    fn merge_chunk(&mut self, chunk: &Chunk<'_>, now: Now) -> Result<(), Malformed> {
        let mesh = self.engine.mesh.lock();
        let nothing = Vector::default();
        let (giver, theirs, own) = match (&self.snapshot, &self.pull) {
            (Some(_), _) => (Origin::NONE, &nothing, &nothing),
            (None, Some((giver, theirs))) => (*giver, theirs, mesh.vector()),
            (None, None) => return Err(codec::malformed("a piece of a range that nobody gave")),
        };
        let vectors = Vectors { known: quiet(own), theirs, giver };
        self.engine.merge_range(chunk, vectors, now, 0)?;
        self.read.pieces += 1;
        Ok(())
    }
}

/// What was merged once is no news: nobody is to be told of conflicts.
fn quiet(own: &Vector) -> Known<'_> {
    Known { own, seen: NTP64(u64::MAX), written: NTP64(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TABLES;
    use crate::config::{Caller, Config};
    use crate::engine::Seeds;
    use crate::engine::testing::Fixture;
    use crate::journal::{Next, Reader};

    const NOW_MS: u64 = 1_700_000_000_000;

    /// A node that keeps a journal, in some life of it.
    fn node(life: u32) -> Fixture {
        let mut config = Config::default();
        config.set(&[("appendonly", "yes")], Caller::Local).unwrap();
        let (origin, seeds) = (Origin::new(NodeId::new(1 << 24), life), Seeds([1, 2, 3, u64::from(life)]));
        let engine = Engine::new(origin, NTP64(0), 1, seeds, config, TABLES);
        engine.start_journal();
        let session = engine.connect("test:1".into(), "test:2".into(), now(), 0);
        Fixture { engine, session, now_ms: NOW_MS }
    }

    fn now() -> Now {
        Now::from_unix_ns(u128::from(NOW_MS) * 1_000_000)
    }

    /// Its next life, read back from these files.
    fn read_back(files: &[&[u8]]) -> Fixture {
        let node = node(2);
        let mut recovery = node.engine.recover();
        for file in files {
            let mut reader = Reader::new(*file);
            loop {
                match reader.read().unwrap() {
                    Next::Entry(entry, tail) => recovery.take(entry, tail, now()).unwrap(),
                    Next::End => break,
                    other => panic!("{other:?}"),
                }
            }
        }
        recovery.finish(now());
        assert!(!node.engine.outbox.is_filled(), "nothing is written by reading");
        node.engine.check_invariants();
        node
    }

    fn journal(node: &Fixture) -> Vec<u8> {
        let mut bytes = Vec::new();
        node.engine.take_notes(&mut bytes);
        bytes
    }

    #[track_caller]
    fn assert_same(a: &mut Fixture, b: &mut Fixture) {
        for question in ["MELD DIGEST", "DEBUG DIGEST", "DBSIZE"] {
            assert_eq!(a.run(question), b.run(question), "{question}");
        }
    }

    const WRITES: [&str; 18] = [
        "SET k v",
        "SET brief v PX 60000",
        "INCRBY n 7",
        "INCR n",
        "SET n 100",
        "INCR n",
        "RPUSH l a b c",
        "LPOP l",
        "LINSERT l AFTER b x",
        "HSET h f v g w",
        "HINCRBY h n 3",
        "HDEL h g",
        "ZADD z 1 m 2 o",
        "ZINCRBY z 2 m",
        "SADD s a b",
        "SREM s a",
        "DEL k",
        "SWAPDB 0 3",
    ];

    #[test]
    fn what_was_written_is_there_after_its_journal_was_read() {
        let mut first = node(1);
        WRITES.iter().for_each(|command| drop(first.run(command)));
        let written = journal(&first);
        let mut second = read_back(&[&written]);
        assert_same(&mut first, &mut second);
        let own = first.engine.clock.origin();
        assert_eq!(second.engine.progress().of(own).sequence, first.engine.progress().of(own).sequence);
        // It counts on in a register of its own.
        second.check("SELECT 3", "+OK");
        second.check("INCR n", ":102");
        let written_on = journal(&second);
        let mut third = read_back(&[&written, &written_on]);
        third.check("SELECT 3", "+OK");
        third.check("GET n", "$3 102");
    }

    #[test]
    fn a_snapshot_read_while_writes_go_on_and_its_journal_give_the_whole() {
        let mut first = node(1);
        (0..2000).for_each(|n| drop(first.run(&format!("SET k{n} {n}"))));
        WRITES.iter().for_each(|command| drop(first.run(command)));
        let (mut before, mut file) = (Vec::new(), Vec::new());
        let mut snapshot = first.engine.begin_snapshot(2, &mut before, &mut file).unwrap();
        let mut n = 0;
        while first.engine.continue_snapshot(&mut snapshot, &mut file) {
            first.run(&format!("INCR n{}", n % 50));
            first.run(&format!("DEL k{}", n * 7 % 2000));
            first.run(&format!("SET new{n} v"));
            first.run("RPUSH l d");
            n += 1;
        }
        let written = journal(&first);
        assert!(first.engine.end_snapshot(&snapshot, &mut file));
        first.run("SET last v");
        let last = journal(&first);
        let mut second = read_back(&[&file, &written, &last]);
        assert_same(&mut first, &mut second);
        let vector = |node: &Fixture| node.engine.progress().of(first.engine.clock.origin()).sequence;
        assert_eq!(vector(&second), vector(&first));
        // The journal from before tells the same.
        let mut whole = read_back(&[&before, &written, &last]);
        assert_same(&mut first, &mut whole);
    }

    /// Else what it writes next would be stamped below what it holds, and be lost to it.
    #[test]
    fn a_clock_set_right_over_a_restart_gives_back_the_stamps_of_the_life_before() {
        let mut first = node(1);
        first.run("SET before v");
        first.now_ms += 3_600_000;
        WRITES.iter().for_each(|command| drop(first.run(command)));
        let mut second = read_back(&[&journal(&first)]);
        assert_same(&mut first, &mut second);
        for _ in 0..2 {
            second.now_ms += 2000;
            second.engine.link_tick(Now::from_unix_ns(u128::from(second.now_ms) * 1_000_000));
        }
        second.check("DEBUG DIGEST", &first.run("DEBUG DIGEST"));
        let (mut newest, limit) = (NTP64(0), crate::clock::ntp_from_unix_ms(second.now_ms + 30_000));
        for range in 0..RANGES {
            second.engine.cell(range).lock().shard.each_stamp(&mut |stamp| newest = newest.max(stamp.time));
        }
        assert!(newest < limit);
        assert!(second.engine.progress().iter().all(|(_, progress)| progress.watermark < limit));
        second.check("SELECT 3", "+OK");
        second.check("SET n 7", "+OK");
        second.check("GET n", "$1 7");
    }

    #[test]
    fn what_was_dropped_for_a_primary_is_not_read_back() {
        let mut first = node(1);
        first.run("SET k v");
        let mut written = journal(&first);
        first.engine.note_dropped(Some(("primary".into(), 6379)));
        first.run("SET other v");
        first.engine.take_notes(&mut written);
        let mut second = read_back(&[&written]);
        second.check("DBSIZE", ":1");
        second.check("GET other", "$1 v");
        assert_eq!(second.engine.head(2).follows, None, "it is a master now");
    }

    #[test]
    fn a_snapshot_of_an_epoch_that_is_over_is_none() {
        let node = node(1);
        let (mut before, mut file) = (Vec::new(), Vec::new());
        let snapshot = node.engine.begin_snapshot(2, &mut before, &mut file).unwrap();
        node.engine.begin_epoch();
        assert!(!node.engine.end_snapshot(&snapshot, &mut file));
    }
}
