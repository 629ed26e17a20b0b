//! MONITOR: every command as it runs, to those who asked. One load per command while nobody does.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use super::client::{Client, ClientFlags};
use super::command::{Command, Flags, Group};
use super::session::Session;
use crate::resp::args::Args;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Monitors {
    any: AtomicBool,
    clients: Mutex<Vec<Arc<Client>>>,
}

impl Monitors {
    /// Whether anybody watches.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// A client watches from now on.
    pub fn add(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock();
        if !clients.iter().any(|held| Arc::ptr_eq(held, client)) {
            clients.push(client.clone());
        }
        client.set(ClientFlags::MONITOR);
        self.any.store(true, Relaxed);
    }

    /// A client no longer watches.
    pub fn remove(&self, client: &Arc<Client>) {
        if !client.flags().contains(ClientFlags::MONITOR) {
            return;
        }
        let mut clients = self.clients.lock();
        clients.retain(|held| !Arc::ptr_eq(held, client));
        client.unset(ClientFlags::MONITOR);
        self.any.store(!clients.is_empty(), Relaxed);
    }

    /// Tells of a command, unless it is one of those that are not shown.
    pub fn tell(&self, session: &Session, command: &Command, args: Args<'_>, now_us: u64) {
        if command.flags.intersects(Flags::SKIP_MONITOR | Flags::ADMIN) {
            return;
        }
        let mut line = format!(
            "+{}.{:06} [{} {}]",
            now_us / 1_000_000,
            now_us % 1_000_000,
            session.db,
            session.client.addr
        );
        for arg in shown(command, args) {
            let _ = write!(line, " \"{}\"", quoted(&arg));
        }
        line.push_str("\r\n");
        for client in self.clients.lock().iter() {
            client.push(line.as_bytes());
        }
    }
}

/// The arguments as others may see them: without passwords.
pub fn shown<'a>(command: &Command, args: Args<'a>) -> Vec<Cow<'a, [u8]>> {
    const HIDDEN: &[u8] = b"(redacted)";
    let mut shown: Vec<Cow<'_, [u8]>> = args.iter().map(Cow::Borrowed).collect();
    match command.name {
        "auth" => shown.iter_mut().skip(1).for_each(|arg| *arg = HIDDEN.into()),
        "hello" => {
            if let Some(at) = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"auth")) {
                shown.iter_mut().skip(at + 1).take(2).for_each(|arg| *arg = HIDDEN.into());
            }
        }
        // CONFIG SET; the other SET has its key there.
        "set" if command.group == Group::Server => {
            for at in (2..args.len().saturating_sub(1)).step_by(2) {
                let secret =
                    [&b"requirepass"[..], b"masterauth", b"tls-key-file-pass", b"tls-client-key-file-pass"];
                if secret.iter().any(|word| args[at].eq_ignore_ascii_case(word)) {
                    shown[at + 1] = HIDDEN.into();
                }
            }
        }
        _ => {}
    }
    shown
}

/// Bytes between quotes, as Redis writes them.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend(['\\', char::from(*byte)]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Fixture;
    use crate::resp::args::OwnedArgs;

    fn check(line: &str, expected: &str) {
        let args: OwnedArgs = line.split(' ').collect();
        let engine = Fixture::new().engine;
        let known = engine.registry.find(&args.args()[0]).expect("a command");
        let known = engine.registry.find_sub(known, &args.args()[1]).unwrap_or(known);
        let shown: Vec<String> = shown(known.command, args.args()).iter().map(|arg| quoted(arg)).collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn passwords_are_hidden() {
        check("AUTH bob s3cret", "AUTH (redacted) (redacted)");
        check("hello 3 AUTH bob s3cret SETNAME x", "hello 3 AUTH (redacted) (redacted) SETNAME x");
        check("config set hz 5 requirepass x", "config set hz 5 requirepass (redacted)");
        check("config set requirepass", "config set requirepass");
        check("set requirepass x", "set requirepass x");
    }

    #[test]
    fn bytes_that_do_not_print_are_escaped() {
        assert_eq!(quoted(b"a\"\\\n\x00\xff~"), "a\\\"\\\\\\n\\x00\\xff~");
    }
}
