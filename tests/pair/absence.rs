//! A member that stays away longer than `peer-max-absence`: the others collect their tombstones, and it returns.

use crate::harness::{Cluster, Options, PATIENCE, Partners, Server, Suite, settle_servers, until};
use crate::load::{Load, check_sums};
use crate::seen::{each_of, lasting, peers, words};

#[test]
fn a_member_back_from_a_long_absence_resurrects_nothing_and_keeps_its_own() {
    let mut suite = Suite::new("pair absence");
    let args = ["--peer-max-absence", "1", "--repl-backlog-size", "16kb"];
    let cluster = Cluster::start(Options::new(3).proxied().args(&args));
    let mut clients: [_; 3] = cluster.clients();
    let [a, b, c] = &mut clients;
    each_of(a, 0..300, |n| words(&format!("SET gone{n} {n}")));
    each_of(a, 0..300, |n| words(&format!("SET stays{n} {n}")));
    a.ok(&["SADD", "set", "x", "y", "z"]);
    a.ok(&["HSET", "hash", "f", "1", "g", "1"]);
    a.ok(&["RPUSH", "list", "1", "2", "3"]);
    a.ok(&["ZADD", "zset", "1", "x", "2", "y"]);
    cluster.settle();
    cluster.cut_between(0, 2);
    cluster.cut_between(1, 2);
    let loads = [Load::on(cluster.node(0), 201), Load::on(cluster.node(2), 203)];
    each_of(a, (0..300).step_by(2), |n| words(&format!("DEL gone{n}")));
    each_of(b, (1..300).step_by(2), |n| words(&format!("DEL gone{n}")));
    b.ok(&["SREM", "set", "x"]);
    a.ok(&["HDEL", "hash", "f"]);
    b.ok(&["LREM", "list", "0", "2"]);
    b.ok(&["ZREM", "zset", "x"]);
    each_of(c, 0..100, |n| words(&format!("SET new{n} {n}")));
    until("A counts C as silent for more than a second", || {
        peers(a).iter().any(|peer| peer["silent_ms"].parse::<u64>().unwrap() > 1000)
    });
    // From here on tombstones go; what is deleted now goes at once.
    lasting(500);
    a.ok(&["SREM", "set", "y"]);
    c.ok(&["SADD", "set", "own"]);
    // And on: the absence is the fault.
    lasting(1000);
    cluster.heal();
    let tallies = loads.map(Load::stop);
    cluster.settle();
    check_sums(&mut clients, &tallies);
    for client in &mut clients {
        for n in 0..300 {
            assert!(client.cmd(&["GET", &format!("gone{n}")]).is_null(), "gone{n} came back");
            assert_eq!(client.cmd(&["GET", &format!("stays{n}")]).int(), n);
        }
        assert_eq!(client.run("SMISMEMBER set x y z own").to_string(), "[0 0 1 1]");
        assert_eq!(client.run("HGETALL hash"), ["g", "1"]);
        assert_eq!(client.run("LRANGE list 0 -1"), ["1", "3"]);
        assert_eq!(client.run("ZRANGE zset 0 -1"), ["y"]);
        assert_eq!(client.run("MGET new0 new99"), ["0", "99"]);
    }
    suite.add(300);
}

/// It is in no configuration but its own. Those that know it restart while it is away: they have lost what they held, and
/// must go on waiting for it.
#[test]
fn a_member_that_joined_is_waited_for_over_restarts() {
    let mut suite = Suite::new("pair absence: restarts");
    let options = Options::new(2).partners(Partners::Peer).args(&["--repl-backlog-size", "16kb"]);
    let mut cluster = Cluster::start(options);
    let joined = Server::start(&["--peer", &format!("127.0.0.1:{}", cluster.node(0).port())]);
    let settle = |cluster: &Cluster| settle_servers(&[cluster.node(0), cluster.node(1), &joined], PATIENCE);
    settle(&cluster);
    cluster.client(0).ok(&["SET", "gone", "before"]);
    cluster.client(1).ok(&["RPUSH", "list", "before"]);
    settle(&cluster);
    joined.pause();
    [0, 1].into_iter().for_each(|index| cluster.node_mut(index).kill());
    [0, 1].into_iter().for_each(|index| cluster.launch(index));
    cluster.settle();
    let [mut a, mut b] = cluster.clients();
    a.ok(&["SET", "gone", "after"]);
    b.ok(&["RPUSH", "list", "after"]);
    cluster.settle();
    b.ok(&["DEL", "gone"]);
    a.ok(&["DEL", "list"]);
    cluster.settle();
    // If nobody waits for it, what tells of the deletions goes now, out of the backlog as well.
    let filler = "x".repeat(100);
    [&mut a, &mut b]
        .into_iter()
        .for_each(|client| each_of(client, 0..500, |n| words(&format!("SET k{n} {filler}"))));
    lasting(500);
    joined.resume();
    settle(&cluster);
    for client in [&mut a, &mut b, &mut joined.client()] {
        assert_eq!(client.run("EXISTS gone list").int(), 0);
    }
    suite.add(2);
}
