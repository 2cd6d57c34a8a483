//! Which rules a topic has: by its name, or by a glob.
//!
//! The most specific entry wins, whole: an exact name, else the glob with the most literal characters. Two globs with
//! equally many that some topic could both match are refused when the table is made, so the order in the file never matters.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::TopicRules;

/// Kafka's limit for the length of a topic name (`Topic.MAX_NAME_LENGTH`).
const TOPIC_NAME_MAX: usize = 249;

/// The rules by pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    exact: BTreeMap<String, TopicRules>,
    /// The most literal characters first; equally many in the order of their text.
    globs: Vec<(TopicPattern, TopicRules)>,
}

/// A topic's name, or a glob: `*` stands for any characters, also none, and `?` for exactly one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPattern(String);

/// Why a text is no [`TopicPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It has no character.
    #[error("a topic name or glob must not be empty")]
    Empty,
    /// It is longer than any topic's name.
    #[error("a topic name has at most {TOPIC_NAME_MAX} characters, this has {0}")]
    TooLong(usize),
    /// It has a character that no topic name has.
    #[error("{0:?} cannot be in a topic name, only letters, digits, '.', '_' and '-', and here the globs '*' and '?'")]
    Character(char),
    /// Kafka refuses topics of this name.
    #[error("{0:?} cannot be a topic name")]
    Reserved(&'static str),
}

/// Two patterns that are equally specific and may match the same topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{first}\" and \"{second}\" are equally specific and a topic may match both")]
pub struct PatternOverlap {
    /// The pattern that was there.
    pub first: TopicPattern,
    /// The pattern that came.
    pub second: TopicPattern,
}

impl Topics {
    /// Adds the rules of `pattern`. Fails when another pattern is equally specific and may match the same topic.
    pub fn insert(&mut self, pattern: TopicPattern, rules: TopicRules) -> Result<(), PatternOverlap> {
        if !pattern.is_glob() {
            if self.exact.contains_key(&pattern.0) {
                return Err(PatternOverlap { first: pattern.clone(), second: pattern });
            }
            self.exact.insert(pattern.0, rules);
            return Ok(());
        }
        let literals = pattern.literals();
        let rivals = self.globs.iter().filter(|(other, _)| other.literals() == literals);
        if let Some((rival, _)) = rivals.clone().find(|(other, _)| other.overlaps(&pattern)) {
            return Err(PatternOverlap { first: rival.clone(), second: pattern });
        }
        let key = |pattern: &TopicPattern| (std::cmp::Reverse(pattern.literals()), pattern.clone());
        let at = self.globs.partition_point(|(other, _)| key(other) < key(&pattern));
        self.globs.insert(at, (pattern, rules));
        Ok(())
    }

    /// The rules of the most specific pattern that matches `topic`.
    pub fn find(&self, topic: &str) -> Option<TopicRules> {
        let exact = self.exact.get(topic).copied();
        exact.or_else(|| self.globs.iter().find(|(glob, _)| glob.matches(topic)).map(|(_, rules)| *rules))
    }

    /// Every pattern with its rules: names first, then globs, the most specific first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TopicRules)> {
        let exact = self.exact.iter().map(|(name, rules)| (name.as_str(), rules));
        exact.chain(self.globs.iter().map(|(glob, rules)| (glob.0.as_str(), rules)))
    }
}

impl FromStr for TopicPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-*?".contains(c);
        match text {
            "" => Err(InvalidPattern::Empty),
            "." => Err(InvalidPattern::Reserved(".")),
            ".." => Err(InvalidPattern::Reserved("..")),
            _ => match text.chars().find(|c| !legal(*c)) {
                Some(c) => Err(InvalidPattern::Character(c)),
                None if text.len() > TOPIC_NAME_MAX => Err(InvalidPattern::TooLong(text.len())),
                None => Ok(TopicPattern(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TopicPattern {
    /// Whether `topic` is matched.
    pub fn matches(&self, topic: &str) -> bool {
        let (pattern, topic) = (self.0.as_bytes(), topic.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last star stands, and how much of the topic it has taken: if the rest does not fit it takes one more.
        let mut star: Option<(usize, usize)> = None;
        while t < topic.len() {
            match (pattern.get(p), topic.get(t)) {
                (Some(b'*'), _) => {
                    star = Some((p, t));
                    p += 1;
                }
                (Some(b'?'), _) => (p, t) = (p + 1, t + 1),
                (Some(a), Some(b)) if a == b => (p, t) = (p + 1, t + 1),
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        (p, t) = (at + 1, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(p).all(|c| *c == b'*')
    }

    fn is_glob(&self) -> bool {
        self.0.contains(['*', '?'])
    }

    /// How many characters stand for themselves.
    fn literals(&self) -> usize {
        self.0.bytes().filter(|c| !b"*?".contains(c)).count()
    }

    /// Whether some text is matched by both: `reach[j]` says that the part of `self` read so far and the first `j`
    /// characters of `other` can match the same text.
    fn overlaps(&self, other: &TopicPattern) -> bool {
        let other = other.0.as_bytes();
        let mut reach = vec![true];
        reach.extend(other.iter().scan(true, |all, c| {
            *all &= *c == b'*';
            Some(*all)
        }));
        for a in self.0.bytes() {
            let mut next = vec![a == b'*' && reach.first() == Some(&true)];
            for (pair, b) in reach.windows(2).zip(other) {
                let [both, mine] = *pair else { break };
                let theirs = next.last() == Some(&true);
                next.push(match (a, *b) {
                    (b'*', _) | (_, b'*') => mine || theirs,
                    (b'?', _) | (_, b'?') => both,
                    (a, b) => both && a == b,
                });
            }
            reach = next;
        }
        reach.last() == Some(&true)
    }
}

#[cfg(test)]
mod tests;
