//! Hashes of what a node holds: each register is one term, a range's digest is the sum of its terms.
//!
//! A term says what is held and since when: key and element, stamp, and the value to its last bit, which is a score's
//! bits, an expiry's millisecond and type, or a sum and its base. So two nodes that hold different bytes under one
//! stamp, which only a fault can bring about, are seen to differ; and comparing them settles it, because of two values
//! under one stamp merge keeps the larger on every node.
//!
//! Sums make the digest independent of order and cheap to update as writes happen: subtract the old term, add
//! the new one. A string or a long value is hashed once, when it comes; a short one of an element once more when it goes
//! ([`super::text`]).
//!
//! Tombstones and other registers that are invisible have no term: nodes collect them at different times. A key past its
//! expiry keeps its terms until it is cleared: what a node's clock says about it is no difference.

use xxhash_rust::xxh3::xxh3_64;

use super::delta::{Added, Amount, Pos, Side};
use crate::clock::Stamp;

/// The unkeyed hash of a key or an element, the same on every node.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The hash of a value: 31 bits, so that an entry has room for it. Different bytes under one stamp look alike by a chance
/// of 2^-31.
pub fn value_hash(bytes: &[u8]) -> u32 {
    hash(bytes) as u32 >> 1
}

/// Mixes two words into one; not symmetric.
pub fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b ^ 0xD1B5_4A32_D192_ED03);
    (product as u64) ^ ((product >> 64) as u64) ^ a.rotate_left(29)
}

/// The term of a register written at `stamp`. `value` is the hash of what it holds, or that itself if it fits.
pub fn term(element: u64, stamp: Stamp, value: u64) -> u64 {
    mix(mix(element, value), stamp_hash(stamp))
}

fn stamp_hash(stamp: Stamp) -> u64 {
    mix(stamp.time.0, stamp.origin.as_u64())
}

/// The term of an origin's sum.
pub fn sum_term(element: u64, added: &Added) -> u64 {
    let amount = match added.amount {
        Amount::Int(n) => mix(n as u64, (n >> 64) as u64),
        Amount::Float(x) => hash(&x.to_bytes()),
        Amount::Score(x) => x.to_bits(),
    };
    term(element, added.stamp(), mix(amount, stamp_hash(added.since)))
}

/// The hash of a list item's identity and place. Takes as long as the place has steps.
pub fn pos_hash(pos: &Pos) -> u64 {
    pos.steps().fold(0, |above, step| {
        let side = match step.side {
            Side::After => 0,
            Side::Before => 1,
        };
        term(above, step.stamp, u64::from(step.index) << 1 | side)
    })
}
