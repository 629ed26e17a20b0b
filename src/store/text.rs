//! A value's bytes, with their hash behind them when they are many.
//!
//! The digest takes a value's hash out when the value goes and puts the next one's in. A short value is hashed anew for
//! that, which takes a few nanoseconds and no memory. A long one is hashed once, when it is written: to delete
//! or expire it then costs nothing that grows with it.

use super::digest;

/// Longest value without its hash. Up to here xxh3 takes its short ways; from here on the hash adds 2 % at most.
const BARE_BYTES_MAX: usize = 240;

const HASH_BYTES: usize = size_of::<u32>();

/// See the module's head. Never between `BARE_BYTES_MAX` and `BARE_BYTES_MAX + HASH_BYTES` bytes: the length says whether
/// the hash is there.
#[derive(Clone, Debug, Default)]
pub struct Text(Box<[u8]>);

impl Text {
    /// A copy of a value.
    pub fn new(value: &[u8]) -> Self {
        if value.len() <= BARE_BYTES_MAX {
            return Text(value.into());
        }
        Text([value, &digest::value_hash(value).to_le_bytes()].concat().into())
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self.0.split_last_chunk::<HASH_BYTES>() {
            Some((value, _)) if self.0.len() > BARE_BYTES_MAX => value,
            _ => &self.0,
        }
    }

    /// Their hash.
    #[inline]
    pub fn hash(&self) -> u32 {
        match self.0.last_chunk() {
            Some(hash) if self.0.len() > BARE_BYTES_MAX => u32::from_le_bytes(*hash),
            _ => digest::value_hash(&self.0),
        }
    }

    /// Replaces the value, in place where it is as long.
    pub fn set(&mut self, value: &[u8]) {
        if self.bytes().len() != value.len() {
            *self = Text::new(value);
            return;
        }
        let (held, hash) = self.0.split_at_mut(value.len());
        held.copy_from_slice(value);
        if !hash.is_empty() {
            hash.copy_from_slice(&digest::value_hash(value).to_le_bytes());
        }
    }

    /// Replaces the value by a larger one, byte by byte: what settles a tie of stamps. Returns whether it was larger.
    #[cold]
    pub fn raise(&mut self, value: &[u8]) -> bool {
        let larger = value > self.bytes();
        if larger {
            self.set(value);
        }
        larger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_any_length_keeps_its_bytes_and_tells_their_hash() {
        let lens = [0, 1, 64, BARE_BYTES_MAX, BARE_BYTES_MAX + 1, BARE_BYTES_MAX + HASH_BYTES, 5000];
        for len in lens {
            let value: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let check = |text: &Text| {
                assert_eq!((text.bytes(), text.hash()), (&*value, digest::value_hash(&value)), "{len} bytes");
            };
            check(&Text::new(&value));
            for before in lens {
                let mut text = Text::new(&vec![b'x'; before]);
                text.set(&value);
                check(&text);
            }
        }
    }

    #[test]
    fn of_two_values_the_larger_stays() {
        for (small, large) in [(&b""[..], &b"a"[..]), (b"10", b"9"), (b"a", b"aa"), (b"aa", b"ab")] {
            let mut text = Text::new(small);
            assert!(text.raise(large) && !text.raise(large) && !text.raise(small));
            assert_eq!(text.bytes(), large);
        }
    }
}
