//! The log: a storage engine for records that must not be lost. It knows partitions by number and bytes, and nothing of Kafka.
//!
//! Records come in as runs and notes of what became of them; they are read back in order, partition by partition, until they are
//! settled; then their place is freed. `docs/backlog-format.md` has the bytes.
//!
//! ```text
//!  append ─► entry ─► frame ─► block (memory) ─► segment file ─► sync ─► settled notes free the oldest segments
//!               └────► state (what a checkpoint says)                └─► recycled as the next one
//!  locate ─► where a partition's next runs are ─► read (on any thread)
//! ```
//!
//! Pure, bytes in and values out: `varint`, `frame`, `entry`, `checkpoint`, `footer`, `header`, and `state`, which is all that notes mean.
//! Files: `storage` is the seam, with the real file system and a simulated one; `scan` finds the frames of a segment, `recovery` makes a
//! directory into a state without changing it. `Log` is the engine: one state machine behind `&mut self`, in `open`, `append`, `roll`, `spare`, `sync`,
//! `free`, `clean` and `read`; it starts no thread, has no clock, and does nothing between calls. `thread` is the shell: one thread appends,
//! another syncs. `probe` proves that the directory can be used.
//!
//! # What always holds
//!
//! - A frame is there wholly or not at all. What was answered as synced survives the process and the power.
//! - A segment has its name only when its header and its checkpoint are on disk; it is wholly on disk before the next has its name; it is
//!   never appended to after it was reopened.
//! - The newest checkpoint and the frames behind it say everything but the records themselves. So opening reads one segment.
//! - A sync that failed is never tried again on the same file: what it did not cover is written anew, into a new segment that gets
//!   its name when all of it is on disk.
//! - Segments with records are freed oldest first, when all of their records are settled by notes that are on disk, or copied; behind one that the
//!   disk cannot read they are left out by the next checkpoint.
//! - Two segments are kept for notes and the cleaner: a full log still drains.
//! - Memory does not grow with the log: the index of the newest segment, of a few that are being read, what is not synced yet, and a state for each partition.
//!
//! What it does not do: decide when to sync (the shell does), choose what to drop when it is full, compress, or look into records.

pub mod varint;

pub mod checkpoint;
pub mod entry;
pub mod footer;
pub mod frame;
pub mod header;
pub mod state;

pub mod storage;

pub mod disk_error;
pub mod error;
pub mod options;
pub mod recovery;
pub mod scan;

mod active;
pub mod append;
mod beginning;
mod clean;
pub mod engine;
mod free;
mod index;
mod oldest;
mod quarantine;
pub mod read;
mod roll;
mod spare;
pub mod sync;

pub mod thread;

pub mod inspect;
pub mod probe;
