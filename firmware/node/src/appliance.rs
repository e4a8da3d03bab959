//! A node with a configuration: every frame to its part, every part's wishes to the wire.

use core::net::Ipv4Addr;

use filter::{Drop, Filter, Forward, Kind, Packet, Unknown, Verdict};
use health::Checker;
use policy::{Config, MAX_SERVERS, MAX_SERVICES};
use time::{Duration, Instant};
use vrrp::{Group, State};
use wire::Frame;
use wire::checksum;
use wire::ethernet::{self, Received};
use wire::ipv4;
use wire::tcp::{self, Flags};
use wire::vrrp::{Advert, MULTICAST, MULTICAST_MAC};

use crate::answer::{echo_reply, reset, transport};
use crate::leg::{Legs, Station};
use crate::neighbour::{MTU, Neighbours};
use crate::tracker::Tracker;
use crate::{Event, Log, Transmit, emit};

/// All parts of a running appliance.
#[derive(Debug)]
pub struct Appliance<const FLOWS: usize> {
    pub(crate) legs: Legs,
    pub(crate) filter: Filter<FLOWS>,
    group: Group,
    checker: Checker,
    pub(crate) neighbours: Neighbours,
    pub(crate) tracker: Tracker,
    started: bool,
    /// Whether virtual addresses are answered for.
    pub(crate) active: bool,
    /// Until when connections are taken up in the middle. A moment, not a span: dividing microseconds
    /// to seconds would cost each packet more than its checksum does.
    pick_up_until: Instant,
    next_sweep: Instant,
    pub(crate) next_conflict_event: Instant,
    /// The earliest of all timers, so that polling early costs one comparison.
    wake: Instant,
}

/// How long connections are taken up in the middle after a take-over.
const PICK_UP: Duration = Duration::from_secs(60);
/// Time between two looks for flows whose time is over.
const SWEEP: Duration = Duration::from_millis(100);
/// Shortest time between two events about address conflicts.
pub(crate) const CONFLICT: Duration = Duration::from_secs(1);

impl<const FLOWS: usize> Appliance<FLOWS> {
    pub fn new(config: &Config, seed: u64, now: Instant) -> Self {
        let legs = Legs::new(config);
        Self {
            filter: Filter::new(config, seed),
            group: Group::new(config),
            checker: Checker::new(config, seed.rotate_left(32), now),
            neighbours: Neighbours::new(now),
            tracker: Tracker::new(now, &legs),
            legs,
            started: false,
            active: false,
            pick_up_until: now,
            next_sweep: now,
            next_conflict_event: now,
            wake: now,
        }
    }

    pub fn ingress(
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
            ethernet::IPV4 => self.ipv4(now, leg, &received, frame, log, out),
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
        }
        if self.group.deadline().is_some_and(|at| now >= at) {
            self.vrrp_step(now, vrrp::Input::Timer, log, out);
        }
        if self.checker.deadline().is_some_and(|at| now >= at) {
            self.health_step(now, health::Input::Timer, log, out);
        }
        for (leg, reachable) in self
            .tracker
            .tick(now, &self.legs, &mut self.neighbours, out)
        {
            self.track(now, leg, reachable, log, out);
        }
        self.neighbours
            .tick(now, &self.legs, &mut log.counters, out);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.filter.sweep(now);
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
        self.vrrp_step(now, vrrp::Input::Link { port, up }, log, out);
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

    fn ipv4(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let payload = frame.bytes().get(received.payload..).unwrap_or_default();
        let station = self
            .legs
            .get(leg)
            .map_or(Station::Other, |l| l.station(received.destination));
        match (station, self.active) {
            (Station::Virtual, true) => {
                let packet = parse(payload)?;
                let unknown = match now < self.pick_up_until {
                    true => Unknown::PickUp,
                    false => Unknown::Refuse,
                };
                match self.filter.judge(now, leg, &packet, unknown) {
                    Verdict::Forward(forward) => {
                        self.forward(now, received, &packet, &forward, frame, log, out)
                    }
                    Verdict::Local => self.local(now, leg, received, &packet, frame, log, out),
                    Verdict::Reset => {
                        let on = self.legs.get(leg).ok_or(Drop::NoFlow)?;
                        reset(on, received, &packet, payload, out);
                        Err(Drop::NoFlow)
                    }
                    Verdict::Drop(reason) => Err(reason),
                }
            }
            (Station::Virtual, false) => Err(Drop::NotActive),
            (Station::Own, _) => {
                let packet = parse(payload)?;
                let (source, destination) = (packet.tuple.source, packet.tuple.destination);
                self.filter.routes().check(leg, source, destination)?;
                if !self.filter.routes().is_ours(destination) {
                    return Err(Drop::NotActive);
                }
                self.local(now, leg, received, &packet, frame, log, out)
            }
            (Station::Other, _) if received.destination == MULTICAST_MAC => {
                self.advert(now, leg, payload, log, out)
            }
            (Station::Other, _) => Err(Drop::OtherStation),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    fn forward(
        &mut self,
        now: Instant,
        received: &Received,
        packet: &Packet,
        forward: &Forward,
        mut frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let hop = forward.hop;
        let leg = self.legs.get(hop.leg).ok_or(Drop::NoRoute)?;
        let bytes = frame
            .bytes_mut()
            .get_mut(received.payload..)
            .unwrap_or_default();
        forward.rewrite.apply(bytes);
        let Some(mac) = self.neighbours.lookup(hop) else {
            let packet = bytes.get(..packet.len).unwrap_or_default();
            let held = self
                .neighbours
                .hold(now, hop, packet, true, &self.legs, out);
            self.reschedule();
            return held;
        };
        if !ethernet::rewrite(&mut frame, received, mac, leg.mac, leg.vlan) {
            return Err(Drop::Headroom);
        }
        // Not with the sender's padding: it may carry anything.
        frame.truncate(ethernet::header_len(leg.vlan) + packet.len);
        frame.pad(ethernet::MIN_LEN);
        out.transmit(leg.port, frame.bytes());
        log.counters.forwarded += 1;
        Ok(())
    }

    /// A packet addressed to the appliance itself.
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    fn local(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        packet: &Packet,
        frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let destination = Ipv4Addr::from_bits(packet.tuple.destination);
        let on = self.legs.get(leg).ok_or(Drop::NotForUs)?;
        // Only the addresses of this very leg; the virtual ones only while Active.
        let mac = on.mac_of(destination).ok_or(Drop::NotForUs)?;
        if destination != on.address && !self.active {
            return Err(Drop::NotActive);
        }
        match packet.kind {
            Kind::EchoRequest => echo_reply(on, mac, received, packet, frame, out),
            Kind::Tcp(flags) if destination == on.address => {
                self.segment(now, received, packet, flags, frame, log, out)
            }
            Kind::Tcp(_) | Kind::Udp | Kind::EchoReply | Kind::Error(_) | Kind::Other => {
                Err(Drop::NotForUs)
            }
        }
    }

    /// An answer to a health check.
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    fn segment(
        &mut self,
        now: Instant,
        received: &Received,
        packet: &Packet,
        flags: Flags,
        frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let tuple = packet.tuple;
        if !health::SOURCE_PORTS.contains(&tuple.destination_port) {
            return Err(Drop::NotForUs);
        }
        let bytes = transport(received, packet, &frame);
        let header = tcp::Header::parse(bytes).ok_or(Drop::Transport)?;
        let (source, destination) = (tuple.source.to_be_bytes(), tuple.destination.to_be_bytes());
        let len = bytes.len() as u16; // at most MTU
        let pseudo = checksum::pseudo_header(source, destination, ipv4::TCP, len);
        if pseudo.bytes(bytes).finish() != 0 {
            return Err(Drop::Transport);
        }
        let segment = health::Segment {
            source: source.into(),
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
            flags: flags.0,
            acknowledgment: header.acknowledgment.get(),
        };
        self.health_step(now, health::Input::Segment(segment), log, out);
        Ok(())
    }

    fn advert(
        &mut self,
        now: Instant,
        leg: u8,
        payload: &[u8],
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let (header, header_len) = ipv4::Header::parse(payload).map_err(|_| Drop::Ipv4Header)?;
        if header.protocol != ipv4::VRRP || header.destination != MULTICAST {
            return Err(Drop::OtherStation);
        }
        let source = Ipv4Addr::from(header.source);
        let routes = self.filter.routes();
        if routes.is_ours(source.to_bits()) || !routes.is_neighbour(leg, source.to_bits()) {
            return Err(Drop::Martian);
        }
        let message = payload
            .get(header_len..header.total_len.get().into())
            .unwrap_or_default();
        let advert = Advert::parse(header, message).map_err(|_| Drop::Vrrp)?;
        let router = self.legs.get(leg).and_then(|leg| leg.router.as_ref());
        if router.is_none_or(|router| router.vrid != advert.header.vrid) {
            return Err(Drop::Vrrp);
        }
        let advert = vrrp::Advert {
            leg,
            source,
            priority: advert.header.priority,
            interval: advert.header.interval(),
        };
        self.vrrp_step(now, vrrp::Input::Advert(advert), log, out);
        Ok(())
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
            log.events.push(Event::Track {
                leg: on.name.clone(),
                reachable,
            });
        }
        self.vrrp_step(now, vrrp::Input::Track { leg, reachable }, log, out);
    }

    fn vrrp_step(
        &mut self,
        now: Instant,
        input: vrrp::Input,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        for action in self.group.step(now, input) {
            match action {
                vrrp::Action::SendAdvert { leg, priority } => {
                    if let Some(leg) = self.legs.get(leg)
                        && let Some(router) = &leg.router
                    {
                        emit::advert(leg, router, priority, out);
                    }
                }
                vrrp::Action::Claim => {
                    self.active = true;
                    self.pick_up_until = now + PICK_UP;
                }
                vrrp::Action::Announce => {
                    for (_, leg) in self.legs.iter() {
                        if let Some(router) = &leg.router {
                            for address in &router.addresses {
                                emit::gratuitous_arp(leg, router, *address, out);
                            }
                        }
                    }
                }
                vrrp::Action::Release => {
                    self.active = false;
                    // Whoever is Active now changes these connections without telling us.
                    self.filter.forget();
                    self.neighbours.release(&mut log.counters);
                }
                vrrp::Action::StateChanged { from, to, cause } => {
                    log.events.push(Event::State { from, to, cause });
                }
            }
        }
        self.reschedule();
    }

    fn health_step(
        &mut self,
        now: Instant,
        input: health::Input,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        for action in self.checker.step(now, input) {
            match action {
                health::Action::SendSyn(probe) => self.probe(now, &probe, Flags::SYN, log, out),
                health::Action::SendReset(probe) => self.probe(now, &probe, Flags::RST, log, out),
                health::Action::Changed {
                    server,
                    port,
                    healthy,
                } => {
                    log.events.push(Event::Server {
                        address: server,
                        port,
                        healthy,
                    });
                    for (service, server) in pairs() {
                        let healthy = self.checker.healthy(service, server);
                        self.filter.set_health(service, server, healthy);
                    }
                }
            }
        }
        self.reschedule();
    }

    /// Sends a segment of a health check from the own address on the leg that the server is on.
    fn probe(
        &mut self,
        now: Instant,
        probe: &health::Probe,
        flags: Flags,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let Some(hop) = self.filter.routes().lookup(probe.server.to_bits()) else {
            return log.counters.drop(Drop::NoRoute);
        };
        let Some(leg) = self.legs.get(hop.leg) else {
            return;
        };
        let packet = tcp::write(&tcp::Segment {
            source: (leg.address.octets(), probe.source_port),
            destination: (probe.server.octets(), probe.port),
            sequence: probe.sequence,
            acknowledgment: 0,
            flags,
            window: PROBE_WINDOW,
        });
        match self.neighbours.lookup(hop) {
            Some(mac) => emit::ipv4(leg, leg.mac, mac, &packet, out),
            None => {
                if let Err(reason) = self
                    .neighbours
                    .hold(now, hop, &packet, false, &self.legs, out)
                {
                    log.counters.drop(reason);
                }
            }
        }
    }

    fn reschedule(&mut self) {
        let timers = [
            self.group.deadline(),
            self.checker.deadline(),
            self.tracker.deadline(),
            Some(self.neighbours.deadline()),
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

fn parse(payload: &[u8]) -> Result<Packet, Drop> {
    let packet = Packet::parse(payload)?;
    if packet.len > MTU {
        Err(Drop::TooLong)
    } else {
        Ok(packet)
    }
}

/// Every service and server index that a configuration can have.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..MAX_SERVICES).flat_map(|service| (0..MAX_SERVERS).map(move |server| (service, server)))
}

/// Receive window that health checks announce; no data is ever taken.
const PROBE_WINDOW: u16 = 1024;
