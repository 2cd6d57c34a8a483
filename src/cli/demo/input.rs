//! What the demo sends: lines of a real text, each with its client and number before it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::failure;
use crate::cli::exit::Failure;

/// Sent when there are no sources to send.
const DOCUMENTATION: [&str; 3] = [
    include_str!("../../../README.md"),
    include_str!("../../../ARCHITECTURE.md"),
    include_str!("../../../docs/protocol.md"),
];

/// The text.
pub(super) struct Lines {
    /// Where it is from, in words.
    pub source: String,
    /// Its lines.
    pub lines: Vec<Vec<u8>>,
}

impl Lines {
    /// The line that record `number` of `client` carries: every client begins somewhere else in the text.
    pub(super) fn line(&self, client: u16, number: u32) -> &[u8] {
        let at = (usize::from(client) * 97 + number as usize) % self.lines.len();
        &self.lines[at]
    }
}

/// What one client sends.
pub(super) struct Share {
    /// Its file.
    pub file: PathBuf,
    /// All its records have this key, or none.
    pub key: Option<String>,
}

/// The lines of `file`; without one those of the sources in this directory; without those, of the documentation.
pub(super) fn lines(file: Option<&Path>) -> Result<Lines, Failure> {
    let (source, text) = match file {
        Some(file) => {
            let text = fs::read(file).map_err(|error| failure(&format!("cannot read {}", file.display()), &error))?;
            (file.display().to_string(), text)
        }
        None => match sources(Path::new("src")) {
            Ok(text) if !text.is_empty() => ("the sources in src/".to_owned(), text),
            _ => ("forebay's documentation".to_owned(), DOCUMENTATION.concat().into_bytes()),
        },
    };
    let lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    Ok(Lines { source, lines })
}

fn sources(directory: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            text.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.extend(fs::read(path)?);
        }
    }
    Ok(text)
}

/// A file for each client. Every other client has a key, so that its records share a partition.
pub(super) fn write_shares(lines: &Lines, clients: u16, records: u32, directory: &Path) -> Result<Vec<Share>, Failure> {
    let write = |client: u16| -> io::Result<Share> {
        let file = directory.join(format!("client-{client}.txt"));
        let mut out = BufWriter::new(File::create(&file)?);
        for number in 0..share_of(client, clients, records) {
            write!(out, "{client} {number} ")?;
            out.write_all(lines.line(client, number))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(Share { file, key: (client % 2 == 1).then(|| format!("client-{client}")) })
    };
    (0..clients)
        .map(|client| write(client).map_err(|error| failure("cannot write the clients' files", &error)))
        .collect()
}

/// How many records `client` sends.
pub(super) fn share_of(client: u16, clients: u16, records: u32) -> u32 {
    records / u32::from(clients) + u32::from(u32::from(client) < records % u32::from(clients))
}
