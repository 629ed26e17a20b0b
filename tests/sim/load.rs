//! Random commands, as data: a weight and a line whose words in braces are drawn from small pools.

use meldis::engine::Engine;
use meldis::number;
use meldis::number::long_double::LongDouble;
use meldis::store::delta::Amount;

use crate::random::Random;
use crate::world::{SESSIONS, World};

/// What clients do. `{s}` a string's key, `{c}` a counter's, `{g}` of a float, `{h}` a hash's, `{e}` a set's, `{z}` a
/// sorted set's, `{l}` a list's, `{x}` a key of any type; `{f}` a field or member, `{v}` a value, `{n}` a small number
/// but zero, `{i}` an index, `{ms}` a time to live.
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
];

/// What touches everything, where a plan has it.
const FLUSHES: &[(usize, &str)] = &[(1, "FLUSHDB"), (1, "FLUSHALL"), (1, "SWAPDB 0 1")];

/// Which commands a history has.
pub struct Load {
    table: Vec<(usize, &'static str)>,
    weight: usize,
    /// Keys per pool.
    pub keys: usize,
    /// Percent of commands that stand in a transaction.
    pub transactions: usize,
}

impl Load {
    pub fn new(engine: &Engine, keys: usize, expiries: bool, flushes: bool, transactions: usize) -> Load {
        let known = |line: &str| {
            let name = line.split(' ').next().expect("a line has a word");
            engine.find(name.as_bytes()).is_some()
        };
        let table: Vec<_> = COMMANDS
            .iter()
            .chain(EXPIRIES.iter().filter(|_| expiries))
            .chain(FLUSHES.iter().filter(|_| flushes))
            .filter(|(_, line)| known(line))
            .copied()
            .collect();
        let transactions = if engine.find(b"multi").is_some() { transactions } else { 0 };
        Load { weight: table.iter().map(|(weight, _)| weight).sum(), table, keys, transactions }
    }

    fn line(&self, random: &mut Random) -> Vec<Vec<u8>> {
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

    fn word(&self, word: &str, random: &mut Random) -> String {
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
            pool => format!("{pool}{}", random.below(self.keys)),
        };
        format!("{before}{drawn}{after}")
    }

    /// Has a client of a node run something.
    pub fn run(&self, world: &mut World, node: usize) {
        let session = world.random.below(SESSIONS);
        if world.random.chance(self.transactions) {
            let lines: Vec<_> =
                (0..2 + world.random.below(3)).map(|_| self.line(&mut world.random)).collect();
            world.command(node, session, &[b"MULTI".to_vec()]);
            lines.iter().for_each(|line| drop(world.command(node, session, line)));
            let reply = world.command(node, session, &[b"EXEC".to_vec()]);
            let Some(outcomes) = outcomes(&reply) else { return };
            for (line, succeeded) in lines.iter().zip(outcomes) {
                note(world, node, line, succeeded);
            }
        } else {
            let line = self.line(&mut world.random);
            run(world, node, session, &line);
        }
    }
}

/// Runs a command and notes what it added.
pub fn run(world: &mut World, node: usize, session: usize, line: &[Vec<u8>]) -> Vec<u8> {
    let reply = world.command(node, session, line);
    if world.trace {
        let words: Vec<_> = line.iter().map(|word| String::from_utf8_lossy(word)).collect();
        println!("{:>9} n{node} {} -> {:?}", world.now_us, words.join(" "), String::from_utf8_lossy(&reply));
    }
    note(world, node, line, !reply.starts_with(b"-"));
    reply
}

fn note(world: &mut World, node: usize, line: &[Vec<u8>], succeeded: bool) {
    let engine = world.engine(node);
    if !succeeded || !engine.is_active() {
        return;
    }
    let origin = engine.clock.origin();
    let int = |text: &[u8]| Amount::Int(number::parse_i64(text).expect("drawn as a number").into());
    let score = |text: &[u8]| Amount::Score(number::parse_f64(text).expect("drawn as a number"));
    let (element, amount) = match (line[0].as_slice(), &line[1..]) {
        (b"INCR", _) => (None, Amount::Int(1)),
        (b"DECR", _) => (None, Amount::Int(-1)),
        (b"INCRBY", [_, n]) => (None, int(n)),
        (b"DECRBY", [_, n]) => match int(n) {
            Amount::Int(n) => (None, Amount::Int(-n)),
            _ => return,
        },
        (b"INCRBYFLOAT", [_, n]) => (None, Amount::Float(LongDouble::parse(n).expect("drawn as a number"))),
        (b"HINCRBY", [_, field, n]) => (Some(field.clone()), int(n)),
        (b"ZINCRBY", [_, n, member]) => (Some(member.clone()), score(n)),
        (b"ZADD", [_, incr, n, member]) if incr == b"INCR" => (Some(member.clone()), score(n)),
        _ => return,
    };
    world.history.added(origin, &line[1], element.as_deref(), amount);
}

/// Which commands of a transaction succeeded; `None` if it did not run.
fn outcomes(reply: &[u8]) -> Option<Vec<bool>> {
    let mut rest = reply.strip_prefix(b"*")?;
    let count = number::parse_i64(take_line(&mut rest)?).filter(|count| *count >= 0)?;
    (0..count)
        .map(|_| {
            let succeeded = !rest.starts_with(b"-");
            skip(&mut rest).map(|()| succeeded)
        })
        .collect()
}

fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}

fn skip(rest: &mut &[u8]) -> Option<()> {
    let line = take_line(rest)?;
    let length = line.get(1..).and_then(number::parse_i64);
    match line.first()? {
        b'$' if length? >= 0 => *rest = rest.get(length? as usize + 2..)?,
        b'*' => (0..length?).try_for_each(|_| skip(rest))?,
        _ => {}
    }
    Some(())
}
