//! The groups that a node is a member of, and what it tells IPv6 hosts about their router.

use node::State;
use policy::Config;
use time::Duration;
use wire::ethernet::{self};
use wire::vrrp::{self};
use wire::{igmp, ipv4, ipv6, nd};
use zerocopy::IntoBytes;

use crate::lone::*;

#[test]
fn groups_are_joined_and_joined_again() {
    let mut lone = Lone::new([v4(), v6()]);
    assert_eq!(
        lone.joins(),
        [(0x16, vrrp::MULTICAST), (0x22, vrrp::MULTICAST)]
    );
    let own = nd::solicited_node(WAN6.octets());
    let mine = nd::solicited_node(nd::link_local(OWN));
    let shared = nd::solicited_node(SHARED6.octets());
    assert!(
        [own, mine, vrrp::MULTICAST6]
            .iter()
            .all(|group| lone.joined6().contains(group))
    );
    assert!(
        !lone.joined6().contains(&shared),
        "a Backup answers nobody who looks for it"
    );
    lone.run(SECOND);
    lone.sent.0.clear();
    // Robust against the loss of one, and again before a switch forgets.
    lone.run(65 * SECOND);
    assert!(lone.joins().len() >= 2);
    assert_eq!(lone.node.state(), Some(State::Active));
    assert!(lone.joined6().contains(&shared));
    lone.sent.0.clear();
    lone.link(0, false);
    lone.run(MOMENT);
    assert!(lone.left6().contains(&shared) && !lone.left6().contains(&vrrp::MULTICAST6));
    lone.sent.0.clear();
    lone.link(0, true);
    lone.run(MOMENT);
    assert_eq!(lone.joins().len(), 2);
}

#[test]
fn queries_are_answered_in_their_version() {
    let mut lone = Lone::new([v4(), v6()]);
    lone.run(5 * SECOND);
    lone.sent.0.clear();
    let mut query = [0x11, 50, 0, 0, 0, 0, 0, 0];
    let sum = wire::checksum::of(&query).to_be_bytes();
    query[2..4].copy_from_slice(&sum);
    let header =
        ipv4::Header::with_router_alert([192, 0, 2, 250], igmp::ALL_SYSTEMS, ipv4::IGMP, 8);
    let packet = [&header[..], &query].concat();
    lone.take(
        0,
        &frame(
            igmp::multicast_mac(igmp::ALL_SYSTEMS),
            PEER,
            ethernet::IPV4,
            &packet,
        ),
    );
    lone.run(Duration::from_millis(5010));
    assert_eq!(lone.joins(), [(0x16, vrrp::MULTICAST)]);
    lone.sent.0.clear();
    // MLDv1: one report for each group.
    let mut message = [0; 24];
    (message[0], message[4]) = (130, 1);
    let source: [u8; 16] = PEER6.octets();
    let sum = ipv6::pseudo_header(source, nd::ALL_NODES, ipv6::ICMP, 24)
        .bytes(&message)
        .finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = ipv6::Header::new(source, nd::ALL_NODES, ipv6::HOP_BY_HOP, 1, 32);
    let packet = [header.as_bytes(), &[58, 0, 5, 2, 0, 0, 1, 0], &message].concat();
    lone.take(
        0,
        &frame(
            nd::multicast_mac(nd::ALL_NODES),
            PEER,
            ethernet::IPV6,
            &packet,
        ),
    );
    lone.run(Duration::from_millis(300));
    let kinds: Vec<u8> = lone.reports6().map(|packet| packet[48]).collect();
    assert!(
        kinds.len() >= 3 && kinds.iter().all(|kind| *kind == 131),
        "{kinds:?}"
    );
}

#[test]
fn the_active_alone_is_a_router_to_hosts() {
    let advertising = |config: &mut Config| config.availability.announce.router_advertisement = 30;
    let mut lone = Lone::altered([v6()], advertising);
    let solicitation = {
        let mut message = [133, 0, 0, 0, 0, 0, 0, 0];
        let sum = ipv6::pseudo_header(PEER6.octets(), nd::ALL_ROUTERS, ipv6::ICMP, 8)
            .bytes(&message)
            .finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let header = ipv6::Header::new(PEER6.octets(), nd::ALL_ROUTERS, ipv6::ICMP, 255, 8);
        let packet = [header.as_bytes(), &message].concat();
        frame(
            nd::multicast_mac(nd::ALL_ROUTERS),
            PEER,
            ethernet::IPV6,
            &packet,
        )
    };
    lone.take(0, &solicitation);
    lone.run(SECOND);
    assert_eq!(lone.router_adverts(), [], "a Backup");
    lone.run(60 * SECOND);
    assert_eq!(lone.node.state(), Some(State::Active));
    let adverts = lone.router_adverts();
    assert!((3..=7).contains(&adverts.len()), "{adverts:?}");
    for (from, source, lifetime) in adverts {
        assert_eq!((from, source, lifetime), (MAC6, LINK_LOCAL6, 90));
    }
    // An answer comes soon, but never two within three seconds.
    lone.run(4 * SECOND);
    lone.sent.0.clear();
    lone.take(0, &solicitation);
    lone.take(0, &solicitation);
    lone.run(Duration::from_millis(3600));
    assert!((1..=2).contains(&lone.router_adverts().len()));
    lone.sent.0.clear();
    lone.node.stop(lone.now, &mut lone.sent);
    lone.run(60 * SECOND);
    assert_eq!(
        lone.router_adverts(),
        [],
        "nobody is told that the virtual router is gone"
    );
    // Where nothing is advertised, nobody is answered.
    let mut lone = Lone::active([v6()]);
    lone.take(0, &solicitation);
    lone.run(60 * SECOND);
    assert_eq!(lone.router_adverts(), []);
}
