//! Processes end, planned or not, and come back with less than they had.

use std::time::{Duration, Instant};

use crate::harness::{Client, Cluster, Options, Pair, Random, Suite, encode, until};
use crate::load::{Load, check_sums};
use crate::seen::{agree, each_of, full, lasting, peers, words};

#[test]
fn a_member_that_restarts_empty_is_refilled_and_sums_stay_exact() {
    let mut suite = Suite::new("pair restarts: crashes");
    let mut pair = Pair::start(Options::new(2).proxied().args(&["--save", ""]));
    let mut a = pair.client(0);
    each_of(&mut a, 0..500, |n| words(&format!("SET k{n} {n}")));
    let (mut from_a, mut from_b) = (0, 0);
    let load = Load::on(pair.node(0), 451);
    for round in 0..3 {
        let mut b = pair.client(1);
        for _ in 0..50 {
            b.ok(&["INCR", "from-b"]);
            b.ok(&["INCR", "both"]);
            b.ok(&["HINCRBY", "h", "both", "1"]);
            b.ok(&["ZINCRBY", "z", "1", "both"]);
            from_b += 1;
        }
        for _ in 0..70 {
            a.ok(&["INCR", "both"]);
            a.ok(&["HINCRBY", "h", "both", "1"]);
            a.ok(&["ZINCRBY", "z", "1", "both"]);
            from_a += 1;
        }
        // A holds all that B added: from there on a crash of B loses nothing.
        crate::harness::until("A has B's sum", || a.run("GET from-b").to_string() == format!("\"{from_b}\""));
        match round {
            0 | 2 => pair.crash(1),
            _ => pair.crash_wiped(1),
        }
        suite.add(1);
    }
    let tallies = [load.stop()];
    let mut b = pair.client(1);
    b.ok(&["INCR", "both"]);
    pair.settle();
    for client in [&mut a, &mut b] {
        assert_eq!(client.run("GET both").int(), from_a + from_b + 1);
        assert_eq!(client.run("HGET h both").int(), from_a + from_b);
        assert_eq!(client.run("ZSCORE z both").int(), from_a + from_b);
        assert_eq!(client.run("GET from-b").int(), from_b);
        assert_eq!(client.run("GET k499"), "499");
        let peers = peers(client);
        assert_eq!(peers.len(), 1, "the lives before are no members: {peers:?}");
    }
    check_sums(&mut [a, b], &tallies);
}

/// Without a disk the killed node comes back empty and has of the transaction what its partner has.
#[test]
fn a_node_killed_in_the_middle_of_an_exec_has_told_all_of_it_or_nothing() {
    let mut suite = Suite::new("pair restarts: killed in an EXEC");
    const WRITES: usize = 100;
    let rounds = if full() { 100 } else { 25 };
    let mut pair = Pair::proxied();
    let mut random = Random::new(Random::seed(131));
    let keys: Vec<String> = (0..WRITES).map(|n| format!("x:{n}")).collect();
    let (mut all, mut none, mut acknowledged) = (0, 0, 0);
    for round in 1..=rounds {
        pair.settle();
        let load = Load::on(pair.node(1), 460 + round);
        let mut requests = Vec::new();
        encode(&["MULTI"], &mut requests);
        keys.iter().for_each(|key| encode(&["SET", key, &round.to_string()], &mut requests));
        let whole = requests.len();
        encode(&["EXEC"], &mut requests);
        let mut a = pair.client(0);
        a.send_raw(&requests[..whole]).unwrap();
        (0..=WRITES).for_each(|_| assert!(!a.read().is_error()));
        a.send_raw(&requests[whole..]).unwrap();
        // From before the node has seen it until after it has answered.
        let moment = Instant::now() + Duration::from_micros(random.below(1500) as u64);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        pair.node_mut(0).kill();
        let told = a.read_raw().is_ok();
        load.stop();
        let mut b = pair.client(1);
        let has = |client: &mut Client| -> bool {
            let get: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
            let values = client.ok(&get).items();
            assert!(values.iter().all(|value| *value == values[0]), "round {round}: {values:?}");
            values[0] == round.to_string().as_str()
        };
        if told {
            until("what was acknowledged is on B", || has(&mut b));
        }
        pair.launch(0);
        pair.settle();
        let there = has(&mut b);
        assert_eq!(has(&mut pair.client(0)), there, "round {round}");
        (all, none, acknowledged) =
            (all + u64::from(there), none + u64::from(!there), acknowledged + u64::from(told));
        suite.add(1);
    }
    suite.note(&format!("{all} times all of it, {none} times nothing, {acknowledged} acknowledged"));
}

/// Without a disk nothing is left, and nothing of it haunts what comes after.
#[test]
fn both_killed_at_once_begin_anew_and_alike() {
    let mut suite = Suite::new("pair restarts: both killed");
    let mut pair = Pair::proxied();
    for round in 0..3 {
        pair.settle();
        let doomed = [0, 1].map(|node| {
            let mut client = pair.client(node);
            std::thread::spawn(move || while client.try_cmd(&["INCR", "lost"]).is_ok() {})
        });
        let mut a = pair.client(0);
        until("both count", || a.run("INCRBY lost 0").int() > 200);
        (0..2).for_each(|node| pair.node_mut(node).kill());
        doomed.into_iter().for_each(|thread| thread.join().unwrap());
        (0..2).for_each(|node| pair.launch(node));
        let loads = [0, 1].map(|node| Load::on(pair.node(node), 470 + 2 * round + node as u64));
        lasting(200);
        let tallies = loads.map(Load::stop);
        pair.settle();
        let mut clients: [_; 2] = pair.clients();
        check_sums(&mut clients, &tallies);
        for client in &mut clients {
            assert!(client.run("GET lost").is_null());
            client.ok(&["FLUSHALL"]);
        }
        suite.add(1);
    }
}

#[test]
fn a_wiped_member_of_three_is_one_member_not_two() {
    let _suite = Suite::new("pair restarts: wiped among three");
    let mut cluster = Cluster::start(Options::new(3).proxied());
    cluster.settle();
    let mut c = cluster.client(2);
    for _ in 0..20 {
        c.ok(&["INCR", "n"]);
    }
    cluster.settle();
    for _ in 0..2 {
        cluster.crash_wiped(2);
        cluster.client(2).ok(&["INCR", "n"]);
        cluster.settle();
    }
    // Nobody brings the dead one up again by hearsay.
    cluster.flap();
    cluster.settle();
    for node in 0..3 {
        let mut client = cluster.client(node);
        assert_eq!(client.run("GET n"), "22");
        // The wiped one hears that the dead one lives at its own address, and dials that to learn who it was.
        until("the dead is no member", || peers(&mut client).len() == 2);
    }
}

#[test]
fn a_planned_stop_hands_over_all_it_has() {
    let mut suite = Suite::new("pair restarts: planned stop");
    let mut pair = Pair::proxied();
    pair.settle();
    let mut from_b = 0;
    for round in 0..3 {
        pair.delay(1, 0, std::time::Duration::from_millis(100));
        let mut b = pair.client(1);
        each_of(&mut b, 0..2000, |_| words("INCR n"));
        from_b += 2000;
        pair.node_mut(1).stop();
        crate::harness::until("all that B acknowledged is on A", || {
            pair.client(0).run("GET n").to_string() == format!("\"{from_b}\"")
        });
        pair.client(0).ok(&["SET", "while-away", &round.to_string()]);
        pair.heal();
        pair.launch(1);
        pair.settle();
        assert_eq!(pair.client(1).run("GET while-away").int(), round);
        assert_eq!(pair.client(1).run("GET n").int(), from_b);
        suite.add(1);
    }
}

#[test]
fn both_restart_in_turn_under_load_of_the_other() {
    let mut suite = Suite::new("pair restarts: in turn");
    let mut pair = Pair::proxied();
    pair.settle();
    let mut sums = Vec::new();
    for round in 0..4 {
        let (stays, leaves) = (round % 2, 1 - round % 2);
        let load = Load::on(pair.node(stays), 551 + round as u64);
        pair.restart(leaves);
        lasting(100);
        sums.push(load.stop());
        pair.settle();
        suite.add(1);
    }
    let mut clients: [_; 2] = pair.clients();
    agree(&mut clients);
    check_sums(&mut clients, &sums);
}
