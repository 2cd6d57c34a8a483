//! Which cluster it is, and where it is found again when nobody of those who were known answers any more.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use forebay::devbroker::Settings;
use forebay::wire::api::ApiKey;

use crate::dev_kafka::DevKafka;
use crate::support::balance::settled_ledger;
use crate::support::client::{Client, Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles};
use crate::support::scenario::SOON;

fn send(client: &mut Client, topic: &str, partition: i32, acks: i16) {
    let records = [Outgoing { value: Some(b"value".to_vec()), ..Outgoing::default() }];
    let request = Produce { acks, partition, ..Produce::new(topic, &records) };
    if acks == 0 {
        client.send_produce(&request);
        return;
    }
    let answer = client.produce(&request);
    assert_eq!((answer.error_code, answer.records[0].error_code), (0, 0), "{answer:?}");
}

#[test]
fn a_broker_of_another_cluster_is_not_believed_while_the_daemon_runs() {
    let mut one = DevKafka::start(1);
    let another = DevKafka::start_as(Settings { cluster_id: "another".to_owned(), ..Settings::default() });
    let topic = new_topic(&one, "here", 1);
    another.create_topic(&topic, 1);
    let bootstrap = format!("{},{}", one.bootstrap(), another.bootstrap());
    let daemon = Daemon::start_on(DaemonFiles::new(&bootstrap, ""));
    let mut client = daemon.connect();
    send(&mut client, &topic, 0, -1);
    one.kill_broker(1);
    send(&mut client, &topic, 0, 0);
    another.wait_for("a request for metadata", |counters| counters.requests.contains_key(&(ApiKey::Metadata as i16)));
    one.start_broker(1);
    settled_ledger(&daemon, 2);
    assert_eq!((one.read(&topic).len(), another.read(&topic).len()), (2, 0));
    let log = daemon.stop().log;
    assert!(log.contains("belongs to another cluster and is not believed"), "{log}");
}

/// A name behind which another server can stand: what a service's address is in front of brokers that come and go.
fn forwarder(behind: Arc<Mutex<SocketAddr>>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let at = *behind.lock().expect("nobody panics with it");
            let Ok(server) = TcpStream::connect(at) else { continue };
            let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { continue };
            thread::spawn(move || copy(from_client, server));
            thread::spawn(move || copy(from_server, client));
        }
    });
    Ok(address)
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // However it ends, both ends learn of it.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_cluster_none_of_whose_known_brokers_answers_is_found_again_by_the_bootstrap_servers() {
    let mut cluster = DevKafka::start_nomads(1);
    let topic = new_topic(&cluster, "moved", 1);
    let behind = Arc::new(Mutex::new(cluster.address(1).expect("it exists")));
    let service = forwarder(behind.clone()).expect("any port will do");
    let daemon = Daemon::start(&service.to_string(), "");
    let mut client = daemon.connect();
    send(&mut client, &topic, 0, -1);
    let before = cluster.address(1).expect("it exists");
    cluster.restart(1);
    let after = cluster.address(1).expect("it exists");
    assert_ne!(before, after);
    *behind.lock().expect("nobody panics with it") = after;
    send(&mut client, &topic, 0, -1);
    settled_ledger(&daemon, 2);
    assert_eq!(cluster.read(&topic).len(), 2);
}

#[test]
fn however_many_partitions_have_another_leader_the_cluster_is_asked_a_few_times() {
    const PARTITIONS: i32 = 200;
    let cluster = DevKafka::start(2);
    let topic = new_topic(&cluster, "wide", PARTITIONS);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let mut client = daemon.connect();
    for partition in 0..PARTITIONS {
        send(&mut client, &topic, partition, -1);
    }
    let asked = |requests: &BTreeMap<i16, u64>| requests.get(&(ApiKey::Metadata as i16)).copied().unwrap_or(0);
    let before = asked(&cluster.counters().requests);
    for partition in 0..PARTITIONS {
        let leader = cluster.leader(&topic, partition);
        cluster.move_leader(&topic, partition, 3 - leader);
    }
    for partition in 0..PARTITIONS {
        send(&mut client, &topic, partition, 0);
    }
    daemon.wait_for_status("all of it delivered", SOON, |status| {
        (status["ledger"]["delivered"] == 2 * PARTITIONS).then_some(())
    });
    let asked = asked(&cluster.counters().requests) - before;
    assert!((1..40).contains(&asked), "{asked} requests for metadata for {PARTITIONS} partitions that moved");
}
