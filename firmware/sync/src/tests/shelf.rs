//! A store that is easily compared: a number at each place.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use time::Instant;

use crate::store::{MAX_RECORD, Store, Terms};

#[derive(Debug, Default)]
pub struct Shelf {
    /// What this appliance knows by itself.
    pub own: Vec<Option<u16>>,
    changed: BTreeSet<u32>,
    /// Emptied places that the peer may know as full.
    told: BTreeSet<u32>,
    /// What the peer said, and whether it did in this pass and in the last.
    heard: BTreeMap<u32, (u16, bool, bool)>,
    /// Passes of the peer's that ended.
    pub passes: u32,
}

impl Shelf {
    pub fn set(&mut self, place: u32, value: Option<u16>) {
        self.own[place as usize] = value;
        self.changed.insert(place);
    }

    /// Forgets to tell of a change.
    pub fn set_in_secret(&mut self, place: u32, value: Option<u16>) {
        self.own[place as usize] = value;
    }

    pub fn heard(&self) -> Vec<(u32, u16)> {
        self.heard
            .iter()
            .map(|(place, (value, ..))| (*place, *value))
            .collect()
    }

    pub fn known(&self) -> Vec<(u32, u16)> {
        let places = (0..).zip(&self.own);
        places
            .filter_map(|(place, value)| Some((place, (*value)?)))
            .collect()
    }
}

impl Store for Shelf {
    fn items(&self) -> u32 {
        self.own.len() as u32
    }

    fn changed(&self) -> u32 {
        self.changed.len() as u32
    }

    fn take_changed(&mut self, _: Instant) -> Option<u32> {
        self.changed.pop_first()
    }

    fn mark(&mut self, item: u32) {
        self.changed.insert(item);
    }

    fn settle(&mut self, item: u32) {
        if self.own[item as usize].is_none() && !self.changed.contains(&item) {
            self.told.remove(&item);
        }
    }

    fn export(&mut self, _: Instant, item: u32, record: &mut [u8; MAX_RECORD]) -> usize {
        record[..4].copy_from_slice(&item.to_le_bytes());
        match self.own[item as usize] {
            Some(value) => {
                self.told.insert(item);
                record[4..6].copy_from_slice(&value.to_le_bytes());
                // As long as a flow.
                50
            }
            None if self.told.contains(&item) => 4,
            None => 0,
        }
    }

    fn import(&mut self, _: Instant, record: &[u8], _: Terms) {
        let place = u32::from_le_bytes(*record.first_chunk().unwrap());
        match record.get(4..6) {
            Some(value) => {
                let value = u16::from_le_bytes(value.try_into().unwrap());
                let before = self.heard.get(&place).is_some_and(|(.., before)| *before);
                self.heard.insert(place, (value, true, before));
            }
            None => {
                self.heard.remove(&place);
            }
        }
    }

    fn end_pass(&mut self, _: Instant) {
        self.passes += 1;
        self.heard.retain(|_, (_, now, before)| {
            let stays = *now || *before;
            *before = core::mem::take(now);
            stays
        });
    }
}
