//! Virtual time and nodes. The network between them is in `net`.
//!
//! A node is the real engine with the real link code; only sockets, clocks and the shell's tasks are played. What a node
//! has put into sequence is captured at once, as the record of effects that the model replays.
//!
//! Whatever is random has a stream of its own, named by the seed and by what it is about: so one action left out of a
//! schedule changes only what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meldis::clock::{NTP64, NodeId, Origin, unix_ms_from_ntp};
use meldis::command::TABLES;
use meldis::engine::blocking::Waiter;
use meldis::engine::execution::Flow;
use meldis::engine::session::Session;
use meldis::engine::{Engine, Now, Seeds};
use meldis::faults::Faults;
use meldis::link::batch::Batch;
use meldis::link::mesh::{Event, Roster};
use meldis::resp::args::OwnedArgs;

use crate::check;
use crate::disk::Disk;
use crate::effects::{Dropped, History};
use crate::net::Network;
use crate::random::Random;
use crate::schedule::Plan;
use crate::watch::{Life, Watch};

/// The Unix time at which a world begins.
pub const BEGIN_MS: u64 = 1_700_000_000_000;
/// Between two calls of `link_tick`, as in the shell.
const TICK_US: u64 = 20_000;
/// Clients of each node; one more has subscribed to a channel.
pub const SESSIONS: usize = 3;

/// A client's wait: until when, in Unix milliseconds of its node's clock.
type Wait = (Arc<Waiter>, Option<u64>);

pub struct Node {
    pub engine: Option<Engine>,
    pub id: NodeId,
    incarnation: u32,
    /// How often its disk was wiped.
    lives: u64,
    /// It takes part: it is up, or will be again.
    pub is_member: bool,
    /// It came later: no configuration named it then.
    pub joined: bool,
    /// It came as a replica, and so is not configured to be active.
    pub is_plain: bool,
    /// Whom its configuration names, if it is active.
    pub partners: BTreeSet<usize>,
    /// Whom it follows, if it is a replica.
    pub follows: Option<usize>,
    /// Since this time it was a master alone: nobody has what it wrote later.
    pub apart_since: Option<NTP64>,
    /// Lives before this one that wrote so.
    pub apart_lives: Vec<Origin>,
    /// Distance of its clock from true time, in microseconds.
    pub skew_us: i64,
    /// No stamp may fall to it: what a data directory keeps.
    floor: NTP64,
    /// The others, as a data directory keeps them.
    pub roster: Roster,
    /// Its data, if it keeps any.
    pub disk: Option<Disk>,
    sessions: Vec<Session>,
    pub blocked: Vec<Option<Wait>>,
    /// The life whose batches were captured, up to which number.
    life: Origin,
    captured: u64,
    ticked_us: u64,
    /// When it comes back, if it is down.
    pub back_at_us: Option<u64>,
}

pub struct World {
    pub seed: u64,
    pub plan: Plan,
    pub now_us: u64,
    pub nodes: Vec<Node>,
    pub net: Network,
    pub history: History,
    pub watch: Watch,
    pub trace: bool,
    pub faults: Faults,
    /// What comparisons of ranges found to differ though nothing was under way.
    pub diverged: Vec<String>,
    /// The newest time any node ever had.
    pub newest: NTP64,
    /// Active nodes one of which was told to do without the other.
    pub parted: BTreeSet<(usize, usize)>,
    /// A replica was promoted, or told to follow another; or a partner was named, which may be a replica.
    pub has_turned: bool,
}

/// What a node has written as a master alone is nowhere any more.
fn drop_apart(at: &mut Node, history: &mut History) {
    let lives = std::mem::take(&mut at.apart_lives).into_iter().chain([at.life]);
    if let Some(since) = at.apart_since.take() {
        let dropped = Dropped { since, last: at.life };
        history.dropped.extend(lives.map(|life| (life, dropped)));
    }
}

/// A stream of choices for what `words` name.
pub fn stream(seed: u64, words: &[u64]) -> Random {
    let mixed = words.iter().fold(seed, |mixed, word| Random::new(mixed ^ word.rotate_left(32)).next());
    Random::new(mixed)
}

const IDS: u64 = 1;
const SEEDS: u64 = 2;

impl World {
    pub fn new(seed: u64, plan: Plan, faults: Faults) -> World {
        let slots = plan.nodes + plan.spare;
        let node = |index: usize| Node {
            engine: None,
            id: NodeId::new(stream(seed, &[IDS, index as u64, 0]).next()),
            incarnation: 0,
            lives: 0,
            is_member: index < plan.nodes,
            joined: false,
            is_plain: false,
            partners: BTreeSet::new(),
            follows: None,
            apart_since: None,
            apart_lives: Vec::new(),
            skew_us: 0,
            floor: NTP64(0),
            roster: Roster::default(),
            disk: Disk::draw(seed, index, plan.disk),
            sessions: Vec::new(),
            blocked: Vec::new(),
            life: Origin::NONE,
            captured: 0,
            ticked_us: 0,
            back_at_us: None,
        };
        let mut world = World {
            seed,
            now_us: 0,
            nodes: (0..slots).map(node).collect(),
            net: Network::new(slots, plan.cuts),
            history: History::default(),
            watch: Watch::new(slots),
            trace: std::env::var("MELDIS_TRACE").is_ok(),
            faults,
            diverged: Vec::new(),
            newest: NTP64(0),
            parted: BTreeSet::new(),
            has_turned: false,
            plan,
        };
        for node in 0..world.plan.nodes {
            world.name_partners(node);
            world.start(node);
        }
        world
    }

    /// The time a node's clock shows.
    pub fn now(&self, node: usize) -> Now {
        let us = (BEGIN_MS * 1000 + self.now_us) as i64 + self.nodes[node].skew_us;
        Now::from_unix_ns(us as u128 * 1000)
    }

    pub fn engine(&self, node: usize) -> &Engine {
        self.nodes[node].engine.as_ref().expect("the node is up")
    }

    pub fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].engine.is_some()).collect()
    }

    pub fn start(&mut self, node: usize) {
        let config = self.config(node);
        let now = self.now(node);
        let at = &mut self.nodes[node];
        let goes_on = self.faults.contains(Faults::REUSED_LIFE) && at.disk.is_some() && at.incarnation > 0;
        at.incarnation += u32::from(!goes_on);
        let origin = Origin::new(at.id, at.incarnation);
        let mut random = stream(self.seed, &[SEEDS, node as u64, at.lives, at.incarnation.into()]);
        let seeds = Seeds(std::array::from_fn(|_| random.next()));
        let mut engine = Engine::new(origin, at.floor, 1, seeds, config, TABLES);
        engine.plant(self.faults);
        at.engine = Some(engine);
        (at.life, at.captured, at.ticked_us, at.back_at_us) = (origin, 0, self.now_us, None);
        if let Err(text) = self.read_back(node) {
            self.watch.breach(text);
        }
        let at = &mut self.nodes[node];
        let Some(engine) = &at.engine else { return };
        engine.restore(at.roster.clone(), now);
        at.sessions =
            (0..=SESSIONS).map(|n| engine.connect(format!("c{n}:1"), "s:1".into(), now, 0)).collect();
        at.blocked = (0..=SESSIONS).map(|_| None).collect();
        self.command(node, SESSIONS, &[b"SUBSCRIBE".to_vec(), b"ch".to_vec()]);
        let life = match self.nodes[node].incarnation {
            1 if self.now_us == 0 && !self.nodes[node].joined => Life::First,
            1 => Life::New { is_configured: !self.nodes[node].joined },
            _ if self.nodes[node].disk.is_some() => Life::Kept,
            _ => Life::Next,
        };
        self.watch.began(node, origin, life);
        if self.is_anyone_lost(Some(node)) || self.awaits_nobody(node) {
            self.watch.has_lost_someone();
        }
        if self.trace {
            println!("{:>9} n{node} starts as {origin}", self.now_us);
        }
    }

    /// Loses everything but the identity, the floor, the roster, and what its disk keeps, if it has one; `wiped` loses those too.
    pub fn crash(&mut self, node: usize, down_us: u64, wiped: bool, silent: bool) {
        if self.nodes[node].engine.is_some() {
            self.lose_files(node);
        }
        let at = &mut self.nodes[node];
        let Some(engine) = at.engine.take() else { return };
        if self.trace {
            println!("{:>9} n{node} crashes, wiped {wiped}, silent {silent}", self.now_us);
        }
        at.sessions.clear();
        at.blocked.clear();
        at.floor = engine.clock.last();
        self.newest = self.newest.max(at.floor);
        at.back_at_us = Some(self.now_us + down_us);
        let keeps = at.disk.is_some() && !wiped;
        if keeps {
            at.apart_lives.extend(at.apart_since.map(|_| at.life));
        } else {
            drop_apart(at, &mut self.history);
        }
        if wiped {
            at.disk.iter_mut().for_each(Disk::wipe);
            at.lives += 1;
            at.id = NodeId::new(stream(self.seed, &[IDS, node as u64, at.lives]).next());
            (at.floor, at.incarnation, at.roster) = (NTP64(0), 0, Roster::default());
        }
        self.net.vanish(node, self.now_us, silent);
    }

    /// A node goes for good.
    pub fn leave(&mut self, node: usize) {
        self.crash(node, 0, true, false);
        (self.nodes[node].is_member, self.nodes[node].back_at_us) = (false, None);
    }

    /// Runs a command of a node's client. The reply, as bytes.
    pub fn command(&mut self, node: usize, session: usize, words: &[Vec<u8>]) -> Vec<u8> {
        let args: OwnedArgs = words.iter().collect();
        let now = self.now(node);
        let at = &mut self.nodes[node];
        let engine = at.engine.as_ref().expect("the node is up");
        let mut out = Vec::new();
        match engine.execute(&mut at.sessions[session], args.args(), &mut out, now, 0) {
            Flow::Continue => {}
            Flow::Blocked(waiter, deadline_ms) => at.blocked[session] = Some((waiter, deadline_ms)),
            flow => panic!("{flow:?}"),
        }
        self.write_before_reply(node);
        out
    }

    /// Ends the waits that were served or have lasted long enough.
    fn end_waits(&mut self) {
        for node in self.up() {
            let now_ms = self.now(node).unix_ms;
            let Node { engine: Some(engine), blocked, .. } = &mut self.nodes[node] else { continue };
            for wait in blocked {
                let is_over = |(waiter, deadline_ms): &mut Wait| {
                    !waiter.is_waiting() || deadline_ms.is_some_and(|at_ms| at_ms <= now_ms)
                };
                if let Some((waiter, _)) = wait.take_if(is_over) {
                    engine.end_wait(&waiter, &mut Vec::new(), 0, |reply| reply.null());
                }
            }
        }
    }

    /// Lets time pass.
    pub fn step(&mut self, us: u64) {
        self.now_us += us;
        for node in 0..self.nodes.len() {
            if self.nodes[node].back_at_us.is_some_and(|at| at <= self.now_us) {
                self.start(node);
            }
        }
        self.end_waits();
        self.receive_bytes();
        for node in self.up() {
            if self.now_us - self.nodes[node].ticked_us >= TICK_US {
                self.nodes[node].ticked_us = self.now_us;
                self.tick(node);
            }
        }
        self.finish_dialing();
        self.run_links();
        self.run_disks();
        self.hear_messages();
    }

    fn tick(&mut self, node: usize) {
        let now = self.now(node);
        let engine = self.engine(node);
        let before = engine.clock.last();
        engine.link_tick(now);
        if engine.clock.last() < before {
            // A clock set right has other stamps written under what was captured.
            let origin = engine.clock.origin();
            self.history.restated = true;
            self.watch.restated(origin);
        }
        let engine = self.engine(node);
        engine.tick(now, 0);
        let roster = engine.roster(now);
        let newest = self.newest.max(engine.clock.last());
        let diverged =
            engine.take_link_events().into_iter().find(|event| matches!(event, Event::Diverged(..)));
        let due = engine.mesh.lock().dials_due(now.unix_ms);
        self.newest = newest;
        self.nodes[node].roster = roster;
        if let Some(Event::Diverged(from, ranges)) = diverged {
            // Gone by the time of the report: it is repaired.
            let held = if self.trace { check::ranges(self, &ranges) } else { String::new() };
            self.diverged.push(format!("at {} us n{node} from {from} in {ranges:?}\n{held}", self.now_us));
        }
        self.capture(node);
        self.write_in_time(node);
        due.into_iter().for_each(|address| self.dial(node, address));
    }

    /// Takes what subscribers got.
    fn hear_messages(&mut self) {
        for node in self.up() {
            let mut bytes = Vec::new();
            self.nodes[node].sessions[SESSIONS].client.take_mailbox(&mut bytes);
            if !bytes.is_empty() {
                self.watch.heard(node, &bytes);
            }
        }
    }

    /// Notes what a node has put into sequence since it was last asked.
    pub fn capture(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        let Some(origin) = at.engine.as_ref().map(|engine| engine.clock.origin()) else { return };
        if origin != at.life {
            // Its primary has accepted it: what it held is gone.
            drop_apart(at, &mut self.history);
            (at.life, at.incarnation, at.captured) = (origin, origin.incarnation(), 0);
            let life = if at.disk.is_some() { Life::Kept } else { Life::Next };
            self.watch.began(node, origin, life);
            if self.trace {
                println!("{:>9} n{node} begins anew as {origin}", self.now_us);
            }
        }
        let Some(engine) = &at.engine else { return };
        let mesh = engine.mesh.lock();
        let progress = mesh.vector().of(origin);
        if progress.sequence > at.captured {
            for segment in mesh.backlog().after(origin, at.captured) {
                let mut number = segment.first;
                let mut rest: &[u8] = &segment.batches;
                while let Some((batch, behind)) = Batch::split(rest).expect("own batches are well-formed") {
                    if number > at.captured {
                        self.history.add(origin, number, &rest[..rest.len() - behind.len()]);
                        self.watch.wrote(origin, number, batch, segment.batches.len());
                        if self.trace {
                            print!("{:>9} n{node} writes {number}:", self.now_us);
                            batch.each(|record| print!(" {record:?}")).expect("own batches are well-formed");
                            println!();
                        }
                    }
                    rest = behind;
                    number += 1;
                }
            }
            at.captured = progress.sequence;
        }
        self.watch.promised(origin, progress);
        self.watch.insight.note(origin, engine.clock.last(), mesh.vector());
    }

    /// Whether every node has the same of every origin, says so, and nothing is under way.
    pub fn is_quiet(&self) -> bool {
        if self.nodes.iter().any(|node| node.is_member && node.engine.is_none()) {
            return false;
        }
        let sequences = |node: usize| -> BTreeMap<Origin, u64> {
            let mesh = self.engine(node).mesh.lock();
            mesh.vector()
                .iter()
                .map(|(origin, progress)| (origin, progress.sequence))
                .filter(|(_, n)| *n > 0)
                .collect()
        };
        self.clusters().iter().all(|cluster| {
            let first = sequences(cluster[0]);
            cluster.iter().all(|node| {
                let engine = self.engine(*node);
                sequences(*node) == first
                    && !engine.outbox.is_filled()
                    && engine.mesh.lock().pull().is_none()
                    && self.has_its_links(*node, cluster)
                    && self.nodes[*node].blocked.iter().all(Option::is_none)
            })
        }) && !self.net.holds()
    }

    /// What keeps [`Self::is_quiet`] from being true.
    pub fn unrest(&self) -> String {
        let mut text = String::new();
        for node in self.up() {
            let engine = self.engine(node);
            let mesh = engine.mesh.lock();
            text += &format!(
                "n{node} {} vector {:?} linked {:?} pull {:?} held {:?} now {} clock {} graves {}\n",
                engine.clock.origin(),
                mesh.vector()
                    .iter()
                    .map(|(origin, progress)| (origin, progress.sequence))
                    .collect::<Vec<_>>(),
                mesh.linked().collect::<Vec<_>>(),
                mesh.pull().map(|pull| (pull.link, pull.done, pull.total)),
                mesh.links().filter(|(_, link)| link.held).count(),
                self.now(node).unix_ms,
                unix_ms_from_ntp(engine.clock.last()),
                self.graves(node),
            );
        }
        text
    }

    /// Keys of a node with something to be collected.
    pub fn graves(&self, node: usize) -> usize {
        let engine = self.engine(node);
        (0..meldis::store::shard::RANGES).map(|range| engine.cell(range).lock().shard.graves()).sum()
    }
}
