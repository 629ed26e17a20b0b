//! Numbers as text, by Redis's rules: what it accepts as an integer or a float, and how it prints floats.
//!
//! | text of | accepted | used for |
//! |---|---|---|
//! | i64 | only what printing an i64 gives: no `+`, leading zero or space | INCR, lengths, options |
//! | u64 | decimal digits; leading spaces, one `+` and leading zeros are skipped | parts of stream ids |
//! | f64 | what C's `strtod` takes whole: decimal, hexadecimal, `inf`, `infinity` | scores, timeouts |
//!
//! No float is accepted from a leading space, `nan`, or a text whose value is too big or too small to be
//! told from infinity or zero. 80-bit floats are in [`long_double`].
//!
//! Differs from Redis: u64 refuses negative numbers beyond i64, which `strtoull` would wrap around.

pub mod long_double;

use std::io::Write;

/// The integer `text` is the canonical form of.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    // 19 digits fit a u64 whatever they are.
    let mut magnitude = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// The unsigned integer in `text`: decimal digits, after optional spaces and an optional `+`.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    let spaces = text.iter().take_while(|byte| is_space(**byte)).count();
    let text = &text[spaces..];
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// The double nearest to the number in `text`. Infinite only if `text` says so, never NaN.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    // Rust and C agree on decimals and names; only C has hexadecimals, and they differ at the extremes.
    match std::str::from_utf8(text).ok()?.parse::<f64>() {
        Ok(value) if value.is_nan() => None,
        Ok(value) if value.is_infinite() => is_infinity(text).then_some(value),
        Ok(value) if value == 0.0 => (!has_nonzero_digit(text)).then_some(value),
        Ok(value) => Some(value),
        Err(_) => hex_f64(text),
    }
}

/// Whether `text`, which is some float's, names infinity: a decimal has no `n`.
fn is_infinity(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.eq_ignore_ascii_case(&b'n'))
}

/// Whether the decimal `text` has another digit than zero before its exponent.
pub(super) fn has_nonzero_digit(text: &[u8]) -> bool {
    text.iter().take_while(|byte| !byte.eq_ignore_ascii_case(&b'e')).any(|byte| matches!(byte, b'1'..=b'9'))
}

fn hex_f64(text: &[u8]) -> Option<f64> {
    let hex = Hex::parse(text)?;
    let (mantissa, exponent) = hex.round(f64::MANTISSA_DIGITS, -1074)?;
    let fraction_bits = f64::MANTISSA_DIGITS - 1;
    let bits = if mantissa >> fraction_bits == 0 {
        mantissa
    } else if exponent > 971 {
        return None;
    } else {
        // Adds the mantissa's leading bit to the exponent field, where it makes the 1 of a normal number.
        ((exponent + 1074).cast_unsigned() << fraction_bits) + mantissa
    };
    Some(if hex.negative { -f64::from_bits(bits) } else { f64::from_bits(bits) })
}

/// A hexadecimal float: `mantissa` times two to the `exponent`.
///
/// The lowest bit of a mantissa of more than 120 bits also stands for all that follow: enough for rounding.
pub(super) struct Hex {
    pub(super) negative: bool,
    mantissa: u128,
    exponent: i64,
}

impl Hex {
    /// Reads `[+-]0xH.HHp[+-]D`, with the point and the exponent optional.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, text) = match text {
            [b'-', text @ ..] => (true, text),
            [b'+', text @ ..] | text => (false, text),
        };
        let [b'0', b'x' | b'X', text @ ..] = text else { return None };
        let end = text.iter().position(|byte| matches!(byte, b'p' | b'P')).unwrap_or(text.len());
        let (mut mantissa, mut exponent) = (0_u128, 0_i64);
        let (mut has_point, mut has_digits, mut has_tail) = (false, false, false);
        for &byte in &text[..end] {
            if byte == b'.' && !has_point {
                has_point = true;
                continue;
            }
            if !byte.is_ascii_hexdigit() {
                return None;
            }
            has_digits = true;
            if mantissa >> 120 == 0 {
                mantissa = mantissa << 4 | u128::from(hex_digit(byte));
                exponent -= if has_point { 4 } else { 0 };
            } else {
                has_tail |= byte != b'0';
                exponent += if has_point { 0 } else { 4 };
            }
        }
        if !has_digits {
            return None;
        }
        if let [_, power @ ..] = &text[end..] {
            exponent = exponent.saturating_add(parse_power(power)?);
        }
        Some(Self { negative, mantissa: mantissa | u128::from(has_tail), exponent })
    }

    /// The nearest mantissa of `precision` bits and its exponent, which is at least `exponent_min`; `None` if
    /// that is zero but the number is not.
    pub(super) fn round(&self, precision: u32, exponent_min: i64) -> Option<(u64, i64)> {
        if self.mantissa == 0 {
            return Some((0, exponent_min));
        }
        let bits = i64::from(u128::BITS - self.mantissa.leading_zeros());
        let exponent = self.exponent.saturating_add(bits - i64::from(precision)).max(exponent_min);
        let mantissa = match exponent.saturating_sub(self.exponent) {
            shift @ ..=0 => self.mantissa << -shift,
            shift => shift_right_rounding(self.mantissa, u32::try_from(shift).unwrap_or(u32::MAX)),
        };
        let (mantissa, exponent) =
            if mantissa >> precision == 0 { (mantissa, exponent) } else { (mantissa >> 1, exponent + 1) };
        let mantissa = u64::try_from(mantissa).expect("a mantissa has at most 64 bits of precision");
        (mantissa != 0).then_some((mantissa, exponent))
    }
}

/// A decimal integer with optional sign, clamped to an i64.
fn parse_power(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let power = digits
        .iter()
        .fold(0_i64, |power, digit| power.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(if negative { -power } else { power })
}

/// `value` divided by two to the `shift`, rounded to the nearest integer, ties to even.
pub(super) fn shift_right_rounding(value: u128, shift: u32) -> u128 {
    if shift == 0 || shift > u128::BITS {
        return if shift == 0 { value } else { 0 };
    }
    let quotient = value.checked_shr(shift).unwrap_or(0);
    let remainder = value << (u128::BITS - shift) >> (u128::BITS - shift);
    let half = 1 << (shift - 1);
    quotient + u128::from(remainder > half || remainder == half && quotient & 1 == 1)
}

/// Significant digits of a printed double: enough to tell any two apart.
const DIGITS: usize = 17;

/// Appends `value` as C's `%.17g` does: `3`, `0.10000000000000001`, `1e+17`, `-0`, `inf`.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"nan");
        return;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    if value.is_infinite() {
        out.extend_from_slice(b"inf");
    } else if value < 1e17 && value.trunc() == value {
        out.extend_from_slice(itoa::Buffer::new().format(value as u64).as_bytes());
    } else {
        write_fraction(out, value);
    }
}

/// Prints a positive, finite double that is no small integer.
fn write_fraction(out: &mut Vec<u8>, value: f64) {
    // d.dddddddddddddddde-308
    let mut scientific = [0; 24];
    let mut rest = &mut scientific[..];
    write!(rest, "{value:.16e}").expect("the longest double takes 23 bytes");
    let written = 24 - rest.len();
    let mut digits = [0; DIGITS];
    digits[0] = scientific[0];
    digits[1..].copy_from_slice(&scientific[2..=DIGITS]);
    let exponent = parse_i64(&scientific[DIGITS + 2..written]).expect("printed by Rust");
    let significant = DIGITS - digits.iter().rev().take_while(|digit| **digit == b'0').count();
    match exponent {
        -4..0 => {
            out.extend_from_slice(&b"0.000"[..1 + exponent.unsigned_abs() as usize]);
            out.extend_from_slice(&digits[..significant]);
        }
        0..17 => {
            let whole = exponent as usize + 1;
            out.extend_from_slice(&digits[..whole]);
            write_point_and(out, &digits[whole..significant.max(whole)]);
        }
        _ => {
            out.push(digits[0]);
            write_point_and(out, &digits[1..significant]);
            out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
            let exponent = exponent.unsigned_abs();
            if exponent < 10 {
                out.push(b'0');
            }
            out.extend_from_slice(itoa::Buffer::new().format(exponent).as_bytes());
        }
    }
}

fn write_point_and(out: &mut Vec<u8>, fraction: &[u8]) {
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

/// The value of an ASCII hexadecimal digit.
pub(crate) fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// White space as the C library has it: vertical tab and form feed included.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_i64(text: &str, expected: Option<i64>) {
        assert_eq!(parse_i64(text.as_bytes()), expected, "{text:?}");
    }

    fn check_u64(text: &str, expected: Option<u64>) {
        assert_eq!(parse_u64(text.as_bytes()), expected, "{text:?}");
    }

    /// Checks what a float's text is read as, by what that prints as.
    fn check_f64(text: &str, printed: Option<&str>) {
        let value = parse_f64(text.as_bytes());
        let mut out = Vec::new();
        if let Some(value) = value {
            write_f64(&mut out, value);
        }
        assert_eq!(value.map(|_| String::from_utf8_lossy(&out)), printed.map(Into::into), "{text:?}");
    }

    #[test]
    fn only_canonical_integers_are_accepted() {
        for n in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            check_i64(&n.to_string(), Some(n));
        }
        for text in ["", "-", "+1", "-0", "00", "01", "-01", " 1", "1 ", "1a", "0x1", "1.0", "١"] {
            check_i64(text, None);
        }
        for text in
            ["9223372036854775808", "-9223372036854775809", "9999999999999999999", "10000000000000000000"]
        {
            check_i64(text, None);
        }
    }

    #[test]
    fn unsigned_integers_are_read_as_stream_ids_are() {
        check_u64("18446744073709551615", Some(u64::MAX));
        check_u64("18446744073709551616", None);
        for text in ["7", "007", "+7", " 7", "\t +07"] {
            check_u64(text, Some(7));
        }
        for text in ["", "+", " ", "-7", "-0", "7 ", "++7", "7a"] {
            check_u64(text, None);
        }
    }

    #[test]
    fn floats_are_read_as_strtod_does() {
        for (text, printed) in [
            ("3", "3"),
            ("+5", "5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("007", "7"),
            ("1E5", "100000"),
            ("1e0000000000000000000001", "10"),
            ("0e99999999999999999999", "0"),
            ("-0.0", "-0"),
            ("inf", "inf"),
            ("+Inf", "inf"),
            ("-INFINITY", "-inf"),
            ("5e-324", "4.9406564584124654e-324"),
            ("3e-324", "4.9406564584124654e-324"),
            ("0x10", "16"),
            ("-0X.8", "-0.5"),
            ("0x1.8p-1", "0.75"),
            ("0x1p-1074", "4.9406564584124654e-324"),
            ("0x1.8p-1075", "4.9406564584124654e-324"),
            ("0x1p1023", "8.9884656743115795e+307"),
            ("0x1.fffffffffffff7p1023", "1.7976931348623157e+308"),
            ("0x0p99999999999999999999", "0"),
            ("0x20000000000001", "9007199254740992"),
        ] {
            check_f64(text, Some(printed));
        }
    }

    #[test]
    fn what_is_no_float_is_refused() {
        for text in [
            "",
            ".",
            "+",
            "-",
            "++5",
            " 5",
            "5 ",
            "1_0",
            "1e",
            "1e+",
            "1.5e3.2",
            "e5",
            "nan",
            "-NaN",
            "nan(1)",
            "infi",
            "in",
            "0x",
            "0x.",
            "0xp",
            "0x.p1",
            "0x1p",
            "0x1p+",
            "0x1.2.3",
            "0x1g",
            "0x1p 3",
            "1\0",
            "1e400",
            "-1e400",
            "1e-400",
            "2e-324",
            "0x1p1024",
            "0x1.fffffffffffff8p1023",
            "0x1p-1075",
            "0x1p99999999999999999999",
            "0x1p-99999999999999999999",
        ] {
            check_f64(text, None);
        }
        assert_eq!(parse_f64(b"\xff"), None);
    }

    #[test]
    fn floats_are_printed_with_17_digits() {
        for (value, printed) in [
            (3.0, "3"),
            (-2.5, "-2.5"),
            (0.1, "0.10000000000000001"),
            (-0.0, "-0"),
            (1e16, "10000000000000000"),
            (99_999_999_999_999_984.0, "99999999999999984"),
            (1e17, "1e+17"),
            (123_456_789_012_345_678.0, "1.2345678901234568e+17"),
            (12_345_678_901_234.568, "12345678901234.568"),
            (0.0001, "0.0001"),
            (0.001_5, "0.0015"),
            (1e-5, "1.0000000000000001e-05"),
            // Exact ties: to even.
            (2_f64.powi(-25), "2.9802322387695312e-08"),
            (1e300, "1.0000000000000001e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ] {
            let mut out = Vec::new();
            write_f64(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), printed);
        }
    }

    proptest! {
        #[test]
        fn printed_floats_read_back(value in prop::num::f64::ANY.prop_filter("a number", |value| !value.is_nan())) {
            let mut out = Vec::new();
            write_f64(&mut out, value);
            prop_assert_eq!(parse_f64(&out).map(f64::to_bits), Some(value.to_bits()));
        }

        #[test]
        fn hexadecimals_mean_what_their_parts_mean(mantissa in 1..1_u64 << 53, power in -1000_i32..900) {
            let text = format!("0x{mantissa:x}p{power}");
            prop_assert_eq!(parse_f64(text.as_bytes()), Some(mantissa as f64 * 2_f64.powi(power)));
        }

        #[test]
        fn any_bytes_are_judged_without_panic(text in "[-+ 0-9a-fxp.einfty]{0,30}") {
            let text = text.as_bytes();
            let _ = (parse_u64(text), parse_f64(text).map(|value| assert!(!value.is_nan())));
            prop_assert!(parse_i64(text).is_none_or(|n| n.to_string().as_bytes() == text));
        }
    }
}
