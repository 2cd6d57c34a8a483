//! What a dead letter says beside its records: why Kafka did not take them. Pure.
//!
//! It stands in the tagged section of the run that holds the records; where those come from is the partition's name.

use super::log::entry::{tagged_section, tags};
use super::log::varint::{Input, put_zigzag};

/// The tag of a refusal. Tags from 16 on are the owner's of a log.
const TAG_REFUSAL: u64 = 16;

const FLAG_MAY_BE_DELIVERED: u8 = 1;

/// Bytes of words that are kept: brokers say what they like.
const WORDS_BYTES_MAX: usize = 4096;

/// The directory of the dead letters, in that of the backlog.
pub const DIRECTORY: &str = "dead-letters";

/// Reason of a Dropped: an operator has thrown the records away.
pub const REASON_DROPPED: u32 = 16;
/// Reason of a Dropped: an operator has had the records sent again.
pub const REASON_REPLAYED: u32 = 17;

/// Why Kafka did not take records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's error code.
    pub code: i16,
    /// An earlier attempt may have delivered them all the same.
    pub may_be_delivered: bool,
    /// The broker's words, or ours.
    pub words: String,
}

impl Refusal {
    /// As a tagged section.
    pub fn to_tags(&self) -> Vec<u8> {
        let mut value = Vec::new();
        put_zigzag(&mut value, self.code.into());
        value.push(if self.may_be_delivered { FLAG_MAY_BE_DELIVERED } else { 0 });
        value.extend_from_slice(&self.words.as_bytes()[..self.words.floor_char_boundary(WORDS_BYTES_MAX)]);
        tagged_section(&[(TAG_REFUSAL, value)])
    }

    /// What a valid tagged section says of it; `None` when it says nothing, or nothing that this version knows.
    pub fn of_tags(section: &[u8]) -> Option<Refusal> {
        let (_, value) = tags(section).find(|(tag, _)| *tag == TAG_REFUSAL)?;
        let mut input = Input::new(value);
        let code = i16::try_from(input.zigzag("code").ok()?).ok()?;
        let flags = input.u8("flags").ok()?;
        let words = String::from_utf8_lossy(input.rest()).into_owned();
        Some(Refusal { code, may_be_delivered: flags & FLAG_MAY_BE_DELIVERED != 0, words })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backlog::log::entry::{NO_TAGS, Origin, is_tagged_section, tag_origins};

    proptest! {
        #[test]
        fn a_refusal_comes_back(code in any::<i16>(), may_be_delivered in any::<bool>(), words in ".{0,100}") {
            let refusal = Refusal { code, may_be_delivered, words };
            let section = refusal.to_tags();
            prop_assert!(is_tagged_section(&section));
            prop_assert_eq!(Refusal::of_tags(&section), Some(refusal));
        }

        #[test]
        fn any_bytes_are_a_refusal_or_none(section in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Refusal::of_tags(&section);
        }
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let refusal = Refusal { code: 10, may_be_delivered: false, words: "ü".repeat(3000) };
        let words = Refusal::of_tags(&refusal.to_tags()).map(|refusal| refusal.words).unwrap();
        assert_eq!(words, "ü".repeat(WORDS_BYTES_MAX / 2));
    }

    #[test]
    fn what_says_nothing_of_a_refusal_is_none() {
        assert_eq!(Refusal::of_tags(NO_TAGS), None);
        assert_eq!(Refusal::of_tags(&tag_origins(&[Origin { name: b"a", up_to: 1 }])), None);
    }
}
