//! What was found, as lines for people or as JSON for scripts. Pure.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::exit;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// The daemon can work, with less than it could.
    Warning,
    /// It cannot do what it is there for.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What kind of thing, in one word.
    pub(super) subject: &'static str,
    pub(super) message: String,
    /// What to do, unless it is ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    /// What the process ends with if this is the first error.
    #[serde(skip)]
    code: u8,
}

impl Finding {
    pub(super) fn ok(subject: &'static str, message: impl Into<String>) -> Self {
        Finding { level: Level::Ok, subject, message: plain(message), remedy: None, code: exit::OK }
    }

    pub(super) fn warning(subject: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(plain(remedy));
        Finding { level: Level::Warning, subject, message: plain(message), remedy, code: exit::OK }
    }

    pub(super) fn error(
        code: u8,
        subject: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding { level: Level::Error, subject, message: plain(message), remedy: Some(plain(remedy)), code }
    }
}

/// What came from elsewhere, without anything that a terminal would obey.
fn plain(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains(|c: char| c.is_control() && c != '\n') {
        return text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
    }
    text
}

/// All findings, in the order in which they were made.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    findings: Vec<Finding>,
    errors: usize,
    warnings: usize,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        Report { errors: count(Level::Error), warnings: count(Level::Warning), findings }
    }

    /// That of the first error; 0 if there is none.
    pub(super) fn exit_code(&self) -> u8 {
        self.findings.iter().find(|finding| finding.level == Level::Error).map_or(exit::OK, |finding| finding.code)
    }

    /// `1 error and 2 warnings`.
    pub(super) fn counts(&self) -> String {
        let count = |number, noun| match number {
            0 => format!("no {noun}s"),
            1 => format!("1 {noun}"),
            _ => format!("{number} {noun}s"),
        };
        format!("{} and {}", count(self.errors, "error"), count(self.warnings, "warning"))
    }

    /// Two lines a finding: what was found, and what to do.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        for Finding { level, subject, message, remedy, .. } in &self.findings {
            let level = match level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            // Writing to a string cannot fail. No message looks like two.
            let _ = writeln!(out, "{level:<8} {subject:<8} {}", message.replace('\n', " "));
            if let Some(remedy) = remedy {
                let _ = writeln!(out, "{:17} → {}", "", remedy.replace('\n', " "));
            }
        }
        let _ = writeln!(out, "{}", self.counts());
        out
    }

    /// One object on one line.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Finding::ok("config", "f.toml is valid"),
            Finding::warning("memory", "little\x1b\nok", "buy some"),
            Finding::error(69, "kafka", "gone", "start it"),
            Finding::error(73, "socket", "no", "make it"),
        ])
    }

    #[test]
    fn the_first_error_decides_and_warnings_do_not() {
        let report = report();
        assert_eq!((report.exit_code(), report.counts().as_str()), (69, "2 errors and 1 warning"));
        let report = Report::new(vec![Finding::warning("memory", "little", "buy some")]);
        assert_eq!((report.exit_code(), report.counts().as_str()), (0, "no errors and 1 warning"));
    }

    #[test]
    fn each_line_says_how_bad_it_is_and_the_next_what_to_do() {
        assert_eq!(
            report().to_text(),
            "ok       config   f.toml is valid\n\
             warning  memory   little\u{fffd} ok\n                  → buy some\n\
             error    kafka    gone\n                  → start it\n\
             error    socket   no\n                  → make it\n\
             2 errors and 1 warning\n"
        );
    }

    #[test]
    fn scripts_get_the_same_as_json() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!((&json["errors"], &json["warnings"]), (&2.into(), &1.into()));
        let finding = &json["findings"][2];
        assert_eq!((&finding["level"], &finding["subject"]), (&"error".into(), &"kafka".into()));
        assert_eq!((&finding["message"], &finding["remedy"]), (&"gone".into(), &"start it".into()));
        assert!(json["findings"][0].get("remedy").is_none());
    }
}
