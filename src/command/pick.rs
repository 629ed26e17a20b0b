//! Random picks from a collection whose elements can be asked for by their place.

use ahash::RandomState;
use hashbrown::HashMap;

use crate::engine::error::Error;
use crate::number;
use crate::resp::reply::Reply;

/// Most bytes of a reply that repeats elements as often as the client says.
const REPLY_BYTES_MAX: usize = if cfg!(test) { 1 << 20 } else { 512 << 20 };

/// Reads how many elements are wanted; below zero: as many picks, repeats allowed.
///
/// # Errors
/// Not an integer, or the one integer that has no magnitude.
pub fn count(arg: &[u8]) -> Result<i64, Error> {
    match number::parse_i64(arg) {
        None => Err(Error::NOT_INTEGER),
        Some(i64::MIN) => {
            Err(format!("ERR value is out of range, value must between {} and {}", -i64::MAX, i64::MAX)
                .into())
        }
        Some(count) => Ok(count),
    }
}

/// A place below `len`, which is not 0, from random bits.
pub fn place(draw: u64, len: usize) -> usize {
    ((u128::from(draw) * len as u128) >> 64) as usize
}

/// `count` different places below `len`: all in order if there are no more, else in random order. O(count).
pub fn places(len: usize, count: usize, mut draw: impl FnMut() -> u64) -> Vec<usize> {
    if count >= len {
        return (0..len).collect();
    }
    // A shuffle of 0..len that stops after `count` steps and notes only what it has moved. The seeds may be known:
    // nobody chooses the places.
    let mut moved = HashMap::with_capacity_and_hasher(count, RandomState::with_seeds(1, 2, 3, 4));
    let mut step = |at: usize| {
        let pick = at + place(draw(), len - at);
        let here = moved.get(&at).copied().unwrap_or(at);
        moved.insert(pick, here).unwrap_or(pick)
    };
    (0..count).map(&mut step).collect()
}

/// Stops a reply that grows beyond all measure.
///
/// Redis goes on until memory ends; here the client gets an error.
///
/// # Errors
/// The reply is longer than 512 MiB.
pub fn check_size(reply: &Reply<'_>) -> Result<(), Error> {
    if reply.len() > REPLY_BYTES_MAX {
        return Err(Error::new("ERR value is out of range, the reply would exceed 512 MB"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(mut seed: u64) -> impl FnMut() -> u64 {
        move || {
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            crate::store::digest::mix(seed, seed.rotate_left(32))
        }
    }

    #[test]
    fn places_differ_and_are_in_range() {
        for len in 0..20 {
            for count in 0..22 {
                let mut picked = places(len, count, draws(len as u64 * 100 + count as u64));
                assert_eq!(picked.len(), count.min(len));
                picked.sort_unstable();
                picked.dedup();
                assert_eq!(picked.len(), count.min(len), "all different");
                assert!(picked.iter().all(|place| *place < len));
            }
        }
        assert_eq!((place(0, 7), place(u64::MAX, 7)), (0, 6));
    }

    #[test]
    fn every_place_is_as_likely() {
        const ROUNDS: u32 = 6000;
        let mut draw = draws(1);
        let mut seen = [0_u32; 10];
        for _ in 0..ROUNDS {
            places(10, 3, &mut draw).into_iter().for_each(|place| seen[place] += 1);
        }
        let expected = ROUNDS * 3 / 10;
        assert!(seen.iter().all(|times| times.abs_diff(expected) < expected / 8), "{seen:?}");
    }
}
