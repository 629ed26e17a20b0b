//! Pieces of ranges that were damaged: refused whole, or merged in the range they name and nowhere else.

use meldis::clock::NTP64;
use meldis::engine::merging::Known;
use meldis::engine::ranges::{Chunk, Vectors};
use meldis::link::batch::{Batch, Record};
use meldis::link::frame::Cursor;
use meldis::link::vector::Vector;
use meldis::store::shard::RANGES;

use crate::choices::Choices;
use crate::made::{self, PEER, SELF};
use crate::node::{self, Node, limit, now};

pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (mut giver, mut taker) = (Node::new(PEER), Node::new(SELF));
    for node in [&mut giver, &mut taker] {
        node.engine.start_replicating();
        for _ in 0..choices.below(40) {
            node::write_something(&mut choices, node, now(0));
        }
        node.engine.link_tick(now(0));
    }
    let theirs = giver.engine.mesh.lock().vector().clone();
    for (range, digest) in giver.engine.range_digests() {
        let equal = Some(digest).filter(|_| choices.one_in(4));
        let piece = giver.engine.read_range(range.into(), Cursor::default(), equal);
        let records = damaged(&mut choices, &piece.records);
        let own = if choices.one_in(2) { made::vector(&mut choices) } else { Vector::default() };
        let from = if choices.one_in(4) { made::cursor(&mut choices) } else { Cursor::default() };
        let to = if choices.one_in(4) { Some(made::cursor(&mut choices)) } else { piece.to };
        let chunk = Chunk { range: range.into(), from, to, graves: piece.graves, records: &records };
        let before = taker.digests();
        let known = Known { own: &own, seen: NTP64(0), written: NTP64(u64::MAX) };
        let vectors = Vectors { known, theirs: &theirs, giver: giver.engine.clock.origin() };
        let merged = taker.engine.merge_range(&chunk, vectors, now(0), 0);
        let after = taker.digests();
        for other in (0..RANGES).filter(|other| merged.is_err() || *other != usize::from(range)) {
            assert_eq!(
                before[other], after[other],
                "range {other}, though the piece is of {range}: {merged:?}"
            );
        }
        taker.engine.check_invariants();
    }
    // Not with the giver: of two sums under one stamp, which no honest node has, each would keep its own.
    let mut honest = Node::new(9);
    node::converge(&mut taker, &mut honest, [1, 1], 0);
}

/// A piece in which records were exchanged, dropped, repeated or damaged, but no stamp lies too far ahead: those are held
/// by the link.
fn damaged(choices: &mut Choices<'_>, piece: &[u8]) -> Vec<u8> {
    let mut bytes = piece.to_vec();
    if let Ok(Some((batch, _))) = Batch::split(piece) {
        let mut records = Vec::new();
        batch.each(|record| records.push(record)).unwrap();
        for _ in 0..choices.below(4) {
            let at = choices.below(records.len());
            match choices.below(4) {
                0 => records[at] = made::record(choices),
                1 => records.insert(at, made::record(choices)),
                2 => records.insert(at, records[choices.below(records.len())].clone()),
                _ if records.len() > 1 => drop(records.remove(at)),
                _ => {}
            }
        }
        records.retain(|record| !matches!(record, Record::Key(space, _) if *space > 1 << 20));
        bytes = made::batch_of(&records, batch.time);
    }
    if choices.one_in(4) {
        choices.damage(&mut bytes);
    }
    match Batch::split(&bytes) {
        Ok(Some((batch, _))) if batch.newest().is_ok_and(|newest| newest > limit()) => piece.to_vec(),
        _ => bytes,
    }
}
