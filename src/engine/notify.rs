//! Keyspace notifications on their way to subscribers.
//!
//! Reference: <https://redis.io/docs/latest/develop/use/keyspace-notifications/>.

pub use crate::config::Events as EventClass;

/// An event that happened to a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its class.
    pub class: EventClass,
    /// Its name.
    pub event: &'static str,
    /// The database it happened in.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
}
