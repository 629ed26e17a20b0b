//! Random commands, as data: a weight and a line whose words in braces are drawn from small pools.

use crate::random::Random;

/// The words of a command.
pub type Line = Vec<Vec<u8>>;

/// What clients do. `{s}` a string's key, `{c}` a counter's, `{g}` of a float, `{h}` a hash's, `{e}` a set's, `{z}` a
/// sorted set's, `{l}` a list's, `{x}` a key of any type, `{t}` a counter that is only added to, `{k}` a string that is
/// never deleted but by its expiry; `{f}` a field or member, `{v}` a value, `{n}` a small number but zero, `{i}` an index,
/// `{ms}` a time to live, `{#}` a number that rises.
const COMMANDS: &[(usize, &str)] = &[
    (12, "SET {s} {v}"),
    (4, "APPEND {s} {v}"),
    (3, "SETRANGE {s} 2 {v}"),
    (2, "GETSET {s} {v}"),
    (2, "MSET {s} {v} {s} {v}"),
    (3, "DEL {s}"),
    (1, "GETDEL {s}"),
    (20, "INCRBY {c} {n}"),
    (10, "INCR {c}"),
    (3, "DECRBY {c} {n}"),
    (2, "SET {c} {n}"),
    (1, "DEL {c}"),
    (3, "INCRBYFLOAT {g} {n}.5"),
    (1, "SET {g} {n}"),
    (8, "HSET {h} {f} {v}"),
    (3, "HSET {h} {f} {v} {f} {v}"),
    (1, "HSETNX {h} {f} {v}"),
    (5, "HDEL {h} {f}"),
    (6, "HINCRBY {h} n{f} {n}"),
    (2, "HSET {h} n{f} {n}"),
    (2, "HDEL {h} n{f}"),
    (1, "DEL {h}"),
    (8, "SADD {e} {f}"),
    (3, "SADD {e} {f} {f} {f}"),
    (5, "SREM {e} {f}"),
    (1, "SPOP {e}"),
    (2, "SMOVE {e} {e} {f}"),
    (2, "SUNIONSTORE {e} {e} {e}"),
    (2, "SINTERSTORE {e} {e} {e}"),
    (1, "SDIFFSTORE {e} {e} {e}"),
    (1, "DEL {e}"),
    (8, "ZADD {z} {n} {f}"),
    (5, "ZINCRBY {z} {n} {f}"),
    (1, "ZADD {z} INCR {n} {f}"),
    (4, "ZREM {z} {f}"),
    (1, "ZPOPMIN {z}"),
    (1, "ZREMRANGEBYRANK {z} 0 0"),
    (1, "ZUNIONSTORE {z} 2 {z} {z}"),
    (1, "ZRANGESTORE {z} {z} 0 1"),
    (1, "DEL {z}"),
    (5, "LPUSH {l} {v}"),
    (5, "RPUSH {l} {v} {v}"),
    (3, "LPOP {l}"),
    (3, "RPOP {l}"),
    (4, "LSET {l} {i} {v}"),
    (3, "LINSERT {l} BEFORE {v} {v}"),
    (3, "LINSERT {l} AFTER {v} {v}"),
    (2, "LREM {l} 1 {v}"),
    (1, "LTRIM {l} 0 5"),
    (2, "LMOVE {l} {l} LEFT RIGHT"),
    (1, "DEL {l}"),
    (3, "SET {x} {v}"),
    (2, "APPEND {x} {v}"),
    (2, "INCR {x}"),
    (3, "SADD {x} {f}"),
    (2, "SREM {x} {f}"),
    (3, "HSET {x} {f} {v}"),
    (2, "HDEL {x} {f}"),
    (3, "ZADD {x} {n} {f}"),
    (2, "ZREM {x} {f}"),
    (3, "RPUSH {x} {v}"),
    (2, "LPOP {x}"),
    (2, "LSET {x} 0 {v}"),
    (3, "DEL {x}"),
    (2, "RENAME {x} {x}"),
    (2, "COPY {x} {x} REPLACE"),
    (1, "RENAMENX {x} {x}"),
    (1, "RENAME {h} {x}"),
    (1, "RENAME {x} {l}"),
    (6, "INCRBY {t} {n}"),
    (2, "PUBLISH ch life:{#}"),
];

/// Expiries, where a plan has them.
const EXPIRIES: &[(usize, &str)] = &[
    (4, "SET {s} {v} PX {ms}"),
    (4, "PEXPIRE {x} {ms}"),
    (4, "PEXPIRE {h} {ms}"),
    (4, "PEXPIRE {e} {ms}"),
    (2, "PEXPIRE {c} {ms}"),
    (2, "PEXPIRE {z} {ms}"),
    (2, "PEXPIRE {l} {ms}"),
    (2, "PERSIST {x}"),
    (2, "PERSIST {h}"),
    (2, "PERSIST {e}"),
    (1, "GETEX {s} PX {ms}"),
    (1, "GETEX {s} PERSIST"),
    (1, "SET {s} {v} KEEPTTL"),
    (1, "EXPIRE {x} 1"),
    (1, "EXPIRE {e} 0"),
    (1, "PEXPIRE {h} {ms} NX"),
    (1, "PEXPIRE {x} {ms} XX"),
    (1, "PEXPIRE {s} {ms} GT"),
    (1, "PEXPIRE {s} {ms} LT"),
    (4, "APPEND {k} {v}"),
    (5, "PEXPIRE {k} {ms}"),
    (4, "PERSIST {k}"),
];

/// Clients that wait, where a plan has them.
const WAITS: &[(usize, &str)] = &[
    (3, "BLPOP {l} {l} 0.3"),
    (2, "BRPOP {l} 0.05"),
    (2, "BLMOVE {l} {l} LEFT RIGHT 0.3"),
    (2, "BZPOPMIN {z} 0.3"),
    (1, "BLMPOP 0.3 2 {l} {x} RIGHT COUNT 2"),
];

/// What touches everything, where a plan has it.
const FLUSHES: &[(usize, &str)] = &[(1, "FLUSHDB"), (1, "FLUSHALL"), (1, "SWAPDB 0 1")];

/// Percent of turns in which a client writes a pair of keys at once, and nobody else writes them.
const PAIRS: usize = 6;
/// Percent of turns in which it sends a transaction.
const TRANSACTIONS: usize = 10;

/// Which commands a history has.
pub struct Load {
    table: Vec<(usize, &'static str)>,
    weight: usize,
    /// Keys per pool.
    keys: usize,
    flushes: bool,
    /// Numbers that rise.
    count: usize,
}

impl Load {
    pub fn draw(random: &mut Random) -> Load {
        let (expiries, flushes, waits) = (random.chance(60), random.chance(20), random.chance(30));
        let table: Vec<_> = COMMANDS
            .iter()
            .chain(EXPIRIES.iter().filter(|_| expiries))
            .chain(FLUSHES.iter().filter(|_| flushes))
            .chain(WAITS.iter().filter(|_| waits))
            .copied()
            .collect();
        let weight = table.iter().map(|(weight, _)| weight).sum();
        Load { weight, table, keys: 1 + random.below(3), flushes, count: 0 }
    }

    /// What a client sends in one turn: a command, or those of a transaction.
    pub fn lines(&mut self, random: &mut Random) -> Vec<Line> {
        if random.chance(PAIRS) {
            self.count += 1;
            let words = |line: String| line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            let n = self.count;
            // The commands of a transaction have stamps of their own: a flush may come between.
            return if self.flushes || random.chance(30) {
                vec![words(format!("MSET pair:a {n} pair:b {n}"))]
            } else {
                vec![words(format!("SET a:{{id}} {n}")), words(format!("SET b:{{id}} {n}"))]
            };
        }
        let count = if random.chance(TRANSACTIONS) { 2 + random.below(3) } else { 1 };
        (0..count).map(|_| self.line(random)).collect()
    }

    fn line(&mut self, random: &mut Random) -> Line {
        let mut at = random.below(self.weight);
        let (_, line) = self
            .table
            .iter()
            .find(|(weight, _)| {
                let found = at < *weight;
                at = at.saturating_sub(*weight);
                found
            })
            .expect("the weights add up");
        line.split(' ').map(|word| self.word(word, random).into_bytes()).collect()
    }

    fn word(&mut self, word: &str, random: &mut Random) -> String {
        let Some((before, rest)) = word.split_once('{') else { return word.to_owned() };
        let (name, after) = rest.split_once('}').expect("braces close");
        let drawn = match name {
            "f" => format!("f{}", random.below(4)),
            "v" => format!("v{}", random.below(6)),
            "n" => {
                let n = random.range(1, 9);
                if after.is_empty() && random.chance(30) { (-n).to_string() } else { n.to_string() }
            }
            "i" => random.range(-2, 2).to_string(),
            "ms" => {
                let most = *random.pick(&[50, 500, 5000, 60_000]);
                random.range(1, most).to_string()
            }
            "#" => {
                self.count += 1;
                self.count.to_string()
            }
            pool => format!("{pool}{}", random.below(self.keys)),
        };
        format!("{before}{drawn}{after}")
    }
}
