//! What all nodes wrote, as MELD EFFECTS tells it: every batch once, whoever told of it.
//!
//! Each life of a node, from a start to the next end, has a follower of its own. A batch that two nodes tell of must be the
//! same to the word: that is checked as it comes in. What a node had written when it died and had told nobody
//! is known only up to the last time its follower asked ([`Life::collected_at`]), unless its disk tells the rest.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meldis::clock::{NTP64, Origin, Stamp};
use meldis::link::vector::Vector;

use crate::harness::{Client, Server, Value, show_bytes};

/// Between two questions when there is nothing new.
const PAUSE: Duration = Duration::from_millis(5);

/// One effect, as the feed has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Effect {
    pub(crate) stamp: Stamp,
    pub(crate) keyspace: u32,
    pub(crate) words: Vec<Vec<u8>>,
    pub(crate) item: Option<String>,
    /// The type an expiry was set on.
    pub(crate) kind: Option<String>,
}

impl Effect {
    pub(crate) fn name(&self) -> &str {
        std::str::from_utf8(&self.words[0]).expect("a command's name")
    }

    /// The key it is about; nothing for what concerns a whole database.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        match self.name() {
            "FLUSHDB" | "SWAPDB" | "PUBLISH" | "SPUBLISH" => None,
            _ => self.words.get(1).map(Vec::as_slice),
        }
    }

    /// Whether it adds to a number; and then to which field or member.
    pub(crate) fn added_to(&self) -> Option<Option<&[u8]>> {
        match self.name() {
            "INCRBY" | "INCRBYFLOAT" => Some(None),
            "HINCRBY" | "HINCRBYFLOAT" => Some(Some(&self.words[2])),
            "ZINCRBY" => Some(Some(&self.words[3])),
            _ => None,
        }
    }

    pub(crate) fn show(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| show_bytes(word)).collect();
        let item = self.item.as_ref().map_or(String::new(), |item| format!("  item {item}"));
        let kind = self.kind.as_ref().map_or(String::new(), |kind| format!("  on a {kind}"));
        format!("{} keyspace {}  {}{item}{kind}", self.stamp, self.keyspace, words.join(" "))
    }
}

/// An origin's batch, by its number.
pub(crate) type BatchId = (Origin, u64);
/// All that is known.
pub(crate) type Batches = BTreeMap<BatchId, Vec<Effect>>;

/// What a life of a node had told when it ended.
pub(crate) struct Life {
    pub(crate) origin: Origin,
    /// What the node had, again and again.
    pub(crate) tokens: Vec<Vector>,
    /// What of that was read.
    pub(crate) read: Vector,
    /// All that it had answered to its clients before this time is known.
    pub(crate) collected_at: Instant,
    /// Somebody began to pull data from it, which may be in no batch it had told, and did not get to the end.
    pub(crate) was_pulled: bool,
}

/// Reads one node's feed until told to stop, or until the node ends.
pub(crate) struct Follower {
    pub(crate) origin: Origin,
    stop: Arc<AtomicBool>,
    reached: Arc<Mutex<Vector>>,
    thread: JoinHandle<Life>,
}

impl Follower {
    /// From behind a vector on, or else from what the node writes next on; nobody may have written to it yet.
    pub(crate) fn of(server: &Server, batches: &Arc<Mutex<Batches>>, since: Option<Vector>) -> Follower {
        let mut client = server.client();
        let field =
            |client: &mut Client, name: &str| client.info("server", name).expect("INFO names the node");
        let origin =
            [field(&mut client, "meldis_node_id"), field(&mut client, "meldis_incarnation")].join(".");
        let origin = Origin::parse(&origin).expect("a node and its incarnation");
        let next = since.unwrap_or_else(|| {
            let (next, _) = page(&mut client, None).expect("the first page").expect("always there");
            next
        });
        let (stop, reached) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(next.clone())));
        let mut reader = Reader {
            client,
            since: next,
            batches: batches.clone(),
            stop: stop.clone(),
            reached: reached.clone(),
            life: Life {
                origin,
                tokens: Vec::new(),
                read: Vector::default(),
                collected_at: Instant::now(),
                was_pulled: false,
            },
        };
        let thread = std::thread::spawn(move || {
            // It ends with its node.
            let _ = reader.run();
            Life { read: reader.since, ..reader.life }
        });
        Follower { origin, stop, reached, thread }
    }

    /// Whether it has all that a vector tells of its own node.
    pub(crate) fn has(&self, vector: &Vector) -> bool {
        let reached = self.reached.lock().expect("no follower panicked");
        reached.of(self.origin).sequence >= vector.of(self.origin).sequence
    }

    pub(crate) fn end(self) -> Life {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("two nodes tell the same of a batch")
    }
}

struct Reader {
    client: Client,
    since: Vector,
    batches: Arc<Mutex<Batches>>,
    stop: Arc<AtomicBool>,
    reached: Arc<Mutex<Vector>>,
    life: Life,
}

impl Reader {
    fn run(&mut self) -> io::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let token = token(&mut self.client)?;
            while self.since.of(self.life.origin).sequence < token.of(self.life.origin).sequence {
                self.read_page()?;
            }
            self.read_page()?;
            self.life.tokens.push(token);
            self.life.collected_at = started;
            *self.reached.lock().expect("only read") = self.since.clone();
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn read_page(&mut self) -> io::Result<()> {
        match page(&mut self.client, Some(&self.since))? {
            Some((next, page)) => {
                self.since = next;
                let mut batches = self.batches.lock().expect("two nodes tell the same of a batch");
                for (id, effects) in page {
                    let known = batches.entry(id).or_insert_with(|| effects.clone());
                    assert_eq!(*known, effects, "two nodes tell differently of batch {} of {}", id.1, id.0);
                }
            }
            None => {
                // It got others' data without their batches. Its own batches are all there.
                let (next, _) = page(&mut self.client, None)?.expect("always there");
                let own = self.since.of(self.life.origin);
                self.since = next;
                self.since.set(self.life.origin, own);
            }
        }
        Ok(())
    }
}

/// What a node has.
pub(crate) fn token(client: &mut Client) -> io::Result<Vector> {
    let text = client.try_cmd(&["MELD", "TOKEN"])?.text();
    Ok(Vector::parse(&text).unwrap_or_else(|| panic!("not a token: {text}")))
}

/// Where the next page begins, and the batches on this one; nothing if the backlog no longer reaches back.
type Page = Option<(Vector, Batches)>;

fn page(client: &mut Client, since: Option<&Vector>) -> io::Result<Page> {
    let mut words = vec!["MELD".to_owned(), "EFFECTS".to_owned()];
    if let Some(since) = since {
        words.extend(["SINCE".to_owned(), since.to_string()]);
    }
    let reply = match client.try_cmd(&words)? {
        Value::Array(reply) => reply,
        Value::Error(text) if text.contains("no longer reaches back") => return Ok(None),
        other => panic!("MELD EFFECTS: {other}"),
    };
    let [next, Value::Array(effects)] = &reply[..] else { panic!("not a page: {reply:?}") };
    let mut batches = Batches::new();
    for effect in effects {
        let (id, effect) = read_effect(effect);
        batches.entry(id).or_default().push(effect);
    }
    Ok(Some((Vector::parse(&next.text()).expect("a token"), batches)))
}

fn read_effect(value: &Value) -> (BatchId, Effect) {
    let Value::Array(fields) = value else { panic!("not an effect: {value}") };
    let field = |name: &str| {
        let at = fields.chunks(2).find(|pair| pair[0] == name);
        &at.unwrap_or_else(|| panic!("an effect has {name}: {value}"))[1]
    };
    let optional = |name: &str| Some(field(name)).filter(|value| !value.is_null()).map(Value::text);
    let Value::Array(words) = field("command") else { panic!("not a command: {value}") };
    let bytes = |word: &Value| match word {
        Value::Bulk(bytes) => bytes.clone(),
        other => panic!("not a word: {other}"),
    };
    let origin = Origin::parse(&field("origin").text()).expect("an origin");
    let effect = Effect {
        stamp: stamp(&field("stamp").text()),
        keyspace: field("keyspace").int() as u32,
        words: words.iter().map(bytes).collect(),
        item: optional("item"),
        kind: optional("type"),
    };
    ((origin, field("batch").int() as u64), effect)
}

/// Reads `time/origin`.
pub(crate) fn stamp(text: &str) -> Stamp {
    let (time, origin) = text.split_once('/').expect("a stamp has two parts");
    let time = NTP64(time.parse().expect("a time"));
    // An instant has no author.
    Stamp::new(time, Origin::parse(origin).unwrap_or(Origin::NONE))
}
