//! An Ethernet frame inside a larger buffer, so that a VLAN tag can come and go without copying the rest.

/// Bytes a driver leaves free before a received frame: 4 for a VLAN tag, 2 so that the IP header of an
/// untagged frame is 4-byte aligned when the buffer is.
pub const HEADROOM: usize = 6;

/// A frame at `start..end` of a buffer. Without FCS.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
}

impl<'a> Frame<'a> {
    /// A frame of `len` bytes that begins at `start`; `None` if it does not fit the buffer.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= buffer.len()).then_some(Self { buffer, start, end })
    }

    /// The frame's bytes, from destination MAC to the end of the payload.
    #[must_use]
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The frame's bytes, to change in place.
    #[must_use]
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer
            .get_mut(self.start..self.end)
            .unwrap_or_default()
    }

    /// The buffer from byte `at` of the frame on, beyond its end: for what is written over the frame and may be longer. See
    /// [`Self::resize`].
    pub fn room(&mut self, at: usize) -> &mut [u8] {
        self.buffer.get_mut(self.start + at..).unwrap_or_default()
    }

    /// Lets the frame be its first `len` bytes, as far as the buffer has them.
    pub fn resize(&mut self, len: usize) {
        self.end = (self.start + len).min(self.buffer.len());
    }

    /// The buffer from `N` bytes before byte `at` of the frame on, headroom and what lies behind the frame included, and how
    /// long the frame is from that byte on. `None` without that headroom.
    #[inline(always)]
    pub fn around<const N: usize>(&mut self, at: usize) -> Option<(&mut [u8], usize)> {
        let at = self.start + at;
        let space = self.buffer.get_mut(at.checked_sub(N)?..)?;
        Some((space, self.end.checked_sub(at)?))
    }

    /// Moves the beginning by `n` bytes towards the front; `false` (and no change) without that headroom.
    pub fn grow_front(&mut self, n: usize) -> bool {
        if n > self.start {
            return false;
        }
        self.start -= n;
        true
    }

    /// Drops the first `n` bytes; `false` (and no change) if there are fewer.
    pub fn shrink_front(&mut self, n: usize) -> bool {
        if n > self.end - self.start {
            return false;
        }
        self.start += n;
        true
    }

    /// Appends zeros up to `len` bytes, as far as the buffer has room.
    pub fn pad(&mut self, len: usize) {
        let to = (self.start + len).min(self.buffer.len());
        if let Some(tail) = self.buffer.get_mut(self.end..to) {
            tail.fill(0);
            self.end = to;
        }
    }

    /// Cuts the frame to its first `len` bytes (Ethernet padding).
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
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
    fn around_the_payload_is_headroom_and_tail() {
        let mut buffer = core::array::from_fn::<u8, 80, _>(|n| n as u8);
        let mut frame = Frame::new(&mut buffer, 6, 70).unwrap();
        let (space, len) = frame.around::<18>(14).unwrap();
        assert_eq!((space.first(), space.last()), (Some(&2), Some(&79)));
        assert_eq!(len, 56);
        assert!(frame.around::<18>(11).is_none());
        assert!(frame.around::<18>(71).is_none());
        assert!(frame.around::<0>(75).is_none());
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
