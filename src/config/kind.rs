//! What a directive's value may be: its grammar and range.
//!
//! Two texts are read here: the arguments of a configuration line (`maxmemory 10mb`) and one string of CONFIG SET
//! (`"900 1 300 10"`, cut at single blanks). All error texts are Redis 7.0.15's, measured; texts for kinds Redis does
//! not have follow their pattern.

use super::value::{Events, HostPort, OutputLimit, OutputLimits, SavePoint, Value, block};

/// The unit of an integer directive, for documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    None,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
}

/// The grammar and range of a directive's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Flag,
    /// A decimal integer in `min..=max`; outside `floor..=ceiling` it is silently clamped (only `hz` is).
    Integer {
        /// Smallest accepted.
        min: i64,
        /// Largest accepted.
        max: i64,
        /// Smallest and largest kept.
        clamp: (i64, i64),
        /// Its unit.
        unit: Unit,
    },
    /// Bytes with an optional unit b, k, kb, m, mb, g, gb (k is 1000, kb is 1024), in `min..=max`.
    Memory {
        /// Smallest accepted, in bytes.
        min: u64,
        /// Largest accepted, in bytes.
        max: u64,
    },
    /// Memory, or a percentage of `maxmemory` such as `10%`.
    MemoryOrPercent,
    /// File permissions: octal, up to 777.
    Octal,
    /// One of these words, in any case.
    Enum(&'static [&'static str]),
    /// Several of these words; the first stands for "none of the others".
    Flags(&'static [&'static str]),
    /// Any one text.
    Text,
    /// A file name without a directory, and the directive's name for the error.
    FileName(&'static str),
    /// Words, at most so many.
    Words(usize),
    /// Percentiles between 0 and 100.
    Percentiles,
    /// Three scores between -2000 and 2000.
    OomScores,
    /// `class hard soft soft-seconds`, in groups of four.
    OutputLimits,
    /// `seconds changes` pairs; lines add up.
    SavePoints,
    /// Letters of keyspace events.
    Events,
    /// `host port`; lines add up under `multi-master`; `no one` forgets them.
    Partners,
    /// `host:port` words; lines add up.
    Peers,
    /// `command new-name`, an empty name disables; lines add up.
    Renames,
    /// Addresses and CIDR blocks; lines add up.
    Blocks,
    /// Any arguments, kept as they stand; lines add up.
    Lines,
}

impl Kind {
    /// Whether a line or a CONFIG SET value may hold several arguments.
    pub fn several(&self) -> bool {
        match self {
            Kind::Words(_)
            | Kind::Flags(_)
            | Kind::Percentiles
            | Kind::OomScores
            | Kind::OutputLimits
            | Kind::SavePoints
            | Kind::Partners
            | Kind::Peers
            | Kind::Renames
            | Kind::Blocks
            | Kind::Lines => true,
            Kind::Flag
            | Kind::Integer { .. }
            | Kind::Memory { .. }
            | Kind::MemoryOrPercent
            | Kind::Octal
            | Kind::Enum(_)
            | Kind::Text
            | Kind::FileName(_)
            | Kind::Events => false,
        }
    }

    /// Whether several lines of a file add up instead of the last one winning.
    pub fn repeats(&self) -> bool {
        match self {
            Kind::OutputLimits
            | Kind::SavePoints
            | Kind::Partners
            | Kind::Peers
            | Kind::Renames
            | Kind::Blocks
            | Kind::Lines => true,
            Kind::Words(_)
            | Kind::Flags(_)
            | Kind::Percentiles
            | Kind::OomScores
            | Kind::Flag
            | Kind::Integer { .. }
            | Kind::Memory { .. }
            | Kind::MemoryOrPercent
            | Kind::Octal
            | Kind::Enum(_)
            | Kind::Text
            | Kind::FileName(_)
            | Kind::Events => false,
        }
    }

    /// Reads the arguments of one line on top of what earlier lines gave. The error is the reason's text.
    pub(super) fn parse(&self, args: &[String], before: Option<&Value>) -> Result<Value, String> {
        if !self.several() {
            let [one] = args else { return Err("wrong number of arguments".into()) };
            return self.parse_one(one);
        }
        // A single empty argument stands for none: `save ""`, `bind ""`.
        let args: &[String] = if matches!(args, [one] if one.is_empty()) { &[] } else { args };
        match self {
            Kind::Words(max) if args.len() > *max => Err("Too many bind addresses specified.".into()),
            Kind::Words(_) => Ok(Value::Words(args.to_vec())),
            Kind::Flags(words) => flags(args, words),
            Kind::Percentiles => percentiles(args),
            Kind::OomScores => oom_scores(args),
            Kind::OutputLimits => output_limits(args, before),
            Kind::SavePoints => save_points(args, before),
            Kind::Partners => partners(args, before),
            Kind::Peers => peers(args, before),
            Kind::Renames => renames(args, before),
            Kind::Blocks => blocks(args, before),
            Kind::Lines => {
                let mut lines = match before {
                    Some(Value::Lines(lines)) => lines.clone(),
                    _ => Vec::new(),
                };
                if !args.is_empty() {
                    lines.push(args.to_vec());
                }
                Ok(Value::Lines(lines))
            }
            _ => unreachable!("kinds of one argument returned above"),
        }
    }

    /// Reads one string of CONFIG SET, or a default: a fresh value.
    pub(super) fn parse_text(&self, text: &str) -> Result<Value, String> {
        if !self.several() {
            return self.parse_one(text);
        }
        let args: Vec<String> =
            if text.is_empty() { Vec::new() } else { text.split(' ').map(str::to_owned).collect() };
        if matches!(self, Kind::Partners) && !args.is_empty() {
            // `host port host port ...`
            return args
                .chunks(2)
                .try_fold(Value::Partners(Vec::new()), |all, pair| self.parse(pair, Some(&all)));
        }
        self.parse(&args, None)
    }

    fn parse_one(&self, text: &str) -> Result<Value, String> {
        match *self {
            Kind::Flag => match () {
                _ if text.eq_ignore_ascii_case("yes") => Ok(Value::Flag(true)),
                _ if text.eq_ignore_ascii_case("no") => Ok(Value::Flag(false)),
                _ => Err("argument must be 'yes' or 'no'".into()),
            },
            Kind::Integer { min, max, clamp, .. } => {
                let n = integer(text).ok_or("argument couldn't be parsed into an integer")?;
                in_range(n.into(), min.into(), max.into())?;
                Ok(Value::Number(n.clamp(clamp.0, clamp.1).into()))
            }
            Kind::Memory { min, max } => {
                let n = memory(text).ok_or("argument must be a memory value")?;
                in_range(n.into(), min.into(), max.into())?;
                Ok(Value::Number(n.into()))
            }
            Kind::MemoryOrPercent => {
                if let Some(n) = text.strip_suffix('%').and_then(integer).filter(|n| *n >= 0) {
                    let n = u8::try_from(n).ok().filter(|n| *n <= 100);
                    return n
                        .map(Value::Percent)
                        .ok_or("percentage argument must be less or equal to 100".into());
                }
                let n = memory(text).ok_or("argument must be a memory or percent value")?;
                Ok(Value::Number(n.into()))
            }
            Kind::Octal => {
                let n = i64::from_str_radix(text, 8);
                let n = n.map_err(|_| "argument couldn't be parsed as an octal number".to_owned())?;
                if !(0..=0o777).contains(&n) {
                    return Err("argument must be between 0 and 777 inclusive".into());
                }
                Ok(Value::Number(n.into()))
            }
            Kind::Enum(words) => word_of(text, words).map(|w| Value::Text(w.to_owned())),
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::FileName(name) if text.contains('/') => {
                Err(format!("{name} can't be a path, just a filename"))
            }
            Kind::FileName(_) => Ok(Value::Text(text.to_owned())),
            Kind::Events => Events::parse(text)
                .map(Value::Events)
                .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            _ => unreachable!("kinds of several arguments are read by parse"),
        }
    }
}

/// A decimal `i64` as Redis reads it: no plus sign, no leading zeros, no blanks.
pub(super) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let strict = digits.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !digits.starts_with('0'));
    if strict { text.parse().ok() } else { None }
}

fn in_range(n: i128, min: i128, max: i128) -> Result<(), String> {
    if (min..=max).contains(&n) {
        Ok(())
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

/// Bytes with a unit. Too many digits saturate, an empty text is 0 (both as Redis).
fn memory(text: &str) -> Option<u64> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let n = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) };
    Some(n.saturating_mul(factor))
}

fn word_of(text: &str, words: &[&'static str]) -> Result<&'static str, String> {
    let found = words.iter().find(|w| w.eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| format!("argument(s) must be one of the following: {}", words.join(", ")))
}

fn flags(args: &[String], words: &'static [&'static str]) -> Result<Value, String> {
    let given = args.iter().map(|a| word_of(a, words)).collect::<Result<Vec<_>, _>>()?;
    if given.is_empty() {
        return word_of("", words).map(|_| Value::Words(Vec::new()));
    }
    let kept: Vec<String> =
        words.iter().skip(1).filter(|w| given.contains(w)).map(|w| (*w).to_owned()).collect();
    Ok(Value::Words(if kept.is_empty() { vec![words[0].to_owned()] } else { kept }))
}

fn percentiles(args: &[String]) -> Result<Value, String> {
    let one = |arg: &String| {
        let n: f64 =
            arg.parse().map_err(|_| "Invalid latency-tracking-info-percentiles parameters".to_owned())?;
        if (0.0..=100.0).contains(&n) {
            Ok(n.to_string())
        } else {
            Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_owned())
        }
    };
    args.iter().map(one).collect::<Result<Vec<_>, _>>().map(Value::Words)
}

fn oom_scores(args: &[String]) -> Result<Value, String> {
    if args.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    if args.iter().all(|a| integer(a).is_some_and(|n| (-2000..=2000).contains(&n))) {
        Ok(Value::Words(args.to_vec()))
    } else {
        Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".into())
    }
}

fn output_limits(args: &[String], before: Option<&Value>) -> Result<Value, String> {
    let mut limits = match before {
        Some(Value::Limits(limits)) => *limits,
        _ => OutputLimits::default(),
    };
    if !args.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    for group in args.chunks_exact(4) {
        let class = match group[0].to_ascii_lowercase().as_str() {
            "normal" => &mut limits.normal,
            "slave" | "replica" => &mut limits.replica,
            "pubsub" => &mut limits.pubsub,
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        let seconds = group[3].parse::<u64>().ok().filter(|n| *n <= i32::MAX as u64);
        *class = match (memory(&group[1]), memory(&group[2]), seconds) {
            (Some(hard), Some(soft), Some(soft_seconds)) => OutputLimit { hard, soft, soft_seconds },
            _ => {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into()
                );
            }
        };
    }
    Ok(Value::Limits(limits))
}

fn save_points(args: &[String], before: Option<&Value>) -> Result<Value, String> {
    let mut points = match before {
        Some(Value::Saves(points)) if !args.is_empty() => points.clone(),
        _ => Vec::new(),
    };
    if !args.len().is_multiple_of(2) {
        return Err("Invalid save parameters".into());
    }
    for pair in args.chunks_exact(2) {
        match (integer(&pair[0]), integer(&pair[1])) {
            (Some(seconds), Some(changes)) if seconds >= 1 && (0..=i32::MAX.into()).contains(&changes) => {
                points.push(SavePoint { seconds, changes });
            }
            _ => return Err("Invalid save parameters".into()),
        }
    }
    Ok(Value::Saves(points))
}

fn partners(args: &[String], before: Option<&Value>) -> Result<Value, String> {
    let mut list = match before {
        Some(Value::Partners(list)) => list.clone(),
        _ => Vec::new(),
    };
    match args {
        [] => Ok(Value::Partners(Vec::new())),
        [no, one] if no.eq_ignore_ascii_case("no") && one.eq_ignore_ascii_case("one") => {
            Ok(Value::Partners(Vec::new()))
        }
        [host, port] => {
            let port = integer(port).and_then(|n| u16::try_from(n).ok()).ok_or("Invalid master port")?;
            add(&mut list, HostPort { host: host.clone(), port });
            Ok(Value::Partners(list))
        }
        _ => Err("wrong number of arguments".into()),
    }
}

fn peers(args: &[String], before: Option<&Value>) -> Result<Value, String> {
    let mut list = match before {
        Some(Value::Partners(list)) => list.clone(),
        _ => Vec::new(),
    };
    for arg in args {
        add(
            &mut list,
            HostPort::parse(arg).ok_or("argument must be HOST:PORT or [V6]:PORT, port 1 to 65535")?,
        );
    }
    Ok(Value::Partners(list))
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn renames(args: &[String], before: Option<&Value>) -> Result<Value, String> {
    let mut list = match before {
        Some(Value::Lines(list)) => list.clone(),
        _ => Vec::new(),
    };
    match args {
        [] => {}
        [from, _] if !from.is_empty() => list.push(args.to_vec()),
        _ => return Err("Bad directive or wrong number of arguments".into()),
    }
    Ok(Value::Lines(list))
}

fn blocks(args: &[String], before: Option<&Value>) -> Result<Value, String> {
    let mut list = match before {
        Some(Value::Blocks(list)) => list.clone(),
        _ => Vec::new(),
    };
    for arg in args {
        let block = block(arg).ok_or_else(|| format!("'{arg}' is not an IP address or a CIDR block"))?;
        add(&mut list, block);
    }
    Ok(Value::Blocks(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: Kind = Kind::Integer { min: 0, max: 1000, clamp: (1, 500), unit: Unit::None };
    const SIZE: Kind = Kind::Memory { min: 1, max: i64::MAX as u64 };

    #[track_caller]
    fn check(kind: Kind, text: &str, expected: Result<&str, &str>) {
        let got = kind.parse_text(text).map(|v| v.text(&kind));
        assert_eq!(got.as_deref().map_err(String::as_str), expected, "{text:?}");
    }

    #[test]
    fn integers_are_strict() {
        let not = Err("argument couldn't be parsed into an integer");
        for text in ["", " 10", "010", "+10", "1e1", "-0", "-", "99999999999999999999"] {
            check(HZ, text, not);
        }
        check(HZ, "1001", Err("argument must be between 0 and 1000 inclusive"));
        check(HZ, "0", Ok("1"));
        check(HZ, "1000", Ok("500"));
    }

    #[test]
    fn memory_knows_units() {
        check(SIZE, "1k", Ok("1000"));
        check(SIZE, "1Kb", Ok("1024"));
        check(SIZE, "2gb", Ok("2147483648"));
        check(SIZE, "1.5gb", Err("argument must be a memory value"));
        check(SIZE, "-1", Err("argument must be a memory value"));
        check(
            SIZE,
            "99999999999999999999",
            Err("argument must be between 1 and 9223372036854775807 inclusive"),
        );
        check(Kind::MemoryOrPercent, "10%", Ok("10%"));
        check(Kind::MemoryOrPercent, "101%", Err("percentage argument must be less or equal to 100"));
        check(Kind::MemoryOrPercent, "zz", Err("argument must be a memory or percent value"));
    }

    #[test]
    fn events_print_in_redis_order() {
        check(Kind::Events, "KEA", Ok("AKE"));
        check(Kind::Events, "mnEtKdezxg", Ok("gzxetdnKEm"));
        check(Kind::Events, "KEg$lshzxetd", Ok("AKE"));
        check(Kind::Events, "An", Ok("An"));
        check(Kind::Events, "q", Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."));
    }

    #[test]
    fn output_limits_change_only_the_named_classes() {
        check(Kind::OutputLimits, "replica 1mb 2kb 3", Ok("normal 0 0 0 slave 1048576 2048 3 pubsub 0 0 0"));
        check(
            Kind::OutputLimits,
            "normal 1 2",
            Err("Wrong number of arguments in buffer limit configuration."),
        );
        let class = "Invalid client class specified in buffer limit configuration.";
        check(Kind::OutputLimits, "master 1 2 3", Err(class));
        let number = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
        check(Kind::OutputLimits, "normal 1 2 -3", Err(number));
    }

    #[test]
    fn save_points_come_in_pairs() {
        check(Kind::SavePoints, "900 1 300 10", Ok("900 1 300 10"));
        check(Kind::SavePoints, "", Ok(""));
        for text in ["900", "0 1", "900  1", "900 1 \"\"", "a b"] {
            check(Kind::SavePoints, text, Err("Invalid save parameters"));
        }
    }

    #[test]
    fn peers_take_bracketed_v6() {
        check(Kind::Peers, "[::1]:7000 node-b:7001 [::1]:7000", Ok("[::1]:7000 node-b:7001"));
        for text in ["::1:7000", "a", "a:0", "a:65536", ":1", "[a]:1", "[::1]"] {
            assert!(Kind::Peers.parse_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn blocks_are_normalised() {
        check(Kind::Blocks, "10.1.2.3/8 ::ffff:192.0.2.1 ::1", Ok("10.0.0.0/8 192.0.2.1 ::1"));
        check(Kind::Blocks, "::ffff:10.0.0.0/104", Ok("10.0.0.0/8"));
        check(Kind::Blocks, "10.0.0.0/33", Err("'10.0.0.0/33' is not an IP address or a CIDR block"));
    }

    #[test]
    fn words_and_flags() {
        const STOP: Kind = Kind::Flags(&["default", "save", "nosave", "now", "force"]);
        check(STOP, "default now", Ok("now"));
        check(STOP, "", Err("argument(s) must be one of the following: default, save, nosave, now, force"));
        check(Kind::Percentiles, "50.10 1e1", Ok("50.1 10"));
        check(
            Kind::Percentiles,
            "nan",
            Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"),
        );
        check(Kind::OomScores, "0 200", Err("wrong number of arguments"));
        check(Kind::Octal, "1777", Err("argument must be between 0 and 777 inclusive"));
        check(Kind::Octal, "755", Ok("755"));
    }
}
