//! Tables decide as the rules do: random rules against random packets and packets at the rules' boundaries.

use std::net::{Ipv4Addr, Ipv6Addr};

use classifier::generate::{self, Kind, Random, Version};
use classifier::linear::first_match;
use classifier::{Addresses, Aligned, Key, State, Tables, compile};
use policy::rule::{self, Action, Legs, Ports, Protocol, Rule, Sharing};
use policy::{IpPrefix, Name, Prefix, Prefix6};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const ROOM: usize = 1 << 20;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn tables_decide_as_the_rules(rules in vec(a_rule(), 0..40), keys in vec(a_key(), 64)) {
        let bytes = Aligned::copy(&compile(&rules, ROOM).unwrap().bytes);
        let tables = Tables::parse(&bytes).unwrap();
        prop_assert_eq!(usize::from(tables.rules()), rules.len());
        for key in keys {
            prop_assert_eq!(tables.lookup(&key), first_match(&rules, &key), "{:?}", key);
        }
    }

    /// Where no rule can match a state, none does; and where rules are for one state only, the tables know.
    #[test]
    fn tables_know_which_states_matter(rules in vec(a_rule(), 0..40), keys in vec(a_key(), 64)) {
        let bytes = Aligned::copy(&compile(&rules, ROOM).unwrap().bytes);
        let tables = Tables::parse(&bytes).unwrap();
        for key in keys.iter().filter(|key| tables.lookup(key).is_some()) {
            prop_assert!(tables.may_match(key.state), "{:?}", key);
        }
        let new: Vec<Rule> = rules.into_iter().map(|rule| Rule { state: rule::State::New, ..rule }).collect();
        let bytes = Aligned::copy(&compile(&new, ROOM).unwrap().bytes);
        prop_assert!(!Tables::parse(&bytes).unwrap().may_match(State::Invalid));
    }

    /// Nothing that gets past `parse` leaves the tables or runs for ever.
    #[test]
    fn damaged_tables_are_refused_or_harmless(
        rules in vec(a_rule(), 1..30),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keys in vec(a_key(), 16),
    ) {
        let mut bytes = compile(&rules, ROOM).unwrap().bytes;
        for (index, byte) in damage {
            *index.get_mut(&mut bytes) = byte;
        }
        let bytes = Aligned::copy(&bytes);
        if let Ok(tables) = Tables::parse(&bytes) {
            for key in keys {
                let found = tables.lookup(&key);
                prop_assert!(found.is_none_or(|found| found.rule < tables.rules()));
            }
        }
    }

    #[test]
    fn bytes_that_are_no_tables_are_refused_without_panic(bytes in vec(any::<u8>(), 0..200)) {
        let mut whole = b"RVLT".to_vec();
        whole.extend(&bytes);
        let _ = Tables::parse(&Aligned::copy(&bytes));
        if let Ok(tables) = Tables::parse(&Aligned::copy(&whole)) {
            let _ = tables.lookup(&generate::key(&a_rule_of_nothing(), Version::V4, &mut Random::new(1)));
        }
    }
}

#[test]
fn generated_sets_decide_as_their_rules() {
    for (kind, version, count) in [
        (Kind::Acl, Version::V4, 10),
        (Kind::Acl, Version::V4, 500),
        (Kind::Firewall, Version::V4, 300),
        (Kind::Acl, Version::V6, 500),
        (Kind::Firewall, Version::V6, 300),
    ] {
        let rules = generate::rules(kind, version, count, 3);
        let bytes = Aligned::copy(&compile(&rules, ROOM).unwrap().bytes);
        let tables = Tables::parse(&bytes).unwrap();
        let mut random = Random::new(5);
        let mut hits = 0;
        for rule in &rules {
            let key = generate::key(rule, version, &mut random);
            let found = tables.lookup(&key);
            assert_eq!(
                found,
                first_match(&rules, &key),
                "{kind:?} {version:?}: {key:?}"
            );
            hits += u32::from(found.is_some());
        }
        assert_eq!(
            hits as usize, count,
            "a rule's own key hits it or an earlier one"
        );
    }
}

/// Small enough that rules overlap, and that some are hidden by others.
fn a_rule() -> impl Strategy<Value = Rule> {
    let legs = || {
        select(vec![
            Legs::ANY,
            Legs::one(0),
            Legs::one(1),
            Legs(0b101),
            Legs(0),
        ])
    };
    let state = select(vec![
        rule::State::New,
        rule::State::Invalid,
        rule::State::Any,
    ]);
    let action = select(vec![Action::Accept, Action::Drop, Action::Reject]);
    let parts = (prefixes(), prefixes(), a_protocol(), legs(), legs());
    let says = (
        state,
        action,
        any::<bool>(),
        option::of(0_u8..64),
        option::of(0_u8..64),
    );
    (parts, says).prop_map(|(parts, says)| {
        let (sources, destinations, protocol, from, to) = parts;
        let (state, action, log, rate, flows) = says;
        Rule {
            sources,
            destinations,
            protocol,
            from,
            to,
            state,
            action,
            log,
            rate,
            flows,
            ..a_rule_of_nothing()
        }
    })
}

fn a_rule_of_nothing() -> Rule {
    Rule {
        name: Name::new(),
        from: Legs::ANY,
        to: Legs::ANY,
        sources: Vec::new(),
        destinations: Vec::new(),
        protocol: Protocol::Any,
        state: rule::State::New,
        action: Action::Accept,
        log: false,
        rate: None,
        flows: None,
        sharing: Sharing::Usual,
    }
}

fn an_address() -> impl Strategy<Value = u32> {
    prop_oneof![
        select(vec![0, 0x0a00_0000, 0x0a00_00ff, 0x0a00_0100, u32::MAX]),
        0x0a00_0000..0x0a00_0400_u32
    ]
}

fn a_wide_address() -> impl Strategy<Value = u128> {
    (an_address(), an_address(), 0_u32..3, an_address()).prop_map(|(a, b, c, d)| {
        [a, b, c, d]
            .into_iter()
            .fold(0, |bits, word| bits << 32 | u128::from(word))
    })
}

fn prefixes() -> impl Strategy<Value = Vec<IpPrefix>> {
    let v4 = (an_address(), prop_oneof![0_u8..33, 20_u8..33])
        .prop_map(|(bits, length)| IpPrefix::V4(Prefix::of(Ipv4Addr::from_bits(bits), length)));
    let v6 = (
        a_wide_address(),
        prop_oneof![0_u8..129, Just(32), Just(64), Just(128)],
    )
        .prop_map(|(bits, length)| IpPrefix::V6(Prefix6::of(Ipv6Addr::from_bits(bits), length)));
    prop_oneof![2 => Just(Vec::new()), 3 => vec(v4, 1..4), 2 => vec(v6, 1..4)]
}

fn a_protocol() -> impl Strategy<Value = Protocol> {
    let list = || {
        vec(
            (a_port(), 0_u16..300).prop_map(|(first, more)| first..=first.saturating_add(more)),
            0..3,
        )
    };
    let ports = || {
        (list(), list()).prop_map(|(source, destination)| Ports {
            source,
            destination,
        })
    };
    let types = || vec(select(vec![0, 3, 8, 128, 135, 255]), 0..3);
    prop_oneof![
        Just(Protocol::Any),
        ports().prop_map(Protocol::Tcp),
        ports().prop_map(Protocol::Udp),
        types().prop_map(Protocol::Icmp),
        types().prop_map(Protocol::Icmp6),
        select(vec![0, 1, 6, 50, 255]).prop_map(Protocol::Number),
    ]
}

fn a_port() -> impl Strategy<Value = u16> {
    prop_oneof![
        select(vec![0, 22, 80, 443, 0x0800, 1023, 1024, u16::MAX]),
        0_u16..600
    ]
}

fn a_key() -> impl Strategy<Value = Key> {
    let words = |bits: u128| [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
    let addresses = prop_oneof![
        (an_address(), an_address()).prop_map(|(source, destination)| Addresses::V4 {
            source,
            destination
        }),
        (a_wide_address(), a_wide_address()).prop_map(move |(a, b)| Addresses::V6 {
            source: words(a),
            destination: words(b)
        }),
    ];
    let kind = prop_oneof![
        a_port(),
        select(vec![0x0003, 0x0800, 0x0807, 0x8000, 0x8700])
    ];
    let protocol = select(vec![0, 1, 6, 17, 50, 58, 255]);
    let state = prop_oneof![4 => Just(State::New), 1 => Just(State::Invalid)];
    (addresses, a_port(), kind, protocol, 0_u8..4, 0_u8..4, state).prop_map(
        |(addresses, source_port, destination_port, protocol, from, to, state)| Key {
            addresses,
            source_port,
            destination_port,
            protocol,
            from,
            to,
            state,
        },
    )
}
