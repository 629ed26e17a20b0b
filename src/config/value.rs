//! The parsed values of directives, and their texts: what CONFIG GET answers and what a configuration line says.
//!
//! Invariant: printing a value as lines and parsing those lines (see [`Kind`]) gives the same value.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::kind::{Kind, integer};
use super::lines::quote;

/// A parsed value. Which variant a directive has follows from its [`Kind`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Flag(bool),
    Number(i128),
    Percent(u8),
    Text(String),
    Words(Vec<String>),
    Lines(Vec<Vec<String>>),
    Limits(OutputLimits),
    Saves(Vec<SavePoint>),
    Events(Events),
    Partners(Vec<HostPort>),
    Blocks(Vec<IpNet>),
}

/// A host (name or address) and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Name or address, v6 without brackets.
    pub host: String,
    /// 1-65535; 0 is accepted where Redis accepts it.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl HostPort {
    /// Reads `host:port`, `v4:port` or `[v6]:port`.
    pub fn parse(text: &str) -> Option<HostPort> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once("]:")?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, port)
            }
            None => text.rsplit_once(':').filter(|(host, _)| !host.contains(':'))?,
        };
        let port = integer(port).and_then(|n| u16::try_from(n).ok()).filter(|&n| n != 0)?;
        let clean = !host.is_empty() && !host.contains(char::is_whitespace);
        clean.then(|| HostPort { host: host.to_owned(), port })
    }
}

/// Bytes a client's unread replies may take. Zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// Bytes at which the client is closed at once.
    pub hard: u64,
    /// Bytes at which it is closed after `soft_seconds`.
    pub soft: u64,
    /// Seconds above `soft`.
    pub soft_seconds: u64,
}

/// The output limits of the three classes of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OutputLimits {
    /// Ordinary clients and MONITOR.
    pub normal: OutputLimit,
    /// Replicas and partners.
    pub replica: OutputLimit,
    /// Clients with a subscription.
    pub pubsub: OutputLimit,
}

/// Save after this many seconds when there were so many changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds, at least 1.
    pub seconds: i64,
    /// Changes, at least 0.
    pub changes: i64,
}

bitflags::bitflags! {
    /// Classes of keyspace events (`notify-keyspace-events`) and the two channels they go to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Events: u16 {
        /// `g`: DEL, EXPIRE, RENAME and the like.
        const GENERIC = 1;
        /// `$`
        const STRING = 1 << 1;
        /// `l`
        const LIST = 1 << 2;
        /// `s`
        const SET = 1 << 3;
        /// `h`
        const HASH = 1 << 4;
        /// `z`
        const ZSET = 1 << 5;
        /// `x`: a key expired.
        const EXPIRED = 1 << 6;
        /// `e`: a key was evicted.
        const EVICTED = 1 << 7;
        /// `t`
        const STREAM = 1 << 8;
        /// `d`: module types.
        const MODULE = 1 << 9;
        /// `n`: a key was created. Not in `A`.
        const NEW = 1 << 10;
        /// `K`: publish to `__keyspace@N__`.
        const KEYSPACE = 1 << 11;
        /// `E`: publish to `__keyevent@N__`.
        const KEYEVENT = 1 << 12;
        /// `m`: a key was missed. Not in `A`.
        const KEY_MISS = 1 << 13;
        /// `A`: all classes but `m` and `n`.
        const ALL = (1 << 10) - 1;
    }
}

const EVENT_LETTERS: [(char, Events); 14] = [
    ('g', Events::GENERIC),
    ('$', Events::STRING),
    ('l', Events::LIST),
    ('s', Events::SET),
    ('h', Events::HASH),
    ('z', Events::ZSET),
    ('x', Events::EXPIRED),
    ('e', Events::EVICTED),
    ('t', Events::STREAM),
    ('d', Events::MODULE),
    ('n', Events::NEW),
    ('K', Events::KEYSPACE),
    ('E', Events::KEYEVENT),
    ('m', Events::KEY_MISS),
];

impl Events {
    /// Reads letters; `None` when one is unknown.
    pub fn parse(text: &str) -> Option<Events> {
        text.chars().try_fold(Events::empty(), |all, letter| {
            let one = match letter {
                'A' => Events::ALL,
                _ => EVENT_LETTERS.iter().find(|(l, _)| *l == letter)?.1,
            };
            Some(all | one)
        })
    }
}

impl std::fmt::Display for Events {
    /// Letters in Redis's order. Unlike 7.0.15, `n` is shown beside `A`: Redis's CONFIG REWRITE loses it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.contains(Events::ALL);
        if all {
            f.write_str("A")?;
        }
        EVENT_LETTERS
            .iter()
            .filter(|(_, flag)| self.contains(*flag) && !(all && Events::ALL.contains(*flag)))
            .try_for_each(|(letter, _)| write!(f, "{letter}"))
    }
}

/// An address or block. v4-mapped v6 becomes v4, so that it matches however the socket shows the client;
/// host bits are cut off.
pub fn block(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    let mapped = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => {
            v6.addr().to_ipv4_mapped().map(|a| (a, v6.prefix_len() - 96))
        }
        IpNet::V6(_) | IpNet::V4(_) => None,
    };
    match mapped {
        Some((address, bits)) => Some(Ipv4Net::new(address, bits).ok()?.trunc().into()),
        None => Some(net.trunc()),
    }
}

impl Value {
    /// CONFIG GET's answers: one, but one per partner where there are several.
    pub(super) fn rows(&self, kind: &Kind) -> Vec<String> {
        match self {
            Value::Partners(list) if !list.is_empty() => list.iter().map(|p| partner_text(p, kind)).collect(),
            _ => vec![self.text(kind)],
        }
    }

    /// CONFIG GET's text: memory in bytes, words joined by blanks.
    pub(super) fn text(&self, kind: &Kind) -> String {
        match self {
            Value::Flag(yes) => if *yes { "yes" } else { "no" }.to_owned(),
            Value::Number(n) if matches!(kind, Kind::Octal) => format!("{n:o}"),
            Value::Number(n) => n.to_string(),
            Value::Percent(n) => format!("{n}%"),
            Value::Text(text) => text.clone(),
            Value::Words(words) => words.join(" "),
            Value::Lines(lines) => lines.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" "),
            Value::Limits(limits) => {
                let classes = classes(limits);
                let class = |(name, l): &(&str, OutputLimit)| {
                    let name = if *name == "replica" { "slave" } else { name };
                    format!("{name} {} {} {}", l.hard, l.soft, l.soft_seconds)
                };
                classes.iter().map(class).collect::<Vec<_>>().join(" ")
            }
            Value::Saves(points) => {
                points.iter().map(|p| format!("{} {}", p.seconds, p.changes)).collect::<Vec<_>>().join(" ")
            }
            Value::Events(events) => events.to_string(),
            Value::Partners(list) => list.iter().map(|p| partner_text(p, kind)).collect::<Vec<_>>().join(" "),
            Value::Blocks(list) => list.iter().map(block_text).collect::<Vec<_>>().join(" "),
        }
    }

    /// The argument texts of the configuration lines that give this value; none for an empty repeatable.
    pub(super) fn lines(&self, kind: &Kind) -> Vec<String> {
        let join = |words: &[String]| words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ");
        match self {
            Value::Flag(_) | Value::Percent(_) => vec![self.text(kind)],
            Value::Number(n) => match kind {
                Kind::Memory { .. } | Kind::MemoryOrPercent => vec![memory_text(*n)],
                _ => vec![self.text(kind)],
            },
            Value::Text(text) if matches!(kind, Kind::Enum(_)) => vec![text.clone()],
            Value::Text(text) => vec![format!("\"{}\"", super::lines::escape(text))],
            Value::Words(words) if words.is_empty() => vec!["\"\"".into()],
            Value::Words(words) => vec![join(words)],
            Value::Lines(lines) => lines.iter().map(|line| join(line)).collect(),
            Value::Limits(limits) => classes(limits)
                .iter()
                .map(|(name, l)| {
                    format!(
                        "{name} {} {} {}",
                        memory_text(l.hard.into()),
                        memory_text(l.soft.into()),
                        l.soft_seconds
                    )
                })
                .collect(),
            Value::Saves(points) if points.is_empty() => vec!["\"\"".into()],
            Value::Saves(points) => points.iter().map(|p| format!("{} {}", p.seconds, p.changes)).collect(),
            Value::Events(events) => vec![format!("\"{events}\"")],
            Value::Partners(list) => list
                .iter()
                .map(|p| match kind {
                    Kind::Peers => p.to_string(),
                    _ => format!("{} {}", quote(&p.host), p.port),
                })
                .collect(),
            Value::Blocks(list) => list.iter().map(block_text).collect(),
        }
    }
}

fn partner_text(partner: &HostPort, kind: &Kind) -> String {
    match kind {
        Kind::Peers => partner.to_string(),
        _ => format!("{} {}", partner.host, partner.port),
    }
}

/// What [`block`] reads: an address alone where the block is just that.
pub fn block_text(block: &IpNet) -> String {
    if block.prefix_len() == block.max_prefix_len() { block.addr().to_string() } else { block.to_string() }
}

fn classes(limits: &OutputLimits) -> [(&'static str, OutputLimit); 3] {
    [("normal", limits.normal), ("replica", limits.replica), ("pubsub", limits.pubsub)]
}

fn memory_text(n: i128) -> String {
    [(30, "gb"), (20, "mb"), (10, "kb")]
        .iter()
        .find(|(shift, _)| n != 0 && n % (1 << shift) == 0)
        .map_or_else(|| n.to_string(), |(shift, unit)| format!("{}{unit}", n >> shift))
}
