//! MELD EFFECTS, TOKEN and AFTER: what was written, and where a reader is.
//!
//! A *token* is a vector as text: `node.incarnation:batch`, joined by commas. It says what a node had written and merged.
//! A client that moves to another node takes its token along and has the new node wait until it has all of
//! that (`MELD AFTER`): it then reads what it wrote. A reader of effects goes on from the token of the last page.

use crate::clock::unix_ms_from_ntp;
use crate::engine::call::{Awaited, Blocking, Call, Outcome};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::effects::{Effect, Untold};
use crate::engine::error::Error;
use crate::link::vector::Vector;

use super::parse::{deadline_ms_after, is, positive};

/// The mesh is locked before ranges are, never after.
const FLAGS: Flags = Flags::NOSCRIPT.union(Flags::STALE).union(Flags::NO_MULTI);
/// Batches of a page, unless asked otherwise.
const PAGE_BATCHES: usize = 1000;
/// Most batches of a page.
const PAGE_BATCHES_MAX: u64 = 100_000;

/// MELD AFTER.
pub const AFTER: Command = Command {
    name: "after",
    arity: 4,
    flags: FLAGS.union(Flags::BLOCKING),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Waits until this node has all that a token tells of. Answers 1, or 0 when the time is up.",
    complexity: "O(1)",
    run: after,
    subcommands: &[],
};

/// MELD EFFECTS.
pub const EFFECTS: Command = Command {
    name: "effects",
    arity: -2,
    flags: FLAGS.union(Flags::ADMIN),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Tells what was written since a token, by all nodes, as Redis commands with their stamps.",
    complexity: "O(N) with N the number of effects returned",
    run: effects,
    subcommands: &[],
};

/// MELD TOKEN.
pub const TOKEN: Command = Command {
    name: "token",
    arity: 2,
    flags: FLAGS,
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "Tells what this node has written and merged, for MELD AFTER on another one.",
    complexity: "O(1)",
    run: token,
    subcommands: &[],
};

/// `MELD TOKEN`
fn token(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let progress = c.engine.progress();
    c.reply.bulk(progress.to_string().as_bytes());
    Ok(())
}

fn vector(text: &[u8]) -> Result<Vector, Error> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(Vector::parse).ok_or(Error::new("ERR invalid token: it is what MELD TOKEN answers"))
}

/// `MELD AFTER token ms`
fn after(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let vector = vector(&c.args[2])?;
    let deadline_ms = deadline_ms_after(&c.args[3], c.keys.now_ms())?;
    if c.blocking == Blocking::Denied || c.engine.has_reached(&vector) {
        c.reply.int(c.engine.has_reached(&vector).into());
        return Ok(());
    }
    c.outcome = Outcome::Await { awaited: Awaited::Vector(vector), deadline_ms };
    Ok(())
}

/// `MELD EFFECTS [SINCE token] [COUNT batches]`
fn effects(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (mut since, mut count) = (None, PAGE_BATCHES);
    let mut args = c.args.slice(2..).iter();
    while let Some(option) = args.next() {
        let value = args.next().ok_or(Error::SYNTAX)?;
        if is(option, "since") {
            since = Some(vector(value)?);
        } else if is(option, "count") {
            count = positive(value)?.min(PAGE_BATCHES_MAX) as usize;
        } else {
            return Err(Error::SYNTAX);
        }
    }
    let page = c.engine.effects(since.as_ref(), count).map_err(refusal)?;
    if !page.effects.is_empty() {
        // Nobody is to act on what a crash would make undone.
        c.keys.hold_reply();
    }
    c.reply.array(2);
    c.reply.bulk(page.next.to_string().as_bytes());
    c.reply.array(page.effects.len());
    page.effects.iter().for_each(|effect| write(c, effect));
    Ok(())
}

fn refusal(untold: Untold) -> Error {
    Error::new(match untold {
        Untold::Alone => {
            "ERR this node has no partners, and keeps no effects without them. Name a partner with peer or replicaof, or \
             set appendonly yes; effects are told from then on"
        }
        Untold::Evicted => {
            "ERR the backlog no longer reaches back to this token. Begin anew without SINCE, from the data as it is now; a \
             larger repl-backlog-size leaves more time"
        }
        Untold::Unheld => {
            "ERR some of what was written since this token came to this node as data, not as effects: by comparing ranges \
             after an absence or a restart, or from before there were partners. Ask another node, or begin anew without \
             SINCE, from the data as it is now"
        }
    })
}

fn write(c: &mut Call<'_, '_>, effect: &Effect) {
    let reply = &mut c.reply;
    reply.map(9);
    reply.bulk(b"stamp");
    reply.bulk(effect.stamp.to_string().as_bytes());
    reply.bulk(b"time");
    reply.int(unix_ms_from_ntp(effect.stamp.time) as i64);
    reply.bulk(b"origin");
    reply.bulk(effect.origin.to_string().as_bytes());
    reply.bulk(b"batch");
    reply.int(i64::try_from(effect.batch).unwrap_or(i64::MAX));
    reply.bulk(b"db");
    reply.int(effect.db.into());
    reply.bulk(b"keyspace");
    reply.int(effect.keyspace.into());
    reply.bulk(b"command");
    reply.array(effect.words.len());
    effect.words.iter().for_each(|word| reply.bulk(word));
    reply.bulk(b"item");
    reply.bulk_opt(effect.item.as_ref().map(|item| item.as_bytes()));
    reply.bulk(b"type");
    reply.bulk_opt(effect.kind.map(|kind| kind.name().as_bytes()));
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    #[test]
    fn a_token_is_reached_by_who_has_merged_what_it_tells_of() {
        let (mut a, mut b) = (Fixture::replicating(), Fixture::numbered(2));
        a.run("SET k v");
        let token = a.run("MELD TOKEN").split(' ').next_back().unwrap().to_owned();
        assert_eq!(token, format!("{}:1", a.engine.clock.origin()));
        a.check(&format!("MELD AFTER {token} 0"), ":1");
        b.check("MELD AFTER nonsense 10", "-ERR invalid token: it is what MELD TOKEN answers");
        b.check(&format!("MELD AFTER {token} -1"), "-ERR timeout is negative");
        b.run("MULTI");
        b.check("MELD TOKEN", "-ERR Command not allowed inside a transaction");
    }

    #[test]
    fn effects_are_asked_for_page_by_page() {
        let mut node = Fixture::replicating();
        let begin = node.run("MELD EFFECTS").split(' ').nth(2).unwrap_or("").to_owned();
        node.run("SET a 1");
        node.run("SET b 2");
        let page =
            node.run(&format!("MELD EFFECTS SINCE {} COUNT 1", if begin.is_empty() { "-" } else { &begin }));
        assert!(page.contains("$3 SET $1 a $1 1") && !page.contains("$1 b"), "{page}");
        assert!(page.contains("$8 keyspace :0") && page.contains("$4 type $-1"), "{page}");
        node.check("MELD EFFECTS SINCE", "-ERR syntax error");
    }
}
