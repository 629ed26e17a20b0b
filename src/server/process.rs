//! What the system says about this process: memory, processor time, limits.

use std::path::Path;

use crate::engine::facts::ProcessFacts;

/// Ticks per second of the processor times in /proc; the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// What stays true for the life of the process.
pub fn at_start(config_file: Option<&Path>, run_id: String, now_ms: u64) -> ProcessFacts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut facts = ProcessFacts {
        started_at_ms: now_ms,
        pid: std::process::id(),
        run_id,
        executable: std::env::current_exe().map(|exe| path(&exe)).unwrap_or_default(),
        config_file: config_file.map(path).unwrap_or_default(),
        os: format!(
            "{} {} {}",
            read("/proc/sys/kernel/ostype"),
            read("/proc/sys/kernel/osrelease"),
            std::env::consts::ARCH
        ),
        system_memory: system_memory(),
        ..ProcessFacts::default()
    };
    refresh(&mut facts);
    facts.at_start = facts.allocated;
    facts
}

fn system_memory() -> u64 {
    kilobytes("/proc/meminfo", "MemTotal:").unwrap_or(0)
}

/// Bytes behind a `name: n kB` line of a file of /proc.
fn kilobytes(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Memory and processor time as of now. What cannot be read keeps its value.
pub fn refresh(facts: &mut ProcessFacts) {
    use tikv_jemalloc_ctl::{epoch, stats};
    // The allocator's numbers are those of the last epoch.
    if epoch::advance().is_ok() {
        let number = |read: Result<usize, _>, held: u64| read.map_or(held, |bytes| bytes as u64);
        facts.allocated = number(stats::allocated::read(), facts.allocated);
        facts.active = number(stats::active::read(), facts.active);
        facts.allocator_resident = number(stats::resident::read(), facts.allocator_resident);
    }
    facts.peak = facts.peak.max(facts.allocated);
    facts.resident = kilobytes("/proc/self/status", "VmRSS:").unwrap_or(facts.resident);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold blanks: fields are counted behind its closing bracket, where the third begins.
    if let Some((_, fields)) = stat.rsplit_once(") ") {
        let mut ticks = fields.split(' ').skip(11).map(|ticks| ticks.parse::<u64>().unwrap_or(0));
        let us = |ticks: Option<u64>| ticks.unwrap_or(0) * (1_000_000 / TICKS_PER_SECOND);
        facts.cpu_user_us = us(ticks.next());
        facts.cpu_system_us = us(ticks.next());
    }
}

/// Has the allocator give freed memory back to the system by a thread of its own, or only as it happens to be called.
///
/// # Errors
/// If the allocator cannot.
pub fn purge_in_background(wanted: bool) -> Result<(), tikv_jemalloc_ctl::Error> {
    tikv_jemalloc_ctl::background_thread::write(wanted)
}

/// Descriptors kept for what is no client: listeners, files, links.
const RESERVED_FILES: u64 = 32;

/// Raises the limit of open files to what so many clients need. Returns how many clients it allows.
pub fn allow_clients(clients: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = clients.saturating_add(RESERVED_FILES);
    let held = getrlimit(Resource::Nofile);
    // No number is no limit.
    if held.current.is_none_or(|current| current >= wanted) {
        return clients;
    }
    let highest = held.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    for (current, maximum) in
        [(wanted, held.maximum.map(|maximum| maximum.max(wanted))), (highest, held.maximum)]
    {
        if setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).is_ok() {
            return (current - RESERVED_FILES.min(current)).min(clients);
        }
    }
    held.current.map_or(clients, |current| current.saturating_sub(RESERVED_FILES).min(clients))
}
