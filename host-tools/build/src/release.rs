//! The key that signs what makes a server itself. The images of a site's roles hold its public half.

use std::fs;
use std::path::Path;

use identity::{SigningKey, VerifyingKey};

use crate::error::BuildError;
use crate::pki::{self, PkiError};

/// The public key of a site. Both halves are made when there is none; the secret one may be kept elsewhere then.
pub fn public(state: &Path) -> Result<VerifyingKey, BuildError> {
    let path = pki::secret_path(state, PUBLIC);
    match fs::read_to_string(&path) {
        Ok(text) => identity::key(text.trim_end()).ok_or_else(|| broken(&path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = SigningKey::from_bytes(&pki::secret(state, SECRET)?).verifying_key();
            let text = identity::digits(&key) + "\n";
            fs::write(&path, text).map_err(|error| BuildError::io("write", &path, error))?;
            Ok(key)
        }
        Err(error) => Err(BuildError::io("read", &path, error)),
    }
}

/// The secret key, to sign what `server` is.
pub fn secret(state: &Path, server: &str) -> Result<SigningKey, BuildError> {
    let path = pki::secret_path(state, SECRET);
    if !path.exists() {
        return Err(BuildError::NoReleaseKey {
            path,
            server: server.to_owned(),
        });
    }
    let key = SigningKey::from_bytes(&pki::secret(state, SECRET)?);
    if key.verifying_key() != public(state)? {
        return Err(broken(&path));
    }
    Ok(key)
}

fn broken(path: &Path) -> BuildError {
    BuildError::Pki(PkiError::Broken {
        path: path.to_owned(),
        problem: format!("{PUBLIC} and {SECRET} are not the two halves of one key"),
    })
}

const SECRET: &str = "release.key";
const PUBLIC: &str = "release.pub";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_half_is_needed_to_sign_and_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let key = public(dir.path()).unwrap();
        assert_eq!(secret(dir.path(), "lb1").unwrap().verifying_key(), key);

        let path = dir.path().join("pki/release.key");
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(public(dir.path()).unwrap(), key);
        let missing = secret(dir.path(), "lb1").unwrap_err().to_string();
        assert!(missing.contains("is not there to sign"), "{missing}");
        assert!(!path.exists(), "no other key is made in its place");

        fs::write(&path, [&kept[1..], b"\n"].concat()).unwrap();
        assert!(secret(dir.path(), "lb1").is_err());
        let other = [b"f", &kept[1..]].concat();
        let other = if other == kept {
            [b"e", &kept[1..]].concat()
        } else {
            other
        };
        fs::write(&path, other).unwrap();
        let other = secret(dir.path(), "lb1").unwrap_err().to_string();
        assert!(other.contains("not the two halves of one key"), "{other}");
    }
}
