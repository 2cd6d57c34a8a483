use super::*;

#[tokio::test]
async fn frames_are_served_in_whatever_pieces_they_come() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let mut random = fastrand::Rng::with_seed(3);
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for n in 0..400 {
        let value = format!("{n}:{}", "x".repeat(random.usize(..300)));
        bytes.extend(match n % 2 {
            0 => dory("t", &value),
            _ => request(n, Acks::None, "t", &[&value]),
        });
        values.push(value);
    }
    while !bytes.is_empty() {
        let rest = bytes.split_off(random.usize(1..2000).min(bytes.len()));
        client.send(&bytes).await;
        settle_down().await;
        bytes = rest;
    }
    assert_eq!(daemon.take_when("t", 0, 400).await.values, values);
    assert_eq!(daemon.router.budget().used(), 0, "no buffer between two reads");
}

#[tokio::test]
async fn a_frame_may_be_cut_at_every_byte() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let bytes = [request(1, Acks::None, "t", &["one"]), dory("t", "two")].concat();
    let mut sent = 0;
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        for part in [first, second] {
            client.send(part).await;
            sent += part.len() as u64;
            until(|| daemon.counters.bytes_read.get() == sent).await;
        }
        assert_eq!(daemon.take_when("t", 0, 2).await.values, ["one", "two"], "cut at {cut}");
    }
}

#[tokio::test]
async fn a_frame_larger_than_a_read_is_one_request_and_what_follows_it_is_too() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let large = "x".repeat(300_000);
    let bytes =
        [dory("t", "a"), request(1, Acks::None, "t", &[&large, "b"]), dory("t", "c"), dory("t", &large)].concat();
    let (sent, taken) = tokio::join!(client.send(&bytes), daemon.take_when("t", 0, 5));
    let () = sent;
    assert!(taken.values == ["a", &large, "b", "c", &large]);
    assert_eq!(daemon.counters.frames_unfinished_bytes.get(), 0);
    assert_eq!(daemon.router.budget().used(), 0);
}

fn header(size: i32, key: i16, version: i16) -> Vec<u8> {
    let mut bytes = size.to_be_bytes().to_vec();
    bytes.extend(key.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes
}

/// `bytes` with the ones from `at` on replaced.
fn with(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[tokio::test]
async fn a_malformed_frame_is_answered_last_and_what_stood_before_it_is_safe() {
    let sound = request(5, Acks::None, "t", &["v"]);
    let size = sound.len() as i32;
    let malformed = [
        (header(0, 0, 0), -1, codes::INVALID_REQUEST),
        (header(-5, 512, 0), -1, codes::INVALID_REQUEST),
        (header(i32::MAX, 256, 0), -1, codes::MESSAGE_TOO_LARGE),
        (header(100, 300, 0), -1, codes::UNSUPPORTED_VERSION),
        (header(100, -1, 0), -1, codes::UNSUPPORTED_VERSION),
        (header(8, 512, 0), -1, codes::INVALID_REQUEST),
        (with(sound.clone(), 6, &[0, 1]), 5, codes::UNSUPPORTED_VERSION),
        (with([&sound[..], &[0]].concat(), 0, &(size + 1).to_be_bytes()), 5, codes::INVALID_REQUEST),
        (with([&sound[..size as usize - 1]].concat(), 0, &(size - 1).to_be_bytes()), 5, codes::INVALID_REQUEST),
        (with(dory("t", "v"), 8, &[0, 1]), -1, codes::INVALID_REQUEST),
    ];
    for (n, (bad, correlation_id, code)) in malformed.into_iter().enumerate() {
        let daemon = Daemon::stream(|_, _, _| ());
        daemon.place("t", 1);
        let mut client = daemon.connect().await;
        let behind = dory("t", "behind");
        client.send(&[request(1, Acks::All, "t", &["before"]), bad, behind].concat()).await;
        let taken = daemon.take_when("t", 0, 1).await;
        assert_eq!(taken.values, ["before"], "case {n}");
        taken.deliver(0, 3);
        assert_eq!(client.answer().await.unwrap().correlation_id, 1, "case {n}");
        let last = client.answer().await.unwrap();
        assert_eq!((last.correlation_id, last.error_code), (correlation_id, code), "case {n}: {last:?}");
        assert_eq!(client.answer().await, None, "case {n}");
        assert_eq!(daemon.counters.frames_malformed.get(), 1);
        drop(client);
        until(|| daemon.counters.connections_open.get() == 0).await;
        assert!(daemon.take("t", 0).values.is_empty(), "case {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_malformed_frame_earlier_answers_are_waited_for_but_not_for_ever() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let began = tokio::time::Instant::now();
    client.send(&[request(1, Acks::All, "t", &["never settled"]), header(3, 0, 0)].concat()).await;
    let taken = daemon.take_when("t", 0, 1).await;
    let mut end = Vec::new();
    client.stream.read_to_end(&mut end).await.unwrap();
    let Decoded::Frame { frame, len } = next_answer(&end, 1 << 20) else { panic!("{end:?}") };
    assert_eq!((frame.correlation_id, len), (-1, end.len()));
    assert!(began.elapsed() >= Duration::from_secs(30));
    taken.deliver(0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_go_on_ends_its_connection() {
    let daemon = Daemon::stream(|_, _, limits| limits.frame_timeout = Duration::from_secs(5));
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let began = tokio::time::Instant::now();
    client.send(&[dory("t", "whole"), request(77, Acks::All, "t", &["half"])[..30].to_vec()].concat()).await;
    let told = client.answer().await.unwrap();
    assert_eq!((told.api_key, told.correlation_id, told.error_code), (512, 77, codes::REQUEST_TIMED_OUT));
    assert_eq!(client.answer().await, None);
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(daemon.counters.frames_timed_out.get(), 1);
    assert_eq!(daemon.take_when("t", 0, 1).await.values, ["whole"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays_open() {
    let daemon = Daemon::stream(|_, _, limits| limits.frame_timeout = Duration::from_secs(5));
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    client.send(&dory("t", "a")).await;
    daemon.take_when("t", 0, 1).await;
    tokio::time::advance(Duration::from_secs(100_000)).await;
    client.send(&dory("t", "b")).await;
    assert_eq!(daemon.take_when("t", 0, 1).await.values, ["b"]);
}

#[tokio::test]
async fn a_client_that_ends_within_a_frame_is_counted_and_its_whole_frames_are_safe() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    client.send(&[dory("t", "a"), dory("t", "b")[..20].to_vec()].concat()).await;
    drop(client);
    until(|| daemon.counters.frames_cut.get() == 1).await;
    assert_eq!(daemon.take_when("t", 0, 1).await.values, ["a"]);
    until(|| daemon.counters.connections_open.get() == 0).await;
    assert_eq!(daemon.router.budget().used(), 0);
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_and_no_other() {
    let daemon = Daemon::stream(|_, _, _| ());
    daemon.place("t", 1);
    let (mut one, mut other) = (daemon.connect().await, daemon.connect().await);
    one.send(&request(1, Acks::All, PANIC_TOPIC, &["v"])).await;
    assert_eq!(one.answer().await, None);
    assert_eq!((daemon.counters.connections_panicked.get(), daemon.counters.connections_open.get()), (1, 1));
    other.send(&dory("t", "still here")).await;
    daemon.take_when("t", 0, 1).await;
    assert_eq!(daemon.router.budget().used(), 0);
}
