//! Rings of descriptors, and a buffer for each, which a MAC's DMA engine shares with the driver.
//!
//! Neither may be cached: there is no cache maintenance here. A board with data caches maps [`Memory`] as non-cacheable memory, and
//! puts it where the engine's bus reaches.

use core::ptr::NonNull;

/// Bytes of one buffer, a multiple of all engines' bus widths.
pub const BUFFER: usize = 1536;
/// Shortest frame on a cable, without FCS.
pub const MIN_FRAME: usize = 60;

/// Rings and buffers of one MAC, with descriptors of `WORDS` words. All zeros is a valid initial value.
#[repr(C, align(64))]
pub struct Memory<const WORDS: usize, const RX: usize, const TX: usize> {
    rx_buffers: [[u8; BUFFER]; RX],
    tx_buffers: [[u8; BUFFER]; TX],
    rx_ring: [[u32; WORDS]; RX],
    tx_ring: [[u32; WORDS]; TX],
}

impl<const WORDS: usize, const RX: usize, const TX: usize> Memory<WORDS, RX, TX> {
    /// Memory for a MAC that was not started yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rx_buffers: [[0; BUFFER]; RX],
            tx_buffers: [[0; BUFFER]; TX],
            rx_ring: [[0; WORDS]; RX],
            tx_ring: [[0; WORDS]; TX],
        }
    }
}

impl<const WORDS: usize, const RX: usize, const TX: usize> Default for Memory<WORDS, RX, TX> {
    fn default() -> Self {
        Self::new()
    }
}

/// The driver's side of them. Descriptors are only touched by volatile accesses, buffers by copies: the engine may write at any time
/// to what was given to it.
#[derive(Debug)]
pub struct Rings<const WORDS: usize, const RX: usize, const TX: usize> {
    memory: NonNull<Memory<WORDS, RX, TX>>,
}

impl<const WORDS: usize, const RX: usize, const TX: usize> Rings<WORDS, RX, TX> {
    pub fn new(memory: &'static mut Memory<WORDS, RX, TX>) -> Self {
        Self {
            memory: NonNull::from(memory),
        }
    }

    fn rx_word(&self, index: usize, word: usize) -> *mut u32 {
        // SAFETY: a place inside of `memory`, which lives for ever; indices are checked.
        unsafe { &raw mut (*self.memory.as_ptr()).rx_ring[index][word] }
    }

    fn tx_word(&self, index: usize, word: usize) -> *mut u32 {
        // SAFETY: as above.
        unsafe { &raw mut (*self.memory.as_ptr()).tx_ring[index][word] }
    }

    fn rx_bytes(&self, index: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.memory.as_ptr()).rx_buffers[index]).cast() }
    }

    fn tx_bytes(&self, index: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.memory.as_ptr()).tx_buffers[index]).cast() }
    }

    /// A word of a receive descriptor.
    pub fn rx(&self, index: usize, word: usize) -> u32 {
        // SAFETY: a word of ours.
        unsafe { self.rx_word(index, word).read_volatile() }
    }

    pub fn set_rx(&mut self, index: usize, word: usize, value: u32) {
        // SAFETY: a word of ours.
        unsafe { self.rx_word(index, word).write_volatile(value) }
    }

    /// A word of a transmit descriptor.
    pub fn tx(&self, index: usize, word: usize) -> u32 {
        // SAFETY: a word of ours.
        unsafe { self.tx_word(index, word).read_volatile() }
    }

    pub fn set_tx(&mut self, index: usize, word: usize, value: u32) {
        // SAFETY: a word of ours.
        unsafe { self.tx_word(index, word).write_volatile(value) }
    }

    /// Where the engine finds a receive descriptor.
    pub fn rx_descriptor(&self, index: usize) -> u32 {
        bus(self.rx_word(index, 0))
    }

    pub fn tx_descriptor(&self, index: usize) -> u32 {
        bus(self.tx_word(index, 0))
    }

    /// Where the engine finds a receive descriptor's buffer.
    pub fn rx_buffer(&self, index: usize) -> u32 {
        bus(self.rx_bytes(index))
    }

    pub fn tx_buffer(&self, index: usize) -> u32 {
        bus(self.tx_bytes(index))
    }

    /// Fills `room` from a receive buffer that the engine has given back, from `offset` on; `false` if it has not as much.
    pub fn take(&self, index: usize, offset: usize, room: &mut [u8]) -> bool {
        if offset + room.len() > BUFFER {
            return false;
        }
        // SAFETY: these bytes lie inside of this buffer; `room` is elsewhere and as long.
        unsafe {
            let from = self.rx_bytes(index).add(offset);
            core::ptr::copy_nonoverlapping(from, room.as_mut_ptr(), room.len());
        }
        true
    }

    /// Puts a frame into a transmit buffer that is ours, from `offset` on, and zeros behind it up to `len` bytes in all. One that does
    /// not fit is cut off.
    pub fn put(&mut self, index: usize, offset: usize, frame: &[u8], len: usize) {
        let len = len.min(BUFFER - offset);
        let frame = &frame[..frame.len().min(len)];
        // SAFETY: these bytes lie inside of this buffer; `frame` is elsewhere.
        unsafe {
            let to = self.tx_bytes(index).add(offset);
            core::ptr::copy_nonoverlapping(frame.as_ptr(), to, frame.len());
            core::ptr::write_bytes(to.add(frame.len()), 0, len - frame.len());
        }
    }
}

/// The address that the engine sees.
fn bus<T>(pointer: *mut T) -> u32 {
    pointer.expose_provenance() as u32
}

/// Orders memory accesses before it against those after it, for the DMA engine as well.
pub fn barrier() {
    #[cfg(target_arch = "arm")]
    // SAFETY: has no effect but to wait.
    unsafe {
        core::arch::asm!("dsb sy", options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "arm"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

/// What engines do, for tests.
#[cfg(test)]
impl<const WORDS: usize, const RX: usize, const TX: usize> Rings<WORDS, RX, TX> {
    /// Receives into a buffer.
    pub fn fill(&mut self, index: usize, frame: &[u8]) {
        let len = frame.len().min(BUFFER);
        // SAFETY: these bytes lie inside of this buffer; `frame` is elsewhere.
        unsafe { core::ptr::copy_nonoverlapping(frame.as_ptr(), self.rx_bytes(index), len) }
    }

    /// Reads what is sent.
    pub fn sent(&self, index: usize, len: usize) -> &[u8] {
        assert!(len <= BUFFER);
        // SAFETY: these bytes lie inside of this buffer, and nobody writes while a test looks at them.
        unsafe { core::slice::from_raw_parts(self.tx_bytes(index), len) }
    }
}
