//! The tool, as an operator runs it: `meldis check` and `meldis journal`.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use harness::{Cluster, Pair, Port, Server};

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
    let data = data.to_str().unwrap();
    let cases = [
        (data, "this is a file or a directory. Data does not go to disk yet, so there is no journal in it"),
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
