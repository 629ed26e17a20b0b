//! What happens to the links and the nodes while clients write.
//!
//! Data is lost with every copy of it where there are no disks, or one is wiped: so a node is killed only once all nodes have
//! what the ones killed before had told anybody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meldis::clock::NodeId;

use crate::feed::{Batches, Follower, Life, token};
use crate::harness::{Cluster, Direction, PATIENCE, Random, until};
use crate::load::Door;

/// The fault that loses a disk.
pub(crate) const WIPED: &str = "kill and wipe";

/// A cluster, its followers, and what has happened so far.
pub(crate) struct Storm<'a> {
    pub(crate) cluster: Cluster,
    /// What is written is kept on disk.
    disks: bool,
    pub(crate) doors: Vec<Arc<Door>>,
    pub(crate) batches: Arc<Mutex<Batches>>,
    pub(crate) followers: Vec<Follower>,
    lives: u64,
    /// Lives that ended, by number.
    pub(crate) ended: BTreeMap<u64, Life>,
    /// Which life each node is in.
    living: Vec<u64>,
    /// What [`Self::pulls_cut`] was of each node when all last had all there was.
    pulls_cut_before: Vec<isize>,
    pub(crate) faults: BTreeMap<&'static str, usize>,
    random: &'a mut Random,
}

impl<'a> Storm<'a> {
    /// Around nodes that nobody has written to.
    pub(crate) fn around(cluster: Cluster, nodes: usize, disks: bool, random: &'a mut Random) -> Storm<'a> {
        let batches = Arc::new(Mutex::new(Batches::new()));
        let followers = (0..nodes).map(|node| Follower::of(cluster.node(node), &batches, None)).collect();
        let doors: Vec<Arc<Door>> = (0..nodes).map(|_| Arc::default()).collect();
        let living: Vec<u64> = (1..=nodes as u64).collect();
        doors.iter().zip(&living).for_each(|(door, life)| door.open(*life));
        let mut storm = Storm {
            cluster,
            disks,
            doors,
            batches,
            followers,
            lives: nodes as u64,
            ended: BTreeMap::new(),
            living,
            pulls_cut_before: Vec::new(),
            faults: BTreeMap::new(),
            random,
        };
        storm.rest();
        storm
    }

    pub(crate) fn rage(&mut self, time: Duration, kills: bool) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.strike(kills);
            self.last(end, 50, 500);
            // Faults add up now and then.
            if self.random.chance(70) {
                self.cluster.heal();
                self.last(end, 50, 300);
            }
        }
        self.cluster.heal();
    }

    /// Lets the load go on for a while.
    fn last(&mut self, end: Instant, least_ms: i64, most_ms: i64) {
        let time = Duration::from_millis(self.random.range(least_ms, most_ms) as u64);
        std::thread::sleep(time.min(end.saturating_duration_since(Instant::now())));
    }

    fn strike(&mut self, kills: bool) {
        let count = self.doors.len();
        let one = self.random.below(count);
        let other = (one + 1 + self.random.below(count - 1)) % count;
        let cluster = &self.cluster;
        let fault = match self.random.below(if kills { 10 } else { 7 }) {
            0 => {
                cluster.cut();
                "cut"
            }
            1 => {
                cluster.cut_between(one, other);
                "cut of a pair"
            }
            2 => {
                let direction = *self.random.pick(&[Direction::ToTarget, Direction::ToDialler]);
                cluster.proxy(one).stall(direction);
                "stall"
            }
            3 => {
                for _ in 0..5 {
                    cluster.flap();
                    std::thread::sleep(Duration::from_millis(20));
                }
                "flap"
            }
            4 => {
                let delay = Duration::from_millis(self.random.range(5, 200) as u64);
                for direction in crate::harness::BOTH {
                    cluster.proxy(one).delay(direction, delay);
                }
                "slow link"
            }
            5 | 6 => {
                cluster.node(one).pause();
                std::thread::sleep(Duration::from_millis(self.random.range(50, 1200) as u64));
                cluster.node(one).resume();
                "pause"
            }
            7 | 8 => {
                let wiped = self.random.chance(20);
                self.end(one, if wiped { End::Wiped } else { End::Killed });
                if wiped { WIPED } else { "kill" }
            }
            _ => {
                self.end(one, End::Asked);
                "restart"
            }
        };
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Ends a node under load, starts it again, and waits until all nodes have all there is.
    fn end(&mut self, node: usize, how: End) {
        if self.random.chance(40) {
            // So that it has something to lose.
            self.cluster.cut();
            self.last(Instant::now() + Duration::from_secs(1), 20, 300);
        }
        self.doors[node].close();
        let server = self.cluster.node_mut(node);
        match how {
            End::Killed | End::Wiped => server.kill(),
            End::Asked => drop(server.stop()),
        }
        if how == End::Wiped {
            server.wipe();
        }
        let life = self.followers.remove(node).end();
        self.cluster.launch(node);
        // What it had told nobody when it ended is told from its disk.
        let since = Some(life.read.clone()).filter(|_| self.disks && how != End::Wiped);
        let follower = Follower::of(self.cluster.node(node), &self.batches, since);
        self.followers.insert(node, follower);
        self.lives += 1;
        let number = std::mem::replace(&mut self.living[node], self.lives);
        self.doors[node].open(self.lives);
        self.last(Instant::now() + Duration::from_secs(1), 0, 400);
        self.cluster.heal();
        self.cluster.linked();
        for from in 0..self.doors.len() {
            let token = token(&mut self.cluster.client(from)).expect("it runs").to_string();
            for to in 0..self.doors.len() {
                let mut client = self.cluster.client(to);
                until("a node has what another had", || client.ok(&["MELD", "AFTER", &token, "1000"]) == 1);
            }
        }
        let was_pulled = self.pulls_cut(node, life.origin.node()) != self.pulls_cut_before[node];
        self.ended.insert(number, Life { was_pulled, ..life });
        self.rest();
    }

    /// Notes how things are while all nodes have all there is.
    fn rest(&mut self) {
        let origins = self.followers.iter().map(|follower| follower.origin.node()).enumerate();
        self.pulls_cut_before = origins.map(|(node, id)| self.pulls_cut(node, id)).collect();
    }

    /// How many pulls of ranges from a node the others began and did not end, none being under way.
    fn pulls_cut(&self, node: usize, id: NodeId) -> isize {
        let count = |log: &str, what: &str| log.matches(&format!("Resync from node {id} {what}")).count();
        let others = (0..self.doors.len()).filter(|other| *other != node);
        let logs = others.map(|other| self.cluster.node(other).log());
        logs.map(|log| count(&log, "started") as isize - count(&log, "is complete") as isize).sum()
    }

    /// Waits until the feed has all that the nodes agree on, and says what that is.
    pub(crate) fn collect(&mut self) -> meldis::link::vector::Vector {
        let nodes = 0..self.doors.len();
        let mut clients: Vec<_> = nodes.map(|node| self.cluster.client(node)).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tokens: Vec<_> = clients.iter_mut().map(|client| token(client).expect("it runs")).collect();
            let texts: Vec<_> = tokens.iter().map(ToString::to_string).collect();
            if texts.iter().all(|text| *text == texts[0])
                && self.followers.iter().all(|follower| follower.has(&tokens[0]))
            {
                return tokens.into_iter().next().expect("there are nodes");
            }
            assert!(Instant::now() < deadline, "the nodes' tokens stay apart: {texts:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    Wiped,
    Asked,
}
