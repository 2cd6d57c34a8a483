//! The kinds of value that a key can have: how each is read, which are allowed, how it is written.
//!
//! Those that name sockets and servers are in `address`.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeValue;

use super::units::{self, UnitError, format_duration, format_size};

/// A kind of value.
pub(super) trait Kind {
    /// What it is in [`super::Config`].
    type Value;
    /// Reads and checks it.
    fn read(&self, value: &DeValue<'_>) -> Result<Self::Value, Refusal>;
    /// As TOML, such that `read` gives it back.
    fn write(&self, value: &Self::Value) -> String;
    /// Which values there may be, in words for messages and the documentation.
    fn allowed(&self) -> String;
}

/// Why a value is not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) help: String,
    /// Where, when it is only a part of the value.
    pub(super) place: Option<Range<usize>>,
}

/// Refuses the whole value.
pub(super) fn refuse<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), help: help.into(), place: None })
}

/// Refuses a value of another type than `wanted`.
pub(super) fn wrong_type<T>(value: &DeValue<'_>, wanted: &str, help: impl Into<String>) -> Result<T, Refusal> {
    refuse(format!("expected {wanted}, found {}", type_with_article(value)), help)
}

fn type_with_article(value: &DeValue<'_>) -> String {
    let name = value.type_str();
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// The number, if the value is one; inside, `None` when it does not fit, which is out of every range.
pub(super) fn integer(value: &DeValue<'_>) -> Option<Option<i64>> {
    value.as_integer().map(|i| i64::from_str_radix(i.as_str(), i.radix()).ok())
}

/// As a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, value: &DeValue<'_>) -> Result<bool, Refusal> {
        match value.as_bool() {
            Some(flag) => Ok(flag),
            None => wrong_type(value, "true or false", "without quotes: true or false"),
        }
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }

    fn allowed(&self) -> String {
        "true, false".to_owned()
    }
}

/// How many, within these.
pub(super) struct Count(pub(super) RangeInclusive<usize>);

impl Kind for Count {
    type Value = usize;

    fn read(&self, value: &DeValue<'_>) -> Result<usize, Refusal> {
        let Some(number) = integer(value) else {
            return wrong_type(value, "a whole number", format!("allowed: {}", self.allowed()));
        };
        match number.and_then(|n| usize::try_from(n).ok()).filter(|n| self.0.contains(n)) {
            Some(number) => Ok(number),
            None => refuse("out of range", format!("allowed: {}", self.allowed())),
        }
    }

    fn write(&self, value: &usize) -> String {
        value.to_string()
    }

    fn allowed(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }
}

/// Bytes in memory, within these.
pub(super) struct Size(pub(super) RangeInclusive<u64>);

impl Kind for Size {
    type Value = usize;

    fn read(&self, value: &DeValue<'_>) -> Result<usize, Refusal> {
        let bytes = Bytes(self.0.clone()).read(value)?;
        usize::try_from(bytes).or_else(|_| refuse("out of range", format!("allowed: {}", self.allowed())))
    }

    fn write(&self, value: &usize) -> String {
        quoted(&format_size(*value as u64))
    }

    fn allowed(&self) -> String {
        Bytes(self.0.clone()).allowed()
    }
}

/// Bytes on a disk, within these.
pub(super) struct Bytes(pub(super) RangeInclusive<u64>);

impl Kind for Bytes {
    type Value = u64;

    fn read(&self, value: &DeValue<'_>) -> Result<u64, Refusal> {
        let bytes = match (value, integer(value)) {
            (DeValue::String(text), _) => match units::parse_size(text) {
                Ok(bytes) => Some(bytes),
                Err(UnitError::TooLarge) => None,
                Err(error) => {
                    let help = "write a whole number of B, kB, KiB, MB, MiB, GB, GiB, TB or TiB: \"64MiB\"";
                    return refuse(format!("{text:?} is not a size: {error}"), help);
                }
            },
            (_, Some(number)) => number.and_then(|n| u64::try_from(n).ok()),
            _ => return wrong_type(value, "a size", "write \"64MiB\", or a number of bytes"),
        };
        match bytes.filter(|n| self.0.contains(n)) {
            Some(bytes) => Ok(bytes),
            None => refuse("out of range", format!("allowed: {}", self.allowed())),
        }
    }

    fn write(&self, value: &u64) -> String {
        quoted(&format_size(*value))
    }

    fn allowed(&self) -> String {
        format!("{} to {}", format_size(*self.0.start()), format_size(*self.0.end()))
    }
}

/// Bytes a second, within these.
pub(super) struct Rate(pub(super) RangeInclusive<u64>);

impl Kind for Rate {
    type Value = u64;

    fn read(&self, value: &DeValue<'_>) -> Result<u64, Refusal> {
        const HELP: &str = "write a size a second: \"1MiB/s\"";
        let DeValue::String(text) = value else { return wrong_type(value, "a rate in quotes", HELP) };
        let Some(size) = text.strip_suffix("/s") else { return refuse(format!("{text:?} is not a rate"), HELP) };
        match units::parse_size(size) {
            Ok(bytes) if self.0.contains(&bytes) => Ok(bytes),
            Ok(_) | Err(UnitError::TooLarge) => refuse("out of range", format!("allowed: {}", self.allowed())),
            Err(error) => refuse(format!("{text:?} is not a rate: {error}"), HELP),
        }
    }

    fn write(&self, value: &u64) -> String {
        quoted(&format!("{}/s", format_size(*value)))
    }

    fn allowed(&self) -> String {
        format!("{}/s to {}/s", format_size(*self.0.start()), format_size(*self.0.end()))
    }
}

/// How long, within these.
pub(super) struct Time(pub(super) RangeInclusive<Duration>);

impl Kind for Time {
    type Value = Duration;

    fn read(&self, value: &DeValue<'_>) -> Result<Duration, Refusal> {
        const HELP: &str = "write a whole number of ms, s, min or h: \"5ms\", \"30s\"";
        let text = match (value, integer(value)) {
            (DeValue::String(text), _) => text,
            (_, Some(Some(n))) if n >= 0 => {
                return refuse("a duration needs a unit", format!("write \"{n}ms\" or \"{n}s\""));
            }
            _ => return wrong_type(value, "a duration", HELP),
        };
        match units::parse_duration(text) {
            Ok(duration) if self.0.contains(&duration) => Ok(duration),
            Ok(_) | Err(UnitError::TooLarge) => refuse("out of range", format!("allowed: {}", self.allowed())),
            Err(UnitError::UnknownUnit(unit)) if unit == "m" => {
                refuse(format!("{text:?} is not a duration: unknown unit \"m\""), "minutes are \"min\"")
            }
            Err(error) => refuse(format!("{text:?} is not a duration: {error}"), HELP),
        }
    }

    fn write(&self, value: &Duration) -> String {
        quoted(&format_duration(*value))
    }

    fn allowed(&self) -> String {
        format!("{} to {}", format_duration(*self.0.start()), format_duration(*self.0.end()))
    }
}

/// Such a value, or "none".
pub(super) struct OrNone<K>(pub(super) K);

impl<K: Kind> Kind for OrNone<K> {
    type Value = Option<K::Value>;

    fn read(&self, value: &DeValue<'_>) -> Result<Option<K::Value>, Refusal> {
        match value {
            DeValue::String(text) if text == "none" => Ok(None),
            _ => self.0.read(value).map(Some),
        }
    }

    fn write(&self, value: &Option<K::Value>) -> String {
        value.as_ref().map_or_else(|| quoted("none"), |value| self.0.write(value))
    }

    fn allowed(&self) -> String {
        format!("\"none\", {}", self.0.allowed())
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static> {
    /// What there is.
    pub(super) words: &'static [(&'static str, T)],
    /// What later versions have.
    pub(super) later: &'static [&'static str],
}

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Value = T;

    fn read(&self, value: &DeValue<'_>) -> Result<T, Refusal> {
        let allowed = format!("allowed: {}", self.allowed());
        let DeValue::String(text) = value else {
            return wrong_type(value, "a word in quotes", allowed);
        };
        match self.words.iter().find(|(word, _)| word == text) {
            Some((_, choice)) => Ok(*choice),
            None if self.later.contains(&&**text) => {
                refuse(format!("this version of forebay does not have {text:?} yet"), allowed)
            }
            None => refuse(format!("unknown value {text:?}"), allowed),
        }
    }

    fn write(&self, value: &T) -> String {
        let found = self.words.iter().find(|(_, choice)| choice == value);
        quoted(found.map(|(word, _)| *word).expect("every choice has its word"))
    }

    fn allowed(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|(word, _)| quoted(word)).collect();
        words.join(", ")
    }
}

/// A compression level: a number within these, or "default" for the codec's own.
pub(super) struct Level(pub(super) RangeInclusive<i32>);

impl Kind for Level {
    type Value = Option<i32>;

    fn read(&self, value: &DeValue<'_>) -> Result<Option<i32>, Refusal> {
        let allowed = format!("allowed: {}", self.allowed());
        match (value, integer(value)) {
            (DeValue::String(text), _) if text == "default" => Ok(None),
            (_, Some(number)) => match number.and_then(|n| i32::try_from(n).ok()).filter(|n| self.0.contains(n)) {
                Some(level) => Ok(Some(level)),
                None => refuse("out of range", allowed),
            },
            _ => refuse("expected a whole number or \"default\"", allowed),
        }
    }

    fn write(&self, value: &Option<i32>) -> String {
        value.map_or_else(|| quoted("default"), |level| level.to_string())
    }

    fn allowed(&self) -> String {
        format!("\"default\", {} to {}", self.0.start(), self.0.end())
    }
}

/// A name of 1 to this many bytes, without control characters.
pub(super) struct Name {
    pub(super) max: usize,
}

impl Kind for Name {
    type Value = String;

    fn read(&self, value: &DeValue<'_>) -> Result<String, Refusal> {
        let allowed = format!("allowed: {}", self.allowed());
        match value {
            DeValue::String(text) if (1..=self.max).contains(&text.len()) && !text.contains(char::is_control) => {
                Ok(text.to_string())
            }
            DeValue::String(_) => refuse("this cannot be a name here", allowed),
            _ => wrong_type(value, "a name in quotes", allowed),
        }
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn allowed(&self) -> String {
        format!("1 to {} bytes, no control characters", self.max)
    }
}
