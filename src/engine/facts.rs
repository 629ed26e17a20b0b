//! What INFO tells about the process and the disk: the engine asks no system, so the shell puts it here, the process once a
//! second and before it is told, the disk ten times a second.

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// When the process started, in Unix milliseconds.
    pub started_at_ms: u64,
    /// Its process id.
    pub pid: u32,
    /// 40 random hexadecimal digits, new at every start.
    pub run_id: String,
    /// Path of the binary.
    pub executable: String,
    /// Path of the configuration file; empty without one.
    pub config_file: String,
    /// System, release and machine.
    pub os: String,
    /// Bytes of memory of the machine.
    pub system_memory: u64,
    /// Bytes handed out by the allocator.
    pub allocated: u64,
    /// Bytes in the allocator's active pages.
    pub active: u64,
    /// Bytes the allocator holds of the system.
    pub allocator_resident: u64,
    /// The largest `allocated` seen.
    pub peak: u64,
    /// `allocated` right after the start.
    pub at_start: u64,
    /// Bytes of physical memory.
    pub resident: u64,
    /// Processor time in the system, in microseconds.
    pub cpu_system_us: u64,
    /// Processor time in user mode, in microseconds.
    pub cpu_user_us: u64,
    /// Commands per second of late.
    pub commands_per_second: u64,
    /// Bytes received per second of late.
    pub input_bytes_per_second: u64,
    /// Bytes sent per second of late.
    pub output_bytes_per_second: u64,
    /// Bytes received per second over links of late.
    pub link_input_bytes_per_second: u64,
    /// Bytes sent per second over links of late.
    pub link_output_bytes_per_second: u64,
}

/// What INFO tells about data on disk; the shell keeps it up to date.
#[derive(Clone, Debug, Default)]
pub struct DiskFacts {
    /// There is a journal.
    pub enabled: bool,
    /// It cannot be written.
    pub fails: bool,
    /// A snapshot is being made.
    pub snapshot_running: bool,
    /// Another one is to be made.
    pub snapshot_wanted: bool,
    /// How far it is.
    pub snapshot_percent: u64,
    /// Since how many seconds.
    pub snapshot_s: Option<u64>,
    /// How many seconds the last one took.
    pub last_snapshot_s: Option<u64>,
    /// Snapshots made since the start.
    pub snapshots: u64,
    /// Failures since the last success.
    pub failures_in_a_row: u64,
    /// Bytes of the snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the journals that go on from it.
    pub journal_bytes: u64,
    /// Bytes that could not be written yet.
    pub pending_bytes: u64,
    /// Bytes that were not synced yet.
    pub unsynced_bytes: u64,
}
