use super::*;

const KIB: usize = 1024;

#[tokio::test]
async fn when_memory_is_full_nothing_is_read_until_there_is_room() {
    let limit = 256 * KIB;
    let daemon = Daemon::stream(|config, _, _| config.memory.limit = limit);
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let total = 1000;
    let bytes: Vec<u8> = (0..total).flat_map(|n| dory("t", &format!("{n:01000}"))).collect();
    let writing = async { soon(client.stream.write_all(&bytes)).await.unwrap() };
    let mut values = Vec::new();
    let draining = async {
        while values.len() < total {
            // Until no more is read.
            let mut before = u64::MAX;
            while daemon.counters.bytes_read.get() != before {
                before = daemon.counters.bytes_read.get();
                settle_down().await;
            }
            let used = daemon.router.budget().used();
            assert!(used < limit + 32 * KIB, "{used}");
            let mut taken = daemon.take("t", 0);
            values.append(&mut taken.values);
            daemon.let_go(&mut taken);
        }
    };
    tokio::join!(writing, draining);
    assert!(values.iter().enumerate().all(|(n, value)| *value == format!("{n:01000}")));
}

#[tokio::test]
async fn a_topic_that_rejects_is_refused_and_one_that_blocks_waits() {
    let daemon = Daemon::stream(|config, _, _| {
        config.memory.limit = 100 * KIB;
        let rules = config.producer;
        config.producer.full = FullPolicy::Reject;
        config.topics.insert("blocks".parse().unwrap(), rules).unwrap();
    });
    daemon.place("rejects", 1);
    daemon.place("blocks", 1);
    daemon.router.budget().charge(100 * KIB);
    let mut client = daemon.connect().await;
    for id in 0..3 {
        client.send(&request(id, Acks::All, "rejects", &["v", "w"])).await;
        let told = client.answer().await.unwrap();
        assert_eq!((told.correlation_id, told.error_code), (id, codes::THROTTLING_QUOTA_EXCEEDED));
    }
    client.send(&dory("rejects", "v")).await;
    until(|| daemon.ledger.balance().dropped.iter().any(|(_, records)| *records == 1)).await;
    // It has been read before anybody could know that it waits; what comes after it is not.
    client.send(&request(7, Acks::All, "blocks", &["v"])).await;
    let first = daemon.take_when("blocks", 0, 1).await;
    client.send(&request(8, Acks::All, "rejects", &["v"])).await;
    settle_down().await;
    assert_eq!(daemon.counters.requests.get(), 5);
    daemon.router.budget().release(100 * KIB);
    let second = daemon.take_when("rejects", 0, 1).await;
    first.deliver(0, 0);
    assert_eq!(client.answer().await.unwrap().correlation_id, 7);
    second.deliver(0, 0);
    assert_eq!(client.answer().await.unwrap().correlation_id, 8);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_frame_stands_still_while_there_is_no_room() {
    let daemon = Daemon::stream(|config, _, limits| {
        config.memory.limit = 256 * KIB;
        limits.frame_timeout = Duration::from_secs(5);
    });
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    let bytes = dory("t", "slow");
    client.send(&bytes[..12]).await;
    until(|| daemon.counters.bytes_read.get() == 12).await;
    daemon.router.budget().charge(256 * KIB);
    client.send(&bytes[12..]).await;
    settle_down().await;
    tokio::time::advance(Duration::from_secs(1000)).await;
    settle_down().await;
    daemon.router.budget().release(256 * KIB);
    assert_eq!(daemon.take_when("t", 0, 1).await.values, ["slow"]);
}

#[tokio::test(start_paused = true)]
async fn a_frame_larger_than_half_of_the_memory_does_not_wait_for_itself() {
    let daemon = Daemon::stream(|config, _, _| config.memory.limit = 256 * KIB);
    daemon.place("t", 1);
    let bytes = dory("t", &"x".repeat(240 * KIB));
    let mut client = daemon.connect().await;
    let taken = async {
        let mut values = 0;
        while values == 0 {
            tokio::time::advance(Duration::from_millis(100)).await;
            settle_down().await;
            let mut taken = daemon.take("t", 0);
            values += taken.values.len();
            daemon.let_go(&mut taken);
        }
    };
    tokio::join!(client.send(&bytes), taken);
    assert_eq!(daemon.router.budget().used(), 0);
    assert_eq!(daemon.counters.frames_unfinished_bytes.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn large_frames_have_a_share_and_take_turns_in_it() {
    let daemon = Daemon::stream(|config, _, _| config.memory.limit = 1024 * KIB);
    daemon.place("t", 1);
    let bytes = dory("t", &"x".repeat(100 * KIB));
    let (mut first, mut second) = (daemon.connect().await, daemon.connect().await);
    first.send(&bytes[..90 * KIB]).await;
    until(|| daemon.counters.bytes_read.get() as usize == 90 * KIB).await;
    second.send(&bytes).await;
    settle_down().await;
    // 128 KiB are the share: one read of the second is there, and no more.
    assert!(daemon.take("t", 0).values.is_empty());
    assert!(daemon.counters.bytes_read.get() as usize <= (90 + 64) * KIB);
    first.send(&bytes[90 * KIB..]).await;
    daemon.take_when("t", 0, 2).await;
}

#[tokio::test]
async fn what_a_client_has_sent_before_it_went_is_taken_though_its_answers_go_nowhere() {
    let daemon = Daemon::stream(|config, _, _| config.memory.limit = 256 * KIB);
    daemon.place("t", 1);
    let mut client = daemon.connect().await;
    client.send(&request(1, Acks::All, "t", &["first"])).await;
    let first = daemon.take_when("t", 0, 1).await;
    daemon.router.budget().charge(256 * KIB);
    client.send(&[request(2, Acks::All, "t", &["second"]), dory("t", "third")].concat()).await;
    settle_down().await;
    drop(client);
    first.deliver(0, 0);
    settle_down().await;
    daemon.router.budget().release(256 * KIB);
    let rest = daemon.take_when("t", 0, 2).await;
    assert_eq!(rest.values, ["second", "third"]);
    until(|| daemon.counters.connections_open.get() == 0).await;
    rest.deliver(0, 1);
    assert_eq!(daemon.router.budget().used(), 0);
}
