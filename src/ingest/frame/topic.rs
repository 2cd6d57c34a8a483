//! Which names a topic may have.

/// The longest name, in bytes: Kafka makes directories of names, with a partition's number behind (`Topic.java`).
const MAX_BYTES: usize = 249;

/// A name that Kafka allows: 1 to 249 of `a`–`z`, `A`–`Z`, `0`–`9`, `.`, `_` and `-`, and neither `.` nor `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName<'a>(&'a [u8]);

impl<'a> TopicName<'a> {
    /// `None` if Kafka does not allow the name.
    #[inline]
    pub fn new(name: &'a [u8]) -> Option<Self> {
        let sound = name.iter().fold(true, |sound, byte| sound & ALLOWED[usize::from(*byte)]);
        let fits = !name.is_empty() && name.len() <= MAX_BYTES;
        (fits && sound && name != b"." && name != b"..").then_some(TopicName(name))
    }

    /// The name's bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The name as text.
    pub fn as_str(&self) -> &'a str {
        str::from_utf8(self.0).expect("every byte that a name may have is ASCII")
    }
}

/// By byte. A load for each byte is cheaper than five comparisons.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        allowed[byte] = c.is_ascii_alphanumeric() || c == b'.' || c == b'_' || c == b'-';
        byte += 1;
    }
    allowed
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_the_names_that_kafka_allows_and_no_others() {
        for name in ["a", "audit-log_2.v1", "...", "-", &"x".repeat(249)] {
            assert_eq!(TopicName::new(name.as_bytes()).unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "a b", "a/b", "naïve", "a\0", "a:b", &"x".repeat(250)] {
            assert_eq!(TopicName::new(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(TopicName::new(&[0xff]), None);
    }
}
