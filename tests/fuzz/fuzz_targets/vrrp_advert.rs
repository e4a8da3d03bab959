//! A packet of any content is no advertisement, or one that is written again as it was read, and is none of CARP.

#![no_main]

use core::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use wire::vrrp::{Advert, Ends, Expected, NewAdvert, Version, carp, peek};
use wire::{ipv4, ipv6};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, packet)) = bytes.split_first() else { return };
    let (ends, ttl, payload) = if let Ok((ip, header)) = ipv4::Header::parse(packet) {
        let ends = Ends::V4 { source: ip.source, destination: ip.destination };
        (ends, ip.ttl, &packet[header..ip.total_len.get().into()])
    } else if let Ok(ip) = ipv6::Header::parse(packet) {
        let ends = Ends::V6 { source: ip.source, destination: ip.destination };
        (ends, ip.hop_limit, &packet[ipv6::HEADER_LEN..ip.total_len()])
    } else {
        return;
    };
    let version = if choice & 1 == 0 { Version::V2 } else { Version::V3 };
    let password = (choice & 2 != 0).then_some(*b"password");
    let expected = Expected { version, ttl: (1, 255), password };
    let Ok(advert) = Advert::parse(&ends, ttl, payload, &expected) else {
        let _ = carp::parse(&ends, payload);
        return;
    };
    assert!(!advert.interval.is_zero());
    assert!(!advert.addresses.is_empty());
    assert_eq!(carp::parse(&ends, payload), None);
    assert_eq!(peek(payload), Some((version.number(), advert.vrid)));
    if let Some(trailer) = advert.trailer {
        let _ = trailer.authenticate(&ends, |id| (id == choice).then_some(&b"secret"[..]));
    }
    let addresses: Vec<IpAddr> = advert.addresses.iter().collect();
    let again = NewAdvert {
        version,
        vrid: advert.vrid,
        priority: advert.priority,
        interval: u16::try_from(advert.interval.as_millis() / 10).expect("two bytes of centiseconds"),
        addresses: &addresses,
        checksum: advert.checksum,
        password,
        signature: None,
    };
    let mut buffer = [0; 5000];
    let again = again.write(&ends, &mut buffer).expect("it has room");
    // But for the checksum, which covers a trailer with IPv6, and the reserved bits of version 3 and authentication data of 2.
    assert_eq!(again[..4], payload[..4]);
    assert_eq!(again[8..8 + 4 * addresses.len()], payload[8..8 + 4 * addresses.len()]);
});
