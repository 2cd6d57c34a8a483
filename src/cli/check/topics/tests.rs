use super::*;
use crate::cli::check::report::{Level, Report};

fn context() -> Context {
    Context { may_create: false, server: "k:9092".to_owned(), brokers: 3 }
}

fn topic(partitions: usize, copies: i32) -> Topic {
    let partition = |id: usize| Partition {
        id: id as i32,
        leader: 1,
        replicas: (1..=copies).collect(),
        in_sync: (1..=copies).collect(),
        ..Partition::default()
    };
    Topic {
        name: Some("t".to_owned()),
        partitions: (0..partitions).map(partition).collect(),
        authorized_operations: Some(Operations::ALL),
        ..Topic::default()
    }
}

/// The findings, and what the process would end with.
fn found(context: &Context, topic: &Topic, min_insync: MinInsync) -> (Vec<(Level, String)>, u8) {
    let findings = judge(context, "t", topic, &min_insync);
    let code = Report::new(findings.clone()).exit_code();
    let words = |finding: Finding| {
        assert_eq!(finding.remedy.is_none(), finding.level == Level::Ok, "{finding:?}");
        (finding.level, finding.message + &finding.remedy.map(|remedy| " → ".to_owned() + &remedy).unwrap_or_default())
    };
    (findings.into_iter().map(words).collect(), code)
}

#[track_caller]
fn expect(topic: &Topic, min_insync: MinInsync, level: Level, words: &[&str]) {
    let (findings, code) = found(&context(), topic, min_insync);
    let [(its, message)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((*its, code), (level, if level == Level::Error { 65 } else { 0 }), "{message}");
    for part in words {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn a_topic_that_is_as_it_should_be_is_told_in_one_line() {
    expect(
        &topic(12, 3),
        Ok(2),
        Level::Ok,
        &["t: 12 partitions, 3 copies each, min.insync.replicas 2, may be written"],
    );
    let untold = Topic { authorized_operations: None, ..topic(1, 3) };
    let (findings, _) = found(&context(), &untold, Ok(2));
    assert_eq!(findings[0].1, "t: 1 partitions, 3 copies each, min.insync.replicas 2");
}

#[test]
fn acknowledged_with_one_copy_is_warned_of() {
    expect(&topic(1, 3), Ok(1), Level::Warning, &["min.insync.replicas is 1", "--add-config min.insync.replicas=2"]);
    expect(&topic(1, 1), Ok(2), Level::Warning, &["t has one copy of each record", "three copies"]);
    expect(&topic(1, 1), Ok(1), Level::Warning, &["t has one copy of each record", "three copies"]);
    expect(
        &topic(1, 3),
        Ok(3),
        Level::Warning,
        &["3 of 3 copies: no broker that has one may be down", "min.insync.replicas=2"],
    );
    expect(&topic(1, 3), Err("denied".to_owned()), Level::Warning, &["is not known: denied", "DescribeConfigs"]);
}

#[test]
fn what_may_not_be_written_or_seen_is_an_error_with_the_grant() {
    let read_only = Topic { authorized_operations: Some(Operations(1 << 3 | 1 << 8)), ..topic(1, 3) };
    expect(&read_only, Ok(2), Level::Error, &["t may not be written", "kafka-acls.sh --bootstrap-server k:9092"]);
    let denied = Topic { error_code: codes::TOPIC_AUTHORIZATION_FAILED, ..Topic::default() };
    expect(&denied, Ok(2), Level::Error, &["(29)", "--operation Write", "--topic t"]);
    let strange = Topic { error_code: codes::INVALID_TOPIC_EXCEPTION, ..Topic::default() };
    expect(&strange, Ok(2), Level::Error, &["INVALID_TOPIC_EXCEPTION (17)"]);
}

#[test]
fn a_topic_that_does_not_exist_is_an_error_unless_it_would_be_made() {
    let missing = Topic { error_code: codes::UNKNOWN_TOPIC_OR_PARTITION, ..Topic::default() };
    expect(&missing, Ok(2), Level::Error, &["t does not exist", "--create --topic t"]);
    let (findings, code) = found(&Context { may_create: true, ..context() }, &missing, Ok(2));
    assert_eq!((findings[0].0, code), (Level::Warning, 0));
    assert!(findings[0].1.contains("the first record makes it"), "{findings:?}");
}

#[test]
fn partitions_that_take_no_records_now_are_named() {
    let mut leaderless = topic(12, 3);
    leaderless.partitions.iter_mut().skip(3).for_each(|partition| partition.leader = -1);
    expect(&leaderless, Ok(2), Level::Error, &["9 of 12 partitions have no leader: 3, 4, 5, 6, 7, …"]);
    let mut behind = topic(2, 3);
    behind.partitions[1].in_sync = vec![1, 2];
    expect(&behind, Ok(2), Level::Warning, &["1 of 2 partitions lack copies: 1"]);
    behind.partitions[1].in_sync = vec![1];
    expect(
        &behind,
        Ok(2),
        Level::Error,
        &["1 of 2 partitions have fewer copies in sync than min.insync.replicas (2) and take no records: 1"],
    );
}

#[test]
fn all_that_is_wrong_with_a_topic_is_told() {
    let read_only = Topic { authorized_operations: Some(Operations(0)), ..topic(1, 3) };
    let (findings, code) = found(&context(), &read_only, Ok(1));
    assert_eq!((findings.len(), code), (2, 65), "{findings:?}");
}

#[test]
fn a_setting_that_is_not_told_has_its_reason() {
    let told = |value: Option<&str>, error_code| {
        of_settings(&describe_configs::Topic {
            name: "t".to_owned(),
            error_code,
            error_message: None,
            settings: vec![(MIN_INSYNC_REPLICAS.to_owned(), value.map(str::to_owned))],
        })
    };
    assert_eq!(told(Some("2"), 0), Ok(2));
    assert_eq!(told(Some("two"), 0), Err("the broker does not tell it".to_owned()));
    assert_eq!(told(None, 0), Err("the broker does not tell it".to_owned()));
    assert_eq!(told(Some("2"), 29), Err("TOPIC_AUTHORIZATION_FAILED (29)".to_owned()));
}
