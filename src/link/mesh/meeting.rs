//! Meeting peers: the first frame of a link, and the members that peers tell of.
//!
//! # One link per pair
//! Both nodes may dial at once. The link dialed by the node with the larger id stays; of two dialed by the
//! same node, the newer. Both ends decide alike without talking. What comes over the other one until its end is taken all
//! the same: the peer has acknowledged it.

use std::collections::BTreeSet;

use super::comparing::Proof;
use super::{Event, Fault, Link, LinkId, MemberState, Mesh, Want};
use crate::clock::{NTP64, NodeId, Origin};
use crate::link::batch::Register;
use crate::link::frame::{Floor, Frame, Hello, Member, VERSION};
use crate::link::vector::Vector;

impl Mesh {
    /// The peer's first frame.
    pub fn hello(&mut self, id: LinkId, hello: Hello, now_ms: u64) -> Result<(), Fault> {
        self.check_hello(&hello)?;
        let mut peer = hello.sender;
        let node = peer.origin.node();
        let Some(link) = self.links.get(&id) else { return Err(Fault::Closed) };
        if link.peer.is_some() {
            return Err(Fault::Unexpected("a second Hello"));
        }
        if peer.host.is_empty() {
            peer.host = match &link.dialed {
                Some((host, _)) => host.clone(),
                None => link.seen_host.clone(),
            };
        }
        self.supersede(id, &peer)?;
        let Some(link) = self.links.get_mut(&id) else { return Err(Fault::Closed) };
        link.peer = Some(peer.clone());
        link.had.clone_from(&hello.vector);
        link.vector = hello.vector;
        link.heard_at_ms = now_ms;
        let (dialed, seen_host) = (link.dialed.clone(), link.seen_host.clone());
        self.accepted(dialed, &seen_host, node);
        self.replace_at_its_address(&peer);
        self.met(peer, now_ms);
        // What was said on this link so far was said before its peer could be told of others.
        self.told.clear();
        self.hear_of(node, hello.members, now_ms);
        if let (Some(state), Some(link)) = (self.members.get_mut(&node), self.links.get(&id)) {
            state.told.clone_from(&link.vector);
            state.proof.begin();
        }
        // Of its partners one may have forgotten a deletion already that another still holds against what it brings:
        // only comparing with each of them ends alike everywhere.
        if let Some(state) = self.members.get_mut(&node)
            && std::mem::take(&mut state.estranged)
            && let Some(link) = self.links.get_mut(&id)
        {
            link.wants_pull = Some(Want::All);
        }
        self.events.push(Event::Up(node));
        Ok(())
    }

    /// Whether this node has links with such a peer.
    fn check_hello(&self, hello: &Hello) -> Result<(), Fault> {
        if hello.version != VERSION {
            return Err(Fault::Version(hello.version));
        }
        let (peer, own) = (hello.sender.origin, self.own.origin);
        if peer == own {
            return Err(Fault::Itself);
        }
        if peer.node() == own.node() {
            return Err(Fault::SameId(peer.node()));
        }
        // What the peer tells may be news here: it is about to close the link.
        let is_forgotten = |node: &NodeId| {
            let told = |(register, ..): &(Register, _, _)| *register == Register::Forgotten(*node);
            self.forgotten.contains(node) || *node == own.node() && hello.registers.iter().any(told)
        };
        match [peer.node(), own.node()].into_iter().find(is_forgotten) {
            Some(forgotten) => Err(Fault::Forgotten(forgotten)),
            None => Ok(()),
        }
    }

    /// Of two links to one peer the one stays that the node with the larger id has dialed; one to a former life goes.
    fn supersede(&mut self, id: LinkId, peer: &Member) -> Result<(), Fault> {
        let node = peer.origin.node();
        let Some((other_id, other)) = self.link_to(node) else { return Ok(()) };
        let Some(link) = self.links.get(&id) else { return Err(Fault::Closed) };
        let dialer = |link: &Link| if link.dialed.is_some() { self.own.origin.node() } else { node };
        let restarted = other.peer.as_ref().is_some_and(|held| held.origin != peer.origin);
        let stays = !restarted && dialer(other) > dialer(link);
        if stays {
            if let Some(address) = link.dialed.clone() {
                self.dial(address).node = Some(node);
            }
            if let Some(link) = self.links.get_mut(&id) {
                // What comes on it until the peer decides alike is taken.
                (link.peer, link.fault) = (Some(peer.clone()), Some(Fault::Duplicate));
            }
            return Err(Fault::Duplicate);
        }
        if let Some(other) = self.links.get_mut(&other_id) {
            other.fault = Some(Fault::Duplicate);
        }
        if self.pull.as_ref().is_some_and(|pull| pull.link == other_id) {
            self.abandon_pull();
        }
        Ok(())
    }

    /// Another node at its address is gone: its disk was wiped, or it moved. If it is linked, that turns out later.
    fn replace_at_its_address(&mut self, peer: &Member) {
        let linked: BTreeSet<NodeId> = self.linked().collect();
        let gone = |state: &MemberState| {
            let other = state.member.origin.node();
            state.member.address() == peer.address()
                && other != peer.origin.node()
                && !linked.contains(&other)
        };
        self.members.retain(|_, state| !gone(state));
    }

    /// Members a peer knows of.
    pub fn told_of(&mut self, id: LinkId, members: Vec<Member>, now_ms: u64) {
        let Some(node) = self.links.get(&id).and_then(Link::node) else { return };
        self.hear_of(node, members, now_ms);
    }

    /// A node that follows meets nobody but its primary, and so has no other way to learn who is gone.
    fn hear_of(&mut self, peer: NodeId, members: Vec<Member>, now_ms: u64) {
        if self.own.follower {
            let is_named = |node| members.iter().any(|member| member.origin.node() == node);
            self.members.retain(|node, state| *node == peer || state.member.follower || is_named(*node));
        }
        members.into_iter().for_each(|member| self.heard_of(member, now_ms));
        self.tell_members();
    }

    pub(super) fn heard_of(&mut self, member: Member, now_ms: u64) {
        let node = member.origin.node();
        if node != self.own.origin.node() && !self.forgotten.contains(&node) && !self.is_gone(&member) {
            self.met(member, now_ms);
        }
    }

    fn met(&mut self, member: Member, now_ms: u64) {
        let node = member.origin.node();
        let unknown = Floor { origin: member.origin, floor: NTP64(0), at: NTP64(0), of: Vec::new() };
        if self.members.get(&node).is_none_or(|state| member.origin > state.member.origin) {
            // Floors told so far leave out what it has written.
            self.members.values_mut().for_each(|state| state.floor = NTP64(0));
        }
        let state = self.members.entry(node).or_insert_with(|| MemberState {
            member: member.clone(),
            seen_at_ms: now_ms,
            floor: NTP64(0),
            reported: unknown.clone(),
            estranged: false,
            skewed: false,
            told: Vector::default(),
            proof: Proof::default(),
        });
        if member.origin > state.member.origin {
            // A new life has merged nothing yet.
            (state.floor, state.reported, state.told) = (NTP64(0), unknown, Vector::default());
        }
        if member.origin >= state.member.origin {
            state.member = member.clone();
        }
        if !self.own.follower && !member.follower && member.port != 0 && !member.host.is_empty() {
            let dial = self.dial((member.host, member.port));
            dial.node.get_or_insert(node);
        }
    }

    /// The members that concern others. A replica concerns its primary only, which alone gets word of it when it is gone.
    pub(super) fn told_members(&self) -> Vec<Member> {
        let members = self.members.values().map(|state| &state.member);
        members.filter(|member| !member.follower).cloned().collect()
    }

    /// Whether another node lives where this member is said to: its disk was wiped, and word of it comes late.
    fn is_gone(&self, member: &Member) -> bool {
        let node = member.origin.node();
        self.dials.get(&member.address()).is_some_and(|dial| dial.own)
            || self.links.values().filter(|link| link.fault.is_none()).any(|link| {
                link.peer
                    .as_ref()
                    .is_some_and(|peer| peer.origin.node() != node && peer.address() == member.address())
            })
    }

    /// Tells the peers of all members if there are others than they were told of last.
    pub(super) fn tell_members(&mut self) {
        let members = self.told_members();
        let origins: Vec<Origin> = members.iter().map(|member| member.origin).collect();
        if self.told != origins {
            self.told = origins;
            for link in self.links.values_mut().filter(|link| link.peer.is_some()) {
                link.say(Frame::Members(members.clone()));
            }
        }
    }
}
