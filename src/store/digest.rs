//! Hashes of what a node holds: each register is one term, a range's digest is the sum of its terms.
//!
//! Sums make the digest independent of order and cheap to update as writes happen: subtract the old term, add
//! the new one. A stamp stands for the bytes written under it, because no two writes share one.
//! Tombstones and other registers that are invisible have no term: nodes collect them at different times. A key past its
//! expiry keeps its terms until it is cleared: what a node's clock says about it is no difference.

use xxhash_rust::xxh3::xxh3_64;

use super::delta::{Added, Amount, Pos};
use crate::clock::Stamp;

/// The unkeyed hash of a key or an element, the same on every node.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Mixes two words into one; not symmetric.
pub fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b ^ 0xD1B5_4A32_D192_ED03);
    (product as u64) ^ ((product >> 64) as u64) ^ a.rotate_left(29)
}

/// The term of a register written at `stamp`.
pub fn term(element: u64, stamp: Stamp) -> u64 {
    mix(mix(element, stamp.time.0), stamp.origin.as_u64())
}

/// The term of an origin's sum.
pub fn sum_term(element: u64, added: &Added) -> u64 {
    let amount = match added.amount {
        Amount::Int(n) => mix(n as u64, (n >> 64) as u64),
        Amount::Float(x) => hash(&x.to_bytes()),
        Amount::Score(x) => x.to_bits(),
    };
    mix(term(element, added.stamp()), amount)
}

/// The hash of a list item's identity.
pub fn pos_hash(pos: &Pos) -> u64 {
    let last = pos.last();
    mix(term(u64::from(last.index), last.stamp), pos.depth() as u64)
}
