//! What users read about the configuration is true.

use super::*;

const FILE: &str = include_str!("../../config/forebay.toml");
const DOCUMENT: &str = include_str!("../../docs/configuration.md");

/// The commented keys become keys; explanations begin with a space and stay comments.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_alphabetic()) => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines from the one that begins with `header` to the next that begins with `next`.
fn section<'a>(text: &'a str, header: &str, next: &str) -> Vec<&'a str> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(header));
    let first = lines.next().unwrap_or_else(|| panic!("no {header}"));
    std::iter::once(first).chain(lines.take_while(|line| !line.starts_with(next))).collect()
}

#[test]
fn the_example_file_is_the_defaults() {
    assert_eq!(Config::parse(FILE, "forebay.toml").unwrap(), Config::default());
}

#[test]
fn the_example_file_is_the_defaults_also_when_every_key_is_uncommented() {
    let text = uncommented(FILE);
    assert_eq!(Config::parse(&text, "forebay.toml").unwrap_or_else(|e| panic!("{e}")), Config::default());
}

#[test]
fn the_example_file_has_every_key_in_its_section_with_its_default() {
    let text = uncommented(FILE);
    for name in keys::names() {
        let lines = section(&text, &suggest::header(name.section), "[");
        let key = format!("{} = ", name.key);
        assert_eq!(lines.iter().filter(|line| line.starts_with(&key)).count(), 1, "{} {key}", name.section);
    }
}

#[test]
fn the_documentation_has_every_key_in_its_section_with_its_default_and_range() {
    for name in keys::names() {
        let header = format!("## `{}`", suggest::header(name.section));
        let lines = section(DOCUMENT, &header, "## ");
        let row = format!("| `{}` |", name.key);
        let row = *lines.iter().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("{header}: no {row}"));
        let facts = format!("| `{}` | {} |", name.default, name.allowed);
        assert!(row.contains(&facts), "{header}: {row}\ndoes not say {facts}");
    }
}

#[test]
fn the_documentation_has_no_key_that_does_not_exist() {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, keys::names().len());
}

#[test]
fn the_defaults_pass_every_check_and_are_written_back_as_themselves() {
    let config = Config::default();
    assert_eq!(Config::parse(&config.to_toml(), "written").unwrap_or_else(|e| panic!("{e}")), config);
}
