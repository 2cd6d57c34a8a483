//! What the service manager is told (`sd_notify(3)`): ready, stopping, how it goes, and that the daemon lives.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is sent, and without a watchdog no timer runs: an idle daemon sleeps.
//! What cannot be sent is not sent: a manager that does not listen is no reason to stop.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState::{self, Custom, Ready, Status, Stopping, Watchdog};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::status::View;

/// What the daemon may take to end when the drain is over, before the manager kills it.
const END_MARGIN: Duration = Duration::from_secs(10);

/// Sends a ping this many times in the time that the manager waits for one.
const PINGS_PER_WATCHDOG: u32 = 3;

/// Clients are served.
pub fn ready(view: &View) {
    send(&[Ready, Status(&view.line())]);
}

/// Ingest is closed, and what is held may drain for as long as `drain_timeout`, however short the manager's own patience is.
pub fn stopping(view: &View, drain_timeout: Duration) {
    // The crate's own variant ends at 71 minutes.
    let patience = format!("EXTEND_TIMEOUT_USEC={}", (drain_timeout + END_MARGIN).as_micros());
    send(&[Stopping, Custom(&patience), Status(&format!("stopping: {}", view.line()))]);
}

/// What is left while the daemon stops.
pub fn still_stopping(view: &View) {
    send(&[Status(&format!("stopping: {}", view.line()))]);
}

/// Feeds the watchdog, if there is one, and says how it goes with every ping. It runs as one task among the daemon's, so that a
/// runtime whose threads are all stuck is found out. Until `stop`; from `closing` on, how it goes is for others to say.
pub async fn feed_watchdog(view: Arc<View>, closing: CancellationToken, stop: CancellationToken) {
    let fed = async {
        let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
        let Some(patience) = patience else { return pending().await };
        let mut tick = interval(patience / PINGS_PER_WATCHDOG);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match closing.is_cancelled() {
                true => send(&[Watchdog]),
                false => send(&[Watchdog, Status(&view.line())]),
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = fed => {}
    }
}

fn send(state: &[NotifyState<'_>]) {
    // An error also means that nobody has asked to be notified.
    let _ = sd_notify::notify(state);
}
