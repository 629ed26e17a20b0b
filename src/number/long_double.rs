//! The x87 80-bit extended float, C's `long double` on x86: INCRBYFLOAT and HINCRBYFLOAT compute with it, and
//! the text they reply and store shows its rounding. `0.1 + 0.2` is `0.3` only in 64 bits of precision.
//!
//! Kept as its ten bytes, which are also its form on the wire:
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 8 | significand, little-endian; bit 63 is the integer bit, set in normal numbers |
//! | 8 | 2 | little-endian; bit 15 the sign, bits 0-14 the exponent, biased by 16383 |
//!
//! `1.5` is `00 00 00 00 00 00 00 c0 ff 3f`.
//!
//! Sums, decimal input and narrowing are rounded by `rustc_apfloat`; hexadecimal input by
//! [`number`]. Printing needs no float arithmetic: the significand times 10^17, shifted by the
//! exponent and rounded once, is the number in units of its last printed digit.

use std::cmp::Ordering;

use rustc_apfloat::ieee::{Double, X87DoubleExtended};
use rustc_apfloat::{Float, FloatConvert};

use super::{self as number, Hex};

const PRECISION: u32 = 64;
const BIAS: i64 = 16_383;
/// The exponent field of infinities and NaN.
const NOT_FINITE: u16 = 0x7fff;
/// Power of two of a denormal's lowest bit.
const EXPONENT_MIN: i64 = 1 - BIAS - 63;
/// Longer texts are refused, as Redis does, which copies them into a buffer of this size with a NUL.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;
/// Printed digits behind the point, trailing zeros included.
const FRACTION_DIGITS: usize = 17;

/// An 80-bit extended float. Equality is of bits: zeros of either sign differ, and NaN equals itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LongDouble {
    bytes: [u8; 10],
}

impl LongDouble {
    /// Positive zero.
    pub const ZERO: Self = Self { bytes: [0; 10] };

    /// The number nearest to that in `text`, as `strtold` reads it: decimal, hexadecimal, `inf` or
    /// `infinity`. Refuses NaN, white space, more than 5119 bytes, and what is not infinite or zero but would
    /// become so.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        // Rust's floats have the grammar of C's decimals, infinities and NaN.
        let text = std::str::from_utf8(text).ok()?;
        match text.parse::<f64>() {
            Err(_) => Self::from_hex(text.as_bytes()),
            Ok(near) if near.is_nan() => None,
            Ok(near) if text.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'n')) => {
                Some(Self::from_f64(near))
            }
            Ok(_) => {
                let value = text.parse::<X87DoubleExtended>().ok()?;
                let underflows = value.is_zero() && number::has_nonzero_digit(text.as_bytes());
                (value.is_finite() && !underflows).then(|| Self::from_float(value))
            }
        }
    }

    fn from_hex(text: &[u8]) -> Option<Self> {
        let hex = Hex::parse(text)?;
        let (significand, exponent) = hex.round(PRECISION, EXPONENT_MIN)?;
        Self::from_parts(hex.negative, significand, exponent)
    }

    /// `significand` times two to the `exponent`, of which either is the least it can be; `None` if that is
    /// more than the greatest finite number.
    fn from_parts(negative: bool, significand: u64, exponent: i64) -> Option<Self> {
        let biased = if significand >> 63 == 0 { 0 } else { exponent + 63 + BIAS };
        let field = u16::try_from(biased).ok().filter(|field| *field < NOT_FINITE)?;
        Some(Self::from_fields(significand, field | u16::from(negative) << 15))
    }

    fn from_fields(significand: u64, sign_and_exponent: u16) -> Self {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&significand.to_le_bytes());
        bytes[8..].copy_from_slice(&sign_and_exponent.to_le_bytes());
        Self { bytes }
    }

    /// The same number; every i64 has one.
    pub fn from_i64(value: i64) -> Self {
        let magnitude = value.unsigned_abs();
        if magnitude == 0 {
            return Self::ZERO;
        }
        let shift = magnitude.leading_zeros();
        Self::from_parts(value < 0, magnitude << shift, -i64::from(shift)).expect("far from the limits")
    }

    /// The same number; every f64 has one. NaN stays NaN.
    pub fn from_f64(value: f64) -> Self {
        let double = Double::from_bits(u128::from(value.to_bits()));
        Self::from_float(double.convert(&mut false).value)
    }

    /// The number as an i64, if it is whole and in range.
    pub fn to_i64(self) -> Option<i64> {
        let mut is_exact = false;
        let whole = self.float().to_i128_r(64, rustc_apfloat::Round::TowardZero, &mut is_exact).value;
        if is_exact || self.float().is_zero() { i64::try_from(whole).ok() } else { None }
    }

    /// The nearest f64, which is infinite if the number is too big for one.
    pub fn to_f64(self) -> f64 {
        let double: Double = self.float().convert(&mut false).value;
        let bits = u64::try_from(double.to_bits()).expect("a double has 64 bits");
        f64::from_bits(bits)
    }

    /// The bytes in the table above.
    pub fn to_bytes(self) -> [u8; 10] {
        self.bytes
    }

    /// The number with these bytes. Encodings that no x87 produces become what they are computed with.
    pub fn from_bytes(bytes: [u8; 10]) -> Self {
        Self::from_float(Self { bytes }.float())
    }

    /// Whether this is neither infinite nor NaN.
    pub fn is_finite(self) -> bool {
        self.sign_and_exponent() & NOT_FINITE != NOT_FINITE
    }

    /// Appends the number as INCRBYFLOAT does: in full, never with an exponent, with up to 17 digits behind
    /// the point but no trailing zeros, and without sign if that leaves nothing but zero. At most about 4950
    /// bytes.
    pub fn write(self, out: &mut Vec<u8>) {
        if !self.is_finite() {
            let is_infinite = self.significand() << 1 == 0;
            out.extend_from_slice(match (is_infinite, self.is_negative()) {
                (false, _) => b"nan",
                (true, false) => b"inf",
                (true, true) => b"-inf",
            });
            return;
        }
        let exponent = i64::from(self.sign_and_exponent() & NOT_FINITE).max(1) - BIAS - 63;
        if let Ok(shift @ 1..) = u32::try_from(-exponent) {
            write_fraction(out, self.is_negative(), self.significand(), shift);
        } else {
            if self.is_negative() {
                out.push(b'-');
            }
            let exponent = u32::try_from(exponent).expect("the other case was taken");
            write_whole(out, self.significand(), exponent);
        }
    }

    fn significand(self) -> u64 {
        let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = self.bytes;
        u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7])
    }

    fn sign_and_exponent(self) -> u16 {
        u16::from_le_bytes([self.bytes[8], self.bytes[9]])
    }

    fn is_negative(self) -> bool {
        self.sign_and_exponent() >> 15 == 1
    }

    fn float(self) -> X87DoubleExtended {
        let bits = u128::from(self.sign_and_exponent()) << 64 | u128::from(self.significand());
        X87DoubleExtended::from_bits(bits)
    }

    fn from_float(float: X87DoubleExtended) -> Self {
        let bits = float.to_bits();
        Self::from_fields(bits as u64, (bits >> 64) as u16)
    }
}

impl std::ops::Add for LongDouble {
    type Output = Self;

    /// The sum, rounded to nearest; infinite or NaN if that is what it comes to.
    fn add(self, other: Self) -> Self {
        Self::from_float((self.float() + other.float()).value)
    }
}

impl PartialOrd for LongDouble {
    /// The order of the numbers; NaN has none. Zeros of either sign, equal as numbers, are ordered by sign
    /// so that the order agrees with `Eq`.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let by_sign = || other.is_negative().cmp(&self.is_negative());
        if self == other {
            return Some(Ordering::Equal);
        }
        self.float().partial_cmp(&other.float()).map(|order| order.then_with(by_sign))
    }
}

/// Prints `significand` divided by two to the `shift`.
fn write_fraction(out: &mut Vec<u8>, negative: bool, significand: u64, shift: u32) {
    const UNIT: u128 = 10_u128.pow(FRACTION_DIGITS as u32);
    let units = number::shift_right_rounding(u128::from(significand) * UNIT, shift);
    if negative && units != 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(units / UNIT).as_bytes());
    let mut fraction = units % UNIT;
    if fraction == 0 {
        return;
    }
    let mut digits = [b'0'; FRACTION_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
    out.push(b'.');
    out.extend_from_slice(&digits[..FRACTION_DIGITS - zeros]);
}

/// Prints `significand` times two to the `exponent`, of which the greatest takes 4933 digits.
fn write_whole(out: &mut Vec<u8>, significand: u64, mut exponent: u32) {
    const LIMB_DIGITS: usize = 9;
    const LIMB: u64 = 10_u64.pow(LIMB_DIGITS as u32);
    // Base 10^9, the lowest limb first.
    let mut limbs = vec![significand % LIMB, significand / LIMB % LIMB, significand / LIMB / LIMB];
    while exponent > 0 {
        let step = exponent.min(32);
        let mut carry = 0;
        for limb in &mut limbs {
            let product = (*limb << step) + carry;
            (*limb, carry) = (product % LIMB, product / LIMB);
        }
        while carry > 0 {
            limbs.push(carry % LIMB);
            carry /= LIMB;
        }
        exponent -= step;
    }
    while limbs.len() > 1 && limbs.last() == Some(&0) {
        limbs.pop();
    }
    let mut buffer = itoa::Buffer::new();
    for (i, limb) in limbs.iter().rev().enumerate() {
        let digits = buffer.format(*limb);
        if i > 0 {
            out.extend_from_slice(&b"000000000"[digits.len()..]);
        }
        out.extend_from_slice(digits.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> LongDouble {
        LongDouble::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} was refused"))
    }

    fn print(value: LongDouble) -> String {
        let mut out = Vec::new();
        value.write(&mut out);
        String::from_utf8(out).expect("digits are ASCII")
    }

    /// Checks a sum as INCRBYFLOAT prints it.
    fn check(a: &str, b: &str, sum: &str) {
        assert_eq!(print(parse(a) + parse(b)), sum, "{a} + {b}");
        assert_eq!(print(parse(b) + parse(a)), sum, "{b} + {a}");
    }

    #[test]
    fn sums_round_and_print_as_in_redis() {
        check("0.1", "0.2", "0.3");
        check("10.5", "0.1", "10.6");
        check("5.0e3", "2.0e2", "5200");
        check("0", "1e-10", "0.0000000001");
        check("0", "-1e-30", "0");
        check("-0", "-0", "0");
        check("3", "-3", "0");
        check("9223372036854775807", "1", "9223372036854775808");
        check("18446744073709551616", "1", "18446744073709551616");
        check("1.23456789012345678901", "0", "1.23456789012345679");
        check("0x1p3", "0x.8", "8.5");
        check("0", "1e20", "100000000000000000000");
        check("1e4932", "1e4932", "inf");
        check("inf", "-inf", "nan");
        check("-inf", "1", "-inf");
    }

    #[test]
    fn big_numbers_print_in_full() {
        assert_eq!(print(parse("18446744073709551615")), "18446744073709551615");
        assert_eq!(print(parse("1e27")), format!("1{}", "0".repeat(27)));
        assert_eq!(print(parse("-36893488147419103232")), "-36893488147419103232");
        let greatest = print(parse("1.18973149535723176502e4932"));
        assert_eq!((greatest.len(), &greatest[..21]), (4933, "118973149535723176502"));
    }

    #[test]
    fn what_strtold_refuses_is_refused() {
        let long = "0".repeat(TEXT_LEN_MAX + 1);
        for text in [
            "",
            ".",
            "+",
            "1e",
            "1e+",
            " 1",
            "1 ",
            "nan",
            "-NaN",
            "nan(1)",
            "infi",
            "0x",
            "0x1p",
            "1.2e4932",
            "1e4933",
            "1e-4960",
            "-1e-4960",
            "0x1p16384",
            "0x1p-16446",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "0x1p-99999999999999999999",
            &long,
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(&long[1..]), LongDouble::ZERO);
        assert_eq!(LongDouble::parse(b"\xff"), None);
    }

    #[test]
    fn bytes_are_those_of_the_x87() {
        for (text, bytes) in [
            ("0", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("-0", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]),
            ("1.5", [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0x3f]),
            ("-inf", [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff]),
            ("0x1p-16445", [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("0x1p-16382", [0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0]),
            ("0x1.8p-16446", [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("3.6e-4951", [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("0xffffffffffffffffp16320", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x7f]),
        ] {
            assert_eq!(parse(text).to_bytes(), bytes, "{text}");
            assert_eq!(LongDouble::from_bytes(bytes), parse(text), "{text}");
        }
    }

    #[test]
    fn integers_and_doubles_convert() {
        for n in [0, 1, -1, 12_345, i64::MAX, i64::MIN] {
            assert_eq!(LongDouble::from_i64(n), parse(&n.to_string()));
            assert_eq!(LongDouble::from_i64(n).to_i64(), Some(n));
        }
        for text in ["0.5", "-1.5", "9223372036854775808", "-9223372036854775809", "1e4000", "inf", "1e-4000"]
        {
            assert_eq!(parse(text).to_i64(), None, "{text}");
        }
        assert_eq!(parse("-0").to_i64(), Some(0));
        assert_eq!(parse("1e4000").to_f64(), f64::INFINITY);
        assert_eq!(parse("-1e-4000").to_f64().to_bits(), (-0.0_f64).to_bits());
        assert_eq!(parse("0.1").to_f64(), 0.1);
        assert!(LongDouble::from_f64(f64::NAN).to_f64().is_nan());
        assert_eq!(print(LongDouble::from_f64(0.1)), "0.10000000000000001");
    }

    #[test]
    fn numbers_are_ordered() {
        let ascending = ["-inf", "-1e4000", "-2", "-0", "0", "1e-4950", "1", "1.5", "inf"].map(parse);
        assert!(ascending.is_sorted_by(|a, b| a < b));
        let nan = LongDouble::from_f64(f64::NAN);
        assert_eq!(nan.partial_cmp(&LongDouble::ZERO), None);
    }

    proptest! {
        #[test]
        fn doubles_survive(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let back = LongDouble::from_f64(value).to_f64();
            prop_assert!(back.to_bits() == bits || value.is_nan() && back.is_nan());
        }

        #[test]
        fn any_bytes_settle_at_once(bytes in any::<[u8; 10]>()) {
            let value = LongDouble::from_bytes(bytes);
            prop_assert_eq!(LongDouble::from_bytes(value.to_bytes()), value);
            print(value + LongDouble::from_i64(1));
            value.to_i64();
            value.to_f64();
        }

        #[test]
        fn decimal_and_hexadecimal_agree_on_whole_numbers(value in any::<u64>()) {
            prop_assert_eq!(parse(&value.to_string()), parse(&format!("{value:#x}")));
            prop_assert_eq!(print(parse(&value.to_string())), value.to_string());
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "[-+]?[0-9a-f.]{0,40}[ep]?[-+]?[0-9]{0,25}") {
            if let Some(value) = LongDouble::parse(text.as_bytes()) {
                prop_assert!(value.is_finite());
                print(value);
            }
        }
    }
}
