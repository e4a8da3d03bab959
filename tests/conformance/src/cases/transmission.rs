//! What an Active sends (RFC 9568 §5, §7.2).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::{Case, gaps};
use crate::frame::{Frame, Ip};
use crate::profile::{
    EXCLUDED, NO_PREEMPT, OWN_LINK_LOCAL, OWN_MAC, OWN_MAC_ONLY, PSEUDO_HEADER, STRONG, V2, V4, V6,
};
use crate::tester::{Tester, Verdict};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new(
            "an IPv4 checksum is over the message alone",
            "RFC 9568 §5.2.8",
            V4,
            |t| checksum(t, false),
        ),
        Case::new(
            "an IPv4 checksum is over a pseudo-header too where that is asked for",
            "RFC 5798 §5.2.8",
            PSEUDO_HEADER,
            |t| checksum(t, true),
        ),
        Case::new(
            "an IPv6 checksum is over a pseudo-header too",
            "RFC 9568 §5.2.8",
            V6,
            |t| checksum(t, true),
        ),
        Case::new(
            "the checksum of version 2 is over the message alone",
            "RFC 3768 §5.3.8",
            V2,
            |t| checksum(t, false),
        ),
        Case::new(
            "an IPv6 advert lists a link-local address first",
            "RFC 9568 §5.2.9",
            V6,
            link_local_first,
        ),
        Case::new(
            "addresses that are not advertised are left out",
            "keepalived",
            EXCLUDED,
            fields,
        ),
        Case::new(
            "adverts come from the own MAC address where there is no virtual one",
            "keepalived",
            OWN_MAC_ONLY,
            |t| {
                t.make_active()?;
                let frame = advert(t);
                assert_eq!(frame.source, OWN_MAC);
                Ok(())
            },
        ),
    ];
    for (kind, profile) in [("IPv4", V4), ("IPv6", V6), ("version 2", V2)] {
        let section = if profile.name == V2.name {
            "RFC 3768 §5.3"
        } else {
            "RFC 9568 §5.2"
        };
        let named = |what: &str| format!("{kind}: {what}");
        cases.extend([
            Case::new(
                named("every field of an advert is as configured"),
                section,
                profile,
                fields,
            ),
            Case::new(
                named(
                    "an advert's packet has TTL 255 and goes from the primary address to the group",
                ),
                "RFC 9568 §5.1",
                profile,
                packet,
            ),
            Case::new(
                named("an advert's frame goes from the virtual MAC address to the group's"),
                "RFC 9568 §7.2, §7.3",
                profile,
                frame,
            ),
            Case::new(
                named("adverts come once in an interval"),
                "RFC 9568 §6.4.3",
                profile,
                regular,
            ),
            Case::new(
                named("a Backup sends nothing for the virtual router"),
                "RFC 9568 §6.4.2",
                profile,
                silent,
            ),
        ]);
    }
    for profile in [STRONG, NO_PREEMPT] {
        let name = format!(
            "{}: every field of an advert is as configured",
            profile.name
        );
        cases.push(Case::new(name, "RFC 9568 §5.2", profile, fields));
    }
    cases
}

/// The next advert of an Active.
fn advert(t: &mut Tester<'_>) -> Frame {
    let limit = crate::cable::now() + 20 * t.unit();
    let frame = t.listen(limit, |frame| frame.advert().is_some());
    frame.expect("an Active advertises")
}

fn the_packet(t: &mut Tester<'_>) -> Result<(Frame, Ip), crate::tester::Late> {
    t.make_active()?;
    let frame = advert(t);
    let ip = frame.ip().expect("it is a packet").clone();
    Ok((frame, ip))
}

fn listed(profile: &Tester<'_>, config: &policy::Config) -> Vec<IpAddr> {
    let count = usize::from(config.routers[0].advertised);
    profile
        .facts
        .addresses
        .iter()
        .take(count)
        .copied()
        .collect()
}

fn fields(t: &mut Tester<'_>) -> Verdict {
    let (_, ip) = the_packet(t)?;
    let facts = &t.facts;
    let addresses = listed(t, &t.profile.config());
    let message = &ip.payload;
    let (version, interval) = match facts.version {
        // Authentication type 0 and seconds.
        2 => (0x21, [0, facts.interval.as_secs() as u8]),
        // Four reserved bits and centiseconds.
        _ => (0x31, (facts.interval.as_millis() as u16 / 10).to_be_bytes()),
    };
    assert_eq!(message[0], version, "version and type");
    assert_eq!(message[1], facts.vrid, "virtual router");
    assert_eq!(message[2], facts.priority, "priority");
    assert_eq!(
        usize::from(message[3]),
        addresses.len(),
        "count of addresses"
    );
    assert_eq!(message[4..6], interval, "interval");
    let mut rest: Vec<u8> = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(address) => rest.extend(address.octets()),
            IpAddr::V6(address) => rest.extend(address.octets()),
        }
    }
    if facts.version == 2 {
        rest.extend([0; 8]); // Authentication Data (RFC 3768 §5.3.10)
    }
    assert_eq!(message[8..], rest, "addresses, and nothing behind them");
    Ok(())
}

fn packet(t: &mut Tester<'_>) -> Verdict {
    let (_, ip) = the_packet(t)?;
    assert_eq!(ip.hops, 255);
    assert_eq!(ip.source, t.facts.own);
    assert_eq!(ip.destination, t.facts.group().0);
    assert!(ip.options.is_empty(), "no options or extension headers");
    assert!(!ip.fragment, "in one piece");
    Ok(())
}

fn frame(t: &mut Tester<'_>) -> Verdict {
    let (frame, ip) = the_packet(t)?;
    assert_eq!(frame.source, t.facts.router_mac);
    assert_eq!(frame.destination, t.facts.group().1);
    let used = frame.bytes.len().min(14 + header(&ip) + ip.payload.len());
    assert!(
        frame.bytes[used..].iter().all(|byte| *byte == 0),
        "padding tells nothing: {frame:?}"
    );
    Ok(())
}

fn header(ip: &Ip) -> usize {
    if ip.source.is_ipv6() { 40 } else { 20 }
}

fn checksum(t: &mut Tester<'_>, pseudo_header: bool) -> Verdict {
    let (_, ip) = the_packet(t)?;
    assert_eq!(ip.sum(pseudo_header, &ip.payload), 0, "{ip:02x?}");
    assert_ne!(
        ip.sum(!pseudo_header, &ip.payload),
        0,
        "the other form is another number"
    );
    Ok(())
}

fn link_local_first(t: &mut Tester<'_>) -> Verdict {
    let (_, ip) = the_packet(t)?;
    assert_eq!(ip.source, IpAddr::V6(OWN_LINK_LOCAL));
    let first: [u8; 16] = ip.payload[8..24].try_into().expect("an address");
    assert!(Ipv6Addr::from(first).is_unicast_link_local());
    Ok(())
}

/// Ratios over many adverts: none comes early, in the middle they come on time, and on average they neither run
/// ahead nor fall behind.
fn regular(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    let mut gaps = gaps(t, if t.facts.version == 2 { 5 } else { 20 });
    let mean = gaps
        .iter()
        .sum::<Duration>()
        .div_duration_f64(t.facts.interval)
        / gaps.len() as f64;
    gaps.sort();
    let ratio = |gap: Duration| gap.div_duration_f64(t.unit());
    let median = ratio(gaps[gaps.len() / 2]);
    assert!(
        (0.95..1.05).contains(&median),
        "half of the gaps are {median} intervals: {gaps:?}"
    );
    if !(0.97..1.03).contains(&mean) || ratio(gaps[gaps.len() - 1]) > 1.35 {
        return Err(t.late(&format!(
            "adverts are {mean} intervals apart on average: {gaps:?}"
        )));
    }
    Ok(())
}

fn silent(t: &mut Tester<'_>) -> Verdict {
    t.make_backup();
    let (unit, until) = (t.unit(), crate::cable::now() + 5 * t.unit());
    let strong = t.advert(254);
    let questions = t.questions();
    let frames = || {
        let mut frames = questions.clone();
        frames.push(strong.clone());
        frames
    };
    // The tester itself fails on whatever a Backup may not send.
    let advert = t.listen_sending(unit, until, frames, |frame| frame.advert().is_some());
    match advert {
        Some(_) => Err(t.late("it became Active")),
        None => Ok(()),
    }
}
