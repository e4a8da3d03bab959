//! Packets of known flows.

use core::net::{IpAddr, Ipv4Addr};

use crate::flow::Flow;
use crate::rewrite::{Quoted, Rewrite, Translation};
use crate::track::{Direction, State, Ticks};
use crate::{Drop, Filter, Forward, Hop, Kind, Packet, Tuple, Verdict};

impl<const FLOWS: usize> Filter<'_, FLOWS> {
    /// A packet of a flow; `None` if it has to be judged as a first one.
    #[inline]
    pub(crate) fn known(
        &mut self,
        now: Ticks,
        leg: u8,
        packet: &Packet,
        id: u32,
        direction: Direction,
    ) -> Option<Verdict> {
        let flow = self.flows.get_mut(id)?;
        let reopens =
            flow.state == State::Closed && matches!(packet.kind, Kind::Tcp(f) if f.opens());
        if now.until(flow.expiry) <= 0 || reopens {
            self.flows.remove(id);
            return None;
        }
        let from = match direction {
            Direction::Original => flow.client_leg,
            Direction::Reply => flow.server_leg,
        };
        if leg != from {
            return Some(Verdict::Drop(Drop::ReversePath));
        }
        let state = flow.state.next(direction, packet.kind);
        // A closed flow is not kept alive by what still trickles in.
        if state != State::Closed || flow.state != State::Closed {
            flow.expiry = now.after(state.timeout());
        }
        flow.state = state;
        Some(Verdict::Forward(flow.forward(direction)))
    }

    /// An ICMP error about a packet of a known flow travels as that flow's packets in its direction do.
    pub(crate) fn related(&mut self, leg: u8, tuple: &Tuple, about: &Tuple) -> Option<Verdict> {
        let (id, direction) = self.flows.find(&about.reversed())?;
        let flow = *self.flows.get_mut(id)?;
        let (from, sender, receiver) = match direction {
            Direction::Original => (flow.client_leg, flow.client, flow.address),
            Direction::Reply => (flow.server_leg, flow.server, flow.client),
        };
        if leg != from || tuple.destination != receiver {
            return None;
        }
        let mut forward = flow.forward(direction);
        if flow.service != Flow::NO_SERVICE {
            forward.rewrite = match direction {
                Direction::Original => Rewrite::Error {
                    source: None,
                    destination: Some(flow.server.to_be_bytes()),
                    quoted: Quoted::Source(flow.server.to_be_bytes(), flow.server_port),
                },
                Direction::Reply => Rewrite::Error {
                    source: (tuple.source == sender).then(|| flow.address.to_be_bytes()),
                    destination: None,
                    quoted: Quoted::Destination(flow.address.to_be_bytes(), flow.port),
                },
            };
        }
        Some(Verdict::Forward(forward))
    }
}

impl Flow {
    /// How packets of one direction go on.
    #[inline]
    pub(crate) fn forward(&self, direction: Direction) -> Forward {
        match direction {
            Direction::Original => Forward {
                hop: Hop {
                    leg: self.server_leg,
                    address: IpAddr::V4(Ipv4Addr::from_bits(self.server_hop)),
                },
                rewrite: if self.service == Self::NO_SERVICE {
                    Rewrite::Route
                } else {
                    Rewrite::Destination(Translation {
                        address: self.server.to_be_bytes(),
                        port: self.server_port,
                        ip: self.address_delta,
                        tcp: self.transport_delta,
                    })
                },
            },
            Direction::Reply => Forward {
                hop: Hop {
                    leg: self.client_leg,
                    address: IpAddr::V4(Ipv4Addr::from_bits(self.client_hop)),
                },
                rewrite: if self.service == Self::NO_SERVICE {
                    Rewrite::Route
                } else {
                    Rewrite::Source(Translation {
                        address: self.address.to_be_bytes(),
                        port: self.port,
                        ip: self.address_delta.reversed(),
                        tcp: self.transport_delta.reversed(),
                    })
                },
            },
        }
    }
}
