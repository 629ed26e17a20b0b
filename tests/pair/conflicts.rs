//! Concurrent writes that have lost, as both nodes log and count them.

use crate::harness::{Client, Options, Pair, Suite, until};
use crate::seen::{agree, each_of, resyncs, words};

const KEYS: usize = 100;

#[track_caller]
fn counted(client: &mut Client, kind: &str) -> usize {
    let field = format!("conflicts_{kind}");
    client.info("convergence", &field).unwrap().parse().unwrap()
}

/// Winner, loser and lost value of every key in the log.
fn logged(client: &mut Client) -> Vec<Vec<String>> {
    let entries = client.run("MELD CONFLICTS -1").items();
    let mut shown: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let fields = entry.items();
            let side = |at: usize| fields[at].items()[1].text();
            vec![fields[9].text(), side(13), side(15), fields[17].text()]
        })
        .collect();
    shown.sort();
    shown
}

#[test]
fn what_both_sides_set_while_cut_apart_is_in_both_logs_once() {
    let mut suite = Suite::new("pair conflicts: cut apart");
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    pair.settle();
    pair.cut();
    each_of(&mut a, 0..KEYS, |n| words(&format!("SET k{n} a{n}")));
    each_of(&mut b, 0..KEYS, |n| words(&format!("SET k{n} b{n}")));
    a.ok(&["SET", "only-a", "1"]);
    b.ok(&["SADD", "only-b", "1"]);
    pair.heal();
    pair.settle();
    let (of_a, of_b) = (logged(&mut a), logged(&mut b));
    assert_eq!(of_a, of_b);
    assert_eq!(of_a.len(), KEYS);
    for client in [&mut a, &mut b] {
        assert_eq!((counted(client, "value"), counted(client, "total")), (KEYS, KEYS));
        let won = client.run("MELD STAMP k7").items();
        assert_eq!(won[13].items().len(), 1, "{won:?}");
    }
    suite.add(2 * KEYS as u64);
}

#[test]
fn writes_one_after_the_other_are_no_conflicts() {
    let mut suite = Suite::new("pair conflicts: sequential");
    let pair = Pair::direct();
    let mut clients: [Client; 2] = pair.clients();
    pair.settle();
    for n in 0..KEYS {
        // As soon as it is there: no heartbeat needs to pass.
        let (here, there) = (n % 2, (n + 1) % 2);
        clients[here].ok(&["SET", "k", &n.to_string()]);
        clients[here].ok(&["HSET", "h", "f", &n.to_string()]);
        until("the other node has it", || clients[there].run("HGET h f") == n.to_string().as_str());
    }
    for client in &mut clients {
        assert_eq!(counted(client, "total"), 0, "{}", client.run("MELD CONFLICTS"));
    }
    suite.add(2 * KEYS as u64);
}

#[test]
fn a_resync_tells_what_is_certain_and_makes_nothing_up() {
    let mut suite = Suite::new("pair conflicts: resync");
    let pair = Pair::start(Options::new(2).proxied().args(&["--repl-backlog-size", "16kb"]));
    let [mut a, mut b] = pair.clients();
    pair.settle();
    pair.cut();
    let long = "v".repeat(1000);
    for (name, client) in [("a", &mut a), ("b", &mut b)] {
        each_of(client, 0..KEYS, |n| words(&format!("SET k{n} {name}{n}{long}")));
        // The backlog keeps the last segment however long it is: what came before goes.
        client.ok(&["WAIT", "0", "1"]);
        each_of(client, 0..KEYS, |n| words(&format!("SET {name}{n} {long}")));
        client.ok(&["WAIT", "0", "1"]);
    }
    pair.heal();
    pair.settle();
    assert!(resyncs(pair.node(0)) + resyncs(pair.node(1)) > 0, "the backlog is too short");
    let mut clients = [a, b];
    let told = clients.each_mut().map(|client| counted(client, "total"));
    assert!(told.iter().sum::<usize>() >= KEYS && told.iter().all(|told| *told <= KEYS), "{told:?}");
    each_of(&mut clients[1], 0..KEYS, |n| words(&format!("SET k{n} later{n}")));
    agree(&mut clients);
    assert_eq!(clients.each_mut().map(|client| counted(client, "total")), told);
    suite.add(5 * KEYS as u64);
}
