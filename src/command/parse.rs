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

/// A time to wait in seconds, as milliseconds rounded up; `None` for 0, which is for ever.
///
/// # Errors
/// Not a float, or negative. Times beyond 292 million years count as negative, as in Redis.
pub fn timeout_ms(arg: &[u8]) -> Result<Option<u64>, Error> {
    const NEGATIVE: Error = Error::new("ERR timeout is negative");
    let seconds = LongDouble::parse(arg).ok_or(Error::new("ERR timeout is not a float or out of range"))?;
    let ms = (seconds.to_f64() * 1000.0).ceil();
    if ms < 0.0 || ms >= i64::MAX as f64 {
        return Err(NEGATIVE);
    }
    Ok(Some(ms as u64).filter(|ms| *ms > 0))
}

/// Whether an argument is this word, in any case of letters.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
