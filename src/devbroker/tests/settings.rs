use super::network::Client;
use crate::devbroker::{DevCluster, Settings};
use crate::wire::api::describe_configs;
use crate::wire::api::metadata::{self, Operations};
use crate::wire::codes;

#[tokio::test]
async fn topics_tell_the_settings_that_are_asked_for_and_what_may_be_done() {
    let cluster = DevCluster::start(Settings { min_insync_replicas: 2, ..Settings::default() }).await.unwrap();
    cluster.create_topic("t", 1).unwrap();
    cluster.set_max_message_bytes("t", 1234).unwrap();
    let Client(mut connection) = Client::to(&cluster, 1).await;
    for version in describe_configs::VERSIONS {
        let id = connection.next_correlation_id();
        let wanted = ["max.message.bytes", "min.insync.replicas", "no.such.setting"];
        let frame = describe_configs::encode(version, id, "test", &["t", "none"], &wanted).unwrap();
        let answer = describe_configs::decode(version, connection.call(frame).await.unwrap()).unwrap();
        let [topic, missing] = &answer.topics[..] else { panic!("{answer:?}") };
        assert_eq!((topic.name.as_str(), topic.error_code, topic.settings.len()), ("t", codes::NONE, 2));
        assert_eq!(topic.setting("max.message.bytes"), Some("1234"));
        assert_eq!(topic.setting("min.insync.replicas"), Some("2"));
        assert_eq!((missing.name.as_str(), missing.error_code), ("none", codes::UNKNOWN_TOPIC_OR_PARTITION));
    }
    for version in metadata::VERSIONS {
        let id = connection.next_correlation_id();
        let frame = metadata::encode_with_operations(version, id, "test", &["t", "none"]).unwrap();
        let answer = metadata::decode(version, connection.call(frame).await.unwrap()).unwrap();
        let told: Vec<_> = answer.topics.iter().map(|topic| topic.authorized_operations).collect();
        assert_eq!(told, [(version >= 8).then_some(Operations::ALL), None], "version {version}");
    }
}

#[tokio::test]
async fn fewer_brokers_than_min_insync_replicas_refuse_acks_all() {
    let settings = Settings { brokers: 3, min_insync_replicas: 2, ..Settings::default() };
    let cluster = DevCluster::start(settings).await.unwrap();
    cluster.create_topic("t", 1).unwrap();
    let mut client = Client::to(&cluster, 1).await;
    cluster.stop_broker(3).await.unwrap();
    assert_eq!(client.send(0).await.unwrap(), (codes::NONE, 0));
    cluster.stop_broker(2).await.unwrap();
    assert_eq!(client.send(2).await.unwrap().0, codes::NOT_ENOUGH_REPLICAS);

    // As Kafka does it: of a single copy no second one is asked for.
    let single = DevCluster::start(Settings { min_insync_replicas: 2, ..Settings::default() }).await.unwrap();
    single.create_topic("t", 1).unwrap();
    assert_eq!(Client::to(&single, 1).await.send(0).await.unwrap().0, codes::NONE);
}
