//! Who wrote what, over restarts: each start is another life of the node, and its stamps rise.

use crate::harness::{Client, Clock, Options, Pair, Port, Program, Server, Suite};
use crate::place::{ALWAYS, EVERYSEC};

/// Which life of which node has written a key, by MELD STAMP.
#[track_caller]
fn writer(client: &mut Client, key: &str) -> (String, u32) {
    let fields = client.ok(&["MELD", "STAMP", key]).items();
    let field = |name: &str| {
        let at = fields.iter().position(|field| *field == name).expect(name);
        fields[at + 1].text()
    };
    (field("node"), field("incarnation").parse().unwrap())
}

#[test]
fn each_start_writes_under_a_higher_life_of_the_same_node() {
    let mut suite = Suite::new("disk lives: origins");
    let mut server = Server::start(EVERYSEC);
    let mut origins: Vec<(String, u32)> = Vec::new();
    for round in 0..4 {
        let mut client = server.client();
        let key = format!("k{round}");
        client.ok(&["SET", &key, "v"]);
        client.ok(&["INCR", "n"]);
        origins.push(writer(&mut client, &key));
        // What was written before keeps its own.
        for (before, origin) in origins.iter().enumerate() {
            assert_eq!(writer(&mut client, &format!("k{before}")), *origin);
        }
        if round % 2 == 0 {
            server.kill();
            server.launch().unwrap();
        } else {
            server.restart();
        }
        suite.add(1);
    }
    assert!(origins.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1), "{origins:?}");
    assert_eq!(server.client().run("GET n"), "4");
}

#[test]
fn stamps_rise_though_the_clock_is_set_back_while_the_node_is_down() {
    let mut suite = Suite::new("disk lives: clock set back");
    for is_killed in [true, false] {
        let clock = Clock::at(0);
        let mut server = Server::prepare(Program::Meldis, Port::free(), ALWAYS);
        clock.give_to(&mut server);
        server.launch().unwrap();
        let mut client = server.client();
        client.ok(&["SET", "k", "before"]);
        client.ok(&["SADD", "s", "x"]);
        client.ok(&["SET", "brief", "v", "PX", "600000"]);
        clock.set(-3600);
        if is_killed {
            server.kill();
        } else {
            server.stop();
        }
        server.launch().unwrap();
        let mut client = server.client();
        assert_eq!(client.run("GET k"), "before");
        client.ok(&["SET", "k", "after"]);
        client.ok(&["SREM", "s", "x"]);
        client.ok(&["DEL", "brief"]);
        server.kill();
        server.launch().unwrap();
        let mut client = server.client();
        assert_eq!(client.run("GET k"), "after");
        assert_eq!(client.run("EXISTS s brief"), 0);
        suite.add(1);
    }
}

#[test]
fn a_member_whose_clock_is_set_back_over_a_kill_writes_behind_what_it_wrote() {
    let _suite = Suite::new("disk lives: clock of a member");
    let clock = Clock::at(0);
    let mut pair = Pair::prepare(Options::new(2).args(ALWAYS).args(&["--max-clock-drift", "20000"]));
    clock.give_to(pair.node_mut(1));
    (0..2).for_each(|node| pair.launch(node));
    pair.settle();
    let mut b = pair.client(1);
    b.ok(&["SET", "k", "before"]);
    b.ok(&["INCRBY", "n", "5"]);
    pair.settle();
    (0..2).for_each(|node| pair.node_mut(node).kill());
    clock.set(-10);
    pair.launch(1);
    let mut b = pair.client(1);
    b.ok(&["SET", "k", "after"]);
    b.ok(&["INCRBY", "n", "2"]);
    pair.launch(0);
    pair.settle();
    for mut client in pair.clients::<2>() {
        assert_eq!(client.run("MGET k n"), ["after", "7"]);
    }
}
