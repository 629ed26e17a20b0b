//! The house rules that a machine can check: what the crate's front page says of its structure, and what a reviewer would
//! have to look for in every file.
//!
//! A rule takes a path and a text and names the line that breaks it, so that each can be shown to see a breach. Unused
//! code, `unwrap` and `unsafe` are the lints' (`Cargo.toml`, `clippy.toml`).

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::fs;
use std::path::Path;

/// Past it a file has a second noun.
const LINES_MAX: usize = 1000;

/// Who may name whom: a module, and those below it. The front page draws the same.
const ARROWS: &[(&str, &[&str])] = &[
    ("server", &["command", "engine", "journal", "link", "store", "clock", "resp", "number", "config"]),
    ("command", &["engine", "link", "store", "clock", "resp", "number", "config"]),
    ("engine", &["journal", "link", "store", "clock", "resp", "number", "config", "faults"]),
    ("journal", &["link", "clock"]),
    ("link", &["store", "clock", "faults"]),
    ("store", &["clock", "number"]),
    ("resp", &["number"]),
    ("clock", &[]),
    ("number", &[]),
    ("config", &[]),
    ("faults", &[]),
];

/// Words, and the only places where they may stand.
const CONFINED: &[(&str, &[&str])] = &[
    ("tokio::", &["src/server/", "src/bin/"]),
    ("bincode::", &["src/link/codec.rs"]),
    ("Instant::now", &["src/server/", "src/bin/"]),
    ("SystemTime", &["src/server/", "src/bin/"]),
    ("thread::sleep", &["src/bin/"]),
    ("thread::spawn", &["src/server/", "src/bin/"]),
    ("std::fs", &["src/server/", "src/bin/", "src/config/"]),
    ("std::process", &["src/server/", "src/bin/"]),
];

type Rule = fn(&str, &str) -> Option<String>;

/// Every module opens with what it is.
fn has_a_head(_: &str, text: &str) -> Option<String> {
    let head = text.lines().next().unwrap_or_default();
    (!head.starts_with("//! ")).then(|| format!("opens with {head:?}"))
}

fn is_of_readable_length(_: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LINES_MAX).then(|| format!("has {lines} lines"))
}

/// Tests may reach up: they stand at the end, or in files of their own.
fn names_only_what_is_below(path: &str, text: &str) -> Option<String> {
    let module = path.strip_prefix("src/")?.split(['/', '.']).next()?;
    let (_, below) = ARROWS.iter().find(|(name, _)| *name == module)?;
    product(path, text).find_map(|line| {
        let named =
            line.split("crate::").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
        let mut named = named.flatten().filter(|name| ARROWS.iter().any(|(known, _)| known == name));
        named
            .find(|name| *name != module && !below.contains(name))
            .map(|name| format!("names {name}: {line}"))
    })
}

fn keeps_words_where_they_belong(path: &str, text: &str) -> Option<String> {
    let out_of_place = |line: &str| {
        let word = CONFINED.iter().find(|(word, _)| line.contains(word))?;
        (!word.1.iter().any(|place| path.starts_with(place))).then(|| format!("{}: {line}", word.0))
    };
    product(path, text).find_map(out_of_place)
}

/// A test that is left out proves nothing.
fn ignores_no_test(_: &str, text: &str) -> Option<String> {
    text.lines().find(|line| line.trim_start().starts_with("#[ignore")).map(str::to_owned)
}

/// Each dependency says what it is here for.
fn explains_every_dependency(_: &str, text: &str) -> Option<String> {
    let (mut section, mut before) = ("", "");
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains(" = ") && !before.starts_with("# ") {
            return Some(line.to_owned());
        }
        before = line;
    }
    None
}

/// The lines of a file that are neither comments nor tests.
fn product<'t>(path: &str, text: &'t str) -> impl Iterator<Item = &'t str> {
    let is_test = ["/tests.rs", "/testing.rs"].iter().any(|end| path.ends_with(end));
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..if is_test { 0 } else { end }].lines();
    lines.filter(|line| !line.trim_start().starts_with("//"))
}

/// Every file below a folder of the repository whose name ends so, with its text.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !name.ends_with("node_modules") {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// # Panics
/// With every file that breaks the rule.
#[track_caller]
fn check(rule: Rule, files: &[(String, String)]) {
    let broken = files.iter().filter_map(|(path, text)| Some(format!("{path} {}", rule(path, text)?)));
    let broken: Vec<String> = broken.collect();
    assert!(!files.is_empty() && broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_house_is_in_order() {
    let source = files("src", ".rs");
    let all = [source.clone(), files("tests", ".rs"), files("benches", ".rs")].concat();
    check(has_a_head, &all);
    check(is_of_readable_length, &all);
    check(ignores_no_test, &all);
    check(names_only_what_is_below, &source);
    check(keeps_words_where_they_belong, &source);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    check(explains_every_dependency, &[("Cargo.toml".to_owned(), fs::read_to_string(manifest).unwrap())]);
}

#[test]
fn each_rule_sees_a_breach() {
    let long = "x\n".repeat(LINES_MAX + 1);
    let breaches: &[(Rule, &str, &str, &str)] = &[
        (has_a_head, "src/link/mesh.rs", "//! What it is.\n", "use crate::clock;\n"),
        (is_of_readable_length, "src/link/mesh.rs", "x\n", &long),
        (names_only_what_is_below, "src/link/mesh.rs", "use crate::clock::Stamp;", "use crate::engine::Now;"),
        (
            names_only_what_is_below,
            "src/store/entry/mark.rs",
            "// crate::link",
            "    crate::link::frame::length(b)",
        ),
        (names_only_what_is_below, "src/clock.rs", "use std::fmt;", "use crate::store::digest;"),
        (keeps_words_where_they_belong, "src/engine/mod.rs", "let now = now;", "let now = Instant::now();"),
        (keeps_words_where_they_belong, "src/link/frame.rs", "codec::encode(x)", "bincode::encode(x)"),
        (ignores_no_test, "tests/sim/main.rs", "#[test]", "    #[ignore = \"slow\"]"),
        (
            explains_every_dependency,
            "Cargo.toml",
            "[dependencies]\n# Why.\na = \"1\"\n[lints.rust]\nb = \"c\"\n",
            "[dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n",
        ),
    ];
    for (rule, path, good, bad) in breaches {
        assert_eq!(rule(path, good), None, "{good}");
        assert!(rule(path, bad).is_some(), "{path}: {bad}");
    }
    let test = "use crate::clock;\n#[cfg(test)]\nmod tests {\n    use crate::engine::testing::Fixture;\n}\n";
    assert_eq!(names_only_what_is_below("src/link/mesh.rs", test), None, "tests may reach up");
}
