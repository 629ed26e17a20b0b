//! Likewise schedules of nodes with disks.

use meldis::faults::Faults;

use crate::found::{check, play_drawn};

/// A piece of a snapshot was read behind a late batch that a tombstone had kept from coming back, and behind the collection of
/// that tombstone, which the batch had been the last to wait for. The journal had the batch, and nothing that kept it from
/// coming back when it was read.
#[test]
fn no_tombstone_goes_while_a_snapshot_is_read() {
    check(
        Faults::LOOSE_SNAPSHOT,
        "seed 2855
         nodes 3 spare 0 backlog 1048576 absence 86400 full_mesh false delay 50000 piece 7 cuts false disk always
         step 100
         crash 0 50000 wiped loud
         step 100
         step 30000
         step 30000
         stall 0 1 500000
         step 10000
         step 10000
         step 100
         step 100
         step 30000
         step 30000
         step 1000
         step 10000
         step 10000
         step 30000
         step 100
         step 100
         step 10000
         step 10000
         crash 0 500000 wiped loud
         2.0 ZADD z0 1 f2
         step 100
         step 1000
         step 1000
         step 100
         step 1000
         step 1000
         step 30000
         step 30000
         step 100
         step 1000
         step 10000
         step 1000
         step 30000
         step 1000
         step 100
         step 30000
         step 1000
         step 30000
         step 1000
         step 10000
         step 1000
         step 30000
         step 1000
         step 30000
         step 10000
         step 30000
         step 1000
         step 100
         step 10000
         crash 2 3000000 kept loud
         step 1000
         step 1000
         step 30000
         step 1000
         step 30000
         1.1 SET s0 v3 PX 486; APPEND k1 v1
         step 30000
         step 10000
         step 30000
         step 100
         step 100
         step 1000
         step 10000
         step 100
         step 30000
         step 30000
         step 100
         step 100
         step 1000
         step 10000
         step 30000
         0.2 SET s1 v0 PX 4121
         0.1 INCRBY c0 3
         step 1000
         1.2 SET c0 8
         step 1000
         0.0 INCRBY c0 3
         0.1 ZADD x1 -9 f1
         0.2 SET s1 v3 PX 13969
         step 30000
         step 100
         step 10000
         step 100
         step 100
         step 10000
         step 100
         step 10000
         0.0 RPUSH l0 v0 v0
         0.1 ZINCRBY z0 5 f0
         0.1 INCRBY c1 -5
         step 10000
         0.0 INCRBY c1 5
         step 1000
         step 1000
         cut 1 0 500000
         0.0 APPEND k0 v5; LINSERT l0 BEFORE v4 v1; INCR c1
         0.2 ZRANGESTORE z0 z0 0 1
         step 30000
         step 10000
         0.0 LPUSH l0 v0
         step 10000
         0.1 INCRBYFLOAT g1 5.5
         step 100
         0.0 INCRBY c0 1
         step 10000
         calm
         step 0
         step 0
         step 1000
         step 1000
         step 10000
         step 0
         step 100
         step 0
         step 0
         step 0
         step 10000
         step 10000
         crash 0 1000 kept silent
         calm",
    );
}

/// A node that had been promoted was killed, went on alone in its next life, and followed a primary: killed again before that was
/// on its disk, it had what both lives had written.
#[test]
fn what_was_dropped_is_back_from_all_lives_if_the_disk_had_not_heard_of_it() {
    play_drawn(&[370428]);
}
