//! A key's bytes, beside the rest of its entry when short.
//!
//! 24 bytes, of which [`INLINE_BYTES_MAX`] hold a key: an entry of such a key is one allocation, so that finding a key
//! and seeing its value's place follows one pointer.

/// Longest key without an allocation of its own.
pub const INLINE_BYTES_MAX: usize = 22;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Key(Place);

#[derive(Clone, Debug)]
enum Place {
    /// The first `len` bytes.
    Inline {
        len: u8,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    Apart(Box<[u8]>),
}

impl Key {
    /// A copy of a key.
    pub fn new(key: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES_MAX];
        match bytes.get_mut(..key.len()) {
            Some(start) => {
                start.copy_from_slice(key);
                Key(Place::Inline { len: key.len() as u8, bytes })
            }
            None => Key(Place::Apart(key.into())),
        }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Place::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Place::Apart(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entry::Entry;

    #[test]
    fn keys_of_any_length_are_kept_and_an_entry_stays_small() {
        assert_eq!((size_of::<Key>(), size_of::<Entry>()), (24, 72));
        for len in [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 300] {
            let key: Vec<u8> = (0..len).map(|n| n as u8).collect();
            assert_eq!(Key::new(&key).bytes(), key);
        }
    }
}
