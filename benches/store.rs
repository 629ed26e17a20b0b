//! The store: one delta merged into one key of a range of 1,000 keys.

use std::hint::black_box;

use ahash::RandomState;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use meldis::clock::{NTP64, NodeId, Origin, Stamp};
use meldis::store::delta::{Added, Amount, Change, Pos, Side};
use meldis::store::shard::{KeyHash, Shard, ShardContext};

const KEYS: u64 = 1000;

/// A range, and the clock of the node that writes to it.
struct Range {
    shard: Shard,
    hasher: RandomState,
    origin: Origin,
    time: u64,
}

impl Range {
    fn new() -> Self {
        let origin = Origin::new(NodeId::new(1 << 24), 1);
        Range { shard: Shard::default(), hasher: RandomState::with_seeds(1, 2, 3, 4), origin, time: 0 }
    }

    fn filled(change: &Change<'_>) -> Self {
        let mut range = Self::new();
        (0..KEYS).for_each(|n| range.merge(n, change));
        range
    }

    fn stamp(&mut self) -> Stamp {
        self.time += 1;
        Stamp::new(NTP64(self.time), self.origin)
    }

    fn merge(&mut self, key: u64, change: &Change<'_>) {
        let stamp = self.stamp();
        self.merge_at(stamp, key, change);
    }

    fn merge_at(&mut self, stamp: Stamp, key: u64, change: &Change<'_>) {
        let mut name = *b"key:000000000000";
        name[8..].copy_from_slice(&key.to_be_bytes());
        let cx = ShardContext { own: self.origin, keep_tombstones: false, hasher: &self.hasher };
        let hash = KeyHash::new(&name, &self.hasher);
        black_box(self.shard.merge(0, black_box(&name), hash, stamp, change, 0, cx));
    }
}

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/merge");
    let value = [b'x'; 64];
    for (name, value) in [("SET over a value", &value[..]), ("SET of 1 KiB over a value", &[b'x'; 1024])] {
        group.bench_function(name, |b| {
            let mut range = Range::filled(&Change::Assign(value));
            let mut key = 0;
            b.iter(|| {
                key = (key + 1) % KEYS;
                range.merge(key, &Change::Assign(value));
            });
        });
    }
    group.bench_function("SET of 1000 new keys", |b| {
        b.iter_batched_ref(
            Range::new,
            |range| (0..KEYS).for_each(|key| range.merge(key, &Change::Assign(&value))),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("INCR per origin", |b| {
        let mut range = Range::new();
        b.iter(|| {
            let last = range.stamp();
            let added = Added {
                origin: last.origin,
                last: last.time,
                since: Stamp::NEVER,
                amount: Amount::Int(i128::from(last.time.0)),
            };
            range.merge_at(last, last.time.0 % KEYS, &Change::Sum(added));
        });
    });
    let fields: Vec<String> = (0..100).map(|n| format!("field:{n}")).collect();
    group.bench_function("HSET over a field", |b| {
        let mut range = Range::new();
        let mut n = 0;
        b.iter(|| {
            n += 1;
            range.merge(7, &Change::Field(fields[n % fields.len()].as_bytes(), &value));
        });
    });
    group.bench_function("ZADD moving a member", |b| {
        let mut range = Range::new();
        let mut n = 0;
        b.iter(|| {
            n += 1;
            range.merge(7, &Change::Score(fields[n % fields.len()].as_bytes(), (n * 7919 % 1009) as f64));
        });
    });
    group.bench_function("LPUSH and removal", |b| {
        let mut range = Range::new();
        b.iter(|| {
            let stamp = range.stamp();
            let pos = Pos::pushed(Side::After, stamp, 0);
            range.merge_at(stamp, 7, &Change::Item(pos.clone(), &value));
            range.merge(7, &Change::ItemRemove(pos));
        });
    });
    group.finish();
}

criterion_group!(benches, merge);
criterion_main!(benches);
