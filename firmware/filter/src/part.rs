//! Fragments on their way: the first is judged like a whole packet, the others follow it.

use core::net::IpAddr;

use crate::address::Address;
use crate::fragment::Piece;
use crate::packet::{Fragment, Packet};
use crate::route::Hop;
use crate::{Drop, Shared, Verdict, hash};

/// What becomes of the fragments of a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    source: IpAddr,
    destination: IpAddr,
    hop: Hop,
}

impl Shared<'_> {
    /// The first fragment of a datagram has got a verdict, and is already what goes out.
    pub(crate) fn leads<A: Address>(&mut self, piece: &Piece, bytes: &[u8], verdict: &Verdict) {
        if let Verdict::Forward { hop, len } = verdict
            && let Some(Ok(packet)) = bytes.get(..*len).map(A::parse)
        {
            let course = Course {
                source: packet.tuple.source.into(),
                destination: packet.tuple.destination.into(),
                hop: *hop,
            };
            self.fragments.first(self.now, piece, course);
        }
    }

    /// A fragment that is not the first of its datagram.
    pub(crate) fn follows<A: Address>(
        &mut self,
        leg: u8,
        packet: &Packet<A>,
        fragment: &Fragment,
        bytes: &mut [u8],
    ) -> Result<Verdict, Drop> {
        let tuple = &packet.tuple;
        A::family(&self.routes).check(leg, tuple.source, tuple.destination)?;
        let piece = piece(leg, packet, fragment);
        let course = self.fragments.later(self.now, &piece)?;
        // Errors are about first fragments only (RFC 1122 §3.2.2, RFC 4443 §2.4 e).
        if packet.ttl <= 1 {
            return Err(Drop::Ttl);
        }
        if packet.whole && packet.len > self.routes.mtu(course.hop.leg) {
            return Err(Drop::TooBig);
        }
        let (Some(source), Some(destination)) =
            (A::from_ip(course.source), A::from_ip(course.destination))
        else {
            return Err(Drop::FragmentOrder);
        };
        A::age(bytes);
        A::readdress(bytes, source, destination);
        Ok(Verdict::Forward {
            hop: course.hop,
            len: packet.len.into(),
        })
    }
}

/// A fragment as [`crate::fragment`] knows it.
pub(crate) fn piece<A: Address>(leg: u8, packet: &Packet<A>, fragment: &Fragment) -> Piece {
    Piece {
        source: hash::number(packet.tuple.source.into()),
        destination: hash::number(packet.tuple.destination.into()),
        id: fragment.id,
        protocol: packet.protocol,
        leg,
        offset: fragment.offset,
        len: packet.len.saturating_sub(fragment.data),
        more: fragment.more,
    }
}
