//! Ethernet II headers and 802.1Q tags.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Frame;

/// A MAC address.
pub type Mac = [u8; 6];

/// All stations.
pub const BROADCAST: Mac = [0xff; 6];

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6 (RFC 2464 §3).
pub const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType (TPID) of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;

/// Shortest frame without FCS (IEEE 802.3 §4A.4.2); some MACs fill up shorter ones with what was in
/// their memory before.
pub const MIN_LEN: usize = 60;
/// Length of an untagged header.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Length of a tag.
pub const TAG_LEN: usize = 4;

/// Header of an untagged frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Who it is for.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    /// What follows.
    pub ethertype: U16,
}

/// Header of a frame with one 802.1Q tag.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TaggedHeader {
    /// Who it is for.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    tpid: U16,
    control: U16,
    /// What follows the tag.
    pub ethertype: U16,
}

impl TaggedHeader {
    /// The VLAN id without priority bits; 0 is a frame that carries only a priority.
    #[must_use]
    pub fn vlan(&self) -> u16 {
        self.control.get() & 0x0fff
    }
}

/// The part of a header that a receiver decides on, tag or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who it is for.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    /// VLAN id; `None` for untagged frames and those tagged with id 0 (802.1Q §6.9: priority only).
    pub vlan: Option<u16>,
    /// What the payload is.
    pub ethertype: u16,
    /// Where the payload begins.
    pub payload: usize,
}

/// Reads the header; `None` for a frame too short to have one.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Received> {
    let (header, _) = Header::ref_from_prefix(frame).ok()?;
    if header.ethertype.get() != VLAN {
        return Some(Received {
            destination: header.destination,
            source: header.source,
            vlan: None,
            ethertype: header.ethertype.get(),
            payload: HEADER_LEN,
        });
    }
    let (tagged, _) = TaggedHeader::ref_from_prefix(frame).ok()?;
    Some(Received {
        destination: tagged.destination,
        source: tagged.source,
        vlan: Some(tagged.vlan()).filter(|id| *id != 0),
        ethertype: tagged.ethertype.get(),
        payload: size_of::<TaggedHeader>(),
    })
}

/// Length of the header of a frame with or without a tag.
#[must_use]
pub fn header_len(vlan: Option<u16>) -> usize {
    if vlan.is_some() {
        size_of::<TaggedHeader>()
    } else {
        HEADER_LEN
    }
}

/// Writes a header to the front of `frame`; its length, or `None` without room.
pub fn write(
    frame: &mut [u8],
    destination: Mac,
    source: Mac,
    vlan: Option<u16>,
    ethertype: u16,
) -> Option<usize> {
    match vlan {
        None => {
            let header = Header {
                destination,
                source,
                ethertype: ethertype.into(),
            };
            header.write_to_prefix(frame).ok()?;
        }
        Some(id) => {
            let header = TaggedHeader {
                destination,
                source,
                tpid: VLAN.into(),
                control: (id & 0x0fff).into(),
                ethertype: ethertype.into(),
            };
            header.write_to_prefix(frame).ok()?;
        }
    }
    Some(header_len(vlan))
}

/// Gives a received frame another header, moving its front where a tag comes or goes; the payload
/// stays where it is. `false` without headroom.
pub fn rewrite(
    frame: &mut Frame<'_>,
    received: &Received,
    destination: Mac,
    source: Mac,
    vlan: Option<u16>,
) -> bool {
    let new = header_len(vlan);
    let moved = match new.checked_sub(received.payload) {
        Some(more) => frame.grow_front(more),
        None => frame.shrink_front(received.payload - new),
    };
    moved
        && write(
            frame.bytes_mut(),
            destination,
            source,
            vlan,
            received.ethertype,
        )
        .is_some()
}

/// Whether the group bit is set (broadcast included).
#[must_use]
pub fn is_multicast(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HEADROOM;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn what_is_written_is_read() {
        for vlan in [None, Some(1), Some(25), Some(4094)] {
            let mut frame = [0; 20];
            let payload = write(&mut frame, A, B, vlan, IPV4).unwrap();
            let expected = Received {
                destination: A,
                source: B,
                vlan,
                ethertype: IPV4,
                payload,
            };
            assert_eq!(parse(&frame), Some(expected));
        }
    }

    #[test]
    fn short_frames_have_no_header() {
        let mut frame = [0; 18];
        write(&mut frame, A, B, Some(7), IPV4).unwrap();
        for len in 0..18 {
            assert_eq!(parse(&frame[..len]), None, "{len}");
        }
        assert_eq!(write(&mut [0; 17], A, B, Some(7), IPV4), None);
        assert_eq!(write(&mut [0; 13], A, B, None, IPV4), None);
    }

    #[test]
    fn priority_tag_is_untagged() {
        let mut frame = [0; 18];
        write(&mut frame, A, B, Some(7), IPV4).unwrap();
        frame[14..16].copy_from_slice(&0xe000_u16.to_be_bytes());
        assert_eq!(parse(&frame).unwrap().vlan, None);
    }

    #[test]
    fn tags_come_and_go_without_moving_the_payload() {
        for (from, to) in [
            (None, None),
            (None, Some(21)),
            (Some(21), None),
            (Some(21), Some(22)),
        ] {
            let mut buffer = [0; 64];
            let start = HEADROOM;
            let payload = write(&mut buffer[start..], A, B, from, IPV4).unwrap();
            buffer[start + payload..start + payload + 3].copy_from_slice(b"abc");
            let mut frame = Frame::new(&mut buffer, start, payload + 3).unwrap();
            let received = parse(frame.bytes()).unwrap();
            assert!(rewrite(&mut frame, &received, B, A, to));
            let now = parse(frame.bytes()).unwrap();
            assert_eq!((now.destination, now.source, now.vlan), (B, A, to));
            assert_eq!(&frame.bytes()[now.payload..], b"abc");
        }
    }
}
