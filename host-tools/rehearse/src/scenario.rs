//! What happens to the site during a rehearsal, what its users notice, and whether that is good enough.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Serialize;
use site::plan::Port;

use crate::client::Client;
use crate::error::RehearseError;
use crate::kill::{self, Case};
use crate::load::{Kept, Load, Record, Users, share};
use crate::probe::{Probe, blackout};
use crate::rack::{Kind, Rack};
use crate::version::Version;
use crate::{Event, Stop};

/// What can be rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Nothing happens: many requests, all answered, by every web and app server.
    Steady,
    /// The Active appliance loses power.
    KillActive,
    /// The Active appliance is reset: it comes back at once, without any state.
    RestartActive,
    /// The Active appliance hands over to the other one.
    HandOver,
    /// The Active appliance loses its cable to the provider.
    CutWan,
    /// The Active appliance loses its cable to the rack.
    CutLan,
    /// The HAProxy server that carries the traffic loses power.
    StopHaproxy,
    /// Every machine and every service fails once, one after the other, while users read and write.
    KillEach,
}

impl Scenario {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 8] = [
        Self::Steady,
        Self::KillActive,
        Self::RestartActive,
        Self::HandOver,
        Self::CutWan,
        Self::CutLan,
        Self::StopHaproxy,
        Self::KillEach,
    ];

    /// As the operator types it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::KillActive => "kill-active",
            Self::RestartActive => "restart-active",
            Self::HandOver => "hand-over",
            Self::CutWan => "cut-wan",
            Self::CutLan => "cut-lan",
            Self::StopHaproxy => "stop-haproxy",
            Self::KillEach => "kill-each",
        }
    }

    /// What it does, in one line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            Self::Steady => "many requests: all answered, by every web and app server",
            Self::KillActive => "power failure of the active appliance",
            Self::RestartActive => "reset of the active appliance, which comes back at once",
            Self::HandOver => "the active appliance (linux) hands over to the other one",
            Self::CutWan => "the active appliance loses its cable to the provider",
            Self::CutLan => "the active appliance loses its cable to the rack",
            Self::StopHaproxy => "power failure of the active HAProxy server",
            Self::KillEach => {
                "every machine and every service fails once, while users read and write"
            }
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(text: &str) -> Result<Self, UnknownScenario> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == text)
            .ok_or_else(|| UnknownScenario(text.into()))
    }
}

/// Nothing of this name can be rehearsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scenario `{0}`; there are {names}", names = Scenario::ALL.map(Scenario::name).join(", "))]
pub struct UnknownScenario(String);

/// What a scenario showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was rehearsed.
    pub scenario: Scenario,
    /// Board of the appliances.
    pub board: String,
    /// How the servers ran: `qemu` or `light`.
    pub servers: &'static str,
    /// Whether every criterion is met.
    pub passed: bool,
    /// What had to hold.
    pub criteria: Vec<Criterion>,
    /// What users met, by the version of IP that they came with.
    pub users: Vec<UsersReport>,
    /// Answers by web server.
    pub web: BTreeMap<String, u64>,
    /// Answers by app server.
    pub app: BTreeMap<String, u64>,
    /// What was broken, and how the rack dealt with it.
    pub fault: Option<FaultReport>,
    /// What failed, in `kill-each`.
    pub cases: Vec<Case>,
}

/// What the users of one version of IP met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UsersReport {
    /// The version.
    pub ip: Version,
    /// Their requests.
    pub requests: Requests,
    /// Connections that they had open and went on using.
    pub kept_connections: KeptReport,
    /// How long a fault kept the site from them.
    pub outage: Option<Outage>,
}

/// Times after a fault, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outage {
    /// Longest time in which the virtual address answered no ping; `None` if it never ended.
    pub blackout_ms: Option<f64>,
    /// Longest time in which no TCP handshake with the service behind it succeeded.
    pub service_blackout_ms: Option<f64>,
    /// From the fault to the end of the first request that was begun after it and answered.
    pub first_answer_ms: Option<f64>,
}

/// One thing that had to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Criterion {
    /// In words.
    pub what: String,
    /// Whether it did.
    pub met: bool,
}

/// Requests of users, each on a connection of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Requests {
    /// All that ended.
    pub sent: u64,
    /// Answered with 200.
    pub ok: u64,
    /// Not answered, or with another status.
    pub lost: u64,
    /// Median time of those answered, in milliseconds.
    pub median_ms: f64,
    /// Longest time of those answered, in milliseconds.
    pub slowest_ms: f64,
    /// What the lost ones met, with how many.
    pub errors: BTreeMap<String, u64>,
}

/// Connections that were open when the fault came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeptReport {
    /// How many there were.
    pub open: u32,
    /// How many broke.
    pub broken: u32,
}

impl From<Kept> for KeptReport {
    fn from(kept: Kept) -> Self {
        Self {
            open: kept.opened,
            broken: kept.broken,
        }
    }
}

/// A fault and its consequences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultReport {
    /// The machine that was hit.
    pub machine: String,
    /// The Active appliance before.
    pub active_before: Option<String>,
    /// The Active appliance at the end.
    pub active_after: Option<String>,
    /// From the fault to the first advertisement of the other appliance, in milliseconds.
    pub takeover_ms: Option<f64>,
}

/// How a scenario is carried out.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which one.
    pub scenario: Scenario,
    /// Requests of `steady`.
    pub requests: u64,
    /// Board of the appliances, for the report.
    pub board: String,
    /// How the servers run, for the report.
    pub servers: &'static str,
    /// Web servers and app servers that run.
    pub web: Vec<String>,
    /// See `web`.
    pub app: Vec<String>,
    /// The HAProxy servers that run, the preferred one first.
    pub haproxy: Vec<String>,
}

/// Carries out a scenario on a rack that serves, with a client for each version of IP that users come with.
pub fn run(
    settings: &Settings,
    rack: &mut Rack,
    clients: &[Client],
    stop: &Stop,
    events: &impl Fn(Event),
) -> Result<Report, RehearseError> {
    if settings.scenario == Scenario::KillEach && settings.servers != "light" {
        return Err(RehearseError::Unsuitable(
            "services can be killed in containers only: use `--servers light`".into(),
        ));
    }
    for client in clients {
        settle(settings, rack, client, stop)?;
    }
    match settings.scenario {
        Scenario::Steady => steady(settings, rack, clients, stop, events),
        Scenario::KillEach => kill::each(rack, clients, stop, events)
            .map(|cases| Report::new(settings, &[]).of_cases(cases)),
        Scenario::KillActive
        | Scenario::RestartActive
        | Scenario::HandOver
        | Scenario::CutWan
        | Scenario::CutLan
        | Scenario::StopHaproxy => with_fault(settings, rack, clients, stop, events),
    }
}

/// The first answer comes before the last server is taken into use: waits until every web and app server has
/// answered, and nobody was turned away or had to wait for a while, by whichever HAProxy server. One that never answers
/// is the verdict's matter.
fn settle(
    settings: &Settings,
    rack: &mut Rack,
    client: &Client,
    stop: &Stop,
) -> Result<(), RehearseError> {
    let load = Load::start(client, ONE_USER, u64::MAX).map_err(no_users())?;
    let deadline = Instant::now() + SETTLE;
    while Instant::now() < deadline && !is_settled(settings, &load.log().requests()) {
        pause(rack, stop)?;
    }
    Ok(())
}

fn is_settled(settings: &Settings, requests: &[Record]) -> bool {
    let seen = |name: &String| {
        let mut answers = requests
            .iter()
            .filter_map(|record| record.outcome.as_ref().ok());
        answers.any(|answer| [&answer.web, &answer.app].contains(&&Some(name.clone())))
    };
    is_steady(requests) && settings.web.iter().chain(&settings.app).all(seen)
}

fn is_steady(requests: &[Record]) -> bool {
    let mut last = requests.iter().rev().take(SETTLED);
    requests.len() >= SETTLED
        && last.all(|request| request.ok() && request.ended - request.begun < SETTLED_PACE)
}

fn steady(
    settings: &Settings,
    rack: &mut Rack,
    clients: &[Client],
    stop: &Stop,
    events: &impl Fn(Event),
) -> Result<Report, RehearseError> {
    let crowd = Crowd::start(clients, STEADY_USERS, settings.requests)?;
    while crowd.ended() < settings.requests {
        watch(rack, &crowd, stop, events)?;
    }
    let mut report = Report::new(settings, &crowd.met());
    for index in 0..report.users.len() {
        let lost = report.users[index].requests.lost;
        let over = report.over(index);
        report.require(
            format!("every request{over} is answered with 200"),
            lost == 0,
        );
    }
    for (kind, expected, seen) in [
        ("web", &settings.web, &report.web.clone()),
        ("app", &settings.app, &report.app.clone()),
    ] {
        for name in expected {
            report.require(
                format!("{kind} server {name} answers"),
                seen.contains_key(name),
            );
        }
    }
    Ok(report)
}

fn with_fault(
    settings: &Settings,
    rack: &mut Rack,
    clients: &[Client],
    stop: &Stop,
    events: &impl Fn(Event),
) -> Result<Report, RehearseError> {
    let before = wait_for_active(rack, stop)?;
    let (users, knock_interval) = match settings.servers {
        "light" => (USERS, KNOCK_INTERVAL),
        _ => (FEW_USERS, SLOW_KNOCK_INTERVAL),
    };
    let crowd = Crowd::start(clients, users, u64::MAX)?;
    for uplink in rack.uplinks() {
        uplink.probe_every(PING_INTERVAL);
        uplink.knock_every(knock_interval);
    }
    // So many at once are slow at first: each opens connections all the way to the database.
    let patience = Instant::now() + SETTLE;
    while Instant::now() < patience && !crowd.all(is_steady) {
        watch(rack, &crowd, stop, events)?;
    }
    crowd.forget();
    let steady_until = Instant::now() + BASELINE;
    while Instant::now() < steady_until || !crowd.all(|requests| requests.len() >= 5) {
        watch(rack, &crowd, stop, events)?;
    }

    let machine = match settings.scenario {
        Scenario::StopHaproxy => settings
            .haproxy
            .first()
            .cloned()
            .ok_or_else(|| RehearseError::Unsuitable("no HAProxy server is running".into()))?,
        Scenario::Steady
        | Scenario::KillEach
        | Scenario::KillActive
        | Scenario::RestartActive
        | Scenario::HandOver
        | Scenario::CutWan
        | Scenario::CutLan => before.clone(),
    };
    let fault = Instant::now();
    match settings.scenario {
        Scenario::Steady | Scenario::KillEach => {}
        Scenario::KillActive | Scenario::StopHaproxy => rack.power_off(&machine),
        Scenario::RestartActive => rack.restart(&machine)?,
        Scenario::HandOver => rack.hand_over(&machine)?,
        Scenario::CutWan => rack.cut(&machine, Port::Wan)?,
        Scenario::CutLan => rack.cut(&machine, Port::Lan)?,
    }
    events(Event::Fault {
        machine: machine.clone(),
        scenario: settings.scenario,
    });

    while !crowd.all(|requests| recovered(requests, fault)) && fault.elapsed() < GIVE_UP {
        watch(rack, &crowd, stop, events)?;
    }
    let settled = Instant::now() + AFTERMATH;
    while Instant::now() < settled {
        watch(rack, &crowd, stop, events)?;
    }
    // Requests that were under way when the fault came count too.
    crowd.close();
    let patience = Instant::now() + PATIENCE;
    while !crowd.is_over() && Instant::now() < patience {
        watch(rack, &crowd, stop, events)?;
    }

    let uplinks = rack.uplinks().iter();
    let probes: Vec<Probes> = uplinks
        .map(|uplink| Probes {
            version: Version::of(uplink.local().ip()),
            pings: uplink.stop_probes(),
            knocks: uplink.stop_knocks(),
        })
        .collect();
    let after = rack.active();
    let takeover = rack.taken_over(&before, fault).map(|advert| advert.at);
    let met = crowd.met();
    let mut report = Report::new(settings, &met);
    for (index, met) in met.iter().enumerate() {
        let probes = probes.iter().find(|probes| probes.version == met.version);
        report.judge_users(index, &met.requests, probes, fault);
    }
    let appliance_hit = machine == before;
    report.fault = Some(FaultReport {
        machine,
        active_before: Some(before),
        active_after: after,
        takeover_ms: takeover.map(|at| milliseconds(at.duration_since(fault))),
    });
    if settings.scenario == Scenario::RestartActive {
        report.require_return();
    } else if appliance_hit {
        report.require_takeover(rack);
    }
    if settings.scenario == Scenario::HandOver {
        report.require_no_loss();
    }
    Ok(report)
}

/// The users of all versions of IP at work.
struct Crowd(Vec<(Version, Load)>);

/// What the users of one version met.
struct Met {
    version: Version,
    requests: Vec<Record>,
    kept: Kept,
}

impl Crowd {
    /// Shares out `users`, and the requests that they make at most, among the clients.
    fn start(clients: &[Client], users: Users, limit: u64) -> Result<Self, RehearseError> {
        let groups = u32::try_from(clients.len()).unwrap_or(1);
        let mut loads = Vec::new();
        for (index, client) in (0..).zip(clients) {
            let limit = share(limit, index, groups);
            let load = Load::start(client, users.share(index, groups), limit);
            loads.push((client.version(), load.map_err(no_users())?));
        }
        Ok(Self(loads))
    }

    /// Requests that have ended.
    fn ended(&self) -> u64 {
        let loads = self.0.iter();
        loads
            .map(|(_, load)| load.log().requests().len() as u64)
            .sum()
    }

    /// Whether something holds for the requests of each version.
    fn all(&self, holds: impl Fn(&[Record]) -> bool) -> bool {
        let mut loads = self.0.iter();
        loads.all(|(_, load)| holds(&load.log().requests()))
    }

    /// What they met until now does not count.
    fn forget(&self) {
        self.0
            .iter()
            .for_each(|(_, load)| load.log().requests().clear());
    }

    fn close(&self) {
        self.0.iter().for_each(|(_, load)| load.close());
    }

    fn is_over(&self) -> bool {
        self.0.iter().all(|(_, load)| load.is_over())
    }

    fn met(&self) -> Vec<Met> {
        let loads = self.0.iter();
        loads
            .map(|(version, load)| Met {
                version: *version,
                requests: load.log().requests().clone(),
                kept: load.log().kept(),
            })
            .collect()
    }
}

fn no_users() -> impl FnOnce(std::io::Error) -> RehearseError {
    RehearseError::system("cannot start the users")
}

/// What an uplink measured.
struct Probes {
    version: Version,
    pings: Vec<Probe>,
    knocks: Vec<Probe>,
}

impl Report {
    fn new(settings: &Settings, met: &[Met]) -> Self {
        let mut web = BTreeMap::new();
        let mut app = BTreeMap::new();
        let records = met.iter().flat_map(|met| &met.requests);
        for answer in records.filter_map(|record| record.outcome.as_ref().ok()) {
            for (map, name) in [(&mut web, &answer.web), (&mut app, &answer.app)] {
                if let Some(name) = name
                    && answer.status == 200
                {
                    *map.entry(name.clone()).or_insert(0) += 1;
                }
            }
        }
        let users = met.iter().map(|met| UsersReport {
            ip: met.version,
            requests: Requests::of(&met.requests),
            kept_connections: met.kept.into(),
            outage: None,
        });
        Self {
            scenario: settings.scenario,
            board: settings.board.clone(),
            servers: settings.servers,
            passed: true,
            criteria: Vec::new(),
            users: users.collect(),
            web,
            app,
            fault: None,
            cases: Vec::new(),
        }
    }

    /// Judges what each failure showed.
    fn of_cases(mut self, cases: Vec<Case>) -> Self {
        type Holds = fn(&Case) -> bool;
        let judged = cases.iter().filter(|case| case.tells()).count();
        let all: [(&str, Holds); 3] = [
            ("no acknowledged write is missing in any database", |case| {
                case.forgotten == 0
            }),
            (
                "everything comes back, and the site serves as before",
                |case| case.restored_ms.is_some(),
            ),
            (
                "what others do as well is missed by nobody whose request comes later",
                |case| !(case.was_noticed() && case.tells()),
            ),
        ];
        for (what, holds) in all {
            let broken = cases.iter().filter(|case| !holds(case)).map(Case::name);
            let broken: Vec<String> = broken.collect();
            let met = broken.is_empty() && !cases.is_empty();
            let but = match met {
                true => String::new(),
                false => format!(": not after {}", broken.join(", ")),
            };
            self.require(format!("{what}{but}"), met);
        }
        self.require(
            "this machine was quick enough to tell, most of the time",
            2 * judged > cases.len(),
        );
        self.cases = cases;
        self
    }

    fn require(&mut self, what: impl Into<String>, met: bool) {
        self.passed &= met;
        self.criteria.push(Criterion {
            what: what.into(),
            met,
        });
    }

    /// The version of these users, where that makes a difference.
    fn over(&self, users: usize) -> String {
        match self.users.get(users) {
            Some(users) if self.users.len() > 1 => format!(" over {}", users.ip),
            _ => String::new(),
        }
    }

    fn judge_users(
        &mut self,
        index: usize,
        requests: &[Record],
        probes: Option<&Probes>,
        fault: Instant,
    ) {
        let first_answer = requests
            .iter()
            .filter(|record| record.begun > fault && record.ok())
            .map(|record| record.ended)
            .min();
        let over = self.over(index);
        self.require(
            format!("all requests{over} before the fault are answered"),
            {
                requests
                    .iter()
                    .filter(|record| record.ended <= fault)
                    .all(Record::ok)
            },
        );
        self.require(
            format!("requests{over} after the fault are answered again"),
            recovered(requests, fault),
        );
        let address = probes.and_then(|probes| blackout(&probes.pings, fault));
        let service = probes.and_then(|probes| blackout(&probes.knocks, fault));
        self.require(
            format!("the virtual address answers again{over}"),
            address.is_some(),
        );
        self.require(
            format!("the service behind it answers again{over}"),
            service.is_some(),
        );
        if let Some(users) = self.users.get_mut(index) {
            users.outage = Some(Outage {
                blackout_ms: address.map(milliseconds),
                service_blackout_ms: service.map(milliseconds),
                first_answer_ms: first_answer.map(|at| milliseconds(at.duration_since(fault))),
            });
        }
    }

    /// It is preferred, so that it is Active again.
    fn require_return(&mut self) {
        let Some(fault) = &self.fault else { return };
        let again = fault.active_after.is_some() && fault.active_after == fault.active_before;
        self.require("the appliance is active again", again);
    }

    fn require_no_loss(&mut self) {
        for index in 0..self.users.len() {
            let over = self.over(index);
            let (lost, broken) = {
                let users = &self.users[index];
                (users.requests.lost, users.kept_connections.broken)
            };
            self.require(format!("no request{over} is lost"), lost == 0);
            self.require(format!("no open connection{over} breaks"), broken == 0);
        }
    }

    fn require_takeover(&mut self, rack: &Rack) {
        let Some(fault) = &self.fault else { return };
        let pair = rack
            .machines()
            .iter()
            .filter(|machine| machine.kind == Kind::Appliance)
            .count()
            > 1;
        let other = fault.active_after.is_some() && fault.active_after != fault.active_before;
        self.require("the other appliance is active", pair && other);
    }
}

impl Requests {
    fn of(requests: &[Record]) -> Self {
        let mut errors = BTreeMap::new();
        let mut times = Vec::new();
        for record in requests {
            let error = match &record.outcome {
                Ok(answer) if answer.status == 200 => {
                    times.push(answer.took);
                    continue;
                }
                Ok(answer) => format!("status {}", answer.status),
                Err(error) => error.to_string(),
            };
            *errors.entry(error).or_insert(0) += 1;
        }
        times.sort_unstable();
        let (sent, ok) = (requests.len() as u64, times.len() as u64);
        Self {
            sent,
            ok,
            lost: sent - ok,
            median_ms: times
                .get(times.len() / 2)
                .copied()
                .map_or(0.0, milliseconds),
            slowest_ms: times.last().copied().map_or(0.0, milliseconds),
            errors,
        }
    }
}

/// The site serves again: the last so many requests that were begun after the fault were all answered. Those that were
/// begun before them may still fail late, by their users' patience.
fn recovered(requests: &[Record], fault: Instant) -> bool {
    let mut after: Vec<_> = (requests.iter())
        .filter(|record| record.begun > fault)
        .collect();
    after.sort_by_key(|record| record.begun);
    let mut last = after.iter().rev().take(RECOVERED);
    after.len() >= RECOVERED && last.all(|record| record.ok())
}

fn wait_for_active(rack: &mut Rack, stop: &Stop) -> Result<String, RehearseError> {
    let deadline = Instant::now() + GIVE_UP;
    loop {
        if let Some(active) = rack.active() {
            return Ok(active);
        }
        if Instant::now() > deadline {
            return Err(RehearseError::Unsuitable(
                "not exactly one appliance is active".into(),
            ));
        }
        pause(rack, stop)?;
    }
}

fn watch(
    rack: &mut Rack,
    crowd: &Crowd,
    stop: &Stop,
    events: &impl Fn(Event),
) -> Result<(), RehearseError> {
    pause(rack, stop)?;
    let (mut ok, mut lost) = (0, 0);
    for (_, load) in &crowd.0 {
        for record in load.log().requests().iter() {
            *(if record.ok() { &mut ok } else { &mut lost }) += 1;
        }
    }
    events(Event::Requests { ok, lost });
    Ok(())
}

fn pause(rack: &mut Rack, stop: &Stop) -> Result<(), RehearseError> {
    pause_for(rack, stop, Duration::from_millis(100))
}

/// Waits, unless something that should run has ended, or the operator has had enough.
pub(crate) fn pause_for(rack: &mut Rack, stop: &Stop, time: Duration) -> Result<(), RehearseError> {
    if stop.is_set() {
        return Err(RehearseError::Interrupted);
    }
    rack.check_alive()?;
    std::thread::sleep(time);
    Ok(())
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

const ONE_USER: Users = Users {
    workers: 1,
    keepers: 0,
    newcomers: None,
};
/// Few ask at the same time, because everything is emulated on this one machine.
const STEADY_USERS: Users = Users {
    workers: 4,
    keepers: 0,
    newcomers: None,
};
/// Newcomers do not wait for others, so one of them soon meets the site that works again.
const USERS: Users = Users {
    workers: 4,
    keepers: 4,
    newcomers: Some(Duration::from_millis(500)),
};
/// What nine emulated servers beside their own work can answer on two cores.
const FEW_USERS: Users = Users {
    workers: 1,
    keepers: 4,
    newcomers: Some(Duration::from_secs(2)),
};
const PING_INTERVAL: Duration = Duration::from_millis(2);
/// Each knock is a flow in the appliances and wakes a server: fewer of them.
const KNOCK_INTERVAL: Duration = Duration::from_millis(10);
const SLOW_KNOCK_INTERVAL: Duration = Duration::from_millis(40);
/// Undisturbed time before a fault.
const BASELINE: Duration = Duration::from_secs(3);
/// Time after the recovery in which the site must not fall over again.
const AFTERMATH: Duration = Duration::from_secs(3);
/// Health checks of the servers take their time, on a busy machine even more.
const SETTLE: Duration = Duration::from_secs(300);
/// So many requests in a row come by every HAProxy server.
const SETTLED: usize = 10;
/// Slower than this are only servers that still boot.
const SETTLED_PACE: Duration = Duration::from_secs(2);
/// More than any user's.
const PATIENCE: Duration = Duration::from_secs(20);
const RECOVERED: usize = 10;
/// A site that has not recovered by then has not.
const GIVE_UP: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Answer, RequestError};

    #[test]
    fn names_are_what_is_parsed() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(scenario));
            assert_eq!(
                serde_json::to_value(scenario).expect("JSON"),
                scenario.name()
            );
        }
        let error = "kill".parse::<Scenario>().expect_err("no such scenario");
        assert_eq!(
            error.to_string(),
            "there is no scenario `kill`; there are steady, kill-active, restart-active, hand-over, cut-wan, cut-lan, stop-haproxy, kill-each"
        );
    }

    #[test]
    fn recovery_means_that_the_last_requests_were_answered() {
        let fault = Instant::now();
        let at = |ms: u64| fault + Duration::from_millis(ms);
        let good = |from: u64| {
            (from..from + 10)
                .map(|n| record(at(n), true))
                .collect::<Vec<_>>()
        };
        assert!(recovered(&good(1), fault));
        assert!(!recovered(&good(1)[..9], fault), "too few");
        assert!(
            !recovered(&[good(1), vec![record(at(50), false)]].concat(), fault),
            "lost again"
        );
        assert!(
            recovered(&[vec![record(at(1), false)], good(2)].concat(), fault),
            "lost before"
        );
        assert!(
            recovered(&[good(2), vec![record(at(1), false)]].concat(), fault),
            "lost before, noticed late"
        );
        // Requests that began before the fault prove nothing.
        assert!(!recovered(&good(0)[..10], fault));
    }

    #[test]
    fn a_site_has_settled_when_all_servers_answer_and_nobody_is_turned_away() {
        let now = Instant::now();
        let settings = Settings {
            web: vec!["web1".into()],
            ..settings()
        };
        let both = Settings {
            web: vec!["web1".into(), "web2".into()],
            ..settings.clone()
        };
        let requests = |ok: &[bool]| ok.iter().map(|ok| record(now, *ok)).collect::<Vec<_>>();
        let good = [true; SETTLED];
        assert!(is_settled(&settings, &requests(&good)));
        assert!(is_settled(
            &settings,
            &requests(&[&[false], &good[..]].concat())
        ));
        assert!(!is_settled(&settings, &requests(&good[1..])), "too few");
        let lost = [&good[..], &[false, true]].concat();
        assert!(!is_settled(&settings, &requests(&lost)), "lost again");
        assert!(!is_settled(&both, &requests(&good)), "web2 is missing");
        let mut slow = requests(&good);
        slow[0].ended += SETTLED_PACE;
        assert!(!is_settled(&settings, &slow), "still slow");
    }

    #[test]
    fn a_report_counts_and_judges() {
        let now = Instant::now();
        let met = |version, ok: &[bool]| Met {
            version,
            requests: ok.iter().map(|ok| record(now, *ok)).collect(),
            kept: Kept {
                opened: 4,
                broken: 1,
            },
        };
        let one = Report::new(&settings(), &[met(Version::V4, &[true])]);
        assert_eq!(one.over(0), "", "nothing to tell apart");
        let both = [
            met(Version::V4, &[true, true, false]),
            met(Version::V6, &[true]),
        ];
        let mut report = Report::new(&settings(), &both);
        let counted = report.users.iter().map(|users| {
            let requests = &users.requests;
            (users.ip, requests.sent, requests.ok, requests.lost)
        });
        assert_eq!(
            counted.collect::<Vec<_>>(),
            [(Version::V4, 3, 2, 1), (Version::V6, 1, 1, 0)]
        );
        let four = &report.users[0];
        assert_eq!(
            four.requests.errors,
            BTreeMap::from([("no answer within 5 s".into(), 1)])
        );
        assert_eq!(four.kept_connections, KeptReport { open: 4, broken: 1 });
        assert_eq!(report.web, BTreeMap::from([("web1".into(), 3)]));
        report.require("good", true);
        assert!(report.passed);
        report.require("bad", false);
        report.require("good again", true);
        assert!(!report.passed);
    }

    /// One version that comes back does not make up for the other.
    #[test]
    fn users_of_each_version_are_judged() {
        let fault = Instant::now();
        let at = |ms: u64| fault + Duration::from_millis(ms);
        let met = |version, ok| Met {
            version,
            requests: (1..=10).map(|n| record(at(n), ok)).collect(),
            kept: Kept::default(),
        };
        let both = [met(Version::V4, true), met(Version::V6, false)];
        let mut report = Report::new(&settings(), &both);
        for (index, met) in both.iter().enumerate() {
            let probes = (0..500).map(|ms| Probe {
                sent: at(ms),
                answered: (met.version == Version::V4).then(|| at(ms)),
            });
            let probes = Probes {
                version: met.version,
                pings: probes.clone().collect(),
                knocks: probes.collect(),
            };
            report.judge_users(index, &met.requests, Some(&probes), fault);
        }
        let unmet = report.criteria.iter().filter(|criterion| !criterion.met);
        assert_eq!(
            unmet.map(|unmet| unmet.what.as_str()).collect::<Vec<_>>(),
            [
                "requests over IPv6 after the fault are answered again",
                "the virtual address answers again over IPv6",
                "the service behind it answers again over IPv6"
            ]
        );
        let blackouts = report.users.iter().map(|users| {
            let outage = users.outage.expect("a fault");
            (outage.blackout_ms, outage.service_blackout_ms)
        });
        assert_eq!(
            blackouts.collect::<Vec<_>>(),
            [(Some(1.0), Some(1.0)), (None, None)]
        );
    }

    fn record(begun: Instant, ok: bool) -> Record {
        let answer = Answer {
            status: 200,
            web: Some("web1".into()),
            app: None,
            took: Duration::from_millis(3),
        };
        let outcome = if ok {
            Ok(answer)
        } else {
            Err(RequestError::Timeout(Duration::from_secs(5)))
        };
        Record {
            begun,
            ended: begun,
            outcome,
        }
    }

    fn settings() -> Settings {
        Settings {
            scenario: Scenario::Steady,
            requests: 3,
            board: "linux".into(),
            servers: "light",
            web: vec![],
            app: vec![],
            haproxy: vec![],
        }
    }
}
