use super::super::frame::query::{encode_metadata_request, encode_versions_request};
use super::*;

fn versions(correlation_id: i32) -> Vec<u8> {
    let mut out = Vec::new();
    encode_versions_request(&mut out, correlation_id);
    out
}

#[tokio::test]
async fn a_request_is_answered_when_its_records_are_delivered() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    client.send(&request(9, Acks::All, "t", &["a", "b"])).await;
    let taken = daemon.take_when("t", 0, 2).await;
    assert_eq!((taken.values.join(" "), &taken.timestamps[..]), ("a b".to_owned(), &[NOW, NOW][..]));
    taken.deliver(0, 70);
    let told = client.answer().await.unwrap();
    assert_eq!((told.api_key, told.correlation_id, told.error_code), (frame::PRODUCE, 9, 0));
    let of = |offset| RecordResult { error_code: 0, partition: 0, offset };
    assert_eq!(told.results, [of(70), of(71)]);
    drop(client);
    daemon.closing.cancel();
    daemon.ends().await;
    assert_eq!(daemon.router.budget().used(), 0);
    assert_eq!(daemon.ledger.balance().accepted, 2);
}

#[tokio::test]
async fn answers_come_as_their_requests_are_settled_not_as_they_came() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    for id in 1..=3 {
        client.send(&request(id, Acks::All, "t", &["v"])).await;
    }
    let mut taken = daemon.take_when("t", 0, 3).await;
    for (place, id) in [(1, 2), (1, 3), (0, 1)] {
        let mark = taken.marks.remove(place);
        mark.receipt.settle(Outcome::Delivered { partition: 0, base_offset: 0 });
        assert_eq!(client.answer().await.unwrap().correlation_id, id);
    }
}

#[tokio::test]
async fn nothing_with_acks_0_is_answered() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let refused = request(2, Acks::None, "no such name", &["v"]);
    client.send(&[request(1, Acks::None, "t", &["v"]), refused, dory("t", "v"), versions(3)].concat()).await;
    daemon.take_when("t", 0, 2).await.deliver(0, 0);
    let told = client.answer().await.unwrap();
    assert_eq!((told.api_key, told.correlation_id), (frame::VERSIONS, 3));
    assert_eq!((daemon.counters.requests_refused.get(), daemon.counters.requests.get()), (1, 4));
}

#[tokio::test]
async fn a_refused_request_is_answered_and_the_connection_goes_on() {
    let daemon = Daemon::stream(|_, _, limits| limits.max_records_per_request = 2);
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let cases = [
        (request(1, Acks::All, "no such name", &["v"]), codes::INVALID_TOPIC_EXCEPTION),
        (request(1, Acks::All, "t", &["v", "v", "v"]), codes::RECORD_LIST_TOO_LARGE),
        (request(1, Acks::All, "t", &[]), codes::INVALID_REQUEST),
    ];
    for (bytes, code) in cases {
        client.send(&bytes).await;
        let told = client.answer().await.unwrap();
        assert_eq!((told.correlation_id, told.error_code, told.results.len()), (1, code, 0));
    }
    let mut nowhere = request(2, Acks::All, "t", &["v"]);
    // Partition 9, which the topic does not have.
    let at = nowhere.len() - (4 + 8 + 4 + 4 + 1 + 2) - 4;
    nowhere[at..at + 4].copy_from_slice(&9i32.to_be_bytes());
    client.send(&nowhere).await;
    let told = client.answer().await.unwrap();
    assert_eq!(told.error_code, codes::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(told.results, [RecordResult { error_code: 3, partition: 9, offset: -1 }]);
    assert_eq!(daemon.ledger.balance().accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_times_out_is_answered_once_with_what_is_known() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let began = tokio::time::Instant::now();
    client.send(&timed(4, Acks::All, Some(Duration::from_millis(1500)), "t", &["settled", "open"])).await;
    let mut taken = daemon.take_when("t", 0, 2).await;
    let mut first = taken.marks.remove(0).receipt;
    let second = first.split_off(1).unwrap();
    first.settle(Outcome::Delivered { partition: 0, base_offset: 8 });
    let told = client.answer().await.unwrap();
    assert_eq!(began.elapsed().as_millis(), 1500);
    assert_eq!((told.correlation_id, told.error_code), (4, codes::REQUEST_TIMED_OUT));
    assert!(told.message.unwrap().contains("1500 ms"));
    let of = |error_code, partition, offset| RecordResult { error_code, partition, offset };
    assert_eq!(told.results, [of(0, 0, 8), of(codes::REQUEST_TIMED_OUT, -1, -1)]);
    assert_ne!(daemon.router.budget().used(), 0, "the request is held for as long as its record is");
    second.settle(Outcome::Delivered { partition: 0, base_offset: 9 });
    until(|| daemon.router.budget().used() == 0).await;
    client.send(&versions(5)).await;
    assert_eq!(client.answer().await.unwrap().correlation_id, 5, "there is no second answer");
    assert_eq!(daemon.counters.requests_timed_out.get(), 1);
}

#[tokio::test]
async fn a_client_that_has_sent_all_gets_its_answers_and_then_the_end() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    client.send(&request(1, Acks::All, "t", &["v"])).await;
    soon(client.stream.shutdown()).await.unwrap();
    let taken = daemon.take_when("t", 0, 1).await;
    settle_down().await;
    taken.deliver(0, 1);
    assert_eq!(client.answer().await.unwrap().correlation_id, 1);
    assert_eq!(client.answer().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_gone_is_not_kept_until_its_answers_are_there() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    client.send(&request(1, Acks::All, "t", &["v"])).await;
    soon(client.stream.shutdown()).await.unwrap();
    let taken = daemon.take_when("t", 0, 1).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    settle_down().await;
    assert_eq!(daemon.counters.connections_open.get(), 1, "it only sends no more");
    drop(client);
    while daemon.counters.connections_open.get() > 0 {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert_ne!(daemon.router.budget().used(), 0);
    drop(taken);
    assert_eq!(daemon.router.budget().used(), 0);
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_stops_itself_alone() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let question = versions(1).repeat(1000);
    let mut sent = 0;
    // Until neither side moves: its socket takes no more, and the daemon reads no more.
    let mut idle = 0;
    while idle < 1000 {
        match client.stream.try_write(&question[sent % question.len()..]) {
            Ok(count) => (sent, idle) = (sent + count, 0),
            Err(_) => idle += 1,
        }
        tokio::task::yield_now().await;
    }
    assert!(daemon.counters.bytes_read.get() > 0);
    assert!(daemon.router.budget().used() < 256 * 1024, "{}", daemon.router.budget().used());
    let mut other = daemon.connect().await;
    other.send(&request(1, Acks::All, "t", &["v"])).await;
    daemon.take_when("t", 0, 1).await.deliver(0, 0);
    assert_eq!(other.answer().await.unwrap().correlation_id, 1);
    // It reads after all: nothing is missing.
    soon(client.stream.shutdown()).await.unwrap();
    let mut answers = 0;
    while client.answer().await.is_some() {
        answers += 1;
    }
    assert_eq!(answers, sent / versions(1).len());
    assert_eq!(daemon.router.budget().used(), 0);
}

#[tokio::test]
async fn beyond_the_limit_of_unanswered_requests_nothing_is_read() {
    for by_size in [false, true] {
        let daemon = Daemon::stream(|_, _, limits| match by_size {
            true => limits.max_unanswered_size = 250,
            false => limits.max_unanswered_requests = 3,
        });
        daemon.place("t", 1);
        let mut client = daemon.connect().await;
        let bytes: Vec<u8> = (0..5).flat_map(|id| request(id, Acks::All, "t", &["v"])).collect();
        client.send(&bytes).await;
        let mut taken = daemon.take_when("t", 0, 3).await;
        settle_down().await;
        assert!(daemon.take("t", 0).values.is_empty());
        let second = taken.marks.remove(1);
        second.receipt.settle(Outcome::Delivered { partition: 0, base_offset: 0 });
        assert_eq!(client.answer().await.unwrap().correlation_id, 1);
        let fourth = daemon.take_when("t", 0, 1).await;
        settle_down().await;
        assert!(daemon.take("t", 0).values.is_empty());
        taken.deliver(0, 1);
        fourth.deliver(0, 2);
        daemon.take_when("t", 0, 1).await.deliver(0, 3);
        let mut told = Vec::new();
        while told.len() < 4 {
            told.push(client.answer().await.unwrap().correlation_id);
        }
        told.sort_unstable();
        assert_eq!(told, [0, 2, 3, 4]);
    }
}

#[tokio::test]
async fn a_listener_that_closes_reads_no_more_and_answers_what_is_open() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let (mut idle, mut waiting) = (daemon.connect().await, daemon.connect().await);
    waiting.send(&request(1, Acks::All, "t", &["v"])).await;
    let taken = daemon.take_when("t", 0, 1).await;
    until(|| daemon.counters.connections_open.get() == 2).await;
    daemon.closing.cancel();
    assert_eq!(idle.answer().await, None);
    waiting.send(&request(2, Acks::All, "t", &["unread"])).await;
    taken.deliver(0, 0);
    assert_eq!(waiting.answer().await.unwrap().correlation_id, 1);
    daemon.ends().await;
    assert!(daemon.take("t", 0).values.is_empty());
    assert!(!daemon.path().exists());
}

#[tokio::test]
async fn at_the_end_what_is_open_is_answered_as_unknown() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    client.send(&request(1, Acks::All, "t", &["v"])).await;
    let taken = daemon.take_when("t", 0, 1).await;
    daemon.closing.cancel();
    daemon.stop.cancel();
    let told = client.answer().await.unwrap();
    assert_eq!((told.correlation_id, told.error_code), (1, codes::UNKNOWN_SERVER_ERROR));
    assert_eq!(client.answer().await, None);
    daemon.ends().await;
    drop(taken);
    assert_eq!(daemon.router.budget().used(), 0);
}

#[tokio::test]
async fn metadata_tells_what_is_known_and_no_more_than_fits_in_a_frame() {
    let daemon = Daemon::stream(|_, listener, _| listener.max_frame_size = 2000);
    daemon.place("t", 2);
    daemon.place("u", 1);
    daemon.router.topics().find_or_create("not-yet").unwrap();
    let mut client = daemon.connect().await;
    let mut ask = async |names: &[&str]| {
        let mut out = Vec::new();
        encode_metadata_request(&mut out, 6, names).unwrap();
        client.send(&out).await;
        let mut buffer = [0; 4096];
        let count = soon(client.stream.read(&mut buffer)).await.unwrap();
        let Decoded::Frame { frame, .. } = next_answer(&buffer[..count], 4096) else { panic!("one answer") };
        let AnswerBody::Metadata(topics) = frame.body else { return (frame.error_code, vec![]) };
        let of = |topic: answer::TopicMetadata<'_>| {
            let partitions = topic.partitions.iter().map(|one| (one.error_code, one.id)).collect::<Vec<_>>();
            (topic.error_code, String::from_utf8(topic.name.to_vec()).unwrap(), partitions)
        };
        (frame.error_code, topics.into_iter().map(of).collect())
    };
    let (t, u) = ((0, "t".to_owned(), vec![(5, 0), (5, 1)]), (0, "u".to_owned(), vec![(5, 0)]));
    let (code, mut all) = ask(&[]).await;
    all.sort();
    assert_eq!((code, all), (0, vec![t.clone(), u]));
    let unknown = |code, name: &str| (code, name.to_owned(), vec![]);
    let expected = vec![unknown(3, "not-yet"), t, unknown(3, "never"), unknown(17, "a b")];
    assert_eq!(ask(&["not-yet", "t", "never", "a b"]).await, (0, expected));
    let topics = daemon.router.topics();
    assert!(topics.find("never").is_some(), "the cluster is asked for it");
    assert!(topics.find("a b").is_none());
    assert_eq!(ask(&["t"; 300]).await, (codes::RECORD_LIST_TOO_LARGE, vec![]));
}
