//! The image of a role: a whole disk that lacks nothing but the identity of a server.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use identity::{BLANK, VerifyingKey};
use serde::{Deserialize, Serialize};
use site::plan::Role;

use crate::boot_keys::BootKeys;
use crate::cache::{Cache, Key};
use crate::error::BuildError;
use crate::layout::{self, ESP_MIB, Layout, MIB};
use crate::recipes::Recipes;
use crate::roots::{Boot, Root};
use crate::spec::{self, RoleSpec};
use crate::trees::Tree;

/// The disk that all servers of a role have in common.
#[derive(Debug)]
pub struct RoleImage {
    keys: BootKeys,
    role: Role,
    id: String,
    recipe: &'static str,
    command_line: String,
    sizes: [u64; layout::PARTITIONS.len()],
    dir: PathBuf,
}

/// `image.json` beside the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    id: String,
    /// Where its partitions lie.
    pub layout: Layout,
    /// Where the room for the identity is, in bytes from the start of the disk.
    pub identity: u64,
    /// Bytes that the compressed root takes.
    pub root: u64,
    /// Bytes that its hashes take.
    pub verity: u64,
    /// Bytes of the kernel image.
    pub kernel: u64,
    /// Hash of the whole root.
    pub root_hash: String,
}

/// What an update of a server consists of, but for its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Hash of the whole root.
    pub root_hash: String,
    /// The role's disk.
    pub disk: PathBuf,
    /// Where the root and its hashes lie on it: offset and length.
    pub root: [(u64, u64); 2],
    /// The kernel image.
    pub kernel: PathBuf,
}

impl RoleImage {
    /// Reads what determines it. It goes to `roles/ROLE/` below `state`, and trusts identities signed by the first of `keys`; the
    /// second one signs what its firmware starts.
    pub fn new(
        state: &Path,
        recipes: &Recipes,
        (command_line, spec): (&str, &RoleSpec),
        keys: (&VerifyingKey, &BootKeys),
        root: &Root,
        boot: &Boot,
        tools: &Tree,
    ) -> Self {
        let role = root.role();
        let name = spec::role_name(role);
        let command_line = format!(
            "{command_line} ravelin.role={name} ravelin.key={}",
            identity::digits(keys.0)
        );
        let sizes = layout::sizes(spec);
        let key = Key::new("role image")
            .with_all(&[
                recipes.pack_image,
                LOADER,
                ENTRY,
                layout::VERSION,
                &command_line,
            ])
            .with_all(&[root.id(), boot.id(), tools.id()])
            .with_all(keys.1.public())
            .with_all(&sizes.map(u64::to_le_bytes))
            .with((ROOM as u64).to_le_bytes());
        Self {
            keys: keys.1.clone(),
            role,
            id: key.id(),
            recipe: recipes.pack_image,
            command_line,
            sizes,
            dir: state.join("roles").join(name),
        }
    }

    /// Whose image it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Hash of all that determines it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the disk is.
    pub fn path(&self) -> PathBuf {
        self.dir.join("disk.raw")
    }

    /// What is known about an existing image, if it is of these inputs.
    pub fn existing(&self) -> Option<Record> {
        let record = fs::read(self.dir.join("image.json")).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let length = fs::metadata(self.path()).ok()?.len();
        let kernel = fs::metadata(self.dir.join("linux.efi")).ok()?.len();
        let whole = length == record.layout.length && kernel == record.kernel;
        (record.id == self.id && whole).then_some(record)
    }

    /// What an update to an existing image consists of.
    pub fn release(&self) -> Result<Release, BuildError> {
        let record = self.existing().ok_or_else(|| BuildError::Unexpected {
            step: format!("image {}", spec::role_name(self.role)),
            message: format!("{} was changed while we built", self.path().display()),
        })?;
        Ok(Release {
            root_hash: record.root_hash,
            disk: self.path(),
            root: [
                (record.layout.offsets[1], record.root),
                (record.layout.offsets[2], record.verity),
            ],
            kernel: self.dir.join("linux.efi"),
        })
    }

    /// Makes it.
    pub fn build(
        &self,
        cache: &Cache,
        root: &Root,
        boot: &Boot,
        base: &Tree,
        tools: &Tree,
    ) -> Result<(), BuildError> {
        let name = spec::role_name(self.role);
        let scratch = cache.scratch(&format!("image-{}", self.id))?;
        let work = scratch.path();
        let sandbox = cache.sandbox();
        let parts = root.dir(cache);
        let hash = parts.join("root.hash");
        let hash =
            fs::read_to_string(&hash).map_err(|error| BuildError::io("read", &hash, error))?;
        let hash = hash.trim();
        let write = |name: &str, bytes: &[u8]| {
            let path = work.join(name);
            fs::write(&path, bytes).map_err(|error| BuildError::io("write", &path, error))
        };
        let length = |path: &Path| {
            let meta = fs::metadata(path).map_err(|error| BuildError::io("read", path, error));
            Ok::<_, BuildError>(meta?.len())
        };
        let contents = ["root.erofs", "root.verity", "var.ext4"].map(|name| parts.join(name));
        let [root_bytes, verity_bytes, var_bytes] = [
            length(&contents[0])?,
            length(&contents[1])?,
            length(&contents[2])?,
        ];
        let [_, root_mib, verity_mib, _, _, var_mib] = self.sizes;
        self.budget("root-a", root_bytes, root_mib)?;
        self.budget("root-verity-a", verity_bytes, verity_mib)?;
        self.budget("var", var_bytes, var_mib)?;

        let line = format!("{} ravelin.roothash={hash}", self.command_line);
        write("cmdline", line.as_bytes())?;
        write("loader.conf", LOADER.as_bytes())?;
        write("entry.conf", ENTRY.as_bytes())?;
        write("identity.cred", &blank())?;
        self.keys.lay_out(work)?;
        let layout = Layout::new(self.sizes);
        write("partitions", layout.script(&self.id).as_bytes())?;
        let [esp, root_a, verity_a, _, _, var] = layout.offsets;
        sandbox
            .inside(&format!("image {name}"), &tools.root(cache), self.recipe)
            .named("ukify")
            .args([sandbox.path(work), sandbox.path(&boot.dir(cache))])
            .args([
                format!("{ESP_MIB}M"),
                self.id[..8].to_owned(),
                layout.length.to_string(),
            ])
            .env("SOURCE_DATE_EPOCH", base.epoch())
            .exchange(&self.keys.secret(name)?)?;
        let kernel = length(&work.join("linux.efi"))?;
        self.budget("esp", 3 * (kernel + ROOM as u64) + 2 * MIB, ESP_MIB)?;

        let disk = work.join("disk.raw");
        let mut identity = 0;
        let mut fill = || {
            let to = File::options().read(true).write(true).open(&disk)?;
            let esp_file = work.join("esp.fat");
            layout::copy_sparse(&File::open(&esp_file)?, &to, esp)?;
            for (offset, content) in [root_a, verity_a, var].into_iter().zip(&contents) {
                layout::copy_sparse(&File::open(content)?, &to, offset)?;
            }
            identity = esp + find(&fs::read(esp_file)?, &blank())?;
            Ok(())
        };
        fill().map_err(|error| BuildError::io("write", &disk, error))?;
        let record = Record {
            id: self.id.clone(),
            layout,
            identity,
            root: root_bytes,
            verity: verity_bytes,
            kernel,
            root_hash: hash.to_owned(),
        };
        let (dir, record_file) = (&self.dir, self.dir.join("image.json"));
        fs::create_dir_all(dir).map_err(|error| BuildError::io("create", dir, error))?;
        forget(&record_file)?;
        install(&work.join("linux.efi"), &dir.join("linux.efi"))?;
        install(&disk, &self.path())?;
        remember(&record_file, &record)
    }

    fn budget(&self, partition: &'static str, need: u64, mib: u64) -> Result<(), BuildError> {
        if need <= mib * MIB {
            return Ok(());
        }
        Err(BuildError::Budget {
            role: spec::role_name(self.role),
            partition,
            need: need.div_ceil(MIB),
            have: mib,
        })
    }
}

/// What an image has where the identity of a server goes: nothing yet.
fn blank() -> Vec<u8> {
    let mut bytes = BLANK.to_vec();
    bytes.resize(ROOM, 0);
    bytes
}

/// Where `part` stands in a file system, on a boundary of its sectors.
fn find(fat: &[u8], part: &[u8]) -> io::Result<u64> {
    let at = fat
        .chunks(512)
        .position(|sector| sector.starts_with(BLANK))
        .map(|sector| sector * 512);
    // A file that was written to an empty file system is in one piece.
    at.filter(|&at| fat[at..].starts_with(part))
        .map(|at| at as u64)
        .ok_or_else(|| io::Error::other("the room for the identity is not in one piece"))
}

/// Puts a finished file in its place, by rename.
fn install(file: &Path, target: &Path) -> Result<(), BuildError> {
    let temporary = target.with_extension("new");
    let failed = |error| BuildError::io("write", target, error);
    match fs::rename(file, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            layout::copy_to_new(file, &temporary).map_err(failed)?;
        }
        other => other.map_err(failed)?,
    }
    fs::rename(&temporary, target).map_err(failed)
}

/// Removes the record of what is about to change.
pub fn forget(record: &Path) -> Result<(), BuildError> {
    match fs::remove_file(record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BuildError::io("write", record, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes the record of what is finished.
pub fn remember(path: &Path, record: &impl Serialize) -> Result<(), BuildError> {
    let text = serde_json::to_vec_pretty(record).expect("strings and numbers serialise");
    let temporary = path.with_extension("new");
    fs::write(&temporary, text).map_err(|error| BuildError::io("write", &temporary, error))?;
    fs::rename(&temporary, path).map_err(|error| BuildError::io("write", path, error))
}

/// Most that an identity takes.
pub const ROOM: usize = 256 << 10;
/// Nobody is asked anything at boot, and nothing but our own entries is started. A firmware without keys takes the site's only when
/// somebody wants that: systemd-boot would do it by itself in virtual machines, and start them anew.
const LOADER: &str =
    "timeout 0\neditor no\nauto-entries no\nauto-firmware no\nsecure-boot-enroll manual\n";
/// The first entry. Those of updates have higher versions, and counters in their names until they have proved themselves.
const ENTRY: &str = "title Ravelin\nsort-key ravelin\nversion 1\nefi /EFI/ravelin/1/linux.efi\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_found_only_whole() {
        let mut fat = vec![0; 3 * 512];
        fat.extend_from_slice(&blank());
        fat.extend_from_slice(&[0; 512]);
        assert_eq!(find(&fat, &blank()).unwrap(), 3 * 512);
        fat[4 * 512] = 1;
        assert!(find(&fat, &blank()).is_err());
        assert!(find(&fat[..3 * 512], &blank()).is_err());
    }
}
