//! The language of shapes, and how a shape becomes a command.
//!
//! A shape is text: `SET key val [NX|XX|GET|KEEPTTL|EX sec]`.
//!
//! | text | stands for |
//! |---|---|
//! | a word of [`WORDS`] | a random argument of that kind, see [`Filling::word`] |
//! | `UPPER`, `12`, `abc`, `'any thing'` | itself |
//! | `a\|b\|c` | one of them |
//! | `( )` | grouping |
//! | `[ ]` | there or not |
//! | `x+` | one to four times |
//! | `$2` | argument 2 of the first command of this shape |
//! | `a; b; c` | commands one after the other |
//! | `*` | as a command: a random one of the data groups |
//! | `@ a` | sent by a second client |
//! | leading `!` | never spoilt: chance, time or memory would make it unfair |
//!
//! Other commands are *spoilt* now and then: an argument dropped, doubled, replaced, swapped, or one too many.

use std::collections::BTreeSet;

use crate::compare::Compare;
use crate::harness::Random;

/// How often it is taken, how its replies are compared (that of its first command), its text.
pub(crate) type Shape = (u32, Compare, &'static str);

/// Shapes that belong together.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// The first letter of its keys: see [`POOLS`].
    pub(crate) pool: &'static str,
    /// What `*` may stand for.
    pub(crate) data: bool,
    /// Whether a command may answer with any number of frames.
    pub(crate) talks: bool,
    pub(crate) shapes: &'static [Shape],
}

/// The key pools: one per type, so that most commands meet a key of their type. Some go astray.
const POOLS: &[&str] = &["s", "b", "h", "l", "t", "z"];
const KEYS_PER_POOL: usize = 5;

/// Percent of keys taken from any pool.
const ASTRAY: usize = 10;

/// Percent of commands spoilt.
const SPOILT: usize = 7;

pub(crate) type Args = Vec<Vec<u8>>;

/// A command, and how to compare its replies.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) args: Args,
    pub(crate) compare: Compare,
}

impl Command {
    pub(crate) fn name(&self) -> String {
        self.args.first().map_or(String::new(), |name| String::from_utf8_lossy(name).to_ascii_uppercase())
    }
}

/// One thing to do with both servers.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Answers with one frame: may be pipelined.
    Send(Command),
    /// Answers with any number of frames.
    Talk(Command),
    /// Sent by the second client, answers with one frame.
    Other(Command),
    /// Repeated with the cursor it returns until that is 0.
    Scan(Command),
}

impl Step {
    pub(crate) fn command(&self) -> &Command {
        let (Step::Send(command) | Step::Talk(command) | Step::Other(command) | Step::Scan(command)) = self;
        command
    }
}

/// Steps that stay together.
pub(crate) type Unit = Vec<Step>;

#[derive(Debug)]
enum Node {
    Literal(String),
    Word(String),
    Back(usize),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Maybe(Box<Node>),
    Many(Box<Node>),
}

/// What [`Filling::word`] knows.
const WORDS: &[&str] = &[
    "key", "lkey", "nkeys", "weights", "val", "text", "member", "field", "imember", "int", "float", "score",
    "idx", "count", "sec", "ms", "unix", "unixms", "future", "futurems", "timeout", "smin", "smax", "lmin",
    "lmax", "pat", "db", "bit", "offset", "bftype", "bfoffset", "channel", "chpat", "proto", "any", "anycmd",
];

#[derive(Debug)]
enum Part {
    Any,
    Own(Node),
    Other(Node),
}

struct Entry {
    group: &'static Group,
    compare: Compare,
    spoilable: bool,
    parts: Vec<Part>,
}

/// Shapes parsed and weighted, ready to draw from.
pub(crate) struct Catalog {
    entries: Vec<Entry>,
    /// Indices of entries, each group as likely as the next, within a group by weight.
    drawn: Vec<Vec<usize>>,
    data: Vec<Vec<usize>>,
}

impl Catalog {
    /// Draws from `groups`; `*` draws from the data groups of `all`.
    pub(crate) fn new(all: &[&'static Group], groups: &[&'static Group]) -> Catalog {
        let mut catalog = Catalog { entries: Vec::new(), drawn: Vec::new(), data: Vec::new() };
        for group in all {
            let mut indices = Vec::new();
            for &(weight, compare, text) in group.shapes {
                let (spoilable, text) = match text.strip_prefix('!') {
                    Some(rest) => (false, rest),
                    None => (true, text),
                };
                indices.extend(std::iter::repeat_n(catalog.entries.len(), weight as usize));
                catalog.entries.push(Entry { group, compare, spoilable, parts: parse(text) });
            }
            if group.data {
                catalog.data.push(indices.clone());
            }
            if groups.iter().any(|wanted| wanted.name == group.name) {
                catalog.drawn.push(indices);
            }
        }
        assert!(!catalog.drawn.is_empty(), "MELDIS_GROUPS names no group");
        catalog
    }

    pub(crate) fn unit(&self, random: &mut Random, protocol: u8) -> Unit {
        let indices = random.pick(&self.drawn);
        let index = *random.pick(indices);
        self.expand(index, random, protocol)
    }

    fn data_unit(&self, random: &mut Random, protocol: u8) -> Unit {
        loop {
            let indices = random.pick(&self.data);
            let index = *random.pick(indices);
            if self.entries[index].compare != Compare::Scan {
                return self.expand(index, random, protocol);
            }
        }
    }

    fn expand(&self, index: usize, random: &mut Random, protocol: u8) -> Unit {
        let entry = &self.entries[index];
        let mut unit = Unit::new();
        let mut first: Option<Args> = None;
        for part in &entry.parts {
            let (Part::Own(node) | Part::Other(node)) = part else {
                unit.extend(self.data_unit(random, protocol));
                continue;
            };
            let mut filling = Filling {
                random,
                catalog: self,
                pool: entry.group.pool,
                protocol,
                first: first.as_ref(),
                args: Args::new(),
            };
            filling.fill(node);
            let mut args = filling.args;
            if entry.spoilable && random.chance(SPOILT) {
                spoil(&mut args, random);
            }
            if random.chance(5) {
                args[0].make_ascii_lowercase();
            }
            let compare = match first {
                None => entry.compare,
                Some(_) => Compare::of_follower(&args),
            };
            first.get_or_insert_with(|| args.clone());
            let command = Command { args, compare };
            unit.push(match part {
                Part::Other(_) => Step::Other(command),
                _ if compare == Compare::Scan => Step::Scan(command),
                _ if entry.group.talks => Step::Talk(command),
                _ => Step::Send(command),
            });
        }
        unit
    }
}

/// The first words of all commands in the tables.
pub(crate) fn command_names(groups: &[&'static Group]) -> BTreeSet<String> {
    fn first_words(node: &Node, found: &mut BTreeSet<String>) {
        match node {
            Node::Literal(word) => {
                found.insert(word.clone());
            }
            Node::Sequence(nodes) => nodes.iter().take(1).for_each(|node| first_words(node, found)),
            Node::Choice(nodes) => nodes.iter().for_each(|node| first_words(node, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for (_, _, text) in groups.iter().flat_map(|group| group.shapes) {
        for part in parse(text.trim_start_matches('!')) {
            if let Part::Own(node) | Part::Other(node) = part {
                first_words(&node, &mut found);
            }
        }
    }
    found
}

fn parse(text: &str) -> Vec<Part> {
    text.split(';')
        .map(str::trim)
        .map(|command| match command.strip_prefix('@') {
            _ if command == "*" => Part::Any,
            Some(rest) => Part::Other(parse_command(rest)),
            None => Part::Own(parse_command(command)),
        })
        .collect()
}

fn parse_command(text: &str) -> Node {
    let mut tokens = tokens(text);
    tokens.reverse();
    let node = parse_choice(&mut tokens);
    assert!(tokens.is_empty(), "unbalanced shape: {text}");
    node
}

/// Blank-separated words; `()[]|+` stand for themselves outside of quotes.
fn tokens(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for letter in text.chars() {
        let splits = !quoted && "()[]|+ ".contains(letter);
        if splits {
            if !word.is_empty() {
                found.push(std::mem::take(&mut word));
            }
            if letter != ' ' {
                found.push(letter.to_string());
            }
            continue;
        }
        quoted ^= letter == '\'';
        word.push(letter);
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

/// Takes from the end of `tokens`.
fn parse_choice(tokens: &mut Vec<String>) -> Node {
    let mut choices = vec![Vec::new()];
    while let Some(token) = tokens.pop_if(|token| token != ")" && token != "]") {
        let sequence = choices.last_mut().expect("at least one");
        match token.as_str() {
            "|" => choices.push(Vec::new()),
            "+" => {
                let repeated = sequence.pop().expect("something before +");
                sequence.push(Node::Many(Box::new(repeated)));
            }
            "(" => {
                sequence.push(parse_choice(tokens));
                assert_eq!(tokens.pop().as_deref(), Some(")"));
            }
            "[" => {
                sequence.push(Node::Maybe(Box::new(parse_choice(tokens))));
                assert_eq!(tokens.pop().as_deref(), Some("]"));
            }
            _ => sequence.push(parse_word(token)),
        }
    }
    let mut nodes: Vec<Node> = choices.into_iter().map(Node::Sequence).collect();
    if nodes.len() == 1 { nodes.remove(0) } else { Node::Choice(nodes) }
}

fn parse_word(token: String) -> Node {
    if let Some(number) = token.strip_prefix('$') {
        return Node::Back(number.parse().expect("a number after $"));
    }
    if let Some(quoted) = token.strip_prefix('\'') {
        return Node::Literal(quoted.trim_end_matches('\'').to_owned());
    }
    if WORDS.contains(&token.as_str()) { Node::Word(token) } else { Node::Literal(token) }
}

/// A command being filled in.
struct Filling<'a> {
    random: &'a mut Random,
    catalog: &'a Catalog,
    pool: &'static str,
    protocol: u8,
    first: Option<&'a Args>,
    args: Args,
}

/// What no integer should be, and the edges of what one may be.
const ODD_INTS: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "9223372036854775806",
    "4611686018427387904",
    "abc",
    "",
    "1.5",
    "1e3",
    " 1",
    "1 ",
    "01",
    "-0",
    "+1",
    "0x10",
    "inf",
    "--1",
    "18446744073709551615",
];
const FLOATS: &[&str] = &[
    "1.5",
    "-0.1",
    "0.1",
    "3.0e3",
    "1e-7",
    "100",
    "-2.25",
    "3",
    "0",
    "0.30000000000000004",
    "1.7976931348623157e308",
    "123456789.123456789",
    "1e17",
    "5e-324",
    "12345678901234567890",
];
const ODD_FLOATS: &[&str] = &[
    "inf", "-inf", "+inf", "nan", "abc", "", "1e400", "1e5000", " 1.5", "1.5 ", "0x1p3", "infinity", "-0",
    "1e", "1.5.2",
];
const TEXTS: &[&str] = &[
    "hello",
    "world",
    "a",
    "b",
    "foo bar",
    "Hello",
    "ohmytext",
    "mynewtext",
    "",
    "*",
    "0a",
    "\u{fc}n\u{ef}",
];
const MEMBERS: &[&str] =
    &["a", "b", "c", "d", "e", "f", "g", "h", "aa", "ab", "1", "2", "3", "-7", "10", "3.5", "", "x y"];
const PATTERNS: &[&str] =
    &["*", "?*", "[a-c]*", "*1", "s*", "[^s]*", "h[1-3]", "\\*", "t?", "*[", "", "a*", "[z-h]?", "???*"];
const CHANNELS: &[&str] = &["c1", "c2", "c3", "news"];
const CHANNEL_PATTERNS: &[&str] = &["c*", "c?", "*", "n[e]ws", "zz*"];
const BINARY: &[u8] = b"\xff\x00\xfe\r\n\x80bin";

impl Filling<'_> {
    fn fill(&mut self, node: &Node) {
        match node {
            Node::Literal(text) => self.push(text),
            Node::Word(word) => self.word(word),
            Node::Back(index) => {
                let args = self.first.expect("$ needs a command before");
                let arg = args.get(*index).cloned().unwrap_or_default();
                self.args.push(arg);
            }
            Node::Sequence(nodes) => nodes.iter().for_each(|node| self.fill(node)),
            Node::Choice(nodes) => {
                let index = self.random.below(nodes.len());
                self.fill(&nodes[index]);
            }
            Node::Maybe(node) => {
                if self.random.chance(45) {
                    self.fill(node);
                }
            }
            Node::Many(node) => {
                for _ in 0..self.random.range(1, 4) {
                    self.fill(node);
                }
            }
        }
    }

    fn push(&mut self, text: impl AsRef<[u8]>) {
        self.args.push(text.as_ref().to_vec());
    }

    fn number(&mut self, low: i64, high: i64) {
        let number = self.random.range(low, high);
        self.push(number.to_string());
    }

    fn one_of(&mut self, texts: &[&str]) {
        let text = *self.random.pick(texts);
        self.push(text);
    }

    fn word(&mut self, word: &str) {
        match word {
            // A key of this group's pool; now and then of another; rarely one that never exists.
            "key" => self.key(),
            // A sorted set whose scores are all 0: what ranges by name are of others is not defined.
            "lkey" => match self.random.chance(ASTRAY) {
                true => self.one_of(&["y9", "y8"]),
                false => self.one_of(&["y0", "y1", "y2"]),
            },
            // How many keys, and that many keys; now and then a wrong number.
            "nkeys" => self.keys(),
            // As many WEIGHTS as nkeys said, nearly always.
            "weights" => self.weights(),
            "val" => self.value(),
            "text" => self.one_of(TEXTS),
            "member" | "field" => self.member(),
            // An integer member: sets stay intsets.
            "imember" => match self.random.below(12) {
                0 => self.one_of(&[
                    "9223372036854775807",
                    "-9223372036854775808",
                    "65536",
                    "-32769",
                    "2147483648",
                ]),
                _ => self.number(-3, 20),
            },
            "int" => match self.random.chance(15) {
                true => self.one_of(ODD_INTS),
                false => self.number(-10, 100),
            },
            "float" => match self.random.chance(12) {
                true => self.one_of(ODD_FLOATS),
                false => self.one_of(FLOATS),
            },
            "score" => match self.random.below(20) {
                0 => self.one_of(ODD_FLOATS),
                1..=6 => self.one_of(FLOATS),
                _ => self.number(-5, 10),
            },
            // An index or rank.
            "idx" => match self.random.chance(5) {
                true => self.one_of(ODD_INTS),
                false => self.number(-8, 8),
            },
            // A count: small, zero, negative or odd.
            "count" => match self.random.chance(8) {
                true => self.one_of(&["-1", "abc", "", "9223372036854775807", "1.5", "-9223372036854775808"]),
                false => self.number(0, 6),
            },
            // Far enough ahead not to pass during the test, or already past, or odd.
            "sec" => match self.random.below(16) {
                0 => self.one_of(&[
                    "-1",
                    "0",
                    "-9223372036854775808",
                    "abc",
                    "9223372036854775807",
                    "9223372036854775",
                    "1.5",
                    "",
                ]),
                _ => self.number(10_000, 10_000_000),
            },
            "ms" => match self.random.below(16) {
                0 => {
                    self.one_of(&["-1", "0", "-9223372036854775808", "abc", "9223372036854775807", "1.5", ""])
                }
                _ => self.number(10_000_000, 10_000_000_000),
            },
            "future" => self.number(4_000_000_000, 4_100_000_000),
            "futurems" => self.number(4_000_000_000_000, 4_100_000_000_000),
            "unix" => match self.random.below(16) {
                0 => self.one_of(&[
                    "-1",
                    "0",
                    "1",
                    "1500000000",
                    "abc",
                    "9223372036854775807",
                    "9223372036854775",
                ]),
                _ => self.number(4_000_000_000, 4_100_000_000),
            },
            "unixms" => match self.random.below(16) {
                0 => self.one_of(&["-1", "0", "1", "1500000000000", "abc", "9223372036854775807"]),
                _ => self.number(4_000_000_000_000, 4_100_000_000_000),
            },
            // A wait too short to notice, or refused.
            "timeout" => match self.random.below(10) {
                0 => self.one_of(&["-1", "abc", "", "1e30", "-0.5", "nan"]),
                _ => self.one_of(&["0.001", "0.002", "0.0001"]),
            },
            "smin" | "smax" => match self.random.below(10) {
                0 => self.one_of(&["abc", "(", "", "(abc", "nan", "(nan", "1)"]),
                1..=3 => self.one_of(if word == "smin" {
                    &["-inf", "(-inf", "0"]
                } else {
                    &["+inf", "(+inf", "inf"]
                }),
                4..=5 => {
                    let score = self.random.range(-5, 10);
                    self.push(format!("({score}"));
                }
                _ if word == "smin" => self.number(-5, 3),
                _ => self.number(0, 12),
            },
            "lmin" => self.one_of(&["-", "-", "[a", "(a", "[b", "[", "(1", "+", "a", ""]),
            "lmax" => self.one_of(&["+", "+", "[d", "(g", "(aa", "[z", "[3", "-", "z", "(("]),
            "pat" => self.one_of(PATTERNS),
            "db" => match self.random.chance(10) {
                true => self.one_of(&["16", "-1", "abc", "9223372036854775807", "4294967296", ""]),
                false => self.number(0, 2),
            },
            // A bit offset: 2^32 and above are refused, below is memory.
            "bit" => match self.random.below(14) {
                0 => self.one_of(&[
                    "-1",
                    "4294967296",
                    "abc",
                    "9223372036854775807",
                    "1.5",
                    "",
                    "9223372036854775808",
                ]),
                1 => self.number(100, 2_000),
                _ => self.number(0, 70),
            },
            "offset" => match self.random.below(14) {
                0 => self.one_of(&["-1", "536870912", "abc", "9223372036854775807", ""]),
                _ => self.number(0, 30),
            },
            "bftype" => self.one_of(&[
                "u8", "i8", "u1", "i1", "u4", "i16", "u63", "i64", "u32", "i5", "u64", "i65", "u0", "x8",
                "8", "i", "",
            ]),
            "bfoffset" => match self.random.chance(25) {
                true => self.one_of(&[
                    "#0",
                    "#1",
                    "#3",
                    "#-1",
                    "-1",
                    "abc",
                    "#",
                    "9223372036854775807",
                    "#9223372036854775807",
                ]),
                false => self.number(0, 60),
            },
            "channel" => self.one_of(CHANNELS),
            "chpat" => self.one_of(CHANNEL_PATTERNS),
            "proto" => {
                let protocol = self.protocol;
                self.push(protocol.to_string());
            }
            "any" => self.anything(),
            "anycmd" => {
                let (catalog, protocol) = (self.catalog, self.protocol);
                let unit = catalog.data_unit(self.random, protocol);
                self.args.extend(unit[0].command().args.iter().cloned());
            }
            _ => unreachable!("{word} is in WORDS only"),
        }
    }

    fn key(&mut self) {
        let pool = match self.pool {
            pool if pool.is_empty() || self.random.chance(ASTRAY) => *self.random.pick(POOLS),
            pool => pool,
        };
        let number = self.random.below(KEYS_PER_POOL);
        match self.random.chance(3) {
            true => self.push("none"),
            false => self.push(format!("{pool}{number}")),
        }
    }

    fn keys(&mut self) {
        let count = self.random.range(1, 3);
        match self.random.below(25) {
            0 => self.one_of(&["0", "-1", "abc", "9", "", "9223372036854775807"]),
            1 => self.number(1, 4),
            _ => self.push(count.to_string()),
        }
        for _ in 0..count {
            self.key();
        }
    }

    fn weights(&mut self) {
        self.push("WEIGHTS");
        // The keys are what follows the first argument that is a number.
        let count = self.args.iter().find_map(|arg| std::str::from_utf8(arg).ok()?.parse::<usize>().ok());
        let count = count.unwrap_or(1).clamp(1, 4) + usize::from(self.random.chance(4));
        for _ in 0..count {
            self.word("score");
        }
    }

    fn value(&mut self) {
        match self.random.below(20) {
            0..=5 => self.number(-100, 1000),
            6..=10 => self.one_of(TEXTS),
            11..=13 => self.one_of(FLOATS),
            14 => self.one_of(ODD_INTS),
            15 => self.one_of(ODD_FLOATS),
            16 => self.push(BINARY),
            17 => self.push("long ".repeat(14)),
            18 if self.random.chance(20) => self.push("0123456789".repeat(500)),
            _ => self.one_of(MEMBERS),
        }
    }

    fn member(&mut self) {
        match self.random.below(40) {
            0 => self.push(BINARY),
            1 => self.push("longmember".repeat(7)),
            _ => self.one_of(MEMBERS),
        }
    }

    fn anything(&mut self) {
        match self.random.below(5) {
            0 => self.one_of(ODD_INTS),
            1 => self.one_of(&["NX", "XX", "GET", "LIMIT", "COUNT", "WITHSCORES", "EX", "BY", "foo"]),
            2 => self.key(),
            _ => self.value(),
        }
    }
}

/// Makes a command wrong, probably.
fn spoil(args: &mut Args, random: &mut Random) {
    let last = args.len() - 1;
    let odd = |random: &mut Random| match random.chance(50) {
        true => random.pick(ODD_INTS).as_bytes().to_vec(),
        false => {
            random.pick(&["NX", "XX", "foo", "LIMIT", "WITHSCORES", "COUNT", "0", "-1"]).as_bytes().to_vec()
        }
    };
    match random.below(5) {
        0 if last > 0 => {
            args.remove(1 + random.below(last));
        }
        1 if last > 0 => {
            let at = 1 + random.below(last);
            args.insert(at, args[at].clone());
        }
        2 if last > 0 => {
            let at = 1 + random.below(last);
            args[at] = odd(random);
        }
        3 if last > 1 => {
            let at = 1 + random.below(last - 1);
            args.swap(at, at + 1);
        }
        _ => args.push(odd(random)),
    }
}
