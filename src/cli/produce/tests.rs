use std::future;
use std::io::Write;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex};

use clap::Parser;
use tokio::sync::oneshot;

use super::exchange::{REQUEST_RECORDS_MAX, UNANSWERED_MAX};
use super::report::{End, Tally};
use super::*;
use crate::cli::signals::Interrupted;
use crate::ingest::frame::answer::encode_error;
use crate::ingest::frame::produce::Acks;
use crate::ingest::frame::{Limits, PRODUCE};
use crate::wire::codes;
use fake::{Daemon, acknowledge, answer};

mod fake;

const LIMITS: Limits = Limits { max_frame_size: 1 << 20, max_records_per_request: 10_000 };

fn options() -> Options {
    Options { topic: "t".to_owned(), partition: None, key: None, acks: Acks::All, timeout: None }
}

fn chunks_of(input: &[&[u8]]) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(input.len().max(1));
    for chunk in input {
        sender.try_send(Ok(chunk.to_vec())).unwrap();
    }
    receiver
}

async fn produce(stream: UnixStream, options: Options, input: &[&[u8]]) -> (Tally, End) {
    Exchange::new(options, |_| ()).run(stream, chunks_of(input), future::pending()).await
}

/// As many lines as were asked for, each with its number.
fn numbered(lines: usize) -> Vec<u8> {
    (1..=lines).flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

#[tokio::test]
async fn every_line_is_a_record_and_is_acknowledged() {
    let (daemon, stream) = Daemon::start(LIMITS, acknowledge);
    let progress = Mutex::new(Vec::new());
    let exchange = Exchange::new(options(), |count| progress.lock().unwrap().push(count));
    let (tally, end) = exchange.run(stream, chunks_of(&[&numbered(1200)]), future::pending()).await;
    assert!(matches!(end, End::Complete), "{end:?}");
    assert_eq!((tally.acknowledged, tally.refused, tally.unknown, tally.unsent_from), (1200, 0, 0, None));
    assert_eq!(*progress.lock().unwrap(), [500, 1000, 1200]);
    let seen = daemon.seen();
    assert_eq!(seen.len(), 1200);
    assert_eq!((&seen[0], &seen[1199]), (&(None, b"1".to_vec()), &(None, b"1200".to_vec())));
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
    let options = Options {
        topic: "audit".to_owned(),
        partition: Some(7),
        key: Some(b"k\xff".to_vec()),
        acks: Acks::All,
        timeout,
    };
    produce(stream, options, &[b"a\n"]).await;
    assert_eq!(*heads.lock().unwrap(), [("audit".to_owned(), Some(7), Acks::All, timeout)]);
    assert_eq!(daemon.seen(), [(Some(b"k\xff".to_vec()), b"a".to_vec())]);
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
    sender.try_send(Ok(b"first\n".to_vec())).unwrap();
    let mut sender = Some(sender);
    let (daemon, stream) = Daemon::start(LIMITS, move |n, request, out| {
        // The second line is typed only when the first has arrived; then the input ends.
        if let Some(sender) = sender.take() {
            sender.blocking_send(Ok(b"second\n".to_vec())).unwrap();
        }
        acknowledge(n, request, out)
    });
    let (tally, _) = Exchange::new(options(), |_| ()).run(stream, chunks, future::pending()).await;
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
    assert_eq!((failure.line, failure.code, failure.message.as_deref()), (501, 3, Some("no such topic")));
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
    assert_eq!((failure.line, failure.code, failure.message.as_deref()), (4, 10, Some("too large")));
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
    assert_eq!(tally.failure.unwrap().line, 2);
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
    sender.try_send(Ok(numbered(500))).unwrap();
    // The second request comes only after the answer to the first.
    let sender = Mutex::new(Some(sender));
    let exchange = Exchange::new(options(), |_| {
        if let Some(sender) = sender.lock().unwrap().take() {
            sender.try_send(Ok(b"one more\n".to_vec())).unwrap();
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
        assert!(matches!(end, End::LineTooLong { line: 3, limit: 200 }), "{end:?}");
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
async fn input_that_breaks_off_is_a_failure_after_the_records_before_it() {
    let (daemon, stream) = Daemon::start(LIMITS, acknowledge);
    let (sender, chunks) = mpsc::channel(2);
    sender.try_send(Ok(b"a\nb".to_vec())).unwrap();
    sender.try_send(Err(io::Error::other("the disk is gone"))).unwrap();
    let (tally, end) = Exchange::new(options(), |_| ()).run(stream, chunks, future::pending()).await;
    assert!(matches!(&end, End::Input(error) if error.to_string() == "the disk is gone"), "{end:?}");
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

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parse(line: &str) -> Result<Arguments, String> {
    let line = ["produce"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(line).map(|line| line.arguments).map_err(|error| error.to_string())
}

#[test]
fn arguments_have_defaults_and_are_checked() {
    let arguments = parse("-t audit").unwrap();
    assert_eq!(
        (arguments.acks, arguments.timeout, arguments.key, arguments.quiet),
        (super::Acks::All, None, None, false)
    );
    let arguments = parse("-s a.sock -t audit -p 3 -k key --acks 0 --timeout 5min -q lines.txt").unwrap();
    assert_eq!(arguments.socket, PathBuf::from("a.sock"));
    assert_eq!((arguments.partition, arguments.acks), (Some(3), super::Acks::None));
    assert_eq!((arguments.timeout, arguments.file), (Some(Duration::from_secs(300)), Some("lines.txt".into())));
    for (wrong, why) in [
        ("", "--topic"),
        ("-t a/b", "a topic's name is"),
        ("-t a -p -1", "-1"),
        ("-t a --acks 1", "possible values: all, 0"),
        ("-t a --timeout 30", "no unit; say 500ms, 30s, 5min or 1h"),
        ("-t a --timeout 0s", "nothing is acknowledged at once"),
        ("-t a --timeout 600h", "24 days at most"),
    ] {
        let error = parse(wrong).unwrap_err();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn input_is_read_in_chunks_to_its_end() {
    let (sender, mut chunks) = mpsc::channel(CHUNKS_MAX);
    let bytes = vec![7; CHUNK_BYTES + 1];
    read_all(&bytes[..], &sender);
    drop(sender);
    let mut read = Vec::new();
    while let Some(chunk) = chunks.blocking_recv() {
        read.extend(chunk.unwrap());
    }
    assert_eq!(read, bytes);
}
