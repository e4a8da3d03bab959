//! Clients that stay with their server beyond one flow.

use time::{Duration, Instant};

use crate::hash::{self, Key};
use crate::record;

/// Remembers servers of up to `SETS * 4` clients; a client is the prefix of an address.
///
/// Where four clients that share a set are remembered already, the one whose time runs out first makes room: it
/// loses nothing but its place, for its next flow is balanced like any other.
#[derive(Debug)]
pub struct Memory<const SETS: usize> {
    key: Key,
    sets: [[Entry; WAYS]; SETS],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    client: [u32; 4],
    /// [`NOBODY`] for an empty place.
    service: u8,
    choice: u8,
    /// Seconds since boot.
    expiry: u32,
}

impl<const SETS: usize> Memory<SETS> {
    /// Nobody is remembered. `key` is secret, so that nobody can choose whom to displace.
    #[must_use]
    pub const fn new(key: Key) -> Self {
        Self {
            key,
            sets: [[EMPTY; WAYS]; SETS],
        }
    }

    /// The secret, for a successor.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// The server that a client of a service stays with.
    #[must_use]
    pub fn find(&self, now: Instant, service: u8, client: u128, prefix: u8) -> Option<u8> {
        let client = hash::words(hash::prefix(client, prefix));
        let set = self.sets.get(self.set(service, client))?;
        let entry = set
            .iter()
            .find(|entry| entry.is(service, client) && entry.expiry > seconds(now))?;
        Some(entry.choice)
    }

    /// A flow of a client began or ended: it stays with this server for `time` from now.
    pub fn touch(
        &mut self,
        now: Instant,
        service: u8,
        client: u128,
        prefix: u8,
        choice: u8,
        time: Duration,
    ) {
        let client = hash::words(hash::prefix(client, prefix));
        let index = self.set(service, client);
        let Some(set) = self.sets.get_mut(index) else {
            return;
        };
        let now = seconds(now);
        let known = set.iter_mut().find(|entry| entry.is(service, client));
        let place = match known {
            Some(place) => Some(place),
            None => set.iter_mut().min_by_key(|entry| entry.expiry),
        };
        if let Some(place) = place {
            *place = Entry {
                client,
                service,
                choice,
                expiry: now.saturating_add(time.as_secs() as u32),
            };
        }
    }

    /// How many places there are.
    #[must_use]
    pub const fn places(&self) -> u32 {
        (SETS * WAYS) as u32
    }

    /// Who is remembered at a place.
    #[must_use]
    pub fn get(&self, now: Instant, place: u32) -> Option<record::Client> {
        let entry = self.sets.as_flattened().get(place as usize)?;
        let left = entry.expiry.checked_sub(seconds(now))?;
        (entry.service != NOBODY && left > 0).then_some(record::Client {
            service: entry.service,
            choice: entry.choice,
            client: entry.client,
            left,
        })
    }

    /// Forgets who stays with a server that is gone.
    pub fn forget(&mut self, service: u8, choice: u8) {
        for entry in self.sets.as_flattened_mut() {
            if (entry.service, entry.choice) == (service, choice) {
                *entry = EMPTY;
            }
        }
    }

    fn set(&self, service: u8, [a, b, c, d]: [u32; 4]) -> usize {
        self.key.hash([a, b, c, d, service.into()]) as usize % SETS.max(1)
    }
}

impl Entry {
    fn is(&self, service: u8, client: [u32; 4]) -> bool {
        (self.service, self.client) == (service, client)
    }
}

fn seconds(now: Instant) -> u32 {
    (now.as_micros() / 1_000_000) as u32
}

const WAYS: usize = 4;
const NOBODY: u8 = u8::MAX;
const EMPTY: Entry = Entry {
    client: [0; 4],
    service: NOBODY,
    choice: 0,
    expiry: 0,
};

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::from_micros(1_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn client(text: &str) -> u128 {
        hash::number(text.parse().unwrap())
    }

    #[test]
    fn a_prefix_is_one_client() {
        let mut memory = Memory::<16>::new(Key::secret(1, 0));
        memory.touch(NOW, 2, client("198.51.100.7"), 24, 3, MINUTE);
        let find =
            |memory: &Memory<16>, now, service, text| memory.find(now, service, client(text), 24);
        assert_eq!(find(&memory, NOW, 2, "198.51.100.200"), Some(3));
        assert_eq!(find(&memory, NOW, 1, "198.51.100.200"), None);
        assert_eq!(find(&memory, NOW, 2, "198.51.101.7"), None);
        let later = NOW + MINUTE;
        assert_eq!(find(&memory, later, 2, "198.51.100.7"), None);
        memory.touch(later, 2, client("198.51.100.9"), 24, 4, MINUTE);
        assert_eq!(find(&memory, later, 2, "198.51.100.7"), Some(4));
        memory.forget(2, 4);
        assert_eq!(find(&memory, later, 2, "198.51.100.7"), None);
    }

    #[test]
    fn of_too_many_clients_the_latest_are_remembered() {
        let mut memory = Memory::<1>::new(Key::secret(1, 0));
        for n in 0..10_u8 {
            let now = NOW + Duration::from_secs(n.into());
            memory.touch(now, 0, n.into(), 128, n, MINUTE);
        }
        for n in 0..10_u8 {
            let found = memory.find(NOW, 0, n.into(), 128);
            assert_eq!(found, (n >= 6).then_some(n));
        }
    }

    proptest! {
        /// What is remembered was said, and as long as the table is not crowded everything is remembered.
        #[test]
        fn nothing_is_made_up(steps in prop::collection::vec((0_u8..20, 0_u8..3, 0_u8..8, 0_u64..40), 1..200)) {
            let mut memory = Memory::<64>::new(Key::secret(7, 0));
            let mut model = HashMap::new();
            let mut now = NOW;
            for (client, service, choice, wait) in steps {
                now = now + Duration::from_secs(wait);
                let found = memory.find(now, service, client.into(), 128);
                let expected = model.get(&(client, service)).filter(|(_, end)| *end > now);
                match found {
                    Some(found) => prop_assert_eq!(Some(found), expected.map(|(choice, _)| *choice)),
                    // 60 clients in 64 sets of four: more than four in one set are rare, and only then.
                    None => prop_assert!(expected.is_none() || model.len() > 4),
                }
                memory.touch(now, service, client.into(), 128, choice, MINUTE);
                model.insert((client, service), (choice, now + MINUTE));
            }
        }
    }
}
