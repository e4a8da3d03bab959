//! Who signs the certificates of servers that are checked over TLS.

use crate::{
    error::Problem,
    file::SiteFile,
    plan::{Authority, SiteCertificate},
    read::At,
    service,
    service_file::CheckEntry,
    value::CheckKind,
};

/// The authorities that checks trust, each once, in the order of the services.
pub(crate) fn authorities(file: &SiteFile) -> Vec<Authority> {
    let mut all = Vec::new();
    let entries = service::names(file).filter_map(|name| file.services.get(name));
    for authority in entries.filter_map(|entry| trusted(entry.check.as_ref()?)) {
        if !all.contains(&authority) {
            all.push(authority);
        }
    }
    all
}

/// Whose certificates are good for this check; it has to be over TLS.
pub(crate) fn trust(file: &SiteFile, check: Option<&CheckEntry>) -> policy::Trust {
    let authority = check.and_then(trusted);
    let index = authorities(file)
        .iter()
        .position(|other| Some(other) == authority.as_ref());
    // There are a few at most; `check` reports more.
    let index = index.and_then(|index| u8::try_from(index).ok());
    index.map_or(policy::Trust::Anybody, policy::Trust::Anchor)
}

/// The authority of a check, if it is over TLS and verifies at all.
fn trusted(check: &CheckEntry) -> Option<Authority> {
    let verifies = check.verify.as_ref().is_none_or(|verify| *verify.get_ref());
    let tls = *check.kind.get_ref() == CheckKind::Https;
    (tls && verifies).then(|| match &check.ca {
        Some(path) => Authority::File(path.get_ref().clone()),
        None => Authority::Site,
    })
}

/// The certificate that users see, if the operator has one.
pub(crate) fn site_certificate(file: &SiteFile) -> Option<SiteCertificate> {
    Some(SiteCertificate {
        certificate: file.certificate.as_ref()?.get_ref().clone(),
        key: file.key.as_ref()?.get_ref().clone(),
    })
}

/// Reports a certificate without its key, or the other way round.
pub(crate) fn check_site(file: &SiteFile, problems: &mut Vec<Problem>) {
    let (there, missing) = match (&file.certificate, &file.key) {
        (Some(certificate), None) => (certificate, "key"),
        (None, Some(key)) => (key, "certificate"),
        (Some(_), Some(_)) | (None, None) => return,
    };
    problems.push(
        Problem::new(
            "site::missing_key",
            format!("[site] lacks the `{missing}` that belongs to this"),
        )
        .at(there.span(), "one of two files")
        .help("write both `certificate` and `key`, PEM files beside the site file; or neither, and the tool makes them"),
    );
}

/// Reports a check that names an authority and does not ask for it, and more authorities than an appliance knows.
pub(crate) fn check(
    file: &SiteFile,
    name: &At<String>,
    check: &CheckEntry,
    problems: &mut Vec<Problem>,
) {
    if let (Some(ca), Some(verify)) = (&check.ca, &check.verify)
        && !*verify.get_ref()
    {
        problems.push(
            Problem::new(
                "site::contradiction",
                format!("the check of `{}` trusts everybody", name.get_ref()),
            )
            .at(ca.span(), "who signs its servers' certificates")
            .at(verify.span(), "which nobody looks at")
            .help("remove one of them"),
        );
    }
    let authority = trusted(check);
    if let (Some(Authority::Site), Some(own)) = (&authority, &file.certificate) {
        problems.push(
            Problem::new(
                "site::contradiction",
                format!(
                    "the check of `{}` trusts the site's own authority, which did not sign the site's certificate",
                    name.get_ref()
                ),
            )
            .at(check.kind.span(), "verifies certificates")
            .at(own.span(), "signed by somebody else")
            .help("add `ca = \"FILE\"` to the check: the certificate of who signed that one, a PEM file beside the site file"),
        );
    }
    let all = authorities(file);
    let index = all
        .iter()
        .position(|other| Some(other) == authority.as_ref());
    if let (Some(ca), true) = (&check.ca, index >= Some(policy::MAX_ANCHORS)) {
        problems.push(
            Problem::new(
                "site::too_many_authorities",
                format!("checks trust {} authorities", all.len()),
            )
            .at(ca.span(), "one too many")
            .help(format!(
                "an appliance knows {} at most",
                policy::MAX_ANCHORS
            )),
        );
    }
}
