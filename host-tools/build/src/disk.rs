//! The disk of one server: the image of its role with its identity.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::Key;
use crate::error::BuildError;
use crate::host::Host;
use crate::layout;
use crate::role_image::{self, ROOM, RoleImage};

/// The disk image of one server.
pub struct Disk<'a> {
    server: &'a str,
    image: &'a RoleImage,
    host: &'a Host,
    dir: PathBuf,
}

/// Sizes in bytes of what a server's image consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The whole disk, as the server sees it before it grows.
    pub disk: u64,
    /// The compressed root.
    pub root: u64,
    /// The kernel image.
    pub kernel: u64,
}

/// `image.json` beside the disk.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Of the role's image.
    image: String,
    /// Of all.
    id: String,
    sizes: Sizes,
}

impl<'a> Disk<'a> {
    /// A disk that goes to `images/SERVER/disk.raw` below `state`.
    pub fn new(state: &Path, server: &'a str, image: &'a RoleImage, host: &'a Host) -> Self {
        Self {
            server,
            image,
            host,
            dir: state.join("images").join(server),
        }
    }

    /// Where the disk is.
    pub fn path(&self) -> PathBuf {
        self.dir.join("disk.raw")
    }

    /// The sizes of an existing disk, if it is of these inputs.
    pub fn existing(&self) -> Option<Sizes> {
        let record = self.record()?;
        (record.id == self.id()).then_some(record.sizes)
    }

    /// Makes it: of the role's image, or of an earlier disk that was made of the same one.
    pub fn build(&self) -> Result<(), BuildError> {
        let archive = self.host.archive()?;
        if archive.len() > ROOM {
            return Err(BuildError::LargeIdentity {
                server: self.server.to_owned(),
                need: archive.len() >> 10,
                have: ROOM >> 10,
            });
        }
        let image = self.image.existing();
        let image = image.ok_or_else(|| BuildError::Unexpected {
            step: format!("image {}", self.server),
            message: format!("{} was changed while we built", self.image.path().display()),
        })?;
        let path = self.path();
        let failed = |error| BuildError::io("write", &path, error);
        let same = self
            .record()
            .is_some_and(|record| record.image == self.image.id());
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let record = self.dir.join("image.json");
        role_image::forget(&record)?;
        if !same {
            let temporary = self.dir.join("disk.raw.new");
            layout::copy_to_new(&self.image.path(), &temporary)
                .and_then(|()| fs::rename(&temporary, &path))
                .map_err(failed)?;
        }
        write_identity(&path, image.identity, archive).map_err(failed)?;
        role_image::remember(
            &record,
            &Record {
                image: self.image.id().to_owned(),
                id: self.id(),
                sizes: Sizes {
                    disk: image.layout.length,
                    root: image.root,
                    kernel: image.kernel,
                },
            },
        )
    }

    fn id(&self) -> String {
        Key::new("disk")
            .with_all(&[self.image.id(), self.host.id()])
            .id()
    }

    /// The record of a disk that is there as it was made.
    fn record(&self) -> Option<Record> {
        let record = fs::read(self.dir.join("image.json")).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let length = fs::metadata(self.path()).ok()?.len();
        (length == record.sizes.disk).then_some(record)
    }
}

/// Fills the room for the identity; from then on the disk holds secrets.
fn write_identity(disk: &Path, offset: u64, mut archive: Vec<u8>) -> io::Result<()> {
    archive.resize(ROOM, 0);
    let disk = File::options().write(true).open(disk)?;
    disk.set_permissions(fs::Permissions::from_mode(0o600))?;
    disk.write_all_at(&archive, offset)
}
