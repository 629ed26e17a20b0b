//! Transactions.

use crate::compare::Compare::*;
use crate::shape::Group;

pub(crate) const GROUP: Group = Group {
    name: "transaction",
    pool: "",
    data: false,
    talks: false,
    shapes: &[
        (4, Exact, "!MULTI; *; *; *; EXEC"),
        (2, Exact, "!MULTI; *; *; *; *; *; *; *; EXEC"),
        (1, Exact, "!MULTI; EXEC"),
        (2, Exact, "!MULTI; *; *; DISCARD"),
        (1, Exact, "!EXEC"),
        (1, Exact, "!DISCARD"),
        (1, Exact, "!MULTI; MULTI; *; EXEC"),
        (1, Exact, "!MULTI; WATCH key; *; EXEC"),
        (1, Exact, "!MULTI; NOSUCHCOMMAND; *; EXEC"),
        (1, Exact, "!MULTI; GET; *; EXEC"),
        (1, Exact, "!MULTI; SET key val; INCR key; UNWATCH; EXEC"),
        (2, Exact, "!WATCH key+; *; MULTI; *; EXEC"),
        (
            3,
            Exact,
            "!WATCH key; @ (SET $1 val|DEL $1|APPEND $1 text|SADD $1 a|EXPIRE $1 sec|GET $1); MULTI; *; EXEC",
        ),
        (
            1,
            Exact,
            "!WATCH key key; @ (FLUSHDB|FLUSHALL|SWAPDB 0 1|RENAME $1 $2|MSET $2 val); MULTI; *; EXEC",
        ),
        (1, Exact, "!WATCH key; @ SET $1 val; UNWATCH; MULTI; *; EXEC"),
        (1, Exact, "!WATCH key; @ SET $1 val; MULTI; *; DISCARD; MULTI; *; EXEC"),
        (1, Exact, "!WATCH; EXEC"),
        (1, Exact, "!UNWATCH [foo]"),
        (1, Exact, "!MULTI foo; DISCARD"),
        (1, Exact, "!MULTI; EXEC foo; EXEC; DISCARD"),
        (1, Exact, "!MULTI; PUBLISH channel val; SPUBLISH channel val; EXEC"),
        (1, Exact, "!MULTI; SELECT 1; *; SELECT 0; EXEC; SELECT 0"),
    ],
};
