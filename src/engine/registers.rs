//! Cluster-wide registers: one value for all nodes, the latest stamp wins.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::clock::{NodeId, Stamp};
use crate::link::batch::Register;
use crate::link::codec;
use crate::store::digest;

/// The registers that were ever set.
#[derive(Debug, Default)]
pub struct Registers(RwLock<BTreeMap<Register, (Stamp, Vec<u8>)>>);

impl Registers {
    /// Takes a value over if it is newer than the one held. Returns whether it was.
    pub fn merge(&self, register: Register, stamp: Stamp, value: &[u8]) -> bool {
        let mut registers = self.0.write();
        if registers.get(&register).is_some_and(|(held, _)| *held >= stamp) {
            return false;
        }
        registers.insert(register, (stamp, value.to_vec()));
        true
    }

    /// The value of a register.
    pub fn value(&self, register: Register) -> Option<Vec<u8>> {
        self.0.read().get(&register).map(|(_, value)| value.clone())
    }

    /// Exchanges stamps.
    pub fn restamp(&self, exchange: impl Fn(Stamp) -> Stamp) {
        self.0.write().values_mut().for_each(|(stamp, _)| *stamp = exchange(*stamp));
    }

    /// A hash of all of them, alike on nodes that hold the same.
    pub fn digest(&self) -> u64 {
        let mut bytes = Vec::new();
        codec::encode(&self.all(), &mut bytes);
        digest::hash(&bytes)
    }

    /// The nodes that are not to come back, and when that was said.
    pub fn forgotten(&self) -> BTreeMap<NodeId, Stamp> {
        let registers = self.0.read();
        let forgotten = registers.iter().filter_map(|(register, (stamp, _))| match register {
            Register::Forgotten(node) => Some((*node, *stamp)),
            Register::Allowlist | Register::Owner => None,
        });
        forgotten.collect()
    }

    /// All of them, for a node that joins.
    pub fn all(&self) -> Vec<(Register, Stamp, Vec<u8>)> {
        self.0.read().iter().map(|(register, (stamp, value))| (*register, *stamp, value.clone())).collect()
    }
}
