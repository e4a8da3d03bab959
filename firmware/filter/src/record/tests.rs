//! The bytes of records. When one of these fails, it is the code that changes.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{V4, V6};

fn written(write: impl FnOnce(&mut [u8; MAX_RECORD]) -> usize) -> Vec<u8> {
    let mut buffer = [0xaa; MAX_RECORD];
    let len = write(&mut buffer);
    buffer[..len].to_vec()
}

fn tcp() -> FlowRecord<V4> {
    let end = |octets: [u8; 4]| V4::from_octets(octets);
    let tuple = |source, destination, ports| Tuple {
        source: end(source),
        destination: end(destination),
        ports,
    };
    let side = |end: u32, room: u32| Side {
        end,
        limit: end.wrapping_add(room),
    };
    FlowRecord {
        tuples: [
            tuple(
                [198, 51, 100, 7],
                [203, 0, 113, 10],
                Ports::new(40_000, 443),
            ),
            tuple([10, 20, 1, 11], [198, 51, 100, 7], Ports::new(8443, 40_000)),
        ],
        state: State::Established,
        paths: 0x18,
        owner: 0x01,
        extra: 0x7f,
        windows: Windows {
            sides: [side(1001, 512), side(u32::MAX, 0x0102_0304)],
            announced: [Window::new(512, 7), Window::new(0x7ff0, 0)],
        },
        splice: None,
    }
}

#[test]
fn bytes_of_flows() {
    let plain = [
        1, 3, 0x18, 0x01, 0x7f, 0, // kind, state, legs, server, limit
        198, 51, 100, 7, 203, 0, 113, 10, 0x9c, 0x40, 0x01, 0xbb, // the user's packets
        10, 20, 1, 11, 198, 51, 100, 7, 0x20, 0xfb, 0x9c, 0x40, // the server's
        0, 0, 3, 0xe9, 0, 0, 2, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, // numbers
        2, 7, 0x7f, 0xf0, // windows
    ];
    assert_eq!(written(|buffer| tcp().write(buffer)), plain);
    assert_eq!(FlowRecord::read(&plain[1..]), Some(tcp()));

    let spliced = FlowRecord {
        extra: 0xff,
        splice: Some(Splice::of(0x0a0b_0c0d, 9, Some(7))),
        ..tcp()
    };
    let bytes = written(|buffer| spliced.write(buffer));
    assert_eq!(bytes[4..6], [0xff, 1]);
    assert_eq!(bytes[50..], [0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 9, 7]);
    assert_eq!(FlowRecord::read(&bytes[1..]), Some(spliced));

    let address = |last: u8| {
        let mut octets = [0; 16];
        (octets[0], octets[1], octets[15]) = (0x20, 0x01, last);
        V6::from_octets(&octets)
    };
    let original = Tuple {
        source: address(1),
        destination: address(2),
        ports: Ports::new(5353, 53),
    };
    let udp = FlowRecord {
        tuples: [original, original.reversed()],
        state: State::Talking,
        paths: 1,
        owner: 0xff,
        extra: 0x7f,
        windows: Windows::NONE,
        splice: None,
    };
    let bytes = written(|buffer| udp.write(buffer));
    assert_eq!(bytes[..8], [2, 0x11, 1, 0xff, 0x7f, 0, 0x20, 0x01]);
    assert_eq!(bytes[38..42], [0x14, 0xe9, 0, 53]);
    assert_eq!(bytes.len(), 78);
    assert_eq!(FlowRecord::read(&bytes[1..]), Some(udp));
}

#[test]
fn bytes_of_all_else() {
    let tuple = tcp().tuples[0];
    let gone = [3, 1, 198, 51, 100, 7, 203, 0, 113, 10, 0x9c, 0x40, 1, 0xbb];
    assert_eq!(
        written(|buffer| write_gone(&tuple, Class::Udp, buffer)),
        gone
    );
    assert_eq!(read_gone(&gone[1..]), Some((tuple, Class::Udp)));

    let source = [1, 2, 3, 0x0405_0607];
    let rate = Rate {
        limit: 3,
        source: Some(source),
        left: 0x0102,
    };
    let bytes = [
        5, 3, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 4, 5, 6, 7,
    ];
    assert_eq!(written(|buffer| rate.write(buffer)), bytes);
    assert_eq!(Rate::read(&bytes[1..]), Some(rate));
    let rate = Rate {
        source: None,
        ..rate
    };
    let bytes = written(|buffer| rate.write(buffer));
    assert_eq!((bytes.len(), Rate::read(&bytes[1..])), (11, Some(rate)));

    let client = Client {
        service: 2,
        choice: 1,
        client: source,
        left: 600,
    };
    let bytes = [
        6, 2, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 4, 5, 6, 7, 0, 0, 2, 0x58,
    ];
    assert_eq!(written(|buffer| client.write(buffer)), bytes);
    assert_eq!(Client::read(&bytes[1..]), Some(client));

    let secret = Secret {
        key: [1, 2],
        clock: 0x0a0b,
        left: 135,
    };
    let bytes = [
        7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x0a, 0x0b, 0, 135,
    ];
    assert_eq!(written(|buffer| secret.write(buffer)), bytes);
    assert_eq!(Secret::read(&bytes[1..]), Some(secret));
}

proptest! {
    /// Whatever is read is written as it was.
    #[test]
    fn what_is_read_was_written(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        if let Some(record) = FlowRecord::<V4>::read(&bytes) {
            let again = written(|buffer| record.write(buffer));
            prop_assert_eq!(FlowRecord::<V4>::read(&again[1..]), Some(record));
        }
        if let Some(record) = FlowRecord::<V6>::read(&bytes) {
            let again = written(|buffer| record.write(buffer));
            prop_assert_eq!(FlowRecord::<V6>::read(&again[1..]), Some(record));
        }
    }
}
