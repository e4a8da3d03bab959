//! The released bytes of an example, and everything that must be refused.

use core::net::IpAddr;
use std::vec::Vec as List;

use proptest::prelude::*;

use super::*;

/// Two interfaces of both IP versions and one of everything else: a small appliance that uses every type.
fn example() -> Config {
    Config {
        name: name("gw1"),
        interfaces: [wan(), edge()].into_iter().collect(),
        routers: [
            virtual_router(0, 10, &[Ipv4Addr::new(203, 0, 113, 10).into()]),
            virtual_router(
                0,
                10,
                &[v6(0xfe80, 0, 10).into(), v6(0x2001, 0xdb8, 10).into()],
            ),
            VirtualRouter {
                authentication: Authentication::Hmac(Hmac {
                    keys: [Key {
                        id: 7,
                        secret: [1, 2, 3].into_iter().collect(),
                    }]
                    .into_iter()
                    .collect(),
                    mode: HmacMode::Permissive,
                }),
                peers: [Ipv4Addr::new(10, 20, 1, 3).into()].into_iter().collect(),
                ttl: (254, 255),
                ..virtual_router(1, 21, &[Ipv4Addr::new(10, 20, 1, 1).into()])
            },
        ]
        .into_iter()
        .collect(),
        availability: Availability {
            priority: 200,
            tracks: [
                Track {
                    what: Tracked::Neighbours(0),
                    weight: -60,
                    reverse: false,
                },
                Track {
                    what: Tracked::Port(1),
                    weight: 0,
                    reverse: false,
                },
            ]
            .into_iter()
            .collect(),
            pair: Some(pair()),
            ..Availability::default()
        },
        default_route: Some([203, 0, 113, 1].into()),
        default_route6: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
        services: [https(), dns()].into_iter().collect(),
        nat: [
            Nat::Source {
                source: Prefix::of([10, 20, 1, 0].into(), 24),
                to: 0,
                address: [203, 0, 113, 10].into(),
                first: 1024,
                last: 65535,
            },
            Nat::Destination {
                transport: Transport::Tcp,
                address: Ipv4Addr::new(203, 0, 113, 10).into(),
                first: 2200,
                last: 2209,
                server: Ipv4Addr::new(10, 20, 1, 22).into(),
                server_port: 22,
            },
            Nat::Prefix6 {
                to: 0,
                inside: Prefix6::of(v6(0xfd00, 0, 0), 48),
                outside: Prefix6::of(v6(0x2001, 0xdb9, 0), 48),
            },
        ]
        .into_iter()
        .collect(),
        limits: [
            Limit {
                kind: LimitKind::Rate {
                    per_second: 100,
                    burst: 200,
                },
                scope: Scope::Rule,
            },
            Limit {
                kind: LimitKind::Flows { max: 50 },
                scope: Scope::Source {
                    prefix: 32,
                    prefix6: 64,
                },
            },
        ]
        .into_iter()
        .collect(),
        protection: Protection::default(),
        anchors: [Anchor {
            subject: [1, 2, 3].into_iter().collect(),
            key: [4, 5, 6, 7].into_iter().collect(),
            constraints: [8].into_iter().collect(),
        }]
        .into_iter()
        .collect(),
        made: 1_800_000_000,
        events: Events {
            syslog: [collector([10, 20, 1, 41], 514)].into_iter().collect(),
            snmp: [collector([198, 51, 100, 7], 162)].into_iter().collect(),
            community: String::try_from("public").unwrap(),
            severity: Severity::Notice,
        },
    }
}

/// What stands for compiled rules.
const TABLES: &[u8] = &[1, 2, 3, 4, 5];

/// The blob of [`example`] and [`TABLES`] in format version 5. Released: if this test fails, the code has to change.
const GOLDEN: &str = "
    52564c4e05000000 81020000 05000000 4582e381
    03677731020377616e0000020000000a01cb007102180120010db800000000000000000000000240d40b01cb00710104
    65646765010115020000000a020a1401021800dc0b0003000a010a0100cb00710a140101000000ffff00000a010a0201
    fe80000000000000000000000000000a0120010db800000000000000000000000a140101000000ffff000115010a0100
    0a140101140101000001000a140103feff0201070301020301c8010000036488273c0200000201007700000100000103
    677732010201020000000b010a14010300020000000b00cb007103010503010003030303030303030303030303030303
    030303030303030303030303030303030404040404040404040404040404040404040404040404040404040404040404
    ef9bafcdf8acd1910101cb00710101fe8000000000000000000000000000010205687474707300cb00710abb03000000
    0002036c6231000a14010bbb030100036c6232000a14010cbb030100000100030f7777772e6578616d706c652e6f7267
    012fc801ab020000bb03e80784070203060003646e730120010db800000000000000000000000a350100040140d80401
    036e733101fd0000000000000000000000000000353503f0a2040105736f72727901fd00000000000000000000000000
    00363503f0a204011e040b6578616d706c652e636f6d35e8078407020306018f4e03000a1401001800cb00710a8008ff
    ff03010000cb00710a9811a111000a140116160200fd0000000000000000000000000000003020010db9000000000000
    00000000000030020064c80100013201204080040164010101030102030404050607010880a4a7da0601000a14012982
    040100c6336407a201067075626c6963050000000102030405
";

/// The header of a blob in version 1, which had the rules in the configuration.
const VERSION_1: &[u8] = b"RVLN\x01\x00\x00\x00\xa1\x00\x00\x00\xb4\xd5\x92\xe6";

#[test]
fn released_bytes_stay() {
    let blob = blob(&example());
    assert_eq!(
        hex(&blob),
        GOLDEN.split_whitespace().collect::<std::string::String>()
    );
    assert_eq!(decode(&blob), Ok((example(), TABLES)));
}

#[test]
fn a_whole_region_may_be_passed() {
    let mut region = blob(&example());
    region.resize(4096, 0xff);
    assert_eq!(decode(&region), Ok((example(), TABLES)));
}

#[test]
fn tables_are_aligned_and_may_be_missing() {
    let blob = blob(&example());
    assert_eq!((blob.len() - TABLES.len()) % 4, 0);
    let mut buffer = std::vec![0; MAX_CONFIG];
    let without = encode(&example(), &[], &mut buffer).unwrap();
    assert_eq!(decode(without), Ok((example(), &[][..])));
}

#[test]
fn every_truncation_is_refused() {
    let blob = blob(&example());
    for length in 0..blob.len() {
        let answer = decode(&blob[..length]);
        assert!(
            matches!(answer, Err(DecodeError::Truncated { .. })),
            "{length}: {answer:?}"
        );
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let blob = blob(&example());
    for bit in 0..8 * blob.len() {
        for tail in [0, 1000] {
            let mut damaged = blob.clone();
            damaged.resize(blob.len() + tail, 0xff);
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                decode(&damaged).is_err(),
                "bit {bit}, {tail} bytes after the blob"
            );
        }
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let good = blob(&example());
    let with = |at: usize, bytes: &[u8]| {
        let mut blob = good.clone();
        blob[at..at + bytes.len()].copy_from_slice(bytes);
        decode(&blob)
            .map(|_| ())
            .map_err(|error| std::format!("{error}"))
    };
    let checksum = u32::from_le_bytes(good[16..20].try_into().unwrap());
    let damaged = std::format!("damaged: checksum is {checksum:08x}, header says 00000000");
    let table = [
        (
            "erased flash",
            with(0, &[0xff; 20]),
            "no configuration: the region is erased",
        ),
        (
            "erased RAM",
            with(0, &[0; 20]),
            "no configuration: the region is erased",
        ),
        (
            "an ELF",
            with(0, b"\x7fELF"),
            "not a configuration: it begins with [7f, 45, 4c, 46]",
        ),
        (
            "an earlier format",
            with(0, VERSION_1),
            "format version 1 is not supported (this firmware reads 5)",
        ),
        (
            "the one before",
            with(4, &[4, 0]),
            "format version 4 is not supported (this firmware reads 5)",
        ),
        (
            "a later format",
            with(4, &[6, 0]),
            "format version 6 is not supported (this firmware reads 5)",
        ),
        (
            "reserved",
            with(6, &[0, 1]),
            "reserved header field is 0x0100 instead of zero",
        ),
        ("checksum", with(16, &[0; 4]), &damaged),
    ];
    for (name, answer, text) in table {
        assert_eq!(answer, Err(text.into()), "{name}");
    }
    for field in [8, 12] {
        let answer = with(field, &[0xff; 4]).unwrap_err();
        assert!(answer.starts_with("truncated: need "), "{answer}");
    }
}

#[test]
fn whole_but_wrong_payloads_are_refused() {
    let mut config = example();
    config.interfaces[0].vlan = Some(5000);
    let payload = postcard::to_allocvec(&config).unwrap();
    let error = ConfigError::Vlan {
        interface: 0,
        vlan: 5000,
    };
    assert_eq!(decode(&sealed(&payload)), Err(DecodeError::Invalid(error)));
    assert_eq!(
        encode(&config, TABLES, &mut [0; 2048]),
        Err(EncodeError::Invalid(error))
    );

    let mut payload = postcard::to_allocvec(&example()).unwrap();
    payload.push(0);
    assert_eq!(decode(&sealed(&payload)), Err(DecodeError::Trailing(1)));
    assert_eq!(decode(&sealed(&payload[..9])), Err(DecodeError::Malformed));
}

#[test]
fn the_buffer_is_named_when_it_is_too_small() {
    let size = blob(&example()).len();
    for have in 0..size {
        let answer = encode(&example(), TABLES, &mut std::vec![0; have]).map(<[u8]>::len);
        assert_eq!(answer, Err(EncodeError::TooLarge { tables: 5, have }));
    }
    assert_eq!(
        encode(&example(), TABLES, &mut std::vec![0; size]).map(<[u8]>::len),
        Ok(size)
    );
}

#[test]
fn the_largest_configuration_fits() {
    let largest = largest();
    let mut buffer = std::vec![0; MAX_CONFIG];
    let blob = encode(&largest, &[], &mut buffer).unwrap();
    assert_eq!(decode(blob).map(|(config, _)| config), Ok(largest));
}

#[test]
fn who_verifies_needs_an_authority_and_a_time() {
    let mut config = example();
    config.made = 0;
    assert_eq!(
        config.validate(),
        Err(ConfigError::CheckTime { service: 0 })
    );
    let mut config = example();
    config.anchors.clear();
    let error = ConfigError::CheckAnchor {
        service: 0,
        anchor: 0,
        count: 0,
    };
    assert_eq!(config.validate(), Err(error));
    let CheckKind::Https { trust, .. } = &mut config.services[0].check.kind else {
        panic!("the example checks over TLS")
    };
    *trust = Trust::Anybody;
    config.made = 0;
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn contradictions_are_refused() {
    use ConfigError as E;
    type Change = fn(&mut Config);
    let elsewhere = Ipv4Addr::new(198, 51, 100, 1);
    let table: &[(Change, E)] = &[
        (
            |c| c.interfaces[1].vlan = Some(0),
            E::Vlan {
                interface: 1,
                vlan: 0,
            },
        ),
        (
            |c| c.interfaces[1].vlan = Some(4095),
            E::Vlan {
                interface: 1,
                vlan: 4095,
            },
        ),
        (
            |c| (c.interfaces[1].port, c.interfaces[1].vlan) = (0, None),
            E::SharedLeg {
                first: 0,
                second: 1,
            },
        ),
        (|c| c.interfaces[0].mac = [0; 6], E::Mac { interface: 0 }),
        (|c| c.interfaces[0].mac[0] = 1, E::Mac { interface: 0 }),
        (
            |c| c.interfaces[0].prefix = 33,
            E::PrefixLength {
                interface: 0,
                length: 33,
            },
        ),
        (
            |c| c.interfaces[0].prefix = 0,
            E::PrefixLength {
                interface: 0,
                length: 0,
            },
        ),
        (
            |c| c.interfaces[0].address = [203, 0, 113, 255].into(),
            E::HostAddress {
                interface: 0,
                address: [203, 0, 113, 255].into(),
            },
        ),
        (
            |c| c.interfaces[1].address = [239, 0, 0, 1].into(),
            E::HostAddress {
                interface: 1,
                address: [239, 0, 0, 1].into(),
            },
        ),
        (
            |c| c.interfaces[0].track[0] = [198, 51, 100, 1].into(),
            E::Tracked {
                interface: 0,
                address: elsewhere,
            },
        ),
        (
            |c| {
                c.interfaces[0] = Interface {
                    port: 0,
                    vlan: None,
                    ..edge()
                };
            },
            E::OverlappingSubnets {
                first: 0,
                second: 1,
            },
        ),
        (
            |c| router(c, 2).addresses.push([10, 20, 1, 1].into()).unwrap(),
            E::DuplicateAddress {
                interface: 1,
                address: [10, 20, 1, 1].into(),
            },
        ),
        (
            |c| router(c, 2).interface = 2,
            E::RouterInterface {
                router: 2,
                interface: 2,
            },
        ),
        (|c| router(c, 0).vrid = 0, E::Vrid { router: 0 }),
        (
            |c| {
                let other = router(c, 0).clone();
                *router(c, 2) = other;
            },
            E::SharedVrid {
                first: 0,
                second: 2,
            },
        ),
        (|c| c.availability.priority = 0, E::Priority),
        (
            |c| c.availability.priority = 255,
            E::AddressOwner {
                router: 0,
                address: [203, 0, 113, 10].into(),
            },
        ),
        (|c| c.availability.preempt_delay = 1_000_001, E::Delay),
        (|c| c.availability.start_delay = 1_000_001, E::Delay),
        (|c| c.availability.announce.repeat = 0, E::Announce),
        (
            |c| c.availability.tracks[0].weight = -254,
            E::Track { track: 0 },
        ),
        (
            |c| c.availability.tracks[0].what = Tracked::Neighbours(1),
            E::Track { track: 0 },
        ),
        (
            |c| c.availability.tracks[1].what = Tracked::Port(2),
            E::Track { track: 1 },
        ),
        (
            |c| c.availability.tracks[1].what = Tracked::Service(2),
            E::Track { track: 1 },
        ),
        (|c| peer(c).heartbeat = 0, E::Heartbeat),
        (|c| peer(c).heartbeat = 1001, E::Heartbeat),
        (|c| peer(c).misses = 1, E::Heartbeat),
        (|c| peer(c).paths.clear(), E::Path { path: 0 }),
        (
            |c| peer(c).paths[1].address = [203, 0, 113, 2].into(),
            E::Path { path: 1 },
        ),
        (
            |c| peer(c).paths[0].mac = [1, 0, 0, 0, 0, 0],
            E::Path { path: 0 },
        ),
        (|c| peer(c).paths[1].interface = 1, E::Path { path: 1 }),
        (
            |c| router(c, 0).advertisement_interval = 0,
            E::AdvertisementInterval {
                router: 0,
                centiseconds: 0,
            },
        ),
        (
            |c| router(c, 0).advertisement_interval = 4096,
            E::AdvertisementInterval {
                router: 0,
                centiseconds: 4096,
            },
        ),
        (
            |c| router(c, 0).version = Version::V2,
            E::AdvertisementInterval {
                router: 0,
                centiseconds: 10,
            },
        ),
        (
            |c| {
                router(c, 1).version = Version::V2;
                router(c, 1).advertisement_interval = 100;
            },
            E::Version { router: 1 },
        ),
        (
            |c| router(c, 0).addresses.clear(),
            E::NoVirtualAddress { router: 0 },
        ),
        (
            |c| router(c, 0).advertised = 0,
            E::NoVirtualAddress { router: 0 },
        ),
        (
            |c| router(c, 1).addresses.swap(0, 1),
            E::NoLinkLocal { router: 1 },
        ),
        (
            |c| {
                router(c, 2)
                    .addresses
                    .push(v6(0xfe80, 0, 9).into())
                    .unwrap()
            },
            E::MixedVersions { router: 2 },
        ),
        (
            |c| {
                let many = |from: u8| (from..from + 20).map(|host| [10, 20, 1, host].into());
                let other = VirtualRouter {
                    vrid: 99,
                    addresses: many(120).collect(),
                    ..router(c, 2).clone()
                };
                router(c, 2).addresses = many(100).collect();
                c.routers.push(other).unwrap();
            },
            E::TooManyShared {
                interface: 1,
                count: 40,
            },
        ),
        (
            |c| router(c, 2).peers[0] = [10, 20, 1, 2].into(),
            E::Peer {
                router: 2,
                address: [10, 20, 1, 2].into(),
            },
        ),
        (
            |c| router(c, 2).peers[0] = v6(0x2001, 0xdb8, 3).into(),
            E::Peer {
                router: 2,
                address: v6(0x2001, 0xdb8, 3).into(),
            },
        ),
        (|c| router(c, 2).ttl = (255, 254), E::Ttl { router: 2 }),
        (|c| router(c, 2).ttl = (0, 255), E::Ttl { router: 2 }),
        (|c| router(c, 0).ttl = (254, 255), E::Ttl { router: 0 }),
        (
            |c| router(c, 0).authentication = Authentication::Password([1; 8]),
            E::Authentication { router: 0 },
        ),
        (|c| hmac(c).keys.clear(), E::Authentication { router: 2 }),
        (|c| hmac(c).keys[0].id = 0, E::Authentication { router: 2 }),
        (
            |c| {
                let key = hmac(c).keys[0].clone();
                hmac(c).keys.push(key).unwrap();
            },
            E::Authentication { router: 2 },
        ),
        (
            |c| router(c, 2).addresses[0] = [10, 20, 1, 2].into(),
            E::AddressOwner {
                router: 2,
                address: [10, 20, 1, 2].into(),
            },
        ),
        (
            |c| router(c, 2).addresses[0] = [198, 51, 100, 1].into(),
            E::VirtualAddressOutside {
                router: 2,
                address: elsewhere.into(),
            },
        ),
        (
            |c| c.default_route = Some([198, 51, 100, 1].into()),
            E::DefaultRoute {
                address: elsewhere.into(),
            },
        ),
        (
            |c| c.default_route = Some([203, 0, 113, 10].into()),
            E::DefaultRoute {
                address: Ipv4Addr::new(203, 0, 113, 10).into(),
            },
        ),
        (|c| c.services[0].port = 0, E::ServicePort { service: 0 }),
        (
            |c| c.services[0].address = Ipv4Addr::new(198, 51, 100, 1).into(),
            E::ServiceAddress {
                service: 0,
                address: elsewhere.into(),
            },
        ),
        (
            |c| c.services.push(https()).unwrap(),
            E::SharedService {
                first: 0,
                second: 2,
            },
        ),
        (
            |c| c.services[0].servers.clear(),
            E::NoServers { service: 0 },
        ),
        (
            |c| c.services[0].servers[1].port = 0,
            E::ServerPort {
                service: 0,
                server: 1,
            },
        ),
        (
            |c| c.services[0].servers[1].address = [203, 0, 113, 10].into(),
            E::ServerAddress {
                service: 0,
                server: 1,
            },
        ),
        (
            |c| c.services[0].servers[0].address = Ipv4Addr::BROADCAST.into(),
            E::ServerAddress {
                service: 0,
                server: 0,
            },
        ),
        (
            |c| c.services[0].check.port = 0,
            E::CheckZero { service: 0 },
        ),
        (
            |c| c.services[0].check.interval_ms = 0,
            E::CheckZero { service: 0 },
        ),
        (
            |c| c.services[0].check.timeout_ms = 0,
            E::CheckZero { service: 0 },
        ),
        (
            |c| c.services[0].check.rise = 0,
            E::CheckZero { service: 0 },
        ),
        (
            |c| c.services[0].check.fall = 0,
            E::CheckZero { service: 0 },
        ),
    ];
    assert_eq!(example().validate(), Ok(()));
    for (change, error) in table {
        let mut config = example();
        change(&mut config);
        assert_eq!(config.validate(), Err(*error), "{error}");
    }
}

/// The same for what version 2 added.
#[test]
fn contradictions_of_both_versions_are_refused() {
    use ConfigError as E;
    type Change = fn(&mut Config);
    let guest: IpAddr = v6(0x2001, 0xdba, 1).into();
    let table: &[(Change, E)] = &[
        (
            |c| c.interfaces[0].mtu = 1279,
            E::Mtu {
                interface: 0,
                mtu: 1279,
            },
        ),
        (
            |c| c.interfaces[1].mtu = 1501,
            E::Mtu {
                interface: 1,
                mtu: 1501,
            },
        ),
        (
            |c| own6(c).prefix = 129,
            E::PrefixLength6 {
                interface: 0,
                length: 129,
            },
        ),
        (
            |c| own6(c).address = v6(0x2001, 0xdb8, 0),
            E::HostAddress6 {
                interface: 0,
                address: v6(0x2001, 0xdb8, 0),
            },
        ),
        (
            |c| own6(c).address = v6(0xff02, 0, 1),
            E::HostAddress6 {
                interface: 0,
                address: v6(0xff02, 0, 1),
            },
        ),
        (
            |c| c.interfaces[1].address6 = c.interfaces[0].address6,
            E::OverlappingSubnets {
                first: 0,
                second: 1,
            },
        ),
        (
            |c| router(c, 1).addresses[1] = v6(0x2001, 0xdb8, 2).into(),
            E::AddressOwner {
                router: 1,
                address: v6(0x2001, 0xdb8, 2).into(),
            },
        ),
        (
            |c| router(c, 1).addresses[1] = v6(0x2001, 0xdba, 1).into(),
            E::VirtualAddressOutside {
                router: 1,
                address: guest,
            },
        ),
        (
            |c| c.interfaces[0].address6 = None,
            E::VirtualAddressOutside {
                router: 1,
                address: v6(0xfe80, 0, 10).into(),
            },
        ),
        (
            |c| c.default_route6 = Some(v6(0x2001, 0xdba, 1)),
            E::DefaultRoute { address: guest },
        ),
        (
            |c| c.services[1].agent = Some(0),
            E::ServicePort { service: 1 },
        ),
        (
            |c| c.services[0].servers[0].address = v6(0xfd00, 0, 5).into(),
            E::ServerVersion {
                service: 0,
                server: 0,
                address: v6(0xfd00, 0, 5).into(),
            },
        ),
        (
            |c| c.services[0].servers[1] = c.services[0].servers[0].clone(),
            E::SharedServer {
                service: 0,
                first: 0,
                second: 1,
            },
        ),
        (
            |c| c.services[1].sorry.as_mut().unwrap().port = 0,
            E::ServerPort {
                service: 1,
                server: 1,
            },
        ),
        (
            |c| {
                c.services[0].forwarding = Forwarding::DirectReturn;
                c.services[0].servers[1].port = 444;
            },
            E::DirectReturn {
                service: 0,
                server: 1,
            },
        ),
        (
            |c| c.services[1].forwarding = Forwarding::DirectReturn,
            E::DirectReturn {
                service: 1,
                server: 0,
            },
        ),
        (
            |c| c.services[0].quorum = 3,
            E::Quorum {
                service: 0,
                quorum: 3,
                servers: 2,
            },
        ),
        (
            |c| c.services[0].quorum = 0,
            E::Quorum {
                service: 0,
                quorum: 0,
                servers: 2,
            },
        ),
        (
            |c| {
                c.services[0].persistence = Some(Persistence {
                    prefix: 33,
                    seconds: 9,
                })
            },
            E::Persistence {
                service: 0,
                prefix: 33,
                most: 32,
                seconds: 9,
            },
        ),
        (
            |c| c.services[0].check.jitter = 51,
            E::Jitter {
                service: 0,
                percent: 51,
            },
        ),
        (
            |c| set_source(c, 2, 1024),
            E::NatInterface {
                nat: 0,
                interface: 2,
            },
        ),
        (
            |c| set_source(c, 0, 0),
            E::NatPorts {
                nat: 0,
                first: 0,
                last: 65535,
            },
        ),
        (
            |c| c.nat[1] = forward(Ipv4Addr::new(203, 0, 113, 9), 80, 80),
            E::NatAddress {
                nat: 1,
                address: Ipv4Addr::new(203, 0, 113, 9).into(),
            },
        ),
        (
            |c| c.nat[1] = forward(Ipv4Addr::new(203, 0, 113, 10), 1, u16::MAX),
            E::NatServerPorts {
                nat: 1,
                port: 22,
                count: 65535,
            },
        ),
        (
            |c| c.nat[1] = forward(Ipv4Addr::new(203, 0, 113, 10), 443, 443),
            E::NatService { nat: 1, service: 0 },
        ),
        (
            |c| {
                c.nat
                    .push(forward(Ipv4Addr::new(203, 0, 113, 10), 2201, 2202))
                    .unwrap()
            },
            E::NatHidden { nat: 3, by: 1 },
        ),
        (
            |c| {
                set_source(c, 0, 1024);
                c.nat[1] = c.nat[0];
                set_source(c, 0, 2048);
            },
            E::NatHidden { nat: 1, by: 0 },
        ),
        (
            |c| {
                c.nat[2] = Nat::Prefix6 {
                    to: 0,
                    inside: Prefix6::of(v6(0xfd00, 0, 0), 48),
                    outside: Prefix6::of(v6(0x2001, 0xdb9, 0), 56),
                };
            },
            E::NatPrefix { nat: 2 },
        ),
        (
            |c| c.events.syslog[0].port = 0,
            E::Collector {
                address: Ipv4Addr::new(10, 20, 1, 41).into(),
            },
        ),
        (
            |c| c.events.snmp[0].address = Ipv4Addr::new(10, 20, 1, 1).into(),
            E::Collector {
                address: Ipv4Addr::new(10, 20, 1, 1).into(),
            },
        ),
        (
            |c| {
                c.default_route = None;
            },
            E::CollectorRoute {
                address: Ipv4Addr::new(198, 51, 100, 7).into(),
            },
        ),
        (
            |c| {
                let again = c.events.syslog[0];
                c.events.syslog.push(again).unwrap();
            },
            E::SharedCollector {
                address: Ipv4Addr::new(10, 20, 1, 41).into(),
            },
        ),
        (|c| c.events.community.clear(), E::NoCommunity),
        (
            |c| c.limits[1].kind = LimitKind::Flows { max: 0 },
            E::LimitZero { limit: 1 },
        ),
        (
            |c| {
                c.limits[1].scope = Scope::Source {
                    prefix: 0,
                    prefix6: 64,
                }
            },
            E::LimitPrefix {
                limit: 1,
                prefix: 0,
                prefix6: 64,
            },
        ),
    ];
    for (change, error) in table {
        let mut config = example();
        change(&mut config);
        assert_eq!(config.validate(), Err(*error), "{error}");
    }
}

fn own6(config: &mut Config) -> &mut Interface6 {
    config.interfaces[0].address6.as_mut().unwrap()
}

fn set_source(config: &mut Config, to: u8, first: u16) {
    config.nat[0] = Nat::Source {
        source: Prefix::of([10, 20, 1, 0].into(), 24),
        to,
        address: [203, 0, 113, 10].into(),
        first,
        last: 65535,
    };
}

fn forward(address: Ipv4Addr, first: u16, last: u16) -> Nat {
    Nat::Destination {
        transport: Transport::Tcp,
        address: address.into(),
        first,
        last,
        server: Ipv4Addr::new(10, 20, 1, 22).into(),
        server_port: 22,
    }
}

/// What cannot be put into a check's question as it is.
#[test]
fn checks_that_cannot_be_asked() {
    let text = |text: &str| Text::try_from(text).unwrap();
    let http = |host: &str, path: &str, lowest, highest| CheckKind::Http {
        host: text(host),
        path: text(path),
        lowest,
        highest,
    };
    let dns = |name: &str| CheckKind::Dns { name: text(name) };
    let label = ["a"; 63].concat();
    let table = [
        (CheckKind::Ping, true),
        (http("www.example.org", "/health?a=b", 200, 399), true),
        (http("", "/", 100, 999), true),
        (http("www.example.org\r\nX-Evil: 1", "/", 200, 399), false),
        (http("www.example.org", "/a b", 200, 399), false),
        (http("www.exämple.org", "/", 200, 399), false),
        (http("www.example.org", "health", 200, 399), false),
        (http("www.example.org", "", 200, 399), false),
        (http("www.example.org", "/", 399, 200), false),
        (http("www.example.org", "/", 0, 200), false),
        (http("www.example.org", "/", 1000, 1001), false),
        (dns("www.example.org."), true),
        (dns("."), true),
        (dns(&label), true),
        (dns("www..org"), false),
        (dns(".org"), false),
    ];
    for (kind, good) in table {
        let mut config = example();
        config.services[0].check.kind = kind.clone();
        let expected = match good {
            true => Ok(()),
            false => Err(ConfigError::CheckQuestion { service: 0 }),
        };
        assert_eq!(config.validate(), expected, "{kind:?}");
    }
    let mut config = example();
    config.services[0].check.kind = CheckKind::Ping;
    config.services[0].check.port = 0;
    assert_eq!(config.validate(), Ok(()), "a ping has no port");
}

#[test]
fn limits_themselves_are_allowed() {
    let mut config = example();
    config.interfaces[1].vlan = Some(4094);
    config.availability.priority = 254;
    for router in &mut config.routers {
        router.advertisement_interval = 4095;
    }
    assert_eq!(config.validate(), Ok(()));
    let alone = Config {
        interfaces: Vec::new(),
        routers: Vec::new(),
        availability: Availability::default(),
        default_route: None,
        default_route6: None,
        services: Vec::new(),
        nat: Vec::new(),
        events: Events::default(),
        ..config
    };
    assert_eq!(alone.validate(), Ok(()), "an appliance that does nothing");
}

proptest! {
    /// Any payload behind a header that is right about it: an answer, never a panic, and what is
    /// accepted encodes again.
    #[test]
    fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((config, _)) = decode(&sealed(&payload)) {
            let again = blob(&config);
            prop_assert_eq!(decode(&again), Ok((config, TABLES)));
        }
    }

    /// The same near the good one, so that most of it decodes.
    #[test]
    fn no_damaged_payload_panics(changes in prop::collection::vec((0..400_usize, any::<u8>()), 1..5)) {
        let mut payload = postcard::to_allocvec(&example()).unwrap();
        for (at, byte) in changes {
            let at = at % payload.len();
            payload[at] = byte;
        }
        if let Ok((config, _)) = decode(&sealed(&payload)) {
            let again = blob(&config);
            prop_assert_eq!(decode(&again), Ok((config, TABLES)));
        }
    }
}

fn wan() -> Interface {
    Interface {
        name: name("wan"),
        port: 0,
        vlan: None,
        mac: [2, 0, 0, 0, 10, 1],
        address: [203, 0, 113, 2].into(),
        prefix: 24,
        track: [Ipv4Addr::new(203, 0, 113, 1)].into_iter().collect(),
        address6: Some(Interface6 {
            address: v6(0x2001, 0xdb8, 2),
            prefix: 64,
        }),
        mtu: 1492,
    }
}

fn edge() -> Interface {
    Interface {
        name: name("edge"),
        port: 1,
        vlan: Some(21),
        mac: [2, 0, 0, 0, 10, 2],
        address: [10, 20, 1, 2].into(),
        prefix: 24,
        track: Vec::new(),
        ..Interface::default()
    }
}

fn virtual_router(interface: u8, vrid: u8, addresses: &[IpAddr]) -> VirtualRouter {
    VirtualRouter {
        interface,
        vrid,
        advertisement_interval: 10,
        addresses: addresses.iter().copied().collect(),
        ..VirtualRouter::default()
    }
}

fn pair() -> Pair {
    let path = |interface, address| Path {
        interface,
        mac: [2, 0, 0, 0, 11, interface],
        address,
    };
    Pair {
        peer: name("gw2"),
        first: true,
        paths: [
            path(1, [10, 20, 1, 3].into()),
            path(0, [203, 0, 113, 3].into()),
        ]
        .into_iter()
        .collect(),
        serial: true,
        heartbeat: 5,
        misses: 3,
        sync: true,
        defer: false,
        key: [3; 32],
        operator: [4; 32],
        fingerprint: 0x0123_4567_89ab_cdef,
    }
}

fn https() -> Service {
    let server = |text, host| Server {
        name: name(text),
        address: Ipv4Addr::new(10, 20, 1, host).into(),
        port: 443,
        ..Server::default()
    };
    Service {
        name: name("https"),
        address: Ipv4Addr::new(203, 0, 113, 10).into(),
        port: 443,
        servers: [server("lb1", 11), server("lb2", 12)].into_iter().collect(),
        check: Check {
            kind: CheckKind::Https {
                host: Text::try_from("www.example.org").unwrap(),
                path: Text::try_from("/").unwrap(),
                lowest: 200,
                highest: 299,
                trust: Trust::Anchor(0),
            },
            port: 443,
            interval_ms: 1000,
            timeout_ms: 900,
            rise: 2,
            fall: 3,
            ..Check::default()
        },
        ..Service::default()
    }
}

/// A service of the other IP version that uses what [`https`] leaves as it is.
fn dns() -> Service {
    let text = |text: &str| Text::try_from(text).unwrap();
    let server = Server {
        name: name("ns1"),
        address: v6(0xfd00, 0, 53).into(),
        port: 53,
        weight: 3,
        max_flows: 70_000,
    };
    Service {
        name: name("dns"),
        address: v6(0x2001, 0xdb8, 10).into(),
        port: 53,
        transport: Transport::Udp,
        balance: Balance::Maglev,
        persistence: Some(Persistence {
            prefix: 64,
            seconds: 600,
        }),
        sorry: Some(Server {
            name: name("sorry"),
            address: v6(0xfd00, 0, 54).into(),
            ..server.clone()
        }),
        servers: [server].into_iter().collect(),
        slow_start: 30,
        check: Check {
            kind: CheckKind::Dns {
                name: text("example.com"),
            },
            port: 53,
            ..Check::default()
        },
        agent: Some(9999),
        ..Service::default()
    }
}

/// An address from the documentation or private range, by its first two groups and its last one.
fn v6(first: u16, second: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, last)
}

/// As much of everything as the types hold, with the longest encoding of each number.
fn largest() -> Config {
    let long = name("a-name-of-thirty-one-characters");
    let text = |first: &str| {
        let text = [first, &"x".repeat(62)].concat();
        Text::try_from(text.as_str()).unwrap()
    };
    let host6 = |network: u8, host: u16| Ipv6Addr::new(0xfd00, 0, 0, network.into(), 0, 0, 0, host);
    let max = u16::MAX;
    let interface = |n: u8| Interface {
        name: long.clone(),
        port: 255,
        vlan: Some(4087 + u16::from(n)),
        mac: [0xfe; 6],
        address: [10, 20, n, 2].into(),
        prefix: 24,
        address6: Some(Interface6 {
            address: host6(n, 2),
            prefix: 64,
        }),
        mtu: MTU,
        track: (0..MAX_TRACKED as u8)
            .map(|host| Ipv4Addr::new(10, 20, n, 10 + host))
            .collect(),
    };
    let key = |id| Key {
        id,
        secret: core::iter::repeat_n(255, 64).collect(),
    };
    let router = |n: u8| VirtualRouter {
        interface: n / 2,
        vrid: 255 - n,
        advertisement_interval: 4095,
        addresses: (0..MAX_VIRTUAL_ADDRESSES as u16)
            .map(|host| match n % 2 {
                0 => Ipv4Addr::new(10, 20, n / 2, 100 + host as u8).into(),
                _ if host == 0 => v6(0xfe80, 0, 1).into(),
                _ => host6(n / 2, 99 + host).into(),
            })
            .collect(),
        peers: (0..MAX_PEERS as u16)
            .map(|host| match n % 2 {
                0 => Ipv4Addr::new(10, 20, n / 2, 3 + host as u8).into(),
                _ => host6(n / 2, 3 + host).into(),
            })
            .collect(),
        authentication: Authentication::Hmac(Hmac {
            keys: [key(255), key(254)].into_iter().collect(),
            mode: HmacMode::Enforce,
        }),
        ..VirtualRouter::default()
    };
    let track = Track {
        what: Tracked::Posted(255),
        weight: -253,
        reverse: true,
    };
    let pair = Pair {
        peer: long.clone(),
        paths: (0..MAX_PATHS as u8)
            .map(|interface| Path {
                interface,
                mac: [0xfc; 6],
                address: [10, 20, interface, 3].into(),
            })
            .collect(),
        heartbeat: 1000,
        misses: 255,
        defer: true,
        key: [255; 32],
        operator: [255; 32],
        fingerprint: u64::MAX,
        ..pair()
    };
    let server = |host: u16| Server {
        name: long.clone(),
        address: host6(0, host).into(),
        port: max,
        weight: 255,
        max_flows: u32::MAX,
    };
    let service = |n: u16| Service {
        name: long.clone(),
        address: host6(0, 100).into(),
        port: max - n,
        transport: Transport::Udp,
        forwarding: Forwarding::Nat,
        balance: Balance::Maglev,
        persistence: Some(Persistence {
            prefix: 128,
            seconds: max,
        }),
        servers: (0..MAX_SERVERS as u16)
            .map(|host| server(200 + host))
            .collect(),
        sorry: Some(server(250)),
        quorum: MAX_SERVERS as u8,
        slow_start: max,
        check: Check {
            kind: CheckKind::Https {
                host: text("x"),
                path: text("/"),
                lowest: 998,
                highest: 999,
                trust: Trust::Anchor(MAX_ANCHORS as u8 - 1),
            },
            port: max,
            interval_ms: max,
            timeout_ms: max,
            rise: 255,
            fall: 255,
            jitter: 50,
        },
        agent: Some(max),
    };
    let nat = |n: u16| Nat::Destination {
        transport: Transport::Udp,
        address: host6(0, 100).into(),
        first: 60_000 + n,
        last: 60_000 + n,
        server: host6(0, 200).into(),
        server_port: max,
    };
    let limit = Limit {
        kind: LimitKind::Rate {
            per_second: max,
            burst: max,
        },
        scope: Scope::Source {
            prefix: 32,
            prefix6: 128,
        },
    };
    let anchor = Anchor {
        subject: core::iter::repeat_n(255, 256).collect(),
        key: core::iter::repeat_n(255, 576).collect(),
        constraints: core::iter::repeat_n(255, 256).collect(),
    };
    Config {
        name: long.clone(),
        interfaces: (0..MAX_INTERFACES as u8).map(interface).collect(),
        routers: (0..MAX_ROUTERS as u8).map(router).collect(),
        availability: Availability {
            priority: 254,
            preempt_delay: 1_000_000,
            start_delay: 1_000_000,
            announce: Announce {
                repeat: 255,
                gap: max,
                second: max,
                refresh: max,
                rival: 255,
                router_advertisement: max,
                ..Announce::default()
            },
            tracks: core::iter::repeat_n(track, MAX_TRACKS).collect(),
            pair: Some(pair),
            ..Availability::default()
        },
        default_route: Some([10, 20, 0, 1].into()),
        default_route6: Some(host6(0, 1)),
        services: (0..MAX_SERVICES as u16).map(service).collect(),
        nat: (0..MAX_NAT as u16).map(nat).collect(),
        limits: core::iter::repeat_n(limit, MAX_LIMITS).collect(),
        protection: Protection {
            syn_cookies_above: max,
            icmp_errors_per_second: max,
            ..Protection::default()
        },
        anchors: core::iter::repeat_n(anchor, MAX_ANCHORS).collect(),
        made: u64::MAX,
        events: Events {
            syslog: (0..MAX_COLLECTORS as u8)
                .map(|n| collector6(n, max))
                .collect(),
            snmp: (0..MAX_COLLECTORS as u8)
                .map(|n| collector6(n, max))
                .collect(),
            community: core::iter::repeat_n('x', 32).collect(),
            severity: Severity::Debug,
        },
    }
}

fn collector(address: [u8; 4], port: u16) -> Collector {
    Collector {
        address: Ipv4Addr::from(address).into(),
        port,
    }
}

fn collector6(last: u8, port: u16) -> Collector {
    let address = v6(0x2001, 0xdb9, 0xff00 | u16::from(last)).into();
    Collector { address, port }
}

fn router(config: &mut Config, index: usize) -> &mut VirtualRouter {
    &mut config.routers[index]
}

fn peer(config: &mut Config) -> &mut Pair {
    config.availability.pair.as_mut().unwrap()
}

fn hmac(config: &mut Config) -> &mut Hmac {
    match &mut config.routers[2].authentication {
        Authentication::Hmac(hmac) => hmac,
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn blob(config: &Config) -> List<u8> {
    encode(config, TABLES, &mut std::vec![0; MAX_CONFIG])
        .unwrap()
        .to_vec()
}

/// A blob with a right header around any payload, and no tables.
fn sealed(payload: &[u8]) -> List<u8> {
    let mut payload = payload.to_vec();
    let length = (payload.len() as u32).to_le_bytes();
    payload.resize(payload.len().next_multiple_of(4), 0);
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC)
        .checksum(&payload)
        .to_le_bytes();
    [
        b"RVLN\x05\x00\x00\x00",
        &length[..],
        &[0; 4],
        &crc,
        &payload,
    ]
    .concat()
}

fn hex(bytes: &[u8]) -> std::string::String {
    bytes
        .iter()
        .map(|byte| std::format!("{byte:02x}"))
        .collect()
}
