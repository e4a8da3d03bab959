//! By what operators know that they talk to the right server: SSH host keys, which are secrets of servers like any others.

use std::fs;
use std::path::{Path, PathBuf};

use site::Plan;
use site::plan::Server;
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

use crate::error::BuildError;
use crate::pki;

/// The key of a server's SSH daemon, as OpenSSH writes it.
#[derive(Debug)]
pub(crate) struct HostKey {
    /// For the server alone.
    pub(crate) private: String,
    /// For everybody.
    pub(crate) public: String,
}

/// The host key of a server, which is made once.
pub(crate) fn host_key(state: &Path, server: &Server) -> Result<HostKey, BuildError> {
    let seed = pki::secret(state, &format!("ssh-{}.key", server.name))?;
    let encoded = || {
        let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        key.set_comment(server.name.as_str());
        Ok(HostKey {
            private: key.to_openssh(LineEnding::LF)?.to_string(),
            public: key.public_key().to_openssh()?,
        })
    };
    encoded().map_err(|error: ssh_key::Error| BuildError::Unexpected {
        step: format!("SSH host key of {}", server.name),
        message: error.to_string(),
    })
}

/// Writes by what `ssh` knows the servers, for its `UserKnownHostsFile`; nothing if nobody logs in.
///
/// # Errors
/// If the keys cannot be made, or the file not be written.
pub fn write_known_hosts(state: &Path, plan: &Plan) -> Result<Option<PathBuf>, BuildError> {
    if plan.ssh.is_none() {
        return Ok(None);
    }
    let mut text = String::new();
    for server in &plan.servers {
        let names: Vec<String> = [server.name.clone()]
            .into_iter()
            .chain(server.addresses().map(|address| address.to_string()))
            .collect();
        let key = host_key(state, server)?.public;
        text += &format!("{} {key}\n", names.join(","));
    }
    let path = state.join("known_hosts");
    fs::write(&path, text).map_err(|error| BuildError::io("write", &path, error))?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_keep_their_keys_and_operators_know_them() {
        let text = include_str!("../../../examples/foobar/site.toml");
        let boards = site::Boards::new([("zynq7000", 2)]);
        let mut plan = site::parse("site.toml", text, &boards).unwrap();
        let state = tempfile::tempdir().unwrap();
        assert_eq!(write_known_hosts(state.path(), &plan).unwrap(), None);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);

        plan.ssh = Some(site::plan::Ssh {
            keys: Vec::new(),
            from: Vec::new(),
        });
        let path = write_known_hosts(state.path(), &plan).unwrap().unwrap();
        let known = fs::read_to_string(&path).unwrap();
        assert_eq!(known.lines().count(), plan.servers.len());
        let [first, second] = [0, 1].map(|index| {
            let server = &plan.servers[index];
            let key = host_key(state.path(), server).unwrap();
            let again = host_key(state.path(), server).unwrap();
            assert_eq!(key.private, again.private, "an image would be built anew");
            let read = PrivateKey::from_openssh(&key.private).unwrap();
            assert_eq!(read.public_key().to_openssh().unwrap(), key.public);
            let line = format!("{},{} {}\n", server.name, server.address, key.public);
            assert!(known.contains(&line), "{line}{known}");
            key.public
        });
        assert_ne!(first.split(' ').nth(1), second.split(' ').nth(1));
    }
}
