//! Tables of any content are refused, or every lookup in them ends with a rule that exists. The input is a list of
//! changes to good tables: place (two bytes), value. An odd first byte makes the rest the tables themselves.

#![no_main]

use std::sync::LazyLock;

use classifier::{Addresses, Aligned, Key, State, Tables, compile};
use libfuzzer_sys::fuzz_target;
use policy::rule::{Action, Legs, Ports, Protocol, Rule};
use policy::{IpPrefix, Prefix, Prefix6};

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let rules: Vec<Rule> = (0..24).map(rule).collect();
    compile(&rules, 1 << 20).expect("they fit").bytes.to_vec()
});

fn rule(n: u8) -> Rule {
    Rule {
        name: policy::Name::new(),
        from: Legs(1 << (n % 3)),
        to: Legs::ANY,
        sources: vec![IpPrefix::V4(Prefix::of([10, n, 0, 0].into(), 8 + n % 24))],
        destinations: match n % 3 {
            0 => Vec::new(),
            1 => vec![IpPrefix::V4(Prefix::of([192, 168, n, n].into(), 32))],
            _ => vec![IpPrefix::V6(Prefix6::of(
                [0x2001, 0xdb8, 0, u16::from(n), 0, 0, 0, 1].into(),
                64 + n,
            ))],
        },
        protocol: match n % 4 {
            0 => Protocol::Any,
            1 => Protocol::Tcp(Ports::to(80 + u16::from(n))),
            2 => Protocol::Udp(Ports::to(53)),
            _ => Protocol::Icmp(vec![8]),
        },
        state: policy::rule::State::New,
        action: if n % 2 == 0 { Action::Accept } else { Action::Drop },
        log: false,
        rate: None,
        flows: None,
        sharing: policy::rule::Sharing::Usual,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let tables = match bytes.split_first() {
        Some((first, rest)) if first & 1 == 1 => rest.to_vec(),
        _ => {
            let mut tables = GOOD.clone();
            for change in bytes.get(1..).unwrap_or_default().chunks_exact(3) {
                let place = usize::from(u16::from_be_bytes([change[0], change[1]]));
                let length = tables.len();
                tables[place % length] = change[2];
            }
            tables
        }
    };
    let tables = Aligned::copy(&tables);
    let Ok(tables) = Tables::parse(&tables) else { return };
    for n in 0..64_u32 {
        let key = Key {
            addresses: match n % 2 {
                0 => Addresses::V4 {
                    source: 0x0a00_0000 | n << 16 | n,
                    destination: 0xc0a8_0000 | n << 8 | n,
                },
                _ => Addresses::V6 {
                    source: [n; 4],
                    destination: [0x2001_0db8, n, 0, 1],
                },
            },
            source_port: 1 << (n % 16),
            destination_port: 70 + n as u16,
            protocol: [0, 1, 6, 17, 58, 255][n as usize % 6],
            from: (n % 8) as u8,
            to: (n / 8) as u8,
            state: if n % 5 == 0 { State::Invalid } else { State::New },
        };
        if let Some(found) = tables.lookup(&key) {
            assert!(found.rule < tables.rules());
        }
    }
});
