//! The configuration at its boundary: files, command lines, CONFIG GET, SET and REWRITE, the samples.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(&of_text("test.conf", text))
}

fn value(config: &Config, name: &str) -> Vec<String> {
    config.get(&[name], |_, _| unreachable!("no pattern")).into_iter().map(|(_, v)| v).collect()
}

fn host(host: &str, port: u16) -> HostPort {
    HostPort { host: host.into(), port }
}

#[track_caller]
fn refuses(text: &str, line: usize, reason: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!((error.line.number, error.reason.as_str()), (line, reason), "{text:?}");
}

#[test]
fn last_line_wins_in_any_case_and_comments_are_skipped() {
    let config =
        parse("  # head\n\t\n TIMEOUT 20\ntimeout 30\r\nslave-read-only no\nbind 127.0.0.1 -::1\n").unwrap();
    assert_eq!(config.timeout_s, 30);
    assert!(!config.replica_read_only);
    assert_eq!(config.bind[1], BindAddress { host: "::1".into(), optional: true });
    assert_eq!(value(&config, "bind"), ["127.0.0.1 -::1"]);
}

#[test]
fn errors_name_file_line_and_directive() {
    let error = parse("port 1\ntimeout x\n").unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].starts_with("*** FATAL CONFIG FILE ERROR (Meldis "));
    assert_eq!(lines[1], "Reading the configuration file, at line 2 of test.conf");
    assert_eq!(lines[2..], [">>> 'timeout x'", "argument couldn't be parsed into an integer"]);
}

#[test]
fn error_texts_are_redis_texts() {
    refuses("nosuch 1", 1, "Bad directive or wrong number of arguments");
    refuses("hz 10 20", 1, "wrong number of arguments");
    refuses("hz", 1, "wrong number of arguments");
    refuses("port 1 # no", 1, "wrong number of arguments");
    refuses("port \"x", 1, "Unbalanced quotes in configuration line");
    refuses("save 900 1 300", 1, "Invalid save parameters");
    refuses("replicaof h", 1, "wrong number of arguments");
    refuses("slaveof h 99999", 1, "Invalid master port");
    refuses("\n\nappendonly maybe", 3, "argument must be 'yes' or 'no'");
    refuses("databases 0", 1, "argument must be between 1 and 2147483647 inclusive");
    refuses("rename-command get", 1, "Bad directive or wrong number of arguments");
    refuses("dbfilename a/b", 1, "dbfilename can't be a path, just a filename");
    assert_eq!(parse("save \"\"").unwrap().notices(), [], "nothing is saved, as asked");
    refuses("user", 1, "Bad directive or wrong number of arguments");
    refuses("include x", 1, "Bad directive or wrong number of arguments");
}

#[test]
fn what_would_be_lost_or_exposed_silently_is_refused() {
    for text in [
        "tls-port 6380",
        "tls-replication yes",
        "cluster-enabled yes",
        "aclfile /a",
        "user a on",
        "loadmodule /a.so",
        "storage-provider flash /x",
        "maxstorage 1gb",
        "scratch-file-path /x",
        "db-s3-object x",
    ] {
        let name = text.split(' ').next().unwrap();
        let Effect::Refused(why) = find(name).unwrap().effect else { panic!("{name}") };
        refuses(text, 1, why);
    }
    parse("tls-port 0\ncluster-enabled no\naclfile \"\"\nstorage-provider none\nmaxstorage 0\n").unwrap();
}

#[test]
fn lines_of_repeatables_add_up() {
    let config = parse(
        "save 1 2\nsave 3 4 5 6\nallowlist 10.0.0.0/8 ::1\nallowlist 127.0.0.1\npeer a:1\npeer [::1]:2",
    )
    .unwrap();
    assert_eq!(value(&config, "save"), ["1 2 3 4 5 6"]);
    assert_eq!(config.allowlist.len(), 3);
    assert_eq!(config.peer, [host("a", 1), host("::1", 2)]);
    assert_eq!(value(&config, "peer"), ["a:1", "[::1]:2"]);
    assert_eq!(value(&parse("save 1 2\nsave \"\"\nsave 3 4").unwrap(), "save"), ["3 4"]);
    assert_eq!(value(&parse("save \"\"").unwrap(), "save"), [""]);
    let limits = parse("client-output-buffer-limit replica 1mb 2kb 3").unwrap().client_output_buffer_limit;
    assert_eq!(limits.replica, OutputLimit { hard: 1 << 20, soft: 2048, soft_seconds: 3 });
    assert_eq!(limits.pubsub, Config::default().client_output_buffer_limit.pubsub);
    let one_word = parse("client-output-buffer-limit \"replica 1mb 2kb 3\"\nbind \"::1 127.0.0.1\"").unwrap();
    assert_eq!((one_word.client_output_buffer_limit, one_word.bind.len()), (limits, 2));
}

#[test]
fn partners_need_their_mode_first() {
    let both = "active-replica yes\nmulti-master yes\nreplicaof a 1\nreplicaof b 2\nreplicaof a 1\n";
    let config = parse(both).unwrap();
    assert_eq!(config.replicaof, [host("a", 1), host("b", 2)]);
    assert_eq!(value(&config, "replicaof"), ["a 1", "b 2"]);
    assert_eq!(value(&config, "slaveof"), ["a 1", "b 2"]);
    assert_eq!(parse("replicaof a 1\nreplicaof b 2").unwrap().replicaof, [host("b", 2)]);
    assert!(parse("replicaof a 1\nreplicaof no one").unwrap().replicaof.is_empty());
    refuses("multi-master yes", 1, "multi-master needs active-replica yes");
    refuses("replicaof a 1\nactive-replica yes", 2, ORDER);
    refuses("active-replica yes\nreplicaof a 1\nmulti-master yes", 3, ORDER);
    refuses("replicaof a 1\npeer b:1", 2, "peer and a replicaof without active-replica exclude each other");
    parse("active-replica yes\nreplicaof a 1\nactive-replica yes").unwrap();
}

#[test]
fn command_line_comes_after_the_file() {
    let args = ["--port", "7000", "--save", "", "--replicaof", "127.0.0.1", "6380"].map(str::to_owned);
    let command_line = of_command_line(&args);
    let mut lines = of_text("f", "port 1\nsave 1 2");
    lines.extend(command_line.lines);
    let config = Config::parse(&lines).unwrap();
    assert_eq!((config.port, value(&config, "save").concat()), (7000, String::new()));
    assert_eq!(config.replicaof, [host("127.0.0.1", 6380)]);
}

#[test]
fn a_stock_keydb_file_starts_with_notices() {
    let config = parse(
        "bind 127.0.0.1 -::1\nprotected-mode yes\nport 6379\ntcp-backlog 511\ntimeout 0\ndaemonize yes\n\
         pidfile /var/run/keydb/keydb-server.pid\nloglevel notice\nlogfile /var/log/keydb/keydb-server.log\n\
         databases 16\nalways-show-logo yes\nset-proc-title yes\nsave 900 1\nsave 300 10\nsave 60 10000\n\
         dbfilename dump.rdb\ndir /var/lib/keydb\nreplica-serve-stale-data yes\nrepl-diskless-sync no\n\
         lazyfree-lazy-expire no\nappendonly no\naof-use-rdb-preamble yes\nlua-time-limit 5000\n\
         hash-max-ziplist-entries 512\nlist-max-ziplist-size -2\nzset-max-ziplist-value 64\n\
         client-output-buffer-limit replica 256mb 64mb 60\nserver-threads 2\nreplica-weighting-factor 2\n\
         active-client-balancing yes\nactive-replica yes\nmulti-master yes\nreplicaof 10.0.0.2 6379\n\
         enable-motd no\nstorage-provider none\nmin-clients-per-thread 50\ngopher-enabled no\n",
    )
    .unwrap();
    let names: Vec<_> = config.notices().iter().map(|n| n.directive).collect();
    let expected = [
        "daemonize",
        "always-show-logo",
        "save",
        "repl-diskless-sync",
        "min-clients-per-thread",
        "enable-motd",
    ];
    assert_eq!(names, expected);
    let line = config.notices()[0].to_string();
    assert_eq!(line, "daemonize yes has no effect: it stays in the foreground; run it under a supervisor");
}

/// What `redis-server 7.0.15 --save ''` shows, but for what we mean to differ in.
const REDIS_VALUES: &str = include_str!("redis-7.0.15.txt");

#[test]
fn every_parameter_of_redis_is_shown_with_its_value() {
    let config = Config::default();
    let differs = ["save", "repl-backlog-size", "syslog-ident", "dir", "port", "enable-debug-command"];
    for line in REDIS_VALUES.lines() {
        let (name, expected) = line.split_once('|').unwrap();
        let got = value(&config, name);
        assert_eq!(got.len(), 1, "{name}");
        assert!(got[0] == expected || differs.contains(&name), "{name}: {} is not {expected}", got[0]);
    }
}

#[test]
fn get_shows_aliases_and_echoes_plain_names() {
    let config = Config::default();
    let matches = |pattern: &str, name: &str| name.starts_with(pattern.trim_end_matches('*'));
    let rows = config.get(&["HZ", "slave-r*", "nosuch"], matches);
    let rows: Vec<_> = rows.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(rows, [("HZ", "10"), ("slave-read-only", "yes")]);
    assert!(config.get(&["user", "rename-command", "include"], matches).is_empty());
    assert!(config.get(&["key-load*"], matches).is_empty());
    assert_eq!(value(&config, "key-load-delay"), ["0"]);
    assert_eq!(config.get(&["hz", "h*"], |p, n| p == "h*" && n == "hz").len(), 1);
}

#[track_caller]
fn set_fails(pairs: &[(&str, &str)], expected: &str) {
    let mut config = Config::default();
    let error = config.set(pairs, Caller::Remote).expect_err(expected).to_string();
    let error = error.trim_start_matches("ERR CONFIG SET failed (possibly related to argument ");
    assert_eq!(error, expected);
    assert_eq!(config, Config::default(), "all or nothing");
}

#[test]
fn set_errors_are_redis_errors() {
    set_fails(&[("nosuch", "1")], "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'");
    set_fails(&[("user", "x")], "ERR Unknown option or number of arguments for CONFIG SET - 'user'");
    set_fails(
        &[("hz", "1"), ("hz2", "2"), ("hz", "3")],
        "ERR Unknown option or number of arguments for CONFIG SET - 'hz2'",
    );
    set_fails(&[("hz", "10"), ("HZ", "20")], "'HZ') - duplicate parameter");
    set_fails(&[("port", "x"), ("unixsocket", "y")], "'unixsocket') - can't set immutable config");
    set_fails(&[("UNIXSOCKET", "a"), ("nosuch", "b")], "'UNIXSOCKET') - can't set immutable config");
    set_fails(&[("DIR", "x")], "'DIR') - can't set protected config");
    set_fails(&[("hz", "1"), ("port", "70000")], "'port') - argument must be between 0 and 65535 inclusive");
    set_fails(&[("LUA-time-limit", "z")], "'lua-time-limit') - argument couldn't be parsed into an integer");
    set_fails(&[("appendonly", "x")], "'appendonly') - argument must be 'yes' or 'no'");
    set_fails(
        &[("appendfsync", "x")],
        "'appendfsync') - argument(s) must be one of the following: everysec, always, no",
    );
    set_fails(&[("maxmemory", "1.5gb")], "'maxmemory') - argument must be a memory value");
    set_fails(&[("save", "900")], "'save') - Invalid save parameters");
}

#[test]
fn set_tells_what_changed() {
    let mut config = Config::default();
    let set = |config: &mut Config, pairs: &[(&str, &str)]| config.set(pairs, Caller::Local).unwrap();
    assert_eq!(
        set(&mut config, &[("maxclients", "5"), ("hz", "10"), ("Slave-Priority", "3")]),
        ["replica-priority", "maxclients"]
    );
    assert_eq!((config.maxclients, config.replica_priority), (5, 3));
    assert_eq!(
        set(&mut config, &[("replica-read-only", "yes"), ("slave-read-only", "no")]),
        ["replica-read-only"]
    );
    set(&mut config, &[("client-output-buffer-limit", "normal 1 2 3")]);
    assert_eq!(
        value(&config, "client-output-buffer-limit"),
        ["normal 1 2 3 slave 268435456 67108864 60 pubsub 33554432 8388608 60"]
    );
    assert!(set(&mut config, &[("client-output-buffer-limit", "")]).is_empty());
    set(&mut config, &[("save", "900 1"), ("notify-keyspace-events", "KEA"), ("loglevel", "DEBUG")]);
    set(&mut config, &[("allowlist", "127.0.0.1 10.0.0.0/8")]);
    assert_eq!(config.allowlist.len(), 2);
    assert_eq!(config.loglevel, LogLevel::Debug);
    assert_eq!(value(&config, "notify-keyspace-events"), ["AKE"]);
    assert_eq!(config.set_replicaof(vec![host("a", 1)]), ["replicaof"]);
    assert_eq!(config.replicaof, [host("a", 1)]);
}

#[test]
fn protected_directives_open_for_whom_they_should() {
    for (access, remote, local) in [("no", false, false), ("yes", true, true), ("local", false, true)] {
        let config = parse(&format!("enable-protected-configs {access}")).unwrap();
        for (caller, allowed) in [(Caller::Remote, remote), (Caller::Local, local)] {
            assert_eq!(config.clone().set(&[("dir", "/x")], caller).is_ok(), allowed, "{access} {caller:?}");
        }
    }
}

#[test]
fn rewrite_keeps_comments_order_and_lines_that_hold() {
    let original = "# head\nport 7000\nsave 900 1\nsave 300 10\n\n# the rate\nHZ 10\nhz 12\nmaxmemory 10mb\n\
                    slave-read-only  yes\nrename-command FLUSHALL \"\"\nrequirepass \"a b\"\ninclude /x\n";
    let mut config = parse(&original.replace("include /x\n", "")).unwrap();
    let pairs = [("save", "60 100 30 1000"), ("hz", "20"), ("maxmemory", "20mb"), ("maxclients", "500")];
    config.set(&pairs, Caller::Local).unwrap();
    config
        .set(&[("client-output-buffer-limit", "pubsub 1 1mb 3"), ("masterauth", "q\"x")], Caller::Local)
        .unwrap();
    let expected = "# head\nport 7000\nsave 60 100\nsave 30 1000\n\n# the rate\nhz 20\nmaxmemory 20mb\n\
                    slave-read-only  yes\nrename-command FLUSHALL \"\"\nrequirepass \"a b\"\ninclude /x\n\n\
                    # Generated by CONFIG REWRITE\nmasterauth \"q\\\"x\"\nmaxclients 500\n\
                    client-output-buffer-limit normal 0 0 0\nclient-output-buffer-limit replica 256mb 64mb 60\n\
                    client-output-buffer-limit pubsub 1 1mb 3\n";
    assert_eq!(config.rewrite(original), expected);
    assert_eq!(config.rewrite(expected), expected);
}

#[test]
fn rewrite_puts_the_mode_before_the_partners() {
    let config = parse("active-replica yes\nmulti-master yes\nreplicaof a 1\nreplicaof b 2").unwrap();
    let text = config.rewrite("replicaof a 1\nreplicaof b 2\n# end\n");
    assert_eq!(parse(&text).unwrap(), config, "{text}");
    let none = {
        config.clone().set_replicaof(Vec::new());
        config.rewrite(&text)
    };
    assert_eq!(none, text);
}

/// Values worth trying: every directive, texts of its own grammar and odd ones.
fn any_pair() -> impl Strategy<Value = (usize, String)> {
    let word = prop_oneof![
        Just("yes".to_owned()),
        Just("no".to_owned()),
        (0..5000u32).prop_map(|n| n.to_string()),
        (1..64u32).prop_map(|n| format!("{n}mb")),
        (1..99u32).prop_map(|n| format!("{n} {n}")),
        (1..99u32).prop_map(|n| format!("a {n} b {n}")),
        (1..99u32).prop_map(|n| format!("a:{n} [::{n}]:{n}")),
        (1..99u32).prop_map(|n| format!("10.0.0.{n} 10.{n}.0.0/16 ::{n}")),
        (1..99u32).prop_map(|n| format!("pubsub {n}kb {n} {n} replica 1 2 3")),
        "[Ag$lshzxeKEtmdn]{0,6}",
        any::<String>(),
        Just(String::new()),
    ];
    (0..DIRECTIVES.len(), word)
}

/// A configuration no file error stands in the way of.
fn config_of(pairs: &[(usize, String)]) -> Config {
    let mut values = Config::default().values;
    for (index, text) in pairs {
        let d = &DIRECTIVES[*index];
        let mut parsed = d.kind.parse_text(text);
        if matches!(d.kind, Kind::OutputLimits) {
            let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
            parsed = d.kind.parse(&args, Some(&values.0[*index]));
        }
        let refused = matches!(d.effect, Effect::Refused(_)) || d.name == "include";
        if let (Ok(value), false) = (parsed, refused) {
            values.0[*index] = value;
        }
    }
    // Combinations that parse refuses.
    let multi = values.flag("multi-master");
    if multi {
        *values.at_mut("active-replica") = Value::Flag(true);
    }
    if !values.flag("active-replica") {
        *values.at_mut("peer") = Value::Partners(Vec::new());
    }
    if let (Value::Partners(list), false) = (values.at_mut("replicaof"), multi) {
        list.truncate(1);
    }
    Config::of(values)
}

proptest! {
    #[test]
    fn rewritten_text_gives_the_same_configuration(
        now in proptest::collection::vec(any_pair(), 0..12),
        was in proptest::collection::vec(any_pair(), 0..12),
        swap in any::<bool>(),
    ) {
        let config = config_of(&now);
        let mut original = config_of(&was).rewrite("# comment\n\nport 1\n");
        if swap {
            original = original.lines().rev().collect::<Vec<_>>().join("\n");
        }
        let text = config.rewrite(&original);
        prop_assert_eq!(parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?, config.clone());
        prop_assert_eq!(config.rewrite(&text), text);
    }

    #[test]
    fn bytes_from_outside_never_panic(text in any::<String>(), index in 0..DIRECTIVES.len()) {
        let _ = parse(&text);
        let name = DIRECTIVES[index].name;
        let _ = parse(&format!("{name} {text}"));
        let _ = Config::default().set(&[(name, &text)], Caller::Local);
        let _ = Config::default().rewrite(&text);
    }
}

/// The text of every source file below a folder, but those of this module.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &if path.ends_with("config") { String::new() } else { sources(&path) };
        } else {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn every_field_has_a_reader() {
    let fields = include_str!("mod.rs").split_once("pub struct Config {").unwrap().1;
    let fields = fields.split_once("\n}").unwrap().0.lines();
    let fields = fields.filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let words: std::collections::HashSet<&str> =
        sources.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).collect();
    // These are read by methods of the configuration itself.
    let own = ["enable_protected_configs", "min_replicas_to_write"];
    let unread: Vec<&str> = fields.filter(|field| !words.contains(field) && !own.contains(field)).collect();
    assert_eq!(
        unread, [""; 0],
        "who stores a directive and never looks at it should say that it has no effect"
    );
}

fn samples() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.ends_with(".conf").then(|| (name, std::fs::read_to_string(&path).unwrap()))
    };
    std::fs::read_dir(dir).unwrap().filter_map(file).collect()
}

#[test]
fn every_sample_parses_without_notices() {
    let samples = samples();
    assert!(samples.len() >= 4);
    for (name, text) in samples {
        let config = parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(config.notices(), [], "{name}");
    }
}

#[test]
fn the_full_sample_shows_every_effective_directive_with_its_default() {
    let (_, text) = samples().into_iter().find(|(name, _)| name == "meldis.conf").unwrap();
    assert_eq!(parse(&text).unwrap(), Config::default(), "as it stands it changes nothing");
    // `# name value` is a default to uncomment, `#   name value` an example.
    let uncommented: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| !line.starts_with(' '))
        .filter(|line| DIRECTIVES.iter().any(|d| line.split(' ').next() == Some(d.name)))
        .collect();
    assert_eq!(parse(&uncommented.join("\n")).unwrap(), Config::default());
    let shown: String = text.lines().map(|l| format!("\n{} ", l.trim_start_matches(['#', ' ']))).collect();
    for d in DIRECTIVES.iter().filter(|d| d.effect == Effect::Effective) {
        assert!(shown.contains(&format!("\n{} ", d.name)), "{} is missing", d.name);
    }
}
