//! Packets of any content are no queries for members of groups and no router solicitations, or ones that can be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{igmp, ipv4, ipv6, mld, router_discovery};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((ip, header)) = ipv4::Header::parse(bytes) {
        let message = &bytes[header..ip.total_len.get().into()];
        if let Ok(query) = igmp::Query::parse(ip, message) {
            assert!(query.group.is_none_or(|group| group[0] >> 4 == 14));
        }
    }
    if let Ok(ip) = ipv6::Header::parse(bytes) {
        let message = &bytes[ipv6::HEADER_LEN..ip.total_len()];
        if let Ok(Some(mac)) = router_discovery::solicitation(ip, message) {
            assert_eq!(mac[0] & 1, 0);
        }
    }
    if mld::is_membership(bytes)
        && let Ok(query) = mld::Query::parse(bytes)
    {
        assert!(query.group.is_none_or(|group| group[0] == 0xff));
    }
});
