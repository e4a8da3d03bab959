//! Attacks that everybody knows, as they arrive at the appliance of [`differential::site`]. All of them are made here with
//! [`forge`]; none is a recording of somebody's network. `captures/` has them as files for Wireshark.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr};

use differential::site::{LEGS, Site, neighbour_mac, virtual_mac};
use differential::stories;
use node::Drop;

mod address;
pub mod capture;
mod fragment;
mod icmp;
mod malformed;
mod neighbour;
mod route;
mod tcp;
mod user;

pub use tcp::syn;
pub use user::Connection;

/// One attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attack {
    /// Name of its capture file, without the extension.
    pub name: String,
    /// What it is.
    pub what: String,
    /// Where it is described.
    pub described: String,
    /// In their order.
    pub frames: Vec<Frame>,
}

/// A frame of an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The leg that it arrives on.
    pub leg: u8,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What becomes of it.
    pub end: End,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is dropped in silence under this counter.
    Dropped(Drop),
    /// It is dropped under this counter, and its sender gets one answer that costs no memory.
    Answered(Drop),
    /// It goes through: by itself it is an honest packet.
    Passes,
}

/// The site that is attacked, with few half-open connections until SYN cookies begin.
#[must_use]
pub fn site() -> Site {
    let mut site = stories::site();
    site.config.protection.syn_cookies_above = SYN_COOKIES_ABOVE;
    site
}

/// Half-open connections from which on SYNs are answered with cookies.
pub const SYN_COOKIES_ABOVE: u16 = 16;

/// All attacks, by name.
#[must_use]
pub fn all() -> Vec<Attack> {
    let mut list = [
        address::attacks(),
        fragment::attacks(),
        icmp::attacks(),
        malformed::attacks(),
        neighbour::attacks(),
        route::attacks(),
        tcp::attacks(),
    ]
    .concat();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// The list of the files for people.
#[must_use]
pub fn index(attacks: &[Attack]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for attack in attacks {
        let mut ends: Vec<String> = Vec::new();
        for frame in &attack.frames {
            let end = frame.end.to_string();
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        text += &format!(
            "| [{name}]({name}.pcapng) | {what} | {described} | {count} | {ends} |\n",
            name = attack.name,
            what = attack.what,
            described = attack.described,
            count = attack.frames.len(),
            ends = ends.join("; ")
        );
    }
    text
}

const INTRODUCTION: &str = "\
# Captures of well-known attacks

Frames as they arrive at the appliance of `tests/differential/src/site.rs`, for Wireshark or any other reader of pcapng. The
interface of a frame is the leg that it comes in by, and its comment (in Wireshark: `frame.comment`) says what becomes of it: the
name after `dropped` is that of the drop counter. All are made by us; none is a recording of somebody's network.

`cargo run -p ravelin-attacks` writes all of them and this list anew; `cargo test -p ravelin-attacks` holds the files against
what that makes, and plays each to a node with a connection through it, which goes on afterwards.

| capture | what it is | described in | frames | what becomes of them |
|---|---|---|---|---|
";

/// Who attacks.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
/// The same by IPv6.
const ATTACKER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x66);
/// Who is connected meanwhile.
pub const USER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The port of that connection.
pub const USER_PORT: u16 = 50_000;

/// An attack all of whose frames end at one counter.
fn dropped(
    name: &str,
    what: &str,
    described: &str,
    leg: u8,
    frames: impl IntoIterator<Item = Vec<u8>>,
    drop: Drop,
) -> Attack {
    let frame = |bytes| Frame {
        leg,
        bytes,
        end: End::Dropped(drop),
    };
    attack(name, what, described, frames.into_iter().map(frame))
}

fn attack(
    name: &str,
    what: &str,
    described: &str,
    frames: impl IntoIterator<Item = Frame>,
) -> Attack {
    Attack {
        name: name.to_owned(),
        what: what.to_owned(),
        described: described.to_owned(),
        frames: frames.into_iter().collect(),
    }
}

/// A packet as the leg's router sends it on, or a neighbour.
fn framed(leg: u8, packet: &[u8]) -> Vec<u8> {
    let from = neighbour_mac(leg, LEGS[usize::from(leg)].neighbours[0]);
    let ethertype = forge::ethertype(packet);
    forge::ethernet(
        virtual_mac(leg, ethertype == 0x86dd),
        from,
        ethertype,
        packet,
    )
}
