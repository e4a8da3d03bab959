//! Volatile access to a block of 32-bit registers.

use core::ptr::{
    read_volatile, with_exposed_provenance, with_exposed_provenance_mut, write_volatile,
};

/// The registers of one part, from `base` on.
#[derive(Debug)]
pub struct Registers {
    base: usize,
}

impl Registers {
    /// # Safety
    /// `base..base + size of the part` are registers of that part, and nobody else uses them.
    pub const unsafe fn new(base: usize) -> Self {
        Self { base }
    }

    pub fn read(&self, offset: usize) -> u32 {
        // SAFETY: whoever made `self` promised that these are registers; offsets are the constants of
        // the driver, word-aligned and inside the part.
        unsafe { read_volatile(with_exposed_provenance(self.base + offset)) }
    }

    pub fn write(&mut self, offset: usize, value: u32) {
        // SAFETY: as for `read`; `&mut self` keeps others out.
        unsafe { write_volatile(with_exposed_provenance_mut(self.base + offset), value) }
    }

    /// Writes what `change` makes of what is there.
    pub fn modify(&mut self, offset: usize, change: impl FnOnce(u32) -> u32) {
        let value = change(self.read(offset));
        self.write(offset, value);
    }

    /// Reads until `done`, at most `tries` times.
    pub fn wait(&self, offset: usize, tries: u32, done: impl Fn(u32) -> bool) -> Option<u32> {
        (0..tries)
            .map(|_| self.read(offset))
            .find(|value| done(*value))
    }
}
