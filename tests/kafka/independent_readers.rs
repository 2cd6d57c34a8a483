//! The two readers see what is there, and the cluster does what the tests ask of it. forebay has no part in this: it
//! shows that the witnesses can be believed.

use std::time::Duration;

use crate::cluster;
use crate::support::cluster::unique;
use crate::support::kcat::{self, ReadRecord};
use crate::support::process::{Process, run, stdin_of};

fn record(offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> ReadRecord {
    ReadRecord {
        partition: 0,
        offset,
        timestamp: 0,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: vec![],
    }
}

#[test]
fn both_readers_tell_null_from_empty_and_keep_every_byte() {
    let Some(cluster) = cluster::shared() else { return };
    let topic = unique("bytes");
    cluster.create_topic(&topic, 1, 3, &[]);
    let every_byte: Vec<u8> = (0..=255).filter(|byte| !b"\t\n".contains(byte)).collect();
    // `-Z`: an empty key or value is null; without it, it is empty.
    for (null, input) in
        [(false, [&every_byte[..], b"\t", &every_byte].concat()), (false, b"\t".to_vec()), (true, b"\t".to_vec())]
    {
        let mut kcat = kcat::produce_command(&cluster.bootstrap(), &topic);
        kcat.args(["-p", "0", "-K", "\t", "-H", "name=", "-H", "name=twice", "-H", "null"]);
        if null {
            kcat.arg("-Z");
        }
        let (status, _, stderr) = run(kcat, stdin_of(&input), Duration::from_secs(60));
        assert!(status.success(), "{stderr}");
    }

    let read = cluster.consume(&topic);
    let header = |name: &[u8], value: Option<&[u8]>| (name.to_vec(), value.map(<[u8]>::to_vec));
    let headers = vec![header(b"name", Some(b"")), header(b"name", Some(b"twice")), header(b"null", None)];
    let expected =
        [record(0, Some(&every_byte), Some(&every_byte)), record(1, Some(b""), Some(b"")), record(2, None, None)];
    for (read, expected) in read.iter().zip(&expected) {
        assert!(read.timestamp > 0);
        assert_eq!(*read, ReadRecord { timestamp: read.timestamp, headers: headers.clone(), ..expected.clone() });
    }
    assert_eq!(read.len(), expected.len());
    assert_eq!(cluster.consume_with_java(&topic, 3), read);
}

#[test]
fn a_leader_moves_where_it_is_told() {
    let Some(cluster) = cluster::shared() else { return };
    let topic = unique("moves");
    cluster.create_topic(&topic, 2, 3, &[("min.insync.replicas", "1")]);
    for _ in 0..3 {
        let old = cluster.leader(&topic, 1);
        let new = old % cluster::NODES + 1;
        cluster.move_leader(&topic, 1, new);
        assert_eq!(cluster.leader(&topic, 1), new);
    }
}

#[test]
fn kcat_produces_on_while_a_leader_is_killed_and_nothing_is_lost() {
    let Some(mut cluster) = cluster::exclusive() else { return };
    let topic = unique("killed");
    cluster.create_topic(&topic, 1, 3, &[]);
    kcat::produce(&cluster.bootstrap(), &topic, b"before\n");
    let leader = cluster.leader(&topic, 0);
    cluster.kill(leader);
    let mut producer = Process::spawn(kcat::produce_command(&cluster.bootstrap(), &topic), stdin_of(b"during\n"), None);
    assert_ne!(cluster.leader(&topic, 0), leader);
    assert!(producer.wait(Duration::from_secs(60)).success(), "{}", producer.stderr());
    cluster.start_node(leader);
    let stopped = cluster.leader(&topic, 0);
    cluster.stop(stopped);
    kcat::produce(&cluster.bootstrap(), &topic, b"after\n");
    let values: Vec<_> = cluster.consume(&topic).into_iter().map(|record| record.value).collect();
    assert_eq!(values, [Some(b"before".to_vec()), Some(b"during".to_vec()), Some(b"after".to_vec())]);
}
