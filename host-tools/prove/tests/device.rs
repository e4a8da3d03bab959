//! The rules as sets say the same as the tables that the device gets, about any packet.

use classifier::generate::{self, Kind, Random};
use classifier::{Aligned, Tables};
use policy::rule::State;
use prove::gate;
use prove::packet::{Packet, Version};
use prove::space::Space;

const PACKETS: usize = 400;
const LEGS: u8 = 8;
/// More than any board has.
const ROOM: usize = 64 << 20;

#[test]
fn sets_and_tables_agree() {
    for (seed, (kind, count)) in (1..).zip([(Kind::Acl, 1), (Kind::Acl, 60), (Kind::Firewall, 60)])
    {
        for (family, version) in [
            (generate::Version::V4, Version::V4),
            (generate::Version::V6, Version::V6),
        ] {
            let rules = generate::rules(kind, family, count, seed);
            let compiled = classifier::compile(&rules, ROOM).expect("tables");
            let bytes = Aligned::copy(&compiled.bytes);
            let tables = Tables::parse(&bytes).expect("tables");
            let space = Space::new(version);
            let sets: Vec<_> = rules
                .iter()
                .map(|rule| gate::rule_set(&space, rule))
                .collect();
            let mut random = Random::new(seed);
            let mut matched = 0;
            for _ in 0..PACKETS {
                let rule = &rules[random.below(rules.len())];
                let key = generate::key(rule, family, &mut random);
                let packet = packet(&key);
                let (from, to) = (key.from % LEGS, key.to % LEGS);
                let sees = |state| match state {
                    State::Any => true,
                    State::New => packet.opens(),
                    State::Invalid => !packet.opens(),
                };
                let expected = (rules.iter().zip(&sets)).position(|(rule, set)| {
                    sees(rule.state)
                        && rule.from.contains(from)
                        && rule.to.contains(to)
                        && space.contains(set, &packet)
                });
                matched += usize::from(expected.is_some());
                let key = classifier::Key { from, to, ..key };
                let found = tables.lookup(&key).map(|found| usize::from(found.rule));
                assert_eq!(found, expected, "seed {seed}: {packet}");
            }
            assert!(
                matched > PACKETS / 10,
                "{matched} of {PACKETS} packets meet a rule"
            );
        }
    }
}

fn packet(key: &classifier::Key) -> Packet {
    let (source, destination) = match key.addresses {
        classifier::Addresses::V4 {
            source,
            destination,
        } => (
            std::net::Ipv4Addr::from_bits(source).into(),
            std::net::Ipv4Addr::from_bits(destination).into(),
        ),
        classifier::Addresses::V6 {
            source,
            destination,
        } => {
            let address = |words: [u32; 4]| {
                std::net::Ipv6Addr::from_bits(
                    words
                        .iter()
                        .fold(0, |bits, word| bits << 32 | u128::from(*word)),
                )
            };
            (address(source).into(), address(destination).into())
        }
    };
    Packet {
        source,
        destination,
        protocol: key.protocol,
        source_port: key.source_port,
        destination_port: key.destination_port,
        flags: if key.state == classifier::State::New {
            prove::packet::flags::SYN
        } else {
            prove::packet::flags::ACK
        },
        hops: 64,
    }
}
