//! Everybody but the node: neighbours that say where they are, and servers that listen.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use node::{Node, Transmit};
use time::Instant;
use wire::ethernet::{self, Mac, Received};
use wire::tcp::{self, DEFAULT_TTL};
use wire::{ipv4, ipv6, nd};

use crate::packet::{Content, Packet};
use crate::world::SYN_ACK;

/// The MAC address of everybody but the node.
pub const STATION: Mac = [2, 0, 0, 0, 0, 9];

/// Frames of the node that somebody has to answer.
#[derive(Default)]
pub struct Mailbox(heapless::Deque<heapless::Vec<u8, 96>, 64>);

impl Transmit for Mailbox {
    fn transmit(&mut self, _port: u8, frame: &[u8]) {
        if let Ok(copy) = heapless::Vec::from_slice(frame) {
            let _ = self.0.push_back(copy); // nobody waits for more
        }
    }
}

impl Mailbox {
    /// Answers all frames, and those that come of the answers.
    pub fn answer(&mut self, node: &mut Node<'_>, now: Instant) {
        while let Some(frame) = self.0.pop_front() {
            if let Some(mut answer) = answer(&frame)
                && let Some(frame) = answer.frame()
            {
                node.ingress(now, 0, frame, self);
            }
        }
    }

    /// The frame that was sent, if it is one.
    pub fn only(&self) -> Option<&[u8]> {
        (self.0.len() == 1).then_some(self.0.front()?)
    }
}

/// What a neighbour says when it is asked for its MAC address, and a listening server to a SYN.
fn answer(frame: &[u8]) -> Option<Packet> {
    let received = ethernet::parse(frame)?;
    let body = frame.get(received.payload..)?;
    let stations = (received.source, STATION);
    Packet::new(
        stations,
        received.vlan,
        received.ethertype,
        |room| match received.ethertype {
            ethernet::ARP => answer_arp(body, room),
            ethernet::IPV4 => answer_v4(body, room),
            ethernet::IPV6 => answer_v6(&received, body, room),
            _ => None,
        },
    )
}

/// RFC 826: the target of a request becomes the sender of the reply. Announcements get no answer.
fn answer_arp(body: &[u8], room: &mut [u8]) -> Option<usize> {
    let body = body.first_chunk::<28>()?;
    if body[7] != 1 || body[14..18] == body[24..28] {
        return None;
    }
    let out = room.first_chunk_mut::<28>()?;
    out[..8].copy_from_slice(&body[..8]);
    out[7] = 2;
    out[8..14].copy_from_slice(&STATION);
    out[14..18].copy_from_slice(&body[24..28]);
    out[18..28].copy_from_slice(&body[8..18]);
    Some(out.len())
}

fn answer_v4(body: &[u8], room: &mut [u8]) -> Option<usize> {
    let (ip, header) = ipv4::Header::parse(body).ok()?;
    if ip.protocol != ipv4::TCP {
        return None;
    }
    let from = Ipv4Addr::from(ip.destination).into();
    listen(
        body.get(header..)?,
        from,
        Ipv4Addr::from(ip.source).into(),
        room,
    )
}

fn answer_v6(received: &Received, body: &[u8], room: &mut [u8]) -> Option<usize> {
    let header = ipv6::Header::parse(body).ok()?;
    let message = body.get(ipv6::HEADER_LEN..header.total_len())?;
    if header.next_header == ipv4::TCP {
        let from = Ipv6Addr::from(header.destination).into();
        return listen(message, from, Ipv6Addr::from(header.source).into(), room);
    }
    let nd::Message::Solicitation { target, .. } = nd::Message::parse(header, message).ok()? else {
        return None;
    };
    // Whoever asks for his own address wants no answer.
    if header.source == [0; 16] || received.source == STATION {
        return None;
    }
    let advert = nd::Advertisement {
        target,
        mac: Some(STATION),
        router: false,
        solicited: true,
        overrides: true,
    };
    let packet = nd::advertisement(&advert, STATION, header.source);
    room.get_mut(..packet.len())?.copy_from_slice(&packet);
    Some(packet.len())
}

/// A listener's answer to a SYN.
fn listen(segment: &[u8], from: IpAddr, to: IpAddr, room: &mut [u8]) -> Option<usize> {
    let syn = tcp::Header::parse(segment)?;
    if !syn.flags().opens() {
        return None;
    }
    let content = Content {
        from: (from, syn.destination.get()),
        to: (to, syn.source.get()),
        tcp: Some((0, syn.sequence.get().wrapping_add(1), SYN_ACK)),
        ttl: DEFAULT_TTL,
    };
    content.write(room)
}
