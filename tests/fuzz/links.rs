//! A node whose peer tells it anything: it drops the link or takes what makes sense, holds what it can count, and is the same
//! as an honest node once they have met.

use meldis::engine::replication::Received;
use meldis::link::batch::Register;
use meldis::link::frame::{self, Frame};
use meldis::link::mesh::{Fault, LinkId};

use crate::choices::Choices;
use crate::made::{self, PEER, SELF};
use crate::node::{self, Node, now, origin};

/// Most links the peer opens.
const LINKS_MAX: u64 = 6;

pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut node = Node::new(SELF);
    let (mut link, mut after_ms, mut sequence) = (0, 0, 1);
    for _ in 0..choices.below(40) {
        if link == 0 || choices.one_in(24) {
            link = greet(&mut choices, &node, link + 1, after_ms);
        }
        if choices.one_in(3) {
            node::write_something(&mut choices, &mut node, now(after_ms));
        }
        let mut frame = match choices.below(4) {
            0 | 1 => next_segment(&mut choices, sequence),
            2 => answer(&mut choices, &node, link),
            _ => made::frame(&mut choices),
        };
        let tail = made::tail(&mut choices, &mut frame);
        if let Frame::Segment { count, .. } = &frame {
            sequence = sequence.wrapping_add(*count);
        }
        let mut bytes = Vec::new();
        frame::write(&frame, &tail, &mut bytes);
        if choices.one_in(10) {
            damage_body(&mut choices, &mut bytes);
        }
        node.engine.link_seen(link, &bytes, now(after_ms));
        match node.engine.link_receive(link, &bytes, now(after_ms), 0) {
            Ok(Received::Taken | Received::Held) => {}
            Err(fault) => {
                node.engine.link_closed(link, fault, now(after_ms));
                (link, sequence) = (greet(&mut choices, &node, link + 1, after_ms), 1);
                if link > LINKS_MAX {
                    break;
                }
            }
        }
        if choices.one_in(4) {
            after_ms += choices.below(200) as u64;
            node.engine.link_tick(now(after_ms));
            node.engine.tick(now(after_ms), 0);
        }
        let mut out = Vec::new();
        for _ in 0..20 {
            if !node.engine.link_poll(link, now(after_ms), &mut out) {
                break;
            }
        }
    }
    node.engine.check_invariants();
    (1..=link).for_each(|link| node.engine.link_closed(link, Fault::Closed, now(after_ms)));
    // Told that it was forgotten, it links with nobody, and rightly so.
    let registers = node.engine.registers.all();
    if registers.iter().any(|(register, ..)| *register == Register::Forgotten(origin(SELF).node())) {
        return;
    }
    let mut honest = Node::new(9);
    honest.engine.start_replicating();
    for _ in 0..choices.below(6) {
        node::write_something(&mut choices, &mut honest, now(after_ms));
        node::write_something(&mut choices, &mut node, now(after_ms));
    }
    node::converge(&mut node, &mut honest, [link + 1, 1], after_ms);
}

/// Opens a link on which the peer says who it is.
fn greet(choices: &mut Choices<'_>, node: &Node, link: LinkId, after_ms: u64) -> LinkId {
    node.engine.link_open(link, None, "peer".into(), now(after_ms));
    let mut bytes = Vec::new();
    let hello = made::hello(choices, origin(PEER));
    frame::write(&Frame::Hello(hello), &[], &mut bytes);
    let _ = node.engine.link_receive(link, &bytes, now(after_ms), 0);
    link
}

fn next_segment(choices: &mut Choices<'_>, sequence: u64) -> Frame {
    Frame::Segment {
        origin: origin(PEER),
        first: sequence,
        count: 0,
        watermark: now(0).ntp,
        seen: made::seen(choices),
    }
}

/// What the node waits for, or what has it wait.
fn answer(choices: &mut Choices<'_>, node: &Node, link: LinkId) -> Frame {
    let mesh = node.engine.mesh.lock();
    match mesh.pull().filter(|pull| pull.link == link) {
        None => Frame::Gap,
        Some(pull) if pull.vector.is_none() => made::differs(choices),
        Some(_) => made::chunk(choices),
    }
}

/// Damages a frame behind its header and makes the checksums right again.
fn damage_body(choices: &mut Choices<'_>, bytes: &mut Vec<u8>) {
    let mut body = bytes.split_off(frame::HEADER_BYTES);
    choices.damage(&mut body);
    let length = (body.len() as u32).to_le_bytes();
    *bytes = length.to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&length).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
}
