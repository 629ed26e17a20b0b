//! What an entry notes of itself in the four bytes it has left: the hash of a plain value, and whether a grave is queued.
//!
//! A SET over a plain value thus takes the old value's term out of the digest without reading the value, which would be one
//! more cache miss to wait for.

const IN_GRAVE: u32 = 1 << 31;

/// See the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark(u32);

impl Mark {
    pub(super) fn in_grave(self) -> bool {
        self.0 & IN_GRAVE != 0
    }

    pub(super) fn set_in_grave(&mut self, in_grave: bool) {
        self.0 = self.value_hash() | if in_grave { IN_GRAVE } else { 0 };
    }

    pub(super) fn value_hash(self) -> u32 {
        self.0 & !IN_GRAVE
    }

    /// Notes a value's hash, of the 31 bits that [`value_hash`](crate::store::digest::value_hash) makes.
    pub(super) fn set_value_hash(&mut self, hash: u32) {
        self.0 = self.0 & IN_GRAVE | hash;
    }
}
