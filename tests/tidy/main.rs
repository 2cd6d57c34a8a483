//! House rules that the compiler and clippy cannot check: which module may import which, what stays in one module, module
//! docs, file lengths, and what must not stand in tests or in any committed file. Each failure says where and what to do.
//!
//! The rules are functions from text to complaints, tried here on made-up sources as well: a rule that cannot fail is
//! none. Test modules are free of the rules for production code.

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{Source, edges, line_of, words};

/// Modules from the bottom up, as in `ARCHITECTURE.md`: each may import those of earlier lines, never those of its own.
const LAYERS: &[&[&str]] = &[
    &["record", "config", "backoff", "sampler"],
    &["wire", "backlog"],
    &["queue"],
    &["batch", "cluster", "store"],
    &["broker", "route"],
    &["ingest", "admin"],
    &["daemon"],
    &["cli"],
];

/// A module beside the layers: the other end of the wire, which must not share what it is there to test.
const DEVBROKER: &str = "devbroker";
/// All that [`DEVBROKER`] may import.
const DEVBROKER_IMPORTS: &[&str] = &["record", "wire"];

/// Crates that only some modules may name, and why.
const CONFINED: &[(&str, &[&str], &str)] = &[
    (
        "kafka_protocol",
        &["wire"],
        "a new version of that crate must change one module; give the others a type of wire's own",
    ),
    ("sled", &["backlog"], "it panics at damaged files, so every call to it is guarded in backlog::catalog"),
    ("anyhow", &["main", "cli", "daemon"], "elsewhere callers need to tell errors apart; make a thiserror enum"),
];

/// Directories that only exist, or only matter, on one machine.
const MACHINE_PATHS: &[&str] = &["/work", "/root", "/home", "/tmp"];

/// Tests whose every runtime has a paused clock, made in one file for all the others.
const PAUSED: &str = "tests/simulation/";

/// About as much as can be read in one go.
const LINES_MAX: usize = 400;

#[test]
fn modules_import_only_from_the_layers_below_them() {
    check(sources("src").iter().filter(|source| !source.is_test).flat_map(wrong_imports));
}

#[test]
fn confined_crates_are_named_only_where_they_belong() {
    check(sources("src").iter().filter(|source| !source.is_test).flat_map(escaped_crates));
}

#[test]
fn every_file_says_what_it_is_for() {
    // A module's own tests.rs is explained by the module.
    let production = sources("src").into_iter().filter(|source| !source.is_test);
    check(production.chain(sources("tests")).flat_map(|source| missing_docs(&source)));
}

#[test]
fn no_file_is_too_long_to_be_read() {
    check(sources("src").iter().chain(&sources("tests")).flat_map(too_long));
}

#[test]
fn production_code_neither_unwraps_nor_grows_without_a_bound() {
    check(sources("src").iter().filter(|source| !source.is_test).flat_map(unwraps_and_unbounded));
}

#[test]
fn tests_wait_for_events_not_for_time() {
    check(sources("src").iter().chain(&sources("tests")).flat_map(sleeping_tests));
}

#[test]
fn no_committed_file_names_a_directory_of_one_machine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    check(files(root).into_iter().flat_map(|path| {
        let text = String::from_utf8_lossy(&fs::read(&path).expect("a file that was listed can be read")).into_owned();
        machine_paths(&relative(&path), &text)
    }));
}

/// Fails with all complaints, if there are any.
#[track_caller]
fn check(complaints: impl Iterator<Item = String>) {
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn wrong_imports(source: &Source) -> Vec<String> {
    let importer = source.module.as_str();
    // The crate's root may name every module: it declares them.
    if importer == "lib" || importer == "main" {
        return vec![];
    }
    let Some(allowed) = imports_of(importer) else {
        return vec![format!(
            "{}: {importer} stands in no layer; give it one in LAYERS and ARCHITECTURE.md",
            source.path
        )];
    };
    let wrong =
        edges(source).into_iter().filter(|(_, imported)| imported != importer && !allowed.contains(&imported.as_str()));
    wrong
        .map(|(at, imported)| {
            format!(
                "{}:{}: {importer} imports {imported}, but may import only {allowed:?}; move the code up or the type down",
                source.path,
                line_of(&source.code, at)
            )
        })
        .collect()
}

/// What a module may import; `None` for one that is in no layer.
fn imports_of(importer: &str) -> Option<Vec<&'static str>> {
    if importer == DEVBROKER {
        return Some(DEVBROKER_IMPORTS.to_vec());
    }
    let layer = LAYERS.iter().position(|layer| layer.contains(&importer))?;
    let mut allowed: Vec<&str> = LAYERS[..layer].concat();
    if layer == LAYERS.len() - 1 {
        allowed.push(DEVBROKER);
    }
    Some(allowed)
}

fn escaped_crates(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, modules, why) in CONFINED {
        if modules.contains(&source.module.as_str()) {
            continue;
        }
        for at in words(&source.code, name) {
            let line = line_of(&source.code, at);
            complaints.push(format!("{}:{line}: {name} belongs to {modules:?} alone: {why}", source.path));
        }
    }
    complaints
}

fn missing_docs(source: &Source) -> Vec<String> {
    match source.text.lines().next() {
        Some(first) if first.starts_with("//! ") => vec![],
        _ => vec![format!("{}:1: no module docs; begin with `//!`: what it owns, what goes in and out", source.path)],
    }
}

fn too_long(source: &Source) -> Vec<String> {
    match source.lines_before_tests() {
        lines if lines > LINES_MAX => {
            vec![format!("{}: {lines} lines before its tests, over {LINES_MAX}; split it by idea", source.path)]
        }
        _ => vec![],
    }
}

fn unwraps_and_unbounded(source: &Source) -> Vec<String> {
    let say = |what: &str, remedy: &str| -> Vec<String> {
        let found = source.code.match_indices(what);
        found.map(|(at, _)| format!("{}:{}: {what}; {remedy}", source.path, line_of(&source.code, at))).collect()
    };
    let unwraps = say(".unwrap()", "return the error, or expect(\"why it cannot fail\")");
    let unbounded = say("unbounded", "give it a bound, and the bound a policy");
    [unwraps, unbounded].concat()
}

fn sleeping_tests(source: &Source) -> Vec<String> {
    // With a paused clock a sleep takes no time and means what it says.
    if source.path.starts_with(PAUSED) || source.text.contains("start_paused") || source.text.contains("time::pause()")
    {
        return vec![];
    }
    let found = source.test_code.match_indices("sleep(").chain(source.test_code.match_indices("sleep_until("));
    found
        .map(|(at, _)| {
            let line = line_of(&source.test_code, at);
            format!("{}:{line}: a test sleeps; wait for the event itself, or pause tokio's clock", source.path)
        })
        .collect()
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    // The names of the rule itself.
    if path == "tests/tidy/main.rs" {
        return vec![];
    }
    let part_of_a_longer_path = |before: char| before.is_alphanumeric() || "._-/}*)$".contains(before);
    let part_of_a_longer_name = |after: char| after.is_alphanumeric() || "._-".contains(after);
    let mut complaints = Vec::new();
    for name in MACHINE_PATHS {
        for (at, _) in text.match_indices(name) {
            let before = text[..at].chars().next_back();
            let after = text[at + name.len()..].chars().next();
            if before.is_some_and(part_of_a_longer_path) || after.is_some_and(part_of_a_longer_name) {
                continue;
            }
            complaints.push(format!(
                "{path}:{}: {name} is a directory of one machine; take it from outside",
                line_of(text, at)
            ));
        }
    }
    complaints
}

/// The Rust files below a directory of the crate.
fn sources(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths: Vec<PathBuf> =
        files(&root.join(directory)).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
    assert!(!paths.is_empty(), "no Rust files in {directory}");
    let texts = paths.iter().map(|path| {
        let text = fs::read_to_string(path).expect("a source file is UTF-8");
        (relative(path), text)
    });
    Source::all(texts.collect())
}

/// Directories of what is built, what git keeps and what a fuzzer finds.
const NOT_OURS: &[&str] = &["target", ".git", "corpus", "artifacts"];

/// All files below a directory, but for [`NOT_OURS`].
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the crate can be read").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if NOT_OURS.iter().any(|other| name == *other) {
                continue;
            }
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    path.strip_prefix(root).expect("it lies in the crate").to_string_lossy().into_owned()
}

/// A made-up file.
fn made_up(path: &str, text: &str) -> Source {
    Source::all(vec![(path.to_owned(), text.to_owned())]).remove(0)
}

#[test]
fn an_import_from_a_layer_above_is_found_in_whatever_form() {
    for import in [
        "use crate::broker::Task;",
        "use crate::{record::Run, broker};",
        "use crate::{\n    broker::{self, Task},\n    record::Run,\n};",
        "fn f() -> crate::broker::Task { todo() }",
        "pub(in crate::broker) struct S;",
        "use super::broker::Task;",
    ] {
        let complaints = wrong_imports(&made_up("src/queue/mod.rs", &format!("//! Q.\n{import}")));
        assert_eq!(complaints.len(), 1, "{import}: {complaints:?}");
        assert!(complaints[0].contains("queue imports broker"), "{complaints:?}");
    }
    let deeper = made_up("src/queue/partition.rs", "use super::super::broker::Task;\nuse super::budget::Budget;");
    assert_eq!(wrong_imports(&deeper).len(), 1);
}

#[test]
fn siblings_and_strangers_are_found_and_what_is_allowed_is_not() {
    let complaints = |path: &str, text: &str| wrong_imports(&made_up(path, text)).len();
    assert_eq!(complaints("src/broker/mod.rs", "use crate::route::Router;"), 1);
    assert_eq!(complaints("src/devbroker/mod.rs", "use crate::queue::Queue;"), 1);
    assert_eq!(complaints("src/ingest/mod.rs", "use crate::devbroker::DevBroker;"), 1);
    assert_eq!(complaints("src/queue/mod.rs", "use crate::*;"), 1);
    assert_eq!(complaints("src/attic.rs", ""), 1);
    assert_eq!(complaints("src/broker/mod.rs", "use crate::{broker::task, wire, queue::{self, Budget}};"), 0);
    assert_eq!(complaints("src/cli/mod.rs", "use crate::devbroker::DevBroker;"), 0);
    assert_eq!(complaints("src/devbroker/mod.rs", "use crate::wire::frame; use crate::record::Run;"), 0);
    assert_eq!(complaints("src/lib.rs", "pub use crate::broker::Task;"), 0);
}

#[test]
fn comments_strings_and_test_modules_are_no_imports() {
    let text = "//! See [`crate::broker`].\nconst S: &str = \"crate::broker\"; // crate::broker\nconst R: &str = r#\"\"crate::broker\"#;\n\
                /* crate::broker /* nested */ crate::broker */\nfn f<'a>(c: char) -> bool { c == '\"' && c != '\\'' }\n\
                #[cfg(test)]\nmod tests {\n    use crate::broker::Task;\n}\n";
    assert_eq!(wrong_imports(&made_up("src/queue/mod.rs", text)), Vec::<String>::new());
    let declares = ("src/queue/mod.rs".to_owned(), "#[cfg(test)]\nmod model;\nmod budget;".to_owned());
    let model = ("src/queue/model.rs".to_owned(), "use crate::broker::Task;".to_owned());
    let budget = ("src/queue/budget.rs".to_owned(), String::new());
    let is_test: Vec<bool> = Source::all(vec![declares, model, budget]).iter().map(|source| source.is_test).collect();
    assert_eq!(is_test, [false, true, false]);
}

#[test]
fn each_other_rule_can_fail() {
    let queue = |text: &str| made_up("src/queue/mod.rs", text);
    assert_eq!(escaped_crates(&queue("use kafka_protocol::messages;")).len(), 1);
    assert_eq!(escaped_crates(&queue("use my_kafka_protocol::messages;")).len(), 0);
    assert_eq!(escaped_crates(&made_up("src/wire/mod.rs", "use kafka_protocol::messages;")).len(), 0);
    assert_eq!(missing_docs(&queue("use std::fs;")).len(), 1);
    assert_eq!(too_long(&queue(&"\n".repeat(LINES_MAX + 1))).len(), 1);
    assert_eq!(too_long(&queue(&format!("\n#[cfg(test)]\nmod tests {{{}}}", "\n".repeat(LINES_MAX)))).len(), 0);
    assert_eq!(unwraps_and_unbounded(&queue("fn f() { g().unwrap(); unbounded_channel(); }")).len(), 2);
    assert_eq!(unwraps_and_unbounded(&queue("#[cfg(test)]\nmod tests { fn f() { g().unwrap(); } }")).len(), 0);
    assert_eq!(sleeping_tests(&queue("fn f() { sleep(LINGER); }")).len(), 0);
    assert_eq!(sleeping_tests(&queue("#[cfg(test)]\nmod tests { fn f() { sleep(LINGER); } }")).len(), 1);
    assert_eq!(sleeping_tests(&made_up("tests/e2e/main.rs", "fn f() { thread::sleep(LINGER); }")).len(), 1);
    for text in ["cd /work/x", "\"/root\"", "(/tmp/a)", "/home/me"] {
        assert_eq!(machine_paths("README.md", text).len(), 1, "{text}");
    }
    for text in ["target/tmp/kafka-1", "/tmpfs", "$HOME/work/x", "src/work"] {
        assert_eq!(machine_paths("README.md", text).len(), 0, "{text}");
    }
}
