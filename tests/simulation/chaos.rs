//! What goes wrong, one thing after the other.

use std::sync::Arc;
use std::time::Duration;

use forebay::wire::codes;
use tokio::time::{Instant, sleep};

use crate::clients::topic_name;
use crate::clock;
use crate::kafka::{Kafka, Ordered, State};
use crate::plan::{Fault, Plan};

/// What a leader may answer to a batch that it has appended, beside what the model itself makes it answer.
const AFTER_APPENDING: [i16; 8] = [
    codes::REQUEST_TIMED_OUT,
    codes::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    codes::UNKNOWN_SERVER_ERROR,
    codes::UNKNOWN_TOPIC_OR_PARTITION,
    codes::NOT_LEADER_OR_FOLLOWER,
    codes::KAFKA_STORAGE_ERROR,
    codes::NETWORK_EXCEPTION,
    1234,
];

/// What a leader may answer to a batch that it has not appended.
const BEFORE_APPENDING: [i16; 6] = [
    codes::NOT_ENOUGH_REPLICAS,
    codes::UNKNOWN_TOPIC_OR_PARTITION,
    codes::NOT_LEADER_OR_FOLLOWER,
    codes::KAFKA_STORAGE_ERROR,
    codes::LEADER_NOT_AVAILABLE,
    codes::UNKNOWN_SERVER_ERROR,
];

/// Makes trouble for as long as the plan says, then mends everything.
pub async fn make(kafka: Kafka, plan: Arc<Plan>, mut random: fastrand::Rng) {
    let end = Instant::now() + plan.trouble;
    while Instant::now() < end {
        sleep(plan.pause.mul_f64(2.0 * random.f64())).await;
        if let Some(fault) = random.choice(&plan.faults).copied() {
            let mut state = kafka.state();
            strike(&mut state, &kafka, fault, &plan, &mut random);
        }
    }
    mend_topics(&mut kafka.state(), &plan);
    widen_topics(&mut kafka.state(), &plan);
    kafka.state().heal();
}

/// Where what waits for partitions that are gone waits on, they come back.
fn widen_topics(state: &mut State, plan: &Plan) {
    for (place, rules) in plan.rules.iter().enumerate() {
        let name = topic_name(place);
        let (there, most) = state.width(&name);
        if rules.dead_letter_after.is_none() && most > there {
            state.add_partitions(&name, most - there);
        }
    }
}

/// Every topic of the plan is there.
fn mend_topics(state: &mut State, plan: &Plan) {
    for (place, partitions) in plan.topics.iter().enumerate() {
        let name = topic_name(place);
        if !state.topics.contains_key(name.as_str()) {
            state.create_topic(&name, *partitions);
        }
    }
}

fn strike(state: &mut State, kafka: &Kafka, fault: Fault, plan: &Arc<Plan>, random: &mut fastrand::Rng) {
    let broker = random.i32(1..=plan.settings.brokers);
    let topic = topic_name(random.usize(..plan.topics.len()));
    let pause = Duration::from_millis(random.u64(20..2_000));
    match fault {
        Fault::Cut => state.cut_one(random.u8(..4) == 0),
        Fault::Stall => state.stall_one(pause),
        Fault::Crash => {
            state.crash(broker, random.u8(..3) == 0);
            let elsewhere = random.u8(..4) == 0;
            later(kafka, pause, move |state| state.start(broker, elsewhere));
        }
        Fault::Restart => {
            state.stop(broker);
            later(kafka, pause, move |state| state.start(broker, false));
        }
        Fault::Move => {
            let keys = state.keys();
            if let Some(key) = random.choice(&keys) {
                state.elect(*key, Some(broker));
                state.tell_all();
            }
        }
        Fault::Lag => state.stall_follower(broker, pause),
        Fault::Throttle => {
            set_throttle(state, broker, Duration::from_millis(random.u64(1..300)));
            later(kafka, pause, move |state| set_throttle(state, broker, Duration::ZERO));
        }
        Fault::Errors => {
            let appended = random.bool();
            let codes: &[i16] = if appended { &AFTER_APPENDING } else { &BEFORE_APPENDING };
            let code = random.choice(codes).copied().expect("there are some");
            let left = random.u32(1..=3);
            state.trace.note(|| format!("broker {broker} will answer {code} {left} times, appended: {appended}"));
            if let Some(node) = state.brokers.get_mut(&broker) {
                node.ordered = Some(Ordered { code, appended, left });
            }
        }
        Fault::Growth => state.add_partitions(&topic, 1),
        Fault::Deletion => {
            if state.topics.contains_key(topic.as_str()) {
                state.delete_topic(&topic);
            }
            let plan = plan.clone();
            later(kafka, pause, move |state| mend_topics(state, &plan));
        }
        Fault::InSync | Fault::Authorisation | Fault::Size | Fault::Poison => {
            set_rules(state, &topic, fault, true, random);
            let mut random = random.fork();
            later(kafka, pause, move |state| set_rules(state, &topic, fault, false, &mut random));
        }
        Fault::Clocks if random.bool() => clock::suspend(Duration::from_secs(random.u64(1..3_600))),
        // Not by so much that brokers could forget what is not old here.
        Fault::Clocks => clock::set_local(random.i64(-7_200_000..7_200_000)),
        // Said of the whole schedule.
        Fault::Old | Fault::Unclean => {}
    }
}

fn set_throttle(state: &mut State, broker: i32, throttle: Duration) {
    state.trace.note(|| format!("broker {broker} throttles by {throttle:?}"));
    if let Some(node) = state.brokers.get_mut(&broker) {
        node.throttle = throttle;
    }
}

/// Switches one of a topic's rules on or off.
fn set_rules(state: &mut State, topic: &str, fault: Fault, on: bool, random: &mut fastrand::Rng) {
    let brokers = state.brokers.len();
    let rules = state.rules.entry(topic.into()).or_default();
    match fault {
        Fault::InSync => rules.in_sync_min = if on { random.usize(2..=brokers.max(2)) } else { 1 },
        Fault::Authorisation => rules.authorised = !on,
        Fault::Size => rules.message_bytes_max = if on { random.usize(180..400) } else { 1 << 20 },
        _ => rules.refuses_poison = on,
    }
    let rules = *rules;
    state.trace.note(|| format!("{topic}: {rules:?}"));
}

fn later(kafka: &Kafka, pause: Duration, what: impl FnOnce(&mut State) + Send + 'static) {
    let kafka = kafka.clone();
    tokio::spawn(async move {
        sleep(pause).await;
        what(&mut kafka.state());
    });
}
