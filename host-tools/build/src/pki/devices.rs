//! Keys of appliances. They are made here, handed over to the device, and kept nowhere else: only the authority that signs them is.

use std::path::Path;
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use site::Plan;
use x509_parser::parse_x509_certificate;

use super::authority::{self, Authority, Place, TIERS, Tier};
use super::inspect::{fresh, is_signed_by, names};
use super::leaf::{self, RENEW_BEFORE, Use};
use super::store::create_directory;
use super::{PkiError, lock, make};

/// The authority that signs the appliances of a site.
pub struct Devices(Authority);

/// Opens the authority, and makes it if there is none yet, which takes the root's key.
///
/// # Errors
/// If it has to be made and cannot, or a file of it is broken.
pub fn devices(state: &Path, plan: &Plan) -> Result<Devices, PkiError> {
    let directory = state.join("pki");
    create_directory(&directory.join(TIERS))?;
    let _lock = lock(&directory)?;
    let place = Place {
        directory: &directory,
        site: &plan.name,
        now: SystemTime::now(),
    };
    let root = authority::root(&place)?;
    let names: Vec<&str> = plan.appliances.iter().map(|a| a.name.as_str()).collect();
    authority::tier(&place, &root, Tier::Appliances, &names).map(Devices)
}

impl Devices {
    /// Whether this certificate (DER) is of the appliance, of this authority, and good for a while.
    #[must_use]
    pub fn is_good(&self, appliance: &str, certificate: &[u8]) -> bool {
        let Ok((_, certificate)) = parse_x509_certificate(certificate) else {
            return false;
        };
        fresh(&certificate, SystemTime::now(), RENEW_BEFORE)
            && names(&certificate) == [appliance]
            && is_signed_by(&certificate, &self.0.certificate)
    }

    /// A new certificate and its key (PKCS #8), both DER.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn issue(&self, appliance: &str) -> Result<(Vec<u8>, Vec<u8>), PkiError> {
        let made = leaf::issue(&[appliance], Use::Peer, &self.0, SystemTime::now());
        let (certificate, key) = made.map_err(|cause| make(appliance, cause))?;
        let wrong = |_| make(appliance, rcgen::Error::CouldNotParseCertificate);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(wrong)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(wrong)?;
        Ok((certificate.to_vec(), key.secret_pkcs8_der().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SITE: &str = include_str!("../../../../examples/foobar/site.toml");

    #[test]
    fn a_key_is_handed_over_and_kept_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let boards = site::Boards::new([("zynq7000", 2)]);
        let plan = site::parse("site.toml", SITE, &boards).unwrap();
        let issuer = devices(folder.path(), &plan).unwrap();
        let (certificate, key) = issuer.issue("gw1").unwrap();
        assert!(issuer.is_good("gw1", &certificate));
        assert!(!issuer.is_good("gw2", &certificate), "another's");
        assert!(!issuer.is_good("gw1", &key), "no certificate");
        let other = tempfile::tempdir().unwrap();
        let stranger = devices(other.path(), &plan).unwrap();
        assert!(!stranger.is_good("gw1", &certificate), "another site's");
        // The same authority, opened again.
        let again = devices(folder.path(), &plan).unwrap();
        assert!(again.is_good("gw1", &certificate));
        let (_, other_key) = again.issue("gw1").unwrap();
        assert_ne!(key, other_key);

        let secret = &key[key.len() - 40..];
        let mut todo = vec![folder.path().to_owned()];
        let mut files = 0;
        while let Some(path) = todo.pop() {
            if path.is_dir() {
                todo.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
                continue;
            }
            files += 1;
            let bytes = fs::read(&path).unwrap();
            assert!(
                !bytes.windows(40).any(|window| window == secret),
                "{path:?}"
            );
            let text = String::from_utf8_lossy(&bytes).replace('\n', "");
            let digits = base64(&key);
            assert!(!text.contains(&digits[digits.len() - 48..]), "{path:?}");
        }
        assert!(files >= 3, "the authorities are kept: {files}");
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for piece in bytes.chunks_exact(3) {
            let bits = u32::from(piece[0]) << 16 | u32::from(piece[1]) << 8 | u32::from(piece[2]);
            for shift in [18, 12, 6, 0] {
                text.push(char::from(DIGITS[(bits >> shift & 63) as usize]));
            }
        }
        text
    }
}
