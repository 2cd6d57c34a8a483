//! Sizes ("64MiB") and durations ("5ms") as the file writes them.
//!
//! A whole number and its unit, nothing between them. What [`format_size`] and [`format_duration`] write is read back equal.

use std::time::Duration;

/// A unit's name and how many of the smallest it is.
type Unit = (&'static str, u64);

const SIZES: &[Unit] = &[
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];
const DURATIONS: &[Unit] = &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];

const SIZES_WRITTEN: &[Unit] = &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const DURATIONS_WRITTEN: &[Unit] = &[("h", 3_600_000), ("min", 60_000), ("s", 1000)];

/// Why a text is not a number with a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It does not begin with a digit.
    #[error("no number")]
    NoNumber,
    /// It is a number alone.
    #[error("no unit")]
    NoUnit,
    /// It has a fraction.
    #[error("not a whole number")]
    NotWhole,
    /// What follows the number is no unit.
    #[error("unknown unit {0:?}")]
    UnknownUnit(String),
    /// More than there can be.
    #[error("too large")]
    TooLarge,
}

/// Bytes: "512B", "64KiB", "8GiB".
///
/// # Errors
/// Whatever is not a whole number with a unit behind it.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, SIZES)
}

/// Milliseconds and longer: "500ms", "30s", "5min", "12h".
///
/// # Errors
/// Whatever is not a whole number with one of these units behind it.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    parse(text, DURATIONS).map(Duration::from_millis)
}

/// In the largest binary unit that leaves no fraction.
pub(super) fn format_size(bytes: u64) -> String {
    format(bytes, SIZES_WRITTEN, "B")
}

/// In the largest unit that leaves no fraction. What is below a millisecond is left out.
pub fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATIONS_WRITTEN, "ms")
}

fn parse(text: &str, units: &[Unit]) -> Result<u64, UnitError> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NoNumber);
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    if unit.starts_with(['.', ',']) {
        return Err(UnitError::NotWhole);
    }
    let (_, factor) =
        units.iter().find(|(name, _)| *name == unit).ok_or_else(|| UnitError::UnknownUnit(unit.to_owned()))?;
    // All digits, so the only way to fail is to be too large.
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
    number.checked_mul(*factor).ok_or(UnitError::TooLarge)
}

fn format(number: u64, units: &[Unit], smallest: &str) -> String {
    match units.iter().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => format!("{number}{smallest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_size_that_was_written_is_read_back_equal(bytes in prop_oneof![any::<u64>(), (0u64..1 << 14).prop_map(|n| n << 20)]) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn a_duration_that_was_written_is_read_back_equal(ms in prop_oneof![any::<u64>(), (0u64..10_000).prop_map(|n| n * 60_000)]) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
            let _ = (parse_size(&text), parse_duration(&text));
        }

        #[test]
        fn a_number_with_any_unit_is_that_many(number in 0u64..1_000_000, unit in prop::sample::select(SIZES)) {
            let (name, factor) = unit;
            prop_assert_eq!(parse_size(&format!("{number}{name}")), Ok(number * factor));
        }
    }

    #[test]
    fn decimal_and_binary_units_differ() {
        assert_eq!(parse_size("1MB"), Ok(1_000_000));
        assert_eq!(parse_size("1MiB"), Ok(1_048_576));
        assert_eq!(parse_size("1kB"), parse_size("1KB"));
    }

    #[test]
    fn the_largest_unit_without_a_fraction_is_written() {
        assert_eq!(format_size(0), "0B");
        assert_eq!(format_size(1536), "1536B");
        assert_eq!(format_size(256 << 20), "256MiB");
        assert_eq!(format_duration(Duration::ZERO), "0ms");
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_duration(Duration::from_secs(86_400)), "24h");
    }

    #[test]
    fn what_is_not_a_number_with_a_unit_is_refused_by_its_cause() {
        for (text, error) in [
            ("", UnitError::NoNumber),
            ("ms", UnitError::NoNumber),
            ("-5ms", UnitError::NoNumber),
            ("5", UnitError::NoUnit),
            ("1.5s", UnitError::NotWhole),
            ("5 ms", UnitError::UnknownUnit(" ms".to_owned())),
            ("5m", UnitError::UnknownUnit("m".to_owned())),
            ("5MS", UnitError::UnknownUnit("MS".to_owned())),
            ("99999999999999999999ms", UnitError::TooLarge),
            ("18446744073709551615h", UnitError::TooLarge),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
    }
}
