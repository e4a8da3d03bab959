//! What is shared, as the session sees it: numbered items whose records are bytes to it.

use time::Instant;

/// Longest record of one item.
pub const MAX_RECORD: usize = 255;

/// Flows and whatever else the Backup should know. An item is a place, not a flow: what is sent is what it holds then.
pub trait Store {
    /// Items are numbered from 0 to below this.
    fn items(&self) -> u32;

    /// How many items have changed since they were taken.
    fn changed(&self) -> u32;

    /// Takes the next item that has changed; also what is to be told now and then without being counted as changed.
    fn take_changed(&mut self, now: Instant) -> Option<u32>;

    /// Says again that an item has changed: its record was lost.
    fn mark(&mut self, item: u32);

    /// The peer has what was exported last of this item.
    fn settle(&mut self, item: u32);

    /// Writes the record of an item and returns its length; 0 if it holds nothing.
    fn export(&mut self, now: Instant, item: u32, record: &mut [u8; MAX_RECORD]) -> usize;

    /// Takes in a record of the peer's. Never marks anything as changed.
    fn import(&mut self, now: Instant, record: &[u8], terms: Terms);

    /// The peer has told all that it has: what was not among it twice in a row is gone.
    fn end_pass(&mut self, now: Instant);
}

/// How a record is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether the peer's word stands against what is known here: not while both are Active.
    pub peer_is_right: bool,
    /// Whether both agree on services, limits and addresses; if not, records name other ones.
    pub same_policy: bool,
}

/// Nothing to share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Store for Nothing {
    fn items(&self) -> u32 {
        0
    }

    fn changed(&self) -> u32 {
        0
    }

    fn take_changed(&mut self, _: Instant) -> Option<u32> {
        None
    }

    fn mark(&mut self, _: u32) {}

    fn settle(&mut self, _: u32) {}

    fn export(&mut self, _: Instant, _: u32, _: &mut [u8; MAX_RECORD]) -> usize {
        0
    }

    fn import(&mut self, _: Instant, _: &[u8], _: Terms) {}

    fn end_pass(&mut self, _: Instant) {}
}
