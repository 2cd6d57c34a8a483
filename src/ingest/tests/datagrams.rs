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
