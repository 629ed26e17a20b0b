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
