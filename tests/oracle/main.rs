//! The one-Redis oracle: what real nodes hold is what a real redis-server holds that executed all effects in stamp order.
//!
//! Each round has a fresh cluster of two or three nodes, random writes of all types on all of them, cuts, stalls, kills and
//! restarts. Then the nodes must agree, every effect of every node (MELD EFFECTS, [`feed`]) is sorted by stamp and
//! replayed into Redis ([`replay`]), and every key of every node is compared with Redis's: type, value, expiry.
//!
//! ```text
//! cargo test --test oracle                                          about a minute, with a fresh seed
//! MELDIS_ORACLE_S=3600 cargo test --test oracle -- --nocapture      an hour of load
//! MELDIS_SEED=5 cargo test --test oracle                            the same choices again
//! ```
//! What a node takes to its grave is not judged: [`history`] says what that is, and each round how much. With disks that is
//! nothing, unless one is wiped.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

#[path = "../harness/mod.rs"]
mod harness;

mod load;
mod storm;
mod feed;
mod history;
mod replay;
mod compare;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use compare::Listing;
use feed::{Effect, Follower};
use harness::{Cluster, Options, Partners, Random, Server, until};
use history::History;
use load::Load;
use replay::Replayer;
use storm::Storm;

/// Seconds of load, unless `MELDIS_ORACLE_S` says otherwise.
const LOAD_S: u64 = 60;
/// Seconds of load in a round, at most.
const ROUND_S: u64 = 9;

/// A run with more keys in doubt has shown too little.
const DOUBTFUL_PERCENT_MAX: usize = 50;

/// Past cargo's capture: a run that fails elsewhere has told its seed.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32) % 1_000_000_000
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn a_wrongly_ordered_effect_is_noticed() {
    let cluster = Cluster::start(Options::new(2));
    cluster.settle();
    let batches = Arc::default();
    let followers = [0, 1].map(|node| Follower::of(cluster.node(node), &batches, None));
    let mut client = cluster.client(0);
    for line in ["SET k a", "SET k b", "RPUSH l a b", "INCR n", "HSET h f 1", "HINCRBY h f 1"] {
        client.run(line);
    }
    cluster.settle();
    let token = feed::token(&mut client).unwrap();
    until("all is told", || followers.iter().all(|follower| follower.has(&token)));
    let lives = followers.map(Follower::end);
    assert_eq!(lives[0].tokens.last(), Some(&token));
    let history = History::of(std::mem::take(&mut batches.lock().unwrap()), &token, &BTreeMap::new(), &[]);
    let held = compare::listing(&mut client);
    let mut effects: Vec<Effect> = history.effects.into_iter().map(|(_, effect)| effect).collect();
    let differing = |effects: &[Effect]| {
        let redis = Server::redis(&["--save", ""]);
        Replayer::into(redis.client()).run(effects);
        let differing = compare::differing(&held, &compare::listing(&mut redis.client()));
        differing.into_iter().map(|(_, key)| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(differing(&effects), Vec::<String>::new());
    effects.swap(0, 1);
    assert_eq!(differing(&effects), ["k"]);
    effects.swap(2, 3);
    effects.swap(5, 6);
    assert_eq!(differing(&effects), ["h", "k", "l"]);
}

#[test]
fn every_node_holds_what_one_redis_would_after_all_effects_in_stamp_order() {
    let seed = Random::seed(fresh_seed());
    say(&format!("oracle: seed {seed}; replay with MELDIS_SEED={seed}"));
    let mut left_s = std::env::var("MELDIS_ORACLE_S").map_or(LOAD_S, |text| text.parse().unwrap());
    let mut random = Random::new(seed);
    let mut total = Compared::default();
    for number in 0.. {
        let time_s = left_s.min(ROUND_S);
        if time_s == 0 {
            break;
        }
        left_s -= time_s;
        let round = Round {
            seed,
            number,
            nodes: 2 + number % 2,
            time: Duration::from_secs(time_s),
            kills: number % 4 < 2 || random.chance(50),
            disks: number % 4 == 1 || random.chance(40),
            load: load::Kind { whole: number % 4 > 0, brief: number % 3 == 1 },
        };
        let compared = round.run(&mut random);
        total.keys += compared.keys;
        total.doubtful += compared.doubtful;
    }
    let most = total.keys * DOUBTFUL_PERCENT_MAX / 100;
    assert!(total.doubtful <= most, "{} of {} keys could not be judged", total.doubtful, total.keys);
    assert!(total.keys > 0, "nothing was left to compare");
}

/// How many keys the nodes held, and how many of them Redis was not asked about.
#[derive(Default)]
struct Compared {
    keys: usize,
    doubtful: usize,
}

/// A cluster's life.
struct Round {
    seed: u64,
    number: usize,
    nodes: usize,
    time: Duration,
    kills: bool,
    /// What is written is kept on disk.
    disks: bool,
    load: load::Kind,
}

impl Round {
    fn run(&self, random: &mut Random) -> Compared {
        let started = Instant::now();
        let partners = *random.pick(&[Partners::Replicaof, Partners::Peer]);
        let appendonly = if self.disks { "yes" } else { "no" };
        let args = ["--repl-backlog-size", "256mb", "--repl-timeout", "2", "--appendonly", appendonly];
        let cluster = Cluster::start(Options::new(self.nodes).proxied().partners(partners).args(&args));
        cluster.settle();
        let load_seed = random.next();
        let mut storm = Storm::around(cluster, self.nodes, self.disks, random);
        let doors = storm.doors.iter().cloned().enumerate();
        let ports: Vec<_> = doors.map(|(node, door)| (storm.cluster.node(node).port(), door)).collect();
        let load = Load::on(&ports, load_seed, self.load);
        storm.rage(self.time, self.kills);
        let tally = load.stop();
        storm.cluster.heal();
        self.outlast(&storm.cluster);
        storm.cluster.settle();
        let vector = storm.collect();
        storm.followers.drain(..).for_each(|follower| drop(follower.end()));
        let batches = std::mem::take(&mut *storm.batches.lock().unwrap());
        let history = History::of(batches, &vector, &storm.ended, &tally.unsure);
        let is_kept = self.disks && !storm.faults.contains_key(storm::WIPED);
        assert!(history.lost.is_empty() || !is_kept, "lost though every disk is kept: {:#?}", history.lost);
        let (compared, exceptions) = self.judge(&storm.cluster, &history);
        say(&format!(
            "oracle: seed {} round {}: {} nodes {} disks, {} commands, {} effects, {} lost, {} keys compared, {} of them among \
             nodes only, faults {}, exceptions {}, {:.1} s",
            self.seed,
            self.number,
            self.nodes,
            if self.disks { "with" } else { "without" },
            tally.commands,
            history.effects.len(),
            history.lost.len(),
            compared.keys,
            compared.doubtful,
            counts(&storm.faults),
            counts(&exceptions),
            started.elapsed().as_secs_f64()
        ));
        compared
    }

    /// Compares the nodes with each other, and with Redis; also says how often Redis was put right.
    fn judge(&self, cluster: &Cluster, history: &History) -> (Compared, BTreeMap<&'static str, usize>) {
        let _log = Log::of(history, self);
        let nodes: Vec<Listing> =
            (0..self.nodes).map(|node| compare::listing(&mut cluster.client(node))).collect();
        for (node, listing) in nodes.iter().enumerate().skip(1) {
            check_equal((&nodes[0], "node 0"), (listing, &format!("node {node}")), history, |_| false);
        }
        let redis = Server::redis(&["--save", "", "--appendonly", "no"]);
        let mut replayer = Replayer::into(redis.client());
        replayer.run(history.effects.iter().map(|(_, effect)| effect));
        let mut oracle = compare::listing(&mut redis.client());
        compare::expire(&mut oracle, replay::LATER_MS, now_ms());
        let is_doubtful = |key: &[u8]| history.all_doubtful || history.doubtful.contains(key);
        check_equal((&oracle, "Redis"), (&nodes[0], "the nodes"), history, is_doubtful);
        let doubtful = nodes[0].keys().filter(|(_, key)| is_doubtful(key)).count();
        (Compared { keys: nodes[0].len(), doubtful }, replayer.exceptions)
    }

    /// Waits until nothing is about to expire.
    fn outlast(&self, cluster: &Cluster) {
        let mut clients: Vec<_> = (0..self.nodes).map(|node| cluster.client(node)).collect();
        until("what was to expire soon is gone", || {
            let until_ms = now_ms() + 4 * load::BRIEF_MS;
            clients.iter_mut().all(|client| compare::is_steady(client, until_ms))
        });
    }
}

/// All effects in a file, which stays if the round fails.
struct Log(PathBuf);

impl Log {
    fn of(history: &History, round: &Round) -> Log {
        let name = format!("meldis-oracle-{}-{}-{}.log", std::process::id(), round.seed, round.number);
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, history.log()).unwrap();
        Log(path)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("oracle: all effects are in {}", self.0.display()));
        } else {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// # Panics
/// With the keys that differ, and all that was written to the first of them.
fn check_equal(
    one: (&Listing, &str),
    other: (&Listing, &str),
    history: &History,
    is_doubtful: impl Fn(&[u8]) -> bool,
) {
    let mut differing = compare::differing(one.0, other.0);
    differing.retain(|(_, key)| !is_doubtful(key));
    let Some(first) = differing.first() else { return };
    let mut text = format!("oracle: {} and {} differ in {} keys:\n", one.1, other.1, differing.len());
    for name in &differing {
        for (listing, who) in [one, other] {
            let _ = writeln!(text, "{who}: {}", compare::show(name, listing.get(name)));
        }
    }
    text += &history.about(&first.1);
    say(&text);
    panic!("{} and {} differ, see above", one.1, other.1);
}

fn counts(of: &BTreeMap<&'static str, usize>) -> String {
    let counts: Vec<String> = of.iter().map(|(what, count)| format!("{count} {what}")).collect();
    format!("[{}]", counts.join(", "))
}
