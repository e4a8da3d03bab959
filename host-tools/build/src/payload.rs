//! What the operator adds to the root of a role: the files that Nginx serves, and the application.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use render::HostFile;
use sha2::{Digest as _, Sha256};
use site::Plan;
use site::plan::{Role, Source};

use crate::cache::Key;
use crate::debs;
use crate::error::BuildError;
use crate::lock::Package;
use crate::oci::Image;
use crate::resolve::field;
use crate::spec::RoleSpec;

/// Files, packages and units over those of a role.
#[derive(Debug, Default)]
pub struct Payload {
    /// Names of Debian packages.
    packages: Vec<String>,
    /// Debian packages that are files.
    debs: Vec<PathBuf>,
    /// Directories and files, and where they go.
    copies: Vec<(PathBuf, &'static str)>,
    /// Files that we write.
    written: Vec<(String, String)>,
    /// A container image, unpacked in [`APP`].
    image: Option<Image>,
    /// The unit of the application, which takes the place of the demo's.
    unit: Option<String>,
    /// Whether operators log in.
    ssh: bool,
}

impl Payload {
    /// What the site file has for a role; paths are seen from `beside`, the directory of the site file.
    pub fn of(plan: &Plan, role: Role, beside: &Path) -> Result<Self, BuildError> {
        let mut payload = match (role, &plan.nginx.static_files) {
            (Role::Nginx, Some(path)) => Self {
                copies: vec![(directory("[nginx] static", beside, path)?, STATIC)],
                ..Self::default()
            },
            (Role::App, _) => Self::app(plan, beside)?,
            (Role::Haproxy | Role::Nginx | Role::Db | Role::Monitor, _) => Self::default(),
        };
        if plan.ssh.is_some() {
            payload.ssh = true;
            payload.packages.push(SSHD.to_owned());
        }
        Ok(payload)
    }

    fn app(plan: &Plan, beside: &Path) -> Result<Self, BuildError> {
        let app = &plan.app;
        let mut payload = Self::default();
        match &app.source {
            Source::Demo => return Ok(payload),
            Source::Package(name) => payload.packages.push(name.clone()),
            Source::File(path) => {
                let file = beside.join(path);
                payload.packages = dependencies(&file)?;
                payload.debs.push(file);
            }
            Source::Directory(path) => {
                let dir = directory("[app] directory", beside, path)?;
                let unit = dir.join(&app.unit);
                if !unit.is_file() {
                    let problem = format!("it has no {}", app.unit);
                    let help = "put the systemd unit that runs the application there; the directory will be /srv/app";
                    return Err(wrong("[app] directory", &dir, problem, help));
                }
                payload.copies = vec![(dir, APP), (unit, "usr/lib/systemd/system/app.service")];
            }
            Source::Oci(path) => {
                let image = Image::open(&beside.join(path))?;
                let unit = image.unit(&plan.domain)?;
                let path = format!("usr/lib/systemd/system/{}", app.unit);
                payload.written.push((path, unit));
                payload.image = Some(image);
            }
        }
        let path = format!("usr/lib/systemd/system/{}.d/50-ravelin.conf", app.unit);
        payload.written.push((path, DROP_IN.to_owned()));
        payload.unit = Some(app.unit.clone());
        Ok(payload)
    }

    /// Debian packages that it needs from the mirror.
    pub fn packages(&self) -> &[String] {
        &self.packages
    }

    /// The `.deb` files of the operator's own that it installs; no lock knows them.
    pub fn own_packages(&self) -> Result<Vec<Package>, BuildError> {
        let own = self.debs.iter().map(|path| {
            let text = fields(path, &["Package", "Version", "Architecture"])?;
            let said = |name| field(&text, name).unwrap_or_default().to_owned();
            Ok(Package {
                name: said("Package"),
                version: said("Version"),
                architecture: said("Architecture"),
                sha256: debs::hash(path).map_err(|error| BuildError::io("read", path, error))?,
                suite: String::new(),
                file: path.display().to_string(),
                sets: BTreeSet::new(),
            })
        });
        own.collect()
    }

    /// The role with it.
    #[must_use]
    pub fn applied(&self, mut spec: RoleSpec) -> RoleSpec {
        if let Some(unit) = &self.unit {
            spec.programs.retain(|program| program != DEMO);
            spec.services.retain(|service| service != DEMO_UNIT);
            spec.services.push(unit.clone());
        }
        if self.ssh {
            spec.services.push("ssh.service".to_owned());
            // The package makes some for whoever installs it; each server has its own.
            spec.remove.push("/etc/ssh/ssh_host_*".to_owned());
        }
        spec
    }

    /// Adds all that it is made of.
    pub fn key(&self, mut key: Key) -> Result<Key, BuildError> {
        for (path, target) in &self.copies {
            key = key.with(target);
            key = match path.is_dir() {
                true => key.with_dir(path)?,
                false => key.with(digest(path)?),
            };
        }
        for (path, text) in &self.written {
            key = key.with(path).with(text);
        }
        let image = self.image.as_ref().map(Image::path);
        for path in self.debs.iter().map(PathBuf::as_path).chain(image) {
            key = key.with(digest(path)?);
        }
        Ok(key)
    }

    /// Puts it into the working directory of a role's root, whose own files are there.
    pub fn lay_out(&self, work: &Path) -> Result<(), BuildError> {
        let files = work.join("files");
        for (from, target) in &self.copies {
            copy(from, &files.join(target))?;
        }
        if !self.copies.is_empty() && self.unit.is_some() {
            // It is where systemd looks for it.
            let unit = files.join(APP).join("app.service");
            fs::remove_file(&unit).map_err(|error| BuildError::io("remove", &unit, error))?;
        }
        for (path, text) in &self.written {
            let path = files.join(path);
            parent(&path)?;
            fs::write(&path, text).map_err(|error| BuildError::io("write", &path, error))?;
        }
        for (number, deb) in self.debs.iter().enumerate() {
            let path = work.join(format!("debs/own-{number}.deb"));
            parent(&path)?;
            fs::copy(deb, &path).map_err(|error| BuildError::io("copy", deb, error))?;
        }
        match &self.image {
            Some(image) => image.squash(&work.join("app.tar")),
            None => Ok(()),
        }
    }
}

/// The variables of the application that nobody else may read, for its servers.
pub fn secrets(plan: &Plan, role: Role, beside: &Path) -> Result<Option<HostFile>, BuildError> {
    let (Role::App, Some(name)) = (role, &plan.app.secrets) else {
        return Ok(None);
    };
    let path = beside.join(name);
    let wrong = |problem: String| wrong("[app] secrets", &path, problem, SECRETS);
    let meta = fs::metadata(&path).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(wrong("others may read it".to_owned()));
    }
    let text =
        fs::read_to_string(&path).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let name = line.split_once('=').map(|(name, _)| name);
        let good = |name: &str| {
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !name.is_empty() && name.chars().all(letters)
        };
        if !(line.is_empty() || line.starts_with('#') || name.is_some_and(good)) {
            return Err(wrong(format!("line {number} is not NAME=value")));
        }
    }
    Ok(Some(HostFile {
        path: "/etc/ravelin/app-secrets.env".to_owned(),
        mode: 0o600,
        bytes: text.into_bytes(),
    }))
}

/// What a file of the operator's should be, and is not.
pub(crate) fn wrong(
    key: &'static str,
    path: &Path,
    problem: impl Into<String>,
    help: &str,
) -> BuildError {
    BuildError::Operator {
        key,
        path: path.to_owned(),
        problem: problem.into(),
        help: help.to_owned(),
    }
}

fn directory(key: &'static str, beside: &Path, path: &str) -> Result<PathBuf, BuildError> {
    let dir = beside.join(path);
    match fs::metadata(&dir) {
        Ok(meta) if meta.is_dir() => Ok(dir),
        Ok(_) => Err(wrong(
            key,
            &dir,
            "it is no directory",
            "name a directory beside the site file",
        )),
        Err(error) => {
            let problem = format!("cannot read it: {error}");
            Err(wrong(
                key,
                &dir,
                problem,
                "name a directory beside the site file",
            ))
        }
    }
}

/// What a Debian package needs; the mirror has to have it.
fn dependencies(file: &Path) -> Result<Vec<String>, BuildError> {
    let text = fields(file, &["Architecture", "Depends", "Pre-Depends"])?;
    let mut names = Vec::new();
    for line in text.lines() {
        let Some((field, value)) = line.split_once(": ") else {
            continue;
        };
        if field == "Architecture" {
            if !["amd64", "all"].contains(&value) {
                let problem = format!("it is for {value}, the servers are amd64");
                return Err(wrong(
                    "[app] package",
                    file,
                    problem,
                    "build it for amd64, or for all",
                ));
            }
            continue;
        }
        // Of alternatives the first, as apt takes it; versions are checked when it is installed.
        names.extend(value.split(',').filter_map(|relation| {
            let name = relation.split(['|', '(', '[', ':']).next()?.trim();
            (!name.is_empty()).then(|| name.to_owned())
        }));
    }
    Ok(names)
}

/// What a Debian package says of itself.
fn fields(file: &Path, names: &[&str]) -> Result<String, BuildError> {
    let output = Command::new("dpkg-deb")
        .arg("--field")
        .arg(file)
        .args(names)
        .output()
        .map_err(|cause| BuildError::Missing {
            program: "dpkg-deb".to_owned(),
            cause,
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(wrong(
            "[app] package",
            file,
            said,
            "name a Debian package, or a .deb file",
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Copies files and directories; modes do not depend on a umask.
fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    let failed = |error| BuildError::io("copy", from, error);
    let meta = fs::symlink_metadata(from).map_err(failed)?;
    parent(to)?;
    if meta.is_dir() {
        fs::create_dir_all(to).map_err(failed)?;
        for entry in fs::read_dir(from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return fs::set_permissions(to, fs::Permissions::from_mode(0o755)).map_err(failed);
    }
    if meta.is_symlink() {
        return symlink(fs::read_link(from).map_err(failed)?, to).map_err(failed);
    }
    if !meta.is_file() {
        return Err(failed(io::Error::other("neither a file nor a directory")));
    }
    fs::copy(from, to).map_err(failed)?;
    let mode = if meta.permissions().mode() & 0o111 == 0 {
        0o644
    } else {
        0o755
    };
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(failed)
}

fn parent(path: &Path) -> Result<(), BuildError> {
    match path.parent() {
        Some(parent) => {
            fs::create_dir_all(parent).map_err(|error| BuildError::io("create", parent, error))
        }
        None => Ok(()),
    }
}

/// SHA-256 of a file that may be large.
fn digest(path: &Path) -> Result<Vec<u8>, BuildError> {
    let failed = |error| BuildError::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hash.finalize().to_vec()),
            length => hash.update(&buffer[..length]),
        }
    }
}

const SSHD: &str = "openssh-server";
const DEMO: &str = "ravelin-demo-app";
const DEMO_UNIT: &str = "demo-app.service";
/// Where files that Nginx serves are, and the application, in the root.
const STATIC: &str = "srv/www";
const APP: &str = "srv/app";
const SECRETS: &str =
    "write lines NAME=value into a file beside the site file, for you alone (chmod 600)";
/// What every application of an operator is given.
const DROP_IN: &str = "\
# The site's settings (docs/applications.md); secrets are readable by root alone, who reads them.
[Unit]
StartLimitIntervalSec=0

[Service]
EnvironmentFile=/etc/ravelin/app.env
EnvironmentFile=-/etc/ravelin/app-secrets.env
SupplementaryGroups=ravelin-tls
Restart=always
RestartSec=1
RestartSteps=6
RestartMaxDelaySec=60
NoNewPrivileges=yes
";
