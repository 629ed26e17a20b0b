//! Sets.

use crate::compare::Compare::*;
use crate::shape::Group;

pub(crate) const GROUP: Group = Group {
    name: "set",
    pool: "t",
    data: true,
    talks: false,
    shapes: &[
        (4, Exact, "SADD key member+"),
        (4, Exact, "SADD key imember+"),
        (3, Exact, "SREM key member+"),
        (4, Unordered, "SMEMBERS key"),
        (3, Exact, "SISMEMBER key member"),
        (3, Exact, "SMISMEMBER key member+"),
        (3, Exact, "SCARD key"),
        (3, Exact, "SMOVE key key member"),
        (2, Shape, "!SPOP key; DEL $1"),
        (2, Shape, "!SPOP key (0|1|2|3); DEL $1"),
        (1, Unordered, "!SPOP key 1000"),
        (1, Exact, "!SPOP key (abc|-1|1.5|1 2|9223372036854775808)"),
        (2, Shape, "!SRANDMEMBER key [0|1|2|-1|-5|-100]"),
        (1, Unordered, "!SRANDMEMBER key 1000"),
        (1, Exact, "!SRANDMEMBER key (abc|1.5|1 2|-9223372036854775808|9223372036854775808)"),
        (3, Unordered, "(SUNION|SINTER|SDIFF) key+"),
        (4, Exact, "(SUNIONSTORE|SINTERSTORE|SDIFFSTORE) key key+"),
        (3, Exact, "SINTERCARD nkeys [LIMIT count]"),
        (1, Exact, "SINTERCARD nkeys (LIMIT|LIMIT -1|FOO 1)"),
        (2, Scan, "!SSCAN key 0 [MATCH pat] [COUNT (1|2|100)]"),
        (1, Exact, "!SSCAN key (abc|0 COUNT 0|0 FOO|0 TYPE x)"),
        (2, Exact, "SADD key a b c d e f g h 1 2 3"),
        (2, Exact, "SADD key 1 2 3 4 5 6 7"),
        (1, Encoding, "OBJECT ENCODING key"),
        (1, Exact, "DEL key"),
    ],
};
