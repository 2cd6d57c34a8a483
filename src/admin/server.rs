//! The server's side of the admin socket.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{Status, metrics};
use crate::backlog::log::entry::IndexRange;
use crate::store::dead_letters::{DeadLetters, GivenUp};

/// Connections at once; further ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take from its acceptance to the last byte of the answer.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Where dead letters are taken out.
const GIVE_UP: &str = "/dead-letters/give-up";

/// Bytes of a request's head; a larger one is refused.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How long to wait after the system gave no connection: without it, a lack of file descriptors would keep a core busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where requests come from.
#[derive(Debug)]
pub enum Door {
    /// Those who may open the admin socket: they may ask everything.
    Admin(UnixListener),
    /// Everybody: only `/metrics` and `/healthz` are answered.
    Public(TcpListener),
}

/// What is answered over TCP.
const PUBLIC: [&str; 2] = ["/metrics", "/healthz"];

impl Door {
    async fn accept(&self) -> io::Result<Either<UnixStream, TcpStream>> {
        match self {
            Door::Admin(listener) => Ok(Either::Left(listener.accept().await?.0)),
            Door::Public(listener) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

/// Answers requests at `door` until `stop` is cancelled; what is being answered then is cut off. `status` is called for
/// each request for it, on the runtime's own thread, so it must not block.
///
/// A panic in `status` ends that connection and no other.
pub async fn serve<S>(door: Door, status: S, dead_letters: Option<DeadLetters>, stop: CancellationToken)
where
    S: Fn() -> Status + Send + Sync + 'static,
{
    let is_public = matches!(door, Door::Public(_));
    let asked = Arc::new(Asked { status, dead_letters, is_public });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = connections.join_next() => report(ended),
            accepted = door.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok(stream) => {
                    connections.spawn(answer_one(stream, Arc::clone(&asked)));
                }
                Err(error) => {
                    warn!(%error, is_public, "no connection from the admin socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a connection to the admin socket ended by a panic");
    }
}

/// Who is asked.
struct Asked<S> {
    status: S,
    dead_letters: Option<DeadLetters>,
    is_public: bool,
}

async fn answer_one<S>(stream: Either<UnixStream, TcpStream>, asked: Arc<Asked<S>>)
where
    S: Fn() -> Status + Send + Sync + 'static,
{
    let service = service_fn(|request| {
        let asked = Arc::clone(&asked);
        async move { Ok::<_, Infallible>(answer(&request, &asked).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the admin socket failed"),
        Err(_) => debug!("a connection to the admin socket took too long"),
    }
}

async fn answer<B: Sync>(request: &Request<B>, asked: &Asked<impl Fn() -> Status + Sync>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if asked.is_public && !PUBLIC.contains(&path) {
        return text(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n");
    }
    let allowed = match path {
        "/status" | "/metrics" | "/healthz" => Method::GET,
        GIVE_UP => Method::POST,
        _ => return text(StatusCode::NOT_FOUND, "there are /status, /metrics, /healthz and /dead-letters/give-up\n"),
    };
    if request.method() != allowed {
        let only = if allowed == Method::GET { "GET" } else { "POST" };
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {only}\n"));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(only));
        return response;
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/metrics" => {
            let page = metrics::page((asked.status)()).expect("a text takes what is written to it");
            typed(StatusCode::OK, metrics::CONTENT_TYPE, page.into())
        }
        GIVE_UP => give_up(request.uri().query().unwrap_or_default(), asked.dead_letters.as_ref()).await,
        _ => {
            let json = serde_json::to_vec(&(asked.status)()).expect("numbers, texts and maps with text keys are JSON");
            typed(StatusCode::OK, "application/json", json.into())
        }
    }
}

/// Takes dead letters out: `partition`, `first`, `last` and `reason`, all numbers.
async fn give_up(query: &str, dead_letters: Option<&DeadLetters>) -> Response<Full<Bytes>> {
    let Some(dead_letters) = dead_letters else {
        return text(StatusCode::NOT_FOUND, "this daemon keeps no dead letters: it has no backlog\n");
    };
    let Some(what) = given_up(query) else {
        return text(StatusCode::BAD_REQUEST, "wanted: ?partition=N&first=N&last=N&reason=N\n");
    };
    match dead_letters.give_up(what).await {
        Ok(records) => typed(StatusCode::OK, "application/json", format!("{{\"records\":{records}}}").into()),
        Err(why) => text(StatusCode::CONFLICT, format!("{why}\n")),
    }
}

fn given_up(query: &str) -> Option<GivenUp> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    Some(GivenUp {
        partition: value("partition")?.parse().ok()?,
        range: IndexRange::new(value("first")?.parse().ok()?, value("last")?.parse().ok()?)?,
        reason: value("reason")?.parse().ok()?,
    })
}

fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(code, "text/plain; charset=utf-8", body.into())
}

fn typed(code: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
