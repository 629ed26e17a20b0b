//! The tool: `meldis up` runs a local active-active cluster, `meldis check` proves that nodes hold the same, `meldis journal`
//! shows what is written.

mod check;
mod client;
mod directory;
mod journal;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tool of the Meldis server.
#[derive(Parser)]
#[command(name = "meldis", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Runs nodes that all take writes, on this machine, until Ctrl-C.
    Up(up::Up),
    /// Proves from outside that nodes hold the same, while they are in use. Ends with 0 if they do, 1 if not, 2 if that could
    /// not be found out.
    Check(check::Check),
    /// Shows what is written, by all nodes, as Redis commands with stamps and origins.
    Journal(journal::Journal),
}

/// What the shell is told when a command could not do its work.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let (name, result) = match Cli::parse().command {
        Action::Up(up) => ("up", up::run(&up).map(|()| ExitCode::SUCCESS)),
        Action::Check(check) => ("check", check::run(&check)),
        Action::Journal(journal) => ("journal", journal::run(&journal).map(|()| ExitCode::SUCCESS)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("meldis {name}: {error}");
        if name == "check" { ExitCode::from(TROUBLE) } else { ExitCode::FAILURE }
    })
}
