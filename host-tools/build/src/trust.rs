//! What an appliance has to know to verify certificates: the authorities' keys, and a time that it is not earlier than.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use miette::Diagnostic;
use policy::{Anchor, Config};
use rustls_pki_types::CertificateDer;
use site::Plan;
use site::plan::Authority;
use thiserror::Error;
use x509_parser::pem::Pem;
use x509_parser::public_key::PublicKey;

use crate::pki::{self, PkiError};

#[cfg(test)]
mod tests;

/// Why an authority cannot be trusted.
#[derive(Debug, Error, Diagnostic)]
pub enum TrustError {
    /// The site's own could not be opened.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pki(#[from] PkiError),
    /// The file of another is not what the appliances need.
    #[error("{}: {problem}", path.display())]
    #[diagnostic(help(
        "`ca` of a check names a PEM file beside the site file with the one certificate of the authority"
    ))]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Fills in the authorities whose certificates the checks of `plan` believe, and the time `now`. Without checks that verify,
/// nothing is changed.
///
/// # Errors
/// If the certificate of an authority is missing, or of a kind that appliances cannot verify with.
pub fn fill(
    config: &mut Config,
    plan: &Plan,
    state: &Path,
    now: SystemTime,
) -> Result<(), TrustError> {
    for (anchor, authority) in config.anchors.iter_mut().zip(&plan.authorities) {
        let (path, text) = match authority {
            Authority::Site => {
                let pki = pki::open(state, plan)?;
                (pki.ca_path(), Ok(pki.site_anchor().into()))
            }
            Authority::File(path) => {
                let path = state.parent().unwrap_or(state).join(path);
                let text = fs::read(&path).map_err(|error| format!("cannot read it: {error}"));
                (path, text)
            }
        };
        let read = text.and_then(|text| parse(&text));
        *anchor = read.map_err(|problem| TrustError::Authority { path, problem })?;
    }
    if !config.anchors.is_empty() {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        config.made = since.as_secs();
    }
    Ok(())
}

fn parse(text: &[u8]) -> Result<Anchor, String> {
    let certificates: Result<Vec<Pem>, _> = Pem::iter_from_buffer(text).collect();
    let certificates = certificates.map_err(|error| error.to_string())?;
    let [certificate] = &certificates[..] else {
        return Err(format!("it holds {} certificates", certificates.len()));
    };
    let parsed = certificate
        .parse_x509()
        .map_err(|error| error.to_string())?;
    if !parsed.is_ca() {
        return Err("it is not the certificate of an authority".to_owned());
    }
    let key = parsed.public_key();
    let bits = key.parsed().map(|key| match key {
        PublicKey::EC(point) => point.key_size(),
        _ => 0,
    });
    let ed25519 = key.algorithm.algorithm.to_id_string() == ED25519;
    if !ed25519 && !matches!(bits, Ok(256 | 384)) {
        return Err(
            "appliances verify ECDSA with P-256 and P-384, and Ed25519; its key is of another kind"
                .to_owned(),
        );
    }
    let der = CertificateDer::from(&certificate.contents[..]);
    let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|error| error.to_string())?;
    let constraints = anchor.name_constraints.as_ref();
    let long = |_| "its name or its name constraints are too long for an appliance".to_owned();
    Ok(Anchor {
        subject: anchor.subject.as_ref().try_into().map_err(long)?,
        key: (anchor.subject_public_key_info.as_ref())
            .try_into()
            .map_err(long)?,
        constraints: (constraints.map_or(&[][..], |der| der.as_ref()))
            .try_into()
            .map_err(long)?,
    })
}

/// RFC 8410 §3.
const ED25519: &str = "1.3.101.112";
