use std::future;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::cut::Cut;
use super::exchange::UNANSWERED_MAX;
use super::input::{CHUNK_BYTES, Chunk, InputError};
use super::report::{End, Place, Tally};
use super::request::{Options, OwnedHeader, REQUEST_RECORDS_MAX};
use super::*;
use crate::cli::signals::Interrupted;
use crate::ingest::frame::answer::{encode_error, encode_produce_answer};
use crate::ingest::frame::produce::Acks;
use crate::ingest::frame::{Limits, PRODUCE};
use crate::queue::receipt::RecordResult;
use crate::wire::codes;
use fake::{Daemon, acknowledge, answer};

mod fake;

const LIMITS: Limits = Limits { max_frame_size: 1 << 20, max_records_per_request: 10_000 };

fn options() -> Options {
    Options {
        topic: "t".to_owned(),
        partition: None,
        key: None,
        key_delimiter: None,
        empty_is_null: false,
        headers: vec![],
        acks: Acks::All,
        timeout: None,
    }
}

fn lines() -> Cut {
    Cut::At(b"\n".to_vec())
}

fn bytes(bytes: &[u8]) -> Result<Chunk, InputError> {
    Ok(Chunk::Bytes(bytes.to_vec()))
}

fn chunks_of(input: &[&[u8]]) -> mpsc::Receiver<Result<Chunk, InputError>> {
    let (sender, receiver) = mpsc::channel(input.len().max(1));
    for chunk in input {
        sender.try_send(bytes(chunk)).unwrap();
    }
    receiver
}

async fn produce(stream: UnixStream, options: Options, input: &[&[u8]]) -> (Tally, End) {
    Exchange::new(options, lines(), |_, _| ()).run(stream, chunks_of(input), future::pending()).await
}

/// As many lines as were asked for, each with its number.
fn numbered(lines: usize) -> Vec<u8> {
    (1..=lines).flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

#[tokio::test]
async fn every_line_is_a_record_and_is_acknowledged() {
    let (daemon, stream) = Daemon::start(LIMITS, acknowledge);
    let progress = Mutex::new(Vec::new());
    let exchange = Exchange::new(options(), lines(), |count, of| progress.lock().unwrap().push((count, of)));
    let (tally, end) = exchange.run(stream, chunks_of(&[&numbered(1200)]), future::pending()).await;
    assert!(matches!(end, End::Complete), "{end:?}");
    assert_eq!((tally.acknowledged, tally.refused, tally.unknown, tally.unsent_from), (1200, 0, 0, None));
    assert_eq!(*progress.lock().unwrap(), [(0, 500), (0, 1000), (0, 1200), (500, 1200), (1000, 1200), (1200, 1200)]);
    let seen = daemon.seen();
    assert_eq!(seen.len(), 1200);
    assert_eq!((&seen[0], &seen[1199]), (&(None, Some(b"1".to_vec())), &(None, Some(b"1200".to_vec()))));
}

#[tokio::test]
async fn no_input_is_no_failure() {
    let (daemon, stream) = Daemon::start(LIMITS, acknowledge);
    let (tally, end) = produce(stream, options(), &[]).await;
    assert!(matches!(end, End::Complete), "{end:?}");
    assert_eq!((tally.acknowledged, daemon.seen().len()), (0, 0));
}

#[tokio::test]
async fn empty_lines_binary_bytes_and_a_last_line_without_its_end_are_records() {
    let (daemon, stream) = Daemon::start(LIMITS, acknowledge);
    let (tally, _) = produce(stream, options(), &[b"a\n\n\xff\0\r", b"\xfe\nlast"]).await;
    assert_eq!(tally.acknowledged, 4);
    assert_eq!(daemon.values(), [&b"a"[..], b"", b"\xff\0\r\xfe", b"last"]);
}

#[tokio::test]
async fn the_request_says_what_the_arguments_say() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let (daemon, stream) = Daemon::start(LIMITS, move |n, request, out| {
        let topic = request.topic.as_str().to_owned();
        kept.lock().unwrap().push((topic, request.partition, request.acks, request.timeout));
        acknowledge(n, request, out)
    });
    let timeout = Some(Duration::from_secs(30));
    let options =
        Options { topic: "audit".to_owned(), partition: Some(7), key: Some(b"k\xff".to_vec()), timeout, ..options() };
    produce(stream, options, &[b"a\n"]).await;
    assert_eq!(*heads.lock().unwrap(), [("audit".to_owned(), Some(7), Acks::All, timeout)]);
    assert_eq!(daemon.seen(), [(Some(b"k\xff".to_vec()), Some(b"a".to_vec()))]);
}

#[tokio::test]
async fn many_requests_are_under_way_before_the_first_answer() {
    let mut held = Vec::new();
    let (daemon, stream) = Daemon::start(LIMITS, move |n, request, out| {
        // Answers in the opposite order, as they may come in any.
        let mut own = Vec::new();
        acknowledge(n, request, &mut own);
        held.splice(0..0, own);
        if n + 1 == UNANSWERED_MAX {
            out.append(&mut held);
        }
        true
    });
    let (tally, end) = produce(stream, options(), &[&numbered(UNANSWERED_MAX * REQUEST_RECORDS_MAX)]).await;
    assert!(matches!(end, End::Complete), "{end:?}");
    assert_eq!(tally.acknowledged, daemon.seen().len() as u64);
}

#[tokio::test]
async fn input_that_comes_slowly_is_sent_as_it_comes() {
    let (sender, chunks) = mpsc::channel(1);
    sender.try_send(bytes(b"first\n")).unwrap();
    let mut sender = Some(sender);
    let (daemon, stream) = Daemon::start(LIMITS, move |n, request, out| {
        // The second line is typed only when the first has arrived; then the input ends.
        if let Some(sender) = sender.take() {
            sender.blocking_send(bytes(b"second\n")).unwrap();
        }
        acknowledge(n, request, out)
    });
    let (tally, _) = Exchange::new(options(), lines(), |_, _| ()).run(stream, chunks, future::pending()).await;
    assert_eq!(tally.acknowledged, 2);
    assert_eq!(daemon.values(), [b"first".to_vec(), b"second".to_vec()]);
}

#[tokio::test]
async fn a_refused_request_stops_the_input_and_tells_its_line() {
    let (daemon, stream) = Daemon::start(LIMITS, |n, request, out| {
        if n == 1 {
            let code = codes::UNKNOWN_TOPIC_OR_PARTITION;
            encode_error(out, PRODUCE, 0, request.correlation_id, code, "no such topic");
            return true;
        }
        acknowledge(n, request, out)
    });
    let input = numbered(100 * 1000);
    let chunks: Vec<_> = input.chunks(CHUNK_BYTES).collect();
    let (tally, end) = produce(stream, options(), &chunks).await;
    assert!(matches!(end, End::Complete), "{end:?}");
    let failure = tally.failure.unwrap();
    assert_eq!((failure.record, failure.code, failure.message.as_deref()), (501, 3, Some("no such topic")));
    assert_eq!(tally.refused, 500);
    // Whatever was under way is acknowledged, and then it stops.
    let seen = daemon.seen().len() as u64;
    assert_eq!(tally.acknowledged, seen - 500);
    assert_eq!(tally.unsent_from, Some(seen + 1));
}

#[tokio::test]
async fn of_a_request_that_failed_in_part_each_record_counts_for_itself() {
    let (daemon, stream) = Daemon::start(LIMITS, |_, request, out| {
        let codes = [0, -1, 7, codes::MESSAGE_TOO_LARGE, codes::MESSAGE_TOO_LARGE, 0];
        answer(request, &codes, Some((codes::MESSAGE_TOO_LARGE, "too large")), out);
        true
    });
    let (tally, _) = produce(stream, options(), &[&numbered(6)]).await;
    assert_eq!((tally.acknowledged, tally.unknown, tally.unsettled, tally.refused), (2, 1, 1, 2));
    let failure = tally.failure.unwrap();
    assert_eq!((failure.record, failure.code, failure.message.as_deref()), (4, 10, Some("too large")));
    drop(daemon);
}

#[tokio::test]
async fn what_had_no_answer_when_the_connection_was_lost_is_unknown() {
    let (daemon, stream) = Daemon::start(LIMITS, |n, request, out| match n {
        0 => acknowledge(n, request, out),
        _ => false,
    });
    let (tally, end) = produce(stream, options(), &[&numbered(800)]).await;
    assert!(matches!(&end, End::Lost(why) if why == "the daemon closed the connection"), "{end:?}");
    assert_eq!((tally.acknowledged, tally.unknown), (500, 300));
    drop(daemon);
}

#[tokio::test]
async fn the_last_word_of_a_connection_that_ends_is_heard() {
    let (daemon, stream) = Daemon::start(LIMITS, |_, request, out| {
        encode_error(out, PRODUCE, 0, request.correlation_id, codes::MESSAGE_TOO_LARGE, "too large");
        false
    });
    let (tally, _) = produce(stream, options(), &[b"a\n"]).await;
    assert_eq!((tally.refused, tally.failure.unwrap().code), (1, codes::MESSAGE_TOO_LARGE));
    drop(daemon);
}

#[tokio::test]
async fn an_answer_that_the_time_is_over_leaves_the_records_on_their_way() {
    let (daemon, stream) = Daemon::start(LIMITS, |_, request, out| {
        answer(request, &[0, 7, 7], Some((codes::REQUEST_TIMED_OUT, "not yet")), out);
        true
    });
    let (tally, _) = produce(stream, options(), &[&numbered(3)]).await;
    assert_eq!((tally.acknowledged, tally.unsettled), (1, 2));
    assert_eq!(tally.failure.unwrap().record, 2);
    drop(daemon);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_never_answers_is_given_up() {
    let (daemon, stream) = Daemon::start(LIMITS, |_, _, _| true);
    let options = Options { timeout: Some(Duration::from_secs(30)), ..options() };
    let (tally, end) = produce(stream, options, &[&numbered(3)]).await;
    assert!(matches!(end, End::TimedOut), "{end:?}");
    assert_eq!(tally.acknowledged, 0);
    drop(daemon);
}

#[tokio::test]
async fn a_signal_ends_it_and_tells_what_is_known() {
    let (signal, interrupted) = oneshot::channel();
    let mut signal = Some(signal);
    let (daemon, stream) = Daemon::start(LIMITS, move |n, request, out| {
        if n == 0 {
            return acknowledge(n, request, out);
        }
        let _ = signal.take().unwrap().send(Interrupted::Interrupt);
        true
    });
    let (sender, chunks) = mpsc::channel(2);
    sender.try_send(bytes(&numbered(500))).unwrap();
    // The second request comes only after the answer to the first.
    let sender = Mutex::new(Some(sender));
    let exchange = Exchange::new(options(), lines(), |acknowledged, _| {
        if acknowledged == 0 {
            return;
        }
        if let Some(sender) = sender.lock().unwrap().take() {
            sender.try_send(bytes(b"one more\n")).unwrap();
        }
    });
    let (tally, end) = exchange.run(stream, chunks, async { interrupted.await.unwrap() }).await;
    assert!(matches!(end, End::Interrupted(Interrupted::Interrupt)), "{end:?}");
    assert_eq!((tally.acknowledged, tally.unknown), (500, 1));
    drop(daemon);
}

#[tokio::test]
async fn a_line_that_fits_in_no_frame_is_told_by_its_number() {
    let limits = Limits { max_frame_size: 200, ..LIMITS };
    for end_of_line in ["\n", ""] {
        let (daemon, stream) = Daemon::start(limits, acknowledge);
        let long = "x".repeat(300) + end_of_line;
        let (tally, end) = produce(stream, options(), &[b"a\nb\n", long.as_bytes()]).await;
        assert!(matches!(end, End::TooLong { record: 3, limit: 200 }), "{end:?}");
        assert_eq!((tally.acknowledged, tally.unsent_from), (2, Some(3)));
        assert_eq!(daemon.values(), [b"a", b"b"]);
    }
}

#[tokio::test]
async fn a_small_limit_makes_small_requests() {
    let limits = Limits { max_frame_size: 100, max_records_per_request: 2 };
    let (daemon, stream) = Daemon::start(limits, acknowledge);
    let (tally, end) = produce(stream, options(), &[&numbered(1000)]).await;
    assert!(matches!(end, End::Complete), "{end:?}");
    assert_eq!((tally.acknowledged, daemon.seen().len()), (1000, 1000));
}

#[tokio::test]
async fn without_acknowledgements_it_is_over_when_the_daemon_has_read_all() {
    let (daemon, stream) = Daemon::start(LIMITS, |_, request, _| {
        assert_eq!(request.acks, Acks::None);
        true
    });
    let options = Options { acks: Acks::None, ..options() };
    let (tally, end) = produce(stream, options, &[&numbered(100_000)]).await;
    assert!(matches!(end, End::Complete), "{end:?}");
    assert_eq!((tally.acknowledged, daemon.seen().len()), (100_000, 100_000));
}

#[tokio::test]
async fn what_is_asked_to_be_stored_is_done_with_the_answers_that_say_so() {
    let (daemon, stream) = Daemon::start(LIMITS, |number, request, out| {
        assert_eq!(request.acks, Acks::Stored);
        acknowledge(number, request, out)
    });
    let (tally, end) = produce(stream, Options { acks: Acks::Stored, ..options() }, &[&numbered(500)]).await;
    assert_eq!((matches!(end, End::Complete), tally.acknowledged, daemon.seen().len()), (true, 500, 500));
}

#[tokio::test]
async fn what_a_failing_disk_does_not_store_is_still_on_its_way() {
    let (_daemon, stream) = Daemon::start(LIMITS, |_, request, out| {
        answer(request, &[codes::KAFKA_STORAGE_ERROR; 2], Some((codes::KAFKA_STORAGE_ERROR, "the disk fails")), out);
        true
    });
    let (tally, end) = produce(stream, Options { acks: Acks::Stored, ..options() }, &[b"a\nb\n"]).await;
    assert_eq!((tally.acknowledged, tally.refused, tally.unsettled), (0, 0, 2), "{end:?}");
}

#[tokio::test]
async fn input_that_breaks_off_is_a_failure_after_the_records_before_it() {
    let (daemon, stream) = Daemon::start(LIMITS, acknowledge);
    let (sender, chunks) = mpsc::channel(2);
    sender.try_send(bytes(b"a\nb")).unwrap();
    let gone = InputError::Read("a.log".to_owned(), io::Error::other("the disk is gone"));
    sender.try_send(Err(gone)).unwrap();
    let (tally, end) = Exchange::new(options(), lines(), |_, _| ()).run(stream, chunks, future::pending()).await;
    assert!(matches!(&end, End::Input(error) if error.to_string() == "cannot read a.log: the disk is gone"), "{end:?}");
    assert_eq!(tally.unsent_from.unwrap(), tally.acknowledged + 1);
    drop(daemon);
}

#[tokio::test]
async fn a_socket_of_something_else_is_told() {
    for (words, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "no answer of forebay's: is it the socket of a stream listener?"),
        (b"", "before it said anything; are there max_connections clients already?"),
    ] {
        let (mut ours, theirs) = StdStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.write_all(words).unwrap();
        drop(ours);
        let (_, end) = produce(UnixStream::from_std(theirs).unwrap(), options(), &[b"a\n"]).await;
        assert!(matches!(&end, End::Lost(why) if why.ends_with(expected)), "{end:?}");
    }
}

#[tokio::test]
async fn whole_sources_are_records_and_one_that_is_too_large_is_told() {
    for (limits, sent) in [(LIMITS, 3), (Limits { max_frame_size: 1000, ..LIMITS }, 2)] {
        let (daemon, stream) = Daemon::start(limits, acknowledge);
        let (sender, chunks) = mpsc::channel(10);
        let large = bytes(&[b'x'; 2000]);
        for chunk in [bytes(b"a\nb\n"), Ok(Chunk::EndOfSource), Ok(Chunk::EndOfSource), large, Ok(Chunk::EndOfSource)] {
            sender.try_send(chunk).unwrap();
        }
        drop(sender);
        let exchange = Exchange::new(options(), Cut::Whole, |_, _| ());
        let (tally, end) = exchange.run(stream, chunks, future::pending()).await;
        assert_eq!((tally.acknowledged, daemon.values()[..2].to_vec()), (sent, vec![b"a\nb\n".to_vec(), vec![]]));
        assert_eq!(matches!(end, End::TooLong { record: 3, limit: 1000 }), sent == 2, "{end:?}");
        assert_eq!(tally.unsent_from, (sent == 2).then_some(3));
    }
}

#[tokio::test]
async fn headers_go_with_every_record_and_count_for_its_size() {
    let header =
        |name: &str, value: Option<&[u8]>| OwnedHeader { name: name.to_owned(), value: value.map(<[u8]>::to_owned) };
    let headers = vec![header("a", Some(b"1")), header("a", Some(b"")), header("b", None)];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let (daemon, stream) = Daemon::start(LIMITS, move |n, request, out| {
        let (mut records, mut headers) = (request.records(0), Vec::new());
        while records.next_record(&mut headers).is_some() {
            let owned = |h: &crate::record::Header<'_>| (h.name.to_vec(), h.value.map(<[u8]>::to_vec));
            kept.lock().unwrap().push(headers.iter().map(owned).collect::<Vec<_>>());
        }
        acknowledge(n, request, out)
    });
    let with_headers = Options { headers, ..options() };
    let (tally, _) = produce(stream, with_headers.clone(), &[b"x\ny\n"]).await;
    assert_eq!(tally.acknowledged, 2);
    let expected = vec![(b"a".to_vec(), Some(b"1".to_vec())), (b"a".to_vec(), Some(vec![])), (b"b".to_vec(), None)];
    assert_eq!(*seen.lock().unwrap(), [expected.clone(), expected]);
    drop(daemon);

    // 8 + 31 bytes stand before the records, 18 are a record's own, 22 are these headers, one is the value.
    for (max_frame_size, fits) in [(80, true), (79, false)] {
        let (_daemon, stream) = Daemon::start(Limits { max_frame_size, ..LIMITS }, acknowledge);
        let (tally, end) = produce(stream, with_headers.clone(), &[b"x\n"]).await;
        assert_eq!((tally.acknowledged == 1, matches!(end, End::Complete)), (fits, fits), "{max_frame_size}: {end:?}");
    }
}

#[tokio::test]
async fn places_of_the_records_are_kept_by_partition() {
    let (daemon, stream) = Daemon::start(LIMITS, |n, request, out| {
        let result = |offset| RecordResult { error_code: 0, partition: n as i32, offset };
        let results: Vec<_> = (0..i64::from(request.record_count)).map(|at| result(7 + at * 2)).collect();
        encode_produce_answer(out, request.correlation_id, None, &results).unwrap();
        true
    });
    let limits_two = numbered(501);
    let (tally, _) = produce(stream, options(), &[&limits_two]).await;
    let place = |records, offsets| Place { records, offsets };
    assert_eq!(tally.places.into_iter().collect::<Vec<_>>(), [(0, place(500, 7..=1005)), (1, place(1, 7..=7))]);
    drop(daemon);
}
