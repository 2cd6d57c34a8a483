use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> TopicPattern {
    text.parse().unwrap()
}

/// Rules that can be told apart.
fn rules(linger_ms: u64) -> TopicRules {
    TopicRules { linger: Duration::from_millis(linger_ms), ..TopicRules::default() }
}

fn topics(patterns: &[&str]) -> Result<Topics, PatternOverlap> {
    let mut topics = Topics::default();
    for (n, text) in patterns.iter().enumerate() {
        topics.insert(pattern(text), rules(n as u64))?;
    }
    Ok(topics)
}

/// What a glob means, written as short as can be and too slow to use.
fn matches_by_definition(pattern: &[u8], topic: &[u8]) -> bool {
    match (pattern.split_first(), topic.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => matches_by_definition(rest, topic),
        (Some((b'*', rest)), Some((_, tail))) => {
            matches_by_definition(rest, topic) || matches_by_definition(pattern, tail)
        }
        (Some((b'?', rest)), Some((_, tail))) => matches_by_definition(rest, tail),
        (Some((a, rest)), Some((b, tail))) => a == b && matches_by_definition(rest, tail),
        _ => false,
    }
}

/// Every text of `a` and `b` up to this length.
fn short_texts(length: usize) -> Vec<String> {
    let mut texts = vec![String::new()];
    for at in 0..texts_below(length) {
        let longer = ["a", "b"].map(|c| format!("{}{c}", texts[at]));
        texts.extend(longer);
    }
    texts
}

fn texts_below(length: usize) -> usize {
    (1 << length) - 1
}

proptest! {
    #[test]
    fn a_glob_matches_what_its_definition_matches(glob in "[ab*?]{1,8}", topic in "[ab]{0,10}") {
        let expected = matches_by_definition(glob.as_bytes(), topic.as_bytes());
        prop_assert_eq!(pattern(&glob).matches(&topic), expected);
    }

    #[test]
    fn globs_overlap_when_and_only_when_a_text_matches_both(first in "[ab*?]{1,4}", second in "[ab*?]{1,4}") {
        let (first, second) = (pattern(&first), pattern(&second));
        // A text that both match needs no more characters than the two patterns have together.
        let shared = short_texts(8).iter().any(|text| first.matches(text) && second.matches(text));
        prop_assert_eq!(first.overlaps(&second), shared);
        prop_assert_eq!(second.overlaps(&first), shared);
    }

    #[test]
    fn the_order_of_the_patterns_changes_nothing(
        patterns in prop::collection::btree_set("[ab*?]{1,4}", 1..6).prop_map(|set| set.into_iter().collect::<Vec<_>>()),
        seed in any::<prop::sample::Index>(), topic in "[ab]{1,6}",
    ) {
        let insert = |order: &[(usize, &String)]| {
            let mut topics = Topics::default();
            order.iter().try_for_each(|(n, text)| topics.insert(pattern(text), rules(*n as u64))).map(|()| topics)
        };
        let mut order: Vec<_> = patterns.iter().enumerate().collect();
        let there = insert(&order);
        order.rotate_left(seed.index(patterns.len()));
        let back = insert(&order);
        prop_assert_eq!(there.is_ok(), back.is_ok());
        if let (Ok(there), Ok(back)) = (there, back) {
            prop_assert_eq!(&there, &back);
            let found = there.find(&topic);
            // The one that is found has the most literal characters of all that match.
            let most = patterns.iter().enumerate()
                .filter(|(_, text)| pattern(text).matches(&topic))
                .max_by_key(|(_, text)| (!pattern(text).is_glob(), pattern(text).literals()));
            prop_assert_eq!(found, most.map(|(n, _)| rules(n as u64)));
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_refused(text in "\\PC{0,300}") {
        if let Ok(pattern) = text.parse::<TopicPattern>() {
            prop_assert!(!text.is_empty() && text.len() <= TOPIC_NAME_MAX);
            prop_assert_eq!(pattern.to_string(), text);
        }
    }
}

#[test]
fn an_exact_name_wins_over_every_glob_and_a_longer_glob_over_a_shorter() {
    let topics = topics(&["*", "audit-*", "audit-l*", "audit-login"]).unwrap();
    for (topic, expected) in [("web", 0), ("audit-", 1), ("audit-shell", 1), ("audit-logout", 2), ("audit-login", 3)] {
        assert_eq!(topics.find(topic), Some(rules(expected)), "{topic}");
    }
}

#[test]
fn a_topic_that_nothing_matches_has_no_rules_here() {
    assert_eq!(topics(&["audit-*", "web"]).unwrap().find("audit"), None);
}

#[test]
fn globs_that_are_equally_specific_and_never_meet_live_together() {
    assert!(topics(&["audit-*", "login-*", "?bcdef"]).is_ok());
}

#[test]
fn the_same_name_or_glob_twice_is_refused() {
    assert!(topics(&["a", "a"]).is_err());
    assert!(topics(&["a*", "a*"]).is_err());
    assert!(topics(&["a*", "a**"]).is_err());
}

#[test]
fn matching_a_hostile_glob_takes_no_time() {
    let glob = pattern(&format!("{}b", "a*".repeat(120)));
    assert!(!glob.matches(&"a".repeat(249)));
    assert!(glob.overlaps(&glob));
}

#[test]
fn what_no_topic_can_be_called_is_refused() {
    for (text, error) in [
        ("", InvalidPattern::Empty),
        (".", InvalidPattern::Reserved(".")),
        ("..", InvalidPattern::Reserved("..")),
        ("a b", InvalidPattern::Character(' ')),
        ("[ab]", InvalidPattern::Character('[')),
        ("ü", InvalidPattern::Character('ü')),
    ] {
        assert_eq!(text.parse::<TopicPattern>(), Err(error));
    }
    assert_eq!("a".repeat(250).parse::<TopicPattern>(), Err(InvalidPattern::TooLong(250)));
    assert!("a".repeat(249).parse::<TopicPattern>().is_ok());
}
