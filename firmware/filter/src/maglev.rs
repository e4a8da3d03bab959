//! Maglev's lookup table (Eisenbud et al., NSDI 2016, §3.4): hash a client to a place, find a server there. The
//! table follows from the servers' addresses and weights alone, so two appliances that know the same servers
//! choose alike, and a server that comes or goes moves few clients of the others.

use policy::MAX_SERVERS;

use crate::hash::Key;

/// Places of a table: a prime, so that every step visits all of them. Shares are true to about one percent.
pub const SIZE: usize = 251;

/// A server in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Hash of address and port: the same on every appliance.
    pub identity: u32,
    /// Share of the places against the others'; 0 for none.
    pub weight: u32,
}

/// Which server each place belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table([u8; SIZE]);

impl Table {
    /// The table without servers.
    pub const EMPTY: Self = Self([NOBODY; SIZE]);

    /// The table of these servers, by their index. The heaviest takes a place in every round, so that there are
    /// [`SIZE`] rounds at most; each server looks at each place at most once.
    #[must_use]
    pub fn build(servers: &[Candidate]) -> Self {
        let mut table = Self::EMPTY;
        let heaviest = servers.iter().map(|s| s.weight).max().unwrap_or(0);
        if heaviest == 0 {
            return table;
        }
        let mut walks: heapless::Vec<Walk, MAX_SERVERS> =
            servers.iter().take(MAX_SERVERS).map(Walk::of).collect();
        let mut left = SIZE;
        // The heaviest server takes a place in every round, the others in proportion.
        while left > 0 {
            for (index, (walk, server)) in walks.iter_mut().zip(servers).enumerate() {
                walk.credit += u64::from(server.weight);
                if walk.credit < u64::from(heaviest) {
                    continue;
                }
                walk.credit -= u64::from(heaviest);
                if left > 0 && table.take(walk, index) {
                    left -= 1;
                }
            }
        }
        table
    }

    /// The server at the place of `hash`, or at the next one whose server is `usable`.
    pub fn find(&self, hash: u32, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let start = hash as usize % SIZE;
        let (before, from) = self.0.split_at(start);
        let mut refused = NOBODY;
        for &server in from.iter().chain(before) {
            if server == refused || server == NOBODY {
                continue;
            }
            if usable(server.into()) {
                return Some(server.into());
            }
            refused = server;
        }
        None
    }

    /// Gives the next free place on `walk` to a server; `false` if there is none.
    fn take(&mut self, walk: &mut Walk, server: usize) -> bool {
        for _ in 0..SIZE {
            let at = walk.at;
            walk.at = (at + walk.skip) % SIZE;
            if let Some(place) = self.0.get_mut(at)
                && *place == NOBODY
            {
                *place = server as u8;
                return true;
            }
        }
        false
    }
}

/// A server's way through the table: its own order of all places.
struct Walk {
    at: usize,
    skip: usize,
    credit: u64,
}

impl Walk {
    fn of(server: &Candidate) -> Self {
        Self {
            at: Key::PUBLIC.hash([server.identity, 0]) as usize % SIZE,
            skip: Key::PUBLIC.hash([server.identity, 1]) as usize % (SIZE - 1) + 1,
            credit: 0,
        }
    }
}

const NOBODY: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn servers(weights: &[u32]) -> Vec<Candidate> {
        let identity = |n: usize| Key::PUBLIC.hash([n as u32]);
        let candidate = |(n, &weight): (usize, &u32)| Candidate {
            identity: identity(n),
            weight,
        };
        weights.iter().enumerate().map(candidate).collect()
    }

    fn shares(table: &Table, servers: usize) -> Vec<usize> {
        let count = |server| {
            table
                .0
                .iter()
                .filter(|&&s| usize::from(s) == server)
                .count()
        };
        (0..servers).map(count).collect()
    }

    #[test]
    fn equal_weights_share_equally() {
        for count in 1..=MAX_SERVERS {
            let table = Table::build(&servers(&std::vec![1; count]));
            let shares = shares(&table, count);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{shares:?}");
            assert_eq!(shares.iter().sum::<usize>(), SIZE);
        }
    }

    /// The measure of the paper: when one server of eight goes, hardly any client of the others moves.
    #[test]
    fn a_lost_server_moves_few_of_the_others_clients() {
        let all = Table::build(&servers(&[1; 8]));
        let mut moved = 0;
        for lost in 0..8 {
            let mut weights = [1; 8];
            weights[lost] = 0;
            let rest = Table::build(&servers(&weights));
            let pairs = all.0.iter().zip(&rest.0);
            let stayers = pairs.filter(|(before, _)| usize::from(**before) != lost);
            moved += stayers.filter(|(before, after)| before != after).count();
        }
        // Of 8 × 220 places that keep a living server.
        assert!(moved <= 8 * 220 / 5, "{moved}");
    }

    #[test]
    fn who_is_not_usable_is_passed_over() {
        let table = Table::build(&servers(&[1, 1, 1]));
        for hash in 0..SIZE as u32 {
            let chosen = table.find(hash, |_| true).unwrap();
            let next = table.find(hash, |server| server != chosen).unwrap();
            assert_ne!(next, chosen);
            assert_eq!(table.find(hash, |_| false), None);
        }
        assert_eq!(Table::EMPTY.find(5, |_| true), None);
    }

    proptest! {
        /// Every place is taken, by servers with a weight only, each within four places of its share.
        #[test]
        fn shares_follow_the_weights(weights in prop::collection::vec(0_u32..=25_500, 1..=MAX_SERVERS)) {
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            let table = Table::build(&servers(&weights));
            if total == 0 {
                prop_assert_eq!(table, Table::EMPTY);
                return Ok(());
            }
            let shares = shares(&table, weights.len());
            prop_assert_eq!(shares.iter().sum::<usize>(), SIZE);
            for (share, weight) in shares.iter().zip(&weights) {
                let exact = u64::from(*weight) as f64 * SIZE as f64 / total as f64;
                prop_assert!((*share as f64 - exact).abs() <= 4.0, "{share} for {exact}");
            }
        }
    }
}
