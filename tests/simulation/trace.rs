//! What happened in a schedule, line by line with its time. Kept only where somebody will read it.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Arc<Mutex<String>>>);

impl Trace {
    /// One that keeps what is noted.
    pub fn kept() -> Self {
        Trace(Some(Arc::default()))
    }

    /// Notes something of the simulated world.
    pub fn note(&self, line: impl FnOnce() -> String) {
        let Some(lines) = &self.0 else { return };
        let (at, line) = (clock::elapsed().as_secs_f64(), line());
        writeln!(lines.lock(), "{at:12.6} {line}").expect("a string takes everything");
    }

    /// What is kept so far.
    pub fn text(&self) -> String {
        self.0.as_ref().map_or(String::new(), |lines| lines.lock().clone())
    }

    /// Whether it keeps anything.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }
}

/// forebay's own log goes into the same trace.
impl io::Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(lines) = &self.0 {
            lines.lock().push_str(&String::from_utf8_lossy(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Trace {
    type Writer = Trace;

    fn make_writer(&self) -> Trace {
        self.clone()
    }
}

/// The schedule's time, for forebay's log.
pub struct Elapsed;

impl FormatTime for Elapsed {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        write!(out, "{:12.6}", clock::elapsed().as_secs_f64())
    }
}
