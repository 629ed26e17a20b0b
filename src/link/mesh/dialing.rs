//! Whom to dial, and when: configured addresses and those of members, each with a pause that grows while nobody answers.

use std::collections::BTreeSet;

use super::{Address, Event, Fault, LinkId, Mesh};
use crate::clock::NodeId;

/// First and last pause between two attempts to dial an address.
pub(super) const BACKOFF_MS: (u64, u64) = (50, 1000);
/// Most refusals of callers remembered. Beyond, all are forgotten, and told anew when they come again.
const CALLERS_REFUSED_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) node: Option<NodeId>,
    /// An attempt or a link of it is under way.
    pub(super) busy: bool,
    pub(super) next_at_ms: u64,
    pub(super) pause_ms: u64,
    /// It turned out to be this node.
    pub(super) own: bool,
    pub(super) configured: bool,
    /// Why the peer did not take the link, if somebody has to see to it.
    pub(super) refusal: Option<String>,
    /// The refusal that was told of. It stays while nobody answers, until a link is taken.
    told: Option<String>,
}

impl Mesh {
    /// Adds an address to be dialed for as long as it is configured.
    pub fn add_address(&mut self, address: Address) {
        self.dial(address).configured = true;
    }

    /// Takes these addresses for the configured ones, and drops the links to others.
    pub fn set_addresses(&mut self, addresses: Vec<Address>) {
        let held: Vec<Address> = self.addresses().map(|(address, _)| address.clone()).collect();
        for address in held.iter().filter(|address| !addresses.contains(address)) {
            self.remove_address(address);
        }
        if addresses.is_empty() {
            // Alone: members met through others go too.
            self.drops_members();
            self.members.clear();
            self.dials.clear();
            self.end_links(&Fault::Closed);
        }
        addresses.into_iter().for_each(|address| self.add_address(address));
    }

    /// Forgets a configured address; the link to it ends. Returns whether it was configured.
    pub fn remove_address(&mut self, address: &Address) -> bool {
        let Some(dial) = self.dials.get_mut(address).filter(|dial| dial.configured) else { return false };
        dial.configured = false;
        let node = dial.node;
        self.dials.remove(address);
        if let Some(node) = node {
            self.drops_members();
            self.members.remove(&node);
            self.dials.retain(|_, dial| dial.configured || dial.node != Some(node));
        }
        for link in self.links.values_mut() {
            if link.dialed.as_ref() == Some(address) || (node.is_some() && link.node() == node) {
                link.fault.get_or_insert(Fault::Closed);
            }
        }
        true
    }

    /// The configured addresses, with the node found there.
    pub fn addresses(&self) -> impl Iterator<Item = (&Address, Option<NodeId>)> {
        self.dials.iter().filter(|(_, dial)| dial.configured).map(|(address, dial)| (address, dial.node))
    }

    /// Whether an address is dialed as long as there is no link to the node there.
    pub fn dials(&self, address: &Address) -> bool {
        self.dials.get(address).is_some_and(|dial| !dial.own)
    }

    /// Whether this node dialed a link, under an address that is configured.
    pub fn is_dialed_as_configured(&self, id: LinkId) -> bool {
        let dialed = self.links.get(&id).and_then(|link| link.dialed.as_ref());
        dialed.and_then(|address| self.dials.get(address)).is_some_and(|dial| dial.configured)
    }

    /// Addresses whose turn it is. Each is to be answered by [`Self::open`] or [`Self::dial_failed`].
    pub fn dials_due(&mut self, now_ms: u64) -> Vec<Address> {
        let linked: BTreeSet<NodeId> = self.linked().collect();
        let mut due = Vec::new();
        for (address, dial) in &mut self.dials {
            let wanted = !dial.own && !dial.busy && dial.node.is_none_or(|node| !linked.contains(&node));
            if wanted && (dial.next_at_ms <= now_ms || dial.next_at_ms > now_ms + BACKOFF_MS.1) {
                dial.busy = true;
                due.push(address.clone());
            }
        }
        due
    }

    /// An attempt failed, by a refusal or because nobody answers: the next one comes after a longer pause.
    pub fn dial_failed(&mut self, address: &Address, refusal: Option<String>, now_ms: u64) {
        if let Some(dial) = self.dials.get_mut(address) {
            if let Some(reason) = refusal.as_ref().filter(|reason| dial.told.as_ref() != Some(reason)) {
                dial.told = Some(reason.clone());
                self.events.push(Event::Refused(address.clone(), reason.clone()));
            }
            dial.refusal = refusal;
            dial.busy = false;
            dial.next_at_ms = now_ms + dial.pause_ms;
            dial.pause_ms = (dial.pause_ms * 2).min(BACKOFF_MS.1);
        }
    }

    /// A link that a peer dialed ended before it came to be.
    pub(super) fn caller_refused(&mut self, host: String, fault: &Fault) {
        let Some(reason) = refusal(fault) else { return };
        if self.callers_refused.len() >= CALLERS_REFUSED_MAX {
            self.callers_refused.clear();
        }
        if self.callers_refused.insert((host.clone(), reason)) {
            self.events.push(Event::CallerRefused(host, fault.clone()));
        }
    }

    /// A link came to be: a refusal from now on is news.
    pub(super) fn accepted(&mut self, dialed: Option<Address>, seen_host: &str, node: NodeId) {
        match dialed {
            Some(address) => {
                let dial = self.dial(address);
                (dial.node, dial.pause_ms) = (Some(node), BACKOFF_MS.0);
                (dial.refusal, dial.told) = (None, None);
            }
            None => self.callers_refused.retain(|(host, _)| host != seen_host),
        }
    }

    pub(super) fn dial(&mut self, address: Address) -> &mut Dial {
        self.dials.entry(address).or_insert(Dial {
            node: None,
            busy: false,
            next_at_ms: 0,
            pause_ms: BACKOFF_MS.0,
            own: false,
            configured: false,
            refusal: None,
            told: None,
        })
    }
}

/// What is told of a link that never came to be, if somebody has to see to it.
pub(super) fn refusal(fault: &Fault) -> Option<String> {
    let is_refusal = matches!(fault, Fault::Version(_) | Fault::SameId(_) | Fault::Forgotten(_));
    is_refusal.then(|| fault.to_string())
}
