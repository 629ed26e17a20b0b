//! Clients: they send the lines of a schedule, note what they added, and read what they wrote.

use meldis::engine::Engine;
use meldis::number;
use meldis::number::long_double::LongDouble;
use meldis::store::delta::Amount;

use crate::load::Line;
use crate::schedule;
use crate::world::World;

/// Has a client of a node run something: a command, or a transaction.
pub fn run(world: &mut World, node: usize, session: usize, lines: &[Line]) {
    // What is written where nobody ever was told is not captured.
    let is_active = world.nodes[node].engine.as_ref().is_some_and(Engine::is_active);
    if !is_active || world.nodes[node].blocked[session].is_some() {
        return;
    }
    let lines: Vec<Line> = lines.iter().map(|line| addressed(world, node, line)).collect();
    let [line] = lines.as_slice() else { return run_transaction(world, node, session, &lines) };
    let reply = send(world, node, session, line);
    let succeeded = !reply.starts_with(b"-");
    note(world, node, line, succeeded);
    // Who waits may be served what was just written.
    let nobody_waits = world.nodes[node].blocked.iter().all(Option::is_none);
    if succeeded && nobody_waits {
        read_back(world, node, session, line);
    }
}

/// What only its node knows: its id in a key, its life in a message.
fn addressed(world: &World, node: usize, line: &Line) -> Line {
    let origin = world.engine(node).clock.origin();
    let word = |word: &Vec<u8>| match word.strip_suffix(b"{id}") {
        Some(before) => [before, origin.node().to_string().as_bytes()].concat(),
        None => match word.strip_prefix(b"life:") {
            Some(number) => [origin.to_string().as_bytes(), b":", number].concat(),
            None => word.clone(),
        },
    };
    line.iter().map(word).collect()
}

fn run_transaction(world: &mut World, node: usize, session: usize, lines: &[Line]) {
    send(world, node, session, &vec![b"MULTI".to_vec()]);
    lines.iter().for_each(|line| drop(send(world, node, session, line)));
    let reply = send(world, node, session, &vec![b"EXEC".to_vec()]);
    let Some(outcomes) = outcomes(&reply) else { return };
    for (line, succeeded) in lines.iter().zip(outcomes) {
        note(world, node, line, succeeded);
    }
}

fn send(world: &mut World, node: usize, session: usize, line: &Line) -> Vec<u8> {
    let reply = world.command(node, session, line);
    if world.trace {
        let reply = String::from_utf8_lossy(&reply).into_owned();
        println!("{:>9} n{node}.{session} {} -> {reply:?}", world.now_us, schedule::text(line));
    }
    reply
}

/// Read your writes: what a client wrote it reads at once.
fn read_back(world: &mut World, node: usize, session: usize, line: &Line) {
    let words: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
    let (read, expected): (Vec<&[u8]>, Vec<u8>) = match words.as_slice() {
        [b"SET", key, value] => (vec![b"GET", key], bulk(value)),
        [b"MSET", .., key, value] => (vec![b"GET", key], bulk(value)),
        [b"HSET", key, .., field, value] => (vec![b"HGET", key, field], bulk(value)),
        [b"SADD", key, .., member] => (vec![b"SISMEMBER", key, member], b":1\r\n".to_vec()),
        [b"ZADD", key, score, member] => (vec![b"ZSCORE", key, member], bulk(score)),
        [b"SREM", key, member] => (vec![b"SISMEMBER", key, member], b":0\r\n".to_vec()),
        [b"HDEL", key, field] => (vec![b"HEXISTS", key, field], b":0\r\n".to_vec()),
        [b"ZREM", key, member] => (vec![b"ZSCORE", key, member], b"$-1\r\n".to_vec()),
        [b"DEL", key] => (vec![b"EXISTS", key], b":0\r\n".to_vec()),
        _ => return,
    };
    let read = read.into_iter().map(<[u8]>::to_vec).collect();
    let reply = send(world, node, session, &read);
    if reply != expected {
        let [wrote, read] = [line, &read].map(schedule::text);
        let reply = String::from_utf8_lossy(&reply).into_owned();
        world.watch.breach(format!("n{node} wrote {wrote}, but {read} answers {reply:?}"));
    }
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn note(world: &mut World, node: usize, line: &[Vec<u8>], succeeded: bool) {
    if !succeeded {
        return;
    }
    let origin = world.engine(node).clock.origin();
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
