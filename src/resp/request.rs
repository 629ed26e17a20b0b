//! Reads requests out of a connection's read buffer, as far as they have arrived.
//!
//! ```text
//! multibulk   *2\r\n $4\r\nECHO\r\n $2\r\nhi\r\n      count, then length and bytes of each argument
//! inline      ECHO "hi"\r\n                           anything that does not begin with '*'
//! ```
//!
//! [`Parser`] looks at each byte once: it remembers how far it came, and the caller only appends to the
//! buffer between calls. The arguments are spans of that buffer, kept in one vector that is reused, so a
//! command costs no allocation; only inline requests, whose quotes and escapes go away, are copied.
//!
//! Memory grows with what has arrived, never with what was announced: a header `*1000000` reserves nothing,
//! and a bulk's length is handed back as [`Progress::Incomplete`] for the caller to judge.
//!
//! As in Redis, the byte after a header's `\r` and the two after a bulk are skipped unseen.
//!
//! Differs from Redis where its answer depends on how the bytes happened to be cut into reads: a header or
//! inline line longer than the limit is refused even if it arrives whole. NUL does not hide the rest of a
//! line. And the most arguments are those of Redis 6, 2^20: Redis 7 takes 2^31 - 1.
//!
//! Reference: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use super::args::{Args, Span};
use super::inline::{self, UnbalancedQuotes};
use crate::number;

/// Redis's default `proto-max-bulk-len`.
const BULK_LEN_MAX: usize = 512 * 1024 * 1024;
/// The most arguments one request may have.
const ARGS_MAX: usize = 1024 * 1024;
/// Up to here an argument count could be legal for someone; above, it never is.
const ANNOUNCED_ARGS_MAX: usize = i32::MAX as usize;
/// The longest inline request, and the longest header line.
const INLINE_LEN_MAX: usize = 64 * 1024;
/// What clients may send before they have authenticated.
const UNAUTHENTICATED_ARGS_MAX: usize = 10;
const UNAUTHENTICATED_BULK_LEN_MAX: usize = 16 * 1024;

/// An idle parser keeps room for so many arguments, and so many bytes of inline request.
const KEPT_ARGS_MAX: usize = 1024;
const KEPT_INLINE_LEN_MAX: usize = 4 * 1024;

/// What one request may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one argument of a multibulk request.
    pub bulk_len_max: usize,
    /// Arguments of a multibulk request.
    pub args_max: usize,
    /// Bytes in an inline request or a header line, its line end not counted.
    pub inline_len_max: usize,
    /// Decides the error texts: to exceed these limits is legal once authenticated.
    unauthenticated: bool,
}

impl Limits {
    /// The limits of an authenticated client, given the setting `proto-max-bulk-len` in bytes.
    pub fn new(proto_max_bulk_len: usize) -> Self {
        Self {
            bulk_len_max: proto_max_bulk_len,
            args_max: ARGS_MAX,
            inline_len_max: INLINE_LEN_MAX,
            unauthenticated: false,
        }
    }

    /// The limits of a client that has yet to authenticate: enough for AUTH and HELLO.
    pub fn unauthenticated() -> Self {
        Self {
            bulk_len_max: UNAUTHENTICATED_BULK_LEN_MAX,
            args_max: UNAUTHENTICATED_ARGS_MAX,
            inline_len_max: INLINE_LEN_MAX,
            unauthenticated: true,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(BULK_LEN_MAX)
    }
}

/// The client broke the protocol: reply with the text behind `ERR `, then close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The argument count is no number or above any limit.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLen,
    /// The argument count is above what an unauthenticated client may send.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLen,
    /// The argument count's line does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLine,
    /// An argument begins with another byte than `$`; bytes beyond ASCII are shown as Latin-1.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// An argument's length is no number, negative, or above any limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLen,
    /// An argument's length is above what an unauthenticated client may send.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLen,
    /// An argument's length line does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLine,
    /// An inline request does not end.
    #[error("Protocol error: too big inline request")]
    InlineLine,
    /// An inline request has a quote too many.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

impl From<UnbalancedQuotes> for ProtocolError {
    fn from(_: UnbalancedQuotes) -> Self {
        Self::UnbalancedQuotes
    }
}

/// How far a request has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it: it takes the first `consumed` bytes of the buffer.
    Complete {
        /// Bytes of the request.
        consumed: usize,
    },
    /// Not all of it: at least `needed` more bytes have to come, which is 1 or more. At most
    /// [`Limits::bulk_len_max`] + 2, a number the client announced.
    Incomplete {
        /// Bytes known to be missing.
        needed: usize,
    },
}

/// Reads one request at a time, however its bytes arrive.
#[derive(Debug, Default)]
pub struct Parser {
    stage: Stage,
    /// The bytes before it are parsed.
    at: usize,
    /// Between `at` and here no line ends. Never below `at`.
    searched: usize,
    /// Arguments the header announced that are not in `spans` yet.
    args_left: usize,
    spans: Vec<Span>,
    /// Whether `spans` lie in `unquoted` instead of the caller's buffer.
    inline: bool,
    unquoted: Vec<u8>,
}

/// What the bytes from `Parser::at` on are.
#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Start,
    Inline,
    MultibulkLen,
    BulkLen,
    Bulk {
        len: usize,
    },
    /// A request was completed or refused; the next byte begins another.
    Done,
}

impl Parser {
    /// A parser at the start of a request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on in `buf`, which begins with the first byte of the current request and has only grown since
    /// the last call. After a complete request the next call begins anew, with a buffer that begins after
    /// the `consumed` bytes.
    ///
    /// # Errors
    /// [`ProtocolError`]; the rest of the stream cannot be made sense of.
    #[inline]
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Progress, ProtocolError> {
        if let Stage::Done = self.stage {
            self.start_anew();
        }
        let progress = self.advance(buf, limits);
        match progress {
            Ok(Progress::Incomplete { .. }) => {}
            Ok(Progress::Complete { .. }) => self.stage = Stage::Done,
            Err(_) => {
                self.stage = Stage::Done;
                self.spans.clear();
            }
        }
        progress
    }

    /// The arguments of the request that [`Parser::parse`] just completed in the same `buf`. Before that,
    /// those that have arrived.
    pub fn args<'a>(&'a self, buf: &'a [u8]) -> Args<'a> {
        Args::new(if self.inline { &self.unquoted } else { buf }, &self.spans)
    }

    fn start_anew(&mut self) {
        self.stage = Stage::Start;
        (self.at, self.searched, self.args_left, self.inline) = (0, 0, 0, false);
        self.spans.clear();
        self.unquoted.clear();
        if self.spans.capacity() > KEPT_ARGS_MAX {
            self.spans.shrink_to(KEPT_ARGS_MAX);
        }
        if self.unquoted.capacity() > KEPT_INLINE_LEN_MAX {
            self.unquoted.shrink_to(KEPT_INLINE_LEN_MAX);
        }
    }

    fn advance(&mut self, buf: &[u8], limits: &Limits) -> Result<Progress, ProtocolError> {
        const MORE: Result<Progress, ProtocolError> = Ok(Progress::Incomplete { needed: 1 });
        loop {
            match self.stage {
                Stage::Start | Stage::Done => match buf.first() {
                    None => return MORE,
                    Some(b'*') => self.stage = Stage::MultibulkLen,
                    Some(_) => self.stage = Stage::Inline,
                },
                Stage::Inline => {
                    let Some(line) = self.line(buf, b'\n', limits, ProtocolError::InlineLine)? else {
                        return MORE;
                    };
                    self.inline = true;
                    self.at = line.len() + 1;
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    inline::split_into(line, &mut self.unquoted, &mut self.spans)?;
                    return Ok(Progress::Complete { consumed: self.at });
                }
                Stage::MultibulkLen => {
                    if let Some((count @ 1.., end)) = self.short_header(buf, b'*')
                        && count <= limits.args_max
                    {
                        (self.at, self.searched, self.args_left) = (end, end, count);
                        self.stage = Stage::BulkLen;
                        continue;
                    }
                    let Some(line) = self.header(buf, limits, ProtocolError::MultibulkLine)? else {
                        return MORE;
                    };
                    self.args_left = args_count(&line[1..], limits)?;
                    self.pass_header(line);
                    if self.args_left == 0 {
                        return Ok(Progress::Complete { consumed: self.at });
                    }
                    self.stage = Stage::BulkLen;
                }
                Stage::BulkLen => {
                    if let Some((len, end)) = self.short_header(buf, b'$')
                        && len <= limits.bulk_len_max
                    {
                        (self.at, self.searched) = (end, end);
                        self.stage = Stage::Bulk { len };
                        continue;
                    }
                    let Some(line) = self.header(buf, limits, ProtocolError::BulkLine)? else {
                        return MORE;
                    };
                    let len = match line {
                        [b'$', len @ ..] => bulk_len(len, limits)?,
                        [other, ..] => return Err(ProtocolError::ExpectedBulk(*other)),
                        [] => return Err(ProtocolError::ExpectedBulk(b'\r')),
                    };
                    self.pass_header(line);
                    self.stage = Stage::Bulk { len };
                }
                Stage::Bulk { len } => {
                    let end = self.at.saturating_add(len).saturating_add(2);
                    if end > buf.len() {
                        return Ok(Progress::Incomplete { needed: end - buf.len() });
                    }
                    self.spans.push(Span { start: self.at, len });
                    (self.at, self.searched) = (end, end);
                    self.args_left -= 1;
                    if self.args_left == 0 {
                        return Ok(Progress::Complete { consumed: end });
                    }
                    self.stage = Stage::BulkLen;
                }
            }
        }
    }

    /// The number of a whole header of one or two digits, and its end: nearly every header is one.
    #[inline]
    fn short_header(&self, buf: &[u8], kind: u8) -> Option<(usize, usize)> {
        let digit = |byte: u8| usize::from(byte - b'0');
        match *buf.get(self.at..)? {
            [first, n @ b'0'..=b'9', b'\r', _, ..] if first == kind => Some((digit(n), self.at + 4)),
            [first, ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', _, ..] if first == kind => {
                Some((10 * digit(ten) + digit(one), self.at + 5))
            }
            _ => None,
        }
    }

    /// The header line from `at` to `\r`, once the byte behind that has arrived as well.
    fn header<'b>(
        &mut self,
        buf: &'b [u8],
        limits: &Limits,
        endless: ProtocolError,
    ) -> Result<Option<&'b [u8]>, ProtocolError> {
        let line = self.line(buf, b'\r', limits, endless)?;
        Ok(line.filter(|line| self.at + line.len() + 2 <= buf.len()))
    }

    fn pass_header(&mut self, line: &[u8]) {
        self.at += line.len() + 2;
        self.searched = self.at;
    }

    /// The bytes from `at` to the first `end`, if that has arrived.
    fn line<'b>(
        &mut self,
        buf: &'b [u8],
        end: u8,
        limits: &Limits,
        endless: ProtocolError,
    ) -> Result<Option<&'b [u8]>, ProtocolError> {
        let found = buf[self.searched..].iter().position(|byte| *byte == end);
        self.searched = found.map_or(buf.len(), |found| self.searched + found);
        if self.searched - self.at > limits.inline_len_max {
            return Err(endless);
        }
        Ok(found.map(|_| &buf[self.at..self.searched]))
    }
}

/// Zero and negative counts alike are a request without arguments.
fn args_count(text: &[u8], limits: &Limits) -> Result<usize, ProtocolError> {
    let count = number::parse_i64(text).ok_or(ProtocolError::MultibulkLen)?;
    let count = usize::try_from(count).unwrap_or(0);
    if count <= limits.args_max {
        Ok(count)
    } else if limits.unauthenticated && count <= ANNOUNCED_ARGS_MAX {
        Err(ProtocolError::UnauthenticatedMultibulkLen)
    } else {
        Err(ProtocolError::MultibulkLen)
    }
}

fn bulk_len(text: &[u8], limits: &Limits) -> Result<usize, ProtocolError> {
    let len = number::parse_i64(text).and_then(|len| usize::try_from(len).ok());
    let len = len.ok_or(ProtocolError::BulkLen)?;
    if len <= limits.bulk_len_max {
        Ok(len)
    } else if limits.unauthenticated && len <= BULK_LEN_MAX {
        Err(ProtocolError::UnauthenticatedBulkLen)
    } else {
        Err(ProtocolError::BulkLen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a request comes to: its arguments and length, what is missing of it, or its error's text.
    #[derive(Debug, PartialEq)]
    enum Outcome {
        Args(Vec<Vec<u8>>, usize),
        Needs(usize),
        Refused(String),
    }

    fn outcome(parser: &mut Parser, buf: &[u8], limits: &Limits) -> Outcome {
        match parser.parse(buf, limits) {
            Ok(Progress::Complete { consumed }) => {
                Outcome::Args(parser.args(buf).iter().map(<[u8]>::to_vec).collect(), consumed)
            }
            Ok(Progress::Incomplete { needed }) => Outcome::Needs(needed),
            Err(error) => Outcome::Refused(error.to_string()),
        }
    }

    /// Feeds `buf` in steps that end at `cuts`, then whole, and returns where that ended.
    fn in_steps(buf: &[u8], cuts: impl IntoIterator<Item = usize>, limits: &Limits) -> Outcome {
        let mut parser = Parser::new();
        for cut in cuts {
            match outcome(&mut parser, &buf[..cut], limits) {
                Outcome::Needs(needed) => assert!(needed > 0),
                ended => return ended,
            }
        }
        outcome(&mut parser, buf, limits)
    }

    fn check_limited(request: &[u8], limits: &Limits, expected: Outcome) {
        let shown = request[..request.len().min(80)].escape_ascii();
        assert_eq!(in_steps(request, [], limits), expected, "{shown} whole");
        if request.len() <= 4096 {
            assert_eq!(in_steps(request, 0..request.len(), limits), expected, "{shown} byte by byte");
        }
        for cut in (0..request.len()).step_by(1 + request.len() / 4096) {
            assert_eq!(in_steps(request, [cut], limits), expected, "{shown} cut at {cut}");
        }
    }

    /// Checks a request that is complete, cut everywhere and followed by another.
    fn check(request: &[u8], expected: &[&[u8]]) {
        let args: Vec<_> = expected.iter().map(|arg| arg.to_vec()).collect();
        let limits = Limits::default();
        check_limited(request, &limits, Outcome::Args(args.clone(), request.len()));
        for cut in 0..request.len() {
            assert!(
                matches!(in_steps(&request[..cut], [], &limits), Outcome::Needs(n) if n <= request.len() - cut)
            );
        }
        let mut parser = Parser::new();
        let pipeline = [request, b"*1\r\n$1\r\nx\r\n", request].concat();
        assert_eq!(outcome(&mut parser, &pipeline, &limits), Outcome::Args(args.clone(), request.len()));
        let rest = &pipeline[request.len()..];
        assert_eq!(outcome(&mut parser, rest, &limits), Outcome::Args(vec![b"x".to_vec()], 11));
        assert_eq!(outcome(&mut parser, &rest[11..], &limits), Outcome::Args(args, request.len()));
    }

    fn check_refused(request: &[u8], limits: &Limits, text: &str) {
        check_limited(request, limits, Outcome::Refused(format!("Protocol error: {text}")));
    }

    #[test]
    fn multibulk_requests_are_read() {
        check(b"*1\r\n$4\r\nPING\r\n", &[b"PING"]);
        check(b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\na\r\nb\0\r\n", &[b"SET", b"", b"a\r\nb\0"]);
        check(b"*0\r\n", &[]);
        check(b"*-1\r\n", &[]);
        check(b"*-9223372036854775808\r\n", &[]);
        check(b"*1\rx$2\rxabxx", &[b"ab"]);
    }

    #[test]
    fn inline_requests_are_read() {
        check(b"PING\r\n", &[b"PING"]);
        check(b"\n", &[]);
        check(b"\r\n", &[]);
        check(b"  \r\n", &[]);
        check(b" set k \"a\\x00\\n b\" 'c\\'d'\n", &[b"set", b"k", b"a\0\n b", b"c'd"]);
        check(b"$3 \rx\r\r\n", &[b"$3", b"x"]);
    }

    #[test]
    fn missing_bytes_are_counted() {
        let limits = Limits::default();
        for (arrived, needed) in [
            (&b""[..], 1),
            (b"*", 1),
            (b"*2\r", 1),
            (b"*2\r\n", 1),
            (b"*2\r\n$1000\r\n", 1002),
            (b"*2\r\n$1000\r\nabc", 999),
            (b"*1\r\n$3\r\nabc\r", 1),
            (b"*1048576\r\n$536870912\r\n", 536_870_914),
            (b"PING", 1),
        ] {
            assert_eq!(in_steps(arrived, [], &limits), Outcome::Needs(needed), "{}", arrived.escape_ascii());
        }
    }

    #[test]
    fn malformed_requests_get_redis_texts() {
        let limits = Limits::default();
        for (request, text) in [
            (&b"*\r\n"[..], "invalid multibulk length"),
            (b"*abc\r\n", "invalid multibulk length"),
            (b"*+1\r\n", "invalid multibulk length"),
            (b"*01\r\n", "invalid multibulk length"),
            (b"* 1\r\n", "invalid multibulk length"),
            (b"*1\n$4\r\nPING\r\n", "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*9223372036854775808\r\n", "invalid multibulk length"),
            (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
            (b"*1\r\n:4\r\n", "expected '$', got ':'"),
            (b"*1\r\n\r\n", "expected '$', got '\r'"),
            (b"*1\r\n\xe9\r\n", "expected '$', got '\u{e9}'"),
            (b"*1\r\n$\r\n", "invalid bulk length"),
            (b"*1\r\n$x\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*2\r\n$1\r\na\r\n$01\r\n", "invalid bulk length"),
            (b"set k \"a\r\n", "unbalanced quotes in request"),
            (b"set k 'a'b\n", "unbalanced quotes in request"),
        ] {
            check_refused(request, &limits, text);
        }
    }

    #[test]
    fn lines_are_bounded() {
        let limits = Limits::default();
        let longest = vec![b'1'; INLINE_LEN_MAX];
        let line = |before: &[u8], after: &[u8]| [before, &longest, after].concat();
        check_limited(&line(b"", b"\n"), &limits, Outcome::Args(vec![longest.clone()], INLINE_LEN_MAX + 1));
        check_limited(&longest, &limits, Outcome::Needs(1));
        check_refused(&line(b"", b"1"), &limits, "too big inline request");
        check_refused(&line(b"", b"1\n"), &limits, "too big inline request");
        check_refused(&line(b"*", b"\r\n"), &limits, "too big mbulk count string");
        check_refused(&line(b"*1\r\n$", b""), &limits, "too big bulk count string");
    }

    #[test]
    fn unauthenticated_clients_are_held_short() {
        let limits = Limits::unauthenticated();
        check_refused(b"*11\r\n", &limits, "unauthenticated multibulk length");
        check_refused(b"*2147483647\r\n", &limits, "unauthenticated multibulk length");
        check_refused(b"*2147483648\r\n", &limits, "invalid multibulk length");
        check_refused(b"*1\r\n$16385\r\n", &limits, "unauthenticated bulk length");
        check_refused(b"*1\r\n$536870913\r\n", &limits, "invalid bulk length");
        check_limited(b"*10\r\n$16384\r\n", &limits, Outcome::Needs(16_386));
    }

    #[test]
    fn announced_numbers_reserve_nothing() {
        let mut parser = Parser::new();
        let limits = Limits { bulk_len_max: usize::MAX, ..Limits::default() };
        let buf = b"*1048576\r\n$9223372036854775807\r\n";
        assert_eq!(parser.parse(buf, &limits), Ok(Progress::Incomplete { needed: (1 << 63) + 1 }));
        assert_eq!((parser.spans.capacity(), parser.unquoted.capacity()), (0, 0));
    }

    #[test]
    fn an_idle_parser_keeps_little() {
        let mut parser = Parser::new();
        let many = [&b"*5000\r\n"[..], &b"$1\r\na\r\n".repeat(5000)].concat();
        let long = [&b"a".repeat(50_000)[..], b"\n"].concat();
        for request in [&many, &long] {
            assert!(matches!(parser.parse(request, &Limits::default()), Ok(Progress::Complete { .. })));
        }
        assert_eq!(parser.parse(b"", &Limits::default()), Ok(Progress::Incomplete { needed: 1 }));
        assert!(parser.spans.capacity() <= KEPT_ARGS_MAX);
        assert!(parser.unquoted.capacity() <= KEPT_INLINE_LEN_MAX);
    }

    fn encode(args: &[Vec<u8>]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        request
    }

    proptest! {
        #[test]
        fn any_arguments_survive_any_cuts(
            args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let request = encode(&args);
            let mut cuts: Vec<_> = cuts.drain(..).map(|cut| cut.index(request.len())).collect();
            cuts.sort_unstable();
            let expected = Outcome::Args(args, request.len());
            prop_assert_eq!(in_steps(&request, cuts, &Limits::default()), expected);
        }

        #[test]
        fn any_bytes_end_the_same_however_they_are_cut(
            request in prop::collection::vec(prop::sample::select(&b"*$123-\r\n\"'\\xa \0"[..]), 1..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let limits = Limits::default();
            let whole = in_steps(&request, [], &limits);
            prop_assert_eq!(&in_steps(&request, [cut.index(request.len())], &limits), &whole);
            prop_assert_eq!(&in_steps(&request, 0..request.len(), &limits), &whole);
        }
    }
}
