//! What is wrong with a configuration, shown to the person who wrote it: place, line, caret, remedy.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Characters of a source line that are shown; a longer line is shown in part.
const LINE_MAX: usize = 160;
/// Characters shown before the caret in a longer line.
const LINE_BEFORE: usize = 40;

/// Why there is no [`super::Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says. Part of the message, so not a source beside it.
        error: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} is larger than {limit} bytes and so not a configuration of forebay", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes it may have.
        limit: u64,
    },
    /// The file is not text.
    #[error("{}:{line}:{column}: this is not UTF-8: save the file as UTF-8 text", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// The file says what it may not. At least one problem, in the order of the file.
    #[error("{}", join(problems))]
    Invalid {
        /// Each with its place.
        problems: Vec<Problem>,
    },
}

fn join(problems: &[Problem]) -> String {
    let shown: Vec<_> = problems.iter().map(Problem::to_string).collect();
    shown.join("\n\n")
}

/// One thing that is wrong in a file. Displays on several lines, the last without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
    /// The line, or its part around the place, without control characters.
    excerpt: String,
    /// Characters before the caret.
    indent: usize,
    /// Characters under which carets stand; at least one.
    width: usize,
}

/// A problem whose place is still a range of bytes.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) place: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

impl Finding {
    /// Finds the place in `text`. A place outside of it, or inside of a character, is moved to where it can be shown.
    pub(super) fn locate(self, file: &str, text: &str) -> Problem {
        let start = text.floor_char_boundary(self.place.start);
        let end = text.floor_char_boundary(self.place.end.max(start));
        let (before, after) = text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = after.find('\n').map_or(text.len(), |at| start + at);
        let chars = |range: Range<usize>| text.get(range).unwrap_or_default().chars();
        let column = chars(line_start..start).count();
        let skipped =
            if chars(line_start..line_end).count() > LINE_MAX { column.saturating_sub(LINE_BEFORE) } else { 0 };
        let shown = chars(line_start..line_end).skip(skipped).take(LINE_MAX);
        let excerpt: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let excerpt = excerpt.trim_end().to_owned();
        let room = excerpt.chars().count().saturating_sub(column - skipped);
        Problem {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            message: self.message,
            help: self.help,
            width: chars(start..end.min(line_end)).count().min(room).max(1),
            excerpt,
            indent: column - skipped,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, line, column, message, help, excerpt, indent, width } = self;
        let gutter = line.to_string().len();
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{line} | {excerpt}")?;
        write!(f, "{:gutter$} | {:indent$}{:^<width$}", "", "", "")?;
        if !help.is_empty() {
            write!(f, "\n{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn locate(text: &str, place: Range<usize>) -> Problem {
        Finding { place, message: "wrong".to_owned(), help: String::new() }.locate("f", text)
    }

    #[test]
    fn the_caret_stands_under_the_place_also_after_characters_of_several_bytes() {
        let text = "a = 1\nwärme = \"x\"\n";
        assert_eq!(locate(text, 15..18).to_string(), "f:2:9: wrong\n  |\n2 | wärme = \"x\"\n  |         ^^^");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}WRONG{}", "x".repeat(5000), "y".repeat(5000));
        let problem = locate(&text, 5000..5005);
        assert_eq!((problem.line, problem.column), (1, 5001));
        let shown = problem.to_string();
        let [_, _, line, caret] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
        assert_eq!(line.find("WRONG"), caret.find("^^^^^"));
        assert!(line.len() < 200);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!locate("a = \u{1b}[31m", 0..1).to_string().contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_can_be_shown(text in "(\\PC|\n|\t){0,60}", start in 0usize..100, len in 0usize..100) {
            let problem = locate(&text, start..start + len);
            prop_assert!(problem.to_string().contains('^'));
            prop_assert!(problem.indent <= problem.excerpt.chars().count() + 60);
        }
    }
}
