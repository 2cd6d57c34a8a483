//! The log against the disk it lies on. Each figure is a ratio to raw appending (64 KiB writes, a sync per 8 MiB) or to the sync's own time, measured
//! beside it, round by round.
//!
//! `cargo bench --bench log` for all, `-- append commit clean reopen read` for some. `LOG_BENCH_DIR` is the directory (default: the build's own), `LOG_BENCH_MIB`
//! how much each append round writes (default 512). Needs about three times that on the disk, and 10 GiB for `reopen`.

#![expect(clippy::print_stdout, reason = "figures are what a bench is for")]

#[path = "../tests/support/log.rs"]
mod fixture;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Acknowledged, Entry, Records};
use forebay::backlog::log::options::Options;
use forebay::backlog::log::read::{Cursor, Next};
use forebay::backlog::log::storage::real::RealStorage;
use forebay::backlog::log::thread::{Durable, LogHandle, LogThread, SyncPolicy, Work};

use fixture::records;

const ROUNDS: usize = 3;
const SYNC_BYTES: usize = 8 << 20;
/// Set for a process of its own that opens a log, so that its memory is that of nothing else.
const REOPEN: &str = "LOG_BENCH_REOPEN";
static DATA: [u8; 256 << 10] = [0x5a; 256 << 10];

fn main() {
    if let Some(directory) = std::env::var_os(REOPEN) {
        return reopen_here(Path::new(&directory));
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let mib = std::env::var("LOG_BENCH_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(512);
    let parent = std::env::var_os("LOG_BENCH_DIR").map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let directory = tempfile::tempdir_in(parent).expect("the directory can be written");
    if wants("append") {
        append(directory.path(), mib << 20);
    }
    if wants("commit") {
        commit(directory.path());
    }
    if wants("clean") {
        clean(directory.path(), mib << 20);
    }
    if wants("reopen") {
        reopen(directory.path(), 1 << 30);
        reopen(directory.path(), 8 << 30);
    }
    if wants("read") {
        [1, 100, 10_000].into_iter().for_each(|partitions| read_back(directory.path(), partitions, mib << 20));
    }
}

fn open(directory: &Path, name: &str, limit: u64) -> Log<RealStorage> {
    let directory = directory.join(name);
    std::fs::create_dir_all(&directory).expect("the directory can be written");
    Log::open(RealStorage::new(directory), Options::with_limit(limit), 1).expect("the directory is well").0
}

fn store(log: &mut Log<RealStorage>, partition: u32, data: &[u8]) {
    let first = log.partition(partition).map_or(0, |partition| partition.next);
    log.append(&[Entry::Records(records(partition, first, data))]).expect("there is room");
}

/// 64 KiB writes and a sync per 8 MiB into a file that grows. Bytes a second.
fn raw_append(directory: &Path, bytes: usize) -> f64 {
    let path = directory.join("raw");
    let file = File::create(&path).expect("the directory can be written");
    let block = vec![0x5a; 64 << 10];
    let start = Instant::now();
    for at in (0..bytes).step_by(block.len()) {
        file.write_all_at(&block, at as u64).expect("there is room");
        if (at + block.len()).is_multiple_of(SYNC_BYTES) {
            file.sync_data().expect("the disk is well");
        }
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(path).expect("it is ours");
    rate
}

/// Runs of one size into new segments, then into recycled ones, with a sync per 8 MiB that runs beside the appending.
fn append(directory: &Path, bytes: usize) {
    for size in [1 << 10, 16 << 10, 256 << 10] {
        let (mut new, mut recycled, mut raw, mut cpu) = (vec![], vec![], vec![], vec![]);
        let mut written_per_byte = 0.0;
        for round in 0..ROUNDS {
            raw.push(raw_append(directory, bytes));
            let name = format!("append-{size}-{round}");
            let log = open(directory, &name, 4 * bytes as u64 + (512 << 20));
            let thread = LogThread::start(log, SyncPolicy::default()).expect("threads can be started");
            let handle = thread.handle();
            for (pass, rates) in [&mut new, &mut recycled].into_iter().enumerate() {
                let (cpu_before, start) = (cpu_seconds(), Instant::now());
                let pieces = bytes >> 20;
                for piece in 1..=pieces {
                    let (done, finished) = sync_channel(1);
                    let durable: Durable = Box::new(move |_| _ = done.send(()));
                    handle.submit(append_piece(size), (piece == pieces).then_some(durable)).expect("it runs");
                    if piece == pieces {
                        finished.recv().expect("it is answered");
                    }
                }
                rates.push(bytes as f64 / start.elapsed().as_secs_f64() / raw[round]);
                if pass == 0 {
                    cpu.push((cpu_seconds() - cpu_before) / (bytes as f64 / 1e9));
                }
                // Frees all, so that the next pass meets recycled files where it can.
                let (done, finished) = sync_channel(1);
                handle.submit(settle(), Some(Box::new(move |_| _ = done.send(())))).expect("it runs");
                finished.recv().expect("it is answered");
            }
            let (count, counted) = sync_channel(1);
            let work: Work<RealStorage> = Box::new(move |log| {
                let _ = count.try_send(log.counters());
                Ok(log.synced())
            });
            handle.submit(work, None).expect("it runs");
            let counters = counted.recv().expect("it is answered");
            written_per_byte = counters.written_bytes as f64 / (2 * bytes) as f64;
            thread.stop().expect("the disk is well");
            std::fs::remove_dir_all(directory.join(name)).expect("it is ours");
        }
        println!(
            "append {:>4} KiB runs: {:.2} of raw, recycled {:.2} (raw {:.0} MB/s), {written_per_byte:.3} bytes written a byte, {:.2} CPU s/GB",
            size >> 10,
            median(&mut new),
            median(&mut recycled),
            median(&mut raw) / 1e6,
            median(&mut cpu)
        );
    }
}

/// Appends a MiB.
fn append_piece(size: usize) -> Work<RealStorage> {
    let mut left = (1 << 20) / size;
    Box::new(move |log| {
        let partition = log.define(b"p")?;
        while left > 0 {
            let first = log.partition(partition).map_or(0, |partition| partition.next);
            log.append(&[Entry::Records(records(partition, first, &DATA[..size]))])?;
            left -= 1;
        }
        Ok(log.appended())
    })
}

fn settle() -> Work<RealStorage> {
    Box::new(|log| {
        let partition = log.define(b"p")?;
        let done = all_of(log, partition);
        log.append(&[Entry::Acknowledged(done)])
    })
}

fn all_of(log: &Log<RealStorage>, partition: u32) -> Acknowledged {
    let last = log.partition(partition).map_or(0, |partition| partition.next - 1);
    Acknowledged { partition, last, offset: 0, leader_epoch: 0, topic_id: [0; 16], possible_duplicates: 0 }
}

/// Clients that each wait for every record, and the sync alone before each round of them.
fn commit(directory: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let ways = |clients| {
        [(Way::Each, Files::New), (Way::Together, Files::New), (Way::Together, Files::Recycled)]
            .map(|way| (clients, way))
    };
    let mut rounds: Vec<(_, Vec<Round>)> = [1, 16, 256].into_iter().flat_map(ways).map(|way| (way, vec![])).collect();
    let (mut sync_p50, mut sync_p99) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let mut alone = sync_alone(directory);
        let (p50, p99) = (quantile(&mut alone, 0.5), quantile(&mut alone, 0.99));
        sync_p50.push(p50);
        sync_p99.push(p99);
        for ((clients, way), rounds) in &mut rounds {
            let mut round = commit_round(directory, &runtime, *clients, *way);
            round.ratio = round.p99 / p99;
            round.ratio_p50 = round.p50 / p50;
            rounds.push(round);
        }
    }
    println!("fdatasync alone: p50 {:.0} us, p99 {:.0} us", median(&mut sync_p50), median(&mut sync_p99));
    for ((clients, (way, files)), rounds) in rounds {
        let of = |figure: fn(&Round) -> f64| median(&mut rounds.iter().map(figure).collect::<Vec<_>>());
        println!(
            "acks=1, {clients:>3} waiting, {way:?}, {files:?}: {:.0}/s, p50 {:.0} us = {:.1} x fdatasync's, p99 {:.0} us = {:.1} x fdatasync's, {:.2} syncs a record (p99 {:.0})",
            of(|round| round.rate),
            of(|round| round.p50),
            of(|round| round.ratio_p50),
            of(|round| round.p99),
            of(|round| round.ratio),
            of(|round| round.syncs),
            of(|round| round.syncs_p99),
        );
    }
}

/// How clients hand their records over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Each wakes the log's thread for its own.
    Each,
    /// As in the daemon: the first wakes it, and it takes in what others have pushed until it comes.
    Together,
}

/// Which files the log writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    /// As in the first minutes of a log's life.
    New,
    /// Those of segments that were freed, as later on.
    Recycled,
}

/// What one round of clients measured. Times in microseconds.
#[derive(Default)]
struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
    /// To the sync alone.
    ratio_p50: f64,
    ratio: f64,
    /// How many syncs end between two appends of a client: the one that its record needs, and the one that it came into.
    syncs: f64,
    syncs_p99: f64,
}

const SPAN: Duration = Duration::from_secs(1);

/// Writes and syncs over blocks that were written before, one by one. How long each took, in microseconds.
fn sync_alone(directory: &Path) -> Vec<f64> {
    let path = directory.join("sync");
    let file = File::create(&path).expect("the directory can be written");
    file.write_all_at(&vec![0; 16 << 20], 0).and_then(|()| file.sync_all()).expect("there is room");
    let start = Instant::now();
    let mut times = vec![];
    while start.elapsed() < SPAN {
        let at = times.len() as u64 * 4096 % (16 << 20);
        let before = Instant::now();
        file.write_all_at(&[7; 200], at).and_then(|()| file.sync_data()).expect("the disk is well");
        times.push(before.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path).expect("it is ours");
    times
}

fn commit_round(
    directory: &Path,
    runtime: &tokio::runtime::Runtime,
    clients: usize,
    (way, files): (Way, Files),
) -> Round {
    let name = format!("commit-{clients}");
    let mut log = open(directory, &name, 1 << 30);
    if files == Files::Recycled {
        recycle(&mut log);
    }
    let thread = LogThread::start(log, SyncPolicy::default()).expect("threads can be started");
    let door = Arc::new(Door { handle: thread.handle(), way, pushed: Mutex::default() });
    let until = Instant::now() + SPAN;
    let tasks: Vec<_> = (0..clients).map(|_| runtime.spawn(client(door.clone(), until))).collect();
    let waits: Vec<Vec<Wait>> = tasks.into_iter().map(|task| runtime.block_on(task).expect("it ends")).collect();
    let mut times: Vec<f64> = waits.iter().flatten().map(|wait| wait.micros).collect();
    let syncs = waits.iter().flat_map(|waits| waits.windows(2)).map(|two| (two[1].syncs - two[0].syncs) as f64);
    let mut syncs: Vec<f64> = syncs.collect();
    thread.stop().expect("the disk is well");
    std::fs::remove_dir_all(directory.join(name)).expect("it is ours");
    Round {
        rate: times.len() as f64 / SPAN.as_secs_f64(),
        p50: quantile(&mut times, 0.5),
        p99: quantile(&mut times, 0.99),
        syncs: syncs.iter().sum::<f64>() / syncs.len() as f64,
        syncs_p99: quantile(&mut syncs, 0.99),
        ..Round::default()
    }
}

/// Fills segments and frees them, until the next ones will be written to their files.
fn recycle(log: &mut Log<RealStorage>) {
    let partition = log.define(b"p").expect("there is room");
    while log.counters().segments_recycled == 0 {
        (0..64).for_each(|_| store(log, partition, &DATA));
        let done = all_of(log, partition);
        log.append(&[Entry::Acknowledged(done)]).and_then(|_| log.sync()).expect("the disk is well");
    }
}

/// A record whose client waits, and how many syncs there had been when it was appended.
struct Wait {
    micros: f64,
    syncs: u64,
}

type Answer = oneshot::Sender<u64>;

/// Where clients hand their records over.
struct Door {
    handle: LogHandle<RealStorage>,
    way: Way,
    /// Who has, and is not appended yet.
    pushed: Mutex<VecDeque<Answer>>,
}

impl Door {
    fn push(self: &Arc<Self>, answer: Answer) {
        let mut pushed = self.pushed.lock();
        pushed.push_back(answer);
        if self.way == Way::Together && pushed.len() > 1 {
            return;
        }
        drop(pushed);
        let (door, appended) = (self.clone(), Arc::new(Mutex::new((0, VecDeque::new()))));
        let answered = appended.clone();
        let work: Work<RealStorage> = Box::new(move |log| {
            let partition = log.define(b"p")?;
            let first = log.partition(partition).map_or(0, |partition| partition.next);
            let taken = match door.way {
                Way::Each => door.pushed.lock().pop_front().into_iter().collect(),
                Way::Together => std::mem::take(&mut *door.pushed.lock()),
            };
            let data = vec![7; 100 * taken.len()];
            // Busy while a sync is under way: the work is then run again.
            let run = Records { count: taken.len() as u32, ..records(partition, first, &data) };
            match log.append(&[Entry::Records(run)]) {
                Ok(ticket) => {
                    *appended.lock() = (log.counters().syncs, taken);
                    Ok(ticket)
                }
                Err(error) => {
                    door.pushed.lock().extend(taken);
                    Err(error)
                }
            }
        });
        let durable: Durable = Box::new(move |result| {
            result.expect("the disk is well");
            let (syncs, taken) = std::mem::take(&mut *answered.lock());
            taken.into_iter().for_each(|answer| _ = answer.send(syncs));
        });
        self.handle.submit(work, Some(durable)).expect("it runs");
    }
}

/// A task, as the daemon's connections are, that stores a record whenever its last one is durable.
async fn client(door: Arc<Door>, until: Instant) -> Vec<Wait> {
    let mut waits = vec![];
    while Instant::now() < until {
        let (answer, answered) = oneshot::channel();
        let before = Instant::now();
        door.push(answer);
        let syncs = answered.await.expect("it is answered");
        waits.push(Wait { micros: before.elapsed().as_secs_f64() * 1e6, syncs });
    }
    waits
}

fn reopen(directory: &Path, bytes: u64) {
    let mut log = open(directory, "reopen", 2 * bytes);
    let partitions: Vec<u32> = (0..100).map(|n: u32| log.define(&n.to_le_bytes()).expect("there is room")).collect();
    let data = vec![0x5a; 64 << 10];
    for n in 0..bytes / data.len() as u64 {
        store(&mut log, partitions[n as usize % 100], &data);
    }
    log.sync().expect("the disk is well");
    // As after kill -9: no footer.
    drop(log);
    print!("reopen {} GiB: ", bytes >> 30);
    std::io::stdout().flush().expect("it can be written to");
    let itself = std::env::current_exe().expect("it is known");
    let status = Command::new(itself).env(REOPEN, directory).status().expect("it can be started");
    assert!(status.success(), "{status}");
    std::fs::remove_dir_all(directory.join("reopen")).expect("it is ours");
}

fn reopen_here(directory: &Path) {
    let before = resident_bytes();
    let start = Instant::now();
    let log = open(directory, "reopen", 16 << 30);
    let time = start.elapsed();
    assert!(log.state().ledger.held() > 0);
    println!(
        "{:.0} ms, {:.1} MiB resident, {:.1} MiB before",
        time.as_secs_f64() * 1e3,
        resident_bytes() as f64 / f64::from(1 << 20),
        before as f64 / f64::from(1 << 20)
    );
}

/// Half of the partitions stand still until they hold a quarter of the log; then four times the log flows through the others, so that the cleaner
/// must carry what stands still. What that costs, and how fast it is read back then.
fn clean(directory: &Path, limit: usize) {
    // The dictionary of a small log has room for fewer names.
    let partitions = 10_000.min(limit >> 14) as u32;
    let mut log = open(directory, "clean", limit as u64);
    let numbers: Vec<u32> = (0..partitions).map(|n| log.define(&n.to_le_bytes()).expect("there is room")).collect();
    let (parked, flowing) = numbers.split_at(numbers.len() / 2);
    let data = vec![0x5a; 1 << 10];
    let (mut stored, mut held) = (0, 0);
    while stored < 4 * limit {
        for at in 0..flowing.len() {
            if held < limit / 4 {
                store(&mut log, parked[at], &data);
                held += data.len();
            }
            store(&mut log, flowing[at], &data);
            stored += data.len();
        }
        let done = flowing.iter().map(|partition| Entry::Acknowledged(all_of(&log, *partition))).collect::<Vec<_>>();
        log.append(&done).expect("notes have room");
    }
    log.sync().expect("the disk is well");
    let counters = log.counters();
    println!(
        "cleaner, a quarter of the log standing still: {:.2} bytes written a byte, {:.2} of them copies",
        counters.written_bytes as f64 / counters.stored_bytes.saturating_sub(counters.copied_bytes) as f64,
        counters.copied_bytes as f64 / counters.stored_bytes.saturating_sub(counters.copied_bytes) as f64
    );
    let start = Instant::now();
    let read = read_all(&mut log, parked);
    assert_eq!(read, held);
    println!(
        "read back what the cleaner has carried, {} partitions: {:.0} MB/s, {} indexes read",
        parked.len(),
        read as f64 / 1e6 / start.elapsed().as_secs_f64(),
        log.counters().indexes_read - counters.indexes_read
    );
    drop(log);
    std::fs::remove_dir_all(directory.join("clean")).expect("it is ours");
}

fn read_back(directory: &Path, partitions: u32, bytes: usize) {
    let mut log = open(directory, "read", 4 * bytes as u64 + (512 << 20));
    let numbers: Vec<u32> = (0..partitions).map(|n| log.define(&n.to_le_bytes()).expect("there is room")).collect();
    let data = vec![0x5a; 1 << 10];
    for n in 0..bytes / data.len() {
        store(&mut log, numbers[n % numbers.len()], &data);
    }
    log.sync().expect("the disk is well");
    let start = Instant::now();
    let read = read_all(&mut log, &numbers);
    assert_eq!(read, bytes / data.len() * data.len());
    println!(
        "read back, {partitions:>6} partitions of 1 KiB runs: {:.0} MB/s",
        read as f64 / 1e6 / start.elapsed().as_secs_f64()
    );
    drop(log);
    std::fs::remove_dir_all(directory.join("read")).expect("it is ours");
}

/// Reads partitions in turn, 64 KiB of each, until nothing is left. How many bytes that were.
fn read_all(log: &mut Log<RealStorage>, partitions: &[u32]) -> usize {
    let mut cursors: Vec<Cursor> = partitions.iter().map(|number| Cursor::new(*number, 0)).collect();
    let (mut read, mut open) = (0, true);
    while open {
        open = false;
        for cursor in &mut cursors {
            if let Next::Runs(handles) = log.locate(cursor, 64 << 10).expect("the disk is well") {
                open = true;
                for handle in handles {
                    read += handle.read().expect("nothing is damaged").records().data.len();
                }
            }
        }
    }
    read
}

fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part) as usize]
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("it is always known");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("it is always there");
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("its second number");
    pages * 4096
}
