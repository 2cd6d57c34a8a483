//! Looks in Kafka's log for what was sent: by the headers of the batches, from the last acknowledged one to the log's end.
//!
//! The end is the leader's own, committed or not (OffsetForLeaderEpoch of the present epoch; ListOffsets would give the high
//! watermark, behind which what was sent may stand). Fetch with that epoch gives what is committed; so once the end has been
//! reached, what was not seen is not there. Another leader refuses the epoch.

use std::time::Duration;

use tokio::time::Instant;

use super::flight::Finding;
use super::inquiry::{InquiryError, call, pick};
use super::sabotage::{Rule, holds};
use crate::cluster::dial::BrokerConnection;
use crate::queue::partition::Partition;
use crate::queue::window::{Attempt, comes_before};
use crate::wire::api::{ApiKey, fetch, offset_for_leader_epoch};
use crate::wire::codes;
use crate::wire::record_batch::{Seen, walk};

/// How long a broker may wait for something to be committed before it answers.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Bytes asked for at once.
const FETCH_BYTES: usize = 1 << 20;

/// When nothing was ever acknowledged, the whole log would have to be read: no more than this of it is.
const WHOLE_LOG_BYTES_MAX: usize = 64 << 20;

/// What is looked for, and where.
pub(super) struct Scan<'a> {
    pub within: Duration,
    pub partition: &'a Partition,
    /// The offset behind the last acknowledged batch, if one was acknowledged.
    pub from: Option<i64>,
    pub sent: &'a [Attempt],
    /// From then on the first answer ends the turn.
    pub turn_ends: Instant,
}

/// How far a scan has come.
#[derive(Debug)]
pub(super) struct Progress {
    epoch: i32,
    /// The log's end when the scan began.
    end: i64,
    at: i64,
    read_bytes: usize,
    found: Option<(Attempt, i64)>,
}

/// What came of a turn.
pub(super) enum Scanned {
    Found(Finding),
    Unfinished(Progress),
}

impl Scan<'_> {
    /// Says which of `sent` is the last one in the log, whose leader is in `epoch`; or how far it has come by the end of its turn. What was seen in
    /// another epoch counts no longer.
    pub async fn go_on(
        &self,
        connection: &mut BrokerConnection,
        epoch: Option<i32>,
        progress: Option<Progress>,
    ) -> Result<Scanned, InquiryError> {
        // Brokers that do not say their epochs cannot be held to one.
        let Some(epoch) = epoch else { return Ok(Scanned::Found(Finding::Unknown)) };
        let mut progress = match progress.filter(|progress| progress.epoch == epoch) {
            Some(progress) => progress,
            None => {
                let end = log_end(connection, self.within, self.partition, epoch).await?;
                Progress { epoch, end, at: self.from.unwrap_or(0), read_bytes: 0, found: None }
            }
        };
        if self.from.is_some_and(|from| progress.end < from) {
            return Ok(Scanned::Found(Finding::Shrunk));
        }
        while progress.at < progress.end {
            let records = read(connection, self.within, self.partition, epoch, progress.at).await?;
            progress.read_bytes += records.len();
            if records.is_empty() && !holds(Rule::ScanToLogEnd) {
                break;
            }
            if self.from.is_none() && progress.read_bytes > WHOLE_LOG_BYTES_MAX {
                return Ok(Scanned::Found(Finding::Unknown));
            }
            self.look(&records, &mut progress)?;
            if progress.at < progress.end && self.turn_ends <= Instant::now() {
                return Ok(Scanned::Unfinished(progress));
            }
        }
        Ok(Scanned::Found(progress.found.map_or(Finding::Absent, |(sent, offset)| Finding::There(sent, offset))))
    }

    fn look(&self, records: &bytes::Bytes, progress: &mut Progress) -> Result<(), InquiryError> {
        for seen in walk(records) {
            let seen = seen?;
            let found = progress.found;
            let is_later = |sent: &Attempt| found.is_none_or(|(last, _)| comes_before(last.end(), sent.end()));
            if let Some(sent) = self.sent.iter().find(|sent| is_same(sent, &seen) && is_later(sent)) {
                progress.found = Some((*sent, seen.base_offset));
            }
            progress.at = progress.at.max(seen.end());
        }
        Ok(())
    }
}

fn is_same(sent: &Attempt, seen: &Seen) -> bool {
    seen.stamp == Some(sent.stamp) && seen.count == i64::from(sent.count)
}

/// Where the leader's log ends in its own epoch, committed or not.
pub(super) async fn log_end(
    connection: &mut BrokerConnection,
    within: Duration,
    partition: &Partition,
    epoch: i32,
) -> Result<i64, InquiryError> {
    let version = pick(connection, ApiKey::OffsetForLeaderEpoch, offset_for_leader_epoch::VERSIONS)?;
    let topic = partition.topic().name.clone();
    let asked = offset_for_leader_epoch::RequestPartition {
        topic: topic.clone(),
        partition: partition.id(),
        current_leader_epoch: epoch,
        leader_epoch: epoch,
    };
    let correlation_id = connection.next_correlation_id();
    let frame = offset_for_leader_epoch::encode(version, correlation_id, connection.client_id(), &asked)?;
    let answers = offset_for_leader_epoch::decode(version, call(connection, within, frame).await?)?;
    let answer = answers.into_iter().find(|answer| answer.topic == topic && answer.partition == partition.id());
    let answer = answer.ok_or(InquiryError::Nonsense("the answer leaves the partition out"))?;
    match answer.error_code {
        codes::NONE if answer.end_offset >= 0 => Ok(answer.end_offset),
        codes::NONE => Err(InquiryError::Nonsense("the leader does not know its own epoch")),
        code => Err(InquiryError::Refused { code }),
    }
}

/// Committed batches from the one that holds `offset` on; none if there are none yet.
async fn read(
    connection: &mut BrokerConnection,
    within: Duration,
    partition: &Partition,
    epoch: i32,
    offset: i64,
) -> Result<bytes::Bytes, InquiryError> {
    let versions = fetch::LEADER_EPOCHS_SINCE..=*fetch::VERSIONS.end();
    let version = pick(connection, ApiKey::Fetch, versions)?;
    let topic = partition.topic().name.clone();
    let asked = fetch::RequestPartition {
        topic: topic.clone(),
        partition: partition.id(),
        current_leader_epoch: epoch,
        offset,
        max_bytes: FETCH_BYTES,
    };
    let correlation_id = connection.next_correlation_id();
    let wait = MAX_WAIT.min(within / 2);
    let frame = fetch::encode(version, correlation_id, connection.client_id(), wait, &asked)?;
    let answers = fetch::decode(version, call(connection, within, frame).await?)?;
    let answer = answers.into_iter().find(|answer| answer.topic == topic && answer.partition == partition.id());
    let answer = answer.ok_or(InquiryError::Nonsense("the answer leaves the partition out"))?;
    match answer.error_code {
        codes::NONE => Ok(answer.records),
        code => Err(InquiryError::Refused { code }),
    }
}
