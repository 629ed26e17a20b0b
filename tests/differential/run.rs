//! Plays episodes on both servers side by side.
//!
//! Commands that answer with one frame go out in pipelines of [`BATCH_COMMANDS`] or a few more (units stay together), to
//! both servers at once; all replies of a batch are read before any is compared, so that nothing of a failed episode
//! runs into the next. Each batch ends with DEBUG DIGEST on the second connection.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::compare::{Compare, elements, show};
use crate::harness::{Client, Random, Server, Value, encode, show_bytes};
use crate::shape::{Catalog, Command, Step, Unit};

pub(crate) const EPISODE_COMMANDS: usize = 400;
const BATCH_COMMANDS: usize = 100;

/// Directives of both servers: small limits, so that encodings change within an episode; a
/// high hz, as Redis looks at its timeouts that often.
const DIRECTIVES: &[&str] = &[
    "--save",
    "",
    "--hz",
    "500",
    "--enable-debug-command",
    "yes",
    "--hash-max-listpack-entries",
    "8",
    "--zset-max-listpack-entries",
    "8",
    "--set-max-intset-entries",
    "8",
    "--list-max-listpack-size",
    "8",
];

/// One key of each type, so that a single group meets wrong types too.
const PREAMBLE: &[&str] = &[
    "SET s0 hello",
    "SETBIT b0 3 1",
    "HSET h0 a 1 b 2",
    "RPUSH l0 a b c",
    "SADD t0 a b 3",
    "ZADD z0 1 a 2 b 3 c",
    "SADD t1 1 2 3",
    "SET y8 x",
];

const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Units from one seed, playable by themselves.
pub(crate) struct Episode {
    pub(crate) protocol: u8,
    pub(crate) units: Vec<Unit>,
}

impl Episode {
    pub(crate) fn generate(catalog: &Catalog, seed: u64) -> Episode {
        let mut random = Random::new(seed);
        let protocol = if random.chance(50) { 2 } else { 3 };
        let mut units: Vec<Unit> = PREAMBLE.iter().map(|line| vec![plain(line)]).collect();
        let mut commands = 0;
        while commands < EPISODE_COMMANDS {
            let unit = catalog.unit(&mut random, protocol);
            commands += unit.len();
            units.push(unit);
        }
        Episode { protocol, units }
    }
}

fn plain(line: &str) -> Step {
    let args = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    Step::Send(Command { args, compare: Compare::Exact })
}

/// What the commands came to, by Redis's replies.
#[derive(Default)]
pub(crate) struct Tally {
    effective: u64,
    /// Nil, zero, nothing, or queued.
    empty: u64,
    errors: u64,
}

impl Tally {
    pub(crate) fn commands(&self) -> u64 {
        self.effective + self.empty + self.errors
    }

    fn count(&mut self, reply: &[u8]) {
        match reply {
            [b'-', ..] => self.errors += 1,
            b":0\r\n" | b":-1\r\n" | b":-2\r\n" | b"$-1\r\n" | b"*-1\r\n" | b"*0\r\n" | b"_\r\n"
            | b"~0\r\n" | b"%0\r\n" | b"$0\r\n\r\n" | b"+QUEUED\r\n" => self.empty += 1,
            _ => self.effective += 1,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: u64| part * 100 / self.commands().max(1);
        let (effective, empty, errors) = (percent(self.effective), percent(self.empty), percent(self.errors));
        write!(f, "{effective} % effective, {empty} % empty, {errors} % errors")
    }
}

/// The first disagreement of an episode.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// Units played, the differing one included.
    pub(crate) units: usize,
    pub(crate) command: Command,
    pub(crate) redis: String,
    pub(crate) subject: String,
}

impl Difference {
    /// The command and what is wrong, without its arguments: what makes two differences the same.
    pub(crate) fn name(&self) -> String {
        self.command.name()
    }
}

/// A difference, found and shrunk.
pub(crate) struct Failure {
    pub(crate) test: String,
    pub(crate) seed: u64,
    pub(crate) difference: Difference,
    pub(crate) minimal: Minimal,
}

/// The shortest episode found that still differs.
pub(crate) struct Minimal {
    pub(crate) protocol: u8,
    pub(crate) units: Vec<Unit>,
    pub(crate) difference: Difference,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Minimal { protocol, units, difference } = &self.minimal;
        writeln!(
            f,
            "== {} differs: MELDIS_SEED={} cargo test --test differential {}",
            self.difference.name(),
            self.seed,
            self.test
        )?;
        writeln!(f, "   first as: {}", show_command(&self.difference.command))?;
        writeln!(f, "   smallest case, RESP{protocol} from an empty keyspace:")?;
        let steps: Vec<&Step> = units.iter().flatten().collect();
        let hidden = steps.len().saturating_sub(25);
        if hidden > 0 {
            writeln!(f, "     ... {hidden} commands before")?;
        }
        for step in &steps[hidden..] {
            let who = if matches!(step, Step::Other(_)) { "second client: " } else { "" };
            writeln!(f, "     {who}{}", show_command(step.command()))?;
        }
        writeln!(f, "   at:      {}", show_command(&difference.command))?;
        writeln!(f, "   redis:   {}", difference.redis)?;
        writeln!(f, "   subject: {}", difference.subject)
    }
}

fn show_command(command: &Command) -> String {
    let show = |arg: &Vec<u8>| {
        let text = show_bytes(&arg[..arg.len().min(80)]);
        let more = if arg.len() > 80 { format!("...({})", arg.len()) } else { String::new() };
        let is_bare = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if is_bare { format!("{text}{more}") } else { format!("\"{text}\"{more}") }
    };
    command.args.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// The real Redis and the subject.
pub(crate) struct Duo {
    redis: Server,
    subject: Server,
}

impl Duo {
    pub(crate) fn start() -> Duo {
        Duo::against(Server::start)
    }

    /// With a subject that is given the directives of both.
    pub(crate) fn against(subject: impl FnOnce(&[&str]) -> Server) -> Duo {
        Duo { redis: Server::redis(DIRECTIVES), subject: subject(DIRECTIVES) }
    }

    /// Plays an episode from an empty keyspace.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn play(&mut self, episode: &Episode, tally: &mut Tally) -> Result<(), Difference> {
        if !self.subject.is_alive() {
            self.subject.kill();
            self.subject.restart();
        }
        let open = |server: &Server| {
            let [mut main, mut other] = [server.client(), server.client()];
            main.set_timeout(REPLY_TIMEOUT);
            other.set_timeout(REPLY_TIMEOUT);
            Line { main, other }
        };
        let mut stage = Stage {
            redis: open(&self.redis),
            subject: open(&self.subject),
            batch: Vec::new(),
            queued: Vec::new(),
            unit: 0,
            tally,
        };
        stage.other(&plain("FLUSHALL").command().clone())?;
        let hello = format!("HELLO {}", episode.protocol);
        stage.step(&Step::Send(Command { compare: Compare::Hello, ..plain(&hello).command().clone() }))?;
        for (index, unit) in episode.units.iter().enumerate() {
            stage.unit = index;
            for step in unit {
                stage.step(step)?;
            }
            if stage.batch.len() >= BATCH_COMMANDS {
                stage.finish_batch()?;
            }
        }
        stage.finish_batch()
    }
}

/// The connections to one server.
struct Line {
    main: Client,
    other: Client,
}

struct Stage<'a> {
    redis: Line,
    subject: Line,
    batch: Vec<(usize, Command)>,
    /// What MULTI has queued, by Redis's replies.
    queued: Vec<Compare>,
    unit: usize,
    tally: &'a mut Tally,
}

type Outcome = Result<(), Difference>;

impl Stage<'_> {
    fn step(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Send(command) => {
                self.batch.push((self.unit, command.clone()));
                Ok(())
            }
            Step::Talk(command) => self.talk(command),
            Step::Other(command) => {
                self.finish_batch()?;
                self.other(command)
            }
            Step::Scan(command) => {
                self.finish_batch()?;
                self.scan(command)
            }
        }
    }

    fn differs(&self, unit: usize, command: &Command, redis: String, subject: String) -> Difference {
        Difference { units: unit + 1, command: command.clone(), redis, subject }
    }

    fn finish_batch(&mut self) -> Outcome {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let mut frames = Vec::new();
        for (_, command) in &batch {
            encode(&command.args, &mut frames);
        }
        let sent = [&mut self.redis, &mut self.subject].map(|line| line.main.send_raw(&frames));
        sent[0].as_ref().expect("redis-server takes commands");
        let redis: Vec<_> =
            batch.iter().map(|_| self.redis.main.read_raw().expect("redis-server answers")).collect();
        // After a silence the rest is not waited for.
        let mut silent = sent[1].is_err();
        let subject: Vec<io::Result<Vec<u8>>> = batch
            .iter()
            .map(|_| {
                let reply =
                    if silent { Err(io::ErrorKind::TimedOut.into()) } else { self.subject.main.read_raw() };
                silent = reply.is_err();
                reply
            })
            .collect();
        for (((unit, command), redis), subject) in batch.iter().zip(&redis).zip(&subject) {
            self.tally.count(redis);
            match subject {
                Ok(subject) if self.reply_agrees(command, redis, subject) => {}
                Ok(subject) => return Err(self.differs(*unit, command, show(redis), show(subject))),
                Err(error) => {
                    return Err(self.differs(*unit, command, show(redis), format!("no reply: {error}")));
                }
            }
        }
        let digest = plain("DEBUG DIGEST").command().clone();
        self.other(&digest)
    }

    /// Compares one reply, those of EXEC by the commands that were queued.
    fn reply_agrees(&mut self, command: &Command, redis: &[u8], subject: &[u8]) -> bool {
        if redis == b"+QUEUED\r\n" {
            self.queued.push(command.compare);
            return subject == redis;
        }
        match command.name().as_str() {
            "EXEC" if redis.starts_with(b"*") && redis != b"*-1\r\n" => {
                let queued = std::mem::take(&mut self.queued);
                let (one, other) = (elements(redis), elements(subject));
                one.0 == other.0
                    && queued
                        .iter()
                        .zip(one.1.iter().zip(&other.1))
                        .all(|(compare, (one, other))| compare.agrees(one, other))
            }
            "EXEC" | "DISCARD" | "RESET" => {
                self.queued.clear();
                redis == subject
            }
            _ => command.compare.agrees(redis, subject),
        }
    }

    fn other(&mut self, command: &Command) -> Outcome {
        let redis = call(&mut self.redis.other, command).expect("redis-server answers");
        match call(&mut self.subject.other, command) {
            Ok(subject) if command.compare.agrees(&redis, &subject) => Ok(()),
            Ok(subject) => Err(self.differs(self.unit, command, show(&redis), show(&subject))),
            Err(error) => Err(self.differs(self.unit, command, show(&redis), format!("no reply: {error}"))),
        }
    }

    /// All frames up to the PONG of a PING sent after the command.
    fn talk(&mut self, command: &Command) -> Outcome {
        self.finish_batch()?;
        let [redis, subject] = [&mut self.redis, &mut self.subject].map(|line| talk(&mut line.main, command));
        let redis = redis.expect("redis-server answers");
        self.tally.count(redis.first().map_or(b"", Vec::as_slice));
        let text = |frames: &[Vec<u8>]| show(&frames.concat());
        let subject = match subject {
            Ok(subject) => subject,
            Err(error) => {
                return Err(self.differs(self.unit, command, text(&redis), format!("no reply: {error}")));
            }
        };
        let agree = match command.compare {
            Compare::Scattered => scattered(&redis) == scattered(&subject),
            compare if redis.len() == 1 && subject.len() == 1 => compare.agrees(&redis[0], &subject[0]),
            // Which of several subscriptions of one client hears of a message first is not promised.
            _ => sorted(&redis) == sorted(&subject),
        };
        if agree { Ok(()) } else { Err(self.differs(self.unit, command, text(&redis), text(&subject))) }
    }

    fn scan(&mut self, command: &Command) -> Outcome {
        let redis = scan(&mut self.redis.main, command).expect("redis-server answers");
        self.tally.count(redis.first().map_or(b"*0\r\n", Vec::as_slice));
        let text = |found: &[Vec<u8>]| show(&found.concat());
        match scan(&mut self.subject.main, command) {
            Ok(subject) if subject == redis => Ok(()),
            Ok(subject) => Err(self.differs(self.unit, command, text(&redis), text(&subject))),
            Err(error) => Err(self.differs(self.unit, command, text(&redis), format!("no reply: {error}"))),
        }
    }
}

fn call(client: &mut Client, command: &Command) -> io::Result<Vec<u8>> {
    client.send(&command.args)?;
    client.read_raw()
}

fn talk(client: &mut Client, command: &Command) -> io::Result<Vec<Vec<u8>>> {
    const MARK: &str = "end-of-replies";
    let mut bytes = Vec::new();
    encode(&command.args, &mut bytes);
    encode(&["PING", MARK], &mut bytes);
    client.send_raw(&bytes)?;
    let mut frames = Vec::new();
    loop {
        let frame = client.read_raw()?;
        let is_mark = match Value::parse(&frame) {
            Value::Bulk(text) => text == MARK.as_bytes(),
            Value::Array(items) => items.len() == 2 && items[0] == "pong" && items[1] == MARK,
            _ => false,
        };
        if is_mark {
            return Ok(frames);
        }
        frames.push(frame);
    }
}

fn sorted(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut frames = frames.to_vec();
    frames.sort();
    frames
}

fn scattered(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    sorted(&frames.iter().flat_map(|frame| elements(frame).1).map(<[u8]>::to_vec).collect::<Vec<_>>())
}

/// A whole iteration: the elements found, sorted, each once; or the error reply.
fn scan(client: &mut Client, command: &Command) -> io::Result<Vec<Vec<u8>>> {
    const ROUNDS_MAX: usize = 10_000;
    let name = command.name();
    let cursor_at = if name == "SCAN" { 1 } else { 2 };
    // Elements that come in pairs.
    let width = if name == "HSCAN" || name == "ZSCAN" { 2 } else { 1 };
    let mut args = command.args.clone();
    let mut found: Vec<Vec<u8>> = Vec::new();
    for _ in 0..ROUNDS_MAX {
        client.send(&args)?;
        let reply = client.read_raw()?;
        let (_, parts) = elements(&reply);
        let [cursor, page] = parts.as_slice() else { return Ok(vec![reply]) };
        found.extend(elements(page).1.chunks(width).map(<[&[u8]]>::concat));
        let next = Value::parse(cursor).text();
        if next == "0" {
            break;
        }
        args[cursor_at] = next.into_bytes();
    }
    found.sort();
    found.dedup();
    Ok(found)
}
