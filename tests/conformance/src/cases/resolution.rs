//! Who answers for the virtual addresses, and from where (RFC 9568 §6.4, §8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::Case;
use crate::cable;
use crate::frame::{Frame, Mac, NeighbourAdvert};
use crate::profile::{
    HOST, HOST6, NO_ACCEPT, OWN, OWN_MAC, OWN_MAC_ONLY, OWN6, PEER_MAC, V4, V6, V6_NO_ACCEPT,
};
use crate::questions::{self, BROADCAST};
use crate::tester::{Late, Tester, Verdict};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "an Active answers ARP for each virtual address with the virtual MAC address",
            "RFC 9568 §8.1.2",
            V4,
            arp_active,
        ),
        Case::new(
            "an Active answers ARP with its own MAC address where there is no virtual one",
            "keepalived",
            OWN_MAC_ONLY,
            arp_active,
        ),
        Case::new(
            "an Active answers ARP probes for a virtual address",
            "RFC 5227 §2.1.1",
            V4,
            arp_probe,
        ),
        Case::new(
            "a Backup answers ARP for its own address alone",
            "RFC 9568 §6.4.2",
            V4,
            arp_backup,
        ),
        Case::new(
            "a Backup takes nothing that is sent to the virtual MAC address",
            "RFC 9568 §6.4.2",
            V4,
            mac_backup,
        ),
        Case::new(
            "an Active takes what is sent to the virtual MAC address",
            "RFC 9568 §6.4.3",
            V4,
            |t| pings(t, true),
        ),
        Case::new(
            "without Accept_Mode an Active answers ARP",
            "RFC 9568 §6.4.3",
            NO_ACCEPT,
            arp_active,
        ),
        Case::new(
            "without Accept_Mode an Active takes no packets to the virtual addresses",
            "RFC 9568 §6.4.3",
            NO_ACCEPT,
            |t| pings(t, false),
        ),
        Case::new(
            "an Active answers solicitations for each virtual address: router, override, virtual MAC address",
            "RFC 9568 §8.2.2",
            V6,
            nd_active,
        ),
        Case::new(
            "an Active tells everybody who looks for a duplicate of a virtual address",
            "RFC 4862 §5.4.3",
            V6,
            nd_duplicate,
        ),
        Case::new(
            "a solicitation that may come from beyond the link is not answered",
            "RFC 4861 §7.1.1",
            V6,
            nd_hop_limit,
        ),
        Case::new(
            "a Backup answers solicitations for its own addresses alone",
            "RFC 9568 §6.4.2",
            V6,
            nd_backup,
        ),
        Case::new(
            "IPv6: an Active takes what is sent to the virtual MAC address",
            "RFC 9568 §6.4.3",
            V6,
            |t| pings(t, true),
        ),
        Case::new(
            "IPv6: without Accept_Mode an Active answers solicitations",
            "RFC 9568 §6.4.3",
            V6_NO_ACCEPT,
            nd_active,
        ),
        Case::new(
            "IPv6: without Accept_Mode an Active takes no packets to the virtual addresses",
            "RFC 9568 §6.4.3",
            V6_NO_ACCEPT,
            |t| pings(t, false),
        ),
        Case::new(
            "IPv6: a Backup takes nothing that is sent to the virtual MAC address",
            "RFC 9568 §6.4.2",
            V6,
            mac_backup,
        ),
        Case::new(
            "an Active defends a virtual address that another claims",
            "RFC 5227 §2.4",
            V4,
            defends,
        ),
    ]
}

/// The first frame that `pick` finds something in, after `question`.
fn ask<T>(
    t: &mut Tester<'_>,
    question: &[u8],
    pick: impl Fn(&Frame) -> Option<T>,
) -> Result<T, Late> {
    t.send(question);
    let until = cable::now() + t.unit();
    let answer = t.listen(until, |frame| pick(frame).is_some());
    let answer = answer.and_then(|frame| pick(&frame));
    answer.ok_or_else(|| {
        t.late(&format!(
            "no answer to {:?}",
            Frame::read(until, question.to_vec())
        ))
    })
}

/// Fails if `pick` finds something before the answer to a question that is always answered.
fn not_answered<T: std::fmt::Debug>(
    t: &mut Tester<'_>,
    question: &[u8],
    pick: impl Fn(&Frame) -> Option<T>,
) -> Verdict {
    t.seen.clear();
    t.send(question);
    let own = |frame: &Frame| reply_about(frame, OWN).map(drop);
    ask(t, &questions::who_has(BROADCAST, OWN), own)?;
    let answer = t.seen.iter().find_map(pick);
    assert!(
        answer.is_none(),
        "it answers {answer:?}: {:?}; its log:\n{}",
        t.seen,
        t.device.log()
    );
    Ok(())
}

/// An ARP reply about an address: the frame's MAC addresses, and the one that it tells.
fn reply_about(frame: &Frame, address: Ipv4Addr) -> Option<(Mac, Mac, Mac)> {
    let arp = frame
        .arp()
        .filter(|arp| arp.operation == 2 && arp.sender.1 == address)?;
    Some((frame.source, frame.destination, arp.sender.0))
}

fn v4(t: &Tester<'_>) -> Vec<Ipv4Addr> {
    let addresses = t.facts.addresses.iter();
    addresses
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
        .collect()
}

fn v6(t: &Tester<'_>) -> Vec<Ipv6Addr> {
    let addresses = t.facts.addresses.iter();
    addresses
        .filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        })
        .collect()
}

fn arp_active(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    let mac = t.facts.router_mac;
    for address in v4(t) {
        for to in [BROADCAST, mac] {
            let answer = ask(t, &questions::who_has(to, address), |frame| {
                reply_about(frame, address)
            })?;
            assert_eq!(answer, (mac, HOST.0, mac), "{address}");
        }
    }
    let answer = ask(t, &questions::who_has(BROADCAST, OWN), |frame| {
        reply_about(frame, OWN)
    })?;
    assert_eq!(
        answer,
        (OWN_MAC, HOST.0, OWN_MAC),
        "its own address has its own MAC address"
    );
    Ok(())
}

fn arp_probe(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    let (address, mac) = (v4(t)[0], t.facts.router_mac);
    let probe = questions::arp(
        BROADCAST,
        1,
        (HOST.0, Ipv4Addr::UNSPECIFIED),
        ([0; 6], address),
    );
    let (source, _, told) = ask(t, &probe, |frame| reply_about(frame, address))?;
    assert_eq!((source, told), (mac, mac));
    Ok(())
}

fn arp_backup(t: &mut Tester<'_>) -> Verdict {
    for address in v4(t) {
        for to in [BROADCAST, t.facts.router_mac, OWN_MAC] {
            t.make_backup();
            not_answered(t, &questions::who_has(to, address), |frame| {
                reply_about(frame, address)
            })?;
        }
    }
    Ok(())
}

/// An echo reply: from where.
fn echo(frame: &Frame) -> Option<(Mac, IpAddr)> {
    let ip = frame.ip()?;
    let reply = match ip.source {
        IpAddr::V4(_) => ip.protocol == 1 && ip.payload.first() == Some(&0),
        IpAddr::V6(_) => ip.icmp6() == Some(129),
    };
    reply.then_some((frame.source, ip.source))
}

/// The host is known to the device: it need not ask before it answers.
fn introduce(t: &mut Tester<'_>) -> Verdict {
    match t.facts.six() {
        false => ask(t, &questions::who_has(BROADCAST, OWN), |frame| {
            reply_about(frame, OWN)
        })
        .map(drop),
        true => ask(
            t,
            &questions::solicitation(OWN6, Some(HOST6), 255),
            |frame| {
                frame
                    .neighbour_advert()
                    .filter(|advert| advert.target == OWN6)
            },
        )
        .map(drop),
    }
}

fn pings(t: &mut Tester<'_>, taken: bool) -> Verdict {
    t.make_active()?;
    introduce(t)?;
    let mac = t.facts.router_mac;
    for address in t.facts.addresses.clone() {
        let ping = questions::ping((mac, address));
        match taken {
            true => assert_eq!(ask(t, &ping, echo)?, (mac, address)),
            false => not_answered(t, &ping, echo)?,
        }
    }
    Ok(())
}

fn mac_backup(t: &mut Tester<'_>) -> Verdict {
    let mac = t.facts.router_mac;
    let own = if t.facts.six() {
        OWN6.into()
    } else {
        OWN.into()
    };
    let addresses = [t.facts.addresses.clone(), vec![own]].concat();
    // Who was Active just now still forwards for a second what switches send it: another may not be heard by them yet.
    t.stay_backup(Duration::from_millis(1200))?;
    for address in addresses {
        t.stay_backup(Duration::ZERO)?;
        introduce(t)?;
        not_answered(t, &questions::ping((mac, address)), echo)?;
        if address != own {
            not_answered(t, &questions::ping((OWN_MAC, address)), echo)?;
        }
    }
    // The same ping to its own MAC address shows that it could have answered.
    assert_eq!(
        ask(t, &questions::ping((OWN_MAC, own)), echo)?,
        (OWN_MAC, own)
    );
    Ok(())
}

/// A neighbour advertisement about an address.
fn advert_about(frame: &Frame, address: Ipv6Addr) -> Option<(Mac, Mac, NeighbourAdvert)> {
    let advert = frame
        .neighbour_advert()
        .filter(|advert| advert.target == address)?;
    Some((frame.source, frame.destination, advert))
}

fn nd_active(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    let mac = t.facts.router_mac;
    for address in v6(t) {
        let question = questions::solicitation(address, Some(HOST6), 255);
        let answer = ask(t, &question, |frame| {
            advert_about(frame, address).filter(|(.., advert)| advert.flags.1)
        })?;
        let advert = NeighbourAdvert {
            flags: (true, true, true),
            target: address,
            mac: Some(mac),
        };
        assert_eq!(answer, (mac, HOST.0, advert));
    }
    Ok(())
}

fn nd_duplicate(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    t.listen_for(2.0); // the announcements of a take-over look alike
    for address in v6(t) {
        let question = questions::solicitation(address, None, 255);
        let answer = ask(t, &question, |frame| advert_about(frame, address))?;
        let (_, destination, advert) = answer;
        assert_eq!(destination, [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(advert.flags, (true, false, true), "R, S, O");
        assert_eq!(advert.mac, Some(t.facts.router_mac));
    }
    Ok(())
}

fn nd_hop_limit(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    t.listen_for(2.0); // the announcements of a take-over look alike
    let address = v6(t)[0];
    let question = questions::solicitation(address, Some(HOST6), 254);
    not_answered(t, &question, |frame| advert_about(frame, address))
}

fn nd_backup(t: &mut Tester<'_>) -> Verdict {
    for address in v6(t) {
        for from in [Some(HOST6), None] {
            t.make_backup();
            let question = questions::solicitation(address, from, 255);
            not_answered(t, &question, |frame| advert_about(frame, address))?;
        }
    }
    t.make_backup();
    let question = questions::solicitation(OWN6, Some(HOST6), 255);
    let (source, _, advert) = ask(t, &question, |frame| advert_about(frame, OWN6))?;
    assert_eq!((source, advert.mac), (OWN_MAC, Some(OWN_MAC)));
    Ok(())
}

/// Another station says that a virtual address is its own: hosts are told at once whose it is.
fn defends(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    t.listen_for(2.0); // beyond the announcements of the take-over
    let (address, mac) = (v4(t)[0], t.facts.router_mac);
    let claim = questions::arp(BROADCAST, 1, (PEER_MAC, address), ([0; 6], address));
    let about = |frame: &Frame| (frame.announced() == Some(address.into())).then_some(frame.source);
    let source = ask(t, &claim, about)?;
    assert_eq!(source, mac);
    Ok(())
}
