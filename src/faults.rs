//! Bugs that tests plant, to prove that the simulator would find them. Never set outside of tests.

use bitflags::bitflags;

bitflags! {
    /// Which bugs are planted: one or more for each way in which systems like this one went wrong.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Faults: u32 {
        /// A peer's write is stamped by the clock of who receives it.
        const RECEIVER_STAMPS = 1;
        /// Of two writes at the same time the one that arrives last wins.
        const TIES = 1 << 1;
        /// A giver's vector is adopted with the first piece of a pull.
        const EARLY_VECTOR = 1 << 2;
        /// The first batches of a node's new life are taken for repeats of the life before.
        const LIVES_AS_ONE = 1 << 3;
        /// Tombstones are dropped though an older write may still arrive.
        const EARLY_COLLECTION = 1 << 4;
        /// DEL of a key that is not there leaves a tombstone.
        const ABSENT_REMOVAL = 1 << 5;
        /// Digests leave out when keys expire.
        const BLIND_DIGEST = 1 << 6;
        /// A member that is away for ever holds tombstones for ever.
        const PINNED = 1 << 7;
        /// What an expiry has killed is deleted as of now, not as of its instant.
        const EXPIRY_AS_DELETION = 1 << 8;
        /// Each node counts a key's time to live from when it hears of it.
        const RELATIVE_EXPIRY = 1 << 9;
        /// A watermark claims stamps that are yet to be issued.
        const BOLD_PROMISE = 1 << 10;
        /// A promise is believed though batches before it are missing.
        const HEARSAY = 1 << 11;
        /// A range is merged as if its giver had known all that came here while it was pulled.
        const LATE_VECTOR = 1 << 12;
        /// Batches that came before are merged again, and add their sums again.
        const REPEATS = 1 << 13;
        /// A node that has forgotten its sums goes on counting in the same registers.
        const FORGOTTEN_SUMS = 1 << 14;
        /// A node whose sum a late SET has split does not tell what is left of it.
        const SILENT_SPLIT = 1 << 15;
        /// A peer's flush clears what is held, but is not remembered.
        const FORGOTTEN_FLUSH = 1 << 16;
        /// Of a batch that comes just before its link breaks one half is merged.
        const TORN_BATCH = 1 << 17;
        /// A node that restarts has forgotten the other members.
        const FORGOTTEN_MEMBERS = 1 << 18;
        /// A node that is told to follow a primary keeps what it held.
        const KEPT_DATA = 1 << 19;
        /// What tells of an expiry is stamped in the past, and collected at once.
        const EARLY_RELEASE = 1 << 20;
        /// What peers write while ranges are pulled is not noted for the journal: the pull's vector is to tell of it.
        const SHORT_JOURNAL = 1 << 21;
        /// A snapshot is said to be whole before the journal has all that its pieces hold.
        const EARLY_SNAPSHOT = 1 << 22;
        /// A peer's write is noted for the journal before what it makes this node say.
        const LATE_RETELLING = 1 << 23;
        /// A node that is read back from disk goes on in its last life, counting on from what its disk has kept.
        const REUSED_LIFE = 1 << 24;
        /// Tombstones go while a snapshot is read.
        const LOOSE_SNAPSHOT = 1 << 25;
        /// The journal does not tell that data was dropped for a primary.
        const FORGOTTEN_DROP = 1 << 26;
    }
}
