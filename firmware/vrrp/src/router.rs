//! One virtual router on one leg: its timer, and its judgement of what it hears (RFC 9568 §6).

use core::net::Ipv4Addr;

use policy::{Availability, VirtualRouter};
use time::{Duration, Instant};

use crate::Advert;

/// What a leg keeps for its virtual router. The state (Backup, Active, …) is the group's.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    /// The appliance's own address: breaks ties between Actives.
    pub(crate) address: Ipv4Addr,
    /// Active_Down_Timer in Backup, Adver_Timer in Active.
    pub(crate) timer: Instant,
    /// Advertisement_Interval: our own.
    pub(crate) interval: Duration,
    priority: u8,
    preempt: bool,
    /// Active_Adver_Interval: what the Active says its interval is.
    active_interval: Duration,
    /// When Active_Down_Timer was last set to its full length.
    heard: Instant,
}

/// How an advertisement compares with ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Priority 0: the sender gives up.
    Goodbye,
    /// The sender may be Active.
    Stronger,
    /// We should be Active instead.
    Weaker,
}

impl Router {
    pub(crate) fn new(address: Ipv4Addr, router: &VirtualRouter, shared: &Availability) -> Self {
        let interval = Duration::from_millis(10 * u64::from(router.advertisement_interval));
        Self {
            address,
            timer: Instant::ZERO,
            priority: shared.priority,
            interval,
            preempt: shared.preempt,
            active_interval: interval,
            heard: Instant::ZERO,
        }
    }

    /// The priority after tracking has taken `penalty`. Never 0: that would be a goodbye.
    pub(crate) fn priority(&self, penalty: u8) -> u8 {
        self.priority.saturating_sub(penalty).max(1)
    }

    /// Sets Active_Adver_Interval from an advertisement.
    pub(crate) fn learn(&mut self, interval: Duration) {
        self.active_interval = interval;
    }

    /// Sets Active_Adver_Interval to our own, as at start-up (RFC 9568 §6.4.1).
    pub(crate) fn forget(&mut self) {
        self.active_interval = self.interval;
    }

    /// Sets Active_Down_Timer to Active_Down_Interval.
    pub(crate) fn await_active(&mut self, now: Instant, penalty: u8) {
        self.heard = now;
        self.timer = now + 3 * self.active_interval + self.skew(penalty);
    }

    /// Moves Active_Down_Timer to where one advertisement is a whole interval late.
    pub(crate) fn hurry(&mut self) {
        self.timer = self.timer.min(self.heard + 2 * self.active_interval);
    }

    /// Keeps Active_Down_Timer from firing for one more interval of the Active.
    pub(crate) fn extend(&mut self, now: Instant) {
        self.timer = self.timer.max(now + self.active_interval);
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

    /// What a Backup makes of an advertisement (RFC 9568 §6.4.2).
    pub(crate) fn heard_as_backup(
        &mut self,
        now: Instant,
        advert: &Advert,
        penalty: u8,
    ) -> Judgement {
        if advert.priority == 0 {
            // Never later than it was: repeated goodbyes must not put the election off for ever.
            self.timer = self.timer.min(now + self.skew(penalty));
            return Judgement::Goodbye;
        }
        if self.preempt && advert.priority < self.priority(penalty) {
            return Judgement::Weaker;
        }
        self.learn(advert.interval);
        self.await_active(now, penalty);
        Judgement::Stronger
    }

    /// What an Active makes of an advertisement (RFC 9568 §6.4.3).
    pub(crate) fn heard_as_active(&self, advert: &Advert, penalty: u8) -> Judgement {
        let ours = (self.priority(penalty), self.address);
        match advert.priority {
            0 => Judgement::Goodbye,
            theirs if (theirs, advert.source) > ours => Judgement::Stronger,
            _ => Judgement::Weaker,
        }
    }

    /// Skew_Time (RFC 9568 §6.1): the stronger a Backup, the sooner it is elected.
    fn skew(&self, penalty: u8) -> Duration {
        self.active_interval * (256 - u32::from(self.priority(penalty))) / 256
    }
}
