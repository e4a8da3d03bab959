//! Limits that rules refer to: new flows per second and flows at a time, of a rule or of each source prefix.
//!
//! Sources are counted exactly while there is room for them. Who is counted already keeps his place whatever
//! others do; sources that find no place share one account per limit, of [`SHARED`] times a source's allowance.
//! So a flood from more sources than the table holds neither opens the limit (what passes is bounded) nor
//! takes anything from those who were there before; only newcomers compete with it.

use policy::{Limit, LimitKind, MAX_LIMITS, Scope};
use time::Instant;

use crate::hash::{self, Key};
use crate::record;

/// How many sources' allowance those share that find no place.
pub const SHARED: u32 = 16;

/// The limits of one appliance, with room for `SETS * 4` sources of each kind at a time.
#[derive(Debug)]
pub struct Limits<const SETS: usize> {
    key: Key,
    limits: heapless::Vec<Account, MAX_LIMITS>,
    rates: [[Rate; WAYS]; SETS],
    counts: [[Count; WAYS]; SETS],
}

/// A limit, and what a whole rule, or all sources without a place, have used of it.
#[derive(Debug)]
struct Account {
    limit: Limit,
    /// See [`Bucket`].
    bucket: Bucket,
    flows: u32,
}

/// A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): the moment, in nanoseconds
/// since boot, at which the bucket will be full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket(u64);

/// The bucket of a source; without a meaning once it is full again, so nothing has to be cleared.
#[derive(Clone, Copy, Debug)]
struct Rate {
    source: [u32; 4],
    bucket: Bucket,
    limit: u8,
}

/// The flows of a source; an empty place where there are none.
#[derive(Clone, Copy, Debug)]
struct Count {
    source: [u32; 4],
    flows: u16,
    limit: u8,
}

impl<const SETS: usize> Limits<SETS> {
    /// The limits of a validated configuration, nothing used yet. `key` is secret, so that nobody can choose
    /// whose place to take.
    #[must_use]
    pub fn new(limits: &[Limit], key: Key) -> Self {
        let accounts = limits.iter().take(MAX_LIMITS).map(|limit| Account {
            limit: *limit,
            bucket: Bucket(0),
            flows: 0,
        });
        Self {
            key,
            limits: accounts.collect(),
            rates: [[Rate::EMPTY; WAYS]; SETS],
            counts: [[Count::EMPTY; WAYS]; SETS],
        }
    }

    /// The limits of another configuration. What is used of those that are in both stays used, but for flows, which are to be
    /// counted anew. Limits have no names: of several that are equal, the first is the first.
    #[must_use]
    pub fn successor(&self, now: Instant, limits: &[Limit]) -> Self {
        let mut next = Self::new(limits, self.key);
        let mut new_names = [None; MAX_LIMITS];
        for (new, account) in (0..).zip(&next.limits) {
            let known =
                |(old, name): (&Account, &Option<u8>)| name.is_none() && old.limit == account.limit;
            let found = self.limits.iter().zip(&new_names).position(known);
            if let Some(name) = found.and_then(|old| new_names.get_mut(old)) {
                *name = Some(new);
            }
        }
        for rate in (0..self.rates()).filter_map(|index| self.rate(now, index)) {
            if let Some(limit) = new_names.get(usize::from(rate.limit)).copied().flatten() {
                next.set_rate(now, &record::Rate { limit, ..rate });
            }
        }
        next
    }

    /// Takes a token for a new flow of `source` (a [`hash::number`]); `false` if there is none.
    pub fn take(&mut self, now: Instant, limit: u8, source: u128) -> bool {
        let now = now.as_micros().saturating_mul(1000);
        let set = self.set(limit, source);
        let Some(account) = self.limits.get_mut(usize::from(limit)) else {
            return true;
        };
        let LimitKind::Rate { per_second, burst } = account.limit.kind else {
            return true;
        };
        let (per_second, burst) = (u32::from(per_second), u32::from(burst));
        let Some(source) = account.limit.source(source) else {
            return account.bucket.take(now, per_second, burst);
        };
        let Some(set) = self.rates.get_mut(set) else {
            return false;
        };
        let own = |rate: &&mut Rate| (rate.limit, rate.source) == (limit, source);
        let place = match set.iter_mut().find(own) {
            Some(place) => Some(place),
            None => set.iter_mut().find(|rate| rate.bucket.0 <= now),
        };
        let Some(place) = place else {
            return account
                .bucket
                .take(now, per_second * SHARED, burst * SHARED);
        };
        if (place.limit, place.source) != (limit, source) {
            *place = Rate {
                source,
                bucket: Bucket(0),
                limit,
            };
        }
        place.bucket.take(now, per_second, burst)
    }

    /// Whether `source` may have one more flow.
    #[must_use]
    pub fn has_room(&self, limit: u8, source: u128) -> bool {
        let Some(account) = self.limits.get(usize::from(limit)) else {
            return true;
        };
        let LimitKind::Flows { max } = account.limit.kind else {
            return true;
        };
        let place = self.set(limit, source);
        let Some(source) = account.limit.source(source) else {
            return account.flows < max.into();
        };
        let Some(set) = self.counts.get(place) else {
            return false;
        };
        match set.iter().find(|count| count.is(limit, source)) {
            Some(count) => count.flows < max,
            None if set.iter().any(|count| count.flows == 0) => true,
            None => account.flows < u32::from(max) * SHARED,
        }
    }

    /// A flow that the limit counts was opened.
    pub fn opened(&mut self, limit: u8, source: u128) {
        let set = self.set(limit, source);
        let Some(account) = self.limits.get_mut(usize::from(limit)) else {
            return;
        };
        let places = account
            .limit
            .source(source)
            .and_then(|source| Some((source, self.counts.get_mut(set)?)));
        let place = places.and_then(|(source, set)| {
            let at = set
                .iter()
                .position(|count| count.is(limit, source))
                .or_else(|| set.iter().position(|count| count.flows == 0))?;
            Some((source, set.get_mut(at)?))
        });
        match place {
            Some((source, place)) => {
                let flows = place.flows.saturating_add(1);
                *place = Count {
                    source,
                    flows,
                    limit,
                };
            }
            None => account.flows = account.flows.saturating_add(1),
        }
    }

    /// A flow that the limit counts is over. Each is taken from its source's count, or, if that has no place,
    /// from the shared one, so that the sum of both is the number of flows at any time.
    pub fn closed(&mut self, limit: u8, source: u128) {
        let set = self.set(limit, source);
        let Some(account) = self.limits.get_mut(usize::from(limit)) else {
            return;
        };
        let own = account.limit.source(source).and_then(|source| {
            let mut set = self.counts.get_mut(set)?.iter_mut();
            set.find(|count| count.is(limit, source))
        });
        match own {
            Some(count) => count.flows -= 1,
            None => account.flows = account.flows.saturating_sub(1),
        }
    }

    /// Whether there is such a limit.
    #[must_use]
    pub fn is_known(&self, limit: u8) -> bool {
        usize::from(limit) < self.limits.len()
    }

    /// How many accounts of tokens there are: of limits, then of sources.
    #[must_use]
    pub const fn rates(&self) -> u32 {
        (MAX_LIMITS + SETS * WAYS) as u32
    }

    /// An account of which tokens are used.
    #[must_use]
    pub fn rate(&self, now: Instant, index: u32) -> Option<record::Rate> {
        let now = now.as_micros().saturating_mul(1000);
        let index = index as usize;
        let (limit, source, bucket) = match index.checked_sub(MAX_LIMITS) {
            None => (index as u8, None, self.limits.get(index)?.bucket),
            Some(place) => {
                let rate = self.rates.as_flattened().get(place)?;
                (rate.limit, Some(rate.source), rate.bucket)
            }
        };
        let left = bucket.0.checked_sub(now).filter(|left| *left > 0)?;
        Some(record::Rate {
            limit,
            source,
            left,
        })
    }

    /// As many tokens are used as the other appliance says, at least.
    pub fn set_rate(&mut self, now: Instant, rate: &record::Rate) {
        let now = now.as_micros().saturating_mul(1000);
        let Some(account) = self.limits.get_mut(usize::from(rate.limit)) else {
            return;
        };
        let LimitKind::Rate { per_second, burst } = account.limit.kind else {
            return;
        };
        let step = SECOND / u64::from(per_second.max(1));
        let most = step
            * u64::from(burst)
            * if rate.source.is_some() {
                1
            } else {
                SHARED.into()
            };
        let full = now + rate.left.min(most);
        let bucket = match rate.source {
            None => &mut account.bucket,
            Some(source) => {
                let set = self.key.hash_source(rate.limit, source) as usize % SETS.max(1);
                let Some(set) = self.rates.get_mut(set) else {
                    return;
                };
                let own = |place: &&mut Rate| (place.limit, place.source) == (rate.limit, source);
                let place = match set.iter_mut().find(own) {
                    Some(place) => Some(place),
                    None => set.iter_mut().find(|place| place.bucket.0 <= now),
                };
                let Some(place) = place else {
                    return;
                };
                if (place.limit, place.source) != (rate.limit, source) {
                    *place = Rate {
                        source,
                        bucket: Bucket(0),
                        limit: rate.limit,
                    };
                }
                &mut place.bucket
            }
        };
        bucket.0 = bucket.0.max(full);
    }

    /// The set of a source's prefix.
    fn set(&self, limit: u8, source: u128) -> usize {
        let account = self.limits.get(usize::from(limit));
        let prefix = account.and_then(|account| account.limit.source(source));
        let prefix = prefix.unwrap_or_default();
        self.key.hash_source(limit, prefix) as usize % SETS.max(1)
    }
}

impl Key {
    fn hash_source(self, limit: u8, [a, b, c, d]: [u32; 4]) -> u32 {
        self.hash([a, b, c, d, limit.into()])
    }
}

/// What a limit is about.
trait Sources {
    /// The source prefix that is counted for itself; `None` if the rule is.
    fn source(&self, source: u128) -> Option<[u32; 4]>;
}

impl Sources for Limit {
    fn source(&self, source: u128) -> Option<[u32; 4]> {
        match self.scope {
            Scope::Rule => None,
            Scope::Source { prefix, .. } if hash::is_v4(source) => {
                Some(hash::words(hash::prefix(source, prefix)))
            }
            Scope::Source { prefix6, .. } => Some(hash::words(hash::prefix(source, prefix6))),
        }
    }
}

impl Bucket {
    fn take(&mut self, now: u64, per_second: u32, burst: u32) -> bool {
        let step = SECOND / u64::from(per_second.max(1));
        let full = self.0.max(now);
        if full + step > now + step * u64::from(burst) {
            return false;
        }
        self.0 = full + step;
        true
    }
}

impl Rate {
    const EMPTY: Self = Self {
        source: [0; 4],
        bucket: Bucket(0),
        limit: u8::MAX,
    };
}

impl Count {
    const EMPTY: Self = Self {
        source: [0; 4],
        flows: 0,
        limit: u8::MAX,
    };

    fn is(&self, limit: u8, source: [u32; 4]) -> bool {
        self.flows > 0 && (self.limit, self.source) == (limit, source)
    }
}

const WAYS: usize = 4;
/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use time::Duration;

    use super::*;

    const NOW: Instant = Instant::from_micros(1_000_000_000);

    const PER_SOURCE: Scope = Scope::Source {
        prefix: 24,
        prefix6: 64,
    };

    fn rate(per_second: u16, burst: u16, scope: Scope) -> Limit {
        let kind = LimitKind::Rate { per_second, burst };
        Limit { kind, scope }
    }

    fn flows(max: u16, scope: Scope) -> Limit {
        let kind = LimitKind::Flows { max };
        Limit { kind, scope }
    }

    fn limits<const SETS: usize>(limits: &[Limit]) -> Limits<SETS> {
        Limits::new(limits, Key::secret(1, 0))
    }

    fn source(n: u32) -> u128 {
        hash::number(core::net::IpAddr::V4((n << 8).into()))
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let mut limits = limits::<4>(&[rate(10, 3, Scope::Rule)]);
        let mut taken = |millis| {
            let now = NOW + Duration::from_millis(millis);
            (0..9).filter(|n| limits.take(now, 0, source(*n))).count()
        };
        assert_eq!(taken(0), 3);
        assert_eq!(taken(99), 0);
        assert_eq!(taken(100), 1);
        assert_eq!(taken(350), 2);
        assert_eq!(taken(10_000), 3);
    }

    #[test]
    fn each_source_prefix_has_its_own_bucket() {
        let mut limits = limits::<64>(&[rate(1, 2, PER_SOURCE)]);
        for n in 0..20 {
            assert!(limits.take(NOW, 0, source(n)));
            assert!(limits.take(NOW, 0, source(n) + 7));
            assert!(!limits.take(NOW, 0, source(n) + 8), "{n}");
        }
        let six = |text: &str| hash::number(text.parse().unwrap());
        assert!(limits.take(NOW, 0, six("2001:db8::1")));
        assert!(limits.take(NOW, 0, six("2001:db8::2")));
        assert!(!limits.take(NOW, 0, six("2001:db8::3")));
        assert!(limits.take(NOW, 0, six("2001:db8:0:1::3")));
    }

    /// What a flood gets is bounded, and who was there before it does not notice it.
    #[test]
    fn a_flood_from_many_sources_does_not_open_the_limit() {
        let mut limits = limits::<4>(&[rate(1, 1, PER_SOURCE), rate(1, 5, PER_SOURCE)]);
        assert!(limits.take(NOW, 1, source(1)));
        let passed = (100..10_000)
            .filter(|n| limits.take(NOW, 0, source(*n)))
            .count();
        assert!(passed <= 4 * WAYS + SHARED as usize, "{passed}");
        let known = (0..9).filter(|_| limits.take(NOW, 1, source(1))).count();
        assert_eq!(known, 4);
        // A second later all places are free again.
        let later = NOW + Duration::from_secs(1);
        assert!(limits.take(later, 0, source(77)));
    }

    #[test]
    fn flows_are_counted_per_rule_and_per_source() {
        let mut limits = limits::<64>(&[flows(2, Scope::Rule), flows(2, PER_SOURCE)]);
        for limit in [0, 1] {
            for _ in 0..2 {
                assert!(limits.has_room(limit, source(1)));
                limits.opened(limit, source(1));
            }
            assert!(!limits.has_room(limit, source(1) + 9));
        }
        assert!(!limits.has_room(0, source(2)));
        assert!(limits.has_room(1, source(2)));
        limits.closed(0, source(1));
        limits.closed(1, source(1) + 9);
        assert!(limits.has_room(0, source(2)));
        assert!(limits.has_room(1, source(1)));
    }

    #[test]
    fn unknown_limits_limit_nothing() {
        let mut limits = limits::<1>(&[flows(1, Scope::Rule)]);
        assert!(limits.take(NOW, 9, 0) && limits.has_room(9, 0));
        assert!(limits.take(NOW, 0, 0));
    }

    proptest! {
        /// However crowded the table, opening and closing leave nothing behind, and never more flows are open
        /// than places and the shared account allow.
        #[test]
        fn counts_come_back_to_zero(steps in prop::collection::vec((0_u32..40, any::<bool>()), 1..400)) {
            let mut limits = limits::<2>(&[flows(3, PER_SOURCE)]);
            let mut open: HashMap<u32, u32> = HashMap::new();
            for (n, opens) in steps {
                let mine = open.entry(n).or_default();
                if opens && limits.has_room(0, source(n)) {
                    limits.opened(0, source(n));
                    *mine += 1;
                } else if !opens && *mine > 0 {
                    limits.closed(0, source(n));
                    *mine -= 1;
                }
                let total: u32 = open.values().sum();
                prop_assert!(total <= 2 * 4 * 3 + 3 * SHARED);
                let counted: u32 = limits.counts.as_flattened().iter().map(|c| u32::from(c.flows)).sum();
                prop_assert_eq!(counted + limits.limits[0].flows, total);
            }
            for (n, mine) in open {
                for _ in 0..mine {
                    limits.closed(0, source(n));
                }
            }
            prop_assert!(limits.counts.as_flattened().iter().all(|c| c.flows == 0));
            prop_assert_eq!(limits.limits[0].flows, 0);
        }

        /// A bucket lets through what a plain count of tokens does.
        #[test]
        fn same_answers_as_counting_tokens(waits in prop::collection::vec(0_u64..300, 1..200)) {
            let mut limits = limits::<1>(&[rate(10, 5, Scope::Rule)]);
            // Tokens in thousandths; one comes every 100 ms.
            let (mut tokens, mut now) = (5000_u64, NOW);
            for wait in waits {
                now = now + Duration::from_millis(wait);
                tokens = (tokens + wait * 10).min(5000);
                let passes = tokens >= 1000;
                tokens -= if passes { 1000 } else { 0 };
                prop_assert_eq!(limits.take(now, 0, 0), passes);
            }
        }
    }
}
