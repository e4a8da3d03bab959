//! The differences that are meant. ARCHITECTURE.md has the same list; anything else fails.

use std::net::IpAddr;

use node::Drop;

use crate::compare::Case;
use crate::site::LEGS;
use crate::{Emission, source};

/// One difference that is meant.
#[derive(Debug)]
pub struct Difference {
    /// Short name.
    pub name: &'static str,
    /// Why ours is as it is.
    pub reason: &'static str,
    /// Whether a case is one of it.
    pub applies: fn(&Case<'_>) -> bool,
    /// Whether the worlds remember different things afterwards, so that the rest of the story proves nothing.
    pub parts: bool,
}

/// All of them.
pub const ALL: &[Difference] = &[
    Difference {
        name: "identification of own packets",
        reason: "packets of our own cannot be fragmented (DF) and need no identification (RFC 6864 §4.1); the kernel \
                 counts one up and lets some be fragmented",
        applies: |case| {
            one(case).is_some_and(|(kernel, ours)| {
                is_ours(ours) && plain(&kernel.packet) == plain(&ours.packet)
            })
        },
        parts: false,
    },
    Difference {
        name: "short-lived and refused",
        reason: "what the policy refuses gets no time exceeded from us; the kernel looks at the TTL before the rules",
        applies: |case| {
            case.ours.is_empty()
                && !case.drops.contains(&Drop::Ttl)
                && matches!(case.kernel, [one] if is_error(one, 11))
        },
        parts: false,
    },
    Difference {
        name: "reset for what belongs to a flow",
        reason: "netfilter cannot tell a segment that no flow knows from a bad one of a flow, and the rule that answers \
                 segments to services answers both; we answer only the former",
        applies: |case| {
            case.ours.is_empty()
                && !case.drops.is_empty()
                && !case.drops.contains(&Drop::NoFlow)
                && matches!(case.kernel, [one] if is_ours(one) && is_reset(one))
        },
        parts: false,
    },
    Difference {
        name: "short quotes",
        reason: "an error quotes at least 8 bytes behind the header (RFC 792); netfilter is content with the ports",
        applies: |case| {
            case.ours.is_empty()
                && case.drops == [Drop::IcmpUnrelated]
                && matches!(&case.step.packets[..], [one] if one.len() < 20 + 8 + 20 + 8)
        },
        parts: false,
    },
];

fn one<'a>(case: &Case<'a>) -> Option<(&'a Emission, &'a Emission)> {
    match (case.kernel, case.ours) {
        ([kernel], [ours]) if (kernel.leg, kernel.to) == (ours.leg, ours.to) => {
            Some((kernel, ours))
        }
        _ => None,
    }
}

/// Whether an address of the appliance speaks.
fn is_ours(emission: &Emission) -> bool {
    let source = source(&emission.packet);
    LEGS.iter().any(|leg| {
        let v4 = [leg.own.0].into_iter().chain(leg.virtuals.iter().copied());
        let v6 = [leg.own6.0]
            .into_iter()
            .chain(leg.virtuals6.iter().copied());
        v4.map(IpAddr::V4)
            .chain(v6.map(IpAddr::V6))
            .any(|own| own == source)
    })
}

fn is_error(emission: &Emission, kind: u8) -> bool {
    is_ours(emission)
        && emission.packet.get(9) == Some(&1)
        && emission.packet.get(20) == Some(&kind)
}

fn is_reset(emission: &Emission) -> bool {
    emission.packet.get(9) == Some(&6)
        && emission.packet.get(33).is_some_and(|flags| flags & 4 != 0)
}

/// An IPv4 packet without identification, fragment flags and header checksum.
fn plain(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.first().map(|byte| byte >> 4) == Some(4) && packet.len() >= 20 {
        packet[4..8].fill(0);
        packet[10..12].fill(0);
    }
    packet
}
