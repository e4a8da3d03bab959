//! The boards that an emulator has, on the cables of the emulated rack: blackout of the virtual address when the Active loses power.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use build::{Board, configuration, emulated_boards, program};
use rehearse::Appliance;
use rehearse::probe::blackout;
use rehearse::rack::Rack;
use site::{Boards, Plan};

use super::{Event, Row, Settings};
use crate::BenchError;

/// Advertisement interval in milliseconds.
const INTERVAL_MS: u32 = 100;

/// Measures every board.
///
/// # Errors
/// If something does not build or start, or a pair does not elect or take over.
pub fn measure(
    source: &Path,
    settings: &Settings,
    status: &impl Fn(&str),
) -> Result<Vec<Row>, BenchError> {
    let scratch =
        tempfile::tempdir().map_err(|cause| file(Path::new("a temporary directory"), cause))?;
    let mut rows = Vec::new();
    for board in emulated_boards(source) {
        status(&format!("building the firmware of {board}"));
        let plan = plan(source, &board)?;
        let bodies = bodies(source, &plan, &board, scratch.path())?;
        let blackouts = (1..=settings.repetitions)
            .map(|repetition| {
                status(&format!(
                    "{board}: power loss {repetition} of {}",
                    settings.repetitions
                ));
                let directory = scratch.path().join(format!("{board}-{repetition}"));
                fs::create_dir(&directory).map_err(|cause| file(&directory, cause))?;
                let blackout = power_loss(&plan, &bodies, &directory)?;
                Ok(blackout.as_secs_f64() * 1e3)
            })
            .collect::<Result<_, BenchError>>()?;
        rows.push(Row {
            event: Event::PowerLoss,
            interval_ms: INTERVAL_MS,
            who: format!("ravelin, emulated {board}"),
            address_ms: blackouts,
            service: None,
        });
    }
    Ok(rows)
}

fn plan(source: &Path, board: &str) -> Result<Plan, BenchError> {
    let ports = Board::read(source, board)?.ports;
    let text = include_str!("boards.toml")
        .replace("INTERVAL", &format!("{INTERVAL_MS}ms"))
        .replace("BOARD", board);
    site::parse("boards.toml", &text, &Boards::new([(board, ports)]))
        .map_err(|errors| BenchError::Site(errors.to_string()))
}

fn bodies(
    source: &Path,
    plan: &Plan,
    board: &str,
    scratch: &Path,
) -> Result<BTreeMap<String, Appliance>, BenchError> {
    let mut bodies = BTreeMap::new();
    for appliance in &plan.appliances {
        let config = scratch.join(format!("{board}-{}.config", appliance.name));
        let blob = configuration(plan, &appliance.name, policy::MAX_BLOB)?;
        fs::write(&config, blob).map_err(|cause| file(&config, cause))?;
        let firmware = program(source, board, board)?;
        let qemu = firmware.board.emulator()?.clone();
        let body = Appliance::Emulated {
            machine: qemu.machine,
            elf: firmware.elf,
            config,
            config_address: firmware.board.config_address,
            flash: None,
            nic_model: Some(qemu.nic),
        };
        bodies.insert(appliance.name.clone(), body);
    }
    Ok(bodies)
}

/// Starts a pair, waits until the preferred one is Active, cuts its power, and measures.
fn power_loss(
    plan: &Plan,
    bodies: &BTreeMap<String, Appliance>,
    directory: &Path,
) -> Result<Duration, BenchError> {
    let listener =
        TcpListener::bind("127.0.0.1:0").map_err(|cause| file(Path::new("127.0.0.1"), cause))?;
    let mut rack = Rack::new(plan, vec![listener], directory)?;
    for (name, body) in bodies {
        rack.start_appliance(name, body)?;
    }
    let preferred = plan
        .appliances
        .iter()
        .max_by_key(|appliance| appliance.priority);
    let preferred = preferred
        .map(|appliance| appliance.name.clone())
        .unwrap_or_default();
    let interval = Duration::from_millis(INTERVAL_MS.into());
    wait(
        &mut rack,
        &format!("{preferred} does not become active"),
        |rack| rack.active().as_deref() == Some(&preferred),
    )?;
    // The other one must have heard it, and neighbours' answers must be known.
    sleep(SETTLE + interval * 2);
    rack.uplinks()[0].probe_every(PROBE_INTERVAL);
    sleep(BASELINE);
    let fault = Instant::now();
    rack.power_off(&preferred);
    wait(&mut rack, "nobody takes over", |rack| {
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
            what: format!("pinging in {}", directory.display()),
            said: format!(
                "{} answered before the power loss, {} after it",
                answered(true),
                answered(false)
            ),
        }
    })
}

fn wait(rack: &mut Rack, what: &str, condition: impl Fn(&Rack) -> bool) -> Result<(), BenchError> {
    let begun = Instant::now();
    while !condition(rack) {
        rack.check_alive()?;
        if begun.elapsed() > PATIENCE {
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
