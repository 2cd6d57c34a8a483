//! DescribeConfigs: the settings of a topic that matter here, the others are as if they did not exist.

use bytes::BytesMut;

use crate::devbroker::cluster::{Cluster, Topic};
use crate::wire::api::describe_configs::{self, Answer};
use crate::wire::frame::RequestFrame;
use crate::wire::{WireError, codes};

pub(in crate::devbroker) fn answer(cluster: &Cluster, request: RequestFrame) -> Result<BytesMut, WireError> {
    let asked = describe_configs::decode_request(request.version, request.body)?;
    let describe = |(name, wanted): (String, Option<Vec<String>>)| match cluster.topics.get(&name) {
        None => describe_configs::Topic {
            error_code: codes::UNKNOWN_TOPIC_OR_PARTITION,
            error_message: Some(format!("there is no topic {name}")),
            name,
            settings: vec![],
        },
        Some(topic) => {
            let mut settings = settings(cluster, topic);
            settings.retain(|(setting, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(setting)));
            describe_configs::Topic { name, error_code: codes::NONE, error_message: None, settings }
        }
    };
    let answer = Answer { topics: asked.topics.into_iter().map(describe).collect(), ..Answer::default() };
    describe_configs::encode_response(request.version, request.correlation_id, &answer)
}

fn settings(cluster: &Cluster, topic: &Topic) -> Vec<(String, Option<String>)> {
    let setting = |name: &str, value: String| (name.to_owned(), Some(value));
    vec![
        setting("max.message.bytes", topic.limits.max_message_bytes.to_string()),
        setting("message.timestamp.after.max.ms", topic.limits.after_max_ms.to_string()),
        setting("message.timestamp.before.max.ms", topic.limits.before_max_ms.to_string()),
        setting(
            "message.timestamp.type",
            (if topic.log_append_time { "LogAppendTime" } else { "CreateTime" }).to_owned(),
        ),
        setting("min.insync.replicas", cluster.settings.min_insync_replicas.to_string()),
    ]
}
