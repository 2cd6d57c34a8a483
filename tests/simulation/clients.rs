//! The clients: each writes bursts of records through an outlet of its own, as a socket's task does.

use std::sync::Arc;
use std::time::Duration;

use forebay::record::Record;
use forebay::route::{By, Outlet};
use tokio::time::{Instant, sleep};

use crate::book::{Book, Written};
use crate::clock;
use crate::kafka::append::POISON;
use crate::plan::{Fault, Plan};

/// How long ago old records are stamped: longer than brokers remember producers.
const OLD: Duration = Duration::from_secs(30 * 60 * 60);

/// Writes all of one client's records within the time of trouble.
pub async fn write(mut outlet: Outlet, client: u32, plan: Arc<Plan>, book: Book, mut random: fastrand::Rng) {
    let mut left = plan.records;
    let mean = plan.trouble.mul_f64(4.0 / f64::from(plan.records));
    let mut is_old = false;
    while left > 0 {
        sleep(mean.mul_f64(2.0 * random.f64())).await;
        let count = random.u32(1..=8).min(left);
        left -= count;
        // Stretches of old records, as of a stream that has been held up.
        if plan.has(Fault::Old) && random.u8(..4) == 0 {
            is_old = !is_old;
        }
        let written: Vec<Written> = (0..count).map(|_| record(client, &plan, is_old, &mut random)).collect();
        let (first, request) = book.enter(written.clone());
        for (index, written) in (0u32..).zip(&written) {
            let number = first + index;
            let mut value = if written.is_poison { POISON.to_vec() } else { Vec::new() };
            value.extend(format!("{number} ").into_bytes());
            value.resize(value.len().max(written.bytes), b'.');
            let key = random.bool().then(|| format!("key-{}", random.u8(..5)));
            let age = if written.is_old { OLD } else { Duration::ZERO };
            let record = Record {
                timestamp: clock::local_ms() - age.as_millis() as i64,
                stamped_here: false,
                key: key.as_deref().map(str::as_bytes),
                value: Some(&value),
                headers: &[],
            };
            outlet.put(written.topic.as_bytes(), By::Key, &record, Some((&request, index)));
        }
        outlet.flush(Instant::now());
    }
}

fn record(client: u32, plan: &Plan, is_old: bool, random: &mut fastrand::Rng) -> Written {
    let topic = random.usize(..plan.topics.len());
    let is_large = plan.has(Fault::Size) && random.u8(..16) == 0;
    let bytes = if is_large { random.usize(300..600) } else { random.usize(10..60) };
    let is_poison = plan.has(Fault::Poison) && random.u8(..32) == 0;
    Written { client, topic: topic_name(topic).into(), bytes, is_poison, is_old }
}

/// The name of a topic by its place in the plan.
pub fn topic_name(place: usize) -> String {
    format!("topic-{place}")
}
