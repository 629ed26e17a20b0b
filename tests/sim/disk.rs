//! Disks of nodes: what a process writes, what a crash leaves of it, and the node that is read back from that.
//!
//! A file is bytes, of which the first so many are safe. A crash leaves those, and of the others as many as chance says, cut
//! at any byte, be it with zeros in place of the end. Names are safe at once: a file gets its last name when all of it is.
//!
//! | node | what is written when | what is safe when |
//! |---|---|---|
//! | `always` | the notes, before a reply is given and behind each frame | before the reply; what came over a link, some nodes with the next tick only |
//! | `everysec` | likewise, or some nodes: with each tick | a second later, or earlier |
//!
//! A snapshot is read piece by piece in between, a step of it at a time, so that a crash may come anywhere: begun, read, journal
//! safe, snapshot safe and named, superfluous files removed one by one.
//!
//! # What is claimed
//! Of a node that is read back: its vector has all that it had when its journal was last safe, acknowledged writes included;
//! nothing waits in its outbox; and if all was safe, it holds the same as before, range by range.

use std::collections::BTreeMap;
use std::fmt;

use meldis::clock::{NTP64, Origin};
use meldis::engine::persistence::Snapshot;
use meldis::faults::Faults;
use meldis::journal::{self, Entry, Files, Next, Reader};
use meldis::link::frame::{self, FRAME_BYTES_MAX};
use meldis::link::vector::Vector;
use meldis::store::delta::Change;
use meldis::store::shard::RANGES;

use crate::check;
use crate::effects::Dropped;
use crate::net::{PORT, host};
use crate::random::Random;
use crate::world::{World, stream};

/// Whether nodes keep what they have, and when it is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    Never,
    Always,
    EverySecond,
}

const NAMES: [(Sync, &str); 3] =
    [(Sync::Never, "none"), (Sync::Always, "always"), (Sync::EverySecond, "everysec")];

impl Sync {
    /// Reads what is printed; no word means none.
    pub fn parse(word: Option<&&str>) -> Sync {
        let word = word.map_or("none", |word| word);
        NAMES.iter().find(|(_, name)| *name == word).expect("a way to sync").0
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(sync, _)| sync == self).expect("all have names").1)
    }
}

/// Of a hundred nodes of a world with disks so many have one.
const DISKS: usize = 80;
/// What is written is safe so much later at most, if not every write is.
const SYNCED_US: u64 = 1_000_000;
/// Most zeros in place of what was written.
const ZEROS: usize = 5000;

const HABITS: u64 = 6;

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    synced: usize,
}

impl File {
    fn sync(&mut self) {
        self.synced = self.bytes.len();
    }
}

/// How a node's process writes.
struct Habits {
    sync: Sync,
    /// What is not acknowledged waits: in memory for the next tick, or if each write is safe, for it to become so.
    waits: bool,
    /// Of a hundred ticks so many begin a snapshot.
    snapshots: usize,
    /// So many ranges of it are read at once at most.
    ranges: usize,
}

/// How far a snapshot is.
enum Stage {
    Reading(Snapshot),
    /// All of it is written.
    Read,
    /// It has its name.
    Named,
}

struct Running {
    number: u64,
    epoch: u64,
    stage: Stage,
}

/// What a process knows of its files.
struct Writer {
    journal: u64,
    /// That of the last whole snapshot, or of what was read back.
    epoch: u64,
    /// Whose notes were written last.
    life: Origin,
    synced_us: u64,
    running: Option<Running>,
    /// What the journal tells.
    written: Vector,
}

/// What a node held when it ended.
type Held = (Vec<(u16, u64)>, Vec<u8>, Vec<u32>);

/// See the module's head.
pub struct Disk {
    habits: Habits,
    files: BTreeMap<String, File>,
    random: Random,
    /// While the node is up.
    writer: Option<Writer>,
    /// What its files tell for certain.
    safe: Vector,
    /// That this life has begun, if not a later one.
    safe_life: Origin,
    /// What it held when it ended, if the files tell all of it.
    held: Option<Held>,
    /// The life that ended, if they tell of it.
    ended: Option<Origin>,
}

impl Disk {
    /// The disk of a node, if it has one.
    pub fn draw(seed: u64, node: usize, sync: Sync) -> Option<Disk> {
        let mut random = stream(seed, &[HABITS, node as u64]);
        let has_one = random.chance(DISKS) && sync != Sync::Never;
        let habits = Habits {
            sync,
            waits: random.chance(50),
            snapshots: *random.pick(&[0, 1, 5, 30]),
            ranges: *random.pick(&[40, 300, 1024]),
        };
        let (files, safe) = (BTreeMap::new(), Vector::default());
        has_one.then(|| Disk {
            habits,
            files,
            random,
            writer: None,
            safe,
            safe_life: Origin::NONE,
            held: None,
            ended: None,
        })
    }

    /// What of the configuration concerns it.
    pub fn directives(&self) -> &str {
        match self.habits.sync {
            Sync::Always => "appendonly yes\nappendfsync always\n",
            _ => "appendonly yes\nappendfsync everysec\n",
        }
    }

    /// Another disk.
    pub fn wipe(&mut self) {
        self.files.clear();
        (self.safe, self.held, self.ended) = (Vector::default(), None, None);
        self.safe_life = Origin::NONE;
    }

    fn file(&mut self, name: String) -> &mut File {
        self.files.entry(name).or_default()
    }

    fn append(&mut self, name: String, bytes: &[u8]) {
        self.file(name).bytes.extend_from_slice(bytes);
    }

    /// The journal is safe.
    fn sync_journal(&mut self, now_us: u64) {
        let Some(writer) = &mut self.writer else { return };
        writer.synced_us = now_us;
        self.safe.clone_from(&writer.written);
        self.safe_life = writer.life;
        let name = journal::journal_name(writer.journal);
        self.file(name).sync();
    }

    /// What a crash leaves.
    fn lose(&mut self) {
        for file in self.files.values_mut() {
            let unsafe_bytes = file.bytes.len() - file.synced;
            if unsafe_bytes == 0 {
                continue;
            }
            // Often in one of the last entries.
            let ends = ends(&file.bytes);
            let last = ends.len().saturating_sub(1 + self.random.below(4));
            let from = ends[..last].last().filter(|_| self.random.chance(60)).copied().unwrap_or(0);
            let from = from.max(file.synced);
            let until = ends.get(last).filter(|until| **until > from).copied().unwrap_or(file.bytes.len());
            file.bytes.truncate(from + self.random.below(until - from + 1));
            if self.random.chance(20) {
                let zeros = 1 + self.random.below(ZEROS);
                file.bytes.resize(file.bytes.len() + zeros, 0);
            }
            file.sync();
        }
    }
}

/// Where each entry of a file ends, if it is whole.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 0);
    while let Ok(Some(length)) = frame::length(&bytes[at..], FRAME_BYTES_MAX)
        && at + length <= bytes.len()
    {
        at += length;
        ends.push(at);
    }
    ends
}

impl World {
    /// Whether nothing that a node ever said is lost when it crashes.
    pub fn keeps_all(&self) -> bool {
        let keeps = |disk: &Disk| disk.habits.sync == Sync::Always;
        self.nodes.iter().all(|node| node.disk.as_ref().is_some_and(keeps))
    }

    /// Reads a node back that has just been made, and begins its next journal.
    pub fn read_back(&mut self, node: usize) -> Result<(), String> {
        let Some(mut disk) = self.nodes[node].disk.take() else { return Ok(()) };
        let outcome = self.read_files(node, &mut disk);
        self.nodes[node].disk = Some(disk);
        outcome.map_err(|text| format!("n{node} {text}"))
    }

    fn read_files(&mut self, node: usize, disk: &mut Disk) -> Result<(), String> {
        let now = self.now(node);
        let files = Files::among(disk.files.keys().cloned()).map_err(|missing| missing.to_string())?;
        files.superfluous.iter().for_each(|name| drop(disk.files.remove(name)));
        let engine = self.engine(node);
        engine.start_journal();
        let mut recovery = engine.recover();
        let last = files.journals.last().map(|number| journal::journal_name(*number));
        let journals = files.journals.iter().map(|number| journal::journal_name(*number));
        for name in files.snapshot.map(journal::snapshot_name).into_iter().chain(journals) {
            let file = disk.file(name.clone());
            let mut torn = None;
            let mut reader = Reader::new(&file.bytes[..]);
            while let next = reader.read().expect("it is in memory")
                && next != Next::End
            {
                match next {
                    Next::Entry(entry, tail) => {
                        if self.trace {
                            println!("{:>9} n{node} reads of {name} {entry:?} +{}", self.now_us, tail.len());
                        }
                        recovery.take(entry, tail, now).map_err(|error| format!("reads {name}: {error}"))?;
                    }
                    Next::Torn(at) if Some(&name) == last.as_ref() => {
                        torn = Some(at);
                        break;
                    }
                    wrong => return Err(format!("finds {name} of {} bytes {wrong:?}", file.bytes.len())),
                }
            }
            if let Some(at) = torn {
                file.bytes.truncate(at as usize);
                file.sync();
            }
        }
        let read = recovery.finish(now);
        let wanted = self.nodes[node].follows.map(|primary| (host(primary), PORT));
        if wanted.is_some() && read.follows != wanted {
            let own = engine.clock.origin();
            engine.follow_anew(Origin::new(own.node(), own.incarnation() + 1));
        }
        engine.check_invariants();
        if engine.outbox.is_filled() {
            return Err("writes what it reads back".into());
        }
        self.check_read_back(node, disk)?;
        let (engine, number) = (self.engine(node), files.next());
        let mut bytes = Vec::new();
        frame::write(&Entry::Journal(engine.head(number)), &[], &mut bytes);
        disk.append(journal::journal_name(number), &bytes);
        disk.writer = Some(Writer {
            journal: number,
            epoch: engine.epoch(),
            life: engine.clock.origin(),
            synced_us: self.now_us,
            running: None,
            written: engine.progress(),
        });
        disk.sync_journal(self.now_us);
        Ok(())
    }

    fn check_read_back(&mut self, node: usize, disk: &mut Disk) -> Result<(), String> {
        let (held, ended) = (disk.held.take(), disk.ended.take());
        if self.history.restated {
            return Ok(());
        }
        let vector = self.engine(node).progress();
        self.find_undropped(node, disk.safe_life, &vector);
        for (origin, safe) in disk.safe.iter() {
            let back = vector.of(origin).sequence;
            if back < safe.sequence {
                return Err(format!("had {} of {origin} on disk, and reads {back} back", safe.sequence));
            }
        }
        // Where removals were forgotten early, what they had removed may have come, though it is older; it is not read back.
        let is_held = held.filter(|_| self.plan.absence_s >= 60 && !self.may_anything_be_back());
        if let Some(held) = is_held {
            let back = self.held(node);
            if held.0 != back.0 {
                let others = held.0.iter().filter(|range| !back.0.contains(range));
                let others = others.chain(back.0.iter().filter(|range| !held.0.contains(range)));
                let ranges: Vec<u16> = others.map(|(range, _)| *range).collect();
                let shown = check::ranges(self, &ranges);
                return Err(format!("reads back other ranges than it held: {ranges:?}\n{shown}"));
            }
            if held != back {
                return Err("reads back another digest, or other databases, than it held".into());
            }
        }
        ended.map_or(Ok(()), |life| self.check_sums(node, life))?;
        self.history.read_back.extend(ended.map(|life| (life, vector)));
        Ok(())
    }

    /// What was dropped for a primary is there again if the disk did not come to hear of it.
    fn find_undropped(&mut self, node: usize, safe_life: Origin, vector: &Vector) {
        let at = &mut self.nodes[node];
        let is_open = |dropped: &Dropped| dropped.last.node() == at.id && dropped.last >= safe_life;
        let dropped = self.history.dropped.iter().filter(|(_, dropped)| is_open(dropped));
        let lives = dropped.map(|(life, dropped)| (*life, dropped.since));
        let is_back = |(life, since): &(Origin, NTP64)| {
            let first = self.history.first_after(*life, *since);
            first.is_some_and(|first| vector.of(*life).sequence >= first)
        };
        let back: Vec<(Origin, NTP64)> = lives.filter(is_back).collect();
        for (life, since) in back {
            self.history.dropped.remove(&life);
            at.apart_since = Some(since);
            at.apart_lives.push(life);
        }
    }

    fn may_anything_be_back(&self) -> bool {
        self.history.any(|place, stamp, change| self.watch.may_be_back(place, stamp, change))
    }

    /// A node splits its sum where a value comes that was set in the middle of it. Its disk has both, or neither.
    fn check_sums(&self, node: usize, life: Origin) -> Result<(), String> {
        let engine = self.engine(node);
        for range in 0..RANGES {
            let cell = engine.cell(range).lock();
            let spaces = 0..cell.shard.spaces();
            for entry in spaces.flat_map(|space| cell.shard.entries(space)) {
                let (mut bases, mut sums) = (BTreeMap::new(), Vec::new());
                entry.registers(|stamp, change| {
                    let base = match change {
                        Change::Assign(_) | Change::Value(_) => Some(Vec::new()),
                        Change::Field(name, _) | Change::Score(name, _) => Some(name.to_vec()),
                        _ => None,
                    };
                    bases.extend(base.map(|name| (name, stamp)));
                    match change {
                        Change::Sum(added) => sums.push((Vec::new(), added)),
                        Change::FieldSum(name, added) | Change::ScoreSum(name, added) => {
                            sums.push((name.to_vec(), added));
                        }
                        _ => {}
                    }
                });
                for (name, added) in sums.iter().filter(|(_, added)| added.origin == life) {
                    if let Some(base) = bases.get(name).filter(|base| **base > added.since) {
                        let key = String::from_utf8_lossy(entry.key());
                        return Err(format!("reads {key} back with {added:?} not split by {base}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn held(&mut self, node: usize) -> Held {
        let (now, engine) = (self.now(node), self.engine(node));
        let mut session = engine.connect("digest:1".into(), "s:1".into(), now, 0);
        let args = meldis::resp::args::OwnedArgs::from_iter(["MELD", "DIGEST"].map(str::as_bytes));
        let mut digest = Vec::new();
        engine.execute(&mut session, args.args(), &mut digest, now, 0);
        engine.disconnect(&mut session);
        let spaces = (0..2).map(|db| engine.space_of(db)).collect();
        (engine.range_digests(), digest, spaces)
    }

    /// What a crash leaves of a node's files.
    pub fn lose_files(&mut self, node: usize) {
        let Some(mut disk) = self.nodes[node].disk.take() else { return };
        if let Some(writer) = disk.writer.take() {
            let engine = self.engine(node);
            let mut rest = Vec::new();
            engine.take_notes(&mut rest);
            let (life, is_told) = (engine.clock.origin(), engine.epoch() == writer.epoch);
            let journal = disk.file(journal::journal_name(writer.journal));
            if is_told && rest.is_empty() && journal.synced == journal.bytes.len() {
                disk.held = Some(self.held(node));
            }
            disk.ended = is_told.then_some(life);
            disk.lose();
        }
        self.nodes[node].disk = Some(disk);
    }

    /// Before a client's reply counts as given.
    pub fn write_before_reply(&mut self, node: usize) {
        let Some(disk) = &self.nodes[node].disk else { return };
        match (disk.habits.sync, disk.habits.waits) {
            (Sync::Always, _) => self.write_notes(node, true),
            (_, false) => self.write_notes(node, false),
            _ => {}
        }
    }

    /// A frame of a link was taken.
    pub fn write_behind_frame(&mut self, node: usize) {
        let Some(disk) = &self.nodes[node].disk else { return };
        match (disk.habits.sync, disk.habits.waits) {
            (Sync::Always, waits) => self.write_notes(node, !waits),
            (_, false) => self.write_notes(node, false),
            _ => {}
        }
    }

    /// With each tick.
    pub fn write_in_time(&mut self, node: usize) {
        let now_us = self.now_us;
        let Some(disk) = &mut self.nodes[node].disk else { return };
        let Some(writer) = &disk.writer else { return };
        let is_due = now_us >= writer.synced_us + SYNCED_US || disk.random.chance(5);
        let sync = disk.habits.sync == Sync::Always || is_due;
        self.write_notes(node, sync);
        self.begin_snapshot(node);
    }

    /// Appends to the journal what belongs there.
    fn write_notes(&mut self, node: usize, sync: bool) {
        let Some(mut disk) = self.nodes[node].disk.take() else { return };
        if let (Some(writer), Some(engine)) = (&mut disk.writer, &self.nodes[node].engine) {
            let mut bytes = Vec::new();
            engine.take_notes(&mut bytes);
            writer.written = engine.progress();
            if std::mem::replace(&mut writer.life, engine.clock.origin()) != engine.clock.origin() {
                // That the data was dropped may be read back, or not.
                disk.safe = Vector::default();
            }
            let name = journal::journal_name(writer.journal);
            disk.append(name, &bytes);
            if sync {
                disk.sync_journal(self.now_us);
            }
        }
        self.nodes[node].disk = Some(disk);
        self.capture(node);
    }

    /// Begins a snapshot if it is time for one: from time to time, and where the journal does not tell what the node has.
    fn begin_snapshot(&mut self, node: usize) {
        let Some(mut disk) = self.nodes[node].disk.take() else { return };
        if let (Some(writer), Some(engine)) = (&mut disk.writer, &self.nodes[node].engine)
            && writer.running.is_none()
            && (engine.epoch() != writer.epoch || disk.random.chance(disk.habits.snapshots))
        {
            let (mut rest, mut bytes, number) = (Vec::new(), Vec::new(), writer.journal + 1);
            let epoch = engine.epoch();
            if let Some(snapshot) = engine.begin_snapshot(number, &mut rest, &mut bytes) {
                let mut head = Vec::new();
                frame::write(&Entry::Journal(engine.head(number)), &[], &mut head);
                let old = journal::journal_name(writer.journal);
                writer.running = Some(Running { number, epoch, stage: Stage::Reading(snapshot) });
                disk.append(old, &rest);
                disk.sync_journal(self.now_us);
                if let Some(writer) = &mut disk.writer {
                    writer.journal = number;
                }
                disk.append(journal::journal_name(number), &head);
                disk.append(journal::unfinished_name(number), &bytes);
            }
        }
        self.nodes[node].disk = Some(disk);
        self.capture(node);
    }

    /// Goes on with what is to be done to the files besides.
    pub fn run_disks(&mut self) {
        for node in self.up() {
            self.run_disk(node);
        }
    }

    /// The next step of a node's snapshot.
    pub fn run_disk(&mut self, node: usize) {
        let Some(disk) = &mut self.nodes[node].disk else { return };
        let Some(writer) = &mut disk.writer else { return };
        let Some(running) = &mut writer.running else { return };
        match running.stage {
            Stage::Reading(_) => self.read_pieces(node),
            Stage::Read => {
                let number = running.number;
                running.stage = Stage::Named;
                writer.epoch = running.epoch;
                let mut file = disk.files.remove(&journal::unfinished_name(number)).expect("it is written");
                file.sync();
                disk.files.insert(journal::snapshot_name(number), file);
            }
            Stage::Named => {
                let files = Files::among(disk.files.keys().cloned()).expect("none is missing");
                match files.superfluous.as_slice() {
                    [] => writer.running = None,
                    names => drop(disk.files.remove(disk.random.pick(names))),
                }
            }
        }
    }

    fn read_pieces(&mut self, node: usize) {
        let Some(mut disk) = self.nodes[node].disk.take() else { return };
        let ranges = 1 + disk.random.below(disk.habits.ranges);
        if let (Some(writer), Some(engine)) = (&mut disk.writer, &self.nodes[node].engine)
            && let Some(Running { number, stage: Stage::Reading(snapshot), .. }) = &mut writer.running
        {
            let (mut bytes, number) = (Vec::new(), *number);
            let is_read = (0..ranges).any(|_| !engine.continue_snapshot(snapshot, &mut bytes));
            if is_read {
                let mut notes = Vec::new();
                let is_early = self.faults.contains(Faults::EARLY_SNAPSHOT);
                if !is_early {
                    engine.take_notes(&mut notes);
                    writer.written = engine.progress();
                }
                let (is_whole, journal) = (engine.end_snapshot(snapshot, &mut bytes), writer.journal);
                writer.running.as_mut().expect("it is running").stage = Stage::Read;
                if !is_whole {
                    writer.running = None;
                }
                disk.append(journal::journal_name(journal), &notes);
                if !is_early {
                    disk.sync_journal(self.now_us);
                }
                if is_whole {
                    disk.append(journal::unfinished_name(number), &bytes);
                } else {
                    disk.files.remove(&journal::unfinished_name(number));
                }
            } else {
                disk.append(journal::unfinished_name(number), &bytes);
            }
        }
        self.nodes[node].disk = Some(disk);
        self.capture(node);
    }
}
