//! Nodes that are not to come back: no link with them is taken, and nobody waits for them.
//!
//! What members have of such a node stays and is passed on among them, so that they end alike. A node comes back as a new
//! one, with another id, when its identity is removed from its disk.

use std::collections::BTreeSet;

use super::{Fault, Mesh};
use crate::clock::NodeId;

impl Mesh {
    /// Takes these nodes for the ones that are not to come back. Returns whether one of them is new.
    pub fn forget(&mut self, nodes: BTreeSet<NodeId>) -> bool {
        if nodes == self.forgotten {
            return false;
        }
        self.forgotten = nodes;
        self.drops_members();
        let (forgotten, own) = (&self.forgotten, self.own.origin.node());
        for link in self.links.values_mut() {
            let ended = link.node().filter(|node| forgotten.contains(node) || forgotten.contains(&own));
            if let Some(node) = ended {
                let which = if forgotten.contains(&own) { own } else { node };
                link.fault.get_or_insert(Fault::Forgotten(which));
            }
        }
        self.members.retain(|node, _| !forgotten.contains(node));
        for dial in
            self.dials.values_mut().filter(|dial| dial.node.is_some_and(|node| forgotten.contains(&node)))
        {
            dial.node = None;
        }
        self.dials.retain(|_, dial| dial.configured || dial.busy || dial.node.is_some() || dial.own);
        true
    }
}
