//! The only place that names bincode: wire structs to bytes and back.
//!
//! Little-endian with variable-length integers. Byte strings are borrowed from the input, and nothing is
//! allocated by a length that the input does not hold.

use serde::Serialize;
use serde::de::Deserialize;

/// Most bytes one value may take.
const VALUE_BYTES_MAX: usize = 1 << 31;

/// Bytes that are no such value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed frame: {0}")]
pub struct Malformed(String);

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>()
}

/// Appends a value.
pub fn encode(value: &impl Serialize, out: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, out, config()).expect("a vector takes what it is given");
}

/// Reads a value and tells how many bytes it took.
///
/// # Errors
/// If the bytes hold no such value.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, usize), Malformed> {
    bincode::serde::borrow_decode_from_slice(bytes, config()).map_err(|error| Malformed(error.to_string()))
}

/// An error for bytes that decode but make no sense.
pub fn malformed(reason: &str) -> Malformed {
    Malformed(reason.to_owned())
}
