//! A TCP proxy that can hurt what passes: the wire of the fault scenarios.
//!
//! One thread accepts; each connection has one thread per direction. A pump reads into a queue of chunks
//! that are due after the delay, and writes what is due, cut into pieces, throttled and with a bit flipped as the
//! settings of its direction say. Reads and writes time out every [`TICK`], so a change of settings or a cut is
//! seen within that time and no thread outlives the proxy. At most [`QUEUE_BYTES_MAX`] wait in a queue; then
//! the pump stops reading, and TCP pushes back on the sender.
//!
//! A process that is killed has sent what it has written: its bytes are delivered before the other end hears of it.
//! Only a cut loses what is under way.
//!
//! Stalled means: nothing is read and nothing forwarded, and no socket is closed (half-open).

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::place::Port;
use super::until;

const TICK: Duration = Duration::from_millis(10);
const QUEUE_BYTES_MAX: usize = 8 << 20;
const CHUNK_BYTES: usize = 64 << 10;

/// Which way the bytes go, seen from who dialled the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the dialler to the target.
    ToTarget,
    /// From the target back to the dialler.
    ToDialler,
}

pub const BOTH: [Direction; 2] = [Direction::ToTarget, Direction::ToDialler];

#[derive(Clone, Debug, Default)]
struct Faults {
    stalled: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
    piece_bytes: Option<usize>,
    flip_after: Option<u64>,
}

#[derive(Default)]
struct Lane {
    faults: Faults,
    bytes: u64,
    flips: u64,
}

/// A live connection through the proxy.
#[derive(Clone, Debug)]
pub struct Connection {
    pub number: u64,
    pub dialler: SocketAddr,
    /// The index, in [`Proxy::name_diallers`], of the process that dialled.
    pub source: Option<usize>,
    pub opened: Instant,
}

#[derive(Default)]
struct State {
    lanes: [Lane; 2],
    cut: bool,
    /// Listening, as the accept thread last reported.
    listening: bool,
    barred: HashSet<usize>,
    /// Process ids of those who may dial, by index.
    diallers: Vec<Option<u32>>,
    connections: Vec<(Connection, Arc<AtomicBool>)>,
    opened: u64,
}

impl State {
    fn lane(&mut self, direction: Direction) -> &mut Lane {
        &mut self.lanes[direction as usize]
    }
}

/// Listens on a free port and forwards to `target` on the loopback interface.
pub struct Proxy {
    port: Arc<Port>,
    target: u16,
    state: Arc<Mutex<State>>,
    end: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn to(target: u16) -> Proxy {
        let port = Arc::new(Port::free());
        let state = Arc::new(Mutex::new(State::default()));
        let end = Arc::new(AtomicBool::new(false));
        let accept = Acceptor { port: port.clone(), target, state: state.clone(), end: end.clone() };
        let accepting = Some(std::thread::spawn(move || accept.run()));
        let proxy = Proxy { port, target, state, end, accepting };
        until("the proxy listens", || proxy.lock().listening);
        proxy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the proxy panicked")
    }

    /// Where to dial.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    pub fn target(&self) -> u16 {
        self.target
    }

    /// Resets every connection (RST) and refuses new ones. Returns when all are gone.
    pub fn cut(&self) {
        self.lock().cut = true;
        until("the proxy is cut", || {
            let state = self.lock();
            !state.listening && state.connections.is_empty()
        });
    }

    /// Takes back every fault, [`Proxy::bar`] included. Returns when the proxy listens.
    pub fn heal(&self) {
        {
            let mut state = self.lock();
            state.cut = false;
            state.barred.clear();
            for lane in &mut state.lanes {
                lane.faults = Faults::default();
            }
        }
        until("the proxy listens again", || self.lock().listening);
    }

    /// Resets every connection once; new ones are welcome.
    pub fn reset_connections(&self) {
        let doomed: Vec<u64> = self.connections().iter().map(|connection| connection.number).collect();
        for (_, dead) in &self.lock().connections {
            dead.store(true, Ordering::Relaxed);
        }
        until("the connections are reset", || {
            self.lock().connections.iter().all(|(connection, _)| !doomed.contains(&connection.number))
        });
    }

    /// Nothing is read or forwarded in this direction; nothing is closed. Until [`Proxy::unstall`] or heal.
    pub fn stall(&self, direction: Direction) {
        self.lock().lane(direction).faults.stalled = true;
    }

    pub fn unstall(&self, direction: Direction) {
        self.lock().lane(direction).faults.stalled = false;
    }

    /// Every byte arrives this much later: latency, not a rate.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.lock().lane(direction).faults.delay = delay;
    }

    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        assert!(bytes_per_second > 0, "stall() stops a direction");
        self.lock().lane(direction).faults.bytes_per_second = Some(bytes_per_second);
    }

    /// Each write carries at most this many bytes, without Nagle.
    pub fn pieces(&self, direction: Direction, bytes: usize) {
        assert!(bytes > 0, "a piece has a byte");
        self.lock().lane(direction).faults.piece_bytes = Some(bytes);
    }

    /// Flips the lowest bit of one byte: the one that comes after `after` more bytes in this direction.
    pub fn flip_bit(&self, direction: Direction, after: u64) {
        self.lock().lane(direction).faults.flip_after = Some(after);
    }

    /// How many bits were flipped so far.
    pub fn flips(&self, direction: Direction) -> u64 {
        self.lock().lane(direction).flips
    }

    /// Bytes forwarded so far, over all connections.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.lock().lane(direction).bytes
    }

    pub fn connections(&self) -> Vec<Connection> {
        self.lock().connections.iter().map(|(connection, _)| connection.clone()).collect()
    }

    /// How many connections were ever accepted and forwarded.
    pub fn opened(&self) -> u64 {
        self.lock().opened
    }

    /// Says which processes may dial, so that connections know their source. Their own, later connections only.
    pub fn name_diallers(&self, pids: &[Option<u32>]) {
        self.lock().diallers = pids.to_vec();
    }

    /// Cuts one dialler off, by its index: its connections are reset, new ones too.
    pub fn bar(&self, source: usize) {
        {
            let mut state = self.lock();
            state.barred.insert(source);
            for (connection, dead) in &state.connections {
                if connection.source == Some(source) {
                    dead.store(true, Ordering::Relaxed);
                }
            }
        }
        until("the barred connections are gone", || {
            self.lock().connections.iter().all(|(connection, _)| connection.source != Some(source))
        });
    }

    pub fn unbar(&self, source: usize) {
        self.lock().barred.remove(&source);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

struct Acceptor {
    port: Arc<Port>,
    target: u16,
    state: Arc<Mutex<State>>,
    end: Arc<AtomicBool>,
}

impl Acceptor {
    fn run(&self) {
        let mut listener = None;
        let mut pumps = Vec::new();
        while !self.end.load(Ordering::Relaxed) {
            let cut = self.state.lock().expect("state").cut;
            if cut {
                listener = None;
            } else if listener.is_none() {
                listener = self.listen();
            }
            self.report(listener.is_some(), cut);
            match listener.as_ref().map(TcpListener::accept) {
                Some(Ok((stream, dialler))) => pumps.extend(self.open(stream, dialler)),
                Some(Err(_)) => {}
                None => std::thread::sleep(TICK),
            }
            pumps.retain(|pump: &JoinHandle<()>| !pump.is_finished());
        }
        drop(listener);
        self.report(false, true);
        for pump in pumps {
            let _ = pump.join();
        }
    }

    fn listen(&self) -> Option<TcpListener> {
        let listener = TcpListener::bind(("127.0.0.1", self.port.number)).ok()?;
        // On Linux this bounds accept().
        SockRef::from(&listener).set_read_timeout(Some(TICK)).expect("a timeout on accept");
        Some(listener)
    }

    fn report(&self, listening: bool, cut: bool) {
        let mut state = self.state.lock().expect("state");
        state.listening = listening;
        if cut {
            for (_, dead) in &state.connections {
                dead.store(true, Ordering::Relaxed);
            }
        }
    }

    fn open(&self, stream: TcpStream, dialler: SocketAddr) -> Vec<JoinHandle<()>> {
        let diallers = self.state.lock().expect("state").diallers.clone();
        let source = source_of(dialler.port(), self.port.number, &diallers);
        let onward = TcpStream::connect(("127.0.0.1", self.target));
        let (Ok(onward), false) =
            (onward, source.is_some_and(|source| self.state.lock().expect("state").barred.contains(&source)))
        else {
            reset_on_close(&stream);
            return Vec::new();
        };
        let dead = Arc::new(AtomicBool::new(false));
        let number = {
            let mut state = self.state.lock().expect("state");
            state.opened += 1;
            let number = state.opened;
            let connection = Connection { number, dialler, source, opened: Instant::now() };
            state.connections.push((connection, dead.clone()));
            number
        };
        let gone = Arc::new(Gone { number, state: self.state.clone() });
        let pump = |direction, from: &TcpStream, to: &TcpStream| {
            for stream in [from, to] {
                stream.set_nodelay(true).expect("nodelay");
                stream.set_read_timeout(Some(TICK)).expect("read timeout");
                stream.set_write_timeout(Some(TICK)).expect("write timeout");
            }
            let (from, to) = (from.try_clone().expect("a clone"), to.try_clone().expect("a clone"));
            let (state, dead, gone) = (self.state.clone(), dead.clone(), gone.clone());
            std::thread::spawn(move || {
                let (queue, queued, deaf) = (VecDeque::new(), 0, false);
                Pump { direction, from, to, state, dead, queue, queued, deaf }.run();
                // The sockets are closed by now: only then is the connection off the list.
                drop(gone);
            })
        };
        vec![pump(Direction::ToTarget, &stream, &onward), pump(Direction::ToDialler, &onward, &stream)]
    }
}

/// Takes the connection off the list when the last of its pumps is done.
struct Gone {
    number: u64,
    state: Arc<Mutex<State>>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.state
            .lock()
            .expect("state")
            .connections
            .retain(|(connection, _)| connection.number != self.number);
    }
}

struct Pump {
    direction: Direction,
    from: TcpStream,
    to: TcpStream,
    state: Arc<Mutex<State>>,
    dead: Arc<AtomicBool>,
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued: usize,
    /// Nobody takes what is delivered.
    deaf: bool,
}

impl Pump {
    fn run(mut self) {
        let mut open = true;
        while (open || !self.queue.is_empty()) && !self.is_ended() {
            if self.faults().stalled {
                std::thread::sleep(TICK);
                continue;
            }
            if open && self.queued < QUEUE_BYTES_MAX {
                open = self.read();
            }
            self.deliver(open);
        }
        if self.is_dead() {
            reset_on_close(&self.from);
            reset_on_close(&self.to);
        } else {
            let _ = self.to.shutdown(Shutdown::Write);
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    fn is_ended(&self) -> bool {
        self.deaf || self.is_dead()
    }

    fn faults(&self) -> Faults {
        self.state.lock().expect("state").lane(self.direction).faults.clone()
    }

    /// Reads one chunk, or nothing within a tick. False at the end of the stream.
    fn read(&mut self) -> bool {
        let wait = match self.queue.front() {
            Some((due, _)) => {
                due.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), TICK)
            }
            None => TICK,
        };
        let _ = self.from.set_read_timeout(Some(wait));
        let mut chunk = vec![0; CHUNK_BYTES];
        match self.from.read(&mut chunk) {
            Ok(0) => return false,
            Ok(length) => {
                chunk.truncate(length);
                self.queued += length;
                self.queue.push_back((Instant::now() + self.faults().delay, chunk));
            }
            Err(error) if is_timeout(error.kind()) => {}
            Err(_) => return false,
        }
        true
    }

    /// Writes what is due. Waits for it when there is nothing more to read.
    fn deliver(&mut self, more: bool) {
        while let Some((due, _)) = self.queue.front() {
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                if !more || self.queued >= QUEUE_BYTES_MAX {
                    std::thread::sleep(early.min(TICK));
                }
                return;
            }
            let (_, chunk) = self.queue.pop_front().expect("just seen");
            self.queued -= chunk.len();
            self.forward(chunk);
            if self.is_ended() {
                return;
            }
        }
    }

    fn forward(&mut self, mut chunk: Vec<u8>) {
        let mut at = 0;
        while at < chunk.len() && !self.is_ended() {
            let faults = self.faults();
            if faults.stalled {
                std::thread::sleep(TICK);
                continue;
            }
            let mut piece = (chunk.len() - at).min(faults.piece_bytes.unwrap_or(CHUNK_BYTES));
            if let Some(rate) = faults.bytes_per_second {
                piece = piece.min((rate as usize / 100).max(1));
            }
            if let Some(after) = faults.flip_after.filter(|&after| after < piece as u64) {
                chunk[at + after as usize] ^= 1;
                let mut state = self.state.lock().expect("state");
                let lane = state.lane(self.direction);
                lane.faults.flip_after = None;
                lane.flips += 1;
                // A piece written in part is not flipped again: the bit is in the chunk now.
            }
            // Counted before it is written: an answer to it must not come before it counts.
            self.count(piece as i64);
            let written = match self.to.write(&chunk[at..at + piece]) {
                Ok(length) => length,
                Err(error) if is_timeout(error.kind()) => 0,
                Err(_) => {
                    self.deaf = true;
                    return;
                }
            };
            at += written;
            self.count(written as i64 - piece as i64);
            if let Some(rate) = faults.bytes_per_second {
                std::thread::sleep(Duration::from_secs_f64(written as f64 / rate as f64));
            }
        }
    }

    fn count(&self, bytes: i64) {
        let mut state = self.state.lock().expect("state");
        let lane = state.lane(self.direction);
        lane.bytes = lane.bytes.saturating_add_signed(bytes);
        if let Some(after) = &mut lane.faults.flip_after {
            *after = after.saturating_add_signed(-bytes);
        }
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Which of the processes holds the socket 127.0.0.1:`local` -> 127.0.0.1:`remote`, from /proc.
fn source_of(local: u16, remote: u16, pids: &[Option<u32>]) -> Option<usize> {
    if pids.is_empty() {
        return None;
    }
    let wanted = format!("socket:[{}]", inode_of(local, remote)?);
    pids.iter().position(|pid| pid.is_some_and(|pid| holds(pid, &wanted)))
}

fn inode_of(local: u16, remote: u16) -> Option<String> {
    let (local, remote) = (format!("0100007F:{local:04X}"), format!("0100007F:{remote:04X}"));
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let line = table.lines().find(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next() == Some(&local) && fields.next() == Some(&remote)
    })?;
    line.split_ascii_whitespace().nth(9).map(str::to_owned)
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy() == socket))
}
