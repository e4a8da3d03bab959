//! More than one virtual router on a cable.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::Case;
use crate::cable;
use crate::frame::{Frame, Mac};
use crate::profile::{HOST, HOST6, SIXTEEN, TAGGED, TAGGED_VIRTUAL, VLAN};
use crate::questions::{self, BROADCAST};
use crate::tester::{Tester, Verdict};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "eight virtual routers of each IP version are advertised, each from its own MAC address",
            "RFC 9568 §7.3",
            SIXTEEN,
            all_advertised,
        ),
        Case::new(
            "eight virtual routers of each IP version answer, each with its own MAC address",
            "RFC 9568 §8",
            SIXTEEN,
            all_answer,
        ),
        Case::new(
            "a virtual router in a VLAN is advertised with its tag, the others without",
            "IEEE 802.1Q",
            TAGGED,
            tagged_adverts,
        ),
        Case::new(
            "a virtual router in a VLAN answers there alone",
            "IEEE 802.1Q",
            TAGGED,
            tagged_answers,
        ),
    ]
}

/// Virtual router, its MAC address, first address and IP version.
fn routers(t: &Tester<'_>) -> BTreeSet<(u8, Mac, Vec<IpAddr>)> {
    let config = t.profile.config();
    let routers = config.routers.iter();
    routers
        .map(|router| {
            let version = if router.addresses[0].is_ipv6() { 2 } else { 1 };
            let mac = [0, 0, 0x5e, 0, version, router.vrid];
            (router.vrid, mac, router.addresses.to_vec())
        })
        .collect()
}

/// The addresses that an advert lists.
fn listed(frame: &Frame) -> Option<(u8, Mac, Vec<IpAddr>)> {
    let (advert, ip) = (frame.advert()?, frame.ip()?);
    let bytes = advert.message.get(8..)?;
    let addresses = match ip.source {
        IpAddr::V4(_) => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| IpAddr::from(*bytes))
            .collect(),
        IpAddr::V6(_) => bytes
            .as_chunks::<16>()
            .0
            .iter()
            .map(|bytes| IpAddr::from(*bytes))
            .collect(),
    };
    Some((advert.message[1], frame.source, addresses))
}

fn all_advertised(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    let (mut missing, expected) = (routers(t), routers(t));
    let until = cable::now() + 3 * t.unit();
    t.listen(until, |frame| {
        if let Some(router) = listed(frame) {
            assert!(expected.contains(&router), "nobody configured {router:?}");
            missing.remove(&router);
        }
        missing.is_empty()
    });
    match missing.is_empty() {
        true => Ok(()),
        false => Err(t.late(&format!("not advertised: {missing:?}"))),
    }
}

fn all_answer(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    t.listen_for(2.0); // announcements look like answers
    for (_, mac, addresses) in routers(t) {
        for address in addresses {
            let question = match address {
                IpAddr::V4(address) => questions::who_has(BROADCAST, address),
                IpAddr::V6(address) => questions::solicitation(address, Some(HOST6), 255),
            };
            t.send(&question);
            let until = cable::now() + t.unit();
            let about = |frame: &Frame| {
                let arp = frame.arp().map(|arp| IpAddr::V4(arp.sender.1));
                let neighbour = frame.neighbour_advert().map(|advert| advert.target.into());
                frame.destination == HOST.0 && arp.or(neighbour) == Some(address)
            };
            let answer = t.listen(until, about);
            let answer = answer.ok_or_else(|| t.late(&format!("{address} is not answered for")))?;
            let told = answer.arp().map(|arp| arp.sender.0);
            let told = told.or(answer.neighbour_advert().and_then(|advert| advert.mac));
            assert_eq!((answer.source, told), (mac, Some(mac)), "{address}");
        }
    }
    Ok(())
}

/// The VLAN that a frame is in.
fn vlan(frame: &Frame) -> Option<u16> {
    let tag = frame.bytes.get(12..16)?;
    (tag[..2] == [0x81, 0]).then(|| u16::from_be_bytes([tag[2], tag[3]]) & 0xfff)
}

fn tagged_adverts(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    super::gaps(t, 6);
    let heard: BTreeSet<_> = t
        .adverts()
        .map(|(frame, advert)| (advert.message[1], vlan(frame)))
        .collect();
    assert_eq!(heard, [(51, None), (52, Some(VLAN))].into_iter().collect());
    Ok(())
}

fn tagged_answers(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    let asker = (HOST.0, Ipv4Addr::new(198, 51, 100, 100));
    let plain = questions::arp(BROADCAST, 1, asker, ([0; 6], TAGGED_VIRTUAL));
    let tagged = [&plain[..12], &[0x81, 0], &VLAN.to_be_bytes(), &plain[12..]].concat();
    let other = questions::who_has(BROADCAST, Ipv4Addr::new(192, 0, 2, 10));
    let wrong = [&other[..12], &[0x81, 0], &VLAN.to_be_bytes(), &other[12..]].concat();
    for frame in [&plain, &wrong, &tagged] {
        t.send(frame);
    }
    let until = cable::now() + t.unit();
    let reply = |frame: &Frame| frame.destination == HOST.0 && frame.arp().is_some();
    // Those in the wrong network came first.
    let answer = t.listen(until, reply).ok_or_else(|| t.late("no answer"))?;
    assert_eq!(vlan(&answer), Some(VLAN));
    assert_eq!(
        answer.arp().map(|arp| arp.sender),
        Some(([0, 0, 0x5e, 0, 1, 52], TAGGED_VIRTUAL))
    );
    Ok(())
}
