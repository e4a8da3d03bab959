//! What the operator's tool and a server say to each other over TLS: one question, one answer.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// How are you?
    State,
    /// The bytes of all parts follow, in the order of the manifest, the root's two only if `root` is there.
    Install(Manifest),
    /// Start again, into what was installed.
    Reboot,
    /// The bytes of a new identity follow, which differs from the present one in certificates only: they are used at once, and
    /// from the next boot on.
    Renew(Part),
}

/// What is going to be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the root, as on the kernel's command line.
    pub root_hash: String,
    /// The root and its hashes; absent if the server has that root in use.
    pub root: Option<[Part; 2]>,
    /// The kernel image.
    pub kernel: Part,
    /// The signed identity.
    pub identity: Part,
}

/// Some bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How many.
    pub length: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub server: String,
    /// Its role.
    pub role: String,
    /// Number of the version that runs.
    pub version: u32,
    /// Whether that has yet to prove itself.
    pub trial: bool,
    /// Hash of the root that runs.
    pub root_hash: String,
    /// SHA-256 of its kernel image and its identity.
    pub kernel: [u8; 32],
    /// SHA-256 of its identity.
    pub identity: [u8; 32],
    /// What does not serve; nothing if all is well.
    pub ailing: Vec<String>,
    /// A version that was given up, and why.
    pub failed: Option<(u32, String)>,
}

/// An answer; the error is for a person.
pub type Answer<T> = Result<T, String>;

/// Sends a message.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Receives a message.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > LONGEST {
        return Err(io::Error::other("a message is longer than any"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

const LONGEST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let mut bytes = Vec::new();
        let (sent, said) = (Request::Reboot, Answer::<()>::Err("no".to_owned()));
        send(&mut bytes, &sent).unwrap();
        send(&mut bytes, &said).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(receive::<Request>(&mut from).unwrap(), sent);
        assert_eq!(receive::<Answer<()>>(&mut from).unwrap(), said);
        assert!(receive::<Request>(&mut from).is_err());
        assert!(receive::<Request>(&mut [255; 8].as_slice()).is_err());
    }
}
