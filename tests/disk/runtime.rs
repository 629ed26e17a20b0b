//! What is changed while a node runs.

use crate::harness::{Options, Pair, Server, Suite, until};
use crate::place::{ALWAYS, digests, last_journal, names};
use crate::record::{Record, Writer, check_all};
use crate::seen::logged;

#[test]
fn a_journal_begun_while_the_node_runs_keeps_what_was_there_and_what_comes() {
    let mut suite = Suite::new("disk runtime: appendonly");
    for is_stopped in [false, true] {
        let mut server = Server::start(&["--appendonly", "no"]);
        let mut client = server.client();
        client.ok(&["SET", "before", "1"]);
        client.ok(&["RPUSH", "l", "a", "b"]);
        client.ok(&["DEL", "none"]);
        assert_eq!(client.run("BGREWRITEAOF"), "ERR there is no append only file: appendonly is no");
        assert_eq!(client.info("persistence", "aof_enabled").unwrap(), "0");
        let mut records: Vec<Record> = Vec::new();
        for round in 0..3 {
            let writers = Writer::several(&server, &format!("{round}"));
            writers.iter().for_each(|writer| writer.has_written(2));
            client.ok(&["CONFIG", "SET", "appendonly", "yes"]);
            until("a snapshot is whole", || {
                client.info("persistence", "aof_enabled").unwrap() == "1"
                    && client.info("persistence", "aof_rewrites").unwrap() == (round + 1).to_string()
            });
            records.extend(writers.into_iter().map(Writer::end));
            client.ok(&["SET", "last", &round.to_string()]);
            if round < 2 {
                client.ok(&["CONFIG", "SET", "appendonly", "no"]);
                until("it has ended", || client.info("persistence", "aof_enabled").unwrap() == "0");
                // In no journal, but in the next snapshot.
                client.ok(&["SET", "between", &round.to_string()]);
                client.ok(&["LPOP", "l"]);
            }
        }
        client.ok(&["CONFIG", "SET", "appendfsync", "always"]);
        client.ok(&["SET", "always", "1"]);
        let before = digests(&server);
        if is_stopped {
            assert!(server.stop().success());
        } else {
            server.kill();
        }
        let mut server = with_journal(server);
        suite.add(check_all(&records, &server));
        assert_eq!(digests(&server)[1..], before[1..]);
        let mut client = server.client();
        assert_eq!(client.run("MGET before between last always"), ["1", "1", "2", "1"]);
        assert_eq!(client.run("EXISTS l"), 0);
        server.kill();
    }
}

/// Starts it again, from its disk.
fn with_journal(mut server: Server) -> Server {
    server.set_args(&["--appendonly", "yes"]);
    server.launch().unwrap();
    server
}

#[test]
fn appendfsync_is_followed_while_the_node_runs() {
    let mut suite = Suite::new("disk runtime: appendfsync");
    let mut server = Server::start(ALWAYS);
    let mut records: Vec<Record> = Vec::new();
    let writers = Writer::several(&server, "w");
    let mut client = server.client();
    for policy in
        ["no", "always", "everysec", "always", "no", "everysec", "always", "no", "always"].repeat(10)
    {
        client.ok(&["CONFIG", "SET", "appendfsync", policy]);
        client.ok(&["SET", "policy", policy]);
        if policy == "always" {
            until("all is synced", || client.info("persistence", "aof_unsynced_bytes").is_some());
        }
        suite.add(1);
    }
    writers.iter().for_each(|writer| writer.has_written(10));
    records.extend(writers.into_iter().map(Writer::end));
    // Nobody writes: what the system had is safe within a second.
    client.ok(&["CONFIG", "SET", "appendfsync", "everysec"]);
    client.ok(&["SET", "quiet", "1"]);
    until("all is synced", || client.info("persistence", "aof_unsynced_bytes").unwrap() == "0");
    server.kill();
    server.launch().unwrap();
    check_all(&records, &server);
    assert_eq!(server.client().run("MGET policy quiet"), ["always", "1"]);
}

#[test]
fn shutdown_save_is_taken_where_there_is_a_journal() {
    let _suite = Suite::new("disk runtime: SHUTDOWN SAVE");
    let mut server = Server::start(ALWAYS);
    let mut client = server.client();
    client.ok(&["SET", "k", "v"]);
    assert!(client.try_cmd(&["SHUTDOWN", "SAVE"]).is_err(), "the connection ends");
    until("it has ended", || !server.is_alive());
    server.kill();
    server.launch().unwrap();
    assert_eq!(server.client().run("GET k"), "v");
    let none = Server::start(&["--appendonly", "no"]);
    assert_eq!(none.client().run("SHUTDOWN SAVE"), "ERR Errors trying to SHUTDOWN. Check logs.");
}

/// The files are there, but nobody can write beside them.
#[test]
fn a_journal_that_cannot_be_begun_is_told_once_in_a_while_and_costs_nothing() {
    let _suite = Suite::new("disk runtime: no journal to be had");
    let mut server = Server::start(&["--appendonly", "no"]);
    let gap = server.data_dir().join("meldis.journal.2");
    std::fs::write(&gap, b"").unwrap();
    let mut client = server.client();
    client.ok(&["CONFIG", "SET", "appendonly", "yes"]);
    until("the log tells of it", || {
        logged(&server, "No journal can be begun: meldis.journal.1 is missing") > 0
    });
    client.ok(&["SET", "k", "v"]);
    crate::seen::lasting(500);
    assert!(logged(&server, "No journal can be begun") <= 2, "{}", server.log_tail());
    assert_eq!(client.info("persistence", "aof_enabled").unwrap(), "0");
    std::fs::remove_file(gap).unwrap();
    until("it is begun after all", || client.info("persistence", "aof_rewrites").unwrap() == "1");
    server.kill();
    let server = with_journal(server);
    assert_eq!(server.client().run("GET k"), "v");
}

#[test]
fn a_directory_that_vanishes_stops_no_node_and_comes_back_with_the_next_snapshot() {
    let _suite = Suite::new("disk runtime: the directory vanishes");
    let mut pair = Pair::start(Options::new(2).args(ALWAYS));
    pair.settle();
    let mut b = pair.client(1);
    b.ok(&["SET", "k", "1"]);
    let dir = pair.node(1).data_dir();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(b.run("GET k"), "1");
    assert_eq!(b.run("BGREWRITEAOF"), "Background append only file rewriting started");
    until("the log tells of it", || logged(pair.node(1), "A snapshot failed") > 0);
    pair.client(0).ok(&["SET", "k", "2"]);
    until("it goes on merging", || b.run("GET k") == "2");
    std::fs::create_dir(&dir).unwrap();
    until("it takes writes", || b.run("SET own 1") == "OK");
    b.ok(&["BGREWRITEAOF"]);
    until("a snapshot is there", || names(&dir).len() == 2 && last_journal(pair.node(1)).exists());
    until("it is whole", || b.info("persistence", "aof_rewrites").unwrap() == "1");
    (0..2).for_each(|node| pair.node_mut(node).kill());
    pair.launch(1);
    assert_eq!(pair.client(1).run("MGET k own"), ["2", "1"]);
}
