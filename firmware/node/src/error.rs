//! ICMP errors that the appliance sends, and how many.

use core::net::Ipv6Addr;

use policy::Protection;
use time::Instant;
use wire::ethernet::{self, Mac};
use wire::icmp::{self, Problem};

use crate::appliance::Appliance;
use crate::bucket::Bucket;
use crate::leg::Leg;
use crate::{Log, Transmit};

/// Sends errors within the configured rate.
#[derive(Debug)]
pub struct Errors {
    bucket: Bucket,
}

/// Most errors that leave at once after a pause (RFC 4443 §2.4 f proposes 10).
const BURST: u16 = 10;

impl Errors {
    pub fn new(now: Instant, protection: &Protection) -> Self {
        Self {
            bucket: Bucket::new(now, protection.icmp_errors_per_second, BURST),
        }
    }

    /// Tells the sender of `packet`, at the station it came from, what is wrong with it: unless no error may be
    /// sent about it, or there were too many. The source is the own address of the leg, which tells
    /// the two appliances apart and stays true after a take-over.
    #[inline(never)]
    pub fn send(
        &mut self,
        now: Instant,
        to: (&Leg, Mac),
        packet: &[u8],
        problem: Problem,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let (leg, station) = to;
        let mut buffer = [0; HEADER + icmp::MAX_V6];
        let start = HEADER - ethernet::header_len(leg.vlan);
        let (header, body) = buffer.split_at_mut(HEADER);
        let written = match version(packet) {
            Some(4) => {
                let len = icmp::write_v4(body, leg.address.octets(), packet, problem);
                len.map(|len| (ethernet::IPV4, len))
            }
            Some(6) => {
                let sender = packet.get(8..24).and_then(<[u8]>::first_chunk::<16>);
                let sender = sender.map(|octets| Ipv6Addr::from(*octets));
                let source = sender.and_then(|sender| leg.own6(sender));
                let len = source
                    .and_then(|source| icmp::write_v6(body, source.octets(), packet, problem));
                len.map(|len| (ethernet::IPV6, len))
            }
            Some(_) | None => None,
        };
        // A token is taken only for an error that would leave.
        let Some((ethertype, len)) = written else {
            return;
        };
        if !self.bucket.take(now) {
            log.counters.errors_withheld += 1;
            return;
        }
        let front = header.get_mut(start..).unwrap_or_default();
        if ethernet::write(front, station, leg.mac, leg.vlan, ethertype).is_none() {
            return;
        }
        let end = (HEADER + len).max(start + ethernet::MIN_LEN);
        out.transmit(leg.port, buffer.get(start..end).unwrap_or_default());
        log.counters.errors_sent += 1;
    }
}

impl Appliance<'_> {
    /// Answers a packet that goes no further with an error. `from` is the leg that it came in by, and the station.
    pub(crate) fn error(
        &mut self,
        now: Instant,
        from: (u8, Mac),
        packet: &[u8],
        problem: Problem,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let (leg, station) = from;
        if let Some(on) = self.legs.get(leg) {
            self.errors
                .send(now, (&on, station), packet, problem, log, out);
        }
    }
}

/// The IP version that a packet says it has.
pub fn version(packet: &[u8]) -> Option<u8> {
    packet.first().map(|byte| byte >> 4)
}

const HEADER: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN;
