//! What stands around every message: `length i32 · header · body` (Kafka's protocol guide, "Protocol Primitives").
//!
//! The client's side writes request headers and strips response headers, the server's side the other way round. A
//! [`Frame`] is a whole request, as a list of segments so that record batches need not be copied into it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, StrBytes};

use super::WireError;
use super::api::ApiKey;
use super::shape::{self, Shape};

/// Bytes of a frame's length field.
pub(super) const LENGTH_BYTES: usize = 4;

/// A whole request as it goes out, and what its response will need to be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which API.
    pub api: ApiKey,
    /// In which version.
    pub version: i16,
    /// What the response will carry.
    pub correlation_id: i32,
    /// The bytes in order, length field first; none is empty.
    pub segments: Vec<Bytes>,
}

impl Frame {
    /// Bytes that the frame takes on the wire.
    pub fn len_bytes(&self) -> usize {
        self.segments.iter().map(Bytes::len).sum()
    }

    /// The frame in one piece.
    #[cfg(test)]
    pub fn to_bytes(&self) -> Bytes {
        self.segments.concat().into()
    }
}

/// A request as the server's side reads it, body not yet looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFrame {
    /// Which API.
    pub api: ApiKey,
    /// In which version; not checked. [`super::api::api_versions::unsupported`] answers one that is not served.
    pub version: i16,
    /// To be given back.
    pub correlation_id: i32,
    /// Who says it is asking.
    pub client_id: Option<String>,
    /// What follows the header.
    pub body: Bytes,
}

/// Starts a request: room for the length, then the header. The body is to be appended, the length patched by [`close`].
pub(super) fn open_request(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<BytesMut, WireError> {
    let shape = shape::request(api);
    if !(shape.since..=shape.until).contains(&version) {
        return Err(WireError::UnsupportedVersion { api: api.name(), version });
    }
    let mut out = BytesMut::with_capacity(128);
    out.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(api.id())
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    encode_into(&mut out, "request header", &header, if shape.is_flexible(version) { 2 } else { 1 })?;
    Ok(out)
}

/// A whole request around a message of the crate.
pub(super) fn encode_request<M: Encodable>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    message: &M,
) -> Result<Frame, WireError> {
    let mut out = open_request(api, version, correlation_id, client_id)?;
    encode_into(&mut out, api.name(), message, version)?;
    let out = close(out, api.name())?;
    Ok(Frame { api, version, correlation_id, segments: vec![out.freeze()] })
}

/// A whole response around a message of the crate.
pub(super) fn encode_response<M: Encodable + Message + HeaderVersion>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    message: &M,
) -> Result<BytesMut, WireError> {
    if version < M::VERSIONS.min || version > M::VERSIONS.max {
        return Err(WireError::UnsupportedVersion { api: api.name(), version });
    }
    let mut out = BytesMut::with_capacity(128);
    out.put_i32(0);
    out.put_i32(correlation_id);
    if M::header_version(version) >= 1 {
        // No tagged fields.
        out.put_u8(0);
    }
    encode_into(&mut out, api.name(), message, version)?;
    close(out, api.name())
}

/// Writes a frame's length into the room left for it.
fn close(mut frame: BytesMut, what: &'static str) -> Result<BytesMut, WireError> {
    let length = length_field(frame.len() - LENGTH_BYTES, what)?;
    frame[..LENGTH_BYTES].copy_from_slice(&length);
    Ok(frame)
}

/// The length field of a frame with so many bytes after it.
pub(super) fn length_field(bytes: usize, what: &'static str) -> Result<[u8; LENGTH_BYTES], WireError> {
    let length = i32::try_from(bytes);
    length
        .map(i32::to_be_bytes)
        .map_err(|_| WireError::Unencodable { what, why: "frame of more than 2 GiB".to_owned() })
}

fn encode_into<M: Encodable>(
    out: &mut BytesMut,
    what: &'static str,
    message: &M,
    version: i16,
) -> Result<(), WireError> {
    message.encode(out, version).map_err(|e| WireError::Unencodable { what, why: format!("{e:#}") })
}

/// Decodes a message of the crate, once its lengths have been found to fit.
pub(super) fn decode<M: Decodable + Message>(shape: &Shape, version: i16, mut body: Bytes) -> Result<M, WireError> {
    shape.check(version, &body)?;
    M::decode(&mut body, version).map_err(|e| WireError::Refused { what: shape.name, why: format!("{e:#}") })
}

/// Takes a response's header off: correlation id, and what follows the header. `frame` = the response without its length field.
///
/// The header is flexible where the response is, but for ApiVersions, whose header is always version 0 since its version is not
/// yet agreed upon (`ApiVersionsResponse.json`).
pub(super) fn strip_response_header(mut frame: Bytes, api: ApiKey, version: i16) -> Result<(i32, Bytes), WireError> {
    let correlation_id = frame.try_get_i32().map_err(|_| malformed("response header", frame.len()))?;
    let flexible = api != ApiKey::ApiVersions && shape::request(api).is_flexible(version);
    if flexible {
        let body = shape::skip_tagged_fields("response header", &frame)?.len();
        frame.advance(frame.len() - body);
    }
    Ok((correlation_id, frame))
}

/// Reads the header of a request. `frame` = the request without its length field.
///
/// Errors: cut short, an API that we do not know (its header's form is then unknown too).
pub fn decode_request(mut frame: Bytes) -> Result<RequestFrame, WireError> {
    let what = "request header";
    let cut_short = |rest: &Bytes| malformed(what, rest.len());
    let api = frame.try_get_i16().map_err(|_| cut_short(&frame))?;
    let version = frame.try_get_i16().map_err(|_| cut_short(&frame))?;
    let correlation_id = frame.try_get_i32().map_err(|_| cut_short(&frame))?;
    let api = ApiKey::from_id(api).ok_or(WireError::UnknownApi(api))?;
    let client_id = match frame.try_get_i16().map_err(|_| cut_short(&frame))? {
        -1 => None,
        length => {
            let length = usize::try_from(length).ok().filter(|length| *length <= frame.len());
            let bytes = frame.split_to(length.ok_or_else(|| cut_short(&frame))?);
            let text = String::from_utf8(bytes.into());
            Some(text.map_err(|e| WireError::Refused { what, why: format!("client id: {e}") })?)
        }
    };
    if shape::request(api).is_flexible(version) {
        let body = shape::skip_tagged_fields(what, &frame)?.len();
        frame.advance(frame.len() - body);
    }
    Ok(RequestFrame { api, version, correlation_id, client_id, body: frame })
}

fn malformed(what: &'static str, at: usize) -> WireError {
    WireError::Malformed { what, at, why: "cut short" }
}
