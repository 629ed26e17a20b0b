//! Virtual time, nodes and the network between them.
//!
//! A node is the real engine with the real link code; only sockets, clocks and the shell's tasks are played. A connection
//! is two byte streams, each in order, cut into pieces and delayed; a path between two nodes may stall in one direction,
//! break, and refuse to be dialed. What a node has put into sequence is captured at once, as the record of effects that
//! the model replays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meldis::clock::{NTP64, NodeId, Origin, unix_ms_from_ntp};
use meldis::command::TABLES;
use meldis::config::{Config, HostPort};
use meldis::engine::execution::Flow;
use meldis::engine::replication::Received;
use meldis::engine::session::Session;
use meldis::engine::{Engine, Now, Seeds};
use meldis::faults::Faults;
use meldis::link::batch::Batch;
use meldis::link::frame;
use meldis::link::mesh::{Address, Event, Fault, LinkId};
use meldis::resp::args::OwnedArgs;

use crate::effects::History;
use crate::random::Random;

/// The Unix time at which a world begins.
pub const BEGIN_MS: u64 = 1_700_000_000_000;
/// Between two calls of `link_tick`, as in the shell.
const TICK_US: u64 = 20_000;
/// Bytes on their way in one direction before the sender's socket is full.
const SOCKET_BYTES: usize = 64 * 1024;
/// Clients of each node.
pub const SESSIONS: usize = 3;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: usize,
    pub backlog_bytes: u64,
    pub absence_s: u64,
    /// Whether nodes are told of each other by their configuration, or only of the first one.
    pub full_mesh: bool,
    /// The longest a piece of bytes takes, in microseconds.
    pub delay_us: u64,
    /// The longest piece.
    pub piece_bytes: usize,
}

pub struct Node {
    pub engine: Option<Engine>,
    pub id: NodeId,
    incarnation: u32,
    /// Distance of its clock from true time, in microseconds.
    pub skew_us: i64,
    /// No stamp may fall to it: what a data directory keeps.
    floor: NTP64,
    pub sessions: Vec<Session>,
    captured: u64,
    clock: NTP64,
    ticked_us: u64,
    /// When it comes back, if it is down.
    pub back_at_us: Option<u64>,
}

/// The way from one node to another.
#[derive(Clone, Copy, Default)]
pub struct Path {
    /// Nothing arrives before this time.
    pub stalled_until_us: u64,
    /// Connections break, and none can be made, until this time.
    pub cut_until_us: u64,
}

#[derive(Default)]
struct Stream {
    pieces: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// The sender has closed.
    closed_us: Option<u64>,
}

struct End {
    node: usize,
    origin: Origin,
    link: LinkId,
    open: bool,
    input: Vec<u8>,
    held: bool,
    /// What leads away from it.
    stream: Stream,
}

struct Connection {
    ends: [End; 2],
}

struct Dialing {
    node: usize,
    origin: Origin,
    address: Address,
    at_us: u64,
}

pub struct World {
    pub random: Random,
    pub plan: Plan,
    pub now_us: u64,
    pub nodes: Vec<Node>,
    pub paths: Vec<Vec<Path>>,
    connections: Vec<Connection>,
    dialing: Vec<Dialing>,
    pub history: History,
    /// Kinds of faults links ended with, for curiosity.
    pub ends: BTreeMap<String, usize>,
    /// Frames received, by what they were.
    pub trace: bool,
    pub faults: Faults,
    /// What comparisons of ranges found to differ though nothing was under way.
    pub diverged: Vec<String>,
}

fn host(node: usize) -> String {
    format!("n{node}")
}

const PORT: u16 = 7000;

impl World {
    pub fn new(seed: u64, plan: Plan, faults: Faults) -> World {
        let mut random = Random::new(seed);
        let nodes = (0..plan.nodes)
            .map(|_| Node {
                engine: None,
                id: NodeId::new(random.next()),
                incarnation: 0,
                skew_us: 0,
                floor: NTP64(0),
                sessions: Vec::new(),
                captured: 0,
                clock: NTP64(0),
                ticked_us: 0,
                back_at_us: Some(0),
            })
            .collect();
        let paths = vec![vec![Path::default(); plan.nodes]; plan.nodes];
        let mut world = World {
            random,
            now_us: 0,
            nodes,
            paths,
            connections: Vec::new(),
            dialing: Vec::new(),
            history: History::default(),
            ends: BTreeMap::new(),
            trace: std::env::var("MELDIS_TRACE").is_ok(),
            faults,
            diverged: Vec::new(),
            plan,
        };
        for node in 0..world.nodes.len() {
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

    fn config(&self, node: usize) -> Config {
        let mut config = Config::default();
        config.port = PORT;
        config.repl_backlog_size = self.plan.backlog_bytes;
        config.peer_max_absence_s = self.plan.absence_s;
        config.repl_timeout_s = 2;
        let partners = (0..self.nodes.len()).filter(|other| *other != node);
        let known = partners.filter(|other| self.plan.full_mesh || node == 0 || *other == 0);
        config.peer = known.map(|other| HostPort { host: host(other), port: PORT }).collect();
        config
    }

    fn start(&mut self, node: usize) {
        let config = self.config(node);
        let seeds = Seeds(std::array::from_fn(|_| self.random.next()));
        let now = self.now(node);
        let at = &mut self.nodes[node];
        at.incarnation += 1;
        let origin = Origin::new(at.id, at.incarnation);
        let mut engine = Engine::new(origin, at.floor, 1, seeds, config, TABLES);
        engine.plant(self.faults);
        at.sessions =
            (0..SESSIONS).map(|n| engine.connect(format!("c{n}:1"), "s:1".into(), now, 0)).collect();
        at.engine = Some(engine);
        (at.captured, at.clock, at.ticked_us, at.back_at_us) = (0, NTP64(0), self.now_us, None);
        if self.trace {
            println!("{:>9} n{node} starts as {origin}", self.now_us);
        }
    }

    /// Loses everything but the identity and the floor; `wiped` loses those too.
    pub fn crash(&mut self, node: usize, down_us: u64, wiped: bool, silent: bool) {
        let fresh = NodeId::new(self.random.next());
        let at = &mut self.nodes[node];
        let Some(engine) = at.engine.take() else { return };
        if self.trace {
            println!("{:>9} n{node} crashes, wiped {wiped}, silent {silent}", self.now_us);
        }
        at.sessions.clear();
        at.floor = engine.clock.last();
        at.back_at_us = Some(self.now_us + down_us);
        if wiped {
            (at.id, at.floor, at.incarnation) = (fresh, NTP64(0), 0);
        }
        for connection in &mut self.connections {
            for end in connection.ends.iter_mut().filter(|end| end.node == node) {
                end.open = false;
                end.stream.pieces.clear();
                end.stream.closed_us = (!silent).then_some(self.now_us);
            }
        }
        self.dialing.retain(|dialing| dialing.node != node);
    }

    /// Runs a command of a node's client. The reply, as bytes.
    pub fn command(&mut self, node: usize, session: usize, words: &[Vec<u8>]) -> Vec<u8> {
        let args: OwnedArgs = words.iter().collect();
        let now = self.now(node);
        let at = &mut self.nodes[node];
        let engine = at.engine.as_ref().expect("the node is up");
        let mut out = Vec::new();
        let flow = engine.execute(&mut at.sessions[session], args.args(), &mut out, now, 0);
        assert!(matches!(flow, Flow::Continue), "{flow:?}");
        out
    }

    /// Lets time pass.
    pub fn step(&mut self, us: u64) {
        self.now_us += us;
        for node in 0..self.nodes.len() {
            if self.nodes[node].back_at_us.is_some_and(|at| at <= self.now_us) {
                self.start(node);
            }
        }
        self.break_cut_paths();
        self.deliver();
        for node in self.up() {
            if self.now_us - self.nodes[node].ticked_us >= TICK_US {
                self.nodes[node].ticked_us = self.now_us;
                self.tick(node);
            }
        }
        self.finish_dialing();
        let mut ends: Vec<(usize, usize)> =
            (0..self.connections.len()).flat_map(|at| [(at, 0), (at, 1)]).collect();
        for at in (1..ends.len()).rev() {
            ends.swap(at, self.random.below(at + 1));
        }
        for (connection, end) in ends {
            self.run(connection, end);
        }
        self.connections.retain(|connection| connection.ends.iter().any(|end| end.open));
    }

    fn break_cut_paths(&mut self) {
        let now_us = self.now_us;
        for connection in &mut self.connections {
            let [a, b] = [connection.ends[0].node, connection.ends[1].node];
            if self.paths[a][b].cut_until_us > now_us || self.paths[b][a].cut_until_us > now_us {
                for end in &mut connection.ends {
                    end.stream.pieces.clear();
                    end.stream.closed_us.get_or_insert(now_us);
                }
            }
        }
    }

    /// Breaks the connections between two nodes once.
    pub fn drop_connections(&mut self, a: usize, b: usize) {
        let now_us = self.now_us;
        for connection in &mut self.connections {
            let between = [connection.ends[0].node, connection.ends[1].node];
            if between == [a, b] || between == [b, a] {
                for end in &mut connection.ends {
                    end.stream.pieces.clear();
                    end.stream.closed_us.get_or_insert(now_us);
                }
            }
        }
    }

    fn deliver(&mut self) {
        let now_us = self.now_us;
        for connection in &mut self.connections {
            for from in 0..2 {
                let (a, b) = connection.ends.split_at_mut(1);
                let (sender, receiver) =
                    if from == 0 { (&mut a[0], &mut b[0]) } else { (&mut b[0], &mut a[0]) };
                if self.paths[sender.node][receiver.node].stalled_until_us > now_us {
                    continue;
                }
                while sender.stream.pieces.front().is_some_and(|(at_us, _)| *at_us <= now_us) {
                    let (_, piece) = sender.stream.pieces.pop_front().expect("there is one");
                    sender.stream.bytes -= piece.len();
                    if receiver.open {
                        receiver.input.extend_from_slice(&piece);
                        if let Some(engine) = &self.nodes[receiver.node].engine
                            && !receiver.held
                        {
                            let us = (BEGIN_MS * 1000 + now_us) as i64 + self.nodes[receiver.node].skew_us;
                            engine.link_heard(receiver.link, Now::from_unix_ns(us as u128 * 1000));
                        }
                    }
                }
            }
        }
    }

    fn tick(&mut self, node: usize) {
        let now = self.now(node);
        let engine = self.engine(node);
        engine.link_tick(now);
        let last = engine.clock.last();
        // A clock set right has other stamps written under what was captured.
        self.history.restated |= last < self.nodes[node].clock;
        self.nodes[node].clock = last;
        let engine = self.engine(node);
        engine.tick(now, 0);
        let diverged =
            engine.take_link_events().into_iter().find(|event| matches!(event, Event::Diverged(..)));
        let due = engine.mesh.lock().dials_due(now.unix_ms);
        let origin = engine.clock.origin();
        if let Some(event) = diverged {
            self.diverged.push(format!("at {} us n{node}: {event:?}", self.now_us));
        }
        self.capture(node);
        for address in due {
            let at_us = self.now_us + 2 * self.delay();
            self.dialing.push(Dialing { node, origin, address, at_us });
        }
    }

    fn delay(&mut self) -> u64 {
        50 + self.random.below(self.plan.delay_us.max(1) as usize) as u64
    }

    fn finish_dialing(&mut self) {
        let now_us = self.now_us;
        let due: Vec<Dialing> = {
            let (due, later) =
                std::mem::take(&mut self.dialing).into_iter().partition(|dialing| dialing.at_us <= now_us);
            self.dialing = later;
            due
        };
        for Dialing { node, origin, address, .. } in due {
            let Some(engine) = &self.nodes[node].engine else { continue };
            if engine.clock.origin() != origin {
                continue;
            }
            let now = self.now(node);
            let other = (0..self.nodes.len()).find(|other| host(*other) == address.0 && address.1 == PORT);
            let blocked = |from: usize, to: usize| {
                let path = &self.paths[from][to];
                path.cut_until_us > now_us || path.stalled_until_us > now_us
            };
            let reachable = other.filter(|other| {
                self.nodes[*other].engine.is_some() && !blocked(node, *other) && !blocked(*other, node)
            });
            let Some(other) = reachable else {
                engine.mesh.lock().dial_failed(&address, None, now.unix_ms);
                continue;
            };
            let there = self.engine(other);
            let end = |node: usize, engine: &Engine| End {
                node,
                origin: engine.clock.origin(),
                link: engine.next_id(),
                open: true,
                input: Vec::new(),
                held: false,
                stream: Stream::default(),
            };
            let ends = [end(node, engine), end(other, there)];
            there.link_open(ends[1].link, None, host(node), self.now(other));
            engine.link_open(ends[0].link, Some(address), host(other), now);
            self.connections.push(Connection { ends });
        }
    }

    /// One turn of a link's task: faults, input, output.
    fn run(&mut self, connection: usize, at: usize) {
        let end = &self.connections[connection].ends[at];
        if !end.open {
            return;
        }
        let (node, link) = (end.node, end.link);
        match self.move_frames(connection, at) {
            Ok(()) => {}
            Err(fault) => {
                if self.trace {
                    println!("{:>9} n{node} link {link} ends: {fault}", self.now_us);
                }
                let kind = format!("{fault:?}").split(['(', ' ']).next().unwrap_or("").to_owned();
                *self.ends.entry(kind).or_default() += 1;
                let now = self.now(node);
                self.engine(node).link_closed(link, fault, now);
                let now_us = self.now_us;
                let end = &mut self.connections[connection].ends[at];
                end.open = false;
                end.stream.closed_us.get_or_insert(now_us);
            }
        }
        self.capture(node);
    }

    fn move_frames(&mut self, connection: usize, at: usize) -> Result<(), Fault> {
        let now_us = self.now_us;
        let node = self.connections[connection].ends[at].node;
        let now = self.now(node);
        let other = self.connections[connection].ends[1 - at].node;
        let engine = self.nodes[node].engine.as_ref().expect("an open end has a node");
        let (link, mut taken) = (self.connections[connection].ends[at].link, 0);
        debug_assert_eq!(self.connections[connection].ends[at].origin, engine.clock.origin());
        if let Some(fault) = engine.link_fault(link) {
            return Err(fault);
        }
        let mut input = std::mem::take(&mut self.connections[connection].ends[at].input);
        let mut held = false;
        loop {
            let engine = self.nodes[node].engine.as_ref().expect("an open end has a node");
            let rest = &input[taken..];
            let length = match frame::length(rest, engine.link_body_bytes_max(link))? {
                Some(length) if length <= rest.len() => length,
                _ => break,
            };
            if self.trace {
                let (frame, tail) = frame::read(&rest[..length])?;
                if !matches!(frame, frame::Frame::Heartbeat(_)) {
                    println!("{now_us:>9} n{node} <- n{other} {} +{}", brief(&frame), tail.len());
                }
            }
            match engine.link_receive(link, &rest[..length], now, 0)? {
                Received::Taken => taken += length,
                Received::Held => held = true,
            }
            // Before another frame pushes it out of the backlog.
            self.capture(node);
            if held {
                break;
            }
        }
        input.drain(..taken);
        let end = &mut self.connections[connection].ends[at];
        (end.input, end.held) = (input, held);
        let other_end = &self.connections[connection].ends[1 - at];
        let stalled = self.paths[other][node].stalled_until_us > now_us;
        if other_end.stream.closed_us.is_some_and(|at_us| at_us <= now_us)
            && other_end.stream.pieces.is_empty()
            && !stalled
        {
            return Err(Fault::Closed);
        }
        while self.connections[connection].ends[at].stream.bytes < SOCKET_BYTES {
            let mut out = Vec::new();
            let engine = self.nodes[node].engine.as_ref().expect("an open end has a node");
            let more = engine.link_poll(link, now, &mut out);
            self.capture(node);
            self.send(connection, at, &out);
            if !more || out.is_empty() {
                assert!(!more || !out.is_empty(), "n{node} spins: it has more to send but sends nothing");
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, connection: usize, at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let length = (1 + self.random.below(self.plan.piece_bytes)).min(bytes.len());
            let at_us = self.now_us + self.delay();
            let stream = &mut self.connections[connection].ends[at].stream;
            let at_us = stream.pieces.back().map_or(at_us, |(last_us, _)| at_us.max(*last_us));
            stream.pieces.push_back((at_us, bytes[..length].to_vec()));
            stream.bytes += length;
            bytes = &bytes[length..];
        }
    }

    /// Notes what a node has put into sequence since it was last asked.
    pub fn capture(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        let Some(engine) = &at.engine else { return };
        let origin = engine.clock.origin();
        let mesh = engine.mesh.lock();
        let sequence = mesh.vector().of(origin).sequence;
        if sequence == at.captured {
            return;
        }
        for segment in mesh.backlog().after(origin, at.captured) {
            let mut number = segment.first;
            let mut rest: &[u8] = &segment.batches;
            while let Some((batch, behind)) = Batch::split(rest).expect("own batches are well-formed") {
                if number > at.captured {
                    self.history.add(origin, number, &rest[..rest.len() - behind.len()]);
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
        at.captured = sequence;
    }

    /// Whether every node has the same of every origin, says so, and nothing is under way.
    pub fn is_quiet(&self) -> bool {
        let up = self.up();
        if up.len() < self.nodes.len() {
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
        let first = sequences(up[0]);
        up.iter().all(|node| {
            let engine = self.engine(*node);
            sequences(*node) == first
                && !engine.outbox.is_filled()
                && engine.mesh.lock().pull().is_none()
                && engine.mesh.lock().linked().collect::<BTreeSet<_>>().len() == up.len() - 1
        }) && self.connections.iter().flat_map(|connection| &connection.ends).all(|end| !end.held)
    }

    /// What keeps [`Self::is_quiet`] from being true.
    pub fn unrest(&self) -> String {
        let mut text = String::new();
        for node in self.up() {
            let engine = self.engine(node);
            let mesh = engine.mesh.lock();
            text += &format!(
                "n{node} {} vector {:?} linked {:?} pull {:?} skewed {:?} now {} clock {}\n",
                engine.clock.origin(),
                mesh.vector()
                    .iter()
                    .map(|(origin, progress)| (origin, progress.sequence))
                    .collect::<Vec<_>>(),
                mesh.linked().collect::<Vec<_>>(),
                mesh.pull().map(|pull| (pull.link, pull.done, pull.total)),
                mesh.links().filter(|(_, link)| link.skewed).count(),
                self.now(node).unix_ms,
                unix_ms_from_ntp(engine.clock.last()),
            );
        }
        text
    }
}

fn brief(frame: &frame::Frame) -> String {
    let mut text = format!("{frame:?}");
    if text.len() > 300 {
        text.truncate(300);
    }
    text
}
