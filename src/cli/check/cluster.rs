//! Whether Kafka can be reached: every bootstrap server, every broker that the cluster names, and then the topics.
//!
//! Each is looked up, connected to and asked for its API versions and for the cluster, many at the same time; the findings come in
//! the order of the configuration. Of brokers that the cluster names, the first thousand are asked. The time for each is bounded by `kafka.socket_connection_setup_timeout` and `kafka.request_timeout`.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::report::Finding;
use super::topics;
use crate::cli::exit;
use crate::cluster::dial::{BrokerConnection, DialError, Dialer};
use crate::config::{Config, HostPort};
use crate::wire::WireError;
use crate::wire::api::metadata::{self, Metadata};
use crate::wire::api::{ApiKey, init_producer_id, produce};
use crate::wire::codes;
use crate::wire::connection::ConnectionError;

const SUBJECT: &str = "kafka";
/// Brokers that are asked at the same time.
const ASKED_AT_ONCE: usize = 64;
/// Brokers that are asked at all, of those that the cluster names.
const BROKERS_MAX: usize = 1000;

/// Why a broker is no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("its name cannot be looked up: {0}")]
    Lookup(io::Error),
    #[error("its name could not be looked up within {0:?}")]
    SlowLookup(Duration),
    #[error("it cannot be connected to: {0}")]
    Connect(io::Error),
    #[error("no connection within {0:?} (kafka.socket_connection_setup_timeout)")]
    SlowConnect(Duration),
    #[error("it does not talk as a Kafka broker does: {0}")]
    Handshake(ConnectionError),
    #[error("it does not offer {0} in a version that forebay speaks")]
    Version(&'static str),
    #[error("no answer within {0:?} (kafka.request_timeout)")]
    Timeout(Duration),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("it answers {} ({code})", codes::name(*code))]
    Refused { code: i16 },
}

impl From<DialError> for AskError {
    /// Without the address, which the finding names.
    fn from(error: DialError) -> Self {
        match error {
            DialError::Connect { cause, .. } => AskError::Connect(cause),
            DialError::Timeout { within, .. } => AskError::SlowConnect(within),
            DialError::Handshake { cause, .. } => AskError::Handshake(cause),
        }
    }
}

/// A broker that answers.
struct Reached {
    connection: BrokerConnection,
    metadata: Metadata,
    took: Duration,
}

/// How brokers are asked.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    dialer: Dialer,
    setup_timeout: Duration,
    request_timeout: Duration,
}

/// Findings about the servers, the brokers and `topics`.
pub(super) async fn check(config: &Config, topics: &BTreeSet<String>) -> Vec<Finding> {
    let kafka = &config.kafka;
    let asker = Asker {
        dialer: Dialer::tcp(&kafka.client_id, kafka.socket_connection_setup_timeout),
        setup_timeout: kafka.socket_connection_setup_timeout,
        request_timeout: kafka.request_timeout,
    };
    let reached = asker.reach_all(&kafka.bootstrap_servers).await;
    let any = reached.iter().any(Result::is_ok);
    let cluster = reached.iter().flatten().find_map(|reached| reached.metadata.cluster_id.clone());
    let mut findings = Vec::new();
    let mut first: Option<(HostPort, Reached)> = None;
    for (server, reached) in kafka.bootstrap_servers.iter().zip(reached) {
        findings.push(of_server(server, &reached, any, cluster.as_deref()));
        if let Ok(reached) = reached
            && reached.metadata.cluster_id == cluster
        {
            first.get_or_insert((server.clone(), reached));
        }
    }
    let Some((server, Reached { mut connection, metadata, .. })) = first else { return findings };
    findings.extend(of_brokers(&asker, &metadata, &kafka.bootstrap_servers).await);
    let context = topics::Context {
        may_create: kafka.allow_auto_create_topics,
        server: server.to_string(),
        brokers: metadata.brokers.len(),
    };
    findings.extend(topics::check(&asker, &mut connection, &context, topics).await);
    findings
}

fn of_server(server: &HostPort, reached: &Result<Reached, AskError>, any: bool, cluster: Option<&str>) -> Finding {
    match reached {
        Ok(Reached { metadata, took, .. }) => {
            let its = metadata.cluster_id.as_deref();
            if its != cluster {
                let (its, cluster) = (its.unwrap_or("without an id"), cluster.unwrap_or("without an id"));
                let message = format!("{server} is of the cluster {its}, a server before it of {cluster}");
                let remedy = "name servers of one cluster only in kafka.bootstrap_servers";
                return Finding::error(exit::UNAVAILABLE, SUBJECT, message, remedy);
            }
            let (cluster, brokers) = (its.unwrap_or("without an id"), metadata.brokers.len());
            let ms = took.as_secs_f64() * 1000.0;
            Finding::ok(SUBJECT, format!("{server} answers in {ms:.0} ms: cluster {cluster}, {brokers} brokers up"))
        }
        Err(error) => {
            let remedy = remedy(error, "kafka.bootstrap_servers");
            if any {
                // One server that answers is enough.
                return Finding::warning(SUBJECT, format!("{server}: {error}"), remedy);
            }
            Finding::error(exit::UNAVAILABLE, SUBJECT, format!("{server}: {error}"), remedy)
        }
    }
}

/// The brokers under the addresses that the cluster gives them: that is where records go.
async fn of_brokers(asker: &Asker, metadata: &Metadata, asked: &[HostPort]) -> Vec<Finding> {
    let address = |broker: &metadata::Broker| HostPort { host: broker.host.clone(), port: broker.port };
    let others = metadata.brokers.iter().filter(|broker| !asked.contains(&address(broker)));
    let others: Vec<_> = others.take(BROKERS_MAX).collect();
    let addresses: Vec<HostPort> = others.iter().map(|broker| address(broker)).collect();
    let reached = asker.reach_all(&addresses).await;
    let finding = |((broker, address), reached): ((&&metadata::Broker, &HostPort), Result<Reached, AskError>)| {
        let id = broker.id;
        match reached {
            Ok(_) => Finding::ok(SUBJECT, format!("broker {id} answers at {address}")),
            Err(error) => {
                let message = format!("broker {id} at {address}: {error}");
                let remedy = remedy(&error, &format!("advertised.listeners of broker {id}"));
                Finding::error(exit::UNAVAILABLE, SUBJECT, message, remedy)
            }
        }
    };
    others.iter().zip(&addresses).zip(reached).map(finding).collect()
}

fn remedy(error: &AskError, setting: &str) -> String {
    match error {
        AskError::Lookup(_) | AskError::SlowLookup(_) => {
            format!("mend the name in {setting}, or how this host looks names up (DNS, /etc/hosts)")
        }
        AskError::Connect(_) => format!("start Kafka there, or mend the address in {setting}"),
        AskError::SlowConnect(_) => {
            format!("look for a firewall on the way and whether the host is up, or mend the address in {setting}")
        }
        AskError::Handshake(_) => {
            format!("name a PLAINTEXT listener in {setting}: this version speaks neither TLS nor SASL")
        }
        AskError::Version(_) => "use Kafka 2.1 or later".to_owned(),
        AskError::Timeout(_) | AskError::Connection(_) | AskError::Wire(_) | AskError::Refused { .. } => {
            "look at the broker's own log; if it is only slow, raise kafka.request_timeout".to_owned()
        }
    }
}

impl Asker {
    /// Asks many of them at the same time; the results in the order of `addresses`.
    async fn reach_all(&self, addresses: &[HostPort]) -> Vec<Result<Reached, AskError>> {
        let mut all = Vec::new();
        for some in addresses.chunks(ASKED_AT_ONCE) {
            let mut asked = JoinSet::new();
            for (at, address) in some.iter().cloned().enumerate() {
                let asker = self.clone();
                asked.spawn(async move { (at, asker.reach(&address).await) });
            }
            let mut results = asked.join_all().await;
            results.sort_by_key(|(at, _)| *at);
            all.extend(results.into_iter().map(|(_, result)| result));
        }
        all
    }

    async fn reach(&self, address: &HostPort) -> Result<Reached, AskError> {
        let looked_up = timeout(self.setup_timeout, lookup_host((address.host.as_str(), address.port))).await;
        let mut found = looked_up.map_err(|_| AskError::SlowLookup(self.setup_timeout))?.map_err(AskError::Lookup)?;
        if found.next().is_none() {
            return Err(AskError::Lookup(io::Error::new(io::ErrorKind::NotFound, "it has no address")));
        }
        let started = Instant::now();
        let mut connection = self.dialer.dial(address).await?;
        let speaks = |api, ours| connection.versions().pick(api, ours).ok_or(AskError::Version(api.name()));
        speaks(ApiKey::Produce, produce::VERSIONS)?;
        speaks(ApiKey::InitProducerId, init_producer_id::VERSIONS)?;
        let metadata = self.metadata(&mut connection, &[]).await?;
        match metadata.error_code {
            codes::NONE => Ok(Reached { connection, metadata, took: started.elapsed() }),
            code => Err(AskError::Refused { code }),
        }
    }

    /// The brokers, these topics, and what may be done with them.
    pub(super) async fn metadata(
        &self,
        connection: &mut BrokerConnection,
        topics: &[&str],
    ) -> Result<Metadata, AskError> {
        let version = connection.versions().pick(ApiKey::Metadata, metadata::VERSIONS);
        let version = version.ok_or(AskError::Version(ApiKey::Metadata.name()))?;
        let id = connection.next_correlation_id();
        let frame = metadata::encode_with_operations(version, id, connection.client_id(), topics)?;
        let body = self.in_time(connection.call(frame)).await?;
        Ok(metadata::decode(version, body)?)
    }

    /// An answer that comes within `kafka.request_timeout`.
    pub(super) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, AskError> {
        let within = self.request_timeout;
        Ok(timeout(within, answer).await.map_err(|_| AskError::Timeout(within))??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::Level;

    #[tokio::test]
    async fn a_broker_that_does_not_answer_where_the_cluster_says_is_an_error() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let within = Duration::from_secs(10);
        let asker = Asker { dialer: Dialer::tcp("test", within), setup_timeout: within, request_timeout: within };
        let broker = |id, port| metadata::Broker { id, host: "127.0.0.1".to_owned(), port, rack: None };
        let metadata = Metadata { brokers: vec![broker(7, closed), broker(8, 1)], ..Metadata::default() };
        // One was a bootstrap server: it has been asked.
        let asked = [HostPort { host: "127.0.0.1".to_owned(), port: 1 }];
        let findings = of_brokers(&asker, &metadata, &asked).await;
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!(finding.level, Level::Error);
        let message = format!("broker 7 at 127.0.0.1:{closed}: it cannot be connected to: Connection refused");
        assert!(finding.message.starts_with(&message), "{finding:?}");
        assert!(finding.remedy.as_deref().unwrap().ends_with("advertised.listeners of broker 7"), "{finding:?}");
    }
}
