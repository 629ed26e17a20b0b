//! What happens in a world, as data: its make and a list of actions. Drawn from a seed, written and read as text, so that
//! what a seed does can be replayed, shortened, and kept as a named test.
//!
//! Actions are drawn without looking at the world: one whose node is down does nothing. So a schedule stays meaningful
//! with any of its actions left out.
//!
//! ```text
//! seed 17                           of ids and of the network
//! nodes 3 spare 1 backlog 200 absence 86400 full_mesh true delay 5000 piece 7 cuts true disk everysec
//! 0.2 SET s0 v1                     a client of a node; several commands, apart by "; ", are a transaction
//! step 1000                         microseconds pass
//! cut 0 1 50000                     no connection between the two for so long
//! stall 0 1 50000                   nothing arrives from the first at the second
//! drop 0 1                          their connections break
//! crash 0 50000 wiped silent        loses its disk too; `kept` instead of `wiped`, `loud` of `silent`
//! skew 0 -300                       a clock is off by so many milliseconds
//! join 3 0                          a new node comes that knows one other
//! follow 3 0                        a replica comes that follows a node; one that is there, promoted or not, is told to
//! promote 3                         a replica is told REPLICAOF NO ONE
//! partner 0 3                       a node is told REPLICAOF another, which becomes its partner
//! part 0 3                          a node is told REPLICAOF REMOVE a partner
//! leave 2                           a node goes for good
//! calm                              all faults end; everything is compared
//! ```

use std::fmt::{self, Write};

use crate::disk::Sync;
use crate::load::{Line, Load};
use crate::random::Random;
use crate::world::SESSIONS;

/// What a world is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Nodes there from the beginning.
    pub nodes: usize,
    /// Places for nodes that join.
    pub spare: usize,
    pub backlog_bytes: u64,
    pub absence_s: u64,
    /// Whether nodes are told of each other by their configuration, or only of the first one.
    pub full_mesh: bool,
    /// The longest a piece of bytes takes, in microseconds.
    pub delay_us: u64,
    /// The longest piece.
    pub piece_bytes: usize,
    /// A pull's connection breaks behind its first piece, the next time behind the second, and so on.
    pub cuts: bool,
    /// Whether nodes have disks.
    pub disk: Sync,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Run { node: usize, session: usize, lines: Vec<Line> },
    Step { us: u64 },
    Cut { a: usize, b: usize, us: u64 },
    Stall { from: usize, to: usize, us: u64 },
    Drop { a: usize, b: usize },
    Crash { node: usize, us: u64, wiped: bool, silent: bool },
    Skew { node: usize, ms: i64 },
    Join { node: usize, knows: usize },
    Follow { node: usize, primary: usize },
    Promote { node: usize },
    Partner { node: usize, partner: usize },
    Part { node: usize, partner: usize },
    Leave { node: usize },
    Calm,
}

/// See the module's head.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    pub seed: u64,
    pub plan: Plan,
    pub actions: Vec<Action>,
}

/// How bad it gets.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Percent of steps with a fault.
    faults: usize,
    crashes: bool,
    /// Clocks differ by up to so many milliseconds.
    skew_ms: i64,
    steps: usize,
    rounds: usize,
    members: Members,
}

/// How membership changes in the first round.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Members {
    Stay,
    Join,
    Leave,
    /// One leaves, and another comes to its address.
    Replace,
    /// A replica comes.
    Follow,
}

impl Schedule {
    /// The schedule of a seed.
    pub fn draw(seed: u64) -> Schedule {
        let mut random = Random::new(seed);
        let members = *random.pick(&[
            Members::Stay,
            Members::Stay,
            Members::Stay,
            Members::Join,
            Members::Leave,
            Members::Replace,
        ]);
        // By a stream of its own: what the seeds before drew stays.
        let follows = members == Members::Stay && Random::new(seed.rotate_left(32)).chance(25);
        let members = if follows { Members::Follow } else { members };
        let plan = Plan {
            nodes: if members == Members::Leave { 3 } else { 2 + random.below(2) },
            spare: usize::from(matches!(members, Members::Join | Members::Follow)),
            backlog_bytes: *random.pick(&[200, 2000, 1 << 20]),
            absence_s: *random.pick(&[86_400, 86_400, 86_400, 1]),
            full_mesh: random.chance(70),
            delay_us: *random.pick(&[200, 5000, 50_000]),
            piece_bytes: *random.pick(&[7, 300, 65_536]),
            cuts: random.chance(15),
            disk: *Random::new(seed.rotate_left(48)).pick(&[
                Sync::Never,
                Sync::Never,
                Sync::Always,
                Sync::EverySecond,
                Sync::EverySecond,
            ]),
        };
        let weather = Weather {
            faults: *random.pick(&[0, 2, 10]),
            crashes: random.chance(50),
            skew_ms: *random.pick(&[0, 5, 300, 3000, 20_000]),
            steps: *random.pick(&[60, 200, 400]),
            rounds: 2,
            members,
        };
        let mut load = Load::draw(&mut random);
        let mut actions = Vec::new();
        for round in 0..weather.rounds {
            let members = if round == 0 { weather.members } else { Members::Stay };
            storm(&mut actions, &mut random, &mut load, &plan, Weather { members, ..weather });
            actions.push(Action::Calm);
        }
        turn(&mut actions, &mut Random::new(seed.rotate_left(16)), &plan, members);
        if plan.disk != Sync::Never {
            power_down(&mut actions, &mut Random::new(seed.rotate_left(8)), &plan);
        }
        Schedule { seed, plan, actions }
    }

    /// Lives end or begin: what a node had is lost, or it writes before others know of it.
    pub fn has_lives(&self) -> bool {
        let is_life = |action: &Action| {
            matches!(
                action,
                Action::Crash { .. } | Action::Leave { .. } | Action::Join { .. } | Action::Follow { .. }
            )
        };
        self.has_turns() || self.actions.iter().any(is_life)
    }

    /// Nodes crash, but none comes, goes, or loses its disk.
    pub fn only_restarts(&self) -> bool {
        let is_other = |action: &Action| {
            matches!(
                action,
                Action::Crash { wiped: true, .. }
                    | Action::Leave { .. }
                    | Action::Join { .. }
                    | Action::Follow { .. }
            )
        };
        !self.has_turns() && !self.actions.iter().any(is_other)
    }

    /// Somebody is told of others than before.
    pub fn has_turns(&self) -> bool {
        let is_turn = |action: &Action| {
            matches!(action, Action::Promote { .. } | Action::Partner { .. } | Action::Part { .. })
        };
        let follows = self.actions.iter().filter(|action| matches!(action, Action::Follow { .. }));
        follows.count() > 1 || self.actions.iter().any(is_turn)
    }

    /// A node goes for good.
    pub fn has_leavers(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Leave { .. }))
    }

    /// Reads what is written by `to_string`.
    pub fn parse(text: &str) -> Schedule {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let seed = lines.next().and_then(|line| line.strip_prefix("seed ")).expect("a seed");
        let words: Vec<&str> = lines.next().expect("a plan").split(' ').collect();
        let of = |name: &str| {
            let at = words.iter().position(|word| *word == name).unwrap_or_else(|| panic!("no {name}"));
            words[at + 1]
        };
        let number = |name: &str| of(name).parse::<u64>().expect("a number");
        let plan = Plan {
            nodes: number("nodes") as usize,
            spare: number("spare") as usize,
            backlog_bytes: number("backlog"),
            absence_s: number("absence"),
            full_mesh: of("full_mesh") == "true",
            delay_us: number("delay"),
            piece_bytes: number("piece") as usize,
            cuts: of("cuts") == "true",
            disk: Sync::parse(words.iter().skip_while(|word| **word != "disk").nth(1)),
        };
        let actions = lines.map(Action::parse).collect();
        Schedule { seed: seed.parse().expect("a number"), plan, actions }
    }
}

fn storm(actions: &mut Vec<Action>, random: &mut Random, load: &mut Load, plan: &Plan, weather: Weather) {
    let slots = plan.nodes + plan.spare;
    // The first stays: others may know no one else.
    let changing = slots - 1;
    let leaves_at = random.below(weather.steps);
    let joins_at = leaves_at + random.below(weather.steps);
    for step in 0..weather.steps {
        if step == leaves_at && matches!(weather.members, Members::Leave | Members::Replace) {
            actions.push(Action::Leave { node: changing });
        }
        if step == joins_at.min(weather.steps - 1)
            && matches!(weather.members, Members::Join | Members::Replace)
        {
            actions.push(Action::Join { node: changing, knows: random.below(changing) });
        }
        if step == joins_at.min(weather.steps - 1) && weather.members == Members::Follow {
            actions.push(Action::Follow { node: changing, primary: random.below(changing) });
        }
        if random.chance(weather.faults) {
            strike(actions, random, slots, weather);
        }
        for node in 0..slots {
            for _ in 0..random.below(3) {
                let (session, lines) = (random.below(SESSIONS), load.lines(random));
                actions.push(Action::Run { node, session, lines });
            }
        }
        actions.push(Action::Step { us: *random.pick(&[0, 100, 1000, 10_000, 30_000]) });
    }
}

fn strike(actions: &mut Vec<Action>, random: &mut Random, slots: usize, weather: Weather) {
    let a = random.below(slots);
    let b = (a + 1 + random.below(slots - 1)) % slots;
    let us = *random.pick(&[1000, 50_000, 500_000, 3_000_000]);
    match random.below(6) {
        0 => actions.push(Action::Cut { a, b, us }),
        1 => actions.extend([Action::Stall { from: a, to: b, us }, Action::Stall { from: b, to: a, us }]),
        2 => actions.push(Action::Stall { from: a, to: b, us }),
        3 => actions.push(Action::Drop { a, b }),
        4 if weather.crashes => {
            let (wiped, silent) = (random.chance(30), random.chance(50));
            actions.push(Action::Crash { node: a, us, wiped, silent });
        }
        _ if weather.skew_ms > 0 => {
            actions.push(Action::Skew { node: a, ms: random.range(-weather.skew_ms, weather.skew_ms) });
        }
        _ => {}
    }
}

/// Has operators tell nodes of others than before: a replica what else it is to be, or active nodes of each other.
fn turn(actions: &mut Vec<Action>, random: &mut Random, plan: &Plan, members: Members) {
    let came = actions.iter().position(|action| matches!(action, Action::Follow { .. }));
    let turns = match (came, members) {
        (Some(at), _) if random.chance(70) => replica_turns(random, plan, &actions[at]),
        (None, Members::Stay) if random.chance(8) => partner_turns(random, plan),
        _ => return,
    };
    let first = came.map_or(0, |at| at + 1);
    let mut places: Vec<usize> = turns.iter().map(|_| first + random.below(actions.len() - first)).collect();
    places.sort_unstable();
    for (at, action) in places.into_iter().zip(turns).rev() {
        actions.insert(at, action);
    }
}

/// Nodes that have disks crash more often, at times all of them at once.
fn power_down(actions: &mut Vec<Action>, random: &mut Random, plan: &Plan) {
    let slots = plan.nodes + plan.spare;
    // Not least where what a node holds has just become another's, or its own.
    for at in (0..actions.len()).rev() {
        if let Action::Follow { node, .. } | Action::Promote { node } = actions[at]
            && random.chance(40)
        {
            let behind = (at + 1 + random.below(60)).min(actions.len() - 1);
            let us = *random.pick(&[1000, 50_000, 500_000]);
            actions.insert(behind, Action::Crash { node, us, wiped: false, silent: random.chance(50) });
        }
    }
    for _ in 0..random.below(6) {
        let at = random.below(actions.len());
        let (nodes, silent) = (random.below(slots)..slots, random.chance(50));
        let nodes = if random.chance(25) { 0..slots } else { nodes.start..nodes.start + 1 };
        let us = *random.pick(&[1000, 50_000, 500_000, 3_000_000]);
        let crashes = nodes.map(|node| Action::Crash { node, us, wiped: false, silent });
        actions.splice(at..at, crashes);
    }
}

/// What becomes of a replica: it is promoted or told to follow another, a promoted one is made a partner or follows again.
fn replica_turns(random: &mut Random, plan: &Plan, came: &Action) -> Vec<Action> {
    let Action::Follow { node, .. } = *came else { return Vec::new() };
    let (mut turns, mut follows, mut named_by) = (Vec::new(), true, None);
    for _ in 0..1 + random.below(5) {
        let other = random.below(plan.nodes);
        let action = match (follows, named_by) {
            (true, _) if random.chance(70) => Action::Promote { node },
            (false, None) if random.chance(75) => Action::Partner { node: other, partner: node },
            (false, Some(by)) if random.chance(30) => Action::Part { node: by, partner: node },
            _ => Action::Follow { node, primary: other },
        };
        match action {
            Action::Promote { .. } => follows = false,
            Action::Follow { .. } => follows = true,
            Action::Part { .. } => named_by = None,
            _ => named_by = Some(other),
        }
        turns.push(action);
    }
    turns
}

/// Partners that are taken out, and named again.
fn partner_turns(random: &mut Random, plan: &Plan) -> Vec<Action> {
    let mut turns = Vec::new();
    for _ in 0..1 + random.below(4) {
        let node = random.below(plan.nodes);
        let partner = (node + 1 + random.below(plan.nodes - 1)) % plan.nodes;
        turns.push(match random.chance(60) {
            true => Action::Part { node, partner },
            false => Action::Partner { node, partner },
        });
    }
    turns
}

impl Action {
    fn parse(line: &str) -> Action {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap_or_else(|_| panic!("a number in: {line}"));
        let node = |at: usize| number(at) as usize;
        match verb {
            "step" => Action::Step { us: number(0) },
            "cut" => Action::Cut { a: node(0), b: node(1), us: number(2) },
            "stall" => Action::Stall { from: node(0), to: node(1), us: number(2) },
            "drop" => Action::Drop { a: node(0), b: node(1) },
            "crash" => {
                let (wiped, silent) = (words[2] == "wiped", words[3] == "silent");
                Action::Crash { node: node(0), us: number(1), wiped, silent }
            }
            "skew" => Action::Skew { node: node(0), ms: words[1].parse().expect("a number") },
            "join" => Action::Join { node: node(0), knows: node(1) },
            "follow" => Action::Follow { node: node(0), primary: node(1) },
            "promote" => Action::Promote { node: node(0) },
            "partner" => Action::Partner { node: node(0), partner: node(1) },
            "part" => Action::Part { node: node(0), partner: node(1) },
            "leave" => Action::Leave { node: node(0) },
            "calm" => Action::Calm,
            client => {
                let (node, session) = client.split_once('.').unwrap_or_else(|| panic!("no action: {line}"));
                let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
                let lines = rest.split("; ").map(words).collect();
                let (node, session) = (node.parse().expect("a node"), session.parse().expect("a client"));
                Action::Run { node, session, lines }
            }
        }
    }
}

/// The words of a command as text.
pub fn text(line: &Line) -> String {
    line.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Run { node, session, lines } => {
                let lines: Vec<String> = lines.iter().map(text).collect();
                write!(f, "{node}.{session} {}", lines.join("; "))
            }
            Action::Step { us } => write!(f, "step {us}"),
            Action::Cut { a, b, us } => write!(f, "cut {a} {b} {us}"),
            Action::Stall { from, to, us } => write!(f, "stall {from} {to} {us}"),
            Action::Drop { a, b } => write!(f, "drop {a} {b}"),
            Action::Crash { node, us, wiped, silent } => {
                let (wiped, silent) =
                    (if *wiped { "wiped" } else { "kept" }, if *silent { "silent" } else { "loud" });
                write!(f, "crash {node} {us} {wiped} {silent}")
            }
            Action::Skew { node, ms } => write!(f, "skew {node} {ms}"),
            Action::Join { node, knows } => write!(f, "join {node} {knows}"),
            Action::Follow { node, primary } => write!(f, "follow {node} {primary}"),
            Action::Promote { node } => write!(f, "promote {node}"),
            Action::Partner { node, partner } => write!(f, "partner {node} {partner}"),
            Action::Part { node, partner } => write!(f, "part {node} {partner}"),
            Action::Leave { node } => write!(f, "leave {node}"),
            Action::Calm => f.write_str("calm"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { nodes, spare, backlog_bytes, absence_s, full_mesh, delay_us, piece_bytes, cuts, disk } =
            self;
        write!(
            f,
            "nodes {nodes} spare {spare} backlog {backlog_bytes} absence {absence_s} full_mesh {full_mesh} "
        )?;
        write!(f, "delay {delay_us} piece {piece_bytes} cuts {cuts} disk {disk}")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\n{}", self.seed, self.plan)?;
        self.actions.iter().try_for_each(|action| writeln!(f, "{action}"))
    }
}

#[test]
fn a_schedule_is_read_as_it_is_written() {
    for seed in 1..200 {
        let schedule = Schedule::draw(seed);
        let mut text = String::new();
        write!(text, "{schedule}").unwrap();
        assert_eq!(Schedule::parse(&text), schedule);
    }
}
