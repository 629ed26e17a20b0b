//! The server's command line.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use meldis::config::{self, Config, ConfigError};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const HELP: &str = "\
Usage: meldis-server [/path/to/meldis.conf] [options] [-]
       meldis-server - (reads the configuration from standard input)
       meldis-server -v or --version
       meldis-server -h or --help

The file is in the grammar of redis.conf and keydb.conf; options are its directives and win over it.

Examples:
       meldis-server
       meldis-server /etc/meldis/meldis.conf --loglevel verbose
       meldis-server --port 7777
       meldis-server --port 7777 --peer 127.0.0.1:8888
       meldis-server --port 7777 --replicaof 127.0.0.1 8888
       echo 'maxclients 100' | meldis-server -
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["-v" | "--version"] => {
            println!(
                "Meldis server v={} redis={} malloc=jemalloc bits={}",
                env!("CARGO_PKG_VERSION"),
                meldis::command::connection::REDIS_VERSION,
                usize::BITS
            );
            return ExitCode::SUCCESS;
        }
        ["-h" | "--help"] => {
            // As redis-server: the usage is what the caller did not know.
            eprint!("{HELP}");
            return ExitCode::FAILURE;
        }
        _ => {}
    }
    let (config, file) = match configuration(&args) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("\n{error}");
            return ExitCode::FAILURE;
        }
    };
    match meldis::server::start::run(config, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration and the file it came from, as an absolute path: the server changes its directory.
fn configuration(args: &[String]) -> Result<(Config, Option<PathBuf>), ConfigError> {
    let command_line = config::of_command_line(args);
    let mut lines = Vec::new();
    if let Some(file) = &command_line.file {
        lines = config::of_file(file)?;
    }
    if command_line.stdin {
        let mut text = String::new();
        // What is no text is no configuration either: nothing of it is taken.
        let _ = std::io::stdin().read_to_string(&mut text);
        lines.extend(config::follow_includes(config::of_text("standard input", &text))?);
    }
    lines.extend(command_line.lines);
    let mut config = Config::parse(&lines)?;
    if let Ok(dir) = std::path::absolute(&config.dir)
        && dir != config.dir
    {
        // The server works in its directory: it is to be known by its whole path.
        let quoted = dir.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
        lines.extend(config::of_text("the command line", &format!("dir \"{quoted}\"")));
        config = Config::parse(&lines)?;
    }
    let file = command_line.file.map(|file| std::path::absolute(&file).unwrap_or(file));
    Ok((config, file))
}
