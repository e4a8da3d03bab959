//! Whom a check believes: servers with a certificate that an authority signed for their name, or everybody where somebody
//! has written that down.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use pki_types::{CertificateDer, Der, ServerName, TrustAnchor, UnixTime};
use policy::Anchor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::verify_tls13_signature;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};

use crate::signature::ALGORITHMS;

/// Certificates between a server's and the authority's: what one has to look at should be bounded.
const MAX_INTERMEDIATES: usize = 3;

/// The verifier for servers of this authority, or of none.
pub fn verifier(anchor: Option<&Anchor>, since: u64) -> Arc<dyn ServerCertVerifier> {
    let Some(anchor) = anchor else {
        return Arc::new(Everybody);
    };
    let der = |bytes: &[u8]| Der::from(bytes.to_vec());
    let anchor = TrustAnchor {
        subject: der(&anchor.subject),
        subject_public_key_info: der(&anchor.key),
        name_constraints: (!anchor.constraints.is_empty()).then(|| der(&anchor.constraints)),
    };
    Arc::new(Signed {
        roots: RootCertStore {
            roots: Vec::from([anchor]),
        },
        since: UnixTime::since_unix_epoch(Duration::from_secs(since)),
    })
}

/// Accepts what the authority signed for the name, and what is not out of date.
#[derive(Debug)]
struct Signed {
    roots: RootCertStore,
    /// It is not earlier than that.
    since: UnixTime,
}

impl Signed {
    /// Verifies the chain as of the earliest moment from `since` on at which it may be valid. There is no clock, so a certificate
    /// that was made after `since` is not too young; but what ended before that has ended.
    fn verify_chain(
        &self,
        server: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let mut moment = self.since;
        loop {
            let result = verify_server_cert_signed_by_trust_anchor(
                server,
                &self.roots,
                intermediates,
                moment,
                ALGORITHMS.all,
            );
            let Err(Error::InvalidCertificate(error)) = result else {
                return result;
            };
            moment = match error {
                // Each try is later than the one before, by another certificate's beginning.
                CertificateError::NotValidYetContext { not_before, .. } if not_before > moment => {
                    not_before
                }
                // Somebody else's, who has the same name.
                CertificateError::BadSignature => {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                error => return Err(error.into()),
            };
        }
    }
}

impl ServerCertVerifier for Signed {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() > MAX_INTERMEDIATES {
            return Err(CertificateError::BadEncoding.into());
        }
        let server = ParsedCertificate::try_from(server)?;
        self.verify_chain(&server, intermediates)?;
        verify_server_name(&server, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &ALGORITHMS)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

/// Accepts every certificate, as HAProxy's `check-ssl verify none` does: the question is only whether the server answers.
#[derive(Debug)]
struct Everybody;

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// All that a server may sign with, so that it finds a certificate for us.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Vec::from([
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
        ])
    }
}
