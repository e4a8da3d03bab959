//! Somebody who signs the certificates of servers in tests.

#![forbid(unsafe_code)]

use policy::Anchor;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, SignatureAlgorithm,
};

/// A certificate authority.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One that nobody knows yet.
    ///
    /// # Panics
    /// Without randomness.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// What checks need to trust it.
    ///
    /// # Panics
    /// If its key is of a kind that is not trusted.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        let anchor = webpki::anchor_from_trusted_cert(self.certificate.der()).expect("an anchor");
        Anchor {
            subject: anchor.subject.iter().copied().collect(),
            key: anchor.subject_public_key_info.iter().copied().collect(),
            ..Anchor::default()
        }
    }

    /// A certificate for the name, changed before it is signed, and its key.
    ///
    /// # Panics
    /// If the name is none.
    pub fn issue(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (Certificate, KeyPair) {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate, key)
    }
}
