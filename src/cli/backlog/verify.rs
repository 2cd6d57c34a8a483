//! `forebay backlog verify`: whether every byte is as it was written.

use clap::Args;
use serde::Serialize;

use super::{Directory, failure};
use crate::backlog::log::header::segment_name;
use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::cli::status::grouped;

/// Read every frame and say whether it is as it was written, and whether all that is held is there.
///
/// Ends with 0 when all are, with 65 when some are damaged.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  forebay backlog verify --json /var/lib/forebay | jq -e .ok";

const EXIT_STATUS: &str = "\
Exit status:
    0  every byte is as it was written, and every record that is held is there
   64  wrong arguments
   65  something is damaged or missing, or a later version has written there
   74  the directory cannot be read, or nothing can be printed
   77  permission to read it is refused";

#[derive(Debug, Serialize)]
struct Verdict {
    ok: bool,
    frames: u64,
    records: u64,
    bytes: u64,
    segments: Vec<Segment>,
    missing_segments: Vec<u64>,
    unreadable_segments: Vec<u64>,
    /// Records that are held and in no segment.
    missing_records: u64,
}

#[derive(Debug, Serialize)]
struct Segment {
    number: u64,
    frames: u64,
    records: u64,
    bytes: u64,
    invalid_frames: u64,
    damage: Vec<Damage>,
    /// Whether the disk could not read all of it.
    unread: bool,
}

#[derive(Debug, Serialize)]
struct Damage {
    from: u32,
    to: u32,
}

/// Reads everything and prints.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let inspection = arguments.directory.inspect()?;
    let reports = inspection.verify().map_err(|error| failure(&arguments.directory.directory, &error))?;
    let lost = arguments.directory.lost(&inspection, &arguments.directory.held_runs(&inspection)?)?;
    let damage = &inspection.recovered().damage;
    let segments: Vec<Segment> = reports
        .into_iter()
        .map(|report| Segment {
            number: report.number,
            frames: report.frames,
            records: report.records,
            bytes: report.bytes,
            invalid_frames: report.invalid_frames,
            damage: report.damage.iter().map(|gap| Damage { from: gap.from, to: gap.to }).collect(),
            unread: report.is_unread,
        })
        .collect();
    let sound = segments.iter().all(|segment| segment.damage.is_empty() && segment.invalid_frames == 0);
    let verdict = Verdict {
        ok: sound && lost.is_empty() && damage.missing_segments.is_empty() && damage.unreadable_segments.is_empty(),
        frames: segments.iter().map(|segment| segment.frames).sum(),
        records: segments.iter().map(|segment| segment.records).sum(),
        bytes: segments.iter().map(|segment| segment.bytes).sum(),
        segments,
        missing_segments: damage.missing_segments.clone(),
        unreadable_segments: damage.unreadable_segments.clone(),
        missing_records: lost.iter().map(|(_, range)| range.count()).fold(0, u64::saturating_add),
    };
    output::print(if arguments.json { output::json(&verdict)? } else { page(&verdict) })?;
    if verdict.ok { Ok(()) } else { Err(Failure::new(exit::DATA, "the backlog is damaged")) }
}

fn page(verdict: &Verdict) -> String {
    let (frames, records, bytes) = (grouped(verdict.frames), grouped(verdict.records), grouped(verdict.bytes));
    let mut out = format!("{} segments, {frames} frames, {records} records, {bytes} bytes\n", verdict.segments.len());
    for segment in &verdict.segments {
        for damage in &segment.damage {
            out += &format!("segment {}: bytes {} to {} are damaged\n", segment.number, damage.from, damage.to);
        }
        if segment.unread {
            let name = segment_name(segment.number);
            out += &format!(
                "segment {}: the disk cannot read all of it; what is held there waits, and is tried again. To give it up: stop forebay, mv {name} to another \
                 directory, and start forebay, which counts it as dropped\n",
                segment.number
            );
        }
        if segment.invalid_frames > 0 {
            out += &format!("segment {}: {} frames say what cannot be\n", segment.number, segment.invalid_frames);
        }
    }
    for number in &verdict.missing_segments {
        out += &format!("segment {number}: missing\n");
    }
    for number in &verdict.unreadable_segments {
        out += &format!("segment {number}: nothing of it can be read\n");
    }
    if verdict.missing_records > 0 {
        out += &format!("{} records are held and in no segment\n", grouped(verdict.missing_records));
    }
    out
}
