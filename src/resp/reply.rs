//! Writes replies in place, at the end of a connection's write buffer, in the protocol the client chose.
//!
//! | reply | RESP2 | RESP3 |
//! |---|---|---|
//! | simple, error, int | `+OK` `-ERR text` `:1` | the same |
//! | bulk | `$2\r\nhi` | the same |
//! | double | as bulk | `,0.5` |
//! | bool | `:1` `:0` | `#t` `#f` |
//! | verbatim | as bulk | `=6\r\ntxt:hi` |
//! | null, null array | `$-1` `*-1` | `_` |
//! | array | `*2` | the same |
//! | map of 2 | `*4` | `%2` |
//! | set, push of 2 | `*2` | `~2` `>2` |
//!
//! Every line ends with `\r\n`. An aggregate is its header; its elements are the replies that follow, and
//! nothing here counts them. Where the number is known only afterwards, write the elements behind a
//! [`Mark`] and insert the header there: one move of what was written.

use std::fmt;
use std::io::Write;

use crate::number;

/// The version of the protocol, as HELLO chooses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Until HELLO says otherwise.
    #[default]
    Resp2,
    /// Since Redis 6.
    Resp3,
}

/// A place in a reply, to come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// Appends one reply to a buffer that may already hold others.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
    /// Where this reply begins in `out`.
    start: usize,
}

impl<'a> Reply<'a> {
    /// A reply that begins at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        let start = out.len();
        Self { out, protocol, start }
    }

    /// The protocol the reply is written in.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From here on the reply is in `protocol`: HELLO answers in the one it switches to.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Bytes of this reply so far.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Whether nothing of this reply is written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status. Line ends in it become spaces.
    pub fn simple(&mut self, status: &str) {
        self.line(b'+', status);
    }

    /// An error: the code, a space and the text, as in `ERR syntax error`. Line ends at its end are dropped,
    /// others become spaces.
    pub fn error(&mut self, message: impl fmt::Display) {
        self.line(b'-', message);
    }

    /// An error whose text may be no UTF-8, like [`Reply::error`].
    pub fn error_bytes(&mut self, message: &[u8]) {
        self.out.push(b'-');
        let start = self.out.len();
        self.out.extend_from_slice(message);
        self.end_line(start);
    }

    /// A byte string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 32);
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A byte string, or null if there is none.
    #[inline]
    pub fn bulk_opt(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        if let Ok(len @ 0..100) = usize::try_from(value) {
            self.header(b':', len);
        } else {
            self.out.push(b':');
            self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// A double, with 17 digits.
    pub fn double(&mut self, value: f64) {
        match self.protocol {
            Protocol::Resp2 => {
                let mark = self.mark();
                number::write_f64(self.out, value);
                self.insert_header(mark, b'$', self.out.len() - mark.0);
            }
            Protocol::Resp3 => {
                self.out.push(b',');
                number::write_f64(self.out, value);
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// The absence of a value.
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The absence of an array.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.protocol, value) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// A text for people, with its format: `txt` or `mkd`.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() + 4);
                self.out.extend_from_slice(&format);
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// An array; `len` replies follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// A map; `len` pairs of replies follow.
    pub fn map(&mut self, len: usize) {
        let (kind, len) = self.map_header(len);
        self.header(kind, len);
    }

    /// A set; `len` replies follow.
    pub fn set(&mut self, len: usize) {
        self.header(self.kind(b'~'), len);
    }

    /// A message outside the order of requests; `len` replies follow.
    pub fn push(&mut self, len: usize) {
        self.header(self.kind(b'>'), len);
    }

    /// Bytes that already are a reply in the right protocol, or the next part of one.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// The end of what is written, for the methods below.
    pub fn mark(&self) -> Mark {
        Mark(self.out.len())
    }

    /// Drops what was written since `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        self.assert_mine(mark);
        self.out.truncate(mark.0);
    }

    /// Makes the `len` replies written since `mark` an array. Costs a move of their bytes, and moves marks
    /// taken since.
    pub fn array_at(&mut self, mark: Mark, len: usize) {
        self.insert_header(mark, b'*', len);
    }

    /// Makes the `len` pairs of replies written since `mark` a map, like [`Reply::array_at`].
    pub fn map_at(&mut self, mark: Mark, len: usize) {
        let (kind, len) = self.map_header(len);
        self.insert_header(mark, kind, len);
    }

    /// Makes the `len` replies written since `mark` a set, like [`Reply::array_at`].
    pub fn set_at(&mut self, mark: Mark, len: usize) {
        self.insert_header(mark, self.kind(b'~'), len);
    }

    fn map_header(&self, len: usize) -> (u8, usize) {
        match self.protocol {
            Protocol::Resp2 => (b'*', 2 * len),
            Protocol::Resp3 => (b'%', len),
        }
    }

    /// What RESP3 marks with `resp3` is an array in RESP2.
    fn kind(&self, resp3: u8) -> u8 {
        match self.protocol {
            Protocol::Resp2 => b'*',
            Protocol::Resp3 => resp3,
        }
    }

    #[inline]
    fn header(&mut self, kind: u8, len: usize) {
        match len {
            0..10 => self.out.extend_from_slice(&[kind, b'0' + len as u8, b'\r', b'\n']),
            10..100 => self.out.extend_from_slice(&[
                kind,
                b'0' + (len / 10) as u8,
                b'0' + (len % 10) as u8,
                b'\r',
                b'\n',
            ]),
            _ => {
                self.out.push(kind);
                self.out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Writes the header at the end, then brings it in front of what was written since `mark`.
    fn insert_header(&mut self, mark: Mark, kind: u8, len: usize) {
        self.assert_mine(mark);
        let end = self.out.len();
        self.header(kind, len);
        let header_len = self.out.len() - end;
        self.out[mark.0..].rotate_right(header_len);
    }

    fn assert_mine(&self, mark: Mark) {
        assert!((self.start..=self.out.len()).contains(&mark.0), "a mark of another reply");
    }

    fn line(&mut self, kind: u8, text: impl fmt::Display) {
        self.out.push(kind);
        let start = self.out.len();
        write!(self.out, "{text}").expect("writing to memory does not fail, nor does any Display of ours");
        self.end_line(start);
    }

    /// Makes what was written since `start` a line.
    fn end_line(&mut self, start: usize) {
        while let [text @ .., b'\r' | b'\n'] = &self.out[start..] {
            let end = start + text.len();
            self.out.truncate(end);
        }
        for byte in &mut self.out[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redis_protocol::resp2;
    use redis_protocol::resp3;

    /// What `write` replies, after checking that an independent decoder reads all of it as one reply.
    fn written(protocol: Protocol, write: impl Fn(&mut Reply<'_>)) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let mut reply = Reply::new(&mut out, protocol);
        assert!(reply.is_empty());
        write(&mut reply);
        let len = reply.len();
        let bytes = out.split_off(b"before".len());
        assert_eq!((&out[..], len), (&b"before"[..], bytes.len()));
        let decoded = match protocol {
            Protocol::Resp2 => {
                resp2::decode::decode(&bytes).expect("a well-formed reply").map(|(_, used)| used)
            }
            Protocol::Resp3 => {
                resp3::decode::complete::decode(&bytes).expect("a well-formed reply").map(|(_, used)| used)
            }
        };
        assert_eq!(decoded, Some(bytes.len()), "{}", bytes.escape_ascii());
        bytes
    }

    fn check(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            assert_eq!(String::from_utf8_lossy(&written(protocol, &write)), expected, "{protocol:?}");
        }
    }

    fn check_same(write: impl Fn(&mut Reply<'_>), expected: &str) {
        check(write, expected, expected);
    }

    #[test]
    fn values_both_protocols_share() {
        check_same(|r| r.ok(), "+OK\r\n");
        check_same(|r| r.simple("QUEUED"), "+QUEUED\r\n");
        check_same(|r| r.error("ERR syntax error"), "-ERR syntax error\r\n");
        check_same(|r| r.error("ERR got '\r\n'\r\n\n"), "-ERR got '  '\r\n");
        check_same(|r| r.bulk(b""), "$0\r\n\r\n");
        check_same(|r| r.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n");
        check_same(|r| r.bulk_opt(Some(b"hi")), "$2\r\nhi\r\n");
        check_same(|r| r.raw(b":1\r\n"), ":1\r\n");
    }

    #[test]
    fn integers_and_lengths_of_any_size() {
        for n in [0, 9, 10, 42, 99, 100, -1, i64::MAX, i64::MIN] {
            check_same(|r| r.int(n), &format!(":{n}\r\n"));
        }
        for len in [9, 10, 99, 100, 12_345] {
            let text = "x".repeat(len);
            check_same(|r| r.bulk(text.as_bytes()), &format!("${len}\r\n{text}\r\n"));
        }
    }

    #[test]
    fn values_only_resp3_has() {
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.bulk_opt(None), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.bool(true), ":1\r\n", "#t\r\n");
        check(|r| r.bool(false), ":0\r\n", "#f\r\n");
        check(|r| r.verbatim(*b"txt", b"a\nb"), "$3\r\na\nb\r\n", "=7\r\ntxt:a\nb\r\n");
        check(|r| r.double(3.0), "$1\r\n3\r\n", ",3\r\n");
        check(|r| r.double(0.1), "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n");
        check(|r| r.double(-1e300), "$24\r\n-1.0000000000000001e+300\r\n", ",-1.0000000000000001e+300\r\n");
        check(|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    }

    #[test]
    fn aggregates_precede_their_elements() {
        let two = |r: &mut Reply<'_>| {
            r.int(1);
            r.int(2);
        };
        check_same(|r| r.array(0), "*0\r\n");
        check_same(|r| (r.array(2), two(r)).1, "*2\r\n:1\r\n:2\r\n");
        check(|r| (r.map(1), two(r)).1, "*2\r\n:1\r\n:2\r\n", "%1\r\n:1\r\n:2\r\n");
        check(|r| (r.set(2), two(r)).1, "*2\r\n:1\r\n:2\r\n", "~2\r\n:1\r\n:2\r\n");
        let message = |r: &mut Reply<'_>| {
            r.push(3);
            r.bulk(b"message");
            r.bulk(b"c");
            r.bulk(b"hi");
        };
        let elements = "3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
        check(message, &format!("*{elements}"), &format!(">{elements}"));
    }

    #[test]
    fn lengths_can_follow_their_elements() {
        let deferred = |r: &mut Reply<'_>| {
            let outer = r.mark();
            r.int(7);
            let inner = r.mark();
            for i in 0..200 {
                r.int(i);
                r.bool(false);
            }
            r.map_at(inner, 200);
            let dropped = r.mark();
            r.error("ERR not this");
            r.truncate(dropped);
            r.set_at(dropped, 0);
            r.array_at(outer, 3);
        };
        let pairs =
            |falsehood: &str| (0..200).map(|i| format!(":{i}\r\n{falsehood}\r\n")).collect::<String>();
        check(
            deferred,
            &format!("*3\r\n:7\r\n*400\r\n{}*0\r\n", pairs(":0")),
            &format!("*3\r\n:7\r\n%200\r\n{}~0\r\n", pairs("#f")),
        );
    }

    #[test]
    fn hello_answers_in_the_protocol_it_switches_to() {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        reply.set_protocol(Protocol::Resp3);
        reply.map(0);
        assert_eq!(reply.protocol(), Protocol::Resp3);
        assert_eq!(out, b"%0\r\n");
    }

    #[test]
    #[should_panic(expected = "a mark of another reply")]
    fn marks_do_not_reach_into_other_replies() {
        let mut out = Vec::new();
        let mark = Reply::new(&mut out, Protocol::Resp2).mark();
        Reply::new(&mut out, Protocol::Resp2).ok();
        Reply::new(&mut out, Protocol::Resp2).truncate(mark);
    }

    proptest! {
        #[test]
        fn any_text_stays_on_its_line(text in "[a-z\r\n é]{0,20}") {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let bytes = written(protocol, |reply| reply.error(format_args!("ERR '{text}'")));
                let line = bytes.strip_suffix(b"\r\n").expect("a line");
                prop_assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
            }
        }
    }
}
