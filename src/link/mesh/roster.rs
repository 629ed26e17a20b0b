//! Who is waited for, over a restart: what a node keeps on disk of the others.
//!
//! A member that is away may hold what was deleted meanwhile; tombstones wait for it. One that joined through another is in
//! nobody's configuration: should all that know it restart, nobody would wait. So each keeps its members, and waits for them
//! from its start as it would from a link's end.

use super::{Address, Mesh};
use crate::clock::{NodeId, Stamp};
use crate::link::frame::Member;

/// What a node keeps of the others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roster {
    /// Members that tombstones wait for.
    pub members: Vec<Known>,
    /// Nodes that are not to come back, and when that was said.
    pub forgotten: Vec<(NodeId, Stamp)>,
}

/// A member that tombstones wait for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Who and where.
    pub member: Member,
    /// Addresses it was configured under. Once none of them is configured any more, the operator has taken it out.
    pub configured: Vec<Address>,
}

impl Mesh {
    /// The members that tombstones wait for.
    pub fn known(&self, now_ms: u64) -> Vec<Known> {
        let awaited = self.members.values().filter(|state| !self.is_absent(state, now_ms));
        let configured = |node: NodeId| self.addresses().filter(move |(_, found)| *found == Some(node));
        awaited
            .map(|state| Known {
                member: state.member.clone(),
                configured: configured(state.member.origin.node()).map(|(at, _)| at.clone()).collect(),
            })
            .collect()
    }

    /// Waits for members known before a restart, but for those the operator has taken out since.
    pub fn restore(&mut self, known: Vec<Known>, now_ms: u64) {
        for Known { member, configured } in known {
            let is_wanted =
                configured.is_empty() || self.addresses().any(|(address, _)| configured.contains(address));
            if is_wanted {
                self.heard_of(member, now_ms);
            }
        }
    }
}
