//! A node on a treadmill: the same packets of every path again and again, from memory, each path with proof that it
//! was taken. The benches run it on boards and on the host; how cost is told is up to them.

#![no_std]
#![forbid(unsafe_code)]

use classifier::Tables;
use node::{Drop, Node, Tables as Room};
use policy::{Config, Transport};
use wire::tcp::Flags;

mod outcome;
mod packet;
mod run;
mod station;
mod world;

pub use outcome::{Fault, Outcome};
pub use world::{CLIENT, CLIENT6};

use run::Run;
use world::World;

/// Packets of one measurement.
pub const PACKETS: u32 = 1000;
/// What a policy's `syn_cookies_above` must be: the new flows of one measurement and the one before stay below it, all
/// later ones do not.
pub const COOKIES_ABOVE: u16 = PACKETS as u16 + 1;
/// Bytes of a node for each flow, both directions and index included: IPv4, IPv6.
pub const BYTES_PER_FLOW: [usize; 2] = {
    const STEP: usize = 1024;
    let least = size_of::<Room<STEP, STEP>>();
    [
        (size_of::<Room<{ 2 * STEP }, STEP>>() - least) / STEP,
        (size_of::<Room<STEP, { 2 * STEP }>>() - least) / STEP,
    ]
};

/// Tells what work costs, in a unit of its own.
pub trait Meter {
    /// The cost of doing `work` once.
    fn cost(&mut self, work: &mut dyn FnMut()) -> u64;
}

/// What [`PACKETS`] packets of a path cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Making the packets and sending them through the node.
    pub whole: u64,
    /// Making them.
    pub making: u64,
}

impl Cost {
    /// The node's part of it.
    #[must_use]
    pub fn node(self) -> u64 {
        self.whole.saturating_sub(self.making)
    }
}

/// Runs every path that the policy has a service for. `report` gets the name of each and its cost.
///
/// # Errors
/// If a path was not the one that it is called, or the policy has no TCP service on IPv4.
pub fn run(
    node: &mut Node<'_>,
    (config, tables): (&Config, &Tables<'_>),
    meter: &mut impl Meter,
    report: &mut impl FnMut(&'static str, Cost),
) -> Result<(), Fault> {
    let mut run = Run::settle(node, meter, report);
    let tcp = World::new(config, Transport::Tcp, false).ok_or(Fault::NoService)?;
    run.connection(&tcp, ["established-dnat", "established-undnat"])?;
    if let Some(udp) = World::new(config, Transport::Udp, false) {
        run.connection(&udp, ["established-udp-dnat", "established-udp-undnat"])?;
    }
    if let Some(tcp6) = World::new(config, Transport::Tcp, true) {
        run.connection(&tcp6, ["established-dnat-ipv6", "established-undnat-ipv6"])?;
    }

    // To the server's own address, as a scan of the networks would.
    let refused = tcp.refused_port(tables).ok_or(Fault::NoPort)?;
    let refused = tcp.straight(refused).client_sends(PORT, Flags::SYN);
    run.repeat("drop-no-rule", Outcome::Drops(Drop::NoRule), refused)?;
    let closed = tcp.at(CLOSED).client_sends(PORT, Flags::SYN);
    run.repeat("drop-closed-port", Outcome::Drops(Drop::NotForUs), closed)?;
    let stray = tcp.straight(tcp.server.1).client_sends(PORT, Flags::ACK);
    run.repeat("drop-no-flow", Outcome::Drops(Drop::NoFlow), stray)?;
    let lost = tcp.client_sends(PORT + 1, Flags::ACK);
    run.repeat("reset-no-flow", Outcome::Answers(Drop::NoFlow), lost)?;

    let opening = |turn: u32| tcp.client_sends(FIRST_PORT + turn as u16, Flags::SYN);
    run.translated(&tcp, FIRST_PORT - 1)?;
    run.path("new-flow-dnat", Outcome::Opens, &mut { opening })?;
    let opening = |turn: u32| opening(PACKETS + turn);
    let cookie = Outcome::Answers(Drop::SynCookie);
    run.path("syn-cookie", cookie, &mut { opening })
}

/// The client's port of the flows that stay.
const PORT: u16 = 40_000;
/// The first of the clients' ports of new flows.
const FIRST_PORT: u16 = 8192;
/// A port of the virtual address that nobody serves.
const CLOSED: u16 = 9;
