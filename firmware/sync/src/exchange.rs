//! The flows of the Active on their way to the Backup: in batches that are acknowledged.
//!
//! What is told is always what a place of the store holds at that moment. The receiver takes a batch only if it is newer than
//! all that it has taken, so that an old state never overwrites a later one; what it did not take is marked as changed again,
//! and so told as it is by then. On joining, and slowly for ever after, all places are told in a pass; what was not named
//! in two passes is gone at the other end too.

use time::{Duration, Instant};

use crate::message::Ack;
use crate::store::{MAX_RECORD, Store, Terms};

/// Both directions of one session.
#[derive(Debug)]
pub struct Exchange {
    /// Number of the next batch.
    next: u32,
    flights: [Flight; FLIGHTS],
    /// Mean time until an acknowledgment, and the batch that is timed next.
    round_trip: Duration,
    timed: Option<(u32, Instant)>,
    pass: Pass,
    /// Number of the pass.
    pass_number: u8,
    walk_due: Instant,
    began: Instant,
    /// Whether all was told once since [`Self::begin`].
    complete: bool,
    last_bulk: Option<Duration>,
    due: Instant,
    heard: Ack,
    /// The last pass of the peer's that has ended.
    heard_pass: Option<u8>,
    counters: Counters,
}

/// What an exchange counts. All wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Batches sent.
    pub sent: u32,
    /// Of those, never acknowledged.
    pub lost: u32,
    /// Batches taken.
    pub taken: u32,
    /// Batches that came behind later ones.
    pub late: u32,
    /// Records in batches that were sent.
    pub records: u32,
    /// Passes through all places that were told.
    pub passes: u32,
}

/// How far the Backup is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Changes that are not acknowledged.
    pub entries: u32,
    /// Bytes under way.
    pub bytes: u32,
    /// Age of the oldest batch under way.
    pub age: Duration,
}

/// A batch that was sent.
#[derive(Clone, Debug)]
struct Flight {
    number: u32,
    sent: Instant,
    /// Whether nobody has said yet what became of it.
    open: bool,
    bytes: u16,
    items: heapless::Vec<u32, MAX_ITEMS>,
}

/// Where the pass through all places is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// The next place to tell of.
    Walking(u32),
    /// All were told; changes are left, and what was lost.
    Draining,
    /// Nothing is left to tell; batches up to this one are under way.
    Settling(u32),
    /// The end of the pass was told in this batch.
    Ended(u32),
}

impl Exchange {
    /// Nothing told, nothing heard.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: 1,
            flights: [const { Flight::NONE }; FLIGHTS],
            round_trip: Duration::ZERO,
            timed: None,
            pass: Pass::Walking(0),
            pass_number: 0,
            walk_due: Instant::ZERO,
            began: Instant::ZERO,
            complete: false,
            last_bulk: None,
            due: Instant::ZERO,
            heard: Ack {
                newest: 0,
                taken: 0,
            },
            heard_pass: None,
            counters: Counters {
                sent: 0,
                lost: 0,
                taken: 0,
                late: 0,
                records: 0,
                passes: 0,
            },
        }
    }

    /// A new session: nobody knows what arrived of the last one's.
    pub fn restart(&mut self, store: &mut impl Store) {
        for flight in &mut self.flights {
            flight.lose(store);
        }
        self.timed = None;
        self.next = 1;
        self.heard = Ack::default();
        self.heard_pass = None;
        self.complete = false;
    }

    /// From now on all is to be told, from the beginning.
    pub fn begin(&mut self, now: Instant) {
        self.walk_again();
        self.began = now;
        self.complete = false;
        self.due = now;
    }

    fn walk_again(&mut self) {
        self.pass = Pass::Walking(0);
        self.pass_number = self.pass_number.wrapping_add(1);
    }

    /// Whether all was told and acknowledged since the beginning.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// How long it took to tell all, the last time.
    #[must_use]
    pub const fn last_bulk(&self) -> Option<Duration> {
        self.last_bulk
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How far the peer is behind.
    #[must_use]
    pub fn lag(&self, now: Instant, changed: u32) -> Lag {
        let mut lag = Lag {
            entries: changed,
            ..Lag::default()
        };
        for flight in self.flights.iter().filter(|flight| flight.open) {
            lag.entries += flight.items.len() as u32;
            lag.bytes += u32::from(flight.bytes);
            lag.age = lag.age.max(now.since(flight.sent));
        }
        lag
    }

    /// What was taken of the peer's batches.
    #[must_use]
    pub const fn ack(&self) -> Ack {
        self.heard
    }

    /// When [`Self::fill`] has something to do, while something is told.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Takes in a batch; whether it deserves an answer. `None`: it makes no sense.
    pub fn take(
        &mut self,
        now: Instant,
        batch: &[u8],
        store: &mut impl Store,
        terms: Terms,
    ) -> Option<()> {
        let (number, mut records) = batch.split_first_chunk()?;
        let number = u32::from_le_bytes(*number);
        let ahead = number.wrapping_sub(self.heard.newest);
        if ahead == 0 || ahead.cast_signed() < 0 {
            count(&mut self.counters.late);
            return Some(());
        }
        self.heard = Ack {
            newest: number,
            taken: self.heard.taken.unbounded_shl(ahead) | 1,
        };
        count(&mut self.counters.taken);
        while let Some((len, rest)) = records.split_first() {
            if *len == END {
                let (pass, rest) = rest.split_first()?;
                // An end that was told twice is one.
                if self.heard_pass.replace(*pass) != Some(*pass) {
                    store.end_pass(now);
                }
                records = rest;
                continue;
            }
            let (record, rest) = rest.split_at_checked(usize::from(*len))?;
            store.import(now, record, terms);
            records = rest;
        }
        Some(())
    }

    /// The peer says what it has taken.
    pub fn hear(&mut self, now: Instant, ack: Ack, store: &mut impl Store) {
        if let Some((number, sent)) = self.timed
            && ack.newest.wrapping_sub(number).cast_signed() >= 0
        {
            // One that took long says more than many that did not.
            let sample = now.since(sent);
            self.round_trip = sample.max((self.round_trip * 7 + sample) / 8);
            self.timed = None;
        }
        let mut ended = false;
        for flight in &mut self.flights {
            let back = ack.newest.wrapping_sub(flight.number);
            if !flight.open || back >= u64::BITS {
                continue;
            }
            if ack.taken >> back & 1 != 0 {
                ended |= self.pass == Pass::Ended(flight.number);
                flight.settle(store);
            } else {
                // Something later was taken, so this one never will be.
                self.pass = self.pass.without(flight.number);
                self.due = now;
                flight.lose(store);
                count(&mut self.counters.lost);
            }
        }
        if ended {
            self.walk_again();
            count(&mut self.counters.passes);
            if !core::mem::replace(&mut self.complete, true) {
                self.last_bulk = Some(now.since(self.began));
            }
        }
    }

    /// Finds batches that nobody acknowledged in time.
    pub fn expire(&mut self, now: Instant, store: &mut impl Store) {
        let patience = (self.round_trip * 2).clamp(PATIENCE, MAX_PATIENCE);
        for flight in self.flights.iter_mut().filter(|flight| flight.open) {
            if now.since(flight.sent) >= patience {
                self.pass = self.pass.without(flight.number);
                self.due = now;
                flight.lose(store);
                count(&mut self.counters.lost);
            }
        }
    }

    /// Enough was sent for now.
    pub fn rest(&mut self, now: Instant) {
        self.due = self.due.max(now + GAP);
    }

    /// The batch that is sent next.
    #[must_use]
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// Whether a batch that is under way has the record of an item.
    #[must_use]
    pub fn has(&self, number: u32, item: u32) -> bool {
        let flight = self.flights.get(number as usize % FLIGHTS);
        self.is_under_way(number) && flight.is_some_and(|flight| flight.items.contains(&item))
    }

    /// Lets the next batch go at once.
    pub fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// Whether it is not known yet what became of a batch.
    #[must_use]
    pub fn is_under_way(&self, number: u32) -> bool {
        let flight = self.flights.get(number as usize % FLIGHTS);
        flight.is_some_and(|flight| flight.open && flight.number == number)
    }

    /// Whether there is a reason to send before [`Self::due`].
    #[must_use]
    pub fn is_urgent(&self, store: &impl Store) -> bool {
        store.changed() >= FULL && self.is_free()
    }

    fn is_free(&self) -> bool {
        let place = self.flights.get(self.next as usize % FLIGHTS);
        place.is_some_and(|flight| !flight.open)
    }

    /// Writes the next batch; its length, or `None` if there is nothing to say now.
    pub fn fill(
        &mut self,
        now: Instant,
        store: &mut impl Store,
        batch: &mut [u8],
    ) -> Option<usize> {
        if !self.is_free() {
            self.due = now + DELAY;
            return None;
        }
        let mut writer = Writer {
            batch,
            len: size_of::<u32>(),
            items: heapless::Vec::new(),
        };
        self.changes(now, store, &mut writer);
        self.walk(now, store, &mut writer);
        let settled = match self.pass {
            Pass::Settling(last) => !self.is_open_up_to(last),
            Pass::Walking(_) | Pass::Draining | Pass::Ended(_) => false,
        };
        let ends_pass = settled && writer.end(self.pass_number);
        let Writer { batch, len, items } = writer;
        if items.is_empty() && !ends_pass {
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        if ends_pass {
            self.pass = Pass::Ended(number);
        }
        if self.timed.is_none() {
            self.timed = Some((number, now));
        }
        count(&mut self.counters.sent);
        self.counters.records = self.counters.records.wrapping_add(items.len() as u32);
        *batch.first_chunk_mut()? = number.to_le_bytes();
        *self.flights.get_mut(number as usize % FLIGHTS)? = Flight {
            number,
            sent: now,
            open: true,
            bytes: len as u16,
            items,
        };
        Some(len)
    }

    /// What has changed.
    fn changes(&mut self, now: Instant, store: &mut impl Store, writer: &mut Writer<'_>) {
        for _ in 0..LOOKS {
            if writer.is_full() {
                return;
            }
            let Some(item) = store.take_changed(now) else {
                if self.pass == Pass::Draining {
                    self.pass = Pass::Settling(self.next);
                }
                self.due = now + DELAY;
                return;
            };
            writer.put(now, item, store);
        }
    }

    /// What the pass comes to.
    fn walk(&mut self, now: Instant, store: &mut impl Store, writer: &mut Writer<'_>) {
        let Pass::Walking(mut place) = self.pass else {
            return;
        };
        let items = store.items();
        let looks = match self.complete {
            false => LOOKS,
            true if now < self.walk_due => return,
            true => items.div_ceil(TURNS),
        };
        self.walk_due = now + TURN;
        for _ in 0..looks {
            if writer.is_full() {
                break;
            }
            if place >= items {
                self.pass = Pass::Draining;
                return;
            }
            writer.put(now, place, store);
            place += 1;
        }
        self.pass = Pass::Walking(place);
        if !self.complete {
            self.due = now + GAP;
        }
    }

    fn is_open_up_to(&self, last: u32) -> bool {
        let mut open = self.flights.iter().filter(|flight| flight.open);
        open.any(|flight| last.wrapping_sub(flight.number).cast_signed() >= 0)
    }
}

impl Pass {
    /// This pass after the loss of a batch: what was in it is to be told again.
    fn without(self, number: u32) -> Self {
        match self {
            Self::Settling(last) if last.wrapping_sub(number).cast_signed() >= 0 => Self::Draining,
            Self::Ended(end) if end == number => Self::Draining,
            pass => pass,
        }
    }
}

impl Flight {
    const NONE: Self = Self {
        number: 0,
        sent: Instant::ZERO,
        open: false,
        bytes: 0,
        items: heapless::Vec::new(),
    };

    fn settle(&mut self, store: &mut impl Store) {
        self.open = false;
        for item in core::mem::take(&mut self.items) {
            store.settle(item);
        }
    }

    /// What was in it is to be told again.
    fn lose(&mut self, store: &mut impl Store) {
        self.open = false;
        for item in core::mem::take(&mut self.items) {
            store.mark(item);
        }
    }
}

/// A batch in the making: behind its number the records, each behind its length.
struct Writer<'b> {
    batch: &'b mut [u8],
    len: usize,
    items: heapless::Vec<u32, MAX_ITEMS>,
}

impl Writer<'_> {
    /// Whether the longest record may not fit any more, or the end of a pass.
    fn is_full(&self) -> bool {
        self.batch.len() - self.len < 1 + MAX_RECORD + 2 || self.items.len() >= MAX_ITEMS
    }

    fn put(&mut self, now: Instant, item: u32, store: &mut impl Store) {
        let mut record = [0; MAX_RECORD];
        let len = store.export(now, item, &mut record).min(MAX_RECORD);
        let place = self.batch.get_mut(self.len..self.len + 1 + len);
        if len == 0 {
            store.settle(item);
            return;
        }
        let (Some([front, place @ ..]), Some(record)) = (place, record.get(..len)) else {
            return;
        };
        *front = len as u8;
        place.copy_from_slice(record);
        self.len += 1 + len;
        // There is room: the batch is not full.
        let _ = self.items.push(item);
    }

    fn end(&mut self, pass: u8) -> bool {
        let Some(place) = self.batch.get_mut(self.len..self.len + 2) else {
            return false;
        };
        place.copy_from_slice(&[END, pass]);
        self.len += 2;
        true
    }
}

const fn count(counter: &mut u32) {
    *counter = counter.wrapping_add(1);
}

/// In place of a record's length: a pass ends here.
const END: u8 = 0;
/// Batches under way at a time: fewer than an acknowledgment has bits.
const FLIGHTS: usize = 32;
/// Most records of one batch.
const MAX_ITEMS: usize = 40;
/// Changes that fill a batch.
const FULL: u32 = 18;
/// Places that are looked at for one batch.
const LOOKS: u32 = 256;
/// How old a change becomes before it is told.
const DELAY: Duration = Duration::from_millis(5);
/// Time between two batches of the first pass.
const GAP: Duration = Duration::from_millis(1);
/// Parts of a slow pass.
const TURNS: u32 = 3_000;
/// Time between two of them: a pass takes a minute.
const TURN: Duration = Duration::from_millis(20);
/// How long an acknowledgment may take.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long it may take on a slow path.
const MAX_PATIENCE: Duration = Duration::from_millis(500);
