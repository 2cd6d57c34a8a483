//! The two producer ids that the daemon takes at each start: one for fresh batches, one for old ones.
//!
//! They are asked of whichever broker is connected to first, once, and once more each time that the clocks have jumped (`clocks`). A new
//! start has new ones, so that nothing that an earlier process has sent can be mistaken for something of this one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::lanes::ProducerIds;
use crate::backoff::Backoff;
use crate::cluster::dial::BrokerConnection;
use crate::wire::WireError;
use crate::wire::api::{ApiKey, init_producer_id};
use crate::wire::codes;
use crate::wire::connection::ConnectionError;

/// How often one broker is asked again before another one is.
const ATTEMPTS_MAX: u32 = 5;

/// Why there are no producer ids.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A broker before Kafka 0.11.
    #[error("it cannot give producer ids: Kafka 0.11 or later is needed")]
    Version,
    /// Nothing came.
    #[error("no producer id within {0:?} (kafka.request_timeout)")]
    Timeout(Duration),
    /// The broker says no.
    #[error("no producer id: error {code} {}; WRITE on a topic or IDEMPOTENT_WRITE on the cluster is needed", codes::name(*code))]
    Refused {
        /// Kafka's error code.
        code: i16,
    },
    /// The connection broke.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The answer is not one.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Identity {
    /// How often the ids were given up.
    generation: AtomicU32,
    ids: Mutex<Option<ProducerIds>>,
}

impl Identity {
    /// Gives the ids up: from now on there are others.
    pub fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether these have been given up.
    pub fn is_past(&self, ids: ProducerIds) -> bool {
        ids.generation != self.generation.load(Ordering::Relaxed)
    }

    /// The ids, asked for on `connection` if nobody has yet, while others wait for that. Brokers that are not ready yet (error 14 on the first request of
    /// a new cluster) are asked again. Cancel safe: a connection with an unanswered request must then be closed.
    pub async fn get(
        &self,
        connection: &mut BrokerConnection,
        within: Duration,
        backoff: Backoff,
        random: &mut fastrand::Rng,
    ) -> Result<ProducerIds, IdentityError> {
        let mut ids = self.ids.lock().await;
        if let Some(present) = ids.filter(|ids| !self.is_past(*ids)) {
            return Ok(present);
        }
        // Before they are asked for: what is given up meanwhile is asked for anew.
        let generation = self.generation.load(Ordering::Relaxed);
        let fresh = ask(connection, within, backoff, random).await?;
        let old = ask(connection, within, backoff, random).await?;
        Ok(*ids.insert(ProducerIds { fresh, old, generation }))
    }
}

/// One producer id.
pub(super) async fn ask(
    connection: &mut BrokerConnection,
    within: Duration,
    backoff: Backoff,
    random: &mut fastrand::Rng,
) -> Result<i64, IdentityError> {
    let version =
        connection.versions().pick(ApiKey::InitProducerId, init_producer_id::VERSIONS).ok_or(IdentityError::Version)?;
    let mut failures = 0;
    loop {
        let correlation_id = connection.next_correlation_id();
        let client_id = connection.client_id().to_owned();
        let frame = init_producer_id::encode(version, correlation_id, &client_id)?;
        let body = timeout(within, connection.call(frame)).await.map_err(|_| IdentityError::Timeout(within))??;
        let answer = init_producer_id::decode(version, body)?;
        match answer.error_code {
            codes::NONE if answer.producer_id >= 0 => return Ok(answer.producer_id),
            // Others wait for this one to ask: one broker that cannot say must not hold up those that can.
            code if failures >= ATTEMPTS_MAX => return Err(IdentityError::Refused { code }),
            codes::COORDINATOR_LOAD_IN_PROGRESS
            | codes::COORDINATOR_NOT_AVAILABLE
            | codes::NOT_COORDINATOR
            | codes::REQUEST_TIMED_OUT
            | codes::CONCURRENT_TRANSACTIONS => {
                failures += 1;
                sleep(backoff.delay(failures, random)).await;
            }
            code => return Err(IdentityError::Refused { code }),
        }
    }
}
