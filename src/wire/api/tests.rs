use std::sync::Arc;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ProduceRequest, RequestHeader};
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::wire::api::api_versions::Versions;
use crate::wire::api::metadata::{Broker, Metadata, Operations, Partition, RequestedTopic, Topic};
use crate::wire::api::produce::{PartitionAnswer, PartitionRecords, RequestPartition, TopicRef};
use crate::wire::codes;
use crate::wire::frame::{self, Frame, RequestFrame};

const CORRELATION: i32 = 77;

/// The server's look at a client's frame: length right, header as sent.
fn served(frame: &Frame) -> RequestFrame {
    let mut bytes = frame.to_bytes();
    assert_eq!(bytes.get_i32() as usize, bytes.len());
    assert_eq!(frame.len_bytes(), bytes.len() + 4);
    let request = frame::decode_request(bytes).unwrap();
    assert_eq!((request.api, request.version), (frame.api, frame.version));
    assert_eq!((request.correlation_id, request.client_id.as_deref()), (CORRELATION, Some("client")));
    request
}

/// The client's look at a server's frame.
fn answered(api: ApiKey, version: i16, frame: bytes::BytesMut) -> Bytes {
    let mut bytes = frame.freeze();
    assert_eq!(bytes.get_i32() as usize, bytes.len());
    let (correlation_id, body) = frame::strip_response_header(bytes, api, version).unwrap();
    assert_eq!(correlation_id, CORRELATION);
    body
}

fn versions_answer(version: i16) -> api_versions::Answer {
    let throttle = Duration::from_millis(if version >= 1 { 1500 } else { 0 });
    let versions = Versions { ranges: vec![(0, 0, 13), (18, 0, 4), (999, 3, 8)] };
    api_versions::Answer { throttle, error_code: 0, versions }
}

fn metadata_answer(version: i16) -> Metadata {
    let partition = |id| Partition {
        error_code: codes::LEADER_NOT_AVAILABLE,
        id,
        leader: id + 1,
        leader_epoch: if version >= 7 { 12 } else { -1 },
        replicas: vec![1, 2, 3],
        in_sync: vec![2],
    };
    let topic = |n: u128| Topic {
        error_code: 0,
        name: Some(format!("topic-{n}")),
        id: if version >= 10 { Uuid::from_u128(n) } else { Uuid::nil() },
        is_internal: n == 1,
        partitions: (0..n as i32).map(partition).collect(),
        authorized_operations: (version >= 8 && n > 1).then_some(Operations::ALL),
    };
    Metadata {
        throttle: Duration::from_millis(20),
        cluster_id: Some("cluster".to_owned()),
        controller_id: 2,
        error_code: if version >= 13 { codes::REBOOTSTRAP_REQUIRED } else { 0 },
        brokers: vec![broker(1, None), broker(2, Some("rack-b"))],
        topics: (0..4).map(topic).collect(),
    }
}

fn broker(id: i32, rack: Option<&str>) -> Broker {
    Broker { id, host: format!("broker-{id}"), port: 9092, rack: rack.map(str::to_owned) }
}

fn topic_ref(version: i16, n: u128) -> TopicRef {
    if version >= 13 { TopicRef::Id(Uuid::from_u128(n)) } else { TopicRef::Name(Arc::from(format!("topic-{n}"))) }
}

fn produce_answer(version: i16) -> produce::Answer {
    let ok = PartitionAnswer {
        topic: topic_ref(version, 1),
        partition: 4,
        error_code: 0,
        base_offset: 1 << 40,
        log_append_time: -1,
        record_errors: vec![],
        error_message: None,
        current_leader: None,
    };
    let refused = PartitionAnswer {
        topic: topic_ref(version, 2),
        partition: 0,
        error_code: codes::INVALID_RECORD,
        base_offset: -1,
        record_errors: if version >= 8 { vec![(3, Some("too old".to_owned())), (5, None)] } else { vec![] },
        error_message: (version >= 8).then(|| "refused".to_owned()),
        ..ok.clone()
    };
    let moved = PartitionAnswer {
        error_code: codes::NOT_LEADER_OR_FOLLOWER,
        current_leader: (version >= 10).then_some((2, 9)),
        ..ok.clone()
    };
    produce::Answer {
        throttle: Duration::from_millis(250),
        partitions: vec![ok, refused, moved],
        endpoints: if version >= 10 { vec![broker(2, Some("r"))] } else { vec![] },
    }
}

fn id_answer() -> init_producer_id::Answer {
    init_producer_id::Answer { throttle: Duration::ZERO, error_code: 0, producer_id: 1 << 50, epoch: 3 }
}

fn settings_answer() -> describe_configs::Answer {
    let setting = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    let topic = describe_configs::Topic {
        name: "a".to_owned(),
        settings: vec![setting("min.insync.replicas", Some("2")), setting("unset", None)],
        ..describe_configs::Topic::default()
    };
    let denied = describe_configs::Topic {
        name: "b".to_owned(),
        error_code: codes::TOPIC_AUTHORIZATION_FAILED,
        error_message: Some("denied".to_owned()),
        settings: vec![],
    };
    describe_configs::Answer { throttle: Duration::from_millis(7), topics: vec![topic, denied] }
}

/// A response of every API in every version.
fn responses() -> Vec<(ApiKey, i16, Bytes)> {
    let mut all = Vec::new();
    for version in api_versions::VERSIONS {
        let frame = api_versions::encode_response(version, CORRELATION, &versions_answer(version)).unwrap();
        all.push((ApiKey::ApiVersions, version, answered(ApiKey::ApiVersions, version, frame)));
    }
    for version in metadata::VERSIONS {
        let frame = metadata::encode_response(version, CORRELATION, &metadata_answer(version)).unwrap();
        all.push((ApiKey::Metadata, version, answered(ApiKey::Metadata, version, frame)));
    }
    for version in produce::VERSIONS {
        let frame = produce::encode_response(version, CORRELATION, &produce_answer(version)).unwrap();
        all.push((ApiKey::Produce, version, answered(ApiKey::Produce, version, frame)));
    }
    for version in init_producer_id::VERSIONS {
        let frame = init_producer_id::encode_response(version, CORRELATION, &id_answer()).unwrap();
        all.push((ApiKey::InitProducerId, version, answered(ApiKey::InitProducerId, version, frame)));
    }
    for version in describe_configs::VERSIONS {
        let frame = describe_configs::encode_response(version, CORRELATION, &settings_answer()).unwrap();
        all.push((ApiKey::DescribeConfigs, version, answered(ApiKey::DescribeConfigs, version, frame)));
    }
    all
}

/// Decodes as the client does; whether it could.
fn decode(api: ApiKey, version: i16, body: Bytes) -> bool {
    match api {
        ApiKey::ApiVersions => api_versions::decode(version, body).is_ok(),
        ApiKey::Metadata => metadata::decode(version, body).is_ok(),
        ApiKey::Produce => produce::decode(version, body).is_ok(),
        ApiKey::InitProducerId => init_producer_id::decode(version, body).is_ok(),
        ApiKey::DescribeConfigs => describe_configs::decode(version, body).is_ok(),
        _ => false,
    }
}

#[test]
fn answers_come_back_as_they_were_given_in_every_version() {
    for (api, version, body) in responses() {
        match api {
            ApiKey::ApiVersions => assert_eq!(api_versions::decode(version, body), Ok(versions_answer(version))),
            ApiKey::Metadata => assert_eq!(metadata::decode(version, body), Ok(metadata_answer(version))),
            ApiKey::Produce => assert_eq!(produce::decode(version, body), Ok(produce_answer(version))),
            ApiKey::DescribeConfigs => assert_eq!(describe_configs::decode(version, body), Ok(settings_answer())),
            _ => assert_eq!(init_producer_id::decode(version, body), Ok(id_answer())),
        }
    }
}

#[test]
fn a_refused_version_is_read_in_the_form_of_version_0() {
    let frame = api_versions::unsupported(CORRELATION, 0..=3).unwrap();
    let answer = api_versions::decode(4, answered(ApiKey::ApiVersions, 4, frame)).unwrap();
    assert_eq!(answer.error_code, codes::UNSUPPORTED_VERSION);
    assert_eq!(answer.versions.pick(ApiKey::ApiVersions, api_versions::VERSIONS), Some(3));
}

#[test]
fn api_versions_names_the_software_since_version_3() {
    for version in api_versions::VERSIONS {
        let request = served(&api_versions::encode(version, CORRELATION, "client").unwrap());
        let request = api_versions::decode_request(version, request.body).unwrap();
        assert_eq!(request.software_name, if version >= 3 { "forebay" } else { "" });
        assert_eq!(request.software_version.is_empty(), version < 3);
    }
}

#[test]
fn metadata_asks_for_all_some_or_no_topics() {
    for version in metadata::VERSIONS {
        for topics in [None, Some(&["a", "b"][..]), Some(&[][..])] {
            let frame = metadata::encode(version, CORRELATION, "client", topics, version % 2 == 0).unwrap();
            let request = metadata::decode_request(version, served(&frame).body).unwrap();
            let expected = topics.map(|topics| {
                let topics = topics.iter();
                topics.map(|t| RequestedTopic { name: Some((*t).to_owned()), id: Uuid::nil() }).collect::<Vec<_>>()
            });
            assert_eq!(request.topics, expected);
            assert_eq!(request.allow_auto_topic_creation, version % 2 == 0);
        }
    }
    assert!(metadata::encode(3, 1, "client", None, false).is_err());
}

#[test]
fn metadata_asks_what_the_client_may_do_since_version_8() {
    for version in metadata::VERSIONS {
        let frame = metadata::encode_with_operations(version, CORRELATION, "client", &["a"]).unwrap();
        let request = metadata::decode_request(version, served(&frame).body).unwrap();
        assert_eq!(request.topics.map(|topics| topics.len()), Some(1));
        assert_eq!(
            (request.allow_auto_topic_creation, request.include_topic_authorized_operations),
            (false, version >= 8)
        );
    }
    assert!(Operations::ALL.write() && !Operations(Operations::ALL.0 & !(1 << 4)).write());
}

#[test]
fn describe_configs_asks_for_some_settings_of_some_topics() {
    for version in describe_configs::VERSIONS {
        let frame =
            describe_configs::encode(version, CORRELATION, "client", &["a", "b"], &["min.insync.replicas"]).unwrap();
        let request = describe_configs::decode_request(version, served(&frame).body).unwrap();
        let wanted = Some(vec!["min.insync.replicas".to_owned()]);
        assert_eq!(request.topics, [("a".to_owned(), wanted.clone()), ("b".to_owned(), wanted)]);
    }
    assert!(describe_configs::encode(0, 1, "c", &[], &[]).is_err());
    let answer = settings_answer();
    assert_eq!(answer.topics[0].setting("min.insync.replicas"), Some("2"));
    assert_eq!((answer.topics[0].setting("unset"), answer.topics[1].setting("min.insync.replicas")), (None, None));
}

#[test]
fn an_empty_list_of_topics_asks_for_all_in_version_0_of_metadata() {
    assert_eq!(metadata::decode_request(0, Bytes::from_static(&[0; 4])).unwrap().topics, None);
}

#[test]
fn a_port_that_is_none_is_refused() {
    // One broker, id 1, host "h", port 65536, no rack; then no cluster id, no controller, no topics.
    let body = [0, 0, 0, 0, 2, 0, 0, 0, 1, 2, b'h', 0, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0];
    let error = metadata::decode(11, Bytes::copy_from_slice(&body)).unwrap_err();
    assert_eq!(error.to_string(), "malformed broker: 65536 is no port of h");
}

#[test]
fn init_producer_id_asks_for_a_fresh_id() {
    for version in init_producer_id::VERSIONS {
        let request = served(&init_producer_id::encode(version, CORRELATION, "client").unwrap());
        let request = init_producer_id::decode_request(version, request.body).unwrap();
        assert_eq!((request.transactional_id, request.current), (None, None));
    }
}

#[test]
fn versions_outside_of_ours_are_refused_and_not_sent() {
    assert!(produce::encode(2, 1, "c", Duration::ZERO, &[]).is_err());
    assert!(produce::encode(14, 1, "c", Duration::ZERO, &[]).is_err());
    assert!(init_producer_id::encode(6, 1, "c").is_err());
    assert!(init_producer_id::encode_response(7, 1, &id_answer()).is_err());
    assert!(api_versions::encode(5, 1, "c").is_err());
}

#[test]
fn a_request_header_of_an_unknown_api_is_refused() {
    let error = frame::decode_request(Bytes::from_static(&[0, 99, 0, 0, 0, 0, 0, 1, 255, 255])).unwrap_err();
    assert_eq!(error.to_string(), "api key 99 is not supported");
}

/// Up to three topics of up to four partitions, with batches small and large.
fn parts() -> impl Strategy<Value = Vec<PartitionRecords>> {
    let size = prop_oneof![0..5_usize, 126..130_usize, 1022..1026_usize, 16_382..16_386_usize];
    let topic = prop::collection::vec((any::<i32>(), size, any::<u8>()), 1..4);
    let name = prop_oneof![Just(1_usize), Just(127), Just(128), Just(249)];
    prop::collection::vec((name, topic), 0..4).prop_map(|topics| {
        let mut parts = Vec::new();
        for (n, (length, partitions)) in topics.into_iter().enumerate() {
            let topic: Arc<str> = n.to_string().repeat(length).into();
            let topic_id = Uuid::from_u128(n as u128 + 1);
            parts.extend(partitions.into_iter().map(|(partition, size, fill)| {
                let (topic, records) = (topic.clone(), Bytes::from(vec![fill; size]));
                PartitionRecords { topic, topic_id, partition, records }
            }));
        }
        parts
    })
}

proptest! {
    #[test]
    fn kafka_protocol_reads_a_produce_request_as_it_was_meant(parts in parts(), version in produce::VERSIONS) {
        let frame = produce::encode(version, CORRELATION, "client", Duration::from_secs(30), &parts).unwrap();
        prop_assert!(frame.segments.iter().all(|segment| !segment.is_empty()));
        let mut bytes = frame.to_bytes();
        prop_assert_eq!(bytes.get_i32() as usize, bytes.len());
        let header = RequestHeader::decode(&mut bytes, if version >= 9 { 2 } else { 1 }).unwrap();
        prop_assert_eq!((header.request_api_key, header.request_api_version), (0, version));
        let request = ProduceRequest::decode(&mut bytes, version).unwrap();
        prop_assert!(bytes.is_empty());
        prop_assert_eq!((request.acks, request.timeout_ms, request.transactional_id), (-1, 30_000, None));
        let mut rest = &parts[..];
        for topic in &request.topic_data {
            for data in &topic.partition_data {
                let (part, after) = rest.split_first().unwrap();
                rest = after;
                if version >= 13 {
                    prop_assert_eq!(topic.topic_id, part.topic_id);
                } else {
                    prop_assert_eq!(topic.name.as_str(), &*part.topic);
                }
                prop_assert_eq!((data.index, data.records.as_ref()), (part.partition, Some(&part.records)));
            }
        }
        prop_assert!(rest.is_empty());
        let topics: std::collections::HashSet<_> = parts.iter().map(|part| part.topic_id).collect();
        prop_assert_eq!(request.topic_data.len(), topics.len());
    }

    #[test]
    fn the_server_reads_a_produce_request_as_it_was_meant(parts in parts(), version in produce::VERSIONS) {
        let frame = produce::encode(version, CORRELATION, "client", Duration::from_secs(30), &parts).unwrap();
        let request = produce::decode_request(version, served(&frame).body).unwrap();
        let expected = parts.into_iter().map(|part| RequestPartition {
            topic: if version >= 13 { TopicRef::Id(part.topic_id) } else { TopicRef::Name(part.topic) },
            partition: part.partition,
            records: Some(part.records),
        });
        prop_assert_eq!(request.partitions, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_large_batch_is_not_copied(size in 1024..5000_usize) {
        let records = Bytes::from(vec![7; size]);
        let part = PartitionRecords { topic: "t".into(), topic_id: Uuid::nil(), partition: 0, records: records.clone() };
        let frame = produce::encode(9, CORRELATION, "client", Duration::ZERO, &[part]).unwrap();
        prop_assert!(frame.segments.iter().any(|segment| segment.as_ptr() == records.as_ptr()));
    }

    #[test]
    fn any_bytes_are_a_response_or_refused(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), prop::collection::vec(0..4_u8, 0..200)],
        which in any::<prop::sample::Index>(),
        version in -1..20_i16,
    ) {
        let api = *which.get(&ApiKey::ALL);
        let bytes = Bytes::from(bytes);
        decode(api, version, bytes.clone());
        let _ = frame::strip_response_header(bytes.clone(), api, version);
        let _ = frame::decode_request(bytes);
    }

    #[test]
    fn a_damaged_response_is_decoded_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0x7f)]), 1..8),
    ) {
        let responses = responses();
        let (api, version, body) = which.get(&responses);
        let mut body = body.to_vec();
        for (at, to) in changes {
            let at = at.index(body.len());
            body[at] = to;
        }
        decode(*api, *version, body.into());
    }

    #[test]
    fn a_response_cut_short_is_refused(which in any::<prop::sample::Index>(), end in any::<prop::sample::Index>()) {
        let responses = responses();
        let (api, version, body) = which.get(&responses);
        prop_assert!(!decode(*api, *version, body.slice(..end.index(body.len()))));
    }

    #[test]
    fn any_bytes_are_a_request_or_refused(bytes in prop::collection::vec(0..6_u8, 0..200), version in -1..20_i16) {
        let bytes = Bytes::from(bytes);
        let _ = api_versions::decode_request(version, bytes.clone());
        let _ = metadata::decode_request(version, bytes.clone());
        let _ = produce::decode_request(version, bytes.clone());
        let _ = describe_configs::decode_request(version, bytes.clone());
        let _ = init_producer_id::decode_request(version, bytes);
    }
}
