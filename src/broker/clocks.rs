//! Notices that the clocks have jumped: the wall clock was set, or the machine was suspended.
//!
//! Whether a batch is old, and whether a pause was so long that a broker may have forgotten a producer, is judged by clocks that have stood still
//! or lied meanwhile; and a machine that was suspended may have been copied, and another one use the same producer ids. So the daemon then
//! takes new ones. Pure but for the clocks it is given.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::record::TimestampMs;

/// The wall clock may be corrected by as much without anybody noticing.
const WALL_JUMP_MS: u64 = 60_000;

/// Between two readings the clocks may drift apart by as much: they are read one after the other.
const SUSPEND: Duration = Duration::from_secs(5);

/// Clocks that forebay does not read through tokio.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The wall clock.
    pub wall: fn() -> TimestampMs,
    /// The time since the machine was started, suspended or not. It never stands still.
    pub since_boot: fn() -> Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    clocks: Clocks,
    began: Instant,
    /// How far the clocks were from tokio's when they were last read: wall clock, time since boot.
    offsets: Mutex<(i64, Duration)>,
}

/// What has happened since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jump {
    /// The wall clock was set by so many ms.
    Wall(i64),
    /// The machine was suspended for so long.
    Suspended(Duration),
}

impl Watch {
    pub fn new(clocks: Clocks) -> Self {
        let watch = Watch { clocks, began: Instant::now(), offsets: Mutex::default() };
        *watch.offsets.lock() = watch.read();
        watch
    }

    fn read(&self) -> (i64, Duration) {
        let awake = self.began.elapsed();
        let wall = (self.clocks.wall)().saturating_sub(awake.as_millis() as i64);
        (wall, (self.clocks.since_boot)().saturating_sub(awake))
    }

    /// What has happened since the last look, if something has.
    pub fn look(&self) -> Option<Jump> {
        let mut offsets = self.offsets.lock();
        let (wall, since_boot) = self.read();
        let (wall_before, since_boot_before) = std::mem::replace(&mut *offsets, (wall, since_boot));
        let suspended = since_boot.saturating_sub(since_boot_before);
        if suspended > SUSPEND {
            return Some(Jump::Suspended(suspended));
        }
        (wall.abs_diff(wall_before) > WALL_JUMP_MS).then(|| Jump::Wall(wall.saturating_sub(wall_before)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static WALL: Cell<i64> = const { Cell::new(0) };
        static SINCE_BOOT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// So much passes, by tokio's clock and the others.
    async fn pass(awake: u64, wall: i64, since_boot: u64) {
        tokio::time::advance(Duration::from_secs(awake)).await;
        WALL.set(WALL.get() + wall * 1000);
        SINCE_BOOT.set(SINCE_BOOT.get() + Duration::from_secs(since_boot));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_is_set_and_a_suspend_are_noticed_once_and_small_corrections_are_not() {
        let watch = Watch::new(Clocks { wall: || WALL.get(), since_boot: || SINCE_BOOT.get() });
        pass(100_000, 100_000, 100_000).await;
        assert_eq!(watch.look(), None);
        pass(10, 65, 10).await;
        assert_eq!(watch.look(), None, "corrected by 55 s");
        pass(10, 71, 10).await;
        assert_eq!((watch.look(), watch.look()), (Some(Jump::Wall(61_000)), None));
        pass(10, -4_000, 10).await;
        assert_eq!((watch.look(), watch.look()), (Some(Jump::Wall(-4_010_000)), None));
        pass(1, 21, 21).await;
        assert_eq!((watch.look(), watch.look()), (Some(Jump::Suspended(Duration::from_secs(20))), None));
    }
}
