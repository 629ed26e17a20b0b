//! Strings and counters.

use crate::compare::Compare::*;
use crate::shape::Group;

pub(crate) const GROUP: Group = Group {
    name: "string",
    pool: "s",
    data: true,
    talks: false,
    shapes: &[
        (6, Exact, "SET key val"),
        (4, Exact, "!SET key val [NX|XX] [GET] [EX sec|PX ms|EXAT future|PXAT futurems|KEEPTTL]"),
        // Redis keeps what is born expired until it is looked at, DEBUG DIGEST counts it: look at it.
        (
            1,
            Exact,
            "!SET key val (EXAT 1|PXAT 1500000000000|EXAT -1|PXAT 0|EXAT abc|EXAT 9223372036854775807); GET $1",
        ),
        (2, Exact, "SET key val [GET] [NX|XX]"),
        (
            1,
            Exact,
            "!SET key val (NX XX|EX|EX sec PX ms|KEEPTTL EX sec|PX|NX NX|foo|EX sec KEEPTTL|GET GET|XX GET KEEPTTL)",
        ),
        (6, Exact, "GET key"),
        (2, Exact, "GETSET key val"),
        (2, Exact, "GETDEL key"),
        (3, Exact, "!GETEX key [EX sec|PX ms|EXAT unix|PXAT unixms|PERSIST]"),
        (1, Exact, "!GETEX key (EX|foo|EX sec PERSIST|PERSIST PX ms|NX|KEEPTTL)"),
        (3, Exact, "SETNX key val"),
        (2, Exact, "!SETEX key sec val"),
        (2, Exact, "!PSETEX key ms val"),
        (1, Exact, "!(SETEX|PSETEX) key sec"),
        (3, Exact, "MGET key+"),
        (3, Exact, "MSET (key val)+"),
        (2, Exact, "MSETNX (key val)+"),
        (3, Exact, "APPEND key text"),
        (3, Exact, "STRLEN key"),
        (3, Exact, "GETRANGE key idx idx"),
        (2, Exact, "SUBSTR key idx idx"),
        (3, Exact, "SETRANGE key offset text"),
        (3, Exact, "SET key int; INCR $1; INCRBY $1 int"),
        (3, Exact, "INCR key"),
        (2, Exact, "DECR key"),
        (3, Exact, "INCRBY key int"),
        (2, Exact, "DECRBY key int"),
        (3, Exact, "INCRBYFLOAT key float"),
        (2, Exact, "SET key float; INCRBYFLOAT $1 float; INCRBYFLOAT $1 float; GET $1"),
        (2, Exact, "LCS key key [LEN]"),
        (2, Exact, "LCS key key IDX [MINMATCHLEN count] [WITHMATCHLEN]"),
        (1, Exact, "LCS key key LEN IDX"),
        (2, Exact, "MSET s1 ohmytext s2 mynewtext; LCS s1 s2 [IDX|LEN] [WITHMATCHLEN]"),
        (2, Seconds, "TTL key"),
        (2, Encoding, "OBJECT ENCODING key"),
        (1, Exact, "DEL key+"),
    ],
};
