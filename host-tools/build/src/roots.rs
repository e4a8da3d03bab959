//! What all servers of a role share: the root and what boots it.

use std::fs;
use std::path::{Path, PathBuf};

use site::plan::Role;

use crate::cache::{Cache, Key};
use crate::cpio::Cpio;
use crate::debs;
use crate::error::BuildError;
use crate::lock::Package;
use crate::modules;
use crate::payload::Payload;
use crate::recipes::Recipes;
use crate::sbom;
use crate::spec::{self, BaseSpec, RoleSpec};
use crate::trees::Tree;

/// The root of a role: the base, the role's packages, files and programs; as a tree and as partitions.
#[derive(Debug)]
pub struct Root {
    role: Role,
    id: String,
    recipes: Recipes,
    spec: RoleSpec,
    packages: Vec<Package>,
    services: Vec<String>,
    masked: Vec<String>,
    files: [PathBuf; 2],
    programs: Vec<PathBuf>,
    payload: Payload,
}

impl Root {
    /// Reads what determines the root of a role. `packages` are those of the lock, `programs` the binaries of
    /// [`RoleSpec::programs`].
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        source: &Path,
        recipes: &Recipes,
        role: Role,
        base_spec: &BaseSpec,
        spec: RoleSpec,
        packages: &[&Package],
        programs: Vec<PathBuf>,
        payload: Payload,
        base: &Tree,
        tools: &Tree,
    ) -> Result<Self, BuildError> {
        let files = [
            source.join("image/base/files"),
            spec::role_dir(source, role).join("files"),
        ];
        let services = [base_spec.services.as_slice(), &spec.services].concat();
        let masked = [base_spec.masked.as_slice(), &spec.masked].concat();
        let scripts = [recipes.stage_role, recipes.install_role, recipes.pack_role];
        let mut key = Key::new("root").with_all(&scripts).with(sbom::FORMAT);
        key = key.with(base.id()).with(tools.id()).with(base.epoch());
        let identities: Vec<String> = packages.iter().map(|package| package.identity()).collect();
        key = key
            .with_all(&identities)
            .with_all(&spec.remove)
            .with_all(&services)
            .with_all(&masked);
        key = key.with(spec.var_mib.to_le_bytes());
        for dir in &files {
            key = key.with_dir(dir)?;
        }
        for path in &programs {
            let program = fs::read(path).map_err(|error| BuildError::io("read", path, error))?;
            key = key.with(program);
        }
        key = payload.key(key)?;
        Ok(Self {
            role,
            id: key.id(),
            recipes: recipes.clone(),
            packages: packages.iter().map(|&package| package.clone()).collect(),
            spec,
            services,
            masked,
            files,
            programs,
            payload,
        })
    }

    /// Whose root it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What the role adds to the base.
    pub fn spec(&self) -> &RoleSpec {
        &self.spec
    }

    /// Hash of all that determines it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The packages that it has beyond those of the base.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Our own programs in it.
    pub fn programs(&self) -> &[String] {
        &self.spec.programs
    }

    /// Whether it is in the cache.
    pub fn exists(&self, cache: &Cache) -> bool {
        self.dir(cache).exists()
    }

    /// The directory with `root/`, `root.erofs`, `root.verity`, `root.hash` and `var.ext4`.
    pub fn dir(&self, cache: &Cache) -> PathBuf {
        cache.entry("roots", &self.id)
    }

    /// Makes it, and the bill of what is in it.
    pub fn build(
        &self,
        cache: &Cache,
        base: &Tree,
        tools: &Tree,
        programs: &[sbom::Program],
    ) -> Result<(), BuildError> {
        let name = spec::role_name(self.role);
        let step = format!("role {name}");
        let scratch = cache.scratch(name)?;
        let sandbox = cache.sandbox();
        let work = scratch.path();
        let epoch = base.epoch();
        let packages: Vec<&Package> = self.packages.iter().collect();
        debs::lay_out(cache, &packages, &work.join("debs"))?;
        let [base_files, role_files] = &self.files;
        sandbox
            .on_host(&step, self.recipes.stage_role)
            .named("cp")
            .args([&base.root(cache), work, base_files, role_files])
            .args(&self.programs)
            .run()?;
        self.payload.lay_out(work)?;
        sandbox
            .inside(&step, &work.join("root"), self.recipes.install_role)
            .named("apt-get")
            .arg(sandbox.path(work))
            .env("SERVICES", self.services.join(" "))
            .env("MASKED", self.masked.join(" "))
            .env("REMOVE", self.spec.remove.join(" "))
            .env("SOURCE_DATE_EPOCH", &epoch)
            .run()?;
        sandbox
            .inside(&step, &tools.root(cache), self.recipes.pack_role)
            .named("mkfs.erofs")
            .arg(sandbox.path(work))
            .args([
                uuid(&self.id, "root"),
                salt(&self.id),
                format!("{}M", self.spec.var_mib),
            ])
            .env("SOURCE_DATE_EPOCH", &epoch)
            .run()?;
        self.write_bill(work, base, programs)?;
        scratch.publish("roots", &self.id)?;
        Ok(())
    }

    /// Where the bill of what is in it is.
    pub fn bill(&self, cache: &Cache) -> PathBuf {
        self.dir(cache).join(sbom::NAME)
    }

    fn write_bill(
        &self,
        work: &Path,
        base: &Tree,
        programs: &[sbom::Program],
    ) -> Result<(), BuildError> {
        let (image, hash) = (work.join("root.erofs"), work.join("root.hash"));
        let root_hash =
            fs::read_to_string(&hash).map_err(|error| BuildError::io("read", &hash, error))?;
        let own = self.payload.own_packages()?;
        let locked = base.packages().iter().copied().chain(&self.packages);
        let bill = sbom::bill(&sbom::Subject {
            role: spec::role_name(self.role),
            uuid: uuid(&self.id, "bill"),
            tree: work.join("root"),
            sha256: debs::hash(&image).map_err(|error| BuildError::io("read", &image, error))?,
            root_hash: root_hash.trim().to_owned(),
            epoch: base.epoch().parse().unwrap_or_default(),
            packages: locked.chain(&own).collect(),
            programs,
        })?;
        let path = work.join(sbom::NAME);
        fs::write(&path, format!("{bill:#}\n"))
            .map_err(|error| BuildError::io("write", &path, error))
    }
}

/// What boots any root: the kernel, and an initrd with our first program and the modules that it loads.
#[derive(Debug)]
pub struct Boot {
    id: String,
    recipe: &'static str,
    init: Vec<u8>,
    modules: Vec<String>,
}

impl Boot {
    /// Reads what determines it.
    pub fn new(
        recipes: &Recipes,
        init: &Path,
        spec: &BaseSpec,
        base: &Tree,
        tools: &Tree,
    ) -> Result<Self, BuildError> {
        let init = fs::read(init).map_err(|error| BuildError::io("read", init, error))?;
        let modules = spec.initrd_modules.clone();
        let key = Key::new("boot").with_all(&[recipes.pack_boot, base.id(), tools.id()]);
        let id = key.with(&init).with_all(&modules).id();
        Ok(Self {
            id,
            recipe: recipes.pack_boot,
            init,
            modules,
        })
    }

    /// Hash of all that determines it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it is in the cache.
    pub fn exists(&self, cache: &Cache) -> bool {
        self.dir(cache).exists()
    }

    /// The directory with `vmlinuz`, `initrd.cpio` and `os-release`.
    pub fn dir(&self, cache: &Cache) -> PathBuf {
        cache.entry("boot", &self.id)
    }

    /// Makes it.
    pub fn build(&self, cache: &Cache, base: &Tree, tools: &Tree) -> Result<(), BuildError> {
        let scratch = cache.scratch("boot")?;
        let sandbox = cache.sandbox();
        let work = scratch.path();
        let root = base.root(cache);
        let modules_dir = kernel_modules(&root)?;
        let dep = root.join(&modules_dir).join("modules.dep");
        let dep = fs::read_to_string(&dep).map_err(|error| BuildError::io("read", &dep, error))?;
        let files = modules::load_order(&dep, &self.modules);
        sandbox
            .inside("boot", &tools.root(cache), self.recipe)
            .named("cp")
            .args([sandbox.path(&root), sandbox.path(work)])
            .args(files.iter().map(|file| modules_dir.join(file)))
            .run()?;

        let mut cpio = Cpio::default();
        cpio.file("init", 0o755, &self.init);
        let names: Vec<&str> = files
            .iter()
            .filter_map(|file| unpacked_name(file))
            .collect();
        cpio.file("modules/order", 0o644, (names.join("\n") + "\n").as_bytes());
        for name in names {
            let path = work.join("modules").join(name);
            let module = fs::read(&path).map_err(|error| BuildError::io("read", &path, error))?;
            cpio.file(&format!("modules/{name}"), 0o644, &module);
        }
        let path = work.join("initrd.cpio");
        fs::write(&path, cpio.finish()).map_err(|error| BuildError::io("write", &path, error))?;
        scratch.publish("boot", &self.id)?;
        Ok(())
    }
}

/// `usr/lib/modules/VERSION` of the one kernel in a tree.
fn kernel_modules(root: &Path) -> Result<PathBuf, BuildError> {
    let dir = Path::new("usr/lib/modules");
    let path = root.join(dir);
    let entries = fs::read_dir(&path).map_err(|error| BuildError::io("read", &path, error))?;
    let names: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    match names.as_slice() {
        [one] => Ok(dir.join(one)),
        _ => Err(BuildError::Unexpected {
            step: "boot".to_owned(),
            message: format!(
                "one kernel in {} was expected, not {}",
                path.display(),
                names.len()
            ),
        }),
    }
}

/// `kernel/fs/erofs/erofs.ko.xz` is unpacked as `erofs.ko`.
fn unpacked_name(file: &str) -> Option<&str> {
    let name = file.rsplit('/').next()?;
    Some(name.trim_end_matches(".xz").trim_end_matches(".zst"))
}

/// A UUID for one part of what has this id: the same on every build.
pub(crate) fn uuid(id: &str, part: &str) -> String {
    let hash = Key::new("uuid").with(id).with(part).id();
    // Version 8: "vendor specific" (RFC 9562 §5.8).
    format!(
        "{}-{}-8{}-a{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[13..16],
        &hash[17..20],
        &hash[20..32]
    )
}

fn salt(id: &str) -> String {
    Key::new("salt").with(id).id() + &Key::new("pepper").with(id).id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_well_formed_and_differ_by_part() {
        let one = uuid("0123", "root");
        assert_eq!(one.len(), 36);
        assert_eq!(
            one.split('-').map(str::len).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12]
        );
        assert_eq!((&one[14..15], &one[19..20]), ("8", "a"));
        assert_ne!(one, uuid("0123", "var"));
        assert_eq!(one, uuid("0123", "root"));
    }
}
