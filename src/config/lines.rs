//! Lines of configuration: from a text, from the command line, and through `include`.
//!
//! Everything becomes a list of [`Line`]s that remember where they stood, so that an error can name the
//! place. The only file access of the configuration is [`follow_includes`]; its depth, the number of lines
//! and the size of a file are bounded.
//!
//! Quoting: an argument may stand in double quotes (with \n \r \t \a \b \" \\ \xHH) or in single quotes
//! (with \'); after a closing quote comes a blank or the end. A `#` begins a comment only at the start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ConfigError;

/// Deepest nesting of `include`.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// Most lines of all files together.
pub const LINES_MAX: usize = 100_000;
/// Largest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// One line and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file's path, or `standard input`, or `the command line`.
    pub file: Arc<str>,
    /// From 1.
    pub number: usize,
    /// Without surrounding blanks.
    pub text: String,
}

impl Line {
    /// Cut into arguments, the directive's name first; `None` for a blank line or a comment.
    pub(super) fn args(&self) -> Result<Option<Vec<String>>, ConfigError> {
        if self.text.is_empty() || self.text.starts_with('#') {
            return Ok(None);
        }
        let args = split_args(&self.text);
        let args = args.ok_or_else(|| ConfigError::at(self, "Unbalanced quotes in configuration line"))?;
        Ok(Some(args).filter(|args| !args.is_empty()))
    }
}

/// The lines of a text; `file` names it in errors.
pub fn of_text(file: &str, text: &str) -> Vec<Line> {
    let file: Arc<str> = file.into();
    let line =
        |(i, text): (usize, &str)| Line { file: file.clone(), number: i + 1, text: text.trim().to_owned() };
    text.lines().enumerate().map(line).collect()
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The configuration file, if the first argument is no option.
    pub file: Option<PathBuf>,
    /// An argument `-`: the caller reads standard input and puts its lines between file and options.
    pub stdin: bool,
    /// The options as lines.
    pub lines: Vec<Line>,
}

/// Reads the arguments after the program's name: `[FILE] [-] [--directive argument...]...`.
///
/// As in Redis, an option takes at least its first argument even if that begins with `--` (a password may),
/// but `--save` followed by an option means `save ""`; `"--port 7000"` may be one argument.
pub fn of_command_line(args: &[String]) -> CommandLine {
    let mut rest = args.iter().map(String::as_str).peekable();
    let is_file = |arg: &&str| *arg != "-" && !arg.starts_with("--");
    let file = rest.next_if(is_file).map(PathBuf::from);
    let stdin = rest.next_if(|arg| *arg == "-").is_some();
    let mut texts: Vec<String> = Vec::new();
    // True right after an option's name: what follows is its argument whatever it looks like.
    let mut awaits_argument = false;
    while let Some(arg) = rest.next() {
        match arg.strip_prefix("--").filter(|name| !awaits_argument && !name.is_empty()) {
            Some(name) => {
                let bare_save =
                    name.eq_ignore_ascii_case("save") && rest.peek().is_none_or(|a| a.starts_with("--"));
                texts.push(if bare_save { "save \"\"".to_owned() } else { name.to_owned() });
                awaits_argument = !bare_save && !name.contains(' ');
            }
            None => {
                match texts.last_mut() {
                    Some(text) => {
                        text.push(' ');
                        text.push_str(&quote_always(arg));
                    }
                    None => texts.push(quote_always(arg)),
                }
                awaits_argument = false;
            }
        }
    }
    CommandLine { file, stdin, lines: of_text("the command line", &texts.join("\n")) }
}

/// The lines of a file, `include` followed.
pub fn of_file(path: &Path) -> Result<Vec<Line>, ConfigError> {
    let file: Arc<str> = path.to_string_lossy().into();
    let text = format!("include {}", quote(&file));
    let mut lines = Vec::new();
    include(&Line { file, number: 0, text }, path, 0, &mut lines)?;
    Ok(lines)
}

/// Replaces each `include PATTERN` by the lines of the files it names.
///
/// # Errors
/// A file that cannot be read (a pattern with `*?[` may match none), or a bound passed.
pub fn follow_includes(lines: Vec<Line>) -> Result<Vec<Line>, ConfigError> {
    let mut out = Vec::new();
    follow(lines, 0, &mut out)?;
    Ok(out)
}

fn follow(lines: Vec<Line>, depth: usize, out: &mut Vec<Line>) -> Result<(), ConfigError> {
    for line in lines {
        let patterns = match line.args()? {
            Some(args) if args[0].eq_ignore_ascii_case("include") && args.len() > 1 => args,
            _ => {
                if out.len() >= LINES_MAX {
                    return Err(ConfigError::at(
                        &line,
                        format!("more than {LINES_MAX} lines of configuration"),
                    ));
                }
                out.push(line);
                continue;
            }
        };
        for pattern in &patterns[1..] {
            for path in
                expand(pattern).map_err(|e| ConfigError::at(&line, format!("can't read '{pattern}': {e}")))?
            {
                include(&line, &path, depth + 1, out)?;
            }
        }
    }
    Ok(())
}

fn include(from: &Line, path: &Path, depth: usize, out: &mut Vec<Line>) -> Result<(), ConfigError> {
    let name = path.to_string_lossy();
    if depth > INCLUDE_DEPTH_MAX {
        return Err(ConfigError::at(
            from,
            format!("include is nested deeper than {INCLUDE_DEPTH_MAX} files"),
        ));
    }
    let read = || {
        if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::other("the file is too large"));
        }
        std::fs::read_to_string(path)
    };
    let text = read().map_err(|e| ConfigError::at(from, format!("can't open config file '{name}': {e}")))?;
    follow(of_text(&name, &text), depth, out)
}

/// The files a pattern names, sorted. Wildcards in any component; a leading dot must be written.
fn expand(pattern: &str) -> std::io::Result<Vec<PathBuf>> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![pattern.into()]);
    }
    let mut found = vec![if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() }];
    for component in pattern.split('/').filter(|c| !c.is_empty()) {
        let mut next = Vec::new();
        for base in &found {
            if !component.contains(['*', '?', '[']) {
                next.push(base.join(component));
                continue;
            }
            let dir = if base.as_os_str().is_empty() { Path::new(".") } else { base };
            let Ok(entries) = std::fs::read_dir(dir) else { continue };
            for entry in entries {
                let name = entry?.file_name();
                let name = name.to_string_lossy();
                if name.starts_with('.') == component.starts_with('.')
                    && wildcard(component.as_bytes(), name.as_bytes())
                {
                    next.push(base.join(name.as_ref()));
                }
            }
        }
        found = next;
    }
    found.retain(|path| path.exists());
    found.sort();
    Ok(found)
}

/// Shell wildcards in one path component: `*`, `?`, `[a-z]`, `[!a]`. Linear in memory, backtracks one star.
fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], name[n]),
            Some(c) if *c == name[n] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(width), _) => {
                p += width;
                n += 1;
            }
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The width of the class at the pattern's start if it holds `c`.
fn class(pattern: &[u8], c: u8) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|b| *b == b']')? + 2;
    let mut body = &pattern[1..end];
    let negated = matches!(body.first(), Some(b'!' | b'^'));
    if negated {
        body = &body[1..];
    }
    let mut held = false;
    while let Some(first) = body.first() {
        let (last, width) = if body.len() >= 3 && body[1] == b'-' { (body[2], 3) } else { (*first, 1) };
        held |= (*first..=last).contains(&c);
        body = &body[width..];
    }
    (held != negated).then_some(end + 1)
}

/// Cuts a line into arguments; `None` when quotes do not close, or the text is no UTF-8 after escapes.
pub(super) fn split_args(line: &str) -> Option<Vec<String>> {
    let bytes = line.as_bytes();
    let mut args = Vec::new();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        if at == bytes.len() {
            return Some(args);
        }
        let mut arg = Vec::new();
        loop {
            match bytes.get(at) {
                None => break,
                Some(b) if b.is_ascii_whitespace() => break,
                Some(quote @ (b'"' | b'\'')) => {
                    at = quoted(bytes, at + 1, *quote, &mut arg)?;
                    // A closing quote ends the argument.
                    if bytes.get(at).is_some_and(|b| !b.is_ascii_whitespace()) {
                        return None;
                    }
                    break;
                }
                Some(b) => {
                    arg.push(*b);
                    at += 1;
                }
            }
        }
        args.push(String::from_utf8(arg).ok()?);
    }
}

/// Reads up to the closing quote; the position after it.
fn quoted(bytes: &[u8], mut at: usize, quote: u8, arg: &mut Vec<u8>) -> Option<usize> {
    loop {
        let (byte, width) = match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'\\', Some(b'\'')) if quote == b'\'' => (b'\'', 2),
            (b'\\', Some(b'x')) if quote == b'"' && hex(bytes, at + 2).is_some() => (hex(bytes, at + 2)?, 4),
            (b'\\', Some(escaped)) if quote == b'"' => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                };
                (byte, 2)
            }
            (b, _) if *b == quote => return Some(at + 1),
            (b, _) => (*b, 1),
        };
        arg.push(byte);
        at += width;
    }
}

fn hex(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let byte = digit(bytes.get(at)?)? * 16 + digit(bytes.get(at + 1)?)?;
    u8::try_from(byte).ok()
}

/// An argument as it must stand in a line: quoted only where needed.
pub(super) fn quote(arg: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '\\' | '#');
    if !arg.is_empty() && arg.chars().all(plain) { arg.to_owned() } else { quote_always(arg) }
}

fn quote_always(arg: &str) -> String {
    format!("\"{}\"", escape(arg))
}

/// The inside of double quotes.
pub(super) fn escape(arg: &str) -> String {
    let mut out = String::with_capacity(arg.len());
    for c in arg.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            // What str::lines and trim would take for a line end stays inside quotes: only ASCII matters.
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&[&str]>) {
        let got = split_args(line);
        assert_eq!(
            got.as_ref().map(|a| a.iter().map(String::as_str).collect::<Vec<_>>()).as_deref(),
            expected
        );
    }

    #[test]
    fn arguments_are_cut_as_redis_cuts_them() {
        check("port 6379", Some(&["port", "6379"]));
        check("save \"\"  # not a comment", Some(&["save", "", "#", "not", "a", "comment"]));
        check(r#"requirepass "a \"b\" \x41\n""#, Some(&["requirepass", "a \"b\" A\n"]));
        check(r"x 'it\'s'", Some(&["x", "it's"]));
        check(r#"port "x"#, None);
        check(r#"logfile ""x"#, None);
        check(r#"x "\xff""#, None);
    }

    #[track_caller]
    fn check_command_line(args: &[&str], file: Option<&str>, stdin: bool, lines: &[&str]) {
        let got = of_command_line(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_eq!(got.file, file.map(PathBuf::from));
        assert_eq!(got.stdin, stdin);
        assert_eq!(got.lines.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn options_take_arguments_up_to_the_next_option() {
        check_command_line(&[], None, false, &[]);
        check_command_line(&["a.conf", "--port", "7000"], Some("a.conf"), false, &["port \"7000\""]);
        check_command_line(
            &["--replicaof", "::1", "6380", "--save", "", "--hz", "5"],
            None,
            false,
            &["replicaof \"::1\" \"6380\"", "save \"\"", "hz \"5\""],
        );
        check_command_line(&["-", "--hz", "5"], None, true, &["hz \"5\""]);
        check_command_line(&["a.conf", "-"], Some("a.conf"), true, &[]);
        check_command_line(&["--save", "--hz", "5"], None, false, &["save \"\"", "hz \"5\""]);
        check_command_line(&["--requirepass", "--a"], None, false, &["requirepass \"--a\""]);
        check_command_line(&["--timeout 5", "--hz", "x"], None, false, &["timeout 5", "hz \"x\""]);
        check_command_line(&["a.conf", "extra"], Some("a.conf"), false, &["\"extra\""]);
    }

    #[test]
    fn wildcards_match_one_component() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("[a-c]?.conf", "b1.conf", true),
            ("[!a]*", "abc", false),
            ("*a*b", "xaxxb", true),
            ("[", "[", false),
        ] {
            assert_eq!(wildcard(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn includes_are_followed_in_place_and_bounded() {
        let dir = std::env::temp_dir().join(format!("meldis-include-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
        let at = dir.display();
        write("b2.conf", "hz 2".into());
        write("b1.conf", "hz 1".into());
        write("main.conf", format!("port 1\ninclude {at}/b*.conf\ninclude {at}/none*.conf\nport 2\n"));
        write("loop.conf", format!("include {at}/loop.conf"));
        let texts =
            |name: &str| of_file(&dir.join(name)).map(|l| l.into_iter().map(|l| l.text).collect::<Vec<_>>());
        assert_eq!(texts("main.conf").unwrap(), ["port 1", "hz 1", "hz 2", "port 2"]);
        assert!(texts("loop.conf").unwrap_err().to_string().contains("nested deeper"));
        assert!(texts("absent.conf").unwrap_err().to_string().contains("can't open config file"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    proptest! {
        #[test]
        fn quoting_round_trips(args in proptest::collection::vec(any::<String>(), 0..4)) {
            let line = args.iter().map(|a| quote(a)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split_args(&line), Some(args));
            prop_assert_eq!(of_text("x", &line).len(), usize::from(!line.is_empty()));
        }
    }
}
