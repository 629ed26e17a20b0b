//! One client's connection.
//!
//! The task alternates between reading and running: read what is there, run every complete request, write all
//! replies at once. It reads no further while replies wait for a slow reader, so a client holds at most one read buffer, one
//! command's reply beyond `FLUSH_BYTES` and its mailbox.
//!
//! Cost per read buffer: one read, one write, one lock of the mailbox, one look at the clock; per command a second look,
//! for the slow log and INFO commandstats. Values are copied into the read buffer, the store and the write buffer, once
//! each.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::journal::Unkept;
use super::listener::Incoming;
use super::shell::Shell;
use super::stream::Stream;
use super::ticker::farewell;
use super::time::now;
use crate::engine::Engine;
use crate::engine::blocking::Waiter;
use crate::engine::call::Awaited;
use crate::engine::client::ClientFlags;
use crate::engine::error::Error;
use crate::engine::execution::Flow;
use crate::engine::session::Session;
use crate::engine::stats::Stats;
use crate::resp::reply::Reply;
use crate::resp::request::{Limits, Parser, Progress};

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Most bytes reserved ahead for a value whose length was announced, unless as many have come already.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;
/// A read buffer that has grown beyond this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// Replies are written when so many bytes wait, though requests are left.
const FLUSH_BYTES: usize = 256 * 1024;

/// How often WAIT looks whether partners have caught up.
const WAIT_STEP_MS: u64 = 2;

/// How a connection ends.
enum End {
    Closed,
    /// It goes on as a peer's link.
    Link,
}

/// What woke the task.
enum Wake {
    Read,
    Pushed,
    /// The condition waited for holds.
    Ready,
    /// The server stops: what was read is answered, then the connection closes.
    Last,
    Closed,
}

/// Serves a connection to its end.
pub async fn serve(shell: Arc<Shell>, incoming: Incoming, thread: usize) {
    let engine = &shell.engine;
    let fd = match &incoming {
        Incoming::Tcp(stream) => stream.as_raw_fd(),
        Incoming::Unix(stream) => stream.as_raw_fd(),
    };
    let (stream, peer, local) = match named(incoming) {
        Ok(named) => named,
        Err(error) => {
            tracing::debug!("A connection was lost before it began: {error}");
            shell.connected.fetch_sub(1, SeqCst);
            return;
        }
    };
    let mut stream = stream;
    let mut session = engine.connect(peer, local, now(), thread);
    session.client.fd.store(fd, Relaxed);
    if matches!(stream, Stream::Unix(_)) {
        session.client.set(ClientFlags::UNIX_SOCKET);
    }
    if !engine.admit_client(&session.client) {
        engine.disconnect(&mut session);
        return farewell(&shell, &session.client);
    }
    let mut connection = Connection {
        shell: &shell,
        engine,
        thread,
        input: BytesMut::with_capacity(READ_BYTES),
        output: Vec::new(),
        parser: Parser::new(),
        filled: false,
        wrote: false,
    };
    // A connection that breaks is closed like one that ends.
    let end = connection.run(&mut stream, &mut session).await;
    let input = std::mem::take(&mut connection.input);
    let id = session.client.id;
    match (end, stream) {
        (Ok(End::Link), Stream::Tcp(stream)) => {
            session.client.set(ClientFlags::LINK);
            shell.links.fetch_add(1, SeqCst);
            let seen_host =
                stream.peer_addr().map_or(String::new(), |peer| peer.ip().to_canonical().to_string());
            super::peer::run(&shell, stream, id, None, seen_host, input, thread).await;
            shell.links.fetch_sub(1, SeqCst);
        }
        (Ok(_), mut stream) => {
            // What was sent reaches the client before the end does.
            let _ = stream.shutdown().await;
        }
        (Err(_), _) => {}
    }
    engine.disconnect(&mut session);
    farewell(&shell, &session.client);
}

/// The socket on this thread, and both its addresses.
fn named(incoming: Incoming) -> io::Result<(Stream, String, String)> {
    match incoming {
        Incoming::Tcp(stream) => {
            let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
            Ok((Stream::Tcp(TcpStream::from_std(stream)?), peer.to_string(), local.to_string()))
        }
        Incoming::Unix(stream) => {
            let path =
                stream.local_addr()?.as_pathname().map(|path| path.display().to_string()).unwrap_or_default();
            let name = format!("{path}:0");
            Ok((Stream::Unix(UnixStream::from_std(stream)?), name.clone(), name))
        }
    }
}

struct Connection<'e> {
    shell: &'e Shell,
    engine: &'e Arc<Engine>,
    thread: usize,
    input: BytesMut,
    output: Vec<u8>,
    parser: Parser,
    /// Something was written that is to leave: by this connection, or by the ticker or another one of this thread.
    filled: bool,
    /// By this one, since it last sent what was written.
    wrote: bool,
}

impl Connection<'_> {
    async fn run(&mut self, stream: &mut Stream, session: &mut Session) -> io::Result<End> {
        if self.shell.is_closing() {
            return Ok(End::Closed);
        }
        loop {
            let last = match self.wait(stream, session).await? {
                Wake::Closed => return Ok(End::Closed),
                Wake::Last => true,
                Wake::Read | Wake::Pushed | Wake::Ready => false,
            };
            if self.is_query_too_long(session) {
                return Ok(End::Closed);
            }
            loop {
                let flow = self.execute(session);
                if let Some(Flow::Sleep(ms)) = flow {
                    let until = now().unix_ms.saturating_add(ms);
                    self.idle(stream, session, Some(until), || false).await?;
                }
                if self.send_writes().await.is_err() {
                    self.refuse_to_acknowledge(stream, session).await?;
                    return Ok(End::Closed);
                }
                if self.is_reply_too_long(session) {
                    return Ok(End::Closed);
                }
                self.flush(stream, session).await?;
                match flow {
                    Some(Flow::Continue | Flow::Sleep(_)) => continue,
                    None => break,
                    Some(Flow::Close) => return Ok(End::Closed),
                    Some(Flow::Shutdown) => {
                        tracing::warn!("User requested shutdown...");
                        self.shell.stop();
                        return Ok(End::Closed);
                    }
                    Some(Flow::Link) => return Ok(End::Link),
                    Some(Flow::Paused) => {
                        let pause = &self.engine.clone().pause;
                        let is_over = || pause.at(now().unix_ms).is_none();
                        let until = pause.at(now().unix_ms).map_or(0, |(_, until)| until);
                        session.client.set(ClientFlags::BLOCKED);
                        let waited = self.idle(stream, session, Some(until), is_over).await;
                        session.client.unset(ClientFlags::BLOCKED);
                        waited?;
                    }
                    Some(Flow::Await { waiter, awaited, deadline_ms }) => {
                        self.replicated(stream, session, &waiter, (awaited, deadline_ms)).await?;
                    }
                    Some(Flow::Blocked(waiter, deadline_ms)) => {
                        self.blocked(stream, session, &waiter, deadline_ms).await?;
                    }
                }
            }
            if last || session.client.flags().intersects(ClientFlags::KILLED | ClientFlags::CLOSE_AFTER_REPLY)
            {
                return Ok(End::Closed);
            }
        }
    }

    /// Has what was written leave, and go to disk, before it is acknowledged. Connections of this thread that are ready run
    /// first, so that the writes of all go out together: the first one whose turn comes again sees to it for all of them.
    async fn send_writes(&mut self) -> Result<(), Unkept> {
        if !std::mem::take(&mut self.filled) {
            return Ok(());
        }
        let before = self.shell.departures.of(self.thread).number;
        tokio::task::yield_now().await;
        let last = self.shell.departures.of(self.thread);
        let kept = if last.number == before { self.put_out() } else { last.kept };
        // Who has only read is not to be told of somebody else's failure.
        if !std::mem::take(&mut self.wrote) {
            return Ok(());
        }
        self.shell.journal.safe(kept?).await
    }

    async fn keep_writes(&self) -> Result<(), Unkept> {
        let written = self.put_out();
        self.shell.journal.safe(written?).await
    }

    /// To the system and to the partners. Returns up to where the journal then reaches.
    fn put_out(&self) -> Result<u64, Unkept> {
        let journal = &self.shell.journal;
        let kept = if journal.is_on() { journal.write(self.engine) } else { Ok(0) };
        self.shell.link_sockets.send(self.engine);
        self.shell.departures.note(self.thread, kept);
        kept
    }

    /// What was written is not safe: the client gets an error in place of the replies, and no more.
    async fn refuse_to_acknowledge(&mut self, stream: &mut Stream, session: &Session) -> io::Result<()> {
        let error =
            self.engine.disk_failure().unwrap_or(Error::new("MISCONF Errors writing to the AOF file"));
        self.output.clear();
        Reply::new(&mut self.output, session.protocol).error(error);
        self.flush(stream, session).await
    }

    /// Waits for bytes from the client, for bytes pushed to it, or for its end.
    async fn wait(&mut self, stream: &mut Stream, session: &Session) -> io::Result<Wake> {
        self.wait_or(stream, session, || false).await
    }

    /// Waits like [`Self::wait`], or until the condition holds when somebody wakes the client.
    async fn wait_or(
        &mut self,
        stream: &mut Stream,
        session: &Session,
        condition: impl Fn() -> bool,
    ) -> io::Result<Wake> {
        const NEWS: ClientFlags = ClientFlags::KILLED.union(ClientFlags::CLOSE_AFTER_REPLY);
        let (input, output) = (&mut self.input, &mut self.output);
        let woken = poll_fn(|cx| {
            if session.client.take_pushed(output, cx.waker()) {
                return Poll::Ready(Ok(Wake::Pushed));
            }
            let flags = session.client.flags();
            if flags.intersects(NEWS) {
                let killed = flags.contains(ClientFlags::KILLED);
                return Poll::Ready(Ok(if killed { Wake::Closed } else { Wake::Last }));
            }
            if condition() {
                return Poll::Ready(Ok(Wake::Ready));
            }
            if input.capacity() - input.len() < READ_BYTES / 4 {
                input.reserve(READ_BYTES);
            }
            // Unlike `try_read`, this knows that a short read has emptied the socket, and saves asking again.
            let read = pin!(stream.read_buf(input)).poll(cx);
            read.map_ok(|count| if count == 0 { Wake::Closed } else { Wake::Read })
        })
        .await?;
        if let Wake::Read = woken {
            Stats::add(&self.engine.stats(self.thread).reads, 1);
        }
        Ok(woken)
    }

    /// Waits until a deadline or the condition, and lets the client send and be sent meanwhile.
    async fn idle(
        &mut self,
        stream: &mut Stream,
        session: &mut Session,
        deadline_ms: Option<u64>,
        condition: impl Fn() -> bool,
    ) -> io::Result<()> {
        while !condition() {
            let waiting = self.wait_or(stream, session, &condition);
            let woken = match deadline_ms {
                Some(at_ms) => {
                    let left = Duration::from_millis(at_ms.saturating_sub(now().unix_ms));
                    match tokio::time::timeout(left, waiting).await {
                        Ok(woken) => woken?,
                        Err(_late) => return Ok(()),
                    }
                }
                None => waiting.await?,
            };
            match woken {
                Wake::Read if self.is_query_too_long(session) => {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Wake::Read | Wake::Ready => {}
                Wake::Pushed => self.flush(stream, session).await?,
                Wake::Last | Wake::Closed => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        Ok(())
    }

    /// WAIT and MELD AFTER: until partners hold what was written here, or this node what was written there, or the deadline.
    async fn replicated(
        &mut self,
        stream: &mut Stream,
        session: &mut Session,
        waiter: &Waiter,
        (awaited, deadline_ms): (Awaited, Option<u64>),
    ) -> io::Result<()> {
        let wait = Wait { engine: self.engine, waiter, thread: self.thread };
        let sequence = self.engine.sequence_now();
        self.engine.wake_all_links();
        loop {
            let (answer, is_reached) = self.engine.answer(&awaited, sequence);
            let now_ms = now().unix_ms;
            let is_late = deadline_ms.is_some_and(|at_ms| at_ms <= now_ms);
            if is_reached || is_late || !waiter.is_waiting() {
                wait.end(&mut self.output, |reply| reply.int(answer));
                return self.flush(stream, session).await;
            }
            // Nobody is woken by what comes over links: look again in a moment.
            let soon = now_ms + WAIT_STEP_MS;
            let until = deadline_ms.map_or(soon, |at_ms| at_ms.min(soon));
            self.idle(stream, session, Some(until), || !waiter.is_waiting()).await?;
        }
    }

    /// What this client's requests may hold now.
    fn limits(&self, session: &Session) -> Limits {
        if session.authenticated || !self.engine.requires_password() {
            let bulk_len = self.engine.limits.bulk_len.load(Relaxed);
            Limits::new(usize::try_from(bulk_len).unwrap_or(usize::MAX))
        } else {
            Limits::unauthenticated()
        }
    }

    /// Runs requests until none is complete (`None`) or one needs something done first.
    fn execute(&mut self, session: &mut Session) -> Option<Flow> {
        if self.input.is_empty() {
            return None;
        }
        let now = now();
        self.shell.note_clock(self.shell.identity.cover(&self.engine.clock, now.ntp));
        let received = self.input.len();
        session.client.input_bytes.store(received as u64, Relaxed);
        let mut limits = self.limits(session);
        let authenticated = session.authenticated;
        let mut started = Instant::now();
        let mut start = 0;
        let outbox = &self.engine.outbox;
        self.filled |= outbox.take_filled(self.thread);
        let flow = loop {
            let buffer = &self.input[start..];
            match self.parser.parse(buffer, &limits) {
                Ok(Progress::Complete { consumed }) => {
                    let args = self.parser.args(buffer);
                    let flow = self.engine.execute(session, args, &mut self.output, now, self.thread);
                    if let Flow::Paused = flow {
                        break Some(flow);
                    }
                    let ended = Instant::now();
                    let slept_us = if let Flow::Sleep(ms) = flow { ms.saturating_mul(1000) } else { 0 };
                    let us = (ended.duration_since(started).as_micros() as u64).saturating_add(slept_us);
                    self.engine.ran(session, args, us, now, self.thread);
                    started = ended;
                    start += consumed;
                    if !matches!(flow, Flow::Continue) || self.output.len() >= FLUSH_BYTES {
                        break Some(flow);
                    }
                    if session.authenticated != authenticated {
                        limits = self.limits(session);
                    }
                }
                Ok(Progress::Incomplete { needed }) => {
                    self.input.reserve(needed.min(RESERVE_BYTES_MAX.max(received)));
                    break None;
                }
                Err(error) => {
                    Reply::new(&mut self.output, session.protocol).error(format_args!("ERR {error}"));
                    tracing::debug!("Protocol error ({error}) from client: {}", session.client.addr);
                    break Some(Flow::Close);
                }
            }
        };
        self.wrote |= outbox.take_filled(self.thread);
        self.filled |= self.wrote;
        self.input.advance(start);
        if self.input.is_empty() && self.input.capacity() > KEPT_BYTES_MAX {
            self.input = BytesMut::with_capacity(READ_BYTES);
        }
        let client = &session.client;
        client.active_at_ms.store(now.unix_ms, Relaxed);
        client.command_id.store(session.command_id, Relaxed);
        client.input_bytes.store(self.input.len() as u64, Relaxed);
        Stats::add(&self.engine.stats(self.thread).input_bytes, start as u64);
        flow
    }

    /// `client-query-buffer-limit`.
    fn is_query_too_long(&self, session: &Session) -> bool {
        let too_long = self.input.len() as u64 > self.engine.limits.query_buffer.load(Relaxed);
        if too_long {
            let client = &session.client;
            tracing::warn!(
                "Closing client that reached max query buffer length: id={} addr={} qbuf={}",
                client.id,
                client.addr,
                self.input.len()
            );
        }
        too_long
    }

    /// The hard `client-output-buffer-limit`, where one reply alone is beyond it.
    fn is_reply_too_long(&self, session: &Session) -> bool {
        if self.output.len() < READ_BYTES {
            return false;
        }
        let hard = self.engine.limits.output(session.client.flags()).hard;
        let too_long = hard != 0 && self.output.len() as u64 > hard;
        if too_long {
            session.client.output_bytes.store(self.output.len() as u64, Relaxed);
            session.client.set(ClientFlags::OVER_LIMIT);
        }
        too_long
    }

    /// Writes all replies. A client that is killed meanwhile gets no more of them.
    async fn flush(&mut self, stream: &mut Stream, session: &Session) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let (output, client) = (&self.output, &session.client);
        let mut written = 0;
        poll_fn(|cx| {
            while written < output.len() {
                match Pin::new(&mut *stream).poll_write(cx, &output[written..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        client.output_bytes.store((output.len() - written) as u64, Relaxed);
                        client.listen(cx.waker());
                        if client.flags().contains(ClientFlags::KILLED) {
                            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                        }
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        client.output_bytes.store(0, Relaxed);
        let stats = self.engine.stats(self.thread);
        Stats::add(&stats.writes, 1);
        Stats::add(&stats.output_bytes, written as u64);
        self.output.clear();
        if self.output.capacity() > 4 * FLUSH_BYTES {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Waits until the waiter is served or its time is up, and answers. What the client sends meanwhile is kept
    /// for later, up to `client-query-buffer-limit`; beyond that it is disconnected.
    async fn blocked(
        &mut self,
        stream: &mut Stream,
        session: &mut Session,
        waiter: &Waiter,
        deadline_ms: Option<u64>,
    ) -> io::Result<()> {
        let wait = Wait { engine: self.engine, waiter, thread: self.thread };
        self.idle(stream, session, deadline_ms, || !waiter.is_waiting()).await?;
        // The thread that served it may still be about to: its reply must not come before.
        if wait.end(&mut self.output, |reply| reply.null_array()) && self.keep_writes().await.is_err() {
            self.refuse_to_acknowledge(stream, session).await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.flush(stream, session).await
    }
}

/// A wait of this connection. It ends at the latest when this is dropped, so nothing is taken for a client that is
/// gone.
struct Wait<'a> {
    engine: &'a Engine,
    waiter: &'a Waiter,
    thread: usize,
}

impl Wait<'_> {
    fn end(&self, out: &mut Vec<u8>, in_vain: impl FnOnce(&mut Reply<'_>)) -> bool {
        self.engine.end_wait(self.waiter, out, self.thread, in_vain)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.end(&mut Vec::new(), |_| {});
    }
}
