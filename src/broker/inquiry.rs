//! Finds out what a flight asks for, over connections of its own: a scan may take long, and must not hold up what is sent.
//!
//! The leader of the partition is asked. What it does not know in this epoch, it refuses; the flight then begins anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::flight::{Finding, Question};
use super::identity::{self, IdentityError};
use super::scan::{Progress, Scan, Scanned, log_end};
use super::{Context, until};
use crate::cluster::dial::{BrokerConnection, DialError};
use crate::config::HostPort;
use crate::queue::partition::Partition;
use crate::wire::WireError;
use crate::wire::api::{ApiKey, describe_producers};
use crate::wire::codes;
use crate::wire::connection::ConnectionError;
use crate::wire::frame::Frame;
use crate::wire::record_batch::Lane;

/// Inquiries of one slot under way at once, each with a connection; others wait their turn.
const RUNNING_MAX: usize = 2;

/// For how long an inquiry that takes longer is gone on with before others have their turn.
const TIME_SLICE: Duration = Duration::from_secs(2);

/// For how long a connection is kept for the next inquiry.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// A question of a partition.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub partition: Arc<Partition>,
    /// The question's number in its partition.
    pub number: u32,
    pub question: Question,
    /// For the jitter of what is asked again.
    pub random: fastrand::Rng,
    /// How far a scan has come in its earlier turns.
    pub progress: Option<Progress>,
}

impl Inquiry {
    /// Whether the partition still waits for it.
    fn is_wanted(&self) -> bool {
        self.partition.window().flight.as_ref().is_some_and(|flight| flight.inquiry == Some(self.number))
    }
}

/// What came of one.
#[derive(Debug)]
pub(super) struct Found {
    pub partition: Arc<Partition>,
    pub number: u32,
    pub finding: Finding,
}

/// What came of one turn.
enum Turn {
    Found(Finding),
    /// It is to go on later.
    Unfinished(Progress),
}

/// The end of a turn.
struct Ended {
    inquiry: Inquiry,
    turn: Turn,
    /// Nothing is unanswered on it.
    connection: Option<BrokerConnection>,
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
#[derive(Default)]
pub(super) struct Inquiries {
    waiting: VecDeque<Inquiry>,
    running: JoinSet<Ended>,
    /// Connections that nobody uses, with until when they are kept, longest kept first. No more than run at once.
    kept: VecDeque<(Instant, BrokerConnection)>,
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
            let kept = self.kept.pop_back().map(|(_, connection)| connection);
            self.running.spawn(turn(context.clone(), address.clone(), kept, inquiry));
        }
    }

    /// The next one that has come to an end; waits for ever if none is under way. Cancel safe.
    pub async fn next(&mut self, context: &Arc<Context>, address: &HostPort) -> Found {
        loop {
            let Ended { inquiry, turn, connection } = tokio::select! {
                biased;
                ended = next_ended(&mut self.running) => ended,
                () = until(self.kept.front().map(|(until, _)| *until)) => {
                    self.kept.pop_front();
                    continue;
                }
            };
            self.kept.extend(connection.map(|connection| (Instant::now() + KEPT_FOR, connection)));
            let found = match turn {
                Turn::Found(finding) => Some(Found { partition: inquiry.partition, number: inquiry.number, finding }),
                Turn::Unfinished(progress) => {
                    let inquiry = Inquiry { progress: Some(progress), ..inquiry };
                    self.waiting.extend(Some(inquiry).filter(Inquiry::is_wanted));
                    None
                }
            };
            self.start(context, address);
            if let Some(found) = found {
                return found;
            }
        }
    }
}

async fn next_ended(running: &mut JoinSet<Ended>) -> Ended {
    match running.join_next().await {
        Some(Ok(ended)) => ended,
        // A panic there is one here.
        Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Some(Err(_)) | None => std::future::pending().await,
    }
}

/// One turn of an inquiry, over a connection that was kept, or another one if that has been closed meanwhile.
async fn turn(
    context: Arc<Context>,
    address: HostPort,
    mut kept: Option<BrokerConnection>,
    mut inquiry: Inquiry,
) -> Ended {
    let outcome = loop {
        let was_kept = kept.is_some();
        let connection = match kept.take() {
            Some(connection) => Ok(connection),
            None => context.dialer.dial(&address).await.map_err(InquiryError::from),
        };
        match connection {
            Ok(mut connection) => match find(&context, &mut connection, &mut inquiry).await {
                Err(InquiryError::Connection(_)) if was_kept => {}
                outcome => break outcome.map(|turn| (turn, connection)),
            },
            Err(cause) => break Err(cause),
        }
    };
    match outcome {
        Ok((turn, connection)) => Ended { inquiry, turn, connection: Some(connection) },
        Err(cause) => {
            let (topic, partition) = (&inquiry.partition.topic().name, inquiry.partition.id());
            debug!(%topic, partition, error = %cause, "nothing found out about what was sent");
            Ended { inquiry, turn: Turn::Found(cause.finding()), connection: None }
        }
    }
}

async fn find(
    context: &Context,
    connection: &mut BrokerConnection,
    inquiry: &mut Inquiry,
) -> Result<Turn, InquiryError> {
    let within = context.config.kafka.request_timeout;
    let Inquiry { partition, question, random, progress, .. } = inquiry;
    let epoch = || context.cluster.now().leader_epoch(&partition.topic().name, partition.id());
    let finding = match question {
        Question::LastSequence { acknowledged_end: Some(acknowledged_end), .. }
            if ends_before(connection, within, partition, epoch(), *acknowledged_end).await? =>
        {
            Finding::Shrunk
        }
        Question::LastSequence { lane, .. } => last_sequence(connection, within, partition, *lane).await?,
        Question::Scan { from, sent } => {
            let scan = Scan { within, partition, from: *from, sent, turn_ends: Instant::now() + TIME_SLICE };
            match scan.go_on(connection, epoch(), progress.take()).await? {
                Scanned::Found(finding) => finding,
                Scanned::Unfinished(progress) => return Ok(Turn::Unfinished(progress)),
            }
        }
        Question::ProducerId => {
            Finding::ProducerId(identity::ask(connection, within, context.retry_backoff(), random).await?)
        }
    };
    Ok(Turn::Found(finding))
}

/// Whether the leader's log ends before what was acknowledged. The log's end is asked for, and not where the epoch of the acknowledgement
/// ended: answers to Produce do not say their epoch, and the end of one that is remembered too low would be a false alarm. So a log
/// that has grown again since is not noticed here, but by the rounds of probes.
async fn ends_before(
    connection: &mut BrokerConnection,
    within: Duration,
    partition: &Partition,
    epoch: Option<i32>,
    acknowledged_end: i64,
) -> Result<bool, InquiryError> {
    let Some(epoch) = epoch else { return Ok(false) };
    match log_end(connection, within, partition, epoch).await {
        Ok(end) => Ok(end < acknowledged_end),
        // Not every broker can say.
        Err(cause) if cause.finding() == Finding::Unknown => Ok(false),
        Err(cause) => Err(cause),
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

#[cfg(test)]
mod tests;
