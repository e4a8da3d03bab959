//! What makes a server itself: the files that differ between servers of a role, in one archive signed by the site.
//!
//! The archive lies outside of what dm-verity covers: beside a kernel image in the EFI partition, on a stick, or in a
//! virtual machine's firmware configuration. Whoever can write there can put back an older archive, or that of another
//! server of the role, and nothing else: the public key is in the role's kernel image. It is signed, not encrypted.

#![forbid(unsafe_code)]

use ed25519_dalek::{Signature, Signer as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use ed25519_dalek::{SigningKey, VerifyingKey};

/// The files of one server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Role of the server; images of other roles refuse it.
    pub role: String,
    /// Name of the server.
    pub server: String,
    /// What is laid over the root.
    pub files: Vec<File>,
}

/// One file of a server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute path on the server, below `/etc`.
    pub path: String,
    /// Permission bits; the owner is root.
    pub mode: u32,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Why an archive is not used; reads after "the identity".
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// It does not begin as one does.
    #[error("is not one: it does not begin with its mark")]
    Mark,
    /// It ends early, or claims to be larger than any.
    #[error("is damaged: its length is wrong")]
    Length,
    /// It was signed by another key.
    #[error("is of another site: it is signed by key {found}, not by {expected}")]
    OtherSite {
        /// First digits of the key that it names.
        found: String,
        /// Those of the key that we trust.
        expected: String,
    },
    /// A byte is not as it was when it was signed.
    #[error("is damaged: its signature does not match")]
    Signature,
    /// The signature is right, but we do not understand what was signed.
    #[error("was made by another version of ravelin")]
    Content,
    /// It belongs to a server of another role.
    #[error("is that of {server}, whose role is {found}, not {expected}")]
    OtherRole {
        /// The server.
        server: String,
        /// Its role.
        found: String,
        /// The role of this image.
        expected: String,
    },
    /// A file would be where an identity must not reach.
    #[error("holds {path}: {why}")]
    Path {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Identity {
    /// The signed archive: the same bytes for the same files.
    pub fn seal(&self, key: &SigningKey) -> Result<Vec<u8>, Problem> {
        check(&self.files)?;
        let body = postcard::to_allocvec(self).map_err(|_| Problem::Content)?;
        let length = u32::try_from(body.len()).map_err(|_| Problem::Length)?;
        if body.len() > MAX {
            return Err(Problem::Length);
        }
        let mut archive = MARK.to_vec();
        archive.extend_from_slice(&length.to_le_bytes());
        archive.extend_from_slice(key.verifying_key().as_bytes());
        let signed = [archive.as_slice(), &body].concat();
        archive.extend_from_slice(&key.sign(&signed).to_bytes());
        archive.extend_from_slice(&body);
        Ok(archive)
    }

    /// Opens an archive for a server of `role`, if `key` has signed it. Bytes after its end do not count.
    pub fn open(archive: &[u8], key: &VerifyingKey, role: &str) -> Result<Self, Problem> {
        let end = length(archive)?;
        let archive = archive.get(..end).ok_or(Problem::Length)?;
        let (start, rest) = archive.split_at(SIGNATURE);
        let (signature, body) = rest.split_at(HEADER - SIGNATURE);
        let signer = &start[KEY..];
        if signer != key.as_bytes() {
            return Err(Problem::OtherSite {
                found: short(signer),
                expected: short(key.as_bytes()),
            });
        }
        let signature = Signature::from_slice(signature).map_err(|_| Problem::Signature)?;
        let signed = [start, body].concat();
        key.verify_strict(&signed, &signature)
            .map_err(|_| Problem::Signature)?;
        let identity: Self = postcard::from_bytes(body).map_err(|_| Problem::Content)?;
        if identity.role != role {
            return Err(Problem::OtherRole {
                server: identity.server,
                found: identity.role,
                expected: role.to_owned(),
            });
        }
        check(&identity.files)?;
        Ok(identity)
    }
}

/// Length of the archive that begins with these bytes, of which [`HEADER`] are enough.
pub fn length(start: &[u8]) -> Result<usize, Problem> {
    if !start.starts_with(MARK) {
        return Err(Problem::Mark);
    }
    let length = start.get(MARK.len()..KEY).ok_or(Problem::Length)?;
    let length = length.try_into().map_err(|_| Problem::Length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| Problem::Length)?;
    if length > MAX {
        return Err(Problem::Length);
    }
    Ok(HEADER + length)
}

/// Reads a public key as the kernel's command line has it: 64 hexadecimal digits.
pub fn key(digits: &str) -> Option<VerifyingKey> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    VerifyingKey::from_bytes(&bytes).ok()
}

/// A public key as [`key`] reads it.
pub fn digits(key: &VerifyingKey) -> String {
    hex(key.as_bytes())
}

/// Whether an identity may have these files.
fn check(files: &[File]) -> Result<(), Problem> {
    for (index, file) in files.iter().enumerate() {
        let wrong = |why| Problem::Path {
            path: file.path.clone(),
            why,
        };
        let name = (file.path.strip_prefix("/etc/"))
            .ok_or_else(|| wrong("only files below /etc differ between servers of a role"))?;
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("the path is not in its simplest form"));
        }
        if NEVER.iter().any(|never| name.starts_with(never)) {
            return Err(wrong(
                "accounts and what is loaded into every program belong to the image",
            ));
        }
        if file.mode & !0o777 != 0 {
            return Err(wrong("only permission bits can be set"));
        }
        let inside = |other: &File| {
            let rest = other.path.strip_prefix(&file.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if (files.iter().enumerate()).any(|(at, other)| at != index && inside(other)) {
            return Err(wrong("it is there twice"));
        }
    }
    Ok(())
}

fn short(key: &[u8]) -> String {
    hex(&key[..4])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How an archive begins; the number changes with its format.
pub const MARK: &[u8] = b"ravelin identity 1\n";
/// How the room for an archive begins where none was written.
pub const BLANK: &[u8] = b"ravelin identity 0: none was written here\n";
const KEY: usize = MARK.len() + 4;
const SIGNATURE: usize = KEY + 32;
/// Length of what stands before the files.
pub const HEADER: usize = SIGNATURE + 64;
/// Far above what any server has; bounds what the boot reads into memory.
const MAX: usize = 16 << 20;
/// What an identity never brings, below `/etc`: a stolen key must not be enough to log in or to run code in every program.
const NEVER: &[&str] = &[
    "passwd", "group", "shadow", "gshadow", "subuid", "subgid", "sudoers", "ld.so.", "pam.d/",
];

#[cfg(test)]
mod tests;
