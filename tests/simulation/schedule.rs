//! One schedule: forebay from its outlets to its brokers, a simulated Kafka, clients, trouble, and the balance at the end.

use std::sync::Arc;
use std::time::Duration;

use forebay::broker;
use forebay::cluster::{self, dial::Dialer};
use forebay::queue::budget::Budget;
use forebay::queue::ledger::Ledger;
use forebay::queue::topic::Topics;
use forebay::route::{Router, placer};
use parking_lot::RwLock;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::book::Book;
use crate::check::{self, Ending};
use crate::clients::{self, topic_name};
use crate::kafka::Kafka;
use crate::network::LATENESS_MAX;
use crate::plan::{Plan, Purpose};
use crate::trace::{Elapsed, Trace};
use crate::{chaos, clock};

/// By when everything must be settled once nothing is wrong any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(50);

/// What came of a schedule.
#[derive(Debug)]
pub struct Outcome {
    /// What is wrong, if something is.
    pub verdict: Result<(), String>,
    /// Records delivered, and counted as possible duplicates.
    pub delivered: u64,
    pub possible_duplicates: u64,
}

/// Which of forebay's log lines are wanted is kept for all threads in one place, and lines are missed while it changes: a schedule with
/// a trace runs alone.
static TRACED: RwLock<()> = RwLock::new(());

/// Runs the schedule of a seed to its end, in a runtime of its own.
pub fn run(seed: u64, purpose: Purpose, trace: &Trace) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O can be had");
    let trace = trace.clone();
    if !trace.is_kept() {
        let _others = TRACED.read();
        return runtime.block_on(schedule(seed, purpose, trace));
    }
    let _alone = TRACED.write();
    let log = tracing_subscriber::fmt()
        .with_writer(trace.clone())
        .with_timer(Elapsed)
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .finish();
    tracing::subscriber::with_default(log, || runtime.block_on(schedule(seed, purpose, trace)))
}

/// forebay, running.
struct Forebay {
    router: Arc<Router>,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    stop: CancellationToken,
    supervisor: JoinHandle<Result<(), String>>,
}

fn start(plan: &Plan, kafka: &Kafka, random: &mut fastrand::Rng) -> Forebay {
    let config = Arc::new(plan.config.clone());
    let budget = Arc::new(Budget::new(config.memory.limit));
    let ledger = Arc::new(Ledger::default());
    let topics = Arc::new(Topics::new(config.clone()));
    let router = Router::new(topics.clone(), budget.clone(), ledger.clone());
    let kafka = kafka.clone();
    let dialer = Dialer::new("simulated", config.kafka.socket_connection_setup_timeout, move |address| {
        Box::pin(kafka.clone().connect(address.port))
    });
    let stop = CancellationToken::new();
    let (metadata, cluster) = cluster::metadata_task(config.clone(), topics.clone(), dialer.clone(), random.fork());
    tokio::spawn(metadata.run(stop.clone()));
    tokio::spawn(placer::run(router.clone(), cluster.clone(), random.fork(), stop.clone()));
    let clocks = broker::Clocks { wall: clock::local_ms, since_boot: clock::since_boot };
    let context = broker::Context::new(config, topics, budget.clone(), ledger.clone(), cluster, dialer, clocks);
    let supervising = broker::supervise(context, random.fork(), stop.clone());
    let supervisor = tokio::spawn(async move { supervising.await.map_err(|failed| failed.to_string()) });
    Forebay { router, ledger, budget, stop, supervisor }
}

async fn schedule(seed: u64, purpose: Purpose, trace: Trace) -> Outcome {
    clock::begin();
    let mut random = fastrand::Rng::with_seed(seed);
    let plan = Arc::new(Plan::draw(&mut random, purpose));
    trace.note(|| format!("seed {seed}: {plan:?}"));
    let kafka = Kafka::new(plan.settings.clone(), random.fork(), trace);
    tokio::spawn(kafka.clone().run());
    for (place, partitions) in plan.topics.iter().enumerate() {
        kafka.state().create_topic(&topic_name(place), *partitions);
    }
    let forebay = start(&plan, &kafka, &mut random);
    let book = Book::default();
    let clients: Vec<_> = (0..plan.clients)
        .map(|client| {
            let outlet = forebay.router.outlet(random.fork());
            tokio::spawn(clients::write(outlet, client, plan.clone(), book.clone(), random.fork()))
        })
        .collect();
    let trouble = tokio::spawn(chaos::make(kafka.clone(), plan.clone(), random.fork()));
    let mut verdict = Ok(());
    for task in clients.into_iter().chain([trouble]) {
        if let Err(cause) = task.await {
            verdict = Err(format!("a task of the simulation failed: {cause}"));
        }
    }
    if verdict.is_ok() {
        verdict = settled(&forebay.ledger).await;
    }
    // Whatever was sent on a lost connection has arrived by then, and what was appended is everywhere.
    sleep(2 * LATENESS_MAX).await;
    forebay.stop.cancel();
    let ended = forebay.supervisor.await.unwrap_or_else(|cause| Err(cause.to_string()));
    verdict = verdict.and(ended);
    let balance = forebay.ledger.balance();
    if verdict.is_ok() {
        let (records, results) = (book.records(), book.results());
        let ending = Ending {
            plan: &plan,
            records: &records,
            results: &results,
            balance: &balance,
            charged: forebay.budget.used(),
        };
        verdict = check::check(&mut kafka.state(), &ending);
    }
    book.close();
    Outcome { verdict, delivered: balance.delivered, possible_duplicates: balance.possible_duplicates }
}

/// Waits until nothing is held.
async fn settled(ledger: &Ledger) -> Result<(), String> {
    let began = Instant::now();
    let waiting = async {
        while ledger.balance().held > 0 {
            sleep(LOOK).await;
        }
    };
    let within = timeout(SETTLED_WITHIN, waiting).await;
    within.map_err(|_| format!("{:?} after everything was mended: {:?}", began.elapsed(), ledger.balance()))
}
