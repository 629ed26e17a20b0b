//! What INFO, ROLE and HELLO say about partners, primary and replicas.
//!
//! The link layer writes it, commands read it. Until a link exists it says what the configuration says:
//! partners that are down.

use crate::config::{Config, HostPort};

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
pub struct Replication {
    /// What this node is.
    pub role: Role,
    /// Whom it dials.
    pub partners: Vec<Partner>,
    /// Who follows it.
    pub replicas: Vec<Replica>,
    /// The history's id, 40 hexadecimal digits.
    pub replid: String,
    /// How far its own writes have come.
    pub offset: u64,
}

impl Replication {
    /// What the configuration says before any link is up.
    pub fn of(config: &Config) -> Self {
        let role = match (config.active_replica, config.replicaof.is_empty()) {
            (_, true) => Role::Master,
            (true, false) => Role::ActiveReplica,
            (false, false) => Role::Replica,
        };
        let down = |address: &HostPort| Partner {
            address: address.clone(),
            up: false,
            last_io_s: -1,
            sync: None,
            down_since_s: 0,
            offset: 0,
        };
        let partners = config.replicaof.iter().chain(&config.peer).map(down).collect();
        Replication { role, partners, replicas: Vec::new(), replid: String::new(), offset: 0 }
    }
}

impl Role {
    /// As INFO and KeyDB say it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::ActiveReplica => "active-replica",
            Role::Replica => "slave",
        }
    }
}
