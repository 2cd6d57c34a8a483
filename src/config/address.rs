//! The kinds of value that say where something is: sockets, who may use them, servers.
//!
//! Pure: whether a path can be used, a group exists or a server answers is not looked at here.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::value::{Kind, Refusal, integer, quoted, refuse, wrong_type};
use super::{Group, HostPort};

/// Bytes of a Unix socket's path: `sockaddr_un.sun_path` without the zero at its end.
const SOCKET_PATH_MAX: usize = 107;
/// Bytes of a file descriptor's name: `FDNAME_MAX` in systemd.
const FD_NAME_MAX: usize = 255;
/// Far more than the largest clusters list, few enough to try one after the other.
const BOOTSTRAP_SERVERS_MAX: usize = 1000;

/// Where a Unix socket lies.
pub(super) struct SocketPath;

impl Kind for SocketPath {
    type Value = PathBuf;

    fn read(&self, value: &DeValue<'_>) -> Result<PathBuf, Refusal> {
        let DeValue::String(text) = value else {
            return wrong_type(value, "a path in quotes", "write \"/run/forebay/forebay.sock\"");
        };
        if !text.starts_with('/') {
            return refuse(
                "the path is not absolute",
                "start it with /: it must not depend on where forebay is started",
            );
        }
        if text.ends_with('/') {
            return refuse("the path is a directory's", "add the name of the socket to it");
        }
        if text.contains(char::is_control) {
            return refuse("the path has a control character", "leave it out");
        }
        if text.len() > SOCKET_PATH_MAX {
            let help = format!("the system takes at most {SOCKET_PATH_MAX}: choose a shorter one");
            return refuse(format!("the path of a Unix socket of {} bytes is too long", text.len()), help);
        }
        Ok(PathBuf::from(&**text))
    }

    fn write(&self, value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }

    fn allowed(&self) -> String {
        format!("absolute, at most {SOCKET_PATH_MAX} bytes")
    }
}

/// Where a directory lies, or "" for none.
pub(super) struct DirectoryPath;

impl Kind for DirectoryPath {
    type Value = Option<PathBuf>;

    fn read(&self, value: &DeValue<'_>) -> Result<Option<PathBuf>, Refusal> {
        match value {
            DeValue::String(text) if text.is_empty() => Ok(None),
            DeValue::String(text) if !text.starts_with('/') => {
                refuse("the path is not absolute", "start it with /: it must not depend on where forebay is started")
            }
            DeValue::String(text) if text.contains(char::is_control) => {
                refuse("the path has a control character", "leave it out")
            }
            DeValue::String(text) => Ok(Some(PathBuf::from(&**text))),
            _ => wrong_type(value, "a path in quotes", "write \"/var/lib/forebay\""),
        }
    }

    fn write(&self, value: &Option<PathBuf>) -> String {
        quoted(&value.as_deref().unwrap_or(Path::new("")).to_string_lossy())
    }

    fn allowed(&self) -> String {
        "absolute, \"\" for none".to_owned()
    }
}

/// Where something listens over TCP, or "" for nowhere.
pub(super) struct ListenAddress;

impl Kind for ListenAddress {
    type Value = Option<SocketAddr>;

    fn read(&self, value: &DeValue<'_>) -> Result<Option<SocketAddr>, Refusal> {
        const HELP: &str = "write \"127.0.0.1:9464\", or \"[::1]:9464\"";
        let DeValue::String(text) = value else {
            return wrong_type(value, "an address in quotes", HELP);
        };
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Some(address)),
            _ => refuse(format!("{text:?} is no IP address with a port"), HELP),
        }
    }

    fn write(&self, value: &Option<SocketAddr>) -> String {
        quoted(&value.map(|address| address.to_string()).unwrap_or_default())
    }

    fn allowed(&self) -> String {
        "IP address and port, \"\" for none".to_owned()
    }
}

/// What systemd calls a socket that it hands over, or "" for a socket that forebay makes itself.
pub(super) struct SystemdSocket;

impl Kind for SystemdSocket {
    type Value = Option<String>;

    fn read(&self, value: &DeValue<'_>) -> Result<Option<String>, Refusal> {
        const HELP: &str = "write what FileDescriptorName= of its socket unit says";
        let DeValue::String(text) = value else {
            return wrong_type(value, "a name in quotes", HELP);
        };
        // `fdname_is_valid` in systemd; what it does not take cannot be in a unit.
        let is_valid = text.len() <= FD_NAME_MAX && text.bytes().all(|c| matches!(c, b' '..=b'~') && c != b':');
        match is_valid {
            true if text.is_empty() => Ok(None),
            true => Ok(Some(text.to_string())),
            false => refuse(format!("{text:?} cannot be systemd's name of a socket"), HELP),
        }
    }

    fn write(&self, value: &Option<String>) -> String {
        quoted(value.as_deref().unwrap_or_default())
    }

    fn allowed(&self) -> String {
        format!("at most {FD_NAME_MAX} printable ASCII characters without a colon, \"\" for none")
    }
}

/// Permissions, as `chmod` takes them.
pub(super) struct Mode;

impl Kind for Mode {
    type Value = u32;

    fn read(&self, value: &DeValue<'_>) -> Result<u32, Refusal> {
        const HELP: &str = "write three or four octal digits in quotes, at most \"0777\": \"0660\"";
        let DeValue::String(text) = value else {
            return wrong_type(value, "a mode in quotes", HELP);
        };
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|c| (b'0'..=b'7').contains(&c));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o777 => Ok(mode),
            _ => refuse(format!("{text:?} is not the mode of a socket"), HELP),
        }
    }

    fn write(&self, value: &u32) -> String {
        quoted(&format!("{value:04o}"))
    }

    fn allowed(&self) -> String {
        "\"0000\" to \"0777\", octal".to_owned()
    }
}

/// A group: its name or number, or "" for the process's own.
pub(super) struct GroupName;

impl Kind for GroupName {
    type Value = Option<Group>;

    fn read(&self, value: &DeValue<'_>) -> Result<Option<Group>, Refusal> {
        const HELP: &str = "write the group's name in quotes or its number; \"\" is the group of the process";
        match (value, integer(value)) {
            (DeValue::String(text), _) if text.is_empty() => Ok(None),
            (DeValue::String(text), _) if text.bytes().all(|c| c.is_ascii_digit()) => match text.parse() {
                Ok(id) => Ok(Some(Group::Id(id))),
                Err(_) => refuse("no group has so large a number", HELP),
            },
            (DeValue::String(text), _) => match text.contains(|c: char| c.is_control() || c == ':' || c == ' ') {
                false => Ok(Some(Group::Name(text.to_string()))),
                true => refuse(format!("{text:?} cannot be the name of a group"), HELP),
            },
            (_, Some(number)) => match number.and_then(|n| u32::try_from(n).ok()) {
                Some(id) => Ok(Some(Group::Id(id))),
                None => refuse("no group has this number", HELP),
            },
            _ => wrong_type(value, "a group", HELP),
        }
    }

    fn write(&self, value: &Option<Group>) -> String {
        match value {
            None => quoted(""),
            Some(Group::Name(name)) => quoted(name),
            Some(Group::Id(id)) => id.to_string(),
        }
    }

    fn allowed(&self) -> String {
        "name or number, \"\" is the group of the process".to_owned()
    }
}

/// Where a cluster is asked for its brokers.
pub(super) struct Servers;

impl Kind for Servers {
    type Value = Vec<HostPort>;

    fn read(&self, value: &DeValue<'_>) -> Result<Vec<HostPort>, Refusal> {
        const HELP: &str = "write [\"host:port\"], with several servers [\"a:9092\", \"b:9092\"]";
        let DeValue::Array(array) = value else {
            return wrong_type(value, "a list of servers", HELP);
        };
        if array.is_empty() || array.len() > BOOTSTRAP_SERVERS_MAX {
            return refuse(format!("expected 1 to {BOOTSTRAP_SERVERS_MAX} servers, found {}", array.len()), HELP);
        }
        let server = |item: &Spanned<DeValue<'_>>| {
            let read = match item.get_ref() {
                DeValue::String(text) => host_port(text),
                other => wrong_type(other, "a server in quotes", HELP),
            };
            read.map_err(|refusal| Refusal { place: Some(item.span()), ..refusal })
        };
        array.iter().map(server).collect()
    }

    fn write(&self, value: &Vec<HostPort>) -> String {
        let servers: Vec<_> = value.iter().map(|server| quoted(&server.to_string())).collect();
        format!("[{}]", servers.join(", "))
    }

    fn allowed(&self) -> String {
        "host:port, [IPv6]:port".to_owned()
    }
}

fn host_port(text: &str) -> Result<HostPort, Refusal> {
    if text.contains("://") {
        return refuse(format!("{text:?} is a URL"), "leave out what stands before the host: \"host:9092\"");
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        return refuse(format!("{text:?} has no port"), format!("write \"{text}:9092\""));
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
        None if text.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() => {
            let help = "put the address in brackets and the port behind them: \"[::1]:9092\"";
            return refuse(format!("{text:?} has an IPv6 address without brackets"), help);
        }
        None if is_host_name(host) => host,
        _ => return refuse(format!("{host:?} is neither a host name nor an address"), "write \"host:port\""),
    };
    // `parse` alone would take "+1" too.
    match port.parse() {
        Ok(port) if port != 0 && text.ends_with(|c: char| c.is_ascii_digit()) && !text.contains('+') => {
            Ok(HostPort { host: host.to_owned(), port })
        }
        _ => refuse(format!("{port:?} is not a port"), "ports are 1 to 65535, and Kafka's is 9092 by default"),
    }
}

/// Underscores are in no standard, but in the names of many containers.
fn is_host_name(host: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=253).contains(&host.len()) && host.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("a:1", "a", 1),
            ("broker-1.kafka_net.example:65535", "broker-1.kafka_net.example", 65535),
            ("127.0.0.1:9092", "127.0.0.1", 9092),
            ("[::1]:9092", "::1", 9092),
        ] {
            let server = host_port(text).unwrap();
            assert_eq!((server.host.as_str(), server.port), (host, port));
            assert_eq!(server.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_server_is_refused_by_its_cause() {
        for (text, message) in [
            ("", "\"\" has no port"),
            ("broker", "\"broker\" has no port"),
            ("[::1]", "\"[::1]\" has no port"),
            ("::1", "\"::1\" has an IPv6 address without brackets"),
            ("fe80::1:9092", "\"fe80::1:9092\" has an IPv6 address without brackets"),
            ("[1.2.3.4]:9092", "\"[1.2.3.4]\" is neither a host name nor an address"),
            ("a b:9092", "\"a b\" is neither a host name nor an address"),
            (":9092", "\"\" is neither a host name nor an address"),
            ("kafka://a:9092", "\"kafka://a:9092\" is a URL"),
            ("a:0", "\"0\" is not a port"),
            ("a:65536", "\"65536\" is not a port"),
            ("a:+1", "\"+1\" is not a port"),
            ("a:", "\"\" is not a port"),
        ] {
            assert_eq!(host_port(text).unwrap_err().message, message);
        }
    }

    proptest! {
        #[test]
        fn a_server_that_is_taken_displays_as_it_was_written(text in "[a-f0-9.:\\[\\]+_-]{0,20}") {
            if let Ok(server) = host_port(&text) {
                prop_assert_eq!(host_port(&server.to_string()).unwrap(), server);
            }
        }
    }
}
