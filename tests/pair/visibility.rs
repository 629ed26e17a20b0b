//! What clients of one node see of the other's writes, and when: transactions, messages, waiting clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::{Client, Pair, Suite, Value, until};
use crate::load::{Load, check_sums};
use crate::seen::{each_of, lasting, words};

/// What a client does in each round.
type Work = Box<dyn Fn(&mut Client, u64) + Send>;

/// EXECs on both nodes, each giving all keys the same value; readers on both nodes look at all keys at once.
#[test]
fn nobody_ever_sees_half_a_transaction() {
    let mut suite = Suite::new("pair visibility: transactions");
    let pair = Pair::proxied();
    pair.settle();
    let stop = Arc::new(AtomicBool::new(false));
    let running = |work: Work, node: usize| {
        let (mut client, stop) = (pair.client(node), stop.clone());
        thread::spawn(move || {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                work(&mut client, round);
                round += 1;
                // A pace, so that the four leave the machine to the nodes.
                thread::sleep(std::time::Duration::from_millis(1));
            }
            round
        })
    };
    let mut threads = Vec::new();
    for node in [0, 1] {
        threads.push(running(
            Box::new(move |client, round| {
                let value = format!("{node}:{round}");
                let mut commands = vec![words("MULTI")];
                commands.extend(["x", "y", "z"].map(|key| words(&format!("SET {key} {value}"))));
                commands.push(words(&format!("HSET h f {value} g {value}")));
                commands.push(words("EXEC"));
                assert!(!client.pipeline(&commands).pop().unwrap().is_error());
            }),
            node,
        ));
        threads.push(running(
            Box::new(move |client, _| {
                let seen = client.run("MGET x y z").items();
                assert!(seen[0] == seen[1] && seen[1] == seen[2], "node {node} shows {seen:?}");
                let seen = client.run("HMGET h f g").items();
                assert!(seen[0] == seen[1], "node {node} shows {seen:?}");
            }),
            node,
        ));
    }
    for round in 0..12 {
        match round % 3 {
            0 => pair.cut(),
            1 => pair.heal(),
            _ => pair.flap(),
        }
        lasting(150);
    }
    pair.heal();
    lasting(200);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        suite.add(thread.join().expect("no reader saw half a transaction"));
    }
    pair.settle();
    for mut client in pair.clients::<2>() {
        let seen = client.run("MGET x y z").items();
        assert!(seen[0] == seen[1] && seen[1] == seen[2] && !seen[0].is_null(), "{seen:?}");
    }
}

#[test]
fn a_flush_among_writes_leaves_the_nodes_equal() {
    let mut suite = Suite::new("pair visibility: flush");
    let pair = Pair::proxied();
    let mut clients: [_; 2] = pair.clients();
    let loads = [Load::on(pair.node(0), 211), Load::on(pair.node(1), 212)];
    for round in 0..16 {
        clients[round % 2].ok(&[if round % 3 == 0 { "FLUSHDB" } else { "FLUSHALL" }]);
        lasting(40);
        match round % 5 {
            2 => pair.cut(),
            4 => pair.heal(),
            _ => {}
        }
        suite.add(1);
    }
    pair.heal();
    for load in loads {
        load.stop();
    }
    pair.settle();
    // A flush kills what either side added before it, and nothing else keeps its sums.
    clients[0].ok(&["FLUSHALL"]);
    until("B is empty", || clients[1].run("DBSIZE") == 0);
    let tallies = [Load::on(pair.node(0), 213), Load::on(pair.node(1), 214)];
    lasting(200);
    let tallies = tallies.map(Load::stop);
    pair.settle();
    check_sums(&mut clients, &tallies);
}

#[test]
fn a_message_crosses_to_the_subscribers_of_the_other_node_once() {
    let mut suite = Suite::new("pair visibility: messages");
    let pair = Pair::direct();
    pair.settle();
    let mut subscribers: [_; 2] = pair.clients();
    for subscriber in &mut subscribers {
        subscriber.ok(&["SUBSCRIBE", "news"]);
        subscriber.ok(&["PSUBSCRIBE", "n*"]);
    }
    let [mut a, mut b] = pair.clients();
    for (n, publisher) in [&mut a, &mut b].into_iter().enumerate() {
        publisher.ok(&["PUBLISH", "news", &format!("from {n}")]);
        publisher.ok(&["SET", &format!("after{n}"), "1"]);
    }
    for subscriber in &mut subscribers {
        let mut heard: Vec<String> = (0..4).map(|_| subscriber.read().texts().join(" ")).collect();
        heard.sort();
        assert_eq!(
            heard,
            [
                "message news from 0",
                "message news from 1",
                "pmessage n* news from 0",
                "pmessage n* news from 1"
            ]
        );
        suite.add(4);
    }
    // All there is has crossed: whatever came twice comes before this.
    pair.settle();
    a.ok(&["PUBLISH", "news", "end"]);
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.read(), ["message", "news", "end"], "each message once");
    }
}

#[test]
fn a_waiting_client_is_served_by_the_partners_push_unless_the_partner_had_its_own() {
    let mut suite = Suite::new("pair visibility: waiting clients");
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    pair.settle();
    let mut waiting = pair.client(1);
    waiting.send(&["BLPOP", "l", "0"]).unwrap();
    until("the client waits", || b.run("INFO clients").text().contains("blocked_clients:1"));
    a.ok(&["RPUSH", "l", "job"]);
    assert_eq!(waiting.read(), ["l", "job"]);
    pair.settle();
    assert_eq!(a.run("EXISTS l"), 0);
    // Clients wait on both: the one where the push happens has it, the other still waits.
    let mut on_a = pair.client(0);
    on_a.send(&["BLPOP", "l", "0"]).unwrap();
    waiting.send(&["BLPOP", "l", "0"]).unwrap();
    until("both wait", || {
        [&mut a, &mut b]
            .into_iter()
            .all(|client| client.run("INFO clients").text().contains("blocked_clients:1"))
    });
    for n in 0..5 {
        let job = format!("job{n}");
        a.ok(&["RPUSH", "l", &job]);
        assert_eq!(on_a.read(), ["l", &job]);
        on_a.send(&["BLPOP", "l", "0"]).unwrap();
        until("the client waits again", || a.run("INFO clients").text().contains("blocked_clients:1"));
        suite.add(1);
    }
    pair.settle();
    assert!(b.run("INFO clients").text().contains("blocked_clients:1"), "B's client was not woken in vain");
    b.ok(&["RPUSH", "l", "last"]);
    assert_eq!(waiting.read(), ["l", "last"]);
    // What was pushed while cut off serves the waiting client when it arrives.
    pair.cut();
    waiting.send(&["BLMPOP", "0", "2", "none", "l2", "LEFT"]).unwrap();
    a.ok(&["RPUSH", "l2", "early"]);
    pair.heal();
    assert_eq!(waiting.read().items()[1], Value::Array(vec![Value::Bulk(b"early".to_vec())]));
    pair.settle();
    assert_eq!(a.run("EXISTS l l2"), 0);
}

#[test]
fn keys_set_in_other_databases_arrive_there() {
    let mut suite = Suite::new("pair visibility: databases");
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    pair.settle();
    for db in 0..16 {
        let number = db.to_string();
        a.ok(&["SELECT", &number]);
        each_of(&mut a, 0..20, |n| words(&format!("SET k{n} {db}")));
        b.ok(&["SELECT", &number]);
        b.ok(&["INCRBY", "n", &number]);
        suite.add(1);
    }
    pair.settle();
    for db in 0..16 {
        for client in [&mut a, &mut b] {
            client.ok(&["SELECT", &db.to_string()]);
            assert_eq!(client.run("GET k19").int(), db);
            assert_eq!(client.run("GET n").int(), db);
        }
    }
}
