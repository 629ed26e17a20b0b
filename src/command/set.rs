//! Sets: members, and random picks of them. What combines several sets is in [`set_algebra`](super::set_algebra).

use super::parse::positive;
use super::pick;
use super::scan::{self, Options, Page, Scope};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::resp::args::OwnedArgs;
use crate::store::delta::Change;
use crate::store::set::Set;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "sadd",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "1.0.0",
        summary: "Adds members to a set.",
        complexity: "O(1)",
        run: sadd,
        subcommands: &[],
    },
    Command {
        name: "scard",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "1.0.0",
        summary: "Returns the number of members of a set.",
        complexity: "O(1)",
        run: scard,
        subcommands: &[],
    },
    Command {
        name: "sismember",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "1.0.0",
        summary: "Tells whether a set has a member.",
        complexity: "O(1)",
        run: sismember,
        subcommands: &[],
    },
    Command {
        name: "smembers",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["set"],
        tips: &["nondeterministic_output_order"],
        group: Group::Set,
        since: "1.0.0",
        summary: "Returns all members of a set.",
        complexity: "O(N)",
        run: smembers,
        subcommands: &[],
    },
    Command {
        name: "smismember",
        arity: -3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::READ_1],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "6.2.0",
        summary: "Tells for several members whether a set has them.",
        complexity: "O(N)",
        run: smismember,
        subcommands: &[],
    },
    Command {
        name: "smove",
        arity: 4,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"]), KeySpec::at(2, &["RW", "insert"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "1.0.0",
        summary: "Moves a member from one set to another.",
        complexity: "O(1)",
        run: smove,
        subcommands: &[],
    },
    Command {
        name: "spop",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        categories: &["set"],
        tips: &["nondeterministic_output"],
        group: Group::Set,
        since: "1.0.0",
        summary: "Removes and returns random members of a set.",
        complexity: "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
        run: spop,
        subcommands: &[],
    },
    Command {
        name: "srandmember",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["set"],
        tips: &["nondeterministic_output"],
        group: Group::Set,
        since: "1.0.0",
        summary: "Returns random members of a set.",
        complexity: "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
        run: srandmember,
        subcommands: &[],
    },
    Command {
        name: "srem",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        categories: &["set"],
        tips: &[],
        group: Group::Set,
        since: "1.0.0",
        summary: "Removes members of a set.",
        complexity: "O(N)",
        run: srem,
        subcommands: &[],
    },
    Command {
        name: "sscan",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::READ_1],
        categories: &["set"],
        tips: &["nondeterministic_output"],
        group: Group::Set,
        since: "2.8.0",
        summary: "Iterates over the members of a set.",
        complexity: "O(1)",
        run: sscan,
        subcommands: &[],
    },
];

fn sadd(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let mut added = 0;
    for member in args.slice(2..) {
        added += i64::from(add(c, key, member)?);
    }
    if added > 0 {
        c.keys.notify(EventClass::SET, "sadd", key);
    }
    c.reply.int(added);
    Ok(())
}

/// Adds a member unless the set has it. Returns whether it did.
fn add(c: &mut Call<'_, '_>, key: &[u8], member: &[u8]) -> Result<bool, Error> {
    let has = c.keys.set_to_change(key)?.is_some_and(|set| set.contains(member));
    Ok(!has && c.keys.apply(key, &Change::Member(member)))
}

/// Removes a member if the set has it. Returns whether it did.
fn remove(c: &mut Call<'_, '_>, key: &[u8], member: &[u8]) -> Result<bool, Error> {
    let has = c.keys.set_to_change(key)?.is_some_and(|set| set.contains(member));
    Ok(has && c.keys.apply(key, &Change::MemberRemove(member)))
}

/// Tells of a removal, and of the key's end if nothing is left.
fn notify_removed(c: &mut Call<'_, '_>, event: &'static str, key: &[u8]) {
    c.keys.notify(EventClass::SET, event, key);
    if !c.keys.exists(key) {
        c.keys.notify(EventClass::GENERIC, "del", key);
    }
}

fn scard(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let len = c.keys.set(&c.args[1])?.map_or(0, Set::len);
    c.reply.int(len as i64);
    Ok(())
}

fn sismember(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let has = c.keys.set(&c.args[1])?.is_some_and(|set| set.contains(&c.args[2]));
    c.reply.int(has.into());
    Ok(())
}

fn smembers(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let Some(set) = c.keys.set(&c.args[1])? else {
        c.reply.set(0);
        return Ok(());
    };
    c.reply.set(set.len());
    set.iter().for_each(|member| c.reply.bulk(member));
    Ok(())
}

fn smismember(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let members = c.args.slice(2..);
    let set = c.keys.set(&c.args[1])?;
    c.reply.array(members.len());
    for member in members {
        c.reply.int(set.is_some_and(|set| set.contains(member)).into());
    }
    Ok(())
}

fn smove(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (from, to, member) = (&args[1], &args[2], &args[3]);
    let Some(has) = c.keys.set_to_change(from)?.map(|set| set.contains(member)) else {
        c.reply.int(0);
        return Ok(());
    };
    c.keys.set_to_change(to)?;
    if has && from != to {
        remove(c, from, member)?;
        notify_removed(c, "srem", from);
        if add(c, to, member)? {
            c.keys.notify(EventClass::SET, "sadd", to);
        }
    }
    c.reply.int(has.into());
    Ok(())
}

fn spop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let count = match (args.get(2), args.len()) {
        (None, _) => None,
        (Some(count), 3) => Some(positive(count)?),
        (Some(_), _) => return Err(Error::SYNTAX),
    };
    let engine = c.engine;
    let Some(set) = c.keys.set_to_change(key)? else {
        match count {
            Some(_) => c.reply.set(0),
            None => c.reply.null(),
        }
        return Ok(());
    };
    let wanted = usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX);
    let places = pick::places(set.len(), wanted, || engine.draw());
    // Removals move members to other places: copy them all out first.
    let picked: OwnedArgs = places.into_iter().filter_map(|place| set.at(place)).collect();
    if count.is_some() {
        c.reply.set(picked.args().len());
    }
    for member in picked.args() {
        remove(c, key, member)?;
        c.reply.bulk(member);
    }
    if !picked.args().is_empty() {
        notify_removed(c, "spop", key);
    }
    Ok(())
}

fn srandmember(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let engine = c.engine;
    let count = match (c.args.get(2), c.args.len()) {
        (None, _) => {
            let set = c.keys.set(&c.args[1])?;
            c.reply.bulk_opt(set.and_then(|set| set.at(pick::place(engine.draw(), set.len()))));
            return Ok(());
        }
        (Some(count), 3) => pick::count(count)?,
        (Some(_), _) => return Err(Error::SYNTAX),
    };
    let Some(set) = c.keys.set(&c.args[1])? else {
        c.reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        c.reply.array(wanted);
        for _ in 0..wanted {
            let place = pick::place(engine.draw(), set.len());
            c.reply.bulk(set.at(place).expect("below its length"));
            pick::check_size(&c.reply)?;
        }
    } else {
        let places = pick::places(set.len(), wanted, || engine.draw());
        c.reply.array(places.len());
        places.into_iter().for_each(|place| c.reply.bulk(set.at(place).expect("below its length")));
    }
    Ok(())
}

fn srem(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let mut removed = 0;
    for member in args.slice(2..) {
        removed += i64::from(remove(c, key, member)?);
    }
    if removed > 0 {
        notify_removed(c, "srem", key);
    }
    c.reply.int(removed);
    Ok(())
}

fn sscan(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let cursor = scan::cursor(&c.args[2])?;
    let engine = c.engine;
    let Some(set) = c.keys.set(&c.args[1])? else {
        scan::write_empty(&mut c.reply);
        return Ok(());
    };
    let options = Options::parse(c.args.slice(3..), Scope::Elements)?;
    let integers_max = engine.config.read().set_max_intset_entries as usize;
    let page = if set.len() <= integers_max && set.holds_integers() {
        Page::whole(set.len())
    } else {
        Page::at(cursor, options.count, set.len())
    };
    page.write(&mut c.reply, |reply, place| match set.at(place) {
        Some(member) if options.matches(member) => {
            reply.bulk(member);
            1
        }
        Some(_) | None => 0,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    #[test]
    fn what_changes_nothing_has_no_effect() {
        let mut server = Fixture::replicating();
        server.run("SADD s a b");
        let before = server.changes();
        server.check("SADD s a b a", ":0");
        server.check("SREM s x x", ":0");
        server.check("SMOVE s s a", ":1");
        server.check("SMOVE s t x", ":0");
        server.check("SPOP s 0", "*0");
        server.check("SINTERSTORE nokey s nokey", ":0");
        assert_eq!(server.changes(), before);
        server.check("SADD s c c", ":1");
        server.check("SREM s c c", ":1");
        assert_eq!(server.changes(), before + 2);
    }

    #[test]
    fn popping_removes_what_it_returns() {
        let mut server = Fixture::new();
        let members: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        server.run(&format!("SADD s {}", members.join(" ")));
        let mut popped: Vec<String> = Vec::new();
        for command in ["SPOP s", "SPOP s 20", "SPOP s 9223372036854775807"] {
            let reply = server.run(command);
            popped.extend(reply.split(' ').filter(|part| part.parse::<u32>().is_ok()).map(str::to_owned));
        }
        popped.sort_by_key(|member| member.parse::<u32>().unwrap());
        assert_eq!(popped, members);
        server.check("SPOP s", "$-1");
        server.check("SCARD s", ":0");
    }

    #[test]
    fn a_destination_may_be_a_source_or_of_another_type() {
        let mut server = Fixture::new();
        server.run("SADD a 1 2");
        server.run("SADD b 2 3");
        server.check("SDIFFSTORE a a b", ":1");
        server.check("SMEMBERS a", "*1 $1 1");
        server.check("SUNIONSTORE a a b a", ":3");
        server.run("SET s x");
        server.check("SINTERSTORE s a b", ":2");
        server.check("SMEMBERS s", "*2 $1 2 $1 3");
        server.check("SDIFFSTORE s a a", ":0");
        server.check("GET s", "$-1");
    }

    #[test]
    fn sets_of_integers_are_scanned_whole() {
        let mut server = Fixture::new();
        let members: Vec<String> = (0..512).map(|n| n.to_string()).collect();
        server.run(&format!("SADD s {}", members.join(" ")));
        assert!(server.run("SSCAN s 0 COUNT 1").starts_with("*2 $1 0 *512 "));
        server.run("SREM s 0");
        server.run("SADD s x");
        server.check("SSCAN s 0 COUNT 1", "*2 $3 511 *1 $1 x");
    }
}
