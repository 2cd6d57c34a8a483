//! `forebay dev-broker`: a Kafka cluster in memory, to try things out.

use std::io::{self, Write};

use clap::Args;

use super::exit::{self, Failure};
use super::signals::Signals;
use super::{output, runtime};
use crate::devbroker::{DevBrokerError, DevCluster, Settings};

/// Run a Kafka cluster in memory, for trials and tests.
///
/// Speaks enough of Kafka's protocol for forebay, kcat and librdkafka's consumers, on 127.0.0.1. Everything is lost when it ends, with
/// SIGINT or SIGTERM. When it is ready it prints the brokers' addresses on one line.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    /// How many brokers.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    brokers: u16,
    /// The first broker's port; the others have those after it. With 0, any that are free.
    #[arg(long, default_value_t = 19091)]
    port: u16,
    /// A topic that is there from the start, as NAME:PARTITIONS or NAME; may be given more than once.
    #[arg(long = "topic", value_name = "NAME:PARTITIONS", value_parser = parse_topic)]
    topics: Vec<Topic>,
    /// How many partitions a topic has without a number of its own. Whoever names a topic that is not there creates it.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    partitions: u16,
}

const EXAMPLES: &str = "\
Examples:
  forebay dev-broker                                # 127.0.0.1:19091 to 19093
  forebay dev-broker --brokers 1 --topic audit:12
  kcat -C -b 127.0.0.1:19091 -t audit -o beginning  # read what has arrived";

const EXIT_STATUS: &str = "\
Exit status:
    0  told to stop
   64  wrong arguments
   69  a port is in use";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Topic {
    name: String,
    /// `None`: as many as a topic has by default.
    partitions: Option<usize>,
}

fn parse_topic(text: &str) -> Result<Topic, String> {
    let (name, partitions) = match text.rsplit_once(':') {
        None => (text, None),
        Some((name, number)) => match number.parse() {
            Ok(partitions @ 1..) => (name, Some(partitions)),
            _ => return Err(format!("{number:?} is no number of partitions")),
        },
    };
    Ok(Topic { name: name.to_owned(), partitions })
}

/// Returns when it was told to stop.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let ports = ports(arguments.port, arguments.brokers)?;
    runtime::block_on(async {
        let mut signals = Signals::catch()?;
        let partitions = usize::from(arguments.partitions);
        let settings = Settings {
            brokers: usize::from(arguments.brokers),
            ports,
            auto_create_topics: true,
            default_partitions: partitions,
            ..Settings::default()
        };
        let cluster = DevCluster::start(settings).await.map_err(failure)?;
        for topic in &arguments.topics {
            cluster.create_topic(&topic.name, topic.partitions.unwrap_or(partitions)).map_err(failure)?;
        }
        output::print(format!("{}\n", cluster.bootstrap_servers().join(",")))?;
        // Only a hint: standard output has what was asked for.
        let _ = writeln!(io::stderr().lock(), "everything is in memory; Ctrl-C ends it");
        signals.next().await;
        cluster.shutdown().await;
        Ok(())
    })
}

/// The ports from `first` on; any free ones if that is 0.
fn ports(first: u16, count: u16) -> Result<Vec<u16>, Failure> {
    match first {
        0 => Ok(vec![]),
        first if first.checked_add(count - 1).is_none() => {
            let message = format_args!("there are no {count} ports from {first} on: choose a lower --port");
            Err(Failure::new(exit::USAGE, message))
        }
        first => Ok((first..=first + (count - 1)).collect()),
    }
}

fn failure(error: DevBrokerError) -> Failure {
    let code = match error {
        DevBrokerError::Kafka { .. } => exit::USAGE,
        DevBrokerError::Listen { .. } | DevBrokerError::NoBroker(_) => exit::UNAVAILABLE,
    };
    Failure::new(code, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_name_and_perhaps_its_partitions() {
        let topic = |name: &str, partitions| Ok(Topic { name: name.to_owned(), partitions });
        assert_eq!(parse_topic("audit:12"), topic("audit", Some(12)));
        assert_eq!(parse_topic("audit"), topic("audit", None));
        for wrong in ["audit:", "audit:0", "audit:x", "audit:-1"] {
            assert!(parse_topic(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn brokers_have_the_ports_from_the_first_on() {
        assert_eq!(ports(19091, 3).unwrap(), [19091, 19092, 19093]);
        assert_eq!(ports(65535, 1).unwrap(), [65535]);
        assert!(ports(0, 3).unwrap().is_empty());
        assert_eq!(ports(65534, 3).unwrap_err().code, exit::USAGE);
    }
}
