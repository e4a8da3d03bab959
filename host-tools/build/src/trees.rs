//! The two Debian trees that everything else starts from: one with packaging tools, one that all roles share.

use std::path::PathBuf;

use crate::cache::{Cache, Key};
use crate::debs;
use crate::error::BuildError;
use crate::lock::{Lock, Package};
use crate::recipes::Recipes;
use crate::sandbox::Privilege;

/// A Debian tree to make with mmdebstrap, of locked packages.
#[derive(Debug)]
pub struct Tree<'a> {
    kind: &'static str,
    id: String,
    recipe: &'static str,
    options: &'static [&'static str],
    release: &'a str,
    epoch: u64,
    packages: Vec<&'a Package>,
}

impl<'a> Tree<'a> {
    /// The tree with the packaging tools, or the one that all roles share: a set of the lock.
    pub fn new(
        privilege: Privilege,
        recipes: &Recipes,
        kind: &'static str,
        lock: &'a Lock,
    ) -> Self {
        let packages = lock.set(kind);
        let identities: Vec<String> = packages.iter().map(|package| package.identity()).collect();
        let owner = match privilege {
            Privilege::Root => "root",
            Privilege::UserNamespace => "user",
        };
        let key = Key::new(kind)
            .with(recipes.make_tree)
            .with_all(recipes.tree_options)
            .with(&lock.release)
            .with_all(&identities)
            .with(owner);
        Self {
            kind,
            id: key.id(),
            recipe: recipes.make_tree,
            options: recipes.tree_options,
            release: &lock.release,
            epoch: lock.epoch(),
            packages,
        }
    }

    /// Hash of all that determines the tree.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is made of.
    pub fn packages(&self) -> &[&'a Package] {
        &self.packages
    }

    /// The directory with `root/`.
    pub fn dir(&self, cache: &Cache) -> PathBuf {
        cache.entry(self.kind, &self.id)
    }

    /// Its root directory.
    pub fn root(&self, cache: &Cache) -> PathBuf {
        self.dir(cache).join("root")
    }

    /// Whether it is in the cache.
    pub fn exists(&self, cache: &Cache) -> bool {
        self.root(cache).exists()
    }

    /// Seconds since 1970 that files of images made from this tree carry: the date of the lock's newest index.
    pub fn epoch(&self) -> String {
        self.epoch.to_string()
    }

    /// Makes it of files that [`debs::fetch`] has fetched.
    pub fn build(&self, cache: &Cache) -> Result<(), BuildError> {
        let scratch = cache.scratch(self.kind)?;
        let work = scratch.path();
        let repository = work.join("repository");
        debs::lay_out(cache, &self.packages, &repository)?;
        debs::write_index(&self.packages, &repository)?;
        let names: Vec<&str> = self
            .packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        cache
            .sandbox()
            .on_host(self.kind, self.recipe)
            .named("mmdebstrap")
            .arg(work)
            .arg(self.release)
            .arg(names.join(","))
            .args(self.options)
            // The kernel's own package would otherwise make an initrd that no image uses.
            .env("INITRD", "No")
            .env("SOURCE_DATE_EPOCH", "1")
            .run()?;
        scratch.publish(self.kind, &self.id)?;
        Ok(())
    }
}
