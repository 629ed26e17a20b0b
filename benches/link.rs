//! The link: batches of one SET each written, framed and merged, 1,000 at a time.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meldis::clock::{NTP64, NodeId, Origin, Stamp};
use meldis::command::TABLES;
use meldis::config::Config;
use meldis::engine::{Engine, Now, Seeds};
use meldis::link::batch::{Batch, BatchWriter};
use meldis::link::frame::{self, Frame};
use meldis::link::vector::Vector;
use meldis::store::delta::Change;

const BATCHES: u64 = 1000;
const NOW_MS: u64 = 1_700_000_000_000;

fn origin(node: u64) -> Origin {
    Origin::new(NodeId::new(node << 24), 1)
}

/// Batches stamped from a time on.
fn encode(from: u64, out: &mut Vec<u8>) {
    let value = [b'x'; 64];
    for n in 0..BATCHES {
        let stamp = Stamp::new(NTP64(from + n), origin(2));
        let mut key = *b"key:000000000000";
        key[8..].copy_from_slice(&n.to_be_bytes());
        let mut batch = BatchWriter::begin(stamp.origin, out);
        batch.change(0, &key, stamp, &Change::Assign(&value), out);
        batch.finish(stamp.time, out);
    }
}

fn segment(batches: &[u8], out: &mut Vec<u8>) {
    let frame = Frame::Segment {
        origin: origin(2),
        first: 1,
        count: BATCHES,
        watermark: NTP64(0),
        seen: vec![(origin(1), NTP64(0))],
    };
    frame::write(&frame, batches, out);
}

fn link(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("link");
    group.throughput(Throughput::Elements(BATCHES));
    let mut batches = Vec::new();
    group.bench_function("batches written", |b| {
        b.iter(|| {
            batches.clear();
            encode(black_box(1), &mut batches);
        })
    });
    let mut framed = Vec::new();
    group.bench_function("segment framed", |b| {
        b.iter(|| {
            framed.clear();
            segment(black_box(&batches), &mut framed);
        })
    });
    let engine = Engine::new(origin(1), NTP64(0), 1, Seeds([1, 2, 3, 4]), Config::default(), TABLES);
    let now = Now::from_unix_ns(u128::from(NOW_MS) * 1_000_000);
    let mut time = 0;
    group.bench_function("segment merged", |b| {
        b.iter_batched_ref(
            || {
                time += BATCHES;
                let (mut batches, mut framed) = (Vec::new(), Vec::new());
                encode(time, &mut batches);
                segment(&batches, &mut framed);
                framed
            },
            |framed| {
                let (_, mut rest) = frame::read(framed).expect("it was just written");
                while let Some((batch, behind)) = Batch::split(rest).expect("it was just written") {
                    let records = batch.read().expect("it was just written");
                    let own = Vector::default();
                    engine.merge_batch(origin(2), records, &own, now, 0).expect("it was just written");
                    rest = behind;
                }
            },
            criterion::BatchSize::SmallInput,
        )
    });
    group.finish();
}

criterion_group!(benches, link);
criterion_main!(benches);
