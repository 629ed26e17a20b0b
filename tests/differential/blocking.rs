//! Blocking commands, with something there or a wait too short to notice.

use crate::compare::Compare::*;
use crate::shape::Group;

pub(crate) const GROUP: Group = Group {
    name: "blocking",
    pool: "l",
    data: false,
    talks: false,
    shapes: &[
        (3, Exact, "!BLPOP key+ timeout"),
        (3, Exact, "!BRPOP key+ timeout"),
        (2, Exact, "!BRPOPLPUSH key key timeout"),
        (2, Exact, "!BLMOVE key key (LEFT|RIGHT|FOO) (LEFT|RIGHT) timeout"),
        (2, Exact, "!BLMPOP timeout nkeys (LEFT|RIGHT) [COUNT count]"),
        (
            2,
            Exact,
            "!RPUSH key a b c; BLPOP $1 timeout; BRPOP $1 timeout; BLMPOP timeout 2 $1 none LEFT COUNT 2",
        ),
        (
            2,
            Exact,
            "!ZADD z1 1 a 2 b 3 c 4 d; BZPOPMIN z1 timeout; BZPOPMAX (z1|none) z1 timeout; BZMPOP timeout 1 z1 MAX COUNT 2",
        ),
        (1, Exact, "!BZPOPMIN (key|z1)+ timeout"),
        (1, Exact, "!BZPOPMAX (key|z1)+ timeout"),
        (1, Exact, "!BZMPOP timeout nkeys (MIN|MAX|FOO) [COUNT count]"),
        (1, Exact, "!(BLPOP|BRPOP|BZPOPMIN|BLMPOP|BZMPOP|BLMOVE) key"),
        (
            1,
            Exact,
            "!RPUSH key a b c; BLMOVE $1 key RIGHT LEFT timeout; BRPOPLPUSH $1 $1 timeout; LRANGE $1 0 -1",
        ),
        (2, Exact, "!MULTI; BLPOP key timeout; BLMOVE key key LEFT RIGHT timeout; BZPOPMIN z1 timeout; EXEC"),
        (2, Exact, "RPUSH key val+"),
        (1, Exact, "DEL key"),
    ],
};
