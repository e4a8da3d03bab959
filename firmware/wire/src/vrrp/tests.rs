extern crate std;

use core::time::Duration;
use std::vec::Vec;

use proptest::prelude::*;

use super::carp::{self, Carp};
use super::trailer::{self, MAX_SECRET, MIN_SECRET, Number, Signature, TrailerError};
use super::*;
use crate::checksum;

/// Captured from keepalived 2.2.7 and 2.3.3 in all their modes: sender, priority, message. Version 2 with a password, version 3
/// with the pseudo-header in the checksum and without, and IPv6.
const CAPTURED: [(&str, u8, &str); 14] = [
    (
        "10.44.0.1",
        200,
        "212cc802010191fe0a2c00fe0a2c00fd7365637265743132",
    ),
    (
        "10.44.0.1",
        0,
        "212c0002010159ff0a2c00fe0a2c00fd7365637265743132",
    ),
    (
        "10.44.0.2",
        100,
        "212c64020101f5fe0a2c00fe0a2c00fd7365637265743132",
    ),
    ("10.44.0.1", 200, "312cc8020064055a0a2c00fe0a2c00fd"),
    ("10.44.0.1", 0, "312c00020064cd5a0a2c00fe0a2c00fd"),
    ("10.44.0.2", 100, "312c6402006469590a2c00fe0a2c00fd"),
    ("10.44.0.2", 0, "312c00020064cd590a2c00fe0a2c00fd"),
    ("10.44.0.1", 200, "312cc8020064f0190a2c00fe0a2c00fd"),
    ("10.44.0.1", 0, "312c00020064b81a0a2c00fe0a2c00fd"),
    ("10.44.0.2", 100, "312c64020064541a0a2c00fe0a2c00fd"),
    (
        "fe80::44:ff:fe00:1",
        200,
        "3142c80200640b22fe8000000000000000000000000000fefd4400000000000000000000000000fe",
    ),
    (
        "fe80::44:ff:fe00:1",
        0,
        "314200020064d322fe8000000000000000000000000000fefd4400000000000000000000000000fe",
    ),
    (
        "fe80::44:ff:fe00:2",
        100,
        "3142640200646f21fe8000000000000000000000000000fefd4400000000000000000000000000fe",
    ),
    (
        "fe80::44:ff:fe00:2",
        0,
        "314200020064d321fe8000000000000000000000000000fefd4400000000000000000000000000fe",
    ),
];
/// Those with the pseudo-header in an IPv4 checksum.
const WITH_PSEUDO_HEADER: core::ops::Range<usize> = 3..7;
const SECRET12: [u8; 8] = *b"secret12";

/// The images in the appendix of draft-cassen-vrrp-auth-hmac, which keepalived's own test holds it to: sender, receiver, payload.
const SIGNED: [(&str, &str, &str); 2] = [
    (
        "198.51.100.10",
        "198.51.100.11",
        "3133c80100644402c0000264010100006800000080000000\
         1b84bc4e8e43892dc6d98448f8ee2265",
    ),
    (
        "fe80::10",
        "fe80::20",
        "3133c8010064a2e9fe800000000000000000000000000100\
         010100006800000080000000c8c56146ebfd66ee10ec4d8186461b78",
    ),
];
const NUMBER: Number = Number(0x6800_0000_8000_0000);

fn secret() -> Vec<u8> {
    (0..32).collect()
}

#[test]
fn captured_adverts_are_understood() {
    for (index, (source, priority, message)) in CAPTURED.iter().enumerate() {
        let (ends, message) = (from(source), hex(message));
        let advert = parse(&ends, &message).unwrap();
        let six = matches!(ends, Ends::V6 { .. });
        let vrid = if six { 0x42 } else { 0x2c };
        assert_eq!((advert.vrid, advert.priority), (vrid, *priority), "{index}");
        assert_eq!(advert.interval, Duration::from_secs(1));
        assert!(advert.addresses.are(&addresses(six)));
        let pseudo_header = six || WITH_PSEUDO_HEADER.contains(&index);
        assert_eq!(advert.checksum == Checksum::PseudoHeader, pseudo_header);
        assert!(advert.trailer.is_none());
        assert_eq!(peek(&message), Some((advert.version.number(), vrid)));
    }
}

#[test]
fn what_is_written_is_what_keepalived_writes() {
    for (source, priority, message) in CAPTURED {
        let (ends, message) = (from(source), hex(message));
        let read = parse(&ends, &message).unwrap();
        let addresses = addresses(matches!(ends, Ends::V6 { .. }));
        let advert = NewAdvert {
            version: read.version,
            checksum: read.checksum,
            password: expected(&message).password,
            ..NewAdvert::v3(read.vrid, priority, 100, &addresses)
        };
        let mut buffer = [0xaa; 48];
        assert_eq!(advert.write(&ends, &mut buffer), Some(&message[..]));
        assert_eq!(advert.write(&ends, &mut buffer[..message.len() - 1]), None);
    }
}

#[test]
fn the_published_images_are_read_and_written() {
    for (source, destination, image) in SIGNED {
        let (secret, image) = (secret(), hex(image));
        let ends = Ends::unicast(source.parse().unwrap(), destination.parse().unwrap()).unwrap();
        let advert = Advert::parse(&ends, TTL, &image, &Expected::V3).unwrap();
        let number = advert
            .trailer
            .unwrap()
            .authenticate(&ends, |id| (id == 1).then_some(&secret[..]));
        assert_eq!(number, Ok(NUMBER));
        let addresses: Vec<_> = advert.addresses.iter().collect();
        let again = NewAdvert {
            signature: Some(Signature {
                key: 1,
                secret: &secret,
                number: NUMBER,
            }),
            ..NewAdvert::v3(51, 200, 100, &addresses)
        };
        assert_eq!(again.write(&ends, &mut [0xaa; 64]), Some(&image[..]));
    }
}

/// Each row spoils one byte of the IPv6 image as the draft's own test does, and has the checksum mended.
#[test]
fn spoilt_trailers_authenticate_nothing() {
    let (source, destination, image) = SIGNED[1];
    let (secret, image) = (secret(), hex(image));
    let ends = Ends::unicast(source.parse().unwrap(), destination.parse().unwrap()).unwrap();
    let elsewhere =
        Ends::unicast("fe80::11".parse().unwrap(), destination.parse().unwrap()).unwrap();
    let table = [
        ("priority", 2, ends, Err(TrailerError::Digest)),
        ("interval", 5, ends, Err(TrailerError::Digest)),
        ("nothing but the checksum", 6, ends, Ok(NUMBER)),
        ("address", 23, ends, Err(TrailerError::Digest)),
        ("scheme", 24, ends, Err(TrailerError::Malformed)),
        ("key", 25, ends, Err(TrailerError::UnknownKey(0))),
        ("reserved byte", 26, ends, Err(TrailerError::Malformed)),
        (
            "other reserved byte",
            27,
            ends,
            Err(TrailerError::Malformed),
        ),
        ("seconds", 28, ends, Err(TrailerError::Digest)),
        ("counter", 35, ends, Err(TrailerError::Digest)),
        ("digest", 36, ends, Err(TrailerError::Digest)),
        ("VRID", 1, ends, Err(TrailerError::Digest)),
        (
            "nothing but the sender",
            6,
            elsewhere,
            Err(TrailerError::Digest),
        ),
    ];
    for (name, at, ends, result) in table {
        let mut image = image.clone();
        image[at] ^= 1;
        mend(&ends, &mut image);
        let advert = Advert::parse(&ends, TTL, &image, &Expected::V3).unwrap();
        let keys = |id| (id == 1).then_some(&secret[..]);
        assert_eq!(
            advert.trailer.unwrap().authenticate(&ends, keys),
            result,
            "{name}"
        );
    }
}

#[test]
fn numbers_are_moments_and_only_grow() {
    let half_past = Number::at(0x6800_0000 * 1_000_000 + 500_000);
    assert_eq!(half_past, NUMBER);
    assert_eq!(half_past.micros(), 0x6800_0000 * 1_000_000 + 500_000);
    let table = [
        (
            "the clock moves",
            NUMBER,
            Number(NUMBER.0 + 0x10000),
            Number(NUMBER.0 + 0x10000),
        ),
        ("it stands", NUMBER, NUMBER, Number(NUMBER.0 + 1)),
        (
            "it was set back",
            NUMBER,
            Number::at(0),
            Number(NUMBER.0 + 1),
        ),
        (
            "the numbers end",
            Number(u64::MAX),
            Number(u64::MAX),
            Number(0),
        ),
        ("the seconds end", Number(u64::MAX), Number(5), Number(5)),
    ];
    for (name, last, now, next) in table {
        assert_eq!(last.next(now), next, "{name}");
        assert!(next.follows(last), "{name}");
        assert!(!last.follows(next) && !last.follows(last), "{name}");
    }
}

/// Each row spoils a captured advertisement; checks are made in the order of the RFCs, so rows from the checksum on have theirs
/// mended.
#[test]
fn refusals() {
    type Change = fn(&mut Vec<u8>);
    const V2: usize = 0;
    const V3: usize = 3;
    const V6: usize = 10;
    let table: [(&str, usize, bool, Change, ParseError); 21] = [
        (
            "version 2",
            V3,
            false,
            |m| m[0] = 0x21,
            ParseError::Version(2),
        ),
        (
            "version 3",
            V2,
            false,
            |m| m[0] = 0x31,
            ParseError::Version(3),
        ),
        (
            "version and type",
            V3,
            false,
            |m| m[0] = 0x22,
            ParseError::Version(2),
        ),
        ("type 2", V3, false, |m| m[0] = 0x32, ParseError::Type(2)),
        (
            "type and length",
            V6,
            false,
            |m| [m[0], m[3]] = [0x30, 9],
            ParseError::Type(0),
        ),
        (
            "no header",
            V3,
            false,
            |m| m.truncate(7),
            ParseError::Truncated { need: 8, have: 7 },
        ),
        (
            "nothing",
            V6,
            false,
            Vec::clear,
            ParseError::Truncated { need: 8, have: 0 },
        ),
        (
            "one address more",
            V3,
            false,
            |m| m[3] = 3,
            ParseError::Truncated { need: 20, have: 16 },
        ),
        (
            "255 addresses",
            V3,
            false,
            |m| m[3] = 255,
            ParseError::Truncated {
                need: 1028,
                have: 16,
            },
        ),
        (
            "255 of IPv6",
            V6,
            false,
            |m| m[3] = 255,
            ParseError::Truncated {
                need: 4088,
                have: 40,
            },
        ),
        (
            "half a password",
            V2,
            false,
            |m| m.truncate(20),
            ParseError::Truncated { need: 24, have: 20 },
        ),
        (
            "a bit of an address",
            V3,
            false,
            |m| m[11] ^= 1,
            ParseError::Checksum,
        ),
        (
            "one address less",
            V3,
            false,
            |m| m[3] = 1,
            ParseError::Checksum,
        ),
        (
            "longer than was summed up",
            V6,
            false,
            |m| m.push(7),
            ParseError::Checksum,
        ),
        (
            "a password's bit",
            V2,
            false,
            |m| m[23] ^= 1,
            ParseError::Checksum,
        ),
        (
            "another password",
            V2,
            true,
            |m| m[23] ^= 1,
            ParseError::Password,
        ),
        (
            "no authentication",
            V2,
            true,
            |m| m[4] = 0,
            ParseError::AuthenticationType(0),
        ),
        (
            "IPsec",
            V2,
            true,
            |m| m[4] = 2,
            ParseError::AuthenticationType(2),
        ),
        ("no address", V3, true, |m| m[3] = 0, ParseError::NoAddress),
        (
            "interval zero but for reserved bits",
            V3,
            true,
            |m| [m[4], m[5]] = [0xf0, 0],
            ParseError::ZeroInterval,
        ),
        (
            "interval zero",
            V2,
            true,
            |m| m[5] = 0,
            ParseError::ZeroInterval,
        ),
    ];
    for (name, which, mended, change, error) in table {
        let (source, _, message) = CAPTURED[which];
        let (ends, original) = (from(source), hex(message));
        let mut message = original.clone();
        change(&mut message);
        if mended {
            mend(&ends, &mut message);
        }
        let result = Advert::parse(&ends, TTL, &message, &expected(&original));
        assert_eq!(result.map(|_| ()), Err(error), "{name}");
    }
}

#[test]
fn authentication_that_nobody_asked_for_is_refused() {
    let (source, _, message) = CAPTURED[0];
    let plain = Expected {
        version: Version::V2,
        ..Expected::V3
    };
    let message = hex(message);
    let result = Advert::parse(&from(source), TTL, &message, &plain);
    assert_eq!(result.map(|_| ()), Err(ParseError::AuthenticationType(1)));
}

#[test]
fn a_routed_packet_is_refused_before_anything_else() {
    let wide = Expected {
        ttl: (1, 255),
        ..Expected::V3
    };
    for source in ["10.44.0.1", "fe80::1"] {
        for ttl in 0..=254 {
            let result = Advert::parse(&from(source), ttl, &[], &wide);
            assert_eq!(result.map(|_| ()), Err(ParseError::Ttl(ttl)));
        }
    }
}

#[test]
fn peers_may_be_as_far_away_as_is_allowed() {
    let ends = Ends::unicast("10.44.0.1".parse().unwrap(), "10.55.0.1".parse().unwrap()).unwrap();
    let near = Expected {
        ttl: (250, 254),
        ..Expected::V3
    };
    let own = addresses(false);
    let mut buffer = [0; 32];
    let message = NewAdvert::v3(1, 2, 3, &own)
        .write(&ends, &mut buffer)
        .unwrap();
    for ttl in 0..=255 {
        let result = Advert::parse(&ends, ttl, message, &near).map(|advert| advert.priority);
        let allowed = (250..=254).contains(&ttl);
        assert_eq!(result, allowed.then_some(2).ok_or(ParseError::Ttl(ttl)));
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    for (source, _, message) in CAPTURED {
        let (ends, message) = (from(source), hex(message));
        let expected = expected(&message);
        for len in 0..message.len() {
            assert!(
                Advert::parse(&ends, TTL, &message[..len], &expected).is_err(),
                "{len}"
            );
        }
        for bit in 0..8 * message.len() {
            let mut damaged = message.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Advert::parse(&ends, TTL, &damaged, &expected).is_err(),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn bytes_that_are_no_trailer_are_ignored_with_ipv4() {
    let (source, _, message) = CAPTURED[3];
    for more in (1..60).filter(|more| *more != trailer::LEN) {
        let mut longer = hex(message);
        longer.extend(std::iter::repeat_n(0xee, more));
        let advert = parse(&from(source), &longer).unwrap();
        assert_eq!(advert.addresses.len(), 2);
        assert!(advert.trailer.is_none(), "{more}");
    }
}

#[test]
fn addresses_match_in_any_order_only() {
    for (source, message) in [
        (CAPTURED[3].0, CAPTURED[3].2),
        (CAPTURED[10].0, CAPTURED[10].2),
    ] {
        let (ends, message) = (from(source), hex(message));
        let advert = parse(&ends, &message).unwrap();
        let [a, b] = addresses(matches!(ends, Ends::V6 { .. }));
        assert!(advert.addresses.are(&[b, a]));
        let foreign = [
            &[a][..],
            &[a, "10.44.0.7".parse().unwrap()],
            &[a, "fe80::7".parse().unwrap()],
            &[a, b, b],
            &[],
        ];
        for other in foreign {
            assert!(!advert.addresses.are(other), "{other:?}");
        }
    }
}

#[test]
fn the_most_addresses() {
    for six in [false, true] {
        let many = [addresses(six)[0]; 300];
        let ends = from(if six { "fe80::1" } else { "10.44.0.1" });
        let advert = NewAdvert::v3(1, 1, 1, &many);
        let mut buffer = [0; 5000];
        let message = advert.write(&ends, &mut buffer).unwrap();
        assert_eq!(message.len(), advert.size(&ends));
        assert_eq!(
            parse(&ends, message).unwrap().addresses.len(),
            MAX_ADDRESSES
        );
    }
}

#[test]
fn addresses_of_two_versions_are_not_written() {
    let mixed = [addresses(false)[0], addresses(true)[0]];
    for source in ["10.44.0.1", "fe80::1"] {
        assert_eq!(
            NewAdvert::v3(1, 1, 1, &mixed).write(&from(source), &mut [0; 99]),
            None
        );
    }
}

/// As OpenBSD and FreeBSD lay it out: base 1, skew 100, counter and digest.
#[test]
fn carp_is_told_from_version_2() {
    let ends = from("10.44.0.9");
    let mut message = [0x5a; 36];
    message[..8].copy_from_slice(&[0x21, 44, 100, 7, 0, 1, 0, 0]);
    let sum = checksum::of(&message);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    let expected = Carp {
        vhid: 44,
        base: 1,
        skew: 100,
    };
    assert_eq!(carp::parse(&ends, &message), Some(expected));
    assert!(parse(&ends, &message).is_err());
    for bit in 0..8 * message.len() {
        let mut damaged = message;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(carp::parse(&ends, &damaged), None, "bit {bit}");
    }
    let seven = [addresses(false)[0]; 7];
    let advert = NewAdvert {
        version: Version::V2,
        ..NewAdvert::v3(44, 100, 100, &seven)
    };
    let mut buffer = [0; 64];
    let vrrp = advert.write(&ends, &mut buffer).unwrap();
    assert!(parse(&ends, vrrp).is_ok());
    assert_eq!(carp::parse(&ends, vrrp), None);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        version in prop_oneof![Just(Version::V2), Just(Version::V3)],
        checksum in prop_oneof![Just(Checksum::Message), Just(Checksum::PseudoHeader)],
        vrid: u8,
        priority: u8,
        interval in 1_u16..4096,
        ends in ends(),
        count in 1_usize..=40,
        bits: u128,
        password: Option<[u8; 8]>,
        signature in proptest::option::of((1_u8.., proptest::collection::vec(any::<u8>(), MIN_SECRET..=MAX_SECRET), any::<u64>())),
        ttl in 1_u8..,
    ) {
        let version = if matches!(ends, Ends::V6 { .. }) { Version::V3 } else { version };
        let interval = if version == Version::V2 { 100 * (interval % 40 + 1) } else { interval };
        let password = password.filter(|_| version == Version::V2);
        let addresses: Vec<IpAddr> = (0..count as u128)
            .map(|index| bits.rotate_left(index as u32))
            .map(|bits| match ends {
                Ends::V4 { .. } => Ipv4Addr::from(bits as u32).into(),
                Ends::V6 { .. } => Ipv6Addr::from(bits).into(),
            })
            .collect();
        let signature = signature.as_ref().map(|(key, secret, number)| Signature {
            key: *key,
            secret,
            number: Number(*number),
        });
        let advert = NewAdvert { version, vrid, priority, interval, addresses: &addresses, checksum, password, signature };
        let mut buffer = [0xaa; 1024];
        let message = advert.write(&ends, &mut buffer).unwrap();
        prop_assert_eq!(message.len(), advert.size(&ends));
        let expected = Expected { version, ttl: (ttl, ttl), password };
        let ttl = if ends.is_multicast() { TTL } else { ttl };
        let read = Advert::parse(&ends, ttl, message, &expected).unwrap();
        prop_assert_eq!((read.version, read.vrid, read.priority), (version, vrid, priority));
        prop_assert_eq!(read.interval, Duration::from_millis(10 * u64::from(interval)));
        prop_assert_eq!(read.addresses.iter().collect::<Vec<_>>(), addresses);
        let chosen = match (ends, version) {
            (Ends::V6 { .. }, _) => Checksum::PseudoHeader,
            (Ends::V4 { .. }, Version::V2) => Checksum::Message,
            (Ends::V4 { .. }, Version::V3) => checksum,
        };
        prop_assert_eq!(read.checksum, chosen);
        prop_assert_eq!(read.trailer.is_some(), signature.is_some());
        if let (Some(trailer), Some(signature)) = (read.trailer, signature) {
            let number = trailer.authenticate(&ends, |id| (id == signature.key).then_some(signature.secret));
            prop_assert_eq!(number, Ok(signature.number));
            let other = trailer.authenticate(&ends, |_| Some(&signature.secret[1..]));
            prop_assert_eq!(other, Err(TrailerError::Digest));
        }
    }

    #[test]
    fn no_bytes_are_too_odd(ends in ends(), ttl: u8, version: bool, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let version = if version { Version::V2 } else { Version::V3 };
        let expected = Expected { version, ttl: (0, 255), password: None };
        let _ = Advert::parse(&ends, ttl, &bytes, &expected);
        let _ = carp::parse(&ends, &bytes);
        let _ = peek(&bytes);
    }
}

/// By multicast or to a peer, over either version.
fn ends() -> impl Strategy<Value = Ends> {
    let four = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(source, destination)| Ends::V4 {
        source,
        destination,
    });
    let six = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(source, destination)| Ends::V6 {
        source,
        destination,
    });
    let groups = prop_oneof![Just(from("10.1.2.3")), Just(from("fe80::3"))];
    prop_oneof![four, six, groups]
}

fn from(source: &str) -> Ends {
    Ends::multicast(source.parse().unwrap())
}

/// What the messages of this capture's version are expected to be.
fn expected(message: &[u8]) -> Expected {
    match message[0] >> 4 {
        2 => Expected {
            version: Version::V2,
            password: (message[4] == 1).then_some(SECRET12),
            ..Expected::V3
        },
        _ => Expected::V3,
    }
}

fn parse<'a>(ends: &Ends, message: &'a [u8]) -> Result<Advert<'a>, ParseError> {
    Advert::parse(ends, TTL, message, &expected(message))
}

fn addresses(six: bool) -> [IpAddr; 2] {
    let text = if six {
        ["fe80::fe", "fd44::fe"]
    } else {
        ["10.44.0.254", "10.44.0.253"]
    };
    text.map(|address| address.parse().unwrap())
}

/// Makes the checksum right again.
fn mend(ends: &Ends, payload: &mut [u8]) {
    payload[6..8].fill(0);
    let sum = match ends {
        Ends::V6 { .. } => ends.pseudo_header(payload.len()).bytes(payload).finish(),
        Ends::V4 { .. } => {
            let version = if payload[0] >> 4 == 2 {
                Version::V2
            } else {
                Version::V3
            };
            checksum::of(&payload[..message_len(version, 4, payload[3].into())])
        }
    };
    payload[6..8].copy_from_slice(&sum.to_be_bytes());
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|digit| char::from(digit).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
