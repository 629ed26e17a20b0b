//! Three nodes of which two do not see each other: the third passes on.

use crate::harness::{Cluster, Options, Suite, until};
use crate::load::{Load, check_sums};
use crate::seen::{agree, lasting, peers, resyncs};

fn chain() -> Cluster {
    let cluster = Cluster::start(Options::new(3).proxied());
    cluster.settle();
    cluster.cut_between(0, 2);
    cluster
}

#[test]
fn what_two_cannot_tell_each_other_goes_through_the_third_once() {
    let mut suite = Suite::new("pair relaying: a chain");
    let cluster = chain();
    let mut clients: [_; 3] = cluster.clients();
    let loads = [0, 1, 2].map(|node| Load::on(cluster.node(node), 81 + node as u64));
    lasting(1000);
    let tallies = loads.map(Load::stop);
    agree(&mut clients);
    check_sums(&mut clients, &tallies);
    let [a, _, c] = &mut clients;
    a.ok(&["INCRBY", "n", "5"]);
    c.ok(&["INCRBY", "n", "7"]);
    until("A has what C added", || a.run("GET n") == "12");
    until("C has what A added", || c.run("GET n") == "12");
    let up = |peers: Vec<crate::seen::Peer>| peers.iter().filter(|peer| peer["link"] == "up").count();
    assert_eq!((up(peers(a)), up(peers(c))), (1, 1));
    cluster.heal_between(0, 2);
    cluster.settle();
    check_sums(&mut clients, &tallies);
    suite.add(tallies.iter().map(|tally| tally.commands).sum());
}

#[test]
fn the_missing_link_comes_and_goes_while_all_write() {
    let mut suite = Suite::new("pair relaying: links come and go");
    let cluster = chain();
    let mut clients: [_; 3] = cluster.clients();
    let loads = [0, 1, 2].map(|node| Load::on(cluster.node(node), 91 + node as u64));
    for round in 0..12 {
        let (one, other) = [(0, 2), (0, 1), (1, 2)][round % 3];
        cluster.cut_between(one, other);
        lasting(120);
        cluster.heal_between(one, other);
        if round == 6 {
            cluster.flap();
        }
        suite.add(1);
    }
    cluster.heal();
    let tallies = loads.map(Load::stop);
    cluster.settle();
    check_sums(&mut clients, &tallies);
    for node in 0..3 {
        assert_eq!(resyncs(cluster.node(node)), 0, "{}", cluster.node(node).log_tail());
    }
}

#[test]
fn a_message_reaches_each_subscriber_once_over_the_third_node_too() {
    let mut suite = Suite::new("pair relaying: messages");
    let cluster = chain();
    let mut subscribers: [_; 3] = cluster.clients();
    for subscriber in &mut subscribers {
        subscriber.ok(&["SUBSCRIBE", "news"]);
    }
    let mut publishers: [_; 3] = cluster.clients();
    for round in 0..10 {
        for (node, publisher) in publishers.iter_mut().enumerate() {
            publisher.ok(&["PUBLISH", "news", &format!("{round} from {node}")]);
            suite.add(1);
        }
    }
    cluster.heal_between(0, 2);
    cluster.settle();
    for publisher in &mut publishers {
        publisher.ok(&["PUBLISH", "news", "end"]);
    }
    for subscriber in &mut subscribers {
        let mut heard = Vec::new();
        let mut ends = 0;
        while ends < 3 {
            let text = subscriber.read().texts()[2].clone();
            ends += usize::from(text == "end");
            heard.push(text);
        }
        assert_eq!(heard.len(), 33, "each message once: {heard:?}");
        for node in 0..3 {
            let from: Vec<&String> =
                heard.iter().filter(|text| text.ends_with(&format!("from {node}"))).collect();
            let expected: Vec<String> = (0..10).map(|round| format!("{round} from {node}")).collect();
            assert!(
                from.iter().zip(&expected).all(|(seen, expected)| *seen == expected),
                "in order: {from:?}"
            );
        }
    }
}
