//! MELD CONFLICTS: the log of concurrent writes that have lost. What counts as one: [`crate::engine::conflicts`].

use super::family::wrong_number;
use super::parse::is;
use crate::clock::{Stamp, unix_ms_from_ntp};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group};
use crate::engine::conflicts::Entry;
use crate::engine::error::Error;
use crate::number;

/// MELD CONFLICTS. An operator's, as SLOWLOG is: it tells keys and values.
pub const CONFLICTS: Command = Command {
    name: "conflicts",
    arity: -2,
    flags: Flags::ADMIN.union(Flags::LOADING).union(Flags::STALE),
    keys: &[],
    categories: &[],
    tips: &["nondeterministic_output"],
    group: Group::Meldis,
    since: "1.0.0",
    summary: "The latest concurrent writes that have lost, their number, or RESET, which forgets them.",
    complexity: "O(N) with the number of entries returned",
    run: conflicts,
    subcommands: &[],
};

/// Entries answered unless told otherwise.
const COUNT: usize = 10;

/// `MELD CONFLICTS [count | LEN | RESET]`
fn conflicts(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let count = match (c.args.len(), c.args.get(2)) {
        (2, _) => COUNT,
        (3, Some(word)) if is(word, "len") => {
            let len = c.engine.conflicts.entries().iter().len();
            c.reply.int(len as i64);
            return Ok(());
        }
        (3, Some(word)) if is(word, "reset") => {
            c.engine.conflicts.clear();
            c.reply.ok();
            return Ok(());
        }
        (3, Some(count)) => match number::parse_i64(count) {
            Some(-1) => usize::MAX,
            Some(count) => usize::try_from(count)
                .map_err(|_| Error::new("ERR count should be greater than or equal to -1"))?,
            None => return Err(Error::SYNTAX),
        },
        _ => return Err(wrong_number(c.args)),
    };
    let log = c.engine.conflicts.entries();
    c.reply.array(count.min(log.iter().len()));
    for entry in log.iter().take(count) {
        write(c, entry);
    }
    Ok(())
}

fn write(c: &mut Call<'_, '_>, entry: &Entry) {
    c.reply.map(9);
    c.reply.bulk(b"id");
    c.reply.int(entry.id as i64);
    c.reply.bulk(b"time");
    c.reply.int(entry.at_ms as i64);
    c.reply.bulk(b"kind");
    c.reply.bulk(entry.kind.name().as_bytes());
    c.reply.bulk(b"db");
    c.reply.int(c.engine.db_of(entry.space).unwrap_or(entry.space).into());
    c.reply.bulk(b"key");
    c.reply.bulk(&entry.key);
    c.reply.bulk(b"element");
    c.reply.bulk_opt(entry.element.as_deref());
    c.reply.bulk(b"winner");
    c.reply.map(4);
    write_stamp(c, entry.winner);
    c.reply.bulk(b"loser");
    c.reply.map(4);
    write_stamp(c, entry.loser);
    c.reply.bulk(b"lost");
    c.reply.bulk_opt(entry.lost.as_deref());
}

/// The four fields that tell of a write.
pub(super) fn write_stamp(c: &mut Call<'_, '_>, stamp: Stamp) {
    c.reply.bulk(b"stamp");
    c.reply.bulk(stamp.to_string().as_bytes());
    c.reply.bulk(b"node");
    c.reply.bulk(stamp.origin.node().to_string().as_bytes());
    c.reply.bulk(b"incarnation");
    c.reply.int(stamp.origin.incarnation().into());
    c.reply.bulk(b"time");
    c.reply.int(unix_ms_from_ntp(stamp.time) as i64);
}

/// What a write to a key of the selected database has won over: of an element if one is asked for that has a name.
pub(super) fn write_won_over(c: &mut Call<'_, '_>, key: &[u8], name: Option<&[u8]>, winner: Stamp) {
    let space = c.keys.space();
    let log = c.engine.conflicts.entries();
    let mark = c.reply.mark();
    let mut told = 0;
    for entry in log.iter().filter(|entry| entry.winner == winner && entry.is_about(space, key, name)) {
        c.reply.map(6);
        c.reply.bulk(b"element");
        c.reply.bulk_opt(entry.element.as_deref());
        write_stamp(c, entry.loser);
        c.reply.bulk(b"lost");
        c.reply.bulk_opt(entry.lost.as_deref());
        told += 1;
    }
    c.reply.array_at(mark, told);
}
