//! Errors that answer a client, in Redis's words.

use std::borrow::Cow;
use std::fmt;

/// Bytes of a client's words that an error repeats.
pub const QUOTED_BYTES_MAX: usize = 128;

/// The text of an error reply, without the leading `-`. Bytes, because it may quote what the client sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Cow<'static, [u8]>);

impl Error {
    /// The key holds another type.
    pub const WRONG_TYPE: Error =
        Error::new("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// The arguments make no sense.
    pub const SYNTAX: Error = Error::new("ERR syntax error");
    /// Not an integer, or beyond 64 bits.
    pub const NOT_INTEGER: Error = Error::new("ERR value is not an integer or out of range");
    /// Not a float.
    pub const NOT_FLOAT: Error = Error::new("ERR value is not a valid float");
    /// An index or key that must exist does not.
    pub const NO_SUCH_KEY: Error = Error::new("ERR no such key");
    /// An offset outside the value.
    pub const OUT_OF_RANGE: Error = Error::new("ERR index out of range");
    /// A count that must be positive.
    pub const MUST_BE_POSITIVE: Error = Error::new("ERR value is out of range, must be positive");

    /// A database number that is too large or negative.
    pub const DB_OUT_OF_RANGE: Error = Error::new("ERR DB index is out of range");
    /// COPY and MOVE onto itself.
    pub const SAME_OBJECT: Error = Error::new("ERR source and destination objects are the same");
    /// See `enable-debug-command`.
    pub const DEBUG_NOT_ALLOWED: Error = Error::new(
        "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a \
         local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
    );

    /// An error of a fixed text.
    pub const fn new(text: &'static str) -> Self {
        Error(Cow::Borrowed(text.as_bytes()))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first word, by which clients and INFO errorstats tell errors apart.
    pub fn code(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.0.split(|byte| *byte == b' ').next().unwrap_or_default())
    }

    /// What a client sent, as errors quote it: up to a NUL, and at most so many bytes.
    pub fn quotable(sent: &[u8], len_max: usize) -> &[u8] {
        let text = sent.split(|byte| *byte == 0).next().unwrap_or_default();
        &text[..text.len().min(len_max)]
    }

    /// Too few or too many arguments. `command` is the full name, as `set` or `config|get`.
    pub fn wrong_arity(command: &str) -> Self {
        format!("ERR wrong number of arguments for '{command}' command").into()
    }
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Error(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Error {
    fn from(text: Vec<u8>) -> Self {
        Error(Cow::Owned(text))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
