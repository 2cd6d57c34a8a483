//! The bare read loop: a process that reads what clients write, 64 KiB at a time as the daemon does, and does nothing with it.
//! What the daemon costs beyond that is its own doing; the rest is the price of a Unix socket.
//!
//! It is this binary again, told by the environment. It waits in one of two ways, since they cost differently.

use std::env;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use tokio::time::Instant;

use crate::case::{Method, median, sorted};
use crate::load::{self, Position, Shape, Until, Writes};
use crate::meter::Meter;
use crate::support::process::Process;

/// Names the socket in the environment of the process that is to be a read loop.
const SOCKET: &str = "FOREBAY_BENCH_READ_LOOP";
/// Set: how it waits.
const KIND: &str = "FOREBAY_BENCH_READ_LOOP_KIND";
const READY: &str = "reading";
const READ_BYTES: usize = 64 << 10;
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The most threads that the daemon has by default.
const THREADS_MAX: usize = 4;

/// How a read loop waits for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A thread for each connection, which blocks in `read`.
    Threads,
    /// Tokio's tasks on as many threads as the daemon has, which wait in `epoll_wait`, as the daemon's do.
    Tokio,
}

/// What a record costs a read loop.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub size: usize,
    pub clients: usize,
    pub write: usize,
    pub kind: Kind,
    pub records_per_second: f64,
    /// The median of the repetitions.
    pub cpu_ns_per_record: f64,
}

/// If this process is meant to be a read loop it is one, until it is killed.
pub fn play() -> Result<()> {
    let Some(socket) = env::var_os(SOCKET) else { return Ok(()) };
    let listener = UnixListener::bind(Path::new(&socket))?;
    println!("{READY}");
    match env::var(KIND).as_deref() {
        Ok("threads") => loop {
            let (stream, _) = listener.accept()?;
            thread::spawn(move || read_blocking(stream));
        },
        _ => {
            let threads = thread::available_parallelism()?.get().min(THREADS_MAX);
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
            runtime.block_on(async {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    tokio::spawn(read_ready(stream));
                }
            })
        }
    }
}

fn read_blocking(mut stream: UnixStream) {
    let mut buffer = vec![0; READ_BYTES];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

async fn read_ready(stream: tokio::net::UnixStream) {
    let mut buffer = vec![0; READ_BYTES];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Measures a read loop under the writes that the daemon gets.
pub fn measure(shape: Shape, clients: usize, kind: Kind, method: &Method) -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("s");
    let mut command = Command::new(env::current_exe()?);
    command.env(SOCKET, &socket).env(KIND, if kind == Kind::Threads { "threads" } else { "tokio" });
    let process = Process::spawn(command, Stdio::null(), None);
    process.wait_for_text(READY, START_TIMEOUT);
    let meter = Meter::new(process.id())?;
    let writes = Writes::new(method.form, shape);
    let mut laps = Vec::new();
    for lap in 0..=method.repetitions {
        let before = meter.read()?.cpu;
        let started = Instant::now();
        let records = write_all(&socket, clients, &writes, method.seconds)? * shape.write as u64;
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), meter.read()?.cpu - before);
        ensure!(records > 0, "nothing was written");
        if lap > 0 {
            laps.push((records as f64 / seconds, cpu.as_nanos() as f64 / records as f64));
        }
    }
    Ok(Row {
        size: shape.size,
        clients,
        write: shape.write,
        kind,
        records_per_second: median(&sorted(laps.iter().map(|lap| lap.0))),
        cpu_ns_per_record: median(&sorted(laps.iter().map(|lap| lap.1))),
    })
}

/// Clients that connect, write for so long, and wait until all of it is read; returns the number of writes.
fn write_all(socket: &Path, clients: usize, writes: &Writes, seconds: f64) -> Result<u64> {
    let barrier = Barrier::new(clients);
    let client = || -> Result<u64> {
        let stream = UnixStream::connect(socket);
        barrier.wait();
        let mut stream = stream?;
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let count = load::flood(&mut stream, writes, &mut Position::default(), Until::Time(end))?;
        stream.shutdown(Shutdown::Write)?;
        let mut nothing = [0];
        ensure!(stream.read(&mut nothing).context("the read loop ends in order")? == 0, "a read loop never answers");
        Ok(count)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().map_err(|_| anyhow!("a client panicked"))?).sum()
    })
}

/// One line a case.
pub const HEAD: &str = "\
| B | clients | write | threads: CPU ns/record | tokio: CPU ns/record | daemon, 1 partition: CPU ns/record | daemon ÷ tokio | daemon ÷ threads |
|--:|--:|--:|--:|--:|--:|--:|--:|";

/// Both kinds beside the daemon's own figure, where that was measured.
pub fn print(threads: &Row, tokio: &Row, daemon: Option<f64>) {
    let Row { size, clients, write, cpu_ns_per_record: threads, .. } = threads;
    let tokio = tokio.cpu_ns_per_record;
    print!("| {size} | {clients} | {write} | {threads:.0} | {tokio:.0} ");
    match daemon {
        Some(daemon) => println!("| {daemon:.0} | {:.2} | {:.2} |", daemon / tokio, daemon / threads),
        None => println!("| | | |"),
    }
    // A table that is read while it grows.
    let _ = std::io::stdout().flush();
}
