//! Time that passed unseen: a Backup that slept may take a full receive queue for silence, an Active may go on answering for
//! addresses that another one has.

use time::{Duration, Instant};

use crate::group::{Group, push};
use crate::router::Router;
use crate::standing::Reason;
use crate::{Action, Actions, Cause, Outcome, State};

impl Group {
    /// What the passing of time means by itself: an appliance that was away for too long has to look before it goes on.
    pub(crate) fn wake(&mut self, now: Instant, actions: &mut Actions) {
        let pause = now.since(self.awake);
        self.awake = now;
        let slept = self.nap().is_some_and(|nap| pause > nap);
        if slept {
            self.standing.stumbled(now);
        }
        let before = self.priority();
        self.standing.expire(now);
        match self.state {
            State::Initialize | State::Fault => {}
            State::Backup => {
                if slept {
                    self.companion.slept(now);
                    self.excuse(now);
                }
                if self.linger.is_some_and(|until| until <= now) {
                    self.linger = None;
                    push(actions, Action::Release);
                }
            }
            State::Active if self.was_away(now, pause) => self.stall(now, actions),
            State::Active if self.priority() != before => self.advertise(now, actions),
            State::Active => {}
        }
    }

    /// Who slept (a stalled emulator, a busy processor) cannot call it silence: the adverts may still lie in the receive queue.
    /// One more interval, once, brings them or proves the Active dead.
    fn excuse(&mut self, now: Instant) {
        if self.excused {
            return;
        }
        let extended = |put_off, (_, router): (u8, &mut Router)| router.extend(now) | put_off;
        self.excused = self.routers_mut().fold(false, extended);
    }

    /// Whether another router may have become Active while this one was away.
    fn was_away(&self, now: Instant, pause: Duration) -> bool {
        let late = self.routers().any(|(_, router)| router.overdue(now));
        late || (self.companion.patience()).is_some_and(|patience| pause >= patience)
    }

    /// Stops before a frame that waited is answered, and listens for a while.
    fn stall(&mut self, now: Instant, actions: &mut Actions) {
        self.standing.demote(now, Reason::Watchdog, true);
        self.abandon(now, Outcome::NotActive, actions);
        self.announcements.stop();
        push(actions, Action::Release);
        for (_, router) in self.routers_mut() {
            router.listen_shortly(now);
        }
        self.await_election(now);
        self.stalled = true;
        self.enter(State::Backup, Cause::Stalled, actions);
    }

    /// Absences that are longer are worth noticing: others may have been taken for dead meanwhile, or we may have been.
    fn nap(&self) -> Option<Duration> {
        let interval = self.shortest_interval()?;
        Some((self.companion.nap()).map_or(2 * interval, |nap| nap.min(2 * interval)))
    }

    fn shortest_interval(&self) -> Option<Duration> {
        self.routers().map(|(_, router)| router.interval).min()
    }

    /// How often we want to be called, to know how long we were away.
    pub(crate) fn attention(&self) -> Option<Duration> {
        let interval = self.shortest_interval()?;
        Some((self.companion.attention()).map_or(interval, |often| often.min(interval)))
    }
}
