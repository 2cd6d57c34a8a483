//! Checks that concern more than one key. Pure: a [`Config`] in, conflicts out.

use std::path::Path;
use std::time::Duration;

use super::keys::{COMPRESSION_TYPE, STORE};
use super::suggest::header;
use super::units::{format_duration, format_size};
use super::value::{Kind, Level};
use super::{CompressionType, Config, ListenerKind, StorePolicy, TopicRules, Topics};

/// The largest frame of a log: half a segment, of which there are at least eight.
const FRAME_SHARE: u64 = 16;
const FRAME_BYTES_MAX: u64 = 32 << 20;
/// What the log adds to a record.
const RECORD_OVERHEAD_BYTES: u64 = 4096;

/// Two keys whose values do not go together.
#[derive(Debug)]
pub(super) struct Conflict {
    /// Full names of the keys; the first that stands in the file is the one to point at. Defaults do not conflict, so one does.
    pub(super) keys: Vec<String>,
    pub(super) message: String,
    pub(super) help: String,
}

/// Every conflict in `config`.
pub(super) fn conflicts(config: &Config) -> Vec<Conflict> {
    let mut found = Conflicts(Vec::new());
    let kafka = &config.kafka;
    let (backoff, max) = (kafka.reconnect_backoff, kafka.reconnect_backoff_max);
    found.longer(["kafka.reconnect_backoff", "kafka.reconnect_backoff_max"], backoff, max);
    let (backoff, max) = (kafka.retry_backoff, kafka.retry_backoff_max);
    found.longer(["kafka.retry_backoff", "kafka.retry_backoff_max"], backoff, max);
    found.larger("kafka.max_request_size", "memory.limit", kafka.max_request_size, config.memory.limit);
    found.larger("producer.batch_size", "kafka.max_request_size", config.producer.batch_size, kafka.max_request_size);
    // What a topic only inherits has been said of [producer] already.
    for (pattern, rules) in config.topics.iter().filter(|(_, rules)| rules.batch_size != config.producer.batch_size) {
        let key = format!("topics.{pattern}.batch_size");
        found.larger(&key, "kafka.max_request_size", rules.batch_size, kafka.max_request_size);
    }
    found.timeouts(&config.producer, &config.topics);
    found.levels(&config.producer, &config.topics);
    found.listeners(config);
    found.backlog(config);
    let limits = &config.limits;
    if limits.max_unknown_topics > limits.max_topics {
        let (unknown, all) = (limits.max_unknown_topics, limits.max_topics);
        found.add(
            ["limits.max_unknown_topics", "limits.max_topics"],
            format!("\"max_unknown_topics\" of [limits] ({unknown}) is more than \"max_topics\" of [limits] ({all})"),
            "unknown topics count among all: lower the one or raise the other",
        );
    }
    found.0
}

struct Conflicts(Vec<Conflict>);

impl Conflicts {
    fn add(&mut self, keys: [&str; 2], message: String, help: &str) {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.0.push(Conflict { keys, message, help: help.to_owned() });
    }

    fn longer(&mut self, keys: [&str; 2], low: Duration, high: Duration) {
        if low > high {
            let [low_name, high_name] = keys.map(with_section);
            let (low, high) = (format_duration(low), format_duration(high));
            let message = format!("{low_name} ({low}) is longer than {high_name} ({high})");
            self.add(keys, message, "shorten the one or lengthen the other");
        }
    }

    fn larger(&mut self, small_key: &str, large_key: &str, small: usize, large: usize) {
        if small > large {
            let (small, large) = (format_size(small as u64), format_size(large as u64));
            let (small_name, large_name) = (with_section(small_key), with_section(large_key));
            let message = format!("{small_name} ({small}) is larger than {large_name} ({large})");
            self.add([small_key, large_key], message, "lower the one or raise the other");
        }
    }

    /// A record that lingers for longer than it may wait would never be sent.
    fn timeouts(&mut self, producer: &TopicRules, topics: &Topics) {
        let both = |rules: &TopicRules| (rules.linger, rules.delivery_timeout);
        let of_topics = topics.iter().filter(|(_, rules)| both(rules) != both(producer));
        let sections = of_topics.map(|(pattern, rules)| (format!("topics.{pattern}"), rules));
        for (section, rules) in [("producer".to_owned(), producer)].into_iter().chain(sections) {
            let Some(timeout) = rules.delivery_timeout else { continue };
            let keys = ["linger", "delivery_timeout"].map(|name| format!("{section}.{name}"));
            self.longer([&keys[0], &keys[1]], rules.linger, timeout);
        }
    }

    fn levels(&mut self, producer: &TopicRules, topics: &Topics) {
        self.level("producer", producer, None);
        for (pattern, rules) in topics.iter() {
            self.level(&format!("topics.{pattern}"), rules, Some(producer));
        }
    }

    /// A level is one of its codec. Where a codec without levels only inherits it, from what `from` says, it
    /// means nothing.
    fn level(&mut self, section: &str, rules: &TopicRules, from: Option<&TopicRules>) {
        let Some(level) = rules.compression_level else { return };
        let said_already = from.is_some_and(|from| rules.compression_type == from.compression_type);
        let inherited = from.is_some_and(|from| from.compression_level == Some(level));
        if inherited && said_already {
            return;
        }
        let codec = COMPRESSION_TYPE.write(&rules.compression_type);
        let help = match rules.compression_type.levels() {
            Some(levels) if levels.contains(&level) => return,
            Some(levels) => format!("allowed with {codec}: {}", Level(levels).allowed()),
            None if inherited || rules.compression_type == CompressionType::None => return,
            None => format!("{codec} has no levels: leave the key out, or write \"default\""),
        };
        let key = format!("{section}.compression_level");
        let message = format!("{} ({level}) is no level of {codec}", with_section(&key));
        self.add([&key, &format!("{section}.compression_type")], message, &help);
    }

    /// What is stored needs a directory, and a log whose segments hold the largest record.
    fn backlog(&mut self, config: &Config) {
        let stored = config.topics.iter().find(|(_, rules)| rules.store != StorePolicy::Never);
        let (key, store) = match stored {
            _ if config.producer.store != StorePolicy::Never => ("producer.store".to_owned(), config.producer.store),
            Some((pattern, rules)) => (format!("topics.{pattern}.store"), rules.store),
            None => return,
        };
        if config.backlog.directory.is_none() {
            let message = format!("{} is {}, and there is no backlog", with_section(&key), STORE.write(&store));
            return self.add(
                [&key, "backlog.directory"],
                message,
                "write directory = \"/var/lib/forebay\" in [backlog]",
            );
        }
        let largest = (config.backlog.limit / FRAME_SHARE).min(FRAME_BYTES_MAX);
        for (n, listener) in config.listeners.iter().enumerate() {
            let size = listener.max_frame_size as u64;
            if size + RECORD_OVERHEAD_BYTES > largest {
                let (size, limit) = (format_size(size), format_size(config.backlog.limit));
                let frame = format!("listeners.{n}.max_frame_size");
                let message = format!(
                    "a record of {} ({size}) does not fit into a log with {} ({limit})",
                    with_section(&frame),
                    with_section("backlog.limit")
                );
                let help = "max_frame_size must be below a sixteenth of the limit, and below 32MiB";
                self.add([&frame, "backlog.limit"], message, help);
            }
        }
    }

    fn listeners(&mut self, config: &Config) {
        let mut paths: Vec<(String, &Path)> = vec![("admin.path".to_owned(), &config.admin.socket.path)];
        for (n, listener) in config.listeners.iter().enumerate() {
            let key = |name: &str| format!("listeners.{n}.{name}");
            self.larger(&key("max_frame_size"), "memory.limit", listener.max_frame_size, config.memory.limit);
            if let ListenerKind::Stream(limits) = &listener.kind {
                let size = limits.max_unanswered_size;
                self.larger(&key("max_unanswered_size"), "memory.limit", size, config.memory.limit);
            }
            let path = &listener.socket.path;
            if let Some((other, _)) = paths.iter().find(|(_, taken)| taken == path) {
                let message = format!("the path {:?} is used twice", path.to_string_lossy());
                self.add([&key("path"), other], message, "each listener and [admin] need a path of their own");
            }
            paths.push((key("path"), path));
        }
    }
}

/// The key as messages name it.
fn with_section(key: &str) -> String {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    match section.split_once('.') {
        Some(("topics", pattern)) => format!("{name:?} of [topics.{pattern:?}]"),
        Some((section, _)) => format!("{name:?} of {}", header(section)),
        None => format!("{name:?} of {}", header(section)),
    }
}
