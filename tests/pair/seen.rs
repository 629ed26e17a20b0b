//! What tests read from a node to know how far it is: links, digests, log lines.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Client, Server, Value, until};

/// A partner as MELD PEERS shows it.
pub(crate) type Peer = BTreeMap<String, String>;

/// MELD PEERS.
#[track_caller]
pub(crate) fn peers(client: &mut Client) -> Vec<Peer> {
    let fields = |peer: &Value| {
        let texts = peer.texts();
        texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };
    client.ok(&["MELD", "PEERS"]).items().iter().map(fields).collect()
}

/// The state of the link to the only partner: `up`, `down`, `syncing`, `clock_skew`; `none` before they met.
#[track_caller]
pub(crate) fn link(client: &mut Client) -> String {
    let peers = peers(client);
    assert!(peers.len() <= 1, "one partner: {peers:?}");
    peers.first().map_or("none".to_owned(), |peer| peer["link"].clone())
}

/// Waits until all these nodes hold the same, whatever their links.
#[track_caller]
pub(crate) fn agree(clients: &mut [Client]) {
    until("the digests of all nodes are equal", || {
        let mut digests = clients.iter_mut().map(|client| client.run("MELD DIGEST"));
        let first = digests.next().expect("at least one node");
        digests.all(|digest| digest == first)
    });
}

/// How often the log says something.
pub(crate) fn logged(server: &Server, words: &str) -> usize {
    server.log().matches(words).count()
}

/// How many pulls of ranges a node has begun: none while the backlog suffices.
pub(crate) fn resyncs(server: &Server) -> usize {
    logged(server, "ranges differ")
}

/// Sends the same command shape for many keys at once.
#[track_caller]
pub(crate) fn each_of(
    client: &mut Client,
    numbers: impl Iterator<Item = usize>,
    command: impl Fn(usize) -> Vec<String>,
) {
    let commands: Vec<Vec<String>> = numbers.map(command).collect();
    for some in commands.chunks(500) {
        for reply in client.pipeline(some) {
            assert!(!reply.is_error(), "{reply}");
        }
    }
}

/// A command as owned words.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Whether faults last as long, and come as often, as the scenarios say: `MELDIS_FAULTS=full`. Otherwise they are cut short
/// to what shows the same.
pub(crate) fn full() -> bool {
    std::env::var("MELDIS_FAULTS").is_ok_and(|text| text == "full")
}

/// Lets a fault last: the time is part of the scenario, not a wait for a state.
pub(crate) fn lasting(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
