use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{
    Backlog, CompressionType, FullPolicy, Group, GrowthPolicy, HostPort, InvalidTimestampPolicy, ListenerKind,
    MissingPartitionPolicy, SocketFile, StorePolicy, StreamLimits, UnprovenPolicy,
};

/// Name and text of the files in `tests/data/config/KIND`, in the order of their names.
fn fixtures(kind: &str) -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(kind);
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn valid(text: &str) -> Config {
    parse(text, "test.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// With `FOREBAY_UPDATE_EXPECTED=1` the messages are written anew, for a person to read the difference.
#[test]
fn every_invalid_file_gets_exactly_the_message_beside_it() {
    let fixtures = fixtures("invalid");
    assert!(fixtures.len() >= 12);
    for (path, text) in fixtures {
        let name = path.file_name().unwrap().to_string_lossy();
        let message = format!("{}\n", parse(&text, &name).expect_err(&name));
        let expected = path.with_extension("message");
        if std::env::var_os("FOREBAY_UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &message).unwrap();
        }
        assert_eq!(message, std::fs::read_to_string(&expected).unwrap(), "{name}");
    }
}

#[test]
fn every_valid_file_is_written_back_as_the_same_configuration() {
    for (path, text) in fixtures("valid") {
        let config = valid(&text);
        assert_eq!(valid(&config.to_toml()), config, "{}", path.display());
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(valid(""), Config::default());
}

#[test]
fn every_key_of_a_file_arrives_in_its_field() {
    let config = valid(include_str!("../../../tests/data/config/valid/everything.toml"));
    let server = |host: &str, port| HostPort { host: host.to_owned(), port };
    let mut expected = Config::default();
    expected.daemon.drain_timeout = Duration::from_secs(60);
    expected.daemon.worker_threads = 2;
    expected.kafka.bootstrap_servers =
        vec![server("a.example", 9092), server("10.0.0.1", 9093), server("2001:db8::1", 9094)];
    expected.kafka.client_id = "web".to_owned();
    expected.kafka.request_timeout = Duration::from_secs(10);
    expected.kafka.socket_connection_setup_timeout = Duration::from_secs(5);
    expected.kafka.reconnect_backoff = Duration::from_millis(10);
    expected.kafka.reconnect_backoff_max = Duration::from_secs(2);
    expected.kafka.retry_backoff = Duration::from_millis(20);
    expected.kafka.retry_backoff_max = Duration::from_secs(3);
    expected.kafka.metadata_max_age = Duration::from_secs(60);
    expected.kafka.max_in_flight_requests_per_connection = 1;
    expected.kafka.max_request_size = 2_000_000;
    expected.kafka.producer_id_expiration = Duration::from_secs(12 * 3600);
    expected.kafka.allow_auto_create_topics = false;
    expected.memory.limit = 1 << 30;
    expected.backlog = Backlog {
        directory: Some("/srv/backlog".into()),
        limit: 100 << 20,
        dead_letters_limit: 80 << 20,
        min_free_space: 2 << 30,
    };
    let limits = StreamLimits {
        max_connections: 10,
        max_records_per_request: 20,
        max_unanswered_requests: 30,
        max_unanswered_size: 40 << 10,
        frame_timeout: Duration::from_secs(50),
    };
    let socket = SocketFile { path: "/srv/a.sock".into(), mode: 0o777, group: Some(Group::Name("kafka".to_owned())) };
    let stream = Listener { socket, systemd_socket: None, max_frame_size: 1 << 20, kind: ListenerKind::Stream(limits) };
    let socket = SocketFile { path: "/srv/b.sock".into(), mode: 0o220, group: Some(Group::Id(1000)) };
    let datagram = Listener { socket, systemd_socket: None, max_frame_size: 64 << 10, kind: ListenerKind::Datagram };
    expected.listeners = vec![stream, datagram];
    expected.admin.socket = SocketFile { path: "/srv/admin.sock".into(), mode: 0o600, group: Some(Group::Id(1001)) };
    expected.admin.metrics_address = Some("[::1]:9464".parse().unwrap());
    expected.producer = TopicRules {
        linger: Duration::from_millis(50),
        batch_size: 1_000_000,
        compression_type: CompressionType::Zstd,
        compression_level: Some(9),
        max_block: Duration::ZERO,
        store: StorePolicy::Never,
        spill_after: Duration::from_secs(7),
        full: FullPolicy::Reject,
        delivery_timeout: Some(Duration::from_secs(90)),
        rate_limit: Some(5_000_000),
        on_partition_growth: GrowthPolicy::AtOnce,
        on_missing_partition: MissingPartitionPolicy::DeadLetter,
        on_unproven: UnprovenPolicy::Hold,
        on_invalid_timestamp: InvalidTimestampPolicy::DeadLetter,
    };
    let audit = TopicRules { linger: Duration::ZERO, compression_level: None, ..expected.producer };
    let login = TopicRules { full: FullPolicy::Block, compression_type: CompressionType::None, ..expected.producer };
    expected.topics.insert("audit-*".parse().unwrap(), audit).unwrap();
    expected.topics.insert("audit-login".parse().unwrap(), login).unwrap();
    expected.limits.max_topics = 50;
    expected.limits.max_unknown_topics = 5;
    assert_eq!(config, expected);

    assert_eq!(config.topic_rules("web"), config.producer);
    assert_eq!(config.topic_rules("audit-shell"), audit);
    assert_eq!(config.topic_rules("audit-login"), login, "the exact name wins, and takes nothing from the glob");
}

#[test]
fn every_codec_takes_its_own_levels_and_one_without_takes_none() {
    let levels = [("gzip", 1..=9), ("lz4", 1..=17), ("zstd", -131_072..=22)];
    for (codec, levels) in levels {
        for level in [*levels.start() - 1, *levels.start(), *levels.end(), *levels.end() + 1] {
            let text = format!("[producer]\ncompression_type = {codec:?}\ncompression_level = {level}\n");
            assert_eq!(parse(&text, "level.toml").is_ok(), levels.contains(&level), "{text}");
        }
    }
    assert!(parse("[producer]\ncompression_type = \"snappy\"\ncompression_level = 1\n", "level.toml").is_err());
}

#[test]
fn a_level_for_other_topics_is_no_error_where_there_are_none() {
    let config = valid(
        "[producer]\ncompression_level = 19\n[topics.a]\ncompression_type = \"snappy\"\n[topics.b]\ncompression_type = \"zstd\"\n",
    );
    assert_eq!(config.topic_rules("b").compression_level, Some(19));
    assert_eq!(valid(&config.to_toml()), config);
}

#[test]
fn each_listener_type_has_its_own_defaults() {
    let config =
        valid("[[listeners]]\ntype = \"datagram\"\npath = \"/d\"\n[[listeners]]\ntype = \"stream\"\npath = \"/s\"\n");
    assert_eq!(config.listeners, [Listener::datagram("/d"), Listener::stream("/s")]);
}

#[test]
fn a_socket_that_systemd_makes_has_a_name_and_no_permissions() {
    let text = "[[listeners]]\ntype = \"datagram\"\npath = \"/d\"\nsystemd_socket = \"datagram\"\n";
    let listener = Listener { systemd_socket: Some("datagram".to_owned()), ..Listener::datagram("/d") };
    let config = valid(text);
    assert_eq!(config.listeners, [listener]);
    assert_eq!(valid(&config.to_toml()), config);
    let text = text.replace("systemd_socket = \"datagram\"", "systemd_socket = \"\"\nmode = \"0222\"");
    let listener = &valid(&text).listeners[0];
    assert_eq!((&listener.systemd_socket, listener.socket.mode), (&None, 0o222));
}

#[test]
fn loading_says_what_is_wrong_with_the_file_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("forebay.toml");
    assert!(matches!(load(&path), Err(ConfigError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound));

    std::fs::write(&path, b"[kafka]\n# \xc3\xbc\xff").unwrap();
    assert!(matches!(load(&path), Err(ConfigError::NotUtf8 { line: 2, column: 4, .. })));

    std::fs::write(&path, vec![b'#'; FILE_SIZE_MAX as usize + 1]).unwrap();
    assert!(matches!(load(&path), Err(ConfigError::TooLarge { limit: FILE_SIZE_MAX, .. })));

    std::fs::write(&path, vec![b'#'; FILE_SIZE_MAX as usize]).unwrap();
    assert_eq!(load(&path).unwrap(), Config::default());
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let text = format!("memory = {}", "[".repeat(500_000));
    assert!(parse(&text, "deep.toml").is_err());
    let text = format!("[{}]", vec!["a"; 200_000].join("."));
    assert!(parse(&text, "deep.toml").is_err());
    let text = format!("[memory]\n{} = 1", vec!["a"; 200_000].join("."));
    assert!(parse(&text, "deep.toml").is_err());
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        (0u64..100, "(ms|s|min|h|B|KiB|MiB|GiB)").prop_map(|(n, unit)| format!("\"{n}{unit}\"")),
        "[a-z0-9:/*.\\[\\]-]{0,20}".prop_map(|text| format!("\"{text}\"")),
        Just("[]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("[\"a:1\"]".to_owned()),
    ]
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_refused_with_places(text in "(\\PC|\n|\\[|\\]|=|\"|#){0,200}") {
        if let Err(ConfigError::Invalid { problems }) = parse(&text, "any.toml") {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_value_of_any_key_is_taken_and_written_back_equal_or_refused(
        entries in prop::collection::vec((0usize..keys::names().len(), any_value()), 1..4)
    ) {
        let names = keys::names();
        let mut text = String::new();
        for (n, value) in entries {
            let name = &names[n];
            text.push_str(&format!("{}.{} = {value}\n", name.section, name.key));
        }
        match parse(&text, "any.toml") {
            Ok(config) => prop_assert_eq!(valid(&config.to_toml()), config),
            Err(ConfigError::Invalid { problems }) => prop_assert!(!problems.is_empty()),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
