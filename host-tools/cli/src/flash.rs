//! `ravelin flash`: firmware and configurations into the appliances that are connected to debug probes.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use build::{ApplianceFirmware, Board, Firmware, Places, Size, pki};
use flash::{
    Credentials, Entry, FlashError, Image, Issuer, Job, Journal, Options, Outcome, Phase, Probe,
    Report,
};
use indicatif::{MultiProgress, ProgressBar};
use miette::Diagnostic as _;
use rehearse::Appliance as Body;
use serde_json::{Value, json};
use site::{Plan, plan::Appliance};

use crate::{
    appliances::Artifacts,
    args,
    failure::{Failure, Message},
    progress::{self, Progress},
    site_file::SiteFile,
    source, table,
};

/// Flashes what is connected, or what is named.
pub fn flash(site: Option<&Path>, options: &args::Flash) -> Result<ExitCode, Failure> {
    if options.list {
        return list(options.json);
    }
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = plan(&file, options.board.as_deref(), &root)?;
    let places = Places::new(&root, &file.path);
    let meant = meant(&plan, &options.appliances)?;
    has_probes(&root, &meant)?;
    let devices = match options.dry_run {
        true => Vec::new(),
        false => devices(&options.probes)?,
    };
    let progress = Progress::new();
    let made = progress
        .during("firmware", || build::firmware(&plan, &places, &meant, None))
        .map_err(crate::appliances::failure)?;
    drop(progress);
    let pairs = match options.dry_run {
        true => meant.iter().map(|a| (a.name.clone(), None)).collect(),
        false => pairs(&meant, &made, &devices, options)?,
    };
    let authority = pki::devices(&places.state, &plan).map_err(crate::pki::failure)?;
    let issuer: Arc<dyn Issuer> = Arc::new(Authority(authority));
    let jobs = pairs.into_iter().map(|(appliance, probe)| {
        let firmware = of(&made, &appliance);
        let image = Image::new(&firmware.firmware, &firmware.config).map_err(refused)?;
        Ok(Job {
            appliance,
            probe,
            image,
            issuer: Some(Arc::clone(&issuer)),
        })
    });
    let mut jobs: Vec<Job> = jobs.collect::<Result<_, Failure>>()?;
    // Nothing of a dry run, nor of a look, is history.
    let journal = match options.dry_run || options.check {
        true => None,
        false => Some(open_journal(&places)?),
    };
    if let (Some(journal), true) = (&journal, options.resume) {
        jobs.retain(|job| {
            let done = journal.has_done(&job.appliance, &job.image);
            if done {
                eprintln!(
                    "{}: done before, as {} says",
                    job.appliance,
                    journal.path().display()
                );
            }
            !done
        });
    }
    let images: BTreeMap<String, Image> = (jobs.iter())
        .map(|job| (job.appliance.clone(), job.image.clone()))
        .collect();
    let how = Options {
        check: options.check,
        erase_all: options.erase_all,
        rotate: options.rotate,
        jobs: options.jobs.unwrap_or(0).into(),
    };
    let display = Display::new(&jobs, options.json);
    let unwritten = Mutex::new(None);
    let journal = Mutex::new(journal);
    let reports = flash::run(
        jobs,
        how,
        &|appliance, phase| display.show(appliance, phase),
        &|report| {
            let image = images.get(&report.appliance);
            if let (Some(journal), Some(image)) = (&mut *progress::lock(&journal), image)
                && let Err(error) = journal.add(Entry::new(report, image))
            {
                *progress::lock(&unwritten) = Some(Message::file("write", journal.path(), &error));
            }
            display.end(report);
        },
    );
    drop(display);
    if let Some(failure) = progress::lock(&unwritten).take() {
        return Err(Failure::machine(failure));
    }
    if !options.json {
        print(&reports);
    }
    Ok(code(&reports))
}

/// The journal of this bench.
pub fn open_journal(places: &Places) -> Result<Journal, Failure> {
    let path = places.state.join("bench.jsonl");
    Journal::open(&path).map_err(|error| {
        Failure::machine(
            Message::new(format!("the journal {}: {error}", path.display()))
                .help("move it away to begin another one"),
        )
    })
}

/// The site's authority for its appliances.
struct Authority(pki::Devices);

impl Issuer for Authority {
    fn is_good(&self, appliance: &str, certificate: &[u8]) -> bool {
        self.0.is_good(appliance, certificate)
    }

    fn issue(&self, appliance: &str) -> Result<Credentials, String> {
        let made = self.0.issue(appliance).map_err(|error| error.to_string())?;
        let (certificate, key) = made;
        Ok(Credentials { certificate, key })
    }
}

/// The plan, with all appliances on another board than the file says if that is wanted.
pub fn plan(file: &SiteFile, board: Option<&str>, root: &Path) -> Result<Plan, Failure> {
    let boards = source::boards(root)?;
    match board {
        None => file.plan(&boards),
        Some(board) if boards.get(board).is_some() => file.plan_on_board(&boards, board),
        Some(board) => {
            let known: Vec<&str> = boards.names().collect();
            let message = Message::new(format!("there is no board `{board}`"));
            Err(Failure::input(
                message.help(format!("use one of {}", known.join(", "))),
            ))
        }
    }
}

/// The appliances that are named, else all whose board is one.
pub fn meant<'p>(plan: &'p Plan, named: &[String]) -> Result<Vec<&'p Appliance>, Failure> {
    let all = plan.appliances.iter();
    if named.is_empty() {
        let on_boards = all.filter(|appliance| appliance.board != source::LINUX.0);
        return Ok(on_boards.collect());
    }
    let find = |name: &String| {
        let found = plan.appliances.iter().find(|known| known.name == *name);
        found.ok_or_else(|| {
            let names: Vec<&str> = all.clone().map(|known| known.name.as_str()).collect();
            let message = Message::new(format!("the site has no appliance `{name}`"));
            Failure::input(message.help(format!("it has {}", names.join(", "))))
        })
    };
    named.iter().map(find).collect()
}

/// Refuses boards that no debug probe can flash, before anything is built for them.
fn has_probes(root: &Path, meant: &[&Appliance]) -> Result<(), Failure> {
    for appliance in meant {
        let board = Board::read(root, &appliance.board).map_err(crate::appliances::failure)?;
        if board.probe.is_none() {
            return Err(Failure::input(FlashError::NoWay { board: board.name }));
        }
    }
    Ok(())
}

/// The probes that are named, else all.
pub fn devices(named: &[String]) -> Result<Vec<Probe>, Failure> {
    if !named.is_empty() {
        let found = named.iter().map(|wanted| flash::find(wanted));
        return found.collect::<Result<_, _>>().map_err(Failure::machine);
    }
    let all = flash::probes();
    if let Some(probe) = all.iter().find(|probe| !probe.accessible) {
        return Err(Failure::machine(not_ours(probe)));
    }
    match all.is_empty() {
        false => Ok(all),
        true => Err(Failure::machine(
            Message::new("no debug probe is connected")
                .help("plug one in, name one on the network with --probe 1d50:6018:ADDRESS:PORT, or try without: --dry-run"),
        )),
    }
}

fn not_ours(probe: &Probe) -> Message {
    Message::new(format!(
        "{} ({}) is connected, and you may not use it",
        probe.name, probe.selector
    ))
    .help("install probe-rs' udev rules (https://probe.rs/docs/getting-started/probe-setup), then plug it in again")
}

/// Which appliance is at which probe.
pub fn pairs(
    meant: &[&Appliance],
    made: &[ApplianceFirmware],
    devices: &[Probe],
    options: &args::Flash,
) -> Result<Vec<(String, Option<String>)>, Failure> {
    let names: Vec<String> = meant
        .iter()
        .map(|appliance| appliance.name.clone())
        .collect();
    let selectors = devices.iter().map(|device| device.selector.clone());
    // Both named: one by one, whatever the devices say.
    if !options.appliances.is_empty() && !options.probes.is_empty() {
        if names.len() != devices.len() {
            return Err(Failure::input(
                Message::new("there are not as many --probe as --appliance")
                    .help("name one of each for every device, in the same order"),
            ));
        }
        return Ok(names.into_iter().zip(selectors.map(Some)).collect());
    }
    let Some(first) = made.first() else {
        return Err(Failure::input(
            Message::new("no appliance of the site is a board with a debug probe")
                .help("`ravelin plan` shows the boards; --board takes another one than the site file names"),
        ));
    };
    let mut known = Vec::new();
    for selector in selectors {
        let name = flash::identify(&selector, &first.firmware.board).map_err(refused)?;
        known.push((selector, name));
    }
    let pairs = flash::assign(&names, &known).map_err(Failure::input)?;
    Ok(pairs
        .into_iter()
        .map(|(appliance, probe)| (appliance, Some(probe)))
        .collect())
}

fn of<'f>(made: &'f [ApplianceFirmware], appliance: &str) -> &'f ApplianceFirmware {
    made.iter()
        .find(|made| made.appliance == appliance)
        .expect("firmware was made for each appliance that is meant")
}

/// What is wrong before any device is touched.
pub fn refused(error: FlashError) -> Failure {
    match error {
        FlashError::NoWay { .. }
        | FlashError::NoRecord { .. }
        | FlashError::Chip { .. }
        | FlashError::TooLarge { .. } => Failure::input(error),
        error => Failure::machine(error),
    }
}

fn list(as_json: bool) -> Result<ExitCode, Failure> {
    let probes = flash::probes();
    if as_json {
        println!("{:#}", json!(probes));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = probes
        .into_iter()
        .map(|probe| {
            let access = if probe.accessible {
                "yes"
            } else {
                "no: see docs/flash.md"
            };
            let port = probe.port.unwrap_or_default();
            vec![probe.name, probe.selector, port, access.to_owned()]
        })
        .collect();
    table::print(
        "Debug probes",
        &["name", "selector", "USB port", "usable"],
        &rows,
    );
    Ok(ExitCode::SUCCESS)
}

/// A bar for each device and one for all on a terminal, else lines; or one JSON object an event.
struct Display {
    bars: BTreeMap<String, ProgressBar>,
    total: Option<ProgressBar>,
    last: Mutex<BTreeMap<String, &'static str>>,
    json: bool,
}

impl Display {
    fn new(jobs: &[Job], json: bool) -> Self {
        let drawn = !json && progress::on_terminal();
        let all = MultiProgress::new();
        let bar = |job: &Job| {
            (
                job.appliance.clone(),
                all.add(progress::bytes(&job.appliance)),
            )
        };
        Self {
            bars: match drawn {
                true => jobs.iter().map(bar).collect(),
                false => BTreeMap::new(),
            },
            total: drawn.then(|| all.add(progress::devices(jobs.len()))),
            last: Mutex::default(),
            json,
        }
    }

    fn show(&self, appliance: &str, phase: Phase) {
        if self.json {
            let mut event = json!(phase);
            event["appliance"] = appliance.into();
            println!("{event}");
        }
        if let Some(bar) = self.bars.get(appliance) {
            let (done, total) = phase.progress().unwrap_or((0, 0));
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(phase.name());
        } else if !self.json {
            let mut last = progress::lock(&self.last);
            if last.insert(appliance.to_owned(), phase.name()) != Some(phase.name()) {
                eprintln!("{appliance}: {} ...", phase.name());
            }
        }
    }

    fn end(&self, report: &Report) {
        if self.json {
            println!("{}", as_json(report));
        }
        let words = words(report).0;
        match self.bars.get(&report.appliance) {
            Some(bar) => bar.abandon_with_message(words),
            None if !self.json => eprintln!("{}: {words}", report.appliance),
            None => {}
        }
        if let Some(total) = &self.total {
            total.inc(1);
        }
    }
}

fn as_json(report: &Report) -> Value {
    let mut line = match &report.result {
        Ok(done) => {
            let mut line = json!(done.outcome);
            line["chip"] = done.chip.as_deref().into();
            line["serial_number"] = done.serial_number.as_deref().into();
            line
        }
        Err(error) => json!({
            "outcome": "failed",
            "error": error.to_string(),
            "help": error.help().map(|help| help.to_string()),
        }),
    };
    line["appliance"] = report.appliance.as_str().into();
    line["probe"] = report.probe.as_str().into();
    line["seconds"] = report.took.as_secs_f64().into();
    line
}

/// What became of a device, and what mends it.
fn words(report: &Report) -> (String, String) {
    match report.result.as_ref().map(|done| done.outcome) {
        Ok(Outcome::Done { bytes: 0 }) => ("started again, alive".to_owned(), String::new()),
        Ok(Outcome::Done { bytes }) => (
            format!("wrote {} kB, verified, alive", bytes.div_ceil(1000)),
            String::new(),
        ),
        Ok(Outcome::Prepared { bytes }) => (
            format!(
                "ready: {} kB would be written to a blank device; no emulator has this board",
                bytes.div_ceil(1000)
            ),
            String::new(),
        ),
        Ok(Outcome::UpToDate) => ("already up to date".to_owned(), String::new()),
        Ok(Outcome::Differs { bytes }) => (
            format!("differs: {} kB would be written", bytes.div_ceil(1000)),
            String::new(),
        ),
        Err(error) => {
            let help = error.help().map(|help| help.to_string());
            (format!("failed: {error}"), help.unwrap_or_default())
        }
    }
}

fn print(reports: &[Report]) {
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| {
            let (words, mend) = words(report);
            let took = format!("{:.1} s", report.took.as_secs_f64());
            vec![
                report.appliance.clone(),
                report.probe.clone(),
                took,
                words,
                mend,
            ]
        })
        .collect();
    table::print(
        "Devices",
        &["appliance", "probe", "took", "result", "mend"],
        &rows,
    );
}

fn code(reports: &[Report]) -> ExitCode {
    let failed = reports.iter().any(|report| report.result.is_err());
    let differs = |report: &Report| {
        let outcome = report.result.as_ref().map(|done| done.outcome);
        matches!(outcome, Ok(Outcome::Differs { .. }))
    };
    match (failed, reports.iter().any(differs)) {
        (true, _) => ExitCode::from(3),
        (false, true) => ExitCode::from(1),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// Flashes an emulated board in place of the real one, where debug probes can: a rehearsal then starts from what was flashed.
pub fn rehearsed(places: &Places, artifacts: &mut Artifacts) -> Result<(), Failure> {
    let Some(Body::Emulated {
        elf, config, flash, ..
    }) = &mut artifacts.body
    else {
        return Ok(());
    };
    let board =
        Board::read(&places.source, &artifacts.board).map_err(crate::appliances::failure)?;
    if board.probe.is_none() {
        return Ok(());
    }
    let firmware = Firmware {
        board,
        elf: elf.clone(),
        size: Size::default(),
    };
    let job = Job {
        appliance: artifacts.name.clone(),
        probe: None,
        image: Image::new(&firmware, config).map_err(refused)?,
        // A key is for a device that exists.
        issuer: None,
    };
    let bytes = flash::emulated(&job).map_err(refused)?;
    let path = config.with_extension("flash");
    fs::write(&path, bytes)
        .map_err(|error| Failure::machine(Message::file("write", &path, &error)))?;
    *flash = Some(path);
    Ok(())
}

/// The board's firmware as it was built last, or is built now.
pub fn firmware_of(
    plan: &Plan,
    places: &Places,
    appliance: &Appliance,
) -> Result<Firmware, Failure> {
    let mut made =
        build::firmware(plan, places, &[appliance], None).map_err(crate::appliances::failure)?;
    Ok(made.remove(0).firmware)
}
