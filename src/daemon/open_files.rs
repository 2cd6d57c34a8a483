//! The limit of open files: each connection is one. A process begins with a low limit that it may raise itself.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::config::{Config, ListenerKind};

/// What is open beside the clients' connections: sockets, brokers' connections, the runtime's own, the admin's clients.
const OTHER_FILES: u64 = 512;

/// Raises the limit to what the process may have, and says so if that is too little for all connections that the configuration
/// allows. An error of the operating system costs the raise and not the start: accepting says when files run out.
pub(super) fn raise_limit(config: &Config) {
    let (before, most) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => return warn!(%error, "the limit of open files cannot be read"),
    };
    let mut limit = before;
    if before < most {
        match setrlimit(Resource::RLIMIT_NOFILE, most, most) {
            Ok(()) => limit = most,
            Err(error) => warn!(%error, before, most, "the limit of open files cannot be raised"),
        }
    }
    info!(before, limit, "open files");
    let needed = needed(config);
    if limit < needed {
        warn!(
            limit,
            needed,
            "too few open files for max_connections: connections over the limit will wait; raise it (LimitNOFILE of the \
             unit, ulimit -n), or lower max_connections"
        );
    }
}

fn needed(config: &Config) -> u64 {
    let connections = config.listeners.iter().map(|listener| match &listener.kind {
        ListenerKind::Stream(limits) => limits.max_connections as u64,
        ListenerKind::Datagram => 0,
    });
    connections.sum::<u64>() + OTHER_FILES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;

    #[test]
    fn every_listener_may_be_full_at_once() {
        let listeners = vec![Listener::stream("/a"), Listener::datagram("/b"), Listener::stream("/c")];
        assert_eq!(needed(&Config { listeners, ..Config::default() }), 20_000 + OTHER_FILES);
    }
}
