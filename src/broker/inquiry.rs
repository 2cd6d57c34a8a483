//! Finds out what a flight asks for, over connections of its own: a scan may take long, and must not hold up what is sent.
//!
//! The leader of the partition is asked. What it does not know in this epoch, it refuses; the flight then begins anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::Context;
use super::flight::{Finding, Question};
use super::identity::{self, IdentityError};
use super::scan::scan;
use crate::cluster::dial::{BrokerConnection, DialError};
use crate::config::HostPort;
use crate::queue::partition::Partition;
use crate::wire::WireError;
use crate::wire::api::{ApiKey, describe_producers};
use crate::wire::codes;
use crate::wire::connection::ConnectionError;
use crate::wire::frame::Frame;
use crate::wire::record_batch::Lane;

/// Inquiries of one slot under way at once, each with a connection; others wait.
const RUNNING_MAX: usize = 2;

/// A question of a partition.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub partition: Arc<Partition>,
    /// The question's number in its partition.
    pub number: u32,
    pub question: Question,
    /// For the jitter of what is asked again.
    pub random: fastrand::Rng,
}

/// What came of one.
#[derive(Debug)]
pub(super) struct Found {
    pub partition: Arc<Partition>,
    pub number: u32,
    pub finding: Finding,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub(super) enum InquiryError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("no answer within {0:?} (kafka.request_timeout)")]
    Timeout(Duration),
    #[error("the broker refuses: error {code} {}", codes::name(*code))]
    Refused { code: i16 },
    #[error("it does not offer {}", .0.name())]
    NotOffered(ApiKey),
    #[error("{0}")]
    Nonsense(&'static str),
}

impl InquiryError {
    /// What it means for the flight: some things will be no better next time.
    fn finding(&self) -> Finding {
        match self {
            InquiryError::NotOffered(_)
            | InquiryError::Refused {
                code:
                    codes::TOPIC_AUTHORIZATION_FAILED
                    | codes::CLUSTER_AUTHORIZATION_FAILED
                    | codes::OFFSET_OUT_OF_RANGE
                    | codes::UNSUPPORTED_VERSION
                    | codes::INVALID_REQUEST,
            } => Finding::Unknown,
            _ => Finding::Failed,
        }
    }
}

/// The inquiries of one slot. Dropping it ends them.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    waiting: VecDeque<Inquiry>,
    running: JoinSet<Found>,
}

impl Inquiries {
    /// Asks as soon as there is room.
    pub fn ask(&mut self, context: &Arc<Context>, address: &HostPort, inquiry: Inquiry) {
        // One that the partition no longer waits for.
        self.waiting.retain(|waiting| !Arc::ptr_eq(&waiting.partition, &inquiry.partition));
        self.waiting.push_back(inquiry);
        self.start(context, address);
    }

    fn start(&mut self, context: &Arc<Context>, address: &HostPort) {
        while self.running.len() < RUNNING_MAX
            && let Some(inquiry) = self.waiting.pop_front()
        {
            let (context, address) = (context.clone(), address.clone());
            self.running.spawn(async move {
                let Inquiry { partition, number, question, mut random } = inquiry;
                let topic = &partition.topic().name;
                let finding = find(&context, &address, &partition, question, &mut random).await.unwrap_or_else(|cause| {
                    debug!(%topic, partition = partition.id(), error = %cause, "nothing found out about what was sent");
                    cause.finding()
                });
                Found { partition, number, finding }
            });
        }
    }

    /// The next one that has come to an end; waits for ever if none is under way. Cancel safe.
    pub async fn next(&mut self, context: &Arc<Context>, address: &HostPort) -> Found {
        match self.running.join_next().await {
            Some(Ok(found)) => {
                self.start(context, address);
                found
            }
            // A panic there is one here.
            Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

async fn find(
    context: &Context,
    address: &HostPort,
    partition: &Partition,
    question: Question,
    random: &mut fastrand::Rng,
) -> Result<Finding, InquiryError> {
    let mut connection = context.dialer.dial(address).await?;
    let within = context.config.kafka.request_timeout;
    match question {
        Question::LastSequence(lane) => last_sequence(&mut connection, within, partition, lane).await,
        Question::Scan { from, sent } => {
            let epoch = context.cluster.now().leader_epoch(&partition.topic().name, partition.id());
            scan(&mut connection, within, partition, epoch, from, &sent).await
        }
        Question::ProducerId => {
            let id = identity::ask(&mut connection, within, context.retry_backoff(), random).await?;
            Ok(Finding::ProducerId(id))
        }
    }
}

async fn last_sequence(
    connection: &mut BrokerConnection,
    within: Duration,
    partition: &Partition,
    lane: Lane,
) -> Result<Finding, InquiryError> {
    let version = pick(connection, ApiKey::DescribeProducers, describe_producers::VERSIONS)?;
    let (topic, id) = (&partition.topic().name, partition.id());
    let correlation_id = connection.next_correlation_id();
    let frame = describe_producers::encode(version, correlation_id, connection.client_id(), topic, id)?;
    let answers = describe_producers::decode(version, call(connection, within, frame).await?)?;
    let answer = answers.into_iter().find(|answer| answer.topic == *topic && answer.partition == id);
    let answer = answer.ok_or(InquiryError::Nonsense("the answer leaves the partition out"))?;
    match answer.error_code {
        codes::NONE => {
            let producer = answer.producers.iter().find(|producer| producer.lane == lane);
            Ok(Finding::LastSequence(producer.map(|producer| producer.last_sequence).filter(|last| *last >= 0)))
        }
        code => Err(InquiryError::Refused { code }),
    }
}

/// The newest version that both speak.
pub(super) fn pick(
    connection: &BrokerConnection,
    api: ApiKey,
    versions: std::ops::RangeInclusive<i16>,
) -> Result<i16, InquiryError> {
    connection.versions().pick(api, versions).ok_or(InquiryError::NotOffered(api))
}

/// One request and its answer.
pub(super) async fn call(
    connection: &mut BrokerConnection,
    within: Duration,
    frame: Frame,
) -> Result<Bytes, InquiryError> {
    Ok(timeout(within, connection.call(frame)).await.map_err(|_| InquiryError::Timeout(within))??)
}
