//! The table of every directive: redis.conf 7.0 (and the 7.2 ones that matter), keydb.conf, and our own.
//!
//! Parsing, CONFIG GET, SET and REWRITE, the log's "has no effect" lines and the tests all derive from it.
//! A directive that changes nothing here is `Accepted` with the reason, so that a stock file starts the
//! server and nobody believes in a setting that is not there. What would lose data or expose it silently is
//! `Refused` unless it has its default. Order: as in redis.conf; `active-replica` and `multi-master` before
//! `replicaof`, which CONFIG REWRITE relies on.
//!
//! Defaults are Redis 7.0.15's except where the entry says otherwise.

use super::kind::{Kind, Unit};

/// One directive.
#[derive(Clone, Copy, Debug)]
pub struct Directive {
    /// Its name in files, CONFIG and the log.
    pub name: &'static str,
    /// Older names; CONFIG GET shows them as well.
    pub aliases: &'static [&'static str],
    /// Grammar and range.
    pub kind: Kind,
    /// The default, as CONFIG SET's text.
    pub default: &'static str,
    /// When it may change.
    pub change: Change,
    /// What it does here.
    pub effect: Effect,
    /// Whether CONFIG GET and SET know it.
    pub shown: Shown,
}

/// What CONFIG GET shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// To every pattern.
    Always,
    /// To those who ask for it by its whole name: knobs of Redis's own tests.
    ByName,
    /// Never: lines of a file that are no parameters, `include`, `user`, `loadmodule`, `rename-command`.
    Never,
}

/// When a directive may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// By CONFIG SET.
    Runtime,
    /// By CONFIG SET if `enable-protected-configs` allows the caller.
    Protected,
    /// Only before the start.
    Startup,
}

/// What a directive does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What Redis or KeyDB does by it.
    Effective,
    /// Nothing, for this reason; a value other than the default is noted in the log.
    Accepted(&'static str),
    /// A value other than the default is an error, for this reason.
    Refused(&'static str),
}

/// The directive of that name or alias, in any case.
pub fn find(name: &str) -> Option<&'static Directive> {
    index(name).map(|i| &DIRECTIVES[i])
}

pub(super) fn index(name: &str) -> Option<usize> {
    DIRECTIVES.iter().position(|d| d.names().any(|n| n.eq_ignore_ascii_case(name)))
}

impl Directive {
    /// Its name, then its aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    const fn alias(self, aliases: &'static [&'static str]) -> Directive {
        Directive { aliases, ..self }
    }

    const fn startup(self) -> Directive {
        Directive { change: Change::Startup, ..self }
    }

    const fn protected(self) -> Directive {
        Directive { change: Change::Protected, ..self }
    }

    const fn hidden(self) -> Directive {
        Directive { shown: Shown::Never, ..self }
    }

    const fn by_name(self) -> Directive {
        Directive { shown: Shown::ByName, ..self }
    }
}

const fn entry(name: &'static str, kind: Kind, default: &'static str, effect: Effect) -> Directive {
    Directive { name, aliases: &[], kind, default, change: Change::Runtime, effect, shown: Shown::Always }
}

const fn on(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    entry(name, kind, default, Effect::Effective)
}

const fn off(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Directive {
    entry(name, kind, default, Effect::Accepted(why))
}

const fn refused(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Directive {
    entry(name, kind, default, Effect::Refused(why))
}

const fn unit(min: i64, max: i64, unit: Unit) -> Kind {
    Kind::Integer { min, max, clamp: (min, max), unit }
}

const fn int(min: i64, max: i64) -> Kind {
    unit(min, max, Unit::None)
}

const fn seconds(min: i64, max: i64) -> Kind {
    unit(min, max, Unit::Seconds)
}

const fn millis(min: i64, max: i64) -> Kind {
    unit(min, max, Unit::Millis)
}

const fn memory(min: u64) -> Kind {
    Kind::Memory { min, max: LONG as u64 }
}

use Kind::{Enum, FileName, Flag, Flags, Text, Words};

const INT: i64 = i32::MAX as i64;
const LONG: i64 = i64::MAX;
const MB: u64 = 1 << 20;
const PORT: Kind = int(0, 65535);
const ANY_MEMORY: Kind = Kind::Memory { min: 0, max: u64::MAX };
const ACCESS: Kind = Enum(&["no", "yes", "local"]);
const STOP: Kind = Flags(&["default", "save", "nosave", "now", "force"]);
const FACILITY: Kind =
    Enum(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]);
const POLICIES: Kind = Enum(&[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
]);

const NO_SAVE: &str = "there are no save points; appendonly yes keeps all on disk";
const NO_RDB: &str = "no RDB file is written yet";
const OWN_NAMES: &str = "the files are meldis.snapshot.N and meldis.journal.N in dir";
const OWN_FORM: &str = "the journal has a form of its own";
const NO_FORK: &str = "this server does not fork";
const NO_EVICTION: &str = "memory is not limited and nothing is evicted yet";
const NO_TLS: &str = "TLS is not available yet; tls-port other than 0 is refused";
const PLAIN_LINKS: &str = "TLS is not available yet, and the links would carry plain text in silence";
const NO_CLUSTER: &str = "there is no cluster bus; cluster clients are served by cluster-emulation";
const NO_DEFRAG: &str = "the allocator is not defragmented actively";
const NO_LOG: &str = "log lines go to logfile or standard output, not to syslog";
const NO_PROCESS: &str = "the process title is left alone";
const NO_CRASH: &str = "a crash is reported by the runtime";
const NO_OOM: &str = "the OOM score is left to the supervisor";
const NO_HZ: &str = "background work runs ten times a second, and at once when there is more";
const NO_LAZY: &str = "values are always freed outside the locks, with nobody waiting";
const NO_STREAMS: &str = "there are no streams yet";
const NO_CPU: &str = "CPU affinity is left to the supervisor";
const THREADS: &str = "server-threads sets the number of threads";
const RESYNC: &str = "resync streams ranges of keys from memory, without a file or a fork";
const KEYDB_THREADS: &str = "threads share the work without this setting";
const KEYDB_INTERNAL: &str = "an internal of KeyDB that has no counterpart here";
const NO_FLASH: &str = "there is no storage provider: data would be expected where none is kept";

/// Every directive.
#[rustfmt::skip]
pub static DIRECTIVES: &[Directive] = &[
    // Files and modules.
    entry("include", Kind::Lines, "", Effect::Effective).startup().hidden(),
    refused("loadmodule", Kind::Lines, "", "modules cannot be loaded").startup().hidden(),

    // Network.
    on("bind", Words(16), "* -::*"),
    off("bind-source-addr", Text, "", "the system chooses the source address of outgoing links"),
    on("protected-mode", Flag, "yes"),
    on("enable-protected-configs", ACCESS, "no").startup(),
    on("enable-debug-command", ACCESS, "local").startup(),
    off("enable-module-command", ACCESS, "no", "modules cannot be loaded").startup(),
    on("port", PORT, "6379"),
    on("tcp-backlog", int(0, INT), "511").startup(),
    on("unixsocket", Text, "").startup(),
    on("unixsocketperm", Kind::Octal, "0").startup(),
    on("timeout", seconds(0, INT), "0"),
    on("tcp-keepalive", seconds(0, INT), "300"),
    off("socket-mark-id", int(0, u32::MAX as i64), "0", "sockets are not marked").startup(),

    // TLS.
    refused("tls-port", PORT, "0", "TLS is not available yet, and this port must not speak plain text"),
    off("tls-cert-file", Text, "", NO_TLS),
    off("tls-key-file", Text, "", NO_TLS),
    off("tls-key-file-pass", Text, "", NO_TLS),
    off("tls-client-cert-file", Text, "", NO_TLS),
    off("tls-client-key-file", Text, "", NO_TLS),
    off("tls-client-key-file-pass", Text, "", NO_TLS),
    off("tls-dh-params-file", Text, "", NO_TLS),
    off("tls-ca-cert-file", Text, "", NO_TLS),
    off("tls-ca-cert-dir", Text, "", NO_TLS),
    off("tls-auth-clients", Enum(&["no", "yes", "optional"]), "yes", NO_TLS),
    refused("tls-replication", Flag, "no", PLAIN_LINKS),
    refused("tls-cluster", Flag, "no", PLAIN_LINKS),
    off("tls-protocols", Text, "", NO_TLS),
    off("tls-ciphers", Text, "", NO_TLS),
    off("tls-ciphersuites", Text, "", NO_TLS),
    off("tls-prefer-server-ciphers", Flag, "no", NO_TLS),
    off("tls-session-caching", Flag, "yes", NO_TLS),
    off("tls-session-cache-size", int(0, INT), "20480", NO_TLS),
    off("tls-session-cache-timeout", seconds(0, INT), "300", NO_TLS),
    off("tls-allowlist", Kind::Lines, "", NO_TLS),

    // General.
    off("daemonize", Flag, "no", "it stays in the foreground; run it under a supervisor").startup(),
    off("supervised", Enum(&["upstart", "systemd", "auto", "no"]), "no", "no supervisor is notified").startup(),
    on("pidfile", Text, "").startup(),
    on("loglevel", Enum(&["debug", "verbose", "notice", "warning"]), "notice"),
    on("logfile", Text, "").startup(),
    off("syslog-enabled", Flag, "no", NO_LOG).startup(),
    // The identity is ours; Redis's default is `redis`.
    off("syslog-ident", Text, "meldis", NO_LOG).startup(),
    off("syslog-facility", FACILITY, "local0", NO_LOG).startup(),
    off("crash-log-enabled", Flag, "yes", NO_CRASH),
    off("crash-memcheck-enabled", Flag, "yes", NO_CRASH),
    on("databases", int(1, INT), "16").startup(),
    off("always-show-logo", Flag, "no", "there is no logo").startup(),
    off("set-proc-title", Flag, "yes", NO_PROCESS).startup(),
    off("proc-title-template", Text, "{title} {listen-addr} {server-mode}", NO_PROCESS),
    off("locale-collate", Text, "", "text is compared by bytes"),
    off("ignore-warnings", Text, "", "no system check stops the start"),
    on("dir", Text, ".").protected(),
    off("hz", Kind::Integer { min: 0, max: INT, clamp: (1, 500), unit: Unit::None }, "10", NO_HZ),
    off("dynamic-hz", Flag, "yes", NO_HZ),
    off("active-expire-effort", int(1, 10), "1", "keys that expire lie in order of time and need no search"),
    off("activerehashing", Flag, "yes", "tables are not rehashed in the background"),
    on("jemalloc-bg-thread", Flag, "yes"),
    off("disable-thp", Flag, "yes", "huge pages are left as the system has them").startup(),
    off("oom-score-adj", Enum(&["no", "yes", "relative", "absolute"]), "no", NO_OOM),
    off("oom-score-adj-values", Kind::OomScores, "0 200 800", NO_OOM),
    off("server_cpulist", Text, "", NO_CPU).startup(),
    off("bio_cpulist", Text, "", NO_CPU).startup(),
    off("aof_rewrite_cpulist", Text, "", NO_CPU).startup(),
    off("bgsave_cpulist", Text, "", NO_CPU).startup(),
    // KeyDB's; its shipped file says 2.
    on("server-threads", int(1, 16), "2").startup(),
    off("io-threads", int(1, 128), "1", THREADS).startup(),
    off("io-threads-do-reads", Flag, "no", THREADS).startup(),

    // Saving.
    off("save", Kind::SavePoints, "3600 1 300 100 60 10000", NO_SAVE),
    off("stop-writes-on-bgsave-error", Flag, "yes", NO_RDB),
    off("rdbcompression", Flag, "yes", NO_RDB),
    off("rdbchecksum", Flag, "yes", NO_RDB).startup(),
    off("sanitize-dump-payload", Enum(&["no", "yes", "clients"]), "no", "there is no RESTORE yet"),
    off("dbfilename", FileName("dbfilename"), "dump.rdb", NO_RDB).protected(),
    off("rdb-del-sync-files", Flag, "no", RESYNC),
    off("rdb-save-incremental-fsync", Flag, "yes", NO_RDB),
    on("appendonly", Flag, "no"),
    off("appendfilename", FileName("appendfilename"), "appendonly.aof", OWN_NAMES).startup(),
    off("appenddirname", FileName("appenddirname"), "appendonlydir", OWN_NAMES).startup(),
    on("appendfsync", Enum(&["everysec", "always", "no"]), "everysec"),
    off("no-appendfsync-on-rewrite", Flag, "no", NO_FORK),
    on("auto-aof-rewrite-percentage", int(0, INT), "100"),
    on("auto-aof-rewrite-min-size", memory(0), "67108864"),
    on("aof-load-truncated", Flag, "yes"),
    off("aof-use-rdb-preamble", Flag, "yes", OWN_FORM),
    off("aof-timestamp-enabled", Flag, "no", "every batch has its time"),
    off("aof-rewrite-incremental-fsync", Flag, "yes", OWN_FORM),
    off("aof-disable-auto-gc", Flag, "no", "what a snapshot makes superfluous is removed"),

    // Partners and replicas. `active-replica` and `multi-master` stand before `replicaof`.
    on("active-replica", Flag, "no").startup(),
    on("multi-master", Flag, "no").startup(),
    on("replicaof", Kind::Partners, "").alias(&["slaveof"]).startup(),
    on("peer", Kind::Peers, "").startup(),
    on("masteruser", Text, ""),
    on("masterauth", Text, ""),
    off("multi-master-no-forward", Flag, "no", "a batch is passed on only to who does not get it from its origin"),
    off("allow-write-during-load", Flag, "no", "writes are always taken during a resync"),
    on("replica-quorum", int(-1, INT), "-1"),
    on("max-clock-drift", millis(1, INT), "5000"),
    on("peer-max-absence", seconds(1, INT), "3600"),
    on("replica-serve-stale-data", Flag, "yes").alias(&["slave-serve-stale-data"]),
    on("replica-read-only", Flag, "yes").alias(&["slave-read-only"]),
    on("replica-priority", int(0, INT), "100").alias(&["slave-priority"]),
    on("replica-announced", Flag, "yes"),
    on("replica-announce-ip", Text, "").alias(&["slave-announce-ip"]),
    on("replica-announce-port", PORT, "0").alias(&["slave-announce-port"]),
    on("repl-timeout", seconds(1, INT), "60"),
    off("repl-ping-replica-period", seconds(1, INT), "10", "links give signs of life ten times a second")
        .alias(&["repl-ping-slave-period"]),
    // Redis's is 1mb: too little to bridge a restart of a partner under load.
    on("repl-backlog-size", memory(1), "67108864"),
    on("repl-backlog-ttl", seconds(0, LONG), "3600"),
    on("min-replicas-to-write", int(0, INT), "0").alias(&["min-slaves-to-write"]),
    on("min-replicas-max-lag", seconds(0, INT), "10").alias(&["min-slaves-max-lag"]),
    off("repl-diskless-sync", Flag, "yes", RESYNC),
    off("repl-diskless-sync-delay", seconds(0, INT), "5", RESYNC),
    off("repl-diskless-sync-max-replicas", int(0, INT), "0", RESYNC),
    off("repl-diskless-load", Enum(&["disabled", "on-empty-db", "swapdb"]), "disabled", RESYNC),
    off("repl-disable-tcp-nodelay", Flag, "no", "links always send without delay"),
    off("replica-lazy-flush", Flag, "no", "a resync merges and never empties the data").alias(&["slave-lazy-flush"]),
    off("replica-ignore-maxmemory", Flag, "yes", NO_EVICTION).alias(&["slave-ignore-maxmemory"]),
    off("replica-ignore-disk-write-errors", Flag, "no", "a replica goes on taking what its primary sends"),
    off("propagation-error-behavior", Enum(&["ignore", "panic", "panic-on-replicas"]), "ignore",
        "links carry results, not commands that could fail"),

    // Security.
    on("requirepass", Text, ""),
    on("allowlist", Kind::Blocks, ""),
    on("rename-command", Kind::Renames, "").startup().hidden(),
    refused("user", Kind::Lines, "", "ACL users are not available yet; use requirepass").startup().hidden(),
    refused("aclfile", Text, "", "ACL users are not available yet; use requirepass").startup(),
    off("acl-pubsub-default", Enum(&["allchannels", "resetchannels"]), "resetchannels", "there are no ACL users yet"),
    off("acllog-max-len", int(0, LONG), "128", "there are no ACL users yet"),

    // Limits.
    on("maxclients", int(1, u32::MAX as i64), "10000"),
    on("maxclients-reserved", int(0, 100), "0"),
    on("client-output-buffer-limit", Kind::OutputLimits,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
    on("client-query-buffer-limit", memory(MB), "1073741824"),
    on("proto-max-bulk-len", memory(MB), "536870912"),
    off("maxmemory", ANY_MEMORY, "0", NO_EVICTION),
    off("maxmemory-policy", POLICIES, "noeviction", NO_EVICTION),
    off("maxmemory-samples", int(1, INT), "5", NO_EVICTION),
    off("maxmemory-eviction-tenacity", int(0, 100), "10", NO_EVICTION),
    off("maxmemory-clients", Kind::MemoryOrPercent, "0", NO_EVICTION),
    off("force-eviction-percent", int(0, 100), "0", NO_EVICTION),
    off("delete-on-evict", Flag, "no", NO_EVICTION),
    off("overload-protect-percent", int(0, 200), "0", "clients are not slowed down under load yet"),
    off("lfu-log-factor", int(0, INT), "10", NO_EVICTION),
    off("lfu-decay-time", int(0, INT), "1", NO_EVICTION),
    off("tracking-table-max-keys", int(0, LONG), "1000000", "clients are not tracked yet"),
    off("lazyfree-lazy-eviction", Flag, "no", NO_EVICTION),
    off("lazyfree-lazy-expire", Flag, "no", NO_LAZY),
    off("lazyfree-lazy-server-del", Flag, "no", NO_LAZY),
    off("lazyfree-lazy-user-del", Flag, "no", NO_LAZY),
    off("lazyfree-lazy-user-flush", Flag, "no", NO_LAZY),

    // Stopping.
    on("shutdown-timeout", seconds(0, INT), "10"),
    on("soft-shutdown", Flag, "no"),
    off("shutdown-on-sigint", STOP, "default", NO_SAVE),
    off("shutdown-on-sigterm", STOP, "default", NO_SAVE),

    // Scripts, slow log, latency, events.
    off("busy-reply-threshold", millis(0, LONG), "5000", "there are no scripts yet").alias(&["lua-time-limit"]),
    // Microseconds.
    on("slowlog-log-slower-than", int(-1, LONG), "10000"),
    on("slowlog-max-len", int(0, LONG), "128"),
    // Our own.
    on("conflict-log-max-len", int(0, LONG), "128"),
    on("latency-monitor-threshold", millis(0, LONG), "0"),
    on("latency-tracking", Flag, "yes"),
    on("latency-tracking-info-percentiles", Kind::Percentiles, "50 99 99.9"),
    on("notify-keyspace-events", Kind::Events, ""),

    // Encodings.
    on("hash-max-listpack-entries", int(0, LONG), "512").alias(&["hash-max-ziplist-entries"]),
    on("hash-max-listpack-value", memory(0), "64").alias(&["hash-max-ziplist-value"]),
    on("list-max-listpack-size", int(i32::MIN as i64, INT), "-2").alias(&["list-max-ziplist-size"]),
    on("set-max-intset-entries", int(0, LONG), "512"),
    // Of Redis 7.2.
    off("set-max-listpack-entries", int(0, LONG), "128", "a set is an intset or a hashtable, as in Redis 7.0"),
    off("set-max-listpack-value", memory(0), "64", "a set is an intset or a hashtable, as in Redis 7.0"),
    on("zset-max-listpack-entries", int(0, LONG), "128").alias(&["zset-max-ziplist-entries"]),
    on("zset-max-listpack-value", memory(0), "64").alias(&["zset-max-ziplist-value"]),
    off("stream-node-max-bytes", memory(0), "4096", NO_STREAMS),
    off("stream-node-max-entries", int(0, LONG), "100", NO_STREAMS),
    off("list-compress-depth", int(0, INT), "0", "lists are not compressed"),
    off("list-max-ziplist-entries", Text, "", "list-max-listpack-size replaced it").hidden(),
    off("list-max-ziplist-value", Text, "", "list-max-listpack-size replaced it").hidden(),
    off("hll-sparse-max-bytes", memory(0), "3000", "there are no HyperLogLogs yet"),
    off("activedefrag", Flag, "no", NO_DEFRAG),
    off("active-defrag-ignore-bytes", memory(1), "104857600", NO_DEFRAG),
    off("active-defrag-threshold-lower", int(0, 1000), "10", NO_DEFRAG),
    off("active-defrag-threshold-upper", int(0, 1000), "100", NO_DEFRAG),
    off("active-defrag-cycle-min", int(1, 99), "1", NO_DEFRAG),
    off("active-defrag-cycle-max", int(1, 99), "25", NO_DEFRAG),
    off("active-defrag-max-scan-fields", int(1, LONG), "1000", NO_DEFRAG),

    // Cluster.
    on("cluster-emulation", Enum(&["auto", "yes", "no"]), "auto"),
    on("cluster-owner", Enum(&["sticky", "split"]), "sticky"),
    on("cluster-announce-ip", Text, ""),
    on("cluster-announce-port", PORT, "0"),
    refused("cluster-enabled", Flag, "no",
        "there is no sharding: every node holds every key; cluster clients are served by cluster-emulation").startup(),
    off("cluster-announce-tls-port", PORT, "0", NO_TLS),
    off("cluster-announce-bus-port", PORT, "0", NO_CLUSTER),
    off("cluster-announce-hostname", Text, "", NO_CLUSTER),
    off("cluster-announce-human-nodename", Text, "", NO_CLUSTER),
    off("cluster-port", PORT, "0", NO_CLUSTER).startup(),
    off("cluster-config-file", Text, "nodes.conf", NO_CLUSTER).startup(),
    off("cluster-node-timeout", millis(0, LONG), "15000", NO_CLUSTER),
    off("cluster-migration-barrier", int(0, INT), "1", NO_CLUSTER),
    off("cluster-allow-replica-migration", Flag, "yes", NO_CLUSTER),
    off("cluster-require-full-coverage", Flag, "yes", NO_CLUSTER),
    off("cluster-replica-validity-factor", int(0, INT), "10", NO_CLUSTER).alias(&["cluster-slave-validity-factor"]),
    off("cluster-replica-no-failover", Flag, "no", NO_CLUSTER).alias(&["cluster-slave-no-failover"]),
    off("cluster-allow-reads-when-down", Flag, "no", NO_CLUSTER),
    off("cluster-allow-pubsubshard-when-down", Flag, "yes", NO_CLUSTER),
    off("cluster-link-sendbuf-limit", ANY_MEMORY, "0", NO_CLUSTER),
    off("cluster-preferred-endpoint-type", Enum(&["ip", "hostname", "unknown-endpoint"]), "ip", NO_CLUSTER),

    // KeyDB.
    off("server-thread-affinity", Text, "no", NO_CPU).startup(),
    off("active-client-balancing", Flag, "yes", KEYDB_THREADS),
    off("min-clients-per-thread", int(0, 400), "20", KEYDB_THREADS),
    off("replica-weighting-factor", int(1, INT), "2", KEYDB_THREADS),
    off("time-thread-priority", Flag, "no", KEYDB_THREADS).startup(),
    off("enable-async-commands", Flag, "no", KEYDB_INTERNAL),
    off("enable-async-rehash", Flag, "yes", KEYDB_INTERNAL),
    off("multithread-load-enabled", Flag, "no", KEYDB_INTERNAL),
    off("prefetch-enabled", Flag, "yes", KEYDB_INTERNAL),
    off("semi-ordered-set-bucket-size", int(0, 1024), "0", KEYDB_INTERNAL),
    off("max-snapshot-slip", millis(0, LONG), "400", KEYDB_INTERNAL),
    off("use-fork", Flag, "no", NO_FORK).startup(),
    off("enable-motd", Flag, "yes", "there is no message of the day"),
    off("lua-replicate-commands", Flag, "yes", "there are no scripts yet"),
    off("repl-backlog-disk-reserve", memory(0), "0", "the backlog is in memory").startup(),
    off("force-backlog-disk-reserve", Flag, "no", "the backlog is in memory"),
    off("enable-keydb-fastsync", Flag, "no", RESYNC),
    off("availability-zone", Text, "", "partners are not told apart by zone"),
    off("testmode", Flag, "no", "there is no test mode"),
    off("version-override", Text, "", "the version shown is our own").startup(),
    off("rdb-key-save-delay", int(i64::MIN, LONG), "0", NO_RDB).by_name(),
    off("key-load-delay", int(i64::MIN, LONG), "0", NO_RDB).by_name(),
    off("loading-process-events-interval-bytes", memory(0), "2097152", NO_RDB).by_name(),
    off("loading-process-events-interval-keys", int(0, LONG), "8192", NO_RDB),
    off("gopher-enabled", Flag, "no", "the Gopher protocol is not spoken").hidden(),
    refused("storage-provider", Kind::Lines, "none", NO_FLASH).startup().hidden(),
    refused("scratch-file-path", Text, "", NO_FLASH).startup().hidden(),
    refused("maxstorage", ANY_MEMORY, "0", NO_FLASH).startup().hidden(),
    refused("db-s3-object", Text, "", NO_FLASH).startup().hidden(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_parses_by_its_own_kind_and_prints_as_itself() {
        for d in DIRECTIVES {
            let value = d.kind.parse_text(d.default).unwrap_or_else(|e| panic!("{}: {e}", d.name));
            assert_eq!(value.text(&d.kind), d.default, "{}", d.name);
        }
    }

    #[test]
    fn names_are_unique_and_each_alias_resolves() {
        let mut seen = std::collections::BTreeSet::new();
        for d in DIRECTIVES {
            for name in d.names() {
                assert!(seen.insert(name), "{name} twice");
                assert_eq!(name, name.to_lowercase());
                assert_eq!(find(&name.to_uppercase()).unwrap().name, d.name);
            }
        }
        assert!(find("nosuch").is_none());
    }

    #[test]
    fn reasons_read_as_one_line_without_a_full_stop() {
        for d in DIRECTIVES {
            if let Effect::Accepted(why) | Effect::Refused(why) = d.effect {
                assert!(!why.is_empty() && !why.ends_with('.') && !why.contains('\n'), "{}", d.name);
            }
        }
    }
}
