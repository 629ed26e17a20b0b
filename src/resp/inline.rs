//! Splitting a line into words, with Redis's quoting rules: for inline requests typed into a terminal and
//! for lines of a configuration file.
//!
//! Words are separated by white space. A quote opens anywhere in a word and ends it: what follows the
//! closing quote must be white space or the end of the line.
//!
//! | in | escape | is |
//! |---|---|---|
//! | `"..."` | `\n` `\r` `\t` `\b` `\a` | the control character |
//! | | `\xHH` | the byte HH |
//! | | `\` and any other byte | that byte |
//! | `'...'` | `\'` | a single quote; no other escapes |
//! | neither | | backslashes are ordinary |
//!
//! Differs from Redis in one byte: NUL ends a line there, and is an ordinary byte here.

use super::args::Span;
use crate::number::{hex_digit, is_space};

/// A quote was not closed, or its closing quote was followed by something else than white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unbalanced quotes")]
pub struct UnbalancedQuotes;

/// The words of `line`, unquoted. An empty or blank line has none.
///
/// # Errors
/// [`UnbalancedQuotes`].
pub fn split_args(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let (mut words, mut spans) = (Vec::new(), Vec::new());
    split_into(line, &mut words, &mut spans)?;
    Ok(spans.iter().map(|span| words[span.start..span.start + span.len].to_vec()).collect())
}

/// Appends the unquoted words of `line` to `words`, and where each lies to `spans`. Never writes more bytes
/// than `line` has.
pub(super) fn split_into(
    line: &[u8],
    words: &mut Vec<u8>,
    spans: &mut Vec<Span>,
) -> Result<(), UnbalancedQuotes> {
    let mut rest = skip_space(line);
    while !rest.is_empty() {
        let start = words.len();
        rest = skip_space(word(rest, words)?);
        spans.push(Span { start, len: words.len() - start });
    }
    Ok(())
}

/// Unquotes the word `rest` begins with; returns what follows it.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(rest),
            [b'"', quoted @ ..] => return double_quoted(quoted, out),
            [b'\'', quoted @ ..] => return single_quoted(quoted, out),
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
        }
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'"', after @ ..] => return closed(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), after)
            }
            [b'\\', escaped, after @ ..] => (control(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        out.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'\'', after @ ..] => return closed(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        out.push(byte);
        rest = after;
    }
}

fn closed(after: &[u8]) -> Result<&[u8], UnbalancedQuotes> {
    match after.first() {
        Some(&byte) if !is_space(byte) => Err(UnbalancedQuotes),
        _ => Ok(after),
    }
}

fn control(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn skip_space(line: &[u8]) -> &[u8] {
    let spaces = line.iter().take_while(|byte| is_space(**byte)).count();
    &line[spaces..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expected: Option<&[&[u8]]>) {
        let expected = expected.map(|words| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>());
        assert_eq!(split_args(line).ok(), expected, "{}", line.escape_ascii());
    }

    #[test]
    fn words_are_separated_by_white_space() {
        check(b"", Some(&[]));
        check(b" \t\x0b\x0c\r\n", Some(&[]));
        check(b"PING", Some(&[b"PING"]));
        check(b"  set  key\tvalue ", Some(&[b"set", b"key", b"value"]));
        check(b"a\x0bb \x0bc", Some(&[b"a\x0bb", b"c"]));
        check(b"a\0b", Some(&[b"a\0b"]));
        check(br"back\slash\n", Some(&[br"back\slash\n"]));
    }

    #[test]
    fn quotes_keep_spaces_and_read_escapes() {
        check(br#""" '' "a b" 'c d'"#, Some(&[b"", b"", b"a b", b"c d"]));
        check(br#""\n\r\t\b\a\q\"\\""#, Some(&[b"\n\r\t\x08\x07q\"\\"]));
        check(br#""\x00\xfF\xg1\x1""#, Some(&[b"\0\xffxg1x1"]));
        check(br"'\' \n \\ '", Some(&[br"' \n \\ "]));
        check(br#"ab"cd" ef'gh'"#, Some(&[b"abcd", b"efgh"]));
        check(b"\"a\"\x0bb", Some(&[b"a", b"b"]));
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [
            r#"""#,
            "'",
            r#""a"#,
            "'a",
            r#""a"b"#,
            "'a'b",
            r#""a""b""#,
            r#""a\""#,
            r"'a\'",
            r#"a "b"#,
            r#""\"#,
        ] {
            check(line.as_bytes(), None);
        }
    }
}
