//! What certificates that exist say.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;

use super::PkiError;
use super::store::broken;

/// Hands the first certificate of a PEM text to `question`.
pub(super) fn inspect<T>(
    path: &Path,
    text: &str,
    question: impl FnOnce(&X509Certificate<'_>) -> T,
) -> Result<T, PkiError> {
    let pem = Pem::iter_from_buffer(text.as_bytes())
        .next()
        .ok_or_else(|| broken(path, "it holds no certificate".to_owned()))?
        .map_err(|error| broken(path, error.to_string()))?;
    let certificate = pem
        .parse_x509()
        .map_err(|error| broken(path, error.to_string()))?;
    Ok(question(&certificate))
}

/// Whether it is good now and for so long.
pub(super) fn fresh(
    certificate: &X509Certificate<'_>,
    now: SystemTime,
    remaining: Duration,
) -> bool {
    let validity = certificate.validity();
    validity.not_before.timestamp() <= seconds(now)
        && seconds(now + remaining) < validity.not_after.timestamp()
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The names that it is for; an empty one for each that is of another kind.
pub(super) fn names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names.map(|name| dns(name).unwrap_or_default()).collect()
}

/// The names that this authority may sign for.
pub(super) fn permitted<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let mut permitted = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::NameConstraints(constraints) = extension.parsed_extension() {
            let trees = constraints.permitted_subtrees.iter().flatten();
            permitted.extend(trees.filter_map(|tree| dns(&tree.base)));
        }
    }
    permitted
}

fn dns<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::DNSName(name) => Some(name),
        _ => None,
    }
}

/// Whether the first certificate of this text signed it.
pub(super) fn is_signed_by(certificate: &X509Certificate<'_>, authority: &str) -> bool {
    let signed = inspect(Path::new("authority"), authority, |authority| {
        certificate.issuer() == authority.subject()
            && (certificate.verify_signature(Some(authority.public_key()))).is_ok()
    });
    signed.unwrap_or(false)
}

/// The certificates and the key of a file that has both.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(text.find("-----BEGIN PRIVATE KEY-----")?)
}

/// The first certificate of a text, and the rest.
pub(super) fn first(text: &str) -> (&str, &str) {
    const END: &str = "-----END CERTIFICATE-----";
    let end = text.find(END).map_or(text.len(), |at| at + END.len());
    let line = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
    text.split_at(line)
}
