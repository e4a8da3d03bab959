//! Another configuration for a group that runs. What is equal goes on as if nothing had happened: states, timers, delays and
//! hand-overs under way, and adverts never pause.

use policy::{Config, Tracked};
use time::{Duration, Instant};

use crate::group::{Group, push, send};
use crate::router::Router;
use crate::{Action, Actions, Cause, State};

impl Group {
    /// Goes on with another (validated) configuration. `known` says which router of the old one a new one is, by their
    /// indices; `good` how what is tracked is now, apart from ports; `moved` whether there are addresses to announce. Routers
    /// that are gone have said goodbye before.
    #[must_use]
    pub fn reload(
        &mut self,
        now: Instant,
        config: &Config,
        known: impl Fn(u8) -> Option<u8>,
        good: impl Fn(Tracked) -> bool,
        moved: bool,
    ) -> Actions {
        let mut actions = Actions::new();
        self.wake(now, &mut actions);
        let before = self.priority();
        let availability = &config.availability;
        self.preempt = availability.preempt;
        self.preempt_delay = Duration::from_millis(availability.preempt_delay.into());
        self.start_delay = Duration::from_millis(availability.start_delay.into());
        self.announcements.reload(availability.announce);
        self.companion.reload(config);
        self.standing.reload(config, good);
        let priority = self.priority();
        let old = core::mem::take(&mut self.routers);
        for (index, router) in (0..).zip(&config.routers) {
            let Some(mut router) = Router::new(config, router) else {
                continue;
            };
            match known(index).and_then(|index| old.get(usize::from(index))) {
                Some(old) => router.go_on(now, old, self.state == State::Active),
                None if self.state == State::Active => router.timer = now,
                None => router.await_active(now.max(self.listen_until), priority),
            }
            let _ = self.routers.push(router); // as many as a configuration has
        }
        self.silent = 0;
        match (self.state, self.fault()) {
            (State::Initialize, _) | (State::Fault, Some(_)) => {}
            (State::Fault, None) => self.begin(now, Cause::Repaired, &mut actions),
            (State::Backup | State::Active, Some(cause)) => {
                self.leave(State::Fault, cause, &mut actions);
            }
            (State::Backup, None) => {
                for (_, router) in self.routers_mut() {
                    router.reprioritise(before, priority);
                }
            }
            (State::Active, None) => {
                if priority == before {
                    for (index, router) in self.routers_mut() {
                        if router.advert_due(now) {
                            send(&mut actions, index, priority);
                        }
                    }
                } else {
                    self.advertise(now, &mut actions);
                }
                if moved {
                    push(&mut actions, Action::Announce);
                    self.announcements.start(now);
                }
            }
        }
        self.note_silence(now, &mut actions);
        actions
    }

    /// Both appliances have the same configuration: what they agreed about holds from now on. Until then the longer silence
    /// means a dead peer, and the more frequent heartbeat is waited for.
    pub fn agree(&mut self) {
        self.companion.agree();
    }
}
