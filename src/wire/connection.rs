//! One connection to a broker: requests go out one after another without waiting, responses come back in the same order.
//!
//! Whole [`Frame`]s come in, response bodies leave. Nothing is spawned: the owner polls [`Connection::next`], which writes
//! and reads at once, so that neither side can block the other.
//!
//! Invariants: all progress is kept in the connection, so every future here may be dropped at any await point. Responses
//! come in the order of the requests (Kafka's protocol guide, "Network"), so one whose correlation id is not that of the oldest
//! unanswered request ends the connection. After any error the connection is of no further use and says so.
//! The read buffer grows as bytes arrive, whatever a length field promises, and an idle connection keeps
//! 4 KiB at most.
//!
//! Deliberately absent: timeouts, reconnecting, throttling, and any bound on what is queued; the owner has
//! [`Connection::unwritten`] and [`Connection::outstanding`] for that.

mod error;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::api::ApiKey;
use super::api::api_versions::{self, Versions};
use super::codes;
use super::frame::{self, Frame, LENGTH_BYTES};

pub use error::ConnectionError;

/// Segments handed to one write.
const SEGMENTS_PER_WRITE: usize = 64;
/// How much room a read makes at least: most responses fit.
const READ_MIN_BYTES: usize = 4 << 10;
/// How much room a read makes at most, so that memory follows what arrives and not what was announced.
const READ_MAX_BYTES: usize = 64 << 10;

/// What a connection puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A larger response ends the connection.
    pub max_response_bytes: usize,
}

/// A response, header taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Which request it answers.
    pub correlation_id: i32,
    /// For the `decode` of the request's API and version.
    pub body: Bytes,
}

/// A pipelined connection.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    client_id: Arc<str>,
    limits: Limits,
    versions: Versions,
    last_correlation_id: i32,
    /// What is queued, oldest first.
    output: VecDeque<Bytes>,
    output_bytes: usize,
    /// Something was written since the stream was last flushed.
    unflushed: bool,
    /// Requests that wait for their response, oldest first.
    expected: VecDeque<Expected>,
    input: BytesMut,
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Expected {
    correlation_id: i32,
    api: ApiKey,
    version: i16,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Asks the broker what it speaks: ApiVersions in our newest version; if that is refused, in the newest that the refusal
    /// lists, or in version 0 if it lists none (KIP-511).
    ///
    /// Not cancel safe: dropping the future drops the connection.
    pub async fn open(stream: S, client_id: Arc<str>, limits: Limits) -> Result<Self, ConnectionError> {
        let mut connection = Connection {
            stream,
            client_id,
            limits,
            versions: Versions::default(),
            last_correlation_id: 0,
            output: VecDeque::new(),
            output_bytes: 0,
            unflushed: false,
            expected: VecDeque::new(),
            input: BytesMut::new(),
            failed: false,
        };
        let mut version = *api_versions::VERSIONS.end();
        loop {
            let id = connection.next_correlation_id();
            let request = api_versions::encode(version, id, &connection.client_id)?;
            let answer = api_versions::decode(version, connection.call(request).await?)?;
            match answer.error_code {
                codes::NONE => {
                    connection.versions = answer.versions;
                    return Ok(connection);
                }
                codes::UNSUPPORTED_VERSION if version > 0 => {
                    // Each attempt is lower than the one before, so a broker cannot keep us here.
                    let ours = *api_versions::VERSIONS.start()..=version - 1;
                    version = answer.versions.pick(ApiKey::ApiVersions, ours).unwrap_or(0);
                }
                code => return Err(ConnectionError::Refused { code }),
            }
        }
    }

    /// What the broker speaks.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The name given to brokers.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// A number for the next request; goes around after 2³¹ of them.
    pub fn next_correlation_id(&mut self) -> i32 {
        self.last_correlation_id = self.last_correlation_id.wrapping_add(1) & i32::MAX;
        self.last_correlation_id
    }

    /// Queues a request. Nothing is written yet.
    pub fn queue(&mut self, frame: Frame) {
        let Frame { api, version, correlation_id, segments } = frame;
        self.output_bytes += segments.iter().map(Bytes::len).sum::<usize>();
        self.output.extend(segments);
        self.expected.push_back(Expected { correlation_id, api, version });
    }

    /// Bytes queued and not yet written.
    pub fn unwritten(&self) -> usize {
        self.output_bytes
    }

    /// Requests queued or written, and not yet answered.
    pub fn outstanding(&self) -> usize {
        self.expected.len()
    }

    /// Writes what is queued and reads until one whole response is there. With nothing queued and nothing unanswered it
    /// waits for the broker to close.
    ///
    /// Cancel safe: nothing written or read is lost.
    ///
    /// Errors: [`ConnectionError::Closed`] if the broker closed and nothing was unanswered; else the connection broke.
    pub async fn next(&mut self) -> Result<Response, ConnectionError> {
        let response = poll_fn(|cx| self.poll_next(cx)).await;
        self.failed |= response.is_err();
        response
    }

    /// As [`Connection::next`], but also returns, with `None`, as soon as all that was queued is written: there is room for
    /// another request.
    ///
    /// Cancel safe, with the same errors.
    pub async fn progress(&mut self) -> Result<Option<Response>, ConnectionError> {
        let writing = self.output_bytes > 0;
        let progress = poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(response) => Poll::Ready(response.map(Some)),
            Poll::Pending if writing && self.output_bytes == 0 => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.failed |= progress.is_err();
        progress
    }

    /// Writes what is queued.
    ///
    /// Cancel safe: what was written is not written again.
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        let done = poll_fn(|cx| self.poll_write(cx)).await;
        self.failed |= done.is_err();
        done
    }

    /// One request at a time: queues it and waits for its response. Only on a connection with nothing outstanding.
    ///
    /// If the future is dropped the request stays outstanding.
    pub async fn call(&mut self, frame: Frame) -> Result<Bytes, ConnectionError> {
        let expected = frame.correlation_id;
        self.queue(frame);
        let response = self.next().await?;
        if response.correlation_id != expected {
            self.failed = true;
            return Err(ConnectionError::OutOfOrder { got: response.correlation_id, expected: Some(expected) });
        }
        Ok(response.body)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response, ConnectionError>> {
        if self.failed {
            return Poll::Ready(Err(ConnectionError::Failed));
        }
        loop {
            if let Some(response) = self.take_response()? {
                return Poll::Ready(Ok(response));
            }
            // A stalled write must not stop the reading: the broker may be waiting for us to take its answer. A broken one
            // must not either: what the broker answered before is still to be read.
            if let Poll::Ready(Err(error)) = self.poll_write(cx)
                && !matches!(&error, ConnectionError::Io(e) if is_half_closed(e))
            {
                return Poll::Ready(Err(error));
            }
            let room = self.read_room();
            self.input.reserve(room);
            let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
            if ready!(read)? == 0 {
                return Poll::Ready(Err(self.at_end()));
            }
        }
    }

    /// How much to make room for: the rest of the response that has begun, within limits.
    fn read_room(&self) -> usize {
        let size = self.input.first_chunk().map_or(0, |length| i32::from_be_bytes(*length));
        let rest = (LENGTH_BYTES + usize::try_from(size).unwrap_or(0)).saturating_sub(self.input.len());
        rest.clamp(READ_MIN_BYTES, READ_MAX_BYTES)
    }

    fn at_end(&self) -> ConnectionError {
        if self.expected.is_empty() && self.input.is_empty() {
            ConnectionError::Closed
        } else {
            ConnectionError::Interrupted { outstanding: self.expected.len() }
        }
    }

    /// A response, if a whole one has been read.
    fn take_response(&mut self) -> Result<Option<Response>, ConnectionError> {
        let Some(length) = self.input.first_chunk() else { return Ok(None) };
        let (size, limit) = (i32::from_be_bytes(*length), self.limits.max_response_bytes);
        let Some(bytes) = usize::try_from(size).ok().filter(|bytes| (4..=limit).contains(bytes)) else {
            return Err(ConnectionError::ResponseSize { size, limit });
        };
        if self.input.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        self.input.advance(LENGTH_BYTES);
        let response = self.input.split_to(bytes).freeze();
        let got = response.clone().get_i32();
        let oldest = self.expected.front().copied();
        let Some(oldest) = oldest.filter(|oldest| oldest.correlation_id == got) else {
            return Err(ConnectionError::OutOfOrder { got, expected: oldest.map(|oldest| oldest.correlation_id) });
        };
        self.expected.pop_front();
        let (correlation_id, body) = frame::strip_response_header(response, oldest.api, oldest.version)?;
        if self.input.is_empty() && self.expected.is_empty() {
            self.input = BytesMut::new();
        }
        Ok(Some(Response { correlation_id, body }))
    }

    /// Writes until nothing is queued.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if self.failed {
            return Poll::Ready(Err(ConnectionError::Failed));
        }
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SEGMENTS_PER_WRITE];
            let mut used = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.output) {
                *slice = IoSlice::new(segment);
                used += 1;
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..used]))?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.unflushed = true;
            self.wrote(written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Drops what was written, so that batches are released as they leave.
    fn wrote(&mut self, mut bytes: usize) {
        self.output_bytes = self.output_bytes.saturating_sub(bytes);
        while let Some(first) = self.output.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.output.pop_front();
        }
    }
}

/// Whether a failed write may leave answers to be read.
fn is_half_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests;
