//! Keyspace notifications on their way to subscribers.
//!
//! A local command names its events ([`Keyspace::notify`](super::keyspace::Keyspace::notify)); they are published once
//! its locks are released and its batch is closed. A peer's batch holds effects, not commands: [`PeerEvents`] tells
//! what those would be called here, so that subscribers of each node hear of every node's writes.
//!
//! Reference: <https://redis.io/docs/latest/develop/use/keyspace-notifications/>.

use std::sync::atomic::Ordering;

use super::Engine;
pub use crate::config::Events as EventClass;
use crate::store::delta::{Change, Side};

/// An event that happened to a key.
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

/// What a delta is called where only its effect is known: APPEND arrives as `set`, SUNIONSTORE as `sadd`, LPOP as
/// `lrem`. `None` for what no client would call a change.
pub fn event_of(change: &Change<'_>) -> Option<(EventClass, &'static str)> {
    Some(match change {
        Change::Clear => (EventClass::GENERIC, "del"),
        Change::Assign(_) | Change::Value(_) => (EventClass::STRING, "set"),
        Change::Sum(_) => (EventClass::STRING, "incrby"),
        Change::Kind(_) => return None,
        Change::Expire(Some(_), _) => (EventClass::GENERIC, "expire"),
        Change::Expire(None, _) => (EventClass::GENERIC, "persist"),
        Change::Field(..) => (EventClass::HASH, "hset"),
        Change::FieldSum(..) => (EventClass::HASH, "hincrby"),
        Change::FieldRemove(_) => (EventClass::HASH, "hdel"),
        Change::Member(_) => (EventClass::SET, "sadd"),
        Change::MemberRemove(_) => (EventClass::SET, "srem"),
        Change::Score(..) => (EventClass::ZSET, "zadd"),
        Change::ScoreSum(..) => (EventClass::ZSET, "zincr"),
        Change::ScoreRemove(_) => (EventClass::ZSET, "zrem"),
        Change::Item(pos, _) if pos.depth() > 1 => (EventClass::LIST, "linsert"),
        Change::Item(pos, _) => match pos.last().side {
            Side::After => (EventClass::LIST, "lpush"),
            Side::Before => (EventClass::LIST, "rpush"),
        },
        Change::ItemValue(..) => (EventClass::LIST, "lset"),
        Change::ItemRemove(_) => (EventClass::LIST, "lrem"),
    })
}

/// Collects the events of one batch of a peer, as one server would have published them: one event for a run of
/// alike changes of a key, `del` where the key is gone at the end of its run and was there before.
#[derive(Debug, Default)]
pub struct PeerEvents {
    events: Vec<Event>,
    /// The key the last change was about.
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    db: u32,
    key: Vec<u8>,
    /// Whether it existed before the run.
    existed: bool,
    /// Whether it exists now.
    exists: bool,
    /// Its events begin here.
    start: usize,
}

impl PeerEvents {
    /// Takes note of a change that was merged and changed something. `existed` and `exists` say whether the key was
    /// there for readers before and after it.
    pub fn changed(&mut self, db: u32, key: &[u8], change: &Change<'_>, existed: bool, exists: bool) {
        if !matches!(&self.run, Some(run) if run.db == db && run.key == key) {
            self.end_run();
            self.run = Some(Run { db, key: key.to_vec(), existed, exists, start: self.events.len() });
        }
        let run = self.run.as_mut().expect("begun above");
        run.exists = exists;
        let Some((class, event)) = event_of(change) else { return };
        let is_cleanup = matches!(change, Change::Clear | Change::Expire(None, _)) && !(existed && exists);
        // What was not there before and is not there now has only moved among tombstones.
        if is_cleanup
            || !(existed || exists)
            || self.events[run.start..].last().is_some_and(|last| last.event == event)
        {
            return;
        }
        self.events.push(Event { class, event, db, key: run.key.clone() });
    }

    /// The events in order, to be handed to [`Engine::publish_events`] once nothing is locked.
    pub fn finish(mut self) -> Vec<Event> {
        self.end_run();
        self.events
    }

    fn end_run(&mut self) {
        if let Some(Run { db, key, existed: true, exists: false, .. }) = self.run.take() {
            self.events.push(Event { class: EventClass::GENERIC, event: "del", db, key });
        }
    }
}

impl Engine {
    /// Whether events of a class are published.
    pub fn notifies(&self, class: EventClass) -> bool {
        let set = EventClass::from_bits_truncate(self.notify.load(Ordering::Relaxed) as u16);
        set.intersects(EventClass::KEYSPACE | EventClass::KEYEVENT) && set.contains(class)
    }

    /// Whether any event is published: else a peer's batch needs no [`PeerEvents`].
    pub fn notifies_anything(&self) -> bool {
        let set = EventClass::from_bits_truncate(self.notify.load(Ordering::Relaxed) as u16);
        set.intersects(EventClass::KEYSPACE | EventClass::KEYEVENT)
    }

    /// Changes which events are published.
    pub fn set_notify(&self, classes: EventClass) {
        self.notify.store(classes.bits().into(), Ordering::Relaxed);
    }

    /// Publishes keyspace events to the channels that `notify-keyspace-events` asks for. Nothing may be locked.
    pub fn publish_events(&self, events: &[Event]) {
        let set = EventClass::from_bits_truncate(self.notify.load(Ordering::Relaxed) as u16);
        for Event { event, db, key, .. } in events.iter().filter(|event| set.contains(event.class)) {
            if set.contains(EventClass::KEYSPACE) {
                let mut channel = format!("__keyspace@{db}__:").into_bytes();
                channel.extend_from_slice(key);
                self.pubsub.publish(&channel, event.as_bytes());
            }
            if set.contains(EventClass::KEYEVENT) {
                self.pubsub.publish(format!("__keyevent@{db}__:{event}").as_bytes(), key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::store::delta::{Kind, Pos};

    /// Events of changes `(key, change, existed, exists)`.
    fn heard(changes: &[(&str, Change<'_>, bool, bool)]) -> String {
        let mut events = PeerEvents::default();
        for (key, change, existed, exists) in changes {
            events.changed(0, key.as_bytes(), change, *existed, *exists);
        }
        let told = events.finish();
        let told =
            told.iter().map(|event| format!("{} {}", event.event, String::from_utf8_lossy(&event.key)));
        told.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_batch_of_a_peer_sounds_like_its_commands() {
        let check = |changes: &[(&str, Change<'_>, bool, bool)], expected: &str| {
            assert_eq!(heard(changes), expected, "{changes:?}");
        };
        let item = || Change::Item(Pos::pushed(Side::Before, Stamp::NEVER, 0), b"x");
        check(&[("a", Change::Assign(b"1"), false, true)], "set a");
        check(
            &[
                ("a", Change::Assign(b"1"), true, true),
                ("a", Change::Expire(Some(9), Kind::String), true, true),
            ],
            "set a, expire a",
        );
        check(
            &[("h", Change::Field(b"f", b"1"), false, true), ("h", Change::Field(b"g", b"1"), true, true)],
            "hset h",
        );
        check(&[("a", Change::Clear, true, false)], "del a");
        check(&[("a", Change::Clear, false, false)], "");
        check(
            &[("s", Change::MemberRemove(b"m"), true, true), ("s", Change::MemberRemove(b"n"), true, false)],
            "srem s, del s",
        );
        check(&[("s", Change::Clear, true, false), ("s", Change::Member(b"m"), false, true)], "sadd s");
        check(
            &[("l", item(), false, true), ("m", item(), false, true), ("l", Change::Clear, true, false)],
            "rpush l, rpush m, del l",
        );
        check(
            &[
                ("s", Change::MemberRemove(b"m"), true, false),
                ("s", Change::Expire(None, Kind::Set), false, false),
            ],
            "srem s, del s",
        );
        check(&[("s", Change::Expire(None, Kind::Set), true, true)], "persist s");
    }
}
