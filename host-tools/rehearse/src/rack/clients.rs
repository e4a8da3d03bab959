//! Addresses of the rehearsal's users.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use site::Plan;

use crate::version::Version;

/// Users in the Internet, at addresses that are kept for documentation (RFC 5737, RFC 3849). They are nobody in particular: not
/// those that a flow names, as long as there are others.
pub(super) fn clients(plan: &Plan, version: Version) -> Vec<IpAddr> {
    let all: Vec<IpAddr> = (1..=254).map(|n| client(version, n)).collect();
    let parties = plan.flows.iter().flat_map(|flow| [&flow.from, &flow.to]);
    let named = |client: &IpAddr| {
        let mut parties = parties.clone();
        parties.any(|party| (plan.prefixes_of(party).iter()).any(|prefix| prefix.contains(client)))
    };
    let others: Vec<IpAddr> = all
        .iter()
        .copied()
        .filter(|client| !named(client))
        .collect();
    if others.is_empty() { all } else { others }
}

/// Over IPv6 each has a /56 of its own, as customers of a provider do.
fn client(version: Version, n: u8) -> IpAddr {
    match version {
        Version::V4 => Ipv4Addr::new(198, 51, 100, n).into(),
        Version::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xc, u16::from(n) << 8, 0, 0, 0, 1).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_whom_no_flow_names() {
        let text = include_str!("../../../../examples/dualstack/site.toml");
        let plan = site::parse("site.toml", text, &site::Boards::new([("zynq7000", 2)]));
        let plan = plan.unwrap_or_else(|problems| panic!("{problems:?}"));
        let four = clients(&plan, Version::V4);
        for (n, user) in [
            (3, false),
            (9, false),
            (20, true),
            (66, false),
            (67, true),
            (200, false),
        ] {
            let address = Ipv4Addr::new(198, 51, 100, n);
            assert_eq!(four.contains(&address.into()), user, "{address}");
        }
        let six = clients(&plan, Version::V6);
        assert_eq!(six.len(), 254);
        assert_eq!(six[1].to_string(), "2001:db8:c:200::1");
    }
}
