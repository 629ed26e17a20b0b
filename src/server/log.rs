//! Log lines as Redis writes them: `PID:M DD Mon YYYY HH:MM:SS.mmm LEVEL message`, times in UTC.
//!
//! A log file is opened for each line, as Redis does: whoever rotates it needs to tell nobody.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogLevel;

/// Changes the least severity at run time.
#[derive(Clone, Debug)]
pub struct Severity(reload::Handle<Targets, Registry>);

impl Severity {
    /// Logs what is at least so severe from now on.
    pub fn set(&self, level: LogLevel) {
        // Fails only if the logger is gone, and with it whoever would read.
        let _ = self.0.reload(targets(level));
    }
}

/// Starts logging to a file, or to standard output.
///
/// # Errors
/// If the file cannot be written.
pub fn start(file: Option<PathBuf>, level: LogLevel) -> io::Result<Severity> {
    let output = Output(file);
    output.open()?;
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines =
        tracing_subscriber::fmt::layer().event_format(Line { pid: std::process::id() }).with_writer(output);
    // A second server in one process keeps the first one's logger.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(Severity(handle))
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
    };
    Targets::new().with_target("meldis", level).with_default(LevelFilter::WARN)
}

#[derive(Clone)]
struct Output(Option<PathBuf>);

enum Sink {
    Stdout(io::Stdout),
    File(File),
    /// The file cannot be opened now: a line is lost, the server goes on.
    Nothing,
}

impl Output {
    fn open(&self) -> io::Result<Sink> {
        match &self.0 {
            None => Ok(Sink::Stdout(io::stdout())),
            Some(path) => File::options().create(true).append(true).open(path).map(Sink::File),
        }
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Sink;

    fn make_writer(&'a self) -> Sink {
        self.open().unwrap_or(Sink::Nothing)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(out) => out.write(bytes),
            Sink::File(file) => file.write(bytes),
            Sink::Nothing => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(out) => out.flush(),
            Sink::File(file) => file.flush(),
            Sink::Nothing => Ok(()),
        }
    }
}

struct Line {
    pid: u32,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, cx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let severity = match *event.metadata().level() {
            Level::TRACE => '.',
            Level::DEBUG => '-',
            Level::INFO => '*',
            Level::WARN | Level::ERROR => '#',
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        write!(out, "{}:M {} {severity} ", self.pid, date(now))?;
        cx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Unix milliseconds as `DD Mon YYYY HH:MM:SS.mmm` in UTC. Reference: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub fn date(unix_ms: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days since 1 March of the year 0, so that the leap day ends a year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    format!(
        "{day:02} {} {year} {:02}:{:02}:{:02}.{:03}",
        MONTHS[month as usize],
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_ms, expected) in [
            (0, "01 Jan 1970 00:00:00.000"),
            (951_782_399_999, "28 Feb 2000 23:59:59.999"),
            (951_782_400_000, "29 Feb 2000 00:00:00.000"),
            (1_735_689_599_123, "31 Dec 2024 23:59:59.123"),
            (4_107_542_400_000, "01 Mar 2100 00:00:00.000"),
        ] {
            assert_eq!(date(unix_ms), expected);
        }
    }
}
