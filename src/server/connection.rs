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
use crate::engine::blocking::Waiter;
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
    /// What it waited for is there, or the wait was ended.
    Served,
}

/// Serves a connection to its end.
pub async fn serve(engine: Arc<Engine>, mut stream: TcpStream, thread: usize) {
    let address =
        |address: io::Result<std::net::SocketAddr>| address.map_or(String::new(), |it| it.to_string());
    let (peer, local) = (address(stream.peer_addr()), address(stream.local_addr()));
    let mut session = engine.connect(peer, local, now(), thread);
    if !engine.admit_client(&session.client) {
        engine.disconnect(&mut session);
        return;
    }
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
            match self.wait(stream, session, None).await? {
                Wake::Closed => return Ok(End::Closed),
                Wake::Read | Wake::Pushed | Wake::Served => {}
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

    /// Waits for bytes from the client, for bytes pushed to it, for its end, or for a waiter's answer.
    async fn wait(
        &mut self,
        stream: &mut TcpStream,
        session: &Session,
        waiter: Option<&Waiter>,
    ) -> io::Result<Wake> {
        let (input, output) = (&mut self.input, &mut self.output);
        poll_fn(|cx| {
            if session.client.take_pushed(output, cx.waker()) {
                return Poll::Ready(Ok(Wake::Pushed));
            }
            if session.client.flags().contains(ClientFlags::KILLED) {
                return Poll::Ready(Ok(Wake::Closed));
            }
            if waiter.is_some_and(|waiter| !waiter.is_waiting()) {
                return Poll::Ready(Ok(Wake::Served));
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

    /// Waits until the waiter is served or its time is up, and answers. What the client sends meanwhile is kept
    /// for later, up to `client-query-buffer-limit`; beyond that it is disconnected.
    async fn blocked(
        &mut self,
        stream: &mut TcpStream,
        session: &mut Session,
        waiter: &Waiter,
        deadline_ms: Option<u64>,
    ) -> io::Result<()> {
        let wait = Wait { engine: self.engine, waiter };
        let input_bytes_max = self.engine.config.read().client_query_buffer_limit;
        loop {
            let answer = self.wait(stream, session, Some(waiter));
            let woken = match deadline_ms {
                Some(at_ms) => {
                    let left = Duration::from_millis(at_ms.saturating_sub(now().unix_ms));
                    tokio::time::timeout(left, answer).await
                }
                None => Ok(answer.await),
            };
            match woken {
                Ok(Ok(Wake::Pushed)) => self.flush(stream).await?,
                Ok(Ok(Wake::Read)) if self.input.len() as u64 <= input_bytes_max => {}
                Ok(Ok(Wake::Read | Wake::Closed)) => return Err(io::ErrorKind::ConnectionReset.into()),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Wake::Served)) | Err(_) => break,
            }
        }
        wait.end(&mut self.output);
        self.flush(stream).await
    }
}

/// A wait of this connection. It ends at the latest when this is dropped, so nothing is taken for a client that is
/// gone.
struct Wait<'a> {
    engine: &'a Engine,
    waiter: &'a Waiter,
}

impl Wait<'_> {
    fn end(&self, out: &mut Vec<u8>) {
        self.engine.end_wait(self.waiter, out);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.end(&mut Vec::new());
    }
}
