//! Replicas that keep what they follow on disk.

use crate::harness::{PATIENCE, Port, Program, Server, Suite, settle_servers, until};
use crate::place::{EVERYSEC, digests, last_journal};
use crate::record::{Writer, check_all};
use crate::seen::{each_of, lasting, resyncs, words};

fn replica_of(primary: u16) -> Server {
    let mut server = Server::prepare(Program::Meldis, Port::free(), &following(primary));
    server.launch().unwrap();
    server
}

fn following(primary: u16) -> Vec<&'static str> {
    let port: &'static str = Box::leak(primary.to_string().into_boxed_str());
    [EVERYSEC, &["--replicaof", "127.0.0.1", port]].concat()
}

/// Waits until the file has it: what others wrote goes there ten times a second.
#[track_caller]
fn is_on_disk(server: &Server, key: &str) {
    until(&format!("{key} is on disk"), || {
        let bytes = std::fs::read(last_journal(server)).unwrap();
        bytes.windows(key.len()).any(|bytes| bytes == key.as_bytes())
    });
}

#[test]
fn a_replica_goes_on_from_its_disk_without_a_resync() {
    let mut suite = Suite::new("disk replica: goes on");
    let primary = Server::start(EVERYSEC);
    let mut a = primary.client();
    each_of(&mut a, 0..2000, |n| words(&format!("SET k{n} {n}")));
    let mut replica = replica_of(primary.port());
    settle_servers(&[&primary, &replica], PATIENCE);
    // The first time all was pulled.
    is_on_disk(&replica, "k1999");
    let before = resyncs(&replica);
    for round in 0..4 {
        let writer = Writer::on(&primary, &round.to_string(), 2);
        writer.has_written(4);
        match round % 2 {
            0 => replica.kill(),
            _ => drop(replica.stop()),
        }
        a.ok(&["DEL", &format!("k{round}")]);
        a.ok(&["INCR", "n"]);
        let record = writer.end();
        replica.launch().unwrap();
        let mut b = replica.client();
        assert!(b.run("DBSIZE").int() > 1000, "it starts with what it had");
        settle_servers(&[&primary, &replica], PATIENCE);
        assert_eq!(resyncs(&replica), before, "{}", replica.log_tail());
        assert_eq!(b.run("GET n").int(), round + 1);
        assert_eq!(b.run(&format!("EXISTS k{round}")), 0);
        assert_eq!(b.run("SET x 1"), "READONLY You can't write against a read only replica.");
        suite.add(check_all(&[record], &replica));
    }
    // A primary that is gone: the replica has all by itself.
    let mut primary = primary;
    let before = digests(&replica);
    primary.kill();
    replica.restart();
    assert_eq!(digests(&replica)[1..], before[1..]);
}

#[test]
fn a_replica_pointed_elsewhere_while_down_drops_its_data_once_it_is_accepted() {
    let _suite = Suite::new("disk replica: pointed elsewhere");
    let first = Server::start(EVERYSEC);
    let second = Server::start(&[EVERYSEC, &["--requirepass", "secret"]].concat());
    first.client().ok(&["SET", "of-first", "1"]);
    let mut b = second.client();
    b.ok(&["SET", "of-second", "2"]);
    let mut replica = replica_of(first.port());
    settle_servers(&[&first, &replica], PATIENCE);
    is_on_disk(&replica, "of-first");
    replica.kill();
    replica.set_args(&following(second.port()));
    replica.launch().unwrap();
    let mut client = replica.client();
    // It is refused, and keeps what it has.
    until("it is refused", || replica.log().contains("NOAUTH") || replica.log().contains("uthentication"));
    assert_eq!(client.run("GET of-first"), "1");
    replica.kill();
    replica.launch().unwrap();
    let mut client = replica.client();
    assert_eq!(client.run("GET of-first"), "1", "also over a kill");
    client.ok(&["CONFIG", "SET", "masterauth", "secret"]);
    until("it follows", || client.run("GET of-second") == "2");
    assert_eq!(client.run("EXISTS of-first"), 0);
    settle_servers(&[&second, &replica], PATIENCE);
    assert_eq!(b.run("EXISTS of-first"), 0, "nothing of it reaches the new primary");
    // What it has dropped does not come back from its disk, not even right away.
    replica.kill();
    let with_password = [&following(second.port())[..], &["--masterauth", "secret"]].concat();
    replica.set_args(&with_password);
    replica.launch().unwrap();
    settle_servers(&[&second, &replica], PATIENCE);
    assert_eq!(replica.client().run("EXISTS of-first of-second"), 1);
    assert_eq!(b.run("EXISTS of-first"), 0);
}

#[test]
fn what_a_node_held_of_its_own_goes_when_its_primary_has_accepted_it() {
    let mut suite = Suite::new("disk replica: once on its own");
    for kills in [0, 3] {
        let mut primary = Server::start(EVERYSEC);
        let mut a = primary.client();
        a.ok(&["SET", "theirs", "1"]);
        a.ok(&["INCRBY", "n", "3"]);
        let mut node = Server::start(EVERYSEC);
        let mut b = node.client();
        b.ok(&["SET", "mine", "1"]);
        b.ok(&["INCRBY", "n", "40"]);
        primary.stop();
        node.kill();
        node.set_args(&following(primary.port()));
        node.launch().unwrap();
        let mut b = node.client();
        // Nobody to follow: nothing is dropped.
        lasting(300);
        assert_eq!(b.run("MGET mine n"), ["1", "40"]);
        primary.launch().unwrap();
        for _ in 0..kills {
            until("it follows", || b.run("EXISTS mine") == 0);
            node.kill();
            node.launch().unwrap();
            b = node.client();
        }
        settle_servers(&[&primary, &node], PATIENCE);
        let mut a = primary.client();
        for client in [&mut a, &mut b] {
            assert_eq!(client.run("MGET theirs n"), ["1", "3"]);
            assert_eq!(client.run("EXISTS mine"), 0);
        }
        node.restart();
        settle_servers(&[&primary, &node], PATIENCE);
        assert_eq!(node.client().run("EXISTS mine theirs"), 1);
        suite.add(1);
    }
}

#[test]
fn a_promotion_survives() {
    let mut suite = Suite::new("disk replica: promoted");
    for is_killed in [true, false] {
        let primary = Server::start(EVERYSEC);
        primary.client().ok(&["INCRBY", "n", "5"]);
        let mut replica = replica_of(primary.port());
        settle_servers(&[&primary, &replica], PATIENCE);
        let mut b = replica.client();
        b.ok(&["REPLICAOF", "NO", "ONE"]);
        b.ok(&["SET", "own", "1"]);
        b.ok(&["INCRBY", "n", "2"]);
        // As CONFIG REWRITE would have it.
        replica.set_args(EVERYSEC);
        if is_killed {
            replica.kill();
        } else {
            replica.stop();
        }
        replica.launch().unwrap();
        let mut b = replica.client();
        assert_eq!(b.info("replication", "role").unwrap(), "master");
        assert_eq!(b.run("MGET own n"), ["1", "7"]);
        b.ok(&["INCRBY", "n", "1"]);
        assert_eq!(b.run("GET n"), "8");
        assert_eq!(primary.client().run("GET n"), "5");
        // A partner of its former primary: both sides' writes count.
        primary.client().ok(&["INCRBY", "n", "10"]);
        suite.add(1);
    }
}
