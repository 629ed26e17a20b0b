//! A disk that fails: files that take what is written and refuse to be synced, or refuse all, in place of the journal. No seam is
//! needed: /dev/null is such a file.

use super::*;
use crate::clock::{NTP64, NodeId, Origin};
use crate::command::TABLES;
use crate::config::{Caller, Config};
use crate::engine::Seeds;
use crate::engine::session::Session;
use crate::resp::args::OwnedArgs;
use crate::server::testing::in_dir;
use crate::server::time::now;

/// A node with a journal, and nothing that runs by itself.
struct Node {
    engine: Arc<Engine>,
    journal: Arc<Journal>,
    session: Session,
}

fn start(dir: &Path, life: u32, appendfsync: &str) -> Node {
    let mut config = Config::default();
    config.set(&[("appendonly", "yes"), ("appendfsync", appendfsync)], Caller::Local).unwrap();
    let origin = Origin::new(NodeId::new(1 << 24), life);
    let seeds = Seeds([1, 2, 3, u64::from(life)]);
    let engine = Arc::new(Engine::new(origin, NTP64(0), 1, seeds, config, TABLES));
    let (journal, _) = Journal::open(dir, &engine).unwrap();
    let session = engine.connect("c:1".into(), "s:1".into(), now(), 0);
    Node { engine, journal, session }
}

impl Node {
    fn run(&mut self, line: &str) -> String {
        let args: OwnedArgs = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        let _ = self.engine.execute(&mut self.session, args.args(), &mut out, now(), 0);
        String::from_utf8(out).unwrap().trim_end().to_owned()
    }

    /// A write as a connection makes it: what it wrote, and whether it may be acknowledged.
    fn write(&mut self, line: &str) -> Result<u64, Unkept> {
        let reply = self.run(line);
        assert!(!reply.starts_with('-'), "{reply}");
        self.journal.write(&self.engine)
    }

    /// From here on this is the file.
    fn replace(&self, file: File) -> Arc<File> {
        let mut state = self.journal.state.lock();
        std::mem::replace(&mut state.open.as_mut().unwrap().file, Arc::new(file))
    }

    /// What the ticker does, until a snapshot is whole.
    fn tick_until_whole(&self) {
        let before = self.journal.snapshot.lock().made;
        let start = Instant::now();
        while self.journal.snapshot.lock().made == before {
            self.journal.tick(&self.engine);
            assert!(start.elapsed() < Duration::from_secs(20), "no snapshot");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn safe(&self, position: u64) -> Result<(), Unkept> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.journal.safe(position))
    }
}

/// It takes what is written, and refuses to be synced.
fn unsyncable() -> File {
    File::options().write(true).open("/dev/null").unwrap()
}

/// It refuses what is written.
fn unwritable() -> File {
    File::open("/dev/null").unwrap()
}

const REFUSED: &str = "-MISCONF Errors writing to the AOF file: Invalid argument";

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_before_a_snapshot_is_whole() {
    in_dir("journal-1", |dir| {
        let mut node = start(dir, 1, "always");
        let first = node.write("SET k 1").unwrap();
        node.journal.sync_now(&node.engine).unwrap();
        assert_eq!(node.safe(first), Ok(()));
        node.replace(unsyncable());
        let lost = node.write("SET k 2").unwrap();
        assert!(node.journal.sync_now(&node.engine).is_err());
        assert_eq!(node.safe(lost), Err(Unkept));
        assert_eq!(node.run("SET k 3"), REFUSED);
        assert_eq!(node.run("GET k"), "$1\r\n2");
        // Not even if it could be synced now: what the system has dropped is not asked for again.
        let other = dir.join("other");
        node.replace(File::create(&other).unwrap());
        for _ in 0..3 {
            assert!(node.journal.sync_now(&node.engine).is_err());
            assert_eq!(node.journal.write(&node.engine), Err(Unkept));
            assert_eq!(node.safe(lost), Err(Unkept));
        }
        node.tick_until_whole();
        assert!(fs::read(other).unwrap().iter().all(|byte| *byte == 0), "nothing more is written to it");
        assert_eq!(node.safe(lost), Ok(()), "it is in the snapshot");
        let last = node.write("SET k 4").unwrap();
        node.journal.sync_now(&node.engine).unwrap();
        assert_eq!(node.safe(last), Ok(()));
        let names = node.journal.names().unwrap();
        let files = Files::among(names).unwrap();
        assert_eq!((files.snapshot, &files.journals[..], files.superfluous.len()), (Some(2), &[2][..], 0));
        assert_eq!(start(dir, 2, "always").run("GET k"), "$1\r\n4");
    });
}

#[test]
fn a_journal_that_cannot_be_synced_before_a_snapshot_is_not_synced_again() {
    in_dir("journal-2", |dir| {
        let mut node = start(dir, 1, "everysec");
        node.write("SET k 1").unwrap();
        node.replace(unsyncable());
        node.write("SET k 2").unwrap();
        // The snapshot itself finds it out, and takes its place.
        assert!(node.journal.ask_for_snapshot());
        node.tick_until_whole();
        assert_eq!(node.run("SET k 3"), "+OK");
        assert_eq!(start(dir, 2, "always").run("GET k"), "$1\r\n2");
    });
}

#[test]
fn what_could_not_be_written_is_written_later_and_in_order() {
    in_dir("journal-3", |dir| {
        let mut node = start(dir, 1, "everysec");
        node.write("RPUSH l a").unwrap();
        let file = node.replace(unwritable());
        assert_eq!(node.write("RPUSH l b"), Err(Unkept));
        assert!(node.run("RPUSH l c").starts_with("-MISCONF Errors writing to the AOF file: "));
        for _ in 0..3 {
            node.journal.tick(&node.engine);
        }
        assert!(node.engine.disk.read().fails);
        assert!(node.engine.disk.read().pending_bytes > 0);
        node.replace(file.try_clone().unwrap());
        node.journal.tick(&node.engine);
        assert!(!node.engine.disk.read().fails);
        node.write("RPUSH l d").unwrap();
        let mut next = start(dir, 2, "always");
        assert_eq!(next.run("LRANGE l 0 -1"), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nd");
    });
}

#[test]
fn whoever_wrote_together_with_another_is_told_the_same() {
    in_dir("journal-4", |dir| {
        let mut node = start(dir, 1, "everysec");
        node.replace(unsyncable());
        node.write("SET k 1").unwrap();
        assert!(node.journal.sync_now(&node.engine).is_err());
        // In a new file, and nothing acknowledged yet: not to the one who writes it, nor to the one whose write went along.
        let mut bytes = Vec::new();
        assert!(node.journal.roll(&node.engine, 2, &mut bytes).unwrap().is_some());
        node.engine.set_disk_failure(None);
        assert_eq!(node.write("SET k 2"), Err(Unkept));
        assert_eq!(node.journal.write(&node.engine), Err(Unkept));
        node.tick_until_whole();
        assert!(node.write("SET k 3").is_ok());
    });
}

#[test]
fn a_new_journal_that_cannot_be_had_leaves_the_one_before_the_last() {
    in_dir("journal-5", |dir| {
        let mut node = start(dir, 1, "everysec");
        node.write("SET k 1").unwrap();
        // What is made here cannot be synced.
        std::os::unix::fs::symlink("/dev/null", dir.join("meldis.journal.2")).unwrap();
        assert!(node.journal.make_snapshot(&node.engine).is_err());
        let names = node.journal.names().unwrap();
        assert_eq!(names.iter().filter(|name| name.starts_with("meldis.")).count(), 1, "{names:?}");
        node.write("SET k 2").unwrap();
        // The end of the one before may be torn.
        let path = dir.join("meldis.journal.1");
        let length = fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
        assert_eq!(start(dir, 2, "always").run("GET k"), "$1\r\n1");
    });
}

#[test]
fn a_journal_begun_anew_is_synced_from_its_first_byte() {
    in_dir("journal-6", |dir| {
        let mut node = start(dir, 1, "always");
        let first = node.write("SET k 1").unwrap();
        node.journal.sync_now(&node.engine).unwrap();
        node.journal.turn(&node.engine, false);
        node.run("SET k 2");
        node.journal.turn(&node.engine, true);
        let position = node.write("SET k 3").unwrap();
        assert!(position > first);
        assert!(node.journal.synced.borrow().position < position, "nobody has synced it yet");
        node.journal.sync_now(&node.engine).unwrap();
        assert_eq!(node.safe(position), Ok(()));
    });
}

#[test]
fn a_failure_ends_with_the_journal() {
    in_dir("journal-7", |dir| {
        let mut node = start(dir, 1, "always");
        node.replace(unsyncable());
        node.write("SET k 1").unwrap();
        assert!(node.journal.sync_now(&node.engine).is_err());
        assert_eq!(node.run("SET k 2"), REFUSED);
        node.journal.turn(&node.engine, false);
        assert_eq!(node.run("SET k 2"), "+OK");
    });
}
