//! Health checks of the real servers: what the checker wants to the wire, and answers to the checker.

use core::net::IpAddr;

use filter::{Drop, Hop, V6};
use health::{Action, Checker, Datagram, EchoReply, Header, Input, Segment};
use policy::{Config, MAX_SERVERS, MAX_SERVICES, Tracked};
use time::Instant;
use wire::checksum::{self, Sum};
use wire::tcp::{self, Flags, UDP_HEADER_LEN, UdpHeader};
use wire::{ipv4, ipv6};
use zerocopy::{FromBytes, IntoBytes};

use crate::appliance::Appliance;
use crate::held::Owner;
use crate::{Event, Log, Transmit, emit};

impl Appliance<'_> {
    /// A packet to the appliance's own address that may answer a check: its transport header and data.
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    pub(crate) fn check_answer(
        &mut self,
        now: Instant,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        bytes: &[u8],
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let input = parse(source, protocol, bytes)?;
        if !verified(source, destination, protocol, bytes) {
            return Err(Drop::Transport);
        }
        self.health_step(now, input, log, out);
        Ok(())
    }

    pub(crate) fn health_step(
        &mut self,
        now: Instant,
        input: Input<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        for action in self.checker.step(now, input) {
            match action {
                Action::Send(packet) => {
                    if let Err(reason) = self.ask(now, &packet, out) {
                        log.counters.drop(reason);
                    }
                }
                Action::Changed {
                    server: address,
                    port,
                    failure,
                } => {
                    log.journal.push(
                        now,
                        Event::Server {
                            address,
                            port,
                            failure,
                        },
                    );
                    self.apply_standings(now);
                    self.watch_services(now, log, out);
                }
                Action::Agent {
                    server: address,
                    port,
                    said,
                } => {
                    log.journal.push(
                        now,
                        Event::Agent {
                            address,
                            port,
                            said,
                        },
                    );
                    self.apply_standings(now);
                    self.watch_services(now, log, out);
                }
            }
        }
        self.reschedule();
    }

    /// Tells the group which services have their quorum.
    pub(crate) fn watch_services(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        for service in 0..MAX_SERVICES as u8 {
            let good = self.filter.has_quorum(service.into());
            self.note_quorum(now, service, good, log);
            self.watched(now, Tracked::Service(service), good, log, out);
        }
        self.tell_peer(now, log, out);
    }

    /// The services of another configuration: those that were there before have what they had.
    pub(crate) fn rename_services(&mut self, config: &Config) {
        let before = core::mem::take(&mut self.quorums);
        let services = config.services.iter().map(|service| {
            let known = before.iter().find(|(name, _)| *name == service.name);
            (
                service.name.clone(),
                known.is_some_and(|(_, quorum)| *quorum),
            )
        });
        self.quorums = services.collect();
    }

    /// Says that a service has its quorum, or no longer. Before it ever had it, nobody was told anything else.
    fn note_quorum(&mut self, now: Instant, service: u8, quorum: bool, log: &mut Log) {
        let Some((name, known)) = self.quorums.get_mut(usize::from(service)) else {
            return;
        };
        if core::mem::replace(known, quorum) != quorum {
            let sorry = !quorum && self.filter.serves(service.into());
            let name = name.clone();
            log.journal.push(
                now,
                Event::Service {
                    name,
                    quorum,
                    sorry,
                },
            );
        }
    }

    pub(crate) fn apply_standings(&mut self, now: Instant) {
        for (service, server) in pairs() {
            if let Some(standing) = self.checker.standing(service, server) {
                let filter = &mut self.filter;
                filter.set_health(now, service, server, standing.healthy);
                filter.drain(service, server, standing.drain);
                filter.set_weight(service, server, standing.percent);
                let max = standing.max_flows.filter(|max| *max > 0);
                filter.set_max_flows(service, server, max);
            }
        }
    }

    /// Sends a packet of a check from the own address on the leg that the server is on.
    fn ask(
        &mut self,
        now: Instant,
        packet: &health::Packet,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let (hop, source) = self.way(packet.server).ok_or(Drop::NoRoute)?;
        let leg = self.legs.get(hop.leg).ok_or(Drop::NoRoute)?;
        let mut payload = [0; health::MAX_PAYLOAD];
        let len = self.checker.payload(packet.payload, &mut payload);
        let payload = payload.get(..len).unwrap_or_default();
        let mut buffer = [0; PACKET];
        let len = write(packet, source, payload, &mut buffer).ok_or(Drop::NoRoute)?;
        let packet = buffer.get(..len).unwrap_or_default();
        match self.neighbours.lookup(hop) {
            Some(mac) => {
                emit::packet(&leg, leg.mac, mac, packet, out);
                Ok(())
            }
            None => self
                .neighbours
                .hold(now, hop, packet, Owner::Ourselves, &self.legs, out),
        }
    }

    /// The next hop towards a server, and the own address that asks.
    pub(crate) fn way(&self, server: IpAddr) -> Option<(Hop, IpAddr)> {
        match server {
            IpAddr::V4(server) => {
                let hop = self.filter.routes().lookup(server.to_bits())?;
                let leg = self.legs.get(hop.leg)?;
                Some((hop, leg.address.into()))
            }
            IpAddr::V6(server) => {
                let routes = self.filter.routes().v6();
                let hop: Hop = routes.lookup(V6::from(server))?.into();
                let leg = self.legs.get(hop.leg)?;
                Some((hop, leg.own6(server)?.into()))
            }
        }
    }
}

/// What carries checks over HTTPS.
#[cfg(feature = "tls")]
pub type Tunnel = tls::Client;
/// This firmware has no TLS: checks over HTTPS fail, and say so.
#[cfg(not(feature = "tls"))]
pub type Tunnel = health::NoTunnel;

/// The checker of all real servers of a configuration. Checks over HTTPS fail until the board says who does TLS for them.
pub fn checker(config: &Config, seed: u64, now: Instant) -> Checker<Tunnel> {
    Checker::with_tunnel(config, seed, now, Tunnel::default())
}

/// What a packet tells the checker, if it is of a kind that checks wait for.
fn parse(source: IpAddr, protocol: u8, bytes: &[u8]) -> Result<Input<'_>, Drop> {
    match (protocol, source) {
        (ipv4::TCP, _) => {
            let header = tcp::Header::parse(bytes).ok_or(Drop::Transport)?;
            let destination_port = for_check(header.destination.get())?;
            Ok(Input::Segment(Segment {
                source,
                source_port: header.source.get(),
                destination_port,
                flags: header.flags().0,
                sequence: header.sequence.get(),
                acknowledgment: header.acknowledgment.get(),
                data: bytes.get(header.header_len()..).unwrap_or_default(),
            }))
        }
        (ipv4::UDP, _) => {
            let (header, data) = UdpHeader::ref_from_prefix(bytes).map_err(|_| Drop::Transport)?;
            let destination_port = for_check(header.destination.get())?;
            let len = usize::from(header.length.get());
            let len = len.checked_sub(UDP_HEADER_LEN).ok_or(Drop::Transport)?;
            Ok(Input::Datagram(Datagram {
                source,
                source_port: header.source.get(),
                destination_port,
                data: data.get(..len).ok_or(Drop::Transport)?,
            }))
        }
        (ipv4::ICMP, IpAddr::V4(_)) | (ipv6::ICMP, IpAddr::V6(_)) => {
            let (&[kind, code, _, _, a, b, c, d], data) =
                bytes.split_first_chunk().ok_or(Drop::Transport)?;
            let wanted = match source {
                IpAddr::V4(_) => ECHO_REPLY,
                IpAddr::V6(_) => ECHO_REPLY6,
            };
            if (kind, code) != (wanted, 0) {
                return Err(Drop::NotForUs);
            }
            Ok(Input::EchoReply(EchoReply {
                source,
                id: u16::from_be_bytes([a, b]),
                sequence: u16::from_be_bytes([c, d]),
                data,
            }))
        }
        _ => Err(Drop::NotForUs),
    }
}

fn for_check(port: u16) -> Result<u16, Drop> {
    match health::SOURCE_PORTS.contains(&port) {
        true => Ok(port),
        false => Err(Drop::NotForUs),
    }
}

/// Whether the checksum is right. One of zero says "none" in UDP over IPv4 only (RFC 8200 §8.1).
fn verified(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> bool {
    let none = protocol == ipv4::UDP && source.is_ipv4() && bytes.get(6..8) == Some(&[0, 0]);
    none || sum(source, destination, protocol, bytes.len())
        .is_some_and(|sum| sum.bytes(bytes).finish() == 0)
}

/// The sum over what a checksum covers besides the bytes of the transport.
fn sum(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Option<Sum> {
    let len = u16::try_from(len).ok()?;
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) if protocol == ipv4::ICMP => Some(Sum::default()),
        (IpAddr::V4(a), IpAddr::V4(b)) => Some(checksum::pseudo_header(
            a.octets(),
            b.octets(),
            protocol,
            len,
        )),
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            Some(ipv6::pseudo_header(a.octets(), b.octets(), protocol, len))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// Writes a complete IP packet; its length.
fn write(
    packet: &health::Packet,
    source: IpAddr,
    payload: &[u8],
    buffer: &mut [u8],
) -> Option<usize> {
    let (protocol, header_len) = match packet.header {
        Header::Tcp { .. } => (ipv4::TCP, tcp::HEADER_LEN),
        Header::Udp { .. } => (ipv4::UDP, UDP_HEADER_LEN),
        Header::Echo { .. } if source.is_ipv4() => (ipv4::ICMP, ECHO_HEADER_LEN),
        Header::Echo { .. } => (ipv6::ICMP, ECHO_HEADER_LEN),
    };
    let len = header_len + payload.len();
    let start = match (source, packet.server) {
        (IpAddr::V4(source), IpAddr::V4(server)) => {
            let ip = ipv4::Header::new(
                source.octets(),
                server.octets(),
                protocol,
                tcp::DEFAULT_TTL,
                len,
            );
            ip.write_to_prefix(buffer).ok()?;
            ipv4::HEADER_LEN
        }
        (IpAddr::V6(source), IpAddr::V6(server)) => {
            let ip = ipv6::Header::new(
                source.octets(),
                server.octets(),
                protocol,
                tcp::DEFAULT_TTL,
                len,
            );
            ip.write_to_prefix(buffer).ok()?;
            ipv6::HEADER_LEN
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let transport = buffer.get_mut(start..start + len)?;
    let (header, data) = transport.split_at_mut(header_len);
    data.copy_from_slice(payload);
    let place = match packet.header {
        Header::Tcp {
            source,
            destination,
            sequence,
            acknowledgment,
            flags,
        } => {
            let ports = (source, destination);
            let flags = Flags(flags);
            let tcp = tcp::Header::new(ports, sequence, acknowledgment, flags, health::WINDOW);
            header.copy_from_slice(tcp.as_bytes());
            core::mem::offset_of!(tcp::Header, checksum)
        }
        Header::Udp {
            source,
            destination,
        } => {
            let udp = UdpHeader {
                source: source.into(),
                destination: destination.into(),
                length: u16::try_from(len).ok()?.into(),
                checksum: 0.into(),
            };
            header.copy_from_slice(udp.as_bytes());
            core::mem::offset_of!(UdpHeader, checksum)
        }
        Header::Echo { id, sequence } => {
            let kind = if source.is_ipv4() { ECHO } else { ECHO6 };
            let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
            header.copy_from_slice(&[kind, 0, 0, 0, a, b, c, d]);
            2
        }
    };
    let sum = sum(source, packet.server, protocol, len)?;
    let checksum = match sum.bytes(transport).finish() {
        // Zero would say that there is none (RFC 768).
        0 if protocol == ipv4::UDP => u16::MAX,
        checksum => checksum,
    };
    let place = transport.get_mut(place..place + 2)?;
    place.copy_from_slice(&checksum.to_be_bytes());
    Some(start + len)
}

/// Every service and server index that a configuration can have.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..MAX_SERVICES).flat_map(|service| (0..MAX_SERVERS).map(move |server| (service, server)))
}

const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO6: u8 = 128;
const ECHO_REPLY6: u8 = 129;
const ECHO_HEADER_LEN: usize = 8;

/// Longest packet of a check: IPv6, TCP, payload.
const PACKET: usize = ipv6::HEADER_LEN + tcp::HEADER_LEN + health::MAX_PAYLOAD;
