//! Snapshots in place of journals: asked for, due, and interrupted at any moment.

use std::time::Duration;

use crate::harness::{Client, Options, Pair, Random, Server, Suite, until};
use crate::load::{Load, check_sums};
use crate::place::{ALWAYS, EVERYSEC, digests, names};
use crate::record::{Record, Writer, check_all};
use crate::seen::{each_of, full, lasting, resyncs};

/// Lines of INFO persistence.
fn persistence(client: &mut Client, field: &str) -> String {
    client.info("persistence", field).unwrap_or_default()
}

/// Waits until one snapshot and the journals behind it are all there is.
#[track_caller]
fn is_tidy(server: &Server, journals: usize) {
    let dir = server.data_dir();
    until("one snapshot and the journals behind it are left", || {
        let names = names(&dir);
        names.len() <= 1 + journals && names[0].starts_with("meldis.snapshot.") && !names[0].ends_with(".new")
    });
}

#[track_caller]
fn rewrite(server: &Server) {
    let mut client = server.client();
    let before: u64 = persistence(&mut client, "aof_rewrites").parse().unwrap();
    client.ok(&["BGREWRITEAOF"]);
    until("the snapshot is whole", || {
        persistence(&mut client, "aof_rewrites").parse::<u64>().unwrap() > before
    });
}

#[test]
fn a_node_killed_at_any_moment_of_a_snapshot_loses_nothing() {
    let mut suite = Suite::new("disk rewrite: killed in the middle");
    let kills = if full() { 60 } else { 15 };
    let mut pair = Pair::start(Options::new(2).proxied().args(ALWAYS));
    pair.settle();
    let mut random = Random::new(Random::seed(631));
    // So much that a snapshot takes longer than a kill needs.
    each_of(&mut pair.client(0), 0..20_000, |n| vec!["SET".into(), format!("k{n}"), format!("{n:0200}")]);
    let load = Load::without_expiry(pair.node(1), 632);
    let (mut records, mut whole) = (Vec::<Record>::new(), 0);
    for kill in 0..kills {
        let writer = Writer::on(pair.node(0), &kill.to_string(), 2);
        writer.has_written(3);
        let mut client = pair.client(0);
        client.ok(&["BGREWRITEAOF"]);
        let dir = pair.node(0).data_dir();
        until("it has begun", || {
            client.try_cmd(&["PING"]).is_ok() && names(&dir).iter().any(|name| name.contains("snapshot"))
        });
        // At any moment of it.
        std::thread::sleep(Duration::from_micros(random.below(120_000) as u64));
        pair.node_mut(0).kill();
        let record = writer.end();
        whole += u64::from(
            names(&dir).iter().any(|name| name.starts_with("meldis.snapshot") && !name.ends_with(".new")),
        );
        // By itself, without what the other was told.
        pair.cut();
        pair.launch(0);
        let mut a = pair.client(0);
        record.check(&mut |args| a.ok(args));
        assert_eq!(a.run("GET k19999").int(), 19_999);
        pair.heal();
        pair.linked();
        records.push(record);
        suite.add(1);
    }
    let tally = load.stop();
    pair.settle();
    check_sums(&mut pair.clients::<2>(), &[tally]);
    (0..2).for_each(|node| {
        check_all(&records, pair.node(node));
    });
    rewrite(pair.node(0));
    is_tidy(pair.node(0), 1);
    suite.note(&format!("{whole} times one was whole"));
    // And from the disk alone.
    let before = digests(pair.node(0));
    (0..2).for_each(|node| pair.node_mut(node).kill());
    pair.launch(0);
    assert_eq!(digests(pair.node(0))[1..], before[1..]);
    check_all(&records, pair.node(0));
    is_tidy(pair.node(0), 2);
}

#[test]
fn journals_that_have_grown_give_way_to_a_snapshot() {
    let mut suite = Suite::new("disk rewrite: by growth");
    let mut server = Server::start(
        &[EVERYSEC, &["--auto-aof-rewrite-percentage", "50", "--auto-aof-rewrite-min-size", "200kb"]]
            .concat(),
    );
    let mut client = server.client();
    let value = "x".repeat(1000);
    let mut n = 0;
    // The same keys again and again: the data does not grow.
    while snapshots(&mut client) < 4 {
        each_of(&mut client, 0..100, |key| vec!["SET".into(), format!("k{key}"), format!("{n}{value}")]);
        n += 1;
        // The node looks at its journal ten times a second: 50 MB/s are enough.
        lasting(2);
        assert!(n < 2000, "no snapshot in 200 MB");
        let size: u64 = persistence(&mut client, "aof_current_size").parse().unwrap();
        assert!(size < 60_000_000, "{size} bytes for 100 kB of data");
    }
    suite.add(n);
    until("it is quiet", || persistence(&mut client, "aof_rewrite_in_progress") == "0");
    is_tidy(&server, 1);
    let before = digests(&server);
    server.kill();
    server.launch().unwrap();
    assert_eq!(digests(&server), before);
    // Zero: none by itself.
    let mut client = server.client();
    client.ok(&["CONFIG", "SET", "auto-aof-rewrite-percentage", "0"]);
    until("it is quiet", || persistence(&mut client, "aof_rewrite_in_progress") == "0");
    let before = snapshots(&mut client);
    for n in 0..10 {
        each_of(&mut client, 0..100, |key| vec!["SET".into(), format!("k{key}"), format!("{n}{value}")]);
    }
    lasting(300);
    assert_eq!(snapshots(&mut client), before);
}

fn snapshots(client: &mut Client) -> u64 {
    persistence(client, "aof_rewrites").parse().unwrap()
}

#[test]
fn what_was_pulled_is_there_after_a_kill_without_the_partner() {
    let mut suite = Suite::new("disk rewrite: beside a resync");
    let options = Options::new(2).proxied().args(EVERYSEC).args(&["--repl-backlog-size", "16kb"]);
    let mut pair = Pair::start(options);
    pair.settle();
    let rounds = if full() { 20 } else { 4 };
    for round in 0..rounds {
        let mut a = pair.client(0);
        pair.cut();
        let (value, gone) = ("y".repeat(200), format!("gone{round}"));
        each_of(&mut a, 0..3000, |n| vec!["SET".into(), format!("k{n}"), format!("{round}{value}")]);
        a.ok(&["INCRBY", "sum", "5"]);
        let mut b = pair.client(1);
        b.ok(&["INCRBY", "sum", "2"]);
        b.ok(&["SET", &gone, "1"]);
        let before = resyncs(pair.node(1));
        pair.throttle(0, 1, 3_000_000);
        pair.heal();
        pair.throttle(0, 1, 3_000_000);
        if round % 2 == 0 {
            until("the resync has begun", || resyncs(pair.node(1)) > before);
            let _ = b.run("BGREWRITEAOF");
        }
        pair.settle();
        assert!(resyncs(pair.node(1)) > before, "{}", pair.node(1).log_tail());
        // What a partner wrote goes to the file ten times a second; with what B acknowledges, at once.
        b.ok(&["SET", "behind", &round.to_string()]);
        // Right behind it, and alone.
        pair.node_mut(1).kill();
        pair.node_mut(0).kill();
        pair.launch(1);
        let mut b = pair.client(1);
        assert_eq!(b.run("GET sum").int(), (round + 1) * 7);
        assert_eq!(b.run("GET k2999").text(), format!("{round}{value}"));
        assert_eq!(b.run(&format!("GET {gone}")), "1");
        b.ok(&["SET", "alone", &round.to_string()]);
        pair.heal();
        pair.launch(0);
        pair.settle();
        assert_eq!(pair.client(0).run("GET alone").int(), round);
        assert_eq!(pair.client(0).run("GET sum").int(), (round + 1) * 7);
        suite.add(1);
    }
}

#[test]
fn a_resync_cut_by_a_kill_goes_on_after_the_restart() {
    let mut suite = Suite::new("disk rewrite: a resync cut by kills");
    let mut pair =
        Pair::prepare(Options::new(2).proxied().args(EVERYSEC).args(&["--repl-backlog-size", "16kb"]));
    pair.launch(0);
    let mut a = pair.client(0);
    let value = "z".repeat(300);
    each_of(&mut a, 0..6000, |n| vec!["SET".into(), format!("k{n}"), value.clone()]);
    each_of(&mut a, 0..300, |n| vec!["INCRBY".into(), format!("sum:{n}"), "2".into()]);
    pair.throttle(0, 1, 2_000_000);
    pair.launch(1);
    let mut from_b = 0;
    for kill in 0..6 {
        let mut b = pair.client(1);
        for n in 0..50 {
            b.ok(&["INCRBY", &format!("sum:{n}"), "3"]);
        }
        from_b += 3;
        // What A removes in between does not come back from what B had pulled.
        a.ok(&["DEL", &format!("k{kill}"), &format!("k{}", 5000 + kill)]);
        until("something is pulled", || b.run("DBSIZE").int() > (kill + 1) * 700);
        pair.crash(1);
        suite.add(1);
    }
    pair.heal();
    pair.settle();
    for mut client in pair.clients::<2>() {
        assert_eq!(client.run("GET sum:0").int(), 2 + from_b);
        assert_eq!(client.run("GET sum:299").int(), 2);
        assert_eq!(client.run("EXISTS k0 k5 k5000 k5005 k6 k5999"), 2);
    }
}
