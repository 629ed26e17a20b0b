//! The harness against a real redis-server: what the other tests rely on is itself tested here.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod harness;

use std::time::{Duration, Instant};

use harness::{Client, Direction, Proxy, Server, Suite, Value, until};

const DEBUG: &[&str] = &["--enable-debug-command", "yes", "--save", ""];

#[test]
fn a_server_starts_answers_restarts_and_keeps_or_loses_its_data() {
    let mut suite = Suite::new("harness server");
    let mut server =
        Server::redis(&["--appendonly", "yes", "--appendfsync", "always", "--requirepass", "secret"]);
    let mut client = server.client();
    assert_eq!(client.cmd(&["SET", "k", "v"]), "OK");
    server.kill();
    assert!(client.is_closed());
    server.restart();
    assert_eq!(server.client().run("GET k"), "v");
    assert!(server.stop().success());
    server.restart_wiped();
    assert_eq!(server.client().run("GET k"), Value::Null);
    assert!(server.log().contains("Ready to accept"));
    server.pause();
    let mut client = Client::to(server.port());
    client.set_timeout(Duration::from_millis(50));
    assert!(client.try_cmd(&["PING"]).is_err());
    server.resume();
    server.client();
    suite.add(1);
}

#[test]
fn a_client_reads_both_protocols_and_keeps_pushes() {
    let mut suite = Suite::new("harness client");
    let server = Server::redis(&[]);
    let mut client = server.client();
    assert_eq!(client.run("HSET h f 1"), 1);
    assert_eq!(client.run("HGETALL h"), ["f", "1"]);
    client.hello(3);
    assert!(matches!(client.run("HGETALL h"), Value::Map(pairs) if pairs.len() == 1));
    assert_eq!(client.run("GET none"), Value::Null);
    assert_eq!(client.run("SUBSCRIBE news").items()[2], 1);
    assert_eq!(server.client().run("PUBLISH news hi"), 1);
    assert_eq!(client.run("ECHO x"), "x");
    assert_eq!(client.pushes[0], ["message", "news", "hi"]);
    assert_eq!(client.run("GET").text(), "ERR wrong number of arguments for 'get' command");
    let many: Vec<Vec<String>> = (0..1000).map(|n| vec!["ECHO".into(), n.to_string()]).collect();
    assert_eq!(client.pipeline(&many).last().unwrap().int(), 999);
    suite.add(1);
}

#[test]
fn a_proxy_cuts_heals_and_counts() {
    let mut suite = Suite::new("harness proxy cut");
    let server = Server::redis(&[]);
    let proxy = Proxy::to(server.port());
    let mut client = Client::to(proxy.port());
    assert_eq!(client.run("PING"), "PONG");
    assert_eq!(proxy.connections().len(), 1);
    assert_eq!((proxy.bytes(Direction::ToTarget), proxy.bytes(Direction::ToDialler)), (14, 7));
    proxy.cut();
    let error = client.try_cmd(&["PING"]).unwrap_err();
    assert!(
        matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe),
        "{error}"
    );
    let refused = Client::connect(proxy.port()).err().expect("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.heal();
    assert_eq!(Client::to(proxy.port()).run("PING"), "PONG");
    proxy.reset_connections();
    assert_eq!(proxy.connections().len(), 0);
    let me = std::process::id();
    proxy.name_diallers(&[None, Some(me)]);
    let mut client = Client::to(proxy.port());
    client.run("PING");
    assert_eq!(proxy.connections()[0].source, Some(1));
    proxy.bar(1);
    assert!(client.is_closed());
    assert!(Client::connect(proxy.port()).and_then(|mut barred| barred.try_cmd(&["PING"])).is_err());
    proxy.unbar(1);
    assert_eq!(Client::to(proxy.port()).run("PING"), "PONG");
    suite.add(1);
}

#[test]
fn a_proxy_stalls_delays_throttles_cuts_up_and_flips() {
    let mut suite = Suite::new("harness proxy faults");
    let server = Server::redis(&[]);
    let proxy = Proxy::to(server.port());
    let mut client = Client::to(proxy.port());
    client.run("PING");

    proxy.stall(Direction::ToDialler);
    client.send(&["INCR", "n"]).unwrap();
    until("the command arrives though its reply does not", || server.client().run("GET n") == "1");
    client.set_timeout(Duration::from_millis(100));
    assert!(client.read_raw().is_err());
    client.set_timeout(Duration::from_secs(10));
    proxy.unstall(Direction::ToDialler);
    assert_eq!(client.read(), 1);

    proxy.delay(Direction::ToTarget, Duration::from_millis(100));
    let start = Instant::now();
    client.run("PING");
    assert!(start.elapsed() >= Duration::from_millis(100));
    proxy.heal();

    proxy.throttle(Direction::ToTarget, 10_000);
    let start = Instant::now();
    client.cmd(&["SET".as_bytes(), b"k", &[b'x'; 2000]]);
    assert!(start.elapsed() >= Duration::from_millis(180), "{:?}", start.elapsed());
    proxy.heal();

    proxy.pieces(Direction::ToTarget, 1);
    proxy.delay(Direction::ToTarget, Duration::from_millis(50));
    client.cmd(&["SET".as_bytes(), b"k", &[b'y'; 100_000]]);
    assert_eq!(server.client().run("STRLEN k"), 100_000);
    proxy.heal();

    // *2 $4 ECHO $3 aaa: the second a is byte 19 of 23.
    proxy.flip_bit(Direction::ToTarget, 19);
    assert_eq!(client.run("ECHO aaa"), "a`a");
    assert_eq!(client.run("ECHO aaa"), "aaa");
    assert_eq!(proxy.flips(Direction::ToTarget), 1);
    suite.add(5);
}

#[test]
fn settling_means_links_up_and_equal_digests() {
    let mut suite = Suite::new("harness settle");
    let first = Server::redis(DEBUG);
    let proxy = Proxy::to(first.port());
    let port = proxy.port().to_string();
    let mut args = DEBUG.to_vec();
    args.extend(["--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", &port]);
    let second = Server::redis(&args);
    let mut client = first.client();
    for n in 0..100 {
        client.ok(&["SET", &format!("k{n}"), "v"]);
    }
    harness::settle_servers(&[&first, &second], harness::PATIENCE);
    proxy.cut();
    client.run("SET k7 other");
    let complaint = std::panic::catch_unwind(|| {
        harness::settle_servers(&[&first, &second], Duration::from_millis(100));
    });
    let complaint = *complaint.unwrap_err().downcast::<String>().unwrap();
    assert!(complaint.contains("master_link_status:down"), "{complaint}");
    assert!(complaint.contains("1 keys differ") && complaint.contains("\"k7\""), "{complaint}");
    proxy.heal();
    harness::settle_servers(&[&first, &second], harness::PATIENCE);
    suite.add(1);
}
