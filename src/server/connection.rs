//! One client's connection.
//!
//! The task alternates between reading and running: read what is there, run every complete request, write all
//! replies at once. It reads no further while replies wait for a slow reader, so a client holds at most one read buffer, one
//! command's reply beyond [`FLUSH_BYTES`] and its mailbox.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::time::now;
use crate::engine::blocking::{TimeoutReply, Waiter, WaiterState};
use crate::engine::client::ClientFlags;
use crate::engine::session::Session;
use crate::engine::{Engine, Flow};
use crate::resp::reply::Reply;
use crate::resp::request::{Limits, Parser, Progress};

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Most bytes reserved ahead for a value whose length was announced.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;
/// Replies are written when so many bytes wait, though requests are left.
const FLUSH_BYTES: usize = 256 * 1024;

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
    Closed,
}

/// Serves a connection to its end.
pub async fn serve(engine: Arc<Engine>, mut stream: TcpStream, thread: usize) {
    let address = |address: io::Result<std::net::SocketAddr>| address.map_or(String::new(), |it| it.to_string());
    let (peer, local) = (address(stream.peer_addr()), address(stream.local_addr()));
    let mut session = engine.connect(peer, local, now(), thread);
    let mut connection = Connection {
        engine: &engine,
        thread,
        input: BytesMut::with_capacity(READ_BYTES),
        output: Vec::new(),
        parser: Parser::new(),
    };
    // A connection that breaks is closed like one that ends.
    let end = connection.run(&mut stream, &mut session).await;
    let input = std::mem::take(&mut connection.input);
    let id = session.client.id;
    if matches!(end, Ok(End::Link)) {
        let seen_host = stream.peer_addr().map_or(String::new(), |peer| peer.ip().to_string());
        super::peer::run(engine.clone(), stream, id, None, seen_host, input, thread).await;
    }
    engine.disconnect(&mut session);
}

struct Connection<'e> {
    engine: &'e Engine,
    thread: usize,
    input: BytesMut,
    output: Vec<u8>,
    parser: Parser,
}

impl Connection<'_> {
    async fn run(&mut self, stream: &mut TcpStream, session: &mut Session) -> io::Result<End> {
        loop {
            match self.wait(stream, session).await? {
                Wake::Closed => return Ok(End::Closed),
                Wake::Read | Wake::Pushed => {}
            }
            loop {
                let flow = self.execute(session);
                if let Some(Flow::Sleep(ms)) = flow {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                self.engine.wake_links();
                self.flush(stream).await?;
                match flow {
                    Some(Flow::Continue | Flow::Sleep(_)) => continue,
                    None => break,
                    Some(Flow::Close | Flow::Shutdown) => return Ok(End::Closed),
                    Some(Flow::Link) => return Ok(End::Link),
                    Some(Flow::WaitReplicas { .. }) => {
                        Reply::new(&mut self.output, session.protocol).int(0);
                    }
                    Some(Flow::Blocked(waiter, deadline_ms)) => {
                        self.blocked(stream, session, &waiter, deadline_ms).await?;
                    }
                }
            }
            if session.client.flags().intersects(ClientFlags::KILLED | ClientFlags::CLOSE_AFTER_REPLY) {
                return Ok(End::Closed);
            }
        }
    }

    /// Waits for bytes from the client, for bytes pushed to it, or for its end.
    async fn wait(&mut self, stream: &mut TcpStream, session: &Session) -> io::Result<Wake> {
        let (input, output) = (&mut self.input, &mut self.output);
        poll_fn(|cx| {
            if session.client.take_pushed(output, cx.waker()) {
                return Poll::Ready(Ok(Wake::Pushed));
            }
            if session.client.flags().contains(ClientFlags::KILLED) {
                return Poll::Ready(Ok(Wake::Closed));
            }
            if input.capacity() - input.len() < READ_BYTES / 4 {
                input.reserve(READ_BYTES);
            }
            // Unlike `try_read`, this knows that a short read has emptied the socket, and saves asking again.
            let read = pin!(stream.read_buf(input)).poll(cx);
            read.map_ok(|count| if count == 0 { Wake::Closed } else { Wake::Read })
        })
        .await
    }

    /// Runs requests until none is complete (`None`) or one needs something done first.
    fn execute(&mut self, session: &mut Session) -> Option<Flow> {
        if self.input.is_empty() {
            return None;
        }
        let now = now();
        let limits = if session.authenticated { Limits::default() } else { Limits::unauthenticated() };
        let mut start = 0;
        let flow = loop {
            let buffer = &self.input[start..];
            match self.parser.parse(buffer, &limits) {
                Ok(Progress::Complete { consumed }) => {
                    let args = self.parser.args(buffer);
                    let flow = self.engine.execute(session, args, &mut self.output, now, self.thread);
                    start += consumed;
                    if !matches!(flow, Flow::Continue) || self.output.len() >= FLUSH_BYTES {
                        break Some(flow);
                    }
                }
                Ok(Progress::Incomplete { needed }) => {
                    self.input.reserve(needed.min(RESERVE_BYTES_MAX));
                    break None;
                }
                Err(error) => {
                    Reply::new(&mut self.output, session.protocol).error(format_args!("ERR {error}"));
                    break Some(Flow::Close);
                }
            }
        };
        self.input.advance(start);
        flow
    }

    async fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if !self.output.is_empty() {
            stream.write_all(&self.output).await?;
            self.output.clear();
            if self.output.capacity() > 4 * FLUSH_BYTES {
                self.output = Vec::new();
            }
        }
        Ok(())
    }

    /// Waits until the waiter is served or its time is up. What the client sends meanwhile is kept for later.
    async fn blocked(
        &mut self,
        stream: &mut TcpStream,
        session: &mut Session,
        waiter: &Arc<Waiter>,
        deadline_ms: Option<u64>,
    ) -> io::Result<()> {
        loop {
            let left = deadline_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now().unix_ms)));
            let woken = match left {
                Some(left) => tokio::time::timeout(left, self.wait(stream, session)).await.ok(),
                None => Some(self.wait(stream, session).await),
            };
            match woken {
                Some(Ok(Wake::Read | Wake::Pushed)) => {
                    if *waiter.state.lock() != WaiterState::Waiting {
                        return self.flush(stream).await;
                    }
                    self.flush(stream).await?;
                }
                Some(Ok(Wake::Closed)) => {
                    self.engine.give_up(waiter);
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Some(Err(error)) => {
                    self.engine.give_up(waiter);
                    return Err(error);
                }
                None => {
                    if self.engine.give_up(waiter) {
                        let mut reply = Reply::new(&mut self.output, waiter.protocol);
                        match waiter.timeout_reply {
                            TimeoutReply::Null => reply.null(),
                            TimeoutReply::NullArray => reply.null_array(),
                        }
                    }
                    return self.flush(stream).await;
                }
            }
        }
    }
}
