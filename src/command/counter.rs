//! Numbers in strings.
//!
//! With partners, what is added travels and each origin's sum is a register of its own. Without, the whole new value is
//! set: less memory, and floats round as in Redis. Either way the reply is what GET would answer.

use super::parse::integer;
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::number;
use crate::number::long_double::LongDouble;
use crate::store::delta::{Amount, Change, Kind};

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "decr",
        arity: 2,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Subtracts one from the integer at a key.",
        complexity: "O(1)",
        run: decr,
        subcommands: &[],
    },
    Command {
        name: "decrby",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Subtracts an integer from the integer at a key.",
        complexity: "O(1)",
        run: decrby,
        subcommands: &[],
    },
    Command {
        name: "incr",
        arity: 2,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Adds one to the integer at a key.",
        complexity: "O(1)",
        run: incr,
        subcommands: &[],
    },
    Command {
        name: "incrby",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "1.0.0",
        summary: "Adds an integer to the integer at a key.",
        complexity: "O(1)",
        run: incrby,
        subcommands: &[],
    },
    Command {
        name: "incrbyfloat",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["string"],
        tips: &[],
        group: Group::String,
        since: "2.6.0",
        summary: "Adds to the number at a key.",
        complexity: "O(1)",
        run: incrbyfloat,
        subcommands: &[],
    },
];

fn incr(c: &mut Call<'_, '_>) -> Result<(), Error> {
    add(c, 1)
}

fn decr(c: &mut Call<'_, '_>) -> Result<(), Error> {
    add(c, -1)
}

fn incrby(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let amount = integer(&c.args[2])?;
    add(c, amount)
}

fn decrby(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let amount = integer(&c.args[2])?;
    add(c, amount.checked_neg().ok_or(Error::new("ERR decrement would overflow"))?)
}

fn add(c: &mut Call<'_, '_>, amount: i64) -> Result<(), Error> {
    let key = &c.args[1];
    let held = match c.keys.string_to_change(key)? {
        Some(text) => number::parse_i64(text).ok_or(Error::NOT_INTEGER)?,
        None => 0,
    };
    let total = held.checked_add(amount).ok_or(Error::new("ERR increment or decrement would overflow"))?;
    if c.keys.counts_per_origin() {
        c.keys.add(key, None, Kind::String, Amount::Int(amount.into()));
    } else {
        c.keys.apply(key, &Change::Value(itoa::Buffer::new().format(total).as_bytes()));
    }
    c.keys.notify(EventClass::STRING, "incrby", key);
    c.reply.int(total);
    Ok(())
}

fn incrbyfloat(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let key = &c.args[1];
    let held = match c.keys.string_to_change(key)? {
        Some(text) => LongDouble::parse(text).ok_or(Error::NOT_FLOAT)?,
        None => LongDouble::ZERO,
    };
    let amount = LongDouble::parse(&c.args[2]).ok_or(Error::NOT_FLOAT)?;
    let total = held + amount;
    if !total.is_finite() {
        return Err(Error::new("ERR increment would produce NaN or Infinity"));
    }
    if c.keys.counts_per_origin() {
        c.keys.add(key, None, Kind::String, Amount::Float(amount));
        // The base plus the sum of amounts may round otherwise than the total above.
        c.reply.bulk_opt(c.keys.string_to_change(key)?);
    } else {
        let mut text = Vec::new();
        total.write(&mut text);
        c.keys.apply(key, &Change::Value(&text));
        c.reply.bulk(&text);
    }
    c.keys.notify(EventClass::STRING, "incrbyfloat", key);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    #[test]
    fn replies_are_what_get_answers_with_and_without_partners() {
        let check = |commands: &[&str], expected: &str| {
            for mut f in [Fixture::new(), Fixture::replicating()] {
                let replies: Vec<String> = commands.iter().map(|command| f.run(command)).collect();
                let last = replies.last().map(|reply| reply.trim_start_matches(':').rsplit(' ').next());
                assert_eq!(last, Some(Some(expected)), "{commands:?}: {replies:?}");
                f.check("GET k", &format!("${} {expected}", expected.len()));
            }
        };
        check(&["INCR k"], "1");
        check(&["DECR k", "DECRBY k 10"], "-11");
        check(&["SET k 5", "INCRBY k -7"], "-2");
        check(&["INCRBYFLOAT k 0.1", "INCRBYFLOAT k 0.2"], "0.3");
        check(&["SET k 1.5e3", "INCRBYFLOAT k 1", "INCR k"], "1502");
        check(&["SET k 9223372036854775806", "INCR k", "INCRBYFLOAT k 1"], "9223372036854775808");
        check(&["INCRBY k -9223372036854775808"], "-9223372036854775808");
        check(&["INCR k", "APPEND k 5", "INCR k"], "16");
    }

    #[test]
    fn an_integer_counts_though_a_partner_made_the_value_whole() {
        let (mut a, mut b) = (Fixture::replicating(), Fixture::numbered(2));
        b.engine.start_replicating();
        for command in ["SET k 1.5", "INCRBYFLOAT k 0.5", "HSET h f 1.5", "HINCRBYFLOAT h f 0.5"] {
            a.run(command);
        }
        b.merge(&a, &a.written());
        b.check("INCRBY k 5", ":7");
        b.check("HINCRBY h f 5", ":7");
        a.merge(&b, &b.written());
        for f in [&mut a, &mut b] {
            f.check("GET k", "$1 7");
            f.check("HGET h f", "$1 7");
        }
    }

    #[test]
    fn numbers_beyond_the_limits_are_refused() {
        for mut f in [Fixture::new(), Fixture::replicating()] {
            f.run("SET k 9223372036854775807");
            f.check("INCR k", "-ERR increment or decrement would overflow");
            f.check("DECRBY k -9223372036854775808", "-ERR decrement would overflow");
            f.check("INCRBYFLOAT k inf", "-ERR increment would produce NaN or Infinity");
            f.check("INCRBYFLOAT k nan", "-ERR value is not a valid float");
            f.check("GET k", "$19 9223372036854775807");
        }
    }
}
