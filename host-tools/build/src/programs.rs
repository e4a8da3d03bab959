//! Our own programs that go into images, built without any library of the machine that builds.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::cache::{Cache, Key};
use crate::debs;
use crate::error::BuildError;
use crate::sandbox;
use crate::sbom;
use crate::spec::{BaseSpec, RoleSpec};

/// Cargo package of the first program of the boot.
pub const INIT: &str = "ravelin-init";

/// Programs of our workspace that images need.
#[derive(Debug)]
pub struct Programs {
    source: PathBuf,
    packages: Vec<String>,
    target: PathBuf,
    bundle: Option<Bundle>,
}

impl Programs {
    /// The first program of the boot, and those that every server and these roles name; compiled, or from a bundle.
    pub fn new<'a>(
        cache: &Cache,
        source: &Path,
        base: &BaseSpec,
        roles: impl IntoIterator<Item = &'a RoleSpec>,
        bundle: Option<&Bundle>,
    ) -> Result<Self, BuildError> {
        let source = source
            .canonicalize()
            .map_err(|error| BuildError::io("open", source, error))?;
        let mut packages = vec![INIT.to_owned()];
        packages.extend(base.programs.iter().cloned());
        packages.extend(
            roles
                .into_iter()
                .flat_map(|role| role.programs.iter().cloned()),
        );
        packages.sort();
        packages.dedup();
        // One directory for each checkout, so that two of them do not rebuild each other's programs.
        let checkout = Key::new("checkout")
            .with(source.as_os_str().as_encoded_bytes())
            .id();
        let target = cache.root().join("programs").join(checkout);
        Ok(Self {
            source,
            packages,
            target,
            bundle: bundle.cloned(),
        })
    }

    /// Their cargo packages.
    pub fn names(&self) -> &[String] {
        &self.packages
    }

    /// What a cache must keep for them.
    pub fn dir(&self) -> &Path {
        self.bundle
            .as_ref()
            .map_or(self.target.as_path(), Bundle::dir)
    }

    /// Compiles them. Cargo does nothing for those that are up to date.
    ///
    /// One at a time: together they would share the features of what they depend on, and a program's bytes
    /// would depend on which others are built.
    pub fn build(&self, cache: &Cache) -> Result<(), BuildError> {
        if let Some(bundle) = &self.bundle {
            return bundle.check_programs(&self.packages);
        }
        let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        for package in &self.packages {
            let mut cargo = sandbox::tied(&program);
            for name in outer_package() {
                cargo.env_remove(name);
            }
            cargo
                .current_dir(&self.source)
                .env_remove("CARGO_ENCODED_RUSTFLAGS")
                .env("RUSTFLAGS", self.flags())
                .args([
                    "build",
                    "--locked",
                    "--profile",
                    PROFILE,
                    "--target",
                    TARGET,
                ])
                .args(["--package", package, "--target-dir"])
                .arg(&self.target);
            sandbox::run(
                cargo,
                "programs",
                "cargo",
                &cache.root().join("log/programs.log"),
            )?;
        }
        Ok(())
    }

    /// What bills say of the first program of the boot, and of these.
    pub fn described(&self, names: &[String]) -> Result<Vec<sbom::Program>, BuildError> {
        let mut programs = Vec::new();
        let others = names
            .iter()
            .map(String::as_str)
            .filter(|name| *name != INIT);
        for name in std::iter::once(INIT).chain(others) {
            let path = self.path(name);
            let sha256 = debs::hash(&path).map_err(|error| BuildError::io("read", &path, error))?;
            let crates = match &self.bundle {
                Some(bundle) => bundle.crates(name)?,
                None => sbom::crates(&self.source, name)?,
            };
            programs.push(sbom::Program {
                name: name.to_owned(),
                sha256,
                crates,
            });
        }
        Ok(programs)
    }

    /// Where the binary of one of them is.
    pub fn path(&self, package: &str) -> PathBuf {
        if let Some(bundle) = &self.bundle {
            return bundle.program(package);
        }
        self.target.join(TARGET).join(PROFILE).join(package)
    }

    /// Static, and without the paths of this machine in the result.
    fn flags(&self) -> OsString {
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
        let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
        let mut flags = OsString::from("-C target-feature=+crt-static");
        for (path, name) in [(&self.source, "/ravelin"), (&cargo, "/cargo")] {
            flags.push(" --remap-path-prefix=");
            flags.push(path);
            flags.push("=");
            flags.push(name);
        }
        flags
    }
}

/// What a cargo that runs us says of the package it runs. Some build scripts run again when that changes, and all is compiled anew.
fn outer_package() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    })
}

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "image";
