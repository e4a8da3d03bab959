//! What can go wrong while images are built, in words for the operator.

use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

/// Why a build failed.
#[derive(Debug, Error, Diagnostic)]
pub enum BuildError {
    /// The monitor cannot be told where to ship to.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sink(#[from] crate::secrets::SinkError),
    /// A secret of the site's could not be read or made.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pki(#[from] crate::pki::PkiError),
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
    /// Something that the site file names is not what it should be.
    #[error("{key}: {}: {problem}", path.display())]
    Operator {
        /// The key of the site file, with its table.
        key: &'static str,
        /// What it names.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// How to mend it.
        #[help]
        help: String,
    },
    /// A server's files cannot be its identity.
    #[error("the identity of {server} {problem}")]
    Identity {
        /// The server.
        server: String,
        /// What is wrong with them.
        problem: identity::Problem,
    },
    /// More files than a disk has room for.
    #[error("the identity of {server} takes {need} KiB, and there is room for {have}")]
    #[diagnostic(help(
        "what all servers of a role have in common belongs into image/roles/ROLE/files"
    ))]
    LargeIdentity {
        /// The server.
        server: String,
        /// Its size in KiB.
        need: usize,
        /// The room in KiB.
        have: usize,
    },
    /// Something must be signed, and the key is elsewhere.
    #[error("{} is not there to sign the identity of {server}, which has changed", path.display())]
    #[diagnostic(help(
        "put the site's release key back for this build; what has not changed needs no key"
    ))]
    NoReleaseKey {
        /// Where it should be.
        path: PathBuf,
        /// Whose identity has changed.
        server: String,
    },
    /// An image must be signed, and the key is elsewhere.
    #[error("{} is not there to sign the image of role {role}, which has changed", path.display())]
    #[diagnostic(help(
        "put the site's key for Secure Boot back for this build; what has not changed needs no key"
    ))]
    NoBootKey {
        /// Where it should be.
        path: PathBuf,
        /// Whose image has changed.
        role: &'static str,
    },
    /// A part of an image is larger than its partition.
    #[error(
        "role {role}: {need} MiB do not fit into the partition {partition} of {have} MiB; nothing was written"
    )]
    #[diagnostic(help(
        "`root_mib` and `var_mib` in image/roles/{role}/role.toml choose the sizes; servers that run already keep the partitions that they have"
    ))]
    Budget {
        /// The role.
        role: &'static str,
        /// The partition.
        partition: &'static str,
        /// What is needed, in MiB.
        need: u64,
        /// What there is, in MiB.
        have: u64,
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
    /// This machine does not say where Debian packages come from.
    #[error("this machine's apt has no Debian mirror")]
    #[diagnostic(help(
        "name one, as in apt's sources.list: --mirror 'deb URI {release} main'; or build from a bundle: --bundle FILE"
    ))]
    NoMirror {
        /// The release that is needed.
        release: String,
    },
    /// `--mirror` names something else.
    #[error("`{line}` is no line of a sources.list")]
    #[diagnostic(help("write it like --mirror 'deb URI SUITE main'"))]
    MirrorLine {
        /// What was named.
        line: String,
    },
    /// A mirror does not answer, or answers something else.
    #[error("cannot fetch {uri}: {reason}")]
    #[diagnostic(help(
        "is the network there? `apt-get update` shows whether this machine reaches its mirror; another is named with --mirror, \
         and without a network images are built from a bundle: --bundle FILE"
    ))]
    Mirror {
        /// What was asked for.
        uri: String,
        /// What came.
        reason: String,
    },
    /// A file under `image/` asks for a package that there is not.
    #[error("{place}: there is no package `{name}`")]
    NoPackage {
        /// File and line.
        place: String,
        /// The package.
        name: String,
        /// What may have been meant.
        #[help]
        help: String,
    },
    /// Packages of a file under `image/` cannot be installed together.
    #[error("the packages of {} cannot be installed{}", place.display(), indent(message))]
    #[diagnostic(help(
        "if the lock keeps old versions that new packages do not go with, `ravelin lock --update` chooses all anew"
    ))]
    Conflict {
        /// The file.
        place: PathBuf,
        /// What apt says.
        message: String,
    },
    /// The package lock says something we do not understand.
    #[error("{}: {message}", path.display())]
    #[diagnostic(help(
        "take it back from your version control; or delete it, and the next build chooses versions anew"
    ))]
    Lock {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        message: String,
    },
    /// `--locked`, and the lock does not have what is asked for.
    #[error("{} does not have the packages that {} asks for", path.display(), place.display())]
    #[diagnostic(help("build without --locked, or run `ravelin lock`, and keep the changed lock"))]
    NotLocked {
        /// The lock.
        path: PathBuf,
        /// The file.
        place: PathBuf,
    },
    /// A locked package is nowhere.
    #[error("{package} is locked, and neither the cache nor the mirror has it any more")]
    #[diagnostic(help(
        "tried {tried}. Mirrors delete old versions: `ravelin lock --update` chooses those of today; --mirror 'deb URI SUITE main' names a \
         mirror that keeps old ones; --bundle FILE takes them from a bundle"
    ))]
    Vanished {
        /// Name and version.
        package: String,
        /// Where it was looked for.
        tried: String,
    },
    /// A package is not the one that was locked.
    #[error(
        "{package} is not the package that was locked: its SHA-256 is {found}, the lock has {wanted}"
    )]
    #[diagnostic(help(
        "either the lock was edited (take it back from your version control), or the mirror gives out something else (do not trust it: use \
         another with --mirror); `ravelin lock --update` would lock what it has today"
    ))]
    WrongHash {
        /// Name and version.
        package: String,
        /// What the lock has.
        wanted: String,
        /// What the file has.
        found: String,
    },
    /// The offline bundle lacks something.
    #[error("{} does not have {what}", bundle.display())]
    #[diagnostic(help(
        "a bundle is made for one site and its lock: make it again with `ravelin bundle`, where there is a network"
    ))]
    NotInBundle {
        /// The bundle.
        bundle: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The offline bundle is not what `ravelin bundle` made.
    #[error("{}: {message}", bundle.display())]
    #[diagnostic(help("copy it again, or make it again with `ravelin bundle`"))]
    Bundle {
        /// The bundle.
        bundle: PathBuf,
        /// What is wrong with it.
        message: String,
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
    /// What helper programs say of a full disk.
    pub fn disk_full(action: &'static str, path: &Path) -> Self {
        Self::io(action, path, io::ErrorKind::StorageFull.into())
    }

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
