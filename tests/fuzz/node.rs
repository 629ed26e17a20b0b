//! A node without sockets, and what two honest ones tell each other.

use meldis::clock::{NTP64, NodeId, Origin, ntp_span_ms};
use meldis::command::TABLES;
use meldis::config::Config;
use meldis::engine::replication::Received;
use meldis::engine::session::Session;
use meldis::engine::{Engine, Now, Seeds};
use meldis::link::frame;
use meldis::link::mesh::LinkId;
use meldis::resp::args::OwnedArgs;
use meldis::store::shard::RANGES;

use crate::choices::Choices;

/// When every test begins.
pub const BEGIN_MS: u64 = 1_700_000_000_000;
/// Rounds of an exchange, 20 ms each, after which two honest nodes must be equal.
const ROUNDS_MAX: usize = 2_000;

pub struct Node {
    pub engine: Engine,
    pub session: Session,
}

/// A point in time, so many milliseconds after the beginning.
pub fn now(after_ms: u64) -> Now {
    Now::from_unix_ns(u128::from(BEGIN_MS + after_ms) * 1_000_000)
}

/// The newest time a node takes from others at the beginning.
pub fn limit() -> NTP64 {
    NTP64(now(0).ntp.0 + ntp_span_ms(Config::default().max_clock_drift_ms))
}

pub fn origin(number: u64) -> Origin {
    Origin::new(NodeId::new(number << 24), 1)
}

impl Node {
    pub fn new(number: u64) -> Node {
        let config = Config::default();
        let engine = Engine::new(origin(number), NTP64(0), 1, Seeds([number, 2, 3, 4]), config, TABLES);
        let session = engine.connect("c:1".into(), "s:1".into(), now(0), 0);
        Node { engine, session }
    }

    /// The reply to a command.
    pub fn run(&mut self, words: &[&[u8]], now: Now) -> Vec<u8> {
        let args: OwnedArgs = words.iter().collect();
        let mut out = Vec::new();
        let _ = self.engine.execute(&mut self.session, args.args(), &mut out, now, 0);
        out
    }

    /// The digest of every range.
    pub fn digests(&self) -> Vec<u64> {
        (0..RANGES).map(|range| self.engine.range_digest(range)).collect()
    }
}

/// What a client might write, of all types.
pub fn write_something(choices: &mut Choices<'_>, node: &mut Node, now: Now) {
    let key = choices.pick(&crate::made::KEYS);
    let element = choices.pick(&crate::made::ELEMENTS);
    let value: &[u8] =
        choices.pick(&[&b"1"[..], b"v", b"9223372036854775807", b"-9223372036854775808", b"1e4000"]);
    let float: &[u8] = choices.pick(&[&b"inf"[..], b"-inf", b"0.1", b"1e4000", b"-1.5"]);
    let words: &[&[u8]] = match choices.below(24) {
        0 => &[b"SET", key, value],
        1 => &[b"INCRBY", key, value],
        2 => &[b"INCRBYFLOAT", key, float],
        3 => &[b"APPEND", key, value],
        4 => &[b"DEL", key],
        5 => &[b"HSET", key, element, value],
        6 => &[b"HINCRBY", key, element, b"7"],
        7 => &[b"HINCRBYFLOAT", key, element, float],
        8 => &[b"HDEL", key, element],
        9 => &[b"SADD", key, element],
        10 => &[b"SREM", key, element],
        11 => &[b"ZADD", key, float, element],
        12 => &[b"ZINCRBY", key, float, element],
        13 => &[b"ZREM", key, element],
        14 => &[b"LPUSH", key, element, value],
        15 => &[b"RPUSH", key, element],
        16 => &[b"LINSERT", key, b"BEFORE", element, value],
        17 => &[b"LSET", key, b"0", value],
        18 => &[b"LPOP", key],
        19 => &[b"PEXPIRE", key, b"50"],
        20 => &[b"PERSIST", key],
        21 => &[b"RENAME", key, element],
        22 => &[b"SWAPDB", b"0", b"1"],
        _ => &[b"FLUSHDB"],
    };
    if words[0] == b"FLUSHDB" && !choices.one_in(4) {
        return;
    }
    node.run(words, now);
}

/// Links two honest nodes until they hold the same, and checks that they do.
pub fn converge(a: &mut Node, b: &mut Node, links: [LinkId; 2], after_ms: u64) {
    let after_ms = exchange(a, b, links, after_ms);
    for node in [&mut *a, &mut *b] {
        node.engine.check_invariants();
        node.run(&[b"RESET"], now(after_ms));
    }
    let digest: &[&[u8]] = &[b"DEBUG", b"DIGEST"];
    assert_eq!(a.run(digest, now(after_ms)), b.run(digest, now(after_ms)), "values differ");
}

/// Returns when they were equal and quiet, in milliseconds after the beginning.
fn exchange(a: &Node, b: &Node, links: [LinkId; 2], mut after_ms: u64) -> u64 {
    let ends = [(a, links[0]), (b, links[1])];
    for (node, link) in ends {
        node.engine.link_open(link, None, "honest".into(), now(after_ms));
    }
    let mut input: [Vec<u8>; 2] = Default::default();
    let mut quiet = 0;
    for _ in 0..ROUNDS_MAX {
        after_ms += 20;
        for at in 0..2 {
            let (node, link) = ends[at];
            node.engine.link_tick(now(after_ms));
            while node.engine.tick(now(after_ms), 0) {}
            node.engine.link_heard(link, now(after_ms));
            node.engine.link_poll(link, now(after_ms), &mut input[1 - at]);
        }
        for at in 0..2 {
            let (node, link) = ends[at];
            take_frames(node, link, &mut input[at], now(after_ms));
        }
        let pulls = ends.iter().any(|(node, _)| node.engine.mesh.lock().pull().is_some());
        let is_same = a.digests() == b.digests();
        quiet = if pulls || !is_same || input.iter().any(|bytes| !bytes.is_empty()) { 0 } else { quiet + 1 };
        if quiet > 3 {
            return after_ms;
        }
    }
    let differ: Vec<usize> = (0..RANGES).filter(|range| a.digests()[*range] != b.digests()[*range]).collect();
    for range in &differ {
        for (node, _) in ends {
            let shard = &node.engine.cell(*range).lock().shard;
            (0..shard.spaces())
                .for_each(|space| shard.entries(space).for_each(|it| println!("{space} {it:?}")));
        }
    }
    let [of_a, of_b] = ends.map(|(node, _)| format!("{:#?}", node.engine.mesh.lock()));
    println!("one {of_a}\nother {of_b}\nunread {input:?}");
    panic!("not quiet, or ranges {differ:?} differ for good");
}

fn take_frames(node: &Node, link: LinkId, input: &mut Vec<u8>, now: Now) {
    let mut taken = 0;
    while let Some(length) =
        frame::length(&input[taken..], node.engine.link_body_bytes_max(link)).expect("an honest peer's frame")
    {
        if taken + length > input.len() {
            break;
        }
        match node.engine.link_receive(link, &input[taken..taken + length], now, 0) {
            Ok(Received::Taken) => taken += length,
            Ok(Received::Held) => break,
            Err(fault) => panic!("an honest peer's link ended: {fault}"),
        }
    }
    input.drain(..taken);
}
