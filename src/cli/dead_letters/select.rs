//! Which letters are meant, and reading them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::backlog::letter::{DIRECTORY, Refusal};
use crate::backlog::log::entry::IndexRange;
use crate::backlog::log::inspect::{HeldRun, Inspection};
use crate::backlog::log::read::StoredRun;
use crate::backlog::log::storage::real::RealStorage;
use crate::cli::backlog::{failure, topic_and_partition};
use crate::cli::exit::{self, Failure};

/// Which letters are meant.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// The directory of the backlog: backlog.directory of the configuration.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Only of this topic.
    #[arg(short, long)]
    topic: Option<String>,
    /// Only of this partition.
    #[arg(short, long, requires = "topic", value_name = "N")]
    partition: Option<i32>,
    /// Only what Kafka has refused with this error code.
    #[arg(long, allow_negative_numbers = true, value_name = "CODE")]
    code: Option<i16>,
}

/// Letters that were refused together.
#[derive(Debug)]
pub(super) struct Letters {
    /// The partition's number in the log.
    pub(super) number: u32,
    /// Where they were to go.
    pub(super) topic: String,
    /// And to which partition.
    pub(super) partition: Option<i32>,
    /// Which records of that number.
    pub(super) range: IndexRange,
    /// Why Kafka did not take them; `None`: a later version says so in its own way.
    pub(super) refusal: Option<Refusal>,
    /// The records.
    pub(super) run: StoredRun,
}

impl Letters {
    /// The failure for records that cannot be decoded.
    pub(super) fn unreadable(&self, error: &io::Error) -> Failure {
        Failure::new(exit::DATA, format_args!("a letter of {} cannot be read: {error}", self.topic))
    }
}

impl Selection {
    /// Whether it is all there is.
    pub(super) fn is_everything(&self) -> bool {
        self.topic.is_none() && self.code.is_none()
    }

    /// Where the letters lie.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(DIRECTORY)
    }

    /// Shows all letters that are meant, partition by partition, oldest first.
    ///
    /// # Errors
    /// That of `visit`, at once; and at the end, that some could not be read, which standard error names.
    pub(super) fn each(&self, mut visit: impl FnMut(Letters) -> Result<(), Failure>) -> Result<(), Failure> {
        let path = self.path();
        // A backlog that never had a letter has no directory for them.
        if self.directory.is_dir() && !path.exists() {
            return Ok(());
        }
        let mut progress = Progress::default();
        while self.look(&path, &mut progress, &mut visit)? {}
        let unread = progress.unread;
        match unread {
            0 => Ok(()),
            _ => Err(Failure::new(exit::DATA, format_args!("{unread} letters could not be read"))),
        }
    }

    /// Shows what is there from where the last look ended. True if something has moved since this one began: whoever owns the log writes
    /// it anew now and then, and `visit` may be who does.
    fn look(
        &self,
        path: &Path,
        progress: &mut Progress,
        visit: &mut impl FnMut(Letters) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let read = |error| failure(path, &error);
        let inspection = Inspection::new(RealStorage::new(path)).map_err(read)?;
        for (number, runs) in inspection.held_runs().map_err(read)?.split_off(&progress.next.0) {
            let known = inspection.recovered().state.partitions.get(&number);
            let (topic, partition) = topic_and_partition(known.map(|known| &known.name[..]).unwrap_or_default());
            if self.topic.as_ref().is_some_and(|wanted| *wanted != topic)
                || self.partition.is_some_and(|wanted| partition != Some(wanted))
            {
                continue;
            }
            let from = progress.next;
            for held in runs.iter().filter(|held| (number, held.range.first) >= from) {
                match read_run(&inspection, held) {
                    Ok(None) if progress.missed != Some((number, held.range.first)) => {
                        progress.missed = Some((number, held.range.first));
                        return Ok(true);
                    }
                    // Twice: it was taken out.
                    Ok(None) => {}
                    Ok(Some((refusal, run))) => {
                        if self.code.is_none_or(|code| refusal.as_ref().is_some_and(|refusal| refusal.code == code)) {
                            let topic = topic.clone();
                            visit(Letters { number, topic, partition, range: held.range, refusal, run })?;
                        }
                    }
                    Err(why) => {
                        progress.unread += held.range.count();
                        // Nobody is left to tell when standard error is closed.
                        let _ = writeln!(io::stderr(), "forebay: {} letters of {topic}: {why}", held.range.count());
                    }
                }
                progress.next = (number, held.range.last + 1);
            }
        }
        Ok(false)
    }
}

/// How far a reader has got.
#[derive(Debug, Default)]
struct Progress {
    /// Partition and index of what comes next.
    next: (u32, u64),
    /// Was not where it should have been.
    missed: Option<(u32, u64)>,
    unread: u64,
}

type Read = Option<(Option<Refusal>, StoredRun)>;

fn read_run(inspection: &Inspection<RealStorage>, held: &HeldRun) -> Result<Read, String> {
    let run = inspection.read(held).map_err(|error| error.to_string())?;
    Ok(run.map(|run| (Refusal::of_tags(run.records().tags), run)))
}
