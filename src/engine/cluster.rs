//! The face that cluster clients see: who the members are and who owns the slots.
//!
//! Problem: every node takes every key, but a cluster client wants one writer per slot. If each node named itself,
//! two workers could take one job; a fixed split breaks pipelines over random keys; an owner that never changes
//! leaves clients with redirections for ever. So all nodes name the same owner of all slots, the others as its
//! replicas, and the owner changes only when it must: [`due_owner`]. A dead member stays listed, because some
//! clients know only the nodes last listed.
//!
//! [`Topology`] is what the link layer reports; [`Face`] is how it looks at one moment over one connection, as the
//! own address is that which the client reached us by. Pure: no sockets, no clock.
//!
//! Reference: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use crate::clock::NodeId;
use crate::config::{ClusterOwner, Config};
use crate::resp::reply::Reply;

/// Slots of a cluster.
pub const SLOTS: u16 = 16_384;
/// Addresses remembered per member: the latest ones.
const ADDRESSES_MAX: usize = 8;

/// A member as the link layer knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// What it announces; never empty.
    pub host: String,
    /// Likewise.
    pub port: u16,
    /// Whether a link to it is up.
    pub alive: bool,
    /// Whether it still takes over state that others have.
    pub syncing: bool,
    /// Where its links came from or go to.
    addresses: Vec<IpAddr>,
}

/// The members and the owner, as this node sees them.
#[derive(Debug)]
pub struct Topology {
    own: NodeId,
    own_syncing: bool,
    /// The others.
    members: BTreeMap<NodeId, Member>,
    owner: NodeId,
    /// Rises with every change of the owner that this node saw.
    epoch: u64,
}

/// A candidate for ownership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Who.
    pub node: NodeId,
    /// Whether it can be reached.
    pub alive: bool,
    /// Whether it still takes over state.
    pub syncing: bool,
}

/// Who should own the slots: the current owner as long as it lives, then the live node with the smallest id. A
/// syncing node never does. Where nobody may, all stays as it is.
pub fn due_owner(candidates: impl IntoIterator<Item = Candidate>, current: NodeId) -> NodeId {
    let fit = candidates.into_iter().filter(|candidate| candidate.alive && !candidate.syncing);
    fit.map(|candidate| (candidate.node != current, candidate.node)).min().map_or(current, |(_, node)| node)
}

impl Topology {
    /// A node alone, which owns everything.
    pub fn new(own: NodeId) -> Self {
        Topology { own, own_syncing: false, members: BTreeMap::new(), owner: own, epoch: 1 }
    }

    /// This node.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// Who owns the slots.
    pub fn owner(&self) -> NodeId {
        self.owner
    }

    /// The other members, by id.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(node, member)| (*node, member))
    }

    /// A member announces where clients reach it. An empty host is ignored: it would have clients reconnect for ever.
    pub fn member_seen(&mut self, node: NodeId, host: &str, port: u16) {
        if node == self.own || host.is_empty() || port == 0 {
            return;
        }
        let member = self.members.entry(node).or_default();
        host.clone_into(&mut member.host);
        member.port = port;
        if let Ok(ip) = host.parse() {
            self.address_seen(node, ip);
        }
    }

    /// A link to a member goes to or comes from this address. [`Self::member_seen`] comes first.
    pub fn address_seen(&mut self, node: NodeId, ip: IpAddr) {
        let ip = ip.to_canonical();
        if let Some(member) = self.members.get_mut(&node)
            && !member.addresses.contains(&ip)
        {
            if member.addresses.len() == ADDRESSES_MAX {
                member.addresses.remove(0);
            }
            member.addresses.push(ip);
        }
    }

    /// Whether a member has been seen at this address.
    pub fn is_member_address(&self, ip: IpAddr) -> bool {
        self.members.values().any(|member| member.addresses.contains(&ip.to_canonical()))
    }

    /// A member was removed from the cluster for good.
    pub fn member_removed(&mut self, node: NodeId) {
        self.members.remove(&node);
    }

    /// A link to a member is up.
    pub fn link_up(&mut self, node: NodeId) {
        if let Some(member) = self.members.get_mut(&node) {
            member.alive = true;
        }
    }

    /// No link to a member is up any more, or it went silent.
    pub fn link_down(&mut self, node: NodeId) {
        if let Some(member) = self.members.get_mut(&node) {
            member.alive = false;
        }
    }

    /// A node, or this one, begins or ends to take over state that others have.
    pub fn set_syncing(&mut self, node: NodeId, syncing: bool) {
        if node == self.own {
            self.own_syncing = syncing;
        } else if let Some(member) = self.members.get_mut(&node) {
            member.syncing = syncing;
        }
    }

    /// The cluster agreed on another owner. Its being unknown here is a matter of moments.
    pub fn set_owner(&mut self, node: NodeId) {
        if self.owner != node {
            self.owner = node;
            self.epoch += 1;
        }
    }

    /// Who should own the slots by what is known here; see [`due_owner`]. If that is this node and not the owner
    /// yet, it is this node's to claim: [`Self::set_owner`], and the register for the others.
    pub fn due_owner(&self) -> NodeId {
        let own = Candidate { node: self.own, alive: true, syncing: self.own_syncing };
        let others = self.members.iter();
        let others = others.map(|(node, member)| Candidate {
            node: *node,
            alive: member.alive,
            syncing: member.syncing,
        });
        due_owner(others.chain([own]), self.owner)
    }

    /// Who should own the slots when nobody ever did: of the live nodes the one with the smallest id.
    pub fn first_owner(&self) -> NodeId {
        let live = self.members.iter().filter(|(_, member)| member.alive && !member.syncing);
        live.map(|(node, _)| *node).chain([self.own]).min().unwrap_or(self.own)
    }

    /// Whether CLUSTER is answered, and INFO says `cluster_enabled:1`: as configured, else if there are partners.
    pub fn emulates(&self, config: &Config) -> bool {
        config
            .cluster_emulation
            .unwrap_or_else(|| !self.members.is_empty() || config.equals().next().is_some())
    }

    /// How it looks to a client that reached this node at `local_addr`.
    pub fn face(&self, config: &Config, local_addr: &str) -> Face {
        let (host, port) = own_address(config, local_addr);
        let own = Node {
            node: self.own,
            id: cluster_id(self.own),
            host,
            port,
            alive: true,
            syncing: self.own_syncing,
            is_self: true,
            role: Role::Replica(0),
        };
        let others = self.members.iter();
        let others = others.map(|(node, member)| Node {
            node: *node,
            id: cluster_id(*node),
            host: member.host.clone(),
            port: member.port,
            alive: member.alive,
            syncing: member.syncing,
            is_self: false,
            role: Role::Replica(0),
        });
        let mut nodes: Vec<Node> = others.chain([own]).collect();
        nodes.sort_by_key(|node| node.node);
        match config.cluster_owner {
            ClusterOwner::Sticky => give_all(&mut nodes, self.owner),
            ClusterOwner::Split => share(&mut nodes),
        }
        Face { nodes, epoch: self.epoch }
    }
}

/// The own address as clients are told: what is announced, else where this client reached us.
fn own_address(config: &Config, local_addr: &str) -> (String, u16) {
    let local: Option<SocketAddr> = local_addr.parse().ok();
    let announced = config.cluster_announce_ip.as_ref().or(config.replica_announce_ip.as_ref());
    // A Unix socket's client can only be told the loopback address.
    let host = announced.cloned().unwrap_or_else(|| match local {
        Some(local) => local.ip().to_canonical().to_string(),
        None => "127.0.0.1".to_owned(),
    });
    let port = config.cluster_announce_port.or(config.replica_announce_port);
    (host, port.unwrap_or_else(|| local.map_or(config.port, |local| local.port())))
}

fn give_all(nodes: &mut [Node], owner: NodeId) {
    // An owner not seen yet cannot be listed: until then the first live node stands in.
    let master = nodes.iter().position(|node| node.node == owner);
    let master = master.or_else(|| nodes.iter().position(|node| node.alive)).unwrap_or(0);
    for (index, node) in nodes.iter_mut().enumerate() {
        node.role = if index == master { Role::Master(0..=SLOTS - 1) } else { Role::Replica(master) };
    }
}

/// Equal shares for the nodes that may own; the others stand as replicas of the first.
fn share(nodes: &mut [Node]) {
    let fit: Vec<usize> = (0..nodes.len()).filter(|&at| nodes[at].alive && !nodes[at].syncing).collect();
    let Some(&first) = fit.first() else {
        let own = nodes.iter().position(|node| node.is_self).expect("this node is listed");
        let own = nodes[own].node;
        return give_all(nodes, own);
    };
    nodes.iter_mut().for_each(|node| node.role = Role::Replica(first));
    let bound = |share: usize| (usize::from(SLOTS) * share / fit.len()) as u16;
    for (share, &at) in fit.iter().enumerate().take(usize::from(SLOTS)) {
        nodes[at].role = Role::Master(bound(share)..=bound(share + 1) - 1);
    }
}

/// What a node is to cluster clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Owns these slots.
    Master(RangeInclusive<u16>),
    /// Replica of the node at this index.
    Replica(usize),
}

/// A node as cluster clients see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Who.
    pub node: NodeId,
    /// Its id in CLUSTER replies: 40 hex digits.
    pub id: String,
    /// Never empty.
    pub host: String,
    /// Never 0, but for a server that only listens on a Unix socket.
    pub port: u16,
    /// Whether it can be reached.
    pub alive: bool,
    /// Whether it still takes over state.
    pub syncing: bool,
    /// Whether it is this one.
    pub is_self: bool,
    /// What it is.
    pub role: Role,
}

/// A node's id in CLUSTER replies: its ten hex digits, then zeros up to Redis's forty.
pub fn cluster_id(node: NodeId) -> String {
    format!("{node}{:030}", 0)
}

/// The cluster at one moment, over one connection: what CLUSTER's subcommands write out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Face {
    /// All nodes, by id.
    pub nodes: Vec<Node>,
    /// The configuration epoch.
    pub epoch: u64,
}

impl Face {
    /// This node.
    pub fn own(&self) -> &Node {
        self.nodes.iter().find(|node| node.is_self).expect("this node is listed")
    }

    /// The node of an id in CLUSTER's form.
    pub fn find(&self, id: &[u8]) -> Option<usize> {
        self.nodes.iter().position(|node| node.id.as_bytes() == id)
    }

    /// The id that shards carry: the master's, but the smallest member's where one node owns all, so that it stays.
    pub fn shard_id(&self) -> &str {
        match self.own().role {
            Role::Master(ref slots) if slots.len() < usize::from(SLOTS) => &self.own().id,
            Role::Master(_) | Role::Replica(_) => &self.nodes[0].id,
        }
    }

    /// The nodes at these indices are the replicas of the one at `master`.
    pub fn replicas(&self, master: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.nodes.len()).filter(move |&at| self.nodes[at].role == Role::Replica(master))
    }

    fn shards(&self) -> impl Iterator<Item = (usize, &RangeInclusive<u16>)> + Clone {
        self.nodes.iter().enumerate().filter_map(|(at, node)| match &node.role {
            Role::Master(slots) => Some((at, slots)),
            Role::Replica(_) => None,
        })
    }

    /// CLUSTER SLOTS: per run of slots the owner, then its replicas, dead ones too.
    pub fn write_slots(&self, reply: &mut Reply<'_>) {
        reply.array(self.shards().count());
        for (master, slots) in self.shards() {
            let replicas = self.replicas(master);
            reply.array(3 + replicas.clone().count());
            reply.int((*slots.start()).into());
            reply.int((*slots.end()).into());
            for at in std::iter::once(master).chain(replicas) {
                let node = &self.nodes[at];
                reply.array(4);
                reply.bulk(node.host.as_bytes());
                reply.int(node.port.into());
                reply.bulk(node.id.as_bytes());
                reply.map(0);
            }
        }
    }

    /// CLUSTER SHARDS.
    pub fn write_shards(&self, reply: &mut Reply<'_>) {
        reply.array(self.shards().count());
        for (master, slots) in self.shards() {
            let replicas = self.replicas(master);
            reply.map(2);
            reply.bulk(b"slots");
            reply.array(2);
            reply.int((*slots.start()).into());
            reply.int((*slots.end()).into());
            reply.bulk(b"nodes");
            reply.array(1 + replicas.clone().count());
            for at in std::iter::once(master).chain(replicas) {
                write_shard_node(&self.nodes[at], reply);
            }
        }
    }

    /// One line of CLUSTER NODES, without its end. `now_ms` stands for the last sign of life of a live node.
    pub fn line(&self, at: usize, now_ms: u64) -> String {
        let node = &self.nodes[at];
        // No bus listens; tools expect the number all the same.
        let bus = u32::from(node.port) + 10_000;
        let mut line = format!("{} {}:{}@{bus} ", node.id, node.host, node.port);
        let myself = if node.is_self { "myself," } else { "" };
        let fail = if node.alive { "" } else { ",fail" };
        let (role, master) = match &node.role {
            Role::Master(_) => ("master", "-"),
            Role::Replica(master) => ("slave", self.nodes[*master].id.as_str()),
        };
        let pong = if node.is_self || !node.alive { 0 } else { now_ms };
        let link = if node.alive { "connected" } else { "disconnected" };
        let epoch = self.epoch;
        write!(line, "{myself}{role}{fail} {master} 0 {pong} {epoch} {link}")
            .expect("a string takes what it is given");
        if let Role::Master(slots) = &node.role {
            write!(line, " {}-{}", slots.start(), slots.end()).expect("a string takes what it is given");
        }
        line
    }

    /// CLUSTER NODES.
    pub fn lines(&self, now_ms: u64) -> String {
        (0..self.nodes.len()).map(|at| self.line(at, now_ms) + "\n").collect()
    }

    /// CLUSTER INFO.
    pub fn info(&self) -> String {
        let assigned = |fits: fn(&Node) -> bool| {
            self.shards()
                .filter(|(at, _)| fits(&self.nodes[*at]))
                .map(|(_, slots)| slots.len())
                .sum::<usize>()
        };
        let (ok, fail) = (assigned(|node| node.alive), assigned(|node| !node.alive));
        let fields: [(&str, &dyn std::fmt::Display); 12] = [
            // A client refuses a node that says otherwise, and this one serves all keys whoever is away.
            ("cluster_state", &"ok"),
            ("cluster_slots_assigned", &SLOTS),
            ("cluster_slots_ok", &ok),
            ("cluster_slots_pfail", &0),
            ("cluster_slots_fail", &fail),
            ("cluster_known_nodes", &self.nodes.len()),
            ("cluster_size", &self.shards().count()),
            ("cluster_current_epoch", &self.epoch),
            ("cluster_my_epoch", &self.epoch),
            ("cluster_stats_messages_sent", &0),
            ("cluster_stats_messages_received", &0),
            ("total_cluster_links_buffer_limit_exceeded", &0),
        ];
        fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
    }
}

fn write_shard_node(node: &Node, reply: &mut Reply<'_>) {
    let role = match node.role {
        Role::Master(_) => "master",
        Role::Replica(_) => "replica",
    };
    let health = match (node.alive, node.syncing) {
        (false, _) => "failed",
        (true, true) => "loading",
        (true, false) => "online",
    };
    let text = |name: &str, value: &str, reply: &mut Reply<'_>| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    reply.map(7);
    text("id", &node.id, reply);
    reply.bulk(b"port");
    reply.int(node.port.into());
    text("ip", &node.host, reply);
    text("endpoint", &node.host, reply);
    text("role", role, reply);
    reply.bulk(b"replication-offset");
    reply.int(0);
    text("health", health, reply);
}

/// The slot of a key: CRC-16 of it, or of what stands between its first `{` and the next `}` if that is not empty.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&byte| byte == b'}').filter(|&length| length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::reply::Protocol;

    fn node(n: u64) -> NodeId {
        NodeId::new(n << 24)
    }

    fn config(lines: &[&str]) -> Config {
        Config::parse(&crate::config::of_text("test", &lines.join("\n"))).unwrap()
    }

    /// Node 1 of three; node 2 is dead.
    fn three() -> Topology {
        let mut topology = Topology::new(node(1));
        for n in [2, 3] {
            topology.member_seen(node(n), &format!("10.0.0.{n}"), 7000 + n as u16);
            topology.link_up(node(n));
        }
        topology.link_down(node(2));
        topology
    }

    #[test]
    fn ownership_is_sticky_and_goes_to_the_smallest_live_node() {
        // Members as `id`, `id!` dead, `id~` syncing; the current owner; who should own.
        let check = |members: &str, current: u64, expected: u64| {
            let candidates = members.split(' ').map(|text| Candidate {
                node: node(text.trim_end_matches(['!', '~']).parse().unwrap()),
                alive: !text.ends_with('!'),
                syncing: text.ends_with('~'),
            });
            assert_eq!(due_owner(candidates, node(current)), node(expected), "{members}, owner {current}");
        };
        check("1 2 3", 2, 2);
        check("1 2! 3", 2, 1);
        check("1! 2! 3", 2, 3);
        check("1 2", 2, 2);
        check("1~ 2! 3", 2, 3);
        check("1 2~", 2, 1);
        check("1~ 2!", 2, 2);
        check("1! 2!", 2, 2);
        check("1 3", 2, 1);
    }

    #[test]
    fn a_survivor_claims_and_the_returning_owner_stays_a_replica() {
        let mut topology = Topology::new(node(5));
        topology.member_seen(node(2), "b", 1);
        topology.link_up(node(2));
        topology.set_owner(node(2));
        assert_eq!(topology.due_owner(), node(2));
        topology.link_down(node(2));
        assert_eq!(topology.due_owner(), node(5));
        topology.set_owner(node(5));
        topology.link_up(node(2));
        assert_eq!(topology.due_owner(), node(5));
        topology.set_syncing(node(5), true);
        assert_eq!(topology.due_owner(), node(2));
    }

    #[test]
    fn nodes_lists_the_dead_as_disconnected_replica() {
        let face = three().face(&Config::default(), "[::ffff:10.0.0.1]:6379");
        let id = |n: u64| cluster_id(node(n));
        assert_eq!(id(1), "0000000001000000000000000000000000000000");
        let expected = [
            format!("{} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-16383\n", id(1)),
            format!("{} 10.0.0.2:7002@17002 slave,fail {} 0 0 1 disconnected\n", id(2), id(1)),
            format!("{} 10.0.0.3:7003@17003 slave {} 0 77 1 connected\n", id(3), id(1)),
        ];
        assert_eq!(face.lines(77), expected.concat());
    }

    #[test]
    fn every_node_names_the_same_slots() {
        let mut other = Topology::new(node(3));
        other.member_seen(node(1), "10.0.0.1", 7001);
        other.member_seen(node(2), "10.0.0.2", 7002);
        other.link_up(node(1));
        other.set_owner(node(1));
        let slots = |topology: &Topology, local: &str| {
            let mut out = Vec::new();
            topology.face(&Config::default(), local).write_slots(&mut Reply::new(&mut out, Protocol::Resp2));
            String::from_utf8(out).unwrap().replace("\r\n", " ")
        };
        let node_text = |n: u64| format!("*4 $8 10.0.0.{n} :700{n} $40 {} *0 ", cluster_id(node(n)));
        let expected = format!("*1 *5 :0 :16383 {}{}{}", node_text(1), node_text(2), node_text(3));
        assert_eq!(slots(&three(), "10.0.0.1:7001"), expected);
        assert_eq!(slots(&other, "10.0.0.3:7003"), expected);
    }

    #[test]
    fn split_shares_all_slots_among_the_live() {
        let face = three().face(&config(&["cluster-owner split"]), "10.0.0.1:7001");
        assert_eq!(face.nodes[0].role, Role::Master(0..=8191));
        assert_eq!(face.nodes[1].role, Role::Replica(0));
        assert_eq!(face.nodes[2].role, Role::Master(8192..=16383));
        let mut alone = three();
        alone.link_down(node(3));
        alone.set_syncing(node(1), true);
        let face = alone.face(&config(&["cluster-owner split"]), "10.0.0.1:7001");
        assert_eq!(face.nodes[0].role, Role::Master(0..=16383));
    }

    #[test]
    fn the_own_address_is_what_is_announced_else_where_the_client_came_in() {
        let check = |lines: &[&str], local: &str, expected: (&str, u16)| {
            let (host, port) = own_address(&config(lines), local);
            assert_eq!((host.as_str(), port), expected, "{lines:?} at {local}");
        };
        check(&[], "192.168.0.9:6380", ("192.168.0.9", 6380));
        check(&[], "[fd00::1]:6380", ("fd00::1", 6380));
        check(&["port 7000"], "/tmp/redis.sock", ("127.0.0.1", 7000));
        check(&["replica-announce-ip pub"], "1.2.3.4:6380", ("pub", 6380));
        check(&["replica-announce-ip pub", "replica-announce-port 99"], "1.2.3.4:6380", ("pub", 99));
        let both = ["replica-announce-ip pub", "cluster-announce-ip clu", "cluster-announce-port 98"];
        check(&both, "1.2.3.4:6380", ("clu", 98));
    }

    #[test]
    fn emulation_follows_the_partners_unless_told() {
        let check = |lines: &[&str], expected: bool| {
            assert_eq!(Topology::new(node(1)).emulates(&config(lines)), expected, "{lines:?}");
        };
        check(&[], false);
        check(&["cluster-emulation yes"], true);
        check(&["peer a:1"], true);
        check(&["peer a:1", "cluster-emulation no"], false);
        check(&["active-replica yes", "replicaof a 1"], true);
        check(&["replicaof a 1"], false);
        assert!(three().emulates(&config(&[])));
    }

    #[test]
    fn slots_are_those_of_redis() {
        let check = |key: &str, slot: u16| assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        check("", 0);
        check("123456789", 0x31C3);
        check("a", 15495);
        check("{a}b", 15495);
        check("x{a}b{c}", 15495);
        check("{}b", 6680);
        check("{a", slot_of(b"{a"));
        assert_ne!(slot_of(b"{a"), slot_of(b"a"));
    }

    #[test]
    fn an_address_belongs_to_a_member_once_seen() {
        let mut topology = three();
        assert!(topology.is_member_address("::ffff:10.0.0.2".parse().unwrap()));
        assert!(!topology.is_member_address("10.0.0.9".parse().unwrap()));
        topology.address_seen(node(2), "10.0.0.9".parse().unwrap());
        assert!(topology.is_member_address("10.0.0.9".parse().unwrap()));
        topology.member_removed(node(2));
        assert!(!topology.is_member_address("10.0.0.9".parse().unwrap()));
        topology.member_seen(node(4), "", 1);
        assert_eq!(topology.members().count(), 1);
    }
}
