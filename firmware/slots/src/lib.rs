//! Memory of a board for configurations that come while it runs: two slots beside the region that it started with. One of
//! the three runs, one may be the one before, so that there is always one for the next.

#![no_std]

#[cfg(test)]
extern crate std;

pub mod provision;

use core::ptr::NonNull;
use core::slice;

use hal::ConfigurationStore;

/// The region of the start and two slots of equal size.
#[derive(Debug)]
pub struct Slots {
    start: &'static [u8],
    memory: [NonNull<u8>; 2],
    /// Bytes of each.
    size: usize,
    running: Place,
    before: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    Slot(usize),
}

// SAFETY: the slots are this struct's alone.
unsafe impl Send for Slots {}

impl Slots {
    /// Slots in this memory, beside the region that `start` is.
    ///
    /// # Safety
    /// Memory is written again when its configuration neither runs nor is the one before. Whoever calls
    /// [`ConfigurationStore::switch`] or [`ConfigurationStore::back`] must have dropped by then what an earlier call returned,
    /// as the trait says; a node does.
    #[must_use]
    pub unsafe fn new(start: &'static [u8], memory: [&'static mut [u32]; 2]) -> Self {
        let words = memory.iter().map(|slot| slot.len()).min().unwrap_or(0);
        Self {
            start,
            memory: memory.map(|slot| NonNull::from(slot).cast()),
            size: size_of::<u32>() * words,
            running: Place::Start,
            before: None,
        }
    }

    /// The slot for the next configuration.
    fn spare(&self) -> Option<usize> {
        (0..self.memory.len())
            .find(|slot| ![Some(self.running), self.before].contains(&Some(Place::Slot(*slot))))
    }

    fn at(&self, place: Place) -> &'static [u8] {
        match place {
            Place::Start => self.start,
            Place::Slot(slot) => {
                let [first, second] = self.memory;
                let memory = if slot == 0 { first } else { second };
                // SAFETY: so many bytes are there, for ever, and nobody writes them but `write`, which writes the spare slot
                // only: one that runs or is the one before is never that, and of others nobody has a borrow (see `new`).
                unsafe { slice::from_raw_parts(memory.as_ptr(), self.size) }
            }
        }
    }
}

impl ConfigurationStore for Slots {
    fn room(&self) -> usize {
        self.spare().map_or(0, |_| self.size)
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let Some(slot) = self.spare() else {
            return false;
        };
        let fits = offset.checked_add(bytes.len());
        if fits.is_none_or(|end| end > self.size) {
            return false;
        }
        let [first, second] = self.memory;
        let memory = if slot == 0 { first } else { second };
        // SAFETY: they fit, as was just found out, and nobody has a borrow of the spare slot (see `new` and `next`).
        unsafe {
            let place = memory.as_ptr().add(offset);
            place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        true
    }

    fn next(&self) -> &[u8] {
        self.spare().map_or(&[], |slot| self.at(Place::Slot(slot)))
    }

    fn running(&self) -> &[u8] {
        self.at(self.running)
    }

    fn switch(&mut self) -> Option<&'static [u8]> {
        let slot = self.spare()?;
        self.before = Some(core::mem::replace(&mut self.running, Place::Slot(slot)));
        Some(self.at(self.running))
    }

    fn back(&mut self) -> Option<&'static [u8]> {
        self.running = self.before.take()?;
        Some(self.at(self.running))
    }

    fn keep(&mut self) -> bool {
        self.before = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec;

    use super::*;

    #[test]
    fn one_runs_one_was_before_and_one_is_next() {
        let memory = [(), ()].map(|()| &mut *vec![0_u32; 2].leak());
        let start: &[u8] = Box::leak(Box::new([9; 3]));
        // SAFETY: nothing is kept of what is returned.
        let mut slots = unsafe { Slots::new(start, memory) };
        assert_eq!((slots.running(), slots.room()), (start, 8));
        assert!(slots.back().is_none());
        // The first one comes, is not liked, comes again and stays.
        for stays in [false, true] {
            assert!(slots.write(4, &[1; 4]) && slots.write(0, &[1; 4]));
            assert!(!slots.write(5, &[1; 4]) && !slots.write(usize::MAX, &[1]));
            assert_eq!(slots.next(), [1; 8]);
            assert_eq!(slots.switch().map(<[u8]>::to_vec), Some(vec![1; 8]));
            match stays {
                true => assert!(slots.keep()),
                false => assert_eq!(slots.back(), Some(start)),
            }
        }
        assert_eq!(slots.running(), [1; 8]);
        // The second comes while the first may come back; a third has no place meanwhile.
        assert!(slots.write(0, &[2; 8]));
        assert!(slots.switch().is_some());
        assert_eq!((slots.room(), slots.next()), (0, &[][..]));
        assert!(!slots.write(0, &[3]) && slots.switch().is_none());
        assert_eq!(slots.back().map(<[u8]>::to_vec), Some(vec![1; 8]));
        assert_eq!(slots.room(), 8);
    }
}
