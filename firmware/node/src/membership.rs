//! Membership of groups: switches that look into IGMP and MLD send adverts and solicitations only where somebody has joined.
//!
//! Reports come from the own MAC address always: a Backup is a member too, and the virtual MAC address is not its own. The
//! groups that neighbour solicitations for virtual addresses go to are joined by the Active alone.

use core::net::IpAddr;

use filter::Drop;
use policy::MAX_INTERFACES;
use random::SplitMix64;
use time::{Duration, Instant};
use wire::ethernet::{self, Received};
use wire::igmp::{self, Membership};
use wire::vrrp::{MULTICAST, MULTICAST6};
use wire::{ipv4, mld, nd};

use crate::appliance::Appliance;
use crate::leg::{Legs, On};
use crate::router_advert::part;
use crate::{Transmit, emit};

/// When reports are due on which leg.
#[derive(Debug)]
pub struct Memberships {
    legs: [Schedules; MAX_INTERFACES],
    random: SplitMix64,
}

/// IGMP and MLD of one leg.
#[derive(Clone, Copy, Debug)]
struct Schedules {
    v4: Schedule,
    v6: Schedule,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    next: Option<Instant>,
    /// How many more joins follow one another.
    joins: u8,
    /// Until when a querier of the old version is about.
    old_until: Instant,
    /// Until when one of the new version is.
    new_until: Instant,
}

/// What the appliance is at the moment, as far as groups are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Whether it answers for virtual addresses.
    pub active: bool,
    /// Whether it answers hosts that look for routers.
    pub router: bool,
}

/// Time between two unasked reports: shorter than a switch's memory of any (RFC 2236 §8.4), asked for by nobody where there is
/// no querier.
const AGAIN: Duration = Duration::from_secs(60);
/// Joins in a row, in case one is lost: the robustness variable (RFC 3376 §8.1).
const JOINS: u8 = 2;
/// Time between these (RFC 3376 §8.11).
const BETWEEN_JOINS: Duration = Duration::from_secs(1);
/// How long a querier counts as present (RFC 3376 §8.12).
const QUERIER: Duration = Duration::from_secs(260);
/// Groups in one report of MLDv2, so that it fits `emit`'s frames.
const GROUPS: usize = 16;

impl Memberships {
    pub fn new(now: Instant, seed: u64) -> Self {
        let schedule = Schedule {
            next: Some(now),
            joins: JOINS,
            old_until: Instant::ZERO,
            new_until: Instant::ZERO,
        };
        let both = Schedules {
            v4: schedule,
            v6: schedule,
        };
        Self {
            legs: [both; MAX_INTERFACES],
            random: SplitMix64::new(seed),
        }
    }

    /// A port has a carrier again: whatever is at its other end may know nothing.
    pub fn link_up(&mut self, now: Instant, legs: &Legs, port: u8) {
        for (schedules, (_, on)) in self.legs.iter_mut().zip(legs.iter()) {
            if on.port == port {
                schedules.v4.join(now);
                schedules.v6.join(now);
            }
        }
    }

    /// There may be virtual routers on legs that had none.
    pub fn join_again(&mut self, now: Instant) {
        for schedules in &mut self.legs {
            schedules.v4.join(now);
            schedules.v6.join(now);
        }
    }

    /// The appliance becomes Active.
    pub fn claim(&mut self, now: Instant) {
        for schedules in &mut self.legs {
            schedules.v6.join(now);
        }
    }

    /// It is not any more.
    pub fn release(&mut self, now: Instant, legs: &Legs, role: Role, out: &mut impl Transmit) {
        for (schedules, (_, on)) in self.legs.iter().zip(legs.iter()) {
            let stays = |group: &[u8; 16]| {
                all(
                    &on,
                    Role {
                        active: false,
                        ..role
                    },
                )
                .any(|own| own == *group)
            };
            let groups = || {
                all(
                    &on,
                    Role {
                        active: true,
                        ..role
                    },
                )
                .filter(|group| !stays(group))
            };
            report6(
                &on,
                schedules.v6.versions(now),
                Membership::Leaves,
                groups,
                out,
            );
        }
    }

    /// Somebody asks which groups have members on a leg. `delay` is the longest time until the answer.
    pub fn asked4(&mut self, now: Instant, leg: u8, query: &igmp::Query) {
        if query.group.is_some_and(|group| group != MULTICAST) {
            return;
        }
        let answer = now + part(&mut self.random, query.delay);
        if let Some(schedules) = self.legs.get_mut(usize::from(leg)) {
            schedules
                .v4
                .asked(now, query.version == igmp::Version::V2, answer);
        }
    }

    /// The same by MLD.
    pub fn asked6(&mut self, now: Instant, leg: u8, query: &mld::Query) {
        let answer = now + part(&mut self.random, query.delay);
        if let Some(schedules) = self.legs.get_mut(usize::from(leg)) {
            schedules
                .v6
                .asked(now, query.version == mld::Version::V1, answer);
        }
    }

    /// Sends what is due.
    pub fn tick(&mut self, now: Instant, legs: &Legs, role: Role, out: &mut impl Transmit) {
        for (schedules, (_, on)) in self.legs.iter_mut().zip(legs.iter()) {
            if let Some(membership) = schedules.v4.due(now) {
                report4(&on, schedules.v4.versions(now), membership, out);
            }
            if let Some(membership) = schedules.v6.due(now) {
                report6(
                    &on,
                    schedules.v6.versions(now),
                    membership,
                    || all(&on, role),
                    out,
                );
            }
        }
    }

    pub fn deadline(&self, legs: &Legs) -> Option<Instant> {
        let schedules = self.legs.iter().take(legs.iter().count());
        schedules
            .flat_map(|both| [both.v4.next, both.v6.next])
            .flatten()
            .min()
    }
}

impl Schedule {
    fn join(&mut self, now: Instant) {
        (self.next, self.joins) = (Some(now), JOINS);
    }

    fn asked(&mut self, now: Instant, old: bool, answer: Instant) {
        let until = if old {
            &mut self.old_until
        } else {
            &mut self.new_until
        };
        *until = now + QUERIER;
        self.next = Some(self.next.map_or(answer, |next| next.min(answer)));
    }

    /// What is to be said now, if anything; and plans what follows.
    fn due(&mut self, now: Instant) -> Option<Membership> {
        self.next.filter(|next| *next <= now)?;
        let Some(joins) = self.joins.checked_sub(1) else {
            self.next = Some(now + AGAIN);
            return Some(Membership::Is);
        };
        self.joins = joins;
        self.next = Some(now + if joins == 0 { AGAIN } else { BETWEEN_JOINS });
        Some(Membership::Joins)
    }

    /// Whether the old and the new version are spoken: what the querier understands, both if there is none, because the switch
    /// may understand either.
    fn versions(&self, now: Instant) -> (bool, bool) {
        let (old, new) = (now < self.old_until, now < self.new_until);
        (old || !new, !old)
    }
}

impl Appliance<'_> {
    /// A packet to a group of IPv4 that is none of adverts.
    pub(crate) fn asked_by_igmp(
        &mut self,
        now: Instant,
        leg: u8,
        packet: &[u8],
    ) -> Result<(), Drop> {
        let (header, len) = ipv4::Header::parse(packet).map_err(|_| Drop::Ipv4Header)?;
        let message = packet.get(len..header.total_len.get().into());
        let message = message.filter(|_| header.protocol == ipv4::IGMP && !header.is_fragment());
        let query = igmp::Query::parse(header, message.ok_or(Drop::OtherStation)?);
        // What members and routers say among themselves is for others.
        self.memberships
            .asked4(now, leg, &query.map_err(|_| Drop::OtherStation)?);
        self.reschedule();
        Ok(())
    }

    /// A packet of MLD, to whomever.
    pub(crate) fn asked_by_mld(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        packet: &[u8],
    ) -> Result<(), Drop> {
        let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
        let query = mld::Query::parse(packet);
        if on.six.is_none() || !ethernet::is_multicast(received.destination) {
            return Err(Drop::OtherStation);
        }
        self.memberships
            .asked6(now, leg, &query.map_err(|_| Drop::OtherStation)?);
        self.reschedule();
        Ok(())
    }
}

fn report4(on: &On<'_>, (old, new): (bool, bool), membership: Membership, out: &mut impl Transmit) {
    let source = on.address.octets();
    // With peers, adverts go to nobody else.
    let mut routers = on.routers().map(|router| &router.config);
    if !routers.any(|config| !config.is_v6() && config.peers.is_empty()) {
        return;
    }
    if old {
        let (to, packet) = igmp::report_v2(source, MULTICAST, membership);
        emit::to_group(on, igmp::multicast_mac(to), &packet, out);
    }
    if new {
        let packet = igmp::report_v3(source, MULTICAST, membership);
        emit::to_group(on, igmp::multicast_mac(igmp::V3_ROUTERS), &packet, out);
    }
}

fn report6<I: Iterator<Item = [u8; 16]>>(
    on: &On<'_>,
    (old, new): (bool, bool),
    membership: Membership,
    groups: impl Fn() -> I + Copy,
    out: &mut impl Transmit,
) {
    let Some(six) = on.six else { return };
    let source = six.link_local.octets();
    // Addresses that end alike share a group.
    let groups = || {
        let again = move |(place, group): &(usize, [u8; 16])| {
            groups().take(*place).any(|other| other == *group)
        };
        groups()
            .enumerate()
            .filter(move |pair| !again(pair))
            .map(|(_, group)| group)
    };
    for group in groups().filter(|_| old) {
        let (to, packet) = mld::report_v1(source, group, membership);
        emit::to_group(on, nd::multicast_mac(to), &packet, out);
    }
    let count = if new { groups().count() } else { 0 };
    for first in (0..count).step_by(GROUPS) {
        let mut buffer = [0; REPORT];
        let part = groups().skip(first).take(GROUPS);
        if let Some(packet) = mld::report_v2(source, part, membership, &mut buffer) {
            emit::to_group(on, nd::multicast_mac(mld::V2_ROUTERS), packet, out);
        }
    }
}

/// All IPv6 groups that the appliance listens to on a leg with IPv6, but for the one that everybody is in.
fn all<'a>(on: &On<'a>, role: Role) -> impl Iterator<Item = [u8; 16]> + use<'a> {
    let mut routers = on.routers().map(|router| &router.config);
    let adverts = routers.any(|config| config.is_v6() && config.peers.is_empty());
    let own = on
        .six
        .into_iter()
        .flat_map(|six| [six.address, six.link_local]);
    own.map(|address| nd::solicited_node(address.octets()))
        .chain(adverts.then_some(MULTICAST6))
        .chain((role.active && role.router).then_some(nd::ALL_ROUTERS))
        .chain(shared(on).filter(move |_| role.active))
}

/// The groups that neighbour solicitations for virtual addresses go to.
fn shared<'a>(on: &On<'a>) -> impl Iterator<Item = [u8; 16]> + use<'a> {
    let addresses = on.routers().flat_map(|router| &router.config.addresses);
    addresses.filter_map(|address| match address {
        IpAddr::V6(address) => Some(nd::solicited_node(address.octets())),
        IpAddr::V4(_) => None,
    })
}

/// Length of a report with [`GROUPS`] groups.
const REPORT: usize = wire::ipv6::HEADER_LEN + 8 + 8 + 20 * GROUPS;
