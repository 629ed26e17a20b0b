//! How soon a pair shows on one side what the other holds: the helper of `side-by-side.sh`.
//!
//! ```text
//! visibility lag A B COUNT      SET on A, then GET on B until it is there: p50 and p99 in microseconds
//! visibility join A B           until B, which may still have to start, has as many keys as A: seconds, and the
//!                               slowest SET on A meanwhile in microseconds
//! ```
//! Without these arguments, as under `cargo bench`, it does nothing.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A pair that has not come together by then never will.
const JOIN_MAX: Duration = Duration::from_secs(60);

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["lag", a, b, count] => {
            lag(&mut Client::connect(a)?, &mut Client::connect(b)?, count.parse().unwrap_or(1000))
        }
        ["join", a, b] => join(&mut Client::connect(a)?, b),
        _ => {
            println!("usage: visibility lag A B COUNT | visibility join A B");
            Ok(())
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Client(BufReader::new(stream)))
    }

    /// Sends an inline request and returns the reply's last line.
    fn ask(&mut self, request: &str) -> io::Result<String> {
        self.0.get_mut().write_all(format!("{request}\r\n").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        if line.starts_with('$') && line != "$-1\r\n" {
            line.clear();
            self.0.read_line(&mut line)?;
        }
        Ok(line.trim_end().to_owned())
    }
}

fn lag(a: &mut Client, b: &mut Client, count: usize) -> io::Result<()> {
    let mut lags_us = Vec::with_capacity(count);
    for n in 0..count.max(1) {
        let value = n.to_string();
        a.ask(&format!("SET visibility {value}"))?;
        let acknowledged = Instant::now();
        while b.ask("GET visibility")? != value {
            if acknowledged.elapsed() > Duration::from_secs(10) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        lags_us.push(acknowledged.elapsed().as_micros());
        // Idle again: the next write finds both nodes asleep.
        std::thread::sleep(Duration::from_millis(1));
    }
    lags_us.sort_unstable();
    let at = |percent: usize| lags_us[(lags_us.len() * percent / 100).min(lags_us.len() - 1)];
    println!("{} {}", at(50), at(99));
    Ok(())
}

fn join(giver: &mut Client, newcomer: &str) -> io::Result<()> {
    let started = Instant::now();
    let mut slowest_us = 0;
    let mut connected = None;
    loop {
        for _ in 0..10 {
            let asked = Instant::now();
            giver.ask("SET visibility x")?;
            slowest_us = slowest_us.max(asked.elapsed().as_micros());
            std::thread::sleep(Duration::from_micros(200));
        }
        let Some(client) = &mut connected else {
            connected = Client::connect(newcomer).ok();
            continue;
        };
        if client.ask("DBSIZE")? == giver.ask("DBSIZE")? {
            println!("{:.2} {slowest_us}", started.elapsed().as_secs_f64());
            return Ok(());
        }
        if started.elapsed() > JOIN_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}
