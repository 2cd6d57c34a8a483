//! Many clients at once, each a thread, and how far they are.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::daemon::{Daemon, status};
use super::watch::Watch;
use super::writer::{Account, Writer};

/// How long clients may be without an answer, an election on real Kafka included.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

/// How far the clients are.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records that were answered as delivered, by writer.
    pub acknowledged: Vec<u64>,
    /// Whether clients without a number of records are to end.
    pub stop: bool,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    progress: Arc<Watch<Progress>>,
    /// Which of the writers get answers.
    answered: Vec<bool>,
    clients: Vec<JoinHandle<Account>>,
    /// Where the daemon can be asked how it is.
    admin: PathBuf,
}

impl Load {
    /// Starts a client for each writer.
    pub fn start(daemon: &Daemon, writers: Vec<Writer>) -> Load {
        let progress = Arc::new(Watch::default());
        let answered: Vec<bool> = writers.iter().map(|writer| writer.way.is_answered()).collect();
        progress.update(|p: &mut Progress| p.acknowledged = vec![0; writers.len()]);
        let paces: Vec<Vec<usize>> = writers.iter().map(|writer| pace(writer, &writers)).collect();
        let clients = writers.into_iter().zip(paces).enumerate().map(|(place, (writer, pace))| {
            let (stream, datagram) = (daemon.files().stream_socket(), daemon.files().datagram_socket());
            let progress = Arc::clone(&progress);
            thread::spawn(move || writer.run(stream, datagram, &progress, place, pace))
        });
        let clients = clients.collect();
        Load { progress, answered, clients, admin: daemon.files().admin_socket() }
    }

    /// Waits until every client that gets answers has so many more of its records acknowledged.
    #[track_caller]
    pub fn wait_for_each(&self, more: u64) {
        let start = self.progress.update(|progress| progress.acknowledged.clone());
        let went_on = self.progress.wait(PROGRESS_TIMEOUT, |progress| {
            let now = progress.acknowledged.iter().zip(&start).zip(&self.answered);
            now.into_iter().all(|((now, start), answered)| !answered || now - start >= more).then_some(())
        });
        if went_on.is_none() {
            let now = self.progress.update(|progress| progress.acknowledged.clone());
            let status = status(&self.admin);
            panic!("clients do not go on: {start:?} records acknowledged, then {now:?}; the daemon: {status:#}");
        }
    }

    /// Whether a client has ended by now.
    pub fn any_ended(&self) -> bool {
        self.clients.iter().any(JoinHandle::is_finished)
    }

    /// Whether all clients have ended by now.
    pub fn all_ended(&self) -> bool {
        self.clients.iter().all(JoinHandle::is_finished)
    }

    /// Tells the clients to end, and waits for all their answers.
    #[track_caller]
    pub fn finish(self) -> Vec<Account> {
        self.progress.update(|progress| progress.stop = true);
        self.join()
    }

    /// Waits until the clients have ended by themselves.
    #[track_caller]
    pub fn join(self) -> Vec<Account> {
        self.clients.into_iter().map(|client| client.join().expect("a client has not failed")).collect()
    }
}

/// The places of those whose progress a writer without answers keeps up with: those with answers that write where it does, so that
/// it does not bury their records under its own where its topic is slow. Where there is none, all with answers.
fn pace(writer: &Writer, writers: &[Writer]) -> Vec<usize> {
    let places = |wanted: &dyn Fn(&Writer) -> bool| -> Vec<usize> {
        (0..)
            .zip(writers)
            .filter(|(_, other)| other.way.is_answered() && wanted(other))
            .map(|(place, _)| place)
            .collect()
    };
    let same_topic = places(&|other| other.topic == writer.topic);
    if same_topic.is_empty() { places(&|_| true) } else { same_topic }
}

/// Runs writers that have a number of records to their end.
#[track_caller]
pub fn run(daemon: &Daemon, writers: Vec<Writer>) -> Vec<Account> {
    Load::start(daemon, writers).join()
}
