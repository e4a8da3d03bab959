//! The certificates that servers show.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use render::Identity;
use site::plan::{Role, Server};

use super::authority::Authority;
use super::inspect::{first, fresh, inspect, is_signed_by, names, split};
use super::store::{SECRET, broken, read, write};
use super::{BACKDATE, DAY, LEAF_LIFE, PkiError, make};

/// What expires sooner than this is replaced.
pub(super) const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY.as_secs());
/// Directory of the servers' own certificates.
pub(super) const SERVERS: &str = "servers";
/// What users see.
pub(super) const SITE: &str = "site.pem";

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// To be asked.
    Server,
    /// To ask.
    Client,
    /// Both, where a program has one certificate for both (the database's cluster).
    Peer,
}

impl Use {
    /// What a server of this role has.
    pub(super) fn of(role: Role) -> &'static [Self] {
        match role {
            Role::Haproxy | Role::Nginx | Role::App => &[Self::Server, Self::Client],
            Role::Db | Role::Monitor => &[Self::Server, Self::Client, Self::Peer],
        }
    }

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }

    /// The names of a server's certificate. Who connects to any server of a role, whichever has time, can only ask for the
    /// role; everybody else asks for the server.
    pub(super) fn names(self, server: &Server) -> Vec<&str> {
        match self {
            Self::Server => vec![&server.name, server.role.name()],
            Self::Client | Self::Peer => vec![&server.name],
        }
    }

    fn extended(self) -> Vec<ExtendedKeyUsagePurpose> {
        let (server, client) = (
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        match self {
            Self::Server => vec![server],
            Self::Client => vec![client],
            Self::Peer => vec![server, client],
        }
    }
}

/// Where a server's certificate for one use is.
pub(super) fn path(directory: &Path, server: &str, purpose: Use) -> PathBuf {
    let file = format!("{server}.{}.pem", purpose.name());
    directory.join(SERVERS).join(file)
}

/// The certificate and key for these names in `path`, new ones if need be. One file holds both, so that they always
/// belong together.
pub(super) fn open(
    path: &Path,
    own: &[&str],
    purpose: Use,
    authority: &Authority,
    now: SystemTime,
) -> Result<Identity, PkiError> {
    if let Some(text) = read(path)? {
        let good = inspect(path, &text, |certificate| {
            fresh(certificate, now, RENEW_BEFORE)
                && names(certificate) == own
                && is_signed_by(certificate, &authority.certificate)
        })?;
        let (certificate, key) =
            split(&text).ok_or_else(|| broken(path, "it holds no private key".to_owned()))?;
        if good {
            return Ok(authority.identity(certificate, key));
        }
    }
    let (certificate, key) =
        issue(own, purpose, authority, now).map_err(|cause| make(&own.join(", "), cause))?;
    write(path, &format!("{certificate}{key}"), SECRET)?;
    Ok(authority.identity(&certificate, &key))
}

impl Authority {
    /// A certificate with those that lead to what its peers trust: the root, an anchor, or a former anchor.
    fn identity(&self, certificate: &str, key: &str) -> Identity {
        let own = first(certificate).0;
        let cross = self.cross.as_deref().unwrap_or_default();
        Identity {
            certificate: format!("{own}{}{cross}", self.certificate),
            key: key.to_owned(),
        }
    }
}

pub(super) fn issue(
    own: &[&str],
    purpose: Use,
    authority: &Authority,
    now: SystemTime,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let names: Vec<String> = own.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    let common = own.first().copied().unwrap_or_default();
    params.distinguished_name.push(DnType::CommonName, common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purpose.extended();
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + LEAF_LIFE).into();
    let certificate = params.signed_by(&key, &authority.issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
