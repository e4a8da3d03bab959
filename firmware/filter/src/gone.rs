//! Flows that are no more, until the peer knows: a bounded number, for what is forgotten here the peer finds out by itself
//! when it is not named any more.

use crate::packet::{Class, Tuple};

/// Up to `N` of them.
#[derive(Debug)]
pub struct Gone<A, const N: usize> {
    places: [Option<Grave<A>>; N],
    waiting: u32,
    /// Where the search goes on.
    finger: usize,
}

#[derive(Clone, Copy, Debug)]
struct Grave<A> {
    tuple: Tuple<A>,
    class: Class,
    /// Whether the peer is to be told; otherwise it has been, and has not said yet that it heard.
    waits: bool,
}

impl<A: Copy, const N: usize> Gone<A, N> {
    /// Nobody is gone.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            places: [const { None }; N],
            waiting: 0,
            finger: 0,
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// How many the peer is to be told of.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Remembers a flow, if there is room.
    pub fn bury(&mut self, tuple: Tuple<A>, class: Class) {
        if let Some(place) = self.places.iter_mut().find(|place| place.is_none()) {
            *place = Some(Grave {
                tuple,
                class,
                waits: true,
            });
            self.waiting += 1;
        }
    }

    /// Takes the next one that the peer is to be told of.
    pub fn take_waiting(&mut self) -> Option<u32> {
        if self.waiting == 0 {
            return None;
        }
        let at = (0..N)
            .map(|step| (self.finger + step) % N)
            .find(|at| matches!(self.places.get(*at), Some(Some(grave)) if grave.waits))?;
        self.finger = at;
        self.waiting -= 1;
        self.places.get_mut(at)?.as_mut()?.waits = false;
        Some(at as u32)
    }

    /// The peer has to be told once more.
    pub fn mark(&mut self, index: u32) {
        if let Some(Some(grave)) = self.places.get_mut(index as usize)
            && !grave.waits
        {
            grave.waits = true;
            self.waiting += 1;
        }
    }

    /// The peer knows.
    pub fn settle(&mut self, index: u32) {
        if let Some(place) = self.places.get_mut(index as usize)
            && place.is_some_and(|grave| !grave.waits)
        {
            *place = None;
        }
    }

    /// The first tuple and the protocol of one.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<(&Tuple<A>, Class)> {
        let grave = self.places.get(index as usize)?.as_ref()?;
        Some((&grave.tuple, grave.class))
    }
}
