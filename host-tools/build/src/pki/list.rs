//! Which certificates a site has, and until when they are good.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use site::Plan;

use super::authority::{self, Paths, ROOT, ROOT_KEY, TRUSTED, Tier};
use super::inspect::{first, inspect, seconds};
use super::leaf::{self, Use};
use super::store::read;
use super::{PkiError, all_tiers};

/// One certificate of a site.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose it is: a server, the site's domain, or a tier.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Whose authority signed it, or whose authority it is; none for roots.
    pub tier: Option<Tier>,
    /// Where it is.
    pub path: PathBuf,
    /// Its serial number: another for each certificate.
    pub serial: String,
    /// The day on which it ends: 2027-02-26.
    pub date: String,
    /// Days until then; negative if it has ended.
    pub days: i64,
    /// Whether the key that belongs to it is there.
    pub has_key: bool,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It signs the authorities.
    Root,
    /// A root of before the last rotation, which is still trusted.
    FormerRoot,
    /// It signs the certificates of a tier.
    Authority,
    /// An authority of before the last rotation, which is still trusted.
    FormerAuthority,
    /// It is shown.
    Leaf(Use),
}

impl Purpose {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::FormerRoot => "former root",
            Self::Authority => "authority",
            Self::FormerAuthority => "former authority",
            Self::Leaf(purpose) => purpose.name(),
        }
    }
}

/// All certificates that exist, the root first; nothing is made.
///
/// # Errors
/// If a file is not what it should be.
pub fn list(state: &Path, plan: &Plan) -> Result<Vec<Entry>, PkiError> {
    let directory = state.join("pki");
    let now = SystemTime::now();
    let mut all = Vec::new();
    let mut add = |name: &str, purpose, tier, path: PathBuf, text: &str, has_key| {
        let (serial, end) = inspect(&path, text, |certificate| {
            let end = certificate.validity().not_after;
            (certificate.raw_serial_as_string(), end)
        })?;
        all.push(Entry {
            name: name.to_owned(),
            purpose,
            tier,
            path,
            serial,
            date: end.to_datetime().date().to_string(),
            days: (end.timestamp() - seconds(now)).div_euclid(24 * 60 * 60),
            has_key,
        });
        Ok::<_, PkiError>(())
    };
    let root = directory.join(ROOT);
    if authority::is_old_layout(&directory) {
        return Err(PkiError::OldLayout { directory });
    }
    if let Some(text) = read(&root)? {
        let has_key = directory.join(ROOT_KEY).exists();
        add(&plan.name, Purpose::Root, None, root, &text, has_key)?;
    }
    let trusted = directory.join(TRUSTED);
    let text = read(&trusted)?.unwrap_or_default();
    let (_, former) = first(&text);
    if !former.is_empty() {
        add(
            &plan.name,
            Purpose::FormerRoot,
            None,
            trusted,
            former,
            false,
        )?;
    }
    for tier in all_tiers(plan) {
        let paths = Paths::new(&directory, tier);
        if let Some(text) = read(&paths.own)? {
            add(
                tier.name(),
                Purpose::Authority,
                Some(tier),
                paths.own,
                &text,
                true,
            )?;
        }
        let text = read(&paths.anchors)?.unwrap_or_default();
        let (_, former) = first(&text);
        if !former.is_empty() {
            let purpose = Purpose::FormerAuthority;
            add(
                tier.name(),
                purpose,
                Some(tier),
                paths.anchors,
                former,
                false,
            )?;
        }
    }
    let site = directory.join(leaf::SITE);
    if let Some(text) = read(&site)? {
        let purpose = Purpose::Leaf(Use::Server);
        add(&plan.domain, purpose, Some(Tier::Site), site, &text, true)?;
    }
    for server in &plan.servers {
        for purpose in Use::of(server.role) {
            let path = leaf::path(&directory, &server.name, *purpose);
            if let Some(text) = read(&path)? {
                let tier = Some(Tier::Servers(server.role));
                let purpose = Purpose::Leaf(*purpose);
                add(&server.name, purpose, tier, path, &text, true)?;
            }
        }
    }
    Ok(all)
}
