//! Wrong clocks: one node's wall clock is off, its monotonic one is not.

use crate::harness::{Client, Clock, Options, Pair, Suite, until};
use crate::load::{Load, check_sums};
use crate::seen::{lasting, link, logged, peers};

/// By how much the partner's clock is ahead, as the node has measured it.
fn offset(client: &mut Client) -> i64 {
    peers(client).first().map_or(0, |peer| peer["clock_offset_ms"].parse().unwrap())
}

/// A pair whose second node lives by this clock.
fn pair_with(clock: &Clock, args: &[&str]) -> Pair {
    let mut pair = Pair::prepare(Options::new(2).proxied().args(args));
    clock.give_to(pair.node_mut(1));
    pair.launch(0);
    pair.launch(1);
    pair
}

#[test]
fn stamps_still_rise_when_the_clock_is_set_back_across_a_restart() {
    let mut suite = Suite::new("pair clocks: back across a restart");
    for crash in [false, true] {
        let clock = Clock::at(0);
        // B takes what its partner writes ten seconds ahead of it.
        let mut pair = pair_with(&clock, &["--max-clock-drift", "20000"]);
        pair.settle();
        let mut b = pair.client(1);
        b.ok(&["SET", "k", "before"]);
        b.ok(&["SET", "gone", "before"]);
        b.ok(&["SADD", "s", "before"]);
        pair.settle();
        // Cut off, so that B cannot learn the time from its partner.
        pair.cut();
        clock.set(-10);
        if crash {
            pair.crash(1)
        } else {
            pair.restart(1)
        }
        let mut b = pair.client(1);
        b.ok(&["SET", "k", "after"]);
        b.ok(&["SET", "gone", "again"]);
        b.ok(&["DEL", "gone"]);
        pair.heal();
        pair.settle();
        for node in [0, 1] {
            assert_eq!(pair.client(node).run("GET k"), "after", "node {node}, crash {crash}");
            assert_eq!(pair.client(node).run("EXISTS gone"), 0, "node {node}, crash {crash}");
            assert_eq!(pair.client(node).run("SMEMBERS s"), ["before"]);
        }
        suite.add(1);
    }
}

#[test]
fn a_clock_an_hour_ahead_is_held_shown_and_taken_when_allowed() {
    let _suite = Suite::new("pair clocks: an hour ahead");
    let clock = Clock::at(3600);
    let pair = pair_with(&clock, &[]);
    let [mut a, mut b] = pair.clients();
    b.ok(&["SET", "k", "future"]);
    b.ok(&["SET", "only-b", "1"]);
    until("A shows the skew", || link(&mut a) == "clock_skew");
    until("the log tells of it", || logged(pair.node(0), "Clock skew") > 0);
    let loads = [Load::without_expiry(pair.node(0), 171), Load::without_expiry(pair.node(1), 172)];
    a.ok(&["SET", "k", "present"]);
    a.ok(&["SET", "only-a", "1"]);
    until("A's writes reach B", || b.run("GET only-a") == "1");
    assert_eq!(a.run("GET k"), "present");
    assert!(a.run("GET only-b").is_null());
    // Time for what must not happen: the link stays held, and is not given up.
    lasting(500);
    assert_eq!(link(&mut a), "clock_skew");
    let tallies = loads.map(Load::stop);
    a.ok(&["CONFIG", "SET", "max-clock-drift", "7200000"]);
    pair.settle();
    assert_eq!(a.run("GET k"), "future");
    assert_eq!(a.run("GET only-b"), "1");
    // Having seen the future, A writes behind it.
    a.ok(&["SET", "k", "latest"]);
    pair.settle();
    assert_eq!(b.run("GET k"), "latest");
    check_sums(&mut [a, b], &tallies);
}

#[test]
fn a_clock_an_hour_ahead_that_is_set_right_has_lost_and_masked_nothing() {
    let _suite = Suite::new("pair clocks: an hour ahead, set right");
    let clock = Clock::at(3600);
    let pair = pair_with(&clock, &[]);
    let [mut a, mut b] = pair.clients();
    let loads = [Load::without_expiry(pair.node(0), 175), Load::without_expiry(pair.node(1), 176)];
    b.ok(&["SET", "only-b", "1"]);
    b.ok(&["INCRBY", "n", "5"]);
    a.ok(&["INCRBY", "n", "2"]);
    until("A shows the skew", || link(&mut a) == "clock_skew");
    a.ok(&["SET", "only-a", "1"]);
    until("A's writes reach B", || b.run("GET only-a") == "1");
    assert!(a.run("GET only-b").is_null());
    clock.set(0);
    until("what was held arrives", || a.run("GET only-b") == "1");
    // An hour early for who still believes the other clock.
    a.ok(&["SET", "only-b", "2"]);
    b.ok(&["SET", "after", "1"]);
    let tallies = loads.map(Load::stop);
    pair.settle();
    for client in [&mut a, &mut b] {
        assert_eq!(client.run("MGET only-a only-b after n"), ["1", "2", "1", "7"]);
    }
    until("A says that it is over", || link(&mut a) == "up");
    check_sums(&mut [a, b], &tallies);
}

#[test]
fn held_changes_are_taken_when_their_time_has_come() {
    let _suite = Suite::new("pair clocks: back in time");
    let clock = Clock::at(5);
    let pair = pair_with(&clock, &["--max-clock-drift", "500"]);
    let [mut a, mut b] = pair.clients();
    let loads = [Load::without_expiry(pair.node(0), 173), Load::without_expiry(pair.node(1), 174)];
    b.ok(&["SET", "k", "future"]);
    until("A shows the skew", || link(&mut a) == "clock_skew");
    a.ok(&["SET", "k", "present"]);
    assert_eq!(a.run("GET k"), "present");
    clock.set(0);
    let tallies = loads.map(Load::stop);
    b.ok(&["SET", "after", "1"]);
    pair.settle();
    assert_eq!(a.run("GET k"), "future");
    assert_eq!(a.run("GET after"), "1");
    until("A says that it is over", || link(&mut a) == "up");
    check_sums(&mut [a, b], &tallies);
}

#[test]
fn a_partner_far_behind_measures_what_it_holds_and_tells_of_it_once() {
    let _suite = Suite::new("pair clocks: far behind from a restart on");
    let clock = Clock::at(0);
    let mut pair = pair_with(&clock, &[]);
    pair.client(0).ok(&["SET", "k", "0"]);
    pair.settle();
    clock.set(-10);
    pair.crash(1);
    let [mut a, mut b] = pair.clients();
    a.ok(&["SET", "k", "1"]);
    until("B shows the skew", || link(&mut b) == "clock_skew");
    let is_right = |ms: i64| (9800..10_200).contains(&ms);
    until("B sees A ahead, and A sees B behind", || is_right(offset(&mut b)) && is_right(-offset(&mut a)));
    // Each write is held for half of the time that B is off, and then taken while the next is held.
    for round in 2..12 {
        a.ok(&["SET", "k", &round.to_string()]);
        b.ok(&["SET", "own", &round.to_string()]);
        for _ in 0..10 {
            lasting(75);
            assert!(is_right(offset(&mut b)), "round {round}: {}", offset(&mut b));
            assert!(is_right(-offset(&mut a)), "round {round}: {}", offset(&mut a));
            assert_eq!((link(&mut a), link(&mut b)), ("up".to_owned(), "clock_skew".to_owned()));
        }
    }
    until("A's writes are taken in the end", || b.run("GET k") == "11");
    // Nothing is held any more, but what is written next would be.
    lasting(1500);
    assert_eq!(link(&mut b), "clock_skew");
    clock.set(0);
    pair.settle();
    until("B says that it is over", || link(&mut b) == "up");
    a.ok(&["SET", "k", "last"]);
    pair.settle();
    for words in ["Clock skew: node", "is over: its changes are taken"] {
        until("the log says so, a moment later", || logged(pair.node(1), words) > 0);
        let counts = [0, 1].map(|node| logged(pair.node(node), words));
        assert_eq!(counts, [0, 1], "{words}: {}", pair.node(1).log_tail());
    }
}

#[test]
fn links_live_on_when_the_wall_clock_is_set_while_they_run() {
    let mut suite = Suite::new("pair clocks: set at run time");
    let clock = Clock::at(0);
    // Nothing is held: what is seen here is the timers alone.
    let pair = pair_with(&clock, &["--repl-timeout", "2", "--max-clock-drift", "7200000"]);
    let [mut a, mut b] = pair.clients();
    pair.settle();
    for (round, offset) in [-3600, -3600, 0].into_iter().enumerate() {
        clock.set(offset);
        // The node reads it within a second; then a link without heartbeats would be silent for too long.
        lasting(3500);
        let key = format!("k{round}");
        a.ok(&["SET", &key, "a"]);
        until("A's write reaches B", || b.cmd(&["GET", &key]) == "a");
        b.ok(&["SET", &key, "b"]);
        until("B's write reaches A", || a.cmd(&["GET", &key]) == "b");
        // Also the one that dials goes on by a clock that does not jump.
        pair.flap();
        pair.settle();
        suite.add(1);
    }
    for node in [0, 1] {
        assert_eq!(logged(pair.node(node), "nothing heard for"), 0, "{}", pair.node(node).log_tail());
    }
}

#[test]
fn a_clock_a_second_ahead_is_measured_and_warned_of() {
    let _suite = Suite::new("pair clocks: a second ahead");
    let clock = Clock::at(1);
    let pair = pair_with(&clock, &[]);
    pair.settle();
    let [mut a, mut b] = pair.clients();
    until("A sees B ahead, and B sees A behind", || {
        (900..1100).contains(&offset(&mut a)) && (-1100..-900).contains(&offset(&mut b))
    });
    until("both warn of it", || (0..2).all(|node| logged(pair.node(node), "The clock of node") > 0));
    assert!(
        pair.node(0).log().contains("ms ahead of this node's")
            && pair.node(1).log().contains("ms behind this node's")
    );
    clock.set(0);
    until("A says that it is over", || logged(pair.node(0), "agrees with this node's again") > 0);
    until("A measures nothing", || offset(&mut a).abs() < 100);
}
