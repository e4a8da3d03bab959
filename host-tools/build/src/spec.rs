//! The data in `image/`: `base/base.toml` and `roles/ROLE/role.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use site::plan::Role;

use crate::error::BuildError;

/// `image/base/base.toml`: the tree that every root starts from, and how servers boot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseSpec {
    /// Debian release, by code name.
    pub release: String,
    /// Kernel package.
    pub kernel: String,
    /// Debian packages of every server.
    pub packages: Vec<String>,
    /// Programs of ours, as in [`RoleSpec::programs`].
    #[serde(default)]
    pub programs: Vec<String>,
    /// systemd units that are enabled on every server.
    pub services: Vec<String>,
    /// systemd units that never run.
    pub masked: Vec<String>,
    /// Kernel modules in the initrd, with what they depend on.
    pub initrd_modules: Vec<String>,
    /// Kernel command line; where the root is gets added.
    pub cmdline: String,
    /// The tree in which the packaging tools run.
    pub tools: ToolsSpec,
}

/// `[tools]` in `base.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolsSpec {
    /// Debian packages of the tools.
    pub packages: Vec<String>,
}

/// `image/roles/ROLE/role.toml`: what a role adds to the base.
///
/// A `files/` directory beside it is copied over the role's root, with the modes it has there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// Debian packages.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Programs of ours: cargo packages of this workspace whose binary, of the same name, is installed in `/usr/bin`.
    #[serde(default)]
    pub programs: Vec<String>,
    /// systemd units to enable.
    #[serde(default)]
    pub services: Vec<String>,
    /// systemd units that never run.
    #[serde(default)]
    pub masked: Vec<String>,
    /// Directories and files (glob patterns of the shell) that are emptied or removed after installation, such as
    /// a database that was created by a package.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Size of the writable `/var`, in MiB.
    #[serde(default = "default_var_mib")]
    pub var_mib: u32,
    /// Size of each of the two partitions for a root, in MiB: what a root may grow to while servers are updated.
    #[serde(default = "default_root_mib")]
    pub root_mib: u32,
}

fn default_root_mib() -> u32 {
    512
}

fn default_var_mib() -> u32 {
    256
}

/// Reads `image/base/base.toml`.
pub fn base(source: &Path) -> Result<BaseSpec, BuildError> {
    read(base_file(source))
}

/// Where `base.toml` is.
pub fn base_file(source: &Path) -> PathBuf {
    source.join("image/base/base.toml")
}

/// Reads `image/roles/ROLE/role.toml`.
pub fn role(source: &Path, role: Role) -> Result<RoleSpec, BuildError> {
    read(role_file(source, role))
}

/// Where a role's `role.toml` is.
pub fn role_file(source: &Path, role: Role) -> PathBuf {
    role_dir(source, role).join("role.toml")
}

/// Directory of a role's data.
pub fn role_dir(source: &Path, role: Role) -> PathBuf {
    source.join("image/roles").join(role_name(role))
}

/// Name of a role as in the site file, which is also its directory's name.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Haproxy => "haproxy",
        Role::Nginx => "nginx",
        Role::App => "app",
        Role::Db => "db",
        Role::Monitor => "monitor",
    }
}

fn read<T: serde::de::DeserializeOwned>(path: PathBuf) -> Result<T, BuildError> {
    let text = fs::read_to_string(&path).map_err(|error| BuildError::io("read", &path, error))?;
    toml::from_str(&text).map_err(|error| BuildError::Spec {
        path,
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_needs_nothing_but_may_not_say_what_we_do_not_know() {
        let empty: RoleSpec = toml::from_str("").unwrap();
        assert_eq!((empty.packages.len(), empty.var_mib), (0, 256));
        assert_eq!(empty.root_mib, 512);
        let full: RoleSpec = toml::from_str(
            r#"
            packages = ["mariadb-server"]
            programs = ["ravelin-demo-app"]
            services = ["mariadb.service"]
            masked = ["logrotate.timer"]
            remove = ["/var/lib/mysql/*"]
            var_mib = 512
            root_mib = 300
            "#,
        )
        .unwrap();
        assert_eq!(full.services, ["mariadb.service"]);
        let error = toml::from_str::<RoleSpec>("package = []").unwrap_err();
        assert!(
            error.to_string().contains("unknown field `package`"),
            "{error}"
        );
    }

    #[test]
    fn the_data_of_this_repository_parses() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(!base(&source).unwrap().packages.is_empty());
    }
}
