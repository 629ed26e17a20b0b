//! Applications on ioredis against a pair: what they do goes on when a node dies, and nothing they were promised is
//! lost. The applications are the scripts beside this file; a script asks for what happens to the nodes.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use harness::{Cluster, Options, Partners, Suite, until};

/// Gaps are measured: one pair at a time.
static MACHINE: Mutex<()> = Mutex::new(());

/// An application and the pair it runs on.
struct Case<'a> {
    client: &'a str,
    partners: Partners,
    password: Option<&'a str>,
}

const CASES: [Case<'static>; 4] = [
    Case { client: "ioredis5", partners: Partners::Replicaof, password: None },
    Case { client: "ioredis6", partners: Partners::Peer, password: None },
    Case { client: "ioredis5", partners: Partners::Peer, password: Some("secret") },
    Case { client: "ioredis6", partners: Partners::Replicaof, password: Some("secret") },
];

impl Case<'_> {
    fn pair(&self) -> Cluster {
        let mut options = Options::new(2).partners(self.partners);
        if let Some(password) = self.password {
            options = options.args(&["--requirepass", password, "--masterauth", password]);
        }
        let pair = Cluster::start(options);
        pair.settle();
        pair
    }

    fn name(&self) -> String {
        let Case { client, partners, password } = self;
        format!("{client}, {partners:?}{}", if password.is_some() { ", password" } else { "" })
    }
}

/// A script at work. Killed when dropped.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a script has found, by name.
struct Found(BTreeMap<String, String>);

impl Found {
    #[track_caller]
    fn number(&self, name: &str) -> u64 {
        let text = self.0.get(name).unwrap_or_else(|| panic!("the script found no {name}: {:?}", self.0));
        text.parse().unwrap_or_else(|_| panic!("{name} is {text}"))
    }
}

/// Runs a script on a pair to its end, doing to the nodes what it asks for.
#[track_caller]
fn run(script: &str, case: &Case<'_>) -> Found {
    let mut pair = case.pair();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    assert!(
        folder.join("node_modules").exists(),
        "run `npm install` in {} (tests/run does)",
        folder.display()
    );
    let ports = [0, 1].map(|index| pair.node(index).port().to_string());
    let mut command = Command::new("node");
    command.current_dir(&folder).arg(script).arg(case.client).args(&ports).args(case.password);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Node.js is installed");
    let mut script = Script(child);
    let mut answers = script.0.stdin.take().unwrap();
    let mut found = Found(BTreeMap::new());
    for line in BufReader::new(script.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix("found ") {
            Some(fact) => {
                let (name, value) = fact.split_once('=').expect("name=value");
                found.0.insert(name.to_owned(), value.to_owned());
            }
            None => {
                obey(&line, &mut pair);
                // A script that has gone says why on its own.
                let _ = answers.write_all(b"done\n");
            }
        }
    }
    let status = script.0.wait().unwrap();
    assert!(status.success(), "{} failed: {status}", case.name());
    found
}

#[track_caller]
fn obey(order: &str, pair: &mut Cluster) {
    let (verb, node) = order.split_once(' ').map_or((order, 0), |(verb, node)| (verb, node.parse().unwrap()));
    match verb {
        "kill" => pair.node_mut(node).kill(),
        "start" => {
            pair.launch(node);
            refilled(pair);
        }
        "pause" => pair.node(node).pause(),
        "resume" => pair.node(node).resume(),
        "settle" => pair.settle(),
        _ => panic!("the script said: {order}"),
    }
}

/// Waits until each node says that its partner is up and that it is not pulling anything, while writes go on.
#[track_caller]
fn refilled(pair: &Cluster) {
    let mut clients: [_; 2] = pair.clients();
    until("the node that came back is refilled", || {
        clients.iter_mut().all(|client| {
            let info = client.ok(&["INFO", "replication"]).text();
            info.contains("_link_status:up")
                && !info.contains("_link_status:down")
                && !info.contains("_sync_in_progress:1")
        })
    });
}

/// A gap between two successes that an application notices. Measured on an idle machine: 100 to 130 ms.
const GAP_MS_MAX: u64 = 500;

#[test]
fn an_application_goes_on_when_one_node_dies_and_then_the_other() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    for case in &CASES {
        let mut suite = Suite::new(&format!("failover, {}", case.name()));
        let found = run("failover.js", case);
        suite.add(found.number("operations"));
        suite.note(&format!("longest gap {} ms, {:?}", found.number("longest_gap_ms"), found.0));
        assert_eq!(found.number("errors"), 0, "{:?}", found.0);
        assert_eq!(found.number("lost"), 0, "{:?}", found.0);
        assert_eq!(found.number("counter_short"), 0, "{:?}", found.0);
        // Inherent: where a node dies between passing a write on and sending its reply, the client cannot know that it was
        // done. ioredis sends the increment again, which then counts twice; a job that was popped went with its reply. Each
        // has one worker, so once per death at most.
        assert!(found.number("counter_off") <= 2 && found.number("jobs_lost") <= 2, "{:?}", found.0);
        assert!(found.number("longest_gap_ms") < GAP_MS_MAX, "{:?}", found.0);
    }
}

#[test]
fn an_application_with_timeouts_leaves_a_frozen_node() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    for case in &CASES[..2] {
        let mut suite = Suite::new(&format!("frozen node, {}", case.name()));
        let found = run("frozen.js", case);
        suite.add(found.number("operations"));
        suite.note(&format!("longest gap {} ms, {:?}", found.number("longest_gap_ms"), found.0));
        assert_eq!(found.number("lost"), 0, "{:?}", found.0);
        // Inherent: the client gives the frozen connection up after `socketTimeout`, which is two `commandTimeout`s. So each of
        // the four workers is told twice that its command is late, and no more often.
        assert!(found.number("errors") <= 8, "{:?}", found.0);
        assert!(found.0["first_error"].ends_with("Command timed out"), "{:?}", found.0);
        assert!(found.number("longest_gap_ms") < 2500, "{:?}", found.0);
    }
}

#[test]
fn keys_of_all_slots_go_together_and_messages_reach_every_node() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    for case in &CASES {
        let mut suite = Suite::new(&format!("commands, {}", case.name()));
        let found = run("commands.js", case);
        suite.add(found.number("pipelined") + found.number("messages"));
    }
}
