//! The operator's half.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::message::{self, Answer, Manifest, Part, Request, State};
use crate::tls::Papers;

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum Failure {
    /// Nobody answers there, or it is somebody else.
    #[error("cannot reach {server} at {address}: {cause}")]
    Unreachable {
        /// The server.
        server: String,
        /// Where it was looked for.
        address: SocketAddr,
        /// What happened.
        cause: String,
    },
    /// The server answers that it will not.
    #[error("{server} refuses: {why}")]
    Refused {
        /// The server.
        server: String,
        /// Its words.
        why: String,
    },
    /// What is to be installed cannot be read here.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
}

/// How to reach one server.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its name, which is in its certificate.
    pub server: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The operator's papers, and the server's certificate.
    pub papers: Papers,
}

/// Some bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The file.
    pub path: PathBuf,
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// What a server is to run.
#[derive(Clone, Debug)]
pub struct Release {
    /// Of the root.
    pub root_hash: String,
    /// The root and its hashes.
    pub root: [Slice; 2],
    /// The kernel image.
    pub kernel: PathBuf,
    /// The signed identity.
    pub identity: PathBuf,
}

impl Release {
    /// Whether a server in this state runs it.
    pub fn is(&self, state: &State) -> Result<bool, Failure> {
        Ok(state.root_hash == self.root_hash
            && state.kernel == whole(&self.kernel)?.1.sha256
            && state.identity == whole(&self.identity)?.1.sha256)
    }
}

impl Remote {
    /// How it is.
    pub fn state(&self) -> Result<State, Failure> {
        self.ask(&Request::State, |_| Ok(()))
    }

    /// Installs a release beside the one that runs; says its version.
    pub fn install(&self, release: &Release, state: &State) -> Result<u32, Failure> {
        let (kernel, identity) = (whole(&release.kernel)?, whole(&release.identity)?);
        let new_root = state.root_hash != release.root_hash;
        let root = match new_root {
            true => Some([part(&release.root[0])?, part(&release.root[1])?]),
            false => None,
        };
        let manifest = Manifest {
            root_hash: release.root_hash.clone(),
            root,
            kernel: kernel.1,
            identity: identity.1,
        };
        self.ask(&Request::Install(manifest), |to| {
            to.write_all(&identity.0)?;
            to.write_all(&kernel.0)?;
            for slice in release.root.iter().filter(|_| new_root) {
                io::copy(&mut open(slice)?, to)?;
            }
            to.flush()
        })
    }

    /// Gives it the certificates of a new identity, while it runs; says how many files are new.
    pub fn renew(&self, identity: &Path) -> Result<usize, Failure> {
        let (bytes, part) = whole(identity)?;
        self.ask(&Request::Renew(part), |to| {
            to.write_all(&bytes)?;
            to.flush()
        })
    }

    /// Starts it again.
    pub fn reboot(&self) -> Result<(), Failure> {
        self.ask(&Request::Reboot, |_| Ok(()))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<T, Failure> {
        let unreachable = |cause: String| Failure::Unreachable {
            server: self.server.clone(),
            address: self.address,
            cause,
        };
        let asked = || -> Result<Answer<T>, String> {
            let text = |error: io::Error| error.to_string();
            let stream = TcpStream::connect_timeout(&self.address, CONNECT).map_err(text)?;
            stream.set_read_timeout(Some(ANSWER)).map_err(text)?;
            stream.set_write_timeout(Some(ANSWER)).map_err(text)?;
            let name = ServerName::try_from(self.server.clone());
            let name = name.map_err(|error| error.to_string())?;
            let tls = ClientConnection::new(self.papers.client()?, name);
            let tls = tls.map_err(|error| error.to_string())?;
            let mut tls = StreamOwned::new(tls, stream);
            message::send(&mut tls, request).map_err(text)?;
            // A server that refuses may stop reading: its answer says why, not our failure to write.
            let sent = body(&mut tls);
            let answer = message::receive(&mut tls);
            match (answer, sent) {
                (Ok(answer), _) => Ok(answer),
                (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error.to_string()),
            }
        };
        let answer = asked().map_err(unreachable)?;
        answer.map_err(|why| Failure::Refused {
            server: self.server.clone(),
            why,
        })
    }
}

fn whole(path: &Path) -> Result<(Vec<u8>, Part), Failure> {
    let bytes = fs::read(path).map_err(|cause| Failure::Read {
        path: path.to_owned(),
        cause,
    })?;
    let part = Part {
        length: bytes.len() as u64,
        sha256: crate::server::sha256(&bytes),
    };
    Ok((bytes, part))
}

fn part(slice: &Slice) -> Result<Part, Failure> {
    let hash = || {
        let mut hash = Sha256::new();
        io::copy(&mut open(slice)?, &mut hash)?;
        Ok(hash.finalize().into())
    };
    let sha256 = hash().map_err(|cause| Failure::Read {
        path: slice.path.clone(),
        cause,
    })?;
    Ok(Part {
        length: slice.length,
        sha256,
    })
}

fn open(slice: &Slice) -> io::Result<impl Read + use<>> {
    let mut file = File::open(&slice.path)?;
    file.seek(SeekFrom::Start(slice.offset))?;
    Ok(file.take(slice.length))
}

const CONNECT: Duration = Duration::from_secs(10);
/// A slow disk is written, and read again, before an update is answered.
const ANSWER: Duration = Duration::from_secs(600);
