//! What a command is: one table entry from which everything about it derives.
//!
//! An entry holds arity, flags, key positions and the function. From it come arity checks, which ranges to lock, ACL
//! categories, COMMAND INFO, DOCS and GETKEYS, and whether a replica, a transaction or a subscriber may run it.
//! Reference: <https://redis.io/docs/latest/reference/key-specs/>.

use bitflags::bitflags;

use super::call::Call;
use super::error::Error;
use crate::resp::args::Args;

/// The function of a command. It writes its reply, or returns the error to be written instead.
pub type Run = for<'a, 'e> fn(&mut Call<'a, 'e>) -> Result<(), Error>;

bitflags! {
    /// Properties of a command, with Redis's names.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags: u32 {
        /// May change data.
        const WRITE = 1;
        /// Only reads data.
        const READONLY = 1 << 1;
        /// May grow memory: refused when out of it.
        const DENYOOM = 1 << 2;
        /// For operators.
        const ADMIN = 1 << 3;
        /// Publishes or subscribes.
        const PUBSUB = 1 << 4;
        /// Not from scripts.
        const NOSCRIPT = 1 << 5;
        /// May wait.
        const BLOCKING = 1 << 6;
        /// While loading.
        const LOADING = 1 << 7;
        /// On a replica with stale data.
        const STALE = 1 << 8;
        /// Not shown to MONITOR.
        const SKIP_MONITOR = 1 << 9;
        /// Not in the slow log.
        const SKIP_SLOWLOG = 1 << 10;
        /// Constant or logarithmic time.
        const FAST = 1 << 11;
        /// Before authentication.
        const NO_AUTH = 1 << 12;
        /// May replicate though it is no write.
        const MAY_REPLICATE = 1 << 13;
        /// Not inside MULTI.
        const NO_MULTI = 1 << 14;
        /// Key positions cannot be told without the arguments.
        const MOVABLEKEYS = 1 << 15;
        /// While a script is busy.
        const ALLOW_BUSY = 1 << 16;
        /// Needs every range locked: it looks at the whole keyspace.
        const WHOLE_KEYSPACE = 1 << 17;
        /// Not awaited by CLIENT REPLY rules and RESP2 subscribers: allowed while subscribed.
        const SUBSCRIBED = 1 << 18;
        /// May be called with no keys though it takes some.
        const NO_MANDATORY_KEYS = 1 << 24;
        /// On the way to a link: allowed to a member's address that is not on the allowlist.
        const LINKING = 1 << 19;
        /// Looks at all ranges, by itself under one lock at a time, inside a transaction or script with all of them locked.
        const WALKS_KEYSPACE = 1 << 20;
        /// Refused unless the configuration allows it.
        const PROTECTED = 1 << 21;
        /// Not while data is loaded beside older data. It never is here.
        const NO_ASYNC_LOADING = 1 << 22;
    }
}

/// How a command treats the keys of a [`KeySpec`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access(pub &'static [&'static str]);

/// Where the keys of a command begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At this argument.
    Index(usize),
    /// Behind this word, searched from this argument (negative: from the end, backwards).
    Keyword(&'static str, i32),
    /// Cannot be told.
    Unknown,
}

/// Which keys follow from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Find {
    /// Up to `last` (relative; -1: the last argument), every `step`th; `limit` 2 stops halfway.
    Range {
        /// Last key, relative to the first; negative from the end.
        last: i32,
        /// Distance of keys.
        step: usize,
        /// Divides what is left; 0 and 1: all of it.
        limit: usize,
    },
    /// As many as the number at `at` says, from `first` on; both relative to where the keys begin.
    Count {
        /// Where the number stands.
        at: usize,
        /// Where the first key stands.
        first: usize,
        /// Distance of keys.
        step: usize,
    },
    /// Cannot be told.
    Unknown,
}

/// A run of keys among a command's arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeySpec {
    /// Remarks, as COMMAND INFO shows them.
    pub notes: &'static str,
    /// Flags, with Redis's names: RW, RO, OW, RM and access, update, insert, delete...
    pub flags: &'static [&'static str],
    /// Where they begin.
    pub begin: Begin,
    /// Which they are.
    pub find: Find,
}

/// The group a command is documented under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of COMMAND DOCS")]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Pubsub,
    Transactions,
    Connection,
    Server,
    Bitmap,
    Cluster,
    Meldis,
}

impl Group {
    /// Redis's name.
    pub fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::Pubsub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Meldis => "meldis",
        }
    }
}

/// One command or subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    /// Number of arguments, the name and a subcommand's name included; negative: at least so many.
    pub arity: i32,
    /// Properties.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// Categories beyond those that follow from flags (`write`, `read`, `fast`, ...).
    pub categories: &'static [&'static str],
    /// Command tips.
    pub tips: &'static [&'static str],
    /// The group it is documented under.
    pub group: Group,
    /// The Redis version that has it first.
    pub since: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Cost.
    pub complexity: &'static str,
    /// What it does. A command that only has subcommands answers an error itself.
    pub run: Run,
    /// Its subcommands.
    pub subcommands: &'static [Command],
}

impl Command {
    /// Whether `given` arguments are enough and not too many.
    pub fn takes(&self, given: usize) -> bool {
        if self.arity >= 0 {
            given == self.arity as usize
        } else {
            given >= self.arity.unsigned_abs() as usize
        }
    }

    /// Whether it may change data.
    pub fn is_write(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }

    /// Calls back with the index of each key among the arguments. `false` if the arguments do not say where keys are.
    pub fn each_key(&self, args: Args<'_>, mut each: impl FnMut(usize, &'static KeySpec)) -> bool {
        let mut complete = true;
        for spec in self.keys {
            complete &= spec.each_key(args, |index| each(index, spec));
        }
        complete
    }

    /// First key, last key and step as COMMAND INFO shows them: of one range, or of adjacent ranges as one.
    pub fn positions(&self) -> (i64, i64, i64) {
        let range = |spec: &KeySpec| match (spec.begin, spec.find) {
            (Begin::Index(first), Find::Range { last, step, .. }) => {
                let first = first as i64;
                Some((first, if last < 0 { last.into() } else { first + i64::from(last) }, step as i64))
            }
            _ => None,
        };
        // A last key counted from the end is behind all others.
        let farther = |a: i64, b: i64| if a < 0 || b < 0 { a.min(b) } else { a.max(b) };
        let join = |a: (i64, i64, i64), b: (i64, i64, i64)| (a.0.min(b.0), farther(a.1, b.1), a.2);
        self.keys.iter().filter_map(range).reduce(join).unwrap_or_default()
    }
}

impl KeySpec {
    /// Whether these arguments name keys; those of SPUBLISH and the like are only routed by slot.
    pub fn is_key(&self) -> bool {
        !self.flags.contains(&"not_key")
    }

    /// The first argument, read.
    pub const READ_1: KeySpec = KeySpec::at(1, &["RO", "access"]);
    /// The first argument, read and changed.
    pub const UPDATE_1: KeySpec = KeySpec::at(1, &["RW", "access", "update"]);
    /// The first argument, overwritten.
    pub const OVERWRITE_1: KeySpec = KeySpec::at(1, &["OW", "update"]);

    /// One key, at an argument.
    pub const fn at(index: usize, flags: &'static [&'static str]) -> Self {
        KeySpec {
            notes: "",
            flags,
            begin: Begin::Index(index),
            find: Find::Range { last: 0, step: 1, limit: 0 },
        }
    }

    /// Every `step`th argument from `index` to the last.
    pub const fn to_end(index: usize, step: usize, flags: &'static [&'static str]) -> Self {
        let find = Find::Range { last: -1, step, limit: 0 };
        KeySpec { notes: "", flags, begin: Begin::Index(index), find }
    }

    /// Every argument from `index` to the last but one.
    pub const fn all_but_last_from(index: usize, flags: &'static [&'static str]) -> Self {
        let find = Find::Range { last: -2, step: 1, limit: 0 };
        KeySpec { notes: "", flags, begin: Begin::Index(index), find }
    }

    /// As many keys as the number at an argument says, right behind it.
    pub const fn counted(index: usize, flags: &'static [&'static str]) -> Self {
        let find = Find::Count { at: 0, first: 1, step: 1 };
        KeySpec { notes: "", flags, begin: Begin::Index(index), find }
    }

    fn each_key(&self, args: Args<'_>, mut each: impl FnMut(usize)) -> bool {
        let Some(begin) = self.begin(args) else { return !matches!(self.begin, Begin::Index(_)) };
        match self.find {
            Find::Unknown => false,
            Find::Range { last: 0, .. } => {
                each(begin);
                true
            }
            Find::Range { last, step, limit } => {
                let end = if last >= 0 {
                    begin + last as usize
                } else if limit > 1 {
                    begin + (args.len() - begin) / limit - 1
                } else {
                    match args.len().checked_sub(last.unsigned_abs() as usize) {
                        Some(end) => end,
                        None => return false,
                    }
                };
                if end >= args.len() {
                    return false;
                }
                (begin..=end).step_by(step.max(1)).for_each(&mut each);
                true
            }
            Find::Count { at, first, step } => {
                let Some(count) = args.get(begin + at).and_then(crate::number::parse_i64) else {
                    return false;
                };
                let first = begin + first;
                let Ok(count) = usize::try_from(count) else { return false };
                if count == 0 || count > args.len() || first + (count - 1) * step.max(1) >= args.len() {
                    return false;
                }
                (0..count).for_each(|n| each(first + n * step.max(1)));
                true
            }
        }
    }

    fn begin(&self, args: Args<'_>) -> Option<usize> {
        match self.begin {
            Begin::Unknown => None,
            Begin::Index(index) => (index < args.len()).then_some(index),
            Begin::Keyword(word, from) => {
                let is_word = |index: &usize| args[*index].eq_ignore_ascii_case(word.as_bytes());
                let found = if from >= 0 {
                    (from as usize..args.len()).find(is_word)
                } else {
                    (1..=args.len().checked_sub(from.unsigned_abs() as usize)?).rev().find(is_word)
                };
                found.map(|index| index + 1).filter(|index| *index < args.len())
            }
        }
    }
}
