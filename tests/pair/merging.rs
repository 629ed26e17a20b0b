//! The table of merges: what two nodes did while cut off from each other, and what both must show afterwards.
//!
//! All rows run at once, each on keys of its own: first phase, heal, second phase, heal. Within a phase the
//! steps run in the order written, on two nodes that do not see each other: so the stamps rise in that order.

use crate::harness::{Client, Pair, Suite};

/// What is done while cut off, in this order: `a` or `b`, then the command. `K` stands for the row's own key.
type Phase = &'static [(char, &'static str)];

struct Row {
    id: &'static str,
    phases: &'static [Phase],
    /// Asked of both nodes, with the reply as it is printed.
    expected: &'static [(&'static str, &'static str)],
}

const fn row(
    id: &'static str,
    phases: &'static [Phase],
    expected: &'static [(&'static str, &'static str)],
) -> Row {
    Row { id, phases, expected }
}

const PHASES_MAX: usize = 3;

const ROWS: &[Row] = &[
    row("str-1", &[&[('a', "SET K a"), ('b', "SET K b")]], &[("GET K", "\"b\"")]),
    row("str-1 reversed", &[&[('b', "SET K b"), ('a', "SET K a")]], &[("GET K", "\"a\"")]),
    row("str-2", &[&[('a', "SET K 0")], &[('a', "SET K a"), ('b', "DEL K")]], &[("EXISTS K", "0")]),
    row("str-3", &[&[('a', "SET K 0")], &[('b', "DEL K"), ('a', "SET K v")]], &[("GET K", "\"v\"")]),
    row(
        "str append",
        &[&[('a', "SET K x")], &[('a', "APPEND K a"), ('b', "APPEND K b")]],
        &[("GET K", "\"xb\"")],
    ),
    row(
        "cnt-1",
        &[&[('a', "INCRBY K 7"), ('b', "INCRBY K 3")], &[('a', "DECRBY K 3"), ('b', "INCRBY K 6")]],
        &[("GET K", "\"13\"")],
    ),
    row(
        "cnt-2",
        &[&[('a', "SET K 5")], &[('a', "INCR K"), ('b', "SET K 100"), ('a', "INCR K")]],
        &[("GET K", "\"101\"")],
    ),
    row(
        "cnt-3",
        &[&[('a', "SET K 5")], &[('a', "INCR K"), ('b', "DEL K"), ('a', "INCR K")]],
        &[("GET K", "\"1\"")],
    ),
    row(
        "cnt float",
        &[&[('a', "INCRBYFLOAT K 0.5"), ('b', "INCRBYFLOAT K 0.25"), ('a', "INCRBYFLOAT K 1.5")]],
        &[("GET K", "\"2.25\"")],
    ),
    row(
        "hsh-1",
        &[&[('a', "HSET K f a"), ('b', "HSET K g b")]],
        &[("HGET K f", "\"a\""), ("HGET K g", "\"b\"")],
    ),
    row(
        "hsh-2",
        &[&[('a', "HSET K n 5")], &[('a', "HINCRBY K n 2"), ('b', "HINCRBY K n 3")]],
        &[("HGET K n", "\"10\"")],
    ),
    row(
        "hsh del of a field",
        &[&[('a', "HSET K f 1 g 1")], &[('a', "HDEL K f g"), ('b', "HSET K g 2")]],
        &[("HGETALL K", "[\"g\" \"2\"]")],
    ),
    row(
        "lst-1",
        &[&[('a', "LPUSH K hello")], &[('b', "LPUSH K world")]],
        &[("LRANGE K 0 -1", "[\"world\" \"hello\"]")],
    ),
    row(
        "lst-2",
        &[&[('a', "LPUSH K x")], &[('a', "LINSERT K AFTER x y1"), ('b', "LINSERT K AFTER x y2")]],
        &[("LRANGE K 0 -1", "[\"x\" \"y2\" \"y1\"]")],
    ),
    row(
        "lst-2b",
        &[&[('a', "LPUSH K x")], &[('a', "LINSERT K BEFORE x y1"), ('b', "LINSERT K BEFORE x y2")]],
        &[("LRANGE K 0 -1", "[\"y1\" \"y2\" \"x\"]")],
    ),
    row(
        "lst-3",
        &[&[('a', "RPUSH K a1"), ('b', "RPUSH K b1"), ('a', "RPUSH K a2")]],
        &[("LRANGE K 0 -1", "[\"a1\" \"b1\" \"a2\"]")],
    ),
    row(
        "lst-4",
        &[&[('a', "LPUSH K x y z")], &[('a', "RPOP K"), ('b', "RPOP K")]],
        &[("LRANGE K 0 -1", "[\"z\" \"y\"]")],
    ),
    row(
        "lst both ends",
        &[&[('a', "RPUSH K m")], &[('b', "LPUSH K b"), ('a', "RPUSH K a"), ('a', "LPUSH K a")]],
        &[("LRANGE K 0 -1", "[\"a\" \"b\" \"m\" \"a\"]")],
    ),
    row(
        "lst set",
        &[&[('a', "RPUSH K x y")], &[('a', "LSET K 0 a"), ('b', "LSET K 0 b"), ('a', "LSET K 1 z")]],
        &[("LRANGE K 0 -1", "[\"b\" \"z\"]")],
    ),
    row(
        "set-1",
        &[&[('a', "SADD K a b")], &[('a', "SREM K a"), ('a', "SREM K c"), ('b', "SADD K c")]],
        &[("SCARD K", "2"), ("SMISMEMBER K a b c", "[0 1 1]")],
    ),
    row("set-2", &[&[('a', "SADD K 0")], &[('a', "SADD K e"), ('b', "DEL K")]], &[("EXISTS K", "0")]),
    row(
        "set-2 reversed",
        &[&[('a', "SADD K 0")], &[('b', "DEL K"), ('a', "SADD K e")]],
        &[("SMEMBERS K", "[\"e\"]")],
    ),
    row(
        "zst-1",
        &[&[('a', "ZADD K 1.1 x")], &[('a', "ZINCRBY K 1 x"), ('b', "ZINCRBY K 1 x")]],
        &[("ZSCORE K x", "\"3.1000000000000001\"")],
    ),
    row(
        "zst-2",
        &[&[('a', "ZADD K 4.1 x")], &[('a', "ZREM K x"), ('b', "ZINCRBY K 2 x")]],
        &[("ZSCORE K x", "\"2\"")],
    ),
    row(
        "zst-2 reversed",
        &[&[('a', "ZADD K 4.5 x")], &[('b', "ZINCRBY K 2 x"), ('a', "ZREM K x")]],
        &[("EXISTS K", "0")],
    ),
    row(
        "zst add",
        &[&[('b', "ZADD K 1 x"), ('a', "ZADD K 2 x 3 y")]],
        &[("ZRANGE K 0 -1 WITHSCORES", "[\"x\" \"2\" \"y\" \"3\"]")],
    ),
    row("hll-1", &[&[('a', "PFADD K x"), ('b', "PFADD K y")]], &[("PFCOUNT K", "2")]),
    row("typ-1", &[&[('a', "SET K v"), ('b', "SADD K m")]], &[("TYPE K", "set"), ("SMEMBERS K", "[\"m\"]")]),
    row("typ-1 reversed", &[&[('b', "SADD K m"), ('a', "SET K v")]], &[("GET K", "\"v\"")]),
    row(
        "typ of three",
        &[&[('a', "HSET K f 1")], &[('a', "DEL K"), ('a', "RPUSH K i"), ('b', "HSET K g 2")]],
        &[("HGETALL K", "[\"g\" \"2\"]")],
    ),
    row(
        "ren-1",
        &[&[('a', "SET K old")], &[('a', "RENAME K KJ"), ('b', "SET K v")]],
        &[("GET K", "\"v\""), ("GET KJ", "\"old\"")],
    ),
    row(
        "ren over another",
        &[&[('a', "SET K 1"), ('a', "SET KJ 2")], &[('b', "APPEND KJ 2"), ('a', "RENAME K KJ")]],
        &[("EXISTS K", "0"), ("GET KJ", "\"1\"")],
    ),
    row(
        "txn-1",
        &[&[
            ('a', "MULTI"),
            ('a', "SET K 1"),
            ('a', "SET KJ 1"),
            ('a', "EXEC"),
            ('b', "MULTI"),
            ('b', "SET K 2"),
            ('b', "SET KJ 2"),
            ('b', "EXEC"),
        ]],
        &[("GET K", "\"2\""), ("GET KJ", "\"2\"")],
    ),
    row(
        "expiry later",
        &[
            &[('a', "SET K v PX 900000")],
            &[('b', "PEXPIREAT K 4000000000000"), ('a', "PEXPIREAT K 3000000000000")],
        ],
        &[("PEXPIRETIME K", "3000000000000")],
    ),
    row(
        "persist beats an earlier expiry",
        &[&[('a', "SET K v PX 900000")], &[('b', "PEXPIRE K 10"), ('a', "PERSIST K")]],
        &[("GET K", "\"v\""), ("PTTL K", "-1")],
    ),
    row("ttl-2", &[&[('a', "SET K v PX 150")], &[('a', "SET K v")]], &[("GET K", "\"v\""), ("PTTL K", "-1")]),
    row(
        "store over a set",
        &[
            &[('a', "SADD K old"), ('a', "SADD KS 1 2")],
            &[('b', "SADD K b"), ('a', "SUNIONSTORE K KS"), ('b', "SADD K later")],
        ],
        &[("SCARD K", "3"), ("SMISMEMBER K 1 2 later old b", "[1 1 1 0 0]")],
    ),
    row(
        "copy",
        &[&[('a', "SET K 1")], &[('b', "SET KJ 2"), ('a', "COPY K KJ REPLACE")]],
        &[("GET KJ", "\"1\"")],
    ),
];

/// A row's own key in place of `K`, and keys derived from it in place of `KJ`, `KS`.
fn words(row: usize, line: &str) -> Vec<String> {
    let own = |word: &str| match word {
        "K" => format!("row:{row}"),
        "KJ" => format!("row:{row}:j"),
        "KS" => format!("row:{row}:s"),
        word => word.to_owned(),
    };
    line.split(' ').map(own).collect()
}

/// Commands that are not there yet leave their rows out; the closing line says how many.
fn runs(client: &mut Client, row: &Row) -> bool {
    let commands = row.phases.iter().flat_map(|phase| phase.iter()).map(|(_, line)| *line);
    commands.chain(row.expected.iter().map(|(line, _)| *line)).all(|line| {
        let name = line.split(' ').next().unwrap();
        !client.cmd(&[name]).text().starts_with("ERR unknown command")
    })
}

#[test]
fn what_two_nodes_did_apart_ends_as_one_redis_would_have_it() {
    let mut suite = Suite::new("pair merging");
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    pair.settle();
    let rows: Vec<(usize, &Row)> = ROWS.iter().enumerate().filter(|(_, row)| runs(&mut a, row)).collect();
    for phase in 0..PHASES_MAX {
        pair.cut();
        for (number, row) in &rows {
            for (node, line) in row.phases.get(phase).copied().unwrap_or_default() {
                let client = if *node == 'a' { &mut a } else { &mut b };
                let reply = client.cmd(&words(*number, line));
                assert!(!reply.is_error(), "{}: {line}: {reply}", row.id);
            }
        }
        pair.heal();
        pair.settle();
    }
    let mut wrong = Vec::new();
    for (number, row) in &rows {
        for (line, expected) in row.expected {
            for (name, client) in [("A", &mut a), ("B", &mut b)] {
                let seen = client.cmd(&words(*number, line)).to_string();
                if seen != *expected {
                    wrong.push(format!("{}: {line} on {name}: {seen}, expected {expected}", row.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    suite.add(rows.len() as u64);
    suite.note(&format!("{} rows need commands that are not there", ROWS.len() - rows.len()));
}

#[test]
fn a_flush_kills_what_was_written_before_it_and_nothing_after() {
    let _suite = Suite::new("pair merging flush");
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    pair.settle();
    pair.cut();
    b.ok(&["SET", "a", "1"]);
    b.ok(&["INCRBY", "n", "5"]);
    a.ok(&["FLUSHALL"]);
    b.ok(&["SET", "b", "1"]);
    b.ok(&["INCRBY", "n", "2"]);
    pair.heal();
    pair.settle();
    for client in [&mut a, &mut b] {
        assert_eq!(client.run("GET b"), "1");
        assert_eq!(client.run("GET n"), "2");
        assert_eq!(client.run("DBSIZE"), 2);
    }
}

#[test]
fn an_expiry_fires_without_a_message_and_yields_to_a_later_one() {
    let _suite = Suite::new("pair merging expiry");
    let pair = Pair::proxied();
    let [mut a, mut b] = pair.clients();
    a.ok(&["SET", "ttl1", "v", "PX", "700"]);
    a.ok(&["SET", "ttl2", "v", "PX", "700"]);
    a.ok(&["HSET", "ttl3", "old", "1"]);
    a.ok(&["PEXPIRE", "ttl3", "700"]);
    pair.settle();
    assert_eq!(b.run("GET ttl1"), "v", "the pair settled before the expiry");
    pair.cut();
    b.ok(&["PEXPIRE", "ttl1", "600000"]);
    a.ok(&["SET", "ttl2", "kept"]);
    crate::harness::until("ttl1 and ttl3 expire on A", || {
        a.run("GET ttl1").is_null() && a.run("EXISTS ttl3") == 0
    });
    a.ok(&["HSET", "ttl3", "new", "1"]);
    pair.heal();
    pair.settle();
    for client in [&mut a, &mut b] {
        assert_eq!(client.run("GET ttl1"), "v");
        assert!(client.run("PTTL ttl1").int() > 500_000);
        assert_eq!(client.run("GET ttl2"), "kept");
        assert_eq!(client.run("PTTL ttl2"), -1);
        assert_eq!(client.run("HGETALL ttl3"), ["new", "1"]);
    }
}
