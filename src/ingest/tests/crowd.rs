use super::*;

const KIB: usize = 1024;
/// There is a crowd beyond a quarter of it.
const LIMIT: usize = 1024 * KIB;

fn crowded(config: &mut Config) {
    config.memory.limit = LIMIT;
}

/// Clients that have sent all but the end of a frame of 60 KiB, so many that there is a crowd; and what each has still to send.
async fn crowd(daemon: &Daemon) -> (Vec<Client>, Vec<u8>) {
    let bytes = dory("t", &"x".repeat(60 * KIB));
    let (first, end) = bytes.split_at(55 * KIB);
    let mut clients = Vec::new();
    while daemon.counters.frames_unfinished_bytes.get() <= LIMIT as u64 / 4 {
        let before = daemon.counters.bytes_read.get();
        let mut client = daemon.connect().await;
        client.send(first).await;
        until(|| daemon.counters.bytes_read.get() == before + first.len() as u64).await;
        clients.push(client);
    }
    (clients, end.to_vec())
}

#[tokio::test(start_paused = true)]
async fn in_a_crowd_nothing_is_read_of_a_frame_that_is_not_whole() {
    let daemon = Daemon::stream(|config, _, _| crowded(config));
    daemon.place("t", 1);
    let (_clients, _) = crowd(&daemon).await;
    let held = daemon.counters.frames_unfinished_bytes.get();
    let half = dory("t", "half");
    let (mut one, mut other) = (daemon.connect().await, daemon.connect().await);
    one.send(&[dory("t", "a"), dory("t", "b"), half[..20].to_vec()].concat()).await;
    other.send(&half[..3]).await;
    assert_eq!(daemon.take_when("t", 0, 2).await.values, ["a", "b"]);
    settle_down().await;
    assert_eq!(daemon.counters.frames_unfinished_bytes.get(), held);
    // However many pieces it comes in.
    for byte in &half[3..] {
        other.send(&[*byte]).await;
        settle_down().await;
    }
    one.send(&half[20..]).await;
    assert_eq!(daemon.take_when("t", 0, 2).await.values, ["half", "half"]);
    // The end, and what is no frame, are seen as ever.
    drop(one);
    other.send(&[0; 8]).await;
    assert_eq!(other.answer().await.unwrap().error_code, codes::INVALID_REQUEST);
    assert_eq!(daemon.counters.frames_unfinished_bytes.get(), held);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_does_not_go_on_is_sent_away_until_it_is_none() {
    let daemon = Daemon::stream(|config, _, _| crowded(config));
    daemon.place("t", 1);
    let (mut clients, end) = crowd(&daemon).await;
    let half = dory("t", "half");
    let mut left = daemon.connect().await;
    left.send(&half[..20]).await;
    settle_down().await;
    let (began, before) = (tokio::time::Instant::now(), daemon.counters.bytes_read.get());
    // One of them is enough, so that the others stay.
    while daemon.counters.frames_timed_out.get() == 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::advance(Duration::from_millis(100)).await;
        settle_down().await;
    }
    assert!(began.elapsed() >= Duration::from_secs(5));
    // What was left unread is read now, though the client has said no more.
    while daemon.counters.bytes_read.get() == before {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::advance(Duration::from_millis(100)).await;
        settle_down().await;
    }
    assert_eq!(daemon.counters.frames_timed_out.get(), 1);
    // It was the first to have begun; the others may still end what they have begun.
    assert_eq!(clients.remove(0).answer().await.unwrap().error_code, codes::REQUEST_TIMED_OUT);
    for client in &mut clients {
        client.send(&end).await;
        daemon.take_when("t", 0, 1).await;
    }
    left.send(&half[20..]).await;
    assert_eq!(daemon.take_when("t", 0, 1).await.values, ["half"]);
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_that_does_not_go_on_gives_its_turn_to_the_next() {
    let daemon = Daemon::stream(|config, _, _| crowded(config));
    daemon.place("t", 1);
    let bytes = dory("t", &"x".repeat(100 * KIB));
    let (mut slow, mut good) = (daemon.connect().await, daemon.connect().await);
    slow.send(&bytes[..70 * KIB]).await;
    until(|| daemon.counters.bytes_read.get() as usize == 70 * KIB).await;
    // Alone it would have a minute.
    tokio::time::advance(Duration::from_secs(20)).await;
    settle_down().await;
    assert_eq!(daemon.counters.frames_timed_out.get(), 0);
    let began = tokio::time::Instant::now();
    let (sent, taken) = tokio::join!(good.send(&bytes), async {
        assert_eq!(slow.answer().await.unwrap().error_code, codes::REQUEST_TIMED_OUT);
        daemon.take_when("t", 0, 1).await
    });
    let () = sent;
    assert_eq!(taken.values[0].len(), 100 * KIB);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn clients_that_take_no_answers_are_sent_away_when_they_are_a_crowd() {
    let daemon = Daemon::stream(|config, _, _| crowded(config));
    let mut versions = Vec::new();
    frame::query::encode_versions_request(&mut versions, 1);
    let questions = versions.repeat(1000);
    let mut clients = Vec::new();
    while daemon.counters.answers_unread_bytes.get() + daemon.counters.frames_unfinished_bytes.get() <= LIMIT as u64 / 4
    {
        let client = daemon.connect().await;
        // Until it is not read any more.
        while client.stream.try_write(&questions).is_ok() {
            settle_down().await;
        }
        clients.push(client);
        assert!(clients.len() < 100);
    }
    let began = tokio::time::Instant::now();
    while daemon.counters.answers_timed_out.get() == 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::advance(Duration::from_millis(100)).await;
        settle_down().await;
    }
    assert!(began.elapsed() >= Duration::from_secs(4));
    assert!(daemon.counters.connections_open.get() as usize >= clients.len() - 2);
    let mut good = daemon.connect().await;
    good.send(&versions).await;
    assert_eq!(good.answer().await.unwrap().correlation_id, 1);
}
