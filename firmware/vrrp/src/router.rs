//! One virtual router: its timer, and its judgement of what it hears (RFC 9568 §6, RFC 3768 §6).

use core::net::IpAddr;

use policy::{Config, Version, VirtualRouter};
use time::{Duration, Instant};
use wire::nd;

use crate::Advert;

/// What the group keeps for one virtual router. The state (Backup, Active, …) and the priority are the group's.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    /// Index of the physical port.
    pub(crate) port: u8,
    /// The appliance's own address: breaks ties between Actives.
    pub(crate) address: IpAddr,
    /// The address that the other appliance of the pair has here, if that is known.
    pub(crate) peer: Option<IpAddr>,
    /// Active_Down_Timer in Backup, Adver_Timer in Active.
    pub(crate) timer: Instant,
    /// Advertisement_Interval: our own.
    pub(crate) interval: Duration,
    version: Version,
    /// Active_Adver_Interval: what the Active says its interval is.
    active_interval: Duration,
    /// When Active_Down_Timer was last set to its full length.
    heard: Instant,
    /// When the last advertisement came in that was no goodbye, from whomever.
    seen: Option<Instant>,
}

/// How an advertisement compares with ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Judgement {
    /// Priority 0: the sender gives up.
    Goodbye,
    /// We should be Active instead.
    Weaker,
    /// The sender may be Active.
    Stronger,
}

impl Router {
    pub(crate) fn new(config: &Config, router: &VirtualRouter) -> Option<Self> {
        let interface = config.interfaces.get(usize::from(router.interface))?;
        let mut paths = config.availability.pair.iter().flat_map(|pair| &pair.paths);
        let path = paths.find(|path| path.interface == router.interface);
        let address = |mac, four| match router.is_v6() {
            true => IpAddr::V6(nd::link_local(mac).into()),
            false => IpAddr::V4(four),
        };
        let interval = Duration::from_millis(10 * u64::from(router.advertisement_interval.max(1)));
        Some(Self {
            port: interface.port,
            address: address(interface.mac, interface.address),
            peer: path.map(|path| address(path.mac, path.address)),
            timer: Instant::ZERO,
            interval,
            version: router.version,
            active_interval: interval,
            heard: Instant::ZERO,
            seen: None,
        })
    }

    /// Goes on as the router of another configuration, whose identifier is the same.
    pub(crate) fn go_on(&mut self, now: Instant, old: &Self, active: bool) {
        self.timer = old.timer;
        self.heard = old.heard;
        self.seen = old.seen;
        if self.version == Version::V3 && old.version == Version::V3 {
            self.active_interval = old.active_interval;
        }
        if active {
            self.timer = self.timer.min(now + self.interval);
        }
    }

    /// Sets Active_Adver_Interval from an advertisement. Version 2 has one interval for all.
    pub(crate) fn learn(&mut self, interval: Duration) {
        if self.version == Version::V3 {
            self.active_interval = interval;
        }
    }

    /// Forgets all that was heard, as at start-up (RFC 9568 §6.4.1).
    pub(crate) fn forget(&mut self) {
        self.active_interval = self.interval;
        self.seen = None;
    }

    /// Sets Active_Down_Timer to Active_Down_Interval.
    pub(crate) fn await_active(&mut self, now: Instant, priority: u8) {
        self.heard = now;
        self.timer = now + self.down_interval(priority);
    }

    /// Moves Active_Down_Timer with Skew_Time when the priority changes.
    pub(crate) fn reprioritise(&mut self, before: u8, priority: u8) {
        if self.timer == self.heard + self.down_interval(before) {
            self.timer = self.heard + self.down_interval(priority);
        }
    }

    /// Moves Active_Down_Timer to where one advertisement is a whole interval late.
    pub(crate) fn hurry(&mut self) {
        self.timer = self.timer.min(self.heard + 2 * self.active_interval);
    }

    /// Keeps Active_Down_Timer from firing for one more interval of the Active; whether that changed anything.
    pub(crate) fn extend(&mut self, now: Instant) -> bool {
        let extended = now + self.active_interval;
        let changed = self.timer < extended;
        self.timer = self.timer.max(extended);
        changed
    }

    /// Listens for one interval of the Active, however long the timer was.
    pub(crate) fn listen_shortly(&mut self, now: Instant) {
        self.heard = now;
        self.timer = now + self.active_interval;
    }

    /// Sets Adver_Timer to Advertisement_Interval.
    pub(crate) fn restart_adverts(&mut self, now: Instant) {
        self.timer = now + self.interval;
    }

    /// Whether Adver_Timer has fired; restarts it without drift if so.
    pub(crate) fn advert_due(&mut self, now: Instant) -> bool {
        if self.timer > now {
            return false;
        }
        self.timer = self.timer + self.interval;
        if self.timer <= now {
            self.restart_adverts(now);
        }
        true
    }

    /// Whether the next advertisement is so late that others may have missed three.
    pub(crate) fn overdue(&self, now: Instant) -> bool {
        now >= self.timer + 2 * self.interval
    }

    /// Whether an advertisement came in after `since`.
    pub(crate) fn seen_after(&self, since: Instant) -> bool {
        self.seen.is_some_and(|seen| seen > since)
    }

    /// Whether adverts come in that are not accepted, because the Active is weaker.
    pub(crate) fn is_contested(&self, now: Instant, priority: u8) -> bool {
        let contested = |seen| seen > self.heard && now <= seen + self.down_interval(priority);
        self.seen.is_some_and(contested)
    }

    /// What a Backup makes of an advertisement (RFC 9568 §6.4.2).
    pub(crate) fn heard_as_backup(
        &mut self,
        now: Instant,
        advert: &Advert,
        priority: u8,
        preempts: bool,
    ) -> Judgement {
        if advert.priority == 0 {
            // Never later than it was: repeated goodbyes must not put the election off for ever.
            self.timer = self.timer.min(now + self.skew(priority));
            return Judgement::Goodbye;
        }
        self.seen = Some(now);
        if preempts && advert.priority < priority {
            return Judgement::Weaker;
        }
        self.learn(advert.interval);
        self.await_active(now, priority);
        Judgement::Stronger
    }

    /// What an Active makes of an advertisement (RFC 9568 §6.4.3).
    pub(crate) fn heard_as_active(
        &mut self,
        now: Instant,
        advert: &Advert,
        priority: u8,
    ) -> Judgement {
        if advert.priority == 0 {
            return Judgement::Goodbye;
        }
        self.seen = Some(now);
        // Addresses of one IP version compare as unsigned numbers in network byte order.
        if (advert.priority, advert.source) > (priority, self.address) {
            return Judgement::Stronger;
        }
        Judgement::Weaker
    }

    /// Active_Down_Interval (RFC 9568 §6.1).
    fn down_interval(&self, priority: u8) -> Duration {
        3 * self.active_interval + self.skew(priority)
    }

    /// Skew_Time: the stronger a Backup, the sooner it is elected.
    fn skew(&self, priority: u8) -> Duration {
        let base = match self.version {
            Version::V2 => Duration::from_secs(1), // RFC 3768 §6.1
            Version::V3 => self.active_interval,   // RFC 9568 §6.1
        };
        base * (256 - u32::from(priority)) / 256
    }
}
