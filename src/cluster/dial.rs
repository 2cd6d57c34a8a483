//! How connections to brokers are made: TCP in life, something simulated in tests.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HostPort;
use crate::wire::connection::{Connection, ConnectionError, Limits};

/// The largest answer that is read: metadata of a very large cluster.
const RESPONSE_MAX_BYTES: usize = 100 << 20;

/// A byte stream to a broker.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// A connection to a broker, whatever carries it.
pub type BrokerConnection = Connection<Box<dyn Stream>>;

type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens connections.
#[derive(Clone)]
pub struct Dialer {
    connect: Arc<dyn Fn(HostPort) -> Dialing + Send + Sync>,
    client_id: Arc<str>,
    setup_timeout: Duration,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Why a broker cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// Whom.
        address: HostPort,
        /// Why.
        cause: io::Error,
    },
    /// Too slow: connecting and the first exchange together.
    #[error("no connection to {address} within {within:?} (kafka.socket_connection_setup_timeout)")]
    Timeout {
        /// Whom.
        address: HostPort,
        /// The limit.
        within: Duration,
    },
    /// Something answered, but not as a Kafka broker does.
    #[error("{address}: {cause}")]
    Handshake {
        /// Who.
        address: HostPort,
        /// How.
        cause: ConnectionError,
    },
}

impl Dialer {
    /// Over TCP, without delay for small writes.
    pub fn tcp(client_id: &str, setup_timeout: Duration) -> Self {
        Self::new(client_id, setup_timeout, |address| {
            Box::pin(async move {
                let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            })
        })
    }

    /// Over whatever `connect` gives.
    pub fn new(
        client_id: &str,
        setup_timeout: Duration,
        connect: impl Fn(HostPort) -> Dialing + Send + Sync + 'static,
    ) -> Self {
        Dialer { connect: Arc::new(connect), client_id: client_id.into(), setup_timeout }
    }

    /// A connection that has agreed on API versions. Dropping the future closes what it has opened.
    pub async fn dial(&self, address: &HostPort) -> Result<BrokerConnection, DialError> {
        let dialing = async {
            let stream = (self.connect)(address.clone())
                .await
                .map_err(|cause| DialError::Connect { address: address.clone(), cause })?;
            let limits = Limits { max_response_bytes: RESPONSE_MAX_BYTES };
            Connection::open(stream, self.client_id.clone(), limits)
                .await
                .map_err(|cause| DialError::Handshake { address: address.clone(), cause })
        };
        let within = self.setup_timeout;
        timeout(within, dialing).await.unwrap_or(Err(DialError::Timeout { address: address.clone(), within }))
    }
}
