//! What a build tells about itself while it runs.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use site::plan::Role;

use crate::spec;

/// What a build is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another build uses the cache; we wait until it ends.
    Waiting,
    /// What will be built, with what was built already; said again when more is known.
    Planned {
        /// In the order in which steps may start.
        steps: Vec<Step>,
    },
    /// A step begins.
    Started(Step),
    /// A step has ended well.
    Finished(Step, Duration),
}

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Our own programs are compiled.
    Programs,
    /// Versions of packages are chosen from those that the mirror has.
    Lock,
    /// The Debian tree with the packaging tools.
    Tools,
    /// The Debian tree that all roles share.
    Base,
    /// Kernel and initrd.
    Boot,
    /// The root of a role.
    Root(Role),
    /// The image of a role.
    RoleImage(Role),
    /// The disk of a server.
    Image(String),
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Programs => f.write_str("programs"),
            Self::Lock => f.write_str("package lock"),
            Self::Tools => f.write_str("packaging tools"),
            Self::Base => f.write_str("base system"),
            Self::Boot => f.write_str("kernel and initrd"),
            Self::Root(role) => write!(f, "role {}", spec::role_name(*role)),
            Self::RoleImage(role) => write!(f, "image of role {}", spec::role_name(*role)),
            Self::Image(server) => write!(f, "image {server}"),
        }
    }
}
