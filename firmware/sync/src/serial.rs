//! Datagrams on a serial line: consistent overhead byte stuffing (Cheshire and Baker, 1999), a zero behind each.

use cobs::CobsEncoder;

/// Longest datagram that goes over a serial line: hellos and heartbeats.
pub const MAX_SERIAL: usize = 128;
/// Longest frame of one.
pub const MAX_FRAME: usize = MAX_SERIAL + 2;

/// The frame of a datagram; nothing if that is too long.
#[must_use]
pub fn frame(datagram: &[u8]) -> Option<heapless::Vec<u8, MAX_FRAME>> {
    if datagram.len() > MAX_SERIAL {
        return None;
    }
    let mut frame = heapless::Vec::new();
    frame.resize_default(MAX_FRAME).ok()?;
    let mut encoder = CobsEncoder::new(&mut frame);
    encoder.push(datagram).ok()?;
    let len = encoder.finalize();
    frame.truncate(len);
    frame.push(0).ok()?;
    Some(frame)
}

/// Finds datagrams among a line's bytes. What is damaged ends at the next zero.
#[derive(Debug)]
pub struct Deframer {
    buffer: [u8; MAX_FRAME],
    len: usize,
}

impl Deframer {
    /// Nothing was heard yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buffer: [0; MAX_FRAME],
            len: 0,
        }
    }

    /// Takes one byte; the datagram that it ends.
    pub fn push(&mut self, byte: u8) -> Option<&mut [u8]> {
        if byte != 0 {
            if let Some(place) = self.buffer.get_mut(self.len) {
                *place = byte;
            }
            // One more than there is room for: too long, whatever follows.
            self.len = (self.len + 1).min(MAX_FRAME + 1);
            return None;
        }
        let len = core::mem::take(&mut self.len);
        let frame = self.buffer.get_mut(..len)?;
        let len = cobs::decode_in_place(frame).ok()?;
        self.buffer.get_mut(..len).filter(|bytes| !bytes.is_empty())
    }
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn heard(deframer: &mut Deframer, bytes: &[u8]) -> Vec<Vec<u8>> {
        let bytes = bytes.iter();
        bytes
            .filter_map(|byte| deframer.push(*byte).map(|datagram| datagram.to_vec()))
            .collect()
    }

    #[test]
    fn too_long() {
        assert!(frame(&[1; MAX_SERIAL]).is_some());
        assert!(frame(&[1; MAX_SERIAL + 1]).is_none());
        let mut deframer = Deframer::new();
        assert_eq!(heard(&mut deframer, &[1; 1000]), Vec::<Vec<u8>>::new());
        assert_eq!(heard(&mut deframer, &[0, 2, 9, 0]), [[9]]);
    }

    proptest! {
        /// Whatever came before, after a zero everything arrives.
        #[test]
        fn frames_arrive(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            datagrams in prop::collection::vec(prop::collection::vec(0_u8..3, 1..=MAX_SERIAL), 1..5),
        ) {
            let mut deframer = Deframer::new();
            heard(&mut deframer, &noise);
            heard(&mut deframer, &[0]);
            let frames: Vec<u8> = datagrams.iter().flat_map(|datagram| frame(datagram).unwrap()).collect();
            prop_assert_eq!(heard(&mut deframer, &frames), datagrams);
        }
    }
}
