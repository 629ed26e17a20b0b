//! Hashes.

use crate::compare::Compare::*;
use crate::shape::Group;

pub(crate) const GROUP: Group = Group {
    name: "hash",
    pool: "h",
    data: true,
    talks: false,
    shapes: &[
        (6, Exact, "HSET key (field val)+"),
        (2, Exact, "HMSET key (field val)+"),
        (3, Exact, "HSETNX key field val"),
        (4, Exact, "HGET key field"),
        (3, Exact, "HMGET key field+"),
        (4, Pairs, "HGETALL key"),
        (2, Unordered, "HKEYS key"),
        (2, Unordered, "HVALS key"),
        (3, Exact, "HLEN key"),
        (2, Exact, "HEXISTS key field"),
        (2, Exact, "HSTRLEN key field"),
        (3, Exact, "HDEL key field+"),
        (3, Exact, "HSET key field int; HINCRBY $1 $2 int; HINCRBY $1 $2 int"),
        (2, Exact, "HINCRBY key field int"),
        (3, Exact, "HSET key field float; HINCRBYFLOAT $1 $2 float; HGET $1 $2"),
        (2, Exact, "HINCRBYFLOAT key field float"),
        (1, Shape, "!HRANDFIELD key"),
        (2, Shape, "!HRANDFIELD key (0|1|2|-1|-3|-50|-1000) [WITHVALUES]"),
        (2, Pairs, "!HRANDFIELD key 1000 WITHVALUES"),
        (1, Unordered, "!HRANDFIELD key 1000"),
        (
            1,
            Exact,
            "!HRANDFIELD key (abc|1.5|-9223372036854775808|9223372036854775808|2 FOO|-4611686018427387905 WITHVALUES)",
        ),
        (2, Scan, "!HSCAN key 0 [MATCH pat] [COUNT (1|2|100)]"),
        (1, Exact, "!HSCAN key (abc|0 COUNT 0|0 FOO|0 TYPE x)"),
        (2, Exact, "HSET key a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 aa 9 ab 10"),
        (1, Encoding, "OBJECT ENCODING key"),
        (1, Exact, "DEL key"),
    ],
};
