//! Channels and who listens to them.

use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::RwLock;

use super::client::Client;
use super::session::Session;
use crate::resp::glob;
use crate::resp::reply::Reply;

/// Subscriptions of this node's clients.
#[derive(Debug, Default)]
pub struct Registry {
    channels: DashMap<Vec<u8>, Vec<Arc<Client>>>,
    shard_channels: DashMap<Vec<u8>, Vec<Arc<Client>>>,
    patterns: RwLock<Vec<(Vec<u8>, Arc<Client>)>>,
}

impl Registry {
    /// Sends a message to the channel's subscribers and those of matching patterns. Returns how many.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let mut receivers = 0;
        if let Some(clients) = self.channels.get(channel) {
            for client in clients.iter() {
                push(client, &[b"message", channel, message]);
                receivers += 1;
            }
        }
        for (pattern, client) in self.patterns.read().iter() {
            if glob::matches(pattern, channel, false) {
                push(client, &[b"pmessage", pattern, channel, message]);
                receivers += 1;
            }
        }
        receivers
    }

    /// How many channels, patterns and shard channels somebody listens to.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.channels.len(), self.patterns.read().len(), self.shard_channels.len())
    }

    /// Takes a leaving client out of all channels.
    pub fn remove_client(&self, session: &mut Session) {
        for channel in session.channels.drain() {
            unsubscribe(&self.channels, &channel, &session.client);
        }
        for channel in session.shard_channels.drain() {
            unsubscribe(&self.shard_channels, &channel, &session.client);
        }
        if !session.patterns.is_empty() {
            session.patterns.clear();
            self.patterns.write().retain(|(_, held)| !Arc::ptr_eq(held, &session.client));
        }
    }
}

fn unsubscribe(channels: &DashMap<Vec<u8>, Vec<Arc<Client>>>, channel: &[u8], client: &Arc<Client>) {
    if let Some(mut clients) = channels.get_mut(channel) {
        clients.retain(|held| !Arc::ptr_eq(held, client));
    }
    channels.remove_if(channel, |_, clients| clients.is_empty());
}

fn push(client: &Client, parts: &[&[u8]]) {
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, client.protocol());
    reply.push(parts.len());
    parts.iter().for_each(|part| reply.bulk(part));
    client.push(&bytes);
}
