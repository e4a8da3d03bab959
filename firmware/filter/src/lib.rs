//! The packet filter as a pure function: a checked packet goes in, one verdict comes out. Rules judge
//! the first packet of a flow, the flow table all others; the node alone turns verdicts into frames.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::net::IpAddr;

use classifier::Policy;
use policy::{MAX_SERVERS, MAX_SERVICES};
use time::Instant;

pub mod balance;
pub mod cookie;
mod drop;
mod first;
mod flow;
pub mod fragment;
pub mod hash;
mod known;
pub mod limit;
pub mod maglev;
pub mod mss;
pub mod nat6;
mod packet;
pub mod persist;
pub mod ports;
mod rewrite;
mod route;
mod rule;
pub mod synproxy;
mod track;

pub use drop::Drop;
pub use packet::{ECHO_REPLY, ECHO_REQUEST, Kind, Packet, Tuple};
pub use rewrite::{Quoted, Rewrite, Translation};
pub use route::{Hop, Routes};

use flow::Flows;
use rule::Rules;
use track::Ticks;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Forward(Forward),
    /// It is addressed to the appliance itself.
    Local,
    /// A segment to a service that belongs to no connection, as after the loss of its server: it ends
    /// here, and its sender is told by RST (RFC 9293 §3.10.7.1).
    Reset,
    /// It ends here.
    Drop(Drop),
}

/// How a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Out of which leg, to which station.
    pub hop: Hop,
    /// What changes in it.
    pub rewrite: Rewrite,
}

/// How TCP segments of unknown flows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Only a SYN opens a flow.
    Refuse,
    /// The appliance became Active a moment ago: connections that the rules accept are taken up in the
    /// middle, whichever side speaks first.
    PickUp,
}

/// Rules, services and flows of one appliance, with room for `FLOWS` flows (a power of two).
#[derive(Debug)]
pub struct Filter<'t, const FLOWS: usize> {
    routes: Routes,
    rules: Rules<'t>,
    services: heapless::Vec<Service, MAX_SERVICES>,
    flows: Flows<FLOWS>,
}

#[derive(Clone, Debug)]
struct Service {
    address: u32,
    port: u16,
    servers: heapless::Vec<Server, MAX_SERVERS>,
}

#[derive(Clone, Copy, Debug)]
struct Server {
    address: u32,
    port: u16,
    healthy: bool,
}

impl<'t, const FLOWS: usize> Filter<'t, FLOWS> {
    /// The filter of a policy. No server is healthy yet. `seed` keys the flow hash.
    #[must_use]
    pub fn new(policy: &Policy<'t>, seed: u64) -> Self {
        let config = &policy.config;
        let services = config.services.iter().map(|service| {
            let servers = service.servers.iter().map(|server| Server {
                address: bits(server.address),
                port: server.port,
                healthy: false,
            });
            Service {
                address: bits(service.address),
                port: service.port,
                servers: servers.collect(),
            }
        });
        Self {
            routes: Routes::new(config),
            rules: Rules::new(policy.tables),
            services: services.collect(),
            flows: Flows::new(seed),
        }
    }

    /// Where addresses live.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// How many flows are known.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// How many first packets each rule decided, in the order of the configuration.
    #[must_use]
    pub fn rule_hits(&self) -> &[u32] {
        self.rules.hits()
    }

    /// Judges a packet that came in from `leg`, addressed to a virtual router.
    #[inline]
    pub fn judge(&mut self, now: Instant, leg: u8, packet: &Packet, unknown: Unknown) -> Verdict {
        let now = Ticks::at(now);
        let known = match self.flows.find(&packet.tuple) {
            Some((id, direction)) => self.known(now, leg, packet, id, direction),
            None => None,
        };
        let verdict = match known {
            Some(verdict) => verdict,
            None => self
                .first(now, leg, packet, unknown)
                .unwrap_or_else(Verdict::Drop),
        };
        match verdict {
            Verdict::Forward(_) if packet.ttl <= 1 => Verdict::Drop(Drop::Ttl),
            verdict => verdict,
        }
    }

    /// Tells whether a server gets new flows. The flows of one that no longer does are forgotten, so
    /// that their clients' next attempts reach another.
    pub fn set_health(&mut self, service: usize, server: usize, healthy: bool) {
        let Some(entry) = self
            .services
            .get_mut(service)
            .and_then(|s| s.servers.get_mut(server))
        else {
            return;
        };
        let was = core::mem::replace(&mut entry.healthy, healthy);
        if was && !healthy {
            self.flows.remove_where(|flow| {
                usize::from(flow.service) == service && usize::from(flow.choice) == server
            });
        }
    }

    /// Forgets flows whose time is over; a bounded amount of work.
    pub fn sweep(&mut self, now: Instant) {
        self.flows.sweep(Ticks::at(now), SWEEP_BUDGET);
    }

    /// Forgets all flows: for a router that is no longer Active, since its successor may change them.
    pub fn forget(&mut self) {
        self.flows.remove_where(|_| true);
    }
}

/// The address as a number; IPv6 is not balanced yet.
fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(_) => 0,
    }
}

/// Flows that one sweep looks at.
const SWEEP_BUDGET: u32 = 32;

#[cfg(test)]
mod tests;
