//! A small blocking client that keeps the bytes it got.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::value::{Value, frame_len};

/// One connection. RESP2 until [`Client::hello`].
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    start: usize,
    /// RESP3 push messages that came while a reply was awaited by [`Client::cmd`].
    pub pushes: Vec<Value>,
}

/// A silent server fails a test after this time rather than hanging it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

impl Client {
    /// Connects to a port of 127.0.0.1.
    ///
    /// # Panics
    /// When nothing listens there.
    #[track_caller]
    pub fn to(port: u16) -> Client {
        Client::connect(port).unwrap_or_else(|error| panic!("connect to port {port}: {error}"))
    }

    /// # Errors
    /// When nothing listens there.
    pub fn connect(port: u16) -> io::Result<Client> {
        Client::over(TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), REPLY_TIMEOUT)?)
    }

    /// A client on a connection that is there already.
    ///
    /// # Errors
    /// When the socket takes no timeouts.
    pub fn over(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Client { stream, received: Vec::new(), start: 0, pushes: Vec::new() })
    }

    /// How long a read may wait from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("a timeout above zero");
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Switches to RESP 2 or 3.
    #[track_caller]
    pub fn hello(&mut self, protocol: u8) -> Value {
        let reply = self.cmd(&["HELLO", &protocol.to_string()]);
        assert!(!reply.is_error(), "HELLO {protocol}: {reply}");
        reply
    }

    /// Sends a command and returns its reply, which may be an error reply. Pushes are put aside, except
    /// that (un)subscribing returns its first confirmation.
    ///
    /// # Panics
    /// When the connection fails or the reply does not come in time.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.try_cmd(args).unwrap_or_else(|error| panic!("{}: {error}", show_args(args)))
    }

    /// Like [`Client::cmd`], and an error reply panics too.
    #[track_caller]
    pub fn ok<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        let reply = self.cmd(args);
        assert!(!reply.is_error(), "{}: {reply}", show_args(args));
        reply
    }

    /// A command written as one line, arguments between blanks: `client.run("SET k v")`.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Value {
        let args: Vec<&str> = line.split_ascii_whitespace().collect();
        self.cmd(&args)
    }

    /// # Errors
    /// When the connection fails or the reply does not come in time.
    pub fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.send(args)?;
        let name = args.first().map_or(Vec::new(), |name| name.as_ref().to_ascii_uppercase());
        let subscribes = name.ends_with(b"SUBSCRIBE");
        loop {
            match Value::parse(&self.read_raw()?) {
                push @ Value::Push(_) if !subscribes => self.pushes.push(push),
                reply => return Ok(reply),
            }
        }
    }

    /// # Errors
    /// When the connection fails.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        let mut frame = Vec::new();
        encode(args, &mut frame);
        self.send_raw(&frame)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends all commands at once, then reads as many replies.
    #[track_caller]
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Vec<Value> {
        let mut frames = Vec::new();
        for args in commands {
            encode(args, &mut frames);
        }
        self.send_raw(&frames).expect("send a pipeline");
        commands.iter().map(|_| self.read()).collect()
    }

    /// The next frame, whatever it is.
    #[track_caller]
    pub fn read(&mut self) -> Value {
        Value::parse(&self.read_raw().unwrap_or_else(|error| panic!("read a reply: {error}")))
    }

    /// The bytes of the next frame.
    ///
    /// # Errors
    /// When the connection ends (`UnexpectedEof`) or stays silent for the timeout.
    pub fn read_raw(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let unread = &self.received[self.start..];
            if let Some(length) = frame_len(unread) {
                let frame = unread[..length].to_vec();
                self.start += length;
                return Ok(frame);
            }
            self.received.drain(..self.start);
            self.start = 0;
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// True when the server has closed this connection within the timeout and sent nothing before.
    pub fn is_closed(&mut self) -> bool {
        match self.read_raw() {
            Ok(_) => false,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// One field of INFO, if it is there.
    #[track_caller]
    pub fn info(&mut self, section: &str, field: &str) -> Option<String> {
        let text = self.ok(&["INFO", section]).text();
        text.lines()
            .find_map(|line| line.split_once(':').filter(|(name, _)| *name == field))
            .map(|(_, value)| value.trim().to_owned())
    }
}

/// Appends a command as the array of bulk strings that clients send.
pub fn encode<A: AsRef<[u8]>>(args: &[A], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        into.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        into.extend_from_slice(arg);
        into.extend_from_slice(b"\r\n");
    }
}

fn show_args<A: AsRef<[u8]>>(args: &[A]) -> String {
    let texts: Vec<String> = args.iter().map(|arg| super::show_bytes(arg.as_ref())).collect();
    texts.join(" ")
}
