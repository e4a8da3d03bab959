//! VRRP advertisements as the appliance hears and sends them: whom they are for, whether they are good, and what is learned from
//! them.

use core::net::IpAddr;

use filter::{Drop, Hop, V4, V6};
use heapless::Vec;
use mgmt::Statistics;
use policy::{Authentication, Config, Hmac, HmacMode, MAX_ROUTERS, VirtualRouter};
use time::{Duration, Instant};
use wire::vrrp::trailer::{self, Number, Signature};
use wire::vrrp::{
    Advert, Checksum, Ends, Expected, MULTICAST_MAC, MULTICAST6_MAC, NewAdvert, ParseError, TTL,
    Version, carp, peek,
};
use wire::{ipv4, ipv6};
use zerocopy::IntoBytes;

use crate::appliance::Appliance;
use crate::held::Owner;
use crate::leg::{Legs, On, Router};
use crate::{Event, Log, Transmit, emit};

/// What is remembered of advertisements.
#[derive(Debug)]
pub struct Adverts {
    /// Of each router, in the order of the configuration.
    routers: Vec<Record, MAX_ROUTERS>,
    /// Microseconds since 1970 when this node's clock was zero: at least this many. There is no clock to ask, but signed
    /// advertisements say what time it is.
    epoch: u64,
    /// Until when nothing is said of strangers, by its kind.
    quiet: [Instant; Heard::KINDS],
}

/// Of one router.
#[derive(Debug)]
struct Record {
    senders: Vec<Sender, MAX_SENDERS>,
    /// The number of the last signed one.
    number: Number,
    statistics: Statistics,
    /// How many were refused, for whatever reason.
    refused: u32,
    /// Whose advertisement was taken last.
    active: Option<IpAddr>,
    /// Until when nothing is said of its adverts, by its kind.
    quiet: [Instant; Heard::KINDS],
}

/// How many advertisements of one router there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdvertCounters {
    /// Sent, to a peer or to all.
    pub sent: u32,
    /// Received and taken.
    pub received: u32,
    /// Received and refused.
    pub refused: u32,
}

/// Somebody whose advertisements were taken.
#[derive(Clone, Copy, Debug)]
struct Sender {
    address: IpAddr,
    at: Instant,
    checksum: Checksum,
    /// Of the last one that was signed.
    number: Option<Number>,
    /// Whether it listed other addresses than ours.
    differs: bool,
}

/// What a person should know of an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was for one of our routers, but not as it should be.
    Refused(Drop),
    /// It was for a virtual router that we have not: of another pair, or with a wrong number.
    Unknown,
    /// It was one of CARP, whose virtual hosts have the MAC addresses of virtual routers.
    Carp,
    /// It lists other addresses than our router has.
    OtherAddresses,
    /// Its checksum is of the form that ours has not: its sender may not understand us.
    OtherChecksum,
}

impl Heard {
    const KINDS: usize = 5;

    const fn kind(self) -> usize {
        match self {
            Self::Refused(_) => 0,
            Self::Unknown => 1,
            Self::Carp => 2,
            Self::OtherAddresses => 3,
            Self::OtherChecksum => 4,
        }
    }
}

/// Counts what came of one advertisement: its priority, or why it was refused.
fn count(statistics: &mut Statistics, result: Result<u8, &Drop>) {
    let counter = match result {
        Ok(priority) => {
            if priority == 0 {
                let zeros = &mut statistics.priority_zero_pkts_rcvd;
                *zeros = zeros.wrapping_add(1);
            }
            &mut statistics.advertisement_rcvd
        }
        Err(Drop::VrrpInterval) => &mut statistics.interval_errors,
        Err(Drop::VrrpType) => &mut statistics.invalid_type_pkts_rcvd,
        Err(Drop::VrrpAddresses) => &mut statistics.address_list_errors,
        Err(Drop::VrrpLength) => &mut statistics.packet_length_errors,
        Err(Drop::VrrpChecksum) => &mut statistics.checksum_errors,
        Err(Drop::VrrpVersion) => &mut statistics.version_errors,
        Err(Drop::VrrpTtl) => &mut statistics.ip_ttl_errors,
        Err(Drop::VrrpAuthentication | Drop::VrrpReplay) => &mut statistics.authentication_errors,
        Err(_) => return,
    };
    *counter = counter.wrapping_add(1);
}

/// Senders per router whose state is remembered; more than one are rare, and only while they disagree.
const MAX_SENDERS: usize = policy::MAX_PEERS;
/// Shortest time between two events of a kind.
const QUIET: Duration = Duration::from_secs(10);
/// Longest packet with an advertisement: twenty IPv6 addresses, and a signature.
const MAX_PACKET: usize = ipv6::HEADER_LEN + 8 + 16 * policy::MAX_VIRTUAL_ADDRESSES + trailer::LEN;

impl Adverts {
    pub fn new(config: &Config) -> Self {
        let record = |_: &VirtualRouter| Record {
            senders: Vec::new(),
            number: Number(0),
            statistics: Statistics::default(),
            refused: 0,
            active: None,
            quiet: [Instant::ZERO; Heard::KINDS],
        };
        Self {
            routers: config.routers.iter().map(record).collect(),
            epoch: config.made.saturating_mul(1_000_000),
            quiet: [Instant::ZERO; Heard::KINDS],
        }
    }

    /// Goes on with another configuration; `known` says which router of the old one a new one is.
    pub fn reload(&mut self, now: Instant, config: &Config, known: impl Fn(u8) -> Option<u8>) {
        let new = Self::new(config);
        let mut old = core::mem::replace(&mut self.routers, new.routers);
        for (index, record) in (0..).zip(&mut self.routers) {
            if let Some(old) =
                known(index).and_then(|old_index| old.get_mut(usize::from(old_index)))
            {
                core::mem::swap(record, old);
            }
        }
        self.epoch = self.epoch.max(new.epoch.saturating_sub(now.as_micros()));
    }

    /// What was counted of a router, and whose advertisement was taken last.
    pub fn statistics(&self, index: u8) -> (Statistics, Option<IpAddr>) {
        let record = self.routers.get(usize::from(index));
        record.map_or_else(Default::default, |record| {
            (record.statistics, record.active)
        })
    }

    /// All routers became Active.
    pub fn claim(&mut self) {
        for record in &mut self.routers {
            let transitions = &mut record.statistics.active_transitions;
            *transitions = transitions.wrapping_add(1);
        }
    }

    pub fn counters(&self) -> impl Iterator<Item = AdvertCounters> {
        self.routers.iter().map(|record| AdvertCounters {
            sent: record.statistics.advertisement_sent,
            received: record.statistics.advertisement_rcvd,
            refused: record.refused,
        })
    }

    /// Judges a packet between `ends`. `message` is all that follows its IP header.
    fn judge(
        &mut self,
        now: Instant,
        legs: &Legs,
        leg: u8,
        (ends, ttl): (&Ends, u8),
        message: &[u8],
        log: &mut Log,
    ) -> Result<vrrp::Advert, Drop> {
        let on = legs.get(leg).ok_or(Drop::UnknownVlan)?;
        let source = ends.source();
        if let Some(carp) = carp::parse(ends, message) {
            note(
                &mut self.quiet,
                now,
                &on,
                (carp.vhid, source, Heard::Carp),
                log,
            );
            return Err(Drop::Carp);
        }
        let Some((version, vrid)) = peek(message) else {
            let result = Advert::parse(ends, ttl, message, &Expected::V3);
            return Err(result.map_or_else(reason, |_| Drop::VrrpLength));
        };
        let Some((index, router)) = find(legs, leg, vrid, source.is_ipv6()) else {
            self.stranger(now, &on, (ends, ttl), (version, vrid), message, log)?;
            return Err(Drop::VrrpRouter);
        };
        let result = self.examine(now, index, &router.config, (ends, ttl), message);
        let record = self
            .routers
            .get_mut(usize::from(index))
            .ok_or(Drop::VrrpRouter)?;
        count(
            &mut record.statistics,
            result.as_ref().map(|taken| taken.advert.priority),
        );
        let heard = match &result {
            Ok(taken) => {
                record.active = Some(source);
                taken.heard
            }
            Err(reason) => {
                record.refused = record.refused.wrapping_add(1);
                Some(Heard::Refused(*reason))
            }
        };
        if let Some(heard) = heard {
            note(&mut record.quiet, now, &on, (vrid, source, heard), log);
        }
        Ok(result?.advert)
    }

    /// Judges one for a router that we have.
    fn examine(
        &mut self,
        now: Instant,
        index: u8,
        config: &VirtualRouter,
        (ends, ttl): (&Ends, u8),
        message: &[u8],
    ) -> Result<Taken, Drop> {
        let advert = Advert::parse(ends, ttl, message, &expected(config)).map_err(reason)?;
        let source = ends.source();
        let meant = match config.peers.is_empty() {
            true => ends.is_multicast(),
            false => !ends.is_multicast() && config.peers.contains(&source),
        };
        if !meant {
            return Err(Drop::VrrpPeer);
        }
        let own = 10 * u64::from(config.advertisement_interval);
        if advert.version == Version::V2 && advert.interval != Duration::from_millis(own) {
            return Err(Drop::VrrpInterval);
        }
        let number = match &config.authentication {
            Authentication::Hmac(hmac) => signed(&advert, ends, hmac)?,
            Authentication::None | Authentication::Password(_) => None,
        };
        let differs = !advert.addresses.are(config.listed());
        if differs && config.strict_addresses {
            return Err(Drop::VrrpAddresses);
        }
        let before = self.take(now, index, source, &advert, number, differs)?;
        if let Some(number) = number {
            self.epoch = self
                .epoch
                .max(number.micros().saturating_sub(now.as_micros()));
        }
        let other_checksum = advert.checksum != form(config);
        let heard = match before {
            // What was said of a sender is not said again until it changes.
            Some(before) if (before.differs, before.checksum) == (differs, advert.checksum) => None,
            _ if differs => Some(Heard::OtherAddresses),
            _ if other_checksum && !source.is_ipv6() && config.peers.is_empty() => {
                Some(Heard::OtherChecksum)
            }
            _ => None,
        };
        let advert = vrrp::Advert {
            router: index,
            source,
            priority: advert.priority,
            interval: advert.interval,
        };
        Ok(Taken { advert, heard })
    }

    /// Remembers a sender; what was known of it. One that repeats a number is not taken.
    fn take(
        &mut self,
        now: Instant,
        index: u8,
        source: IpAddr,
        advert: &Advert<'_>,
        number: Option<Number>,
        differs: bool,
    ) -> Result<Option<Sender>, Drop> {
        let record = self
            .routers
            .get_mut(usize::from(index))
            .ok_or(Drop::VrrpRouter)?;
        let senders = &mut record.senders;
        let known = senders.iter().position(|sender| sender.address == source);
        let before = known.and_then(|place| senders.get(place)).copied();
        let last = before.and_then(|sender| sender.number);
        if let (Some(number), Some(last)) = (number, last)
            && !number.follows(last)
        {
            return Err(Drop::VrrpReplay);
        }
        let sender = Sender {
            address: source,
            at: now,
            checksum: advert.checksum,
            number: number.or(last),
            differs,
        };
        let oldest =
            || (0..MAX_SENDERS).min_by_key(|place| senders.get(*place).map(|sender| sender.at));
        let place = match known {
            Some(place) => Some(place),
            None if senders.is_full() => oldest(),
            None => None,
        };
        match place.and_then(|place| senders.get_mut(place)) {
            Some(known) => *known = sender,
            // Full ones have an oldest sender.
            None => {
                let _ = senders.push(sender);
            }
        }
        Ok(before)
    }

    /// One for a virtual router that is none of ours. A broken one counts as that.
    fn stranger(
        &mut self,
        now: Instant,
        on: &On<'_>,
        (ends, ttl): (&Ends, u8),
        (version, vrid): (u8, u8),
        message: &[u8],
        log: &mut Log,
    ) -> Result<(), Drop> {
        let expected = Expected {
            version: if version == 2 {
                Version::V2
            } else {
                Version::V3
            },
            ..Expected::V3
        };
        match Advert::parse(ends, ttl, message, &expected) {
            Ok(_) | Err(ParseError::AuthenticationType(_)) => {
                note(
                    &mut self.quiet,
                    now,
                    on,
                    (vrid, ends.source(), Heard::Unknown),
                    log,
                );
                Ok(())
            }
            Err(error) => Err(reason(error)),
        }
    }

    /// The signature of the next advertisement of a router, if it has one.
    fn signature<'c>(
        &mut self,
        now: Instant,
        index: u8,
        config: &'c VirtualRouter,
    ) -> Option<Signature<'c>> {
        let Authentication::Hmac(Hmac { keys, mode }) = &config.authentication else {
            return None;
        };
        let (key, record) = (keys.first()?, self.routers.get_mut(usize::from(index))?);
        if *mode == HmacMode::ReceiveOnly {
            return None;
        }
        let time = Number::at(self.epoch.saturating_add(now.as_micros()));
        record.number = record.number.next(time);
        Some(Signature {
            key: key.id,
            secret: &key.secret,
            number: record.number,
        })
    }

    /// What a peer's own advertisements have, or else what is configured.
    fn checksum_for(&self, index: u8, config: &VirtualRouter, peer: IpAddr) -> Checksum {
        let record = self.routers.get(usize::from(index));
        let mut senders = record.iter().flat_map(|record| &record.senders);
        let known = senders.find(|sender| sender.address == peer);
        known.map_or(form(config), |sender| sender.checksum)
    }

    fn count_sent(&mut self, index: u8, priority: u8) {
        if let Some(record) = self.routers.get_mut(usize::from(index)) {
            let statistics = &mut record.statistics;
            statistics.advertisement_sent = statistics.advertisement_sent.wrapping_add(1);
            if priority == 0 {
                let zeros = &mut statistics.priority_zero_pkts_sent;
                *zeros = zeros.wrapping_add(1);
            }
        }
    }
}

/// A good advertisement, and what a person should know of it.
struct Taken {
    advert: vrrp::Advert,
    heard: Option<Heard>,
}

impl Appliance<'_> {
    /// A packet to the group of all virtual routers.
    pub(crate) fn multicast_advert(
        &mut self,
        now: Instant,
        leg: u8,
        packet: &[u8],
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let (ends, ttl, protocol, message) = read(packet)?;
        if protocol != ipv4::VRRP || !ends.is_multicast() {
            return Err(Drop::OtherStation);
        }
        let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
        let neighbour = match ends.source() {
            IpAddr::V4(source) => {
                let routes = self.filter.routes();
                !routes.is_ours(source.to_bits()) && routes.is_neighbour(leg, source.to_bits())
            }
            IpAddr::V6(_) if on.six.is_none() => return Err(Drop::NoIpv6),
            IpAddr::V6(source) => source.is_unicast_link_local() && on.is_neighbour6(source),
        };
        if !neighbour {
            return Err(Drop::Martian);
        }
        self.heard(now, leg, (&ends, ttl), message, log, out)
    }

    /// A packet to one of our own addresses, from a source that may be where it came from.
    pub(crate) fn unicast_advert(
        &mut self,
        now: Instant,
        leg: u8,
        packet: &[u8],
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let (ends, ttl, _, message) = read(packet)?;
        self.heard(now, leg, (&ends, ttl), message, log, out)
    }

    fn heard(
        &mut self,
        now: Instant,
        leg: u8,
        from: (&Ends, u8),
        message: &[u8],
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let advert = self
            .adverts
            .judge(now, &self.legs, leg, from, message, log)?;
        self.vrrp_step(now, vrrp::Input::Advert(advert), log, out);
        Ok(())
    }

    /// Advertises a router with this priority: to all on its leg, or to each of its peers.
    pub(crate) fn send_advert(
        &mut self,
        now: Instant,
        index: u8,
        priority: u8,
        out: &mut impl Transmit,
    ) {
        let Some((on, router)) = self.legs.router(index) else {
            return;
        };
        let config = &router.config;
        let signature = self.adverts.signature(now, index, config);
        // A Backup has no right to the virtual MAC address: switches would send there.
        let mac = if self.answers { router.mac } else { on.mac };
        if config.peers.is_empty() {
            let Some(source) = own(&on, config.addresses.first().copied()) else {
                return;
            };
            let ends = Ends::multicast(source);
            let mut packet = [0; MAX_PACKET];
            if let Some(packet) = write(
                config,
                priority,
                signature,
                form(config),
                &ends,
                &mut packet,
            ) {
                let to = if config.is_v6() {
                    MULTICAST6_MAC
                } else {
                    MULTICAST_MAC
                };
                emit::advert(&on, mac, to, packet, out);
                self.adverts.count_sent(index, priority);
            }
            return;
        }
        for peer in &config.peers {
            let checksum = self.adverts.checksum_for(index, config, *peer);
            let ends = own(&on, Some(*peer)).and_then(|source| Ends::unicast(source, *peer));
            let Some((ends, hop)) = ends.zip(self.way_to(router, *peer)) else {
                continue;
            };
            let mut packet = [0; MAX_PACKET];
            let Some(packet) = write(config, priority, signature, checksum, &ends, &mut packet)
            else {
                continue;
            };
            match (self.neighbours.lookup(hop), self.legs.get(hop.leg)) {
                (Some(to), Some(by)) => {
                    let from = if hop.leg == router.leg { mac } else { by.mac };
                    emit::advert(&by, from, to, packet, out);
                }
                // It leaves when the peer answers; one that waits already is as good.
                _ => {
                    let owner = Owner::Ourselves;
                    let _ = (self.neighbours).hold(now, hop, packet, owner, &self.legs, out);
                }
            }
            self.adverts.count_sent(index, priority);
        }
    }

    /// The next hop towards a peer: on the router's own leg if it can be there.
    fn way_to(&self, router: &Router, peer: IpAddr) -> Option<Hop> {
        let routes = self.filter.routes();
        let direct = Hop {
            leg: router.leg,
            address: peer,
        };
        match peer {
            IpAddr::V4(peer) if routes.is_neighbour(router.leg, peer.to_bits()) => Some(direct),
            IpAddr::V4(peer) => routes.v4().lookup(V4::from(peer)).map(Hop::from),
            IpAddr::V6(peer) if peer.is_unicast_link_local() => Some(direct),
            IpAddr::V6(peer) => routes.v6().lookup(V6::from(peer)).map(Hop::from),
        }
    }
}

/// Tells a person, unless that was done a moment ago.
fn note(
    quiet: &mut [Instant; Heard::KINDS],
    now: Instant,
    on: &On<'_>,
    (vrid, source, heard): (u8, IpAddr, Heard),
    log: &mut Log,
) {
    let Some(until) = quiet.get_mut(heard.kind()).filter(|until| now >= **until) else {
        return;
    };
    *until = now + QUIET;
    log.journal.push(
        now,
        Event::Advert {
            leg: on.name.clone(),
            vrid,
            source,
            heard,
        },
    );
}

/// The router of a leg that an advertisement is for, and its place in the configuration.
fn find(legs: &Legs, leg: u8, vrid: u8, v6: bool) -> Option<(u8, &Router)> {
    let mut routers = (0..).zip(legs.routers().map(|(_, router)| router));
    routers.find(|(_, router)| {
        let config = &router.config;
        (router.leg, config.vrid, config.is_v6()) == (leg, vrid, v6)
    })
}

/// The parts of a packet that matter: ends, TTL, protocol and what follows the header.
fn read(packet: &[u8]) -> Result<(Ends, u8, u8, &[u8]), Drop> {
    if packet.first().is_some_and(|first| first >> 4 == 6) {
        let header = ipv6::Header::parse(packet).map_err(|_| Drop::Ipv6Header)?;
        let ends = Ends::V6 {
            source: header.source,
            destination: header.destination,
        };
        let message = packet.get(ipv6::HEADER_LEN..header.total_len());
        return Ok((
            ends,
            header.hop_limit,
            header.next_header,
            message.unwrap_or_default(),
        ));
    }
    let (header, len) = ipv4::Header::parse(packet).map_err(|_| Drop::Ipv4Header)?;
    if header.is_fragment() {
        return Err(Drop::Fragment);
    }
    let ends = Ends::V4 {
        source: header.source,
        destination: header.destination,
    };
    let message = packet.get(len..header.total_len.get().into());
    Ok((
        ends,
        header.ttl,
        header.protocol,
        message.unwrap_or_default(),
    ))
}

/// The number of a signed advertisement, if it is signed or has to be.
fn signed(advert: &Advert<'_>, ends: &Ends, hmac: &Hmac) -> Result<Option<Number>, Drop> {
    let Some(trailer) = advert.trailer else {
        return match hmac.mode {
            HmacMode::Enforce => Err(Drop::VrrpAuthentication),
            HmacMode::ReceiveOnly | HmacMode::Permissive => Ok(None),
        };
    };
    let secret = |id| {
        let mut keys = hmac.keys.iter();
        keys.find(|key| key.id == id)
            .map(|key| key.secret.as_slice())
    };
    let number = trailer.authenticate(ends, secret);
    number.map(Some).map_err(|_| Drop::VrrpAuthentication)
}

fn write<'b>(
    config: &VirtualRouter,
    priority: u8,
    signature: Option<Signature<'_>>,
    checksum: Checksum,
    ends: &Ends,
    buffer: &'b mut [u8; MAX_PACKET],
) -> Option<&'b [u8]> {
    let expected = expected(config);
    let advert = NewAdvert {
        version: expected.version,
        password: expected.password,
        checksum,
        signature,
        ..NewAdvert::v3(
            config.vrid,
            priority,
            config.advertisement_interval,
            config.listed(),
        )
    };
    let header = match ends {
        Ends::V4 { .. } => ipv4::HEADER_LEN,
        Ends::V6 { .. } => ipv6::HEADER_LEN,
    };
    let (front, place) = buffer.split_at_mut_checked(header)?;
    let len = advert.write(ends, place)?.len();
    match *ends {
        Ends::V4 {
            source,
            destination,
        } => {
            let header = ipv4::Header::new(source, destination, ipv4::VRRP, TTL, len);
            front.copy_from_slice(header.with_tos(NETWORK_CONTROL).as_bytes());
        }
        Ends::V6 {
            source,
            destination,
        } => {
            let header = ipv6::Header::new(source, destination, ipv4::VRRP, TTL, len);
            front.copy_from_slice(header.with_traffic_class(NETWORK_CONTROL).as_bytes());
        }
    }
    buffer.get(..header + len)
}

/// The own address that speaks about a router of these addresses, or to this peer.
fn own(on: &On<'_>, to: Option<IpAddr>) -> Option<IpAddr> {
    match to? {
        IpAddr::V4(_) => Some(on.address.into()),
        IpAddr::V6(to) => Some(on.own6(to)?.into()),
    }
}

fn expected(config: &VirtualRouter) -> Expected {
    Expected {
        version: match config.version {
            policy::Version::V2 => Version::V2,
            policy::Version::V3 => Version::V3,
        },
        ttl: config.ttl,
        password: match &config.authentication {
            Authentication::Password(password) => Some(*password),
            Authentication::None | Authentication::Hmac(_) => None,
        },
    }
}

/// The form of checksum that our own advertisements have.
fn form(config: &VirtualRouter) -> Checksum {
    match (config.is_v6(), config.version, config.checksum) {
        (true, ..) | (false, policy::Version::V3, policy::Checksum::PseudoHeader) => {
            Checksum::PseudoHeader
        }
        (false, policy::Version::V2, _)
        | (false, policy::Version::V3, policy::Checksum::Message) => Checksum::Message,
    }
}

/// Under which name a refusal is counted.
fn reason(error: ParseError) -> Drop {
    match error {
        ParseError::Ttl(_) => Drop::VrrpTtl,
        ParseError::Version(_) => Drop::VrrpVersion,
        ParseError::Type(_) => Drop::VrrpType,
        ParseError::Truncated { .. } => Drop::VrrpLength,
        ParseError::Checksum => Drop::VrrpChecksum,
        ParseError::AuthenticationType(_) | ParseError::Password => Drop::VrrpAuthentication,
        ParseError::NoAddress => Drop::VrrpAddresses,
        ParseError::ZeroInterval => Drop::VrrpInterval,
    }
}

/// Internetwork control (RFC 791 §3.1), so that it is not queued behind the traffic that it is about.
const NETWORK_CONTROL: u8 = 0xc0;
