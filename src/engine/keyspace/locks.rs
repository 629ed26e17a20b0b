//! The ranges a command holds: taken in rising order, so that no two threads wait for each other.

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use crate::engine::Engine;
use crate::engine::cell::Cell;
use crate::store::shard::RANGES;

/// The ranges a command holds, in rising order.
pub enum Locks<'e> {
    /// None: the command has no keys.
    None,
    /// One.
    One(usize, MutexGuard<'e, Cell>),
    /// Several.
    Many(SmallVec<[(usize, MutexGuard<'e, Cell>); 4]>),
    /// All.
    All(Vec<MutexGuard<'e, Cell>>),
}

impl<'e> Locks<'e> {
    /// Locks the ranges given, in rising order whatever their order here.
    pub fn of(engine: &'e Engine, ranges: &mut SmallVec<[usize; 8]>) -> Self {
        match ranges.as_slice() {
            [] => Locks::None,
            [range] => Locks::One(*range, engine.cell(*range).lock()),
            _ => {
                ranges.sort_unstable();
                ranges.dedup();
                if ranges.len() == RANGES {
                    return Self::all(engine);
                }
                Locks::Many(ranges.iter().map(|range| (*range, engine.cell(*range).lock())).collect())
            }
        }
    }

    /// Locks the whole keyspace.
    pub fn all(engine: &'e Engine) -> Self {
        Locks::All((0..RANGES).map(|range| engine.cell(range).lock()).collect())
    }

    /// Whether a range held is one that [`Waiting::is_served`].
    ///
    /// [`Waiting::is_served`]: crate::engine::blocking::Waiting::is_served
    pub fn any_is_served(&self) -> bool {
        match self {
            Locks::None => false,
            Locks::One(_, cell) => cell.waiting.is_served(),
            Locks::Many(cells) => cells.iter().any(|(_, cell)| cell.waiting.is_served()),
            Locks::All(cells) => cells.iter().any(|cell| cell.waiting.is_served()),
        }
    }

    pub(super) fn cell(&self, range: usize) -> &Cell {
        match self {
            Locks::One(held, cell) if *held == range => cell,
            Locks::Many(cells) => match cells.binary_search_by_key(&range, |(held, _)| *held) {
                Ok(at) => &cells[at].1,
                Err(_) => not_locked(range),
            },
            Locks::All(cells) => &cells[range],
            Locks::None | Locks::One(..) => not_locked(range),
        }
    }

    pub(super) fn cell_mut(&mut self, range: usize) -> &mut Cell {
        match self {
            Locks::One(held, cell) if *held == range => cell,
            Locks::Many(cells) => match cells.binary_search_by_key(&range, |(held, _)| *held) {
                Ok(at) => &mut cells[at].1,
                Err(_) => not_locked(range),
            },
            Locks::All(cells) => &mut cells[range],
            Locks::None | Locks::One(..) => not_locked(range),
        }
    }
}

fn not_locked(range: usize) -> ! {
    panic!("range {range} is not locked: the command's table entry does not name all its keys")
}
