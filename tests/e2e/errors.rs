//! Every row of `docs/errors.md`, with and without doubt: what a client is told, what is in the log, what the ledger says.

use serde_json::Value;

use self::When::{Absent, After, Before, There, Unreadable};
use crate::dev_kafka::DevKafka;
use crate::doubt::IMPATIENT;
use crate::support::balance::settled_ledger;
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::Daemon;

/// Error 7: replicated too late, perhaps.
const REQUEST_TIMED_OUT: i16 = 7;

/// When a broker answers the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Twice, without having appended anything.
    Before,
    /// Twice, although it has appended what was sent.
    After,
    /// Once, after it has appended the one record and answered that it may have.
    There,
    /// Once, after it has not appended the one record and answered that it may have.
    Absent,
    /// As `There`, and the topic may not be read.
    Unreadable,
}

macro_rules! rows {
    ($($name:ident: $code:literal, $when:ident;)*) => {
        /// The rows above.
        const TESTED: &[(i16, When)] = &[$(($code, $when)),*];

        $(
            #[test]
            fn $name() {
                answered($code, $when);
            }
        )*
    };
}

rows! {
    unknown_server_error_before_the_append: -1, Before;
    unknown_server_error_after_the_append: -1, After;
    corrupt_message_before_the_append: 2, Before;
    corrupt_message_after_the_append: 2, After;
    unknown_topic_or_partition_before_the_append: 3, Before;
    unknown_topic_or_partition_after_the_append: 3, After;
    leader_not_available_before_the_append: 5, Before;
    leader_not_available_after_the_append: 5, After;
    not_leader_or_follower_before_the_append: 6, Before;
    not_leader_or_follower_after_the_append: 6, After;
    request_timed_out_before_the_append: 7, Before;
    request_timed_out_after_the_append: 7, After;
    broker_not_available_before_the_append: 8, Before;
    broker_not_available_after_the_append: 8, After;
    replica_not_available_before_the_append: 9, Before;
    replica_not_available_after_the_append: 9, After;
    message_too_large_before_the_append: 10, Before;
    network_exception_before_the_append: 13, Before;
    network_exception_after_the_append: 13, After;
    coordinator_load_in_progress_before_the_append: 14, Before;
    coordinator_load_in_progress_after_the_append: 14, After;
    coordinator_not_available_before_the_append: 15, Before;
    coordinator_not_available_after_the_append: 15, After;
    not_coordinator_before_the_append: 16, Before;
    not_coordinator_after_the_append: 16, After;
    invalid_topic_exception_before_the_append: 17, Before;
    invalid_topic_exception_in_doubt_where_it_is_there: 17, There;
    record_list_too_large_before_the_append: 18, Before;
    not_enough_replicas_before_the_append: 19, Before;
    not_enough_replicas_in_doubt_where_it_is_there: 19, There;
    not_enough_replicas_after_append_before_the_append: 20, Before;
    not_enough_replicas_after_append_after_the_append: 20, After;
    invalid_required_acks_before_the_append: 21, Before;
    invalid_required_acks_in_doubt_where_it_is_there: 21, There;
    topic_authorization_failed_before_the_append: 29, Before;
    topic_authorization_failed_in_doubt_where_it_is_there: 29, There;
    cluster_authorization_failed_before_the_append: 31, Before;
    cluster_authorization_failed_after_the_append: 31, After;
    invalid_timestamp_before_the_append: 32, Before;
    invalid_timestamp_in_doubt_where_it_is_there: 32, There;
    unsupported_sasl_mechanism_before_the_append: 33, Before;
    unsupported_sasl_mechanism_after_the_append: 33, After;
    illegal_sasl_state_before_the_append: 34, Before;
    illegal_sasl_state_after_the_append: 34, After;
    unsupported_version_before_the_append: 35, Before;
    unsupported_version_in_doubt_where_it_is_there: 35, There;
    invalid_replication_factor_before_the_append: 38, Before;
    invalid_replication_factor_after_the_append: 38, After;
    invalid_config_before_the_append: 40, Before;
    invalid_config_after_the_append: 40, After;
    invalid_request_before_the_append: 42, Before;
    invalid_request_in_doubt_where_it_is_there: 42, There;
    unsupported_for_message_format_before_the_append: 43, Before;
    unsupported_for_message_format_in_doubt_where_it_is_there: 43, There;
    policy_violation_before_the_append: 44, Before;
    policy_violation_after_the_append: 44, After;
    out_of_order_sequence_number_before_the_append: 45, Before;
    duplicate_sequence_number_after_the_append: 46, After;
    invalid_producer_epoch_before_the_append: 47, Before;
    invalid_txn_state_before_the_append: 48, Before;
    invalid_txn_state_after_the_append: 48, After;
    invalid_producer_id_mapping_before_the_append: 49, Before;
    invalid_producer_id_mapping_after_the_append: 49, After;
    concurrent_transactions_before_the_append: 51, Before;
    concurrent_transactions_after_the_append: 51, After;
    transactional_id_authorization_failed_before_the_append: 53, Before;
    transactional_id_authorization_failed_after_the_append: 53, After;
    kafka_storage_error_before_the_append: 56, Before;
    kafka_storage_error_after_the_append: 56, After;
    sasl_authentication_failed_before_the_append: 58, Before;
    sasl_authentication_failed_after_the_append: 58, After;
    unknown_producer_id_before_the_append: 59, Before;
    unknown_producer_id_after_the_append: 59, After;
    listener_not_found_before_the_append: 72, Before;
    listener_not_found_after_the_append: 72, After;
    topic_deletion_disabled_before_the_append: 73, Before;
    topic_deletion_disabled_after_the_append: 73, After;
    fenced_leader_epoch_before_the_append: 74, Before;
    fenced_leader_epoch_after_the_append: 74, After;
    unknown_leader_epoch_before_the_append: 75, Before;
    unknown_leader_epoch_after_the_append: 75, After;
    unsupported_compression_type_before_the_append: 76, Before;
    unsupported_compression_type_in_doubt_where_it_is_there: 76, There;
    invalid_record_before_the_append: 87, Before;
    throttling_quota_exceeded_before_the_append: 89, Before;
    throttling_quota_exceeded_after_the_append: 89, After;
    producer_fenced_before_the_append: 90, Before;
    producer_fenced_after_the_append: 90, After;
    unknown_topic_id_before_the_append: 100, Before;
    unknown_topic_id_after_the_append: 100, After;
    inconsistent_topic_id_before_the_append: 103, Before;
    inconsistent_topic_id_after_the_append: 103, After;
    transaction_abortable_before_the_append: 120, Before;
    transaction_abortable_after_the_append: 120, After;
    rebootstrap_required_before_the_append: 129, Before;
    rebootstrap_required_after_the_append: 129, After;
    invalid_producer_epoch_after_the_append: 47, After;
    out_of_order_sequence_number_after_the_append: 45, After;
    message_too_large_in_doubt_where_it_is_there: 10, There;
    message_too_large_in_doubt_where_it_is_not_there: 10, Absent;
    message_too_large_in_doubt_where_the_topic_may_not_be_read: 10, Unreadable;
    record_list_too_large_in_doubt_where_it_is_there: 18, There;
    record_list_too_large_in_doubt_where_it_is_not_there: 18, Absent;
    record_list_too_large_in_doubt_where_the_topic_may_not_be_read: 18, Unreadable;
    invalid_record_in_doubt_where_it_is_there: 87, There;
    invalid_record_in_doubt_where_it_is_not_there: 87, Absent;
    invalid_record_in_doubt_where_the_topic_may_not_be_read: 87, Unreadable;
}

/// The table of the documentation: code, whether it leaves a doubt, and action.
fn documented() -> impl Iterator<Item = (i16, &'static str, &'static str)> {
    include_str!("../../docs/errors.md").lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        Some((cells.first()?.trim().parse().ok()?, cells.get(2)?.trim(), cells.get(3)?.trim()))
    })
}

/// What leaves a doubt whether it was appended or not; what does not by itself, and in answer to what is in doubt already.
#[test]
fn every_row_of_the_table_is_tested_with_and_without_doubt() {
    let is_tested = |code, when| TESTED.contains(&(code, when));
    let untested: Vec<i16> = documented()
        .filter(|(code, doubt, _)| match *doubt {
            "yes" => !is_tested(*code, Before) || !is_tested(*code, After),
            "no" => !is_tested(*code, Before) || !is_tested(*code, After) && !is_tested(*code, There),
            _ => *code != 0 && !is_tested(*code, After),
        })
        .map(|(code, ..)| code)
        .collect();
    assert!(untested.is_empty(), "{untested:?}");
}

/// What became of a request.
struct Fate {
    /// The error code of each of its records.
    answers: Vec<i16>,
    /// The values in the log, behind the first record.
    log: Vec<u8>,
    ledger: Value,
}

/// One record is delivered. Then some are sent, and the broker answers `code`.
fn answered(code: i16, when: When) {
    let count = if matches!(when, Before | After) { 3 } else { 1 };
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
    let topic = new_topic(&cluster, "errors", 1);
    let record = |number: u8| Outgoing { value: Some(vec![number]), ..Outgoing::default() };
    let mut client = daemon.connect();
    assert_eq!(client.produce(&Produce::new(&topic, &[record(0)])).error_code, 0);
    cluster.set_readable(&topic, when != Unreadable).expect("the topic exists");
    match when {
        Before | After => cluster.return_error(&topic, 0, code, 2, when == After),
        There | Absent | Unreadable => {
            // A batch that is there is refused when it comes again: brokers validate first.
            for code in [REQUEST_TIMED_OUT, code] {
                cluster.return_error(&topic, 0, code, 1, when != Absent);
            }
        }
    }
    let records: Vec<_> = (1..=count).map(record).collect();
    let answer = client.produce(&Produce::new(&topic, &records));
    let log = cluster.read_partition(&topic, 0).into_iter().skip(1).filter_map(|record| record.value).flatten();
    let fate = Fate {
        answers: answer.records.iter().map(|record| record.error_code).collect(),
        log: log.collect(),
        ledger: settled_ledger(&daemon, 1 + u64::from(count)),
    };
    let action = documented().find(|(documented, ..)| *documented == code).expect("it is in the table").2;
    let counted = |name: &str| fate.ledger[name].as_u64().unwrap_or_default();
    let (dead, doubled, restamped) = match (action, when) {
        ("cut", Before) => (1, 0, 0),
        ("cut", Absent | Unreadable) => (1, 1, 0),
        ("new time", _) => (0, 0, count.into()),
        // By itself it leaves a doubt, which is not settled by what is not found.
        ("fenced", Before) if code == 90 => (0, 3, 0),
        _ => (0, 0, 0),
    };
    let what = format!("{code} {when:?}: {:?} {:?} {}", fate.answers, fate.log, fate.ledger);
    assert_eq!(counted("dead_lettered"), dead, "{what}");
    assert_eq!(counted("possible_duplicates"), doubled, "{what}");
    assert_eq!(counted("restamped"), restamped, "{what}");
    let refused = fate.answers.iter().filter(|answer| **answer == code).count() as u64;
    assert_eq!(
        (refused, fate.answers.iter().filter(|answer| **answer == 0).count() as u64),
        (dead, u64::from(count) - dead),
        "{what}"
    );
    let there: Vec<u8> = match (dead, when) {
        (0, _) | (_, Unreadable) => (1..=count).collect(),
        (_, Absent) => vec![],
        _ => (2..=count).collect(),
    };
    assert_eq!(fate.log, there, "{what}");
    // The partition goes on.
    assert_eq!(client.produce(&Produce::new(&topic, &[record(9)])).error_code, 0, "{what}");
}
