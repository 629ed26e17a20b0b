//! A connection to a node: one question, one answer.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use meldis::resp::reply::{Protocol, Reply};
pub(crate) use redis_protocol::resp2::types::OwnedFrame as Answer;

/// For connecting, and for each answer that no timeout of its own stands for.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes asked of the socket at once.
const READ_BYTES: usize = 256 * 1024;

/// Who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct Login {
    /// The user to authenticate as.
    #[arg(long)]
    user: Option<String>,
    /// The password; better in REDISCLI_AUTH, where other users of the machine do not see it.
    #[arg(long)]
    pass: Option<String>,
}

/// See the module's head.
pub(crate) struct Client {
    /// As it was given: HOST:PORT.
    pub(crate) address: String,
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects and authenticates.
    ///
    /// # Errors
    /// With the address, if it is none, if there is no connection to be had, or if the password is wrong.
    pub(crate) fn connect(address: &str, login: &Login) -> io::Result<Client> {
        let place = place(address).map_err(|problem| trouble(address, problem))?;
        let stream = dial(place).map_err(|problem| trouble(address, &problem))?;
        stream.set_nodelay(true).map_err(|error| trouble(address, &error.to_string()))?;
        let mut client = Client { address: address.to_owned(), stream, input: Vec::new() };
        let password = login.pass.clone().or_else(|| std::env::var("REDISCLI_AUTH").ok());
        if let Some(password) = password {
            let mut words = vec!["AUTH"];
            words.extend(login.user.as_deref());
            words.push(&password);
            client.ask(&words)?;
        }
        Ok(client)
    }

    /// The answer to a command.
    ///
    /// # Errors
    /// With the address, if the connection breaks, or with the node's own words.
    pub(crate) fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Answer> {
        self.ask_within(words, TIMEOUT)
    }

    /// Likewise, for commands that wait.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) fn ask_within<W: AsRef<[u8]>>(
        &mut self,
        words: &[W],
        timeout: Duration,
    ) -> io::Result<Answer> {
        let answer = self.exchange(words, timeout).map_err(|error| {
            let problem = match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("no answer in {timeout:?}: is it a Meldis node, and does it hang?")
                }
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    format!(
                        "the connection was closed ({error}): is it a Meldis node that lets this host in?"
                    )
                }
                _ => error.to_string(),
            };
            trouble(&self.address, &problem)
        })?;
        match answer {
            Answer::Error(text) => Err(trouble(&self.address, &refusal(&text))),
            answer => Ok(answer),
        }
    }

    fn exchange<W: AsRef<[u8]>>(&mut self, words: &[W], timeout: Duration) -> io::Result<Answer> {
        let mut request = Vec::new();
        let mut writer = Reply::new(&mut request, Protocol::Resp2);
        writer.array(words.len());
        words.iter().for_each(|word| writer.bulk(word.as_ref()));
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.write_all(&request)?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let decoded = redis_protocol::resp2::decode::decode(&self.input);
            let foreign =
                |_| io::Error::other("what answers there does not speak the Redis protocol without TLS");
            if let Some((answer, length)) = decoded.map_err(foreign)? {
                self.input.drain(..length);
                return Ok(answer);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

fn trouble(address: &str, problem: &str) -> io::Error {
    io::Error::other(format!("{address}: {problem}"))
}

/// Host and port of an address. Who names something else is told what is meant.
fn place(address: &str) -> Result<(&str, u16), &'static str> {
    const PORTLESS: &str = "the port is missing: a node is named HOST:PORT, such as 127.0.0.1:6379. Nor is there a file or \
                            directory of this name";
    if Path::new(address).exists() {
        return Err(
            "this is a file or a directory: name a running node, as HOST:PORT. The directory of a node's data is \
                    what `meldis journal` reads",
        );
    }
    if address.contains('/') {
        return Err("there is no such file or directory, nor is it a node's name: that is HOST:PORT");
    }
    let (host, port) = address.rsplit_once(':').ok_or(PORTLESS)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err("an IPv6 address is put in brackets: [ADDRESS]:PORT");
    }
    match port.parse() {
        _ if host.is_empty() => Err("the host is missing: a node is named HOST:PORT, such as 127.0.0.1:6379"),
        _ if port.is_empty() => Err(PORTLESS),
        Ok(port) if port > 0 => Ok((bare.unwrap_or(host), port)),
        _ => Err("the port is a number from 1 to 65535"),
    }
}

/// A connection to the first of a host's addresses that takes one.
fn dial(place: (&str, u16)) -> Result<TcpStream, String> {
    let unknown = |error: io::Error| format!("the host is not known ({error}): see that its name is right");
    let mut last = None;
    for target in place.to_socket_addrs().map_err(unknown)? {
        match TcpStream::connect_timeout(&target, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let error = last.map_or("it has no address".to_owned(), |error| error.to_string());
    Err(format!(
        "no connection ({error}): see that the node runs, that this is its port, and that no firewall is between"
    ))
}

/// What a node refuses with, and what can be done about it.
fn refusal(text: &str) -> String {
    const CAUSES: &[(&str, &str)] = &[
        (
            "WRONGPASS",
            "the password is wrong: give the right one in REDISCLI_AUTH or with --pass, a user's with --user",
        ),
        ("NOAUTH", "the node wants a password: give it in REDISCLI_AUTH or with --pass"),
        ("ERR AUTH <password> called", "the node has no password: leave out --pass and unset REDISCLI_AUTH"),
        ("ERR unknown command", "this is no Meldis node"),
        ("ERR unknown subcommand", "this node is of another version than this tool"),
    ];
    match CAUSES.iter().find(|(begin, _)| text.starts_with(begin)) {
        Some((_, cause)) => format!("{cause}. It answers: {}", text.trim_end()),
        None => text.to_owned(),
    }
}

/// What cannot be, of a node that speaks this tool's version.
pub(crate) fn unexpected() -> io::Error {
    io::Error::other("unexpected answer: is it a Meldis node of this version?")
}

/// The items of an array.
pub(crate) fn items(answer: &Answer) -> io::Result<&[Answer]> {
    match answer {
        Answer::Array(items) => Ok(items),
        _ => Err(unexpected()),
    }
}

/// A field of a map, which RESP2 sends as an array.
pub(crate) fn field<'a>(answer: &'a Answer, name: &str) -> io::Result<&'a Answer> {
    let pairs = items(answer)?.chunks_exact(2);
    let found = pairs.into_iter().find(|pair| bytes(&pair[0]).is_some_and(|held| held == name.as_bytes()));
    found.map(|pair| &pair[1]).ok_or_else(unexpected)
}

/// The bytes of a string.
pub(crate) fn bytes(answer: &Answer) -> Option<&[u8]> {
    match answer {
        Answer::BulkString(bytes) | Answer::SimpleString(bytes) => Some(bytes),
        _ => None,
    }
}

/// A string as text.
pub(crate) fn text(answer: &Answer) -> io::Result<String> {
    bytes(answer).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).ok_or_else(unexpected)
}

/// An integer.
pub(crate) fn int(answer: &Answer) -> io::Result<i64> {
    match answer {
        Answer::Integer(n) => Ok(*n),
        _ => Err(unexpected()),
    }
}

/// Bytes as an operator can read and paste them: as redis-cli shows them.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let escaped: String = bytes
        .iter()
        .map(|byte| match byte {
            b'"' => "\\\"".to_owned(),
            b'\\' => "\\\\".to_owned(),
            0x20..=0x7e => char::from(*byte).to_string(),
            b'\n' => "\\n".to_owned(),
            b'\r' => "\\r".to_owned(),
            b'\t' => "\\t".to_owned(),
            byte => format!("\\x{byte:02x}"),
        })
        .collect();
    format!("\"{escaped}\"")
}
