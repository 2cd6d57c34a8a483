//! Kill -9, again and again: clients write numbered records through a daemon that is killed at moments of chance and
//! started again on the same files, while the cluster is harmed. At the end all is mended, and a reader's findings
//! are judged against what each client was told.
//!
//! A client never sends a record twice: after a lost connection it goes on with the next number. What it got no answer
//! for is *in doubt*, and must be there at most once.
//!
//! `SEED=n` draws the same moments, clients and harm; how they meet is up to the machine. `KILLS=n` sets how often.

pub mod client;
pub mod judge;
pub mod power;

use std::env;
use std::fmt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::daemon::{Daemon, DaemonFiles, Extra, Stopped};
use super::watch::Watch;
use client::{Account, Client};
use judge::{Judgement, Life, judge};

/// How long whatever must happen may take: an election on real Kafka, a daemon's start on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const CLIENTS: u32 = 6;
/// Partitions of each topic.
pub const PARTITIONS: i32 = 4;
/// Answers that each client must get from the last daemon, so that it is seen to work with all of them.
const LAST_ANSWERS: u64 = 20;
/// Between one harm and the next.
const HARM_PAUSE_MS: std::ops::RangeInclusive<u64> = 10..=400;
/// Drained within less than the time that a test gives a daemon to end.
const CONFIG: &str = "[daemon]\ndrain_timeout = \"50s\"\n";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often the daemon is killed.
    pub kills: u32,
    /// What all that is drawn follows from.
    pub seed: u64,
    /// Sections of the configuration beside Kafka's, the listeners', the admin socket's and the daemon's.
    pub config: String,
    /// Where the clients write.
    pub topics: Vec<Topic>,
}

/// A topic of the plan.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name; it must be new.
    pub name: String,
    /// What clients ask for, each as often as it stands here.
    pub acks: Vec<i16>,
    /// What of it goes through the backlog.
    pub store: Store,
}

/// Which records of a topic are stored: its rule `store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// None.
    Never,
    /// Those that memory cannot keep, and all before them in their partition.
    Overflow,
    /// All.
    Always,
}

impl Plan {
    /// So many kills, unless `KILLS` says otherwise, and the seed that `SEED` names, or any.
    pub fn from_environment(kills: u32) -> Plan {
        let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect("SEED and KILLS are numbers"));
        let kills = number("KILLS").map_or(kills, |kills: u64| u32::try_from(kills).expect("KILLS is small"));
        Plan { kills, seed: number("SEED").unwrap_or_else(|| fastrand::u64(..)), config: String::new(), topics: vec![] }
    }
}

/// For [`Plan::config`]: the topics of that name or pattern are stored in `directory`.
pub fn stored_in(directory: &Path, topics: &str) -> String {
    format!("[backlog]\ndirectory = {directory:?}\n[topics.{topics:?}]\nstore = \"always\"\n")
}

/// To be added to that: the topics of that name or pattern overflow, which they do often.
pub fn overflowing(topics: &str) -> String {
    format!("[topics.{topics:?}]\nstore = \"overflow\"\nspill_after = \"100ms\"\n")
}

/// What one thread tells the others.
#[derive(Debug, Default)]
struct Shared {
    /// Which daemon runs, counted from 1.
    life: u32,
    /// Records answered in this life, by client.
    answered: Vec<u64>,
    /// Nothing is harmed any more.
    mend: bool,
    /// Clients take the answers that are left, and end.
    stop: bool,
    /// Clients end at once: the test has failed.
    abandon: bool,
}

/// From when on the time to a kill is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// The process was made: many of these daemons die while they start.
    Spawned,
    /// `READY=1`.
    Ready,
    /// A client has got an answer: these daemons die at work.
    Answered,
}

/// When a daemon is killed.
#[derive(Clone, Copy, Debug)]
struct Moment {
    since: Since,
    after: Duration,
}

impl Moment {
    /// 5 ms to 2 s: as many moments below 100 ms as above.
    fn draw(random: &mut Rng) -> Moment {
        let since = [Since::Spawned, Since::Ready, Since::Answered, Since::Answered][random.usize(..4)];
        Moment { since, after: Duration::from_secs_f64(0.005 * 400_f64.powf(random.f64())) }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} + {} ms", self.since, self.after.as_millis())
    }
}

/// Ends the clients also when the test fails, since nobody can be waited for otherwise.
struct AbandonAtEnd<'a>(&'a Watch<Shared>);

impl Drop for AbandonAtEnd<'_> {
    fn drop(&mut self) {
        self.0.update(|shared| shared.abandon = true);
    }
}

/// Carries out the plan and judges what came of it; a failed test, with all that is known of each record concerned, when
/// something is lost, doubled or out of order. The files are kept then. `harm` does one harm to the cluster at a time; `kill`
/// ends a daemon without letting it do anything more.
#[track_caller]
pub fn run<C: Cluster + Send>(
    cluster: &mut C,
    plan: &Plan,
    harm: impl Fn(&mut C, &mut Rng) + Send,
    mut kill: impl FnMut(Daemon) -> Stopped,
) -> Judgement {
    say(&format!("SEED={} KILLS={}", plan.seed, plan.kills));
    let mut random = Rng::with_seed(plan.seed);
    plan.topics.iter().for_each(|topic| cluster.create_topic(&topic.name, PARTITIONS));
    let config = format!("{CONFIG}{}", plan.config);
    // The smallest backlog takes no larger ones.
    let extra = Extra { stream: "max_frame_size = \"1MiB\"", rest: &config, ..Extra::default() };
    let mut files = DaemonFiles::new(&cluster.bootstrap(), extra);
    files.keep_when_failed();
    let shared = Watch::default();
    shared.update(|s: &mut Shared| s.answered = vec![0; CLIENTS as usize]);
    let (socket, shared) = (files.stream_socket(), &shared);
    let started = Instant::now();
    let (daemon, lives, accounts) = thread::scope(|scope| {
        let _abandon = AbandonAtEnd(shared);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| Client::new(id, plan, &socket, shared, started, random.fork()))
            .map(|client| scope.spawn(|| client.run()))
            .collect();
        let (harmed, harming) = (&mut *cluster, random.fork());
        let harmer = scope.spawn(move || keep_harming(harmed, harm, shared, harming));
        let (mut files, mut lives) = (files, Vec::new());
        for _ in 0..plan.kills {
            let life;
            (files, life) = live_and_die(files, Moment::draw(&mut random), shared, started, &mut kill);
            lives.push(life);
        }
        shared.update(|s| s.mend = true);
        harmer.join().expect("the cluster can be harmed and mended");
        let daemon = last_life(files, shared);
        lives.push(Life { daemon: plan.kills + 1, ended: "SIGTERM".to_owned(), ..Life::default() });
        let accounts: Vec<Account> = clients.into_iter().map(|c| c.join().expect("a client goes on")).collect();
        (daemon, lives, accounts)
    });
    settle(cluster, plan, daemon, &lives, &accounts)
}

/// One daemon, from its start to its kill.
fn live_and_die(
    files: DaemonFiles,
    moment: Moment,
    shared: &Watch<Shared>,
    started: Instant,
    kill: impl FnOnce(Daemon) -> Stopped,
) -> (DaemonFiles, Life) {
    let number = begin_life(shared);
    let mut life = Life { daemon: number, spawned: started.elapsed(), ..Life::default() };
    let daemon = Daemon::launch(files);
    if moment.since != Since::Spawned {
        daemon.wait_ready();
    }
    if moment.since == Since::Answered {
        let answered = shared.wait(SOON, |s| s.answered.iter().any(|n| *n > 0).then_some(()));
        assert!(answered.is_some(), "daemon {number} answers nobody:\n{}", daemon.process().stderr());
    }
    rest(shared, moment.after);
    let stopped = kill(daemon);
    life.killed = started.elapsed();
    life.ended = format!("kill -9 at {moment}");
    // A daemon that has ended by itself was not killed, whatever `kill` did.
    assert!(stopped.status.code().is_none(), "daemon {number} ended by itself: {}\n{}", stopped.status, stopped.log);
    (stopped.files, life)
}

/// The daemon that is not killed: started when all is mended, at work until each client has had its answers, and all of them.
fn last_life(files: DaemonFiles, shared: &Watch<Shared>) -> Daemon {
    begin_life(shared);
    let daemon = Daemon::launch(files);
    daemon.wait_ready();
    let all = shared.wait(SOON, |s| s.answered.iter().all(|n| *n >= LAST_ANSWERS).then_some(()));
    let answered = shared.update(|s| s.answered.clone());
    assert!(all.is_some(), "not all clients get answers: {answered:?}\n{:#}", daemon.status());
    shared.update(|s| s.stop = true);
    daemon
}

/// All is drained, the ledger says what was done, the daemon ends well, and everything is read and judged.
#[track_caller]
fn settle(cluster: &impl Cluster, plan: &Plan, daemon: Daemon, lives: &[Life], accounts: &[Account]) -> Judgement {
    let status = daemon.wait_for_status("nothing held", SOON, |status| {
        let stored = status["backlog"]["held_records"].as_u64().unwrap_or_default();
        (status["ledger"]["held"].as_u64()? == 0 && stored == 0).then(|| status.clone())
    });
    let stopped = daemon.stop();
    assert_eq!(stopped.code(), 0, "{}", stopped.log);
    let read = plan.topics.iter().map(|topic| (topic.name.clone(), cluster.read(&topic.name))).collect();
    let judgement = judge(plan, lives, accounts, &read, &status);
    say(&judgement.to_string());
    let seed = plan.seed;
    let files = stopped.files.config();
    assert!(
        judgement.complaints.is_empty(),
        "SEED={seed}: {} complaints; the files are beside {}:\n{}",
        judgement.complaints.len(),
        files.display(),
        judgement.complaints()
    );
    judgement
}

/// The next daemon's number. Clients that have connected to the one before notice by it.
fn begin_life(shared: &Watch<Shared>) -> u32 {
    shared.update(|s| {
        s.life += 1;
        s.answered.fill(0);
        s.life
    })
}

fn keep_harming<C: Cluster>(cluster: &mut C, harm: impl Fn(&mut C, &mut Rng), shared: &Watch<Shared>, mut random: Rng) {
    loop {
        let pause = Duration::from_millis(random.u64(HARM_PAUSE_MS));
        if shared.wait(pause, |s| (s.mend || s.abandon).then_some(())).is_some() {
            break;
        }
        harm(cluster, &mut random);
    }
    cluster.start_all();
}

/// Lets time pass: the moment of a kill is one of time, not an event.
fn rest(shared: &Watch<Shared>, time: Duration) {
    let _ = shared.wait(time, |s| s.abandon.then_some(()));
}

#[expect(clippy::print_stdout, reason = "to be seen when the test fails, and in a long run")]
fn say(line: &str) {
    println!("{line}");
}
