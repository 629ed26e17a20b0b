//! Arguments as values, with Redis's errors.

use crate::engine::Engine;
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
