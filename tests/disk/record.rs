//! Clients that write all types and know exactly what has to be there: what was acknowledged at least, and nothing but a
//! prefix of what was sent.
//!
//! Round `r` of a writer is one command of each [`Kind`], in this order. A key's content tells how many rounds
//! its command has run; these numbers fall by one at one place at most, for the commands came in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::harness::{Server, Value, encode, until};

/// Expiries lie far ahead: nothing expires here.
const EXPIRES_MS: u64 = 4_000_000_000_000;

/// A command of a round, and the rounds it has run by what it left.
struct Kind {
    command: fn(&str, u64) -> String,
    rounds: fn(&mut Ask<'_>, &str) -> u64,
}

/// Asks a node, a real one or one inside the test.
pub(crate) type Ask<'a> = dyn FnMut(&[&str]) -> Value + 'a;

fn int(value: &Value) -> u64 {
    if value.is_null() { 0 } else { u64::try_from(value.int()).unwrap() }
}

const KINDS: &[Kind] = &[
    Kind {
        command: |w, r| format!("SET {w}:s {r}"),
        rounds: |ask, w| int(&ask(&["GET", &format!("{w}:s")])),
    },
    Kind { command: |w, _| format!("INCR {w}:n"), rounds: |ask, w| int(&ask(&["GET", &format!("{w}:n")])) },
    Kind {
        command: |w, _| format!("INCRBYFLOAT {w}:f 0.5"),
        rounds: |ask, w| {
            let value = ask(&["GET", &format!("{w}:f")]);
            if value.is_null() { 0 } else { (value.text().parse::<f64>().unwrap() * 2.0) as u64 }
        },
    },
    Kind {
        command: |w, r| format!("RPUSH {w}:l {r}"),
        rounds: |ask, w| {
            let items = ask(&["LRANGE", &format!("{w}:l"), "0", "-1"]).texts();
            let expected: Vec<String> = (1..=items.len()).map(|item| item.to_string()).collect();
            assert_eq!(items, expected, "{w}:l");
            items.len() as u64
        },
    },
    Kind {
        command: |w, r| format!("HSET {w}:h last {r}"),
        rounds: |ask, w| int(&ask(&["HGET", &format!("{w}:h"), "last"])),
    },
    Kind {
        command: |w, _| format!("HINCRBY {w}:h n 2"),
        rounds: |ask, w| int(&ask(&["HGET", &format!("{w}:h"), "n"])) / 2,
    },
    Kind {
        command: |w, r| format!("SADD {w}:t {r}"),
        rounds: |ask, w| int(&ask(&["SCARD", &format!("{w}:t")])),
    },
    Kind {
        command: |w, _| format!("ZINCRBY {w}:z 1.5 m"),
        rounds: |ask, w| {
            let score = ask(&["ZSCORE", &format!("{w}:z"), "m"]);
            if score.is_null() { 0 } else { (score.text().parse::<f64>().unwrap() / 1.5) as u64 }
        },
    },
    Kind {
        command: |w, r| format!("SET {w}:e {r} PXAT {}", EXPIRES_MS + r),
        rounds: |ask, w| {
            let rounds = int(&ask(&["GET", &format!("{w}:e")]));
            if rounds > 0 {
                assert_eq!(int(&ask(&["PEXPIRETIME", &format!("{w}:e")])), EXPIRES_MS + rounds, "{w}:e");
            }
            rounds
        },
    },
    Kind {
        command: |w, r| format!("PEXPIREAT {w}:l {}", EXPIRES_MS + r),
        rounds: |ask, w| {
            let at = ask(&["PEXPIRETIME", &format!("{w}:l")]).int();
            u64::try_from(at).map_or(0, |at| at - EXPIRES_MS)
        },
    },
    Kind {
        command: |w, r| format!("SETBIT {w}:b {r} 1"),
        rounds: |ask, w| int(&ask(&["BITCOUNT", &format!("{w}:b")])),
    },
    Kind {
        command: |w, _| format!("APPEND {w}:a x"),
        rounds: |ask, w| int(&ask(&["STRLEN", &format!("{w}:a")])),
    },
    // The one before is removed with the next: of all there is one.
    Kind { command: |w, r| format!("RENAME {w}:a {w}:x{r}"), rounds: |_, _| 0 },
    Kind { command: |w, r| format!("RENAME {w}:x{r} {w}:a"), rounds: |_, _| 0 },
];

/// A client that writes until it is told to stop or its node is gone.
pub(crate) struct Writer {
    name: String,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicU64>,
    thread: Option<JoinHandle<u64>>,
}

/// What a writer has sent, and what of it was acknowledged, in commands.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) acknowledged: u64,
    pub(crate) sent: u64,
}

impl Writer {
    /// Sends so many rounds at once.
    pub(crate) fn on(server: &Server, name: &str, pipeline: u64) -> Writer {
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (mut client, writer) = (server.client(), name.to_owned());
        let (counted, stopped) = (acknowledged.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while stopped.load(Ordering::Relaxed) == 0 {
                let mut frames = Vec::new();
                for round in rounds + 1..=rounds + pipeline {
                    for kind in KINDS {
                        let line = (kind.command)(&writer, round);
                        encode(&line.split(' ').collect::<Vec<_>>(), &mut frames);
                    }
                }
                rounds += pipeline;
                if client.send_raw(&frames).is_err() {
                    break;
                }
                for _ in 0..pipeline * KINDS.len() as u64 {
                    match client.read_raw() {
                        Ok(reply) if reply.starts_with(b"-MISCONF") => return rounds,
                        Ok(reply) => {
                            let reply = Value::parse(&reply);
                            assert!(!reply.is_error(), "{writer}: {reply}");
                            counted.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => return rounds,
                    }
                }
            }
            rounds
        });
        Writer { name: name.to_owned(), acknowledged, stop, thread: Some(thread) }
    }

    /// Several on one node, each with pipelines of its own length.
    pub(crate) fn several(server: &Server, name: &str) -> Vec<Writer> {
        [1, 1, 3, 8]
            .iter()
            .enumerate()
            .map(|(n, pipeline)| Writer::on(server, &format!("{name}:{n}"), *pipeline))
            .collect()
    }

    /// Waits until so many rounds are acknowledged.
    #[track_caller]
    pub(crate) fn has_written(&self, rounds: u64) {
        let goal = rounds * KINDS.len() as u64;
        until(&format!("{} has written {rounds} rounds", self.name), || {
            self.acknowledged.load(Ordering::Relaxed) >= goal
        });
    }

    /// Has it come to its end, if it has not because its node is gone.
    #[track_caller]
    pub(crate) fn end(self) -> Record {
        self.stop.store(1, Ordering::Relaxed);
        self.end_by_itself()
    }

    /// Waits for its end: its node is gone, or refuses what it writes.
    #[track_caller]
    pub(crate) fn end_by_itself(mut self) -> Record {
        let rounds = self.thread.take().unwrap().join().expect("the writer ran to its end");
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        Record { name: self.name.clone(), acknowledged, sent: rounds * KINDS.len() as u64 }
    }
}

impl Record {
    /// Nothing acknowledged is missing, all is a prefix of what was sent, and every value is exact. How many commands of it
    /// there are.
    #[track_caller]
    pub(crate) fn check(&self, ask: &mut Ask<'_>) -> u64 {
        let there = self.there(ask);
        assert!(there >= self.acknowledged, "{self:?}: only {there} are there");
        there
    }

    /// How many commands have run, all of a prefix.
    #[track_caller]
    pub(crate) fn there(&self, ask: &mut Ask<'_>) -> u64 {
        // The last two move a key to and fro.
        let told = &KINDS[..KINDS.len() - 2];
        let moved: Vec<String> = ask(&["KEYS", &format!("{}:x*", self.name)]).texts();
        let mut rounds: Vec<u64> = told.iter().map(|kind| (kind.rounds)(ask, &self.name)).collect();
        if let Some(key) = moved.first() {
            let round: u64 = key.rsplit('x').next().unwrap().parse().unwrap();
            assert_eq!(int(&ask(&["STRLEN", key])), round, "{key}");
            *rounds.last_mut().unwrap() = round;
        }
        let (first, last) = (rounds[0], *rounds.last().unwrap());
        let falls = rounds.windows(2).all(|pair| pair[0] >= pair[1]);
        assert!(
            falls && first - last <= 1 && moved.len() <= 1,
            "{}: no prefix: {rounds:?} {moved:?}",
            self.name
        );
        let whole = last * KINDS.len() as u64;
        let there = match (first > last, moved.len()) {
            // In the middle of a round.
            (true, _) => whole + rounds.iter().filter(|count| **count == first).count() as u64,
            // Of the last two commands one has run; without it, none or both: it does not show.
            (false, 1) => whole - 1,
            (false, _) => whole,
        };
        assert!(there <= self.sent, "{self:?}: {there} are there");
        there
    }
}

/// Checks all records on a real node, each from a connection of its own.
#[track_caller]
pub(crate) fn check_all(records: &[Record], server: &Server) -> u64 {
    let mut client = server.client();
    records.iter().map(|record| record.check(&mut |args| client.ok(args))).sum()
}
