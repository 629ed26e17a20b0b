//! The mesh told what happens, by hand: what it answers, whom it dials, and what it waits for.

use super::link::CONTROL_FRAMES_MAX;
use super::*;
use crate::clock::ntp_from_unix_ms;
use crate::link::backlog::Segment;
use crate::link::vector::Progress;

const TIMING: Timing =
    Timing { heartbeat_ms: 100, timeout_ms: 2000, absence_ms: 60_000, backlog_ms: Some(5000) };

fn member(node: u64) -> Member {
    let origin = Origin::new(NodeId::new(node << 24), 1);
    Member { origin, host: format!("n{node}"), port: 7000, follower: false }
}

fn hello(node: u64) -> Hello {
    let (vector, members, registers) = (Vector::default(), Vec::new(), Vec::new());
    Hello { version: VERSION, sender: member(node), vector, members, registers }
}

fn vector(progress: &[(u64, u64, u64)]) -> Vector {
    let mut vector = Vector::default();
    for (node, sequence, watermark) in progress {
        let progress = Progress { sequence: *sequence, watermark: NTP64(*watermark) };
        vector.advance(member(*node).origin, progress);
    }
    vector
}

fn segment(first: u64, count: u64) -> Segment {
    let seen = Vec::new();
    Segment { first, count, watermark: NTP64(first + count - 1), seen, batches: vec![0; 8].into() }
}

/// Node 1, linked with nodes 2 and 3 by links of their numbers.
fn linked() -> Mesh {
    let mut mesh = Mesh::new(member(1), TIMING, 1 << 20);
    for node in [2, 3] {
        mesh.open(node, None, format!("n{node}"), Vec::new(), 0);
        mesh.hello(node, hello(node), 0).unwrap();
    }
    mesh
}

fn heartbeat(vector: Vector) -> Heartbeat {
    let (floors, linked) = (Vec::new(), Vec::new());
    Heartbeat {
        vector,
        floors,
        linked,
        syncing: false,
        pulls: false,
        taken: NTP64(0),
        sent_us: 0,
        echo: None,
    }
}

/// What it has to say on a link.
fn said(mesh: &mut Mesh, id: LinkId) -> Vec<Frame> {
    let mut out = Vec::new();
    mesh.poll(id, 0, &mut out);
    let mut frames = Vec::new();
    while let Some(length) = frame::length(&out, frame::FRAME_BYTES_MAX).unwrap() {
        frames.push(frame::read(&out[..length]).unwrap().0);
        out.drain(..length);
    }
    frames
}

/// Takes a segment as the engine does.
fn take(mesh: &mut Mesh, id: LinkId, origin: Origin, first: u64, count: u64) {
    if let Verdict::Merge { skip } = mesh.judge(origin, first, count).unwrap() {
        mesh.merged(origin, segment(first + skip, count - skip));
    }
    mesh.taken(id, origin, first + count - 1);
}

#[test]
fn in_a_pair_the_partners_batches_stay_for_readers_and_give_way_to_what_the_partner_lacks() {
    let mut mesh = Mesh::new(member(1), TIMING, 24);
    mesh.open(2, None, "n2".into(), Vec::new(), 0);
    mesh.hello(2, hello(2), 0).unwrap();
    let [own, partner] = [1, 2].map(|node| member(node).origin);
    mesh.sequence(1, vec![0; 8], NTP64(1));
    (1..=3).for_each(|number| take(&mut mesh, 2, partner, number, 1));
    let held = |mesh: &Mesh, origin| -> Vec<u64> {
        mesh.backlog().after(origin, 0).map(|segment| segment.first).collect()
    };
    assert_eq!([held(&mesh, own), held(&mesh, partner)], [vec![1], vec![2, 3]]);
    mesh.heartbeat(2, heartbeat(vector(&[(1, 1, 1)])), NTP64(9), 0).unwrap();
    take(&mut mesh, 2, partner, 4, 1);
    assert_eq!([held(&mesh, own), held(&mesh, partner)], [vec![], vec![2, 3, 4]]);
}

#[test]
fn the_backlog_outlives_the_last_link_by_its_time_only() {
    let mut mesh = linked();
    let own = mesh.own.origin;
    mesh.tick(1000);
    mesh.sequence(1, vec![0; 8], NTP64(1));
    mesh.tick(10_000);
    assert!(mesh.backlog().has(own, 1), "a link is there");
    [2, 3].into_iter().for_each(|id| mesh.closed(id, Fault::Closed, 10_000));
    for now_ms in (10_000..=15_000).step_by(100) {
        mesh.tick(now_ms);
    }
    assert!(mesh.backlog().has(own, 1));
    mesh.tick(15_001);
    assert_eq!((mesh.backlog().has(own, 1), mesh.backlog().bytes()), (false, 0));
}

#[test]
fn nothing_is_stable_before_a_configured_partner_was_met_or_given_up() {
    let mut mesh = Mesh::new(member(1), TIMING, 1 << 20);
    mesh.add_address(("n2".into(), 7000));
    mesh.sequence(1, vec![0; 8], NTP64(50));
    mesh.tick(1000);
    assert_eq!(mesh.stable(1000), NTP64(0));
    assert_eq!(mesh.stable(1000 + TIMING.absence_ms + 1), NTP64(50));
}

#[test]
fn a_node_that_is_linked_anew_is_counted_once_by_wait() {
    let mut mesh = linked();
    mesh.sequence(1, vec![0; 8], NTP64(50));
    let has = vector(&[(1, 1, 50)]);
    for id in [4, 5] {
        mesh.open(id, None, "n4".into(), Vec::new(), 0);
        mesh.hello(id, Hello { vector: has.clone(), ..hello(4) }, 0).unwrap();
    }
    assert_eq!(mesh.acknowledged(1), 1);
}

#[test]
fn heartbeats_go_on_though_a_thread_notes_a_time_it_read_before_the_clock_was_set_back() {
    let mut mesh = linked();
    let hour_ms = 3_600_000;
    mesh.tick(hour_ms);
    mesh.tick(1000);
    let mut sends = |now_ms| {
        let mut out = Vec::new();
        mesh.poll(2, now_ms * 1000, &mut out);
        !out.is_empty()
    };
    sends(hour_ms);
    assert!(sends(1200));
    assert!(!sends(1250));
    assert!(sends(1300));
}

#[test]
fn a_node_is_behind_until_it_has_what_a_peer_had_when_their_link_began() {
    let mut mesh = linked();
    mesh.open(4, None, "n4".into(), Vec::new(), 0);
    mesh.hello(4, Hello { vector: vector(&[(4, 2, 2), (1, 9, 9)]), ..hello(4) }, 0).unwrap();
    assert!(!mesh.is_behind(mesh.link(2).unwrap()));
    assert!(mesh.is_behind(mesh.link(4).unwrap()));
    take(&mut mesh, 4, member(4).origin, 1, 1);
    assert!(mesh.is_behind(mesh.link(4).unwrap()));
    take(&mut mesh, 4, member(4).origin, 2, 1);
    assert!(!mesh.is_behind(mesh.link(4).unwrap()));
}

#[test]
fn batches_passed_over_for_a_pull_are_asked_for_again_when_it_breaks_off() {
    let mut mesh = linked();
    let third = member(3).origin;
    take(&mut mesh, 3, third, 1, 2);
    mesh.begin_pull(2, Want::All, Vec::new(), 0);
    assert!(mesh.differs(2, vector(&[(3, 5, 5)]), &[7], &[]));
    take(&mut mesh, 3, third, 3, 4);
    assert_eq!(
        mesh.vector().of(third).sequence,
        2,
        "batches 3 to 5 were not merged: the pull was to bring them"
    );
    mesh.closed(2, Fault::Closed, 0);
    assert_eq!(mesh.link(3).unwrap().fault, Some(Fault::PullLost));
}

#[test]
fn what_a_lost_link_brought_during_a_lost_pull_is_not_compared_before_it_is_back() {
    let mut mesh = linked();
    let third = member(3).origin;
    mesh.begin_pull(2, Want::All, Vec::new(), 0);
    assert!(mesh.differs(2, vector(&[(3, 5, 5)]), &[7], &[]));
    take(&mut mesh, 3, third, 6, 1);
    assert_eq!(mesh.vector().of(third).sequence, 0, "but what is in batch 6 is here");
    mesh.closed(3, Fault::Closed, 0);
    mesh.closed(2, Fault::Closed, 0);
    let come_back = |mesh: &mut Mesh, node: u64, has: u64| {
        mesh.open(10 + node, None, format!("n{node}"), Vec::new(), 100);
        mesh.hello(10 + node, Hello { vector: vector(&[(3, has, has)]), ..hello(node) }, 100).unwrap();
    };
    let compares = |mesh: &mut Mesh| {
        mesh.tick(100);
        mesh.can_compare(&Vector::default())
    };
    come_back(&mut mesh, 2, 5);
    assert!(!compares(&mut mesh), "it lacks what the giver has");
    mesh.merged(third, segment(1, 5));
    assert!(!compares(&mut mesh), "it has what the giver has, and batch 6 uncounted");
    come_back(&mut mesh, 3, 6);
    assert!(!compares(&mut mesh));
    mesh.merged(third, segment(6, 1));
    assert!(compares(&mut mesh));
}

#[test]
fn a_pull_begun_anew_goes_by_the_last_answer() {
    let mut mesh = linked();
    mesh.begin_pull(2, Want::All, Vec::new(), 0);
    assert!(mesh.told_of_gap(2));
    mesh.begin_pull(2, Want::All, Vec::new(), 0);
    assert!(!mesh.differs(2, vector(&[(2, 4, 4)]), &[7], &[]));
    assert!(mesh.differs(2, vector(&[(2, 9, 9)]), &[7], &[]));
    mesh.pulled(2, 7, None, false, Brought::default());
    assert_eq!(mesh.vector().of(member(2).origin).sequence, 9);
}

#[test]
fn what_a_peer_has_of_a_life_that_ended_holds_the_floor_back() {
    let mut mesh = linked();
    mesh.sequence(1, vec![0; 8], NTP64(50));
    take(&mut mesh, 2, member(2).origin, 1, 40);
    take(&mut mesh, 3, member(3).origin, 1, 40);
    assert_eq!(mesh.floor(0), NTP64(40));
    let floors = Vec::new();
    let heartbeat = Heartbeat {
        vector: vector(&[(4, 1, 1)]),
        floors,
        linked: Vec::new(),
        syncing: false,
        pulls: false,
        taken: NTP64(0),
        sent_us: 0,
        echo: None,
    };
    mesh.heartbeat(2, heartbeat, NTP64(u64::MAX), 0).unwrap();
    assert_eq!(mesh.floor(0), NTP64(0), "node 4 is no member, but what it wrote is still to come");
}

#[test]
fn a_wiped_node_is_a_member_though_the_link_to_its_former_self_has_not_ended() {
    let mut mesh = linked();
    mesh.open(4, None, "n2".into(), Vec::new(), 0);
    let sender = Member { host: "n2".into(), ..member(4) };
    mesh.hello(4, Hello { sender, ..hello(4) }, 0).unwrap();
    let nodes = |mesh: &Mesh| -> Vec<Origin> { mesh.members().map(|state| state.member.origin).collect() };
    assert_eq!(nodes(&mesh), [2, 3, 4].map(|node| member(node).origin));
    mesh.closed(2, Fault::Silent(1), 0);
    assert_eq!(nodes(&mesh), [3, 4].map(|node| member(node).origin));
}

#[test]
fn progress_of_an_earlier_life_does_not_count_for_the_next() {
    let mut mesh = linked();
    let report = |origin| Heartbeat {
        vector: Vector::default(),
        floors: vec![Floor { origin, floor: NTP64(30), at: NTP64(0), of: Vec::new() }],
        linked: Vec::new(),
        syncing: false,
        pulls: false,
        taken: NTP64(0),
        sent_us: 0,
        echo: None,
    };
    let second = Origin::new(member(2).origin.node(), 2);
    mesh.told_of(3, vec![Member { origin: second, ..member(2) }], 0);
    mesh.heartbeat(3, report(member(2).origin), NTP64(u64::MAX), 0).unwrap();
    assert_eq!(mesh.members().find(|state| state.member.origin == second).unwrap().reported.floor, NTP64(0));
    mesh.heartbeat(3, report(second), NTP64(u64::MAX), 0).unwrap();
    assert_eq!(mesh.members().find(|state| state.member.origin == second).unwrap().reported.floor, NTP64(30));
}

#[test]
fn a_floor_that_leaves_out_a_member_does_not_count() {
    let mut mesh = linked();
    mesh.sequence(1, vec![0; 8], NTP64(50));
    take(&mut mesh, 2, member(2).origin, 1, 40);
    take(&mut mesh, 3, member(3).origin, 1, 40);
    let mut report = |node: u64, at: u64, of: &[u64]| {
        let of = of.iter().map(|node| member(*node).origin).collect();
        let floors = vec![Floor { origin: member(node).origin, floor: NTP64(30), at: NTP64(at), of }];
        let heartbeat = Heartbeat {
            vector: Vector::default(),
            floors,
            linked: Vec::new(),
            syncing: false,
            pulls: false,
            taken: NTP64(0),
            sent_us: 0,
            echo: None,
        };
        mesh.heartbeat(node, heartbeat, NTP64(u64::MAX), 0).unwrap();
        mesh.stable(0)
    };
    report(2, 20, &[1, 3]);
    assert_eq!(report(3, 20, &[2]), NTP64(0), "node 3 has not heard of this node");
    assert_eq!(report(3, 21, &[1, 2]), NTP64(30));
}

#[test]
fn what_a_life_wrote_that_is_known_to_be_over_is_passed_on() {
    let (mut mesh, mut out) = (linked(), Vec::new());
    let third = member(3).origin;
    take(&mut mesh, 3, third, 1, 1);
    mesh.closed(3, Fault::Closed, 0);
    let heartbeat = Heartbeat { linked: vec![third.node()], ..heartbeat(Vector::default()) };
    mesh.heartbeat(2, heartbeat, NTP64(u64::MAX), 0).unwrap();
    mesh.poll(2, 0, &mut out);
    assert!(!mesh.wants_to_send(2), "node 3 is there to tell it itself");
    // As a replica of node 2, which nobody else is told of.
    take(&mut mesh, 2, Origin::new(third.node(), 2), 1, 1);
    assert!(mesh.wants_to_send(2));
}

#[test]
fn what_a_pull_brought_without_its_batches_is_a_gap_for_others() {
    let mut mesh = linked();
    let third = member(3).origin;
    take(&mut mesh, 3, third, 1, 2);
    mesh.begin_pull(2, Want::All, Vec::new(), 0);
    assert!(mesh.differs(2, vector(&[(3, 5, 5)]), &[], &[]));
    // Node 2 lost the link to node 3, and lacks what the backlog does not hold.
    let heartbeat = heartbeat(vector(&[(3, 2, 2)]));
    mesh.heartbeat(2, heartbeat, NTP64(u64::MAX), 0).unwrap();
    let frames = said(&mut mesh, 2);
    assert!(frames.contains(&Frame::Gap), "{frames:?}");
    assert!(!mesh.wants_to_send(2));
}

/// Else it would begin the pull anew, end the links whose batches it had taken meanwhile, and with the next loss of one begin
/// anew again.
#[test]
fn who_pulls_everything_lacks_nothing_because_it_loses_a_link() {
    let mut mesh = linked();
    let third = member(3).origin;
    mesh.begin_pull(3, Want::All, Vec::new(), 0);
    assert!(mesh.differs(3, vector(&[(3, 5, 5)]), &[], &[]));
    let mut linked = Heartbeat { linked: vec![third.node()], ..heartbeat(Vector::default()) };
    mesh.heartbeat(2, linked.clone(), NTP64(u64::MAX), 0).unwrap();
    mesh.give(2, Vec::new(), BTreeMap::new(), frame::Globals::default());
    mesh.pass_over(2);
    linked.linked.clear();
    mesh.heartbeat(2, linked, NTP64(u64::MAX), 0).unwrap();
    let frames = said(&mut mesh, 2);
    assert!(!frames.contains(&Frame::Gap), "{frames:?}");
    // What comes behind it is passed on.
    take(&mut mesh, 3, third, 6, 1);
    let is_next =
        |frame: &Frame| matches!(frame, Frame::Segment { origin, first: 6, .. } if *origin == third);
    assert!(said(&mut mesh, 2).iter().any(is_next));
}

#[test]
fn who_was_heard_by_the_clock_before_it_was_set_is_not_silent() {
    for (before, after) in [(10_000, 3_610_000), (3_610_000, 10_000)] {
        let mut mesh = linked();
        mesh.heard(2, before);
        mesh.tick(before);
        mesh.tick(after);
        mesh.heard(2, before + 50);
        mesh.tick(after + 100);
        assert!(mesh.link(2).unwrap().fault.is_none(), "set from {before} to {after}");
        (1..30).for_each(|n| mesh.tick(after + n * 100));
        assert!(mesh.link(2).unwrap().fault.is_some(), "its silence is noticed after {after}");
    }
}

#[test]
fn who_was_heard_between_a_tick_and_the_step_of_the_clock_is_not_silent() {
    let mut mesh = linked();
    mesh.heard(2, 10_000);
    mesh.tick(10_000);
    mesh.heard(2, 10_015);
    mesh.tick(3_610_020);
    assert_eq!(mesh.link(2).unwrap().fault, None);
}

#[test]
fn a_report_under_a_time_that_is_not_taken_does_not_count() {
    let mut mesh = linked();
    let report = |at: u64| Heartbeat {
        floors: vec![Floor { origin: member(2).origin, floor: NTP64(at), at: NTP64(at), of: Vec::new() }],
        ..heartbeat(vector(&[(2, 0, at)]))
    };
    mesh.heartbeat(2, report(5000), NTP64(100), 0).unwrap();
    mesh.heartbeat(2, report(50), NTP64(100), 0).unwrap();
    let reported = &mesh.members[&member(2).origin.node()].reported;
    assert_eq!(reported.at, NTP64(50), "its clock was set right");
}

#[test]
fn the_messages_of_a_batch_that_comes_again_are_delivered_once() {
    let mut mesh = linked();
    let [two, three] = [2, 3].map(|node| member(node).origin);
    let news = [(two, 1), (two, 2), (two, 1), (two, 2), (three, 1), (two, 3)];
    assert_eq!(
        news.map(|(origin, number)| mesh.delivers(origin, number)),
        [true, true, false, false, true, true]
    );
}

#[test]
fn what_changes_before_the_giver_answers_is_pulled_too() {
    let mut mesh = linked();
    mesh.begin_pull(2, Want::All, Vec::new(), 0);
    mesh.changes([5, 7].into_iter());
    assert!(mesh.differs(2, vector(&[(3, 9, 9)]), &[7], &[5, 6]));
    mesh.changes([8].into_iter());
    assert_eq!(mesh.pull().unwrap().total, 3);
    let control = &mesh.link(2).unwrap().control;
    let asked = control.iter().filter_map(|frame| match frame {
        Frame::Pull { range, graves, .. } => Some((*range, *graves)),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [(5, false), (7, false), (6, true)]);
}

#[test]
fn nobody_tells_a_node_of_its_own_batches() {
    let mut mesh = linked();
    let own = mesh.own.origin;
    mesh.sequence(1, vec![0; 8], NTP64(5));
    let before = mesh.vector().of(own);
    let claim = vector(&[(1, 1, 50), (2, 3, 3)]);
    mesh.heartbeat(2, heartbeat(claim), NTP64(u64::MAX), 0).unwrap();
    assert_eq!(mesh.vector().of(own), before);
    mesh.begin_pull(2, Want::All, Vec::new(), 0);
    assert!(mesh.differs(2, vector(&[(1, 9, 90), (2, 3, 3)]), &[], &[]));
    assert_eq!((mesh.vector().of(own), mesh.vector().of(member(2).origin).sequence), (before, 3));
}

/// A piece was read after its giver had answered: what it had merged by then is told of by batches that come behind.
#[test]
fn pulled_ranges_are_compared_once_all_that_the_giver_had_is_here() {
    let mut mesh = linked();
    let two = member(2).origin;
    mesh.begin_pull(2, Want::All, Vec::new(), 0);
    assert!(mesh.differs(2, vector(&[(2, 1, 1)]), &[7], &[]));
    mesh.pulled(2, 7, None, false, Brought { bytes: 100, changed_keys: 1 });
    assert!(mesh.pull().is_none());
    let compares = |mesh: &mut Mesh, pulls: bool, has: u64| {
        mesh.heartbeat(2, Heartbeat { pulls, ..heartbeat(vector(&[(2, has, has)])) }, NTP64(100), 0).unwrap();
        mesh.tick(100);
        mesh.can_compare(&Vector::default())
    };
    mesh.tick(100);
    assert!(!mesh.can_compare(&Vector::default()), "what the giver had is not known yet");
    assert!(!compares(&mut mesh, true, 1), "the giver itself holds more than it says");
    assert!(!compares(&mut mesh, false, 2));
    take(&mut mesh, 2, two, 2, 1);
    assert!(compares(&mut mesh, false, 9), "what it has written since is not in the range");
}

#[test]
fn members_are_waited_for_over_a_restart_unless_they_were_taken_out() {
    let at = |node: u64| (format!("n{node}"), 7000);
    let mut mesh = linked();
    [2, 3].into_iter().for_each(|node| mesh.add_address(at(node)));
    mesh.open(4, Some(at(2)), "n2".into(), Vec::new(), 0);
    let _ = mesh.hello(4, hello(2), 0);
    mesh.told_of(3, vec![member(4)], 0);
    mesh.tick(1000);
    let known = mesh.known(1000);
    let configured = |node: u64| {
        let known = known.iter().find(|known| known.member == member(node));
        known.map(|known| known.configured.clone())
    };
    assert_eq!([2, 3, 4].map(configured), [Some(vec![at(2)]), Some(vec![at(3)]), Some(vec![])]);
    assert_eq!(mesh.known(100_000), [], "those away for too long are not waited for");

    let mut again = Mesh::new(member(1), TIMING, 1 << 20);
    again.add_address(at(2));
    again.restore(known, 200_000);
    again.tick(200_000);
    let nodes: Vec<Member> = again.members().map(|state| state.member.clone()).collect();
    assert_eq!(nodes, [member(2), member(4)]);
    again.sequence(0, Vec::new(), NTP64(9));
    assert_eq!(again.stable(200_000), NTP64(0), "they may hold anything");
    assert_eq!(again.dials_due(200_000), [at(2), at(4)]);
    assert_eq!(again.stable(300_000), NTP64(9), "and are away for too long");
}

#[test]
fn what_was_promised_to_a_former_member_is_not_given_back() {
    for (drops, gives_back) in [(true, false), (false, true)] {
        let mut mesh = Mesh::new(member(1), TIMING, 1 << 20);
        mesh.sequence(0, Vec::new(), NTP64(100));
        if drops {
            mesh.set_addresses(Vec::new());
        }
        assert!(!mesh.recall(NTP64(50), 10_000), "it begins to ask");
        assert_eq!(mesh.recall(NTP64(50), 10_020), gives_back);
    }
}

#[test]
fn who_was_dialed_before_it_was_taken_out_gets_no_link() {
    let mut mesh = Mesh::new(member(1), TIMING, 1 << 20);
    let at = |node: u64| (format!("n{node}"), 7000);
    mesh.add_address(at(2));
    assert_eq!(mesh.dials_due(0), [at(2)]);
    mesh.set_addresses(Vec::new());
    mesh.open(1, Some(at(2)), "n2".into(), Vec::new(), 0);
    assert_eq!(mesh.link(1).unwrap().fault, Some(Fault::Unwanted));
    mesh.closed(1, Fault::Unwanted, 0);
    assert_eq!(mesh.dials_due(10_000), []);
}

#[test]
fn a_refusal_is_told_once_until_its_reason_changes_or_a_link_came_to_be() {
    let mut mesh = Mesh::new(member(1), TIMING, 1 << 20);
    let (at, here) = (("n2".to_owned(), 7000), member(1).origin.node());
    mesh.add_address(at.clone());
    let mut told = |says: Option<&str>| {
        mesh.dial_failed(&at, says.map(str::to_owned), 0);
        mesh.take_events()
    };
    let refused = |reason: &str| vec![Event::Refused(at.clone(), reason.into())];
    assert_eq!([told(Some("-A")), told(Some("-A")), told(None)], [refused("-A"), vec![], vec![]]);
    assert_eq!([told(Some("-A")), told(Some("-B"))], [vec![], refused("-B")]);
    let mut calls = |dialed: Option<&Address>, hello: Hello| {
        mesh.open(1, dialed.cloned(), "n2".into(), Vec::new(), 0);
        let taken = mesh.hello(1, hello, 0);
        mesh.closed(1, taken.err().unwrap_or(Fault::Closed), 0);
        let events = mesh.take_events().into_iter();
        events
            .filter(|event| matches!(event, Event::Refused(..) | Event::CallerRefused(..)))
            .collect::<Vec<_>>()
    };
    let old = || Hello { version: VERSION + 1, ..hello(2) };
    let caller = || vec![Event::CallerRefused("n2".into(), Fault::Version(VERSION + 1))];
    assert_eq!([calls(None, old()), calls(None, old())], [caller(), vec![]]);
    let copied = Hello { sender: Member { origin: Origin::new(here, 2), ..member(2) }, ..hello(2) };
    assert_eq!(calls(None, copied), [Event::CallerRefused("n2".into(), Fault::SameId(here))]);
    assert_eq!([calls(None, hello(2)), calls(None, old()), calls(None, old())], [vec![], caller(), vec![]]);
    let version = refused(&Fault::Version(VERSION + 1).to_string());
    assert_eq!([calls(Some(&at), old()), calls(Some(&at), old())], [version.clone(), vec![]]);
    assert_eq!([calls(Some(&at), hello(2)), calls(Some(&at), old())], [vec![], version]);
}

#[test]
fn peers_are_told_of_a_repair_though_the_node_serves_meanwhile() {
    let mut mesh = linked();
    let mut said = |want: Want| {
        mesh.begin_pull(2, want, Vec::new(), 0);
        assert!(mesh.differs(2, Vector::default(), &[7], &[]));
        let said = mesh.own_heartbeat(0, None);
        mesh.pulled(2, 7, None, false, Brought { bytes: 100, changed_keys: 1 });
        (said.pulls, said.syncing)
    };
    assert_eq!(said(Want::All), (true, true));
    assert_eq!(said(Want::Repair(vec![7])), (true, false));
    let said = mesh.own_heartbeat(0, None);
    assert_eq!((said.pulls, said.syncing), (false, false));
}

/// The members named in the frames a link is about to send.
fn told(mesh: &mut Mesh, id: LinkId) -> Vec<Member> {
    let control = std::mem::take(&mut mesh.links.get_mut(&id).unwrap().control);
    let mut members = control.into_iter().filter_map(|frame| match frame {
        Frame::Hello(hello) => Some(hello.members),
        Frame::Members(members) => Some(members),
        _ => None,
    });
    members.next_back().unwrap_or_default()
}

#[test]
fn a_replica_concerns_its_primary_only_and_hears_from_it_who_is_gone() {
    let mut primary = linked();
    let replica = Member { follower: true, ..member(4) };
    primary.open(4, None, "n4".into(), Vec::new(), 0);
    primary.hello(4, Hello { sender: replica.clone(), ..hello(4) }, 0).unwrap();
    assert_eq!(told(&mut primary, 2), [member(2), member(3)]);
    let first = told(&mut primary, 4);
    assert_eq!(first, [member(2), member(3)]);

    let mut follower = Mesh::new(replica, TIMING, 1 << 20);
    follower.open(1, None, "n1".into(), Vec::new(), 0);
    follower.hello(1, Hello { members: first, ..hello(1) }, 0).unwrap();
    assert_eq!(follower.members().count(), 3);
    // Another node comes to the place of one of them.
    primary.closed(3, Fault::Closed, 0);
    primary.open(5, None, "n3".into(), Vec::new(), 0);
    let wiped = Member { host: "n3".into(), ..member(5) };
    primary.hello(5, Hello { sender: wiped.clone(), ..hello(5) }, 0).unwrap();
    let then = told(&mut primary, 4);
    assert_eq!(then, [member(2), wiped.clone()]);
    follower.told_of(1, then, 0);
    let known: Vec<Member> = follower.members().map(|state| state.member.clone()).collect();
    assert_eq!(known, [member(1), member(2), wiped]);
}

#[test]
fn what_members_report_counts_for_a_replica_that_they_do_not_know() {
    let mut mesh = Mesh::new(Member { follower: true, ..member(4) }, TIMING, 1 << 20);
    mesh.open(1, None, "n1".into(), Vec::new(), 0);
    mesh.hello(1, hello(1), 0).unwrap();
    mesh.tick(1);
    let reported = Floor { origin: member(1).origin, floor: NTP64(7), at: NTP64(7), of: Vec::new() };
    let said = Heartbeat { floors: vec![reported], ..heartbeat(vector(&[(1, 0, 9)])) };
    mesh.heartbeat(1, said, NTP64(100), 0).unwrap();
    mesh.sequence(0, Vec::new(), NTP64(50));
    assert_eq!(mesh.stable(1), NTP64(7));
}

#[test]
fn a_link_that_takes_nothing_holds_no_queue_of_questions_and_few_answers() {
    let mut mesh = linked();
    let mut out = Vec::new();
    mesh.poll(2, 0, &mut out);
    (0..10_000).for_each(|_| mesh.ask_all());
    assert!(mesh.wants_to_send(2) && mesh.link(2).unwrap().control.is_empty());
    out.clear();
    mesh.poll(2, 0, &mut out);
    assert_eq!(frame::read(&out), Ok((Frame::Ask, &[][..])), "one question for all who wait");
    assert!(!mesh.wants_to_send(2));

    let give = |mesh: &mut Mesh| mesh.give(2, Vec::new(), BTreeMap::new(), frame::Globals::default());
    (0..CONTROL_FRAMES_MAX).for_each(|_| give(&mut mesh));
    assert_eq!(mesh.link(2).unwrap().fault, None);
    give(&mut mesh);
    assert!(mesh.link(2).unwrap().fault.is_some());
    assert_eq!(mesh.link(2).unwrap().control.len(), CONTROL_FRAMES_MAX);
}

#[test]
fn messages_of_a_former_life_that_come_back_are_not_delivered_again() {
    let mut mesh = linked();
    let (before, after) = (mesh.own.origin, Origin::new(mesh.own.origin.node(), 2));
    mesh.sequence(3, vec![0; 24], NTP64(3));
    mesh.begin_life(after);
    assert!(!mesh.delivers(before, 2));
    assert!(mesh.delivers(member(2).origin, 2));
}

#[test]
fn a_skew_is_told_once_and_over_only_when_the_peers_stamps_are_right() {
    let mut mesh = linked();
    mesh.take_events();
    let second_us = 1_000_000;
    let limit = |now_us: u64| ntp_from_unix_ms(now_us / 1000 + 5000);
    // A heartbeat that node 2 sends half a millisecond after it had one of this node's, all of it timed at once.
    let says = |mesh: &mut Mesh, now_us: u64, ahead_us: u64, promise_us: u64| {
        let promise = ntp_from_unix_ms((now_us + ahead_us + promise_us) / 1000).0;
        let echo = Some(Echo { sent_us: now_us - 1500, received_us: now_us - 1000 + ahead_us });
        let sent_us = now_us - 500 + ahead_us;
        let heartbeat = Heartbeat { sent_us, echo, ..heartbeat(vector(&[(2, 0, promise)])) };
        mesh.timed(2, &heartbeat, now_us);
        heartbeat
    };
    let skew_events = |mesh: &mut Mesh| {
        let events = mesh.take_events().into_iter();
        events.filter(|event| matches!(event, Event::Skewed(..) | Event::Unskewed(_))).collect::<Vec<_>>()
    };
    let state = |mesh: &Mesh, now_us: u64| mesh.partners(now_us / 1000)[0].state.clone();
    let node = member(2).origin.node();
    let mut now_us = 100 * second_us;
    mesh.hold(2, Some(10_000));
    assert_eq!(skew_events(&mut mesh), [Event::Skewed(node, 10_000)]);
    for _ in 0..5 {
        // It comes while the link is held, and is taken five seconds late, before the next frame is held.
        let waits = says(&mut mesh, now_us, 10 * second_us, 0);
        now_us += 5 * second_us;
        mesh.hold(2, None);
        mesh.heartbeat(2, waits, limit(now_us), now_us).unwrap();
        assert!(state(&mesh, now_us) == State::ClockSkew && !mesh.link(2).unwrap().held);
        mesh.hold(2, Some(9000));
    }
    mesh.hold(2, None);
    assert_eq!(skew_events(&mut mesh), []);
    // The clock is set right, but it goes on to stamp by what it has taken of others; then that is given back.
    mesh.links.get_mut(&2).unwrap().offset.reset();
    let ahead = says(&mut mesh, now_us, 0, 10 * second_us);
    mesh.heartbeat(2, ahead, limit(now_us), now_us).unwrap();
    assert_eq!(skew_events(&mut mesh), []);
    mesh.closed(2, Fault::Closed, now_us / 1000);
    mesh.open(2, None, "n2".into(), Vec::new(), now_us / 1000);
    mesh.hello(2, hello(2), now_us / 1000).unwrap();
    assert_eq!(state(&mesh, now_us), State::ClockSkew, "a new link shows nothing yet");
    let right = says(&mut mesh, now_us, 0, 0);
    mesh.heartbeat(2, right, limit(now_us), now_us).unwrap();
    assert_eq!(skew_events(&mut mesh), [Event::Unskewed(node)]);
    assert_ne!(state(&mesh, now_us), State::ClockSkew);
}

#[test]
fn who_does_not_wait_for_a_member_is_told_of_it_again() {
    let mut mesh = linked();
    let mut out = Vec::new();
    mesh.poll(2, 0, &mut out);
    let mut told = |of: &[u64], now_ms: u64| {
        let of = of.iter().map(|node| member(*node).origin).collect();
        let floor = Floor { origin: member(2).origin, floor: NTP64(1), at: NTP64(1), of };
        let said = Heartbeat { floors: vec![floor], ..heartbeat(Vector::default()) };
        mesh.heartbeat(2, said, NTP64(100), now_ms * 1000).unwrap();
        mesh.link(2).unwrap().control.len()
    };
    assert_eq!([told(&[1, 3], 5000), told(&[1], 5000)], [0, 1]);
    assert_eq!([told(&[1], 5100), told(&[1], 6000)], [1, 2], "once a second");
}
