//! The packet filter as a pure function: a packet goes in, is judged and changed in place, and one verdict comes out.
//! Rules judge the first packet of a flow, the flow table all others; the node alone turns verdicts into frames.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

use core::net::IpAddr;

use classifier::Policy;
use policy::rule::Sharing;
use time::Instant;
use wire::icmp::Problem;
use wire::ipv4;
use zerocopy::FromZeros;

pub mod address;
mod balance;
pub mod cookie;
mod drop;
mod fast;
mod first;
mod flow;
pub mod fragment;
mod gone;
mod handshake;
pub mod hash;
mod known;
mod limit;
mod maglev;
mod mss;
mod nat6;
mod packet;
mod part;
mod persist;
mod ports;
mod record;
mod refuse;
mod reload;
mod replica;
mod rewrite;
mod route;
mod rule;
mod services;
mod synproxy;
mod table;
mod track;
mod window;

pub use address::{Address, V4, V6};
pub use drop::Drop;
pub use fast::{Left, Stations};
pub use packet::{
    Class, ECHO_REPLY, ECHO_REPLY_V6, ECHO_REQUEST, ECHO_REQUEST_V6, Fragment, Kind, Local, Packet,
    Ports, Tuple, parse_v4, parse_v6,
};
pub use replica::Imports;
pub use rewrite::is_intact;
pub use route::{Family, Hop, Routes};
pub use track::Ticks;

use cookie::Cookies;
use flow::{Flow, Owner};
use fragment::Fragments;
use gone::Gone;
use handshake::Update;
use hash::Key;
use limit::Limits;
use nat6::Prefixes;
use part::Course;
use ports::Translations;
use refuse::Doors;
use replica::GONE;
use rule::Rules;
use services::Services;
use synproxy::Splices;
use table::{Flows, Ledger, Room};
use track::Direction;

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
    /// It ends here, its place is taken by an answer to its sender, and after that is sent [`Filter::update`] has another
    /// packet for the other side.
    Splice {
        /// Length of the answer.
        len: usize,
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

/// Memory for `FLOWS` flows of IPv4 and `FLOWS6` of IPv6 (multiples of four below 2^23). The board decides how many, and
/// where they lie: all zeros, they cost a program nothing but room.
#[derive(Debug, FromZeros)]
pub struct Tables<const FLOWS: usize, const FLOWS6: usize> {
    v4: Room<V4, FLOWS>,
    v6: Room<V6, FLOWS6>,
}

impl<const FLOWS: usize, const FLOWS6: usize> Tables<FLOWS, FLOWS6> {
    /// Room without a flow.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            v4: Room::new(),
            v6: Room::new(),
        }
    }

    /// The same on the heap. It is made there: in a program that is not optimised, what is boxed later fills the stack first.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn boxed() -> alloc::boxed::Box<Self> {
        let layout = core::alloc::Layout::new::<Self>();
        Self::new_box_zeroed().unwrap_or_else(|_| alloc::alloc::handle_alloc_error(layout))
    }
}

impl<const FLOWS: usize, const FLOWS6: usize> Default for Tables<FLOWS, FLOWS6> {
    fn default() -> Self {
        Self::new()
    }
}

/// Rules, services and flows of one appliance.
/// What every packet needs stands first, where it is reached by short instructions.
#[derive(Debug)]
#[repr(C)]
pub struct Filter<'t> {
    v4: Flows<'t, V4>,
    v6: Flows<'t, V6>,
    shared: Shared<'t>,
}

/// All but the flows: what flows of both versions are judged by.
#[derive(Debug)]
#[repr(C)]
struct Shared<'t> {
    routes: Routes,
    doors: Doors,
    rules: Rules<'t>,
    services: Services,
    limits: Limits<LIMIT_SETS>,
    translations: Translations,
    prefixes: Prefixes,
    fragments: Fragments<Course, FRAGMENT_SETS>,
    cookies: Cookies,
    /// Until then cookies that were given may come back.
    cookies_until: Instant,
    /// Whether some may; looked at when the table is swept.
    cookies_are_out: bool,
    splices: Splices<SPLICES>,
    /// A window update to send after [`Verdict::Splice`].
    update: Option<Update>,
    /// What the log should know of the last packet.
    logged: Option<Logged>,
    /// When the packet came in that is judged.
    now: Instant,
    random: Random,
    /// Half-open connections from which on SYNs are answered with cookies.
    cookies_above: usize,
    /// Whether segments outside their connection's windows are dropped.
    strict: bool,
    clamp_mss: bool,
    answer_rejects: bool,
    /// How many segments outside their connection's windows were let through.
    outside: u32,
    /// Until then windows may not be what they were.
    lenient_until: Instant,
    /// Whether the two appliances of a pair know each other's flows.
    shares: bool,
    /// Whether the other one is Active, so that flows are kept as it says.
    standby: bool,
    /// Servers that ceased to answer meanwhile, by service.
    fallen: [u16; policy::MAX_SERVICES],
    gone: Gone<V4, GONE>,
    gone6: Gone<V6, GONE>,
    /// The other's cookies.
    inherited: Option<cookie::Inherited>,
    /// When tokens are told again.
    accounts_due: Instant,
    /// The next of them.
    account: u32,
    /// The flow that the last packet opened: of IPv6 or not, and its id.
    opened: Option<(bool, u32)>,
    /// What the rule says that accepted last: who is told of the flow.
    sharing: Sharing,
    imports: Imports,
}

/// A packet that a rule with a log has decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Index of the rule.
    pub rule: u16,
    /// Whether it let the packet through.
    pub accepted: bool,
    /// The leg that the packet came in from.
    pub leg: u8,
    /// Source before translation.
    pub source: IpAddr,
    /// Destination after translation.
    pub destination: IpAddr,
    /// Both ports.
    pub ports: Ports,
    /// IP protocol number.
    pub protocol: u8,
}

/// Numbers that nobody can guess without the seed; not for keys.
#[derive(Debug)]
struct Random {
    key: Key,
    count: u32,
}

impl<'t> Filter<'t> {
    /// The filter of a policy, with room for flows in `tables`. No server is healthy yet. One of a pair that knows each other's
    /// flows begins as the one that is not Active. `seed` is secret and keys all
    /// hashes.
    #[must_use]
    pub fn new<const FLOWS: usize, const FLOWS6: usize>(
        policy: &Policy<'t>,
        tables: &'t mut Tables<FLOWS, FLOWS6>,
        seed: u64,
    ) -> Self {
        let config = &policy.config;
        let protection = &config.protection;
        let services = Services::new(config, Key::secret(seed, 1));
        let translations = Translations::new(config);
        let pair = config.availability.pair.as_ref();
        let shares = pair.is_some_and(|pair| pair.sync);
        Self {
            v4: Flows::new(&mut tables.v4, seed),
            v6: Flows::new(&mut tables.v6, !seed),
            shared: Shared {
                routes: Routes::new(config),
                rules: Rules::new(policy.tables),
                doors: Doors::new(&services, &translations),
                services,
                limits: Limits::new(&config.limits, Key::secret(seed, 2)),
                translations,
                prefixes: Prefixes::new(config),
                fragments: Fragments::new(Key::secret(seed, 3)),
                cookies: Cookies::new(Key::secret(seed, 4)),
                cookies_until: Instant::ZERO,
                cookies_are_out: false,
                splices: Splices::new(),
                update: None,
                logged: None,
                now: Instant::ZERO,
                random: Random {
                    key: Key::secret(seed, 5),
                    count: 0,
                },
                cookies_above: protection.syn_cookies_above.into(),
                strict: protection.strict_windows,
                clamp_mss: protection.clamp_mss,
                answer_rejects: protection.answer_rejects,
                outside: 0,
                lenient_until: Instant::ZERO,
                shares,
                standby: shares,
                fallen: [0; policy::MAX_SERVICES],
                gone: Gone::new(),
                gone6: Gone::new(),
                inherited: None,
                accounts_due: Instant::ZERO,
                account: 0,
                opened: None,
                sharing: Sharing::Usual,
                imports: Imports::default(),
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

    /// Lets a packet of IP version `VERSION` and protocol `PROTOCOL` go on if it is a usual one of a known flow and its next
    /// station is known, and makes of it what goes out: that station, and the length of the IP packet. It is the first
    /// `received` bytes of `buffer`.
    ///
    /// # Errors
    /// Nothing has changed. [`Self::judge_thoroughly`] says what becomes of an unusual packet; of a refused one it would say
    /// the same, unless connections are taken up in the middle.
    #[inline(always)]
    pub fn pass<const VERSION: u8, const PROTOCOL: u8, S: Stations>(
        &mut self,
        now: Ticks,
        leg: u8,
        buffer: &mut [u8],
        received: usize,
        stations: S,
    ) -> Result<(S::Station, usize), Left> {
        let Self { v4, v6, shared } = self;
        let way = fast::Way {
            shared,
            now,
            leg,
            received,
        };
        match (VERSION, PROTOCOL) {
            (4, ipv4::TCP) => fast::segment(v4, &way, buffer, stations),
            (4, ipv4::UDP) => fast::datagram(v4, &way, buffer, stations),
            (6, ipv4::TCP) if shared.prefixes.is_empty() => {
                fast::segment(v6, &way, buffer, stations)
            }
            (6, ipv4::UDP) if shared.prefixes.is_empty() => {
                fast::datagram(v6, &way, buffer, stations)
            }
            _ => Err(Left::Unusual),
        }
    }

    /// Judges an IP packet that came in from `leg`, addressed to a virtual router, and makes of it what goes out. It is the
    /// first `received` bytes of `buffer`; bytes after its end (Ethernet padding) are allowed. What goes out may be a
    /// little longer, if `buffer` is.
    pub fn judge(
        &mut self,
        now: Instant,
        leg: u8,
        buffer: &mut [u8],
        received: usize,
        unknown: Unknown,
    ) -> Verdict {
        let ticks = Ticks::at(now);
        let received = received.min(buffer.len());
        let passed = match *buffer {
            [0x40..=0x4f, _, _, _, _, _, _, _, _, ipv4::TCP, ..] => {
                self.pass::<4, { ipv4::TCP }, _>(ticks, leg, buffer, received, Anybody)
            }
            [0x40..=0x4f, _, _, _, _, _, _, _, _, ipv4::UDP, ..] => {
                self.pass::<4, { ipv4::UDP }, _>(ticks, leg, buffer, received, Anybody)
            }
            [0x60..=0x6f, _, _, _, _, _, ipv4::TCP, ..] => {
                self.pass::<6, { ipv4::TCP }, _>(ticks, leg, buffer, received, Anybody)
            }
            [0x60..=0x6f, _, _, _, _, _, ipv4::UDP, ..] => {
                self.pass::<6, { ipv4::UDP }, _>(ticks, leg, buffer, received, Anybody)
            }
            _ => Err(Left::Unusual),
        };
        match passed {
            Ok((hop, len)) => Verdict::Forward { hop, len },
            Err(Left::Refused(reason)) if unknown == Unknown::Refuse => Verdict::Drop(reason),
            Err(_) => self.judge_thoroughly(now, leg, buffer, received, unknown),
        }
    }

    /// The same, for packets that [`Self::pass`] leaves.
    #[inline(never)]
    pub fn judge_thoroughly(
        &mut self,
        now: Instant,
        leg: u8,
        buffer: &mut [u8],
        received: usize,
        unknown: Unknown,
    ) -> Verdict {
        let Self { v4, v6, shared } = self;
        shared.now = now;
        shared.opened = None;
        let now = Ticks::at(now);
        match buffer.first().map_or(0, |byte| byte >> 4) {
            4 => known::judge(v4, shared, now, leg, buffer, received, unknown),
            6 if shared.prefixes.is_empty() => {
                known::judge(v6, shared, now, leg, buffer, received, unknown)
            }
            6 => prefixed(v6, shared, now, leg, buffer, received, unknown),
            _ => Verdict::Drop(Drop::Ipv4Header),
        }
    }

    /// Writes the packet into `buffer` that goes out after [`Verdict::Splice`]; where it goes, and its length.
    pub fn update(&mut self, buffer: &mut [u8]) -> Option<(Hop, usize)> {
        self.shared.update.take()?.write(buffer)
    }

    /// What the log should know of the packets judged since the last call, of several only the last.
    pub fn take_logged(&mut self) -> Option<Logged> {
        self.shared.logged.take()
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

    /// Tells whether a server answers its checks, and so may get new flows. The flows of one that no longer does are
    /// forgotten, so that their clients' next attempts reach another.
    pub fn set_health(&mut self, now: Instant, service: usize, server: usize, healthy: bool) {
        let shared = &mut self.shared;
        shared.now = now;
        let balancer = &mut shared.services.balancer;
        let news = balancer.set_health(now, service, server, healthy);
        if let Some(fallen) = shared.fallen.get_mut(service)
            && shared.standby
        {
            // The other appliance may still reach it.
            let server = 1_u16.unbounded_shl(server as u32);
            match healthy {
                true => *fallen &= !server,
                false if news => *fallen |= server,
                false => {}
            }
        } else if news && !healthy {
            self.abandon(service, server);
        }
    }

    /// Forgets all about a server.
    fn abandon(&mut self, service: usize, server: usize) {
        let Self { v4, v6, shared } = self;
        let owner = Owner::new(service, server);
        v4.remove_where(|flow| flow.owner() == owner, shared);
        v6.remove_where(|flow| flow.owner() == owner, shared);
        shared.services.forget(service, server);
    }

    /// Drains a server (it keeps its flows and gets no new ones) or ends that.
    pub fn drain(&mut self, service: usize, server: usize, drained: bool) {
        let balancer = &mut self.shared.services.balancer;
        balancer.drain(service, server, drained);
    }

    /// Scales a server's weight, 100 for the configured one; 0 drains it.
    pub fn set_weight(&mut self, service: usize, server: usize, percent: u8) {
        let balancer = &mut self.shared.services.balancer;
        balancer.set_weight(service, server, percent);
    }

    /// Lets a server have fewer flows at a time than configured; `None` for as configured.
    pub fn set_max_flows(&mut self, service: usize, server: usize, max: Option<u32>) {
        let balancer = &mut self.shared.services.balancer;
        balancer.set_max_flows(service, server, max);
    }

    /// How many flows a server has.
    #[must_use]
    pub fn server_flows(&self, service: usize, server: usize) -> u32 {
        self.shared.services.balancer.flows(service, server)
    }

    /// Whether a service has its quorum of servers.
    #[must_use]
    pub fn has_quorum(&self, service: usize) -> bool {
        self.shared.services.balancer.has_quorum(service)
    }

    /// Whether somebody would get a new flow to a service: a server, or the sorry server.
    #[must_use]
    pub fn serves(&self, service: usize) -> bool {
        self.shared.services.balancer.serves(service)
    }

    /// Whether SYNs were answered with cookies lately.
    #[must_use]
    pub fn cookies_are_out(&self) -> bool {
        self.shared.cookies_are_out
    }

    /// Forgets flows whose time is over; a bounded amount of work.
    pub fn sweep(&mut self, now: Instant) {
        self.shared.cookies_are_out &= now < self.shared.cookies_until;
        let now = Ticks::at(now);
        let Self { v4, v6, shared } = self;
        if shared.standby {
            v4.refresh(now, SWEEP_BUDGET, shared);
            v6.refresh(now, SWEEP_BUDGET, shared);
        } else {
            v4.sweep(now, SWEEP_BUDGET, shared);
            v6.sweep(now, SWEEP_BUDGET, shared);
        }
    }

    /// Forgets all flows: for a router that is no longer Active, since its successor may change them.
    pub fn forget(&mut self) {
        self.v4.remove_where(|_| true, &mut self.shared);
        self.v6.remove_where(|_| true, &mut self.shared);
    }
}

/// Knows every station.
struct Anybody;

impl Stations for Anybody {
    type Station = Hop;

    fn find<A: Address>(self, leg: u8, address: A) -> Option<Hop> {
        let address = address.into();
        Some(Hop { leg, address })
    }
}

/// Judges an IPv6 packet where prefixes are translated: inside, only inside addresses are known.
fn prefixed(
    flows: &mut Flows<'_, V6>,
    shared: &mut Shared<'_>,
    now: Ticks,
    leg: u8,
    buffer: &mut [u8],
    received: usize,
    unknown: Unknown,
) -> Verdict {
    let packet = buffer.get_mut(..received).unwrap_or_default();
    if shared.prefixes.enter(leg, packet).is_err() {
        return Verdict::Drop(Drop::Untranslatable);
    }
    let verdict = known::judge(flows, shared, now, leg, buffer, received, unknown);
    let (out, len) = match verdict {
        Verdict::Forward { hop, len } => (hop.leg, len),
        // Whether it goes on or back: its sender knows the address outside.
        Verdict::Answer { len, .. } | Verdict::Splice { len } => (leg, len),
        Verdict::Error(..) => {
            let packet = buffer.get_mut(..received).unwrap_or_default();
            // The quote in the error has to be what the sender sent.
            return match shared.prefixes.undo(leg, packet) {
                Ok(()) => verdict,
                Err(_) => Verdict::Drop(Drop::Untranslatable),
            };
        }
        Verdict::Local | Verdict::Drop(_) => return verdict,
    };
    let packet = buffer.get_mut(..len).unwrap_or_default();
    match shared.prefixes.leave(out, packet) {
        Ok(()) => verdict,
        Err(_) => Verdict::Drop(Drop::Untranslatable),
    }
}

impl Shared<'_> {
    fn random(&mut self) -> u32 {
        let Random { key, count } = &mut self.random;
        *count = count.wrapping_add(1);
        key.hash([*count])
    }

    /// Counts a flow for its server and limit.
    fn count<A: Address>(&mut self, flow: &Flow<A>) {
        let client = hash::number(flow.tuple(Direction::Original).source.into());
        self.services.opened(self.now, flow.owner(), client);
        if let Some(limit) = flow.limit() {
            self.limits.opened(limit, client);
        }
    }
}

impl<A: Address> Ledger<A> for Shared<'_> {
    fn opened(&mut self, flow: &Flow<A>) {
        self.count(flow);
    }

    fn closed(&mut self, id: u32, flow: &Flow<A>) {
        let client = hash::number(flow.tuple(Direction::Original).source.into());
        self.services.closed(self.now, flow.owner(), client);
        if let Some(limit) = flow.limit() {
            self.limits.closed(limit, client);
        }
        if flow.is_special() {
            self.unsplice::<A>(id);
        }
    }

    fn gone(&mut self, flow: &Flow<A>) {
        let tuple = flow.tuple(Direction::Original);
        A::bury(&mut self.gone, &mut self.gone6, tuple, flow.state.class());
    }
}

/// Sources that limits count for themselves at a time, in sets of four: 26 KB for rates and flows together.
const LIMIT_SETS: usize = 128;
/// Datagrams in fragments under way, in sets of four.
const FRAGMENT_SETS: usize = 16;
/// Connections that began with a cookie: three quarters of this.
const SPLICES: usize = 256;
/// Flows that one sweep looks at.
const SWEEP_BUDGET: u32 = 32;

#[cfg(test)]
mod tests;
