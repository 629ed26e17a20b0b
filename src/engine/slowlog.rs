//! The slow log: commands that took longer than `slowlog-log-slower-than`, the latest first.

use std::collections::VecDeque;

use super::command::Command;
use super::monitor::shown;
use super::session::Session;
use crate::resp::args::Args;

/// Arguments kept of a command; the last tells how many more there were.
const ARGS_MAX: usize = 32;
/// Bytes kept of an argument.
const BYTES_MAX: usize = 128;

/// A slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Rising; not reset with the log.
    pub id: u64,
    /// When it ended, in Unix seconds.
    pub at_s: u64,
    /// How long it took, in microseconds.
    pub us: u64,
    /// Its arguments, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub addr: String,
    /// The client's name.
    pub name: Vec<u8>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct SlowLog {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl SlowLog {
    /// Adds an entry and forgets what is beyond `max`.
    pub fn add(
        &mut self,
        session: &Session,
        command: &Command,
        args: Args<'_>,
        us: u64,
        at_s: u64,
        max: u64,
    ) {
        let id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(Entry {
            id,
            at_s,
            us,
            args: shortened(command, args),
            addr: session.client.addr.clone(),
            name: session.client.name.lock().clone(),
        });
        self.entries.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    }

    /// The latest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

fn shortened(command: &Command, args: Args<'_>) -> Vec<Vec<u8>> {
    let kept = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut out: Vec<Vec<u8>> =
        shown(command, args.slice(..kept)).into_iter().map(|arg| shortened_bytes(&arg)).collect();
    if kept < args.len() {
        out.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    out
}

/// The first bytes, and how many more there were.
pub fn shortened_bytes(bytes: &[u8]) -> Vec<u8> {
    match bytes.len().checked_sub(BYTES_MAX) {
        None | Some(0) => bytes.to_vec(),
        Some(more) => [&bytes[..BYTES_MAX], format!("... ({more} more bytes)").as_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Fixture;
    use crate::resp::args::OwnedArgs;

    #[test]
    fn long_commands_are_shortened() {
        let command = Fixture::new().engine.find(b"set").unwrap();
        let shortened = |args| shortened(command, args);
        let many: OwnedArgs = (0..40).map(|n| n.to_string()).collect();
        let args = shortened(many.args());
        assert_eq!((args.len(), args[31].as_slice()), (32, &b"... (9 more arguments)"[..]));
        let long: OwnedArgs = ["x".repeat(130)].into_iter().collect();
        assert_eq!(shortened(long.args())[0], ("x".repeat(128) + "... (2 more bytes)").into_bytes());
        let whole: OwnedArgs = (0..32).map(|_| "x".repeat(128)).collect();
        assert!(shortened(whole.args()).iter().all(|arg| arg.len() == 128));
    }
}
