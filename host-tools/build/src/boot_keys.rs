//! The keys for UEFI Secure Boot: `pki/boot/` in the site's state directory. Boot loader and kernel images are signed with
//! the one called `db`, and a firmware that has taken the site's variables starts nothing else.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::error::BuildError;
use crate::pki;
use crate::recipes::Recipes;
use crate::roots::uuid;
use crate::trees::Tree;

/// The keys of a site; of their secret halves only where they are.
#[derive(Clone, Debug)]
pub struct BootKeys {
    dir: PathBuf,
    /// What is public, in the order of [`PUBLIC`].
    public: Vec<Vec<u8>>,
}

impl BootKeys {
    /// Opens the keys of a site; they are made when there are none. Their secret halves may be kept elsewhere then.
    pub fn open(
        state: &Path,
        site: &str,
        cache: &Cache,
        recipes: &Recipes,
        tools: &Tree,
    ) -> Result<Self, BuildError> {
        let dir = pki::secret_path(state, DIR);
        if !dir.join(PUBLIC[0]).exists() {
            make(&dir, site, cache, recipes, tools)?;
        }
        let read = |name: &&str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|error| BuildError::io("read", &path, error))
        };
        let public = PUBLIC.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { dir, public })
    }

    /// What images have of them.
    pub fn public(&self) -> &[Vec<u8>] {
        &self.public
    }

    /// Puts that beside what is to be signed.
    pub fn lay_out(&self, work: &Path) -> Result<(), BuildError> {
        for (name, bytes) in PUBLIC.iter().zip(&self.public) {
            let path = work.join(name);
            fs::write(&path, bytes).map_err(|error| BuildError::io("write", &path, error))?;
        }
        Ok(())
    }

    /// The secret half that signs, for the image of `role`.
    pub fn secret(&self, role: &'static str) -> Result<Vec<u8>, BuildError> {
        let path = self.dir.join(SIGNS);
        fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BuildError::NoBootKey { path, role },
            _ => BuildError::io("read", &path, error),
        })
    }
}

/// Nothing secret is written but here: helpers have it in memory, and hand it over in a pipe.
fn make(
    dir: &Path,
    site: &str,
    cache: &Cache,
    recipes: &Recipes,
    tools: &Tree,
) -> Result<(), BuildError> {
    const STEP: &str = "boot keys";
    let made = (cache.sandbox())
        .inside(STEP, &tools.root(cache), recipes.make_boot_keys)
        .named("openssl")
        .args([site, &uuid(site, STEP)])
        .exchange(&[])?;
    let unexpected = |error: io::Error| BuildError::Unexpected {
        step: STEP.to_owned(),
        message: error.to_string(),
    };
    let mut files = tar::Archive::new(made.as_slice());
    for file in files.entries().map_err(unexpected)? {
        let mut file = file.map_err(unexpected)?;
        let name = file.path().map_err(unexpected)?.into_owned();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unexpected)?;
        // The certificate that is looked for comes last: with it, all is there.
        pki::keep(&dir.join(name), &bytes)?;
    }
    Ok(())
}

/// Where they are below `pki/`.
pub const DIR: &str = "boot";
const SIGNS: &str = "db.key";
const PUBLIC: [&str; 4] = ["db.pem", "PK.auth", "KEK.auth", "db.auth"];
