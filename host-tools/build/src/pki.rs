//! The site's own certificate authorities, and the secrets that go into servers.
//!
//! All of it lives in `pki/` of the site's state directory, is made once and then reused: an image is only
//! rebuilt for a new certificate when the old one names the wrong thing or is about to expire.

mod authority;
mod devices;
mod inspect;
mod leaf;
mod list;
mod own;
mod rotate;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use miette::Diagnostic;
use rand::distr::{Alphanumeric, SampleString as _};
use render::{Identity, Material};
use site::Plan;
use site::plan::{Role, Server};
use thiserror::Error;

pub use authority::Tier;
use authority::{Authority, Place, TIERS, TRUSTED};
pub use devices::{Devices, devices};
pub(crate) use inspect::split;
pub use leaf::Use;
pub use list::{Entry, Purpose, list};
pub use rotate::{Rotation, is_overlapping, retire, rotate};
use store::{SECRET, broken, create_directory, lock, read, write, write_bytes};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LEAF_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());
/// For machines whose clocks are a little behind.
const BACKDATE: Duration = DAY;
/// Letters and digits: 190 bits.
const PASSWORD_LENGTH: usize = 32;

/// The certificates, keys and passwords of one site.
pub struct Pki {
    users_trust: PathBuf,
    warning: Option<String>,
    /// What whoever trusts the root trusts.
    trusted: String,
    tiers: BTreeMap<Tier, Authority>,
    site: Identity,
    servers: BTreeMap<String, BTreeMap<Use, Identity>>,
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
    /// The root has to sign, and its key was moved away.
    #[error("the authority of tier `{tier}` must be signed by the root: {reason}")]
    #[diagnostic(help(
        "put the root's key back as {} for this one command (mode 600), then move it away again", path.display()
    ))]
    RootIsAway {
        /// Name of the tier.
        tier: &'static str,
        /// Why what there is does not do.
        reason: String,
        /// Where the key is expected.
        path: PathBuf,
    },
    /// The operator's own certificate for the site cannot be used.
    #[error("{}: {problem}", path.display())]
    #[diagnostic(help(
        "[site] names two PEM files beside the site file: `certificate` with the certificate for the domain and those that lead to its root, `key` with its private key, for you alone (chmod 600)"
    ))]
    Own {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The directory was made by a version that had one authority for everything.
    #[error("the certificates in {} are of an earlier version, which had one authority for everything", directory.display())]
    #[diagnostic(help(
        "`ravelin pki rotate --root` makes a root and an authority for each tier; users must then trust the new {}, and all machines be built anew",
        directory.join(TRUSTED).display()
    ))]
    OldLayout {
        /// Which one.
        directory: PathBuf,
    },
}

/// Says what is wrong, or soon will be, with the operator's own certificate of the site; nothing is made.
///
/// # Errors
/// If it cannot be used.
pub fn check(state: &Path, plan: &Plan) -> Result<Option<String>, PkiError> {
    let own = own::read(state, plan, SystemTime::now())?;
    Ok(own.and_then(|(_, warning)| warning))
}

/// Opens the certificates and secrets of a site; what is missing, names the wrong thing or expires soon is made.
pub fn open(state: &Path, plan: &Plan) -> Result<Pki, PkiError> {
    open_at(state, plan, SystemTime::now())
}

/// Like [`open`], at any time.
fn open_at(state: &Path, plan: &Plan, now: SystemTime) -> Result<Pki, PkiError> {
    let directory = state.join("pki");
    for part in [leaf::SERVERS, TIERS] {
        create_directory(&directory.join(part))?;
    }
    let _lock = lock(&directory)?;
    let place = Place {
        directory: &directory,
        site: &plan.name,
        now,
    };
    let root = authority::root(&place)?;
    let mut tiers = BTreeMap::new();
    for tier in all_tiers(plan) {
        let authority = authority::tier(&place, &root, tier, &names(plan, tier))?;
        tiers.insert(tier, authority);
    }
    let mut servers = BTreeMap::new();
    for server in &plan.servers {
        let authority = &tiers[&Tier::Servers(server.role)];
        let mut own = BTreeMap::new();
        for purpose in Use::of(server.role) {
            let path = leaf::path(&directory, &server.name, *purpose);
            let identity = leaf::open(&path, &purpose.names(server), *purpose, authority, now)?;
            own.insert(*purpose, identity);
        }
        servers.insert(server.name.clone(), own);
    }
    let (site, warning) = match own::read(state, plan, now)? {
        Some(own) => own,
        None => {
            let path = directory.join(leaf::SITE);
            let authority = &tiers[&Tier::Site];
            let mut site = leaf::open(&path, &[&plan.domain], Use::Server, authority, now)?;
            site.certificate += root.cross.as_deref().unwrap_or_default();
            (site, None)
        }
    };
    let own = plan.certificate.as_ref();
    let beside = state.parent().unwrap_or(state);
    let users_trust = own.map_or(directory.join(TRUSTED), |own| beside.join(&own.certificate));
    Ok(Pki {
        site,
        warning,
        users_trust,
        trusted: read(&directory.join(TRUSTED))?.unwrap_or(root.certificate),
        tiers,
        servers,
        database_password: password(&directory.join("database.password"))?,
    })
}

/// The tiers that a site has.
fn all_tiers(plan: &Plan) -> impl Iterator<Item = Tier> {
    let roles = Role::ALL.into_iter();
    let used = roles.filter(|role| plan.servers_of(*role).next().is_some());
    let site = plan.certificate.is_none().then_some(Tier::Site);
    site.into_iter().chain(used.map(Tier::Servers))
}

/// Whom the authority of a tier signs for.
fn names(plan: &Plan, tier: Tier) -> Vec<&str> {
    match tier {
        Tier::Site => vec![&plan.domain],
        Tier::Servers(role) => (plan.servers_of(role))
            .map(|server| server.name.as_str())
            .chain([role.name()])
            .collect(),
        Tier::Appliances => plan.appliances.iter().map(|a| a.name.as_str()).collect(),
    }
}

impl Pki {
    /// What `server` needs, and nothing that it does not.
    #[must_use]
    pub fn material(&self, server: &Server) -> Material {
        let own = |purpose| Some(self.servers.get(&server.name)?.get(&purpose)?.clone());
        let tier = |(tier, authority): (&Tier, &Authority)| match tier {
            Tier::Site | Tier::Appliances => None,
            Tier::Servers(role) => Some((*role, authority.anchors.clone())),
        };
        Material {
            ca: self.trusted.clone(),
            tiers: self.tiers.iter().filter_map(tier).collect(),
            server: own(Use::Server),
            client: own(Use::Client),
            peer: own(Use::Peer),
            site: (server.role == Role::Haproxy).then(|| self.site.clone()),
            sumo_url: None,
            mail: None,
            ssh_host_key: None,
            database_password: matches!(server.role, Role::App | Role::Db)
                .then(|| self.database_password.clone()),
        }
    }

    /// A file with what users trust (`curl --cacert`): the certificate of the site's root, or those that lead to the root of the
    /// operator's own.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.users_trust.clone()
    }

    /// What will be wrong soon.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The certificate of who signs the site's certificate, which appliances trust: they verify one signature less for it, and
    /// a new root is nothing to them. In a rotation the new one: appliances are brought up to date after the servers.
    #[must_use]
    pub fn site_anchor(&self) -> &str {
        let site = self.tiers.get(&Tier::Site);
        inspect::first(site.map_or("", |tier| &tier.anchors)).0
    }
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
    let path = secret_path(state, name);
    let Some(text) = read(&path)? else {
        let secret: [u8; 32] = rand::random();
        let digits = secret.iter().map(|byte| format!("{byte:02x}"));
        write(&path, &format!("{}\n", digits.collect::<String>()), SECRET)?;
        return Ok(secret);
    };
    let secret = from_hex(text.trim_end()).and_then(|bytes| bytes.try_into().ok());
    secret.ok_or_else(|| broken(&path, "64 hexadecimal digits were expected".to_owned()))
}

/// Writes a secret that was made elsewhere.
pub(crate) fn keep(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    create_directory(path.parent().unwrap_or(path))?;
    write_bytes(path, bytes, SECRET)
}

/// Where a secret of this name is.
pub(crate) fn secret_path(state: &Path, name: &str) -> PathBuf {
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

fn make(name: &str, cause: rcgen::Error) -> PkiError {
    PkiError::Make {
        name: name.to_owned(),
        cause,
    }
}
