//! What tables promise, and what is refused with numbers.

use classifier::generate::{self, Kind, Version};
use classifier::{Aligned, CompileError, TableError, Tables, compile};
use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{IpPrefix, Name, Prefix};

#[test]
fn no_rules_match_nothing() {
    let compiled = compile(&[], 1000).unwrap();
    let bytes = Aligned::copy(&compiled.bytes);
    let tables = Tables::parse(&bytes).unwrap();
    let rule = &generate::rules(Kind::Acl, Version::V4, 1, 1)[0];
    let key = generate::key(rule, Version::V4, &mut generate::Random::new(1));
    assert_eq!((tables.rules(), tables.lookup(&key)), (0, None));
}

#[test]
fn what_does_not_fit_is_refused_with_its_size() {
    let rules = generate::rules(Kind::Acl, Version::V4, 64, 1);
    let error = compile(&rules, 1000).unwrap_err();
    let CompileError::TooLarge {
        rules: 64,
        need,
        have: 1000,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        error.to_string(),
        format!("64 rules need {need} bytes of tables, there is room for 1000")
    );
    assert_eq!(
        compile(&rules, need).unwrap().bytes.len(),
        need,
        "the need is what is needed"
    );
    assert!(compile(&rules, need - 1).is_err());
}

#[test]
fn too_many_rules_and_combinations_are_refused() {
    let mut rules = vec![any(); 4097];
    assert_eq!(
        compile(&rules, 1 << 20).unwrap_err().to_string(),
        "4097 rules, an appliance takes 4096"
    );
    rules.pop();
    assert_eq!(compile(&rules, 1 << 20).unwrap().pieces, 2 * 4096);

    let hosts = |count: u32| {
        (0..count)
            .map(|host| prefix(host * 2, 32))
            .collect::<Vec<_>>()
    };
    let large = Rule {
        sources: hosts(300),
        destinations: hosts(300),
        ..any()
    };
    assert_eq!(
        compile(&[large], 1 << 20).unwrap_err().to_string(),
        "the lists of addresses and ports of 1 rules multiply out to 90000 combinations or more, 65536 are possible"
    );
}

#[test]
fn neighbours_in_a_list_are_one_piece() {
    let rule = Rule {
        sources: vec![
            prefix(0x0a00_0000, 24),
            prefix(0x0a00_0100, 24),
            prefix(0x0a00_0001, 32),
        ],
        protocol: Protocol::Tcp(Ports {
            source: vec![],
            destination: vec![80..=80, 81..=90, 443..=443],
        }),
        ..any()
    };
    assert_eq!(compile(&[rule], 1 << 20).unwrap().pieces, 2);
}

/// Four thousand rules of a general kind fit half a megabyte, and a lookup stays short.
#[test]
fn large_sets_stay_cheap() {
    let cost = |count| {
        let rules = generate::rules(Kind::Acl, Version::V4, count, 7);
        compile(&rules, 448 * 1024).unwrap().worst[0]
    };
    let (few, many) = (cost(64), cost(4096));
    assert!(
        10 * many <= 16 * few,
        "{many} nodes for 4096 rules, {few} for 64"
    );
}

#[test]
fn small_memory_gets_a_forest() {
    let rules = generate::rules(Kind::Firewall, Version::V4, 200, 7);
    let one = compile(&rules, 1 << 20).unwrap();
    let several = compile(&rules, 16 * 1024).unwrap();
    assert_eq!(one.trees[0], 1);
    assert!(
        several.trees[0] > 1 && several.bytes.len() <= 16 * 1024,
        "{:?}",
        several.trees
    );
}

#[test]
fn promises_are_checked() {
    let rules = generate::rules(Kind::Acl, Version::V4, 20, 1);
    let good = compile(&rules, 1 << 20).unwrap();
    let promised = good.worst[0] - 1;
    let with = |at: usize, bytes: &[u8]| {
        let mut copy = good.bytes.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        Tables::parse(&Aligned::copy(&copy)).map(|_| ())
    };
    let table = [
        ("whole", with(0, b"RVLT"), Ok(())),
        ("magic", with(0, b"RVLN"), Err(TableError::Magic(*b"RVLN"))),
        ("rules", with(4, &[1, 16]), Err(TableError::Rules(4097))),
        (
            "nodes",
            with(8, &[1, 0, 16]),
            Err(TableError::Nodes(0x10_0001)),
        ),
        (
            "trees",
            with(12, &[9]),
            Err(TableError::Trees { v4: 9, v6: 0 }),
        ),
        (
            "worst",
            with(16, &promised.to_le_bytes()),
            Err(TableError::Worst {
                computed: promised + 1,
                promised,
            }),
        ),
        (
            "a root before nothing",
            with(24, &[0xff; 4]),
            Err(TableError::Target {
                node: 0xffff_ffff,
                target: 0xffff_ffff,
            }),
        ),
    ];
    for (name, answer, expected) in table {
        assert_eq!(answer, expected, "{name}");
    }
    for len in 0..good.bytes.len() {
        let cut = Aligned::copy(&good.bytes[..len]);
        assert!(
            matches!(Tables::parse(&cut), Err(TableError::Length { .. })),
            "{len}"
        );
    }
}

fn any() -> Rule {
    Rule {
        name: Name::new(),
        from: Legs::ANY,
        to: Legs::ANY,
        sources: vec![],
        destinations: vec![],
        protocol: Protocol::Any,
        state: State::New,
        action: Action::Accept,
        log: false,
        rate: None,
        flows: None,
        sharing: policy::rule::Sharing::Usual,
    }
}

fn prefix(bits: u32, length: u8) -> IpPrefix {
    IpPrefix::V4(Prefix::of(std::net::Ipv4Addr::from_bits(bits), length))
}
