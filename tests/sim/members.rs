//! Who is told of whom, at the start and at run time.
//!
//! Nodes that are there from the beginning, and those that join, are configured to be active, with a `replicaof` per
//! partner; those that come as replicas are not, as in a plain configuration. What a node is told at run time it
//! has in its configuration when it restarts, as by CONFIG REWRITE.
//!
//! What comes of what they are told:
//! - A replica that is promoted is a master alone, which shares nothing with the others from there on, until somebody names it
//!   as a partner: then all of them are. Those it was a partner of before it followed may still dial it.
//! - A promoted node, or a replica, that is told to follow drops what it holds as soon as its primary accepts it.
//! - A partner that is taken out is met again as long as it dials this node itself, or a third one tells of it. Two that were
//!   both told so while apart may stay apart, and get each other's writes through a third, if there is one.
//!
//! - Nobody has what a master alone has written, nor will when it follows again.
//!
//! Nodes that may come to be linked are a *cluster*. Each is to be equal in itself.

use std::collections::BTreeSet;

use meldis::clock::{NodeId, Origin};
use meldis::config::{self, Config};
use meldis::engine::Engine;
use meldis::resp::args::OwnedArgs;

use crate::disk::Disk;
use crate::net::{PORT, host};
use crate::world::{Node, World};

/// Conflicts that the nodes log: all there are.
const CONFLICTS: u64 = 100_000;

impl World {
    pub fn config(&self, node: usize) -> Config {
        let Node { is_plain, partners, follows, .. } = &self.nodes[node];
        let mut text = format!("port {PORT}\nrepl-timeout 2\nconflict-log-max-len {CONFLICTS}\n");
        text += &format!("repl-backlog-size {}\n", self.plan.backlog_bytes);
        text += &format!("peer-max-absence {}\n", self.plan.absence_s);
        if !is_plain {
            text += "active-replica yes\nmulti-master yes\n";
        }
        text += self.nodes[node].disk.as_ref().map_or("", Disk::directives);
        for other in partners.iter().chain(follows) {
            text += &format!("replicaof {} {PORT}\n", host(*other));
        }
        Config::parse(&config::of_text("meldis.conf", &text)).expect("it is valid")
    }

    /// Whom a node's configuration names that is there from the beginning.
    pub fn name_partners(&mut self, node: usize) {
        let others = (0..self.plan.nodes).filter(|other| *other != node);
        let is_named = |other: &usize| self.plan.full_mesh || node == 0 || *other == 0;
        self.nodes[node].partners = others.filter(is_named).collect();
    }

    /// A new node comes, which knows one other.
    pub fn join(&mut self, node: usize, knows: usize) {
        let at = &mut self.nodes[node];
        if !at.is_member {
            (at.is_member, at.joined, at.is_plain) = (true, true, false);
            (at.partners, at.follows) = (BTreeSet::from([knows]), None);
            self.start(node);
        }
    }

    /// A new node comes, which follows another; or one that came so is told to.
    pub fn follow(&mut self, node: usize, primary: usize) {
        let at = &mut self.nodes[node];
        if !at.is_member {
            (at.is_member, at.joined, at.is_plain) = (true, true, true);
            (at.partners, at.follows) = (BTreeSet::new(), Some(primary));
            return self.start(node);
        }
        if at.is_plain && at.engine.is_some() && primary != node && self.nodes[primary].follows.is_none() {
            self.tell(node, &["REPLICAOF", &host(primary), &PORT.to_string()]);
            self.nodes[node].follows = Some(primary);
            self.has_turned = true;
        }
    }

    /// A replica is told to be a master.
    pub fn promote(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        if at.is_plain && at.engine.is_some() && at.follows.is_some() {
            at.follows = None;
            self.tell(node, &["REPLICAOF", "NO", "ONE"]);
            self.has_turned = true;
            if self.is_alone(node) && !self.is_named(node) {
                self.nodes[node].apart_since = Some(self.engine(node).clock.last());
            } else {
                // It has met nobody yet.
                self.watch.has_lost_someone();
            }
        }
    }

    /// An active node is told of a partner. What either has forgotten without the other may come back.
    pub fn partner(&mut self, node: usize, partner: usize) {
        let at = &self.nodes[node];
        if !at.is_plain && at.engine.is_some() && node != partner {
            self.tell(node, &["REPLICAOF", &host(partner), &PORT.to_string()]);
            self.nodes[node].partners.insert(partner);
            self.nodes[partner].apart_since = None;
            self.has_turned = true;
            self.watch.has_lost_someone();
        }
    }

    /// An active node is told to do without a partner, and so waits for it no longer.
    pub fn part(&mut self, node: usize, partner: usize) {
        let at = &mut self.nodes[node];
        if at.engine.is_some() && at.partners.remove(&partner) {
            self.tell(node, &["REPLICAOF", "REMOVE", &host(partner), &PORT.to_string()]);
            self.parted.insert((node.min(partner), node.max(partner)));
            self.watch.has_lost_someone();
        }
    }

    /// Whether a node that may be down will dial another when it is back.
    fn is_named(&self, node: usize) -> bool {
        let is_kept = |at: &Node| {
            let mut members = at.roster.members.iter().map(|known| &known.member);
            members.any(|member| member.origin.node() == self.nodes[node].id && !member.follower)
        };
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != node);
        others.into_iter().any(|(_, at)| at.partners.contains(&node) || is_kept(at))
    }

    /// A promoted node that nobody names has no link.
    pub fn check_apart(&mut self) {
        for node in self.up() {
            let at = &self.nodes[node];
            let is_apart = at.apart_since.is_some() && at.follows.is_none();
            if is_apart && self.engine(node).mesh.lock().links().next().is_some() {
                self.watch.breach(format!("n{node} was promoted, and has a link"));
            }
        }
    }

    fn tell(&mut self, node: usize, words: &[&str]) {
        let now = self.now(node);
        let engine = self.engine(node);
        let mut session = engine.connect("operator:1".into(), "s:1".into(), now, 0);
        let args: OwnedArgs = words.iter().map(|word| word.as_bytes()).collect();
        let mut out = Vec::new();
        engine.execute(&mut session, args.args(), &mut out, now, 0);
        engine.disconnect(&mut session);
        self.write_before_reply(node);
        if self.nodes[node].disk.is_some() {
            // Who is alone with its data must not meet the others when it restarts.
            self.nodes[node].roster = self.engine(node).roster(now);
        }
        let reply = String::from_utf8_lossy(&out).into_owned();
        if !reply.starts_with("+OK") {
            self.watch.breach(format!("n{node} was told {words:?}, and said {reply}"));
        }
    }

    /// A node, but not this one, that is in nobody's configuration and that nobody knows any more who would wait for it: a
    /// replica that its primary does not know, or one that joined and that no other does.
    pub fn is_anyone_lost(&self, but: Option<usize>) -> bool {
        let knows = |at: &Node, id| at.roster.members.iter().any(|known| known.member.origin.node() == id);
        let members = || self.nodes.iter().filter(|node| node.is_member);
        (0..self.nodes.len()).filter(|node| Some(*node) != but).any(|node| match &self.nodes[node] {
            Node { is_member: false, .. } => false,
            Node { follows: Some(primary), id, .. } => !knows(&self.nodes[*primary], *id),
            Node { joined: true, id, .. } => !members().any(|other| other.id != *id && knows(other, *id)),
            _ => false,
        })
    }

    /// Whether a node knows of no other when it starts, though others may know of it, and dial it: what it deletes until then
    /// they may bring back.
    pub fn awaits_nobody(&self, node: usize) -> bool {
        let Node { partners, follows, roster, .. } = &self.nodes[node];
        partners.is_empty() && follows.is_none() && roster.members.is_empty()
    }

    /// Whether a node waits for another, also should it restart.
    pub fn knows(&self, node: usize, id: NodeId) -> bool {
        let Node { roster, engine, .. } = &self.nodes[node];
        let is_met =
            |engine: &Engine| engine.mesh.lock().members().any(|state| state.member.origin.node() == id);
        roster.members.iter().any(|known| known.member.origin.node() == id)
            && engine.as_ref().is_none_or(is_met)
    }

    /// Whether a node is linked with another, or will be.
    fn meets(&self, node: usize, other: usize) -> bool {
        let reaches = |from: usize, to: usize| {
            let mesh = self.engine(from).mesh.lock();
            mesh.dials(&(host(to), PORT)) || mesh.link_to(self.nodes[to].id).is_some()
        };
        reaches(node, other) || reaches(other, node)
    }

    /// Whether a node is up, and neither linked with anybody nor will be.
    pub fn is_alone(&self, node: usize) -> bool {
        let others = || self.up().into_iter().filter(|other| *other != node);
        self.has_changed()
            && self.nodes[node].engine.is_some()
            && !others().any(|other| self.meets(node, other))
    }

    fn has_changed(&self) -> bool {
        self.has_turned || !self.parted.is_empty()
    }

    /// The nodes that are up, by who may come to be linked.
    pub fn clusters(&self) -> Vec<Vec<usize>> {
        let mut clusters: Vec<Vec<usize>> = Vec::new();
        if !self.has_changed() {
            return vec![self.up()];
        }
        for node in self.up() {
            let is_met = |cluster: &Vec<usize>| cluster.iter().any(|other| self.meets(node, *other));
            let (met, others): (Vec<_>, Vec<_>) = clusters.into_iter().partition(is_met);
            clusters = others;
            let mut cluster: Vec<usize> = met.concat();
            cluster.push(node);
            cluster.sort_unstable();
            clusters.push(cluster);
        }
        clusters
    }

    /// Whether a node is linked with whom it is to be, and with nobody else.
    pub fn has_its_links(&self, node: usize, cluster: &[usize]) -> bool {
        let mut linked: BTreeSet<_> = self.engine(node).mesh.lock().linked().collect();
        let others = cluster.iter().filter(|other| **other != node);
        let all = others.fold(true, |all, other| {
            let is_linked = linked.remove(&self.nodes[*other].id);
            all && self.is_to_be_linked(node, *other).is_none_or(|is_to| is_to == is_linked)
        });
        all && linked.is_empty()
    }

    /// Whether two nodes of a cluster are linked when all is well; `None` if they need not be.
    fn is_to_be_linked(&self, a: usize, b: usize) -> Option<bool> {
        match (self.nodes[a].follows, self.nodes[b].follows) {
            (None, None) => (!self.parted.contains(&(a.min(b), a.max(b)))).then_some(true),
            (Some(primary), _) if primary == b => Some(true),
            (_, Some(primary)) if primary == a => Some(true),
            // Its partners of before may still dial it.
            _ => (!self.has_changed()).then_some(false),
        }
    }

    /// Whether a node waits for one that is not there any more as it knows it: a replica that has gone to another primary or
    /// was promoted.
    pub fn is_anyone_awaited(&self) -> bool {
        let clusters = self.clusters();
        clusters.iter().any(|cluster| {
            let lives: Vec<Origin> = cluster.iter().map(|node| self.engine(*node).clock.origin()).collect();
            cluster.iter().any(|node| {
                let mesh = self.engine(*node).mesh.lock();
                mesh.members().any(|state| !lives.contains(&state.member.origin))
            })
        })
    }
}
