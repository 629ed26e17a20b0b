//! The wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::Now;

/// The current time.
pub fn now() -> Now {
    Now::from_unix_ns(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()))
}
