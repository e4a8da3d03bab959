//! `ravelin push`: the site's configuration to the appliances that run.

use std::{
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime},
};

use ::manage::{Device, ManageError, hex};
use build::Places;
use mgmt::{Digest, Peer, Refusal, Request, State, Status};
use prove::Rack;
use serde_json::{Value, json};

use crate::{
    args,
    failure::{Failure, Message},
    manage::{Desk, failure},
    manifest::{self, Compiled, Manifest},
};

/// Checks and proves the site file, says what changes, and changes it: the Backup first, and the next one only when the one
/// before is well.
pub fn push(site: Option<&Path>, options: &args::Push) -> Result<ExitCode, Failure> {
    let desk = Desk::open(site)?;
    let names = chosen(&desk, options)?;
    if options.confirm || options.revert {
        return settle(&desk, &names, options);
    }
    prove(&desk)?;
    let mut jobs = Vec::new();
    for name in names {
        jobs.push(Job::new(&desk, name, options)?);
    }
    // Who does no work first.
    jobs.sort_by_key(|job| job.status.state == State::Active);
    for job in &jobs {
        job.show(options);
    }
    // All of them can, before one does.
    for job in &mut jobs {
        job.offer().map_err(|error| named(&job.name, error))?;
    }
    if !options.dry_run {
        for job in &mut jobs {
            job.run(&desk, options)?;
        }
    }
    if options.json {
        let all: Vec<Value> = jobs.iter().map(|job| job.json(options)).collect();
        println!("{:#}", json!({ "appliances": all }));
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen<'d>(desk: &'d Desk, options: &args::Push) -> Result<Vec<&'d str>, Failure> {
    let names: Vec<&str> = match options.appliances.is_empty() {
        true => (desk.plan.appliances.iter().map(|one| one.name.as_str())).collect(),
        false => {
            (options.appliances.iter().map(|name| desk.name(name))).collect::<Result<_, _>>()?
        }
    };
    if options.address.is_some() && names.len() != 1 {
        let message = Message::new("--address says where one appliance is: name that one");
        return Err(Failure::input(message));
    }
    Ok(names)
}

/// Confirms what runs, or takes it back.
fn settle(desk: &Desk, names: &[&str], options: &args::Push) -> Result<ExitCode, Failure> {
    for name in names {
        let (mut device, status) = desk.find(name, options.address).map_err(failure)?;
        let digest = status.configuration.digest;
        let waits = status.configuration.unconfirmed.is_some();
        let (request, text) = match (waits, options.confirm) {
            (false, _) => {
                println!("{name} has nothing to confirm");
                continue;
            }
            (true, true) => (Request::Confirm { digest }, "stays with"),
            (true, false) => (Request::Revert, "goes back from"),
        };
        device.order(&request).map_err(|error| named(name, error))?;
        println!("{name} {text} {}", short(&digest));
    }
    Ok(ExitCode::SUCCESS)
}

/// A site that lets the wrong packets through is not given to anybody.
fn prove(desk: &Desk) -> Result<(), Failure> {
    let rack =
        Rack::of(&desk.plan).map_err(|error| Failure::input(Message::new(error.to_string())))?;
    let proof = rack.prove();
    let first = proof
        .findings
        .iter()
        .find(|finding| finding.code.is_error());
    match first {
        None => Ok(()),
        Some(finding) => Err(Failure::no(
            Message::new(format!(
                "the site file's flows are not what gets through: {}",
                finding.message
            ))
            .help("`ravelin check` says all of it"),
        )),
    }
}

/// One appliance, and what becomes of it.
struct Job {
    name: String,
    device: Device,
    status: Status,
    compiled: Compiled,
    /// What the site's configuration is known by.
    digest: Digest,
    changes: Vec<String>,
    state: std::path::PathBuf,
    outcome: &'static str,
}

impl Job {
    fn new(desk: &Desk, name: &str, options: &args::Push) -> Result<Self, Failure> {
        let (device, status) = desk
            .find(name, options.address)
            .map_err(|error| named(name, error))?;
        let state = Places::new(Path::new("."), &desk.path).state;
        let running = status.configuration;
        // If only the time is another, it is the same configuration.
        let then = manifest::moment(running.made);
        let mut compiled = manifest::compile(&desk.plan, &state, name, then)?;
        let is_same = digest_of(&compiled.blob) == running.digest;
        if !is_same {
            compiled = manifest::compile(&desk.plan, &state, name, SystemTime::now())?;
        }
        let changes = match Manifest::known(&state, &running.digest) {
            _ if is_same => Vec::new(),
            Some(old) => {
                let mut changes = old.changes(&compiled.manifest);
                if changes.is_empty() {
                    changes.push("changes keys or authorities".to_owned());
                }
                changes
            }
            None => vec![format!(
                "replaces {}, which was not given to it from here, so that nobody can say what is other",
                short(&running.digest)
            )],
        };
        Ok(Self {
            name: name.to_owned(),
            device,
            status,
            digest: digest_of(&compiled.blob),
            compiled,
            changes,
            state,
            outcome: if is_same { "unchanged" } else { "would change" },
        })
    }

    fn is_new(&self) -> bool {
        self.digest != self.status.configuration.digest
    }

    fn show(&self, options: &args::Push) {
        if options.json {
            return;
        }
        if !self.is_new() {
            println!("{} runs {} already", self.name, short(&self.digest));
            return;
        }
        println!(
            "{}: {} -> {}",
            self.name,
            short(&self.status.configuration.digest),
            short(&self.digest)
        );
        for change in &self.changes {
            println!("  {change}");
        }
    }

    /// Sends it, and asks whether the appliance could run it.
    fn offer(&mut self) -> Result<(), ManageError> {
        if !self.is_new() {
            return Ok(());
        }
        if self.status.configuration.unconfirmed.is_some() {
            return Err(ManageError::Refused(Refusal::Unconfirmed));
        }
        let digest = self.device.send(&self.compiled.blob)?;
        self.device.order(&Request::Apply {
            digest,
            seconds: None,
        })
    }

    /// Lets it run, looks whether it does, and confirms that.
    fn run(&mut self, desk: &Desk, options: &args::Push) -> Result<(), Failure> {
        if !self.is_new() {
            return Ok(());
        }
        let digest = self.digest;
        let seconds = options.confirm_within;
        let order = Request::Apply {
            digest,
            seconds: Some(seconds),
        };
        // The answer comes before anything changes; it may still be lost.
        match self.device.order(&order) {
            Ok(()) | Err(ManageError::Silent(_) | ManageError::Key(_)) => {}
            Err(error) => return Err(named(&self.name, error)),
        }
        let within = Duration::from_secs(seconds.into()).mul_f32(0.8).min(MOST);
        let (mut device, status) = self.wait(desk, options, within).map_err(|problem| {
            Failure::no(
                Message::new(format!("{} does not do well with {}: {problem}", self.name, short(&digest)))
                    .help(format!(
                        "it goes back to {} by itself within {seconds} s; the appliances after it were left alone",
                        short(&self.status.configuration.digest)
                    )),
            )
        })?;
        if let Err(error) = self.compiled.manifest.remember(&self.state, &digest) {
            eprintln!("the next comparison will know less: {error}");
        }
        self.outcome = "unconfirmed";
        if !options.no_confirm {
            device
                .order(&Request::Confirm { digest })
                .map_err(|error| named(&self.name, error))?;
            self.outcome = "confirmed";
        }
        if !options.json {
            let name = &self.name;
            match options.no_confirm {
                false => println!(
                    "{name} runs {} as {:?}, confirmed",
                    short(&digest),
                    status.state
                ),
                true => println!(
                    "{name} runs {} as {:?} for {seconds} s, unless `ravelin push {name} --confirm` says that it stays",
                    short(&digest),
                    status.state
                ),
            }
        }
        Ok(())
    }

    /// Reaches it again, and looks until it runs what was sent and is as well as before.
    fn wait(
        &self,
        desk: &Desk,
        options: &args::Push,
        within: Duration,
    ) -> Result<(Device, Status), String> {
        let end = Instant::now() + within;
        let mut problem;
        loop {
            match desk.find(&self.name, options.address) {
                Ok((device, status)) => match self.trouble(&status) {
                    None => return Ok((device, status)),
                    Some(trouble) => problem = trouble,
                },
                Err(error) => problem = error.to_string(),
            }
            if Instant::now() >= end {
                return Err(problem);
            }
            thread::sleep(PAUSE);
        }
    }

    /// What is worse than before.
    fn trouble(&self, now: &Status) -> Option<String> {
        if now.configuration.digest != self.digest {
            return Some(format!("it runs {}", short(&now.configuration.digest)));
        }
        let works = |state| matches!(state, State::Active | State::Backup);
        if works(self.status.state) && !works(now.state) {
            return Some(format!("its state is {:?}", now.state));
        }
        let hears = |status: &Status| {
            let peer = status.peer.as_ref();
            peer.is_some_and(|peer| matches!(peer.peer, Peer::Alive { .. }))
        };
        if hears(&self.status) && !hears(now) {
            return Some("it does not hear its peer".to_owned());
        }
        let in_sync = |status: &Status| status.peer.as_ref().is_some_and(|peer| peer.in_sync);
        if in_sync(&self.status) && !in_sync(now) {
            return Some("the two do not know all connections of each other".to_owned());
        }
        None
    }

    fn json(&self, options: &args::Push) -> Value {
        json!({
            "name": self.name,
            "was": hex(&self.status.configuration.digest),
            "is": hex(&self.digest),
            "changes": self.changes,
            "outcome": match options.dry_run && self.is_new() {
                true => "would change",
                false => self.outcome,
            },
        })
    }
}

/// The digest of a blob.
pub fn digest_of(blob: &[u8]) -> Digest {
    ::manage::digest(blob)
}

/// As much of a digest as people compare.
pub fn short(digest: &[u8]) -> String {
    hex(digest.get(..4).unwrap_or(digest))
}

/// An error, and whose.
pub fn named(name: &str, error: ManageError) -> Failure {
    match error {
        ManageError::Refused(refusal) => Failure::no(Message::new(format!("{name}: {refusal}"))),
        ManageError::Objection(objection) => Failure::no(
            Message::new(format!("{name} cannot run this configuration: {objection}"))
                .help("nothing has changed on any appliance"),
        ),
        other => failure(other),
    }
}

/// How long an appliance may take to be well again.
const MOST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
