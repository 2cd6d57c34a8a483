//! When clients hold much memory that nothing but they themselves can free: frames that they have begun and not ended, and
//! answers that they do not take.
//!
//! Beyond a quarter of `memory.limit` there is a crowd, and until it is over
//! - of the next frame nothing is read before it is whole, or has its share as a large one: what is not, stays in its
//!   client's own socket buffer. Whole ones are read few at a time, and few answers are made before some are taken. So what
//!   clients hold grows little past that quarter, however many they are, and the rest is there for those who do no harm;
//! - a frame that has begun must be whole within [`FRAME_TIMEOUT`], and some answer be taken within [`ANSWER_TIMEOUT`], or the
//!   connection ends: the crowd gets smaller, and those who finish what they begin go on.
//!
//! Large frames take turns in a share of their own. While one waits for its turn, those that have theirs have no more than
//! [`FRAME_TIMEOUT`] either. Many who begin large frames and do not end them delay the large frames of others, and no small ones.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::output::ENOUGH_BYTES;
use crate::queue::budget::Waiting;

/// The part of the memory budget beyond which there is a crowd, as a divisor.
const CROWD_SHARE: usize = 4;
/// What is read at once and answered ahead in a crowd: so little that as many clients as there may be hold no great part.
pub(super) const LITTLE_BYTES: usize = 4 * 1024;
/// How long a frame may take in a crowd: at 3 MiB a second the largest by default is whole by then.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take no answer in a crowd.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl Shared {
    /// Whether clients hold more than their part.
    pub(super) fn is_crowded(&self) -> bool {
        let counters = &self.context.counters;
        let held = counters.frames_unfinished_bytes.get() + counters.answers_unread_bytes.get();
        held > (self.context.router.budget().limit() / CROWD_SHARE) as u64
    }

    /// Bytes of unwritten answers beyond which a connection makes no further one.
    pub(super) fn enough_output(&self) -> usize {
        if self.is_crowded() { LITTLE_BYTES } else { ENOUGH_BYTES }
    }

    /// How long an answer may be for which only a short question was asked.
    pub(super) fn answer_limit(&self) -> usize {
        let usual = self.frame.max_frame_size;
        if self.is_crowded() { usual.min(ENOUGH_BYTES) } else { usual }
    }

    /// The share of a large frame, or of what can be had of it, when it is its turn.
    pub(super) async fn large_frame_permit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.large_frames_kib);
        let _waiting = Waiting::new(&self.large_frames_waiting);
        self.large_frames.clone().acquire_many_owned(kib).await.ok()
    }

    /// How long a frame may take, that has its share of large frames or needs none.
    pub(super) fn frame_timeout(&self, is_large: bool) -> Duration {
        let is_waited_for = is_large && self.large_frames_waiting.load(Ordering::Relaxed) > 0;
        let usual = self.limits.frame_timeout;
        if is_waited_for || self.is_crowded() { usual.min(FRAME_TIMEOUT) } else { usual }
    }
}
