//! The server as a whole: time, role, stopping, watching.

use super::family::{container, help};
use super::parse::{deadline_ms_after, integer, is};
use crate::engine::call::{Awaited, Blocking, Call, Outcome};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::engine::standing::{Partner, Role, Standing};
use crate::resp::reply::Reply;

const ANYTIME: Flags = Flags::LOADING.union(Flags::STALE);

const BASE: Command = Command {
    name: "",
    arity: 1,
    flags: ANYTIME.union(Flags::FAST),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Server,
    since: "1.0.0",
    summary: "",
    complexity: "O(1)",
    run: container,
    subcommands: &[],
};

const FAMILY: Command =
    Command { arity: -2, flags: Flags::empty(), complexity: "Depends on the subcommand", ..BASE };

/// The table.
pub const COMMANDS: &[Command] = &[
    // Users come later; until then there is the default one.
    Command {
        name: "acl",
        since: "6.0.0",
        summary: "Commands about users.",
        subcommands: &[Command {
            name: "whoami",
            arity: 2,
            flags: Flags::NOSCRIPT.union(ANYTIME),
            since: "6.0.0",
            summary: "The connection's user.",
            run: whoami,
            ..BASE
        }],
        ..FAMILY
    },
    Command {
        name: "bgrewriteaof",
        flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_ASYNC_LOADING),
        summary: "Has a snapshot made that takes the place of the journals.",
        run: bgrewriteaof,
        ..BASE
    },
    Command {
        name: "failover",
        arity: -1,
        flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::STALE),
        since: "6.2.0",
        summary: "Has a replica take over; equals need none.",
        run: failover,
        ..BASE
    },
    // KeyDB's.
    Command {
        name: "lfence",
        flags: ANYTIME.union(Flags::FAST),
        since: "6.3.0",
        summary: "Answers OK once what was sent before is done.",
        run: lfence,
        ..BASE
    },
    Command {
        name: "module",
        since: "4.0.0",
        summary: "Commands about modules, of which there are none.",
        subcommands: &[
            Command {
                name: "help",
                arity: 2,
                flags: ANYTIME,
                since: "5.0.0",
                summary: "Lists the subcommands.",
                run: module_help,
                ..BASE
            },
            Command {
                name: "list",
                arity: 2,
                flags: Flags::ADMIN.union(Flags::NOSCRIPT),
                tips: &["nondeterministic_output_order"],
                since: "4.0.0",
                summary: "The loaded modules: none.",
                complexity: "O(N) with the number of modules",
                run: module_list,
                ..BASE
            },
        ],
        ..FAMILY
    },
    Command {
        name: "monitor",
        flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(ANYTIME),
        summary: "Sends every command as it runs.",
        complexity: "",
        run: monitor,
        ..BASE
    },
    // KeyDB's.
    Command {
        name: "replping",
        flags: ANYTIME.union(Flags::FAST).union(Flags::ADMIN),
        since: "6.3.0",
        summary: "Answers PONG to a partner.",
        run: replping,
        ..BASE
    },
    Command {
        name: "role",
        flags: Flags::NOSCRIPT.union(ANYTIME).union(Flags::FAST),
        categories: &["admin", "dangerous"],
        since: "2.8.12",
        summary: "What this node is, and its partners.",
        run: role,
        ..BASE
    },
    Command {
        name: "shutdown",
        arity: -1,
        flags: Flags::ADMIN
            .union(Flags::NOSCRIPT)
            .union(ANYTIME)
            .union(Flags::NO_MULTI)
            .union(Flags::ALLOW_BUSY),
        summary: "Stops the server.",
        complexity: "O(N) with the number of keys when it saves, else O(1)",
        run: shutdown,
        ..BASE
    },
    Command {
        name: "time",
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        summary: "Seconds and microseconds of the clock.",
        run: time,
        ..BASE
    },
    Command {
        name: "wait",
        arity: 3,
        flags: Flags::NOSCRIPT,
        categories: &["connection"],
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        group: Group::Generic,
        since: "3.0.0",
        summary: "Waits until partners hold what was written before.",
        run: wait,
        ..BASE
    },
];

fn whoami(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.bulk(b"default");
    Ok(())
}

fn time(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let now_us = c.keys.now_us();
    c.reply.array(2);
    for part in [now_us / 1_000_000, now_us % 1_000_000] {
        c.reply.bulk(itoa::Buffer::new().format(part).as_bytes());
    }
    Ok(())
}

fn lfence(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.ok();
    Ok(())
}

fn replping(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.simple("PONG");
    Ok(())
}

fn monitor(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.blocking == Blocking::Denied {
        return Err(Error::new("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    c.engine.monitors.add(&c.session.client);
    c.reply.ok();
    Ok(())
}

fn role(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.refresh_standing();
    describe_role(c.engine.role(), &c.engine.standing.read(), &mut c.reply);
    Ok(())
}

fn describe_role(role: Role, standing: &Standing, reply: &mut Reply<'_>) {
    match role {
        Role::Master => {
            reply.array(3);
            reply.bulk(b"master");
            reply.int(standing.offset as i64);
            reply.array(standing.replicas.len());
            for replica in &standing.replicas {
                reply.array(3);
                reply.bulk(replica.host.as_bytes());
                reply.bulk(replica.port.to_string().as_bytes());
                reply.bulk(replica.offset.to_string().as_bytes());
            }
        }
        Role::ActiveReplica | Role::Replica => {
            let name = if role == Role::Replica { "slave" } else { "active-replica" };
            if standing.partners.len() != 1 {
                reply.array(standing.partners.len());
            }
            for Partner { address, up, sync, offset, .. } in &standing.partners {
                let state = match (up, sync) {
                    (_, Some(_)) => "sync",
                    (true, None) => "connected",
                    (false, None) => "connect",
                };
                reply.array(5);
                reply.bulk(name.as_bytes());
                reply.bulk(address.host.as_bytes());
                reply.int(address.port.into());
                reply.bulk(state.as_bytes());
                reply.int(*offset as i64);
            }
        }
    }
}

/// `FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT ms]`: no node here waits for another to take over.
fn failover(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let words: Vec<String> =
        c.args.slice(1..).iter().map(|arg| String::from_utf8_lossy(arg).to_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if c.engine.is_active() {
        return Err(Error::new("ERR FAILOVER not allowed in active replication mode"));
    }
    if let ["timeout", ms] = words.as_slice() {
        let ms = integer(ms.as_bytes())?;
        if ms <= 0 {
            return Err(Error::new("ERR FAILOVER timeout must be greater than 0"));
        }
    }
    match words.as_slice() {
        ["abort"] => Err(Error::new("ERR No failover in progress.")),
        [] | ["to", _, _, ..] | ["timeout", _] => match c.engine.role() {
            Role::Replica => Err(Error::new("ERR FAILOVER is not valid when server is a replica.")),
            Role::Master | Role::ActiveReplica => {
                Err(Error::new("ERR FAILOVER requires connected replicas."))
            }
        },
        _ => Err(Error::SYNTAX),
    }
}

/// `BGREWRITEAOF`
fn bgrewriteaof(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if !c.engine.keeps_journal() {
        return Err(Error::new("ERR there is no append only file: appendonly is no"));
    }
    if !c.engine.host.get().is_some_and(|host| host.rewrite_journal()) {
        return Err(Error::new("ERR Background append only file rewriting already in progress"));
    }
    c.reply.simple("Background append only file rewriting started");
    Ok(())
}

/// `WAIT numreplicas timeout-ms`
fn wait(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.engine.role() == Role::Replica {
        return Err(Error::new(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
             configured to be writable (which is not the default) writes to replicas are just local and are not \
             propagated.",
        ));
    }
    let replicas = usize::try_from(integer(&c.args[1])?).unwrap_or(0);
    let deadline_ms = deadline_ms_after(&c.args[2], c.keys.now_ms())?;
    if c.blocking == Blocking::Denied {
        c.reply.int(0);
        return Ok(());
    }
    c.outcome = Outcome::Await { awaited: Awaited::Replicas(replicas), deadline_ms };
    Ok(())
}

/// `SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]`
fn shutdown(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (mut save, mut nosave, mut other, mut abort) = (false, false, false, false);
    for arg in c.args.slice(1..) {
        match arg.to_ascii_lowercase().as_slice() {
            b"nosave" => nosave = true,
            b"save" => save = true,
            b"now" | b"force" => other = true,
            b"abort" => abort = true,
            _ => return Err(Error::SYNTAX),
        }
    }
    if (save && nosave) || (abort && (save || nosave || other)) {
        return Err(Error::SYNTAX);
    }
    if abort {
        return Err(Error::new("ERR No shutdown in progress."));
    }
    let saves = c.engine.keeps_journal() && c.engine.disk_failure().is_none();
    if save && !saves && !c.args.iter().any(|arg| is(arg, "force")) {
        // Without a journal nothing is saved: who asks for it in so many words is not to be told that it was.
        return Err(Error::new("ERR Errors trying to SHUTDOWN. Check logs."));
    }
    c.outcome = Outcome::Shutdown;
    Ok(())
}

fn module_list(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.array(0);
    Ok(())
}

fn module_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    help(c, &[("LIST", "The loaded modules: none.")]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, HostPort, of_text};
    use crate::engine::testing::Fixture;
    use crate::resp::reply::Protocol;

    /// ROLE of a node with this configuration and these partners.
    fn role_among(config: &str, partners: &[(&str, bool)]) -> String {
        let config = Config::parse(&of_text("test", config)).unwrap();
        let partner = |(host, up): &(&str, bool)| Partner {
            address: HostPort { host: (*host).into(), port: 1 },
            up: *up,
            last_io_s: 0,
            sync: None,
            down_since_s: 0,
            offset: 9,
        };
        let standing = Standing { partners: partners.iter().map(partner).collect(), ..Standing::default() };
        let mut out = Vec::new();
        describe_role(Role::of(&config), &standing, &mut Reply::new(&mut out, Protocol::Resp2));
        String::from_utf8(out).unwrap().trim_end().replace("\r\n", " ")
    }

    #[test]
    fn a_role_has_the_form_of_keydb() {
        let one = "active-replica yes\nreplicaof a 1";
        let two = "active-replica yes\nmulti-master yes\nreplicaof a 1\nreplicaof b 1";
        let a = "*5 $14 active-replica $1 a :1 $9 connected :9";
        let b = "*5 $14 active-replica $1 b :1 $7 connect :9";
        let slave = "*5 $5 slave $1 a :1 $9 connected :9";
        assert_eq!(Fixture::new().run("ROLE"), "*3 $6 master :0 *0");
        assert_eq!(role_among(one, &[("a", true)]), a);
        assert_eq!(role_among(two, &[("a", true), ("b", false)]), format!("*2 {a} {b}"));
        assert_eq!(role_among("replicaof a 1", &[("a", true)]), slave);
        assert_eq!(role_among("peer a:1", &[("a", true)]), "*3 $6 master :0 *0");
    }

    #[test]
    fn what_keydb_answers_is_answered() {
        let mut f = Fixture::new();
        assert_eq!(f.run("LFENCE"), "+OK");
        assert_eq!(f.run("REPLPING"), "+PONG");
        assert_eq!(f.run("FAILOVER"), "-ERR FAILOVER requires connected replicas.");
        f.engine.start_replicating();
        assert_eq!(f.run("FAILOVER"), "-ERR FAILOVER not allowed in active replication mode");
    }

    #[test]
    fn a_save_that_cannot_be_is_not_promised() {
        let mut f = Fixture::new();
        assert_eq!(f.run("SHUTDOWN SAVE"), "-ERR Errors trying to SHUTDOWN. Check logs.");
        assert_eq!(f.run("SHUTDOWN SAVE NOSAVE"), "-ERR syntax error");
        assert_eq!(f.run("SHUTDOWN ABORT"), "-ERR No shutdown in progress.");
    }
}
