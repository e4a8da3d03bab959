//! Switches that listen to memberships carry adverts only to those who have joined (RFC 9568 §5.1.1.2, §6.4.1).

use std::net::IpAddr;

use super::Case;
use crate::cable;
use crate::frame::{Frame, Ip};
use crate::profile::{OWN, OWN_LINK_LOCAL, OWN_MAC, V4, V6};
use crate::questions;
use crate::tester::{Tester, Verdict};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "a start joins the group of IPv4 adverts, from its own addresses",
            "RFC 3376 §4.2",
            V4,
            |t| joins(t, igmp),
        )
        .fresh(),
        Case::new(
            "a start joins the group of IPv6 adverts, from its own addresses",
            "RFC 3810 §5.2",
            V6,
            |t| joins(t, mld),
        )
        .fresh(),
        Case::new(
            "a Backup answers membership queries of IGMPv3",
            "RFC 3376 §5.2",
            V4,
            |t| answers(t, &questions::igmp_query(3, 1), igmp),
        ),
        Case::new(
            "a Backup answers membership queries of IGMPv2",
            "RFC 2236 §3",
            V4,
            |t| answers(t, &questions::igmp_query(2, 1), igmp),
        ),
        Case::new(
            "a Backup answers membership queries of MLDv2",
            "RFC 3810 §5.1",
            V6,
            |t| answers(t, &questions::mld_query(100), mld),
        ),
    ]
}

/// A report that the group of IPv4 adverts has a member: version 2 or 3.
fn igmp(frame: &Frame) -> Option<()> {
    let ip = frame.ip().filter(|ip| ip.protocol == 2)?;
    assert_eq!(ip.hops, 1, "RFC 3376 §4: {frame:?}");
    assert_eq!(ip.options[..], [0x94, 4, 0, 0], "router alert: {frame:?}");
    assert_eq!(ip.sum(false, &ip.payload), 0, "a wrong checksum: {frame:?}");
    assert_eq!(
        (frame.source, ip.source),
        (OWN_MAC, IpAddr::V4(OWN)),
        "{frame:?}"
    );
    let group = [224, 0, 0, 18];
    match ip.payload[0] {
        0x16 => {
            assert_eq!(ip.destination, IpAddr::from(group), "{frame:?}");
            (ip.payload[4..8] == group).then_some(())
        }
        0x22 => {
            assert_eq!(ip.destination, IpAddr::from([224, 0, 0, 22]), "{frame:?}");
            has_record(ip, 4, &group).then_some(())
        }
        _ => None,
    }
}

/// A report of MLDv2 that the group of IPv6 adverts has a member.
fn mld(frame: &Frame) -> Option<()> {
    let ip = frame.ip().filter(|ip| ip.icmp6() == Some(143))?;
    assert_eq!(ip.hops, 1, "RFC 3810 §5: {frame:?}");
    assert_eq!(ip.options[2..6], [5, 2, 0, 0], "router alert: {frame:?}");
    assert!(ip.intact6(), "a wrong checksum: {frame:?}");
    assert_eq!(
        (frame.source, ip.source),
        (OWN_MAC, IpAddr::V6(OWN_LINK_LOCAL)),
        "{frame:?}"
    );
    let group = "ff02::12"
        .parse::<std::net::Ipv6Addr>()
        .expect("an address");
    has_record(ip, 16, &group.octets()).then_some(())
}

/// Whether a report says that a group is excluded from nothing, that is, joined (RFC 3376 §4.2.12, RFC 3810 §5.2.12).
fn has_record(ip: &Ip, len: usize, group: &[u8]) -> bool {
    let count = u16::from_be_bytes([ip.payload[6], ip.payload[7]]);
    let mut rest = &ip.payload[8..];
    for _ in 0..count {
        let (kind, sources) = (rest[0], usize::from(u16::from_be_bytes([rest[2], rest[3]])));
        if rest[4..4 + len] == *group && [2, 4].contains(&kind) && sources == 0 {
            return true;
        }
        rest = &rest[4 + len * (1 + sources) + 4 * usize::from(rest[1])..];
    }
    false
}

fn joins(t: &mut Tester<'_>, report: fn(&Frame) -> Option<()>) -> Verdict {
    t.is_backup();
    let until = cable::now() + 20 * t.unit();
    // Before it is Active: a Backup is the one that has to hear adverts.
    let first = t.listen(until, |frame| {
        report(frame).is_some() || frame.advert().is_some()
    });
    let first = first.ok_or_else(|| t.late("it joins nothing"))?;
    assert!(
        report(&first).is_some(),
        "it is Active and has not joined: {:?}",
        t.seen
    );
    Ok(())
}

fn answers(t: &mut Tester<'_>, query: &[u8], report: fn(&Frame) -> Option<()>) -> Verdict {
    t.make_backup();
    t.send(query);
    let until = cable::now() + 2 * t.unit();
    let answer = t.listen(until, |frame| report(frame).is_some());
    answer.map(drop).ok_or_else(|| t.late("no report"))
}
