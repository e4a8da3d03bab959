//! What makes one server itself: `hosts/SERVER/identity.cred` in the site's state directory.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use identity::{Identity, VerifyingKey};
use render::server::HostFile;
use site::plan::Server;

use crate::cache::Key;
use crate::error::BuildError;
use crate::{release, role_image, spec};

/// The identity of one server.
pub struct Host {
    identity: Identity,
    id: String,
    state: PathBuf,
}

impl Host {
    /// Reads what determines it. It is signed by the key whose public half is `key`.
    pub fn new(state: &Path, server: &Server, files: &[HostFile], key: &VerifyingKey) -> Self {
        let file = |file: &HostFile| identity::File {
            path: file.path.clone(),
            mode: file.mode,
            bytes: file.bytes.clone(),
        };
        let mut files: Vec<_> = files.iter().map(file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let role = spec::role_name(server.role);
        let mut id = Key::new("identity")
            .with(identity::MARK)
            .with(key.as_bytes())
            .with_all(&[role, &server.name]);
        for file in &files {
            id = id
                .with(&file.path)
                .with(file.mode.to_le_bytes())
                .with(&file.bytes);
        }
        Self {
            identity: Identity {
                role: role.to_owned(),
                server: server.name.clone(),
                files,
            },
            id: id.id(),
            state: state.to_owned(),
        }
    }

    /// Hash of all that determines it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.dir().join("identity.cred")
    }

    /// The signed archive; signs it if that has not been done for these very files.
    pub fn archive(&self) -> Result<Vec<u8>, BuildError> {
        let (path, record) = (self.path(), self.dir().join("id"));
        if fs::read_to_string(&record).is_ok_and(|id| id == self.id) {
            match fs::read(&path) {
                Ok(archive) if identity::length(&archive) == Ok(archive.len()) => {
                    return Ok(archive);
                }
                Ok(_) | Err(_) => {}
            }
        }
        let archive = self.sign()?;
        let dir = self.dir();
        fs::create_dir_all(&dir).map_err(|error| BuildError::io("create", &dir, error))?;
        role_image::forget(&record)?;
        write_secret(&path, &archive).map_err(|error| BuildError::io("write", &path, error))?;
        fs::write(&record, &self.id).map_err(|error| BuildError::io("write", &record, error))?;
        Ok(archive)
    }

    fn sign(&self) -> Result<Vec<u8>, BuildError> {
        let server = &self.identity.server;
        let key = release::secret(&self.state, server)?;
        let archive = self.identity.seal(&key);
        archive.map_err(|problem| BuildError::Identity {
            server: server.clone(),
            problem,
        })
    }

    fn dir(&self) -> PathBuf {
        self.state.join("hosts").join(&self.identity.server)
    }
}

/// What makes a server itself if it has these files, signed by the site.
pub fn identity(state: &Path, server: &Server, files: &[HostFile]) -> Result<Vec<u8>, BuildError> {
    Host::new(state, server, files, &release::public(state)?).sign()
}

/// Replaces a file that is nobody else's business.
fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    fs::rename(new, path)
}
