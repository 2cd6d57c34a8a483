use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, DescribeConfigsRequest, DescribeProducersRequest, FetchRequest,
    FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::wire::api::produce;

/// A request of every API in every version, filled as far as the version allows, and how the crate decodes it.
fn requests() -> Vec<(ApiKey, i16, Bytes)> {
    let mut all = Vec::new();
    for api in ApiKey::ALL {
        let shape = request(api);
        for version in shape.since..=shape.until {
            all.push((api, version, encoded(api, version)));
        }
    }
    all
}

fn encoded(api: ApiKey, version: i16) -> Bytes {
    match api {
        ApiKey::ApiVersions => {
            let mut message = ApiVersionsRequest::default();
            if version >= 3 {
                message = message.with_client_software_name(text()).with_client_software_version(text());
            }
            bytes(&message, version)
        }
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(name()));
            bytes(&MetadataRequest::default().with_topics(Some(vec![topic; 3])), version)
        }
        ApiKey::Produce => {
            let data = PartitionProduceData::default().with_index(1).with_records(Some(Bytes::from(vec![1; 300])));
            let null = PartitionProduceData::default().with_index(2);
            let topic = TopicProduceData::default().with_partition_data(vec![data, null]);
            let topic = if version >= 13 { topic.with_topic_id(Uuid::from_u128(5)) } else { topic.with_name(name()) };
            bytes(&ProduceRequest::default().with_topic_data(vec![topic; 2]), version)
        }
        ApiKey::InitProducerId => {
            bytes(&InitProducerIdRequest::default().with_transactional_id(Some(text().into())), version)
        }
        ApiKey::Fetch => bytes(&fetch(version), version),
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition::default().with_partition_index(3);
            let topic = ListOffsetsTopic::default().with_name(name()).with_partitions(vec![partition; 2]);
            bytes(&ListOffsetsRequest::default().with_topics(vec![topic; 2]), version)
        }
        ApiKey::FindCoordinator => {
            let message = FindCoordinatorRequest::default();
            let message =
                if version >= 4 { message.with_coordinator_keys(vec![text(); 2]) } else { message.with_key(text()) };
            bytes(&message, version)
        }
        ApiKey::DescribeConfigs => {
            let some = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text());
            let named = some.clone().with_configuration_keys(Some(vec![text(); 2]));
            bytes(&DescribeConfigsRequest::default().with_resources(vec![named, some]), version)
        }
        ApiKey::DescribeProducers => {
            let topic = TopicRequest::default().with_name(name()).with_partition_indexes(vec![1, 2, 3]);
            bytes(&DescribeProducersRequest::default().with_topics(vec![topic; 2]), version)
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default().with_partition(1);
            let topic = OffsetForLeaderTopic::default().with_topic(name()).with_partitions(vec![partition; 2]);
            bytes(&OffsetForLeaderEpochRequest::default().with_topics(vec![topic; 2]), version)
        }
    }
}

fn fetch(version: i16) -> FetchRequest {
    let mut partition = FetchPartition::default().with_partition(1);
    let (mut topic, mut forgotten) = (FetchTopic::default(), ForgottenTopic::default());
    let mut message = FetchRequest::default();
    if version >= 17 {
        partition = partition.with_replica_directory_id(Uuid::from_u128(9));
    }
    if version >= 18 {
        partition = partition.with_high_watermark(12);
    }
    if version >= 15 {
        message = message.with_replica_state(ReplicaState::default().with_replica_id(BrokerId(2)));
    }
    if version >= 12 {
        message = message.with_cluster_id(Some(text()));
    }
    if version >= 13 {
        topic = topic.with_topic_id(Uuid::from_u128(5));
        forgotten = forgotten.with_topic_id(Uuid::from_u128(5));
    } else {
        topic = topic.with_topic(name());
        forgotten = forgotten.with_topic(name());
    }
    if version >= 7 {
        message = message.with_forgotten_topics_data(vec![forgotten.with_partitions(vec![1, 2]); 2]);
    }
    if version >= 11 {
        message = message.with_rack_id(text());
    }
    message.with_topics(vec![topic.with_partitions(vec![partition; 2]); 2])
}

fn decode(api: ApiKey, version: i16, body: Bytes) -> bool {
    fn one<M: Decodable>(version: i16, mut body: Bytes) -> bool {
        M::decode(&mut body, version).is_ok() && body.is_empty()
    }
    match api {
        ApiKey::ApiVersions => one::<ApiVersionsRequest>(version, body),
        ApiKey::Metadata => one::<MetadataRequest>(version, body),
        ApiKey::Produce => one::<ProduceRequest>(version, body),
        ApiKey::InitProducerId => one::<InitProducerIdRequest>(version, body),
        ApiKey::Fetch => one::<FetchRequest>(version, body),
        ApiKey::ListOffsets => one::<ListOffsetsRequest>(version, body),
        ApiKey::FindCoordinator => one::<FindCoordinatorRequest>(version, body),
        ApiKey::DescribeConfigs => one::<DescribeConfigsRequest>(version, body),
        ApiKey::DescribeProducers => one::<DescribeProducersRequest>(version, body),
        ApiKey::OffsetForLeaderEpoch => one::<OffsetForLeaderEpochRequest>(version, body),
    }
}

fn bytes<M: Encodable>(message: &M, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).unwrap();
    out.freeze()
}

fn text() -> StrBytes {
    StrBytes::from_static_str("some-text")
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("audit.events"))
}

#[test]
fn every_request_that_the_crate_writes_fits_its_table() {
    for (api, version, body) in requests() {
        assert_eq!(request(api).check(version, &body), Ok(()), "{api:?} {version}");
        assert!(decode(api, version, body));
    }
}

#[test]
fn a_message_cut_short_or_continued_is_refused() {
    for (api, version, body) in requests() {
        for end in 0..body.len() {
            assert!(request(api).check(version, &body[..end]).is_err(), "{api:?} {version} cut at {end}");
        }
        let longer = [&body[..], &[0]].concat();
        assert!(request(api).check(version, &longer).is_err(), "{api:?} {version}");
    }
}

#[test]
fn a_version_without_a_table_is_refused() {
    for api in ApiKey::ALL {
        for version in [i16::MIN, request(api).since - 1, request(api).until + 1, i16::MAX] {
            assert!(matches!(request(api).check(version, &[]), Err(WireError::UnsupportedVersion { .. })));
        }
    }
}

#[test]
fn an_array_of_412_gigabytes_is_refused() {
    // No transactional id, acks -1, a timeout, then the longest compact array there is.
    let body = [0, 0xff, 0xff, 0, 0, 0, 30, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let error = request(ApiKey::Produce).check(9, &body).unwrap_err();
    assert_eq!(error, WireError::Malformed { what: "Produce request", at: 12, why: "more elements than bytes" });
    // The same in a version that is not flexible.
    let body = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 30, 0x7f, 0xff, 0xff, 0xff];
    assert!(request(ApiKey::Produce).check(8, &body).is_err());
}

/// A Produce response of version 9 with so many topics that have neither a name nor a partition, each with `tail` behind.
fn hollow_topics(count: usize, tail: &[u8]) -> Vec<u8> {
    let mut body = vec![];
    let mut rest = count as u32 + 1;
    while rest >= 0x80 {
        body.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    body.push(rest as u8);
    body.extend([&[1, 1], tail].concat().repeat(count));
    body.extend([0, 0, 0, 0, 0]);
    body
}

#[test]
fn many_small_structures_are_refused_before_they_cost_a_hundred_times_their_bytes() {
    let no_tag: &[u8] = &[0];
    let a_tag: &[u8] = &[1, 9, 0];
    for (count, tail, fits) in [(100, no_tag, true), (100, a_tag, true), (1000, no_tag, true), (1000, a_tag, false)] {
        let body = hollow_topics(count, tail);
        assert_eq!(PRODUCE_RESPONSE.check(9, &body).is_ok(), fits, "{count} topics with {tail:?}");
        let asked = allocation_counter::measure(|| drop(produce::decode(9, Bytes::from(body.clone()))));
        assert!(asked.bytes_max as usize <= 40 * body.len() + (80 << 10), "{asked:?}");
    }
}

#[test]
fn a_varint_that_the_crate_would_cut_is_refused() {
    let more_than_32_bits = [1, 1, 0xff, 0xff, 0xff, 0xff, 0x1f];
    assert!(request(ApiKey::ApiVersions).check(3, &more_than_32_bits).is_err());
    let six_bytes = [1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
    assert!(request(ApiKey::ApiVersions).check(3, &six_bytes).is_err());
}

#[test]
fn a_known_tag_must_be_as_long_as_its_value() {
    // ApiVersions response: no error, no keys, throttle, then tag 1 (8 bytes) of size 7, 8, 9.
    for (size, fits) in [(7, false), (8, true), (9, false)] {
        let mut body = vec![0, 0, 1, 0, 0, 0, 0, 1, 1, size];
        body.resize(body.len() + usize::from(size), 0);
        assert_eq!(API_VERSIONS_RESPONSE.check(3, &body).is_ok(), fits, "{size}");
    }
}

#[test]
fn a_tag_of_a_later_version_is_skipped_where_it_is_unknown() {
    let mut body = vec![0, 0, 1, 0, 0, 0, 0, 1, 77, 3];
    body.resize(body.len() + 3, 0xff);
    assert_eq!(API_VERSIONS_RESPONSE.check(3, &body), Ok(()));
}

proptest! {
    #[test]
    fn what_fits_its_table_is_decoded_or_refused_by_the_crate(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), prop::collection::vec(0..4_u8, 0..200)],
        which in any::<prop::sample::Index>(),
        version in -1..20_i16,
    ) {
        let api = *which.get(&ApiKey::ALL);
        if request(api).check(version, &bytes).is_ok() {
            decode(api, version, bytes.into());
        }
    }

    #[test]
    fn a_damaged_request_is_decoded_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0x7f)]), 1..8),
    ) {
        let requests = requests();
        let (api, version, body) = which.get(&requests);
        prop_assume!(!body.is_empty());
        let mut body = body.to_vec();
        for (at, to) in changes {
            let at = at.index(body.len());
            body[at] = to;
        }
        if request(*api).check(*version, &body).is_ok() {
            decode(*api, *version, body.into());
        }
    }
}
