//! Strings as rows of bits. Bit 0 is the highest bit of the first byte.
//!
//! A changed bitmap travels whole, so each change builds it anew: cheap up to some 100 KB, a copy of 1 MB per SETBIT at
//! 1 MB. BITFIELD is in [`bitfield`](super::bitfield).
//!
//! BITOP LSHIFT and RSHIFT are KeyDB's: `BITOP LSHIFT dst src n` takes the string for a number whose *first* byte is the
//! lowest, grows it by n bits, and cuts off what is shifted out. KeyDB shifts right by whole bytes one byte too little;
//! here such a shift drops the bytes.

use std::ops::Range;

use super::parse::{clip, integer, is, is_len_allowed};
use super::string::padded;
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::number;
use crate::resp::args::Args;
use crate::store::delta::Change;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "bitcount",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["bitmap"],
        tips: &[],
        group: Group::Bitmap,
        since: "2.6.0",
        summary: "Counts the set bits of a string.",
        complexity: "O(N)",
        run: bitcount,
        subcommands: &[],
    },
    Command {
        name: "bitop",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(2, &["OW", "update"]), KeySpec::to_end(3, 1, &["RO", "access"])],
        categories: &["bitmap"],
        tips: &[],
        group: Group::Bitmap,
        since: "2.6.0",
        summary: "Combines or shifts strings bit by bit and stores the result.",
        complexity: "O(N)",
        run: bitop,
        subcommands: &[],
    },
    Command {
        name: "bitpos",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["bitmap"],
        tips: &[],
        group: Group::Bitmap,
        since: "2.8.7",
        summary: "Finds the first set or clear bit of a string.",
        complexity: "O(N)",
        run: bitpos,
        subcommands: &[],
    },
    Command {
        name: "getbit",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["bitmap"],
        tips: &[],
        group: Group::Bitmap,
        since: "2.2.0",
        summary: "Returns a bit of a string.",
        complexity: "O(1)",
        run: getbit,
        subcommands: &[],
    },
    Command {
        name: "setbit",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::UPDATE_1],
        categories: &["bitmap"],
        tips: &[],
        group: Group::Bitmap,
        since: "2.2.0",
        summary: "Sets or clears a bit of a string, which grows to hold it.",
        complexity: "O(N)",
        run: setbit,
        subcommands: &[],
    },
];

fn setbit(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let key = &c.args[1];
    let offset = bit_offset(c.engine, &c.args[2])?;
    let on = match number::parse_i64(&c.args[3]) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Error::new("ERR bit is not an integer or out of range")),
    };
    let held = c.keys.string_to_change(key)?.unwrap_or_default();
    let was_on = bit(held, offset);
    if was_on != on || offset / 8 >= held.len() {
        let mut bytes = padded(held, offset / 8 + 1);
        bytes[offset / 8] = bytes[offset / 8] & !mask(offset) | if on { mask(offset) } else { 0 };
        c.keys.apply(key, &Change::Value(&bytes));
        c.keys.notify(EventClass::STRING, "setbit", key);
    }
    c.reply.int(was_on.into());
    Ok(())
}

fn getbit(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let offset = bit_offset(c.engine, &c.args[2])?;
    let held = c.keys.string(&c.args[1])?.unwrap_or_default();
    c.reply.int(bit(held, offset).into());
    Ok(())
}

/// A bit's offset.
pub(super) fn bit_offset(engine: &Engine, arg: &[u8]) -> Result<usize, Error> {
    checked_offset(engine, number::parse_i64(arg))
}

/// An offset that there may be.
pub(super) fn checked_offset(engine: &Engine, offset: Option<i64>) -> Result<usize, Error> {
    offset
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| is_len_allowed(engine, *offset as u64 / 8 + 1))
        .ok_or(Error::new("ERR bit offset is not an integer or out of range"))
}

fn bit(bytes: &[u8], offset: usize) -> bool {
    bytes.get(offset / 8).is_some_and(|byte| byte & mask(offset) != 0)
}

fn mask(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

fn bitcount(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let Some(bytes) = c.keys.string(&args[1])? else {
        c.reply.int(0);
        return Ok(());
    };
    let bits = match args.len() {
        2 => 0..bytes.len() * 8,
        4 | 5 => {
            let (first, last) = (integer(&args[2])?, integer(&args[3])?);
            if first < 0 && last < 0 && first > last {
                0..0
            } else {
                Unit::parse(args.get(4))?.range(first, last, bytes.len())
            }
        }
        _ => return Err(Error::SYNTAX),
    };
    c.reply.int(ones(bytes, bits) as i64);
    Ok(())
}

/// What the ends of a range count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Bits,
}

impl Unit {
    fn parse(word: Option<&[u8]>) -> Result<Self, Error> {
        match word {
            None => Ok(Unit::Bytes),
            Some(word) if is(word, "byte") => Ok(Unit::Bytes),
            Some(word) if is(word, "bit") => Ok(Unit::Bits),
            Some(_) => Err(Error::SYNTAX),
        }
    }

    /// The bits from `first` to `last` in a string of so many bytes.
    fn range(self, first: i64, last: i64, len: usize) -> Range<usize> {
        match self {
            Unit::Bits => clip(first, last, len * 8),
            Unit::Bytes => {
                let bytes = clip(first, last, len);
                bytes.start * 8..bytes.end * 8
            }
        }
    }
}

/// The number of set bits in a range, whose ends need not lie between bytes.
fn ones(bytes: &[u8], bits: Range<usize>) -> usize {
    if bits.is_empty() {
        return 0;
    }
    let covered = &bytes[bits.start / 8..bits.end.div_ceil(8)];
    let (words, rest) = covered.as_chunks::<8>();
    let whole: usize = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones() as usize).sum();
    let rest: usize = rest.iter().map(|byte| byte.count_ones() as usize).sum();
    let before = bytes[bits.start / 8] & before_mask(bits.start);
    let behind = if bits.end.is_multiple_of(8) { 0 } else { bytes[bits.end / 8] & !before_mask(bits.end) };
    whole + rest - before.count_ones() as usize - behind.count_ones() as usize
}

/// The bits of a byte that stand before the one at `offset`.
fn before_mask(offset: usize) -> u8 {
    !(0xff >> (offset % 8))
}

fn bitpos(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let wanted = match integer(&args[2])? {
        0 => false,
        1 => true,
        _ => return Err(Error::new("ERR The bit argument must be 1 or 0.")),
    };
    let Some(bytes) = c.keys.string(&args[1])? else {
        c.reply.int(if wanted { -1 } else { 0 });
        return Ok(());
    };
    if args.len() > 6 {
        return Err(Error::SYNTAX);
    }
    let first = args.get(3).map_or(Ok(0), integer)?;
    let unit = Unit::parse(args.get(5))?;
    let last = args.get(4).map_or(Ok(-1), integer)?;
    let bits = unit.range(first, last, bytes.len());
    let found = match first_bit(bytes, bits.clone(), wanted) {
        Some(at) => at as i64,
        // Without an end the string goes on with clear bits.
        None if !wanted && !bits.is_empty() && args.len() < 5 => bits.end as i64,
        None => -1,
    };
    c.reply.int(found);
    Ok(())
}

/// Where the first such bit of a range is.
fn first_bit(bytes: &[u8], bits: Range<usize>, wanted: bool) -> Option<usize> {
    if bits.is_empty() {
        return None;
    }
    // With clear bits wanted every byte is flipped, so that a set bit is looked for.
    let flip = if wanted { 0 } else { 0xff };
    let (first, end) = (bits.start / 8, bits.end.div_ceil(8));
    let hit = |at: usize, byte: u8| at * 8 + byte.leading_zeros() as usize;
    let head = (bytes[first] ^ flip) & !before_mask(bits.start);
    let found = if head != 0 {
        hit(first, head)
    } else {
        let rest = &bytes[first + 1..end];
        let skipped = rest.as_chunks::<32>().0.iter().take_while(|chunk| **chunk == [flip; 32]).count() * 32;
        let at = skipped + rest[skipped..].iter().position(|byte| *byte != flip)?;
        hit(first + 1 + at, rest[at] ^ flip)
    };
    (found < bits.end).then_some(found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
    ShiftLeft,
    ShiftRight,
}

impl Operation {
    fn parse(word: &[u8]) -> Option<Self> {
        let named = [
            ("and", Operation::And),
            ("or", Operation::Or),
            ("xor", Operation::Xor),
            ("not", Operation::Not),
            ("lshift", Operation::ShiftLeft),
            ("rshift", Operation::ShiftRight),
        ];
        named.iter().find(|(name, _)| is(word, name)).map(|(_, operation)| *operation)
    }
}

fn bitop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let to = &args[2];
    let result = match Operation::parse(&args[1]).ok_or(Error::SYNTAX)? {
        Operation::Not if args.len() != 4 => {
            return Err(Error::new("ERR BITOP NOT must be called with a single source key."));
        }
        Operation::Not => c.keys.string(&args[3])?.unwrap_or_default().iter().map(|byte| !byte).collect(),
        Operation::And => combine(c, |a, b| a & b)?,
        Operation::Or => combine(c, |a, b| a | b)?,
        Operation::Xor => combine(c, |a, b| a ^ b)?,
        Operation::ShiftLeft => {
            let by = shift_amount(args)?;
            shift(c, by)?
        }
        Operation::ShiftRight => {
            let by = shift_amount(args)?;
            shift(c, -by)?
        }
    };
    if !result.is_empty() {
        c.keys.apply(to, &Change::Assign(&result));
        c.keys.notify(EventClass::STRING, "set", to);
    } else if c.keys.delete(to) {
        c.keys.notify(EventClass::GENERIC, "del", to);
    }
    c.reply.int(result.len() as i64);
    Ok(())
}

/// Joins all sources byte by byte; the shorter ones end in zeros.
fn combine(c: &mut Call<'_, '_>, join: impl Fn(u8, u8) -> u8) -> Result<Vec<u8>, Error> {
    let args = c.args;
    let mut result = c.keys.string(&args[3])?.unwrap_or_default().to_vec();
    for key in args.slice(4..) {
        let source = c.keys.string(key)?.unwrap_or_default();
        if source.len() > result.len() {
            result.resize(source.len(), 0);
        }
        let (common, rest) = result.split_at_mut(source.len());
        common.iter_mut().zip(source).for_each(|(a, b)| *a = join(*a, *b));
        rest.iter_mut().for_each(|a| *a = join(*a, 0));
    }
    Ok(result)
}

fn shift_amount(args: Args<'_>) -> Result<i128, Error> {
    if args.len() != 5 {
        return Err(Error::new(
            "ERR BITOP SHIFT must be called with a single source key and an integer shift.",
        ));
    }
    let by = number::parse_i64(&args[4]);
    by.map(i128::from).ok_or(Error::new("ERR BITOP SHIFT's last parameter must be an integer"))
}

/// The source moved by so many bits towards its end, or its beginning if negative.
fn shift(c: &mut Call<'_, '_>, by: i128) -> Result<Vec<u8>, Error> {
    let engine = c.engine;
    let source = c.keys.string(&c.args[3])?.unwrap_or_default();
    let len = source.len() as i128 + if by > 0 { (by + 7) / 8 } else { by / 8 };
    if len > source.len() as i128 && !is_len_allowed(engine, u64::try_from(len).unwrap_or(u64::MAX)) {
        return Err(Error::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    // Byte i of the result is made of the bytes i - bytes and the one before it.
    let (bytes, bits) = (by.div_euclid(8) as i64, by.rem_euclid(8) as u32);
    let byte = |at: i64| usize::try_from(at).ok().and_then(|at| source.get(at)).copied().unwrap_or(0);
    let shifted = |at: i64| u16::from_be_bytes([byte(at - bytes), byte(at - bytes - 1)]) << bits >> 8;
    Ok((0..len.max(0) as i64).map(|at| shifted(at) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::{first_bit, ones};
    use crate::engine::testing::Fixture;

    #[test]
    fn shifts_count_bits_from_the_lowest_of_the_first_byte() {
        let check = |source: &[u8], operation: &str, by: &str, expected: &[u8]| {
            let mut f = Fixture::new();
            f.run_args(&[b"SET", b"source", source]);
            f.run_args(&[b"SET", b"expected", expected]);
            let len = f.run(&format!("BITOP {operation} result source {by}"));
            assert_eq!(len, format!(":{}", expected.len()), "{source:x?} {operation} {by}");
            assert_eq!(f.run("GET result"), f.run("GET expected"), "{source:x?} {operation} {by}");
        };
        check(b"\x01", "lshift", "0", b"\x01");
        check(b"\x01", "lshift", "1", b"\x02\x00");
        check(b"\x01\x02", "LSHIFT", "8", b"\x00\x01\x02");
        check(b"\x41", "LSHIFT", "9", b"\x00\x82\x00".as_slice());
        check(b"\x41\x42", "LSHIFT", "2", b"\x04\x09\x01");
        check(b"\x04\x09\x01", "RSHIFT", "2", b"\x41\x42\x00");
        check(b"\x01\x02\x03", "RSHIFT", "8", b"\x02\x03");
        check(b"\x01\x02\x03", "LSHIFT", "-17", b"\x01");
    }

    #[test]
    fn shifted_out_strings_delete_the_key() {
        let mut f = Fixture::new();
        f.check("MSET source a result b", "+OK");
        f.check("BITOP RSHIFT result source 8", ":0");
        f.check("GET result", "$-1");
        f.check(
            "BITOP RSHIFT result source -9223372036854775808",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        );
        f.check(
            "BITOP LSHIFT result source",
            "-ERR BITOP SHIFT must be called with a single source key and an integer shift.",
        );
        f.check("BITOP LSHIFT result source x", "-ERR BITOP SHIFT's last parameter must be an integer");
    }

    #[test]
    fn any_range_of_bits_is_counted_and_searched() {
        let bytes: Vec<u8> =
            (0..45_u8).map(|n| n.wrapping_mul(n) ^ 0x5a).chain([0; 70]).chain([0xff; 70]).collect();
        let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1 == 1;
        for start in (0..bytes.len() * 8).step_by(11) {
            for end in (start..=bytes.len() * 8).step_by(7) {
                let range = start..end;
                assert_eq!(
                    ones(&bytes, range.clone()),
                    range.clone().filter(|at| bit(*at)).count(),
                    "{range:?}"
                );
                for wanted in [false, true] {
                    let expected = range.clone().find(|at| bit(*at) == wanted);
                    assert_eq!(first_bit(&bytes, range.clone(), wanted), expected, "{wanted} in {range:?}");
                }
            }
        }
    }
}
