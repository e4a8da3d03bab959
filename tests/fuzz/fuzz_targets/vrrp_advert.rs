//! A packet of any content is no advertisement, or one whose interval and addresses can be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::ipv4;
use wire::vrrp::Advert;

fuzz_target!(|bytes: &[u8]| {
    let Ok((ip, header)) = ipv4::Header::parse(bytes) else { return };
    let Ok(advert) = Advert::parse(ip, &bytes[header..]) else { return };
    assert!(!advert.header.interval().is_zero());
    assert!(!advert.addresses.is_empty());
});
