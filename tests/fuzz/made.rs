//! Stamps, changes, batches and frames out of choices: those an honest peer sends, and those at the edges.

use meldis::clock::{NTP64, NodeId, Origin, Stamp};
use meldis::link::batch::{BatchWriter, Record, Register};
use meldis::link::codec;
use meldis::link::frame::{
    Cursor, Echo, Floor, Frame, Globals, Heartbeat, Hello, Member, Seen, Swaps, VERSION,
};
use meldis::link::vector::{Progress, SEQUENCE_MAX, Vector};
use meldis::number::long_double::LongDouble;
use meldis::store::delta::{Added, Amount, Change, Kind, Pos, Side};
use meldis::store::list::DEPTH_MAX;
use meldis::store::shard::KeyHash;

use crate::choices::Choices;
use crate::node::{limit, now, origin};

pub const KEYS: [&[u8]; 6] = [b"a", b"b", b"c", b"", b"key:4", b"{t}5"];
pub const ELEMENTS: [&[u8]; 4] = [b"x", b"y", b"", b"zz"];

/// The node that is fed, the peer that tells it anything, and one that both have heard of.
pub const SELF: u64 = 1;
pub const PEER: u64 = 2;
pub const THIRD: u64 = 3;

pub fn some_origin(choices: &mut Choices<'_>) -> Origin {
    match choices.below(8) {
        0 => Origin::NONE,
        1 => Origin::new(NodeId::new(u64::MAX), Origin::INCARNATION_MAX),
        2 => origin(SELF),
        3 | 4 => origin(THIRD),
        _ => origin(PEER),
    }
}

pub fn time(choices: &mut Choices<'_>) -> NTP64 {
    NTP64(match choices.below(48) {
        0 => choices.number(),
        1 => limit().0 - 1 + choices.below(3) as u64,
        2 => 0,
        _ => now(0).ntp.0 + 16 * choices.below(64) as u64,
    })
}

pub fn stamp(choices: &mut Choices<'_>) -> Stamp {
    let time = time(choices);
    Stamp::new(time, some_origin(choices))
}

fn kind(choices: &mut Choices<'_>) -> Kind {
    choices.pick(&[Kind::String, Kind::List, Kind::Set, Kind::Zset, Kind::Hash])
}

fn score(choices: &mut Choices<'_>) -> f64 {
    let bits = choices.word();
    choices.pick(&[
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::MAX,
        1.5,
        f64::from_bits(bits),
    ])
}

fn amount(choices: &mut Choices<'_>) -> Amount {
    match choices.below(3) {
        0 => Amount::Int(choices.pick(&[
            i128::MAX,
            i128::MIN,
            -1,
            1,
            i128::from(i64::MAX),
            i128::from(i64::MIN),
        ])),
        1 => {
            let mut bytes: [u8; 10] = std::array::from_fn(|_| choices.byte());
            if choices.one_in(2) {
                // Infinities, NaNs and what no machine makes.
                (bytes[8], bytes[9]) = (0xff, 0x7f | bytes[9]);
            }
            Amount::Float(LongDouble::from_bytes(bytes))
        }
        _ => Amount::Score(score(choices)),
    }
}

fn added(choices: &mut Choices<'_>) -> Added {
    let (last, since) = (time(choices), stamp(choices));
    let origin = match some_origin(choices) {
        Origin::NONE => origin(THIRD),
        node => node,
    };
    Added { origin, last, since, amount: amount(choices) }
}

/// A place in a list, as deep as a node makes it; rarely deeper.
pub fn place(choices: &mut Choices<'_>) -> Pos {
    let side = |choices: &mut Choices<'_>| choices.pick(&[Side::After, Side::Before]);
    let index = choices.number() as u32;
    let mut place = Pos::pushed(side(choices), stamp(choices), index);
    let steps = match choices.below(64) {
        0 => choices.below(80),
        1 => 1000,
        of => of % 4,
    };
    for _ in 0..steps {
        place = place.beside(side(choices), stamp(choices));
    }
    place
}

pub fn change(choices: &mut Choices<'_>) -> Change<'static> {
    let element = choices.pick(&ELEMENTS);
    let value: &[u8] =
        choices.pick(&[&b"1"[..], b"", b"v", b"9223372036854775807", b"nan", b"inf", b"-1e4932"]);
    match choices.below(17) {
        0 => Change::Clear,
        1 => Change::Assign(value),
        2 => Change::Value(value),
        3 => Change::Sum(added(choices)),
        4 => Change::Kind(kind(choices)),
        5 => {
            let at_ms = [None, Some(choices.number()), Some(now(0).unix_ms + choices.below(2000) as u64)];
            Change::Expire(choices.pick(&at_ms), kind(choices))
        }
        6 => Change::Field(element, value),
        7 => Change::FieldSum(element, added(choices)),
        8 => Change::FieldRemove(element),
        9 => Change::Member(element),
        10 => Change::MemberRemove(element),
        11 => Change::Score(element, score(choices)),
        12 => Change::ScoreSum(element, added(choices)),
        13 => Change::ScoreRemove(element),
        14 => Change::Item(place(choices), value),
        15 => Change::ItemValue(place(choices), value),
        _ => Change::ItemRemove(place(choices)),
    }
}

pub fn record(choices: &mut Choices<'_>) -> Record<'static> {
    match choices.below(10) {
        0 => Record::Time(time(choices)),
        1 => Record::Stamp(stamp(choices)),
        2 => Record::Key(choices.number() as u32, choices.pick(&KEYS)),
        3 => Record::Flush(choices.number() as u32),
        4 => Record::Swap(choices.number() as u32, choices.below(3) as u32),
        5 => Record::Register(register(choices), b"127.0.0.0/8\n"),
        6 => Record::Publish(b"channel", b"message"),
        7 => Record::ShardPublish(b"channel", b"message"),
        8 => Record::Amount(amount(choices)),
        _ => Record::Change(change(choices)),
    }
}

fn register(choices: &mut Choices<'_>) -> Register {
    let third = Register::Forgotten(origin(THIRD).node());
    choices.pick(&[Register::Allowlist, Register::Owner, third])
}

fn register_value(choices: &mut Choices<'_>) -> Vec<u8> {
    choices.pick(&[&b"127.0.0.0/8\n"[..], b"", b"0000000003", b"300.1.1.1/99", b"\xff"]).to_vec()
}

/// One batch as a peer writes it, mostly of changes; a few records that stand alone.
pub fn batch(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let origin = some_origin(choices);
    let first = time(choices);
    let mut writer = BatchWriter::begin(origin, out);
    for _ in 0..=choices.below(12) {
        if choices.one_in(40) {
            let stamp = stamp(choices);
            writer.record(stamp, &record(choices), out);
        } else {
            let stamp = if choices.one_in(3) { stamp(choices) } else { Stamp::new(time(choices), origin) };
            let space = if choices.one_in(200) { choices.number() as u32 } else { choices.below(2) as u32 };
            let key = choices.pick(&KEYS);
            writer.change(space, key, stamp, &change(choices), out);
        }
    }
    writer.finish(first, out);
}

/// A piece of a range, mostly of one of its keys.
fn piece(choices: &mut Choices<'_>, range: u16, out: &mut Vec<u8>) {
    let mut writer = BatchWriter::begin(Origin::NONE, out);
    let inside = KEYS.into_iter().find(|key| KeyHash::range_of(key) == usize::from(range));
    for _ in 0..choices.below(12) {
        let key = inside.filter(|_| !choices.one_in(32)).unwrap_or(choices.pick(&KEYS));
        let (space, stamp) = (choices.below(2) as u32, stamp(choices));
        writer.change(space, key, stamp, &change(choices), out);
    }
    writer.finish(NTP64(0), out);
}

pub fn cursor(choices: &mut Choices<'_>) -> Cursor {
    match choices.below(4) {
        0 => Cursor { space: choices.number() as u32, hash: choices.number() },
        1 => Cursor { space: choices.below(3) as u32, hash: choices.word() },
        _ => Cursor::default(),
    }
}

pub fn range(choices: &mut Choices<'_>) -> u16 {
    if choices.one_in(24) {
        return choices.pick(&[1023, 1024, u16::MAX]);
    }
    KeyHash::range_of(choices.pick(&KEYS)) as u16
}

pub fn vector(choices: &mut Choices<'_>) -> Vector {
    let mut vector = Vector::default();
    for _ in 0..choices.below(4) {
        let sequence = if choices.one_in(24) { choices.number() } else { choices.below(8) as u64 };
        let progress = Progress { sequence, watermark: time(choices) };
        vector.set(some_origin(choices), progress);
    }
    vector
}

fn origins(choices: &mut Choices<'_>) -> Vec<Origin> {
    (0..choices.below(3)).map(|_| some_origin(choices)).collect()
}

pub fn member(choices: &mut Choices<'_>, origin: Origin) -> Member {
    let host = (choices.pick(&["", "peer", "10.0.0.1", "\u{e9}"])).to_owned();
    Member { origin, host, port: choices.pick(&[0, 7000, u16::MAX]), follower: choices.one_in(4) }
}

fn members(choices: &mut Choices<'_>) -> Vec<Member> {
    (0..choices.below(3))
        .map(|_| {
            let origin = some_origin(choices);
            member(choices, origin)
        })
        .collect()
}

fn registers(choices: &mut Choices<'_>) -> Vec<(Register, Stamp, Vec<u8>)> {
    (0..choices.below(3)).map(|_| (register(choices), stamp(choices), register_value(choices))).collect()
}

fn globals(choices: &mut Choices<'_>) -> Globals {
    let database = |choices: &mut Choices<'_>| {
        if choices.one_in(6) { choices.number() as u32 } else { choices.below(4) as u32 }
    };
    let flushes = (0..choices.below(2)).map(|_| (database(choices), stamp(choices))).collect();
    let mut base: Vec<u32> = (0..choices.below(20) as u32).collect();
    for _ in 0..choices.below(3) {
        if !base.is_empty() {
            let (a, b) = (choices.below(base.len()), choices.below(base.len()));
            base.swap(a, b);
            base[a] = if choices.one_in(6) { choices.number() as u32 } else { base[a] };
        }
    }
    let until = if choices.one_in(2) { Some(stamp(choices)) } else { None };
    let since =
        (0..choices.below(3)).map(|_| (stamp(choices), database(choices), database(choices))).collect();
    Globals { flushes, swaps: Swaps { until, base, since }, registers: registers(choices) }
}

pub fn hello(choices: &mut Choices<'_>, of: Origin) -> Hello {
    let (sender, vector, members) = (member(choices, of), vector(choices), members(choices));
    Hello { version: VERSION, sender, vector, members, registers: registers(choices) }
}

fn floor(choices: &mut Choices<'_>) -> Floor {
    let (origin, floor, at) = (some_origin(choices), time(choices), time(choices));
    Floor { origin, floor, at, of: origins(choices) }
}

/// Any frame.
pub fn frame(choices: &mut Choices<'_>) -> Frame {
    match choices.below(14) {
        0 => {
            let of = some_origin(choices);
            Frame::Hello(hello(choices, of))
        }
        1 => Frame::Heartbeat(Heartbeat {
            vector: vector(choices),
            floors: (0..choices.below(3)).map(|_| floor(choices)).collect(),
            linked: origins(choices).into_iter().map(Origin::node).collect(),
            syncing: choices.one_in(2),
            pulls: choices.one_in(2),
            taken: time(choices),
            sent_us: choices.number(),
            echo: if choices.one_in(2) { Some(echo(choices)) } else { None },
        }),
        2 => Frame::Ask,
        3 => Frame::Members(members(choices)),
        4 => Frame::Gap,
        5 => Frame::PullBegin {
            digests: digests(choices),
            only: if choices.one_in(3) { Some(ranges(choices)) } else { None },
        },
        6 => differs(choices),
        7 => Frame::Pull { range: range(choices), from: cursor(choices), graves: choices.one_in(2) },
        8 => chunk(choices),
        9 => Frame::Bye,
        10 => Frame::Compare { vector: vector(choices), digests: digests(choices) },
        11 => Frame::Compared { differ: ranges(choices), unsure: ranges(choices) },
        _ => Frame::Segment {
            origin: some_origin(choices),
            first: choices.number(),
            count: choices.number(),
            watermark: time(choices),
            seen: seen(choices),
        },
    }
}

fn digests(choices: &mut Choices<'_>) -> Vec<(u16, u64)> {
    (0..choices.below(8)).map(|_| (range(choices), choices.word())).collect()
}

fn ranges(choices: &mut Choices<'_>) -> Vec<u16> {
    (0..choices.below(8)).map(|_| range(choices)).collect()
}

fn echo(choices: &mut Choices<'_>) -> Echo {
    Echo { sent_us: choices.number(), received_us: choices.number() }
}

/// What an origin says it had merged of others.
pub fn seen(choices: &mut Choices<'_>) -> Seen {
    (0..choices.below(3)).map(|_| (some_origin(choices), time(choices))).collect()
}

/// An answer to a pull.
pub fn differs(choices: &mut Choices<'_>) -> Frame {
    Frame::Differs {
        vector: vector(choices),
        ranges: ranges(choices),
        graves: ranges(choices),
        globals: globals(choices),
    }
}

/// A piece of a range.
pub fn chunk(choices: &mut Choices<'_>) -> Frame {
    let (range, from) = (range(choices), cursor(choices));
    let to = if choices.one_in(3) { Some(cursor(choices)) } else { None };
    Frame::Chunk { range, from, to, graves: choices.one_in(4) }
}

/// What follows a frame: batches of a Segment, records of a Chunk.
pub fn tail(choices: &mut Choices<'_>, frame: &mut Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    match frame {
        Frame::Segment { count, .. } => {
            let batches = 1 + choices.below(3) as u64;
            (0..batches).for_each(|_| batch(choices, &mut bytes));
            *count = if choices.one_in(24) { *count } else { batches };
        }
        Frame::Chunk { range, .. } => piece(choices, *range, &mut bytes),
        _ => return choices.some_bytes(3),
    }
    if choices.one_in(6) {
        choices.damage(&mut bytes);
    }
    bytes
}

/// A batch of its own that holds these records.
pub fn batch_of(records: &[Record<'_>], time: NTP64) -> Vec<u8> {
    let mut bytes = vec![0; meldis::link::batch::HEADER_BYTES];
    records.iter().for_each(|record| codec::encode(record, &mut bytes));
    let length = (bytes.len() - meldis::link::batch::HEADER_BYTES) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..12].copy_from_slice(&time.0.to_le_bytes());
    bytes
}

/// Whether a record names a place deeper than any node makes it.
pub fn is_too_deep(record: &Record<'_>) -> bool {
    let Record::Change(Change::Item(place, _) | Change::ItemValue(place, _) | Change::ItemRemove(place)) =
        record
    else {
        return false;
    };
    place.depth() > DEPTH_MAX
}

/// Whether a frame tells of more batches than a node can ever write.
pub fn is_refused(frame: &Frame) -> bool {
    let vector = match frame {
        Frame::Hello(hello) => &hello.vector,
        Frame::Heartbeat(heartbeat) => &heartbeat.vector,
        Frame::Differs { vector, .. } | Frame::Compare { vector, .. } => vector,
        _ => return false,
    };
    vector.iter().any(|(_, progress)| progress.sequence >= SEQUENCE_MAX)
}
