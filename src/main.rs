//! The binary: everything it does is in the library's [`forebay::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(forebay::cli::main(std::env::args_os()))
}
