//! One connection to one broker: requests are read and carried out one at a time, in order, as a Kafka broker does it
//! (it mutes a connection while it handles a request).
//!
//! Whatever cannot be read as a request closes the connection: a length that is negative or too large, an API or version
//! that is not offered, a malformed body. The buffer grows only as bytes arrive.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::Shared;
use super::answer;
use super::cluster::Counters;
use super::faults::{At, Holds};
use crate::wire::WireError;
use crate::wire::api::{ApiKey, produce};
use crate::wire::codes;
use crate::wire::frame::{self, RequestFrame};

/// Kafka's default of `socket.request.max.bytes`.
const REQUEST_BYTES_MAX: usize = 100 << 20;
/// Room made for each read.
const READ_BYTES: usize = 16 << 10;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("a request could not be read: {0}")]
    Wire(#[from] WireError),
    #[error("a request has a length of {0}")]
    Length(i32),
    #[error("version {version} of {} is not offered", api.name())]
    NotOffered { api: ApiKey, version: i16 },
    #[error("a produce request without an answer failed, or it was ordered so")]
    Dropped,
}

/// What follows from a request.
enum Outcome {
    Answer(BytesMut),
    /// The answer, and for how long the broker then does not read on.
    Throttled(BytesMut, std::time::Duration),
    Silence,
}

/// Serves a connection to `broker` until the client closes it. Dropping this drops what is being done.
pub(super) async fn serve<S>(shared: &Shared, broker: i32, mut stream: S) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut holds = shared.holds.subscribe();
    let mut buffer = BytesMut::new();
    while let Some(bytes) = read_frame(&mut stream, &mut buffer).await? {
        let request = frame::decode_request(bytes)?;
        match handle(shared, broker, &mut holds, request).await? {
            Outcome::Answer(answer) => stream.write_all(&answer).await?,
            Outcome::Throttled(answer, pause) => {
                stream.write_all(&answer).await?;
                tokio::time::sleep(pause).await;
            }
            Outcome::Silence => {}
        }
    }
    Ok(())
}

/// The next request without its length, `None` when the client has closed.
async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> Result<Option<Bytes>, ServeError> {
    loop {
        if let Some(head) = buffer.first_chunk() {
            let length = i32::from_be_bytes(*head);
            let size = usize::try_from(length).ok().filter(|size| *size <= REQUEST_BYTES_MAX);
            let size = size.ok_or(ServeError::Length(length))?;
            if buffer.len() >= head.len() + size {
                buffer.advance(4);
                return Ok(Some(buffer.split_to(size).freeze()));
            }
        } else if buffer.is_empty() {
            // A buffer that has grown for a large request is given back.
            *buffer = BytesMut::new();
        }
        buffer.reserve(READ_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn handle(
    shared: &Shared,
    broker: i32,
    holds: &mut watch::Receiver<Holds>,
    request: RequestFrame,
) -> Result<Outcome, ServeError> {
    let RequestFrame { api, version, .. } = request;
    let offered = shared.change(|cluster| {
        *cluster.counters.requests.entry(api.id()).or_default() += 1;
        cluster.offered(api)
    });
    if api != ApiKey::ApiVersions && !offered.contains(&version) {
        return Err(ServeError::NotOffered { api, version });
    }
    let answer = match api {
        ApiKey::Produce => return self::produce(shared, broker, holds, request).await,
        ApiKey::Fetch => answer::fetch::answer(shared, broker, request).await,
        ApiKey::ListOffsets => shared.with(|cluster| answer::list_offsets::answer(cluster, broker, request)),
        ApiKey::Metadata => shared.change(|cluster| answer::metadata::answer(cluster, request)),
        ApiKey::FindCoordinator => answer::find_coordinator::answer(request),
        ApiKey::ApiVersions => shared.with(|cluster| answer::api_versions::answer(cluster, request)),
        ApiKey::InitProducerId => shared.with(|cluster| answer::init_producer_id::answer(cluster, broker, request)),
        ApiKey::DescribeConfigs => shared.with(|cluster| answer::describe_configs::answer(cluster, request)),
        ApiKey::DescribeProducers => {
            shared.with(|cluster| answer::describe_producers::answer(cluster, broker, request))
        }
        ApiKey::OffsetForLeaderEpoch => {
            shared.with(|cluster| answer::offset_for_leader_epoch::answer(cluster, broker, request))
        }
    };
    Ok(Outcome::Answer(answer?))
}

/// Produce, with all that a test may have ordered: hold, lose, carry out, hold, delay, lose.
async fn produce(
    shared: &Shared,
    broker: i32,
    holds: &mut watch::Receiver<Holds>,
    request: RequestFrame,
) -> Result<Outcome, ServeError> {
    let RequestFrame { version, correlation_id, body, .. } = request;
    let decoded = produce::decode_request(version, body)?;
    let acks = decoded.acks;
    let touched = shared.with(|cluster| answer::produce::touched(cluster, &decoded));

    let covers = |all: &[At]| all.iter().any(|at| at.covers(broker, &touched));
    wait_while(shared, holds, |holds| covers(&holds.requests), |counters| &mut counters.held_requests).await;
    if shared.with(|cluster| cluster.faults.takes_request(broker, &touched)) {
        return lost(shared);
    }
    let checked = answer::produce::Checked::new(decoded, version);
    let (answer, delay, lose) = shared.change(|cluster| {
        let throttle = cluster.faults.throttle(broker, &touched);
        let answer = answer::produce::carry_out(cluster, broker, &checked, throttle, shared.clock.now());
        let delay = cluster.faults.delay(broker, &touched);
        (answer, delay, cluster.faults.takes_answer(broker, &touched))
    });
    drop(checked);
    wait_while(shared, holds, |holds| covers(&holds.answers), |counters| &mut counters.held_answers).await;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if lose {
        return lost(shared);
    }
    if acks == 0 {
        // There is no answer that could carry an error, so Kafka closes the connection.
        let failed = answer.partitions.iter().any(|partition| partition.error_code != codes::NONE);
        return if failed { Err(ServeError::Dropped) } else { Ok(Outcome::Silence) };
    }
    let frame = produce::encode_response(version, correlation_id, &answer)?;
    Ok(if answer.throttle.is_zero() { Outcome::Answer(frame) } else { Outcome::Throttled(frame, answer.throttle) })
}

fn lost(shared: &Shared) -> Result<Outcome, ServeError> {
    shared.change(|cluster| cluster.counters.lost += 1);
    Err(ServeError::Dropped)
}

/// Waits while something holds the request, and counts it meanwhile.
async fn wait_while(
    shared: &Shared,
    holds: &mut watch::Receiver<Holds>,
    held: impl Fn(&Holds) -> bool + Send + Sync,
    counter: impl Fn(&mut Counters) -> &mut u64 + Send + Sync,
) {
    if !held(&holds.borrow_and_update()) {
        return;
    }
    let _counted = Held::new(shared, counter);
    // An error means that the cluster is gone, and this connection with it.
    let _ = holds.wait_for(|holds| !held(holds)).await;
}

/// Counts a request as held for as long as it lives.
struct Held<'a, F: Fn(&mut Counters) -> &mut u64> {
    shared: &'a Shared,
    counter: F,
}

impl<'a, F: Fn(&mut Counters) -> &mut u64> Held<'a, F> {
    fn new(shared: &'a Shared, counter: F) -> Self {
        shared.change(|cluster| *counter(&mut cluster.counters) += 1);
        Held { shared, counter }
    }
}

impl<F: Fn(&mut Counters) -> &mut u64> Drop for Held<'_, F> {
    fn drop(&mut self) {
        self.shared.change(|cluster| *(self.counter)(&mut cluster.counters) -= 1);
    }
}
