use super::*;

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
