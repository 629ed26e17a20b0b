//! When the backlog does not reach back: ranges travel, only those that differ, and a cut on the way does no harm.

use std::time::{Duration, Instant};

use crate::harness::{Client, Options, Pair, Suite, until};
use crate::load::{Load, check_sums};
use crate::seen::{each_of, full, logged, peers, resyncs, words};

const SMALL_BACKLOG: &[&str] = &["--repl-backlog-size", "16kb"];

fn fill(client: &mut Client, keys: usize, bytes: usize) {
    let value = "x".repeat(bytes);
    each_of(client, 0..keys, |n| vec!["SET".into(), format!("key:{n}"), format!("{n}{value}")]);
}

/// Waits until so many more bytes have come from node 0 to node 1, but no longer than `patience`: a resync that is over sends
/// no more, and what comes then meets a quiet link.
fn bytes_pass(pair: &Pair, bytes: u64, patience: Duration) {
    let (goal, start) = (pair.link_bytes(0, 1) + bytes, Instant::now());
    while pair.link_bytes(0, 1) < goal && start.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_backlog_overrun_by_one_change_costs_only_the_ranges_that_differ() {
    let _suite = Suite::new("pair resync: overrun");
    let pair = Pair::start(Options::new(2).proxied().args(SMALL_BACKLOG));
    let [mut a, mut b] = pair.clients();
    fill(&mut a, 10_000, 200);
    pair.settle();
    let before = (resyncs(pair.node(1)), pair.link_bytes(0, 1));
    pair.cut();
    // The first write of the outage is pushed out by the second: WAIT puts it into sequence.
    a.ok(&["SET", "lost-from-the-backlog", "1"]);
    assert_eq!(a.run("WAIT 1 1"), 0);
    a.ok(&["SET", "large", &"y".repeat(20_000)]);
    a.ok(&["DEL", "key:17"]);
    b.ok(&["SET", "from-b", "1"]);
    pair.heal();
    pair.settle();
    assert_eq!(b.run("EXISTS lost-from-the-backlog large key:17 from-b"), 3);
    assert!(resyncs(pair.node(1)) > before.0, "{}", pair.node(1).log_tail());
    let bytes = pair.link_bytes(0, 1) - before.1;
    assert!(bytes < 600_000, "{bytes} bytes for a handful of ranges of 2 MB");
}

#[test]
fn a_partner_that_reads_slowly_costs_its_partner_neither_memory_nor_time() {
    let mut suite = Suite::new("pair resync: slow reader");
    // What was freed goes back at once: the resident memory is what the node holds.
    let args = ["--repl-backlog-size", "1mb", "--jemalloc-bg-thread", "no"];
    let pair = Pair::start(Options::new(2).proxied().args(&args));
    let [mut a, mut b] = pair.clients();
    pair.settle();
    pair.throttle(0, 1, 1000);
    let value = vec![b'x'; 50_000];
    let write = |a: &mut Client, number: usize| {
        let mut frames = Vec::new();
        for key in 0..10 {
            crate::harness::encode(&["SET".as_bytes(), format!("k{key}").as_bytes(), &value], &mut frames);
        }
        crate::harness::encode(&["INCR", "n"], &mut frames);
        a.send_raw(&frames).unwrap();
        (0..11).for_each(|_| assert!(!a.read().is_error(), "write {number}"));
    };
    // More than all sockets and the proxy swallow.
    (0..60).for_each(|number| write(&mut a, number));
    let resident = || pair.node(0).resident_kb();
    let before = resident();
    let mut slowest = Duration::ZERO;
    let mut other = pair.client(0);
    let (rounds, start) = (if full() { 20_000 } else { 80 }, Instant::now());
    for number in 0..rounds {
        write(&mut a, number as usize);
        let start = Instant::now();
        other.ok(&["SET", "small", "1"]);
        slowest = slowest.max(start.elapsed());
        suite.add(1);
    }
    suite.note(&format!("{:.0} MB/s", rounds as f64 * 0.5 / start.elapsed().as_secs_f64()));
    let grown = resident().saturating_sub(before);
    assert!(grown < 20_000, "A grew by {grown} kB while {rounds} times 0.5 MB could not be sent");
    assert!(slowest < Duration::from_millis(1000), "a client of A waited {slowest:?}");
    b.ok(&["SET", "b", "1"]);
    until("B's writes still reach A", || a.run("GET b") == "1");
    pair.heal();
    pair.settle();
    assert_eq!(b.run("GET n").int(), rounds + 60);
}

#[test]
fn a_resync_cut_at_many_chunks_goes_on_and_loses_nothing() {
    let mut suite = Suite::new("pair resync: cut at chunks");
    let mut pair = Pair::prepare(Options::new(2).proxied().args(SMALL_BACKLOG));
    pair.launch(0);
    let mut a = pair.client(0);
    fill(&mut a, 8000, 300);
    each_of(&mut a, 0..500, |n| words(&format!("INCRBY sum:{n} 2")));
    pair.throttle(0, 1, 3_000_000);
    pair.launch(1);
    let mut b = pair.client(1);
    each_of(&mut b, 0..500, |n| words(&format!("INCRBY sum:{n} 3")));
    let loads = [Load::on(pair.node(0), 141), Load::on(pair.node(1), 142)];
    // Over keys that are apart.
    let steps = if full() { 200 } else { 30 };
    let apart = 8000 / steps;
    let mut cuts = 0u64;
    for step in 0..steps {
        // From just behind the answer to well into the chunks, then the link ends.
        bytes_pass(&pair, 20_000 + 9_000 * (step as u64 % 10), Duration::from_millis(500));
        // A deletion in the middle of it all must not be undone by an older chunk.
        a.ok(&["DEL", &format!("key:{}", step * apart)]);
        b.ok(&["SET", &format!("key:{}", step * apart + 1), "from-b"]);
        pair.flap();
        cuts += 1;
    }
    pair.heal();
    let tallies = loads.map(Load::stop);
    pair.settle();
    let mut clients = [a, b];
    check_sums(&mut clients, &tallies);
    for client in &mut clients {
        for step in 0..steps {
            assert!(client.cmd(&["GET", &format!("key:{}", step * apart)]).is_null());
            assert_eq!(client.cmd(&["GET", &format!("key:{}", step * apart + 1)]), "from-b");
        }
        for n in 0..500 {
            assert_eq!(client.cmd(&["GET", &format!("sum:{n}")]), "5");
        }
    }
    assert!(resyncs(pair.node(1)) > 2, "none was cut: {}", pair.node(1).log_tail());
    suite.add(cuts);
    suite.note(&format!("{} resyncs begun", resyncs(pair.node(1))));
}

/// An end is not cut off but gone. What the giver had is on the taker as far as it came, and the taker, who
/// comes back with nothing, begins again.
#[test]
fn a_resync_whose_giver_or_taker_is_killed_goes_on_with_what_is_left() {
    let mut suite = Suite::new("pair resync: an end is killed");
    for killed in [0, 1] {
        let mut pair = Pair::prepare(Options::new(2).proxied().args(SMALL_BACKLOG));
        pair.launch(0);
        fill(&mut pair.client(0), 4000, 300);
        pair.throttle(0, 1, 2_000_000);
        pair.launch(1);
        each_of(&mut pair.client(1), 0..200, |n| words(&format!("INCRBY sum:{n} 3")));
        let load = Load::on(pair.node(1 - killed), 145);
        for round in 1..=4 {
            bytes_pass(&pair, 150_000 * round, Duration::from_millis(1500));
            pair.crash(killed);
            suite.add(1);
        }
        pair.heal();
        let tallies = [load.stop()];
        pair.settle();
        let mut clients: [_; 2] = pair.clients();
        check_sums(&mut clients, &tallies);
        if killed == 1 {
            assert_eq!(clients[1].run("EXISTS key:0 key:1999 key:3999"), 3);
        } else {
            assert_eq!(clients[0].run("GET sum:199"), "3");
        }
    }
}

#[test]
fn a_cut_resync_does_not_start_all_over() {
    let _suite = Suite::new("pair resync: progress");
    let mut pair = Pair::prepare(Options::new(2).proxied().args(SMALL_BACKLOG));
    pair.launch(0);
    fill(&mut pair.client(0), 8000, 300);
    pair.throttle(0, 1, 4_000_000);
    pair.launch(1);
    for _ in 0..8 {
        bytes_pass(&pair, 400_000, Duration::from_millis(1500));
        pair.flap();
    }
    pair.settle();
    assert!(resyncs(pair.node(1)) > 2, "none was cut: {}", pair.node(1).log_tail());
    let bytes = pair.link_bytes(0, 1);
    assert!(bytes < 2 * 8000 * 350, "{bytes} bytes for 8000 keys of 300, cut eight times");
}

#[test]
fn an_operator_has_all_ranges_compared() {
    let _suite = Suite::new("pair resync: on demand");
    let pair = Pair::proxied();
    let [mut a, _] = pair.clients();
    fill(&mut a, 1000, 20);
    pair.settle();
    assert_eq!(a.run("MELD RESYNC"), 1);
    until("the ranges are verified", || peers(&mut a)[0]["verified_at_ms"] != "0");
    assert_eq!(peers(&mut a)[0]["differing_ranges"], "0");
    assert_eq!(logged(pair.node(0), "ranges differ"), 0);
    pair.settle();
}
