//! VLANs inside the switch.

use std::collections::{BTreeMap, BTreeSet};

use site::Plan;

/// The VLAN inside the switch of every network. One without tag on its cable gets an id that no other has.
pub(super) struct Vlans(BTreeMap<String, u16>);

impl Vlans {
    pub(super) fn of(plan: &Plan) -> Self {
        let taken: BTreeSet<u16> = plan
            .networks
            .iter()
            .filter_map(|network| network.vlan)
            .collect();
        let mut free = (1..4095).rev().filter(|vlan| !taken.contains(vlan));
        let networks = plan.networks.iter();
        Self(
            networks
                .map(|network| {
                    (
                        network.name.clone(),
                        network.vlan.or_else(|| free.next()).unwrap_or(1),
                    )
                })
                .collect(),
        )
    }

    pub(super) fn of_network(&self, name: &str) -> u16 {
        self.0.get(name).copied().unwrap_or(1)
    }
}
