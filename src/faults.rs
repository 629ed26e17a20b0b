//! Bugs that tests plant, to prove that the simulator would find them. Never set outside of tests.

use bitflags::bitflags;

bitflags! {
    /// Which bugs are planted.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Faults: u8 {
        /// Of two writes at the same time the one that arrives last wins.
        const TIES = 1;
        /// Tombstones are dropped though an older write may still arrive.
        const EARLY_COLLECTION = 1 << 1;
        /// A giver's vector is adopted with the first piece of a pull.
        const EARLY_VECTOR = 1 << 2;
        /// Each node counts a key's time to live from when it hears of it.
        const RELATIVE_EXPIRY = 1 << 3;
        /// Batches that came before are merged again, and add their sums again.
        const REPEATS = 1 << 4;
    }
}
