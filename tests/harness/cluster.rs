//! Active-active nodes that know each other, linked directly or through proxies.
//!
//! Each node stands behind one proxy and announces the proxy's address, so that its partners dial the proxy
//! wherever they learnt of the node. A link between two nodes therefore consists of up to two connections, one through
//! either proxy; cutting it cuts both. With more than two nodes a proxy tells its diallers apart by their process.
//! Tests talk to the nodes directly, past the proxies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::client::Client;
use super::place::Port;
use super::proxy::{BOTH, Direction, Proxy};
use super::server::{Program, Server};
use super::value::Value;
use super::{PATIENCE, show_bytes, until};

/// How a node is told of its partners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partners {
    /// KeyDB's way: `--active-replica yes --multi-master yes --replicaof HOST PORT ...`
    Replicaof,
    /// Our own: `--peer HOST:PORT ...`
    Peer,
}

/// What kind of cluster.
#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: usize,
    pub proxied: bool,
    pub partners: Partners,
    /// Directives every node gets.
    pub args: Vec<String>,
}

impl Options {
    pub fn new(nodes: usize) -> Options {
        Options { nodes, proxied: false, partners: Partners::Replicaof, args: Vec::new() }
    }

    pub fn proxied(mut self) -> Options {
        self.proxied = true;
        self
    }

    pub fn partners(mut self, partners: Partners) -> Options {
        self.partners = partners;
        self
    }

    pub fn args(mut self, args: &[&str]) -> Options {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }
}

/// Two nodes: `Pair::proxied()`, `Pair::direct()`.
pub type Pair = Cluster;

/// Nodes 0, 1, 2... each a partner of all the others.
pub struct Cluster {
    nodes: Vec<Server>,
    proxies: Vec<Proxy>,
}

impl Cluster {
    /// A pair linked directly, KeyDB's directives.
    #[track_caller]
    pub fn direct() -> Cluster {
        Cluster::start(Options::new(2))
    }

    /// A pair linked through proxies, KeyDB's directives.
    #[track_caller]
    pub fn proxied() -> Cluster {
        Cluster::start(Options::new(2).proxied())
    }

    /// Starts all nodes; does not wait for links ([`Cluster::settle`] does).
    #[track_caller]
    pub fn start(options: Options) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        for index in 0..cluster.nodes.len() {
            cluster.launch(index);
        }
        cluster
    }

    /// All set up, no node running yet: for tests of the order of start. [`Cluster::launch`] starts one.
    pub fn prepare(options: Options) -> Cluster {
        let ports: Vec<Port> = (0..options.nodes).map(|_| Port::free()).collect();
        let numbers: Vec<u16> = ports.iter().map(|port| port.number).collect();
        let proxies: Vec<Proxy> = match options.proxied {
            true => numbers.iter().map(|&port| Proxy::to(port)).collect(),
            false => Vec::new(),
        };
        let doors: Vec<u16> = match options.proxied {
            true => proxies.iter().map(Proxy::port).collect(),
            false => numbers,
        };
        let nodes = ports.into_iter().enumerate().map(|(index, port)| {
            let args = node_args(&options, &doors, index);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            Server::prepare(Program::Meldis, port, &args)
        });
        Cluster { nodes: nodes.collect(), proxies }
    }

    /// Starts a node that does not run.
    #[track_caller]
    pub fn launch(&mut self, index: usize) {
        self.nodes[index].spawn();
        // Before it is ready it may dial already.
        self.name_diallers();
        let port = self.nodes[index].port();
        let deadline = Instant::now() + PATIENCE;
        while Client::connect(port).and_then(|mut client| client.try_cmd(&["PING"])).is_err() {
            let alive = self.nodes[index].is_alive();
            assert!(alive, "node {index} ended at start\n{}", self.nodes[index].log_tail());
            assert!(Instant::now() < deadline, "node {index} is silent\n{}", self.nodes[index].log_tail());
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    fn name_diallers(&self) {
        let pids: Vec<Option<u32>> = self.nodes.iter().map(Server::running).collect();
        for proxy in &self.proxies {
            proxy.name_diallers(&pids);
        }
    }

    pub fn node(&self, index: usize) -> &Server {
        &self.nodes[index]
    }

    /// For `kill`, `stop`, `wipe`. Start again by [`Cluster::launch`], so that the proxies learn the new pid.
    pub fn node_mut(&mut self, index: usize) -> &mut Server {
        &mut self.nodes[index]
    }

    /// A new connection to a node, past its proxy.
    #[track_caller]
    pub fn client(&self, index: usize) -> Client {
        self.nodes[index].client()
    }

    /// One connection to each node: `let [mut a, mut b] = pair.clients();`
    #[track_caller]
    pub fn clients<const N: usize>(&self) -> [Client; N] {
        assert_eq!(N, self.nodes.len(), "one client per node");
        std::array::from_fn(|index| self.client(index))
    }

    /// SIGKILL and start again with the same directory.
    #[track_caller]
    pub fn crash(&mut self, index: usize) {
        self.nodes[index].kill();
        self.launch(index);
    }

    /// SIGTERM and start again with the same directory.
    #[track_caller]
    pub fn restart(&mut self, index: usize) {
        self.nodes[index].stop();
        self.launch(index);
    }

    /// SIGKILL, empty its directory, and start again on the same port.
    #[track_caller]
    pub fn crash_wiped(&mut self, index: usize) {
        self.nodes[index].kill();
        self.nodes[index].wipe();
        self.launch(index);
    }

    /// The proxy in front of a node.
    #[track_caller]
    pub fn proxy(&self, index: usize) -> &Proxy {
        self.proxies.get(index).expect("a cluster started with Options::proxied")
    }

    fn all_proxies(&self) -> &[Proxy] {
        assert!(
            !self.proxies.is_empty(),
            "links have faults only in a cluster started with Options::proxied"
        );
        &self.proxies
    }

    /// Cuts every link: RST, and refuses new connections.
    pub fn cut(&self) {
        self.all_proxies().iter().for_each(Proxy::cut);
    }

    /// Takes back every fault of every link.
    pub fn heal(&self) {
        self.all_proxies().iter().for_each(Proxy::heal);
    }

    /// Resets every connection of every link once; they may reconnect at once.
    pub fn flap(&self) {
        self.all_proxies().iter().for_each(Proxy::reset_connections);
    }

    /// Cuts the link between two of more nodes.
    pub fn cut_between(&self, one: usize, other: usize) {
        self.proxy(one).bar(other);
        self.proxy(other).bar(one);
    }

    pub fn heal_between(&self, one: usize, other: usize) {
        self.proxy(one).unbar(other);
        self.proxy(other).unbar(one);
    }

    /// The two lanes that carry what `from` sends to `to` in a pair: `from` dialling `to`, and `to` dialling `from`.
    pub fn lanes(&self, from: usize, to: usize) -> [(&Proxy, Direction); 2] {
        assert!(self.nodes.len() == 2 && from != to, "directions are told apart in a pair only");
        [(self.proxy(to), Direction::ToTarget), (self.proxy(from), Direction::ToDialler)]
    }

    /// What `from` sends to `to` no longer arrives, and nothing is closed; the way back is open.
    pub fn stall(&self, from: usize, to: usize) {
        self.lanes(from, to).iter().for_each(|(proxy, direction)| proxy.stall(*direction));
    }

    /// Half-open: nothing arrives either way, and nothing is closed.
    pub fn freeze(&self) {
        self.all_proxies().iter().for_each(|proxy| BOTH.iter().for_each(|&direction| proxy.stall(direction)));
    }

    pub fn throttle(&self, from: usize, to: usize, bytes_per_second: u64) {
        self.lanes(from, to)
            .iter()
            .for_each(|(proxy, direction)| proxy.throttle(*direction, bytes_per_second));
    }

    pub fn delay(&self, from: usize, to: usize, delay: Duration) {
        self.lanes(from, to).iter().for_each(|(proxy, direction)| proxy.delay(*direction, delay));
    }

    pub fn pieces(&self, from: usize, to: usize, bytes: usize) {
        self.lanes(from, to).iter().for_each(|(proxy, direction)| proxy.pieces(*direction, bytes));
    }

    /// Flips a bit after so many more bytes, once on each of the two lanes that get that far.
    pub fn flip_bit(&self, from: usize, to: usize, after: u64) {
        self.lanes(from, to).iter().for_each(|(proxy, direction)| proxy.flip_bit(*direction, after));
    }

    /// Bytes that went from one node to the other.
    pub fn link_bytes(&self, from: usize, to: usize) -> u64 {
        self.lanes(from, to).iter().map(|(proxy, direction)| proxy.bytes(*direction)).sum()
    }

    /// Waits until the links of all running nodes are up, whatever the nodes hold: for tests under load.
    #[track_caller]
    pub fn linked(&self) {
        let nodes: Vec<&Server> = self.nodes.iter().filter(|node| node.running().is_some()).collect();
        for node in &nodes {
            let mut client = node.client();
            let up = || {
                let info = check_links(&client.ok(&["INFO", "replication"]).text());
                info.is_ok() && check_peers(&client.ok(&["MELD", "PEERS"]), nodes.len() - 1).is_ok()
            };
            until("all links are up", up);
        }
        self.left_alone();
    }

    /// Waits until of two links that both ends have dialed at once one is gone: a fault that falls between would keep the end
    /// of the other from being told.
    #[track_caller]
    fn left_alone(&self) {
        let running = self.nodes.iter().filter(|node| node.running().is_some()).count();
        let wanted = running * running.saturating_sub(1) / 2;
        let links = || self.proxies.iter().map(|proxy| proxy.connections().len()).sum::<usize>();
        until("there is one link between any two nodes", || links() <= wanted);
    }

    /// Waits until the links of all running nodes are up and their digests equal, twice in a row.
    ///
    /// # Panics
    /// After [`PATIENCE`], with what keeps them apart: links, digests, keys.
    #[track_caller]
    pub fn settle(&self) {
        self.settle_within(PATIENCE);
    }

    #[track_caller]
    pub fn settle_within(&self, patience: Duration) {
        let nodes: Vec<&Server> = self.nodes.iter().filter(|node| node.running().is_some()).collect();
        settle_servers(&nodes, patience);
        self.left_alone();
    }
}

/// [`Cluster::settle`] for servers that a test has put together by itself.
#[track_caller]
pub fn settle_servers(nodes: &[&Server], patience: Duration) {
    let start = Instant::now();
    let mut clients: Vec<Option<Client>> = nodes.iter().map(|_| None).collect();
    let mut before: Option<View> = None;
    loop {
        let view = View::take(nodes, &mut clients);
        match (&view, &before) {
            (Ok(now), Some(earlier)) if now == earlier => return,
            _ => {}
        }
        if start.elapsed() > patience {
            let why = match view {
                Err(why) => why,
                Ok(_) => "the digests are equal but still changing".to_owned(),
            };
            let (keys, links) = (differing_keys(nodes), shown_links(nodes));
            panic!("the nodes did not settle in {patience:?}: {why}\n{keys}\n{links}");
        }
        before = view.ok();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What all nodes agree on.
#[derive(PartialEq, Eq)]
struct View {
    digests: Vec<Value>,
}

impl View {
    /// # Errors
    /// Why the nodes are not settled.
    fn take(nodes: &[&Server], clients: &mut [Option<Client>]) -> Result<View, String> {
        let mut agreed: Option<Vec<Value>> = None;
        for (index, node) in nodes.iter().enumerate() {
            let seen = look(node, nodes.len() - 1, &mut clients[index]);
            if seen.is_err() {
                clients[index] = None;
            }
            let seen = seen.map_err(|why| format!("node {index} (port {}): {why}", node.port()))?;
            match &agreed {
                Some(first) if *first != seen => {
                    let [mine, theirs] = [&seen, first].map(|digests| Value::Array(digests.clone()));
                    return Err(format!("digests differ: node 0 {theirs}, node {index} {mine}"));
                }
                _ => agreed = Some(seen),
            }
        }
        Ok(View { digests: agreed.unwrap_or_default() })
    }
}

fn look(node: &Server, partners: usize, client: &mut Option<Client>) -> Result<Vec<Value>, String> {
    if client.is_none() {
        *client = Some(node.try_client().map_err(|error| error.to_string())?);
    }
    let client = client.as_mut().expect("just connected");
    let mut ask = |args: &[&str]| match client.try_cmd(args) {
        Ok(Value::Error(text)) => Err(format!("{}: {text}", args.join(" "))),
        Ok(reply) => Ok(reply),
        Err(error) => Err(format!("{}: {error}", args.join(" "))),
    };
    check_links(&ask(&["INFO", "replication"])?.text())?;
    if node.program() == Program::Meldis {
        check_peers(&ask(&["MELD", "PEERS"])?, partners)?;
    }
    match node.program() {
        Program::Meldis => Ok(vec![ask(&["MELD", "DIGEST"])?, ask(&["DEBUG", "DIGEST"])?]),
        Program::Redis => Ok(vec![ask(&["DEBUG", "DIGEST"])?]),
    }
}

/// The links a node was configured to have, in KeyDB's words.
fn check_links(info: &str) -> Result<(), String> {
    let says = |name: &str, good: &str| {
        let line = info.lines().find(|line| line.contains(name) && !line.trim_end().ends_with(good));
        line.map_or(Ok(()), |line| Err(format!("INFO replication says {}", line.trim_end())))
    };
    says("_link_status:", ":up")?;
    says("_sync_in_progress:", ":0")
}

/// The links it has, by whomever they were dialed.
fn check_peers(peers: &Value, partners: usize) -> Result<(), String> {
    let up = peers.items().into_iter().filter(|peer| {
        let texts = peer.texts();
        texts.chunks(2).any(|pair| pair[0] == "link" && pair[1] == "up")
    });
    match up.count() {
        up if up < partners => Err(format!("MELD PEERS shows {up} links of {partners}")),
        _ => Ok(()),
    }
}

/// What each node says of its partners.
fn shown_links(nodes: &[&Server]) -> String {
    let shown = |(index, node): (usize, &&Server)| {
        let peers = node.try_client().and_then(|mut client| client.try_cmd(&["MELD", "PEERS"]));
        format!("node {index}: {}", peers.map_or_else(|error| error.to_string(), |peers| peers.to_string()))
    };
    nodes.iter().enumerate().map(shown).collect::<Vec<_>>().join("\n")
}

const KEYS_SHOWN: usize = 20;

/// The keys whose DEBUG DIGEST-VALUE, type or expiry differ, in words.
pub fn differing_keys(nodes: &[&Server]) -> String {
    let listings: Vec<BTreeMap<(usize, Vec<u8>), String>> = nodes.iter().map(|node| listing(node)).collect();
    let mut keys: Vec<&(usize, Vec<u8>)> = listings.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    let differing: Vec<_> = keys
        .into_iter()
        .filter(|key| listings.iter().any(|one| one.get(key) != listings[0].get(key)))
        .collect();
    let mut lines = vec![format!("{} keys differ", differing.len())];
    for key in differing.iter().take(KEYS_SHOWN) {
        let (db, name) = key;
        lines.push(format!("  db {db} \"{}\"", show_bytes(name)));
        for (index, one) in listings.iter().enumerate() {
            lines.push(format!("    node {index}: {}", one.get(key).map_or("absent", String::as_str)));
        }
    }
    lines.join("\n")
}

/// Every key of every database, with a description that says if it is the same elsewhere.
fn listing(node: &Server) -> BTreeMap<(usize, Vec<u8>), String> {
    let mut found = BTreeMap::new();
    let Ok(mut client) = node.try_client() else { return found };
    for db in 0..16 {
        if db > 0 && client.try_cmd(&["SELECT", &db.to_string()]).map_or(true, |reply| reply.is_error()) {
            break;
        }
        let mut cursor = b"0".to_vec();
        while let Ok(Value::Array(page)) = client.try_cmd(&[b"SCAN".as_slice(), &cursor, b"COUNT", b"1000"]) {
            let [Value::Bulk(next), Value::Array(keys)] = page.as_slice() else { break };
            for key in keys {
                if let Value::Bulk(name) = key {
                    let text = describe(&mut client, name);
                    found.insert((db, name.clone()), text);
                }
            }
            cursor = next.clone();
            if cursor == b"0" {
                break;
            }
        }
    }
    found
}

fn describe(client: &mut Client, key: &[u8]) -> String {
    let mut ask = |args: &[&[u8]]| match client.try_cmd(args) {
        Ok(reply) => reply.to_string(),
        Err(error) => error.to_string(),
    };
    let digest = ask(&[b"DEBUG", b"DIGEST-VALUE", key]);
    let (kind, expires) = (ask(&[b"TYPE", key]), ask(&[b"PEXPIRETIME", key]));
    let stamp = ask(&[b"MELD", b"STAMP", key]);
    // In no order: that of hashes and sets may differ.
    let mut ask = |args: &[&[u8]]| match client.try_cmd(args) {
        Ok(Value::Array(items)) => {
            let mut texts: Vec<String> = match kind.as_str() {
                "hash" => items.chunks(2).map(|pair| format!("{} {}", pair[0], pair[1])).collect(),
                _ => items.iter().map(Value::to_string).collect(),
            };
            if matches!(kind.as_str(), "hash" | "set") {
                texts.sort();
            }
            format!("[{}]", texts.join(" "))
        }
        Ok(reply) => reply.to_string(),
        Err(error) => error.to_string(),
    };
    let value = match kind.as_str() {
        "string" => ask(&[b"GET", key]),
        "list" => ask(&[b"LRANGE", key, b"0", b"20"]),
        "hash" => ask(&[b"HGETALL", key]),
        "set" => ask(&[b"SMEMBERS", key]),
        "zset" => ask(&[b"ZRANGE", key, b"0", b"20", b"WITHSCORES"]),
        "stream" => ask(&[b"XRANGE", key, b"-", b"+", b"COUNT", b"20"]),
        _ => String::new(),
    };
    let value: String = value.chars().take(400).collect();
    format!("{kind} {value} expires {expires} digest {digest} stamp {stamp}")
}

fn node_args(options: &Options, doors: &[u16], index: usize) -> Vec<String> {
    let mut args = vec!["--enable-debug-command".to_owned(), "yes".to_owned()];
    args.extend(options.args.iter().cloned());
    if options.proxied {
        args.extend(["--replica-announce-ip", "127.0.0.1", "--replica-announce-port"].map(str::to_owned));
        args.push(doors[index].to_string());
    }
    if options.partners == Partners::Replicaof {
        args.extend(["--active-replica", "yes", "--multi-master", "yes"].map(str::to_owned));
    }
    for (_, door) in doors.iter().enumerate().filter(|(other, _)| *other != index) {
        match options.partners {
            Partners::Replicaof => {
                args.extend(["--replicaof".to_owned(), "127.0.0.1".to_owned(), door.to_string()]);
            }
            Partners::Peer => args.extend(["--peer".to_owned(), format!("127.0.0.1:{door}")]),
        }
    }
    args
}
