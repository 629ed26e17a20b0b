//! Random writes of all types by several clients of each node, as data: a weight and a line whose words in braces are drawn
//! from small pools.
//!
//! Amounts are halves, so that floats are exact in any order: how sums round is an exception to C2.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Client, Random};

/// `{s}` a string's key, `{b}` a bitmap's, `{c}` a counter's, `{g}` of a float, `{h}` a hash's, `{e}` a set's, `{z}` a sorted
/// set's, `{l}` a list's, `{x}` a key of any type; `{f}` a field or member, `{v}` a value, `{n}` a small number but
/// zero, `{i}` an index, `{bit}` an offset, `{db}` a database, `{t}` hours in seconds, `{ms}` hours too, or
/// some milliseconds where that is wanted.
const COMMANDS: &[(usize, &str)] = &[
    (8, "SET {s} {v}"),
    (1, "SET {s} {v} KEEPTTL"),
    (1, "SET {s} {v} NX"),
    (1, "SET {s} {v} XX GET"),
    (1, "SETNX {s} {v}"),
    (3, "APPEND {s} {v}"),
    (2, "SETRANGE {s} 2 {v}"),
    (1, "GETSET {s} {v}"),
    (2, "MSET {s} {v} {s} {v}"),
    (1, "MSETNX {s} {v} {s} {v}"),
    (2, "DEL {s} {s}"),
    (1, "UNLINK {s}"),
    (1, "GETDEL {s}"),
    (3, "SETBIT {b} {bit} 1"),
    (1, "SETBIT {b} {bit} 0"),
    (1, "BITFIELD {b} SET u8 #1 {bit} INCRBY u4 0 1"),
    (1, "BITOP XOR {b} {b} {b}"),
    (1, "BITOP NOT {b} {b}"),
    (1, "DEL {b}"),
    (10, "INCRBY {c} {n}"),
    (6, "INCR {c}"),
    (2, "DECRBY {c} {n}"),
    (1, "DECR {c}"),
    (2, "SET {c} {n}"),
    (1, "DEL {c}"),
    (3, "INCRBYFLOAT {g} {n}.5"),
    (2, "INCRBY {g} {n}"),
    (1, "SET {g} {n}"),
    (1, "DEL {g}"),
    (6, "HSET {h} {f} {v}"),
    (2, "HSET {h} {f} {v} {f} {v}"),
    (1, "HMSET {h} {f} {v} n{f} {n}"),
    (1, "HSETNX {h} {f} {v}"),
    (4, "HDEL {h} {f} {f}"),
    (5, "HINCRBY {h} n{f} {n}"),
    (2, "HINCRBYFLOAT {h} g{f} {n}.5"),
    (2, "HSET {h} n{f} {n}"),
    (1, "HDEL {h} n{f} g{f}"),
    (1, "DEL {h}"),
    (7, "SADD {e} {f} {f}"),
    (5, "SREM {e} {f}"),
    (1, "SPOP {e}"),
    (1, "SPOP {e} 2"),
    (2, "SMOVE {e} {e} {f}"),
    (1, "SUNIONSTORE {e} {e} {e}"),
    (1, "SINTERSTORE {e} {e} {e}"),
    (1, "SDIFFSTORE {e} {e} {e}"),
    (1, "SORT {e} ALPHA STORE {l}"),
    (1, "DEL {e}"),
    (6, "ZADD {z} {n} {f}"),
    (1, "ZADD {z} GT CH {n}.5 {f}"),
    (1, "ZADD {z} NX {n} {f} {n} {f}"),
    (4, "ZINCRBY {z} {n}.5 {f}"),
    (1, "ZADD {z} INCR {n} {f}"),
    (3, "ZREM {z} {f} {f}"),
    (1, "ZPOPMIN {z}"),
    (1, "ZPOPMAX {z} 2"),
    (1, "ZMPOP 2 {z} {z} MIN"),
    (1, "ZREMRANGEBYRANK {z} 0 0"),
    (1, "ZREMRANGEBYSCORE {z} -2 2"),
    (1, "ZUNIONSTORE {z} 2 {z} {z}"),
    (1, "ZINTERSTORE {z} 2 {z} {e} WEIGHTS 2 1"),
    (1, "ZDIFFSTORE {z} 2 {z} {z}"),
    (1, "ZRANGESTORE {z} {z} 0 1"),
    (1, "DEL {z}"),
    (4, "LPUSH {l} {v} {v}"),
    (4, "RPUSH {l} {v} {v}"),
    (1, "LPUSHX {l} {v}"),
    (1, "RPUSHX {l} {v}"),
    (2, "LPOP {l}"),
    (1, "LPOP {l} 2"),
    (2, "RPOP {l}"),
    (1, "LMPOP 2 {l} {l} RIGHT COUNT 2"),
    (4, "LSET {l} {i} {v}"),
    (4, "LINSERT {l} BEFORE {v} {v}"),
    (4, "LINSERT {l} AFTER {v} {v}"),
    (2, "LREM {l} {i} {v}"),
    (2, "LTRIM {l} 0 12"),
    (1, "LTRIM {l} -8 -1"),
    (2, "LMOVE {l} {l} LEFT RIGHT"),
    (1, "LMOVE {l} {l} RIGHT LEFT"),
    (1, "RPOPLPUSH {l} {l}"),
    (1, "DEL {l}"),
    (2, "SET {x} {v}"),
    (2, "APPEND {x} {v}"),
    (2, "INCR {x}"),
    (2, "SADD {x} {f}"),
    (2, "SREM {x} {f}"),
    (2, "HSET {x} {f} {v}"),
    (2, "HDEL {x} {f}"),
    (2, "ZADD {x} {n} {f}"),
    (2, "ZREM {x} {f}"),
    (2, "RPUSH {x} {v}"),
    (1, "LINSERT {x} AFTER {v} {v}"),
    (2, "LPOP {x}"),
    (1, "LSET {x} 0 {v}"),
    (3, "DEL {x}"),
    (2, "RENAME {x} {x}"),
    (1, "RENAME {l} {l}"),
    (1, "RENAME {z} {z}"),
    (1, "RENAMENX {h} {h}"),
    (2, "COPY {x} {x} REPLACE"),
    (1, "COPY {h} {h} DB {db} REPLACE"),
    (1, "COPY {l} {l} REPLACE"),
    (2, "MOVE {x} {db}"),
    (1, "MOVE {l} {db}"),
    (1, "MOVE {c} {db}"),
    (1, "SET {s} {v} EX {t}"),
    (1, "SETEX {s} {t} {v}"),
    (3, "EXPIRE {x} {t}"),
    (2, "EXPIRE {e} {t}"),
    (2, "EXPIRE {l} {t}"),
    (2, "EXPIRE {h} {t} GT"),
    (2, "EXPIRE {c} {t} NX"),
    (2, "EXPIRE {z} {t} LT"),
    (2, "PEXPIRE {s} {ms}"),
    (2, "PEXPIRE {x} {ms}"),
    (1, "PEXPIRE {e} {ms}"),
    (1, "PEXPIRE {h} {ms}"),
    (1, "PEXPIRE {z} {ms}"),
    (1, "PEXPIRE {l} {ms}"),
    (1, "PEXPIRE {c} {ms}"),
    (1, "SET {s} {v} PX {ms}"),
    (1, "EXPIREAT {b} 4000000000"),
    (1, "PEXPIREAT {g} 4000000000000"),
    (1, "EXPIRE {x} -1"),
    (2, "PERSIST {x}"),
    (1, "PERSIST {e}"),
    (1, "PERSIST {c}"),
    (1, "GETEX {s} EX {t}"),
    (1, "GETEX {s} PERSIST"),
];

/// What a client does that waits.
const BLOCKING: &[(usize, &str)] = &[
    (4, "BLPOP {l} {l} 0.05"),
    (2, "BRPOP {l} 0.05"),
    (2, "BLMOVE {l} {l} LEFT RIGHT 0.05"),
    (1, "BRPOPLPUSH {l} {l} 0.05"),
    (1, "BLMPOP 0.05 2 {l} {l} LEFT COUNT 3"),
    (2, "BZPOPMIN {z} {z} 0.05"),
    (1, "BZMPOP 0.05 1 {z} MAX"),
];

/// What touches everything.
const WHOLE: &[(usize, &str)] = &[(3, "FLUSHDB"), (1, "FLUSHALL"), (4, "SWAPDB 0 {db}"), (1, "SWAPDB 1 2")];

/// Keys of each pool.
const KEYS: usize = 6;
/// Lines sent at once, and the pause behind them.
const PIPELINE: usize = 6;
const PAUSE: Duration = Duration::from_millis(10);
/// Clients of a node that write, besides one that waits.
const WRITERS: usize = 3;
/// One of so many lines touches everything, where that is wanted.
const WHOLE_EVERY: usize = 1500;
/// How long a client remembers what it wrote to.
const MEMORY: Duration = Duration::from_secs(10);

/// What a load has besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Whole databases are flushed and swapped.
    pub(crate) whole: bool,
    /// Keys expire.
    pub(crate) brief: bool,
}

/// A time to live, where it is brief.
pub(crate) const BRIEF_MS: i64 = 1500;

/// Whether clients may connect to a node: in which of its lives it is, zero for none.
#[derive(Default)]
pub(crate) struct Door(AtomicU64);

impl Door {
    pub(crate) fn open(&self, life: u64) {
        self.0.store(life, Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.open(0);
    }

    fn life(&self) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|life| *life > 0)
    }
}

/// What a client last wrote to a life of a node that ended: keys, and when it had the answer. All keys, if there is none.
pub(crate) struct Unsure {
    pub(crate) life: u64,
    pub(crate) at: Instant,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// What the clients did.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) commands: u64,
    pub(crate) unsure: Vec<Unsure>,
}

/// Clients of all nodes, until stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
    unsure: Arc<Mutex<Vec<Unsure>>>,
}

impl Load {
    /// On nodes behind these ports and doors.
    pub(crate) fn on(nodes: &[(u16, Arc<Door>)], seed: u64, kind: Kind) -> Load {
        let (stop, unsure) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut random = Random::new(seed);
        let mut threads = Vec::new();
        for (port, door) in nodes {
            for number in 0..=WRITERS {
                let mut writer = Writer {
                    port: *port,
                    door: door.clone(),
                    random: Random::new(random.next()),
                    table: if number == WRITERS { BLOCKING } else { COMMANDS },
                    kind,
                    recent: Vec::new(),
                    commands: 0,
                };
                let (stop, unsure) = (stop.clone(), unsure.clone());
                threads.push(std::thread::spawn(move || {
                    writer.run(&stop, &unsure);
                    writer.commands
                }));
            }
        }
        Load { stop, threads, unsure }
    }

    pub(crate) fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let commands = self.threads.drain(..).map(|thread| thread.join().expect("a client ran to its end"));
        let commands = commands.sum();
        let unsure = std::mem::take(&mut *self.unsure.lock().expect("no client panicked"));
        Tally { commands, unsure }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    port: u16,
    door: Arc<Door>,
    random: Random,
    table: &'static [(usize, &'static str)],
    kind: Kind,
    recent: Vec<(Instant, Vec<Vec<u8>>)>,
    commands: u64,
}

type Line = Vec<Vec<u8>>;

impl Writer {
    fn run(&mut self, stop: &AtomicBool, unsure: &Mutex<Vec<Unsure>>) {
        while !stop.load(Ordering::Relaxed) {
            let life = self.door.life();
            let client = life.and_then(|life| Some((life, Client::connect(self.port).ok()?)));
            let Some((life, mut client)) = client else {
                std::thread::sleep(PAUSE);
                continue;
            };
            while !stop.load(Ordering::Relaxed) && self.write_some(&mut client) {
                std::thread::sleep(PAUSE);
            }
            if !stop.load(Ordering::Relaxed) {
                let lost = self.recent.drain(..).map(|(at, keys)| Unsure { life, at, keys });
                unsure.lock().expect("no client panicked").extend(lost);
            }
            self.recent.clear();
        }
    }

    /// Whether the node still answers.
    fn write_some(&mut self, client: &mut Client) -> bool {
        let mut keys = Vec::new();
        let mut lines: Vec<Line> = Vec::new();
        if self.random.chance(15) {
            lines.push(words(&format!("SELECT {}", self.random.pick(&[0, 0, 0, 1, 2]))));
        }
        let transaction = self.random.chance(12);
        if transaction {
            lines.push(words("MULTI"));
        }
        for _ in 0..1 + self.random.below(PIPELINE) {
            let table = match self.kind.whole && self.random.below(WHOLE_EVERY) == 0 {
                true => WHOLE,
                false => self.table,
            };
            lines.push(self.line(table, &mut keys));
            self.commands += 1;
        }
        if transaction {
            lines.push(words("EXEC"));
        }
        let answered = answered(client, &lines);
        let now = Instant::now();
        self.recent.retain(|(at, _)| now - *at < MEMORY);
        self.recent.push((now, keys));
        answered
    }

    fn line(&mut self, table: &[(usize, &str)], keys: &mut Vec<Vec<u8>>) -> Line {
        let mut at = self.random.below(table.iter().map(|(weight, _)| weight).sum());
        let drawn = table.iter().find(|(weight, _)| {
            let found = at < *weight;
            at = at.saturating_sub(*weight);
            found
        });
        let (_, line) = drawn.expect("the weights add up");
        if !line.contains('{') || line.starts_with("SWAPDB") {
            // It touches everything.
            keys.push(Vec::new());
        }
        line.split(' ').map(|word| self.draw(word, keys).into_bytes()).collect()
    }

    fn draw(&mut self, word: &str, keys: &mut Vec<Vec<u8>>) -> String {
        let random = &mut self.random;
        let Some((before, rest)) = word.split_once('{') else { return word.to_owned() };
        let (name, after) = rest.split_once('}').expect("braces close");
        let drawn = match name {
            "f" => format!("f{}", random.below(4)),
            "v" => format!("v{}", random.below(6)),
            "n" => format!("{}{}", random.pick(&["", "", "-"]), random.range(1, 9)),
            "i" => random.range(-2, 2).to_string(),
            "bit" => random.below(40).to_string(),
            "db" => (1 + random.below(2)).to_string(),
            "t" => random.range(3600, 36_000).to_string(),
            "ms" if self.kind.brief => random.range(20, BRIEF_MS).to_string(),
            "ms" => (1000 * random.range(3600, 36_000)).to_string(),
            pool => {
                let key = format!("{pool}{}", random.below(KEYS));
                keys.push(key.clone().into_bytes());
                key
            }
        };
        format!("{before}{drawn}{after}")
    }
}

fn answered(client: &mut Client, lines: &[Line]) -> bool {
    let mut frames = Vec::new();
    lines.iter().for_each(|line| crate::harness::encode(line, &mut frames));
    client.send_raw(&frames).is_ok() && lines.iter().all(|_| client.read_raw().is_ok())
}

fn words(line: &str) -> Line {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}
