//! The tool, as an operator runs it: `meldis check` and `meldis journal`.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use harness::{Cluster, Pair, Port, Server, TempDir};
use meldis::clock::{NTP64, NodeId, Origin, unix_ms_from_ntp};
use meldis::command::TABLES;
use meldis::config::Config;
use meldis::engine::session::Session;
use meldis::engine::{Engine, Now, Seeds};
use meldis::journal::{Entry, Head, VERSION, journal_name, snapshot_name, unfinished_name};
use meldis::link::frame::{self, Cursor, Globals};
use meldis::link::vector::Vector;
use meldis::resp::args::OwnedArgs;
use meldis::store::shard::RANGES;

fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meldis"));
    command.env_remove("REDISCLI_AUTH");
    command
}

fn check(cluster: &Cluster, nodes: usize, args: &[&str]) -> Output {
    let addresses = (0..nodes).map(|node| format!("127.0.0.1:{}", cluster.node(node).port()));
    tool().arg("check").args(addresses).args(args).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn equal_nodes_are_proven_equal_also_under_load() {
    let pair = Pair::direct();
    pair.settle();
    let [mut a, mut b] = pair.clients();
    a.ok(&["HSET", "h", "f", "v"]);
    b.ok(&["RPUSH", "l", "1", "2"]);
    let output = check(&pair, 2, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(printed(&output).starts_with("Equal: 1024 ranges and settings on "), "{}", printed(&output));
    let mut running = spawn_check(&pair);
    let mut n = 0;
    while running.try_wait().unwrap().is_none() {
        n += 1;
        a.ok(&["SET", &format!("k{}", n % 500), &n.to_string()]);
        b.ok(&["SADD", &format!("s{}", n % 300), &n.to_string()]);
    }
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
}

fn spawn_check(pair: &Pair) -> Child {
    let addresses = [0, 1].map(|node| format!("127.0.0.1:{}", pair.node(node).port()));
    tool().arg("check").args(addresses).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_differs_is_named_with_both_values_stamps_and_origins() {
    let pair = Pair::proxied();
    pair.settle();
    let [mut a, mut b] = pair.clients();
    a.ok(&["MSET", "same", "1", "k", "old"]);
    a.ok(&["HSET", "h", "f", "1", "g", "2"]);
    pair.settle();
    pair.cut();
    a.ok(&["SET", "k", "mine"]);
    b.ok(&["SET", "k", "yours"]);
    b.ok(&["HSET", "h", "g", "other"]);
    b.ok(&["PEXPIRE", "same", "100000"]);
    let output = check(&pair, 2, &[]);
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in [
        "db0 \"k\" differs:",
        "value = \"mine\"  by ",
        "value = \"yours\"  by ",
        "field \"g\" = \"2\"  by ",
        "field \"g\" = \"other\"  by ",
        "NOT proven equal: 3 keys differ, 0 busy",
        ", expires ",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains("field \"f\""), "what is the same is not shown: {text}");
    let output = check(&pair, 2, &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["equal"].as_bool(), report["differing_keys"].as_u64()), (Some(false), Some(3)));
    assert_eq!(report["differing"][0]["key"], "h");
    let nodes = report["differing"][0]["held"].as_object().unwrap();
    assert_eq!(nodes.len(), 2);
    pair.heal();
    pair.settle();
    assert_eq!(check(&pair, 2, &[]).status.code(), Some(0));
}

/// What differs on one node of two, as a script reads it.
fn differing(pair: &Cluster) -> Vec<serde_json::Value> {
    let output = check(pair, 2, &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["differing"].as_array().unwrap().clone()
}

#[test]
fn in_json_stands_what_was_written_and_in_hex_what_is_no_text() {
    let pair = Pair::proxied();
    pair.settle();
    let [mut a, _] = pair.clients();
    pair.cut();
    a.ok(&["HSET", "it's \"né\"", "f\\", "1 \n"]);
    let shown = &differing(&pair)[0];
    assert_eq!(shown["key"], "it's \"né\"");
    let held = shown["held"].as_object().unwrap().values();
    let registers: Vec<_> = held.flat_map(|of| of["registers"].as_array().unwrap()).collect();
    let field = registers.iter().find(|register| register["kind"] == "field").unwrap();
    assert_eq!((&field["element"], &field["value"]), (&"f\\".into(), &"1 \n".into()));
    a.ok(&["DEL", "it's \"né\""]);
    a.ok(&[b"SET".as_slice(), b"\xff\x00k", b"\xc3"]);
    let shown = differing(&pair);
    let bytes = |hex: &str| serde_json::json!({ "hex": hex });
    let key = shown.iter().find(|key| key["key"] == bytes("ff006b")).unwrap();
    assert!(key["held"].to_string().contains(r#""value":{"hex":"c3"}"#), "{key}");
}

#[test]
fn a_node_that_cannot_be_asked_is_trouble_and_no_difference() {
    let pair = Pair::direct();
    let here = format!("127.0.0.1:{}", pair.node(0).port());
    let nobody = Port::free();
    let output = tool().args(["check", &here, &format!("127.0.0.1:{}", nobody.number)]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&nobody.number.to_string()));
    assert_eq!(tool().args(["check", &here]).output().unwrap().status.code(), Some(2));
}

#[test]
fn the_journal_shows_what_all_nodes_write() {
    let pair = Pair::direct();
    pair.settle();
    let [mut a, mut b] = pair.clients();
    let address = format!("127.0.0.1:{}", pair.node(0).port());
    let since = a.ok(&["MELD", "EFFECTS"]).items()[0].text();
    a.ok(&["SET", "k", "a b"]);
    b.ok(&["ZADD", "z", "1.5", "m"]);
    pair.settle();
    let output = tool().args(["journal", &address, "--since", &since]).output().unwrap();
    let text = printed(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].ends_with("db0  SET \"k\" \"a b\"") && lines[1].ends_with("db0  ZADD \"z\" \"1.5\" \"m\"")
    );
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let token = told.trim().strip_prefix("up to token ").unwrap();
    let mut follower = tool()
        .args(["journal", &address, "--since", token, "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    b.ok(&["DEL", "k"]);
    let mut line = String::new();
    BufReader::new(follower.stdout.take().unwrap()).read_line(&mut line).unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(line.ends_with("db0  DEL \"k\"\n"), "{line}");
}

/// A node without a server, and the directory its files are written to.
struct Keeper {
    engine: Engine,
    session: Session,
    dir: TempDir,
}

fn now() -> Now {
    Now::from_unix_ns(1_700_000_000_000_000_000)
}

impl Keeper {
    fn new(number: u64) -> Keeper {
        let origin = Origin::new(NodeId::new(number << 24), 1);
        let engine = Engine::new(origin, NTP64(0), 1, Seeds([number, 2, 3, 4]), Config::default(), TABLES);
        engine.start_journal();
        let session = engine.connect("c:1".into(), "s:1".into(), now(), 0);
        Keeper { engine, session, dir: TempDir::new() }
    }

    fn run(&mut self, command: &str) {
        let (args, mut reply): (OwnedArgs, _) = (command.split(' ').collect(), Vec::new());
        let _ = self.engine.execute(&mut self.session, args.args(), &mut reply, now(), 0);
        assert_ne!(reply[0], b'-', "{command}: {}", String::from_utf8_lossy(&reply));
    }

    fn token(&self) -> String {
        self.engine.progress().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes what has not been written yet to this journal.
    fn write(&self, number: u64) {
        let mut notes = Vec::new();
        self.engine.take_notes(&mut notes);
        self.append(number, &notes);
    }

    fn append(&self, number: u64, bytes: &[u8]) {
        let path = self.path(&journal_name(number));
        let mut file = fs::read(&path).unwrap_or_default();
        if file.is_empty() {
            frame::write(&Entry::Journal(self.engine.head(number)), &[], &mut file);
        }
        fs::write(path, [&file, bytes].concat()).unwrap();
    }

    /// Writes a snapshot; the last journal before it is of the number before.
    fn snapshot(&self, number: u64) {
        let (mut notes, mut bytes) = (Vec::new(), Vec::new());
        let mut snapshot = self.engine.begin_snapshot(number, &mut notes, &mut bytes).unwrap();
        while self.engine.continue_snapshot(&mut snapshot, &mut bytes) {}
        assert!(self.engine.end_snapshot(&snapshot, &mut bytes));
        self.append(number - 1, &notes);
        self.append(number, &[]);
        let unfinished = self.path(&unfinished_name(number));
        fs::write(&unfinished, bytes).unwrap();
        fs::rename(unfinished, self.path(&snapshot_name(number))).unwrap();
    }

    /// The tool must print effects with these ends, and behind them these lines on standard error, and end with this status.
    #[track_caller]
    fn check(&self, args: &[&str], status: i32, effects: &[&str], remarks: &[&str]) {
        let output = tool().arg("journal").arg(self.dir.path()).args(args).output().unwrap();
        let (printed, told) = (printed(&output), String::from_utf8_lossy(&output.stderr).into_owned());
        assert_eq!(output.status.code(), Some(status), "{told}");
        let (lines, said): (Vec<&str>, Vec<&str>) = (printed.lines().collect(), told.lines().collect());
        assert_eq!(lines.len(), effects.len(), "{printed}");
        lines.iter().zip(effects).for_each(|(line, end)| assert!(line.ends_with(end), "{end} in {line}"));
        assert_eq!(said.len(), remarks.len(), "{told}");
        said.iter().zip(remarks).for_each(|(line, part)| assert!(line.contains(part), "{part} in {line}"));
    }
}

#[test]
fn the_journals_of_a_directory_are_told_in_their_order() {
    let mut node = Keeper::new(1);
    ["SET k a", "RPUSH l x y", "INCRBY n 5"].iter().for_each(|command| node.run(command));
    let between = node.token();
    node.write(1);
    node.run("DEL k");
    node.write(2);
    let page = node.engine.effects(Some(&Vector::default()), 100).unwrap();
    let lines = page.effects.iter().map(|effect| {
        let date = meldis::server::log::date(unix_ms_from_ntp(effect.stamp.time));
        let words: Vec<_> = effect.words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let words =
            [words[..1].to_vec(), words[1..].iter().map(|word| format!("\"{word}\"").into()).collect()];
        let item = effect.item.as_ref().map_or(String::new(), |item| format!("  item {item}"));
        let (stamp, origin, batch) = (effect.stamp, effect.origin, effect.batch);
        format!("{date}  {stamp}  {origin}:{batch}  db0  {}{item}", words.concat().join(" "))
    });
    let lines: Vec<String> = lines.collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    let end = format!("up to token {}", node.token());
    node.check(&[], 0, &lines, &[&end]);
    node.check(&["--since", "-"], 0, &lines, &[&end]);
    node.check(&["--since", &between], 0, &lines[4..], &[&end]);
    let further = format!("{},{}:7", node.token(), Origin::new(NodeId::new(9 << 24), 1));
    node.check(&["--since", &further], 0, &[], &[&format!("up to token {further}")]);
    node.check(&["--since", "x"], 1, &[], &["invalid token: it is what MELD TOKEN answers"]);
    node.check(&["--follow"], 1, &[], &["name the running node, as HOST:PORT, for --follow"]);
}

#[test]
fn what_a_snapshot_holds_is_said_in_one_line() {
    let mut node = Keeper::new(1);
    ["SET k a", "SET gone b", "HSET h f v", "DEL gone"].iter().for_each(|command| node.run(command));
    node.write(1);
    let before = node.token();
    node.run("SADD s m");
    node.snapshot(2);
    let held = node.token();
    node.run("SET k b");
    node.write(2);
    let said = format!("meldis.snapshot.2 holds what was written before: 3 keys, up to token {held}");
    let end = format!("up to token {}", node.token());
    node.check(&[], 0, &["SET \"k\" \"b\""], &[&said, &end]);
    node.check(&["--since", &held], 0, &["SET \"k\" \"b\""], &[&said, &end]);
    let refusal = "the journals no longer reach back to this token: some of what was written since is in meldis.snapshot.2";
    node.check(&["--since", &before], 1, &[], &[refusal]);
    let path = node.path("meldis.snapshot.2");
    let bytes = fs::read(&path).unwrap();
    for length in [0, bytes.len() - 13, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        node.check(&[], 1, &[], &["meldis.snapshot.2: damaged at byte "]);
    }
}

#[test]
fn a_snapshot_may_make_files_superfluous_while_they_are_listed() {
    let mut node = Keeper::new(1);
    node.run("SET k a");
    node.write(1);
    let dir = node.dir.path().to_owned();
    let writer = std::thread::spawn(move || {
        for number in 2..40 {
            node.run("INCR n");
            node.snapshot(number);
            let _ = fs::remove_file(node.path(&snapshot_name(number - 1)));
            fs::remove_file(node.path(&journal_name(number - 1))).unwrap();
        }
        node
    });
    while !writer.is_finished() {
        let output = tool().arg("journal").arg(&dir).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let node = writer.join().unwrap();
    let end = format!("up to token {}", node.token());
    node.check(
        &[],
        0,
        &[],
        &["meldis.snapshot.39 holds what was written before: 2 keys, up to token ", &end],
    );
    fs::remove_file(node.path(&journal_name(39))).unwrap();
    std::os::unix::fs::symlink("nowhere", node.path(&journal_name(39))).unwrap();
    node.check(&[], 1, &[], &["meldis.journal.39: No such file or directory"]);
}

#[test]
fn effects_are_told_with_the_database_that_shows_their_keyspace() {
    let mut node = Keeper::new(1);
    ["SET k a", "SWAPDB 0 3", "SET k b"].iter().for_each(|command| node.run(command));
    node.write(1);
    let effects = ["db0  SET \"k\" \"a\"", "SWAPDB \"0\" \"3\"", "db0  SET \"k\" \"b\""];
    node.check(&[], 0, &effects, &["up to token "]);
    node.snapshot(2);
    ["SET k c", "SWAPDB 3 4", "SELECT 4", "DEL k"].iter().for_each(|command| node.run(command));
    node.write(2);
    let effects = ["db0  SET \"k\" \"c\"", "SWAPDB \"3\" \"4\"", "db4  DEL \"k\""];
    node.check(&[], 0, &effects, &["2 keys", "up to token "]);
}

#[test]
fn ranges_that_were_pulled_are_said_in_one_line() {
    let (mut node, mut giver) = (Keeper::new(1), Keeper::new(2));
    node.run("SET k a");
    let alone = node.token();
    node.write(1);
    ["SET x 1", "SET y 2"].iter().for_each(|command| giver.run(command));
    let (origin, mut vector) = (giver.engine.head(1).origin, giver.engine.progress());
    giver.engine.take_notes(&mut Vec::new());
    let mut given = Vec::new();
    frame::write(
        &Entry::Given { giver: origin, vector: vector.clone(), globals: Globals::default() },
        &[],
        &mut given,
    );
    for range in 0..RANGES {
        let (piece, from) = (giver.engine.read_range(range, Cursor::default(), None), Cursor::default());
        let chunk = Entry::Chunk { range: range as u16, from, to: piece.to, graves: false };
        if !piece.records.is_empty() {
            frame::write(&chunk, &piece.records, &mut given);
        }
    }
    node.append(1, &given);
    let broken = format!("ranges pulled from node {}: 2 keys, then the pull broke off", origin.node());
    node.check(&[], 0, &["SET \"k\" \"a\""], &[&broken, &format!("up to token {alone}")]);
    // What the giver writes meanwhile is there as effects, and comes once more behind another node's beginning.
    giver.run("SET z 3");
    let mut batches = Vec::new();
    giver.engine.take_notes(&mut batches);
    node.append(1, &[&batches[..], &given, &batches].concat());
    vector.join(&node.engine.progress());
    vector.join(&giver.engine.progress());
    let mut pulled = Vec::new();
    frame::write(&Entry::Pulled { vector: vector.clone() }, &[], &mut pulled);
    node.append(1, &pulled);
    let whole = format!("ranges pulled from node {}: 2 keys, up to token {vector}", origin.node());
    let (effects, end) = (["SET \"k\" \"a\"", "SET \"z\" \"3\""], format!("up to token {vector}"));
    node.check(&[], 0, &effects, &[&broken, &whole, &end]);
    let refusal = "some of what was written since this token came to this node as data, not as effects";
    node.check(&["--since", &alone], 1, &["SET \"z\" \"3\""], &[&broken, refusal]);
    node.check(&["--since", &format!("{alone},{origin}:2")], 0, &effects[1..], &[&broken, &whole, &end]);
}

#[test]
fn a_torn_end_is_told_from_damage_and_from_what_is_missing() {
    let mut node = Keeper::new(1);
    node.run("SET k a");
    node.write(1);
    let whole = node.token();
    let path = node.path(&journal_name(1));
    let bytes = fs::read(&path).unwrap();
    node.run("SET k b");
    node.write(1);
    let longer = fs::read(&path).unwrap();
    let (first, torn) =
        (["SET \"k\" \"a\""], format!("meldis.journal.1 ends at byte {}: the node was", bytes.len()));
    fs::write(&path, &longer[..longer.len() - 1]).unwrap();
    node.check(&[], 0, &first, &[&torn, &format!("up to token {whole}")]);
    node.append(2, &[]);
    let damage = format!("meldis.journal.1: damaged at byte {}: it is cut off", bytes.len());
    node.check(&[], 1, &first, &[&damage]);
    let mut flipped = [&longer[..], &longer].concat();
    flipped[longer.len() - 1] ^= 1;
    fs::write(&path, flipped).unwrap();
    let damage = format!("meldis.journal.1: damaged at byte {}: a frame has a wrong checksum", bytes.len());
    node.check(&[], 1, &first, &[&damage]);
    fs::remove_file(&path).unwrap();
    node.check(&[], 1, &[], &["meldis.journal.1 is missing, and what follows it cannot be told without it"]);
    fs::remove_file(node.path(&journal_name(2))).unwrap();
    node.check(&[], 1, &[], &["meldis journal: no journal in "]);
    let mut foreign = Vec::new();
    let head = Head { version: VERSION + 1, ..node.engine.head(1) };
    frame::write(&Entry::Journal(head), &[], &mut foreign);
    fs::write(&path, foreign).unwrap();
    node.check(&[], 1, &[], &["meldis.journal.1: it was written by another version of Meldis: its form is "]);
    let mut nonsense = Vec::new();
    frame::write(&Entry::End, &[], &mut nonsense);
    fs::write(&path, nonsense).unwrap();
    node.check(&[], 1, &[], &["meldis.journal.1: damaged at byte 0: it begins as no file of this name"]);
    fs::write(&path, "").unwrap();
    node.check(&[], 0, &[], &["up to token -"]);
}

/// What the tool prints and says of a node or directory from this token on.
fn told(source: &str, since: &str) -> (String, String) {
    let output = tool().args(["journal", source, "--since", since]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    (printed(&output), said)
}

#[test]
fn the_journal_of_a_killed_server_says_what_the_server_said() {
    let mut server = Server::start(&["--appendonly", "yes"]);
    let mut client = server.client();
    client.ok(&["SET", "k", "a b"]);
    client.ok(&["RPUSH", "l", "x", "y"]);
    client.ok(&["LINSERT", "l", "BEFORE", "y", "\u{e9}\n"]);
    client.ok(&["INCRBYFLOAT", "f", "1.5"]);
    client.ok(&["PUBLISH", "channel", "message"]);
    let (here, dir) = (address(&server), server.data_dir());
    let dir = dir.to_str().unwrap();
    let running = told(&here, "-");
    assert_eq!(running.0.lines().count(), 6, "{}", running.0);
    assert_eq!(told(dir, "-"), running);
    server.kill();
    assert_eq!(told(dir, "-"), running);
    let token = running.1.trim().strip_prefix("up to token ").unwrap();
    server.restart();
    let mut client = server.client();
    client.ok(&["DEL", "k"]);
    let restarted = told(&here, token);
    assert!(restarted.0.ends_with("db0  DEL \"k\"\n"), "{}", restarted.0);
    assert_eq!(told(dir, token), restarted);
    client.ok(&["BGREWRITEAOF"]);
    let is_whole =
        |info: &str| info.contains("aof_rewrites:1\r\n") && info.contains("rewrite_in_progress:0\r\n");
    harness::until("a snapshot is whole", || is_whole(&client.ok(&["INFO", "persistence"]).text()));
    server.kill();
    let output = tool().args(["journal", dir]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(" holds what was written before: 2 keys, up to token "), "{said}");
    assert_eq!((printed(&output).as_str(), said.lines().last()), ("", restarted.1.lines().last()));
}

#[test]
fn whoever_reads_no_further_hears_no_complaint() {
    let mut node = Keeper::new(1);
    (0..10_000).for_each(|n| node.run(&format!("SET k{n} v")));
    node.write(1);
    let mut journal = tool();
    journal.arg("journal").arg(node.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = journal.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(running.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.ends_with("SET \"k0\" \"v\"\n"), "{line}");
    let output = running.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// The tool must end with this status and say this.
fn check_refused(args: &[&str], status: i32, expected: &str) {
    let output = tool().args(args).stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), printed(&output).as_str()), (Some(status), ""), "{args:?}: {told}");
    assert!(told.contains(expected), "{args:?}: {expected} in {told}");
}

/// A port where every connection is read from once, answered like this, and closed.
fn stranger(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1000]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

#[test]
fn what_cannot_be_asked_is_named_with_what_to_do() {
    let pair = Pair::direct();
    let (redis, locked, alone) =
        (Server::redis(&[]), Server::start(&["--requirepass", "secret"]), Server::start(&[]));
    let (here, locked, alone) = (address(pair.node(0)), address(&locked), address(&alone));
    let nobody = Port::free();
    let (redis, closed) = (address(&redis), format!("127.0.0.1:{}", nobody.number));
    let (web, shut) = (stranger("HTTP/1.1 400 Bad Request\r\n\r\n"), stranger(""));
    let data = pair.node(0).data_dir();
    let (file, data) = (data.join("meldis.node"), data.to_str().unwrap());
    assert!(file.is_file());
    check_refused(
        &["check", &here, data],
        2,
        "this is a file or a directory: name a running node, as HOST:PORT",
    );
    check_refused(&["journal", data], 1, &format!("meldis journal: no journal in {data}: is appendonly on?"));
    let cases = [
        (file.to_str().unwrap(), "this is a file or a directory: name a running node, as HOST:PORT"),
        ("no-such-place", "Nor is there a file or directory of this name"),
        ("./no/such/place", "there is no such file or directory, nor is it a node's name: that is HOST:PORT"),
        ("redis://127.0.0.1:6379", "that is HOST:PORT"),
        ("", "the port is missing"),
        ("127.0.0.1", "the port is missing: a node is named HOST:PORT"),
        ("127.0.0.1:", "the port is missing"),
        (":6379", "the host is missing"),
        ("127.0.0.1:0", "the port is a number from 1 to 65535"),
        ("127.0.0.1:65536", "the port is a number from 1 to 65535"),
        ("127.0.0.1:redis", "the port is a number from 1 to 65535"),
        ("::1:6379", "an IPv6 address is put in brackets"),
        ("no-such-host.invalid:6379", "the host is not known"),
        (&closed, "see that the node runs, that this is its port"),
        (&redis, "this is no Meldis node. It answers: ERR unknown command"),
        (&web, "does not speak the Redis protocol"),
        (&shut, "the connection was closed"),
        (&locked, "the node wants a password: give it in REDISCLI_AUTH or with --pass"),
    ];
    for (node, expected) in cases {
        check_refused(&["check", &here, node], 2, expected);
        check_refused(&["check", &here, node], 2, &format!("meldis check: {node}: "));
        check_refused(&["journal", node], 1, expected);
    }
    check_refused(&["journal", &locked, "--pass", "wrong"], 1, "the password is wrong: give the right one");
    check_refused(&["journal", &here, "--pass", "secret"], 1, "the node has no password: leave out --pass");
    check_refused(&["journal", &here, "--since", "x"], 1, "invalid token: it is what MELD TOKEN answers");
    check_refused(&["journal", &alone], 1, "this node has no partners, and keeps no effects without them");
    let again = here.replace("127.0.0.1", "localhost");
    check_refused(&["check", &here, &again], 2, &format!("{here} and {again} are the same node"));
    check_refused(&["check", &here], 2, "2 values required");
    check_refused(&["journal"], 2, "Usage: meldis journal");
}

#[test]
fn nodes_that_cannot_run_are_refused_with_what_to_do() {
    let (taken, free) = (Port::free(), Port::free());
    let listener = TcpListener::bind(("127.0.0.1", taken.number)).unwrap();
    let place = harness::TempDir::new();
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (taken, free, file) = (taken.number.to_string(), free.number.to_string(), file.to_str().unwrap());
    check_refused(
        &["up", "--port", "65535"],
        1,
        "2 nodes from port 65535 on: there are no ports above 65535",
    );
    check_refused(&["up", "--port", &taken, "--nodes", "1"], 1, "Choose another with --port");
    check_refused(
        &["up", "--port", &free, "--nodes", "1", "--dir", file],
        1,
        "file/node-1 cannot be made: Not a directory (os error 20). Choose another place with --dir",
    );
    check_refused(&["up", "--nodes", "10"], 2, "10 is not in 1..=9");
    check_refused(&["up", "--port", "0"], 2, "0 is not in 1..=65535");
    check_refused(&["up", "127.0.0.1:6379"], 2, "unexpected argument '127.0.0.1:6379'");
    drop(listener);
}
