//! Publish and subscribe.
//!
//! A message goes to this node's subscribers at once and to the partners with the batch, which deliver it to theirs; PUBLISH
//! counts this node's only. Inside EXEC it is delivered once the transaction's locks are released.
//!
//! Where a client publishes to itself, the message comes before the reply, as in Redis 7.0; inside EXEC it comes
//! behind EXEC's reply, as in 7.2: in 7.0 it stands in the middle of it and breaks clients.

use super::family::{self, wrong_number};
use crate::engine::call::{Blocking, Call};
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::error::Error;
use crate::engine::pubsub::Scope;
use crate::engine::session::ReplyMode;
use crate::link::batch::Record;
use crate::resp::glob;
use crate::resp::reply::Reply;

const CHANNEL: KeySpec = KeySpec::at(1, &["not_key"]);
const CHANNELS: KeySpec = KeySpec::to_end(1, 1, &["not_key"]);

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "psubscribe",
        arity: -2,
        flags: Flags::PUBSUB
            .union(Flags::NOSCRIPT)
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::SUBSCRIBED),
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "2.0.0",
        summary: "Subscribes to the channels that match patterns.",
        complexity: "O(N)",
        run: psubscribe,
        subcommands: &[],
    },
    Command {
        name: "publish",
        arity: 3,
        flags: Flags::PUBSUB
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::FAST)
            .union(Flags::MAY_REPLICATE),
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "2.0.0",
        summary: "Sends a message to the subscribers of a channel, on every node.",
        complexity: "O(N+M)",
        run: publish,
        subcommands: &[],
    },
    Command {
        name: "pubsub",
        arity: -2,
        flags: Flags::empty(),
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "2.8.0",
        summary: "Tells about channels and their subscribers.",
        complexity: "Depends on subcommand",
        run: family::container,
        subcommands: &[
            Command {
                name: "channels",
                arity: -2,
                flags: Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE),
                keys: &[],
                categories: &[],
                tips: &[],
                group: Group::Pubsub,
                since: "2.8.0",
                summary: "Lists the channels with subscribers on this node.",
                complexity: "O(N)",
                run: channels,
                subcommands: &[],
            },
            Command {
                name: "help",
                arity: 2,
                flags: Flags::LOADING.union(Flags::STALE),
                keys: &[],
                categories: &[],
                tips: &[],
                group: Group::Pubsub,
                since: "6.2.0",
                summary: "Prints this help.",
                complexity: "O(1)",
                run: pubsub_help,
                subcommands: &[],
            },
            Command {
                name: "numpat",
                arity: 2,
                flags: Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE),
                keys: &[],
                categories: &[],
                tips: &[],
                group: Group::Pubsub,
                since: "2.8.0",
                summary: "Counts the different patterns subscribed to on this node.",
                complexity: "O(1)",
                run: numpat,
                subcommands: &[],
            },
            Command {
                name: "numsub",
                arity: -2,
                flags: Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE),
                keys: &[],
                categories: &[],
                tips: &[],
                group: Group::Pubsub,
                since: "2.8.0",
                summary: "Counts the subscribers of channels on this node.",
                complexity: "O(N)",
                run: numsub,
                subcommands: &[],
            },
            Command {
                name: "shardchannels",
                arity: -2,
                flags: Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE),
                keys: &[],
                categories: &[],
                tips: &[],
                group: Group::Pubsub,
                since: "7.0.0",
                summary: "Lists the shard channels with subscribers on this node.",
                complexity: "O(N)",
                run: shardchannels,
                subcommands: &[],
            },
            Command {
                name: "shardnumsub",
                arity: -2,
                flags: Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE),
                keys: &[],
                categories: &[],
                tips: &[],
                group: Group::Pubsub,
                since: "7.0.0",
                summary: "Counts the subscribers of shard channels on this node.",
                complexity: "O(N)",
                run: shardnumsub,
                subcommands: &[],
            },
        ],
    },
    Command {
        name: "punsubscribe",
        arity: -1,
        flags: Flags::PUBSUB
            .union(Flags::NOSCRIPT)
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::SUBSCRIBED),
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "2.0.0",
        summary: "Ends subscriptions to patterns, or all of them.",
        complexity: "O(N+M)",
        run: punsubscribe,
        subcommands: &[],
    },
    Command {
        name: "spublish",
        arity: 3,
        flags: Flags::PUBSUB
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::FAST)
            .union(Flags::MAY_REPLICATE),
        keys: &[CHANNEL],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "7.0.0",
        summary: "Sends a message to the subscribers of a shard channel, on every node.",
        complexity: "O(N)",
        run: spublish,
        subcommands: &[],
    },
    Command {
        name: "ssubscribe",
        arity: -2,
        flags: Flags::PUBSUB
            .union(Flags::NOSCRIPT)
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::SUBSCRIBED),
        keys: &[CHANNELS],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "7.0.0",
        summary: "Subscribes to shard channels.",
        complexity: "O(N)",
        run: ssubscribe,
        subcommands: &[],
    },
    Command {
        name: "subscribe",
        arity: -2,
        flags: Flags::PUBSUB
            .union(Flags::NOSCRIPT)
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::SUBSCRIBED),
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "2.0.0",
        summary: "Subscribes to channels.",
        complexity: "O(N)",
        run: subscribe,
        subcommands: &[],
    },
    Command {
        name: "sunsubscribe",
        arity: -1,
        flags: Flags::PUBSUB
            .union(Flags::NOSCRIPT)
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::SUBSCRIBED),
        keys: &[CHANNELS],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "7.0.0",
        summary: "Ends subscriptions to shard channels, or all of them.",
        complexity: "O(N)",
        run: sunsubscribe,
        subcommands: &[],
    },
    Command {
        name: "unsubscribe",
        arity: -1,
        flags: Flags::PUBSUB
            .union(Flags::NOSCRIPT)
            .union(Flags::LOADING)
            .union(Flags::STALE)
            .union(Flags::SUBSCRIBED),
        keys: &[],
        categories: &[],
        tips: &[],
        group: Group::Pubsub,
        since: "2.0.0",
        summary: "Ends subscriptions to channels, or all of them.",
        complexity: "O(N)",
        run: unsubscribe,
        subcommands: &[],
    },
];

fn subscribe(c: &mut Call<'_, '_>) -> Result<(), Error> {
    subscribe_to(c, Scope::Channel, "subscribe");
    Ok(())
}

fn psubscribe(c: &mut Call<'_, '_>) -> Result<(), Error> {
    subscribe_to(c, Scope::Pattern, "psubscribe");
    Ok(())
}

fn ssubscribe(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.blocking == Blocking::Denied {
        return Err(Error::new("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    subscribe_to(c, Scope::Shard, "ssubscribe");
    Ok(())
}

fn subscribe_to(c: &mut Call<'_, '_>, scope: Scope, word: &str) {
    for name in c.args.iter().skip(1) {
        c.engine.pubsub.subscribe(c.session, scope, name);
        confirm(c, scope, word, Some(name));
    }
}

fn unsubscribe(c: &mut Call<'_, '_>) -> Result<(), Error> {
    unsubscribe_from(c, Scope::Channel, "unsubscribe");
    Ok(())
}

fn punsubscribe(c: &mut Call<'_, '_>) -> Result<(), Error> {
    unsubscribe_from(c, Scope::Pattern, "punsubscribe");
    Ok(())
}

fn sunsubscribe(c: &mut Call<'_, '_>) -> Result<(), Error> {
    unsubscribe_from(c, Scope::Shard, "sunsubscribe");
    Ok(())
}

fn unsubscribe_from(c: &mut Call<'_, '_>, scope: Scope, word: &str) {
    if c.args.len() > 1 {
        c.args.iter().skip(1).for_each(|name| end_subscription(c, scope, word, name));
        return;
    }
    let names: Vec<_> = c.session.subscriptions(scope).iter().cloned().collect();
    names.iter().for_each(|name| end_subscription(c, scope, word, name));
    if names.is_empty() {
        confirm(c, scope, word, None);
    }
}

fn end_subscription(c: &mut Call<'_, '_>, scope: Scope, word: &str, name: &[u8]) {
    c.engine.pubsub.unsubscribe(c.session, scope, name);
    write_pushed(c);
    confirm(c, scope, word, Some(name));
}

/// Says how many subscriptions there are now. Not silenced by CLIENT REPLY: it counts as a message.
fn confirm(c: &mut Call<'_, '_>, scope: Scope, word: &str, name: Option<&[u8]>) {
    let count = |scope| c.session.subscriptions(scope).len() as i64;
    let total = match scope {
        Scope::Channel | Scope::Pattern => count(Scope::Channel) + count(Scope::Pattern),
        Scope::Shard => count(Scope::Shard),
    };
    let write = |reply: &mut Reply<'_>| {
        reply.push(3);
        reply.bulk(word.as_bytes());
        match name {
            Some(name) => reply.bulk(name),
            None => reply.null(),
        }
        reply.int(total);
    };
    if c.session.reply_mode == ReplyMode::On {
        write(&mut c.reply);
    } else {
        let mut pushed = Vec::new();
        write(&mut Reply::new(&mut pushed, c.session.protocol));
        c.session.client.push(&pushed);
    }
}

/// Writes the messages that came in so far ahead of the reply. Not where they would end up inside EXEC's reply
/// or be silenced with it: there they follow.
fn write_pushed(c: &mut Call<'_, '_>) {
    if c.blocking != Blocking::Denied && c.session.reply_mode == ReplyMode::On {
        let mut pushed = Vec::new();
        c.session.client.take_mailbox(&mut pushed);
        c.reply.raw(&pushed);
    }
}

fn publish(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    publish_to(c, Scope::Channel, &Record::Publish(&args[1], &args[2]));
    Ok(())
}

fn spublish(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    publish_to(c, Scope::Shard, &Record::ShardPublish(&args[1], &args[2]));
    Ok(())
}

fn publish_to(c: &mut Call<'_, '_>, scope: Scope, record: &Record<'_>) {
    let (channel, message) = (&c.args[1], &c.args[2]);
    let receivers = if c.blocking == Blocking::Denied {
        // Other commands of the transaction hold locks, under which nobody is woken.
        c.keys.publish(scope, channel, message);
        c.engine.pubsub.receivers(scope, channel)
    } else {
        c.engine.deliver(scope, channel, message)
    };
    if c.engine.is_replicating() {
        c.keys.record(record);
    }
    if c.session.is_subscriber() {
        write_pushed(c);
    }
    c.reply.int(receivers as i64);
}

fn channels(c: &mut Call<'_, '_>) -> Result<(), Error> {
    list(c, Scope::Channel)
}

fn shardchannels(c: &mut Call<'_, '_>) -> Result<(), Error> {
    list(c, Scope::Shard)
}

fn list(c: &mut Call<'_, '_>, scope: Scope) -> Result<(), Error> {
    if c.args.len() > 3 {
        return Err(wrong_number(c.args));
    }
    let pattern = c.args.get(2);
    let mut names = c.engine.pubsub.names(scope);
    names.retain(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name)));
    c.reply.array(names.len());
    names.iter().for_each(|name| c.reply.bulk(name));
    Ok(())
}

fn numsub(c: &mut Call<'_, '_>) -> Result<(), Error> {
    count(c, Scope::Channel)
}

fn shardnumsub(c: &mut Call<'_, '_>) -> Result<(), Error> {
    count(c, Scope::Shard)
}

fn count(c: &mut Call<'_, '_>, scope: Scope) -> Result<(), Error> {
    c.reply.array(2 * (c.args.len() - 2));
    for name in c.args.iter().skip(2) {
        c.reply.bulk(name);
        c.reply.int(c.engine.pubsub.subscribers(scope, name) as i64);
    }
    Ok(())
}

fn numpat(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.int(c.engine.pubsub.counts().1 as i64);
    Ok(())
}

fn pubsub_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    family::help(
        c,
        &[
            ("CHANNELS [<pattern>]", "Lists the channels with subscribers on this node."),
            ("NUMPAT", "Counts the different patterns subscribed to on this node."),
            ("NUMSUB [<channel> ...]", "Counts the subscribers of channels on this node."),
            ("SHARDCHANNELS [<pattern>]", "Lists the shard channels with subscribers on this node."),
            ("SHARDNUMSUB [<channel> ...]", "Counts the subscribers of shard channels on this node."),
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{NTP64, NodeId, Origin};
    use crate::command::TABLES;
    use crate::config::{Config, of_text};
    use crate::engine::session::Session;
    use crate::engine::testing::{Fixture, merge_batches};
    use crate::engine::{Engine, Now, Seeds};
    use crate::link::outbox::Drained;
    use crate::resp::reply::Protocol;

    /// What was pushed to a connection, line ends shown as spaces.
    fn pushed(session: &Session) -> String {
        let mut bytes = Vec::new();
        session.client.take_mailbox(&mut bytes);
        String::from_utf8(bytes).unwrap().trim_end().replace("\r\n", " ")
    }

    /// Another connection of the same server becomes the fixture's; returns the one before.
    fn reconnect(fixture: &mut Fixture) -> Session {
        let next = fixture.engine.connect("b:1".into(), "b:2".into(), Now::from_unix_ns(0), 0);
        std::mem::replace(&mut fixture.session, next)
    }

    #[test]
    fn replies_are_those_of_redis() {
        let mut f = Fixture::new();
        f.check("UNSUBSCRIBE", "*3 $11 unsubscribe $-1 :0");
        f.check("UNSUBSCRIBE a b", "*3 $11 unsubscribe $1 a :0 *3 $11 unsubscribe $1 b :0");
        f.check("SUBSCRIBE a a", "*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 a :1");
        f.check("PSUBSCRIBE a*", "*3 $10 psubscribe $2 a* :2");
        f.check("SSUBSCRIBE s", "*3 $10 ssubscribe $1 s :1");
        f.check("SUNSUBSCRIBE zz", "*3 $12 sunsubscribe $2 zz :1");
        f.check("UNSUBSCRIBE zz", "*3 $11 unsubscribe $2 zz :2");
        let subscriber = reconnect(&mut f);
        f.check("PUBSUB NUMSUB a b", "*4 $1 a :1 $1 b :0");
        f.check("PUBSUB CHANNELS", "*1 $1 a");
        f.check("PUBSUB CHANNELS b*", "*0");
        f.check(
            "PUBSUB CHANNELS a b",
            "-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.",
        );
        f.check("PUBSUB SHARDCHANNELS", "*1 $1 s");
        f.check("PUBSUB SHARDNUMSUB s", "*2 $1 s :1");
        f.check("PUBSUB NUMPAT", ":1");
        f.check("PUBLISH a hello", ":2");
        f.check("SPUBLISH s hello", ":1");
        f.check("PUBLISH s hello", ":0");
        let messages =
            "*3 $7 message $1 a $5 hello *4 $8 pmessage $2 a* $1 a $5 hello *3 $8 smessage $1 s $5 hello";
        assert_eq!(pushed(&subscriber), messages);
    }

    #[test]
    fn what_was_published_before_a_command_comes_before_its_reply() {
        let mut f = Fixture::new().speak(Protocol::Resp3);
        f.check("SUBSCRIBE a", ">3 $9 subscribe $1 a :1");
        f.session.client.resp3.store(true, std::sync::atomic::Ordering::Relaxed);
        f.engine.deliver(Scope::Channel, b"a", b"1");
        f.check("GET x", ">3 $7 message $1 a $1 1 _");
        f.check("PUBLISH a 2", ">3 $7 message $1 a $1 2 :1");
        f.engine.deliver(Scope::Channel, b"a", b"3");
        f.check("UNSUBSCRIBE a", ">3 $7 message $1 a $1 3 >3 $11 unsubscribe $1 a :0");
        assert_eq!(f.engine.deliver(Scope::Channel, b"a", b"4"), 0);
    }

    #[test]
    fn confirmations_are_not_silenced() {
        let mut f = Fixture::new();
        f.session.reply_mode = ReplyMode::Off;
        f.check("SUBSCRIBE a", "");
        f.engine.deliver(Scope::Channel, b"a", b"1");
        assert_eq!(pushed(&f.session), "*3 $9 subscribe $1 a :1 *3 $7 message $1 a $1 1");
    }

    #[test]
    fn partners_deliver_messages_and_notify_of_writes() {
        let mut here = Fixture::replicating();
        let config = Config::parse(&of_text("test", "notify-keyspace-events KEA")).unwrap();
        let origin = Origin::new(NodeId::new(2 << 24), 1);
        let there = Engine::new(origin, NTP64(0), 1, Seeds([5, 6, 7, 8]), config, TABLES);
        let now = Now::from_unix_ns(u128::from(here.now_ms) * 1_000_000);
        let mut listener = there.connect(String::new(), String::new(), now, 0);
        there.pubsub.subscribe(&mut listener, Scope::Channel, b"news");
        there.pubsub.subscribe(&mut listener, Scope::Shard, b"shard");
        there.pubsub.subscribe(&mut listener, Scope::Pattern, b"__key*");
        let mut check = |command: &str, expected: &str| {
            here.run(command);
            let mut drained = Drained::default();
            here.engine.outbox.drain(&here.engine.clock, &mut drained);
            merge_batches(&there, here.engine.clock.origin(), &drained.bytes, now);
            assert_eq!(pushed(&listener), expected, "{command}");
        };
        check("PUBLISH news hi", "*3 $7 message $4 news $2 hi");
        check("SPUBLISH shard hi", "*3 $8 smessage $5 shard $2 hi");
        check("PUBLISH other hi", "");
        let event = |space: &str, name: &str, by: &str| {
            let channel = format!("__key{space}@0__:{name}");
            format!("*4 $8 pmessage $6 __key* ${} {channel} ${} {by}", channel.len(), by.len())
        };
        check("SET k 1", &format!("{} {}", event("space", "k", "set"), event("event", "set", "k")));
        check("INCR k", &format!("{} {}", event("space", "k", "incrby"), event("event", "incrby", "k")));
    }
}
