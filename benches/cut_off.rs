//! What a partner that is cut off costs: memory of a node that goes on taking 20,000 writes a second, of SET, DEL, INCR and
//! EXPIRE over 100,000 keys, while its partner is frozen; and after the partner has returned.
//!
//! ```text
//! cargo bench --bench cut_off -- SECONDS
//! ```
//! Without SECONDS, as under `cargo bench`, it does nothing.

#![allow(clippy::unwrap_used, reason = "a bench: a panic is the report")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::time::{Duration, Instant};

use harness::{Client, Cluster, Options, Random, until};

const KEYS: usize = 100_000;
const WRITES_PER_SECOND: usize = 20_000;
/// Writes sent at once; so many times a second that it makes the rate.
const PIPELINE: usize = 200;
/// Bytes of a value.
const VALUE: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse::<u64>().ok());
    let Some(seconds) = seconds else {
        println!("usage: cargo bench --bench cut_off -- SECONDS");
        return;
    };
    let cluster = Cluster::start(Options::new(2).args(&["--repl-timeout", "5"]));
    cluster.settle();
    let mut a = cluster.client(0);
    let mut random = Random::new(1);
    let fill: Vec<Vec<String>> = (0..KEYS).map(|n| command(&["SET", &format!("k{n}"), VALUE])).collect();
    fill.chunks(1000).for_each(|some| drop(a.pipeline(some)));
    cluster.settle();
    println!("{:>8} {:>12} {:>12} {:>10} {:>10}", "second", "used_memory", "rss", "backlog", "keys");
    show(&mut a, "full");
    load(&mut a, &mut random, 10, |_, _| {});
    cluster.settle();
    show(&mut a, "linked");
    cluster.node(1).pause();
    let step = (seconds / 10).max(1);
    load(&mut a, &mut random, seconds, |client, second| {
        if second.is_multiple_of(step) {
            show(client, &second.to_string());
        }
    });
    show(&mut a, "cut");
    cluster.node(1).resume();
    let began = Instant::now();
    until("the partner has all it missed", || {
        let convergence = a.ok(&["INFO", "convergence"]).text();
        convergence.contains("state=streaming") && convergence.contains("lag_ms=0,")
    });
    println!("nothing lacking after {:.1} s", began.elapsed().as_secs_f64());
    show(&mut a, "back");
    // Expiries go on firing for a minute; then nothing changes any more.
    cluster.settle_within(Duration::from_secs(120));
    show(&mut a, "equal");
    // Tombstones go when the partner has merged everything older.
    load(&mut a, &mut random, 10, |_, _| {});
    cluster.settle();
    show(&mut a, "linked");
}

fn command(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn load(
    client: &mut Client,
    random: &mut Random,
    seconds: u64,
    mut each_second: impl FnMut(&mut Client, u64),
) {
    let (began, mut shown) = (Instant::now(), 0);
    let bursts = seconds as usize * WRITES_PER_SECOND / PIPELINE;
    for burst in 0..bursts {
        let commands: Vec<Vec<String>> = (0..PIPELINE).map(|_| write(random)).collect();
        client.pipeline(&commands);
        let due = Duration::from_secs_f64((burst * PIPELINE) as f64 / WRITES_PER_SECOND as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let second = began.elapsed().as_secs();
        if second > shown {
            shown = second;
            each_second(client, second);
        }
    }
}

/// Strings and counters have keys of their own: an INCR of a text would be an error.
fn write(random: &mut Random) -> Vec<String> {
    let n = random.below(KEYS);
    let (text, counter) = (format!("k{}", n / 2), format!("n{}", n / 2));
    match random.below(4) {
        0 => command(&["SET", &text, VALUE]),
        1 => command(&["DEL", if n.is_multiple_of(2) { &text } else { &counter }]),
        2 => command(&["INCR", &counter]),
        _ => command(&["EXPIRE", if n.is_multiple_of(2) { &text } else { &counter }, "60"]),
    }
}

fn show(client: &mut Client, when: &str) {
    let mb = |bytes: Option<String>| bytes.map_or(0.0, |text| text.parse::<f64>().unwrap() / 1e6);
    let (used, rss) = (client.info("memory", "used_memory"), client.info("memory", "used_memory_rss"));
    let backlog = client.info("replication", "repl_backlog_histlen");
    let keys = client.run("DBSIZE").int();
    println!("{when:>8} {:>9.1} MB {:>9.1} MB {:>7.1} MB {keys:>10}", mb(used), mb(rss), mb(backlog));
}
