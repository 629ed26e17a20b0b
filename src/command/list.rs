//! Lists: pushing, popping, reading, editing. The commands that wait are in [`super::list_blocking`].
//!
//! A pop travels as the removal of the item it took, a push as an item with a place of its own; see
//! [`crate::store::delta::Pos`]. Copies per command: a pushed value into the list, a moved one out of it and in again.

use smallvec::SmallVec;

use super::parse::{integer, is, positive};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::notify::EventClass;
use crate::number;
use crate::resp::args::Args;
use crate::store::delta::{Change, Pos, Side};
use crate::store::list::{Item, List};

pub(super) const TAKEN: &[&str] = &["RW", "access", "delete"];
pub(super) const INSERTED: &[&str] = &["RW", "insert"];
const READ: &[&str] = &["RO", "access"];
const COUNTED: &[&str] = &["RO"];
const REMOVED: &[&str] = &["RW", "delete"];
const UPDATED: &[&str] = &["RW", "update"];

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "lindex",
        arity: 3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, READ)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Returns the item at an index.",
        complexity: "O(N)",
        run: lindex,
        subcommands: &[],
    },
    Command {
        name: "linsert",
        arity: 5,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "2.2.0",
        summary: "Inserts an item before or after another.",
        complexity: "O(N)",
        run: linsert,
        subcommands: &[],
    },
    Command {
        name: "llen",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, COUNTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Returns the number of items.",
        complexity: "O(1)",
        run: llen,
        subcommands: &[],
    },
    Command {
        name: "lmove",
        arity: 5,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, TAKEN), KeySpec::at(2, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "6.2.0",
        summary: "Moves an item from an end of a list to an end of another.",
        complexity: "O(1)",
        run: lmove,
        subcommands: &[],
    },
    Command {
        name: "lmpop",
        arity: -4,
        flags: Flags::WRITE.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, TAKEN)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "7.0.0",
        summary: "Pops items from the first list that has any.",
        complexity: "O(N+M)",
        run: lmpop,
        subcommands: &[],
    },
    Command {
        name: "lpop",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, TAKEN)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Pops items from the head.",
        complexity: "O(N)",
        run: lpop,
        subcommands: &[],
    },
    Command {
        name: "lpos",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, READ)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "6.0.6",
        summary: "Returns the indices of items equal to a value.",
        complexity: "O(N)",
        run: lpos,
        subcommands: &[],
    },
    Command {
        name: "lpush",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Pushes items to the head, creating the list if there is none.",
        complexity: "O(1)",
        run: lpush,
        subcommands: &[],
    },
    Command {
        name: "lpushx",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "2.2.0",
        summary: "Pushes items to the head of an existing list.",
        complexity: "O(1)",
        run: lpushx,
        subcommands: &[],
    },
    Command {
        name: "lrange",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, READ)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Returns the items between two indices.",
        complexity: "O(S+N)",
        run: lrange,
        subcommands: &[],
    },
    Command {
        name: "lrem",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, REMOVED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Removes items equal to a value.",
        complexity: "O(N+M)",
        run: lrem,
        subcommands: &[],
    },
    Command {
        name: "lset",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, UPDATED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Replaces the item at an index.",
        complexity: "O(N)",
        run: lset,
        subcommands: &[],
    },
    Command {
        name: "ltrim",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, REMOVED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Removes the items outside two indices.",
        complexity: "O(N)",
        run: ltrim,
        subcommands: &[],
    },
    Command {
        name: "rpop",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, TAKEN)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Pops items from the tail.",
        complexity: "O(N)",
        run: rpop,
        subcommands: &[],
    },
    Command {
        name: "rpoplpush",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, TAKEN), KeySpec::at(2, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.2.0",
        summary: "Moves the tail of a list to the head of another.",
        complexity: "O(1)",
        run: rpoplpush,
        subcommands: &[],
    },
    Command {
        name: "rpush",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "1.0.0",
        summary: "Pushes items to the tail, creating the list if there is none.",
        complexity: "O(1)",
        run: rpush,
        subcommands: &[],
    },
    Command {
        name: "rpushx",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, INSERTED)],
        categories: &["list"],
        tips: &[],
        group: Group::List,
        since: "2.2.0",
        summary: "Pushes items to the tail of an existing list.",
        complexity: "O(1)",
        run: rpushx,
        subcommands: &[],
    },
];

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The head.
    Left,
    /// The tail.
    Right,
}

impl End {
    pub(super) fn parse(arg: &[u8]) -> Result<Self, Error> {
        match arg {
            _ if is(arg, "left") => Ok(End::Left),
            _ if is(arg, "right") => Ok(End::Right),
            _ => Err(Error::SYNTAX),
        }
    }

    fn side(self) -> Side {
        match self {
            End::Left => Side::After,
            End::Right => Side::Before,
        }
    }

    fn pushed(self) -> &'static str {
        match self {
            End::Left => "lpush",
            End::Right => "rpush",
        }
    }

    fn popped(self) -> &'static str {
        match self {
            End::Left => "lpop",
            End::Right => "rpop",
        }
    }

    /// The item at this end.
    fn item(self, list: &List) -> Option<&Item> {
        match self {
            End::Left => list.get(0),
            End::Right => list.len().checked_sub(1).and_then(|last| list.get(last)),
        }
    }

    /// The `count` items at this end, from the end inwards; there are so many.
    fn each(self, list: &List, count: usize, each: impl FnMut(&Item)) {
        match self {
            End::Left => list.range(0..count).for_each(each),
            End::Right => list.range(list.len() - count..list.len()).rev().for_each(each),
        }
    }
}

fn lpush(c: &mut Call<'_, '_>) -> Result<(), Error> {
    push(c, End::Left)
}

fn rpush(c: &mut Call<'_, '_>) -> Result<(), Error> {
    push(c, End::Right)
}

fn lpushx(c: &mut Call<'_, '_>) -> Result<(), Error> {
    push_existing(c, End::Left)
}

fn rpushx(c: &mut Call<'_, '_>) -> Result<(), Error> {
    push_existing(c, End::Right)
}

fn push_existing(c: &mut Call<'_, '_>, end: End) -> Result<(), Error> {
    if c.keys.list_to_change(&c.args[1])?.is_none() {
        c.reply.int(0);
        return Ok(());
    }
    push(c, end)
}

fn push(c: &mut Call<'_, '_>, end: End) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let values = args.slice(2..);
    let held = c.keys.list_to_change(key)?.map_or(0, List::len);
    let stamp = c.keys.stamp();
    let place = |index| Pos::pushed(end.side(), stamp, index);
    c.keys.apply_each(key, (0..).zip(values).map(|(index, value)| Change::Item(place(index), value)));
    c.keys.notify(EventClass::LIST, end.pushed(), key);
    c.reply.int((held + values.len()) as i64);
    Ok(())
}

fn lpop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    pop(c, End::Left, "lpop")
}

fn rpop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    pop(c, End::Right, "rpop")
}

fn pop(c: &mut Call<'_, '_>, end: End, name: &str) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    if args.len() > 3 {
        return Err(Error::wrong_arity(name));
    }
    let count = match args.get(2) {
        Some(arg) => Some(positive(arg)? as usize),
        None => None,
    };
    let held = c.keys.list_to_change(key)?.map(List::len);
    match (held, count) {
        (None, None) => c.reply.null(),
        (None, Some(_)) => c.reply.null_array(),
        (Some(_), None) => take(c, key, end, 1),
        (Some(held), Some(count)) => {
            c.reply.array(count.min(held));
            take(c, key, end, count.min(held));
        }
    }
    Ok(())
}

/// Pops items of a list that has so many and replies with each.
pub(super) fn take(c: &mut Call<'_, '_>, key: &[u8], end: End, count: usize) {
    let Ok(Some(list)) = c.keys.list_to_change(key) else { return };
    if count == 0 {
        return;
    }
    let emptied = list.len() == count;
    let mut taken: SmallVec<[Pos; 4]> = SmallVec::with_capacity(count);
    end.each(list, count, |item| {
        c.reply.bulk(item.value());
        taken.push(item.pos().clone());
    });
    remove(c, key, taken);
    c.keys.notify(EventClass::LIST, end.popped(), key);
    notify_if_emptied(c, key, emptied);
}

fn remove(c: &mut Call<'_, '_>, key: &[u8], items: impl IntoIterator<Item = Pos>) {
    c.keys.apply_each(key, items.into_iter().map(Change::ItemRemove));
}

fn notify_if_emptied(c: &mut Call<'_, '_>, key: &[u8], emptied: bool) {
    if emptied {
        c.keys.notify(EventClass::GENERIC, "del", key);
    }
}

/// What LMPOP and BLMPOP are to pop: the arguments from `numkeys` on.
pub(super) struct Multipop<'a> {
    pub(super) keys: Args<'a>,
    end: End,
    count: usize,
}

impl<'a> Multipop<'a> {
    pub(super) fn parse(args: Args<'a>) -> Result<Self, Error> {
        let positive = |arg: &[u8], text| {
            let number = number::parse_i64(arg).and_then(|number| usize::try_from(number).ok());
            number.filter(|number| *number > 0).ok_or(Error::new(text))
        };
        let keys = positive(&args[0], "ERR numkeys should be greater than 0")?;
        let end = keys.checked_add(1).and_then(|at| args.get(at)).ok_or(Error::SYNTAX)?;
        let end = End::parse(end)?;
        let mut count = None;
        let mut options = args.slice(keys + 2..).iter();
        while let Some(option) = options.next() {
            match options.next() {
                Some(arg) if count.is_none() && is(option, "count") => {
                    count = Some(positive(arg, "ERR count should be greater than 0")?);
                }
                _ => return Err(Error::SYNTAX),
            }
        }
        Ok(Multipop { keys: args.slice(1..=keys), end, count: count.unwrap_or(1) })
    }

    /// Pops from the first key that has something. Returns whether one had.
    pub(super) fn pop(&self, c: &mut Call<'_, '_>) -> Result<bool, Error> {
        for key in c.blocking.keys(self.keys) {
            if let Some(held) = c.keys.list_to_change(key)?.map(List::len) {
                let count = self.count.min(held);
                c.reply.array(2);
                c.reply.bulk(key);
                c.reply.array(count);
                take(c, key, self.end, count);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn lmpop(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if !Multipop::parse(c.args.slice(1..))?.pop(c)? {
        c.reply.null_array();
    }
    Ok(())
}

fn lmove(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (from, to) = (End::parse(&args[3])?, End::parse(&args[4])?);
    move_or_null(c, from, to)
}

fn rpoplpush(c: &mut Call<'_, '_>) -> Result<(), Error> {
    move_or_null(c, End::Right, End::Left)
}

fn move_or_null(c: &mut Call<'_, '_>, from: End, to: End) -> Result<(), Error> {
    if !move_item(c, from, to)? {
        c.reply.null();
    }
    Ok(())
}

/// Moves an item from the list at argument 1 to that at argument 2. Returns whether there was one.
pub(super) fn move_item(c: &mut Call<'_, '_>, from: End, to: End) -> Result<bool, Error> {
    let args = c.args;
    let (source, target) = (&args[1], &args[2]);
    if c.keys.list_to_change(source)?.is_none() {
        return Ok(false);
    }
    c.keys.list_to_change(target)?;
    let Some(list) = c.keys.list_to_change(source)? else { return Ok(false) };
    let Some(item) = from.item(list) else { return Ok(false) };
    let emptied = list.len() == 1 && source != target;
    let pos = item.pos().clone();
    let value: SmallVec<[u8; 128]> = item.value().into();
    c.reply.bulk(&value);
    let stamp = c.keys.stamp();
    c.keys.apply(target, &Change::Item(Pos::pushed(to.side(), stamp, 0), &value));
    c.keys.notify(EventClass::LIST, to.pushed(), target);
    c.keys.apply(source, &Change::ItemRemove(pos));
    c.keys.notify(EventClass::LIST, from.popped(), source);
    notify_if_emptied(c, source, emptied);
    Ok(true)
}

fn llen(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let len = c.keys.list(&c.args[1])?.map_or(0, List::len);
    c.reply.int(len as i64);
    Ok(())
}

fn lindex(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let Some(list) = c.keys.list(&c.args[1])? else {
        c.reply.null();
        return Ok(());
    };
    let index = integer(&c.args[2])?;
    c.reply.bulk_opt(index_of(list, index).and_then(|at| list.get(at)).map(Item::value));
    Ok(())
}

/// An index from the head, where negative ones count from the tail; `None` outside.
fn index_of(list: &List, index: i64) -> Option<usize> {
    let at = if index < 0 { index.checked_add(list.len() as i64)? } else { index };
    usize::try_from(at).ok().filter(|at| *at < list.len())
}

/// The indices from `start` to `stop`, cut to the list.
fn range_of(list: &List, start: i64, stop: i64) -> std::ops::Range<usize> {
    let len = list.len() as i64;
    let absolute = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (start, stop) = (absolute(start).max(0), absolute(stop).min(len - 1));
    if start > stop { 0..0 } else { start as usize..stop as usize + 1 }
}

fn lrange(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (start, stop) = (integer(&c.args[2])?, integer(&c.args[3])?);
    let Some(list) = c.keys.list(&c.args[1])? else {
        c.reply.array(0);
        return Ok(());
    };
    let items = list.range(range_of(list, start, stop));
    c.reply.array(items.len());
    items.for_each(|item| c.reply.bulk(item.value()));
    Ok(())
}

fn ltrim(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let (start, stop) = (integer(&args[2])?, integer(&args[3])?);
    if let Some(list) = c.keys.list_to_change(key)? {
        let kept = range_of(list, start, stop);
        let emptied = kept.is_empty();
        let gone = list.range(0..kept.start).chain(list.range(kept.end..list.len()));
        let gone: Vec<Pos> = gone.map(|item| item.pos().clone()).collect();
        remove(c, key, gone);
        c.keys.notify(EventClass::LIST, "ltrim", key);
        notify_if_emptied(c, key, emptied);
    }
    c.reply.ok();
    Ok(())
}

fn lset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let key = &args[1];
    let list = c.keys.list_to_change(key)?.ok_or(Error::NO_SUCH_KEY)?;
    let at = index_of(list, integer(&args[2])?).ok_or(Error::OUT_OF_RANGE)?;
    let pos = list.get(at).ok_or(Error::OUT_OF_RANGE)?.pos().clone();
    c.keys.apply(key, &Change::ItemValue(pos, &args[3]));
    c.keys.notify(EventClass::LIST, "lset", key);
    c.reply.ok();
    Ok(())
}

fn lrem(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (key, value) = (&args[1], &args[3]);
    let count = integer(&args[2])?;
    let Some(list) = c.keys.list_to_change(key)? else {
        c.reply.int(0);
        return Ok(());
    };
    let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let equal = |item: &&Item| item.value() == value;
    let pos = |item: &Item| item.pos().clone();
    let gone: Vec<Pos> = if count < 0 {
        list.iter().rev().filter(equal).take(most).map(pos).collect()
    } else {
        list.iter().filter(equal).take(most).map(pos).collect()
    };
    c.reply.int(gone.len() as i64);
    if gone.is_empty() {
        return Ok(());
    }
    let emptied = gone.len() == list.len();
    remove(c, key, gone);
    c.keys.notify(EventClass::LIST, "lrem", key);
    notify_if_emptied(c, key, emptied);
    Ok(())
}

fn linsert(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let (key, pivot, value) = (&args[1], &args[3], &args[4]);
    let side = match &args[2] {
        place if is(place, "after") => Side::After,
        place if is(place, "before") => Side::Before,
        _ => return Err(Error::SYNTAX),
    };
    let Some(list) = c.keys.list_to_change(key)? else {
        c.reply.int(0);
        return Ok(());
    };
    let len = list.len();
    let Some(at) = list.iter().position(|item| item.value() == pivot) else {
        c.reply.int(-1);
        return Ok(());
    };
    let pos = match place_beside(c, key, at, side) {
        Some(pos) => pos,
        None => {
            place_anew(c, key);
            place_beside(c, key, at, side).expect("a list placed anew has shallow places")
        }
    };
    c.keys.apply(key, &Change::Item(pos, value));
    c.keys.notify(EventClass::LIST, "linsert", key);
    c.reply.int((len + 1) as i64);
    Ok(())
}

fn place_beside(c: &mut Call<'_, '_>, key: &[u8], at: usize, side: Side) -> Option<Pos> {
    let stamp = c.keys.stamp();
    c.keys.list_to_change(key).ok().flatten()?.place_beside(at, side, stamp)
}

/// Pushes every item again in its order and removes it where it was, which gives each the shortest of places. Needed
/// where LINSERTs between the two newest items have nested places to their limit.
fn place_anew(c: &mut Call<'_, '_>, key: &[u8]) {
    let Ok(Some(list)) = c.keys.list_to_change(key) else { return };
    let items: Vec<(Pos, Box<[u8]>)> =
        list.iter().map(|item| (item.pos().clone(), item.value().into())).collect();
    let stamp = c.keys.stamp();
    let place = |index| Pos::pushed(Side::Before, stamp, index);
    c.keys.apply_each(key, (0..).zip(&items).map(|(index, (_, value))| Change::Item(place(index), value)));
    remove(c, key, items.into_iter().map(|(pos, _)| pos));
    c.keys.next_command();
}

/// Which matches LPOS looks for.
struct Search {
    /// How many matches to pass over.
    skipped: u64,
    from: End,
    /// How many to return; `None` for a single one, returned by itself.
    count: Option<usize>,
    /// How many items to compare.
    compared: usize,
}

impl Search {
    fn parse(options: Args<'_>) -> Result<Self, Error> {
        const ZERO_RANK: Error = Error::new(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative \
             to start from the end of the list",
        );
        let mut search = Search { skipped: 0, from: End::Left, count: None, compared: usize::MAX };
        let amount = |arg: &[u8], text| {
            number::parse_i64(arg).and_then(|n| usize::try_from(n).ok()).ok_or(Error::new(text))
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let arg = options.next().ok_or(Error::SYNTAX)?;
            if is(option, "rank") {
                let rank = integer(arg)?;
                if rank == 0 {
                    return Err(ZERO_RANK);
                }
                // The least rank has no opposite: like Redis, start from the first match.
                search.skipped = rank.checked_abs().map_or(0, |rank| rank.unsigned_abs() - 1);
                search.from = if rank < 0 { End::Right } else { End::Left };
            } else if is(option, "count") {
                search.count = Some(amount(arg, "ERR COUNT can't be negative")?);
            } else if is(option, "maxlen") {
                let most = amount(arg, "ERR MAXLEN can't be negative")?;
                search.compared = if most == 0 { usize::MAX } else { most };
            } else {
                return Err(Error::SYNTAX);
            }
        }
        Ok(search)
    }

    /// Calls back with the index of each match, at most `most`.
    fn each(&self, list: &List, value: &[u8], most: usize, mut each: impl FnMut(usize)) {
        let (mut left, mut skipped, mut distance) = (most, self.skipped, 0);
        self.from.each(list, self.compared.min(list.len()), |item| {
            if left > 0 && item.value() == value {
                if skipped > 0 {
                    skipped -= 1;
                } else {
                    left -= 1;
                    each(if self.from == End::Left { distance } else { list.len() - 1 - distance });
                }
            }
            distance += 1;
        });
    }
}

fn lpos(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let search = Search::parse(args.slice(3..))?;
    let list = c.keys.list(&args[1])?;
    match search.count {
        None => {
            let mut found = None;
            if let Some(list) = list {
                search.each(list, &args[2], 1, |index| found = Some(index));
            }
            match found {
                Some(index) => c.reply.int(index as i64),
                None => c.reply.null(),
            }
        }
        Some(count) => {
            let (mark, mut found) = (c.reply.mark(), 0);
            if let Some(list) = list {
                search.each(list, &args[2], if count == 0 { usize::MAX } else { count }, |index| {
                    c.reply.int(index as i64);
                    found += 1;
                });
            }
            c.reply.array_at(mark, found);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    #[test]
    fn insertions_between_the_two_newest_items_never_end() {
        let mut server = Fixture::new();
        server.check("RPUSH l first last", ":2");
        for n in 0..200 {
            let (place, pivot) = match n {
                0 => ("BEFORE", "last".to_owned()),
                _ if n % 2 == 0 => ("BEFORE", (n - 1).to_string()),
                _ => ("AFTER", (n - 1).to_string()),
            };
            server.check(&format!("LINSERT l {place} {pivot} {n}"), &format!(":{}", n + 3));
        }
        let left = (0..200).step_by(2).map(|n| n.to_string());
        let right = (1..200).step_by(2).rev().map(|n| n.to_string());
        let items: Vec<String> =
            ["first".into()].into_iter().chain(left).chain(right).chain(["last".into()]).collect();
        let reply: Vec<String> = items.iter().map(|item| format!("${} {item}", item.len())).collect();
        server.check("LRANGE l 0 -1", &format!("*202 {}", reply.join(" ")));
    }

    #[test]
    fn what_changes_nothing_has_no_effect() {
        let mut server = Fixture::replicating();
        server.check("RPUSH l a b c", ":3");
        let before = server.changes();
        for (command, reply) in [
            ("LTRIM l 0 -1", "+OK"),
            ("LREM l 0 nosuch", ":0"),
            ("LPOP l 0", "*0"),
            ("LINSERT l BEFORE nosuch x", ":-1"),
            ("LPUSHX nosuch x", ":0"),
            ("LMOVE nosuch l LEFT LEFT", "$-1"),
        ] {
            server.check(command, reply);
            assert_eq!(server.changes(), before, "{command}");
        }
    }
}
