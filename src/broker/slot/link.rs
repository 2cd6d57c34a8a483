//! An open connection to a broker, and what is unanswered on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Context;
use crate::broker::identity::IdentityError;
use crate::broker::lanes::ProducerIds;
use crate::broker::lateness::Lateness;
use crate::cluster::dial::{BrokerConnection, DialError};
use crate::config::HostPort;
use crate::queue::partition::Partition;
use crate::queue::window::{Attempt, ConnectionId};
use crate::wire::WireError;
use crate::wire::api::{ApiKey, produce};
use crate::wire::connection::ConnectionError;

/// A request that waits for its answer.
pub(super) struct Pending {
    pub parts: Vec<(Arc<Partition>, Attempt)>,
    pub sent: Instant,
    pub deadline: Instant,
}

/// What is unanswered on a connection. Dropped, however that comes about, it is in doubt.
pub(super) struct Unanswered {
    context: Arc<Context>,
    id: ConnectionId,
    pub requests: VecDeque<Pending>,
}

impl Unanswered {
    /// Of the oldest request.
    pub fn oldest(&self) -> Vec<Arc<Partition>> {
        let parts = self.requests.front().map_or(&[][..], |request| &request.parts);
        parts.iter().map(|(partition, _)| partition.clone()).collect()
    }

    /// Of all requests.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.requests.iter().flat_map(|request| &request.parts).map(|(partition, _)| partition.clone()).collect()
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let mut effects = Vec::new();
        for (partition, _) in self.requests.drain(..).flat_map(|request| request.parts) {
            partition.window().lost(self.id, &mut effects);
            self.context.carry_out(&partition, &mut effects);
        }
    }
}

/// An open connection and what is unanswered on it; fields are dropped in this order, so it is closed before anything is said to
/// be in doubt.
pub(super) struct Link {
    pub connection: BrokerConnection,
    pub id: ConnectionId,
    pub version: i16,
    pub ids: ProducerIds,
    pub pending: Unanswered,
    pub lateness: Lateness,
    /// The broker asked to be left alone until then.
    pub throttled_until: Option<Instant>,
}

impl Link {
    /// Connects, and takes producer ids if nobody has yet. Cancel safe.
    pub async fn open(
        context: Arc<Context>,
        address: &HostPort,
        lateness: Lateness,
        mut random: fastrand::Rng,
    ) -> Result<Link, Ended> {
        let mut connection = context.dialer.dial(address).await?;
        let version = connection.versions().pick(ApiKey::Produce, produce::VERSIONS).ok_or(Ended::Version)?;
        let backoff = context.retry_backoff();
        context.look_at_clocks();
        let ids =
            context.identity.get(&mut connection, context.config.kafka.request_timeout, backoff, &mut random).await?;
        let id = context.next_connection();
        let pending = Unanswered { context, id, requests: VecDeque::new() };
        Ok(Link { connection, id, version, ids, pending, lateness, throttled_until: None })
    }
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("told to stop")]
    Stopped,
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("no answer within {0:?} (kafka.request_timeout)")]
    Timeout(Duration),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("it takes no record batches of version 2: Kafka 0.11 or later is needed")]
    Version,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it answers what was not asked")]
    Unasked,
    /// Everything was answered.
    #[error("the producer ids were given up")]
    IdsGivenUp,
}
