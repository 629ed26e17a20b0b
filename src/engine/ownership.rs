//! Who owns the slots in the eyes of cluster clients: keeping the [`Topology`](super::cluster::Topology) in step with
//! the links, and claiming ownership when it falls to this node.
//!
//! The owner is a cluster-wide register, told in the first frame of every link, so a node that joins or returns knows it
//! before it could claim. While nobody has ever claimed, the live node with the smallest id does: at once when
//! linked, after [`ALONE_MS`] when alone. Afterwards the register changes only when its node is gone.

use std::sync::atomic::Ordering;

use super::keyspace::{Keyspace, Locks};
use super::{Engine, Now};
use crate::clock::NodeId;
use crate::link::batch::{Record, Register};
use crate::link::mesh::Mesh;

/// A linked node not heard of for so long cannot own.
const SILENT_MS: u64 = 400;
/// A node without any link claims what nobody owns after so long.
const ALONE_MS: u64 = 1000;

impl Engine {
    /// Tells the topology what the links say, and claims ownership if it falls to this node.
    pub(super) fn refresh_topology(&self, mesh: &Mesh, now: Now) {
        let _ = self.first_tick_ms.compare_exchange(0, now.unix_ms, Ordering::Relaxed, Ordering::Relaxed);
        let mut topology = self.topology.write();
        let gone: Vec<NodeId> = topology
            .members()
            .map(|(node, _)| node)
            .filter(|node| !mesh.members().any(|state| state.member.origin.node() == *node))
            .collect();
        gone.into_iter().for_each(|node| topology.member_removed(node));
        for state in mesh.members().filter(|state| !state.member.follower) {
            let node = state.member.origin.node();
            topology.member_seen(node, &state.member.host, state.member.port);
            let link = mesh.link_to(node).map(|(_, link)| link);
            let alive = link.is_some_and(|link| {
                !link.leaving && (link.held || now.unix_ms.saturating_sub(link.heard_at_ms) < SILENT_MS)
            });
            if alive {
                topology.link_up(node)
            } else {
                topology.link_down(node)
            }
            if let Some(link) = link {
                topology.set_syncing(node, link.syncing);
                if let Ok(ip) = link.seen_host.parse() {
                    topology.address_seen(node, ip);
                }
            }
        }
        let own = topology.own();
        topology.set_syncing(own, mesh.is_syncing());
        let claimed = self.registers.value(Register::Owner).is_some();
        let due = if claimed { topology.due_owner() } else { topology.first_owner() };
        let linked = mesh.linked().next().is_some();
        let alone_for_ms = now.unix_ms.saturating_sub(self.first_tick_ms.load(Ordering::Relaxed));
        let claims = due == own
            && !mesh.own().follower
            && if claimed { topology.owner() != own } else { linked || alone_for_ms >= ALONE_MS };
        drop(topology);
        if claims {
            self.set_owner(own, now, 0);
        }
    }

    /// Names another owner to all nodes.
    fn set_owner(&self, node: NodeId, now: Now, thread: usize) {
        let value = node.to_string().into_bytes();
        let mut keys = Keyspace::new(self, Locks::None, 0, now, thread);
        let stamp = keys.stamp();
        keys.record(&Record::Register(Register::Owner, &value));
        self.registers.merge(Register::Owner, stamp, &value);
        self.topology.write().set_owner(node);
        self.conclude(keys, thread);
    }

    /// A planned stop: names a successor if this node owns, and tells the peers. The links then have to be polled until
    /// they have sent it.
    pub fn hand_over(&self, now: Now, thread: usize) {
        let mut mesh = self.mesh.lock();
        let (own, successor) = {
            let topology = self.topology.read();
            let fit = topology.members().filter(|(_, member)| member.alive && !member.syncing);
            (topology.owner() == topology.own(), fit.map(|(node, _)| node).min())
        };
        if let Some(successor) = successor.filter(|_| own) {
            self.set_owner(successor, now, thread);
        }
        mesh.say_bye();
        drop(mesh);
        self.wake_all_links();
    }
}
