//! An error about a packet of any content is a whole packet with good checksums, and never one about an error.
//! The first byte of the input says which error, the rest is the packet.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::icmp::{self, Problem};
use wire::{ipv4, ipv6};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, packet)) = bytes.split_first() else { return };
    let problem = match choice % 6 {
        0 => Problem::HopLimit,
        1 => Problem::NoRoute,
        2 => Problem::HostUnreachable,
        3 => Problem::PortUnreachable,
        4 => Problem::Prohibited,
        _ => Problem::TooBig { mtu: 1280 },
    };
    let mut buffer = [0; 1500];
    if let Some(length) = icmp::write_v4(&mut buffer, [192, 0, 2, 1], packet, problem) {
        let error = &buffer[..length];
        assert!(length <= 576, "RFC 1812 §4.3.2.3");
        assert!(ipv4::Header::parse(error).is_ok());
        assert_eq!(forge::checksum(&[&error[20..]]), 0);
        assert!(packet.starts_with(&error[28..]), "it quotes what came");
        assert_eq!(error[16..20], packet[12..16], "it goes to the sender");
        assert_ne!(packet[12] & 0xf0, 0xe0, "nobody answers a multicast source");
        let again = icmp::write_v4(&mut [0; 1500], [192, 0, 2, 9], error, problem);
        assert_eq!(again, None, "an error about an error");
    }
    if let Some(length) = icmp::write_v6(&mut buffer, [0x20; 16], packet, problem) {
        let error = &buffer[..length];
        assert!(length <= 1280, "RFC 4443 §2.4 c");
        assert!(ipv6::Header::parse(error).is_ok());
        let [a, b] = (length as u16 - 40).to_be_bytes();
        let pseudo = [&error[8..40], &[0, 0, a, b, 0, 0, 0, 58]].concat();
        assert_eq!(forge::checksum(&[&pseudo, &error[40..]]), 0);
        assert!(packet.starts_with(&error[48..]), "it quotes what came");
        let again = icmp::write_v6(&mut [0; 1500], [0x21; 16], error, problem);
        assert_eq!(again, None, "an error about an error");
    }
    // No room, no error.
    assert_eq!(icmp::write_v4(&mut [0; 47], [192, 0, 2, 1], packet, problem), None);
});
