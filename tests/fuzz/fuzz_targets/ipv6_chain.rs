//! A chain of extension headers of any content ends inside the packet, after a bounded number of headers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::ipv6::{self, Header, MAX_EXTENSIONS};
use wire::nd::Message;

const EXTENSIONS: [u8; 5] = [0, 43, 44, 51, 60];

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(bytes) else { return };
    assert!(header.total_len() <= bytes.len());
    let packet = &bytes[..header.total_len()];
    let Ok(chain) = ipv6::walk(header, bytes) else { return };
    assert!(chain.offset <= packet.len());
    assert_eq!(ipv6::walk(header, packet), Ok(chain), "what is behind the packet does not count");

    // The same walk, naively.
    let (mut next, mut offset, mut count) = (header.next_header, 40, 0);
    while EXTENSIONS.contains(&next) && chain.offset != offset {
        let length = match next {
            44 => 8,
            51 => 4 * (usize::from(packet[offset + 1]) + 2),
            _ => 8 * (usize::from(packet[offset + 1]) + 1),
        };
        if next == 43 {
            assert_eq!(packet[offset + 3], 0, "no segments are left");
        }
        next = packet[offset];
        offset += length;
        count += 1;
    }
    assert_eq!((next, offset), (chain.protocol, chain.offset));
    assert!(count <= MAX_EXTENSIONS);
    let later = chain.fragment.is_some_and(|fragment| fragment.offset != 0);
    assert!(later || !EXTENSIONS.contains(&chain.protocol));

    if let Ok(message) = Message::parse(header, &packet[chain.offset..]) {
        assert_eq!(header.hop_limit, 255, "{message:?} cannot have passed a router");
    }
});
