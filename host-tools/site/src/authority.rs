//! Who signs the certificates of servers that are checked over TLS.

use crate::{
    error::Problem, file::SiteFile, plan::Authority, read::At, service, service_file::CheckEntry,
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
