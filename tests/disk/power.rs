//! What a power loss leaves, without one: prefixes of files, zeros, and flipped bits.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use meldis::clock::{NTP64, NodeId, Origin};
use meldis::command::TABLES;
use meldis::config::{Caller, Config};
use meldis::engine::session::Session;
use meldis::engine::{Engine, Now, Seeds};
use meldis::resp::args::OwnedArgs;
use meldis::server::journal::{Journal, JournalError};

use crate::harness::{Port, Program, Random, Server, Suite, TempDir, Value, until};
use crate::place::{ALWAYS, EVERYSEC, SmallDisk, copy, digests, journals, last_journal, names};
use crate::record::{Record, Writer, check_all};
use crate::seen::{full, lasting};

/// Scenario 19 is of so many bytes.
const CUT_BYTES: u64 = 4096;

/// The last entry of a snapshot: a header and a byte.
const END_BYTES: usize = meldis::link::frame::HEADER_BYTES + 1;

/// A node inside the test, read back from a directory.
struct Within {
    engine: Engine,
    session: Session,
    now: Now,
}

impl Within {
    fn open(dir: &Path) -> Result<Within, JournalError> {
        let mut config = Config::default();
        config.set(&[("appendonly", "yes")], Caller::Local).unwrap();
        // A life that none of the servers of these tests has come to.
        let origin = Origin::new(NodeId::new(1 << 24), 1 << 20);
        let engine = Engine::new(origin, NTP64(0), 1, Seeds([1, 2, 3, 4]), config, TABLES);
        let (journal, _) = Journal::open(dir, &engine)?;
        drop(journal);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = Now::from_unix_ns(since.as_nanos());
        let session = engine.connect("c:1".into(), "s:1".into(), now, 0);
        Ok(Within { engine, session, now })
    }

    fn ask(&mut self, words: &[&str]) -> Value {
        let args: OwnedArgs = words.iter().map(|word| word.as_bytes()).collect();
        let mut out = Vec::new();
        let _ = self.engine.execute(&mut self.session, args.args(), &mut out, self.now, 0);
        Value::parse(&out)
    }
}

/// What the writer below has written, as far as it is there: nothing but whole rounds of it in order, each transaction whole.
#[track_caller]
fn check_prefix(node: &mut Within, rounds: i64) -> i64 {
    let items = node.ask(&["LRANGE", "l", "0", "-1"]).texts();
    let count = items.len() as i64;
    let expected: Vec<String> = (1..=count).map(|item| item.to_string()).collect();
    assert_eq!(items, expected);
    let number = |value: Value| if value.is_null() { 0 } else { value.int() };
    // A round: n, then a transaction of l, a and b, then c.
    let n = number(node.ask(&["GET", "n"]));
    let (a, b) = (number(node.ask(&["GET", "a"])), number(node.ask(&["HGET", "b", "f"])));
    let c = number(node.ask(&["ZSCORE", "c", "m"]));
    assert_eq!((a, b), (count, count), "a transaction in part");
    assert!(n >= count && count >= c && n - c <= 1 && n <= rounds, "no prefix: n {n}, l {count}, c {c}");
    n + count + c
}

/// The journal of a node that wrote so many rounds.
fn journal(rounds: i64) -> Vec<u8> {
    let mut server = Server::start(EVERYSEC);
    let mut client = server.client();
    for round in 1..=rounds {
        client.ok(&["INCR", "n"]);
        client.ok(&["MULTI"]);
        client.ok(&["RPUSH", "l", &round.to_string()]);
        client.ok(&["SET", "a", &round.to_string()]);
        client.ok(&["HSET", "b", "f", &round.to_string()]);
        client.ok(&["EXEC"]);
        client.ok(&["ZINCRBY", "c", "1", "m"]);
    }
    server.kill();
    assert_eq!(names(&server.data_dir()), ["meldis.journal.1"]);
    fs::read(last_journal(&server)).unwrap()
}

/// Scenario 19.
#[test]
fn a_journal_cut_at_every_byte_starts_cleanly_with_a_prefix() {
    let mut suite = Suite::new("disk power: cut at every byte");
    let rounds = 30;
    let bytes = journal(rounds);
    let length = bytes.len() as u64;
    let folder = TempDir::new();
    let disk = SmallDisk::at(folder.path(), "8m");
    let dir = disk.path().join("data");
    let (first, mut before) = (length.saturating_sub(CUT_BYTES), 0);
    for cut in first..=length {
        // Some of them end in zeros, as a file whose length was on disk before its content.
        for zeros in if cut % 8 == 0 { &[0, 100][..] } else { &[0] } {
            fs::create_dir(&dir).unwrap();
            let mut left = bytes[..cut as usize].to_vec();
            left.resize(left.len() + zeros, 0);
            fs::write(dir.join("meldis.journal.1"), &left).unwrap();
            let mut node = Within::open(&dir).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            let there = check_prefix(&mut node, rounds);
            assert!(there >= before, "cut at {cut}: {there} steps, and {before} with fewer bytes");
            before = there;
            // What was cut off is gone for good: the next start finds whole files.
            if cut % 64 == 0 {
                let (_, read) = (drop(node), Within::open(&dir).unwrap());
                assert_eq!(check_prefix(&mut { read }, rounds), there);
            }
            fs::remove_dir_all(&dir).unwrap();
            suite.add(1);
        }
    }
    assert_eq!(before, 3 * rounds);
}

#[test]
fn some_cuts_before_real_servers() {
    let mut suite = Suite::new("disk power: cuts, real servers");
    let rounds = 30;
    let bytes = journal(rounds);
    let mut random = Random::new(Random::seed(642));
    let mut server = Server::prepare(Program::Meldis, Port::free(), ALWAYS);
    for _ in 0..if full() { 100 } else { 10 } {
        let cut = bytes.len() - random.below(CUT_BYTES as usize);
        server.wipe();
        fs::write(server.data_dir().join("meldis.journal.1"), &bytes[..cut]).unwrap();
        server.launch().unwrap();
        let mut client = server.client();
        let n = client.run("GET n").int();
        assert!(n > 0 && n <= rounds);
        assert_eq!(client.run("INCR n"), n + 1);
        server.kill();
        server.launch().unwrap();
        assert_eq!(server.client().run("GET n").int(), n + 1);
        server.kill();
        suite.add(1);
    }
    // `aof-load-truncated no` refuses what is not whole, and says where; whole files it takes.
    let mut strict = Server::prepare(
        Program::Meldis,
        Port::free(),
        &["--appendonly", "yes", "--aof-load-truncated", "no"],
    );
    let path = strict.data_dir().join("meldis.journal.1");
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let refused = strict.launch().unwrap_err();
    assert!(refused.contains("meldis.journal.1 ends in the middle of an entry at offset "), "{refused}");
    assert!(refused.contains("aof-load-truncated is no"), "{refused}");
    fs::write(&path, &bytes).unwrap();
    strict.launch().unwrap();
    assert_eq!(strict.client().run("GET n").int(), rounds);
}

#[test]
fn a_directory_copied_from_a_running_node_is_a_prefix() {
    let mut suite = Suite::new("disk power: copied while it runs");
    let args = [EVERYSEC, &["--auto-aof-rewrite-percentage", "50", "--auto-aof-rewrite-min-size", "100kb"]];
    let server = Server::start(&args.concat());
    let writers = [1, 3].map(|pipeline| Writer::on(&server, &format!("w{pipeline}"), pipeline));
    writers.iter().for_each(|writer| writer.has_written(10));
    let (folder, mut copies) = (TempDir::new(), Vec::new());
    for n in 0..if full() { 100 } else { 20 } {
        // Snapshots come in between, but no more often than the node looks at its journal.
        lasting(25);
        let to = folder.path().join(n.to_string());
        // A snapshot that takes the place of a journal while it is copied is no power loss.
        until("a copy is made", || {
            let _ = fs::remove_dir_all(&to);
            copy(&server.data_dir(), &to)
        });
        copies.push(to);
    }
    let records: Vec<Record> = writers.into_iter().map(Writer::end).collect();
    let mut before = vec![0; records.len()];
    let mut with_snapshot = 0;
    for to in copies {
        with_snapshot += u64::from(names(&to)[0].contains("snapshot"));
        let mut node = Within::open(&to).unwrap_or_else(|error| panic!("{:?}: {error}", names(&to)));
        for (record, before) in records.iter().zip(&mut before) {
            let there = record.there(&mut |args| node.ask(args));
            assert!(there >= *before, "{record:?}: {there} are there, and {before} were");
            *before = there;
        }
        suite.add(1);
    }
    suite.note(&format!("{with_snapshot} with a snapshot"));
    check_all(&records, &server);
}

/// The offset that an entry of the file begins at, and the place of a byte well inside of it.
fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

#[track_caller]
fn refused(server: &mut Server) -> String {
    let problem = server.launch().unwrap_err();
    assert!(problem.contains("ended at start: exit status: 1"), "{problem}");
    problem
}

#[test]
fn what_is_damaged_or_missing_is_refused_and_taken_when_put_right() {
    let mut suite = Suite::new("disk power: damage");
    let mut server = Server::start(EVERYSEC);
    let mut client = server.client();
    (0..200).for_each(|n| drop(client.ok(&["SET", &format!("k{n}"), &format!("{n:0100}")])));
    client.ok(&["BGREWRITEAOF"]);
    let dir = server.data_dir();
    until("there is a snapshot", || names(&dir) == ["meldis.snapshot.2", "meldis.journal.2"]);
    (0..200).for_each(|n| drop(client.ok(&["SET", &format!("l{n}"), &format!("{n:0100}")])));
    server.restart();
    server.client().ok(&["SET", "last", "1"]);
    let before = digests(&server);
    server.kill();
    // In the snapshot, in a journal with another one behind it, in the last one: in its head, its middle.
    let last = last_journal(&server);
    let places = [("meldis.snapshot.2", 5000), ("meldis.journal.2", 9000), ("meldis.journal.2", 20)];
    for (name, at) in places {
        flip(&dir.join(name), at);
        let problem = refused(&mut server);
        let line = problem.lines().rfind(|line| line.contains("is damaged at offset")).expect(&problem);
        assert!(line.contains(&format!("{name} is damaged at offset ")), "{line}");
        let offset = line.split("is damaged at offset ").nth(1).unwrap().split(':').next().unwrap();
        let offset: u64 = offset.parse().unwrap();
        assert!(offset <= at && at - offset < 5000, "{line}");
        flip(&dir.join(name), at);
        suite.add(1);
    }
    server.launch().unwrap();
    assert_eq!(digests(&server)[1..], before[1..]);
    server.kill();
    // One is missing.
    for name in ["meldis.journal.2", "meldis.journal.3", "meldis.snapshot.2"] {
        let aside = dir.join("aside");
        fs::rename(dir.join(name), &aside).unwrap();
        let problem = refused(&mut server);
        let missing = if name.contains("snapshot") { "meldis.journal.1" } else { name };
        assert!(problem.contains(&format!("{missing} is missing in the data directory")), "{problem}");
        fs::rename(&aside, dir.join(name)).unwrap();
        suite.add(1);
    }
    // One that is cut, with others behind it.
    let bytes = fs::read(dir.join("meldis.journal.2")).unwrap();
    fs::write(dir.join("meldis.journal.2"), &bytes[..bytes.len() - 2]).unwrap();
    assert!(refused(&mut server).contains("meldis.journal.2 is damaged at offset"));
    fs::write(dir.join("meldis.journal.2"), &bytes).unwrap();
    server.launch().unwrap();
    assert_eq!(digests(&server)[1..], before[1..]);
    assert!(last.exists());
    server.kill();
    // A snapshot that ends with a whole entry, but not with its last one.
    let bytes = fs::read(dir.join("meldis.snapshot.2")).unwrap();
    fs::write(dir.join("meldis.snapshot.2"), &bytes[..bytes.len() - END_BYTES]).unwrap();
    assert!(refused(&mut server).contains("the snapshot before it has no end"));
    fs::write(dir.join("meldis.snapshot.2"), &bytes).unwrap();
    // All put aside: it starts empty.
    names(&dir).iter().for_each(|name| fs::remove_file(dir.join(name)).unwrap());
    server.launch().unwrap();
    assert_eq!(server.client().run("DBSIZE"), 0);
}

#[test]
fn a_file_of_another_version_is_refused() {
    let _suite = Suite::new("disk power: another version");
    use meldis::journal::{Entry, Head, VERSION};
    let mut server = Server::prepare(Program::Meldis, Port::free(), EVERYSEC);
    let origin = Origin::new(NodeId::new(1 << 24), 1);
    let mut bytes = Vec::new();
    let head = Head { version: VERSION + 1, number: 1, origin, follows: None };
    meldis::link::frame::write(&Entry::Journal(head), &[], &mut bytes);
    fs::write(server.data_dir().join("meldis.journal.1"), &bytes).unwrap();
    let problem = refused(&mut server);
    assert!(problem.contains("meldis.journal.1 is damaged at offset 0"), "{problem}");
    assert!(problem.contains("it was written by another version of Meldis"), "{problem}");
    assert_eq!(journals(&server.data_dir()), ["meldis.journal.1"]);
    assert_eq!(fs::read(last_journal(&server)).unwrap(), bytes, "it is left as it was");
}
