//! How a command fails: a message on stderr and an exit code.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
};

use miette::{Diagnostic, MietteHandlerOpts, Report};

/// Why a command ended without doing what was asked.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    report: Report,
}

impl Failure {
    /// Wrong usage or wrong input: exit code 2.
    pub fn input(report: impl Diagnostic + Send + Sync + 'static) -> Self {
        Self {
            code: 2,
            report: Report::new(report),
        }
    }

    /// The answer is no: exit code 1.
    pub fn no(report: impl Diagnostic + Send + Sync + 'static) -> Self {
        Self {
            code: 1,
            report: Report::new(report),
        }
    }

    /// Trouble with this machine or a device: exit code 3.
    pub fn machine(report: impl Diagnostic + Send + Sync + 'static) -> Self {
        Self {
            code: 3,
            report: Report::new(report),
        }
    }

    /// Prints the message and gives the exit code.
    pub fn report(self) -> ExitCode {
        eprintln!("{:?}", self.report);
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.report.fmt(f)
    }
}

/// A message with advice, for failures that have no type of their own.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct Message {
    message: String,
    #[help]
    help: Option<String>,
}

impl Message {
    /// Says what is wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    /// Adds how to mend it.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// A file that cannot be read or written.
    pub fn file(action: &str, path: &Path, error: &io::Error) -> Self {
        let message = Self::new(format!(
            "cannot {action} {}: {}",
            path.display(),
            plain(error)
        ));
        match error.kind() {
            io::ErrorKind::StorageFull => {
                message.help("free some space on this disk and try again")
            }
            io::ErrorKind::PermissionDenied => {
                message.help("check the owner and the mode of the file")
            }
            _ => message,
        }
    }
}

/// The system's words without "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// Makes messages fit the terminal, and turns a panic into a message and exit code 3.
pub fn install_hooks() {
    // Fails only if a hook is there already, and then messages are merely plainer.
    let _ = miette::set_hook(Box::new(|_| {
        let options = MietteHandlerOpts::new()
            .force_graphical(true)
            .wrap_lines(true);
        let options = if io::stderr().is_terminal() {
            options
        } else {
            options.color(false).unicode(true).width(110)
        };
        Box::new(options.build())
    }));
    std::panic::set_hook(Box::new(|panic| {
        if is_broken_pipe(&panic.to_string()) {
            // Whoever read our output (`| head`) has seen enough.
            std::process::exit(0);
        }
        eprintln!("ravelin has come to a state it should never be in, and stops.\n");
        eprintln!("  {panic}\n");
        eprintln!(
            "This is a fault of the program, not of your site: please report it with the lines above."
        );
        std::process::exit(3);
    }));
}

fn is_broken_pipe(panic: &str) -> bool {
    panic.contains("failed printing to stdout") && panic.contains("Broken pipe")
}
