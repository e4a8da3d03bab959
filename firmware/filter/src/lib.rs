//! The packet filter as a pure function: a packet goes in, is judged and changed in place, and one verdict comes out.
//! Rules judge the first packet of a flow, the flow table all others; the node alone turns verdicts into frames.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::net::IpAddr;

use classifier::Policy;
use policy::{MAX_SERVERS, MAX_SERVICES};
use time::Instant;
use wire::icmp::Problem;

pub mod address;
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
mod table;
mod track;
mod window;

pub use address::{Address, V4, V6};
pub use drop::Drop;
pub use packet::{
    Class, ECHO_REPLY, ECHO_REPLY_V6, ECHO_REQUEST, ECHO_REQUEST_V6, Fragment, Kind, Local, Packet,
    Ports, Tuple, parse_v4, parse_v6,
};
pub use route::{Family, Hop, Routes};

use flow::{Flow, Owner};
use rule::Rules;
use table::{Flows, Ledger};
use track::Ticks;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, and is already what it will be on the next wire.
    Forward {
        /// Out of which leg, to which station.
        hop: Hop,
        /// Length of the IP packet, without the padding of the frame that it came in.
        len: usize,
    },
    /// It is addressed to the appliance itself, and unchanged.
    Local,
    /// It ends here, and its place is taken by an answer to its sender.
    Answer {
        /// Length of the answer.
        len: usize,
        /// Why the packet itself ends.
        reason: Drop,
    },
    /// It ends here unchanged, and its sender is told what is wrong with it.
    Error(Problem, Drop),
    /// It ends here.
    Drop(Drop),
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

/// Rules, services and flows of one appliance, with room for `FLOWS` flows of IPv4 and `FLOWS6` of IPv6 (multiples of four).
#[derive(Debug)]
pub struct Filter<'t, const FLOWS: usize, const FLOWS6: usize = 512> {
    v4: Flows<V4, FLOWS>,
    v6: Flows<V6, FLOWS6>,
    shared: Shared<'t>,
}

/// All but the flows: what flows of both versions are judged by.
#[derive(Debug)]
struct Shared<'t> {
    routes: Routes,
    rules: Rules<'t>,
    services: heapless::Vec<Service, MAX_SERVICES>,
    /// Whether segments outside their connection's windows are dropped.
    strict: bool,
    /// How many segments outside their connection's windows were let through.
    outside: u32,
}

#[derive(Clone, Debug)]
struct Service {
    address: IpAddr,
    port: u16,
    servers: heapless::Vec<Server, MAX_SERVERS>,
}

#[derive(Clone, Copy, Debug)]
struct Server {
    address: IpAddr,
    port: u16,
    healthy: bool,
}

impl<'t, const FLOWS: usize, const FLOWS6: usize> Filter<'t, FLOWS, FLOWS6> {
    /// The filter of a policy. No server is healthy yet. `seed` keys the flow hash.
    #[must_use]
    pub fn new(policy: &Policy<'t>, seed: u64) -> Self {
        let config = &policy.config;
        let services = config.services.iter().map(|service| {
            let servers = service.servers.iter().map(|server| Server {
                address: server.address,
                port: server.port,
                healthy: false,
            });
            Service {
                address: service.address,
                port: service.port,
                servers: servers.collect(),
            }
        });
        Self {
            v4: Flows::new(seed),
            v6: Flows::new(!seed),
            shared: Shared {
                routes: Routes::new(config),
                rules: Rules::new(policy.tables),
                services: services.collect(),
                strict: config.protection.strict_windows,
                outside: 0,
            },
        }
    }

    /// Where addresses live.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.shared.routes
    }

    /// How many flows are known.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// How many of them are TCP handshakes under way.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.v4.half_open() + self.v6.half_open()
    }

    /// How many segments outside their connection's windows were let through (liberal windows); wraps.
    #[must_use]
    pub fn outside_windows(&self) -> u32 {
        self.shared.outside
    }

    /// How many first packets each rule decided, in the order of the configuration.
    #[must_use]
    pub fn rule_hits(&self) -> &[u32] {
        self.shared.rules.hits()
    }

    /// Judges an IP packet that came in from `leg`, addressed to a virtual router, and makes of it what goes out.
    /// Bytes after its end (Ethernet padding) are allowed.
    #[inline]
    pub fn judge(&mut self, now: Instant, leg: u8, packet: &mut [u8], unknown: Unknown) -> Verdict {
        let now = Ticks::at(now);
        let Self { v4, v6, shared } = self;
        match packet.first().map_or(0, |byte| byte >> 4) {
            4 => known::judge(v4, shared, now, leg, packet, unknown),
            6 => known::judge(v6, shared, now, leg, packet, unknown),
            _ => Verdict::Drop(Drop::Ipv4Header),
        }
    }

    /// Whether a packet that was let through is not as its sender sent it. For the few that wait for their next hop:
    /// it takes another search.
    #[must_use]
    pub fn is_translated(&mut self, packet: &[u8]) -> bool {
        match packet.first().map_or(0, |byte| byte >> 4) {
            4 => known::is_translated(&mut self.v4, packet),
            _ => known::is_translated(&mut self.v6, packet),
        }
    }

    /// Tells whether a server gets new flows. The flows of one that no longer does are forgotten, so
    /// that their clients' next attempts reach another.
    pub fn set_health(&mut self, service: usize, server: usize, healthy: bool) {
        let Self { v4, v6, shared } = self;
        let Some(entry) = shared
            .services
            .get_mut(service)
            .and_then(|s| s.servers.get_mut(server))
        else {
            return;
        };
        let was = core::mem::replace(&mut entry.healthy, healthy);
        if was && !healthy {
            let owner = Owner::new(service, server);
            v4.remove_where(|flow| flow.owner() == owner, shared);
            v6.remove_where(|flow| flow.owner() == owner, shared);
        }
    }

    /// Forgets flows whose time is over; a bounded amount of work.
    pub fn sweep(&mut self, now: Instant) {
        let now = Ticks::at(now);
        self.v4.sweep(now, SWEEP_BUDGET, &mut self.shared);
        self.v6.sweep(now, SWEEP_BUDGET, &mut self.shared);
    }

    /// Forgets all flows: for a router that is no longer Active, since its successor may change them.
    pub fn forget(&mut self) {
        self.v4.remove_where(|_| true, &mut self.shared);
        self.v6.remove_where(|_| true, &mut self.shared);
    }
}

impl<A: Address> Ledger<A> for Shared<'_> {
    fn opened(&mut self, _flow: &Flow<A>) {}

    fn closed(&mut self, _flow: &Flow<A>) {}
}

/// Flows that one sweep looks at.
const SWEEP_BUDGET: u32 = 32;

#[cfg(test)]
mod tests;
