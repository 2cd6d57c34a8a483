//! What to say to a key that does not exist: where it belongs, which was meant, or when it comes.

use super::keys;

/// Longer keys are no misspelling of ours, and cost time to compare.
const KEY_MAX: usize = 64;

/// How messages call a listener of that type, which has fewer keys than `[[listeners]]` may have.
pub(super) const DATAGRAM_LISTENER: &str = "a datagram listener";

/// What later versions have. Sections and keys alike.
const LATER: &[&str] =
    &["security_protocol", "sasl_mechanism", "sasl_jaas_config", "ssl_truststore_location", "ssl_keystore_location"];

/// Keys of Kafka's producer that forebay does not have, and why.
const KAFKAS: &[(&str, &str)] = &[
    (
        "acks",
        "forebay always has the cluster replicate (acks=all); a client says in its request when it wants an answer",
    ),
    ("enable_idempotence", "forebay is always idempotent: leave it out"),
    ("retries", "forebay sends again until the cluster has answered: leave it out"),
    ("buffer_memory", "write limit in [memory]"),
    ("partitioner_class", "forebay chooses partitions as Kafka's default partitioner does: leave it out"),
    ("key_serializer", "forebay passes keys on as bytes: leave it out"),
    ("value_serializer", "forebay passes values on as bytes: leave it out"),
];

/// Message and help for the unknown `key` in the section called `title`, which has the keys `here`.
pub(super) fn unknown_key(title: &str, key: &str, here: &[&str]) -> (String, String) {
    let mut message = format!("unknown key {key:?} in {title}");
    let wanted = normalize(key);
    if LATER.contains(&&*wanted) {
        message = format!("this version of forebay does not have {wanted:?} yet");
        return (message, "leave it out".to_owned());
    }
    if let Some((_, why)) = KAFKAS.iter().find(|(name, _)| *name == wanted) {
        return (message, (*why).to_owned());
    }
    // A listener has these unless systemd makes its socket.
    if matches!(&*wanted, "mode" | "group") && here.contains(&"systemd_socket") {
        let help = "leave it out: SocketMode= and SocketGroup= in the socket unit say who may use the socket";
        return (format!("{wanted:?} does not go with \"systemd_socket\""), help.to_owned());
    }
    let elsewhere = keys::names();
    let help = if let Some(name) = here.iter().find(|name| **name == wanted) {
        format!("did you mean {name:?}?")
    } else if let Some(found) = elsewhere.iter().find(|found| found.key == wanted) {
        if title == DATAGRAM_LISTENER && found.section == "listeners" {
            return (message, format!("only stream listeners have {wanted:?}: leave it out"));
        }
        format!("{wanted:?} belongs in {}", sections(&wanted, found.section))
    } else if let Some(name) = nearest(&wanted, here) {
        format!("did you mean {name:?}?")
    } else if let Some(name) = nearest(&wanted, &elsewhere.iter().map(|found| found.key).collect::<Vec<_>>()) {
        let section = elsewhere.iter().find(|found| found.key == name).map_or("", |found| found.section);
        format!("did you mean {name:?}? It belongs in {}", sections(name, section))
    } else {
        format!("there are: {}", here.join(", "))
    };
    (message, help)
}

/// Message and help for the unknown `name` where sections stand. `is_table`: it was written as one.
pub(super) fn unknown_section(name: &str, is_table: bool, sections: &[&str]) -> (String, String) {
    if !is_table {
        let (_, help) = unknown_key("", name, &[]);
        let message = format!("{name:?} stands in no section");
        return match help.strip_prefix("there are: ") {
            Some(_) => (message, format!("write it under one of {}", headers(sections))),
            None => (message, help),
        };
    }
    if LATER.contains(&name) {
        return (format!("this version of forebay does not have [{name}] yet"), "leave the section out".to_owned());
    }
    let help = match nearest(&normalize(name), sections) {
        Some(near) => format!("did you mean {}?", header(near)),
        None => format!("there are: {}", headers(sections)),
    };
    (format!("unknown section [{name}]"), help)
}

/// How the file writes the section `name`.
pub(super) fn header(name: &str) -> String {
    match name {
        "listeners" => "[[listeners]]".to_owned(),
        "topics" => "[topics.\"NAME\"]".to_owned(),
        _ => format!("[{name}]"),
    }
}

fn headers(names: &[&str]) -> String {
    names.iter().map(|name| header(name)).collect::<Vec<_>>().join(", ")
}

/// Where `key` may stand; `first` is where it was found first.
fn sections(key: &str, first: &'static str) -> String {
    let mut places: Vec<_> =
        keys::names().iter().filter(|found| found.key == key).map(|found| header(found.section)).collect();
    if first == "producer" {
        places.push(header("topics"));
    }
    places.join(" or ")
}

/// As forebay would write the key of somebody who thinks of Kafka: `linger.ms` is `linger`.
fn normalize(key: &str) -> String {
    let key = key.to_lowercase().replace(['-', '.'], "_");
    let suffix = ["_ms", "_bytes", "_seconds"].iter().find_map(|suffix| key.strip_suffix(suffix));
    suffix.unwrap_or(&key).to_owned()
}

/// The name that needs the fewest changes, if they are few: a third of the key's characters.
fn nearest<'a>(key: &str, names: &[&'a str]) -> Option<&'a str> {
    if key.len() > KEY_MAX {
        return None;
    }
    let near = names.iter().map(|name| (distance(key, name), *name)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, _)| *distance <= (key.chars().count() / 3).max(1)).map(|(_, name)| name)
}

/// How many characters must be put in, taken out, replaced or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut cost = (at(&row, j + 1) + 1).min(at(&next, j) + 1).min(at(&row, j) + usize::from(ca != *cb));
            if let Some(k) = j.checked_sub(1).filter(|k| last_a == Some(*cb) && b.get(*k) == Some(&ca)) {
                cost = cost.min(at(&before, k) + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
        last_a = Some(ca);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distance_counts_changes() {
        for (a, b, changes) in
            [("", "", 0), ("", "abc", 3), ("linger", "lingr", 1), ("linger", "lignre", 2), ("mode", "node", 1)]
        {
            assert_eq!(distance(a, b), changes, "{a} {b}");
            assert_eq!(distance(b, a), changes, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn distance_is_zero_for_equals_alone_and_never_more_than_the_longer(a in "[a-c]{0,8}", b in "[a-c]{0,8}") {
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
        }
    }

    #[test]
    fn what_comes_later_or_is_not_needed_is_no_key_of_this_version() {
        let names = keys::names();
        for word in LATER.iter().copied().chain(KAFKAS.iter().map(|(word, _)| *word)) {
            assert!(names.iter().all(|name| name.key != word && name.section != word), "{word}");
        }
    }
}
