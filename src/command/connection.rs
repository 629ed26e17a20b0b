//! Connections: authentication, protocol, database.

use super::parse::{integer, is};
use crate::engine::call::{Call, Outcome};
use crate::engine::client::ClientFlags;
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::engine::session::{ReplyMode, Session};
use crate::engine::standing::Role;
use crate::number;
use crate::resp::reply::Protocol;

/// The Redis version whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.2.4";

/// What a client may do before anything else.
const GREETING: Flags = Flags::NOSCRIPT
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST)
    .union(Flags::NO_AUTH)
    .union(Flags::ALLOW_BUSY);
const ANYTIME: Flags = Flags::LOADING.union(Flags::STALE).union(Flags::FAST);

const BASE: Command = Command {
    name: "",
    arity: 1,
    flags: Flags::FAST,
    keys: &[],
    categories: &["connection"],
    tips: &[],
    group: Group::Connection,
    since: "1.0.0",
    summary: "",
    complexity: "O(1)",
    run: asking,
    subcommands: &[],
};

/// The table.
pub const COMMANDS: &[Command] = &[
    // Slots never move here, so there is nothing to ask for.
    Command {
        name: "asking",
        group: Group::Cluster,
        since: "3.0.0",
        summary: "Accepted for cluster clients.",
        ..BASE
    },
    Command {
        name: "auth",
        arity: -2,
        flags: GREETING,
        summary: "Authenticates the connection.",
        complexity: "O(N) with the number of passwords of the user",
        run: auth,
        ..BASE
    },
    Command { name: "echo", arity: 2, flags: ANYTIME, summary: "Answers its argument.", run: echo, ..BASE },
    Command {
        name: "hello",
        arity: -1,
        flags: GREETING,
        since: "6.0.0",
        summary: "Chooses the protocol, authenticates, and tells about the server.",
        run: hello,
        ..BASE
    },
    Command {
        name: "ping",
        arity: -1,
        flags: Flags::FAST.union(Flags::SUBSCRIBED),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        summary: "Answers PONG, or the message given.",
        run: ping,
        ..BASE
    },
    Command {
        name: "quit",
        arity: -1,
        flags: GREETING.union(Flags::SUBSCRIBED),
        summary: "Closes the connection.",
        run: quit,
        ..BASE
    },
    Command {
        name: "readonly",
        flags: ANYTIME,
        group: Group::Cluster,
        since: "3.0.0",
        summary: "Accepted for cluster clients; writes are taken as before.",
        run: readonly,
        ..BASE
    },
    Command {
        name: "readwrite",
        flags: ANYTIME,
        group: Group::Cluster,
        since: "3.0.0",
        summary: "Ends READONLY.",
        run: readwrite,
        ..BASE
    },
    Command {
        name: "reset",
        flags: GREETING.union(Flags::SUBSCRIBED),
        since: "6.2.0",
        summary: "Makes the connection as if it were new.",
        run: reset,
        ..BASE
    },
    Command {
        name: "select",
        arity: 2,
        flags: ANYTIME,
        summary: "Chooses the database.",
        run: select,
        ..BASE
    },
];

/// `AUTH [username] password`
fn auth(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (user, password) = match args.len() {
        2 if !c.engine.requires_password() => {
            return Err(Error::new(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => (&b"default"[..], &args[1]),
        3 => (&args[1], &args[2]),
        _ => return Err(Error::SYNTAX),
    };
    authenticate(c, user, password)?;
    c.reply.ok();
    Ok(())
}

fn authenticate(c: &mut Call<'_, '_>, user: &[u8], password: &[u8]) -> Result<(), Error> {
    let expected = c.engine.password.read();
    if user != b"default" || !(expected.is_empty() || is_same(&expected, password)) {
        return Err(Error::new("WRONGPASS invalid username-password pair or user is disabled."));
    }
    c.session.authenticated = true;
    Ok(())
}

/// Compares in a time that tells the length, but not where the first difference is.
fn is_same(expected: &[u8], given: &[u8]) -> bool {
    expected.len() == given.len() && expected.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn echo(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.bulk(&c.args[1]);
    Ok(())
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`
fn hello(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let protocol = match args.get(1).map(number::parse_i64) {
        None => c.session.protocol,
        Some(Some(2)) => Protocol::Resp2,
        Some(Some(3)) => Protocol::Resp3,
        Some(Some(_)) => return Err(Error::new("NOPROTO unsupported protocol version")),
        Some(None) => return Err(Error::new("ERR Protocol version is not an integer or out of range")),
    };
    // Each option holds once it is read, whatever comes behind it.
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if is(&args[at], "auth") && left >= 2 {
            authenticate(c, &args[at + 1], &args[at + 2])?;
            at += 3;
        } else if is(&args[at], "setname") && left >= 1 {
            set_name(c.session, &args[at + 1])?;
            at += 2;
        } else {
            let option = String::from_utf8_lossy(&args[at]);
            return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
        }
    }
    if !c.session.authenticated && c.engine.requires_password() {
        return Err(Error::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
             time",
        ));
    }
    set_protocol(c.session, protocol);
    c.reply.set_protocol(protocol);
    let role = match c.engine.role() {
        Role::Master => "master",
        Role::ActiveReplica => "active-replica",
        Role::Replica => "replica",
    };
    let mode = c.engine.mode();
    let reply = &mut c.reply;
    reply.map(7);
    // Clients look for this word; INFO says who we are.
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.int(if protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(c.session.client.id as i64);
    for (field, value) in [("mode", mode), ("role", role)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn set_protocol(session: &mut Session, protocol: Protocol) {
    session.protocol = protocol;
    session.client.resp3.store(protocol == Protocol::Resp3, std::sync::atomic::Ordering::Relaxed);
}

/// Names a client, for CLIENT SETNAME and HELLO; an empty name takes it away.
///
/// # Errors
/// Unless it could stand between blanks in CLIENT LIST.
pub fn set_name(session: &Session, name: &[u8]) -> Result<(), Error> {
    if !is_word(name) {
        return Err(Error::new("ERR Client names cannot contain spaces, newlines or special characters."));
    }
    *session.client.name.lock() = name.to_vec();
    Ok(())
}

/// Whether a text has neither blanks nor anything that does not print.
pub fn is_word(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn ping(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.args.len() > 2 {
        return Err(Error::wrong_arity("ping"));
    }
    if c.session.is_subscriber() && c.session.protocol == Protocol::Resp2 {
        c.reply.array(2);
        c.reply.bulk(b"pong");
        c.reply.bulk(c.args.get(1).unwrap_or_default());
        return Ok(());
    }
    match c.args.get(1) {
        None => c.reply.simple("PONG"),
        Some(message) => c.reply.bulk(message),
    }
    Ok(())
}

fn quit(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.ok();
    c.outcome = Outcome::Close;
    Ok(())
}

fn readonly(c: &mut Call<'_, '_>) -> Result<(), Error> {
    asking(c)?;
    c.session.client.set(ClientFlags::READONLY);
    Ok(())
}

fn readwrite(c: &mut Call<'_, '_>) -> Result<(), Error> {
    asking(c)?;
    c.session.client.unset(ClientFlags::READONLY);
    Ok(())
}

/// What only cluster clients send means nothing here, where slots never move.
fn asking(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if !c.engine.emulates_cluster() {
        return Err(Error::new("ERR This instance has cluster support disabled"));
    }
    c.reply.ok();
    Ok(())
}

fn reset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.engine.reset(c.session);
    set_protocol(c.session, Protocol::Resp2);
    c.reply.set_protocol(Protocol::Resp2);
    c.session.reply_mode = ReplyMode::On;
    c.reply.simple("RESET");
    Ok(())
}

fn select(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let db = i32::try_from(integer(&c.args[1])?).map_err(|_| {
        Error::new("ERR value is out of range, value must between -2147483648 and 2147483647")
    })?;
    let db = u32::try_from(db).ok().filter(|db| *db < c.engine.databases());
    let db = db.ok_or(Error::new("ERR DB index is out of range"))?;
    c.session.db = db;
    c.session.client.db.store(db, std::sync::atomic::Ordering::Relaxed);
    c.keys.select(db);
    c.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Caller;
    use crate::engine::testing::Fixture;

    #[test]
    fn a_password_is_asked_for_until_it_is_given() {
        let mut f = Fixture::new();
        assert!(f.run("AUTH x").starts_with("-ERR AUTH <password> called without any password configured"));
        assert_eq!(f.run("AUTH default x"), "+OK");
        f.engine.configure(&[("requirepass", "x")], Caller::Local).unwrap();
        f.session.authenticated = false;
        assert_eq!(f.run("GET k"), "-NOAUTH Authentication required.");
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
        for attempt in ["AUTH y", "AUTH xx", "AUTH nobody x", "HELLO 3 AUTH default y"] {
            assert_eq!(f.run(attempt), wrong, "{attempt}");
        }
        assert_eq!(f.run("AUTH x"), "+OK");
        assert_eq!(f.run("GET k"), "$-1");
        assert_eq!(f.run("RESET"), "+RESET");
        assert_eq!(f.run("GET k"), "-NOAUTH Authentication required.");
    }

    #[test]
    fn cluster_clients_are_humoured_where_they_are_served() {
        let mut f = Fixture::new();
        assert_eq!(f.run("READONLY"), "-ERR This instance has cluster support disabled");
        f.engine.configure(&[("cluster-emulation", "yes")], Caller::Local).unwrap();
        for command in ["READONLY", "READWRITE", "ASKING"] {
            assert_eq!(f.run(command), "+OK");
        }
    }
}
