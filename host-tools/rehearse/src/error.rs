//! Why a rehearsal cannot start or go on.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::ClientError;

/// What went wrong, with what to do about it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RehearseError {
    /// The local port belongs to somebody else.
    #[error("port {port} of this machine is in use")]
    #[diagnostic(help(
        "choose another with `--port NUMBER`, or see who has it: `ss -ltnp 'sport = :{port}'`"
    ))]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// The local port cannot be opened for another reason.
    #[error("cannot listen on {local}: {reason}")]
    #[diagnostic(help(
        "ports below 1024 need root: choose another with `--port NUMBER`; for a site of both versions of IP the loopback interface needs `::1` too"
    ))]
    Listen {
        /// The loopback address and port.
        local: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// A program that is not installed.
    #[error("`{program}` is not installed")]
    #[diagnostic(help(
        "install it: `apt-get install {package}`; `ravelin doctor` shows everything that is missing"
    ))]
    MissingProgram {
        /// Its name.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A file that a build should have made, or a package brings.
    #[error("{what} is missing: {}", path.display())]
    #[diagnostic(help("{help}"))]
    MissingFile {
        /// What it is.
        what: String,
        /// Where it should be.
        path: PathBuf,
        /// What brings it.
        help: String,
    },
    /// Light servers are processes in namespaces of their own.
    #[error("`--servers light` needs root")]
    #[diagnostic(help(
        "run it with sudo, or leave the option out: emulated servers need no privileges"
    ))]
    NeedsRoot,
    /// `--only` names nothing that exists.
    #[error("there is no server `{name}` in the site")]
    #[diagnostic(help("its servers are {known}"))]
    UnknownServer {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The site cannot be rehearsed as it is.
    #[error("{0}")]
    Unsuitable(String),
    /// The CA certificate or the domain is unusable.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A machine ended although nobody asked it to.
    #[error("{machine} {how}\n{tail}")]
    #[diagnostic(help("its whole console is in {}", console.display()))]
    Died {
        /// Its name.
        machine: String,
        /// Its exit status in words.
        how: String,
        /// The end of its console.
        tail: String,
        /// The console's file.
        console: PathBuf,
    },
    /// The site never answered.
    #[error("the site did not answer and nothing moved for {} s; the last attempt: {last}", waited.as_secs())]
    #[diagnostic(help("look at the consoles and recordings in {}", directory.display()))]
    NotReady {
        /// How long nothing moved.
        waited: Duration,
        /// What the last request met.
        last: String,
        /// Where consoles and recordings are.
        directory: PathBuf,
    },
    /// The operator asked to end it.
    #[error("interrupted")]
    Interrupted,
    /// The operating system refused something.
    #[error("{doing}: {cause}")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        cause: io::Error,
    },
}

impl RehearseError {
    /// For `map_err`: the operating system refused what `doing` says.
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::System { doing, cause }
    }
}

/// Fails unless `program` is in the search path.
pub(crate) fn require_program(program: &str, package: &'static str) -> Result<(), RehearseError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if found {
        Ok(())
    } else {
        Err(RehearseError::MissingProgram {
            program: program.into(),
            package,
        })
    }
}

/// Fails unless `path` exists.
pub(crate) fn require_file(what: &str, path: &Path, help: &str) -> Result<(), RehearseError> {
    if path.exists() {
        Ok(())
    } else {
        Err(RehearseError::MissingFile {
            what: what.into(),
            path: path.into(),
            help: help.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic;

    use super::*;

    /// What an operator reads is part of the interface.
    #[test]
    fn errors_say_what_is_wrong_and_how_to_mend_it() {
        let table = [
            (
                require_program("no-such-program", "no-such-package")
                    .expect_err("it does not exist"),
                "`no-such-program` is not installed",
                Some(
                    "install it: `apt-get install no-such-package`; `ravelin doctor` shows everything that is missing",
                ),
            ),
            (
                require_file(
                    "the image of lb1",
                    Path::new("/no/disk.raw"),
                    "build it: `ravelin build`",
                )
                .expect_err("it does not exist"),
                "the image of lb1 is missing: /no/disk.raw",
                Some("build it: `ravelin build`"),
            ),
            (
                RehearseError::PortInUse { port: 8443 },
                "port 8443 of this machine is in use",
                Some(
                    "choose another with `--port NUMBER`, or see who has it: `ss -ltnp 'sport = :8443'`",
                ),
            ),
            (
                RehearseError::UnknownServer {
                    name: "lb9".into(),
                    known: "lb1, lb2".into(),
                },
                "there is no server `lb9` in the site",
                Some("its servers are lb1, lb2"),
            ),
            (
                RehearseError::Died {
                    machine: "db1".into(),
                    how: "was ended by signal 9".into(),
                    tail: "out of memory".into(),
                    console: "/r/1/console-db1.log".into(),
                },
                "db1 was ended by signal 9\nout of memory",
                Some("its whole console is in /r/1/console-db1.log"),
            ),
            (RehearseError::Interrupted, "interrupted", None),
        ];
        for (error, text, help) in table {
            assert_eq!(error.to_string(), text);
            assert_eq!(
                error.help().map(|help| help.to_string()).as_deref(),
                help,
                "{text}"
            );
        }
    }

    #[test]
    fn what_exists_is_not_missing() {
        require_program("sh", "dash").expect("there is a shell");
        require_file("the root", Path::new("/"), "").expect("there is a root");
    }
}
