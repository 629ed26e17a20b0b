//! What INFO tells about the process: the engine asks no system, so the shell puts it here, once a
//! second and before it is told.

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
