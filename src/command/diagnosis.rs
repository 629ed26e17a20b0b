//! SLOWLOG, LATENCY and MEMORY: what was slow, and where memory goes.

use super::family::{container, help, wrong_number};
use super::parse::{integer, is};
use crate::engine::call::Call;
use crate::engine::command::{Command, Flags, Group, KeySpec};
use crate::engine::command_stats::Total;
use crate::engine::error::Error;
use crate::number;
use crate::store::entry::Value;

const BASE: Command = Command {
    name: "",
    arity: -2,
    flags: Flags::empty(),
    keys: &[],
    categories: &[],
    tips: &[],
    group: Group::Server,
    since: "2.2.12",
    summary: "",
    complexity: "Depends on the subcommand",
    run: container,
    subcommands: &[],
};

const HELP: Command = Command {
    name: "help",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE),
    summary: "Lists the subcommands.",
    complexity: "O(1)",
    ..BASE
};

const SLOWLOG: Command = Command {
    arity: 2,
    flags: Flags::ADMIN.union(Flags::LOADING).union(Flags::STALE),
    complexity: "O(1)",
    ..BASE
};

const LATENCY: Command = Command {
    arity: 2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::LOADING).union(Flags::STALE),
    tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
    since: "2.8.13",
    complexity: "O(1)",
    ..BASE
};

const MEMORY: Command = Command {
    arity: 2,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    since: "4.0.0",
    complexity: "O(1)",
    ..BASE
};

/// The table.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "latency",
        since: "2.8.13",
        summary: "What took long.",
        subcommands: &[
            Command { name: "doctor", summary: "Explains the spikes seen.", run: latency_doctor, ..LATENCY },
            Command {
                name: "graph",
                arity: 3,
                summary: "Draws the spikes of an event.",
                run: latency_graph,
                ..LATENCY
            },
            Command { since: "2.8.13", run: latency_help, ..HELP },
            Command {
                name: "histogram",
                arity: -2,
                since: "7.0.0",
                summary: "How long commands took.",
                complexity: "O(N) with the number of commands",
                run: histogram,
                ..LATENCY
            },
            Command {
                name: "history",
                arity: 3,
                summary: "The spikes of an event.",
                run: history,
                ..LATENCY
            },
            Command { name: "latest", summary: "The last spike of each event.", run: latest, ..LATENCY },
            Command {
                name: "reset",
                arity: -2,
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                summary: "Forgets spikes.",
                run: latency_reset,
                ..LATENCY
            },
        ],
        ..BASE
    },
    Command {
        name: "memory",
        since: "4.0.0",
        summary: "Where memory goes.",
        subcommands: &[
            Command {
                name: "doctor",
                summary: "Says what is wrong with memory.",
                run: memory_doctor,
                ..MEMORY
            },
            Command { since: "4.0.0", run: memory_help, ..HELP },
            Command {
                name: "malloc-stats",
                summary: "What the allocator says.",
                run: malloc_stats,
                ..MEMORY
            },
            Command {
                name: "purge",
                tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
                summary: "Accepted: the allocator returns memory by itself.",
                run: purge,
                ..MEMORY
            },
            // Counts the keys, so it looks at all ranges.
            Command {
                name: "stats",
                flags: Flags::WALKS_KEYSPACE,
                summary: "Where memory goes.",
                run: memory_stats,
                ..MEMORY
            },
            Command {
                name: "usage",
                arity: -3,
                flags: Flags::READONLY,
                keys: &[KeySpec {
                    notes: "",
                    flags: &["RO"],
                    begin: crate::engine::command::Begin::Index(2),
                    find: crate::engine::command::Find::Range { last: 0, step: 1, limit: 0 },
                }],
                tips: &[],
                summary: "An estimate of the memory a key takes.",
                complexity: "O(N) with the number of samples",
                run: usage,
                ..MEMORY
            },
        ],
        ..BASE
    },
    Command {
        name: "slowlog",
        summary: "Commands that were slow.",
        subcommands: &[
            Command {
                name: "get",
                arity: -2,
                tips: &["request_policy:all_nodes", "nondeterministic_output"],
                summary: "The latest slow commands.",
                complexity: "O(N) with the number of entries returned",
                run: slowlog_get,
                ..SLOWLOG
            },
            Command { since: "6.2.0", run: slowlog_help, ..HELP },
            Command {
                name: "len",
                tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
                summary: "How many entries there are.",
                run: slowlog_len,
                ..SLOWLOG
            },
            Command {
                name: "reset",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                summary: "Forgets all entries.",
                complexity: "O(N) with the number of entries",
                run: slowlog_reset,
                ..SLOWLOG
            },
        ],
        ..BASE
    },
];

/// Entries SLOWLOG GET answers unless told otherwise.
const SLOWLOG_COUNT: usize = 10;

/// `SLOWLOG GET [count]`
fn slowlog_get(c: &mut Call<'_, '_>) -> Result<(), Error> {
    if c.args.len() > 3 {
        return Err(wrong_number(c.args));
    }
    let count = match c.args.get(2).map(number::parse_i64) {
        None => SLOWLOG_COUNT,
        Some(Some(-1)) => usize::MAX,
        Some(count) => count
            .and_then(|count| usize::try_from(count).ok())
            .ok_or(Error::new("ERR count should be greater than or equal to -1"))?,
    };
    let log = c.engine.slowlog.lock();
    c.reply.array(count.min(log.entries().len()));
    for entry in log.entries().take(count) {
        c.reply.array(6);
        c.reply.int(entry.id as i64);
        c.reply.int(entry.at_s as i64);
        c.reply.int(entry.us as i64);
        c.reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| c.reply.bulk(arg));
        c.reply.bulk(entry.addr.as_bytes());
        c.reply.bulk(&entry.name);
    }
    Ok(())
}

fn slowlog_len(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.int(c.engine.slowlog.lock().entries().len() as i64);
    Ok(())
}

fn slowlog_reset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.engine.slowlog.lock().clear();
    c.reply.ok();
    Ok(())
}

fn slowlog_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    help(
        c,
        &[
            (
                "GET [<count>]",
                "The latest entries (default 10, -1 all): id, Unix time, microseconds, arguments, address, name.",
            ),
            ("LEN", "How many entries there are."),
            ("RESET", "Forgets all entries."),
        ],
    );
    Ok(())
}

fn latest(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let latency = c.engine.latency.lock();
    c.reply.array(latency.events().len());
    for (event, series) in latency.events() {
        let Some(last) = series.samples.back() else { continue };
        c.reply.array(4);
        c.reply.bulk(event.as_bytes());
        c.reply.int(last.at_s as i64);
        c.reply.int(last.ms as i64);
        c.reply.int(series.max_ms as i64);
    }
    Ok(())
}

fn history(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let latency = c.engine.latency.lock();
    let Some(series) = latency.event(&c.args[2]) else {
        c.reply.array(0);
        return Ok(());
    };
    c.reply.array(series.samples.len());
    for sample in &series.samples {
        c.reply.array(2);
        c.reply.int(sample.at_s as i64);
        c.reply.int(sample.ms as i64);
    }
    Ok(())
}

/// `LATENCY RESET [event...]`
fn latency_reset(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let mut latency = c.engine.latency.lock();
    let forgotten = match c.args.len() {
        2 => latency.clear(),
        _ => c.args.slice(2..).iter().filter(|event| latency.forget(event)).count(),
    };
    c.reply.int(forgotten as i64);
    Ok(())
}

/// Columns of LATENCY GRAPH.
const GRAPH_COLUMNS: usize = 80;
/// Its rows.
const GRAPH_ROWS: u64 = 4;

/// Bars of the last samples, the highest four rows high.
fn latency_graph(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let event = String::from_utf8_lossy(&c.args[2]).into_owned();
    let latency = c.engine.latency.lock();
    let Some(series) = latency.event(&c.args[2]) else {
        return Err(format!("ERR No samples available for event '{event}'").into());
    };
    let shown: Vec<u64> = series
        .samples
        .iter()
        .skip(series.samples.len().saturating_sub(GRAPH_COLUMNS))
        .map(|s| s.ms)
        .collect();
    let (low, high) = (shown.iter().min().copied().unwrap_or(0), shown.iter().max().copied().unwrap_or(0));
    let mut text = format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", series.max_ms);
    text.push_str(&"-".repeat(GRAPH_COLUMNS));
    text.push('\n');
    for row in (1..=GRAPH_ROWS).rev() {
        let bar = |ms: &u64| if ms * GRAPH_ROWS >= row * high.max(1) || row == 1 { '#' } else { ' ' };
        text.extend(shown.iter().map(bar));
        text.push('\n');
    }
    c.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

fn latency_doctor(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let threshold_ms = c.engine.config.read().latency_monitor_threshold_ms;
    let latency = c.engine.latency.lock();
    let mut text = String::new();
    if threshold_ms == 0 {
        text.push_str(
            "Latency is not watched: CONFIG SET latency-monitor-threshold <milliseconds> switches it on.\n",
        );
    } else if latency.events().len() == 0 {
        text.push_str(&format!("Nothing took {threshold_ms} ms or more since the last LATENCY RESET.\n"));
    }
    for (event, series) in latency.events() {
        let sum: u64 = series.samples.iter().map(|sample| sample.ms).sum();
        text.push_str(&format!(
            "{event}: {} spikes, {} ms on average, {} ms at most. SLOWLOG GET names the commands.\n",
            series.samples.len(),
            sum / series.samples.len().max(1) as u64,
            series.max_ms
        ));
    }
    c.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// `LATENCY HISTOGRAM [command...]`
fn histogram(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let registry = &c.engine.registry;
    let wanted: Vec<String> =
        c.args.slice(2..).iter().map(|arg| String::from_utf8_lossy(arg).to_lowercase()).collect();
    let is_wanted = |name: &str| {
        wanted.is_empty()
            || wanted
                .iter()
                .any(|word| word == name || name.split_once('|').is_some_and(|(parent, _)| parent == word))
    };
    let mark = c.reply.mark();
    let mut shown = 0;
    for id in 0..registry.ids() as u16 {
        let total = c.engine.command_stats.total(id);
        if total.calls > 0 && is_wanted(registry.name(id)) {
            c.reply.bulk(registry.name(id).as_bytes());
            write_histogram(c, &total);
            shown += 1;
        }
    }
    c.reply.map_at(mark, shown);
    Ok(())
}

fn write_histogram(c: &mut Call<'_, '_>, total: &Total) {
    c.reply.map(2);
    c.reply.bulk(b"calls");
    c.reply.int(total.calls as i64);
    c.reply.bulk(b"histogram_usec");
    c.reply.map(total.buckets.iter().filter(|count| **count > 0).count());
    let mut sum = 0;
    for (at, count) in total.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        sum += count;
        c.reply.int(1 << at);
        c.reply.int(sum as i64);
    }
}

fn latency_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    help(
        c,
        &[
            ("DOCTOR", "Explains the spikes seen."),
            ("GRAPH <event>", "Draws the spikes of an event."),
            ("HISTOGRAM [<command> ...]", "How long these commands took, or all."),
            ("HISTORY <event>", "The spikes of an event, with their times."),
            ("LATEST", "The last and the worst spike of each event."),
            ("RESET [<event> ...]", "Forgets the spikes of these events, or all."),
        ],
    );
    Ok(())
}

/// Elements looked at by MEMORY USAGE unless told otherwise.
const SAMPLES: usize = 5;
/// What a key takes beside its name and value.
const ENTRY_BYTES: usize = 48;
/// What an element takes beside its bytes: hash slot, stamp, span.
const ELEMENT_BYTES: usize = 40;

/// `MEMORY USAGE key [SAMPLES count]`
fn usage(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let args = c.args;
    let mut samples = SAMPLES;
    let mut at = 3;
    while at < args.len() {
        let Some(count) = args.get(at + 1).filter(|_| is(&args[at], "samples")) else {
            return Err(Error::SYNTAX);
        };
        samples = match usize::try_from(integer(count)?).map_err(|_| Error::SYNTAX)? {
            0 => usize::MAX,
            count => count,
        };
        at += 2;
    }
    let key = &args[2];
    match c.keys.peek(key) {
        None => c.reply.null(),
        Some(value) => c.reply.int((ENTRY_BYTES + key.len() + weight(value, samples)) as i64),
    }
    Ok(())
}

/// Bytes of a value, extrapolated from some of its elements.
fn weight(value: Value<'_>, samples: usize) -> usize {
    let of = |len: usize, sizes: &mut dyn Iterator<Item = usize>| {
        let (mut sum, mut seen) = (0usize, 0usize);
        for size in sizes.take(samples) {
            sum += size + ELEMENT_BYTES;
            seen += 1;
        }
        (sum as f64 / seen.max(1) as f64 * len as f64) as usize
    };
    match value {
        Value::String(text) => text.len(),
        Value::List(list) => of(list.len(), &mut list.iter().map(|item| item.value().len())),
        Value::Set(set) => of(set.len(), &mut set.iter().map(|member| member.len())),
        Value::Zset(zset) => of(zset.len(), &mut zset.iter().map(|(member, _)| member.len() + 40)),
        Value::Hash(hash) => of(hash.len(), &mut hash.iter().map(|(field, value)| field.len() + value.len())),
    }
}

fn memory_doctor(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let facts = c.facts();
    let text = if facts.allocated < 5 << 20 {
        "There is too little data to tell anything about memory.\n".to_owned()
    } else if facts.resident > facts.allocated.saturating_mul(3) / 2
        && facts.resident - facts.allocated > 10 << 20
    {
        format!(
            "The process holds {} bytes for {} bytes of data: memory is fragmented, or was returned a moment ago.\n",
            facts.resident, facts.allocated
        )
    } else if facts.peak > facts.allocated.saturating_mul(3) / 2 {
        format!("The peak of {} bytes is well above the {} bytes of now.\n", facts.peak, facts.allocated)
    } else {
        "Memory looks fine.\n".to_owned()
    };
    c.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

fn malloc_stats(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let facts = c.facts();
    let text = format!(
        "jemalloc: allocated {}, active {}, resident {} bytes\n",
        facts.allocated, facts.active, facts.allocator_resident
    );
    c.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

fn purge(c: &mut Call<'_, '_>) -> Result<(), Error> {
    c.reply.ok();
    Ok(())
}

fn memory_stats(c: &mut Call<'_, '_>) -> Result<(), Error> {
    let facts = c.facts();
    let keys: usize = c.keys.sizes().iter().map(|(keys, _)| keys).sum();
    let used = facts.allocated.max(1);
    let overhead = facts.at_start.min(used);
    let dataset = used - overhead;
    let clients: u64 = c.engine.clients.iter().map(|client| client.unread_bytes()).sum();
    let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
    let ratio = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let numbers = [
        ("peak.allocated", facts.peak),
        ("total.allocated", used),
        ("startup.allocated", facts.at_start),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", clients),
        ("cluster.links", 0),
        ("aof.buffer", 0),
        ("lua.caches", 0),
        ("functions.caches", 0),
        ("overhead.total", overhead),
        ("keys.count", keys as u64),
        ("keys.bytes-per-key", dataset / (keys.max(1) as u64)),
        ("dataset.bytes", dataset),
        ("allocator.allocated", used),
        ("allocator.active", facts.active),
        ("allocator.resident", facts.allocator_resident),
        ("allocator-fragmentation.bytes", facts.active.saturating_sub(used)),
        ("allocator-rss.bytes", facts.allocator_resident.saturating_sub(facts.active)),
        ("rss-overhead.bytes", facts.resident.saturating_sub(facts.allocator_resident)),
        ("fragmentation.bytes", facts.resident.saturating_sub(used)),
    ];
    let ratios = [
        ("dataset.percentage", percent(dataset, used)),
        ("peak.percentage", percent(used, facts.peak)),
        ("allocator-fragmentation.ratio", ratio(facts.active, used)),
        ("allocator-rss.ratio", ratio(facts.allocator_resident, facts.active)),
        ("rss-overhead.ratio", ratio(facts.resident, facts.allocator_resident)),
        ("fragmentation", ratio(facts.resident, used)),
    ];
    c.reply.map(numbers.len() + ratios.len());
    for (name, value) in numbers {
        c.reply.bulk(name.as_bytes());
        c.reply.int(value as i64);
    }
    for (name, value) in ratios {
        c.reply.bulk(name.as_bytes());
        c.reply.double(value);
    }
    Ok(())
}

fn memory_help(c: &mut Call<'_, '_>) -> Result<(), Error> {
    help(
        c,
        &[
            ("DOCTOR", "Says what is wrong with memory."),
            ("MALLOC-STATS", "What the allocator says."),
            ("PURGE", "Accepted: the allocator returns memory by itself."),
            ("STATS", "Where memory goes."),
            (
                "USAGE <key> [SAMPLES <count>]",
                "An estimate of the memory a key takes; 0 samples look at all elements.",
            ),
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::Fixture;

    #[test]
    fn usage_grows_with_the_value() {
        let mut f = Fixture::new();
        let mut usage = |fill: &str| {
            f.run("DEL k");
            f.run(fill);
            f.run("MEMORY USAGE k SAMPLES 0").trim_start_matches(':').trim().parse::<usize>().unwrap()
        };
        assert!(usage("SET k v") < usage("SET k vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"));
        assert!(usage("RPUSH k a") < usage("RPUSH k a b c"));
        assert!(usage("HSET k f v") < usage("HSET k f v g w"));
        assert!(usage("ZADD k 1 a") < usage("ZADD k 1 a 2 b"));
        assert!(usage("SADD k a") < usage("SADD k a b"));
        assert_eq!(f.run("MEMORY USAGE none"), "$-1");
        assert_eq!(f.run("MEMORY USAGE k SAMPLES -1"), "-ERR syntax error");
    }

    #[test]
    fn a_histogram_sums_up() {
        let mut f = Fixture::new();
        let id = f.engine.registry.find(b"get").unwrap().id;
        for us in [1, 3, 3, 900] {
            f.engine.command_stats.ran(0, id, us);
        }
        assert_eq!(
            f.run("LATENCY HISTOGRAM GET"),
            "*2 $3 get *4 $5 calls :4 $14 histogram_usec *6 :1 :1 :4 :3 :1024 :4"
        );
        assert_eq!(f.run("LATENCY HISTOGRAM NOSUCH"), "*0");
    }

    #[test]
    fn spikes_are_shown_and_forgotten() {
        let mut f = Fixture::new();
        assert_eq!(f.run("LATENCY GRAPH command"), "-ERR No samples available for event 'command'");
        f.engine.latency.lock().add("command", 100, 20);
        f.engine.latency.lock().add("command", 101, 10);
        assert_eq!(f.run("LATENCY LATEST"), "*1 *4 $7 command :101 :10 :20");
        assert_eq!(f.run("LATENCY HISTORY command"), "*2 *2 :100 :20 *2 :101 :10");
        assert_eq!(f.run("LATENCY RESET command other"), ":1");
        assert_eq!(f.run("LATENCY LATEST"), "*0");
    }
}
