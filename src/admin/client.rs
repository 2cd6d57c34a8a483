//! The client's side of the admin socket: one question, one answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// How long to wait for the whole answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the largest answer that is read: about 100,000 topics with everything that can be said of them.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes of a refusal's words that are shown.
const WORDS_BYTES_MAX: usize = 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection to that socket.
    #[error("cannot connect to {}: {error}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says. Part of the message, so not a source beside it.
        error: io::Error,
    },
    /// It took longer than [`TIMEOUT`].
    #[error("no answer from {} within {} s: the daemon hangs or its machine is overloaded", path.display(), TIMEOUT.as_secs())]
    Timeout {
        /// The socket.
        path: PathBuf,
    },
    /// The connection ended early, or what came is no HTTP, or too much of it.
    #[error("no answer from {}: {why}; is it forebay's admin socket?", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The answer is an error.
    #[error("{} answers {status} to {method} {target}{}", path.display(), said(words))]
    Refused {
        /// The socket.
        path: PathBuf,
        /// How it was asked.
        method: Method,
        /// What was asked for.
        target: String,
        /// HTTP's code.
        status: StatusCode,
        /// What the daemon says, as far as it is short.
        words: String,
    },
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// The answer to `GET target`, for example `/status`, from the admin socket at `path`.
///
/// # Errors
/// Whatever keeps the whole answer from coming within [`TIMEOUT`].
pub async fn get(path: &Path, target: &str) -> Result<Bytes, ClientError> {
    ask(Method::GET, path, target).await
}

/// The answer to `POST target`, which says all there is to say. Errors: as [`get`].
pub async fn post(path: &Path, target: &str) -> Result<Bytes, ClientError> {
    ask(Method::POST, path, target).await
}

async fn ask(method: Method, path: &Path, target: &str) -> Result<Bytes, ClientError> {
    let answer = tokio::time::timeout(TIMEOUT, exchange(method, path, target)).await;
    answer.unwrap_or_else(|_| Err(ClientError::Timeout { path: path.to_owned() }))
}

async fn exchange(method: Method, path: &Path, target: &str) -> Result<Bytes, ClientError> {
    let stream =
        UnixStream::connect(path).await.map_err(|error| ClientError::Connect { path: path.to_owned(), error })?;
    let broken = |why: String| ClientError::Broken { path: path.to_owned(), why };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.to_string()))?;
    let request = Request::builder()
        .method(&method)
        .uri(target)
        .header(HOST, "forebay")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(error.to_string()))?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    // The connection is driven here rather than by a task; its own errors come out of the exchange as well.
    let (answer, _) = tokio::join!(exchange, connection);
    match answer.map_err(broken)? {
        (StatusCode::OK, body) => Ok(body),
        (status, body) => {
            let words = body.get(..WORDS_BYTES_MAX).unwrap_or(&body);
            let words = String::from_utf8_lossy(words).trim().replace(char::is_control, " ");
            Err(ClientError::Refused { path: path.to_owned(), method, target: target.to_owned(), status, words })
        }
    }
}
