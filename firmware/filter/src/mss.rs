//! The maximum segment size that SYNs announce, lowered to what the legs carry (RFC 4459 §3.2), since not every
//! path brings back the ICMP errors that tell a sender of a smaller MTU.

use wire::checksum::Delta;
use wire::tcp::{Flags, HEADER_LEN, Header};

/// Lowers the MSS option of a SYN or SYN-ACK to `most`; a SYN without the option stays as it is, for it means 536
/// (RFC 9293 §3.7.1).
pub fn clamp(tcp: &mut [u8], most: u16) {
    let Some(header) = Header::parse(tcp) else {
        return;
    };
    if !header.flags().contains(Flags::SYN) {
        return;
    }
    let end = header.header_len();
    let mut at = HEADER_LEN;
    while at < end {
        let size = match tcp.get(at..end) {
            Some([2, 4, high, low, ..]) => {
                let announced = u16::from_be_bytes([*high, *low]);
                if announced > most {
                    lower(tcp, at + 2, announced, most);
                }
                return;
            }
            Some([1, ..]) => 1,
            Some([kind, size, ..]) if *kind != 0 && *size >= 2 => usize::from(*size),
            _ => return,
        };
        at += size;
    }
}

fn lower(tcp: &mut [u8], at: usize, old: u16, new: u16) {
    if let Some(place) = tcp.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = new.to_be_bytes();
    }
    // Behind an odd number of bytes the value lies across two words (RFC 1071 §2 B).
    let delta = match at.is_multiple_of(2) {
        true => Delta::NONE.word(old, new),
        false => Delta::NONE.word(old.swap_bytes(), new.swap_bytes()),
    };
    if let Some(place) = tcp.get_mut(CHECKSUM..).and_then(<[u8]>::first_chunk_mut) {
        *place = delta.apply(u16::from_be_bytes(*place)).to_be_bytes();
    }
}

const CHECKSUM: usize = 16;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use wire::checksum;

    use super::*;

    /// A segment with a valid checksum (without pseudo-header) and these options.
    fn segment(flags: Flags, options: &[u8]) -> Vec<u8> {
        let mut tcp = std::vec![0_u8; HEADER_LEN];
        tcp.extend(options);
        tcp.resize(tcp.len().next_multiple_of(4), 0);
        tcp[12] = (tcp.len() as u8 / 4) << 4;
        tcp[13] = flags.0;
        let sum = checksum::of(&tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        tcp
    }

    #[test]
    fn only_larger_ones_of_syns_are_lowered() {
        let ack = Flags::SYN.with(Flags::ACK);
        let table = [
            (Flags::SYN, &[2, 4, 5, 180][..], &[2, 4, 4, 0][..]),
            (ack, &[1, 2, 4, 5, 180], &[1, 2, 4, 4, 0]),
            (
                ack,
                &[4, 2, 3, 3, 7, 2, 4, 5, 180],
                &[4, 2, 3, 3, 7, 2, 4, 4, 0],
            ),
            (Flags::SYN, &[2, 4, 3, 255], &[2, 4, 3, 255]),
            (Flags::SYN, &[0, 2, 4, 5, 180], &[0, 2, 4, 5, 180]),
            (Flags::SYN, &[5, 0, 2, 4, 5, 180], &[5, 0, 2, 4, 5, 180]),
            (Flags::SYN, &[], &[]),
            (Flags::ACK, &[2, 4, 5, 180], &[2, 4, 5, 180]),
        ];
        for (flags, options, expected) in table {
            let mut tcp = segment(flags, options);
            clamp(&mut tcp, 1024);
            assert_eq!(checksum::of(&tcp), 0, "{options:?}");
            assert_eq!(tcp[HEADER_LEN..][..expected.len()], *expected);
        }
    }

    proptest! {
        #[test]
        fn checksums_stay_valid(options in prop::collection::vec(0_u8..12, 0..40), most: u16) {
            let mut tcp = segment(Flags::SYN, &options);
            clamp(&mut tcp, most);
            prop_assert_eq!(checksum::of(&tcp), 0);
        }

        #[test]
        fn odd_segments_are_survived(mut tcp in prop::collection::vec(any::<u8>(), 0..64), most: u16) {
            clamp(&mut tcp, most);
        }
    }
}
