//! Everything a server shows: every key of every database with type, value and expiry.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{Client, Value, show_bytes};

/// Databases looked at.
const DATABASES: u32 = 16;

/// Database and key.
pub(crate) type Name = (u32, Vec<u8>);

/// What a key holds. Parts of what has no order are sorted; those of a hash are fields, each with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    kind: String,
    parts: Vec<Vec<u8>>,
    /// Below zero for never.
    pub(crate) expires_at_ms: i64,
}

pub(crate) type Listing = BTreeMap<Name, Held>;

/// All there is on a server.
pub(crate) fn listing(client: &mut Client) -> Listing {
    let mut all = Listing::new();
    for db in 0..DATABASES {
        client.ok(&["SELECT", &db.to_string()]);
        let keys = parts(&client.ok(&["KEYS", "*"]));
        for key in keys {
            let held = held(client, &key);
            all.insert((db, key), held);
        }
    }
    all
}

/// Whether no key expires up to a time, and none is counted that has expired.
pub(crate) fn is_steady(client: &mut Client, until_ms: i64) -> bool {
    (0..DATABASES).all(|db| {
        client.ok(&["SELECT", &db.to_string()]);
        let keys = parts(&client.ok(&["KEYS", "*"]));
        let mut lasts = |key: &Vec<u8>| {
            let expires_at_ms = client.ok(&[b"PEXPIRETIME", &key[..]]).int();
            expires_at_ms == -1 || expires_at_ms > until_ms
        };
        keys.iter().all(&mut lasts) && client.ok(&["DBSIZE"]).int() == keys.len() as i64
    })
}

fn held(client: &mut Client, key: &[u8]) -> Held {
    let mut ask = |words: &[&[u8]]| client.ok(words);
    let kind = ask(&[b"TYPE", key]).text();
    let value = match kind.as_str() {
        "string" => ask(&[b"GET", key]),
        "list" => ask(&[b"LRANGE", key, b"0", b"-1"]),
        "set" => ask(&[b"SMEMBERS", key]),
        "zset" => ask(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
        "hash" => ask(&[b"HGETALL", key]),
        other => panic!("{} is of type {other}", show_bytes(key)),
    };
    let mut parts = parts(&value);
    match kind.as_str() {
        "set" => parts.sort(),
        "hash" => {
            let mut fields: Vec<_> = parts.chunks(2).map(<[_]>::to_vec).collect();
            fields.sort();
            parts = fields.concat();
        }
        _ => {}
    }
    Held { kind, parts, expires_at_ms: ask(&[b"PEXPIRETIME", key]).int() }
}

fn parts(value: &Value) -> Vec<Vec<u8>> {
    match value {
        Value::Bulk(bytes) => vec![bytes.clone()],
        Value::Array(items) => items.iter().flat_map(parts).collect(),
        other => panic!("not a value: {other}"),
    }
}

/// Takes expiries back by `later_ms`, and then away what has expired by `now_ms`.
pub(crate) fn expire(listing: &mut Listing, later_ms: i64, now_ms: i64) {
    listing.retain(|_, held| {
        let expires = held.expires_at_ms >= 0;
        held.expires_at_ms -= if expires { later_ms } else { 0 };
        !expires || held.expires_at_ms > now_ms
    });
}

pub(crate) fn show((db, key): &Name, held: Option<&Held>) -> String {
    let mut text = format!("db {db} {} = ", show_bytes(key));
    match held {
        None => text += "nothing",
        Some(held) => {
            let parts: Vec<String> = held.parts.iter().map(|part| show_bytes(part)).collect();
            text += &format!("{} [{}]", held.kind, parts.join(" "));
            if held.expires_at_ms >= 0 {
                text += &format!(" expires at {}", held.expires_at_ms);
            }
        }
    }
    text
}

/// The keys that differ.
pub(crate) fn differing(a: &Listing, b: &Listing) -> Vec<Name> {
    let names: BTreeSet<&Name> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}
