//! ApiVersions: what is offered. A version of it that is not served is answered with error 35, every other broken request
//! with silence.

use bytes::BytesMut;

use crate::devbroker::cluster::Cluster;
use crate::wire::WireError;
use crate::wire::api::ApiKey;
use crate::wire::api::api_versions::{self, Answer, Versions};
use crate::wire::frame::RequestFrame;

pub(in crate::devbroker) fn answer(cluster: &Cluster, request: RequestFrame) -> Result<BytesMut, WireError> {
    let offered = cluster.offered(ApiKey::ApiVersions);
    if !offered.contains(&request.version) {
        return api_versions::unsupported(request.correlation_id, offered);
    }
    api_versions::decode_request(request.version, request.body)?;
    let ranges = ApiKey::ALL.into_iter().map(|api| {
        let versions = cluster.offered(api);
        (api.id(), *versions.start(), *versions.end())
    });
    // A range that is empty means that the API is not offered.
    let ranges = ranges.filter(|(_, first, last)| first <= last).collect();
    let answer = Answer { versions: Versions { ranges }, ..Answer::default() };
    api_versions::encode_response(request.version, request.correlation_id, &answer)
}
