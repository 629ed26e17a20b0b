//! Redis's own tools against the server: exit code and the lines an operator reads.
//!
//! `MELDIS_SUBJECT=redis` runs them against a real Redis, to see that the expectations are right.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod harness;

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::{Cluster, Program, Server, Suite, until};

/// A tool at work: its output as it comes, its input open. Killed when dropped.
struct Tool {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

const TOOL_PATIENCE: Duration = Duration::from_secs(120);

impl Tool {
    fn start(program: &str, args: &[&str]) -> Tool {
        let mut command = Command::new(program);
        command.args(args).env("TERM", "xterm").env("LC_ALL", "C").env_remove("REDISCLI_AUTH");
        // No history or settings of whoever runs the test.
        command.env("HOME", "/nonexistent");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {program}: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            collect(child.stdout.take().unwrap(), output.clone()),
            collect(child.stderr.take().unwrap(), output.clone()),
        ];
        Tool { name: format!("{program} {}", args.join(" ")), child, output, readers }
    }

    fn write(&mut self, text: &str) {
        self.child
            .stdin
            .as_mut()
            .expect("the input is open")
            .write_all(text.as_bytes())
            .expect("the tool reads");
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn until_output(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !condition(&self.output()) {
            assert!(start.elapsed() < harness::PATIENCE, "{}: no {what} in:\n{}", self.name, self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes the input, waits for the end, and returns all output.
    #[track_caller]
    fn finish(mut self) -> (i32, String) {
        drop(self.child.stdin.take());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < TOOL_PATIENCE, "{} does not end:\n{}", self.name, self.output());
            std::thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (status.code().unwrap_or(-1), self.output())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static, output: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            output.lock().unwrap().extend_from_slice(&chunk[..length]);
        }
    })
}

/// Runs `redis-cli -p PORT args` with this input and checks its exit code and some lines of its output.
#[track_caller]
fn check_cli(server: &Server, args: &[&str], input: &str, code: i32, lines: &[&str]) -> String {
    let port = server.port().to_string();
    let mut tool = Tool::start("redis-cli", &[&["-p", &port], args].concat());
    tool.write(input);
    let name = tool.name.clone();
    let (ended, output) = tool.finish();
    assert_eq!(ended, code, "exit code of {name}\n{output}");
    check_lines(&name, &output, lines);
    output
}

#[track_caller]
fn check_lines(name: &str, output: &str, lines: &[&str]) {
    for line in lines {
        assert!(output.contains(line), "{name}: no {line:?} in\n{output}");
    }
}

/// 1000 strings and one of each other type.
fn filled() -> Server {
    let server = Server::start(&["--save", ""]);
    let mut client = server.client();
    let sets: Vec<Vec<String>> =
        (0..1000).map(|n| vec!["SET".to_owned(), format!("key:{n:04}"), "v".to_owned()]).collect();
    client.pipeline(&sets);
    for line in [
        "SET longest 0123456789",
        "RPUSH list a b c",
        "SADD set a b",
        "HSET hash f v",
        "ZADD zset 1 a 2 b 3 c 4 d",
    ] {
        assert!(!client.run(line).is_error(), "{line}");
    }
    server
}

#[test]
fn redis_cli_runs_a_command_and_reads_commands_from_its_input() {
    let mut suite = Suite::new("redis-cli commands");
    let server = Server::start(&["--save", ""]);
    check_cli(&server, &["SET", "k", "v"], "", 0, &["OK\n"]);
    check_cli(&server, &["GET", "k"], "", 0, &["v\n"]);
    check_cli(&server, &["--no-raw", "LPUSH", "l", "a", "b"], "", 0, &["(integer) 2\n"]);
    check_cli(&server, &["--no-raw", "LRANGE", "l", "0", "-1"], "", 0, &["1) \"b\"\n2) \"a\"\n"]);
    check_cli(&server, &["-3", "--no-raw", "HELLO"], "", 0, &["\"proto\" => (integer) 3\n"]);
    check_cli(&server, &["--json", "-3", "LRANGE", "l", "0", "-1"], "", 0, &["[\"b\",\"a\"]\n"]);
    check_cli(&server, &["-e", "LPUSH", "k", "x"], "", 1, &["WRONGTYPE Operation against a key"]);
    check_cli(&server, &["-n", "1", "EXISTS", "k"], "", 0, &["0\n"]);
    check_cli(&server, &["-r", "3", "INCR", "n"], "", 0, &["1\n2\n3\n"]);
    check_cli(&server, &["-x", "SET", "from-input"], "text", 0, &["OK\n"]);
    check_cli(&server, &[], "SET a 1\nINCR a\nNOSUCH\n", 0, &["OK\n2\n", "ERR unknown command 'NOSUCH'"]);
    check_cli(&server, &["INFO", "server"], "", 0, &["# Server", "redis_version:7.", "tcp_port:"]);
    suite.add(12);
}

#[test]
fn redis_cli_prompts_on_a_terminal() {
    let mut suite = Suite::new("redis-cli terminal");
    let server = Server::start(&["--save", ""]);
    let prompt = format!("127.0.0.1:{}> ", server.port());
    // Without a width, redis-cli asks the terminal, and nobody answers.
    let line = format!("stty cols 120 rows 40; exec redis-cli -p {}", server.port());
    let mut tool = Tool::start("script", &["-qec", &line, "/dev/null"]);
    tool.until_output("prompt", |output| output.contains(&prompt));
    let steps = [
        ("SET greeting hello", "OK"),
        ("GET greeting", "\"hello\""),
        ("INCR greeting", "(error) ERR value is not an integer or out of range"),
        ("HELLO 3", "\"proto\" => (integer) 3"),
        ("RPUSH l a", "(integer) 1"),
        ("LRANGE l 0 -1", "1) \"a\""),
        ("MULTI", "OK"),
        ("SET x 1", "QUEUED"),
        ("EXEC", "1) OK"),
        ("help GET", "summary:"),
        ("SELECT 1", "OK"),
    ];
    for (typed, shown) in steps {
        let before = tool.output().len();
        tool.write(&format!("{typed}\r"));
        // The terminal repeats what is typed, then the reply and a new prompt come.
        tool.until_output(shown, |output| {
            let new = &output[before..];
            new.contains(shown) && new.rsplit_once('\n').is_some_and(|(_, last)| last.contains("> "))
        });
    }
    let selected = format!("127.0.0.1:{}[1]> ", server.port());
    tool.until_output("prompt with the database", |output| output.contains(&selected));
    tool.write("quit\r");
    let (code, output) = tool.finish();
    assert_eq!(code, 0, "{output}");
    suite.add(steps.len() as u64);
}

#[test]
fn redis_cli_scans() {
    let mut suite = Suite::new("redis-cli --scan, --bigkeys");
    let server = filled();
    let output = check_cli(&server, &["--scan"], "", 0, &["key:0000\n", "zset\n"]);
    assert_eq!(output.lines().count(), 1005);
    let output = check_cli(&server, &["--scan", "--pattern", "key:00*"], "", 0, &["key:0099\n"]);
    assert_eq!(output.lines().count(), 100);
    let summary = [
        "Sampled 1005 keys in the keyspace!",
        "Biggest string found '\"longest\"' has 10 bytes",
        "Biggest   list found '\"list\"' has 3 items",
        "Biggest    set found '\"set\"' has 2 members",
        "Biggest   hash found '\"hash\"' has 1 fields",
        "Biggest   zset found '\"zset\"' has 4 members",
        "1001 strings with 1010 bytes",
    ];
    check_cli(&server, &["--bigkeys"], "", 0, &summary);
    suite.add(3);
}

/// redis-cli 7.0 ignores `-r` here and goes on until it is killed.
#[test]
fn redis_cli_shows_statistics() {
    let mut suite = Suite::new("redis-cli --stat");
    let server = filled();
    let tool = Tool::start("redis-cli", &["-p", &server.port().to_string(), "--stat", "-i", "0.05"]);
    let rows = |output: &str| output.lines().filter(|line| line.starts_with("1005 ")).count();
    tool.until_output("three rows", |output| rows(output) >= 3);
    let output = tool.output();
    check_lines("--stat", &output, &["keys       mem      clients blocked requests            connections"]);
    let fields: Vec<&str> =
        output.lines().find(|line| line.starts_with("1005 ")).unwrap().split_whitespace().collect();
    assert!(fields[1].ends_with(['B', 'K', 'M', 'G']), "memory: {fields:?}");
    assert_eq!(fields[3], "0", "blocked: {fields:?}");
    assert!(fields[2].parse::<u32>().unwrap() >= 1 && fields[4].parse::<u32>().unwrap() > 1000, "{fields:?}");
    suite.add(1);
}

#[test]
fn redis_cli_pipes_ten_thousand_commands() {
    let mut suite = Suite::new("redis-cli --pipe");
    let server = Server::start(&["--save", ""]);
    let input: String = (0..10_000).map(|n| format!("SET pipe:{n} value:{n}\r\n")).collect();
    check_cli(&server, &["--pipe"], &input, 0, &["errors: 0, replies: 10000"]);
    assert_eq!(server.client().run("DBSIZE"), 10_000);
    assert_eq!(server.client().run("GET pipe:9999"), "value:9999");
    let port = server.port().to_string();
    let mut tool = Tool::start("redis-cli", &["-p", &port, "--pipe"]);
    tool.write("SET a b\r\nLPUSH a b\r\n");
    let (code, output) = tool.finish();
    assert_eq!(code, 1, "{output}");
    check_lines("--pipe", &output, &["errors: 1, replies: 2"]);
    suite.add(10_002);
}

#[test]
fn redis_cli_finds_a_sound_cluster() {
    let mut suite = Suite::new("redis-cli --cluster");
    let covered = "[OK] All 16384 slots covered.";
    let agree = "[OK] All nodes agree about slots configuration.";
    let check = |port: u16, command: &str, lines: &[&str]| {
        let address = format!("127.0.0.1:{port}");
        let tool = Tool::start("redis-cli", &["--cluster", command, &address]);
        let (code, output) = tool.finish();
        assert_eq!(code, 0, "{output}");
        check_lines(command, &output, lines);
    };
    match Program::subject() {
        Program::Redis => {
            let server = Server::start(&["--save", "", "--cluster-enabled", "yes"]);
            server.client().ok(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
            until("the cluster is up", || {
                server.client().run("CLUSTER INFO").text().contains("cluster_state:ok")
            });
            check(server.port(), "check", &[covered, agree]);
            check(server.port(), "info", &["16384 slots | 0 slaves."]);
        }
        Program::Meldis => {
            let pair = Cluster::direct();
            pair.settle();
            for index in 0..2 {
                check(pair.node(index).port(), "check", &[covered, agree, "1 additional replica(s)"]);
                check(pair.node(index).port(), "info", &["16384 slots | 1 slaves."]);
            }
        }
    }
    suite.add(2);
}

#[test]
fn redis_benchmark_runs_its_default_tests() {
    let mut suite = Suite::new("redis-benchmark");
    let server = Server::start(&["--save", ""]);
    let port = server.port().to_string();
    let tool = Tool::start("redis-benchmark", &["-p", &port, "-n", "1000", "-c", "10", "-P", "4", "--csv"]);
    let (code, output) = tool.finish();
    assert_eq!(code, 0, "{output}");
    let tests = [
        "PING_INLINE",
        "PING_MBULK",
        "SET",
        "GET",
        "INCR",
        "LPUSH",
        "RPUSH",
        "LPOP",
        "RPOP",
        "SADD",
        "HSET",
        "SPOP",
        "ZADD",
        "ZPOPMIN",
        "LRANGE_100 (first 100 elements)",
        "LRANGE_600 (first 600 elements)",
        "MSET (10 keys)",
    ];
    for test in tests {
        let row = output.lines().find(|line| line.starts_with(&format!("\"{test}\",")));
        let row = row.unwrap_or_else(|| panic!("no row for {test} in\n{output}"));
        let rate: f64 = row.split(',').nth(1).unwrap().trim_matches('"').parse().unwrap();
        assert!(rate > 0.0, "{row}");
    }
    for complaint in ["WARNING", "Error", "ERR "] {
        assert!(!output.contains(complaint), "{output}");
    }
    suite.add(tests.len() as u64);
}
