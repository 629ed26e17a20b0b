//! Scenes on several connections, played on both servers: the events of each command, who is served while waiting, what
//! is counted. A scene is one line, its commands divided by ` | `.

use crate::harness::{Client, Server, Suite, Value, until};

/// Commands and the events they cause. A scene that begins with `dead` first lets the key `k` pass its expiry, unseen.
const EVENTS: &[&str] = &[
    "SET k v | SET k v PX 10000 | SET k v GET | SET k v XX KEEPTTL | GETSET k x | GETEX k PERSIST | GETDEL k | GETDEL k",
    "GETSET k a | SET j v GET | GETEX n | COPY n x | GETEX n EX 10 | OBJECT ENCODING n | BITFIELD n GET u8 0",
    "SET k v EXAT 1 | SETNX k v | MSET a 1 b 2 | MSETNX a 1 c 2 | MSETNX c 1 d 2 | APPEND k \"\" | SETRANGE z 0 \"\"",
    "SETBIT b 7 1 | BITOP AND d b n | BITOP OR d b | BITOP AND d n n2 | BITFIELD b OVERFLOW FAIL INCRBY u8 0 300",
    "RPUSH l a b c | LSET l 0 q | LINSERT l BEFORE b x | LREM l 0 nope | LTRIM l 0 1 | LMOVE l m LEFT RIGHT | LMPOP 2 l m LEFT",
    "SADD s a b | SADD t b c | SUNIONSTORE d s t | SINTERSTORE d s t | SDIFFSTORE d s n | SINTERSTORE d s n | SMOVE s t a",
    "ZADD z 1 a 2 b | ZUNIONSTORE d 2 z n | ZINTERSTORE d 2 z z | ZRANGESTORE d z 0 0 | ZRANGESTORE d z 5 6 | ZPOPMIN z 2",
    "HSET h f 1 | HINCRBY h f 1 | HSETNX h f 2 | HDEL h g | HDEL h f",
    "RPUSH l 3 1 2 | SORT l STORE d | SORT l STORE l | SORT n STORE d | SORT n",
    "SET k v | EXPIRE k 10 | PERSIST k | PERSIST k | EXPIRE k -1 | SET k v | RENAME k j | COPY j c | COPY j c REPLACE | MOVE j 5",
    "dead SET k 2",
    "dead SET k 2 GET",
    "dead SETNX k x",
    "dead MSET k x j y",
    "dead APPEND k x",
    "dead INCR k",
    "dead LPUSH k a",
    "dead LPOP k",
    "dead SPOP k",
    "dead ZPOPMIN k",
    "dead DEL k",
    "dead EXISTS k",
    "dead PERSIST k",
    "dead OBJECT ENCODING k",
    "dead SET j 1 | RENAME j k",
    "dead SADD s a | SUNIONSTORE k s",
    "dead ZADD s 1 a | ZRANGESTORE k s 0 -1",
    "dead SADD s 1 | SMOVE s k 1",
    "dead BLPOP k 0.01",
];

/// A client that waits, and what others do meanwhile.
const WAITS: &[(&str, &str)] = &[
    ("BZPOPMIN k 0", "SET k v | ZADD s 1 a | ZUNIONSTORE k 1 s | ZADD k 2 b | DEL k | ZADD k 3 c"),
    ("BZPOPMIN k 0", "ZADD s 1 a | ZUNIONSTORE k 1 s | EXISTS k"),
    ("BZPOPMIN k 0", "SET k v | ZADD s 1 a | RENAME s k | EXISTS k"),
    ("BLPOP k 0", "SET k v | RPUSH l 1 2 | SORT l STORE k | DEL k | RPUSH k q"),
    ("BLPOP k j 0", "MULTI | RPUSH j 1 | RPUSH k 2 | EXEC | TYPE k | TYPE j"),
    ("BLMOVE k k LEFT RIGHT 0", "RPUSH k a b c | LRANGE k 0 -1"),
    ("BLPOP k 0", "UNBLOCK"),
    ("BLPOP k 0", "UNBLOCK ERROR"),
    ("WAIT 1 0", "UNBLOCK"),
    ("WAIT 1 0", "UNBLOCK ERROR"),
];

/// What is counted of these: refused and queued commands are not run.
const COUNTED: &str = "MULTI | SLOWLOG RESET | LATENCY RESET | EXEC | SET a 1 | GET a | GET b | NOSUCH | GET | LPUSH a 1 | CONFIG NOSUCH | EXEC | MULTI | GET a | \
    LPUSH a 1 | EXEC | MULTI | GET a | DISCARD | MULTI | GET | EXEC | OBJECT FREQ a | LCS a b | COPY b c";

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(|word| word.trim_matches('"').to_owned()).collect()
}

/// Lines of INFO, without how long things took.
fn counts(client: &mut Client, section: &str) -> Vec<String> {
    let without_times = |line: &str| -> String {
        line.split(',').filter(|part| !part.starts_with("usec")).collect::<Vec<_>>().join(",")
    };
    client.ok(&["INFO", section]).text().lines().map(without_times).collect()
}

/// What a scene looks like on a server.
type Play = fn(&Server, scene: &str) -> Vec<String>;

/// Plays scenes on both servers.
#[track_caller]
fn compare<'s>(name: &str, scenes: impl IntoIterator<Item = &'s str>, play: Play) {
    let mut suite = Suite::new(&format!("differential {name}"));
    let debug = &["--enable-debug-command", "yes"];
    let (redis, subject) = (Server::redis(debug), Server::start(debug));
    for scene in scenes {
        let (expected, got) = (play(&redis, scene), play(&subject, scene));
        assert_eq!(got, expected, "{scene}");
        suite.add(1);
    }
}

/// A connection to an empty server whose keys are buried only by who meets them.
fn fresh(server: &Server) -> Client {
    let mut client = server.client();
    client.ok(&["FLUSHALL"]);
    client.ok(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    client.ok(&["CONFIG", "SET", "notify-keyspace-events", "KEAnm"]);
    client
}

/// The server's time in microseconds.
fn time_us(client: &mut Client) -> i64 {
    let time: Vec<i64> = client.ok(&["TIME"]).texts().iter().map(|text| text.parse().unwrap()).collect();
    time[0] * 1_000_000 + time[1]
}

#[test]
fn the_same_commands_cause_the_same_events() {
    compare("events", EVENTS.iter().copied(), |server, scene| {
        let mut client = fresh(server);
        let commands = match scene.strip_prefix("dead ") {
            None => scene,
            Some(commands) => {
                client.ok(&["SET", "k", "v", "PX", "1"]);
                let dead_us = time_us(&mut client) + 2000;
                until("the key is dead", || time_us(&mut client) > dead_us);
                commands
            }
        };
        let mut listener = server.client();
        listener.cmd(&["PSUBSCRIBE", "__keyevent@*"]);
        let mut seen = Vec::new();
        for command in commands.split(" | ") {
            seen.push(format!("{command}: {}", client.cmd(&words(command))));
            client.cmd(&["PUBLISH", "__keyevent@end", ""]);
            loop {
                let event = listener.read().items();
                if event[2] == "__keyevent@end" {
                    break;
                }
                seen.push(format!("{} {}", event[2], event[3]));
            }
        }
        seen
    });
}

#[test]
fn who_waits_is_served_or_ended_alike() {
    let scenes: Vec<String> = WAITS.iter().map(|(wait, meanwhile)| format!("{wait} | {meanwhile}")).collect();
    compare("waits", scenes.iter().map(String::as_str), |server, scene| {
        let mut client = fresh(server);
        client.ok(&["CONFIG", "RESETSTAT"]);
        let (wait, meanwhile) = scene.split_once(" | ").unwrap();
        let mut waiting = server.client();
        let id = waiting.run("CLIENT ID").int().to_string();
        waiting.send(&words(wait)).unwrap();
        until("the client waits", || client.info("clients", "blocked_clients").unwrap() == "1");
        let mut seen = Vec::new();
        for command in meanwhile.split(" | ") {
            let command = match command.strip_prefix("UNBLOCK") {
                Some(how) => format!("CLIENT UNBLOCK {id}{how}"),
                None => command.to_owned(),
            };
            seen.push(client.cmd(&words(&command)).to_string());
        }
        seen.push(waiting.read().to_string());
        seen.push(waiting.run("PING").to_string());
        seen.extend(counts(&mut client, "errorstats"));
        let waited = format!("cmdstat_{}:", words(wait)[0].to_lowercase());
        let commands = counts(&mut client, "commandstats");
        seen.extend(commands.into_iter().filter(|line| line.starts_with(&waited)));
        seen
    });
}

#[test]
fn the_same_is_counted_and_logged() {
    compare("counters", [COUNTED], |server, scene| {
        let mut client = fresh(server);
        client.ok(&["CONFIG", "RESETSTAT"]);
        for command in scene.split(" | ") {
            client.cmd(&words(command));
        }
        let mut seen: Vec<String> = Vec::new();
        for section in ["commandstats", "errorstats"] {
            seen.extend(counts(&mut client, section));
        }
        seen.retain(|line| !line.contains("cmdstat_info"));
        seen.sort();
        for field in ["total_commands_processed", "total_error_replies", "keyspace_hits", "keyspace_misses"] {
            seen.push(format!("{field} {}", client.info("stats", field).unwrap()));
        }
        seen
    });
}

#[test]
fn monitor_tells_the_same() {
    compare(
        "monitor",
        [
            "SELECT 2 | GET a | MULTI | SET a 1 | EXEC | MULTI | NOSUCH | EXEC | EXEC | AUTH x | NOSUCH | RESET | PING",
        ],
        |server, scene| {
            let mut watcher = server.client();
            watcher.ok(&["MONITOR"]);
            let refused = watcher.run("GET a").to_string();
            let mut client = server.client();
            scene.split(" | ").for_each(|command| drop(client.cmd(&words(command))));
            client.cmd(&["ECHO", "end"]);
            let mut seen = vec![refused];
            while !seen.last().unwrap().contains("end") {
                let line = watcher.read().text();
                // Without the time, and without the port.
                let (db, command) =
                    (line.split(['[', ' ']).nth(2).unwrap(), line.split_once("] ").unwrap().1);
                seen.push(format!("{db} {command}"));
            }
            seen
        },
    );
}

/// Arguments of what is in the slow log, the earliest first, and the events of LATENCY.
fn slow(client: &mut Client) -> Vec<String> {
    let entries = client.ok(&["SLOWLOG", "GET"]).items();
    let mut seen: Vec<String> = entries.iter().rev().map(|entry| entry.items()[3].to_string()).collect();
    seen.extend(client.ok(&["LATENCY", "LATEST"]).items().iter().map(|event| event.items()[0].to_string()));
    seen
}

#[test]
fn what_was_slow() {
    let all = "CONFIG SET slowlog-log-slower-than 0 | MULTI | SET a 1 | GET a | EXEC";
    let sleeps = "CONFIG SET slowlog-log-slower-than 20000 latency-monitor-threshold 20 | DEBUG SLEEP 0.03 | PING | \
        MULTI | DEBUG SLEEP 0.04 | PING | EXEC";
    compare("slow", [all, sleeps], |server, scene| {
        let mut client = fresh(server);
        client.ok(&["SLOWLOG", "RESET"]);
        scene.split(" | ").for_each(|command| drop(client.cmd(&words(command))));
        slow(&mut client)
    });
}

#[test]
fn pause() {
    compare("pause", ["SET j 1", "PUBLISH c m", "DEL k"], |server, held| {
        let mut client = fresh(server);
        client.ok(&["DEBUG", "SET-ACTIVE-EXPIRE", "1"]);
        client.ok(&["CONFIG", "RESETSTAT"]);
        let expired = |client: &mut Client| client.info("stats", "expired_keys").unwrap();
        let pause = ["MULTI", "SET k v PX 5", "CLIENT PAUSE 100000 WRITE", "EXEC"];
        pause.iter().for_each(|command| drop(client.cmd(&words(command))));
        let mut waiting = server.client();
        waiting.send(&words(held)).unwrap();
        until("a client is held", || client.info("clients", "blocked_clients").unwrap() == "1");
        until("the key is dead", || client.run("EXISTS k") == 0);
        let mut seen = vec![client.run("DBSIZE").to_string(), expired(&mut client)];
        client.ok(&["CLIENT", "UNPAUSE"]);
        seen.push(waiting.read().to_string());
        until("the key has gone", || expired(&mut client) == "1");
        seen.push(client.info("clients", "blocked_clients").unwrap());
        seen
    });
}

#[test]
fn client_lines() {
    compare("client lines", ["CLIENT LIST", "CLIENT INFO"], |server, scene| {
        let mut client = server.client();
        let line = client.run(scene).text();
        let told =
            ["flags=", "multi=", "qbuf=", "multi-mem=", "obl=", "oll=", "omem=", "events=", "cmd=", "resp="];
        let own = line.lines().last().unwrap();
        own.split(' ')
            .filter(|field| told.iter().any(|name| field.starts_with(name)))
            .map(str::to_owned)
            .collect()
    });
}

#[test]
fn a_replica_is_stale_at_once() {
    let scene = "CONFIG SET replica-serve-stale-data no | REPLICAOF localhost 1 | GET k | PING | REPLICAOF NO ONE | GET k";
    compare("stale", [scene], |server, scene| {
        let mut client = server.client();
        scene.split(" | ").map(|command| client.cmd(&words(command)).to_string()).collect()
    });
}

#[test]
fn who_has_not_authenticated() {
    let scenes = [
        "HELLO 3",
        "HELLO 2 SETNAME a | HELLO 2 AUTH default pw | CLIENT GETNAME",
        "HELLO 3 AUTH default pw FOO | GET k",
        "HELLO 3 AUTH default bad | GET k | AUTH pw | RESET | GET k",
        "MULTI | CLIENT ID | NOSUCH | EXEC | QUIT",
    ];
    compare("auth", scenes, |server, scene| {
        let mut client = server.client();
        if client.run("PING") == "PONG" {
            client.ok(&["CONFIG", "SET", "requirepass", "pw"]);
        }
        let mut stranger = Client::to(server.port());
        let replies: Vec<Value> = scene.split(" | ").map(|command| stranger.cmd(&words(command))).collect();
        // HELLO's map tells who the server is.
        replies
            .iter()
            .filter(|reply| !matches!(reply, Value::Map(_) | Value::Array(_)))
            .map(Value::to_string)
            .collect()
    });
}

#[test]
fn what_browsers_are_made_to_send_ends_the_connection() {
    compare("http", ["POST / HTTP/1.1", "Host: 127.0.0.1"], |server, scene| {
        let mut client = server.client();
        client.send_raw(format!("{scene}\r\nSET k v\r\n").as_bytes()).unwrap();
        vec![client.is_closed().to_string(), server.client().run("EXISTS k").to_string()]
    });
}

#[test]
fn command_info_and_list_agree() {
    let commands = "COMMAND INFO nosuch | COMMAND LIST FILTERBY PATTERN hget* | COMMAND INFO publish spublish | \
        COMMAND GETKEYSANDFLAGS bitfield k set u8 0 1 | CLIENT UNBLOCK 1 TIMEOUT x | SLOWLOG GET 1 2 | \
        CLIENT PAUSE 1 WRITE x | REPLICAOF no one x";
    compare("command", commands.split(" | "), |server, scene| {
        let mut client = server.client();
        client.hello(3);
        // The order of names is each server's own.
        let reply = client.cmd(&words(scene));
        match reply {
            Value::Array(names) if scene.contains("LIST") => {
                let mut names: Vec<String> = names.iter().map(Value::text).collect();
                names.sort();
                names
            }
            reply => vec![reply.to_string()],
        }
    });
}
