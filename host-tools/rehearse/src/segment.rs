//! TCP segments in Ethernet frames without tag.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
};

/// Source and destination of the frame's TCP segment, and the segment.
pub(crate) fn tcp(frame: &[u8]) -> Option<(IpAddr, IpAddr, TcpPacket<&[u8]>)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let (from, to, protocol, payload): (IpAddr, IpAddr, _, _) = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
            (from, to, packet.next_header(), packet.payload())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
            (from, to, packet.next_header(), packet.payload())
        }
        _ => return None,
    };
    let segment = TcpPacket::new_checked(payload).ok()?;
    (protocol == IpProtocol::Tcp).then_some((from, to, segment))
}

/// Who wants to open a connection, if the frame is a SYN.
///
/// A SYN that comes once more belongs to the connection that it has begun. smoltcp gives it to any socket that listens,
/// and the connection is reset: where several listen, such SYNs must be kept away. The answer to the first is sent again anyway.
pub(crate) fn opener(frame: &[u8]) -> Option<SocketAddr> {
    let (from, _, segment) = tcp(frame)?;
    let first = segment.syn() && !segment.ack();
    first.then(|| SocketAddr::new(from, segment.src_port()))
}
