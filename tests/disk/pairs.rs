//! Two nodes with disks, of which one or both are killed or wiped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Client, Options, Pair, Random, Server, Suite, encode, until};
use crate::load::{Load, check_sums};
use crate::place::ALWAYS;
use crate::record::{Record, Writer, check_all};
use crate::seen::{full, peers};

const NUMBERS: &[&[&str]] =
    &[&["INCR", "both"], &["HINCRBY", "h", "both", "1"], &["ZINCRBY", "z", "1", "both"]];

/// Counts up in every type, one command at a time, until its node is gone or it is told to stop.
struct Counter {
    acknowledged: Arc<[AtomicI64; 3]>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Counter {
    fn on(server: &Server) -> Counter {
        let acknowledged: Arc<[AtomicI64; 3]> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut client, counts, stopped) = (server.client(), acknowledged.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (command, count) in NUMBERS.iter().zip(counts.iter()) {
                    if client.try_cmd(command).is_err() {
                        return;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Counter { acknowledged, stop, thread }
    }

    fn has_counted(&self, number: i64) {
        until("it counts", || self.acknowledged[2].load(Ordering::Relaxed) >= number);
    }

    fn end(self) -> [i64; 3] {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::array::from_fn(|kind| self.acknowledged[kind].load(Ordering::Relaxed))
    }
}

/// What all have added up to.
#[derive(Default)]
struct Sums {
    acknowledged: [i64; 3],
    /// Commands whose fate nobody knows: their node was killed before it answered.
    open: i64,
}

impl Sums {
    fn take(&mut self, counted: [i64; 3], was_killed: bool) {
        self.acknowledged.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
        self.open += i64::from(was_killed);
    }

    /// The same on every node, all that was acknowledged, and at most what was open besides.
    #[track_caller]
    fn check(&self, clients: &mut [Client]) {
        let seen = clients.iter_mut().map(|client| {
            ["GET both", "HGET h both", "ZSCORE z both"].map(|question| client.run(question).text())
        });
        let seen: Vec<[String; 3]> = seen.collect();
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
        let more: i64 = (0..3)
            .map(|kind| {
                let sum: i64 = seen[0][kind].parse().unwrap();
                let more = sum - self.acknowledged[kind];
                assert!(more >= 0, "{:?} acknowledged, {:?} there", self.acknowledged, seen[0]);
                more
            })
            .sum();
        assert!(more <= self.open, "{more} more than acknowledged, {} open", self.open);
    }
}

/// Scenario 11. In every other round the links are cut while B writes, so that only its disk has what it acknowledged. In all
/// of them it is looked at before it hears from A, which may have been told more than B's disk: looks that take turns with
/// what A sends would see parts of that.
#[test]
fn a_member_killed_in_mid_write_loses_nothing_that_it_acknowledged() {
    let mut suite = Suite::new("disk pair: B killed in mid write");
    let rounds = if full() { 40 } else { 8 };
    let mut pair = Pair::start(Options::new(2).proxied().args(ALWAYS));
    pair.settle();
    let (mut sums, mut records) = (Sums::default(), Vec::new());
    let load = Load::on(pair.node(0), 611);
    for round in 0..rounds {
        if round % 2 == 1 {
            pair.cut();
        }
        let counters = [0, 1, 1].map(|node| Counter::on(pair.node(node)));
        let writer = Writer::on(pair.node(1), &format!("{round}"), 3);
        counters.iter().for_each(|counter| counter.has_counted(30));
        writer.has_written(4);
        pair.node_mut(1).kill();
        let [on_a, more @ ..] = counters;
        more.into_iter().for_each(|counter| sums.take(counter.end(), true));
        sums.take(on_a.end(), false);
        records.push(writer.end());
        pair.cut();
        pair.launch(1);
        let mut b = pair.client(1);
        records[round].check(&mut |args| b.ok(args));
        pair.heal();
        pair.linked();
        suite.add(1);
    }
    let tallies = [load.stop()];
    pair.settle();
    let mut clients: [_; 2] = pair.clients();
    sums.check(&mut clients);
    check_sums(&mut clients, &tallies);
    (0..2).for_each(|node| {
        check_all(&records, pair.node(node));
    });
    for client in &mut clients {
        let peers = peers(client);
        assert_eq!(peers.len(), 1, "the lives before are no members: {peers:?}");
    }
}

/// Scenario 12.
#[test]
fn both_killed_at_once_have_what_they_acknowledged() {
    let mut suite = Suite::new("disk pair: both killed");
    let rounds = if full() { 30 } else { 6 };
    let mut pair = Pair::start(Options::new(2).proxied().args(ALWAYS));
    pair.settle();
    let (mut sums, mut records) = (Sums::default(), Vec::<Record>::new());
    for round in 0..rounds {
        if round % 3 == 2 {
            pair.cut();
        }
        let counters = [0, 1].map(|node| Counter::on(pair.node(node)));
        let writers = [0, 1].map(|node| Writer::on(pair.node(node), &format!("{round}:{node}"), 2));
        counters.iter().for_each(|counter| counter.has_counted(20));
        writers.iter().for_each(|writer| writer.has_written(4));
        (0..2).for_each(|node| pair.node_mut(node).kill());
        counters.into_iter().for_each(|counter| sums.take(counter.end(), true));
        let ended = writers.map(Writer::end);
        // Each has its own by itself, without what the other was told.
        pair.cut();
        (0..2).for_each(|node| pair.launch((node + round) % 2));
        for (node, record) in ended.iter().enumerate() {
            let mut client = pair.client(node);
            record.check(&mut |args| client.ok(args));
        }
        records.extend(ended);
        pair.heal();
        pair.settle();
        sums.check(&mut pair.clients::<2>());
        suite.add(1);
    }
    (0..2).for_each(|node| {
        check_all(&records, pair.node(node));
    });
}

/// Scenario 13. In every other round the links are cut: what is there afterwards was on the disk.
#[test]
fn a_node_killed_in_the_middle_of_an_exec_has_all_of_it_or_nothing() {
    let mut suite = Suite::new("disk pair: killed in an EXEC");
    const WRITES: usize = 100;
    let rounds = if full() { 100 } else { 16 };
    let mut pair = Pair::start(Options::new(2).proxied().args(ALWAYS));
    let mut random = Random::new(Random::seed(613));
    let keys: Vec<String> = (0..WRITES).map(|n| format!("x:{n}")).collect();
    let (mut all, mut none, mut acknowledged) = (0, 0, 0);
    for round in 1..=rounds {
        pair.settle();
        if round % 2 == 0 {
            pair.cut();
        }
        let mut requests = Vec::new();
        encode(&["MULTI"], &mut requests);
        keys.iter().for_each(|key| encode(&["SET", key, &round.to_string()], &mut requests));
        let queued = requests.len();
        encode(&["EXEC"], &mut requests);
        let mut a = pair.client(0);
        a.send_raw(&requests[..queued]).unwrap();
        (0..=WRITES).for_each(|_| assert!(!a.read().is_error()));
        a.send_raw(&requests[queued..]).unwrap();
        let moment = Instant::now() + Duration::from_micros(random.below(2500) as u64);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        pair.node_mut(0).kill();
        let told = a.read_raw().is_ok();
        let has = |client: &mut Client| -> bool {
            let get: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
            let values = client.ok(&get).items();
            assert!(values.iter().all(|value| *value == values[0]), "round {round}: {values:?}");
            values[0] == round.to_string().as_str()
        };
        pair.launch(0);
        let there = has(&mut pair.client(0));
        assert!(there || !told || round % 2 == 1, "round {round}: acknowledged, and not on disk");
        pair.heal();
        pair.settle();
        let [mut a, mut b] = pair.clients();
        let there = has(&mut a);
        assert_eq!(has(&mut b), there, "round {round}");
        assert!(there || !told, "round {round}: acknowledged, and gone");
        (all, none, acknowledged) =
            (all + u64::from(there), none + u64::from(!there), acknowledged + u64::from(told));
        suite.add(1);
    }
    suite.note(&format!("{all} times all of it, {none} times nothing, {acknowledged} acknowledged"));
}

/// CNT-4 with disks kept, and then with B's disk wiped.
#[test]
fn sums_are_exact_however_often_a_member_is_killed_or_wiped() {
    let mut suite = Suite::new("disk pair: exact sums");
    let mut pair = Pair::start(Options::new(2).proxied().args(ALWAYS));
    pair.settle();
    let mut a = pair.client(0);
    let (mut sum, mut from_b) = (0, 0);
    for round in 0..5 {
        let is_wiped = round > 1 && round % 2 == 0;
        let count = |client: &mut Client, times: i64| {
            (0..times).for_each(|_| drop(client.ok(&["INCR", "n"])));
            times
        };
        sum += count(&mut a, 200);
        from_b += count(&mut pair.client(1), 50);
        if is_wiped {
            pair.settle();
            pair.crash_wiped(1);
        } else {
            pair.crash(1);
        }
        sum += count(&mut a, 100);
        from_b += count(&mut pair.client(1), 50);
        suite.add(1);
    }
    pair.settle();
    for mut client in pair.clients::<2>() {
        assert_eq!(client.run("GET n").int(), sum + from_b);
        assert_eq!(peers(&mut client).len(), 1);
    }
    // And from the disks alone.
    (0..2).for_each(|node| pair.node_mut(node).kill());
    (0..2).for_each(|node| pair.launch(node));
    pair.settle();
    assert_eq!(pair.client(1).run("GET n").int(), sum + from_b);
}

#[test]
fn a_node_that_starts_from_its_journal_waits_for_a_member_that_comes_later() {
    let mut suite = Suite::new("disk pair: one comes later");
    let mut pair = Pair::start(Options::new(2).proxied().args(ALWAYS));
    for round in 0..3 {
        pair.settle();
        let [mut a, mut b] = pair.clients();
        (0..30).for_each(|_| drop(a.ok(&["INCR", "n"])));
        b.ok(&["SADD", "s", "x", "y"]);
        pair.settle();
        pair.cut();
        // Each alone has something that the other lacks, and has removed what the other keeps.
        a.ok(&["SREM", "s", "x"]);
        a.ok(&["SET", "from-a", &round.to_string()]);
        b.ok(&["SET", "from-b", &round.to_string()]);
        b.ok(&["DEL", "s2"]);
        b.ok(&["INCR", "n"]);
        (0..2).for_each(|node| pair.node_mut(node).kill());
        pair.heal();
        pair.launch(0);
        let mut a = pair.client(0);
        assert_eq!(a.run("GET from-a").int(), round);
        a.ok(&["INCR", "n"]);
        // What A removes while B is away stays removed, for B is known from before.
        a.ok(&["DEL", "s"]);
        let member = format!("x{round}");
        a.ok(&["SADD", "s2", &member]);
        if round == 2 {
            pair.crash(0);
        }
        pair.launch(1);
        pair.settle();
        for mut client in pair.clients::<2>() {
            assert_eq!(client.run("MGET from-a from-b").texts(), [round.to_string(), round.to_string()]);
            assert_eq!(client.run("GET n").int(), (round + 1) * 32);
            assert_eq!(client.run("EXISTS s"), 0);
            assert_eq!(client.run("SMEMBERS s2"), [&member[..]]);
        }
        suite.add(1);
    }
}
