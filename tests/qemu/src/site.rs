//! The reference site around one appliance, and everyone it talks to.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use policy::rule::Rule;
use policy::{Config, Interface, VirtualRouter};
use site::{Boards, Plan};
use smoltcp::wire::{ArpOperation, ArpRepr, TcpControl};

use crate::Emulated;
use crate::frames::{self, Frame, Mac};

/// The site of the tests.
pub const SITE: &str = include_str!("../../../examples/foobar/site.toml");

/// The site on this board.
///
/// # Panics
/// If the site file is not good.
pub fn plan(board: &str) -> Plan {
    let ports = crate::firmware(board, board).board.ports;
    let plan = site::parse_on_board("site.toml", SITE, &Boards::new([(board, ports)]), board);
    plan.expect("a good site").with_plain_checks()
}

/// What gw1 does on this board.
///
/// # Panics
/// If the site cannot be compiled.
pub fn config(board: &str) -> Config {
    render::appliance::config(&plan(board), "gw1").expect("a configuration")
}

/// The same with its rules.
///
/// # Panics
/// If the site cannot be compiled.
pub fn policy_of(board: &str) -> (Config, Vec<Rule>) {
    render::appliance::policy(&plan(board), "gw1").expect("a policy")
}

/// The virtual router of IPv4 on a leg.
pub fn router<'c>(config: &'c Config, leg: &Interface) -> &'c VirtualRouter {
    let index = config.interfaces.iter().position(|other| other == leg);
    let index = index.expect("one of its legs");
    config.routers_on(index).next().expect("all legs have one")
}

/// Its address.
pub fn shared(config: &Config, leg: &Interface) -> Ipv4Addr {
    match router(config, leg).addresses[0] {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} comes after IPv4"),
    }
}

/// The same as the board reads it.
///
/// # Panics
/// If the site cannot be compiled.
pub fn blob(board: &str) -> Vec<u8> {
    let (config, rules) = policy_of(board);
    classifier::blob(&config, &rules, policy::MAX_BLOB).expect("a good configuration")
}

/// All other stations of the site: they answer ARP requests and health checks.
pub struct Neighbours<'a> {
    board: &'a Emulated,
    config: &'a Config,
    absent: Option<Ipv4Addr>,
}

impl<'a> Neighbours<'a> {
    /// The neighbours of `board`, which runs `config`.
    pub fn new(board: &'a Emulated, config: &'a Config) -> Self {
        Self {
            board,
            config,
            absent: None,
        }
    }

    /// The same, but for this one: it answers for itself.
    pub fn without(mut self, station: Ipv4Addr) -> Self {
        self.absent = Some(station);
        self
    }

    /// The leg in this network.
    ///
    /// # Panics
    /// If there is none.
    pub fn leg(&self, name: &str) -> &'a Interface {
        self.config
            .interfaces
            .iter()
            .find(|leg| leg.name == name)
            .expect("a leg of this name")
    }

    /// Sends a frame out of the network of `leg`.
    pub fn send(&self, leg: &Interface, frame: &Frame) {
        self.board.send(leg.port.into(), &frame.bytes());
    }

    /// Answers for everyone until `pick` finds what it looks for in a frame of the appliance, which it
    /// is shown with the name of its network. Calls `again` from time to time.
    ///
    /// # Panics
    /// If it is not found in time.
    pub fn until<T>(
        &self,
        what: &str,
        mut again: impl FnMut(),
        mut pick: impl FnMut(&str, &Frame) -> Option<T>,
    ) -> T {
        let mut next = Instant::now();
        let found = crate::emulated::wait(|| {
            if Instant::now() >= next {
                next = Instant::now() + Duration::from_millis(500);
                again();
            }
            // All that is there: frames that wait too long would tell of the past.
            let frames = (0..self.board.ports()).flat_map(|port| {
                std::iter::from_fn(move || Some((port, self.board.receive(port)?)))
            });
            for (port, frame) in frames {
                let frame = Frame::parse(&frame);
                let leg = self.leg_of(port, &frame);
                self.answer(leg, &frame);
                if let Some(found) = pick(&leg.name, &frame) {
                    return Some(found);
                }
            }
            None
        });
        found.unwrap_or_else(|| {
            panic!(
                "{what} did not come; the board's log:\n{}",
                self.board.log()
            )
        })
    }

    fn leg_of(&self, port: usize, frame: &Frame) -> &'a Interface {
        let leg = |leg: &&Interface| usize::from(leg.port) == port && leg.vlan == frame.vlan;
        let found = self.config.interfaces.iter().find(leg);
        found.unwrap_or_else(|| panic!("a frame in no network of port {port}: {frame:x?}"))
    }

    fn answer(&self, leg: &Interface, frame: &Frame) {
        if let Some(ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: asker,
            source_protocol_addr: address,
            target_protocol_addr: wanted,
            ..
        }) = frame.arp()
            && wanted != address
            && self.absent != Some(wanted)
        {
            let from = (mac_of(wanted), wanted);
            let reply = frames::arp(leg.vlan, ArpOperation::Reply, from, (asker.0, address));
            self.send(leg, &reply);
        }
        if let Some((from, to, segment)) = frame.tcp()
            && from == leg.address
            && self.absent != Some(to)
            && segment.control == TcpControl::Syn
        {
            let station = (mac_of(to), to, segment.dst_port);
            let asker = (frame.source, from, segment.src_port);
            let acknowledge = Some(segment.seq_number + 1);
            self.send(
                leg,
                &frames::tcp(leg.vlan, station, asker, TcpControl::Syn, acknowledge),
            );
        }
    }
}

/// The MAC address of the neighbour with this IP address.
pub fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [2, 0xee, a, b, c, d]
}
