//! The file's text into a [`Config`], or all that is wrong with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Finding};
use super::keys::{self, Keys, LISTENER_TYPE, ListenerType, Section, Sections};
use super::topics::{TopicPattern, Topics};
use super::value::Kind;
use super::{Config, Listener, TopicRules, check, suggest};

/// More than anybody writes, little enough to read whole.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// [`Config::load`].
pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    let bytes = read_file(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    if bytes.len() as u64 > FILE_SIZE_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit: FILE_SIZE_MAX });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let good = String::from_utf8_lossy(good);
        let line = good.rsplit('\n').next().unwrap_or_default();
        let (lines, chars) = (good.matches('\n').count(), line.chars().count());
        ConfigError::NotUtf8 { path: path.to_owned(), line: lines + 1, column: chars + 1 }
    })?;
    parse(&text, &path.to_string_lossy())
}

/// At most one byte more than is allowed.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// [`Config::parse`].
pub(super) fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
    read(text).map_err(|mut findings| {
        findings.sort_by_key(|finding| finding.place.start);
        ConfigError::Invalid { problems: findings.into_iter().map(|finding| finding.locate(name, text)).collect() }
    })
}

fn read(text: &str) -> Result<Config, Vec<Finding>> {
    let root = DeTable::parse(text).map_err(|error| {
        let place = error.span().unwrap_or(0..0);
        vec![Finding { place, message: error.message().to_owned(), help: String::new() }]
    })?;
    let mut reader = Reader { root: root.get_ref(), sections: Vec::new(), notes: Notes::default() };
    let mut config = Config::default();
    keys::visit(&mut config, &mut reader);
    reader.refuse_unknown_sections();
    let mut notes = reader.notes;
    // A key that could not be read stands at its default, and a conflict with that would be a false one.
    if notes.findings.is_empty() {
        for conflict in check::conflicts(&config) {
            let place = conflict.keys.iter().find_map(|key| notes.places.get(key)).cloned().unwrap_or(0..0);
            notes.add(place, conflict.message, conflict.help);
        }
    }
    if notes.findings.is_empty() { Ok(config) } else { Err(notes.findings) }
}

/// What is learned on the way.
#[derive(Default)]
struct Notes {
    findings: Vec<Finding>,
    /// Where the value of each key stands that the file gives, by section and name.
    places: BTreeMap<String, Range<usize>>,
}

impl Notes {
    fn add(&mut self, place: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding { place, message: message.into(), help: help.into() });
    }

    fn as_table<'a, 'i>(&mut self, value: &'a Spanned<DeValue<'i>>, help: String) -> Option<&'a DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.add(value.span(), format!("expected a section, found: {}", value.get_ref().type_str()), help);
        }
        table
    }
}

struct Reader<'a> {
    root: &'a DeTable<'a>,
    /// Those that exist, as far as they have been visited.
    sections: Vec<&'static str>,
    notes: Notes,
}

impl Reader<'_> {
    fn refuse_unknown_sections(&mut self) {
        for (name, value) in self.root.iter().filter(|(name, _)| !self.sections.contains(&&**name.get_ref())) {
            let (message, help) = suggest::unknown_section(name.get_ref(), is_table(value.get_ref()), &self.sections);
            self.notes.add(name.span(), message, help);
        }
    }

    fn listener(&mut self, n: usize, place: Range<usize>, table: &DeTable<'_>) -> Listener {
        let listener_type = table.get("type").map(|value| LISTENER_TYPE.read(value.get_ref()));
        let mut listener = match listener_type {
            Some(Ok(ListenerType::Datagram)) => Listener::datagram(""),
            _ => Listener::stream(""),
        };
        for (key, help) in [("type", "add type = \"stream\" or \"datagram\""), ("path", "add path = \"/…/NAME.sock\"")]
        {
            if !table.contains_key(key) {
                self.notes.add(place.clone(), format!("this listener has no {key:?}"), help);
            }
        }
        let title = match listener_type {
            Some(Ok(ListenerType::Datagram)) => suggest::DATAGRAM_LISTENER,
            _ => "[[listeners]]",
        };
        read_table(&mut self.notes, title, format!("listeners.{n}"), table, &mut listener);
        listener
    }
}

impl Sections for Reader<'_> {
    fn section(&mut self, name: &'static str, section: &mut impl Section) {
        self.sections.push(name);
        let header = suggest::header(name);
        let Some(value) = self.root.get(name) else { return };
        if let Some(table) = self.notes.as_table(value, format!("write {header} and its keys below")) {
            read_table(&mut self.notes, &header, name.to_owned(), table, section);
        }
    }

    fn listeners(&mut self, listeners: &mut Vec<Listener>) {
        const HELP: &str = "write [[listeners]], in two brackets, and its keys below";
        self.sections.push("listeners");
        let Some(value) = self.root.get("listeners") else { return };
        let DeValue::Array(array) = value.get_ref() else {
            return self.notes.add(value.span(), "expected a list of listeners", HELP);
        };
        if array.is_empty() {
            self.notes.add(value.span(), "no listener: nothing could hand records over", HELP);
        }
        listeners.clear();
        for (n, item) in array.iter().enumerate() {
            if let Some(table) = self.notes.as_table(item, HELP.to_owned()) {
                listeners.push(self.listener(n, item.span(), table));
            }
        }
    }

    fn topics(&mut self, producer: &TopicRules, topics: &mut Topics) {
        self.sections.push("topics");
        let help = "write [topics.\"NAME\"] and its keys below";
        let Some(value) = self.root.get("topics") else { return };
        let Some(table) = self.notes.as_table(value, help.to_owned()) else { return };
        // In the order of the file, so that of two that overlap the later one is reported.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let Some(table) = self.notes.as_table(value, help.to_owned()) else { continue };
            let mut rules = *producer;
            let title = format!("[topics.{:?}]", name.get_ref());
            read_table(&mut self.notes, &title, format!("topics.{}", name.get_ref()), table, &mut rules);
            match name.get_ref().parse::<TopicPattern>() {
                Err(error) => self.notes.add(name.span(), error.to_string(), "name a topic, or a glob as \"audit-*\""),
                Ok(pattern) => {
                    if let Err(overlap) = topics.insert(pattern, rules) {
                        let help = "make one of them more specific: the pattern with more literal characters wins";
                        self.notes.add(name.span(), overlap.to_string(), help);
                    }
                }
            }
        }
    }
}

/// Fills `section` from `table` and refuses keys that it does not have. `path` is its full name in [`Notes::places`].
fn read_table(notes: &mut Notes, title: &str, path: String, table: &DeTable<'_>, section: &mut impl Section) {
    let mut reader = TableReader { table, path, names: Vec::new(), notes };
    section.visit(&mut reader);
    let TableReader { names, notes, path, .. } = reader;
    for (key, value) in table.iter().filter(|(key, _)| !names.contains(&&**key.get_ref())) {
        if let Some(topic) = path.strip_prefix("topics.").filter(|_| value.get_ref().is_table()) {
            let help = format!("quote a name that has a dot: [topics.\"{topic}.{}\"]", key.get_ref());
            notes.add(key.span(), format!("unknown section {:?} in {title}", key.get_ref()), help);
            continue;
        }
        let (message, help) = suggest::unknown_key(title, &dotted(key.get_ref(), value.get_ref()), &names);
        notes.add(key.span(), message, help);
    }
}

struct TableReader<'a, 'i> {
    table: &'a DeTable<'i>,
    path: String,
    names: Vec<&'static str>,
    notes: &'a mut Notes,
}

impl Keys for TableReader<'_, '_> {
    fn key<K: Kind>(&mut self, name: &'static str, kind: K, value: &mut K::Value) {
        self.names.push(name);
        let Some(given) = self.table.get(name) else { return };
        self.notes.places.insert(format!("{}.{name}", self.path), given.span());
        match kind.read(given.get_ref()) {
            Ok(read) => *value = read,
            Err(refusal) => {
                let place = refusal.place.unwrap_or_else(|| given.span());
                self.notes.add(place, format!("{name}: {}", refusal.message), refusal.help);
            }
        }
    }
}

fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    }
}

/// TOML reads Kafka's `batch.size = 1` as a table `batch` with a key `size`; this is what was written.
fn dotted(key: &str, value: &DeValue<'_>) -> String {
    let mut name = key.to_owned();
    let mut value = value;
    while let DeValue::Table(table) = value {
        let Some((key, inner)) = table.iter().next().filter(|_| table.len() == 1) else { break };
        name = format!("{name}.{}", key.get_ref());
        value = inner.get_ref();
    }
    name
}

#[cfg(test)]
mod tests;
