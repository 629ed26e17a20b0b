//! The decoders of frames, batches and records: what was written reads as written, damage is noticed, and nothing costs
//! more than its bytes.

use meldis::link::batch::{Batch, Record};
use meldis::link::codec;
use meldis::link::frame::{self, FRAME_BYTES_MAX, FrameError, HELLO_BYTES_MAX};

use crate::choices::Choices;
use crate::{made, memory};

/// Bytes a decoder may allocate for each byte it is given: two bytes of input make a record in a list that doubles.
const BYTES_PER_BYTE: u64 = 512;
/// And for lists that announce more than they hold: serde's most for each, and a frame nests them twice.
const BYTES_AT_FIRST: u64 = 4 << 20;

pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    match choices.below(4) {
        0 => any_bytes_end_well(choices.rest()),
        1 => a_frame_reads_as_written(&mut choices),
        2 => a_record_reads_as_written(&mut choices),
        _ => {
            let mut bytes = Vec::new();
            let mut frame = made::frame(&mut choices);
            let tail = made::tail(&mut choices, &mut frame);
            frame::write(&frame, &tail, &mut bytes);
            (0..=choices.below(4)).for_each(|_| choices.damage(&mut bytes));
            any_bytes_end_well(&bytes);
        }
    }
}

fn any_bytes_end_well(bytes: &[u8]) {
    for most in [HELLO_BYTES_MAX, FRAME_BYTES_MAX] {
        if let Ok(Some(length)) = frame::length(bytes, most) {
            assert!(length <= most + frame::HEADER_BYTES);
        }
    }
    bounded(bytes, || drop(frame::read(bytes)));
    // What would have come behind a right checksum.
    bounded(bytes, || drop(codec::decode::<frame::Frame>(bytes)));
    bounded(bytes, || drop(codec::decode::<Record<'_>>(bytes)));
    let mut rest = bytes;
    while let Ok(Some((batch, behind))) = Batch::split(rest) {
        bounded(rest, || drop(batch.read()));
        assert!(behind.len() < rest.len());
        rest = behind;
    }
}

fn bounded(bytes: &[u8], decode: impl FnOnce()) {
    let ((), allocated) = memory::allocated(decode);
    let most = BYTES_AT_FIRST + BYTES_PER_BYTE * bytes.len() as u64;
    assert!(allocated <= most, "{allocated} bytes allocated for {}", bytes.len());
}

fn a_frame_reads_as_written(choices: &mut Choices<'_>) {
    let mut written = made::frame(choices);
    let tail = made::tail(choices, &mut written);
    let mut bytes = Vec::new();
    frame::write(&written, &tail, &mut bytes);
    assert_eq!(frame::length(&bytes, FRAME_BYTES_MAX), Ok(Some(bytes.len())));
    match frame::read(&bytes) {
        Ok(read) => assert_eq!(read, (written, &tail[..])),
        Err(error) => assert!(made::is_refused(&written), "{error}: {written:?}"),
    }
    for _ in 0..64 {
        let mut damaged = bytes.clone();
        let bit = choices.below(bytes.len() * 8);
        damaged[bit / 8] ^= 1 << (bit % 8);
        let seen = frame::length(&damaged, FRAME_BYTES_MAX).and_then(|_| frame::read(&damaged).map(|_| ()));
        assert_eq!(seen, Err(FrameError::Checksum), "bit {bit}");
        let end = choices.below(bytes.len());
        assert!(frame::read(&bytes[..end]).is_err(), "cut at {end}");
    }
}

fn a_record_reads_as_written(choices: &mut Choices<'_>) {
    let written = made::record(choices);
    let mut bytes = Vec::new();
    codec::encode(&written, &mut bytes);
    match codec::decode::<Record<'_>>(&bytes) {
        Ok((read, length)) => {
            assert_eq!(length, bytes.len());
            // By its bytes: what is no number equals nothing.
            let mut again = Vec::new();
            codec::encode(&read, &mut again);
            assert_eq!(again, bytes, "{written:?}");
        }
        Err(error) => assert!(made::is_too_deep(&written), "{error}: {written:?}"),
    }
    for end in 0..bytes.len() {
        assert!(codec::decode::<Record<'_>>(&bytes[..end]).is_err(), "{written:?} cut at {end}");
    }
}
