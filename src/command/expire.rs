//! When keys expire.

use super::parse::{integer, is};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::resp::args::Args;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "expire",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Has a key expire after so many seconds.",
        complexity: "O(1)",
        run: expire,
        subcommands: &[],
    },
    Command {
        name: "expireat",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "1.2.0",
        summary: "Has a key expire at a time in Unix seconds.",
        complexity: "O(1)",
        run: expireat,
        subcommands: &[],
    },
    Command {
        name: "expiretime",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "7.0.0",
        summary: "Returns when a key expires, in Unix seconds.",
        complexity: "O(1)",
        run: expiretime,
        subcommands: &[],
    },
    Command {
        name: "persist",
        arity: 2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "2.2.0",
        summary: "Has a key expire no more.",
        complexity: "O(1)",
        run: persist,
        subcommands: &[],
    },
    Command {
        name: "pexpire",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "2.6.0",
        summary: "Has a key expire after so many milliseconds.",
        complexity: "O(1)",
        run: pexpire,
        subcommands: &[],
    },
    Command {
        name: "pexpireat",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "2.6.0",
        summary: "Has a key expire at a time in Unix milliseconds.",
        complexity: "O(1)",
        run: pexpireat,
        subcommands: &[],
    },
    Command {
        name: "pexpiretime",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        categories: &["keyspace"],
        tips: &[],
        group: Group::Generic,
        since: "7.0.0",
        summary: "Returns when a key expires, in Unix milliseconds.",
        complexity: "O(1)",
        run: pexpiretime,
        subcommands: &[],
    },
    Command {
        name: "pttl",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        categories: &["keyspace"],
        tips: &["nondeterministic_output"],
        group: Group::Generic,
        since: "2.6.0",
        summary: "Returns the milliseconds a key has left.",
        complexity: "O(1)",
        run: pttl,
        subcommands: &[],
    },
    Command {
        name: "ttl",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        categories: &["keyspace"],
        tips: &["nondeterministic_output"],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Returns the seconds a key has left.",
        complexity: "O(1)",
        run: ttl,
        subcommands: &[],
    },
];

/// What the number of an EXPIRE command means.
#[derive(Clone, Copy)]
struct Time {
    /// The command, as errors name it.
    name: &'static str,
    /// Milliseconds in one of its units.
    unit_ms: i64,
    /// Whether it counts from now, not from the epoch.
    from_now: bool,
}

fn expire(c: &mut Call<'_, '_>) -> Result<(), Error> {
    expire_at(c, Time { name: "expire", unit_ms: 1000, from_now: true })
}

fn pexpire(c: &mut Call<'_, '_>) -> Result<(), Error> {
    expire_at(c, Time { name: "pexpire", unit_ms: 1, from_now: true })
}

fn expireat(c: &mut Call<'_, '_>) -> Result<(), Error> {
    expire_at(c, Time { name: "expireat", unit_ms: 1000, from_now: false })
}

fn pexpireat(c: &mut Call<'_, '_>) -> Result<(), Error> {
    expire_at(c, Time { name: "pexpireat", unit_ms: 1, from_now: false })
}

fn expire_at(c: &mut Call<'_, '_>, time: Time) -> Result<(), Error> {
    let key = &c.args[1];
    let condition = Condition::parse(c.args.slice(3..))?;
    let amount = integer(&c.args[2])?;
    let now_ms = c.keys.now_ms() as i64;
    let from_ms = if time.from_now { now_ms } else { 0 };
    let at_ms = amount
        .checked_mul(time.unit_ms)
        .and_then(|ms| ms.checked_add(from_ms))
        .ok_or_else(|| Error::from(format!("ERR invalid expire time in '{}' command", time.name)))?;
    let exists = c.keys.find(key).is_some();
    if !exists || !condition.holds(c.keys.expires_at_ms(key), at_ms) {
        c.reply.int(0);
        return Ok(());
    }
    if at_ms <= now_ms {
        c.keys.delete(key);
        c.keys.notify(EventClass::GENERIC, "del", key);
    } else {
        c.keys.expire(key, Some(at_ms as u64));
        c.keys.notify(EventClass::GENERIC, "expire", key);
    }
    c.reply.int(1);
    Ok(())
}

/// NX, XX, GT, LT.
#[derive(Clone, Copy, Default)]
struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    fn parse(options: Args<'_>) -> Result<Self, Error> {
        let mut condition = Condition::default();
        for option in options {
            match option {
                _ if is(option, "nx") => condition.nx = true,
                _ if is(option, "xx") => condition.xx = true,
                _ if is(option, "gt") => condition.gt = true,
                _ if is(option, "lt") => condition.lt = true,
                _ => return Err(format!("ERR Unsupported option {}", String::from_utf8_lossy(option)).into()),
            }
        }
        let Condition { nx, xx, gt, lt } = condition;
        if nx && (xx || gt || lt) {
            return Err(Error::new("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if gt && lt {
            return Err(Error::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    /// Whether the expiry a key has may be replaced. None is later than any.
    fn holds(self, held_ms: Option<u64>, at_ms: i64) -> bool {
        match held_ms {
            None => !self.xx && !self.gt,
            Some(held_ms) => {
                let held_ms = held_ms as i64;
                !(self.nx || self.gt && at_ms <= held_ms || self.lt && at_ms >= held_ms)
            }
        }
    }
}

fn persist(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let key = &c.args[1];
    let persisted = c.keys.find(key).is_some() && c.keys.expires_at_ms(key).is_some();
    if persisted {
        c.keys.expire(key, None);
        c.keys.notify(EventClass::GENERIC, "persist", key);
    }
    c.reply.int(persisted.into());
    Ok(())
}

fn ttl(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let now_ms = c.keys.now_ms();
    tell(c, |at_ms| to_seconds(at_ms.saturating_sub(now_ms)))
}

fn pttl(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let now_ms = c.keys.now_ms();
    tell(c, |at_ms| at_ms.saturating_sub(now_ms))
}

fn expiretime(c: &mut Call<'_, '_>) -> Result<(), Error> {
    tell(c, to_seconds)
}

fn pexpiretime(c: &mut Call<'_, '_>) -> Result<(), Error> {
    tell(c, |at_ms| at_ms)
}

/// Answers what `show` makes of the expiry; -1 where there is none, -2 where there is no key.
fn tell(c: &mut Call<'_, '_>, show: impl FnOnce(u64) -> u64) -> Result<(), Error> {
    let key = &c.args[1];
    let told = match c.keys.look(key).is_some() {
        true => c.keys.expires_at_ms(key).map_or(-1, |at_ms| show(at_ms) as i64),
        false => -2,
    };
    c.reply.int(told);
    Ok(())
}

fn to_seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Fixture;

    #[test]
    fn conditions_compare_with_the_expiry_held() {
        let check = |options: &str, held_ms, holds| {
            let args: crate::resp::args::OwnedArgs = options.split_whitespace().collect();
            let condition = Condition::parse(args.args()).unwrap();
            assert_eq!(condition.holds(held_ms, 100), holds, "{options} {held_ms:?}");
        };
        for (options, none, same, sooner, later) in [
            ("", true, true, true, true),
            ("nx", true, false, false, false),
            ("XX", false, true, true, true),
            ("gt", false, false, true, false),
            ("LT", true, false, false, true),
            ("XX LT", false, false, false, true),
            ("XX GT", false, false, true, false),
        ] {
            check(options, None, none);
            check(options, Some(100), same);
            check(options, Some(99), sooner);
            check(options, Some(101), later);
        }
    }

    #[test]
    fn a_key_given_the_expiry_it_died_by_once_more_expires_again() {
        let mut node = Fixture::replicating();
        let at_ms = node.now_ms + 10;
        node.run("SET k 1");
        node.run(&format!("PEXPIREAT k {at_ms}"));
        node.now_ms += 10;
        node.tick();
        node.check("DBSIZE", ":0");
        // As a peer would that had not seen it die.
        let key = node.engine.hash(b"k");
        let stamp = node.engine.clock.tick(crate::clock::NTP64(0));
        let expiry = crate::store::delta::Change::Expire(Some(at_ms), crate::store::delta::Kind::String);
        let cx = node.engine.shard_context();
        node.engine.cell(key.range()).lock().shard.merge(0, b"k", key, stamp, &expiry, 0, cx);
        node.tick();
        node.check("DBSIZE", ":0");
    }
}
