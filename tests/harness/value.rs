//! A reply of RESP2 or RESP3, as value and as bytes. Written apart from `src/resp`, so that it can disagree.

use std::fmt;

/// One reply. Doubles keep their text: how a number is printed is part of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`; which of them is in the raw bytes.
    Null,
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Double(String),
    Bool(bool),
    Big(String),
    Verbatim(Vec<u8>),
}

/// The end of the first line from `at`: index of its `\r`.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    bytes[at..].windows(2).position(|pair| pair == b"\r\n").map(|found| at + found)
}

fn number(bytes: &[u8]) -> i64 {
    let text = std::str::from_utf8(bytes).unwrap_or("?");
    text.parse().unwrap_or_else(|_| panic!("not a number in a reply: {}", show_bytes(bytes)))
}

/// Length in bytes of the first complete reply in `bytes`, if it is complete.
///
/// # Panics
/// When the bytes are no RESP.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut missing) = (0, 1usize);
    while missing > 0 {
        let kind = *bytes.get(at)?;
        let end = line_end(bytes, at + 1)?;
        let head = &bytes[at + 1..end];
        at = end + 2;
        missing -= 1;
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'=' | b'!' => {
                if let Ok(length) = usize::try_from(number(head)) {
                    at += length + 2;
                    if bytes.len() < at {
                        return None;
                    }
                }
            }
            b'*' | b'~' | b'>' => missing += number(head).max(0) as usize,
            b'%' => missing += 2 * number(head).max(0) as usize,
            // An attribute comes before the value it belongs to.
            b'|' => missing += 2 * number(head).max(0) as usize + 1,
            _ => panic!("not a reply: {}", show_bytes(&bytes[..bytes.len().min(200)])),
        }
    }
    Some(at)
}

impl Value {
    /// Parses one complete reply.
    pub fn parse(frame: &[u8]) -> Value {
        let mut at = 0;
        let value = parse_at(frame, &mut at);
        assert_eq!(at, frame.len(), "bytes after the reply {}", show_bytes(frame));
        value
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The integer, also one that came as text.
    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(number) => *number,
            other => other.text().parse().unwrap_or_else(|_| panic!("not an integer: {other}")),
        }
    }

    /// The text of a string, an error or a number.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Value::Simple(text) | Value::Error(text) | Value::Double(text) | Value::Big(text) => text.clone(),
            Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Verbatim(bytes) => String::from_utf8_lossy(&bytes[4..]).into_owned(),
            Value::Int(number) => number.to_string(),
            other => panic!("not a text: {other}"),
        }
    }

    /// The elements of an array, set or push; keys and values in turn of a map.
    #[track_caller]
    pub fn items(&self) -> Vec<Value> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items.clone(),
            Value::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect(),
            other => panic!("not an aggregate: {other}"),
        }
    }

    /// The elements as text, sorted: for replies whose order says nothing.
    #[track_caller]
    pub fn sorted(&self) -> Vec<String> {
        let mut texts = self.texts();
        texts.sort();
        texts
    }

    /// The elements as text.
    #[track_caller]
    pub fn texts(&self) -> Vec<String> {
        self.items().iter().map(Value::text).collect()
    }
}

fn parse_at(bytes: &[u8], at: &mut usize) -> Value {
    let kind = bytes[*at];
    let end = line_end(bytes, *at + 1).expect("a complete frame");
    let head = &bytes[*at + 1..end];
    let text = || String::from_utf8_lossy(head).into_owned();
    *at = end + 2;
    let blob = |at: &mut usize| {
        let length = usize::try_from(number(head)).ok()?;
        *at += length + 2;
        Some(bytes[*at - length - 2..*at - 2].to_vec())
    };
    let items = |at: &mut usize| (0..number(head)).map(|_| parse_at(bytes, at)).collect();
    match kind {
        b'+' => Value::Simple(text()),
        b'-' => Value::Error(text()),
        b':' => Value::Int(number(head)),
        b'_' => Value::Null,
        b',' => Value::Double(text()),
        b'#' => Value::Bool(head == b"t"),
        b'(' => Value::Big(text()),
        b'$' => blob(at).map_or(Value::Null, Value::Bulk),
        b'=' => blob(at).map_or(Value::Null, Value::Verbatim),
        b'!' => Value::Error(String::from_utf8_lossy(&blob(at).unwrap_or_default()).into_owned()),
        b'*' if number(head) < 0 => Value::Null,
        b'*' => Value::Array(items(at)),
        b'~' => Value::Set(items(at)),
        b'>' => Value::Push(items(at)),
        b'%' => Value::Map((0..number(head)).map(|_| (parse_at(bytes, at), parse_at(bytes, at))).collect()),
        b'|' => {
            for _ in 0..2 * number(head) {
                parse_at(bytes, at);
            }
            parse_at(bytes, at)
        }
        _ => panic!("not a reply: {}", show_bytes(&bytes[*at..])),
    }
}

/// `assert_eq!(client.cmd(&["GET", "k"]), "v")`: a string, status or error with this text.
impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        match self {
            Value::Simple(text) | Value::Error(text) | Value::Double(text) => text == other,
            Value::Bulk(bytes) => bytes == other.as_bytes(),
            _ => false,
        }
    }
}

impl PartialEq<i64> for Value {
    fn eq(&self, other: &i64) -> bool {
        matches!(self, Value::Int(number) if number == other)
    }
}

/// An array or set with these texts, in this order.
impl<const N: usize> PartialEq<[&str; N]> for Value {
    fn eq(&self, other: &[&str; N]) -> bool {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => {
                items.len() == N && items.iter().zip(other).all(|(item, text)| item == text)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Simple(text) | Value::Double(text) | Value::Big(text) => write!(f, "{text}"),
            Value::Error(text) => write!(f, "(error) {text}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Bulk(bytes) | Value::Verbatim(bytes) => write!(f, "\"{}\"", show_bytes(bytes)),
            Value::Null => write!(f, "(nil)"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Array(items) | Value::Set(items) | Value::Push(items) => {
                let texts: Vec<String> = items.iter().map(Value::to_string).collect();
                write!(f, "[{}]", texts.join(" "))
            }
            Value::Map(pairs) => {
                let texts: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                write!(f, "{{{}}}", texts.join(", "))
            }
        }
    }
}

/// Bytes as readable text: printable ASCII as it is, the rest escaped.
pub fn show_bytes(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
