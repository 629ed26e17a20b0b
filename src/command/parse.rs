//! Arguments as values, with Redis's errors.

use crate::engine::error::Error;
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

/// Whether an argument is this word, in any case of letters.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
