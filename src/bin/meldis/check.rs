//! `meldis check`: proves from outside that nodes hold the same, or names what differs.
//!
//! Digests of ranges are compared first; a range that was equal on all nodes when it was looked at is done. While writes
//! go on, a range may differ because one node has a write that another will have in a moment; so it is looked at
//! again after each node has merged what the others had. What is left after a few rounds is looked at key by key: a key
//! *differs* if it has not changed on any node between two looks, every node has merged meanwhile what the others
//! had at the first, and it is not the same on all. A key that changes at every look is reported as busy: that is
//! no proof of either.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use meldis::clock::{NTP64, unix_ms_from_ntp};
use meldis::link::mesh::GLOBALS;
use meldis::link::vector::Vector;
use meldis::server::log::date;
use serde::{Serialize, Serializer};

use crate::client::{Answer, Client, Login, bytes, field, int, items, quoted, text, unexpected};

/// Rounds over ranges before keys are looked at.
const RANGE_ROUNDS: usize = 3;
/// A node is waited for so long to merge what the others have; then it is compared as it is.
const CATCH_UP_MS: u64 = 3000;
/// Registers shown of a key that differs.
const REGISTERS_SHOWN: usize = 8;

/// Which nodes, and how.
#[derive(Args)]
pub(crate) struct Check {
    /// The nodes: HOST:PORT, two or more.
    #[arg(required = true, num_args = 2..)]
    nodes: Vec<String>,
    /// Seconds after which keys that keep changing are given up.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// How many differing keys are shown.
    #[arg(long, default_value_t = 100)]
    show: usize,
    /// Prints the result as JSON. Keys, elements and values are texts; those that are no UTF-8 are {"hex": "..."}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// A key: database and name.
type Key = (i64, Vec<u8>);
/// What a node holds: keys with their digests.
type Digests = BTreeMap<Key, i64>;

/// What came out.
#[derive(Serialize)]
struct Report {
    equal: bool,
    nodes: Vec<String>,
    /// How many were compared, settings not counted: see `settings_differ`.
    ranges: usize,
    seconds: f64,
    /// How many keys differ; `differing` shows the first.
    differing_keys: usize,
    differing: Vec<Difference>,
    /// Keys that changed whenever they were looked at.
    busy: Vec<Busy>,
    /// Swapped databases or cluster-wide registers differ.
    settings_differ: bool,
    /// Nodes that did not merge in time what the others had.
    behind: Vec<String>,
}

/// What clients wrote. In JSON a text if it is UTF-8, otherwise `{"hex": "..."}`, so that no two look alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Written(Vec<u8>);

/// A key that could not be judged.
#[derive(Serialize)]
struct Busy {
    db: i64,
    key: Written,
}

/// A key that is not the same on all nodes.
#[derive(Serialize)]
struct Difference {
    db: i64,
    key: Written,
    /// By node.
    held: BTreeMap<String, Held>,
}

/// What a node holds of a key.
#[derive(Serialize)]
struct Held {
    r#type: Option<String>,
    expires_at: Option<i64>,
    /// The registers that are not the same on all nodes.
    registers: Vec<Register>,
}

#[derive(Serialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Register {
    element: Option<Written>,
    kind: String,
    value: Option<Written>,
    stamp: String,
    origin: String,
    time: String,
}

/// Compares, prints, and says how the process ends.
///
/// # Errors
/// If a node cannot be asked.
pub(crate) fn run(check: &Check) -> io::Result<ExitCode> {
    let clients = check.nodes.iter().map(|node| Client::connect(node, &check.login));
    let mut clients: Vec<Client> = clients.collect::<io::Result<_>>()?;
    tell_apart(&mut clients)?;
    let mut run = Run {
        clients,
        deadline: Instant::now() + Duration::from_secs(check.timeout),
        behind: BTreeSet::new(),
        shows_progress: io::stderr().is_terminal() && !check.json,
    };
    let report = run.compare(check.show)?;
    if check.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        run.progress("");
        report.print();
    }
    Ok(if report.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A node is always equal to itself: that would prove nothing.
fn tell_apart(clients: &mut [Client]) -> io::Result<()> {
    let mut met: BTreeMap<String, String> = BTreeMap::new();
    for client in clients {
        let info = text(&client.ask(&["INFO", "server"])?)?;
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).ok_or_else(unexpected)?;
        if let Some(other) = met.insert(run.to_owned(), client.address.clone()) {
            let both = format!("{other} and {} are the same node: name different ones", client.address);
            return Err(io::Error::other(both));
        }
    }
    Ok(())
}

struct Run {
    clients: Vec<Client>,
    deadline: Instant,
    behind: BTreeSet<usize>,
    shows_progress: bool,
}

impl Run {
    fn compare(&mut self, show: usize) -> io::Result<Report> {
        let began = Instant::now();
        let left = self.ranges_left()?;
        let ranges: Vec<u16> = left.iter().copied().filter(|range| *range != GLOBALS).collect();
        let (differing, busy) = self.keys_left(&ranges)?;
        let shown: Vec<Key> = differing.iter().take(show).cloned().collect();
        let differences = shown.iter().map(|key| self.difference(key)).collect::<io::Result<Vec<_>>>()?;
        let settings_differ = left.contains(&GLOBALS);
        Ok(Report {
            equal: differing.is_empty() && busy.is_empty() && !settings_differ,
            nodes: self.clients.iter().map(|client| client.address.clone()).collect(),
            ranges: usize::from(GLOBALS),
            seconds: began.elapsed().as_secs_f64(),
            differing_keys: differing.len(),
            differing: differences,
            busy: busy.into_iter().map(|(db, key)| Busy { db, key: Written(key) }).collect(),
            settings_differ,
            behind: self.behind.iter().map(|node| self.clients[*node].address.clone()).collect(),
        })
    }

    /// The ranges that were never seen equal on all nodes.
    fn ranges_left(&mut self) -> io::Result<BTreeSet<u16>> {
        let mut left: BTreeSet<u16> = (0..=GLOBALS).collect();
        for round in 1..=RANGE_ROUNDS {
            let mut digests = Vec::new();
            let mut reached = Vector::default();
            for client in &mut self.clients {
                let answer = client.ask(&["MELD", "CHECK", "RANGES"])?;
                let of_node: Vec<i64> =
                    items(field(&answer, "digests")?)?.iter().map(int).collect::<io::Result<_>>()?;
                if of_node.len() != usize::from(GLOBALS) + 1 {
                    return Err(unexpected());
                }
                reached.join(&token(field(&answer, "after")?)?);
                digests.push(of_node);
            }
            let at = |node: usize, range: &u16| digests[node][usize::from(*range)];
            left.retain(|range| (1..digests.len()).any(|node| at(node, range) != at(0, range)));
            self.progress(&format!("round {round}: {}", standing(&left)));
            if left.is_empty() {
                break;
            }
            self.catch_up(&reached)?;
        }
        Ok(left)
    }

    /// The keys of ranges that differ, and those that could not be judged.
    fn keys_left(&mut self, ranges: &[u16]) -> io::Result<(BTreeSet<Key>, BTreeSet<Key>)> {
        let (mut differing, mut busy) = (BTreeSet::new(), BTreeSet::new());
        for (done, range) in ranges.iter().enumerate() {
            let percent = done * 100 / ranges.len();
            self.progress(&format!("comparing keys: {percent}% of {} ranges", ranges.len()));
            let mut before = self.digests(*range)?;
            loop {
                let reached = self.token()?;
                self.catch_up(&reached)?;
                let now = self.digests(*range)?;
                let judged = judge(&before, &now);
                let is_late = Instant::now() > self.deadline;
                if judged.changing.is_empty() || is_late {
                    differing.extend(judged.differing);
                    busy.extend(judged.changing);
                    break;
                }
                before = now;
            }
        }
        Ok((differing, busy))
    }

    /// The keys of a range on every node.
    fn digests(&mut self, range: u16) -> io::Result<Vec<Digests>> {
        let range = range.to_string();
        self.clients.iter_mut().map(|client| digests_of(client, &range)).collect()
    }

    /// What all nodes have written and merged.
    fn token(&mut self) -> io::Result<Vector> {
        let mut reached = Vector::default();
        for client in &mut self.clients {
            reached.join(&token(&client.ask(&["MELD", "TOKEN"])?)?);
        }
        Ok(reached)
    }

    /// Has every node merge what the others have.
    fn catch_up(&mut self, reached: &Vector) -> io::Result<()> {
        let reached = reached.to_string();
        for (node, client) in self.clients.iter_mut().enumerate() {
            // One that was waited for in vain is not waited for again.
            let ms = if self.behind.contains(&node) { 1 } else { CATCH_UP_MS };
            let words = ["MELD", "AFTER", &reached, &ms.to_string()];
            let answer = client.ask_within(&words, Duration::from_millis(ms) + Duration::from_secs(10))?;
            if int(&answer)? == 0 {
                self.behind.insert(node);
            } else {
                self.behind.remove(&node);
            }
        }
        Ok(())
    }

    fn difference(&mut self, key: &Key) -> io::Result<Difference> {
        let mut held = BTreeMap::new();
        for client in &mut self.clients {
            let db = key.0.to_string();
            let answer = client.ask(&[b"MELD".as_slice(), b"CHECK", b"KEY", db.as_bytes(), &key.1])?;
            held.insert(client.address.clone(), held_of(&answer)?);
        }
        let everywhere = |register: &Register| held.values().all(|of| of.registers.contains(register));
        let common: BTreeSet<Register> = held
            .values()
            .flat_map(|of| &of.registers)
            .filter(|register| everywhere(register))
            .cloned()
            .collect();
        held.values_mut().for_each(|of| of.registers.retain(|register| !common.contains(register)));
        Ok(Difference { db: key.0, key: Written(key.1.clone()), held })
    }

    fn progress(&self, line: &str) {
        if self.shows_progress {
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    }
}

/// How far the comparison is. What is not kept by ranges is named as [`Report::print`] names it.
fn standing(left: &BTreeSet<u16>) -> String {
    let settings_differ = left.contains(&GLOBALS);
    let equal = usize::from(GLOBALS) + usize::from(settings_differ) - left.len();
    let settings = if settings_differ { "not yet" } else { "too" };
    format!("{equal} of {GLOBALS} ranges are equal, settings {settings}")
}

/// Keys that are not the same on all nodes, sorted by whether that is for good.
#[derive(Default)]
struct Judged {
    differing: Vec<Key>,
    changing: Vec<Key>,
}

fn judge(before: &[Digests], now: &[Digests]) -> Judged {
    let mut judged = Judged::default();
    let keys: BTreeSet<&Key> = now.iter().flat_map(BTreeMap::keys).collect();
    for key in keys {
        let at = |views: &[Digests]| -> Vec<Option<i64>> {
            views.iter().map(|digests| digests.get(key).copied()).collect()
        };
        let held = at(now);
        if held.iter().all(|digest| *digest == held[0]) {
            continue;
        }
        let list = if held == at(before) { &mut judged.differing } else { &mut judged.changing };
        list.push(key.clone());
    }
    judged
}

fn token(answer: &Answer) -> io::Result<Vector> {
    Vector::parse(&text(answer)?).ok_or_else(unexpected)
}

fn digests_of(client: &mut Client, range: &str) -> io::Result<Digests> {
    let mut digests = Digests::new();
    let mut cursor = "0".to_owned();
    loop {
        let answer = client.ask(&["MELD", "CHECK", "KEYS", range, &cursor])?;
        let [next, keys] = items(&answer)? else { return Err(unexpected()) };
        for triple in items(keys)?.chunks_exact(3) {
            let key = bytes(&triple[1]).ok_or_else(unexpected)?;
            digests.insert((int(&triple[0])?, key.to_vec()), int(&triple[2])?);
        }
        cursor = text(next)?;
        if cursor == "0" {
            return Ok(digests);
        }
    }
}

fn held_of(answer: &Answer) -> io::Result<Held> {
    if matches!(answer, Answer::Null) {
        return Ok(Held { r#type: None, expires_at: None, registers: Vec::new() });
    }
    let registers = items(field(answer, "registers")?)?.iter().map(register_of);
    Ok(Held {
        r#type: bytes(field(answer, "type")?).map(|name| String::from_utf8_lossy(name).into_owned()),
        expires_at: Some(int(field(answer, "expires_at")?)?).filter(|at_ms| *at_ms >= 0),
        registers: registers.collect::<io::Result<_>>()?,
    })
}

fn register_of(answer: &Answer) -> io::Result<Register> {
    let [element, kind, stamp, value] = items(answer)? else { return Err(unexpected()) };
    let stamp = text(stamp)?;
    let (time, origin) = stamp.split_once('/').ok_or_else(unexpected)?;
    let time = NTP64(time.parse().map_err(io::Error::other)?);
    Ok(Register {
        element: bytes(element).map(Written::from),
        kind: text(kind)?,
        value: bytes(value).map(Written::from),
        origin: origin.to_owned(),
        time: date(unix_ms_from_ntp(time)),
        stamp,
    })
}

impl From<&[u8]> for Written {
    fn from(bytes: &[u8]) -> Self {
        Written(bytes.to_vec())
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&quoted(&self.0))
    }
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.collect_map([("hex", hex)])
    }
}

impl Report {
    fn print(&self) {
        for difference in &self.differing {
            println!("db{} {} differs:", difference.db, difference.key);
            for (node, held) in &difference.held {
                let expiry = held.expires_at.map(|at_ms| format!(", expires {}", date(at_ms as u64)));
                println!(
                    "  {node}: {}{}",
                    held.r#type.as_deref().unwrap_or("nothing"),
                    expiry.unwrap_or_default()
                );
                held.registers.iter().take(REGISTERS_SHOWN).for_each(|register| println!("    {register}"));
                if held.registers.len() > REGISTERS_SHOWN {
                    println!("    ... {} more", held.registers.len() - REGISTERS_SHOWN);
                }
            }
        }
        let hidden = self.differing_keys - self.differing.len();
        if hidden > 0 {
            println!("... and {hidden} more keys differ (--show)");
        }
        for Busy { db, key } in &self.busy {
            println!("db{db} {key} changed whenever it was looked at: neither equal nor different is proven");
        }
        if self.settings_differ {
            println!(
                "Settings differ: swapped databases or cluster-wide registers (allowlist, owner, forgotten nodes)"
            );
        }
        for node in &self.behind {
            println!("{node} has not merged what other nodes have: see state in its INFO convergence");
        }
        let nodes = self.nodes.join(", ");
        if self.equal {
            println!("Equal: {} ranges and settings on {nodes}, in {:.2} s", self.ranges, self.seconds);
        } else {
            let (differ, busy) = (self.differing_keys, self.busy.len());
            println!(
                "NOT proven equal: {differ} keys differ, {busy} busy, on {nodes}, in {:.2} s",
                self.seconds
            );
        }
    }
}

impl std::fmt::Display for Register {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind)?;
        self.element.iter().try_for_each(|element| write!(f, " {element}"))?;
        self.value.iter().try_for_each(|value| write!(f, " = {value}"))?;
        write!(f, "  by {} at {} ({})", self.origin, self.time, self.stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_the_ranges_that_the_result_counts() {
        let told = |left: &[u16]| standing(&left.iter().copied().collect());
        assert_eq!(told(&[]), "1024 of 1024 ranges are equal, settings too");
        assert_eq!(told(&[7]), "1023 of 1024 ranges are equal, settings too");
        assert_eq!(told(&[7, GLOBALS]), "1023 of 1024 ranges are equal, settings not yet");
    }
}
