//! A [`Config`] as the file that says it: every section, every key.

use std::fmt::Write;

use super::keys::{self, Keys, Section, Sections};
use super::value::Kind;
use super::{Config, Listener, TopicRules, Topics};

/// What [`Config::parse`] makes the same configuration of.
pub(super) fn to_toml(config: &Config) -> String {
    let mut writer = Writer::default();
    keys::visit(&mut config.clone(), &mut writer);
    writer.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn table(&mut self, header: &str, section: &mut impl Section) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.line(format_args!("{gap}{header}"));
        section.visit(self);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a String takes all that is written to it");
    }
}

impl Sections for Writer {
    fn section(&mut self, name: &'static str, section: &mut impl Section) {
        self.table(&format!("[{name}]"), section);
    }

    fn listeners(&mut self, listeners: &mut Vec<Listener>) {
        for listener in listeners {
            self.table("[[listeners]]", listener);
        }
    }

    fn topics(&mut self, _: &TopicRules, topics: &mut Topics) {
        for (pattern, rules) in topics.iter() {
            self.table(&format!("[topics.\"{pattern}\"]"), &mut rules.clone());
        }
    }
}

impl Keys for Writer {
    fn key<K: Kind>(&mut self, name: &'static str, kind: K, value: &mut K::Value) {
        self.line(format_args!("{name} = {}", kind.write(value)));
    }
}
