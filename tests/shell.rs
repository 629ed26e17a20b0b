//! The shell around the engine: authentication, limits, addresses, identity, starting and stopping.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod harness;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use harness::{Client, Port, Server, Suite, TempDir, Value, encode, until};

/// Runs the server's binary to its end.
fn run_server(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meldis-server")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads what comes until the connection ends.
fn read_to_end(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[track_caller]
fn until_logged(server: &Server, words: &str) {
    until(&format!("the log says {words}"), || server.log().contains(words));
}

#[test]
fn a_password_is_asked_of_everyone() {
    let mut suite = Suite::new("shell auth");
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = Client::to(server.port());
    assert_eq!(client.run("GET k").text(), "NOAUTH Authentication required.");
    assert!(client.run("HELLO 3").text().starts_with("NOAUTH HELLO must be called"));
    for wrong in ["AUTH wrong", "AUTH nobody secret", "HELLO 2 AUTH default wrong"] {
        assert_eq!(client.run(wrong).text(), "WRONGPASS invalid username-password pair or user is disabled.");
    }
    // What follows AUTH in the same buffer is already held to the limits of those who have authenticated.
    let value = "x".repeat(100_000);
    let commands = [vec!["AUTH", "secret"], vec!["SET", "k", &value], vec!["STRLEN", "k"]];
    assert_eq!(client.pipeline(&commands)[2], 100_000);
    assert!(!Client::to(server.port()).run("HELLO 3 AUTH default secret").is_error());

    let mut stranger = Client::to(server.port());
    stranger.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n").unwrap();
    assert_eq!(stranger.read().text(), "ERR Protocol error: unauthenticated bulk length");
    assert!(stranger.is_closed());

    client.ok(&["CONFIG", "SET", "requirepass", ""]);
    assert!(!Client::to(server.port()).run("GET k").is_error());
    client.ok(&["CONFIG", "SET", "requirepass", "other"]);
    assert!(Client::to(server.port()).run("PING").is_error());
    assert_eq!(client.run("PING"), "PONG");
    suite.add(1);
}

#[test]
fn a_change_of_addresses_that_fails_leaves_the_server_as_it_was() {
    let mut suite = Suite::new("shell bind");
    let server = Server::start(&[]);
    let mut client = server.client();
    // An address of no machine: RFC 5737.
    let reply = client.run("CONFIG SET bind 192.0.2.1");
    let failed = "ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.";
    assert_eq!(reply.text(), failed);
    assert_eq!(client.run("PING"), "PONG");
    // On every thread, more than once.
    for _ in 0..6 {
        until("a new connection is served", || {
            Client::connect(server.port())
                .and_then(|mut client| client.try_cmd(&["PING"]))
                .is_ok_and(|reply| reply == "PONG")
        });
    }
    suite.add(1);
}

#[test]
fn clients_have_limits() {
    let mut suite = Suite::new("shell limits");
    let server = Server::start(&["--maxclients", "3"]);
    let mut first = server.client();
    let mut others: Vec<Client> = (0..2).map(|_| server.client()).collect();
    others.iter_mut().for_each(|client| assert_eq!(client.run("PING"), "PONG"));
    let mut fourth = Client::to(server.port());
    assert_eq!(fourth.read().text(), "ERR max number of clients reached");
    assert!(fourth.is_closed());
    assert_ne!(first.info("stats", "rejected_connections").unwrap(), "0");
    drop(others);
    until("a place is free", || {
        Client::connect(server.port())
            .and_then(|mut client| client.try_cmd(&["PING"]))
            .is_ok_and(|it| it == "PONG")
    });

    first.ok(&["CONFIG", "SET", "client-query-buffer-limit", "1mb", "maxclients", "100"]);
    let mut greedy = server.client();
    greedy.send_raw(b"*2\r\n$4\r\nECHO\r\n$50000000\r\n").unwrap();
    // The server may close before all is sent.
    let _ = greedy.send_raw(&vec![b'x'; 4 << 20]);
    assert!(greedy.is_closed());
    until_logged(&server, "max query buffer length");

    // One reply beyond the hard limit.
    first.cmd(&["SET".as_bytes(), b"big", &vec![b'x'; 900_000]]);
    first.ok(&["CONFIG", "SET", "client-output-buffer-limit", "normal 500000 0 0"]);
    let mut hungry = server.client();
    hungry.send(&["GET", "big"]).unwrap();
    assert!(hungry.is_closed());
    until_logged(&server, "overcoming of output buffer limits");

    // What is pushed to somebody who does not read.
    let mut watcher = server.client();
    assert_eq!(watcher.run("MONITOR"), "OK");
    let chatter = vec!["ECHO".to_owned(), "y".repeat(10_000)];
    until("the watcher that does not read is gone", || {
        first.pipeline(&vec![chatter.clone(); 100]);
        !first.run("CLIENT LIST").text().contains("cmd=monitor")
    });

    // The same with a soft limit.
    first.ok(&["CONFIG", "SET", "client-output-buffer-limit", "normal 0 200000 1"]);
    let mut watcher = server.client();
    assert_eq!(watcher.run("MONITOR"), "OK");
    until("the watcher fell far behind", || {
        first.pipeline(&vec![chatter.clone(); 100]);
        !first.run("CLIENT LIST").text().contains("cmd=monitor")
    });
    suite.add(5);
}

#[test]
fn idle_clients_are_closed_and_busy_ones_are_not() {
    let mut suite = Suite::new("shell timeout");
    let server = Server::start(&["--timeout", "1"]);
    let mut watcher = server.client();
    assert_eq!(watcher.run("MONITOR"), "OK");
    let mut idle = server.client();
    idle.run("PING");
    assert!(idle.is_closed());
    watcher.set_timeout(Duration::from_millis(50));
    while watcher.read_raw().is_ok() {}
    server.client().run("PING");
    watcher.set_timeout(harness::PATIENCE);
    assert!(watcher.read().text().contains("\"PING\""));
    suite.add(1);
}

/// An address of this machine that is not loopback, if it has one.
fn outer_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only asks for the route.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn strangers_are_kept_out_by_protected_mode_and_the_allowlist() {
    let mut suite = Suite::new("shell protected mode");
    let Some(outer) = outer_address() else { return suite.note("this machine has only loopback") };
    let server = Server::start(&[]);
    let mut inside = server.client();
    let outside = || {
        let mut stream = TcpStream::connect((outer, server.port())).unwrap();
        stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
        // The answer may be there, and the connection closed, before this is sent.
        let _ = stream.write_all(b"QUIT\r\n");
        text(&read_to_end(stream))
    };
    assert!(outside().starts_with("-DENIED "), "{}", outside());
    inside.ok(&["CONFIG", "SET", "protected-mode", "no"]);
    assert_eq!(outside(), "+OK\r\n");
    inside.ok(&["CONFIG", "SET", "protected-mode", "yes", "requirepass", "x"]);
    assert_eq!(outside(), "+OK\r\n");
    inside.ok(&["CONFIG", "SET", "allowlist", "127.0.0.0/8"]);
    assert_eq!(outside(), "");
    inside.ok(&["CONFIG", "SET", "allowlist", &format!("127.0.0.0/8 {outer}")]);
    assert_eq!(outside(), "+OK\r\n");
    suite.add(5);
}

#[test]
fn a_unix_socket_serves_like_a_port() {
    let mut suite = Suite::new("shell unix socket");
    let folder = TempDir::new();
    let path = folder.path().join("meldis.sock");
    let name = path.to_string_lossy().into_owned();
    let mut server = Server::start(&["--unixsocket", &name, "--unixsocketperm", "700"]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"CLIENT LIST\r\nQUIT\r\n").unwrap();
    let list = text(&read_to_end(stream));
    assert!(list.contains(&format!("addr={name}:0 laddr={name}:0")) && list.contains("flags=U"), "{list}");
    server.stop();
    assert!(!path.exists());
    suite.add(1);
}

#[test]
fn requests_may_come_in_any_shape() {
    let mut suite = Suite::new("shell protocol");
    let server = Server::start(&[]);
    let mut client = server.client();
    client.send_raw(b"PING\r\n\r\n*1\r\n$4\r\nPI").unwrap();
    assert_eq!(client.read(), "PONG");
    client.send_raw(b"NG\r\n*-1\r\n*0\r\necho 'a b'\n").unwrap();
    assert_eq!(client.read(), "PONG");
    assert_eq!(client.read(), "a b");
    client.send_raw(b"*1\r\n:4\r\nPING\r\n").unwrap();
    assert_eq!(client.read().text(), "ERR Protocol error: expected '$', got ':'");
    assert!(client.is_closed());

    // A value of many read buffers, there and back; and many small commands at once.
    let value = vec![b'v'; 64 << 20];
    let mut client = server.client();
    client.cmd(&["SET".as_bytes(), b"big", &value]);
    assert_eq!(client.run("STRLEN big"), 64 << 20);
    client.send(&["GET", "big"]).unwrap();
    let reply = client.read_raw().unwrap();
    assert!(reply.len() > value.len() && reply.ends_with(b"vvv\r\n"));
    let many: Vec<Vec<String>> = (0..100_000).map(|n| vec!["ECHO".into(), n.to_string()]).collect();
    assert_eq!(client.pipeline(&many).last().unwrap().int(), 99_999);
    suite.add(3);
}

#[test]
fn commands_are_held_back_by_pause() {
    let mut suite = Suite::new("shell pause");
    let server = Server::start(&[]);
    let (mut operator, mut client) = (server.client(), server.client());
    operator.ok(&["CLIENT", "PAUSE", "100000", "WRITE"]);
    assert_eq!(client.run("GET k"), Value::Null);
    client.send(&["SET", "k", "v"]).unwrap();
    client.send(&["GET", "k"]).unwrap();
    client.set_timeout(Duration::from_millis(100));
    assert!(client.read_raw().is_err());
    client.set_timeout(harness::PATIENCE);
    operator.ok(&["CLIENT", "UNPAUSE"]);
    assert_eq!(client.read(), "OK");
    assert_eq!(client.read(), "v");
    operator.ok(&["CLIENT", "PAUSE", "50"]);
    assert_eq!(client.run("PING"), "PONG");
    suite.add(2);
}

#[test]
fn clients_are_listed_and_killed() {
    let mut suite = Suite::new("shell client kill");
    let server = Server::start(&[]);
    let (mut operator, mut client) = (server.client(), server.client());
    client.ok(&["CLIENT", "SETNAME", "worker"]);
    client.ok(&["CLIENT", "SETINFO", "LIB-NAME", "test"]);
    client.ok(&["SELECT", "3"]);
    let list = operator.run("CLIENT LIST").text();
    let line = list.lines().find(|line| line.contains("name=worker")).unwrap();
    assert!(line.contains("db=3") && line.contains("cmd=select") && line.contains("lib-name=test"), "{line}");
    let id = client.run("CLIENT ID").text();
    assert_eq!(operator.run(&format!("CLIENT KILL ID {id}")), 1);
    assert!(client.is_closed());
    assert_eq!(operator.run("CLIENT KILL ID 999999"), 0);
    // The harness has looked whether the server answers, and may not be gone yet.
    until("the operator is alone", || operator.run("CLIENT LIST").text().lines().count() == 1);
    assert_eq!(operator.run("CLIENT KILL TYPE normal SKIPME no"), 1);
    assert!(operator.is_closed());
    suite.add(1);
}

#[test]
fn what_was_slow_and_what_ran_is_shown() {
    let mut suite = Suite::new("shell slowlog and monitor");
    let server = Server::start(&["--slowlog-log-slower-than", "0"]);
    let (mut watcher, mut client) = (server.client(), server.client());
    assert_eq!(watcher.run("MONITOR"), "OK");
    client.ok(&["CLIENT", "SETNAME", "me"]);
    client.cmd(&["AUTH", "topsecret"]);
    client.ok(&["SET", "k", "a \"quoted\"\n"]);
    let (setname, auth, set) = (watcher.read().text(), watcher.read().text(), watcher.read().text());
    assert!(setname.ends_with("\"CLIENT\" \"SETNAME\" \"me\""), "{setname}");
    assert!(auth.ends_with("\"AUTH\" \"(redacted)\""), "{auth}");
    assert!(set.contains("[0 127.0.0.1:") && set.ends_with(r#""SET" "k" "a \"quoted\"\n""#), "{set}");
    let slow = client.run("SLOWLOG GET 2").items();
    assert_eq!(slow[0].items()[3], ["SET", "k", "a \"quoted\"\n"]);
    assert_eq!(slow[1].items()[3], ["AUTH", "(redacted)"]);
    assert_eq!(slow[0].items()[5], "me");
    client.ok(&["SLOWLOG", "RESET"]);
    assert_eq!(client.run("SLOWLOG LEN"), 1);
    let stats = client.ok(&["INFO", "commandstats"]).text();
    assert!(
        stats.contains("cmdstat_set:calls=1,") && stats.contains("cmdstat_client|setname:calls=1,"),
        "{stats}"
    );
    client.run("GET");
    client.run("NOSUCH");
    assert!(client.ok(&["INFO", "errorstats"]).text().contains("errorstat_ERR:count=3"));
    assert!(client.ok(&["INFO", "commandstats"]).text().contains("rejected_calls=1"));
    suite.add(3);
}

#[test]
fn memory_is_told_as_of_now() {
    let mut suite = Suite::new("shell memory");
    let server = Server::start(&[]);
    let mut client = server.client();
    let bytes = |client: &mut Client, field| client.info("memory", field).unwrap().parse::<u64>().unwrap();
    let empty = bytes(&mut client, "used_memory");
    client.ok(&["SETRANGE", "k", "10000000", "v"]);
    let full = bytes(&mut client, "used_memory");
    assert!(full > empty + 10_000_000, "{full} after {empty}");
    client.ok(&["DEL", "k"]);
    let (used, peak) = (bytes(&mut client, "used_memory"), bytes(&mut client, "used_memory_peak"));
    assert!(used < full - 9_000_000 && peak >= full, "{used} after {full}, at most {peak}");
    suite.add(1);
}

#[test]
fn the_configuration_changes_and_is_written() {
    let mut suite = Suite::new("shell config");
    let folder = TempDir::new();
    let file = folder.path().join("meldis.conf");
    std::fs::write(&file, "# mine\nmaxclients 50\n").unwrap();
    let port = Port::free();
    let moved = Port::free();
    let mut server = Command::new(env!("CARGO_BIN_EXE_meldis-server"))
        .arg(&file)
        .args(["--port", &port.number.to_string(), "--dir", &folder.path().to_string_lossy()])
        .args(["--logfile", "log", "--pidfile", "pid"])
        .spawn()
        .unwrap();
    until("the server is up", || Client::connect(port.number).is_ok());
    let mut client = Client::to(port.number);
    // It listens before it writes its process id, and answers after.
    assert_eq!(client.run("PING"), "PONG");
    assert_eq!(std::fs::read_to_string(folder.path().join("pid")).unwrap().trim(), server.id().to_string());
    client.ok(&["CONFIG", "SET", "maxclients", "60", "loglevel", "warning"]);
    client.ok(&["CONFIG", "REWRITE"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# mine\nmaxclients 60\n") && text.contains("loglevel warning"), "{text}");

    client.ok(&["CONFIG", "SET", "port", &moved.number.to_string()]);
    assert_eq!(Client::to(moved.number).run("PING"), "PONG");
    until("the old port is closed", || Client::connect(port.number).is_err());
    let taken = std::net::TcpListener::bind(("0.0.0.0", port.number)).unwrap();
    let reply = client.cmd(&["CONFIG", "SET", "port", &port.number.to_string()]).text();
    assert!(reply.ends_with("Unable to listen on this port. Check server logs."), "{reply}");
    drop(taken);
    until("it listens where it did", || Client::connect(moved.number).is_ok());
    assert_eq!(client.run("PING"), "PONG");
    client.send(&["SHUTDOWN"]).unwrap();
    assert!(server.wait().unwrap().success());
    assert!(!folder.path().join("pid").exists());
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains(&format!(" PID: {}", server.id())) && log.contains("Thread 0 alive."), "{log}");
    suite.add(2);
}

fn identity(server: &Server) -> (String, u64, u64) {
    let text = std::fs::read_to_string(server.data_dir().join("meldis.node")).unwrap();
    let fields: Vec<&str> = text.split_whitespace().collect();
    (fields[1].to_owned(), fields[3].parse().unwrap(), fields[5].parse().unwrap())
}

#[test]
fn a_node_keeps_its_identity_over_restarts() {
    let mut suite = Suite::new("shell identity");
    let mut server = Server::start(&[]);
    server.client().ok(&["SET", "k", "v"]);
    let (id, incarnation, ceiling) = identity(&server);
    assert_eq!(incarnation, 1);
    server.stop();
    let (_, _, exact) = identity(&server);
    assert!(exact <= ceiling, "a clean stop writes the exact time");
    server.launch().unwrap();
    server.kill();
    server.launch().unwrap();
    assert_eq!(server.client().info("server", "meldis_node_id"), Some(id.clone()));
    assert_eq!(server.client().info("server", "meldis_incarnation"), Some("3".to_owned()));

    let dir = server.data_dir();
    let port = Port::free().number.to_string();
    let second = run_server(&["--port", &port, "--dir", &dir.to_string_lossy()]);
    assert!(!second.status.success());
    assert!(
        text(&second.stderr).contains("another server runs in the data directory"),
        "{}",
        text(&second.stderr)
    );
    assert_eq!(identity(&server).1, 3);

    let nowhere = run_server(&["--port", &port, "--dir", "/nonexistent"]);
    assert!(!nowhere.status.success() && text(&nowhere.stderr).contains("'/nonexistent'"));
    suite.add(3);
}

#[test]
fn a_stop_answers_what_was_read() {
    let mut suite = Suite::new("shell stop");
    let mut server = Server::start(&[]);
    let (mut client, mut idle) = (server.client(), server.client());
    let commands: Vec<Vec<String>> =
        (0..20_000).map(|n| vec!["SET".into(), format!("k{n}"), "v".into()]).collect();
    let mut frames = Vec::new();
    commands.iter().for_each(|command| encode(command, &mut frames));
    client.send_raw(&frames).unwrap();
    let status = server.stop();
    assert!(status.success(), "{status}");
    // Whole replies, as many as there were, then the end.
    let mut answered = 0;
    while let Ok(reply) = client.read_raw() {
        assert_eq!(reply, b"+OK\r\n");
        answered += 1;
    }
    suite.note(&format!("{answered} of {} answered", commands.len()));
    assert!(idle.is_closed());
    assert!(server.log().contains("Received SIGTERM scheduling shutdown..."));
    server.launch().unwrap();
    server.signal("HUP");
    assert_eq!(server.client().run("PING"), "PONG");
    let mut client = server.client();
    client.send(&["SHUTDOWN", "NOSAVE"]).unwrap();
    assert!(client.is_closed());
    until("the process ends", || !server.is_alive());
    suite.add(3);
}

#[test]
fn starts_that_cannot_be_are_refused() {
    let mut suite = Suite::new("shell refusals");
    let server = Server::start(&[]);
    let port = server.port().to_string();
    let folder = TempDir::new();
    let dir = folder.path().to_string_lossy().into_owned();
    let taken = run_server(&["--port", &port, "--dir", &dir]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(text(&taken.stdout).contains(&format!("Failed listening on port {port} (TCP), aborting.")));

    let unknown = run_server(&["--nosuch", "x"]);
    assert_eq!(unknown.status.code(), Some(1));
    let expected = ">>> 'nosuch \"x\"'\nBad directive or wrong number of arguments\n";
    assert!(
        text(&unknown.stderr).contains("*** FATAL CONFIG FILE ERROR")
            && text(&unknown.stderr).ends_with(expected)
    );
    assert!(!run_server(&["--is-flash-enabled"]).status.success());
    assert!(!run_server(&["--port", "0", "--dir", &dir]).status.success());

    let version = run_server(&["--version"]);
    assert!(version.status.success() && text(&version.stdout).starts_with("Meldis server v="));
    let help = run_server(&["-h"]);
    assert!(text(&help.stderr).starts_with("Usage: meldis-server [/path/to/meldis.conf] [options] [-]\n"));
    suite.add(6);
}

/// `meldis up` on two free ports, its output in a file.
struct Up {
    child: std::process::Child,
    folder: Option<TempDir>,
    port: u16,
}

impl Up {
    /// Both ports were free a moment ago.
    fn start() -> Up {
        let port = loop {
            let port = Port::free().number;
            if std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
                break port;
            }
        };
        Up::on(port, TempDir::new())
    }

    /// On these ports, with what the folder holds.
    fn on(port: u16, folder: TempDir) -> Up {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_meldis"))
            .args(["up", "--port", &port.to_string()])
            .arg("--dir")
            .arg(folder.path().join("data"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let up = Up { child, folder: Some(folder), port };
        until("both nodes are up", || up.log().contains("2 nodes are up"));
        up
    }

    fn log(&self) -> String {
        let folder = self.folder.as_ref().expect("kept to the end");
        std::fs::read_to_string(folder.path().join("log")).unwrap()
    }

    /// Ends it as by Ctrl-C and starts it again.
    fn again(mut self) -> Up {
        signal("INT", self.child.id());
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
        Up::on(self.port, self.folder.take().expect("kept to the end"))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            signal("TERM", self.child.id());
            let _ = self.child.wait();
        }
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn meldis_up_runs_a_pair_until_interrupted() {
    let mut suite = Suite::new("shell meldis up");
    let up = Up::start();
    let log = up.log();
    let cluster = format!(
        "new Redis.Cluster([{{ host: '127.0.0.1', port: {} }}, {{ host: '127.0.0.1', port: {} }}])",
        up.port,
        up.port + 1
    );
    assert!(log.contains("[node-1] ") && log.contains("[node-2] ") && log.contains(&cluster), "{log}");
    let (mut a, mut b) = (Client::to(up.port), Client::to(up.port + 1));
    a.ok(&["SET", "k", "from a"]);
    until("the write arrives", || b.run("GET k") == "from a");
    b.ok(&["SET", "k", "from b"]);
    until("the other direction works", || a.run("GET k") == "from b");

    let busy = Command::new(env!("CARGO_BIN_EXE_meldis"))
        .args(["up", "--port", &up.port.to_string()])
        .output()
        .unwrap();
    assert!(!busy.status.success());
    assert!(text(&busy.stderr).contains(&format!("port {} cannot be used", up.port)));

    let mut up = up.again();
    assert_eq!(Client::to(up.port + 1).run("GET k"), "from b", "what was written is kept");
    signal("INT", up.child.id());
    assert!(up.child.wait().unwrap().success(), "{}", up.log());
    assert!(Client::connect(up.port).is_err() && Client::connect(up.port + 1).is_err());
    suite.add(4);
}

#[test]
fn meldis_up_ends_when_a_node_does() {
    let mut suite = Suite::new("shell meldis up, a node dies");
    let mut up = Up::start();
    let pid = Client::to(up.port + 1).info("server", "process_id").unwrap();
    signal("KILL", pid.parse().unwrap());
    assert!(!up.child.wait().unwrap().success());
    assert!(up.log().contains("meldis up: node-2 ended: signal: 9"), "{}", up.log());
    assert!(Client::connect(up.port).is_err());
    suite.add(1);
}

#[test]
fn memory_goes_back_to_the_system_after_a_flush() {
    let mut suite = Suite::new("shell memory");
    let server = Server::start(&[]);
    let mut client = Client::to(server.port());
    let resident = |client: &mut Client| -> u64 {
        let info = client.run("INFO memory").text();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory_rss:")).unwrap();
        line.parse().unwrap()
    };
    let value = "x".repeat(1000);
    let keys: Vec<String> = (0..50_000).map(|n| format!("k{n}")).collect();
    let commands: Vec<Vec<&str>> = keys.iter().map(|key| vec!["SET", key, &value]).collect();
    client.pipeline(&commands);
    until("the values are in memory", || resident(&mut client) > 50_000_000);
    client.ok(&["FLUSHALL"]);
    until("the memory is given back", || resident(&mut client) < 25_000_000);
    suite.add(1);
}
