//! A heap of fixed size, for a board's `global_allocator`. One task uses it, and when that ends badly, all of it can be
//! taken back at once.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::RefCell;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};

use critical_section::Mutex;
use linked_list_allocator::Heap as FirstFit;

/// The allocator. It has nothing to give until it was started.
pub struct Heap(Mutex<RefCell<State>>);

struct State {
    heap: FirstFit,
    usage: Usage,
}

/// How much of a heap was needed since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that are allocated now.
    pub now: usize,
    /// Bytes that were allocated at most.
    pub peak: usize,
    /// Whether an allocation failed.
    pub exhausted: bool,
}

impl Heap {
    /// A heap without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(RefCell::new(State {
            heap: FirstFit::empty(),
            usage: Usage {
                now: 0,
                peak: 0,
                exhausted: false,
            },
        })))
    }

    /// Gives the heap its memory, or takes back all that was allocated of it.
    ///
    /// # Safety
    /// `memory` is used by nobody else, and nobody uses what an earlier start gave out.
    pub unsafe fn start(&self, memory: *mut [MaybeUninit<u8>]) {
        self.with(|state| {
            state.usage = Usage::default();
            // SAFETY: the memory is ours, as the caller promises.
            state.heap = unsafe { FirstFit::new(memory.cast(), memory.len()) };
        });
    }

    /// How much was needed since the start.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.with(|state| Usage {
            now: state.heap.used(),
            ..state.usage
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        critical_section::with(|section| act(&mut self.0.borrow_ref_mut(section)))
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: `FirstFit` gives out memory as the trait wants it, and the mutex lets one at a time in. Nothing in it unwinds.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.with(|state| {
            let memory = state.heap.allocate_first_fit(layout);
            state.usage.peak = state.usage.peak.max(state.heap.used());
            state.usage.exhausted |= memory.is_err();
            memory.map_or(null_mut(), NonNull::as_ptr)
        })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let Some(memory) = NonNull::new(memory) {
            // SAFETY: it came from `alloc` with this layout, as the caller promises.
            self.with(|state| unsafe { state.heap.deallocate(memory, layout) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_a_new_start_takes_all_back() {
        static mut MEMORY: [MaybeUninit<u8>; 1024] = [MaybeUninit::uninit(); 1024];
        let heap = Heap::new();
        let layout = Layout::from_size_align(400, 8).expect("a layout");
        // SAFETY: the layout is not empty, and the memory is mentioned nowhere else.
        unsafe {
            assert!(heap.alloc(layout).is_null(), "before it has memory");
            heap.start(&raw mut MEMORY);
            let first = heap.alloc(layout);
            let second = heap.alloc(layout);
            assert!(!first.is_null() && !second.is_null() && first != second);
            assert!(!heap.usage().exhausted);
            assert!(heap.alloc(layout).is_null());
            heap.dealloc(first, layout);
            let usage = heap.usage();
            assert!(usage.exhausted);
            assert_eq!((usage.now, usage.peak), (400, 800));
            heap.start(&raw mut MEMORY);
            assert_eq!(heap.usage(), Usage::default());
            assert_eq!(heap.alloc(layout), first);
        }
    }
}
