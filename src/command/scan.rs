//! What SCAN, HSCAN, SSCAN and ZSCAN have in common: options, cursors, and the form of the reply.
//!
//! # Cursors into a collection
//! Elements stand in a table that grows at its end and fills the gap of a removal with its last element. So
//! a scan visits them from the end downwards, and a cursor `c` above 0 says: those at places below `c` are still to
//! be visited. An element that is there throughout only ever moves to a lower place, hence is not missed; one that
//! moves down across the cursor is returned twice, as Redis may too. What the scan does not promise, as in Redis:
//! elements added or removed meanwhile.
//!
//! Small collections (those Redis keeps in one block) are returned whole, whatever COUNT and the cursor say.

use std::ops::Range;

use super::parse::{integer, is};
use crate::engine::error::Error;
use crate::resp::args::Args;
use crate::resp::glob;
use crate::resp::reply::Reply;

/// Elements a call visits unless COUNT says otherwise.
const COUNT_DEFAULT: usize = 10;

/// What is scanned, and hence which options there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// SCAN: takes TYPE.
    Keyspace,
    /// HSCAN, SSCAN, ZSCAN.
    Elements,
}

/// The options of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    /// MATCH, unless it lets everything pass.
    pattern: Option<&'a [u8]>,
    /// COUNT: how many elements to visit, at least 1.
    pub count: usize,
    /// TYPE, which may be no type's name.
    pub type_name: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    /// Reads the arguments behind the cursor.
    ///
    /// # Errors
    /// A syntax error, also for a COUNT below 1; or COUNT is no integer.
    pub fn parse(args: Args<'a>, scope: Scope) -> Result<Self, Error> {
        let mut options = Options { pattern: None, count: COUNT_DEFAULT, type_name: None };
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            let value = rest.next().ok_or(Error::SYNTAX)?;
            if is(word, "count") {
                let count = integer(value)?;
                options.count =
                    usize::try_from(count).ok().filter(|count| *count > 0).ok_or(Error::SYNTAX)?;
            } else if is(word, "match") {
                options.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else if is(word, "type") && scope == Scope::Keyspace {
                options.type_name = Some(value);
            } else {
                return Err(Error::SYNTAX);
            }
        }
        Ok(options)
    }

    /// Whether MATCH lets a key or element pass.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// Reads a cursor as Redis does: like C's `strtoul`, but without leading space and up to the end of the text or a NUL.
///
/// # Errors
/// `invalid cursor`.
pub fn cursor(arg: &[u8]) -> Result<u64, Error> {
    const INVALID: Error = Error::new("ERR invalid cursor");
    let text = arg.split(|byte| *byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    let magnitude = digits
        .iter()
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    let magnitude = magnitude.ok_or(INVALID)?;
    Ok(if negative { magnitude.wrapping_neg() } else { magnitude })
}

/// Which elements of a collection one call visits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Their places.
    places: Range<usize>,
    /// The cursor to go on with; 0 at the end.
    next: u64,
}

impl Page {
    /// All of `len` elements.
    pub fn whole(len: usize) -> Self {
        Page { places: 0..len, next: 0 }
    }

    /// The next `count` of `len` elements.
    pub fn at(cursor: u64, count: usize, len: usize) -> Self {
        let end = match usize::try_from(cursor) {
            Ok(0) | Err(_) => len,
            Ok(end) => end.min(len),
        };
        let start = end.saturating_sub(count);
        Page { places: start..end, next: start as u64 }
    }

    /// Writes the reply. `each` writes the element at a place, or nothing if it does not match, and returns how
    /// many replies that makes.
    pub fn write(self, reply: &mut Reply<'_>, mut each: impl FnMut(&mut Reply<'_>, usize) -> usize) {
        write_head(reply, self.next);
        let mark = reply.mark();
        let written = self.places.rev().map(|place| each(reply, place)).sum();
        reply.array_at(mark, written);
    }
}

/// The reply of a scan that has nothing to visit.
pub fn write_empty(reply: &mut Reply<'_>) {
    write_head(reply, 0);
    reply.array(0);
}

/// The part of every scan's reply before the array of what was found.
pub fn write_head(reply: &mut Reply<'_>, next: u64) {
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;
    use indexmap::IndexSet;
    use proptest::prelude::*;

    #[test]
    fn cursors_are_read_like_strtoul_does() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(cursor(text.as_bytes()).ok(), expected, "{text:?}")
        };
        check("", Some(0));
        check("0", Some(0));
        check("007", Some(7));
        check("+3", Some(3));
        check("-1", Some(u64::MAX));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("5\0x", Some(5));
        check("\0", Some(0));
        for invalid in [" 1", "1 ", "x", "-", "+", "+-1", "0x10", "1.5"] {
            check(invalid, None);
        }
    }

    #[test]
    fn the_first_wrong_option_decides_the_error() {
        let check = |text: &str, scope, expected: Result<(Option<&str>, usize, Option<&str>), Error>| {
            let args: OwnedArgs = text.split_whitespace().collect();
            let options = Options::parse(args.args(), scope);
            let expected = expected.map(|(pattern, count, type_name)| Options {
                pattern: pattern.map(str::as_bytes),
                count,
                type_name: type_name.map(str::as_bytes),
            });
            assert_eq!(options, expected, "{text}");
        };
        use Scope::{Elements, Keyspace};
        check("", Elements, Ok((None, 10, None)));
        check("COUNT 3 match a*", Elements, Ok((Some("a*"), 3, None)));
        check("match a match *", Elements, Ok((None, 10, None)));
        check("TYPE hash", Keyspace, Ok((None, 10, Some("hash"))));
        check("TYPE hash COUNT x", Elements, Err(Error::SYNTAX));
        check("COUNT x TYPE hash", Elements, Err(Error::NOT_INTEGER));
        check("COUNT 0", Elements, Err(Error::SYNTAX));
        check("COUNT -1", Elements, Err(Error::SYNTAX));
        check("COUNT", Elements, Err(Error::SYNTAX));
        check("MATCH a FOO", Keyspace, Err(Error::SYNTAX));
    }

    proptest! {
        /// Steps are a scan call (`None`) or the insertion or removal of a number.
        #[test]
        fn what_is_there_throughout_is_returned(
            len in 0_usize..60,
            count in 1_usize..9,
            steps in prop::collection::vec((any::<bool>(), 0_u32..90), 0..80),
        ) {
            let mut table: IndexSet<u32> = (0..len as u32).collect();
            let mut throughout = table.clone();
            let (mut found, mut at) = (IndexSet::new(), 0);
            for (is_scan, number) in steps {
                if is_scan {
                    let page = Page::at(at, count, table.len());
                    found.extend(page.places.map(|place| table[place]));
                    at = page.next;
                    if at == 0 {
                        break;
                    }
                } else if table.swap_remove(&number) {
                    throughout.swap_remove(&number);
                } else {
                    table.insert(number);
                }
            }
            while at != 0 || found.is_empty() && !table.is_empty() {
                let page = Page::at(at, count, table.len());
                found.extend(page.places.map(|place| table[place]));
                at = page.next;
            }
            prop_assert!(throughout.is_subset(&found), "{throughout:?} {found:?}");
        }
    }
}
