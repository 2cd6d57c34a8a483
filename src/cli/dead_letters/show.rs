//! `forebay dead-letters show`: the first letters, for people.

use std::fmt::Write;

use clap::Args;

use super::EXIT_STATUS;
use super::select::{Letters, Selection};
use crate::cli::backlog::decode::{Decoded, each_wanted_record};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::status::grouped;
use crate::wire::codes;

/// Bytes of a key or value that are shown.
const SHOWN_BYTES: usize = 200;

/// Show dead letters as text, oldest first.
///
/// Long values are cut; export has them whole.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// At most so many.
    #[arg(short = 'n', long, value_name = "N", default_value = "20")]
    limit: u64,
}

const EXAMPLES: &str = "\
Examples:
  forebay dead-letters show /var/lib/forebay
  forebay dead-letters show /var/lib/forebay --topic audit -n 1";

/// Reads and prints.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (mut page, mut shown, mut left) = (String::new(), 0, 0);
    let ended = arguments.selection.each(|letters| {
        let room = arguments.limit - shown;
        left += letters.range.count().saturating_sub(room);
        shown += letters.range.count().min(room);
        describe(&mut page, &letters, room)
    });
    if shown == 0 && ended.is_ok() {
        page += "no dead letters\n";
    }
    if left > 0 {
        page += &format!("{} more: see -n, or forebay dead-letters export\n", grouped(left));
    }
    output::print(page)?;
    ended
}

fn describe(page: &mut String, letters: &Letters, room: u64) -> Result<(), Failure> {
    let mut left = room;
    let read = each_wanted_record(&letters.run.records(), letters.range, |record| {
        if left > 0 {
            left -= 1;
            *page += &record_as_text(letters, record);
        }
        Ok(())
    });
    read.map_err(|error| letters.unreadable(&error))
}

fn record_as_text(letters: &Letters, record: &Decoded<'_>) -> String {
    let partition = letters.partition.map_or("-".to_owned(), |partition| partition.to_string());
    let mut text = format!("{}/{partition} timestamp {}\n", shown(letters.topic.as_bytes()), record.timestamp);
    match &letters.refusal {
        Some(refusal) => {
            let (name, code) = (codes::name(refusal.code), refusal.code);
            text += &format!("  refused   {name} ({code}): {}\n", shown(refusal.words.as_bytes()));
            if refusal.may_be_delivered {
                text += "            an earlier attempt may have delivered it\n";
            }
        }
        None => text += "  refused   for a reason that this version cannot read\n",
    }
    for (name, bytes) in [("key", record.key), ("value", record.value)] {
        text += &match bytes {
            None => format!("  {name:<9} null\n"),
            Some(bytes) => format!("  {name:<9} {} bytes: {}\n", grouped(bytes.len() as u64), shown(bytes)),
        };
    }
    for (name, value) in &record.headers {
        let value = value.map_or("null".to_owned(), shown);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  header    {}: {value}", shown(name));
    }
    text
}

/// The beginning of what may be text, without anything that a terminal would act on.
fn shown(bytes: &[u8]) -> String {
    let cut = bytes.len() > SHOWN_BYTES;
    let text = String::from_utf8_lossy(bytes.get(..SHOWN_BYTES).unwrap_or(bytes));
    output::plain(&text).into_owned() + if cut { "…" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_not_shown() {
        assert_eq!(shown(b"a\x1b[2Jb\n\xff"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(shown(&[b'x'; 500]), "x".repeat(SHOWN_BYTES) + "…");
    }
}
