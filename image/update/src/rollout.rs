//! Updates servers one after another, and stops where something is not as it should be.

use thiserror::Error;

use crate::client::Failure;
use crate::message::State;

/// A server to be updated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub server: String,
    /// Others of its role, of which all must serve while it does not.
    pub partners: Vec<String>,
}

/// What happens, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It runs what it should; nothing is done.
    Current(String),
    /// It is sent what it should run.
    Installing(String),
    /// It starts again, into this version.
    Restarting(String, u32),
    /// It serves, and will start this version from now on.
    Updated(String, u32),
}

/// The servers, as far as a roll-out needs them.
pub trait Fleet {
    /// How a server is.
    fn state(&mut self, server: &str) -> Result<State, Failure>;
    /// Whether it runs what it should.
    fn is_current(&mut self, server: &str, state: &State) -> Result<bool, Failure>;
    /// Installs what it should run; says its version.
    fn install(&mut self, server: &str, state: &State) -> Result<u32, Failure>;
    /// Starts it again.
    fn reboot(&mut self, server: &str) -> Result<(), Failure>;
    /// Waits a moment; false when this server has been waited for long enough.
    fn wait(&mut self, server: &str) -> bool;
}

/// Why a roll-out stopped. What was updated before stays; the next run goes on from there.
#[derive(Debug, Error)]
pub enum Stopped {
    /// A question was not answered.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// A server would be the only one of its role to serve.
    #[error("{server} is not touched: {partner} {why}")]
    Partner {
        /// The server.
        server: String,
        /// The other one.
        partner: String,
        /// What it lacks.
        why: String,
    },
    /// A version did not prove itself.
    #[error("{server} fell back from version {version}: {why}")]
    FellBack {
        /// The server.
        server: String,
        /// The version that it was given.
        version: u32,
        /// Its words.
        why: String,
    },
    /// A server does not come back.
    #[error("{server} does not come back: {why}")]
    Silent {
        /// The server.
        server: String,
        /// How it was last.
        why: String,
    },
}

/// Updates all of `targets`, in this order; says how many were not up to date.
pub fn roll(
    targets: &[Target],
    fleet: &mut impl Fleet,
    mut tell: impl FnMut(Event),
) -> Result<usize, Stopped> {
    let mut updated = 0;
    for Target { server, partners } in targets {
        let state = fleet.state(server)?;
        if fleet.is_current(server, &state)? {
            // An earlier run may have been stopped while this one had yet to prove itself.
            settle(fleet, server, state.version)?;
            tell(Event::Current(server.clone()));
            continue;
        }
        for partner in partners {
            let why = match fleet.state(partner) {
                Ok(state) => lacks(&state),
                Err(failure) => Some(format!("does not answer ({failure})")),
            };
            if let Some(why) = why {
                return Err(Stopped::Partner {
                    server: server.clone(),
                    partner: partner.clone(),
                    why,
                });
            }
        }
        tell(Event::Installing(server.clone()));
        let version = fleet.install(server, &state)?;
        tell(Event::Restarting(server.clone(), version));
        fleet.reboot(server)?;
        settle(fleet, server, version)?;
        tell(Event::Updated(server.clone(), version));
        updated += 1;
    }
    Ok(updated)
}

/// Waits until a server has proved that this version serves.
fn settle(fleet: &mut impl Fleet, server: &str, version: u32) -> Result<(), Stopped> {
    loop {
        let why = match fleet.state(server) {
            Ok(state) if state.version == version => match lacks(&state) {
                None => return Ok(()),
                Some(why) => format!("it {why}"),
            },
            Ok(state) => match state.failed {
                Some((failed, why)) if failed == version => {
                    return Err(Stopped::FellBack {
                        server: server.to_owned(),
                        version,
                        why,
                    });
                }
                _ => format!("it still runs version {}", state.version),
            },
            Err(failure) => failure.to_string(),
        };
        if !fleet.wait(server) {
            return Err(Stopped::Silent {
                server: server.to_owned(),
                why,
            });
        }
    }
}

/// What a server lacks that others could rely on it.
fn lacks(state: &State) -> Option<String> {
    let ailing = state.ailing.join(", ");
    match (state.trial, ailing.is_empty()) {
        (true, true) => Some(format!("has yet to prove version {}", state.version)),
        (true, false) => Some(format!(
            "has yet to prove version {}: {ailing}",
            state.version
        )),
        (false, true) => None,
        (false, false) => Some(format!("does not serve: {ailing}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn servers_are_updated_one_after_another() {
        let mut fleet = Fake::new(["lb1", "lb2"]);
        let mut told = Vec::new();
        let updated = roll(&pair(), &mut fleet, |event| told.push(event));
        assert_eq!(updated.unwrap(), 2);
        let name = |name: &str| name.to_owned();
        assert_eq!(
            told,
            [
                Event::Installing(name("lb1")),
                Event::Restarting(name("lb1"), 2),
                Event::Updated(name("lb1"), 2),
                Event::Installing(name("lb2")),
                Event::Restarting(name("lb2"), 2),
                Event::Updated(name("lb2"), 2),
            ]
        );
        assert!(fleet.most_down <= 1);
        assert_eq!(roll(&pair(), &mut fleet, |_| ()).unwrap(), 0);
    }

    #[test]
    fn the_first_failure_stops_and_the_next_run_goes_on() {
        let mut fleet = Fake::new(["lb1", "lb2"]);
        fleet.servers.get_mut("lb2").unwrap().bad = true;
        let stopped = roll(&pair(), &mut fleet, |_| ()).unwrap_err().to_string();
        assert_eq!(stopped, "lb2 fell back from version 2: it was bad");
        fleet.servers.get_mut("lb2").unwrap().bad = false;
        let mut told = Vec::new();
        roll(&pair(), &mut fleet, |event| told.push(event)).unwrap();
        assert_eq!(told[0], Event::Current("lb1".to_owned()));
        assert_eq!(told.last(), Some(&Event::Updated("lb2".to_owned(), 3)));
    }

    #[test]
    fn nothing_is_touched_while_the_partner_does_not_serve() {
        type Break = fn(&mut One);
        let table: [(Break, &str); 3] = [
            (|one| one.down = 1000, "lb2 does not answer"),
            (|one| one.trial = true, "lb2 has yet to prove version 1"),
            (|one| one.ailing = true, "lb2 does not serve: a port"),
        ];
        for (break_it, why) in table {
            let mut fleet = Fake::new(["lb1", "lb2"]);
            break_it(fleet.servers.get_mut("lb2").unwrap());
            let stopped = roll(&pair(), &mut fleet, |_| ()).unwrap_err().to_string();
            let expected = format!("lb1 is not touched: {why}");
            assert!(stopped.starts_with(&expected), "{stopped}");
            assert_eq!(fleet.servers["lb1"].installed, 1);
        }
    }

    fn pair() -> [Target; 2] {
        let target = |server: &str, partner: &str| Target {
            server: server.to_owned(),
            partners: vec![partner.to_owned()],
        };
        [target("lb1", "lb2"), target("lb2", "lb1")]
    }

    struct One {
        version: u32,
        /// The version that was installed last.
        installed: u32,
        /// The version that it starts now.
        starts: Option<u32>,
        current: bool,
        bad: bool,
        trial: bool,
        ailing: bool,
        failed: Option<(u32, String)>,
        /// Questions that it will not answer.
        down: u32,
    }

    struct Fake {
        servers: BTreeMap<String, One>,
        most_down: usize,
    }

    impl Fake {
        fn new(names: [&str; 2]) -> Self {
            let one = |name: &str| {
                let one = One {
                    version: 1,
                    installed: 1,
                    starts: None,
                    current: false,
                    bad: false,
                    trial: false,
                    ailing: false,
                    failed: None,
                    down: 0,
                };
                (name.to_owned(), one)
            };
            Self {
                servers: names.map(one).into(),
                most_down: 0,
            }
        }

        fn one(&mut self, server: &str) -> &mut One {
            self.servers.get_mut(server).unwrap()
        }
    }

    impl Fleet for Fake {
        fn state(&mut self, server: &str) -> Result<State, Failure> {
            let down = self.servers.values().filter(|one| one.down > 0).count();
            self.most_down = self.most_down.max(down);
            let one = self.one(server);
            if one.down > 0 {
                one.down -= 1;
                return Err(Failure::Unreachable {
                    server: server.to_owned(),
                    address: ([127, 0, 0, 1], 1).into(),
                    cause: "down".to_owned(),
                });
            }
            if let Some(version) = one.starts.take() {
                if one.bad {
                    one.failed = Some((version, "it was bad".to_owned()));
                } else {
                    (one.version, one.current) = (version, true);
                }
            }
            Ok(State {
                server: server.to_owned(),
                role: "haproxy".to_owned(),
                version: one.version,
                trial: one.trial,
                root_hash: String::new(),
                kernel: [0; 32],
                identity: [0; 32],
                ailing: one
                    .ailing
                    .then(|| "a port".to_owned())
                    .into_iter()
                    .collect(),
                failed: one.failed.clone(),
            })
        }

        fn is_current(&mut self, server: &str, _: &State) -> Result<bool, Failure> {
            Ok(self.one(server).current)
        }

        fn install(&mut self, server: &str, _: &State) -> Result<u32, Failure> {
            let one = self.one(server);
            one.failed = None;
            one.installed += 1;
            Ok(one.installed)
        }

        fn reboot(&mut self, server: &str) -> Result<(), Failure> {
            let one = self.one(server);
            (one.down, one.starts) = (3, Some(one.installed));
            Ok(())
        }

        fn wait(&mut self, _: &str) -> bool {
            true
        }
    }
}
