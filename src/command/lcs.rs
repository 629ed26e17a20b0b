//! LCS: the longest common subsequence of two strings.
//!
//! The textbook table: cell (i, j) is the length for the first i bytes of one string and the first j of the other.
//! Walking it back from its last cell gives the subsequence, and the runs of bytes that match, from the end on. Where
//! two walks are equally long, the one that shortens the second string is taken, as Redis does: replies depend on it.
//!
//! Cost: time and memory grow with the product of the lengths. The table must fit in `proto-max-bulk-len` bytes.

use std::ops::Range;

use super::parse::{integer, is, is_len_allowed};
use crate::engine::call::Call;
use crate::engine::command::{Command, Find, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::resp::args::Args;
use crate::store::delta::Kind;
use crate::store::entry::Value;

/// The table.
pub const COMMANDS: &[Command] = &[Command {
    name: "lcs",
    arity: -3,
    flags: Flags::READONLY,
    keys: &[KeySpec { find: Find::Range { last: 1, step: 1, limit: 0 }, ..KeySpec::READ_1 }],
    categories: &["string"],
    tips: &[],
    group: Group::String,
    since: "7.0.0",
    summary: "Finds the longest common subsequence of two strings.",
    complexity: "O(N*M)",
    run: lcs,
    subcommands: &[],
}];

fn lcs(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    for key in args.slice(1..=2) {
        if c.keys.value(key).is_some_and(|value| value.kind() != Kind::String) {
            return Err(Error::new("ERR The specified keys must contain string values"));
        }
    }
    let options = Options::parse(args)?;
    let [a, b] = [&args[1], &args[2]].map(|key| match c.keys.peek(key) {
        Some(Value::String(text)) => text,
        _ => &[],
    });
    let cells = (a.len() as u64 + 1).saturating_mul(b.len() as u64 + 1);
    if !is_len_allowed(c.engine, cells.saturating_mul(size_of::<u32>() as u64)) {
        return Err(Error::new(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let table = Table::new(a, b);
    if options.len {
        c.reply.int(table.at(a.len(), b.len()).into());
        return Ok(());
    }
    let runs = table.runs(a, b);
    if !options.runs {
        let common: Vec<u8> = runs.iter().rev().flat_map(|run| &a[run.a.clone()]).copied().collect();
        c.reply.bulk(&common);
        return Ok(());
    }
    let long_enough = |run: &&Run| run.a.len() as i64 >= options.run_len_min;
    c.reply.map(2);
    c.reply.bulk(b"matches");
    c.reply.array(runs.iter().filter(long_enough).count());
    for run in runs.iter().filter(long_enough) {
        c.reply.array(if options.run_len { 3 } else { 2 });
        for span in [&run.a, &run.b] {
            c.reply.array(2);
            c.reply.int(span.start as i64);
            c.reply.int(span.end as i64 - 1);
        }
        if options.run_len {
            c.reply.int(run.a.len() as i64);
        }
    }
    c.reply.bulk(b"len");
    c.reply.int(table.at(a.len(), b.len()).into());
    Ok(())
}

#[derive(Default)]
struct Options {
    /// LEN: only the length.
    len: bool,
    /// IDX: where the matches are.
    runs: bool,
    /// MINMATCHLEN.
    run_len_min: i64,
    /// WITHMATCHLEN.
    run_len: bool,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Self, Error> {
        let mut options = Options::default();
        let mut rest = args.slice(3..).iter();
        while let Some(word) = rest.next() {
            if is(word, "idx") {
                options.runs = true;
            } else if is(word, "len") {
                options.len = true;
            } else if is(word, "withmatchlen") {
                options.run_len = true;
            } else if is(word, "minmatchlen") {
                options.run_len_min = integer(rest.next().ok_or(Error::SYNTAX)?)?;
            } else {
                return Err(Error::SYNTAX);
            }
        }
        if options.runs && options.len {
            return Err(Error::new("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

/// Bytes that match one another, in both strings.
struct Run {
    a: Range<usize>,
    b: Range<usize>,
}

struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Self {
        let width = b.len() + 1;
        let mut table = Table { cells: vec![0; width * (a.len() + 1)], width };
        for (i, byte) in a.iter().enumerate() {
            let (above, row) = table.cells[i * width..(i + 2) * width].split_at_mut(width);
            for (j, other) in b.iter().enumerate() {
                row[j + 1] = if byte == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        table
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }

    /// The runs that make up the subsequence, from the end of the strings on.
    fn runs(&self, a: &[u8], b: &[u8]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        let mut is_running = false;
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                if !is_running {
                    runs.push(Run { a: i..i, b: j..j });
                }
                (i, j, is_running) = (i - 1, j - 1, true);
                if let Some(run) = runs.last_mut() {
                    (run.a.start, run.b.start) = (i, j);
                }
            } else {
                is_running = false;
                if self.at(i - 1, j) > self.at(i, j - 1) { i -= 1 } else { j -= 1 }
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;
    use crate::resp::reply::Protocol;

    #[test]
    fn runs_are_told_from_the_end_on() {
        let check = |options: &str, expected: &str| {
            let mut f = Fixture::new().speak(Protocol::Resp3);
            f.check("MSET a ohmytext b mynewtext", "+OK");
            f.check(&format!("LCS a b{options}"), expected);
        };
        check("", "$6 mytext");
        check(" LEN", ":6");
        check(" IDX", "%2 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6");
        check(" IDX MINMATCHLEN 4 WITHMATCHLEN", "%2 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6");
        check(" IDX MINMATCHLEN -9223372036854775808 MINMATCHLEN 9", "%2 $7 matches *0 $3 len :6");
        check(" IDX LEN", "-ERR If you want both the length and indexes, please just use IDX.");
    }

    #[test]
    fn tables_beyond_the_limit_are_refused() {
        let mut f = Fixture::new();
        f.check("SETRANGE a 20000 x", ":20001");
        f.check(
            "LCS a a LEN",
            "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        );
        f.check("LCS a missing LEN", ":0");
    }
}
