//! Configuration in the grammar of redis.conf and keydb.conf.
//!
//! Owns: the table of directives ([`DIRECTIVES`]), reading files and the command line (`lines`), the
//! typed [`Config`], and what CONFIG GET, SET and REWRITE answer. Does not own: acting on a change, the
//! reply's framing, writing the file. Nothing else of the crate is used here, and only
//! [`follow_includes`] and [`of_file`] touch the file system.
//!
//! Algorithm: each directive has one parsed value, in the table's order; lines and CONFIG SET replace
//! values. The public fields of [`Config`] are a view computed from the values after every change, so text
//! and typed field cannot differ: write through [`Config::set`] and its siblings, never to a field.

mod directive;
mod kind;
mod lines;
mod rewrite;
mod value;
mod values;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;

pub use directive::{Change, DIRECTIVES, Directive, Effect, Shown, find};
pub use kind::{Kind, Unit};
pub use lines::{
    CommandLine, FILE_BYTES_MAX, INCLUDE_DEPTH_MAX, LINES_MAX, Line, follow_includes, of_command_line,
    of_file, of_text,
};
pub use value::{Events, HostPort, OutputLimit, OutputLimits, SavePoint, block, block_text};

use value::Value;
use values::Values;

/// The configuration: effective directives as fields, all others behind CONFIG GET. Equality is that of all
/// values. A field's unit ends its name; sizes are in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Addresses to listen on; empty listens on none.
    pub bind: Vec<BindAddress>,
    /// Refuse clients from other machines while there is neither a password nor an allowlist.
    pub protected_mode: bool,
    /// Who may change protected directives.
    pub enable_protected_configs: Access,
    /// Who may use DEBUG.
    pub enable_debug_command: Access,
    /// TCP port; 0 listens on none.
    pub port: u16,
    /// Length of the queue of connections not accepted yet.
    pub tcp_backlog: u32,
    /// Path of the Unix socket.
    pub unixsocket: Option<PathBuf>,
    /// Its permissions; 0 leaves them to the umask.
    pub unixsocketperm: u32,
    /// Seconds after which an idle client is closed; 0 never.
    pub timeout_s: u64,
    /// Seconds between keepalive probes; 0 sends none.
    pub tcp_keepalive_s: u64,
    /// Where the process id is written.
    pub pidfile: Option<PathBuf>,
    /// Least severity that is logged.
    pub loglevel: LogLevel,
    /// Give memory that was freed back to the system in the background.
    pub jemalloc_bg_thread: bool,
    /// Log file; none is standard output.
    pub logfile: Option<PathBuf>,
    /// Number of databases, at least 1.
    pub databases: usize,
    /// The data directory.
    pub dir: PathBuf,
    /// Threads, 1-16.
    pub server_threads: usize,
    /// What is written is kept on disk.
    pub appendonly: bool,
    /// When it has to be there.
    pub appendfsync: Fsync,
    /// The journals grow by so many percent of the last snapshot before there is another one; 0: no more of them.
    pub auto_aof_rewrite_percentage: u32,
    /// Nor before they have so many bytes.
    pub auto_aof_rewrite_min_size: u64,
    /// Start from a journal whose end a crash has torn.
    pub aof_load_truncated: bool,
    /// KeyDB's active mode: partners of `replicaof` are equals.
    pub active_replica: bool,
    /// Several partners; implies `active_replica`.
    pub multi_master: bool,
    /// The primary (replica mode) or the partners (active mode).
    pub replicaof: Vec<HostPort>,
    /// Partners by our own directive.
    pub peer: Vec<HostPort>,
    /// User name sent to partners.
    pub masteruser: Option<String>,
    /// Password sent to partners.
    pub masterauth: Option<String>,
    /// So many partners have to be up for the link to count as up; `None`: all of them.
    pub replica_quorum: Option<u32>,
    /// How far ahead a partner's stamp may be, in milliseconds.
    pub max_clock_drift_ms: u64,
    /// Seconds a partner may be away before it no longer holds back the collection of tombstones.
    pub peer_max_absence_s: u64,
    /// Answer while the link to the primary or the partners is down.
    pub replica_serve_stale_data: bool,
    /// Refuse writes of clients in replica mode.
    pub replica_read_only: bool,
    /// Shown in INFO for Sentinel.
    pub replica_priority: u32,
    /// Shown in INFO for Sentinel.
    pub replica_announced: bool,
    /// The own address as told to others.
    pub replica_announce_ip: Option<String>,
    /// The own port as told to others.
    pub replica_announce_port: Option<u16>,
    /// Seconds of silence after which a link is closed.
    pub repl_timeout_s: u64,
    /// Bytes of effects kept for partners that come back.
    pub repl_backlog_size: u64,
    /// Seconds the backlog outlives the last link; 0 for ever.
    pub repl_backlog_ttl_s: u64,
    /// Writes are refused with fewer partners or replicas; 0 asks for none.
    pub min_replicas_to_write: u32,
    /// Seconds of silence up to which one counts for that; 0 asks for none.
    pub min_replicas_max_lag_s: u64,
    /// The password of the default user.
    pub requirepass: Option<String>,
    /// Blocks clients may come from; empty allows all. v4-mapped addresses are v4 here.
    pub allowlist: Vec<IpNet>,
    /// Commands under another name or none, in order.
    pub rename_command: Vec<RenamedCommand>,
    /// Most clients at a time.
    pub maxclients: u32,
    /// How many of these are kept for local clients.
    pub maxclients_reserved: u32,
    /// Bytes of unread replies per class of clients.
    pub client_output_buffer_limit: OutputLimits,
    /// Bytes of an unfinished request.
    pub client_query_buffer_limit: u64,
    /// Bytes of one argument.
    pub proto_max_bulk_len: u64,
    /// Seconds a shutdown waits for partners to catch up.
    pub shutdown_timeout_s: u64,
    /// A shutdown waits until the clients have gone.
    pub soft_shutdown: bool,
    /// Microseconds from which a command is slow; 0 logs all, `None` none.
    pub slowlog_log_slower_than_us: Option<u64>,
    /// Entries the slow log keeps.
    pub slowlog_max_len: u64,
    /// Entries the log of conflicts keeps; 0 keeps no log.
    pub conflict_log_max_len: u64,
    /// Milliseconds from which an event is sampled; 0 samples none.
    pub latency_monitor_threshold_ms: u64,
    /// Keep a histogram per command.
    pub latency_tracking: bool,
    /// The percentiles INFO shows, 0-100.
    pub latency_tracking_info_percentiles: Vec<f64>,
    /// Keyspace events that are published.
    pub notify_keyspace_events: Events,
    /// Fields up to which OBJECT ENCODING of a hash says listpack.
    pub hash_max_listpack_entries: u64,
    /// Bytes of a field or value up to which it does.
    pub hash_max_listpack_value: u64,
    /// Items of a list node, or a size class -1 (4 kB) to -5 (64 kB).
    pub list_max_listpack_size: i32,
    /// Members up to which a set of integers says intset.
    pub set_max_intset_entries: u64,
    /// Members up to which a sorted set says listpack.
    pub zset_max_listpack_entries: u64,
    /// Bytes of a member up to which it does.
    pub zset_max_listpack_value: u64,
    /// Whether CLUSTER is answered; `None`: when there is a partner.
    pub cluster_emulation: Option<bool>,
    /// Which node cluster clients write to.
    pub cluster_owner: ClusterOwner,
    /// The own address in CLUSTER replies.
    pub cluster_announce_ip: Option<String>,
    /// The own port in CLUSTER replies.
    pub cluster_announce_port: Option<u16>,
    values: Values,
}

/// An address of `bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// An address, or `*` (all v4) or `::*` (all v6).
    pub host: String,
    /// Written with a leading `-`: no error if this machine does not have it.
    pub optional: bool,
}

/// A line `rename-command FROM TO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenamedCommand {
    /// The command's name.
    pub from: String,
    /// Its new name; `None` disables it.
    pub to: Option<String>,
}

/// Least severity that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// More than most want.
    Verbose,
    /// What an operator wants to know.
    Notice,
    /// What needs a hand.
    Warning,
}

/// Who may use something dangerous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    No,
    /// Every client.
    Yes,
    /// Clients of the Unix socket and of the loopback addresses.
    Local,
}

/// Where a command came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The Unix socket or a loopback address.
    Local,
    /// Anywhere else.
    Remote,
}

/// When what is written has to be safe from a machine that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged.
    Always,
    /// A second later at most.
    EverySecond,
    /// When the system sees fit.
    No,
}

/// Which node cluster clients write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterOwner {
    /// One node owns all slots and keeps them when another returns.
    Sticky,
    /// The live nodes share the slots.
    Split,
}

/// A directive that has no effect here, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its name.
    pub directive: &'static str,
    /// Its value, as CONFIG GET shows it.
    pub value: String,
    /// Why it has none.
    pub reason: &'static str,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} has no effect: {}", self.directive, self.value, self.reason)
    }
}

/// The operator's error: the server does not start. Displayed as Redis's message, with the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "*** FATAL CONFIG FILE ERROR (Meldis {}) ***\nReading the configuration file, at line {} of {}\n>>> '{}'\n{}",
    env!("CARGO_PKG_VERSION"), .line.number, .line.file, .line.text, .reason
)]
pub struct ConfigError {
    /// Where.
    pub line: Line,
    /// What is wrong.
    pub reason: String,
}

impl ConfigError {
    fn at(line: &Line, reason: impl Into<String>) -> ConfigError {
        ConfigError { line: line.clone(), reason: reason.into() }
    }
}

/// The client's error of CONFIG SET; displayed as the reply's text, `ERR` included.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No such parameter.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{0}'")]
    Unknown(String),
    /// This parameter cannot have this value, or not now.
    #[error("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")]
    Failed {
        /// As Redis names it: as written if it may not be set, else its proper name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl Default for Config {
    fn default() -> Config {
        let value = |d: &Directive| d.kind.parse_text(d.default).expect("a test parses every default");
        Config::of(Values(DIRECTIVES.iter().map(value).collect()))
    }
}

const BAD: &str = "Bad directive or wrong number of arguments";
/// Why a node with equals follows no primary.
pub const PEER_OR_PRIMARY: &str = "peer and a replicaof without active-replica exclude each other";
const ORDER: &str = "active-replica and multi-master must come before replicaof";

impl Config {
    /// Reads lines in order: those of the file, of standard input, then of the command line, includes
    /// followed ([`of_file`], [`of_text`], [`of_command_line`], [`follow_includes`]).
    ///
    /// The last line of a directive wins; the lines of a repeatable one add up. The first `save` line drops
    /// the default. Without `multi-master` the last `replicaof` wins.
    ///
    /// # Errors
    /// The first line that is wrong, or a combination that is.
    pub fn parse(lines: &[Line]) -> Result<Config, ConfigError> {
        let mut values = Config::default().values;
        let mut given: HashMap<&'static str, &Line> = HashMap::new();
        for line in lines {
            let Some(args) = line.args()? else { continue };
            let (name, args) = args.split_first().expect("args gives none for an empty line");
            let fail = |reason: &str| Err(ConfigError::at(line, reason));
            let Some(index) = directive::index(name) else { return fail(BAD) };
            let d = &DIRECTIVES[index];
            if d.name == "include" || (d.kind.repeats() && args.is_empty() && d.name != "save") {
                return fail(BAD);
            }
            let fresh = !given.contains_key(d.name) && matches!(d.kind, Kind::SavePoints)
                || d.name == "replicaof" && !values.flag("multi-master")
                || d.name == "storage-provider";
            let before = Some(&values.0[index]).filter(|_| !fresh);
            // Several words may come as one.
            let one: Vec<String> = match args {
                [one] if d.kind.several() && !matches!(d.kind, Kind::Renames | Kind::Lines) => {
                    one.split(' ').map(str::to_owned).collect()
                }
                _ => Vec::new(),
            };
            let args = if one.len() > 1 { &one } else { args };
            let value = d.kind.parse(args, before).map_err(|reason| ConfigError::at(line, reason))?;
            if let (Effect::Refused(why), true) = (d.effect, value != default_of(d)) {
                return fail(why);
            }
            let mode = matches!(d.name, "active-replica" | "multi-master");
            if mode && given.contains_key("replicaof") && value != values.0[index] {
                return fail(ORDER);
            }
            values.0[index] = value;
            given.insert(d.name, line);
        }
        check_together(&values, &given)?;
        Ok(Config::of(values))
    }

    /// Directives whose value changes nothing here though it is not the default, in the table's order.
    pub fn notices(&self) -> Vec<Notice> {
        let notice = |(d, value): (&Directive, &Value)| match d.effect {
            // `save ""` asks for what is.
            Effect::Accepted(reason) if *value != default_of(d) && *value != Value::Saves(Vec::new()) => {
                // Key passwords do not belong in a log.
                let value = if d.name.ends_with("-pass") { "(hidden)".into() } else { value.text(&d.kind) };
                Some(Notice { directive: d.name, value, reason })
            }
            Effect::Accepted(_) | Effect::Effective | Effect::Refused(_) => None,
        };
        DIRECTIVES.iter().zip(&self.values.0).filter_map(notice).collect()
    }

    /// CONFIG GET: names and values, each name once (but `replicaof` and `peer` once per partner). A
    /// pattern with `*?[` is matched by `matches(pattern, name)`, which ignores case; any other is a name
    /// and comes back as it was written. In the table's order; Redis's is arbitrary.
    pub fn get(&self, patterns: &[&str], matches: impl Fn(&str, &str) -> bool) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let shown = DIRECTIVES.iter().zip(&self.values.0).filter(|(d, _)| d.shown != Shown::Never);
        for (d, value) in shown {
            for name in d.names() {
                let asked = patterns.iter().find_map(|p| match p.contains(['*', '?', '[']) {
                    true => (d.shown == Shown::Always && matches(p, name)).then_some(name),
                    false => p.eq_ignore_ascii_case(name).then_some(*p),
                });
                if let Some(asked) = asked {
                    rows.extend(value.rows(&d.kind).into_iter().map(|text| (asked.to_owned(), text)));
                }
            }
        }
        rows
    }

    /// CONFIG SET: all pairs or none. Returns the directives whose value is now another one.
    ///
    /// # Errors
    /// As Redis 7.0.15: first what may not be set at all, in order; then the values, in order.
    pub fn set(&mut self, pairs: &[(&str, &str)], caller: Caller) -> Result<Vec<&'static str>, SetError> {
        let failed = |name: &str, reason: &str| {
            Err(SetError::Failed { name: name.to_owned(), reason: reason.to_owned() })
        };
        let protected = match self.enable_protected_configs {
            Access::No => true,
            Access::Yes => false,
            Access::Local => caller == Caller::Remote,
        };
        let mut found = Vec::with_capacity(pairs.len());
        for (i, (name, _)) in pairs.iter().enumerate() {
            let index = directive::index(name).filter(|i| DIRECTIVES[*i].shown != Shown::Never);
            let Some(index) = index else { return Err(SetError::Unknown((*name).to_owned())) };
            match DIRECTIVES[index].change {
                Change::Startup => return failed(name, "can't set immutable config"),
                Change::Protected if protected => return failed(name, "can't set protected config"),
                Change::Protected | Change::Runtime => {}
            }
            if pairs[..i].iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                return failed(name, "duplicate parameter");
            }
            found.push(index);
        }
        let mut values = self.values.clone();
        for (index, (name, text)) in found.into_iter().zip(pairs) {
            let d = &DIRECTIVES[index];
            // Classes that are not named keep their limits.
            let value = match d.kind {
                Kind::OutputLimits if text.is_empty() => Ok(values.0[index].clone()),
                Kind::OutputLimits => {
                    let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
                    d.kind.parse(&args, Some(&values.0[index]))
                }
                _ => d.kind.parse_text(text),
            };
            match (value, d.effect) {
                (Err(reason), _) => return failed(&name.to_ascii_lowercase(), &reason),
                (Ok(value), Effect::Refused(why)) if value != default_of(d) => {
                    return failed(&name.to_ascii_lowercase(), why);
                }
                (Ok(value), _) => values.0[index] = value,
            }
        }
        Ok(self.adopt(values))
    }

    /// REPLICAOF at run time: the primary or the partners from now on.
    pub fn set_replicaof(&mut self, partners: Vec<HostPort>) -> Vec<&'static str> {
        let mut values = self.values.clone();
        *values.at_mut("replicaof") = Value::Partners(partners);
        self.adopt(values)
    }

    /// Whether writes depend on who is linked: `min-replicas-to-write` and `min-replicas-max-lag`.
    pub fn wants_replicas(&self) -> bool {
        self.min_replicas_to_write > 0 && self.min_replicas_max_lag_s > 0
    }

    /// The allowlist from now on.
    pub fn set_allowlist(&mut self, blocks: Vec<IpNet>) -> Vec<&'static str> {
        let mut values = self.values.clone();
        *values.at_mut("allowlist") = Value::Blocks(blocks);
        self.adopt(values)
    }

    /// The partners that are equals of this node: not the primary of replica mode.
    pub fn equals(&self) -> impl Iterator<Item = &HostPort> {
        let active = self.replicaof.iter().filter(|_| self.active_replica);
        self.peer.iter().chain(active)
    }

    /// CONFIG REWRITE: the text of the file that gives this configuration. `original` is the file as it
    /// was: comments, order and lines that still hold stay; others are replaced, missing ones appended.
    /// What its includes say is not known here, so a value is also appended when an include gives it.
    pub fn rewrite(&self, original: &str) -> String {
        rewrite::rewrite(&self.values, original)
    }

    fn adopt(&mut self, values: Values) -> Vec<&'static str> {
        let changed = |((d, old), new): ((&Directive, &Value), &Value)| (old != new).then_some(d.name);
        let names = DIRECTIVES.iter().zip(&self.values.0).zip(&values.0).filter_map(changed).collect();
        *self = Config::of(values);
        names
    }

    /// The typed view. The casts hold because each kind's range fits its field.
    fn of(values: Values) -> Config {
        let v = &values;
        Config {
            bind: bind_addresses(v.words("bind")),
            protected_mode: v.flag("protected-mode"),
            enable_protected_configs: Access::of(v.text("enable-protected-configs")),
            enable_debug_command: Access::of(v.text("enable-debug-command")),
            port: v.number("port") as u16,
            tcp_backlog: v.number("tcp-backlog") as u32,
            unixsocket: v.path("unixsocket"),
            unixsocketperm: v.number("unixsocketperm") as u32,
            timeout_s: v.number("timeout") as u64,
            tcp_keepalive_s: v.number("tcp-keepalive") as u64,
            pidfile: v.path("pidfile"),
            loglevel: LogLevel::of(v.text("loglevel")),
            jemalloc_bg_thread: v.flag("jemalloc-bg-thread"),
            logfile: v.path("logfile"),
            databases: v.number("databases") as usize,
            dir: PathBuf::from(v.text("dir")),
            server_threads: v.number("server-threads") as usize,
            appendonly: v.flag("appendonly"),
            appendfsync: Fsync::of(v.text("appendfsync")),
            auto_aof_rewrite_percentage: v.number("auto-aof-rewrite-percentage") as u32,
            auto_aof_rewrite_min_size: v.number("auto-aof-rewrite-min-size") as u64,
            aof_load_truncated: v.flag("aof-load-truncated"),
            active_replica: v.flag("active-replica"),
            multi_master: v.flag("multi-master"),
            replicaof: v.partners("replicaof"),
            peer: v.partners("peer"),
            masteruser: v.some("masteruser"),
            masterauth: v.some("masterauth"),
            replica_quorum: u32::try_from(v.number("replica-quorum")).ok(),
            max_clock_drift_ms: v.number("max-clock-drift") as u64,
            peer_max_absence_s: v.number("peer-max-absence") as u64,
            replica_serve_stale_data: v.flag("replica-serve-stale-data"),
            replica_read_only: v.flag("replica-read-only"),
            replica_priority: v.number("replica-priority") as u32,
            replica_announced: v.flag("replica-announced"),
            replica_announce_ip: v.some("replica-announce-ip"),
            replica_announce_port: v.port("replica-announce-port"),
            repl_timeout_s: v.number("repl-timeout") as u64,
            repl_backlog_size: v.number("repl-backlog-size") as u64,
            repl_backlog_ttl_s: v.number("repl-backlog-ttl") as u64,
            min_replicas_to_write: v.number("min-replicas-to-write") as u32,
            min_replicas_max_lag_s: v.number("min-replicas-max-lag") as u64,
            requirepass: v.some("requirepass"),
            allowlist: v.blocks("allowlist"),
            rename_command: renamed(v.lines("rename-command")),
            maxclients: v.number("maxclients") as u32,
            maxclients_reserved: v.number("maxclients-reserved") as u32,
            client_output_buffer_limit: v.limits("client-output-buffer-limit"),
            client_query_buffer_limit: v.number("client-query-buffer-limit") as u64,
            proto_max_bulk_len: v.number("proto-max-bulk-len") as u64,
            shutdown_timeout_s: v.number("shutdown-timeout") as u64,
            soft_shutdown: v.flag("soft-shutdown"),
            slowlog_log_slower_than_us: u64::try_from(v.number("slowlog-log-slower-than")).ok(),
            slowlog_max_len: v.number("slowlog-max-len") as u64,
            conflict_log_max_len: v.number("conflict-log-max-len") as u64,
            latency_monitor_threshold_ms: v.number("latency-monitor-threshold") as u64,
            latency_tracking: v.flag("latency-tracking"),
            latency_tracking_info_percentiles: percentiles(v.words("latency-tracking-info-percentiles")),
            notify_keyspace_events: v.events("notify-keyspace-events"),
            hash_max_listpack_entries: v.number("hash-max-listpack-entries") as u64,
            hash_max_listpack_value: v.number("hash-max-listpack-value") as u64,
            list_max_listpack_size: v.number("list-max-listpack-size") as i32,
            set_max_intset_entries: v.number("set-max-intset-entries") as u64,
            zset_max_listpack_entries: v.number("zset-max-listpack-entries") as u64,
            zset_max_listpack_value: v.number("zset-max-listpack-value") as u64,
            cluster_emulation: choice(v.text("cluster-emulation")),
            cluster_owner: ClusterOwner::of(v.text("cluster-owner")),
            cluster_announce_ip: v.some("cluster-announce-ip"),
            cluster_announce_port: v.port("cluster-announce-port"),
            values,
        }
    }
}

fn default_of(d: &Directive) -> Value {
    d.kind.parse_text(d.default).expect("a test parses every default")
}

/// What only the whole can tell.
fn check_together(values: &Values, given: &HashMap<&'static str, &Line>) -> Result<(), ConfigError> {
    let fail = |name: &str, reason: &str| match given.get(name) {
        Some(line) => Err(ConfigError::at(line, reason)),
        None => Ok(()),
    };
    if values.flag("multi-master") && !values.flag("active-replica") {
        fail("multi-master", "multi-master needs active-replica yes")?;
    }
    let replica = !values.partners("replicaof").is_empty() && !values.flag("active-replica");
    if replica && !values.partners("peer").is_empty() {
        fail("peer", PEER_OR_PRIMARY)?;
    }
    Ok(())
}

fn bind_addresses(words: &[String]) -> Vec<BindAddress> {
    let address = |word: &String| {
        let host = word.strip_prefix('-');
        BindAddress { host: host.unwrap_or(word).to_owned(), optional: host.is_some() }
    };
    words.iter().map(address).collect()
}

fn renamed(lines: &[Vec<String>]) -> Vec<RenamedCommand> {
    let one = |line: &Vec<String>| RenamedCommand {
        from: line[0].clone(),
        to: Some(line[1].clone()).filter(|to| !to.is_empty()),
    };
    lines.iter().map(one).collect()
}

fn percentiles(words: &[String]) -> Vec<f64> {
    words.iter().filter_map(|word| word.parse().ok()).collect()
}

fn choice(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

impl LogLevel {
    fn of(text: &str) -> LogLevel {
        match text {
            "debug" => LogLevel::Debug,
            "verbose" => LogLevel::Verbose,
            "notice" => LogLevel::Notice,
            _ => LogLevel::Warning,
        }
    }
}

impl Access {
    fn of(text: &str) -> Access {
        match text {
            "yes" => Access::Yes,
            "local" => Access::Local,
            _ => Access::No,
        }
    }
}

impl Fsync {
    fn of(text: &str) -> Fsync {
        match text {
            "always" => Fsync::Always,
            "no" => Fsync::No,
            _ => Fsync::EverySecond,
        }
    }
}

impl ClusterOwner {
    fn of(text: &str) -> ClusterOwner {
        match text {
            "split" => ClusterOwner::Split,
            _ => ClusterOwner::Sticky,
        }
    }
}

#[cfg(test)]
mod tests;
