//! The input: which sources there are, and the thread that reads them.
//!
//! Sources come in, chunks go out through a bounded channel. A source is opened when its turn comes, so that thousands of
//! files need no more than one descriptor; what can be known about all of them is checked before anything is sent.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

use nix::unistd::{AccessFlags, access};
use tokio::sync::mpsc;

/// Bytes that are read at once.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait between the reader and the exchange.
pub(super) const CHUNKS_MAX: usize = 4;

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Stdin,
    File(PathBuf),
}

/// Where the input is copied to.
pub(super) type Copy = Box<dyn Write + Send>;

/// What the reader gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Bytes(Vec<u8>),
    /// What comes next is of another source.
    EndOfSource,
}

/// Why the input cannot be read, or not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("cannot open {}: {}", .0.display(), .1)]
    Open(PathBuf, io::Error),
    #[error("cannot read {0}: {1}")]
    Read(String, io::Error),
    #[error("cannot copy the input to standard output: {0}")]
    Copy(io::Error),
}

impl Source {
    /// The sources that the arguments name; standard input if they name none.
    pub(super) fn of(files: &[PathBuf]) -> Vec<Source> {
        let source = |path: &PathBuf| match path.as_os_str() == "-" {
            true => Source::Stdin,
            false => Source::File(path.clone()),
        };
        if files.is_empty() { vec![Source::Stdin] } else { files.iter().map(source).collect() }
    }

    /// Whether it looks as if it could be read. Nothing is opened: to open a named pipe would be noticed at its other end.
    pub(super) fn check(&self) -> Result<(), InputError> {
        let Source::File(path) = self else { return Ok(()) };
        let fail = |error| Err(InputError::Open(path.clone(), error));
        match access(path, AccessFlags::R_OK) {
            Err(errno) => fail(errno.into()),
            Ok(()) if path.is_dir() => fail(ErrorKind::IsADirectory.into()),
            Ok(()) => Ok(()),
        }
    }

    fn open(&self) -> Result<Box<dyn Read>, InputError> {
        match self {
            Source::Stdin => Ok(Box::new(io::stdin())),
            Source::File(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) => Err(InputError::Open(path.clone(), error)),
            },
        }
    }

    fn name(&self) -> String {
        match self {
            Source::Stdin => "standard input".to_owned(),
            Source::File(path) => path.display().to_string(),
        }
    }
}

/// Reads all sources until their end, an error, or nobody wants more. What is read is also written to `copy`, if there is one.
pub(super) fn read_all(sources: &[Source], mut copy: Option<Copy>, chunks: &mpsc::Sender<Result<Chunk, InputError>>) {
    for source in sources {
        let read = source.open().and_then(|input| read_one(input, source, &mut copy, chunks));
        let goes_on = match read {
            Ok(goes_on) => goes_on && chunks.blocking_send(Ok(Chunk::EndOfSource)).is_ok(),
            Err(error) => {
                // If nobody listens any more, somebody has reported another failure.
                let _ = chunks.blocking_send(Err(error));
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Reads one source to its end. False if nobody wants more.
fn read_one(
    mut input: impl Read,
    source: &Source,
    copy: &mut Option<Copy>,
    chunks: &mpsc::Sender<Result<Chunk, InputError>>,
) -> Result<bool, InputError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let bytes: Vec<u8> = match input.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(read) => buffer.iter().take(read).copied().collect(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(InputError::Read(source.name(), error)),
        };
        if let Some(out) = copy {
            match out.write_all(&bytes).and_then(|()| out.flush()) {
                // Whoever read the copy has enough of it; the records go on.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => *copy = None,
                written => written.map_err(InputError::Copy)?,
            }
        }
        if chunks.blocking_send(Ok(Chunk::Bytes(bytes))).is_err() {
            return Ok(false);
        }
    }
}

/// Whether somebody types the input.
pub(super) fn is_typed(sources: &[Source]) -> bool {
    sources.contains(&Source::Stdin) && io::IsTerminal::is_terminal(&io::stdin())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Writes to a buffer that the test keeps.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn read(sources: Vec<Source>, copy: Option<Copy>) -> Vec<Result<Chunk, String>> {
        let (sender, mut chunks) = mpsc::channel(CHUNKS_MAX);
        let reader = std::thread::spawn(move || read_all(&sources, copy, &sender));
        let read = std::iter::from_fn(|| chunks.blocking_recv()).map(|c| c.map_err(|e| e.to_string())).collect();
        reader.join().unwrap();
        read
    }

    #[test]
    fn sources_are_read_in_chunks_one_after_the_other_and_copied() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            Source::File(path)
        };
        let long = vec![7; CHUNK_BYTES + 1];
        let sources = vec![file("a", &long), file("empty", b""), file("b", b"end")];
        assert!(sources.iter().all(|source| source.check().is_ok()));
        let kept = Kept::default();
        let chunks = read(sources.clone(), Some(Box::new(kept.clone())));
        let ends = chunks.iter().filter(|chunk| **chunk == Ok(Chunk::EndOfSource)).count();
        let bytes = |chunk: &Result<Chunk, String>| match chunk {
            Ok(Chunk::Bytes(bytes)) => bytes.clone(),
            _ => vec![],
        };
        let all: Vec<u8> = chunks.iter().flat_map(bytes).collect();
        assert_eq!((ends, &all), (3, &[&long[..], b"end"].concat()));
        assert_eq!(*kept.0.lock().unwrap(), all);
        // A copy that nobody reads any more does not stop the records.
        assert_eq!(read(sources, Some(Box::new(Gone))), chunks);
    }

    #[test]
    fn a_file_that_is_not_there_and_a_directory_are_told_before_and_at_their_turn() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let source = Source::File(missing.clone());
        let expected = format!("cannot open {}: No such file or directory (os error 2)", missing.display());
        assert_eq!(source.check().unwrap_err().to_string(), expected);
        assert_eq!(read(vec![source], None), [Err(expected)]);
        let error = Source::File(directory.path().to_owned()).check().unwrap_err();
        assert!(error.to_string().ends_with("is a directory"), "{error}");
    }

    #[test]
    fn no_file_and_a_hyphen_are_standard_input() {
        assert_eq!(Source::of(&[]), [Source::Stdin]);
        assert_eq!(Source::of(&["-".into(), "a".into()]), [Source::Stdin, Source::File("a".into())]);
    }
}
