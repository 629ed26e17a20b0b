//! Hashes: fields with values, and numbers in fields.

use super::parse::{integer, is};
use super::pick;
use super::scan::{self, Options, Page, Scope};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::number;
use crate::number::long_double::LongDouble;
use crate::resp::reply::{Protocol, Reply};
use crate::store::delta::{Amount, Change, Kind};
use crate::store::hash::Hash;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "hdel",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Removes fields of a hash.",
        complexity: "O(N)",
        run: hdel,
        subcommands: &[],
    },
    Command {
        name: "hexists",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Tells whether a hash has a field.",
        complexity: "O(1)",
        run: hexists,
        subcommands: &[],
    },
    Command {
        name: "hget",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns the value of a field.",
        complexity: "O(1)",
        run: hget,
        subcommands: &[],
    },
    Command {
        name: "hgetall",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["hash"],
        tips: &["nondeterministic_output_order"],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns all fields and values of a hash.",
        complexity: "O(N)",
        run: hgetall,
        subcommands: &[],
    },
    Command {
        name: "hincrby",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Adds an integer to the integer in a field.",
        complexity: "O(1)",
        run: hincrby,
        subcommands: &[],
    },
    Command {
        name: "hincrbyfloat",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::UPDATE_1],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.6.0",
        summary: "Adds a float to the number in a field.",
        complexity: "O(1)",
        run: hincrbyfloat,
        subcommands: &[],
    },
    Command {
        name: "hkeys",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["hash"],
        tips: &["nondeterministic_output_order"],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns all fields of a hash.",
        complexity: "O(N)",
        run: hkeys,
        subcommands: &[],
    },
    Command {
        name: "hlen",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns the number of fields of a hash.",
        complexity: "O(1)",
        run: hlen,
        subcommands: &[],
    },
    Command {
        name: "hmget",
        arity: -3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns the values of several fields.",
        complexity: "O(N)",
        run: hmget,
        subcommands: &[],
    },
    Command {
        name: "hmset",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Sets fields of a hash; HSET does the same and counts.",
        complexity: "O(N)",
        run: hmset,
        subcommands: &[],
    },
    Command {
        name: "hrandfield",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["hash"],
        tips: &["nondeterministic_output"],
        group: Group::Hash,
        since: "6.2.0",
        summary: "Returns random fields of a hash, with or without values.",
        complexity: "O(N)",
        run: hrandfield,
        subcommands: &[],
    },
    Command {
        name: "hscan",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["hash"],
        tips: &["nondeterministic_output"],
        group: Group::Hash,
        since: "2.8.0",
        summary: "Iterates over the fields and values of a hash.",
        complexity: "O(1)",
        run: hscan,
        subcommands: &[],
    },
    Command {
        name: "hset",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Sets fields of a hash and returns how many are new.",
        complexity: "O(1)",
        run: hset,
        subcommands: &[],
    },
    Command {
        name: "hsetnx",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Sets a field unless the hash has it.",
        complexity: "O(1)",
        run: hsetnx,
        subcommands: &[],
    },
    Command {
        name: "hstrlen",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "3.2.0",
        summary: "Returns the length of the value of a field.",
        complexity: "O(1)",
        run: hstrlen,
        subcommands: &[],
    },
    Command {
        name: "hvals",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["hash"],
        tips: &["nondeterministic_output_order"],
        group: Group::Hash,
        since: "2.0.0",
        summary: "Returns all values of a hash.",
        complexity: "O(N)",
        run: hvals,
        subcommands: &[],
    },
    Command {
        name: "keydb.hrename",
        arity: 4,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "update", "delete"])],
        categories: &["hash"],
        tips: &[],
        group: Group::Hash,
        since: "6.0.0",
        summary: "Renames a field of a hash, as in KeyDB.",
        complexity: "O(1)",
        run: hrename,
        subcommands: &[],
    },
];

fn hdel(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let mut removed = 0;
    for field in args.slice(2..) {
        if c.keys.hash_to_change(key)?.is_some_and(|hash| hash.contains(field)) {
            c.keys.apply(key, &Change::FieldRemove(field));
            removed += 1;
        }
    }
    if removed > 0 {
        c.keys.notify(EventClass::HASH, "hdel", key);
        if !c.keys.exists(key) {
            c.keys.notify(EventClass::GENERIC, "del", key);
        }
    }
    c.reply.int(removed);
    Ok(())
}

fn hexists(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let has = c.keys.hash(&c.args[1])?.is_some_and(|hash| hash.contains(&c.args[2]));
    c.reply.int(has.into());
    Ok(())
}

fn hget(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let value = c.keys.hash(&c.args[1])?.and_then(|hash| hash.get(&c.args[2]));
    c.reply.bulk_opt(value);
    Ok(())
}

fn hgetall(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let Some(hash) = c.keys.hash(&c.args[1])? else {
        c.reply.map(0);
        return Ok(());
    };
    c.reply.map(hash.len());
    for (field, value) in hash.iter() {
        c.reply.bulk(field);
        c.reply.bulk(value);
    }
    Ok(())
}

fn hincrby(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (key, field) = (&c.args[1], &c.args[2]);
    let amount = integer(&c.args[3])?;
    let held = match c.keys.hash_to_change(key)?.and_then(|hash| hash.get(field)) {
        Some(text) => number::parse_i64(text).ok_or(Error::new("ERR hash value is not an integer"))?,
        None => 0,
    };
    let total = held.checked_add(amount).ok_or(Error::new("ERR increment or decrement would overflow"))?;
    if c.keys.counts_per_origin() {
        c.keys.add(key, Some(field), Kind::Hash, Amount::Int(amount.into()));
    } else {
        c.keys.apply(key, &Change::Field(field, itoa::Buffer::new().format(total).as_bytes()));
    }
    c.keys.notify(EventClass::HASH, "hincrby", key);
    c.reply.int(total);
    Ok(())
}

fn hincrbyfloat(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (key, field) = (&c.args[1], &c.args[2]);
    let amount = LongDouble::parse(&c.args[3]).ok_or(Error::NOT_FLOAT)?;
    if !amount.is_finite() {
        return Err(Error::new("ERR value is NaN or Infinity"));
    }
    let held = match c.keys.hash_to_change(key)?.and_then(|hash| hash.get(field)) {
        Some(text) => LongDouble::parse(text).ok_or(Error::new("ERR hash value is not a float"))?,
        None => LongDouble::ZERO,
    };
    let total = held + amount;
    if !total.is_finite() {
        return Err(Error::new("ERR increment would produce NaN or Infinity"));
    }
    if c.keys.counts_per_origin() {
        c.keys.add(key, Some(field), Kind::Hash, Amount::Float(amount));
    } else {
        let mut text = Vec::new();
        total.write(&mut text);
        c.keys.apply(key, &Change::Field(field, &text));
    }
    c.keys.notify(EventClass::HASH, "hincrbyfloat", key);
    // Sums of several origins may round otherwise than `total`: the reply is what HGET would say.
    c.reply.bulk_opt(c.keys.hash_to_change(key)?.and_then(|hash| hash.get(field)));
    Ok(())
}

fn hkeys(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let Some(hash) = c.keys.hash(&c.args[1])? else {
        c.reply.array(0);
        return Ok(());
    };
    c.reply.array(hash.len());
    hash.iter().for_each(|(field, _)| c.reply.bulk(field));
    Ok(())
}

fn hlen(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let len = c.keys.hash(&c.args[1])?.map_or(0, Hash::len);
    c.reply.int(len as i64);
    Ok(())
}

fn hmget(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let fields = c.args.slice(2..);
    let hash = c.keys.hash(&c.args[1])?;
    c.reply.array(fields.len());
    fields.iter().for_each(|field| c.reply.bulk_opt(hash.and_then(|hash| hash.get(field))));
    Ok(())
}

fn hmset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    set_fields(c, "hmset")?;
    c.reply.ok();
    Ok(())
}

fn hset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let created = set_fields(c, "hset")?;
    c.reply.int(created as i64);
    Ok(())
}

/// Sets the fields of HSET and HMSET. Returns how many are new.
fn set_fields(c: &mut Call<'_, '_>, name: &str) -> Result<usize, Error> {
    let args = c.args;
    if !args.len().is_multiple_of(2) {
        return Err(Error::wrong_arity(name));
    }
    let key = &args[1];
    let before = c.keys.hash_to_change(key)?.map_or(0, Hash::len);
    for at in (2..args.len()).step_by(2) {
        c.keys.apply(key, &Change::Field(&args[at], &args[at + 1]));
    }
    c.keys.notify(EventClass::HASH, "hset", key);
    let after = c.keys.hash_to_change(key)?.map_or(0, Hash::len);
    Ok(after - before)
}

fn hsetnx(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (key, field) = (&c.args[1], &c.args[2]);
    if c.keys.hash_to_change(key)?.is_some_and(|hash| hash.contains(field)) {
        c.reply.int(0);
        return Ok(());
    }
    c.keys.apply(key, &Change::Field(field, &c.args[3]));
    c.keys.notify(EventClass::HASH, "hset", key);
    c.reply.int(1);
    Ok(())
}

fn hstrlen(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let value = c.keys.hash(&c.args[1])?.and_then(|hash| hash.get(&c.args[2]));
    c.reply.int(value.map_or(0, <[u8]>::len) as i64);
    Ok(())
}

fn hvals(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let Some(hash) = c.keys.hash(&c.args[1])? else {
        c.reply.array(0);
        return Ok(());
    };
    c.reply.array(hash.len());
    hash.iter().for_each(|(_, value)| c.reply.bulk(value));
    Ok(())
}

/// What HRANDFIELD replies of each field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Field,
    FieldAndValue,
}

impl Parts {
    fn write(self, reply: &mut Reply<'_>, (field, value): (&[u8], &[u8])) {
        if self == Parts::FieldAndValue && reply.protocol() == Protocol::Resp3 {
            reply.array(2);
        }
        reply.bulk(field);
        if self == Parts::FieldAndValue {
            reply.bulk(value);
        }
    }

    /// How many elements of the reply's array `fields` fields are. More than any reply holds if that overflows.
    fn elements(self, fields: usize, protocol: Protocol) -> usize {
        match (self, protocol) {
            (Parts::FieldAndValue, Protocol::Resp2) => fields.saturating_mul(2),
            (Parts::FieldAndValue, Protocol::Resp3) | (Parts::Field, _) => fields,
        }
    }
}

fn hrandfield(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let Some(count) = c.args.get(2) else { return hrandfield_single(c) };
    let count = pick::count(count)?;
    let parts = match c.args.get(3) {
        None => Parts::Field,
        Some(word) if c.args.len() == 4 && is(word, "withvalues") => Parts::FieldAndValue,
        Some(_) => return Err(Error::SYNTAX),
    };
    if parts == Parts::FieldAndValue && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::new("ERR value is out of range"));
    }
    let (engine, protocol) = (c.engine, c.reply.protocol());
    let Some(hash) = c.keys.hash(&c.args[1])? else {
        c.reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        c.reply.array(parts.elements(wanted, protocol));
        for _ in 0..wanted {
            let place = pick::place(engine.draw(), hash.len());
            parts.write(&mut c.reply, hash.at(place).expect("below its length"));
            pick::check_size(&c.reply)?;
        }
    } else {
        let places = pick::places(hash.len(), wanted, || engine.draw());
        c.reply.array(parts.elements(places.len(), protocol));
        for place in places {
            parts.write(&mut c.reply, hash.at(place).expect("below its length"));
        }
    }
    Ok(())
}

fn hrandfield_single(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let engine = c.engine;
    let picked = c.keys.hash(&c.args[1])?.and_then(|hash| hash.at(pick::place(engine.draw(), hash.len())));
    c.reply.bulk_opt(picked.map(|(field, _)| field));
    Ok(())
}

fn hscan(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let cursor = scan::cursor(&c.args[2])?;
    let engine = c.engine;
    let Some(hash) = c.keys.hash(&c.args[1])? else {
        scan::write_empty(&mut c.reply);
        return Ok(());
    };
    let options = Options::parse(c.args.slice(3..), Scope::Elements)?;
    let (entries_max, bytes_max) = {
        let config = engine.config.read();
        (config.hash_max_listpack_entries, config.hash_max_listpack_value)
    };
    let page = if hash.fits(entries_max as usize, bytes_max as usize) {
        Page::whole(hash.len())
    } else {
        Page::at(cursor, options.count, hash.len())
    };
    page.write(&mut c.reply, |reply, place| match hash.at(place) {
        Some((field, value)) if options.matches(field) => {
            reply.bulk(field);
            reply.bulk(value);
            2
        }
        Some(_) | None => 0,
    });
    Ok(())
}

fn hrename(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (key, from, to) = (&c.args[1], &c.args[2], &c.args[3]);
    let Some(hash) = c.keys.hash_to_change(key)? else {
        c.reply.null();
        return Ok(());
    };
    let value = hash.get(from).ok_or(Error::new("ERR hash key doesn't exist"))?;
    if from != to {
        let value = value.to_vec();
        c.keys.apply(key, &Change::Field(to, &value));
        c.keys.apply(key, &Change::FieldRemove(from));
        c.keys.notify(EventClass::HASH, "hset", key);
        c.keys.notify(EventClass::HASH, "hdel", key);
    }
    c.reply.int(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;
    use crate::resp::reply::Protocol;

    #[test]
    fn counting_per_origin_replies_like_counting_alone() {
        for mut server in [Fixture::new(), Fixture::replicating()] {
            server.check("HINCRBY h n 5", ":5");
            server.check("HINCRBY h n -7", ":-2");
            server.check("HINCRBYFLOAT h n 0.5", "$4 -1.5");
            server.check("HINCRBYFLOAT h n 1.5", "$1 0");
            server.check("HINCRBY h n 3", ":3");
            server.check("HGET h n", "$1 3");
            server.check("HSET h n 9223372036854775807 f 1.25", ":1");
            server.check("HINCRBY h n 1", "-ERR increment or decrement would overflow");
            server.check("HINCRBY h f 1", "-ERR hash value is not an integer");
            server.check("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity");
            server.check("HGETALL h", "*4 $1 n $19 9223372036854775807 $1 f $4 1.25");
        }
    }

    #[test]
    fn what_changes_nothing_has_no_effect() {
        let mut server = Fixture::replicating();
        server.run("HSET h a 1 b 2");
        let before = server.changes();
        server.check("HDEL h x y", ":0");
        server.check("HSETNX h a 9", ":0");
        server.check("HDEL nokey x", ":0");
        server.check("KEYDB.HRENAME h a a", ":1");
        assert_eq!(server.changes(), before);
        server.check("HDEL h a a", ":1");
        assert_eq!(server.changes(), before + 1);
        server.check("HDEL h b b", ":1");
        server.check("HLEN h", ":0");
    }

    #[test]
    fn a_field_is_renamed_over_another() {
        let mut server = Fixture::new();
        server.run("HSET h a 1 b 2");
        server.check("KEYDB.HRENAME h a b", ":1");
        server.check("HGETALL h", "*2 $1 b $1 1");
        server.check("KEYDB.HRENAME h a c", "-ERR hash key doesn't exist");
        server.check("KEYDB.HRENAME nokey a c", "$-1");
        server.run("PING");
        server.check("KEYDB.HRENAME h b c", ":1");
        server.check("HGETALL h", "*2 $1 c $1 1");
        server.run("SET s x");
        server.check(
            "KEYDB.HRENAME s a b",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        );
    }

    #[test]
    fn random_fields_with_values_are_pairs_in_resp3() {
        let mut server = Fixture::new();
        server.run("HSET h a 1");
        server.check("HRANDFIELD h -2 WITHVALUES", "*4 $1 a $1 1 $1 a $1 1");
        let mut server = server.speak(Protocol::Resp3);
        server.check("HRANDFIELD h -2 WITHVALUES", "*2 *2 $1 a $1 1 *2 $1 a $1 1");
        server.check("HRANDFIELD h 5 WITHVALUES", "*1 *2 $1 a $1 1");
    }

    #[test]
    fn endless_repeats_are_refused() {
        let mut server = Fixture::new();
        server.run("HSET h a 1");
        let refused = "-ERR value is out of range, the reply would exceed 512 MB";
        server.check("HRANDFIELD h -4000000000 WITHVALUES", refused);
    }

    #[test]
    fn only_big_hashes_are_scanned_in_pages() {
        let mut server = Fixture::new();
        for field in 0..512 {
            server.run(&format!("HSET h {field} v"));
        }
        assert!(server.run("HSCAN h 0 COUNT 1").starts_with("*2 $1 0 *1024 "));
        server.run("HSET h 512 v");
        server.check("HSCAN h 0 COUNT 1", "*2 $3 512 *2 $3 512 $1 v");
        server.check("HSCAN h 512 COUNT 1 MATCH x", "*2 $3 511 *0");
        assert!(server.run("HSCAN h 5").starts_with("*2 $1 0 *10 "));
        server.run("HDEL h 512");
        server.run_args(&[b"HSET", b"h", b"0", &[b'v'; 65]]);
        assert!(server.run("HSCAN h 0 COUNT 1").starts_with("*2 $3 511 *2 "));
    }
}
