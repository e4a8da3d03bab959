//! Addresses and ports that translation puts into first packets: forwarding, source translation, hairpins.

use core::net::IpAddr;
use core::ops::RangeInclusive;

use policy::{Config, MAX_NAT, Nat, Prefix, Transport};

/// A new source for flows that leave by a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address, as a number.
    pub address: u32,
    /// First port to take where the flow's own is in use.
    pub first: u16,
    /// Last such port.
    pub last: u16,
}

/// The translations of a configuration besides NPTv6 (see [`crate::nat6`]); the first that matches applies.
#[derive(Debug)]
pub struct Translations {
    sources: heapless::Vec<(Prefix, u8, Source), MAX_NAT>,
    forwardings: heapless::Vec<Forwarding, MAX_NAT>,
}

#[derive(Debug)]
struct Forwarding {
    transport: Transport,
    address: IpAddr,
    first: u16,
    last: u16,
    server: IpAddr,
    server_port: u16,
}

impl Translations {
    /// The translations of a validated configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut sources = heapless::Vec::new();
        let mut forwardings = heapless::Vec::new();
        for nat in &config.nat {
            // Neither list can be longer than the configuration's.
            let _ = match *nat {
                Nat::Source {
                    source,
                    to,
                    address,
                    first,
                    last,
                } => {
                    let new = Source {
                        address: address.to_bits(),
                        first,
                        last,
                    };
                    sources.push((source, to, new)).is_ok()
                }
                Nat::Destination {
                    transport,
                    address,
                    first,
                    last,
                    server,
                    server_port,
                } => {
                    let forwarding = Forwarding {
                        transport,
                        address,
                        first,
                        last,
                        server,
                        server_port,
                    };
                    forwardings.push(forwarding).is_ok()
                }
                Nat::Prefix6 { .. } => true,
            };
        }
        Self {
            sources,
            forwardings,
        }
    }

    /// Where a flow to this address and port is forwarded to.
    #[must_use]
    pub fn forwarding(
        &self,
        transport: Transport,
        address: IpAddr,
        port: u16,
    ) -> Option<(IpAddr, u16)> {
        let forwarding = self.forwardings.iter().find(|f| {
            f.transport == transport && f.address == address && (f.first..=f.last).contains(&port)
        })?;
        let server_port = forwarding.server_port.wrapping_add(port - forwarding.first);
        Some((forwarding.server, server_port))
    }

    /// What clients may connect to.
    pub fn doors(&self) -> impl Iterator<Item = (Transport, RangeInclusive<u16>)> {
        self.forwardings
            .iter()
            .map(|f| (f.transport, f.first..=f.last))
    }

    /// The new source of a flow from `source` that leaves by `to`.
    #[must_use]
    pub fn source(&self, source: u32, to: u8) -> Option<Source> {
        let mut sources = self.sources.iter();
        let (.., new) =
            sources.find(|(prefix, leg, _)| *leg == to && prefix.contains(source.into()))?;
        Some(*new)
    }
}

/// The source port of a translated flow, in `first..=last`: `own` where it is free, otherwise any (RFC 6056 §3.3.1),
/// looking at [`TRIES`] of them at most.
pub fn choose_port(
    own: u16,
    first: u16,
    last: u16,
    random: u32,
    mut is_free: impl FnMut(u16) -> bool,
) -> Option<u16> {
    if (first..=last).contains(&own) && is_free(own) {
        return Some(own);
    }
    let count = u32::from(last.checked_sub(first)?) + 1;
    let start = random % count;
    (0..count.min(TRIES))
        .map(|n| first + ((start + n) % count) as u16)
        .find(|port| is_free(*port))
}

/// Most ports that one new flow tries. With half of all ports to one destination in use, one flow in 2^64 finds
/// none.
pub const TRIES: u32 = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn translations() -> Translations {
        let source = |text: &str, length, to, last| Nat::Source {
            source: Prefix::of(text.parse().unwrap(), length),
            to,
            address: [203, 0, 113, 10].into(),
            first: 32_768,
            last,
        };
        let forwarding = |transport, first, last, server_port| Nat::Destination {
            transport,
            address: [203, 0, 113, 10].into(),
            first,
            last,
            server: [10, 20, 1, 11].into(),
            server_port,
        };
        let nat = [
            source("10.20.1.0", 24, 0, 40_000),
            source("10.20.0.0", 16, 0, 60_999),
            forwarding(Transport::Tcp, 2200, 2299, 22),
            forwarding(Transport::Udp, 5353, 5353, 53),
        ];
        Translations::new(&Config {
            nat: nat.into_iter().collect(),
            ..Config::default()
        })
    }

    #[test]
    fn the_first_matching_source_translation_applies() {
        let translations = translations();
        let last = |source: [u8; 4], to| {
            let new = translations.source(u32::from_be_bytes(source), to)?;
            assert_eq!((new.address, new.first), (0xcb00_710a, 32_768));
            Some(new.last)
        };
        assert_eq!(last([10, 20, 1, 9], 0), Some(40_000));
        assert_eq!(last([10, 20, 2, 9], 0), Some(60_999));
        assert_eq!(last([10, 20, 2, 9], 1), None);
        assert_eq!(last([10, 21, 2, 9], 0), None);
    }

    #[test]
    fn forwarded_ports_are_counted_up() {
        let translations = translations();
        let to = |transport, port| {
            let (server, port) =
                translations.forwarding(transport, [203, 0, 113, 10].into(), port)?;
            assert_eq!(server, IpAddr::from([10, 20, 1, 11]));
            Some(port)
        };
        assert_eq!(to(Transport::Tcp, 2199), None);
        assert_eq!(to(Transport::Tcp, 2200), Some(22));
        assert_eq!(to(Transport::Tcp, 2299), Some(121));
        assert_eq!(to(Transport::Tcp, 2300), None);
        assert_eq!(to(Transport::Udp, 2200), None);
        assert_eq!(to(Transport::Udp, 5353), Some(53));
        let other = translations.forwarding(Transport::Tcp, [203, 0, 113, 11].into(), 2200);
        assert_eq!(other, None);
    }

    #[test]
    fn all_ports_taken() {
        assert_eq!(choose_port(5, 1000, 1999, 7, |_| false), None);
        assert_eq!(choose_port(5, 2, 1, 7, |_| false), None);
        let mut tries = 0;
        choose_port(5, 0, u16::MAX, u32::MAX, |_| {
            tries += 1;
            false
        });
        assert_eq!(tries, TRIES + 1);
        assert_eq!(choose_port(5, 1000, 1999, 7, |port| port == 5), None);
    }

    proptest! {
        #[test]
        fn a_port_is_free_and_kept_if_it_can_be(
            own in 1_u16..,
            first in 1_u16..=60_000,
            count in 0_u16..200,
            random: u32,
            taken in prop::collection::hash_set(any::<u16>(), 0..50),
            crowd in 0_u16..220,
        ) {
            let last = first + count;
            let mut taken: HashSet<u16> = taken;
            taken.extend(first..first.saturating_add(crowd));
            let is_free = |port: u16| !taken.contains(&port);
            match choose_port(own, first, last, random, is_free) {
                Some(port) => {
                    let kept = (first..=last).contains(&own) && is_free(own);
                    prop_assert_eq!(port == own, kept);
                    prop_assert!(is_free(port) && (first..=last).contains(&port));
                }
                None => {
                    let free = (first..=last).filter(|port| is_free(*port)).count();
                    prop_assert!(free == 0 || count >= TRIES as u16);
                }
            }
        }
    }
}
