//! A stand-in for a Kafka broker that costs as little as it can, since it shares the cores with what is measured.
//!
//! Requests but Produce go through forebay's own `wire` types. Of a Produce request it reads the headers alone: what the
//! records are is thrown away in the kernel, uncopied. It counts them from the header of each batch and holds every
//! producer to its sequence numbers, so that a record that is lost or sent twice is seen. It answers success at once.
//!
//! Deliberately absent: everything else that a broker does, above all the checksum of the batches; the tests against the
//! devbroker and a real Kafka look at those.

mod input;
mod produce;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use forebay::wire::api::{ApiKey, api_versions, fetch, init_producer_id, metadata};
use forebay::wire::codes;
use forebay::wire::frame::{self, RequestFrame};
use uuid::Uuid;

use input::Input;

/// The only topic there is.
pub const TOPIC: &str = "bench";
/// Its id.
const TOPIC_ID: Uuid = Uuid::from_u128(0x666f_7265_6261_7900_6265_6e63_6800_0001);
/// The only broker.
const BROKER: i32 = 1;

/// A broker on a port of 127.0.0.1, served by one thread a connection until the process ends.
pub struct Sink {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What the connections' threads share; locked once a request.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

/// What has arrived since the last [`Sink::reset`].
#[derive(Default)]
struct State {
    totals: Totals,
    partitions: Vec<Partition>,
    last_producer_id: i64,
    /// The first thing that was wrong.
    fault: Option<String>,
}

/// Sums over all partitions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub records: u64,
    pub batches: u64,
    pub requests: u64,
}

/// What the sink remembers of a partition.
#[derive(Clone, Default)]
struct Partition {
    next_offset: i64,
    producer: Option<(i64, i16)>,
    next_sequence: i32,
}

impl Sink {
    /// Listens on a free port.
    pub fn start() -> Result<Sink> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the sink cannot listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let sink = Sink { shared: shared.clone(), address };
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = shared.clone();
                thread::spawn(move || {
                    if let Err(error) = serve(&shared, address, stream) {
                        shared.state().fault.get_or_insert(format!("a connection to the sink failed: {error:#}"));
                        shared.arrived.notify_all();
                    }
                });
            }
        });
        Ok(sink)
    }

    /// Where it listens.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Forgets everything; from now on the topic has so many partitions. Nobody must be connected.
    pub fn reset(&self, partitions: usize) {
        let mut state = self.shared.state();
        let last_producer_id = state.last_producer_id;
        *state = State { partitions: vec![Partition::default(); partitions], last_producer_id, ..State::default() };
    }

    /// The first thing that was wrong.
    pub fn fault(&self) -> Option<String> {
        self.shared.state().fault.clone()
    }

    /// What has arrived until now.
    pub fn totals(&self) -> Totals {
        self.shared.state().totals
    }

    /// Waits until `records` have arrived since the last reset.
    ///
    /// # Errors
    /// If they are not there in `timeout`, if more are, or if a producer broke its sequence.
    pub fn wait_for(&self, records: u64, timeout: Duration) -> Result<Totals> {
        let state = self.shared.state();
        let waits = |state: &mut State| state.fault.is_none() && state.totals.records < records;
        let waited = self.shared.arrived.wait_timeout_while(state, timeout, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = &state.fault {
            bail!("{fault}");
        }
        let arrived = state.totals.records;
        ensure!(arrived >= records, "{} of {records} records are lost: {timeout:?} were not enough", records - arrived);
        ensure!(arrived == records, "{records} records were sent, and {arrived} have arrived");
        Ok(state.totals)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a client until it closes the connection.
fn serve(shared: &Shared, address: SocketAddr, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = Input::new(stream);
    let mut scratch = produce::Scratch::default();
    loop {
        let length = match input.i32() {
            Ok(length) => usize::try_from(length).context("a request of a negative length")?,
            Err(error) if is_end(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let answer = if input.peek_i16()? == ApiKey::Produce.id() {
            produce::take(shared, &mut input, length, &mut scratch)?
        } else {
            let request = frame::decode_request(Bytes::from(input.take(length)?))?;
            answer(shared, address, request)?
        };
        match output.write_all(&answer) {
            Err(error) if is_end(&error) => return Ok(()),
            written => written?,
        }
    }
}

/// Whether the other side has gone: what was lost by it shows in the count.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Answers everything but Produce.
fn answer(shared: &Shared, address: SocketAddr, request: RequestFrame) -> Result<BytesMut> {
    let RequestFrame { api, version, correlation_id, body, .. } = request;
    Ok(match api {
        ApiKey::ApiVersions if !api_versions::VERSIONS.contains(&version) => {
            api_versions::unsupported(correlation_id, api_versions::VERSIONS)?
        }
        ApiKey::ApiVersions => {
            let served = [
                // Never asked for; but librdkafka writes batches of magic 2 only to brokers that say they have it.
                (ApiKey::Fetch, fetch::VERSIONS),
                (ApiKey::Produce, produce::VERSIONS),
                (ApiKey::Metadata, metadata::VERSIONS),
                (ApiKey::ApiVersions, api_versions::VERSIONS),
                (ApiKey::InitProducerId, init_producer_id::VERSIONS),
            ];
            let ranges = served.iter().map(|(api, versions)| (api.id(), *versions.start(), *versions.end())).collect();
            let answer = api_versions::Answer { versions: api_versions::Versions { ranges }, ..Default::default() };
            api_versions::encode_response(version, correlation_id, &answer)?
        }
        ApiKey::Metadata => {
            metadata::decode_request(version, body)?;
            metadata::encode_response(version, correlation_id, &cluster(shared, address))?
        }
        ApiKey::InitProducerId => {
            init_producer_id::decode_request(version, body)?;
            let mut state = shared.state();
            state.last_producer_id += 1;
            let producer_id = state.last_producer_id;
            drop(state);
            let answer =
                init_producer_id::Answer { throttle: Duration::ZERO, error_code: codes::NONE, producer_id, epoch: 0 };
            init_producer_id::encode_response(version, correlation_id, &answer)?
        }
        other => bail!("{} is not served by the sink", other.name()),
    })
}

/// One broker, one topic.
fn cluster(shared: &Shared, address: SocketAddr) -> metadata::Metadata {
    let partition = |id: usize| metadata::Partition {
        error_code: codes::NONE,
        id: id as i32,
        leader: BROKER,
        leader_epoch: 0,
        replicas: vec![BROKER],
        in_sync: vec![BROKER],
    };
    let topic = metadata::Topic {
        error_code: codes::NONE,
        name: Some(TOPIC.to_owned()),
        id: TOPIC_ID,
        partitions: (0..shared.state().partitions.len()).map(partition).collect(),
        ..metadata::Topic::default()
    };
    let broker = metadata::Broker { id: BROKER, host: address.ip().to_string(), port: address.port(), rack: None };
    metadata::Metadata {
        throttle: Duration::ZERO,
        cluster_id: Some("forebay-bench".to_owned()),
        controller_id: BROKER,
        error_code: codes::NONE,
        brokers: vec![broker],
        topics: vec![topic],
    }
}
