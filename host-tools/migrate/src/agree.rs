//! What two keepalived of a pair must have alike, or both want the addresses.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    conf::Place,
    model::{Instance, Keepalived, Kind, Note},
};

/// The virtual router that an instance is of.
pub(crate) fn key(instance: &Instance) -> (Option<u8>, bool) {
    let vrid = instance.vrid.as_ref().map(|vrid| vrid.value);
    (vrid, instance.is_v6())
}

/// What differs between two instances of one virtual router and must not.
pub(crate) fn differences(one: &Instance, twin: &Instance) -> impl Iterator<Item = &'static str> {
    let listed = |instance: &Instance| -> BTreeSet<IpAddr> {
        (instance.addresses.iter())
            .map(|address| address.value.ip)
            .collect()
    };
    let excluded = |instance: &Instance| -> BTreeSet<IpAddr> {
        (instance.excluded.iter())
            .map(|address| address.value.ip)
            .collect()
    };
    let kind = |instance: &Instance| instance.authentication.as_ref().map(|a| a.value.clone());
    let checksum =
        |instance: &Instance| instance.version == 3 && !instance.is_v6() && instance.checksum_as_v2;
    [
        ("virtual_ipaddress", listed(one) != listed(twin)),
        (
            "virtual_ipaddress_excluded",
            excluded(one) != excluded(twin),
        ),
        ("advert_int", one.interval.value != twin.interval.value),
        ("version", one.version != twin.version),
        ("v3_checksum_as_v2", checksum(one) != checksum(twin)),
        ("authentication", kind(one) != kind(twin)),
        ("use_vmac", one.virtual_mac != twin.virtual_mac),
        (
            "unicast_peer",
            one.peers.is_empty() != twin.peers.is_empty(),
        ),
    ]
    .into_iter()
    .filter_map(|(what, differs)| differs.then_some(what))
}

/// Where a keepalived, whose configuration is `file`, disagrees with what the site expects of it.
#[must_use]
pub fn disagreements(expected: &Keepalived, found: &Keepalived, file: &str) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |place: &Place, what: String, why: &str| {
        notes.push(Note {
            place: place.clone(),
            kind: Kind::Lost,
            what,
            why: why.to_owned(),
        });
    };
    for one in &found.instances {
        let Some(twin) = (expected.instances.iter()).find(|twin| key(twin) == key(one)) else {
            note(
                &one.place,
                one.name.clone(),
                "the site has no such virtual router",
            );
            continue;
        };
        for what in differences(one, twin) {
            note(
                &one.place,
                format!("{what} of {}", one.name),
                "is another in the site",
            );
        }
        if one.priority.value != twin.priority.value {
            let what = format!("priority {} of {}", one.priority.value, one.name);
            let why = format!("is {} in the site", twin.priority.value);
            note(&one.priority.place, what, &why);
        }
        if one.preempt != twin.preempt {
            let why = if twin.preempt {
                "preempts in the site"
            } else {
                "does not preempt in the site"
            };
            note(&one.place, one.name.clone(), why);
        }
    }
    let missing = |twin: &&Instance| !found.instances.iter().any(|one| key(one) == key(twin));
    for twin in expected.instances.iter().filter(missing) {
        let place = Place {
            file: file.to_owned(),
            line: 1,
        };
        note(&place, format!("vrrp_instance {}", twin.name), "is missing");
    }
    notes
}
