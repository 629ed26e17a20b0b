//! What the rest of the server may know and do about a connection.
//!
//! The connection's own task owns its [`Session`](super::session::Session); everyone else holds an `Arc` of its [`Client`]: to
//! list it, to kill it, to push a message. Pushed bytes wait in the mailbox, which the task empties into the
//! socket; its size counts against the output buffer limits.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use super::blocking::Waiter;
use super::limits::Limits;
use crate::resp::reply::Protocol;

/// Bytes on their way to a connection, and the task that sends them.
#[derive(Debug, Default)]
struct Mailbox {
    bytes: Vec<u8>,
    waker: Option<Waker>,
}

/// A connection as others see it.
#[derive(Debug)]
pub struct Client {
    /// Unique on this node, rising.
    pub id: u64,
    /// The peer's address.
    pub addr: String,
    /// The local address.
    pub local_addr: String,
    /// When it connected, in Unix milliseconds.
    pub connected_at_ms: u64,
    /// Set by CLIENT SETNAME.
    pub name: Mutex<Vec<u8>>,
    /// Set by CLIENT SETINFO: name and version of the library.
    pub library: Mutex<(Vec<u8>, Vec<u8>)>,
    /// The selected database.
    pub db: AtomicU32,
    /// When it last sent a command, in Unix milliseconds.
    pub active_at_ms: AtomicU64,
    /// RESP3 is spoken.
    pub resp3: AtomicBool,
    /// The number of the last command; see [`Registry`](super::registry::Registry).
    pub command_id: AtomicU16,
    /// The socket, for CLIENT LIST.
    pub fd: AtomicI32,
    /// State others may read: see [`ClientFlags`].
    pub flags: AtomicU32,
    /// Channels, patterns and shard channels subscribed to.
    pub subscriptions: [AtomicU32; 3],
    /// Commands queued by MULTI, or `u32::MAX` outside.
    pub queued: AtomicU32,
    /// Bytes in the read buffer.
    pub input_bytes: AtomicU64,
    /// Bytes in the write buffer.
    pub output_bytes: AtomicU64,
    /// Since when more waits than the soft limit allows, in Unix milliseconds; 0: it does not.
    pub over_soft_since_ms: AtomicU64,
    limits: Arc<Limits>,
    /// What it waits for, while blocked. Holds this client in turn, until the wait ends.
    pub waiter: Mutex<Option<Arc<Waiter>>>,
    mailbox: Mutex<Mailbox>,
}

bitflags::bitflags! {
    /// State of a client that others may read.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ClientFlags: u32 {
        /// To be closed as soon as its task notices.
        const KILLED = 1;
        /// Close once what was replied is sent.
        const CLOSE_AFTER_REPLY = 1 << 1;
        /// Waits in a blocking command.
        const BLOCKED = 1 << 2;
        /// Inside MULTI.
        const MULTI = 1 << 3;
        /// A watched key has changed: EXEC will fail.
        const DIRTY = 1 << 4;
        /// MONITOR.
        const MONITOR = 1 << 5;
        /// Subscribed to something.
        const PUBSUB = 1 << 6;
        /// CLIENT NO-EVICT.
        const NO_EVICT = 1 << 7;
        /// CLIENT NO-TOUCH.
        const NO_TOUCH = 1 << 8;
        /// Came over a Unix socket.
        const UNIX_SOCKET = 1 << 9;
        /// A peer's link.
        const LINK = 1 << 10;
        /// Sent READONLY.
        const READONLY = 1 << 11;
        /// Closed because it left too much unread.
        const OVER_LIMIT = 1 << 16;
        /// A member's address that is not on the allowlist: it may only become a link.
        const LINK_ONLY = 1 << 12;
    }
}

impl Client {
    /// A new connection.
    pub fn new(id: u64, addr: String, local_addr: String, now_ms: u64, limits: Arc<Limits>) -> Self {
        Client {
            id,
            addr,
            local_addr,
            connected_at_ms: now_ms,
            name: Mutex::default(),
            library: Mutex::default(),
            db: AtomicU32::new(0),
            active_at_ms: AtomicU64::new(now_ms),
            resp3: AtomicBool::new(false),
            command_id: AtomicU16::new(u16::MAX),
            fd: AtomicI32::new(-1),
            flags: AtomicU32::new(0),
            subscriptions: Default::default(),
            queued: AtomicU32::new(u32::MAX),
            input_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            over_soft_since_ms: AtomicU64::new(0),
            limits,
            waiter: Mutex::default(),
            mailbox: Mutex::default(),
        }
    }

    /// The peer's address without its port, v4-mapped ones as v4; `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.addr.parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
    }

    /// The flags set now.
    pub fn flags(&self) -> ClientFlags {
        ClientFlags::from_bits_truncate(self.flags.load(Ordering::Acquire))
    }

    /// Sets flags.
    pub fn set(&self, flags: ClientFlags) {
        self.flags.fetch_or(flags.bits(), Ordering::AcqRel);
    }

    /// Clears flags.
    pub fn unset(&self, flags: ClientFlags) {
        self.flags.fetch_and(!flags.bits(), Ordering::AcqRel);
    }

    /// Whether it runs on this machine.
    pub fn is_local(&self) -> bool {
        let is_loopback = |addr: std::net::SocketAddr| addr.ip().to_canonical().is_loopback();
        self.flags().contains(ClientFlags::UNIX_SOCKET) || self.addr.parse().is_ok_and(is_loopback)
    }

    /// The protocol it speaks.
    pub fn protocol(&self) -> Protocol {
        if self.resp3.load(Ordering::Relaxed) { Protocol::Resp3 } else { Protocol::Resp2 }
    }

    /// Appends to what it is sent, and wakes its task. A client that leaves more unread than the hard limit of
    /// its class is closed instead.
    pub fn push(&self, bytes: &[u8]) {
        let limit = self.limits.output(self.flags()).hard;
        let mut mailbox = self.mailbox.lock();
        let waiting =
            mailbox.bytes.len() as u64 + self.output_bytes.load(Ordering::Relaxed) + bytes.len() as u64;
        if limit != 0 && waiting > limit {
            mailbox.bytes = Vec::new();
            self.set(ClientFlags::KILLED | ClientFlags::OVER_LIMIT);
        } else if !self.flags().contains(ClientFlags::KILLED) {
            mailbox.bytes.extend_from_slice(bytes);
        }
        let waker = mailbox.waker.take();
        drop(mailbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Bytes in the mailbox and the write buffer.
    pub fn unread_bytes(&self) -> u64 {
        self.mailbox.lock().bytes.len() as u64 + self.output_bytes.load(Ordering::Relaxed)
    }

    /// Has the task woken by what happens next, without taking what was pushed.
    pub fn listen(&self, waker: &Waker) {
        let mut mailbox = self.mailbox.lock();
        if !mailbox.waker.as_ref().is_some_and(|held| held.will_wake(waker)) {
            mailbox.waker = Some(waker.clone());
        }
    }

    /// Has its task close the connection.
    pub fn kill(&self) {
        self.set(ClientFlags::KILLED);
        self.wake();
    }

    /// Wakes its task.
    pub fn wake(&self) {
        let waker = self.mailbox.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Appends what was pushed so far to `out`.
    pub fn take_mailbox(&self, out: &mut Vec<u8>) {
        out.append(&mut self.mailbox.lock().bytes);
    }

    /// Moves what was pushed to `out`, or has the task woken by the next push. Returns whether something was moved.
    pub fn take_pushed(&self, out: &mut Vec<u8>, waker: &Waker) -> bool {
        let mut mailbox = self.mailbox.lock();
        if mailbox.bytes.is_empty() {
            if !mailbox.waker.as_ref().is_some_and(|held| held.will_wake(waker)) {
                mailbox.waker = Some(waker.clone());
            }
            return false;
        }
        if out.is_empty() {
            std::mem::swap(out, &mut mailbox.bytes);
        } else {
            out.append(&mut mailbox.bytes);
        }
        mailbox.waker = Some(waker.clone());
        true
    }
}
