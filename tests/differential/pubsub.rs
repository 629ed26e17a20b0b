//! Publish and subscribe, as one connection sees it. Each shape takes back its own subscriptions.

use crate::compare::Compare::*;
use crate::shape::Group;

pub(crate) const GROUP: Group = Group {
    name: "pubsub",
    pool: "",
    data: false,
    talks: true,
    shapes: &[
        (2, Exact, "!SUBSCRIBE channel+; PING; PING text; UNSUBSCRIBE"),
        (2, Exact, "!SUBSCRIBE channel channel; UNSUBSCRIBE $2; UNSUBSCRIBE (channel|nosuch); UNSUBSCRIBE"),
        (2, Exact, "!PSUBSCRIBE chpat+; PUNSUBSCRIBE chpat; PUNSUBSCRIBE"),
        (2, Exact, "!SSUBSCRIBE channel+; SUNSUBSCRIBE channel; SUNSUBSCRIBE"),
        (
            2,
            Exact,
            "!SUBSCRIBE channel; PSUBSCRIBE chpat; SSUBSCRIBE channel; PUNSUBSCRIBE; SUNSUBSCRIBE; UNSUBSCRIBE",
        ),
        (1, Exact, "!(UNSUBSCRIBE|PUNSUBSCRIBE|SUNSUBSCRIBE) [channel channel]"),
        (1, Exact, "!(SUBSCRIBE|PSUBSCRIBE|SSUBSCRIBE|PUBLISH|SPUBLISH)"),
        (2, Exact, "!SUBSCRIBE channel; (GET s0|SET s0 1|PUBLISH $1 hi|PUBLISH); GET s0; UNSUBSCRIBE"),
        (3, Exact, "!SUBSCRIBE channel; @ PUBLISH (channel|$1) val; PING; UNSUBSCRIBE"),
        (
            3,
            Exact,
            "!PSUBSCRIBE chpat chpat; @ PUBLISH channel val; PING; SUBSCRIBE channel; @ PUBLISH channel val; PUNSUBSCRIBE; UNSUBSCRIBE",
        ),
        (2, Exact, "!SSUBSCRIBE channel; @ SPUBLISH channel val; @ PUBLISH channel val; PING; SUNSUBSCRIBE"),
        (
            2,
            Exact,
            "!SUBSCRIBE c1 c2; PSUBSCRIBE c*; SSUBSCRIBE c1 c3; @ PUBSUB NUMSUB channel+; @ PUBSUB NUMPAT; @ PUBSUB SHARDNUMSUB channel channel; @ PUBSUB CHANNELS (c1|nosuch); @ PUBSUB SHARDCHANNELS (c3|zz*); UNSUBSCRIBE; PUNSUBSCRIBE; SUNSUBSCRIBE",
        ),
        (1, Unordered, "!PUBSUB CHANNELS [chpat]"),
        (1, Exact, "!PUBSUB (NUMSUB|NUMPAT|SHARDNUMSUB|NUMPAT x|NOSUCH|NUMSUB c1 c2)"),
        (2, Exact, "!PUBLISH channel val"),
        (1, Exact, "!SPUBLISH channel val"),
        (1, Exact, "!SUBSCRIBE c1; PSUBSCRIBE c*; RESET; HELLO proto"),
    ],
};
