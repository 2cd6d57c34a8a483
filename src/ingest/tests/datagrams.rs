use super::*;
use tokio::net::UnixDatagram;

fn listener(change: impl FnOnce(&mut Config, &mut Listener)) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::datagram(directory.path().join("s"));
    let mut config = Config::default();
    change(&mut config, &mut listener);
    Daemon::start(directory, config, &listener)
}

#[tokio::test]
async fn a_datagram_is_a_record() {
    let daemon = listener(|_, _| ());
    daemon.place("t", 1);
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(&dory("t", "hi"), daemon.path()).await.unwrap();
    client.send_to(&dory("t", "ho"), daemon.path()).await.unwrap();
    let taken = daemon.take_when("t", 0, 2).await;
    assert_eq!((&taken.values[..], &taken.timestamps[..]), (&["hi".to_owned(), "ho".to_owned()][..], &[5, 5][..]));
    assert_eq!(daemon.counters.datagrams.get(), 2);
    daemon.closing.cancel();
    daemon.ends().await;
    assert_eq!(daemon.router.budget().used(), 0);
    assert!(!daemon.path().exists());
}

#[tokio::test]
async fn what_is_no_message_is_dropped_and_counted() {
    let daemon = listener(|_, listener| listener.max_frame_size = 100);
    daemon.place("t", 1);
    let client = UnixDatagram::unbound().unwrap();
    let sound = dory("t", "v");
    let malformed = [
        vec![],
        vec![0; 3],
        sound[..sound.len() - 1].to_vec(),
        [sound.clone(), vec![0]].concat(),
        [sound.clone(), sound.clone()].concat(),
        request(1, Acks::None, "t", &["v"]),
    ];
    for bytes in &malformed {
        soon(client.send_to(bytes, daemon.path())).await.unwrap();
    }
    let whole = dory("t", &"x".repeat(100 - (sound.len() - 1)));
    assert_eq!(whole.len(), 100);
    let truncated = dory("t", &"x".repeat(1000));
    let refused = dory("no such name", "v");
    for bytes in [&truncated, &refused, &whole] {
        soon(client.send_to(bytes, daemon.path())).await.unwrap();
    }
    daemon.take_when("t", 0, 1).await;
    let counters = &daemon.counters;
    assert_eq!(counters.datagrams_malformed.get(), malformed.len() as u64);
    assert_eq!((counters.datagrams_truncated.get(), counters.requests_refused.get()), (1, 1));
    assert_eq!(counters.datagrams.get(), 1);
}

#[tokio::test]
async fn without_room_in_memory_the_sender_waits() {
    let daemon = listener(|config, _| config.memory.limit = 100 * 1024);
    daemon.place("t", 1);
    daemon.router.budget().charge(100 * 1024);
    let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // The kernel keeps a few.
    while client.send_to(&dory("t", "v"), daemon.path()).is_ok() {
        sent += 1;
        settle_down().await;
    }
    assert!(sent > 0);
    assert_eq!(daemon.counters.datagrams.get(), 0);
    daemon.router.budget().release(100 * 1024);
    daemon.take_when("t", 0, sent).await;
}

#[tokio::test]
async fn with_a_topic_that_rejects_datagrams_are_read_though_memory_is_full() {
    let daemon = listener(|config, _| {
        config.memory.limit = 100 * 1024;
        config.producer.full = FullPolicy::Reject;
    });
    daemon.place("t", 1);
    daemon.router.budget().charge(100 * 1024);
    let client = UnixDatagram::unbound().unwrap();
    for _ in 0..2000 {
        soon(client.send_to(&dory("t", "v"), daemon.path())).await.unwrap();
    }
    until(|| daemon.ledger.balance().dropped.iter().any(|(_, records)| *records == 2000)).await;
}
