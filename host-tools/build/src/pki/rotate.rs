//! New keys while the old ones are in use: nothing has to change at the same moment on two machines.
//!
//! What is new is signed by what was there before as well (a cross certificate, sent along), and what was there before stays
//! trusted, until it is retired: both until every machine has been brought up to date.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use site::Plan;
use site::plan::Role;

use super::authority::{self, OLD_KEY, Paths, Place, ROOT, ROOT_CROSS, ROOT_KEY, TRUSTED, Tier};
use super::inspect::first;
use super::leaf::{self, Use};
use super::store::{PUBLIC, SECRET, lock, read, remove, write};
use super::{Pki, PkiError, all_tiers, make, names, open};

/// What gets new keys.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// These servers, and the site if its domain is among them.
    pub names: BTreeSet<String>,
    /// All servers of these roles.
    pub roles: BTreeSet<Role>,
    /// The authorities of the roles, or of all tiers if no role is named, instead of the servers' own certificates.
    pub authorities: bool,
    /// The root.
    pub root: bool,
}

/// Makes new keys and certificates. Without names, roles and anything else, that is all leaves of the site.
///
/// # Errors
/// If the root's key is needed and away, or a file is not what it should be.
pub fn rotate(state: &Path, plan: &Plan, rotation: &Rotation) -> Result<Pki, PkiError> {
    let directory = state.join("pki");
    if rotation.root {
        super::store::create_directory(&directory)?;
        let _lock = lock(&directory)?;
        root(&place(&directory, plan))?;
    }
    open(state, plan)?;
    {
        let _lock = lock(&directory)?;
        let place = place(&directory, plan);
        if rotation.authorities {
            let chosen = |tier: &Tier| match tier {
                Tier::Site | Tier::Appliances => rotation.roles.is_empty(),
                Tier::Servers(role) => rotation.roles.is_empty() || rotation.roles.contains(role),
            };
            let root = authority::root(&place)?;
            for tier in all_tiers(plan).filter(chosen) {
                renew_tier(&place, &root, tier, &names(plan, tier))?;
            }
        } else if !rotation.root {
            leaves(&directory, plan, rotation)?;
        }
    }
    open(state, plan)
}

/// Whether something old is still trusted beside what is new.
///
/// # Errors
/// If a file cannot be read.
pub fn is_overlapping(state: &Path, plan: &Plan) -> Result<bool, PkiError> {
    let directory = state.join("pki");
    let two = |path: &Path| Ok(read(path)?.is_some_and(|text| !first(&text).1.is_empty()));
    let mut all = all_tiers(plan).map(|tier| two(&Paths::new(&directory, tier).anchors));
    Ok(two(&directory.join(TRUSTED))? || all.try_fold(false, |any, one| Ok(any || one?))?)
}

/// Ends the trust in what was there before the last rotations; every machine must have been brought up to date since.
///
/// # Errors
/// If a file cannot be read or written.
pub fn retire(state: &Path, plan: &Plan) -> Result<Pki, PkiError> {
    let directory = state.join("pki");
    {
        let _lock = lock(&directory)?;
        let tiers = all_tiers(plan).map(|tier| Paths::new(&directory, tier));
        let mut pairs: Vec<_> = tiers.map(|paths| (paths.anchors, paths.cross)).collect();
        pairs.push((directory.join(TRUSTED), directory.join(ROOT_CROSS)));
        for (trusted, cross) in pairs {
            if let Some(text) = read(&trusted)? {
                write(&trusted, first(&text).0, PUBLIC)?;
            }
            remove(&cross)?;
        }
    }
    open(state, plan)
}

fn place<'a>(directory: &'a Path, plan: &'a Plan) -> Place<'a> {
    Place {
        directory,
        site: &plan.name,
        now: SystemTime::now(),
    }
}

/// Removes leaves: the next opening makes new ones.
fn leaves(directory: &Path, plan: &Plan, rotation: &Rotation) -> Result<(), PkiError> {
    let all = rotation.names.is_empty() && rotation.roles.is_empty();
    for server in &plan.servers {
        if all || rotation.names.contains(&server.name) || rotation.roles.contains(&server.role) {
            for purpose in Use::of(server.role) {
                remove(&leaf::path(directory, &server.name, *purpose))?;
            }
        }
    }
    if all || rotation.names.contains(&plan.domain) {
        remove(&directory.join(leaf::SITE))?;
    }
    Ok(())
}

/// Gives a tier a new key. Its leaves follow when they are opened next: they are another's then.
fn renew_tier(
    place: &Place<'_>,
    root: &authority::Root,
    tier: Tier,
    names: &[&str],
) -> Result<(), PkiError> {
    let signer = root.signer(tier, "it gets a new key")?;
    let old = authority::tier(place, root, tier, names)?;
    let failed = |cause| make(tier.name(), cause);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let cross = authority::tier_params(place, tier, names, &key).signed_by(&key, &old.issuer);
    let cross = cross.map_err(failed)?.pem();
    let former = first(&old.anchors).0;
    authority::establish(place, signer, tier, names, key, former)?;
    write(&Paths::new(place.directory, tier).cross, &cross, PUBLIC)
}

/// Makes a new root. The old one signs it, if its key is here and may.
fn root(place: &Place<'_>) -> Result<(), PkiError> {
    let at = |name| place.directory.join(name);
    let failed = |cause| make("root", cause);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(failed)?;
    let params = authority::root_params(place, &key);
    let certificate = params.self_signed(&key).map_err(failed)?.pem();
    let trusted = read(&at(TRUSTED))?;
    let former = trusted.as_deref().map(|text| first(text).0);
    let is_old_layout = authority::is_old_layout(place.directory);
    if former.is_some() && !is_old_layout {
        let old = authority::root(place)?;
        let signer: &Issuer<'_, KeyPair> =
            old.signer(Tier::Site, "a new root takes the old one's signature")?;
        let cross = params.signed_by(&key, signer).map_err(failed)?.pem();
        write(&at(ROOT_CROSS), &cross, PUBLIC)?;
    }
    if is_old_layout {
        // It could sign no other authority; who trusts it is told by hand.
        remove(&at(OLD_KEY))?;
    }
    write(
        &at(TRUSTED),
        &format!("{certificate}{}", former.unwrap_or_default()),
        PUBLIC,
    )?;
    write(&at(ROOT_KEY), &key.serialize_pem(), SECRET)?;
    write(&at(ROOT), &certificate, PUBLIC)
}
