//! What a schedule is like, all of it from its seed: the cluster, the clients, and which faults can happen.
//!
//! Each schedule allows some faults only, so that each also happens without the others (swarm testing).

use std::time::Duration;

use forebay::config::{CompressionType, Config, HostPort, MissingPartitionPolicy, TopicRules, Topics};

use crate::clients::topic_name;
use crate::kafka::Settings;
use crate::kafka::controls::BOOTSTRAP_PORT;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A connection is lost; the client hears of it or does not.
    Cut,
    /// A connection carries nothing for a while.
    Stall,
    /// A broker is killed, or its host loses power; it starts again later, perhaps elsewhere.
    Crash,
    /// A broker is stopped in order and starts again.
    Restart,
    /// Another replica that is in sync leads.
    Move,
    /// A broker's followers do not fetch, longer than they may.
    Lag,
    /// Brokers ask to be left alone.
    Throttle,
    /// Batches are appended and answered with an error, or not appended.
    Errors,
    /// `min.insync.replicas` cannot be had for a while.
    InSync,
    /// The client may not write for a while.
    Authorisation,
    /// `max.message.bytes` is lowered for a while.
    Size,
    /// Some records are refused for what they are.
    Poison,
    /// A topic gets more partitions.
    Growth,
    /// A topic is deleted, and made again.
    Deletion,
    /// Records are stamped longer ago than brokers remember producers.
    Old,
    /// Any replica may lead, where none in sync is left.
    Unclean,
    /// The clock of forebay's host is set, or the host suspended.
    Clocks,
}

/// What schedules are drawn for. Some rules matter only when several things come together that seldom do by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Anything may happen with anything.
    Any,
    /// New producer ids are taken while there is much to send, and single batches are refused.
    NewIds,
    /// What was appended and not yet replicated is in doubt, cannot be sent again as it was, and is lost with its leader.
    Uncommitted,
    /// What was appended and not yet replicated is in doubt, and brokers forget who sent it.
    Forgotten,
}

impl Purpose {
    /// Those that only some of all faults are drawn for.
    pub const PARTICULAR: [Purpose; 3] = [Purpose::NewIds, Purpose::Uncommitted, Purpose::Forgotten];
}

/// All faults but the last, and in how many of 16 schedules each can happen.
const FAULTS: [(Fault, u8); 16] = [
    (Fault::Cut, 11),
    (Fault::Stall, 5),
    (Fault::Crash, 7),
    (Fault::Restart, 7),
    (Fault::Move, 7),
    (Fault::Lag, 5),
    (Fault::Throttle, 2),
    (Fault::Errors, 5),
    (Fault::InSync, 3),
    (Fault::Authorisation, 2),
    (Fault::Size, 3),
    (Fault::Poison, 2),
    (Fault::Growth, 2),
    (Fault::Deletion, 2),
    (Fault::Old, 3),
    (Fault::Unclean, 1),
];

/// See the module.
#[derive(Debug)]
pub struct Plan {
    pub faults: Vec<Fault>,
    pub settings: Settings,
    /// Partitions of each topic.
    pub topics: Vec<usize>,
    /// Rules of each topic.
    pub rules: Vec<Rules>,
    pub clients: u32,
    /// Records of each client.
    pub records: u32,
    /// For how long clients write and faults happen.
    pub trouble: Duration,
    /// The mean pause between two faults.
    pub pause: Duration,
    pub config: Config,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(random: &mut fastrand::Rng, purpose: Purpose) -> Self {
        let mut plan = Plan::draw_any(random);
        plan.lean(random, purpose);
        plan
    }

    /// Has often what `purpose` wants to see together, and little else.
    fn lean(&mut self, random: &mut fastrand::Rng, purpose: Purpose) {
        if purpose == Purpose::Any {
            return;
        }
        // Followers may lag for a while without being dropped, so that what was appended stays uncommitted.
        let Settings { brokers, lag_max, sweeping, versions, read, .. } = &mut self.settings;
        *brokers = random.i32(2..=3);
        *lag_max = Duration::from_secs(5);
        (*versions, *read) = ((13, 13), true);
        *sweeping = Duration::ZERO;
        let (kafka, producer) = (&mut self.config.kafka, &mut self.config.producer);
        kafka.max_in_flight_requests_per_connection = 5;
        self.pause = Duration::from_millis(random.u64(20..=100));
        (self.topics, self.clients, self.records) = (vec![1], 3, 120);
        // No topic goes away.
        self.rules = vec![Rules { dead_letter_after: None, ..self.rules[0] }];
        self.faults = match purpose {
            Purpose::Any => return,
            Purpose::NewIds => {
                (kafka.max_request_size, producer.batch_size, producer.linger) = (200, 100, Duration::ZERO);
                let with_old = random.bool().then_some([Fault::Old, Fault::Poison]);
                [Fault::Clocks, Fault::Errors].into_iter().chain(with_old.into_iter().flatten()).collect()
            }
            Purpose::Uncommitted => {
                (kafka.max_request_size, producer.batch_size) = (2_000, 1_000);
                vec![Fault::Cut, Fault::Lag, Fault::Move, Fault::Size]
            }
            Purpose::Forgotten => {
                *sweeping = Duration::from_millis(random.u64(50..=200));
                vec![Fault::Old, Fault::Lag, Fault::Move]
            }
        };
        self.config.topics = Topics::default();
        self.config = with_rules(std::mem::take(&mut self.config), &self.rules);
    }

    fn draw_any(random: &mut fastrand::Rng) -> Self {
        let mut faults: Vec<Fault> =
            FAULTS.iter().filter(|(_, of_16)| random.u8(..16) < *of_16).map(|(f, _)| *f).collect();
        let ms = |random: &mut fastrand::Rng, from: u64, to: u64| Duration::from_millis(random.u64(from..=to));
        let has = |fault| faults.contains(&fault);
        let settings = Settings {
            brokers: random.i32(1..=4).max(2) - i32::from(random.u8(..16) == 0),
            latency: ms(random, 1, 8),
            learning: *random.choice([5, 50, 300, 1500].map(Duration::from_millis).iter()).expect("four"),
            fetching: *random.choice([2, 10, 40].map(Duration::from_millis).iter()).expect("three"),
            lag_max: ms(random, 200, 800),
            expiry: Config::default().kafka.producer_id_expiration,
            sweeping: if has(Fault::Old) { ms(random, 100, 1500) } else { Duration::ZERO },
            versions: *random.choice([(13, 13), (13, 13), (12, 13), (9, 11), (7, 8), (3, 5)].iter()).expect("six"),
            read: random.bool(),
            unclean: has(Fault::Unclean),
        };
        let topics: Vec<usize> = (0..random.usize(1..=2)).map(|_| random.usize(1..=3)).collect();
        // A generator of their own, so that what else is drawn of a seed is as it was without them.
        let mut of_rules = fastrand::Rng::with_seed(!random.clone().u64(..));
        let mut of_clocks = fastrand::Rng::with_seed(of_rules.clone().u64(..));
        let rules: Vec<Rules> = topics.iter().map(|_| Rules::draw(&mut of_rules, has(Fault::Deletion))).collect();
        if of_clocks.u8(..16) < 3 {
            faults.push(Fault::Clocks);
        }
        Plan {
            topics,
            clients: random.u32(1..=3),
            records: random.u32(10..=120),
            trouble: ms(random, 500, 6_000),
            pause: ms(random, 30, 600),
            config: with_rules(config(random, settings.brokers), &rules),
            rules,
            settings,
            faults,
        }
    }

    /// Whether a fault can happen.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Nothing happens after which something may be counted as a possible duplicate (sending.md, "What is counted").
    pub fn is_calm(&self) -> bool {
        use Fault::{Deletion, Old, Poison, Size, Unclean};
        ![Deletion, Old, Poison, Size, Unclean].into_iter().any(|fault| self.has(fault))
            && self.rules.iter().all(|rules| rules.delivery_timeout.is_none())
    }

    /// The rules of a topic.
    pub fn rules_of(&self, topic: &str) -> Option<&Rules> {
        let place = (0..self.rules.len()).find(|place| topic_name(*place) == topic)?;
        self.rules.get(place)
    }
}

/// What a topic's own rules say.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long the cluster says that a partition is gone before what waits for it is a dead letter; `None`: that waits.
    pub dead_letter_after: Option<Duration>,
    pub delivery_timeout: Option<Duration>,
    pub rate_limit: Option<u64>,
}

impl Rules {
    fn draw(random: &mut fastrand::Rng, with_deletion: bool) -> Self {
        let dead_letter_after = *random.choice([0, 200, 1_000].iter()).expect("three");
        let delivery_timeout = Duration::from_millis(random.u64(100..=5_000));
        // So low that it is felt, and so high that all is sent soon.
        let rate_limit = random.u64(3_000..=30_000);
        Rules {
            dead_letter_after: (random.bool() && with_deletion).then(|| Duration::from_millis(dead_letter_after)),
            delivery_timeout: (random.u8(..8) == 0).then_some(delivery_timeout),
            rate_limit: (random.u8(..8) == 0).then_some(rate_limit),
        }
    }
}

fn with_rules(mut config: Config, rules: &[Rules]) -> Config {
    for (place, rules) in rules.iter().enumerate() {
        let of_topic = TopicRules {
            on_missing_partition: match rules.dead_letter_after {
                Some(_) => MissingPartitionPolicy::DeadLetter,
                None => MissingPartitionPolicy::Hold,
            },
            max_block: rules.dead_letter_after.unwrap_or(config.producer.max_block),
            delivery_timeout: rules.delivery_timeout,
            rate_limit: rules.rate_limit,
            ..config.producer
        };
        let pattern = topic_name(place).parse().expect("it is a topic's name");
        config.topics.insert(pattern, of_topic).expect("each topic has one entry");
    }
    config
}

fn config(random: &mut fastrand::Rng, brokers: i32) -> Config {
    let mut config = Config::default();
    let kafka = &mut config.kafka;
    kafka.bootstrap_servers =
        (0..=brokers as u16).map(|id| HostPort { host: "broker".to_owned(), port: BOOTSTRAP_PORT + id }).collect();
    kafka.request_timeout = Duration::from_millis(random.u64(800..=5_000));
    kafka.socket_connection_setup_timeout = Duration::from_secs(1);
    kafka.metadata_max_age = Duration::from_secs(random.u64(2..=60));
    kafka.max_in_flight_requests_per_connection = random.usize(1..=6);
    // Batches are cut as large as a request may be: small, so that there are many.
    kafka.max_request_size = *random.choice([200, 400, 1_000, 10_000].iter()).expect("four");
    kafka.allow_auto_create_topics = false;
    config.producer.batch_size = kafka.max_request_size.min(random.usize(100..2_000));
    config.producer.linger = Duration::from_millis(*random.choice([0, 2, 20].iter()).expect("three"));
    config.producer.compression_type =
        *random.choice([CompressionType::None, CompressionType::None, CompressionType::Lz4].iter()).expect("three");
    config
}
