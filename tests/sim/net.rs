//! The network: a connection is two byte streams, each in order, cut into pieces and delayed; a path between two nodes may
//! stall in one direction, break, and refuse to be dialed.

use std::collections::VecDeque;

use meldis::engine::replication::Received;
use meldis::engine::{Engine, Now};
use meldis::link::frame::{self, Frame};
use meldis::link::mesh::{Address, Fault, LinkId};

use crate::random::Random;
use crate::world::{BEGIN_MS, World, stream};

/// Bytes on their way in one direction before the sender's socket is full.
const SOCKET_BYTES: usize = 64 * 1024;
/// Where every node listens, on its own host.
pub const PORT: u16 = 7000;

const DIALS: u64 = 3;
const CONNECTIONS: u64 = 4;
const TURNS: u64 = 5;

/// The host of a node.
pub fn host(node: usize) -> String {
    format!("n{node}")
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
struct Flight {
    pieces: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// The sender has closed.
    closed_us: Option<u64>,
}

struct End {
    node: usize,
    link: LinkId,
    open: bool,
    input: Vec<u8>,
    /// How much of it has been looked at for heartbeats.
    seen: usize,
    held: bool,
    /// What leads away from it.
    flight: Flight,
    random: Random,
}

struct Connection {
    ends: [End; 2],
}

impl Connection {
    fn is_between(&self, a: usize, b: usize) -> bool {
        let nodes = [self.ends[0].node, self.ends[1].node];
        nodes == [a, b] || nodes == [b, a]
    }

    fn lose(&mut self, now_us: u64) {
        for end in &mut self.ends {
            end.flight.pieces.clear();
            end.flight.closed_us.get_or_insert(now_us);
        }
    }
}

struct Dialing {
    node: usize,
    address: Address,
    at_us: u64,
}

/// The next piece of a pull behind which a connection breaks, counted from one.
#[derive(Clone, Copy)]
struct Cut {
    seen: usize,
    after: usize,
}

/// See the module's head.
pub struct Network {
    paths: Vec<Vec<Path>>,
    connections: Vec<Connection>,
    dialing: Vec<Dialing>,
    /// Per node that pulls, if pulls are to be cut.
    cuts: Option<Vec<Cut>>,
    /// How many pulls were cut.
    pub cut: u64,
}

impl Network {
    pub fn new(nodes: usize, cuts: bool) -> Network {
        Network {
            paths: vec![vec![Path::default(); nodes]; nodes],
            connections: Vec::new(),
            dialing: Vec::new(),
            cuts: cuts.then(|| vec![Cut { seen: 0, after: 1 }; nodes]),
            cut: 0,
        }
    }

    pub fn path(&mut self, from: usize, to: usize) -> &mut Path {
        &mut self.paths[from][to]
    }

    /// Ends all faults of paths.
    pub fn heal(&mut self) {
        self.paths.iter_mut().flatten().for_each(|path| *path = Path::default());
    }

    /// Pulls are cut no more: each would put off the next comparison by ten seconds.
    pub fn end_cuts(&mut self) {
        self.cuts = None;
    }

    /// Breaks the connections between two nodes once.
    pub fn drop_connections(&mut self, a: usize, b: usize, now_us: u64) {
        let between = self.connections.iter_mut().filter(|connection| connection.is_between(a, b));
        between.for_each(|connection| connection.lose(now_us));
    }

    /// A node is gone. Nobody is told so if it went `silent`.
    pub fn vanish(&mut self, node: usize, now_us: u64, silent: bool) {
        for connection in &mut self.connections {
            for end in connection.ends.iter_mut().filter(|end| end.node == node) {
                end.open = false;
                end.flight.pieces.clear();
                end.flight.closed_us = (!silent).then_some(now_us);
            }
        }
        self.dialing.retain(|dialing| dialing.node != node);
    }

    /// Whether frames are held, because their author's clock is ahead.
    pub fn holds(&self) -> bool {
        self.connections.iter().flat_map(|connection| &connection.ends).any(|end| end.held)
    }

    fn is_blocked(&self, from: usize, to: usize, now_us: u64) -> bool {
        let path = &self.paths[from][to];
        path.cut_until_us > now_us || path.stalled_until_us > now_us
    }

    /// A node has taken a piece of a range. Whether its connection is to break now.
    fn breaks_behind_piece(&mut self, node: usize) -> bool {
        let Some(cut) = self.cuts.as_mut().map(|cuts| &mut cuts[node]) else { return false };
        cut.seen += 1;
        if cut.seen < cut.after {
            return false;
        }
        *cut = Cut { seen: 0, after: cut.after + 1 };
        self.cut += 1;
        true
    }
}

/// How long a piece of bytes takes at most, in microseconds.
fn delay(random: &mut Random, most_us: u64) -> u64 {
    50 + random.below(most_us.max(1) as usize) as u64
}

impl World {
    /// What has arrived by now.
    pub fn receive_bytes(&mut self) {
        self.break_cut_paths();
        let now_us = self.now_us;
        for connection in &mut self.net.connections {
            for from in 0..2 {
                let [a, b] = &mut connection.ends;
                let (sender, receiver) = if from == 0 { (a, b) } else { (b, a) };
                if self.net.paths[sender.node][receiver.node].stalled_until_us > now_us {
                    continue;
                }
                while sender.flight.pieces.front().is_some_and(|(at_us, _)| *at_us <= now_us) {
                    let (_, piece) = sender.flight.pieces.pop_front().expect("there is one");
                    sender.flight.bytes -= piece.len();
                    if !receiver.open {
                        continue;
                    }
                    receiver.input.extend_from_slice(&piece);
                    let node = &self.nodes[receiver.node];
                    if let Some(engine) = node.engine.as_ref().filter(|_| !receiver.held) {
                        let us = (BEGIN_MS * 1000 + now_us) as i64 + node.skew_us;
                        engine.link_heard(receiver.link, Now::from_unix_ns(us as u128 * 1000));
                    }
                }
            }
        }
    }

    fn break_cut_paths(&mut self) {
        let Network { connections, paths, .. } = &mut self.net;
        for connection in connections {
            let [a, b] = [connection.ends[0].node, connection.ends[1].node];
            if paths[a][b].cut_until_us > self.now_us || paths[b][a].cut_until_us > self.now_us {
                connection.lose(self.now_us);
            }
        }
    }

    pub fn dial(&mut self, node: usize, address: Address) {
        let mut random = stream(self.seed, &[DIALS, node as u64, self.now_us]);
        let at_us = self.now_us + 2 * delay(&mut random, self.plan.delay_us);
        self.net.dialing.push(Dialing { node, address, at_us });
    }

    pub fn finish_dialing(&mut self) {
        let now_us = self.now_us;
        let dialing = std::mem::take(&mut self.net.dialing);
        let (due, later) = dialing.into_iter().partition(|dialing| dialing.at_us <= now_us);
        self.net.dialing = later;
        let due: Vec<Dialing> = due;
        for Dialing { node, address, .. } in due {
            let Some(engine) = &self.nodes[node].engine else { continue };
            let other = (0..self.nodes.len()).find(|other| host(*other) == address.0 && address.1 == PORT);
            let reachable = other.filter(|other| {
                self.nodes[*other].engine.is_some()
                    && !self.net.is_blocked(node, *other, now_us)
                    && !self.net.is_blocked(*other, node, now_us)
            });
            match reachable {
                Some(other) => self.connect(node, address, other),
                None => engine.mesh.lock().dial_failed(&address, None, self.now(node).unix_ms),
            }
        }
    }

    fn connect(&mut self, node: usize, address: Address, other: usize) {
        let (here, there) = (self.engine(node), self.engine(other));
        let end = |node: usize, engine: &Engine| End {
            node,
            link: engine.next_id(),
            open: true,
            input: Vec::new(),
            seen: 0,
            held: false,
            flight: Flight::default(),
            random: stream(self.seed, &[CONNECTIONS, node as u64, self.now_us]),
        };
        let ends = [end(node, here), end(other, there)];
        there.link_open(ends[1].link, None, host(node), self.now(other));
        here.link_open(ends[0].link, Some(address), host(other), self.now(node));
        self.net.connections.push(Connection { ends });
    }

    /// A turn of every link's task, in any order.
    pub fn run_links(&mut self) {
        let connections = self.net.connections.len();
        let mut ends: Vec<(usize, usize)> = (0..connections).flat_map(|at| [(at, 0), (at, 1)]).collect();
        let mut random = stream(self.seed, &[TURNS, self.now_us]);
        for at in (1..ends.len()).rev() {
            ends.swap(at, random.below(at + 1));
        }
        for (connection, end) in ends {
            self.run(connection, end);
        }
        self.net.connections.retain(|connection| connection.ends.iter().any(|end| end.open));
    }

    /// One turn of a link's task: faults, input, output.
    fn run(&mut self, connection: usize, at: usize) {
        let end = &self.net.connections[connection].ends[at];
        if !end.open {
            return;
        }
        let (node, link) = (end.node, end.link);
        if let Err(fault) = self.move_frames(connection, at) {
            if self.trace {
                println!("{:>9} n{node} link {link} ends: {fault}", self.now_us);
            }
            self.engine(node).link_closed(link, fault, self.now(node));
            let end = &mut self.net.connections[connection].ends[at];
            end.open = false;
            end.flight.closed_us.get_or_insert(self.now_us);
        }
        self.capture(node);
    }

    fn move_frames(&mut self, connection: usize, at: usize) -> Result<(), Fault> {
        let end = &self.net.connections[connection].ends[at];
        let (node, link) = (end.node, end.link);
        let engine = self.engine(node);
        if let Some(fault) = engine.link_fault(link) {
            return Err(fault);
        }
        self.take_frames(connection, at)?;
        let other = &self.net.connections[connection].ends[1 - at];
        let stalled = self.net.paths[other.node][node].stalled_until_us > self.now_us;
        let is_closed = other.flight.closed_us.is_some_and(|at_us| at_us <= self.now_us);
        if is_closed && other.flight.pieces.is_empty() && !stalled {
            return Err(Fault::Closed);
        }
        while self.net.connections[connection].ends[at].flight.bytes < SOCKET_BYTES {
            let mut out = Vec::new();
            let more = self.engine(node).link_poll(link, self.now(node), &mut out);
            self.capture(node);
            self.send(connection, at, &out);
            if !more || out.is_empty() {
                assert!(!more || !out.is_empty(), "n{node} spins: it has more to send but sends nothing");
                break;
            }
        }
        Ok(())
    }

    fn take_frames(&mut self, connection: usize, at: usize) -> Result<(), Fault> {
        let end = &mut self.net.connections[connection].ends[at];
        let (node, link) = (end.node, end.link);
        let input = std::mem::take(&mut end.input);
        let mut seen = end.seen;
        let other = self.net.connections[connection].ends[1 - at].node;
        let now = self.now(node);
        let body_bytes_max = self.engine(node).link_body_bytes_max(link);
        while let Ok(Some(length)) = frame::length(&input[seen..], body_bytes_max)
            && let Some(frame) = input[seen..].get(..length)
        {
            self.engine(node).link_seen(link, frame, now);
            seen += length;
        }
        let (mut taken, mut held) = (0, false);
        while !held {
            let engine = self.engine(node);
            let rest = &input[taken..];
            let length = match frame::length(rest, engine.link_body_bytes_max(link))? {
                Some(length) if length <= rest.len() => length,
                _ => break,
            };
            let mut is_piece = false;
            if self.trace || self.net.cuts.is_some() {
                let (frame, tail) = frame::read(&rest[..length])?;
                is_piece = matches!(frame, Frame::Chunk { .. });
                if self.trace && !matches!(frame, Frame::Heartbeat(_)) {
                    println!("{:>9} n{node} <- n{other} {} +{}", self.now_us, brief(&frame), tail.len());
                }
            }
            // What a node writes is noted before the next of it pushes it out of the backlog: here what clients wrote,
            // then what the frame had it write.
            engine.link_sequence();
            self.capture(node);
            match self.engine(node).link_receive(link, &rest[..length], now, 0)? {
                Received::Taken => taken += length,
                Received::Held => held = true,
            }
            self.capture(node);
            self.write_behind_frame(node);
            self.watch_pull(node);
            if is_piece && !held && self.net.breaks_behind_piece(node) {
                self.net.connections[connection].lose(self.now_us);
                return Err(Fault::Closed);
            }
        }
        let end = &mut self.net.connections[connection].ends[at];
        (end.input, end.seen, end.held) = (input[taken..].to_vec(), seen.saturating_sub(taken), held);
        Ok(())
    }

    fn send(&mut self, connection: usize, at: usize, mut bytes: &[u8]) {
        let (now_us, plan) = (self.now_us, &self.plan);
        let End { flight, random, .. } = &mut self.net.connections[connection].ends[at];
        while !bytes.is_empty() {
            let length = (1 + random.below(plan.piece_bytes)).min(bytes.len());
            let at_us = now_us + delay(random, plan.delay_us);
            let at_us = flight.pieces.back().map_or(at_us, |(last_us, _)| at_us.max(*last_us));
            flight.pieces.push_back((at_us, bytes[..length].to_vec()));
            flight.bytes += length;
            bytes = &bytes[length..];
        }
    }
}

fn brief(frame: &Frame) -> String {
    let mut text = format!("{frame:?}");
    if text.len() > 300 {
        text.truncate(300);
    }
    text
}
