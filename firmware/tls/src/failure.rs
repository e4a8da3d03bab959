//! What went wrong, in the words of a check.

use health::{Flaw, Reason};
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// The reason of a check that ended with this error. A server may tell us of a version that it does not have by its hello or
/// by an alert.
pub fn reason(error: &Error) -> Reason {
    match error {
        Error::InvalidCertificate(error) => Reason::Certificate(flaw(error)),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => Reason::TlsVersion,
        // One that has neither our curve nor our ciphers, or no certificate with a key that we can verify.
        Error::AlertReceived(AlertDescription::HandshakeFailure) => Reason::TlsVersion,
        _ => Reason::Tls,
    }
}

fn flaw(error: &CertificateError) -> Flaw {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Flaw::Name
        }
        CertificateError::UnknownIssuer => Flaw::Issuer,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        // Made later than another of its chain ended.
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Flaw::Expired,
        _ => Flaw::Other,
    }
}
