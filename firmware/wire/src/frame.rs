//! An Ethernet frame inside a larger buffer, so that a VLAN tag can come and go without copying the rest.

/// Bytes a driver leaves free before a received frame: 4 for a VLAN tag, 2 so that the IP header of an
/// untagged frame is 4-byte aligned when the buffer is.
pub const HEADROOM: usize = 6;

/// A frame at `start..start + len` of a buffer. Without FCS.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    len: usize,
}

impl<'a> Frame<'a> {
    /// A frame of `len` bytes that begins at `start`; `None` if it does not fit the buffer.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize) -> Option<Self> {
        (start.checked_add(len)? <= buffer.len()).then_some(Self { buffer, start, len })
    }

    /// The frame's bytes, from destination MAC to the end of the payload.
    #[must_use]
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        self.buffer
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    /// The frame's bytes, to change in place.
    #[must_use]
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer
            .get_mut(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    /// The buffer from byte `at` of the frame on, beyond its end: for what is written over the frame and may be longer. See
    /// [`Self::resize`].
    pub fn room(&mut self, at: usize) -> &mut [u8] {
        self.buffer.get_mut(self.start + at..).unwrap_or_default()
    }

    /// Lets the frame be its first `len` bytes, as far as the buffer has them.
    pub fn resize(&mut self, len: usize) {
        self.len = len.min(self.buffer.len().saturating_sub(self.start));
    }

    /// What lies in the buffer before byte `at` of the frame, headroom included, and the frame from there on.
    #[inline(always)]
    pub fn split(&mut self, at: usize) -> Option<(&mut [u8], &mut [u8])> {
        let buffer = self.buffer.get_mut(..self.start + self.len)?;
        buffer.split_at_mut_checked(self.start + at)
    }

    /// Lets the frame be `header` bytes before its byte `at`, and `len` bytes from there on, filled up with zeros to `least`
    /// bytes in all as far as the buffer has room. `false` (and no change) without that headroom.
    #[inline(always)]
    pub fn reframe(&mut self, at: usize, header: usize, len: usize, least: usize) -> bool {
        let Some(start) = (self.start + at).checked_sub(header) else {
            return false;
        };
        self.start = start;
        self.len = header + len;
        if self.len < least {
            self.pad(least);
        }
        true
    }

    /// Moves the beginning by `n` bytes towards the front; `false` (and no change) without that headroom.
    pub fn grow_front(&mut self, n: usize) -> bool {
        if n > self.start {
            return false;
        }
        self.start -= n;
        self.len += n;
        true
    }

    /// Drops the first `n` bytes; `false` (and no change) if there are fewer.
    pub fn shrink_front(&mut self, n: usize) -> bool {
        if n > self.len {
            return false;
        }
        self.start += n;
        self.len -= n;
        true
    }

    /// Appends zeros up to `len` bytes, as far as the buffer has room.
    pub fn pad(&mut self, len: usize) {
        let from = self.start + self.len;
        let to = (self.start + len).min(self.buffer.len());
        if let Some(tail) = self.buffer.get_mut(from..to) {
            tail.fill(0);
            self.len = to - self.start;
        }
    }

    /// Cuts the frame to its first `len` bytes (Ethernet padding).
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_zero_and_stays_in_the_buffer() {
        let mut buffer = [9; 12];
        let mut frame = Frame::new(&mut buffer, 2, 3).unwrap();
        frame.pad(6);
        assert_eq!(frame.bytes(), [9, 9, 9, 0, 0, 0]);
        frame.pad(4);
        assert_eq!(frame.bytes().len(), 6);
        frame.pad(60);
        assert_eq!(frame.bytes(), [9, 9, 9, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_frame_gets_another_header_around_the_same_payload() {
        for (header, start) in [(18, 4), (14, 8)] {
            let mut buffer = core::array::from_fn::<u8, 80, _>(|n| n as u8);
            let mut frame = Frame::new(&mut buffer, 4, 70).unwrap();
            let (front, rest) = frame.split(18).unwrap();
            assert_eq!((front.len(), rest.len()), (22, 52));
            assert!(frame.reframe(18, header, 20, 60));
            assert_eq!(frame.start, start);
            let bytes = frame.bytes();
            assert_eq!(bytes.len(), 60);
            assert_eq!(
                bytes[..header + 20],
                core::array::from_fn::<u8, 80, _>(|n| n as u8)[start..42]
            );
            assert!(bytes[header + 20..].iter().all(|byte| *byte == 0));
            assert!(!frame.reframe(0, start + 1, 20, 60));
        }
    }

    #[test]
    fn the_front_moves_within_the_buffer() {
        let mut buffer = [1, 2, 3, 4, 5];
        let mut frame = Frame::new(&mut buffer, 2, 2).unwrap();
        assert!(!frame.grow_front(3));
        assert!(frame.grow_front(2));
        assert_eq!(frame.bytes(), [1, 2, 3, 4]);
        assert!(!frame.shrink_front(5));
        assert!(frame.shrink_front(3));
        frame.truncate(9);
        assert_eq!(frame.bytes(), [4]);
        let mut buffer = [1, 2, 3, 4];
        let mut frame = Frame::new(&mut buffer, 1, 2).unwrap();
        assert_eq!(frame.room(1), [3, 4]);
        assert_eq!(frame.room(9), [0; 0]);
        frame.room(2)[0] = 7;
        frame.resize(3);
        assert_eq!(frame.bytes(), [2, 3, 7]);
        frame.resize(9);
        assert_eq!(frame.bytes(), [2, 3, 7]);
        assert!(Frame::new(&mut [0; 4], usize::MAX, 2).is_none());
        assert!(Frame::new(&mut [0; 4], 2, 3).is_none());
    }
}
