//! Clients of every node: some write anything, one counts. They come back when their node does.
//!
//! A counter belongs to one life of one node, so that what it must hold is known: all that was acknowledged, unless the life
//! ended by a kill that may have cost what had not left yet; and never more than was asked for.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Client, Cluster, Random, Value, encode};
use crate::writes::any_write;

/// Clients of a node that write anything.
const WRITERS: usize = 2;
/// Commands sent at once.
const PIPELINE: usize = 16;
/// The pause behind them: a steady load that leaves the machine to the nodes.
const PAUSE: Duration = Duration::from_millis(5);
/// A node that is stopped for a moment answers later; one that is silent for so long is dialed again.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Bytes of a large value: they push the backlog over.
const LARGE_BYTES: usize = 20_000;

/// A life of a node: its index, and how often it was killed before.
pub(crate) type Life = (usize, u64);

/// What a counter was asked to add.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sent: i64,
    acknowledged: i64,
    /// All of it, or so much as was on other nodes before the life ended by a kill.
    kept: Option<i64>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    lives: [AtomicU64; 3],
    counts: Mutex<BTreeMap<Life, Count>>,
    commands: AtomicU64,
    reconnects: AtomicU64,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<Life, Count>> {
        self.counts.lock().expect("no client panicked")
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Load {
    pub(crate) fn start(cluster: &Cluster) -> Load {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for node in 0..3 {
            let port = cluster.node(node).port();
            for writer in 0..WRITERS {
                let (shared, seed) = (shared.clone(), (node * WRITERS + writer) as u64);
                threads.push(std::thread::spawn(move || {
                    let mut random = Random::new(seed);
                    stay_connected(&shared, port, |client| write_some(client, &mut random, &shared));
                }));
            }
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || {
                stay_connected(&shared, port, |client| count_on(client, node, &shared));
            }));
        }
        Load { shared, threads: Mutex::new(threads) }
    }

    /// Ends it.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.lock().expect("no panic").drain(..) {
            thread.join().expect("a client ran to its end");
        }
    }

    /// Commands that were answered.
    pub(crate) fn commands(&self) -> u64 {
        self.shared.commands.load(Ordering::Relaxed)
    }

    /// Connections that broke.
    pub(crate) fn reconnects(&self) -> u64 {
        self.shared.reconnects.load(Ordering::Relaxed)
    }

    /// The life a node is in.
    pub(crate) fn life(&self, node: usize) -> Life {
        (node, self.shared.lives[node].load(Ordering::SeqCst))
    }

    /// What has been acknowledged of a life's counter so far.
    pub(crate) fn acknowledged(&self, life: Life) -> i64 {
        self.shared.counts().get(&life).map_or(0, |count| count.acknowledged)
    }

    /// A node was killed, and does not run: its next life begins. `kept` is what its counter may not fall below; `None` for
    /// all that was acknowledged.
    pub(crate) fn end_life(&self, node: usize, kept: Option<i64>) {
        let life = self.life(node);
        self.shared.counts().entry(life).or_default().kept = kept;
        self.shared.lives[node].store(life.1 + 1, Ordering::SeqCst);
    }

    /// Every counter on every node holds what it must. In words, how many there were.
    #[track_caller]
    pub(crate) fn check(&self, clients: &mut [Client]) -> String {
        let counts = self.shared.counts();
        let (mut exact, mut bounded, mut sum) = (0, 0, 0);
        for (life, count) in counts.iter() {
            let least = count.kept.unwrap_or(count.acknowledged);
            for client in &mut *clients {
                let held = client.cmd(&["GET", &key(*life)]);
                let held = if held.is_null() { 0 } else { held.int() };
                assert!((least..=count.sent).contains(&held), "{life:?} is {held} of {count:?}");
                sum += held;
            }
            exact += usize::from(least == count.sent);
            bounded += usize::from(least != count.sent);
        }
        let each = sum / clients.len() as i64;
        format!(
            "{each} increments kept, {exact} counters to the last one, {bounded} within what a kill may cost"
        )
    }
}

fn key((node, life): Life) -> String {
    format!("count:{node}:{life}")
}

/// Works over a connection until it breaks, and connects again.
fn stay_connected(shared: &Shared, port: u16, mut work: impl FnMut(&mut Client) -> io::Result<()>) {
    while !shared.is_over() {
        let Ok(mut client) = Client::connect(port) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        client.set_timeout(TIMEOUT);
        while !shared.is_over() {
            if work(&mut client).is_err() {
                shared.reconnects.fetch_add(1, Ordering::Relaxed);
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn ask(client: &mut Client, commands: &[Vec<String>]) -> io::Result<Vec<Value>> {
    let mut bytes = Vec::new();
    commands.iter().for_each(|command| encode(command, &mut bytes));
    client.send_raw(&bytes)?;
    commands.iter().map(|_| client.read_raw().map(|reply| Value::parse(&reply))).collect()
}

fn write_some(client: &mut Client, random: &mut Random, shared: &Shared) -> io::Result<()> {
    let words = |line: String| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let mut commands: Vec<Vec<String>> = (0..PIPELINE).map(|_| words(any_write(random))).collect();
    if random.chance(10) {
        commands.insert(0, words("MULTI".to_owned()));
        commands.push(words("EXEC".to_owned()));
    }
    if random.chance(2) {
        let value = random.below(10).to_string().repeat(LARGE_BYTES);
        commands.push(vec!["SET".into(), format!("large:{}", random.below(20)), value]);
    }
    let replies = ask(client, &commands)?;
    shared.commands.fetch_add(replies.len() as u64, Ordering::Relaxed);
    Ok(())
}

fn count_on(client: &mut Client, node: usize, shared: &Shared) -> io::Result<()> {
    let life = (node, shared.lives[node].load(Ordering::SeqCst));
    let commands: Vec<Vec<String>> =
        (1..=4).map(|n| vec!["INCRBY".into(), key(life), n.to_string()]).collect();
    let amount = 1 + 2 + 3 + 4;
    shared.counts().entry(life).or_default().sent += amount;
    let mut bytes = Vec::new();
    commands.iter().for_each(|command| encode(command, &mut bytes));
    client.send_raw(&bytes)?;
    for n in 1..=4 {
        let reply = Value::parse(&client.read_raw()?);
        assert!(!reply.is_error(), "{reply}");
        shared.counts().entry(life).or_default().acknowledged += n;
        shared.commands.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
