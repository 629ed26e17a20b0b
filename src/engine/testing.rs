//! An engine and connections without sockets, for unit tests.

use super::session::Session;
use super::{Engine, Flow, Now, Seeds};
use crate::clock::{NTP64, NodeId, Origin};
use crate::command::TABLES;
use crate::config::{self, Config};
use crate::resp::args::OwnedArgs;

/// A server whose time stands still until it is told otherwise.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    /// In Unix milliseconds.
    pub(crate) now_ms: u64,
}

impl Node {
    /// A server with these lines as its configuration.
    pub(crate) fn new(directives: &str) -> Self {
        let config = Config::parse(&config::of_text("test", directives)).expect("a valid configuration");
        let origin = Origin::new(NodeId::new(1 << 24), 1);
        let engine = Engine::new(origin, NTP64(0), 1, Seeds([1, 2, 3, 4]), config, TABLES);
        Node { engine, now_ms: 1_700_000_000_000 }
    }

    pub(crate) fn now(&self) -> Now {
        Now::from_unix_ns(u128::from(self.now_ms) * 1_000_000)
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Session {
        self.engine.connect("127.0.0.1:1".into(), "127.0.0.1:2".into(), self.now(), 0)
    }

    /// Runs a command, its arguments separated by blanks, and what it is to be followed by.
    pub(crate) fn run(&self, session: &mut Session, line: &str) -> (String, Flow) {
        let args: OwnedArgs = line.split(' ').collect();
        let mut out = Vec::new();
        let flow = self.engine.execute(session, args.args(), &mut out, self.now(), 0);
        (String::from_utf8_lossy(&out).into_owned(), flow)
    }

    /// The reply to a command, its lines separated by blanks: `*2 $1 a :1`.
    pub(crate) fn reply(&self, session: &mut Session, line: &str) -> String {
        self.run(session, line).0.trim_end().replace("\r\n", " ")
    }

    /// Panics if the replies of one connection to a row of commands are not those expected.
    pub(crate) fn check(&self, session: &mut Session, exchange: &[(&str, &str)]) {
        for (line, expected) in exchange {
            assert_eq!(self.reply(session, line), *expected, "{line}");
        }
    }
}
