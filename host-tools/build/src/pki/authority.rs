//! Who signs: the root, which signs authorities and nothing else, and one authority below it for each tier.
//!
//! An authority of a tier has two certificates of the same key. The root signed one, for whoever trusts the root. The other,
//! its anchor, it signed itself: servers trust just the anchors of the tiers that they talk to, so that a certificate of
//! another tier is a stranger's, whatever name is in it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PublicKeyData as _,
};
use sha2::{Digest as _, Sha256};
use site::plan::Role;

use super::inspect::{first, fresh, inspect, is_signed_by, permitted, split};
use super::store::{PUBLIC, SECRET, broken, read, write};
use super::{BACKDATE, DAY, LEAF_LIFE, PkiError, make};

/// Long: who trusts it has it from us by hand.
const ROOT_LIFE: Duration = Duration::from_secs(20 * 365 * DAY.as_secs());
pub(super) const TIER_LIFE: Duration = Duration::from_secs(5 * 365 * DAY.as_secs());
/// What expires sooner is replaced as long as the key of the root is here; without it only when leaves would outlive it.
const RENEW_TIER_BEFORE: Duration = Duration::from_secs(365 * DAY.as_secs());

/// For whom an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// For users: the site under its domain.
    Site,
    /// For the servers of a role, among themselves.
    Servers(Role),
    /// For the appliances.
    Appliances,
}

impl Tier {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Servers(role) => role.name(),
            Self::Appliances => "appliances",
        }
    }
}

/// Where authorities are, of which site, and what time it is.
pub(super) struct Place<'a> {
    pub(super) directory: &'a Path,
    pub(super) site: &'a str,
    pub(super) now: SystemTime,
}

/// The root of all authorities. Its key may be elsewhere.
pub(super) struct Root {
    pub(super) certificate: String,
    pub(super) issuer: Option<Issuer<'static, KeyPair>>,
    /// During a rotation: what the former root signed, for those who know that one only.
    pub(super) cross: Option<String>,
    key_path: PathBuf,
}

/// The authority of one tier.
pub(super) struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// What the root signed.
    pub(super) certificate: String,
    /// What is trusted by those who talk to the tier: the anchor, and during a rotation the former one.
    pub(super) anchors: String,
    /// During a rotation: what the former key signed, for those who know its anchor only.
    pub(super) cross: Option<String>,
}

/// Opens the root, and makes it if there never was one.
pub(super) fn root(place: &Place<'_>) -> Result<Root, PkiError> {
    let (directory, site) = (place.directory, place.site);
    let [path, key_path] = [ROOT, ROOT_KEY].map(|name| directory.join(name));
    let old = read(&path)?;
    let key = match read(&key_path)? {
        Some(text) => {
            let key = KeyPair::from_pem(&text);
            Some(key.map_err(|error| broken(&key_path, error.to_string()))?)
        }
        None if old.is_some() => None,
        None if is_old_layout(directory) => {
            return Err(PkiError::OldLayout {
                directory: directory.to_owned(),
            });
        }
        None => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384);
            let key = key.map_err(|cause| make(site, cause))?;
            write(&key_path, &key.serialize_pem(), SECRET)?;
            Some(key)
        }
    };
    let issuer = key.map(|key| Issuer::new(root_params(place, &key), key));
    let certificate = match (old, &issuer) {
        (Some(text), _) => text,
        (None, Some(issuer)) => {
            let made = root_params(place, issuer.key()).self_signed(issuer.key());
            let text = made.map_err(|cause| make(site, cause))?.pem();
            write(&path, &text, PUBLIC)?;
            text
        }
        (None, None) => return Err(broken(&path, "it is missing".to_owned())),
    };
    inspect(&path, &certificate, |certificate| {
        let own = |issuer: &Issuer<'_, KeyPair>| {
            certificate.public_key().raw == issuer.key().subject_public_key_info()
        };
        issuer.as_ref().is_none_or(own)
    })?
    .then_some(())
    .ok_or_else(|| broken(&path, format!("it is not the certificate of {ROOT_KEY}")))?;
    let trusted = directory.join(TRUSTED);
    // It may have lost what a rotation added; what it must have is this.
    if !(read(&trusted)?).is_some_and(|text| text.starts_with(&certificate)) {
        write(&trusted, &certificate, PUBLIC)?;
    }
    Ok(Root {
        cross: read(&directory.join(ROOT_CROSS))?,
        certificate,
        issuer,
        key_path,
    })
}

/// Whether an earlier version made the directory: it had one authority for everything.
pub(super) fn is_old_layout(directory: &Path) -> bool {
    directory.join(OLD_KEY).exists() && !directory.join(ROOT).exists()
}

pub(super) fn root_params(place: &Place<'_>, key: &KeyPair) -> CertificateParams {
    let unlimited = BasicConstraints::Unconstrained;
    params(place, "root", key, unlimited, ROOT_LIFE)
}

/// Opens the authority of a tier that signs for `names`; makes or renews it if need be, which takes the key of the root.
pub(super) fn tier(
    place: &Place<'_>,
    root: &Root,
    tier: Tier,
    names: &[&str],
) -> Result<Authority, PkiError> {
    let paths = Paths::new(place.directory, tier);
    let Some(text) = read(&paths.own)? else {
        let signer = root.signer(tier, "it has none yet")?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        let key = key.map_err(|cause| make(tier.name(), cause))?;
        return establish(place, signer, tier, names, key, "");
    };
    let (certificate, key) =
        split(&text).ok_or_else(|| broken(&paths.own, "it holds no private key".to_owned()))?;
    let key = KeyPair::from_pem(key).map_err(|error| broken(&paths.own, error.to_string()))?;
    let anchors = read(&paths.anchors)?;
    let remaining = match root.issuer {
        Some(_) => RENEW_TIER_BEFORE,
        None => LEAF_LIFE,
    };
    let reason = inspect(&paths.own, certificate, |certificate| {
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(broken(&paths.own, "its key is another's".to_owned()));
        }
        let allowed = permitted(certificate);
        let stranger = names.iter().find(|name| !allowed.contains(name));
        Ok(match stranger {
            Some(stranger) => Some(format!("it may not sign for {stranger} yet")),
            None if !is_signed_by(certificate, &root.certificate) => {
                Some("another root signed it".to_owned())
            }
            None if !fresh(certificate, place.now, remaining) => Some("it expires soon".to_owned()),
            None if anchors.is_none() => Some("its anchor is missing".to_owned()),
            None => None,
        })
    })??;
    let anchors = anchors.unwrap_or_default();
    if let Some(reason) = reason {
        let signer = root.signer(tier, &reason)?;
        return establish(place, signer, tier, names, key, first(&anchors).1);
    }
    Ok(Authority {
        certificate: certificate.to_owned(),
        issuer: Issuer::new(tier_params(place, tier, names, &key), key),
        anchors,
        cross: read(&paths.cross)?,
    })
}

impl Root {
    /// What signs an authority; the key of the root has to be here for that.
    pub(super) fn signer(
        &self,
        tier: Tier,
        reason: &str,
    ) -> Result<&Issuer<'static, KeyPair>, PkiError> {
        self.issuer.as_ref().ok_or_else(|| PkiError::RootIsAway {
            tier: tier.name(),
            reason: reason.to_owned(),
            path: self.key_path.clone(),
        })
    }
}

/// Writes the certificates of an authority with this key, beside former anchors that are still trusted.
pub(super) fn establish(
    place: &Place<'_>,
    signer: &Issuer<'static, KeyPair>,
    tier: Tier,
    names: &[&str],
    key: KeyPair,
    former: &str,
) -> Result<Authority, PkiError> {
    let paths = Paths::new(place.directory, tier);
    let params = tier_params(place, tier, names, &key);
    let certificate = params.signed_by(&key, signer);
    let certificate = certificate.map_err(|cause| make(tier.name(), cause))?.pem();
    let anchor = anchor_params(place, tier, &key).self_signed(&key);
    let anchor = anchor.map_err(|cause| make(tier.name(), cause))?.pem();
    let anchors = anchor + former;
    write(&paths.anchors, &anchors, PUBLIC)?;
    let both = certificate.clone() + &key.serialize_pem();
    write(&paths.own, &both, SECRET)?;
    Ok(Authority {
        issuer: Issuer::new(params, key),
        certificate,
        anchors,
        cross: read(&paths.cross)?,
    })
}

/// What the root signs: good for the names of the tier only, and for no further authority.
pub(super) fn tier_params(
    place: &Place<'_>,
    tier: Tier,
    names: &[&str],
    key: &KeyPair,
) -> CertificateParams {
    let last = BasicConstraints::Constrained(0);
    let mut params = params(place, tier.name(), key, last, TIER_LIFE);
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: (names.iter())
            .map(|name| GeneralSubtree::DnsName((*name).to_owned()))
            .collect(),
        excluded_subtrees: Vec::new(),
    });
    params
}

/// What its peers trust. It stays the same when servers are added: those peers check exact names.
fn anchor_params(place: &Place<'_>, tier: Tier, key: &KeyPair) -> CertificateParams {
    // One further authority: the next key, during a rotation.
    let one = BasicConstraints::Constrained(1);
    params(place, tier.name(), key, one, TIER_LIFE)
}

/// An authority's certificate. The name has a part of the key in it: verifiers look for authorities by name, and two keys must
/// not share one.
fn params(
    place: &Place<'_>,
    name: &str,
    key: &KeyPair,
    depth: BasicConstraints,
    life: Duration,
) -> CertificateParams {
    let hash = Sha256::digest(key.subject_public_key_info());
    let part: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    let name = format!("{} {name} authority {part}", place.site);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(depth);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (place.now - BACKDATE).into();
    params.not_after = (place.now + life).into();
    params
}

/// Where the certificates of a tier are.
pub(super) struct Paths {
    pub(super) own: PathBuf,
    pub(super) anchors: PathBuf,
    pub(super) cross: PathBuf,
}

impl Paths {
    pub(super) fn new(directory: &Path, tier: Tier) -> Self {
        let file = |end: &str| directory.join(TIERS).join(format!("{}{end}", tier.name()));
        Self {
            own: file(".pem"),
            anchors: file(".anchor.pem"),
            cross: file(".cross.pem"),
        }
    }
}

/// Directory of the authorities below the root.
pub(super) const TIERS: &str = "tiers";
/// What users trust: the root's certificate, and during a rotation the former root's.
pub(super) const TRUSTED: &str = "ca.pem";
pub(super) const ROOT: &str = "root.pem";
pub(super) const ROOT_KEY: &str = "root.key";
/// During a rotation: the root's certificate as the former root signed it.
pub(super) const ROOT_CROSS: &str = "root.cross.pem";
/// The key of the one authority of earlier versions.
pub(super) const OLD_KEY: &str = "ca.key";
