//! The task behind one connection slot of a broker: takes batches of the partitions it drains and pipelines Produce requests.
//!
//! It owns nothing that matters: batches in flight stay in their partition's window, so the task may end at any await point. What
//! it had sent is then in doubt, and whoever serves the partition next sends it again.

mod answers;
mod apart;
mod batches;
mod link;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::flight::{Effect, Next};
use super::inquiry::Inquiries;
use super::lateness::{Lateness, Usual};
use super::schedule::Schedule;
use super::{Context, until};
use crate::backoff::Backoff;
use crate::batch::Cutter;
use crate::config::HostPort;
use crate::queue::drainer::Drainer;
use crate::queue::window::Listing;
use crate::wire::WireError;
use crate::wire::api::produce::{self, PartitionRecords};
use crate::wire::connection::ConnectionError;

pub use apart::Place;
use link::{Ended, Link, Pending};

/// One broker connection's worth of work.
pub struct Slot {
    context: Arc<Context>,
    drainer: Arc<Drainer>,
    place: Place,
    usual: Usual,
    address: HostPort,
    schedule: Schedule,
    cutter: Cutter,
    random: fastrand::Rng,
    effects: Vec<Effect>,
    inquiries: Inquiries,
    /// How far the broker's clock is known to be ahead of ours, in ms.
    clock_ahead: i64,
}

impl Slot {
    /// For the partitions of `drainer`, over connections to `address`.
    pub fn new(
        context: Arc<Context>,
        drainer: Arc<Drainer>,
        place: Place,
        usual: Usual,
        address: HostPort,
        random: fastrand::Rng,
    ) -> Self {
        context.budget.register(&drainer);
        let schedule = Schedule::new(drainer.clone());
        Slot {
            context,
            drainer,
            place,
            usual,
            address,
            schedule,
            cutter: Cutter::default(),
            random,
            effects: Vec::new(),
            inquiries: Inquiries::default(),
            clock_ahead: 0,
        }
    }

    /// Runs until `stop`. May be dropped at any await point: nothing is lost by it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            self.attend();
            if self.schedule.queued() == 0 {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    found = self.inquiries.next(&self.context, &self.address) => self.found(found),
                    () = self.drainer.woken() => {}
                    () = until(self.schedule.next_timer()) => {}
                }
                continue;
            }
            let ended = match self.connect(&stop).await {
                Ok(link) => {
                    info!(broker = self.drainer.broker, address = %self.address, "connected");
                    let (ended, answered) = self.serve(link, &stop).await;
                    if answered {
                        failures = 0;
                    }
                    ended
                }
                Err(ended) => ended,
            };
            if let Ended::Stopped = ended {
                return;
            }
            if let Ended::IdsGivenUp = ended {
                continue;
            }
            if let Ended::Connection(ConnectionError::Closed) = ended {
                // Brokers close what is idle (connections.max.idle.ms).
                debug!(broker = self.drainer.broker, "connection closed by the broker while idle");
                continue;
            }
            failures += 1;
            warn!(broker = self.drainer.broker, address = %self.address, error = %ended, failures, "broker connection failed");
            self.context.cluster.refresh();
            let kafka = &self.context.config.kafka;
            let backoff = Backoff { first: kafka.reconnect_backoff, max: kafka.reconnect_backoff_max };
            let delay = backoff.delay(failures, &mut self.random);
            if !self.wait(delay, &stop).await {
                return;
            }
        }
    }

    /// Sleeps; partitions that are to leave may leave meanwhile. False if told to stop.
    async fn wait(&mut self, delay: Duration, stop: &CancellationToken) -> bool {
        let until = Instant::now() + delay;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = sleep_until(until) => return true,
                found = self.inquiries.next(&self.context, &self.address) => self.found(found),
                () = self.drainer.woken() => {}
            }
            self.attend();
        }
    }

    async fn connect(&mut self, stop: &CancellationToken) -> Result<Link, Ended> {
        let (context, address, random) = (self.context.clone(), self.address.clone(), self.random.fork());
        let learns = matches!(self.place, Place::Usual { .. });
        let lateness = Lateness::new(self.usual.clone(), learns, Instant::now());
        let connecting = async move { Link::open(context, &address, lateness, random).await };
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Ended::Stopped),
                link = &mut connecting => return link,
                found = self.inquiries.next(&self.context, &self.address) => self.found(found),
                () = self.drainer.woken() => {}
            }
            self.attend();
        }
    }

    /// Sends and receives until the connection ends. What is unanswered then is in doubt. Also says whether anything was answered.
    async fn serve(&mut self, mut link: Link, stop: &CancellationToken) -> (Ended, bool) {
        let mut answered = false;
        let ended = loop {
            self.attend();
            let late = self.late_from(&link);
            if late.is_some_and(|late| late <= Instant::now()) {
                self.evade();
            }
            // The next connection asks for others. What is in flight is waited for, so that nothing comes to be in doubt by it.
            let must_renew = self.schedule.queued() > 0 && self.context.are_given_up(link.ids);
            if must_renew && link.pending.requests.is_empty() {
                break Ended::IdsGivenUp;
            }
            if !must_renew && let Err(cause) = self.send_while_there_is_room(&mut link) {
                break cause.into();
            }
            let deadline = link.pending.requests.front().map(|request| request.deadline);
            let now = Instant::now();
            let throttled = link.throttled_until.filter(|until| *until > now && self.schedule.queued() > 0);
            let late = late.filter(|late| *late > now);
            let timer = [deadline, throttled, late, self.schedule.next_timer()].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ended::Stopped,
                progress = link.connection.progress() => match progress {
                    Ok(None) => {}
                    Ok(Some(response)) => match self.receive(&mut link, response.body) {
                        Ok(()) => answered = true,
                        Err(cause) => break cause,
                    },
                    Err(cause) => break cause.into(),
                },
                found = self.inquiries.next(&self.context, &self.address) => self.found(found),
                () = self.drainer.woken() => {}
                () = until(timer) => if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    break Ended::Timeout(self.context.config.kafka.request_timeout);
                },
            }
        };
        let unanswered = link.pending.partitions();
        let (is_alone, oldest) = (link.pending.requests.len() == 1, link.pending.oldest());
        drop(link);
        let now = Instant::now();
        if let Ended::Timeout(_) = ended {
            self.judge(oldest.iter(), true, is_alone);
        }
        for partition in unanswered {
            self.schedule.consider(&partition, now, true);
        }
        (ended, answered)
    }

    fn attend(&mut self) {
        if self.context.is_draining() {
            self.schedule.lift_limits();
        }
        self.schedule.attend(Instant::now(), self.context.is_hurried());
    }

    /// Makes requests for as long as the connection takes them. While it does not, batches keep growing.
    fn send_while_there_is_room(&mut self, link: &mut Link) -> Result<(), WireError> {
        let now = Instant::now();
        if link.throttled_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        link.throttled_until = None;
        let most = self.context.config.kafka.max_in_flight_requests_per_connection;
        while link.connection.unwritten() == 0 && link.pending.requests.len() < most && self.schedule.queued() > 0 {
            self.send_one(link, now)?;
        }
        Ok(())
    }

    /// One request: a batch of each partition in turn, as many as fit.
    fn send_one(&mut self, link: &mut Link, now: Instant) -> Result<(), WireError> {
        let most_bytes = self.context.config.kafka.max_request_size;
        let (mut records, mut parts, mut bytes) = (Vec::new(), Vec::new(), 0);
        let most_parts = if let Place::Apart { .. } = self.place { 1 } else { usize::MAX };
        for _ in 0..self.schedule.queued() {
            if parts.len() >= most_parts {
                break;
            }
            let Some(partition) = self.schedule.next_queued() else { break };
            let mut window = partition.window();
            if window.listing != Listing::Queued || !partition.is_drained_by(&self.drainer) {
                continue;
            }
            // Asked once: a hand-over that is called off in between must not leave it unlooked at.
            let is_leaving = partition.is_leaving();
            let attempt = if is_leaving { None } else { self.next_batch(&partition, &mut window, link, now) };
            self.context.carry_out(&partition, &mut self.effects);
            let Some((attempt, batch)) =
                attempt.and_then(|attempt| Some((attempt, window.bytes_of(&attempt)?.clone())))
            else {
                window.listing = Listing::None;
                // Nothing there yet: the push that is under way announces it.
                let is_paced = self.schedule.paced_until(&partition, now).is_some();
                let is_empty = window.built.is_none() && window.next(now) == Next::New && !is_paced;
                drop(window);
                if !is_empty || is_leaving {
                    self.schedule.consider(&partition, now, false);
                }
                continue;
            };
            if bytes > 0 && bytes + batch.len() > most_bytes {
                drop(window);
                self.schedule.put_back(partition);
                break;
            }
            bytes += batch.len();
            let topic = partition.topic();
            records.push(PartitionRecords {
                topic: topic.name.clone(),
                topic_id: topic.id(),
                partition: partition.id(),
                records: batch,
            });
            window.sent(attempt, (self.context.clock)());
            window.listing = Listing::None;
            drop(window);
            parts.push((partition, attempt));
        }
        for (partition, _) in &parts {
            self.schedule.consider(partition, now, self.context.is_hurried());
        }
        if parts.is_empty() {
            return Ok(());
        }
        // Parts of one topic stand together in a request.
        records.sort_by(|a, b| a.topic.cmp(&b.topic));
        let kafka = &self.context.config.kafka;
        let correlation_id = link.connection.next_correlation_id();
        link.pending.requests.push_back(Pending { parts, sent: now, deadline: now + kafka.request_timeout });
        let frame = produce::encode(link.version, correlation_id, &kafka.client_id, kafka.request_timeout, &records)?;
        link.connection.queue(frame);
        Ok(())
    }
}
