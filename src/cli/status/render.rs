//! The status as a page. Pure: a status in, a text out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::{grouped, span};
use crate::admin::status::{Backlog, Cluster, DeadLetters, Ledger, Memory, Status, Topic};
use crate::cli::output::plain;

/// The whole page, with a line feed at its end.
pub(super) fn page(status: &Status) -> String {
    let mut out = String::new();
    let uptime = span(Duration::from_secs(status.uptime_seconds));
    line(&mut out, format_args!("forebay {}, up {uptime}", plain(&status.version)));
    line(&mut out, format_args!("cluster  {}", cluster(&status.cluster)));
    for broker in &status.cluster.brokers {
        line(&mut out, format_args!("         broker {} at {}", broker.id, plain(&broker.address)));
    }
    line(&mut out, format_args!("memory   {}", memory(status.memory)));
    if let Some(log) = &status.backlog {
        line(&mut out, format_args!("backlog  {}", backlog(log)));
    }
    if let Some(letters) = status.dead_letters.as_ref().filter(|letters| letters.waiting_records > 0) {
        line(&mut out, format_args!("letters  {}", waiting(letters)));
    }
    counts(&mut out, "records", &ledger(&status.ledger));
    let connections: Vec<_> = status.connections.iter().map(|(name, count)| (name.replace('_', " "), *count)).collect();
    counts(&mut out, "connections", &connections);
    topics(&mut out, &status.topics);
    out
}

/// Writing to a string cannot fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn cluster(cluster: &Cluster) -> String {
    let Some(age) = cluster.as_of_seconds else {
        return "not reached yet".to_owned();
    };
    let id = plain(cluster.id.as_deref().unwrap_or("without an id"));
    format!("{id}, as of {} ago", span(Duration::from_secs(age)))
}

fn memory(memory: Memory) -> String {
    let Memory { used_bytes, limit_bytes } = memory;
    #[expect(clippy::cast_precision_loss, reason = "a percentage with one digit behind the point")]
    let percent = if limit_bytes == 0 { 0.0 } else { 100.0 * used_bytes as f64 / limit_bytes as f64 };
    format!("{} of {} ({percent:.1} %)", size(used_bytes), size(limit_bytes))
}

fn backlog(backlog: &Backlog) -> String {
    let used = memory(Memory { used_bytes: backlog.used_bytes, limit_bytes: backlog.limit_bytes });
    let mut held = format!("{used}, {} records held", backlog.held_records);
    let time = |seconds| span(Duration::from_secs(seconds));
    // Writing to a string cannot fail.
    if let Some(age) = backlog.oldest_seconds {
        let _ = write!(held, ", the oldest for {}", time(age));
    }
    if let Some(left) = backlog.full_in_seconds {
        let _ = write!(held, ", full in {}", time(left));
    }
    let _ = write!(held, ", {}", plain(&backlog.state));
    if backlog.message.is_empty() { held } else { format!("{held}: {}", plain(&backlog.message)) }
}

fn waiting(letters: &DeadLetters) -> String {
    let records = format!("{} dead letters wait for the disk, and stay held", grouped(letters.waiting_records));
    if letters.message.is_empty() { records } else { format!("{records}: {}", plain(&letters.message)) }
}

/// In the largest unit that leaves something before the point.
pub(in crate::cli) fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    #[expect(clippy::cast_precision_loss, reason = "a size with one digit behind the point")]
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

fn ledger(ledger: &Ledger) -> Vec<(String, u64)> {
    let row = |name: &str, count| (name.to_owned(), count);
    let by = |counts: &BTreeMap<String, u64>, name: fn(&str) -> String| -> Vec<_> {
        counts.iter().map(|(reason, count)| (format!("  {}", name(reason)), *count)).collect()
    };
    let words = |reason: &str| reason.replace('_', " ");
    let mut rows = vec![row("accepted", ledger.accepted), row("delivered", ledger.delivered), row("held", ledger.held)];
    rows.push(row("dead-lettered", ledger.dead_lettered));
    rows.extend(by(&ledger.dead_lettered_by_error, str::to_owned));
    rows.push(row("dropped", ledger.dropped.values().sum()));
    rows.extend(by(&ledger.dropped, words));
    rows.push(row("possible duplicates", ledger.possible_duplicates));
    rows.extend(by(&ledger.possible_duplicates_by_cause, words));
    if ledger.restamped > 0 {
        rows.push(row("restamped", ledger.restamped));
    }
    rows
}

/// Names to the left, numbers to the right. Nothing where there is nothing to count.
fn counts(out: &mut String, title: &str, rows: &[(String, u64)]) {
    if rows.is_empty() {
        return;
    }
    line(out, format_args!("\n{title}"));
    let rows: Vec<_> = rows.iter().map(|(name, count)| (plain(name), grouped(*count))).collect();
    let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let numbers = rows.iter().map(|(_, number)| number.len()).max().unwrap_or_default();
    for (name, number) in rows {
        line(out, format_args!("  {name:<names$}  {number:>numbers$}"));
    }
}

fn topics(out: &mut String, topics: &[Topic]) {
    if topics.is_empty() {
        return;
    }
    let heads = ["partitions", "held", "without leader", "parked"];
    let rows: Vec<_> = topics.iter().map(|topic| (plain(&topic.name), columns(topic))).collect();
    let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default().max("topic".len());
    let [a, b, c, d] = std::array::from_fn(|column| {
        rows.iter().map(|(_, cells)| cells[column].len()).max().unwrap_or_default().max(heads[column].len())
    });
    out.push('\n');
    let mut row = |name: &str, [w, x, y, z]: [&str; 4]| {
        line(out, format_args!("{name:<names$}  {w:>a$}  {x:>b$}  {y:>c$}  {z:>d$}"));
    };
    row("topic", heads);
    for (name, cells) in &rows {
        row(name, std::array::from_fn(|column| cells[column].as_str()));
    }
    parked(out, topics);
    numbers(out, "late, on a connection of their own", topics, |topic| &topic.late);
    numbers(out, "held back by rate_limit", topics, |topic| &topic.held_back);
    numbers(out, "stored, since memory could not keep them", topics, |topic| &topic.stored);
    numbers(out, "missing in the cluster, with records that wait", topics, |topic| &topic.missing);
}

fn columns(topic: &Topic) -> [String; 4] {
    let partitions = if topic.partitions == 0 { "unknown".to_owned() } else { grouped(topic.partitions) };
    let parked = grouped(topic.parked.len() as u64);
    [partitions, grouped(topic.held_records), grouped(topic.without_leader), parked]
}

fn parked(out: &mut String, topics: &[Topic]) {
    if topics.iter().all(|topic| topic.parked.is_empty()) {
        return;
    }
    line(out, format_args!("\nparked"));
    for topic in topics {
        for parked in &topic.parked {
            let (name, message) = (plain(&parked.name), plain(&parked.message));
            let (topic, partition, code) = (plain(&topic.name), parked.partition, parked.code);
            line(out, format_args!("  {topic}-{partition}: {name} ({code}): {message}"));
        }
    }
}

/// A list of partitions under its title.
fn numbers(out: &mut String, title: &str, topics: &[Topic], of: fn(&Topic) -> &[i32]) {
    if topics.iter().all(|topic| of(topic).is_empty()) {
        return;
    }
    line(out, format_args!("\n{title}"));
    for topic in topics {
        for partition in of(topic) {
            line(out, format_args!("  {}-{partition}", plain(&topic.name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::{Broker, Parked};
    use std::collections::BTreeMap;

    fn map(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
        entries.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_page_shows_everything_in_its_place() {
        let broker = |id, port| Broker { id, address: format!("10.0.0.{id}:{port}") };
        let parked = Parked {
            partition: 2,
            code: 29,
            name: "TOPIC_AUTHORIZATION_FAILED".to_owned(),
            message: "allow forebay to write \u{1b}[31mhere".to_owned(),
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            uptime_seconds: 273_600,
            cluster: Cluster {
                id: Some("5L6g3nShT-eMCtK--X86sw".to_owned()),
                brokers: vec![broker(1, 9092), broker(2, 9092)],
                as_of_seconds: Some(61),
            },
            memory: Memory { used_bytes: 12_897_485, limit_bytes: 256 << 20 },
            backlog: Some(Backlog {
                state: "full".to_owned(),
                message: "the log is full".to_owned(),
                used_bytes: 64 << 20,
                limit_bytes: 64 << 20,
                held_records: 500,
                oldest_seconds: Some(75),
                full_in_seconds: Some(3600),
                ..Backlog::default()
            }),
            dead_letters: Some(DeadLetters { waiting_records: 1500, message: "no room for letters".to_owned() }),
            ledger: Ledger {
                accepted: 1_234_567,
                delivered: 1_233_997,
                held: 567,
                dead_lettered: 0,
                dropped: map(&[("unknown_topic", 3)]),
                ..Ledger::default()
            },
            connections: map(&[("accepted", 1200), ("open", 3)]),
            topics: vec![
                Topic { name: "audit-login".to_owned(), partitions: 12, held_records: 567, ..Topic::default() },
                Topic {
                    name: "logs".to_owned(),
                    partitions: 3,
                    without_leader: 1,
                    parked: vec![parked],
                    late: vec![0],
                    held_back: vec![2],
                    stored: vec![0],
                    missing: vec![1, 2],
                    ..Topic::default()
                },
                Topic { name: "typo".to_owned(), held_records: 1000, ..Topic::default() },
            ],
        };
        assert_eq!(
            page(&status),
            "\
forebay 0.1.0, up 3 d 4 h
cluster  5L6g3nShT-eMCtK--X86sw, as of 1 min 1 s ago
         broker 1 at 10.0.0.1:9092
         broker 2 at 10.0.0.2:9092
memory   12.3 MiB of 256.0 MiB (4.8 %)
backlog  64.0 MiB of 64.0 MiB (100.0 %), 500 records held, the oldest for 1 min 15 s, full in 1 h 0 min, full: the log is full
letters  1,500 dead letters wait for the disk, and stay held: no room for letters

records
  accepted             1,234,567
  delivered            1,233,997
  held                       567
  dead-lettered                0
  dropped                      3
    unknown topic              3
  possible duplicates          0

connections
  accepted  1,200
  open          3

topic        partitions   held  without leader  parked
audit-login          12    567               0       0
logs                  3      0               1       1
typo            unknown  1,000               0       0

parked
  logs-2: TOPIC_AUTHORIZATION_FAILED (29): allow forebay to write \u{fffd}[31mhere

late, on a connection of their own
  logs-0

held back by rate_limit
  logs-2

stored, since memory could not keep them
  logs-0

missing in the cluster, with records that wait
  logs-1
  logs-2
"
        );
    }

    #[test]
    fn a_daemon_that_has_seen_nothing_has_a_short_page() {
        let status = Status { version: "0.1.0".to_owned(), ..Status::default() };
        assert_eq!(
            page(&status),
            "\
forebay 0.1.0, up 0 s
cluster  not reached yet
memory   0 B of 0 B (0.0 %)

records
  accepted             0
  delivered            0
  held                 0
  dead-lettered        0
  dropped              0
  possible duplicates  0
"
        );
    }

    #[test]
    fn numbers_and_times_are_as_people_say_them() {
        assert_eq!([0, 999, 1000, 1_000_000].map(grouped), ["0", "999", "1,000", "1,000,000"]);
        let spans = [59, 60, 3599, 3600, 86_399, 86_400].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 0 h"]);
        assert_eq!([0, 1023, 1024, 1536 << 20].map(size), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
    }
}
