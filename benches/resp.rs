//! RESP: parsing pipelined requests and writing replies.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meldis::resp::reply::{Protocol, Reply};
use meldis::resp::request::{Limits, Parser, Progress};

const PIPELINE: usize = 16;

fn requests(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..PIPELINE {
        let mut writer = Reply::new(&mut bytes, Protocol::Resp2);
        writer.array(words.len());
        words.iter().for_each(|word| writer.bulk(word));
    }
    bytes
}

fn parse_all(parser: &mut Parser, mut bytes: &[u8]) -> usize {
    let mut args = 0;
    while let Ok(Progress::Complete { consumed }) = parser.parse(bytes, &Limits::default()) {
        args += parser.args(bytes).len();
        bytes = &bytes[consumed..];
    }
    args
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resp/parse");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let value = [b'x'; 64];
    let cases: [(&str, &[&[u8]]); 2] =
        [("SET", &[b"SET", b"key:000000012345", &value]), ("GET", &[b"GET", b"key:000000012345"])];
    for (name, words) in cases {
        let bytes = requests(words);
        let mut parser = Parser::new();
        group.bench_function(name, |b| b.iter(|| parse_all(&mut parser, black_box(&bytes))));
    }
    group.finish();
}

fn reply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resp/reply");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let value = [b'x'; 64];
    let mut out = Vec::new();
    let mut case = |name: &str, write: &dyn Fn(&mut Reply<'_>)| {
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                for _ in 0..PIPELINE {
                    write(&mut Reply::new(black_box(&mut out), Protocol::Resp2));
                }
            })
        });
    };
    case("ok", &|reply| reply.ok());
    case("bulk of 64", &|reply| reply.bulk(&value));
    case("integer", &|reply| reply.int(black_box(1_234_567)));
    group.finish();
}

criterion_group!(benches, parse, reply);
criterion_main!(benches);
