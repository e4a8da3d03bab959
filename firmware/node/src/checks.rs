//! Health checks of the real servers: what the checker wants to the wire, and answers to the checker.

use filter::{Drop, Packet};
use policy::{MAX_SERVERS, MAX_SERVICES};
use time::Instant;
use wire::Frame;
use wire::checksum;
use wire::ethernet::Received;
use wire::ipv4;
use wire::tcp::{self, Flags};

use crate::answer::transport;
use crate::appliance::Appliance;
use crate::{Event, Log, Transmit, emit};

impl<const FLOWS: usize> Appliance<FLOWS> {
    /// An answer to a health check.
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    pub(crate) fn segment(
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

    pub(crate) fn health_step(
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
}

/// Every service and server index that a configuration can have.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..MAX_SERVICES).flat_map(|service| (0..MAX_SERVERS).map(move |server| (service, server)))
}

/// Receive window that health checks announce; no data is ever taken.
const PROBE_WINDOW: u16 = 1024;
