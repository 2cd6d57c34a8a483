//! Whether topics are there and can be written, as far as can be known without writing, and whether "replicated" means more than
//! one copy.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{AskError, Asker};
use super::report::Finding;
use crate::cli::exit;
use crate::cluster::dial::BrokerConnection;
use crate::wire::api::metadata::{Operations, Partition, Topic};
use crate::wire::api::{ApiKey, describe_configs};
use crate::wire::codes;

const SUBJECT: &str = "topic";
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// Partitions that a message names.
const NAMED_MAX: usize = 5;

/// What the findings speak of beside the topics.
#[derive(Debug)]
pub(super) struct Context {
    /// `kafka.allow_auto_create_topics`.
    pub(super) may_create: bool,
    /// A server, for commands that mend something.
    pub(super) server: String,
    /// How many brokers are up.
    pub(super) brokers: usize,
}

/// The setting, or why it is not known.
type MinInsync = Result<usize, String>;

/// Findings about each of `names`.
pub(super) async fn check(
    asker: &Asker,
    connection: &mut BrokerConnection,
    context: &Context,
    names: &BTreeSet<String>,
) -> Vec<Finding> {
    if names.is_empty() {
        let message = "none is named in the configuration without a glob; -t TOPIC checks one";
        return vec![Finding::ok(SUBJECT, message)];
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let described = match asker.metadata(connection, &names).await {
        Ok(metadata) => metadata.topics,
        Err(error) => {
            let message = format!("{} does not describe the topics: {error}", context.server);
            return vec![Finding::error(exit::UNAVAILABLE, SUBJECT, message, "look at the broker's own log")];
        }
    };
    let described: BTreeMap<_, _> =
        described.into_iter().filter_map(|topic| Some((topic.name.clone()?, topic))).collect();
    let settings = min_insync(asker, connection, &names).await;
    let untold = |name: &&str| match &settings {
        Ok(settings) => settings.get(*name).cloned().unwrap_or_else(|| Err("the broker says nothing of it".to_owned())),
        Err(error) => Err(error.to_string()),
    };
    let missing = Topic { error_code: codes::UNKNOWN_TOPIC_OR_PARTITION, ..Topic::default() };
    let judged = |name: &&str| judge(context, name, described.get(*name).unwrap_or(&missing), &untold(name));
    names.iter().flat_map(judged).collect()
}

/// `min.insync.replicas` by topic.
async fn min_insync(
    asker: &Asker,
    connection: &mut BrokerConnection,
    names: &[&str],
) -> Result<BTreeMap<String, MinInsync>, AskError> {
    let version = connection.versions().pick(ApiKey::DescribeConfigs, describe_configs::VERSIONS);
    let version = version.ok_or(AskError::Version(ApiKey::DescribeConfigs.name()))?;
    let id = connection.next_correlation_id();
    let frame = describe_configs::encode(version, id, connection.client_id(), names, &[MIN_INSYNC_REPLICAS])?;
    let body = asker.in_time(connection.call(frame)).await?;
    let topics = describe_configs::decode(version, body)?.topics.into_iter();
    Ok(topics.map(|topic| (topic.name.clone(), of_settings(&topic))).collect())
}

fn of_settings(topic: &describe_configs::Topic) -> MinInsync {
    match (topic.error_code, topic.setting(MIN_INSYNC_REPLICAS).map(str::parse)) {
        (codes::NONE, Some(Ok(number))) => Ok(number),
        (codes::NONE, _) => Err("the broker does not tell it".to_owned()),
        (code, _) => Err(format!("{} ({code})", codes::name(code))),
    }
}

/// Findings about one topic. Pure.
fn judge(context: &Context, name: &str, topic: &Topic, min_insync: &MinInsync) -> Vec<Finding> {
    if topic.error_code != codes::NONE {
        return vec![unusable(context, name, topic.error_code)];
    }
    let mut findings = Vec::new();
    if topic.authorized_operations.is_some_and(|operations| !operations.write()) {
        findings.push(Finding::error(exit::DATA, SUBJECT, format!("{name} may not be written"), grant(context, name)));
    }
    findings.extend(leaders(name, &topic.partitions));
    findings.extend(replicas(context, name, &topic.partitions, min_insync));
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, summary(name, topic, min_insync)));
    }
    findings
}

/// A topic that Metadata answers with an error.
fn unusable(context: &Context, name: &str, code: i16) -> Finding {
    let (server, copies) = (&context.server, context.brokers.clamp(1, 3));
    let create = format!(
        "kafka-topics.sh --bootstrap-server {server} --create --topic {name} --partitions N --replication-factor {copies}"
    );
    match code {
        codes::UNKNOWN_TOPIC_OR_PARTITION if context.may_create => Finding::warning(
            SUBJECT,
            format!(
                "{name} does not exist: the first record makes it, if the brokers' auto.create.topics.enable allows it"
            ),
            format!("make it, to choose its partitions and copies: {create}"),
        ),
        codes::UNKNOWN_TOPIC_OR_PARTITION => Finding::error(
            exit::DATA,
            SUBJECT,
            format!("{name} does not exist"),
            format!("make it: {create}; or mend its name"),
        ),
        codes::TOPIC_AUTHORIZATION_FAILED => {
            let message = format!("{name} may not be seen, if it exists: TOPIC_AUTHORIZATION_FAILED (29)");
            Finding::error(exit::DATA, SUBJECT, message, grant(context, name))
        }
        code => {
            let message = format!("{name}: {} ({code})", codes::name(code));
            Finding::error(exit::DATA, SUBJECT, message, "look at the broker's own log, and check again")
        }
    }
}

fn grant(context: &Context, name: &str) -> String {
    format!(
        "grant it: kafka-acls.sh --bootstrap-server {} --add --allow-principal User:NAME --operation Write --operation \
         Describe --topic {name}",
        context.server
    )
}

/// Partitions that nobody leads.
fn leaders(name: &str, partitions: &[Partition]) -> Option<Finding> {
    let without: Vec<i32> = partitions.iter().filter(|partition| partition.leader < 0).map(|p| p.id).collect();
    (!without.is_empty()).then(|| {
        let message =
            format!("{name}: {} of {} partitions have no leader: {}", without.len(), partitions.len(), list(&without));
        Finding::error(
            exit::DATA,
            SUBJECT,
            message,
            "start the brokers that hold them; their records are held until then",
        )
    })
}

/// Whether "replicated" will mean more than one copy, and whether there are enough of them now.
fn replicas(context: &Context, name: &str, partitions: &[Partition], min_insync: &MinInsync) -> Vec<Finding> {
    let mut findings = Vec::new();
    let copies = partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or_default();
    let set = |value: usize| {
        let server = &context.server;
        format!(
            "kafka-configs.sh --bootstrap-server {server} --alter --topic {name} --add-config {MIN_INSYNC_REPLICAS}={value}"
        )
    };
    let mut warn = |message: String, remedy: String| findings.push(Finding::warning(SUBJECT, message, remedy));
    if copies == 1 {
        let remedy = match context.brokers {
            1 => "accept it for a trial; else run three brokers".to_owned(),
            _ => "give it three copies with kafka-reassign-partitions.sh, then min.insync.replicas=2".to_owned(),
        };
        warn(format!("{name} has one copy of each record: a broker that is lost takes them with it"), remedy);
    } else {
        match min_insync {
            Ok(1) => warn(
                format!(
                    "{name}: {MIN_INSYNC_REPLICAS} is 1, so a record may be acknowledged with one copy, and lost with it"
                ),
                set(2),
            ),
            Ok(least) if *least >= copies => warn(
                format!(
                    "{name}: {MIN_INSYNC_REPLICAS} is {least} of {copies} copies: no broker that has one may be down"
                ),
                set(copies - 1),
            ),
            Ok(_) => {}
            Err(why) => warn(
                format!("{name}: {MIN_INSYNC_REPLICAS} is not known: {why}"),
                "grant DescribeConfigs on it, or look with kafka-configs.sh --describe that it is 2 or more".to_owned(),
            ),
        }
    }
    findings.extend(in_sync(name, partitions, min_insync));
    findings
}

/// Partitions that take no record now, or have lost copies.
fn in_sync(name: &str, partitions: &[Partition], min_insync: &MinInsync) -> Option<Finding> {
    let ids = |behind: &dyn Fn(&Partition) -> bool| -> Vec<i32> {
        partitions.iter().filter(|partition| partition.leader >= 0 && behind(partition)).map(|p| p.id).collect()
    };
    let least = *min_insync.as_ref().unwrap_or(&0);
    // A broker asks for no more copies than there are (`Partition.effectiveMinIsr`).
    let refusing = ids(&|partition| partition.in_sync.len() < least.min(partition.replicas.len()));
    if !refusing.is_empty() {
        let message = format!(
            "{name}: {} of {} partitions have fewer copies in sync than {MIN_INSYNC_REPLICAS} ({least}) and take no records: {}",
            refusing.len(),
            partitions.len(),
            list(&refusing)
        );
        let remedy = format!(
            "start the brokers that hold them, or lower {MIN_INSYNC_REPLICAS}; their records are held until then"
        );
        return Some(Finding::error(exit::DATA, SUBJECT, message, remedy));
    }
    let behind = ids(&|partition| partition.in_sync.len() < partition.replicas.len());
    (!behind.is_empty()).then(|| {
        let message =
            format!("{name}: {} of {} partitions lack copies: {}", behind.len(), partitions.len(), list(&behind));
        Finding::warning(SUBJECT, message, "start the brokers that hold them, or wait until they have caught up")
    })
}

fn summary(name: &str, topic: &Topic, min_insync: &MinInsync) -> String {
    let copies = topic.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or_default();
    let least = min_insync.as_ref().map(|least| format!(", {MIN_INSYNC_REPLICAS} {least}")).unwrap_or_default();
    let written = match topic.authorized_operations.map(Operations::write) {
        Some(true) => ", may be written",
        _ => "",
    };
    format!("{name}: {} partitions, {copies} copies each{least}{written}", topic.partitions.len())
}

/// The first few of them.
fn list(ids: &[i32]) -> String {
    let named: Vec<String> = ids.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if ids.len() > NAMED_MAX { ", …" } else { "" };
    named.join(", ") + more
}

#[cfg(test)]
mod tests;
