//! What can go wrong while images are built, in words for the operator.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

/// Why a build failed.
#[derive(Debug, Error, Diagnostic)]
pub enum BuildError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried, as in "cannot ...".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        cause: io::Error,
        /// How to mend it, if it is one of the usual causes.
        #[help]
        help: Option<String>,
    },
    /// A file under `image/` says something we do not understand.
    #[error("{}: {message}", path.display())]
    #[diagnostic(help("the fields are described in image/README.md"))]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        message: String,
    },
    /// A helper program is not installed.
    #[error("cannot run {program}: {cause}")]
    #[diagnostic(help(
        "`ravelin doctor` lists the packages that are missing and how to install them"
    ))]
    Missing {
        /// The program.
        program: String,
        /// What the system answered.
        #[source]
        cause: io::Error,
    },
    /// A helper program failed.
    #[error("{step}: {program} {how}{}", indent(tail))]
    Helper {
        /// The step of the build that needed it.
        step: String,
        /// The program.
        program: String,
        /// `exited with status 1`, or `was killed by signal 9`.
        how: String,
        /// Its last lines.
        tail: String,
        /// Where all its output is, and what to do.
        #[help]
        help: String,
    },
    /// A server's host file would not be where the boot puts it.
    #[error("host file {path} of {server}: {problem}")]
    HostFile {
        /// The server.
        server: String,
        /// The file's path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `--only` names a server that the site does not have.
    #[error("no server is called `{name}`")]
    #[diagnostic(help("the site has {known}"))]
    UnknownServer {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The files of a server could not be rendered.
    #[error("files of {server}: {cause}")]
    Render {
        /// The server.
        server: String,
        /// Why.
        #[source]
        cause: render::RenderError,
    },
    /// Something a package or tool should have left is not there.
    #[error("{step}: {message}")]
    Unexpected {
        /// The step of the build.
        step: String,
        /// What is not as it should be.
        message: String,
    },
}

impl BuildError {
    /// An [`BuildError::Io`], with help for a full disk and missing permissions.
    pub fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        let help = match cause.kind() {
            io::ErrorKind::StorageFull => Some(FULL_DISK.to_owned()),
            io::ErrorKind::PermissionDenied => {
                Some(format!("this needs write access to {}", path.display()))
            }
            _ => None,
        };
        Self::Io {
            action,
            path: path.to_owned(),
            cause,
            help,
        }
    }
}

/// Help for a full disk.
pub(crate) const FULL_DISK: &str = "the disk is full: images need about 5 GB for the cache and 1 GB per site; \
     XDG_CACHE_HOME chooses another disk for the cache";

fn indent(tail: &str) -> String {
    tail.lines().map(|line| format!("\n    {line}")).collect()
}
