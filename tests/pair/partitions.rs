//! Partitions in real networks: nodes in network namespaces of their own, joined by a bridge that stops passing frames
//! between them. Nothing is refused or reset, packets just vanish; clients go on reaching both nodes.
//!
//! ```text
//! namespace A            machine              namespace B
//! node 10.x.y.2 ── veth ── bridge 10.x.y.1 ── veth ── node 10.x.y.3
//! ```

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{Client, Suite, TempDir, until};
use crate::load::{Load, check_sums};
use crate::seen::{agree, each_of, full, lasting, link, words};

const PORT: u16 = 6379;

/// Runs `ip` with these words. Its complaint, if it has one.
fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip").args(line.split(' ')).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Two namespaces on a bridge, gone when dropped.
struct Network {
    /// Tells this network from others on the machine; short, for names of links have 15 letters at most.
    tag: String,
    subnet: String,
}

impl Network {
    /// `None` where namespaces are not permitted.
    fn new() -> Option<Network> {
        let number = std::process::id();
        let network = Network {
            tag: format!("md{}", number % 1_000_000),
            subnet: format!("10.{}.{}", 64 + number % 128, number / 128 % 256),
        };
        if let Err(why) = ip(&format!("netns add {}-0", network.tag)) {
            println!("SKIPPED: no network namespaces here: {why}");
            return None;
        }
        network.build().expect("namespaces can be made, so they can be joined");
        Some(network)
    }

    fn build(&self) -> Result<(), String> {
        let Network { tag, subnet } = self;
        ip(&format!("netns add {tag}-1"))?;
        ip(&format!("link add {tag}br type bridge"))?;
        ip(&format!("addr add {subnet}.1/24 dev {tag}br"))?;
        ip(&format!("link set {tag}br up"))?;
        for node in [0, 1] {
            let inside = format!("-n {tag}-{node}");
            ip(&format!("link add {tag}v{node} type veth peer name eth0 netns {tag}-{node}"))?;
            ip(&format!("link set {tag}v{node} master {tag}br up"))?;
            ip(&format!("{inside} addr add {subnet}.{}/24 dev eth0", node + 2))?;
            ip(&format!("{inside} link set eth0 up"))?;
            ip(&format!("{inside} link set lo up"))?;
        }
        Ok(())
    }

    fn address(&self, node: usize) -> String {
        format!("{}.{}", self.subnet, node + 2)
    }

    /// Frames no longer pass between the nodes, or pass again.
    fn isolate(&self, isolated: bool) {
        let word = if isolated { "on" } else { "off" };
        for node in [0, 1] {
            ip(&format!("link set {}v{node} type bridge_slave isolated {word}", self.tag)).unwrap();
        }
    }

    /// A node's cable is pulled, for its clients too, or plugged in again.
    fn plug(&self, node: usize, is_in: bool) {
        let word = if is_in { "up" } else { "down" };
        ip(&format!("link set {}v{node} {word}", self.tag)).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in [0, 1] {
            let _ = ip(&format!("netns del {}-{node}", self.tag));
        }
        let _ = ip(&format!("link del {}br", self.tag));
    }
}

/// A node in its namespace, killed when dropped.
struct Node {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Node {
    fn start(network: &Network, node: usize) -> Node {
        let (folder, address) = (TempDir::new(), network.address(node));
        let namespace = format!("{}-{node}", network.tag);
        let server = env!("CARGO_BIN_EXE_meldis-server");
        let partner = format!("{}:{PORT}", network.address(1 - node));
        let (port, data) = (PORT.to_string(), folder.path().to_string_lossy().into_owned());
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace, server, "--port", &port, "--dir", &data]);
        command.args(["--bind", &address, "--protected-mode", "no", "--enable-debug-command", "yes"]);
        command.args(["--peer", &partner, "--repl-timeout", "1"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let node = Node { child: child.expect("start a node"), address, _folder: folder };
        until("the node answers", || node.try_client().is_some());
        node
    }

    fn try_client(&self) -> Option<Client> {
        let address: SocketAddr = format!("{}:{PORT}", self.address).parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        let mut client = Client::over(stream).ok()?;
        client.try_cmd(&["PING"]).is_ok().then_some(client)
    }

    fn client(&self) -> Client {
        self.try_client().expect("the node answers")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_partition_of_the_network_is_noticed_and_healed() {
    let mut suite = Suite::new("pair partitions: namespaces");
    let Some(network) = Network::new() else { return };
    let nodes = [Node::start(&network, 0), Node::start(&network, 1)];
    let mut clients = [nodes[0].client(), nodes[1].client()];
    until("the nodes are linked", || clients.iter_mut().all(|client| link(client) == "up"));
    let loads = [0, 1].map(|node: usize| Load::over(nodes[node].client(), 481 + node as u64, |_| true));
    let [a, b] = &mut clients;
    for (round, keys) in [1000, 100, 100].into_iter().enumerate() {
        network.isolate(true);
        each_of(a, 0..keys, |n| words(&format!("SET k{n} a{round}")));
        each_of(b, 0..keys, |n| words(&format!("SET k{n} b{round}")));
        until("both notice", || link(a) == "down" && link(b) == "down");
        if full() && round == 0 {
            lasting(60_000);
        }
        assert_eq!(a.run("WAIT 1 10"), 0);
        network.isolate(false);
        until("the links are up again", || link(a) == "up" && link(b) == "up");
        suite.add(1);
    }
    // The cable of a node, pulled for less than anyone notices and for longer.
    for out_ms in [300, 3000] {
        network.plug(1, false);
        a.ok(&["SET", "unplugged", &out_ms.to_string()]);
        lasting(out_ms);
        network.plug(1, true);
        until("the write arrives", || b.run("GET unplugged") == out_ms.to_string().as_str());
        suite.add(1);
    }
    let tallies = loads.map(Load::stop);
    agree(&mut clients);
    // What expires between two looks is in the first one only.
    until("clients see the same", || {
        let [a, b] = clients.each_mut().map(|client| client.run("DEBUG DIGEST"));
        a == b
    });
    assert_eq!(clients[0].run("MGET k0 k99 k100 k999"), ["b2", "b2", "b0", "b0"]);
    check_sums(&mut clients, &tallies);
}
