//! Secrets of virtual routers and pairs: those that others know too are in files beside the site file, those that two
//! appliances alone share are made here and kept in the state directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use policy::{Authentication, Config};
use render::server::Mail;
use site::Plan;
use site::plan;
use thiserror::Error;

use crate::error::BuildError;
use crate::payload;
use crate::pki::{self, PkiError};

#[cfg(test)]
mod tests;

/// Why an appliance cannot have its secrets.
#[derive(Debug, Error, Diagnostic)]
pub enum SecretError {
    /// Those of the pair could not be read or made.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pki(#[from] PkiError),
    /// A file beside the site file is not what VRRP or a trap needs.
    #[error("{}: {problem}", path.display())]
    #[diagnostic(help(
        "[vrrp.authentication] and [events] name files beside the site file, for you alone (chmod 600): a community of up to 32 characters, a password of up to 8 characters, or a key as keepalived reads it: 32 to 64 characters, or `hex:` and 64 to 128 hexadecimal digits (openssl rand -hex 32)"
    ))]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Why the monitor cannot be told where to ship to.
#[derive(Debug, Error, Diagnostic)]
#[error("{}: {problem}", path.display())]
#[diagnostic(help(
    "[monitoring.sumo] names a file beside the site file, for you alone (chmod 600), with the URL of Sumo Logic's HTTP source: https://…"
))]
pub struct SinkError {
    path: PathBuf,
    problem: String,
}

/// Fills in what `plan` says about the authentication of adverts, and the keys of the pair.
///
/// # Errors
/// If a file is missing, open to others, or holds something else.
pub fn fill(config: &mut Config, plan: &Plan, state: &Path) -> Result<(), SecretError> {
    for router in &mut config.routers {
        match (&mut router.authentication, &plan.vrrp.authentication) {
            (Authentication::Password(password), plan::Authentication::Password(file)) => {
                *password = self::password(&beside(state, file))?;
            }
            (Authentication::Hmac(hmac), plan::Authentication::Hmac { keys, .. }) => {
                for (key, (_, file)) in hmac.keys.iter_mut().zip(keys) {
                    key.secret = self::key(&beside(state, file))?;
                }
            }
            (Authentication::None | Authentication::Password(_) | Authentication::Hmac(_), _) => {}
        }
    }
    if let Some(file) = &plan.events.community {
        config.events.community = community(&beside(state, file))?;
    }
    if let Some(pair) = &mut config.availability.pair {
        pair.key = pki::secret(state, "pair.key")?;
        pair.operator = pki::secret(state, OPERATOR)?;
    }
    Ok(())
}

/// The key of operators' commands, which was made when the appliances were built; `None` if they never were.
///
/// # Errors
/// If its file cannot be read, or holds something else.
pub fn operator_key(state: &Path) -> Result<Option<[u8; 32]>, SecretError> {
    match pki::secret_path(state, OPERATOR).exists() {
        true => Ok(Some(pki::secret(state, OPERATOR)?)),
        false => Ok(None),
    }
}

const OPERATOR: &str = "operator.key";

fn beside(state: &Path, file: &str) -> PathBuf {
    state.parent().unwrap_or(state).join(file)
}

/// The URL that the monitor ships to; who knows it can write there.
///
/// # Errors
/// If its file is missing, open to others, or holds something else.
pub fn url(state: &Path, file: &str) -> Result<String, SinkError> {
    let path = beside(state, file);
    let failed = |problem| SinkError {
        path: path.clone(),
        problem,
    };
    let text = read(&path).map_err(|error| match error {
        SecretError::File { problem, .. } => failed(problem),
        SecretError::Pki(error) => failed(error.to_string()),
    })?;
    let graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    match text
        .strip_prefix("https://")
        .is_some_and(|rest| !rest.is_empty())
        && graphic
    {
        true => Ok(text),
        false => Err(failed("not one https:// URL".to_owned())),
    }
}

/// What the mail server that alerts go to asks for.
///
/// # Errors
/// If a file is missing, or holds something else; the password's also if it is open to others.
pub(crate) fn mail(state: &Path, email: &plan::Email) -> Result<Mail, BuildError> {
    let failed = |path: &Path, problem: String| {
        let help = "name files beside the site file: `password_file` with one line, for you alone (chmod 600); `ca` with a PEM certificate";
        payload::wrong("[monitoring.alerts.email]", path, problem, help)
    };
    let password = email.password_file.as_ref().map(|file| {
        let path = beside(state, file);
        let text = read(&path).map_err(|error| match error {
            SecretError::File { problem, .. } => failed(&path, problem),
            SecretError::Pki(error) => error.into(),
        })?;
        match text.is_empty() || text.chars().any(char::is_control) {
            true => Err(failed(&path, "not one line with a password".to_owned())),
            false => Ok(text),
        }
    });
    let ca = email.ca.as_ref().map(|file| {
        let path = beside(state, file);
        let text = fs::read_to_string(&path)
            .map_err(|error| failed(&path, format!("cannot read it: {error}")))?;
        match text.contains("-----BEGIN CERTIFICATE-----") {
            true => Ok(text),
            false => Err(failed(&path, "no certificate".to_owned())),
        }
    });
    Ok(Mail {
        password: password.transpose()?,
        ca: ca.transpose()?,
    })
}

/// The text of a file that nobody else may read.
fn read(path: &Path) -> Result<String, SecretError> {
    let failed = |problem: String| SecretError::File {
        path: path.to_owned(),
        problem,
    };
    let cannot = |error| failed(format!("cannot read it: {error}"));
    let mode = fs::metadata(path).map_err(cannot)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(failed("others may read this secret".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(cannot)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Version 2 has room for eight characters (RFC 2338 §5.3.10).
fn password(path: &Path) -> Result<[u8; 8], SecretError> {
    let text = read(path)?;
    let mut password = [0; 8];
    match password.get_mut(..text.len()) {
        Some(room) if !text.is_empty() => room.copy_from_slice(text.as_bytes()),
        _ => {
            return Err(SecretError::File {
                path: path.to_owned(),
                problem: format!("a password has 1 to 8 characters, not {}", text.len()),
            });
        }
    }
    Ok(password)
}

/// A community is text that managers compare (RFC 1901 §3).
fn community(path: &Path) -> Result<heapless::String<32>, SecretError> {
    let text = read(path)?;
    let fits = heapless::String::try_from(text.as_str()).ok();
    fits.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or_else(|| SecretError::File {
            path: path.to_owned(),
            problem: "a community has 1 to 32 letters, digits and signs".to_owned(),
        })
}

fn key(path: &Path) -> Result<heapless::Vec<u8, 64>, SecretError> {
    let text = read(path)?;
    let bytes = match text.strip_prefix("hex:") {
        Some(digits) => pki::from_hex(digits),
        None => Some(text.into_bytes()),
    };
    let key = bytes.filter(|bytes| (32..=64).contains(&bytes.len()));
    let key = key.and_then(|bytes| heapless::Vec::from_slice(&bytes).ok());
    key.ok_or_else(|| SecretError::File {
        path: path.to_owned(),
        problem: "not a key of 32 to 64 bytes".to_owned(),
    })
}
