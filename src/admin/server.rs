//! The server's side of the admin socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::Status;

/// Connections at once; further ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take from its acceptance to the last byte of the answer.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request's head; a larger one is refused.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How long to wait after the system gave no connection: without it, a lack of file descriptors would keep a core busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests on `listener` until `stop` is cancelled; what is being answered then is cut off. `status` is called for
/// each request for it, on the runtime's own thread, so it must not block.
///
/// A panic in `status` ends that connection and no other.
pub async fn serve<S>(listener: UnixListener, status: S, stop: CancellationToken)
where
    S: Fn() -> Status + Send + Sync + 'static,
{
    let status = Arc::new(status);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(answer_one(stream, Arc::clone(&status)));
                }
                Err(error) => {
                    warn!(%error, "the admin socket gave no connection");
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

async fn answer_one<S>(stream: UnixStream, status: Arc<S>)
where
    S: Fn() -> Status + Send + Sync + 'static,
{
    let service = service_fn(|request| {
        let answer = answer(&request, &*status);
        async move { Ok::<_, Infallible>(answer) }
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

fn answer<B>(request: &Request<B>, status: impl Fn() -> Status) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/status" | "/healthz") {
        return text(StatusCode::NOT_FOUND, "there are /status and /healthz\n");
    }
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    if path == "/healthz" {
        return text(StatusCode::OK, "ok\n");
    }
    let json = serde_json::to_vec(&status()).expect("numbers, texts and maps with text keys are JSON");
    typed(StatusCode::OK, "application/json", json.into())
}

fn text(code: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    typed(code, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

fn typed(code: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
