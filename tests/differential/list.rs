//! Lists.

use crate::compare::Compare::*;
use crate::shape::Group;

pub(crate) const GROUP: Group = Group {
    name: "list",
    pool: "l",
    data: true,
    talks: false,
    shapes: &[
        (5, Exact, "LPUSH key val+"),
        (5, Exact, "RPUSH key member+"),
        (2, Exact, "LPUSHX key val+"),
        (2, Exact, "RPUSHX key val+"),
        (3, Exact, "LPOP key [count]"),
        (3, Exact, "RPOP key [count]"),
        (6, Exact, "LRANGE key idx idx"),
        (2, Exact, "LRANGE key 0 -1"),
        (3, Exact, "LLEN key"),
        (4, Exact, "LINDEX key idx"),
        (3, Exact, "LSET key idx val"),
        (3, Exact, "LINSERT key (BEFORE|AFTER|FOO) member val"),
        (3, Exact, "LREM key idx member"),
        (3, Exact, "LTRIM key idx idx"),
        (3, Exact, "RPOPLPUSH key key"),
        (3, Exact, "LMOVE key key (LEFT|RIGHT) (LEFT|RIGHT)"),
        (1, Exact, "LMOVE key key (LEFT|FOO) (RIGHT|BAR)"),
        (3, Exact, "LPOS key member [RANK idx] [COUNT count] [MAXLEN count]"),
        (1, Exact, "LPOS key member (RANK 0|COUNT -1|MAXLEN -1|FOO 1|RANK)"),
        (3, Exact, "LMPOP nkeys (LEFT|RIGHT) [COUNT count]"),
        (1, Exact, "LMPOP nkeys (FOO|LEFT COUNT|LEFT COUNT 0|LEFT COUNT 1 COUNT 2)"),
        (2, Exact, "RPUSH key a b c a b c 1 2 3 a"),
        (1, Encoding, "OBJECT ENCODING key"),
        (1, Exact, "DEL key"),
    ],
};
