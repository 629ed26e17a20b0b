//! When two replies are the same. All that may differ between Meldis and Redis 7.0.15 is in this file.

use crate::harness::{Value, frame_len, show_bytes};

/// How the replies of a command are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Byte for byte.
    Exact,
    /// The order of the elements says nothing.
    Unordered,
    /// Likewise for field and value in turn.
    Pairs,
    /// Chance decides: only types and sizes count.
    Shape,
    /// A count of seconds: 2 either way, as the servers answer one after the other.
    Seconds,
    /// A count of milliseconds: 2000 either way.
    Millis,
    /// HELLO: name, version and id are each server's own.
    Hello,
    /// OBJECT ENCODING: Meldis tells it from the contents, Redis remembers what the value once was.
    Encoding,
    /// A complete iteration with a cursor, compared as a set.
    Scan,
    /// Channels in any order, each frame with a running count: all elements of all frames as one multiset.
    Scattered,
}

impl Compare {
    /// For the second and later commands of a shape, which have no entry of their own.
    pub(crate) fn of_follower(args: &[Vec<u8>]) -> Compare {
        let name = args[0].to_ascii_uppercase();
        match name.as_slice() {
            b"HELLO" => Compare::Hello,
            b"UNSUBSCRIBE" | b"PUNSUBSCRIBE" | b"SUNSUBSCRIBE" if args.len() == 1 => Compare::Scattered,
            b"SMEMBERS" | b"HKEYS" | b"HVALS" | b"KEYS" => Compare::Unordered,
            b"HGETALL" => Compare::Pairs,
            b"TTL" | b"EXPIRETIME" => Compare::Seconds,
            b"PTTL" | b"PEXPIRETIME" => Compare::Millis,
            _ => Compare::Exact,
        }
    }

    /// Whether these replies to one command agree.
    pub(crate) fn agrees(self, redis: &[u8], subject: &[u8]) -> bool {
        if redis == subject {
            return true;
        }
        // A queued command, an error or a nil is the same everywhere.
        if !is_comparable(redis) || !is_comparable(subject) {
            return false;
        }
        match self {
            Compare::Exact | Compare::Scan => false,
            Compare::Unordered | Compare::Scattered => sorted(redis, 1) == sorted(subject, 1),
            Compare::Pairs => {
                // Of RESP3's array of pairs and map of pairs, each element is a pair already.
                let is_flat =
                    elements(redis).1.first().is_none_or(|first| redis[0] == b'*' && first[0] != b'*');
                let width = if is_flat { 2 } else { 1 };
                sorted(redis, width) == sorted(subject, width)
            }
            Compare::Shape => shape(&Value::parse(redis)) == shape(&Value::parse(subject)),
            Compare::Seconds => is_near(redis, subject, 2),
            Compare::Millis => is_near(redis, subject, 2000),
            Compare::Hello => hello(redis) == hello(subject),
            Compare::Encoding => match (Value::parse(redis), Value::parse(subject)) {
                (Value::Bulk(one), Value::Bulk(other)) => matches!(
                    (one.as_slice(), other.as_slice()),
                    (b"raw" | b"embstr", b"embstr" | b"int")
                        | (b"hashtable", b"listpack" | b"intset")
                        | (b"skiplist", b"listpack")
                ),
                _ => false,
            },
        }
    }
}

fn is_comparable(reply: &[u8]) -> bool {
    !matches!(reply.first(), None | Some(b'-' | b'+' | b'_'))
}

/// The head of an aggregate and the raw bytes of its elements, a map's pairs in one.
pub(crate) fn elements(reply: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let head_end = reply.windows(2).position(|pair| pair == b"\r\n").map_or(reply.len(), |at| at + 2);
    let (head, mut rest) = reply.split_at(head_end);
    let mut found = Vec::new();
    if !matches!(head[0], b'*' | b'~' | b'%' | b'>') {
        return (reply, found);
    }
    while !rest.is_empty() {
        let mut length = frame_len(rest).expect("a complete reply");
        if head[0] == b'%' {
            length += frame_len(&rest[length..]).expect("a complete reply");
        }
        found.push(&rest[..length]);
        rest = &rest[length..];
    }
    (head, found)
}

fn sorted(reply: &[u8], width: usize) -> (&[u8], Vec<Vec<u8>>) {
    let (head, elements) = elements(reply);
    let mut chunks: Vec<Vec<u8>> = elements.chunks(width).map(<[&[u8]]>::concat).collect();
    chunks.sort();
    (head, chunks)
}

/// A value with its texts blanked out.
fn shape(value: &Value) -> String {
    match value {
        Value::Bulk(_) => "$".to_owned(),
        Value::Int(_) => ":".to_owned(),
        Value::Double(_) => ",".to_owned(),
        Value::Array(_) | Value::Set(_) | Value::Push(_) | Value::Map(_) => {
            format!("({})", value.items().iter().map(shape).collect::<String>())
        }
        other => other.to_string(),
    }
}

/// Two counts of time. The negative ones have a meaning of their own.
fn is_near(redis: &[u8], subject: &[u8], tolerance: i64) -> bool {
    match (Value::parse(redis), Value::parse(subject)) {
        (Value::Int(one), Value::Int(other)) => one >= 0 && other >= 0 && (one - other).abs() <= tolerance,
        _ => false,
    }
}

fn hello(reply: &[u8]) -> (u8, Vec<String>) {
    let items = Value::parse(reply).items();
    let own = ["server", "version", "id"];
    let pairs = items.chunks(2).map(|pair| match own.iter().find(|name| pair[0] == **name) {
        Some(name) => format!("{name} {}", shape(&pair[1])),
        None => format!("{} {}", pair[0], pair[1]),
    });
    (reply[0], pairs.collect())
}

/// A reply as text on one line, its protocol visible.
pub(crate) fn show(reply: &[u8]) -> String {
    const SHOWN: usize = 600;
    let text = show_bytes(&reply[..reply.len().min(SHOWN)]);
    if reply.len() > SHOWN { format!("{text}... ({} bytes)", reply.len()) } else { text }
}
