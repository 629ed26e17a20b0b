//! Replica mode: `replicaof` without `active-replica`.

use crate::harness::{Client, PATIENCE, Port, Program, Proxy, Server, Suite, settle_servers, until};
use crate::load::{Load, check_sums};
use crate::seen::{each_of, lasting, link, logged, resyncs, words};

const DEBUG: &[&str] = &["--enable-debug-command", "yes"];

fn replica_of(port: u16, more: &[&str]) -> Server {
    let port = port.to_string();
    let mut args = DEBUG.to_vec();
    args.extend(["--replicaof", "127.0.0.1", &port]);
    args.extend(more);
    let mut server = Server::prepare(Program::Meldis, Port::free(), &args);
    server.launch().unwrap();
    server
}

#[test]
fn a_replica_follows_refuses_writes_and_catches_up_by_itself() {
    let mut suite = Suite::new("pair replica: follows");
    let mut args = DEBUG.to_vec();
    args.extend(["--repl-backlog-size", "1mb"]);
    let primary = Server::start(&args);
    let mut a = primary.client();
    each_of(&mut a, 0..1000, |n| words(&format!("SET k{n} {n}")));
    let proxy = Proxy::to(primary.port());
    let replica = replica_of(proxy.port(), &[]);
    let mut b = replica.client();
    assert_eq!(b.run("SET k1 x"), "READONLY You can't write against a read only replica.");
    assert!(b.run("DEL k1").text().starts_with("READONLY"));
    settle_servers(&[&primary, &replica], PATIENCE);
    assert_eq!(b.run("GET k999"), "999");
    assert_eq!(b.info("replication", "role").unwrap(), "slave");
    assert_eq!(b.info("replication", "master_link_status").unwrap(), "up");
    assert_eq!(a.info("replication", "role").unwrap(), "master");
    // Scripts that switch over compare offsets: the primary's counts what is acknowledged, the replica's what it holds.
    let offset = |client: &mut Client| client.info("replication", "master_repl_offset").unwrap();
    let before = offset(&mut a);
    a.ok(&["SET", "k999", "999"]);
    let after = offset(&mut a);
    assert_ne!(after, before);
    until("the replica's offset is the primary's", || offset(&mut b) == after);
    assert!(a.info("replication", "slave0").unwrap().contains("state=online"));

    // Short cuts: from the backlog.
    let load = Load::on(&primary, 301);
    let before = resyncs(&replica);
    for _ in 0..10 {
        proxy.reset_connections();
        lasting(50);
        suite.add(1);
    }
    let tally = load.stop();
    settle_servers(&[&primary, &replica], PATIENCE);
    assert_eq!(resyncs(&replica), before, "{}", replica.log_tail());
    // A long one, past the backlog: by itself, and deletions too.
    proxy.cut();
    let large = "x".repeat(100_000);
    each_of(&mut a, 0..30, |n| vec!["SET".into(), format!("large{n}"), large.clone()]);
    // WAIT puts it into sequence: what comes next pushes it out of the backlog.
    assert_eq!(a.run("WAIT 1 1"), 0);
    each_of(&mut a, 0..500, |n| words(&format!("DEL k{n}")));
    proxy.heal();
    settle_servers(&[&primary, &replica], PATIENCE);
    assert!(resyncs(&replica) > before);
    assert_eq!(b.run("EXISTS k0 k499 k500"), 1);
    check_sums(&mut [a, b], &[tally]);
}

#[test]
fn what_a_replica_held_before_goes_and_what_expires_there_expires() {
    let _suite = Suite::new("pair replica: begins anew");
    let primary = Server::start(DEBUG);
    let mut a = primary.client();
    a.ok(&["SET", "mine", "1"]);
    a.ok(&["SET", "brief", "1", "PX", "300"]);
    let other = Server::start(DEBUG);
    let mut b = other.client();
    b.ok(&["SET", "theirs", "1"]);
    b.ok(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    settle_servers(&[&primary, &other], PATIENCE);
    assert_eq!(b.run("EXISTS mine theirs"), 1);
    until("the key is gone on the replica", || b.run("GET brief").is_null());
    assert!(b.run("SET x 1").text().starts_with("READONLY"));
}

#[test]
fn a_promoted_replica_takes_writes_and_becomes_a_partner() {
    let _suite = Suite::new("pair replica: promoted");
    let active = [DEBUG, &["--active-replica", "yes", "--multi-master", "yes"]].concat();
    let primary = Server::start(&active);
    let mut a = primary.client();
    each_of(&mut a, 0..200, |n| words(&format!("INCRBY n{n} 2")));
    let replica = replica_of(primary.port(), &[]);
    settle_servers(&[&primary, &replica], PATIENCE);
    let mut b = replica.client();
    assert_eq!(b.run("REPLICAOF NO ONE"), "OK");
    assert_eq!(b.info("replication", "role").unwrap(), "master");
    // Apart: both write, nothing crosses.
    b.ok(&["INCRBY", "n7", "3"]);
    b.ok(&["SET", "b", "1"]);
    a.ok(&["INCRBY", "n7", "5"]);
    // Time for what must not happen.
    lasting(400);
    assert_eq!(a.run("GET n7"), "7");
    assert_eq!(b.run("GET n7"), "5");
    // Partners: both sides' writes count.
    assert_eq!(a.cmd(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]), "OK");
    settle_servers(&[&primary, &replica], PATIENCE);
    for client in [&mut a, &mut b] {
        assert_eq!(client.run("GET n7"), "10");
        assert_eq!(client.run("GET n8"), "2");
        assert_eq!(client.run("GET b"), "1");
    }
    b.ok(&["SET", "later", "1"]);
    until("it stays a partner", || a.run("GET later") == "1");
    settle_servers(&[&primary, &replica], PATIENCE);
}

#[test]
fn a_replica_waits_for_a_primary_that_is_not_there_yet_and_outlives_it() {
    let _suite = Suite::new("pair replica: waits");
    let mut primary = Server::prepare(Program::Meldis, Port::free(), DEBUG);
    let replica = replica_of(primary.port(), &[]);
    let mut b = replica.client();
    until("INFO shows that there is no primary", || {
        b.info("replication", "master_link_status").is_some_and(|status| status == "down")
    });
    primary.launch().unwrap();
    primary.client().ok(&["SET", "k", "1"]);
    settle_servers(&[&primary, &replica], PATIENCE);
    primary.stop();
    until("the replica sees it go", || b.info("replication", "master_link_status").unwrap() == "down");
    assert_eq!(b.run("GET k"), "1");
    until("the log tells of it", || logged(&replica, "is down") > 0);
    primary.launch().unwrap();
    settle_servers(&[&primary, &replica], PATIENCE);
}

#[test]
fn what_a_node_wrote_before_it_follows_reaches_nobody() {
    let _suite = Suite::new("pair replica: follows again");
    let primary = Server::start(DEBUG);
    let mut a = primary.client();
    a.ok(&["SET", "k", "theirs"]);
    let replica = replica_of(primary.port(), &[]);
    settle_servers(&[&primary, &replica], PATIENCE);
    let mut b = replica.client();
    assert_eq!(b.run("REPLICAOF NO ONE"), "OK");
    b.ok(&["SET", "k", "mine"]);
    b.ok(&["SET", "mine", "1"]);
    assert_eq!(b.cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]), "OK");
    until("it has its primary's data", || b.run("GET k") == "theirs");
    settle_servers(&[&primary, &replica], PATIENCE);
    assert_eq!(a.run("GET k"), "theirs");
    assert_eq!(a.run("EXISTS mine"), 0);
}

#[test]
fn a_partner_that_becomes_a_replica_takes_nothing_away() {
    let _suite = Suite::new("pair replica: once a partner");
    let active = [DEBUG, &["--active-replica", "yes", "--multi-master", "yes"]].concat();
    let first = Server::start(&active);
    let second = Server::start(DEBUG);
    let (mut a, mut b) = (first.client(), second.client());
    a.ok(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    until("they are partners", || link(&mut a) == "up");
    b.ok(&["SET", "k", "1"]);
    b.ok(&["INCRBY", "n", "5"]);
    a.ok(&["INCRBY", "n", "2"]);
    settle_servers(&[&first, &second], PATIENCE);
    let follow = |b: &mut Client| b.ok(&["REPLICAOF", "127.0.0.1", &first.port().to_string()]);
    follow(&mut b);
    until("it follows", || b.info("replication", "master_link_status").is_some_and(|status| status == "up"));
    settle_servers(&[&first, &second], PATIENCE);
    for client in [&mut a, &mut b] {
        assert_eq!(client.run("GET k"), "1");
        assert_eq!(client.run("GET n"), "7");
    }
    // What it counts after that goes on from there.
    b.run("REPLICAOF NO ONE");
    a.ok(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    b.ok(&["INCRBY", "n", "1"]);
    until("its sums go on", || a.run("GET n") == "8");
    settle_servers(&[&first, &second], PATIENCE);
}

#[test]
fn a_client_that_waits_for_a_key_is_told_when_its_node_becomes_a_replica() {
    let _suite = Suite::new("pair replica: waiting clients");
    let primary = Server::start(DEBUG);
    let other = Server::start(DEBUG);
    let mut waiting = other.client();
    waiting.send(&["BLPOP", "l", "0"]).unwrap();
    let mut b = other.client();
    until("it waits", || b.info("clients", "blocked_clients").is_some_and(|count| count == "1"));
    b.ok(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    let told = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
    assert_eq!(waiting.read(), told);
}

#[test]
fn a_primary_that_refuses_the_password_costs_nothing() {
    let _suite = Suite::new("pair replica: refused");
    let primary = Server::start(&["--requirepass", "secret"]);
    let other = Server::start(DEBUG);
    let mut b = other.client();
    b.ok(&["SET", "k", "v"]);
    b.ok(&["CONFIG", "SET", "masterauth", "wrong"]);
    b.ok(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    let mut a = primary.client();
    a.ok(&["AUTH", "secret"]);
    let mut attempts = || a.info("stats", "total_connections_received").unwrap().parse::<usize>().unwrap();
    let before = attempts();
    until("it is refused again and again", || attempts() > before + 3);
    assert_eq!(logged(&other, "WRONGPASS"), 1, "told once");
    assert_eq!(b.run("GET k"), "v");
    b.ok(&["CONFIG", "SET", "masterauth", "secret"]);
    until("it follows", || b.run("EXISTS k") == 0);
}
