//! Keyspace notifications: which events are published, and their names.
//!
//! Reference: <https://redis.io/docs/latest/develop/use/keyspace-notifications/>.

use bitflags::bitflags;

bitflags! {
    /// The letters of `notify-keyspace-events`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct EventClass: u32 {
        /// `K`: published under `__keyspace@<db>__:<key>`.
        const KEYSPACE = 1;
        /// `E`: published under `__keyevent@<db>__:<event>`.
        const KEYEVENT = 1 << 1;
        /// `g`: DEL, EXPIRE, RENAME...
        const GENERIC = 1 << 2;
        /// `$`.
        const STRING = 1 << 3;
        /// `l`.
        const LIST = 1 << 4;
        /// `s`.
        const SET = 1 << 5;
        /// `h`.
        const HASH = 1 << 6;
        /// `z`.
        const ZSET = 1 << 7;
        /// `x`: a key expired.
        const EXPIRED = 1 << 8;
        /// `e`: a key was evicted.
        const EVICTED = 1 << 9;
        /// `t`.
        const STREAM = 1 << 10;
        /// `m`: a key was read that does not exist. Not part of `A`.
        const KEY_MISS = 1 << 11;
        /// `d`.
        const MODULE = 1 << 12;
        /// `n`: a new key. Not part of `A`.
        const NEW = 1 << 13;
    }
}

impl EventClass {
    const LETTERS: [(char, EventClass); 14] = [
        ('K', EventClass::KEYSPACE),
        ('E', EventClass::KEYEVENT),
        ('g', EventClass::GENERIC),
        ('$', EventClass::STRING),
        ('l', EventClass::LIST),
        ('s', EventClass::SET),
        ('h', EventClass::HASH),
        ('z', EventClass::ZSET),
        ('x', EventClass::EXPIRED),
        ('e', EventClass::EVICTED),
        ('t', EventClass::STREAM),
        ('m', EventClass::KEY_MISS),
        ('d', EventClass::MODULE),
        ('n', EventClass::NEW),
    ];

    /// What the letter `A` stands for.
    pub const ALL: EventClass = EventClass::GENERIC
        .union(EventClass::STRING)
        .union(EventClass::LIST)
        .union(EventClass::SET)
        .union(EventClass::HASH)
        .union(EventClass::ZSET)
        .union(EventClass::EXPIRED)
        .union(EventClass::EVICTED)
        .union(EventClass::STREAM)
        .union(EventClass::MODULE);

    /// Reads the letters; `None` if one is unknown.
    pub fn parse(letters: &str) -> Option<Self> {
        letters.chars().try_fold(EventClass::empty(), |classes, letter| {
            if letter == 'A' {
                return Some(classes | Self::ALL);
            }
            Self::LETTERS.iter().find(|(held, _)| *held == letter).map(|(_, class)| classes | *class)
        })
    }
}

/// An event on its way to subscribers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its class.
    pub class: EventClass,
    /// Its name.
    pub event: &'static str,
    /// The database it happened in.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
}
