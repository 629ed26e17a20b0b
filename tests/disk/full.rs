//! Scenario 18: a disk without space. Writes are refused, reads go on, nothing acknowledged is lost, and service resumes.

use crate::harness::{Client, Options, PATIENCE, Pair, Port, Program, Server, Suite, settle_servers, until};
use crate::place::{ALWAYS, EVERYSEC, SmallDisk, names};
use crate::record::{Record, Writer, check_all};
use crate::seen::{each_of, logged};

const REFUSED: &str = "MISCONF Errors writing to the AOF file: No space left on device";

fn on_small_disk(args: &[&str], size: &str) -> (Server, SmallDisk) {
    let mut server = Server::prepare(Program::Meldis, Port::free(), args);
    let disk = SmallDisk::at(&server.data_dir(), size);
    server.launch().unwrap();
    (server, disk)
}

fn persistence(client: &mut Client, field: &str) -> String {
    client.info("persistence", field).unwrap_or_default()
}

/// Writes until a client is told that it may not.
#[track_caller]
fn write_until_refused(server: &Server) -> Client {
    let mut client = server.client();
    let value = "x".repeat(300);
    let mut n = 0;
    until("a write is refused", || {
        n += 1;
        match client.try_cmd(&["SET", &format!("filling:{n}"), &value]) {
            Ok(reply) if reply.is_error() => {
                assert_eq!(reply, REFUSED);
                true
            }
            Ok(_) => false,
            Err(_) => {
                client = server.client();
                false
            }
        }
    });
    server.client()
}

#[track_caller]
fn is_refused(client: &mut Client) {
    assert_eq!(client.run("SET k v"), REFUSED);
    assert_eq!(client.run("INCR n"), REFUSED);
    assert_eq!(client.run("PING"), REFUSED);
    client.ok(&["MULTI"]);
    assert_eq!(client.run("SET k v"), REFUSED);
    assert!(client.run("EXEC").text().starts_with("EXECABORT"));
}

#[test]
fn a_full_disk_refuses_writes_keeps_what_was_acknowledged_and_resumes() {
    let mut suite = Suite::new("disk full: a lone node");
    for args in [ALWAYS, EVERYSEC] {
        let (mut server, disk) = on_small_disk(args, "2m");
        let mut client = server.client();
        client.ok(&["SET", "before", "1"]);
        let token = client.run("MELD TOKEN").text();
        let writers = Writer::several(&server, "w");
        writers.iter().for_each(|writer| writer.has_written(3));
        disk.fill();
        let records: Vec<Record> = writers.into_iter().map(Writer::end_by_itself).collect();
        let mut client = write_until_refused(&server);
        is_refused(&mut client);
        // Reads go on, longer than the clock's ceiling reaches.
        let start = std::time::Instant::now();
        until("time passes", || {
            assert_eq!(client.run("GET before"), "1");
            start.elapsed() > std::time::Duration::from_millis(2500)
        });
        is_refused(&mut client);
        until("INFO tells of it", || persistence(&mut client, "aof_last_write_status") == "err");
        assert_eq!(logged(&server, "The journal cannot be written"), 1, "{}", server.log_tail());
        assert!(server.log().lines().count() < 60, "{}", server.log_tail());
        let mut witness = server.client();
        // What has changed here is told to nobody before it is kept.
        let question = ["MELD", "EFFECTS", "SINCE", &token];
        assert!(server.client().cmd(&question) == REFUSED, "effects are told that are not kept");
        records.iter().for_each(|record| {
            record.check(&mut |args| witness.ok(args));
        });
        // Space, and no restart.
        disk.free();
        until("it takes writes again", || client.run("SET after 1") == "OK");
        until("it says so", || persistence(&mut client, "aof_last_write_status") == "ok");
        assert!(!witness.ok(&question).items()[1].items().is_empty());
        assert_eq!(client.run("PING"), "PONG");
        assert!(logged(&server, "can be written again") > 0);
        // Full again, and killed at that point.
        disk.fill();
        let mut client = write_until_refused(&server);
        is_refused(&mut client);
        server.kill();
        disk.free();
        server.launch().unwrap();
        suite.add(check_all(&records, &server));
        let mut client = server.client();
        assert_eq!(client.run("MGET before after"), ["1", "1"]);
        assert_eq!(client.run("SET later 1"), "OK");
    }
}

#[test]
fn a_node_killed_on_a_full_disk_does_not_start_there_and_loses_nothing() {
    let _suite = Suite::new("disk full: at the start");
    let (mut server, disk) = on_small_disk(ALWAYS, "1m");
    server.client().ok(&["SET", "k", "v"]);
    disk.fill();
    server.kill();
    let refused = server.launch().unwrap_err();
    assert!(refused.contains("No space left on device"), "{refused}");
    disk.free();
    server.launch().unwrap();
    assert_eq!(server.client().run("GET k"), "v");
}

#[test]
fn a_snapshot_without_space_leaves_nothing_behind_and_costs_nothing() {
    let mut suite = Suite::new("disk full: a snapshot");
    let (mut server, disk) = on_small_disk(EVERYSEC, "4m");
    let mut client = server.client();
    // 1.5 MB of data in 1.6 MB of journal; and then as little space as is left.
    let value = "x".repeat(1000);
    each_of(&mut client, 0..1500, |n| vec!["SET".into(), format!("k{n}"), value.clone()]);
    std::fs::write(disk.path().join("other"), vec![7; 1_600_000]).unwrap();
    for failures in 1..3 {
        let before = logged(&server, "A snapshot failed");
        client.ok(&["BGREWRITEAOF"]);
        until("it fails", || logged(&server, "A snapshot failed") > before);
        until("INFO counts it", || {
            persistence(&mut client, "aof_rewrites_consecutive_failures") == failures.to_string()
        });
        assert_eq!(persistence(&mut client, "aof_last_bgrewrite_status"), "err");
        assert!(names(disk.path()).iter().all(|name| !name.contains("snapshot")), "{:?}", names(disk.path()));
        // What it took while it tried may have been lacking for a moment.
        until("writes are taken", || client.run("INCR n").text().parse::<i64>().is_ok());
        suite.add(1);
    }
    server.kill();
    server.launch().unwrap();
    let mut client = server.client();
    assert_eq!(client.run("DBSIZE"), 1501);
    assert_eq!(client.run("GET n"), "2");
    std::fs::remove_file(disk.path().join("other")).unwrap();
    client.ok(&["BGREWRITEAOF"]);
    until("it is whole", || persistence(&mut client, "aof_rewrites") == "1");
    assert_eq!(names(disk.path()).len(), 2, "{:?}", names(disk.path()));
    server.kill();
    server.launch().unwrap();
    assert_eq!(server.client().run("DBSIZE"), 1501);
}

#[test]
fn a_member_whose_disk_is_full_goes_on_merging_and_settles() {
    let mut suite = Suite::new("disk full: of a pair");
    let mut pair = Pair::prepare(Options::new(2).args(EVERYSEC));
    let disk = SmallDisk::at(&pair.node(1).data_dir(), "2m");
    (0..2).for_each(|node| pair.launch(node));
    pair.settle();
    let [mut a, mut b] = pair.clients();
    b.ok(&["SET", "b", "1"]);
    disk.fill();
    let mut b = write_until_refused(pair.node(1));
    for n in 1..=300 {
        a.ok(&["INCR", "n"]);
        a.ok(&["SET", &format!("k{n}"), &"y".repeat(1000)]);
        suite.add(1);
    }
    until("B merges what A writes", || b.run("GET n") == "300");
    is_refused(&mut b);
    pair.settle();
    disk.free();
    until("B takes writes again", || b.run("SET b 2") == "OK");
    pair.settle();
    // B has on its disk what it merged meanwhile.
    (0..2).for_each(|node| pair.node_mut(node).kill());
    pair.launch(1);
    let mut b = pair.client(1);
    assert_eq!(b.run("MGET b n"), ["2", "300"]);
    assert_eq!(b.run("STRLEN k300"), 1000);
    pair.launch(0);
    pair.settle();
    // Killed while the disk is full: what was merged since is asked for again.
    disk.fill();
    write_until_refused(pair.node(1));
    let mut a = pair.client(0);
    (0..50).for_each(|_| drop(a.ok(&["INCR", "n"])));
    pair.node_mut(1).kill();
    disk.free();
    pair.launch(1);
    pair.settle();
    assert_eq!(pair.client(1).run("GET n"), "350");
}

/// What clients of both see on the same disk.
#[test]
fn a_full_disk_is_told_in_redis_words() {
    let mut suite = Suite::new("disk full: beside Redis");
    let mut redis = Server::prepare(Program::Redis, Port::free(), &["--save", "", "--appendonly", "yes"]);
    let small = SmallDisk::at(&redis.data_dir(), "1m");
    redis.launch().unwrap();
    let (server, disk) = on_small_disk(EVERYSEC, "1m");
    let mut told: Vec<Vec<String>> = Vec::new();
    for (server, disk) in [(&redis, &small), (&server, &disk)] {
        disk.fill();
        let mut client = write_until_refused(server);
        client.ok(&["GET", "k"]);
        let mut replies: Vec<String> =
            ["SET k v", "DEL k", "PING", "GET k", "MULTI", "INCR n", "EXEC", "FLUSHALL"]
                .iter()
                .map(|line| client.run(line).to_string())
                .collect();
        until("INFO tells of it", || persistence(&mut client, "aof_last_write_status") == "err");
        disk.free();
        until("writes are taken again", || client.run("SET k v") == "OK");
        until("INFO tells of it", || persistence(&mut client, "aof_last_write_status") == "ok");
        replies.push(client.run("PING").to_string());
        told.push(replies);
        suite.add(1);
    }
    assert_eq!(told[0], told[1], "Redis, Meldis");
    // Every field that Redis has, so has Meldis, in the same order.
    let fields = |server: &Server| -> Vec<String> {
        let text = server.client().run("INFO persistence").text();
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
    };
    let (theirs, ours) = (fields(&redis), fields(&server));
    let common: Vec<&String> = ours.iter().filter(|name| theirs.contains(name)).collect();
    assert_eq!(common, theirs.iter().collect::<Vec<_>>());
    settle_servers(&[&server], PATIENCE);
}
