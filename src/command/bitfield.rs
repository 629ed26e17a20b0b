//! BITFIELD: integers of 1 to 64 bits at any bit of a string.
//!
//! Operations are parsed before any of them runs, so that an error changes nothing. They then run one after the other on
//! a copy of the string, which is stored once at the end. A field lies in at most nine bytes: it is read and written
//! as part of the 128 bits that begin with its first byte.

use super::bitmap::{bit_offset, checked_offset};
use super::parse::{integer, is};
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
        name: "bitfield",
        arity: -2,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec {
            notes: "reads and writes as its operations say",
            ..KeySpec::at(1, &["RW", "access", "update", "variable_flags"])
        }],
        categories: &["bitmap"],
        tips: &[],
        group: Group::Bitmap,
        since: "3.2.0",
        summary: "Reads and changes integers of any width in a string.",
        complexity: "O(N)",
        run: bitfield,
        subcommands: &[],
    },
    Command {
        name: "bitfield_ro",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["bitmap"],
        tips: &[],
        group: Group::Bitmap,
        since: "6.0.0",
        summary: "Reads integers of any width in a string.",
        complexity: "O(1)",
        run: bitfield_ro,
        subcommands: &[],
    },
];

fn bitfield(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let key = &c.args[1];
    let operations = parse(c.engine, c.args)?;
    let Some(last) = operations.iter().filter(|op| op.is_write()).map(|op| op.field.last_bit()).max() else {
        return read(c, &operations);
    };
    let held = c.keys.string_to_change(key)?.unwrap_or_default();
    let grows = last / 8 >= held.len();
    let mut bytes = padded(held, last / 8 + 1);
    let mut is_changed = false;
    c.reply.array(operations.len());
    for operation in &operations {
        let old = operation.field.read(&bytes);
        match operation.outcome(old) {
            Some((new, reply)) => {
                if operation.is_write() {
                    operation.field.write(&mut bytes, new);
                    is_changed |= grows || new != old;
                }
                c.reply.int(reply);
            }
            None => c.reply.null(),
        }
    }
    if grows || is_changed {
        c.keys.apply(key, &Change::Value(&bytes));
    }
    // Growing for operations that then all fail is no event in Redis.
    if is_changed {
        c.keys.notify(EventClass::STRING, "setbit", key);
    }
    Ok(())
}

fn bitfield_ro(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let operations = parse(c.engine, c.args)?;
    if operations.iter().any(Operation::is_write) {
        return Err(Error::new("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read(c, &operations)
}

fn read(c: &mut Call<'_, '_>, operations: &[Operation]) -> Result<(), Error> {
    let bytes = c.keys.string(&c.args[1])?.unwrap_or_default();
    c.reply.array(operations.len());
    for operation in operations {
        c.reply.int(operation.field.read(bytes));
    }
    Ok(())
}

/// What to do with a number that its field cannot hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    /// Drop the high bits.
    Wrap,
    /// Take the nearest number that fits.
    Saturate,
    /// Change nothing.
    Fail,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

struct Operation {
    field: Field,
    action: Action,
    overflow: Overflow,
}

fn parse(engine: &Engine, args: Args<'_>) -> Result<Vec<Operation>, Error> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut rest = args.slice(2..).iter();
    while let Some(word) = rest.next() {
        let is_complete = |word: &[u8], name, arguments| is(word, name) && rest.len() >= arguments;
        let takes_number = is_complete(word, "set", 3) || is_complete(word, "incrby", 3);
        if is_complete(word, "overflow", 1) {
            overflow = rest
                .next()
                .and_then(overflow_named)
                .ok_or(Error::new("ERR Invalid OVERFLOW type specified"))?;
            continue;
        }
        if !takes_number && !is_complete(word, "get", 2) {
            return Err(Error::SYNTAX);
        }
        let mut next = || rest.next().ok_or(Error::SYNTAX);
        let field = Field::parse(engine, next()?, next()?)?;
        let action = match takes_number {
            false => Action::Get,
            true if is(word, "set") => Action::Set(integer(next()?)?),
            true => Action::Add(integer(next()?)?),
        };
        operations.push(Operation { field, action, overflow });
    }
    Ok(operations)
}

fn overflow_named(word: &[u8]) -> Option<Overflow> {
    let named = [("wrap", Overflow::Wrap), ("sat", Overflow::Saturate), ("fail", Overflow::Fail)];
    named.iter().find(|(name, _)| is(word, name)).map(|(_, overflow)| *overflow)
}

impl Operation {
    fn is_write(&self) -> bool {
        self.action != Action::Get
    }

    /// What the field holds afterwards, and the reply. `None` if the number does not fit and that is a failure.
    fn outcome(&self, old: i64) -> Option<(i64, i64)> {
        match self.action {
            Action::Get => Some((old, old)),
            Action::Set(value) => Some((self.fit(value, 0)?, old)),
            Action::Add(amount) => {
                let new = self.fit(old, amount)?;
                Some((new, new))
            }
        }
    }

    fn fit(&self, value: i64, amount: i64) -> Option<i64> {
        let field = self.field;
        let Some(limit) = field.limit_crossed(value, amount) else { return Some(value.wrapping_add(amount)) };
        match self.overflow {
            Overflow::Wrap => Some(field.wrap(value.wrapping_add(amount))),
            Overflow::Saturate => Some(limit),
            Overflow::Fail => None,
        }
    }
}

/// Where an integer is and how it is encoded.
#[derive(Clone, Copy)]
struct Field {
    is_signed: bool,
    /// 1 to 64; unsigned ones to 63, so that a value fits an i64 either way.
    bits: u32,
    offset: usize,
}

impl Field {
    fn parse(engine: &Engine, kind: &[u8], offset: &[u8]) -> Result<Self, Error> {
        let (is_signed, bits_max, bits) = match kind {
            [b'i', bits @ ..] => (true, 64, bits),
            [b'u', bits @ ..] => (false, 63, bits),
            _ => (false, 0, kind),
        };
        let bits = number::parse_i64(bits).filter(|bits| (1..=bits_max).contains(bits)).ok_or(Error::new(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        ))? as u32;
        let offset = match offset.strip_prefix(b"#") {
            None => bit_offset(engine, offset)?,
            Some(index) => checked_offset(
                engine,
                number::parse_i64(index).and_then(|index| index.checked_mul(bits.into())),
            )?,
        };
        Ok(Field { is_signed, bits, offset })
    }

    fn last_bit(self) -> usize {
        self.offset + self.bits as usize - 1
    }

    /// Bits of the 128 that stand behind the field.
    fn shift(self) -> u32 {
        128 - (self.offset % 8) as u32 - self.bits
    }

    /// The value in a string that may end before or inside the field.
    fn read(self, bytes: &[u8]) -> i64 {
        self.wrap((self.window(bytes) >> self.shift()) as i64)
    }

    /// Writes the value's low bits into a string that holds the whole field.
    fn write(self, bytes: &mut [u8], value: i64) {
        let mask = u128::from(u64::MAX >> (64 - self.bits)) << self.shift();
        let value = u128::from(value as u64) << self.shift() & mask;
        let window = (self.window(bytes) & !mask | value).to_be_bytes();
        let tail = &mut bytes[self.offset / 8..];
        let len = tail.len().min(window.len());
        tail[..len].copy_from_slice(&window[..len]);
    }

    /// The 16 bytes from the field's first on; zeros behind the end.
    fn window(self, bytes: &[u8]) -> u128 {
        let tail = bytes.get(self.offset / 8..).unwrap_or_default();
        let len = tail.len().min(16);
        let mut window = [0; 16];
        window[..len].copy_from_slice(&tail[..len]);
        u128::from_be_bytes(window)
    }

    /// The value that the low bits encode.
    fn wrap(self, value: i64) -> i64 {
        let unused = 64 - self.bits;
        if self.is_signed { value << unused >> unused } else { ((value as u64) << unused >> unused) as i64 }
    }

    /// The greatest or least value of the field if `value + amount` is beyond it. SET passes any value and no amount, INCRBY
    /// a value that fits.
    ///
    /// Distances wrap around in 64 bits as in Redis, where setting a signed field of less than 64 bits to about
    /// `i64::MIN` saturates at its greatest value. An unsigned field takes a negative value for a huge one.
    fn limit_crossed(self, value: i64, amount: i64) -> Option<i64> {
        if !self.is_signed {
            let max = i64::MAX >> (63 - self.bits);
            let is_huge = value < 0 || value > max;
            return match amount {
                _ if is_huge => Some(max),
                0.. => (amount > max - value).then_some(max),
                ..0 => (amount < -value).then_some(0),
            };
        }
        let max = i64::MAX >> (64 - self.bits);
        let min = !max;
        if self.bits == 64 {
            let is_over = value.checked_add(amount).is_none();
            return is_over.then_some(if amount > 0 { max } else { min });
        }
        if value > max || amount > max.wrapping_sub(value) {
            Some(max)
        } else if value < min || amount < min.wrapping_sub(value) {
            Some(min)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    #[test]
    fn fields_beyond_the_end_are_zero_and_grow_the_string_when_written() {
        let mut f = Fixture::new();
        f.check("BITFIELD k GET u63 4294967200 GET i8 #9", "*2 :0 :0");
        f.check("STRLEN k", ":0");
        f.check("BITFIELD k OVERFLOW FAIL INCRBY u2 #3 4 SET u2 #3 5", "*2 $-1 $-1");
        f.check("STRLEN k", ":1");
        f.check("BITFIELD k SET i64 3 -1 GET i64 3 GET u8 0 GET u8 64", "*4 :0 :-1 :31 :224");
        f.check("STRLEN k", ":9");
    }

    #[test]
    fn overflow_applies_to_what_follows() {
        let mut f = Fixture::new();
        f.check(
            "BITFIELD k INCRBY u2 0 5 OVERFLOW SAT INCRBY u2 0 5 OVERFLOW WRAP INCRBY u2 0 1",
            "*3 :1 :3 :0",
        );
        f.check("BITFIELD k OVERFLOW SAT SET i8 0 -1000 GET i8 0", "*2 :0 :-128");
        // Distances wrap around, as in Redis.
        f.check("BITFIELD k OVERFLOW SAT SET i8 0 -9223372036854775681 GET i8 0", "*2 :-128 :127");
        f.check("BITFIELD k OVERFLOW SAT SET i8 0 -9223372036854775680 GET i8 0", "*2 :127 :-128");
        f.check("BITFIELD k OVERFLOW FOO", "-ERR Invalid OVERFLOW type specified");
        f.check("BITFIELD_RO k SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand");
    }
}
