//! The emulated rack: virtual cables, machines, scenarios and what they measure.
//!
//! [`run`] starts everything, reports what happens through [`Event`]s and leaves nothing behind.

#![forbid(unsafe_code)]

pub mod cable;
pub mod card;
pub mod cgroup;
pub mod client;
mod error;
pub mod kill;
mod knock;
pub mod light;
pub mod load;
mod log;
pub mod machine;
pub mod observer;
pub mod probe;
pub mod process;
pub mod qmp;
pub mod rack;
pub mod scenario;
mod scratch;
mod segment;
pub mod switch;
pub mod uplink;
mod version;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use site::Plan;
use site::plan::Role;

use client::Client;
pub use error::RehearseError;
pub use machine::Appliance;
pub use rack::{Bodies, ServerBody};
use rack::{Kind, Rack};
pub use scenario::{Report, Scenario};
use uplink::Uplink;
pub use version::{Version, versions};

/// What to rehearse.
#[derive(Clone)]
pub struct Options {
    /// The site, with its appliances on the board that shall be rehearsed.
    pub plan: Plan,
    /// `.ravelin` beside the site file; consoles and recordings go to `rehearse/NUMBER` below.
    pub state: PathBuf,
    /// The site's CA certificate, PEM.
    pub authority: PathBuf,
    /// What the machines run. Servers without a body stay off.
    pub bodies: Bodies,
    /// Port of this machine through which the site is reached, on the loopback address of each version of IP; 0 lets
    /// the system choose.
    pub port: u16,
    /// What happens; `None` runs until it is stopped.
    pub scenario: Option<Scenario>,
    /// Requests of the scenario `steady`.
    pub requests: u64,
    /// Ends the rehearsal early.
    pub stop: Stop,
}

/// What the operator sees of a rehearsal while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Cables are laid and local ports are open.
    Begun {
        /// Where consoles and recordings are.
        directory: PathBuf,
        /// Where the site will be reached, for each version of IP.
        local: Vec<SocketAddr>,
    },
    /// A machine was started.
    Started {
        /// Its name.
        machine: String,
        /// Where its console goes.
        console: PathBuf,
    },
    /// A server has booted.
    Up {
        /// Its name.
        machine: String,
        /// Since its start.
        after: Duration,
        /// Units that failed; empty if all is well.
        failed: Vec<String>,
    },
    /// Another appliance advertises, or none or both do (`None`).
    Active {
        /// Its name.
        appliance: Option<String>,
    },
    /// The site does not answer yet.
    Waiting {
        /// Servers that have booted.
        up: usize,
        /// Servers that were started.
        servers: usize,
        /// What the last attempt met.
        last: String,
    },
    /// The site answers through its virtual address.
    Serving {
        /// Since the first machine was started.
        after: Duration,
    },
    /// A scenario breaks something.
    Fault {
        /// What is hit.
        machine: String,
        /// By which scenario.
        scenario: Scenario,
    },
    /// Something of `kill-each` failed and came back.
    Case(kill::Case),
    /// A component that failed is not back yet.
    Restoring {
        /// The machine.
        machine: String,
        /// What is missing.
        missing: String,
    },
    /// Requests of the users so far.
    Requests {
        /// Answered with 200.
        ok: u64,
        /// Not.
        lost: u64,
    },
    /// The rehearsal goes on until it is stopped.
    Running {
        /// Open connections through the local port that has most of them.
        connections: usize,
    },
}

/// A request to end, shared between threads and signal handlers.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A stop that SIGINT, SIGTERM and SIGHUP set.
    pub fn on_signals() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Asks for the end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs a rehearsal to its end; with a scenario, returns what it showed. Everything that was started has
/// ended when this returns, whatever it returns.
///
/// Without a scenario it runs until [`Options::stop`] is set. Must be called from a thread that lives as long
/// as the rehearsal, and that does not die before it.
pub fn run(options: &Options, events: impl Fn(Event)) -> Result<Option<Report>, RehearseError> {
    let listeners = listen(&options.plan, options.port)?;
    let directory = new_directory(&options.state.join("rehearse"))?;
    let mut rack = Rack::new(&options.plan, listeners, &directory)?;
    let local: Vec<SocketAddr> = rack.uplinks().iter().map(Uplink::local).collect();
    let (domain, authority) = (&options.plan.domain, &options.authority);
    let clients = local
        .iter()
        .map(|local| Client::new(*local, domain, authority, REQUEST_PATIENCE))
        .collect::<Result<Vec<_>, _>>()?;
    events(Event::Begun {
        directory: directory.clone(),
        local,
    });

    let begun = Instant::now();
    for (name, body) in &options.bodies.appliances {
        let machine = rack.start_appliance(name, body)?;
        events(Event::Started {
            machine: name.clone(),
            console: machine.console.clone(),
        });
    }
    // In the order of the plan: the first of a role is the preferred one.
    for server in &options.plan.servers {
        let Some(body) = options.bodies.servers.get(&server.name) else {
            continue;
        };
        let machine = rack.start_server(&server.name, body)?;
        events(Event::Started {
            machine: server.name.clone(),
            console: machine.console.clone(),
        });
    }

    let mut watch = Watch::default();
    for client in &clients {
        wait_until_serving(&mut rack, client, options, &directory, &mut watch, &events)?;
    }
    events(Event::Serving {
        after: begun.elapsed(),
    });

    match options.scenario {
        Some(scenario) => {
            wait_until_up(&mut rack, options, &mut watch, &events)?;
            let settings = settings(options, scenario);
            scenario::run(&settings, &mut rack, &clients, &options.stop, &events).map(Some)
        }
        None => {
            while !options.stop.is_set() {
                rack.check_alive()?;
                watch.report(&rack, &events);
                let connections = rack.uplinks().iter().map(Uplink::connections);
                events(Event::Running {
                    connections: connections.max().unwrap_or(0),
                });
                std::thread::sleep(TURN);
            }
            Ok(None)
        }
    }
}

/// Names of the servers that `--only` asks for, all of them if it does not.
pub fn select_servers(plan: &Plan, only: &[String]) -> Result<Vec<String>, RehearseError> {
    let all: Vec<String> = plan
        .servers
        .iter()
        .map(|server| server.name.clone())
        .collect();
    if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
        return Err(RehearseError::UnknownServer {
            name: unknown.clone(),
            known: all.join(", "),
        });
    }
    Ok(all
        .into_iter()
        .filter(|name| only.is_empty() || only.contains(name))
        .collect())
}

fn settings(options: &Options, scenario: Scenario) -> scenario::Settings {
    let of_role = |role: Role| {
        let servers = options.plan.servers.iter();
        let running = servers.filter(|server| options.bodies.servers.contains_key(&server.name));
        running
            .filter(|server| server.role == role)
            .map(|server| server.name.clone())
            .collect()
    };
    scenario::Settings {
        scenario,
        requests: options.requests,
        board: options
            .plan
            .appliances
            .first()
            .map(|appliance| appliance.board.clone())
            .unwrap_or_default(),
        servers: if is_light(options) { "light" } else { "qemu" },
        web: of_role(Role::Nginx),
        app: of_role(Role::App),
        haproxy: of_role(Role::Haproxy),
    }
}

fn is_light(options: &Options) -> bool {
    options
        .bodies
        .servers
        .values()
        .any(|body| matches!(body, ServerBody::Light { .. }))
}

/// Asks the site again and again until it answers 200. Gives up when nothing moves any more: no console
/// grows, no server comes up.
fn wait_until_serving(
    rack: &mut Rack,
    client: &Client,
    options: &Options,
    directory: &Path,
    watch: &mut Watch,
    events: &impl Fn(Event),
) -> Result<(), RehearseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RehearseError::system("cannot start the user"))?;
    loop {
        let attempt = client.clone().with_patience(FIRST_PATIENCE);
        let mut attempt = runtime.spawn(async move { attempt.get().await });
        let answer = loop {
            if options.stop.is_set() {
                return Err(RehearseError::Interrupted);
            }
            rack.check_alive()?;
            watch.report(rack, events);
            match runtime.block_on(async { tokio::time::timeout(TURN, &mut attempt).await }) {
                Ok(Ok(answer)) => break answer,
                Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                Err(_) => {}
            }
        };
        let last = match answer {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => format!("{}: status {}", client.version(), answer.status),
            Err(error) => format!("{}: {error}", client.version()),
        };
        watch.progress(rack, &last);
        let waited = watch.still_for();
        if waited > watch.patience(rack, options) {
            return Err(RehearseError::NotReady {
                waited,
                last,
                directory: directory.to_path_buf(),
            });
        }
        events(Event::Waiting {
            up: watch.up.len(),
            servers: servers(rack),
            last,
        });
        std::thread::sleep(TURN);
    }
}

/// The first answer needs one server of each kind: waits for the others too, as long as anything moves. What one
/// that never comes up means is the scenario's matter.
fn wait_until_up(
    rack: &mut Rack,
    options: &Options,
    watch: &mut Watch,
    events: &impl Fn(Event),
) -> Result<(), RehearseError> {
    let servers = servers(rack);
    while watch.up.len() < servers {
        if options.stop.is_set() {
            return Err(RehearseError::Interrupted);
        }
        rack.check_alive()?;
        watch.report(rack, events);
        watch.progress(rack, "");
        if watch.still_for() > SERVE_PATIENCE {
            break;
        }
        std::thread::sleep(TURN);
    }
    Ok(())
}

fn servers(rack: &Rack) -> usize {
    let machines = rack.machines().iter();
    machines
        .filter(|machine| machine.kind == Kind::Server)
        .count()
}

/// Remembers what was reported, and when something last moved.
#[derive(Default)]
struct Watch {
    up: BTreeSet<String>,
    active: Option<String>,
    seen: (u64, usize, String),
    moved: Option<Instant>,
}

impl Watch {
    fn report(&mut self, rack: &Rack, events: &impl Fn(Event)) {
        for machine in rack
            .machines()
            .iter()
            .filter(|machine| machine.kind == Kind::Server)
        {
            if !self.up.contains(&machine.name)
                && let Some(failed) = machine.boot_report()
            {
                self.up.insert(machine.name.clone());
                events(Event::Up {
                    machine: machine.name.clone(),
                    after: machine.age(),
                    failed,
                });
            }
        }
        let active = rack.active();
        if active != self.active {
            self.active.clone_from(&active);
            events(Event::Active { appliance: active });
        }
    }

    /// Anything new counts: console output, a server that is up, another answer of the site.
    fn progress(&mut self, rack: &Rack, last: &str) {
        let said = rack
            .machines()
            .iter()
            .map(rack::Machine::console_length)
            .sum();
        let now = (said, self.up.len(), last.to_owned());
        if now != self.seen || self.moved.is_none() {
            self.seen = now;
            self.moved = Some(Instant::now());
        }
    }

    /// How long nothing may move: emulated servers are quiet for long while they boot, and the busier the
    /// machine is the longer.
    fn patience(&self, rack: &Rack, options: &Options) -> Duration {
        let booting = self.up.len() < servers(rack);
        if booting && !is_light(options) {
            BOOT_PATIENCE
        } else {
            SERVE_PATIENCE
        }
    }

    fn still_for(&self) -> Duration {
        self.moved.map_or(Duration::ZERO, |moved| moved.elapsed())
    }
}

/// Fails if `port` cannot be had now: better known before a long build than after it.
pub fn check_port(plan: &Plan, port: u16) -> Result<(), RehearseError> {
    listen(plan, port).map(drop)
}

/// The local ports that lead to the site, one for each version of IP.
fn listen(plan: &Plan, port: u16) -> Result<Vec<TcpListener>, RehearseError> {
    let versions = versions(plan).into_iter();
    versions
        .map(|version| {
            let local = SocketAddr::new(version.localhost(), port);
            TcpListener::bind(local).map_err(|reason| match reason.kind() {
                ErrorKind::AddrInUse => RehearseError::PortInUse { port },
                _ => RehearseError::Listen { local, reason },
            })
        })
        .collect()
}

/// Makes `parent/NUMBER` with the next free number, and removes the oldest when there are many.
fn new_directory(parent: &Path) -> Result<PathBuf, RehearseError> {
    let failed =
        || RehearseError::system(format!("cannot make a directory in {}", parent.display()));
    std::fs::create_dir_all(parent).map_err(failed())?;
    let names = std::fs::read_dir(parent).map_err(failed())?.flatten();
    let mut numbers: Vec<u32> = names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    for old in numbers.iter().rev().skip(KEPT_RUNS - 1) {
        // Old recordings only cost room.
        let _ = std::fs::remove_dir_all(parent.join(old.to_string()));
    }
    let directory = parent.join((numbers.last().unwrap_or(&0) + 1).to_string());
    std::fs::create_dir(&directory).map_err(failed())?;
    Ok(directory)
}

/// A user waits so long for an answer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(15);
/// While the site comes up, a new attempt is better than a long one.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
const TURN: Duration = Duration::from_millis(250);
/// Nine emulated servers at once need ten minutes on two cores, and say nothing most of the time.
const BOOT_PATIENCE: Duration = Duration::from_secs(1800);
/// Servers that are up find each other within a minute.
const SERVE_PATIENCE: Duration = Duration::from_secs(180);
const KEPT_RUNS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        for version in [Version::V4, Version::V6] {
            let taken = TcpListener::bind((version.localhost(), 0)).expect("a free port");
            let port = taken.local_addr().expect("bound").port();
            let error = listen(&dualstack(), port).expect_err("taken");
            assert_eq!(
                error.to_string(),
                format!("port {port} of this machine is in use")
            );
        }
    }

    #[test]
    fn a_site_of_both_versions_has_two_ports() {
        let listeners = listen(&dualstack(), 0).expect("free ports");
        let local = listeners
            .iter()
            .map(|listener| listener.local_addr().expect("bound"));
        let versions: Vec<_> = local.map(|local| Version::of(local.ip())).collect();
        assert_eq!(versions, [Version::V4, Version::V6]);

        let text = include_str!("../../../examples/foobar/site.toml");
        assert_eq!(listen(&plan(text), 0).expect("a free port").len(), 1);
    }

    fn dualstack() -> Plan {
        plan(include_str!("../../../examples/dualstack/site.toml"))
    }

    fn plan(text: &str) -> Plan {
        let boards = site::Boards::new([("zynq7000", 2)]);
        site::parse("site.toml", text, &boards).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn runs_are_numbered_and_the_oldest_removed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for n in 1..=KEPT_RUNS + 2 {
            let made = new_directory(dir.path()).expect("directory");
            assert_eq!(made, dir.path().join(n.to_string()));
        }
        assert!(!dir.path().join("2").exists());
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("listing").count(),
            KEPT_RUNS
        );
    }
}
