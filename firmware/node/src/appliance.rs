//! A node with a configuration: every frame to its part, every part's wishes to the wire.

use classifier::Policy;
use filter::{Drop, Filter, Left, Tables};
use health::Checker;
use mgmt::Refusal;
use policy::{MAX_SERVICES, Name, Tracked};
use random::SplitMix64;
use time::{Duration, Instant};
use vrrp::{Group, Reason, Reasons, State};
use wire::Frame;
use wire::ethernet;
use wire::mld;

use crate::advert::{AdvertCounters, Adverts};
use crate::bucket::Bucket;
use crate::checks::{self, Tunnel};
use crate::deploy::Deployment;
use crate::error::Errors;
use crate::leg::Legs;
use crate::membership::{Memberships, Role};
use crate::neighbour::Neighbours;
use crate::office::Office;
use crate::outlets::Outlets;
use crate::pair::Pairing;
use crate::router_advert::RouterAdverts;
use crate::tracker::Tracker;
use crate::{Event, Log, Transmit, decided, nd};

/// All parts of a running appliance. What every packet needs stands first, where it is reached by short instructions.
#[derive(Debug)]
#[repr(C)]
pub struct Appliance<'t> {
    /// Whether what is sent to virtual MAC addresses is forwarded.
    pub(crate) active: bool,
    /// Whether virtual addresses are answered for, and virtual MAC addresses sent from. Who has handed over forwards for a moment
    /// longer.
    pub(crate) answers: bool,
    pub(crate) started: bool,
    /// The earliest of all timers, so that polling early costs one comparison.
    wake: Instant,
    pub(crate) legs: Legs,
    pub(crate) filter: Filter<'t>,
    pub(crate) neighbours: Neighbours,
    /// Until when connections are taken up in the middle. A moment, not a span: dividing microseconds
    /// to seconds would cost each packet more than its checksum does.
    pub(crate) pick_up_until: Instant,
    next_sweep: Instant,
    /// When the state changed last.
    pub(crate) changed: Instant,
    pub(crate) next_conflict_event: Instant,
    pub(crate) errors: Errors,
    pub(crate) tracker: Tracker,
    pub(crate) rule_events: Bucket,
    pub(crate) group: Group,
    pub(crate) pairing: Option<Pairing>,
    /// What the peer was told last.
    pub(crate) told: sync::Standing,
    /// Ports with a carrier, one bit each.
    pub(crate) links: u8,
    pub(crate) office: Option<Office>,
    pub(crate) deployment: Deployment,
    /// For what another configuration needs a secret for.
    pub(crate) chance: SplitMix64,
    /// How the hand-over that was asked for last went.
    pub(crate) handing_over: Result<(), Refusal>,
    pub(crate) adverts: Adverts,
    pub(crate) memberships: Memberships,
    pub(crate) router_adverts: RouterAdverts,
    /// Whether IPv4 addresses are announced by ARP replies too.
    pub(crate) announces_by_replies: bool,
    pub(crate) checker: Checker<Tunnel>,
    pub(crate) outlets: Outlets,
    /// Why the appliance is worth less than was configured, and what it is worth, as last told.
    worth: (Reasons, u8),
    /// Names of the services, and whether each has its quorum.
    pub(crate) quorums: heapless::Vec<(Name, bool), MAX_SERVICES>,
    /// Whether SYNs are answered with cookies, as last told.
    cookies: bool,
}

/// How long connections are taken up in the middle after a take-over.
const PICK_UP: Duration = Duration::from_secs(60);
/// Time between two looks for flows whose time is over.
const SWEEP: Duration = Duration::from_millis(100);
/// Shortest time between two events about address conflicts.
pub(crate) const CONFLICT: Duration = Duration::from_secs(1);

impl<'t> Appliance<'t> {
    // On its way out of a function of its own it would be copied once more, on the stack.
    #[inline(always)]
    pub fn new<const FLOWS: usize, const FLOWS6: usize>(
        policy: &Policy<'t>,
        tables: &'t mut Tables<FLOWS, FLOWS6>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let config = &policy.config;
        let legs = Legs::new(config);
        Self {
            filter: Filter::new(policy, tables, seed),
            outlets: Outlets::new(config, now),
            worth: (Reasons::default(), config.availability.priority),
            quorums: (config.services.iter())
                .map(|service| (service.name.clone(), false))
                .collect(),
            cookies: false,
            group: Group::new(config),
            pairing: Pairing::new(config, seed.rotate_left(8)),
            told: sync::Standing::default(),
            links: u8::MAX,
            office: Office::new(config, seed.rotate_left(24), now),
            deployment: Deployment::new(config.made),
            chance: SplitMix64::new(seed.rotate_left(56)),
            handing_over: Ok(()),
            adverts: Adverts::new(config),
            memberships: Memberships::new(now, seed.rotate_left(40)),
            router_adverts: RouterAdverts::new(config, seed.rotate_left(48)),
            announces_by_replies: config.availability.announce.replies,
            checker: checks::checker(config, seed.rotate_left(32), now),
            neighbours: Neighbours::new(now, seed.rotate_left(16)),
            errors: Errors::new(now, &config.protection),
            tracker: Tracker::new(now, &legs),
            rule_events: decided::bucket(now),
            legs,
            started: false,
            active: false,
            answers: false,
            pick_up_until: now,
            next_sweep: now,
            changed: now,
            next_conflict_event: now,
            wake: now,
        }
    }

    /// Takes one received frame.
    #[inline(always)]
    pub fn ingress(
        &mut self,
        now: Instant,
        port: u8,
        mut frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        match self.quick(now, port, &mut frame, out) {
            Ok(()) => {
                log.counters.forwarded += 1;
                return Ok(());
            }
            Err(Left::Refused(reason)) if now >= self.pick_up_until => return Err(reason),
            Err(_) => {}
        }
        let result = self.any(now, port, frame, log, out);
        self.note_rule(now, log);
        result
    }

    /// Any frame.
    #[inline(never)]
    fn any(
        &mut self,
        now: Instant,
        port: u8,
        frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let received = ethernet::parse(frame.bytes()).ok_or(Drop::Ethernet)?;
        if ethernet::is_multicast(received.source) {
            return Err(Drop::Ethernet);
        }
        let leg = self
            .legs
            .find(port, received.vlan)
            .ok_or(Drop::UnknownVlan)?;
        match received.ethertype {
            ethernet::IPV4 => self.ip(now, leg, &received, frame, log, out),
            ethernet::IPV6 => {
                let packet = frame.bytes().get(received.payload..).unwrap_or_default();
                if nd::is_discovery(packet) {
                    return self.discovery(now, leg, &received, &frame, log, out);
                }
                if mld::is_membership(packet) {
                    return self.asked_by_mld(now, leg, &received, packet);
                }
                self.ip(now, leg, &received, frame, log, out)
            }
            ethernet::ARP => self.arp(now, leg, &received, &frame, log, out),
            _ => Err(Drop::EtherType),
        }
    }

    pub fn poll(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        if now < self.wake {
            return;
        }
        if !self.started {
            self.started = true;
            self.vrrp_step(now, vrrp::Input::Start, log, out);
            self.open_office(now, log, out);
            self.watch_services(now, log, out);
        }
        // What the peer says comes before what silence means.
        if self
            .pairing
            .as_ref()
            .is_some_and(|pairing| now >= pairing.session.deadline())
        {
            self.pair_step(now, sync::Input::Timer, log, out);
        }
        if self.group.deadline().is_some_and(|at| now >= at) {
            self.vrrp_step(now, vrrp::Input::Timer, log, out);
        }
        self.let_go(now, log, out);
        if self.checker.deadline().is_some_and(|at| now >= at) {
            self.health_step(now, health::Input::Timer, log, out);
        }
        self.close_posts(now, log, out);
        self.change(now, log, out);
        for (leg, reachable) in self
            .tracker
            .tick(now, &self.legs, &mut self.neighbours, out)
        {
            self.track(now, leg, reachable, log, out);
        }
        self.neighbours
            .tick(now, &self.legs, &mut self.errors, log, out);
        let role = self.role();
        self.memberships.tick(now, &self.legs, role, out);
        self.router_adverts.tick(now, &self.legs, out);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.filter.sweep(now);
            self.note_cookies(now, log);
        }
        self.reschedule();
    }

    pub fn link(
        &mut self,
        now: Instant,
        port: u8,
        up: bool,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let bit = 1_u8.unbounded_shl(port.into());
        self.links = if up {
            self.links | bit
        } else {
            self.links & !bit
        };
        if up {
            self.memberships.link_up(now, &self.legs, port);
        }
        self.vrrp_step(now, vrrp::Input::Link { port, up }, log, out);
    }

    /// What an Active does before it takes frames that may have waited: if it was away for so long that another one is Active
    /// by now, they are not answered.
    #[inline]
    pub fn attend(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        if self.active && now >= self.wake {
            self.vrrp_step(now, vrrp::Input::Timer, log, out);
        }
    }

    pub fn stop(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        self.vrrp_step(now, vrrp::Input::Stop, log, out);
    }

    pub fn deadline(&self) -> Instant {
        self.wake
    }

    pub fn rule_hits(&self) -> &[u32] {
        self.filter.rule_hits()
    }

    pub fn flows(&self) -> usize {
        self.filter.flows()
    }

    pub fn state(&self) -> State {
        self.group.state()
    }

    pub fn advert_counters(&self) -> impl Iterator<Item = AdvertCounters> {
        self.adverts.counters()
    }

    pub(crate) fn role(&self) -> Role {
        Role {
            active: self.answers,
            router: self.router_adverts.enabled(),
        }
    }

    pub(crate) fn track(
        &mut self,
        now: Instant,
        leg: u8,
        reachable: bool,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        if let Some(on) = self.legs.get(leg) {
            log.journal.push(
                now,
                Event::Track {
                    leg: on.name.clone(),
                    reachable,
                },
            );
        }
        self.watched(now, Tracked::Neighbours(leg), reachable, log, out);
        self.tell_peer(now, log, out);
        self.reschedule();
    }

    /// Answers for no virtual address any more.
    fn fall_silent(&mut self, now: Instant, out: &mut impl Transmit) {
        if core::mem::take(&mut self.answers) {
            let role = self.role();
            self.memberships.release(now, &self.legs, role, out);
            self.router_adverts.release();
        }
    }

    /// Tells the group something, and the peer what comes of it.
    pub(crate) fn vrrp_step(
        &mut self,
        now: Instant,
        input: vrrp::Input,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        self.group_step(now, input, log, out);
        self.tell_peer(now, log, out);
        self.reschedule();
    }

    /// Tells the group something, and does what it says.
    pub(crate) fn group_step(
        &mut self,
        now: Instant,
        input: vrrp::Input,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        for action in self.group.step(now, input) {
            self.perform(now, action, log, out);
        }
        self.note_worth(now, log);
    }

    /// Does what the group says.
    pub(crate) fn perform(
        &mut self,
        now: Instant,
        action: vrrp::Action,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        match action {
            vrrp::Action::SendAdvert { router, priority } => {
                self.send_advert(now, router, priority, out);
            }
            vrrp::Action::Claim => {
                (self.active, self.answers) = (true, true);
                self.adverts.claim();
                self.memberships.claim(now);
                self.router_adverts.claim(now, &self.legs);
                self.pick_up_until = now + PICK_UP;
                self.filter.take_over(now);
            }
            vrrp::Action::Announce => self.announce(out),
            vrrp::Action::Release => {
                self.fall_silent(now, out);
                self.active = false;
                let pairing = self.pairing.as_ref();
                let shares = pairing.is_some_and(|pairing| pairing.session.shares());
                self.filter.stand_down(now, shares);
                self.neighbours.release(log);
            }
            vrrp::Action::Linger => self.fall_silent(now, out),
            vrrp::Action::Handover(result) => self.handed_over(now, result, log),
            vrrp::Action::Silent { routers } => {
                log.journal.push(now, Event::Silent { routers });
            }
            vrrp::Action::StateChanged { from, to, cause } => {
                self.changed = now;
                log.journal.push(now, Event::State { from, to, cause });
            }
        }
    }

    /// Says what the appliance is worth now, and why, if that has changed.
    fn note_worth(&mut self, now: Instant, log: &mut Log) {
        let worth = (self.group.demotions(), self.group.priority());
        let (reasons, priority) = core::mem::replace(&mut self.worth, worth);
        if (reasons, priority) == worth {
            return;
        }
        for reason in Reason::ALL {
            let on = worth.0.contains(reason);
            if on != reasons.contains(reason) {
                log.journal.push(now, Event::Demotion { reason, on });
            }
        }
        if priority != worth.1 {
            let (from, to) = (priority, worth.1);
            log.journal.push(now, Event::Priority { from, to });
        }
    }

    /// Says that SYNs are answered with cookies, or no longer.
    fn note_cookies(&mut self, now: Instant, log: &mut Log) {
        let on = self.filter.cookies_are_out();
        if core::mem::replace(&mut self.cookies, on) != on {
            log.journal.push(now, Event::Cookies { on });
        }
    }

    pub(crate) fn reschedule(&mut self) {
        let timers = [
            self.group.deadline(),
            self.checker.deadline(),
            self.tracker.deadline(),
            Some(self.neighbours.deadline()),
            self.pairing
                .as_ref()
                .map(|pairing| pairing.session.deadline()),
            self.neighbours.held().deadline(),
            self.office.as_ref().and_then(Office::deadline),
            self.deployment.deadline(),
            self.memberships.deadline(&self.legs),
            self.router_adverts.deadline(),
        ];
        let earliest = timers
            .into_iter()
            .flatten()
            .fold(self.next_sweep, Instant::min);
        self.wake = if self.started {
            earliest
        } else {
            Instant::ZERO
        };
    }
}
