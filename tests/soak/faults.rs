//! What happens to the nodes, chosen by a seed: one fault after the other, each told in a line.
//!
//! In half of the runs the nodes keep what they write on disk: a killed one loses nothing then. In the others what a killed
//! node had told nobody is gone. What may be gone is kept small, and known:
//! - a node is killed only when what the last one lost is back: all links were up, and each node's partners had all of it;
//! - killed out of the blue, while no other fault lasts, it has sent all that it acknowledged;
//! - killed while cut off, it may lose what it acknowledged since its partners last had all of it, if it has no disk.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{Client, Clock, Cluster, Direction, Proxy, Random, until, until_some};
use crate::load::Load;

/// The longest a fault lasts, in milliseconds.
const LAST_MS_MAX: i64 = 4500;
/// The farthest a clock is set. Beyond 5 s ahead its changes are held.
const CLOCK_S_MAX: i64 = 10;
/// Clocks that show the same time differ by less.
const SAME_TIME_MS: i128 = 500;
/// How long it may take until the partners of each node have all that it has, once nothing is in the way.
const WHOLE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Every link is reset and refused.
    CutAll,
    /// Two nodes do not reach each other.
    CutBetween(usize, usize),
    /// Links that were dialed to a node carry nothing one way.
    Stall(usize, Direction),
    /// Nor the other.
    Freeze(usize),
    /// Every connection is reset, again and again.
    Flap,
    Throttle(usize, Direction, u64),
    Delay(usize, Direction, u64),
    /// A few bytes at a time.
    Drip(usize, Direction),
    /// Bits flip in what a node is sent.
    Flip(usize),
    /// SIGSTOP, then SIGCONT.
    Pause(usize),
    /// A wall clock is set, so many seconds ahead or back.
    Clock(usize, i64),
    Kill(usize),
    /// And its directory is lost.
    Wipe(usize),
    /// Killed while others of its links are cut.
    KillCutOff(usize),
}

pub(crate) struct Storm<'l> {
    cluster: Cluster,
    /// What is written is kept on disk.
    disks: bool,
    clocks: [Clock; 3],
    load: &'l Load,
    random: Random,
    start: Instant,
    faults: usize,
    /// Each node's partners have had all of its counter up to here.
    told: [i64; 3],
    /// A node was killed, and it is not known yet that it has all again.
    is_torn: bool,
    /// A fault before lasts on.
    is_hurt: bool,
    resident_kb_max: u64,
}

impl<'l> Storm<'l> {
    pub(crate) fn new(
        cluster: Cluster,
        disks: bool,
        clocks: [Clock; 3],
        load: &'l Load,
        seed: u64,
    ) -> Storm<'l> {
        let (random, start) = (Random::new(seed), Instant::now());
        let (faults, told, is_torn, is_hurt, resident_kb_max) = (0, [0; 3], false, false, 0);
        Storm { cluster, disks, clocks, load, random, start, faults, told, is_torn, is_hurt, resident_kb_max }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn faults(&self) -> usize {
        self.faults
    }

    /// One fault, for its time; a third of those of the wire last on while the next one comes.
    pub(crate) fn strike(&mut self) {
        let (fault, last_ms) = (self.choose(), self.random.range(300, LAST_MS_MAX) as u64);
        let stays = self.random.chance(30);
        let kills = matches!(fault, Fault::Kill(_) | Fault::Wipe(_) | Fault::KillCutOff(_));
        if kills && (self.is_torn || !matches!(fault, Fault::KillCutOff(_))) {
            self.make_whole();
        }
        self.faults += 1;
        self.tell(&format!("fault {}: {fault:?} for {last_ms} ms", self.faults));
        self.is_hurt = true;
        self.apply(fault, Duration::from_millis(last_ms));
        if !stays {
            self.heal();
        }
    }

    fn choose(&mut self) -> Fault {
        let (node, other) = (self.random.below(3), self.random.below(2));
        let direction = *self.random.pick(&[Direction::ToTarget, Direction::ToDialler]);
        match self.random.below(17) {
            0 => Fault::CutAll,
            1 | 2 => Fault::CutBetween(node, (node + 1 + other) % 3),
            3 => Fault::Stall(node, direction),
            4 => Fault::Freeze(node),
            5 => Fault::Flap,
            6 => Fault::Throttle(node, direction, self.random.range(1_000, 200_000) as u64),
            7 => Fault::Delay(node, direction, self.random.range(20, 800) as u64),
            8 => Fault::Drip(node, direction),
            9 => Fault::Flip(node),
            10 => Fault::Pause(node),
            11 | 12 => Fault::Kill(node),
            13 => Fault::Wipe(node),
            14 | 15 => Fault::Clock(node, self.random.range(-CLOCK_S_MAX, CLOCK_S_MAX)),
            _ => Fault::KillCutOff(node),
        }
    }

    fn apply(&mut self, fault: Fault, lasts: Duration) {
        let until = Instant::now() + lasts;
        let proxy = |node: usize| -> &Proxy { self.cluster.proxy(node) };
        match fault {
            Fault::CutAll => self.cluster.cut(),
            Fault::CutBetween(one, other) => self.cluster.cut_between(one, other),
            Fault::Stall(node, direction) => proxy(node).stall(direction),
            Fault::Freeze(node) => crate::harness::BOTH.iter().for_each(|way| proxy(node).stall(*way)),
            Fault::Flap => {
                while Instant::now() < until {
                    self.cluster.flap();
                    std::thread::sleep(Duration::from_millis(60));
                }
            }
            Fault::Throttle(node, direction, rate) => proxy(node).throttle(direction, rate),
            Fault::Delay(node, direction, ms) => proxy(node).delay(direction, Duration::from_millis(ms)),
            Fault::Drip(node, direction) => proxy(node).pieces(direction, 3),
            Fault::Flip(node) => {
                while Instant::now() < until {
                    let after = self.random.below(5000) as u64;
                    crate::harness::BOTH
                        .iter()
                        .for_each(|way| self.cluster.proxy(node).flip_bit(*way, after));
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
            Fault::Pause(node) => {
                self.cluster.node(node).pause();
                std::thread::sleep(lasts);
                self.cluster.node(node).resume();
            }
            Fault::Clock(node, seconds) => self.clocks[node].set(seconds),
            Fault::Kill(node) => self.kill(node, None, lasts, false),
            Fault::Wipe(node) => self.kill(node, None, lasts, true),
            Fault::KillCutOff(node) => {
                self.cluster.cut_between(node, (node + 1) % 3);
                self.cluster.cut_between(node, (node + 2) % 3);
                std::thread::sleep(lasts / 4);
                let kept = (!self.disks).then_some(self.told[node]);
                self.kill(node, kept, lasts / 2, false);
            }
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }

    /// Kills a node and starts it again. `kept`: see [`Load::end_life`].
    fn kill(&mut self, node: usize, kept: Option<i64>, down: Duration, wiped: bool) {
        self.is_torn = true;
        self.cluster.node_mut(node).kill();
        self.load.end_life(node, kept);
        self.told[node] = 0;
        std::thread::sleep(down);
        if wiped {
            self.cluster.node_mut(node).wipe();
        }
        self.cluster.launch(node);
    }

    /// Takes back every fault, and waits until every node's partners have all that it had.
    pub(crate) fn make_whole(&mut self) {
        self.heal();
        self.cluster.linked();
        for node in 0..3 {
            // What a clock that is ahead stamps is held, also from those who would wait for it.
            let mut client = self.cluster.client(node);
            until("the clock of each node is right", || error_ms(&mut client).abs() < SAME_TIME_MS);
        }
        for node in 0..3 {
            let acknowledged = self.load.acknowledged(self.load.life(node));
            let mut client = self.cluster.client(node);
            until_some("the partners of each node have all that it has", WHOLE, || has_told_all(&mut client));
            self.told[node] = acknowledged;
        }
        self.is_torn = false;
    }

    /// Takes back every fault.
    pub(crate) fn heal(&mut self) {
        if self.is_hurt {
            self.tell("healed");
        }
        self.cluster.heal();
        self.clocks.iter().for_each(|clock| clock.set(0));
        self.is_hurt = false;
    }

    /// No node ends by itself.
    #[track_caller]
    pub(crate) fn check_alive(&mut self) {
        for node in 0..3 {
            let alive = self.cluster.node_mut(node).is_alive();
            assert!(alive, "node {node} ended by itself\n{}", self.cluster.node(node).log_tail());
        }
    }

    /// How far it is, in a line; checks the nodes' memory.
    #[track_caller]
    pub(crate) fn progress(&mut self, resident_kb_max: u64) -> String {
        let resident = [0, 1, 2].map(|node| self.cluster.node(node).resident_kb());
        let largest = resident.iter().copied().max().unwrap_or(0);
        assert!(largest <= resident_kb_max, "a node takes {resident:?} kB");
        self.resident_kb_max = self.resident_kb_max.max(largest);
        let logged = |words: &str| -> usize {
            (0..3).map(|node| self.cluster.node(node).log().matches(words).count()).sum()
        };
        format!(
            "{:7.1} s  {} commands, {} faults, {} connections lost, {} resyncs, {} links up, resident {resident:?} kB, at most {}",
            self.start.elapsed().as_secs_f64(),
            self.load.commands(),
            self.faults,
            self.load.reconnects(),
            logged("ranges differ"),
            logged("is up"),
            self.resident_kb_max,
        )
    }

    fn tell(&self, words: &str) {
        println!("{:7.1} s  {words}", self.start.elapsed().as_secs_f64());
    }
}

fn has_told_all(client: &mut Client) -> Option<()> {
    (client.cmd(&["WAIT", "2", "3000"]).int() >= 2).then_some(())
}

/// By how much a node's clock is off.
fn error_ms(client: &mut Client) -> i128 {
    let shown: Vec<i128> = client.cmd(&["TIME"]).texts().iter().map(|text| text.parse().unwrap()).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    shown[0] * 1000 + shown[1] / 1000 - now.as_millis() as i128
}
