//! Neighbour discovery as the appliance hears it: the counterpart of ARP for IPv6, and what is never heard.

use core::net::{IpAddr, Ipv6Addr};

use filter::{Drop, Hop};
use time::Instant;
use wire::Frame;
use wire::ethernet::{Mac, Received};
use wire::ipv6::{self, Header};
use wire::nd::{self, Advertisement, Message};
use wire::router_discovery;

use crate::appliance::Appliance;
use crate::leg::Station;
use crate::neighbour::Said;
use crate::{Log, Transmit, emit};

/// Whether an IPv6 packet is to be judged here: one of the five types of RFC 4861, right behind the header.
/// Behind extension headers they are nobody's business (RFC 6980, RFC 7113): the filter drops them.
#[inline]
pub fn is_discovery(packet: &[u8]) -> bool {
    packet.get(NEXT_HEADER) == Some(&ipv6::ICMP)
        && packet
            .get(ipv6::HEADER_LEN)
            .is_some_and(|kind| (nd::ROUTER_SOLICITATION..=nd::REDIRECT).contains(kind))
}

const NEXT_HEADER: usize = 6;
const ALL_ROUTERS_MAC: Mac = nd::multicast_mac(nd::ALL_ROUTERS);

impl Appliance<'_> {
    pub(crate) fn discovery(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        frame: &Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
        match on.station(received.destination) {
            Station::Own => {}
            Station::Virtual if self.answers => {}
            Station::Virtual => return Err(Drop::NotActive),
            Station::Other if on.listens(received.destination, self.answers) => {}
            Station::Other
                if received.destination == ALL_ROUTERS_MAC && self.router_adverts.enabled() => {}
            Station::Other => return Err(Drop::OtherStation),
        }
        if on.six.is_none() {
            return Err(Drop::NoIpv6);
        }
        let packet = frame.bytes().get(received.payload..).unwrap_or_default();
        let header = Header::parse(packet).map_err(|_| Drop::Ipv6Header)?;
        let message = packet
            .get(ipv6::HEADER_LEN..header.total_len())
            .unwrap_or_default();
        match message.first() {
            Some(&nd::ROUTER_ADVERTISEMENT) => return Err(Drop::RouterAdvert),
            Some(&nd::REDIRECT) => return Err(Drop::Redirect),
            Some(&nd::ROUTER_SOLICITATION) => {
                return self.router_wanted(now, leg, header, message);
            }
            Some(_) | None => {}
        }
        let message = Message::parse(header, message).map_err(|_| Drop::Nd)?;
        let source = Ipv6Addr::from(header.source);
        let destination = Ipv6Addr::from(header.destination);
        if !destination.is_multicast() && on.mac_of(destination.into()).is_none() {
            return Err(Drop::Nd);
        }
        if on.mac_of(source.into()).is_some() {
            return self.claimed(now, leg, source.into(), received.source, log, out);
        }
        match message {
            Message::Solicitation {
                target,
                source: mac,
            } => {
                if !source.is_unspecified() && !on.is_neighbour6(source) {
                    return Err(Drop::Nd);
                }
                let target = Ipv6Addr::from(target);
                self.solicited(now, leg, (source, mac, received.source), target, log, out);
                Ok(())
            }
            Message::Advertisement(advert) => {
                self.advertised(now, leg, source, &advert, received, log, out)
            }
        }
    }

    /// A host looks for its router.
    fn router_wanted(
        &mut self,
        now: Instant,
        leg: u8,
        header: &Header,
        message: &[u8],
    ) -> Result<(), Drop> {
        // Hosts of most racks are told their router; then nothing is advertised.
        if !self.router_adverts.enabled() {
            return Err(Drop::NotForUs);
        }
        if !self.answers {
            return Err(Drop::NotActive);
        }
        router_discovery::solicitation(header, message).map_err(|_| Drop::Nd)?;
        self.router_adverts.solicited(now, leg);
        self.reschedule();
        Ok(())
    }

    /// Somebody asks for an address. `from` has its address, the MAC address it says it has, and the one
    /// that the question came from.
    fn solicited(
        &mut self,
        now: Instant,
        leg: u8,
        from: (Ipv6Addr, Option<[u8; 6]>, [u8; 6]),
        target: Ipv6Addr,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let Some(on) = self.legs.get(leg) else { return };
        let (source, mac, station) = from;
        let ours = on.answers_for(target.into(), self.answers);
        if let Some(mac) = mac {
            let hop = Hop {
                leg,
                address: source.into(),
            };
            let said = match ours {
                Some(_) => Said::Asking(mac),
                None => Said::Telling(mac),
            };
            self.neighbours.learn(now, hop, said, &self.legs, log, out);
        }
        if let Some(mine) = ours {
            // Who asks without an address looks for a duplicate of its own; everybody hears that it is one.
            let asker = (!source.is_unspecified()).then_some((mac.unwrap_or(station), source));
            emit::neighbour_advert(&on, (mine, target), asker, out);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    fn advertised(
        &mut self,
        now: Instant,
        leg: u8,
        source: Ipv6Addr,
        advert: &Advertisement,
        received: &Received,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
        let target = Ipv6Addr::from(advert.target);
        if on.mac_of(target.into()).is_some() {
            let mac = advert.mac.unwrap_or(received.source);
            return self.claimed(now, leg, target.into(), mac, log, out);
        }
        if !on.is_neighbour6(source) || !on.is_neighbour6(target) {
            return Err(Drop::Nd);
        }
        let hop = Hop {
            leg,
            address: IpAddr::V6(target),
        };
        self.neighbours
            .advertised(now, hop, advert, &self.legs, log, out);
        Ok(())
    }
}
