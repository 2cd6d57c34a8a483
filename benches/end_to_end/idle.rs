//! What a daemon costs that has nothing to do: wakeups, CPU and memory, with many connections and many partitions.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::time::Instant;

use crate::case::{self, Method, settle};
use crate::load::{self, Form, Position, Shape, Until, Writes};
use crate::meter::{Meter, Reading};
use crate::sink::Sink;

/// How long a daemon may take to come to rest after the last record.
const REST_TIMEOUT: Duration = Duration::from_secs(30);
/// So long without a wakeup it must have been, to be at rest.
const REST: Duration = Duration::from_secs(1);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    pub connections: usize,
    pub partitions: usize,
    /// How long it was watched.
    pub seconds: f64,
    /// Of all threads, meanwhile.
    pub wakeups: u64,
    pub cpu_us: f64,
    /// Started and ready, before the first connection.
    pub resident_at_start_bytes: u64,
    /// With the partitions used, one record each, and no connection but the one that did it.
    pub resident_with_partitions_bytes: u64,
    /// With the connections too.
    pub resident_with_connections_bytes: u64,
}

/// Uses every partition once, opens the connections, waits for rest, and watches for `seconds`.
pub fn measure(connections: usize, partitions: usize, seconds: f64, method: &Method, sink: &Sink) -> Result<Idle> {
    sink.reset(partitions);
    let daemon = case::start(sink, method);
    let meter = Meter::new(daemon.process().id())?;
    rest(&meter)?;
    let resident_at_start_bytes = meter.resident()?;

    let mut stream = UnixStream::connect(daemon.files().stream_socket())?;
    let writes = Writes::new(Form::Dory, Shape { size: 100, partitions, write: 1 });
    let sent = load::flood(&mut stream, &writes, &mut Position::default(), Until::Writes(partitions as u64))?;
    sink.wait_for(sent, DELIVERY_TIMEOUT)?;
    rest(&meter)?;
    let resident_with_partitions_bytes = meter.resident()?;

    let streams = case::connect(&daemon, connections)?;
    daemon.wait_for_status("connections that are all accepted", DELIVERY_TIMEOUT, |status| {
        (status["connections"]["connections_open"].as_u64()? == connections as u64 + 1).then_some(())
    });
    let before = rest(&meter)?;
    let resident_with_connections_bytes = meter.resident()?;
    let started = Instant::now();
    pause(Duration::from_secs_f64(seconds));
    let after = meter.read()?;
    let idle = Idle {
        connections: streams.len(),
        partitions,
        seconds: started.elapsed().as_secs_f64(),
        wakeups: after.voluntary_switches - before.voluntary_switches,
        cpu_us: (after.cpu - before.cpu).as_secs_f64() * 1e6,
        resident_at_start_bytes,
        resident_with_partitions_bytes,
        resident_with_connections_bytes,
    };
    drop(streams);
    settle(daemon, sink, sent)?;
    Ok(idle)
}

/// Waits until nothing has woken for [`REST`]. A daemon that always wakes is measured all the same, after a while.
fn rest(meter: &Meter) -> Result<Reading> {
    let end = Instant::now() + REST_TIMEOUT;
    let mut last = meter.read()?;
    loop {
        pause(REST);
        let now = meter.read()?;
        ensure!(now.voluntary_switches >= last.voluntary_switches, "a thread has ended: the count is of no use");
        if now.voluntary_switches == last.voluntary_switches || Instant::now() >= end {
            return Ok(now);
        }
        last = now;
    }
}

/// Lets that time pass.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    loop {
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return,
            left => thread::park_timeout(left),
        }
    }
}

impl Idle {
    /// As lines to be read.
    pub fn print(&self) {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{} connections and {} used partitions, idle for {:.0} s: {} wakeups, {:.0} µs of CPU",
            self.connections, self.partitions, self.seconds, self.wakeups, self.cpu_us
        );
        println!(
            "resident: {:.1} MB at the start, {:.1} MB with the partitions, {:.1} MB with the connections too",
            mb(self.resident_at_start_bytes),
            mb(self.resident_with_partitions_bytes),
            mb(self.resident_with_connections_bytes)
        );
    }
}
