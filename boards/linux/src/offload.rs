//! What the kernel leaves undone in frames that never were on a cable: TCP and UDP checksums, and the
//! cutting of TCP data into segments. Without this, connections with a local peer (a veth pair, a
//! container) would carry wrong checksums and frames that are too long.

use std::collections::VecDeque;

use crate::sys::VNET_HEADER;

/// What has to be done to a received frame (`struct virtio_net_hdr`, linux/virtio_net.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Nothing.
    None,
    /// Sum up from `start` to the end, and store the result `offset` bytes after it.
    Checksum {
        /// Where the transport header begins.
        start: usize,
        /// The checksum's place in it.
        offset: usize,
    },
    /// Cut into IPv4 TCP segments of `size` data bytes.
    TcpSegments {
        /// Data bytes of each segment.
        size: usize,
    },
    /// A kind of merged frame that the appliance does not forward (IPv6, UDP).
    Unknown,
}

impl Offload {
    /// Reads the header in front of a frame; its numbers are in the machine's byte order.
    pub fn parse(header: &[u8; VNET_HEADER]) -> Self {
        let field = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
        let (flags, segmentation) = (header[0], header[1] & !ECN);
        match segmentation {
            0 if flags & NEEDS_CHECKSUM == 0 => Self::None,
            0 => Self::Checksum {
                start: field(6),
                offset: field(8),
            },
            TCP_V4 if field(4) > 0 => Self::TcpSegments { size: field(4) },
            _ => Self::Unknown,
        }
    }
}

/// Completes a checksum whose field holds the sum of the pseudo header.
pub fn complete_checksum(frame: &mut [u8], start: usize, offset: usize) {
    let Some(body) = frame.get_mut(start..) else {
        return;
    };
    let sum = !fold(sum(body));
    // Zero means "none" to UDP (RFC 768); for TCP both forms of zero are valid.
    let sum = if sum == 0 { 0xffff } else { sum };
    if let Some(field) = body.get_mut(offset..offset + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Cuts an IPv4 TCP frame (with or without one VLAN tag) into frames of at most `size` data bytes.
/// `None` if it is something else.
pub fn segment(frame: &[u8], size: usize) -> Option<VecDeque<Vec<u8>>> {
    let ip = match frame.get(12..14)? {
        [0x08, 0x00] => 14,
        [0x81, 0x00] if frame.get(16..18)? == [0x08, 0x00] => 18,
        _ => return None,
    };
    let header = frame.get(ip..ip + 20)?;
    let (ip_len, total) = (4 * usize::from(header[0] & 15), be16(&header[2..]));
    if header[9] != PROTOCOL_TCP || ip_len < 20 {
        return None;
    }
    let tcp = ip + ip_len;
    let tcp_len = 4 * usize::from(frame.get(tcp + 12)? >> 4);
    let data = frame.get(tcp + tcp_len..ip + usize::from(total))?;
    if tcp_len < 20 {
        return None;
    }
    let id = be16(&header[4..]);
    let sequence = u32::from_be_bytes(frame.get(tcp + 4..tcp + 8)?.try_into().ok()?);
    let flags = frame[tcp + 13];
    let count = data.len().div_ceil(size).max(1);
    let segments = data.chunks(size).enumerate().map(|(i, chunk)| {
        let mut out = frame[..tcp + tcp_len].to_vec();
        out.extend_from_slice(chunk);
        let ip_total = (ip_len + tcp_len + chunk.len()) as u16;
        put16(&mut out, ip + 2, ip_total);
        put16(&mut out, ip + 4, id.wrapping_add(i as u16));
        put16(&mut out, ip + 10, 0);
        let ip_sum = !fold(sum(&out[ip..tcp]));
        put16(&mut out, ip + 10, ip_sum);
        let at = sequence.wrapping_add((i * size) as u32);
        out[tcp + 4..tcp + 8].copy_from_slice(&at.to_be_bytes());
        let mut own = flags;
        if i > 0 {
            own &= !CWR;
        }
        if i + 1 < count {
            own &= !(FIN | PSH);
        }
        out[tcp + 13] = own;
        put16(&mut out, tcp + 16, 0);
        let pseudo =
            sum(&out[ip + 12..ip + 20]) + u64::from(PROTOCOL_TCP) + (tcp_len + chunk.len()) as u64;
        let tcp_sum = !fold(pseudo + sum(&out[tcp..]));
        put16(&mut out, tcp + 16, tcp_sum);
        out
    });
    Some(segments.collect())
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let odd = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)))
        .sum::<u64>()
        + odd
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

const NEEDS_CHECKSUM: u8 = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
const TCP_V4: u8 = 1; // VIRTIO_NET_HDR_GSO_TCPV4
const ECN: u8 = 0x80; // VIRTIO_NET_HDR_GSO_ECN
const PROTOCOL_TCP: u8 = 6;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_says_what_to_do() {
        let header = |flags, kind, size: u16, start: u16, offset: u16| {
            let mut bytes = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
            for (at, value) in [(4, size), (6, start), (8, offset)] {
                bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
            }
            bytes
        };
        let table = [
            ("plain", header(0, 0, 0, 0, 0), Offload::None),
            (
                "checksum",
                header(1, 0, 0, 34, 16),
                Offload::Checksum {
                    start: 34,
                    offset: 16,
                },
            ),
            (
                "TCPv4",
                header(1, 1, 1448, 34, 16),
                Offload::TcpSegments { size: 1448 },
            ),
            (
                "TCPv4 + ECN",
                header(1, 0x81, 1448, 34, 16),
                Offload::TcpSegments { size: 1448 },
            ),
            ("TCPv6", header(1, 4, 1428, 54, 16), Offload::Unknown),
            ("size zero", header(1, 1, 0, 34, 16), Offload::Unknown),
        ];
        for (name, bytes, expected) in table {
            assert_eq!(Offload::parse(&bytes), expected, "{name}");
        }
    }

    #[test]
    fn segments_add_up_to_the_whole() {
        for (tagged, flags) in [(false, CWR | PSH | 0x10), (true, FIN | 0x10)] {
            let data: Vec<u8> = (0..250u8).collect();
            let frame = merged(tagged, flags, &data);
            let segments = segment(&frame, 100).unwrap();
            let ip = if tagged { 18 } else { 14 };
            assert_eq!(segments.len(), 3);
            let mut joined = Vec::new();
            for (i, out) in segments.iter().enumerate() {
                assert_eq!(out[..ip], frame[..ip], "same addresses and tag");
                assert_eq!(fold(sum(&out[ip..ip + 20])), 0xffff, "IP checksum of {i}");
                let tcp = &out[ip + 20..];
                let pseudo = sum(&out[ip + 12..ip + 20]) + 6 + tcp.len() as u64;
                assert_eq!(fold(pseudo + sum(tcp)), 0xffff, "TCP checksum of {i}");
                assert_eq!(usize::from(be16(&out[ip + 2..])), out.len() - ip);
                assert_eq!(be16(&out[ip + 4..]), 0xffff_u16.wrapping_add(i as u16));
                let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
                assert_eq!(sequence, 0xffff_ffc0_u32.wrapping_add(100 * i as u32));
                assert_eq!(tcp[13] & CWR != 0, i == 0 && flags & CWR != 0, "CWR of {i}");
                let last = flags & (FIN | PSH);
                assert_eq!(
                    tcp[13] & (FIN | PSH),
                    if i == 2 { last } else { 0 },
                    "flags of {i}"
                );
                joined.extend_from_slice(&tcp[20..]);
            }
            assert_eq!(joined, data);
        }
    }

    #[test]
    fn anything_else_is_no_segments() {
        let good = merged(false, 0x10, &[0; 200]);
        for (name, at, value) in [
            ("IPv6", 12, 0x86),
            ("UDP", 23, 17),
            ("short IP header", 14, 0x44),
            ("length beyond the frame", 16, 0xff),
            ("short TCP header", 46, 0x40),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(segment(&bad, 100), None, "{name}");
        }
        for len in 0..54 {
            assert_eq!(segment(&good[..len], 100), None, "{len} bytes");
        }
    }

    #[test]
    fn checksum_is_completed_in_place() {
        // The field holds the pseudo header's sum; afterwards everything sums up to all ones.
        let mut frame = [0x55; 40];
        frame[30..32].copy_from_slice(&0x1234_u16.to_be_bytes());
        complete_checksum(&mut frame, 20, 10);
        let without_field = sum(&frame[20..]);
        assert_eq!(fold(without_field + 0x1234), 0xffff);
        complete_checksum(&mut frame, 41, 0); // beyond the end: nothing happens
        complete_checksum(&mut frame, 39, 1);
    }

    fn merged(tagged: bool, flags: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if tagged {
            frame.extend([0x81, 0x00, 0x00, 0x15]);
        }
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((40 + data.len() as u16).to_be_bytes());
        frame.extend([0xff, 0xff, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x9c, 0x40, 0x01, 0xbb]);
        frame.extend(0xffff_ffc0_u32.to_be_bytes());
        frame.extend([0, 0, 0, 9, 0x50, flags, 1, 0, 0xab, 0xcd, 0, 0]);
        frame.extend(data);
        frame
    }
}
