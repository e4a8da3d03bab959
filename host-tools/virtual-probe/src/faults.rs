//! What can go wrong on a bench, on demand.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The cable is pulled after so many commands. Once: it is put back before the next attempt.
    DroppedLink {
        /// Commands until then.
        after: u32,
    },
    /// A cell of the flash cannot keep a one.
    WornCell {
        /// Its address.
        address: u32,
    },
    /// The flash algorithm never returns, from this call on.
    StuckAlgorithm {
        /// Calls that return before.
        after: u32,
    },
    /// The part refuses to let its flash be read or written from outside, until all of it is erased.
    Locked {
        /// Where the flash is.
        flash: Range<u32>,
    },
    /// The target has no power: nobody answers on the wire.
    NoPower,
    /// It is another chip: a word that tells chips apart is another.
    OtherChip {
        /// Where that word is.
        address: u32,
        /// What it says.
        word: u32,
    },
}

/// The faults of one probe, which can be changed while it is in use.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    /// Adds one.
    pub fn add(&self, fault: Fault) {
        self.all().push(fault);
    }

    /// Mends all.
    pub fn mend(&self) {
        self.all().clear();
    }

    /// Counts a command; true if the cable comes off at it.
    pub(crate) fn drops(&self) -> bool {
        let mut all = self.all();
        let due = all.iter_mut().any(|fault| match fault {
            Fault::DroppedLink { after } => counted(after),
            _ => false,
        });
        if due {
            all.retain(|fault| !matches!(fault, Fault::DroppedLink { .. }));
        }
        due
    }

    /// Counts a call of the algorithm; true if it does not return.
    pub(crate) fn sticks(&self) -> bool {
        self.all().iter_mut().any(|fault| match fault {
            Fault::StuckAlgorithm { after } => counted(after),
            _ => false,
        })
    }

    pub(crate) fn no_power(&self) -> bool {
        self.all().contains(&Fault::NoPower)
    }

    /// The flash, if it is locked and these bytes are in it.
    pub(crate) fn locked(&self, address: u32, length: usize) -> Option<Range<u32>> {
        let end = address.saturating_add(length as u32);
        self.all().iter().find_map(|fault| match fault {
            Fault::Locked { flash } if address < flash.end && end > flash.start => {
                Some(flash.clone())
            }
            _ => None,
        })
    }

    pub(crate) fn unlock(&self) {
        self.all()
            .retain(|fault| !matches!(fault, Fault::Locked { .. }));
    }

    /// Makes of these bytes what would be read instead.
    pub(crate) fn spoil(&self, start: u32, bytes: &mut [u8]) {
        let mut at = |address: u32, change: &dyn Fn(&mut u8)| {
            let byte = address
                .checked_sub(start)
                .and_then(|o| bytes.get_mut(o as usize));
            byte.map(change);
        };
        for fault in self.all().iter() {
            match fault {
                Fault::WornCell { address } => at(*address, &|byte| *byte = 0),
                Fault::OtherChip { address, word } => {
                    for (index, other) in (*address..).zip(word.to_le_bytes()) {
                        at(index, &|byte| *byte = other);
                    }
                }
                Fault::DroppedLink { .. }
                | Fault::StuckAlgorithm { .. }
                | Fault::Locked { .. }
                | Fault::NoPower => {}
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts down; true at the end, and from then on.
fn counted(left: &mut u32) -> bool {
    match left.checked_sub(1) {
        Some(less) => *left = less,
        None => return true,
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cable_comes_off_once_and_an_algorithm_stays_stuck() {
        let faults = Faults::default();
        faults.add(Fault::DroppedLink { after: 2 });
        let drops: Vec<bool> = (0..5).map(|_| faults.drops()).collect();
        assert_eq!(drops, [false, false, true, false, false]);
        faults.add(Fault::StuckAlgorithm { after: 1 });
        let sticks: Vec<bool> = (0..3).map(|_| faults.sticks()).collect();
        assert_eq!(sticks, [false, true, true]);
        faults.mend();
        assert!(!faults.sticks());
    }

    #[test]
    fn bytes_that_would_be_read_instead() {
        let faults = Faults::default();
        faults.add(Fault::WornCell { address: 0x101 });
        faults.add(Fault::OtherChip {
            address: 0x0fe,
            word: 0x4433_2211,
        });
        let mut bytes = [9; 4];
        faults.spoil(0x100, &mut bytes);
        assert_eq!(bytes, [0x33, 0x44, 9, 9], "the word is on top");
        let mut bytes = [9; 4];
        faults.spoil(0x102, &mut bytes);
        assert_eq!(bytes, [9; 4]);
    }

    #[test]
    fn only_the_flash_is_locked() {
        let faults = Faults::default();
        faults.add(Fault::Locked {
            flash: 0x100..0x200,
        });
        for (address, length, locked) in [
            (0x80, 0x80, false),
            (0x80, 0x81, true),
            (0x1ff, 1, true),
            (0x200, 4, false),
        ] {
            assert_eq!(faults.locked(address, length).is_some(), locked);
        }
        faults.unlock();
        assert!(faults.locked(0x100, 4).is_none());
    }
}
