//! Reads a file entry by entry, and tells a crash's torn tail from damage.
//!
//! A process or machine that stops leaves a prefix of what was written, or zeros or nonsense in place of its end: what is
//! not whole has nothing whole behind it. A flipped bit has. So where an entry is not whole the rest of the file is searched
//! for the beginning of another one: four bytes with their right checksum, at any place. A flip in the very last
//! entry cannot be told from a torn one.

use std::io::{self, Read};

use super::Entry;
use crate::link::frame::{self, FRAME_BYTES_MAX, FrameError, HEADER_BYTES};

/// Bytes asked of the file at once.
const READ_BYTES: usize = 256 * 1024;

/// What comes next in a file.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and nearly always the largest")]
pub enum Next<'a> {
    /// An entry, and the bytes that follow it.
    Entry(Entry, &'a [u8]),
    /// The file ends behind a whole entry.
    End,
    /// From this place on there is nothing whole: a crash was in the middle of it.
    Torn(u64),
    /// At this place an entry is damaged, and others come behind it.
    Damaged(u64, FrameError),
}

/// See the module's head.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next entry begins.
    at: usize,
    /// And where in the file.
    offset: u64,
    /// The length of the entry last given out.
    given: usize,
}

impl<R: Read> Reader<R> {
    /// A reader from the beginning of a file.
    pub fn new(source: R) -> Self {
        Reader { source, buffer: Vec::new(), at: 0, offset: 0, given: 0 }
    }

    /// Where the next entry begins.
    pub fn offset(&self) -> u64 {
        self.offset + self.given as u64
    }

    /// The next entry. Not to be asked for again behind anything else.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&mut self) -> io::Result<Next<'_>> {
        self.at += self.given;
        self.offset += std::mem::take(&mut self.given) as u64;
        self.fill(HEADER_BYTES)?;
        let rest = &self.buffer[self.at..];
        if rest.is_empty() {
            return Ok(Next::End);
        }
        if rest.len() < HEADER_BYTES {
            return Ok(Next::Torn(self.offset));
        }
        let length = match frame::length(rest, FRAME_BYTES_MAX) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(Next::Torn(self.offset)),
            Err(error) => return self.judge(error, 1),
        };
        self.fill(length)?;
        if self.buffer.len() - self.at < length {
            return Ok(Next::Torn(self.offset));
        }
        let whole = self.at..self.at + length;
        match frame::open::<Entry>(&self.buffer[whole.clone()]) {
            Ok((entry, tail)) => {
                let tail = whole.end - tail.len()..whole.end;
                self.given = length;
                Ok(Next::Entry(entry, &self.buffer[tail]))
            }
            Err(FrameError::Checksum) => self.judge(FrameError::Checksum, length),
            // It is what was written.
            Err(error) => Ok(Next::Damaged(self.offset, error)),
        }
    }

    /// What is wrong with an entry that is not whole: other entries may begin `behind` bytes after it.
    fn judge(&mut self, error: FrameError, behind: usize) -> io::Result<Next<'_>> {
        let is_entry = |bytes: &[u8]| matches!(frame::length(bytes, FRAME_BYTES_MAX), Ok(Some(_)));
        self.buffer.drain(..self.at + behind);
        self.at = 0;
        loop {
            if self.buffer.windows(HEADER_BYTES).any(is_entry) {
                return Ok(Next::Damaged(self.offset, error));
            }
            // One may begin in what is read already, and end in what is not.
            self.buffer.drain(..self.buffer.len().saturating_sub(HEADER_BYTES - 1));
            if self.source.by_ref().take(READ_BYTES as u64).read_to_end(&mut self.buffer)? == 0 {
                return Ok(Next::Torn(self.offset));
            }
        }
    }

    /// Has so many bytes of the next entry in the buffer, or all there are.
    fn fill(&mut self, length: usize) -> io::Result<()> {
        if self.buffer.len() - self.at >= length {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        while self.buffer.len() < length {
            let wanted = (length - self.buffer.len()).max(READ_BYTES) as u64;
            if self.source.by_ref().take(wanted).read_to_end(&mut self.buffer)? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{NTP64, NodeId, Origin};

    /// None ends with a zero.
    const BATCHES: [&[u8]; 3] = [b"first", b"x", &[7; 300]];

    /// A file of a few entries, and where each begins.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let (origin, mut bytes, mut starts) = (Origin::new(NodeId::new(1 << 24), 1), Vec::new(), Vec::new());
        for batches in BATCHES {
            starts.push(bytes.len());
            let (first, count, watermark, seen) = (1, 1, NTP64(9), Vec::new());
            frame::write(&Entry::Segment { origin, first, count, watermark, seen }, batches, &mut bytes);
        }
        (bytes, starts)
    }

    /// How many entries are read, and what comes behind them: the place of what is torn or damaged.
    fn read(bytes: &[u8]) -> (usize, Option<(u64, bool)>) {
        let mut reader = Reader::new(bytes);
        let mut count = 0;
        loop {
            match reader.read().unwrap() {
                Next::Entry(Entry::Segment { .. }, tail) => {
                    assert_eq!(tail, BATCHES[count]);
                    count += 1;
                }
                Next::Entry(entry, _) => panic!("{entry:?}"),
                Next::End => return (count, None),
                Next::Torn(at) => return (count, Some((at, false))),
                Next::Damaged(at, _) => return (count, Some((at, true))),
            }
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_is_read_up_to_its_last_whole_entry() {
        let (bytes, starts) = file();
        for length in 0..=bytes.len() {
            let whole = starts[1..].iter().chain([&bytes.len()]).filter(|end| **end <= length).count();
            let at = if whole == BATCHES.len() { bytes.len() } else { starts[whole] };
            let torn = (at < length).then_some((at as u64, false));
            assert_eq!(read(&bytes[..length]), (whole, torn), "{length} bytes");
            // A machine that stops may leave zeros.
            let zeros = [&bytes[..length], &[0; 100]].concat();
            assert_eq!(read(&zeros), (whole, Some((at as u64, false))), "{length} bytes and zeros");
        }
    }

    #[test]
    fn a_flipped_bit_is_found_and_told_from_a_torn_end() {
        let (bytes, starts) = file();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let hit = starts.iter().filter(|start| **start <= bit / 8).count() - 1;
            let is_last = hit + 1 == starts.len();
            assert_eq!(read(&flipped), (hit, Some((starts[hit] as u64, !is_last))), "bit {bit}");
        }
    }
}
