//! Container images in an archive, as `podman save` and `docker save` write them: their layers become one tree, and what
//! they say of their program becomes a systemd unit.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use ruzstd::decoding::StreamingDecoder;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder, EntryType, Header};

use crate::error::BuildError;
use crate::payload::wrong;

#[cfg(test)]
mod tests;

/// An archive with one image for our servers.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    members: HashMap<PathBuf, Member>,
    config: ImageConfiguration,
    /// Members with the layers, the lowest first.
    layers: Vec<PathBuf>,
}

/// Where a file is in the archive.
#[derive(Clone, Copy, Debug)]
struct Member {
    offset: u64,
    size: u64,
}

/// `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    layers: Vec<String>,
}

impl Image {
    /// Reads what is in the archive, but for the layers.
    pub fn open(path: &Path) -> Result<Self, BuildError> {
        let mut image = Self {
            path: path.to_owned(),
            members: HashMap::new(),
            config: ImageConfiguration::default(),
            layers: Vec::new(),
        };
        image.index()?;
        if image.members.contains_key(Path::new("index.json")) {
            image.read_oci()?;
        } else if image.members.contains_key(Path::new("manifest.json")) {
            image.read_docker()?;
        } else {
            return Err(image.wrong("it has neither index.json nor manifest.json"));
        }
        if *image.config.architecture() != Arch::Amd64 {
            let problem = format!(
                "it is for {}, the servers are amd64",
                image.config.architecture()
            );
            return Err(image.wrong(problem));
        }
        Ok(image)
    }

    /// The archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn wrong(&self, problem: impl Into<String>) -> BuildError {
        wrong("[app] oci", &self.path, problem, HELP)
    }

    fn io(&self, error: io::Error) -> BuildError {
        match error.kind() {
            io::ErrorKind::NotFound => self.wrong("there is no such file"),
            _ => self.wrong(format!("cannot read it: {error}")),
        }
    }

    fn file(&self) -> Result<File, BuildError> {
        File::open(&self.path).map_err(|error| self.io(error))
    }

    /// Notes where everything is in the archive.
    fn index(&mut self) -> Result<(), BuildError> {
        let mut archive = Archive::new(BufReader::new(self.file()?));
        let entries = archive
            .entries_with_seek()
            .map_err(|error| self.io(error))?;
        let mut links = Vec::new();
        let mut members = HashMap::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.io(error))?;
            let name = entry.path().map_err(|error| self.io(error))?;
            let Some(name) = inside(&name) else {
                return Err(self.wrong(format!("{} leads out of it", name.display())));
            };
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let (offset, size) = (entry.raw_file_position(), entry.size());
                    members.insert(name, Member { offset, size });
                }
                // Older versions of `docker save` write a layer once.
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name().map_err(|error| self.io(error))?;
                    links.extend(target.map(|target| (name, target.into_owned())));
                }
                _ => {}
            }
        }
        for (name, target) in links {
            let beside = name.parent().unwrap_or(Path::new("")).join(&target);
            let found = [beside, target]
                .into_iter()
                .find_map(|path| members.get(&inside(&path)?));
            if let Some(member) = found.copied() {
                members.insert(name, member);
            }
        }
        self.members = members;
        Ok(())
    }

    fn member(&self, name: &Path) -> Result<io::Take<File>, BuildError> {
        let member = self.members.get(name);
        let member = member.ok_or_else(|| self.wrong(format!("it lacks {}", name.display())))?;
        let mut file = self.file()?;
        file.seek(SeekFrom::Start(member.offset))
            .map_err(|error| self.io(error))?;
        Ok(file.take(member.size))
    }

    fn read_oci(&mut self) -> Result<(), BuildError> {
        let mut descriptor = None;
        let mut index = self.json::<ImageIndex>(Path::new("index.json"))?;
        // An index may lead to the index of an image for several machines.
        for _ in 0..MOST_INDICES {
            let manifests = index.manifests();
            let ours = |manifest: &&Descriptor| {
                manifest
                    .platform()
                    .as_ref()
                    .is_some_and(|platform| *platform.architecture() == Arch::Amd64)
            };
            let chosen = match manifests.as_slice() {
                [one] => one,
                several => match several.iter().find(ours) {
                    Some(ours) => ours,
                    None => return Err(self.wrong("it has no image for amd64")),
                },
            };
            let name = self.checked(chosen)?;
            if chosen.media_type().to_string().ends_with("index.v1+json")
                || chosen.media_type().to_string().ends_with("list.v2+json")
            {
                index = self.json::<ImageIndex>(&name)?;
                continue;
            }
            descriptor = Some(name);
            break;
        }
        let Some(name) = descriptor else {
            return Err(self.wrong("its indices have no end"));
        };
        let manifest = self.json::<ImageManifest>(&name)?;
        let config = self.checked(manifest.config())?;
        self.config = self.json(&config)?;
        let layers = manifest.layers().iter().map(|layer| self.checked(layer));
        self.layers = layers.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn read_docker(&mut self) -> Result<(), BuildError> {
        let manifests: Vec<DockerManifest> = self.json(Path::new("manifest.json"))?;
        let [manifest] = manifests.as_slice() else {
            return Err(self.wrong(format!("it has {} images, not one", manifests.len())));
        };
        self.config = self.json(Path::new(&manifest.config))?;
        self.layers = manifest.layers.iter().map(PathBuf::from).collect();
        Ok(())
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &Path) -> Result<T, BuildError> {
        let read = serde_json::from_reader(BufReader::new(self.member(name)?));
        read.map_err(|error| self.wrong(format!("{}: {error}", name.display())))
    }

    /// The member with what a descriptor means; its bytes are those that were meant.
    fn checked(&self, descriptor: &Descriptor) -> Result<PathBuf, BuildError> {
        let digest = descriptor.digest().to_string();
        let Some(expected) = digest.strip_prefix("sha256:") else {
            return Err(self.wrong(format!("{digest} is no SHA-256")));
        };
        let name = Path::new("blobs/sha256").join(expected);
        let mut member = self.member(&name)?;
        let mut hash = Hash(Sha256::new());
        io::copy(&mut member, &mut hash).map_err(|error| self.io(error))?;
        let found: String = hash
            .0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        match found == expected {
            true => Ok(name),
            false => Err(self.wrong(format!("{} is damaged", name.display()))),
        }
    }

    /// A layer, unpacked.
    fn layer(&self, name: &Path) -> Result<Box<dyn Read>, BuildError> {
        let mut start = [0; 4];
        let length = self
            .member(name)?
            .read(&mut start)
            .map_err(|error| self.io(error))?;
        let member = BufReader::new(self.member(name)?);
        Ok(match &start[..length] {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(member)),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(
                StreamingDecoder::new(member)
                    .map_err(|error| self.wrong(format!("{}: {error}", name.display())))?,
            ),
            _ => Box::new(member),
        })
    }

    /// What is left of each layer under those above it, the lowest first.
    fn visible(&self) -> Result<Vec<HashSet<PathBuf>>, BuildError> {
        let mut above = Above::default();
        let mut visible = Vec::new();
        for name in self.layers.iter().rev() {
            let mut archive = Archive::new(self.layer(name)?);
            let (mut kept, mut all, mut gone) = (HashSet::new(), Vec::new(), Vec::new());
            for entry in archive.entries().map_err(|error| self.io(error))? {
                let entry = entry.map_err(|error| self.io(error))?;
                let path = entry.path().map_err(|error| self.io(error))?;
                let Some(path) = inside(&path) else {
                    return Err(self.wrong(format!("{} leads out of a layer", path.display())));
                };
                if let Some(whiteout) = Whiteout::of(&path) {
                    gone.push(whiteout);
                    continue;
                }
                let is_dir = entry.header().entry_type() == EntryType::Directory;
                if !above.hides(&path) {
                    kept.insert(path.clone());
                }
                all.push((path, is_dir));
            }
            above.add(all, gone);
            visible.push(kept);
        }
        visible.reverse();
        Ok(visible)
    }

    /// Writes the one tree that the layers make as an archive.
    pub fn squash(&self, target: &Path) -> Result<(), BuildError> {
        let visible = self.visible()?;
        let failed = |error| BuildError::io("write", target, error);
        let mut out = Builder::new(BufWriter::new(File::create(target).map_err(failed)?));
        for (name, visible) in self.layers.iter().zip(&visible) {
            // Files that are hidden, but have another name: they go on under it.
            let mut renamed: HashMap<PathBuf, PathBuf> = HashMap::new();
            let mut archive = Archive::new(self.layer(name)?);
            for entry in archive.entries().map_err(|error| self.io(error))? {
                let entry = entry.map_err(|error| self.io(error))?;
                if entry.header().entry_type() != EntryType::Link {
                    continue;
                }
                let path = entry.path().map_err(|error| self.io(error))?.into_owned();
                let link = entry.link_name().map_err(|error| self.io(error))?;
                if let (Some(path), Some(target)) = (inside(&path), link.and_then(|l| inside(&l)))
                    && visible.contains(&path)
                    && !visible.contains(&target)
                {
                    renamed.entry(target).or_insert(path);
                }
            }
            let mut archive = Archive::new(self.layer(name)?);
            for entry in archive.entries().map_err(|error| self.io(error))? {
                let mut entry = entry.map_err(|error| self.io(error))?;
                let path = entry.path().map_err(|error| self.io(error))?.into_owned();
                let Some(path) = inside(&path).filter(|path| !path.as_os_str().is_empty()) else {
                    continue;
                };
                let mut header = plain(entry.header());
                let kind = entry.header().entry_type();
                let shown = visible.contains(&path);
                let written = match kind {
                    EntryType::Regular | EntryType::Continuous => {
                        let Some(path) = shown.then_some(&path).or_else(|| renamed.get(&path))
                        else {
                            continue;
                        };
                        header.set_size(entry.size());
                        out.append_data(&mut header, path, &mut entry)
                    }
                    EntryType::Directory if shown => {
                        header.set_size(0);
                        out.append_data(&mut header, &path, io::empty())
                    }
                    EntryType::Symlink | EntryType::Link if shown => {
                        let link = entry.link_name().map_err(|error| self.io(error))?;
                        let Some(link) = link else { continue };
                        let mut link = link.into_owned();
                        if kind == EntryType::Link {
                            let Some(target) = inside(&link) else {
                                continue;
                            };
                            link = match renamed.get(&target) {
                                // This one is the file now.
                                Some(first) if *first == path => continue,
                                Some(first) => first.clone(),
                                None => target,
                            };
                        }
                        header.set_size(0);
                        out.append_link(&mut header, &path, &link)
                    }
                    // Devices and pipes: nothing on a server needs those of an image.
                    _ => continue,
                };
                written.map_err(failed)?;
            }
        }
        self.mount_points(&mut out).map_err(failed)?;
        let mut file = out.into_inner().map_err(failed)?;
        file.flush().map_err(failed)
    }

    /// Where systemd mounts something: the root is read-only by then.
    fn mount_points(&self, out: &mut Builder<BufWriter<File>>) -> io::Result<()> {
        let has = self.paths().unwrap_or_default();
        for dir in MOUNT_POINTS {
            if !has.contains(Path::new(dir)) {
                let mut header = ours(EntryType::Directory, 0o755);
                out.append_data(&mut header, dir, io::empty())?;
            }
        }
        if !has.contains(Path::new("etc/hosts")) {
            let mut header = ours(EntryType::Regular, 0o644);
            out.append_data(&mut header, "etc/hosts", io::empty())?;
        }
        Ok(())
    }

    fn paths(&self) -> Result<HashSet<PathBuf>, BuildError> {
        Ok(self.visible()?.into_iter().flatten().collect())
    }

    /// The unit that runs the image's program. `domain` is only for its description.
    pub fn unit(&self, domain: &str) -> Result<String, BuildError> {
        let config = self.config.config().clone().unwrap_or_default();
        let entrypoint = config.entrypoint().clone().unwrap_or_default();
        let mut command = entrypoint;
        command.extend(config.cmd().clone().unwrap_or_default());
        let Some(program) = command.first_mut() else {
            return Err(self.wrong("it names no program to run (Entrypoint, Cmd)"));
        };
        let environment = config.env().clone().unwrap_or_default();
        let dir = config.working_dir().clone().filter(|dir| !dir.is_empty());
        let dir = dir.unwrap_or_else(|| "/".to_owned());
        *program = self.program(program, &environment, &dir)?;
        let words: Vec<String> = command.iter().map(|word| quoted(word, true)).collect();
        let mut unit = format!(
            "[Unit]\nDescription=Application of {domain}\nAfter=network.target\n\n[Service]\nType=exec\n\
             RootDirectory=/srv/app\nWorkingDirectory={dir}\nExecStart={}\n",
            words.join(" ")
        );
        for variable in &environment {
            unit += &format!("Environment={}\n", quoted(variable, false));
        }
        unit += &self.user(config.user().as_deref().unwrap_or_default())?;
        if let Some(signal) = config.stop_signal() {
            unit += &format!("KillSignal={signal}\n");
        }
        Ok(unit + SANDBOX)
    }

    /// Where the program is that an image names.
    fn program(&self, name: &str, environment: &[String], dir: &str) -> Result<String, BuildError> {
        if name.starts_with('/') {
            return Ok(name.to_owned());
        }
        if name.contains('/') {
            return Ok(Path::new(dir).join(name).display().to_string());
        }
        let path = environment
            .iter()
            .find_map(|variable| variable.strip_prefix("PATH="));
        let paths = self.paths()?;
        let mut candidates = path
            .unwrap_or(PATH)
            .split(':')
            .map(|dir| Path::new(dir).join(name));
        // A directory on the way may be a link, as /bin is.
        let real = |path: &PathBuf| {
            let usr = Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path));
            [path.clone(), usr]
                .iter()
                .any(|path| inside(path).is_some_and(|path| paths.contains(&path)))
        };
        match candidates.find(real) {
            Some(program) => Ok(program.display().to_string()),
            None => Err(self.wrong(format!("its program `{name}` is nowhere in its PATH"))),
        }
    }

    /// Who runs it: users of an image are numbers to the server. Without one, or as root, it is one of systemd's.
    fn user(&self, user: &str) -> Result<String, BuildError> {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        if ["", "0", "root"].contains(&user) {
            return Ok("DynamicUser=yes\n".to_owned());
        }
        let number = |name: &str, file: &str, column: usize| -> Result<String, BuildError> {
            if name.chars().all(|c| c.is_ascii_digit()) {
                return Ok(name.to_owned());
            }
            let text = self.text(Path::new(file))?;
            let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let line = lines.find(|line| line.first() == Some(&name));
            let found = line.and_then(|line| line.get(column).map(|number| (*number).to_owned()));
            found.ok_or_else(|| self.wrong(format!("its {file} does not have `{name}`")))
        };
        let own = number(user, "etc/passwd", 2)?;
        let group = match group {
            "" => match self.text(Path::new("etc/passwd")) {
                Ok(text) => (text.lines().map(|line| line.split(':').collect::<Vec<_>>()))
                    .find(|line| line.get(2) == Some(&own.as_str()))
                    .and_then(|line| Some((*line.get(3)?).to_owned()))
                    .unwrap_or_else(|| own.clone()),
                Err(_) => own.clone(),
            },
            group => number(group, "etc/group", 2)?,
        };
        Ok(format!("User={own}\nGroup={group}\n"))
    }

    /// The text of a file in the tree that the layers make.
    fn text(&self, wanted: &Path) -> Result<String, BuildError> {
        let visible = self.visible()?;
        for (name, visible) in self.layers.iter().zip(&visible).rev() {
            if !visible.contains(wanted) {
                continue;
            }
            let mut archive = Archive::new(self.layer(name)?);
            for entry in archive.entries().map_err(|error| self.io(error))? {
                let mut entry = entry.map_err(|error| self.io(error))?;
                let path = entry.path().map_err(|error| self.io(error))?;
                if inside(&path).as_deref() == Some(wanted) {
                    let mut text = String::new();
                    entry
                        .read_to_string(&mut text)
                        .map_err(|error| self.io(error))?;
                    return Ok(text);
                }
            }
        }
        Err(self.wrong(format!("it has no {}", wanted.display())))
    }
}

/// What layers above hide of those below (OCI image specification, "Representing Changes").
#[derive(Default)]
struct Above {
    /// Every path, and whether it is a directory.
    has: HashMap<PathBuf, bool>,
    gone: HashSet<PathBuf>,
    opaque: HashSet<PathBuf>,
}

impl Above {
    fn hides(&self, path: &Path) -> bool {
        if self.has.contains_key(path) || self.gone.contains(path) {
            return true;
        }
        path.ancestors().skip(1).any(|dir| {
            self.gone.contains(dir)
                || self.opaque.contains(dir)
                || self.has.get(dir) == Some(&false)
        })
    }

    fn add(&mut self, entries: Vec<(PathBuf, bool)>, gone: Vec<Whiteout>) {
        for (path, is_dir) in entries {
            self.has.entry(path).or_insert(is_dir);
        }
        for whiteout in gone {
            match whiteout {
                Whiteout::One(path) => self.gone.insert(path),
                Whiteout::Below(path) => self.opaque.insert(path),
            };
        }
    }
}

/// An entry that says that something of the layers below is not there.
enum Whiteout {
    One(PathBuf),
    Below(PathBuf),
}

impl Whiteout {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_prefix(".wh.")?;
        let dir = path.parent().unwrap_or(Path::new(""));
        Some(match name {
            ".wh..opq" => Self::Below(dir.to_owned()),
            name => Self::One(dir.join(name)),
        })
    }
}

/// A path without `.` and `/` in front; `None` if it leads out.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir => {
                if !inside.pop() {
                    return None;
                }
            }
            Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

/// Owner, mode and kind of an entry; no program is set-user-id, since none may gain anything.
fn plain(entry: &Header) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(entry.entry_type());
    header.set_mode(entry.mode().unwrap_or(0o644) & 0o1777);
    header.set_uid(entry.uid().unwrap_or(0));
    header.set_gid(entry.gid().unwrap_or(0));
    header.set_mtime(0);
    header
}

/// An entry of ours without content.
fn ours(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// A word as systemd reads it.
fn quoted(word: &str, in_command: bool) -> String {
    let mut text = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            '$' if in_command => text.push_str("$$"),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text + "\""
}

struct Hash(Sha256);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const HELP: &str = "name an archive made by `podman save --format oci-archive` or `docker save` of an image for linux/amd64, not compressed";
const MOST_INDICES: usize = 4;
/// Of an image that says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MOUNT_POINTS: [&str; 9] = [
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "var/tmp",
    "var/lib/app",
    "etc",
    "etc/ravelin/tls",
];
/// What the program may do: listen, ask, and write below /var/lib/app and /tmp.
const SANDBOX: &str = "\
MountAPIVFS=yes
BindReadOnlyPaths=/etc/hosts /etc/ravelin/tls
StateDirectory=app
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
";
