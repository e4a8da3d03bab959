//! When an Active tells the network where the virtual addresses are: in a burst when it takes over, in a second one for those who
//! missed the first (a switch port may still be learning), now and then for those who forget, and after a rival was heard.

use policy::Announce;
use time::{Duration, Instant};

/// The schedule of announcements.
#[derive(Clone, Debug)]
pub(crate) struct Announcements {
    config: Announce,
    /// When the next announcement of a burst is due, and how many are left with it.
    burst: Option<(Instant, u8)>,
    second: Option<Instant>,
    refresh: Option<Instant>,
}

impl Announcements {
    pub(crate) fn new(config: Announce) -> Self {
        Self {
            config,
            burst: None,
            second: None,
            refresh: None,
        }
    }

    /// Goes on under other terms. What was planned happens.
    pub(crate) fn reload(&mut self, config: Announce) {
        self.config = config;
    }

    /// Begins anew; the caller makes the first announcement now.
    pub(crate) fn start(&mut self, now: Instant) {
        let Announce {
            second, refresh, ..
        } = self.config;
        self.begin_burst(now, self.config.repeat.saturating_sub(1));
        self.second = (second > 0).then(|| now + Duration::from_millis(second.into()));
        self.refresh = (refresh > 0).then(|| now + Duration::from_secs(refresh.into()));
    }

    pub(crate) fn stop(&mut self) {
        (self.burst, self.second, self.refresh) = (None, None, None);
    }

    /// Another one was Active for a moment, and switches may look for the addresses there. Not at once: it stops only now. More
    /// of the same neither puts a burst off nor makes it longer than it can be.
    pub(crate) fn rival(&mut self, now: Instant) {
        match &mut self.burst {
            Some((_, left)) => *left = self.config.rival.max(*left),
            None => self.begin_burst(now, self.config.rival),
        }
    }

    /// Whether the addresses are to be announced now.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        let mut due = false;
        if let Some((at, left)) = self.burst
            && at <= now
        {
            due = true;
            self.begin_burst(now, left - 1);
        }
        if self.second.is_some_and(|at| at <= now) {
            due = true;
            self.second = None;
            self.begin_burst(now, self.config.repeat.saturating_sub(1));
        }
        if self.refresh.is_some_and(|at| at <= now) {
            due = true;
            self.refresh = Some(now + Duration::from_secs(self.config.refresh.into()));
        }
        due
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let burst = self.burst.map(|(at, _)| at);
        [burst, self.second, self.refresh]
            .into_iter()
            .flatten()
            .min()
    }

    fn begin_burst(&mut self, now: Instant, count: u8) {
        let gap = Duration::from_millis(self.config.gap.max(1).into());
        self.burst = (count > 0).then(|| (now + gap, count));
    }
}
