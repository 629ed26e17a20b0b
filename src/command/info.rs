//! INFO.
//!
//! Fields and sections have Redis 7's names and order, the replication section KeyDB's, because tools parse
//! them. What does not exist here (forks, the append-only file) is shown at rest.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::connection::REDIS_VERSION;
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::engine::client::ClientFlags;
use crate::engine::command::{Command, Flags, Group};
use crate::engine::error::Error;
use crate::engine::facts::ProcessFacts;
use crate::engine::standing::{Partner, Role};
use crate::engine::stats::Stats;
use crate::link::mesh::{PartnerView, State};
use crate::store::entry::ConflictKind;

/// The table.
pub const COMMANDS: &[Command] = &[Command {
    name: "info",
    arity: -1,
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::WALKS_KEYSPACE),
    keys: &[],
    categories: &["dangerous"],
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    group: Group::Server,
    since: "1.0.0",
    summary: "Tells about the server, in sections.",
    complexity: "O(1)",
    run: info,
    subcommands: &[],
}];

/// Where a section stands among those of one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// Always.
    Default,
    /// By `all` and `everything`.
    All,
}

struct Section {
    name: &'static str,
    shown: Shown,
    write: fn(&Scene<'_>, &mut String),
}

const SECTIONS: &[Section] = &[
    Section { name: "Server", shown: Shown::Default, write: server },
    Section { name: "Clients", shown: Shown::Default, write: clients },
    Section { name: "Memory", shown: Shown::Default, write: memory },
    Section { name: "Persistence", shown: Shown::Default, write: persistence },
    Section { name: "Stats", shown: Shown::Default, write: stats },
    Section { name: "Replication", shown: Shown::Default, write: replication },
    Section { name: "Convergence", shown: Shown::Default, write: convergence },
    Section { name: "CPU", shown: Shown::Default, write: cpu },
    Section { name: "Modules", shown: Shown::Default, write: |_, _| {} },
    Section { name: "Commandstats", shown: Shown::All, write: commandstats },
    Section { name: "Errorstats", shown: Shown::Default, write: errorstats },
    Section { name: "Latencystats", shown: Shown::All, write: latencystats },
    Section { name: "Cluster", shown: Shown::Default, write: cluster },
    Section { name: "Keyspace", shown: Shown::Default, write: keyspace },
];

/// How often background work runs a second.
const BACKGROUND_HZ: u32 = 10;

/// What a section is written from.
struct Scene<'a> {
    engine: &'a Engine,
    facts: ProcessFacts,
    now_ms: u64,
    now_us: u64,
    /// Keys, and keys that expire, per database; counted only if the section is asked for.
    databases: Vec<(usize, usize)>,
}

impl Scene<'_> {
    fn total(&self, counter: impl Fn(&Stats) -> &AtomicU64) -> u64 {
        self.engine.total(counter)
    }

    fn setting(&self, name: &str) -> String {
        let rows = self.engine.config.read().get(&[name], |_, _| false);
        rows.into_iter().next().map(|(_, value)| value).unwrap_or_default()
    }
}

/// Appends `name:value` lines.
macro_rules! lines {
    ($out:expr, $($name:literal: $value:expr),+ $(,)?) => {
        $( let _ = write!($out, concat!($name, ":{}\r\n"), $value); )+
    };
}

/// `INFO [section...]`
fn info(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let asked: Vec<String> =
        c.args.slice(1..).iter().map(|arg| String::from_utf8_lossy(arg).to_lowercase()).collect();
    let any = |words: &[&str]| asked.iter().any(|word| words.contains(&word.as_str()));
    let default = asked.is_empty() || any(&["default"]);
    let all = any(&["all", "everything"]);
    let chosen = |section: &Section| {
        all || (default && section.shown == Shown::Default) || any(&[section.name.to_lowercase().as_str()])
    };
    let databases = match SECTIONS.iter().any(|section| section.name == "Keyspace" && chosen(section)) {
        true => c.keys.sizes(),
        false => Vec::new(),
    };
    c.refresh_standing();
    let scene = Scene {
        engine: c.engine,
        facts: c.facts(),
        now_ms: c.keys.now_ms(),
        now_us: c.keys.now_us(),
        databases,
    };
    let mut text = String::new();
    for section in SECTIONS.iter().filter(|section| chosen(section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let _ = write!(text, "# {}\r\n", section.name);
        (section.write)(&scene, &mut text);
    }
    c.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

fn server(scene: &Scene<'_>, out: &mut String) {
    let facts = &scene.facts;
    let uptime_s = scene.now_ms.saturating_sub(facts.started_at_ms) / 1000;
    let port = scene.engine.config.read().port;
    lines!(out,
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "redis_mode": scene.engine.mode(),
        "server_name": "meldis",
        "meldis_version": env!("CARGO_PKG_VERSION"),
        "meldis_node_id": scene.engine.clock.origin().node(),
        "meldis_incarnation": scene.engine.clock.origin().incarnation(),
        "os": facts.os,
        "arch_bits": usize::BITS,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll",
        "process_id": facts.pid,
        "process_supervised": "no",
        "run_id": facts.run_id,
        "tcp_port": port,
        "server_time_usec": scene.now_us,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s / 86400,
        "hz": BACKGROUND_HZ,
        "configured_hz": scene.setting("hz"),
        "lru_clock": (scene.now_ms / 1000) & 0xFF_FFFF,
        "executable": facts.executable,
        "config_file": facts.config_file,
        "io_threads_active": 0,
        "server_threads": scene.engine.threads(),
    );
}

fn clients(scene: &Scene<'_>, out: &mut String) {
    let (mut connected, mut blocked, mut input, mut output) = (0, 0, 0, 0);
    for client in &scene.engine.clients {
        let flags = client.flags();
        connected += usize::from(!flags.contains(ClientFlags::LINK));
        blocked += usize::from(flags.contains(ClientFlags::BLOCKED));
        input = client.input_bytes.load(Relaxed).max(input);
        output = client.unread_bytes().max(output);
    }
    lines!(out,
        "connected_clients": connected,
        "cluster_connections": 0,
        "maxclients": scene.engine.limits.clients.load(Relaxed),
        "client_recent_max_input_buffer": input,
        "client_recent_max_output_buffer": output,
        "blocked_clients": blocked,
        "tracking_clients": 0,
        "clients_in_timeout_table": 0,
    );
}

fn memory(scene: &Scene<'_>, out: &mut String) {
    let facts = &scene.facts;
    let used = facts.allocated.max(1);
    let peak = facts.peak.max(used);
    let dataset = used.saturating_sub(facts.at_start);
    let percent = |part: u64, whole: u64| format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64);
    let ratio = |part: u64, whole: u64| format!("{:.2}", part as f64 / whole.max(1) as f64);
    let maxmemory = scene.setting("maxmemory");
    let input: u64 = scene.engine.clients.iter().map(|client| client.input_bytes.load(Relaxed)).sum();
    let output: u64 = scene.engine.clients.iter().map(|client| client.unread_bytes()).sum();
    let backlog_bytes = scene.engine.standing.read().backlog_bytes;
    lines!(out,
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": facts.resident,
        "used_memory_rss_human": human(facts.resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": percent(used, peak),
        "used_memory_overhead": facts.at_start.min(used),
        "used_memory_startup": facts.at_start,
        "used_memory_dataset": dataset,
        "used_memory_dataset_perc": percent(dataset, used),
        "allocator_allocated": used,
        "allocator_active": facts.active,
        "allocator_resident": facts.allocator_resident,
        "total_system_memory": facts.system_memory,
        "total_system_memory_human": human(facts.system_memory),
        "used_memory_lua": 0,
        "used_memory_vm_eval": 0,
        "used_memory_lua_human": human(0),
        "used_memory_scripts_eval": 0,
        "number_of_cached_scripts": 0,
        "number_of_functions": 0,
        "number_of_libraries": 0,
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": 0,
        "used_memory_vm_total_human": human(0),
        "used_memory_functions": 0,
        "used_memory_scripts": 0,
        "used_memory_scripts_human": human(0),
        "maxmemory": maxmemory,
        "maxmemory_human": human(maxmemory.parse().unwrap_or(0)),
        "maxmemory_policy": scene.setting("maxmemory-policy"),
        "allocator_frag_ratio": ratio(facts.active, used),
        "allocator_frag_bytes": facts.active.saturating_sub(used),
        "allocator_rss_ratio": ratio(facts.allocator_resident, facts.active),
        "allocator_rss_bytes": facts.allocator_resident.saturating_sub(facts.active),
        "rss_overhead_ratio": ratio(facts.resident, facts.allocator_resident),
        "rss_overhead_bytes": facts.resident as i64 - facts.allocator_resident as i64,
        "mem_fragmentation_ratio": ratio(facts.resident, used),
        "mem_fragmentation_bytes": facts.resident as i64 - used as i64,
        "mem_not_counted_for_evict": 0,
        "mem_replication_backlog": backlog_bytes,
        "mem_total_replication_buffers": backlog_bytes,
        "mem_clients_slaves": 0,
        "mem_clients_normal": input + output,
        "mem_cluster_links": 0,
        "mem_aof_buffer": 0,
        "mem_allocator": "jemalloc-5.3.0",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": 0,
        "lazyfreed_objects": 0,
    );
}

fn persistence(scene: &Scene<'_>, out: &mut String) {
    let disk = scene.engine.disk.read().clone();
    let seconds = |time_s: Option<u64>| time_s.map_or(-1, |time_s| time_s as i64);
    let status = |fails: bool| if fails { "err" } else { "ok" };
    lines!(out,
        "loading": 0,
        "async_loading": 0,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "current_fork_perc": "0.00",
        "current_save_keys_processed": 0,
        "current_save_keys_total": 0,
        "rdb_changes_since_last_save": scene.total(|stats| &stats.changes),
        "rdb_bgsave_in_progress": 0,
        "rdb_last_save_time": scene.facts.started_at_ms / 1000,
        "rdb_last_bgsave_status": "ok",
        "rdb_last_bgsave_time_sec": -1,
        "rdb_current_bgsave_time_sec": -1,
        "rdb_saves": 0,
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": 0,
        "rdb_last_load_keys_loaded": 0,
        "aof_enabled": u8::from(disk.enabled),
        "aof_rewrite_in_progress": u8::from(disk.snapshot_running),
        "aof_rewrite_scheduled": u8::from(disk.snapshot_wanted),
        "aof_last_rewrite_time_sec": seconds(disk.last_snapshot_s),
        "aof_current_rewrite_time_sec": seconds(disk.snapshot_s),
        "aof_last_bgrewrite_status": status(disk.failures_in_a_row > 0),
        "aof_rewrites": disk.snapshots,
        "aof_rewrites_consecutive_failures": disk.failures_in_a_row,
        "aof_last_write_status": status(disk.fails),
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
    );
    if disk.enabled {
        lines!(out,
            "aof_current_size": disk.snapshot_bytes + disk.journal_bytes,
            "aof_base_size": disk.snapshot_bytes,
            "aof_pending_rewrite": 0,
            "aof_buffer_length": disk.pending_bytes,
            "aof_pending_bio_fsync": 0,
            "aof_delayed_fsync": 0,
            "aof_unsynced_bytes": disk.unsynced_bytes,
            "aof_rewrite_percent": if disk.snapshot_running { disk.snapshot_percent } else { 100 },
        );
    }
}

fn stats(scene: &Scene<'_>, out: &mut String) {
    let facts = &scene.facts;
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    let (channels, patterns, shard_channels) = scene.engine.pubsub.counts();
    let link_input = scene.engine.link_input_bytes.load(Relaxed);
    let link_output = scene.engine.link_output_bytes.load(Relaxed);
    lines!(out,
        "total_connections_received": scene.total(|stats| &stats.connections),
        "total_commands_processed": scene.total(|stats| &stats.commands),
        "instantaneous_ops_per_sec": facts.commands_per_second,
        "total_net_input_bytes": scene.total(|stats| &stats.input_bytes) + link_input,
        "total_net_output_bytes": scene.total(|stats| &stats.output_bytes) + link_output,
        "total_net_repl_input_bytes": link_input,
        "total_net_repl_output_bytes": link_output,
        "instantaneous_input_kbps": kilobytes(facts.input_bytes_per_second),
        "instantaneous_output_kbps": kilobytes(facts.output_bytes_per_second),
        "instantaneous_input_repl_kbps": kilobytes(facts.link_input_bytes_per_second),
        "instantaneous_output_repl_kbps": kilobytes(facts.link_output_bytes_per_second),
        "rejected_connections": scene.total(|stats| &stats.rejected_connections),
        "sync_full": scene.engine.standing.read().syncs_given,
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "expired_keys": scene.total(|stats| &stats.expired_keys),
        "expired_stale_perc": "0.00",
        "expired_time_cap_reached_count": 0,
        "expire_cycle_cpu_milliseconds": 0,
        "evicted_keys": 0,
        "evicted_clients": 0,
        "total_eviction_exceeded_time": 0,
        "current_eviction_exceeded_time": 0,
        "keyspace_hits": scene.total(|stats| &stats.hits),
        "keyspace_misses": scene.total(|stats| &stats.misses),
        "pubsub_channels": channels,
        "pubsub_patterns": patterns,
        "pubsubshard_channels": shard_channels,
        "latest_fork_usec": 0,
        "total_forks": 0,
        "migrate_cached_sockets": 0,
        "slave_expires_tracked_keys": 0,
        "active_defrag_hits": 0,
        "active_defrag_misses": 0,
        "active_defrag_key_hits": 0,
        "active_defrag_key_misses": 0,
        "total_active_defrag_time": 0,
        "current_active_defrag_time": 0,
        "tracking_total_keys": 0,
        "tracking_total_items": 0,
        "tracking_total_prefixes": 0,
        "unexpected_error_replies": 0,
        "total_error_replies": scene.total(|stats| &stats.errors),
        "dump_payload_sanitizations": 0,
        "total_reads_processed": scene.total(|stats| &stats.reads),
        "total_writes_processed": scene.total(|stats| &stats.writes),
        "io_threaded_reads_processed": 0,
        "io_threaded_writes_processed": 0,
        "reply_buffer_shrinks": 0,
        "reply_buffer_expands": 0,
    );
}

fn replication(scene: &Scene<'_>, out: &mut String) {
    let standing = scene.engine.standing.read();
    let config = scene.engine.config.read();
    let role = Role::of(&config);
    lines!(out, "role": role.name());
    if !standing.partners.is_empty() {
        let up = standing.partners.iter().filter(|partner| partner.up).count();
        if role != Role::Replica {
            let is_up = !standing.is_broken(config.replica_quorum);
            lines!(out, "master_global_link_status": up_or_down(is_up), "connected_masters": up);
        }
        for (at, partner) in standing.partners.iter().enumerate() {
            let prefix = if at == 0 { "master".to_owned() } else { format!("master_{at}") };
            describe_partner(&prefix, partner, out);
        }
        if role == Role::Replica {
            let offset = standing.partners[0].offset;
            lines!(out, "slave_read_repl_offset": offset, "slave_repl_offset": offset);
        }
        lines!(out,
            "slave_priority": config.replica_priority,
            "slave_read_only": u8::from(role == Role::Replica && config.replica_read_only),
            "replica_announced": u8::from(config.replica_announced),
        );
    }
    lines!(out, "connected_slaves": standing.replicas.len());
    if config.wants_replicas() {
        lines!(out, "min_slaves_good_slaves": standing.good_replicas(config.min_replicas_max_lag_s));
    }
    for (at, replica) in standing.replicas.iter().enumerate() {
        let _ = write!(
            out,
            "slave{at}:ip={},port={},state={},offset={},lag={}\r\n",
            replica.host, replica.port, replica.state, replica.offset, replica.lag_s
        );
    }
    lines!(out,
        "master_failover_state": "no-failover",
        "master_replid": replid(scene.engine),
        "master_replid2": "0000000000000000000000000000000000000000",
        "master_repl_offset": standing.offset,
        "second_repl_offset": -1,
        "repl_backlog_active": u8::from(scene.engine.is_replicating()),
        "repl_backlog_size": config.repl_backlog_size,
        "repl_backlog_first_byte_offset": standing.backlog_first,
        "repl_backlog_histlen": standing.backlog_bytes,
    );
}

/// A line for each partner: what it lacks, and when it was last proven to hold the same.
fn convergence(scene: &Scene<'_>, out: &mut String) {
    let standing = scene.engine.standing.read();
    let total = |of: fn(&PartnerView) -> u64| standing.members.iter().map(of).sum::<u64>();
    let streaming = standing.members.iter().filter(|view| view.state == State::Streaming).count();
    lines!(out,
        "partners": standing.members.len(),
        "partners_streaming": streaming,
        "differing_ranges": total(|view| view.differing_ranges as u64),
        "repaired_keys": total(|view| view.repaired_keys),
    );
    let conflicts = ConflictKind::ALL.map(|kind| (kind.name(), scene.engine.conflicts.count(kind)));
    for (kind, count) in conflicts {
        let _ = write!(out, "conflicts_{kind}:{count}\r\n");
    }
    lines!(out, "conflicts_total": conflicts.iter().map(|(_, count)| count).sum::<u64>());
    for (at, view) in standing.members.iter().enumerate() {
        let node = view.origin.map_or("unknown".to_owned(), |origin| origin.node().to_string());
        let (host, port) = &view.address;
        let _ = write!(out, "partner{at}:node={node},address={host}:{port},state={}", view.state.name());
        let _ = match &view.state {
            State::Resync(percent) => write!(out, ",percent={percent}"),
            // A line of INFO is cut at commas.
            State::Refused(reason) => {
                let reason = reason.replace(", ", "; ").replace([',', '\r', '\n'], " ");
                write!(out, ",reason={reason}")
            }
            _ => Ok(()),
        };
        let _ = write!(
            out,
            ",verified_at={},differing_ranges={},repaired_keys={},lag_ms={},backlog_bytes={},clock_offset_ms={}\r\n",
            view.verified_at_ms,
            view.differing_ranges,
            view.repaired_keys,
            view.lag_ms,
            view.backlog_bytes,
            view.clock_offset_ms.map_or(String::new(), |ms| ms.to_string()),
        );
    }
}

/// 40 hexadecimal digits for who asks for the history's id: it is the node's own.
fn replid(engine: &Engine) -> String {
    format!("{:040x}", engine.clock.origin().as_u64())
}

fn describe_partner(prefix: &str, partner: &Partner, out: &mut String) {
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = write!(out, "{prefix}_{name}:{value}\r\n");
    };
    line("host", &partner.address.host);
    line("port", &partner.address.port);
    line("link_status", &up_or_down(partner.up));
    line("last_io_seconds_ago", &partner.last_io_s);
    line("sync_in_progress", &u8::from(partner.sync.is_some()));
    if let Some(sync) = partner.sync {
        let percent = sync.read_bytes as f64 * 100.0 / sync.total_bytes.max(1) as f64;
        line("sync_total_bytes", &sync.total_bytes);
        line("sync_read_bytes", &sync.read_bytes);
        line("sync_left_bytes", &sync.total_bytes.saturating_sub(sync.read_bytes));
        line("sync_perc", &format!("{percent:.2}"));
        line("sync_last_io_seconds_ago", &sync.last_io_s);
    }
    if !partner.up {
        line("link_down_since_seconds", &partner.down_since_s);
    }
}

fn up_or_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn cpu(scene: &Scene<'_>, out: &mut String) {
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    lines!(out,
        "used_cpu_sys": seconds(scene.facts.cpu_system_us),
        "used_cpu_user": seconds(scene.facts.cpu_user_us),
        "used_cpu_sys_children": seconds(0),
        "used_cpu_user_children": seconds(0),
    );
}

fn commandstats(scene: &Scene<'_>, out: &mut String) {
    for id in 0..scene.engine.registry.ids() as u16 {
        let total = scene.engine.command_stats.total(id);
        if total.calls + total.rejected + total.failed == 0 {
            continue;
        }
        let _ = write!(
            out,
            "cmdstat_{}:calls={},usec={},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
            scene.engine.registry.name(id),
            total.calls,
            total.us,
            total.us as f64 / total.calls.max(1) as f64,
            total.rejected,
            total.failed
        );
    }
}

fn errorstats(scene: &Scene<'_>, out: &mut String) {
    for (code, count) in scene.engine.error_stats.lock().iter() {
        let _ = write!(out, "errorstat_{code}:count={count}\r\n");
    }
}

fn latencystats(scene: &Scene<'_>, out: &mut String) {
    let config = scene.engine.config.read();
    if !config.latency_tracking {
        return;
    }
    for id in 0..scene.engine.registry.ids() as u16 {
        let total = scene.engine.command_stats.total(id);
        if total.calls == 0 {
            continue;
        }
        let shown: Vec<String> = config
            .latency_tracking_info_percentiles
            .iter()
            .map(|percentile| format!("p{percentile}={:.3}", total.percentile_us(*percentile) as f64))
            .collect();
        let _ = write!(
            out,
            "latency_percentiles_usec_{}:{}\r\n",
            scene.engine.registry.name(id),
            shown.join(",")
        );
    }
}

fn cluster(scene: &Scene<'_>, out: &mut String) {
    lines!(out, "cluster_enabled": u8::from(scene.engine.emulates_cluster()));
}

fn keyspace(scene: &Scene<'_>, out: &mut String) {
    for (db, (keys, expires)) in scene.databases.iter().enumerate() {
        if *keys > 0 {
            let _ = write!(out, "db{db}:keys={keys},expires={expires},avg_ttl=0\r\n");
        }
    }
}

/// Bytes for people, as Redis writes them.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut size = bytes as f64;
    let mut unit = "";
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.2}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, HostPort, of_text};
    use crate::engine::Now;
    use crate::engine::standing::{Replica, Standing, Sync};
    use crate::engine::testing::Fixture;

    fn sections(text: &str) -> Vec<&str> {
        text.split(' ')
            .zip(text.split(' ').skip(1))
            .filter(|(hash, _)| *hash == "#")
            .map(|(_, name)| name)
            .collect()
    }

    #[test]
    fn sections_are_chosen_by_name_and_keep_their_order() {
        let mut f = Fixture::new();
        assert_eq!(sections(&f.run("INFO keyspace SERVER")), ["Server", "Keyspace"]);
        assert_eq!(sections(&f.run("INFO")).len(), 12);
        assert_eq!(sections(&f.run("INFO everything")).len(), 14);
        assert_eq!(sections(&f.run("INFO default commandstats")).len(), 13);
        assert_eq!(f.run("INFO nosuch"), "$0");
        f.run("SET k v");
        f.run("SET e v PX 100000");
        assert!(f.run("INFO keyspace").contains("db0:keys=2,expires=1,avg_ttl=0"));
    }

    #[test]
    fn replication_has_the_order_of_keydb() {
        let f = Fixture::new();
        let text = "active-replica yes\nmulti-master yes\nreplicaof a 1\nreplicaof b 2";
        *f.engine.config.write() = Config::parse(&of_text("test", text)).unwrap();
        f.engine.refresh_standing(Now::from_unix_ns(0));
        let partner = |host: &str, port, up| Partner {
            address: HostPort { host: host.into(), port },
            up,
            last_io_s: 0,
            sync: (!up).then_some(Sync { total_bytes: 8, read_bytes: 2, last_io_s: 1 }),
            down_since_s: 7,
            offset: 0,
        };
        *f.engine.standing.write() = Standing {
            partners: vec![partner("a", 1, true), partner("b", 2, false)],
            replicas: vec![Replica { host: "a".into(), port: 1, state: "online", offset: 5, lag_s: 0 }],
            offset: 5,
            ..Standing::default()
        };
        let engine = &f.engine;
        let scene =
            Scene { engine, facts: ProcessFacts::default(), now_ms: 0, now_us: 0, databases: Vec::new() };
        let mut text = String::new();
        replication(&scene, &mut text);
        let text = text.replace("\r\n", " ");
        let expected = "role:active-replica master_global_link_status:down connected_masters:1 \
            master_host:a master_port:1 master_link_status:up master_last_io_seconds_ago:0 master_sync_in_progress:0 \
            master_1_host:b master_1_port:2 master_1_link_status:down master_1_last_io_seconds_ago:0 \
            master_1_sync_in_progress:1 master_1_sync_total_bytes:8 master_1_sync_read_bytes:2 \
            master_1_sync_left_bytes:6 master_1_sync_perc:25.00 master_1_sync_last_io_seconds_ago:1 \
            master_1_link_down_since_seconds:7 slave_priority:100 slave_read_only:0 replica_announced:1 \
            connected_slaves:1 slave0:ip=a,port=1,state=online,offset=5,lag=0 master_failover_state:no-failover";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn sizes_are_rounded_as_redis_does() {
        for (bytes, expected) in
            [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (916_368, "894.89K"), (25_276_514_304, "23.54G")]
        {
            assert_eq!(human(bytes), expected);
        }
    }
}
