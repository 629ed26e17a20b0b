//! A server process of a test: started on a free port in its own directory, ended with its handle.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::client::Client;
use super::place::{Port, TempDir};
use super::value::Value;
use super::{PATIENCE, until_some};

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Meldis,
    /// The oracle: redis-server 7.0 from the path.
    Redis,
}

impl Program {
    /// Meldis, unless `MELDIS_SUBJECT=redis` asks to test the tests.
    pub fn subject() -> Program {
        match std::env::var("MELDIS_SUBJECT").as_deref() {
            Ok("redis") => Program::Redis,
            Ok(other) if other != "meldis" => panic!("MELDIS_SUBJECT is meldis or redis, not {other}"),
            _ => Program::Meldis,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Program::Meldis => env!("CARGO_BIN_EXE_meldis-server"),
            Program::Redis => "redis-server",
        }
    }
}

/// Lines of the log shown when a test fails.
const LOG_TAIL_LINES: usize = 200;

/// A running server. Dropping it kills the process and removes the directory.
pub struct Server {
    program: Program,
    port: Port,
    folder: TempDir,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    child: Option<Child>,
}

impl Server {
    /// The server under test with extra directives: `Server::start(&["--maxmemory", "1mb"])`.
    #[track_caller]
    pub fn start(args: &[&str]) -> Server {
        Server::start_as(Program::subject(), args)
    }

    /// A real redis-server.
    #[track_caller]
    pub fn redis(args: &[&str]) -> Server {
        Server::start_as(Program::Redis, args)
    }

    #[track_caller]
    pub fn start_as(program: Program, args: &[&str]) -> Server {
        let mut server = Server::prepare(program, Port::free(), args);
        server.launch().unwrap_or_else(|problem| panic!("{problem}"));
        server
    }

    /// A place to run in, nothing running yet. [`Server::launch`] starts it.
    pub fn prepare(program: Program, port: Port, args: &[&str]) -> Server {
        let folder = TempDir::new();
        fs::create_dir_all(folder.path().join("data")).expect("the data directory");
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Server { program, port, folder, args, envs: Vec::new(), child: None }
    }

    /// Starts the process and waits until it answers PING.
    ///
    /// # Errors
    /// When it ends before that or stays silent.
    pub fn launch(&mut self) -> Result<(), String> {
        self.spawn();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) =
                self.child.as_mut().and_then(|child| child.try_wait().expect("wait for the server"))
            {
                self.child = None;
                return Err(format!("{} ended at start: {status}\n{}", self.program.path(), self.log_tail()));
            }
            if self.answers() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "no PONG from {} in {PATIENCE:?}\n{}",
                    self.program.path(),
                    self.log_tail()
                ));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Starts the process and does not wait: for tests of what happens while it loads.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the server on port {} runs already", self.port());
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the log file");
        let mut command = Command::new(self.program.path());
        command.args(["--port", &self.port().to_string(), "--dir", &self.data_dir().to_string_lossy()]);
        command.args(&self.args).env("LC_ALL", "C").envs(self.envs.clone()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("the log file")).stderr(log);
        self.child =
            Some(command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", self.program.path())));
    }

    fn answers(&self) -> bool {
        // As whom the password lets in: whoever has yet to say it is not told that the data is still being loaded.
        let Ok(mut client) = self.try_client() else { return false };
        client.set_timeout(Duration::from_secs(2));
        match client.try_cmd(&["PING"]) {
            Ok(Value::Simple(text)) => text == "PONG",
            Ok(Value::Error(text)) => text.starts_with("NOAUTH"),
            _ => false,
        }
    }

    pub fn program(&self) -> Program {
        self.program
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Resident memory of the process, in kB.
    pub fn resident_kb(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
        line.split_ascii_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number of kB")
    }

    /// The pid, when the process has been started and not ended by us.
    pub fn running(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the process is still there: a crash shows here.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// All that the process has printed, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!("--- log of {:?} on port {} ---\n{}\n---", self.program, self.port(), tail.join("\n"))
    }

    /// A new connection, authenticated when the server was started with `--requirepass`.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.try_client().unwrap_or_else(|error| panic!("connect to port {}: {error}", self.port()))
    }

    /// # Errors
    /// When there is no connection to be had.
    pub fn try_client(&self) -> io::Result<Client> {
        let mut client = Client::connect(self.port())?;
        if let Some(at) = self.args.iter().position(|arg| arg == "--requirepass") {
            client.try_cmd(&["AUTH", &self.args[at + 1]])?;
        }
        Ok(client)
    }

    /// Sets the directives of the next start.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|&arg| arg.to_owned()).collect();
    }

    /// Sets the environment of the next start, besides what the test itself runs in.
    pub fn set_envs(&mut self, envs: &[(&str, &str)]) {
        self.envs = envs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    }

    /// SIGKILL: as a crash. The directory stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut child = self.child.take().expect("the server runs");
        let mut ended = None;
        let deadline = Instant::now() + PATIENCE;
        while ended.is_none() && Instant::now() < deadline {
            ended = child.try_wait().expect("wait for the server");
            std::thread::sleep(Duration::from_millis(3));
        }
        ended.unwrap_or_else(|| {
            let _ = child.kill();
            let _ = child.wait();
            panic!("SIGTERM did not end the server in {PATIENCE:?}\n{}", self.log_tail())
        })
    }

    /// SIGTERM if it runs, then starts on the same port with the same directory.
    #[track_caller]
    pub fn restart(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
        self.launch().unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Like [`Server::restart`], with everything on its disk gone.
    #[track_caller]
    pub fn restart_wiped(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
        self.wipe();
        self.launch().unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Empties the data directory of a server that does not run.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "the server still runs");
        fs::remove_dir_all(self.data_dir()).expect("remove the data directory");
        fs::create_dir_all(self.data_dir()).expect("the data directory");
    }

    /// SIGSTOP: frozen, its sockets open. Returns when the kernel has stopped it.
    #[track_caller]
    pub fn pause(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.pid());
        until_some("the server is stopped", PATIENCE, || {
            let text = fs::read_to_string(&stat).ok()?;
            text.rsplit_once(") ")?.1.starts_with('T').then_some(())
        });
    }

    /// SIGCONT.
    #[track_caller]
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Sends a signal by name (`TERM`, `USR1`) to this process alone.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("run kill");
        assert!(status.success(), "kill -s {name} {}", self.pid());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An oracle has nothing to say.
        if std::thread::panicking() && self.program == Program::subject() {
            eprintln!("{}", self.log_tail());
        }
        self.kill();
    }
}
