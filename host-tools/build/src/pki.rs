//! The site's own certificate authority, and the secrets that go into servers.
//!
//! All of it lives in `pki/` of the site's state directory, is made once and then reused: an image is only
//! rebuilt for a new certificate when the old one names the wrong thing or is about to expire.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use miette::Diagnostic;
use rand::distr::{Alphanumeric, SampleString as _};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use render::{Identity, Material};
use site::Plan;
use site::plan::{Role, Server};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

#[cfg(test)]
mod tests;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Browsers refuse certificates of servers that are valid for longer.
const LEAF_LIFE: Duration = Duration::from_secs(397 * DAY.as_secs());
const CA_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// What expires sooner than this is replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY.as_secs());
/// For machines whose clocks are a little behind.
const BACKDATE: Duration = DAY;
/// Letters and digits: 190 bits.
const PASSWORD_LENGTH: usize = 32;

/// The certificates, keys and passwords of one site.
pub struct Pki {
    directory: PathBuf,
    ca: String,
    site: Identity,
    servers: BTreeMap<String, Identity>,
    database_password: String,
}

/// Why the site's certificates cannot be used or made.
#[derive(Debug, Error, Diagnostic)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried, as in "cannot ...".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        cause: io::Error,
    },
    /// A file of ours holds something else.
    #[error("{} is not what it should be: {problem}", path.display())]
    #[diagnostic(help(
        "put back a good copy; or delete {} to start over: users must then trust a new authority, and all appliances be built anew",
        path.parent().unwrap_or(path).display()
    ))]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of {name}: {cause}")]
    Make {
        /// Whom it is for.
        name: String,
        /// Why not.
        #[source]
        cause: rcgen::Error,
    },
}

/// Opens the certificates and secrets of a site; what is missing, names the wrong thing or expires soon is made.
pub fn open(state: &Path, plan: &Plan) -> Result<Pki, PkiError> {
    open_at(state, plan, SystemTime::now())
}

/// Like [`open`], at any time.
fn open_at(state: &Path, plan: &Plan, now: SystemTime) -> Result<Pki, PkiError> {
    let directory = state.join("pki");
    let servers = directory.join("servers");
    create_directory(&servers)?;
    let _lock = lock(&directory)?;
    let (ca, issuer) = authority(&directory, &plan.name, now)?;
    let leaf =
        |file: &Path, name: &str, clients: bool| leaf(file, name, clients, &ca, &issuer, now);
    Ok(Pki {
        site: leaf(&directory.join("site.pem"), &plan.domain, false)?,
        servers: (plan.servers.iter())
            .map(|Server { name, .. }| {
                Ok((
                    name.clone(),
                    leaf(&servers.join(format!("{name}.pem")), name, true)?,
                ))
            })
            .collect::<Result<_, _>>()?,
        database_password: password(&directory.join("database.password"))?,
        ca,
        directory,
    })
}

impl Pki {
    /// What `server` needs, and nothing that it does not.
    #[must_use]
    pub fn material(&self, server: &Server) -> Material {
        Material {
            ca: self.ca.clone(),
            server: self.servers.get(&server.name).cloned(),
            site: (server.role == Role::Haproxy).then(|| self.site.clone()),
            database_password: matches!(server.role, Role::App | Role::Db)
                .then(|| self.database_password.clone()),
        }
    }

    /// The certificate of the site's authority, which users trust (`curl --cacert`).
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.directory.join(CA_CERTIFICATE)
    }
}

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// The authority: its certificate, and what signs. The key comes first and stays: a renewed certificate is
/// still that of the same authority.
fn authority(
    directory: &Path,
    site: &str,
    now: SystemTime,
) -> Result<(String, Issuer<'static, KeyPair>), PkiError> {
    let [certificate_path, key_path] = [CA_CERTIFICATE, CA_KEY].map(|name| directory.join(name));
    let old = read(&certificate_path)?;
    let key = match read(&key_path)? {
        Some(text) => {
            KeyPair::from_pem(&text).map_err(|error| broken(&key_path, error.to_string()))?
        }
        None if old.is_some() => {
            return Err(broken(
                &key_path,
                format!("{CA_CERTIFICATE} is there, its key is not"),
            ));
        }
        None => {
            let key = KeyPair::generate().map_err(|cause| make(site, cause))?;
            write(&key_path, &key.serialize_pem(), SECRET)?;
            key
        }
    };
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{site} site authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + CA_LIFE).into();
    let still_good = match old {
        None => None,
        Some(text) => {
            let mine = inspect(&certificate_path, &text, |certificate| {
                let same_key = certificate.public_key().raw == key.subject_public_key_info();
                (same_key, fresh(certificate, now))
            })?;
            if !mine.0 {
                return Err(broken(
                    &certificate_path,
                    format!("it is not the certificate of {CA_KEY}"),
                ));
            }
            mine.1.then_some(text)
        }
    };
    let certificate = match still_good {
        Some(text) => text,
        None => {
            let text = params
                .self_signed(&key)
                .map_err(|cause| make(site, cause))?
                .pem();
            write(&certificate_path, &text, PUBLIC)?;
            text
        }
    };
    Ok((certificate, Issuer::new(params, key)))
}

/// The certificate and key for `name` in `path`, new ones if need be. One file holds both, so that they always
/// belong together.
fn leaf(
    path: &Path,
    name: &str,
    clients: bool,
    ca: &str,
    issuer: &Issuer<'_, KeyPair>,
    now: SystemTime,
) -> Result<Identity, PkiError> {
    if let Some(text) = read(path)? {
        let good = inspect(path, &text, |certificate| {
            fresh(certificate, now) && names(certificate) == [name] && is_signed_by(certificate, ca)
        })?;
        let (certificate, key) =
            split(&text).ok_or_else(|| broken(path, "it holds no private key".to_owned()))?;
        if good {
            return Ok(Identity {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            });
        }
    }
    let identity = issue(name, clients, issuer, now).map_err(|cause| make(name, cause))?;
    write(
        path,
        &format!("{}{}", identity.certificate, identity.key),
        SECRET,
    )?;
    Ok(identity)
}

fn issue(
    name: &str,
    clients: bool,
    issuer: &Issuer<'_, KeyPair>,
    now: SystemTime,
) -> Result<Identity, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
        .extended_key_usages
        .push(ExtendedKeyUsagePurpose::ServerAuth);
    if clients {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + LEAF_LIFE).into();
    Ok(Identity {
        certificate: params.signed_by(&key, issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn password(path: &Path) -> Result<String, PkiError> {
    let Some(text) = read(path)? else {
        let password = Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_LENGTH);
        write(path, &format!("{password}\n"), SECRET)?;
        return Ok(password);
    };
    let password = text.trim_end();
    if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(broken(
            path,
            "a password of letters and digits was expected".to_owned(),
        ));
    }
    Ok(password.to_owned())
}

/// The secret called `name`, which is made if there is none yet.
pub(crate) fn secret(state: &Path, name: &str) -> Result<[u8; 32], PkiError> {
    let directory = state.join("pki");
    create_directory(&directory)?;
    let _lock = lock(&directory)?;
    let path = place(state, name);
    let Some(text) = read(&path)? else {
        let secret: [u8; 32] = rand::random();
        let digits = secret.iter().map(|byte| format!("{byte:02x}"));
        write(&path, &format!("{}\n", digits.collect::<String>()), SECRET)?;
        return Ok(secret);
    };
    let secret = from_hex(text.trim_end()).and_then(|bytes| bytes.try_into().ok());
    secret.ok_or_else(|| broken(&path, "64 hexadecimal digits were expected".to_owned()))
}

/// Where a secret of this name is.
pub(crate) fn place(state: &Path, name: &str) -> PathBuf {
    state.join("pki").join(name)
}

/// The bytes that hexadecimal digits say.
pub(crate) fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let value = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        let plain = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
        u8::from_str_radix(text, 16).ok().filter(|_| plain)
    };
    digits.as_bytes().chunks(2).map(value).collect()
}

/// Hands the first certificate of a PEM text to `question`.
fn inspect<T>(
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

fn fresh(certificate: &X509Certificate<'_>, now: SystemTime) -> bool {
    let validity = certificate.validity();
    let seconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    validity.not_before.timestamp() <= seconds(now)
        && seconds(now + RENEW_BEFORE) < validity.not_after.timestamp()
}

fn names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'a>| match name {
        GeneralName::DNSName(name) => *name,
        _ => "",
    };
    names.value.general_names.iter().map(name).collect()
}

fn is_signed_by(certificate: &X509Certificate<'_>, ca: &str) -> bool {
    let signed = inspect(Path::new(CA_CERTIFICATE), ca, |ca| {
        certificate.issuer() == ca.subject()
            && certificate.verify_signature(Some(ca.public_key())).is_ok()
    });
    signed.unwrap_or(false)
}

/// The certificate and the key of a file that has both.
fn split(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(text.find("-----BEGIN PRIVATE KEY-----")?)
}

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

fn create_directory(path: &Path) -> Result<(), PkiError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|cause| io("create", path, cause))
}

/// Two builds of one site must not both make an authority. Released when dropped.
fn lock(directory: &Path) -> Result<File, PkiError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(SECRET)
        .open(&path);
    let file = file.map_err(|cause| io("open", &path, cause))?;
    file.lock().map_err(|cause| io("lock", &path, cause))?;
    Ok(file)
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(io("read", path, cause)),
    }
}

/// Writes all of a file or nothing; it is never readable for others than `mode` says. The lock is held.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let new = path.with_extension("new");
    let whole = || {
        // What a crash left behind may have another mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => (),
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    whole().map_err(|cause| io("write", path, cause))
}

fn io(action: &'static str, path: &Path, cause: io::Error) -> PkiError {
    PkiError::Io {
        action,
        path: path.to_owned(),
        cause,
    }
}

fn broken(path: &Path, problem: String) -> PkiError {
    PkiError::Broken {
        path: path.to_owned(),
        problem,
    }
}

fn make(name: &str, cause: rcgen::Error) -> PkiError {
    PkiError::Make {
        name: name.to_owned(),
        cause,
    }
}
