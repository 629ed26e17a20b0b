//! Numbers: a base that was set, and per origin the sum of what it added since.
//!
//! Problem: every amount must count, a SET kills what was added before it, and neither delivery twice nor a
//! snapshot may count an amount twice. Sending amounts fails the second; one shared total fails the first.
//! So each origin has a register of its own, holding its sum since the base it knew; a repeat carries the same
//! version and changes nothing.
//!
//! When a base arrives that is stamped in the middle of an origin's sum, only that origin can say what came
//! after: it keeps its recent amounts one by one, splits the sum and asserts it anew ([`Sums::rebase`] returns
//! true). Until that arrives the other nodes count the whole sum; of an origin that no longer lives they
//! count it for good, alike everywhere.
//!
//! Floats are added in the order of origins, so all nodes agree to the last bit.

use super::delta::{Added, Amount};
use super::digest;
use super::entry::Merged;
use super::text::Text;
use crate::clock::{NTP64, Origin, Stamp};
use crate::number;
use crate::number::long_double::LongDouble;

/// Most single amounts kept for splitting; beyond it the oldest become one, stamped as the newer of the two.
pub const RECENT_MAX: usize = 4096;

#[derive(Clone, Debug)]
struct Sum {
    added: Added,
    /// Own amounts, oldest first, that an outstanding base could still split. Empty for other origins.
    recent: Vec<(NTP64, Amount)>,
}

/// The registers of one number, sorted by origin.
#[derive(Clone, Debug, Default)]
pub struct Sums(Vec<Sum>);

impl Sums {
    /// Whether nothing was added since the base.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The registers.
    pub fn iter(&self) -> impl Iterator<Item = &Added> {
        self.0.iter().map(|sum| &sum.added)
    }

    /// Whether an origin has added something.
    pub fn has(&self, origin: Origin) -> bool {
        self.iter().any(|added| added.origin == origin)
    }

    /// Drops an origin's register.
    pub fn forget(&mut self, origin: Origin) {
        self.0.retain(|sum| sum.added.origin != origin);
    }

    /// The newest stamp in them.
    pub fn stamp(&self) -> Stamp {
        self.iter().map(Added::stamp).max().unwrap_or(Stamp::NEVER)
    }

    /// Their terms in the digest of an element.
    pub fn term(&self, element: u64) -> u64 {
        self.iter().fold(0, |acc, added| acc.wrapping_add(digest::sum_term(element, added)))
    }

    /// Adopts another version of an origin's register unless the one held is newer or `base` kills it.
    pub fn merge(&mut self, added: Added, base: Stamp) -> bool {
        if added.stamp() <= base {
            return false;
        }
        match self.0.binary_search_by_key(&added.origin, |sum| sum.added.origin) {
            Ok(at) => {
                let held = &mut self.0[at];
                if !added.replaces(&held.added) {
                    return false;
                }
                held.added = added;
            }
            Err(at) => self.0.insert(at, Sum { added, recent: Vec::new() }),
        }
        true
    }

    /// The register of `stamp.origin` after it adds `amount` at `stamp`, to be merged like any other delta.
    /// `None` when the two amounts cannot be added.
    pub fn after_adding(&self, amount: Amount, stamp: Stamp, base: Stamp) -> Option<Added> {
        let held = self.iter().find(|added| added.origin == stamp.origin);
        let (since, amount) = match held {
            Some(held) => (held.since.max(base), plus(held.amount, amount)?),
            None => (base, amount),
        };
        Some(Added { origin: stamp.origin, last: stamp.time, since, amount })
    }

    /// Remembers one own amount for splitting, forgetting those at or below `stable`.
    pub fn remember(&mut self, origin: Origin, time: NTP64, amount: Amount, stable: NTP64) {
        let Some(sum) = self.0.iter_mut().find(|sum| sum.added.origin == origin) else { return };
        let recent = &mut sum.recent;
        if recent.len() >= 64 && recent.len().is_power_of_two() || recent.len() >= RECENT_MAX {
            let settled = recent.partition_point(|(time, _)| *time <= stable);
            recent.drain(..settled);
        }
        if recent.len() >= RECENT_MAX {
            halve(recent);
        }
        recent.push((time, amount));
    }

    /// Takes a new base: drops the sums it kills and splits the own one. True if `own`'s register changed but
    /// lives, so that it must be asserted anew.
    pub fn rebase(&mut self, base: Stamp, own: Origin) -> bool {
        self.0.retain(|sum| sum.added.stamp() > base);
        let Some(sum) = self.0.iter_mut().find(|sum| sum.added.origin == own) else { return false };
        if sum.added.since >= base {
            return false;
        }
        let before = sum.recent.partition_point(|(time, _)| Stamp::new(*time, own) <= base);
        sum.recent.drain(..before);
        let kept = sum.recent.iter().try_fold(None, |total: Option<Amount>, (_, amount)| match total {
            Some(total) => plus(total, *amount).map(Some),
            None => Some(Some(*amount)),
        });
        if let Some(Some(amount)) = kept {
            sum.added.amount = amount;
        }
        sum.added.since = base;
        true
    }
}

/// Merges neighbours pairwise, each pair stamped as its newer half.
fn halve(recent: &mut Vec<(NTP64, Amount)>) {
    let halved = recent
        .chunks(2)
        .flat_map(|pair| match pair {
            [(_, a), (time, b)] => match plus(*a, *b) {
                Some(sum) => vec![(*time, sum)],
                None => pair.to_vec(),
            },
            _ => pair.to_vec(),
        })
        .collect();
    *recent = halved;
}

/// The sum of two amounts; an integer joins a float. `None` if a score meets another kind.
fn plus(a: Amount, b: Amount) -> Option<Amount> {
    Some(match (a, b) {
        (Amount::Int(a), Amount::Int(b)) => Amount::Int(a.saturating_add(b)),
        (Amount::Float(a), Amount::Float(b)) => Amount::Float(a + b),
        (Amount::Float(x), Amount::Int(n)) | (Amount::Int(n), Amount::Float(x)) => {
            Amount::Float(x + LongDouble::from_i64(clamp(n)))
        }
        (Amount::Score(a), Amount::Score(b)) => Amount::Score(a + b),
        (Amount::Score(_), _) | (_, Amount::Score(_)) => return None,
    })
}

fn clamp(n: i128) -> i64 {
    n.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// A string or hash field that is counted with: base, sums, and the text they make.
#[derive(Clone, Debug, Default)]
pub struct TextCounter {
    base: Option<(Stamp, Text)>,
    sums: Sums,
    /// What a reader sees. Empty and meaningless while the counter is dead.
    text: Box<[u8]>,
}

impl TextCounter {
    /// A value that was set and never added to.
    pub fn set(stamp: Stamp, value: Text) -> Self {
        TextCounter { text: value.bytes().into(), base: Some((stamp, value)), sums: Sums::default() }
    }

    /// What a reader sees.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether a value was set or an amount added since the last clear.
    pub fn is_alive(&self) -> bool {
        self.base.is_some() || !self.sums.is_empty()
    }

    /// The base and when it was set.
    pub fn base(&self) -> Option<(Stamp, &[u8])> {
        self.base.as_ref().map(|(stamp, value)| (*stamp, value.bytes()))
    }

    /// The sums since the base.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The newest stamp in it.
    pub fn stamp(&self) -> Stamp {
        self.base.as_ref().map_or(Stamp::NEVER, |(stamp, _)| *stamp).max(self.sums.stamp())
    }

    /// Gives up the parts of a value without sums.
    pub fn into_base(self) -> Option<(Stamp, Text)> {
        self.base
    }

    fn floor(&self, clear: Stamp) -> Stamp {
        self.base.as_ref().map_or(clear, |(stamp, _)| clear.max(*stamp))
    }

    /// Sets a base at `stamp`, which must not be below `clear`.
    pub fn merge_base(&mut self, value: &[u8], stamp: Stamp, own: Origin) -> Merged {
        let merged = match &mut self.base {
            Some((held, _)) if *held > stamp => return Merged::NOTHING,
            Some((held, text)) if *held == stamp => Merged::tied(text.raise(value)),
            base => {
                *base = Some((stamp, Text::new(value)));
                Merged { reassert: self.sums.rebase(stamp, own), ..Merged::CHANGED }
            }
        };
        self.refresh();
        merged
    }

    /// Adopts an origin's sum.
    pub fn merge_sum(&mut self, added: Added, clear: Stamp) -> bool {
        let changed = self.sums.merge(added, self.floor(clear));
        if changed {
            self.refresh();
        }
        changed
    }

    /// Kills what is stamped before `clear`. Returns whether the own sum must be asserted anew.
    pub fn clear(&mut self, clear: Stamp, own: Origin) -> bool {
        if self.base.as_ref().is_some_and(|(stamp, _)| *stamp < clear) {
            self.base = None;
        }
        let split = self.sums.rebase(self.floor(clear), own);
        self.refresh();
        split
    }

    /// Drops an origin's register, or the base.
    pub fn forget(&mut self, origin: Option<Origin>) {
        match origin {
            Some(origin) => self.sums.forget(origin),
            None => self.base = None,
        }
        self.refresh();
    }

    /// See [`Sums::after_adding`].
    pub fn after_adding(&self, amount: Amount, stamp: Stamp, clear: Stamp) -> Option<Added> {
        self.sums.after_adding(amount, stamp, self.floor(clear))
    }

    /// See [`Sums::remember`].
    pub fn remember(&mut self, origin: Origin, time: NTP64, amount: Amount, stable: NTP64) {
        self.sums.remember(origin, time, amount, stable);
    }

    /// The term of this value in the digest of its key.
    pub fn term(&self, element: u64) -> u64 {
        let base =
            self.base.as_ref().map_or(0, |(stamp, value)| digest::term(element, *stamp, value.hash().into()));
        base.wrapping_add(self.sums.term(element))
    }

    fn refresh(&mut self) {
        let mut text = Vec::new();
        self.write(&mut text);
        self.text = text.into();
    }

    /// Base plus sums: an integer while all of them are. Amounts added to a base that is no number, as by INCR where
    /// another node had set a text, have no effect.
    fn write(&self, out: &mut Vec<u8>) {
        let base = self.base.as_ref().map_or(&b"0"[..], |(_, value)| value.bytes());
        let floats = self.sums.iter().any(|added| matches!(added.amount, Amount::Float(_)));
        if let Some(base) = number::parse_i64(base).filter(|_| !floats) {
            let total = self.sums.iter().fold(i128::from(base), |total, added| match added.amount {
                Amount::Int(n) => total.saturating_add(n),
                Amount::Float(_) | Amount::Score(_) => total,
            });
            out.extend_from_slice(itoa::Buffer::new().format(clamp(total)).as_bytes());
        } else if let Some(base) = LongDouble::parse(base).filter(|_| !self.sums.is_empty()) {
            let total = self.sums.iter().fold(base, |total, added| match added.amount {
                Amount::Float(x) => total + x,
                Amount::Int(n) => total + LongDouble::from_i64(clamp(n)),
                Amount::Score(_) => total,
            });
            total.write(out);
        } else {
            out.extend_from_slice(base);
        }
    }
}

/// A score that is counted with: base, sums, and their total.
#[derive(Clone, Debug)]
pub struct Score {
    base: Option<(Stamp, f64)>,
    /// Boxed: most scores are only ever set.
    sums: Option<Box<Sums>>,
    total: f64,
}

impl Score {
    /// A score with neither base nor sums.
    pub fn dead() -> Self {
        Score { base: None, sums: None, total: 0.0 }
    }

    /// What a reader sees.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Whether a score was set or an amount added since the last clear.
    pub fn is_alive(&self) -> bool {
        self.base.is_some() || self.sums.is_some()
    }

    /// The base and when it was set.
    pub fn base(&self) -> Option<(Stamp, f64)> {
        self.base
    }

    /// The sums since the base.
    pub fn sums(&self) -> impl Iterator<Item = &Added> {
        self.sums.iter().flat_map(|sums| sums.iter())
    }

    /// The newest stamp in it.
    pub fn stamp(&self) -> Stamp {
        let sums = self.sums.as_ref().map_or(Stamp::NEVER, |sums| sums.stamp());
        self.base.map_or(Stamp::NEVER, |(stamp, _)| stamp).max(sums)
    }

    fn floor(&self, clear: Stamp) -> Stamp {
        self.base.map_or(clear, |(stamp, _)| clear.max(stamp))
    }

    /// See [`TextCounter::merge_base`].
    pub fn merge_base(&mut self, score: f64, stamp: Stamp, own: Origin) -> Merged {
        let outranks =
            |(held, base): (Stamp, f64)| stamp.cmp(&held).then_with(|| score.total_cmp(&base)).is_gt();
        if !self.base.is_none_or(outranks) {
            return Merged::NOTHING;
        }
        let tied = self.base.is_some_and(|(held, _)| held == stamp);
        self.base = Some((stamp, score));
        Merged { changed: true, tied, reassert: self.rebase(stamp, own), ..Merged::NOTHING }
    }

    /// See [`TextCounter::merge_sum`].
    pub fn merge_sum(&mut self, added: Added, clear: Stamp) -> bool {
        let floor = self.floor(clear);
        let sums = self.sums.get_or_insert_default();
        let changed = sums.merge(added, floor);
        self.refresh();
        changed
    }

    /// See [`TextCounter::clear`].
    pub fn clear(&mut self, clear: Stamp, own: Origin) -> bool {
        if self.base.is_some_and(|(stamp, _)| stamp < clear) {
            self.base = None;
        }
        let floor = self.floor(clear);
        self.rebase(floor, own)
    }

    /// See [`TextCounter::forget`].
    pub fn forget(&mut self, origin: Option<Origin>) {
        match (origin, &mut self.sums) {
            (Some(origin), Some(sums)) => sums.forget(origin),
            (Some(_), None) => {}
            (None, _) => self.base = None,
        }
        self.refresh();
    }

    /// See [`Sums::after_adding`].
    pub fn after_adding(&self, amount: Amount, stamp: Stamp, clear: Stamp) -> Option<Added> {
        match &self.sums {
            Some(sums) => sums.after_adding(amount, stamp, self.floor(clear)),
            None => Sums::default().after_adding(amount, stamp, self.floor(clear)),
        }
    }

    /// See [`Sums::remember`].
    pub fn remember(&mut self, origin: Origin, time: NTP64, amount: Amount, stable: NTP64) {
        if let Some(sums) = &mut self.sums {
            sums.remember(origin, time, amount, stable);
        }
    }

    /// The term of this score in the digest of its key.
    pub fn term(&self, element: u64) -> u64 {
        let base = self.base.map_or(0, |(stamp, score)| digest::term(element, stamp, score.to_bits()));
        base.wrapping_add(self.sums.as_ref().map_or(0, |sums| sums.term(element)))
    }

    fn rebase(&mut self, base: Stamp, own: Origin) -> bool {
        let split = self.sums.as_mut().is_some_and(|sums| sums.rebase(base, own));
        self.refresh();
        split
    }

    fn refresh(&mut self) {
        if self.sums.as_ref().is_some_and(|sums| sums.is_empty()) {
            self.sums = None;
        }
        let base = self.base.map_or(0.0, |(_, score)| score);
        let total = self.sums().fold(base, |total, added| match added.amount {
            Amount::Score(x) => total + x,
            Amount::Int(_) | Amount::Float(_) => total,
        });
        // Infinities of both signs, added on two nodes at once.
        self.total = if total.is_nan() { 0.0 } else { total };
    }
}
