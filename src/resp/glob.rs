//! Glob patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET read them.
//!
//! | pattern | matches one byte that is |
//! |---|---|
//! | `?` | any |
//! | `[a-cx]`, `[^a-cx]` | in the class, not in it |
//! | `\b` | `b`, also inside a class; a lone `\` at the end is itself |
//! | any other | itself |
//!
//! `*` matches any number of bytes. Four corners follow from how Redis does it and are kept: a class without
//! `]` ends with the pattern; the ends of a range may be reversed and are ordered as *signed* bytes, so
//! `[a-\xff]` runs downwards; ignoring case does not extend to escaped bytes of a class; and only the empty
//! pattern matches the empty text, not even `*`.
//!
//! Everything but `*` takes exactly one byte, so when a match fails only the last `*` can take more: keeping
//! that one place to retry from makes the search iterative and its time at most pattern times text.
//! Reference: R. Cox, "Glob Matching Can Be Simple And Fast Too", 2017.

/// Whether the whole of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    is_match(pattern, text, false)
}

/// Likewise, whatever the case of ASCII letters.
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    is_match(pattern, text, true)
}

fn is_match(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut rest, mut at) = (pattern, 0);
    // The pattern behind the last star, and where in the text to try it next.
    let mut retry: Option<(&[u8], usize)> = None;
    while let Some(&byte) = text.get(at) {
        if rest.first() == Some(&b'*') {
            rest = skip_stars(rest);
            if rest.is_empty() {
                return true;
            }
            retry = Some((rest, at + 1));
        }
        match one(rest, byte, nocase) {
            Some(after) => (rest, at) = (after, at + 1),
            None => {
                let Some((behind_star, next)) = retry else { return false };
                retry = Some((behind_star, next + 1));
                (rest, at) = (behind_star, next);
            }
        }
    }
    skip_stars(rest).is_empty()
}

/// Matches `byte` against the single-byte element `pattern` begins with; returns the pattern behind it.
fn one(pattern: &[u8], byte: u8, nocase: bool) -> Option<&[u8]> {
    let (hit, after) = match pattern {
        [] => return None,
        [b'?', after @ ..] => (true, after),
        [b'[', b'^', members @ ..] => {
            let (hit, after) = class(members, byte, nocase);
            (!hit, after)
        }
        [b'[', members @ ..] => class(members, byte, nocase),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (same(*literal, byte, nocase), after),
    };
    hit.then_some(after)
}

/// Whether `byte` is in the class whose members `rest` begins with, and what follows the class.
fn class(mut rest: &[u8], byte: u8, nocase: bool) -> (bool, &[u8]) {
    let mut hit = false;
    loop {
        rest = match rest {
            [] => return (hit, rest),
            [b'\\', literal, after @ ..] => {
                hit |= *literal == byte;
                after
            }
            [b']', after @ ..] => return (hit, after),
            [from, b'-', to, after @ ..] => {
                hit |= in_range(*from, *to, byte, nocase);
                after
            }
            [literal, after @ ..] => {
                hit |= same(*literal, byte, nocase);
                after
            }
        }
    }
}

fn in_range(from: u8, to: u8, byte: u8, nocase: bool) -> bool {
    let (low, high) = if from.cast_signed() <= to.cast_signed() { (from, to) } else { (to, from) };
    let signed = |byte: u8| if nocase { byte.to_ascii_lowercase() } else { byte }.cast_signed();
    (signed(low)..=signed(high)).contains(&signed(byte))
}

fn same(a: u8, b: u8, nocase: bool) -> bool {
    a == b || nocase && a.eq_ignore_ascii_case(&b)
}

fn skip_stars(pattern: &[u8]) -> &[u8] {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    &pattern[stars..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &[u8], hits: &[&[u8]], misses: &[&[u8]]) {
        for (texts, expected) in [(hits, true), (misses, false)] {
            for text in texts {
                let (shown, of) = (pattern.escape_ascii(), text.escape_ascii());
                assert_eq!(matches(pattern, text), expected, "{shown} on {of}");
            }
        }
    }

    #[test]
    fn elements_match_one_byte() {
        check(b"", &[b""], &[b"a"]);
        check(b"h?llo", &[b"hello", b"h\xffllo"], &[b"hllo", b"heello", b"hell"]);
        check(b"h[ae]llo", &[b"hello", b"hallo"], &[b"hillo", b"h]llo"]);
        check(b"h[^e]llo", &[b"hallo"], &[b"hello", b"hllo"]);
        check(b"[a-cx]", &[b"a", b"b", b"c", b"x"], &[b"d", b"-", b"A"]);
        check(b"[]a", &[], &[b"a", b"]a", b"[]a"]);
        check(b"[^]a", &[b"xa", b"]a"], &[b"a"]);
        check(br"\*\?\[", &[b"*?["], &[b"abc"]);
        check(br"a\", &[br"a\"], &[b"a"]);
    }

    #[test]
    fn stars_match_any_number_of_bytes() {
        check(b"*", &[b"a", b"abc"], &[b""]);
        check(b"**", &[b"a"], &[b""]);
        check(b"a*", &[b"a", b"abc"], &[b"", b"ba"]);
        check(b"a**", &[b"a"], &[b"b"]);
        check(b"*a", &[b"a", b"ba", b"aa"], &[b"ab"]);
        check(b"a*b*c", &[b"abc", b"axbxc", b"abcbc"], &[b"ab", b"abcb", b"acb"]);
        check(b"*?b", &[b"ab", b"aab"], &[b"b"]);
        check(b"*[ab]?", &[b"ax", b"xbx"], &[b"a", b"xx"]);
    }

    #[test]
    fn classes_keep_the_corners_of_redis() {
        check(b"[abc", &[b"a", b"c"], &[b"d", b"[abc"]);
        check(b"[", &[], &[b"[", b"a"]);
        check(b"[^", &[b"a", b"^"], &[b""]);
        check(b"[^a", &[b"b"], &[b"a"]);
        check(b"[c-a]", &[b"a", b"b", b"c"], &[b"d"]);
        check(b"[a-]", &[b"]", b"^", b"a"], &[b"-", b"b"]);
        check(b"[a-", &[b"a", b"-"], &[b"b"]);
        check(br"[\]a]", &[b"]", b"a"], &[br"\"]);
        check(br"[\", &[br"\"], &[b"["]);
        check(br"[\a-c]", &[b"a", b"-", b"c"], &[b"b"]);
        check(b"[a-\xff]", &[b"a", b"0", b"\0", b"\xff"], &[b"b", b"\xfe"]);
        check(b"[\x80-\xff]", &[b"\x80", b"\xc3"], &[b"\x7f", b"a"]);
    }

    #[test]
    fn ignoring_case_spares_escaped_members() {
        for (pattern, text, expected) in [
            ("MAX*", "maxmemory", true),
            ("[A-C]?", "bX", true),
            ("[x]", "X", true),
            (r"\X", "x", true),
            (r"[\X]", "x", false),
        ] {
            assert_eq!(matches_nocase(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"a*".repeat(5_000);
        let text = b"a".repeat(4_999);
        assert!(!matches(&pattern, &text));
        assert!(!matches(&[&b"*a".repeat(30)[..], b"b"].concat(), &b"a".repeat(5_000)));
    }

    /// The definition, by recursion: slow, and obviously right.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], [_, after @ ..]) => model(rest, text) || model(pattern, after),
            ([b'*', rest @ ..], []) => model(rest, text),
            (_, [byte, after @ ..]) => one(pattern, *byte, false).is_some_and(|rest| model(rest, after)),
            (_, []) => pattern.is_empty(),
        }
    }

    proptest! {
        #[test]
        fn retrying_the_last_star_finds_what_full_backtracking_finds(
            pattern in "[ab?*\\[\\]^\\\\-]{0,10}",
            text in "[ab\\]\\-]{1,10}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), model(pattern, text));
        }
    }
}
