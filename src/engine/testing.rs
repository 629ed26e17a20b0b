//! A server of one test, without sockets: commands in and replies out as text.

use super::execution::Flow;
use super::merging::Known;
use super::session::Session;
use super::{Engine, Now, Seeds};
use crate::clock::{NTP64, NodeId, Origin};
use crate::command::TABLES;
use crate::config::Config;
use crate::link::batch::Batch;
use crate::link::vector::Vector;
use crate::resp::args::OwnedArgs;
use crate::resp::reply::Protocol;

/// An engine and one connection to it. Time stands still unless the test moves it.
pub(crate) struct Fixture {
    pub(crate) engine: Engine,
    pub(crate) session: Session,
    pub(crate) now_ms: u64,
}

impl Fixture {
    /// A server without partners.
    pub(crate) fn new() -> Self {
        Self::numbered(1)
    }

    /// A server without partners, of another identity than the others of the test.
    pub(crate) fn numbered(node: u64) -> Self {
        let origin = Origin::new(NodeId::new(node << 24), 1);
        let engine = Engine::new(origin, NTP64(0), 1, Seeds([1, 2, 3, 4]), Config::default(), TABLES);
        let now_ms = 1_700_000_000_000;
        let session = engine.connect("test:1".into(), "test:2".into(), now(now_ms), 0);
        Fixture { engine, session, now_ms }
    }

    /// A server that writes for partners: per-origin sums, batches, tombstones.
    pub(crate) fn replicating() -> Self {
        let fixture = Self::new();
        fixture.engine.start_replicating();
        fixture
    }

    /// Replies are in this protocol from now on.
    pub(crate) fn speak(mut self, protocol: Protocol) -> Self {
        self.session.protocol = protocol;
        self
    }

    /// The reply to a command, whose arguments are divided by spaces, with line ends shown as spaces.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.run_args(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    /// The reply to a command, likewise.
    pub(crate) fn run_args(&mut self, args: &[&[u8]]) -> String {
        let args: OwnedArgs = args.iter().collect();
        let mut out = Vec::new();
        let flow = self.engine.execute(&mut self.session, args.args(), &mut out, now(self.now_ms), 0);
        assert!(matches!(flow, Flow::Continue | Flow::Close | Flow::Blocked(..)), "{flow:?}");
        String::from_utf8_lossy(&out).trim_end().replace("\r\n", " ")
    }

    /// Another connection.
    pub(crate) fn connect(&self) -> Session {
        self.engine.connect("test:3".into(), "test:2".into(), now(self.now_ms), 0)
    }

    /// The reply to a command sent on another connection.
    pub(crate) fn run_on(&mut self, session: &mut Session, command: &str) -> String {
        std::mem::swap(&mut self.session, session);
        let reply = self.run(command);
        std::mem::swap(&mut self.session, session);
        reply
    }

    /// What was written since this was last asked, as a partner gets it.
    pub(crate) fn written(&self) -> Vec<u8> {
        let mut drained = crate::link::outbox::Drained::default();
        self.engine.outbox.drain(&self.engine.clock, &mut drained);
        drained.bytes
    }

    /// Merges what a partner has written.
    pub(crate) fn merge(&self, from: &Fixture, written: &[u8]) {
        merge_batches(&self.engine, from.engine.clock.origin(), written, now(self.now_ms));
    }

    /// Merges what a partner has written that had merged what this node wrote up to `seen`.
    pub(crate) fn merge_unseen(&self, from: &Fixture, written: &[u8], seen: NTP64) {
        let vector = Vector::default();
        let known = Known { own: &vector, seen, written: NTP64(u64::MAX) };
        merge_known(&self.engine, from.engine.clock.origin(), written, known, now(self.now_ms));
    }

    /// Does upkeep until there is nothing left to do.
    pub(crate) fn tick(&self) {
        while self.engine.tick(now(self.now_ms), 0) {}
    }

    /// Checks the reply to a command.
    #[track_caller]
    pub(crate) fn check(&mut self, command: &str, expected: &str) {
        assert_eq!(self.run(command), expected, "{command}");
    }

    /// Number of changes made since the start.
    pub(crate) fn changes(&self) -> u64 {
        self.engine.total(|stats| &stats.changes)
    }
}

fn now(unix_ms: u64) -> Now {
    Now::from_unix_ns(u128::from(unix_ms) * 1_000_000)
}

/// Merges batches of a partner that had seen all that was written here.
pub(crate) fn merge_batches(engine: &Engine, origin: Origin, written: &[u8], now: Now) {
    let vector = Vector::default();
    let known = Known { own: &vector, seen: NTP64(u64::MAX), written: NTP64(0) };
    merge_known(engine, origin, written, known, now);
}

fn merge_known(engine: &Engine, origin: Origin, mut written: &[u8], known: Known<'_>, now: Now) {
    while let Some((batch, rest)) = Batch::split(written).expect("whole batches") {
        let records = batch.read().expect("well-formed records");
        engine.merge_batch(origin, records, known, now, 0).expect("of databases there are");
        written = rest;
    }
}
