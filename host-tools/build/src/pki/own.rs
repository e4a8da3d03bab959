//! The certificate that an operator has for the site's domain.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use rcgen::{KeyPair, PublicKeyData as _};
use render::Identity;
use site::Plan;

use super::PkiError;
use super::inspect::{first, inspect, names, seconds};
use super::leaf::RENEW_BEFORE;

/// Reads the operator's certificate, if the site has one; also says what will soon be wrong with it.
pub(super) fn read(
    state: &Path,
    plan: &Plan,
    now: SystemTime,
) -> Result<Option<(Identity, Option<String>)>, PkiError> {
    let Some(files) = &plan.certificate else {
        return Ok(None);
    };
    let beside = state.parent().unwrap_or(state);
    let [path, key_path] = [&files.certificate, &files.key].map(|file| beside.join(file));
    let wrong = |path: &Path, problem: String| PkiError::Own {
        path: path.to_owned(),
        problem,
    };
    let text = |path: &Path| {
        let text = fs::read_to_string(path);
        text.map_err(|error| wrong(path, format!("cannot read it: {error}")))
    };
    let (certificate, key) = (text(&path)?, text(&key_path)?);
    let mode = fs::metadata(&key_path).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        return Err(wrong(&key_path, "others may read this secret".to_owned()));
    }
    let pair = KeyPair::from_pem(&key).map_err(|_| {
        let problem = "not a private key in PKCS #8 (openssl pkcs8 -topk8 -nodes makes it one)";
        wrong(&key_path, problem.to_owned())
    })?;
    let judged = inspect(&path, &certificate, |certificate| {
        if certificate.public_key().raw != pair.subject_public_key_info() {
            return Err(format!("it is not the certificate of {}", files.key));
        }
        let all = names(certificate);
        if !all.iter().any(|name| covers(name, &plan.domain)) {
            let all = all.join(", ");
            return Err(format!("it is not for {} but for {all}", plan.domain));
        }
        let end = certificate.validity().not_after;
        let date = end.to_datetime().date();
        if end.timestamp() <= seconds(now) {
            return Err(format!("it expired on {date}"));
        }
        let soon = end.timestamp() <= seconds(now + RENEW_BEFORE);
        Ok(soon.then(|| format!("{} expires on {date}: put a new one there", path.display())))
    });
    let warning = match judged {
        Ok(Ok(warning)) => warning,
        Ok(Err(problem)) => return Err(wrong(&path, problem)),
        Err(_) => return Err(wrong(&path, "it holds no certificate".to_owned())),
    };
    let alone = first(&certificate).1.trim().is_empty();
    let warning = warning.or_else(|| {
        let text = "holds one certificate: users who do not know who signed it need the ones in between as well";
        alone.then(|| format!("{} {text}", path.display()))
    });
    Ok(Some((Identity { certificate, key }, warning)))
}

/// Whether a name of a certificate, perhaps with `*` in place of the first label, is good for this domain (RFC 6125 §6.4.3).
fn covers(name: &str, domain: &str) -> bool {
    let rest = name.strip_prefix("*.");
    name.eq_ignore_ascii_case(domain)
        || rest.is_some_and(|rest| {
            let tail = domain.split_once('.').map(|(_, tail)| tail);
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(rest))
        })
}
