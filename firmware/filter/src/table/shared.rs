//! What the two appliances of a pair tell each other of their tables: which flows changed, and which the other has named.

use super::{Flows, Ledger, Marks};
use crate::address::Address;
use crate::flow::Flow;
use crate::packet::{Class, Tuple};
use crate::track::{Direction, State, Ticks};

impl<A: Address> Flows<'_, A> {
    /// How many flows there is room for.
    #[must_use]
    pub const fn room(&self) -> u32 {
        self.flows.len() as u32
    }

    /// How many flows have changed.
    #[must_use]
    pub const fn changed(&self) -> u32 {
        self.changed
    }

    /// Begins to mark what changes, or ends that. Nothing is marked yet.
    pub fn set_tells(&mut self, tells: bool) {
        self.tells = tells;
        self.changed = 0;
        let used = self.marks.get_mut(..self.fresh as usize);
        // Who was named or known a moment ago counts as named in the pass before.
        for marks in used.unwrap_or_default() {
            *marks = Marks(marks.0 & Marks::PRIVATE | Marks::CONFIRMED_BEFORE);
        }
    }

    /// Marks a flow as changed.
    pub fn mark(&mut self, id: u32) {
        if let Some(marks) = self.marks.get_mut(id as usize)
            && marks.0 & (Marks::CHANGED | Marks::PRIVATE) == 0
        {
            marks.0 |= Marks::CHANGED;
            self.changed += 1;
        }
    }

    /// Takes a flow's marks away.
    pub(super) fn unmark(&mut self, id: u32) -> Marks {
        let Some(marks) = self.marks.get_mut(id as usize) else {
            return Marks::NONE;
        };
        let was = core::mem::take(marks);
        self.changed -= u32::from(was.0 & Marks::CHANGED != 0);
        was
    }

    /// Takes the next flow that has changed.
    pub fn take_changed(&mut self) -> Option<u32> {
        if self.changed == 0 {
            return None;
        }
        let (before, after) = self.marks.split_at_mut_checked(self.finger as usize)?;
        let found = match find_changed(after) {
            Some(at) => self.finger + at,
            None => find_changed(before)?,
        };
        self.finger = found;
        self.changed -= 1;
        self.marks.get_mut(found as usize)?.0 &= !Marks::CHANGED;
        Some(found)
    }

    /// A flow that the peer should know, which from now on it may.
    pub fn export(&mut self, id: u32) -> Option<&Flow<A>> {
        let flow = self.flows.get(id as usize)?;
        let marks = self.marks.get_mut(id as usize)?;
        let told = marks.0 & Marks::TOLD != 0;
        let private = marks.0 & Marks::PRIVATE != 0;
        if flow.state == State::Free || private || flow.state.is_expendable() && !told {
            return None;
        }
        marks.0 |= Marks::TOLD;
        Some(flow)
    }

    /// Keeps a flow from the peer, or tells it of one that was kept from it.
    pub fn set_private(&mut self, id: u32, private: bool) {
        let was = self.marks.get(id as usize);
        if was.is_some_and(|marks| (marks.0 & Marks::PRIVATE != 0) == private) {
            return;
        }
        self.unmark(id);
        if let Some(marks) = self.marks.get_mut(id as usize)
            && private
        {
            *marks = Marks(Marks::PRIVATE);
        } else if self.tells {
            self.mark(id);
        }
    }

    /// Lets the peer hear of a flow that nobody has answered yet, and of all that becomes of it.
    pub fn set_told(&mut self, id: u32) {
        if let Some(marks) = self.marks.get_mut(id as usize) {
            marks.0 |= Marks::TOLD;
        }
    }

    /// Whether the peer may have heard of a flow.
    #[must_use]
    pub fn is_told(&self, id: u32) -> bool {
        let marks = self.marks.get(id as usize);
        marks.is_some_and(|marks| marks.0 & Marks::TOLD != 0)
    }

    /// The peer has named a flow.
    pub fn confirm(&mut self, id: u32) {
        if let Some(marks) = self.marks.get_mut(id as usize) {
            marks.0 |= Marks::CONFIRMED;
        }
    }

    /// The id of the flow with exactly this first tuple.
    #[must_use]
    pub fn find_original(&self, tuple: &Tuple<A>, class: Class) -> Option<u32> {
        match self.find(tuple, class)? {
            (id, Direction::Original) => Some(id),
            (_, Direction::Reply) => None,
        }
    }

    /// The peer has told all: flows that it has named neither now nor the time before are removed.
    pub fn end_pass(&mut self, ledger: &mut impl Ledger<A>) {
        for id in 0..self.fresh {
            let Some(marks) = self.marks.get_mut(id as usize) else {
                return;
            };
            let named = marks.0 & (Marks::CONFIRMED | Marks::CONFIRMED_BEFORE) != 0;
            let confirmed = marks.0 & Marks::CONFIRMED != 0;
            marks.0 &= !(Marks::CONFIRMED | Marks::CONFIRMED_BEFORE);
            marks.0 |= if confirmed {
                Marks::CONFIRMED_BEFORE
            } else {
                0
            };
            if !named {
                self.remove(id, ledger);
            }
        }
    }

    /// Keeps the next flows alive that are worth it, as if each had had a packet; removes the others whose time is over.
    pub fn refresh(&mut self, now: Ticks, least: u32, ledger: &mut impl Ledger<A>) {
        // The whole table in a tenth of the shortest time that such a flow lives.
        for _ in 0..least.max(self.fresh / REFRESH_TURNS).min(self.fresh) {
            let id = self.hand;
            self.hand = if id + 1 < self.fresh { id + 1 } else { 0 };
            let Some(flow) = self.flows.get_mut(id as usize) else {
                return;
            };
            if !flow.state.is_expendable() {
                flow.expiry = now.after(flow.state.timeout());
            } else if flow.state != State::Free && now.until(flow.expiry) <= 0 {
                self.remove(id, ledger);
            }
        }
    }

    /// Forgets where both sides of every connection are: it goes on elsewhere.
    pub fn grow_old(&mut self) {
        for flow in self.flows.iter_mut().take(self.fresh as usize) {
            flow.grow_old();
        }
    }
}

/// Eight at a time: nearly all have not changed.
fn find_changed(marks: &[Marks]) -> Option<u32> {
    const EIGHT: u64 = u64::from_ne_bytes([Marks::CHANGED; 8]);
    let (chunks, rest) = marks.as_chunks::<8>();
    let is_changed = |marks: &Marks| marks.0 & Marks::CHANGED != 0;
    for (number, chunk) in chunks.iter().enumerate() {
        if u64::from_ne_bytes(chunk.map(|marks| marks.0)) & EIGHT != 0 {
            let at = chunk.iter().position(is_changed)?;
            return Some((number * 8 + at) as u32);
        }
    }
    let at = rest.iter().position(is_changed)?;
    Some((chunks.len() * 8 + at) as u32)
}

/// Calls of [`Flows::refresh`] in which the whole table is looked at.
const REFRESH_TURNS: u32 = 32;
