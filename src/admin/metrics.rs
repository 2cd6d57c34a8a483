//! `GET /metrics`: the status as Prometheus scrapes it, in the text form of OpenMetrics 1.0.
//!
//! All of it is made of a [`Status`] when somebody asks, so nothing on the way of a record pays for it. Names and labels are kept: dashboards and
//! alerts depend on them. There is no label for partitions, and at most [`TOPICS_MAX`] topics have their own: a scrape stays small whatever
//! clients write to.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::status::{Backlog, Ledger, Status, Topic};
use crate::queue::ledger::{DropReason, DuplicateCause};

/// Topics with series of their own: those that hold most. The others are one, [`OTHER_TOPICS`].
const TOPICS_MAX: usize = 1000;
/// No topic of Kafka's has this name.
const OTHER_TOPICS: &str = "(other)";
/// What the form is called in HTTP.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Figures of the listeners that also go down. All others are counters.
const GAUGES: [&str; 3] = ["connections_open", "frames_unfinished_bytes", "answers_unread_bytes"];

/// A page of metrics.
pub(super) fn page(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("forebay");
    registry.register_collector(Box::new(Scraped(status)));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Scraped(Status);

impl Collector for Scraped {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut page, status) = (Page(encoder), &self.0);
        page.info("build", "The running daemon.", "version", &status.version)?;
        page.gauge("uptime", "Since the daemon started.", Some(&Unit::Seconds), status.uptime_seconds)?;
        page.gauge("brokers", "Brokers that the cluster has named.", None, status.cluster.brokers.len() as u64)?;
        if let Some(age) = status.cluster.as_of_seconds {
            page.gauge("metadata_age", "How old the news of the cluster are.", Some(&Unit::Seconds), age)?;
        }
        page.gauge("memory_used", "Of memory.limit, taken now.", Some(&Unit::Bytes), status.memory.used_bytes)?;
        page.gauge("memory_limit", "memory.limit.", Some(&Unit::Bytes), status.memory.limit_bytes)?;
        page.ledger(&status.ledger)?;
        if let Some(backlog) = &status.backlog {
            page.backlog(backlog)?;
            let spilled = status.topics.iter().map(|topic| topic.spilled_records).sum();
            page.counter("records_spilled", "Records stored because memory could not keep them.", spilled)?;
        }
        if let Some(letters) = &status.dead_letters {
            let help = "Dead letters that are not on disk yet.";
            page.gauge("dead_letters_waiting", help, None, letters.waiting_records)?;
        }
        for (name, value) in &status.connections {
            let help = format!("Of the listeners: {}.", name.replace('_', " "));
            if GAUGES.contains(&name.as_str()) {
                page.gauge(name, &help, None, *value)?;
            } else {
                page.counter(name, &help, *value)?;
            }
        }
        page.topics(&status.topics)
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn info(&mut self, name: &str, help: &str, label: &str, value: &str) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&[(label, value)])
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?)
    }

    /// A metric for each value of a label: `of` makes it, and decides of which type it is.
    fn family<'l, M: EncodeMetric>(
        &mut self,
        (name, help, label): (&str, &str, &str),
        of: fn(u64) -> M,
        values: impl Iterator<Item = (&'l str, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, of(0).metric_type())?;
        for (value, figure) in values {
            of(figure).encode(family.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    /// accepted = delivered + held + dead-lettered + dropped. Reasons and causes that have not occurred are 0, so that the first time is seen as an
    /// increase.
    fn ledger(&mut self, ledger: &Ledger) -> fmt::Result {
        self.counter("records_accepted", "Records taken from clients.", ledger.accepted)?;
        self.counter("records_delivered", "Records that Kafka has.", ledger.delivered)?;
        self.gauge("records_held", "Records of which neither is true yet.", None, ledger.held)?;
        self.counter("records_dead_lettered", "Records refused by Kafka for good.", ledger.dead_lettered)?;
        self.family(
            ("records_dead_lettered_by_error", "The same by Kafka's name of the error.", "error"),
            ConstCounter::new,
            ledger.dead_lettered_by_error.iter().map(|(error, count)| (error.as_str(), *count)),
        )?;
        let count = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or(0);
        self.family(
            ("records_dropped", "Records given up for another reason.", "reason"),
            ConstCounter::new,
            DropReason::ALL.iter().map(|reason| (reason.name(), count(&ledger.dropped, reason.name()))),
        )?;
        self.family(
            ("possible_duplicates", "Records delivered, and perhaps twice.", "cause"),
            ConstCounter::new,
            DuplicateCause::ALL
                .iter()
                .map(|cause| (cause.name(), count(&ledger.possible_duplicates_by_cause, cause.name()))),
        )?;
        self.counter(
            "records_restamped",
            "Records given the present time, since Kafka refused theirs.",
            ledger.restamped,
        )
    }

    fn backlog(&mut self, backlog: &Backlog) -> fmt::Result {
        let is = |state: &'static str| (state, u64::from(backlog.state == state));
        self.family(
            ("backlog_state", "1 for the state that the backlog is in.", "state"),
            ConstGauge::new,
            ["well", "full", "failing"].map(is).into_iter(),
        )?;
        self.gauge(
            "backlog_used",
            "Of backlog.limit, taken by the log's files.",
            Some(&Unit::Bytes),
            backlog.used_bytes,
        )?;
        if let Some(age) = backlog.oldest_seconds {
            self.gauge("backlog_oldest", "Age of the oldest record in the log.", Some(&Unit::Seconds), age)?;
        }
        if let Some(left) = backlog.full_in_seconds {
            let help = "When the log is full if it goes on like in the last minute.";
            self.gauge("backlog_full_in", help, Some(&Unit::Seconds), left)?;
        }
        self.gauge("backlog_limit", "backlog.limit.", Some(&Unit::Bytes), backlog.limit_bytes)?;
        self.gauge("backlog_records_held", "Records that the log holds for Kafka.", None, backlog.held_records)
    }

    fn topics(&mut self, topics: &[Topic]) -> fmt::Result {
        let mut most: Vec<&Topic> = topics.iter().collect();
        most.sort_by_key(|topic| Reverse(topic.held_records));
        let (own, others) = most.split_at(most.len().min(TOPICS_MAX));
        let mut gauges = |name: &str, help: &str, value: fn(&Topic) -> u64| {
            let own = own.iter().map(|topic| (topic.name.as_str(), value(topic)));
            let rest = (!others.is_empty()).then(|| (OTHER_TOPICS, others.iter().map(|topic| value(topic)).sum()));
            self.family((name, help, "topic"), ConstGauge::new, own.chain(rest))
        };
        gauges("topic_records_held", "Records of the topic that wait or are in flight.", |topic| topic.held_records)?;
        gauges("topic_partitions", "Partitions, 0 while the cluster does not know the topic.", |topic| {
            topic.partitions
        })?;
        gauges("topic_partitions_without_leader", "Partitions that no broker leads now.", |topic| {
            topic.without_leader
        })?;
        gauges("topic_partitions_parked", "Partitions that wait for a person.", |topic| topic.parked.len() as u64)?;
        gauges("topic_partitions_late", "Partitions whose answers come late.", |topic| topic.late.len() as u64)?;
        gauges("topic_partitions_held_back", "Partitions that wait for the topic's rate_limit.", |topic| {
            topic.held_back.len() as u64
        })?;
        gauges("topic_partitions_stored", "Partitions that are stored because memory could not keep them.", |topic| {
            topic.stored.len() as u64
        })?;
        gauges("topic_partitions_missing", "Partitions that hold records and do not exist any more.", |topic| {
            topic.missing.len() as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::Parked;

    fn lines(status: Status) -> Vec<String> {
        page(status).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_has_not_occurred_is_zero_and_what_has_is_counted() {
        let dropped = [("memory_full".to_owned(), 3)].into();
        let lines = lines(Status { ledger: Ledger { accepted: 3, dropped, ..Ledger::default() }, ..Status::default() });
        for line in [
            "# TYPE forebay_records_accepted counter",
            "forebay_records_accepted_total 3",
            r#"forebay_records_dropped_total{reason="memory_full"} 3"#,
            r#"forebay_records_dropped_total{reason="stopped"} 0"#,
            r#"forebay_possible_duplicates_total{cause="unclean"} 0"#,
            "# UNIT forebay_memory_used_bytes bytes",
            "# EOF",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("backlog")), "it has none");
    }

    #[test]
    fn the_state_of_the_backlog_is_one_of_three() {
        let backlog = Some(Backlog { state: "full".to_owned(), ..Backlog::default() });
        let lines = lines(Status { backlog, ..Status::default() });
        let states: Vec<_> = lines.iter().filter(|line| line.starts_with("forebay_backlog_state{")).collect();
        assert_eq!(
            states,
            [
                r#"forebay_backlog_state{state="well"} 0"#,
                r#"forebay_backlog_state{state="full"} 1"#,
                r#"forebay_backlog_state{state="failing"} 0"#,
            ]
        );
    }

    #[test]
    fn topics_that_hold_least_share_a_series() {
        let parked = vec![Parked::default()];
        let topic =
            |n: u64| Topic { name: format!("t{n}"), held_records: n, parked: parked.clone(), ..Topic::default() };
        let topics = (0..TOPICS_MAX as u64 + 3).map(topic).collect();
        let lines = lines(Status { topics, ..Status::default() });
        let held: Vec<_> = lines.iter().filter(|line| line.starts_with("forebay_topic_records_held{")).collect();
        assert_eq!(held.len(), TOPICS_MAX + 1);
        assert_eq!(held[0], r#"forebay_topic_records_held{topic="t1002"} 1002"#);
        assert_eq!(held[TOPICS_MAX], r#"forebay_topic_records_held{topic="(other)"} 3"#);
        assert!(lines.contains(&r#"forebay_topic_partitions_parked{topic="(other)"} 3"#.to_owned()));
    }
}
