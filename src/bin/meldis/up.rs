//! `meldis up`: nodes that all take writes, on this machine, until Ctrl-C.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;

/// Where and how many.
#[derive(Args)]
pub(crate) struct Up {
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// The first node's port; the others follow.
    #[arg(long, default_value_t = 6379, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Where the nodes keep their data, also while they do not run: DIR/node-1, DIR/node-2...
    #[arg(long, default_value = "./meldis-data")]
    dir: PathBuf,
}

/// How long nodes may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What the main thread is told.
enum News {
    /// A node has closed its output: it ends.
    Silent(usize),
    /// A node takes connections.
    Ready(usize),
    /// Ctrl-C or SIGTERM.
    Stop,
}

/// Runs the nodes to their end.
///
/// # Errors
/// If a node cannot be started, or one ends by itself.
pub(crate) fn run(up: &Up) -> io::Result<()> {
    let ports = ports(up)?;
    let server = server()?;
    let (tell, news) = channel();
    watch_signals(tell.clone())?;
    let mut nodes = Nodes(Vec::new());
    for (at, port) in ports.iter().enumerate() {
        let dir = up.dir.join(format!("node-{}", at + 1));
        std::fs::create_dir_all(&dir).map_err(|error| {
            let problem =
                format!("{} cannot be made: {error}. Choose another place with --dir", dir.display());
            io::Error::new(error.kind(), problem)
        })?;
        let mut child = start(&server, *port, &dir, &ports)?;
        let output = child.stdout.take().expect("its output is piped");
        let errors = child.stderr.take().expect("its errors are piped");
        nodes.0.push(child);
        forward(output, at, tell.clone());
        forward(errors, at, tell.clone());
    }
    watch(&mut nodes, &news, &ports)
}

/// The nodes' ports, all of them free.
fn ports(up: &Up) -> io::Result<Vec<u16>> {
    let last = up.port.checked_add(up.nodes - 1).ok_or_else(|| {
        let problem = format!("{} nodes from port {} on: there are no ports above 65535", up.nodes, up.port);
        io::Error::other(problem + ". Choose a lower --port")
    })?;
    let ports: Vec<u16> = (up.port..=last).collect();
    for port in &ports {
        TcpListener::bind(("127.0.0.1", *port)).map_err(|error| {
            io::Error::other(format!("port {port} cannot be used: {error}. Choose another with --port"))
        })?;
    }
    Ok(ports)
}

/// The server's binary: beside this one.
fn server() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("meldis-server");
    match path.exists() {
        true => Ok(path),
        false => {
            let problem = format!("{} is missing: the server's program lies beside this one", path.display());
            Err(io::Error::other(problem))
        }
    }
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn start(server: &Path, port: u16, dir: &Path, ports: &[u16]) -> io::Result<Child> {
    let mut command = Command::new(server);
    command.arg("--port").arg(port.to_string()).arg("--dir").arg(dir);
    command.args(["--bind", "127.0.0.1", "--appendonly", "yes"]);
    for other in ports.iter().filter(|other| **other != port) {
        command.arg("--peer").arg(format!("127.0.0.1:{other}"));
    }
    // A group of its own: Ctrl-C reaches this tool alone, which then stops the nodes in order.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| named(error, server))
}

/// Prints a node's lines with its name in front.
fn forward(output: impl Read + Send + 'static, at: usize, tell: Sender<News>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            // Nobody reads any more: the nodes run on.
            let _ = writeln!(io::stdout(), "[node-{}] {line}", at + 1);
            if line.ends_with("Ready to accept connections") {
                let _ = tell.send(News::Ready(at));
            }
        }
        let _ = tell.send(News::Silent(at));
    });
}

fn watch_signals(tell: Sender<News>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if tell.send(News::Stop).is_err() {
                    return;
                }
            }
        });
    });
    Ok(())
}

/// Waits for Ctrl-C, or for the end of a node, which ends all.
fn watch(nodes: &mut Nodes, news: &Receiver<News>, ports: &[u16]) -> io::Result<()> {
    let mut ready = vec![false; ports.len()];
    loop {
        match news.recv().map_err(io::Error::other)? {
            News::Stop => break,
            News::Ready(at) => {
                let was_waiting = ready.iter().any(|ready| !ready);
                ready[at] = true;
                if was_waiting && ready.iter().all(|ready| *ready) {
                    println!("{}", instructions(ports));
                }
            }
            News::Silent(at) => {
                let status = nodes.0[at].wait()?;
                nodes.stop();
                return Err(io::Error::other(format!("node-{} ended: {status}", at + 1)));
            }
        }
    }
    println!("Stopping the nodes...");
    match nodes.stop() {
        None => Ok(()),
        Some(at) => Err(io::Error::other(format!("node-{} did not stop and was killed", at + 1))),
    }
}

fn instructions(ports: &[u16]) -> String {
    let shells: Vec<String> = ports.iter().map(|port| format!("  redis-cli -p {port}")).collect();
    let hosts: Vec<String> =
        ports.iter().map(|port| format!("{{ host: '127.0.0.1', port: {port} }}")).collect();
    format!(
        "\n{} nodes are up; each takes reads and writes. Connect with\n{}\nor from Node.js with ioredis:\n  \
         const redis = new Redis.Cluster([{}]);\nCtrl-C stops them.\n",
        ports.len(),
        shells.join("\n"),
        hosts.join(", ")
    )
}

/// The running nodes. None outlives the tool, however it ends.
struct Nodes(Vec<Child>);

impl Nodes {
    /// Stops all; returns one that had to be killed.
    fn stop(&mut self) -> Option<usize> {
        for child in &mut self.0 {
            if let Ok(None) = child.try_wait()
                && let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw)
            {
                // It may have ended just now.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut killed = None;
        for (at, child) in self.0.iter_mut().enumerate() {
            while let Ok(None) = child.try_wait() {
                if Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    killed = Some(at);
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        killed
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop();
    }
}
