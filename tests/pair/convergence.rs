//! What a node says of its partners, and what clients and operators can rely on: INFO convergence, tokens, the feed of
//! effects, and nodes that are forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Client, Cluster, Options, Pair, Partners, Value, until};
use crate::seen::{logged, peers};

/// The partners as INFO convergence shows them.
fn partners(client: &mut Client) -> Vec<BTreeMap<String, String>> {
    let info = client.ok(&["INFO", "convergence"]).text();
    let lines = info.lines().filter_map(|line| line.strip_prefix("partner")?.split_once(':'));
    let fields = |line: &str| {
        let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    lines.filter(|(at, _)| at.parse::<usize>().is_ok()).map(|(_, line)| fields(line)).collect()
}

fn number(partner: &BTreeMap<String, String>, field: &str) -> u64 {
    partner[field].parse().unwrap_or_else(|_| panic!("{field} of {partner:?}"))
}

#[test]
fn a_partner_that_is_cut_off_is_seen_to_lack_more_and_more_and_then_nothing() {
    let pair = Pair::proxied();
    pair.settle();
    let [mut a, _] = pair.clients();
    until("the ranges are verified", || number(&partners(&mut a)[0], "verified_at") > 0);
    assert_eq!(partners(&mut a)[0]["state"], "streaming");
    assert_eq!(number(&partners(&mut a)[0], "lag_ms"), 0);
    assert!(partners(&mut a)[0]["clock_offset_ms"].parse::<i64>().unwrap().abs() < 100);
    pair.cut();
    until("the link is seen to be down", || partners(&mut a)[0]["state"] == "absent");
    a.ok(&["SET", "k", &"x".repeat(5000)]);
    until("the lag grows", || number(&partners(&mut a)[0], "lag_ms") > 300);
    assert!(number(&partners(&mut a)[0], "backlog_bytes") > 5000);
    pair.heal();
    until("B has it all", || {
        let partner = &partners(&mut a)[0];
        partner["state"] == "streaming" && number(partner, "lag_ms") + number(partner, "backlog_bytes") == 0
    });
}

#[test]
fn ranges_are_verified_while_writes_go_on() {
    let pair = Pair::direct();
    pair.settle();
    let [mut a, mut b] = pair.clients();
    let mut n = 0;
    let verified = |client: &mut Client| number(&partners(client)[0], "verified_at");
    let (first_a, first_b) = (verified(&mut a), verified(&mut b));
    until("both have been verified anew", || {
        for client in [&mut a, &mut b] {
            n += 1;
            let commands: Vec<Vec<String>> = (0..50)
                .map(|at| vec!["SET".to_owned(), format!("k{}", n * 50 + at), "v".to_owned()])
                .collect();
            client.pipeline(&commands);
        }
        verified(&mut a) > first_a && verified(&mut b) > first_b
    });
    for node in [0, 1] {
        assert_eq!(logged(pair.node(node), "Diverged"), 0);
    }
}

#[test]
fn a_client_that_moves_reads_its_own_writes() {
    let pair = Pair::proxied();
    pair.settle();
    let [mut a, mut b] = pair.clients();
    pair.delay(0, 1, Duration::from_millis(200));
    for n in 0..5 {
        a.ok(&["SET", "k", &n.to_string()]);
        let token = a.ok(&["MELD", "TOKEN"]).text();
        assert_eq!(b.ok(&["MELD", "AFTER", &token, "10000"]), 1);
        assert_eq!(b.run("GET k"), n.to_string().as_str());
    }
    pair.cut();
    a.ok(&["SET", "k", "last"]);
    let token = a.ok(&["MELD", "TOKEN"]).text();
    assert_eq!(b.ok(&["MELD", "AFTER", &token, "50"]), 0);
    assert_eq!(a.ok(&["MELD", "AFTER", &token, "50"]), 1);
}

/// The effects a node tells since a token, as text, and the next token.
fn effects(client: &mut Client, since: &str) -> (Vec<String>, String) {
    let page = client.ok(&["MELD", "EFFECTS", "SINCE", since]).items();
    let command = |effect: &Value| {
        let fields = effect.items();
        let at = fields.iter().position(|field| *field == "command").expect("every effect has a command");
        fields[at + 1].texts().join(" ")
    };
    (page[1].items().iter().map(command).collect(), page[0].text())
}

#[test]
fn every_node_tells_what_all_have_written() {
    let pair = Pair::direct();
    pair.settle();
    let [mut a, mut b] = pair.clients();
    let mut since: Vec<String> = Vec::new();
    for client in [&mut a, &mut b] {
        since.push(client.ok(&["MELD", "EFFECTS"]).items()[0].text());
    }
    a.ok(&["SET", "k", "v"]);
    pair.settle();
    b.ok(&["HINCRBY", "h", "f", "3"]);
    pair.settle();
    let told_by_a = effects(&mut a, &since[0]);
    let told_by_b = effects(&mut b, &since[1]);
    assert_eq!(told_by_a.0, ["SET k v", "HINCRBY h f 3"]);
    assert_eq!(told_by_a, told_by_b);
    assert_eq!(effects(&mut a, &told_by_a.1).0, [""; 0]);
}

/// Nobody has asked either node for effects before, and the token is the partner's.
#[test]
fn a_token_of_the_partner_leads_to_what_the_partner_has_written_since() {
    let pair = Pair::direct();
    pair.settle();
    let [mut a, mut b] = pair.clients();
    b.ok(&["SET", "before", "1"]);
    let token = b.ok(&["MELD", "TOKEN"]).text();
    b.ok(&["SADD", "s", "m"]);
    a.ok(&["SET", "k", "v"]);
    pair.settle();
    let told = effects(&mut a, &token);
    let mut commands = told.0.clone();
    commands.sort();
    assert_eq!(commands, ["SADD s m", "SET k v"]);
    assert_eq!(effects(&mut b, &token), told);
}

/// A node that comes back empty is refilled as data.
#[test]
fn a_reader_is_told_whether_a_larger_backlog_would_have_helped() {
    let mut pair = Pair::start(Options::new(2).args(&["--repl-backlog-size", "2kb"]));
    pair.settle();
    let [mut a, mut b] = pair.clients();
    let token = b.ok(&["MELD", "TOKEN"]).text();
    for n in 0..50 {
        b.ok(&["SET", "k", &format!("{n:0100}")]);
    }
    pair.settle();
    let refusal = |client: &mut Client| client.cmd(&["MELD", "EFFECTS", "SINCE", &token]).to_string();
    assert!(refusal(&mut a).contains("a larger repl-backlog-size leaves more time"), "{}", refusal(&mut a));
    pair.node_mut(0).kill();
    pair.launch(0);
    pair.settle();
    let mut a = pair.client(0);
    assert!(refusal(&mut a).contains("Ask another node, or begin anew"), "{}", refusal(&mut a));
}

#[test]
fn a_forgotten_node_is_refused_by_all_until_it_joins_as_new() {
    let mut cluster = Cluster::start(Options::new(3).proxied().partners(Partners::Peer));
    cluster.settle();
    let [mut a, mut b, mut c] = cluster.clients();
    let own = c.ok(&["CLUSTER", "MYID"]).text();
    let address = format!("127.0.0.1:{}", cluster.proxy(2).port());
    let node =
        peers(&mut a).iter().find(|peer| peer["address"] == address).expect("C is a member")["node"].clone();
    assert!(a.cmd(&["MELD", "FORGET", "ffffffffff"]).is_error());
    [0, 1].into_iter().for_each(|other| cluster.cut_between(other, 2));
    a.ok(&["MELD", "FORGET", &node]);
    // Nobody waits for it any more: it is no member.
    until("both know", || peers(&mut a).len() == 1 && peers(&mut b).len() == 1);
    // Now nobody is left who has heard that; their disks have.
    [0, 1].into_iter().for_each(|index| cluster.node_mut(index).kill());
    [0, 1].into_iter().for_each(|index| cluster.launch(index));
    [0, 1].into_iter().for_each(|other| cluster.heal_between(other, 2));
    let [mut a, mut b] = [0, 1].map(|index| cluster.client(index));
    for client in [&mut a, &mut b] {
        until("C is refused", || {
            let shown = partners(client);
            let of_c = shown.iter().find(|partner| partner["address"] == address);
            of_c.is_some_and(|partner| {
                partner["state"] == "refused" && partner["reason"].contains("was forgotten")
            })
        });
    }
    until("C knows", || partners(&mut c).iter().all(|partner| partner["state"] == "refused"));
    // Each says once for every way by which they dialed what to do, and nothing of links that came and went.
    let opened = cluster.proxy(2).opened() + cluster.proxy(0).opened();
    until("they go on dialing", || cluster.proxy(2).opened() + cluster.proxy(0).opened() > opened + 4);
    let [of_a, of_b, of_c] =
        [0, 1, 2].map(|index| logged(cluster.node(index), "remove its meldis.node file"));
    assert!(
        (1..=3).contains(&of_a) && (1..=3).contains(&of_b) && (1..=3).contains(&of_c),
        "{of_a} {of_b} {of_c}"
    );
    c.ok(&["SET", "late", "1"]);
    a.ok(&["SET", "k", "1"]);
    until("B has it", || b.run("GET k") == "1");
    assert!(a.run("GET late").is_null() && c.run("GET k").is_null());
    cluster.crash_wiped(2);
    cluster.settle();
    let mut c = cluster.client(2);
    assert_eq!(c.run("GET k"), "1");
    assert_ne!(c.ok(&["CLUSTER", "MYID"]).text(), own);
}
