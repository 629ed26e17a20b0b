//! What one lock guards: a range of the data, who waits for its keys, and who watches them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::blocking::{self, Waiting};
use super::client::{Client, ClientFlags};
use super::databases::Moved;
use crate::store::delta::Change;
use crate::store::shard::Shard;

/// One range with all that is kept under its lock.
#[derive(Debug, Default)]
pub struct Cell {
    /// The data.
    pub shard: Shard,
    /// Who waits for a key.
    pub waiting: Waiting,
    /// Who watches a key.
    watched: HashMap<(u32, Vec<u8>), Vec<Arc<Client>>>,
}

impl Cell {
    /// Lets EXEC of the client fail once the key changes.
    pub fn watch(&mut self, space: u32, key: &[u8], client: &Arc<Client>) {
        self.watched.entry((space, key.to_vec())).or_default().push(client.clone());
    }

    /// Ends [`Self::watch`].
    pub fn unwatch(&mut self, space: u32, key: &[u8], client: &Arc<Client>) {
        let name = (space, key.to_vec());
        if let Some(clients) = self.watched.get_mut(&name) {
            clients.retain(|held| !Arc::ptr_eq(held, client));
            if clients.is_empty() {
                self.watched.remove(&name);
            }
        }
    }

    pub(super) fn touch_key(&self, space: u32, key: &[u8]) {
        if self.watched.is_empty() {
            return;
        }
        for client in self.watched.get(&(space, key.to_vec())).into_iter().flatten() {
            client.set(ClientFlags::DIRTY);
        }
    }

    /// Has every EXEC fail that watches one of these keys.
    pub(super) fn touch_keys(&self, is_touched: impl Fn(u32, &[u8]) -> bool) {
        for ((space, key), clients) in &self.watched {
            if is_touched(*space, key) {
                clients.iter().for_each(|client| client.set(ClientFlags::DIRTY));
            }
        }
    }

    /// Has clients watch the same keys of the same databases, which now show other keyspaces.
    pub(super) fn follow(&mut self, moved: &[Moved]) {
        let target = |space| moved.iter().find(|moved| moved.from == space).map_or(space, |moved| moved.to);
        if !self.watched.is_empty() {
            let watched = std::mem::take(&mut self.watched);
            self.watched =
                watched.into_iter().map(|((space, key), clients)| ((target(space), key), clients)).collect();
        }
    }

    pub(super) fn is_awaited(&self, db: u32, key: &[u8], change: &Change<'_>) -> bool {
        !self.waiting.is_empty() && blocking::adds_something(change) && self.waiting.awaits(db, key)
    }
}

/// On cache lines of its own: threads lock neighbours at the same time.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct PaddedCell(pub(super) Mutex<Cell>);
