//! DEBUG: for tests, ours and those of others. Refused unless `enable-debug-command` allows it.

use sha1_smol::Sha1;

use super::family::{self, wrong_number};
use super::object::{encoding_of, refcount_of};
use super::parse::is;
use crate::engine::call::{Call, Outcome};
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::engine::keyspace::Keyspace;
use crate::number;
use crate::store::delta::Kind;
use crate::store::entry::{Entry, Value};

/// The table.
pub const COMMANDS: &[Command] = &[Command {
    name: "debug",
    arity: -2,
    flags: Flags::ADMIN
        .union(Flags::PROTECTED)
        .union(Flags::WHOLE_KEYSPACE)
        .union(Flags::NOSCRIPT)
        .union(Flags::LOADING)
        .union(Flags::STALE),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Server,
    since: "1.0.0",
    summary: "Looks behind the scenes, for tests.",
    complexity: "Depends on subcommand",
    run: debug,
    subcommands: &[],
}];

fn debug(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let (name, count) = (&c.args[1], c.args.len());
    match count {
        2 if is(name, "help") => help(c),
        2 if is(name, "digest") => digest(c),
        3 if is(name, "object") => return object(c),
        3 if is(name, "sleep") => sleep(c),
        3 if is(name, "set-active-expire") => set_active_expire(c),
        _ if is(name, "digest-value") => digest_value(c),
        _ => return Err(wrong_number(c.args)),
    }
    Ok(())
}

fn help(c: &mut Call<'_, '_>) {
    family::help(
        c,
        &[
            ("DIGEST", "A hash of all databases, Redis's way: equal data, equal hash."),
            ("DIGEST-VALUE <key> [<key> ...]", "The same of the values at these keys."),
            ("OBJECT <key>", "How Redis would store the value at the key."),
            ("SET-ACTIVE-EXPIRE <0|1>", "Whether keys past their expiry go without being asked for."),
            ("SLEEP <seconds>", "Has this client wait. Decimals allowed."),
        ],
    );
}

/// The client waits, and nobody else: a server of many threads has none to stop.
fn sleep(c: &mut Call<'_, '_>) {
    let seconds = number::parse_f64(&c.args[2]).unwrap_or(0.0).max(0.0);
    c.outcome = Outcome::Sleep((seconds * 1000.0) as u64);
    c.reply.ok();
}

fn set_active_expire(c: &mut Call<'_, '_>) {
    c.engine.set_active_expire(number::parse_i64(&c.args[2]).is_some_and(|active| active != 0));
    c.reply.ok();
}

fn object(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let key = &c.args[2];
    let entry = c.keys.peek_entry(key).ok_or(Error::NO_SUCH_KEY)?;
    let value = entry.value().ok_or(Error::NO_SUCH_KEY)?;
    let now_s = c.keys.now_ms() / 1000;
    let mut text = format!(
        "Value at:{entry:p} refcount:{} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        refcount_of(value),
        encoding_of(value, &c.engine.config.read()),
        serialized_bytes(value),
        entry.used_at & 0xff_ffff,
        now_s.saturating_sub(entry.used_at.into()),
    );
    if let Value::List(list) = value {
        let bytes = serialized_bytes(value);
        let average = list.len();
        let max = c.engine.config.read().list_max_listpack_size;
        text.push_str(&format!(
            " ql_nodes:1 ql_avg_node:{average}.00 ql_listpack_max:{max} ql_compressed:0 ql_uncompressed_size:{bytes}"
        ));
    }
    c.reply.simple(&text);
    Ok(())
}

/// About what a dump of the value takes: its texts and a length before each.
fn serialized_bytes(value: Value<'_>) -> usize {
    match value {
        Value::String(text) => text.len() + 1,
        Value::List(list) => list.iter().map(|item| item.value().len() + 1).sum(),
        Value::Set(set) => set.iter().map(|member| member.len() + 1).sum(),
        Value::Zset(zset) => zset.iter().map(|(member, _)| member.len() + 9).sum(),
        Value::Hash(hash) => hash.iter().map(|(field, value)| field.len() + value.len() + 2).sum(),
    }
}

fn digest(c: &mut Call<'_, '_>) {
    let digest = dataset(c.keys);
    c.reply.simple(&digest.to_string());
}

fn digest_value(c: &mut Call<'_, '_>) {
    let args = c.args;
    c.reply.array(args.len() - 2);
    for key in args.iter().skip(2) {
        let mut digest = Digest::default();
        if let Some(entry) = c.keys.peek_entry(key) {
            digest.mix_value(entry);
        }
        c.reply.simple(&digest.to_string());
    }
}

/// The digest of all databases, whose ranges are all locked.
fn dataset(keys: &mut Keyspace<'_>) -> Digest {
    let mut all = Digest::default();
    let (selected, now_ms) = (keys.db(), keys.now_ms());
    for db in 0..keys.engine().databases() {
        keys.select(db);
        let space = keys.space();
        let entries = || keys.cells().iter().flat_map(|cell| cell.shard.entries(space));
        let mut alive = entries().filter(|entry| entry.value_at(now_ms).is_some()).peekable();
        if alive.peek().is_none() {
            continue;
        }
        all.mix(&db.to_be_bytes());
        for entry in alive {
            let mut digest = Digest::default();
            digest.mix(entry.key());
            digest.mix_value(entry);
            all.xor(&digest.0);
        }
    }
    keys.select(selected);
    all
}

/// Redis's digest of a dataset: what has an order is mixed in, what has none is added by XOR.
#[derive(Clone, Copy, Default)]
struct Digest([u8; 20]);

impl Digest {
    /// Adds data that stands in no order with what else is added.
    fn xor(&mut self, data: &[u8]) {
        let hash = Sha1::from(data).digest().bytes();
        self.0.iter_mut().zip(hash).for_each(|(held, byte)| *held ^= byte);
    }

    /// Adds data behind what was added before.
    fn mix(&mut self, data: &[u8]) {
        self.xor(data);
        self.0 = Sha1::from(self.0).digest().bytes();
    }

    /// Adds the digest of the parts of an element.
    fn xor_parts(&mut self, parts: [&[u8]; 2]) {
        let mut element = Digest::default();
        parts.iter().for_each(|part| element.mix(part));
        self.xor(&element.0);
    }

    fn mix_value(&mut self, entry: &Entry) {
        let Some(value) = entry.value() else { return };
        self.mix(&type_number(value.kind()).to_be_bytes());
        match value {
            Value::String(text) => self.mix(text),
            Value::List(list) => list.iter().for_each(|item| self.mix(item.value())),
            Value::Set(set) => set.iter().for_each(|member| self.xor(member)),
            Value::Zset(zset) => {
                let mut score_text = Vec::new();
                for (member, score) in zset.iter() {
                    score_text.clear();
                    number::write_f64(&mut score_text, score);
                    self.xor_parts([member, &score_text]);
                }
            }
            Value::Hash(hash) => hash.iter().for_each(|(field, value)| self.xor_parts([field, value])),
        }
        if entry.expires_at_ms().is_some() {
            self.xor(b"!!expire!!");
        }
    }
}

/// Redis's number of a type.
fn type_number(kind: Kind) -> u32 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::Zset => 3,
        Kind::Hash => 4,
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Access;
    use crate::engine::testing::Fixture;

    #[test]
    fn digests_are_those_of_redis() {
        let mut node = Fixture::new();
        node.engine.config.write().enable_debug_command = Access::Yes;
        node.check("DEBUG DIGEST", &format!("+{}", "0".repeat(40)));
        for command in ["SET s hello", "SET n 10 EX 1000", "HSET h a 1 b 2", "SADD t x y 3"] {
            node.run(command);
        }
        node.run_args(&[b"SET", b"", b"empty"]);
        // Told by redis-server 7.0.15 of the same data.
        node.check("DEBUG DIGEST", "+11a3c0469077f1f7af353871090661f49471bcbc");
        let values = [
            "*5",
            "+36b23a1456b2dce2c3ed252c456761301dba8060",
            "+d79f35663055c5a8f1279d5fc2867763c3bbc76f",
            "+6c8f22b3bf510fdcfd6122dd0f908a80e88243bf",
            "+415a07507e2348d139f9fd645a024f6be569dd65",
            "+0000000000000000000000000000000000000000",
        ];
        node.check("DEBUG DIGEST-VALUE s n h t nokey", &values.join(" "));
        node.check("MOVE s 3", ":1");
        node.check("DEBUG DIGEST", "+bf55f2d8c844c1cdcdf8e019211e2b67cfd897f2");
    }

    #[test]
    fn debug_is_refused_unless_configured() {
        let mut node = Fixture::new();
        assert!(node.run("DEBUG DIGEST").starts_with("-ERR DEBUG command not allowed. If the "));
        node.engine.config.write().enable_debug_command = Access::Local;
        assert!(node.run("DEBUG DIGEST").starts_with("-ERR DEBUG command not allowed"));
        let (now, local) = (crate::engine::Now::from_unix_ns(0), "[::1]:7".to_owned());
        let mut local = node.engine.connect(local.clone(), local, now, 0);
        assert!(node.run_on(&mut local, "DEBUG DIGEST").starts_with('+'));
    }
}
