//! Knocks: half-open TCP connections to a service, which show that the whole path to a server works, not
//! just the appliance in front. A SYN is answered by the server's kernel; a RST ends it at once.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, IpRepr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber,
};

use crate::segment;
use crate::switch::Mac;

/// Who knocks where.
#[derive(Clone, Debug)]
pub struct Door {
    /// MAC address of those who knock.
    pub from_mac: Mac,
    /// Their addresses, of the same version of IP as `to`: one after the other knocks, so that no limit of a
    /// single source is met. There is at least one.
    pub from: Vec<IpAddr>,
    /// MAC address of the virtual router.
    pub to_mac: Mac,
    /// The virtual address.
    pub to: IpAddr,
    /// The service's port.
    pub port: u16,
}

impl Door {
    /// The frame of knock number `n`.
    #[must_use]
    pub fn knock(&self, n: u32) -> Vec<u8> {
        self.segment(n, TcpControl::Syn, n)
    }

    /// The frame that takes knock `n` back after its answer.
    #[must_use]
    pub fn take_back(&self, n: u32) -> Vec<u8> {
        self.segment(n, TcpControl::Rst, n.wrapping_add(1))
    }

    /// The number of the knock that `frame` answers.
    #[must_use]
    pub fn answered(&self, frame: &[u8]) -> Option<u32> {
        let (from, to, segment) = segment::tcp(frame)?;
        let n = u32::from_be_bytes(segment.ack_number().0.to_be_bytes()).wrapping_sub(1);
        let ports = (segment.src_port(), segment.dst_port()) == (self.port, port_of(n));
        let ours = ports && (from, to) == (self.to, self.client(n));
        (ours && segment.syn() && segment.ack()).then_some(n)
    }

    /// Who knocks for the `n`th time.
    fn client(&self, n: u32) -> IpAddr {
        self.from[n as usize % self.from.len()]
    }

    fn segment(&self, n: u32, control: TcpControl, sequence: u32) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: port_of(n),
            dst_port: self.port,
            control,
            seq_number: TcpSeqNumber(i32::from_be_bytes(sequence.to_be_bytes())),
            ack_number: None,
            window_len: 1024,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (from, to) = (self.client(n).into(), self.to.into());
        let ip = IpRepr::new(from, to, IpProtocol::Tcp, tcp.buffer_len(), HOP_LIMIT);
        let checksums = ChecksumCapabilities::default();
        let header = EthernetFrame::<&[u8]>::header_len();
        let mut frame = vec![0; (header + ip.buffer_len()).max(MIN_FRAME)];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        ethernet.set_src_addr(EthernetAddress(self.from_mac));
        ethernet.set_dst_addr(EthernetAddress(self.to_mac));
        ethernet.set_ethertype(match self.to {
            IpAddr::V4(_) => EthernetProtocol::Ipv4,
            IpAddr::V6(_) => EthernetProtocol::Ipv6,
        });
        let packet = ethernet.payload_mut();
        ip.emit(&mut *packet, &checksums);
        let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..ip.buffer_len()]);
        tcp.emit(&mut segment, &from, &to, &checksums);
        frame
    }
}

/// Every knock comes from another port than the ones before it, so that each is a flow of its own. Ports of other
/// connections are higher.
fn port_of(n: u32) -> u16 {
    u16::try_from(2048 + n % 16_000).unwrap_or(2048)
}

const HOP_LIMIT: u8 = 64;
const MIN_FRAME: usize = 60;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

    use super::*;

    fn doors() -> [Door; 2] {
        let door = |from: &[&str], to: &str, to_mac| Door {
            from_mac: [2, 0, 0, 0, 0, 1],
            from: from.iter().map(|from| address(from)).collect(),
            to_mac,
            to: address(to),
            port: 443,
        };
        [
            door(
                &["198.51.100.1", "198.51.100.2", "198.51.100.3"],
                "203.0.113.10",
                [0, 0, 0x5e, 0, 1, 10],
            ),
            door(
                &["2001:db8:c:100::1", "2001:db8:c:200::1"],
                "2001:db8:0:1::10",
                [0, 0, 0x5e, 0, 2, 10],
            ),
        ]
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Where the TCP segment begins.
    fn segment_at(door: &Door) -> usize {
        match door.to {
            IpAddr::V4(_) => 14 + 20,
            IpAddr::V6(_) => 14 + 40,
        }
    }

    #[test]
    fn a_knock_is_a_good_syn() {
        for door in doors() {
            for n in [0, 1, 60_000, u32::MAX] {
                let frame = door.knock(n);
                let ethernet = EthernetFrame::new_checked(&frame[..]).expect("ethernet");
                match door.to {
                    IpAddr::V4(_) => {
                        let packet = Ipv4Packet::new_checked(ethernet.payload()).expect("IPv4");
                        assert!(packet.verify_checksum());
                    }
                    IpAddr::V6(_) => {
                        let packet = Ipv6Packet::new_checked(ethernet.payload()).expect("IPv6");
                        assert_eq!(IpAddr::from(packet.dst_addr()), door.to);
                    }
                }
                let segment =
                    TcpPacket::new_checked(&frame[segment_at(&door)..][..20]).expect("TCP");
                assert!(segment.verify_checksum(&door.client(n).into(), &door.to.into()));
                assert!(segment.syn() && !segment.ack() && segment.dst_port() == 443);
            }
            assert_ne!(door.client(0), door.client(1), "they take turns");
            let opener = SocketAddr::new(door.client(7), port_of(7));
            assert_eq!(segment::opener(&door.knock(7)), Some(opener));
            assert_eq!(segment::opener(&door.take_back(7)), None);
        }
    }

    #[test]
    fn only_the_answer_to_a_knock_counts() {
        for door in doors() {
            let answer = |n: u32, edit: &dyn Fn(&mut TcpPacket<&mut [u8]>)| {
                let server = Door {
                    from: vec![door.to],
                    to: door.client(n),
                    ..door.clone()
                };
                let mut frame = server.knock(n);
                let mut segment = TcpPacket::new_unchecked(&mut frame[segment_at(&door)..]);
                segment.set_src_port(443);
                segment.set_dst_port(port_of(n));
                segment.set_ack(true);
                segment.set_ack_number(TcpSeqNumber(i32::from_be_bytes(
                    n.wrapping_add(1).to_be_bytes(),
                )));
                edit(&mut segment);
                door.answered(&frame)
            };
            for n in [0, 1, 60_000, u32::MAX] {
                assert_eq!(answer(n, &|_| {}), Some(n));
            }
            assert_eq!(
                answer(7, &|segment| segment.set_ack(false)),
                None,
                "no answer"
            );
            assert_eq!(
                answer(7, &|segment| segment.set_syn(false)),
                None,
                "refused"
            );
            assert_eq!(
                answer(7, &|segment| segment.set_src_port(80)),
                None,
                "another service"
            );
            assert_eq!(
                answer(7, &|segment| segment.set_dst_port(1)),
                None,
                "another knock"
            );
            assert_eq!(door.answered(&door.knock(7)), None, "our own");
            assert_eq!(door.answered(&[]), None, "nothing");
        }
    }
}
