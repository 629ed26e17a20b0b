//! Schedules that once failed, each as short as it could be made: those of planted bugs fail again when the bug is planted,
//! those of bugs that were fixed would fail without the fix. Some failed though nothing was wrong: a check had claimed
//! what nobody promises.

use meldis::faults::Faults;

use crate::play::play;
use crate::schedule::Schedule;

/// Plays a schedule, which must do no harm; with the bug it must.
pub fn check(bug: Faults, schedule: &str) {
    let schedule = Schedule::parse(schedule);
    if let Err(report) = play(&schedule, Faults::empty()) {
        panic!("{report}");
    }
    if !bug.is_empty() {
        assert!(play(&schedule, bug).is_err(), "the planted bug is not found any more");
    }
}

/// Plays what these seeds draw.
pub fn play_drawn(seeds: &[u64]) {
    for seed in seeds {
        if let Err(report) = play(&Schedule::draw(*seed), Faults::empty()) {
            panic!("{report}");
        }
    }
}

#[test]
fn a_node_that_comes_back_after_a_crash_is_heard() {
    check(
        Faults::LIVES_AS_ONE,
        "seed 3
         nodes 3 spare 1 backlog 200 absence 1 full_mesh true delay 5000 piece 7 cuts false
         step 30000
         step 30000
         step 10000
         step 10000
         step 1000
         step 100
         crash 1 3000000 kept loud
         calm",
    );
}

#[test]
fn a_flush_kills_what_was_written_before_it_and_comes_behind_it() {
    check(
        Faults::FORGOTTEN_FLUSH,
        "seed 21
         nodes 3 spare 0 backlog 1048576 absence 86400 full_mesh false delay 50000 piece 65536 cuts false
         2.1 INCRBY c2 -2
         0.1 FLUSHALL
         calm",
    );
}

/// The links of the first node bring it an old ZADD between the digests of its pull and the answer to them, whose giver has
/// long forgotten the ZREM that followed.
#[test]
fn a_pull_takes_out_what_others_brought_back_after_it_began() {
    check(
        Faults::empty(),
        "seed 2304
         nodes 3 spare 0 backlog 1048576 absence 86400 full_mesh false delay 200 piece 65536 cuts false
         1.1 LPUSH l0 v2; ZADD x1 6 f3; PERSIST k0
         step 10000
         step 100
         step 30000
         1.0 APPEND s1 v5; INCRBY c1 6; GETEX s0 PX 29254
         step 30000
         step 100
         step 1000
         2.1 INCRBY c0 9; INCRBY c1 -4
         0.1 INCRBY c1 2
         step 10000
         0.0 DEL x1
         1.1 SADD e0 f2
         step 30000
         cut 1 2 3000000
         step 10000
         step 10000
         step 10000
         2.2 SINTERSTORE e0 e0 e0
         step 1000
         2.2 SETRANGE s1 2 v2
         step 10000
         step 10000
         1.0 ZADD z0 9 f1
         step 30000
         step 1000
         step 10000
         1.2 SET x0 v4
         0.2 INCRBY t1 -9
         step 100
         step 100
         1.2 DEL x0
         step 10000
         1.0 DECRBY c0 6
         step 1000
         step 30000
         step 30000
         step 1000
         0.1 ZREM z0 f1
         step 1000
         step 30000
         step 100
         crash 0 500000 kept silent
         calm",
    );
}

/// A repair of few ranges took over the giver's whole vector, and with it batches that were still on their way: a counter
/// lost what a living node had added to it, and ranges differed under equal vectors.
#[test]
fn a_repair_of_few_ranges_says_nothing_of_the_others() {
    play_drawn(&[5792, 5893]);
}

/// A node that is behind by more than `max-clock-drift` cannot take over its peers' time: what it writes once they know it is
/// stamped below what they have collected.
#[test]
fn a_wiped_node_whose_clock_is_far_behind_writes_below_what_is_settled() {
    check(
        Faults::empty(),
        "seed 25144
         nodes 2 spare 0 backlog 2000 absence 86400 full_mesh true delay 5000 piece 7 cuts false
         1.2 EXPIRE e0 0; ZPOPMIN z0; RPUSH l2 v0 v4; SADD x2 f3
         calm
         0.0 DEL x2
         step 0
         step 10000
         step 100
         skew 1 -10156
         step 100
         step 30000
         crash 1 50000 wiped silent
         step 30000
         step 30000
         step 30000
         step 1000
         step 30000
         1.0 SET x2 v4; RPUSH l2 v3 v1; APPEND s1 v5
         calm",
    );
}

/// A string that nothing known can contest is kept as if it was SET, which takes an older expiry with it.
#[test]
fn an_expiry_of_a_node_not_known_yet_is_lost_to_a_string_that_has_settled() {
    check(
        Faults::empty(),
        "seed 22125
         nodes 2 spare 1 backlog 2000 absence 86400 full_mesh true delay 5000 piece 300 cuts false
         join 2 0
         step 30000
         2.1 SUNIONSTORE e1 e0 e0; APPEND k0 v4; RENAME x1 l1
         step 10000
         crash 0 1000 kept silent
         1.0 APPEND k0 v2
         2.2 PEXPIRE k0 498
         calm",
    );
}

/// All nodes that knew of one that joined have crashed: their new lives wait for it.
#[test]
fn a_node_that_joined_is_waited_for_by_those_that_crashed() {
    play_drawn(&[21794, 21940, 23802, 29575, 53044]);
    check(
        Faults::FORGOTTEN_MEMBERS,
        "seed 53044
         nodes 3 spare 1 backlog 1048576 absence 86400 full_mesh true delay 5000 piece 7 cuts false
         join 3 0
         0.0 SUNIONSTORE e1 e0 e2; INCRBY c1 7; SET s0 v0
         step 10000
         step 10000
         step 30000
         step 30000
         step 10000
         step 10000
         step 10000
         crash 2 1000 wiped silent
         step 30000
         2.2 APPEND s0 v5
         crash 0 3000000 kept silent
         crash 1 1000 kept silent
         2.1 GETDEL s0
         calm",
    );
}

/// The giver of a range that was equal but for a tombstone hears of a SET that takes the tombstone's place before it is
/// asked for it: the write that the tombstone kills stands until the SET comes as well.
#[test]
fn a_removal_that_is_outdone_is_told_by_what_outdoes_it() {
    play_drawn(&[22804]);
}

/// An expiry without a value was there when ranges were compared, and had a value when its range was read.
#[test]
fn what_was_collectable_when_ranges_were_compared_is_given_as_what_became_of_it() {
    play_drawn(&[161708]);
}

/// A range was read after its giver had answered, with removals in it that the taker's vector did not tell of yet; a third
/// node with the same vector was then said to differ.
#[test]
fn what_a_range_brings_ahead_of_its_batches_is_no_difference() {
    check(
        Faults::empty(),
        "seed 22804
         nodes 3 spare 0 backlog 200 absence 86400 full_mesh true delay 200 piece 65536 cuts false
         1.2 MSET pair:a 1 pair:b 1
         2.1 RPOP l0; APPEND s0 v4; INCRBY c0 1
         step 30000
         1.1 SET a:{id} 2; SET b:{id} 2
         2.2 INCRBYFLOAT g0 5.5
         step 30000
         1.2 MSET pair:a 3 pair:b 3
         2.0 INCR c0
         step 100
         step 30000
         step 100
         step 30000
         step 30000
         step 30000
         step 30000
         step 10000
         step 30000
         step 100
         step 1000
         0.2 ZINCRBY z0 -2 f1
         step 100
         0.0 APPEND k0 v5
         step 1000
         step 100
         0.2 HINCRBY h1 nf1 4
         step 100
         0.1 HSET h0 f0 v4
         step 10000
         0.1 DEL h0
         step 1000
         step 100
         step 30000
         step 10000
         step 1000
         step 30000
         step 100
         step 10000
         step 1000
         step 30000
         step 100
         step 100
         step 30000
         step 10000
         step 100
         step 30000
         step 30000
         step 30000
         0.2 LPUSH l1 v0
         step 100
         2.0 LPUSH l1 v5
         2.0 SET a:{id} 11; SET b:{id} 11
         step 0
         1.2 LSET l0 1 v3; GETSET s1 v0
         step 1000
         step 30000
         step 10000
         step 100
         step 30000
         step 10000
         step 10000
         step 10000
         step 1000
         step 100
         step 10000
         0.0 ZADD x1 -7 f0
         step 30000
         step 1000
         step 100
         step 10000
         step 1000
         step 10000
         step 10000
         step 100
         step 10000
         step 10000
         step 30000
         step 30000
         step 100
         step 30000
         step 10000
         step 100
         step 30000
         step 10000
         step 100
         2.2 PEXPIRE x1 44
         step 10000
         step 10000
         step 30000
         step 30000
         step 1000
         step 10000
         0.1 RPUSH x1 v3
         step 100
         step 100
         1.2 INCR x1
         step 30000
         step 30000
         step 10000
         2.0 PEXPIRE x1 4308; DEL s0; LPUSH l1 v2
         step 0
         1.2 INCRBY c0 4; SET s0 v2; EXPIRE x1 1; SADD e1 f1 f3 f3
         step 30000
         1.1 BLMPOP 0.3 2 l1 x1 RIGHT COUNT 2; ZADD z0 3 f2; APPEND k0 v5; SINTERSTORE e0 e1 e1
         calm",
    );
}

/// A range whose giver had lost a write, and held an older one of a node that had joined in place of it: the taker held
/// the later one, and kept it.
#[test]
fn an_older_version_does_not_stand_for_one_that_was_deleted() {
    check(
        Faults::empty(),
        "seed 71583
         nodes 2 spare 1 backlog 2000 absence 86400 full_mesh true delay 200 piece 7 cuts false
cut 2 0 500000
join 2 0
step 30000
step 10000
2.1 SET s0 v2
step 10000
step 10000
0.0 SET s0 v2
step 30000
step 1000
0.1 PUBLISH ch life:10; SET s1 v0; ZREM z0 f2; ZUNIONSTORE z0 2 z2 z0
1.1 DEL s0
calm",
    );
}

/// What tells of an expiry is stamped as of its instant, and was collected at once. A node that came later held something of
/// one that had gone, which only that could kill.
#[test]
fn what_tells_of_an_expiry_stays_until_all_have_heard_of_it() {
    check(
        Faults::EARLY_RELEASE,
        "seed 72486
         nodes 3 spare 0 backlog 200 absence 86400 full_mesh false delay 200 piece 300 cuts false
         2.0 INCRBY c2 -9
         step 100
         1.0 MSET pair:a 1 pair:b 1
         step 10000
         1.2 RPUSH l0 v5 v1
         1.2 INCRBY c2 6
         2.0 INCRBYFLOAT g2 1.5
         2.1 SET a:{id} 2; SET b:{id} 2
         step 1000
         step 10000
         step 100
         step 30000
         step 100
         step 1000
         step 100
         step 10000
         step 10000
         2.0 ZADD z0 9 f0; INCRBY c1 3; ZADD z0 4 f1; LPUSH l0 v4
         step 10000
         step 10000
         step 10000
         step 100
         step 30000
         step 1000
         step 30000
         step 100
         step 30000
         leave 2
         step 10000
         step 100
         step 10000
         step 100
         step 30000
         step 30000
         step 100
         step 30000
         step 10000
         step 30000
         step 30000
         step 30000
         0.0 APPEND k1 v1
         step 30000
         1.2 APPEND k2 v1; INCR c1; SET s1 v4 PX 11
         step 100
         0.1 HINCRBY h2 nf1 -3
         step 100
         step 1000
         step 10000
         step 100
         step 30000
         step 30000
         step 10000
         step 10000
         step 100
         step 10000
         step 100
         step 30000
         0.0 RPUSH l0 v1 v5; PEXPIRE c2 58645; PEXPIRE k1 350
         step 100
         step 10000
         step 30000
         step 100
         step 30000
         0.2 PEXPIRE k2 39
         step 10000
         1.0 PERSIST h2; ZINCRBY z0 7 f0; RPUSH x0 v1
         step 1000
         step 1000
         1.2 SET c0 5
         0.0 RENAME h2 x1
         step 10000
         step 10000
         step 100
         step 1000
         step 10000
         0.1 DEL s0; HSETNX h0 f1 v5; PERSIST x0; RPUSH l0 v1 v4
         1.0 INCRBY t1 3
         step 10000
         0.2 RPUSH l1 v4 v3
         step 30000
         step 1000
         step 100
         1.2 SET s2 v0 PX 6
         1.0 SET a:{id} 31; SET b:{id} 31
         step 30000
         step 1000
         step 100
         step 30000
         step 30000
         step 10000
         step 1000
         0.0 PEXPIRE l0 335; SADD e1 f3
         step 30000
         step 100
         step 30000
         step 30000
         step 1000
         step 30000
         step 1000
         step 30000
         1.2 PEXPIRE x0 1; SMOVE e2 e0 f3; PEXPIRE c0 12903
         step 1000
         step 30000
         step 10000
         0.1 SET a:{id} 41; SET b:{id} 41
         step 1000
         step 30000
         step 1000
         step 100
         step 30000
         1.1 PEXPIRE z0 36645; PEXPIRE x1 10
         join 2 1
         calm",
    );
}

/// A replica alone had a write of its primary, which crashed. The primary came back and waited for it; the others did not,
/// and had forgotten what had deleted the write when the replica brought it.
#[test]
fn what_a_node_has_merged_its_replicas_have_merged_too() {
    check(
        Faults::empty(),
        "seed 110115
         nodes 3 spare 1 backlog 1048576 absence 86400 full_mesh true delay 50000 piece 300 cuts false
         step 100
         step 100
         step 100
         2.1 SET a:{id} 42; SET b:{id} 42
         step 100
         step 10000
         step 10000
         2.2 HINCRBY h0 nf2 8
         step 100
         stall 0 2 50000
         0.0 HSET h1 f0 v4 f1 v0
         step 30000
         1.1 HSET h0 f2 v0 f2 v1
         step 100
         step 1000
         step 10000
         step 100
         step 10000
         follow 3 2
         2.1 SADD x2 f3
         step 0
         2.2 HINCRBY h1 nf2 6
         step 10000
         step 30000
         step 30000
         step 1000
         0.1 SADD x0 f0
         2.0 HSET x0 f3 v4; ZUNIONSTORE z1 2 z2 z2; ZREM z2 f0; ZADD z2 6 f2
         step 1000
         cut 1 2 500000
         step 10000
         0.1 SREM x2 f0; SET x1 v1; DEL x0
         step 30000
         step 10000
         crash 2 500000 kept silent
         calm",
    );
}

/// A pull broke off just when its taker's clock was set: what it had brought was taken to be long made good.
#[test]
fn a_clock_that_is_set_makes_nothing_good() {
    check(
        Faults::empty(),
        "seed 133943
         nodes 3 spare 0 backlog 2000 absence 86400 full_mesh true delay 200 piece 7 cuts true
         step 10000
         step 100
         step 1000
         step 30000
         cut 0 1 500000
         step 10000
         step 100
         1.1 SET c2 -3; INCR c2
         step 30000
         step 30000
         step 1000
         step 1000
         stall 0 2 3000000
         2.2 HSET h0 f1 v4
         step 100
         step 10000
         step 30000
         step 10000
         step 10000
         step 1000
         step 1000
         step 1000
         step 100
         step 30000
         1.2 LPUSH l1 v3
         1.1 ZINCRBY z2 3 f3
         step 100
         skew 2 -8779
         step 100
         step 1000
         1.1 INCRBY c0 2
         step 10000
         step 30000
         step 30000
         1.2 HSET h2 f0 v3
         step 30000
         step 30000
         skew 2 -4982
         1.1 ZADD x0 5 f1
         2.1 SET g2 7
         step 30000
         skew 1 -17266
         2.0 SADD e0 f1
         step 1000
         1.1 LSET x1 0 v5; INCR c2
         step 100
         0.2 INCRBY c2 6
         0.0 LREM l1 1 v2; INCR x0; DEL s1
         2.0 PEXPIRE k2 44; EXPIRE x0 1; HSET h2 nf1 -7; ZADD z1 4 f0
         step 30000
         0.2 ZINCRBY z2 -1 f2
         step 10000
         2.0 RPUSH l0 v5 v1
         step 30000
         0.0 INCRBY c2 -8
         2.2 SET s0 v3 PX 3220
         0.2 SET a:{id} 13; SET b:{id} 13
         0.2 SINTERSTORE e2 e0 e0
         1.2 INCR c2
         step 30000
         2.0 INCRBY c0 -3
         2.1 PEXPIRE x0 367
         step 30000
         0.2 PEXPIRE l1 4765
         0.1 RPUSH x1 v4
         1.0 HDEL h0 f1
         2.0 ZADD x2 6 f3
         step 10000
         0.2 INCRBY c1 2; INCRBY c2 7; PEXPIRE z1 28126; PERSIST e1
         2.2 MSET pair:a 14 pair:b 14
         0.1 INCR c1
         1.1 SET a:{id} 15; SET b:{id} 15
         1.1 INCRBY c2 8
         step 10000
         0.2 SADD e1 f1 f0 f3
         2.2 COPY x2 x1 REPLACE
         step 30000
         0.1 SADD e1 f2 f2 f0
         step 100
         2.0 INCRBY t2 4
         0.2 INCR c1
         step 100
         step 10000
         step 30000
         skew 1 -3254
         step 1000
         0.2 LPUSH l0 v5; SUNIONSTORE e0 e0 e0; SREM x0 f1; HSET h1 f0 v0 f2 v0
         step 1000
         step 1000
         step 10000
         step 10000
         calm",
    );
}

/// A node that restarts had the batches of a partner, but not yet what both had from its former life, when their link broke:
/// for that moment all seemed settled, and an expiry that came by the next link was taken to be from before a SET.
#[test]
fn what_a_peer_has_of_a_former_life_is_waited_for_without_a_link_too() {
    check(
        Faults::empty(),
        "seed 159574
         nodes 2 spare 0 backlog 1048576 absence 86400 full_mesh true delay 50000 piece 65536 cuts true
         step 100
         step 30000
         step 1000
         step 10000
         0.1 SET s1 v2 PX 54306; INCRBY c1 7
         step 1000
         step 30000
         step 10000
         step 10000
         step 1000
         crash 0 500000 kept loud
         1.1 SETRANGE s1 2 v0
         calm",
    );
}

/// A giver pulled a range itself after it had said what differs: an expiry without its key, which it had told by then, had
/// found its key, and was not among what is collectable when the taker asked for that.
#[test]
fn what_a_giver_has_pulled_meanwhile_is_given_whole() {
    check(
        Faults::empty(),
        "seed 150795
         nodes 3 spare 0 backlog 200 absence 86400 full_mesh false delay 5000 piece 65536 cuts false
         step 100
         step 10000
         step 1000
         2.2 SET s1 v0
         step 100
         2.0 INCRBY t1 -3
         2.2 SETRANGE s1 2 v3
         step 10000
         step 30000
         2.1 RPOP l0; SET x2 v3; GETDEL s1; HSETNX h0 f2 v2
         step 30000
         step 1000
         0.0 MSET pair:a 4 pair:b 4
         1.0 ZADD z2 INCR 9 f1
         step 1000
         step 100
         2.0 APPEND k1 v3
         2.0 INCR c2
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 10000
         0.2 PEXPIRE k1 38233
         step 100
         leave 2
         step 0
         1.2 SADD e1 f2
         step 10000
         join 2 1
         calm",
    );
}

/// A replica dialed its primary when it was promoted: the link came to be all the same, and made it a partner.
#[test]
fn who_is_promoted_while_it_dials_is_alone() {
    check(
        Faults::empty(),
        "seed 878
         nodes 2 spare 1 backlog 1048576 absence 86400 full_mesh true delay 50000 piece 65536 cuts false
         follow 2 0
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         promote 2
         step 30000
         2.0 SET s0 v1
         follow 2 0
         step 30000
         promote 2
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         calm",
    );
}

/// A node had set an expiry before it followed another: it left the clearing of the key to the others, and they to it.
#[test]
fn a_key_is_cleared_whose_expiry_was_set_by_who_has_become_a_replica() {
    check(
        Faults::empty(),
        "seed 3692
         nodes 2 spare 1 backlog 1048576 absence 86400 full_mesh true delay 200 piece 65536 cuts false
         follow 2 0
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         promote 2
         step 30000
         partner 0 2
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         0.0 APPEND k0 v1
         step 30000
         step 30000
         step 30000
         2.0 PEXPIRE k0 1000
         step 30000
         step 30000
         step 30000
         1.0 APPEND k0 v2
         step 30000
         step 30000
         step 30000
         follow 2 0
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 30000
         step 1000000
         calm",
    );
}

/// A replica whose clock was ahead was promoted, and set right: nobody was a member who could have taken its promises, so it
/// gave them back. Its primary had taken them, and took what it wrote then for deleted when they became partners.
#[test]
fn a_promise_to_who_was_a_member_is_not_given_back() {
    play_drawn(&[24470]);
}

/// A node followed again the one it had been a replica of: what it had published before came back to its own subscribers.
#[test]
fn what_a_node_published_before_it_followed_is_not_heard_twice() {
    play_drawn(&[193919]);
}

/// A node that had been told to do without its partner lost its disk, too: it waited for nobody when it deleted, though the
/// partner was to dial it again.
#[test]
fn who_knows_nobody_collects_what_it_deletes() {
    play_drawn(&[196721]);
}

/// Of three nodes two had been told to do without each other, while the third was linked with both: its tombstones waited for
/// floors that never counted.
#[test]
fn who_is_linked_with_two_has_them_wait_for_each_other() {
    play_drawn(&[201210]);
}

/// Of three nodes two pulled from the third and lost each other: the third began to send what its ranges were bringing, said
/// that its backlog lacked it, and the pulls began anew, with which the two lost each other again, without end.
#[test]
fn who_pulls_is_not_told_to_pull_because_it_loses_another() {
    play_drawn(&[400653]);
}
