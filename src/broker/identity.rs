//! The two producer ids that the daemon takes at each start: one for fresh batches, one for old ones.
//!
//! They are asked of whichever broker is connected to first, once. A new start has new ones, so that nothing that an earlier
//! process has sent can be mistaken for something of this one.

use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::flight::ProducerIds;
use crate::backoff::Backoff;
use crate::cluster::dial::BrokerConnection;
use crate::wire::api::{ApiKey, init_producer_id};
use crate::wire::codes;

/// See the module.
#[derive(Debug, Default)]
pub struct Identity(OnceCell<ProducerIds>);

impl Identity {
    /// The ids, asked for on `connection` if nobody has yet. Brokers that are not ready yet (error 14 on the first request of
    /// a new cluster) are asked again. Cancel safe: a connection with an unanswered request must then be closed.
    pub async fn get(
        &self,
        connection: &mut BrokerConnection,
        within: Duration,
        backoff: Backoff,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<ProducerIds> {
        let ask = async {
            let fresh = ask(connection, within, backoff, random).await?;
            let old = ask(connection, within, backoff, random).await?;
            anyhow::Ok(ProducerIds { fresh, old })
        };
        self.0.get_or_try_init(|| ask).await.copied()
    }
}

async fn ask(
    connection: &mut BrokerConnection,
    within: Duration,
    backoff: Backoff,
    random: &mut fastrand::Rng,
) -> anyhow::Result<i64> {
    let version = connection
        .versions()
        .pick(ApiKey::InitProducerId, init_producer_id::VERSIONS)
        .ok_or_else(|| anyhow::anyhow!("it cannot give producer ids: Kafka 0.11 or later is needed"))?;
    for attempt in 1.. {
        let correlation_id = connection.next_correlation_id();
        let client_id = connection.client_id().to_owned();
        let frame = init_producer_id::encode(version, correlation_id, &client_id)?;
        let body = timeout(within, connection.call(frame))
            .await
            .map_err(|_| anyhow::anyhow!("no producer id within {within:?} (kafka.request_timeout)"))??;
        let answer = init_producer_id::decode(version, body)?;
        match answer.error_code {
            codes::NONE => return Ok(answer.producer_id),
            codes::COORDINATOR_LOAD_IN_PROGRESS
            | codes::COORDINATOR_NOT_AVAILABLE
            | codes::NOT_COORDINATOR
            | codes::REQUEST_TIMED_OUT
            | codes::CONCURRENT_TRANSACTIONS => sleep(backoff.delay(attempt, random)).await,
            code => anyhow::bail!(
                "no producer id: error {code} {}; WRITE on a topic or IDEMPOTENT_WRITE on the cluster is needed",
                codes::name(code)
            ),
        }
    }
    unreachable!("the attempts have no end")
}
