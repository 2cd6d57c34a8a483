//! What a broker's answer means for a batch: the whole table, pure.
//!
//! A broker validates before it deduplicates, so a refusal speaks of one attempt only; and whatever speaks of leadership or of
//! the log it may also answer for a batch that it has appended and that waits for replication. Hence the two questions:
//! did this attempt certainly append nothing ([`refuses`]), and is any earlier attempt in doubt.
//!
//! Codes that do not exist yet: keep, in doubt, retry.

use crate::wire::codes::*;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is replicated.
    Delivered,
    /// Send the same bytes again after a backoff.
    Retry,
    /// The same, and ask for metadata: somebody else may lead, or the topic is gone.
    RetryElsewhere,
    /// Its number is not the next one: something before it is missing, or something later is there.
    OutOfSequence,
    /// A later epoch of its producer id is there.
    Fenced,
    /// Too large together, or one of its records is refused: cut it in its lane.
    Split,
    /// It is not there and will not come, and is not to be cut in its lane.
    GiveUp,
    /// The same, but an earlier attempt may be there, or still come: find that out first.
    Settle,
    /// Its records' time is out of range: what the topic's rule says.
    Restamp,
    /// The broker does not know the codec: send it uncompressed.
    Recompress,
    /// Nothing here can change it: wait for somebody to mend it, and say so.
    Park,
}

/// Whether the answer says that *this attempt* appended nothing. All others, success aside, leave the batch in doubt.
pub fn refuses(code: i16) -> bool {
    matches!(
        code,
        MESSAGE_TOO_LARGE
            | INVALID_TOPIC_EXCEPTION
            | RECORD_LIST_TOO_LARGE
            | NOT_ENOUGH_REPLICAS
            | INVALID_REQUIRED_ACKS
            | TOPIC_AUTHORIZATION_FAILED
            | INVALID_TIMESTAMP
            | UNSUPPORTED_VERSION
            | INVALID_REQUEST
            | UNSUPPORTED_FOR_MESSAGE_FORMAT
            | OUT_OF_ORDER_SEQUENCE_NUMBER
            | INVALID_PRODUCER_EPOCH
            | UNSUPPORTED_COMPRESSION_TYPE
            | INVALID_RECORD
    )
}

/// Whether a refusal speaks of the records in the batch. Others speak of the topic, of us or of the cluster.
pub fn speaks_of_records(code: i16) -> bool {
    matches!(
        code,
        MESSAGE_TOO_LARGE
            | RECORD_LIST_TOO_LARGE
            | INVALID_TIMESTAMP
            | UNSUPPORTED_FOR_MESSAGE_FORMAT
            | UNSUPPORTED_COMPRESSION_TYPE
            | INVALID_RECORD
    )
}

/// The one right action for an answer, given whether the batch is in doubt, in any version, and whether it can be cut in its lane:
/// it has several records, and no old one among them.
pub fn verdict(code: i16, in_doubt: bool, can_be_split: bool) -> Action {
    match code {
        NONE | DUPLICATE_SEQUENCE_NUMBER => Action::Delivered,

        UNKNOWN_TOPIC_OR_PARTITION
        | LEADER_NOT_AVAILABLE
        | NOT_LEADER_OR_FOLLOWER
        | BROKER_NOT_AVAILABLE
        | REPLICA_NOT_AVAILABLE
        | NETWORK_EXCEPTION
        | KAFKA_STORAGE_ERROR
        | LISTENER_NOT_FOUND
        | FENCED_LEADER_EPOCH
        | UNKNOWN_LEADER_EPOCH
        | UNKNOWN_TOPIC_ID
        | INCONSISTENT_TOPIC_ID
        | REBOOTSTRAP_REQUIRED => Action::RetryElsewhere,

        // 59: brokers before Kafka 2.5 say so where later ones accept any number.
        OUT_OF_ORDER_SEQUENCE_NUMBER | UNKNOWN_PRODUCER_ID => Action::OutOfSequence,
        INVALID_PRODUCER_EPOCH | PRODUCER_FENCED => Action::Fenced,

        MESSAGE_TOO_LARGE | RECORD_LIST_TOO_LARGE | INVALID_RECORD => match (can_be_split, in_doubt) {
            (true, _) => Action::Split,
            (false, false) => Action::GiveUp,
            // It may have been appended under a limit that was lowered since.
            (false, true) => Action::Settle,
        },
        INVALID_TIMESTAMP => Action::Restamp,
        UNSUPPORTED_COMPRESSION_TYPE => Action::Recompress,

        INVALID_TOPIC_EXCEPTION
        | INVALID_REQUIRED_ACKS
        | TOPIC_AUTHORIZATION_FAILED
        | CLUSTER_AUTHORIZATION_FAILED
        | UNSUPPORTED_SASL_MECHANISM
        | ILLEGAL_SASL_STATE
        | SASL_AUTHENTICATION_FAILED
        | UNSUPPORTED_VERSION
        | TOPIC_DELETION_DISABLED
        | INVALID_REPLICATION_FACTOR
        | INVALID_CONFIG
        | INVALID_REQUEST
        | UNSUPPORTED_FOR_MESSAGE_FORMAT
        | POLICY_VIOLATION
        | TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Action::Park,

        _ => Action::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_broker_says_before_it_appends_is_a_refusal() {
        let refusals: Vec<i16> = (-1..200).filter(|code| refuses(*code)).collect();
        assert_eq!(refusals, [10, 17, 18, 19, 21, 29, 32, 35, 42, 43, 45, 47, 76, 87]);
    }

    #[test]
    fn what_speaks_of_the_records_is_a_refusal_that_is_not_simply_retried() {
        let of_records: Vec<i16> = (-1..200).filter(|code| speaks_of_records(*code)).collect();
        assert_eq!(of_records, [10, 18, 32, 43, 76, 87]);
        let retried = |code| matches!(verdict(code, true, false), Action::Retry | Action::RetryElsewhere);
        assert!(of_records.iter().all(|code| refuses(*code) && !retried(*code)));
    }

    #[test]
    fn a_code_that_does_not_exist_yet_is_retried_and_in_doubt() {
        for code in [-1, 1000, i16::MIN, i16::MAX] {
            assert_eq!(verdict(code, false, true), Action::Retry);
            assert!(!refuses(code));
        }
    }

    #[test]
    fn every_code_has_its_action() {
        let by = |action| (-1..140).filter(move |code| verdict(*code, false, true) == action).collect::<Vec<i16>>();
        assert_eq!(by(Action::Delivered), [0, 46]);
        assert_eq!(by(Action::RetryElsewhere), [3, 5, 6, 8, 9, 13, 56, 72, 74, 75, 100, 103, 129]);
        assert_eq!(by(Action::OutOfSequence), [45, 59]);
        assert_eq!(by(Action::Fenced), [47, 90]);
        assert_eq!(by(Action::Split), [10, 18, 87]);
        assert_eq!(by(Action::Restamp), [32]);
        assert_eq!(by(Action::Recompress), [76]);
        assert_eq!(by(Action::Park), [17, 21, 29, 31, 33, 34, 35, 38, 40, 42, 43, 44, 53, 58, 73]);
    }

    #[test]
    fn what_is_refused_for_its_records_depends_on_doubt_and_on_whether_it_can_be_cut() {
        for code in [MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD] {
            assert_eq!(verdict(code, false, true), Action::Split);
            assert_eq!(verdict(code, true, true), Action::Split);
            assert_eq!(verdict(code, false, false), Action::GiveUp);
            assert_eq!(verdict(code, true, false), Action::Settle);
        }
    }

    /// The table for people: code, name, whether it leaves a doubt, and the action's name there.
    fn documented() -> Vec<(i16, &'static str, &'static str, &'static str)> {
        let rows = include_str!("../../docs/errors.md").lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let code = cells.next()?.trim().parse().ok()?;
            Some((code, cells.next()?.trim(), cells.next()?.trim(), cells.next()?.trim()))
        });
        rows.collect()
    }

    #[test]
    fn the_documentation_says_of_each_code_what_is_done() {
        let word = |code| match verdict(code, false, true) {
            Action::Delivered => "delivered",
            Action::Retry => "retry",
            Action::RetryElsewhere => "retry elsewhere",
            Action::OutOfSequence => "ladder",
            Action::Fenced => "fenced",
            Action::Split | Action::GiveUp | Action::Settle => "cut",
            Action::Restamp => "new time",
            Action::Recompress => "uncompressed",
            Action::Park => "park",
        };
        let documented = documented();
        assert!(documented.is_sorted_by(|a, b| a.0 < b.0));
        for (code, name, doubt, action) in &documented {
            assert_eq!((*name, *action), (crate::wire::codes::name(*code), word(*code)), "{code}");
            let leaves_doubt = if word(*code) == "delivered" {
                ""
            } else if refuses(*code) {
                "no"
            } else {
                "yes"
            };
            assert_eq!(*doubt, leaves_doubt, "{code}");
        }
        for code in (-1..200).filter(|code| documented.iter().all(|row| row.0 != *code)) {
            assert!(word(code) == "retry" && !refuses(code), "{code} is not in docs/errors.md");
        }
    }
}
