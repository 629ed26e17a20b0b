//! This node among others, as INFO, ROLE and HELLO tell it.
//!
//! A copy of what the mesh knows, taken several times a second: a command that asks for it may hold ranges, and the
//! mesh is locked before any range.

use super::replication::{is_follower, mesh_address};
use super::{Engine, Now};
use crate::config::{Config, HostPort};
use crate::link::mesh::Mesh;

/// What this node is, as tools are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Nobody above it. Also an active node that was given its partners by `peer`.
    #[default]
    Master,
    /// Equals, given by KeyDB's directives.
    ActiveReplica,
    /// Follows a primary.
    Replica,
}

/// A partner or primary this node dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partner {
    /// Where.
    pub address: HostPort,
    /// Whether the link is up and in step.
    pub up: bool,
    /// Seconds since something came over the link; -1 if nothing ever did.
    pub last_io_s: i64,
    /// A resync that is running.
    pub sync: Option<Sync>,
    /// Seconds since the link broke.
    pub down_since_s: u64,
    /// How far its writes are merged here.
    pub offset: u64,
}

/// Progress of a resync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Bytes to come in all, as far as known.
    pub total_bytes: u64,
    /// Bytes that came.
    pub read_bytes: u64,
    /// Seconds since the last of them.
    pub last_io_s: i64,
}

/// Somebody who follows this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its host as it announces it.
    pub host: String,
    /// Its port as it announces it.
    pub port: u16,
    /// `online`, `send_bulk` or `wait_bgsave`.
    pub state: &'static str,
    /// What it has acknowledged.
    pub offset: u64,
    /// Seconds since it last did.
    pub lag_s: u64,
}

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whom it dials.
    pub partners: Vec<Partner>,
    /// Who follows it.
    pub replicas: Vec<Replica>,
    /// Batches of its own.
    pub offset: u64,
}

impl Role {
    /// What a configuration makes of a node.
    pub fn of(config: &Config) -> Self {
        if is_follower(config) {
            Role::Replica
        } else if config.active_replica && !config.replicaof.is_empty() {
            Role::ActiveReplica
        } else {
            Role::Master
        }
    }

    /// As INFO and KeyDB say it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::ActiveReplica => "active-replica",
            Role::Replica => "slave",
        }
    }
}

impl Engine {
    /// What this node is now.
    pub fn role(&self) -> Role {
        Role::of(&self.config.read())
    }

    /// Takes a new copy of what the mesh knows. Nothing may be locked.
    pub fn refresh_standing(&self, now: Now) {
        let configured: Vec<HostPort> = {
            let config = self.config.read();
            config.replicaof.iter().chain(&config.peer).cloned().collect()
        };
        if configured.is_empty() && !self.is_replicating() {
            return;
        }
        let mesh = self.mesh.lock();
        let own = mesh.own().origin;
        let standing = Standing {
            partners: configured.into_iter().map(|address| partner(&mesh, address, now)).collect(),
            replicas: replicas(&mesh, now),
            offset: mesh.vector().of(own).sequence,
        };
        drop(mesh);
        *self.standing.write() = standing;
    }
}

fn seconds(now: Now, since_ms: u64) -> u64 {
    now.unix_ms.saturating_sub(since_ms) / 1000
}

fn partner(mesh: &Mesh, address: HostPort, now: Now) -> Partner {
    let dialed = mesh_address(&address);
    let node = mesh.addresses().find(|(held, _)| **held == dialed).and_then(|(_, node)| node);
    let member = node.and_then(|node| mesh.members().find(|state| state.member.origin.node() == node));
    let link = node.and_then(|node| mesh.link_to(node));
    let pull = mesh.pull().filter(|pull| link.is_some_and(|(id, _)| id == pull.link));
    let last_io_s = link.map_or(-1, |(_, link)| seconds(now, link.heard_at_ms) as i64);
    Partner {
        address,
        up: link.is_some() && pull.is_none(),
        last_io_s,
        // Ranges are what is counted; their bytes are not known beforehand.
        sync: pull.map(|pull| Sync {
            total_bytes: pull.bytes.saturating_mul(pull.total.max(1) as u64) / (pull.done.max(1) as u64),
            read_bytes: pull.bytes,
            last_io_s,
        }),
        down_since_s: member.filter(|_| link.is_none()).map_or(0, |state| seconds(now, state.seen_at_ms)),
        offset: member.map_or(0, |state| mesh.vector().of(state.member.origin).sequence),
    }
}

fn replicas(mesh: &Mesh, now: Now) -> Vec<Replica> {
    let own = mesh.own().origin;
    let linked = mesh.links().filter_map(|(_, link)| Some((link, link.peer.as_ref()?)));
    linked
        .map(|(link, peer)| Replica {
            host: if peer.host.is_empty() { link.seen_host.clone() } else { peer.host.clone() },
            port: peer.port,
            state: if link.syncing { "send_bulk" } else { "online" },
            offset: link.vector.of(own).sequence,
            lag_s: seconds(now, link.heard_at_ms),
        })
        .collect()
}
