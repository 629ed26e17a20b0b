//! Links on sockets: dialing peers, upgrading accepted connections, moving frames.
//!
//! A link lives on one thread. Its task writes what [`Engine::link_poll`] gives it, hands whole frames to
//! [`Engine::link_receive`], and sleeps until the socket, the outbox or the next heartbeat wakes it. It holds at most
//! one burst of output and one incoming frame, and `READ_AHEAD_BYTES` behind one that is held. While ranges move it rests
//! as long as it worked, for the clients' sake.
//!
//! A reply never overtakes its write: before a connection acknowledges, [`LinkSockets::send`] gives what was written to
//! the kernel, on the thread that wrote; a client that waited for a key, on the client's own. So a node that is killed
//! has sent all that it has acknowledged, unless a link was down or its peer too slow to take it: nobody waits for that.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use parking_lot::{Mutex, MutexGuard, RwLock};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep, timeout};

use super::shell::Shell;
use super::time::now;
use crate::engine::Engine;
use crate::engine::replication::Received;
use crate::link::frame::{self, VERSION};
use crate::link::mesh::{Address, Event, Fault, LinkId, Moved};
use crate::resp::reply::{Protocol, Reply};

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(20);
/// For each step of dialing.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// A link that is held reads no more when so much has come behind the frame.
const READ_AHEAD_BYTES: usize = READ_BYTES;
/// What came is written to the journal at once when there is so much of it; else ten times a second.
const NOTES_BYTES_MAX: usize = 256 * 1024;
/// An output buffer that has grown beyond this is given back when empty.
const OUTPUT_BYTES_KEPT: usize = 4 * 1024 * 1024;
/// Most ranges named in a line of the log.
const LISTED_RANGES: usize = 16;
/// Said behind why a link is refused.
const TOLD_ONCE: &str = "Further attempts are not logged unless the reason changes";
/// A link that gives way to another one to the same node is read to its end, at most for so long.
const GIVE_WAY: Duration = Duration::from_secs(1);
/// Rounds before other tasks of the thread get their turn.
const ROUNDS_MAX: usize = 4;
/// Work at a stretch on ranges that move over a link. It then rests as long as it worked, so that clients get at least
/// half of the thread.
const STRETCH: Duration = Duration::from_millis(2);

/// Keeps the clock, the stable time and the links going, and dials whoever is not linked.
pub async fn supervise(shell: Arc<Shell>, thread: usize) {
    let engine = &shell.engine;
    let mut tick = ticking(TICK);
    loop {
        tick.tick().await;
        let now = now();
        engine.link_tick(now);
        shell.keep_members();
        report(engine);
        for address in engine.mesh.lock().dials_due(now.unix_ms) {
            tokio::spawn(dial(shell.clone(), address, thread));
        }
    }
}

fn ticking(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// Logs what happened on the links.
fn report(engine: &Engine) {
    for event in engine.take_link_events() {
        match event {
            Event::Up(node) => tracing::info!("Link to node {node} is up"),
            Event::Down(node, fault) => tracing::warn!("Link to node {node} is down: {fault}"),
            Event::Refused((host, port), reason) => {
                tracing::warn!("No link to {host}:{port}: {reason}. {TOLD_ONCE}");
            }
            Event::CallerRefused(host, fault) => {
                tracing::warn!("A peer at {host} gets no link: {fault}. {TOLD_ONCE}");
            }
            Event::Leaving(node) => tracing::info!("Node {node} is about to stop"),
            Event::PullStarted(node, ranges) => {
                tracing::info!("Resync from node {node} started: {ranges} ranges differ");
            }
            Event::PullProgress(node, moved) => tracing::info!(
                "Resync from node {node}: {}% ({} of {} ranges, {})",
                moved.done * 100 / moved.total.max(1),
                moved.done,
                moved.total,
                rate(moved)
            ),
            Event::PullDone(node, moved) => {
                tracing::info!("Resync from node {node} is complete: {}", rate(moved));
            }
            Event::Skewed(node, ms) => tracing::warn!(
                "Clock skew: node {node} is {ms} ms ahead; its changes are held until the clocks agree within \
                 max-clock-drift. Check time synchronisation on both hosts"
            ),
            Event::Unskewed(node) => {
                tracing::info!("Clock skew of node {node} is over: its changes are taken")
            }
            Event::Diverged(node, ranges) => tracing::warn!(
                "Diverged from node {node} in {} ranges though neither lacks anything; they are exchanged: {}",
                ranges.len(),
                listed(&ranges)
            ),
            Event::Repaired(node, keys) => {
                tracing::warn!(
                    "Ranges that differed from node {node} were exchanged: {keys} keys changed here"
                );
            }
            Event::ClockOff(node, ms) => tracing::warn!(
                "The clock of node {node} is {} ms {} this node's. Check time synchronisation on both hosts",
                ms.unsigned_abs(),
                if ms > 0 { "ahead of" } else { "behind" }
            ),
            Event::ClockRight(node) => {
                tracing::info!("The clock of node {node} agrees with this node's again")
            }
        }
    }
}

/// The first few of some ranges.
fn listed(ranges: &[u16]) -> String {
    let first: Vec<String> = ranges.iter().take(LISTED_RANGES).map(u16::to_string).collect();
    first.join(" ") + if ranges.len() > LISTED_RANGES { " ..." } else { "" }
}

/// What a pull has brought, and how fast.
fn rate(moved: Moved) -> String {
    let mb = moved.bytes as f64 / 1e6;
    let seconds = now().unix_ms.saturating_sub(moved.started_at_ms).max(1) as f64 / 1e3;
    format!("{mb:.1} MB in {seconds:.1} s, {:.1} MB/s", mb / seconds)
}

async fn dial(shell: Arc<Shell>, address: Address, thread: usize) {
    let engine = &shell.engine;
    match connect(engine, &address).await {
        Ok(stream) => {
            let id = engine.next_id();
            let seen_host = stream.peer_addr().map_or(String::new(), |peer| peer.ip().to_string());
            run(&shell, stream, id, Some(address), seen_host, BytesMut::new(), thread).await;
        }
        Err(error) => {
            tracing::debug!("Dialing {}:{} failed: {error}", address.0, address.1);
            // What the peer answered, not what the network did.
            let refusal = (error.kind() == io::ErrorKind::Other).then(|| error.to_string());
            engine.mesh.lock().dial_failed(&address, refusal, now().unix_ms);
        }
    }
}

/// Connects, authenticates like a client, and asks for the upgrade. Names are resolved anew each time.
async fn connect(engine: &Engine, (host, port): &Address) -> io::Result<TcpStream> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let mut stream =
        timeout(DIAL_TIMEOUT, TcpStream::connect((host.as_str(), *port))).await.map_err(late)??;
    stream.set_nodelay(true)?;
    let (user, password) = {
        let config = engine.config.read();
        (config.masteruser.clone(), config.masterauth.clone())
    };
    let version = VERSION.to_string();
    let mut requests: Vec<Vec<&str>> = Vec::new();
    if let Some(password) = &password {
        requests.push(match &user {
            Some(user) => vec!["AUTH", user, password],
            None => vec!["AUTH", password],
        });
    }
    requests.push(vec!["MELD", "LINK", &version]);
    for request in requests {
        let mut bytes = Vec::new();
        let mut writer = Reply::new(&mut bytes, Protocol::Resp2);
        writer.array(request.len());
        request.iter().for_each(|word| writer.bulk(word.as_bytes()));
        stream.write_all(&bytes).await?;
        let answer = timeout(DIAL_TIMEOUT, read_line(&mut stream)).await.map_err(late)??;
        if answer != "+OK" {
            return Err(io::Error::other(answer));
        }
    }
    Ok(stream)
}

/// Reads a line byte by byte: what follows it belongs to the link.
async fn read_line(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < 1024 {
        match stream.read_u8().await? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// The sockets of all links, for whoever has written something.
#[derive(Default)]
pub struct LinkSockets(RwLock<Vec<Arc<LinkSocket>>>);

impl LinkSockets {
    /// Gives what was written to the kernel, as far as the sockets take it now; the links' tasks send the rest.
    pub fn send(&self, engine: &Engine) {
        let mut left = false;
        for socket in self.0.read().iter() {
            left |= socket.send(engine);
        }
        if left {
            engine.wake_all_links();
        }
    }
}

/// The socket of a link, and what it has not taken yet.
struct LinkSocket {
    id: LinkId,
    stream: TcpStream,
    output: Mutex<Output>,
}

/// Frames on their way out. Locked from before they are taken from the mesh, so that they leave in order.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// How much the socket has taken.
    written: usize,
}

impl LinkSocket {
    /// Sends batches until there are no more. True if it left some for the link's task: the socket is full, or broken.
    fn send(&self, engine: &Engine) -> bool {
        let mut output = self.output.lock();
        // What is there already is in the task's care.
        let busy = !output.bytes.is_empty();
        if busy {
            engine.link_sequence();
        }
        while output.bytes.is_empty() {
            engine.link_poll_batches(self.id, now(), &mut output.bytes);
            if output.bytes.is_empty() || self.write(engine, &mut output).is_err() {
                break;
            }
        }
        !busy && !output.bytes.is_empty()
    }

    /// Writes what the socket takes. Returns whether that was anything.
    fn write(&self, engine: &Engine, output: &mut MutexGuard<'_, Output>) -> io::Result<bool> {
        let mut moved = false;
        while output.written < output.bytes.len() {
            match self.stream.try_write(&output.bytes[output.written..]) {
                Ok(count) => {
                    output.written += count;
                    engine.link_output_bytes.fetch_add(count as u64, Relaxed);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Err(error) => return Err(error),
            }
        }
        output.written = 0;
        output.bytes.clear();
        if output.bytes.capacity() > OUTPUT_BYTES_KEPT {
            output.bytes = Vec::new();
        }
        Ok(moved)
    }
}

/// Runs a link to its end. `input` is what the peer sent behind its request to upgrade.
pub async fn run(
    shell: &Shell,
    stream: TcpStream,
    id: LinkId,
    dialed: Option<Address>,
    seen_host: String,
    input: BytesMut,
    thread: usize,
) {
    let engine = &shell.engine;
    engine.link_open(id, dialed, seen_host, now());
    let socket = Arc::new(LinkSocket { id, stream, output: Mutex::default() });
    shell.link_sockets.0.write().push(socket.clone());
    let mut wire = Wire::new(engine, socket, id, thread, input);
    let fault = poll_fn(|cx| {
        let polled = wire.poll(cx);
        // What came is not acknowledged, but is not to pile up.
        if engine.notes_bytes() > NOTES_BYTES_MAX {
            let _ = shell.journal.write(engine);
        }
        polled
    })
    .await;
    shell.link_sockets.0.write().retain(|socket| socket.id != id);
    engine.link_closed(id, fault, now());
}

struct Wire<'e> {
    engine: &'e Engine,
    socket: Arc<LinkSocket>,
    id: LinkId,
    thread: usize,
    input: BytesMut,
    /// How much of the input has been looked at for heartbeats: whole frames.
    seen: usize,
    /// What comes next may have waited in the socket.
    late: bool,
    /// The next frame is from the future: nothing is taken until its time has come. Its length. Little more is read, for the
    /// heartbeats.
    held: Option<usize>,
    /// The Hello was given to the socket. Whom this node refuses reads there why: so it leaves before theirs is read.
    greeted: bool,
    /// There is a better link to the same node: since when.
    gives_way: Option<Instant>,
    /// The peer takes nothing more. What it had sent before is still read: a node that was killed has acknowledged it.
    gone: bool,
    tick: Interval,
    rest: Option<Pin<Box<Sleep>>>,
}

impl<'e> Wire<'e> {
    fn new(engine: &'e Engine, socket: Arc<LinkSocket>, id: LinkId, thread: usize, input: BytesMut) -> Self {
        Wire {
            engine,
            socket,
            id,
            thread,
            input,
            seen: 0,
            late: false,
            held: None,
            greeted: false,
            gives_way: None,
            gone: false,
            tick: ticking(TICK),
            rest: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if self.rest.as_mut().is_some_and(|rest| rest.as_mut().poll(cx).is_pending()) {
            return Poll::Pending;
        }
        self.rest = None;
        let began = Instant::now();
        for _ in 0..ROUNDS_MAX {
            match self.engine.link_fault(self.id) {
                Some(Fault::Duplicate) => return self.give_way(cx),
                Some(fault) => return Poll::Ready(fault),
                None => {}
            }
            let mut progress = self.tick.poll_tick(cx).is_ready();
            match self.step(cx) {
                Ok(moved) => progress |= moved,
                Err(Fault::Duplicate) => return self.give_way(cx),
                Err(fault) => return Poll::Ready(fault),
            }
            if !progress {
                if self.socket.output.lock().bytes.is_empty() {
                    self.engine.link_sleep(self.id, cx.waker());
                }
                return Poll::Pending;
            }
            if began.elapsed() > STRETCH && self.engine.mesh.lock().moves_ranges(self.id) {
                let rest = self.rest.insert(Box::pin(sleep(began.elapsed())));
                if rest.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nothing more is sent, but what the peer sent before it knew of the better link is taken: it has acknowledged that, and
    /// may be killed before it sends it again.
    fn give_way(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let socket = &self.socket;
        let since = *self.gives_way.get_or_insert_with(|| {
            // That the socket is broken already is found below.
            let _ = SockRef::from(&socket.stream).shutdown(Shutdown::Write);
            Instant::now()
        });
        while self.tick.poll_tick(cx).is_ready() {}
        while since.elapsed() < GIVE_WAY && self.held.is_none() {
            match self.read(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(_) => break,
            }
        }
        Poll::Ready(Fault::Duplicate)
    }

    /// One round of reading, merging and writing. Returns whether anything moved.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let greets = !std::mem::replace(&mut self.greeted, true);
        // Whether the socket is broken is found below.
        let greeted = greets && self.write(cx).unwrap_or(false);
        let moved = self.read(cx)? || greeted;
        if self.gone {
            // Until its time has come nothing more is read, and a link that nobody is behind does not wait.
            return if self.held.is_some() { Err(Fault::Closed) } else { Ok(moved) };
        }
        let wrote = self.write(cx).unwrap_or_else(|_| {
            self.gone = true;
            true
        });
        Ok(moved || wrote)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        let mut output = self.socket.output.lock();
        if output.bytes.is_empty() {
            moved |= self.engine.link_poll(self.id, now(), &mut output.bytes);
        }
        while !output.bytes.is_empty() {
            match self.socket.stream.poll_write_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready?,
            }
            moved |= self.socket.write(self.engine, &mut output)?;
        }
        Ok(moved)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut moved = self.receive()?;
        // Whoever is held reads on until it has missed something, be it the end: that is for who takes the rest.
        self.late |= self.held.is_some_and(|length| self.input.len() >= length + READ_AHEAD_BYTES);
        if self.held.is_some() && self.late {
            return Ok(moved);
        }
        match self.socket.stream.poll_read_ready(cx) {
            Poll::Pending => {
                self.late = false;
                return Ok(moved);
            }
            Poll::Ready(ready) => ready.map_err(|_| Fault::Closed)?,
        }
        self.input.reserve(READ_BYTES);
        match self.socket.stream.try_read_buf(&mut self.input) {
            Ok(count) if count > 0 => {
                self.engine.link_input_bytes.fetch_add(count as u64, Relaxed);
                if self.held.is_none() {
                    self.engine.link_heard(self.id, now());
                }
                moved = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.late = false;
                moved = true;
            }
            Ok(_) | Err(_) if self.held.is_some() => {
                self.late = true;
                return Ok(moved);
            }
            Ok(_) | Err(_) => return Err(Fault::Closed),
        }
        self.receive()?;
        Ok(moved)
    }

    /// Has the heartbeats timed that have come, also those behind a frame that is held.
    fn see(&mut self) {
        let body_bytes_max = self.engine.link_body_bytes_max(self.id);
        // What is damaged is found when it is to be taken.
        while let Ok(Some(length)) = frame::length(&self.input[self.seen..], body_bytes_max)
            && let Some(frame) = self.input[self.seen..].get(..length)
        {
            if !self.late {
                self.engine.link_seen(self.id, frame, now());
            }
            self.seen += length;
        }
    }

    /// Hands over the whole frames there are.
    fn receive(&mut self) -> Result<bool, Fault> {
        self.see();
        let mut moved = false;
        loop {
            let body_bytes_max = self.engine.link_body_bytes_max(self.id);
            let length = match frame::length(&self.input, body_bytes_max)? {
                Some(length) if length <= self.input.len() => length,
                _ => return Ok(moved),
            };
            match self.engine.link_receive(self.id, &self.input[..length], now(), self.thread)? {
                Received::Taken => {
                    self.input.advance(length);
                    self.seen = self.seen.saturating_sub(length);
                }
                Received::Held => {
                    self.held = Some(length);
                    return Ok(false);
                }
            }
            self.held = None;
            moved = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Fixture;

    /// Otherwise it piles up until somebody ticks, which may be late on a busy machine.
    #[tokio::test]
    async fn what_a_full_socket_does_not_take_reaches_the_backlog_and_so_its_limit() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let output = Mutex::new(Output { bytes: vec![0], written: 0 });
        let socket = LinkSocket { id: 1, stream, output };
        let mut node = Fixture::replicating();
        node.check("SET k v", "+OK");
        assert_eq!(node.engine.mesh.lock().backlog().bytes(), 0);
        assert!(!socket.send(&node.engine), "the rest is in the task's care");
        assert!(node.engine.mesh.lock().backlog().bytes() > 0);
        assert!(!node.engine.outbox.is_filled());
    }

    /// What a node gives out next goes into another, as on a link of number 1.
    fn carry(from: &Fixture, to: &Fixture) {
        let bytes = said(from);
        let mut rest = &bytes[..];
        while let Some(length) = frame::length(rest, to.engine.link_body_bytes_max(1)).unwrap() {
            to.engine.link_receive(1, &rest[..length], now(), 0).unwrap();
            rest = &rest[length..];
        }
    }

    fn said(node: &Fixture) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            node.engine.link_poll(1, now(), &mut bytes);
            if bytes.len() == before {
                return bytes;
            }
        }
    }

    /// Two nodes that have said all they have to say on a link of number 1.
    fn linked() -> (Fixture, Fixture) {
        let (here, there) = (Fixture::numbered(1), Fixture::numbered(2));
        for node in [&here, &there] {
            node.engine.link_open(1, None, "127.0.0.1".into(), now());
        }
        for _ in 0..3 {
            carry(&here, &there);
            carry(&there, &here);
        }
        (here, there)
    }

    /// It has acknowledged all of that, and a partner that wrote to it meanwhile finds the link broken first.
    #[tokio::test]
    async fn what_a_node_had_sent_when_it_was_killed_is_read_to_its_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1 << 20).unwrap();
        let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().unwrap();
        let (mut node, mut killed) = linked();
        // More than is read at once.
        for n in 0..1000 {
            killed.check(&format!("SET k{n} {}", "v".repeat(100)), "+OK");
        }
        let acknowledged = said(&killed);
        assert!(acknowledged.len() > READ_BYTES);
        io::Write::write_all(&mut there, &acknowledged).unwrap();
        // A socket that is closed with something unread is reset.
        stream.writable().await.unwrap();
        stream.try_write(b"unread").unwrap();
        there.peek(&mut [0]).unwrap();
        drop(there);
        node.check("SET own v", "+OK");
        let socket = Arc::new(LinkSocket { id: 1, stream, output: Mutex::default() });
        let mut wire = Wire::new(&node.engine, socket, 1, 0, BytesMut::new());
        assert_eq!(poll_fn(|cx| wire.poll(cx)).await, Fault::Closed);
        node.check("DBSIZE", ":1001");
    }

    /// It has acknowledged that, too, and nobody sends it again on the better link.
    #[tokio::test]
    async fn what_a_node_had_sent_on_a_link_that_gives_way_is_read_to_its_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().unwrap();
        there.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (mut node, mut killed) = linked();
        killed.engine.link_open(2, None, "127.0.0.1".into(), now());
        let mut hello = Vec::new();
        killed.engine.link_poll(2, now(), &mut hello);
        killed.check("SET k v", "+OK");
        io::Write::write_all(&mut there, &said(&killed)).unwrap();
        node.engine.link_open(2, None, "127.0.0.1".into(), now());
        let length = frame::length(&hello, frame::HELLO_BYTES_MAX).unwrap().unwrap();
        node.engine.link_receive(2, &hello[..length], now(), 0).unwrap();
        assert_eq!(node.engine.link_fault(1), Some(Fault::Duplicate));
        let socket = Arc::new(LinkSocket { id: 1, stream, output: Mutex::default() });
        let mut wire = Wire::new(&node.engine, socket, 1, 0, BytesMut::new());
        let reading = poll_fn(|cx| wire.poll(cx));
        let ended = async {
            // It says that it sends no more, and then the other end closes.
            while std::io::Read::read(&mut there, &mut [0; 64]).unwrap() > 0 {}
            drop(there);
        };
        let (fault, ()) = tokio::join!(reading, ended);
        assert_eq!(fault, Fault::Duplicate);
        node.check("GET k", "$1 v");
    }

    #[tokio::test]
    async fn whom_a_node_refuses_is_told_why_though_its_hello_is_here_first() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().unwrap();
        let (mut node, back) = (Fixture::numbered(1), Fixture::numbered(2));
        let own = back.engine.clock.origin().node();
        node.engine.link_open(2, None, "127.0.0.1".into(), now());
        back.engine.link_open(1, None, "127.0.0.1".into(), now());
        let hello = said(&back);
        node.engine.link_receive(2, &hello, now(), 0).unwrap();
        node.check(&format!("MELD FORGET {own}"), "+OK");
        node.engine.link_tick(now());
        node.engine.link_open(1, None, "127.0.0.1".into(), now());
        stream.writable().await.unwrap();
        let socket = Arc::new(LinkSocket { id: 1, stream, output: Mutex::default() });
        let mut wire = Wire::new(&node.engine, socket, 1, 0, BytesMut::from(&hello[..]));
        assert_eq!(poll_fn(|cx| wire.poll(cx)).await, Fault::Forgotten(own));
        drop(wire);
        let mut told = Vec::new();
        io::Read::read_to_end(&mut there, &mut told).unwrap();
        let length = frame::length(&told, frame::HELLO_BYTES_MAX).unwrap().unwrap();
        let fault = back.engine.link_receive(1, &told[..length], now(), 0).unwrap_err();
        assert_eq!(fault, Fault::Forgotten(own));
        back.engine.link_closed(1, fault, now());
        assert!(back.engine.roster(now()).forgotten.iter().any(|(node, _)| *node == own), "it keeps that");
        let told = Event::CallerRefused("127.0.0.1".into(), Fault::Forgotten(own));
        assert_eq!(back.engine.take_link_events(), [told], "and says nothing of a link that came and went");
    }

    /// Its heartbeats are timed, but a peer that goes on sending does not fill the memory, and nothing is lost.
    #[tokio::test]
    async fn behind_a_frame_that_is_held_little_is_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        let (mut node, mut ahead) = linked();
        ahead.now_ms = now().unix_ms + 60_000;
        let mut sent = Vec::new();
        for n in 0..10_000 {
            ahead.check(&format!("SET k{n} {}", "v".repeat(100)), "+OK");
            if n % 100 == 0 {
                sent.append(&mut said(&ahead));
            }
        }
        sent.append(&mut said(&ahead));
        let first = frame::length(&sent, frame::FRAME_BYTES_MAX).unwrap().unwrap();
        assert!(sent.len() > first + 8 * READ_AHEAD_BYTES);
        let sender = tokio::spawn(async move { there.write_all(&sent).await.map(|()| there) });
        let socket = Arc::new(LinkSocket { id: 1, stream, output: Mutex::default() });
        let mut wire = Wire::new(&node.engine, socket, 1, 0, BytesMut::new());
        let ended = timeout(Duration::from_millis(500), poll_fn(|cx| wire.poll(cx))).await;
        assert!(ended.is_err() && wire.held.is_some() && wire.late);
        assert!(wire.input.len() < first + 4 * READ_AHEAD_BYTES, "{} are read", wire.input.len());
        node.engine.config.write().max_clock_drift_ms = 120_000;
        let ended = timeout(Duration::from_millis(2000), poll_fn(|cx| wire.poll(cx))).await;
        assert!(ended.is_err() && wire.held.is_none() && !wire.late);
        let _there = sender.await.unwrap().unwrap();
        node.check("DBSIZE", ":10000");
    }
}
