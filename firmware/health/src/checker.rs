//! The checker of all real servers of an appliance.

use core::net::{IpAddr, Ipv4Addr};

use heapless::Vec;
use policy::{Check, Config, MAX_SERVERS, MAX_SERVICES};
use time::{Duration, Instant};
use wire::tcp::Flags;

use crate::random::Random;
use crate::{Action, Actions, Input, Probe, SOURCE_PORTS, Segment};

/// Checks every real server of every service. Servers with the same address and check share one probe.
#[derive(Clone, Debug)]
pub struct Checker {
    targets: Vec<Target, MAX_TARGETS>,
    /// For each service, the target of each of its servers.
    services: Vec<Vec<u8, MAX_SERVERS>, MAX_SERVICES>,
    random: Random,
    /// Source port of the next probe; so one returns after 16,384 others.
    next_port: u16,
}

/// One address and port that is checked.
#[derive(Clone, Debug)]
struct Target {
    server: Ipv4Addr,
    check: Check,
    health: Health,
    /// When the next probe begins.
    due: Instant,
    probe: Option<Outstanding>,
}

/// A SYN that has no answer yet.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    port: u16,
    sequence: u32,
    gives_up: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// Not yet checked: the first result decides.
    Unknown,
    /// With so many failures in a row.
    Healthy { failures: u8 },
    /// With so many successes in a row.
    Unhealthy { successes: u8 },
}

impl Checker {
    /// A checker of all servers in `config` (a validated one). Nobody is healthy before the first answer;
    /// first checks are due within the first tenth of a second. `seed` picks ports, sequence numbers and
    /// the spread of checks over time.
    #[must_use]
    pub fn new(config: &Config, seed: u64, now: Instant) -> Self {
        let mut random = Random::new(seed);
        let next_port = SOURCE_PORTS.start() | random.word() as u16;
        let mut checker = Self {
            targets: Vec::new(),
            services: Vec::new(),
            random,
            next_port,
        };
        for service in &config.services {
            let mut indices = Vec::new();
            for server in &service.servers {
                // Both tables are as large as the configuration can be: nothing is left out.
                let IpAddr::V4(address) = server.address else {
                    continue;
                };
                if let Some(index) = checker.target(address, &service.check, now) {
                    let _ = indices.push(index);
                }
            }
            let _ = checker.services.push(indices);
        }
        checker
    }

    /// Applies one input and returns what has to happen now.
    #[must_use]
    pub fn step(&mut self, now: Instant, input: Input) -> Actions {
        let mut actions = Actions::new();
        match input {
            Input::Timer => self.timer(now, &mut actions),
            Input::Segment(segment) => self.segment(&segment, &mut actions),
        }
        actions
    }

    /// When to call `step` with `Input::Timer`; `None` if there is nothing to check.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.targets.iter().map(Target::deadline).min()
    }

    /// Whether a server (by index in its service) may get new flows.
    #[must_use]
    pub fn healthy(&self, service: usize, server: usize) -> bool {
        let target = self
            .services
            .get(service)
            .and_then(|servers| servers.get(server));
        target.is_some_and(|target| self.target_healthy(*target))
    }

    /// The server that gets new flows of a service: the first healthy one (active/passive).
    #[must_use]
    pub fn choice(&self, service: usize) -> Option<usize> {
        self.services
            .get(service)?
            .iter()
            .position(|target| self.target_healthy(*target))
    }

    fn target_healthy(&self, target: u8) -> bool {
        let target = self.targets.get(usize::from(target));
        target.is_some_and(|target| matches!(target.health, Health::Healthy { .. }))
    }

    /// The index of the target for `server`, made if it is new.
    fn target(&mut self, server: Ipv4Addr, check: &Check, now: Instant) -> Option<u8> {
        let mut known = self.targets.iter();
        let index = match known.position(|other| (other.server, &other.check) == (server, check)) {
            Some(index) => index,
            None => {
                let spread = u64::from(check.interval_ms).min(FIRST_CHECKS.as_millis() as u64);
                let due = now + Duration::from_micros(self.random.below(1000 * spread));
                let health = Health::Unknown;
                self.targets
                    .push(Target {
                        server,
                        check: check.clone(),
                        health,
                        due,
                        probe: None,
                    })
                    .ok()?;
                self.targets.len() - 1
            }
        };
        u8::try_from(index).ok()
    }

    /// Serves targets that are due, those that waited longest first, as long as there is room for actions.
    fn timer(&mut self, now: Instant, actions: &mut Actions) {
        while actions.capacity() - actions.len() >= ACTIONS_PER_TARGET {
            let earliest = self
                .targets
                .iter_mut()
                .min_by_key(|target| target.deadline());
            let Some(target) = earliest.filter(|target| target.deadline() <= now) else {
                return;
            };
            if target.probe.is_some_and(|probe| probe.gives_up <= now) {
                target.probe = None;
                target.judge(false, actions);
            }
            if target.probe.is_none() && target.due <= now {
                target.begin(now, self.next_port, &mut self.random, actions);
                self.next_port = self
                    .next_port
                    .checked_add(1)
                    .unwrap_or(*SOURCE_PORTS.start());
            }
        }
    }

    fn segment(&mut self, segment: &Segment, actions: &mut Actions) {
        let flags = Flags(segment.flags);
        let (reset, syn) = (flags.contains(Flags::RST), flags.contains(Flags::SYN));
        // Without ACK it answers nothing of ours: a bare SYN would open a connection to us.
        if !flags.contains(Flags::ACK) {
            return;
        }
        let from = (segment.source, segment.source_port);
        let Some(known) = self.targets.iter().position(|target| target.is_at(from)) else {
            return;
        };
        let answers = |target: &Target| target.is_at(from) && target.awaits(segment);
        let answered = self.targets.iter_mut().find(|target| answers(target));

        if let Some(target) = answered.filter(|_| reset || syn) {
            target.probe = None;
            // RFC 9293 §3.10.7.3: a reset that acknowledges our SYN refuses the connection.
            target.judge(!reset, actions);
        }
        if !reset && let Some(target) = self.targets.get(known) {
            // Ends the half-open connection; or one of an older probe that the server still waits for
            // (RFC 9293 §3.10.7.1, as for a closed port).
            push(
                actions,
                Action::SendReset(Probe {
                    server: target.server,
                    port: target.check.port,
                    source_port: segment.destination_port,
                    sequence: segment.acknowledgment,
                }),
            );
        }
    }
}

impl Target {
    fn deadline(&self) -> Instant {
        self.probe.map_or(self.due, |probe| probe.gives_up)
    }

    fn is_at(&self, address_and_port: (Ipv4Addr, u16)) -> bool {
        (self.server, self.check.port) == address_and_port
    }

    /// Whether `segment` acknowledges the outstanding SYN. Who cannot see it has to guess 46 bits.
    fn awaits(&self, segment: &Segment) -> bool {
        self.probe.is_some_and(|probe| {
            probe.port == segment.destination_port
                && probe.sequence.wrapping_add(1) == segment.acknowledgment
        })
    }

    /// Sends a SYN, and plans the next one: an interval later, give or take a sixteenth.
    fn begin(
        &mut self,
        now: Instant,
        source_port: u16,
        random: &mut Random,
        actions: &mut Actions,
    ) {
        let Self {
            server,
            check:
                Check {
                    port,
                    interval_ms,
                    timeout_ms,
                    ..
                },
            ..
        } = *self;
        let sequence = random.word();
        let gives_up = now + Duration::from_millis(timeout_ms.into());
        self.probe = Some(Outstanding {
            port: source_port,
            sequence,
            gives_up,
        });
        let interval = 1000 * u64::from(interval_ms);
        let jittered = interval - interval / 16 + random.below(interval / 8);
        self.due = now + Duration::from_micros(jittered);
        push(
            actions,
            Action::SendSyn(Probe {
                server,
                port,
                source_port,
                sequence,
            }),
        );
    }

    /// Counts the result of a probe.
    fn judge(&mut self, success: bool, actions: &mut Actions) {
        let before = self.health;
        self.health = match (before, success) {
            (Health::Unknown | Health::Healthy { .. }, true) => Health::Healthy { failures: 0 },
            (Health::Unknown | Health::Unhealthy { .. }, false) => {
                Health::Unhealthy { successes: 0 }
            }
            (Health::Healthy { failures }, false) if failures + 1 < self.check.fall => {
                Health::Healthy {
                    failures: failures + 1,
                }
            }
            (Health::Healthy { .. }, false) => Health::Unhealthy { successes: 0 },
            (Health::Unhealthy { successes }, true) if successes + 1 < self.check.rise => {
                Health::Unhealthy {
                    successes: successes + 1,
                }
            }
            (Health::Unhealthy { .. }, true) => Health::Healthy { failures: 0 },
        };
        if core::mem::discriminant(&before) != core::mem::discriminant(&self.health) {
            let healthy = matches!(self.health, Health::Healthy { .. });
            let (server, port) = (self.server, self.check.port);
            push(
                actions,
                Action::Changed {
                    server,
                    port,
                    healthy,
                },
            );
        }
    }
}

/// There is room: a segment gives two actions at most, and a timer step looks before.
fn push(actions: &mut Actions, action: Action) {
    let pushed = actions.push(action);
    debug_assert!(pushed.is_ok());
}

const MAX_TARGETS: usize = MAX_SERVICES * MAX_SERVERS;

/// First checks are spread over this time, so that a restart is not a burst.
const FIRST_CHECKS: Duration = Duration::from_millis(100);

/// Most actions of one target in a timer step: a verdict on the old probe, and a new one.
const ACTIONS_PER_TARGET: usize = 2;
