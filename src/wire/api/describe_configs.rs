//! DescribeConfigs (key 32): the settings of topics, as the broker has them in force.
//!
//! Only topics are asked about, and only by the names of the settings that are wanted: what a client does not know how to judge, it
//! does not need to read.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{ApiKey, duration, milliseconds};
use crate::wire::frame::{self, Frame};
use crate::wire::{WireError, shape};

/// Versions that this module encodes and decodes. 1: Kafka 1.1; 4: flexible.
pub const VERSIONS: RangeInclusive<i16> = 1..=4;

/// What kind of thing has settings (`ConfigResource.Type.TOPIC`).
const TOPIC: i8 = 2;
/// Where a setting comes from (`DescribeConfigsResponse.ConfigSource.DEFAULT_CONFIG`).
const DEFAULT_CONFIG: i8 = 5;

/// The settings of some topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// How long the broker asks to be left alone.
    pub throttle: Duration,
    /// Those asked for.
    pub topics: Vec<Topic>,
}

/// The settings of a topic, or why they are not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// 0, or for example 3, 29.
    pub error_code: i16,
    /// The broker's words.
    pub error_message: Option<String>,
    /// Names and values; a value is `None` when it is secret or not set.
    pub settings: Vec<(String, Option<String>)>,
}

impl Topic {
    /// The value of a setting, if it has one and it is told.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(setting, _)| setting == name)?.1.as_deref()
    }
}

/// Asks for these settings of these topics.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    topics: &[&str],
    settings: &[&str],
) -> Result<Frame, WireError> {
    let text = |text: &&str| StrBytes::from_string((*text).to_owned());
    let keys: Vec<StrBytes> = settings.iter().map(text).collect();
    let resource = |name| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configuration_keys(Some(keys.clone()))
    };
    let request = DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect());
    frame::encode_request(ApiKey::DescribeConfigs, version, correlation_id, client_id, &request)
}

/// The answer. What it says of anything but topics is left out.
pub fn decode(version: i16, body: Bytes) -> Result<Answer, WireError> {
    let response: DescribeConfigsResponse = frame::decode(&shape::DESCRIBE_CONFIGS_RESPONSE, version, body)?;
    let topics = response.results.into_iter().filter(|result| result.resource_type == TOPIC);
    Ok(Answer { throttle: duration(response.throttle_time_ms), topics: topics.map(topic).collect() })
}

fn topic(result: DescribeConfigsResult) -> Topic {
    let setting = |setting: DescribeConfigsResourceResult| {
        (setting.name.to_string(), setting.value.filter(|_| !setting.is_sensitive).map(|value| value.to_string()))
    };
    Topic {
        name: result.resource_name.to_string(),
        error_code: result.error_code,
        error_message: result.error_message.map(|message| message.to_string()),
        settings: result.configs.into_iter().map(setting).collect(),
    }
}

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The topics, each with the settings that are wanted; `None`: all.
    pub topics: Vec<(String, Option<Vec<String>>)>,
}

/// The server's side of [`encode`]. What is asked of anything but topics is left out.
pub fn decode_request(version: i16, body: Bytes) -> Result<Request, WireError> {
    let request: DescribeConfigsRequest = frame::decode(shape::request(ApiKey::DescribeConfigs), version, body)?;
    let topics = request.resources.into_iter().filter(|resource| resource.resource_type == TOPIC);
    let wanted = |keys: Vec<StrBytes>| keys.iter().map(ToString::to_string).collect();
    let topic = |resource: DescribeConfigsResource| {
        (resource.resource_name.to_string(), resource.configuration_keys.map(wanted))
    };
    Ok(Request { topics: topics.map(topic).collect() })
}

/// The server's side of [`decode`]: every setting is said to be a default.
pub fn encode_response(version: i16, correlation_id: i32, answer: &Answer) -> Result<BytesMut, WireError> {
    let text = |text: &String| StrBytes::from_string(text.clone());
    let setting = |(name, value): &(String, Option<String>)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(value.as_ref().map(text))
            .with_config_source(DEFAULT_CONFIG)
    };
    let result = |topic: &Topic| {
        DescribeConfigsResult::default()
            .with_error_code(topic.error_code)
            .with_error_message(topic.error_message.as_ref().map(text))
            .with_resource_type(TOPIC)
            .with_resource_name(text(&topic.name))
            .with_configs(topic.settings.iter().map(setting).collect())
    };
    let response = DescribeConfigsResponse::default()
        .with_throttle_time_ms(milliseconds(answer.throttle))
        .with_results(answer.topics.iter().map(result).collect());
    frame::encode_response(ApiKey::DescribeConfigs, version, correlation_id, &response)
}
