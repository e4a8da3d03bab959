//! All cases on the Linux board.

use std::process::ExitCode;

use conformance::linux::{self, Linux};

/// They wait most of the time.
const AT_ONCE: usize = 24;

fn main() -> ExitCode {
    match linux::be_a_device() {
        None => conformance::run(vec![("linux", Box::new(Linux))], AT_ONCE),
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
