//! One request of one session, from its words to its reply.
//!
//! In this order: the command is looked up; it is admitted or refused, as the session, the configuration and the links
//! say; inside MULTI it is queued; the ranges of its keys are locked; it runs; who waited for what it added is served;
//! its batch is closed; events and messages are published. What is refused neither counts as run nor is told to MONITOR.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::blocking::Waiter;
use super::call::{Awaited, Blocking, Call, Outcome};
use super::client::ClientFlags;
use super::command::{Command, Flags, Group};
use super::error::{Error, QUOTED_BYTES_MAX};
use super::keyspace::{Keyspace, Locks};
use super::pause::Paused;
use super::registry::Known;
use super::session::{Queued, ReplyMode, Session};
use super::stats::Stats;
use super::{Engine, Now, allowlist};
use crate::config::Access;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::reply::{Protocol, Reply};
use crate::store::shard::{Flushed, KeyHash};

/// Codes beyond so many are not counted apart: scripts may make up any.
pub const ERROR_CODES_MAX: usize = 128;

/// What a queued argument takes beyond its bytes.
const QUEUED_ARG_BYTES: usize = 8;

/// What a connection may run that may only become a link.
const LINK_ONLY_FLAGS: Flags = Flags::NO_AUTH.union(Flags::LINKING);

/// What a connection does after a request.
#[derive(Debug)]
pub enum Flow {
    /// Go on with the next request.
    Continue,
    /// Close once the reply is sent.
    Close,
    /// Wait for the waiter to be served, at most until the deadline in Unix milliseconds; then [`Engine::end_wait`].
    Blocked(Arc<Waiter>, Option<u64>),
    /// Wait for the links until [`Engine::answer`]; then [`Engine::end_wait`].
    Await {
        /// Tells when the wait is ended by others.
        waiter: Arc<Waiter>,
        /// For what.
        awaited: Awaited,
        /// Until when, in Unix milliseconds.
        deadline_ms: Option<u64>,
    },
    /// Wait so many milliseconds, then send the reply.
    Sleep(u64),
    /// Nothing was done: give the same request again once CLIENT PAUSE is over.
    Paused,
    /// Hand the connection to the link layer.
    Link,
    /// Stop the server.
    Shutdown,
}

impl Engine {
    /// Runs one request.
    pub fn execute(
        &self,
        session: &mut Session,
        args: Args<'_>,
        out: &mut Vec<u8>,
        now: Now,
        thread: usize,
    ) -> Flow {
        let Some(name) = args.get(0) else { return Flow::Continue };
        session.has_run = false;
        if session.is_subscriber() {
            // What was published before this command comes before its reply.
            session.client.take_mailbox(out);
        }
        let start = out.len();
        let flow = match self.admit(session, name, args) {
            Ok(command) if self.is_paused(session, command, now) => return Flow::Paused,
            Ok(command) => self.run(session, command, args, out, now, thread),
            Err(_) if is_http(name) => {
                tracing::warn!("{} speaks HTTP: closed", session.client.addr);
                return Flow::Close;
            }
            Err(error) => {
                let error = self.refuse(session, name, error);
                self.command_stats.rejected(thread, session.command_id);
                self.reply_error(session.protocol, out, thread, &error);
                Flow::Continue
            }
        };
        match session.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off => out.truncate(start),
            ReplyMode::SkipNext => {
                if !is_reply_skip(args) {
                    out.truncate(start);
                    session.reply_mode = ReplyMode::On;
                }
            }
        }
        flow
    }

    /// What a refused command does to a transaction: EXEC itself ends it, any other has EXEC abort it.
    fn refuse(&self, session: &mut Session, name: &[u8], error: Error) -> Error {
        if name.eq_ignore_ascii_case(b"exec") {
            self.discard(session);
            let error = error.to_string();
            let reason = error.strip_prefix("ERR ").unwrap_or(&error);
            return format!("EXECABORT Transaction discarded because of: {reason}").into();
        }
        if let Some(transaction) = &mut session.transaction {
            transaction.aborted = true;
        }
        error
    }

    pub(super) fn reply_error(&self, protocol: Protocol, out: &mut Vec<u8>, thread: usize, error: &Error) {
        Stats::add(&self.stats(thread).errors, 1);
        self.count_error(&error.code());
        Reply::new(out, protocol).error_bytes(error.as_bytes());
    }

    fn count_error(&self, code: &str) {
        let mut counts = self.error_stats.lock();
        if let Some(count) = counts.get_mut(code) {
            *count += 1;
        } else if counts.len() < ERROR_CODES_MAX {
            counts.insert(code.to_owned(), 1);
        }
    }

    /// Finds the command and checks that this session may run it now.
    fn admit(&self, session: &mut Session, name: &[u8], args: Args<'_>) -> Result<&'static Command, Error> {
        session.command_id = u16::MAX;
        let mut known = self.registry.find(name).ok_or_else(|| unknown_command(args))?;
        if !known.command.subcommands.is_empty()
            && let Some(sub) = args.get(1)
        {
            known =
                self.registry.find_sub(known, sub).ok_or_else(|| unknown_subcommand(known.command, sub))?;
        }
        let Known { command, id } = known;
        session.command_id = id;
        if !command.takes(args.len()) {
            return Err(Error::wrong_arity(self.registry.name(id)));
        }
        if command.flags.contains(Flags::PROTECTED) {
            self.admit_protected(session)?;
        }
        if !session.authenticated && !command.flags.contains(Flags::NO_AUTH) && self.requires_password() {
            return Err(Error::new("NOAUTH Authentication required."));
        }
        if session.client.flags().contains(ClientFlags::LINK_ONLY)
            && !command.flags.intersects(LINK_ONLY_FLAGS)
        {
            return Err(allowlist::LINK_ONLY);
        }
        self.admit_state(session, command)?;
        Ok(command)
    }

    /// DEBUG, as `enable-debug-command` says.
    fn admit_protected(&self, session: &Session) -> Result<(), Error> {
        let allowed = match self.config.read().enable_debug_command {
            Access::Yes => true,
            Access::Local => session.client.is_local(),
            Access::No => false,
        };
        if allowed { Ok(()) } else { Err(Error::DEBUG_NOT_ALLOWED) }
    }

    /// Whether clients have to authenticate.
    pub fn requires_password(&self) -> bool {
        !self.password.read().is_empty()
    }

    /// Whether CLIENT PAUSE holds a command back.
    #[inline]
    fn is_paused(&self, session: &Session, command: &Command, now: Now) -> bool {
        let Some((paused, _)) = self.pause.at(now.unix_ms) else { return false };
        let is_write = |command: &Command| command.flags.intersects(Flags::WRITE | Flags::MAY_REPLICATE);
        paused == Paused::All || runs_any(session, command, is_write)
    }

    /// What depends on the state of the session and the server.
    fn admit_state(&self, session: &Session, command: &'static Command) -> Result<(), Error> {
        if session.transaction.is_some() && command.flags.contains(Flags::NO_MULTI) {
            return Err(Error::new("ERR Command not allowed inside a transaction"));
        }
        if let Some(failure) = self.disk_failure()
            && (runs_any(session, command, Command::is_write) || command.name == "ping")
        {
            return Err(failure);
        }
        if self.lacks_replicas.load(Ordering::Relaxed) && runs_any(session, command, Command::is_write) {
            return Err(Error::new("NOREPLICAS Not enough good replicas to write."));
        }
        if self.is_follower()
            && runs_any(session, command, Command::is_write)
            && self.config.read().replica_read_only
        {
            return Err(Error::new("READONLY You can't write against a read only replica."));
        }
        if session.is_subscriber()
            && session.protocol == Protocol::Resp2
            && !command.flags.contains(Flags::SUBSCRIBED)
        {
            return Err(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                self.registry.name(session.command_id)
            )
            .into());
        }
        let needs_data = |command: &Command| !command.flags.contains(Flags::STALE);
        if self.is_stale.load(Ordering::Relaxed) && runs_any(session, command, needs_data) {
            return Err(Error::new(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            ));
        }
        // To Redis who watches is a replica.
        let uses_keys = |command: &Command| {
            command.flags.intersects(Flags::READONLY | Flags::WRITE | Flags::MAY_REPLICATE)
        };
        if session.client.flags().contains(ClientFlags::MONITOR) && runs_any(session, command, uses_keys) {
            return Err(Error::new("ERR Replica can't interact with the keyspace"));
        }
        Ok(())
    }

    fn run(
        &self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        out: &mut Vec<u8>,
        now: Now,
        thread: usize,
    ) -> Flow {
        if session.transaction.is_some() && !runs_in_multi(command) {
            return self.queue(session, command, args, out);
        }
        session.has_run = true;
        let locks = self.lock_in_turn(session, command, args);
        let mut keys = Keyspace::new(self, locks, session.db, now, thread);
        keys.no_touch = session.client.flags().contains(ClientFlags::NO_TOUCH);
        let (outcome, garbage) = self.call(session, command, args, &mut keys, out, Blocking::Allowed);
        let flow = match outcome {
            Outcome::Done => Flow::Continue,
            Outcome::Close => Flow::Close,
            Outcome::Sleep(ms) => Flow::Sleep(ms),
            Outcome::Link => Flow::Link,
            Outcome::Shutdown => Flow::Shutdown,
            Outcome::Await { awaited, deadline_ms } => {
                let waiter = self.begin_wait(session, command, args, &mut keys, Vec::new());
                Flow::Await { waiter, awaited, deadline_ms }
            }
            Outcome::Block(block) => {
                let waiter = self.begin_wait(session, command, args, &mut keys, block.keys);
                Flow::Blocked(waiter, block.deadline_ms)
            }
        };
        self.conclude(keys, thread);
        drop(garbage);
        // With the database it has come to. EXEC tells of itself, behind the commands it runs.
        if self.monitors.any() && command.name != "exec" {
            self.monitors.tell(session, command, args, now.unix_us());
        }
        flow
    }

    /// Keeps a command for EXEC. A client that queues more than it may have buffered is disconnected.
    fn queue(
        &self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        out: &mut Vec<u8>,
    ) -> Flow {
        let Some(transaction) = &mut session.transaction else { return Flow::Continue };
        transaction.bytes += args.iter().map(|arg| arg.len() + QUEUED_ARG_BYTES).sum::<usize>();
        if transaction.bytes as u64 > self.config.read().client_query_buffer_limit {
            return Flow::Close;
        }
        let id = session.command_id;
        transaction.queue.push(Queued { command, id, args: OwnedArgs::from_args(args) });
        session.client.queued.store(transaction.queue.len() as u32, Ordering::Relaxed);
        Reply::new(out, session.protocol).simple("QUEUED");
        Flow::Continue
    }

    /// Ends MULTI and WATCH without running anything. No range may be locked by the caller.
    pub fn discard(&self, session: &mut Session) {
        session.end_transaction();
        self.unwatch_all(session);
    }

    /// Accounts for the session's last command, which took so long.
    #[inline]
    pub fn ran(&self, session: &Session, args: Args<'_>, us: u64, now: Now, thread: usize) {
        if !session.has_run {
            return;
        }
        self.command_stats.ran(thread, session.command_id, us);
        if us >= self.limits.noted_us.load(Ordering::Relaxed) {
            self.note_slow(session, args, us, now);
        }
    }

    #[cold]
    fn note_slow(&self, session: &Session, args: Args<'_>, us: u64, now: Now) {
        let Some(command) = self.registry.command(session.command_id) else { return };
        let config = self.config.read();
        let ms = us / 1000;
        let at_s = now.unix_ms.saturating_add(ms) / 1000;
        if config.slowlog_log_slower_than_us.is_some_and(|limit| us >= limit)
            && !command.flags.contains(Flags::SKIP_SLOWLOG)
        {
            self.slowlog.lock().add(session, command, args, us, at_s, config.slowlog_max_len);
        }
        if config.latency_monitor_threshold_ms != 0 && ms >= config.latency_monitor_threshold_ms {
            let fast = command.flags.contains(Flags::FAST);
            self.latency.lock().add(if fast { "fast-command" } else { "command" }, at_s, ms);
        }
    }

    /// Runs a command's function; an error becomes its reply.
    pub fn call<'e>(
        &'e self,
        session: &mut Session,
        command: &'static Command,
        args: Args<'_>,
        keys: &mut Keyspace<'e>,
        out: &mut Vec<u8>,
        blocking: Blocking<'_>,
    ) -> (Outcome, Vec<Flushed>) {
        let start = out.len();
        let protocol = session.protocol;
        // Who is served ran when it began to wait.
        if !matches!(blocking, Blocking::Resumed(_)) {
            Stats::add(&self.stats(keys.thread()).commands, 1);
        }
        let mut call = Call {
            engine: self,
            args,
            reply: Reply::new(out, protocol),
            keys,
            outcome: Outcome::Done,
            blocking,
            garbage: Vec::new(),
            session,
        };
        let result = (command.run)(&mut call);
        let (outcome, garbage, thread) = (call.outcome, call.garbage, call.keys.thread());
        if let Err(error) = result {
            out.truncate(start);
            self.command_stats.failed(thread, session.command_id);
            self.reply_error(session.protocol, out, thread, &error);
            return (Outcome::Done, garbage);
        }
        (outcome, garbage)
    }

    /// Serves waiting clients, closes the batch and publishes events.
    pub(crate) fn conclude<'e>(&'e self, mut keys: Keyspace<'e>, thread: usize) {
        keys.unlock();
        while !keys.ready.is_empty() {
            let (db, key) = keys.ready.remove(0);
            self.serve(&mut keys, db, &key);
        }
        if keys.dirty > 0 {
            Stats::add(&self.stats(thread).changes, keys.dirty);
        }
        keys.finish();
        if !keys.events.is_empty() {
            self.publish_events(&keys.events);
        }
        for (scope, channel, message) in &keys.messages {
            self.deliver(*scope, channel, message);
        }
    }

    /// Locks the ranges a command touches: all of them if its keys cannot be told from its arguments.
    pub fn lock_for(&self, session: &Session, command: &Command, args: Args<'_>) -> Locks<'_> {
        let mut ranges: SmallVec<[usize; 8]> = SmallVec::new();
        if command.name == "exec" {
            let Some(transaction) = &session.transaction else { return Locks::None };
            for Queued { command: queued, args, .. } in &transaction.queue {
                if queued.flags.contains(Flags::WALKS_KEYSPACE)
                    || !self.ranges_of(queued, args.args(), &mut ranges)
                {
                    return Locks::all(self);
                }
            }
            ranges.extend(session.watched.iter().map(|watch| KeyHash::range_of(&watch.key)));
        } else if !self.ranges_of(command, args, &mut ranges) {
            return Locks::all(self);
        }
        Locks::of(self, &mut ranges)
    }

    fn ranges_of(&self, command: &Command, args: Args<'_>, ranges: &mut SmallVec<[usize; 8]>) -> bool {
        if command.flags.contains(Flags::WHOLE_KEYSPACE) {
            return false;
        }
        command.each_key(args, |index, spec| {
            if spec.is_key() {
                ranges.push(KeyHash::range_of(&args[index]));
            }
        })
    }
}

/// Whether a command is never queued by MULTI. The group tells RESET from SLOWLOG RESET.
fn runs_in_multi(command: &Command) -> bool {
    let is_ending = command.group == Group::Connection && matches!(command.name, "quit" | "reset");
    is_ending || (command.group == Group::Transactions && command.name != "unwatch")
}

/// Whether a command, or one that EXEC runs, is of some kind.
#[inline]
fn runs_any(session: &Session, command: &Command, is_it: impl Fn(&Command) -> bool) -> bool {
    let queued = session.transaction.iter().filter(|_| command.name == "exec");
    is_it(command) || queued.flat_map(|transaction| &transaction.queue).any(|queued| is_it(queued.command))
}

/// Whether a request is a line of HTTP: a browser was made to send it to this port, and what follows it was made up by
/// somebody else.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

fn is_reply_skip(args: Args<'_>) -> bool {
    args.len() == 3
        && args[0].eq_ignore_ascii_case(b"client")
        && args[1].eq_ignore_ascii_case(b"reply")
        && args[2].eq_ignore_ascii_case(b"skip")
}

/// The text for a name that is no command, with the beginning of its arguments.
fn unknown_command(args: Args<'_>) -> Error {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(Error::quotable(&args[0], QUOTED_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.iter().skip(1) {
        let Some(left) = QUOTED_BYTES_MAX.checked_sub(text.len() - start).filter(|left| *left > 0) else {
            break;
        };
        text.push(b'\'');
        text.extend_from_slice(Error::quotable(arg, left));
        text.extend_from_slice(b"' ");
    }
    text.into()
}

fn unknown_subcommand(command: &Command, sub: &[u8]) -> Error {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(Error::quotable(sub, QUOTED_BYTES_MAX));
    text.extend_from_slice(format!("'. Try {} HELP.", command.name.to_uppercase()).as_bytes());
    text.into()
}
