//! Arguments as values, with Redis's errors.

use std::mem::discriminant;
use std::ops::Range;

use crate::engine::Engine;
use crate::engine::error::Error;
use crate::number;
use crate::number::long_double::LongDouble;
use crate::resp::args::Iter;

/// `proto-max-bulk-len` is never set below this, so shorter strings need no look at the configuration.
const LEN_ALWAYS_ALLOWED: u64 = 1 << 20;

/// An integer.
///
/// # Errors
/// `value is not an integer or out of range`.
pub fn integer(arg: &[u8]) -> Result<i64, Error> {
    number::parse_i64(arg).ok_or(Error::NOT_INTEGER)
}

/// An integer that is not negative.
///
/// # Errors
/// `value is out of range, must be positive`, also for what is no integer at all.
pub fn positive(arg: &[u8]) -> Result<u64, Error> {
    number::parse_i64(arg).and_then(|value| u64::try_from(value).ok()).ok_or(Error::MUST_BE_POSITIVE)
}

/// A float.
///
/// # Errors
/// `value is not a valid float`.
pub fn float(arg: &[u8]) -> Result<f64, Error> {
    number::parse_f64(arg).ok_or(Error::NOT_FLOAT)
}

/// When a timeout in seconds is over, in Unix milliseconds; `None` for one of zero, which never is.
///
/// # Errors
/// `timeout is not a float or out of range`, or `timeout is negative`; the latter also for one beyond 64 bits of
/// milliseconds, as in Redis, where it overflows.
pub fn deadline_ms(arg: &[u8], now_ms: u64) -> Result<Option<u64>, Error> {
    const NOT_A_TIMEOUT: Error = Error::new("ERR timeout is not a float or out of range");
    const NEGATIVE: Error = Error::new("ERR timeout is negative");
    let ms = (LongDouble::parse(arg).ok_or(NOT_A_TIMEOUT)?.to_f64() * 1000.0).ceil();
    match ms {
        0.0 => Ok(None),
        _ if ms > 0.0 && ms < i64::MAX as f64 => Ok(Some(now_ms.saturating_add(ms as u64))),
        _ => Err(NEGATIVE),
    }
}

/// When a timeout in milliseconds is over, in Unix milliseconds; `None` for one of zero, which never is.
///
/// # Errors
/// `timeout is not an integer or out of range`, or `timeout is negative`.
pub fn deadline_ms_after(arg: &[u8], now_ms: u64) -> Result<Option<u64>, Error> {
    let ms = number::parse_i64(arg).ok_or(Error::new("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::new("ERR timeout is negative"))?;
    Ok(Some(ms).filter(|ms| *ms > 0).map(|ms| now_ms.saturating_add(ms)))
}

/// Whether an argument is this word, in any case of letters.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// The number of a database.
///
/// # Errors
/// If there is no such database.
pub fn database(engine: &Engine, arg: &[u8]) -> Result<u32, Error> {
    let number = integer(arg)?;
    if i32::try_from(number).is_err() {
        return Err(Error::new("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    u32::try_from(number).ok().filter(|db| *db < engine.databases()).ok_or(Error::DB_OUT_OF_RANGE)
}

/// The error for a time to live that is not positive or beyond 64 bits. `command` is the full name.
pub fn invalid_expire_time(command: &str) -> Error {
    format!("ERR invalid expire time in '{command}' command").into()
}

/// What SET and GETEX are told to do with the key's expiry. Numbers are read by [`Self::at_ms`], because a wrong one
/// is reported later than a wrong word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry<'a> {
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    /// EX: seconds from now.
    InSeconds(&'a [u8]),
    /// PX: milliseconds from now.
    InMillis(&'a [u8]),
    /// EXAT: Unix time in seconds.
    AtSeconds(&'a [u8]),
    /// PXAT: Unix time in milliseconds.
    AtMillis(&'a [u8]),
}

impl<'a> Expiry<'a> {
    /// The option `word` begins, with its number taken from `rest`. `None` if it begins none, its number is missing,
    /// or it contradicts `given`, the option before it. The same option again is no contradiction.
    pub fn parse(word: &[u8], rest: &mut Iter<'a>, given: Option<Self>) -> Option<Self> {
        let option = if is(word, "keepttl") {
            Expiry::Keep
        } else if is(word, "persist") {
            Expiry::Persist
        } else if is(word, "ex") {
            Expiry::InSeconds(rest.next()?)
        } else if is(word, "px") {
            Expiry::InMillis(rest.next()?)
        } else if is(word, "exat") {
            Expiry::AtSeconds(rest.next()?)
        } else if is(word, "pxat") {
            Expiry::AtMillis(rest.next()?)
        } else {
            return None;
        };
        given.is_none_or(|given| discriminant(&given) == discriminant(&option)).then_some(option)
    }

    /// The expiry in Unix milliseconds, possibly past; `None` for KEEPTTL and PERSIST.
    ///
    /// # Errors
    /// `value is not an integer or out of range`, `invalid expire time in '{command}' command`.
    pub fn at_ms(self, now_ms: u64, command: &str) -> Result<Option<u64>, Error> {
        let (number, unit_ms, from_ms) = match self {
            Expiry::Keep | Expiry::Persist => return Ok(None),
            Expiry::InSeconds(number) => (number, 1000, now_ms),
            Expiry::InMillis(number) => (number, 1, now_ms),
            Expiry::AtSeconds(number) => (number, 1000, 0),
            Expiry::AtMillis(number) => (number, 1, 0),
        };
        let at_ms = Some(integer(number)?)
            .filter(|number| *number > 0)
            .and_then(|number| number.checked_mul(unit_ms)?.checked_add_unsigned(from_ms))
            .ok_or_else(|| invalid_expire_time(command))?;
        Ok(u64::try_from(at_ms).ok())
    }
}

/// The part of `len` things from `first` to `last`, negative ones counted from the end, cut to what there is. As Redis cuts
/// ranges of bytes and bits: a `last` before the beginning is the beginning.
pub fn clip(first: i64, last: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let from_start = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (first, end) = (from_start(first), from_start(last).min(len - 1) + 1);
    if first < end { first as usize..end as usize } else { 0..0 }
}

/// Whether a string may have so many bytes: `proto-max-bulk-len`.
pub fn is_len_allowed(engine: &Engine, len: u64) -> bool {
    len <= LEN_ALWAYS_ALLOWED || len <= engine.config.read().proto_max_bulk_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;

    #[test]
    fn ranges_are_clipped() {
        let check = |first, last, len, expected: Range<usize>| {
            assert_eq!(clip(first, last, len), expected, "{first} {last} of {len}");
        };
        check(0, -1, 3, 0..3);
        check(-2, -1, 3, 1..3);
        check(1, 100, 3, 1..3);
        check(-100, -50, 3, 0..1);
        check(2, 1, 3, 0..0);
        check(3, 5, 3, 0..0);
        check(0, -1, 0, 0..0);
        check(i64::MIN, i64::MAX, 3, 0..3);
        check(i64::MAX, i64::MIN, 3, 0..0);
    }

    #[test]
    fn expiry_options_exclude_each_other_but_may_be_repeated() {
        let check = |text: &str, expected: Option<Option<u64>>| {
            let args: OwnedArgs = text.split(' ').collect();
            let mut rest = args.args().iter();
            let mut option = None;
            let mut is_refused = false;
            while let Some(word) = rest.next() {
                let next = Expiry::parse(word, &mut rest, option);
                is_refused |= next.is_none();
                option = next;
            }
            let at_ms = option.and_then(|option| option.at_ms(5000, "set").ok());
            assert_eq!(if is_refused { None } else { at_ms }, expected, "{text}");
        };
        check("EX 10", Some(Some(15_000)));
        check("px 10", Some(Some(5010)));
        check("EXAT 10", Some(Some(10_000)));
        check("PXAT 10", Some(Some(10)));
        check("KeepTTL", Some(None));
        check("EX 10 ex 20", Some(Some(25_000)));
        check("EX 10 PX 10", None);
        check("PERSIST EX 10", None);
        check("EX", None);
        check("EX 0", None);
        check("EX -1", None);
        check("EX ten", None);
        check("EX 9223372036854775", None);
        check("EXAT 9223372036854775", Some(Some(9_223_372_036_854_775_000)));
        check("PX 9223372036854775807", None);
        check("NX", None);
    }
}
