//! The same commands to Meldis and to a real redis-server: every reply byte and every DEBUG DIGEST must agree.
//!
//! Commands come from tables of *shapes* (one file per group, the language is in [`shape`]), filled at random from
//! small pools of keys and values, so that keys collide, types clash and errors abound. They run in *episodes* of
//! [`run::EPISODE_COMMANDS`]: each has its own seed, starts from an empty keyspace on new connections, uses RESP2 or RESP3,
//! and so is repeatable on its own. A failing episode is shrunk by leaving out what does not matter.
//!
//! ```text
//! cargo test --test differential               all
//! cargo test --test differential zset          one group, 5,000 commands
//! MELDIS_GROUPS=string,hash cargo test --test differential mixed
//! MELDIS_SEED=123 cargo test --test differential zset     that episode only (add MELDIS_COMMANDS for more)
//! MELDIS_COMMANDS=1000000 cargo test --test differential  a long run
//! MELDIS_SUBJECT=redis cargo test --test differential     Redis against itself: tests this test
//! ```
//!
//! Where Meldis means to differ, [`compare`] says so and why; there is no other list of exceptions.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../harness/mod.rs"]
mod harness;

mod compare;
mod run;
mod scene;
mod shape;
mod shrink;

mod bitmap;
mod blocking;
mod connection;
mod hash;
mod keys;
mod list;
mod pubsub;
mod set;
mod string;
mod transaction;
mod zset;

use harness::{Random, Suite, Value};
use run::{Duo, Tally};
use shape::{Catalog, Group};

/// Every group, by the name `MELDIS_GROUPS` knows.
const GROUPS: &[&Group] = &[
    &connection::GROUP,
    &keys::GROUP,
    &string::GROUP,
    &bitmap::GROUP,
    &hash::GROUP,
    &list::GROUP,
    &blocking::GROUP,
    &set::GROUP,
    &zset::GROUP,
    &transaction::GROUP,
    &pubsub::GROUP,
];

const GROUP_COMMANDS: usize = 5_000;
const MIXED_COMMANDS: usize = 45_000;

/// Different failing commands shown before a test gives up.
const FAILURES_MAX: usize = 8;

fn number_from_env(name: &str) -> Option<usize> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

fn is_selected(group: &Group) -> bool {
    std::env::var("MELDIS_GROUPS").map_or(true, |names| names.split(',').any(|name| name == group.name))
}

fn check_group(group: &'static Group) {
    if is_selected(group) {
        check(group.name, &[group], GROUP_COMMANDS);
    }
}

fn check(name: &str, groups: &[&'static Group], commands: usize) {
    let mut suite = Suite::new(&format!("differential {name}"));
    let seeded = std::env::var_os("MELDIS_SEED").is_some();
    let commands = number_from_env("MELDIS_COMMANDS").unwrap_or(if seeded { 1 } else { commands });
    let first = Random::seed(1);
    let catalog = Catalog::new(GROUPS, groups);
    let mut duo = Duo::start();
    let mut tally = Tally::default();
    let mut failures: Vec<run::Failure> = Vec::new();
    for seed in first.. {
        if tally.commands() as usize >= commands || failures.len() >= FAILURES_MAX {
            break;
        }
        let episode = run::Episode::generate(&catalog, seed);
        let Err(difference) = duo.play(&episode, &mut tally) else { continue };
        // The same command once more tells nothing new.
        if failures.iter().all(|seen| seen.difference.name() != difference.name()) {
            let minimal = shrink::shrink(&mut duo, &episode, &difference);
            failures.push(run::Failure { test: name.to_owned(), seed, difference, minimal });
        }
    }
    suite.add(tally.commands());
    suite.note(&tally.to_string());
    let report: Vec<String> = failures.iter().map(run::Failure::to_string).collect();
    assert!(failures.is_empty(), "{} commands differ\n\n{}", report.len(), report.join("\n"));
}

#[test]
fn mixed() {
    let groups: Vec<&'static Group> = GROUPS.iter().copied().filter(|group| is_selected(group)).collect();
    check("mixed", &groups, MIXED_COMMANDS);
}

#[test]
fn connection() {
    check_group(&connection::GROUP);
}

#[test]
fn keys() {
    check_group(&keys::GROUP);
}

#[test]
fn string() {
    check_group(&string::GROUP);
}

#[test]
fn bitmap() {
    check_group(&bitmap::GROUP);
}

#[test]
fn hash() {
    check_group(&hash::GROUP);
}

#[test]
fn list() {
    check_group(&list::GROUP);
}

#[test]
fn blocking() {
    check_group(&blocking::GROUP);
}

#[test]
fn set() {
    check_group(&set::GROUP);
}

#[test]
fn zset() {
    check_group(&zset::GROUP);
}

#[test]
fn transaction() {
    check_group(&transaction::GROUP);
}

#[test]
fn pubsub() {
    check_group(&pubsub::GROUP);
}

/// The canary: a difference that is there must be found, and shrunk to what shows it.
#[test]
fn a_planted_difference_is_found_and_shrunk() {
    let mut suite = Suite::new("differential canary");
    let mut duo = Duo::against(|directives| {
        let planted = [directives, &["--rename-command", "GETDEL", ""]].concat();
        harness::Server::redis(&planted)
    });
    let catalog = Catalog::new(GROUPS, &[&string::GROUP]);
    let (episode, difference) = (1..)
        .find_map(|seed| {
            let episode = run::Episode::generate(&catalog, seed);
            let difference = duo.play(&episode, &mut Tally::default()).err()?;
            Some((episode, difference))
        })
        .unwrap();
    assert_eq!(difference.name(), "GETDEL");
    let minimal = shrink::shrink(&mut duo, &episode, &difference);
    assert!(minimal.units.len() == 1 && minimal.difference.subject.contains("unknown command"));
    suite.add(1);
}

/// Commands of the covered groups that no shape may use, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("quit", "ends the connection"),
    ("dump", "the payload has a version"),
    ("restore", "the payload has a version"),
    ("migrate", "needs a third server"),
    ("wait", "needs replicas"),
];

#[test]
fn every_command_of_these_groups_has_a_shape() {
    let redis = harness::Server::redis(&[]);
    let mut client = redis.client();
    client.hello(3);
    let docs = client.ok(&["COMMAND", "DOCS"]);
    let Value::Map(docs) = docs else { panic!("a map, not {docs}") };
    let used = shape::command_names(GROUPS);
    let mut missing = Vec::new();
    for (name, doc) in docs {
        let Value::Map(fields) = doc else { panic!("a map, not {doc}") };
        let group = fields.iter().find(|(field, _)| *field == "group").map(|(_, group)| group.text());
        let covered = [
            "string",
            "bitmap",
            "hash",
            "list",
            "set",
            "sorted-set",
            "generic",
            "pubsub",
            "transactions",
            "connection",
        ];
        let name = name.text();
        let wanted = group.is_some_and(|group| covered.contains(&group.as_str()));
        if wanted && !used.contains(&name.to_uppercase()) && LEFT_OUT.iter().all(|(left, _)| *left != name) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "no shape for {missing:?}");
}
