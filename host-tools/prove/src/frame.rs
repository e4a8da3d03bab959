//! Packets as bytes: what a machine puts on the cable, and what comes out of an appliance.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet,
    Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpPacket, TcpSeqNumber, UdpPacket,
};
use wire::ethernet::{self, Mac};

use crate::packet::{Packet, Version, flags, protocol};

/// Where a TCP segment stands in its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of its first byte.
    pub sequence: u32,
    /// Of the byte that is expected next.
    pub acknowledgment: u32,
}

/// The IP packet that a machine sends.
#[must_use]
pub fn bytes(packet: &Packet, numbers: Numbers) -> Vec<u8> {
    let body = body(packet, numbers);
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Repr {
                src_addr: source,
                dst_addr: destination,
                next_header: packet.protocol.into(),
                payload_len: body.len(),
                hop_limit: packet.hops,
            };
            let mut bytes = vec![0; header.buffer_len()];
            let mut front = Ipv4Packet::new_unchecked(&mut bytes);
            header.emit(&mut front, &ChecksumCapabilities::default());
            [bytes, body].concat()
        }
        (source, destination) => {
            let header = Ipv6Repr {
                src_addr: six(source),
                dst_addr: six(destination),
                next_header: packet.protocol.into(),
                payload_len: body.len(),
                hop_limit: packet.hops,
            };
            let mut bytes = vec![0; header.buffer_len()];
            header.emit(&mut Ipv6Packet::new_unchecked(&mut bytes));
            [bytes, body].concat()
        }
    }
}

/// The same as a frame from one station to another.
#[must_use]
pub fn ethernet(packet: &[u8], from: Mac, to: Mac, vlan: Option<u16>) -> Vec<u8> {
    let ethertype = match packet.first().map(|byte| byte >> 4) {
        Some(6) => ethernet::IPV6,
        _ => ethernet::IPV4,
    };
    let header = ethernet::header_len(vlan);
    let mut frame = vec![0; header];
    // As long as the header that is written into it.
    let _ = ethernet::write(&mut frame, to, from, vlan, ethertype);
    frame.extend(packet);
    frame.resize(frame.len().max(ethernet::MIN_LEN), 0);
    frame
}

/// Reads a packet that an appliance let out, or made.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Packet> {
    let (ends, protocol, hops, transport) = match bytes.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(bytes).ok()?;
            let ends = (ip.src_addr().into(), ip.dst_addr().into());
            let body = usize::from(ip.header_len())..usize::from(ip.total_len());
            (ends, ip.next_header(), ip.hop_limit(), body)
        }
        6 => {
            let ip = Ipv6Packet::new_checked(bytes).ok()?;
            let ends: (IpAddr, IpAddr) = (ip.src_addr().into(), ip.dst_addr().into());
            let body = ip.header_len()..ip.total_len();
            (ends, ip.next_header(), ip.hop_limit(), body)
        }
        _ => return None,
    };
    let transport = bytes.get(transport)?;
    let mut packet = Packet {
        source: ends.0,
        destination: ends.1,
        protocol: protocol.into(),
        source_port: 0,
        destination_port: 0,
        flags: 0,
        hops,
    };
    match packet.protocol {
        protocol::TCP => {
            let tcp = TcpPacket::new_checked(transport).ok()?;
            packet.source_port = tcp.src_port();
            packet.destination_port = tcp.dst_port();
            let set = [tcp.fin(), tcp.syn(), tcp.rst(), tcp.ack()];
            packet.flags = (flags::NAMES.iter().zip(set))
                .filter(|(_, set)| *set)
                .fold(0, |all, ((bit, _), _)| all | bit);
        }
        protocol::UDP => {
            let udp = UdpPacket::new_checked(transport).ok()?;
            packet.source_port = udp.src_port();
            packet.destination_port = udp.dst_port();
        }
        protocol::ICMP | protocol::ICMP6 => {
            let [kind, code, _, _, high, low, ..] = *transport else {
                return None;
            };
            packet.source_port = u16::from_be_bytes([high, low]);
            packet.destination_port = u16::from_be_bytes([kind, code]);
        }
        _ => {}
    }
    Some(packet)
}

/// Header and data of the transport, with its checksum.
fn body(packet: &Packet, numbers: Numbers) -> Vec<u8> {
    let (source, destination) = (
        IpAddress::from(packet.source),
        IpAddress::from(packet.destination),
    );
    match packet.protocol {
        protocol::TCP => {
            let mut bytes = vec![0; TCP_HEADER];
            let mut tcp = TcpPacket::new_unchecked(&mut bytes);
            tcp.set_src_port(packet.source_port);
            tcp.set_dst_port(packet.destination_port);
            tcp.set_seq_number(TcpSeqNumber(numbers.sequence.cast_signed()));
            tcp.set_header_len(TCP_HEADER as u8);
            tcp.set_window_len(WINDOW);
            tcp.set_fin(packet.flags & flags::FIN != 0);
            tcp.set_syn(packet.flags & flags::SYN != 0);
            tcp.set_rst(packet.flags & flags::RST != 0);
            tcp.set_ack(packet.flags & flags::ACK != 0);
            if packet.flags & flags::ACK != 0 {
                tcp.set_ack_number(TcpSeqNumber(numbers.acknowledgment.cast_signed()));
            }
            tcp.fill_checksum(&source, &destination);
            bytes
        }
        protocol::UDP => {
            let mut bytes = [&[0; UDP_HEADER][..], DATA].concat();
            let len = bytes.len() as u16;
            let mut udp = UdpPacket::new_unchecked(&mut bytes);
            udp.set_src_port(packet.source_port);
            udp.set_dst_port(packet.destination_port);
            udp.set_len(len);
            udp.fill_checksum(&source, &destination);
            bytes
        }
        protocol::ICMP | protocol::ICMP6 => {
            let [kind, code] = packet.destination_port.to_be_bytes();
            let [high, low] = packet.source_port.to_be_bytes();
            let mut bytes = [&[kind, code, 0, 0, high, low, 0, 1][..], DATA].concat();
            match (packet.version(), packet.protocol) {
                (Version::V4, protocol::ICMP) => {
                    let mut icmp = Icmpv4Packet::new_unchecked(&mut bytes);
                    icmp.set_msg_type(Icmpv4Message::from(kind));
                    icmp.fill_checksum();
                }
                (Version::V6, protocol::ICMP6) => {
                    let mut icmp = Icmpv6Packet::new_unchecked(&mut bytes);
                    icmp.set_msg_type(Icmpv6Message::from(kind));
                    icmp.fill_checksum(&six(packet.source), &six(packet.destination));
                }
                // Of the other version: nobody reads it.
                (Version::V4 | Version::V6, _) => {}
            }
            bytes
        }
        other => {
            debug_assert_eq!(u8::from(IpProtocol::from(other)), other);
            DATA.to_vec()
        }
    }
}

fn six(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// What UDP datagrams, pings and unknown protocols carry.
const DATA: &[u8] = b"ravelin!";
const WINDOW: u16 = 0xfaf0;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::packet;

    #[test]
    fn what_is_sent_is_read_alike() {
        for text in [
            "tcp 198.51.100.7:40000 -> 203.0.113.10:443",
            "tcp [2001:db8::7]:40000 -> [2001:db8::8]:443 flags fin,ack",
            "udp 198.51.100.7:53 -> 203.0.113.10:53",
            "udp [2001:db8::7]:53 -> [2001:db8::8]:53",
            "ping 198.51.100.7 -> 10.20.1.11",
            "ping 2001:db8::7 -> 2001:db8::8",
            "icmp 198.51.100.7 -> 10.20.1.11 type 3 code 1",
            "icmp6 2001:db8::7 -> 2001:db8::8 type 1 code 4",
            "protocol 47 198.51.100.7 -> 10.20.1.11",
        ] {
            let packet = packet(text, |_| Vec::new()).expect(text);
            let bytes = bytes(&packet, Numbers::default());
            assert_eq!(read(&bytes), Some(packet), "{text}");
        }
    }

    /// The appliance takes them: lengths and checksums are right.
    #[test]
    fn the_device_reads_them_alike() {
        let four = packet("tcp 198.51.100.7:40000 -> 203.0.113.10:443 ttl 9", |_| {
            Vec::new()
        });
        let bytes = bytes(&four.expect("a packet"), Numbers::default());
        let read = filter::parse_v4(&bytes).expect("a good packet");
        assert_eq!((read.ttl, usize::from(read.len)), (9, bytes.len()));
        assert_eq!(
            (read.tuple.source_port(), read.tuple.destination_port()),
            (40_000, 443)
        );
    }
}
