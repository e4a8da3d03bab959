//! The released bytes of an example, and everything that must be refused.

use std::vec::Vec as List;

use proptest::prelude::*;

use super::*;

/// Two interfaces, one service: a small appliance that uses every type.
fn example() -> Config {
    Config {
        name: name("gw1"),
        interfaces: [wan(), edge()].into_iter().collect(),
        default_route: Some([203, 0, 113, 1].into()),
        rules: [
            web(),
            Rule {
                protocol: Protocol::Ping,
                ..web()
            },
        ]
        .into_iter()
        .collect(),
        services: [https()].into_iter().collect(),
        ..Config::default()
    }
}

/// The blob of [`example`] in format version 1. Released: if this test fails, the code has to change.
const GOLDEN: &str = "
    52564c4e 0100 0000 a1000000 b4d592e6
    03677731
    02
    0377616e 00 00 020000000a01 cb007102 18 01 0a c8 0a 01 01 cb00710a 01 cb007101 3c
    0465646765 01 01 15 020000000a02 0a140102 18 01 15 c8 0a 01 01 0a140101 00 00
    01 cb007101
    02
    03776562 01 00 01 01 00000000 00 0a14010b 20 01 bb03 bb03 00
    03776562 01 00 01 01 00000000 00 0a14010b 20 03 00
    01
    056874747073 cb00710a bb03 02
    036c6231 0a14010b bb03
    036c6232 0a14010c bb03
    bb03 e807 8407 02 03
";

#[test]
fn released_bytes_stay() {
    let blob = blob(&example());
    assert_eq!(
        hex(&blob),
        GOLDEN.split_whitespace().collect::<std::string::String>()
    );
    assert_eq!(decode(&blob), Ok(example()));
}

#[test]
fn a_whole_region_may_be_passed() {
    let mut region = blob(&example());
    region.resize(4096, 0xff);
    assert_eq!(decode(&region), Ok(example()));
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
        decode(&blob).map_err(|error| std::format!("{error}"))
    };
    let table = [
        (
            "erased flash",
            with(0, &[0xff; 16]),
            "no configuration: the region is erased",
        ),
        (
            "erased RAM",
            with(0, &[0; 16]),
            "no configuration: the region is erased",
        ),
        (
            "an ELF",
            with(0, b"\x7fELF"),
            "not a configuration: it begins with [7f, 45, 4c, 46]",
        ),
        (
            "a later format",
            with(4, &[2, 0]),
            "format version 2 is not supported (this firmware reads 1)",
        ),
        (
            "reserved",
            with(6, &[0, 1]),
            "reserved header field is 0x0100 instead of zero",
        ),
        (
            "length",
            with(8, &[0xff; 4]),
            "truncated: need 4294967311 bytes, have 177",
        ),
        (
            "checksum",
            with(12, &[0; 4]),
            "damaged: checksum is e692d5b4, header says 00000000",
        ),
    ];
    for (name, answer, text) in table {
        assert_eq!(answer, Err(text.into()), "{name}");
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
        encode(&config, &mut [0; 1024]),
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
        let answer = encode(&example(), &mut std::vec![0; have]).map(<[u8]>::len);
        assert_eq!(answer, Err(EncodeError::BufferTooSmall { have }));
    }
    assert_eq!(
        encode(&example(), &mut std::vec![0; size]).map(<[u8]>::len),
        Ok(size)
    );
}

#[test]
fn the_largest_configuration_fits() {
    let largest = largest();
    let mut buffer = std::vec![0; MAX_BLOB];
    let blob = encode(&largest, &mut buffer).unwrap();
    assert_eq!(decode(blob).as_ref(), Ok(&largest));
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
            |c| router(c, 1).addresses.push([10, 20, 1, 1].into()).unwrap(),
            E::DuplicateAddress {
                interface: 1,
                address: [10, 20, 1, 1].into(),
            },
        ),
        (|c| router(c, 0).vrid = 0, E::Vrid { interface: 0 }),
        (
            |c| router(c, 0).priority = 0,
            E::Priority {
                interface: 0,
                priority: 0,
            },
        ),
        (
            |c| router(c, 0).priority = 255,
            E::Priority {
                interface: 0,
                priority: 255,
            },
        ),
        (
            |c| router(c, 1).priority = 199,
            E::UnequalRouters { interface: 1 },
        ),
        (
            |c| router(c, 1).preempt = false,
            E::UnequalRouters { interface: 1 },
        ),
        (
            |c| router(c, 0).advertisement_interval = 0,
            E::AdvertisementInterval {
                interface: 0,
                centiseconds: 0,
            },
        ),
        (
            |c| router(c, 0).advertisement_interval = 4096,
            E::AdvertisementInterval {
                interface: 0,
                centiseconds: 4096,
            },
        ),
        (
            |c| router(c, 0).addresses.clear(),
            E::NoVirtualAddress { interface: 0 },
        ),
        (
            |c| router(c, 1).addresses[0] = [10, 20, 1, 2].into(),
            E::AddressOwner {
                interface: 1,
                address: [10, 20, 1, 2].into(),
            },
        ),
        (
            |c| router(c, 1).addresses[0] = [198, 51, 100, 1].into(),
            E::VirtualAddressOutside {
                interface: 1,
                address: elsewhere,
            },
        ),
        (
            |c| c.default_route = Some([198, 51, 100, 1].into()),
            E::DefaultRoute { address: elsewhere },
        ),
        (
            |c| c.default_route = Some([203, 0, 113, 10].into()),
            E::DefaultRoute {
                address: Ipv4Addr::new(203, 0, 113, 10),
            },
        ),
        (
            |c| c.rules[1].from = Some(2),
            E::RuleInterface {
                rule: 1,
                interface: 2,
            },
        ),
        (
            |c| c.rules[1].to = Some(255),
            E::RuleInterface {
                rule: 1,
                interface: 255,
            },
        ),
        (
            |c| c.rules[0].source.length = 33,
            E::RulePrefixLength {
                rule: 0,
                length: 33,
            },
        ),
        (
            |c| c.rules[0].destination.length = 24,
            E::RuleHostBits {
                rule: 0,
                address: [10, 20, 1, 11].into(),
                length: 24,
            },
        ),
        (
            |c| c.rules[0].protocol = Protocol::Tcp { first: 2, last: 1 },
            E::RulePorts {
                rule: 0,
                first: 2,
                last: 1,
            },
        ),
        (
            |c| c.rules[0].protocol = Protocol::Udp { first: 2, last: 1 },
            E::RulePorts {
                rule: 0,
                first: 2,
                last: 1,
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
                second: 1,
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

#[test]
fn limits_themselves_are_allowed() {
    let mut config = example();
    config.interfaces[1].vlan = Some(4094);
    for interface in &mut config.interfaces {
        let router = interface.router.as_mut().unwrap();
        (router.priority, router.advertisement_interval) = (254, 4095);
    }
    assert_eq!(config.validate(), Ok(()));
    let alone = Config {
        interfaces: Vec::new(),
        default_route: None,
        rules: Vec::new(),
        services: Vec::new(),
        ..config
    };
    assert_eq!(alone.validate(), Ok(()), "an appliance that does nothing");
}

proptest! {
    /// Any payload behind a header that is right about it: an answer, never a panic, and what is
    /// accepted encodes again.
    #[test]
    fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(config) = decode(&sealed(&payload)) {
            prop_assert_eq!(decode(&blob(&config)), Ok(config));
        }
    }

    /// The same near the good one, so that most of it decodes.
    #[test]
    fn no_damaged_payload_panics(changes in prop::collection::vec((0..161_usize, any::<u8>()), 1..5)) {
        let mut payload = postcard::to_allocvec(&example()).unwrap();
        for (at, byte) in changes {
            payload[at] = byte;
        }
        if let Ok(config) = decode(&sealed(&payload)) {
            prop_assert_eq!(decode(&blob(&config)), Ok(config));
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
        router: Some(virtual_router(10, [203, 0, 113, 10])),
        track: [Ipv4Addr::new(203, 0, 113, 1)].into_iter().collect(),
        track_weight: 60,
        ..Interface::default()
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
        router: Some(virtual_router(21, [10, 20, 1, 1])),
        track: Vec::new(),
        track_weight: 0,
        ..Interface::default()
    }
}

fn virtual_router(vrid: u8, address: [u8; 4]) -> VirtualRouter {
    VirtualRouter {
        vrid,
        priority: 200,
        advertisement_interval: 10,
        preempt: true,
        addresses: [Ipv4Addr::from(address)].into_iter().collect(),
        ..VirtualRouter::default()
    }
}

fn web() -> Rule {
    Rule {
        name: name("web"),
        from: Some(0),
        to: Some(1),
        source: Prefix::ANY,
        destination: Prefix::of([10, 20, 1, 11].into(), 32),
        protocol: Protocol::Tcp {
            first: 443,
            last: 443,
        },
        action: Action::Accept,
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

/// As much of everything as the types hold, with the longest encoding of each number.
fn largest() -> Config {
    let long = name("a-name-of-thirty-one-characters");
    let mut config = Config {
        name: long.clone(),
        ..example()
    };
    config.interfaces = (0..MAX_INTERFACES as u8)
        .map(|n| Interface {
            name: long.clone(),
            port: 255,
            vlan: Some(4087 + u16::from(n)),
            mac: [0xfe; 6],
            address: [10, 20, n, 2].into(),
            prefix: 24,
            router: Some(VirtualRouter {
                vrid: 255 - n,
                priority: 254,
                advertisement_interval: 4095,
                preempt: true,
                addresses: (0..MAX_VIRTUAL_ADDRESSES as u8)
                    .map(|host| Ipv4Addr::new(10, 20, n, 100 + host))
                    .collect(),
                ..VirtualRouter::default()
            }),
            track: (0..MAX_TRACKED as u8)
                .map(|host| Ipv4Addr::new(10, 20, n, 10 + host))
                .collect(),
            track_weight: 255,
            ..Interface::default()
        })
        .collect();
    config.default_route = Some([10, 20, 0, 1].into());
    let rule = Rule {
        name: long.clone(),
        from: Some(7),
        to: Some(7),
        source: Prefix::of(Ipv4Addr::BROADCAST, 32),
        protocol: Protocol::Tcp {
            first: u16::MAX,
            last: u16::MAX,
        },
        ..web()
    };
    config.rules = core::iter::repeat_n(rule, MAX_RULES).collect();
    let server = Server {
        name: long.clone(),
        address: Ipv4Addr::new(10, 20, 0, 10).into(),
        port: u16::MAX,
        ..Server::default()
    };
    let max = u16::MAX;
    config.services = (0..MAX_SERVICES as u16)
        .map(|n| Service {
            name: long.clone(),
            address: Ipv4Addr::new(10, 20, 0, 100).into(),
            port: max - n,
            servers: core::iter::repeat_n(server.clone(), MAX_SERVERS).collect(),
            check: Check {
                port: max,
                interval_ms: max,
                timeout_ms: max,
                rise: 255,
                fall: 255,
                ..Check::default()
            },
            ..Service::default()
        })
        .collect();
    config
}

fn router(config: &mut Config, interface: usize) -> &mut VirtualRouter {
    config.interfaces[interface].router.as_mut().unwrap()
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

fn blob(config: &Config) -> List<u8> {
    encode(config, &mut [0; MAX_BLOB]).unwrap().to_vec()
}

/// A blob with a right header around any payload.
fn sealed(payload: &[u8]) -> List<u8> {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC)
        .checksum(payload)
        .to_le_bytes();
    let length = (payload.len() as u32).to_le_bytes();
    [b"RVLN\x01\x00\x00\x00", &length[..], &crc[..], payload].concat()
}

fn hex(bytes: &[u8]) -> std::string::String {
    bytes
        .iter()
        .map(|byte| std::format!("{byte:02x}"))
        .collect()
}
