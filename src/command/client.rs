//! CLIENT: what connections tell about themselves, and what others do to them.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::connection::{is_word, set_name};
use super::family::{container, help, wrong_number};
use super::parse::is;
use crate::engine::blocking::Unblock;
use crate::engine::call::{Call, Outcome};
use crate::engine::client::{Client, ClientFlags};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::engine::pause::Paused;
use crate::engine::session::ReplyMode;
use crate::number;

const OWN: Flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE);
const OTHERS: Flags = OWN.union(Flags::ADMIN);

const BASE: Command = Command {
    name: "client",
    arity: -2,
    flags: Flags::empty(),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Connection,
    since: "2.4.0",
    summary: "Commands about connections.",
    complexity: "Depends on the subcommand",
    run: container,
    subcommands: &[],
};

const SUB: Command =
    Command { arity: 2, flags: OWN, categories: &["connection"], complexity: "O(1)", ..BASE };

/// The table.
pub const COMMANDS: &[Command] = &[Command { subcommands: SUBCOMMANDS, ..BASE }];

const SUBCOMMANDS: &[Command] = &[
    Command {
        name: "caching",
        arity: 3,
        since: "6.0.0",
        summary: "Whether the next command's keys are tracked.",
        run: caching,
        ..SUB
    },
    Command { name: "getname", since: "2.6.9", summary: "The connection's name.", run: getname, ..SUB },
    Command {
        name: "getredir",
        since: "6.0.0",
        summary: "The client that invalidations are redirected to.",
        run: getredir,
        ..SUB
    },
    Command {
        name: "help",
        flags: Flags::LOADING.union(Flags::STALE),
        since: "5.0.0",
        summary: "Lists the subcommands.",
        run: client_help,
        ..SUB
    },
    Command { name: "id", since: "5.0.0", summary: "The connection's number.", run: id, ..SUB },
    Command {
        name: "info",
        since: "6.2.0",
        tips: &["nondeterministic_output"],
        summary: "This connection's line of CLIENT LIST.",
        run: info,
        ..SUB
    },
    Command {
        name: "kill",
        arity: -3,
        flags: OTHERS,
        summary: "Closes connections.",
        complexity: "O(N) with the number of connections",
        run: kill,
        ..SUB
    },
    Command {
        name: "list",
        arity: -2,
        flags: OTHERS,
        tips: &["nondeterministic_output"],
        summary: "One line for each connection.",
        complexity: "O(N) with the number of connections",
        run: list,
        ..SUB
    },
    Command {
        name: "no-evict",
        arity: 3,
        flags: OTHERS,
        since: "7.0.0",
        summary: "Spares the connection when clients are evicted.",
        run: no_evict,
        ..SUB
    },
    Command {
        name: "no-touch",
        arity: 3,
        since: "7.2.0",
        summary: "Has this connection's reads leave access times alone.",
        run: no_touch,
        ..SUB
    },
    Command {
        name: "pause",
        arity: -3,
        flags: OTHERS,
        since: "2.9.50",
        summary: "Holds all commands, or all writes, back for a while.",
        run: pause,
        ..SUB
    },
    Command {
        name: "reply",
        arity: 3,
        since: "3.2.0",
        summary: "Switches replies on and off.",
        run: reply,
        ..SUB
    },
    Command {
        name: "setinfo",
        arity: 4,
        since: "7.2.0",
        summary: "Tells name and version of the client library.",
        run: setinfo,
        ..SUB
    },
    Command {
        name: "setname",
        arity: 3,
        since: "2.6.9",
        summary: "Names the connection.",
        run: setname,
        ..SUB
    },
    Command {
        name: "tracking",
        arity: -3,
        since: "6.0.0",
        summary: "Client-side caching: it can only be switched off yet.",
        run: tracking,
        ..SUB
    },
    Command {
        name: "trackinginfo",
        since: "6.2.0",
        summary: "What is tracked for this connection.",
        run: trackinginfo,
        ..SUB
    },
    Command {
        name: "unblock",
        arity: -3,
        flags: OTHERS,
        since: "5.0.0",
        summary: "Ends another client's wait in a blocking command.",
        complexity: "O(log N) with the number of connections",
        run: unblock,
        ..SUB
    },
    Command {
        name: "unpause",
        flags: OTHERS,
        since: "6.2.0",
        summary: "Ends CLIENT PAUSE.",
        complexity: "O(N) with the number of paused clients",
        run: unpause,
        ..SUB
    },
];

/// A class of clients, as CLIENT LIST TYPE names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Normal,
    Replica,
    Master,
    Pubsub,
}

impl Class {
    fn parse(name: &[u8]) -> Result<Class, Error> {
        let classes = [
            ("normal", Class::Normal),
            ("slave", Class::Replica),
            ("replica", Class::Replica),
            ("pubsub", Class::Pubsub),
            ("master", Class::Master),
        ];
        let found = classes.iter().find(|(word, _)| is(name, word)).map(|(_, class)| *class);
        found.ok_or_else(|| format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name)).into())
    }

    fn of(client: &Client) -> Class {
        let flags = client.flags();
        if flags.contains(ClientFlags::LINK) {
            Class::Replica
        } else if flags.contains(ClientFlags::PUBSUB) {
            Class::Pubsub
        } else {
            Class::Normal
        }
    }
}

fn id(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.int(c.session.client.id as i64);
    Ok(())
}

fn getname(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let name = c.session.client.name.lock();
    c.reply.bulk_opt(Some(name.as_slice()).filter(|name| !name.is_empty()));
    Ok(())
}

fn setname(c: &mut Call<'_, '_>) -> Result<(), Error> {
    set_name(c.session, &c.args[2])?;
    c.reply.ok();
    Ok(())
}

/// `CLIENT SETINFO LIB-NAME|LIB-VER value`
fn setinfo(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (attribute, value) = (&c.args[2], &c.args[3]);
    let mut library = c.session.client.library.lock();
    let (field, name) = if is(attribute, "lib-name") {
        (&mut library.0, "lib-name")
    } else if is(attribute, "lib-ver") {
        (&mut library.1, "lib-ver")
    } else {
        return Err(format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(attribute)).into());
    };
    if !is_word(value) {
        return Err(format!("ERR {name} cannot contain spaces, newlines or special characters.").into());
    }
    *field = value.to_vec();
    c.reply.ok();
    Ok(())
}

fn info(c: &mut Call<'_, '_>) -> Result<(), Error> {
    note_command(c);
    let line = describe(c, &c.session.client) + "\n";
    c.reply.verbatim(*b"txt", line.as_bytes());
    Ok(())
}

/// `CLIENT LIST [TYPE normal|master|replica|pubsub] [ID id...]`
fn list(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    note_command(c);
    let listed = match args.get(2) {
        None => clients(c, |_| true),
        Some(word) if is(word, "type") && args.len() == 4 => {
            let class = Class::parse(&args[3])?;
            clients(c, |client| Class::of(client) == class)
        }
        Some(word) if is(word, "id") && args.len() > 3 => {
            let mut found = Vec::new();
            for id in args.slice(3..) {
                let id = number::parse_i64(id).ok_or(Error::new("ERR Invalid client ID"))?;
                let client = u64::try_from(id).ok().and_then(|id| c.engine.clients.get(&id));
                found.extend(client.map(|client| client.clone()));
            }
            found
        }
        Some(_) => return Err(Error::SYNTAX),
    };
    let mut text = String::new();
    for client in listed {
        text.push_str(&describe(c, &client));
        text.push('\n');
    }
    c.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// The command is noted once per read buffer; here it must be known at once.
fn note_command(c: &Call<'_, '_>) {
    c.session.client.command_id.store(c.session.command_id, Relaxed);
    c.session.client.active_at_ms.store(c.keys.now_ms(), Relaxed);
}

/// Clients in order of their ids. One that was killed is gone, though its task may not have noticed yet.
fn clients(c: &Call<'_, '_>, wanted: impl Fn(&Client) -> bool) -> Vec<Arc<Client>> {
    let is_meant = |client: &Client| !client.flags().contains(ClientFlags::KILLED) && wanted(client);
    let mut found: Vec<Arc<Client>> =
        c.engine.clients.iter().filter(|client| is_meant(client)).map(|client| client.clone()).collect();
    found.sort_unstable_by_key(|client| client.id);
    found
}

/// What Redis has in the first block of what waits to be read, and in each further one: `obl`, and `oll` of `omem`.
const REPLY_BLOCK_BYTES: u64 = 16 * 1024;

/// A line of CLIENT LIST.
fn describe(c: &Call<'_, '_>, client: &Client) -> String {
    let flags = client.flags();
    let seconds_since = |ms: u64| c.keys.now_ms().saturating_sub(ms) / 1000;
    let [sub, psub, ssub] = [0, 1, 2].map(|n| client.subscriptions[n].load(Relaxed));
    let multi = Some(client.queued.load(Relaxed)).filter(|n| *n != u32::MAX).map_or(-1, i64::from);
    let unread = client.unread_bytes();
    let first = unread.min(REPLY_BLOCK_BYTES);
    let more = unread - first;
    let input = client.input_bytes.load(Relaxed);
    let (library, version) = client.library.lock().clone();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut line = format!("id={} addr={} laddr={}", client.id, client.addr, client.local_addr);
    let _ = write!(
        line,
        " fd={} name={} age={} idle={} flags={} db={} sub={sub} psub={psub} ssub={ssub} multi={multi}",
        client.fd.load(Relaxed),
        text(&client.name.lock()),
        seconds_since(client.connected_at_ms),
        seconds_since(client.active_at_ms.load(Relaxed)),
        letters(flags),
        client.db.load(Relaxed),
    );
    let _ = write!(
        line,
        " qbuf={input} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={first} oll={} omem={more} \
         tot-mem={} events=r cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}",
        more.div_ceil(REPLY_BLOCK_BYTES),
        input + unread,
        c.engine.registry.name(client.command_id.load(Relaxed)),
        if client.resp3.load(Relaxed) { 3 } else { 2 },
        text(&library),
        text(&version),
    );
    line
}

/// Flags as CLIENT LIST shows them.
fn letters(flags: ClientFlags) -> String {
    let known = [
        (ClientFlags::MONITOR, 'O'),
        (ClientFlags::LINK, 'S'),
        (ClientFlags::PUBSUB, 'P'),
        (ClientFlags::MULTI, 'x'),
        (ClientFlags::BLOCKED, 'b'),
        (ClientFlags::DIRTY, 'd'),
        (ClientFlags::CLOSE_AFTER_REPLY, 'c'),
        (ClientFlags::UNIX_SOCKET, 'U'),
        (ClientFlags::READONLY, 'r'),
        (ClientFlags::NO_EVICT, 'e'),
        (ClientFlags::NO_TOUCH, 'T'),
    ];
    let shown: String =
        known.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, letter)| letter).collect();
    if shown.is_empty() { "N".to_owned() } else { shown }
}

/// What CLIENT KILL is to close; `None` matches all.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    addr: Option<&'a [u8]>,
    local_addr: Option<&'a [u8]>,
    class: Option<Class>,
    spare_self: bool,
}

impl Filter<'_> {
    fn matches(&self, client: &Client, own: u64) -> bool {
        self.id.is_none_or(|id| client.id == id)
            && self.addr.is_none_or(|addr| client.addr.as_bytes() == addr)
            && self.local_addr.is_none_or(|addr| client.local_addr.as_bytes() == addr)
            && self.class.is_none_or(|class| Class::of(client) == class)
            && !(self.spare_self && client.id == own)
    }
}

/// `CLIENT KILL addr:port` or `CLIENT KILL [ID n] [TYPE t] [USER u] [ADDR a] [LADDR a] [SKIPME yes|no]`
fn kill(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    if args.len() == 3 {
        let filter = Filter { addr: Some(&args[2]), ..Filter::default() };
        return match close(c, &filter) {
            0 => Err(Error::new("ERR No such client")),
            _ => {
                c.reply.ok();
                Ok(())
            }
        };
    }
    let mut filter = Filter { spare_self: true, ..Filter::default() };
    if !args.len().is_multiple_of(2) {
        return Err(Error::SYNTAX);
    }
    for at in (2..args.len()).step_by(2) {
        let value = args.get(at + 1).ok_or(Error::SYNTAX)?;
        match args[at].to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = number::parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                filter.id = Some(id.ok_or(Error::new("ERR client-id should be greater than 0"))?);
            }
            b"type" => filter.class = Some(Class::parse(value)?),
            b"user" if value == b"default" => {}
            b"user" => {
                return Err(format!("ERR No such user '{}'", String::from_utf8_lossy(value)).into());
            }
            b"addr" => filter.addr = Some(value),
            b"laddr" => filter.local_addr = Some(value),
            b"skipme" if is(value, "yes") => filter.spare_self = true,
            b"skipme" if is(value, "no") => filter.spare_self = false,
            _ => return Err(Error::SYNTAX),
        }
    }
    let closed = close(c, &filter);
    c.reply.int(closed);
    Ok(())
}

/// Closes what the filter matches, this connection after its reply. Returns how many.
fn close(c: &mut Call<'_, '_>, filter: &Filter<'_>) -> i64 {
    let own = c.session.client.id;
    let doomed = clients(c, |client| filter.matches(client, own));
    for client in &doomed {
        if client.id == own {
            c.outcome = Outcome::Close;
            client.set(ClientFlags::CLOSE_AFTER_REPLY);
        } else {
            client.kill();
        }
    }
    doomed.len() as i64
}

fn on_off(word: &[u8]) -> Result<bool, Error> {
    match (is(word, "on"), is(word, "off")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(Error::SYNTAX),
    }
}

fn no_evict(c: &mut Call<'_, '_>) -> Result<(), Error> {
    set_flag(c, ClientFlags::NO_EVICT)
}

fn no_touch(c: &mut Call<'_, '_>) -> Result<(), Error> {
    set_flag(c, ClientFlags::NO_TOUCH)
}

fn set_flag(c: &mut Call<'_, '_>, flag: ClientFlags) -> Result<(), Error> {
    match on_off(&c.args[2])? {
        true => c.session.client.set(flag),
        false => c.session.client.unset(flag),
    }
    c.reply.ok();
    Ok(())
}

/// `CLIENT PAUSE ms [WRITE|ALL]`
fn pause(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    if args.len() > 4 {
        return Err(wrong_number(args));
    }
    let what = match args.get(3) {
        None => Paused::All,
        Some(word) if is(word, "all") => Paused::All,
        Some(word) if is(word, "write") => Paused::Writes,
        Some(_) => return Err(Error::new("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let ms =
        number::parse_i64(&args[2]).ok_or(Error::new("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::new("ERR timeout is negative"))?;
    let now_ms = c.keys.now_ms();
    c.engine.pause.begin(what, now_ms.saturating_add(ms), now_ms);
    c.reply.ok();
    Ok(())
}

fn unpause(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.engine.pause.end();
    c.engine.clients.iter().for_each(|client| client.wake());
    c.reply.ok();
    Ok(())
}

/// `CLIENT REPLY ON|OFF|SKIP`
fn reply(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let mode = &c.args[2];
    if is(mode, "on") {
        c.session.reply_mode = ReplyMode::On;
        c.reply.ok();
    } else if is(mode, "off") {
        c.session.reply_mode = ReplyMode::Off;
    } else if is(mode, "skip") {
        if c.session.reply_mode != ReplyMode::Off {
            c.session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(Error::SYNTAX);
    }
    Ok(())
}

/// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`
fn unblock(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    if args.len() > 4 {
        return Err(wrong_number(args));
    }
    let how = match args.get(3) {
        None => Unblock::Timeout,
        Some(word) if is(word, "timeout") => Unblock::Timeout,
        Some(word) if is(word, "error") => Unblock::Error,
        Some(_) => return Err(Error::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    let id = number::parse_i64(&args[2]).ok_or(Error::NOT_INTEGER)?;
    let client = u64::try_from(id).ok().and_then(|id| c.engine.clients.get(&id).map(|client| client.clone()));
    let unblocked = client.is_some_and(|client| c.engine.unblock(&client, how));
    c.reply.int(unblocked.into());
    Ok(())
}

/// `CLIENT TRACKING ON|OFF ...`
fn tracking(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if on_off(&c.args[2])? {
        return Err(Error::new("ERR client tracking is not available yet"));
    }
    c.reply.ok();
    Ok(())
}

fn caching(_: &mut Call<'_, '_>) -> Result<(), Error> {
    Err(Error::new(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
    ))
}

fn getredir(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.int(-1);
    Ok(())
}

fn trackinginfo(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.map(3);
    c.reply.bulk(b"flags");
    c.reply.set(1);
    c.reply.bulk(b"off");
    c.reply.bulk(b"redirect");
    c.reply.int(-1);
    c.reply.bulk(b"prefixes");
    c.reply.array(0);
    Ok(())
}

fn client_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    help(
        c,
        &[
            ("CACHING (YES|NO)", "Whether the next command's keys are tracked (OPTIN and OPTOUT)."),
            ("GETNAME", "The name of this connection."),
            ("GETREDIR", "The client that this one's invalidations go to."),
            ("ID", "The number of this connection."),
            ("INFO", "The line of this connection."),
            ("KILL <ip:port>", "Closes the connection from that address."),
            (
                "KILL <option> <value> [<option> <value> [...]]",
                "Closes connections by ADDR, LADDR, ID, USER, TYPE (NORMAL|MASTER|REPLICA|PUBSUB); SKIPME (YES|NO).",
            ),
            ("LIST [TYPE <type>] [ID <id> ...]", "One line for each connection."),
            ("NO-EVICT (ON|OFF)", "Spares this connection when clients are evicted."),
            ("NO-TOUCH (ON|OFF)", "Has reads of this connection leave access times alone."),
            (
                "PAUSE <timeout> [WRITE|ALL]",
                "Holds back all commands, or all writes, for so many milliseconds.",
            ),
            ("REPLY (ON|OFF|SKIP)", "Which commands of this connection are answered."),
            ("SETINFO (LIB-NAME|LIB-VER) <value>", "Name and version of the client library."),
            ("SETNAME <name>", "Names this connection."),
            ("TRACKING (ON|OFF) [...]", "Client-side caching."),
            ("TRACKINGINFO", "What is tracked for this connection."),
            ("UNBLOCK <clientid> [TIMEOUT|ERROR]", "Ends a client's wait."),
            ("UNPAUSE", "Ends PAUSE."),
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    #[test]
    fn a_line_tells_what_a_client_is_in_the_middle_of() {
        let mut f = Fixture::new();
        f.run("CLIENT SETNAME me");
        f.run("CLIENT SETINFO LIB-VER 1.2");
        f.run("CLIENT NO-TOUCH ON");
        let line = f.run("CLIENT INFO");
        for part in
            ["addr=test:1 laddr=test:2", "name=me", "flags=T", "cmd=client|info", "lib-name= lib-ver=1.2"]
        {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn what_clients_ask_in_vain_is_an_error_and_nothing_more() {
        let mut f = Fixture::new();
        for (command, expected) in [
            (
                "CLIENT MAINT_NOTIFICATIONS on",
                "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.",
            ),
            ("CLIENT SETINFO LIB-NICK a", "-ERR Unrecognized option 'LIB-NICK'"),
            (
                "CLIENT SETINFO LIB-NAME a\u{7f}",
                "-ERR lib-name cannot contain spaces, newlines or special characters.",
            ),
            ("CLIENT TRACKING ON", "-ERR client tracking is not available yet"),
            ("CLIENT KILL ID 0", "-ERR client-id should be greater than 0"),
            ("CLIENT KILL USER bob ADDR x", "-ERR No such user 'bob'"),
        ] {
            assert_eq!(f.run(command), expected);
        }
    }

    #[test]
    fn replies_are_switched_off_and_skipped() {
        let mut f = Fixture::new();
        assert_eq!(f.run("CLIENT REPLY SKIP"), "");
        assert_eq!(f.run("PING"), "");
        assert_eq!(f.run("PING"), "+PONG");
        assert_eq!(f.run("CLIENT REPLY OFF"), "");
        assert_eq!(f.run("PING"), "");
        assert_eq!(f.run("CLIENT REPLY ON"), "+OK");
    }
}
