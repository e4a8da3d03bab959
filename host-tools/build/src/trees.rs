//! The two Debian trees that everything else starts from: one with packaging tools, one that all roles share.

use std::fs;
use std::path::PathBuf;

use crate::cache::{Cache, Key};
use crate::error::BuildError;
use crate::mirror::Mirror;
use crate::sandbox::Privilege;
use crate::spec::BaseSpec;

/// A Debian tree to make with mmdebstrap.
#[derive(Debug)]
pub struct Tree {
    kind: &'static str,
    id: String,
    release: String,
    packages: Vec<String>,
}

impl Tree {
    /// The tree with the packaging tools.
    pub fn tools(cache: &Cache, spec: &BaseSpec) -> Self {
        Self::new(
            cache,
            "tools",
            &spec.release,
            spec.tools.packages.clone(),
            "",
        )
    }

    /// The tree that all roles share. `index` is the package index that was chosen by the last refresh, if any.
    pub fn base(cache: &Cache, spec: &BaseSpec, index: &str) -> Self {
        let mut packages = spec.packages.clone();
        packages.push(spec.kernel.clone());
        Self::new(cache, "base", &spec.release, packages, index)
    }

    fn new(
        cache: &Cache,
        kind: &'static str,
        release: &str,
        packages: Vec<String>,
        index: &str,
    ) -> Self {
        let key = Key::new(kind)
            .with(UNPACK)
            .with_all(OPTIONS)
            .with(release)
            .with(index);
        let owner = match cache.sandbox().privilege() {
            Privilege::Root => "root",
            Privilege::UserNamespace => "user",
        };
        let id = key.with_all(&packages).with(owner).id();
        Self {
            kind,
            id,
            release: release.to_owned(),
            packages,
        }
    }

    /// Hash of all that determines the tree.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory with `root/`, `epoch` and `index`.
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

    /// Seconds since 1970 that files of images made from this tree carry: the date of its package index.
    pub fn epoch(&self, cache: &Cache) -> Result<String, BuildError> {
        self.note(cache, "epoch")
    }

    /// Names the package index that it was made from.
    pub fn index(&self, cache: &Cache) -> Result<String, BuildError> {
        self.note(cache, "index")
    }

    fn note(&self, cache: &Cache, name: &str) -> Result<String, BuildError> {
        let path = self.dir(cache).join(name);
        let text =
            fs::read_to_string(&path).map_err(|error| BuildError::io("read", &path, error))?;
        Ok(text.trim().to_owned())
    }

    /// Makes it.
    pub fn build(&self, cache: &Cache, mirror: &Mirror) -> Result<(), BuildError> {
        let scratch = cache.scratch(self.kind)?;
        let work = scratch.path();
        let downloads = quoted(&cache.downloads(self.kind)?);
        let mut mmdebstrap = cache.sandbox().mmdebstrap(self.kind).args(OPTIONS);
        mmdebstrap = mmdebstrap
            .arg("--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives/partial")
            .arg(format!(
                "--setup-hook=sync-in {downloads} /var/cache/apt/archives/"
            ))
            .arg(format!(
                "--customize-hook=sync-out /var/cache/apt/archives {downloads}"
            ))
            .arg(format!("--include={}", self.packages.join(",")));
        if let Some(proxy) = &mirror.proxy {
            mmdebstrap = mmdebstrap.arg(format!("--aptopt=Acquire::http::Proxy \"{proxy}\""));
        }
        if cache.sandbox().privilege() == Privilege::Root {
            // Beside the result, not in a small /tmp. The users of a namespace may not get to it, though.
            mmdebstrap = mmdebstrap.env("TMPDIR", work);
        }
        mmdebstrap
            // The kernel's own package would otherwise make an initrd that no image uses.
            .env("INITRD", "No")
            .env("SOURCE_DATE_EPOCH", "1")
            .arg(&self.release)
            .arg(work.join("tree.tar"))
            .args(&mirror.sources)
            .run()?;
        cache
            .sandbox()
            .on_host(self.kind, UNPACK)
            .named("tar")
            .arg(work)
            .run()?;
        scratch.publish(self.kind, &self.id)?;
        Ok(())
    }
}

/// What a refresh asks the mirror: the dates of its package index, as [`Tree::index`] has them.
pub fn current_index(cache: &Cache, tools: &Tree) -> Result<String, BuildError> {
    let scratch = cache.scratch("index")?;
    let sandbox = cache.sandbox();
    let work = sandbox.path(scratch.path());
    sandbox
        .on_host("refresh", RESOLVE)
        .arg(scratch.path())
        .run()?;
    sandbox
        .inside("refresh", &tools.root(cache), REFRESH)
        .named("apt-get")
        .arg(work)
        .run()?;
    let path = scratch.path().join("index");
    let text = fs::read_to_string(&path).map_err(|error| BuildError::io("read", &path, error))?;
    Ok(text.trim().to_owned())
}

/// A path as one word of a hook, which mmdebstrap splits like a shell.
fn quoted(path: &std::path::Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

const UNPACK: &str = include_str!("recipes/unpack-tree.sh");
const RESOLVE: &str = r#"cat /etc/resolv.conf > "$1/resolv.conf""#;
const REFRESH: &str = include_str!("recipes/refresh.sh");

const OPTIONS: &[&str] = &[
    "--variant=minbase",
    "--format=tar",
    // Device nodes cannot be made in a user namespace, and no image needs them.
    "--skip=output/dev",
    // Packages that were downloaded before are used again.
    "--skip=download/empty",
    "--skip=essential/unlink",
    // Roles install from the same index as the base.
    "--skip=cleanup/apt/lists",
    "--aptopt=Acquire::Languages \"none\"",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/lintian/*",
];
