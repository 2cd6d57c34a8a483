//! `forebay man`: manual pages, made of the same words as `--help`.
//!
//! The help's sections (`Examples:` and the like, each with indented lines below it) become the page's sections; options,
//! environment and the other pages to see come from the arguments. So a page cannot say anything else than the help.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::exit::{self, Failure};
use super::output;

/// The sections that follow the options, in the order of man-pages(7).
const SECTIONS: [&str; 4] = ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"];

const EXAMPLES: &str = "\
Examples:
  forebay man | man -l -                   # the page of forebay
  forebay man produce | man -l -           # the page of a command
  forebay man -d /usr/local/share/man/man1 # all pages, to where man finds them";

/// Print manual pages, or write them all into a directory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    /// Write one page a command into this directory, which is made if it is not there, and print their paths.
    #[arg(short, long, value_name = "DIR", conflicts_with = "command")]
    directory: Option<PathBuf>,
    /// Whose page to print, as in "produce" or "config show". Without it, that of forebay.
    command: Vec<String>,
}

const EXIT_STATUS: &str = "\
Exit status:
    0  done
   64  there is no such command
   73  a page cannot be written";

/// A manual page in roff.
struct Page {
    /// As in `forebay-produce`.
    name: String,
    text: Vec<u8>,
}

/// Prints a page or writes all.
pub(super) fn run(arguments: &Arguments, command: Command) -> Result<(), Failure> {
    let pages = pages(command);
    if let Some(directory) = &arguments.directory {
        let written = write_all(&pages, directory)?;
        return output::print(written);
    }
    let name = [&["forebay".to_owned()][..], &arguments.command].concat().join("-");
    match pages.iter().find(|page| page.name == name) {
        Some(page) => output::print(&page.text),
        None => {
            let commands = arguments.command.join(" ");
            Err(Failure::new(exit::USAGE, format_args!("there is no command {commands:?}; see forebay --help")))
        }
    }
}

/// Writes the pages and returns their paths, one a line.
fn write_all(pages: &[Page], directory: &Path) -> Result<String, Failure> {
    let failure = |path: &Path, error: io::Error| {
        Failure::new(exit::CANNOT_CREATE, format_args!("cannot write {}: {error}", path.display()))
    };
    fs::create_dir_all(directory).map_err(|error| failure(directory, error))?;
    let mut written = String::new();
    for page in pages {
        let path = directory.join(format!("{}.1", page.name));
        fs::write(&path, &page.text).map_err(|error| failure(&path, error))?;
        written += &format!("{}\n", path.display());
    }
    Ok(written)
}

/// One page for the command and each command below it.
fn pages(command: Command) -> Vec<Page> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut commands = Vec::new();
    collect(&command, &mut commands);
    let names: Vec<String> = commands.iter().map(|command| page_name(command)).collect();
    commands.iter().map(|command| Page { name: page_name(command), text: page(command, &names) }).collect()
}

fn collect<'a>(command: &'a Command, all: &mut Vec<&'a Command>) {
    all.push(command);
    command.get_subcommands().for_each(|below| collect(below, all));
}

fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn page(command: &Command, names: &[String]) -> Vec<u8> {
    let name = page_name(command);
    let source = concat!("forebay ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name.to_uppercase()).source(source).manual("forebay manual");
    let mut text = Vec::new();
    render(&man, command, &mut text).expect("writing to a vector cannot fail");
    let mut roff = Roff::default();
    let help = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default();
    let help = sections(&help);
    let environment = environment(command);
    for section in SECTIONS {
        let from_help = help.iter().filter(|(heading, _)| heading == section).flat_map(|(_, lines)| lines.clone());
        let own = if section == "ENVIRONMENT" { environment.clone() } else { vec![] };
        let lines: Vec<String> = own.into_iter().chain(from_help).collect();
        if !lines.is_empty() {
            literal(&mut roff, section, &lines);
        }
    }
    see_also(&mut roff, &name, names);
    text.extend(roff.to_roff().into_bytes());
    text
}

fn render(man: &Man, command: &Command, text: &mut Vec<u8>) -> io::Result<()> {
    man.render_title(text)?;
    man.render_name_section(text)?;
    man.render_synopsis_section(text)?;
    man.render_description_section(text)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(text)?;
    }
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(text)?;
    }
    Ok(())
}

/// The parts of a help text: a heading is a line that begins at the margin and ends with a colon. It comes out in capitals, the
/// lines below it without their first two spaces.
fn sections(help: &str) -> Vec<(String, Vec<String>)> {
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in help.lines() {
        match line.strip_suffix(':') {
            Some(heading) if !line.starts_with(' ') => sections.push((heading.to_uppercase(), vec![])),
            _ => {
                if let Some((_, lines)) = sections.last_mut()
                    && !line.is_empty()
                {
                    lines.push(line.strip_prefix("  ").unwrap_or(line).to_owned());
                }
            }
        }
    }
    sections
}

/// A section whose lines stay as they are.
fn literal(roff: &mut Roff, heading: &str, lines: &[String]) {
    roff.control("SH", [heading]);
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// The variables of a command and of those below it, and what each stands for.
fn environment(command: &Command) -> Vec<String> {
    let mut commands = Vec::new();
    collect(command, &mut commands);
    let mut variables: Vec<(String, String)> = Vec::new();
    for argument in commands.iter().flat_map(|command| command.get_arguments()) {
        if let (Some(variable), Some(option)) = (argument.get_env(), argument.get_long()) {
            variables.push((variable.to_string_lossy().into_owned(), format!("the same as --{option}")));
        }
    }
    variables.sort();
    variables.dedup();
    let width = variables.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    variables.into_iter().map(|(name, meaning)| format!("{name:<width$}  {meaning}")).collect()
}

fn see_also(roff: &mut Roff, name: &str, names: &[String]) {
    roff.control("SH", ["SEE ALSO"]);
    let others: Vec<&str> = names.iter().map(String::as_str).filter(|other| *other != name).chain(["kcat"]).collect();
    let mut text = Vec::new();
    for (at, other) in others.iter().enumerate() {
        let comma = if at + 1 < others.len() { "(1), " } else { "(1)" };
        text.extend([bold(*other), roman(comma)]);
    }
    roff.text(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parser;

    fn command_of<'a>(root: &'a Command, page: &str) -> &'a Command {
        let mut all = Vec::new();
        collect(root, &mut all);
        all.into_iter().find(|command| page_name(command) == page).expect("a page is of a command")
    }

    #[test]
    fn headings_and_their_lines_are_told_apart() {
        let help = "Examples:\n  forebay run: no\n    more\n\nExit status:\n   0  done\n";
        let line = |text: &str| text.to_owned();
        assert_eq!(
            sections(help),
            [
                (line("EXAMPLES"), vec![line("forebay run: no"), line("  more")]),
                (line("EXIT STATUS"), vec![line(" 0  done")])
            ]
        );
    }

    #[test]
    fn every_page_names_every_option_and_has_the_sections_that_its_reader_looks_for() {
        let mut root = parser().disable_help_subcommand(true);
        root.build();
        let pages = pages(parser());
        assert!(pages.len() > 10);
        for page in pages {
            let text = String::from_utf8(page.text).expect("text");
            let has = |part: &str| assert!(text.contains(part), "{} has no {part:?}:\n{text}", page.name);
            for name in ["NAME", "SYNOPSIS", "DESCRIPTION", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
                has(&format!(".SH {name}"));
            }
            let command = command_of(&root, &page.name);
            if page.name != "forebay-version" {
                has(".SH EXAMPLES");
            }
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                has(&format!("\\-\\-{}", option.replace('-', "\\-")));
            }
            for below in command.get_subcommands() {
                has(&page_name(below).replace('-', "\\-"));
            }
        }
    }

    #[test]
    fn the_variables_of_all_commands_are_on_the_first_page() {
        let variables = environment(&parser());
        let has = |name: &str| variables.iter().any(|line| line.starts_with(name));
        assert!(
            ["FOREBAY_ADMIN", "FOREBAY_CONFIG", "FOREBAY_LOG", "FOREBAY_SOCKET"].into_iter().all(has),
            "{variables:?}"
        );
    }
}
