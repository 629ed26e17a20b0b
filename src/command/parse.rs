//! Arguments as values, with Redis's errors.

use crate::engine::error::Error;
use crate::resp::long_double::LongDouble;
use crate::resp::number;

/// An integer.
///
/// # Errors
/// `value is not an integer or out of range`.
pub fn integer(arg: &[u8]) -> Result<i64, Error> {
    number::parse_i64(arg).ok_or(Error::NOT_INTEGER)
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

/// Whether an argument is this word, in any case of letters.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
