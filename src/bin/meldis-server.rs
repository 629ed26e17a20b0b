//! The server's command line.

use std::process::ExitCode;

use meldis::config::{self, Config};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let command_line = config::of_command_line(&args);
    let mut lines = Vec::new();
    if let Some(file) = &command_line.file {
        match config::of_file(file) {
            Ok(read) => lines = read,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    lines.extend(command_line.lines);
    let config = match Config::parse(&lines) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match meldis::server::start::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
