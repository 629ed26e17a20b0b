//! The tool, as an operator runs it: `meldis check` and `meldis journal`.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod harness;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use harness::{Cluster, Pair};

fn tool() -> Command {
    Command::new(env!("CARGO_BIN_EXE_meldis"))
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
    assert!(printed(&output).starts_with("Equal: 1024 ranges"), "{}", printed(&output));
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
    let nodes = report["differing"][0]["held"].as_object().unwrap();
    assert_eq!(nodes.len(), 2);
    pair.heal();
    pair.settle();
    assert_eq!(check(&pair, 2, &[]).status.code(), Some(0));
}

#[test]
fn a_node_that_cannot_be_asked_is_trouble_and_no_difference() {
    let pair = Pair::direct();
    let here = format!("127.0.0.1:{}", pair.node(0).port());
    let nobody = harness::Port::free();
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
