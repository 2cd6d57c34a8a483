//! The binary: everything it does is in the library's [`forebay::cli`].

use std::process::ExitCode;

/// Bursts of one thread are freed by another and are of any size, for which the system's allocator keeps half as much again, and
/// keeps it for good. This one gives back within a second what a burst has needed, by a thread that sleeps while there is nothing.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ExitCode::from(forebay::cli::main(std::env::args_os()))
}
