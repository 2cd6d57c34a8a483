//! What the cluster last said of topics, for a start without Kafka: how many partitions they have. A cache in sled, the only importer of it.
//!
//! Nothing depends on it but how soon a record of a topic that the log does not know can be stored: without the cache it waits in memory until
//! the cluster has been asked. So nothing here is an error to anybody else. What cannot be opened is made anew; where that fails, too, there is no
//! cache. sled panics at some damage, so every call to it is guarded.
//!
//! A key is a topic's name, its value is version, topic id and count; the key " cluster", which is no topic's name, has the cluster's id.

use std::collections::HashMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sled::{Db, Mode};
use tracing::{info, warn};
use uuid::Uuid;

/// Its directory in the backlog's.
pub const DIRECTORY: &str = "catalog.sled";

/// What sled may hold in memory, in bytes. Values are read once, at the start.
const CACHE_BYTES: u64 = 1 << 20;
/// The version that values begin with.
const VERSION: u8 = 1;
/// Version, topic id, count.
const VALUE_BYTES: usize = 1 + 16 + 4;
/// Longer names are no topic's.
const NAME_BYTES_MAX: usize = 249;
/// A space is in no topic's name.
const CLUSTER_KEY: &[u8] = b" cluster";

/// What is known of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Nil where brokers do not say.
    pub id: Uuid,
    /// How many partitions it has, at least one.
    pub partitions: u32,
}

/// What was known when the daemon last ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Whose topics they are.
    pub cluster_id: Option<String>,
    /// By name.
    pub topics: HashMap<String, Known>,
}

/// A change of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The cluster says so of a topic.
    Topic(String, Known),
    /// The cluster has no such topic.
    Gone(String),
    /// It is another cluster, or the first: everything else is forgotten.
    Cluster(String),
}

/// The cache, open. Nobody else has its directory: the log beside it is locked.
#[derive(Debug)]
pub struct Catalog {
    path: PathBuf,
    /// `None` once it has failed.
    db: Option<Db>,
}

impl Catalog {
    /// Opens what lies in the backlog's `directory`, or makes it anew; more than `topics_max` topics are forgotten. Blocks.
    pub fn open(directory: &Path, topics_max: usize) -> (Catalog, Remembered) {
        let path = directory.join(DIRECTORY);
        let opened = open_and_read(&path, topics_max).or_else(|cause| {
            info!(path = %path.display(), %cause, "what was known of topics cannot be read, and is made anew");
            // Only ever this cache's own files.
            fs::remove_dir_all(&path).map_err(|error| error.to_string())?;
            open_and_read(&path, topics_max)
        });
        match opened {
            Ok((db, remembered)) => (Catalog { path, db: Some(db) }, remembered),
            Err(cause) => {
                warn!(path = %path.display(), %cause, "topics will not be known at a start without Kafka");
                (Catalog { path, db: None }, Remembered::default())
            }
        }
    }

    /// Keeps these changes. Blocks.
    pub fn keep(&mut self, changes: &[Change]) {
        let Some(db) = &self.db else { return };
        if let Err(cause) = guarded(|| write(db, changes)) {
            warn!(path = %self.path.display(), %cause, "topics will not be known at a start without Kafka");
            self.db = None;
        }
    }
}

fn open_and_read(path: &Path, topics_max: usize) -> Result<(Db, Remembered), String> {
    guarded(|| {
        // Flushed after each change, which is rare: a thread that does so by the clock would wake up for nothing.
        let config =
            sled::Config::new().path(path).mode(Mode::LowSpace).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open()?;
        let mut remembered = read(&db)?;
        if remembered.topics.len() > topics_max {
            db.clear()?;
            db.flush()?;
            remembered = Remembered::default();
        }
        Ok((db, remembered))
    })
}

fn read(db: &Db) -> sled::Result<Remembered> {
    let mut remembered = Remembered::default();
    for entry in db.iter() {
        let (key, value) = entry?;
        if *key == *CLUSTER_KEY {
            remembered.cluster_id = String::from_utf8(value.to_vec()).ok();
        } else if let Some((name, known)) = decode(&key, &value) {
            remembered.topics.insert(name, known);
        }
    }
    Ok(remembered)
}

fn write(db: &Db, changes: &[Change]) -> sled::Result<()> {
    for change in changes {
        match change {
            Change::Topic(name, known) => _ = db.insert(name, &encode(known)[..])?,
            Change::Gone(name) => _ = db.remove(name)?,
            Change::Cluster(id) => {
                db.clear()?;
                db.insert(CLUSTER_KEY, id.as_bytes())?;
            }
        }
    }
    db.flush().map(|_| ())
}

fn encode(known: &Known) -> [u8; VALUE_BYTES] {
    let mut value = [VERSION; VALUE_BYTES];
    value[1..17].copy_from_slice(known.id.as_bytes());
    value[17..].copy_from_slice(&known.partitions.to_le_bytes());
    value
}

/// `None` for what this version has not written.
fn decode(key: &[u8], value: &[u8]) -> Option<(String, Known)> {
    let (version, rest) = value.split_first()?;
    let (id, count) = rest.split_first_chunk::<16>()?;
    let known = Known { id: Uuid::from_bytes(*id), partitions: u32::from_le_bytes(count.try_into().ok()?) };
    let name = std::str::from_utf8(key).ok().filter(|name| name.len() <= NAME_BYTES_MAX)?;
    let is_possible = *version == VERSION && known.partitions > 0 && i32::try_from(known.partitions).is_ok();
    is_possible.then(|| (name.to_owned(), known))
}

/// What sled says, with its panics as errors.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("sled has panicked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn known(partitions: u32) -> Known {
        Known { id: Uuid::from_u128(partitions.into()), partitions }
    }

    fn topic(name: &str, partitions: u32) -> Change {
        Change::Topic(name.to_owned(), known(partitions))
    }

    fn remembered(directory: &Path) -> BTreeMap<String, u32> {
        let (_, remembered) = Catalog::open(directory, 100);
        remembered.topics.into_iter().map(|(name, known)| (name, known.partitions)).collect()
    }

    fn named(topics: &[(&str, u32)]) -> BTreeMap<String, u32> {
        topics.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn the_last_that_was_said_of_a_topic_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let (mut catalog, before) = Catalog::open(directory.path(), 100);
        assert_eq!(before, Remembered::default());
        catalog.keep(&[Change::Cluster("c".to_owned()), topic("a", 3), topic("b", 1)]);
        catalog.keep(&[topic("a", 6), Change::Gone("b".to_owned()), topic("d", 2)]);
        drop(catalog);
        let (_, after) = Catalog::open(directory.path(), 100);
        assert_eq!(after.cluster_id.as_deref(), Some("c"));
        assert_eq!(after.topics, [("a".to_owned(), known(6)), ("d".to_owned(), known(2))].into());
    }

    #[test]
    fn another_cluster_has_other_topics() {
        let directory = tempfile::tempdir().unwrap();
        let (mut catalog, _) = Catalog::open(directory.path(), 100);
        catalog.keep(&[Change::Cluster("c".to_owned()), topic("a", 3)]);
        catalog.keep(&[Change::Cluster("d".to_owned()), topic("b", 1)]);
        drop(catalog);
        assert_eq!(remembered(directory.path()), named(&[("b", 1)]));
    }

    #[test]
    fn more_topics_than_there_may_be_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let (mut catalog, _) = Catalog::open(directory.path(), 2);
        catalog.keep(&[topic("a", 1), topic("b", 1), topic("c", 1)]);
        drop(catalog);
        assert_eq!(Catalog::open(directory.path(), 2).1, Remembered::default());
    }

    #[test]
    fn what_is_damaged_anywhere_is_what_was_written_or_nothing() {
        let whole = tempfile::tempdir().unwrap();
        let (mut catalog, _) = Catalog::open(whole.path(), 100);
        catalog.keep(&[topic("a", 3), topic("b", 1)]);
        drop(catalog);
        let written = named(&[("a", 3), ("b", 1)]);
        let files = files_of(&whole.path().join(DIRECTORY));
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..60 {
            let directory = tempfile::tempdir().unwrap();
            let cache = directory.path().join(DIRECTORY);
            fs::create_dir_all(&cache).unwrap();
            let damaged = random.usize(..files.len());
            for (place, (name, bytes)) in files.iter().enumerate() {
                let mut bytes = bytes.clone();
                if place == damaged && !bytes.is_empty() {
                    match round % 3 {
                        0 => bytes.truncate(random.usize(..bytes.len())),
                        1 => bytes.iter_mut().take(64).for_each(|byte| *byte = random.u8(..)),
                        _ => (0..20).for_each(|_| {
                            let at = random.usize(..bytes.len().min(4096));
                            bytes[at] ^= 1 << random.u8(..8);
                        }),
                    }
                }
                fs::write(cache.join(name), bytes).unwrap();
            }
            let (mut catalog, found) = Catalog::open(directory.path(), 100);
            for (name, known) in &found.topics {
                assert_eq!(written.get(name), Some(&known.partitions), "round {round}: it was never so");
            }
            catalog.keep(&[topic("n", 9)]);
            drop(catalog);
            for (name, partitions) in remembered(directory.path()) {
                let was = if name == "n" { 9 } else { written[&name] };
                assert_eq!(partitions, was, "round {round}: {name}");
            }
        }
    }

    #[test]
    fn without_a_directory_that_can_be_written_there_is_no_cache() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(DIRECTORY), "a file").unwrap();
        let (mut catalog, found) = Catalog::open(directory.path(), 100);
        assert_eq!(found, Remembered::default());
        catalog.keep(&[topic("a", 1)]);
        assert_eq!(fs::read(directory.path().join(DIRECTORY)).unwrap(), b"a file");
    }

    fn files_of(directory: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.is_file());
        files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
    }
}
