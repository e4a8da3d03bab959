//! Knocks: half-open TCP connections to a service, which show that the whole path to a server works, not
//! just the appliance in front. A SYN is answered by the server's kernel; a RST ends it at once.

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::switch::Mac;

/// Who knocks where.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// MAC address of the one who knocks.
    pub from_mac: Mac,
    /// Address of the one who knocks.
    pub from: Ipv4Addr,
    /// MAC address of the virtual router.
    pub to_mac: Mac,
    /// The virtual address.
    pub to: Ipv4Addr,
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
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        if (packet.src_addr(), packet.dst_addr(), packet.next_header())
            != (self.to, self.from, IpProtocol::Tcp)
        {
            return None;
        }
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        let n = u32::from_be_bytes(segment.ack_number().0.to_be_bytes()).wrapping_sub(1);
        let ours = segment.src_port() == self.port && segment.dst_port() == port_of(n);
        (ours && segment.syn() && segment.ack()).then_some(n)
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
        let ip = Ipv4Repr {
            src_addr: self.from,
            dst_addr: self.to,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let checksums = ChecksumCapabilities::default();
        let header = EthernetFrame::<&[u8]>::header_len();
        let mut frame = vec![0; (header + ip.buffer_len() + tcp.buffer_len()).max(MIN_FRAME)];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        ethernet.set_src_addr(EthernetAddress(self.from_mac));
        ethernet.set_dst_addr(EthernetAddress(self.to_mac));
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        ip.emit(&mut packet, &checksums);
        let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
        tcp.emit(&mut segment, &self.from.into(), &self.to.into(), &checksums);
        frame
    }
}

/// Every knock comes from another port than the ones before it, so that each is a flow of its own.
fn port_of(n: u32) -> u16 {
    u16::try_from(2048 + n % 60_000).unwrap_or(2048)
}

const MIN_FRAME: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const DOOR: Door = Door {
        from_mac: [2, 0, 0, 0, 0, 1],
        from: Ipv4Addr::new(198, 51, 100, 255),
        to_mac: [0, 0, 0x5e, 0, 1, 10],
        to: Ipv4Addr::new(203, 0, 113, 10),
        port: 443,
    };

    #[test]
    fn a_knock_is_a_good_syn() {
        for n in [0, 1, 60_000, u32::MAX] {
            let frame = DOOR.knock(n);
            let ethernet = EthernetFrame::new_checked(&frame[..]).expect("ethernet");
            let packet = Ipv4Packet::new_checked(ethernet.payload()).expect("IPv4");
            assert!(packet.verify_checksum());
            let segment = TcpPacket::new_checked(packet.payload()).expect("TCP");
            assert!(segment.verify_checksum(&DOOR.from.into(), &DOOR.to.into()));
            assert!(segment.syn() && !segment.ack() && segment.dst_port() == 443);
        }
    }

    #[test]
    fn only_the_answer_to_a_knock_counts() {
        let server = Door {
            from: DOOR.to,
            from_mac: DOOR.to_mac,
            to: DOOR.from,
            to_mac: DOOR.from_mac,
            ..DOOR
        };
        let answer = |n: u32, edit: &dyn Fn(&mut TcpPacket<&mut [u8]>)| {
            let mut frame = server.knock(n);
            let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
            let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
            segment.set_src_port(443);
            segment.set_dst_port(port_of(n));
            segment.set_ack(true);
            segment.set_ack_number(TcpSeqNumber(i32::from_be_bytes(
                n.wrapping_add(1).to_be_bytes(),
            )));
            edit(&mut segment);
            DOOR.answered(&frame)
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
        assert_eq!(DOOR.answered(&DOOR.knock(7)), None, "our own");
        assert_eq!(DOOR.answered(&[]), None, "nothing");
    }
}
