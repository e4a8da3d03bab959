//! Frames, built and checked by smoltcp.

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv4Packet, Icmpv4Repr, IpAddress,
    IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

/// A MAC address.
pub type Mac = [u8; 6];

/// Everyone on the link.
pub const BROADCAST: Mac = [0xff; 6];
/// Type of an ARP packet.
pub const ARP: u16 = 0x0806;
/// Type of an IPv4 packet.
pub const IPV4: u16 = 0x0800;

/// An Ethernet frame, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its 802.1Q tag's VLAN.
    pub vlan: Option<u16>,
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// What the payload is.
    pub kind: u16,
    /// All that follows, padding included.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Takes a frame apart.
    ///
    /// # Panics
    /// If it is too short for its headers.
    pub fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mac = |at: usize| bytes[at..at + 6].try_into().expect("six bytes");
        let (vlan, kind, payload) = match word(12) {
            0x8100 => (Some(word(14) & 0xfff), word(16), &bytes[18..]),
            kind => (None, kind, &bytes[14..]),
        };
        Self {
            vlan,
            destination: mac(0),
            source: mac(6),
            kind,
            payload: payload.to_vec(),
        }
    }

    /// The frame as it is on the cable.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.destination, self.source].concat();
        if let Some(vlan) = self.vlan {
            bytes.extend([0x81, 0x00]);
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The ARP message in it.
    pub fn arp(&self) -> Option<ArpRepr> {
        let packet =
            (self.kind == ARP).then(|| ArpPacket::new_checked(&self.payload[..]).ok())??;
        ArpRepr::parse(&packet).ok()
    }

    /// The IPv4 packet in it, if its header is right: the header and the payload.
    pub fn ipv4(&self) -> Option<(Ipv4Repr, u8, &[u8])> {
        let packet =
            (self.kind == IPV4).then(|| Ipv4Packet::new_checked(&self.payload[..]).ok())??;
        let repr = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).ok()?;
        let start = usize::from(packet.header_len());
        Some((
            repr,
            packet.hop_limit(),
            &self.payload[start..usize::from(packet.total_len())],
        ))
    }

    /// The TCP segment in it, if all its checksums are right, with both addresses.
    pub fn tcp(&self) -> Option<(Ipv4Addr, Ipv4Addr, TcpRepr<'_>)> {
        let (ip, _, payload) = self.ipv4()?;
        let packet = TcpPacket::new_checked(payload)
            .ok()
            .filter(|_| ip.next_header == IpProtocol::Tcp)?;
        let (from, to) = (IpAddress::Ipv4(ip.src_addr), IpAddress::Ipv4(ip.dst_addr));
        let repr = TcpRepr::parse(&packet, &from, &to, &ChecksumCapabilities::default()).ok()?;
        // The borrow of `packet` cannot outlive this function; segments of the tests carry no data.
        let repr = TcpRepr {
            payload: &[],
            ..repr
        };
        Some((ip.src_addr, ip.dst_addr, repr))
    }
}

/// An ARP message; `to` is where the frame goes.
pub fn arp(
    vlan: Option<u16>,
    operation: ArpOperation,
    from: (Mac, Ipv4Addr),
    to: (Mac, Ipv4Addr),
) -> Frame {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(from.0),
        source_protocol_addr: from.1,
        target_hardware_addr: EthernetAddress(if operation == ArpOperation::Request {
            [0; 6]
        } else {
            to.0
        }),
        target_protocol_addr: to.1,
    };
    let mut payload = vec![0; repr.buffer_len().max(46)];
    repr.emit(&mut ArpPacket::new_unchecked(&mut payload));
    Frame {
        vlan,
        destination: to.0,
        source: from.0,
        kind: ARP,
        payload,
    }
}

/// An ICMP echo request with this data.
pub fn ping(vlan: Option<u16>, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), data: &[u8]) -> Frame {
    let repr = Icmpv4Repr::EchoRequest {
        ident: 0x2143,
        seq_no: 7,
        data,
    };
    let mut payload = vec![0; repr.buffer_len()];
    repr.emit(
        &mut Icmpv4Packet::new_unchecked(&mut payload[..]),
        &ChecksumCapabilities::default(),
    );
    ipv4(vlan, from, to, IpProtocol::Icmp, &payload)
}

/// A TCP segment without data.
pub fn tcp(
    vlan: Option<u16>,
    from: (Mac, Ipv4Addr, u16),
    to: (Mac, Ipv4Addr, u16),
    control: TcpControl,
    acknowledge: Option<TcpSeqNumber>,
) -> Frame {
    let repr = TcpRepr {
        src_port: from.2,
        dst_port: to.2,
        control,
        seq_number: TcpSeqNumber(0x0102_0304),
        ack_number: acknowledge,
        window_len: 0x4000,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut payload = vec![0; repr.buffer_len()];
    let (source, destination) = (IpAddress::Ipv4(from.1), IpAddress::Ipv4(to.1));
    let mut packet = TcpPacket::new_unchecked(&mut payload[..]);
    repr.emit(
        &mut packet,
        &source,
        &destination,
        &ChecksumCapabilities::default(),
    );
    ipv4(
        vlan,
        (from.0, from.1),
        (to.0, to.1),
        IpProtocol::Tcp,
        &payload,
    )
}

fn ipv4(
    vlan: Option<u16>,
    from: (Mac, Ipv4Addr),
    to: (Mac, Ipv4Addr),
    protocol: IpProtocol,
    content: &[u8],
) -> Frame {
    let repr = Ipv4Repr {
        src_addr: from.1,
        dst_addr: to.1,
        next_header: protocol,
        payload_len: content.len(),
        hop_limit: 64,
    };
    let mut payload = vec![0; repr.buffer_len()];
    repr.emit(
        &mut Ipv4Packet::new_unchecked(&mut payload[..]),
        &ChecksumCapabilities::default(),
    );
    payload.extend(content);
    Frame {
        vlan,
        destination: to.0,
        source: from.0,
        kind: IPV4,
        payload,
    }
}
