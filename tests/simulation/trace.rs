//! What happened in a schedule, line by line with its time. Kept only where somebody will read it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Kept>);

#[derive(Clone, Debug)]
enum Kept {
    Text(Arc<Mutex<String>>),
    /// Printed as it happens: so it also shows what never ends.
    Printed,
}

impl Trace {
    /// One that keeps what is noted.
    pub fn kept() -> Self {
        Trace(Some(Kept::Text(Arc::default())))
    }

    /// One that prints it.
    pub fn printed() -> Self {
        Trace(Some(Kept::Printed))
    }

    /// Notes something of the simulated world.
    pub fn note(&self, line: impl FnOnce() -> String) {
        if self.is_kept() {
            self.add(&format!("{:12.6} {}\n", clock::elapsed().as_secs_f64(), line()));
        }
    }

    fn add(&self, lines: &str) {
        match &self.0 {
            Some(Kept::Text(text)) => text.lock().push_str(lines),
            Some(Kept::Printed) => eprint!("{lines}"),
            None => {}
        }
    }

    /// What is kept so far.
    pub fn text(&self) -> String {
        match &self.0 {
            Some(Kept::Text(text)) => text.lock().clone(),
            _ => String::new(),
        }
    }

    /// Whether it keeps anything.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }
}

/// forebay's own log goes into the same trace.
impl io::Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(&String::from_utf8_lossy(bytes));
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
