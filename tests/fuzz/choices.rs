//! An input as a string of choices: its bytes first, then as many more as are asked for, which they determine.

use meldis::store::digest;

pub struct Choices<'a> {
    bytes: &'a [u8],
    /// What comes behind the bytes (splitmix64).
    more: u64,
}

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Choices { bytes, more: digest::hash(bytes) }
    }

    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => {
                self.more = self.more.wrapping_add(0x9E37_79B9_7F4A_7C15);
                digest::mix(self.more, self.more.rotate_left(32)) as u8
            }
        }
    }

    /// What is left of the bytes themselves.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound <= 256 { usize::from(self.byte()) % bound } else { (self.word() % bound as u64) as usize }
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A number at which something may overflow.
    pub fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => u64::MAX - self.below(3) as u64,
            1 => (1 << 63) - 1 + self.below(3) as u64,
            2 => self.word(),
            3 => self.below(1 << 16) as u64,
            _ => self.below(8) as u64,
        }
    }

    /// At most so many bytes.
    pub fn some_bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.byte()).collect()
    }

    /// Damages bytes: flips a bit, cuts, repeats, exchanges a run or a byte.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = self.below(bytes.len());
        let length = self.below((bytes.len() - at).min(40) + 1);
        match self.below(6) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes.truncate(at),
            2 => bytes[at] = self.pick(&[0, 1, 0x7f, 0x80, 250, 251, 252, 253, 254, 255]),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let run = bytes[at..at + length].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, run);
            }
            _ => {
                let run = self.some_bytes(9);
                let end = (at + run.len()).min(bytes.len());
                bytes.splice(at..end, run);
            }
        }
    }
}
