//! What a schedule may do to the cluster.

use std::io;
use std::time::Duration;

use forebay::cluster::dial::Stream as BrokerStream;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::server::serve;
use super::{Kafka, State};
use crate::clock;
use crate::network;

/// A balancer listens here, before all brokers: so a client can begin anew when all addresses have changed.
pub const BOOTSTRAP_PORT: u16 = 9000;

impl Kafka {
    /// A client connects. Refused where nobody listens; answered by nothing where a host is gone.
    pub async fn connect(self, port: u16) -> io::Result<Box<dyn BrokerStream>> {
        let latency = {
            let mut state = self.state();
            let latency = state.settings.latency;
            state.within(latency)
        };
        sleep(latency).await;
        let accepted = self.state().accept(port);
        let Some((client, server, broker, life)) = accepted else {
            if self.state().silent_ports.contains(&port) {
                std::future::pending::<()>().await;
            }
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        tokio::spawn(serve(self, broker, life, server));
        Ok(Box::new(client))
    }
}

impl State {
    /// A connection to whoever listens there: both its ends, the broker, and its life.
    fn accept(&mut self, port: u16) -> Option<(network::Stream, network::Stream, i32, CancellationToken)> {
        let up = self.up();
        let balanced = if port == BOOTSTRAP_PORT { self.random.choice(&up).copied() } else { None };
        let found = self.brokers.iter().find(|(id, node)| node.is_up && (node.port == port || balanced == Some(**id)));
        let (broker, life) = found.map(|(id, node)| (*id, node.life.clone()))?;
        let (wire, client, server) = network::connection(self.random.fork(), self.settings.latency);
        self.wires.retain(|(_, wire)| wire.lock().is_open());
        self.wires.push((broker, wire));
        Some((client, server, broker, life))
    }

    /// Kills a broker's process, or if `silently` cuts the power of its host.
    pub fn crash(&mut self, broker: i32, silently: bool) {
        let Some(node) = self.brokers.get_mut(&broker).filter(|node| node.is_up) else { return };
        node.is_up = false;
        node.life.cancel();
        let port = node.port;
        if silently {
            self.silent_ports.insert(port);
        }
        self.trace.note(|| format!("broker {broker} is killed"));
        self.cut_all(broker, silently);
        self.fence_later(broker);
        self.changed();
    }

    /// Stops a broker in order: others lead first, producers are written down (`BrokerServer.shutdown`).
    pub fn stop(&mut self, broker: i32) {
        if self.brokers.get(&broker).is_none_or(|node| !node.is_up) {
            return;
        }
        self.trace.note(|| format!("broker {broker} stops"));
        self.unregister(broker);
        let Some(node) = self.brokers.get_mut(&broker) else { return };
        node.is_up = false;
        node.life.cancel();
        node.replicas.values_mut().for_each(super::replica::Replica::snapshot);
        self.cut_all(broker, false);
        self.changed();
    }

    /// Starts a broker again, perhaps at another address. It knows nothing until it is told.
    pub fn start(&mut self, broker: i32, elsewhere: bool) {
        if self.brokers.get(&broker).is_none_or(|node| node.is_up) {
            return;
        }
        if self.brokers.get(&broker).is_some_and(|node| node.is_registered) {
            self.unregister(broker);
        }
        let (now, expiry) = (clock::now_ms(), self.settings.expiry);
        let port = if elsewhere { Some(self.new_port()) } else { None };
        let Some(node) = self.brokers.get_mut(&broker) else { return };
        node.is_up = true;
        node.life = CancellationToken::new();
        node.image.clear();
        node.port = port.unwrap_or(node.port);
        node.replicas.values_mut().for_each(|replica| replica.reload(now, expiry));
        let port = node.port;
        self.silent_ports.remove(&port);
        self.trace.note(|| format!("broker {broker} starts at {port}"));
        self.bury(broker);
        self.register(broker);
    }

    /// Loses all connections to a broker.
    fn cut_all(&mut self, broker: i32, silently: bool) {
        for (_, wire) in self.wires.iter().filter(|(to, _)| *to == broker) {
            wire.lock().cut(silently);
        }
    }

    /// Does something to one connection, if there is any.
    fn with_one_wire(&mut self, what: impl FnOnce(&mut network::Link)) -> Option<i32> {
        self.wires.retain(|(_, wire)| wire.lock().is_open());
        let place = self.random.usize(..self.wires.len().max(1));
        let (broker, wire) = self.wires.get(place)?;
        what(&mut wire.lock());
        Some(*broker)
    }

    /// Loses one connection.
    pub fn cut_one(&mut self, silently: bool) {
        if let Some(broker) = self.with_one_wire(|link| link.cut(silently)) {
            let how = if silently { " silently" } else { "" };
            self.trace.note(|| format!("a connection to broker {broker} is lost{how}"));
        }
    }

    /// Holds up one connection.
    pub fn stall_one(&mut self, pause: Duration) {
        if let Some(broker) = self.with_one_wire(|link| link.stall(pause)) {
            self.trace.note(|| format!("a connection to broker {broker} stalls for {pause:?}"));
        }
    }

    /// A broker's followers stop fetching for a while.
    pub fn stall_follower(&mut self, broker: i32, pause: Duration) {
        self.trace.note(|| format!("broker {broker} does not fetch for {pause:?}"));
        if let Some(node) = self.brokers.get_mut(&broker) {
            node.stalled_until = Instant::now() + pause;
        }
    }

    /// Nothing is wrong any more: all brokers are up and unhindered. Topics are left as they are.
    pub fn heal(&mut self) {
        self.trace.note(|| "everything is mended".to_owned());
        for id in self.brokers.keys().copied().collect::<Vec<_>>() {
            self.start(id, false);
            if let Some(node) = self.brokers.get_mut(&id) {
                node.stalled_until = Instant::now();
                node.throttle = Duration::ZERO;
                node.ordered = None;
            }
        }
        self.rules.clear();
        for key in self.keys() {
            for id in self.brokers.keys().copied().collect::<Vec<_>>() {
                self.fetch_soon(id, key);
            }
        }
    }
}
