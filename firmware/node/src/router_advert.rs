//! Router advertisements (RFC 4861 §6.2), by which IPv6 hosts learn their default router: the virtual one, so only its Active
//! sends them (RFC 9568 §8.2.2). A Backup says nothing, not even that it is none any more: that would be about the same router.

use core::net::IpAddr;

use policy::{Config, MAX_INTERFACES};
use random::SplitMix64;
use time::{Duration, Instant};
use wire::nd;
use wire::router_discovery::{MAX_LEN, Prefix, RouterAdvertisement};

use crate::leg::{Legs, On};
use crate::{Transmit, emit};

/// When which leg's hosts are told next.
#[derive(Debug)]
pub struct RouterAdverts {
    /// Longest time between two, MaxRtrAdvInterval; zero for never.
    interval: Duration,
    legs: [Schedule; MAX_INTERFACES],
    random: SplitMix64,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    /// `None` while this is no Active, or on a leg without a router of IPv6.
    next: Option<Instant>,
    last: Instant,
    /// How many of the first ones are still to come.
    first: u8,
}

/// How many come at shorter intervals after a take-over: MAX_INITIAL_RTR_ADVERTISEMENTS (RFC 4861 §10).
const FIRST: u8 = 3;
/// Longest interval between these.
const FIRST_INTERVAL: Duration = Duration::from_secs(16);
/// Shortest time between two: MIN_DELAY_BETWEEN_RAS.
const SHORTEST: Duration = Duration::from_secs(3);
/// Longest time until a solicitation is answered: MAX_RA_DELAY_TIME.
const ANSWER: Duration = Duration::from_millis(500);
/// Longest lifetime of a default router, in seconds (RFC 4861 §6.2.1).
const MAX_LIFETIME: u64 = 9000;
/// Of prefixes: 30 and 7 days (RFC 4861 §6.2.1).
const VALID: u32 = 2_592_000;
const PREFERRED: u32 = 604_800;
const HOP_LIMIT: u8 = 64;

impl RouterAdverts {
    pub fn new(config: &Config, seed: u64) -> Self {
        let never = Schedule {
            next: None,
            last: Instant::ZERO,
            first: 0,
        };
        Self {
            interval: Duration::from_secs(config.availability.announce.router_advertisement.into()),
            legs: [never; MAX_INTERFACES],
            random: SplitMix64::new(seed),
        }
    }

    /// Goes on with another configuration; `active` says whether this appliance speaks for its addresses.
    pub fn reload(&mut self, now: Instant, config: &Config, legs: &Legs, active: bool) {
        let announce = &config.availability.announce;
        self.interval = Duration::from_secs(announce.router_advertisement.into());
        let tells = active && self.enabled();
        for (schedule, (_, on)) in self.legs.iter_mut().zip(legs.iter()) {
            if !tells || source(&on).is_none() {
                schedule.next = None;
            } else if schedule.next.is_none() {
                schedule.next = Some(now);
                schedule.first = FIRST;
            }
        }
    }

    /// Whether hosts are told anything at all.
    pub fn enabled(&self) -> bool {
        !self.interval.is_zero()
    }

    /// This appliance is Active from now on.
    pub fn claim(&mut self, now: Instant, legs: &Legs) {
        if !self.enabled() {
            return;
        }
        for (schedule, (_, on)) in self.legs.iter_mut().zip(legs.iter()) {
            schedule.next = source(&on).map(|_| now);
            schedule.first = FIRST;
        }
    }

    /// It is not any more.
    pub fn release(&mut self) {
        for schedule in &mut self.legs {
            schedule.next = None;
        }
    }

    /// A host on a leg asks. Everybody there hears the answer, which is put off so that others who ask share it
    /// (RFC 4861 §6.2.6).
    pub fn solicited(&mut self, now: Instant, leg: u8) {
        let delay = part(&mut self.random, ANSWER);
        if let Some(schedule) = self.legs.get_mut(usize::from(leg))
            && let Some(next) = schedule.next
        {
            let answer = (now + delay).max(schedule.last + SHORTEST);
            schedule.next = Some(next.min(answer));
        }
    }

    /// Sends what is due.
    pub fn tick(&mut self, now: Instant, legs: &Legs, out: &mut impl Transmit) {
        for (schedule, (_, on)) in self.legs.iter_mut().zip(legs.iter()) {
            if schedule.next.is_none_or(|next| next > now) {
                continue;
            }
            send(&on, self.interval, out);
            // Between a third of the longest interval and all of it.
            let third = self.interval / 3;
            let mut wait = (third + part(&mut self.random, 2 * third)).max(SHORTEST);
            if let Some(first) = schedule.first.checked_sub(1) {
                schedule.first = first;
                wait = wait.min(FIRST_INTERVAL);
            }
            schedule.last = now;
            schedule.next = Some(now + wait);
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.legs.iter().filter_map(|schedule| schedule.next).min()
    }
}

fn send(on: &On<'_>, interval: Duration, out: &mut impl Transmit) {
    let Some(((source, mac), six)) = source(on).zip(on.six) else {
        return;
    };
    let lifetime = (3 * interval.as_secs()).min(MAX_LIFETIME);
    let advert = RouterAdvertisement {
        source,
        mac,
        lifetime: lifetime as u16, // 9000 at most
        hop_limit: HOP_LIMIT,
        mtu: on.mtu as u32, // 1500 at most
        prefix: Some(Prefix {
            address: six.prefix.address.octets(),
            length: six.prefix.length,
            // Hosts have the addresses that they were given.
            autonomous: false,
            valid: VALID,
            preferred: PREFERRED,
        }),
    };
    let mut buffer = [0; MAX_LEN];
    let packet = advert.write(nd::ALL_NODES, &mut buffer);
    emit::advert(on, mac, nd::multicast_mac(nd::ALL_NODES), packet, out);
}

/// The link-local address of a leg's first virtual router of IPv6, which comes first among its addresses, and its MAC address.
fn source(on: &On<'_>) -> Option<([u8; 16], [u8; 6])> {
    let mut routers = on.routers().filter(|router| router.config.is_v6());
    let router = routers.next()?;
    match router.config.addresses.first()? {
        IpAddr::V6(address) => Some((address.octets(), router.mac)),
        IpAddr::V4(_) => None,
    }
}

/// Any part of a duration.
pub fn part(random: &mut SplitMix64, whole: Duration) -> Duration {
    whole * (random.draw() >> 56) as u32 / 256
}
