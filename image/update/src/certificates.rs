//! New certificates for a server that runs: of its new identity, nothing else may differ.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use identity::Identity;

/// What is replaced while a server runs. Whoever reads these files is told (`ravelin-certificates.path`).
pub const PLACE: &str = "/etc/ravelin/tls/";

/// Refuses a new identity that differs in more than certificates: all else is read when a server boots.
pub fn differ_only(old: &Identity, new: &Identity) -> Result<(), String> {
    let rest = |identity: &Identity| {
        let files = identity.files.iter();
        let files = files.filter(|file| !file.path.starts_with(PLACE));
        files
            .map(|file| (file.path.clone(), (file.mode, file.bytes.clone())))
            .collect::<BTreeMap<_, _>>()
    };
    let (old, new) = (rest(old), rest(new));
    let mut paths = old.keys().chain(new.keys());
    match paths.find(|path| old.get(*path) != new.get(*path)) {
        Some(path) => Err(format!("{path} has changed too, which needs an update")),
        None => Ok(()),
    }
}

/// Puts the certificates of an identity below `root`, each in one step; says how many are new.
pub fn lay(root: &Path, new: &Identity) -> io::Result<usize> {
    let mut changed = 0;
    let certificates = (new.files.iter()).filter(|file| file.path.starts_with(PLACE));
    for file in certificates {
        let path = root.join(file.path.trim_start_matches('/'));
        if fs::read(&path).is_ok_and(|old| old == file.bytes) {
            continue;
        }
        let temporary = path.with_added_extension("new");
        let _ = fs::remove_file(&temporary);
        let mut to = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        to.write_all(&file.bytes)?;
        // Who could read the old one can read the new one.
        let mode = match fs::metadata(&path) {
            Ok(old) => {
                fchown(&to, Some(old.uid()), Some(old.gid()))?;
                old.mode() & 0o7777
            }
            Err(_) => file.mode,
        };
        to.set_permissions(Permissions::from_mode(mode))?;
        fs::rename(temporary, path)?;
        changed += 1;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_replaced_and_nothing_else() {
        let identity = |files: &[(&str, &str)]| Identity {
            role: "nginx".to_owned(),
            server: "web1".to_owned(),
            files: (files.iter())
                .map(|(path, text)| identity::File {
                    path: (*path).to_owned(),
                    mode: 0o640,
                    bytes: text.as_bytes().to_vec(),
                })
                .collect(),
        };
        let (server, trust) = (
            "/etc/ravelin/tls/server.pem",
            "/etc/ravelin/tls/trust-app.pem",
        );
        let old = identity(&[("/etc/hostname", "web1"), (server, "old"), (trust, "same")]);
        let new = identity(&[("/etc/hostname", "web1"), (server, "new"), (trust, "same")]);
        assert_eq!(differ_only(&old, &new), Ok(()));
        for other in [
            identity(&[("/etc/hostname", "web2"), (server, "new")]),
            identity(&[(server, "new")]),
            identity(&[("/etc/hostname", "web1"), ("/etc/ravelin/tlsx", "")]),
        ] {
            assert!(differ_only(&old, &other).is_err());
        }

        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("etc/ravelin/tls");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("server.pem"), "old").unwrap();
        fs::set_permissions(place.join("server.pem"), Permissions::from_mode(0o440)).unwrap();
        assert_eq!(lay(root.path(), &new).unwrap(), 2);
        assert_eq!(lay(root.path(), &new).unwrap(), 0);
        assert_eq!(fs::read(place.join("server.pem")).unwrap(), b"new");
        let mode = |name: &str| fs::metadata(place.join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("server.pem"), mode("trust-app.pem")), (0o440, 0o640));
        assert!(!root.path().join("etc/hostname").exists());
        assert_eq!(
            fs::read_dir(&place).unwrap().count(),
            2,
            "nothing is left over"
        );
    }
}
