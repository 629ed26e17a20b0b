//! A load of mixed writes on one node, and what it must have added up to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Client, Random, Server};

/// Counters that are only ever added to.
const COUNTERS: usize = 4;
/// Keys of each other kind.
const KEYS: usize = 12;
/// Commands sent at once, and the pause behind them: a steady load that leaves the machine to the others.
const PIPELINE: usize = 12;
const PAUSE: Duration = Duration::from_millis(4);

/// Writes until stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Tally>>,
}

/// What the acknowledged commands added to the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) added: [i64; COUNTERS],
    pub(crate) commands: u64,
}

impl Load {
    /// All kinds of writes on one node, chosen by the seed.
    pub(crate) fn on(server: &Server, seed: u64) -> Load {
        Load::of(server, seed, |_| true)
    }

    /// Likewise, but nothing expires: for nodes that do not agree on the time.
    pub(crate) fn without_expiry(server: &Server, seed: u64) -> Load {
        Load::of(server, seed, |line| !line.contains("PX ") && !line.contains("PEXPIRE"))
    }

    fn of(server: &Server, seed: u64, takes: fn(&str) -> bool) -> Load {
        Load::over(server.client(), seed, takes)
    }

    /// All kinds of writes that `takes` lets pass, over this connection.
    pub(crate) fn over(mut client: Client, seed: u64, takes: fn(&str) -> bool) -> Load {
        Load::run(move |stop| {
            let mut random = Random::new(Random::seed(seed));
            let mut tally = Tally::default();
            while !stop.load(Ordering::Relaxed) {
                write_some(&mut client, &mut random, takes, &mut tally);
                std::thread::sleep(PAUSE);
            }
            tally
        })
    }

    fn run(work: impl FnOnce(&AtomicBool) -> Tally + Send + 'static) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        Load { stop, thread: Some(std::thread::spawn(move || work(&seen))) }
    }

    /// Ends it and says what it added.
    pub(crate) fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("stopped once").join().expect("the load ran to its end")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_some(client: &mut Client, random: &mut Random, takes: fn(&str) -> bool, tally: &mut Tally) {
    let mut adding = Vec::new();
    let commands: Vec<Vec<String>> = (0..PIPELINE)
        .map(|_| {
            let line = match random.chance(20) {
                true => {
                    let (counter, amount) = (random.below(COUNTERS), random.range(-3, 9));
                    adding.push((counter, amount));
                    format!("INCRBY n:{counter} {amount}")
                }
                false => {
                    let line = any_write(random);
                    if takes(&line) { line } else { "SADD t:0 lasting".to_owned() }
                }
            };
            line.split(' ').map(str::to_owned).collect()
        })
        .collect();
    client.pipeline(&commands);
    for (counter, amount) in adding {
        tally.added[counter] += amount;
    }
    tally.commands += PIPELINE as u64;
}

/// One write of any kind. Some meet a key of another type and fail: that is part of the load.
pub(crate) fn any_write(random: &mut Random) -> String {
    let key = random.below(KEYS);
    let (element, number) = (random.below(9), random.range(-20, 20));
    match random.below(31) {
        0..3 => format!("SET s:{key} v{}", random.below(1000)),
        3 => format!("APPEND s:{key} {element}"),
        4 => format!("SET s:{key} brief PX {}", random.range(20, 400)),
        5 => format!("GETDEL s:{key}"),
        6 => format!("SETBIT b:{key} {} 1", random.below(64)),
        7..9 => format!("INCRBY c:{key} {number}"),
        9 => format!("SET c:{key} {number}"),
        10 => format!("INCRBYFLOAT f:{key} {number}.5"),
        11..13 => format!("HSET h:{key} f{element} {number}"),
        13 => format!("HINCRBY h:{key} f{element} {number}"),
        14 => format!("HDEL h:{key} f{element}"),
        15..17 => format!("SADD t:{key} m{element}"),
        17 => format!("SREM t:{key} m{element}"),
        18 => format!("SPOP t:{key}"),
        19 => format!("ZADD z:{key} {number} m{element}"),
        20 => format!("ZINCRBY z:{key} {number} m{element}"),
        21 => format!("ZREM z:{key} m{element}"),
        22 => format!("LPUSH l:{key} i{}", random.below(1000)),
        23 => format!("RPUSH l:{key} i{}", random.below(1000)),
        24 => format!("LPOP l:{key} 2"),
        25 => format!("RPOP l:{key}"),
        26 => format!("PEXPIRE {}:{key} {}", random.pick(&["s", "h", "t", "z", "l"]), random.range(50, 900)),
        27 => format!("PERSIST {}:{key}", random.pick(&["s", "h", "t", "z", "l"])),
        28 => format!("RENAME {0}:{key} {0}:{element}", random.pick(&["s", "h", "t", "z", "l"])),
        29 => format!("DEL {}:{key} {0}:{element}", random.pick(&["s", "h", "t", "z", "l", "c"])),
        _ => format!("SADD {}:{key} mixed", random.pick(&["s", "h", "z", "l"])),
    }
}

/// Every counter on every node is the sum of all that was added.
#[track_caller]
pub(crate) fn check_sums(clients: &mut [Client], tallies: &[Tally]) {
    for counter in 0..COUNTERS {
        let sum: i64 = tallies.iter().map(|tally| tally.added[counter]).sum();
        for (node, client) in clients.iter_mut().enumerate() {
            let seen = client.cmd(&["GET", &format!("n:{counter}")]);
            let seen = if seen.is_null() { 0 } else { seen.int() };
            assert_eq!(seen, sum, "counter n:{counter} on node {node} of {tallies:?}");
        }
    }
}
