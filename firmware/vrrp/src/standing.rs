//! What an appliance is worth at the moment: links, tracked conditions and demotions make a priority of what was configured, or
//! a fault.

use heapless::Vec;
use policy::{Config, MAX_TRACKS, Track, Tracked};
use time::{Duration, Instant};

use crate::Cause;

/// Priority of the owner of the addresses (RFC 9568 §5.2.4).
pub(crate) const OWNER: u8 = 255;
/// Priority of who is demoted: better than nobody.
pub(crate) const DEMOTED: u8 = 1;
/// How long the loop must have run well after it stalled.
const RECOVERY: Duration = Duration::from_secs(1);
/// How long flows may be waited for at most.
const SYNC_LIMIT: Duration = Duration::from_secs(30);

/// Why an appliance is worth less than was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Reason {
    /// A port has no carrier.
    Link,
    /// A tracked condition is bad.
    Track,
    /// The flows of an Active peer are not here yet; for 30 s at most.
    Sync,
    /// The appliance stalled, until it has run well for a second; or failed and started anew, for as long as it was told.
    Watchdog,
    /// The operator said so.
    Operator,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Link,
        Self::Track,
        Self::Sync,
        Self::Watchdog,
        Self::Operator,
    ];
}

/// A set of reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reasons(u8);

impl Reasons {
    /// Whether `reason` is among them.
    #[must_use]
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & Self::bit(reason) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL
            .into_iter()
            .filter(move |reason| self.contains(*reason))
    }

    /// The set with these bits, as [`Self::bits`] has them; others do not count.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        let all = Reason::ALL
            .iter()
            .fold(0, |all, reason| all | Self::bit(*reason));
        Self(bits & all)
    }

    /// One bit for each reason, in the order of [`Reason::ALL`].
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    fn set(&mut self, reason: Reason, on: bool) {
        match on {
            true => self.0 |= Self::bit(reason),
            false => self.0 &= !Self::bit(reason),
        }
    }

    fn bit(reason: Reason) -> u8 {
        1 << reason as u8
    }
}

/// Links, tracked conditions and demotions of one appliance.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    base: u8,
    tracks: Vec<(Track, bool), MAX_TRACKS>,
    /// Ports that the appliance uses, and those of them without a carrier, one bit for each.
    used: u32,
    down: u32,
    operator: bool,
    flows: Flows,
    watchdog: Option<Instant>,
}

/// Whether the flows of the peer are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flows {
    Known,
    /// Not yet; worth waiting for until then.
    Awaited(Instant),
    /// Not yet, and that took too long.
    GivenUp,
}

impl Standing {
    pub(crate) fn new(config: &Config) -> Self {
        let ports = config.interfaces.iter().map(|interface| interface.port);
        Self {
            base: config.availability.priority,
            tracks: (config.availability.tracks.iter())
                .map(|track| (*track, true))
                .collect(),
            used: ports.fold(0, |used, port| used | bit(port)),
            down: 0,
            operator: false,
            flows: Flows::Known,
            watchdog: None,
        }
    }

    /// Goes on with what another configuration watches; `good` says how that is now, apart from ports.
    pub(crate) fn reload(&mut self, config: &Config, good: impl Fn(Tracked) -> bool) {
        self.base = config.availability.priority;
        let down = self.down;
        let state = |track: &Track| match track.what {
            Tracked::Port(port) => down & bit(port) == 0,
            Tracked::Neighbours(_) | Tracked::Service(_) | Tracked::Posted(_) => good(track.what),
        };
        self.tracks = (config.availability.tracks.iter())
            .map(|track| (*track, state(track)))
            .collect();
    }

    pub(crate) fn link(&mut self, port: u8, up: bool) {
        match up {
            true => self.down &= !bit(port),
            false => self.down |= bit(port),
        }
        for (track, good) in &mut self.tracks {
            if track.what == Tracked::Port(port) {
                *good = up;
            }
        }
    }

    pub(crate) fn track(&mut self, index: u8, good: bool) {
        if let Some((track, known)) = self.tracks.get_mut(usize::from(index))
            && !matches!(track.what, Tracked::Port(_))
        {
            *known = good;
        }
    }

    pub(crate) fn demote(&mut self, now: Instant, reason: Reason, on: bool) {
        match reason {
            Reason::Link | Reason::Track => {}
            // Who cannot get the flows does not wait for ever, however often that is reported.
            Reason::Sync => match (on, self.flows) {
                (true, Flows::Known) => self.flows = Flows::Awaited(now + SYNC_LIMIT),
                (true, Flows::Awaited(_) | Flows::GivenUp) => {}
                (false, _) => self.flows = Flows::Known,
            },
            Reason::Watchdog => self.watchdog = on.then(|| self.recovered(now)),
            Reason::Operator => self.operator = on,
        }
    }

    /// The loop was away for long: the second in which it has to run well begins anew.
    pub(crate) fn stumbled(&mut self, now: Instant) {
        if self.watchdog.is_some() {
            self.watchdog = Some(self.recovered(now));
        }
    }

    /// It has started anew after a failure, and shall be left alone until then.
    pub(crate) fn failed(&mut self, until: Instant) {
        self.watchdog = self.watchdog.max(Some(until));
    }

    /// When it is fit again that stalled now.
    fn recovered(&self, now: Instant) -> Instant {
        let soon = now + RECOVERY;
        self.watchdog.map_or(soon, |until| until.max(soon))
    }

    /// Ends what ends by itself.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.awaited().is_some_and(|until| until <= now) {
            self.flows = Flows::GivenUp;
        }
        self.watchdog = self.watchdog.filter(|until| *until > now);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.awaited(), self.watchdog].into_iter().flatten().min()
    }

    fn awaited(&self) -> Option<Instant> {
        match self.flows {
            Flows::Awaited(until) => Some(until),
            Flows::Known | Flows::GivenUp => None,
        }
    }

    pub(crate) fn is_up(&self, port: u8) -> bool {
        self.down & bit(port) == 0
    }

    /// What keeps this appliance from being Active: a port that is down and not weighed otherwise, or a bad condition without a
    /// weight.
    pub(crate) fn fault(&self) -> Option<Cause> {
        let weighed =
            |port| (self.tracks.iter()).any(|(track, _)| track.what == Tracked::Port(port));
        let port = (0..u32::BITS as u8)
            .find(|port| self.used & self.down & bit(*port) != 0 && !weighed(*port));
        if let Some(port) = port {
            return Some(Cause::LinkLost { port });
        }
        let (index, (track, _)) = (0..)
            .zip(&self.tracks)
            .find(|(_, (track, good))| track.weight == 0 && *good == track.reverse)?;
        Some(match track.what {
            Tracked::Port(port) => Cause::LinkLost { port },
            Tracked::Neighbours(_) | Tracked::Service(_) | Tracked::Posted(_) => {
                Cause::TrackLost { track: index }
            }
        })
    }

    /// The priority that tracking leaves. As keepalived computes it: a positive weight counts while the condition is good, a
    /// negative one while it is bad, `reverse` turns the sign; the sum is kept from 1 to 254, and an owner's priority is fixed.
    pub(crate) fn tracked_priority(&self) -> u8 {
        if self.base == OWNER {
            return OWNER;
        }
        let counts = |(track, good): &&(Track, bool)| *good == (track.weight > 0);
        let sum =
            self.tracks
                .iter()
                .filter(counts)
                .fold(i32::from(self.base), |sum, (track, _)| {
                    let weight = i32::from(track.weight);
                    sum + if track.reverse { -weight } else { weight }
                });
        sum.clamp(1, 254) as u8
    }

    /// The priority now. `waits`: whether the flows of an Active peer are worth waiting for.
    pub(crate) fn priority(&self, waits: bool) -> u8 {
        match self.operator || self.watchdog.is_some() || waits && self.awaited().is_some() {
            true => DEMOTED,
            false => self.tracked_priority(),
        }
    }

    /// The conditions about `what`.
    pub(crate) fn tracks(&self, what: Tracked) -> Vec<u8, MAX_TRACKS> {
        let about = (0..).zip(&self.tracks);
        about
            .filter(|(_, (track, _))| track.what == what)
            .map(|(index, _)| index)
            .collect()
    }

    /// The priority that was configured.
    pub(crate) fn base(&self) -> u8 {
        self.base
    }

    /// Whether anything speaks against relieving a peer.
    pub(crate) fn is_demoted(&self) -> bool {
        self.operator || self.watchdog.is_some() || self.awaited().is_some()
    }

    pub(crate) fn reasons(&self) -> Reasons {
        let mut reasons = Reasons::default();
        reasons.set(Reason::Link, self.used & self.down != 0);
        for (track, good) in &self.tracks {
            if *good == track.reverse {
                let reason = match track.what {
                    Tracked::Port(_) => Reason::Link,
                    Tracked::Neighbours(_) | Tracked::Service(_) | Tracked::Posted(_) => {
                        Reason::Track
                    }
                };
                reasons.set(reason, true);
            }
        }
        reasons.set(Reason::Sync, self.awaited().is_some());
        reasons.set(Reason::Watchdog, self.watchdog.is_some());
        reasons.set(Reason::Operator, self.operator);
        reasons
    }
}

fn bit(port: u8) -> u32 {
    1_u32.checked_shl(port.into()).unwrap_or(0)
}
