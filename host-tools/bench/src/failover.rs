//! Blackout of the virtual address when the Active loses power: the node on every board, and Debian's keepalived
//! on the same cables, with the same advertisement interval, measured by the same probes in one run.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use build::{Board, boards, configuration, program};
use rehearse::Appliance;
use rehearse::machine::CommandLine;
use rehearse::probe::blackout;
use rehearse::rack::Rack;
use serde::Serialize;
use site::{Boards, Plan};

use crate::BenchError;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Advertisement interval in centiseconds.
    pub centiseconds: u16,
    /// Power losses for each contender.
    pub repetitions: u16,
    /// Whether keepalived takes part; needs root.
    pub with_peer: bool,
    /// The `ravelin` program, which is the Linux board.
    pub program: PathBuf,
}

/// What `bench failover` shows. All times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Advertisement interval.
    pub interval_ms: u32,
    /// One for each contender.
    pub rows: Vec<Row>,
}

/// One contender.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Board, or `keepalived`.
    pub who: String,
    /// Shortest blackout.
    pub min_ms: f64,
    /// Median.
    pub median_ms: f64,
    /// Longest.
    pub max_ms: f64,
    /// All of them, in the order of the repetitions.
    pub blackouts_ms: Vec<f64>,
}

/// Who holds the virtual address.
enum Contender {
    /// The node, on a board.
    Node {
        board: String,
        bodies: BTreeMap<String, Appliance>,
    },
    /// Debian's keepalived.
    Keepalived {
        configurations: BTreeMap<String, PathBuf>,
    },
}

impl Contender {
    fn name(&self) -> &str {
        match self {
            Self::Node { board, .. } => board,
            Self::Keepalived { .. } => "keepalived",
        }
    }
}

/// Measures every board and, if asked for, keepalived.
///
/// # Errors
/// If something does not build or start, or a pair does not elect or take over.
pub fn measure(
    source: &Path,
    settings: &Settings,
    status: &impl Fn(&str),
) -> Result<Report, BenchError> {
    let scratch =
        tempfile::tempdir().map_err(|cause| file(Path::new("a temporary directory"), cause))?;
    let names: Vec<String> = ["linux".to_owned()]
        .into_iter()
        .chain(boards(source))
        .collect();
    let race = |plan: &Plan, contender: &Contender| {
        contest(plan, contender, settings, scratch.path(), status)
    };
    let mut rows = Vec::new();
    for board in &names {
        status(&format!("building the firmware of {board}"));
        let plan = plan(source, settings, board)?;
        let contender = node(source, settings, &plan, board, scratch.path())?;
        rows.push(race(&plan, &contender)?);
    }
    if settings.with_peer {
        let plan = plan(source, settings, "linux")?;
        let contender = keepalived(&plan, scratch.path())?;
        rows.push(race(&plan, &contender)?);
    }
    Ok(Report {
        interval_ms: u32::from(settings.centiseconds) * 10,
        rows,
    })
}

fn plan(source: &Path, settings: &Settings, board: &str) -> Result<Plan, BenchError> {
    let ports = boards(source)
        .into_iter()
        .map(|name| Board::read(source, &name).map(|board| (name, board.ports)))
        .collect::<Result<Vec<_>, _>>()?;
    let known = Boards::new(ports.into_iter().chain([("linux".to_owned(), 2)]));
    let text = include_str!("failover.toml")
        .replace(
            "INTERVAL",
            &format!("{}ms", u32::from(settings.centiseconds) * 10),
        )
        .replace("BOARD", board);
    site::parse("failover.toml", &text, &known)
        .map_err(|errors| BenchError::Site(errors.to_string()))
}

fn node(
    source: &Path,
    settings: &Settings,
    plan: &Plan,
    board: &str,
    scratch: &Path,
) -> Result<Contender, BenchError> {
    let mut bodies = BTreeMap::new();
    for appliance in &plan.appliances {
        let config = scratch.join(format!("{board}-{}.config", appliance.name));
        let blob = configuration(plan, &appliance.name, policy::MAX_BLOB)?;
        fs::write(&config, blob).map_err(|cause| file(&config, cause))?;
        let body = if board == "linux" {
            Appliance::Process {
                program: settings.program.clone(),
                config,
            }
        } else {
            let firmware = program(source, board, board)?;
            Appliance::Emulated {
                machine: firmware.board.qemu.machine.clone(),
                elf: firmware.elf,
                config,
                config_address: firmware.board.config_address,
                nic_model: Some(firmware.board.qemu.nic),
            }
        };
        bodies.insert(appliance.name.clone(), body);
    }
    Ok(Contender::Node {
        board: board.into(),
        bodies,
    })
}

fn keepalived(plan: &Plan, scratch: &Path) -> Result<Contender, BenchError> {
    let mut configurations = BTreeMap::new();
    for appliance in &plan.appliances {
        let path = scratch.join(format!("keepalived-{}.conf", appliance.name));
        fs::write(&path, keepalived_conf(plan, appliance.priority))
            .map_err(|cause| file(&path, cause))?;
        configurations.insert(appliance.name.clone(), path);
    }
    Ok(Contender::Keepalived { configurations })
}

/// What an operator would write for the same pair.
fn keepalived_conf(plan: &Plan, priority: u8) -> String {
    let interval = f64::from(plan.vrrp.advertisement_interval) / 100.0;
    let mut text = String::from(
        "global_defs {\n    vrrp_version 3\n}\nvrrp_sync_group both {\n    group {\n        wan\n        lan\n    }\n}\n",
    );
    for network in &plan.networks {
        let (name, vrid) = (&network.name, network.vrid);
        let address = network.virtual_address;
        text += &format!(
            "vrrp_instance {name} {{\n    state BACKUP\n    interface {name}\n    virtual_router_id {vrid}\n    \
             priority {priority}\n    advert_int {interval}\n    virtual_ipaddress {{\n        {address}/24\n    }}\n}}\n"
        );
    }
    text
}

fn contest(
    plan: &Plan,
    contender: &Contender,
    settings: &Settings,
    scratch: &Path,
    status: &impl Fn(&str),
) -> Result<Row, BenchError> {
    let who = contender.name().to_owned();
    let mut blackouts_ms = Vec::new();
    for repetition in 1..=settings.repetitions {
        status(&format!(
            "{who}: power loss {repetition} of {}",
            settings.repetitions
        ));
        let directory = scratch.join(format!("{who}-{repetition}"));
        fs::create_dir(&directory).map_err(|cause| file(&directory, cause))?;
        blackouts_ms.push(power_loss(plan, contender, settings, &directory)?.as_secs_f64() * 1e3);
    }
    let mut sorted = blackouts_ms.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    Ok(Row {
        who,
        min_ms: at(0),
        median_ms: at(sorted.len() / 2),
        max_ms: at(sorted.len().saturating_sub(1)),
        blackouts_ms,
    })
}

/// Starts a pair, waits until the preferred one is Active, cuts its power, and measures.
fn power_loss(
    plan: &Plan,
    contender: &Contender,
    settings: &Settings,
    directory: &Path,
) -> Result<Duration, BenchError> {
    let listener =
        TcpListener::bind("127.0.0.1:0").map_err(|cause| file(Path::new("127.0.0.1"), cause))?;
    let mut rack = Rack::new(plan, vec![listener], directory)?;
    for appliance in &plan.appliances {
        match contender {
            Contender::Node { bodies, .. } => {
                rack.start_appliance(&appliance.name, &bodies[&appliance.name])?
            }
            Contender::Keepalived { configurations } => {
                let line =
                    keepalived_line(&configurations[&appliance.name], directory, &appliance.name);
                rack.start_peer(&appliance.name, &line)?
            }
        };
    }
    let preferred = plan
        .appliances
        .iter()
        .max_by_key(|appliance| appliance.priority);
    let preferred = preferred
        .map(|appliance| appliance.name.clone())
        .unwrap_or_default();
    let interval = Duration::from_millis(u64::from(settings.centiseconds) * 10);
    let patience = PATIENCE + interval * 10;
    wait(
        &mut rack,
        patience,
        &format!("{preferred} does not become active"),
        |rack| rack.active().as_deref() == Some(&preferred),
    )?;
    // The other one must have heard it, and neighbours' answers must be known.
    sleep(SETTLE + interval * 2);
    rack.uplinks()[0].probe_every(PROBE_INTERVAL);
    sleep(BASELINE);
    let fault = Instant::now();
    rack.power_off(&preferred);
    wait(&mut rack, patience, "nobody takes over", |rack| {
        rack.active().is_some_and(|active| active != preferred)
    })?;
    sleep(BASELINE + interval);
    let probes = rack.uplinks()[0].stop_probes();
    blackout(&probes, fault).ok_or_else(|| {
        let answered = |before: bool| {
            let these = probes
                .iter()
                .filter(|probe| (probe.sent <= fault) == before);
            let answered = these.clone().filter(|probe| probe.answered.is_some());
            format!("{} of {}", answered.count(), these.count())
        };
        BenchError::NoResult {
            what: format!("pinging {} in {}", contender.name(), directory.display()),
            said: format!(
                "{} answered before the power loss, {} after it",
                answered(true),
                answered(false)
            ),
        }
    })
}

fn keepalived_line(configuration: &Path, directory: &Path, name: &str) -> CommandLine {
    let pid = |kind: &str| {
        directory
            .join(format!("{name}-{kind}.pid"))
            .display()
            .to_string()
    };
    let arguments = [
        "--dont-fork".into(),
        "--log-console".into(),
        "--vrrp".into(),
        "--use-file".into(),
        configuration.display().to_string(),
        "--pid".into(),
        pid("parent"),
        "--vrrp_pid".into(),
        pid("vrrp"),
    ];
    CommandLine {
        program: "keepalived".into(),
        arguments: arguments.to_vec(),
    }
}

fn wait(
    rack: &mut Rack,
    patience: Duration,
    what: &str,
    condition: impl Fn(&Rack) -> bool,
) -> Result<(), BenchError> {
    let begun = Instant::now();
    while !condition(rack) {
        rack.check_alive()?;
        if begun.elapsed() > patience {
            let consoles = rack
                .machines()
                .iter()
                .map(|machine| fs::read_to_string(&machine.console));
            let said = consoles
                .filter_map(Result::ok)
                .collect::<Vec<_>>()
                .join("\n");
            return Err(BenchError::NoResult {
                what: what.into(),
                said,
            });
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn file(path: &Path, cause: std::io::Error) -> BenchError {
    BenchError::File {
        path: path.into(),
        cause,
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(1);
const BASELINE: Duration = Duration::from_millis(500);
const PROBE_INTERVAL: Duration = Duration::from_millis(1);
