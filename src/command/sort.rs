//! SORT: the elements of a collection in order, or what keys named after them hold.
//!
//! A pattern names a key per element: its first `*` becomes the element, and what stands behind `->` is a field of the
//! hash there. Which keys these are shows only while sorting, so the whole keyspace is locked.

use std::cmp::Ordering;

use super::parse::{integer, is};
use crate::engine::call::Call;
use crate::engine::command::{Begin, Command, Find, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::keyspace::Keyspace;
use crate::engine::notify::EventClass;
use crate::number;
use crate::resp::args::Args;
use crate::store::delta::{Change, Pos, Side};
use crate::store::entry::Value;

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "sort",
        arity: -2,
        flags: Flags::WRITE.union(Flags::WHOLE_KEYSPACE).union(Flags::DENYOOM).union(Flags::MOVABLEKEYS),
        keys: &[
            KeySpec::at(1, &["RO", "access"]),
            KeySpec {
                notes: "(see Redis)",
                flags: &["RO", "access"],
                begin: Begin::Unknown,
                find: Find::Unknown,
            },
            KeySpec {
                notes: "(see Redis)",
                flags: &["OW", "update"],
                begin: Begin::Unknown,
                find: Find::Unknown,
            },
        ],
        categories: &["dangerous", "list", "set", "sortedset"],
        tips: &[],
        group: Group::Generic,
        since: "1.0.0",
        summary: "Sorts a list, a set or a sorted set, and returns or stores the result.",
        complexity: "O(N*log(N))",
        run: sort,
        subcommands: &[],
    },
    Command {
        name: "sort_ro",
        arity: -2,
        flags: Flags::READONLY.union(Flags::WHOLE_KEYSPACE).union(Flags::MOVABLEKEYS),
        keys: &[
            KeySpec::at(1, &["RO", "access"]),
            KeySpec {
                notes: "(see Redis)",
                flags: &["RO", "access"],
                begin: Begin::Unknown,
                find: Find::Unknown,
            },
        ],
        categories: &["dangerous", "list", "set", "sortedset"],
        tips: &[],
        group: Group::Generic,
        since: "7.0.0",
        summary: "Sorts a list, a set or a sorted set.",
        complexity: "O(N*log(N))",
        run: sort_ro,
        subcommands: &[],
    },
];

const NOT_NUMBERS: Error = Error::new("ERR One or more scores can't be converted into double");

/// What decides the order.
#[derive(Clone, Copy, PartialEq)]
enum By<'a> {
    /// The elements.
    Element,
    /// What the keys named after them hold.
    Pattern(&'a [u8]),
    /// Nothing: they stay in the order they have.
    Nothing,
}

/// The options of one SORT.
struct Options<'a> {
    by: By<'a>,
    gets: Vec<&'a [u8]>,
    alpha: bool,
    descending: bool,
    /// Offset and count; a negative count is no limit.
    limit: (i64, i64),
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, may_store: bool) -> Result<Self, Error> {
        let mut options = Options {
            by: By::Element,
            gets: Vec::new(),
            alpha: false,
            descending: false,
            limit: (0, -1),
            store: None,
        };
        let mut rest = args.iter();
        while let Some(option) = rest.next() {
            match option {
                _ if is(option, "asc") => options.descending = false,
                _ if is(option, "desc") => options.descending = true,
                _ if is(option, "alpha") => options.alpha = true,
                _ if is(option, "limit") => {
                    let (Some(offset), Some(count)) = (rest.next(), rest.next()) else {
                        return Err(Error::SYNTAX);
                    };
                    options.limit = (integer(offset)?, integer(count)?);
                }
                _ if is(option, "store") && may_store => {
                    options.store = Some(rest.next().ok_or(Error::SYNTAX)?)
                }
                _ if is(option, "by") => {
                    let pattern = rest.next().ok_or(Error::SYNTAX)?;
                    options.by = if pattern.contains(&b'*') { By::Pattern(pattern) } else { By::Nothing };
                }
                _ if is(option, "get") => options.gets.push(rest.next().ok_or(Error::SYNTAX)?),
                _ => return Err(Error::SYNTAX),
            }
        }
        Ok(options)
    }

    /// The part of so many elements that LIMIT leaves.
    fn window(&self, len: usize) -> std::ops::Range<usize> {
        let (offset, count) = self.limit;
        let start = usize::try_from(offset.max(0)).unwrap_or(len).min(len);
        let end = usize::try_from(count).map_or(len, |count| start.saturating_add(count).min(len));
        start..end
    }
}

fn sort(c: &mut Call<'_, '_>) -> Result<(), Error> {
    sort_with(c, true)
}

fn sort_ro(c: &mut Call<'_, '_>) -> Result<(), Error> {
    sort_with(c, false)
}

fn sort_with(c: &mut Call<'_, '_>, may_store: bool) -> Result<(), Error> {
    let args = c.args;
    let options = Options::parse(args.slice(2..), may_store)?;
    c.keys.value(&args[1]);
    let keys = &*c.keys;
    let elements = sorted(keys, &args[1], &options)?;
    let window = options.window(elements.len());
    let found = elements[window].iter().flat_map(|element| {
        let own = options.gets.is_empty().then_some(Some(*element));
        own.into_iter().chain(options.gets.iter().map(|pattern| look_up(keys, pattern, element)))
    });
    match options.store {
        Some(target) => {
            let found: Vec<Vec<u8>> = found.map(|value| value.unwrap_or_default().to_vec()).collect();
            store(c, target, &found);
        }
        None => {
            let (mark, mut count) = (c.reply.mark(), 0);
            for value in found {
                c.reply.bulk_opt(value);
                count += 1;
            }
            c.reply.array_at(mark, count);
        }
    }
    Ok(())
}

/// The elements of a key, in order.
fn sorted<'k>(keys: &'k Keyspace<'_>, key: &[u8], options: &Options<'_>) -> Result<Vec<&'k [u8]>, Error> {
    let mut by = options.by;
    let mut alpha = options.alpha;
    let mut elements: Vec<&[u8]> = match keys.peek(key) {
        None => Vec::new(),
        Some(Value::List(list)) => list.iter().map(|item| item.value()).collect(),
        Some(Value::Set(set)) => {
            if by == By::Nothing && options.store.is_some() {
                // A set has no order to keep, and what is stored must not depend on chance.
                (by, alpha) = (By::Element, true);
            }
            set.iter().collect()
        }
        Some(Value::Zset(zset)) => zset.order().range(0..zset.len()).map(|ranked| &*ranked.member).collect(),
        Some(Value::String(_) | Value::Hash(_)) => return Err(Error::WRONG_TYPE),
    };
    if by == By::Nothing {
        if options.descending && !matches!(keys.peek(key), Some(Value::Set(_))) {
            elements.reverse();
        }
        return Ok(elements);
    }
    let weight = |element: &'k [u8]| match by {
        By::Pattern(pattern) => look_up(keys, pattern, element),
        By::Element | By::Nothing => Some(element),
    };
    if alpha {
        let mut weighed: Vec<_> = elements.into_iter().map(|element| (weight(element), element)).collect();
        weighed.sort_by(|a, b| directed(a.0.cmp(&b.0), options));
        return Ok(weighed.into_iter().map(|(_, element)| element).collect());
    }
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        weighed.push((weight(element).map_or(Ok(0.0), number_of)?, element));
    }
    weighed.sort_by(|a, b| {
        let by_number = a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
        directed(by_number.then_with(|| a.1.cmp(b.1)), options)
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

fn directed(order: Ordering, options: &Options<'_>) -> Ordering {
    if options.descending { order.reverse() } else { order }
}

/// A weight, read as C's strtod does: blanks before it are skipped, nothing at all is zero, a NUL ends it.
fn number_of(text: &[u8]) -> Result<f64, Error> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Ok(0.0);
    }
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | 0x09..=0x0d)).count();
    number::parse_f64(&text[blanks..]).ok_or(NOT_NUMBERS)
}

/// What a pattern leads to from an element.
fn look_up<'k>(keys: &'k Keyspace<'_>, pattern: &[u8], element: &'k [u8]) -> Option<&'k [u8]> {
    if pattern == b"#" {
        return Some(element);
    }
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < after.len());
    let (after, field) = match arrow {
        Some(at) => (&after[..at], Some(&after[at + 2..])),
        None => (after, None),
    };
    match (keys.peek(&[before, element, after].concat())?, field) {
        (Value::Hash(hash), Some(field)) => hash.get(field),
        (Value::String(text), None) => Some(text),
        _ => None,
    }
}

fn store(c: &mut Call<'_, '_>, target: &[u8], values: &[Vec<u8>]) {
    if values.is_empty() {
        if c.keys.delete(target) {
            c.keys.notify(EventClass::GENERIC, "del", target);
        }
    } else {
        let stamp = c.keys.stamp();
        c.keys.replace(target, |keys| {
            for (index, value) in (0..).zip(values) {
                keys.apply(target, &Change::Item(Pos::pushed(Side::Before, stamp, index), value));
            }
        });
        c.keys.notify(EventClass::LIST, "sortstore", target);
    }
    c.reply.int(values.len() as i64);
}
