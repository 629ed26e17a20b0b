//! This node among others, as INFO, ROLE and HELLO tell it.
//!
//! A copy of what the mesh knows, taken several times a second: a command that asks for it may hold ranges, and the
//! mesh is locked before any range.

use std::sync::atomic::Ordering::Relaxed;

use super::replication::{is_follower, mesh_address};
use super::{Engine, Now};
use crate::clock::{NodeId, Origin};
use crate::config::{Config, HostPort};
use crate::link::mesh::{MemberState, Mesh, PartnerView};

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
    /// Batches of its own; on a replica, those of its primary that it holds.
    pub offset: u64,
    /// Bytes in the backlog.
    pub backlog_bytes: u64,
    /// The number of the first of them in the backlog; 0 if there is none.
    pub backlog_first: u64,
    /// Resyncs given to partners.
    pub syncs_given: u64,
    /// All members, and the partners not met yet.
    pub members: Vec<PartnerView>,
}

impl Standing {
    /// Whether fewer partners are up than there have to be: all, or the quorum.
    pub fn is_broken(&self, quorum: Option<u32>) -> bool {
        let up = self.partners.iter().filter(|partner| partner.up).count();
        up < quorum.map_or(self.partners.len(), |quorum| quorum as usize) && !self.partners.is_empty()
    }

    /// How many linked partners and replicas count for `min-replicas-to-write`.
    pub fn good_replicas(&self, lag_s_max: u64) -> usize {
        self.replicas.iter().filter(|replica| replica.state == "online" && replica.lag_s <= lag_s_max).count()
    }
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
            return self.judge_standing();
        }
        let mesh = self.mesh.lock();
        // What a replica holds and passes on was written by its primary: that is what its offsets count.
        let primary = configured.first().filter(|_| self.is_follower());
        let writer = primary.and_then(|address| member(&mesh, address)).map(|state| state.member.origin);
        let writer = writer.unwrap_or(mesh.own().origin);
        let standing = Standing {
            partners: configured.into_iter().map(|address| partner(&mesh, address, now)).collect(),
            replicas: replicas(&mesh, writer, now),
            offset: mesh.vector().of(writer).sequence,
            backlog_bytes: mesh.backlog().bytes() as u64,
            backlog_first: mesh.backlog().first(writer).unwrap_or(0),
            syncs_given: mesh.pulls_given(),
            members: mesh.partners(now.unix_ms),
        };
        drop(mesh);
        *self.standing.write() = standing;
        self.judge_standing();
    }

    /// Notes for every command what the standing forbids by the configuration.
    pub(super) fn judge_standing(&self) {
        let standing = self.standing.read();
        let config = self.config.read();
        let good = standing.good_replicas(config.min_replicas_max_lag_s);
        let lacks = config.wants_replicas() && good < config.min_replicas_to_write as usize;
        self.lacks_replicas.store(lacks, Relaxed);
        let is_stale = !config.replica_serve_stale_data && standing.is_broken(config.replica_quorum);
        self.is_stale.store(is_stale, Relaxed);
    }
}

fn seconds(now: Now, since_ms: u64) -> u64 {
    now.unix_ms.saturating_sub(since_ms) / 1000
}

fn node_at(mesh: &Mesh, address: &HostPort) -> Option<NodeId> {
    let dialed = mesh_address(address);
    mesh.addresses().find(|(held, _)| **held == dialed).and_then(|(_, node)| node)
}

fn member<'m>(mesh: &'m Mesh, address: &HostPort) -> Option<&'m MemberState> {
    let node = node_at(mesh, address)?;
    mesh.members().find(|state| state.member.origin.node() == node)
}

fn partner(mesh: &Mesh, address: HostPort, now: Now) -> Partner {
    let node = node_at(mesh, &address);
    let member = member(mesh, &address);
    let link = node.and_then(|node| mesh.link_to(node));
    // One without ranges only compares.
    let pull = mesh.pull().filter(|pull| pull.total > 0 && link.is_some_and(|(id, _)| id == pull.link));
    let last_io_s = link.map_or(-1, |(_, link)| seconds(now, link.heard_at_ms) as i64);
    let sync = match (pull, link) {
        // Ranges are what is counted; their bytes are not known beforehand.
        (Some(pull), _) => Some(Sync {
            total_bytes: pull.bytes.saturating_mul(pull.total.max(1) as u64) / (pull.done.max(1) as u64),
            read_bytes: pull.bytes,
            last_io_s,
        }),
        (None, Some((_, link))) if mesh.is_behind(link) => {
            Some(Sync { total_bytes: 0, read_bytes: 0, last_io_s })
        }
        (None, _) => None,
    };
    Partner {
        address,
        up: link.is_some() && sync.is_none(),
        last_io_s,
        sync,
        down_since_s: member.filter(|_| link.is_none()).map_or(0, |state| seconds(now, state.seen_at_ms)),
        offset: member.map_or(0, |state| mesh.vector().of(state.member.origin).sequence),
    }
}

fn replicas(mesh: &Mesh, writer: Origin, now: Now) -> Vec<Replica> {
    let linked = mesh.links().filter_map(|(_, link)| Some((link, link.peer.as_ref()?)));
    linked
        .map(|(link, peer)| Replica {
            host: if peer.host.is_empty() { link.seen_host.clone() } else { peer.host.clone() },
            port: peer.port,
            state: if link.syncing { "send_bulk" } else { "online" },
            offset: link.vector.of(writer).sequence,
            lag_s: seconds(now, link.heard_at_ms),
        })
        .collect()
}
