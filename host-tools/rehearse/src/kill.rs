//! The scenario `kill-each`: every machine and every service of the rack fails once, one after the other, while users read
//! and write. What they were told is compared with the databases afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use serde::Serialize;
use site::plan::{DbMode, Role, Server, Source, ports};
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;

use crate::client::Client;
use crate::error::RehearseError;
use crate::process::Process;
use crate::rack::{Kind, Rack, SERVER_NICE};
use crate::scenario::{milliseconds, pause_for};
use crate::{Event, Stop};

/// How a component fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// All processes of a service are killed (SIGKILL).
    Killed,
    /// Nothing passes on the machine's cable for a while.
    CableCut,
    /// The machine loses its power, and has it again later.
    PowerCut,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed",
            Self::CableCut => "cable cut",
            Self::PowerCut => "power cut",
        })
    }
}

/// What failed, and what users noticed from then on until all was as before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    /// The machine.
    pub machine: String,
    /// The service on it; none for the whole machine.
    pub service: Option<String>,
    /// How it failed.
    pub failure: Failure,
    /// Whether others do its work at once: users lose at most what was under way on it.
    pub covered: bool,
    /// Requests that only read.
    pub reads: Met,
    /// Requests that write.
    pub writes: Met,
    /// Writes that were acknowledged, but that a database does not have.
    pub forgotten: u64,
    /// Longest time in which servers got no turn of this machine's processors, in milliseconds: what is lost then says nothing
    /// of the site.
    pub stalled_ms: f64,
    /// From the failure until the component was back and all was as before; none if that never happened.
    pub restored_ms: Option<f64>,
    /// What was missing then.
    pub missing: Option<String>,
}

/// What became of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Met {
    /// All.
    pub sent: u64,
    /// Those that were not answered with 200.
    pub lost: u64,
    /// Those of them that were sent after the failure.
    pub lost_later: u64,
    /// Longest time without any answer, in milliseconds.
    pub longest_gap_ms: f64,
    /// What the lost ones met, with how many.
    pub errors: BTreeMap<String, u64>,
}

impl Case {
    /// Whether more was lost than what was under way, although others do the same work.
    #[must_use]
    pub fn was_noticed(&self) -> bool {
        self.covered && self.reads.lost_later + self.writes.lost_later > 0
    }

    /// Whether the machine was quick enough to tell.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.stalled_ms < STALLED
    }

    /// The component in words.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.service {
            Some(service) => format!("{service} on {} {}", self.machine, self.failure),
            None => format!("{} {}", self.machine, self.failure),
        }
    }
}

/// Lets everything fail, one after the other. Stops early after something that did not come back: nothing that follows
/// would fail alone.
pub fn each(
    rack: &mut Rack,
    clients: &[Client],
    stop: &Stop,
    events: &impl Fn(Event),
) -> Result<Vec<Case>, RehearseError> {
    let normal = Normal::learn(rack, clients, stop)?;
    let mut cases = Vec::new();
    for target in normal.targets(rack) {
        let case = normal.fail(&target, rack, clients, stop, events)?;
        let restored = case.restored_ms.is_some();
        events(Event::Case(case.clone()));
        cases.push(case);
        if !restored {
            break;
        }
    }
    Ok(cases)
}

/// What is to fail.
struct Target {
    machine: String,
    service: Option<String>,
    failure: Failure,
    covered: bool,
}

/// How the rack is while nothing is amiss.
struct Normal {
    active: Option<String>,
    /// Services that run, by server.
    services: BTreeMap<String, BTreeSet<String>>,
    /// Balancers that users come to.
    balancers: BTreeSet<String>,
    /// Whether users can write: only to the demo application.
    writable: bool,
    /// The next box that nobody has ticked.
    next: Arc<AtomicU32>,
}

impl Normal {
    fn learn(rack: &mut Rack, clients: &[Client], stop: &Stop) -> Result<Self, RehearseError> {
        let mut normal = Self {
            active: None,
            services: BTreeMap::new(),
            balancers: BTreeSet::new(),
            writable: rack.plan().app.source == Source::Demo,
            next: Arc::default(),
        };
        let users = normal.users(clients)?;
        let deadline = Instant::now() + BACK;
        // Nothing is known of services yet, so that a server counts as soon as it has booted.
        while let Err(missing) = normal.is_whole(rack, None) {
            if Instant::now() > deadline {
                return Err(RehearseError::Unsuitable(missing));
            }
            pause_for(rack, stop, TURN)?;
        }
        pause_for(rack, stop, AFTERMATH)?;
        for server in servers(rack) {
            let running = running(rack, &server.name);
            normal.services.insert(server.name.clone(), running);
        }
        normal.balancers = balancers_in_use(rack, stop)?;
        normal.active = rack.active();
        drop(users);
        Ok(normal)
    }

    fn users(&self, clients: &[Client]) -> Result<Users, RehearseError> {
        let writes = self.writable.then(|| Arc::clone(&self.next));
        Users::start(clients, writes).map_err(RehearseError::system("cannot start the users"))
    }

    fn targets(&self, rack: &Rack) -> Vec<Target> {
        let mut targets = Vec::new();
        let appliances = rack.machines().iter();
        let appliances = appliances.filter(|machine| machine.kind == Kind::Appliance);
        let pair = appliances.clone().count() > 1;
        for appliance in appliances {
            targets.push(Target {
                machine: appliance.name.clone(),
                service: None,
                failure: Failure::PowerCut,
                covered: pair,
            });
        }
        for server in servers(rack) {
            let machine = || server.name.clone();
            // A killed exporter is nobody's loss, wherever it is.
            let beside = |service: &String| !SERVING.contains(&service.as_str());
            let covered = self.is_covered(rack, &server);
            for service in &self.services[&server.name] {
                targets.push(Target {
                    machine: machine(),
                    service: Some(service.clone()),
                    failure: Failure::Killed,
                    covered: covered || beside(service),
                });
            }
            for failure in [Failure::CableCut, Failure::PowerCut] {
                targets.push(Target {
                    machine: machine(),
                    service: None,
                    failure,
                    covered,
                });
            }
        }
        targets
    }

    /// Whether users need not notice when the server is away.
    fn is_covered(&self, rack: &Rack, server: &Server) -> bool {
        let others = servers(rack);
        let mut same = others.iter().filter(|other| other.role == server.role);
        match server.role {
            // Until the appliances have noticed, users come to a balancer that is no more.
            Role::Haproxy => !self.balancers.contains(&server.name),
            // HAProxy tries the other one, and so does Nginx.
            Role::Nginx | Role::App => same.count() > 1,
            // The first is written to, and writes wait until the others have taken over.
            Role::Db => {
                rack.plan().database.mode == DbMode::Galera
                    && same.next().is_some_and(|first| first.name != server.name)
            }
            Role::Monitor => true,
        }
    }

    fn fail(
        &self,
        target: &Target,
        rack: &mut Rack,
        clients: &[Client],
        stop: &Stop,
        events: &impl Fn(Event),
    ) -> Result<Case, RehearseError> {
        let name = &target.machine;
        let users = self.users(clients)?;
        let meter = Meter::start().map_err(RehearseError::system("cannot run a shell"))?;
        let begun = Instant::now();
        while begun.elapsed() < BACK && !users.are_served(begun) {
            pause_for(rack, stop, TURN)?;
        }
        pause_for(rack, stop, BASELINE)?;
        let before = match &target.service {
            Some(service) => main_process(rack, name, service),
            None => None,
        };
        let fault = Instant::now();
        match (target.failure, &target.service) {
            (Failure::Killed, Some(service)) => kill(rack, name, service)?,
            (Failure::Killed, None) | (Failure::PowerCut, _) => rack.power_off(name),
            (Failure::CableCut, _) => rack.silence(name),
        }
        let hit = Instant::now();
        if target.service.is_none() {
            while !(users.are_served(hit) && hit.elapsed() > AWAY) && hit.elapsed() < GIVE_UP {
                pause_for(rack, stop, TURN)?;
            }
            match target.failure {
                Failure::CableCut => rack.mend(name),
                Failure::Killed | Failure::PowerCut => rack.power_on(name)?,
            }
        }
        let back = Instant::now();
        let answering: Vec<String> = (servers(rack).into_iter())
            .filter(|server| match server.role {
                Role::Nginx => true,
                // Only the demo says who it is.
                Role::App => self.writable,
                Role::Haproxy | Role::Db | Role::Monitor => false,
            })
            .map(|server| server.name)
            .collect();
        let mut missing;
        loop {
            let again = |service: &String| {
                let now = main_process(rack, name, service);
                now.is_some() && now != before
            };
            missing = match &target.service {
                Some(service) if !again(service) => Some(format!("{service} is not back")),
                _ => self.is_whole(rack, Some(name)).err(),
            };
            if missing.is_none() && !users.are_served(back) {
                missing = Some("users are not served".to_owned());
            }
            if missing.is_none() {
                let idle = users.without_answer_of(answering.clone(), back);
                missing = idle.map(|name| format!("{name} answers nobody"));
            }
            if missing.is_none() || hit.elapsed() > BACK {
                break;
            }
            events(Event::Restoring {
                machine: name.clone(),
                missing: missing.unwrap_or_default(),
            });
            pause_for(rack, stop, TURN)?;
        }
        let restored = missing.is_none().then(|| fault.elapsed());
        pause_for(rack, stop, AFTERMATH)?;
        users.close();
        let patience = Instant::now() + PATIENCE;
        while !users.are_gone() && Instant::now() < patience {
            pause_for(rack, stop, TURN)?;
        }
        let visits = users.visits().clone();
        let (reads, writes): (Vec<Visit>, Vec<Visit>) =
            (visits.into_iter()).partition(|visit| visit.number.is_none());
        Ok(Case {
            machine: name.clone(),
            service: target.service.clone(),
            failure: target.failure,
            covered: target.covered,
            reads: Met::of(&reads, fault, hit),
            writes: Met::of(&writes, fault, hit),
            forgotten: self.forgotten(&writes, rack, stop)?,
            stalled_ms: milliseconds(meter.longest()),
            restored_ms: restored.map(milliseconds),
            missing,
        })
    }

    /// Whether everything is as it should be; or what is missing. `hit` is the machine that failed, if only one can have.
    fn is_whole(&self, rack: &Rack, hit: Option<&str>) -> Result<(), String> {
        if rack.active().is_none() || (hit.is_some() && rack.active() != self.active) {
            return Err("the preferred appliance is not active".to_owned());
        }
        for server in servers(rack) {
            let name = &server.name;
            if hit.is_none_or(|hit| hit == *name) {
                if rack
                    .machine(name)
                    .is_none_or(|machine| machine.boot_report().is_none())
                {
                    return Err(format!("{name} has not booted"));
                }
                let running = running(rack, name);
                let expected = self.services.get(name).into_iter().flatten();
                if let Some(service) = expected.into_iter().find(|one| !running.contains(*one)) {
                    return Err(format!("{service} on {name} does not run"));
                }
            }
            match server.role {
                Role::Haproxy if !is_able(rack, &server) => {
                    return Err(format!("{name} does not say that it can serve"));
                }
                Role::Db if !is_in_cluster(rack, &server) => {
                    return Err(format!("{name} is not in a whole cluster"));
                }
                Role::Haproxy | Role::Nginx | Role::App | Role::Db | Role::Monitor => {}
            }
        }
        let balancer = hit.and_then(|hit| rack.plan().server(hit));
        if balancer.is_some_and(|server| server.role == Role::Haproxy)
            && users_of(rack, STEADY) != self.balancers
        {
            return Err("users still come to another balancer".to_owned());
        }
        Ok(())
    }

    /// How many writes were acknowledged, but are missing in the database of one of the servers at least.
    fn forgotten(
        &self,
        writes: &[Visit],
        rack: &mut Rack,
        stop: &Stop,
    ) -> Result<u64, RehearseError> {
        let told: BTreeSet<u32> = (writes.iter())
            .filter(|visit| visit.error.is_none())
            .filter_map(|visit| visit.number)
            .collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let databases = servers(rack)
                .into_iter()
                .filter(|server| server.role == Role::Db);
            let lost: BTreeSet<u32> = databases
                .flat_map(|server| {
                    let there: BTreeSet<u32> = (ask(rack, &server.name, BOXES).lines())
                        .filter_map(|line| line.trim().parse().ok())
                        .collect();
                    told.difference(&there).copied().collect::<Vec<_>>()
                })
                .collect();
            // A copy may be behind for a moment.
            if !self.writable || lost.is_empty() || Instant::now() > deadline {
                return Ok(lost.len() as u64);
            }
            pause_for(rack, stop, TURN)?;
        }
    }
}

/// The servers that were started, in the order of the plan.
fn servers(rack: &Rack) -> Vec<Server> {
    let started = |server: &&Server| rack.machine(&server.name).is_some();
    let servers = rack.plan().servers.iter();
    servers.filter(started).cloned().collect()
}

/// What a command on a server says; nothing if it cannot be run.
fn says(rack: &Rack, server: &str, command: &[&str]) -> String {
    let machine = rack.machine(server);
    let output = machine.and_then(|machine| machine.run(command).ok());
    output.map_or_else(String::new, |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

fn running(rack: &Rack, server: &str) -> BTreeSet<String> {
    let command = "systemctl list-units --type=service --state=running --plain --no-legend";
    let command: Vec<&str> = command.split(' ').collect();
    let said = says(rack, server, &command);
    let services = said
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    services
        .filter_map(|service| service.strip_suffix(".service"))
        .map(String::from)
        .collect()
}

fn main_process(rack: &Rack, server: &str, service: &str) -> Option<u32> {
    let show = ["systemctl", "show", "--value", "--property=MainPID"];
    let said = says(rack, server, &[&show[..], &[service]].concat());
    let process = said.trim().parse().ok()?;
    (process != 0).then_some(process)
}

fn kill(rack: &Rack, server: &str, service: &str) -> Result<(), RehearseError> {
    let kill = ["systemctl", "kill", "--signal=KILL", service];
    let killed = rack.machine(server).map(|machine| machine.run(&kill));
    match killed {
        Some(Ok(output)) if output.status.success() => Ok(()),
        other => Err(RehearseError::Unsuitable(format!(
            "cannot kill {service} on {server}: {other:?}"
        ))),
    }
}

/// The answer of a database server to its administrator.
fn ask(rack: &Rack, server: &str, query: &str) -> String {
    let socket = "--socket=/run/mysqld/mysqld.sock";
    let client = ["mariadb", "--no-defaults", "--skip-ssl", socket, "-N", "-e"];
    says(rack, server, &[&client[..], &[query]].concat())
}

fn is_in_cluster(rack: &Rack, server: &Server) -> bool {
    let plan = rack.plan();
    if plan.database.mode != DbMode::Galera {
        return ask(rack, &server.name, "SELECT 1").trim() == "1";
    }
    let databases = plan.servers.iter().filter(|one| one.role == Role::Db);
    let members = databases.count() + usize::from(plan.database.arbiter.is_some());
    let status = ask(rack, &server.name, "SHOW GLOBAL STATUS LIKE 'wsrep%'");
    let is = |name: &str, value: &str| {
        let mut rows = status.lines().filter_map(|line| line.split_once('\t'));
        rows.any(|(key, found)| key == name && found == value)
    };
    is("wsrep_cluster_size", &members.to_string()) && is("wsrep_local_state_comment", "Synced")
}

/// Whether the balancer tells the appliances that it can do all of its work.
fn is_able(rack: &Rack, server: &Server) -> bool {
    let mut services = rack.plan().services.iter();
    let asked = services.any(|service| {
        service.agent.is_some() && service.servers.iter().any(|one| one.server == server.name)
    });
    if !asked {
        return true;
    }
    let (address, port) = (server.address, ports::HAPROXY_AGENT);
    let talk = format!("exec 3<>/dev/tcp/{address}/{port} && cat <&3");
    let command = ["timeout", "5", "bash", "-c", &talk];
    let machine = rack.machine(&server.name);
    let output = machine.and_then(|machine| machine.inside(&command).ok());
    output.is_some_and(|output| output.stdout.starts_with(b"ready up 100%"))
}

/// The balancers whose firewall counts new connections of users meanwhile.
fn users_of(rack: &Rack, time: Duration) -> BTreeSet<String> {
    let counted = || -> Vec<(String, String)> {
        let balancers = servers(rack)
            .into_iter()
            .filter(|server| server.role == Role::Haproxy);
        balancers
            .map(|server| {
                let counters = says(rack, &server.name, &["sh", "-c", COUNTERS]);
                (server.name, counters)
            })
            .collect()
    };
    let before = counted();
    std::thread::sleep(time);
    let after = counted().into_iter().zip(before);
    after
        .filter(|(after, before)| after != before)
        .map(|((name, _), _)| name)
        .collect()
}

/// The same, once it has not changed for a while.
fn balancers_in_use(rack: &mut Rack, stop: &Stop) -> Result<BTreeSet<String>, RehearseError> {
    let deadline = Instant::now() + GIVE_UP;
    let mut last = users_of(rack, STEADY);
    loop {
        pause_for(rack, stop, TURN)?;
        let now = users_of(rack, STEADY);
        if now == last || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}

/// A process that gives way as servers do, and writes down when it had its turn.
struct Meter {
    process: Process,
    turns: NamedTempFile,
}

impl Meter {
    fn start() -> std::io::Result<Self> {
        let turns = NamedTempFile::new()?;
        let script = ["-c", "while sleep 0.1; do date +%s%3N; done"].map(String::from);
        let process = Process::spawn(Path::new("sh"), &script, SERVER_NICE, turns.path())?;
        Ok(Self { process, turns })
    }

    /// The longest time between two turns.
    fn longest(mut self) -> Duration {
        self.process.kill();
        let text = std::fs::read_to_string(self.turns.path()).unwrap_or_default();
        let turns: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        let gaps = turns.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        // One that never had two was never let to.
        gaps.max().map_or(Duration::MAX, Duration::from_millis)
    }
}

/// One request.
#[derive(Clone, Debug)]
struct Visit {
    begun: Instant,
    ended: Instant,
    /// The box that was to be ticked; none for who only looks.
    number: Option<u32>,
    /// Why it was lost, if it was.
    error: Option<String>,
    /// The servers that had a part in the answer, as far as it says.
    by: Vec<String>,
}

impl Met {
    fn of(visits: &[Visit], fault: Instant, hit: Instant) -> Self {
        let visits: Vec<&Visit> = (visits.iter())
            // Those before are no news.
            .filter(|visit| visit.ended > fault)
            .collect();
        let lost = |visit: &&&Visit| visit.error.is_some();
        let mut errors = BTreeMap::new();
        for error in visits.iter().filter_map(|visit| visit.error.clone()) {
            *errors.entry(error).or_insert(0) += 1;
        }
        let answered = visits.iter().filter(|visit| visit.error.is_none());
        let mut answers: Vec<Instant> = answered.map(|visit| visit.ended).collect();
        answers.sort_unstable();
        let mut last = fault;
        let mut gap = Duration::ZERO;
        // Nobody was answered any more, if the end is not an answer.
        let end = visits.iter().map(|visit| visit.ended).max();
        for answer in answers.into_iter().chain(end) {
            gap = gap.max(answer.saturating_duration_since(last));
            last = last.max(answer);
        }
        let later = visits.iter().filter(lost).filter(|visit| visit.begun > hit);
        Self {
            sent: visits.len() as u64,
            lost: visits.iter().filter(lost).count() as u64,
            lost_later: later.count() as u64,
            longest_gap_ms: milliseconds(gap),
            errors,
        }
    }
}

/// Users who come at fixed times, whether others wait or not: each asks one thing on a connection of its own.
struct Users {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Shared {
    visits: Mutex<Vec<Visit>>,
    waiting: AtomicUsize,
    closed: AtomicBool,
}

impl Users {
    /// They come with all versions of IP in turn. Every other one writes, if there is a next box to tick.
    fn start(clients: &[Client], next: Option<Arc<AtomicU32>>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let shared = Arc::<Shared>::default();
        let (clients, all) = (clients.to_vec(), Arc::clone(&shared));
        runtime.spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for client in clients.iter().cycle() {
                ticks.tick().await;
                if all.closed.load(Ordering::Relaxed) {
                    return;
                }
                let number = next
                    .as_ref()
                    .map(|next| next.fetch_add(1, Ordering::Relaxed));
                let user = |path, number| visit(client.clone(), path, number, Arc::clone(&all));
                match number {
                    None => drop(tokio::spawn(user("/", None))),
                    Some(_) => {
                        tokio::spawn(user("/counter", None));
                        tokio::spawn(user("/boxes", number));
                    }
                }
            }
        });
        Ok(Self {
            shared,
            runtime: Some(runtime),
        })
    }

    fn visits(&self) -> MutexGuard<'_, Vec<Visit>> {
        let visits = self.shared.visits.lock();
        visits.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last of those who came after `since` were all answered.
    fn are_served(&self, since: Instant) -> bool {
        let visits = self.visits();
        let mut later: Vec<&Visit> = visits.iter().filter(|visit| visit.begun > since).collect();
        later.sort_by_key(|visit| visit.begun);
        let mut last = later.iter().rev().take(SERVED);
        later.len() >= SERVED && last.all(|visit| visit.error.is_none())
    }

    /// One of these servers that had no part in any answer to those who came after `since`.
    fn without_answer_of(&self, servers: Vec<String>, since: Instant) -> Option<String> {
        let visits = self.visits();
        let later = visits.iter().filter(|visit| visit.begun > since);
        let seen: BTreeSet<&String> = later.flat_map(|visit| &visit.by).collect();
        servers.into_iter().find(|server| !seen.contains(server))
    }

    /// Nobody comes any more.
    fn close(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }

    fn are_gone(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

async fn visit(client: Client, path: &str, number: Option<u32>, all: Arc<Shared>) {
    all.waiting.fetch_add(1, Ordering::Relaxed);
    let begun = Instant::now();
    let outcome = match number {
        Some(number) => client.send(Method::PUT, &format!("{path}/{number}")).await,
        None => client.send(Method::GET, path).await,
    };
    let mut by = Vec::new();
    let error = match outcome {
        Ok(answer) if answer.status == 200 => {
            by.extend([answer.web, answer.app].into_iter().flatten());
            None
        }
        Ok(answer) => Some(format!("status {}", answer.status)),
        Err(error) => Some(error.to_string()),
    };
    let visit = Visit {
        begun,
        ended: Instant::now(),
        number,
        error,
        by,
    };
    let visits = all.visits.lock();
    visits.unwrap_or_else(PoisonError::into_inner).push(visit);
    all.waiting.fetch_sub(1, Ordering::Relaxed);
}

/// Services without which a server of its role does nothing for users.
const SERVING: [&str; 5] = ["haproxy", "nginx", "demo-app", "mariadb", "ravelin-db"];
/// All boxes that are ticked.
const BOXES: &str = "SELECT id FROM app.box";
/// What the balancer's firewall has counted.
const COUNTERS: &str = ". /etc/haproxy/drain.conf; \
    for counter in $COUNTERS; do nft list counter inet ravelin $counter; done";
/// Between two users who read, and two who write.
const EVERY: Duration = Duration::from_millis(200);
/// A database server that is silent for two seconds is taken for dead, and one that gets no turn is silent.
const STALLED: f64 = 1000.0;
const TURN: Duration = Duration::from_millis(300);
/// Undisturbed time before a failure.
const BASELINE: Duration = Duration::from_secs(1);
/// Time after all is well, in which nothing may fall over again.
const AFTERMATH: Duration = Duration::from_secs(3);
/// So many users come in the meantime.
const STEADY: Duration = Duration::from_secs(1);
/// The least time that a machine is away.
const AWAY: Duration = Duration::from_secs(5);
/// A site that does not serve again by then does so when the machine is back, or not at all.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Until a machine has booted, and all is as before; this one is busy.
const BACK: Duration = Duration::from_secs(300);
/// More than any user's.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many in a row.
const SERVED: usize = 12;

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn a_time_without_a_turn_is_measured() {
        let meter = Meter::start().expect("a shell");
        let has_turns = || std::fs::read_to_string(meter.turns.path()).is_ok_and(|t| t.len() > 30);
        while !has_turns() {
            std::thread::sleep(Duration::from_millis(20));
        }
        meter.process.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(1500));
        meter.process.signal(Signal::SIGCONT);
        let before = std::fs::metadata(meter.turns.path()).expect("a file").len();
        while std::fs::metadata(meter.turns.path()).expect("a file").len() == before {
            std::thread::sleep(Duration::from_millis(20));
        }
        let longest = meter.longest();
        assert!(longest >= Duration::from_millis(1400), "{longest:?}");
        assert!(longest < Duration::MAX);
    }

    #[test]
    fn what_was_under_way_is_told_from_what_came_later() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let visit = |begun, ended, lost: bool| Visit {
            begun: at(begun),
            ended: at(ended),
            number: None,
            error: lost.then(|| "status 502".to_owned()),
            by: Vec::new(),
        };
        // It fails between 1000 and 1050.
        let visits = [
            visit(0, 10, false),
            visit(100, 900, true),
            visit(900, 1100, false),
            visit(980, 1200, true),
            visit(1040, 1060, true),
            visit(1060, 4000, true),
            visit(1300, 3600, false),
            visit(3900, 4100, false),
        ];
        let met = Met::of(&visits, at(1000), at(1050));
        assert_eq!((met.sent, met.lost, met.lost_later), (6, 3, 1));
        assert!((met.longest_gap_ms - 2500.0).abs() < 0.1, "{met:?}");
        assert_eq!(met.errors, BTreeMap::from([("status 502".to_owned(), 3)]));
        // Nobody is answered to the end.
        let met = Met::of(&visits[3..6], at(1000), at(1050));
        assert!((met.longest_gap_ms - 3000.0).abs() < 0.1, "{met:?}");
    }
}
