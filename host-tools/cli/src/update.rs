//! `ravelin update`: a pair is renewed one by one, by a command of the operator's, and no connection notices.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use ::manage::{Device, ManageError};
use build::Places;
use mgmt::{Peer, Request, State, Status};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    args,
    failure::{Failure, Message},
    manage::{Desk, failure},
    manifest,
    push::{digest_of, named, short},
};

/// Hands over, lets the command run, waits until the appliance is back as it should be, and goes on with the other one; stops at
/// the first failure. The same command again goes on there.
pub fn update(site: Option<&Path>, options: &args::Update) -> Result<ExitCode, Failure> {
    let desk = Desk::open(site)?;
    let names: Vec<&str> =
        (options.appliances.iter().map(|name| desk.name(name))).collect::<Result<_, _>>()?;
    let state = Places::new(Path::new("."), &desk.path).state;
    let mut journal = Journal::open(&state, options);
    let resumed = !journal.done.is_empty();
    if names.len() != 2 {
        let message = Message::new("an update is of a pair: name both of its appliances");
        return Err(Failure::input(message));
    }
    // Who was being renewed when it was interrupted may still stand back.
    let interrupted = resumed || journal.began.is_some();
    let mut found = fit(&desk, &names, interrupted)?;
    // Who does no work first.
    found.sort_by_key(|(_, status)| status.state == State::Active);
    for (name, _) in found {
        if journal.done.iter().any(|done| done == name) {
            say(options, &format!("{name} is renewed already"));
            continue;
        }
        journal.begin(name)?;
        renew(&desk, &state, name, options)?;
        journal.end(name)?;
    }
    journal.close()?;
    if options.json {
        println!("{:#}", json!({ "updated": names }));
    }
    Ok(ExitCode::SUCCESS)
}

/// How both are, if they can do each other's work; what happened just now has a moment to be told.
fn fit<'n>(
    desk: &Desk,
    names: &[&'n str],
    interrupted: bool,
) -> Result<Vec<(&'n str, Status)>, Failure> {
    let end = Instant::now() + MOMENT;
    loop {
        let mut found = Vec::new();
        for name in names {
            let (_, status) = desk.find(name, None).map_err(|error| named(name, error))?;
            found.push((*name, status));
        }
        let trouble = |(name, status): &(&str, Status)| {
            Some((*name, ill(status, interrupted)?))
                .map(|(name, trouble)| format!("{name} is not fit for an update: {trouble}"))
        };
        match found.iter().find_map(trouble) {
            None => return Ok(found),
            Some(_) if Instant::now() < end => thread::sleep(PAUSE),
            Some(trouble) => {
                let message = Message::new(trouble);
                return Err(Failure::no(message.help("`ravelin status` shows the pair")));
            }
        }
    }
}

/// What keeps an appliance from being one of two that can do each other's work.
fn ill(status: &Status, interrupted: bool) -> Option<String> {
    let Some(peer) = &status.peer else {
        return Some("it has no peer".to_owned());
    };
    if !matches!(status.state, State::Active | State::Backup) {
        return Some(format!("its state is {:?}", status.state));
    }
    if !matches!(peer.peer, Peer::Alive { .. }) {
        return Some("it does not hear its peer".to_owned());
    }
    if !peer.in_sync {
        return Some("the two do not know all connections of each other".to_owned());
    }
    if status.configuration.unconfirmed.is_some() {
        return Some("it runs a configuration that is not confirmed yet".to_owned());
    }
    if interrupted {
        return None;
    }
    if !status.demotions.is_empty() {
        return Some("it stands back".to_owned());
    }
    (!peer.same_configuration).then(|| "the two run different configurations".to_owned())
}

fn renew(desk: &Desk, state: &Path, name: &str, options: &args::Update) -> Result<(), Failure> {
    let (mut device, status) = desk.find(name, None).map_err(|error| named(name, error))?;
    // It stands back until it is well again, also if its peer has to tell it so after the start.
    if status.state == State::Active {
        device.hand_over().map_err(|error| named(name, error))?;
        say(options, &format!("{name} has handed over"));
    } else {
        let order = Request::Maintenance(true);
        device.order(&order).map_err(|error| named(name, error))?;
    }
    let began = Instant::now();
    let command = options.command().replace("{name}", name);
    say(options, &format!("{name}: {command}"));
    let result = Command::new("sh").args(["-c", &command]).status();
    let result = result.map_err(|error| {
        Failure::machine(Message::new(format!("the command does not start: {error}")))
    })?;
    if !result.success() {
        let message = Message::new(format!("the command for {name} failed: {result}"));
        return Err(Failure::no(message.help(AGAIN)));
    }
    let is_back = |status: &Status| expected(desk, state, name, status, began);
    let mut device = wait(desk, name, options, is_back)?;
    let order = Request::Maintenance(false);
    device.order(&order).map_err(|error| named(name, error))?;
    let is_well = |status: &Status| match ill(status, true) {
        None if !status.demotions.is_empty() => Some("it still stands back".to_owned()),
        trouble => trouble,
    };
    wait(desk, name, options, is_well)?;
    say(options, &format!("{name} is renewed and takes part again"));
    Ok(())
}

/// What an appliance lacks that should have started anew with the site's configuration and this tool's firmware.
fn expected(
    desk: &Desk,
    state: &Path,
    name: &str,
    status: &Status,
    began: Instant,
) -> Option<String> {
    if u64::from(status.uptime) > began.elapsed().as_secs() {
        return Some("it has not started anew".to_owned());
    }
    let version = status.version.map(|part| part.to_string()).join(".");
    if version != env!("CARGO_PKG_VERSION") {
        let ours = env!("CARGO_PKG_VERSION");
        return Some(format!("its firmware is {version}, not {ours}"));
    }
    let running = status.configuration;
    let then = manifest::moment(running.made);
    let Ok(compiled) = manifest::compile(&desk.plan, state, name, then) else {
        return Some("the site file does not compile any more".to_owned());
    };
    if digest_of(&compiled.blob) != running.digest {
        return Some(format!(
            "it runs {}, which is not the site file's",
            short(&running.digest)
        ));
    }
    ill(status, true)
}

/// Waits until nothing is amiss any more.
fn wait(
    desk: &Desk,
    name: &str,
    options: &args::Update,
    amiss: impl Fn(&Status) -> Option<String>,
) -> Result<Device, Failure> {
    let end = Instant::now() + Duration::from_secs(options.within.into());
    loop {
        let problem = match desk.find(name, None) {
            Ok((device, status)) => match amiss(&status) {
                None => return Ok(device),
                Some(problem) => problem,
            },
            Err(error @ ManageError::Key(_)) => return Err(failure(error)),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= end {
            let within = options.within;
            let message = Message::new(format!("{name} is not back after {within} s: {problem}"));
            return Err(Failure::no(message.help(AGAIN)));
        }
        thread::sleep(PAUSE);
    }
}

/// Which appliances are renewed, so that an update that was interrupted goes on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Journal {
    command: String,
    done: Vec<String>,
    began: Option<String>,
    #[serde(skip)]
    path: PathBuf,
}

impl Journal {
    /// The journal of this command; another command begins anew.
    fn open(state: &Path, options: &args::Update) -> Self {
        let path = state.join("update.json");
        let old = fs::read_to_string(&path).ok();
        let old = old.and_then(|text| serde_json::from_str::<Self>(&text).ok());
        let old = old.filter(|old| old.command == options.command() && !options.anew);
        Self {
            command: options.command().to_owned(),
            path,
            ..old.unwrap_or_default()
        }
    }

    fn begin(&mut self, name: &str) -> Result<(), Failure> {
        self.began = Some(name.to_owned());
        self.write()
    }

    fn end(&mut self, name: &str) -> Result<(), Failure> {
        self.began = None;
        self.done.push(name.to_owned());
        self.write()
    }

    fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec(self).unwrap_or_default(); // strings: it cannot fail
        fs::write(&self.path, text).map_err(|error| self.failed(&error))
    }

    fn close(self) -> Result<(), Failure> {
        fs::remove_file(&self.path).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::machine(Message::file("write", &self.path, error))
    }
}

fn say(options: &args::Update, text: &str) {
    match options.json {
        true => eprintln!("{text}"),
        false => println!("{text}"),
    }
}

const AGAIN: &str =
    "it stands back meanwhile and its peer does the work; the same command again goes on here";
/// How long two that are well may seem not to be.
const MOMENT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
