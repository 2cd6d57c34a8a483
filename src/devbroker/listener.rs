//! A broker's listener: the port it keeps, the task that takes connections, and a task for each of those.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{DevBrokerError, Shared, server};

/// The most connections that one broker has at a time; others wait to be taken.
const CONNECTIONS_MAX: usize = 4096;
/// How many connections wait in the kernel to be taken.
const BACKLOG: u32 = 1024;
/// How long a listener rests when the system has no file descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A broker's way to the outside.
#[derive(Debug)]
pub(super) enum Listener {
    Up {
        stop: CancellationToken,
        /// Closes the connections and keeps the listener.
        drop_connections: watch::Sender<()>,
        tasks: TaskTracker,
    },
    /// The socket is bound but does not listen: clients are refused, and nobody else gets the port.
    Down { _port: Option<TcpSocket> },
}

impl Listener {
    /// Listens on a bound socket, as `broker`, until `stop` or a token of its own is cancelled.
    pub(super) fn start(
        socket: TcpSocket,
        address: SocketAddr,
        broker: i32,
        shared: &Arc<Shared>,
        stop: &CancellationToken,
    ) -> Result<Listener, DevBrokerError> {
        let listener = socket.listen(BACKLOG).map_err(|source| DevBrokerError::Listen { address, source })?;
        let stop = stop.child_token();
        let tasks = TaskTracker::new();
        let drop_connections = watch::Sender::new(());
        let accept = Accept {
            shared: shared.clone(),
            broker,
            listener,
            stop: stop.clone(),
            drop_connections: drop_connections.subscribe(),
            tasks: tasks.clone(),
        };
        tasks.spawn(accept.run());
        tasks.close();
        Ok(Listener::Up { stop, drop_connections, tasks })
    }
}

/// A socket on 127.0.0.1 that does not listen yet, and where it is.
pub(super) fn bind(port: u16) -> Result<(TcpSocket, SocketAddr), DevBrokerError> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |source| DevBrokerError::Listen { address: wanted, source };
    let socket = TcpSocket::new_v4().map_err(failed)?;
    // Connections of the broker's earlier life may linger at its port. A port that the system chooses must be free of those
    // that are only kept, so there the option comes after.
    socket.set_reuseaddr(port != 0).map_err(failed)?;
    socket.bind(wanted).map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok((socket, address))
}

/// The task of a listener.
struct Accept {
    shared: Arc<Shared>,
    broker: i32,
    listener: TcpListener,
    stop: CancellationToken,
    drop_connections: watch::Receiver<()>,
    tasks: TaskTracker,
}

impl Accept {
    /// Takes connections until it is stopped, each served by a task of its own that ends then too.
    async fn run(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Some(Ok(place)) = self.stop.run_until_cancelled(places.clone().acquire_owned()).await {
            match self.stop.run_until_cancelled(self.listener.accept()).await {
                Some(Ok((stream, _))) => {
                    self.tasks.spawn(self.connection(stream, place));
                }
                Some(Err(error)) => {
                    tracing::warn!(broker = self.broker, %error, "dev-broker could not take a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => return,
            }
        }
    }

    fn connection(&self, stream: TcpStream, place: OwnedSemaphorePermit) -> impl Future<Output = ()> + use<> {
        let (shared, broker, stop) = (self.shared.clone(), self.broker, self.stop.clone());
        let mut dropped = self.drop_connections.clone();
        dropped.mark_unchanged();
        async move {
            let _place = place;
            shared.change(|cluster| cluster.counters.connections += 1);
            // Small answers must not wait for more; without it they are only slower.
            let _ = stream.set_nodelay(true);
            tokio::select! {
                () = stop.cancelled() => {}
                _ = dropped.changed() => {}
                ended = server::serve(&shared, broker, stream) => {
                    if let Err(error) = ended {
                        tracing::debug!(broker, %error, "dev-broker closed a connection");
                    }
                }
            }
        }
    }
}
