//! How nodes find each other: order of start, dialing at once, introduced at run time, through a third one, with passwords.

use crate::harness::{
    Cluster, Options, PATIENCE, Pair, Partners, Port, Program, Server, Suite, settle_servers, until,
};
use crate::load::{Load, check_sums};
use crate::seen::{each_of, full, lasting, link, logged, peers, words};

fn connections(cluster: &Cluster, nodes: usize) -> usize {
    (0..nodes).map(|node| cluster.proxy(node).connections().len()).sum()
}

#[test]
fn either_order_of_start_ends_in_one_link() {
    let mut suite = Suite::new("pair meeting: order of start");
    for partners in [Partners::Replicaof, Partners::Peer] {
        for (first, late_ms) in [(0, 0), (1, 0), (0, if full() { 60_000 } else { 2500 }), (1, 700)] {
            let mut pair = Pair::prepare(Options::new(2).proxied().partners(partners));
            pair.launch(first);
            pair.client(first).ok(&["SET", "early", "1"]);
            lasting(late_ms);
            pair.launch(1 - first);
            pair.client(1 - first).ok(&["SET", "late", "1"]);
            pair.settle();
            assert_eq!(pair.client(1 - first).run("GET early"), "1");
            assert_eq!(pair.client(first).run("GET late"), "1");
            until("one connection stays", || connections(&pair, 2) == 1);
            suite.add(1);
        }
    }
}

#[test]
fn both_dialing_at_once_again_and_again_ends_in_one_link() {
    let mut suite = Suite::new("pair meeting: both dial");
    let pair = Pair::proxied();
    let mut clients: [_; 2] = pair.clients();
    let loads = [Load::on(pair.node(0), 71), Load::on(pair.node(1), 72)];
    for _ in 0..15 {
        // Both doors open at the same moment, and both sides have been waiting.
        pair.cut();
        lasting(60);
        pair.heal();
        pair.linked();
        until("one connection stays", || connections(&pair, 2) == 1);
        suite.add(1);
    }
    let tallies = loads.map(Load::stop);
    pair.settle();
    check_sums(&mut clients, &tallies);
}

/// Two nodes that do not know each other, full of different data; `k*` on both, the later half of them written by B.
fn strangers(args: [&[&str]; 2]) -> [Server; 2] {
    let servers = args.map(|args| Server::prepare(Program::Meldis, Port::free(), args));
    let servers = servers.map(|mut server| {
        server.launch().unwrap();
        server
    });
    let [mut a, mut b] = [servers[0].client(), servers[1].client()];
    each_of(&mut a, 0..2000, |n| words(&format!("SET a{n} {n}")));
    each_of(&mut b, 0..2000, |n| words(&format!("SET b{n} {n}")));
    each_of(&mut b, 0..100, |n| words(&format!("SET k{n} b")));
    each_of(&mut a, 0..200, |n| words(&format!("SET k{n} a")));
    each_of(&mut b, 100..200, |n| words(&format!("SET k{n} b")));
    each_of(&mut a, 0..50, |n| words(&format!("HSET h{n} fa 1 f a")));
    each_of(&mut b, 0..50, |n| words(&format!("HSET h{n} fb 1 f b")));
    each_of(&mut a, 0..50, |n| words(&format!("INCRBY n{n} 3")));
    each_of(&mut b, 0..50, |n| words(&format!("INCRBY n{n} 4")));
    servers
}

fn check_union(servers: &[Server; 2]) {
    settle_servers(&[&servers[0], &servers[1]], PATIENCE);
    for server in servers {
        let mut client = server.client();
        assert_eq!(client.run("GET a1999"), "1999");
        assert_eq!(client.run("GET b1999"), "1999");
        assert_eq!(client.run("MGET k0 k99 k100 k199"), ["a", "a", "b", "b"]);
        assert_eq!(client.run("HMGET h7 fa fb f"), ["1", "1", "b"]);
        assert_eq!(client.run("GET n7"), "7");
    }
}

const ACTIVE: &[&str] =
    &["--enable-debug-command", "yes", "--active-replica", "yes", "--multi-master", "yes"];

#[test]
fn strangers_full_of_different_data_are_united_by_stamp() {
    let _suite = Suite::new("pair meeting: strangers");
    let servers = strangers([ACTIVE, ACTIVE]);
    let port = servers[1].port().to_string();
    assert_eq!(servers[0].client().cmd(&["REPLICAOF", "127.0.0.1", &port]), "OK");
    check_union(&servers);
}

#[test]
fn strangers_are_united_while_both_are_written_to() {
    let mut suite = Suite::new("pair meeting: strangers under load");
    for round in 0..3 {
        let servers = strangers([ACTIVE, ACTIVE]);
        let loads = [Load::on(&servers[0], 151 + round), Load::on(&servers[1], 161 + round)];
        let ports = [servers[0].port(), servers[1].port()].map(|port| port.to_string());
        servers[0].client().ok(&["REPLICAOF", "127.0.0.1", &ports[1]]);
        servers[1].client().ok(&["REPLICAOF", "127.0.0.1", &ports[0]]);
        lasting(300);
        let tallies = loads.map(Load::stop);
        check_union(&servers);
        check_sums(&mut [servers[0].client(), servers[1].client()], &tallies);
        suite.add(1);
    }
}

#[test]
fn a_node_that_never_had_partners_is_introduced_while_it_is_written_to() {
    let mut suite = Suite::new("pair meeting: a plain node");
    for round in 0..4 {
        // Writes of a node without partners are sequenced nowhere: the first link must not miss one that was under way.
        let plain = Server::start(&["--enable-debug-command", "yes", "--server-threads", "2"]);
        let mut client = plain.client();
        each_of(&mut client, 0..500, |n| words(&format!("SET old{n} {n}")));
        let loads = [Load::on(&plain, 251 + round), Load::on(&plain, 261 + round)];
        let active = Server::start(ACTIVE);
        active.client().ok(&["SET", "mine", "1"]);
        lasting(50);
        active.client().ok(&["REPLICAOF", "127.0.0.1", &plain.port().to_string()]);
        lasting(300);
        for load in loads {
            load.stop();
        }
        settle_servers(&[&plain, &active], PATIENCE);
        assert_eq!(client.run("GET mine"), "1");
        assert_eq!(active.client().run("GET old499"), "499");
        suite.add(1);
    }
}

#[test]
fn joining_through_one_member_is_joining_all() {
    let _suite = Suite::new("pair meeting: joining through one");
    let a = Server::start(ACTIVE);
    let [a_port] = [a.port().to_string()];
    let mut args = ACTIVE.to_vec();
    args.extend(["--replicaof", "127.0.0.1", &a_port]);
    let b = Server::start(&args);
    settle_servers(&[&a, &b], PATIENCE);
    a.client().ok(&["SET", "a", "1"]);
    b.client().ok(&["SET", "b", "1"]);
    let c = Server::start(&args);
    c.client().ok(&["SET", "c", "1"]);
    settle_servers(&[&a, &b, &c], PATIENCE);
    for server in [&a, &b, &c] {
        let mut client = server.client();
        assert_eq!(client.run("MGET a b c"), ["1", "1", "1"]);
        let peers = peers(&mut client);
        assert_eq!(peers.len(), 2, "{peers:?}");
        assert!(peers.iter().all(|peer| peer["link"] == "up"), "{peers:?}");
    }
    // B and C hold each other though the one they joined through is gone.
    drop(a);
    b.client().ok(&["SET", "after", "1"]);
    until("B's write reaches C without A", || c.client().run("GET after") == "1");
}

#[test]
fn partners_know_each_other_by_password() {
    let _suite = Suite::new("pair meeting: passwords");
    let secret = ["--requirepass", "secret", "--masterauth", "secret"];
    let mut pair = Pair::prepare(Options::new(2).args(&secret));
    pair.launch(0);
    pair.launch(1);
    pair.settle();
    pair.client(0).ok(&["SET", "k", "v"]);
    until("the write arrives", || pair.client(1).run("GET k") == "v");
    pair.settle();
}

#[test]
fn a_wrong_password_is_told_in_the_log_and_mended_at_run_time() {
    let _suite = Suite::new("pair meeting: wrong password");
    let pair = Pair::start(Options::new(2).args(&["--requirepass", "secret", "--masterauth", "wrong"]));
    let [mut a, mut b] = pair.clients();
    a.ok(&["SET", "k", "v"]);
    until("both say why there is no link", || {
        [0, 1].iter().all(|&node| logged(pair.node(node), "WRONGPASS") > 0)
    });
    assert!(["none", "down"].contains(&link(&mut a).as_str()));
    assert!(b.run("GET k").is_null());
    a.ok(&["CONFIG", "SET", "masterauth", "secret"]);
    pair.settle();
    assert_eq!(b.run("GET k"), "v");
}
