//! COMMAND: the tables as clients see them.

use super::family::help;
use super::parse::is;
use crate::engine::call::Call;
use crate::engine::command::{Begin, Command, Find, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::registry::Known;
use crate::resp::args::Args;
use crate::resp::glob;
use crate::resp::reply::Reply;

const BASE: Command = Command {
    name: "command",
    arity: -1,
    flags: Flags::LOADING.union(Flags::STALE),
    keys: &[],
    categories: &["connection"],
    tips: &["nondeterministic_output_order"],
    group: Group::Server,
    since: "2.8.13",
    summary: "Tells about commands.",
    complexity: "O(N) with the number of commands",
    run: all,
    subcommands: &[],
};

/// The table.
pub const COMMANDS: &[Command] = &[Command { subcommands: SUBCOMMANDS, ..BASE }];

const SUBCOMMANDS: &[Command] = &[
    Command {
        name: "count",
        arity: 2,
        tips: &[],
        summary: "How many commands there are.",
        complexity: "O(1)",
        run: count,
        ..BASE
    },
    Command { name: "docs", arity: -2, since: "7.0.0", summary: "Documents commands.", run: docs, ..BASE },
    Command {
        name: "getkeys",
        arity: -4,
        tips: &[],
        summary: "The keys of a whole command.",
        complexity: "O(N) with the number of arguments",
        run: getkeys,
        ..BASE
    },
    Command {
        name: "getkeysandflags",
        arity: -4,
        tips: &[],
        since: "7.0.0",
        summary: "The keys of a whole command and how they are used.",
        complexity: "O(N) with the number of arguments",
        run: getkeysandflags,
        ..BASE
    },
    Command {
        name: "help",
        arity: 2,
        tips: &[],
        since: "5.0.0",
        summary: "Lists the subcommands.",
        complexity: "O(1)",
        run: command_help,
        ..BASE
    },
    Command { name: "info", arity: -2, summary: "Arity, flags and keys of commands.", run: info, ..BASE },
    Command { name: "list", arity: -2, since: "7.0.0", summary: "The names of commands.", run: list, ..BASE },
];

/// Flags as COMMAND INFO names them, in its order.
const FLAG_NAMES: &[(Flags, &str)] = &[
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::PUBSUB, "pubsub"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::BLOCKING, "blocking"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::SKIP_MONITOR, "skip_monitor"),
    (Flags::SKIP_SLOWLOG, "skip_slowlog"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (Flags::NO_ASYNC_LOADING, "no_async_loading"),
    (Flags::NO_MULTI, "no_multi"),
    (Flags::MOVABLEKEYS, "movablekeys"),
    (Flags::ALLOW_BUSY, "allow_busy"),
];

/// ACL categories, in Redis's order.
const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Whether a command is in an ACL category: by its entry, or because its flags imply it.
pub fn is_in_category(command: &Command, category: &str) -> bool {
    let flags = command.flags;
    let implied = match category {
        "write" => flags.contains(Flags::WRITE),
        // Scripts say they only read, but are not @read.
        "read" => flags.contains(Flags::READONLY) && !command.categories.contains(&"scripting"),
        "admin" => flags.contains(Flags::ADMIN),
        "dangerous" => flags.contains(Flags::ADMIN),
        "pubsub" => flags.contains(Flags::PUBSUB),
        "fast" => flags.contains(Flags::FAST),
        "slow" => !flags.contains(Flags::FAST),
        "blocking" => flags.contains(Flags::BLOCKING),
        _ => false,
    };
    implied || command.categories.contains(&category)
}

fn all(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let commands = sorted(c);
    c.reply.array(commands.len());
    for known in commands {
        describe(&mut c.reply, known.command.name, known.command);
    }
    Ok(())
}

/// All commands by name; the registry keeps no order.
fn sorted(c: &Call<'_, '_>) -> Vec<Known> {
    let mut commands: Vec<Known> = c.engine.registry.commands().collect();
    commands.sort_unstable_by_key(|known| known.command.name);
    commands
}

/// The command of a name such as `get` or `config|get`.
fn named<'c>(c: &'c Call<'_, '_>, name: &[u8]) -> Option<(&'c str, &'static Command)> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let mut known = c.engine.registry.find(parts.next()?)?;
    if let Some(sub) = parts.next() {
        known = c.engine.registry.find_sub(known, sub)?;
    }
    Some((c.engine.registry.name(known.id), known.command))
}

/// `COMMAND INFO [name...]`
fn info(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.args.len() == 2 {
        return all(c);
    }
    let names = c.args.slice(2..);
    c.reply.array(names.len());
    for name in names {
        match named(c, name).map(|(name, command)| (name.to_owned(), command)) {
            Some((name, command)) => describe(&mut c.reply, &name, command),
            None => c.reply.null(),
        }
    }
    Ok(())
}

/// One command as COMMAND INFO shows it.
fn describe(reply: &mut Reply<'_>, name: &str, command: &Command) {
    let (first, last, step) = command.positions();
    reply.array(10);
    reply.bulk(name.as_bytes());
    reply.int(command.arity.into());
    statuses(
        reply,
        FLAG_NAMES.iter().filter(|(flag, _)| command.flags.contains(*flag)).map(|(_, name)| *name),
    );
    reply.int(first);
    reply.int(last);
    reply.int(step);
    let mark = reply.mark();
    let mut len = 0;
    for category in CATEGORIES.iter().filter(|category| is_in_category(command, category)) {
        reply.simple(&format!("@{category}"));
        len += 1;
    }
    reply.set_at(mark, len);
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| describe_keys(reply, spec));
    // Redis's replies are a set only where there is none.
    match command.subcommands.len() {
        0 => reply.set(0),
        len => reply.array(len),
    }
    for sub in command.subcommands {
        describe(reply, &format!("{name}|{}", sub.name), sub);
    }
}

fn statuses(reply: &mut Reply<'_>, names: impl Iterator<Item = &'static str>) {
    let mark = reply.mark();
    let mut len = 0;
    for name in names {
        reply.simple(name);
        len += 1;
    }
    reply.set_at(mark, len);
}

fn describe_keys(reply: &mut Reply<'_>, spec: &KeySpec) {
    let number = |reply: &mut Reply<'_>, name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    let kind = |reply: &mut Reply<'_>, kind: &str, fields: usize| {
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(kind.as_bytes());
        reply.bulk(b"spec");
        reply.map(fields);
    };
    reply.map(3 + usize::from(!spec.notes.is_empty()));
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    statuses(reply, spec.flags.iter().copied());
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(index) => {
            kind(reply, "index", 1);
            number(reply, "index", index as i64);
        }
        Begin::Keyword(word, from) => {
            kind(reply, "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            number(reply, "startfrom", from.into());
        }
        Begin::Unknown => kind(reply, "unknown", 0),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            kind(reply, "range", 3);
            number(reply, "lastkey", last.into());
            number(reply, "keystep", step as i64);
            number(reply, "limit", limit as i64);
        }
        Find::Count { at, first, step } => {
            kind(reply, "keynum", 3);
            number(reply, "keynumidx", at as i64);
            number(reply, "firstkey", first as i64);
            number(reply, "keystep", step as i64);
        }
        Find::Unknown => kind(reply, "unknown", 0),
    }
}

fn count(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.int(c.engine.registry.commands().count() as i64);
    Ok(())
}

/// `COMMAND DOCS [name...]`
fn docs(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let chosen: Vec<(String, &Command)> = match c.args.len() {
        2 => sorted(c).iter().map(|known| (known.command.name.to_owned(), known.command)).collect(),
        _ => {
            let found = c.args.slice(2..).iter().filter_map(|name| named(c, name));
            found.map(|(name, command)| (name.to_owned(), command)).collect()
        }
    };
    c.reply.map(chosen.len());
    for (name, command) in chosen {
        document(&mut c.reply, &name, command);
    }
    Ok(())
}

fn document(reply: &mut Reply<'_>, name: &str, command: &Command) {
    let has_subcommands = !command.subcommands.is_empty();
    reply.bulk(name.as_bytes());
    let texts = [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ];
    // Redis leaves out what it does not know.
    let texts = texts.iter().filter(|(_, text)| !text.is_empty());
    reply.map(texts.clone().count() + usize::from(has_subcommands));
    for (field, text) in texts {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if has_subcommands {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        for sub in command.subcommands {
            document(reply, &format!("{name}|{}", sub.name), sub);
        }
    }
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`
fn list(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let names: Vec<&str> = match args.len() {
        2 => by_id(c, |_, _| true),
        5 if is(&args[2], "filterby") && is(&args[3], "module") => Vec::new(),
        5 if is(&args[2], "filterby") && is(&args[3], "aclcat") => {
            let category = String::from_utf8_lossy(&args[4]).to_lowercase();
            by_id(c, |_, command| is_in_category(command, &category))
        }
        5 if is(&args[2], "filterby") && is(&args[3], "pattern") => {
            by_id(c, |name, _| glob::matches_nocase(&args[4], name.as_bytes()))
        }
        _ => return Err(Error::SYNTAX),
    };
    // Redis's slip: what is filtered is no set.
    if args.len() == 2 {
        c.reply.set(names.len());
    } else {
        c.reply.array(names.len());
    }
    names.iter().for_each(|name| c.reply.bulk(name.as_bytes()));
    Ok(())
}

/// Names of commands and subcommands that pass.
fn by_id<'e>(c: &Call<'_, 'e>, wanted: impl Fn(&str, &Command) -> bool) -> Vec<&'e str> {
    let registry = &c.engine.registry;
    let named = |id: u16| (registry.name(id), registry.command(id));
    (0..registry.ids() as u16)
        .map(named)
        .filter(|(name, command)| command.is_some_and(|command| wanted(name, command)))
        .map(|(name, _)| name)
        .collect()
}

fn getkeys(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let keys = keys_of(c)?;
    c.reply.array(keys.len());
    for (at, _) in keys {
        c.reply.bulk(&c.args[at]);
    }
    Ok(())
}

fn getkeysandflags(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let keys = keys_of(c)?;
    c.reply.array(keys.len());
    for (at, spec) in keys {
        c.reply.array(2);
        c.reply.bulk(&c.args[at]);
        statuses(&mut c.reply, flags_of(spec, c.args.slice(2..)).iter().copied());
    }
    Ok(())
}

/// How these very arguments use the key, where the command alone does not say: SET and BITFIELD.
fn flags_of(spec: &KeySpec, args: Args<'_>) -> &'static [&'static str] {
    let is_bitfield = is(&args[0], "bitfield");
    if !spec.flags.contains(&"variable_flags") {
        spec.flags
    } else if is_bitfield && only_reads(args.slice(2..)) {
        &["RO", "access"]
    } else if is_bitfield || args.iter().skip(3).any(|arg| is(arg, "get")) {
        &["RW", "access", "update"]
    } else {
        &["OW", "update"]
    }
}

/// Whether operations of BITFIELD are all GET. What makes no sense may write.
fn only_reads(operations: Args<'_>) -> bool {
    let mut rest = operations;
    while let Some(word) = rest.get(0) {
        let taken = match word.to_ascii_lowercase().as_slice() {
            b"get" => 3,
            b"overflow" => 2,
            _ => return false,
        };
        if rest.len() < taken {
            return false;
        }
        rest = rest.slice(taken..);
    }
    true
}

/// Where the keys are among this command's own arguments, each with its spec.
fn keys_of(c: &Call<'_, '_>) -> Result<Vec<(usize, &'static KeySpec)>, Error> {
    let args = c.args.slice(2..);
    let known = c.engine.registry.find(&args[0]).and_then(|known| match args.get(1) {
        Some(sub) if !known.command.subcommands.is_empty() => c.engine.registry.find_sub(known, sub),
        _ => Some(known),
    });
    let Some(Known { command, .. }) = known else { return Err(Error::new("ERR Invalid command specified")) };
    if !command.keys.iter().any(KeySpec::is_key) {
        return Err(Error::new("ERR The command has no key arguments"));
    }
    if !command.takes(args.len()) {
        return Err(Error::new("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    let complete = command.each_key(args, |at, spec| keys.push((at + 2, spec)));
    if command.name == "sort" {
        keys.extend(sort_target(args, command));
    } else if !complete {
        keys.clear();
    }
    if keys.is_empty() && !command.flags.contains(Flags::NO_MANDATORY_KEYS) {
        return Err(Error::new("ERR Invalid arguments specified for command"));
    }
    Ok(keys)
}

/// The key behind the last STORE of SORT, which no spec finds.
fn sort_target(args: Args<'_>, command: &'static Command) -> Option<(usize, &'static KeySpec)> {
    let mut target = None;
    let mut at = 2;
    while at + 1 < args.len() {
        match args[at].to_ascii_lowercase().as_slice() {
            b"limit" => at += 3,
            b"get" | b"by" => at += 2,
            b"store" => {
                target = Some(at + 1);
                at += 2;
            }
            _ => at += 1,
        }
    }
    Some((target? + 2, command.keys.last()?))
}

fn command_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    help(
        c,
        &[
            ("(no subcommand)", "Arity, flags and keys of all commands."),
            ("COUNT", "How many commands there are."),
            ("DOCS [<command-name> ...]", "Documents these commands, or all."),
            ("GETKEYS <full-command>", "The keys of a whole command."),
            ("GETKEYSANDFLAGS <full-command>", "The same, and how each key is used."),
            ("INFO [<command-name> ...]", "Arity, flags and keys of these commands, or of all."),
            ("LIST [FILTERBY (MODULE|ACLCAT|PATTERN) <value>]", "The names of commands."),
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TABLES;
    use crate::engine::testing::Fixture;

    #[test]
    fn keys_are_found_among_arguments() {
        let mut f = Fixture::new();
        for (command, expected) in [
            ("COMMAND GETKEYS MSET a 1 b 2", "*2 $1 a $1 b"),
            ("COMMAND GETKEYS MEMORY USAGE a", "*1 $1 a"),
            ("COMMAND GETKEYS SINTERCARD 2 a b", "*2 $1 a $1 b"),
            ("COMMAND GETKEYS PING x", "-ERR The command has no key arguments"),
            ("COMMAND GETKEYS NOSUCH x", "-ERR Invalid command specified"),
            ("COMMAND GETKEYS GET a b", "-ERR Invalid number of arguments specified for command"),
            ("COMMAND GETKEYS SINTERCARD 5 a b", "-ERR Invalid arguments specified for command"),
            ("COMMAND GETKEYSANDFLAGS SET a b", "*1 *2 $1 a *2 +OW +update"),
            ("COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 0", "*1 *2 $1 a *2 +RO +access"),
            ("COMMAND GETKEYSANDFLAGS BITFIELD a GET u8", "*1 *2 $1 a *3 +RW +access +update"),
            ("COMMAND GETKEYSANDFLAGS SET a b GET", "*1 *2 $1 a *3 +RW +access +update"),
        ] {
            assert_eq!(f.run(command), expected, "{command}");
        }
    }

    #[test]
    fn every_command_is_documented() {
        let all = TABLES
            .iter()
            .flat_map(|table| table.iter())
            .flat_map(|command| std::iter::once(command).chain(command.subcommands));
        for command in all {
            assert!(!command.summary.is_empty(), "{} has no summary", command.name);
            assert_eq!(command.name, command.name.to_lowercase());
            for category in command.categories {
                assert!(CATEGORIES.contains(category), "{}: no category {category}", command.name);
            }
        }
    }

    #[test]
    fn lists_are_filtered() {
        let mut f = Fixture::new();
        assert_eq!(f.run("COMMAND LIST FILTERBY PATTERN hget*"), "*2 $4 hget $7 hgetall");
        assert_eq!(f.run("COMMAND LIST FILTERBY MODULE x"), "*0");
        assert_eq!(f.run("COMMAND INFO nosuch"), "*1 $-1");
        assert_eq!(f.run("COMMAND DOCS nosuch"), "*0");
    }
}
