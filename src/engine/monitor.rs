//! MONITOR: every command as it runs, to those who asked. One load per command while nobody does.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use super::client::{Client, ClientFlags};
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

    /// Tells of a command.
    pub fn tell(&self, session: &Session, name: &str, args: Args<'_>, now_us: u64) {
        let mut line = format!("+{}.{:06} [{} {}]", now_us / 1_000_000, now_us % 1_000_000, session.db, session.client.addr);
        for arg in shown(name, args) {
            let _ = write!(line, " \"{}\"", quoted(&arg));
        }
        line.push_str("\r\n");
        for client in self.clients.lock().iter() {
            client.push(line.as_bytes());
        }
    }
}

/// The arguments as others may see them: without passwords. `name` is the command's full name.
pub fn shown<'a>(name: &str, args: Args<'a>) -> Vec<Cow<'a, [u8]>> {
    const HIDDEN: &[u8] = b"(redacted)";
    let mut shown: Vec<Cow<'_, [u8]>> = args.iter().map(Cow::Borrowed).collect();
    match name {
        "auth" => shown.iter_mut().skip(1).for_each(|arg| *arg = HIDDEN.into()),
        "hello" => {
            if let Some(at) = args.iter().position(|arg| arg.eq_ignore_ascii_case(b"auth")) {
                shown.iter_mut().skip(at + 1).take(2).for_each(|arg| *arg = HIDDEN.into());
            }
        }
        "config|set" => {
            for at in (2..args.len().saturating_sub(1)).step_by(2) {
                let secret = [&b"requirepass"[..], b"masterauth", b"tls-key-file-pass", b"tls-client-key-file-pass"];
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
    use crate::resp::args::OwnedArgs;

    fn check(name: &str, line: &str, expected: &str) {
        let args: OwnedArgs = line.split(' ').collect();
        let shown: Vec<String> = shown(name, args.args()).iter().map(|arg| quoted(arg)).collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn passwords_are_hidden() {
        check("auth", "AUTH bob s3cret", "AUTH (redacted) (redacted)");
        check("hello", "hello 3 AUTH bob s3cret SETNAME x", "hello 3 AUTH (redacted) (redacted) SETNAME x");
        check("config|set", "config set hz 5 requirepass x", "config set hz 5 requirepass (redacted)");
        check("config|set", "config set requirepass", "config set requirepass");
        check("set", "set auth x", "set auth x");
    }

    #[test]
    fn bytes_that_do_not_print_are_escaped() {
        assert_eq!(quoted(b"a\"\\\n\x00\xff~"), "a\\\"\\\\\\n\\x00\\xff~");
    }
}
