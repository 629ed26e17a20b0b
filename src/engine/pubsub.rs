//! Channels and who listens to them.
//!
//! A message is encoded at most once per protocol, however many receive it, and copied into each receiver's mailbox,
//! which closes a client that leaves too much unread.
//! A channel's subscribers are held while a message is handed to them, so nobody gets one after its
//! unsubscribing returned. Locks: one key of one map, or the patterns; below them only mailboxes.
//!
//! Order on one connection: what was pushed before a command is in the mailbox, and the engine empties that ahead
//! of the command's reply; UNSUBSCRIBE empties it once more before it confirms.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dashmap::DashMap;
use indexmap::IndexMap;
use parking_lot::RwLock;

use super::client::{Client, ClientFlags};
use super::session::Session;
use crate::resp::glob;
use crate::resp::reply::{Protocol, Reply};

/// The three kinds of subscriptions. Their order is that of [`Client::subscriptions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE.
    Pattern,
    /// SSUBSCRIBE.
    Shard,
}

/// Clients by id, in order of subscription but for leavers.
type Subscribers = IndexMap<u64, Arc<Client>>;
type Channels = DashMap<Arc<[u8]>, Subscribers>;

/// Subscriptions of this node's clients. A channel or pattern without subscribers is not kept.
#[derive(Debug, Default)]
pub struct Registry {
    channels: Channels,
    shard_channels: Channels,
    patterns: RwLock<IndexMap<Arc<[u8]>, Subscribers>>,
}

impl Registry {
    /// Sends a message to the channel's subscribers and those of matching patterns. Returns how many.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let mut receivers = self.send(&self.channels, channel, &[b"message", channel, message]);
        for (pattern, clients) in self.patterns.read().iter() {
            if glob::matches(pattern, channel) {
                receivers += self.push(clients, &[b"pmessage", pattern, channel, message]);
            }
        }
        receivers
    }

    /// Sends a message to the shard channel's subscribers. Returns how many.
    pub fn publish_to_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        self.send(&self.shard_channels, channel, &[b"smessage", channel, message])
    }

    /// How many would receive a message now.
    pub fn receivers(&self, scope: Scope, channel: &[u8]) -> usize {
        let direct = self.subscribers(scope, channel);
        if scope == Scope::Shard {
            return direct;
        }
        let patterns = self.patterns.read();
        let matching = patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel));
        direct + matching.map(|(_, clients)| clients.len()).sum::<usize>()
    }

    /// Subscribes the connection. Returns whether it was not subscribed yet.
    pub fn subscribe(&self, session: &mut Session, scope: Scope, name: &[u8]) -> bool {
        let name: Arc<[u8]> = name.into();
        if !session.subscriptions_mut(scope).insert(name.clone()) {
            return false;
        }
        let client = session.client.clone();
        match scope {
            Scope::Channel => self.channels.entry(name).or_default().insert(client.id, client),
            Scope::Shard => self.shard_channels.entry(name).or_default().insert(client.id, client),
            Scope::Pattern => self.patterns.write().entry(name).or_default().insert(client.id, client),
        };
        tell_others(session, scope);
        true
    }

    /// Ends a subscription. Returns whether there was one.
    pub fn unsubscribe(&self, session: &mut Session, scope: Scope, name: &[u8]) -> bool {
        if !session.subscriptions_mut(scope).swap_remove(name) {
            return false;
        }
        self.forget(scope, name, session.client.id);
        tell_others(session, scope);
        true
    }

    /// How many channels, patterns and shard channels somebody listens to.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.channels.len(), self.patterns.read().len(), self.shard_channels.len())
    }

    /// Ends all subscriptions of a connection, as when it leaves or sends RESET.
    pub fn remove_client(&self, session: &mut Session) {
        if !session.is_subscriber() {
            return;
        }
        for scope in [Scope::Channel, Scope::Pattern, Scope::Shard] {
            for name in std::mem::take(session.subscriptions_mut(scope)) {
                self.forget(scope, &name, session.client.id);
            }
            tell_others(session, scope);
        }
    }

    /// How many subscribe to exactly this channel or pattern.
    pub fn subscribers(&self, scope: Scope, name: &[u8]) -> usize {
        match scope {
            Scope::Channel => self.channels.get(name).map_or(0, |clients| clients.len()),
            Scope::Shard => self.shard_channels.get(name).map_or(0, |clients| clients.len()),
            Scope::Pattern => self.patterns.read().get(name).map_or(0, Subscribers::len),
        }
    }

    /// The channels or patterns with subscribers, in no order.
    pub fn names(&self, scope: Scope) -> Vec<Arc<[u8]>> {
        let of = |channels: &Channels| channels.iter().map(|entry| entry.key().clone()).collect();
        match scope {
            Scope::Channel => of(&self.channels),
            Scope::Shard => of(&self.shard_channels),
            Scope::Pattern => self.patterns.read().keys().cloned().collect(),
        }
    }

    fn forget(&self, scope: Scope, name: &[u8], client: u64) {
        let leave = |channels: &Channels| {
            if let dashmap::Entry::Occupied(mut channel) = channels.entry(name.into()) {
                channel.get_mut().swap_remove(&client);
                if channel.get().is_empty() {
                    channel.remove();
                }
            }
        };
        match scope {
            Scope::Channel => leave(&self.channels),
            Scope::Shard => leave(&self.shard_channels),
            Scope::Pattern => {
                let mut patterns = self.patterns.write();
                if let Some(clients) = patterns.get_mut(name) {
                    clients.swap_remove(&client);
                    if clients.is_empty() {
                        patterns.swap_remove(name);
                    }
                }
            }
        }
    }

    fn send(&self, channels: &Channels, channel: &[u8], message: &[&[u8]]) -> usize {
        channels.get(channel).map_or(0, |clients| self.push(&clients, message))
    }

    /// Hands a message to each client.
    fn push(&self, clients: &Subscribers, parts: &[&[u8]]) -> usize {
        let (mut resp2, mut resp3) = (Vec::new(), Vec::new());
        for client in clients.values() {
            let protocol = client.protocol();
            let encoded = match protocol {
                Protocol::Resp2 => &mut resp2,
                Protocol::Resp3 => &mut resp3,
            };
            if encoded.is_empty() {
                let mut reply = Reply::new(encoded, protocol);
                reply.push(parts.len());
                parts.iter().for_each(|part| reply.bulk(part));
            }
            client.push(encoded);
        }
        clients.len()
    }
}

/// Shows a connection's subscriptions to CLIENT LIST.
fn tell_others(session: &Session, scope: Scope) {
    let count = session.subscriptions(scope).len() as u32;
    session.client.subscriptions[scope as usize].store(count, Ordering::Relaxed);
    if session.is_subscriber() {
        session.client.set(ClientFlags::PUBSUB);
    } else {
        session.client.unset(ClientFlags::PUBSUB);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: u64) -> Session {
        Session::new(Arc::new(Client::new(id, String::new(), String::new(), 0, Arc::default())))
    }

    fn received(session: &Session) -> String {
        let mut bytes = Vec::new();
        session.client.take_mailbox(&mut bytes);
        String::from_utf8(bytes).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn a_message_reaches_channel_and_pattern_in_each_protocol() {
        let registry = Registry::default();
        let (mut old, mut new) = (session(1), session(2));
        new.client.resp3.store(true, Ordering::Relaxed);
        registry.subscribe(&mut old, Scope::Channel, b"news");
        registry.subscribe(&mut new, Scope::Channel, b"news");
        registry.subscribe(&mut new, Scope::Pattern, b"n*");
        registry.subscribe(&mut new, Scope::Shard, b"news");
        assert_eq!(registry.receivers(Scope::Channel, b"news"), 3);
        assert_eq!(registry.publish(b"news", b"hi"), 3);
        assert_eq!(received(&old), "*3 $7 message $4 news $2 hi ");
        assert_eq!(received(&new), ">3 $7 message $4 news $2 hi >4 $8 pmessage $2 n* $4 news $2 hi ");
        assert_eq!(registry.publish_to_shard(b"news", b"yo"), 1);
        assert_eq!(received(&new), ">3 $8 smessage $4 news $2 yo ");
        assert_eq!(received(&old), "");
    }

    #[test]
    fn a_leaver_leaves_nothing_behind() {
        let registry = Registry::default();
        let mut session = session(1);
        for scope in [Scope::Channel, Scope::Pattern, Scope::Shard] {
            assert!(registry.subscribe(&mut session, scope, b"a"));
            assert!(!registry.subscribe(&mut session, scope, b"a"), "subscribed already");
            assert_eq!(registry.subscribers(scope, b"a"), 1);
        }
        assert!(session.client.flags().contains(ClientFlags::PUBSUB));
        registry.remove_client(&mut session);
        assert!(!session.client.flags().contains(ClientFlags::PUBSUB));
        assert!(session.client.subscriptions.iter().all(|count| count.load(Ordering::Relaxed) == 0));
        for scope in [Scope::Channel, Scope::Pattern, Scope::Shard] {
            assert_eq!(registry.subscribers(scope, b"a"), 0);
            assert!(!registry.unsubscribe(&mut session, scope, b"a"));
        }
        assert_eq!(registry.counts(), (0, 0, 0));
        assert_eq!(registry.publish(b"a", b"x"), 0);
    }
}
