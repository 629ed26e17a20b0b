//! The wire is cut, stalls, drips or lies.

use std::time::Duration;

use crate::harness::{Options, PATIENCE, Pair, Suite, Value, until};
use crate::load::{Load, check_sums};
use crate::seen::{each_of, full, lasting, link, logged, peers, resyncs, words};

#[test]
fn links_cut_while_the_same_keys_are_set_on_both_sides() {
    let mut suite = Suite::new("pair cuts: both sides write");
    const KEYS: usize = 1000;
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    let loads = [Load::on(pair.node(0), 11), Load::on(pair.node(1), 12)];
    pair.linked();
    pair.cut();
    each_of(&mut a, 0..KEYS, |n| words(&format!("SET k{n} a{n}")));
    each_of(&mut b, 0..KEYS, |n| words(&format!("SET k{n} b{n}")));
    each_of(&mut a, (0..KEYS).step_by(2), |n| words(&format!("SET k{n} again{n}")));
    each_of(&mut b, (0..KEYS).step_by(5), |n| words(&format!("DEL k{n}")));
    lasting(if full() { 60_000 } else { 3000 });
    assert_eq!(link(&mut a), "down");
    pair.heal();
    let tallies = loads.map(Load::stop);
    pair.settle();
    for n in 0..KEYS {
        let expected = match n {
            n if n % 5 == 0 => Value::Null,
            n if n % 2 == 0 => Value::Bulk(format!("again{n}").into()),
            n => Value::Bulk(format!("b{n}").into()),
        };
        for client in [&mut a, &mut b] {
            assert_eq!(client.cmd(&["GET", &format!("k{n}")]), expected, "k{n}");
        }
    }
    check_sums(&mut [a, b], &tallies);
    suite.add(KEYS as u64 + tallies.iter().map(|tally| tally.commands).sum::<u64>());
}

#[test]
fn one_direction_stalls_and_the_other_flows() {
    let _suite = Suite::new("pair cuts: one direction");
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    pair.settle();
    let loads = [Load::on(pair.node(0), 21), Load::on(pair.node(1), 22)];
    pair.stall(0, 1);
    a.ok(&["SET", "from-a", "1"]);
    b.ok(&["SET", "from-b", "1"]);
    until("B's write arrives at A", || a.run("GET from-b") == "1");
    assert!(b.run("GET from-a").is_null());
    assert_eq!(a.run("WAIT 1 300"), 0, "an acknowledgement of what cannot have arrived");
    b.ok(&["SET", "later", "2"]);
    until("B's later write arrives at A", || a.run("GET later") == "2");
    assert!(peers(&mut a)[0]["lag_batches"].parse::<u64>().unwrap() > 0, "{:?}", peers(&mut a));
    pair.heal();
    assert_eq!(a.run("WAIT 1 10000"), 1);
    assert_eq!(b.run("GET from-a"), "1");
    let tallies = loads.map(Load::stop);
    pair.settle();
    check_sums(&mut [a, b], &tallies);
}

#[test]
fn links_cut_over_and_over_under_increments_catch_up_from_the_backlog() {
    let mut suite = Suite::new("pair cuts: flapping");
    let (cuts, between_ms) = if full() { (600, 100) } else { (60, 90) };
    let pair = Pair::proxied();
    let mut clients: [_; 2] = pair.clients();
    let loads = [Load::on(pair.node(0), 31), Load::on(pair.node(1), 32)];
    for _ in 0..cuts {
        pair.flap();
        lasting(between_ms);
    }
    let tallies = loads.map(Load::stop);
    pair.settle();
    check_sums(&mut clients, &tallies);
    for node in [0, 1] {
        assert_eq!(resyncs(pair.node(node)), 0, "the backlog reaches back: nothing to pull");
        assert!(logged(pair.node(node), "is up") > cuts / 4, "the links came back in between");
    }
    suite.add(cuts as u64);
    suite.note(&format!("{} commands", tallies.iter().map(|tally| tally.commands).sum::<u64>()));
}

#[test]
fn a_half_open_link_is_noticed_by_silence_and_resumed() {
    let _suite = Suite::new("pair cuts: half open");
    let pair = Pair::start(Options::new(2).proxied().args(&["--repl-timeout", "1"]));
    let [mut a, mut b] = pair.clients();
    let loads = [Load::on(pair.node(0), 41), Load::on(pair.node(1), 42)];
    pair.linked();
    pair.freeze();
    until("both notice", || link(&mut a) == "down" && link(&mut b) == "down");
    pair.heal();
    pair.linked();
    // A frozen process is a half-open link, too.
    pair.node(1).pause();
    until("A notices the frozen process", || link(&mut a) == "down");
    pair.node(1).resume();
    let tallies = loads.map(Load::stop);
    pair.settle();
    check_sums(&mut [a, b], &tallies);
    // Of a cut, one node may be told by the other, which notices first; of a frozen process, nobody is.
    assert!(logged(pair.node(0), "nothing heard for") > 0, "{}", pair.node(0).log_tail());
}

#[test]
fn one_byte_at_a_time_with_delay_still_arrives() {
    let _suite = Suite::new("pair cuts: dripping");
    let pair = Pair::start(Options::new(2).proxied().args(&["--repl-timeout", "2"]));
    let [mut a, mut b] = pair.clients();
    pair.settle();
    for (from, to) in [(0, 1), (1, 0)] {
        pair.delay(from, to, Duration::from_millis(500));
        pair.pieces(from, to, 1);
    }
    let large = vec![b'x'; if full() { 1 << 20 } else { 200_000 }];
    a.ok(&["SET".as_bytes(), b"large", &large]);
    b.ok(&["RPUSH", "l", "b"]);
    a.ok(&["RPUSH", "l", "a"]);
    until("B has the value byte by byte", || b.run("STRLEN large") == large.len() as i64);
    for (from, to) in [(0, 1), (1, 0)] {
        pair.pieces(from, to, 100);
    }
    let larger = vec![b'y'; 1 << 20];
    b.ok(&["SET".as_bytes(), b"large", &larger]);
    a.ok(&["SET".as_bytes(), b"other", &larger]);
    pair.settle_within(PATIENCE);
    assert_eq!(a.run("GET large"), Value::Bulk(larger));
    for node in [0, 1] {
        assert_eq!(logged(pair.node(node), "nothing heard"), 0, "slow is not silent");
    }
}

#[test]
fn a_flipped_bit_ends_the_link_and_applies_nothing() {
    let mut suite = Suite::new("pair cuts: flipped bits");
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    pair.settle();
    let loads = [Load::on(pair.node(0), 61), Load::on(pair.node(1), 62)];
    let flips = |pair: &Pair| -> u64 {
        pair.lanes(0, 1).iter().map(|(proxy, direction)| proxy.flips(*direction)).sum()
    };
    let value = "v".repeat(500);
    // Offsets from the current place in the stream: headers, heads of frames, keys and values alike.
    for offset in (0..40).chain((40..600).step_by(37)) {
        let before = flips(&pair);
        pair.flip_bit(0, 1, offset);
        for n in 0..3 {
            a.ok(&["SET", &format!("k{offset}-{n}"), &value]);
            a.ok(&["INCR", "n"]);
        }
        until("the bit is flipped", || flips(&pair) > before);
        let last = format!("k{offset}-2");
        until("the write arrives over a new link", || b.cmd(&["GET", &last]) == value.as_str());
        suite.add(1);
    }
    pair.heal();
    let tallies = loads.map(Load::stop);
    pair.settle();
    assert_eq!(a.run("GET n"), b.run("GET n"));
    for key in b.run("KEYS k*").texts() {
        assert_eq!(b.cmd(&["GET", &key]), value.as_str(), "{key}");
    }
    assert!(logged(pair.node(1), "wrong checksum") > 0, "{}", pair.node(1).log_tail());
    check_sums(&mut [a, b], &tallies);
}
