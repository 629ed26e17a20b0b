//! The engine: a read buffer of 16 requests executed as a connection does, over 100,000 keys, without sockets.

use std::time::{SystemTime, UNIX_EPOCH};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meldis::clock::{NTP64, NodeId, Origin};
use meldis::command::TABLES;
use meldis::config::Config;
use meldis::engine::session::Session;
use meldis::engine::{Engine, Now, Seeds};
use meldis::resp::args::OwnedArgs;

const PIPELINE: usize = 16;
const KEYS: usize = 100_000;

fn now() -> Now {
    Now::from_unix_ns(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()))
}

/// A server, one connection to it, and a request for each of its keys.
struct Server {
    engine: Engine,
    session: Session,
    out: Vec<u8>,
    next: usize,
}

impl Server {
    fn new() -> Self {
        let origin = Origin::new(NodeId::new(1 << 24), 1);
        let engine = Engine::new(origin, NTP64(0), 2, Seeds([1, 2, 3, 4]), Config::default(), TABLES);
        let session = engine.connect("bench:1".into(), "bench:2".into(), now(), 0);
        let mut server = Server { engine, session, out: Vec::new(), next: 0 };
        let sets = requests(|key| vec![b"SET".to_vec(), key, vec![b'x'; 64]]);
        (0..KEYS / PIPELINE).for_each(|_| server.run(&sets));
        server
    }

    /// Runs the next requests of the round.
    fn run(&mut self, requests: &[OwnedArgs]) {
        let now = now();
        self.out.clear();
        for _ in 0..PIPELINE {
            self.engine.execute(&mut self.session, requests[self.next].args(), &mut self.out, now, 0);
            self.next = (self.next + 1) % requests.len();
        }
    }
}

/// One request per key, in an order that jumps about.
fn requests(words: impl Fn(Vec<u8>) -> Vec<Vec<u8>>) -> Vec<OwnedArgs> {
    let key = |n: usize| format!("key:{:012}", n * 48_271 % KEYS).into_bytes();
    (0..KEYS).map(|n| words(key(n)).into_iter().collect()).collect()
}

fn execute(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine/execute");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let sets = requests(|key| vec![b"SET".to_vec(), key, vec![b'y'; 64]]);
    let long_sets = requests(|key| vec![b"SET".to_vec(), key, vec![b'y'; 1024]]);
    let gets = requests(|key| vec![b"GET".to_vec(), key]);
    let adds = requests(|key| vec![b"INCR".to_vec(), [b"n:", &key[..]].concat()]);
    let mut server = Server::new();
    group.bench_function("GET", |b| b.iter(|| server.run(&gets)));
    group.bench_function("SET", |b| b.iter(|| server.run(&sets)));
    group.bench_function("INCR", |b| b.iter(|| server.run(&adds)));
    let mut server = Server::new();
    group.bench_function("SET of 1 KiB", |b| b.iter(|| server.run(&long_sets)));
    let mut server = Server::new();
    server.engine.start_replicating();
    group.bench_function("SET with partners", |b| {
        b.iter(|| {
            server.run(&sets);
            server.engine.outbox.slot(0).bytes.clear();
        })
    });
    group.finish();
}

criterion_group!(benches, execute);
criterion_main!(benches);
